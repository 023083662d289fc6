/* MaxPool, AveragePool and LpPool over one to three spatial axes. */
#include "runtime/ops/pool.h"

#include <math.h>
#include <string.h>
#include <tgmath.h>

#include "runtime/ops/element.h"

#define JOIN2(x, y) x##_##y
#define JOIN(x, y) JOIN2(x, y)

/* Where a plane's element lies when its first axis runs fastest. */
static int64_t column_major(const struct rt_pool *p, int64_t at)
{
    const int64_t w = at % p->in[2], h = at / p->in[2] % p->in[1], d = at / p->in[2] / p->in[1];
    return d + p->in[0] * (h + p->in[1] * w);
}

#define T float
#define KIND float
#include "runtime/ops/pool.inc"
#define T double
#define KIND double
#include "runtime/ops/pool.inc"

/* --- geometry ------------------------------------------------------------------------------ */

/* No attribute comes near; sums and products of two of them stay far from overflow. */
#define MOST ((int64_t)1 << 30)

/* The attribute's values for the spatial axes into to[3 - rank ..]. */
static enum rt_status axis_values(const struct rt_node *n, const char *name, int rank,
                                  int64_t least, const int64_t *values, int64_t to[3],
                                  struct rt_error *err)
{
    for (int i = 0; i < rank; i++) {
        if (values[i] < least || values[i] > MOST)
            return rt_node_fail(err, RT_E_INVALID, n, "%s has the value %lld", name,
                                (long long)values[i]);
        to[3 - rank + i] = values[i];
    }
    return RT_OK;
}

static enum rt_status read_window(struct rt_pool *p, const struct rt_node *n, int rank,
                                  struct rt_error *err)
{
    static const int64_t ones[3] = { 1, 1, 1 }, zeros[6] = { 0 };
    const struct {
        const char *name;
        int count;
        int64_t least;
        const int64_t *otherwise;
        int64_t *to;
    } list[] = {
        { "kernel_shape", rank, 1, NULL, p->kernel },
        { "strides", rank, 1, ones, p->stride },
        { "dilations", rank, 1, ones, p->dilation },
        { "pads", 2 * rank, 0, zeros, p->pad },
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        const int64_t *values;
        const int count = rt_attr_ints(n, list[i].name, &values);
        if (count == 0)
            values = list[i].otherwise;
        else if (count != list[i].count)
            return rt_node_fail(err, RT_E_INVALID, n, "%s has %d values, should have %d",
                                list[i].name, count, list[i].count);
        if (values == NULL)
            return rt_node_fail(err, RT_E_INVALID, n, "%s is missing", list[i].name);
        enum rt_status s =
            axis_values(n, list[i].name, rank, list[i].least, values, list[i].to, err);
        if (s == RT_OK && list[i].to == p->pad)
            s = axis_values(n, list[i].name, rank, 0, values + rank, p->pad_end, err);
        if (s != RT_OK)
            return s;
    }
    return RT_OK;
}

/* Sets the size of the output along one axis and, for auto_pad, the padding. */
static enum rt_status fit_axis(struct rt_pool *p, int i, const struct rt_node *n, bool ceil_mode,
                               struct rt_error *err)
{
    const char *pad = rt_attr_string(n, "auto_pad", "NOTSET");
    const int64_t extent = (p->kernel[i] - 1) * p->dilation[i] + 1;
    const int64_t in = p->in[i], stride = p->stride[i];
    if (strncmp(pad, "SAME_", 5) == 0) {
        p->out[i] = (in + stride - 1) / stride;
        const int64_t needed = (p->out[i] - 1) * stride + extent - in;
        const int64_t total = needed > 0 ? needed : 0;
        p->pad[i] = strcmp(pad, "SAME_UPPER") == 0 ? total / 2 : total - total / 2;
        p->pad_end[i] = total - p->pad[i];
        return RT_OK;
    }
    if (strcmp(pad, "VALID") == 0) {
        p->pad[i] = p->pad_end[i] = 0;
        ceil_mode = false;
    }
    const int64_t room = in + p->pad[i] + p->pad_end[i] - extent;
    if (room < 0)
        return rt_node_fail(err, RT_E_INVALID, n,
                            "a window of %lld is larger than the padded input of %lld",
                            (long long)extent, (long long)room + extent);
    p->out[i] = (ceil_mode ? room + stride - 1 : room) / stride + 1;
    /* A window that would begin in the padding behind the input is none. */
    if (ceil_mode && (p->out[i] - 1) * stride >= in + p->pad[i])
        p->out[i]--;
    return RT_OK;
}

enum rt_status rt_pool_init(struct rt_pool *p, const struct rt_node *n, const struct rt_shape *x,
                            struct rt_error *err)
{
    const int rank = x->rank - 2;
    if (rank < 1 || rank > 3)
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "pools over %d spatial axes", rank);
    const char *pad = rt_attr_string(n, "auto_pad", "NOTSET");
    if (strcmp(pad, "NOTSET") != 0 && strcmp(pad, "VALID") != 0 && strcmp(pad, "SAME_UPPER") != 0 &&
        strcmp(pad, "SAME_LOWER") != 0)
        return rt_node_fail(err, RT_E_INVALID, n, "auto_pad is '%s'", pad);

    *p = (struct rt_pool){
        .kernel = { 1, 1, 1 }, .stride = { 1, 1, 1 }, .dilation = { 1, 1, 1 }, .in = { 1, 1, 1 }
    };
    p->kind = n->op->name[0] == 'M'   ? RT_POOL_MAX
              : n->op->name[0] == 'A' ? RT_POOL_AVERAGE
                                      : RT_POOL_LP;
    p->count_pads = rt_attr_int(n, "count_include_pad", 0) != 0;
    p->column_major = rt_attr_int(n, "storage_order", 0) != 0;
    p->p = (double)rt_attr_int(n, "p", 2);
    if (n->opset < 2) /* was a float then */
        p->p = rt_attr_float(n, "p", 2);
    if (p->p < 1)
        return rt_node_fail(err, RT_E_INVALID, n, "p is %g", p->p);

    enum rt_status s = read_window(p, n, rank, err);
    for (int i = 3 - rank; i < 3 && s == RT_OK; i++) {
        p->in[i] = x->dim[2 + i - (3 - rank)];
        if (rt_is_batched(p->in[i]))
            return rt_node_fail(err, RT_E_UNSUPPORTED, n, "pools over the batch axis");
    }
    for (int i = 0; i < 3 && s == RT_OK; i++)
        s = fit_axis(p, i, n, rt_attr_int(n, "ceil_mode", 0) != 0, err);
    return s;
}

/* The number of k >= 0 with begin + k * step < end. */
static int64_t steps_below(int64_t begin, int64_t step, int64_t end)
{
    return begin < end ? (end - begin + step - 1) / step : 0;
}

struct rt_taps rt_pool_taps(const struct rt_pool *p, int axis, int64_t o)
{
    const int64_t step = p->dilation[axis];
    const int64_t start = o * p->stride[axis] - p->pad[axis];
    /* How many of the window's taps lie before the ends of front padding, input, back padding. */
    int64_t below[3] = { 0, p->in[axis], p->in[axis] + p->pad_end[axis] };
    for (int i = 0; i < 3; i++) {
        below[i] = steps_below(start, step, below[i]);
        if (below[i] > p->kernel[axis])
            below[i] = p->kernel[axis];
    }
    return (struct rt_taps){ start + below[0] * step, below[1] - below[0], below[2] };
}

/* --- the operators ------------------------------------------------------------------------- */

/* More windows than this that begin in the padding are not looked at one by one: sizes are not
 * bounded yet. */
#define MOST_WINDOWS 65536

/* Whether some window lies in the padding alone: its maximum is nowhere. One that begins in the
 * input does not; of those that begin behind it, the last one is. True also where it would take
 * long to know. */
static bool has_empty_window(const struct rt_pool *p)
{
    for (int i = 0; i < 3; i++) {
        const int64_t before = steps_below(-p->pad[i], p->stride[i], 0);
        const int64_t front = before < p->out[i] ? before : p->out[i];
        if (front > MOST_WINDOWS)
            return true;
        for (int64_t o = 0; o < front; o++)
            if (rt_pool_taps(p, i, o).taps == 0)
                return true;
        if (p->out[i] > 0 && rt_pool_taps(p, i, p->out[i] - 1).taps == 0)
            return true;
    }
    return false;
}

/* Whether all who read Indices are MaxUnpools that take them for such. */
static bool only_unpools(const struct rt_graph *g, const struct rt_node *n)
{
    const int indices = n->out[1];
    bool only = !g->value[indices].is_output;
    for (int i = 0; i < g->n_nodes && only; i++) {
        const struct rt_node *reader = &g->node[i];
        for (int k = 0; reader->op != NULL && k < reader->n_in && only; k++)
            only = reader->in[k] != indices || (reader->op == &rt_op_MaxUnpool && k == 1);
    }
    return only;
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_value *x = rt_in(g, n, 0);
    const enum rt_dtype dtype = x->dtype;
    struct rt_shape shape = x->shape;
    const bool is_max = n->op->name[0] == 'M';
    enum rt_status s =
        rt_check_type(g, n, 0, RT_T_REAL | (is_max ? RT_T(RT_INT8) | RT_T(RT_UINT8) : 0), err);
    if (s != RT_OK)
        return s;
    struct rt_pool p;
    s = rt_pool_init(&p, n, &shape, err);
    if (s != RT_OK)
        return s;
    for (int i = 2; i < shape.rank; i++)
        shape.dim[i] = p.out[i + 3 - shape.rank];
    s = rt_set_out(g, n, 0, dtype, &shape, err);
    if (s == RT_OK && rt_has_out(n, 1)) {
        /* An index counts from the tensor's start, so that it says which sample of a batch it is:
         * only MaxUnpool makes of it what does not depend on that. */
        if (rt_shape_batch_axis(&shape) >= 0 && (has_empty_window(&p) || !only_unpools(g, n)))
            return rt_node_fail(err, RT_E_UNSUPPORTED, n, "Indices count over the batch axis");
        s = rt_set_out(g, n, 1, RT_INT64, &shape, err);
    }
    return s;
}

/* Planes of other types than float and double go through buffers, one for each worker. */
static size_t plane_elements(const struct rt_pool *p)
{
    return (size_t)(p->in[0] * p->in[1] * p->in[2] + p->out[0] * p->out[1] * p->out[2]);
}

static enum rt_status prepare(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    struct rt_pool *p = rt_arena_alloc(b->arena, sizeof *p);
    if (p == NULL)
        return rt_graph_nomem(b->g, err);
    const struct rt_value *x = rt_in(b->g, n, 0);
    enum rt_status s = rt_pool_init(p, n, &x->shape, err);
    if (s != RT_OK)
        return s;
    for (int i = 0; i < 3; i++) {
        struct rt_taps *taps = rt_arena_array(b->arena, (size_t)p->out[i], sizeof *taps);
        if (taps == NULL)
            return rt_graph_nomem(b->g, err);
        for (int64_t o = 0; o < p->out[i]; o++)
            taps[o] = rt_pool_taps(p, i, o);
        p->taps[i] = taps;
    }
    n->state = p;
    if (x->dtype != RT_FLOAT && x->dtype != RT_DOUBLE)
        rt_set_scratch(b, n, plane_elements(p) * sizeof(float));
    return RT_OK;
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_pool *p = c->node->state;
    const struct rt_tensor *x = &c->in[0], *y = &c->out[0];
    int64_t *indices = rt_has_out(c->node, 1) ? c->out[1].data : NULL;
    const enum rt_kind kind = x->dtype == RT_DOUBLE ? RT_KIND_DOUBLE : RT_KIND_FLOAT;
    const int64_t in = p->in[0] * p->in[1] * p->in[2], out = p->out[0] * p->out[1] * p->out[2];
    float *in_buf = NULL, *out_buf = NULL;
    if (x->dtype != RT_FLOAT && x->dtype != RT_DOUBLE) {
        in_buf = (float *)c->scratch + (size_t)w->id * plane_elements(p);
        out_buf = in_buf + in;
    }

    int64_t plane, end;
    rt_worker_share(w, x->shape.dim[0] * x->shape.dim[1], 1, &plane, &end);
    for (; plane < end && out > 0; plane++) {
        const void *from = rt_load(x, plane * in, in, kind, in_buf);
        void *to = rt_target(y, plane * out, kind, out_buf);
        int64_t *index = indices != NULL ? indices + plane * out : NULL;
        if (kind == RT_KIND_DOUBLE)
            pool_double(p, from, to, index, plane * in);
        else
            pool_float(p, from, to, index, plane * in);
        rt_store(y, plane * out, out, kind, to);
    }
}

#define COMMON(x, more)                                                                            \
    .name = #x, .min_in = 1, .max_in = 1, .min_out = 1, .traits = more, .infer = infer,            \
    .prepare = prepare

static const struct rt_op max_blocked = { COMMON(MaxPool, 0), .max_out = 2,
                                          .run = rt_pool_run_blocked };
static const struct rt_op average_blocked = { COMMON(AveragePool, RT_OP_FLUSHES), .max_out = 1,
                                              .run = rt_pool_run_blocked };
const struct rt_op rt_op_MaxPool = { COMMON(MaxPool, 0), .max_out = 2, .run = run,
                                     .can_block = rt_pool_can_block, .blocked = &max_blocked };
const struct rt_op rt_op_AveragePool = { COMMON(AveragePool, RT_OP_FLUSHES), .max_out = 1,
                                         .run = run, .can_block = rt_pool_can_block,
                                         .blocked = &average_blocked };
const struct rt_op rt_op_LpPool = { COMMON(LpPool, RT_OP_FLUSHES), .max_out = 1, .run = run };
