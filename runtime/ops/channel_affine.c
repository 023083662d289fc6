/* ChannelAffine, the runtime's own: y = x * scale[c] + shift[c] along axis 1, in float. What a
 * batch norm becomes that has no neighbour to go into. */
#include "runtime/ops/op.h"

#include <string.h>

enum { X, SCALE, SHIFT };

static const float *floats(const struct rt_graph *g, const struct rt_node *n, int i)
{
    return g->value[n->in[i]].data;
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    return rt_infer_same(g, n, err);
}

static bool as_affine(const struct rt_graph *g, const struct rt_node *n, int64_t channels,
                      float *scale, float *shift, int *data)
{
    if (n->n_steps > 0 || rt_shape_numel(&g->value[n->in[SCALE]].shape) != channels)
        return false;
    memcpy(scale, floats(g, n, SCALE), (size_t)channels * sizeof *scale);
    memcpy(shift, floats(g, n, SHIFT), (size_t)channels * sizeof *shift);
    *data = X;
    return true;
}

static bool as_step(const struct rt_graph *g, const struct rt_node *n, struct rt_step *step,
                    int *data)
{
    if (n->n_steps > 0)
        return false;
    *step = (struct rt_step){
        .kind = RT_STEP_AFFINE, .scale = floats(g, n, SCALE), .shift = floats(g, n, SHIFT)
    };
    *data = X;
    return true;
}

static enum rt_status absorb_affine(struct rt_graph *g, struct rt_node *n, const float *scale,
                                    const float *shift, struct rt_error *err)
{
    const struct rt_shape shape = g->value[n->in[SCALE]].shape;
    float *a, *b;
    int new_a = rt_graph_add_floats(g, &shape, &a);
    int new_b = rt_graph_add_floats(g, &shape, &b);
    if (new_a < 0 || new_b < 0)
        return rt_graph_nomem(g, err);
    for (int64_t c = 0; c < shape.dim[0]; c++) {
        a[c] = floats(g, n, SCALE)[c] * scale[c];
        b[c] = floats(g, n, SHIFT)[c] * scale[c] + shift[c];
    }
    n->in[SCALE] = new_a;
    n->in[SHIFT] = new_b;
    return RT_OK;
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_shape *x = &c->in[X].shape;
    int64_t channels = x->dim[1], inner = rt_shape_range(x, 2, x->rank), begin, end;
    const float *scale = c->in[SCALE].data, *shift = c->in[SHIFT].data;
    rt_worker_share(w, x->dim[0] * channels, 1, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        int64_t sample = row / channels, ch = row % channels;
        float *y = (float *)c->out[0].data + row * inner;
        rt_kernels()->affine(y, (const float *)c->in[X].data + row * inner, (size_t)inner,
                             scale[ch], shift[ch]);
        rt_steps_plain(c, y, sample, ch, row * inner, inner);
    }
}

static bool can_block(const struct rt_graph *g, const struct rt_node *n)
{
    return rt_in_const(g, n, X)->shape.rank == 4;
}

/* The constants of the blocked form, padded to whole blocks. */
struct state {
    float *scale, *shift;
};

static enum rt_status prepare_blocked(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    int64_t channels = b->g->value[n->in[SCALE]].shape.dim[0], block = rt_kernels()->block;
    size_t room = (size_t)((channels + block - 1) / block * block);
    struct state *s = rt_arena_alloc(b->arena, sizeof *s);
    if (s == NULL)
        return rt_fail_nomem(err, sizeof *s);
    s->scale = rt_arena_array(b->arena, room, sizeof *s->scale);
    s->shift = rt_arena_array(b->arena, room, sizeof *s->shift);
    if (s->scale == NULL || s->shift == NULL)
        return rt_fail_nomem(err, room * sizeof *s->scale);
    memcpy(s->scale, floats(b->g, n, SCALE), (size_t)channels * sizeof *s->scale);
    memcpy(s->shift, floats(b->g, n, SHIFT), (size_t)channels * sizeof *s->shift);
    n->in[SCALE] = n->in[SHIFT] = -1;
    n->state = s;
    n->weight_bytes = 2 * room * sizeof(float);
    return RT_OK;
}

static void run_blocked(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_shape *x = &c->in[X].shape;
    const struct state *s = c->node->state;
    int64_t block = rt_kernels()->block, blocks = (x->dim[1] + block - 1) / block;
    int64_t pixels = x->dim[2] * x->dim[3], begin, end;
    rt_worker_share(w, x->dim[0] * blocks, 1, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        int64_t sample = i / blocks, cb = i % blocks, at = i * pixels * block;
        float *y = (float *)c->out[0].data + at;
        rt_kernels()->affine_block(y, (const float *)c->in[X].data + at, (size_t)pixels,
                                   s->scale + cb * block, s->shift + cb * block);
        rt_steps_blocked(c, y, sample, cb, at, pixels);
    }
}

static const struct rt_op blocked = {
    .name = "ChannelAffine",
    .domain = "ai.convd",
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_EPILOGUE | RT_OP_INPLACE | RT_OP_FLUSHES,
    .infer = infer,
    .prepare = prepare_blocked,
    .run = run_blocked,
};

const struct rt_op rt_op_ChannelAffine = {
    .name = "ChannelAffine",
    .domain = "ai.convd",
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_EPILOGUE | RT_OP_INPLACE | RT_OP_FLUSHES,
    .infer = infer,
    .run = run,
    .absorb_affine = absorb_affine,
    .as_affine = as_affine,
    .as_step = as_step,
    .can_block = can_block,
    .blocked = &blocked,
};
