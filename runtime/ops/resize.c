/* Resize and Upsample, axis by axis. */
#include "runtime/ops/resize.h"

#include <math.h>
#include <string.h>

#include "runtime/ops/element.h"

#define JOIN2(x, y) x##_##y
#define JOIN(x, y) JOIN2(x, y)

/* One axis: [outer][in][inner] becomes [outer][out][inner]. */
struct pass {
    int axis;
    int64_t in, out, inner;
    struct rt_resize_table table;
};

#define T float
#define KIND float
#include "runtime/ops/resize.inc"
#define T double
#define KIND double
#include "runtime/ops/resize.inc"
#define T int64_t
#define KIND int
#include "runtime/ops/resize.inc"
#define T uint64_t
#define KIND uint
#include "runtime/ops/resize.inc"

struct state {
    struct rt_resize resize;
    enum rt_kind kind;
    int n_passes;
    struct pass pass[RT_MAX_RANK];
    size_t buf_len; /* bytes of each of the two buffers in scratch */
};

/* --- attributes and sizes --------------------------------------------------------------------- */

static enum rt_status choose(const struct rt_node *n, const char *name, const char *otherwise,
                             const char *const *words, int *choice, struct rt_error *err)
{
    const char *word = rt_attr_string(n, name, otherwise);
    for (*choice = 0; words[*choice] != NULL; ++*choice)
        if (strcmp(words[*choice], word) == 0)
            return RT_OK;
    return rt_node_fail(err, RT_E_UNSUPPORTED, n, "%s is '%s'", name, word);
}

static enum rt_status read_attributes(struct rt_resize *r, const struct rt_node *n,
                                      struct rt_error *err)
{
    static const char *const modes[] = { "nearest", "linear", "cubic", "bilinear", NULL };
    static const char *const coordinates[] = {
        "half_pixel",    "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
        "asymmetric",    "tf_half_pixel_for_nn", "tf_crop_and_resize", NULL
    };
    static const char *const roundings[] = { "round_prefer_floor", "round_prefer_ceil", "floor",
                                             "ceil", NULL };
    /* Before version 11 there was one rule. */
    const bool old = n->opset < 11;
    int mode, coordinate, rounding;
    enum rt_status s = choose(n, "mode", "nearest", modes, &mode, err);
    if (s == RT_OK)
        s = choose(n, "coordinate_transformation_mode", old ? "asymmetric" : "half_pixel",
                   coordinates, &coordinate, err);
    if (s == RT_OK)
        s = choose(n, "nearest_mode", old ? "floor" : "round_prefer_floor", roundings, &rounding,
                   err);
    if (s != RT_OK)
        return s;
    *r = (struct rt_resize){
        .mode = mode == 3 ? RT_RESIZE_LINEAR : (enum rt_resize_mode)mode,
        .coordinates = (enum rt_resize_coordinates)coordinate,
        .rounding = (enum rt_resize_rounding)rounding,
        .antialias = rt_attr_int(n, "antialias", 0) != 0,
        .exclude_outside = rt_attr_int(n, "exclude_outside", 0) != 0,
        .cubic_a = (double)rt_attr_float(n, "cubic_coeff_a", -0.75f),
        .extrapolation = rt_attr_float(n, "extrapolation_value", 0),
    };
    return RT_OK;
}

/* What a node says about sizes: for n_axes axes either scales or sizes, and the region. */
struct request {
    int n_axes;
    int axes[RT_MAX_RANK];
    const float *scales, *roi;
    const int64_t *sizes;
};

static enum rt_status read_scales(struct rt_graph *g, const struct rt_node *n, struct request *q,
                                  int64_t *count, struct rt_error *err)
{
    const struct rt_attr *attr = rt_attr(n, "scales");
    if (attr != NULL && attr->type == RT_ATTR_FLOATS) {
        q->scales = attr->floats;
        *count = attr->n;
        return RT_OK;
    }
    if (rt_attr(n, "height_scale") != NULL) {
        float *scales = rt_graph_alloc(g, 4, sizeof *scales);
        if (scales == NULL)
            return rt_graph_nomem(g, err);
        scales[0] = scales[1] = 1;
        scales[2] = rt_attr_float(n, "height_scale", 1);
        scales[3] = rt_attr_float(n, "width_scale", 1);
        q->scales = scales;
        *count = 4;
        return RT_OK;
    }
    const bool has_roi = n->op->name[0] == 'R' && n->opset >= 11;
    return rt_const_floats(g, n, has_roi ? 2 : 1, "scales", &q->scales, count, err);
}

static enum rt_status read_request(struct rt_graph *g, const struct rt_node *n, int rank,
                                   const struct rt_resize *r, struct request *q,
                                   struct rt_error *err)
{
    const int64_t *axes;
    int64_t n_scales = -1, n_sizes = -1, n_roi = 0;
    *q = (struct request){ .n_axes = rt_attr_ints(n, "axes", &axes) };
    for (int i = 0; i < q->n_axes && i < RT_MAX_RANK; i++) {
        enum rt_status s = rt_fix_axis(n, axes[i], rank, false, &q->axes[i], err);
        if (s != RT_OK)
            return s;
    }
    if (q->n_axes == 0)
        for (; q->n_axes < rank; q->n_axes++)
            q->axes[q->n_axes] = q->n_axes;
    enum rt_status s = read_scales(g, n, q, &n_scales, err);
    if (s == RT_OK && n->n_in > 3)
        s = rt_const_ints(g, n, 3, "sizes", &q->sizes, &n_sizes, err);
    if (s == RT_OK && r->coordinates == RT_RESIZE_TF_CROP) {
        s = rt_const_floats(g, n, 1, "roi", &q->roi, &n_roi, err);
        if (s == RT_OK && n_roi != 2 * q->n_axes)
            s = rt_node_fail(err, RT_E_INVALID, n, "roi has %lld elements, should have %d",
                             (long long)n_roi, 2 * q->n_axes);
    }
    if (s != RT_OK)
        return s;
    if ((n_scales > 0) == (n_sizes > 0))
        return rt_node_fail(err, RT_E_INVALID, n, "must have either scales or sizes");
    if (n_scales <= 0)
        q->scales = NULL;
    else
        q->sizes = NULL;
    if (q->n_axes > rank || (n_scales > 0 ? n_scales : n_sizes) != q->n_axes)
        return rt_node_fail(err, RT_E_INVALID, n, "%s has %lld elements for %d axes",
                            n_scales > 0 ? "scales" : "sizes",
                            (long long)(n_scales > 0 ? n_scales : n_sizes), q->n_axes);
    return RT_OK;
}

/* The factor that keeps all named axes in proportion, or 0 where each has its own. */
static enum rt_status common_scale(const struct rt_node *n, const struct request *q,
                                   const struct rt_shape *x, double *scale, struct rt_error *err)
{
    static const char *const words[] = { "stretch", "not_larger", "not_smaller", NULL };
    int policy;
    *scale = 0;
    enum rt_status s = choose(n, "keep_aspect_ratio_policy", "stretch", words, &policy, err);
    if (s != RT_OK || policy == 0 || q->sizes == NULL)
        return s;
    for (int i = 0; i < q->n_axes; i++) {
        const int64_t in = x->dim[q->axes[i]];
        const double f = in > 0 ? (double)q->sizes[i] / (double)in : 0;
        if (i == 0 || (policy == 1 ? f < *scale : f > *scale))
            *scale = f;
    }
    return RT_OK;
}

static enum rt_status measure(struct rt_graph *g, const struct rt_node *n, const struct rt_shape *x,
                              struct rt_resize *r, struct rt_resize_axis *axis,
                              struct rt_error *err)
{
    struct request q;
    double common = 0;
    enum rt_status s = read_attributes(r, n, err);
    if (s == RT_OK)
        s = read_request(g, n, x->rank, r, &q, err);
    if (s == RT_OK)
        s = common_scale(n, &q, x, &common, err);
    if (s != RT_OK)
        return s;
    for (int i = 0; i < x->rank; i++)
        axis[i] = (struct rt_resize_axis){ x->dim[i], x->dim[i], 1, 0, 1 };
    for (int i = 0; i < q.n_axes; i++) {
        struct rt_resize_axis *a = &axis[q.axes[i]];
        if (q.scales != NULL) {
            a->scale = (double)q.scales[i];
            if (!(a->scale > 0) || a->scale > 0x1p30)
                return rt_node_fail(err, RT_E_INVALID, n, "a scale is %g", a->scale);
            if (!rt_is_batched(a->in))
                a->out = (int64_t)floorf((float)a->in * q.scales[i]);
        } else {
            a->out = q.sizes[i];
            a->scale = common;
            if (common != 0 && !rt_is_batched(a->in))
                a->out = (int64_t)(common * (double)a->in + 0.5);
            if (common == 0)
                a->scale = a->in > 0 ? (double)a->out / (double)a->in : 1;
        }
        if (q.roi != NULL) {
            a->roi_begin = (double)q.roi[i];
            a->roi_end = (double)q.roi[q.n_axes + i];
        }
        if (rt_is_batched(a->in) && (a->out != a->in || a->scale != 1))
            return rt_node_fail(err, RT_E_UNSUPPORTED, n, "resizes the batch axis");
        if (a->out < 0 || (a->in == 0 && a->out != 0) || (a->in > INT32_MAX && a->out != a->in))
            return rt_node_fail(err, RT_E_INVALID, n, "axis %d cannot go from %lld to %lld",
                                q.axes[i], (long long)a->in, (long long)a->out);
    }
    return RT_OK;
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0);
    const enum rt_dtype dtype = x->dtype;
    struct rt_shape shape = x->shape;
    struct rt_resize r;
    struct rt_resize_axis axis[RT_MAX_RANK];
    enum rt_status s = measure(g, n, &shape, &r, axis, err);
    if (s != RT_OK)
        return s;
    s = rt_check_type(g, n, 0, r.mode == RT_RESIZE_NEAREST ? RT_T_ANY : RT_T_NUMBER, err);
    for (int i = 0; i < shape.rank; i++)
        shape.dim[i] = axis[i].out;
    return s == RT_OK ? rt_set_out(g, n, 0, dtype, &shape, err) : s;
}

/* --- running ---------------------------------------------------------------------------------- */

static bool changes(const struct rt_resize *r, const struct rt_resize_axis *a)
{
    return a->in != a->out || a->scale != 1 || a->roi_begin != 0 || a->roi_end != 1 ||
           r->coordinates == RT_RESIZE_TF_HALF_PIXEL_FOR_NN;
}

/* The last axis first: while enlarging, most of the work is then moving whole rows. lanes: elements
 * behind the last axis, the channels of a block. */
static enum rt_status plan_passes(struct rt_build *b, struct rt_node *n, struct state *s,
                                  int64_t lanes, struct rt_error *err)
{
    const struct rt_value *x = rt_in(b->g, n, 0);
    struct rt_resize_axis axis[RT_MAX_RANK];
    struct rt_shape shape = x->shape;
    s->kind = s->resize.mode == RT_RESIZE_NEAREST || rt_dtype_is_float(x->dtype)
                  ? rt_kind_of(x->dtype)
                  : RT_KIND_DOUBLE;
    for (int i = shape.rank - 1; i >= -1; i--) {
        const struct rt_shape now = rt_shape_at(&shape, b->max_batch);
        size_t len;
        if (!rt_shape_bytes(&now, RT_DOUBLE, &len) || !rt_mul_size(len, (size_t)lanes, &len))
            return rt_node_fail(err, RT_E_LIMIT, n, "the result is too large");
        s->buf_len = len > s->buf_len ? rt_align_up(len) : s->buf_len;
        if (i == shape.rank - 1) {
            enum rt_status status = measure(b->g, n, &x->shape, &s->resize, axis, err);
            if (status != RT_OK)
                return status;
        }
        if (i < 0 || axis[i].in == 0 || rt_is_batched(axis[i].in) || !changes(&s->resize, &axis[i]))
            continue;
        struct pass *p = &s->pass[s->n_passes++];
        p->axis = i;
        p->in = axis[i].in;
        p->out = axis[i].out;
        if (!rt_resize_make_table(&p->table, &s->resize, &axis[i], b->arena))
            return rt_graph_nomem(b->g, err);
        shape.dim[i] = p->out;
    }
    n->scratch = 2 * s->buf_len;
    n->state = s;
    return RT_OK;
}
