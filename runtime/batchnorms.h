/* The batch norm report: one record for each BatchNormalization of the file. */
#ifndef RUNTIME_BATCHNORMS_H
#define RUNTIME_BATCHNORMS_H

#include "runtime/graph.h"

/* Gives each batch norm of g that has none a record, with its placement, and each record the health
 * of the statistics once they are constant. Called on the file's graph while it is whole, and again
 * when more constants and types are known. */
enum rt_status rt_record_batchnorms(struct rt_graph *g, struct rt_error *err);

/* Writes down what became of node n's batch norm, if it is one; into and why may be NULL. */
void rt_batchnorm_became(struct rt_graph *g, const struct rt_node *n, enum rt_batchnorm_fate fate,
                         const char *into, const char *why);

#endif
