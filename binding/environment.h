// environment: all state of one JavaScript environment (the main thread, or one worker).
//
// There are no process statics: two workers that load the addon share nothing but code. Tensors and devices
// are named by numbers, so that a stale or forged name is an error, never a bad pointer.
#pragma once

#include <node_api.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ops/backend.h"
#include "ops/tensor.h"

namespace hr::binding {

// Bytes on a device. Released when the last tensor that refers to them is.
class Storage {
 public:
  Storage(Backend& backend, size_t bytes)
      : backend_(backend), data_(backend.allocate(bytes)), bytes_(bytes) {}
  ~Storage() { backend_.release(data_, bytes_); }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  Backend& backend() const { return backend_; }
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  Backend& backend_;
  void* data_;
  size_t bytes_;
};

// What the JavaScript thread still has to do for a promise.
class Settlement {
 public:
  virtual ~Settlement() = default;
  virtual void settle(napi_env env) = 0;
};

struct Tensor {
  std::shared_ptr<Storage> storage;
  TensorView view;
};

class Environment {
 public:
  static Environment& of(napi_env env);  // creates it on first use

  // Devices are numbered in the order they were added; `key` says how one was opened.
  int64_t find_device(const std::string& key) const;  // -1: none
  int64_t add_device(const std::string& key, std::unique_ptr<Backend> backend);
  Backend& device(int64_t number);

  // A handle packs a slot and how often the slot was used: it fits a JavaScript integer and goes stale.
  int64_t add_tensor(Tensor tensor);
  Tensor& tensor(int64_t handle, const char* op, const char* arg);
  void release_tensor(int64_t handle);
  int64_t num_tensors() const { return num_tensors_; }

  // A promise that the stream settles: expected on the JavaScript thread (the process stays alive until it
  // came), delivered from any thread, settled on the JavaScript thread again.
  void expect_settlement();
  void deliver(std::unique_ptr<Settlement> settlement);

  napi_ref error_factory = nullptr;

 private:
  explicit Environment(napi_env env);
  ~Environment() = default;
  void close();
  void account(Backend& backend);
  static void on_delivered(napi_env env, napi_value, void* environment, void* settlement);

  struct Slot {
    Tensor tensor;
    uint64_t uses = 0;
  };
  struct Device {
    std::string key;
    std::unique_ptr<Backend> backend;
    int64_t reported_bytes = 0;  // what V8 was told about
  };

  napi_env env_;
  std::vector<Device> devices_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_slots_;
  int64_t num_tensors_ = 0;
  napi_threadsafe_function deliver_ = nullptr;
  int64_t expected_settlements_ = 0;
};

}  // namespace hr::binding
