// Products of 8-bit activations and weights, as floats.
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "operator.h"
#include "products.h"

namespace dragoman {

// com.microsoft.MatMulIntegerToFloat: unsigned activations by signed weights, which must be an initializer: they are
// packed when they are first seen.
class MatMulIntegerToFloat {
 public:
  static constexpr const char* kName = "MatMulIntegerToFloat";
  static constexpr std::array<Port, 7> kInputs = {{
      {ElementType::kUint8},  // activations (..., depth)
      {ElementType::kInt8},   // weights (depth, columns)
      {ElementType::kFloat},  // scale of the activations ()
      {ElementType::kFloat},  // scales of the weights (columns)
      {ElementType::kUint8},  // zero point of the activations ()
      kOptionalAny,
      {ElementType::kFloat, Characteristic::kOptional},  // bias (columns)
  }};
  static constexpr std::array<Port, 1> kOutputs = {{{ElementType::kFloat}}};  // (..., columns)

  explicit MatMulIntegerToFloat(const Attributes&) {}

  void compute(Context& context) {
    const auto left = context.input<uint8_t>(0);
    const auto right = context.input<int8_t>(1);
    require(left.rank() > 0 && right.rank() == 2 && left.shape.back() == right.shape[0], "shapes");
    const size_t depth = right.shape[0], columns = right.shape[1], rows = depth == 0 ? 0 : left.size() / depth;
    if (right.data != seen_) prepare(context, right, depth, columns);
    Shape shape = left.shape;
    shape.back() = static_cast<int64_t>(columns);
    float* output = context.output<float>(0, shape);
    const size_t padded = weights_->padded_depth;
    const uint8_t* activations = left.data;
    if (padded != depth) {
      thread_local std::vector<uint8_t> scratch;
      scratch.assign(rows * padded, 0);
      for (size_t row = 0; row < rows; ++row)
        std::memcpy(scratch.data() + row * padded, left.data + row * depth, depth);
      activations = scratch.data();
    }
    multiply({activations, weights_.get(), offsets_.data(), scales_.data(), bias_.data(), output, rows});
  }

 private:
  void prepare(Context& context, const Tensor<const int8_t>& right, size_t depth, size_t columns) {
    const auto scale = context.input<float>(2), scales = context.input<float>(3), bias = context.input<float>(6);
    const auto zero_point = context.input<uint8_t>(4);
    require(context.input<int8_t>(5).data == nullptr, "weights must have no zero point");
    require(scale.size() == 1 && zero_point.size() == 1, "one scale and one zero point of the activations");
    require(scales.size() == static_cast<int64_t>(columns), "a scale for each column");
    require(bias.data == nullptr || bias.size() == static_cast<int64_t>(columns), "a bias for each column");
    weights_ = packed(right.data, depth, columns);
    const size_t padded = weights_->sums.size();
    offsets_.assign(padded, 0);
    scales_.assign(padded, 0.0f);
    bias_.assign(padded, 0.0f);
    for (size_t column = 0; column < columns; ++column) {
      offsets_[column] = zero_point.data[0] * weights_->sums[column];
      scales_[column] = scale.data[0] * scales.data[column];
      if (bias.data != nullptr) bias_[column] = bias.data[column];
    }
    seen_ = right.data;
  }

  const int8_t* seen_ = nullptr;
  std::shared_ptr<const PackedWeights> weights_;
  std::vector<int32_t> offsets_;
  std::vector<float> scales_, bias_;
};

}  // namespace dragoman
