/* The AVX-512 kernels in plain C, compiled once for the checks that go over them. */
#define LEVEL_AVX512_EMULATED
#define RT_COMPACT
#include "runtime/kernels/avx512.c"
