// The kernel table. Never edited when an op is added.
#include "cuda/context.h"

namespace hr::cuda {

// Weak: an op whose family is not there yet is null.
#define HR_DECLARE_KERNEL(op, Params) __attribute__((weak)) void op(Context&, const Params&);
HR_ALL_OPS(HR_DECLARE_KERNEL)
#undef HR_DECLARE_KERNEL

namespace {

#define HR_DEFINE_ENTRY(op, Params)                                                 \
  void run_##op(Context& ctx, const Params& params) {                               \
    if (!op) throw Error(ErrorKind::unsupported, #op, "device", "not yet on cuda"); \
    op(ctx, params);                                                                \
  }
HR_ALL_OPS(HR_DEFINE_ENTRY)
#undef HR_DEFINE_ENTRY

}  // namespace

#define HR_KERNEL_ENTRY(op, Params) run_##op,
const KernelTable kKernels = {HR_ALL_OPS(HR_KERNEL_ENTRY)};
#undef HR_KERNEL_ENTRY

}  // namespace hr::cuda
