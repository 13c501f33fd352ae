#include "cuda/backend.h"

#include <cuda_runtime.h>

#include <cstdlib>
#include <future>
#include <utility>

#include "cuda/completions.h"
#include "cuda/context.h"
#include "cuda/device_memory.h"
#include "cuda/kernels/copy_bytes.h"
#include "cuda/status.h"

namespace hr::cuda {

namespace {

// A test makes results large in comparison with the GPU by saying that it is small.
int num_multiprocessors(const cudaDeviceProp& properties) {
  const char* wanted = std::getenv("HYPERROUTER_CUDA_MULTIPROCESSORS");
  const int number = wanted ? std::atoi(wanted) : 0;
  return number > 0 ? number : properties.multiProcessorCount;
}

// Owns the stream that everything of one device runs on.
class CudaStream final : public Stream {
 public:
  explicit CudaStream(const Config& config, const cudaDeviceProp& properties)
      : device_(config.device),
        stream_(create(config.device)),
        memory_(config.device, stream_,
                config.memory_limit ? config.memory_limit : properties.totalGlobalMem),
        context_(memory_, stream_, new_failure_record(), num_multiprocessors(properties), config.precision),
        completions_(config.device, stream_, context_.failure) {
    forget_failure();
  }
  ~CudaStream() override {
    cudaSetDevice(device_);
    cudaFreeAsync(context_.failure, stream_);
    cudaStreamSynchronize(stream_);
  }

  void make_current() { check(cudaSetDevice(device_)); }  // for the calling thread

  void release(void* data, size_t bytes) {  // throws nothing: finalisers come here
    cudaSetDevice(device_);
    memory_.release(data, bytes);
  }

  cudaStream_t handle() const { return stream_.value; }
  DeviceMemory& memory() { return memory_; }
  Completions& completions() { return completions_; }

  template <typename Op>
  void run(Op&& op) {
    const Context::Frame frame(context_);
    make_current();
    op(context_);
  }

  // What is queued from here on runs again, if the failure it would have been skipped for is known.
  void acknowledge_error() {
    if (completions_.last_failed_ticket() < first_ticket_) return;
    make_current();
    forget_failure();
    first_ticket_ = context_.last_ticket() + 1;
  }

 private:
  struct Handle {
    cudaStream_t value = nullptr;
    operator cudaStream_t() const { return value; }
    ~Handle() { cudaStreamDestroy(value); }
  };
  static cudaStream_t create(int device) {
    check(cudaSetDevice(device));
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
  }
  FailureRecord* new_failure_record() {
    return static_cast<FailureRecord*>(memory_.allocate(sizeof(FailureRecord)));
  }
  void forget_failure() { check(cudaMemsetAsync(context_.failure, 0xFF, sizeof(FailureRecord), stream_)); }

  const int device_;
  Handle stream_;
  DeviceMemory memory_;
  Context context_;
  uint64_t first_ticket_ = 1;  // of the work that no known failure concerns
  Completions completions_;    // last: it waits for what uses the others
};

template <auto kKernel, typename Params>
void run(Stream& base, const Params& params) {
  static_cast<CudaStream&>(base).run([&](Context& context) { (kKernels.*kKernel)(context, params); });
}

constexpr OpTable kOps = {
#define HR_RUN_ENTRY(op, Params) run<&KernelTable::op, Params>,
    HR_ALL_OPS(HR_RUN_ENTRY)
#undef HR_RUN_ENTRY
};

class Waiter final : public Completion {
 public:
  void done(std::optional<Error> error) override { result_.set_value(std::move(error)); }
  std::future<std::optional<Error>> result() { return result_.get_future(); }

 private:
  std::promise<std::optional<Error>> result_;
};

class CudaBackend final : public Backend {
 public:
  CudaBackend(const Config& config, const cudaDeviceProp& properties)
      : description_(std::string(properties.name) + ", compute capability " +
                     std::to_string(properties.major) + "." + std::to_string(properties.minor)),
        poison_(config.poison_memory),
        stream_(config, properties) {
    if (config.precision != Precision::f32) {
      description_ +=
          std::string(", ") + EnumNames<Precision>::names[static_cast<int>(config.precision)] + " products";
    }
  }

  const char* name() const override { return "cuda"; }
  std::string description() const override { return description_; }
  DType compute_dtype() const override { return DType::f32; }
  const OpTable& ops() const override { return kOps; }
  Stream& stream() override { return stream_; }

  void* allocate(size_t bytes) override {
    stream_.make_current();
    void* data = stream_.memory().allocate(bytes);
    if (poison_) check(cudaMemsetAsync(data, 0xFF, bytes, stream_.handle()));
    return data;
  }
  void release(void* data, size_t bytes) override { stream_.release(data, bytes); }

  // Even after a failed op: the tensor may outlive the failure.
  void upload(void* to, const void* from, size_t bytes) override {
    stream_.make_current();
    stream_.completions().upload(to, from, bytes);
  }
  void download(void* to, const void* from, size_t bytes, std::unique_ptr<Completion> done) override {
    stream_.make_current();
    stream_.completions().download(to, from, bytes, std::move(done));
  }
  void copy(void* to, const void* from, size_t bytes) override {
    stream_.run([&](Context& context) { copy_bytes(context, to, from, static_cast<int64_t>(bytes)); });
  }
  void notify(std::unique_ptr<Completion> done) override { download(nullptr, nullptr, 0, std::move(done)); }
  void timestamp(double* seconds, std::unique_ptr<Completion> done) override {
    stream_.make_current();
    stream_.completions().timestamp(seconds, std::move(done));
  }
  void synchronize() override {
    auto waiter = std::make_unique<Waiter>();
    std::future<std::optional<Error>> result = waiter->result();
    notify(std::move(waiter));
    const std::optional<Error> error = result.get();
    if (!error) return;
    acknowledge_error();
    throw *error;
  }
  void acknowledge_error() override { stream_.acknowledge_error(); }

  int num_threads() const override { return 1; }  // of the host
  void set_num_threads(int) override {}
  MemoryStats memory_stats() const override { return stream_.memory().stats(); }
  void reset_peak() override { stream_.memory().reset_peak(); }

 private:
  std::string description_;
  const bool poison_;
  mutable CudaStream stream_;
};

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

Error no_device(const std::string& detail) { return Error(ErrorKind::device, "openDevice", "name", detail); }

void check_driver() {
  int driver = 0, runtime = 0, count = 0;
  cudaRuntimeGetVersion(&runtime);
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    throw no_device(
        "no NVIDIA driver here: libcuda.so.1 was not found. Install the driver, or use device \"cpu\"");
  }
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorInsufficientDriver) {
    throw no_device("CUDA driver too old: it supports CUDA " + version_text(driver) + ", this build needs " +
                    version_text(runtime) +
                    ". Update the NVIDIA driver to r580 or later, or use device \"cpu\"");
  }
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) {
    throw no_device(
        "the NVIDIA driver shows no GPU. Check CUDA_VISIBLE_DEVICES and nvidia-smi, or use device \"cpu\"");
  }
  if (status != cudaSuccess)
    throw no_device(std::string("CUDA does not start: ") + cudaGetErrorString(status));
}

constexpr int kLowestCapability = 8;

}  // namespace

int num_devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();
  return 0;
}

std::unique_ptr<Backend> open_backend(const Config& config) {
  check_driver();
  if (config.device < 0 || config.device >= num_devices()) {
    throw no_device("there is no GPU " + std::to_string(config.device) + ", only 0 to " +
                    std::to_string(num_devices() - 1));
  }
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, config.device));
  if (properties.major < kLowestCapability) {
    throw no_device(std::string(properties.name) + " has compute capability " +
                    std::to_string(properties.major) + "." + std::to_string(properties.minor) +
                    ", but 8.0 or later is needed. Use device \"cpu\"");
  }
  const cudaError_t status = cudaSetDevice(config.device);  // makes its context
  if (status != cudaSuccess) {
    throw no_device("GPU " + std::to_string(config.device) +
                    " cannot be used: " + cudaGetErrorString(status) +
                    ". nvidia-smi shows whether another process holds it or its memory");
  }
  return std::make_unique<CudaBackend>(config, properties);
}

}  // namespace hr::cuda
