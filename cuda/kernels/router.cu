// router: scores, the best experts of each token and their weights. Contract: ops/router.h.
//
// router_topk is one launch. A warp scores 16 tokens on tensor cores straight from global memory: which
// columns of x meet in one instruction is free, so a lane takes four neighbouring ones. Scores are exact to
// f32 whatever the device's precision, as a wrong one changes the experts: three tf32 products, added up
// outside of the tensor cores every 16 columns because those truncate. d_model is cut into kParts, summed
// apart, then in order: by a warp each where tokens or experts are few, one after another where more tokens
// should share the rows of router_weight that a block reads. The bits are the same.
//
//   bytes  x read once, router_weight once a block (from cache), logits, indices and weights written
//   grid   16 tokens a block of four warps, 704 blocks for 11264 tokens; or 64
//
// Up to 32 experts a token's lanes hold its scores, and the slot of an expert is the number of those before
// it. More are searched once for each slot, by a warp.
#include "cuda/kernels/index_check.h"
#include "cuda/kernels/quads.h"
#include "cuda/kernels/tile_fragments.h"
#include "cuda/kernels/token_lanes.h"

namespace hr::cuda {

namespace {

constexpr int kBlockThreads = 128;
constexpr int kWarps = kBlockThreads / kWarpSize;
constexpr int kTileTokens = 16, kTileExperts = 8;  // of a matrix instruction
constexpr int kStepColumns = 16;                   // of x, that are multiplied at a time
constexpr int kParts = 4;                          // of d_model

// Where the block's scores go, and where those that are given lie.
struct Logits {
  float* data;  // [num_tokens, num_experts]
  int64_t num_tokens;
  int num_experts;
};

// logits = x · router_weightᵀ + router_bias, kTiles · 8 experts at a time. kSpread: a warp each for the parts
// of d_model, else a warp for all of them.
template <int kTiles, int kSteps, bool kSpread>
struct Scorer {
  static_assert(kParts == kWarps);
  static constexpr int kTokens = kSpread ? kTileTokens : kWarps * kTileTokens;  // of a block
  static constexpr int kExperts = kTiles * kTileExperts;
  static constexpr int kMinBlocks = kTiles > 2 ? 4 : 6;
  static constexpr size_t kSharedBytes = kSpread ? kParts * kTileTokens * kExperts * sizeof(float) : 0;
  using Sums = float[kTiles][4];

  const float* x;       // [num_tokens, d_model]
  const float* weight;  // [num_experts, d_model]
  const float* bias;    // [num_experts], or null
  int d_model;
  bool aligned;

  HR_DEVICE void operator()(const Logits& logits, int64_t first_token) const {
    const int64_t token = kSpread ? first_token : first_token + warp_index() * kTileTokens;
    for (int expert = 0; expert < logits.num_experts; expert += kExperts) {
      if constexpr (kSpread) {
        Sums sums = {};
        add_part(logits, token, expert, warp_index(), sums);
        if (expert > 0) barrier();  // the experts before these have been stored
        share(sums);
        barrier();
        for (int i = thread_index(); i < kTileTokens * kExperts; i += kBlockThreads) {
          const float* of_parts = shared_memory<float>() + i;
          float sum = of_parts[0];
          HR_UNROLL
          for (int part = 1; part < kParts; ++part) sum += of_parts[part * kTileTokens * kExperts];
          store(logits, token + i / kExperts, expert + i % kExperts, sum);
        }
      } else {
        Sums total = {};
        for (int part = 0; part < kParts; ++part) {
          Sums sums = {};
          add_part(logits, token, expert, part, sums);
          add(sums, total);
        }
        for_sums([&](int row, int column, int tile, int i) {
          store(logits, token + row, expert + column, total[tile][i]);
        });
      }
    }
  }

 private:
  HR_DEVICE static void add(const Sums& from, Sums& to) {
    HR_UNROLL
    for (int tile = 0; tile < kTiles; ++tile) {
      HR_UNROLL
      for (int i = 0; i < 4; ++i) to[tile][i] += from[tile][i];
    }
  }

  // Calls fn(token, expert, tile, i) for each sum of the lane, [tile][i].
  template <typename Fn>
  HR_DEVICE static void for_sums(Fn&& fn) {
    HR_UNROLL
    for (int tile = 0; tile < kTiles; ++tile) {
      HR_UNROLL
      for (int i = 0; i < 4; ++i) {
        fn(lane_index() / 4 + i / 2 * 8, tile * kTileExperts + lane_index() % 4 * 2 + i % 2, tile, i);
      }
    }
  }

  HR_DEVICE static void share(const Sums& sums) {
    float* own = shared_memory<float>() + warp_index() * kTileTokens * kExperts;
    for_sums([&](int row, int column, int tile, int i) { own[row * kExperts + column] = sums[tile][i]; });
  }

  HR_DEVICE void store(const Logits& logits, int64_t token, int expert, float sum) const {
    if (token >= logits.num_tokens || expert >= logits.num_experts) return;
    logits.data[token * logits.num_experts + expert] = bias ? sum + bias[expert] : sum;
  }

  HR_DEVICE void add_part(const Logits& logits, int64_t token, int expert, int part, Sums& sums) const {
    const int steps = (d_model + kStepColumns - 1) / kStepColumns;
    const int part_columns = (steps + kParts - 1) / kParts * kStepColumns;
    const int end = (part + 1) * part_columns < d_model ? (part + 1) * part_columns : d_model;
    const float* x_rows = x + token * d_model;
    const float* weight_rows = weight + expert * int64_t{d_model};
    const int64_t tokens_left = logits.num_tokens - token;
    const int num_tokens = tokens_left < kTileTokens ? static_cast<int>(tokens_left) : kTileTokens;
    const int num_experts = logits.num_experts - expert;
    for (int column = part * part_columns; column < end; column += kSteps * kStepColumns) {
      Quad of_tokens[kSteps][2];
      const int own = column + lane_index() % 4 * 4, row = lane_index() / 4;
      HR_UNROLL
      for (int i = 0; i < 2 * kSteps; ++i) {
        const int from = own + i / 2 * kStepColumns;
        of_tokens[i / 2][i % 2] = load(x_rows, row + i % 2 * 8, num_tokens, from, end);
      }
      HR_UNROLL
      for (int step = 0; step < kSteps; ++step) {
        multiply(of_tokens[step], sums, [&](int tile) {
          return load(weight_rows, row + tile * kTileExperts, num_experts, own + step * kStepColumns, end);
        });
      }
    }
  }

  // Numbers from .. from + 3 of a row, 0 where there are none.
  HR_DEVICE Quad load(const float* rows, int row, int num_rows, int from, int end) const {
    return load_quad(rows + row * d_model + from, row < num_rows ? end - from : 0, aligned);
  }

  // sums += x · weightᵀ over kStepColumns columns, as many as two instructions take.
  template <typename Experts>
  HR_DEVICE static void multiply(const Quad (&of_tokens)[2], Sums& sums, Experts&& experts) {
    uint32_t a[2][1][4], a_low[2][1][4];
    HR_UNROLL
    for (int half = 0; half < 2; ++half) {
      HR_UNROLL
      for (int i = 0; i < 4; ++i) a[half][0][i] = math::bits_of(of_tokens[i % 2].v[2 * half + i / 2]);
      split_tf32(a[half], a_low[half]);
    }
    HR_UNROLL
    for (int tile = 0; tile < kTiles; ++tile) {
      const Quad w = experts(tile);
      float products[1][1][4] = {};
      HR_UNROLL
      for (int half = 0; half < 2; ++half) {
        uint32_t b[1][2] = {{math::bits_of(w.v[2 * half]), math::bits_of(w.v[2 * half + 1])}}, b_low[1][2];
        split_tf32(b, b_low);
        warp_multiply_tf32(products, a_low[half], b);
        warp_multiply_tf32(products, a[half], b_low);
        warp_multiply_tf32(products, a[half], b);
      }
      HR_UNROLL
      for (int i = 0; i < 4; ++i) sums[tile][i] += products[0][0][i];
    }
  }
};

// Logits that the caller gives.
struct NoScorer {
  static constexpr int kTokens = 4 * kTileTokens;
  static constexpr int kMinBlocks = 8;
  static constexpr size_t kSharedBytes = 0;
  HR_DEVICE void operator()(const Logits&, int64_t) const {}
};

// An expert as it is ranked: better ones first, ties by index; NaN is -inf.
struct Candidate {
  float value;
  int expert;

  static HR_DEVICE Candidate of(float logit, int expert) {
    return {logit == logit ? logit : -infinity(), expert};
  }
  HR_DEVICE bool goes_before(const Candidate& other) const {
    return value > other.value || (value == other.value && expert < other.expert);
  }
  // exp(value - best): infinite logits share the weight instead of giving NaN.
  HR_DEVICE float share(float best) const { return exp(value == best ? 0.0f : value - best); }
};

template <typename Score>
struct RouterTopKKernel {
  static constexpr int kThreads = kBlockThreads;
  static constexpr int kMinBlocks = Score::kMinBlocks;
  Score score;
  Logits logits;
  int32_t* expert_indices;  // [num_tokens, top_k]
  float* expert_weights;    // [num_tokens, top_k]
  int top_k;
  bool uniform;
  TokenLanes lanes;

  HR_DEVICE void operator()() const {
    const int64_t first = int64_t{block_x()} * Score::kTokens;
    const int64_t end =
        first + Score::kTokens < logits.num_tokens ? first + Score::kTokens : logits.num_tokens;
    score(logits, first);
    barrier();
    if (logits.num_experts <= kWarpSize) {
      select_by_rank(first, end);
    } else {
      for (int64_t token = first + warp_index(); token < end; token += kWarps) select_in_turn(token);
    }
  }

 private:
  HR_DEVICE void select_by_rank(int64_t first, int64_t end) const {
    const int at_once = kThreads / lanes.num_lanes;
    for (; first < end; first += at_once) {
      const int64_t token = first + lanes.token();
      const bool exists = token < end && lanes.index() < logits.num_experts;
      const float logit = exists ? logits.data[token * logits.num_experts + lanes.index()] : -infinity();
      const Candidate own = Candidate::of(logit, lanes.index());
      int slot = 0;
      for (int expert = 0; expert < logits.num_experts; ++expert) {
        const Candidate other{warp_shuffle(own.value, lanes.first_lane() + expert), expert};
        slot += other.goes_before(own);
      }
      const bool kept = exists && slot < top_k;
      const float share = own.share(lanes.reduce<MaximumOf>(own.value));
      const float sum = lanes.reduce<SumOf>(kept ? share : 0.0f);
      if (!kept) continue;
      expert_indices[token * top_k + slot] = own.expert;
      expert_weights[token * top_k + slot] = uniform ? 1.0f / static_cast<float>(top_k) : share / sum;
    }
  }

  HR_DEVICE void select_in_turn(int64_t token) const {
    int32_t* indices = expert_indices + token * top_k;
    float* weights = expert_weights + token * top_k;
    Candidate last{infinity(), -1};
    float best = 0, sum = 0;
    for (int slot = 0; slot < top_k; ++slot) {
      last = next_after(last, logits.data + token * logits.num_experts);
      if (slot == 0) best = last.value;
      const float share = last.share(best);
      sum += share;
      if (lane_index() == 0) {
        indices[slot] = last.expert;
        weights[slot] = share;
      }
    }
    warp_barrier();
    for (int slot = lane_index(); slot < top_k; slot += kWarpSize) {
      weights[slot] = uniform ? 1.0f / static_cast<float>(top_k) : weights[slot] / sum;
    }
  }

  HR_DEVICE Candidate next_after(const Candidate& last, const float* row) const {
    Candidate next{-infinity(), logits.num_experts};
    for (int expert = lane_index(); expert < logits.num_experts; expert += kWarpSize) {
      const Candidate own = Candidate::of(row[expert], expert);
      if (last.goes_before(own) && own.goes_before(next)) next = own;
    }
    HR_UNROLL
    for (int lanes = kWarpSize / 2; lanes > 0; lanes /= 2) {
      const Candidate other{warp_shuffle_xor(next.value, lanes), warp_shuffle_xor(next.expert, lanes)};
      if (other.goes_before(next)) next = other;
    }
    return next;
  }
};

template <typename Score>
void select(Context& ctx, const RouterTopKParams& p, const Score& score) {
  const int64_t num_tokens = p.logits.shape[0], num_experts = p.logits.shape[1];
  launch(ctx,
         RouterTopKKernel<Score>{score,
                                 {p.logits.as<float>(), num_tokens, static_cast<int>(num_experts)},
                                 p.expert_indices.as<int32_t>(),
                                 p.expert_weights.as<float>(),
                                 p.top_k,
                                 p.weighting == Weighting::uniform,
                                 TokenLanes::for_experts(num_experts)},
         {ceil_div(num_tokens, Score::kTokens)}, Score::kSharedBytes);
}

template <int kTiles, int kSteps, bool kSpread>
void score_and_select(Context& ctx, const RouterTopKParams& p) {
  const int64_t d_model = p.x.shape[1];
  const bool aligned = d_model % 4 == 0 && is_aligned16(p.x.data) && is_aligned16(p.router_weight.data);
  select(ctx, p,
         Scorer<kTiles, kSteps, kSpread>{p.x.as<float>(), p.router_weight.as<float>(),
                                         p.router_bias.as<float>(), static_cast<int>(d_model), aligned});
}

// d_logits (+)= Σ w_i (g_i - Σ_j w_j g_j) over the slots i of each expert. Reads the slots of a token once
// for each of its experts, from cache; d_logits is written once.
struct RouterTopKBackwardKernel {
  static constexpr int kThreads = kBlockThreads;
  const float* d_expert_weights;  // [num_tokens, top_k]
  const float* expert_weights;    // [num_tokens, top_k]
  const int32_t* expert_indices;  // [num_tokens, top_k]
  float* d_logits;                // [num_tokens, num_experts]
  int64_t num_tokens;
  int num_experts, top_k;
  bool accumulate;
  TokenLanes lanes;

  HR_DEVICE void operator()() const {
    const int64_t token = int64_t{block_x()} * (kThreads / lanes.num_lanes) + lanes.token();
    const bool exists = token < num_tokens;
    const int64_t first = exists ? token * top_k : 0;
    const float *g = d_expert_weights + first, *w = expert_weights + first;
    float sum = 0;
    for (int slot = lanes.index(); slot < top_k; slot += lanes.num_lanes) sum = fma(w[slot], g[slot], sum);
    const float mean_g = lanes.reduce<SumOf>(sum);
    if (!exists) return;
    for (int expert = lanes.index(); expert < num_experts; expert += lanes.num_lanes) {
      float d_logit = 0;
      for (int slot = 0; slot < top_k; ++slot) {
        if (expert_indices[first + slot] == expert) d_logit += w[slot] * (g[slot] - mean_g);
      }
      float* to = d_logits + token * num_experts + expert;
      *to = accumulate ? *to + d_logit : d_logit;
    }
  }
};

constexpr int64_t kFewTokens = 2048;

}  // namespace

void router_topk(Context& ctx, const RouterTopKParams& p) {
  if (!p.x) return select(ctx, p, NoScorer{});
  if (p.logits.shape[1] <= 2 * kTileExperts) return score_and_select<2, 2, true>(ctx, p);
  if (p.logits.shape[0] <= kFewTokens) return score_and_select<8, 1, true>(ctx, p);
  score_and_select<8, 1, false>(ctx, p);
}

void router_topk_backward(Context& ctx, const RouterTopKBackwardParams& p) {
  const int64_t num_tokens = p.d_logits.shape[0], num_experts = p.d_logits.shape[1];
  const int64_t top_k = p.expert_indices.shape[1];
  const TokenLanes lanes = TokenLanes::for_experts(num_experts);
  check_indices(ctx, "router_topk_backward", "expert_indices", p.expert_indices.as<int32_t>(),
                num_tokens * top_k, -1, num_experts - 1);
  launch(
      ctx,
      RouterTopKBackwardKernel{p.d_expert_weights.as<float>(), p.expert_weights.as<float>(),
                               p.expert_indices.as<int32_t>(), p.d_logits.as<float>(), num_tokens,
                               static_cast<int>(num_experts), static_cast<int>(top_k), p.accumulate, lanes},
      {ceil_div(num_tokens, lanes.tokens(kBlockThreads))});
}

}  // namespace hr::cuda
