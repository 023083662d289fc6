/* Running nodes one at a time while compiling: constants are folded this way, and a model whose
 * shapes depend on its data is run this way from end to end. */
#ifndef RUNTIME_OPS_EVAL_H
#define RUNTIME_OPS_EVAL_H

#include "runtime/graph.h"

/* True when every input of n that is there is constant and the operator may be folded. */
bool rt_can_eval(const struct rt_graph *g, const struct rt_node *n);
/* True when they are, but hold multiples of RT_BATCH of which the operator would not make what is
 * right for every batch. */
bool rt_depends_on_batch(const struct rt_graph *g, const struct rt_node *n);

/* Infers, prepares and runs node i of g, whose inputs are constant, on threads workers, and makes
 * its outputs constants in the graph's arena. The node is dead afterwards. Refuses (RT_E_LIMIT)
 * results that do not fit into the arena, RT_E_DYNAMIC when an output follows the batch. */
enum rt_status rt_eval(struct rt_graph *g, int i, int threads, struct rt_error *err);

/* Whether constant v has elements that stand for multiples of the batch (see RT_BATCH). */
bool rt_holds_batch(const struct rt_graph *g, int v);

#endif
