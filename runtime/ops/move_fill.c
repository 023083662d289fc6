/* Operators that make elements: ConstantOfShape, EyeLike, Range, OneHot. */
#include <math.h>
#include <string.h>

#include "runtime/ops/element.h"
#include "runtime/ops/move.h"

/* --- ConstantOfShape ------------------------------------------------------------------------- */

static enum rt_status infer_fill(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_attr *value = rt_attr(n, "value");
    const int64_t *want;
    int64_t count;
    enum rt_status s = rt_const_ints(g, n, 0, "the shape", &want, &count, err);
    if (s != RT_OK)
        return s;
    if (value != NULL && rt_shape_numel(&value->t.shape) != 1)
        return rt_node_fail(err, RT_E_INVALID, n, "value must have one element");
    if (count > RT_MAX_RANK)
        return rt_node_fail(err, RT_E_LIMIT, n, "the shape has %lld dimensions, more than %d",
                            (long long)count, RT_MAX_RANK);
    struct rt_shape y = rt_shape_of((int)count, want);
    return rt_set_out(g, n, 0, value != NULL ? value->t.dtype : RT_FLOAT, &y, err);
}

static void run_fill(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_attr *value = rt_attr(c->node, "value");
    rt_fill_tensor(&c->out[0], value != NULL ? value->t.data : NULL, w);
}

const struct rt_op rt_op_ConstantOfShape = {
    .name = "ConstantOfShape",
    .since = 9,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_READS_SHAPE | RT_OP_DIMS,
    .infer = infer_fill,
    .run = run_fill,
};

/* --- EyeLike --------------------------------------------------------------------------------- */

/* The type named by attribute "dtype"; otherwise where there is none. */
static enum rt_status wanted_type(const struct rt_node *n, enum rt_dtype otherwise,
                                  enum rt_dtype *out, struct rt_error *err)
{
    int64_t t = rt_attr_int(n, "dtype", otherwise);
    if (t < 0 || t >= RT_N_DTYPES || rt_dtype_size((enum rt_dtype)t) == 0)
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "dtype %lld is not supported", (long long)t);
    *out = (enum rt_dtype)t;
    return RT_OK;
}

static enum rt_status infer_eye(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0);
    enum rt_dtype t = x->dtype;
    enum rt_status s = wanted_type(n, x->dtype, &t, err);
    if (s != RT_OK)
        return s;
    if (x->shape.rank != 2)
        return rt_node_fail(err, RT_E_INVALID, n, "the input has %d dimensions, not 2",
                            x->shape.rank);
    if (rt_shape_batch_axis(&x->shape) >= 0)
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "its shape follows the batch");
    return rt_set_out(g, n, 0, t, &x->shape, err);
}

static void run_eye(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *y = &c->out[0];
    int64_t rows = y->shape.dim[0], n = y->shape.dim[1], one = 1, begin, end;
    int64_t k = rt_attr_int(c->node, "k", 0);
    rt_worker_share(w, rows, 8, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        memset(rt_out_at(y, r * n), 0, (size_t)n * rt_size_of(y));
        if (k > -rows && k < n && r + k >= 0 && r + k < n)
            rt_store_elements(y->dtype, rt_out_at(y, r * n + r + k), 1, &one, RT_KIND_INT, 1);
    }
}

const struct rt_op rt_op_EyeLike = {
    .name = "EyeLike",
    .since = 9,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_OF_SHAPE,
    .infer = infer_eye,
    .run = run_eye,
};

/* --- Range ----------------------------------------------------------------------------------- */

/* How many elements start, start + delta, ... there are before limit; false when not finite. A
 * limit that is a multiple of the batch, from 0 in steps of 1, gives one for each sample. */
static bool range_count(const struct rt_tensor t[3], int64_t *count)
{
    double d[3], n;
    int64_t i[3];
    for (int k = 0; k < 3; k++) {
        d[k] = rt_element(&t[k], 0);
        i[k] = rt_element_int(&t[k], 0);
    }
    if (!rt_dtype_is_float(t[0].dtype)) {
        int64_t span;
        if (i[2] == 0 || __builtin_sub_overflow(i[1], i[0], &span))
            return false;
        bool none = span == 0 || (span > 0) != (i[2] > 0);
        /* Both have one sign, so nothing here overflows. */
        *count = none ? 0 : span / i[2] + (span % i[2] != 0);
        return true;
    }
    n = ceil((d[1] - d[0]) / d[2]);
    if (!(n < 0x1p40))
        return false;
    *count = n > 0 ? (int64_t)n : 0;
    return true;
}

/* Half-width elements are computed in doubles, which is right for a stash_type of float, the
 * default, and of double; what a narrower one would round on the way cannot be had. */
static enum rt_status check_stash(struct rt_graph *g, const struct rt_node *n,
                                  struct rt_error *err)
{
    const enum rt_dtype t = rt_in(g, n, 0)->dtype;
    const int64_t stash = rt_attr_int(n, "stash_type", RT_FLOAT);
    if ((t != RT_FLOAT16 && t != RT_BFLOAT16) || stash == RT_FLOAT || stash == RT_DOUBLE)
        return RT_OK;
    return rt_node_fail(err, RT_E_UNSUPPORTED, n, "stash_type %lld is not supported",
                        (long long)stash);
}

static enum rt_status infer_range(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    static const char *const name[] = { "start", "limit", "delta" };
    struct rt_tensor t[3];
    enum rt_status s = rt_check_type(g, n, 0, RT_T_NUMBER, err);
    for (int k = 0; k < 3 && s == RT_OK; k++) {
        const struct rt_value *v = rt_in(g, n, k);
        s = rt_check_same_type(g, n, 0, k, err);
        if (s == RT_OK && !v->constant)
            s = rt_fail_dynamic(err, n, name[k]);
        if (s == RT_OK && rt_shape_numel(&v->shape) != 1)
            s = rt_node_fail(err, RT_E_INVALID, n, "%s must have one element", name[k]);
        t[k] = rt_graph_tensor(g, n->in[k]);
    }
    struct rt_shape y = { .rank = 1 };
    if (s == RT_OK)
        s = check_stash(g, n, err);
    if (s == RT_OK && !range_count(t, &y.dim[0]))
        s = rt_node_fail(err, RT_E_INVALID, n, "the range has no end");
    return s == RT_OK ? rt_set_out(g, n, 0, rt_in(g, n, 0)->dtype, &y, err) : s;
}

static void run_range(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *y = &c->out[0];
    int64_t begin, end;
    rt_worker_share(w, y->shape.dim[0], RT_ALIGN, &begin, &end);
    bool real = rt_dtype_is_float(y->dtype);
    double start = rt_element(&c->in[0], 0), delta = rt_element(&c->in[2], 0);
    uint64_t first = (uint64_t)rt_element_int(&c->in[0], 0);
    uint64_t step = (uint64_t)rt_element_int(&c->in[2], 0);
    for (int64_t i = begin; i < end; i++) {
        double d = start + (double)i * delta;
        int64_t v = (int64_t)(first + (uint64_t)i * step); /* wraps like numpy's */
        if (real)
            rt_store_elements(y->dtype, rt_out_at(y, i), 1, &d, RT_KIND_DOUBLE, 1);
        else
            rt_store_elements(y->dtype, rt_out_at(y, i), 1, &v, RT_KIND_INT, 1);
    }
}

const struct rt_op rt_op_Range = {
    .name = "Range",
    .since = 11,
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_READS_SHAPE | RT_OP_DIMS,
    .infer = infer_range,
    .run = run_range,
};

/* --- OneHot ---------------------------------------------------------------------------------- */

static enum rt_status infer_one_hot(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *index = rt_in(g, n, 0), *depth = rt_in(g, n, 1),
                          *values = rt_in(g, n, 2);
    int axis;
    enum rt_status s = rt_check_type(g, n, 0, RT_T_NUMBER, err);
    if (s == RT_OK)
        s = rt_check_type(g, n, 1, RT_T_NUMBER, err);
    if (s == RT_OK && !depth->constant)
        s = rt_fail_dynamic(err, n, "depth");
    if (s == RT_OK)
        s = rt_fix_axis(n, rt_attr_int(n, "axis", -1), index->shape.rank + 1, false, &axis, err);
    if (s != RT_OK)
        return s;
    if (rt_shape_numel(&depth->shape) != 1 || rt_shape_numel(&values->shape) != 2)
        return rt_node_fail(err, RT_E_INVALID, n, "depth must be one number and values two");
    struct rt_tensor t = rt_graph_tensor(g, n->in[1]);
    int64_t d = rt_element_int(&t, 0);
    if (d < 1 || rt_is_batched(d))
        return rt_node_fail(err, RT_E_INVALID, n, "depth is %lld", (long long)d);
    if (index->shape.rank == RT_MAX_RANK)
        return rt_node_fail(err, RT_E_LIMIT, n, "the output has more than %d dimensions",
                            RT_MAX_RANK);
    struct rt_shape y = { .rank = index->shape.rank + 1 };
    for (int i = 0; i < y.rank; i++)
        y.dim[i] = i == axis ? d : index->shape.dim[i - (i > axis)];
    return rt_set_out(g, n, 0, values->dtype, &y, err);
}

/* An index outside of -depth..depth-1 gives a row without a hot element. */
static void run_one_hot(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *y = &c->out[0];
    int64_t axis = rt_attr_int(c->node, "axis", -1), begin, end;
    axis += axis < 0 ? y->shape.rank : 0;
    int64_t depth = y->shape.dim[axis],
            inner = rt_shape_range(&y->shape, (int)axis + 1, y->shape.rank);
    rt_worker_share(w, rt_shape_numel(&y->shape), RT_ALIGN, &begin, &end);
    for (int64_t at = begin; at < end; at++) {
        int64_t k = at / inner % depth;
        int64_t index = rt_element_int(&c->in[0], at / (inner * depth) * inner + at % inner);
        bool hot = index == k || index == k - depth;
        memcpy(rt_out_at(y, at), rt_at(&c->in[2], hot), rt_size_of(y));
    }
}

const struct rt_op rt_op_OneHot = {
    .name = "OneHot",
    .since = 9,
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .infer = infer_one_hot,
    .run = run_one_hot,
};
