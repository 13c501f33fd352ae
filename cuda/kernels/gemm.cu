// gemm: c = act(op(a) · op(b) + bias), or c += op(a) · op(b). Contract: ops/gemm.h.
//
// Weight gradients (a transposed, k the number of tokens) have a long k and few tiles: they are cut into
// parts of kPartLength, which run side by side into workspace and are then summed in order. How a product is
// cut depends on its sizes alone, so its bits are the same on every GPU.
#include "cuda/kernels/activation_math.h"
#include "cuda/kernels/tiled_product.h"

namespace hr::cuda {

namespace {

// What becomes of the sums of an element of c.
struct Epilogue {
  Quads<float> c;           // [m, n]
  Quads<const float> bias;  // [1, n], or null
  Activation activation;
  bool accumulate;

  HR_DEVICE Quad added(int64_t row, int32_t column, int count) const {
    if (accumulate) return c.load(row, column, count);
    return bias ? bias.load(0, column, count) : Quad{};
  }
  HR_DEVICE float value(float sum, float added) const {
    return accumulate ? added + sum : activate(activation, sum + added);
  }
};

template <bool kTransposeA, bool kTransposeB>
struct DenseProduct {
  static constexpr Layout kLayoutA = kTransposeA ? Layout::by_k : Layout::by_row;
  static constexpr Layout kLayoutB = kTransposeB ? Layout::by_row : Layout::by_k;
  static constexpr TileChoice best_tiles(Precision precision) {
    if (kTransposeA) return kTransposeB ? TileChoice::small : TileChoice::large;  // both: seldom needed
    return wide_in_bf16(precision);
  }

  Operand a;  // [m, k], or [k, m]
  Operand b;  // [k, n], or [n, k]
  int32_t m, n, k;
  int32_t num_parts, part_length;  // of k
  Quads<float> out;                // c, or more than one part of it, [num_parts · m, n]
  Epilogue epilogue;

  HR_DEVICE bool find(int32_t block, int32_t tile_m, int32_t tile_n, Tile& tile) const {
    const Raster raster{(m + tile_m - 1) / tile_m, (n + tile_n - 1) / tile_n};
    const int32_t tiles = raster.tiles_m * raster.tiles_n;
    const int32_t part = block / tiles;
    if (part >= num_parts) return false;
    int32_t i, j;
    raster.tile_at(block % tiles, i, j);
    const int32_t first = part * part_length, left = k - first;
    tile = {i * tile_m, m, j * tile_n, n, first, first + (left < part_length ? left : part_length), part};
    return true;
  }
  HR_DEVICE int32_t first_row_a(const Tile&) const { return 0; }
  HR_DEVICE int32_t first_row_b(const Tile&) const { return 0; }

  struct Operands {
    Quad added;
  };
  HR_DEVICE Operands read(const Tile&, int32_t row, int32_t column, int count) const {
    return {num_parts == 1 && count > 0 ? epilogue.added(row, column, count) : Quad{}};
  }
  HR_DEVICE void store(const Tile& tile, int32_t row, int32_t column, int count, Quad x,
                       const Operands& operands) const {
    if (count == 0) return;
    if (num_parts == 1) {
      HR_UNROLL
      for (int i = 0; i < 4; ++i) x.v[i] = epilogue.value(x.v[i], operands.added.v[i]);
    }
    out.store(int64_t{tile.group} * m + row, column, x, count);
  }
};

// c = epilogue(parts[0] + parts[1] + ...), in this order.
struct SumPartsKernel {
  static constexpr int kThreads = kElementThreads;
  const float* parts;  // [num_parts, size]
  int64_t size;
  int32_t num_parts;
  Epilogue epilogue;

  HR_DEVICE void operator()() const {
    for_elements(size, false, [&](int64_t i, auto) {
      float sum = 0;
      for (int32_t part = 0; part < num_parts; ++part) sum += parts[part * size + i];
      const int32_t n = epilogue.c.width, column = static_cast<int32_t>(i % n);
      epilogue.c.data[i] = epilogue.value(sum, epilogue.added(i / n, column, 1).v[0]);
    });
  }
};

constexpr int32_t kPartLength = 1024;
constexpr int64_t kFewTiles = 256;

int32_t count_parts(int64_t tiles, int64_t k) {
  return tiles < kFewTiles ? static_cast<int32_t>(ceil_div(k, kPartLength)) : 1;
}

template <bool kTransposeA, bool kTransposeB>
void multiply_dense(Context& ctx, const GemmParams& p) {
  const int64_t m = p.c.shape[0], n = p.c.shape[1], k = p.a.shape[kTransposeA ? 0 : 1];
  const auto num_tiles = [&](int64_t tile_m, int64_t tile_n) {
    return ceil_div(m, tile_m) * ceil_div(n, tile_n);
  };
  // Only sums over tokens: elsewhere a row of c must not depend on how many rows there are.
  const int32_t num_parts = kTransposeA ? count_parts(num_tiles(64, 64), k) : 1;
  float* parts = num_parts > 1 ? ctx.workspace<float>(num_parts * m * n) : nullptr;
  float* c = p.c.as<float>();
  const Epilogue epilogue{{c, n}, {p.bias.as<float>(), n}, p.activation, p.accumulate};
  const auto operand = [](const In& t) { return Operand(t.as<float>(), t.shape[0], t.shape[1]); };
  multiply(ctx,
           DenseProduct<kTransposeA, kTransposeB>{
               .a = operand(p.a),
               .b = operand(p.b),
               .m = static_cast<int32_t>(m),
               .n = static_cast<int32_t>(n),
               .k = static_cast<int32_t>(k),
               .num_parts = num_parts,
               .part_length = num_parts > 1 ? kPartLength : static_cast<int32_t>(k),
               .out = {parts ? parts : c, n},
               .epilogue = epilogue},
           {m, n, k}, [&](int64_t tile_m, int64_t tile_n) { return num_parts * num_tiles(tile_m, tile_n); });
  if (parts)
    launch(ctx, SumPartsKernel{parts, m * n, num_parts, epilogue}, blocks_for(ctx, m * n, kElementThreads));
}

}  // namespace

void gemm(Context& ctx, const GemmParams& p) {
  if (p.transpose_a) {
    p.transpose_b ? multiply_dense<true, true>(ctx, p) : multiply_dense<true, false>(ctx, p);
  } else {
    p.transpose_b ? multiply_dense<false, true>(ctx, p) : multiply_dense<false, false>(ctx, p);
  }
}

}  // namespace hr::cuda
