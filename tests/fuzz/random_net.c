/* Draws networks and writes them: a function a kind of layer, and a table of them. */
#include "tests/fuzz/random_net.h"

#include <math.h>
#include <stdio.h>

#define MAX_CHANNELS 40
#define MAX_SIDE 24

uint64_t net_random(uint64_t *seed)
{
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

float net_normal(uint64_t *seed)
{
    float sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (float)(net_random(seed) >> 40) * 0x1p-24f - 0.5f;
    return sum * 1.7320508f;
}

static float uniform(uint64_t *seed, float lo, float hi)
{
    return lo + (hi - lo) * (float)(net_random(seed) >> 40) * 0x1p-24f;
}

/* A value of the network: [N, c, h, w], or [N, c] once it is flat. */
struct val {
    int64_t c, h, w;
    bool flat;
    char name[16];
};

/* A network while it is being written. */
struct writer {
    const struct net *net;
    struct bytes graph;
    struct val value[4 * NET_LAYERS + 1]; /* value[0] is the input */
    int n_values, n_names;
    bool changed; /* the layer at hand wrote something */
    uint64_t seed;
};

static int64_t draw(struct writer *w, int64_t lo, int64_t hi) /* both may come */
{
    return lo + (int64_t)(net_random(&w->seed) % (uint64_t)(hi - lo + 1));
}

static bool chance(struct writer *w, int of)
{
    return draw(w, 1, of) == 1;
}

/* --- pieces of a file ----------------------------------------------------------------------- */

static void fresh_name(struct writer *w, const char *what, char out[16])
{
    snprintf(out, 16, "%s%d", what, w->n_names++);
}

static int64_t count(size_t rank, const int64_t *dims)
{
    int64_t n = 1;
    for (size_t i = 0; i < rank; i++)
        n *= dims[i];
    return n;
}

/* A constant of normal numbers, times scale and plus shift. */
static void put_weights(struct writer *w, char name[16], size_t rank, const int64_t *dims,
                        float scale, float shift)
{
    fresh_name(w, "w", name);
    struct bytes raw = { 0 };
    for (int64_t i = 0; i < count(rank, dims); i++) {
        const float f = net_normal(&w->seed) * scale + shift;
        put_raw(&raw, &f, sizeof f);
    }
    struct bytes t = tensor(name, 1, rank, dims);
    put_message(&t, 9, raw);
    put_message(&w->graph, 5, t);
}

static void put_constant(struct writer *w, char name[16], float f)
{
    fresh_name(w, "w", name);
    struct bytes t = tensor(name, 1, 0, NULL);
    put_data(&t, 9, &f, sizeof f);
    put_message(&w->graph, 5, t);
}

static void put_int_list(struct writer *w, char name[16], const int64_t *v, int64_t n)
{
    fresh_name(w, "i", name);
    put_message(&w->graph, 5, raw_tensor(name, 7, n, v, (size_t)n * sizeof *v));
}

static struct bytes attr_ints(const char *name, const int64_t *v, size_t n)
{
    struct bytes b = { 0 };
    put_text(&b, 1, name);
    put_packed(&b, 8, v, n);
    put_int(&b, 20, 7);
    return b;
}

static struct bytes attr_text(const char *name, const char *s)
{
    struct bytes b = { 0 };
    put_text(&b, 1, name);
    put_text(&b, 4, s);
    put_int(&b, 20, 3);
    return b;
}

/* A node that reads up to five names ("" or NULL behind the last) and makes a value like `like`. */
static struct bytes begin(struct writer *w, const char *op, const char *const *in,
                          const struct val *like, struct val *out)
{
    char inputs[128] = "";
    *out = *like;
    fresh_name(w, "v", out->name);
    for (int i = 0; i < 5 && in[i] != NULL; i++) {
        strcat(inputs, i > 0 ? "," : "");
        strcat(inputs, in[i]);
    }
    return node(op, out->name, inputs, out->name);
}

static void end(struct writer *w, struct bytes n)
{
    put_message(&w->graph, 1, n);
    w->changed = true;
}

#define IN(...) ((const char *const[6]){ __VA_ARGS__ })

/* A node without attributes. */
static struct val plain(struct writer *w, const char *op, const char *const *in,
                        const struct val *like)
{
    struct val y;
    end(w, begin(w, op, in, like, &y));
    return y;
}

/* --- layers: each reads x (and z), and gives x back where it does not fit -----------------------
 */

typedef struct val layer(struct writer *w, struct val x, struct val z);

static int64_t pick_group(struct writer *w, int64_t c)
{
    int64_t g = draw(w, 0, 3);
    if (g == 0)
        return c; /* depthwise */
    return g > 1 && c % g == 0 ? g : 1;
}

/* Kernel, strides, pads and dilations of a window over x, drawn so that something comes out. */
struct window {
    int64_t kernel[2], stride[2], dilation[2], pad[4], out[2];
};

static bool draw_window(struct writer *w, const struct val *x, bool dilate, int64_t most,
                        struct window *o)
{
    static const int64_t kernels[] = { 1, 3, 3, 3, 2, 5, 4, 7 };
    const int64_t side[2] = { x->h, x->w };
    bool square = !chance(w, 4);
    bool same = chance(w, 2); /* what most networks have: half a kernel on every side */
    for (int i = 0; i < 2; i++) {
        o->kernel[i] = i > 0 && square ? o->kernel[0] : kernels[draw(w, 0, 7)];
        o->stride[i] = i > 0 && square ? o->stride[0] : chance(w, 3) ? draw(w, 1, 3) : 1;
        o->dilation[i] = dilate && chance(w, 6) ? 2 : 1;
        int64_t reach = (o->kernel[i] - 1) * o->dilation[i] + 1;
        int64_t limit = o->kernel[i] - 1 < most ? o->kernel[i] - 1 : most;
        o->pad[i] = same ? reach / 2 : draw(w, 0, limit);
        o->pad[i + 2] = same ? reach / 2 : draw(w, 0, limit);
        int64_t room = side[i] + o->pad[i] + o->pad[i + 2] - reach;
        if (room < 0)
            return false;
        o->out[i] = room / o->stride[i] + 1;
    }
    return true;
}

static void put_window(struct bytes *n, const struct window *o, bool dilate)
{
    put_message(n, 5, attr_ints("kernel_shape", o->kernel, 2));
    put_message(n, 5, attr_ints("strides", o->stride, 2));
    put_message(n, 5, attr_ints("pads", o->pad, 4));
    if (dilate)
        put_message(n, 5, attr_ints("dilations", o->dilation, 2));
}

static struct val convolution(struct writer *w, struct val x, struct val z)
{
    (void)z;
    struct window o;
    struct val y;
    char weight[16], bias[16];
    if (x.flat || !draw_window(w, &x, true, 9, &o))
        return x;
    int64_t group = pick_group(w, x.c);
    int64_t m = group == x.c && chance(w, 2) ? x.c : group * draw(w, 1, 1 + 20 / group);
    float spread = 1 / sqrtf((float)(x.c / group * o.kernel[0] * o.kernel[1]));
    put_weights(w, weight, 4, (int64_t[]){ m, x.c / group, o.kernel[0], o.kernel[1] }, spread, 0);
    bool biased = chance(w, 2);
    if (biased)
        put_weights(w, bias, 1, &m, 0.5f, 0);
    struct bytes n = begin(w, "Conv", IN(x.name, weight, biased ? bias : NULL), &x, &y);
    put_window(&n, &o, true);
    put_message(&n, 5, attr_int("group", group));
    end(w, n);
    y.c = m;
    y.h = o.out[0];
    y.w = o.out[1];
    return y;
}

static struct val pointwise(struct writer *w, struct val x, struct val z)
{
    (void)z;
    struct val y;
    char weight[16];
    if (x.flat)
        return x;
    int64_t m = draw(w, 1, 36);
    put_weights(w, weight, 4, (int64_t[]){ m, x.c, 1, 1 }, 1 / sqrtf((float)x.c), 0);
    end(w, begin(w, "Conv", IN(x.name, weight), &x, &y));
    y.c = m;
    return y;
}

static struct val transposed(struct writer *w, struct val x, struct val z)
{
    (void)z;
    struct val y;
    char weight[16];
    int64_t k[2], s[2], pad[4], more[2];
    if (x.flat || x.h * x.w > 80)
        return x;
    int64_t group = pick_group(w, x.c), m = draw(w, 1, 6);
    for (int i = 0; i < 2; i++) {
        s[i] = draw(w, 1, 3);
        k[i] = draw(w, 1, 4);
        more[i] = s[i] > 1 && chance(w, 3) ? 1 : 0;
        pad[i] = draw(w, 0, (k[i] - 1) / 2);
        pad[i + 2] = draw(w, 0, (k[i] - 1) / 2);
    }
    put_weights(w, weight, 4, (int64_t[]){ x.c, m, k[0], k[1] },
                1 / sqrtf((float)(x.c / group * 4)), 0);
    struct bytes n = begin(w, "ConvTranspose", IN(x.name, weight), &x, &y);
    put_message(&n, 5, attr_ints("kernel_shape", k, 2));
    put_message(&n, 5, attr_ints("strides", s, 2));
    put_message(&n, 5, attr_ints("pads", pad, 4));
    put_message(&n, 5, attr_ints("output_padding", more, 2));
    put_message(&n, 5, attr_int("group", group));
    y.c = m * group;
    y.h = (x.h - 1) * s[0] + more[0] + k[0] - pad[0] - pad[2];
    y.w = (x.w - 1) * s[1] + more[1] + k[1] - pad[1] - pad[3];
    if (y.h < 1 || y.w < 1) {
        free(n.p);
        return x;
    }
    end(w, n);
    return y;
}

static struct val batch_norm(struct writer *w, struct val x, struct val z)
{
    (void)z;
    struct val y;
    char scale[16], bias[16], mean[16], var[16];
    bool odd = chance(w, 8); /* statistics that are hardly any */
    put_weights(w, scale, 1, &x.c, 0.7f, chance(w, 2) ? 1.0f : 0.0f);
    put_weights(w, bias, 1, &x.c, 0.5f, 0);
    put_weights(w, mean, 1, &x.c, 0.5f, 0);
    fresh_name(w, "w", var);
    struct bytes raw = { 0 };
    for (int64_t i = 0; i < x.c; i++) {
        const float f = odd && chance(w, 4) ? 0.0f : uniform(&w->seed, 0.2f, 3);
        put_raw(&raw, &f, sizeof f);
    }
    struct bytes t = tensor(var, 1, 1, &x.c);
    put_message(&t, 9, raw);
    put_message(&w->graph, 5, t);
    struct bytes n = begin(w, "BatchNormalization", IN(x.name, scale, bias, mean, var), &x, &y);
    if (chance(w, 2) || odd)
        put_message(&n, 5, attr_float("epsilon", odd ? 0.1f : 1e-3f));
    end(w, n);
    return y;
}

static struct val activation(struct writer *w, struct val x, struct val z)
{
    (void)z;
    static const char *const ops[] = { "Relu",      "Relu",        "Sigmoid",   "Tanh",
                                       "HardSwish", "HardSigmoid", "LeakyRelu", "Elu",
                                       "Softplus",  "Softsign",    "Selu",      "Erf",
                                       "Abs",       "Neg",         "Identity",  "Celu",
                                       "Relu",      "Clip",        "PRelu",     "Dropout" };
    struct val y;
    char a[16], b[16];
    const char *op = ops[draw(w, 0, sizeof ops / sizeof ops[0] - 1)];
    if (strcmp(op, "Clip") == 0) {
        bool low = !chance(w, 3), high = !low || !chance(w, 3);
        put_constant(w, a, uniform(&w->seed, -1, 0.1f));
        put_constant(w, b, uniform(&w->seed, 0.2f, 6));
        return plain(w, op, IN(x.name, low ? a : "", high ? b : ""), &x);
    }
    if (strcmp(op, "PRelu") == 0) {
        size_t rank = x.flat ? 1 : 3;
        put_weights(w, a, rank, chance(w, 3) ? (int64_t[]){ 1, 1, 1 } : (int64_t[]){ x.c, 1, 1 },
                    0.3f, 0.1f);
        return plain(w, op, IN(x.name, a), &x);
    }
    struct bytes n = begin(w, op, IN(x.name), &x, &y);
    bool leaky = strcmp(op, "LeakyRelu") == 0 || strcmp(op, "Elu") == 0;
    if ((leaky || strcmp(op, "Celu") == 0) && chance(w, 2))
        put_message(&n, 5, attr_float("alpha", uniform(&w->seed, 0.05f, 2)));
    end(w, n);
    return y;
}

static struct val pooling(struct writer *w, struct val x, struct val z)
{
    (void)z;
    struct window o;
    struct val y;
    bool max = chance(w, 2);
    if (x.flat || !draw_window(w, &x, false, 2, &o))
        return x;
    for (int i = 0; i < 4; i++) /* a window that lies in the padding only has no answer */
        if (o.pad[i] >= o.kernel[i % 2])
            return x;
    struct bytes n = begin(w, max ? "MaxPool" : "AveragePool", IN(x.name), &x, &y);
    put_window(&n, &o, false);
    if (!max)
        put_message(&n, 5, attr_int("count_include_pad", draw(w, 0, 1)));
    end(w, n);
    y.h = o.out[0];
    y.w = o.out[1];
    return y;
}

static struct val global_pool(struct writer *w, struct val x, struct val z)
{
    (void)z;
    if (x.flat)
        return x;
    struct val y = plain(w, chance(w, 3) ? "GlobalMaxPool" : "GlobalAveragePool", IN(x.name), &x);
    y.h = y.w = 1;
    return y;
}

static bool same_sizes(const struct val *a, const struct val *b)
{
    return a->flat == b->flat && a->c == b->c && a->h == b->h && a->w == b->w;
}

/* Two values of the network, one of which may have one pixel a channel. */
static struct val join(struct writer *w, struct val x, struct val z)
{
    static const char *const ops[] = { "Add", "Add", "Mul", "Sub", "Max", "Min", "Sum", "Mean" };
    const char *op = ops[draw(w, 0, 7)];
    bool spread = !x.flat && !z.flat && x.c == z.c && z.h == 1 && z.w == 1;
    if (!same_sizes(&x, &z) && !spread)
        return x;
    return chance(w, 2) ? plain(w, op, IN(x.name, z.name), &x)
                        : plain(w, op, IN(z.name, x.name), &x);
}

/* With a constant: a number, one a channel, one a column, or one an element. */
static struct val with_constant(struct writer *w, struct val x, struct val z)
{
    (void)z;
    static const char *const ops[] = { "Add", "Mul", "Sub", "Div", "Max", "Min" };
    const char *op = ops[draw(w, 0, 5)];
    const int64_t shapes[6][4] = { { 1, x.c, 1, 1 }, { 1, x.c, 1, 1 },     { 1, 1, 1, 1 },
                                   { 1, 1, 1, x.w }, { 1, x.c, x.h, x.w }, { 1, 1, x.h, 1 } };
    const int64_t *s = shapes[x.flat ? draw(w, 0, 2) : draw(w, 0, 5)];
    char a[16];
    bool positive = strcmp(op, "Div") == 0;
    int leading = chance(w, 2) ? 1 : 0; /* ones that broadcasting puts there itself */
    put_weights(w, a, x.flat ? 2 : (size_t)(4 - leading), s + (x.flat ? 0 : leading),
                positive ? 0.1f : 0.8f, positive ? 1.5f : 0);
    return positive || chance(w, 2) ? plain(w, op, IN(x.name, a), &x)
                                    : plain(w, op, IN(a, x.name), &x);
}

static struct val concat(struct writer *w, struct val x, struct val z)
{
    struct val y;
    if (x.flat != z.flat || x.h != z.h || x.w != z.w || x.c + z.c > MAX_CHANNELS)
        return x;
    struct bytes n = begin(w, "Concat", IN(x.name, z.name), &x, &y);
    put_message(&n, 5, attr_int("axis", chance(w, 3) ? (x.flat ? -1 : -3) : 1));
    end(w, n);
    y.c = x.c + z.c;
    return y;
}

static struct val split(struct writer *w, struct val x, struct val z)
{
    (void)z;
    if (x.c < 2)
        return x;
    struct val y = x;
    char second[16], names[40], sizes[16];
    int64_t first = draw(w, 1, x.c - 1);
    put_int_list(w, sizes, (int64_t[]){ first, x.c - first }, 2);
    fresh_name(w, "v", y.name);
    fresh_name(w, "v", second);
    char inputs[40];
    snprintf(inputs, sizeof inputs, "%s,%s", x.name, sizes);
    snprintf(names, sizeof names, "%s,%s", y.name, second);
    struct bytes n = node("Split", y.name, inputs, names);
    put_message(&n, 5, attr_int("axis", 1));
    end(w, n);
    struct val *other = &w->value[w->n_values++];
    *other = x;
    other->c = x.c - first;
    strcpy(other->name, second);
    y.c = first;
    return y;
}

static struct val slice(struct writer *w, struct val x, struct val z)
{
    (void)z;
    struct val y;
    char starts[16], ends[16], axes[16], steps[16];
    if (x.flat)
        return x;
    int64_t axis = draw(w, 1, 3), *side = axis == 1 ? &x.c : axis == 2 ? &x.h : &x.w;
    int64_t from = draw(w, 0, *side - 1), step = chance(w, 3) ? 2 : 1;
    int64_t to = draw(w, from + 1, *side);
    bool open = chance(w, 3);
    put_int_list(w, starts, &from, 1);
    put_int_list(w, ends, (int64_t[]){ open ? INT64_MAX : to }, 1);
    put_int_list(w, axes, &axis, 1);
    put_int_list(w, steps, &step, 1);
    int64_t left = ((open ? *side : to) - from + step - 1) / step;
    end(w, begin(w, "Slice", IN(x.name, starts, ends, axes, steps), &x, &y));
    *(axis == 1 ? &y.c : axis == 2 ? &y.h : &y.w) = left;
    return y;
}

static struct val pad(struct writer *w, struct val x, struct val z)
{
    (void)z;
    static const char *const modes[] = { "constant", "constant", "edge", "reflect" };
    const char *mode = modes[draw(w, 0, 3)];
    struct val y;
    char pads[16], fill[16];
    if (x.flat || x.h < 3 || x.w < 3)
        return x;
    const int64_t p[8] = { 0, 0, draw(w, 0, 2), draw(w, 0, 2), 0, 0, draw(w, 0, 2), draw(w, 0, 2) };
    put_int_list(w, pads, p, 8);
    bool filled = mode == modes[0] && chance(w, 3);
    if (filled)
        put_constant(w, fill, 0.5f);
    struct bytes n = begin(w, "Pad", IN(x.name, pads, filled ? fill : NULL), &x, &y);
    put_message(&n, 5, attr_text("mode", mode));
    end(w, n);
    y.h += p[2] + p[6];
    y.w += p[3] + p[7];
    return y;
}

/* Channels in another order, by way of five dimensions. */
static struct val shuffle(struct writer *w, struct val x, struct val z)
{
    (void)z;
    struct val a, b;
    char there[16], back[16];
    int64_t g = x.c % 3 == 0 ? 3 : 2;
    if (x.flat || x.c % g != 0)
        return x;
    put_int_list(w, there, (int64_t[]){ 0, g, x.c / g, x.h, x.w }, 5);
    put_int_list(w, back, (int64_t[]){ 0, x.c, x.h, x.w }, 4);
    a = plain(w, "Reshape", IN(x.name, there), &x);
    struct bytes n = begin(w, "Transpose", IN(a.name), &x, &b);
    put_message(&n, 5, attr_ints("perm", (int64_t[]){ 0, 2, 1, 3, 4 }, 5));
    end(w, n);
    return plain(w, "Reshape", IN(b.name, back), &x);
}

static struct val transpose(struct writer *w, struct val x, struct val z)
{
    (void)z;
    static const int64_t perms[][4] = { { 0, 2, 3, 1 }, { 0, 3, 1, 2 }, { 0, 1, 3, 2 } };
    struct val y;
    if (x.flat)
        return x;
    const int64_t *p = perms[draw(w, 0, 2)], d[4] = { 0, x.c, x.h, x.w };
    if (d[p[1]] > MAX_CHANNELS)
        return x;
    struct bytes n = begin(w, "Transpose", IN(x.name), &x, &y);
    put_message(&n, 5, attr_ints("perm", p, 4));
    end(w, n);
    y.c = d[p[1]];
    y.h = d[p[2]];
    y.w = d[p[3]];
    return y;
}

static struct val space_depth(struct writer *w, struct val x, struct val z)
{
    (void)z;
    struct val y;
    bool to_space = x.c % 4 == 0 && chance(w, 2);
    if (x.flat || (!to_space && (x.h % 2 != 0 || x.w % 2 != 0 || 4 * x.c > MAX_CHANNELS)))
        return x;
    struct bytes n = begin(w, to_space ? "DepthToSpace" : "SpaceToDepth", IN(x.name), &x, &y);
    put_message(&n, 5, attr_int("blocksize", 2));
    if (to_space && chance(w, 2))
        put_message(&n, 5, attr_text("mode", "CRD"));
    end(w, n);
    y.c = to_space ? x.c / 4 : x.c * 4;
    y.h = to_space ? x.h * 2 : x.h / 2;
    y.w = to_space ? x.w * 2 : x.w / 2;
    return y;
}

static struct val resize(struct writer *w, struct val x, struct val z)
{
    (void)z;
    static const char *const at[] = { "half_pixel", "asymmetric", "align_corners",
                                      "pytorch_half_pixel" };
    struct val y;
    char scales[16];
    if (x.flat)
        return x;
    bool linear = chance(w, 2);
    const float s[4] = { 1, 1, (float)draw(w, 1, 3), (float)draw(w, 1, 2) };
    fresh_name(w, "w", scales);
    put_message(&w->graph, 5, raw_tensor(scales, 1, 4, s, sizeof s));
    struct bytes n = begin(w, "Resize", IN(x.name, "", scales), &x, &y);
    put_message(&n, 5, attr_text("mode", linear ? "linear" : "nearest"));
    put_message(&n, 5, attr_text("coordinate_transformation_mode", at[linear ? draw(w, 0, 3) : 1]));
    if (!linear)
        put_message(&n, 5, attr_text("nearest_mode", "floor"));
    end(w, n);
    y.h = (int64_t)((float)x.h * s[2]);
    y.w = (int64_t)((float)x.w * s[3]);
    return y;
}

static struct val normalization(struct writer *w, struct val x, struct val z)
{
    (void)z;
    struct val y;
    char scale[16], bias[16];
    struct bytes n;
    if (x.flat || x.h * x.w < 2)
        return x;
    if (chance(w, 2)) {
        put_weights(w, scale, 1, &x.c, 0.5f, 1);
        put_weights(w, bias, 1, &x.c, 0.5f, 0);
        n = begin(w, "InstanceNormalization", IN(x.name, scale, bias), &x, &y);
        put_message(&n, 5, attr_float("epsilon", 0.01f));
    } else {
        n = begin(w, "LRN", IN(x.name), &x, &y);
        put_message(&n, 5, attr_int("size", 1 + 2 * draw(w, 0, 2)));
    }
    end(w, n);
    return y;
}

static struct val softmax(struct writer *w, struct val x, struct val z)
{
    (void)z;
    struct val y;
    struct bytes n = begin(w, "Softmax", IN(x.name), &x, &y);
    put_message(&n, 5, attr_int("axis", x.flat ? 1 : draw(w, 1, 3)));
    end(w, n);
    return y;
}

static struct val mean_over(struct writer *w, struct val x, struct val z)
{
    (void)z;
    struct val y;
    if (x.flat)
        return x;
    bool pixels = chance(w, 2);
    struct bytes n = begin(w, "ReduceMean", IN(x.name), &x, &y);
    put_message(&n, 5,
                pixels ? attr_ints("axes", (int64_t[]){ 2, 3 }, 2)
                       : attr_ints("axes", (int64_t[]){ 1 }, 1));
    end(w, n);
    if (pixels)
        y.h = y.w = 1;
    else
        y.c = 1;
    return y;
}

/* Squeeze and excite: each channel times a gate that its own mean makes. */
static struct val gate(struct writer *w, struct val x, struct val z)
{
    char squeeze[16], excite[16];
    if (x.flat)
        return x;
    int64_t m = draw(w, 1, 6);
    struct val g = plain(w, "GlobalAveragePool", IN(x.name), &x);
    put_weights(w, squeeze, 4, (int64_t[]){ m, x.c, 1, 1 }, 0.5f, 0);
    put_weights(w, excite, 4, (int64_t[]){ x.c, m, 1, 1 }, 0.5f, 0);
    g = plain(w, "Conv", IN(g.name, squeeze), &g);
    if (chance(w, 3)) {
        g.c = m;
        g.h = g.w = 1;
        g = batch_norm(w, g, z);
    }
    g = plain(w, "Relu", IN(g.name), &g);
    g = plain(w, "Conv", IN(g.name, excite), &g);
    g = plain(w, chance(w, 2) ? "Sigmoid" : "HardSigmoid", IN(g.name), &g);
    return plain(w, "Mul", IN(x.name, g.name), &x);
}

static struct val swish(struct writer *w, struct val x, struct val z)
{
    (void)z;
    struct val g = plain(w, "Sigmoid", IN(x.name), &x);
    return plain(w, "Mul", IN(x.name, g.name), &x);
}

static struct val dense(struct writer *w, struct val x, struct val z)
{
    (void)z;
    struct val y;
    char weight[16], bias[16];
    int64_t k = x.flat ? x.c : x.c * x.h * x.w, m = draw(w, 1, 20);
    if (k > 2048)
        return x;
    struct val flat = x.flat ? x : plain(w, "Flatten", IN(x.name), &x);
    flat.flat = true;
    flat.c = k;
    flat.h = flat.w = 1;
    bool matmul = chance(w, 3), turned = !matmul && chance(w, 2);
    put_weights(w, weight, 2, turned ? (int64_t[]){ m, k } : (int64_t[]){ k, m },
                1 / sqrtf((float)k), 0);
    if (matmul) {
        y = plain(w, "MatMul", IN(flat.name, weight), &flat);
    } else {
        put_weights(w, bias, 1, &m, 0.5f, 0);
        struct bytes n =
            begin(w, "Gemm", IN(flat.name, weight, chance(w, 4) ? NULL : bias), &flat, &y);
        put_message(&n, 5, attr_int("transB", turned));
        if (chance(w, 4))
            put_message(&n, 5, attr_float("alpha", 0.5f));
        end(w, n);
    }
    y.c = m;
    return y;
}

/* As often as they stand here. */
static layer *const kinds[] = {
    convolution, convolution,   convolution,   pointwise,     pointwise,  batch_norm, batch_norm,
    batch_norm,  batch_norm,    activation,    activation,    activation, join,       join,
    concat,      pooling,       with_constant, with_constant, gate,       swish,      transposed,
    global_pool, split,         slice,         pad,           shuffle,    transpose,  space_depth,
    resize,      normalization, softmax,       mean_over,     dense,      join,       activation,
};

struct net net_draw(uint64_t seed)
{
    static const int64_t batches[] = { -1, -1, -1, -1, 1, 2 };
    struct net n = { .seed = seed };
    n.n_layers = 2 + (int)(net_random(&seed) % (NET_LAYERS - 1));
    n.batch = batches[net_random(&seed) % 6];
    n.channels = 1 + (int64_t)(net_random(&seed) % 18);
    n.height = 1 + (int64_t)(net_random(&seed) % 14);
    n.width = 1 + (int64_t)(net_random(&seed) % 14);
    for (int i = 0; i < n.n_layers; i++) {
        struct net_layer *l = &n.layer[i];
        l->kind = (unsigned)(net_random(&seed) % (sizeof kinds / sizeof kinds[0]));
        l->seed = net_random(&seed);
        l->reads[0] = net_random(&seed) % 5 == 0 ? (unsigned)(net_random(&seed) % 4) : 0;
        l->reads[1] = (unsigned)(net_random(&seed) % 6);
        l->shown = net_random(&seed) % 16 == 0;
    }
    return n;
}

static const struct val *value_back(const struct writer *w, unsigned back)
{
    return &w->value[w->n_values - 1 - (int)(back % (unsigned)w->n_values)];
}

struct bytes net_write(const struct net *n)
{
    struct writer w = { .net = n, .n_values = 1 };
    w.value[0] = (struct val){ n->channels, n->height, n->width, false, "x" };
    put_message(&w.graph, 11,
                value("x", 1, 4, (int64_t[]){ n->batch, n->channels, n->height, n->width }));
    int n_shown = 0;
    for (int i = 0; i < n->n_layers; i++) {
        const struct net_layer *l = &n->layer[i];
        const struct val x = *value_back(&w, l->reads[0]), z = *value_back(&w, l->reads[1]);
        w.seed = l->seed;
        w.changed = false;
        struct val y = x;
        if (!l->left_out && x.h <= MAX_SIDE && x.w <= MAX_SIDE)
            y = kinds[l->kind](&w, x, z);
        w.value[w.n_values++] = y;
        if (l->shown && w.changed && i + 1 < n->n_layers) {
            put_message(&w.graph, 12, named(y.name));
            n_shown++;
        }
    }
    const struct val last = w.value[w.n_values - 1];
    const struct val y = plain(&w, "Identity", IN(last.name), &last);
    put_message(&w.graph, 12, named(y.name));
    return model(w.graph);
}
