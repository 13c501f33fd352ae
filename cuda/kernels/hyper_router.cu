// hyper_router: the routers of all layers in one launch, and their gradients in two. Formulas:
// ops/hyper_router.h.
//
// All the work is reading W2 (4.2 MB a layer for d_model 256, 16 experts and hyper_size 256), and writing its
// gradient where the hypernetwork trains. Row r = expert · (d_model + 1) + column of W2 makes one number of a
// router: a weight, or, in the last column, the bias.
//
//   generate  bytes  W2 read once; W1 once a block, from cache: each makes `hidden` for itself, then rows
//             grid   [blocks, num_networks], about one block a multiprocessor; a warp has eight rows under
//             way
//   backward  bytes  W2 read once, d_W2 read and written; parts of da written, W1 read, d_W1 read and written
//             grid   [tiles of 128 columns, parts of rows, num_networks], then [tiles of 128 columns,
//             num_networks] order  a warp's rows, warps, parts: cut by sizes alone. Layers that share a
//             network follow each other
#include "cuda/kernels/quads.h"
#include "cuda/kernels/row_reduce.h"

namespace hr::cuda {

namespace {

constexpr int kBlockThreads = 256;
constexpr int kWarps = kBlockThreads / kWarpSize;
constexpr int kRows = 8;                 // that a warp reads at a time
constexpr int kColumns = 4 * kWarpSize;  // of a warp's rows at a time
constexpr int kChunk = 1024;             // of hidden units that are kept in shared memory

struct Sizes {
  int num_layers, num_networks, embed_dim, hyper_size, num_experts, d_model, num_outputs;

  template <typename Params>
  Sizes(const Params& p, const TensorView& router_weight)
      : num_layers(static_cast<int>(p.embedding.shape[0])),
        num_networks(static_cast<int>(p.w1.shape[0])),
        embed_dim(static_cast<int>(p.w1.shape[2])),
        hyper_size(static_cast<int>(p.w1.shape[1])),
        num_experts(static_cast<int>(router_weight.shape[1])),
        d_model(static_cast<int>(router_weight.shape[2])),
        num_outputs(static_cast<int>(p.w2.shape[1])) {}

  HR_DEVICE int first_layer(int network) const { return network; }
  HR_DEVICE int end_layer(int network) const { return num_networks == 1 ? num_layers : network + 1; }

  // The number of `layer` that row r of W2 stands for.
  template <typename T>
  HR_DEVICE T& output(T* weight, T* bias, int layer, int r) const {
    const int64_t expert = layer * int64_t{num_experts} + r / (d_model + 1);
    const int column = r % (d_model + 1);
    return column < d_model ? weight[expert * d_model + column] : bias[expert];
  }
};

// sums[i] += row i of `rows` · x for rows 0 .. num_rows - 1: the lane's columns of n.
HR_DEVICE void add_products(const float* rows, int64_t stride, int num_rows, const float* x, int n,
                            bool aligned, float (&sums)[kRows]) {
  for (int column = 4 * lane_index(); column < n; column += kColumns) {
    const int count = n - column;
    const Quad of_x = load_quad(x + column, count, aligned);
    Quad of_rows[kRows];
    HR_UNROLL
    for (int i = 0; i < kRows; ++i) {
      of_rows[i] = load_quad(rows + i * stride + column, i < num_rows ? count : 0, aligned);
    }
    HR_UNROLL
    for (int i = 0; i < kRows; ++i) {
      HR_UNROLL
      for (int j = 0; j < 4; ++j) sums[i] = fma(of_rows[i].v[j], of_x.v[j], sums[i]);
    }
  }
}

struct GenerateKernel {
  static constexpr int kThreads = kBlockThreads;
  static constexpr int kTileRows = kWarps * kRows;
  static constexpr size_t kSharedBytes = kChunk * sizeof(float);
  Sizes sizes;
  const float* embedding;  // [num_layers, embed_dim]
  const float* w1;         // [num_networks, hyper_size, embed_dim]
  const float* b1;         // [num_networks, hyper_size]
  const float* w2;         // [num_networks, num_outputs, hyper_size]
  const float* b2;         // [num_networks, num_outputs]
  float* hidden;           // [num_layers, hyper_size]
  float* router_weight;    // [num_layers, num_experts, d_model]
  float* router_bias;      // [num_layers, num_experts]
  bool aligned1, aligned2;

  HR_DEVICE void operator()() const {
    const int network = block_y(), step = num_blocks_x() * kTileRows;
    for (int layer = sizes.first_layer(network); layer < sizes.end_layer(network); ++layer) {
      for (int first = block_x() * kTileRows; first < sizes.num_outputs; first += step) {
        make_tile(network, layer, first, first < step);
      }
    }
  }

 private:
  // The outputs first .. first + kTileRows - 1 of a layer.
  HR_DEVICE void make_tile(int network, int layer, int first, bool is_first_tile) const {
    const int row = first + warp_index() * kRows, num_rows = sizes.num_outputs - row;
    const int64_t network_row = network * int64_t{sizes.num_outputs} + row;
    float sums[kRows] = {};
    for (int unit = 0; unit < sizes.hyper_size; unit += kChunk) {
      const int count = sizes.hyper_size - unit < kChunk ? sizes.hyper_size - unit : kChunk;
      if (is_first_tile || sizes.hyper_size > kChunk) make_hidden(network, layer, unit, count);
      add_products(w2 + network_row * sizes.hyper_size + unit, sizes.hyper_size, num_rows,
                   shared_memory<float>(), count, aligned2, sums);
    }
    HR_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const float sum = reduce_warp<SumOf>(sums[i]);
      if (i >= num_rows || lane_index() != i) continue;
      sizes.output(router_weight, router_bias, layer, row + i) = sum + b2[network_row + i];
    }
  }

  // Hidden units unit .. unit + count - 1 of a layer, in shared memory.
  HR_DEVICE void make_hidden(int network, int layer, int unit, int count) const {
    barrier();  // nobody reads the units before these
    for (int first = warp_index() * kRows; first < count; first += kTileRows) {
      const int64_t network_row = network * int64_t{sizes.hyper_size} + unit + first;
      float sums[kRows] = {};
      add_products(w1 + network_row * sizes.embed_dim, sizes.embed_dim, count - first,
                   embedding + int64_t{layer} * sizes.embed_dim, sizes.embed_dim, aligned1, sums);
      HR_UNROLL
      for (int i = 0; i < kRows; ++i) {
        const float sum = reduce_warp<SumOf>(sums[i]);
        if (first + i >= count || lane_index() != i) continue;
        const float u = sum + b1[network_row + i], a = u < 0 ? 0.0f : u;
        shared_memory<float>()[first + i] = a;
        if (block_x() == 0) hidden[int64_t{layer} * sizes.hyper_size + unit + first + i] = a;
      }
    }
    barrier();
  }
};

// A matrix whose rows are summed with factors, kColumns columns a block, and its gradient.
struct WeightedRows {
  const float* matrix;  // [num_rows, n]
  float* gradient;      // [num_rows, n], or null
  int n;
  bool aligned;  // all rows, and those of x
  static constexpr size_t kSharedBytes = kWarps * kColumns * sizeof(float);

  HR_DEVICE int first_column() const { return block_x() * kColumns; }

  // sum += Σ factor(r) · matrix[first + r] over the rows r of the warp in begin .. end - 1, in the lane's
  // columns, and gradient[first + r] += factor(r) · x.
  template <typename Factor>
  HR_DEVICE void add(int64_t first, int begin, int end, const float* x, Factor&& factor, Quad& sum) const {
    const int column = first_column() + 4 * lane_index(), count = n - column;
    const Quad of_x = load_quad(x + column, gradient ? count : 0, aligned);
    for (int row = begin + warp_index(); row < end; row += kRows * kWarps) {
      Quad of_rows[kRows];
      float factors[kRows];
      HR_UNROLL
      for (int i = 0; i < kRows; ++i) {
        const int r = row + i * kWarps;
        factors[i] = r < end ? factor(r) : 0.0f;
        of_rows[i] = load_quad(matrix + (first + r) * n + column, r < end ? count : 0, aligned);
      }
      HR_UNROLL
      for (int i = 0; i < kRows; ++i) {
        HR_UNROLL
        for (int j = 0; j < 4; ++j) sum.v[j] = fma(factors[i], of_rows[i].v[j], sum.v[j]);
      }
      if (!gradient) continue;
      HR_UNROLL
      for (int i = 0; i < kRows; ++i) {
        const int r = row + i * kWarps;
        if (r < end) add_scaled(factors[i], of_x, gradient + (first + r) * n + column, count);
      }
    }
  }

  HR_DEVICE void add_scaled(float factor, const Quad& x, float* to, int count) const {
    Quad out = load_quad(to, count, aligned);
    HR_UNROLL
    for (int j = 0; j < 4; ++j) out.v[j] = fma(factor, x.v[j], out.v[j]);
    store_quad(to, out, count, aligned);
  }

  // Calls fn(column, Σ of the warps) for each column of the block.
  template <typename Fn>
  HR_DEVICE void finish(const Quad& sum, Fn&& fn) const {
    float* of_warps = shared_memory<float>();  // [kWarps, kColumns]
    store_quad(of_warps + warp_index() * kColumns + 4 * lane_index(), sum, 4, true);
    barrier();
    const int column = first_column() + thread_index();
    if (thread_index() < kColumns && column < n) {
      float total = 0;
      HR_UNROLL
      for (int warp = 0; warp < kWarps; ++warp) total += of_warps[warp * kColumns + thread_index()];
      fn(column, total);
    }
    barrier();
  }
};

// parts = W2ᵀ · do over part_rows rows each; d_W2 += do · aᵀ, d_c2 += do.
struct OutputBackwardKernel {
  static constexpr int kThreads = kBlockThreads;
  Sizes sizes;
  WeightedRows rows;             // W2
  const float* d_router_weight;  // [num_layers, num_experts, d_model]
  const float* d_router_bias;    // [num_layers, num_experts]
  const float* hidden;           // [num_layers, hyper_size]
  float* d_b2;                   // [num_networks, num_outputs], or null
  float* parts;                  // [num_layers, num_parts, hyper_size]
  int num_parts, part_rows;

  HR_DEVICE void operator()() const {
    const int network = block_z(), part = block_y();
    const int64_t first = network * int64_t{sizes.num_outputs};
    const int begin = part * part_rows;
    const int end = begin + part_rows < sizes.num_outputs ? begin + part_rows : sizes.num_outputs;
    for (int layer = sizes.first_layer(network); layer < sizes.end_layer(network); ++layer) {
      const auto d_output = [&](int r) { return sizes.output(d_router_weight, d_router_bias, layer, r); };
      Quad sum = {};
      rows.add(first, begin, end, hidden + int64_t{layer} * sizes.hyper_size, d_output, sum);
      rows.finish(sum, [&](int unit, float d_a) {
        parts[(layer * int64_t{num_parts} + part) * sizes.hyper_size + unit] = d_a;
      });
      if (!d_b2 || block_x() > 0) continue;
      for (int r = begin + thread_index(); r < end; r += kThreads) d_b2[first + r] += d_output(r);
    }
  }
};

// du = Σ parts · 1[a > 0]; d_e += W1ᵀ · du, d_W1 += du · eᵀ, d_c1 += du.
struct HiddenBackwardKernel {
  static constexpr int kThreads = kBlockThreads;
  static constexpr size_t kSharedBytes = WeightedRows::kSharedBytes + kChunk * sizeof(float);
  Sizes sizes;
  WeightedRows rows;       // W1
  const float* parts;      // [num_layers, num_parts, hyper_size]
  const float* hidden;     // [num_layers, hyper_size]
  const float* embedding;  // [num_layers, embed_dim]
  float* d_embedding;      // [num_layers, embed_dim], or null
  float* d_b1;             // [num_networks, hyper_size], or null
  int num_parts;

  HR_DEVICE void operator()() const {
    const int network = block_y();
    for (int layer = sizes.first_layer(network); layer < sizes.end_layer(network); ++layer) {
      const float* x = embedding + int64_t{layer} * sizes.embed_dim;
      Quad sum = {};
      for (int unit = 0; unit < sizes.hyper_size; unit += kChunk) {
        const int count = sizes.hyper_size - unit < kChunk ? sizes.hyper_size - unit : kChunk;
        const float* d_u = add_parts(network, layer, unit, count);
        rows.add(
            network * int64_t{sizes.hyper_size} + unit, 0, count, x, [&](int r) { return d_u[r]; }, sum);
        barrier();  // before the next units take their place
      }
      rows.finish(sum, [&](int column, float d_e) {
        if (d_embedding) d_embedding[int64_t{layer} * sizes.embed_dim + column] += d_e;
      });
    }
  }

 private:
  // du of units unit .. unit + count - 1, in shared memory.
  HR_DEVICE const float* add_parts(int network, int layer, int unit, int count) const {
    float* d_u = shared_memory<float>(WeightedRows::kSharedBytes);
    for (int i = thread_index(); i < count; i += kThreads) {
      const float* of_parts = parts + int64_t{layer} * num_parts * sizes.hyper_size + unit + i;
      float sum = 0;
      for (int part = 0; part < num_parts; ++part) sum += of_parts[part * int64_t{sizes.hyper_size}];
      d_u[i] = hidden[int64_t{layer} * sizes.hyper_size + unit + i] > 0 ? sum : 0.0f;
      if (d_b1 && block_x() == 0) d_b1[network * int64_t{sizes.hyper_size} + unit + i] += d_u[i];
    }
    barrier();
    return d_u;
  }
};

// Of tensors with rows of n numbers.
template <typename... Tensors>
bool all_aligned(int64_t n, const Tensors&... tensors) {
  return n % 4 == 0 && (is_aligned16(tensors.data) && ...);
}

constexpr int64_t kPartRows = 256;  // at least
constexpr int64_t kMostParts = 64;

}  // namespace

void hyper_router_generate(Context& ctx, const HyperRouterGenerateParams& p) {
  const Sizes s(p, p.router_weight);
  // Two tiles a block at least: the first has to wait for the hidden units.
  const int64_t tiles = ceil_div(s.num_outputs, GenerateKernel::kTileRows);
  const int64_t most_blocks = ceil_div(int64_t{2} * ctx.num_multiprocessors, s.num_networks);
  launch(ctx,
         GenerateKernel{s, p.embedding.as<float>(), p.w1.as<float>(), p.b1.as<float>(), p.w2.as<float>(),
                        p.b2.as<float>(), p.hidden.as<float>(), p.router_weight.as<float>(),
                        p.router_bias.as<float>(), all_aligned(s.embed_dim, p.embedding, p.w1),
                        all_aligned(s.hyper_size, p.w2)},
         {std::min(ceil_div(tiles, 2), most_blocks), s.num_networks}, GenerateKernel::kSharedBytes);
}

void hyper_router_backward(Context& ctx, const HyperRouterBackwardParams& p) {
  const Sizes s(p, p.d_router_weight);
  const int64_t part_rows = std::max(kPartRows, ceil_div(s.num_outputs, kMostParts));
  const int64_t num_parts = ceil_div(s.num_outputs, part_rows);
  float* parts = ctx.workspace<float>(s.num_layers * num_parts * s.hyper_size);
  const WeightedRows w2{p.w2.as<float>(), p.d_w2.as<float>(), s.hyper_size,
                        all_aligned(s.hyper_size, p.w2, p.d_w2, p.hidden)};
  launch(ctx,
         OutputBackwardKernel{s, w2, p.d_router_weight.as<float>(), p.d_router_bias.as<float>(),
                              p.hidden.as<float>(), p.d_b2.as<float>(), parts, static_cast<int>(num_parts),
                              static_cast<int>(part_rows)},
         {ceil_div(s.hyper_size, kColumns), num_parts, s.num_networks}, WeightedRows::kSharedBytes);
  const WeightedRows w1{p.w1.as<float>(), p.d_w1.as<float>(), s.embed_dim,
                        all_aligned(s.embed_dim, p.w1, p.d_w1, p.embedding)};
  launch(ctx,
         HiddenBackwardKernel{s, w1, parts, p.hidden.as<float>(), p.embedding.as<float>(),
                              p.d_embedding.as<float>(), p.d_b1.as<float>(), static_cast<int>(num_parts)},
         {ceil_div(s.embed_dim, kColumns), s.num_networks}, HiddenBackwardKernel::kSharedBytes);
}

}  // namespace hr::cuda
