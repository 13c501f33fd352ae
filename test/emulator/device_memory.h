// device_memory: allocations of the emulated device, each of exactly the bytes asked for, between guards.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <string>

namespace hr::emulator {

class DeviceMemory {
 public:
  static DeviceMemory& instance();

  void* allocate(size_t bytes);  // aligned to 1024 bytes, all bits set; null: no memory
  void release(void* data);

  // A line about the first allocation whose guards were written over since the last call; "": none.
  std::string damage();

 private:
  std::string damage_around(const char* data, size_t bytes) const;
  std::mutex mutex_;
  std::map<char*, size_t> live_;
};

}  // namespace hr::emulator
