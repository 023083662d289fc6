/* Direct convolution for the blocked Conv: of any kernel and stride, with groups of whole blocks.
 */
#ifndef RUNTIME_OPS_CONV_DENSE_H
#define RUNTIME_OPS_CONV_DENSE_H

#include "runtime/ops/conv.h"
#include "runtime/ops/conv_pieces.h"

struct rt_dense_conv;

/* Packs weights w[maps][channels of a group][kh][kw] and sets n->scratch, n->weight_bytes and
 * n->algorithm. bias: a float a map, filled up to whole blocks; kept. *out is written on RT_OK only
 * and lives in b->arena. */
enum rt_status rt_dense_prepare(struct rt_build *b, struct rt_node *n, const struct rt_conv *c,
                                const struct rt_conv_weights *w, const float *bias,
                                struct rt_dense_conv **out, struct rt_error *err);

/* rt_op.run of a node so prepared. */
void rt_dense_run(const struct rt_call *call, const struct rt_dense_conv *s,
                  const struct rt_worker *w);

/* rt_conv_pieces() and rt_conv_make_piece() of a node so prepared, but for its steps. */
struct rt_conv_pieces rt_dense_pieces(const struct rt_dense_conv *s);
void rt_dense_make_piece(const struct rt_call *call, const struct rt_dense_conv *s, int64_t image,
                         int64_t piece, int64_t pixel, int64_t pixels, float *y, int64_t plane);

#endif
