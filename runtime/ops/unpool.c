/* MaxUnpool: the maxima of a MaxPool put back to where they were, zeros elsewhere. */
#include <string.h>

#include "runtime/ops/element.h"
#include "runtime/ops/op.h"

/* The size that the pooled tensor had; indices count in it. */
static enum rt_status pooled_from(const struct rt_node *n, const struct rt_shape *x,
                                  struct rt_shape *out, struct rt_error *err)
{
    const int rank = x->rank - 2;
    const int64_t *kernel, *strides, *pads;
    const int n_kernel = rt_attr_ints(n, "kernel_shape", &kernel);
    const int n_strides = rt_attr_ints(n, "strides", &strides);
    const int n_pads = rt_attr_ints(n, "pads", &pads);
    if (rank < 1 || n_kernel != rank || (n_strides != 0 && n_strides != rank) ||
        (n_pads != 0 && n_pads != 2 * rank))
        return rt_node_fail(err, RT_E_INVALID, n, "attributes do not fit an input of rank %d",
                            x->rank);
    *out = *x;
    for (int i = 0; i < rank; i++) {
        const int64_t stride = n_strides != 0 ? strides[i] : 1;
        const int64_t pad = n_pads != 0 ? pads[i] + pads[rank + i] : 0;
        int64_t span;
        if (stride < 1 || kernel[i] < 1 || rt_is_batched(x->dim[2 + i]) ||
            !rt_mul_i64(x->dim[2 + i] - 1, stride, &span) || span > INT64_MAX / 4 ||
            kernel[i] > INT32_MAX || pad < 0 || pad > INT32_MAX || span + kernel[i] - pad < 1)
            return rt_node_fail(err, RT_E_INVALID, n, "the sizes along axis %d are wrong", 2 + i);
        out->dim[2 + i] = span + kernel[i] - pad;
    }
    return RT_OK;
}

/* Whether the indices are those of a MaxPool on tensors of the size that they count in here, so
 * that each sample's lie in that sample. */
static bool keeps_samples(const struct rt_graph *g, const struct rt_node *n,
                          const struct rt_shape *pooled)
{
    const int producer = g->value[n->in[1]].producer;
    if (producer < 0 || g->node[producer].op != &rt_op_MaxPool)
        return false;
    return rt_shape_equal(&g->value[g->node[producer].in[0]].shape, pooled);
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0);
    const enum rt_dtype dtype = x->dtype;
    const struct rt_shape in = x->shape;
    struct rt_shape y;
    const int64_t *wanted;
    int64_t count = -1;
    enum rt_status s = rt_check_type(g, n, 0, RT_T_REAL, err);
    if (s == RT_OK)
        s = rt_check_type(g, n, 1, RT_T(RT_INT64), err);
    if (s == RT_OK)
        s = pooled_from(n, &in, &y, err);
    if (s == RT_OK && n->n_in > 2)
        s = rt_const_ints(g, n, 2, "output_shape", &wanted, &count, err);
    if (s != RT_OK)
        return s;
    if (!rt_shape_equal(&in, &rt_in(g, n, 1)->shape))
        return rt_node_fail(err, RT_E_INVALID, n, "input and indices differ in shape");
    if (rt_shape_batch_axis(&in) >= 0 && !keeps_samples(g, n, &y))
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "indices count over the batch axis");
    if (count >= 0 && count != y.rank)
        return rt_node_fail(err, RT_E_INVALID, n, "output_shape has %lld elements",
                            (long long)count);
    for (int i = 0; i < y.rank && count >= 0; i++) {
        if (wanted[i] < y.dim[i])
            return rt_node_fail(err, RT_E_INVALID, n,
                                "output_shape is smaller than what was pooled");
        y.dim[i] = wanted[i];
    }
    const int batch = rt_shape_batch_axis(&in);
    if (batch >= 0 && y.dim[batch] != in.dim[batch])
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "output_shape changes the batch");
    return rt_set_out(g, n, 0, dtype, &y, err);
}

/* Where element number at of the smaller shape lies in the larger one. */
static int64_t embed(const struct rt_shape *from, const struct rt_shape *to, int64_t at)
{
    int64_t place = 0, step = 1;
    for (int i = from->rank - 1; i >= 0; i--) {
        place += at % from->dim[i] * step;
        at /= from->dim[i];
        step *= to->dim[i];
    }
    return place;
}

/* Indices may name a place twice, and the last one counts: one worker puts all of them. */
static void run(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *x = &c->in[0], *y = &c->out[0];
    const int64_t *index = c->in[1].data;
    const size_t size = rt_dtype_size(y->dtype);
    struct rt_shape pooled;
    if (pooled_from(c->node, &x->shape, &pooled, NULL) != RT_OK || w->id != 0)
        return;
    const int64_t n = rt_shape_numel(&x->shape), most = rt_shape_numel(&pooled);
    memset(y->data, 0, (size_t)rt_shape_numel(&y->shape) * size);
    for (int64_t i = 0; i < n; i++) {
        if (index[i] < 0 || index[i] >= most) {
            rt_fault(c, "index %lld is %lld of %lld", (long long)i, (long long)index[i],
                     (long long)most);
            return;
        }
        memcpy(rt_element_at(y, embed(&pooled, &y->shape, index[i])), rt_element_at(x, i), size);
    }
}

const struct rt_op rt_op_MaxUnpool = {
    .name = "MaxUnpool",
    .since = 9,
    .min_in = 2,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_READS_SHAPE,
    .infer = infer,
    .run = run,
};
