// A decoder's attention to its sources, which many rows may have in common.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "attention_operators.h"
#include "instruction_sets.h"
#include "operator.h"

namespace dragoman {

// com.microsoft.GroupQueryAttention for one token a row, over caches that nothing is added to: those of sources. Rows of
// one origin hold the same keys and values; those of the first of them serve a few rows at a time. Attribute
// `mean`: whether the weights are the mean of those of the heads, and only there where they are wanted.
class SourceAttention {
 public:
  static constexpr const char* kName = "SourceAttention";
  static constexpr std::array<Port, 9> kInputs = {{
      {ElementType::kFloat},  // query (rows, 1, hidden)
      {ElementType::kInt8},   // keys (rows, heads, capacity, head_dim)
      {ElementType::kInt8},   // values
      {ElementType::kInt32},  // lengths, less 1 (rows)
      {ElementType::kInt32},  // the longest length ()
      {ElementType::kInt64},  // origins (rows); less than 0: of its own
      {ElementType::kFloat},  // key scales (heads * head_dim)
      {ElementType::kFloat},  // value scales
      {ElementType::kInt64, Characteristic::kOptional},  // whether the weights are wanted ()
  }};
  static constexpr std::array<Port, 4> kOutputs = {{
      {ElementType::kFloat},                             // (rows, 1, hidden)
      {ElementType::kInt8},                              // the keys, in place where they have their memory
      {ElementType::kInt8},                              // the values
      {ElementType::kFloat, Characteristic::kOptional},  // weights (rows, heads, 1, longest length), or (rows, longest length)
  }};

  explicit SourceAttention(const Attributes& attributes)
      : heads_(attributes.get("num_heads", int64_t{0})),
        scale_(attributes.get("scale", 0.0f)),
        mean_(attributes.get("mean", int64_t{0}) != 0) {
    plain(attributes);
    require(heads_ > 0, "num_heads must be positive");
    attributes.only("kv_num_heads", heads_);
  }

  void compute(Context& context) const {
    const auto query = context.input<float>(0);
    const auto keys = context.input<int8_t>(1), values = context.input<int8_t>(2);
    const auto lengths = context.input<int32_t>(3), longest = context.input<int32_t>(4);
    const auto origins = context.input<int64_t>(5);
    const auto key_scales = context.input<float>(6), value_scales = context.input<float>(7);
    require(query.rank() == 3 && query.shape[1] == 1 && keys.rank() == 4 && keys.shape == values.shape, "shapes");
    const int64_t rows = query.shape[0], hidden = query.shape[2], capacity = keys.shape[2], head_dim = keys.shape[3];
    require(head_dim > 0 && head_dim % 16 == 0 && head_dim <= 256, "head_dim must be a multiple of 16, at most 256");
    require(keys.shape[0] == rows && keys.shape[1] == heads_ && hidden == heads_ * head_dim, "rows of the caches");
    require(lengths.size() == rows && origins.size() == rows, "a length and an origin for each row");
    require(key_scales.size() == hidden && value_scales.size() == hidden, "a scale for each channel");
    const int64_t total = longest.data[0], size = capacity * head_dim;
    for (int64_t row = 0; row < rows; ++row)
      require(0 <= lengths.data[row] && lengths.data[row] < total && lengths.data[row] < capacity,
              "a row's length must be positive, and fit the cache and the longest length");

    float* output = context.output<float>(0, {rows, 1, hidden});
    present(context, 1, keys);
    present(context, 2, values);
    const auto wanted = context.input<int64_t>(8);
    require(mean_ == (wanted.data != nullptr), "a mean may be wanted or not");
    float* weights = nullptr;
    if (!mean_) weights = context.output<float>(3, {rows, heads_, 1, total});
    if (mean_ && wanted.data[0] != 0) weights = context.output<float>(3, {rows, total});
    if (weights != nullptr) std::memset(weights, 0, sizeof(float) * rows * (mean_ ? 1 : heads_) * total);

    thread_local std::vector<float> scratch;
    thread_local std::vector<Sharing> all;
    scratch.resize(kMostQueries * padded_length(total));
    find(origins, lengths, all);
    Attention<int8_t> work = {};
    work.stride = work.head_dim = head_dim;
    work.scale = scale_ != 0.0f ? scale_ : 1.0f / std::sqrt(static_cast<float>(head_dim));
    work.weights = scratch.data();
    for (size_t at = 0; at < all.size(); ++at) {
      const Sharing& sharing = all[at];
      const int64_t first = sharing.rows[0];
      work.shared = sharing.count > 1;
      work.length = lengths.data[first] + 1;
      // A head of rows that share it, or a few heads of one row.
      const int64_t most = work.shared ? 1 : static_cast<int64_t>(together(work.length));
      for (int64_t head = 0; head < heads_; head += most) {
        const int64_t count = std::min(heads_ - head, most);
        work.count = work.shared ? sharing.count : count;
        const auto row_of = [&](size_t i) { return work.shared ? sharing.rows[i] : first; };
        const auto head_of = [&](size_t i) { return work.shared ? head : head + static_cast<int64_t>(i); };
        for (size_t i = 0; i < work.count; ++i) {
          const int64_t place = row_of(i) * hidden + head_of(i) * head_dim, cache = (first * heads_ + head_of(i)) * size;
          work.queries[i] = query.data + place;
          work.outputs[i] = output + place;
          work.keys[i] = keys.data + cache;
          work.values[i] = values.data + cache;
          work.key_scales[i] = key_scales.data + head_of(i) * head_dim;
          work.value_scales[i] = value_scales.data + head_of(i) * head_dim;
        }
        for (int64_t i = 0; i < count; ++i) {
          const int64_t next = head + count + i;
          const size_t whose = at + next / heads_;
          const int64_t row = whose < all.size() ? all[whose].rows[0] : 0, cache = (row * heads_ + next % heads_) * size;
          work.next_keys[i] = whose < all.size() ? keys.data + cache : nullptr;
          work.next_values[i] = whose < all.size() ? values.data + cache : nullptr;
          work.next_lengths[i] = lengths.data[row] + 1;
        }
        kernels_->attention_bytes(work);
        for (size_t i = 0; weights != nullptr && i < work.count; ++i) {
          const float* found = work.weights + i * padded_length(work.length);
          if (mean_)
            add(found, weights + row_of(i) * total, work.length, head_of(i) + 1 == heads_);
          else
            std::copy_n(found, work.length, weights + (row_of(i) * heads_ + head_of(i)) * total);
        }
      }
    }
  }

 private:
  // Rows of one origin, a few at the most.
  struct Sharing {
    std::array<int64_t, kMostQueries> rows;
    size_t count;
    int64_t origin;
  };

  // Heads come in their order, so a row's sums do not depend on the others.
  void add(const float* weights, float* sums, size_t length, bool last) const {
    for (size_t t = 0; t < length; ++t) sums[t] += weights[t];
    for (size_t t = 0; last && t < length; ++t) sums[t] /= static_cast<float>(heads_);
  }

  static void find(const Tensor<const int64_t>& origins, const Tensor<const int32_t>& lengths,
                   std::vector<Sharing>& found) {
    // By the last bits of an origin: where the newest of those that have them is. Origins are counted, so few meet; those
    // that do only share less.
    constexpr size_t kPlaces = 1024;
    thread_local std::array<size_t, kPlaces> newest;
    newest.fill(0);
    found.clear();
    for (int64_t row = 0; row < lengths.size(); ++row) {
      const int64_t origin = origins.data[row];
      size_t& place = newest[static_cast<uint64_t>(origin) % kPlaces];
      if (origin >= 0 && place < found.size()) {
        Sharing& sharing = found[place];
        if (sharing.origin == origin && sharing.count < kMostQueries &&
            lengths.data[sharing.rows[0]] == lengths.data[row]) {
          sharing.rows[sharing.count++] = row;
          continue;
        }
      }
      place = found.size();
      found.push_back({{row}, 1, origin});
    }
  }

  const Kernels* kernels_ = chosen_kernels();
  int64_t heads_;
  float scale_;
  bool mean_;
};

}  // namespace dragoman
