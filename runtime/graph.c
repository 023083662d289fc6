/* Growing, ordering and checking the graph. */
#include "runtime/graph.h"

#include "runtime/ops/op.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#undef rt_graph_nomem

struct rt_shape rt_shape_at(const struct rt_shape *s, int64_t n)
{
    struct rt_shape at = *s;
    for (int i = 0; i < at.rank; i++)
        at.dim[i] = rt_dim_at(at.dim[i], n);
    return at;
}

int rt_shape_batch_axis(const struct rt_shape *s)
{
    for (int i = 0; i < s->rank; i++)
        if (rt_is_batched(s->dim[i]))
            return i;
    return -1;
}

struct rt_graph *rt_graph_create(size_t limit)
{
    struct rt_arena *arena = rt_arena_create(limit);
    if (arena == NULL)
        return NULL;
    struct rt_graph *g = rt_arena_alloc(arena, sizeof *g);
    struct rt_arena *bulk = rt_arena_create(limit);
    if (g == NULL || bulk == NULL) {
        rt_arena_destroy(arena);
        rt_arena_destroy(bulk);
        return NULL;
    }
    g->arena = arena;
    g->bulk = bulk;
    g->limit = limit;
    g->producer = "";
    return g;
}

void rt_graph_destroy(struct rt_graph *g)
{
    if (g == NULL)
        return;
    rt_arena_destroy(g->bulk);
    rt_arena_destroy(g->arena); /* holds g itself */
}

void *rt_graph_alloc(struct rt_graph *g, size_t n, size_t size)
{
    return rt_arena_array(g->arena, n, size);
}

void *rt_graph_alloc_bulk(struct rt_graph *g, size_t n, size_t size)
{
    return rt_arena_array(g->bulk, n, size);
}

bool rt_graph_fetch(struct rt_graph *g, int v)
{
    struct rt_value *value = &g->value[v];
    size_t bytes = 0;
    if (!value->constant || value->unscaled == NULL || value->data != NULL)
        return true;
    assert(value->gain == NULL && value->in_gain == NULL && !value->turned);
    rt_shape_bytes(&value->shape, value->dtype, &bytes); /* as the file has them */
    void *data = rt_graph_alloc_bulk(g, bytes, 1);
    if (data == NULL)
        return false;
    memcpy(data, value->unscaled, bytes);
    value->data = data;
    value->unscaled = NULL;
    return true;
}

enum rt_status rt_graph_nomem(const struct rt_graph *g, struct rt_error *err)
{
    if (rt_arena_over(g->arena) || rt_arena_over(g->bulk))
        return rt_fail(err, RT_E_LIMIT, "the model needs more memory than its limit allows");
    return rt_fail(err, RT_E_NOMEM, "out of memory while compiling the model");
}

static void *copy(struct rt_graph *g, const void *from, int n, size_t size)
{
    void *to = rt_graph_alloc(g, (size_t)n, size);
    if (to != NULL && n > 0)
        memcpy(to, from, (size_t)n * size);
    return to;
}

struct rt_graph *rt_graph_clone(const struct rt_graph *src, size_t limit)
{
    struct rt_graph *g = rt_graph_create(limit);
    if (g == NULL)
        return NULL;
    struct rt_arena *arena = g->arena, *bulk = g->bulk;
    *g = *src;
    g->arena = arena;
    g->bulk = bulk;
    g->cap_values = g->n_values;
    g->cap_nodes = g->n_nodes;
    g->cap_batchnorms = g->n_batchnorms;
    g->value = copy(g, src->value, g->n_values, sizeof *g->value);
    g->node = copy(g, src->node, g->n_nodes, sizeof *g->node);
    g->input = copy(g, src->input, g->n_inputs, sizeof *g->input);
    g->output = copy(g, src->output, g->n_outputs, sizeof *g->output);
    g->batchnorm = copy(g, src->batchnorm, g->n_batchnorms, sizeof *g->batchnorm);
    bool ok = g->value != NULL && g->node != NULL && g->input != NULL && g->output != NULL &&
              g->batchnorm != NULL;
    for (int i = 0; ok && i < g->n_nodes; i++) {
        struct rt_node *n = &g->node[i];
        n->in = copy(g, n->in, n->n_in, sizeof *n->in);
        n->out = copy(g, n->out, n->n_out, sizeof *n->out);
        ok = n->in != NULL && n->out != NULL;
    }
    if (!ok) {
        rt_graph_destroy(g);
        return NULL;
    }
    return g;
}

/* Room for one more element in an array of the arena; the old one is left to the arena. */
static void *grow(struct rt_graph *g, void *old, int n, int *cap, size_t size)
{
    if (n < *cap)
        return old;
    int more = *cap < 16 ? 32 : *cap * 2;
    void *p = rt_graph_alloc(g, (size_t)more, size);
    if (p == NULL)
        return NULL;
    if (n > 0)
        memcpy(p, old, (size_t)n * size);
    *cap = more;
    return p;
}

int rt_graph_add_value(struct rt_graph *g, const char *name)
{
    struct rt_value *v = grow(g, g->value, g->n_values, &g->cap_values, sizeof *v);
    if (v == NULL)
        return -1;
    g->value = v;
    g->value[g->n_values] = (struct rt_value){ .name = name != NULL ? name : "", .producer = -1 };
    return g->n_values++;
}

int rt_graph_add_typed(struct rt_graph *g, enum rt_dtype dtype, const struct rt_shape *shape)
{
    int v = rt_graph_add_value(g, NULL);
    if (v < 0)
        return -1;
    g->value[v].dtype = dtype;
    g->value[v].shape = *shape;
    g->value[v].inferred = true;
    return v;
}

int rt_graph_add_const(struct rt_graph *g, const char *name, const struct rt_tensor *t)
{
    int v = rt_graph_add_value(g, name);
    if (v < 0)
        return -1;
    g->value[v].dtype = t->dtype;
    g->value[v].shape = t->shape;
    g->value[v].data = t->data;
    g->value[v].inferred = true;
    g->value[v].constant = true;
    return v;
}

int rt_graph_add_floats(struct rt_graph *g, const struct rt_shape *shape, float **data)
{
    struct rt_tensor t = { RT_FLOAT, *shape, NULL };
    t.data = rt_graph_alloc_bulk(g, (size_t)rt_shape_numel(shape), sizeof(float));
    if (t.data == NULL)
        return -1;
    *data = t.data;
    return rt_graph_add_const(g, NULL, &t);
}

static int *no_values(struct rt_graph *g, int n)
{
    int *v = rt_graph_alloc(g, (size_t)n, sizeof *v);
    for (int i = 0; v != NULL && i < n; i++)
        v[i] = -1;
    return v;
}

int rt_graph_add_node(struct rt_graph *g, const struct rt_op *op, const char *name, int n_in,
                      int n_out)
{
    struct rt_node *node = grow(g, g->node, g->n_nodes, &g->cap_nodes, sizeof *node);
    if (node == NULL)
        return -1;
    g->node = node;
    int *in = no_values(g, n_in), *out = no_values(g, n_out);
    if (in == NULL || out == NULL)
        return -1;
    g->node[g->n_nodes] = (struct rt_node){
        .op = op,
        .name = name != NULL ? name : "",
        .opset = g->opset,
        .n_in = n_in,
        .n_out = n_out,
        .in = in,
        .out = out,
        .batchnorm = -1,
        .algorithm = "",
    };
    return g->n_nodes++;
}

int rt_graph_add_input(struct rt_graph *g, struct rt_node *n, int v)
{
    int *in = rt_graph_alloc(g, (size_t)n->n_in + 1, sizeof *in);
    if (in == NULL)
        return -1;
    memcpy(in, n->in, (size_t)n->n_in * sizeof *in);
    in[n->n_in] = v;
    n->in = in;
    g->value[v].uses++;
    return n->n_in++;
}

void rt_graph_replace(struct rt_graph *g, int old, int new)
{
    for (int i = 0; i < g->n_nodes; i++) {
        struct rt_node *n = &g->node[i];
        for (int k = 0; n->op != NULL && k < n->n_in; k++)
            if (n->in[k] == old) {
                n->in[k] = new;
                g->value[old].uses--;
                g->value[new].uses++;
            }
    }
    for (int i = 0; i < g->n_outputs; i++)
        if (g->output[i] == old) {
            g->output[i] = new;
            g->value[old].uses--;
            g->value[new].uses++;
            g->value[new].is_output = true;
        }
    g->value[old].is_output = false;
}

void rt_graph_kill(struct rt_graph *g, int i)
{
    struct rt_node *n = &g->node[i];
    for (int k = 0; k < n->n_in; k++)
        if (n->in[k] >= 0)
            g->value[n->in[k]].uses--;
    n->op = NULL;
}

static void recount(struct rt_graph *g)
{
    for (int v = 0; v < g->n_values; v++) {
        g->value[v].uses = 0;
        g->value[v].producer = -1;
        g->value[v].is_output = false;
    }
    for (int i = 0; i < g->n_nodes; i++) {
        const struct rt_node *n = &g->node[i];
        if (n->op == NULL)
            continue;
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] >= 0)
                g->value[n->in[k]].uses++;
        for (int k = 0; k < n->n_out; k++)
            if (n->out[k] >= 0)
                g->value[n->out[k]].producer = i;
    }
    for (int i = 0; i < g->n_outputs; i++) {
        g->value[g->output[i]].uses++;
        g->value[g->output[i]].is_output = true;
    }
}

static bool is_read(const struct rt_graph *g, const struct rt_node *n)
{
    for (int k = 0; k < n->n_out; k++)
        if (n->out[k] >= 0 && g->value[n->out[k]].uses > 0)
            return true;
    return false;
}

/* From the outputs back: dropping one node may leave those before it unread. */
static void drop_unread(struct rt_graph *g, int *stack)
{
    int depth = 0;
    for (int i = 0; i < g->n_nodes; i++)
        if (g->node[i].op != NULL && !is_read(g, &g->node[i]))
            stack[depth++] = i;
    while (depth > 0) {
        struct rt_node *n = &g->node[stack[--depth]];
        if (n->op == NULL)
            continue;
        n->op = NULL;
        if (n->batchnorm >= 0 && g->batchnorm[n->batchnorm].fate == RT_BN_STANDALONE)
            g->batchnorm[n->batchnorm].fate = RT_BN_UNUSED;
        for (int k = 0; k < n->n_in; k++) {
            if (n->in[k] < 0)
                continue;
            struct rt_value *v = &g->value[n->in[k]];
            v->uses--;
            int p = v->producer;
            if (v->uses == 0 && p >= 0 && g->node[p].op != NULL && !is_read(g, &g->node[p]))
                stack[depth++] = p;
        }
    }
}

static bool is_ready(const struct rt_graph *g, const struct rt_node *n, const bool *made)
{
    for (int k = 0; k < n->n_in; k++)
        if (n->in[k] >= 0 && !made[n->in[k]] && g->value[n->in[k]].producer >= 0)
            return false;
    return true;
}

static bool is_sorted(const struct rt_graph *g)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const struct rt_node *n = &g->node[i];
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] >= 0 && g->value[n->in[k]].producer >= i)
                return false;
    }
    return true;
}

/* Dead nodes go; the others keep their order. */
static void close_ranks(struct rt_graph *g)
{
    int n_live = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        if (g->node[i].op == NULL)
            continue;
        if (n_live < i)
            g->node[n_live] = g->node[i];
        n_live++;
    }
    g->n_nodes = n_live;
}

/* The first node in the old order whose inputs are there goes next; a waiting node is looked at
 * again only when the last of its inputs that was missing is made. */
static enum rt_status sort(struct rt_graph *g, struct rt_error *err)
{
    if (is_sorted(g))
        return RT_OK;
    bool *made = rt_zalloc_array((size_t)g->n_values + 1, sizeof *made);
    int *stack = rt_alloc_array((size_t)g->n_nodes + 1, sizeof *stack);
    bool *placed = rt_zalloc_array((size_t)g->n_nodes + 1, sizeof *placed);
    struct rt_node *node = rt_graph_alloc(g, (size_t)g->n_nodes + 1, sizeof *node);
    enum rt_status s = RT_OK;
    int at = 0;
    if (made == NULL || stack == NULL || placed == NULL || node == NULL) {
        s = rt_graph_nomem(g, err);
        goto out;
    }
    for (int root = 0; root < g->n_nodes; root++) {
        if (placed[root])
            continue;
        /* Depth first: what root needs, then root. */
        int depth = 0;
        stack[depth++] = root;
        while (depth > 0) {
            int i = stack[depth - 1];
            const struct rt_node *n = &g->node[i];
            if (placed[i]) {
                depth--;
            } else if (is_ready(g, n, made)) {
                placed[i] = true;
                node[at++] = *n;
                for (int k = 0; k < n->n_out; k++)
                    if (n->out[k] >= 0)
                        made[n->out[k]] = true;
                depth--;
            } else if (depth >= g->n_nodes) {
                s = rt_fail(err, RT_E_INVALID, "node '%s' is part of a cycle", n->name);
                goto out;
            } else {
                for (int k = 0; k < n->n_in; k++)
                    if (n->in[k] >= 0 && !made[n->in[k]] && g->value[n->in[k]].producer >= 0) {
                        stack[depth++] = g->value[n->in[k]].producer;
                        break;
                    }
            }
        }
    }
    g->node = node;
    g->n_nodes = at;
    g->cap_nodes = at + 1;
    recount(g);
out:
    rt_free(made);
    rt_free(stack);
    rt_free(placed);
    return s;
}

enum rt_status rt_graph_tidy(struct rt_graph *g, struct rt_error *err)
{
    recount(g);
    /* A node is pushed at most once for each value it makes and once at the start. */
    size_t room = (size_t)g->n_nodes + (size_t)g->n_values + 1;
    int *stack = rt_alloc_array(room, sizeof *stack);
    if (stack == NULL)
        return rt_graph_nomem(g, err);
    drop_unread(g, stack);
    rt_free(stack);
    close_ranks(g);
    recount(g);
    return sort(g, err);
}

static enum rt_status verify_shape(const struct rt_value *v, struct rt_error *err)
{
    char text[RT_SHAPE_TEXT];
    int batched = 0;
    if (v->shape.rank < 0 || v->shape.rank > RT_MAX_RANK)
        return rt_fail(err, RT_E_INVALID, "value '%s' has rank %d", v->name, v->shape.rank);
    for (int i = 0; i < v->shape.rank; i++) {
        int64_t d = v->shape.dim[i];
        batched += rt_is_batched(d);
        if (d < 0 || (rt_is_batched(d) && d % RT_BATCH != 0))
            return rt_fail(err, RT_E_INVALID, "value '%s' has shape %s", v->name,
                           rt_shape_text(&v->shape, text));
    }
    if (batched > 1)
        return rt_fail(err, RT_E_INVALID, "value '%s' has the batch twice: %s", v->name,
                       rt_shape_text(&v->shape, text));
    return RT_OK;
}

enum rt_status rt_graph_verify(const struct rt_graph *g, struct rt_error *err)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const struct rt_node *n = &g->node[i];
        if (n->op == NULL)
            return rt_fail(err, RT_E_INVALID, "node %d is dead after tidying", i);
        for (int k = 0; k < n->n_in; k++) {
            if (n->in[k] < 0)
                continue;
            if (n->in[k] >= g->n_values)
                return rt_fail(err, RT_E_INVALID, "node '%s' reads value %d of %d", n->name,
                               n->in[k], g->n_values);
            const struct rt_value *v = &g->value[n->in[k]];
            if (v->producer >= i)
                return rt_fail(err, RT_E_INVALID, "node '%s' reads '%s' before it is made",
                               n->name, v->name);
            if (v->producer < 0 && !v->constant && !v->is_input)
                return rt_fail(err, RT_E_INVALID, "node '%s' reads '%s', which nothing makes",
                               n->name, v->name);
        }
        for (int k = 0; k < n->n_out; k++)
            if (n->out[k] >= 0 && g->value[n->out[k]].producer != i)
                return rt_fail(err, RT_E_INVALID, "node '%s' is not the producer of its output",
                               n->name);
        for (int k = 0; k < n->n_steps; k++)
            if (n->step[k].arg < 0 || n->step[k].arg >= n->n_in)
                return rt_fail(err, RT_E_INVALID, "node '%s': step %d has no operand", n->name, k);
    }
    for (int v = 0; v < g->n_values; v++) {
        const struct rt_value *value = &g->value[v];
        if (value->constant && value->producer >= 0)
            return rt_fail(err, RT_E_INVALID, "constant '%s' has a producer", value->name);
        enum rt_status s = value->inferred ? verify_shape(value, err) : RT_OK;
        if (s != RT_OK)
            return s;
    }
    return RT_OK;
}

struct text {
    char *s; /* NULL: measure only */
    size_t len;
};

__attribute__((format(printf, 2, 3))) static void say(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = t->s != NULL ? vsprintf(t->s + t->len, fmt, ap) : vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    assert(n >= 0);
    t->len += (size_t)n;
}

static void say_value(struct text *t, const struct rt_graph *g, int v)
{
    if (v < 0)
        say(t, "-");
    else if (g->value[v].name[0] != '\0')
        say(t, "%s", g->value[v].name);
    else
        say(t, "%%%d", v);
    if (v >= 0 && g->value[v].layout != RT_PLAIN)
        say(t, g->value[v].layout == RT_BLOCKED ? "'" : "\"");
}

static void say_shape(struct text *t, const struct rt_shape *s)
{
    say(t, "[");
    for (int i = 0; i < s->rank; i++) {
        say(t, i > 0 ? "," : "");
        if (!rt_is_batched(s->dim[i]))
            say(t, "%lld", (long long)s->dim[i]);
        else if (s->dim[i] == RT_BATCH)
            say(t, "N");
        else
            say(t, "%lldN", (long long)(s->dim[i] / RT_BATCH));
    }
    say(t, "]");
}

static void dump(struct text *t, const struct rt_graph *g)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const struct rt_node *n = &g->node[i];
        if (n->op == NULL)
            continue;
        say(t, "%s: %s(", n->name, n->op->name);
        for (int k = 0; k < n->n_in; k++) {
            say(t, k > 0 ? ", " : "");
            say_value(t, g, n->in[k]);
        }
        say(t, ") -> ");
        for (int k = 0; k < n->n_out; k++) {
            say(t, k > 0 ? ", " : "");
            say_value(t, g, n->out[k]);
            if (n->out[k] >= 0 && g->value[n->out[k]].inferred)
                say_shape(t, &g->value[n->out[k]].shape);
        }
        for (int k = 0; k < n->n_steps; k++)
            say(t, k > 0 ? ", %s" : " {%s", n->step[k].label);
        say(t, n->n_steps > 0 ? "}\n" : "\n");
    }
}

char *rt_graph_dump(const struct rt_graph *g)
{
    struct text t = { NULL, 0 };
    dump(&t, g);
    t.s = rt_zalloc(t.len + 1);
    if (t.s == NULL)
        return NULL;
    t.len = 0;
    dump(&t, g);
    return t.s;
}

struct rt_tensor rt_graph_tensor(const struct rt_graph *g, int v)
{
    if (v < 0)
        return (struct rt_tensor){ .dtype = RT_UNDEFINED };
    union { /* a tensor is a view that may be written elsewhere; constants are only read */
        const void *from;
        void *to;
    } data = { .from = g->value[v].data };
    return (struct rt_tensor){ g->value[v].dtype, g->value[v].shape, data.to };
}
