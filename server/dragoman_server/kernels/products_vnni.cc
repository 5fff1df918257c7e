// Products by AVX-512 VNNI, which adds four products of bytes to a sum at one time.
#include "products.h"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)

#include <immintrin.h>

namespace dragoman {
namespace {

bool supported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")

constexpr size_t kMostRows = 12;  // 24 sums, two panels' halves and an activation fill the 32 registers

// Numbers over a scale, 16 by 16. A product with the reciprocal takes a third of a division's time, and rounds to the same
// integer but where the quotient is near the middle between two: there the division decides, for all of them.
template <size_t kVectors>
inline void divide(__m512 (&x)[kVectors], __m512 scale, __m512 reciprocal) {
  constexpr int kGreaterWithoutSign = 0b1011;
  __m512 steps[kVectors], apart = _mm512_setzero_ps();
  for (size_t i = 0; i < kVectors; ++i) {
    steps[i] = _mm512_mul_ps(x[i], reciprocal);
    const __m512 whole = _mm512_roundscale_ps(steps[i], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    apart = _mm512_range_ps(apart, _mm512_sub_ps(steps[i], whole), kGreaterWithoutSign);
  }
  const bool undecided = _mm512_cmp_ps_mask(apart, _mm512_set1_ps(0.4999f), _CMP_GE_OQ) != 0;
  for (size_t i = 0; i < kVectors; ++i) x[i] = undecided ? _mm512_div_ps(x[i], scale) : steps[i];
}

// To bytes, of what is at least minus the zero point. What is beyond 32 bits becomes the least integer: as one without a
// sign, which it is taken for, it is beyond a byte, too.
inline __m128i to_bytes(__m512 steps, __m512i zero_point) {
  return _mm512_cvtusepi32_epi8(_mm512_add_epi32(_mm512_cvtps_epi32(steps), zero_point));
}

// What becomes of the sums of 16 columns, from `from` on: those that are `real`, one bit for each, are written.
class Finish {
 public:
  Finish(const Product& product, size_t from, uint32_t real)
      : kept_(static_cast<__mmask16>(real)),
        stride_(product.stride),
        scales_(_mm512_loadu_ps(product.scales + from)),
        bias_(_mm512_loadu_ps(product.bias + from)),
        output_(product.output + from - product.first_panel * kPanel),
        addend_(product.addend == nullptr ? nullptr : product.addend + from),
        bytes_(product.bytes == nullptr ? nullptr : product.bytes + from),
        scale_(_mm512_set1_ps(product.of_bytes.scale)),
        reciprocal_(_mm512_set1_ps(1.0f / product.of_bytes.scale)),
        zero_point_(_mm512_set1_epi32(product.of_bytes.zero_point)) {}

  void write(__m512i sums, size_t row) const { _mm512_mask_storeu_ps(output_ + row * stride_, kept_, result(sums)); }

  void write_added(__m512i sums, size_t row) const {
    const __m512 addend = _mm512_maskz_loadu_ps(kept_, addend_ + row * stride_);
    _mm512_mask_storeu_ps(output_ + row * stride_, kept_, _mm512_add_ps(addend, result(sums)));
  }

  // Those of the 16 columns behind, too.
  void write_bytes(__m512i sums, const Finish& behind, __m512i sums_behind, size_t row) const {
    __m512 positive[2] = {_mm512_max_ps(result(sums), _mm512_setzero_ps()),
                          _mm512_max_ps(behind.result(sums_behind), _mm512_setzero_ps())};
    divide(positive, scale_, reciprocal_);
    _mm_mask_storeu_epi8(bytes_ + row * stride_, kept_, to_bytes(positive[0], zero_point_));
    _mm_mask_storeu_epi8(behind.bytes_ + row * stride_, behind.kept_, to_bytes(positive[1], zero_point_));
  }

 private:
  // Rounds twice, as onnxruntime does it: to the same bits.
  __m512 result(__m512i sums) const {
    return _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sums), scales_), bias_);
  }

  __mmask16 kept_;
  size_t stride_;
  __m512 scales_, bias_;
  float* output_;
  const float* addend_;
  uint8_t* bytes_;
  __m512 scale_, reciprocal_;
  __m512i zero_point_;
};

// kRows rows by one panel. `kLast` of the panel's rows: what is needed next is fetched meanwhile, since weights come from
// far and the processor's own prefetching begins anew at every page. That is the next panel, where rows before these have
// brought this one. Where these are all rows, each number is used once: it is kept out of the second cache, in which the
// interpreter's own work is then found again.
template <size_t kRows, bool kLast>
void block(const Product& product, size_t row, size_t panel) {
  const size_t depth = product.weights->padded_depth, columns = product.weights->columns, from = panel * kPanel;
  const uint8_t* left = product.left + row * depth;
  const int8_t* right = product.weights->panel(panel);
  const int8_t* const end = right + kPanel * depth;
  const size_t to_next = product.weights->to_next(panel);
  const bool once = row == 0;
  const __m512i low_begin = _mm512_loadu_si512(product.begins + from), high_begin = _mm512_loadu_si512(product.begins + from + 16);
  __m512i sums[kRows][2];
#pragma GCC unroll 12
  for (size_t i = 0; i < kRows; ++i) sums[i][0] = low_begin, sums[i][1] = high_begin;
  for (; right != end; right += 4 * kPanel, left += 4) {
    const __m512i low = _mm512_loadu_si512(right), high = _mm512_loadu_si512(right + 64);
    if (kLast && once) {
      _mm_prefetch(right + kAhead, _MM_HINT_NTA);
      _mm_prefetch(right + kAhead + 64, _MM_HINT_NTA);
    } else if (kLast) {
      _mm_prefetch(right + to_next, _MM_HINT_T0);
      _mm_prefetch(right + to_next + 64, _MM_HINT_T0);
    }
#pragma GCC unroll 12
    for (size_t i = 0; i < kRows; ++i) {
      int32_t four;
      std::memcpy(&four, left + i * depth, sizeof four);
      const __m512i given = _mm512_set1_epi32(four);
      sums[i][0] = _mm512_dpbusd_epi32(sums[i][0], given, low);
      sums[i][1] = _mm512_dpbusd_epi32(sums[i][1], given, high);
    }
  }
  const size_t wide = std::min(kPanel, columns - from);
  const uint32_t real = wide == kPanel ? ~0u : (1u << wide) - 1;
  const Finish low(product, from, real), high(product, from + 16, real >> 16);
  if (product.bytes != nullptr) {
#pragma GCC unroll 12
    for (size_t i = 0; i < kRows; ++i) low.write_bytes(sums[i][0], high, sums[i][1], row + i);
  } else if (product.addend != nullptr) {
#pragma GCC unroll 12
    for (size_t i = 0; i < kRows; ++i) low.write_added(sums[i][0], row + i), high.write_added(sums[i][1], row + i);
  } else {
#pragma GCC unroll 12
    for (size_t i = 0; i < kRows; ++i) low.write(sums[i][0], row + i), high.write(sums[i][1], row + i);
  }
}

template <size_t kRows>
void last(const Product& product, size_t row, size_t panel, size_t rows) {
  if constexpr (kRows > 0) {
    if (rows == kRows)
      block<kRows, true>(product, row, panel);
    else
      last<kRows - 1>(product, row, panel, rows);
  }
}

void multiply(const Product& product) {
  for (size_t panel = product.first_panel; panel < product.first_panel + product.panels; ++panel) {  // a panel stays in the first cache while all rows pass
    size_t row = 0;
    for (; row + kMostRows < product.rows; row += kMostRows) block<kMostRows, false>(product, row, panel);
    last<kMostRows>(product, row, panel, product.rows - row);
  }
}

void quantize(const float* values, Quantization by, uint8_t* output, size_t count) {
  const __m512 scale = _mm512_set1_ps(by.scale), reciprocal = _mm512_set1_ps(1.0f / by.scale);
  const __m512i zero_point = _mm512_set1_epi32(by.zero_point);
  const __m512 least = _mm512_set1_ps(static_cast<float>(-by.zero_point));  // what is no number becomes that, too
  const auto some = [&](size_t from, auto& x) {
    constexpr size_t kVectors = sizeof x / sizeof x[0];
    for (size_t j = 0; j < kVectors; ++j) x[j] = _mm512_loadu_ps(values + from + j * 16);
    divide(x, scale, reciprocal);
    for (size_t j = 0; j < kVectors; ++j)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(output + from + j * 16), to_bytes(_mm512_max_ps(x[j], least), zero_point));
  };
  size_t i = 0;
  for (__m512 four[4]; i + 64 <= count; i += 64) some(i, four);
  for (__m512 one[1]; i < count; i += 16) some(i, one);
}

#pragma GCC pop_options

constexpr ProductKernels kKernels = {"avx512", multiply, quantize};

}  // namespace

const ProductKernels* vnni_products() { return supported() ? &kKernels : nullptr; }

}  // namespace dragoman

#else

namespace dragoman {

const ProductKernels* vnni_products() { return nullptr; }

}  // namespace dragoman

#endif
