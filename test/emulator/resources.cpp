#include "test/emulator/resources.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace hr::emulator {

Resources& Resources::instance() {
  static Resources resources;
  return resources;
}

Resources::Resources() {
  if (const char* function = std::getenv("HYPERROUTER_EMULATOR_REFUSE")) refuse(function, 1);
}

void Resources::refuse(const std::string& function, int nth) {
  const std::lock_guard lock(mutex_);
  refused_ = function;
  calls_left_ = nth;
}

bool Resources::has_refused() {
  const std::lock_guard lock(mutex_);
  return calls_left_ == 0;
}

bool Resources::is_refused(const char* function) {
  const std::lock_guard lock(mutex_);
  return calls_left_ > 0 && refused_ == function && --calls_left_ == 0;
}

void* Resources::pin(size_t bytes) {
  void* const data = std::malloc(bytes);
  if (!data) return nullptr;
  const std::lock_guard lock(mutex_);
  pinned_[data] = bytes;
  pinned_bytes_ += bytes;
  most_pinned_bytes_ = std::max(most_pinned_bytes_, pinned_bytes_);
  return data;
}

void Resources::unpin(void* data) {
  const std::lock_guard lock(mutex_);
  const auto found = pinned_.find(data);
  std::memset(data, 0xFF, found->second);  // shows to a copy that is still under way
  pinned_bytes_ -= found->second;
  pinned_.erase(found);
  std::free(data);
}

void Resources::count_events(int change) {
  const std::lock_guard lock(mutex_);
  num_events_ += change;
}

int Resources::num_events() {
  const std::lock_guard lock(mutex_);
  return num_events_;
}

size_t Resources::pinned_bytes() {
  const std::lock_guard lock(mutex_);
  return pinned_bytes_;
}

size_t Resources::most_pinned_bytes() {
  const std::lock_guard lock(mutex_);
  return std::exchange(most_pinned_bytes_, pinned_bytes_);
}

}  // namespace hr::emulator
