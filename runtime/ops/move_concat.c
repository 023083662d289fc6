/* Concat, in plain and in channel-blocked layout. */
#include <string.h>

#include "runtime/ops/element.h"
#include "runtime/ops/move.h"
#include "runtime/ops/steps.h"

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0);
    struct rt_shape y = x->shape;
    /* Opset 1 had a default; later versions want the attribute, which import checks. */
    int axis;
    enum rt_status s = rt_fix_axis(n, rt_attr_int(n, "axis", 1), y.rank, false, &axis, err);
    if (s != RT_OK)
        return s;
    y.dim[axis] = 0;
    for (int i = 0; i < n->n_in; i++) {
        const struct rt_value *v = rt_in(g, n, i);
        if (v == NULL)
            return rt_node_fail(err, RT_E_INVALID, n, "input %d is left out", i);
        s = rt_check_same_type(g, n, 0, i, err);
        if (s != RT_OK)
            return s;
        bool fits = v->shape.rank == y.rank;
        for (int k = 0; fits && k < y.rank; k++)
            fits = k == axis || v->shape.dim[k] == y.dim[k];
        if (!fits) {
            char a[RT_SHAPE_TEXT], b[RT_SHAPE_TEXT];
            struct rt_shape s0 = rt_shape_at(&x->shape, 1), s1 = rt_shape_at(&v->shape, 1);
            return rt_node_fail(err, RT_E_INVALID, n,
                                "inputs of shapes %s and %s do not fit together along axis %d",
                                rt_shape_text(&s0, a), rt_shape_text(&s1, b), axis);
        }
        if (!rt_add_i64(y.dim[axis], v->shape.dim[axis], &y.dim[axis]))
            return rt_node_fail(err, RT_E_LIMIT, n, "the output is too large");
    }
    return rt_set_out(g, n, 0, x->dtype, &y, err);
}

/* The inputs that are joined: those of steps stand behind them. */
static int n_joined(const struct rt_node *n)
{
    int i = n->n_in;
    while (rt_steps_read(n, i - 1))
        i--;
    return i;
}

/* Copies bytes begin..end of the output. A row of the output is a row of each input, one after the
 * other. */
static void copy(const struct rt_call *c, int axis, bool blocked, int64_t begin, int64_t end)
{
    struct rt_tensor y = blocked ? rt_blocked_view(&c->out[0]) : c->out[0];
    int64_t size = (int64_t)rt_size_of(&y);
    int64_t whole = rt_shape_range(&y.shape, axis, y.shape.rank) * size;
    int n = n_joined(c->node);
    if (begin >= end)
        return;
    int64_t at = begin / whole * whole;
    for (int64_t row = begin / whole; at < end; row++)
        for (int i = 0; i < n && at < end; i++) {
            struct rt_tensor x = blocked ? rt_blocked_view(&c->in[i]) : c->in[i];
            int64_t len = rt_shape_range(&x.shape, axis, x.shape.rank) * size;
            int64_t from = at > begin ? at : begin, to = at + len < end ? at + len : end;
            const char *source = (const char *)x.data + row * len + (from - at);
            char *target = (char *)y.data + from;
            if (from < to && source != target) /* else it was made there */
                memcpy(target, source, (size_t)(to - from));
            at += len;
        }
}

/* A channel, or a block of them, of a sample at a time: its steps find it in the cache. */
static void join_with_steps(const struct rt_call *c, const struct rt_worker *w, int axis,
                            bool blocked)
{
    struct rt_tensor y = blocked ? rt_blocked_view(&c->out[0]) : c->out[0];
    int rank = y.shape.rank;
    int64_t channels = rank > 1 ? y.shape.dim[1] : 1;
    int64_t planes = rank > 1 ? y.shape.dim[0] * channels : 1, begin, end;
    int64_t inner = rt_shape_range(&y.shape, rank > 1 ? 2 : 0, rank);
    rt_worker_share(w, planes, 1, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        int64_t at = i * inner, size = (int64_t)sizeof(float);
        float *to = (float *)y.data + at;
        copy(c, axis, blocked, at * size, (at + inner) * size);
        if (blocked)
            rt_steps_blocked(c, to, i / channels, i % channels, at, inner / rt_kernels()->block);
        else
            rt_steps_plain(c, to, i / channels, i % channels, at, inner);
    }
}

static void join(const struct rt_call *c, const struct rt_worker *w, int axis, bool blocked)
{
    struct rt_tensor y = blocked ? rt_blocked_view(&c->out[0]) : c->out[0];
    int64_t begin, end;
    if (c->node->n_steps > 0) {
        join_with_steps(c, w, axis, blocked);
        return;
    }
    rt_worker_share(w, rt_shape_numel(&y.shape) * (int64_t)rt_size_of(&y), 4096, &begin, &end);
    copy(c, axis, blocked, begin, end);
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    int64_t axis = rt_attr_int(c->node, "axis", 1);
    join(c, w, (int)(axis < 0 ? axis + c->out[0].shape.rank : axis), false);
}

static void run_blocked(const struct rt_call *c, const struct rt_worker *w)
{
    join(c, w, 1, true);
}

/* All channels but the last input's in whole blocks: each block of the output is an input's. */
static bool can_block(const struct rt_graph *g, const struct rt_node *n)
{
    const struct rt_value *y = &g->value[n->out[0]];
    int64_t axis = rt_attr_int(n, "axis", 1), block = rt_kernels()->block;
    if (y->shape.rank != 4 || y->dtype != RT_FLOAT || (axis != 1 && axis != -3))
        return false;
    for (int i = 0, last = n_joined(n) - 1; i <= last; i++) {
        const struct rt_value *x = &g->value[n->in[i]];
        if (x->constant || (i < last && x->shape.dim[1] % block != 0))
            return false; /* constants stay plain */
    }
    return true;
}

static const struct rt_op concat_blocked = {
    .name = "Concat",
    .domain = "ai.convd",
    .min_in = 1,
    .max_in = -1,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_EPILOGUE | RT_OP_JOINS,
    .infer = infer,
    .run = run_blocked,
};

const struct rt_op rt_op_Concat = {
    .name = "Concat",
    .min_in = 1,
    .max_in = -1,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_DIMS | RT_OP_EPILOGUE,
    .infer = infer,
    .run = run,
    .can_block = can_block,
    .blocked = &concat_blocked,
};
