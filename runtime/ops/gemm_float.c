/* The float matrix product on rt_mac: columns of the right matrix packed in panels of two vectors,
 * rows of the left in strips that stay in the second cache. A sum's order is that of k, whatever
 * the number of rows. */
#include "runtime/ops/gemm.h"
#include "runtime/ops/steps.h"

#include <stdio.h>
#include <string.h>

/* Floats of left that a strip of rows may have; k that a chunk of a panel may have, so that it
 * stays in the first cache while the strip passes by. */
#define STRIP_FLOATS (64 * 1024)
#define CHUNK_K 256
/* With so few rows there is nothing to keep: panels are streamed side by side. */
#define FEW_ROWS 3
/* Rows of the last panel that are done aside, where not all of its columns exist. */
#define ASIDE_ROWS 28
#define MAX_PANEL 32

static int64_t panel_columns(void)
{
    return 2 * rt_kernels()->block;
}

size_t rt_gemm_packed(int64_t k, int64_t n)
{
    return (size_t)(rt_ceil_div(n, panel_columns()) * panel_columns() * k);
}

/* k that are transposed at a time. */
#define PACK_K 256

/* The columns of one vector, each a stretch of memory, times alpha. */
static void pack_turned(float *to, const struct rt_product *p, const rt_float_anywhere *right,
                        int64_t columns, int64_t pitch, float alpha)
{
    const struct rt_kernels *kernels = rt_kernels();
    const int64_t block = kernels->block;
    float turned[PACK_K * MAX_PANEL / 2];
    for (int64_t k = 0; k < p->k; k += PACK_K) {
        const int64_t count = rt_least(PACK_K, p->k - k);
        kernels->to_blocked(turned, right + k, (size_t)count, (size_t)p->right_n, (int)columns);
        for (int64_t i = 0; i < count; i++, to += pitch)
            for (int64_t l = 0; l < block; l++)
                to[l] = alpha * turned[i * block + l];
    }
}

/* [k][blocks of the panel][b]; columns that do not exist are 0. */
void rt_gemm_pack_panel(float *to, const struct rt_product *p, const rt_float_anywhere *right,
                        int64_t panel, float alpha)
{
    const int64_t block = rt_kernels()->block, first = panel * 2 * block;
    const int64_t columns = p->n - first > block ? 2 * block : block;
    const int64_t real = rt_least(columns, p->n - first);
    right += first * p->right_n;
    if (p->right_k == 1) {
        for (int64_t c = 0; c < real; c += block)
            pack_turned(to + c, p, right + c * p->right_n, rt_least(block, real - c), columns,
                        alpha);
        return;
    }
    for (int64_t k = 0; k < p->k; k++, to += columns) {
        const rt_float_anywhere *from = right + k * p->right_k;
        for (int64_t i = 0; i < real; i++)
            to[i] = alpha * from[i];
        for (int64_t i = real; i < columns; i++)
            to[i] = 0.0f;
    }
}

static void pack_later(void *ctx, int64_t piece)
{
    const struct rt_gemm *g = ctx;
    const struct rt_product *p = &g->packing;
    const int64_t panels = rt_ceil_div(p->n, panel_columns());
    const int64_t matrix = piece / panels, panel = piece % panels;
    float *to = g->packed + (size_t)matrix * rt_gemm_packed(p->k, p->n);
    rt_gemm_pack_panel(to + panel * panel_columns() * p->k, p, g->unpacked + matrix * p->k * p->n,
                       panel, g->alpha);
}

enum rt_status rt_gemm_keep_right(struct rt_build *b, struct rt_node *n, struct rt_gemm *g,
                                  const struct rt_product *p, struct rt_error *err)
{
    const struct rt_value *right = &b->g->value[n->in[1]];
    const int64_t matrices = rt_shape_range(&right->shape, 0, right->shape.rank - 2);
    const size_t floats = (size_t)matrices * rt_gemm_packed(p->k, p->n);
    g->packed = rt_arena_array(b->arena, floats, sizeof *g->packed);
    if (g->packed == NULL)
        return rt_fail_nomem(err, floats * sizeof *g->packed);
    g->packing = *p;
    g->unpacked = rt_gemm_elements(right);
    g->right = right->shape;
    n->weight_bytes = floats * sizeof *g->packed;
    n->in[1] = -1;
    return rt_build_pack(b, pack_later, g, matrices * rt_ceil_div(p->n, panel_columns()), err);
}

float *rt_gemm_columns(struct rt_arena *arena, const float *columns, int64_t n, float by)
{
    float *room = rt_arena_array(arena, (size_t)(rt_ceil_div(n, panel_columns()) * panel_columns()),
                                 sizeof *room);
    for (int64_t i = 0; room != NULL && columns != NULL && i < n; i++)
        room[i] = columns[i] * by;
    return room;
}

size_t rt_gemm_scratch(int64_t k)
{
    return rt_align_up((size_t)(k * panel_columns()) * sizeof(float));
}

const char *rt_gemm_algorithm(struct rt_arena *arena)
{
    char *text = rt_arena_alloc(arena, 32);
    if (text != NULL)
        snprintf(text, 32, "gemm %dx%d", rt_kernels()->tile, (int)panel_columns());
    return text;
}

/* Rows and panels of one pair of matrices. */
struct piece {
    const float *left;                /* its first row */
    const float *right;               /* its first panel, packed */
    float *out;                       /* its first row, column 0 of the matrix */
    int64_t row, rows, panel, panels; /* row counts from the first matrix of the batch on */
};

/* The steps from first on, for len elements of row from column on. */
static void finish(const struct rt_call *c, int first, float *y, int64_t row, int64_t column,
                   int64_t n, int64_t len)
{
    if (first >= c->node->n_steps)
        return;
    const struct rt_shape *s = &c->out[0].shape;
    const int64_t offset = row * n + column;
    if (s->rank == 2) {
        rt_steps_channels_from(c, first, y, row, column, offset, len);
    } else if (s->rank < 2) {
        rt_steps_plain_from(c, first, y, 0, 0, offset, len);
    } else {
        /* Axis 1 lies above a row: all of it is one channel. */
        const int64_t channel = offset / rt_shape_range(s, 2, s->rank);
        rt_steps_plain_from(c, first, y, channel / s->dim[1], channel % s->dim[1], offset, len);
    }
}

/* The sums over k of a piece, where out has row_floats a row. */
static void multiply(struct rt_mac *m, const struct rt_product *p, const struct piece *piece,
                     const struct rt_epilogue *e, const float *columns, const float *residual)
{
    const int64_t block = rt_kernels()->block;
    const int64_t chunk = piece->rows <= FEW_ROWS ? p->k : CHUNK_K;
    m->pixels = (size_t)piece->rows;
    m->rows = 1;
    m->w_panel = (size_t)(panel_columns() * p->k);
    m->x_pixel = (size_t)p->left_m;
    m->y_block = (size_t)block;
    m->kh = m->kw = 1;
    m->bias = columns;
    const size_t panel_step = m->blocks == 1 ? (size_t)block : (size_t)panel_columns();
    for (int64_t k = 0; k < p->k || k == 0; k += chunk) {
        const size_t len = (size_t)rt_least(chunk, p->k - k);
        m->x = piece->left + k * p->left_k;
        m->w = piece->right + (size_t)k * panel_step;
        if (p->left_k == 1) {
            m->outer = 1;
            m->lanes = m->last_lanes = len;
        } else { /* transposed: one k after the other */
            m->outer = len;
            m->x_outer = (size_t)p->left_k;
            m->lanes = m->last_lanes = 1;
        }
        if (k + chunk >= p->k && e != NULL) {
            m->residual = residual;
            m->clamp = e->clamp;
            m->lo = e->lo;
            m->hi = e->hi;
        }
        rt_kernels()->mac(m);
        m->bias = NULL;
    }
}

/* The piece's last block where some of its columns do not exist. */
static void run_aside(const struct rt_call *c, const struct rt_gemm *g, const struct rt_product *p,
                      const struct piece *piece)
{
    float room[ASIDE_ROWS * MAX_PANEL];
    const int64_t block = rt_kernels()->block, first = piece->panel * panel_columns();
    const int64_t columns = p->n - first > block ? 2 * block : block;
    for (int64_t r = 0; r < piece->rows; r += ASIDE_ROWS) {
        struct piece part = *piece;
        part.rows = rt_least(ASIDE_ROWS, piece->rows - r);
        part.left += r * p->left_m;
        float *out = piece->out + r * p->n + first;
        const size_t real = (size_t)(p->n - first);
        if (g->columns == NULL) {
            memset(room, 0, sizeof room);
            for (int64_t i = 0; i < part.rows; i++)
                memcpy(room + i * columns, out + i * p->n, real * sizeof *room);
        }
        struct rt_mac m = { .blocks = (size_t)(columns / block),
                            .y = room,
                            .y_pixel = (size_t)columns };
        multiply(&m, p, &part, NULL, g->columns != NULL ? g->columns + first : NULL, NULL);
        for (int64_t i = 0; i < part.rows; i++) {
            memcpy(out + i * p->n, room + i * columns, real * sizeof *room);
            finish(c, 0, out + i * p->n, piece->row + r + i, first, p->n, (int64_t)real);
        }
    }
}

static void run_piece(const struct rt_call *c, const struct rt_gemm *g, const struct rt_product *p,
                      struct piece piece, rt_start_fn *start)
{
    const int64_t block = rt_kernels()->block, first = piece.panel * panel_columns();
    const int64_t columns = rt_least(p->n - first, piece.panels * panel_columns());
    const struct rt_epilogue e = rt_epilogue_of(c->node);
    if (g->columns == NULL)
        for (int64_t r = 0; r < piece.rows; r++)
            start(c, piece.out + r * p->n + first, (piece.row + r) * p->n + first, columns);
    /* A last panel with columns that do not exist is done aside. */
    int64_t whole = columns / panel_columns();
    const bool one_block = columns % panel_columns() == block;
    const bool aside = columns % panel_columns() != 0 && !one_block;
    const int64_t len = columns - (aside ? columns % panel_columns() : 0);
    if (len > 0) {
        struct rt_mac m = {
            .blocks = (size_t)(2 * whole + one_block),
            .y = piece.out + first,
            .y_pixel = (size_t)p->n,
        };
        const float *residual = NULL;
        if (e.residual >= 0)
            residual = (const float *)c->in[e.residual].data + piece.row * p->n + first;
        multiply(&m, p, &piece, &e, g->columns != NULL ? g->columns + first : NULL, residual);
        for (int64_t r = 0; r < piece.rows; r++)
            finish(c, e.rest, piece.out + r * p->n + first, piece.row + r, first, p->n, len);
    }
    if (aside) {
        piece.panel += whole;
        piece.right += whole * panel_columns() * p->k;
        run_aside(c, g, p, &piece);
    }
}

void rt_gemm_run(const struct rt_call *c, const struct rt_worker *w, const struct rt_gemm *g,
                 const struct rt_product *p, rt_start_fn *start)
{
    const int64_t panels = rt_ceil_div(p->n, panel_columns()), tile = rt_kernels()->tile;
    const int64_t enough = w->count == 1 ? 1 : 8 * (int64_t)w->count;
    const bool few = p->m <= FEW_ROWS;
    int64_t rows = p->k > 0 ? STRIP_FLOATS / p->k / tile * tile : p->m;
    if (rows < 4 * tile)
        rows = 4 * tile;
    if (g->packed == NULL && rows < p->m / 4)
        rows = p->m / 4; /* each strip packs the panel again */
    rows = rt_least(rows, p->m);
    while (rows > tile && p->batches * panels * rt_ceil_div(p->m, rows) < enough)
        rows = rt_ceil_div(rows, 2 * tile) * tile;
    if (p->m == 0 || p->n == 0)
        return;
    const int64_t strips = rt_ceil_div(p->m, rows);
    const size_t packed = rt_gemm_packed(p->k, p->n), panel = (size_t)(panel_columns() * p->k);
    float *room = NULL;
    if (g->packed == NULL)
        /* cppcheck-suppress invalidPointerCast ; memory without a type */
        room = (float *)((char *)c->scratch + (size_t)w->id * rt_gemm_scratch(p->k));
    int64_t held = -1, begin, end;
    rt_worker_share(w, p->batches * strips * panels, 1, &begin, &end);
    for (int64_t item = begin; item < end;) {
        const int64_t batch = item / (strips * panels), in_batch = item % (strips * panels);
        struct piece piece = { .panels = 1 };
        int64_t strip;
        if (g->packed != NULL) {
            strip = in_batch / panels;
            piece.panel = in_batch % panels;
            if (few)
                piece.panels = rt_least(panels - piece.panel, end - item);
            piece.right = g->packed + (size_t)rt_product_matrix(p, p->right_batch, batch) * packed +
                          (size_t)piece.panel * panel;
        } else {
            piece.panel = in_batch / strips;
            strip = in_batch % strips;
            piece.right = room;
            if (held != batch * panels + piece.panel) {
                const float *right = c->in[1].data;
                right += rt_product_matrix(p, p->right_batch, batch) * p->k * p->n;
                rt_gemm_pack_panel(room, p, right, piece.panel, g->alpha);
                held = batch * panels + piece.panel;
            }
        }
        piece.rows = rt_least(rows, p->m - strip * rows);
        piece.row = batch * p->m + strip * rows;
        piece.left = (const float *)c->in[0].data +
                     rt_product_matrix(p, p->left_batch, batch) * p->m * p->k +
                     strip * rows * p->left_m;
        piece.out = (float *)c->out[0].data + piece.row * p->n;
        run_piece(c, g, p, piece, start);
        item += piece.panels;
    }
}
