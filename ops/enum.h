// enum: names of the enumerations that cross the wire. JavaScript passes the name; ops see the value.
//
// HR_ENUM(Activation, none, relu) declares `enum class Activation { none, relu }` and its name list.
#pragma once

#include "ops/fields.h"

namespace hr {

template <typename E>
struct EnumNames;  // specialised by HR_ENUM: `type`, `names`, `count`

}  // namespace hr

#define HR_ENUM_NAME_NEXT(first, ...) #first, __VA_OPT__(HR_ENUM_NAME_AGAIN HR_PARENS(__VA_ARGS__))
#define HR_ENUM_NAME_AGAIN() HR_ENUM_NAME_NEXT

#define HR_ENUM(Type, ...)                                                              \
  enum class Type : int32_t { __VA_ARGS__ };                                            \
  template <>                                                                           \
  struct EnumNames<Type> {                                                              \
    static constexpr const char* type = #Type;                                          \
    static constexpr const char* names[] = {HR_EXPAND(HR_ENUM_NAME_NEXT(__VA_ARGS__))}; \
    static constexpr int count = static_cast<int>(sizeof(names) / sizeof(names[0]));    \
  };
