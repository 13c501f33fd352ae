// resources: what a process holds of the emulated runtime, and calls that the runtime refuses. For tests.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <string>

namespace hr::emulator {

class Resources {
 public:
  static Resources& instance();

  // The nth call of a function from now on fails. HYPERROUTER_EMULATOR_REFUSE=cudaEventRecord: its first.
  void refuse(const std::string& function, int nth);
  bool has_refused();  // since refuse()
  bool is_refused(const char* function);

  void* pin(size_t bytes);
  void unpin(void* data);
  void count_events(int change);

  int num_events();
  size_t pinned_bytes();
  size_t most_pinned_bytes();  // since the last call of this

 private:
  Resources();
  std::mutex mutex_;
  std::string refused_;
  int calls_left_ = 0;  // of `refused_`, until one is refused
  std::map<void*, size_t> pinned_;
  size_t pinned_bytes_ = 0, most_pinned_bytes_ = 0;
  int num_events_ = 0;
};

}  // namespace hr::emulator
