// The kernels, once for each instruction set, and the choice among them.
//
// A kernel works on one row or head and reads nothing of the others, so a row's result is the same to the bit in any company.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dragoman {

// A query of one head over keys and values of one source, or of one target.
template <typename Element>
struct Attention {
  const float* query;    // (head_dim)
  const Element* keys;   // `length` times (head_dim), `stride` apart
  const Element* values;
  size_t stride, head_dim, length;
  float scale;                // of the scores
  const float* key_scales;    // (head_dim), of 8-bit keys; null for floats
  const float* value_scales;  // likewise
  float* output;              // (head_dim)
  float* weights;             // (length rounded up to 16): the softmax of the scores, and scratch behind it
  // What the next call reads, to be fetched meanwhile; null: nothing.
  const Element* next_keys;
  const Element* next_values;
  size_t next_length;
};

struct Kernels {
  const char* name;
  void (*attention_bytes)(const Attention<int8_t>&);
  void (*attention_floats)(const Attention<float>&);
  // values (count) to 8 bits with a scale and its reciprocal for each, ties to even, as QuantizeLinear does it.
  void (*quantize)(const float* values, const float* scales, const float* reciprocals, int8_t* output, size_t count);
  // values less their mean, divided by the root of their variance + epsilon, times scales, plus biases.
  void (*normalize)(const float* values, const float* scales, const float* biases, float epsilon, float* output,
                    size_t count);
  // Of the log-softmax of values, the k greatest and their indices, greatest first, equal ones by index. `maxima` holds
  // count / 16 + 16 floats.
  void (*best)(const float* values, size_t count, size_t k, float* top, int64_t* indices, float* maxima);
};

// The best that the processor has; the environment variable DRAGOMAN_INSTRUCTION_SET, for tests, names another.
// Null where the variable names what this processor or this build does not have.
const Kernels* chosen_kernels();

}  // namespace dragoman
