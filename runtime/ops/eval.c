/* Running one node whose inputs are constant. */
#include "runtime/ops/eval.h"

#include "runtime/float_mode.h"
#include "runtime/ops/fault.h"
#include "runtime/ops/op.h"

/* Constants that hold dimensions are short; longer ones are data. */
#define MAX_DIMS 4096

/* Past this a number means "to the end" (INT64_MAX, INT64_MIN), not a dimension. */
#define SENTINEL ((int64_t)1 << 60)

/* How many elements of value v are multiples of the batch rather than numbers. */
static int64_t count_batched(const struct rt_graph *g, const struct rt_value *v)
{
    if (!g->batched || !v->constant || v->dtype != RT_INT64)
        return 0;
    int64_t n = rt_shape_numel(&v->shape), count = 0;
    if (n > MAX_DIMS)
        return 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t x = ((const int64_t *)v->data)[i];
        count += rt_is_batched(x) && x > -SENTINEL && x < SENTINEL;
    }
    return count;
}

bool rt_holds_batch(const struct rt_graph *g, int v)
{
    return v >= 0 && count_batched(g, &g->value[v]) > 0;
}

/* Whether a / b is a multiple of the batch again, or a number as before. */
static bool quotient_keeps(int64_t a, int64_t b)
{
    if (rt_is_batched(b))
        return false;
    return !rt_is_batched(a) || (b != 0 && a % RT_BATCH == 0 && a / RT_BATCH % b == 0);
}

/* What a is when the batch is 1: numbers stand for a * N + c. */
static int64_t at_one(int64_t a)
{
    int64_t times = a / RT_BATCH, rest = a % RT_BATCH;
    return rt_is_batched(rest) ? times + (rest > 0 ? 1 - (RT_BATCH - rest) : rest + RT_BATCH - 1)
                               : times + rest;
}

/* Whether a - b has the sign that it seems to have for every batch from 1 on; at 1 it may be 0. */
static bool order_keeps(int64_t a, int64_t b)
{
    int64_t d;
    if (__builtin_sub_overflow(a, b, &d))
        return false;
    return !rt_is_batched(d) || (d > 0 ? at_one(d) >= 0 : at_one(d) <= 0);
}

/* The same without exception, so that no comparison changes its answer. */
static bool comparison_keeps(int64_t a, int64_t b)
{
    int64_t d;
    return order_keeps(a, b) && !__builtin_sub_overflow(a, b, &d) &&
           (!rt_is_batched(d) || at_one(d) != 0);
}

/* Whether keeps() holds for the elements of values a and b that broadcasting brings together. */
static bool pair_keeps(const struct rt_node *n, const struct rt_value *a, const struct rt_value *b,
                       bool (*keeps)(int64_t a, int64_t b))
{
    struct rt_shape joined;
    int64_t count, step_a[RT_MAX_RANK], step_b[RT_MAX_RANK];
    if (a->dtype != RT_INT64 || b->dtype != RT_INT64 || rt_attr(n, "axis") != NULL ||
        rt_broadcast(n, &a->shape, &b->shape, &joined, NULL) != RT_OK ||
        !rt_shape_count(&joined, &count) || count > MAX_DIMS)
        return false;
    rt_broadcast_strides(&a->shape, &joined, step_a);
    rt_broadcast_strides(&b->shape, &joined, step_b);
    for (int64_t i = 0; i < count; i++) {
        int64_t rest = i, from_a = 0, from_b = 0;
        for (int k = joined.rank - 1; k >= 0; k--) {
            from_a += rest % joined.dim[k] * step_a[k];
            from_b += rest % joined.dim[k] * step_b[k];
            rest /= joined.dim[k];
        }
        if (!keeps(((const int64_t *)a->data)[from_a], ((const int64_t *)b->data)[from_b]))
            return false;
    }
    return true;
}

/* The same for any two of the node's inputs. */
static bool all_keep(const struct rt_graph *g, const struct rt_node *n,
                     bool (*keeps)(int64_t a, int64_t b))
{
    for (int i = 0; i < n->n_in; i++)
        for (int k = i + 1; k < n->n_in; k++)
            if (rt_has_in(n, i) && rt_has_in(n, k) &&
                !pair_keeps(n, &g->value[n->in[i]], &g->value[n->in[k]], keeps))
                return false;
    return true;
}

static bool keeps_batch(const struct rt_graph *g, const struct rt_node *n)
{
    int inputs = 0;
    int64_t elements = 0;
    for (int k = 0; k < n->n_in; k++) {
        int64_t c = n->in[k] >= 0 ? count_batched(g, &g->value[n->in[k]]) : 0;
        inputs += c > 0;
        elements += c;
    }
    if (inputs == 0 || (n->op->traits & (RT_OP_DIMS | RT_OP_OF_SHAPE)) != 0)
        return true;
    if ((n->op->traits & RT_OP_DIMS_OVER) != 0)
        return all_keep(g, n, quotient_keeps);
    if ((n->op->traits & RT_OP_DIMS_ORDER) != 0)
        return all_keep(g, n, order_keeps);
    if ((n->op->traits & RT_OP_DIMS_COMPARE) != 0)
        return all_keep(g, n, comparison_keeps);
    if ((n->op->traits & RT_OP_DIMS_ONE) == 0)
        return false;
    return n->n_in > 1 ? inputs == 1 : elements == 1;
}

static bool knows_inputs(const struct rt_graph *g, const struct rt_node *n)
{
    for (int k = 0; k < n->n_in; k++) {
        if (n->in[k] < 0)
            continue;
        const struct rt_value *v = &g->value[n->in[k]];
        if (!((n->op->traits & RT_OP_OF_SHAPE) != 0 ? v->inferred : v->constant))
            return false;
    }
    return true;
}

bool rt_can_eval(const struct rt_graph *g, const struct rt_node *n)
{
    return (n->op->traits & RT_OP_RANDOM) == 0 && knows_inputs(g, n) && keeps_batch(g, n);
}

bool rt_depends_on_batch(const struct rt_graph *g, const struct rt_node *n)
{
    return (n->op->traits & RT_OP_READS_SHAPE) == 0 && knows_inputs(g, n) && !keeps_batch(g, n);
}

struct team {
    const struct rt_op *op;
    const struct rt_call *call;
};

static void run(void *ctx, const struct rt_worker *w)
{
    struct team *t = ctx;
    const uint64_t callers = rt_float_mode();
    uint64_t mode = callers;
    rt_float_mode_switch(&mode, (t->op->traits & RT_OP_FLUSHES) != 0);
    t->op->run(t->call, w);
    rt_float_mode_set(callers);
}

static enum rt_status run_node(struct rt_graph *g, struct rt_node *n, struct rt_tensor *in,
                               struct rt_tensor *out, int threads, struct rt_error *err)
{
    struct rt_build b = { .g = g, .max_batch = 1, .threads = threads, .exact = true };
    b.arena = rt_arena_create(g->limit);
    if (b.arena == NULL)
        return rt_graph_nomem(g, err);
    struct rt_fault fault = { .taken = ATOMIC_FLAG_INIT };
    char no_room[1]; /* without any scratch memory it is somewhere all the same */
    struct rt_call call = { .node = n, .in = in, .out = out, .scratch = no_room, .fault = &fault };
    enum rt_status s = n->op->prepare != NULL ? n->op->prepare(&b, n, err) : RT_OK;
    if (s == RT_OK && n->scratch > 0) {
        call.scratch = rt_arena_alloc(b.arena, n->scratch);
        if (call.scratch == NULL)
            s = rt_fail_nomem(err, n->scratch);
    }
    for (int k = 0; k < n->n_in; k++) /* prepare may have given constants back, or made others */
        in[k] = rt_graph_tensor(g, n->in[k]);
    if (s == RT_OK) {
        rt_parallel(threads, run, &(struct team){ n->op, &call });
        if (atomic_load(&fault.set)) {
            s = fault.err.status;
            if (err != NULL)
                *err = fault.err;
        }
    }
    if (s == RT_E_NOMEM && rt_arena_over(b.arena))
        s = rt_node_fail(err, RT_E_LIMIT, n,
                         "computing it needs more memory than the limit allows");
    n->state = NULL;
    n->scratch = n->scratch_each = 0;
    rt_arena_destroy(b.arena);
    return s;
}

/* Memory for the outputs; a view shares its input's. */
static enum rt_status make_outputs(struct rt_graph *g, const struct rt_node *n,
                                   struct rt_tensor *out, struct rt_error *err)
{
    for (int k = 0; k < n->n_out; k++) {
        out[k] = rt_graph_tensor(g, n->out[k]);
        if (n->out[k] < 0)
            continue;
        if (rt_shape_batch_axis(&out[k].shape) >= 0)
            return rt_node_fail(err, RT_E_DYNAMIC, n, "the result follows the batch");
        size_t bytes;
        if (!rt_shape_bytes(&out[k].shape, out[k].dtype, &bytes))
            return rt_node_fail(err, RT_E_LIMIT, n, "the result is too large");
        if ((n->op->traits & RT_OP_VIEW) != 0 && k == 0) {
            out[k].data = rt_graph_tensor(g, n->in[0]).data;
            continue;
        }
        out[k].data = rt_graph_alloc_bulk(g, bytes, 1);
        if (out[k].data == NULL)
            return rt_graph_nomem(g, err);
    }
    return RT_OK;
}

/* Weights that were left in the file, unless n packs them. False: no memory. */
static bool fetch_inputs(struct rt_graph *g, const struct rt_node *n)
{
    const bool packs = n->op == &rt_op_Conv || n->op == &rt_op_Gemm || n->op == &rt_op_MatMul;
    for (int k = 0; k < n->n_in && !packs; k++)
        if (n->in[k] >= 0 && !rt_graph_fetch(g, n->in[k]))
            return false;
    return true;
}

enum rt_status rt_eval(struct rt_graph *g, int i, int threads, struct rt_error *err)
{
    struct rt_node *n = &g->node[i];
    enum rt_status s = n->op->infer(g, n, err);
    if (s != RT_OK)
        return s;
    struct rt_tensor *t = rt_alloc_array((size_t)n->n_in + (size_t)n->n_out + 1, sizeof *t);
    if (t == NULL)
        return rt_graph_nomem(g, err);
    struct rt_tensor *in = t, *out = t + n->n_in;
    if (!fetch_inputs(g, n)) {
        rt_free(t);
        return rt_graph_nomem(g, err);
    }
    for (int k = 0; k < n->n_in; k++)
        in[k] = rt_graph_tensor(g, n->in[k]);
    s = make_outputs(g, n, out, err);
    g->random |= (n->op->traits & RT_OP_RANDOM) != 0;
    if (s == RT_OK && n->op->run != NULL)
        s = run_node(g, n, in, out, threads, err);
    if (s == RT_OK) {
        for (int k = 0; k < n->n_out; k++) {
            if (n->out[k] < 0)
                continue;
            struct rt_value *v = &g->value[n->out[k]];
            v->data = out[k].data;
            v->constant = true;
            v->producer = -1;
        }
        if (n->batchnorm >= 0)
            g->batchnorm[n->batchnorm].fate = RT_BN_CONSTANT;
        n->op = NULL;
    }
    rt_free(t);
    return s;
}
