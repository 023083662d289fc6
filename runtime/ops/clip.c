/* Clip: elements cut to a range, given by attributes (before version 11) or by inputs. */
#include <float.h>

#include "runtime/ops/element.h"
#include "runtime/ops/op.h"

/* The range in the kind of the tensor. */
struct range {
    union {
        float f;
        double d;
        int64_t i;
        uint64_t u;
    } low, high;
};

/* The numbers of a type, which is what no bound means. bool and the 64-bit integers keep theirs in
 * integers, since not all of those are doubles. */
static struct range whole_range(enum rt_dtype t)
{
    struct range r;
    switch (t) {
    case RT_FLOAT:
        r.low.f = -FLT_MAX, r.high.f = FLT_MAX;
        return r;
    case RT_FLOAT16:
        r.low.f = -65504, r.high.f = 65504;
        return r;
    case RT_BFLOAT16:
        r.low.f = -0x1.fep127f, r.high.f = 0x1.fep127f;
        return r;
    case RT_DOUBLE:
        r.low.d = -DBL_MAX, r.high.d = DBL_MAX;
        return r;
    case RT_UINT64:
        r.low.u = 0, r.high.u = UINT64_MAX;
        return r;
    default:
        r.low.i = INT64_MIN, r.high.i = INT64_MAX;
        return r;
    }
}

static struct range range_of(const struct rt_node *n, enum rt_dtype dtype,
                             const struct rt_tensor *low, const struct rt_tensor *high)
{
    struct range r = whole_range(dtype);
    const enum rt_kind kind = rt_kind_of(dtype);
    const struct rt_attr *min = rt_attr(n, "min"), *max = rt_attr(n, "max");
    if (n->opset < 11 && min != NULL)
        rt_load_elements(&r.low, kind, RT_FLOAT, &min->f, 1, 1);
    if (n->opset < 11 && max != NULL)
        rt_load_elements(&r.high, kind, RT_FLOAT, &max->f, 1, 1);
    if (low != NULL && low->data != NULL)
        rt_load_elements(&r.low, kind, dtype, low->data, 1, 1);
    if (high != NULL && high->data != NULL)
        rt_load_elements(&r.high, kind, dtype, high->data, 1, 1);
    return r;
}

/* The bound is the first operand, so that a NaN of x is handed through. */
#define CLIP(name, type, member)                                                                   \
    static void clip_##name(void *to, const void *from, int64_t n, const struct range *r)          \
    {                                                                                              \
        const type low = r->low.member, high = r->high.member;                                     \
        const type *x = from;                                                                      \
        type *y = to;                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const type above = low > x[i] ? low : x[i];                                            \
            y[i] = high < above ? high : above;                                                    \
        }                                                                                          \
    }
CLIP(double, double, d)
CLIP(int, int64_t, i)
CLIP(uint, uint64_t, u)

static void clip_float(void *to, const void *from, int64_t n, const struct range *r)
{
    rt_kernels()->activation[RT_ACT_CLIP](to, from, (size_t)n, r->low.f, r->high.f);
}

static void run_on(const struct rt_call *c, const struct rt_tensor *x, const struct rt_tensor *y,
                   const struct rt_worker *w)
{
    static void (*const clip[RT_N_KINDS])(void *, const void *, int64_t,
                                          const struct range *) = { clip_float, clip_double,
                                                                    clip_int, clip_uint };
    const enum rt_kind kind = rt_kind_of(x->dtype);
    const int n_in = c->node->n_in;
    const struct range r =
        range_of(c->node, x->dtype, n_in > 1 ? &c->in[1] : NULL, n_in > 2 ? &c->in[2] : NULL);
    union rt_chunk in, out;
    int64_t at, end;
    rt_worker_share(w, rt_shape_numel(&y->shape), 64, &at, &end);
    for (int64_t n; at < end; at += n) {
        n = end - at < RT_CHUNK ? end - at : RT_CHUNK;
        void *to = rt_target(y, at, kind, &out);
        clip[kind](to, rt_load(x, at, n, kind, &in), n, &r);
        rt_store(y, at, n, kind, to);
    }
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    run_on(c, &c->in[0], &c->out[0], w);
}

static void run_blocked(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor x = rt_blocked_view(&c->in[0]);
    const struct rt_tensor y = rt_blocked_view(&c->out[0]);
    run_on(c, &x, &y, w);
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    enum rt_status s = rt_check_type(g, n, 0, RT_T_NUMBER, err);
    if (s != RT_OK)
        return s;
    for (int i = 1; i < n->n_in; i++) {
        if (!rt_has_in(n, i))
            continue;
        if (n->opset < 11)
            return rt_node_fail(err, RT_E_INVALID, n, "has bounds as inputs before version 11");
        s = rt_check_same_type(g, n, 0, i, err);
        if (s != RT_OK)
            return s;
        if (rt_shape_numel(&rt_in(g, n, i)->shape) != 1)
            return rt_node_fail(err, RT_E_INVALID, n, "%s is not a scalar", i == 1 ? "min" : "max");
    }
    return rt_infer_same(g, n, err);
}

static bool can_block(const struct rt_graph *g, const struct rt_node *n)
{
    const struct rt_value *x = &g->value[n->in[0]];
    return x->dtype == RT_FLOAT && x->shape.rank == 4;
}

static bool reads_plain(const struct rt_graph *g, const struct rt_node *n, int i)
{
    (void)g, (void)n;
    return i > 0;
}

static bool has_constant_bounds(const struct rt_graph *g, const struct rt_node *n)
{
    for (int i = 1; i < n->n_in; i++)
        if (rt_has_in(n, i) && !g->value[n->in[i]].constant)
            return false;
    return true;
}

static bool as_step(const struct rt_graph *g, const struct rt_node *n, struct rt_step *step,
                    int *data)
{
    if (g->value[n->in[0]].dtype != RT_FLOAT || !has_constant_bounds(g, n))
        return false;
    const struct rt_tensor low = rt_graph_tensor(g, n->n_in > 1 ? n->in[1] : -1);
    const struct rt_tensor high = rt_graph_tensor(g, n->n_in > 2 ? n->in[2] : -1);
    const struct range r = range_of(n, RT_FLOAT, &low, &high);
    *step = (struct rt_step){ .kind = RT_STEP_ACTIVATION,
                              .act = RT_ACT_CLIP,
                              .a = r.low.f,
                              .b = r.high.f,
                              .label = n->op->name };
    *data = 0;
    return true;
}

#define COMMON                                                                                     \
    .name = "Clip", .min_in = 1, .max_in = 3, .min_out = 1, .max_out = 1,                          \
    .traits = RT_OP_INPLACE | RT_OP_DIMS_ORDER, .infer = infer

static const struct rt_op blocked = { COMMON, .run = run_blocked };
const struct rt_op rt_op_Clip = { COMMON,
                                  .run = run,
                                  .as_step = as_step,
                                  .can_block = can_block,
                                  .reads_plain = reads_plain,
                                  .blocked = &blocked };
