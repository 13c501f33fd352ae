#include "test/emulator/device_memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace hr::emulator {

namespace {

constexpr size_t kGuardBytes = 256;
constexpr unsigned char kGuard = 0xFF;  // NaN, to whoever reads it

bool damaged(const char* guard) {
  return std::any_of(guard, guard + kGuardBytes,
                     [](char byte) { return static_cast<unsigned char>(byte) != kGuard; });
}

}  // namespace

DeviceMemory& DeviceMemory::instance() {
  static DeviceMemory memory;
  return memory;
}

void* DeviceMemory::allocate(size_t bytes) {
  const size_t total = (bytes + 3 * kGuardBytes - 1) / kGuardBytes * kGuardBytes;
  char* base = static_cast<char*>(std::aligned_alloc(kGuardBytes, total));
  if (!base) return nullptr;
  std::memset(base, kGuard, total);
  char* data = base + kGuardBytes;
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(base, kGuardBytes);
  __asan_poison_memory_region(data + bytes, total - kGuardBytes - bytes);
#endif
  const std::lock_guard lock(mutex_);
  live_[data] = bytes;
  return data;
}

void DeviceMemory::release(void* pointer) {
  char* data = static_cast<char*>(pointer);
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(data);
  if (found == live_.end()) return;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(data - kGuardBytes, found->second + 3 * kGuardBytes);
#endif
  std::memset(data, kGuard, found->second);
  live_.erase(found);
  std::free(data - kGuardBytes);
}

std::string DeviceMemory::damage() {
#if !defined(__SANITIZE_ADDRESS__)
  const std::lock_guard lock(mutex_);
  for (const auto& [data, bytes] : live_) {
    std::string text = damage_around(data, bytes);
    if (text.empty()) continue;
    std::memset(data - kGuardBytes, kGuard, kGuardBytes);
    std::memset(data + bytes, kGuard, kGuardBytes);
    return text;
  }
#endif
  return "";
}

std::string DeviceMemory::damage_around(const char* data, size_t bytes) const {
  const bool below = damaged(data - kGuardBytes);
  if (!below && !damaged(data + bytes)) return "";
  return std::string("wrote ") + (below ? "before the start" : "past the end") + " of an allocation of " +
         std::to_string(bytes) + " bytes";
}

}  // namespace hr::emulator
