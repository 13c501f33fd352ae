// sums down columns: tiles of 32 columns, cut along the rows into parts whose sums are added in order.
//
//   bytes  x read once. A warp reads whole 128-byte lines of four rows; 32 rows are under way per block
//   grid   [tiles, parts]; a second launch adds the parts
#include "cuda/kernels/column_sums.h"
#include "cuda/kernels/quads.h"

namespace hr::cuda {

namespace {

constexpr int kColumns = 32;  // of a tile
constexpr int kQuads = kColumns / 4;

struct ColumnSumsKernel {
  static constexpr int kThreads = 256;
  static constexpr int kRowsAtOnce = kThreads / kQuads;
  static constexpr size_t kSharedBytes = kRowsAtOnce * kColumns * sizeof(float);

  SummedRows rows;
  int64_t part_rows;
  ColumnSums sums;  // of part 0; n further on for each part
  bool aligned;

  HR_DEVICE void operator()() const {
    const int quad = thread_index() % kQuads, first_row = thread_index() / kQuads;
    const int64_t column = int64_t{block_x()} * kColumns + 4 * quad;
    const int64_t begin = block_y() * part_rows;
    const int64_t valid = rows.valid_rows ? *rows.valid_rows : rows.num_rows;
    const int64_t end = begin + part_rows < valid ? begin + part_rows : valid;
    const int count = column < rows.n ? quad_count(rows.n - column) : 0;
    Quad sum = {};
    for (int64_t row = begin + first_row; row < end; row += kRowsAtOnce) {
      const Quad value = load_quad(rows.x + row * rows.stride + column, count, aligned);
      HR_UNROLL
      for (int i = 0; i < 4; ++i) sum.v[i] += value.v[i];
    }
    float* of_rows = shared_memory<float>();  // [kRowsAtOnce, kColumns]
    store_quad(of_rows + first_row * kColumns + 4 * quad, sum, 4, true);
    barrier();
    if (thread_index() >= kColumns || block_x() * int64_t{kColumns} + thread_index() >= rows.n) return;
    float total = 0;
    HR_UNROLL
    for (int row = 0; row < kRowsAtOnce; ++row) total += of_rows[row * kColumns + thread_index()];
    store(block_x() * int64_t{kColumns} + thread_index(), total);
  }

  HR_DEVICE void store(int64_t column, float total) const {
    float* to = column < sums.width ? sums.first + column : sums.second + (column - sums.width);
    to += block_y() * rows.n;
    *to = sums.accumulate ? *to + total : total;
  }
};

void launch_sums(Context& ctx, const SummedRows& rows, int64_t part_rows, const ColumnSums& sums) {
  launch(ctx, ColumnSumsKernel{rows, part_rows, sums, is_aligned16(rows.x) && rows.stride % 4 == 0},
         {ceil_div(rows.n, kColumns), ceil_div(rows.num_rows, part_rows)}, ColumnSumsKernel::kSharedBytes);
}

constexpr int64_t kFewRows = 512;   // one launch is enough
constexpr int64_t kBlocks = 1024;   // of the first of two launches, about
constexpr int64_t kPartRows = 128;  // at least

}  // namespace

void sum_columns(Context& ctx, const SummedRows& rows, const ColumnSums& sums) {
  if (rows.num_rows <= kFewRows) return launch_sums(ctx, rows, rows.num_rows, sums);
  const int64_t most_parts = std::max<int64_t>(kBlocks / ceil_div(rows.n, kColumns), 2);
  const int64_t part_rows = std::max(ceil_div(rows.num_rows, most_parts), kPartRows);
  const int64_t num_parts = ceil_div(rows.num_rows, part_rows);
  const Context::Frame frame(ctx);
  float* parts = ctx.workspace<float>(num_parts * rows.n);
  launch_sums(ctx, rows, part_rows, {parts});
  launch_sums(ctx, {parts, num_parts, rows.n, rows.n}, num_parts, sums);
}

}  // namespace hr::cuda
