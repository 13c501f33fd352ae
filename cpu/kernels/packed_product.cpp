// The register tiles of packed products, once per arithmetic and number of rows.
#include "cpu/kernel.h"

#include "cpu/simd.h"
#if !HR_IS_REFERENCE
#include "cpu/kernels/packed_product.h"

namespace hr::HR_ISA_NAMESPACE::packed {

namespace {

template <int kRows, typename Arithmetic>
HR_NOINLINE void multiply_panels(const float* a, const float* b, int64_t units, bool resume, float* sums,
                                 const Touched& touched) {
  Vec sum[kRows][kTileVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kTileVectors; ++v) {
      sum[r][v] = resume ? Vec::load(sums + r * kTileColumns + v * Vec::kLanes) : Vec::broadcast(0);
    }
  }
  for (int64_t unit = 0; unit < units; ++unit, a += kTileRows, b += kTileColumns) {
    touched.prefetch(unit);
    Vec right[kTileVectors];
    for (int v = 0; v < kTileVectors; ++v) right[v] = Vec::load(b + v * Vec::kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Vec left = Vec::broadcast(a[r]);
      for (int v = 0; v < kTileVectors; ++v) sum[r][v] = Arithmetic::mul_add(left, right[v], sum[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kTileVectors; ++v) sum[r][v].store(sums + r * kTileColumns + v * Vec::kLanes);
  }
}

template <typename Arithmetic>
HR_NOINLINE void multiply_vector(const float* a, const float* vector, int64_t num_k, int rows, bool resume,
                                 float* sums) {
  constexpr int64_t kPerUnit = Arithmetic::kPerUnit;
  float sum[kTileRows];
  for (int r = 0; r < kTileRows; ++r) sum[r] = resume && r < rows ? sums[r] : 0.0f;
  for (int64_t k = 0; k < num_k; k += kPerUnit, a += kTileRows) {
    for (int64_t n = 0; n < min(kPerUnit, num_k - k); ++n) {
      for (int r = 0; r < kTileRows; ++r)
        sum[r] = mul_add(Arithmetic::number(a[r], n), vector[k + n], sum[r]);
    }
  }
  for (int r = 0; r < rows; ++r) sums[r] = sum[r];
}

template <typename Arithmetic, int... kRowsMinusOne>
constexpr Method make_method(std::integer_sequence<int, kRowsMinusOne...>) {
  return {Arithmetic::kPerUnit,
          pack<kTileRows, Arithmetic>,
          pack<kTileColumns, Arithmetic>,
          {multiply_panels<kRowsMinusOne + 1, Arithmetic>...},
          multiply_vector<Arithmetic>};
}

template <typename Arithmetic>
constexpr Method kMethod = make_method<Arithmetic>(std::make_integer_sequence<int, kTileRows>());

}  // namespace

const Method& method_of(Precision precision) {
  const Method* method = nullptr;
  with_arithmetic(precision, [&](auto arithmetic) { method = &kMethod<decltype(arithmetic)>; });
  return *method;
}

}  // namespace hr::HR_ISA_NAMESPACE::packed

#endif
