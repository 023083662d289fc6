/* Winograd's algorithm on channel-blocked tensors.
 *
 * Tiles of all images are numbered in one row. Some tiles of input are transformed into v, each of
 * the n * n elements of a transformed tile is a matrix product of its own, [tiles x channels] by
 * [channels x maps], and each panel's sums z are transformed back while they are in cache:
 *
 *      v[element][block][tile][b]  x  u[panel][element][channel][maps of the panel]
 *                                  =  z[element][block of output][tile][b]
 *
 * A worker either does a share of the tiles for all panels, with v its own, or the team shares one
 * v and splits what there is to do with it, panels times tiles. */
#include "runtime/ops/conv_winograd.h"
#include "runtime/ops/steps.h"

#include <stdio.h>
#include <string.h>

/* Floats of v and of z that a worker has: together they fit in a second cache of a megabyte. */
#define V_FLOATS (192 * 1024)
#define Z_FLOATS (64 * 1024)
/* But no fewer tiles at a time than make it worth to stream the weights past them. */
#define FEW_TILES 24
/* Panels that are done at a time, at most, and floats of their weights for an element: more would
 * be a stream of pieces that lie far apart, with little to gain from tiles that stay in the first
 * cache meanwhile. */
#define MOST_PANELS 8
#define PANEL_FLOATS (8 * 1024)
/* Bytes that a layer's transformed weights may take, which are 16/9 or 4 times the original ones:
 * those of 512 x 512 channels by tiles of 4x4. Layers with more have small planes as a rule: there
 * the pace is set by memory, which would have to hold and to deliver so much more of them. */
#define MOST_WEIGHTS (36 << 20)
#define MAX_BLOCK 16

struct rt_winograd {
    struct rt_conv c;
    int m, elements;           /* n * n */
    int64_t rows, columns;     /* of tiles in an image */
    int64_t outer, last_lanes; /* blocks of input channels; channels of the last */
    int64_t blocks, panels;    /* of output channels */
    int64_t tiles;             /* that a worker has room for */
    int64_t group;             /* panels that are done at once, at most */
    int64_t room;              /* of z, in tiles of a panel */
    const float *bias;
    struct rt_conv_weights w;  /* as they come, until they are packed */
    float *u;
    size_t u_panel;            /* floats of a panel of two blocks */
    size_t v_floats, z_floats; /* of a worker */
};

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The distance of elements of so many floats each: an odd number of cache lines. Transforms go over
 * all elements at a time, which at powers of two would share a few sets of a cache. */
static size_t element_step(int64_t floats)
{
    return ((size_t)rt_ceil_div(floats, 16) | 1) * 16;
}

/* So many tiles, or as many more as the kernel's rows take anyway. */
static int64_t whole_rows(int64_t tiles)
{
    const int64_t row = rt_kernels()->tile;
    return rt_ceil_div(tiles, row) * row;
}

/* --- preparing --------------------------------------------------------------------------- */

/* Costs are in multiply-adds of vectors, measured: one transform of a block of a tile, by m; and
 * what a row of a matrix product takes to start and to store. Wider vectors change them little. */
#define COST_IN(m) ((m) == 2 ? 100.0 : 300.0)
#define COST_OUT(m) ((m) == 2 ? 80.0 : 220.0)
#define COST_START 8.0
/* The share of its time that the direct algorithm spends on multiply-adds. */
#define DIRECT_SHARE 0.9

/* Of an image, for each pair of an input channel and a block of output. */
static double cost_of_tiles(const struct rt_conv *c, int m)
{
    const double elements = (m + 2) * (m + 2);
    const double tiles = (double)(rt_ceil_div(c->out[1], m) * rt_ceil_div(c->out[2], m));
    return elements * tiles * (1 + COST_START / (double)c->channels) +
           tiles * (COST_IN(m) / (double)c->maps + COST_OUT(m) / (double)c->channels);
}

static double cost_of_direct(const struct rt_conv *c)
{
    return 9 * (double)(c->out[1] * c->out[2]) / DIRECT_SHARE;
}

size_t rt_winograd_bytes(const struct rt_conv *c, int m)
{
    const int elements = m == 0 ? 9 : (m + 2) * (m + 2);
    return (size_t)elements * (size_t)c->channels * (size_t)c->maps * sizeof(float);
}

bool rt_winograd_can(const struct rt_conv *c, int m)
{
    if (m == 0)
        return true;
    for (int a = 0; a < 3; a++)
        if (c->kernel[a] != (a == 0 ? 1 : 3) || c->stride[a] != 1 || c->dilation[a] != 1)
            return false;
    return c->groups == 1 && c->in[0] == 1 && rt_winograd_bytes(c, m) <= MOST_WEIGHTS;
}

double rt_winograd_cost(const struct rt_conv *c, int m)
{
    const double pairs = (double)c->channels * (double)rt_ceil_div(c->maps, rt_kernels()->block);
    return pairs * (m == 0 ? cost_of_direct(c) : cost_of_tiles(c, m));
}

/* Channels that are transformed at a time: what is written then are stretches, not single vectors
 * that lie so far apart that they share a few sets of a cache. */
#define PACK_CHANNELS 8

static void pack_panel(void *ctx, int64_t panel)
{
    const struct rt_winograd *s = ctx;
    const struct rt_kernels *k = rt_kernels();
    const int64_t block = k->block, blocks = rt_least(2, s->blocks - 2 * panel);
    const int64_t row = s->c.channels * 9;
    float taps[9 * PACK_CHANNELS * MAX_BLOCK], gain[MAX_BLOCK];
    int64_t at[9 * PACK_CHANNELS];
    float room[36 * PACK_CHANNELS * 2 * MAX_BLOCK];
    const size_t step = (size_t)(s->c.channels * 2 * block); /* also where a panel has one block */
    for (int64_t i = 0; i < 9 * PACK_CHANNELS; i++)
        at[i] = i * block;
    for (int64_t first = 0; first < s->c.channels; first += PACK_CHANNELS) {
        const int64_t channels = rt_least(PACK_CHANNELS, s->c.channels - first);
        const size_t stretch = (size_t)(channels * blocks * block);
        for (int64_t b = 0; b < blocks; b++) {
            const int64_t map = (2 * panel + b) * block, maps = rt_least(block, s->c.maps - map);
            for (int64_t l = 0; l < block; l++)
                gain[l] = l < maps ? rt_conv_gain(&s->w, map + l) : 0.0f;
            k->pack(taps, at, s->w.w + map * row + first * 9, (size_t)(channels * 9), (size_t)row,
                    (int)maps, gain);
            for (int64_t ch = 0; ch < channels; ch++)
                k->winograd_weights(room + (ch * blocks + b) * block, stretch,
                                    taps + ch * 9 * block, s->m);
        }
        float *u = s->u + (size_t)panel * s->u_panel + first * blocks * block;
        for (int64_t e = 0; e < s->elements; e++)
            memcpy(u + (size_t)e * step, room + (size_t)e * stretch, stretch * sizeof *u);
    }
}

enum rt_status rt_winograd_prepare(struct rt_build *b, struct rt_node *n, const struct rt_conv *c,
                                   int m, const struct rt_conv_weights *w, const float *bias,
                                   struct rt_winograd **out, struct rt_error *err)
{
    const int64_t block = rt_kernels()->block;
    struct rt_winograd *s = rt_arena_alloc(b->arena, sizeof *s);
    char *algorithm = rt_arena_alloc(b->arena, 32);
    if (s == NULL || algorithm == NULL)
        return rt_fail_nomem(err, sizeof *s);
    s->c = *c;
    s->m = m;
    s->elements = (m + 2) * (m + 2);
    s->rows = rt_ceil_div(c->out[1], m);
    s->columns = rt_ceil_div(c->out[2], m);
    s->outer = rt_ceil_div(c->channels, block);
    s->last_lanes = c->channels - (s->outer - 1) * block;
    s->blocks = rt_ceil_div(c->maps, block);
    s->panels = rt_ceil_div(s->blocks, 2);
    const int64_t samples = rt_dim_at(rt_in(b->g, n, RT_CONV_X)->shape.dim[0], b->max_batch);
    const int64_t row = rt_kernels()->tile, z_tiles = Z_FLOATS / (s->elements * 2 * block);
    s->tiles = most(FEW_TILES, V_FLOATS / (s->elements * s->outer * block));
    s->tiles = whole_rows(rt_least(s->tiles, samples * s->rows * s->columns));
    s->tiles = rt_least(s->tiles, z_tiles / row * row);
    s->group = rt_least(MOST_PANELS, most(1, PANEL_FLOATS / (s->c.channels * 2 * block)));
    s->room = s->tiles * rt_least(s->group, z_tiles / s->tiles);
    /* A line more an element: several workers' room is used as one, whose step is odd too. */
    s->v_floats = (size_t)s->elements * (element_step(s->outer * block * s->tiles) + 16);
    s->z_floats = (size_t)s->elements * (element_step(2 * block * s->room) + 16);
    rt_set_scratch(b, n, (s->v_floats + s->z_floats) * sizeof(float));
    s->bias = bias;
    s->u_panel = (size_t)(s->elements * c->channels * 2 * block);
    const size_t floats = (size_t)s->panels * s->u_panel;
    s->u = rt_arena_array(b->arena, floats, sizeof *s->u);
    if (s->u == NULL)
        return rt_fail_nomem(err, floats * sizeof *s->u);
    s->w = *w;
    n->weight_bytes = floats * sizeof *s->u;
    snprintf(algorithm, 32, "winograd F(%dx%d)", m, m);
    n->algorithm = algorithm;
    *out = s;
    return rt_build_pack(b, pack_panel, s, s->panels, err);
}

/* --- running ------------------------------------------------------------------------------ */

/* Transformed tiles first .. first + tiles - 1. */
struct view {
    float *v;
    size_t step; /* of elements */
    int64_t first, tiles;
};

static struct view view_at(const struct rt_winograd *s, float *v, int64_t first, int64_t tiles)
{
    return (struct view){ v, element_step(s->outer * rt_kernels()->block * tiles), first, tiles };
}

/* Tiles that lie side by side in one image. */
struct run {
    int64_t image, row, column; /* of the first, in tiles */
    int64_t tiles;
};

/* The run at the start of tiles first .. end - 1. */
static struct run run_at(const struct rt_winograd *s, int64_t first, int64_t end)
{
    struct run r = { .column = first % s->columns };
    r.row = first / s->columns % s->rows;
    r.image = first / s->columns / s->rows;
    r.tiles = rt_least(end - first, s->columns - r.column);
    return r;
}

/* Transforms block o of tiles first .. end - 1, which are among the view's. */
static void transform(const struct rt_call *call, const struct rt_winograd *s, const struct view *v,
                      int64_t o, int64_t first, int64_t end)
{
    const struct rt_conv *c = &s->c;
    const int64_t block = rt_kernels()->block, plane = c->in[1] * c->in[2] * block;
    while (first < end) {
        const struct run r = run_at(s, first, end);
        const struct rt_winograd_in t = {
            .x = (const float *)call->in[RT_CONV_X].data + (r.image * s->outer + o) * plane,
            .height = c->in[1],
            .width = c->in[2],
            .row = r.row * s->m - c->pad[1],
            .column = r.column * s->m - c->pad[2],
            .tiles = (size_t)r.tiles,
            .m = s->m,
            .v = v->v + (o * v->tiles + first - v->first) * block,
            .v_step = v->step,
        };
        rt_kernels()->winograd_input(&t);
        first += r.tiles;
    }
}

/* Block k of tiles first .. end - 1 from the sums z. */
static void transform_back(const struct rt_call *call, const struct rt_winograd *s,
                           const struct rt_epilogue *e, const float *z, size_t z_step, int64_t k,
                           int64_t first, int64_t end)
{
    const struct rt_conv *c = &s->c;
    const int64_t block = rt_kernels()->block, plane = c->out[1] * c->out[2] * block;
    while (first < end) {
        const struct run r = run_at(s, first, end);
        const int64_t at = (r.image * s->blocks + k) * plane;
        struct rt_winograd_out t = {
            .z = z,
            .z_step = z_step,
            .m = s->m,
            .bias = s->bias + k * block,
            .y = (float *)call->out[0].data + at,
            .height = c->out[1],
            .width = c->out[2],
            .row = r.row * s->m,
            .column = r.column * s->m,
            .tiles = (size_t)r.tiles,
            .clamp = e->clamp,
            .lo = e->lo,
            .hi = e->hi,
        };
        if (e->residual >= 0)
            t.residual = (const float *)call->in[e->residual].data + at;
        rt_kernels()->winograd_output(&t);
        if (e->rest < call->node->n_steps) {
            const int64_t width = rt_least(r.tiles * s->m, t.width - t.column);
            for (int64_t i = t.row; i < rt_least(t.row + s->m, t.height); i++) {
                const int64_t pixel = (i * t.width + t.column) * block;
                rt_steps_blocked_from(call, e->rest, t.y + pixel, r.image, k, at + pixel, width);
            }
        }
        first += r.tiles;
        z += r.tiles * block;
    }
}

/* Makes the outputs of tiles first .. end - 1 for panels panel .. last - 1. z is one worker's. */
static void multiply(const struct rt_call *call, const struct rt_winograd *s, const struct view *v,
                     const struct rt_epilogue *e, int64_t first, int64_t end, int64_t panel,
                     int64_t last, float *z)
{
    static const float zeros[MOST_PANELS * 2 * MAX_BLOCK];
    const int64_t block = rt_kernels()->block, tiles = end - first;
    const int64_t group = rt_least(s->group, s->room / tiles);
    for (int64_t next; panel < last; panel = next) {
        next = rt_least(last, panel + group);
        const int64_t blocks = rt_least(2 * next, s->blocks) - 2 * panel;
        const size_t z_step = element_step(blocks * block * tiles);
        struct rt_mac m = {
            .bias = zeros,
            .pixels = (size_t)tiles,
            .rows = 1,
            .blocks = (size_t)blocks,
            .x_pixel = (size_t)block,
            .x_outer = (size_t)(v->tiles * block),
            .y_pixel = (size_t)block,
            .y_block = (size_t)(tiles * block),
            .w_panel = s->u_panel,
            .outer = (size_t)s->outer,
            .kh = 1,
            .kw = 1,
            .lanes = (size_t)block,
            .last_lanes = (size_t)s->last_lanes,
        };
        for (int64_t i = 0; i < s->elements; i++) {
            m.x = v->v + (size_t)i * v->step + (first - v->first) * block;
            m.w = s->u + (size_t)panel * s->u_panel + i * s->c.channels * 2 * block;
            m.y = z + (size_t)i * z_step;
            m.ahead = i + 1 < s->elements ? m.w + s->c.channels * 2 * block
                                          : s->u + (size_t)next * s->u_panel;
            m.ahead_len =
                i + 1 < s->elements || next < last ? (size_t)(s->c.channels * 2 * block) : 0;
            rt_kernels()->mac(&m);
        }
        for (int64_t k = 0; k < blocks; k++)
            transform_back(call, s, e, z + (size_t)k * m.y_block, z_step, 2 * panel + k, first,
                           end);
    }
}

/* Each worker on its own: takes tiles, as many at a time as there is room for. */
static void run_apart(const struct rt_call *call, const struct rt_winograd *s,
                      const struct rt_epilogue *e, int64_t tiles, const struct rt_worker *w)
{
    float *room = (float *)call->scratch + (size_t)w->id * (s->v_floats + s->z_floats);
    /* Parts of even size, a number of them that the team can share evenly. */
    const int64_t rounds = most(1, rt_ceil_div(tiles, s->tiles * w->count));
    const int64_t each = whole_rows(rt_ceil_div(tiles, rounds * w->count));
    int64_t begin = 0, end = 0;
    while (rt_worker_claim(w, tiles, each, &begin, &end)) {
        for (int64_t first = begin; first < end; first += each) {
            const int64_t next = rt_least(end, first + each);
            const struct view v = view_at(s, room, first, next - first);
            for (int64_t o = 0; o < s->outer; o++)
                transform(call, s, &v, o, first, next);
            multiply(call, s, &v, e, first, next, 0, s->panels, room + s->v_floats);
        }
    }
}

/* The team together, all tiles at once. */
static void run_together(const struct rt_call *call, const struct rt_winograd *s,
                         const struct rt_epilogue *e, int64_t tiles, const struct rt_worker *w)
{
    float *z =
        (float *)call->scratch + (size_t)w->count * s->v_floats + (size_t)w->id * s->z_floats;
    const struct view v = view_at(s, call->scratch, 0, tiles);
    int64_t i, end;
    rt_worker_share(w, s->outer * tiles, 1, &i, &end);
    for (int64_t next; i < end; i = next) {
        next = rt_least(end, (i / tiles + 1) * tiles);
        transform(call, s, &v, i / tiles, i % tiles, i % tiles + next - i);
    }
    rt_worker_barrier(w);
    rt_worker_share(w, s->panels * tiles, 1, &i, &end);
    for (int64_t next; i < end; i = next) {
        const int64_t panel = i / tiles, first = i % tiles;
        if (first == 0 && end - i >= tiles && tiles <= s->room) {
            next = i + (end - i) / tiles * tiles;
            multiply(call, s, &v, e, 0, tiles, panel, next / tiles, z);
        } else {
            next = rt_least(rt_least(end, (panel + 1) * tiles), i + s->room);
            multiply(call, s, &v, e, first, first + next - i, panel, panel + 1, z);
        }
    }
}

void rt_winograd_run(const struct rt_call *call, const struct rt_winograd *s,
                     const struct rt_worker *w)
{
    const struct rt_epilogue e = rt_epilogue_of(call->node);
    const int64_t tiles = call->in[RT_CONV_X].shape.dim[0] * s->rows * s->columns;
    /* Apart, each worker reads all weights; together, each reads all of v. */
    if (w->count > 1 && tiles <= w->count * s->tiles &&
        (tiles < s->c.maps || tiles < w->count * FEW_TILES))
        run_together(call, s, &e, tiles, w);
    else
        run_apart(call, s, &e, tiles, w);
}
