/* Convolution for the blocked Conv whose groups are smaller than a block of channels. */
#ifndef RUNTIME_OPS_CONV_GROUPED_H
#define RUNTIME_OPS_CONV_GROUPED_H

#include "runtime/ops/conv.h"

struct rt_grouped_conv;

/* Whether groups are parts of blocks, and each block of maps has its inputs in one of channels. */
bool rt_conv_is_grouped(const struct rt_conv *c);

/* Packs weights w[maps][channels of a group][kh][kw] and sets n->scratch, n->weight_bytes and
 * n->algorithm. bias: a float a map, filled up to whole blocks; kept. *out is written on RT_OK only
 * and lives in b->arena. */
enum rt_status rt_grouped_prepare(struct rt_build *b, struct rt_node *n, const struct rt_conv *c,
                                  const struct rt_conv_weights *w, const float *bias,
                                  struct rt_grouped_conv **out, struct rt_error *err);

/* rt_op.run of a node so prepared. */
void rt_grouped_run(const struct rt_call *call, const struct rt_grouped_conv *s,
                    const struct rt_worker *w);

#endif
