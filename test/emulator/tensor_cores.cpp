#include "test/emulator/tensor_cores.h"

#include <cstring>

#include "ops/math/half.h"

// The loops of the product, also compiled for wider vectors. Not with AddressSanitizer, which starts too late
// for it.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#define HR_WIDE_VECTORS __attribute__((target_clones("avx2", "default"), optimize("O3")))
#else
#define HR_WIDE_VECTORS
#endif

namespace hr::emulator {

namespace {

constexpr int kMostTiles = 16;  // in either direction

struct LoadMatrices {
  uint32_t* r;
  const char* row;
  bool transposed;

  static void execute(void* const* lanes) {
    uint16_t elements[4][8][8];
    for (int lane = 0; lane < kWarpSize; ++lane) {
      std::memcpy(elements[lane / 8][lane % 8], static_cast<LoadMatrices*>(lanes[lane])->row, 16);
    }
    for (int lane = 0; lane < kWarpSize; ++lane) {
      const LoadMatrices& self = *static_cast<LoadMatrices*>(lanes[lane]);
      const int row = lane / 4, column = lane % 4 * 2;
      for (int matrix = 0; matrix < 4; ++matrix) {
        const auto& m = elements[matrix];
        const uint32_t low = self.transposed ? m[column][row] : m[row][column];
        const uint32_t high = self.transposed ? m[column + 1][row] : m[row][column + 1];
        self.r[matrix] = low | high << 16;
      }
    }
  }
};

struct Multiply {
  Element element;
  int rows, columns;
  float* sums;
  const uint32_t* a;
  const uint32_t* b;
};

float bf16_half(uint32_t pair, int half) { return math::float_of(half ? pair & 0xFFFF0000u : pair << 16); }
float tf32(uint32_t bits) { return math::float_of(bits & 0xFFFFE000u); }  // the hardware ignores the rest

// The operands of one tile row and one tile column as plain matrices, k first: the loops below vectorise.
struct Operands {
  int k;
  float a[kMostTiles * 16][16];
  float b[16][kMostTiles * 8];
};

void gather(const Multiply* const* lanes, int rows, int columns, bool is_bf16, Operands& operands) {
  operands.k = is_bf16 ? 16 : 8;
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const int g = lane / 4, t = lane % 4;
    const Multiply& self = *lanes[lane];
    for (int i = 0; i < rows; ++i) {
      for (int r = 0; r < 4; ++r) {
        float* row = operands.a[i * 16 + g + (r & 1) * 8];
        const uint32_t bits = self.a[i * 4 + r];
        if (is_bf16) {
          row[2 * t + (r >> 1) * 8] = bf16_half(bits, 0);
          row[2 * t + (r >> 1) * 8 + 1] = bf16_half(bits, 1);
        } else {
          row[t + (r >> 1) * 4] = tf32(bits);
        }
      }
    }
    for (int j = 0; j < columns; ++j) {
      for (int r = 0; r < 2; ++r) {
        const uint32_t bits = self.b[j * 2 + r];
        const int column = j * 8 + g;
        if (is_bf16) {
          operands.b[2 * t + r * 8][column] = bf16_half(bits, 0);
          operands.b[2 * t + r * 8 + 1][column] = bf16_half(bits, 1);
        } else {
          operands.b[t + r * 4][column] = tf32(bits);
        }
      }
    }
  }
}

HR_WIDE_VECTORS void execute_multiply(void* const* lane_args) {
  const Multiply* const* lanes = reinterpret_cast<const Multiply* const*>(lane_args);
  const int rows = lanes[0]->rows, columns = lanes[0]->columns;
  Operands operands;
  gather(lanes, rows, columns, lanes[0]->element == Element::bf16, operands);
  const int n = columns * 8;
  for (int row = 0; row < rows * 16; ++row) {
    float products[kMostTiles * 8] = {};
    for (int l = 0; l < operands.k; ++l) {
      const float a = operands.a[row][l];
      const float* b = operands.b[l];
      for (int column = 0; column < n; ++column) products[column] += a * b[column];
    }
    for (int column = 0; column < n; ++column) {
      const Multiply& owner = *lanes[row % 8 * 4 + column % 8 / 2];
      owner.sums[(row / 16 * columns + column / 8) * 4 + row % 16 / 8 * 2 + column % 2] += products[column];
    }
  }
}

}  // namespace

void load_matrices(uint32_t (&r)[4], const void* row, bool transposed, Where where) {
  Block::current().check_shared(row, 16, 16, where);
  LoadMatrices args{r, static_cast<const char*>(row), transposed};
  Block::current().collective("warp_load_matrices", LoadMatrices::execute, &args, where);
}

void multiply(Element element, int rows, int columns, float* sums, const uint32_t* a, const uint32_t* b,
              Where where) {
  if (rows > kMostTiles || columns > kMostTiles)
    Block::current().fail("multiplies too many tiles at once", where);
  Multiply args{element, rows, columns, sums, a, b};
  Block::current().collective("warp_multiply", execute_multiply, &args, where);
}

uint32_t rounded_to_bf16_pair(float low, float high) {
  return static_cast<uint32_t>(math::to_bf16(high).bits) << 16 | math::to_bf16(low).bits;
}

}  // namespace hr::emulator
