/* Replacing a conditional by the branch it takes. */
#ifndef RUNTIME_INLINE_H
#define RUNTIME_INLINE_H

#include "runtime/graph.h"

/* An If node as import makes it: in[0] is the condition; the rest are the outer values that the
 * branches read, first those of then_branch, then those of else_branch, in the order of that
 * graph's inputs. A branch is a graph that shares the arenas of the graph around it. */

/* True if node i of g is an If whose condition is constant. */
bool rt_can_inline_if(const struct rt_graph *g, int i);

/* Puts the nodes of the branch that is taken at the end of g in place of node i, which is dead
 * afterwards; the caller tidies. rt_can_inline_if() must hold. */
enum rt_status rt_inline_if(struct rt_graph *g, int i, struct rt_error *err);

#endif
