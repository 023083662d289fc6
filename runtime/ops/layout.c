/* Conversions between plain and channel-blocked tensors; only the layout pass puts them in. */
#include "runtime/ops/op.h"

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    return rt_infer_same(g, n, err);
}

/* Fills *plain and *blocked with where channel block cb of a sample starts; the lanes it has. */
static int block_of(const struct rt_shape *s, const float *plain, const float *blocked,
                    int64_t index, const float **p, const float **b)
{
    int64_t block = rt_kernels()->block, blocks = (s->dim[1] + block - 1) / block;
    int64_t pixels = rt_shape_range(s, 2, s->rank);
    int64_t sample = index / blocks, cb = index % blocks;
    int64_t channels = s->dim[1] - cb * block;
    *p = plain + (sample * s->dim[1] + cb * block) * pixels;
    *b = blocked + index * block * pixels;
    return (int)(channels < block ? channels : block);
}

static int64_t count_blocks(const struct rt_shape *s)
{
    int64_t block = rt_kernels()->block;
    return s->dim[0] * ((s->dim[1] + block - 1) / block);
}

static void run_to_blocked(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_shape *s = &c->in[0].shape;
    size_t pixels = (size_t)rt_shape_range(s, 2, s->rank);
    int64_t begin, end;
    rt_worker_share(w, count_blocks(s), 1, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        const float *x, *y;
        int lanes = block_of(s, c->in[0].data, c->out[0].data, i, &x, &y);
        float *to = (float *)c->out[0].data + (y - (const float *)c->out[0].data);
        rt_kernels()->to_blocked(to, x, pixels, pixels, lanes);
    }
}

static void run_to_plain(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_shape *s = &c->in[0].shape;
    size_t pixels = (size_t)rt_shape_range(s, 2, s->rank);
    int64_t begin, end;
    rt_worker_share(w, count_blocks(s), 1, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        const float *x, *y;
        int lanes = block_of(s, c->out[0].data, c->in[0].data, i, &y, &x);
        float *to = (float *)c->out[0].data + (y - (const float *)c->out[0].data);
        rt_kernels()->to_plain(to, x, pixels, pixels, lanes);
    }
}

const struct rt_op rt_op_ToBlocked = {
    .name = "ToBlocked",
    .domain = "ai.convd",
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .infer = infer,
    .run = run_to_blocked,
};

const struct rt_op rt_op_ToPlain = {
    .name = "ToPlain",
    .domain = "ai.convd",
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_SAMPLES,
    .infer = infer,
    .run = run_to_plain,
};

/* One pixel and whole blocks: the two layouts are the same bytes. */
const struct rt_op rt_op_Relayout = {
    .name = "Relayout",
    .domain = "ai.convd",
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_VIEW,
    .infer = infer,
};
