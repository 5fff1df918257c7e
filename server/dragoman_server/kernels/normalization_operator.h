// Normalisation of each token's numbers by themselves.
#pragma once

#include "instruction_sets.h"
#include "operator.h"

namespace dragoman {

// LayerNormalization over the last axis, with a bias and without the statistics.
class LayerNormalization {
 public:
  static constexpr const char* kName = "LayerNormalization";
  static constexpr std::array<Port, 3> kInputs = {{{ElementType::kFloat}, {ElementType::kFloat}, {ElementType::kFloat}}};
  static constexpr std::array<Port, 1> kOutputs = {{{ElementType::kFloat}}};

  explicit LayerNormalization(const Attributes& attributes) : epsilon_(attributes.get("epsilon", 1e-5f)) {
    attributes.only("axis", int64_t{-1});
    attributes.only("stash_type", int64_t{1});
  }

  void compute(Context& context) const {
    const auto values = context.input<float>(0), scales = context.input<float>(1), biases = context.input<float>(2);
    require(values.rank() > 0, "shapes");
    const int64_t count = values.shape.back(), rows = count == 0 ? 0 : values.size() / count;
    require(scales.size() == count && biases.size() == count, "a scale and a bias for each number");
    float* output = context.output<float>(0, values.shape);
    kernels_->normalize(values.data, rows, scales.data, biases.data, epsilon_, output, count);
  }

 private:
  const Kernels* kernels_ = chosen_kernels();
  float epsilon_;
};

}  // namespace dragoman
