// spin: wait actively for a moment before sleeping.
#pragma once

namespace hr::cpu {

// Long enough to bridge the gap between two kernels of one training step, short enough to leave the core to
// others when it is contended.
inline constexpr int kSpins = 4000;

template <typename Condition>
bool spin_until(Condition&& condition) {
  for (int i = 0; i < kSpins; ++i) {
    if (condition()) return true;
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }
  return condition();
}

}  // namespace hr::cpu
