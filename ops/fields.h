// fields: HR_FIELDS(a, b, ...) lists the members of a parameter struct once, in wire order.
//
// It defines `visit(fn)`, which calls fn("a", a), fn("b", b), ... Decoding, describing, alias checks and
// printing are all visitors. Up to 24 members.
#pragma once

#define HR_EXPAND(...) HR_EXPAND3(HR_EXPAND3(HR_EXPAND3(__VA_ARGS__)))
#define HR_EXPAND3(...) HR_EXPAND2(HR_EXPAND2(HR_EXPAND2(__VA_ARGS__)))
#define HR_EXPAND2(...) HR_EXPAND1(HR_EXPAND1(HR_EXPAND1(__VA_ARGS__)))
#define HR_EXPAND1(...) __VA_ARGS__
#define HR_PARENS ()

#define HR_VISIT_NEXT(first, ...) \
  fn(#first, first);              \
  __VA_OPT__(HR_VISIT_AGAIN HR_PARENS(__VA_ARGS__))
#define HR_VISIT_AGAIN() HR_VISIT_NEXT

#define HR_FIELDS(...)                    \
  template <typename Fn>                  \
  constexpr void visit(Fn&& fn) {         \
    HR_EXPAND(HR_VISIT_NEXT(__VA_ARGS__)) \
  }                                       \
  template <typename Fn>                  \
  constexpr void visit(Fn&& fn) const {   \
    HR_EXPAND(HR_VISIT_NEXT(__VA_ARGS__)) \
  }
