#include "ops/check.h"

#include <cmath>
#include <sstream>

namespace hr {

std::string shape_text(const TensorView& t) {
  std::string text = "[";
  for (int axis = 0; axis < t.rank; ++axis) {
    if (axis) text += ", ";
    text += std::to_string(t.shape[axis]);
  }
  return text + "]";
}

namespace {

std::string quoted(const char* arg) { return std::string("\"") + arg + "\""; }

std::string number_text(double value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

}  // namespace

void Check::shape(const char* arg, const TensorView& t, std::initializer_list<Dim> expected) const {
  if (!t) return;
  bool ok = t.rank == static_cast<int>(expected.size());
  int axis = 0;
  for (const Dim& dim : expected) {
    ok = ok && t.shape[axis] == dim.value;
    ++axis;
  }
  if (ok) return;
  std::string text = quoted(arg) + " has shape " + shape_text(t) + ", expected [";
  axis = 0;
  for (const Dim& dim : expected) {
    if (axis++) text += ", ";
    if (*dim.name) text += std::string(dim.name) + "=";
    text += std::to_string(dim.value);
  }
  throw Error(ErrorKind::shape, op_, arg, text + "]");
}

void Check::dtype(const char* arg, const TensorView& t, DType expected) const {
  if (!t || t.dtype == expected) return;
  throw Error(ErrorKind::dtype, op_, arg,
              quoted(arg) + " is " + name(t.dtype) + ", expected " + name(expected));
}

void Check::floats(std::initializer_list<Named> tensors) const {
  const Named* first = nullptr;
  for (const Named& named : tensors) {
    if (!named.tensor) continue;
    if (!is_compute_float(named.tensor.dtype)) {
      throw Error(ErrorKind::dtype, op_, named.arg,
                  quoted(named.arg) + " is " + name(named.tensor.dtype) + ", expected f32 or f64");
    }
    if (!first) first = &named;
    if (named.tensor.dtype != first->tensor.dtype) {
      throw Error(ErrorKind::dtype, op_, named.arg,
                  quoted(named.arg) + " is " + name(named.tensor.dtype) + " but " + quoted(first->arg) +
                      " is " + name(first->tensor.dtype));
    }
  }
}

void Check::range(const char* arg, double value, double low, double high) const {
  if (value >= low && value <= high) return;
  throw Error(ErrorKind::value, op_, arg,
              quoted(arg) + " is " + number_text(value) + ", expected " + number_text(low) + " to " +
                  number_text(high));
}

void Check::probability(const char* arg, double value) const {
  if (value >= 0 && value < 1) return;
  throw Error(ErrorKind::value, op_, arg,
              quoted(arg) + " is " + number_text(value) + ", expected 0 <= " + arg + " < 1");
}

void Check::finite(const char* arg, double value) const {
  if (std::isfinite(value)) return;
  throw Error(ErrorKind::value, op_, arg,
              quoted(arg) + " is " + number_text(value) + ", expected a finite number");
}

void Check::same_size(const char* arg, const TensorView& t, const char* other_arg,
                      const TensorView& other) const {
  if (t.size() == other.size()) return;
  throw Error(ErrorKind::shape, op_, arg,
              quoted(arg) + " has shape " + shape_text(t) + ", but " + quoted(other_arg) + " has " +
                  shape_text(other) + ": the element counts differ");
}

void Check::rank_error(const char* arg, const TensorView& t, std::initializer_list<const char*> names) const {
  std::string text = quoted(arg) + " has shape " + shape_text(t) + ", expected [";
  bool first = true;
  for (const char* dim_name : names) {
    if (!first) text += ", ";
    text += dim_name;
    first = false;
  }
  throw Error(ErrorKind::shape, op_, arg, text + "]");
}

}  // namespace hr
