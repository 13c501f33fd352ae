// op_table: every op of the contract, and the table a backend fills.
//
// HR_ALL_OPS is the only list of ops. Tables, the binding, the TypeScript types and the coverage report
// expand it. A new family adds its include and its OPS_ list here.
#pragma once

#include "ops/activation.h"
#include "ops/dispatch.h"
#include "ops/dropout.h"
#include "ops/elementwise.h"
#include "ops/embed.h"
#include "ops/gemm.h"
#include "ops/grouped_gemm.h"
#include "ops/hyper_router.h"
#include "ops/layer_norm.h"
#include "ops/loss.h"
#include "ops/optim.h"
#include "ops/random.h"
#include "ops/reduce.h"
#include "ops/rel_attention.h"
#include "ops/router.h"

#define HR_ALL_OPS(OP)  \
  OPS_GEMM(OP)          \
  OPS_GROUPED_GEMM(OP)  \
  OPS_HYPER_ROUTER(OP)  \
  OPS_ROUTER(OP)        \
  OPS_DISPATCH(OP)      \
  OPS_REL_ATTENTION(OP) \
  OPS_LAYER_NORM(OP)    \
  OPS_ACTIVATION(OP)    \
  OPS_DROPOUT(OP)       \
  OPS_ELEMENTWISE(OP)   \
  OPS_EMBED(OP)         \
  OPS_LOSS(OP)          \
  OPS_REDUCE(OP)        \
  OPS_OPTIM(OP)         \
  OPS_RANDOM(OP)

namespace hr {

class Stream;  // a backend's queue; see backend.h

struct OpTable {
#define HR_TABLE_FIELD(op, Params) void (*op)(Stream&, const Params&) = nullptr;
  HR_ALL_OPS(HR_TABLE_FIELD)
#undef HR_TABLE_FIELD
};

}  // namespace hr
