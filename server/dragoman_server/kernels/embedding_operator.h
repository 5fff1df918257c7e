// What a model begins with: the vectors of tokens and of their places, added up.
#pragma once

#include "instruction_sets.h"
#include "operator.h"

namespace dragoman {

class Embedding {
 public:
  static constexpr const char* kName = "Embedding";
  static constexpr std::array<Port, 5> kInputs = {{
      {ElementType::kInt64},                             // ids (...)
      {ElementType::kAny},                               // vectors of the ids (vocabulary, d_model): floats, halves or bytes
      {ElementType::kFloat},                             // vectors of the places (places, d_model)
      {ElementType::kAny},                               // places, one for each id: 32 or 64 bits
      {ElementType::kFloat, Characteristic::kOptional},  // what the bytes of an id are times of (vocabulary, 1)
  }};
  static constexpr std::array<Port, 1> kOutputs = {{{ElementType::kFloat}}};  // (..., d_model)

  explicit Embedding(const Attributes&) {}

  void compute(Context& context) const {
    const auto ids = context.input<int64_t>(0);
    const auto table = context.input<char>(1), places = context.input<char>(3);
    const auto of_places = context.input<float>(2), scales = context.input<float>(4);
    require(table.rank() == 2 && of_places.rank() == 2 && table.shape[1] == of_places.shape[1], "tables");
    require(places.size() == ids.size(), "a place for each id");
    require(places.type == ElementType::kInt32 || places.type == ElementType::kInt64, "type of the places");
    require((table.type == ElementType::kInt8) == (scales.data != nullptr), "bytes have scales");
    require(scales.data == nullptr || scales.size() == table.shape[0], "a scale for each id");
    const int64_t width = table.shape[1];
    Shape shape = ids.shape;
    shape.push_back(width);
    float* output = context.output<float>(0, shape);
    const int64_t bytes = width * (table.type == ElementType::kFloat ? 4 : table.type == ElementType::kHalf ? 2 : 1);
    for (int64_t at = 0; at < ids.size(); ++at, output += width) {
      const int64_t id = ids.data[at];
      if (at + kAhead < ids.size()) {  // vectors lie anywhere in a table that no near cache holds
        const int64_t next = ids.data[at + kAhead];
        if (0 <= next && next < table.shape[0])
          for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(table.data + next * bytes + i);
      }
      const int64_t place = places.type == ElementType::kInt64 ? reinterpret_cast<const int64_t*>(places.data)[at]
                                                               : reinterpret_cast<const int32_t*>(places.data)[at];
      require(0 <= id && id < table.shape[0], "an id is not in the vocabulary");
      require(0 <= place && place < of_places.shape[0], "a place is beyond the last");
      const float* of_place = of_places.data + place * width;
      if (table.type == ElementType::kFloat)
        add(reinterpret_cast<const float*>(table.data) + id * width, of_place, output, width,
            [](float number) { return number; });
      else if (table.type == ElementType::kHalf)
        kernels_->add_halves(reinterpret_cast<const uint16_t*>(table.data) + id * width, of_place, output, width);
      else if (table.type == ElementType::kInt8)
        add(reinterpret_cast<const int8_t*>(table.data) + id * width, of_place, output, width,
            [scale = scales.data[id]](int8_t number) { return static_cast<float>(number) * scale; });
      else
        throw Failure(ErrorCode::kNotImplemented, "type of the vectors");
    }
  }

 private:
  static constexpr int64_t kAhead = 2;

  template <typename Element, typename Number>
  static void add(const Element* vector, const float* of_place, float* output, int64_t width, Number number) {
    for (int64_t i = 0; i < width; ++i) output[i] = number(vector[i]) + of_place[i];
  }

  const Kernels* kernels_ = chosen_kernels();
};

}  // namespace dragoman
