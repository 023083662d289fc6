/* Depthwise convolution for the blocked Conv: as many groups as channels and maps. */
#ifndef RUNTIME_OPS_CONV_DEPTHWISE_H
#define RUNTIME_OPS_CONV_DEPTHWISE_H

#include "runtime/ops/conv.h"

struct rt_depthwise_conv;

bool rt_conv_is_depthwise(const struct rt_conv *c);

/* Packs weights w[maps][1][kh][kw] and sets n->scratch, n->weight_bytes and n->algorithm. bias: a
 * float a map, filled up to whole blocks; kept. *out is written on RT_OK only and lives in
 * b->arena. */
enum rt_status rt_depthwise_prepare(struct rt_build *b, struct rt_node *n, const struct rt_conv *c,
                                    const struct rt_conv_weights *w, const float *bias,
                                    struct rt_depthwise_conv **out, struct rt_error *err);

/* rt_op.run of a node so prepared. */
void rt_depthwise_run(const struct rt_call *call, const struct rt_depthwise_conv *s,
                      const struct rt_worker *w);

#endif
