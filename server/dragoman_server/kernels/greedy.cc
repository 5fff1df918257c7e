// What a step of greedy search comes to for all rows of a lane: a few comparisons each, for which one call is enough.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

// The numbers of a row, as dragoman_server.decoding.table lays them out.
constexpr int64_t kToken = 0, kSteps = 1, kLast = 2;

struct Lane {
  int64_t* numbers;  // (rows, width)
  int64_t width;
  int64_t first;           // where in a row the token of its first step stands
  const int64_t* ids;      // of each row the likeliest token
  int64_t ids_apart;       // numbers from one to the next
  const float* log_probs;  // its log-probability
  int64_t log_probs_apart;
  int64_t eos;
  int64_t* ended;  // (rows)
};

}  // namespace

// Appends to each of the lane's first `rows` rows its likeliest token, which is fed next, but to those that end with it.
// Returns how many these are, and writes which; -1 where a log-probability is no number: then nothing is changed.
extern "C" __attribute__((visibility("default"))) int64_t dragoman_grow_greedily(const Lane* lane, int64_t rows) {
  for (int64_t row = 0; row < rows; ++row)
    if (!std::isfinite(lane->log_probs[row * lane->log_probs_apart])) return -1;
  int64_t count = 0;
  for (int64_t row = 0; row < rows; ++row) {
    int64_t* const numbers = lane->numbers + row * lane->width;
    const int64_t id = lane->ids[row * lane->ids_apart];
    if (id == lane->eos || numbers[kSteps] == numbers[kLast]) {
      lane->ended[count++] = row;
      continue;
    }
    // Token and log-probability side by side, 4 bytes each.
    const auto token = static_cast<int32_t>(id);
    auto* const step = reinterpret_cast<uint8_t*>(numbers + lane->first + numbers[kSteps]);
    std::memcpy(step, &token, sizeof token);
    std::memcpy(step + sizeof token, lane->log_probs + row * lane->log_probs_apart, sizeof(float));
    ++numbers[kSteps];
    numbers[kToken] = id;
  }
  return count;
}
