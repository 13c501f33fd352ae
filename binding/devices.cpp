#include "binding/devices.h"

#include <cstdlib>

#include "cpu/backend.h"
#if HR_WITH_CUDA
#include "cuda/backend.h"
#endif

namespace hr::binding {

namespace {

std::unique_ptr<Backend> open_cpu(const DeviceRequest& request) {
  cpu::Config config;
  config.isa = request.variant;
  config.num_threads = request.num_threads;
  config.memory_limit = request.memory_limit;
  config.poison_memory = request.poison_memory;
  config.precision = request.precision;
  return cpu::open_backend(config);
}

#if HR_WITH_CUDA
std::unique_ptr<Backend> open_cuda(const DeviceRequest& request) {
  cuda::Config config;
  config.device = std::atoi(request.variant.c_str());
  config.memory_limit = request.memory_limit;
  config.poison_memory = request.poison_memory;
  config.precision = request.precision;
  return cuda::open_backend(config);
}
#endif

}  // namespace

std::unique_ptr<Backend> open_backend(const DeviceRequest& request) {
  if (request.kind == "cpu") return open_cpu(request);
#if HR_WITH_CUDA
  if (request.kind == "cuda") return open_cuda(request);
#endif
  throw Error(ErrorKind::device, "openDevice", "kind", "this build has no device \"" + request.kind + "\"");
}

std::vector<std::string> cpu_instruction_sets() { return cpu::available_isas(); }

int num_cuda_devices() {
#if HR_WITH_CUDA
  return cuda::num_devices();
#else
  return 0;
#endif
}

}  // namespace hr::binding
