/* The AVX-512 kernels in plain C, compiled once for the checks that go over them. */
#define LEVEL_AVX512_EMULATED
#ifndef RT_COMPACT /* sanitizer builds ask for it, too */
#define RT_COMPACT
#endif
#include "runtime/kernels/avx512.c"
