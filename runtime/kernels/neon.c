/* NEON of arm64: 32 registers of 4 floats, 28 of them accumulators. Needs no flags: all such CPUs
 * have it. */
#if defined(__aarch64__)

#define LEVEL_NEON
#include "runtime/kernels/level.h"

#define TILE_1 14
#define TILE_2 14
#define WIDE 2
#define DEPTHWISE_PAIRS

#include "runtime/kernels/vmath.inc"
#include "runtime/kernels/elementwise.inc"
#include "runtime/kernels/norm.inc"
#include "runtime/kernels/layout.inc"
#include "runtime/kernels/mac.inc"
#include "runtime/kernels/depthwise.inc"
#include "runtime/kernels/grouped.inc"
#include "runtime/kernels/pool.inc"
#include "runtime/kernels/select.inc"
#include "runtime/kernels/winograd.inc"

const struct rt_kernels rt_kernels_neon = {
    .name = "neon",
    .block = VEC_N,
    ELEMENTWISE_SLOTS,
    NORM_SLOTS,
    LAYOUT_SLOTS,
    MAC_SLOTS,
    DEPTHWISE_SLOTS,
    GROUPED_SLOTS,
    POOL_SLOTS,
    SELECT_SLOTS,
    WINOGRAD_SLOTS,
};

#else
typedef int rt_no_neon; /* a file may not be empty */
#endif
