/* Rewrites of the graph: the ordered list, and what a pass may do.
 *
 * A pass is a small function that looks at one node, may rewrite around it, says so by
 * rt_pass_changed(), and keeps no state of its own. The driver repeats the list until a round
 * changes nothing, tidies after each pass that changed something and, in debug builds, verifies. */
#ifndef RUNTIME_PASSES_PASS_H
#define RUNTIME_PASSES_PASS_H

#include "runtime/batchnorms.h"
#include "runtime/graph.h"
#include "runtime/ops/op.h"

struct rt_pass_run {
    struct rt_graph *g;
    const struct rt_options *options;
    int threads;         /* for what is computed while compiling */
    int changes;         /* in this round */
    bool keep_quantised; /* constants that are integers by a DequantizeLinear are left so */
};

typedef enum rt_status rt_pass(struct rt_pass_run *r, int node, struct rt_error *err);

/* Infers the node's outputs or, when its inputs are constant, computes them. */
rt_pass rt_pass_fold_constants;
/* A part of it: *done when the node, whose inputs are constant, need not be computed, since those
 * who read its result can do with weights that lie turned. */
enum rt_status rt_turn_weights(struct rt_pass_run *r, int node, bool *done, struct rt_error *err);
/* Its parts that have to do with dimensions of 32 bits (see rt_value.wide): constants that meet
 * such become int64; whether the node's integers are such then; those of its outputs, which have
 * been computed, that need no 64 bits become int32 again. */
enum rt_status rt_widen_inputs(struct rt_graph *g, struct rt_node *n, struct rt_error *err);
bool rt_makes_wide(const struct rt_graph *g, const struct rt_node *n);
enum rt_status rt_narrow_outputs(struct rt_graph *g, const struct rt_node *n, struct rt_error *err);
/* Drops nodes that hand their input through as it is. */
rt_pass rt_pass_drop_identity;
/* Replaces nodes by a simpler or better known operator of the same meaning. */
rt_pass rt_pass_simplify;
/* Recognise activations and normalisations that exporters spell out. */
rt_pass rt_pass_find_activations;
rt_pass rt_pass_find_norms;
/* Makes ChannelSelect of moves of channels, and one of several. */
rt_pass rt_pass_channel_moves;
/* Moves averages in front of pointwise convolutions. */
rt_pass rt_pass_pool_first;
/* Moves stretches that work on channels behind to channels in front. */
rt_pass rt_pass_channels_first;
/* Moves per-channel multiply-adds (batch norm and its like) into the weights of the node before,
 * of the node after, or makes a ChannelAffine of them. */
rt_pass rt_pass_fold_affine;
/* Turns the elementwise nodes behind a node with an epilogue into steps of it. */
rt_pass rt_pass_fuse_steps;

/* Once, before constants are folded: quantised regions become operators on bytes. */
enum rt_status rt_find_integers(struct rt_graph *g, struct rt_error *err);

/* Runs the list on g, whose inputs have types and shapes. RT_E_DYNAMIC when a shape depends on
 * data. */
enum rt_status rt_passes_run(struct rt_graph *g, const struct rt_options *options, int threads,
                             struct rt_error *err);

/* Once, after the list: which values are channel-blocked, with conversions where layouts meet. */
enum rt_status rt_assign_layouts(struct rt_graph *g, struct rt_error *err);

#endif
