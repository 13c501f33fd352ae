// log_sum: log Σ e^x in one pass over the numbers: Σ e^x = sum · e^largest.
#pragma once

#include "cuda/kernels/quads.h"
#include "cuda/kernels/row_reduce.h"

namespace hr::cuda {

struct LogSum {
  float largest = -infinity(), sum = 0;

  HR_DEVICE void add(const Quad& x, int count) {
    float top = largest;
    HR_UNROLL
    for (int i = 0; i < 4; ++i) top = i < count && x.v[i] > top ? x.v[i] : top;
    float added = 0;
    HR_UNROLL
    for (int i = 0; i < 4; ++i) added += i < count ? exp(x.v[i] - finite(top)) : 0.0f;
    sum = sum * exp(largest - finite(top)) + added;
    largest = top;
  }

  HR_DEVICE void add(const LogSum& other) {
    const float top = other.largest > largest ? other.largest : largest;
    sum = sum * exp(largest - finite(top)) + other.sum * exp(other.largest - finite(top));
    largest = top;
  }

  HR_DEVICE float value() const { return largest + log(sum); }

 private:
  // So that e^(-inf - top) is 0 where no number is larger.
  static HR_DEVICE float finite(float top) { return top == -infinity() ? 0.0f : top; }
};

// Of a row, by its threads, the same in all of them. quads: rows start at multiples of four elements;
// aligned: and of 16 bytes.
template <int kRowThreads>
HR_DEVICE LogSum log_sum_of_row(const float* row, int width, bool quads, bool aligned) {
  using Row = RowThreads<kRowThreads>;
  LogSum own;
  const int step = quads ? 4 : 1;
  for (int column = step * Row::index(); column < width; column += step * kRowThreads) {
    const int count = width - column < step ? width - column : step;
    own.add(load_quad(row + column, count, aligned), count);
  }
  LogSum total;
  total.largest = Row::template reduce<MaximumOf>(own.largest);
  total.sum = Row::sum(own.sum * exp(own.largest - total.largest));
  return total;
}

}  // namespace hr::cuda
