/* A graph compiled for one set of input shapes: passes done, weights packed, memory planned. */
#ifndef RUNTIME_PROGRAM_H
#define RUNTIME_PROGRAM_H

#include "runtime/choose.h"
#include "runtime/graph.h"
#include "runtime/plan.h"

struct rt_program {
    struct rt_graph *g;     /* after the passes; constants' elements lie in arena */
    struct rt_arena *arena; /* packed weights, states, plan, layers */
    struct rt_plan plan;
    int max_batch; /* 1 when nothing in g follows the batch */
    int n_layers;
    struct rt_layer *layer;
    double flops;
    size_t weight_bytes;
    struct rt_chosen chosen;
};

/* What compiling a program is told beside the graph. */
struct rt_program_options {
    const struct rt_options *options; /* memory_limit is set */
    int max_batch;
    int threads; /* largest team of a session */
};

/* Compiles a copy of src for inputs of these shapes (n_inputs of src, all dimensions known; those
 * that follow the batch are multiples of RT_BATCH). Names and attributes stay src's, which must
 * outlive the program; the elements of its constants are not needed afterwards.
 * RT_E_DYNAMIC: a shape depends on data, run it with rt_interpret(). */
enum rt_status rt_program_compile(const struct rt_graph *src, const struct rt_shape *inputs,
                                  const struct rt_program_options *how, struct rt_program **out,
                                  struct rt_error *err);
void rt_program_destroy(struct rt_program *p); /* takes NULL */

/* Runs src once on inputs in[], node by node, all of them taken for constants. out[] are views of
 * memory in *holder, which the caller ends with rt_graph_destroy(). */
enum rt_status rt_interpret(const struct rt_graph *src, const struct rt_tensor *in,
                            const struct rt_options *options, int threads, struct rt_tensor *out,
                            struct rt_graph **holder, struct rt_error *err);

#endif
