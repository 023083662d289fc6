/* Zero points and scales of quantised products. */
#include "runtime/ops/integer.h"

#include <math.h>

bool rt_integer_fits(const struct rt_shape *p, int axis, const struct rt_shape *of)
{
    if (rt_shape_numel(p) == 1)
        return true;
    if (p->rank == 1)
        return axis < of->rank && p->dim[0] == of->dim[axis];
    bool fits = p->rank == of->rank;
    for (int i = 0; fits && i < of->rank; i++)
        fits = p->dim[i] == 1 || p->dim[i] == of->dim[i];
    return fits;
}

void rt_integer_view(struct rt_operand *o, const struct rt_tensor *p, int axis,
                     const struct rt_shape *of)
{
    struct rt_tensor t = *p;
    if (rt_shape_numel(&t.shape) == 1)
        t.shape.rank = 0;
    while (t.shape.rank > 0 && t.shape.rank < of->rank - axis)
        t.shape.dim[t.shape.rank++] = 1;
    rt_operand_init(o, &t, of);
}

void rt_integer_center(int32_t *to, const struct rt_tensor *x, const struct rt_tensor *zero,
                       int axis, const struct rt_worker *w)
{
    const bool has_zero = zero != NULL && zero->data != NULL;
    struct rt_operand o;
    if (has_zero)
        rt_integer_view(&o, zero, axis, &x->shape);
    union rt_chunk x_buf, zero_buf;
    int64_t at, end;
    rt_worker_share(w, rt_shape_numel(&x->shape), 64, &at, &end);
    for (int64_t n; at < end; at += n) {
        n = end - at < RT_CHUNK ? end - at : RT_CHUNK;
        const int64_t *from = rt_load(x, at, n, RT_KIND_INT, &x_buf);
        const int64_t *by = has_zero ? rt_operand_load(&o, at, n, RT_KIND_INT, &zero_buf) : NULL;
        for (int64_t i = 0; i < n; i++)
            to[at + i] = (int32_t)(from[i] - (by != NULL ? by[i] : 0));
    }
}

void rt_integer_rescale(const struct rt_tensor *y, int64_t at, int64_t n, const int32_t *sums,
                        const float *factors, const float *zeros)
{
    const float low = y->dtype == RT_INT8 ? -128 : 0, high = low + 255;
    float q[RT_CHUNK];
    for (int64_t i = 0; i < n; i++) {
        const float v = rintf((float)sums[i] * factors[i]) + (zeros != NULL ? zeros[i] : 0);
        q[i] = !(v > low) ? low : v > high ? high : v;
    }
    rt_store_elements(y->dtype, rt_element_at(y, at), 1, q, RT_KIND_FLOAT, n);
}
