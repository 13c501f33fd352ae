#include "test/emulator/device_memory.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace hr::emulator {

namespace {

constexpr size_t kGuardBytes = 1024;
constexpr unsigned char kUninitialised = 0xFF;  // NaN

// A signalling NaN, another one for each allocation: neither arithmetic nor a copy of another guard gives it,
// and as an index it is out of range.
uint32_t guard_word(const char* data) {
  const uint32_t mixed = static_cast<uint32_t>((reinterpret_cast<uintptr_t>(data) >> 8) * 2654435761u);
  return 0x7F800001u | (mixed >> 10 & 0x3FFFFEu);
}

// Eight bytes of the guard at any address, as they are in memory.
uint64_t guard_at(const char* at, uint32_t word) {
  const int shift = static_cast<int>(reinterpret_cast<uintptr_t>(at) % 4 * 8);
  const uint32_t rotated = shift ? word >> shift | word << (32 - shift) : word;
  return uint64_t{rotated} << 32 | rotated;
}

void write_guard(char* guard, uint32_t word) {
  const uint64_t expected = guard_at(guard, word);
  for (size_t i = 0; i < kGuardBytes; i += sizeof expected)
    std::memcpy(guard + i, &expected, sizeof expected);
}

bool is_damaged(const char* guard, uint32_t word) {
  const uint64_t expected = guard_at(guard, word);
  uint64_t differing = 0;
  for (size_t i = 0; i < kGuardBytes; i += sizeof expected) {
    uint64_t found;
    std::memcpy(&found, guard + i, sizeof found);
    differing |= found ^ expected;
  }
  return differing != 0;
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
  char* data = base + kGuardBytes;
  std::memset(data, kUninitialised, bytes);
  write_guard(base, guard_word(data));
  write_guard(data + bytes, guard_word(data));
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
  std::memset(data, kUninitialised, found->second);
  live_.erase(found);
  std::free(data - kGuardBytes);
}

std::string DeviceMemory::damage() {
#if !defined(__SANITIZE_ADDRESS__)
  const std::lock_guard lock(mutex_);
  for (const auto& [data, bytes] : live_) {
    std::string text = damage_around(data, bytes);
    if (text.empty()) continue;
    write_guard(data - kGuardBytes, guard_word(data));
    write_guard(data + bytes, guard_word(data));
    return text;
  }
#endif
  return "";
}

std::string DeviceMemory::damage_around(const char* data, size_t bytes) const {
  const bool below = is_damaged(data - kGuardBytes, guard_word(data));
  if (!below && !is_damaged(data + bytes, guard_word(data))) return "";
  return std::string("wrote ") + (below ? "before the start" : "past the end") + " of an allocation of " +
         std::to_string(bytes) + " bytes";
}

}  // namespace hr::emulator
