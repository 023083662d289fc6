/* AVX-512 (F, BW, DQ, VL): 32 registers of 16 floats, 28 of them accumulators. Compiled with
 * -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma. With LEVEL_AVX512_EMULATED defined it is plain
 * C of the same shape and rounding, for machines without. */
#if defined(__x86_64__) || defined(LEVEL_AVX512_EMULATED)

#if !defined(LEVEL_AVX512_EMULATED)
#define LEVEL_AVX512
#endif
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

const struct rt_kernels ISA(rt_kernels) = {
    .name = "avx512",
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
typedef int rt_no_avx512; /* a file may not be empty */
#endif
