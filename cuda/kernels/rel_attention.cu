// rel_attention: fused attention with relative positions. Contract: ops/rel_attention.h.
//
//   forward    a block has kEdge queries of one head and goes through tiles of keys that any of them sees:
//              scores, online softmax, weights · values, all in registers. The position scores of a step
//              slide through a ring in shared memory (attention_queries.h), so each is computed once.
//   backward   attention_gradients.h; d_scores is written once, by position, in what the products multiply
#include "cuda/kernels/attention_gradients.h"
#include "cuda/kernels/column_sums.h"

namespace hr::cuda {

namespace {

template <Precision kPrecision>
struct RelAttentionKernel {
  using Queries = AttentionQueries<kPrecision, false>;
  using Scores = typename Queries::Scores;
  using Columns = Strip<kHeadColumns / 16>;
  static constexpr int kThreads = Queries::Tile::kThreads;
  static constexpr size_t kSharedBytes = Queries::kSharedBytes;

  AttentionInputs in;
  float* out;  // [q_len, batch, width]
  float* lse;  // [batch, num_heads, q_len]
  int32_t num_tiles;
  bool even;

  HR_DEVICE void operator()() const {
    const AttentionShare share = in.share(block_x(), num_tiles);
    const Queries queries(in, nullptr, share);
    const int columns = in.columns(share.chunk);
    Columns sums = {};
    Softmax softmax;
    for (int32_t t = queries.first - 1; t <= queries.last; ++t) {
      Scores scores = {}, none;
      queries.multiply(t, scores, none);
      if (t < queries.first) continue;
      weigh(queries, share, t, scores, softmax, sums);
      multiply_weights<kPrecision>(sums, scores, queries.values(), columns);
    }
    finish(queries, share, softmax, sums);
    store_strip(sums, out + in.query(share.b, share.h, share.chunk), in.query_stride(),
                queries.i0 + queries.first_row(), in.q_len, columns, even);
  }

 private:
  // Of a lane's two rows, up to the keys so far.
  struct Softmax {
    float largest[2] = {-infinity(), -infinity()};
    float sum[2] = {};  // of e^(score - largest), over the lane's keys
  };

  // Scores become e^(score - largest) after dropout; the sums are scaled to the new largest score.
  HR_DEVICE void weigh(const Queries& queries, const AttentionShare& share, int32_t t, Scores& scores,
                       Softmax& softmax, Columns& sums) const {
    float largest[2] = {softmax.largest[0], softmax.largest[1]};
    queries.for_each(t, [&](const Place& place, int32_t i, int32_t j, float& position0, float& position1) {
      float *x = scores.at(place), &top = largest[place.half];
      x[0] = in.sees(i, j) ? x[0] + position0 : -infinity();
      x[1] = in.sees(i, j + 1) ? x[1] + position1 : -infinity();
      top = x[0] > top ? x[0] : top;
      top = x[1] > top ? x[1] : top;
    });
    float shift[2], factor[2];
    HR_UNROLL
    for (int half = 0; half < 2; ++half) {
      HR_UNROLL
      for (int lanes = 1; lanes < 4; lanes *= 2) {
        largest[half] = MaximumOf::combine(largest[half], warp_shuffle_xor(largest[half], lanes));
      }
      shift[half] = largest[half] == -infinity() ? 0.0f : largest[half];  // where nothing is seen yet
      factor[half] = exp(softmax.largest[half] - shift[half]);
      softmax.largest[half] = largest[half];
      softmax.sum[half] *= factor[half];
    }
    queries.for_each(t, [&](const Place& place, int32_t i, int32_t j, float&, float&) {
      float *x = scores.at(place), keep[2];
      in.keep(in.score_row(share.b, share.h, i), j, keep[0], keep[1]);
      HR_UNROLL
      for (int n = 0; n < 2; ++n) {
        const float weight = exp(x[n] - shift[place.half]);
        softmax.sum[place.half] += weight;
        x[n] = weight * keep[n];
      }
    });
    Columns::for_each_place([&](const Place& place) {
      HR_UNROLL
      for (int n = 0; n < 2; ++n) sums.at(place)[n] *= factor[place.half];
    });
  }

  HR_DEVICE void finish(const Queries& queries, const AttentionShare& share, Softmax& softmax,
                        Columns& sums) const {
    HR_UNROLL
    for (int half = 0; half < 2; ++half) {
      HR_UNROLL
      for (int lanes = 1; lanes < 4; lanes *= 2) {
        softmax.sum[half] += warp_shuffle_xor(softmax.sum[half], lanes);
      }
      const int32_t i = queries.i0 + queries.first_row() + lane_index() / 4 + 8 * half;
      if (share.chunk == 0 && lane_index() % 4 == 0 && i < in.q_len) {
        lse[in.score_row(share.b, share.h, i)] = softmax.largest[half] + log(softmax.sum[half]);
      }
    }
    Columns::for_each_place([&](const Place& place) {
      HR_UNROLL
      for (int n = 0; n < 2; ++n) sums.at(place)[n] /= softmax.sum[place.half];
    });
  }
};

// Whether pairs of columns of every head start at 8-byte boundaries.
bool is_even(const Out& t, int64_t d_head) {
  return d_head % 2 == 0 && reinterpret_cast<uintptr_t>(t.data) % 8 == 0;
}

template <Precision kPrecision>
void run_forward(Context& ctx, const RelAttentionParams& p) {
  using Kernel = RelAttentionKernel<kPrecision>;
  const AttentionInputs in(p);
  const int64_t num_tiles = ceil_div(in.q_len, AttentionTile<kPrecision>::kEdge);
  launch(ctx,
         Kernel{in, p.out.as<float>(), p.lse.as<float>(), static_cast<int32_t>(num_tiles),
                is_even(p.out, in.d_head)},
         {in.num_heads_of_batch() * num_tiles * in.num_chunks()}, Kernel::kSharedBytes);
}

// The batch is cut into groups, whose d_scores exist at a time, and groups into parts, each with a d_p of its
// own. Both depend on the shape alone.
struct BatchCuts {
  static constexpr int64_t kQueryBlocks = 1024;    // of a group, about: enough for a GPU
  static constexpr int64_t kPositionBlocks = 512;  // of a group, about, or more
  int64_t part, group;                             // how many elements of the batch; group % part == 0

  // query_blocks, position_blocks: of one element
  BatchCuts(int64_t batch, int64_t query_blocks, int64_t position_blocks) {
    const int64_t most = std::clamp<int64_t>(kQueryBlocks / query_blocks, 1, batch);
    part = ceil_div(most, std::min(most, ceil_div(kPositionBlocks, position_blocks)));
    group = most / part * part;
  }
};

template <Precision kPrecision>
void run_backward(Context& ctx, const RelAttentionBackwardParams& p) {
  using Tile = AttentionTile<kPrecision>;
  using Element = typename Tile::Element;
  AttentionInputs in(p);
  const float *d_out = p.d_out.as<float>(), *lse = p.lse.as<float>();
  in.aligned = in.aligned && is_aligned16(d_out);
  const int64_t heads = in.num_heads_of_batch(), num_chunks = in.num_chunks();
  const int64_t query_tiles = ceil_div(in.q_len, Tile::kEdge), key_tiles = ceil_div(in.k_len, Tile::kEdge);

  float* means = ctx.workspace<float>(heads * in.q_len);
  launch(ctx, RowMeansKernel{d_out, p.out.as<float>(), means, in.q_len, in.batch, in.num_heads, in.d_head},
         {ceil_div(heads * in.q_len, kReduceWarps)});

  using Keys = KeyGradientsKernel<kPrecision>;
  launch(ctx,
         Keys{in, d_out, lse, means, p.d_kv.as<float>(), static_cast<int32_t>(key_tiles),
              is_even(p.d_kv, in.d_head)},
         {heads * key_tiles * num_chunks}, Keys::kSharedBytes);

  const BatchCuts cuts(in.batch, in.num_heads * query_tiles, in.num_heads * key_tiles * num_chunks);
  const int64_t num_parts = ceil_div(in.batch, cuts.part), stride = key_tiles * Tile::kEdge;
  Out d_p = p.d_p;
  if (num_parts > 1) d_p.data = ctx.workspace<float>(num_parts * p.d_p.size());
  float* d_biases = ctx.workspace<float>(query_tiles * in.batch * 2 * in.width);
  ScoreGradients<Element> d_scores{
      ctx.workspace<Element>(cuts.group * in.num_heads * query_tiles * Tile::kEdge * stride), in.num_heads,
      static_cast<int32_t>(query_tiles), stride};
  for (int64_t first = 0; first < in.batch; first += cuts.group) {
    const int64_t group = std::min(cuts.group, in.batch - first);
    d_scores.first_b = static_cast<int32_t>(first);
    using Queries = QueryGradientsKernel<kPrecision>;
    launch(ctx,
           Queries{in, d_out, lse, means, p.d_q.as<float>(), d_biases, d_scores, is_even(p.d_q, in.d_head)},
           {group * in.num_heads * query_tiles * num_chunks}, Queries::kSharedBytes);
    using Positions = PositionGradientsKernel<kPrecision>;
    launch(ctx,
           Positions{in, d_scores, d_p.as<float>() + first / cuts.part * p.d_p.size(),
                     static_cast<int32_t>(cuts.part), is_even(d_p, in.d_head)},
           {ceil_div(group, cuts.part) * in.num_heads * key_tiles * num_chunks}, Positions::kSharedBytes);
  }
  sum_columns(ctx, {d_biases, query_tiles * in.batch, 2 * in.width, 2 * in.width},
              {p.d_u.as<float>(), p.d_v.as<float>(), in.width, true});
  if (num_parts > 1) {
    sum_columns(ctx, {d_p.as<float>(), num_parts, p.d_p.size(), p.d_p.size()}, {p.d_p.as<float>()});
  }
}

}  // namespace

void rel_attention(Context& ctx, const RelAttentionParams& p) {
  switch (ctx.precision) {
    case Precision::f32:
      return run_forward<Precision::f32>(ctx, p);
    case Precision::tf32:
      return run_forward<Precision::tf32>(ctx, p);
    case Precision::bf16:
      return run_forward<Precision::bf16>(ctx, p);
  }
}

void rel_attention_backward(Context& ctx, const RelAttentionBackwardParams& p) {
  switch (ctx.precision) {
    case Precision::f32:
      return run_backward<Precision::f32>(ctx, p);
    case Precision::tf32:
      return run_backward<Precision::tf32>(ctx, p);
    case Precision::bf16:
      return run_backward<Precision::bf16>(ctx, p);
  }
}

}  // namespace hr::cuda
