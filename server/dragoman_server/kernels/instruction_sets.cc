#include "instruction_sets.h"

#include <cstdlib>
#include <cstring>

// clang has no pragma that sets the instructions of what follows.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define DRAGOMAN_X86
#include <immintrin.h>
#endif

namespace dragoman {
namespace {

#ifdef DRAGOMAN_X86

namespace avx512 {
constexpr const char* kName = "avx512";
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#include "vectors_avx512.inc"
#include "kernels.inc"
#pragma GCC pop_options
}  // namespace avx512

namespace avx2 {
constexpr const char* kName = "avx2";
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#include "vectors_avx2.inc"
#include "kernels.inc"
#pragma GCC pop_options
}  // namespace avx2

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

#endif

namespace portable {
constexpr const char* kName = "portable";
#include "vectors_portable.inc"
#include "kernels.inc"
}  // namespace portable

struct Choice {
  const Kernels* kernels;
  bool available;
};

}  // namespace

const Kernels* chosen_kernels() {
  const Choice choices[] = {
#ifdef DRAGOMAN_X86
      {&avx512::kernels, has_avx512()},
      {&avx2::kernels, has_avx2()},
#endif
      {&portable::kernels, true},
  };
  const char* named = std::getenv("DRAGOMAN_INSTRUCTION_SET");
  for (const Choice& choice : choices)
    if (choice.available && (named == nullptr || std::strcmp(named, choice.kernels->name) == 0)) return choice.kernels;
  return nullptr;
}

}  // namespace dragoman
