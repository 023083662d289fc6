/* What passes ask to recognise a formula that exporters spell out in nodes. */
#ifndef RUNTIME_PASSES_MATCH_H
#define RUNTIME_PASSES_MATCH_H

#include "runtime/graph.h"
#include "runtime/ops/op.h"

/* The node that makes value v, if it is one of op to which nothing was fused; else NULL. */
const struct rt_node *rt_match(const struct rt_graph *g, int v, const struct rt_op *op);
/* The same, if v has no other reader, so that the node goes when that reader does. */
const struct rt_node *rt_match_only(const struct rt_graph *g, int v, const struct rt_op *op);

/* v is a float constant of one element, which is written to *x. */
bool rt_match_scalar(const struct rt_graph *g, int v, float *x);
/* v is one, and is to within rounding of how files spell it. */
bool rt_match_number(const struct rt_graph *g, int v, float is);
bool rt_match_close(float a, float b);

/* v is x + k, x * k or x / k in any order that gives it, k a constant scalar. */
bool rt_match_plus(const struct rt_graph *g, int v, int *x, float *k);
bool rt_match_times(const struct rt_graph *g, int v, int *x, float *k);

/* v is an activation of *x, as its producer's as_step() has it. */
bool rt_match_activation(const struct rt_graph *g, int v, enum rt_activation act, int *x, float *a,
                         float *b);

/* Node i becomes op of value x alone, with the same name and output 0; its index, or -1 when there
 * is no memory. Pointers into g->node are invalid afterwards. */
int rt_match_become(struct rt_graph *g, int i, const struct rt_op *op, int x, int n_in);
/* Gives node n an attribute more. False: there is no memory. */
bool rt_match_set_attr(struct rt_graph *g, struct rt_node *n, struct rt_attr attr);

#endif
