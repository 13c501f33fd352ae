// dispatch: routed pairs into expert order, stably, and rows back to tokens. Contract: ops/dispatch.h.
//
// Pairs are cut into chunks, one a block, and chunks into parts, one a warp. A first launch counts each
// chunk's pairs of each expert. In a second one every block adds up the counts of the chunks before its own
// and counts the parts of its own; walking the chunk again gives every pair its row. A warp compares 32 pairs
// by ballots, and lanes of one expert rank by lane: nothing is sorted, and each count has one writer.
//
//   dispatch  bytes  indices read three times (once from cache), two permutations written, kMostCounts counts
//             grid   one block a chunk: 88 for 11264 tokens and top_k 8
//   combine   bytes  routed rows read and out written, 16 bytes a lane, up to 8 rows of a token under way
//             grid   one warp a token
#include "cuda/kernels/index_check.h"
#include "cuda/kernels/index_failure.h"
#include "cuda/kernels/routed_rows.h"
#include "cuda/kernels/row_reduce.h"
#include "cuda/kernels/warp_counts.h"
#include "ops/math/host_device.h"

namespace hr::cuda {

namespace {

constexpr int kBlockThreads = 256;
constexpr int kWarps = kBlockThreads / kWarpSize;
constexpr int kRounds = 4;  // of 32 pairs that a warp loads at once

// The pairs, and how blocks and warps share them.
struct Chunks {
  IndexFailure fail;       // of the launch that counts
  const int32_t* experts;  // [num_pairs]; -1: dropped
  int32_t num_pairs, num_experts;
  int32_t expert_bits;  // that tell experts apart
  int32_t num_chunks, part_pairs;
  int32_t* large;  // [num_chunks, counters()], or null: shared memory has room for a block's counters

  HR_DEVICE int64_t chunk_begin() const { return int64_t{block_x()} * kWarps * part_pairs; }
  HR_DEVICE int64_t chunk_end() const {
    const int64_t end = chunk_begin() + kWarps * int64_t{part_pairs};
    return end < num_pairs ? end : num_pairs;
  }

  // Of each warp, [kWarps, num_experts]; then two numbers for each expert, and one.
  HR_HD int64_t counters() const { return (kWarps + 2) * int64_t{num_experts} + 1; }
  HR_DEVICE int32_t* counters_of_block() const {
    return large ? large + block_x() * counters() : shared_memory<int32_t>();
  }

  HR_DEVICE bool is_expert(int32_t expert) const {
    return static_cast<uint32_t>(expert) < static_cast<uint32_t>(num_experts);
  }

  // Calls fn(flat, expert, same) for the pairs of the warp's part in order, 32 at a time: `expert` is -1 for
  // a dropped pair and past the end, `same` are the lanes with a pair of the same expert.
  template <typename Fn>
  HR_DEVICE void for_pairs(Fn&& fn) const {
    const int64_t begin = chunk_begin() + warp_index() * int64_t{part_pairs}, end = chunk_end();
    for (int64_t first = begin; first < begin + part_pairs && first < end; first += kRounds * kWarpSize) {
      const int64_t own = first + lane_index();
      int32_t expert[kRounds];
      HR_UNROLL
      for (int round = 0; round < kRounds; ++round) {
        const int64_t flat = own + round * kWarpSize;
        expert[round] = flat < end ? experts[flat] : -1;
      }
      HR_UNROLL
      for (int round = 0; round < kRounds; ++round) {
        fn(own + round * kWarpSize, expert[round],
           lanes_with_key(expert[round], expert_bits, is_expert(expert[round])));
        warp_barrier();
      }
    }
  }

  // counters[e] of each warp = how many pairs of its part are for expert e.
  HR_DEVICE void count_parts(int32_t* counters) const {
    int32_t* own = counters + warp_index() * int64_t{num_experts};
    for (int32_t e = lane_index(); e < num_experts; e += kWarpSize) own[e] = 0;
    warp_barrier();
    for_pairs([&](int64_t flat, int32_t expert, uint32_t same) {
      if (expert < -1 || expert >= num_experts) fail(flat, expert, -1, num_experts - 1);
      if (is_expert(expert) && is_first(same)) own[expert] += count_ones(same);
    });
  }
};

struct CountKernel {
  static constexpr int kThreads = kBlockThreads;
  Chunks chunks;
  int32_t* counts;  // [num_experts, num_chunks]

  HR_DEVICE void operator()() const {
    const int32_t* of_parts = chunks.counters_of_block();
    chunks.count_parts(chunks.counters_of_block());
    barrier();
    for (int32_t e = thread_index(); e < chunks.num_experts; e += kThreads) {
      int32_t count = 0;
      for (int warp = 0; warp < kWarps; ++warp) count += of_parts[warp * int64_t{chunks.num_experts} + e];
      counts[e * int64_t{chunks.num_chunks} + block_x()] = count;
    }
  }
};

struct PlaceKernel {
  static constexpr int kThreads = kBlockThreads;
  Chunks chunks;
  const int32_t* counts;         // [num_experts, num_chunks]
  int32_t* expert_offsets;       // [num_experts + 1]
  int32_t* permutation;          // [num_pairs]
  int32_t* inverse_permutation;  // [num_pairs]

  HR_DEVICE void operator()() const {
    int32_t* next_row = chunks.counters_of_block();  // [kWarps, num_experts]
    int32_t* before = next_row + kWarps * int64_t{chunks.num_experts};
    int32_t* offsets = before + chunks.num_experts;  // [num_experts + 1]
    chunks.count_parts(next_row);
    add_chunks(before, offsets);
    barrier();
    if (warp_index() == 0) add_experts(offsets);
    barrier();
    add_parts(next_row, before, offsets);
    barrier();
    place(next_row + warp_index() * int64_t{chunks.num_experts});
    const int64_t first_unused = offsets[chunks.num_experts];
    const int64_t begin = first_unused > chunks.chunk_begin() ? first_unused : chunks.chunk_begin();
    for (int64_t row = begin + thread_index(); row < chunks.chunk_end(); row += kThreads)
      permutation[row] = -1;
  }

 private:
  // Of each expert the pairs in the chunks before this one, and in all chunks.
  HR_DEVICE void add_chunks(int32_t* before, int32_t* total) const {
    for (int32_t e = warp_index(); e < chunks.num_experts; e += kWarps) {
      int32_t sum_before = 0, sum = 0;
      for (int32_t chunk = lane_index(); chunk < chunks.num_chunks; chunk += kWarpSize) {
        const int32_t count = counts[e * int64_t{chunks.num_chunks} + chunk];
        sum_before += chunk < block_x() ? count : 0;
        sum += count;
      }
      sum_before = reduce_warp<SumOf>(sum_before);
      sum = reduce_warp<SumOf>(sum);
      if (lane_index() == 0) {
        before[e] = sum_before;
        total[e] = sum;
      }
    }
  }

  // From the total of each expert to its first row; one more for the end. One warp.
  HR_DEVICE void add_experts(int32_t* offsets) const {
    int32_t start = 0;
    for (int32_t first = 0; first < chunks.num_experts; first += kWarpSize) {
      const int32_t e = first + lane_index();
      const int32_t total = e < chunks.num_experts ? offsets[e] : 0;
      const int32_t sum = sum_up_to_lane(total);
      if (e < chunks.num_experts) store_offset(offsets, e, start + sum - total);
      start += warp_shuffle(sum, kWarpSize - 1);
    }
    if (lane_index() == 0) store_offset(offsets, chunks.num_experts, start);
  }

  HR_DEVICE void store_offset(int32_t* offsets, int32_t e, int32_t row) const {
    offsets[e] = row;
    if (block_x() == 0) expert_offsets[e] = row;
  }

  // From the count of each part to the row where its share of each expert begins.
  HR_DEVICE void add_parts(int32_t* parts, const int32_t* before, const int32_t* offsets) const {
    for (int32_t e = thread_index(); e < chunks.num_experts; e += kThreads) {
      int32_t row = offsets[e] + before[e];
      for (int warp = 0; warp < kWarps; ++warp) {
        int32_t& part = parts[warp * int64_t{chunks.num_experts} + e];
        const int32_t count = part;
        part = row;
        row += count;
      }
    }
  }

  HR_DEVICE void place(int32_t* next_row) const {
    chunks.for_pairs([&](int64_t flat, int32_t expert, uint32_t same) {
      if (expert >= 0) {
        const int32_t row = next_row[expert] + count_ones(same & lanes_before());
        permutation[row] = static_cast<int32_t>(flat);
        inverse_permutation[flat] = row;
      } else if (flat < chunks.chunk_end()) {
        inverse_permutation[flat] = -1;
      }
      warp_barrier();  // all lanes have read what the first of them now moves
      if (expert >= 0 && is_first(same)) next_row[expert] += count_ones(same);
    });
  }
};

constexpr int64_t kChunkPairs = kRounds * kBlockThreads;  // or a multiple
constexpr int64_t kMostCounts = 1 << 14;                  // of all chunks, about: every block reads them
constexpr int64_t kFewestChunks = 16;                     // that the limit above allows
constexpr size_t kSharedBytes = 48 << 10;

Chunks chunks_of(Context& ctx, const DispatchParams& p) {
  const int64_t num_pairs = p.expert_indices.size(), num_experts = p.expert_offsets.shape[0] - 1;
  const int64_t most_chunks = std::max(kMostCounts / num_experts, kFewestChunks);
  const int64_t chunk_pairs = ceil_div(ceil_div(num_pairs, most_chunks), kChunkPairs) * kChunkPairs;
  Chunks chunks{IndexFailure::next_launch(ctx, "dispatch", "expert_indices"),
                p.expert_indices.as<int32_t>(),
                static_cast<int32_t>(num_pairs),
                static_cast<int32_t>(num_experts),
                0,
                static_cast<int32_t>(ceil_div(num_pairs, chunk_pairs)),
                static_cast<int32_t>(chunk_pairs / kWarps),
                nullptr};
  while (int64_t{1} << chunks.expert_bits < num_experts) ++chunks.expert_bits;
  if (chunks.counters() * sizeof(int32_t) > kSharedBytes) {
    chunks.large = ctx.workspace<int32_t>(chunks.num_chunks * chunks.counters());
  }
  return chunks;
}

// out[t] (+)= Σ_slot rows[inverse_permutation[t · top_k + slot]]
struct CombineKernel {
  static constexpr int kThreads = kBlockThreads;
  static constexpr int kMinBlocks = 4;
  RoutedRows routed;
  float* out;  // [num_tokens, d_model]
  int64_t num_tokens;
  bool accumulate;

  HR_DEVICE void operator()() const {
    const int64_t token = int64_t{block_x()} * kWarps + warp_index();
    if (token >= num_tokens) return;
    float* out_row = out + token * routed.d_model;
    for (int column = 4 * lane_index(); column < routed.d_model; column += 4 * kWarpSize) {
      const int count = routed.d_model - column;
      Quad sum = accumulate ? load_quad(out_row + column, count, routed.aligned) : Quad{};
      routed.add(token, column, sum);
      store_quad(out_row + column, sum, count, routed.aligned);
    }
  }
};

}  // namespace

void dispatch(Context& ctx, const DispatchParams& p) {
  const Chunks chunks = chunks_of(ctx, p);
  int32_t* counts = ctx.workspace<int32_t>(int64_t{chunks.num_experts} * chunks.num_chunks);
  const size_t shared_bytes = chunks.large ? 0 : chunks.counters() * sizeof(int32_t);
  launch(ctx, CountKernel{chunks, counts}, {chunks.num_chunks}, shared_bytes);
  launch(ctx,
         PlaceKernel{chunks, counts, p.expert_offsets.as<int32_t>(), p.permutation.as<int32_t>(),
                     p.inverse_permutation.as<int32_t>()},
         {chunks.num_chunks}, shared_bytes);
}

void combine(Context& ctx, const CombineParams& p) {
  const int32_t* inverse_permutation = p.inverse_permutation.as<int32_t>();
  const int64_t num_routed = p.rows.shape[0], d_model = p.rows.shape[1], num_tokens = p.out.shape[0];
  check_indices(ctx, "combine", "inverse_permutation", inverse_permutation, num_routed, -1, num_routed - 1);
  const bool aligned = d_model % 4 == 0 && is_aligned16(p.rows.data) && is_aligned16(p.out.data);
  const RoutedRows routed{p.rows.as<float>(), inverse_permutation, static_cast<int>(d_model), p.top_k,
                          aligned};
  launch(ctx, CombineKernel{routed, p.out.as<float>(), num_tokens, p.accumulate},
         {ceil_div(num_tokens, kWarps)});
}

}  // namespace hr::cuda
