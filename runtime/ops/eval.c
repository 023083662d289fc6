/* Running one node whose inputs are constant. */
#include "runtime/ops/eval.h"

#include "runtime/ops/fault.h"
#include "runtime/ops/op.h"

/* Constants that hold dimensions are short; longer ones are data. */
#define MAX_DIMS 4096

/* Past this a number means "to the end" (INT64_MAX, INT64_MIN), not a dimension. */
#define SENTINEL ((int64_t)1 << 60)

/* How many elements of value v are multiples of the batch rather than numbers. */
static int64_t count_batched(const struct rt_graph *g, const struct rt_value *v)
{
    int64_t n = rt_shape_numel(&v->shape), count = 0;
    if (!g->batched || !v->constant || v->dtype != RT_INT64 || n > MAX_DIMS)
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

/* Whether a and b are equal for every batch or for none: no batch is 0 or negative. */
static bool equality_keeps(int64_t a, int64_t b)
{
    if (rt_is_batched(a) == rt_is_batched(b))
        return true;
    return rt_is_batched(a) ? a > 0 && b <= 0 : b > 0 && a <= 0;
}

/* Whether keeps() holds for any two elements of in[0] and in[1]. */
static bool all_keep(const struct rt_graph *g, const struct rt_node *n,
                     bool (*keeps)(int64_t a, int64_t b))
{
    const struct rt_value *a = &g->value[n->in[0]], *b = &g->value[n->in[1]];
    int64_t n_a = rt_shape_numel(&a->shape), n_b = rt_shape_numel(&b->shape);
    if (a->dtype != RT_INT64 || b->dtype != RT_INT64 || n_a > MAX_DIMS || n_b > MAX_DIMS)
        return false;
    for (int64_t i = 0; i < n_a; i++)
        for (int64_t k = 0; k < n_b; k++)
            if (!keeps(((const int64_t *)a->data)[i], ((const int64_t *)b->data)[k]))
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
    if ((n->op->traits & RT_OP_DIMS_EQUAL) != 0)
        return all_keep(g, n, equality_keeps);
    if ((n->op->traits & RT_OP_DIMS_ONE) == 0)
        return false;
    return n->n_in > 1 ? inputs == 1 : elements == 1;
}

bool rt_can_eval(const struct rt_graph *g, const struct rt_node *n)
{
    if ((n->op->traits & RT_OP_RANDOM) != 0)
        return false;
    for (int k = 0; k < n->n_in; k++) {
        if (n->in[k] < 0)
            continue;
        const struct rt_value *v = &g->value[n->in[k]];
        bool known = (n->op->traits & RT_OP_OF_SHAPE) != 0 ? v->inferred : v->constant;
        if (!known)
            return false;
    }
    return keeps_batch(g, n);
}

struct team {
    const struct rt_op *op;
    const struct rt_call *call;
};

static void run(void *ctx, const struct rt_worker *w)
{
    struct team *t = ctx;
    t->op->run(t->call, w);
}

static enum rt_status run_node(struct rt_graph *g, struct rt_node *n, struct rt_tensor *in,
                               struct rt_tensor *out, int threads, struct rt_error *err)
{
    struct rt_build b = { .g = g, .max_batch = 1, .threads = threads, .exact = true };
    b.arena = rt_arena_create(0);
    if (b.arena == NULL)
        return rt_graph_nomem(g, err);
    struct rt_fault fault = { .taken = ATOMIC_FLAG_INIT };
    struct rt_call call = { .node = n, .in = in, .out = out, .fault = &fault };
    enum rt_status s = n->op->prepare != NULL ? n->op->prepare(&b, n, err) : RT_OK;
    if (s == RT_OK && n->scratch > 0) {
        call.scratch = rt_arena_alloc(b.arena, n->scratch);
        if (call.scratch == NULL)
            s = rt_fail_nomem(err, n->scratch);
    }
    for (int k = 0; k < n->n_in; k++) /* prepare may have given constants back */
        if (n->in[k] < 0)
            in[k] = (struct rt_tensor){ .dtype = RT_UNDEFINED };
    if (s == RT_OK) {
        rt_parallel(threads, run, &(struct team){ n->op, &call });
        if (atomic_load(&fault.set)) {
            s = fault.err.status;
            if (err != NULL)
                *err = fault.err;
        }
    }
    n->state = NULL;
    n->scratch = 0;
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
