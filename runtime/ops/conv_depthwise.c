/* Depthwise convolution on channel-blocked tensors: a vector holds a pixel's channels, each of which
 * has weights of its own.
 *
 * Where windows lie inside the input, rows of outputs are one call; at the sides they hang over, and
 * the outputs of a column, which miss the same taps, are. Small planes are all sides: they are
 * copied with zeros around them first.
 *
 * The pointwise convolution before, which widens the tensor (MobileNet's "expand"), is run here
 * where it can be, piece by piece: what it makes would be the largest tensor around, and so never
 * leaves the second cache. Where planes are cut into strips of rows, rows that two of them see are
 * made twice. */
#include "runtime/ops/conv_depthwise.h"
#include "runtime/ops/conv_pieces.h"
#include "runtime/ops/steps.h"

#include <string.h>

/* Planes up to this width that are copied, at stride 1 alone: at 2 the copy would cost as much as
 * the sums. */
#define COPY_WIDTH 20
/* Floats that a copied plane may have, and that rows of outputs may until their steps are done:
 * they stay in the first cache. */
#define COPY_FLOATS (16 * 1024)
#define STRIP_FLOATS (4 * 1024)
/* Floats of a piece of what is streamed: a part of the second cache. */
#define PIECE_FLOATS (128 * 1024)
/* Pieces that each worker of a team should find. */
#define PIECES_EACH 4

struct rt_depthwise_conv {
    struct rt_conv c;
    struct rt_conv inner; /* the same on the copy, without padding */
    bool copied;
    float *w; /* [block][kh][kw][b] */
    const float *bias;
    int64_t blocks;
    int64_t strip_rows;
    size_t copy_floats;
    struct rt_conv_pieces pieces; /* of the input, if it is streamed; else without blocks */
    int64_t piece_rows;           /* of outputs, at most */
    size_t piece_floats;
};

bool rt_conv_is_depthwise(const struct rt_conv *c)
{
    return c->groups > 1 && c->groups == c->channels && c->maps == c->channels;
}

/* The input that outputs along an axis see, margins included. */
static int64_t seen(const struct rt_conv *c, int axis)
{
    return (c->out[axis] - 1) * c->stride[axis] + rt_conv_extent(c, axis);
}

static bool hangs_over(const struct rt_conv *c, int axis)
{
    return c->pad[axis] > 0 || seen(c, axis) > c->in[axis] + c->pad[axis];
}

static void choose_copy(struct rt_depthwise_conv *s, int64_t block)
{
    const struct rt_conv *c = &s->c;
    const int64_t floats = seen(c, 1) * seen(c, 2) * block;
    s->copied = (hangs_over(c, 1) || hangs_over(c, 2)) && c->stride[1] == 1 && c->stride[2] == 1 &&
                c->in[2] <= COPY_WIDTH && floats <= COPY_FLOATS;
    s->inner = *c;
    if (!s->copied)
        return;
    s->copy_floats = rt_align_up((size_t)floats * sizeof(float)) / sizeof(float);
    for (int axis = 1; axis < 3; axis++) {
        s->inner.in[axis] = seen(c, axis);
        s->inner.pad[axis] = s->inner.pad_end[axis] = 0;
    }
}

/* Input rows first..*first+*count-1 are seen by outputs row..row+rows-1. */
static void seen_rows(const struct rt_conv *c, int64_t row, int64_t rows, int64_t *first,
                      int64_t *count)
{
    const int64_t from = row * c->stride[1] - c->pad[1];
    const int64_t to = from + (rows - 1) * c->stride[1] + rt_conv_extent(c, 1);
    *first = from < 0 ? 0 : from < c->in[1] ? from : c->in[1];
    *count = (to < c->in[1] ? to : c->in[1]) - *first;
    if (*count < 0)
        *count = 0;
}

/* Whether strips of so many rows of outputs see few rows that others see too. */
static bool overlap_little(const struct rt_conv *c, int64_t rows)
{
    const int64_t own = rows * c->stride[1];
    return rows >= c->out[1] || 4 * (own - c->stride[1] + rt_conv_extent(c, 1)) <= 5 * own;
}

/* The rows of outputs that a piece may have; 0: there is no good number. */
static int64_t choose_piece_rows(const struct rt_depthwise_conv *s, int64_t row_floats)
{
    const struct rt_conv *c = &s->c;
    const int64_t around = rt_conv_extent(c, 1) - c->stride[1];
    int64_t rows = c->out[1];
    if (c->in[1] * row_floats > PIECE_FLOATS) {
        rows = (PIECE_FLOATS / row_floats - around) / c->stride[1];
        if (rows < 1 || s->copied)
            return 0;
        rows = rt_ceil_div(c->out[1], rt_ceil_div(c->out[1], rows)); /* of even size */
    }
    return overlap_little(c, rows) ? rows : 0;
}

/* Lets the node before be run by this one, if that pays. */
static void choose_stream(struct rt_build *b, struct rt_node *n, struct rt_depthwise_conv *s)
{
    struct rt_value *x = rt_in(b->g, n, RT_CONV_X);
    struct rt_node *feeder = x->producer >= 0 ? &b->g->node[x->producer] : NULL;
    if (feeder == NULL || feeder + 1 != n || x->uses != 1 || x->is_output || feeder->state == NULL)
        return;
    const struct rt_conv_pieces pieces = rt_conv_pieces(feeder);
    const int64_t row_floats = pieces.blocks * s->c.in[2] * rt_kernels()->block;
    const int64_t rows = pieces.blocks > 0 ? choose_piece_rows(s, row_floats) : 0;
    if (rows == 0)
        return;
    s->pieces = pieces;
    s->piece_rows = rows;
    const int64_t most = (rows - 1) * s->c.stride[1] + rt_conv_extent(&s->c, 1);
    s->piece_floats = (size_t)((most < s->c.in[1] ? most : s->c.in[1]) * row_floats);
    x->streamed = true;
    n->flops += feeder->flops; /* its time is this node's */
    feeder->flops = 0;
    feeder->algorithm = "in the next layer";
}

enum rt_status rt_depthwise_prepare(struct rt_build *b, struct rt_node *n, const struct rt_conv *c,
                                    const struct rt_conv_weights *w, const float *bias,
                                    struct rt_depthwise_conv **out, struct rt_error *err)
{
    const int64_t block = rt_kernels()->block, taps = rt_conv_taps(c);
    struct rt_depthwise_conv *s = rt_arena_alloc(b->arena, sizeof *s);
    if (s == NULL)
        return rt_fail_nomem(err, sizeof *s);
    s->c = *c;
    s->bias = bias;
    s->blocks = rt_ceil_div(c->maps, block);
    const size_t floats = (size_t)(s->blocks * taps * block);
    s->w = rt_arena_array(b->arena, floats, sizeof *s->w);
    if (s->w == NULL)
        return rt_fail_nomem(err, floats * sizeof *s->w);
    for (int64_t m = 0; m < c->maps; m++)
        for (int64_t k = 0; k < taps; k++)
            s->w[(m / block * taps + k) * block + m % block] =
                w->w[m * taps + k] * rt_conv_gain(w, m);
    choose_copy(s, block);
    s->strip_rows = STRIP_FLOATS / (c->out[2] * block);
    if (s->strip_rows < 1)
        s->strip_rows = 1;
    s->strip_rows =
        rt_ceil_div(c->out[1], rt_ceil_div(c->out[1], s->strip_rows)); /* of even size */
    n->weight_bytes = floats * sizeof *s->w;
    n->algorithm = "depthwise";
    choose_stream(b, n, s);
    rt_set_scratch(b, n, (s->copy_floats + s->piece_floats) * sizeof(float));
    *out = s;
    return RT_OK;
}

/* --- running ------------------------------------------------------------------------------ */

/* One plane: y is its first pixel, x the first one of its row first_row, above which none is read. */
struct plane {
    const struct rt_conv *c;
    struct rt_depthwise d; /* what is the same for all its calls */
    const float *x, *w;
    float *y;
    int64_t first_row;
};

/* The taps first..first+count-1 of output o along an axis see an input. */
static void valid_taps(const struct rt_conv *c, int axis, int64_t o, int64_t *first, int64_t *count)
{
    const int64_t at = o * c->stride[axis] - c->pad[axis], step = c->dilation[axis];
    *first = at < 0 ? rt_ceil_div(-at, step) : 0;
    const int64_t end = at < c->in[axis] ? rt_ceil_div(c->in[axis] - at, step) : 0;
    *count = (end < c->kernel[axis] ? end : c->kernel[axis]) - *first;
    if (*count < 0)
        *count = 0;
}

/* Outputs that see the same taps: rows x columns from (row, column) on, a column alone or rows of
 * several. */
static void cover(const struct plane *p, int64_t row, int64_t rows, int64_t column, int64_t columns)
{
    const struct rt_conv *c = p->c;
    const int64_t block = rt_kernels()->block;
    struct rt_depthwise d = p->d;
    int64_t i, taps, j, kw;
    if (rows <= 0 || columns <= 0)
        return;
    valid_taps(c, 1, row, &i, &taps);
    valid_taps(c, 2, column, &j, &kw);
    d.kh = (size_t)(kw > 0 ? taps : 0);
    d.kw = (size_t)kw;
    d.w = p->w + (i * c->kernel[2] + j) * block;
    d.x = p->x;
    if (d.kh > 0)
        d.x += ((row * c->stride[1] - c->pad[1] + i * c->dilation[1] - p->first_row) * c->in[2] +
                column * c->stride[2] - c->pad[2] + j * c->dilation[2]) * block;
    d.y = p->y + (row * c->out[2] + column) * block;
    if (columns > 1) {
        d.pixels = (size_t)columns;
        d.rows = (size_t)rows;
    } else {
        d.pixels = (size_t)rows;
        d.rows = 1;
        d.x_pixel = d.x_row;
        d.y_pixel = d.y_row;
    }
    rt_kernels()->depthwise(&d);
}

/* Rows row..row+rows-1, which see the same taps of a column. */
static void cover_rows(const struct plane *p, int64_t row, int64_t rows)
{
    const struct rt_conv *c = p->c;
    int64_t lo, hi, unused;
    rt_conv_valid(c, 2, 0, &lo, &unused);
    rt_conv_valid(c, 2, c->kernel[2] - 1, &unused, &hi);
    if (hi <= lo)
        lo = hi = c->out[2];
    for (int64_t o = 0; o < lo; o++)
        cover(p, row, rows, o, 1);
    cover(p, row, rows, lo, hi - lo);
    for (int64_t o = hi; o < c->out[2]; o++)
        cover(p, row, rows, o, 1);
}

static void run_rows(const struct plane *p, int64_t row, int64_t rows)
{
    const int64_t end = row + rows;
    int64_t lo, hi, unused;
    rt_conv_valid(p->c, 1, 0, &lo, &unused);
    rt_conv_valid(p->c, 1, p->c->kernel[1] - 1, &unused, &hi);
    for (; row < end && (row < lo || row >= hi); row++)
        cover_rows(p, row, 1);
    if (row < end && row < hi) {
        const int64_t whole = (hi < end ? hi : end) - row;
        cover_rows(p, row, whole);
        row += whole;
    }
    for (; row < end; row++)
        cover_rows(p, row, 1);
}

/* The plane's pixels amid the zeros of room, which no other call changes. */
static void copy_plane(const struct rt_depthwise_conv *s, float *room, const float *x)
{
    const struct rt_conv *c = &s->c;
    const int64_t block = rt_kernels()->block, width = s->inner.in[2];
    const int64_t rows = c->in[1] < s->inner.in[1] - c->pad[1] ? c->in[1]
                                                               : s->inner.in[1] - c->pad[1];
    const int64_t columns = c->in[2] < width - c->pad[2] ? c->in[2] : width - c->pad[2];
    for (int64_t r = 0; r < rows && columns > 0; r++)
        memcpy(room + ((r + c->pad[1]) * width + c->pad[2]) * block, x + r * c->in[2] * block,
               (size_t)(columns * block) * sizeof *room);
}

/* What the calls for a node's planes have in common. */
static struct plane start_planes(const struct rt_call *call, const struct rt_depthwise_conv *s)
{
    const struct rt_conv *c = &s->c;
    const struct rt_epilogue e = rt_epilogue_clamp(call->node);
    const int64_t block = rt_kernels()->block;
    return (struct plane){
        .c = &s->inner,
        .d = {
            .x_pixel = (size_t)(c->stride[2] * block),
            .x_row = (size_t)(c->stride[1] * s->inner.in[2] * block),
            .y_pixel = (size_t)block,
            .y_row = (size_t)(c->out[2] * block),
            .x_kh = (size_t)(c->dilation[1] * s->inner.in[2] * block),
            .x_kw = (size_t)(c->dilation[2] * block),
            .w_kh = (size_t)(c->kernel[2] * block),
            .clamp = e.clamp,
            .lo = e.lo,
            .hi = e.hi,
        },
    };
}

/* Rows of outputs of plane number `plane` of the output, whose input p shows. */
static void run_plane(const struct rt_call *call, const struct rt_depthwise_conv *s,
                      struct plane *p, int64_t plane, int64_t row, int64_t rows)
{
    const struct rt_conv *c = &s->c;
    const int64_t block = rt_kernels()->block, cb = plane % s->blocks;
    float *y = call->out[0].data;
    p->y = y + plane * c->out[1] * c->out[2] * block;
    p->w = s->w + cb * rt_conv_taps(c) * block;
    p->d.bias = s->bias + cb * block;
    run_rows(p, row, rows);
    const int64_t at = (plane * c->out[1] + row) * c->out[2] * block;
    rt_steps_blocked_from(call, rt_epilogue_clamp(call->node).rest, y + at, plane / s->blocks, cb,
                          at, rows * c->out[2]);
}

/* Strips of rows of the planes of an input that is there. */
static void run_whole(const struct rt_call *call, const struct rt_depthwise_conv *s, float *room,
                      const struct rt_worker *w)
{
    const struct rt_conv *c = &s->c;
    const int64_t in = c->in[1] * c->in[2] * rt_kernels()->block;
    const int64_t strips = rt_ceil_div(c->out[1], s->strip_rows);
    struct plane p = start_planes(call, s);
    int64_t i, end, copied = -1;
    rt_worker_share(w, call->in[RT_CONV_X].shape.dim[0] * s->blocks * strips, 1, &i, &end);
    for (; i < end; i++) {
        const int64_t plane = i / strips, row = i % strips * s->strip_rows;
        const float *x = (const float *)call->in[RT_CONV_X].data + plane * in;
        if (s->copied && copied != plane)
            copy_plane(s, room, x);
        copied = plane;
        p.x = s->copied ? room : x;
        run_plane(call, s, &p, plane, row, rt_least(s->strip_rows, c->out[1] - row));
    }
}

/* How a streamed input is cut for a team. */
struct cut {
    int64_t images, rows;   /* of a piece */
    int64_t pieces, strips; /* of an image */
    int64_t n;              /* pieces of all images */
};

static void count_pieces(const struct rt_depthwise_conv *s, int64_t images, struct cut *cut)
{
    cut->strips = rt_ceil_div(s->c.out[1], cut->rows);
    cut->n = rt_ceil_div(images, cut->images) * cut->strips * cut->pieces;
}

static struct cut cut_input(const struct rt_depthwise_conv *s, int64_t images, int team)
{
    const int64_t enough = team == 1 ? 1 : PIECES_EACH * (int64_t)team;
    struct cut cut = { .rows = s->piece_rows, .pieces = rt_ceil_div(s->blocks, s->pieces.blocks) };
    cut.images = images < 1 ? 1 : rt_least(s->pieces.images, images);
    count_pieces(s, images, &cut);
    while (cut.n < enough && cut.images > 1) {
        cut.images = rt_ceil_div(cut.images, 2);
        count_pieces(s, images, &cut);
    }
    while (cut.n < enough && cut.rows > 1 && !s->copied &&
           overlap_little(&s->c, rt_ceil_div(cut.rows, 2))) {
        cut.rows = rt_ceil_div(cut.rows, 2);
        count_pieces(s, images, &cut);
    }
    return cut;
}

/* Pieces of an input that the node before makes, each used at once. */
static void run_streamed(const struct rt_call *call, const struct rt_depthwise_conv *s, float *room,
                         const struct rt_worker *w)
{
    const struct rt_conv *c = &s->c;
    const int64_t images = call->out[0].shape.dim[0], block = rt_kernels()->block;
    const struct cut cut = cut_input(s, images, w->count);
    float *made = room + s->copy_floats;
    struct plane p = start_planes(call, s);
    int64_t i = 0, end = 0;
    while (rt_worker_claim(w, cut.n, 1, &i, &end)) {
        for (; i < end; i++) {
            const int64_t piece = i % cut.pieces, row = i / cut.pieces % cut.strips * cut.rows;
            const int64_t image = i / cut.pieces / cut.strips * cut.images;
            const int64_t rows = rt_least(cut.rows, c->out[1] - row);
            int64_t first, count;
            seen_rows(c, row, rows, &first, &count);
            const int64_t plane = count * c->in[2] * block, first_block = piece * s->pieces.blocks;
            p.first_row = s->copied ? 0 : first;
            for (int64_t k = image; k < rt_least(images, image + cut.images); k++) {
                if (count > 0) /* else the strip sees padding only */
                    rt_conv_make_piece(call->feeder, k, piece, first * c->in[2], count * c->in[2],
                                       made, plane);
                const int64_t blocks = rt_least(s->pieces.blocks, s->blocks - first_block);
                for (int64_t b = 0; b < blocks; b++) {
                    p.x = made + b * plane;
                    if (s->copied) {
                        copy_plane(s, room, p.x);
                        p.x = room;
                    }
                    for (int64_t r = row; r < row + rows; r += s->strip_rows)
                        run_plane(call, s, &p, k * s->blocks + first_block + b, r,
                                  rt_least(s->strip_rows, row + rows - r));
                }
            }
        }
    }
}

void rt_depthwise_run(const struct rt_call *call, const struct rt_depthwise_conv *s,
                      const struct rt_worker *w)
{
    float *room = (float *)call->scratch + (size_t)w->id * (s->copy_floats + s->piece_floats);
    memset(room, 0, s->copy_floats * sizeof *room);
    if (s->pieces.blocks > 0)
        run_streamed(call, s, room, w);
    else
        run_whole(call, s, room, w);
}
