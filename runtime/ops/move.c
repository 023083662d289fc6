/* Strided copies. */
#include "runtime/ops/move.h"

#include <string.h>

#include "runtime/ops/element.h"

/* Rows that are copied side by side where a column of the output is contiguous in the input. */
#define TILE 16

void rt_walk_init(struct rt_walk *v, int rank, const int64_t *dim, const int64_t *stride,
                  int64_t offset, size_t size)
{
    int r = 0;
    for (int i = 0; i < rank; i++) {
        if (dim[i] == 1)
            continue;
        if (r > 0 && v->stride[r - 1] == stride[i] * dim[i]) {
            v->dim[r - 1] *= dim[i];
            v->stride[r - 1] = stride[i];
            continue;
        }
        v->dim[r] = dim[i];
        v->stride[r++] = stride[i];
    }
    if (r == 0) {
        v->dim[0] = 1;
        v->stride[0] = 1;
        r = 1;
    }
    v->rank = r;
    v->offset = offset;
    v->size = size;
}

#define COPY(type)                                                                                 \
    {                                                                                              \
        const type *x = in;                                                                        \
        type *y = out;                                                                             \
        for (int64_t i = 0; i < n; i++)                                                            \
            y[i] = x[i * stride];                                                                  \
        return;                                                                                    \
    }

void rt_copy_strided(void *out, const void *in, int64_t stride, int64_t n, size_t size)
{
    if (stride == 1) {
        memcpy(out, in, (size_t)n * size);
        return;
    }
    switch (size) {
    case 1:
        COPY(uint8_t)
    case 2:
        COPY(uint16_t)
    case 4:
        COPY(uint32_t)
    default:
        COPY(uint64_t)
    }
}

void rt_fill(void *out, const void *value, int64_t n, size_t size)
{
    rt_copy_strided(out, value, 0, n, size);
}

#define COPY_TILE(type)                                                                            \
    {                                                                                              \
        const type *x = in;                                                                        \
        type *y = out;                                                                             \
        for (int64_t i = 0; i < n; i++)                                                            \
            for (int64_t r = 0; r < rows; r++)                                                     \
                y[r * n + i] = x[r + i * stride];                                                  \
        return;                                                                                    \
    }

/* Writes rows dense rows of n; row r takes in[r], in[r + stride] ... */
static void copy_tile(void *out, const void *in, int64_t stride, int64_t n, int64_t rows,
                      size_t size)
{
    switch (size) {
    case 1:
        COPY_TILE(uint8_t)
    case 2:
        COPY_TILE(uint16_t)
    case 4:
        COPY_TILE(uint32_t)
    default:
        COPY_TILE(uint64_t)
    }
}

/* Elements begin..end-1 of the view to the same places of out. */
static void copy_range(const struct rt_walk *v, const char *in, char *out, int64_t begin,
                       int64_t end)
{
    int last = v->rank - 1;
    int64_t index[RT_MAX_WALK], from = v->offset, rest = begin;
    for (int i = last; i >= 0; i--) {
        index[i] = rest % v->dim[i];
        rest /= v->dim[i];
        from += index[i] * v->stride[i];
    }
    bool by_tiles = last > 0 && v->stride[last - 1] == 1 && v->stride[last] != 1;
    int64_t n = v->dim[last];
    for (int64_t at = begin; at < end;) {
        int64_t rows =
            by_tiles && index[last] == 0
                ? rt_least(TILE, rt_least(v->dim[last - 1] - index[last - 1], (end - at) / n))
                : 0;
        if (rows > 1) {
            copy_tile(out + (size_t)at * v->size, in + from * (int64_t)v->size, v->stride[last], n,
                      rows, v->size);
            at += rows * n;
            index[last - 1] += rows - 1;
            from += rows - 1;
        } else {
            int64_t run = rt_least(n - index[last], end - at);
            rt_copy_strided(out + (size_t)at * v->size, in + from * (int64_t)v->size,
                            v->stride[last], run, v->size);
            at += run;
            from -= index[last] * v->stride[last];
            index[last] = 0;
        }
        for (int i = last - 1; i >= 0; i--) {
            from += v->stride[i];
            if (++index[i] < v->dim[i])
                break;
            from -= v->dim[i] * v->stride[i];
            index[i] = 0;
        }
    }
}

void rt_walk_copy(const struct rt_walk *v, const void *in, void *out, const struct rt_worker *w)
{
    int64_t rows = 1, n = v->dim[v->rank - 1], begin, end;
    for (int i = 0; i < v->rank - 1; i++)
        rows *= v->dim[i];
    if (rows * n == 0)
        return;
    if (rows >= 4 * w->count) {
        rt_worker_share(w, rows, TILE, &begin, &end);
        begin *= n;
        end *= n;
    } else {
        rt_worker_share(w, rows * n, RT_ALIGN, &begin, &end);
    }
    if (begin < end)
        copy_range(v, in, out, begin, end);
}

void rt_fill_tensor(const struct rt_tensor *t, const void *value, const struct rt_worker *w)
{
    int64_t begin, end;
    rt_worker_share(w, rt_shape_numel(&t->shape), RT_ALIGN, &begin, &end);
    if (begin >= end)
        return;
    if (value == NULL)
        memset(rt_out_at(t, begin), 0, (size_t)(end - begin) * rt_size_of(t));
    else
        rt_fill(rt_out_at(t, begin), value, end - begin, rt_size_of(t));
}

size_t rt_size_of(const struct rt_tensor *t)
{
    return rt_dtype_size(t->dtype);
}

int rt_run_ints(const struct rt_call *c, const char *name, int i, int64_t *to, int max)
{
    const int64_t *ints;
    const struct rt_attr *a = name != NULL ? rt_attr(c->node, name) : NULL;
    if (a != NULL && a->type == RT_ATTR_INTS) {
        int n = rt_attr_ints(c->node, name, &ints);
        for (int k = 0; k < n && k < max; k++)
            to[k] = ints[k];
        return n;
    }
    if (!rt_has_in(c->node, i))
        return -1;
    int n = (int)rt_shape_numel(&c->in[i].shape);
    for (int k = 0; k < n && k < max; k++)
        to[k] = rt_element_int(&c->in[i], k);
    return n;
}

enum rt_status rt_keep_samples(const struct rt_graph *g, const struct rt_node *n, int i, int axis,
                               struct rt_error *err)
{
    const struct rt_value *v = rt_in_const(g, n, i);
    if (!rt_is_batched(v->shape.dim[axis]))
        return RT_OK;
    return rt_node_fail(err, RT_E_UNSUPPORTED, n, "it takes samples of the batch apart");
}

enum rt_status rt_check_index(const struct rt_graph *g, const struct rt_node *n, int i,
                              struct rt_error *err)
{
    return rt_check_type(g, n, i, RT_T(RT_INT32) | RT_T(RT_INT64), err);
}
