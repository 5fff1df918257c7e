// Products of 8-bit matrices: unsigned activations by signed weights, which are packed once and shared by all sessions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace dragoman {

constexpr size_t kPanel = 32;  // columns that are computed at a time
// Bytes of weights between those that are multiplied and those that are fetched, where few rows make this quick.
constexpr size_t kAhead = 2048;

// Weights (depth, columns) in panels of 32 columns; within a panel, four numbers of each column side by side.
struct PackedWeights {
  size_t depth, columns;      // as given
  size_t padded_depth;        // rounded up to 4
  // (panels, padded_depth / 4, 32, 4), and room behind: to fetch what lies in no memory would take a search for its page.
  std::vector<int8_t> bytes;
  std::vector<int32_t> sums;  // (panels * 32): of each column

  // Where a panel begins.
  const int8_t* panel(size_t number) const { return bytes.data() + number * kPanel * padded_depth; }
  // How far behind a panel the one lies that comes next; 0: there is none.
  size_t to_next(size_t number) const { return (number + 1) * kPanel < sums.size() ? kPanel * padded_depth : 0; }
};

// Packed weights of these numbers: those that another session made of the same ones, where it still holds them.
std::shared_ptr<const PackedWeights> packed(const int8_t* weights, size_t depth, size_t columns);

// How floats become the bytes of a product: x / scale + zero_point, ties to even, as QuantizeLinear does it.
struct Quantization {
  float scale;
  int32_t zero_point;
};

struct Product {
  const uint8_t* left;  // (rows, padded_depth)
  const PackedWeights* weights;
  const int32_t* begins;  // (panels * 32): what the sums begin with: minus the zero point times the column's sum
  const float* scales;    // (panels * 32): of the sums
  const float* bias;      // (panels * 32)
  size_t rows;
  size_t first_panel, panels;  // those that are computed
  size_t stride;               // columns of what is written, which begins with the first panel
  float* output;               // (rows, stride)
  const float* addend;         // (rows, stride), added to the output; null: nothing
  uint8_t* bytes;              // null, or in place of the output: those greater than 0 as bytes (rows, stride)
  Quantization of_bytes;
};

struct ProductKernels {
  const char* name;
  // Exact in integers, so a row's result does not depend on the others, nor on the instructions.
  void (*multiply)(const Product& product);
  // values (count), a multiple of 16, to bytes.
  void (*quantize)(const float* values, Quantization by, uint8_t* output, size_t count);
};

// Null where the processor does not have the instructions.
const ProductKernels* vnni_products();
const ProductKernels* avx2_products();

// The best that the processor has, or that DRAGOMAN_INSTRUCTION_SET names; null: onnxruntime's own products serve.
const ProductKernels* chosen_products();

}  // namespace dragoman
