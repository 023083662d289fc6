/* Which levels this CPU and its operating system can run, and which one is used. */
#include "runtime/kernels/integer.h"
#include "runtime/kernels/kernels.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

const struct rt_kernels *rt_kernels_at(int i)
{
    int n = 0;
    if (n++ == i)
        return &rt_kernels_scalar;
#if defined(__x86_64__)
    /* The compiler's run time asks the operating system too whether it saves the registers. */
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && n++ == i)
        return &rt_kernels_avx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("fma") && n++ == i)
        return &rt_kernels_avx512;
#elif defined(__aarch64__)
    if (n++ == i) /* every such CPU has it */
        return &rt_kernels_neon;
#endif
    return NULL;
}

/* The best level, or the last one up to the level that RT_ISA names. */
static const struct rt_kernels *choose(void)
{
    const char *isa = getenv("RT_ISA");
    const struct rt_kernels *best = rt_kernels_at(0);
    for (int i = 1; rt_kernels_at(i) != NULL; i++) {
        if (isa != NULL && strcmp(isa, best->name) == 0)
            break;
        best = rt_kernels_at(i);
    }
    return best;
}

static const struct rt_kernels *_Atomic chosen;

const struct rt_kernels *rt_kernels(void)
{
    const struct rt_kernels *k = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (k == NULL) {
        k = choose(); /* the same whichever thread comes first */
        atomic_store_explicit(&chosen, k, memory_order_relaxed);
    }
    return k;
}

void rt_kernels_use(const struct rt_kernels *k)
{
    atomic_store_explicit(&chosen, k, memory_order_relaxed);
}

const struct rt_integer_kernels *rt_integer_kernels_at(int i)
{
    int n = 0;
    if (n++ == i)
        return &rt_integer_scalar;
#if defined(__x86_64__)
    if (rt_kernels_at(1) != NULL && n++ == i)
        return &rt_integer_avx2;
    if (rt_kernels_at(2) != NULL && __builtin_cpu_supports("avx512vnni") && n++ == i)
        return &rt_integer_avx512;
#endif
    return NULL;
}

/* The best that is of no higher level than the kernels in use. */
const struct rt_integer_kernels *rt_integer_kernels(void)
{
    const struct rt_kernels *k = rt_kernels();
    const struct rt_integer_kernels *best = rt_integer_kernels_at(0);
    for (int i = 1; rt_kernels_at(i - 1) != NULL && rt_kernels_at(i - 1) != k; i++)
        if (rt_integer_kernels_at(i) != NULL)
            best = rt_integer_kernels_at(i);
    return best;
}
