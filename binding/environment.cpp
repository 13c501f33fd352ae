#include "binding/environment.h"

#include <cstdlib>
#include <utility>

#include "binding/errors.h"

namespace hr::binding {

namespace {

constexpr int kSlotBits = 24;
constexpr uint64_t kUsesMask = (uint64_t{1} << (53 - kSlotBits)) - 1;

int64_t handle_of(uint64_t slot, uint64_t uses) {
  return static_cast<int64_t>((uses & kUsesMask) << kSlotBits | slot);
}

// V8 hears of the memory that devices hold, in steps: each report can start a collection, which would find
// nothing to free while a training loop takes and returns the same blocks.
constexpr int64_t kReportStep = int64_t{16} << 20;

}  // namespace

Environment& Environment::of(napi_env env) {
  void* data = nullptr;
  ok(napi_get_instance_data(env, &data));
  if (!data) {
    auto* created = new Environment(env);
    data = created;
    ok(napi_set_instance_data(
        env, created,
        [](napi_env, void* environment, void*) { delete static_cast<Environment*>(environment); }, nullptr));
    ok(napi_add_env_cleanup_hook(
        env, [](void* environment) { static_cast<Environment*>(environment)->close(); }, created));
  }
  return *static_cast<Environment*>(data);
}

Environment::Environment(napi_env env) : env_(env) {
  napi_value name;
  ok(napi_create_string_utf8(env, "hyperrouter", NAPI_AUTO_LENGTH, &name));
  ok(napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this, on_delivered,
                                     &deliver_));
  ok(napi_unref_threadsafe_function(env, deliver_));
}

// Tensors go before the devices that hold their memory. A device's destructor joins its stream, so nothing
// is delivered afterwards. Node runs this hook before it tears down the threadsafe function, which is older.
void Environment::close() {
  slots_.clear();
  devices_.clear();
}

int64_t Environment::find_device(const std::string& key) const {
  for (size_t number = 0; number < devices_.size(); ++number) {
    if (devices_[number].key == key) return static_cast<int64_t>(number);
  }
  return -1;
}

int64_t Environment::add_device(const std::string& key, std::unique_ptr<Backend> backend) {
  devices_.push_back({key, std::move(backend), 0});
  return static_cast<int64_t>(devices_.size() - 1);
}

Backend& Environment::device(int64_t number) {
  if (number < 0 || number >= static_cast<int64_t>(devices_.size())) {
    throw Error(ErrorKind::device, "device", "device", "there is no open device " + std::to_string(number));
  }
  return *devices_[static_cast<size_t>(number)].backend;
}

int64_t Environment::add_tensor(Tensor tensor) {
  uint32_t index;
  if (free_slots_.empty()) {
    if (slots_.size() >> kSlotBits) {
      throw Error(ErrorKind::out_of_memory, "tensor", "", "more than 16 million tensors are alive");
    }
    index = static_cast<uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    index = free_slots_.back();
    free_slots_.pop_back();
  }
  Slot& slot = slots_[index];
  slot.tensor = std::move(tensor);
  ++slot.uses;
  ++num_tensors_;
  account(slot.tensor.storage->backend());
  return handle_of(index, slot.uses);
}

Tensor& Environment::tensor(int64_t handle, const char* op, const char* arg) {
  const uint64_t index = static_cast<uint64_t>(handle) & ((uint64_t{1} << kSlotBits) - 1);
  if (handle >= 0 && index < slots_.size()) {
    Slot& slot = slots_[index];
    if (slot.tensor.storage && handle_of(index, slot.uses) == handle) return slot.tensor;
  }
  throw Error(ErrorKind::disposed, op, arg, "\"" + std::string(arg) + "\" is not a live tensor");
}

void Environment::release_tensor(int64_t handle) {
  Tensor& tensor = this->tensor(handle, "release", "tensor");
  Backend& backend = tensor.storage->backend();
  tensor = {};
  free_slots_.push_back(static_cast<uint32_t>(handle & ((int64_t{1} << kSlotBits) - 1)));
  --num_tensors_;
  account(backend);
}

void Environment::account(Backend& backend) {
  for (Device& device : devices_) {
    if (device.backend.get() != &backend) continue;
    const Backend::MemoryStats held = backend.memory_stats();
    const int64_t change = static_cast<int64_t>(held.live_bytes + held.pooled_bytes) - device.reported_bytes;
    if (std::abs(change) < kReportStep) return;
    int64_t total;
    napi_adjust_external_memory(env_, change, &total);
    device.reported_bytes += change;
  }
}

void Environment::expect_settlement() {
  if (expected_settlements_ == 0) ok(napi_ref_threadsafe_function(env_, deliver_));
  ++expected_settlements_;
}

void Environment::deliver(std::unique_ptr<Settlement> settlement) {
  if (napi_call_threadsafe_function(deliver_, settlement.get(), napi_tsfn_nonblocking) == napi_ok) {
    settlement.release();  // on_delivered owns it now
  }
}

void Environment::on_delivered(napi_env env, napi_value, void* environment, void* settlement) {
  const std::unique_ptr<Settlement> owned(static_cast<Settlement*>(settlement));
  if (!env) return;  // shutting down
  auto* self = static_cast<Environment*>(environment);
  if (--self->expected_settlements_ == 0) napi_unref_threadsafe_function(env, self->deliver_);
  owned->settle(env);
}

}  // namespace hr::binding
