/* Where the positions of a resized axis come from: coordinates, kernels, borders. */
#include "runtime/ops/resize.h"

#include <math.h>

/* The place in the input that output position i stands for. */
static double coordinate(const struct rt_resize *r, const struct rt_resize_axis *a, int64_t i)
{
    const double x = (double)i, in = (double)a->in, out = a->scale * in;
    switch (r->coordinates) {
    case RT_RESIZE_ALIGN_CORNERS:
        return out == 1 ? 0 : x * (in - 1) / (out - 1);
    case RT_RESIZE_ASYMMETRIC:
        return x / a->scale;
    case RT_RESIZE_TF_HALF_PIXEL_FOR_NN:
        return (x + 0.5) / a->scale;
    case RT_RESIZE_PYTORCH_HALF_PIXEL:
        return out == 1 ? -0.5 : (x + 0.5) / a->scale - 0.5;
    case RT_RESIZE_HALF_PIXEL_SYMMETRIC:
        return in / 2 * (1 - (double)a->out / out) + (x + 0.5) / a->scale - 0.5;
    case RT_RESIZE_TF_CROP: {
        const double span = (a->roi_end - a->roi_begin) * (in - 1);
        return a->roi_begin * (in - 1) + (out == 1 ? span / 2 : x * span / (out - 1));
    }
    default:
        return (x + 0.5) / a->scale - 0.5;
    }
}

static double nearest(double x, enum rt_resize_rounding rounding)
{
    switch (rounding) {
    case RT_RESIZE_PREFER_FLOOR:
        return ceil(x - 0.5);
    case RT_RESIZE_PREFER_CEIL:
        return floor(x + 0.5);
    case RT_RESIZE_FLOOR:
        return floor(x);
    default:
        return ceil(x);
    }
}

/* The weight of an element at distance x. */
static double kernel(const struct rt_resize *r, double x)
{
    const double a = r->cubic_a;
    x = fabs(x);
    if (r->mode == RT_RESIZE_LINEAR)
        return x < 1 ? 1 - x : 0;
    if (x <= 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

static int32_t clamp(double x, int64_t in)
{
    return x < 0 ? 0 : x >= (double)in ? (int32_t)(in - 1) : (int32_t)x;
}

/* Elements that a kernel of that radius reaches to either side when it is stretched to the size of
 * an output pixel. */
static int64_t reach(const struct rt_resize *r, double scale)
{
    const double radius = r->mode == RT_RESIZE_LINEAR ? 1 : 2;
    return (int64_t)ceil(radius / (r->antialias && scale < 1 ? scale : 1));
}

static void fill(const struct rt_resize *r, const struct rt_resize_axis *a, double x, int64_t taps,
                 int32_t *index, double *weight)
{
    if (r->mode == RT_RESIZE_NEAREST) {
        index[0] = clamp(nearest(x, r->rounding), a->in);
        weight[0] = 1;
        return;
    }
    const double stretch = r->antialias && a->scale < 1 ? a->scale : 1;
    const int64_t before = taps / 2 - 1;
    const double first = floor(x) - (double)before;
    double sum = 0;
    for (int64_t t = 0; t < taps; t++) {
        const double at = first + (double)t;
        const bool outside = at < 0 || at >= (double)a->in;
        index[t] = clamp(at, a->in);
        weight[t] = outside && r->exclude_outside ? 0 : kernel(r, (at - x) * stretch);
        sum += weight[t];
    }
    for (int64_t t = 0; t < taps && sum != 0; t++)
        weight[t] /= sum;
}

bool rt_resize_make_table(struct rt_resize_table *t, const struct rt_resize *r,
                          const struct rt_resize_axis *a, struct rt_arena *arena)
{
    size_t n;
    t->taps = r->mode == RT_RESIZE_NEAREST ? 1 : 2 * reach(r, a->scale);
    if (!rt_mul_size((size_t)a->out, (size_t)t->taps, &n))
        return false;
    t->index = rt_arena_array(arena, n, sizeof *t->index);
    t->weight = rt_arena_array(arena, n, sizeof *t->weight);
    t->outside = NULL;
    if (r->coordinates == RT_RESIZE_TF_CROP)
        t->outside = rt_arena_array(arena, (size_t)a->out, sizeof *t->outside);
    if (t->index == NULL || t->weight == NULL ||
        (r->coordinates == RT_RESIZE_TF_CROP && t->outside == NULL))
        return false;
    for (int64_t i = 0; i < a->out; i++) {
        const double x = coordinate(r, a, i);
        if (t->outside != NULL)
            t->outside[i] = x < 0 || x > (double)(a->in - 1);
        fill(r, a, x, t->taps, t->index + i * t->taps, t->weight + i * t->taps);
    }
    return true;
}
