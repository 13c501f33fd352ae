// tiled_product: c = a · b on tensor cores, tile by tile, for every op that multiplies matrices.
//
//   for each tile of c:   stage 0   stage 1   stage 2    kStages stages in shared memory, each of kTileK
//                           ^ multiply      ^ load       columns of a and rows of b; one barrier a stage
//
// Which tile a block computes, where rows of a and b lie, and what becomes of the sums is the Product's
// business, so that dense, gathered and per-expert products share this loop. A Product is a struct with
//   kLayoutA, kLayoutB                               see tile_loader.h
//   a, b                                             an Operand each
//   best_tiles(precision) -> TileChoice              for products that fill the GPU
//   find(block, tile_m, tile_n, Tile&) -> bool       the tile of this block; false: there is none
//   first_row_a(tile), first_row_b(tile) -> int32_t  the row of the operand that a tile's rows count from
//   read(tile, r, column, count) -> Operands         what the epilogue needs from memory, for
//   store(tile, r, column, count, sums, operands)    the first `count` of four sums; 0: outside of c
// Sums go through shared memory, so that an epilogue has four at a time and its code is there once. Whole
// warps call both: kQuadLanes neighbouring lanes have kQuadColumns neighbouring columns of a row. A Product
// with store_vector also multiplies a by a vector, in the tiles of the first columns:
//   has_vector(tile) -> bool                         whether there is one
//   vector(tile, k) -> float                         number k of it
//   store_vector(tile, r, sum)                       the sum of row r
// A Product with num_groups() sums over k .. k_end of that many groups, one after another: first_row_a and
// first_row_b get a tile that names the group. All coordinates are those of the whole c, a or b. Each element
// is summed along k in one fixed order, whatever the tile: results do not depend on the grid.
#pragma once

#include "cuda/kernels/quads.h"
#include "cuda/kernels/tile_fragments.h"

namespace hr::cuda {

// Part of c, and the part of k that it sums over.
struct Tile {
  int32_t row, row_end;        // of c; row_end may lie inside of the tile
  int32_t column, column_end;  // of c
  int32_t k, k_end;
  int32_t group;  // for the Product: an expert, a part of k
};

// kWarpsM x kWarpsN warps, each with a part of the tile of its own.
template <int kTileM, int kTileN, int kWarpsM, int kWarpsN>
struct TileShape {
  static constexpr int kM = kTileM, kN = kTileN;
  static constexpr int kThreads = kWarpsM * kWarpsN * kWarpSize;
  static constexpr int kWarpM = kTileM / kWarpsM, kWarpN = kTileN / kWarpsN;
  static constexpr int kColumnsOfWarps = kWarpsN;
};
struct SmallTile : TileShape<64, 64, 2, 2> {
  static constexpr Stored kStoredA = Stored::f32, kStoredB = Stored::f32;
};
struct LargeTile : TileShape<128, 128, 2, 4> {
  static constexpr Stored kStoredA = Stored::either, kStoredB = Stored::either;
};
struct WideTile : TileShape<128, 256, 2, 4> {
  static constexpr Stored kStoredA = Stored::either, kStoredB = Stored::bf16;
};

enum class TileChoice { small, large, wide };
// Of a product with weights as b. Rows of a, which may be read too seldom to be rounded, are read half as
// often by wide tiles.
constexpr TileChoice wide_in_bf16(Precision precision) {
  return precision == Precision::bf16 ? TileChoice::wide : TileChoice::large;
}
// Of a product whose large tiles do not fit the registers of a thread in f32, where it takes three products,
// or are not worth a kernel there.
constexpr TileChoice small_in_f32(Precision precision, TileChoice others) {
  return precision == Precision::f32 ? TileChoice::small : others;
}

inline constexpr int kQuadColumns = 32;
inline constexpr int kQuadLanes = kQuadColumns / 4;

template <typename Product, Precision kPrecision, typename Shape>
struct ProductKernel {
  static constexpr int kThreads = Shape::kThreads;
  static constexpr int kStages = kPrecision == Precision::bf16 ? 4 : 3;  // a stage of bf16 has half the bytes
  static constexpr bool kWithVector = requires { &Product::store_vector; };
  static constexpr bool kSumsGroups = requires { &Product::num_groups; };

  using Element = typename Arithmetic<kPrecision>::Element;
  using StorageA = TileStorage<Element, Product::kLayoutA, Shape::kM>;
  using StorageB = TileStorage<Element, Product::kLayoutB, Shape::kN>;
  static constexpr size_t kStageBytes = StorageA::kBytes + StorageB::kBytes;
  static constexpr int kQuadPitch = kQuadColumns + 8;  // eight rows of a fragment meet no bank twice
  static constexpr size_t kQuadBytes = kThreads / kWarpSize * Shape::kWarpM * kQuadPitch * sizeof(float);
  static constexpr size_t kSharedBytes = std::max(kStages * kStageBytes, kQuadBytes);
  static constexpr int kBlocksM = Shape::kWarpM / 16, kBlocksN = Shape::kWarpN / 8;

  Product product;

  HR_DEVICE void operator()() const {
    Tile tile;
    if (!product.find(block_x(), Shape::kM, Shape::kN, tile)) return;
    float sums[kBlocksM][kBlocksN][4] = {};
    multiply(tile, sums);
    store(tile, sums);
  }

 private:
  HR_DEVICE static Element* stage_a(int stage) { return shared_memory<Element>(stage * kStageBytes); }
  HR_DEVICE static Element* stage_b(int stage) {
    return shared_memory<Element>(stage * kStageBytes + StorageA::kBytes);
  }

  template <Layout kLayout>
  HR_DEVICE static TileBounds bounds(int32_t first, int32_t end, int32_t k, int32_t k_end) {
    if constexpr (kLayout == Layout::by_row) return {first, end, k, k_end};
    return {k, k_end, first, end};
  }

  HR_DEVICE static int32_t stages_of_group(const Tile& tile) {
    return (tile.k_end - tile.k + kTileK - 1) / kTileK;
  }
  HR_DEVICE int32_t count_stages(const Tile& tile) const {
    if constexpr (kSumsGroups) return stages_of_group(tile) * product.num_groups();
    return stages_of_group(tile);
  }
  // The k where stage `number` begins; `group` becomes that of the stage.
  HR_DEVICE static int32_t find_stage(const Tile& tile, int32_t number, int32_t& group) {
    if constexpr (kSumsGroups) {
      group = number / stages_of_group(tile);
      number -= group * stages_of_group(tile);
    }
    return tile.k + number * kTileK;
  }

  HR_DEVICE void multiply(const Tile& tile, float (&sums)[kBlocksM][kBlocksN][4]) const {
    TileLoader<Element, Product::kLayoutA, Shape::kM, kThreads, Shape::kStoredA> a(product.a);
    TileLoader<Element, Product::kLayoutB, Shape::kN, kThreads, Shape::kStoredB> b(product.b);
    const int32_t num_stages = count_stages(tile);
    const auto start = [&](int32_t number) {  // past the end there is nothing left to copy
      Tile part = tile;
      const int32_t k = find_stage(tile, number, part.group);
      const int stage = number % kStages;
      if (number < num_stages) {
        a.start(stage_a(stage), bounds<Product::kLayoutA>(tile.row, tile.row_end, k, tile.k_end),
                product.first_row_a(part));
        b.start(stage_b(stage), bounds<Product::kLayoutB>(tile.column, tile.column_end, k, tile.k_end),
                product.first_row_b(part));
      }
      copy_async_commit();
    };
    const auto finish = [&](int32_t number) {
      if (number >= num_stages) return;
      a.finish(stage_a(number % kStages));
      b.finish(stage_b(number % kStages));
    };
    for (int32_t number = 0; number < kStages - 1; ++number) {
      start(number);
      finish(number);
    }
    VectorProduct vector(product, tile);
    for (int32_t number = 0; number < num_stages; ++number) {
      copy_async_wait<kStages - 2>();
      barrier();  // the stage is there, and nobody reads the one that is loaded next
      start(number + kStages - 1);
      multiply_stage(stage_a(number % kStages), stage_b(number % kStages), sums);
      vector.add(stage_a(number % kStages), tile.k + number * kTileK);
      finish(number + kStages - 1);
    }
    copy_async_wait<0>();
    vector.store();
  }

  // Of one row of a, a thread's.
  class VectorProduct {
   public:
    HR_DEVICE VectorProduct(const Product& product, const Tile& tile) : product_(product), tile_(tile) {
      if constexpr (kWithVector) {
        wanted_ = thread_index() < Shape::kM && tile.column == 0 && product.has_vector(tile);
        if (wanted_) numbers_ = numbers(tile.k);
      }
    }
    HR_DEVICE void add(const Element* stage, int32_t k) {
      if constexpr (kWithVector) {
        if (!wanted_) return;
        const float now = numbers_;
        numbers_ = numbers(k + kTileK);  // on their way while these are used
        sum_ = add_vector_product<kPrecision, Product::kLayoutA, Shape::kM>(sum_, stage, thread_index(), now);
      }
    }
    HR_DEVICE void store() const {
      if constexpr (kWithVector) {
        const int32_t row = tile_.row + thread_index();
        if (wanted_ && row < tile_.row_end) product_.store_vector(tile_, row, sum_);
      }
    }

   private:
    HR_DEVICE float numbers(int32_t k) const {  // of the vector, one a lane
      k += lane_index();
      return k < tile_.k_end ? product_.vector(tile_, k) : 0.0f;
    }

    const Product& product_;
    const Tile& tile_;
    bool wanted_ = false;
    float numbers_ = 0, sum_ = 0;
  };

  HR_DEVICE static int warp_row() { return warp_index() / Shape::kColumnsOfWarps * Shape::kWarpM; }
  HR_DEVICE static int warp_column() { return warp_index() % Shape::kColumnsOfWarps * Shape::kWarpN; }

  HR_DEVICE static void multiply_stage(const Element* a_tile, const Element* b_tile,
                                       float (&sums)[kBlocksM][kBlocksN][4]) {
    HR_UNROLL
    for (int k = 0; k < kTileK; k += Arithmetic<kPrecision>::kStep) {
      uint32_t a[kBlocksM][4], b[kBlocksN][2];
      load_a<Element, Product::kLayoutA, Shape::kM>(a, a_tile, warp_row(), k);
      load_b<Element, Product::kLayoutB, Shape::kN>(b, b_tile, warp_column(), k);
      multiply_fragments<kPrecision>(sums, a, b);
    }
  }

  // Each warp turns its own part around, kQuadColumns at a time.
  HR_DEVICE void store(const Tile& tile, const float (&sums)[kBlocksM][kBlocksN][4]) const {
    static_assert(Shape::kWarpN % kQuadColumns == 0);
    constexpr int kBlocks = kQuadColumns / 8;
    float* part = shared_memory<float>() + warp_index() * Shape::kWarpM * kQuadPitch;
    barrier();  // nobody reads the stages any more
    HR_NO_UNROLL
    for (int number = 0; number < kBlocksN / kBlocks; ++number) {
      if (number > 0) warp_barrier();
      HR_UNROLL
      for (int j = 0; j < kBlocksN; ++j) {
        if (j / kBlocks == number) turn_block(part, j % kBlocks, sums, j);
      }
      warp_barrier();
      store_part(tile, warp_column() + number * kQuadColumns, part);
    }
  }

  // Puts eight columns of sums into the part.
  HR_DEVICE static void turn_block(float* part, int to, const float (&sums)[kBlocksM][kBlocksN][4], int j) {
    const int lane = lane_index();
    HR_UNROLL
    for (int i = 0; i < 2 * kBlocksM; ++i) {
      store2(part + (i * 8 + lane / 4) * kQuadPitch + lane % 4 * 2 + to * 8, sums[i / 2][j][i % 2 * 2],
             sums[i / 2][j][i % 2 * 2 + 1]);
    }
  }

  HR_DEVICE void store_part(const Tile& tile, int first_column, const float* part) const {
    constexpr int kRows = kWarpSize / kQuadLanes, kRounds = 4;  // of rows whose operands are under way
    const int lane = lane_index();
    const int32_t column = tile.column + first_column + lane % kQuadLanes * 4;
    const int columns = tile.column_end > column ? quad_count(tile.column_end - column) : 0;
    for (int first = lane / kQuadLanes; first < Shape::kWarpM; first += kRounds * kRows) {
      const int32_t row = tile.row + warp_row() + first;
      const auto count = [&](int round) { return row + round * kRows < tile.row_end ? columns : 0; };
      typename Product::Operands operands[kRounds];
      HR_UNROLL
      for (int round = 0; round < kRounds; ++round)
        operands[round] = product.read(tile, row + round * kRows, column, count(round));
      HR_UNROLL
      for (int round = 0; round < kRounds; ++round) {
        const Quad quad = load<4>(part + (first + round * kRows) * kQuadPitch + lane % kQuadLanes * 4);
        product.store(tile, row + round * kRows, column, count(round), quad, operands[round]);
      }
    }
  }
};

// Orders tiles so that blocks that run together share rows of a and b in the L2 cache: columns of up to
// kRasterRows tiles, one after another.
struct Raster {
  int32_t tiles_m, tiles_n;
  static constexpr int32_t kRasterRows = 8;

  HR_DEVICE void tile_at(int32_t index, int32_t& m, int32_t& n) const {
    const int32_t band = index / (kRasterRows * tiles_n);
    const int32_t left = tiles_m - band * kRasterRows;
    const int32_t rows = left < kRasterRows ? left : kRasterRows;
    const int32_t within = index - band * kRasterRows * tiles_n;
    m = band * kRasterRows + within % rows;
    n = within / rows;
  }
};

// What is multiplied, over all tiles: m·k numbers with k·n.
struct ProductSize {
  int64_t m, n, k;
};

inline constexpr int64_t kFewestReadsOfWeights = 3;  // by wide tiles, which have them rounded

// Multiplies in the best tiles if the result has a large one for each multiprocessor, and fills them, else in
// small ones. num_tiles(tile_m, tile_n): how many tiles there are at most.
template <Precision kPrecision, typename Product, typename NumTiles>
void multiply_in(Context& ctx, Product product, const ProductSize& size, const NumTiles& num_tiles) {
  constexpr TileChoice kBest = Product::best_tiles(kPrecision);
  if constexpr (kBest != TileChoice::small) {
    using Shape = std::conditional_t<kBest == TileChoice::wide, WideTile, LargeTile>;
    using Kernel = ProductKernel<Product, kPrecision, Shape>;
    const int64_t read_of_a = size.m * size.k * ceil_div(size.n, Shape::kN);
    const int64_t read_of_b = size.n * size.k * ceil_div(size.m, Shape::kM);
    const bool half_empty = std::min(size.m, size.n) <= SmallTile::kM;
    const bool fill_gpu = num_tiles(LargeTile::kM, LargeTile::kN) >= ctx.num_multiprocessors;
    const bool rounds_b = kBest == TileChoice::wide;
    if (fill_gpu && !half_empty && (!rounds_b || read_of_b >= kFewestReadsOfWeights * product.b.size())) {
      if constexpr (kPrecision == Precision::bf16) {
        if (is_worth_rounding(ctx, product.a, read_of_a)) product.a = rounded(ctx, product.a);
        if (rounds_b || is_worth_rounding(ctx, product.b, read_of_b)) product.b = rounded(ctx, product.b);
      }
      return launch(ctx, Kernel{product}, {num_tiles(Shape::kM, Shape::kN)}, Kernel::kSharedBytes);
    }
  }
  using Kernel = ProductKernel<Product, kPrecision, SmallTile>;
  launch(ctx, Kernel{product}, {num_tiles(SmallTile::kM, SmallTile::kN)}, Kernel::kSharedBytes);
}

// The same in the context's precision.
template <typename Product, typename NumTiles>
void multiply(Context& ctx, const Product& product, const ProductSize& size, const NumTiles& num_tiles) {
  switch (ctx.precision) {
    case Precision::f32:
      return multiply_in<Precision::f32>(ctx, product, size, num_tiles);
    case Precision::tf32:
      return multiply_in<Precision::tf32>(ctx, product, size, num_tiles);
    case Precision::bf16:
      return multiply_in<Precision::bf16>(ctx, product, size, num_tiles);
  }
}

}  // namespace hr::cuda
