/* ArgMax and ArgMin. */
#include <math.h>
#include <tgmath.h>

#include "runtime/ops/element.h"
#include "runtime/ops/op.h"

/* The best of the elements of a column so far, and where it is. Where NaNs are, the first one is
 * the best, as numpy has it. */
struct best {
    bool smallest, last;
    union {
        float f;
        double d;
        int64_t i;
        uint64_t u;
    } value;
    int64_t index;
};

#define SEARCH(name, type, member, is_nan)                                                         \
    static void search_##name(struct best *b, const void *from, int64_t first, int64_t n)          \
    {                                                                                              \
        const type *x = from;                                                                      \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const type e = x[i], best = b->value.member;                                           \
            if (b->index >= 0 && is_nan(best))                                                     \
                return;                                                                            \
            if (b->index < 0 || is_nan(e) || (b->smallest ? e < best : e > best) ||                \
                (b->last && e == best)) {                                                          \
                b->value.member = e;                                                               \
                b->index = first + i;                                                              \
            }                                                                                      \
        }                                                                                          \
    }
#define NEVER(x) ((void)(x), false)
SEARCH(float, float, f, isnan)
SEARCH(double, double, d, isnan)
SEARCH(int, int64_t, i, NEVER)
SEARCH(uint, uint64_t, u, NEVER)

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_shape x = rt_in(g, n, 0)->shape;
    int axis;
    enum rt_status s = rt_check_type(g, n, 0, RT_T_NUMBER, err);
    if (s == RT_OK)
        s = rt_fix_axis(n, rt_attr_int(n, "axis", 0), x.rank, false, &axis, err);
    if (s != RT_OK)
        return s;
    if (rt_is_batched(x.dim[axis]))
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "reduces over the batch axis");
    if (x.dim[axis] == 0)
        return rt_node_fail(err, RT_E_INVALID, n, "axis %d is empty", axis);
    const bool keep = rt_attr_int(n, "keepdims", 1) != 0;
    struct rt_shape y = { .rank = 0 };
    for (int i = 0; i < x.rank; i++)
        if (i != axis || keep)
            y.dim[y.rank++] = i == axis ? 1 : x.dim[i];
    return rt_set_out(g, n, 0, RT_INT64, &y, err);
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    static void (*const search[RT_N_KINDS])(struct best *, const void *, int64_t,
                                            int64_t) = { search_float, search_double, search_int,
                                                         search_uint };
    const struct rt_tensor *x = &c->in[0];
    int axis;
    if (rt_fix_axis(c->node, rt_attr_int(c->node, "axis", 0), x->shape.rank, false, &axis, NULL) !=
        RT_OK)
        return;
    const enum rt_kind kind = rt_kind_of(x->dtype);
    const int64_t len = x->shape.dim[axis];
    const int64_t inner = rt_shape_range(&x->shape, axis + 1, x->shape.rank);
    int64_t *y = c->out[0].data;
    union rt_chunk buf;
    int64_t i, end;
    rt_worker_share(w, rt_shape_range(&x->shape, 0, axis) * inner, 8, &i, &end);
    for (; i < end; i++) {
        const int64_t at = i / inner * len * inner + i % inner;
        struct best b = { .smallest = c->node->op->name[4] == 'i',
                          .last = rt_attr_int(c->node, "select_last_index", 0) != 0,
                          .index = -1 };
        for (int64_t k = 0, n; k < len; k += n) {
            n = len - k < RT_CHUNK ? len - k : RT_CHUNK;
            rt_load_elements(&buf, kind, x->dtype, rt_element_at(x, at + k * inner), inner, n);
            search[kind](&b, &buf, k, n);
        }
        y[i] = b.index;
    }
}

#define OPERATOR(x)                                                                                \
    const struct rt_op rt_op_##x = { .name = #x,                                                   \
                                     .min_in = 1,                                                  \
                                     .max_in = 1,                                                  \
                                     .min_out = 1,                                                 \
                                     .max_out = 1,                                                 \
                                     .infer = infer,                                               \
                                     .run = run };

OPERATOR(ArgMax)
OPERATOR(ArgMin)
