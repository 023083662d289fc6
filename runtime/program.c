/* graph -> passes -> layouts -> packed weights -> plan. */
#include "runtime/program.h"

#include "runtime/inline.h"
#include "runtime/ops/eval.h"
#include "runtime/ops/op.h"
#include "runtime/passes/pass.h"
#include "runtime/slice.h"

#include <stdio.h>
#include <string.h>

void rt_program_destroy(struct rt_program *p)
{
    if (p == NULL)
        return;
    rt_graph_destroy(p->g);
    rt_arena_destroy(p->arena);
    rt_free(p);
}

static void set_inputs(struct rt_graph *g, const struct rt_shape *inputs)
{
    for (int i = 0; i < g->n_inputs; i++) {
        struct rt_value *v = &g->value[g->input[i]];
        v->shape = inputs[i];
        v->inferred = true;
        g->batched |= rt_shape_batch_axis(&inputs[i]) >= 0;
    }
}

/* A number of the file's own that would be taken for a multiple of the batch is no dimension that
 * any memory holds. */
static enum rt_status check_file_constants(const struct rt_graph *g, struct rt_error *err)
{
    for (int v = 0; v < g->n_values; v++)
        if (rt_holds_batch(g, v))
            return rt_fail(err, RT_E_LIMIT,
                           "constant '%s' holds an integer of 2^39 or more, which "
                           "no dimension can be",
                           g->value[v].name);
    return RT_OK;
}

/* A node that runs must not take "a multiple of the batch" for a number. */
static enum rt_status check_batch_constants(const struct rt_graph *g, struct rt_error *err)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const struct rt_node *n = &g->node[i];
        for (int k = 0; k < n->n_in; k++)
            if (rt_holds_batch(g, n->in[k]) && (n->op->traits & RT_OP_READS_SHAPE) == 0)
                return rt_node_fail(err, RT_E_UNSUPPORTED, n,
                                    "it computes with the number of samples");
    }
    for (int i = 0; i < g->n_outputs; i++)
        if (rt_holds_batch(g, g->output[i]))
            return rt_fail(err, RT_E_UNSUPPORTED, "output '%s' is the number of samples",
                           g->value[g->output[i]].name);
    return RT_OK;
}

/* Mixing samples would make answers depend on who shares a batch. */
static enum rt_status check_batch_axis(const struct rt_graph *g, struct rt_error *err)
{
    for (int i = 0; g->batched && i < g->n_outputs; i++) {
        const struct rt_value *v = &g->value[g->output[i]];
        if (rt_shape_batch_axis(&v->shape) != 0)
            return rt_fail(err, RT_E_UNSUPPORTED,
                           "dimension 0 of output '%s' does not follow the batch", v->name);
    }
    return RT_OK;
}

/* Bytes of the constants that n reads. */
static size_t constant_bytes(const struct rt_graph *g, const struct rt_node *n)
{
    size_t sum = 0;
    for (int i = 0; i < n->n_in; i++) {
        size_t bytes;
        const struct rt_value *v = n->in[i] >= 0 ? &g->value[n->in[i]] : NULL;
        if (v != NULL && v->constant && rt_shape_bytes(&v->shape, v->dtype, &bytes))
            sum += bytes;
    }
    return sum;
}

/* How far the constants are, in bytes, for whoever asked. */
struct report {
    const struct rt_options *to;
    size_t done, packed_later, total;
};

static void tell(const struct report *r, size_t done)
{
    if (r->to->progress != NULL)
        r->to->progress(r->to->progress_user, done, r->total);
}

static void tell_packed(void *user, size_t pieces, size_t of)
{
    const struct report *r = user;
    if (pieces < of)
        tell(r, r->done + (size_t)((double)r->packed_later * (double)pieces / (double)of));
}

static enum rt_status prepare_nodes(struct rt_program *p, struct rt_build *b, struct report *r,
                                    struct rt_error *err)
{
    for (int i = 0; i < p->g->n_nodes; i++)
        r->total += constant_bytes(p->g, &p->g->node[i]);
    for (int i = 0; i < p->g->n_nodes; i++) {
        struct rt_node *n = &p->g->node[i];
        const size_t bytes = constant_bytes(p->g, n);
        const int64_t pieces = b->packings->n;
        n->algorithm = "";
        if (bytes > 0)
            tell(r, r->done);
        enum rt_status s = n->op->prepare != NULL ? n->op->prepare(b, n, err) : RT_OK;
        if (s != RT_OK)
            return rt_arena_over(p->arena) ? rt_fail(err, RT_E_LIMIT,
                                                     "the packed weights need more memory than "
                                                     "the model's limit allows")
                                           : s;
        *(b->packings->n > pieces ? &r->packed_later : &r->done) += bytes;
        p->g->random |= (n->op->traits & RT_OP_RANDOM) != 0;
        p->weight_bytes += n->weight_bytes;
    }
    for (int i = 0; i < p->g->n_nodes; i++)
        p->flops += p->g->node[i].flops;
    return RT_OK;
}

static enum rt_status prepare(struct rt_program *p, const struct rt_program_options *how,
                              struct rt_error *err)
{
    struct rt_packings packings = { .head = NULL };
    struct rt_build b = {
        .g = p->g,
        .arena = p->arena,
        .max_batch = p->max_batch,
        .threads = how->threads,
        .exact = how->options->exact,
        .packings = &packings,
    };
    struct report r = { .to = how->options };
    enum rt_status s = rt_choose(p->g, how->options, &p->chosen, err);
    if (s == RT_OK)
        s = prepare_nodes(p, &b, &r, err);
    if (s == RT_OK)
        rt_packings_run(&packings, how->threads, tell_packed, &r);
    tell(&r, r.total);
    return s;
}

/* Constants that nodes still read move out of bulk memory and the file's bytes. */
static enum rt_status keep_constants(struct rt_program *p, struct rt_error *err)
{
    struct rt_graph *g = p->g;
    enum rt_status s = rt_graph_tidy(g, err);
    for (int v = 0; s == RT_OK && v < g->n_values; v++) {
        struct rt_value *value = &g->value[v];
        if (!value->constant)
            continue;
        size_t bytes;
        if (value->uses == 0 || !rt_shape_bytes(&value->shape, value->dtype, &bytes)) {
            value->data = value->unscaled = NULL;
            continue;
        }
        if (!rt_graph_fetch(g, v))
            return rt_graph_nomem(g, err);
        void *copy = rt_arena_alloc(p->arena, bytes);
        if (copy == NULL)
            return rt_arena_over(p->arena)
                       ? rt_fail(err, RT_E_LIMIT, "constants need more memory than the limit")
                       : rt_fail_nomem(err, bytes);
        if (bytes > 0)
            memcpy(copy, value->data, bytes);
        value->data = copy;
        p->weight_bytes += bytes;
    }
    rt_arena_destroy(g->bulk);
    g->bulk = NULL;
    return s;
}

static const char *fused_text(struct rt_program *p, const struct rt_node *n)
{
    char text[256] = "";
    int at = 0;
    for (int k = 0; k < n->n_steps && at < (int)sizeof text - 1; k++)
        at +=
            snprintf(text + at, sizeof text - (size_t)at, k > 0 ? ", %s" : "%s", n->step[k].label);
    return rt_arena_strdup(p->arena, text, strlen(text));
}

/* Writes which layers n reads to from[], which has room for its inputs; how many they are. */
static int readings(const struct rt_graph *g, const struct rt_node *n, int *from)
{
    int count = 0;
    for (int k = 0; k < n->n_in; k++) {
        if (n->in[k] < 0 || g->value[n->in[k]].constant)
            continue;
        const int producer = g->value[n->in[k]].producer;
        int at = count;
        while (at > 0 && from[at - 1] > producer)
            at--;
        if (at > 0 && from[at - 1] == producer)
            continue;
        memmove(from + at + 1, from + at, (size_t)(count - at) * sizeof *from);
        from[at] = producer;
        count++;
    }
    return count;
}

static enum rt_status describe(struct rt_program *p, struct rt_error *err)
{
    struct rt_graph *g = p->g;
    p->layer = rt_arena_array(p->arena, (size_t)g->n_nodes, sizeof *p->layer);
    if (p->layer == NULL)
        return rt_fail(err, RT_E_NOMEM, "out of memory while describing the model");
    p->n_layers = g->n_nodes;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct rt_node *n = &g->node[i];
        const struct rt_value *y = &g->value[n->out[0] >= 0 ? n->out[0] : n->out[1]];
        struct rt_layer *l = &p->layer[i];
        *l = (struct rt_layer){
            .name = n->name,
            .op = n->op->name,
            .fused = fused_text(p, n),
            .algorithm = n->algorithm,
            .dtype = y->dtype,
            .shape = y->shape,
            .flops = n->flops,
            .weight_bytes = n->weight_bytes,
        };
        int *from = rt_arena_array(p->arena, (size_t)n->n_in, sizeof *from);
        if (l->fused == NULL || from == NULL)
            return rt_fail(err, RT_E_NOMEM, "out of memory while describing the model");
        l->n_from = readings(g, n, from);
        l->from = from;
        l->n_choices = n->n_ways;
        l->chosen = n->choice;
        memcpy(l->choice, n->way, sizeof l->choice);
        for (int k = 0; k < l->shape.rank; k++)
            if (rt_is_batched(l->shape.dim[k]))
                l->shape.dim[k] = -1;
    }
    return RT_OK;
}

static enum rt_status make_plan(struct rt_program *p, const struct rt_program_options *how,
                                struct rt_error *err)
{
    const struct rt_plan_for what = {
        .max_batch = p->max_batch,
        .threads = how->threads,
        .cut = rt_slice_cut(p->g, p->max_batch),
        .limit = how->options->memory_limit,
    };
    return rt_plan_make(p->g, &what, p->arena, &p->plan, err);
}

enum rt_status rt_program_compile(const struct rt_graph *src, const struct rt_shape *inputs,
                                  const struct rt_program_options *how, struct rt_program **out,
                                  struct rt_error *err)
{
    size_t limit = how->options->memory_limit;
    struct rt_program *p = rt_zalloc(sizeof *p);
    if (p == NULL)
        return rt_fail_nomem(err, sizeof *p);
    enum rt_status s = RT_OK;
    p->arena = rt_arena_create(limit);
    p->g = rt_graph_clone(src, limit);
    if (p->arena == NULL || p->g == NULL) {
        s = rt_fail(err, RT_E_NOMEM, "out of memory while compiling the model");
        goto out;
    }
    set_inputs(p->g, inputs);
    p->max_batch = p->g->batched ? how->max_batch : 1;
    s = check_file_constants(p->g, err);
    if (s == RT_OK)
        s = rt_passes_run(p->g, how->options, how->threads, err);
    if (s == RT_OK)
        s = check_batch_constants(p->g, err);
    if (s == RT_OK)
        s = check_batch_axis(p->g, err);
    if (s == RT_OK)
        s = rt_assign_layouts(p->g, err);
    if (s == RT_OK)
        s = prepare(p, how, err);
    if (s == RT_OK)
        s = keep_constants(p, err);
    if (s == RT_OK)
        s = make_plan(p, how, err);
    if (s == RT_OK)
        s = describe(p, err);
out:
    if (s == RT_OK)
        *out = p;
    else
        rt_program_destroy(p);
    return s;
}

static enum rt_status evaluate_all(struct rt_graph *g, int threads, struct rt_error *err)
{
    for (int i = 0; i < g->n_nodes; i++) {
        enum rt_status s;
        if (g->node[i].op == NULL)
            continue;
        if (rt_can_inline_if(g, i)) {
            s = rt_inline_if(g, i, err);
            if (s == RT_OK)
                s = rt_graph_tidy(g, err);
            i = -1; /* the nodes have moved; those that are done are dead */
        } else {
            s = rt_eval(g, i, threads, err);
        }
        if (s != RT_OK)
            return s;
    }
    return RT_OK;
}

enum rt_status rt_interpret(const struct rt_graph *src, const struct rt_tensor *in,
                            const struct rt_options *options, int threads, struct rt_tensor *out,
                            struct rt_graph **holder, struct rt_error *err)
{
    struct rt_graph *g = rt_graph_clone(src, options->memory_limit);
    if (g == NULL)
        return rt_fail(err, RT_E_NOMEM, "out of memory while running the model");
    for (int i = 0; i < g->n_inputs; i++) {
        struct rt_value *v = &g->value[g->input[i]];
        v->shape = in[i].shape;
        v->data = in[i].data;
        v->inferred = v->constant = true;
    }
    enum rt_status s = evaluate_all(g, threads, err);
    if (s != RT_OK) {
        rt_graph_destroy(g);
        return s;
    }
    for (int i = 0; i < g->n_outputs; i++)
        out[i] = rt_graph_tensor(g, g->output[i]);
    *holder = g;
    return RT_OK;
}
