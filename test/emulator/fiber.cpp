#include "test/emulator/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <pthread.h>
#include <sanitizer/common_interface_defs.h>
#endif

// void hr_switch_stack(void** save_stack_pointer, void* stack_pointer): stores the registers that a call
// preserves on the running stack, then loads those that the other stack holds.
extern "C" void hr_switch_stack(void** save, void* stack_pointer);

#if defined(__x86_64__)
asm(R"(
.text
.globl hr_switch_stack
.hidden hr_switch_stack
.type hr_switch_stack, @function
hr_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size hr_switch_stack, .-hr_switch_stack

# The first switch to a fiber returns to here, with its argument in %r12 and its function in %r13.
.globl hr_fiber_start
.hidden hr_fiber_start
.type hr_fiber_start, @function
hr_fiber_start:
  movq %r12, %rdi
  callq *%r13
  ud2
.size hr_fiber_start, .-hr_fiber_start
)");
#elif defined(__aarch64__)
asm(R"(
.text
.globl hr_switch_stack
.hidden hr_switch_stack
.type hr_switch_stack, %function
hr_switch_stack:
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size hr_switch_stack, .-hr_switch_stack

# The first switch to a fiber returns to here, with its argument in x19 and its function in x20.
.globl hr_fiber_start
.hidden hr_fiber_start
.type hr_fiber_start, %function
hr_fiber_start:
  mov x0, x19
  blr x20
  brk #0
.size hr_fiber_start, .-hr_fiber_start
)");
#else
#error "the emulator needs x86-64 or arm64"
#endif
extern "C" void hr_fiber_start();

namespace hr::emulator {

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStackBytes = size_t{256} << 10;
#else
constexpr size_t kStackBytes = size_t{64} << 10;
#endif
constexpr size_t kPage = 4096;

}  // namespace

Stacks::Stacks(int count) : total_bytes_(static_cast<size_t>(count) * (kStackBytes + kPage)) {
  void* memory = mmap(nullptr, total_bytes_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<char*>(memory);
  for (int i = 0; i < count; ++i) mprotect(bottom(i) - kPage, kPage, PROT_NONE);
}

Stacks::~Stacks() { munmap(memory_, total_bytes_); }

char* Stacks::bottom(int index) const {
  return memory_ + static_cast<size_t>(index) * (kStackBytes + kPage) + kPage;
}

size_t Stacks::bytes() { return kStackBytes; }

void Fiber::prepare(char* stack_bottom, Entry entry, void* argument) {
  stack_bottom_ = stack_bottom;
  stack_bytes_ = kStackBytes;
  fake_stack_ = nullptr;
  entry_ = entry;
  argument_ = argument;
  void** top = reinterpret_cast<void**>(stack_bottom + kStackBytes - 64);
#if defined(__x86_64__)
  *--top = reinterpret_cast<void*>(&hr_fiber_start);
  void* registers[6] = {nullptr, nullptr, reinterpret_cast<void*>(&Fiber::start), this, nullptr, nullptr};
  for (int i = 5; i >= 0; --i) *--top = registers[i];  // r15 r14 r13 r12 rbx rbp, lowest address first
#else
  top -= 20;
  for (int i = 0; i < 20; ++i) top[i] = nullptr;
  top[0] = this;                                       // x19
  top[1] = reinterpret_cast<void*>(&Fiber::start);     // x20
  top[11] = reinterpret_cast<void*>(&hr_fiber_start);  // x30
#endif
  stack_pointer_ = top;
}

void Fiber::switch_to(Fiber& from, Fiber& to, [[maybe_unused]] bool from_finished) {
#if defined(__SANITIZE_ADDRESS__)
  if (!to.stack_bottom_) to.find_thread_stack();
  __sanitizer_start_switch_fiber(from_finished ? nullptr : &from.fake_stack_, to.stack_bottom_,
                                 to.stack_bytes_);
#endif
  hr_switch_stack(&from.stack_pointer_, to.stack_pointer_);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack_, nullptr, nullptr);
#endif
}

#if defined(__SANITIZE_ADDRESS__)
void Fiber::find_thread_stack() {
  pthread_attr_t attributes;
  void* bottom = nullptr;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &bottom, &stack_bytes_);
  pthread_attr_destroy(&attributes);
  stack_bottom_ = static_cast<char*>(bottom);
}
#endif

void Fiber::start(Fiber* self) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  self->entry_(self->argument_);
}

}  // namespace hr::emulator
