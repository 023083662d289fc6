/* Normalisation of groups of elements by their own statistics: Instance-, Layer-, Group-, RMS- and
 * MeanVarianceNormalization, LpNormalization. */
#include <math.h>
#include <string.h>

#include "runtime/ops/element.h"
#include "runtime/ops/op.h"

enum mode { BY_DEVIATION, BY_ROOT_MEAN_SQUARE, BY_L1, BY_L2 };

/* The input in a shape in which a mask of axes says what is normalised together. */
struct view {
    enum mode mode;
    double epsilon;
    bool epsilon_outside; /* added to the deviation instead of to the variance */
    struct rt_shape shape;
    unsigned axes;
    /* Shapes in which scale and bias broadcast to it. */
    struct rt_shape weights;
};

/* --- what each operator normalises ------------------------------------------------------------ */

static enum rt_status layer_view(struct view *v, const struct rt_node *n, const struct rt_shape *x,
                                 struct rt_error *err)
{
    int axis;
    enum rt_status s = rt_fix_axis(n, rt_attr_int(n, "axis", -1), x->rank, false, &axis, err);
    if (s != RT_OK)
        return s;
    v->axes = ((1u << x->rank) - 1) & ~((1u << axis) - 1);
    return RT_OK;
}

/* [N, C, ...] as [N, groups, C / groups, pixels]; channels have weights of their own, in version 18
 * a whole group had one. */
static enum rt_status group_view(struct view *v, const struct rt_node *n, const struct rt_shape *x,
                                 struct rt_error *err)
{
    const bool instance = n->op->name[0] == 'I';
    if (x->rank < 2 || (instance && x->rank < 3))
        return rt_node_fail(err, RT_E_INVALID, n, "the input has rank %d", x->rank);
    const int64_t channels = x->dim[1];
    const int64_t groups = instance ? channels : rt_attr_int(n, "num_groups", 0);
    if (rt_is_batched(channels))
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "the channels follow the batch");
    if (channels > 0 && (groups < 1 || channels % groups != 0))
        return rt_node_fail(err, RT_E_INVALID, n, "%lld channels do not make %lld groups",
                            (long long)channels, (long long)groups);
    const int64_t size = channels > 0 ? channels / groups : 0;
    v->shape =
        rt_shape_of(4, (const int64_t[]){ x->dim[0], groups, size, rt_shape_range(x, 2, x->rank) });
    v->axes = 1u << 2 | 1u << 3;
    const bool by_group = !instance && n->opset < 21;
    v->weights = rt_shape_of(4, (const int64_t[]){ 1, groups, by_group ? 1 : size, 1 });
    return RT_OK;
}

static enum rt_status variance_view(struct view *v, const struct rt_node *n,
                                    const struct rt_shape *x, struct rt_error *err)
{
    static const int64_t all_but_channels[] = { 0, 2, 3 };
    const int64_t *axes;
    int count = rt_attr_ints(n, "axes", &axes);
    if (count == 0) {
        axes = all_but_channels;
        count = 3;
    }
    v->epsilon = 1e-9;
    v->epsilon_outside = true;
    for (int i = 0; i < count; i++) {
        int axis;
        enum rt_status s = rt_fix_axis(n, axes[i], x->rank, false, &axis, err);
        if (s != RT_OK)
            return s;
        v->axes |= 1u << axis;
    }
    return RT_OK;
}

static enum rt_status lp_view(struct view *v, const struct rt_node *n, const struct rt_shape *x,
                              struct rt_error *err)
{
    const int64_t p = rt_attr_int(n, "p", 2);
    int axis;
    if (p != 1 && p != 2)
        return rt_node_fail(err, RT_E_INVALID, n, "p is %lld, must be 1 or 2", (long long)p);
    enum rt_status s = rt_fix_axis(n, rt_attr_int(n, "axis", -1), x->rank, false, &axis, err);
    if (s != RT_OK)
        return s;
    v->mode = p == 1 ? BY_L1 : BY_L2;
    v->axes = 1u << axis;
    return RT_OK;
}

static enum rt_status view_of(struct view *v, const struct rt_node *n, const struct rt_shape *x,
                              struct rt_error *err)
{
    *v = (struct view){ .mode = BY_DEVIATION, .shape = *x };
    v->epsilon = (double)rt_attr_float(n, "epsilon", 1e-5f);
    switch (n->op->name[0]) {
    case 'G':
    case 'I':
        return group_view(v, n, x, err);
    case 'M':
        return variance_view(v, n, x, err);
    case 'R':
        v->mode = BY_ROOT_MEAN_SQUARE;
        return layer_view(v, n, x, err);
    default:
        return n->op->name[1] == 'p' ? lp_view(v, n, x, err) : layer_view(v, n, x, err);
    }
}

/* --- shapes ----------------------------------------------------------------------------------- */

/* Scale and bias are one a channel (or group), or broadcast to the input. */
static enum rt_status check_weights(struct rt_graph *g, const struct rt_node *n,
                                    const struct view *v, struct rt_error *err)
{
    for (int i = 1; i < n->n_in; i++) {
        const struct rt_value *k = rt_in(g, n, i);
        if (k == NULL)
            continue;
        if (v->weights.rank == 0) {
            struct rt_shape out;
            enum rt_status s = rt_broadcast(n, &v->shape, &k->shape, &out, err);
            if (s != RT_OK)
                return s;
            if (rt_shape_equal(&out, &v->shape))
                continue;
        } else if (k->shape.rank == 1 && k->shape.dim[0] == rt_shape_numel(&v->weights)) {
            continue;
        }
        char text[RT_SHAPE_TEXT];
        return rt_node_fail(err, RT_E_INVALID, n, "%s of shape %s does not fit the input",
                            i == 1 ? "scale" : "bias", rt_shape_text(&k->shape, text));
    }
    return RT_OK;
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_shape x = rt_in(g, n, 0)->shape;
    struct view v;
    enum rt_status s = view_of(&v, n, &x, err);
    for (int i = 0; s == RT_OK && i < n->n_in; i++)
        s = rt_check_type(g, n, i, RT_T_REAL, err);
    if (s == RT_OK)
        s = check_weights(g, n, &v, err);
    if (s != RT_OK)
        return s;
    struct rt_shape statistics = v.shape;
    for (int i = 0; i < v.shape.rank; i++) {
        if (!(v.axes >> i & 1))
            continue;
        if (rt_is_batched(v.shape.dim[i]))
            return rt_node_fail(err, RT_E_UNSUPPORTED, n, "normalises over the batch axis");
        statistics.dim[i] = 1;
    }
    /* RMSNormalization's result has its scale's type. */
    const enum rt_dtype dtype = rt_in(g, n, v.mode == BY_ROOT_MEAN_SQUARE ? 1 : 0)->dtype;
    s = rt_set_out(g, n, 0, dtype, &x, err);
    const int64_t stash = rt_attr_int(n, "stash_type", RT_FLOAT);
    if (stash != RT_FLOAT && stash != RT_BFLOAT16 && stash != RT_FLOAT16 && stash != RT_DOUBLE)
        return rt_node_fail(err, RT_E_INVALID, n, "stash_type is %lld", (long long)stash);
    for (int i = 1; i < n->n_out && s == RT_OK; i++)
        s = rt_set_out(g, n, i, (enum rt_dtype)stash, &statistics, err);
    return s;
}

/* --- running ---------------------------------------------------------------------------------- */

/* Each group is runs of len elements stride apart; the lists say where they start, the innermost
 * axis first. */
struct axis {
    int64_t dim, stride;
};
struct groups {
    int64_t count, runs, len, stride;
    int n_kept, n_reduced;
    struct axis kept[RT_MAX_RANK], reduced[RT_MAX_RANK];
};

/* Adds an axis to a list, or to its last axis where that makes one of both. */
static void push_axis(struct axis *list, int *n, int64_t dim, int64_t stride)
{
    if (*n > 0 && list[*n - 1].stride * list[*n - 1].dim == stride)
        list[*n - 1].dim *= dim;
    else
        list[(*n)++] = (struct axis){ dim, stride };
}

static void find_groups(struct groups *g, const struct view *v)
{
    *g = (struct groups){ .count = 1, .runs = 1, .len = 1, .stride = 1 };
    int64_t stride = 1;
    for (int i = v->shape.rank - 1; i >= 0; stride *= v->shape.dim[i--]) {
        const int64_t dim = v->shape.dim[i];
        /* NOLINTNEXTLINE(clang-analyzer-core.*): ranks are small */
        if (v->axes >> i & 1) {
            push_axis(g->reduced, &g->n_reduced, dim, stride);
            g->runs *= dim;
        } else {
            push_axis(g->kept, &g->n_kept, dim, stride);
            g->count *= dim;
        }
    }
    if (g->n_reduced > 0) {
        g->len = g->reduced[0].dim;
        g->stride = g->reduced[0].stride;
        g->runs = g->len > 0 ? g->runs / g->len : 0;
        g->n_reduced--;
        memmove(g->reduced, g->reduced + 1, (size_t)g->n_reduced * sizeof g->reduced[0]);
    }
}

static int64_t offset_of(const struct axis *list, int n, int64_t index)
{
    int64_t at = 0;
    for (int i = 0; i < n; index /= list[i++].dim)
        at += index % list[i].dim * list[i].stride;
    return at;
}

/* One part of a run: n elements from element at on. */
struct part {
    int64_t at, n;
};

/* The next part of a group that starts at element base; *run and *done are where the last ended. */
static bool next_part(const struct groups *g, int64_t base, int64_t *run, int64_t *done,
                      struct part *p)
{
    if (*done == g->len) {
        *done = 0;
        ++*run;
    }
    if (*run >= g->runs)
        return false;
    p->at = base + offset_of(g->reduced, g->n_reduced, *run) + *done * g->stride;
    p->n = g->len - *done < RT_CHUNK ? g->len - *done : RT_CHUNK;
    *done += p->n;
    return true;
}

/* Sums over a part of what is between its elements and mean, in double and always in the same
 * order: four sums side by side, so that additions need not wait for each other. */
#define SUM(name, type, value)                                                                     \
    static double name(const void *from, double mean, int64_t n)                                   \
    {                                                                                              \
        const type *x = from;                                                                      \
        double sum[4] = { 0 };                                                                     \
        (void)mean;                                                                                \
        int64_t i = 0;                                                                             \
        for (; i + 4 <= n; i += 4) {                                                               \
            for (int k = 0; k < 4; k++) {                                                          \
                const double d = (double)x[i + k] - mean;                                          \
                sum[k] += value;                                                                   \
            }                                                                                      \
        }                                                                                          \
        for (; i < n; i++) {                                                                       \
            const double d = (double)x[i] - mean;                                                  \
            sum[0] += value;                                                                       \
        }                                                                                          \
        return (sum[0] + sum[1]) + (sum[2] + sum[3]);                                              \
    }
SUM(sum_float, float, d)
SUM(squares_float, float, (d * d))
SUM(magnitudes_float, float, fabs(d))
SUM(sum_double, double, d)
SUM(squares_double, double, (d * d))
SUM(magnitudes_double, double, fabs(d))

/* y = (x - mean) * factor * scale + bias; the last two may be NULL. */
#define APPLY(name, type)                                                                          \
    static void name(void *to, const void *from, const void *scale, const void *bias, double m,    \
                     double f, int64_t n)                                                          \
    {                                                                                              \
        const type *x = from, *s = scale, *b = bias;                                               \
        type *y = to;                                                                              \
        const type mean = (type)m, factor = (type)f;                                               \
        for (int64_t i = 0; i < n; i++)                                                            \
            y[i] = (x[i] - mean) * factor;                                                         \
        for (int64_t i = 0; s != NULL && i < n; i++)                                               \
            y[i] *= s[i];                                                                          \
        for (int64_t i = 0; b != NULL && i < n; i++)                                               \
            y[i] += b[i];                                                                          \
    }
APPLY(apply_float, float)
APPLY(apply_double, double)

typedef double sum_of(const void *x, double mean, int64_t n);

static double sum_group(const struct groups *g, const struct rt_tensor *x, int64_t base,
                        enum rt_kind kind, sum_of *sum, double mean)
{
    union rt_chunk buf;
    struct part p;
    double total = 0;
    for (int64_t run = 0, done = 0; next_part(g, base, &run, &done, &p);) {
        const void *from = &buf;
        if (g->stride == 1)
            from = rt_load(x, p.at, p.n, kind, &buf);
        else
            rt_load_elements(&buf, kind, x->dtype, rt_element_at(x, p.at), g->stride, p.n);
        total += sum(from, mean, p.n);
    }
    return total;
}

/* What a group is lowered by and multiplied with. */
struct statistics {
    double mean, factor;
};

static struct statistics measure(const struct groups *g, const struct view *v,
                                 const struct rt_tensor *x, int64_t base, enum rt_kind kind)
{
    const bool wide = kind == RT_KIND_DOUBLE;
    const double count = (double)(g->runs * g->len);
    sum_of *const squares = wide ? squares_double : squares_float;
    struct statistics s = { 0, 1 };
    if (v->mode == BY_L1 || v->mode == BY_L2) {
        const double norm =
            v->mode == BY_L2
                ? sqrt(sum_group(g, x, base, kind, squares, 0))
                : sum_group(g, x, base, kind, wide ? magnitudes_double : magnitudes_float, 0);
        s.factor = norm == 0 ? 0 : 1 / norm; /* zeros stay zeros */
    } else {
        if (v->mode == BY_DEVIATION)
            s.mean = sum_group(g, x, base, kind, wide ? sum_double : sum_float, 0) / count;
        const double variance = sum_group(g, x, base, kind, squares, s.mean) / count;
        s.factor = v->epsilon_outside ? 1 / (sqrt(variance) + v->epsilon)
                                      : 1 / sqrt(variance + v->epsilon);
    }
    return s;
}

/* Scale or bias, broadcast to the view; absent where the node has none. */
struct weight {
    bool there;
    struct rt_operand operand;
    union rt_chunk buf;
};

static void init_weight(struct weight *k, const struct rt_call *c, int i, const struct view *v)
{
    k->there = rt_has_in(c->node, i);
    if (!k->there)
        return;
    struct rt_tensor t = c->in[i];
    if (v->weights.rank > 0)
        t.shape = v->weights;
    rt_operand_init(&k->operand, &t, &v->shape);
}

static const void *load_weight(struct weight *k, const struct part *p, enum rt_kind kind)
{
    return k->there ? rt_operand_load(&k->operand, p->at, p->n, kind, &k->buf) : NULL;
}

static void normalize(const struct groups *g, const struct rt_tensor *x, const struct rt_tensor *y,
                      int64_t base, enum rt_kind kind, struct statistics s, struct weight weight[2])
{
    union rt_chunk in, out;
    struct part p;
    for (int64_t run = 0, done = 0; next_part(g, base, &run, &done, &p);) {
        /* Only operators whose groups are dense have weights. */
        const void *scale = load_weight(&weight[0], &p, kind);
        const void *bias = load_weight(&weight[1], &p, kind);
        rt_load_elements(&in, kind, x->dtype, rt_element_at(x, p.at), g->stride, p.n);
        (kind == RT_KIND_DOUBLE ? apply_double : apply_float)(&out, &in, scale, bias, s.mean,
                                                              s.factor, p.n);
        rt_store_elements(y->dtype, rt_element_at(y, p.at), g->stride, &out, kind, p.n);
    }
}

static void put_statistic(const struct rt_call *c, int i, int64_t group, double value)
{
    if (rt_has_out(c->node, i))
        rt_store_elements(c->out[i].dtype, rt_element_at(&c->out[i], group), 1, &value,
                          RT_KIND_DOUBLE, 1);
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    const struct rt_tensor *x = &c->in[0], *y = &c->out[0];
    struct view v;
    if (view_of(&v, c->node, &x->shape, NULL) != RT_OK || rt_shape_numel(&x->shape) == 0)
        return;
    struct groups g;
    find_groups(&g, &v);
    struct weight weight[2];
    init_weight(&weight[0], c, 1, &v);
    init_weight(&weight[1], c, 2, &v);
    const enum rt_kind kind =
        x->dtype == RT_DOUBLE || y->dtype == RT_DOUBLE ? RT_KIND_DOUBLE : RT_KIND_FLOAT;

    int64_t i, end;
    rt_worker_share(w, g.count, 1, &i, &end);
    for (; i < end; i++) {
        const int64_t base = offset_of(g.kept, g.n_kept, i);
        const struct statistics s = measure(&g, &v, x, base, kind);
        normalize(&g, x, y, base, kind, s, weight);
        put_statistic(c, 1, i, s.mean);
        put_statistic(c, 2, i, s.factor);
    }
}

#define OPERATOR(x, version, least, most, outputs)                                                 \
    const struct rt_op rt_op_##x = { .name = #x,                                                   \
                                     .since = version,                                             \
                                     .min_in = least,                                              \
                                     .max_in = most,                                               \
                                     .min_out = 1,                                                 \
                                     .max_out = outputs,                                           \
                                     .traits = RT_OP_FLUSHES,                                      \
                                     .infer = infer,                                               \
                                     .run = run };

OPERATOR(GroupNormalization, 18, 3, 3, 1)
OPERATOR(InstanceNormalization, 1, 3, 3, 1)
OPERATOR(LayerNormalization, 17, 2, 3, 3)
OPERATOR(LpNormalization, 1, 1, 1, 1)
OPERATOR(MeanVarianceNormalization, 9, 1, 1, 1)
OPERATOR(RMSNormalization, 23, 2, 2, 1)
