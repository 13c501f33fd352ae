// dtype: element types a tensor can hold.
//
// f32 and f64 are compute types: a backend names the one its ops take (see Backend::compute_dtype).
// bf16 and f16 are storage types: `cast` converts them to and from a compute type.
// i32 holds indices, counts and token ids.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hr {

enum class DType : uint8_t { f32, f64, bf16, f16, i32 };

inline constexpr const char* kDTypeNames[] = {"f32", "f64", "bf16", "f16", "i32"};
inline constexpr int kNumDTypes = 5;

constexpr const char* name(DType dtype) { return kDTypeNames[static_cast<int>(dtype)]; }

constexpr size_t size_of(DType dtype) {
  constexpr size_t kBytes[] = {4, 8, 2, 2, 4};
  return kBytes[static_cast<int>(dtype)];
}

constexpr bool is_compute_float(DType dtype) { return dtype == DType::f32 || dtype == DType::f64; }

}  // namespace hr
