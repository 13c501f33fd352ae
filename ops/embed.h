// embed: rows of a table by id, and the gradient of the table.
//
// A table may hold one cluster of an adaptive embedding: the ids first_id .. first_id + num_rows - 1.
// Other ids below vocab_size give a zero row and no gradient; ids outside 0 .. vocab_size - 1 are errors,
// reported where the results are next read.
#pragma once

#include "ops/check.h"

namespace hr {

struct EmbedParams {
  In ids;    // [num_tokens] i32
  In table;  // [num_rows, width]
  Out out;   // [num_tokens, width] scale · table[id - first_id]
  int64_t first_id = 0;
  int64_t vocab_size = 0;
  double scale = 1;
  HR_FIELDS(ids, table, out, first_id, vocab_size, scale)
  void check() const {
    Check c("embed");
    c.floats({{"table", table}, {"out", out}});
    auto [num_tokens] = c.dims<1>("ids", ids, {"num_tokens"});
    c.dtype("ids", ids, DType::i32);
    auto [num_rows, width] = c.dims<2>("table", table, {"num_rows", "width"});
    c.shape("out", out, {num_tokens, width});
    c.range("vocab_size", static_cast<double>(vocab_size), static_cast<double>(num_rows.value), 2147483647);
    c.range("first_id", static_cast<double>(first_id), 0, static_cast<double>(vocab_size - num_rows));
    c.finite("scale", scale);
  }
};

// embed_backward: d_table[id - first_id] += scale · d_out[t], tokens in ascending order.
struct EmbedBackwardParams {
  In d_out;       // [num_tokens, width]
  In ids;         // [num_tokens] i32
  InOut d_table;  // [num_rows, width] accumulates
  int64_t first_id = 0;
  double scale = 1;
  HR_FIELDS(d_out, ids, d_table, first_id, scale)
  void check() const {
    Check c("embed_backward");
    c.floats({{"d_out", d_out}, {"d_table", d_table}});
    auto [num_tokens, width] = c.dims<2>("d_out", d_out, {"num_tokens", "width"});
    c.index("ids", ids, {num_tokens});
    auto [num_rows, table_width] = c.dims<2>("d_table", d_table, {"num_rows", "width"});
    c.shape("d_table", d_table, {num_rows, width});
    c.range("first_id", static_cast<double>(first_id), 0, 2147483647);
    c.finite("scale", scale);
  }
};

#define OPS_EMBED(OP)    \
  OP(embed, EmbedParams) \
  OP(embed_backward, EmbedBackwardParams)

}  // namespace hr
