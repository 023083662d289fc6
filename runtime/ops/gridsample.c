/* GridSample and AffineGrid: sampling a picture or volume at places that a tensor names. */
#include <math.h>
#include <string.h>

#include "runtime/ops/element.h"
#include "runtime/ops/op.h"

enum { MAX_AXES = 3, MAX_TAPS = 4 };
enum mode { NEAREST, LINEAR, CUBIC };
enum padding { ZEROS, BORDER, REFLECTION };

struct sampler {
    enum mode mode;
    enum padding padding;
    bool align_corners;
};

/* --- GridSample ------------------------------------------------------------------------------- */

static enum rt_status read_sampler(struct sampler *s, const struct rt_node *n, struct rt_error *err)
{
    static const struct {
        const char *name;
        enum mode mode;
    } modes[] = { { "nearest", NEAREST },
                  { "linear", LINEAR },
                  { "bilinear", LINEAR },
                  { "cubic", CUBIC },
                  { "bicubic", CUBIC } };
    static const char *const paddings[] = { "zeros", "border", "reflection" };
    const char *mode = rt_attr_string(n, "mode", "linear");
    const char *padding = rt_attr_string(n, "padding_mode", "zeros");
    bool has_mode = false, has_padding = false;
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (strcmp(modes[i].name, mode) == 0) {
            s->mode = modes[i].mode;
            has_mode = true;
        }
    }
    for (int i = 0; i < 3; i++) {
        if (strcmp(paddings[i], padding) == 0) {
            s->padding = (enum padding)i;
            has_padding = true;
        }
    }
    s->align_corners = rt_attr_int(n, "align_corners", 0) != 0;
    if (!has_mode || !has_padding)
        return rt_node_fail(err, RT_E_INVALID, n, "%s is '%s'", has_mode ? "padding_mode" : "mode",
                            has_mode ? padding : mode);
    return RT_OK;
}

static enum rt_status infer_sample(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0), *grid = rt_in(g, n, 1);
    const int axes = x->shape.rank - 2;
    struct sampler sampler;
    enum rt_status s = rt_check_type(g, n, 0, RT_T_ANY, err);
    if (s == RT_OK)
        s = rt_check_type(g, n, 1, RT_T_REAL, err);
    if (s == RT_OK)
        s = read_sampler(&sampler, n, err);
    if (s != RT_OK)
        return s;
    if (axes < 1 || axes > MAX_AXES)
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "samples along %d axes", axes);
    if (grid->shape.rank != axes + 2 || grid->shape.dim[axes + 1] != axes ||
        grid->shape.dim[0] != x->shape.dim[0])
        return rt_node_fail(err, RT_E_INVALID, n, "the grid does not fit the input");
    struct rt_shape y = x->shape;
    for (int i = 0; i < axes; i++) {
        if (rt_is_batched(x->shape.dim[2 + i]))
            return rt_node_fail(err, RT_E_UNSUPPORTED, n, "samples along the batch axis");
        y.dim[2 + i] = grid->shape.dim[1 + i];
    }
    return rt_set_out(g, n, 0, x->dtype, &y, err);
}

/* What one sample takes along one axis. */
struct taps {
    int n;
    int64_t index[MAX_TAPS]; /* -1: a zero of the padding */
    double weight[MAX_TAPS];
};

/* i mirrored at both ends until it lies between them. */
static int64_t reflect(double i, double low, double high, int64_t len)
{
    const double range = high - low;
    if (range <= 0)
        return 0;
    if (i < low || i > high) {
        const double over = i < low ? low - i : i - high;
        const double times = floor(over / range), rest = over - times * range;
        const bool even = fmod(times, 2) == 0;
        i = (i < low) == even ? low + rest : high - rest;
    }
    return i < 0 ? 0 : i > (double)(len - 1) ? len - 1 : (int64_t)i;
}

static int64_t place(const struct sampler *s, double i, int64_t len)
{
    if (i >= 0 && i < (double)len)
        return (int64_t)i;
    if (s->padding == ZEROS || isnan(i))
        return -1;
    if (s->padding == BORDER)
        return i < 0 ? 0 : len - 1;
    return s->align_corners ? reflect(i, 0, (double)(len - 1), len)
                            : reflect(i, -0.5, (double)len - 0.5, len);
}

static double cubic(double x)
{
    const double a = -0.75;
    x = fabs(x);
    if (x <= 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

/* at: -1 and 1 are the ends of the axis. */
static struct taps find_taps(const struct sampler *s, double at, int64_t len)
{
    const double x =
        s->align_corners ? (at + 1) / 2 * (double)(len - 1) : ((at + 1) * (double)len - 1) / 2;
    struct taps t = { .n = s->mode == NEAREST ? 1 : s->mode == LINEAR ? 2 : 4 };
    const double first = s->mode == NEAREST ? nearbyint(x) : floor(x) - (s->mode == CUBIC ? 1 : 0);
    for (int i = 0; i < t.n; i++) {
        const double e = first + i;
        t.index[i] = place(s, e, len);
        t.weight[i] = s->mode == NEAREST ? 1 : s->mode == LINEAR ? 1 - fabs(x - e) : cubic(x - e);
    }
    return t;
}

/* The sample of one channel, whose plane starts at element base. */
static double sample(const struct rt_tensor *x, int64_t base, const struct taps taps[MAX_AXES],
                     const int64_t len[MAX_AXES])
{
    double sum = 0;
    for (int i = 0; i < taps[0].n; i++) {
        for (int j = 0; j < taps[1].n; j++) {
            for (int k = 0; k < taps[2].n; k++) {
                const int64_t d = taps[0].index[i], h = taps[1].index[j], w = taps[2].index[k];
                if (d >= 0 && h >= 0 && w >= 0)
                    sum += taps[0].weight[i] * taps[1].weight[j] * taps[2].weight[k] *
                           rt_element(x, base + (d * len[1] + h) * len[2] + w);
            }
        }
    }
    return sum;
}

static void run_sample(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *x = &c->in[0], *grid = &c->in[1], *y = &c->out[0];
    const int axes = x->shape.rank - 2;
    struct sampler s;
    if (read_sampler(&s, c->node, NULL) != RT_OK)
        return;
    /* Always three axes; those that are lacking come first, of size 1. */
    int64_t len[MAX_AXES] = { 1, 1, 1 };
    struct taps taps[MAX_AXES];
    for (int a = 0; a < MAX_AXES; a++)
        taps[a] = (struct taps){ .n = 1, .weight = { 1 } };
    for (int a = 0; a < axes; a++)
        len[MAX_AXES - axes + a] = x->shape.dim[2 + a];
    const int64_t channels = x->shape.dim[1], in = len[0] * len[1] * len[2];
    const int64_t out = rt_shape_range(&y->shape, 2, y->shape.rank);
    int64_t i, end;
    rt_worker_share(w, x->shape.dim[0] * out, 8, &i, &end);
    for (; i < end; i++) {
        const int64_t n = i / out;
        for (int a = 0; a < axes; a++) /* the grid's last axis names the innermost one first */
            taps[MAX_AXES - 1 - a] =
                find_taps(&s, rt_element(grid, i * axes + a), len[MAX_AXES - 1 - a]);
        for (int64_t ch = 0; ch < channels; ch++) {
            const double v = in > 0 ? sample(x, (n * channels + ch) * in, taps, len) : 0;
            rt_store_elements(y->dtype, rt_element_at(y, (n * channels + ch) * out + i % out), 1,
                              &v, RT_KIND_DOUBLE, 1);
        }
    }
}

const struct rt_op rt_op_GridSample = {
    .name = "GridSample",
    .since = 16,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .infer = infer_sample,
    .run = run_sample,
};

/* --- AffineGrid ------------------------------------------------------------------------------- */

static enum rt_status infer_grid(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *theta = rt_in(g, n, 0);
    const int64_t *size;
    int64_t count;
    enum rt_status s = rt_check_type(g, n, 0, RT_T_REAL, err);
    if (s == RT_OK)
        s = rt_const_ints(g, n, 1, "size", &size, &count, err);
    if (s != RT_OK)
        return s;
    const int axes = (int)count - 2;
    if (count != 4 && count != 5)
        return rt_node_fail(err, RT_E_INVALID, n, "size has %lld elements", (long long)count);
    if (theta->shape.rank != 3 || theta->shape.dim[1] != axes || theta->shape.dim[2] != axes + 1 ||
        theta->shape.dim[0] != size[0])
        return rt_node_fail(err, RT_E_INVALID, n, "theta does not fit the size");
    struct rt_shape y = { .rank = axes + 2 };
    y.dim[0] = size[0];
    for (int a = 0; a < axes; a++) {
        if (size[2 + a] < 1 || rt_is_batched(size[2 + a]))
            return rt_node_fail(err, RT_E_INVALID, n, "size holds %lld", (long long)size[2 + a]);
        y.dim[1 + a] = size[2 + a];
    }
    y.dim[axes + 1] = axes;
    return rt_set_out(g, n, 0, theta->dtype, &y, err);
}

/* The centre of element i of an axis, where -1 and 1 are its ends. */
static double centre(int64_t i, int64_t len, bool align_corners)
{
    if (!align_corners)
        return (double)(2 * i + 1) / (double)len - 1;
    return len == 1 ? 0 : 2 * (double)i / (double)(len - 1) - 1;
}

static void run_grid(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *theta = &c->in[0], *y = &c->out[0];
    const int axes = y->shape.rank - 2;
    const bool align_corners = rt_attr_int(c->node, "align_corners", 0) != 0;
    const int64_t points = rt_shape_range(&y->shape, 1, y->shape.rank - 1);
    int64_t i, end;
    rt_worker_share(w, y->shape.dim[0] * points, 8, &i, &end);
    for (; i < end; i++) {
        double at[MAX_AXES + 1], row[MAX_AXES];
        int64_t rest = i % points;
        for (int a = axes; a > 0; rest /= y->shape.dim[a--]) /* the innermost axis first */
            at[axes - a] = centre(rest % y->shape.dim[a], y->shape.dim[a], align_corners);
        at[axes] = 1;
        for (int r = 0; r < axes; r++) {
            row[r] = 0;
            for (int k = 0; k <= axes; k++)
                row[r] += at[k] * rt_element(theta, (i / points * axes + r) * (axes + 1) + k);
        }
        rt_store_elements(y->dtype, rt_element_at(y, i * axes), 1, row, RT_KIND_DOUBLE, axes);
    }
}

const struct rt_op rt_op_AffineGrid = {
    .name = "AffineGrid",
    .since = 20,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .traits = RT_OP_READS_SHAPE,
    .infer = infer_grid,
    .run = run_grid,
};
