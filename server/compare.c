/* Tensor comparison: every type is read as a double, 64-bit integers exactly. */
#include "server/compare.h"

#include "server/numbers.h"

#include <math.h>

double sv_element(const struct rt_tensor *t, int64_t i)
{
    switch (t->dtype) {
    case RT_FLOAT:
        return ((const float *)t->data)[i];
    case RT_DOUBLE:
        return ((const double *)t->data)[i];
    case RT_FLOAT16:
        return rt_half_to_float(((const uint16_t *)t->data)[i]);
    case RT_BFLOAT16:
        return rt_bfloat16_to_float(((const uint16_t *)t->data)[i]);
    case RT_INT8:
        return ((const int8_t *)t->data)[i];
    case RT_INT16:
        return ((const int16_t *)t->data)[i];
    case RT_INT32:
        return ((const int32_t *)t->data)[i];
    case RT_INT64:
        return (double)((const int64_t *)t->data)[i];
    case RT_UINT8:
    case RT_BOOL:
        return ((const uint8_t *)t->data)[i];
    case RT_UINT16:
        return ((const uint16_t *)t->data)[i];
    case RT_UINT32:
        return ((const uint32_t *)t->data)[i];
    case RT_UINT64:
        return (double)((const uint64_t *)t->data)[i];
    default:
        return NAN; /* no tensor of another type exists */
    }
}

const char *sv_element_text(const struct rt_tensor *t, int64_t i, char buf[SV_ELEMENT_TEXT])
{
    size_t len;
    if (t->dtype == RT_INT64)
        len = sv_print_int(buf, ((const int64_t *)t->data)[i]);
    else if (t->dtype == RT_UINT64)
        len = sv_print_uint(buf, ((const uint64_t *)t->data)[i]);
    else if (t->dtype == RT_DOUBLE)
        len = sv_print_double(buf, sv_element(t, i));
    else if (rt_dtype_is_float(t->dtype))
        len = sv_print_float(buf, (float)sv_element(t, i));
    else
        len = sv_print_int(buf, (int64_t)sv_element(t, i));
    buf[len] = '\0';
    return buf;
}

const char *sv_index_text(const struct rt_shape *shape, int64_t i, char buf[RT_SHAPE_TEXT])
{
    struct rt_shape index = { .rank = shape->rank };
    for (int d = shape->rank - 1; d >= 0; d--) {
        index.dim[d] = i % shape->dim[d];
        i /= shape->dim[d];
    }
    return rt_shape_text(&index, buf);
}

/* |got[i] - wanted[i]| of finite elements; of 64-bit integers without rounding first. */
static double distance(const struct rt_tensor *got, const struct rt_tensor *wanted, int64_t i)
{
    if (got->dtype == RT_INT64) {
        int64_t a = ((const int64_t *)got->data)[i], b = ((const int64_t *)wanted->data)[i];
        return (double)(a > b ? (uint64_t)a - (uint64_t)b : (uint64_t)b - (uint64_t)a);
    }
    if (got->dtype == RT_UINT64) {
        uint64_t a = ((const uint64_t *)got->data)[i], b = ((const uint64_t *)wanted->data)[i];
        return (double)(a > b ? a - b : b - a);
    }
    return fabs(sv_element(got, i) - sv_element(wanted, i));
}

static enum rt_status check_form(const struct rt_tensor *got, const struct rt_tensor *wanted,
                                 struct rt_error *err)
{
    char a[RT_SHAPE_TEXT], b[RT_SHAPE_TEXT];
    if (got->dtype != wanted->dtype)
        return rt_fail(err, RT_E_INVALID, "the type is %s, wanted %s", rt_dtype_name(got->dtype),
                       rt_dtype_name(wanted->dtype));
    if (!rt_shape_equal(&got->shape, &wanted->shape))
        return rt_fail(err, RT_E_INVALID, "the shape is %s, wanted %s",
                       rt_shape_text(&got->shape, a), rt_shape_text(&wanted->shape, b));
    return RT_OK;
}

enum rt_status sv_compare(const struct rt_tensor *got, const struct rt_tensor *wanted,
                          const struct sv_tolerance *tolerance, struct sv_comparison *out,
                          struct rt_error *err)
{
    enum rt_status s = check_form(got, wanted, err);
    if (s != RT_OK)
        return s;
    const bool is_float = rt_dtype_is_float(got->dtype);
    /* One unit in the last place: ONNX's recorded bfloat16 was cut, where the standard rounds. */
    const double least = got->dtype == RT_BFLOAT16 ? 1.0 / 128 : 0;
    const double rtol = is_float ? fmax(tolerance->rtol, least) : 0, atol = is_float ? tolerance->atol : 0;
    struct sv_comparison c = { .n = rt_shape_numel(&got->shape), .worst = -1 };
    double smallest = INFINITY, largest = -INFINITY, worst_excess = -INFINITY;
    for (int64_t i = 0; i < c.n; i++) {
        const double a = sv_element(got, i), b = sv_element(wanted, i);
        double error = 0, allowed = 0;
        if (isfinite(b)) {
            smallest = fmin(smallest, b);
            largest = fmax(largest, b);
        }
        if (isfinite(a) && isfinite(b)) {
            error = distance(got, wanted, i);
            allowed = atol + rtol * fabs(b);
            c.max_absolute = fmax(c.max_absolute, error);
        } else if (!(a == b || (isnan(a) && isnan(b)))) {
            error = INFINITY;
            c.n_special++;
        }
        c.n_outside += error > allowed;
        if (error - allowed > worst_excess) {
            worst_excess = error - allowed;
            c.worst = i;
            c.absolute = error;
            c.relative = error == 0 ? 0 : error / fabs(b);
        }
    }
    if (isnan(c.relative)) /* an infinite error over an infinite or undefined value */
        c.relative = INFINITY;
    if (smallest <= largest)
        c.range = largest > smallest ? largest - smallest : fabs(largest);
    c.elementwise_ok = c.n_outside == 0;
    c.range_ok = c.n_special == 0 && c.max_absolute <= (is_float ? tolerance->range * c.range : 0);
    *out = c;
    return RT_OK;
}
