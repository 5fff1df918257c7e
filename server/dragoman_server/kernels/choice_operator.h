// The best candidates: their log-probabilities and ids.
#pragma once

#include <vector>

#include "instruction_sets.h"
#include "operator.h"

namespace dragoman {

// The log-softmax of logits, and of that the greatest, sorted: only those are written. Attribute `k`: how many.
class Best {
 public:
  static constexpr const char* kName = "Best";
  static constexpr std::array<Port, 1> kInputs = {{{ElementType::kFloat}}};                            // (..., vocabulary)
  static constexpr std::array<Port, 2> kOutputs = {{{ElementType::kFloat}, {ElementType::kInt64}}};  // (..., k)

  explicit Best(const Attributes& attributes) : k_(attributes.get("k", int64_t{0})) {
    require(k_ > 0, "k must be positive");
  }

  void compute(Context& context) const {
    const auto values = context.input<float>(0);
    require(values.rank() > 0 && k_ <= values.shape.back(), "k must be at most the size of the last axis");
    const int64_t count = values.shape.back(), rows = values.size() / count;
    Shape shape = values.shape;
    shape.back() = k_;
    float* top = context.output<float>(0, shape);
    int64_t* indices = context.output<int64_t>(1, shape);
    thread_local std::vector<float> maxima;
    maxima.resize(count / 16 + 16);
    for (int64_t row = 0; row < rows; ++row)
      kernels_->best(values.data + row * count, count, k_, top + row * k_, indices + row * k_, maxima.data());
  }

 private:
  const Kernels* kernels_ = chosen_kernels();
  int64_t k_;
};

}  // namespace dragoman
