// Copies of what came so far between rows.
#include "histories.h"

#include <cstring>

// The rows of `numbers` are `stride` apart; of each, `steps` and `begins` say at which place these stand, and from `first`
// on there is what came in each step: a token in 4 bytes, its log-probability in 4 more. For each of `count` pairs, all of
// the source's goes to the target, and `kept` becomes how many positions of the caches both had: those up to the first
// token that was fed, and those of the same first tokens. Both have as many tokens; no row is both source and target.
void dragoman_replace_histories(int64_t* numbers, int64_t stride, int64_t steps, int64_t begins, int64_t first,
                                int64_t count, const int64_t* sources, const int64_t* targets, int64_t* kept) {
  for (int64_t i = 0; i < count; ++i) {
    const int64_t* source = numbers + sources[i] * stride;
    int64_t* target = numbers + targets[i] * stride;
    int64_t same = 0;
    while (same < source[steps] && static_cast<int32_t>(source[first + same]) == static_cast<int32_t>(target[first + same]))
      ++same;
    std::memcpy(target + first, source + first, source[steps] * sizeof(int64_t));
    kept[i] = same + source[begins] + 1;
  }
}

// Copies all numbers of rows to others, `count` pairs as above.
void dragoman_copy_histories(int64_t* numbers, int64_t stride, int64_t steps, int64_t first, int64_t count,
                             const int64_t* sources, const int64_t* targets) {
  for (int64_t i = 0; i < count; ++i) {
    const int64_t* source = numbers + sources[i] * stride;
    std::memcpy(numbers + targets[i] * stride, source, (first + source[steps]) * sizeof(int64_t));
  }
}

// Each of the rows 0 to `count` - 1 grows by its number of `next`, whose token becomes the one that is fed next.
void dragoman_append(int64_t* numbers, int64_t stride, int64_t tokens, int64_t steps, int64_t first, int64_t count,
                     const int64_t* next) {
  for (int64_t row = 0; row < count; ++row, numbers += stride) {
    numbers[first + numbers[steps]++] = next[row];
    numbers[tokens] = static_cast<int32_t>(next[row]);
  }
}
