/* Winograd's algorithm for the blocked Conv: 3x3 convolutions of stride 1 with fewer products.
 * runtime/README.md draws it. Its sums are reassociated: never used where the build is exact, and
 * an infinite or NaN input can make NaN of every output of the tiles (4x4 outputs at most, of one
 * image) whose inputs it is among, not only of its neighbours. */
#ifndef RUNTIME_OPS_CONV_WINOGRAD_H
#define RUNTIME_OPS_CONV_WINOGRAD_H

#include "runtime/ops/conv.h"

struct rt_winograd;

/* Of tiles of m x m, or of the direct algorithm (m = 0): whether they can, what a sample costs in
 * multiply-adds of vectors beside reading the weights, and what these take. Pure functions of the
 * shape and of the level of kernels. */
bool rt_winograd_can(const struct rt_conv *c, int m);
double rt_winograd_cost(const struct rt_conv *c, int m);
size_t rt_winograd_bytes(const struct rt_conv *c, int m);

/* Packs weights w[maps][channels][3][3] for tiles of m x m and sets n->scratch, n->weight_bytes and
 * n->algorithm. bias: a float a map, filled up to whole blocks; kept. *out is written on RT_OK only
 * and lives in b->arena. */
enum rt_status rt_winograd_prepare(struct rt_build *b, struct rt_node *n, const struct rt_conv *c,
                                   int m, const struct rt_conv_weights *w, const float *bias,
                                   struct rt_winograd **out, struct rt_error *err);

/* rt_op.run of a node so prepared. */
void rt_winograd_run(const struct rt_call *call, const struct rt_winograd *s,
                     const struct rt_worker *w);

#endif
