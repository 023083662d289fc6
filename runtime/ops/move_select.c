/* Operators that choose elements by a condition or by position: Where, Compress, NonZero, Trilu,
 * ReverseSequence. */
#include <string.h>

#include "runtime/ops/element.h"
#include "runtime/ops/move.h"

/* --- Where ----------------------------------------------------------------------------------- */

static enum rt_status infer_where(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 1);
    struct rt_shape xy, all;
    enum rt_status s = rt_check_type(g, n, 0, RT_T(RT_BOOL), err);
    if (s == RT_OK)
        s = rt_check_same_type(g, n, 1, 2, err);
    if (s == RT_OK)
        s = rt_broadcast(n, &x->shape, &rt_in(g, n, 2)->shape, &xy, err);
    if (s == RT_OK)
        s = rt_broadcast(n, &rt_in(g, n, 0)->shape, &xy, &all, err);
    return s == RT_OK ? rt_set_out(g, n, 0, x->dtype, &all, err) : s;
}

#define CHOOSE(type)                                                                               \
    {                                                                                              \
        const type *a = x, *b = y;                                                                 \
        type *out = to;                                                                            \
        for (int64_t i = 0; i < n; i++)                                                            \
            out[i] = cond[i * s[0]] ? a[i * s[1]] : b[i * s[2]];                                   \
        return;                                                                                    \
    }

static void choose(void *to, const uint8_t *cond, const void *x, const void *y, const int64_t s[3],
                   int64_t n, size_t size)
{
    switch (size) {
    case 1:
        CHOOSE(uint8_t)
    case 2:
        CHOOSE(uint16_t)
    case 4:
        CHOOSE(uint32_t)
    default:
        CHOOSE(uint64_t)
    }
}

static void run_where(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_shape *y = &c->out[0].shape;
    int64_t stride[3][RT_MAX_RANK], begin, end;
    int last = y->rank - 1;
    int64_t n = last >= 0 ? y->dim[last] : 1;
    for (int k = 0; k < 3; k++)
        rt_broadcast_strides(&c->in[k].shape, y, stride[k]);
    rt_worker_share(w, rt_shape_numel(y), RT_ALIGN, &begin, &end);
    for (int64_t at = begin; at < end;) {
        int64_t from[3] = { 0 }, step[3] = { 0 }, rest = at;
        for (int i = last; i >= 0; i--) {
            for (int k = 0; k < 3; k++)
                from[k] += rest % y->dim[i] * stride[k][i];
            rest /= y->dim[i];
        }
        for (int k = 0; k < 3 && last >= 0; k++)
            step[k] = stride[k][last];
        int64_t run = n - at % n < end - at ? n - at % n : end - at;
        choose(rt_out_at(&c->out[0], at), (const uint8_t *)c->in[0].data + from[0],
               rt_at(&c->in[1], from[1]), rt_at(&c->in[2], from[2]), step, run,
               rt_size_of(&c->out[0]));
        at += run;
    }
}

const struct rt_op rt_op_Where = {
    .name = "Where",
    .since = 9,
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_DIMS,
    .infer = infer_where,
    .run = run_where,
};

/* --- Compress, NonZero: as many elements as the data say ------------------------------------- */

static enum rt_status infer_compress(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0), *cond = rt_in(g, n, 1);
    bool flat = rt_attr(n, "axis") == NULL;
    int axis = 0;
    enum rt_status s = rt_check_type(g, n, 1, RT_T(RT_BOOL), err);
    if (s == RT_OK && !flat)
        s = rt_fix_axis(n, rt_attr_int(n, "axis", 0), x->shape.rank, false, &axis, err);
    if (s != RT_OK)
        return s;
    if (cond->shape.rank != 1)
        return rt_node_fail(err, RT_E_INVALID, n, "the condition has %d dimensions, not 1",
                            cond->shape.rank);
    if (!cond->constant)
        return rt_fail_dynamic(err, n, "the condition");
    if (rt_shape_batch_axis(&x->shape) >= 0 && (flat || rt_is_batched(x->shape.dim[axis])))
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "it takes samples of the batch apart");
    int64_t dim = flat ? rt_shape_numel(&x->shape) : x->shape.dim[axis], taken = 0;
    const uint8_t *keep = cond->data;
    for (int64_t i = 0; i < cond->shape.dim[0]; i++) {
        if (keep[i] && i >= dim)
            return rt_node_fail(err, RT_E_INVALID, n, "the condition takes element %lld of %lld",
                                (long long)i, (long long)dim);
        taken += keep[i];
    }
    struct rt_shape y = x->shape;
    if (flat)
        y = (struct rt_shape){ .rank = 1 };
    y.dim[axis] = taken;
    return rt_set_out(g, n, 0, x->dtype, &y, err);
}

static void run_compress(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *x = &c->in[0];
    bool flat = rt_attr(c->node, "axis") == NULL;
    int64_t axis = rt_attr_int(c->node, "axis", 0), begin, end;
    axis += axis < 0 ? x->shape.rank : 0;
    int64_t outer = flat ? 1 : rt_shape_range(&x->shape, 0, (int)axis);
    int64_t dim = flat ? rt_shape_numel(&x->shape) : x->shape.dim[axis];
    int64_t inner = flat ? 1 : rt_shape_range(&x->shape, (int)axis + 1, x->shape.rank);
    int64_t n = c->in[1].shape.dim[0], taken = flat ? 0 : c->out[0].shape.dim[axis];
    const uint8_t *keep = c->in[1].data;
    rt_worker_share(w, outer, 1, &begin, &end);
    for (int64_t o = begin; o < end; o++) {
        int64_t to = o * taken;
        for (int64_t i = 0; i < n; i++)
            if (keep[i])
                memcpy(rt_out_at(&c->out[0], to++ * inner), rt_at(x, (o * dim + i) * inner),
                       (size_t)inner * rt_size_of(x));
    }
}

const struct rt_op rt_op_Compress = {
    .name = "Compress",
    .since = 9,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .infer = infer_compress,
    .run = run_compress,
};

static bool is_nonzero(const struct rt_tensor *x, int64_t at)
{
    /* 64-bit integers are told apart exactly, everything else fits a double. */
    return rt_dtype_is_float(x->dtype) ? rt_element(x, at) != 0 : rt_element_int(x, at) != 0;
}

static enum rt_status infer_nonzero(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0);
    if (!x->constant)
        return rt_fail_dynamic(err, n, "the input");
    struct rt_tensor t = rt_graph_tensor(g, n->in[0]);
    int64_t count = rt_shape_numel(&x->shape), found = 0;
    for (int64_t i = 0; i < count; i++)
        found += is_nonzero(&t, i);
    struct rt_shape y = { .rank = 2, .dim = { x->shape.rank, found } };
    return rt_set_out(g, n, 0, RT_INT64, &y, err);
}

static void run_nonzero(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *x = &c->in[0];
    int64_t *y = c->out[0].data, found = c->out[0].shape.dim[1], at = 0;
    int64_t count = w->id == 0 ? rt_shape_numel(&x->shape) : 0;
    for (int64_t i = 0; i < count && at < found; i++) {
        if (!is_nonzero(x, i))
            continue;
        int64_t rest = i;
        for (int k = x->shape.rank - 1; k >= 0; k--) {
            y[k * found + at] = rest % x->shape.dim[k];
            rest /= x->shape.dim[k];
        }
        at++;
    }
}

const struct rt_op rt_op_NonZero = {
    .name = "NonZero",
    .since = 9,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .infer = infer_nonzero,
    .run = run_nonzero,
};

/* --- Trilu ----------------------------------------------------------------------------------- */

static enum rt_status infer_trilu(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0), *k = rt_in(g, n, 1);
    int rank = x->shape.rank;
    if (rank < 2)
        return rt_node_fail(err, RT_E_INVALID, n, "the input has %d dimensions, not 2 or more",
                            rank);
    if (k != NULL && (k->dtype != RT_INT64 || rt_shape_numel(&k->shape) != 1))
        return rt_node_fail(err, RT_E_INVALID, n, "k must be one int64");
    enum rt_status s = rt_keep_samples(g, n, 0, rank - 1, err);
    if (s == RT_OK)
        s = rt_keep_samples(g, n, 0, rank - 2, err);
    return s == RT_OK ? rt_infer_same(g, n, err) : s;
}

static void run_trilu(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *x = &c->in[0];
    const int64_t *d = x->shape.dim + x->shape.rank - 2;
    int64_t rows = d[0], n = d[1], begin, end;
    int64_t k = rt_has_in(c->node, 1) ? *(const int64_t *)c->in[1].data : 0;
    k = k < -rows ? -rows : k > n ? n : k;
    bool upper = rt_attr_int(c->node, "upper", 1) != 0;
    size_t size = rt_size_of(x);
    rt_worker_share(w, n > 0 ? rt_shape_numel(&x->shape) / n : 0, 8, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        /* The upper part begins at the diagonal, the lower one ends behind it. */
        int64_t edge = r % rows + k + !upper;
        edge = edge < 0 ? 0 : edge > n ? n : edge;
        int64_t from = upper ? edge : 0, to = upper ? n : edge;
        char *y = rt_out_at(&c->out[0], r * n);
        memset(y, 0, (size_t)n * size);
        memcpy(y + (size_t)from * size, rt_at(x, r * n + from), (size_t)(to - from) * size);
    }
}

const struct rt_op rt_op_Trilu = {
    .name = "Trilu",
    .since = 14,
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .infer = infer_trilu,
    .run = run_trilu,
};

/* --- ReverseSequence ------------------------------------------------------------------------- */

static enum rt_status infer_reverse(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_shape *x = &rt_in(g, n, 0)->shape, *len = &rt_in(g, n, 1)->shape;
    int64_t batch = rt_attr_int(n, "batch_axis", 1), time = rt_attr_int(n, "time_axis", 0);
    if (x->rank < 2 || batch < 0 || batch > 1 || time != 1 - batch)
        return rt_node_fail(err, RT_E_INVALID, n,
                            "batch_axis %lld and time_axis %lld are not 0 and 1", (long long)batch,
                            (long long)time);
    if (len->rank != 1 || len->dim[0] != x->dim[batch])
        return rt_node_fail(err, RT_E_INVALID, n, "sequence_lens does not fit the input");
    enum rt_status s = rt_check_index(g, n, 1, err);
    if (s == RT_OK)
        s = rt_keep_samples(g, n, 0, (int)time, err);
    return s == RT_OK ? rt_infer_same(g, n, err) : s;
}

static void run_reverse(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *x = &c->in[0];
    const int64_t *d = x->shape.dim;
    bool batch_first = rt_attr_int(c->node, "batch_axis", 1) == 0;
    int64_t times = batch_first ? d[1] : d[0], batch = batch_first ? d[0] : d[1], begin, end;
    int64_t inner = rt_shape_range(&x->shape, 2, x->shape.rank);
    int64_t batch_step = batch_first ? times : 1, time_step = batch_first ? 1 : batch;
    rt_worker_share(w, batch, 1, &begin, &end);
    for (int64_t b = begin; b < end; b++) {
        int64_t len = rt_element_int(&c->in[1], b);
        if (len < 0 || len > times) {
            rt_fault(c, "sequence %lld has length %lld of %lld", (long long)b, (long long)len,
                     (long long)times);
            return;
        }
        for (int64_t t = 0; t < times; t++) {
            int64_t from = t < len ? len - 1 - t : t;
            memcpy(rt_out_at(&c->out[0], (b * batch_step + t * time_step) * inner),
                   rt_at(x, (b * batch_step + from * time_step) * inner),
                   (size_t)inner * rt_size_of(x));
        }
    }
}

const struct rt_op rt_op_ReverseSequence = {
    .name = "ReverseSequence",
    .since = 10,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .infer = infer_reverse,
    .run = run_reverse,
};
