/* The level for any CPU, with no instructions but the compiler's own: what the others are checked
 * against, and the start for a port. Products are rounded before they are added. */
#define LEVEL_SCALAR
#include "runtime/kernels/level.h"

#define TILE_1 4
#define TILE_2 2
#define WIDE 2

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

const struct rt_kernels rt_kernels_scalar = {
    .name = "scalar",
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
