// Attention: of a decoder to what it has cached, and of a text to itself.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "instruction_sets.h"
#include "operator.h"

namespace dragoman {

// Heads of one row that are computed together. Fewer of long ones: with those that are fetched meanwhile, they would not
// fit into the first cache.
inline size_t together(size_t length) { return length <= 24 ? kMostQueries : kMostQueries / 2; }

// A cache that is given on: the past itself, where it has its memory.
inline int8_t* present(Context& context, size_t index, const Tensor<const int8_t>& past) {
  int8_t* data = context.output<int8_t>(index, past.shape);
  require(data != nullptr, "both caches must be outputs");
  if (data != past.data) std::memcpy(data, past.data, past.size());
  return data;
}

// Refuses attention of another kind than both decoders' operators are made for.
inline void plain(const Attributes& attributes) {
  attributes.only("do_rotary", int64_t{0});
  attributes.only("local_window_size", int64_t{-1});
  attributes.only("smooth_softmax", int64_t{0});
  attributes.only("softcap", 0.0f);
  attributes.only("kv_cache_bit_width", int64_t{8});
  attributes.only("k_quant_type", "PER_CHANNEL");
  attributes.only("v_quant_type", "PER_CHANNEL");
  if (attributes.get("qk_output", int64_t{0}) != 0) attributes.only("qk_output", int64_t{2});
}

// com.microsoft.GroupQueryAttention over caches of 8 bits with a scale for each channel.
class GroupQueryAttention {
 public:
  static constexpr const char* kName = "GroupQueryAttention";
  static constexpr std::array<Port, 14> kInputs = {{
      {ElementType::kFloat},                             // query (rows, tokens, hidden), or with keys and values behind
      {ElementType::kFloat, Characteristic::kOptional},  // key (rows, tokens, key hidden)
      {ElementType::kFloat, Characteristic::kOptional},  // value
      {ElementType::kInt8},                              // past key (rows, key heads, capacity, head_dim)
      {ElementType::kInt8},                              // past value
      {ElementType::kInt32},                             // lengths with the new tokens, less 1 (rows)
      {ElementType::kInt32},                             // the longest length ()
      kOptionalAny, kOptionalAny, kOptionalAny, kOptionalAny, kOptionalAny,
      {ElementType::kFloat},  // key scales (key heads * head_dim)
      {ElementType::kFloat},  // value scales
  }};
  static constexpr std::array<Port, 4> kOutputs = {{
      {ElementType::kFloat},                             // (rows, tokens, hidden)
      {ElementType::kInt8},                              // present key: the past, in place where it has its memory
      {ElementType::kInt8},                              // present value
      {ElementType::kFloat, Characteristic::kOptional},  // weights (rows, heads, tokens, longest length)
  }};

  explicit GroupQueryAttention(const Attributes& attributes)
      : heads_(attributes.get("num_heads", int64_t{0})),
        key_heads_(attributes.get("kv_num_heads", int64_t{0})),
        scale_(attributes.get("scale", 0.0f)) {
    plain(attributes);
    require(key_heads_ > 0 && heads_ % key_heads_ == 0, "num_heads must be a multiple of kv_num_heads");
  }

  void compute(Context& context) const {
    const auto query = context.input<float>(0), key = context.input<float>(1), value = context.input<float>(2);
    const auto past_key = context.input<int8_t>(3), past_value = context.input<int8_t>(4);
    const auto lengths = context.input<int32_t>(5), longest = context.input<int32_t>(6);
    const auto key_scales = context.input<float>(12), value_scales = context.input<float>(13);
    require(query.rank() == 3 && past_key.rank() == 4 && past_key.shape == past_value.shape, "shapes");
    const int64_t rows = query.shape[0], tokens = query.shape[1], width = query.shape[2];
    const int64_t capacity = past_key.shape[2], head_dim = past_key.shape[3];
    const int64_t hidden = heads_ * head_dim, key_hidden = key_heads_ * head_dim;
    require(head_dim > 0 && head_dim % 16 == 0 && head_dim <= 256, "head_dim must be a multiple of 16, at most 256");
    require(past_key.shape[0] == rows && past_key.shape[1] == key_heads_ && lengths.size() == rows, "rows of the caches");
    require(key_scales.size() == key_hidden && value_scales.size() == key_hidden, "a scale for each channel");
    const bool packed = key.data == nullptr;
    require(width == (packed ? hidden + 2 * key_hidden : hidden), "width of the query");
    require(packed || (value.data != nullptr && key.size() == rows * tokens * key_hidden && value.shape == key.shape),
            "shapes of key and value");
    const int64_t total = longest.data[0];
    for (int64_t row = 0; row < rows; ++row)
      require(lengths.data[row] + 1 >= tokens && lengths.data[row] < total && lengths.data[row] < capacity,
              "a row's length must hold its new tokens, and fit the cache and the longest length");

    float* output = context.output<float>(0, {rows, tokens, hidden});
    int8_t* keys = present(context, 1, past_key);
    int8_t* values = present(context, 2, past_value);
    float* weights = context.output<float>(3, {rows, heads_, tokens, total});
    if (weights != nullptr) std::memset(weights, 0, sizeof(float) * rows * heads_ * tokens * total);

    thread_local std::vector<float> scratch, reciprocals;
    scratch.resize(kMostQueries * padded_length(total));
    reciprocals.resize(2 * key_hidden);
    for (int64_t i = 0; i < key_hidden; ++i) {
      reciprocals[i] = 1.0f / key_scales.data[i];
      reciprocals[key_hidden + i] = 1.0f / value_scales.data[i];
    }
    Attention<int8_t> work = {};
    work.stride = work.head_dim = head_dim;
    work.scale = scale_ != 0.0f ? scale_ : 1.0f / std::sqrt(static_cast<float>(head_dim));
    work.weights = scratch.data();
    const int64_t all_heads = rows * heads_, group = heads_ / key_heads_;
    const auto cache_of = [&](int64_t head) {  // of all heads of all rows
      return (head / heads_ * key_heads_ + head % heads_ / group) * capacity * head_dim;
    };
    for (int64_t row = 0; row < rows; ++row) {
      if (row + 1 < rows)  // where the next row's new keys and values go
        for (int64_t head = 0; head < key_heads_; ++head) {
          const int64_t first = lengths.data[row + 1] + 1 - tokens;
          const int64_t place = (((row + 1) * key_heads_ + head) * capacity + first) * head_dim;
          __builtin_prefetch(keys + place, 1);
          __builtin_prefetch(values + place, 1);
        }
      for (int64_t token = 0; token < tokens; ++token) {
        const int64_t at = row * tokens + token, position = lengths.data[row] + 1 - tokens + token;
        const float* given = query.data + at * width;
        const float* new_key = packed ? given + hidden : key.data + at * key_hidden;
        const float* new_value = packed ? given + hidden + key_hidden : value.data + at * key_hidden;
        for (int64_t head = 0; head < key_heads_; ++head) {
          const int64_t place = ((row * key_heads_ + head) * capacity + position) * head_dim, from = head * head_dim;
          const float *of_key = reciprocals.data() + from, *of_value = of_key + key_hidden;
          kernels_->quantize(new_key + from, key_scales.data + from, of_key, keys + place, head_dim);
          kernels_->quantize(new_value + from, value_scales.data + from, of_value, values + place, head_dim);
        }
        work.length = position + 1;
        const int64_t most = together(work.length);
        for (int64_t head = 0; head < heads_; head += most) {
          const int64_t count = std::min(heads_ - head, most), overall = row * heads_ + head;
          work.count = count;
          work.shared = head / group == (head + count - 1) / group;
          for (int64_t i = 0; i < count; ++i) {
            const int64_t from = (head + i) / group * head_dim, next = overall + count + i;
            const bool ahead = tokens == 1 && next < all_heads;
            work.queries[i] = given + (head + i) * head_dim;
            work.keys[i] = keys + cache_of(overall + i);
            work.values[i] = values + cache_of(overall + i);
            work.key_scales[i] = key_scales.data + from;
            work.value_scales[i] = value_scales.data + from;
            work.outputs[i] = output + at * hidden + (head + i) * head_dim;
            work.next_keys[i] = ahead ? keys + cache_of(next) : nullptr;
            work.next_values[i] = ahead ? values + cache_of(next) : nullptr;
            work.next_lengths[i] = ahead ? lengths.data[next / heads_] + 1 : 0;
          }
          kernels_->attention_bytes(work);
          for (int64_t i = 0; weights != nullptr && i < count; ++i)
            std::memcpy(weights + ((overall + i) * tokens + token) * total,
                        work.weights + i * padded_length(work.length), sizeof(float) * work.length);
        }
      }
    }
  }

 private:
  const Kernels* kernels_ = chosen_kernels();
  int64_t heads_, key_heads_;
  float scale_;
};

// Of each text to itself, over tokens that lie side by side without padding.
class PackedAttention {
 public:
  static constexpr const char* kName = "PackedAttention";
  static constexpr std::array<Port, 3> kInputs = {{
      {ElementType::kFloat},  // queries, keys and values side by side (tokens, 3 * hidden)
      {ElementType::kInt64},  // the token for each place of the padded batch (texts, longest): a text's first is first
      {ElementType::kInt32},  // mask of that batch (texts, longest): 1 for tokens, then 0 for padding
  }};
  static constexpr std::array<Port, 1> kOutputs = {{{ElementType::kFloat}}};  // (tokens, hidden)

  explicit PackedAttention(const Attributes& attributes)
      : heads_(attributes.get("num_heads", int64_t{0})), scale_(attributes.get("scale", 0.0f)) {
    require(heads_ > 0, "num_heads must be positive");
  }

  void compute(Context& context) const {
    const auto packed = context.input<float>(0);
    const auto places = context.input<int64_t>(1);
    const auto mask = context.input<int32_t>(2);
    require(packed.rank() == 2 && packed.shape[1] % 3 == 0, "shapes");
    const int64_t tokens = packed.shape[0], width = packed.shape[1], hidden = width / 3, head_dim = hidden / heads_;
    require(hidden % heads_ == 0 && head_dim % 16 == 0 && head_dim <= 256, "head_dim must be a multiple of 16");
    require(places.rank() == 2 && mask.shape == places.shape, "the mask must be of the places");
    const int64_t texts = mask.shape[0], longest = mask.shape[1];
    float* output = context.output<float>(0, {tokens, hidden});
    thread_local std::vector<float> scratch;
    scratch.resize(kMostQueries * padded_length(longest));
    Attention<float> work = {};
    work.stride = width;
    work.head_dim = head_dim;
    work.scale = scale_ != 0.0f ? scale_ : 1.0f / std::sqrt(static_cast<float>(head_dim));
    work.weights = scratch.data();
    work.shared = true;
    int64_t expected = 0;
    for (int64_t text = 0; text < texts; ++text) {
      const int64_t begin = places.data[text * longest], length = real(mask.data + text * longest, longest);
      require(begin == expected && begin + length <= tokens, "texts must follow one another");
      expected += length;
      work.length = length;
      for (int64_t head = 0; head < heads_; ++head)
        for (int64_t token = begin; token < begin + length; token += kMostQueries) {
          const int64_t from = head * head_dim;
          work.count = std::min<int64_t>(begin + length - token, kMostQueries);
          for (size_t i = 0; i < work.count; ++i) {
            work.queries[i] = packed.data + (token + i) * width + from;
            work.keys[i] = packed.data + begin * width + hidden + from;
            work.values[i] = work.keys[i] + hidden;
            work.outputs[i] = output + (token + i) * hidden + from;
          }
          kernels_->attention_floats(work);
        }
    }
    require(expected == tokens, "all tokens must be of a text");
  }

 private:
  static int64_t real(const int32_t* mask, int64_t tokens) {
    int64_t length = 0;
    while (length < tokens && mask[length] != 0) ++length;
    for (int64_t token = length; token < tokens; ++token) require(mask[token] == 0, "padding must come last");
    return length;
  }

  const Kernels* kernels_ = chosen_kernels();
  int64_t heads_;
  float scale_;
};

}  // namespace dragoman
