/* Which algorithm a node is computed by, where there are several: the cheapest by the operators' own
 * costs, within the memory that their weights may take, or what a file of measured choices says. */
#ifndef RUNTIME_CHOOSE_H
#define RUNTIME_CHOOSE_H

#include "runtime/graph.h"

struct rt_choice;

/* What became of the measured choices. */
struct rt_chosen {
    uint64_t signature; /* of the nodes that have a choice: names and weights, not their numbers */
    int tuned;          /* nodes that are as they say */
    char note[160];     /* why they were not used; "": they were, or there were none */
};

/* What a way to compute a node costs in a model whose constants take so many bytes: reading
 * weights, too. In multiply-adds of vectors. */
double rt_choice_cost(const struct rt_choice *way, size_t constants);

/* Sets every node's choice. A pure function of the graph, the level of kernels and the options.
 * RT_E_IO: options->tuning is not what `convd tune` writes; the message says which line. */
enum rt_status rt_choose(struct rt_graph *g, const struct rt_options *options, struct rt_chosen *out,
                         struct rt_error *err);

#endif
