// Chains of linear maps: what lies between two attentions of a layer, in one pass over a few rows at a time.
//
// A chain is built through the C functions at the end of chain.cc, by whoever reads the graph; its operator
// (chain_operator.h) knows it by a number.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "instruction_sets.h"
#include "products.h"
#include "team.h"

namespace dragoman {

// Quantises its input and multiplies it by 8-bit weights.
struct Linear {
  Quantization of_input;
  std::shared_ptr<const PackedWeights> weights;
  std::vector<int32_t> begins;  // as of Product
  std::vector<float> scales, bias;
};

// One linear map, or two with what is greater than 0 in between; before it a normalisation, behind it an addition.
struct Unit {
  std::vector<float> norm_scales, norm_biases;  // empty: nothing is normalised
  float epsilon;
  std::vector<Linear> linears;
  int64_t addend;  // kNothing, kSecondInput, or an earlier unit's number: what is added
  bool kept;       // whether its result is an output of the chain

  size_t depth() const { return linears.front().weights->depth; }
  size_t columns() const { return linears.back().weights->columns; }
};

constexpr int64_t kNothing = -2, kSecondInput = -1;

// The first unit reads the chain's input, each further one the result of the one before.
struct Chain {
  std::vector<Unit> units;
  const Kernels* kernels = chosen_kernels();
  const ProductKernels* products = chosen_products();

  // `outputs` are those of the units that are kept, (rows, columns) each, in their order. `team` (null: nobody) helps.
  void run(const float* input, const float* second, size_t rows, float* const* outputs, Team* team) const;
};

// The k greatest log-probabilities (rows, k) of what a chain of one linear map gives; `logits` (rows, columns) or null.
void choose(const Chain& chain, const float* values, size_t rows, size_t k, float* top, int64_t* indices, float* logits,
            Team* team);

// The chain of that number; null where there is none any more.
std::shared_ptr<const Chain> chain_of(int64_t number);

}  // namespace dragoman
