// embed on the CPU.
#include "cpu/index_error.h"
#include "cpu/kernel.h"

#include "cpu/kernels/index_check.h"
#include "cpu/kernels/parallel.h"

namespace hr::HR_ISA_NAMESPACE {

void embed(Context& ctx, const EmbedParams& p) {
  const int32_t* ids = p.ids.as<int32_t>();
  const Real* table = p.table.as<Real>();
  Real* out = p.out.as<Real>();
  const int64_t num_tokens = p.ids.shape[0], num_rows = p.table.shape[0], width = p.table.shape[1];
  const Real scale = Real(p.scale);
  check_indices("embed", "ids", ids, num_tokens, 0, p.vocab_size - 1);
  for_ranges(ctx, num_tokens, rows_per_task(width), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t row = ids[t] - p.first_id;
      Real* out_row = out + t * width;
      if (row >= 0 && row < num_rows) {
        const Real* table_row = table + row * width;
#pragma omp simd
        for (int64_t j = 0; j < width; ++j) out_row[j] = scale * table_row[j];
      } else {
        for (int64_t j = 0; j < width; ++j) out_row[j] = 0;
      }
    }
  });
}

// Tasks are blocks of columns: each walks all tokens in order, so that no two write the same element.
void embed_backward(Context& ctx, const EmbedBackwardParams& p) {
  const Real* d_out = p.d_out.as<Real>();
  const int32_t* ids = p.ids.as<int32_t>();
  Real* d_table = p.d_table.as<Real>();
  const int64_t num_tokens = p.ids.shape[0], num_rows = p.d_table.shape[0], width = p.d_table.shape[1];
  const Real scale = Real(p.scale);
  const int64_t columns = num_tokens * width <= kTaskElements ? width : 64;
  for_ranges(ctx, width, columns, [&](int64_t begin, int64_t end) {
    for (int64_t t = 0; t < num_tokens; ++t) {
      const int64_t row = ids[t] - p.first_id;
      if (row < 0 || row >= num_rows) continue;
      const Real* d_out_row = d_out + t * width;
      Real* d_table_row = d_table + row * width;
#pragma omp simd
      for (int64_t j = begin; j < end; ++j) d_table_row[j] += scale * d_out_row[j];
    }
  });
}

}  // namespace hr::HR_ISA_NAMESPACE
