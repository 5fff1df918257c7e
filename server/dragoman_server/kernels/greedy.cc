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
  int64_t* ended;  // (rows, 2): which rows end, and how many steps each has had, this one included
  // Of those that end, one after the other: the tokens and log-probabilities of all their steps.
  int64_t* ended_ids;
  double* ended_log_probs;
};

// The token and the log-probability of a step, side by side.
struct Past {
  int32_t id;
  float log_prob;
};

}  // namespace

// Appends to each of the lane's first `rows` rows its likeliest token, which is fed next, but to those that end with it.
// Returns how many these are, and writes what came of them; -1 where a log-probability is no number: then nothing is changed.
extern "C" __attribute__((visibility("default"))) int64_t dragoman_grow_greedily(const Lane* lane, int64_t rows) {
  for (int64_t row = 0; row < rows; ++row)
    if (!std::isfinite(lane->log_probs[row * lane->log_probs_apart])) return -1;
  int64_t count = 0, place = 0;
  for (int64_t row = 0; row < rows; ++row) {
    int64_t* const numbers = lane->numbers + row * lane->width;
    const int64_t id = lane->ids[row * lane->ids_apart];
    const Past next = {static_cast<int32_t>(id), lane->log_probs[row * lane->log_probs_apart]};
    int64_t* const past = numbers + lane->first;
    if (id != lane->eos && numbers[kSteps] != numbers[kLast]) {
      std::memcpy(past + numbers[kSteps], &next, sizeof next);
      ++numbers[kSteps];
      numbers[kToken] = id;
      continue;
    }
    for (int64_t step = 0; step <= numbers[kSteps]; ++step, ++place) {
      Past of_step = next;
      if (step < numbers[kSteps]) std::memcpy(&of_step, past + step, sizeof of_step);
      lane->ended_ids[place] = of_step.id;
      lane->ended_log_probs[place] = of_step.log_prob;
    }
    lane->ended[2 * count] = row;
    lane->ended[2 * count++ + 1] = numbers[kSteps] + 1;
  }
  return count;
}
