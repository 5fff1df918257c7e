// A chain of linear maps as one node.
#pragma once

#include "chain.h"
#include "operator.h"

namespace dragoman {

// The chain that a node names. Attribute `chain`: its number. Attribute `flat`: how many dimensions before the last, of
// size 1, its results do not have. Attribute `threads`: how many compute it together, the caller's with them.
class KnownChain {
 public:
  explicit KnownChain(const Attributes& attributes)
      : chain_(chain_of(attributes.get("chain", int64_t{0}))),
        flat_(attributes.get("flat", int64_t{0})),
        threads_(attributes.get("threads", int64_t{1})) {
    require(chain_ != nullptr, "no such chain");
    require(1 <= threads_ && threads_ <= 256, "1 to 256 threads");
    for (const Unit& unit : chain_->units)
      require(unit.linears.size() == 1 || unit.linears.size() == 2, "a unit has one linear map or two");
  }

  const Chain& get() const { return *chain_; }
  Team* team() const { return team_of(static_cast<size_t>(threads_)); }
  const std::vector<Unit>& units() const { return chain_->units; }

  size_t rows(const Tensor<const float>& values) const {
    const size_t depth = units().front().depth();
    require(values.rank() > static_cast<size_t>(flat_) && values.shape.back() == static_cast<int64_t>(depth), "shapes");
    return values.size() / depth;
  }

  // Of a result with so many columns.
  Shape shape(const Tensor<const float>& values, int64_t columns) const {
    Shape made(values.shape.begin(), values.shape.end() - 1 - flat_);
    made.push_back(columns);
    return made;
  }

 private:
  std::shared_ptr<const Chain> chain_;
  int64_t flat_, threads_;
};

class ChainOperator {
 public:
  static constexpr const char* kName = "Chain";
  static constexpr std::array<Port, 2> kInputs = {{
      {ElementType::kFloat},                             // (..., depth)
      {ElementType::kFloat, Characteristic::kOptional},  // (..., columns of the unit that adds it)
  }};
  static constexpr std::array<Port, 4> kOutputs = {{  // (..., columns) of each unit that is kept
      {ElementType::kFloat},
      {ElementType::kFloat, Characteristic::kOptional},
      {ElementType::kFloat, Characteristic::kOptional},
      {ElementType::kFloat, Characteristic::kOptional},
  }};

  explicit ChainOperator(const Attributes& attributes) : chain_(attributes) {
    size_t kept = 0;
    for (const Unit& unit : chain_.units()) kept += unit.kept;
    require(1 <= kept && kept <= kOutputs.size(), "a chain has one result to four");
  }

  void compute(Context& context) const {
    const auto values = context.input<float>(0), second = context.input<float>(1);
    const size_t rows = chain_.rows(values);
    float* outputs[kOutputs.size()] = {};
    size_t index = 0;
    for (const Unit& unit : chain_.units()) {
      const auto columns = static_cast<int64_t>(unit.columns());
      require(unit.addend != kSecondInput || second.size() == static_cast<int64_t>(rows) * columns, "second input");
      if (!unit.kept) continue;
      outputs[index] = context.output<float>(index, chain_.shape(values, columns));
      require(outputs[index++] != nullptr || rows == 0, "every result that is kept must be an output");
    }
    chain_.get().run(values.data, second.data, rows, outputs, chain_.team());
  }

 private:
  KnownChain chain_;
};

}  // namespace dragoman
