// Products by AVX2. Bytes are made 16 bits wide before they are multiplied: the instruction that takes bytes as they are adds
// every two products within 16 bits, and 255 x 127 twice does not fit.
#include "products.h"

#include <algorithm>
#include <cstring>
#include <vector>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)

#include <immintrin.h>

namespace dragoman {
namespace {

#pragma GCC push_options
#pragma GCC target("avx2,fma")

constexpr size_t kGroup = 8;     // columns that two registers hold the sums of, each as two halves side by side
constexpr size_t kMostRows = 6;  // 12 sums, a group's weights and an activation fill the 16 registers

// As in products_vnni.cc, 8 by 8.
template <size_t kVectors>
inline void divide(__m256 (&x)[kVectors], __m256 scale, __m256 reciprocal) {
  __m256 steps[kVectors], apart = _mm256_setzero_ps();
  for (size_t i = 0; i < kVectors; ++i) {
    steps[i] = _mm256_mul_ps(x[i], reciprocal);
    const __m256 whole = _mm256_round_ps(steps[i], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256 off = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), _mm256_sub_ps(steps[i], whole));
    apart = _mm256_or_ps(apart, _mm256_cmp_ps(off, _mm256_set1_ps(0.4999f), _CMP_GE_OQ));
  }
  const bool undecided = _mm256_movemask_ps(apart) != 0;
  for (size_t i = 0; i < kVectors; ++i) x[i] = undecided ? _mm256_div_ps(x[i], scale) : steps[i];
}

// To bytes, of what is at least minus the zero point; as in products_vnni.cc.
inline void store_bytes(uint8_t* to, __m256 steps, __m256i zero_point) {
  const __m256i bounded =
      _mm256_min_epu32(_mm256_add_epi32(_mm256_cvtps_epi32(steps), zero_point), _mm256_set1_epi32(255));
  const __m128i eight = _mm_packus_epi32(_mm256_castsi256_si128(bounded), _mm256_extracti128_si256(bounded, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(eight, eight));
}

// What becomes of the sums of a group of columns, from `from` on: the first `real` are written.
class Finish {
 public:
  Finish(const Product& product, size_t from, size_t real)
      : real_(real),
        stride_(product.stride),
        begins_(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(product.begins + from))),
        scales_(_mm256_loadu_ps(product.scales + from)),
        bias_(_mm256_loadu_ps(product.bias + from)),
        output_(product.output == nullptr ? nullptr : product.output + from - product.first_panel * kPanel),
        addend_(product.addend == nullptr ? nullptr : product.addend + from),
        bytes_(product.bytes == nullptr ? nullptr : product.bytes + from),
        scale_(_mm256_set1_ps(product.of_bytes.scale)),
        reciprocal_(_mm256_set1_ps(1.0f / product.of_bytes.scale)),
        zero_point_(_mm256_set1_epi32(product.of_bytes.zero_point)) {}

  // The halves of the sums of columns 0 to 3, and of 4 to 7.
  void write(__m256i low, __m256i high, size_t row) const {
    const __m256i sums = _mm256_permute4x64_epi64(_mm256_hadd_epi32(low, high), 0b11011000);
    // Rounds twice, as onnxruntime does it: to the same bits.
    const __m256 numbers = _mm256_cvtepi32_ps(_mm256_add_epi32(sums, begins_));
    const __m256 result = _mm256_add_ps(_mm256_mul_ps(numbers, scales_), bias_);
    if (bytes_ != nullptr)
      write_bytes(result, bytes_ + row * stride_);
    else if (addend_ != nullptr)
      write_added(result, addend_ + row * stride_, output_ + row * stride_);
    else
      write_floats(result, output_ + row * stride_);
  }

 private:
  void write_bytes(__m256 result, uint8_t* to) const {
    __m256 positive[1] = {_mm256_max_ps(result, _mm256_setzero_ps())};  // what is no number becomes 0, too
    divide(positive, scale_, reciprocal_);
    if (real_ == kGroup) return store_bytes(to, positive[0], zero_point_);
    uint8_t all[kGroup];
    store_bytes(all, positive[0], zero_point_);
    std::copy_n(all, real_, to);
  }

  void write_added(__m256 result, const float* addend, float* to) const {
    float all[kGroup] = {};
    if (real_ < kGroup) addend = std::copy_n(addend, real_, all) - real_;
    write_floats(_mm256_add_ps(_mm256_loadu_ps(addend), result), to);
  }

  void write_floats(__m256 result, float* to) const {
    if (real_ == kGroup) return _mm256_storeu_ps(to, result);
    float all[kGroup];
    _mm256_storeu_ps(all, result);
    std::copy_n(all, real_, to);
  }

  size_t real_, stride_;
  __m256i begins_;
  __m256 scales_, bias_;
  float* output_;
  const float* addend_;
  uint8_t* bytes_;
  __m256 scale_, reciprocal_;
  __m256i zero_point_;
};

inline __m256i widened(const int8_t* weights) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(weights)));
}

// kRows rows by kGroups groups of a panel. `fetched`: what is needed next is fetched meanwhile.
template <size_t kRows, size_t kGroups>
void block(const Product& product, const int16_t* left, size_t row, size_t panel, size_t group, bool fetched) {
  const size_t depth = product.weights->padded_depth, from = panel * kPanel + group * kGroup;
  const int8_t* right = product.weights->panel(panel) + group * kGroup * 4;
  const int8_t* const end = right + depth * kPanel;
  const int8_t* ahead = right + (kGroups == kPanel / kGroup ? kAhead : fetched ? product.weights->to_next(panel) : 0);
  left += row * depth;
  __m256i sums[kRows][kGroups][2];
#pragma GCC unroll 6
  for (size_t i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (size_t g = 0; g < kGroups; ++g) sums[i][g][0] = sums[i][g][1] = _mm256_setzero_si256();
  for (; right != end; right += 4 * kPanel, ahead += 4 * kPanel, left += 4) {
    _mm_prefetch(ahead, _MM_HINT_T0);
    if (kGroups > 2) _mm_prefetch(ahead + 64, _MM_HINT_T0);
#pragma GCC unroll 4
    for (size_t g = 0; g < kGroups; ++g) {
      const __m256i low = widened(right + g * kGroup * 4), high = widened(right + g * kGroup * 4 + 16);
#pragma GCC unroll 6
      for (size_t i = 0; i < kRows; ++i) {
        int64_t four;
        std::memcpy(&four, left + i * depth, sizeof four);
        const __m256i given = _mm256_set1_epi64x(four);
        sums[i][g][0] = _mm256_add_epi32(sums[i][g][0], _mm256_madd_epi16(given, low));
        sums[i][g][1] = _mm256_add_epi32(sums[i][g][1], _mm256_madd_epi16(given, high));
      }
    }
  }
#pragma GCC unroll 4
  for (size_t g = 0; g < kGroups; ++g) {
    const size_t at = from + g * kGroup, columns = product.weights->columns;
    if (at >= columns) return;
    const Finish finish(product, at, std::min(kGroup, columns - at));
#pragma GCC unroll 6
    for (size_t i = 0; i < kRows; ++i) finish.write(sums[i][g][0], sums[i][g][1], row + i);
  }
}

// All groups of a panel, as many at a time as there are registers for.
template <size_t kRows>
void by_groups(const Product& product, const int16_t* left, size_t row, size_t panel, bool last) {
  constexpr size_t kGroups = kRows == 1 ? 4 : kRows <= 3 ? 2 : 1;
  for (size_t group = 0; group < kPanel / kGroup; group += kGroups)
    block<kRows, kGroups>(product, left, row, panel, group, last);
}

template <size_t kRows>
void last(const Product& product, const int16_t* left, size_t row, size_t panel, size_t rows) {
  if constexpr (kRows > 0) {
    if (rows == kRows)
      by_groups<kRows>(product, left, row, panel, true);
    else
      last<kRows - 1>(product, left, row, panel, rows);
  }
}

void widen(const uint8_t* bytes, int16_t* to, size_t count) {
  size_t i = 0;
  for (; i + 16 <= count; i += 16)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i),
                        _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + i))));
  for (; i < count; ++i) to[i] = bytes[i];
}

void multiply(const Product& product) {
  thread_local std::vector<int16_t> left;
  const size_t size = product.rows * product.weights->padded_depth;
  if (left.size() < size) left.resize(size);
  widen(product.left, left.data(), size);
  for (size_t panel = product.first_panel; panel < product.first_panel + product.panels; ++panel) {
    size_t row = 0;
    for (; row + kMostRows < product.rows; row += kMostRows) by_groups<kMostRows>(product, left.data(), row, panel, false);
    last<kMostRows>(product, left.data(), row, panel, product.rows - row);
  }
}

void quantize(const float* values, Quantization by, uint8_t* output, size_t count) {
  const __m256 scale = _mm256_set1_ps(by.scale), reciprocal = _mm256_set1_ps(1.0f / by.scale);
  const __m256i zero_point = _mm256_set1_epi32(by.zero_point);
  const __m256 least = _mm256_set1_ps(static_cast<float>(-by.zero_point));  // what is no number becomes that, too
  for (size_t i = 0; i < count; i += 16) {
    __m256 two[2] = {_mm256_loadu_ps(values + i), _mm256_loadu_ps(values + i + 8)};
    divide(two, scale, reciprocal);
    store_bytes(output + i, _mm256_max_ps(two[0], least), zero_point);
    store_bytes(output + i + 8, _mm256_max_ps(two[1], least), zero_point);
  }
}

#pragma GCC pop_options

constexpr ProductKernels kKernels = {"avx2", multiply, quantize};

}  // namespace

const ProductKernels* avx2_products() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &kKernels : nullptr;
}

}  // namespace dragoman

#else

namespace dragoman {

const ProductKernels* avx2_products() { return nullptr; }

}  // namespace dragoman

#endif
