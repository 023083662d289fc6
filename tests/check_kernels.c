/* Every kernel of every level against plain C in double precision: all tails, arrays that end at an
 * unreadable page, special values; then the operators built on them. --bench times them instead. */
#include "tests/check.h"

#include "tests/avx512_emulated.h"

#include "runtime/ops/conv.h"
#include "runtime/ops/gemm.h"

#include <float.h>
#include <stdbool.h>

static const char *const activation_name[RT_N_ACTIVATIONS] = {
    [RT_ACT_RELU] = "relu",
    [RT_ACT_CLIP] = "clip",
    [RT_ACT_LEAKY_RELU] = "leaky relu",
    [RT_ACT_SIGMOID] = "sigmoid",
    [RT_ACT_TANH] = "tanh",
    [RT_ACT_HARD_SIGMOID] = "hard sigmoid",
    [RT_ACT_HARD_SWISH] = "hard swish",
    [RT_ACT_SILU] = "silu",
    [RT_ACT_GELU] = "gelu",
    [RT_ACT_GELU_TANH] = "gelu tanh",
    [RT_ACT_ELU] = "elu",
    [RT_ACT_SELU] = "selu",
    [RT_ACT_SOFTPLUS] = "softplus",
    [RT_ACT_MISH] = "mish",
    [RT_ACT_EXP] = "exp",
    [RT_ACT_ABS] = "abs",
    [RT_ACT_NEG] = "neg",
    [RT_ACT_SQRT] = "sqrt",
    [RT_ACT_LOG] = "log",
    [RT_ACT_ERF] = "erf",
};

static double activate(enum rt_activation act, double x, double a, double b)
{
    switch (act) {
    case RT_ACT_RELU:
        return x < 0 ? 0 : x;
    case RT_ACT_CLIP:
        return x < a ? a : x > b ? b : x;
    case RT_ACT_LEAKY_RELU:
        return x < 0 ? a * x : x;
    case RT_ACT_SIGMOID:
        return 1 / (1 + exp(-x));
    case RT_ACT_TANH:
        return tanh(x);
    case RT_ACT_HARD_SIGMOID:
        return isnan(x) ? x : fmax(0, fmin(1, a * x + b));
    case RT_ACT_HARD_SWISH:
        return isnan(x) ? x : x * fmax(0, fmin(1, x / 6 + 0.5));
    case RT_ACT_SILU:
        return x / (1 + exp(-a * x));
    case RT_ACT_GELU:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    case RT_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case RT_ACT_ELU:
        return x < 0 ? a * expm1(x) : x;
    case RT_ACT_SELU:
        return x <= 0 ? b * a * expm1(x) : b * x;
    case RT_ACT_SOFTPLUS:
        return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
    case RT_ACT_MISH:
        return x * tanh(x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)));
    case RT_ACT_EXP:
        return exp(x);
    case RT_ACT_ABS:
        return fabs(x);
    case RT_ACT_NEG:
        return -x;
    case RT_ACT_SQRT:
        return sqrt(x);
    case RT_ACT_LOG:
        return log(x);
    case RT_ACT_ERF:
        return erf(x);
    default:
        return NAN;
    }
}

/* What may be lost, in units of the last place: of the result, and, where a sum with 1 comes before
 * the end, of the input. */
static double allowed(enum rt_activation act, double x, double want)
{
    double units = 0.5;
    double of_input = 0;
    switch (act) {
    case RT_ACT_EXP:
    case RT_ACT_LOG:
    case RT_ACT_ERF:
    case RT_ACT_TANH:
        units = 3;
        break;
    case RT_ACT_SIGMOID:
    case RT_ACT_SOFTPLUS:
    case RT_ACT_ELU:
    case RT_ACT_SELU:
        units = 5;
        break;
    case RT_ACT_SILU:
    case RT_ACT_MISH:
        units = 6 + fmin(fabs(x), 104); /* the exponent is rounded before it is used */
        break;
    case RT_ACT_GELU:
    case RT_ACT_GELU_TANH:
    case RT_ACT_HARD_SWISH:
    case RT_ACT_HARD_SIGMOID:
        units = 4;
        of_input = 2;
        break;
    default:
        break;
    }
    if (of_input > 0)
        of_input *= fabs(x) + 1;
    return FLT_EPSILON * (units * fabs(want) + of_input) + 2 * FLT_MIN;
}

static bool same(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

static void check_activation(const struct rt_kernels *k, enum rt_activation act)
{
    static const float special[] = { 0.0f,    -0.0f,    1e-42f, -1e-42f,  1e-30f,   -1e-30f, 88.0f,
                                     -88.0f,  89.5f,    -89.5f, 104.0f,   -104.0f,  1e4f,    -1e4f,
                                     3.0e38f, -3.0e38f, NAN,    INFINITY, -INFINITY };
    enum { SPECIAL = sizeof special / sizeof *special, N = 3000 };
    const float a = 0.2f, b = act == RT_ACT_SELU ? 1.05f : 0.5f;
    begin("%s %s", k->name, activation_name[act]);
    float *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
    for (int i = 0; i < N; i++)
        x[i] = i < SPECIAL ? special[i]
                           : noise() * (i % 3 == 0   ? 100.0f
                                        : i % 3 == 1 ? 8.0f
                                                     : 1.0f);
    k->activation[act](y, x, N, a, b);
    for (int i = 0; i < N; i++) {
        double want = activate(act, (double)x[i], (double)a, (double)b);
        if (i < SPECIAL && !isfinite(x[i])) {
            if (isnan(x[i])) {
                CHECK(isnan(y[i]), "of NaN is %g", (double)y[i]);
                continue;
            }
            /* infinity times zero: either reading of the definition will do */
            if (isnan(want) || isnan(y[i])) {
                CHECK(isnan(y[i]) || y[i] == 0.0f, "of %g is %g", (double)x[i], (double)y[i]);
                continue;
            }
        }
        bool over = fabs(want) > (double)FLT_MAX * (1 - 1e-5);
        bool ok = over ? fabs((double)y[i]) > 3.3e38
                       : (isnan(want) && isnan(y[i])) ||
                             fabs((double)y[i] - want) <= allowed(act, (double)x[i], want);
        CHECK(ok, "of %.9g is %.9g, want %.9g", (double)x[i], (double)y[i], want);
    }
    for (size_t n = 0; n <= (size_t)(2 * k->block + 3); n++) {
        struct guarded gx = guarded_floats(n), gy = guarded_floats(n);
        memcpy(gx.at, x + SPECIAL, n * sizeof(float));
        begin("%s %s n %zu", k->name, activation_name[act], n);
        k->activation[act](gy.at, gx.at, n, a, b);
        for (size_t i = 0; i < n; i++)
            CHECK(same(gy.at[i], y[SPECIAL + i]), "element %zu depends on where it is", i);
        k->activation[act](gx.at, gx.at, n, a, b);
        CHECK(memcmp(gx.at, gy.at, n * sizeof(float)) == 0, "in place it is another");
        guarded_free(&gx);
        guarded_free(&gy);
    }
    free(x);
    free(y);
}

typedef void binary_fn(float *, const float *, const float *, size_t);

static void check_binary(const struct rt_kernels *k)
{
    binary_fn *const fn[] = { k->add, k->sub, k->mul, k->div };
    for (int op = 0; op < 4; op++) {
        for (size_t n = 0; n <= (size_t)(2 * k->block + 3); n++) {
            begin("%s binary %c n %zu", k->name, "+-*/"[op], n);
            struct guarded a = guarded_noise(n), b = guarded_noise(n), y = guarded_floats(n);
            fn[op](y.at, a.at, b.at, n);
            for (size_t i = 0; i < n; i++) {
                float l = a.at[i], r = b.at[i];
                float want = op == 0 ? l + r : op == 1 ? l - r : op == 2 ? l * r : l / r;
                CHECK(same(y.at[i], want), "[%zu] is %g, want %g", i, (double)y.at[i],
                      (double)want);
            }
            fn[op](a.at, a.at, b.at, n);
            CHECK(memcmp(a.at, y.at, n * sizeof(float)) == 0, "in place it is another");
            guarded_free(&a);
            guarded_free(&b);
            guarded_free(&y);
        }
    }
}

static void check_affine(const struct rt_kernels *k)
{
    const size_t b = (size_t)k->block;
    for (size_t n = 0; n <= 2 * b + 3; n++) {
        begin("%s affine n %zu", k->name, n);
        struct guarded x = guarded_noise(n), y = guarded_noise(n), was = guarded_floats(n);
        memcpy(was.at, y.at, n * sizeof(float));
        k->axpy(y.at, x.at, n, 1.7f);
        for (size_t i = 0; i < n; i++) {
            double want = (double)x.at[i] * (double)1.7f + (double)was.at[i];
            CHECK(fabs((double)y.at[i] - want) <= 4 * (double)FLT_EPSILON, "axpy [%zu] is %g", i,
                  (double)y.at[i]);
        }
        k->affine(y.at, x.at, n, 1.7f, -0.3f);
        for (size_t i = 0; i < n; i++) {
            volatile float product = x.at[i] * 1.7f;
            CHECK(same(y.at[i], product + -0.3f), "[%zu] is not rounded twice", i);
        }
        guarded_free(&x);
        guarded_free(&y);
        guarded_free(&was);
    }
    for (size_t pixels = 0; pixels <= 5; pixels++) {
        begin("%s blocks of %zu pixels", k->name, pixels);
        struct guarded x = guarded_noise(pixels * b), y = guarded_floats(pixels * b);
        struct guarded scale = guarded_noise(b), shift = guarded_noise(b);
        for (int with = 0; with < 2; with++) {
            k->affine_block(y.at, x.at, pixels, scale.at, with ? shift.at : NULL);
            for (size_t i = 0; i < pixels * b; i++) {
                volatile float product = x.at[i] * scale.at[i % b];
                float want = with ? product + shift.at[i % b] : product;
                CHECK(same(y.at[i], want), "affine [%zu] is %g", i, (double)y.at[i]);
            }
        }
        k->prelu_block(y.at, x.at, pixels, scale.at);
        for (size_t i = 0; i < pixels * b; i++) {
            float want = x.at[i] < 0 ? x.at[i] * scale.at[i % b] : x.at[i];
            CHECK(same(y.at[i], want), "prelu [%zu] is %g", i, (double)y.at[i]);
        }
        guarded_free(&x);
        guarded_free(&y);
        guarded_free(&scale);
        guarded_free(&shift);
    }
}

static void check_layout(const struct rt_kernels *k)
{
    const size_t b = (size_t)k->block;
    for (int channels = 1; channels <= k->block; channels++) {
        for (size_t pixels = 0; pixels <= 2 * b + 3; pixels += pixels < 3 ? 1 : 2) {
            const size_t stride = pixels + 2, n = pixels * (size_t)channels;
            begin("%s layout of %d channels, %zu pixels", k->name, channels, pixels);
            const size_t reach = pixels > 0 ? stride * (size_t)(channels - 1) + pixels : 0;
            struct guarded x = guarded_noise(reach), y = guarded_floats(pixels * b);
            struct guarded back = guarded_floats(reach);
            k->to_blocked(y.at, x.at, pixels, stride, channels);
            for (size_t p = 0; p < pixels; p++)
                for (size_t l = 0; l < b; l++) {
                    float want = l < (size_t)channels ? x.at[l * stride + p] : 0.0f;
                    CHECK(same(y.at[p * b + l], want), "pixel %zu lane %zu", p, l);
                }
            k->to_plain(back.at, y.at, pixels, stride, channels);
            for (size_t i = 0; i < n; i++) {
                size_t at = i / pixels * stride + i % pixels;
                CHECK(same(back.at[at], x.at[at]), "[%zu] did not come back", at);
            }
            guarded_free(&x);
            guarded_free(&y);
            guarded_free(&back);
        }
    }
}

/* Weights from an address that no float may have, to places the other way round. */
static void check_pack(const struct rt_kernels *k)
{
    const size_t b = (size_t)k->block;
    for (int maps = 1; maps <= k->block; maps++) {
        for (size_t count = 0; count <= 2 * b + 3; count += count < 3 ? 1 : 2) {
            const size_t stride = count + 2;
            begin("%s packing %d maps, %zu weights", k->name, maps, count);
            const size_t reach = count > 0 ? stride * (size_t)(maps - 1) + count : 0;
            struct guarded x = guarded_noise(reach + 1), y = guarded_floats(2 * count * b);
            struct guarded gain = guarded_noise(b);
            for (size_t l = (size_t)maps; l < b; l++)
                gain.at[l] = 0.0f;
            char *odd =
                (char *)x.at + 1; /* the page behind it begins 3 bytes after the last float */
            memmove(odd, x.at, reach * sizeof(float));
            int64_t at[64];
            for (size_t i = 0; i < count; i++)
                at[i] = (int64_t)(2 * b * (count - 1 - i));
            k->pack(y.at, at, (const rt_float_anywhere *)(const void *)odd, count, stride, maps,
                    gain.at);
            for (size_t i = 0; i < count; i++)
                for (size_t l = 0; l < b; l++) {
                    float v = 0.0f;
                    if (l < (size_t)maps)
                        memcpy(&v, odd + (l * stride + i) * sizeof v, sizeof v);
                    volatile float want = l < (size_t)maps ? v * gain.at[l] : 0.0f;
                    CHECK(same(y.at[(size_t)at[i] + l], want), "weight %zu of map %zu", i, l);
                }
            guarded_free(&x);
            guarded_free(&y);
            guarded_free(&gain);
        }
    }
}

/* A mac of odd strides: groups of lanes, taps and pixels lie where nothing is dense. */
static void check_mac_of(const struct rt_kernels *k, size_t pixels, size_t blocks, size_t outer,
                         size_t kh, size_t kw, size_t last_lanes, bool residual, bool clamp)
{
    const size_t b = (size_t)k->block, lanes = b, rows = (pixels + blocks) % 3 + 1;
    begin("%s mac pixels %zu blocks %zu outer %zu kernel %zux%zu last %zu residual %d clamp %d",
          k->name, pixels, blocks, outer, kh, kw, last_lanes, residual, clamp);
    struct rt_mac m = {
        .pixels = pixels,
        .rows = rows,
        .blocks = blocks,
        .outer = outer,
        .kh = kh,
        .kw = kw,
        .lanes = lanes,
        .last_lanes = last_lanes,
        .x_pixel = b,
        .x_kw = b,
        .x_row = (pixels + kw) * b + 2,
        .x_kh = (pixels + kw) * b,
        .y_pixel = b + 3,
        .clamp = clamp,
        .lo = -0.5f,
        .hi = 0.75f,
    };
    m.x_outer = m.x_kh * (kh + 1);
    m.y_block = m.y_pixel * pixels + 5;
    m.y_row = m.y_block * blocks + 1;
    const size_t sums = kh * kw * ((outer - 1) * lanes + last_lanes);
    m.w_panel = sums * 2 * b;
    const size_t x_len = (outer - 1) * m.x_outer + (kh - 1) * m.x_kh + (kw - 1) * m.x_kw +
                         (rows - 1) * m.x_row + (pixels - 1) * m.x_pixel + last_lanes;
    const size_t y_len =
        (rows - 1) * m.y_row + (pixels - 1) * m.y_pixel + (blocks - 1) * m.y_block + b;
    const size_t w_len = blocks / 2 * m.w_panel + blocks % 2 * sums * b;
    struct guarded x = guarded_noise(x_len), w = guarded_noise(w_len), y = guarded_noise(y_len);
    struct guarded bias = guarded_noise(blocks * b), r = guarded_noise(y_len);
    struct guarded cut = guarded_floats(y_len), was = guarded_floats(y_len);
    memcpy(cut.at, y.at, y_len * sizeof(float));
    memcpy(was.at, y.at, y_len * sizeof(float));
    m.x = x.at;
    m.w = w.at;
    m.y = y.at;
    m.bias = bias.at;
    m.residual = residual ? r.at : NULL;
    k->mac(&m);
    for (size_t p = 0; p < rows * pixels; p++) {
        const size_t x_at = p / pixels * m.x_row + p % pixels * m.x_pixel;
        for (size_t c = 0; c < blocks * b; c++) {
            const size_t block = c / b, lane = c % b;
            const size_t width = block + 1 == blocks && blocks % 2 == 1 ? b : 2 * b;
            const float *wp = w.at + block / 2 * m.w_panel + block % 2 * b + lane;
            double sum = (double)bias.at[c], size = fabs(sum);
            for (size_t o = 0; o < outer; o++)
                for (size_t i = 0; i < kh; i++)
                    for (size_t j = 0; j < kw; j++)
                        for (size_t l = 0; l < (o + 1 < outer ? lanes : last_lanes); l++) {
                            double product =
                                (double)*wp * (double)x.at[x_at + o * m.x_outer + i * m.x_kh +
                                                           j * m.x_kw + l];
                            sum += product;
                            size += fabs(product);
                            wp += width;
                        }
            const size_t at = p / pixels * m.y_row + p % pixels * m.y_pixel + block * m.y_block + lane;
            if (residual)
                sum += (double)r.at[at];
            if (clamp)
                sum = fmin(0.75, fmax(-0.5, sum));
            double slack = (double)(sums + 4) * (double)FLT_EPSILON * (size + 1);
            CHECK(fabs((double)y.at[at] - sum) <= slack, "pixel %zu channel %zu is %g, want %g", p,
                  c, (double)y.at[at], sum);
            was.at[at] = y.at[at];
        }
    }
    CHECK(memcmp(was.at, y.at, y_len * sizeof(float)) == 0, "writes between its pixels");
    /* One pixel at a time, and cut in two between the blocks of channels: not a bit changes. */
    for (size_t p = 0; p < rows * pixels; p++) {
        const size_t at = p / pixels * m.y_row + p % pixels * m.y_pixel;
        struct rt_mac one = m;
        one.pixels = one.rows = 1;
        one.x += p / pixels * m.x_row + p % pixels * m.x_pixel;
        one.y = cut.at + at;
        if (residual)
            one.residual = r.at + at;
        if (outer > 1 && blocks <= 2) {
            struct rt_mac head = one;
            head.outer = 1;
            head.last_lanes = lanes;
            head.residual = NULL;
            head.clamp = false;
            k->mac(&head);
            one.bias = NULL;
            one.outer--;
            one.x += m.x_outer;
            one.w += kh * kw * lanes * blocks * b;
        }
        k->mac(&one);
    }
    CHECK(memcmp(cut.at, y.at, y_len * sizeof(float)) == 0, "cut into pieces it is another");
    guarded_free(&x);
    guarded_free(&w);
    guarded_free(&y);
    guarded_free(&bias);
    guarded_free(&r);
    guarded_free(&cut);
    guarded_free(&was);
}

static void check_mac(const struct rt_kernels *k)
{
    const size_t b = (size_t)k->block;
    for (size_t pixels = 1; pixels <= (size_t)(2 * k->tile + 3); pixels++)
        for (size_t blocks = 1; blocks <= 2; blocks++)
            check_mac_of(k, pixels, blocks, 2, 1, 1, pixels % b + 1, pixels % 2, pixels % 3 == 0);
    for (size_t blocks = 3; blocks <= 17; blocks++)
        for (size_t pixels = 1; pixels <= 4; pixels++)
            check_mac_of(k, pixels, blocks, 1, 1, 1, 5, blocks % 2, pixels % 2);
    for (size_t kernel = 1; kernel <= 3; kernel++)
        for (size_t last = 1; last <= b; last += 3)
            check_mac_of(k, 7, 2, 2, kernel, 4 - kernel, last, kernel == 2, last == 1);
}

/* Rows that overlap in the input and lie apart in the output, with room between the pixels. */
static void check_depthwise_of(const struct rt_kernels *k, size_t pixels, size_t kh, size_t kw,
                               size_t stride, size_t dilation, bool clamp)
{
    const size_t b = (size_t)k->block;
    struct rt_depthwise d = {
        .pixels = pixels,
        .rows = 1 + pixels % 3,
        .x_pixel = stride * b,
        .x_kw = dilation * b,
        .x_kh = (pixels * stride + kw * dilation) * b,
        .y_pixel = b + pixels % 2 * 3,
        .w_kh = (kw + 1) * b,
        .kh = kh,
        .kw = kw,
        .clamp = clamp,
        .lo = -0.5f,
        .hi = 0.5f,
    };
    begin("%s depthwise pixels %zu rows %zu kernel %zux%zu stride %zu dilation %zu clamp %d",
          k->name, pixels, d.rows, kh, kw, stride, dilation, clamp);
    d.x_row = stride * d.x_kh;
    d.y_row = d.y_pixel * pixels + 2;
    const bool taps = kh > 0 && kw > 0;
    const size_t x_len = taps ? (d.rows - 1) * d.x_row + (pixels - 1) * d.x_pixel +
                                    (kh - 1) * d.x_kh + (kw - 1) * d.x_kw + b
                              : 0;
    const size_t y_len = (d.rows - 1) * d.y_row + (pixels - 1) * d.y_pixel + b;
    struct guarded x = guarded_noise(x_len);
    struct guarded w = guarded_noise(taps ? (kh - 1) * d.w_kh + kw * b : 0);
    struct guarded y = guarded_noise(y_len), bias = guarded_noise(b), was = guarded_floats(y_len);
    struct guarded one = guarded_floats(b);
    memcpy(was.at, y.at, y_len * sizeof(float));
    d.x = x.at;
    d.w = w.at;
    d.y = y.at;
    d.bias = bias.at;
    k->depthwise(&d);
    for (size_t q = 0; q < d.rows * pixels; q++) {
        const size_t row = q / pixels, p = q % pixels;
        const size_t from = taps ? row * d.x_row + p * d.x_pixel : 0;
        const size_t to = row * d.y_row + p * d.y_pixel;
        for (size_t l = 0; l < b; l++) {
            double sum = (double)bias.at[l];
            for (size_t i = 0; i < kh; i++)
                for (size_t j = 0; j < kw; j++)
                    sum += (double)x.at[from + i * d.x_kh + j * d.x_kw + l] *
                           (double)w.at[i * d.w_kh + j * b + l];
            if (clamp)
                sum = fmin(0.5, fmax(-0.5, sum));
            CHECK(fabs((double)y.at[to + l] - sum) <=
                      (double)(kh * kw + 4) * (double)FLT_EPSILON * (double)(kh * kw + 1),
                  "row %zu pixel %zu lane %zu is %g, want %g", row, p, l, (double)y.at[to + l],
                  sum);
            was.at[to + l] = y.at[to + l];
        }
        struct rt_depthwise alone = d;
        alone.pixels = alone.rows = 1;
        alone.x = x.at + from;
        alone.y = one.at;
        k->depthwise(&alone);
        CHECK(memcmp(one.at, y.at + to, b * sizeof(float)) == 0,
              "row %zu pixel %zu alone is another", row, p);
    }
    CHECK(memcmp(was.at, y.at, y_len * sizeof(float)) == 0, "writes between its pixels");
    guarded_free(&one);
    guarded_free(&was);
    guarded_free(&x);
    guarded_free(&w);
    guarded_free(&y);
    guarded_free(&bias);
}

static void check_depthwise(const struct rt_kernels *k)
{
    for (size_t pixels = 1; pixels <= 15; pixels++) {
        check_depthwise_of(k, pixels, 3, 3, 1, 1, pixels % 2);
        check_depthwise_of(k, pixels, 2, 3, 2, 1, pixels % 2);
        check_depthwise_of(k, pixels, 3, 3, 2, 1, false);
        check_depthwise_of(k, pixels, 5, 5, 1, 1, false);
        check_depthwise_of(k, pixels, 5, 5, 2, 1, true);
        check_depthwise_of(k, pixels, 7, 7, 1, 1, false);
        check_depthwise_of(k, pixels, 2, 5, 1, 1, true);
        check_depthwise_of(k, pixels, 1, 7, 1, 1, false);
        check_depthwise_of(k, pixels, 3, 2, 3, 2, true);
        check_depthwise_of(k, pixels, 0, 3, 1, 1, false);
        check_depthwise_of(k, pixels, 3, 0, 1, 1, false);
    }
}

/* Each lane has channels of its own: NaN in another lane must not get in. */
static void check_grouped_of(const struct rt_kernels *k, size_t pixels, size_t kh, size_t kw,
                             size_t stride, size_t dilation, size_t channels, bool clamp)
{
    const size_t b = (size_t)k->block;
    begin("%s grouped pixels %zu kernel %zux%zu stride %zu dilation %zu channels %zu clamp %d",
          k->name, pixels, kh, kw, stride, dilation, channels, clamp);
    struct rt_grouped g = {
        .pixels = pixels,
        .rows = 2,
        .x_pixel = stride * b,
        .x_row = b,
        .x_kw = dilation * b,
        .x_kh = (pixels * stride + kw * dilation) * b,
        .y_pixel = 2 * b,
        .y_row = b,
        .kh = kh,
        .kw = kw,
        .channels = channels,
        .clamp = clamp,
        .lo = -0.5f,
        .hi = 0.5f,
    };
    const size_t x_len = (pixels - 1) * g.x_pixel + (kh - 1) * g.x_kh + (kw - 1) * g.x_kw + 2 * b;
    struct guarded x = guarded_noise(x_len), w = guarded_noise(kh * kw * channels * b);
    struct guarded y = guarded_floats(2 * pixels * b), bias = guarded_noise(b);
    struct guarded lanes = guarded_floats(channels * b);
    int32_t *lane = (int32_t *)lanes.at;
    for (size_t c = 0; c < channels; c++)
        for (size_t l = 0; l < b; l++)
            lane[c * b + l] = (int32_t)((l / channels * channels + c) % b);
    /* The last group's first channel is NaN everywhere. */
    const size_t sick = (size_t)lane[b - 1];
    for (size_t i = sick; i < x_len; i += b)
        x.at[i] = NAN;
    g.x = x.at;
    g.w = w.at;
    g.y = y.at;
    g.bias = bias.at;
    g.lane = lane;
    k->grouped(&g);
    for (size_t p = 0; p < 2 * pixels; p++)
        for (size_t l = 0; l < b; l++) {
            const size_t from = p / 2 * g.x_pixel + p % 2 * g.x_row;
            const float *at = w.at;
            double sum = (double)bias.at[l];
            for (size_t i = 0; i < kh; i++)
                for (size_t c = 0; c < channels; c++)
                    for (size_t j = 0; j < kw; j++, at += b)
                        sum += (double)at[l] * (double)x.at[from + i * g.x_kh + j * g.x_kw +
                                                            (size_t)lane[c * b + l]];
            if (clamp && !isnan(sum))
                sum = fmin(0.5, fmax(-0.5, sum));
            const double terms = (double)(kh * kw * channels);
            const double got = (double)y.at[p * b + l];
            CHECK(isnan(sum) ? isnan(got)
                             : fabs(got - sum) <= (terms + 4) * (double)FLT_EPSILON * (terms + 1),
                  "pixel %zu row %zu lane %zu is %g, want %g", p / 2, p % 2, l, got, sum);
        }
    struct guarded one = guarded_floats(b);
    for (size_t p = 0; p < 2 * pixels; p++) {
        struct rt_grouped alone = g;
        alone.pixels = alone.rows = 1;
        alone.x = x.at + p / 2 * g.x_pixel + p % 2 * g.x_row;
        alone.y = one.at;
        k->grouped(&alone);
        CHECK(memcmp(one.at, y.at + p * b, b * sizeof(float)) == 0,
              "pixel %zu row %zu alone is another", p / 2, p % 2);
    }
    guarded_free(&one);
    guarded_free(&x);
    guarded_free(&w);
    guarded_free(&y);
    guarded_free(&bias);
    guarded_free(&lanes);
}

static void check_grouped(const struct rt_kernels *k)
{
    const size_t b = (size_t)k->block;
    for (size_t pixels = 1; pixels <= 15; pixels++) {
        for (size_t channels = 1; channels <= b / 2; channels *= 2) {
            check_grouped_of(k, pixels, 3, 3, 1, 1, channels, pixels % 2);
            check_grouped_of(k, pixels, 3, 3, 2, 1, channels, false);
        }
        check_grouped_of(k, pixels, 2, 3, 3, 2, 3, true);
        check_grouped_of(k, pixels, 5, 5, 1, 1, 4, false);
        check_grouped_of(k, pixels, 1, 1, 1, 1, 2, false);
    }
}

/* Lanes past the last channel are NaN. */
static void check_channel_norm_of(const struct rt_kernels *k, size_t pixels, size_t channels)
{
    const size_t b = (size_t)k->block, blocks = (channels + b - 1) / b, step = (pixels + 2) * b;
    begin("%s channel norm of %zu pixels and %zu channels", k->name, pixels, channels);
    struct guarded x = guarded_noise((blocks - 1) * step + pixels * b);
    struct guarded y = guarded_floats((blocks - 1) * step + pixels * b);
    for (size_t p = 0; p < pixels; p++)
        for (size_t c = channels; c < blocks * b; c++)
            x.at[c / b * step + p * b + c % b] = NAN;
    const struct rt_channel_norm n = { x.at, y.at, pixels, channels, step, 0.01f };
    k->channel_norm(&n);
    for (size_t p = 0; p < pixels; p++) {
        double mean = 0, variance = 0;
        for (size_t c = 0; c < channels; c++)
            mean += (double)x.at[c / b * step + p * b + c % b] / (double)channels;
        for (size_t c = 0; c < channels; c++) {
            const double d = (double)x.at[c / b * step + p * b + c % b] - mean;
            variance += d * d / (double)channels;
        }
        for (size_t c = 0; c < channels; c++) {
            const size_t at = c / b * step + p * b + c % b;
            const double want = ((double)x.at[at] - mean) / sqrt(variance + 0.01);
            CHECK(fabs((double)y.at[at] - want) <= 1e-5, "pixel %zu channel %zu is %g, want %g", p,
                  c, (double)y.at[at], want);
        }
        struct rt_channel_norm alone = n;
        struct guarded one = guarded_floats((blocks - 1) * step + b);
        alone.pixels = 1;
        alone.x += p * b;
        alone.y = one.at;
        k->channel_norm(&alone);
        CHECK(memcmp(one.at, y.at + p * b, (channels < b ? channels : b) * sizeof(float)) == 0,
              "pixel %zu alone is another", p);
        guarded_free(&one);
    }
    guarded_free(&x);
    guarded_free(&y);
}

static void check_means(const struct rt_kernels *k)
{
    const size_t b = (size_t)k->block;
    for (size_t pixels = 1; pixels <= 9; pixels++)
        for (size_t channels = 1; channels <= 2 * b + 1; channels += b / 2)
            check_channel_norm_of(k, pixels, channels);
    for (size_t pixels = 1; pixels <= 700; pixels += pixels < 20 ? 1 : 97) {
        begin("%s mean of %zu pixels", k->name, pixels);
        struct guarded x = guarded_noise(pixels * b), y = guarded_floats(b);
        k->mean_block(y.at, x.at, pixels);
        for (size_t l = 0; l < b; l++) {
            double mean = 0;
            for (size_t p = 0; p < pixels; p++)
                mean += (double)x.at[p * b + l] / (double)pixels;
            CHECK(fabs((double)y.at[l] - mean) <= 1e-6, "lane %zu is %g, want %g", l,
                  (double)y.at[l], mean);
        }
        guarded_free(&x);
        guarded_free(&y);
    }
}

static void check_level_slots(const struct rt_kernels *k)
{
    for (int act = 0; act < RT_N_ACTIVATIONS; act++)
        check_activation(k, (enum rt_activation)act);
    check_binary(k);
    check_affine(k);
    check_layout(k);
    check_pack(k);
    check_mac(k);
    check_depthwise(k);
    check_grouped(k);
    check_means(k);
}

/* In this order: each uses what the one before has. */
#include "tests/check_conv.inc"

#include "tests/check_conv_any.inc"

#include "tests/check_products.inc"

#include "tests/check_bench.inc"

static void check_level_operators(const struct rt_kernels *k)
{
    rt_kernels_use(k);
    check_convs();
    check_convs_any();
    check_gemms();
    check_matmuls();
    rt_kernels_use(NULL);
}

int main(int argc, char **argv)
{
    check_start();
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        bench();
        return 0;
    }
    for (int i = 0; check_level(i) != NULL; i++) {
        const long before = failed;
        check_level_slots(check_level(i));
        check_level_operators(check_level(i));
        printf("%s%s: %s\n", check_level(i)->name,
               check_level(i) == &rt_kernels_avx512_emulated ? " (emulated)" : "",
               failed == before ? "ok" : "FAILED");
    }
    return check_end();
}
