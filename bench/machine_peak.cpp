// machine_peak: what this machine can do at most. The benchmark runs it between its own measurements.
//
//   machine_peak fma <threads> <milliseconds>            FLOP/s of independent multiply-adds in registers
//   machine_peak memcpy <threads> <milliseconds> <bytes> bytes/s of a copy, read and written ones
//   machine_peak read <threads> <milliseconds> <bytes>   bytes/s of a sum
//
// A copy or a sum goes over <bytes>, so that caches help it as much as they help an op that moves as many.
//
// Prints that rate, then the same per second of CPU time of one thread, which other programs hardly touch.
//
// One program per instruction set (-DHR_ISA). Nothing links it to code for another one, so the standard
// library may be used after cpu/simd.h here.
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "cpu/simd.h"

namespace {

using hr::HR_ISA_NAMESPACE::Vec;

// Latency times multiply-add units of the processors at hand, in as many registers as leave two for operands.
constexpr int kChains = HR_IS_AVX512 || HR_IS_NEON ? 16 : 12;

// Keeps the compiler from dropping work whose result nobody reads.
void consume(const void* p) { asm volatile("" : : "r"(p) : "memory"); }

// Returns the number of floating-point operations.
double multiply_add() {
  constexpr int kRounds = 20000;
  Vec sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = Vec::broadcast(static_cast<float>(i));
  const Vec factor = Vec::broadcast(0.5f), term = Vec::broadcast(1.0f);
  for (int round = 0; round < kRounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) sums[i] = mul_add(sums[i], factor, term);
  }
  consume(sums);
  return 2.0 * Vec::kLanes * kChains * kRounds;
}

double now(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

struct Rate {
  double per_second = 0;
  double per_cpu_second = 0;
};

// How fast threads that start together get through calls of make_body()(), which return amounts of work.
template <typename MakeBody>
Rate measure(int threads, double seconds, const MakeBody& make_body) {
  std::vector<Rate> rates(threads);
  std::atomic<int> ready{0};
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([&, i] {
      auto body = make_body();
      body();
      for (++ready; ready < threads;) std::this_thread::yield();
      const double start = now(CLOCK_MONOTONIC), cpu_start = now(CLOCK_THREAD_CPUTIME_ID);
      double work = 0, elapsed;
      do {
        work += body();
        elapsed = now(CLOCK_MONOTONIC) - start;
      } while (elapsed < seconds);
      rates[i] = {work / elapsed, work / (now(CLOCK_THREAD_CPUTIME_ID) - cpu_start)};
    });
  }
  for (std::thread& worker : workers) worker.join();
  Rate total;
  for (const Rate& rate : rates) {
    total.per_second += rate.per_second;
    total.per_cpu_second += rate.per_cpu_second / threads;
  }
  return total;
}

Rate measure_copy(int threads, double seconds, size_t bytes) {
  const size_t half = std::max<size_t>(bytes / 2 / threads, 64);
  return measure(threads, seconds, [half] {
    return [from = std::vector<char>(half, 1), to = std::vector<char>(half, 0)]() mutable {
      memcpy(to.data(), from.data(), from.size());
      consume(to.data());
      return 2.0 * static_cast<double>(from.size());
    };
  });
}

Rate measure_read(int threads, double seconds, size_t bytes) {
  constexpr size_t kStep = kChains * Vec::kLanes;
  const size_t steps = std::max<size_t>(bytes / sizeof(float) / threads / kStep, 1);
  return measure(threads, seconds, [steps] {
    return [values = std::vector<float>(steps * kStep, 1.0f)]() {
      Vec sums[kChains];
      for (Vec& sum : sums) sum = Vec::broadcast(0.0f);
      const Vec one = Vec::broadcast(1.0f);
      for (const float* p = values.data(); p < values.data() + values.size(); p += kStep) {
#pragma GCC unroll 16
        for (int i = 0; i < kChains; ++i) sums[i] = mul_add(Vec::load(p + i * Vec::kLanes), one, sums[i]);
      }
      consume(sums);
      return static_cast<double>(sizeof(float) * values.size());
    };
  });
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  const bool moves = what == "memcpy" || what == "read";
  if ((what != "fma" && !moves) || argc != (moves ? 5 : 4)) {
    std::fprintf(stderr,
                 "usage: machine_peak fma <threads> <milliseconds>\n"
                 "       machine_peak memcpy|read <threads> <milliseconds> <bytes>\n");
    return 2;
  }
  const int threads = std::max(1, std::atoi(argv[2]));
  const double seconds = std::atof(argv[3]) / 1000;
  const size_t bytes = moves ? std::strtoull(argv[4], nullptr, 10) : 0;
  const Rate rate = what == "read"     ? measure_read(threads, seconds, bytes)
                    : what == "memcpy" ? measure_copy(threads, seconds, bytes)
                                       : measure(threads, seconds, [] { return multiply_add; });
  std::printf("%.6g %.6g\n", rate.per_second, rate.per_cpu_second);
}
