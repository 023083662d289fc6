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

static enum rt_status read_sampler(struct sampler *s, const struct rt_node *n,
                                   struct rt_error *err)
{
    static const struct {
        const char *name;
        enum mode mode;
    } modes[] = { { "nearest", NEAREST }, { "linear", LINEAR }, { "bilinear", LINEAR },
                  { "cubic", CUBIC },     { "bicubic", CUBIC } };
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
    const double x = s->align_corners ? (at + 1) / 2 * (double)(len - 1)
                                      : ((at + 1) * (double)len - 1) / 2;
    struct taps t = { .n = s->mode == NEAREST ? 1 : s->mode == LINEAR ? 2 : 4 };
    const double first = s->mode == NEAREST ? nearbyint(x) : floor(x) - (s->mode == CUBIC ? 1 : 0);
    for (int i = 0; i < t.n; i++) {
        const double e = first + i;
        t.index[i] = place(s, e, len);
        t.weight[i] = s->mode == NEAREST  ? 1
                      : s->mode == LINEAR ? 1 - fabs(x - e)
                                          : cubic(x - e);
    }
    return t;
}

/* The sample of one channel, whose plane starts at element base. taps[axis]. */
static double sample(const struct rt_tensor *x, int64_t base, const struct taps *taps,
                     const int64_t *len, int axes)
{
    double sum = 0;
    int combinations = 1;
    for (int a = 0; a < axes; a++)
        combinations *= taps[a].n;
    for (int k = 0; k < combinations; k++) {
        double weight = 1;
        int64_t at = 0;
        bool zero = false;
        for (int a = axes - 1, rest = k, step = 1; a >= 0; rest /= taps[a--].n) {
            const int i = rest % taps[a].n;
            zero = zero || taps[a].index[i] < 0;
            weight *= taps[a].weight[i];
            (void)step;
        }
        for (int a = 0, rest = combinations, left = k; a < axes; a++) {
            rest /= taps[a].n;
            at = at * len[a] + taps[a].index[left / rest];
            left %= rest;
        }
        if (!zero)
            sum += weight * rt_element(x, base + at);
    }
    return sum;
}
