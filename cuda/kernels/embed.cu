// embed: rows of a table by id, and the gradient of the table. Contract: ops/embed.h.
//
//   forward   a warp a token; bytes: ids and the rows used read, out written
//   backward  tokens are put in the order of their ids (stable_order.h). A warp sums the rows of kPieceTokens
//             tokens in that order, columns four to a lane. An id whose tokens lie in one piece is added to
//             the table at once; of others each piece keeps its sum, and a second launch adds those in order.
//             bytes: d_out read once; the table's rows with tokens read and written once; a frequent id costs
//             no more than many rare ones
#include "cuda/kernels/index_check.h"
#include "cuda/kernels/quads.h"
#include "cuda/kernels/stable_order.h"

namespace hr::cuda {

namespace {

constexpr int kEmbedThreads = 256;
constexpr int kEmbedWarps = kEmbedThreads / kWarpSize;
constexpr int kWarpColumns = 4 * kWarpSize;

struct EmbedKernel {
  static constexpr int kThreads = kEmbedThreads;
  const int32_t* ids;  // [num_tokens]
  const float* table;  // [num_rows, width]
  float* out;          // [num_tokens, width]
  int64_t num_tokens, num_rows, first_id;
  int width;
  float scale;
  bool aligned;

  HR_DEVICE void operator()() const {
    const int64_t token = int64_t{block_x()} * kEmbedWarps + warp_index();
    if (token >= num_tokens) return;
    const int64_t row = ids[token] - first_id;
    const bool inside = row >= 0 && row < num_rows;
    for (int column = 4 * lane_index(); column < width; column += kWarpColumns) {
      Quad x = {};
      if (inside) x = load_quad(table + row * width + column, width - column, aligned);
      HR_UNROLL
      for (int i = 0; i < 4; ++i) x.v[i] *= scale;
      store_quad(out + token * width + column, x, width - column, aligned);
    }
  }
};

// keys[t] = the table's row of token t; num_rows for ids of other tables.
struct RowKeysKernel {
  static constexpr int kThreads = kElementThreads;
  const int32_t* ids;  // [num_tokens]
  int32_t* keys;       // [num_tokens]
  int64_t num_tokens, num_rows, first_id;

  HR_DEVICE void operator()() const {
    for_elements(num_tokens, false, [&](int64_t token, auto) {
      const int64_t row = ids[token] - first_id;
      keys[token] = static_cast<int32_t>(row >= 0 && row < num_rows ? row : num_rows);
    });
  }
};

constexpr int kPieceTokens = kWarpSize;  // lane l looks up the l-th

// Tokens in the order of their rows. A segment is the tokens of one row.
struct TokensByRow {
  const int32_t* order;  // [num_tokens]
  const int32_t* keys;   // [num_tokens]
  int32_t num_tokens, num_rows;

  HR_DEVICE int32_t token(int32_t i) const { return order[i]; }
  // num_rows, which no segment has, past the end.
  HR_DEVICE int32_t row(int32_t i) const { return i >= 0 && i < num_tokens ? keys[order[i]] : num_rows; }
};

struct PieceSumsKernel {
  static constexpr int kThreads = kEmbedThreads;
  static constexpr int kAtOnce = 4;  // rows under way
  TokensByRow tokens;
  const float* d_out;  // [num_tokens, width]
  float* d_table;      // [num_rows, width]
  float* heads;        // [num_pieces, width] of the segment that began in a piece before
  float* tails;        // [num_pieces, width] of the segment that goes on in the next piece
  int32_t num_pieces, warps_per_piece;
  int width;
  float scale;
  bool aligned;

  HR_DEVICE int32_t piece() const { return warp() / warps_per_piece; }
  HR_DEVICE int column() const { return warp() % warps_per_piece * kWarpColumns + 4 * lane_index(); }
  HR_DEVICE static int32_t warp() { return block_x() * kEmbedWarps + warp_index(); }

  HR_DEVICE void operator()() const {
    const int32_t piece = this->piece(), first = piece * kPieceTokens;
    if (piece >= num_pieces) return;
    const int column = this->column(), count = width - column;  // none, in the last lanes
    const int32_t own_row = tokens.row(first + lane_index());
    const int32_t own_token = own_row < tokens.num_rows ? tokens.token(first + lane_index()) : 0;
    const int32_t row_before = tokens.row(first - 1), row_after = tokens.row(first + kPieceTokens);

    Quad sum = {};
    int32_t row = warp_shuffle(own_row, 0);
    bool is_head = row == row_before;
    const auto finish_segment = [&](bool goes_on) {
      if (row >= tokens.num_rows) return;
      if (is_head || goes_on) {
        float* to = is_head ? heads : tails;
        store_quad(to + int64_t{piece} * width + column, sum, count, aligned);
      } else {
        add_scaled(d_table + int64_t{row} * width + column, sum, count);
      }
    };
    for (int i = 0; i < kPieceTokens; i += kAtOnce) {
      Quad x[kAtOnce];
      HR_UNROLL
      for (int j = 0; j < kAtOnce; ++j) {
        const int64_t token = warp_shuffle(own_token, i + j);
        x[j] = load_quad(d_out + token * width + column, count, aligned);
      }
      HR_UNROLL
      for (int j = 0; j < kAtOnce; ++j) {
        const int32_t next = warp_shuffle(own_row, i + j);
        if (next != row) {
          finish_segment(false);
          row = next;
          is_head = false;
          sum = {};
        }
        HR_UNROLL
        for (int c = 0; c < 4; ++c) sum.v[c] += x[j].v[c];
      }
    }
    finish_segment(row == row_after);
  }

  HR_DEVICE void add_scaled(float* to, const Quad& sum, int columns) const {
    Quad x = load_quad(to, columns, aligned);
    HR_UNROLL
    for (int i = 0; i < 4; ++i) x.v[i] = fma(scale, sum.v[i], x.v[i]);
    store_quad(to, x, columns, aligned);
  }
};

// Adds the segments of more than one piece: a warp for the piece that a segment begins in.
struct LongSegmentsKernel {
  static constexpr int kThreads = kEmbedThreads;
  PieceSumsKernel pieces;

  HR_DEVICE void operator()() const {
    const TokensByRow& tokens = pieces.tokens;
    int32_t piece = pieces.piece();
    if (piece >= pieces.num_pieces) return;
    const int32_t first = piece * kPieceTokens, last = first + kPieceTokens - 1;
    const int32_t row = tokens.row(last);
    const bool begins_here = row != tokens.row(first - 1) || row != tokens.row(first);
    if (row >= tokens.num_rows || !begins_here || row != tokens.row(last + 1)) return;
    const int column = pieces.column(), count = pieces.width - column;
    Quad sum = load_quad(pieces.tails + int64_t{piece} * pieces.width + column, count, pieces.aligned);
    ++piece;
    int more;  // of the next 32 pieces begin with this row
    do {
      const uint32_t same = warp_ballot(tokens.row((piece + lane_index()) * kPieceTokens) == row);
      more = count_ones(same & ~(same + 1));
      for (const int32_t end = piece + more; piece < end; ++piece) {
        const Quad x =
            load_quad(pieces.heads + int64_t{piece} * pieces.width + column, count, pieces.aligned);
        HR_UNROLL
        for (int i = 0; i < 4; ++i) sum.v[i] += x.v[i];
      }
    } while (more == kWarpSize);
    pieces.add_scaled(pieces.d_table + int64_t{row} * pieces.width + column, sum, count);
  }
};

}  // namespace

void embed(Context& ctx, const EmbedParams& p) {
  const int32_t* ids = p.ids.as<int32_t>();
  const float* table = p.table.as<float>();
  float* out = p.out.as<float>();
  const int64_t num_tokens = p.ids.shape[0], width = p.table.shape[1];
  check_indices(ctx, "embed", "ids", ids, num_tokens, 0, p.vocab_size - 1);
  launch(ctx,
         EmbedKernel{ids, table, out, num_tokens, p.table.shape[0], p.first_id, static_cast<int>(width),
                     static_cast<float>(p.scale), width % 4 == 0 && is_aligned16(table) && is_aligned16(out)},
         {ceil_div(num_tokens, kEmbedWarps)});
}

void embed_backward(Context& ctx, const EmbedBackwardParams& p) {
  const int32_t* ids = p.ids.as<int32_t>();
  const float* d_out = p.d_out.as<float>();
  float* d_table = p.d_table.as<float>();
  const int64_t num_tokens = p.ids.shape[0], num_rows = p.d_table.shape[0], width = p.d_table.shape[1];
  int32_t* keys = ctx.workspace<int32_t>(num_tokens);
  launch(ctx, RowKeysKernel{ids, keys, num_tokens, num_rows, p.first_id},
         blocks_for_elements(ctx, num_tokens));
  const TokensByRow tokens{stable_order(ctx, keys, num_tokens, num_rows + 1), keys,
                           static_cast<int32_t>(num_tokens), static_cast<int32_t>(num_rows)};
  const int64_t num_pieces = ceil_div(num_tokens, kPieceTokens);
  float *heads = ctx.workspace<float>(num_pieces * width), *tails = ctx.workspace<float>(num_pieces * width);
  const bool aligned = width % 4 == 0 && is_aligned16(d_out) && is_aligned16(d_table);
  const int64_t warps_per_piece = ceil_div(width, kWarpColumns);
  const PieceSumsKernel pieces{.tokens = tokens,
                               .d_out = d_out,
                               .d_table = d_table,
                               .heads = heads,
                               .tails = tails,
                               .num_pieces = static_cast<int32_t>(num_pieces),
                               .warps_per_piece = static_cast<int32_t>(warps_per_piece),
                               .width = static_cast<int>(width),
                               .scale = static_cast<float>(p.scale),
                               .aligned = aligned};
  const Grid grid{ceil_div(num_pieces * warps_per_piece, kEmbedWarps)};
  launch(ctx, pieces, grid);
  launch(ctx, LongSegmentsKernel{pieces}, grid);
}

}  // namespace hr::cuda
