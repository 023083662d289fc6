/* The geometry of a pooling window, shared by the plain and the blocked form. */
#ifndef RUNTIME_OPS_POOL_H
#define RUNTIME_OPS_POOL_H

#include "runtime/ops/op.h"

enum rt_pool_kind { RT_POOL_MAX, RT_POOL_AVERAGE, RT_POOL_LP };

/* Along one axis, what the window of an output position covers: taps elements of the input from
 * begin on, a dilation apart. */
struct rt_taps {
    int64_t begin;
    int64_t taps;
    int64_t padded; /* taps that fall on the input or its padding */
};

/* Always three spatial axes: those that a tensor lacks come first, of size 1. */
struct rt_pool {
    enum rt_pool_kind kind;
    int64_t in[3], out[3];
    int64_t kernel[3], stride[3], dilation[3], pad[3], pad_end[3];
    bool count_pads;               /* averages divide by the padding in their window too */
    bool column_major;             /* how a maximum's index within its sample's channel counts */
    double p;                      /* of the norm */
    const struct rt_taps *taps[3]; /* [out[axis]]; set by prepare */
};

/* Fills *p but its taps from the node's attributes and the shape of its input, or says what is
 * wrong. */
enum rt_status rt_pool_init(struct rt_pool *p, const struct rt_node *n, const struct rt_shape *x,
                            struct rt_error *err);

/* What the window of output position o covers along an axis. */
struct rt_taps rt_pool_taps(const struct rt_pool *p, int axis, int64_t o);

/* The blocked twins of MaxPool and AveragePool; state is an rt_pool. */
bool rt_pool_can_block(const struct rt_graph *g, const struct rt_node *n);
void rt_pool_run_blocked(const struct rt_call *c, const struct rt_worker *w);

#endif
