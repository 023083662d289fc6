/* Which part of a compiled graph a batch goes through sample by sample. Pure. */
#ifndef RUNTIME_SLICE_H
#define RUNTIME_SLICE_H

#include "runtime/graph.h"

/* Nodes 0..cut-1 of g (tidy, inferred, prepared) are run on one sample after the other, the rest on
 * the whole batch: while activations are larger than weights they had better stay in a cache
 * between nodes, afterwards weights had better be read once. 0: nothing is gained by it. Answers do
 * not depend on it. */
int rt_slice_cut(const struct rt_graph *g, int64_t max_batch);

#endif
