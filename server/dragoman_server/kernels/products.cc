#include "products.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <string_view>
#include <unordered_map>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define DRAGOMAN_X86
#include <immintrin.h>
#endif

namespace dragoman {
namespace {

std::shared_ptr<const PackedWeights> pack(const int8_t* weights, size_t depth, size_t columns) {
  const size_t panels = (columns + kPanel - 1) / kPanel, padded = (depth + 3) / 4 * 4;
  auto made = std::make_shared<PackedWeights>();
  *made = {depth, columns, padded, std::vector<int8_t>(panels * padded * kPanel), std::vector<int32_t>(panels * kPanel)};
  for (size_t k = 0; k < depth; ++k)
    for (size_t n = 0; n < columns; ++n) {
      const int8_t weight = weights[k * columns + n];
      made->bytes[(n / kPanel * padded + k / 4 * 4) * kPanel + n % kPanel * 4 + k % 4] = weight;
      made->sums[n] += weight;
    }
  return made;
}

}  // namespace

std::shared_ptr<const PackedWeights> packed(const int8_t* weights, size_t depth, size_t columns) {
  static std::mutex mutex;
  static std::unordered_multimap<size_t, std::weak_ptr<const PackedWeights>> known;
  const size_t size = depth * columns;
  const size_t hash = std::hash<std::string_view>{}({reinterpret_cast<const char*>(weights), size});
  const auto made = pack(weights, depth, columns);
  const std::lock_guard<std::mutex> lock(mutex);
  for (auto [at, end] = known.equal_range(hash); at != end;) {
    const auto held = at->second.lock();
    if (held == nullptr) {
      at = known.erase(at);
      continue;
    }
    if (held->depth == depth && held->columns == columns && held->bytes == made->bytes) return held;
    ++at;
  }
  known.emplace(hash, made);
  return made;
}

#ifdef DRAGOMAN_X86

bool has_products() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vnni")

namespace {

constexpr size_t kMostRows = 12;  // 24 sums, two panels' halves and an activation fill the 32 registers

// Writes those of 16 sums that are `real`, one bit for each. Rounds twice, as onnxruntime does it: to the same bits.
inline void finish(const Product& product, __m512i sums, size_t from, float* output, uint32_t real) {
  const __m512 exact = _mm512_cvtepi32_ps(_mm512_sub_epi32(sums, _mm512_loadu_si512(product.offsets + from)));
  const __m512 scaled = _mm512_mul_ps(exact, _mm512_loadu_ps(product.scales + from));
  const __m512 result = _mm512_add_ps(scaled, _mm512_loadu_ps(product.bias + from));
  _mm512_mask_storeu_ps(output, static_cast<__mmask16>(real), result);
}

// kRows rows by one panel. `kLast` of the panel's rows: the next panel is fetched meanwhile, since weights come from far
// and the processor's own prefetching begins anew at every page.
template <size_t kRows, bool kLast>
void block(const Product& product, size_t row, size_t panel) {
  const size_t depth = product.weights->padded_depth, columns = product.weights->columns, from = panel * kPanel;
  const uint8_t* left = product.left + row * depth;
  const int8_t* const end = product.weights->bytes.data() + (from + kPanel) * depth;
  const int8_t* right = product.weights->bytes.data() + from * depth;
  __m512i sums[kRows][2];
#pragma GCC unroll 12
  for (size_t i = 0; i < kRows; ++i) sums[i][0] = sums[i][1] = _mm512_setzero_si512();
  for (; right != end; right += 4 * kPanel, left += 4) {
    const __m512i low = _mm512_loadu_si512(right), high = _mm512_loadu_si512(right + 64);
    if (kLast) {
      _mm_prefetch(right + depth * kPanel, _MM_HINT_T0);
      _mm_prefetch(right + depth * kPanel + 64, _MM_HINT_T0);
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
#pragma GCC unroll 12
  for (size_t i = 0; i < kRows; ++i) {
    float* output = product.output + (row + i) * columns + from;
    finish(product, sums[i][0], from, output, real);
    finish(product, sums[i][1], from + 16, output + 16, real >> 16);
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

}  // namespace

void multiply(const Product& product) {
  const size_t panels = (product.weights->columns + kPanel - 1) / kPanel;
  for (size_t panel = 0; panel < panels; ++panel) {  // a panel stays in the first cache while all rows pass
    size_t row = 0;
    for (; row + kMostRows < product.rows; row += kMostRows) block<kMostRows, false>(product, row, panel);
    last<kMostRows>(product, row, panel, product.rows - row);
  }
}

#pragma GCC pop_options

#else

bool has_products() { return false; }

void multiply(const Product&) {}

#endif

}  // namespace dragoman
