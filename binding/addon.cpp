// addon: the functions that JavaScript sees. Types in lib/native.ts.
#include <napi.h>

#include <algorithm>
#include <string>
#include <utility>

#include "binding/bind_op.h"
#include "binding/describe_ops.h"
#include "binding/devices.h"
#include "binding/environment.h"
#include "binding/errors.h"
#include "binding/promise.h"
#include "binding/read_value.h"

namespace hr::binding {

namespace {

// The arguments of one call: exactly as many as the function takes.
template <size_t kCount>
class Args {
 public:
  Args(napi_env env, napi_callback_info info, const char* function)
      : env_(env), function_(function), values_(read_args<kCount>(env, info, function)) {}
  napi_value operator[](size_t i) const { return values_[i]; }
  ArgName name(const char* arg) const { return {function_, arg}; }
  int64_t integer(size_t i, const char* arg) const { return read_integer(env_, values_[i], name(arg)); }
  int64_t count(size_t i, const char* arg) const {
    const int64_t number = integer(i, arg);
    if (number < 0) wrong_type(name(arg), "0 (the default) or positive");
    return number;
  }
  Tensor& tensor(size_t i, const char* arg) const {
    if (type_of(env_, values_[i]) != napi_number) wrong_type(name(arg), "a tensor");
    return Environment::of(env_).tensor(integer(i, arg), function_, arg);
  }
  Backend& device(size_t i) const { return Environment::of(env_).device(integer(i, "device")); }

 private:
  napi_env env_;
  const char* function_;
  std::array<napi_value, kCount + 1> values_;
};

napi_value tensor_handle(napi_env env, Tensor tensor) {
  return Napi::Number::New(env, static_cast<double>(Environment::of(env).add_tensor(std::move(tensor))));
}

// A fresh ArrayBuffer and its bytes.
std::pair<napi_value, void*> new_buffer(napi_env env, size_t bytes) {
  void* data = nullptr;
  napi_value buffer;
  if (napi_create_arraybuffer(env, bytes, &data, &buffer) != napi_ok) {
    throw Error(ErrorKind::out_of_memory, "download", "",
                "no JavaScript memory for " + std::to_string(bytes) + " bytes");
  }
  return {buffer, data};
}

// openDevice(kind: string, variant: string, threads: number, memoryLimitBytes: number, poison: boolean,
//            precision: string): number
napi_value open_device(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Args<6> args(env, info, "openDevice");
    DeviceRequest request;
    request.kind = read_string(env, args[0], args.name("kind"));
    request.variant = read_string(env, args[1], args.name("variant"));
    request.num_threads = static_cast<int>(std::min<int64_t>(args.count(2, "threads"), 1 << 16));
    request.memory_limit = static_cast<size_t>(args.count(3, "memoryLimitBytes"));
    request.poison_memory = read_boolean(env, args[4], args.name("poison"));
    request.precision = read_enum<Precision>(env, args[5], args.name("precision"));
    const std::string key = request.kind + ":" + request.variant + ":" + std::to_string(request.num_threads) +
                            ":" + std::to_string(request.memory_limit) + ":" +
                            std::to_string(request.poison_memory) + ":" +
                            std::to_string(static_cast<int>(request.precision));
    Environment& environment = Environment::of(env);
    int64_t number = environment.find_device(key);
    if (number < 0) number = environment.add_device(key, open_backend(request));
    return Napi::Number::New(env, static_cast<double>(number));
  });
}

// cpuIsas(): string[], best first
napi_value cpu_isas(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value {
    Napi::Array names = Napi::Array::New(env);
    for (const std::string& isa : cpu_instruction_sets()) names.Set(names.Length(), isa);
    return names;
  });
}

// cudaDevices(): number of GPUs that can be opened
napi_value cuda_devices(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value { return Napi::Number::New(env, num_cuda_devices()); });
}

// deviceInfo(device): { name, description, computeDType, threads }
napi_value device_info(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Args<1> args(env, info, "deviceInfo");
    const Backend& device = args.device(0);
    Napi::Object result = Napi::Object::New(env);
    result.Set("name", device.name());
    result.Set("description", device.description());
    result.Set("computeDType", name(device.compute_dtype()));
    result.Set("threads", device.num_threads());
    return result;
  });
}

// setThreads(device, count)
napi_value set_threads(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Args<2> args(env, info, "setThreads");
    args.device(0).set_num_threads(static_cast<int>(std::min<int64_t>(args.count(1, "threads"), 1 << 16)));
    return Napi::Env(env).Undefined();
  });
}

// memoryStats(device): { liveBytes, peakBytes, pooledBytes, tensors }; tensors counts all devices
napi_value memory_stats(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Args<1> args(env, info, "memoryStats");
    const Backend::MemoryStats stats = args.device(0).memory_stats();
    Napi::Object result = Napi::Object::New(env);
    result.Set("liveBytes", static_cast<double>(stats.live_bytes));
    result.Set("peakBytes", static_cast<double>(stats.peak_bytes));
    result.Set("pooledBytes", static_cast<double>(stats.pooled_bytes));
    result.Set("tensors", static_cast<double>(Environment::of(env).num_tensors()));
    return result;
  });
}

// resetPeak(device)
napi_value reset_peak(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Args<1> args(env, info, "resetPeak");
    args.device(0).reset_peak();
    return Napi::Env(env).Undefined();
  });
}

// createTensor(device, dtype, shape): handle, uninitialised
napi_value create_tensor(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Args<3> args(env, info, "createTensor");
    Backend& device = args.device(0);
    Tensor tensor;
    tensor.view.dtype = read_dtype(env, args[1], args.name("dtype"));
    read_shape(env, args[2], args.name("shape"), tensor.view);
    tensor.storage = std::make_shared<Storage>(device, tensor.view.bytes());
    tensor.view.data = tensor.storage->data();
    return tensor_handle(env, std::move(tensor));
  });
}

// viewTensor(tensor, offset, shape): handle of `shape` elements from element `offset`, sharing the storage
napi_value view_tensor(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Args<3> args(env, info, "viewTensor");
    const int64_t offset = args.integer(1, "offset");
    // Reading an array can run JavaScript, which may release tensors: look the base up afterwards.
    TensorView shape;
    read_shape(env, args[2], args.name("shape"), shape);
    const Tensor& base = args.tensor(0, "tensor");
    Tensor view{base.storage, shape};
    view.view.dtype = base.view.dtype;
    if (offset < 0 || offset > base.view.size() || view.view.size() > base.view.size() - offset) {
      throw Error(ErrorKind::shape, "viewTensor", "shape",
                  "a view of shape " + shape_text(view.view) + " from element " + std::to_string(offset) +
                      " does not fit in a tensor of shape " + shape_text(base.view));
    }
    view.view.data =
        static_cast<char*>(base.view.data) + static_cast<size_t>(offset) * size_of(view.view.dtype);
    return tensor_handle(env, std::move(view));
  });
}

// releaseTensor(tensor)
napi_value release_tensor(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Args<1> args(env, info, "releaseTensor");
    Environment::of(env).release_tensor(args.integer(0, "tensor"));
    return Napi::Env(env).Undefined();
  });
}

// The typed array that holds a dtype; half precision travels as its bits.
napi_typedarray_type array_type(DType dtype) {
  constexpr napi_typedarray_type kTypes[] = {napi_float32_array, napi_float64_array, napi_uint16_array,
                                             napi_uint16_array, napi_int32_array};
  return kTypes[static_cast<int>(dtype)];
}

// upload(tensor, values: typed array of the tensor's dtype and size); the array may be reused on return
napi_value upload(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Args<2> args(env, info, "upload");
    const Tensor& tensor = args.tensor(0, "tensor");
    bool is_typed_array = false;
    ok(napi_is_typedarray(env, args[1], &is_typed_array));
    if (!is_typed_array) wrong_type(args.name("values"), "a typed array");
    napi_typedarray_type type = napi_biguint64_array;
    size_t length = 0;
    void* data = nullptr;
    napi_value buffer;
    size_t offset = 0;
    ok(napi_get_typedarray_info(env, args[1], &type, &length, &data, &buffer, &offset));
    if (type != array_type(tensor.view.dtype)) {
      throw Error(ErrorKind::dtype, "upload", "values",
                  "\"values\" is not the typed array of dtype " + std::string(name(tensor.view.dtype)));
    }
    if (static_cast<int64_t>(length) != tensor.view.size()) {
      throw Error(ErrorKind::shape, "upload", "values",
                  "\"values\" has " + std::to_string(length) + " elements, but the tensor has shape " +
                      shape_text(tensor.view));
    }
    tensor.storage->backend().upload(tensor.view.data, data, tensor.view.bytes());
    return Napi::Env(env).Undefined();
  });
}

// copyTensor(from, to): same dtype and element count, same device
napi_value copy_tensor(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Args<2> args(env, info, "copyTensor");
    const Tensor& from = args.tensor(0, "from");
    const Tensor& to = args.tensor(1, "to");
    Backend& device = to.storage->backend();
    if (&from.storage->backend() != &device) {
      throw Error(ErrorKind::device, "copyTensor", "from", "\"from\" and \"to\" are on different devices");
    }
    if (from.view.dtype != to.view.dtype || from.view.size() != to.view.size()) {
      throw Error(ErrorKind::shape, "copyTensor", "from",
                  "\"from\" is " + std::string(name(from.view.dtype)) + " " + shape_text(from.view) +
                      ", \"to\" is " + name(to.view.dtype) + " " + shape_text(to.view));
    }
    if (overlap(from.view, to.view)) {
      throw Error(ErrorKind::value, "copyTensor", "to", "\"from\" and \"to\" share memory");
    }
    device.copy(to.view.data, from.view.data, to.view.bytes());
    return Napi::Env(env).Undefined();
  });
}

// download(tensor): Promise<ArrayBuffer> of the value after all ops queued so far
napi_value download(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Args<1> args(env, info, "download");
    const Tensor& tensor = args.tensor(0, "tensor");
    const auto [buffer, data] = new_buffer(env, tensor.view.bytes());
    napi_value promise;
    Backend& device = tensor.storage->backend();
    device.download(data, tensor.view.data, tensor.view.bytes(), make_promise(env, device, buffer, &promise));
    return promise;
  });
}

// downloadSync(tensor): ArrayBuffer; waits for the device
napi_value download_sync(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    struct Nobody final : Completion {
      void done(std::optional<Error>) override {}  // synchronize() throws it
    };
    const Args<1> args(env, info, "downloadSync");
    const Tensor& tensor = args.tensor(0, "tensor");
    const auto [buffer, data] = new_buffer(env, tensor.view.bytes());
    Backend& device = tensor.storage->backend();
    device.download(data, tensor.view.data, tensor.view.bytes(), std::make_unique<Nobody>());
    device.synchronize();
    return buffer;
  });
}

// settled(device): Promise that settles when all ops queued so far have run; rejects with their first error
napi_value settled(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Args<1> args(env, info, "settled");
    Backend& device = args.device(0);
    napi_value promise;
    device.notify(make_promise(env, device, Napi::Object::New(env), &promise));
    return promise;
  });
}

// timestamp(device): Promise<ArrayBuffer> of one float64, the device's clock in seconds after all ops queued
// so far
napi_value timestamp(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Args<1> args(env, info, "timestamp");
    Backend& device = args.device(0);
    const auto [buffer, data] = new_buffer(env, sizeof(double));
    napi_value promise;
    device.timestamp(static_cast<double*>(data), make_promise(env, device, buffer, &promise));
    return promise;
  });
}

// synchronize(device): waits; throws the first error of an op that failed
napi_value synchronize(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Args<1> args(env, info, "synchronize");
    args.device(0).synchronize();
    return Napi::Env(env).Undefined();
  });
}

napi_value describe(napi_env env, napi_callback_info) {
  return guarded(env, [&]() -> napi_value { return describe_ops(env); });
}

// setErrorFactory((kind, op, arg, detail) => Error)
napi_value register_error_factory(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const Args<1> args(env, info, "setErrorFactory");
    set_error_factory(env, args[0]);
    return Napi::Env(env).Undefined();
  });
}

void export_function(napi_env env, Napi::Object exports, const char* name, napi_callback callback) {
  napi_value function;
  ok(napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function));
  exports.Set(name, function);
}

#define HR_BIND_OP(op, Params)                                   \
  napi_value bound_##op(napi_env env, napi_callback_info info) { \
    return call_op<Params>(env, info, #op, &OpTable::op);        \
  }
HR_ALL_OPS(HR_BIND_OP)
#undef HR_BIND_OP

std::string camel_case(const char* snake) {
  std::string text;
  for (bool upper = false; *snake; ++snake) {
    if (*snake == '_') {
      upper = true;
      continue;
    }
    text += upper ? static_cast<char>(*snake - 'a' + 'A') : *snake;
    upper = false;
  }
  return text;
}

napi_value init(napi_env env, napi_value module_exports) {
  return guarded(env, [&]() -> napi_value {
    Environment::of(env);
    Napi::Object exports(env, module_exports);
    export_function(env, exports, "openDevice", open_device);
    export_function(env, exports, "cpuIsas", cpu_isas);
    export_function(env, exports, "cudaDevices", cuda_devices);
    export_function(env, exports, "deviceInfo", device_info);
    export_function(env, exports, "setThreads", set_threads);
    export_function(env, exports, "memoryStats", memory_stats);
    export_function(env, exports, "resetPeak", reset_peak);
    export_function(env, exports, "createTensor", create_tensor);
    export_function(env, exports, "viewTensor", view_tensor);
    export_function(env, exports, "releaseTensor", release_tensor);
    export_function(env, exports, "upload", upload);
    export_function(env, exports, "copyTensor", copy_tensor);
    export_function(env, exports, "download", download);
    export_function(env, exports, "downloadSync", download_sync);
    export_function(env, exports, "settled", settled);
    export_function(env, exports, "timestamp", timestamp);
    export_function(env, exports, "synchronize", synchronize);
    export_function(env, exports, "describeOps", describe);
    export_function(env, exports, "setErrorFactory", register_error_factory);
    Napi::Object ops = Napi::Object::New(env);
#define HR_EXPORT_OP(op, Params) export_function(env, ops, camel_case(#op).c_str(), bound_##op);
    HR_ALL_OPS(HR_EXPORT_OP)
#undef HR_EXPORT_OP
    exports.Set("ops", ops);
    return exports;
  });
}

}  // namespace

}  // namespace hr::binding

NAPI_MODULE_INIT() { return hr::binding::init(env, exports); }
