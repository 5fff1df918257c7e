// The best candidates: their log-probabilities and ids.
#pragma once

#include <vector>

#include "instruction_sets.h"
#include "operator.h"

namespace dragoman {

// LogSoftmax over the last axis.
class LogSoftmax {
 public:
  static constexpr const char* kName = "LogSoftmax";
  static constexpr std::array<Port, 1> kInputs = {{{ElementType::kFloat}}};
  static constexpr std::array<Port, 1> kOutputs = {{{ElementType::kFloat}}};

  explicit LogSoftmax(const Attributes& attributes) { attributes.only("axis", int64_t{-1}); }

  void compute(Context& context) const {
    const auto values = context.input<float>(0);
    float* output = context.output<float>(0, values.shape);
    const int64_t count = values.shape.back(), rows = count == 0 ? 0 : values.size() / count;
    for (int64_t row = 0; row < rows; ++row)
      kernels_->log_softmax(values.data + row * count, output + row * count, count);
  }

 private:
  const Kernels* kernels_ = chosen_kernels();
};

// TopK: the greatest along the last axis, sorted.
class TopK {
 public:
  static constexpr const char* kName = "TopK";
  static constexpr std::array<Port, 2> kInputs = {{{ElementType::kFloat}, {ElementType::kInt64}}};
  static constexpr std::array<Port, 2> kOutputs = {{{ElementType::kFloat}, {ElementType::kInt64}}};

  explicit TopK(const Attributes& attributes) {
    attributes.only("axis", int64_t{-1});
    attributes.only("largest", int64_t{1});
    attributes.only("sorted", int64_t{1});
  }

  void compute(Context& context) const {
    const auto values = context.input<float>(0);
    const int64_t k = context.input<int64_t>(1).data[0], count = values.shape.back();
    require(1 <= k && k <= count, "k must be 1 to the size of the last axis");
    Shape shape = values.shape;
    shape.back() = k;
    float* top = context.output<float>(0, shape);
    int64_t* indices = context.output<int64_t>(1, shape);
    thread_local std::vector<float> maxima;
    maxima.resize(count / 64 + 1);
    const int64_t rows = values.size() / count;
    for (int64_t row = 0; row < rows; ++row)
      kernels_->top_k(values.data + row * count, count, k, top + row * k, indices + row * k, maxima.data());
  }

 private:
  const Kernels* kernels_ = chosen_kernels();
};

}  // namespace dragoman
