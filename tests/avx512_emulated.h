/* The AVX-512 kernels in plain C: checked on every machine, since few have the real ones. */
#ifndef TESTS_AVX512_EMULATED_H
#define TESTS_AVX512_EMULATED_H

#include "runtime/kernels/kernels.h"

extern const struct rt_kernels rt_kernels_avx512_emulated;

/* Every level that can be checked here: those of this CPU, then the emulated one. */
static const struct rt_kernels *check_level(int i)
{
    int n = 0;
    while (rt_kernels_at(n) != NULL)
        n++;
    return i < n ? rt_kernels_at(i) : i == n ? &rt_kernels_avx512_emulated : NULL;
}

#endif
