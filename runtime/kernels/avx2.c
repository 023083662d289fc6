/* AVX2 with FMA: 16 registers of 8 floats, 12 of them accumulators. Compiled with -mavx2 -mfma. */
#if defined(__x86_64__)

#define LEVEL_AVX2
#include "runtime/kernels/level.h"

#define TILE_1 12
#define TILE_2 6
#define WIDE 4

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

const struct rt_kernels rt_kernels_avx2 = {
    .name = "avx2",
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
typedef int rt_no_avx2; /* a file may not be empty */
#endif
