// reductions. Sums over a whole tensor are made in double: blocks of a length that depends on the tensor's
// size alone, each block's threads in a fixed tree, the blocks in order.
//
//   bytes  x read once, 16 bytes a thread and step; at most kMostSumBlocks doubles of workspace
//   grid   up to kMostSumBlocks blocks, then one that adds them
#include "cuda/kernels/block_sums.h"
#include "cuda/kernels/column_sums.h"
#include "cuda/kernels/quads.h"
#include "ops/math/normal.h"

namespace hr::cuda {

namespace {

struct Value {
  static HR_DEVICE double of(float x) { return x; }
};
struct Square {
  static HR_DEVICE double of(float x) { return static_cast<double>(x) * static_cast<double>(x); }
};
struct IsNonFinite {
  static HR_DEVICE double of(float x) { return x - x == 0 ? 0 : 1; }
};

// of_blocks[b] = Σ Term::of(x[i]) over the elements of block b.
template <typename Term>
struct SumBlocksKernel {
  static constexpr int kThreads = kReduceThreads;
  const float* x;  // [n]
  int64_t n;
  int64_t block_length;  // a multiple of 4 · kThreads
  double* of_blocks;
  bool aligned;

  HR_DEVICE void operator()() const {
    const int64_t begin = block_x() * block_length;
    const int64_t end = begin + block_length < n ? begin + block_length : n;
    double sum[4] = {};
    for (int64_t first = begin + 4 * thread_index(); first < end; first += 4 * kThreads) {
      const int count = quad_count(end - first);
      const Quad value = load_quad(x + first, count, aligned);
      HR_UNROLL
      for (int i = 0; i < 4; ++i) sum[i] += Term::of(value.v[i]);  // of 0 past the end: 0
    }
    const double total = reduce_block<SumOf>((sum[0] + sum[1]) + (sum[2] + sum[3]));
    if (thread_index() == 0) of_blocks[block_x()] = total;
  }
};

template <typename Term, typename Finish>
void sum_tensor(Context& ctx, const In& x, Finish finish) {
  const float* data = x.as<float>();
  const int64_t n = x.size(), step = 4 * kReduceThreads;
  const int64_t block_length = ceil_div(ceil_div(n, kMostSumBlocks), step) * step;
  const int64_t num_blocks = ceil_div(n, block_length);
  double* of_blocks = ctx.workspace<double>(num_blocks);
  launch(ctx, SumBlocksKernel<Term>{data, n, block_length, of_blocks, is_aligned16(data)}, {num_blocks},
         kBlockSumBytes);
  finish_sum(ctx, of_blocks, num_blocks, finish);
}

struct AddOrStore {
  float* out;
  bool accumulate;
  HR_DEVICE void operator()(double sum) const {
    *out = static_cast<float>(accumulate ? static_cast<double>(*out) + sum : sum);
  }
};
struct StoreCount {
  int32_t* out;
  HR_DEVICE void operator()(double sum) const {
    *out = sum < 2147483647.0 ? static_cast<int32_t>(sum) : 2147483647;
  }
};

struct ClipFactorKernel {
  static constexpr int kThreads = kWarpSize;
  const float* sum_squares;  // [1]
  float* norm;               // [1]
  float* factor;             // [1]
  double max_norm;

  HR_DEVICE void operator()() const {
    if (thread_index() != 0) return;
    const double root = math::exact::sqrt(static_cast<double>(*sum_squares));
    const double ratio = max_norm / (root + 1e-6);
    *norm = static_cast<float>(root);
    *factor = max_norm == 0 || ratio > 1 ? 1.0f : static_cast<float>(ratio);  // NaN stays NaN
  }
};

}  // namespace

void reduce_sum(Context& ctx, const ReduceSumParams& p) {
  sum_tensor<Value>(ctx, p.x, StoreScaled{p.out.as<float>(), p.scale});
}

void reduce_rows(Context& ctx, const ReduceRowsParams& p) {
  sum_columns(ctx, {p.x.as<float>(), p.x.shape[0], p.x.shape[1], p.x.shape[1]},
              {.first = p.out.as<float>(), .accumulate = p.accumulate});
}

void sum_squares(Context& ctx, const SumSquaresParams& p) {
  sum_tensor<Square>(ctx, p.x, AddOrStore{p.out.as<float>(), p.accumulate});
}

void clip_factor(Context& ctx, const ClipFactorParams& p) {
  launch(ctx,
         ClipFactorKernel{p.sum_squares.as<float>(), p.norm.as<float>(), p.factor.as<float>(), p.max_norm},
         {1});
}

void count_non_finite(Context& ctx, const CountNonFiniteParams& p) {
  sum_tensor<IsNonFinite>(ctx, p.x, StoreCount{p.out.as<int32_t>()});
}

}  // namespace hr::cuda
