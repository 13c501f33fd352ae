#include "cpu/backend.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>
#include <utility>

#include "cpu/memory_pool.h"
#include "cpu/stream.h"

namespace hr {

// One table per instruction set, defined by cpu/kernels/table.cpp.
#define HR_DECLARE_TABLE(isa)             \
  namespace isa {                         \
  extern const cpu::KernelTable kKernels; \
  }
HR_DECLARE_TABLE(reference)
HR_DECLARE_TABLE(cpu_plain)
#if defined(__x86_64__)
HR_DECLARE_TABLE(cpu_avx2)
HR_DECLARE_TABLE(cpu_avx512)
#elif defined(__aarch64__)
HR_DECLARE_TABLE(cpu_neon)
#endif
#undef HR_DECLARE_TABLE

namespace cpu {

namespace {

constexpr const char* kReference = "reference";

struct Isa {
  const char* name;
  const KernelTable* kernels;
};

std::vector<Isa> isas() {
  std::vector<Isa> found;
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  if (avx512) found.push_back({"avx512", &cpu_avx512::kKernels});
  if (avx2) found.push_back({"avx2", &cpu_avx2::kKernels});
#elif defined(__aarch64__)
  found.push_back({"neon", &cpu_neon::kKernels});
#endif
  found.push_back({"plain", &cpu_plain::kKernels});
  found.push_back({kReference, &reference::kKernels});
  return found;
}

Isa pick_isa(const std::string& wanted) {
  const std::vector<Isa> all = isas();
  if (wanted.empty()) return all.front();
  std::string names;
  for (const Isa& isa : all) {
    if (wanted == isa.name) return isa;
    names += std::string(names.empty() ? "" : ", ") + isa.name;
  }
  throw Error(ErrorKind::device, "cpu", "isa",
              "no instruction set \"" + wanted + "\" here. Available: " + names);
}

size_t physical_memory() {
  return static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGE_SIZE));
}

// "1.5 GiB"
std::string size_text(size_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text;
}

template <auto kKernel, typename Params>
void enqueue(Stream& base, const Params& params) {
  CpuStream& stream = static_cast<CpuStream&>(base);
  stream.push([kernel = stream.kernels().*kKernel, params](Context& context) { kernel(context, params); });
}

constexpr OpTable kOps = {
#define HR_QUEUE_ENTRY(op, Params) enqueue<&KernelTable::op, Params>,
    HR_ALL_OPS(HR_QUEUE_ENTRY)
#undef HR_QUEUE_ENTRY
};

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const Config& config)
      : isa_(pick_isa(config.isa)),
        poison_(config.poison_memory),
        pool_(config.memory_limit ? config.memory_limit : physical_memory()),
        stream_(*isa_.kernels, config.precision, thread_count(config.num_threads)) {}

  const char* name() const override { return is_reference() ? kReference : "cpu"; }
  std::string description() const override {
    return std::string(isa_.name) + ", " + std::to_string(stream_.num_threads()) +
           (stream_.num_threads() == 1 ? " thread" : " threads") +
           (stream_.precision() == Precision::bf16 ? ", bf16 products" : "");
  }
  DType compute_dtype() const override { return is_reference() ? DType::f64 : DType::f32; }
  const OpTable& ops() const override { return kOps; }
  Stream& stream() override { return stream_; }

  void* allocate(size_t bytes) override {
    void* data = pool_.allocate(bytes);
    if (!data) {
      stream_.wait_idle();
      pool_.trim();
      data = pool_.allocate(bytes);
    }
    if (!data) {
      throw Error(ErrorKind::out_of_memory, "allocate", "",
                  "a tensor needs " + size_text(bytes) + ", but " +
                      size_text(pool_.limit_bytes() - pool_.stats().live_bytes) + " of " +
                      size_text(pool_.limit_bytes()) + " are free");
    }
    if (poison_) stream_.push([data, bytes](Context&) { std::memset(data, 0xFF, bytes); });
    return data;
  }
  void release(void* data, size_t bytes) override { pool_.release(data, bytes); }

  void upload(void* to, const void* from, size_t bytes) override {
    std::unique_ptr<std::byte[]> staging(new std::byte[bytes]);
    std::memcpy(staging.get(), from, bytes);
    // Even after a failed op: the tensor may outlive the failure.
    stream_.push_always(
        [to, bytes, staging = std::move(staging)](const Error*) { std::memcpy(to, staging.get(), bytes); });
  }
  void download(void* to, const void* from, size_t bytes, std::unique_ptr<Completion> done) override {
    stream_.push_always([to, from, bytes, done = std::move(done)](const Error* failure) {
      if (!failure) std::memcpy(to, from, bytes);
      done->done(failure ? std::optional(*failure) : std::nullopt);
    });
  }
  void copy(void* to, const void* from, size_t bytes) override {
    stream_.push([to, from, bytes](Context&) { std::memcpy(to, from, bytes); });
  }
  void notify(std::unique_ptr<Completion> done) override {
    stream_.push_always([done = std::move(done)](const Error* failure) {
      done->done(failure ? std::optional(*failure) : std::nullopt);
    });
  }
  void timestamp(double* seconds, std::unique_ptr<Completion> done) override {
    stream_.push_always([seconds, done = std::move(done)](const Error* failure) {
      *seconds = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
      done->done(failure ? std::optional(*failure) : std::nullopt);
    });
  }
  void synchronize() override {
    stream_.wait_idle();
    const std::optional<Error> error = stream_.error();
    stream_.acknowledge_error();
    if (error) throw *error;
  }
  void acknowledge_error() override { stream_.acknowledge_error(); }

  int num_threads() const override { return stream_.num_threads(); }
  void set_num_threads(int count) override { stream_.set_num_threads(thread_count(count)); }
  MemoryStats memory_stats() const override { return pool_.stats(); }
  void reset_peak() override { pool_.reset_peak(); }

 private:
  static constexpr int kMostThreads = 256;
  bool is_reference() const { return isa_.name == kReference; }
  int thread_count(int wanted) const {
    if (is_reference()) return 1;
    if (wanted <= 0) wanted = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    return std::min(wanted, kMostThreads);
  }

  const Isa isa_;
  const bool poison_;
  MemoryPool pool_;
  CpuStream stream_;  // after the pool: queued ops end before their memory goes
};

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : isas()) names.push_back(isa.name);
  return names;
}

std::unique_ptr<Backend> open_backend(const Config& config) {
  if (config.precision == Precision::tf32 && config.isa != kReference) {
    throw Error(ErrorKind::device, "openDevice", "dtype",
                "processors have no tf32 products. Use dtype \"f32\" or \"bf16\", or device \"cuda\"");
  }
  return std::make_unique<CpuBackend>(config);
}

}  // namespace cpu
}  // namespace hr
