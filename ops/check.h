// check: the vocabulary in which an op states its contract.
//
// Each parameter struct has `void check() const`, written with one Check object. It runs on the caller's
// thread before anything is queued, on every backend alike, and throws hr::Error with both shapes in the
// text. Sizes are Dim values that carry their name, so messages read
//   grouped_gemm: "weight" has shape [16, 256, 512], expected [num_experts=8, n=256, k=512]
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "ops/error.h"
#include "ops/tensor.h"

namespace hr {

struct Dim {
  const char* name;
  int64_t value;
  operator int64_t() const { return value; }
};

class Check {
 public:
  explicit Check(const char* op) : op_(op) {}

  // The tensor's dimensions, named; throws unless its rank is kRank.
  template <int kRank>
  std::array<Dim, kRank> dims(const char* arg, const TensorView& t,
                              std::initializer_list<const char*> names) const {
    if (t.rank != kRank) rank_error(arg, t, names);
    std::array<Dim, kRank> out{};
    int axis = 0;
    for (const char* dim_name : names) {
      out[axis] = Dim{dim_name, t.shape[axis]};
      ++axis;
    }
    return out;
  }

  // An absent optional tensor passes shape and dtype checks.
  void shape(const char* arg, const TensorView& t, std::initializer_list<Dim> expected) const;
  void dtype(const char* arg, const TensorView& t, DType expected) const;
  void index(const char* arg, const TensorView& t, std::initializer_list<Dim> expected) const {
    dtype(arg, t, DType::i32);
    shape(arg, t, expected);
  }
  // Every present tensor has the same compute dtype as the first one.
  struct Named {
    const char* arg;
    const TensorView& tensor;
  };
  void floats(std::initializer_list<Named> tensors) const;

  void range(const char* arg, double value, double low, double high) const;  // low <= value <= high
  void probability(const char* arg, double value) const;                     // 0 <= value < 1
  void finite(const char* arg, double value) const;
  void require(bool ok, const char* arg, const std::string& detail) const {  // ErrorKind::value
    if (!ok) throw Error(ErrorKind::value, op_, arg, detail);
  }
  void same_size(const char* arg, const TensorView& t, const char* other_arg, const TensorView& other) const;

 private:
  [[noreturn]] void rank_error(const char* arg, const TensorView& t,
                               std::initializer_list<const char*> names) const;
  const char* op_;
};

}  // namespace hr
