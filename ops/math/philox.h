// philox: counter-based random bits, the same on every device.   [Salmon et al. 2011, Philox4x32-10]
//
// A stream is named by a 64-bit seed (the key) and a 64-bit call id. Its 32-bit words are numbered: word
// `index` is word (index & 3) of block (index >> 2), and block b has the counter {b, b >> 32, call, call >>
// 32}. Any element's bits are therefore known without generating the ones before it, whoever computes it.
#pragma once

#include <cstdint>

#include "ops/math/host_device.h"

namespace hr::math {

inline constexpr uint32_t kPhiloxMultiplier0 = 0xD2511F53u;
inline constexpr uint32_t kPhiloxMultiplier1 = 0xCD9E8D57u;
inline constexpr uint32_t kPhiloxWeyl0 = 0x9E3779B9u;
inline constexpr uint32_t kPhiloxWeyl1 = 0xBB67AE85u;
inline constexpr int kPhiloxRounds = 10;

struct PhiloxBlock {
  uint32_t word[4];
};

HR_HD inline PhiloxBlock philox4x32_10(PhiloxBlock counter, uint32_t key0, uint32_t key1) {
  uint32_t c0 = counter.word[0], c1 = counter.word[1], c2 = counter.word[2], c3 = counter.word[3];
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint64_t product0 = static_cast<uint64_t>(kPhiloxMultiplier0) * c0;
    const uint64_t product1 = static_cast<uint64_t>(kPhiloxMultiplier1) * c2;
    c0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ key0;
    c1 = static_cast<uint32_t>(product1);
    c2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ key1;
    c3 = static_cast<uint32_t>(product0);
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
  return {{c0, c1, c2, c3}};
}

// The four words of one block: elements 4·block .. 4·block + 3 of the call.
HR_HD inline PhiloxBlock philox_block(uint64_t seed, uint64_t call, uint64_t block) {
  return philox4x32_10({{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                         static_cast<uint32_t>(call), static_cast<uint32_t>(call >> 32)}},
                       static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

// Word `index` of the call. Loops over consecutive elements should take whole blocks instead.
HR_HD inline uint32_t philox_u32(uint64_t seed, uint64_t call, uint64_t index) {
  return philox_block(seed, call, index >> 2).word[index & 3];
}

// [0, 1) with 24 random bits: exact in f32.
HR_HD inline float uniform01(uint32_t bits) { return static_cast<float>(bits >> 8) * 0x1p-24f; }

// Dropout with probability p in [0, 1): an element is kept if and only if its word >= drop_threshold(p),
// which is round(p·2^32), at most 2^32 - 1.
HR_HD inline uint32_t drop_threshold(double p) {
  const double scaled = p * 4294967296.0 + 0.5;
  if (!(scaled >= 1.0)) return 0;
  return scaled >= 4294967295.0 ? 0xFFFFFFFFu : static_cast<uint32_t>(scaled);
}
HR_HD inline bool is_kept(uint32_t bits, uint32_t threshold) { return bits >= threshold; }

}  // namespace hr::math
