// The kernels, once for each instruction set, and the choice among them.
//
// What a kernel computes of one row or head does not depend on the others that it is given, so a row's result is the same
// to the bit in any company.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace dragoman {

constexpr size_t kMostQueries = 4;

// A few queries of one head each, over keys and values of one source or target each, all of one length. While one of
// them waits for its own numbers the next is computed, so together they take less time than one after the other.
template <typename Element>
struct Attention {
  size_t count;                             // queries, at most kMostQueries
  bool shared;                              // whether keys and values, and their scales, are those of the first query
  const float* queries[kMostQueries];       // (head_dim) each
  const Element* keys[kMostQueries];        // `length` times (head_dim), `stride` apart
  const Element* values[kMostQueries];
  const float* key_scales[kMostQueries];    // (head_dim), of 8-bit keys; not there for floats
  const float* value_scales[kMostQueries];  // likewise
  float* outputs[kMostQueries];             // (head_dim)
  size_t stride, head_dim, length;
  float scale;     // of the scores
  float* weights;  // (count, length rounded up to 16): the softmax of the scores, and scratch behind each
  // What the next call reads, to be fetched meanwhile; null: nothing.
  const Element* next_keys[kMostQueries];
  const Element* next_values[kMostQueries];
  size_t next_lengths[kMostQueries];
};

// Between the weights of two queries.
inline size_t padded_length(size_t length) { return (length + 15) / 16 * 16; }

constexpr size_t kMostLeaders = 16;

// The greatest of a row whose values come piece by piece, and what its log-softmax will need.
struct Leader {
  float most[16], totals[16];  // of every sixteenth value: the greatest, and the sum of the exponentials less that
  float top[kMostLeaders];     // greatest first; at first, minus infinity
  int32_t indices[kMostLeaders];
};

// Before the first value: nothing is less than any number is.
inline Leader begun() {
  Leader leader = {};
  for (float& most : leader.most) most = -FLT_MAX;
  for (float& value : leader.top) value = -HUGE_VALF;
  return leader;
}

// The number that 16 bits are. Times 2^112, which is exact, its exponent is a float's, whatever it was.
inline float of_half(uint16_t half) {
  constexpr int32_t kTimes = (127 + 112) << 23, kInfinity = 0xff << 23, kFirstInfinite = 0x7c00 << 13;
  const int32_t bits = (half & 0x7fff) << 13;
  float number, times;
  std::memcpy(&number, &bits, sizeof bits);
  std::memcpy(&times, &kTimes, sizeof times);
  number *= times;
  int32_t finite;
  std::memcpy(&finite, &number, sizeof finite);
  const int32_t magnitude = bits < kFirstInfinite ? finite : bits | kInfinity;
  const int32_t signed_bits = magnitude | (half & 0x8000) << 16;
  std::memcpy(&number, &signed_bits, sizeof number);
  return number;
}

struct Kernels {
  const char* name;
  void (*attention_bytes)(const Attention<int8_t>&);
  void (*attention_floats)(const Attention<float>&);
  // values (count) to 8 bits with a scale and its reciprocal for each, ties to even, as QuantizeLinear does it.
  void (*quantize)(const float* values, const float* scales, const float* reciprocals, int8_t* output, size_t count);
  // halves (count) as floats, each with its addend.
  void (*add_halves)(const uint16_t* halves, const float* addends, float* sums, size_t count);
  // Of each row of values (rows, count): less its mean, divided by the root of its variance + epsilon, times scales, plus
  // biases.
  void (*normalize)(const float* values, size_t rows, const float* scales, const float* biases, float epsilon,
                    float* output, size_t count);
  // Takes in values (rows, count), a multiple of 32 of each, `stride` apart, that stand at the places from `first` on.
  void (*lead)(const float* values, size_t rows, size_t stride, size_t count, size_t first, Leader* leaders);
  // When all have been taken in: the log-softmax of the k greatest, at most kMostLeaders, and their places; greatest first,
  // equal ones by place.
  void (*end_lead)(Leader* leader, size_t k, float* top, int64_t* indices);
};

// The best that the processor has; the environment variable DRAGOMAN_INSTRUCTION_SET, for tests, names another.
// Null where the variable names what this processor or this build does not have.
const Kernels* chosen_kernels();

}  // namespace dragoman
