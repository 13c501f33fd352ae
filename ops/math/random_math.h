// random_math: random words to the numbers of ops/random.h, rounded to f32 once, the same on every device.
#pragma once

#include "ops/math/normal.h"

namespace hr::math {

HR_HD inline float uniform_between(double low, double high, uint32_t bits) {
  return static_cast<float>(exact::add(low, exact::mul(high - low, static_cast<double>(uniform01(bits)))));
}

HR_HD inline float normal_with(double mean, double std, float standard) {
  return static_cast<float>(exact::add(mean, exact::mul(std, static_cast<double>(standard))));
}

}  // namespace hr::math
