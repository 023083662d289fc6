/* Winograd's convolution against one in double precision: shapes, tails, paddings, epilogues, teams
 * and batches on every level. --bench times it beside the direct algorithm, in turns. */
#include "tests/check.h"

#include "tests/avx512_emulated.h"

#include "runtime/choose.h"
#include "runtime/ops/conv_winograd.h"

#include <float.h>
#include <stdbool.h>

/* The error that is allowed, in parts of the output's range. */
#define TOLERANCE 1e-5

/* A 3x3 convolution of stride 1. */
struct conv_case {
    int c, h, w, maps;
    int pad, pad_end;
};

/* A case's node, its tensors on the layout of the level in use, and the answers. */
struct subject {
    struct conv_case t;
    int64_t samples, oh, ow;
    float *x, *w, *gain, *bias, *residual, *scale; /* plain; gain of a map's weights, too */
    struct guarded bx, br;                         /* x and residual, blocked */
    struct rt_graph *g;
    struct rt_node *n;
    struct rt_conv conv;
};

static int64_t blocks_of(int64_t channels)
{
    return (channels + rt_kernels()->block - 1) / rt_kernels()->block;
}

/* [samples][channels][pixels] in blocks, with NaN in the lanes past the last channel. */
static struct guarded to_blocks(const float *x, int64_t samples, int64_t channels, int64_t pixels)
{
    const int64_t b = rt_kernels()->block, blocks = blocks_of(channels);
    struct guarded y = guarded_floats((size_t)(samples * blocks * pixels * b));
    for (int64_t i = 0; i < samples * blocks * pixels * b; i++) {
        const int64_t ch = i / (pixels * b) % blocks * b + i % b, n = i / (blocks * pixels * b);
        y.at[i] = ch < channels ? x[(n * channels + ch) * pixels + i / b % pixels] : NAN;
    }
    return y;
}

static float *noise_of(int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);
    fill(x, (size_t)n);
    return x;
}

static struct rt_attr pads_attr(const int64_t pads[4])
{
    return (struct rt_attr){ "pads", RT_ATTR_INTS, .n = 4, .ints = pads };
}

static void subject_init(struct subject *s, const struct conv_case *t, int64_t samples)
{
    static int64_t pads[4];
    static struct rt_attr attr;
    *s = (struct subject){ .t = *t, .samples = samples };
    pads[0] = pads[1] = t->pad;
    pads[2] = pads[3] = t->pad_end;
    attr = pads_attr(pads);
    s->oh = t->h + t->pad + t->pad_end - 2;
    s->ow = t->w + t->pad + t->pad_end - 2;
    s->x = noise_of(samples * t->c * t->h * t->w);
    s->w = noise_of((int64_t)t->maps * t->c * 9);
    s->gain = noise_of(t->maps);
    for (int i = 0; i < t->maps; i++)
        s->gain[i] = 1 + s->gain[i] / 2;
    s->bias = noise_of(blocks_of(t->maps) * rt_kernels()->block);
    s->residual = noise_of(samples * t->maps * s->oh * s->ow);
    s->scale = noise_of(t->maps);
    s->bx = to_blocks(s->x, samples, t->c, (int64_t)t->h * t->w);
    s->br = to_blocks(s->residual, samples, t->maps, s->oh * s->ow);
    s->g = rt_graph_create(0);
    s->g->opset = 17;
    s->g->batched = true;
    const struct rt_shape xs = rt_shape_of(4, (int64_t[]){ RT_BATCH, t->c, t->h, t->w });
    const struct rt_shape ws = rt_shape_of(4, (int64_t[]){ t->maps, t->c, 3, 3 });
    const struct rt_shape bs = rt_shape_of(1, (int64_t[]){ t->maps });
    const int v[] = {
        rt_graph_add_typed(s->g, RT_FLOAT, &xs),
        rt_graph_add_const(s->g, "w", &(struct rt_tensor){ RT_FLOAT, ws, s->w }),
        rt_graph_add_const(s->g, "b", &(struct rt_tensor){ RT_FLOAT, bs, s->bias }),
        rt_graph_add_value(s->g, "residual"),
    };
    const int node = rt_graph_add_node(s->g, &rt_op_Conv, "conv", 4, 1);
    s->n = &s->g->node[node];
    memcpy(s->n->in, v, sizeof v);
    s->n->out[0] = rt_graph_add_value(s->g, "y");
    s->n->attr = &attr;
    s->n->n_attr = 1;
    struct rt_error err = { .text = "" };
    enum rt_status status = s->n->op->infer(s->g, s->n, &err);
    if (status == RT_OK)
        status = rt_conv_init(&s->conv, s->g, s->n, false, &err);
    CHECK(status == RT_OK, "%s", err.text);
    s->n->op = s->n->op->blocked;
    s->g->value[v[0]].layout = s->g->value[s->n->out[0]].layout = RT_BLOCKED;
}

static void subject_reset(struct subject *s)
{
    free(s->x);
    free(s->w);
    free(s->gain);
    free(s->bias);
    free(s->residual);
    free(s->scale);
    guarded_free(&s->bx);
    guarded_free(&s->br);
    rt_graph_destroy(s->g);
}

enum steps { STEPS_NONE, STEPS_RELU, STEPS_ADD_CLIP, STEPS_REST, N_STEPS };

static void set_steps(struct subject *s, enum steps steps)
{
    struct rt_node *n = s->n;
    n->n_steps = 0;
    if (steps == STEPS_RELU)
        n->step[n->n_steps++] = (struct rt_step){ .kind = RT_STEP_ACTIVATION, .act = RT_ACT_RELU };
    if (steps == STEPS_REST)
        n->step[n->n_steps++] = (struct rt_step){ .kind = RT_STEP_PRELU, .scale = s->scale };
    if (steps == STEPS_ADD_CLIP || steps == STEPS_REST)
        n->step[n->n_steps++] = (struct rt_step){ .kind = RT_STEP_ADD, .arg = 3 };
    if (steps == STEPS_ADD_CLIP)
        n->step[n->n_steps++] =
            (struct rt_step){ .kind = RT_STEP_ACTIVATION, .act = RT_ACT_CLIP, .a = -1, .b = 2 };
}

static double apply_steps(enum steps steps, double v, double scale, double residual)
{
    if (steps == STEPS_RELU)
        return fmax(0, v);
    if (steps == STEPS_ADD_CLIP)
        return fmin(2, fmax(-1, v + residual));
    if (steps == STEPS_REST)
        return (v < 0 ? v * scale : v) + residual;
    return v;
}

struct team_ctx {
    const struct rt_call *call;
    const struct rt_winograd *state;
};

static void run_worker(void *ctx, const struct rt_worker *w)
{
    const struct team_ctx *t = ctx;
    rt_winograd_run(t->call, t->state, w);
}

/* The first samples of the subject by tiles of m x m, on a team: [samples][maps][pixels] by
 * malloc(). */
static float *convolve(struct subject *s, int m, int64_t samples, int threads)
{
    struct rt_build b = { .g = s->g, .max_batch = (int)samples, .threads = threads };
    b.arena = rt_arena_create(0);
    struct rt_error err = { .text = "" };
    struct rt_winograd *state = NULL;
    const struct rt_conv_weights w = { .w = s->w, .gain = s->gain };
    enum rt_status status = rt_winograd_prepare(&b, s->n, &s->conv, m, &w, s->bias, &state, &err);
    CHECK(status == RT_OK, "prepare: %s", err.text);
    const struct rt_shape xs = rt_shape_of(4, (int64_t[]){ samples, s->t.c, s->t.h, s->t.w });
    const struct rt_shape ys = rt_shape_of(4, (int64_t[]){ samples, s->t.maps, s->oh, s->ow });
    const int64_t block = rt_kernels()->block, blocks = blocks_of(s->t.maps);
    const int64_t pixels = s->oh * s->ow, floats = samples * s->t.maps * pixels;
    struct guarded y = guarded_floats((size_t)(samples * blocks * pixels * block));
    struct guarded scratch = guarded_floats(s->n->scratch / sizeof(float));
    memset(scratch.at, 0xff, s->n->scratch); /* NaN */
    const struct rt_tensor in[4] = { { RT_FLOAT, xs, s->bx.at }, [3] = { RT_FLOAT, ys, s->br.at } };
    struct rt_tensor out = { RT_FLOAT, ys, y.at };
    const struct rt_call call = { .node = s->n, .in = in, .out = &out, .scratch = scratch.at };
    rt_parallel(threads, run_worker, &(struct team_ctx){ &call, state });
    float *result = malloc((size_t)floats * sizeof *result);
    for (int64_t i = 0; i < floats; i++) {
        const int64_t ch = i / pixels % s->t.maps, n = i / pixels / s->t.maps;
        result[i] = y.at[((n * blocks + ch / block) * pixels + i % pixels) * block + ch % block];
    }
    guarded_free(&y);
    guarded_free(&scratch);
    rt_arena_destroy(b.arena);
    return result;
}

/* One sample by the definition, without steps. */
static double *reference(const struct subject *s, int64_t sample)
{
    const struct conv_case *t = &s->t;
    double *y = malloc((size_t)(t->maps * s->oh * s->ow) * sizeof *y);
    for (int64_t i = 0; i < t->maps * s->oh * s->ow; i++) {
        const int64_t ow = i % s->ow, oh = i / s->ow % s->oh, map = i / s->ow / s->oh;
        y[i] = (double)s->bias[map];
        for (int64_t c = 0; c < t->c; c++)
            for (int64_t k = 0; k < 9; k++) {
                const int64_t r = oh - t->pad + k / 3, l = ow - t->pad + k % 3;
                if (r >= 0 && r < t->h && l >= 0 && l < t->w)
                    y[i] += (double)s->gain[map] * (double)s->w[(map * t->c + c) * 9 + k] *
                            (double)s->x[((sample * t->c + c) * t->h + r) * t->w + l];
            }
    }
    return y;
}

static void check_values(const struct subject *s, enum steps steps, int64_t sample, const double *y,
                         const float *got)
{
    const int64_t pixels = s->oh * s->ow;
    double range = 1;
    for (int64_t i = 0; i < s->t.maps * pixels; i++)
        range = fmax(range, 2 * fabs(y[i]));
    for (int64_t i = 0; i < s->t.maps * pixels; i++) {
        const double want = apply_steps(steps, y[i], (double)s->scale[i / pixels],
                                        (double)s->residual[sample * s->t.maps * pixels + i]);
        CHECK(fabs((double)got[i] - want) <= TOLERANCE * range,
              "sample %lld map %lld at %lld,%lld is %g, want %g", (long long)sample,
              (long long)(i / pixels), (long long)(i % pixels / s->ow), (long long)(i % s->ow),
              (double)got[i], want);
    }
}

/* One sample alone on one thread against the definition; then all samples, and teams, against it
 * bit for bit. */
static void check_case(const struct conv_case *t, int64_t samples)
{
    struct subject s;
    subject_init(&s, t, samples);
    double *first = reference(&s, 0), *last = reference(&s, samples - 1);
    const size_t floats = (size_t)(t->maps * s.oh * s.ow);
    for (int m = 2; m <= 4; m += 2) {
        for (int steps = STEPS_NONE; steps < N_STEPS; steps++) {
            begin("%s winograd F(%d) %dx%dx%d -> %d pads %d,%d steps %d", rt_kernels()->name, m,
                  t->c, t->h, t->w, t->maps, t->pad, t->pad_end, steps);
            set_steps(&s, (enum steps)steps);
            float *one = convolve(&s, m, 1, 1);
            check_values(&s, (enum steps)steps, 0, first, one);
            for (int threads = 1; threads <= 3; threads++) {
                float *alone = convolve(&s, m, 1, threads);
                CHECK(memcmp(one, alone, floats * sizeof *one) == 0, "another on %d threads",
                      threads);
                free(alone);
                float *all = convolve(&s, m, samples, threads);
                CHECK(memcmp(one, all, floats * sizeof *one) == 0,
                      "another among %lld samples on %d threads", (long long)samples, threads);
                check_values(&s, (enum steps)steps, samples - 1, last,
                             all + (size_t)(samples - 1) * floats);
                free(all);
            }
            free(one);
        }
    }
    free(first);
    free(last);
    subject_reset(&s);
}

/* What a NaN or an infinity in one pixel does: every output that it should reach is not finite, and
 * none outside the tiles that it is an input of is touched. */
static void check_spread(float poison)
{
    const struct conv_case t = { 16, 13, 14, 16, 1, 1 };
    struct subject s;
    subject_init(&s, &t, 2);
    set_steps(&s, STEPS_NONE);
    const int64_t block = rt_kernels()->block, row = 6, column = 7;
    for (int m = 2; m <= 4; m += 2) {
        begin("%s winograd F(%d) with %g in a pixel", rt_kernels()->name, m, (double)poison);
        float *at = s.bx.at + (row * t.w + column) * block, was = *at;
        float *clean = convolve(&s, m, 2, 1);
        *at = poison;
        float *y = convolve(&s, m, 2, 1);
        *at = was;
        const int64_t pixels = s.oh * s.ow;
        for (int64_t i = 0; i < 2 * t.maps * pixels; i++) {
            const int64_t oh = i % pixels / s.ow, ow = i % s.ow;
            const bool first = i < t.maps * pixels;
            const bool near = first && llabs(oh - row) <= 1 && llabs(ow - column) <= 1;
            const bool tile = first && llabs(oh / m * m * 2 + m - 1 - 2 * row) <= m + 1 &&
                              llabs(ow / m * m * 2 + m - 1 - 2 * column) <= m + 1;
            CHECK(!near || !isfinite(y[i]), "output %lld,%lld is %g", (long long)oh, (long long)ow,
                  (double)y[i]);
            CHECK(tile || memcmp(&y[i], &clean[i], sizeof *y) == 0, "reaches output %lld,%lld",
                  (long long)oh, (long long)ow);
        }
        free(clean);
        free(y);
    }
    subject_reset(&s);
}

/* The side of the tiles that cost least in a model with so many bytes of constants; 0: direct. */
static int cheapest(const struct rt_conv *c, size_t constants)
{
    int best = 0;
    double least = INFINITY;
    for (int m = 0; m <= 4; m += 2) {
        const struct rt_choice way = { "", rt_winograd_cost(c, m), rt_winograd_bytes(c, m) };
        if (rt_winograd_can(c, m) && rt_choice_cost(&way, constants) < least) {
            least = rt_choice_cost(&way, constants);
            best = m;
        }
    }
    return best;
}

/* The choice is made by shapes alone; where exactness is asked for there is none. */
static void check_choice(void)
{
    static const struct {
        struct conv_case t;
        int m[2][3]; /* in a model of 1, 20 and 100 MiB, with vectors of 8 and of 16 */
    } table[] = {
        { { 64, 56, 56, 64, 1, 1 }, { { 4, 4, 4 }, { 4, 4, 4 } } },
        { { 256, 14, 14, 256, 1, 1 }, { { 4, 4, 2 }, { 4, 2, 2 } } },
        { { 512, 28, 28, 512, 1, 1 }, { { 4, 4, 4 }, { 4, 4, 4 } } },
        { { 512, 7, 7, 512, 1, 1 }, { { 4, 2, 2 }, { 2, 2, 0 } } },
        { { 128, 3, 3, 128, 1, 1 }, { { 0, 0, 0 }, { 0, 0, 0 } } },
        { { 1, 28, 28, 1, 1, 1 }, { { 0, 0, 0 }, { 0, 0, 0 } } },
        /* Too many weights for tiles of 4x4. */
        { { 700, 40, 40, 600, 1, 1 }, { { 2, 2, 2 }, { 2, 2, 2 } } },
    };
    const int64_t block = rt_kernels()->block;
    static const size_t constants[] = { 1 << 20, 20 << 20, 100 << 20 };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const struct conv_case *t = &table[i].t;
        struct rt_conv c = { .groups = 1, .channels = t->c, .maps = t->maps };
        for (int a = 0; a < 3; a++) {
            c.in[a] = c.out[a] = a == 0 ? 1 : t->h;
            c.kernel[a] = a == 0 ? 1 : 3;
            c.stride[a] = c.dilation[a] = 1;
        }
        begin("%s choice for %dx%dx%d -> %d", rt_kernels()->name, t->c, t->h, t->w, t->maps);
        for (int k = 0; k < 3 && block >= 8; k++)
            CHECK(cheapest(&c, constants[k]) == table[i].m[block / 16][k],
                  "in a model of %zu bytes is %d", constants[k], cheapest(&c, constants[k]));
        for (int axis = 1; axis < 3; axis++) {
            struct rt_conv other[3] = { c, c, c };
            other[0].stride[axis] = 2;
            other[1].dilation[axis] = 2;
            other[2].kernel[axis] = 5;
            for (int k = 0; k < 3; k++)
                CHECK(cheapest(&other[k], 0) == 0, "of what it cannot do is %d",
                      cheapest(&other[k], 0));
        }
    }
    for (int exact = 0; exact < 2; exact++) {
        const struct conv_case t = { 32, 16, 16, 32, 1, 1 };
        struct subject s;
        subject_init(&s, &t, 1);
        begin("%s exact %d", rt_kernels()->name, exact);
        struct rt_build b = { .g = s.g, .max_batch = 1, .threads = 1, .exact = exact };
        b.arena = rt_arena_create(0);
        struct rt_error err = { .text = "" };
        struct rt_choice way[RT_MAX_CHOICES];
        CHECK(s.n->op->choices(s.g, s.n, way) == 3, "has not three ways to be computed");
        s.n->choice = cheapest(&s.conv, 0) / 2;
        CHECK(s.n->op->prepare(&b, s.n, &err) == RT_OK, "%s", err.text);
        CHECK((strstr(s.n->algorithm, "winograd") == NULL) == (exact != 0), "is %s",
              s.n->algorithm);
        rt_arena_destroy(b.arena);
        subject_reset(&s);
    }
}

static void check_winograd(bool slow)
{
    static const struct conv_case table[] = {
        { 16, 8, 8, 16, 1, 1 },  { 1, 5, 5, 1, 1, 1 },     { 19, 7, 9, 17, 1, 1 },
        { 8, 1, 1, 8, 1, 1 },    { 33, 3, 3, 50, 0, 0 },   { 24, 6, 4, 40, 2, 2 },
        { 16, 4, 5, 8, 6, 6 },   { 20, 10, 11, 70, 0, 1 }, { 20, 10, 11, 9, 2, 0 },
        { 100, 7, 7, 33, 1, 1 }, { 64, 14, 14, 24, 1, 1 },
    };
    static const struct conv_case large[] = {
        { 72, 30, 33, 40, 1, 1 }, /* more tiles than a worker has room for */
        { 260, 12, 12, 300, 1, 1 },
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        check_case(&table[i], 5);
    for (size_t i = 0; !slow && i < sizeof large / sizeof *large; i++)
        check_case(&large[i], 2);
    for (int size = 1; size <= 20; size++) {
        const struct conv_case wide = { 9, 3, size, 10, 1, 1 }, high = { 9, size, 2, 10, 1, 1 };
        check_case(&wide, 2);
        check_case(&high, 2);
    }
    check_choice();
    check_spread(NAN);
    check_spread(INFINITY);
}

/* --- timing -------------------------------------------------------------------------------- */

struct timed {
    struct rt_build build;
    struct subject s;
    struct rt_winograd *state; /* NULL: direct */
    void *scratch;
    double best;
};

static void timed_init(struct timed *t, const struct conv_case *layer, int64_t samples, int m)
{
    subject_init(&t->s, layer, samples);
    set_steps(&t->s, STEPS_RELU);
    t->build = (struct rt_build){ .g = t->s.g, .max_batch = (int)samples, .threads = 1 };
    t->build.arena = rt_arena_create(0);
    t->build.exact = true;
    const struct rt_conv_weights w = { .w = t->s.w };
    t->state = NULL;
    if (m == 0)
        t->s.n->op->prepare(&t->build, t->s.n, NULL);
    else
        rt_winograd_prepare(&t->build, t->s.n, &t->s.conv, m, &w, t->s.bias, &t->state, NULL);
    t->scratch = rt_zalloc(t->s.n->scratch);
    t->best = 1e9;
}

static void timed_run(struct timed *t, float *y)
{
    const struct subject *s = &t->s;
    const struct rt_shape xs = rt_shape_of(4, (int64_t[]){ s->samples, s->t.c, s->t.h, s->t.w });
    const struct rt_shape ys = rt_shape_of(4, (int64_t[]){ s->samples, s->t.maps, s->oh, s->ow });
    const struct rt_tensor in[4] = { { RT_FLOAT, xs, s->bx.at } };
    struct rt_tensor out = { RT_FLOAT, ys, y };
    const struct rt_call call = { .node = s->n, .in = in, .out = &out, .scratch = t->scratch };
    const struct rt_worker one = { .id = 0, .count = 1 };
    const double from = seconds();
    if (t->state != NULL)
        rt_winograd_run(&call, t->state, &one);
    else
        s->n->op->run(&call, &one);
    t->best = fmin(t->best, seconds() - from);
}

static void timed_reset(struct timed *t)
{
    rt_free(t->scratch);
    rt_arena_destroy(t->build.arena);
    subject_reset(&t->s);
}

/* Direct, F(2x2) and F(4x4), in turns, with the caches full of something else before each when
 * cold. */
static void bench_layer(const struct conv_case *layer, int64_t samples)
{
    enum { COLD = 16 << 20 };
    static float *other;
    struct timed t[3];
    for (int i = 0; i < 3; i++)
        timed_init(&t[i], layer, samples, 2 * i);
    const int64_t pixels = t[0].s.oh * t[0].s.ow;
    const double flops = 18.0 * (double)(samples * layer->c * layer->maps * pixels);
    float *y = rt_zalloc((size_t)(samples * blocks_of(layer->maps) * rt_kernels()->block * pixels) *
                         sizeof *y);
    double warm[3];
    const double end = seconds() + 0.4;
    while (seconds() < end)
        for (int i = 0; i < 3; i++)
            timed_run(&t[i], y);
    for (int i = 0; i < 3; i++) {
        warm[i] = t[i].best;
        t[i].best = 1e9;
    }
    if (other == NULL)
        other = rt_zalloc(COLD * sizeof *other);
    for (int round = 0; round < 5; round++)
        for (int i = 0; i < 3; i++) {
            for (int k = 0; k < COLD; k += 16)
                other[k] += 1.0f;
            timed_run(&t[i], y);
        }
    const int chosen = cheapest(&t[0].s.conv, 20 << 20);
    printf("n%lld %3dx%3dx%3d -> %3d  direct %6.1f  F2 %6.1f  F4 %6.1f GFLOP/s | cold %6.1f %6.1f "
           "%6.1f | chosen %d, %.2f x direct, of the best %.2f\n",
           (long long)samples, layer->c, layer->h, layer->w, layer->maps, flops / warm[0] / 1e9,
           flops / warm[1] / 1e9, flops / warm[2] / 1e9, flops / t[0].best / 1e9,
           flops / t[1].best / 1e9, flops / t[2].best / 1e9, chosen, t[0].best / t[chosen / 2].best,
           fmin(t[0].best, fmin(t[1].best, t[2].best)) / t[chosen / 2].best);
    fflush(stdout);
    rt_free(y);
    for (int i = 0; i < 3; i++)
        timed_reset(&t[i]);
}

static void bench(int64_t samples)
{
    static const struct conv_case layer[] = {
        { 64, 56, 56, 64, 1, 1 },     { 128, 28, 28, 128, 1, 1 }, { 256, 14, 14, 256, 1, 1 },
        { 512, 7, 7, 512, 1, 1 },     { 64, 224, 224, 64, 1, 1 }, { 64, 112, 112, 128, 1, 1 },
        { 128, 112, 112, 128, 1, 1 }, { 128, 56, 56, 256, 1, 1 }, { 256, 56, 56, 256, 1, 1 },
        { 256, 28, 28, 512, 1, 1 },   { 512, 28, 28, 512, 1, 1 }, { 512, 14, 14, 512, 1, 1 },
        { 128, 56, 56, 32, 1, 1 },    { 128, 28, 28, 32, 1, 1 },  { 128, 14, 14, 32, 1, 1 },
        { 128, 7, 7, 32, 1, 1 },      { 16, 55, 55, 64, 1, 1 },   { 32, 27, 27, 128, 1, 1 },
        { 64, 13, 13, 256, 1, 1 },    { 96, 28, 28, 128, 1, 1 },  { 16, 28, 28, 32, 1, 1 },
        { 160, 7, 7, 320, 1, 1 },     { 64, 35, 35, 96, 1, 1 },   { 16, 32, 32, 16, 1, 1 },
        { 32, 16, 16, 32, 1, 1 },     { 64, 8, 8, 64, 1, 1 },     { 8, 28, 28, 8, 1, 1 },
        { 8, 56, 56, 16, 1, 1 },      { 16, 56, 56, 8, 1, 1 },    { 24, 14, 14, 24, 1, 1 },
        { 192, 4, 4, 192, 1, 1 },     { 256, 2, 2, 256, 1, 1 },   { 128, 3, 3, 128, 1, 1 },
        { 48, 5, 5, 48, 1, 1 },
    };
    for (size_t i = 0; i < sizeof layer / sizeof *layer; i++)
        bench_layer(&layer[i], samples);
}

int main(int argc, char **argv)
{
    check_start();
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        bench(argc > 2 ? atoi(argv[2]) : 1);
        return 0;
    }
    for (int i = 0; check_level(i) != NULL; i++) {
        const bool emulated = check_level(i) == &rt_kernels_avx512_emulated;
        const long before = failed;
        rt_kernels_use(check_level(i));
        check_winograd(emulated);
        printf("%s%s: %s\n", check_level(i)->name, emulated ? " (emulated)" : "",
               failed == before ? "ok" : "FAILED");
    }
    rt_kernels_use(NULL);
    return check_end();
}
