/* CumSum: running sums along an axis. */
#include "runtime/ops/element.h"
#include "runtime/ops/op.h"

static enum rt_status read_axis(struct rt_graph *g, const struct rt_node *n, int *axis,
                                struct rt_error *err)
{
    const struct rt_shape *x = &rt_in(g, n, 0)->shape;
    const int64_t *axes;
    int64_t count;
    enum rt_status s = rt_const_ints(g, n, 1, "axis", &axes, &count, err);
    if (s != RT_OK)
        return s;
    if (count != 1)
        return rt_node_fail(err, RT_E_INVALID, n, "axis is not a scalar");
    s = rt_fix_axis(n, axes[0], x->rank, false, axis, err);
    if (s == RT_OK && rt_is_batched(x->dim[*axis]))
        s = rt_node_fail(err, RT_E_UNSUPPORTED, n, "sums along the batch axis");
    return s;
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    int axis;
    enum rt_status s = rt_check_type(g, n, 0, RT_T_NUMBER, err);
    if (s == RT_OK)
        s = read_axis(g, n, &axis, err);
    return s == RT_OK ? rt_infer_same(g, n, err) : s;
}

static enum rt_status prepare(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    int *axis = rt_arena_alloc(b->arena, sizeof *axis);
    if (axis == NULL)
        return rt_graph_nomem(b->g, err);
    n->state = axis;
    return read_axis(b->g, n, axis, err);
}

/* A run of the sum, from the end where reverse, continuing from *sum; exclusive: what came before
 * an element without it. */
#define ACCUMULATE(name, type, member)                                                             \
    static void accumulate_##name(union rt_chunk *x, int64_t n, bool exclusive, bool reverse,      \
                                  union rt_chunk *sum)                                             \
    {                                                                                              \
        type total = sum->member[0];                                                               \
        for (int64_t k = 0; k < n; k++) {                                                          \
            type *e = &x->member[reverse ? n - 1 - k : k];                                         \
            const type before = total;                                                             \
            total += *e;                                                                           \
            *e = exclusive ? before : total;                                                       \
        }                                                                                          \
        sum->member[0] = total;                                                                    \
    }
ACCUMULATE(real, double, d)
ACCUMULATE(whole, uint64_t, u)

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *x = &c->in[0], *y = &c->out[0];
    const int axis = *(const int *)c->node->state;
    const bool exclusive = rt_attr_int(c->node, "exclusive", 0) != 0;
    const bool reverse = rt_attr_int(c->node, "reverse", 0) != 0;
    const bool real = rt_dtype_is_float(x->dtype);
    const enum rt_kind kind = real ? RT_KIND_DOUBLE : rt_kind_of(x->dtype);
    const int64_t len = x->shape.dim[axis];
    const int64_t inner = rt_shape_range(&x->shape, axis + 1, x->shape.rank);
    union rt_chunk buf, sum;
    int64_t i, end;
    rt_worker_share(w, rt_shape_range(&x->shape, 0, axis) * inner, 8, &i, &end);
    for (; i < end; i++) {
        const int64_t at = i / inner * len * inner + i % inner;
        sum.u[0] = 0; /* a zero of every kind */
        for (int64_t done = 0, n; done < len; done += n) {
            n = len - done < RT_CHUNK ? len - done : RT_CHUNK;
            const int64_t from = at + (reverse ? len - done - n : done) * inner;
            rt_load_elements(&buf, kind, x->dtype, rt_element_at(x, from), inner, n);
            (real ? accumulate_real : accumulate_whole)(&buf, n, exclusive, reverse, &sum);
            rt_store_elements(y->dtype, rt_element_at(y, from), inner, &buf, kind, n);
        }
    }
}

const struct rt_op rt_op_CumSum = {
    .name = "CumSum",
    .since = 11,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_DIMS,
    .infer = infer,
    .prepare = prepare,
    .run = run,
};
