// Copies of what came so far between rows; histories.cc says what each function does.
#pragma once

#include <cstdint>

// Rows of numbers, `stride` apart, and at which places of a row stand the token that is fed next, how many steps it has had,
// the positions before them, and what came in the first step. decoding/beam_compiled.py has the same.
struct Table {
  int64_t* numbers;
  int64_t stride, tokens, steps, begins, first;
};

extern "C" {

__attribute__((visibility("default"))) void dragoman_replace_histories(int64_t* numbers, int64_t stride, int64_t steps,
                                                                       int64_t begins, int64_t first, int64_t count,
                                                                       const int64_t* sources, const int64_t* targets,
                                                                       int64_t* kept);
__attribute__((visibility("default"))) void dragoman_copy_histories(int64_t* numbers, int64_t stride, int64_t steps,
                                                                    int64_t first, int64_t count, const int64_t* sources,
                                                                    const int64_t* targets);
__attribute__((visibility("default"))) void dragoman_append(int64_t* numbers, int64_t stride, int64_t tokens,
                                                            int64_t steps, int64_t first, int64_t count,
                                                            const int64_t* next);

}  // extern "C"
