/* Conv on channel-blocked tensors: which algorithm computes it, each in a file of its own. */
#include "runtime/ops/conv_dense.h"
#include "runtime/ops/conv_depthwise.h"
#include "runtime/ops/conv_grouped.h"
#include "runtime/ops/conv_winograd.h"
#include "runtime/ops/steps.h"

#include <string.h>

/* Inputs with so few channels would be mostly padding as blocks: they are read plain. */
#define PLAIN_CHANNELS 4

/* One of them does it all, with the bias. */
struct state {
    struct rt_dense_conv *dense;
    struct rt_winograd *winograd;
    struct rt_depthwise_conv *depthwise;
    struct rt_grouped_conv *grouped;
};

bool rt_conv_can_block(const struct rt_graph *g, const struct rt_node *n)
{
    struct rt_conv c;
    if (rt_in_const(g, n, RT_CONV_X)->dtype != RT_FLOAT || !rt_conv_has_constants(g, n) ||
        rt_in_const(g, n, RT_CONV_X)->shape.rank > 4 ||
        rt_conv_init(&c, g, n, false, NULL) != RT_OK)
        return false;
    for (int i = 0; i < n->n_steps; i++) {
        int arg = n->step[i].arg;
        if (rt_steps_read(n, arg) && g->value[n->in[arg]].constant)
            return false; /* a constant operand is plain */
    }
    /* A block of other groupings would mix the channels of several groups. */
    int64_t block = rt_kernels()->block;
    return c.groups == 1 || rt_conv_is_depthwise(&c) || rt_conv_is_grouped(&c) ||
           (c.group_channels % block == 0 && c.group_maps % block == 0);
}

bool rt_conv_reads_plain(const struct rt_graph *g, const struct rt_node *n, int i)
{
    struct rt_conv c;
    return i == RT_CONV_X && rt_conv_init(&c, g, n, false, NULL) == RT_OK && c.groups == 1 &&
           c.channels <= PLAIN_CHANNELS && c.dilation[2] == 1;
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    struct rt_conv c;
    enum rt_status s = rt_conv_init(&c, g, n, false, err);
    return s == RT_OK ? rt_conv_set_out(&c, g, n, err) : s;
}
/* The bias, zeros where there is none, with each group's last block filled up. */
static enum rt_status prepare_bias(struct rt_build *b, const struct rt_conv *c, const float *bias,
                                   float **out, struct rt_error *err)
{
    const int64_t block = rt_kernels()->block;
    const size_t floats = (size_t)(rt_ceil_div(c->maps, block) * block);
    *out = rt_arena_array(b->arena, floats, sizeof **out);
    if (*out == NULL)
        return rt_fail_nomem(err, floats * sizeof **out);
    if (bias != NULL)
        memcpy(*out, bias, (size_t)c->maps * sizeof *bias);
    return RT_OK;
}

/* Ways to compute a node: directly, or by tiles of 2x2 or 4x4. */
static int tile_of(int choice)
{
    return 2 * choice;
}

static int choices(const struct rt_graph *g, const struct rt_node *n,
                   struct rt_choice out[RT_MAX_CHOICES])
{
    static const char *const name[] = { "direct", "winograd F(2x2)", "winograd F(4x4)" };
    struct rt_conv c;
    int count = 0;
    if (rt_conv_init(&c, g, n, false, NULL) != RT_OK ||
        rt_in_const(g, n, RT_CONV_X)->layout == RT_PLAIN)
        return 1;
    while (count < 3 && rt_winograd_can(&c, tile_of(count))) {
        const int m = tile_of(count);
        out[count] =
            (struct rt_choice){ name[count], rt_winograd_cost(&c, m), rt_winograd_bytes(&c, m) };
        count++;
    }
    return count;
}

static enum rt_status prepare(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    struct rt_conv c;
    struct state *s = rt_arena_alloc(b->arena, sizeof *s);
    float *bias;
    if (s == NULL)
        return rt_fail_nomem(err, sizeof *s);
    enum rt_status status = rt_conv_init(&c, b->g, n, false, err);
    if (status != RT_OK)
        return status;
    n->flops = rt_conv_flops(&c, b->g, n, false);
    const int at = rt_conv_bias(n);
    const struct rt_conv_weights w = rt_conv_weights(b->g, n);
    status = prepare_bias(b, &c, at >= 0 ? rt_in(b->g, n, at)->data : NULL, &bias, err);
    if (status != RT_OK)
        return status;
    const bool plain = rt_in(b->g, n, RT_CONV_X)->layout == RT_PLAIN;
    const int tile = plain || b->exact ? 0 : tile_of(n->choice);
    if (tile > 0)
        status = rt_winograd_prepare(b, n, &c, tile, &w, bias, &s->winograd, err);
    else if (rt_conv_is_depthwise(&c))
        status = rt_depthwise_prepare(b, n, &c, &w, bias, &s->depthwise, err);
    else if (rt_conv_is_grouped(&c))
        status = rt_grouped_prepare(b, n, &c, &w, bias, &s->grouped, err);
    else
        status = rt_dense_prepare(b, n, &c, &w, bias, &s->dense, err);
    if (status != RT_OK)
        return status;
    n->state = s;
    n->in[RT_CONV_W] = -1;
    if (at >= 0)
        n->in[at] = -1;
    return RT_OK;
}

struct rt_conv_pieces rt_conv_pieces(const struct rt_node *n)
{
    const struct state *s = n->state;
    const struct rt_conv_pieces none = { 0 };
    if (n->op != &rt_op_ConvBlocked || s->dense == NULL)
        return none;
    for (int i = 0; i < n->n_in; i++)
        if (rt_steps_read(n, i))
            return none;
    return rt_dense_pieces(s->dense);
}

void rt_conv_make_piece(const struct rt_call *call, int64_t image, int64_t piece, int64_t pixel,
                        int64_t pixels, float *y, int64_t plane)
{
    const struct state *s = call->node->state;
    rt_dense_make_piece(call, s->dense, image, piece, pixel, pixels, y, plane);
}

static void run(const struct rt_call *call, const struct rt_worker *w)
{
    const struct state *s = call->node->state;
    if (s->winograd != NULL)
        rt_winograd_run(call, s->winograd, w);
    else if (s->depthwise != NULL)
        rt_depthwise_run(call, s->depthwise, w);
    else if (s->grouped != NULL)
        rt_grouped_run(call, s->grouped, w);
    else
        rt_dense_run(call, s->dense, w);
}

const struct rt_op rt_op_ConvBlocked = {
    .name = "Conv",
    .domain = "ai.convd",
    .min_in = 2,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_EPILOGUE | RT_OP_FLUSHES,
    .infer = infer,
    .choices = choices,
    .prepare = prepare,
    .run = run,
};
