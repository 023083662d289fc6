/* Operators one by one: each blocked form against its plain one, samples that do not depend on
 * their batch or on the team, what fusion is told, and rules that ONNX's own tests do not reach. */
#include "tests/graphs.h"

#include "runtime/ops/conv.h"
#include "runtime/ops/fault.h"

#include <math.h>
#include <stdlib.h>

#define CHANNELS 21 /* a whole block and a part of one at every level */
#define MAX_IN 8

static void attr_float(struct rt_graph *g, int value, const char *name, float f)
{
    struct rt_attr *a = add_attr(g, value, name);
    a->type = RT_ATTR_FLOAT;
    a->f = f;
}

static void attr_string(struct rt_graph *g, int value, const char *name, const char *s)
{
    struct rt_attr *a = add_attr(g, value, name);
    a->type = RT_ATTR_STRING;
    a->s = s;
}

static int with_ints(struct rt_graph *g, int value, const char *name, int n, const int64_t *ints)
{
    attr_ints(g, value, name, n, ints);
    return value;
}
#define INTS(g, value, name, ...)                                                                  \
    with_ints(g, value, name, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)),         \
              (int64_t[]){ __VA_ARGS__ })

/* --- running one node ----------------------------------------------------------------------- */

static struct rt_node *node_of(struct rt_graph *g, int value)
{
    return &g->node[g->value[value].producer];
}

static void infer(struct rt_graph *g, int y)
{
    struct rt_error err = { .text = "" };
    if (node_of(g, y)->op->infer(g, node_of(g, y), &err) != RT_OK)
        fail_msg("%s", err.text);
}

static void expect_refusal(struct rt_graph *g, int y, enum rt_status status, const char *words)
{
    struct rt_error err = { .text = "" };
    assert_int_equal(node_of(g, y)->op->infer(g, node_of(g, y), &err), status);
    if (strstr(err.text, words) == NULL)
        fail_msg("'%s' does not say '%s'", err.text, words);
    rt_graph_destroy(g);
}

/* Element i of sample number s of input k: numbers of both signs, never the same twice. */
static float element(int k, int64_t s, int64_t i)
{
    uint32_t h = (uint32_t)(k * 7919 + s * 104729 + i) * 2654435761u;
    h ^= h >> 15;
    h *= 2246822519u;
    return (float)(h >> 8) / (float)(1 << 22) - 2;
}

static int64_t blocked_numel(const struct rt_shape *s)
{
    const int b = rt_kernels()->block;
    return s->dim[0] * ((s->dim[1] + b - 1) / b * b) * s->dim[2] * s->dim[3];
}

static void relayout(const struct rt_shape *s, float *plain, float *blocked, bool to_blocked)
{
    const int b = rt_kernels()->block;
    const size_t pixels = (size_t)(s->dim[2] * s->dim[3]);
    for (int64_t n = 0; n < s->dim[0]; n++) {
        for (int64_t c = 0; c < s->dim[1]; c += b) {
            const int lanes = s->dim[1] - c < b ? (int)(s->dim[1] - c) : b;
            float *p = plain + (size_t)(n * s->dim[1] + c) * pixels;
            if (to_blocked)
                rt_kernels()->to_blocked(blocked, p, pixels, pixels, lanes);
            else
                rt_kernels()->to_plain(p, blocked, pixels, pixels, lanes);
            blocked += (size_t)b * pixels;
        }
    }
}

struct team {
    struct rt_call call;
};

static void run_worker(void *ctx, const struct rt_worker *w)
{
    const struct team *t = ctx;
    t->call.node->op->run(&t->call, w);
}

/* Samples first .. first+n-1 of float inputs through the node that makes y; the result, plain, in
 * memory of malloc(). */
static float *run(struct rt_graph *g, int y, bool blocked, int64_t first, int64_t n, int threads)
{
    struct rt_node node = *node_of(g, y);
    struct rt_arena *arena = rt_arena_create(0);
    struct rt_build build = {
        .g = g, .arena = arena, .max_batch = (int)n, .threads = threads
    };
    struct rt_error err = { .text = "" };
    const struct rt_op *op = node.op;
    const int inputs = node.n_in;
    int in_copy[MAX_IN];
    enum rt_layout layout[MAX_IN];
    memcpy(in_copy, node.in, (size_t)inputs * sizeof *in_copy);
    for (int k = 0; k < inputs; k++) {
        const bool reads_plain = op->reads_plain != NULL && op->reads_plain(g, &node, k);
        layout[k] = blocked && !reads_plain ? RT_BLOCKED : RT_PLAIN;
        if (node.in[k] >= 0 && !g->value[node.in[k]].constant)
            g->value[node.in[k]].layout = layout[k];
    }
    node.op = blocked ? op->blocked : op;
    if (node.op->prepare != NULL && node.op->prepare(&build, &node, &err) != RT_OK)
        fail_msg("%s", err.text);

    struct rt_tensor in[MAX_IN] = { { .dtype = RT_UNDEFINED } };
    float *mine[MAX_IN] = { NULL };
    for (int k = 0; k < inputs; k++) {
        if (node.in[k] < 0)
            continue;
        const struct rt_value *v = &g->value[node.in[k]];
        in[k] = rt_graph_tensor(g, node.in[k]);
        if (v->constant)
            continue;
        in[k].shape = rt_shape_at(&v->shape, n);
        const int64_t size = rt_shape_numel(&in[k].shape);
        mine[k] = malloc((size_t)size * sizeof(float));
        for (int64_t i = 0; i < size; i++)
            mine[k][i] = element(k, first + i / (size / n), i % (size / n));
        if (layout[k] == RT_BLOCKED) {
            float *b = malloc((size_t)blocked_numel(&in[k].shape) * sizeof(float));
            relayout(&in[k].shape, mine[k], b, true);
            free(mine[k]);
            mine[k] = b;
        }
        in[k].data = mine[k];
    }
    struct rt_tensor out = { g->value[y].dtype, rt_shape_at(&g->value[y].shape, n), NULL };
    const int64_t plain_len = rt_shape_numel(&out.shape);
    const int64_t len = blocked ? blocked_numel(&out.shape) : plain_len;
    out.data = calloc((size_t)len, sizeof(double)); /* any type fits */
    char *scratch = malloc(node.scratch + 1);
    struct rt_fault fault = { .taken = ATOMIC_FLAG_INIT };
    struct team team = { { .node = &node, .in = in, .out = &out, .scratch = scratch, .fault = &fault } };
    rt_parallel(threads, run_worker, &team);
    if (atomic_load(&fault.set))
        fail_msg("%s", fault.err.text);
    if (blocked) {
        float *plain = malloc((size_t)plain_len * sizeof(float));
        relayout(&out.shape, plain, out.data, false);
        free(out.data);
        out.data = plain;
    }
    memcpy(node.in, in_copy, (size_t)inputs * sizeof *in_copy);
    for (int k = 0; k < inputs; k++)
        free(mine[k]);
    free(scratch);
    rt_arena_destroy(arena);
    return out.data;
}

/* --- every case plain and blocked ------------------------------------------------------------- */

/* What cases work on: x [N,C,9,10], z the same, k [N,C,1,1], one constant a channel. */
struct operands {
    int x, z, k, channel, scalar, odd;
};

typedef int make(struct rt_graph *g, const struct operands *o);

#define UNARY_CASE(op)                                                                             \
    static int case_##op(struct rt_graph *g, const struct operands *o)                             \
    {                                                                                              \
        return NODE(g, #op, "y", o->x);                                                            \
    }
#define BINARY_CASE(id, op, ...)                                                                   \
    static int case_##id(struct rt_graph *g, const struct operands *o)                             \
    {                                                                                              \
        return NODE(g, op, "y", __VA_ARGS__);                                                      \
    }
UNARY_CASE(Relu)
UNARY_CASE(HardSwish)
UNARY_CASE(Elu)
UNARY_CASE(Erf)
UNARY_CASE(Sign)
UNARY_CASE(GlobalAveragePool)
UNARY_CASE(GlobalMaxPool)
UNARY_CASE(GlobalLpPool)
BINARY_CASE(add, "Add", o->x, o->z)
BINARY_CASE(mul_pixel, "Mul", o->k, o->x)
BINARY_CASE(sub_channel, "Sub", o->channel, o->x)
BINARY_CASE(div_scalar, "Div", o->x, o->scalar)
BINARY_CASE(pow_scalar, "Pow", o->x, o->scalar)
BINARY_CASE(max_three, "Max", o->x, o->channel, o->z)
BINARY_CASE(mean_three, "Mean", o->x, o->k, o->z)
BINARY_CASE(sum_one, "Sum", o->x)
BINARY_CASE(prelu, "PRelu", o->x, o->channel)
BINARY_CASE(row, "Add", o->x, o->odd)
BINARY_CASE(clip, "Clip", o->x, o->scalar)

static int case_max_pool(struct rt_graph *g, const struct operands *o)
{
    int y = INTS(g, NODE(g, "MaxPool", "y", o->x), "kernel_shape", 3, 2);
    INTS(g, y, "strides", 2, 1);
    INTS(g, y, "dilations", 1, 2);
    INTS(g, y, "pads", 1, 1, 1, 0);
    attr_int(g, y, "ceil_mode", 1);
    return y;
}

static int average_pool(struct rt_graph *g, const struct operands *o, bool count_pads)
{
    int y = INTS(g, NODE(g, "AveragePool", "y", o->x), "kernel_shape", 3, 3);
    INTS(g, y, "strides", 2, 2);
    INTS(g, y, "pads", 1, 1, 1, 1);
    attr_int(g, y, "count_include_pad", count_pads);
    attr_int(g, y, "ceil_mode", 1);
    return y;
}

static int case_average_pool(struct rt_graph *g, const struct operands *o)
{
    return average_pool(g, o, false);
}

static int case_average_pool_pads(struct rt_graph *g, const struct operands *o)
{
    return average_pool(g, o, true);
}

static int case_channel_select(struct rt_graph *g, const struct operands *o)
{
    int y = NODE(g, "ChannelSelect", "y", o->x, o->z);
    return INTS(g, y, "channels", 3, 2, CHANNELS, 0, 2 * CHANNELS - 1, 1, 1, 4, CHANNELS + 1, 0);
}

static int case_reduce_mean(struct rt_graph *g, const struct operands *o)
{
    return INTS(g, NODE(g, "ReduceMean", "y", o->x), "axes", 2, -1);
}

static int case_reduce_log_sum_exp(struct rt_graph *g, const struct operands *o)
{
    return INTS(g, NODE(g, "ReduceLogSumExp", "y", o->x), "axes", 3, 2);
}

static int resize(struct rt_graph *g, const struct operands *o, const char *mode, float h, float w)
{
    float *scales;
    const struct rt_shape none = SHAPE(0), four = SHAPE(4);
    int roi = add_floats(g, none, 0, 0), s = rt_graph_add_floats(g, &four, &scales);
    scales[0] = scales[1] = 1;
    scales[2] = h;
    scales[3] = w;
    int y = NODE(g, "Resize", "y", o->x, roi, s);
    attr_string(g, y, "mode", mode);
    return y;
}

static int case_resize_nearest(struct rt_graph *g, const struct operands *o)
{
    return resize(g, o, "nearest", 2, 2);
}

static int case_resize_linear(struct rt_graph *g, const struct operands *o)
{
    return resize(g, o, "linear", 0.75f, 1.5f);
}

static int case_resize_cubic(struct rt_graph *g, const struct operands *o)
{
    return resize(g, o, "cubic", 1.25f, 0.5f);
}

/* Without a blocked form. */
static int case_softmax(struct rt_graph *g, const struct operands *o)
{
    int y = NODE(g, "Softmax", "y", o->x);
    attr_int(g, y, "axis", 1);
    return y;
}

static int case_softmax_last(struct rt_graph *g, const struct operands *o)
{
    return NODE(g, "LogSoftmax", "y", o->x);
}

static int case_lrn(struct rt_graph *g, const struct operands *o)
{
    int y = NODE(g, "LRN", "y", o->x);
    attr_int(g, y, "size", 5);
    return y;
}

static int case_instance_norm(struct rt_graph *g, const struct operands *o)
{
    return NODE(g, "InstanceNormalization", "y", o->x, add_floats(g, SHAPE(CHANNELS), 1, 0.5f),
                add_floats(g, SHAPE(CHANNELS), 0, 0.25f));
}

static int case_layer_norm(struct rt_graph *g, const struct operands *o)
{
    return NODE(g, "LayerNormalization", "y", o->x, add_floats(g, SHAPE(10), 1, 0.5f));
}

static int case_variance(struct rt_graph *g, const struct operands *o)
{
    return INTS(g, NODE(g, "MeanVarianceNormalization", "y", o->x), "axes", 1, 3);
}

static int case_lp_norm(struct rt_graph *g, const struct operands *o)
{
    int y = NODE(g, "LpNormalization", "y", o->x);
    attr_int(g, y, "axis", 1);
    return y;
}

static int case_cum_sum(struct rt_graph *g, const struct operands *o)
{
    return NODE(g, "CumSum", "y", o->x, add_ints(g, 1, (int64_t[]){ 2 }));
}

static int case_einsum(struct rt_graph *g, const struct operands *o)
{
    int y = NODE(g, "Einsum", "y", o->x, o->z);
    attr_string(g, y, "equation", "nchw, nchv -> nwv");
    return y;
}

static const float *numbers(struct rt_graph *g, struct rt_shape shape, float first, float step)
{
    const int v = add_floats(g, shape, first, step);
    return g->value[v].data;
}

/* A convolution whose weights are made what they should be when they are packed: the plain form
 * makes them at once. */
static int conv_put_off(struct rt_graph *g, const struct operands *o, struct rt_shape shape,
                        int64_t groups, bool turned)
{
    const int64_t maps = shape.dim[0], channels = shape.dim[1];
    const bool pointwise = groups == 1 && shape.dim[2] == 1;
    const struct rt_conv_weights w = {
        .w = numbers(g, shape, -1, 1.0f / 128),
        .gain = numbers(g, SHAPE(maps), 0.5f, 0.25f),
        .in_gain = pointwise ? numbers(g, SHAPE(channels), 2, -0.25f) : NULL,
        .turned = turned,
    };
    int y = NODE(g, "Conv", "y", o->x, rt_conv_put_off(g, &shape, &w));
    attr_int(g, y, "group", groups);
    return y;
}

static int case_conv_pointwise(struct rt_graph *g, const struct operands *o)
{
    return conv_put_off(g, o, SHAPE(37, CHANNELS, 1, 1), 1, false);
}

static int case_conv_turned(struct rt_graph *g, const struct operands *o)
{
    return conv_put_off(g, o, SHAPE(37, CHANNELS, 1, 1), 1, true);
}

static int case_conv_dense(struct rt_graph *g, const struct operands *o)
{
    return conv_put_off(g, o, SHAPE(18, CHANNELS, 3, 2), 1, false);
}

static int case_conv_depthwise(struct rt_graph *g, const struct operands *o)
{
    return conv_put_off(g, o, SHAPE(CHANNELS, 1, 3, 3), CHANNELS, false);
}

static const struct test_case {
    const char *name;
    make *make;
    float tolerance; /* between the two forms, where they add up in another order */
    bool plain_only;
} cases[] = {
    { "Relu", case_Relu, 0, false },
    { "HardSwish", case_HardSwish, 0, false },
    { "Elu", case_Elu, 0, false },
    { "Erf", case_Erf, 0, false },
    { "Sign", case_Sign, 0, false },
    { "GlobalAveragePool", case_GlobalAveragePool, 1e-6f, false },
    { "GlobalMaxPool", case_GlobalMaxPool, 0, false },
    { "GlobalLpPool", case_GlobalLpPool, 1e-5f, false },
    { "Add of two", case_add, 0, false },
    { "Mul by one a channel of a sample", case_mul_pixel, 0, false },
    { "Sub from a constant a channel", case_sub_channel, 0, false },
    { "Div by a scalar", case_div_scalar, 0, false },
    { "Pow", case_pow_scalar, 0, false },
    { "Max of three", case_max_three, 0, false },
    { "Mean of three", case_mean_three, 0, false },
    { "Sum of one", case_sum_one, 0, false },
    { "PRelu", case_prelu, 0, false },
    { "Add of a constant row", case_row, 0, false },
    { "Clip from below", case_clip, 0, false },
    { "MaxPool", case_max_pool, 0, false },
    { "AveragePool", case_average_pool, 0, false },
    { "AveragePool with its padding", case_average_pool_pads, 0, false },
    { "ChannelSelect", case_channel_select, 0, false },
    { "ReduceMean", case_reduce_mean, 1e-6f, false },
    { "ReduceLogSumExp", case_reduce_log_sum_exp, 1e-6f, false },
    { "Resize nearest", case_resize_nearest, 0, false },
    { "Resize linear", case_resize_linear, 0, false },
    { "Resize cubic", case_resize_cubic, 0, false },
    { "Conv 1x1 of weights put off", case_conv_pointwise, 1e-6f, false },
    { "Conv 1x1 of weights put off and turned", case_conv_turned, 1e-6f, false },
    { "Conv of weights put off", case_conv_dense, 1e-6f, false },
    { "Conv of each channel, of weights put off", case_conv_depthwise, 1e-6f, false },
    { "Softmax of channels", case_softmax, 0, true },
    { "LogSoftmax of rows", case_softmax_last, 0, true },
    { "LRN", case_lrn, 0, true },
    { "InstanceNormalization", case_instance_norm, 0, true },
    { "LayerNormalization", case_layer_norm, 0, true },
    { "MeanVarianceNormalization", case_variance, 0, true },
    { "LpNormalization", case_lp_norm, 0, true },
    { "CumSum", case_cum_sum, 0, true },
    { "Einsum", case_einsum, 0, true },
};
#define N_CASES (sizeof cases / sizeof cases[0])

static struct rt_graph *make_case(const struct test_case *c, int *y)
{
    struct rt_graph *g = new_graph();
    const struct operands o = {
        .x = add_input(g, "x", SHAPE(N, CHANNELS, 9, 10)),
        .z = add_input(g, "z", SHAPE(N, CHANNELS, 9, 10)),
        .k = add_input(g, "k", SHAPE(N, CHANNELS, 1, 1)),
        .channel = add_floats(g, SHAPE(CHANNELS, 1, 1), -1.5f, 0.17f),
        .scalar = add_floats(g, SHAPE(1), 0.7f, 0),
        .odd = add_floats(g, SHAPE(1, 1, 1, 10), -1, 0.3f),
    };
    struct rt_value *inputs[] = { &g->value[o.x], &g->value[o.z], &g->value[o.k] };
    for (int i = 0; i < 3; i++)
        inputs[i]->inferred = true;
    /* Clip's bounds are scalars. */
    g->value[o.scalar].shape.rank = 0;
    *y = c->make(g, &o);
    node_of(g, *y)->opset = 17;
    infer(g, *y);
    return g;
}

static void blocked_is_plain(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_CASES; i++) {
        int y;
        struct rt_graph *g = make_case(&cases[i], &y);
        const struct rt_op *op = node_of(g, y)->op;
        const bool can = op->can_block != NULL && op->can_block(g, node_of(g, y));
        if (can == cases[i].plain_only)
            fail_msg("%s: %s", cases[i].name, can ? "has a blocked form" : "has no blocked form");
        const struct rt_shape shape = rt_shape_at(&g->value[y].shape, 3);
        float *plain = run(g, y, false, 0, 3, 2);
        float *blocked = can ? run(g, y, true, 0, 3, 2) : NULL;
        float largest = 0;
        for (int64_t k = 0; k < rt_shape_numel(&shape); k++)
            largest = fmaxf(largest, fabsf(plain[k]));
        for (int64_t k = 0; can && k < rt_shape_numel(&shape); k++) {
            const float off = fabsf(plain[k] - blocked[k]);
            if (!(off <= cases[i].tolerance * largest) && !(isnan(plain[k]) && isnan(blocked[k])))
                fail_msg("%s: element %lld is %.9g plain and %.9g blocked", cases[i].name,
                         (long long)k, (double)plain[k], (double)blocked[k]);
        }
        free(plain);
        free(blocked);
        rt_graph_destroy(g);
    }
}

static void samples_do_not_depend_on_each_other(void **state)
{
    (void)state;
    enum { SAMPLES = 5 };
    for (size_t i = 0; i < 2 * N_CASES; i++) {
        const struct test_case *c = &cases[i / 2];
        const bool blocked = i % 2;
        if (blocked && c->plain_only)
            continue;
        int y;
        struct rt_graph *g = make_case(c, &y);
        const struct rt_shape one = rt_shape_at(&g->value[y].shape, 1);
        const size_t len = (size_t)rt_shape_numel(&one);
        float *all = run(g, y, blocked, 0, SAMPLES, 3);
        for (int s = 0; s < SAMPLES; s++) {
            float *alone = run(g, y, blocked, s, 1, 1 + s % 2);
            if (memcmp(alone, all + (size_t)s * len, len * sizeof *alone) != 0)
                fail_msg("%s%s: sample %d alone differs from the one in a batch", c->name,
                         blocked ? " (blocked)" : "", s);
            free(alone);
        }
        free(all);
        rt_graph_destroy(g);
    }
}

/* --- what fusion is told ---------------------------------------------------------------------- */

static void affine_of_constants(void **state)
{
    (void)state;
    static const struct {
        const char *op;
        bool constant_first;
        float scale, shift; /* for a constant of 0.5 */
    } list[] = {
        { "Add", false, 1, 0.5f }, { "Add", true, 1, 0.5f },  { "Sub", false, 1, -0.5f },
        { "Sub", true, -1, 0.5f }, { "Mul", false, 0.5f, 0 }, { "Mul", true, 0.5f, 0 },
        { "Div", false, 2, 0 },
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct rt_graph *g = new_graph();
        int x = add_input(g, "x", SHAPE(N, 3, 2, 2)), k = add_floats(g, SHAPE(3, 1, 1), 0.5f, 0);
        g->value[x].inferred = true;
        int y = list[i].constant_first ? NODE(g, list[i].op, "y", k, x)
                                       : NODE(g, list[i].op, "y", x, k);
        infer(g, y);
        float scale[3], shift[3];
        int data;
        assert_true(node_of(g, y)->op->as_affine(g, node_of(g, y), 3, scale, shift, &data));
        assert_int_equal(data, list[i].constant_first);
        assert_true(scale[2] == list[i].scale && shift[2] == list[i].shift);
        rt_graph_destroy(g);
    }
}

static void no_affine(const char *op, struct rt_shape x_shape, struct rt_shape k_shape, bool first)
{
    struct rt_graph *g = new_graph();
    int x = add_input(g, "x", x_shape), k = add_floats(g, k_shape, 0.5f, 0.25f);
    g->value[x].inferred = true;
    int y = first ? NODE(g, op, "y", k, x) : NODE(g, op, "y", x, k);
    infer(g, y);
    float scale[8], shift[8];
    int data;
    const struct rt_node *n = node_of(g, y);
    assert_false(n->op->as_affine(g, n, x_shape.dim[1], scale, shift, &data));
    rt_graph_destroy(g);
}

static void affine_of_nothing_else(void **state)
{
    (void)state;
    no_affine("Div", SHAPE(N, 3, 2, 2), SHAPE(3, 1, 1), true);  /* divides by the tensor */
    no_affine("Add", SHAPE(N, 3, 2, 2), SHAPE(2), false);       /* along the width */
    no_affine("Add", SHAPE(N, 3, 3, 3), SHAPE(3), false);       /* the same, as long as channels */
    no_affine("Add", SHAPE(N, 1, 2, 2), SHAPE(3, 1, 1), false); /* makes more channels */
    no_affine("Max", SHAPE(N, 3, 2, 2), SHAPE(3, 1, 1), false);
}

static void steps_of_tensors(void **state)
{
    (void)state;
    struct rt_graph *g = new_graph();
    int x = add_input(g, "x", SHAPE(N, 3, 2, 2)), z = add_input(g, "z", SHAPE(N, 3, 2, 2));
    int k = add_input(g, "k", SHAPE(N, 3, 1, 1));
    g->value[x].inferred = g->value[z].inferred = g->value[k].inferred = true;
    struct rt_step step;
    int data, add = NODE(g, "Add", "add", x, z), mul = NODE(g, "Mul", "mul", k, x);
    int sub = NODE(g, "Sub", "sub", x, z), relu = NODE(g, "LeakyRelu", "relu", x);
    attr_float(g, relu, "alpha", 0.25f);
    infer(g, add);
    infer(g, mul);
    infer(g, sub);
    infer(g, relu);
    assert_true(node_of(g, add)->op->as_step(g, node_of(g, add), &step, &data));
    assert_int_equal(step.kind, RT_STEP_ADD);
    assert_int_equal(step.arg, 1 - data);
    assert_true(node_of(g, mul)->op->as_step(g, node_of(g, mul), &step, &data));
    assert_int_equal(step.kind, RT_STEP_SCALE_NC);
    assert_true(data == 1 && step.arg == 0);
    assert_false(node_of(g, sub)->op->as_step(g, node_of(g, sub), &step, &data));
    assert_true(node_of(g, relu)->op->as_step(g, node_of(g, relu), &step, &data));
    assert_true(step.kind == RT_STEP_ACTIVATION && step.act == RT_ACT_LEAKY_RELU);
    assert_true(step.a == 0.25f);
    rt_graph_destroy(g);
}

/* --- refusals --------------------------------------------------------------------------------- */

static void nothing_crosses_the_batch(void **state)
{
    (void)state;
    static const struct {
        const char *op, *attr;
        int64_t value;
        bool list;
    } ops[] = {
        { "ReduceSum", NULL, 0, false },
        { "ReduceMax", "axes", 0, true },
        { "Softmax", "axis", 0, false },
        { "ArgMax", "axis", 0, false },
        { "LpNormalization", "axis", 0, false },
        { "MeanVarianceNormalization", NULL, 0, false },
        { "DynamicQuantizeLinear", NULL, 0, false },
    };
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        struct rt_graph *g = new_graph();
        int x = add_input(g, "x", SHAPE(N, 3, 4, 4));
        g->value[x].inferred = true;
        int y = NODE(g, ops[i].op, "y", x);
        node_of(g, y)->opset = 13;
        if (ops[i].attr != NULL && ops[i].list)
            attr_ints(g, y, ops[i].attr, 1, &ops[i].value);
        else if (ops[i].attr != NULL)
            attr_int(g, y, ops[i].attr, ops[i].value);
        expect_refusal(g, y, RT_E_UNSUPPORTED, "batch");
    }
}

static void bad_windows_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *attr;
        int n;
        int64_t value[4];
        const char *words;
    } list[] = {
        { "strides", 2, { 0, 1 }, "strides" },
        { "pads", 4, { 0, -1, 0, 0 }, "pads" },
        { "pads", 3, { 0, 0, 0 }, "pads" },
        { "dilations", 2, { (int64_t)1 << 40, 1 }, "dilations" },
        { "dilations", 2, { (int64_t)1 << 29, 1 }, "larger" },
        { "kernel_shape", 1, { 3 }, "kernel_shape" },
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct rt_graph *g = new_graph();
        int x = add_input(g, "x", SHAPE(N, 3, 4, 4));
        g->value[x].inferred = true;
        int y = NODE(g, "MaxPool", "y", x);
        attr_ints(g, y, list[i].attr, list[i].n, list[i].value);
        if (strcmp(list[i].attr, "kernel_shape") != 0)
            INTS(g, y, "kernel_shape", 2, 2);
        expect_refusal(g, y, RT_E_INVALID, list[i].words);
    }
}

/* --- rules of types and versions -------------------------------------------------------------- */

/* The node's first output on constants, as doubles. */
static void expect_values(struct rt_graph *g, int y, int n, const double *wanted)
{
    infer(g, y);
    const struct rt_value *v = &g->value[y];
    assert_int_equal(rt_shape_numel(&v->shape), n);
    void *got = run(g, y, false, 0, 1, 1);
    for (int i = 0; i < n; i++) {
        double e = 0;
        switch (v->dtype) {
        case RT_FLOAT:
            e = (double)((float *)got)[i];
            break;
        case RT_DOUBLE:
            e = ((double *)got)[i];
            break;
        case RT_FLOAT16:
            e = (double)rt_half_to_float(((uint16_t *)got)[i]);
            break;
        case RT_INT8:
            e = ((int8_t *)got)[i];
            break;
        case RT_UINT8:
        case RT_BOOL:
            e = ((uint8_t *)got)[i];
            break;
        case RT_INT32:
            e = ((int32_t *)got)[i];
            break;
        case RT_INT64:
            e = (double)((int64_t *)got)[i];
            break;
        default:
            fail();
        }
        if (e != wanted[i] && !(isnan(e) && isnan(wanted[i])))
            fail_msg("element %d is %g, should be %g", i, e, wanted[i]);
    }
    free(got);
    rt_graph_destroy(g);
}

static int add_typed(struct rt_graph *g, enum rt_dtype t, int n, const double *values)
{
    const struct rt_shape shape = SHAPE(n);
    char *data = rt_graph_alloc(g, (size_t)n, sizeof(double));
    for (int i = 0; i < n; i++) {
        switch (t) {
        case RT_FLOAT:
            ((float *)(void *)data)[i] = (float)values[i];
            break;
        case RT_DOUBLE:
            ((double *)(void *)data)[i] = values[i];
            break;
        case RT_FLOAT16:
            ((uint16_t *)(void *)data)[i] = rt_double_to_half(values[i]);
            break;
        case RT_INT8:
            ((int8_t *)data)[i] = (int8_t)values[i];
            break;
        case RT_UINT8:
            ((uint8_t *)data)[i] = (uint8_t)values[i];
            break;
        case RT_INT32:
            ((int32_t *)(void *)data)[i] = (int32_t)values[i];
            break;
        case RT_INT64:
            ((int64_t *)(void *)data)[i] = (int64_t)values[i];
            break;
        default:
            fail();
        }
    }
    struct rt_tensor tensor = { t, shape, data };
    return rt_graph_add_const(g, NULL, &tensor);
}

static void binary_rules(void **state)
{
    (void)state;
    static const struct {
        const char *op;
        enum rt_dtype type;
        double a[4], b[4], y[4];
    } list[] = {
        { "Div", RT_INT32, { 7, -7, 5, INT32_MIN }, { 2, 2, 0, -1 }, { 3, -3, 0, INT32_MIN } },
        { "Mod", RT_INT64, { 7, -7, 7, -7 }, { 3, 3, -3, -3 }, { 1, 2, -2, -1 } },
        { "Mod", RT_INT8, { 7, -128, 1, 0 }, { 0, -1, 1, 5 }, { 0, 0, 0, 0 } },
        { "Add", RT_INT8, { 127, -128, 1, 2 }, { 1, -1, 1, 2 }, { -128, 127, 2, 4 } },
        { "Mul", RT_UINT8, { 16, 255, 1, 2 }, { 16, 255, 1, 2 }, { 0, 1, 1, 4 } },
        { "Pow", RT_INT32, { 2, -1, 0, 3 }, { 10, -3, 0, -1 }, { 1024, -1, 1, 0 } },
        { "Max", RT_FLOAT, { NAN, 1, -0.5, 2 }, { 1, NAN, 3, 1 }, { NAN, NAN, 3, 2 } },
        { "Min", RT_DOUBLE, { NAN, 1, -0.5, 2 }, { 1, NAN, 3, 1 }, { NAN, NAN, -0.5, 1 } },
        { "Add",
          RT_FLOAT16,
          { 2048, 1, 65504, 0.5 },
          { 1, 1, 65504, 1 },
          { 2048, 2, INFINITY, 1.5 } },
        { "Less", RT_UINT8, { 200, 1, 2, 3 }, { 100, 2, 2, 2 }, { 0, 1, 0, 0 } },
        { "Equal", RT_DOUBLE, { NAN, 1, 0, 3 }, { NAN, 1, -0.0, 2 }, { 0, 1, 1, 0 } },
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct rt_graph *g = new_graph();
        int y = NODE(g, list[i].op, "y", add_typed(g, list[i].type, 4, list[i].a),
                     add_typed(g, list[i].type, 4, list[i].b));
        node_of(g, y)->opset = 17;
        expect_values(g, y, 4, list[i].y);
    }
}

static void unary_rules(void **state)
{
    (void)state;
    static const struct {
        const char *op;
        enum rt_dtype type;
        double x[4], y[4];
    } list[] = {
        { "Neg", RT_INT8, { 1, -128, 0, 5 }, { -1, -128, 0, -5 } },
        { "Abs", RT_INT32, { -1, INT32_MIN, 0, 5 }, { 1, INT32_MIN, 0, 5 } },
        { "Round", RT_FLOAT, { 0.5, 1.5, -2.5, 2.6 }, { 0, 2, -2, 3 } },
        { "Relu", RT_DOUBLE, { -1, NAN, 2, -INFINITY }, { 0, NAN, 2, 0 } },
        { "Sign", RT_FLOAT16, { -3, 0, 4, NAN }, { -1, 0, 1, NAN } },
        { "IsInf", RT_FLOAT, { INFINITY, -INFINITY, NAN, 1 }, { 1, 1, 0, 0 } },
        { "Softplus", RT_DOUBLE, { 800, -800, INFINITY, NAN }, { 800, 0, INFINITY, NAN } },
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct rt_graph *g = new_graph();
        int y = NODE(g, list[i].op, "y", add_typed(g, list[i].type, 4, list[i].x));
        node_of(g, y)->opset = 20;
        expect_values(g, y, 4, list[i].y);
    }
}

/* Before version 7 the second operand lay at an axis that the node names. */
static void old_broadcast(void **state)
{
    (void)state;
    struct rt_graph *g = new_graph();
    int a = add_floats(g, SHAPE(1, 2, 1, 2), 0, 1), b = add_floats(g, SHAPE(2), 10, 10);
    int y = NODE(g, "Add", "y", a, b);
    node_of(g, y)->opset = 6;
    attr_int(g, y, "broadcast", 1);
    attr_int(g, y, "axis", 1);
    expect_values(g, y, 4, (double[]){ 10, 11, 22, 23 });
}

/* Before version 13 Softmax took all axes from the named one on together. */
static void old_softmax(void **state)
{
    (void)state;
    for (int opset = 12; opset <= 13; opset++) {
        struct rt_graph *g = new_graph();
        int y = NODE(g, "Hardmax", "y", add_floats(g, SHAPE(1, 2, 2), 0, 1));
        attr_int(g, y, "axis", 1);
        node_of(g, y)->opset = opset;
        expect_values(g, y, 4, opset == 12 ? (double[]){ 0, 0, 0, 1 } : (double[]){ 0, 0, 1, 1 });
    }
}

/* A ceil_mode window that would begin behind the input is none. */
static void no_window_in_the_padding(void **state)
{
    (void)state;
    struct rt_graph *g = new_graph();
    int y =
        INTS(g, NODE(g, "MaxPool", "y", add_floats(g, SHAPE(1, 1, 3), 0, 1)), "kernel_shape", 1);
    INTS(g, y, "strides", 2);
    INTS(g, y, "pads", 0, 1);
    attr_int(g, y, "ceil_mode", 1);
    expect_values(g, y, 2, (double[]){ 0, 2 });
}

static void empty_reductions(void **state)
{
    (void)state;
    static const struct {
        const char *op;
        double y;
    } list[] = { { "ReduceSum", 0 },
                 { "ReduceProd", 1 },
                 { "ReduceMax", -INFINITY },
                 { "ReduceMin", INFINITY },
                 { "ReduceLogSumExp", -INFINITY } };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct rt_graph *g = new_graph();
        int y = NODE(g, list[i].op, "y", add_floats(g, SHAPE(1, 0), 0, 0));
        node_of(g, y)->opset = 13;
        expect_values(g, y, 1, &list[i].y);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocked_is_plain),
        cmocka_unit_test(samples_do_not_depend_on_each_other),
        cmocka_unit_test(affine_of_constants),
        cmocka_unit_test(affine_of_nothing_else),
        cmocka_unit_test(steps_of_tensors),
        cmocka_unit_test(nothing_crosses_the_batch),
        cmocka_unit_test(bad_windows_are_refused),
        cmocka_unit_test(binary_rules),
        cmocka_unit_test(unary_rules),
        cmocka_unit_test(old_broadcast),
        cmocka_unit_test(old_softmax),
        cmocka_unit_test(no_window_in_the_padding),
        cmocka_unit_test(empty_reductions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
