/* Pools, sums and changes of scale of tensors of bytes. */
#include "runtime/ops/pixels.h"
#include "runtime/ops/pool.h"

struct state {
    struct rt_pixel_pool spec;
    bool has_window;
    struct rt_pool p;
};

static enum rt_status set_taps(struct rt_build *b, struct rt_pool *p, struct rt_error *err)
{
    for (int axis = 0; axis < 3; axis++) {
        struct rt_taps *taps = rt_arena_array(b->arena, (size_t)p->out[axis], sizeof *taps);
        if (taps == NULL)
            return rt_graph_nomem(b->g, err);
        for (int64_t o = 0; o < p->out[axis]; o++)
            taps[o] = rt_pool_taps(p, axis, o);
        p->taps[axis] = taps;
    }
    return RT_OK;
}

static enum rt_status prepare_pool(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    struct state *s = rt_arena_alloc(b->arena, sizeof *s);
    if (s == NULL)
        return rt_graph_nomem(b->g, err);
    s->spec = *(const struct rt_pixel_pool *)n->state;
    s->has_window = s->spec.from != NULL;
    n->state = s;
    n->algorithm = "int8";
    if (!s->has_window)
        return RT_OK;
    enum rt_status status = rt_pool_init(&s->p, s->spec.from, &rt_in(b->g, n, 0)->shape, err);
    return status == RT_OK ? set_taps(b, &s->p, err) : status;
}

static struct rt_qwindow start_window(const struct rt_pixel_pool *p)
{
    return (struct rt_qwindow){
        .factor = p->x_scale / p->y_scale,
        .x_zero = p->x_zero,
        .zero = p->zero,
        .lo = p->lo,
        .hi = p->hi,
    };
}

/* The mean of count numbers: their sum is divided once, with the scales. */
static void set_count(struct rt_qwindow *t, const struct rt_pixel_pool *p, int64_t taps,
                      int64_t count)
{
    t->factor = p->x_scale / ((float)(count > 0 ? count : 1) * p->y_scale);
    t->x_zero = p->x_zero * (int32_t)taps;
}

/* The outputs from ow on whose windows have as many taps in the input, and as many in all: they are
 * one call. */
static int64_t alike(const struct rt_pool *p, int64_t ow)
{
    const struct rt_taps *t = p->taps[2];
    int64_t end = ow + 1;
    while (end < p->out[2] && t[end].taps == t[ow].taps && t[end].padded == t[ow].padded &&
           t[end].begin - t[end - 1].begin == p->stride[2])
        end++;
    return end - ow;
}

static void run_windows(const struct rt_call *c, const struct state *s, const struct rt_worker *w)
{
    const struct rt_pool *p = &s->p;
    const struct rt_integer_kernels *k = rt_integer_kernels();
    const int64_t bytes = rt_pixel_bytes(c->in[0].shape.dim[1]), rows = p->out[1];
    struct rt_qwindow t = start_window(&s->spec);
    t.channels = t.y_pixel = (size_t)bytes;
    t.x_pixel = (size_t)(p->stride[2] * bytes);
    t.x_kh = (size_t)(p->dilation[1] * p->in[2] * bytes);
    t.x_kw = (size_t)(p->dilation[2] * bytes);
    int64_t i, end;
    rt_worker_share(w, c->in[0].shape.dim[0] * rows, 1, &i, &end);
    for (; i < end; i++) {
        const uint8_t *x = (const uint8_t *)c->in[0].data + i / rows * p->in[1] * p->in[2] * bytes;
        uint8_t *y = (uint8_t *)c->out[0].data + i * p->out[2] * bytes;
        const struct rt_taps h = p->taps[1][i % rows];
        for (int64_t ow = 0; ow < p->out[2]; ow += (int64_t)t.pixels) {
            const struct rt_taps v = p->taps[2][ow];
            t.pixels = (size_t)alike(p, ow);
            t.kh = (size_t)(v.taps > 0 ? h.taps : 0);
            t.kw = (size_t)v.taps;
            t.x = t.kh > 0 ? x + (h.begin * p->in[2] + v.begin) * bytes : x;
            t.y = y + ow * bytes;
            if (s->spec.max) {
                k->max_pool(&t);
                continue;
            }
            set_count(&t, &s->spec, h.taps * v.taps,
                      p->count_pads ? h.padded * v.padded : h.taps * v.taps);
            k->mean_pool(&t);
        }
    }
}

/* All pixels of an image, or each on its own; blocks of channels are shared out. */
static void run_pool(const struct rt_call *c, const struct rt_worker *w)
{
    const struct state *s = c->node->state;
    if (s->has_window) {
        run_windows(c, s, w);
        return;
    }
    const struct rt_integer_kernels *k = rt_integer_kernels();
    const struct rt_shape *shape = &c->in[0].shape;
    const int64_t bytes = rt_pixel_bytes(shape->dim[1]);
    const int64_t pixels = rt_shape_range(shape, 2, shape->rank),
                  blocks = bytes / RT_PIXEL_CHANNELS;
    struct rt_qwindow t = start_window(&s->spec);
    t.channels = RT_PIXEL_CHANNELS;
    t.x_pixel = t.x_kw = t.y_pixel = (size_t)bytes;
    t.kh = t.kw = t.pixels = 1;
    if (s->spec.max) {
        t.pixels = (size_t)pixels;
    } else {
        t.kw = (size_t)pixels;
        set_count(&t, &s->spec, pixels, pixels);
    }
    int64_t i, end;
    rt_worker_share(w, shape->dim[0] * blocks, 1, &i, &end);
    for (; i < end; i++) {
        const int64_t at = i % blocks * RT_PIXEL_CHANNELS;
        t.x = (const uint8_t *)c->in[0].data + i / blocks * pixels * bytes + at;
        t.y = (uint8_t *)c->out[0].data + i / blocks * (int64_t)t.pixels * bytes + at;
        if (s->spec.max)
            k->max_pool(&t);
        else
            k->mean_pool(&t);
    }
}

static enum rt_status prepare_add(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    struct rt_pixel_add *s = rt_arena_alloc(b->arena, sizeof *s);
    if (s == NULL)
        return rt_fail_nomem(err, sizeof *s);
    *s = *(const struct rt_pixel_add *)n->state;
    n->state = s;
    n->algorithm = "int8";
    return RT_OK;
}

static void run_add(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_pixel_add *s = c->node->state;
    int64_t at, end;
    rt_worker_share(w, rt_pixel_count(&c->out[0].shape) * rt_pixel_bytes(c->out[0].shape.dim[1]),
                    64, &at, &end);
    rt_integer_kernels()->add(&(struct rt_qadd){
        .a = (const uint8_t *)c->in[0].data + at,
        .b = (const uint8_t *)c->in[1].data + at,
        .y = (uint8_t *)c->out[0].data + at,
        .n = (size_t)(end - at),
        .a_factor = s->a_factor,
        .b_factor = s->b_factor,
        .a_zero = s->a_zero,
        .b_zero = s->b_zero,
        .zero = s->zero,
        .lo = s->lo,
        .hi = s->hi,
    });
}

#define OPERATOR(x, text, inputs, prepare_fn, run_fn)                                              \
    const struct rt_op rt_op_##x = { .name = text,                                                 \
                                     .domain = "ai.convd",                                         \
                                     .min_in = inputs,                                             \
                                     .max_in = inputs,                                             \
                                     .min_out = 1,                                                 \
                                     .max_out = 1,                                                 \
                                     .infer = rt_pixels_infer,                                     \
                                     .prepare = prepare_fn,                                        \
                                     .run = run_fn }

OPERATOR(MaxPoolPixels, "MaxPool", 1, prepare_pool, run_pool);
OPERATOR(AveragePoolPixels, "AveragePool", 1, prepare_pool, run_pool);
OPERATOR(GlobalAveragePoolPixels, "GlobalAveragePool", 1, prepare_pool, run_pool);
OPERATOR(RescalePixels, "Rescale", 1, prepare_pool, run_pool);
OPERATOR(AddPixels, "Add", 2, prepare_add, run_add);
