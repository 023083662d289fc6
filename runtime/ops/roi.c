/* RoiAlign and MaxRoiPool: regions of pictures brought to one size. */
#include <math.h>
#include <string.h>

#include "runtime/ops/element.h"
#include "runtime/ops/op.h"

/* A region is of any picture of the batch, so the pictures cannot be told apart. */
static enum rt_status check_inputs(struct rt_graph *g, const struct rt_node *n, int64_t columns,
                                   struct rt_error *err)
{
    const struct rt_shape *x = &rt_in(g, n, 0)->shape, *rois = &rt_in(g, n, 1)->shape;
    for (int i = 0; i < 2; i++) {
        enum rt_status s = rt_check_type(g, n, i, RT_T_REAL, err);
        if (s != RT_OK)
            return s;
    }
    if (x->rank != 4 || rois->rank != 2 || rois->dim[1] != columns)
        return rt_node_fail(err, RT_E_INVALID, n, "takes [N,C,H,W] and [regions,%lld]",
                            (long long)columns);
    if (rt_shape_batch_axis(x) >= 0 || rt_shape_batch_axis(rois) >= 0)
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "takes regions from the whole batch");
    return RT_OK;
}

static enum rt_status set_out(struct rt_graph *g, struct rt_node *n, int64_t height, int64_t width,
                              struct rt_error *err)
{
    if (height < 1 || width < 1)
        return rt_node_fail(err, RT_E_INVALID, n, "the output would be %lld x %lld",
                            (long long)height, (long long)width);
    const struct rt_value *x = rt_in(g, n, 0);
    const struct rt_shape y = rt_shape_of(
        4, (const int64_t[]){ rt_in(g, n, 1)->shape.dim[0], x->shape.dim[1], height, width });
    return rt_set_out(g, n, 0, x->dtype, &y, err);
}

static void put(const struct rt_tensor *y, int64_t at, double v)
{
    rt_store_elements(y->dtype, rt_element_at(y, at), 1, &v, RT_KIND_DOUBLE, 1);
}

/* --- RoiAlign --------------------------------------------------------------------------------- */

static enum rt_status infer_align(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    enum rt_status s = check_inputs(g, n, 4, err);
    if (s == RT_OK)
        s = rt_check_type(g, n, 2, RT_T(RT_INT64), err);
    if (s != RT_OK)
        return s;
    const struct rt_shape *rois = &rt_in(g, n, 1)->shape, *which = &rt_in(g, n, 2)->shape;
    if (which->rank != 1 || which->dim[0] != rois->dim[0])
        return rt_node_fail(err, RT_E_INVALID, n,
                            "batch_indices does not have one for each region");
    const char *mode = rt_attr_string(n, "mode", "avg");
    const char *transform = rt_attr_string(n, "coordinate_transformation_mode", "half_pixel");
    if ((strcmp(mode, "avg") != 0 && strcmp(mode, "max") != 0) ||
        (strcmp(transform, "half_pixel") != 0 && strcmp(transform, "output_half_pixel") != 0))
        return rt_node_fail(err, RT_E_INVALID, n, "mode is '%s' and coordinates are '%s'", mode,
                            transform);
    return set_out(g, n, rt_attr_int(n, "output_height", 1), rt_attr_int(n, "output_width", 1),
                   err);
}

/* How bins and samples lie along one axis of a region. */
struct span {
    double start, bin;
    int64_t samples, len;
};

static struct span span_of(double begin, double end, int64_t bins, int64_t len, double scale,
                           double offset, int64_t samples)
{
    struct span s = { .start = begin * scale - offset, .len = len };
    double size = (end - begin) * scale;
    if (offset == 0 && size < 1) /* the older rule has no region smaller than a pixel */
        size = 1;
    s.bin = size / (double)bins;
    s.samples = samples > 0 ? samples : (int64_t)ceil(s.bin);
    return s;
}

/* The two pixels around a sample, and the weight of the second; false where it lies outside. */
static bool neighbours(const struct span *s, double at, int64_t index[2], double *fraction)
{
    if (!(at >= -1 && at <= (double)s->len))
        return false;
    at = at < 0 ? 0 : at;
    index[0] = (int64_t)at < s->len - 1 ? (int64_t)at : s->len - 1;
    index[1] = index[0] < s->len - 1 ? index[0] + 1 : index[0];
    *fraction = index[0] == s->len - 1 ? 0 : at - (double)index[0];
    return true;
}

/* One bin of one channel, whose plane starts at element base. */
static double pool_bin(const struct rt_tensor *x, int64_t base, const struct span *v,
                       const struct span *h, int64_t bin_y, int64_t bin_x, bool max)
{
    double sum = 0, best = -INFINITY;
    for (int64_t i = 0; i < v->samples; i++) {
        const double y =
            v->start + v->bin * ((double)bin_y + ((double)i + 0.5) / (double)v->samples);
        for (int64_t j = 0; j < h->samples; j++) {
            const double z =
                h->start + h->bin * ((double)bin_x + ((double)j + 0.5) / (double)h->samples);
            int64_t row[2], column[2];
            double down, right;
            double part[4] = { 0 };
            if (neighbours(v, y, row, &down) && neighbours(h, z, column, &right)) {
                for (int k = 0; k < 4; k++) {
                    const double weight = (k / 2 ? down : 1 - down) * (k % 2 ? right : 1 - right);
                    part[k] = weight * rt_element(x, base + row[k / 2] * h->len + column[k % 2]);
                }
            }
            sum += part[0] + part[1] + part[2] + part[3];
            /* The standard's maximum is of the four weighted pixels, not of their sum. */
            for (int k = 0; k < 4; k++)
                best = part[k] > best ? part[k] : best;
        }
    }
    const int64_t samples = v->samples * h->samples;
    if (samples == 0)
        return 0;
    return max ? best : sum / (double)samples;
}

static void run_align(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *x = &c->in[0], *rois = &c->in[1], *y = &c->out[0];
    const struct rt_node *n = c->node;
    const int64_t *which = c->in[2].data;
    const int64_t channels = x->shape.dim[1], plane = x->shape.dim[2] * x->shape.dim[3];
    const int64_t height = y->shape.dim[2], width = y->shape.dim[3];
    const double scale = (double)rt_attr_float(n, "spatial_scale", 1);
    const int64_t samples = rt_attr_int(n, "sampling_ratio", 0);
    const bool max = strcmp(rt_attr_string(n, "mode", "avg"), "max") == 0;
    /* Since version 16 pixels are squares around their coordinates, if not told otherwise. */
    const char *transform = rt_attr_string(n, "coordinate_transformation_mode",
                                           n->opset < 16 ? "output_half_pixel" : "half_pixel");
    const double offset = strcmp(transform, "half_pixel") == 0 ? 0.5 : 0;
    int64_t i, end;
    rt_worker_share(w, rois->shape.dim[0] * channels, 1, &i, &end);
    for (; i < end; i++) {
        const int64_t r = i / channels;
        if (which[r] < 0 || which[r] >= x->shape.dim[0]) {
            rt_fault(c, "batch_indices[%lld] is %lld", (long long)r, (long long)which[r]);
            return;
        }
        const struct span h = span_of(rt_element(rois, 4 * r), rt_element(rois, 4 * r + 2), width,
                                      x->shape.dim[3], scale, offset, samples);
        const struct span v = span_of(rt_element(rois, 4 * r + 1), rt_element(rois, 4 * r + 3),
                                      height, x->shape.dim[2], scale, offset, samples);
        const int64_t base = (which[r] * channels + i % channels) * plane;
        for (int64_t k = 0; k < height * width; k++)
            put(y, i * height * width + k,
                plane > 0 ? pool_bin(x, base, &v, &h, k / width, k % width, max) : 0);
    }
}

const struct rt_op rt_op_RoiAlign = {
    .name = "RoiAlign",
    .since = 10,
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .infer = infer_align,
    .run = run_align,
};

/* --- MaxRoiPool ------------------------------------------------------------------------------- */

static enum rt_status infer_max(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const int64_t *size;
    enum rt_status s = check_inputs(g, n, 5, err);
    if (s == RT_OK && rt_attr_ints(n, "pooled_shape", &size) != 2)
        s = rt_node_fail(err, RT_E_INVALID, n, "pooled_shape does not have 2 elements");
    return s == RT_OK ? set_out(g, n, size[0], size[1], err) : s;
}

/* The pixels of one bin along an axis: a region that reaches from pixel begin to pixel end. */
static void bin_range(double begin, double end, int64_t bin, int64_t bins, int64_t len,
                      int64_t *first, int64_t *last)
{
    const double size = end - begin + 1 < 1 ? 1 : end - begin + 1;
    const double low = floor((double)bin * size / (double)bins) + begin;
    const double high = ceil((double)(bin + 1) * size / (double)bins) + begin;
    *first = !(low > 0) ? 0 : low > (double)len ? len : (int64_t)low;
    *last = !(high > 0) ? 0 : high > (double)len ? len : (int64_t)high;
}

static void run_max(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *x = &c->in[0], *rois = &c->in[1], *y = &c->out[0];
    const int64_t channels = x->shape.dim[1], h = x->shape.dim[2], v = x->shape.dim[3];
    const int64_t height = y->shape.dim[2], width = y->shape.dim[3];
    const double scale = (double)rt_attr_float(c->node, "spatial_scale", 1);
    int64_t i, end;
    rt_worker_share(w, rois->shape.dim[0] * channels, 1, &i, &end);
    for (; i < end; i++) {
        double roi[5];
        for (int k = 0; k < 5; k++)
            roi[k] = rt_element(rois, i / channels * 5 + k);
        if (!(roi[0] >= 0 && roi[0] < (double)x->shape.dim[0])) {
            rt_fault(c, "region %lld is of picture %g", (long long)(i / channels), roi[0]);
            return;
        }
        for (int k = 1; k < 5; k++)
            roi[k] = round(roi[k] * scale);
        const int64_t base = ((int64_t)roi[0] * channels + i % channels) * h * v;
        for (int64_t k = 0; k < height * width; k++) {
            int64_t top, bottom, left, right;
            bin_range(roi[2], roi[4], k / width, height, h, &top, &bottom);
            bin_range(roi[1], roi[3], k % width, width, v, &left, &right);
            double best = top < bottom && left < right ? -INFINITY : 0;
            for (int64_t row = top; row < bottom; row++) {
                for (int64_t column = left; column < right; column++) {
                    const double e = rt_element(x, base + row * v + column);
                    best = e > best || isnan(e) ? e : best;
                }
            }
            put(y, i * height * width + k, best);
        }
    }
}

const struct rt_op rt_op_MaxRoiPool = {
    .name = "MaxRoiPool",
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .infer = infer_max,
    .run = run_max,
};
