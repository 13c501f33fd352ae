// The kernel table of one instruction set. Never edited when an op is added.
#include "cpu/kernel.h"

#include "cpu/isa.h"

namespace hr::HR_ISA_NAMESPACE {

using cpu::Context;

#define HR_DECLARE_KERNEL(op, Params) void op(Context&, const Params&);
HR_ALL_OPS(HR_DECLARE_KERNEL)
#undef HR_DECLARE_KERNEL

#define HR_KERNEL_ENTRY(op, Params) op,
extern const cpu::KernelTable kKernels;
const cpu::KernelTable kKernels = {HR_ALL_OPS(HR_KERNEL_ENTRY)};
#undef HR_KERNEL_ENTRY

}  // namespace hr::HR_ISA_NAMESPACE
