// The best candidates: their log-probabilities and ids.
#pragma once

#include <algorithm>
#include <cmath>

#include "chain_operator.h"
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
    require(0 < k_ && k_ <= static_cast<int64_t>(kMostLeaders), "k must be positive, and at most 16");
  }

  void compute(Context& context) const {
    const auto values = context.input<float>(0);
    require(values.rank() > 0 && k_ <= values.shape.back(), "k must be at most the size of the last axis");
    const int64_t count = values.shape.back(), rows = values.size() / count, whole = count / 32 * 32;
    Shape shape = values.shape;
    shape.back() = k_;
    float* top = context.output<float>(0, shape);
    int64_t* indices = context.output<int64_t>(1, shape);
    for (int64_t row = 0; row < rows; ++row) {
      const float* from = values.data + row * count;
      Leader leader = begun();
      kernels_->lead(from, 1, whole, whole, 0, &leader);
      if (whole < count) {
        float rest[32];
        std::fill(std::copy(from + whole, from + count, rest), rest + 32, -HUGE_VALF);
        kernels_->lead(rest, 1, 32, 32, whole, &leader);
      }
      kernels_->end_lead(&leader, k_, top + row * k_, indices + row * k_);
    }
  }

 private:
  const Kernels* kernels_ = chosen_kernels();
  int64_t k_;
};

// The same of what a chain of a single linear map gives, without writing that, unless it is wanted.
class Candidates {
 public:
  static constexpr const char* kName = "Candidates";
  static constexpr std::array<Port, 2> kInputs = {{
      {ElementType::kFloat},  // (..., depth)
      {ElementType::kInt64},  // whether the logits are wanted ()
  }};
  static constexpr std::array<Port, 3> kOutputs = {{
      {ElementType::kFloat},  // (..., k)
      {ElementType::kInt64},
      {ElementType::kFloat, Characteristic::kOptional},  // logits (..., vocabulary): not there unless they are wanted
  }};

  explicit Candidates(const Attributes& attributes)
      : chain_(attributes), k_(attributes.get("k", int64_t{0})) {
    require(chain_.units().size() == 1, "a chain of one unit");
    const Unit& unit = chain_.units().front();
    require(unit.linears.size() == 1 && unit.addend == kNothing, "of one linear map, and nothing added");
    require(0 < k_ && k_ <= static_cast<int64_t>(std::min(kMostLeaders, unit.columns())),
            "k must be positive, and at most 16 and the vocabulary");
  }

  void compute(Context& context) const {
    const auto values = context.input<float>(0);
    const bool wanted = context.input<int64_t>(1).data[0] != 0;
    const size_t rows = chain_.rows(values);
    float* top = context.output<float>(0, chain_.shape(values, k_));
    int64_t* indices = context.output<int64_t>(1, chain_.shape(values, k_));
    float* logits = nullptr;
    if (wanted) logits = context.output<float>(2, chain_.shape(values, chain_.units().front().columns()));
    choose(chain_.get(), values.data, rows, k_, top, indices, logits, chain_.team());
  }

 private:
  KnownChain chain_;
  int64_t k_;
};

}  // namespace dragoman
