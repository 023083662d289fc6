/* What the binary operators' two files share. */
#ifndef RUNTIME_OPS_BINARY_H
#define RUNTIME_OPS_BINARY_H

#include "runtime/ops/op.h"

/* What a fusion can make of the operator. */
enum rt_binary_role {
    RT_BINARY_OTHER,
    RT_BINARY_ADD,
    RT_BINARY_SUB,
    RT_BINARY_MUL,
    RT_BINARY_DIV,
    RT_BINARY_PRELU,
};
enum rt_binary_role rt_binary_role(const struct rt_node *n);

/* The shape of input 1 as it is to be broadcast, where input 0 has shape a. Before version 7 it lay
 * at an axis of input 0 that the node names; ones behind it bring it there. PRelu then had one
 * slope a channel. */
struct rt_shape rt_binary_second_shape(const struct rt_node *n, const struct rt_shape *a,
                                       const struct rt_shape *b);

/* rt_op.as_affine and rt_op.as_step. */
bool rt_binary_as_affine(const struct rt_graph *g, const struct rt_node *n, int64_t channels,
                         float *scale, float *shift, int *data);
bool rt_binary_as_step(const struct rt_graph *g, const struct rt_node *n, struct rt_step *step,
                       int *data);

#endif
