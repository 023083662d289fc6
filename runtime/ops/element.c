/* Conversion between the element types and the four kinds in which operators compute. */
#include "runtime/ops/element.h"

#include <math.h>
#include <string.h>

#include "runtime/kernels/kernels.h"
#include "runtime/ops/op.h"

enum rt_kind rt_kind_of(enum rt_dtype t)
{
    switch (t) {
    case RT_FLOAT:
    case RT_FLOAT16:
    case RT_BFLOAT16:
        return RT_KIND_FLOAT;
    case RT_DOUBLE:
        return RT_KIND_DOUBLE;
    case RT_UINT64:
        return RT_KIND_UINT;
    default:
        return RT_KIND_INT;
    }
}

bool rt_is_stored_as(enum rt_dtype dtype, enum rt_kind kind)
{
    return (dtype == RT_FLOAT && kind == RT_KIND_FLOAT) ||
           (dtype == RT_DOUBLE && kind == RT_KIND_DOUBLE) ||
           (dtype == RT_INT64 && kind == RT_KIND_INT) ||
           (dtype == RT_UINT64 && kind == RT_KIND_UINT);
}

/* Both limits are powers of two, so they are exact as doubles. */
int64_t rt_real_to_int(double x)
{
    if (!(x < 0x1p63))
        return isnan(x) ? 0 : INT64_MAX;
    return x < -0x1p63 ? INT64_MIN : (int64_t)x;
}

uint64_t rt_real_to_uint(double x)
{
    if (!(x < 0x1p64))
        return isnan(x) ? 0 : UINT64_MAX;
    return x > 0 ? (uint64_t)x : 0;
}

/* clang-format off */
/* Converters between each kind and each stored type. The macros take the kind's name, its C type,
 * and how reals (LOAD) and integers (STORE) are reached from it. */
#define LOOP(stored_type, value)                                                                   \
    {                                                                                              \
        const stored_type *x = data;                                                               \
        for (int64_t i = 0; i < n; i++)                                                            \
            y[i] = value;                                                                          \
        return;                                                                                    \
    }
#define LOAD(name, type, from_real)                                                                \
    static void load_##name(type *y, enum rt_dtype dtype, const void *data, int64_t s, int64_t n)  \
    {                                                                                              \
        switch (dtype) {                                                                           \
        case RT_FLOAT: LOOP(float, from_real(x[i * s]))                                            \
        case RT_DOUBLE: LOOP(double, from_real(x[i * s]))                                          \
        case RT_FLOAT16: LOOP(uint16_t, from_real(rt_half_to_float(x[i * s])))                     \
        case RT_BFLOAT16: LOOP(uint16_t, from_real(rt_bfloat16_to_float(x[i * s])))                \
        case RT_INT8: LOOP(int8_t, (type)x[i * s])                                                 \
        case RT_INT16: LOOP(int16_t, (type)x[i * s])                                               \
        case RT_INT32: LOOP(int32_t, (type)x[i * s])                                               \
        case RT_INT64: LOOP(int64_t, (type)x[i * s])                                               \
        case RT_BOOL:                                                                              \
        case RT_UINT8: LOOP(uint8_t, (type)x[i * s])                                               \
        case RT_UINT16: LOOP(uint16_t, (type)x[i * s])                                             \
        case RT_UINT32: LOOP(uint32_t, (type)x[i * s])                                             \
        case RT_UINT64: LOOP(uint64_t, (type)x[i * s])                                             \
        default: return;                                                                           \
        }                                                                                          \
    }

LOAD(float, float, (float))
LOAD(double, double, (double))
LOAD(int, int64_t, rt_real_to_int)
LOAD(uint, uint64_t, rt_real_to_uint)
#undef LOOP

#define LOOP(stored_type, value)                                                                   \
    {                                                                                              \
        stored_type *y = data;                                                                     \
        for (int64_t i = 0; i < n; i++)                                                            \
            y[i * s] = value;                                                                      \
        return;                                                                                    \
    }
#define STORE(name, type, to_int, to_uint, to_half)                                                 \
    static void store_##name(enum rt_dtype dtype, void *data, int64_t s, const type *x, int64_t n) \
    {                                                                                              \
        switch (dtype) {                                                                           \
        case RT_FLOAT: LOOP(float, (float)x[i])                                                    \
        case RT_DOUBLE: LOOP(double, (double)x[i])                                                 \
        case RT_FLOAT16: LOOP(uint16_t, to_half(x[i]))                                             \
        case RT_BFLOAT16: LOOP(uint16_t, rt_float_to_bfloat16((float)x[i]))                        \
        case RT_INT8: LOOP(int8_t, (int8_t)to_int(x[i]))                                           \
        case RT_INT16: LOOP(int16_t, (int16_t)to_int(x[i]))                                        \
        case RT_INT32: LOOP(int32_t, (int32_t)to_int(x[i]))                                        \
        case RT_INT64: LOOP(int64_t, (int64_t)to_int(x[i]))                                        \
        case RT_UINT8: LOOP(uint8_t, (uint8_t)to_int(x[i]))                                        \
        case RT_UINT16: LOOP(uint16_t, (uint16_t)to_int(x[i]))                                     \
        case RT_UINT32: LOOP(uint32_t, (uint32_t)to_int(x[i]))                                     \
        case RT_UINT64: LOOP(uint64_t, to_uint(x[i]))                                              \
        case RT_BOOL: LOOP(uint8_t, x[i] != 0)                                                     \
        default: return;                                                                           \
        }                                                                                          \
    }
#define INT_TO_HALF(x) rt_double_to_half((double)(x))

STORE(float, float, rt_real_to_int, rt_real_to_uint, rt_float_to_half)
STORE(double, double, rt_real_to_int, rt_real_to_uint, rt_double_to_half)
STORE(int, int64_t, , (uint64_t), INT_TO_HALF)
STORE(uint, uint64_t, , , INT_TO_HALF)
#undef LOOP
/* clang-format on */

void rt_load_elements(void *buf, enum rt_kind kind, enum rt_dtype dtype, const void *data,
                      int64_t stride, int64_t n)
{
    switch (kind) {
    case RT_KIND_FLOAT:
        load_float(buf, dtype, data, stride, n);
        return;
    case RT_KIND_DOUBLE:
        load_double(buf, dtype, data, stride, n);
        return;
    case RT_KIND_INT:
        load_int(buf, dtype, data, stride, n);
        return;
    default:
        load_uint(buf, dtype, data, stride, n);
        return;
    }
}

void rt_store_elements(enum rt_dtype dtype, void *data, int64_t stride, const void *buf,
                       enum rt_kind kind, int64_t n)
{
    switch (kind) {
    case RT_KIND_FLOAT:
        store_float(dtype, data, stride, buf, n);
        return;
    case RT_KIND_DOUBLE:
        store_double(dtype, data, stride, buf, n);
        return;
    case RT_KIND_INT:
        store_int(dtype, data, stride, buf, n);
        return;
    default:
        store_uint(dtype, data, stride, buf, n);
        return;
    }
}

void *rt_element_at(const struct rt_tensor *t, int64_t at)
{
    return (char *)t->data + (size_t)at * rt_dtype_size(t->dtype);
}

const void *rt_load(const struct rt_tensor *t, int64_t at, int64_t n, enum rt_kind kind, void *buf)
{
    if (rt_is_stored_as(t->dtype, kind))
        return rt_element_at(t, at);
    rt_load_elements(buf, kind, t->dtype, rt_element_at(t, at), 1, n);
    return buf;
}

void *rt_target(const struct rt_tensor *t, int64_t at, enum rt_kind kind, void *buf)
{
    return rt_is_stored_as(t->dtype, kind) ? rt_element_at(t, at) : buf;
}

void rt_store(const struct rt_tensor *t, int64_t at, int64_t n, enum rt_kind kind, const void *buf)
{
    if (!rt_is_stored_as(t->dtype, kind))
        rt_store_elements(t->dtype, rt_element_at(t, at), 1, buf, kind, n);
}

double rt_element(const struct rt_tensor *t, int64_t at)
{
    double x;
    rt_load_elements(&x, RT_KIND_DOUBLE, t->dtype, rt_element_at(t, at), 1, 1);
    return x;
}

int64_t rt_element_int(const struct rt_tensor *t, int64_t at)
{
    int64_t x;
    rt_load_elements(&x, RT_KIND_INT, t->dtype, rt_element_at(t, at), 1, 1);
    return x;
}

void rt_operand_init(struct rt_operand *o, const struct rt_tensor *t, const struct rt_shape *out)
{
    int64_t stride[RT_MAX_RANK];
    rt_broadcast_strides(&t->shape, out, stride);
    o->t = *t;
    o->rank = 0;
    /* From the outermost axis in; an axis joins the one before it when a step there is as long as
     * the whole of this one. */
    for (int i = 0; i < out->rank; i++) {
        if (out->dim[i] == 1)
            continue;
        if (o->rank > 0 && o->stride[o->rank - 1] == stride[i] * out->dim[i]) {
            o->dim[o->rank - 1] *= out->dim[i];
        } else {
            o->rank++;
            o->dim[o->rank - 1] = out->dim[i];
        }
        o->stride[o->rank - 1] = stride[i];
    }
    if (o->rank == 0) {
        o->rank = 1;
        o->dim[0] = 1;
        o->stride[0] = 1;
    }
}

/* The rest of a buffer whose first element is set. */
static void repeat(void *buf, enum rt_kind kind, int64_t n)
{
    if (kind == RT_KIND_FLOAT) {
        float *f = buf;
        for (int64_t i = 1; i < n; i++)
            f[i] = f[0];
    } else {
        for (int64_t i = 1; i < n; i++)
            memcpy((char *)buf + 8 * i, buf, 8); /* any of the wide kinds */
    }
}

const void *rt_operand_load(const struct rt_operand *o, int64_t at, int64_t n, enum rt_kind kind,
                            void *buf)
{
    if (o->rank == 1 && o->stride[0] == 1)
        return rt_load(&o->t, at, n, kind, buf);

    const int last = o->rank - 1;
    const size_t size = kind == RT_KIND_FLOAT ? sizeof(float) : sizeof(double);
    int64_t index[RT_MAX_RANK];
    int64_t from = 0;
    for (int i = last; i >= 0; i--) {
        index[i] = at % o->dim[i];
        at /= o->dim[i];
        from += index[i] * o->stride[i];
    }
    for (char *y = buf; n > 0;) {
        const int64_t left = o->dim[last] - index[last];
        const int64_t run = left < n ? left : n;
        if (o->stride[last] == 0) {
            rt_load_elements(y, kind, o->t.dtype, rt_element_at(&o->t, from), 1, 1);
            repeat(y, kind, run);
        } else if (rt_is_stored_as(o->t.dtype, kind)) {
            memcpy(y, rt_element_at(&o->t, from), (size_t)run * size);
        } else {
            rt_load_elements(y, kind, o->t.dtype, rt_element_at(&o->t, from), 1, run);
        }
        y += (size_t)run * size;
        n -= run;
        /* On to the start of the next row. */
        from -= index[last] * o->stride[last];
        index[last] = 0;
        for (int i = last - 1; i >= 0; i--) {
            from += o->stride[i];
            if (++index[i] < o->dim[i])
                break;
            from -= index[i] * o->stride[i];
            index[i] = 0;
        }
    }
    return buf;
}

struct rt_tensor rt_blocked_view(const struct rt_tensor *t)
{
    const int b = rt_kernels()->block;
    const int64_t *d = t->shape.dim;
    struct rt_tensor v = *t;
    v.shape = rt_shape_of(5, (const int64_t[]){ d[0], (d[1] + b - 1) / b, d[2], d[3], b });
    return v;
}
