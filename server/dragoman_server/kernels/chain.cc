#include "chain.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <unordered_map>

namespace dragoman {
namespace {

// What lies between the products of so many rows fits into the second cache; a multiple of the products' 12.
constexpr size_t kRowsAtOnce = 144;
// Of the output layer: what they give of so many rows fits into the second cache, and what has been found of a row is
// fetched seldom.
constexpr size_t kPanelsAtOnce = 6;

// Rows that are normalised before they become bytes: what they are in between stays in the first cache.
constexpr size_t kNormalizedAtOnce = 4;

// Products of so few rows are made whole before anything is chosen, so that they may be shared out.
constexpr size_t kFewRows = 8;
// Bytes of weights by rows that are worth a part of their own.
constexpr size_t kPartWork = 1 << 16;

// Memory of one thread, which grows to what was ever asked for.
struct Scratch {
  std::vector<uint8_t> bytes[2];
  std::vector<float> floats, normalized;
  std::vector<float*> results;
  std::vector<Leader> leaders;
};

template <typename Element>
Element* room(std::vector<Element>& memory, size_t size) {
  if (memory.size() < size) memory.resize(size);
  return memory.data();
}

void quantize_rows(const Chain& chain, const Unit& unit, const float* values, size_t rows, uint8_t* bytes,
                   Scratch& scratch) {
  const size_t depth = unit.depth();
  const Quantization by = unit.linears.front().of_input;
  if (unit.norm_scales.empty()) return chain.products->quantize(values, by, bytes, rows * depth);
  float* normalized = room(scratch.normalized, kNormalizedAtOnce * depth);
  for (size_t row = 0; row < rows; row += kNormalizedAtOnce) {
    const size_t count = std::min(rows - row, kNormalizedAtOnce);
    chain.kernels->normalize(values + row * depth, count, unit.norm_scales.data(), unit.norm_biases.data(), unit.epsilon,
                             normalized, depth);
    chain.products->quantize(normalized, by, bytes + row * depth, count * depth);
  }
}

Product product(const Linear& linear, const uint8_t* left, size_t rows) {
  Product made = {};
  made.left = left;
  made.weights = linear.weights.get();
  made.begins = linear.begins.data();
  made.scales = linear.scales.data();
  made.bias = linear.bias.data();
  made.rows = rows;
  made.panels = linear.weights->sums.size() / kPanel;
  made.stride = linear.weights->columns;
  return made;
}

// The panels of a product, shared out where that is worth it.
void multiply_shared(const Chain& chain, const Product& product, Team* team) {
  if (team == nullptr) return chain.products->multiply(product);
  const size_t work = product.panels * kPanel * product.weights->padded_depth * (1 + product.rows / 4);
  const size_t parts = std::min({product.panels, work / kPartWork, team->threads()});
  if (parts < 2) return chain.products->multiply(product);
  share(team, static_cast<uint32_t>(parts), [&](uint32_t number) {
    const size_t begin = product.panels * number / parts, end = product.panels * (number + 1) / parts;
    Product part = product;
    part.first_panel += begin;
    part.panels = end - begin;
    if (part.output != nullptr) part.output += begin * kPanel;
    chain.products->multiply(part);
  });
}

void run_unit(const Chain& chain, const Unit& unit, const float* values, const float* addend, size_t rows,
              float* result, Team* team, Scratch& scratch) {
  uint8_t* left = room(scratch.bytes[0], rows * unit.depth());
  quantize_rows(chain, unit, values, rows, left, scratch);
  if (unit.linears.size() == 2) {
    Product inner = product(unit.linears[0], left, rows);
    inner.bytes = room(scratch.bytes[1], rows * inner.weights->columns);
    inner.of_bytes = unit.linears[1].of_input;
    multiply_shared(chain, inner, team);
    left = inner.bytes;
  }
  Product outer = product(unit.linears.back(), left, rows);
  outer.output = result;
  outer.addend = addend;
  multiply_shared(chain, outer, team);
}

// What a few panels give is taken in while it is near.
void choose_rows(const Chain& chain, const float* values, size_t rows, float* logits, Team* team, Scratch& scratch) {
  const Unit& unit = chain.units.front();
  const Linear& linear = unit.linears.front();
  const size_t columns = linear.weights->columns;
  uint8_t* left = room(scratch.bytes[0], rows * unit.depth());
  quantize_rows(chain, unit, values, rows, left, scratch);
  Product part = product(linear, left, rows);
  const size_t panels = part.panels;
  const bool shared = team != nullptr && rows <= kFewRows;
  const size_t at_once = shared ? panels : kPanelsAtOnce, together = shared ? 1 : rows;
  part.output = room(scratch.floats, rows * at_once * kPanel);
  part.stride = at_once * kPanel;
  for (; part.first_panel < panels; part.first_panel += part.panels) {
    part.panels = std::min(at_once, panels - part.first_panel);
    const size_t first = part.first_panel * kPanel, count = std::min(part.panels * kPanel, columns - first);
    if (count < part.panels * kPanel) std::fill_n(part.output, rows * part.stride, -HUGE_VALF);
    multiply_shared(chain, part, team);
    share(team, static_cast<uint32_t>(rows / together), [&](uint32_t number) {
      chain.kernels->lead(part.output + number * part.stride, together, part.stride, part.panels * kPanel, first,
                          scratch.leaders.data() + number);
    });
    for (size_t row = 0; logits != nullptr && row < rows; ++row)
      std::copy_n(part.output + row * part.stride, count, logits + row * columns + first);
  }
}

std::mutex mutex;
std::unordered_map<int64_t, std::shared_ptr<Chain>> chains;
int64_t made = 0;

Unit& last_unit(int64_t number) {
  const std::lock_guard<std::mutex> lock(mutex);
  return chains.at(number)->units.back();
}

}  // namespace

void choose(const Chain& chain, const float* values, size_t rows, size_t k, float* top, int64_t* indices, float* logits,
            Team* team) {
  thread_local Scratch scratch;
  const Unit& unit = chain.units.front();
  const size_t depth = unit.depth(), columns = unit.columns();
  for (size_t begin = 0; begin < rows; begin += kRowsAtOnce) {
    const size_t count = std::min(rows - begin, kRowsAtOnce);
    scratch.leaders.assign(count, begun());
    float* wanted = logits == nullptr ? nullptr : logits + begin * columns;
    choose_rows(chain, values + begin * depth, count, wanted, team, scratch);
    for (size_t row = 0; row < count; ++row)
      chain.kernels->end_lead(&scratch.leaders[row], k, top + (begin + row) * k, indices + (begin + row) * k);
  }
}

void Chain::run(const float* input, const float* second, size_t rows, float* const* outputs, Team* team) const {
  thread_local Scratch scratch;
  size_t unkept = 0;
  for (const Unit& unit : units)
    if (!unit.kept) unkept += unit.columns();
  float* floats = room(scratch.floats, unkept * std::min(rows, kRowsAtOnce));
  for (size_t begin = 0; begin < rows; begin += kRowsAtOnce) {
    const size_t count = std::min(rows - begin, kRowsAtOnce);
    const float* values = input + begin * units.front().depth();
    float* free = floats;
    float* const* output = outputs;
    scratch.results.clear();
    for (const Unit& unit : units) {
      const size_t columns = unit.columns();
      float* result = unit.kept ? *output++ + begin * columns : free;
      if (!unit.kept) free += count * columns;
      const float* addend = nullptr;
      if (unit.addend == kSecondInput) addend = second + begin * columns;
      if (unit.addend >= 0) addend = scratch.results[unit.addend];
      run_unit(*this, unit, values, addend, count, result, team, scratch);
      scratch.results.push_back(result);
      values = result;
    }
  }
}

std::shared_ptr<const Chain> chain_of(int64_t number) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = chains.find(number);
  return found == chains.end() ? nullptr : found->second;
}

}  // namespace dragoman

// How a chain is built: begun, then unit by unit, each with one or two linear maps. What is given is copied.

using namespace dragoman;

extern "C" __attribute__((visibility("default"))) int64_t dragoman_chain_begin() {
  const std::lock_guard<std::mutex> lock(mutex);
  chains.emplace(++made, std::make_shared<Chain>());
  return made;
}

// `scales` and `biases` (depth) are those of the normalisation, null: there is none.
extern "C" __attribute__((visibility("default"))) void dragoman_chain_unit(int64_t number, const float* scales,
                                                                           const float* biases, size_t depth,
                                                                           float epsilon, int64_t addend, int kept) {
  Unit unit = {};
  if (scales != nullptr) unit.norm_scales.assign(scales, scales + depth);
  if (scales != nullptr) unit.norm_biases.assign(biases, biases + depth);
  unit.epsilon = epsilon;
  unit.addend = addend;
  unit.kept = kept != 0;
  const std::lock_guard<std::mutex> lock(mutex);
  chains.at(number)->units.push_back(std::move(unit));
}

// weights (depth, columns), scales (columns), bias (columns) or null; scale and zero point are the input's.
extern "C" __attribute__((visibility("default"))) void dragoman_chain_linear(int64_t number, const int8_t* weights,
                                                                             size_t depth, size_t columns, float scale,
                                                                             int32_t zero_point, const float* scales,
                                                                             const float* bias) {
  Linear linear = {};
  linear.of_input = {scale, zero_point};
  linear.weights = packed(weights, depth, columns);
  const size_t padded = linear.weights->sums.size();
  linear.begins.assign(padded, 0);
  linear.scales.assign(padded, 0.0f);
  linear.bias.assign(padded, 0.0f);
  for (size_t column = 0; column < columns; ++column) {
    linear.begins[column] = -zero_point * linear.weights->sums[column];
    linear.scales[column] = scale * scales[column];
    if (bias != nullptr) linear.bias[column] = bias[column];
  }
  last_unit(number).linears.push_back(std::move(linear));
}

// Operators that were made for the chain keep it.
extern "C" __attribute__((visibility("default"))) void dragoman_chain_release(int64_t number) {
  const std::lock_guard<std::mutex> lock(mutex);
  chains.erase(number);
}

// Whether this processor has the instructions that chains are computed with.
extern "C" __attribute__((visibility("default"))) int dragoman_has_chains() { return chosen_products() != nullptr ? 1 : 0; }
