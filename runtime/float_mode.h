/* How a thread's floating-point unit treats denormals, the numbers below the smallest normal one. A
 * product with one of them takes most machines a hundred times as long, and a network whose
 * activations decay is full of them.
 *
 * Workers take a mode of their own for each node they run and give the thread's back behind the
 * last, so that what a caller has set (flushing, a direction of rounding, traps) neither changes
 * results nor is changed. */
#ifndef RUNTIME_FLOAT_MODE_H
#define RUNTIME_FLOAT_MODE_H

#include <stdbool.h>
#include <stdint.h>

#if defined(__SSE2__)
#include <xmmintrin.h>

#define RT_FLOATS_EXACT 0x1f80u                     /* to nearest, no traps */
#define RT_FLOATS_FLUSH (RT_FLOATS_EXACT | 0x8040u) /* results (FTZ) and operands (DAZ) */

static inline uint64_t rt_float_mode(void)
{
    return _mm_getcsr();
}

static inline void rt_float_mode_set(uint64_t mode)
{
    _mm_setcsr((uint32_t)mode);
}

#elif defined(__aarch64__)

#define RT_FLOATS_EXACT 0u
#define RT_FLOATS_FLUSH (1u << 24) /* FZ: results and operands; halves (FZ16) are left alone */

static inline uint64_t rt_float_mode(void)
{
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
}

static inline void rt_float_mode_set(uint64_t mode)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory");
}

#else

#define RT_FLOATS_EXACT 0u
#define RT_FLOATS_FLUSH 0u

static inline uint64_t rt_float_mode(void)
{
    return 0;
}

static inline void rt_float_mode_set(uint64_t mode)
{
    (void)mode;
}

#endif

/* The mode of nodes that flush, or of those that do not. Setting one is worth a few instructions of
 * a node, so it is done where it changes. */
static inline void rt_float_mode_switch(uint64_t *now, bool flush)
{
    const uint64_t wanted = flush ? RT_FLOATS_FLUSH : RT_FLOATS_EXACT;
    if (*now == wanted)
        return;
    rt_float_mode_set(wanted);
    *now = wanted;
}

#endif
