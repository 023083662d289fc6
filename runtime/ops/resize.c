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
    static const char *const coordinates[] = { "half_pixel",         "half_pixel_symmetric",
                                               "pytorch_half_pixel", "align_corners",
                                               "asymmetric",         "tf_half_pixel_for_nn",
                                               "tf_crop_and_resize", NULL };
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
            /* NOLINTNEXTLINE(clang-analyzer-core.*): one of both is there */
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

/* The last axis first: while enlarging, most of the work is then moving whole rows. shape is the
 * input's, its channels rounded up where the layout is blocked. */
static enum rt_status plan_passes(struct rt_build *b, struct rt_node *n, struct rt_shape shape,
                                  struct state *s, struct rt_error *err)
{
    const struct rt_value *x = rt_in(b->g, n, 0);
    struct rt_resize_axis axis[RT_MAX_RANK];
    enum rt_status status = measure(b->g, n, &x->shape, &s->resize, axis, err);
    if (status != RT_OK)
        return status;
    s->kind = s->resize.mode == RT_RESIZE_NEAREST                     ? rt_kind_of(x->dtype)
              : x->dtype == RT_DOUBLE || !rt_dtype_is_float(x->dtype) ? RT_KIND_DOUBLE
                                                                      : RT_KIND_FLOAT;
    struct rt_shape at_most = rt_shape_at(&shape, b->max_batch);
    int64_t most = rt_shape_numel(&at_most);
    for (int i = shape.rank - 1; i >= 0; i--) {
        if (axis[i].in == 0 || rt_is_batched(axis[i].in) || !changes(&s->resize, &axis[i]))
            continue;
        struct pass *p = &s->pass[s->n_passes++];
        p->axis = i;
        p->in = axis[i].in;
        p->out = axis[i].out;
        if (!rt_resize_make_table(&p->table, &s->resize, &axis[i], b->arena))
            return rt_graph_nomem(b->g, err);
        at_most.dim[i] = p->out;
        int64_t count;
        if (!rt_shape_count(&at_most, &count) || count > INT64_MAX / 64)
            return rt_node_fail(err, RT_E_LIMIT, n, "the result is too large");
        most = count > most ? count : most;
    }
    s->buf_len = rt_align_up((size_t)most * sizeof(double));
    n->scratch = 2 * s->buf_len;
    n->state = s;
    return RT_OK;
}

static enum rt_status prepare(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    struct state *s = rt_arena_alloc(b->arena, sizeof *s);
    if (s == NULL)
        return rt_graph_nomem(b->g, err);
    return plan_passes(b, n, rt_in(b->g, n, 0)->shape, s, err);
}

static void run_pass(const struct pass *p, const struct state *s, int64_t outer, const char *from,
                     char *to, const struct rt_worker *w)
{
    static void (*const row[RT_N_KINDS])(const struct pass *, int64_t, const void *,
                                         void *) = { row_float, row_double, row_int, row_uint };
    static void (*const line[RT_N_KINDS])(const struct pass *, const void *,
                                          void *) = { line_float, line_double, line_int,
                                                      line_uint };
    static void (*const fill[RT_N_KINDS])(void *, double, int64_t) = { fill_float, fill_double,
                                                                       fill_int, fill_uint };
    const size_t size = s->kind == RT_KIND_FLOAT ? sizeof(float) : sizeof(double);
    const size_t from_step = (size_t)(p->in * p->inner) * size;
    const size_t row_len = (size_t)p->inner * size;
    const bool *outside = p->table.outside;
    /* Rows of a line are too short to be shared. */
    const bool whole = p->inner == 1;
    int64_t i, end;
    rt_worker_share(w, whole ? outer : outer * p->out, 1, &i, &end);
    for (; i < end; i++) {
        const int64_t o = whole ? i : i / p->out, first = whole ? 0 : i % p->out;
        char *y = to + (size_t)(o * p->out + first) * row_len;
        if (whole)
            line[s->kind](p, from + (size_t)o * from_step, y);
        else
            row[s->kind](p, first, from + (size_t)o * from_step, y);
        for (int64_t j = 0; outside != NULL && j < (whole ? p->out : 1); j++)
            if (outside[first + j])
                fill[s->kind](y + (size_t)j * row_len, (double)s->resize.extrapolation, p->inner);
    }
}

/* Elements computed in double into a type of integers: cut towards zero, and to what it holds. */
static void store_clamped(const struct rt_tensor *y, const double *x, int64_t at, int64_t n)
{
    const int bits = 8 * (int)rt_dtype_size(y->dtype);
    const bool is_signed = y->dtype == RT_INT8 || y->dtype == RT_INT16 || y->dtype == RT_INT32;
    const double low = is_signed ? -ldexp(1, bits - 1) : 0;
    const double high = ldexp(1, is_signed ? bits - 1 : bits) - 1;
    double buf[RT_CHUNK];
    for (int64_t i = 0; i < n; i++)
        buf[i] = x[i] < low ? low : x[i] > high ? high : x[i];
    rt_store_elements(y->dtype, rt_element_at(y, at), 1, buf, RT_KIND_DOUBLE, n);
}

static void store_result(const struct state *s, const struct rt_tensor *y, const void *from,
                         const struct rt_worker *w)
{
    const bool narrow =
        s->kind == RT_KIND_DOUBLE && !rt_dtype_is_float(y->dtype) && rt_dtype_size(y->dtype) < 8;
    const struct rt_tensor source = { s->kind == RT_KIND_FLOAT    ? RT_FLOAT
                                      : s->kind == RT_KIND_DOUBLE ? RT_DOUBLE
                                                                  : RT_INT64,
                                      y->shape, (void *)(uintptr_t)from };
    int64_t at, end;
    rt_worker_share(w, rt_shape_numel(&y->shape), 64, &at, &end);
    for (int64_t n; at < end; at += n) {
        n = end - at < RT_CHUNK ? end - at : RT_CHUNK;
        const void *x = rt_element_at(&source, at);
        if (narrow)
            store_clamped(y, x, at, n);
        else
            rt_store_elements(y->dtype, rt_element_at(y, at), 1, x, s->kind, n);
    }
}

static void convert_input(const struct state *s, const struct rt_tensor *x, char *to,
                          const struct rt_worker *w)
{
    const size_t size = s->kind == RT_KIND_FLOAT ? sizeof(float) : sizeof(double);
    int64_t at, end;
    rt_worker_share(w, rt_shape_numel(&x->shape), 64, &at, &end);
    rt_load_elements(to + (size_t)at * size, s->kind, x->dtype, rt_element_at(x, at), 1, end - at);
}

static void run_on(const struct rt_call *c, const struct rt_tensor *x, const struct rt_tensor *y,
                   const struct rt_worker *w)
{
    const struct state *s = c->node->state;
    char *buf[2] = { c->scratch, (char *)c->scratch + s->buf_len };
    const char *from = x->data;
    struct rt_shape shape = x->shape;
    int next = 0;
    if (rt_shape_numel(&y->shape) == 0)
        return;
    if (!rt_is_stored_as(x->dtype, s->kind)) {
        convert_input(s, x, buf[next], w);
        from = buf[next];
        next = 1 - next;
        rt_worker_barrier(w);
    }
    for (int k = 0; k < s->n_passes; k++) {
        struct pass p = s->pass[k];
        p.inner = rt_shape_range(&shape, p.axis + 1, shape.rank);
        const bool last = k == s->n_passes - 1 && rt_is_stored_as(y->dtype, s->kind);
        char *to = last ? y->data : buf[next];
        run_pass(&p, s, rt_shape_range(&shape, 0, p.axis), from, to, w);
        shape.dim[p.axis] = p.out;
        if (last)
            return;
        from = to;
        next = 1 - next;
        rt_worker_barrier(w);
    }
    store_result(s, y, from, w);
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    run_on(c, &c->in[0], &c->out[0], w);
}

/* --- the blocked form ------------------------------------------------------------------------- */

/* Whether channels surely stay as they are: their number does, so only a factor that rounds to the
 * same number could still move them. */
static bool leaves_channels(const struct rt_graph *g, const struct rt_node *n)
{
    const int64_t *axes;
    const int n_axes = rt_attr_ints(n, "axes", &axes);
    const struct rt_attr *attr = rt_attr(n, "scales");
    const int input = n->op->name[0] == 'R' && n->opset >= 11 ? 2 : 1;
    const float *scales = attr != NULL && attr->type == RT_ATTR_FLOATS ? attr->floats : NULL;
    if (rt_has_in(n, input) && rt_shape_numel(&g->value[n->in[input]].shape) > 0) {
        if (g->value[n->in[input]].dtype != RT_FLOAT)
            return false;
        scales = g->value[n->in[input]].data;
    }
    for (int i = 0; i < n_axes; i++)
        if ((axes[i] >= 0 && axes[i] < 2) || axes[i] < -2)
            return false;
    return scales == NULL || n_axes > 0 || (scales[0] == 1 && scales[1] == 1);
}

static bool can_block(const struct rt_graph *g, const struct rt_node *n)
{
    const struct rt_value *x = &g->value[n->in[0]], *y = &g->value[n->out[0]];
    return x->dtype == RT_FLOAT && x->shape.rank == 4 && x->shape.dim[0] == y->shape.dim[0] &&
           x->shape.dim[1] == y->shape.dim[1] && leaves_channels(g, n) &&
           strncmp(rt_attr_string(n, "coordinate_transformation_mode", ""), "tf_", 3) != 0;
}

static bool reads_plain(const struct rt_graph *g, const struct rt_node *n, int i)
{
    (void)g, (void)n;
    return i > 0;
}

static enum rt_status prepare_blocked(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    struct state *s = rt_arena_alloc(b->arena, sizeof *s);
    if (s == NULL)
        return rt_graph_nomem(b->g, err);
    const int block = rt_kernels()->block;
    struct rt_shape shape = rt_in(b->g, n, 0)->shape;
    shape.dim[1] = (shape.dim[1] + block - 1) / block * block;
    return plan_passes(b, n, shape, s, err);
}

static void run_blocked(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor x = rt_blocked_view(&c->in[0]);
    const struct rt_tensor y = rt_blocked_view(&c->out[0]);
    run_on(c, &x, &y, w);
}

#define COMMON(x, most)                                                                            \
    .name = #x, .min_in = 1, .max_in = most, .min_out = 1, .max_out = 1,                           \
    .traits = RT_OP_READS_SHAPE, .infer = infer
#define OPERATOR(x, version, most)                                                                 \
    static const struct rt_op x##_blocked = { COMMON(x, most), .since = version,                   \
                                              .prepare = prepare_blocked, .run = run_blocked };    \
    const struct rt_op rt_op_##x = { COMMON(x, most),        .since = version,                     \
                                     .prepare = prepare,     .run = run,                           \
                                     .can_block = can_block, .reads_plain = reads_plain,           \
                                     .blocked = &x##_blocked };

OPERATOR(Resize, 10, 4)
OPERATOR(Upsample, 1, 2)
