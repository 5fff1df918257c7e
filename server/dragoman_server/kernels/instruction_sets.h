// The kernels, once for each instruction set, and the choice among them.
//
// A kernel works on one row and reads nothing of the others, so a row's result is the same to the bit in any company.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dragoman {

// One row's attention with one token: queries of all heads over 8-bit keys and values.
struct AttentionRow {
  const float* query;         // (heads, head_dim)
  const int8_t* keys;         // (key_heads, capacity, head_dim)
  const int8_t* values;       // (key_heads, capacity, head_dim)
  const float* key_scales;    // (key_heads, head_dim)
  const float* value_scales;  // (key_heads, head_dim)
  float* output;              // (heads, head_dim)
  float* weights;             // (heads, weights_stride): the first `length` of each are written; null: not asked for
  size_t weights_stride;
  size_t heads, key_heads, head_dim, capacity, length;
  const int8_t* next_keys;    // of the row that comes next, to be fetched ahead; null: none
  const int8_t* next_values;
  size_t next_length;
  float scale;     // of the scores
  float* scratch;  // (length rounded up to 16)
};

struct Kernels {
  const char* name;
  void (*attention)(const AttentionRow&);
  // values (count) to 8 bits with a scale for each, ties to even, as QuantizeLinear does it.
  void (*quantize)(const float* values, const float* scales, int8_t* output, size_t count);
  // values minus the logarithm of the sum of their exponentials.
  void (*log_softmax)(const float* values, float* output, size_t count);
  // The k greatest values and their indices, greatest first, equal ones by index. `maxima` holds count / 64 + 1 floats.
  void (*top_k)(const float* values, size_t count, size_t k, float* top, int64_t* indices, float* maxima);
};

// The best that the processor has; the environment variable DRAGOMAN_INSTRUCTION_SET, for tests, names another.
// Null where the variable names what this processor or this build does not have.
const Kernels* chosen_kernels();

}  // namespace dragoman
