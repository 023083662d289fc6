/* Reductions of a tensor along axes: the Reduce family and global pooling. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "runtime/ops/element.h"
#include "runtime/ops/op.h"

#define JOIN2(x, y) x##_##y
#define JOIN(x, y) JOIN2(x, y)

typedef void fold(void *results, const void *x, size_t rows, size_t width, const void *extra);

#define T double
#define KIND double
#define FOR_REALS
#include "runtime/ops/reduce.inc"
#define T int64_t
#define KIND int
#include "runtime/ops/reduce.inc"
#define T uint64_t
#define KIND uint
#include "runtime/ops/reduce.inc"

enum start { ZERO, ONE, LOWEST, HIGHEST };
enum finish { AS_IT_IS, MEAN, ROOT, LOGARITHM, LOG_SHIFTED, POWER };

/* Reals are always folded in double: exact for extremes, and sums of many floats stay precise. */
struct reduction {
    const char *name;
    unsigned types;
    fold *of[RT_N_KINDS]; /* with no function for integers, those are folded in double too */
    enum start start;
    enum finish finish; /* but for AS_IT_IS, of a double */
    bool global;        /* over all axes behind the channels */
};

#define REAL(x) .of = { [RT_KIND_DOUBLE] = x##_double }
#define NUMBER(x)                                                                                  \
    .of = { [RT_KIND_DOUBLE] = x##_double, [RT_KIND_INT] = x##_int, [RT_KIND_UINT] = x##_uint }

static const struct reduction reductions[] = {
    { "GlobalAveragePool", RT_T_REAL, REAL(sum), .finish = MEAN, .global = true },
    { "GlobalLpPool", RT_T_REAL, REAL(powers), .finish = POWER, .global = true },
    { "GlobalMaxPool", RT_T_REAL, REAL(max), .start = LOWEST, .global = true },
    { "ReduceL1", RT_T_NUMBER, REAL(magnitudes) },
    { "ReduceL2", RT_T_NUMBER, REAL(squares), .finish = ROOT },
    { "ReduceLogSum", RT_T_NUMBER, REAL(sum), .finish = LOGARITHM },
    { "ReduceLogSumExp", RT_T_NUMBER, REAL(exponentials), .finish = LOG_SHIFTED },
    { "ReduceMax", RT_T_ANY, NUMBER(max), .start = LOWEST },
    { "ReduceMean", RT_T_NUMBER, REAL(sum), .finish = MEAN },
    { "ReduceMin", RT_T_ANY, NUMBER(min), .start = HIGHEST },
    { "ReduceProd", RT_T_NUMBER, NUMBER(product), .start = ONE },
    { "ReduceSum", RT_T_NUMBER, NUMBER(sum) },
    { "ReduceSumSquare", RT_T_NUMBER, NUMBER(squares) },
};

struct state {
    const struct reduction *r;
    enum rt_kind kind;
    unsigned axes; /* a bit for each one that is reduced */
    double p;      /* of GlobalLpPool's norm */
};

static const struct reduction *reduction_of(const struct rt_node *n)
{
    const struct reduction *r = reductions;
    while (strcmp(r->name, n->op->name) != 0)
        r++;
    return r;
}

static enum rt_status read_axes(struct rt_graph *g, const struct rt_node *n, int rank,
                                unsigned *axes, struct rt_error *err)
{
    const int64_t *list = NULL;
    int64_t count = -1;
    *axes = 0;
    if (reduction_of(n)->global) {
        *axes = (1u << rank) - 1 - 3;
        return RT_OK;
    }
    enum rt_status s = rt_attr_or_const(g, n, "axes", 1, &list, &count, err);
    if (s != RT_OK)
        return s;
    if (count <= 0 && rt_attr_int(n, "noop_with_empty_axes", 0) == 0)
        *axes = (1u << rank) - 1;
    for (int64_t i = 0; i < count; i++) {
        int axis;
        s = rt_fix_axis(n, list[i], rank, false, &axis, err);
        if (s != RT_OK)
            return s;
        *axes |= 1u << axis;
    }
    return RT_OK;
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct reduction *r = reduction_of(n);
    const struct rt_value *x = rt_in(g, n, 0);
    const enum rt_dtype dtype = x->dtype;
    const struct rt_shape in = x->shape;
    enum rt_status s = rt_check_type(g, n, 0, r->types, err);
    if (s != RT_OK)
        return s;
    if (r->global && in.rank < 3)
        return rt_node_fail(err, RT_E_INVALID, n, "the input has rank %d, there is nothing to pool",
                            in.rank);
    unsigned axes;
    s = read_axes(g, n, in.rank, &axes, err);
    if (s != RT_OK)
        return s;
    const bool keep = r->global || rt_attr_int(n, "keepdims", 1) != 0;
    struct rt_shape out = { .rank = 0 };
    for (int i = 0; i < in.rank; i++) {
        const bool reduced = axes >> i & 1;
        if (reduced && rt_is_batched(in.dim[i]))
            return rt_node_fail(err, RT_E_UNSUPPORTED, n, "reduces over the batch axis");
        if (!reduced || keep)
            out.dim[out.rank++] = reduced ? 1 : in.dim[i];
    }
    return rt_set_out(g, n, 0, dtype, &out, err);
}

static enum rt_status prepare(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    struct state *s = rt_arena_alloc(b->arena, sizeof *s);
    if (s == NULL)
        return rt_graph_nomem(b->g, err);
    const struct rt_value *x = rt_in(b->g, n, 0);
    s->r = reduction_of(n);
    s->kind = rt_kind_of(x->dtype);
    if (s->r->of[s->kind] == NULL)
        s->kind = RT_KIND_DOUBLE;
    s->p = n->opset < 2 ? (double)rt_attr_float(n, "p", 2) : (double)rt_attr_int(n, "p", 2);
    n->state = s;
    return read_axes(b->g, n, x->shape.rank, &s->axes, err);
}

/* A dense tensor as  kept.. x reduced.. x rows x width  in memory order, where rows are reduced,
 * width is kept, and the two lists hold what lies further out, the last axis innermost. */
struct split {
    int64_t rows, width;
    int n_kept, n_reduced;
    struct {
        int64_t dim, stride;
    } kept[RT_MAX_RANK], reduced[RT_MAX_RANK];
    int64_t n_outer_kept, n_outer_reduced;
};

static void split_shape(struct split *s, const struct rt_shape *shape, unsigned axes)
{
    *s = (struct split){ .rows = 1, .width = 1, .n_outer_kept = 1, .n_outer_reduced = 1 };
    int64_t stride = 1;
    int i = shape->rank - 1;
    for (; i >= 0 && !(axes >> i & 1); i--)
        s->width *= shape->dim[i];
    for (; i >= 0 && (axes >> i & 1); i--)
        s->rows *= shape->dim[i];
    stride = s->rows * s->width;
    for (; i >= 0; stride *= shape->dim[i--]) {
        if (axes >> i & 1) {
            s->reduced[s->n_reduced].dim = shape->dim[i];
            s->reduced[s->n_reduced++].stride = stride;
            s->n_outer_reduced *= shape->dim[i];
        } else {
            s->kept[s->n_kept].dim = shape->dim[i];
            s->kept[s->n_kept++].stride = stride;
            s->n_outer_kept *= shape->dim[i];
        }
    }
}

static int64_t kept_offset(const struct split *s, int64_t index)
{
    int64_t at = 0;
    for (int i = 0; i < s->n_kept; index /= s->kept[i++].dim)
        at += index % s->kept[i].dim * s->kept[i].stride;
    return at;
}

static int64_t reduced_offset(const struct split *s, int64_t index)
{
    int64_t at = 0;
    for (int i = 0; i < s->n_reduced; index /= s->reduced[i++].dim)
        at += index % s->reduced[i].dim * s->reduced[i].stride;
    return at;
}

/* What n results hold before anything is folded in; for extremes that is the end of the type. */
static void set_start(void *results, enum rt_kind kind, enum rt_dtype dtype, enum start start,
                      int64_t n)
{
    static const double reals[] = { 0, 1, -INFINITY, INFINITY };
    const bool is_signed =
        dtype == RT_INT8 || dtype == RT_INT16 || dtype == RT_INT32 || dtype == RT_INT64;
    const int bits = dtype == RT_BOOL ? 1 : 8 * (int)rt_dtype_size(dtype);
    /* cppcheck-suppress shiftTooManyBits ; bool is not signed */
    const uint64_t highest = UINT64_MAX >> (64 - bits + (is_signed ? 1 : 0));
    const uint64_t wholes[] = { 0, 1, is_signed ? ~highest : 0, highest };
    for (int64_t i = 0; i < n; i++) {
        if (kind == RT_KIND_DOUBLE)
            ((double *)results)[i] = reals[start];
        else
            ((uint64_t *)results)[i] = wholes[start]; /* the bits of either kind of integer */
    }
}

/* Folds the n columns that start at element at of x, over everything that is reduced. */
static void fold_columns(const struct split *s, const struct rt_tensor *x, int64_t at, int64_t n,
                         fold *f, enum rt_kind kind, void *results, const void *extra)
{
    union rt_chunk buf;
    /* Whole rows lie behind each other, parts of rows do not. */
    const int64_t most = n == s->width ? RT_CHUNK / n : 1;
    for (int64_t o = 0; o < s->n_outer_reduced; o++) {
        int64_t from = at + reduced_offset(s, o);
        for (int64_t row = 0, rows; row < s->rows; row += rows, from += rows * s->width) {
            rows = s->rows - row < most ? s->rows - row : most;
            f(results, rt_load(x, from, rows * n, kind, &buf), (size_t)rows, (size_t)n, extra);
        }
    }
}

static void finish(double *y, enum finish how, int64_t n, double count, double p,
                   const double *shift)
{
    for (int64_t i = 0; i < n; i++) {
        switch (how) {
        case MEAN:
            y[i] /= count;
            break;
        case ROOT:
            y[i] = sqrt(y[i]);
            break;
        case LOGARITHM:
            y[i] = log(y[i]);
            break;
        case LOG_SHIFTED:
            y[i] = log(y[i]) + shift[i];
            break;
        case POWER:
            y[i] = pow(y[i], 1 / p);
            break;
        case AS_IT_IS:
            break;
        }
    }
}

static void run_on(const struct state *state, const struct rt_tensor *x, const struct rt_tensor *y,
                   const struct rt_worker *w)
{
    const struct reduction *r = state->r;
    const enum rt_kind kind = state->kind;
    struct split s;
    split_shape(&s, &x->shape, state->axes);
    const double count = (double)(s.rows * s.n_outer_reduced);
    const int64_t tile = s.width < RT_CHUNK ? s.width : RT_CHUNK;
    if (tile == 0)
        return;
    const int64_t tiles = (s.width + tile - 1) / tile;
    int64_t i, end;
    rt_worker_share(w, s.n_outer_kept * tiles, 1, &i, &end);
    for (; i < end; i++) {
        union rt_chunk buf;
        double shift[RT_CHUNK];
        const int64_t column = i % tiles * tile;
        const int64_t n = s.width - column < tile ? s.width - column : tile;
        const int64_t at = kept_offset(&s, i / tiles) + column;
        const int64_t to = i / tiles * s.width + column;
        void *results = rt_target(y, to, kind, &buf);
        const void *extra = &state->p;
        if (r->finish == LOG_SHIFTED) { /* by the largest, so that exp() does not overflow */
            set_start(shift, kind, x->dtype, LOWEST, n);
            fold_columns(&s, x, at, n, max_double, kind, shift, NULL);
            for (int64_t k = 0; k < n; k++)
                if (isinf(shift[k]))
                    shift[k] = 0;
            extra = shift;
        }
        set_start(results, kind, x->dtype, r->start, n);
        fold_columns(&s, x, at, n, r->of[kind], kind, results, extra);
        if (r->finish != AS_IT_IS)
            finish(results, r->finish, n, count, state->p, shift);
        rt_store(y, to, n, kind, results);
    }
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    run_on(c->node->state, &c->in[0], &c->out[0], w);
}

static void run_blocked(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor x = rt_blocked_view(&c->in[0]);
    const struct rt_tensor y = rt_blocked_view(&c->out[0]);
    run_on(c->node->state, &x, &y, w);
}

/* Height and width, kept as ones: axes 2 and 3 of the blocked tensor as of the plain one. */
static bool can_block(const struct rt_graph *g, const struct rt_node *n)
{
    const struct rt_value *x = &g->value[n->in[0]], *y = &g->value[n->out[0]];
    return x->dtype == RT_FLOAT && x->shape.rank == 4 && y->shape.rank == 4 &&
           y->shape.dim[0] == x->shape.dim[0] && y->shape.dim[1] == x->shape.dim[1] &&
           y->shape.dim[2] == 1 && y->shape.dim[3] == 1;
}

#define COMMON(x, most, more)                                                                      \
    .name = #x, .min_in = 1, .max_in = most, .min_out = 1, .max_out = 1, .traits = more,           \
    .infer = infer, .prepare = prepare
#define OPERATOR(x, most, more)                                                                    \
    static const struct rt_op x##_blocked = { COMMON(x, most, more), .run = run_blocked };         \
    const struct rt_op rt_op_##x = { COMMON(x, most, more), .run = run, .can_block = can_block,    \
                                     .blocked = &x##_blocked };

/* The mean of a plane is what networks spend time on: its blocked form has a kernel. */
static void run_mean_blocked(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor x = rt_blocked_view(&c->in[0]);
    const int64_t block = rt_kernels()->block, pixels = x.shape.dim[2] * x.shape.dim[3];
    int64_t i, end;
    rt_worker_share(w, x.shape.dim[0] * x.shape.dim[1], 1, &i, &end);
    for (; i < end; i++)
        rt_kernels()->mean_block((float *)c->out[0].data + i * block,
                                 (const float *)x.data + i * pixels * block, (size_t)pixels);
}
static const struct rt_op mean_blocked = { COMMON(GlobalAveragePool, 1, RT_OP_FLUSHES),
                                           .run = run_mean_blocked };
const struct rt_op rt_op_GlobalAveragePool = { COMMON(GlobalAveragePool, 1, RT_OP_FLUSHES), .run = run,
                                               .can_block = can_block, .blocked = &mean_blocked };
OPERATOR(GlobalLpPool, 1, RT_OP_FLUSHES)
OPERATOR(GlobalMaxPool, 1, 0)
OPERATOR(ReduceL1, 2, 0)
OPERATOR(ReduceL2, 2, RT_OP_FLUSHES)
OPERATOR(ReduceLogSum, 2, 0)
OPERATOR(ReduceLogSumExp, 2, RT_OP_FLUSHES)
OPERATOR(ReduceMax, 2, 0)
OPERATOR(ReduceMean, 2, RT_OP_FLUSHES)
OPERATOR(ReduceMin, 2, 0)
OPERATOR(ReduceProd, 2, RT_OP_DIMS_ONE)
OPERATOR(ReduceSum, 2, RT_OP_DIMS)
OPERATOR(ReduceSumSquare, 2, RT_OP_FLUSHES)
