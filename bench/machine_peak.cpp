// machine_peak: what this machine can do at most. The benchmark runs it between its own measurements.
//
//   machine_peak fma <threads> <milliseconds>            FLOP/s of independent multiply-adds in registers
//   machine_peak memcpy <threads> <milliseconds> <bytes> bytes/s of a copy, read and written ones; one copy
//   moves
//                                                        <bytes>, so that caches help it as much as they help
//                                                        an op that moves as many
//
// One program per instruction set (-DHR_ISA). Nothing links it to code for another one, so the standard
// library may be used after cpu/simd.h here.
#include <algorithm>
#include <atomic>
#include <chrono>
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

// The rate at which threads that start together get through calls of make_body()(), which return amounts of
// work.
template <typename MakeBody>
double rate(int threads, double seconds, const MakeBody& make_body) {
  std::vector<double> rates(threads, 0.0);
  std::atomic<int> ready{0};
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([&, i] {
      auto body = make_body();
      body();
      for (++ready; ready < threads;) std::this_thread::yield();
      const auto start = std::chrono::steady_clock::now();
      double work = 0, elapsed;
      do {
        work += body();
        elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      } while (elapsed < seconds);
      rates[i] = work / elapsed;
    });
  }
  for (std::thread& worker : workers) worker.join();
  double sum = 0;
  for (double each : rates) sum += each;
  return sum;
}

double copy_rate(int threads, double seconds, size_t bytes) {
  const size_t half = std::max<size_t>(bytes / 2 / threads, 64);
  return rate(threads, seconds, [half] {
    return [from = std::vector<char>(half, 1), to = std::vector<char>(half, 0)]() mutable {
      memcpy(to.data(), from.data(), from.size());
      consume(to.data());
      return 2.0 * static_cast<double>(from.size());
    };
  });
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  const bool copies = what == "memcpy";
  if ((what != "fma" && !copies) || argc != (copies ? 5 : 4)) {
    std::fprintf(stderr,
                 "usage: machine_peak fma <threads> <milliseconds>\n"
                 "       machine_peak memcpy <threads> <milliseconds> <bytes>\n");
    return 2;
  }
  const int threads = std::max(1, std::atoi(argv[2]));
  const double seconds = std::atof(argv[3]) / 1000;
  const double result = copies ? copy_rate(threads, seconds, std::strtoull(argv[4], nullptr, 10))
                               : rate(threads, seconds, [] { return multiply_add; });
  std::printf("%.6g\n", result);
}
