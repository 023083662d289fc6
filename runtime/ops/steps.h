/* Finer grips on a node's steps, for operators that do the first ones in their kernel. */
#ifndef RUNTIME_OPS_STEPS_H
#define RUNTIME_OPS_STEPS_H

#include "runtime/ops/op.h"

/* The steps at the front of a node that rt_mac does as it stores: at most one RT_STEP_ADD, then at
 * most one Relu or Clip. */
struct rt_epilogue {
    int residual; /* index into the node's in[], -1: none */
    bool clamp;
    float lo, hi;
    int rest; /* the first step that is still to be done */
};

struct rt_epilogue rt_epilogue_of(const struct rt_node *n);
/* The same for kernels that only clamp. */
struct rt_epilogue rt_epilogue_clamp(const struct rt_node *n);

/* True when some step reads the node's input i. */
bool rt_steps_read(const struct rt_node *n, int i);

/* rt_steps_plain() and rt_steps_blocked() from step first on. */
void rt_steps_plain_from(const struct rt_call *c, int first, float *y, int64_t sample,
                         int64_t channel, int64_t offset, int64_t len);
void rt_steps_blocked_from(const struct rt_call *c, int first, float *y, int64_t sample,
                           int64_t channel_block, int64_t offset, int64_t pixels);
/* The same for a run of channels with one element each: y[i] is channel + i of the sample. What
 * operators with an output [N,C] do. */
void rt_steps_channels_from(const struct rt_call *c, int first, float *y, int64_t sample,
                            int64_t channel, int64_t offset, int64_t len);

#endif
