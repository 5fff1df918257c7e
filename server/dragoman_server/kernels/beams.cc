// One step of beam search, of all requests of one beam size: what numpy does in decoding/beam_numpy.py, in the same order.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "histories.h"

namespace {

constexpr double kNone = -std::numeric_limits<double>::infinity();

struct Limits {
  double last;     // the step that is the last
  double missing;  // how many more answers are enough
  double worst;    // where the search may stop early: what the least of the wanted answers ranks
  double divisor;  // of the longest hypothesis's score
  double exponent, wu;  // of the length penalty; the latter 0 or 1
  double wanted;        // how many answers are
  double least;         // what the least of so many ranks, once there are; until then, minus infinity
};

// Whether a hypothesis that ends may be among the answers that are wanted. Those that are found to be are ranked again by
// the caller: his arithmetic counts, and may differ in the last bit.
bool promising(const Limits& limits, double total, double length) {
  const double rank = total / std::pow(limits.wu != 0 ? (5 + length) / 6 : length, limits.exponent);
  return !(rank < limits.least - 1e-9 * std::fabs(limits.least));
}

// decoding/beam_compiled.py has the same. A beam has `width` places, best first; of one without a hypothesis the score
// is minus infinity, and the row that of the first place.
struct Beams {
  int64_t width;
  int64_t* rows;   // (requests, width)
  double* scores;  // (requests, width)
  Limits* limits;  // (requests)
  // What a step finds: 2 x width continuations of each request, best first.
  int64_t* parents;
  int64_t* ids;
  float* log_probs;
  double* totals;
  uint8_t* possible;
  uint8_t* ends;
  // What comes of it: many of each, as the functions say.
  int64_t* done;
  int64_t* ended[4];  // requests, rows, tokens, and how many came before
  float* ended_log_probs;
  double* ended_totals;
  int64_t* pasts;
  int64_t *sources, *targets, *forked, *freed;
};

// The place in a beam, and the candidate of its row.
struct Continuation {
  double total;
  int64_t place, candidate;
};

// The `most` best of one request; of equals the better parent's first, then the better token. Returns how many there are.
int64_t choose(const int64_t* rows, const double* scores, int64_t width, const float* log_probs, int64_t columns,
               Continuation* best) {
  const int64_t most = 2 * width;
  int64_t count = 0;
  for (int64_t place = 0; place < width; ++place) {
    if (!(scores[place] > kNone)) continue;
    const float* candidates = log_probs + rows[place] * columns;
    for (int64_t candidate = 0; candidate < most; ++candidate) {
      const double total = scores[place] + static_cast<double>(candidates[candidate]);
      if (!(total > (count < most ? kNone : best[most - 1].total))) continue;
      int64_t at = count < most ? count++ : most - 1;
      for (; at > 0 && best[at - 1].total < total; --at) best[at] = best[at - 1];
      best[at] = {total, place, candidate};
    }
  }
  return count;
}

// Of a place: whether its hypothesis lives on, and whether in its own row already.
enum class Heir : uint8_t { none, awaited, placed };

struct Changes {
  int64_t replaced = 0, forked = 0, freed = 0;
};

// The continuations `chosen` of a request (`count` of them) are its beam from now on; each gets a row. Rows may be written
// over those that are read.
void settle(const Beams& beams, int64_t request, const int64_t* chosen, int64_t count, int64_t goal, int64_t first_number,
            int64_t* next, int64_t* old_rows, Heir* heirs, Changes& changes) {
  const int64_t width = beams.width, found = request * 2 * width;
  std::copy_n(beams.rows + request * width, width, old_rows);
  std::fill_n(heirs, width, Heir::none);
  for (int64_t i = 0; i < count; ++i) heirs[beams.parents[found + chosen[i]]] = Heir::awaited;
  const double* scores = beams.scores + request * width;
  int64_t spare = 0;
  const auto left = [&] {
    while (spare < width && (heirs[spare] != Heir::none || !(scores[spare] > kNone))) ++spare;
    return spare < width;
  };
  int64_t* rows = beams.rows + goal * width;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t place = beams.parents[found + chosen[i]], parent = old_rows[place];
    if (heirs[place] == Heir::awaited) {
      heirs[place] = Heir::placed;
      rows[i] = parent;
    } else if (left()) {
      beams.sources[changes.replaced] = parent;
      rows[i] = beams.targets[changes.replaced++] = old_rows[spare++];
    } else {
      beams.forked[changes.forked] = parent;
      rows[i] = first_number + changes.forked++;
    }
    int32_t halves[2] = {static_cast<int32_t>(beams.ids[found + chosen[i]])};
    std::memcpy(halves + 1, beams.log_probs + found + chosen[i], sizeof(float));
    std::memcpy(next + rows[i], halves, sizeof(halves));
  }
  for (; left(); ++spare) beams.freed[changes.freed++] = old_rows[spare];
  double* totals = beams.scores + goal * width;
  for (int64_t i = 0; i < count; ++i) totals[i] = beams.totals[found + chosen[i]];
  std::fill(rows + count, rows + width, rows[0]);
  std::fill(totals + count, totals + width, kNone);
}

// All of a step, and where what it reads and writes stands. decoding/beam_compiled.py has the same.
struct Lane {
  const Beams* beams;
  const Table* table;
  const int64_t* ids;  // (rows, columns): the candidates of each row
  const float* log_probs;
  int64_t columns, eos;
  int64_t first_number;  // of the forks
  int64_t* next;         // by row and fork: what comes next
  int64_t* kept;         // of each that is replaced, as dragoman_replace_histories says
  int64_t* counts;       // as dragoman_place says
};

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

// Of each request's candidates (rows, columns) the best; those end that are `eos`, and all at the last step.
EXPORTED void dragoman_choose(const Beams* beams, int64_t requests, const int64_t* ids, const float* log_probs,
                              int64_t columns, int64_t eos, int64_t step) {
  const int64_t width = beams->width, most = 2 * width;
  std::vector<Continuation> best(most);
  for (int64_t request = 0; request < requests; ++request) {
    const int64_t* rows = beams->rows + request * width;
    const int64_t count = choose(rows, beams->scores + request * width, width, log_probs, columns, best.data());
    const bool last = beams->limits[request].last == static_cast<double>(step);
    for (int64_t i = 0, at = request * most; i < most; ++i, ++at) {
      beams->possible[at] = i < count;
      beams->ends[at] = 0;
      if (i >= count) continue;
      const int64_t candidate = rows[best[i].place] * columns + best[i].candidate;
      beams->parents[at] = best[i].place;
      beams->ids[at] = ids[candidate];
      beams->log_probs[at] = log_probs[candidate];
      beams->totals[at] = best[i].total;
      beams->ends[at] = last || ids[candidate] == eos;
    }
  }
}

// Writes those that end among the first `width` to `ended`, and what came before in their rows one after the other to
// `pasts`; but none that is certainly worse than all that are wanted. Returns how many. Each row of a table's numbers has
// its tokens so far at place `steps`, and those themselves from place `first` on.
EXPORTED int64_t dragoman_ended(const Beams* beams, int64_t requests, const int64_t* numbers, int64_t stride,
                                int64_t steps, int64_t first) {
  const int64_t width = beams->width;
  int64_t count = 0;
  int64_t* pasts = beams->pasts;
  for (int64_t request = 0; request < requests; ++request) {
    double taken = 0;
    for (int64_t i = 0, at = request * 2 * width; i < width; ++i, ++at) {
      const Limits& limits = beams->limits[request];
      if (!beams->ends[at] || !beams->possible[at] || !(taken < limits.wanted)) continue;
      const int64_t row = beams->rows[request * width + beams->parents[at]], length = numbers[row * stride + steps];
      if (!promising(limits, beams->totals[at], static_cast<double>(length + 1))) continue;
      taken += 1;
      pasts = std::copy_n(numbers + row * stride + first, length, pasts);
      beams->ended[0][count] = request;
      beams->ended[1][count] = row;
      beams->ended[2][count] = beams->ids[at];
      beams->ended[3][count] = length;
      beams->ended_log_probs[count] = beams->log_probs[at];
      beams->ended_totals[count++] = beams->totals[at];
    }
  }
  return count;
}

// The first `width` that do not end live on, of requests that do; what comes next in each row, or by the number of a fork,
// is written to `next`, token and log-probability. Requests that are done leave the arrays. Counts: done, replaced
// (sources and targets), forked (numbers from first_number on) and freed.
EXPORTED void dragoman_place(const Beams* beams, int64_t requests, int64_t first_number, int64_t* next, int64_t* counts) {
  const int64_t width = beams->width, most = 2 * width;
  int64_t done = 0;
  Changes changes;
  const auto going = [&](int64_t request, int64_t i) {
    return beams->possible[request * most + i] && !beams->ends[request * most + i];
  };
  for (int64_t request = 0; request < requests; ++request) {
    Limits& limits = beams->limits[request];
    int64_t first = 0;
    for (int64_t i = 0; i < width; ++i)
      if (beams->possible[request * most + i] && beams->ends[request * most + i]) limits.missing -= 1;
    while (first < most && !going(request, first)) ++first;
    // Log-probabilities only add up to less, the longest is penalised least, and nothing covers more than all.
    if (first < most && limits.missing > 0 && beams->totals[request * most + first] / limits.divisor > limits.worst) continue;
    beams->done[done++] = request;
    for (int64_t place = request * width; place < (request + 1) * width; ++place)
      if (beams->scores[place] > kNone) beams->freed[changes.freed++] = beams->rows[place];
  }
  std::vector<int64_t> chosen(width), old_rows(width);
  std::vector<Heir> heirs(width);
  for (int64_t request = 0, gone = 0; request < requests; ++request) {
    if (gone < done && beams->done[gone] == request) {
      ++gone;
      continue;
    }
    int64_t count = 0;
    for (int64_t i = 0; i < most && count < width; ++i)
      if (going(request, i)) chosen[count++] = i;
    settle(*beams, request, chosen.data(), count, request - gone, first_number, next, old_rows.data(), heirs.data(), changes);
    beams->limits[request - gone] = beams->limits[request];
  }
  counts[0] = done, counts[1] = changes.replaced, counts[2] = changes.forked, counts[3] = changes.freed;
}

// All of a step of a lane whose `rows` rows are those of these requests: chooses, tells who ends, and places, as above; and
// where no row is forked or freed, copies what came so far between rows and appends what comes next. Returns how many end;
// -1 where a log-probability is no number: then nothing is changed.
EXPORTED int64_t dragoman_advance_beams(const Lane* lane, int64_t requests, int64_t rows, int64_t step) {
  for (int64_t row = 0; row < rows; ++row)
    if (!std::isfinite(lane->log_probs[row * lane->columns])) return -1;
  const Beams* const beams = lane->beams;
  const Table& table = *lane->table;
  dragoman_choose(beams, requests, lane->ids, lane->log_probs, lane->columns, lane->eos, step);
  const int64_t ended = dragoman_ended(beams, requests, table.numbers, table.stride, table.steps, table.first);
  dragoman_place(beams, requests, lane->first_number, lane->next, lane->counts);
  if (lane->counts[2] == 0 && lane->counts[3] == 0) {
    dragoman_replace_histories(table.numbers, table.stride, table.steps, table.begins, table.first, lane->counts[1],
                               beams->sources, beams->targets, lane->kept);
    dragoman_append(table.numbers, table.stride, table.tokens, table.steps, table.first, rows, lane->next);
  }
  return ended;
}
