// cross-entropy of one cluster of an adaptive softmax, and its gradients. Contract: ops/loss.h.
//
//   tokens of the cluster first (stable_order.h); then, for each chunk of columns:
//     forward   logits = h·Wᵀ + b   ->  one running log-sum a token
//     backward  d_logits = d_nll·(softmax - onehot)
//               ->  d_h += d_logits·W,  d_W += d_logitsᵀ·h,  d_b += Σ d_logits
//   Only one chunk of logits exists, [num_tokens, kMostColumns] at most. How many tokens there are is known
//   on the device alone: launches are made for all, blocks without work end at once.
//
//   flops  2·tokens·size·width for each product: one forward, three backward, in f32 (three tf32 products)
//   exact  chunks and parts depend on the tensors' sizes alone, and are added in order
#include "cuda/kernels/column_sums.h"
#include "cuda/kernels/log_sum.h"
#include "cuda/kernels/stable_order.h"
#include "cuda/kernels/tiled_product.h"

namespace hr::cuda {

namespace {

// The cluster's tokens, and the columns of its vocabulary that are worked on.
struct Tail {
  Operand h;                // [num_tokens, width], in this order
  Operand weight;           // [size, width]
  Quads<const float> bias;  // [1, size]
  const int32_t* targets;   // [num_tokens]
  const int32_t* keys;      // [num_tokens] 0: of this cluster, 1: of another
  const int32_t* order;     // [num_tokens] the cluster's tokens, ascending, before the others
  const int32_t* count;     // [1] of the cluster's tokens
  Quads<float> logits;      // [count, stride] of the chunk; a row for each of the cluster's tokens
  int64_t first_id;
  int32_t num_tokens, size, width, stride;
  int32_t first = 0, columns = 0;  // the chunk

  Operand logits_operand() const { return {logits.data, num_tokens, stride}; }
  // The column of the chunk that is a row's target; it may lie outside.
  HR_DEVICE int32_t target_of(int32_t row) const {
    return static_cast<int32_t>(targets[order[row]] - first_id) - first;
  }
};

struct ClusterKeysKernel {
  static constexpr int kThreads = kElementThreads;
  const int32_t* targets;  // [num_tokens]
  int32_t* keys;           // [num_tokens]
  float* lse;              // [num_tokens] becomes 0, or null
  int64_t num_tokens, first_id, size;

  HR_DEVICE void operator()() const {
    for_elements(num_tokens, false, [&](int64_t token, auto) {
      const int64_t column = targets[token] - first_id;
      keys[token] = column >= 0 && column < size ? 0 : 1;
      if (lse) lse[token] = 0;
    });
  }
};

// count[0] = how many keys are 0: where the first other one is in the order.
struct CountKernel {
  static constexpr int kThreads = kElementThreads;
  const int32_t* keys;   // [num_tokens]
  const int32_t* order;  // [num_tokens]
  int32_t* count;        // [1]
  int64_t num_tokens;

  HR_DEVICE void operator()() const {
    for_elements(num_tokens, false, [&](int64_t i, auto) {
      const bool inside = keys[order[i]] == 0;
      const bool is_last = i + 1 == num_tokens || keys[order[i + 1]] != 0;
      if (inside && is_last) *count = static_cast<int32_t>(i + 1);
      if (!inside && i == 0) *count = 0;
    });
  }
};

// The tile of a block among those of an [m, n] result.
HR_DEVICE bool find_tile(int32_t block, int32_t m, int32_t n, int32_t tile_m, int32_t tile_n, int32_t k,
                         int32_t k_end, Tile& tile) {
  const Raster raster{(m + tile_m - 1) / tile_m, (n + tile_n - 1) / tile_n};
  if (block >= raster.tiles_m * raster.tiles_n) return false;
  int32_t i, j;
  raster.tile_at(block, i, j);
  tile = {i * tile_m, m, j * tile_n, n, k, k_end, 0};
  return true;
}

// logits = h·Wᵀ + b, or their gradient where d_nll is given.
struct LogitsProduct {
  static constexpr Layout kLayoutA = Layout::by_row, kLayoutB = Layout::by_row;
  static constexpr TileChoice best_tiles(Precision) { return TileChoice::large; }
  Tail tail;
  const float* d_nll;  // [num_tokens], or null
  const float* lse;    // [num_tokens], or null
  Operand a, b;        // h, weight

  HR_DEVICE bool find(int32_t block, int32_t tile_m, int32_t tile_n, Tile& tile) const {
    return find_tile(block, *tail.count, tail.columns, tile_m, tile_n, 0, tail.width, tile);
  }
  HR_DEVICE int32_t first_row_a(const Tile&) const { return 0; }
  HR_DEVICE int32_t first_row_b(const Tile&) const { return tail.first; }

  struct Operands {
    Quad bias;
    float scale, lse;
    int32_t target;
  };
  HR_DEVICE Operands read(const Tile&, int32_t r, int32_t column, int count) const {
    if (count == 0) return {};
    const Quad bias = tail.bias.load(0, tail.first + column, count);
    if (!d_nll) return {bias, 0, 0, 0};
    return {bias, d_nll[tail.order[r]], lse[tail.order[r]], tail.target_of(r)};
  }
  HR_DEVICE void store(const Tile&, int32_t r, int32_t column, int count, Quad x,
                       const Operands& operands) const {
    if (count == 0) return;
    HR_UNROLL
    for (int i = 0; i < 4; ++i) {
      x.v[i] += operands.bias.v[i];
      if (!d_nll) continue;
      const float share = exp(x.v[i] - operands.lse);
      x.v[i] = operands.scale * share - (column + i == operands.target ? operands.scale : 0.0f);
    }
    tail.logits.store(r, column, x, count);
  }
};

// parts[part] (+)= d_logits·W over a part of the chunk's columns
struct HiddenGradientProduct {
  static constexpr Layout kLayoutA = Layout::by_row, kLayoutB = Layout::by_k;
  static constexpr TileChoice best_tiles(Precision) { return TileChoice::large; }
  Tail tail;
  Quads<float> parts;  // [num_parts · num_tokens, width]
  int32_t num_parts, part_columns;
  Operand a, b;  // logits, weight

  HR_DEVICE bool find(int32_t block, int32_t tile_m, int32_t tile_n, Tile& tile) const {
    const int32_t part = block % num_parts, first = part * part_columns, left = tail.columns - first;
    const int32_t k = left > 0 ? first : 0, length = left < part_columns ? left : part_columns;
    const bool found = find_tile(block / num_parts, *tail.count, tail.width, tile_m, tile_n, k,
                                 left > 0 ? k + length : 0, tile);
    tile.group = part;
    return found;
  }
  HR_DEVICE int32_t first_row_a(const Tile&) const { return 0; }
  HR_DEVICE int32_t first_row_b(const Tile&) const { return tail.first; }

  struct Operands {
    int64_t row;  // of parts
    Quad before;
  };
  HR_DEVICE Operands read(const Tile& tile, int32_t r, int32_t column, int count) const {
    if (count == 0) return {};
    const int64_t row = int64_t{tile.group} * tail.num_tokens + tail.order[r];
    return {row, tail.first > 0 ? parts.load(row, column, count) : Quad{}};
  }
  HR_DEVICE void store(const Tile&, int32_t, int32_t column, int count, Quad x,
                       const Operands& operands) const {
    if (count == 0) return;
    HR_UNROLL
    for (int i = 0; i < 4; ++i) x.v[i] += operands.before.v[i];
    parts.store(operands.row, column, x, count);
  }
};

// d_weight += d_logitsᵀ·h
struct WeightGradientProduct {
  static constexpr Layout kLayoutA = Layout::by_k, kLayoutB = Layout::by_k;
  static constexpr TileChoice best_tiles(Precision) { return TileChoice::large; }
  Tail tail;
  Quads<float> d_weight;  // [size, width]
  Operand a, b;           // logits, h

  HR_DEVICE bool find(int32_t block, int32_t tile_m, int32_t tile_n, Tile& tile) const {
    return find_tile(block, tail.columns, tail.width, tile_m, tile_n, 0, *tail.count, tile);
  }
  HR_DEVICE int32_t first_row_a(const Tile&) const { return 0; }
  HR_DEVICE int32_t first_row_b(const Tile&) const { return 0; }

  struct Operands {
    Quad before;
  };
  HR_DEVICE Operands read(const Tile&, int32_t r, int32_t column, int count) const {
    return {count > 0 ? d_weight.load(tail.first + r, column, count) : Quad{}};
  }
  HR_DEVICE void store(const Tile&, int32_t r, int32_t column, int count, Quad x,
                       const Operands& operands) const {
    if (count == 0) return;
    HR_UNROLL
    for (int i = 0; i < 4; ++i) x.v[i] += operands.before.v[i];
    d_weight.store(tail.first + r, column, x, count);
  }
};

// Adds the chunk to the running log-sums; after the last chunk: lse and nll.
template <int kRowThreads>
struct TailLogSumKernel {
  static constexpr int kThreads = kReduceThreads;
  using Row = RowThreads<kRowThreads>;
  Tail tail;
  LogSum* log_sums;      // [num_tokens]
  float* target_logits;  // [num_tokens]
  float* lse;            // [num_tokens]
  float* nll;            // [num_tokens]

  HR_DEVICE void operator()() const {
    const int32_t row = block_x() * Row::kRows + Row::row();
    if (row >= *tail.count) return;
    const float* logits = tail.logits.data + int64_t{row} * tail.stride;
    LogSum total = log_sum_of_row<kRowThreads>(logits, tail.columns, true, true);
    if (Row::index() != 0) return;
    if (tail.first > 0) total.add(log_sums[row]);
    const int32_t target = tail.target_of(row);
    if (target >= 0 && target < tail.columns) target_logits[row] = logits[target];
    if (tail.first + tail.columns < tail.size) {
      log_sums[row] = total;
    } else {
      const int32_t token = tail.order[row];
      lse[token] = total.value();
      nll[token] += total.value() - target_logits[row];
    }
  }
};

// d_h = Σ parts, in order; 0 for tokens of other clusters.
struct SumHiddenPartsKernel {
  static constexpr int kThreads = kElementThreads;
  const float* parts;   // [num_parts, num_tokens, width]
  const int32_t* keys;  // [num_tokens]
  float* d_h;           // [num_tokens, width]
  int64_t num_tokens, width;
  int num_parts;

  HR_DEVICE void operator()() const {
    for_elements(num_tokens * width, false, [&](int64_t i, auto) {
      float sum = 0;
      if (keys[i / width] == 0) {
        for (int part = 0; part < num_parts; ++part) sum += parts[part * num_tokens * width + i];
      }
      d_h[i] = sum;
    });
  }
};

constexpr int64_t kMostLogits = int64_t{1} << 25;  // of a chunk
constexpr int64_t kFewestColumns = 1024, kMostColumns = 4096;
constexpr int64_t kMostParts = 8, kMostPartNumbers = int64_t{1} << 24;

template <typename Params>
Tail find_tail(Context& ctx, const Params& p, float* lse_to_clear) {
  const int64_t num_tokens = p.targets.size(), size = p.weight.shape[0], width = p.weight.shape[1];
  const int32_t* targets = p.targets.template as<int32_t>();
  int32_t *keys = ctx.workspace<int32_t>(num_tokens), *count = ctx.workspace<int32_t>(1);
  launch(ctx, ClusterKeysKernel{targets, keys, lse_to_clear, num_tokens, p.first_id, size},
         blocks_for_elements(ctx, num_tokens));
  const int32_t* order = stable_order(ctx, keys, num_tokens, 2);
  launch(ctx, CountKernel{keys, order, count, num_tokens}, blocks_for_elements(ctx, num_tokens));
  const int64_t chunk = std::clamp(kMostLogits / num_tokens / 128 * 128, kFewestColumns, kMostColumns);
  const int64_t stride = std::min(ceil_div(size, 4) * 4, chunk);
  return {.h = {p.h.template as<float>(), num_tokens, width, order},
          .weight = {p.weight.template as<float>(), size, width},
          .bias = {p.bias.template as<float>(), size},
          .targets = targets,
          .keys = keys,
          .order = order,
          .count = count,
          .logits = {ctx.workspace<float>(num_tokens * stride), stride},
          .first_id = p.first_id,
          .num_tokens = static_cast<int32_t>(num_tokens),
          .size = static_cast<int32_t>(size),
          .width = static_cast<int32_t>(width),
          .stride = static_cast<int32_t>(stride)};
}

// Calls fn(tail) for each chunk of columns.
template <typename Fn>
void for_chunks(Tail tail, Fn&& fn) {
  for (; tail.first < tail.size; tail.first += tail.stride) {
    tail.columns = std::min(tail.stride, tail.size - tail.first);
    fn(tail);
  }
}

template <typename Product>
void multiply_f32(Context& ctx, const Product& product, const ProductSize& size, int64_t num_parts = 1) {
  multiply_in<Precision::f32>(ctx, product, size, [&](int64_t tile_m, int64_t tile_n) {
    return num_parts * ceil_div(size.m, tile_m) * ceil_div(size.n, tile_n);
  });
}

void multiply_logits(Context& ctx, const Tail& tail, const float* d_nll, const float* lse) {
  multiply_f32(ctx, LogitsProduct{tail, d_nll, lse, tail.h, tail.weight},
               {tail.num_tokens, tail.columns, tail.width});
}

template <int kRowThreads>
void add_log_sums(Context& ctx, const TailLogSumKernel<kRowThreads>& kernel) {
  using Row = RowThreads<kRowThreads>;
  launch(ctx, kernel, {ceil_div(kernel.tail.num_tokens, Row::kRows)}, Row::kSharedBytes);
}

}  // namespace

void tail_cross_entropy(Context& ctx, const TailCrossEntropyParams& p) {
  float *lse = p.lse.as<float>(), *nll = p.nll.as<float>();
  const Tail whole = find_tail(ctx, p, lse);
  LogSum* log_sums = ctx.workspace<LogSum>(whole.num_tokens);
  float* target_logits = ctx.workspace<float>(whole.num_tokens);
  for_chunks(whole, [&](const Tail& tail) {
    multiply_logits(ctx, tail, nullptr, nullptr);
    if (tail.columns <= kFewestColumns) {
      add_log_sums(ctx, TailLogSumKernel<kWarpSize>{tail, log_sums, target_logits, lse, nll});
    } else {
      add_log_sums(ctx, TailLogSumKernel<kReduceThreads>{tail, log_sums, target_logits, lse, nll});
    }
  });
}

void tail_cross_entropy_backward(Context& ctx, const TailCrossEntropyBackwardParams& p) {
  const Tail whole = find_tail(ctx, p, nullptr);
  const int64_t num_tokens = whole.num_tokens, width = whole.width;
  const int64_t num_parts = std::clamp<int64_t>(kMostPartNumbers / (num_tokens * width), 1, kMostParts);
  const int32_t part_columns = static_cast<int32_t>(ceil_div(whole.stride, num_parts * kTileK) * kTileK);
  float* parts = ctx.workspace<float>(num_parts * num_tokens * width);
  float *d_weight = p.d_weight.as<float>(), *d_bias = p.d_bias.as<float>();
  for_chunks(whole, [&](const Tail& tail) {
    multiply_logits(ctx, tail, p.d_nll.as<float>(), p.lse.as<float>());
    const HiddenGradientProduct d_h{tail,         {parts, width},        static_cast<int32_t>(num_parts),
                                    part_columns, tail.logits_operand(), tail.weight};
    multiply_f32(ctx, d_h, {num_tokens, width, tail.columns}, num_parts);
    multiply_f32(ctx, WeightGradientProduct{tail, {d_weight, width}, tail.logits_operand(), tail.h},
                 {tail.columns, width, num_tokens});
    sum_columns(ctx, {tail.logits.data, num_tokens, tail.columns, tail.stride, tail.count},
                {.first = d_bias + tail.first, .accumulate = true});
  });
  launch(ctx,
         SumHiddenPartsKernel{parts, whole.keys, p.d_h.as<float>(), num_tokens, width,
                              static_cast<int>(num_parts)},
         blocks_for(ctx, num_tokens * width, kElementThreads));
}

}  // namespace hr::cuda
