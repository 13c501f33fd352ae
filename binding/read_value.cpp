#include "binding/read_value.h"

namespace hr::binding {

void read_shape(napi_env env, napi_value value, ArgName name, TensorView& view) {
  constexpr const char* kExpected = "an array of 1 to 6 positive integers";
  bool is_array = false;
  ok(napi_is_array(env, value, &is_array));
  if (!is_array) wrong_type(name, kExpected);
  uint32_t rank = 0;
  ok(napi_get_array_length(env, value, &rank));
  if (rank < 1 || rank > kMaxRank) wrong_type(name, kExpected);
  view.rank = static_cast<int32_t>(rank);
  constexpr int64_t kMostElements = int64_t{1} << 48;
  int64_t size = 1;
  for (uint32_t axis = 0; axis < rank; ++axis) {
    napi_value element;
    ok(napi_get_element(env, value, axis, &element));
    const int64_t extent = read_integer(env, element, name);
    if (extent < 1) wrong_type(name, kExpected);
    if (extent > kMostElements / size) {
      throw Error(ErrorKind::out_of_memory, name.op, name.arg, "the tensor has more than 2^48 elements");
    }
    size *= extent;
    view.shape[axis] = extent;
  }
}

DType read_dtype(napi_env env, napi_value value, ArgName name) {
  const std::string text = read_string(env, value, name);
  for (int i = 0; i < kNumDTypes; ++i) {
    if (text == kDTypeNames[i]) return static_cast<DType>(i);
  }
  throw Error(ErrorKind::dtype, name.op, name.arg,
              "\"" + text + "\" is not a dtype; expected f32, f64, bf16, f16 or i32");
}

}  // namespace hr::binding
