/* Operators that put elements where an index says: ScatterElements (once Scatter), ScatterND. */
#include <string.h>

#include "runtime/ops/element.h"
#include "runtime/ops/eval.h"
#include "runtime/ops/move.h"

enum reduction { REPLACE, ADD, MUL, MIN, MAX };

static enum rt_status read_reduction(const struct rt_node *n, enum reduction *r,
                                     struct rt_error *err)
{
    static const char *const name[] = { "none", "add", "mul", "min", "max" };
    const char *text = rt_attr_string(n, "reduction", "none");
    for (int i = 0; i < 5; i++)
        if (strcmp(text, name[i]) == 0) {
            *r = (enum reduction)i;
            return RT_OK;
        }
    return rt_node_fail(err, RT_E_INVALID, n, "reduction is '%s'", text);
}

/* a op b; NaN wins over a number in both extremes. */
#define JOIN(type)                                                                                 \
    {                                                                                              \
        type *y = buf_y;                                                                           \
        const type *x = buf_x;                                                                     \
        for (int64_t i = 0; i < n; i++)                                                            \
            switch (r) {                                                                           \
            case ADD:                                                                              \
                y[i] = (type)(y[i] + x[i]);                                                        \
                break;                                                                             \
            case MUL:                                                                              \
                y[i] = (type)(y[i] * x[i]);                                                        \
                break;                                                                             \
            case MIN:                                                                              \
                y[i] = x[i] < y[i] || x[i] != x[i] ? x[i] : y[i];                                  \
                break;                                                                             \
            default:                                                                               \
                y[i] = x[i] > y[i] || x[i] != x[i] ? x[i] : y[i];                                  \
                break;                                                                             \
            }                                                                                      \
        break;                                                                                     \
    }

static void join(enum rt_kind kind, enum reduction r, void *buf_y, const void *buf_x, int64_t n)
{
    switch (kind) {
    case RT_KIND_FLOAT:
        JOIN(float)
    case RT_KIND_DOUBLE:
        JOIN(double)
    default:
        JOIN(uint64_t) /* sums and products wrap; see reduce() for the extremes */
    }
}

/* Signed extremes of integers: the others do not depend on the sign. */
static void join_signed(enum reduction r, int64_t *y, const int64_t *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = (r == MIN) == (x[i] < y[i]) ? x[i] : y[i];
}

/* y op= x for n elements, in the type's kind. */
static void reduce(enum rt_dtype t, enum reduction r, void *y, const void *x, int64_t n)
{
    union rt_chunk a, b;
    size_t size = rt_dtype_size(t);
    enum rt_kind kind = rt_kind_of(t);
    for (int64_t at = 0; at < n; at += RT_CHUNK) {
        int64_t m = n - at < RT_CHUNK ? n - at : RT_CHUNK;
        char *to = (char *)y + (size_t)at * size;
        rt_load_elements(&a, kind, t, to, 1, m);
        rt_load_elements(&b, kind, t, (const char *)x + (size_t)at * size, 1, m);
        if (kind == RT_KIND_INT && (r == MIN || r == MAX))
            join_signed(r, a.i, b.i, m);
        else
            join(kind, r, &a, &b, m);
        rt_store_elements(t, to, 1, &a, kind, m);
    }
}

static void put(const struct rt_call *c, enum reduction r, int64_t to, int64_t from, int64_t n)
{
    const struct rt_tensor *y = &c->out[0], *updates = &c->in[2];
    if (r == REPLACE)
        memcpy(rt_out_at(y, to), rt_at(updates, from), (size_t)n * rt_size_of(y));
    else
        reduce(y->dtype, r, rt_out_at(y, to), rt_at(updates, from), n);
}

/* The data as they were; the same index may come twice, so one worker then writes in order. */
static bool copy_data(const struct rt_call *c, const struct rt_worker *w)
{
    int64_t begin, end;
    const struct rt_tensor *x = &c->in[0];
    rt_worker_share(w, rt_shape_numel(&x->shape), RT_ALIGN, &begin, &end);
    if (begin < end && c->out[0].data != x->data)
        memcpy(rt_out_at(&c->out[0], begin), rt_at(x, begin),
               (size_t)(end - begin) * rt_size_of(x));
    rt_worker_barrier(w);
    return w->id == 0;
}

/* What both have: types and the output's shape, which is the data's. */
static enum rt_status infer_common(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    enum reduction r;
    enum rt_status s = read_reduction(n, &r, err);
    if (s == RT_OK)
        s = rt_check_index(g, n, 1, err);
    if (s == RT_OK)
        s = rt_check_same_type(g, n, 0, 2, err);
    /* Replacing and adding dimensions is right for every batch, the others may not be. */
    if (s == RT_OK && r > ADD && (rt_holds_batch(g, n->in[0]) || rt_holds_batch(g, n->in[2])))
        s = rt_node_fail(err, RT_E_UNSUPPORTED, n, "it computes with the number of samples");
    return s == RT_OK ? rt_infer_same(g, n, err) : s;
}

static enum rt_status infer_elements(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_shape *x = &rt_in(g, n, 0)->shape, *index = &rt_in(g, n, 1)->shape;
    int axis;
    enum rt_status s = rt_fix_axis(n, rt_attr_int(n, "axis", 0), x->rank, false, &axis, err);
    if (s == RT_OK)
        s = rt_keep_samples(g, n, 0, axis, err);
    if (s != RT_OK)
        return s;
    bool fits = index->rank == x->rank && rt_shape_equal(index, &rt_in(g, n, 2)->shape);
    for (int i = 0; fits && i < x->rank; i++)
        fits = i == axis || index->dim[i] <= x->dim[i];
    if (!fits)
        return rt_node_fail(err, RT_E_INVALID, n, "data, indices and updates do not fit together");
    return infer_common(g, n, err);
}

static void run_elements(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_shape *x = &c->in[0].shape, *index = &c->in[1].shape;
    int64_t axis = rt_attr_int(c->node, "axis", 0), stride[RT_MAX_RANK];
    enum reduction r = REPLACE;
    if (!copy_data(c, w))
        return;
    read_reduction(c->node, &r, NULL);
    axis += axis < 0 ? x->rank : 0;
    rt_strides(x, stride);
    int64_t count = rt_shape_numel(index);
    for (int64_t at = 0; at < count; at++) {
        int64_t rest = at, to = 0, given = rt_element_int(&c->in[1], at);
        int64_t i = given < 0 ? given + x->dim[axis] : given;
        if (i < 0 || i >= x->dim[axis]) {
            rt_fault(c, "index %lld is outside an axis of %lld", (long long)given,
                     (long long)x->dim[axis]);
            return;
        }
        for (int k = index->rank - 1; k >= 0; k--) {
            to += (k == axis ? i : rest % index->dim[k]) * stride[k];
            rest /= index->dim[k];
        }
        put(c, r, to, at, 1);
    }
}

#define SCATTER_ELEMENTS(op, first)                                                                \
    {                                                                                              \
        .name = op, .since = first, .min_in = 3, .max_in = 3, .min_out = 1, .max_out = 1,          \
        .traits = RT_OP_DIMS, .infer = infer_elements, .run = run_elements                         \
    }

const struct rt_op rt_op_ScatterElements = SCATTER_ELEMENTS("ScatterElements", 11);
const struct rt_op rt_op_Scatter = SCATTER_ELEMENTS("Scatter", 9);

static enum rt_status infer_nd(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_shape *x = &rt_in(g, n, 0)->shape, *index = &rt_in(g, n, 1)->shape;
    const struct rt_shape *updates = &rt_in(g, n, 2)->shape;
    int64_t depth = index->rank > 0 ? index->dim[index->rank - 1] : 0;
    if (depth < 1 || depth > x->rank)
        return rt_node_fail(err, RT_E_INVALID, n, "indices name %lld axes of %d", (long long)depth,
                            x->rank);
    enum rt_status s = RT_OK;
    for (int i = 0; i < depth && s == RT_OK; i++)
        s = rt_keep_samples(g, n, 0, i, err);
    if (s != RT_OK)
        return s;
    int lead = index->rank - 1;
    bool fits = updates->rank == lead + x->rank - (int)depth;
    for (int i = 0; fits && i < updates->rank; i++)
        fits = updates->dim[i] == (i < lead ? index->dim[i] : x->dim[i - lead + depth]);
    if (!fits)
        return rt_node_fail(err, RT_E_INVALID, n, "data, indices and updates do not fit together");
    return infer_common(g, n, err);
}

static void run_nd(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_shape *x = &c->in[0].shape, *index = &c->in[1].shape;
    int depth = (int)index->dim[index->rank - 1];
    int64_t count = rt_shape_range(index, 0, index->rank - 1);
    int64_t inner = rt_shape_range(x, depth, x->rank);
    enum reduction r = REPLACE;
    if (!copy_data(c, w))
        return;
    read_reduction(c->node, &r, NULL);
    for (int64_t at = 0; at < count; at++) {
        int64_t to = 0;
        for (int k = 0; k < depth; k++) {
            int64_t given = rt_element_int(&c->in[1], at * depth + k);
            int64_t i = given < 0 ? given + x->dim[k] : given;
            if (i < 0 || i >= x->dim[k]) {
                rt_fault(c, "index %lld is outside an axis of %lld", (long long)given,
                         (long long)x->dim[k]);
                return;
            }
            to = to * x->dim[k] + i;
        }
        put(c, r, to * inner, at * inner, inner);
    }
}

const struct rt_op rt_op_ScatterND = {
    .name = "ScatterND",
    .since = 11,
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_DIMS,
    .infer = infer_nd,
    .run = run_nd,
};
