/* Lays values out in one block: each gets the lowest place that is free for as long as it lives,
 * the largest first, which wastes little (Pisarchyk and Lee, "Efficient Memory Management for Deep
 * Neural Net Inference", 2020, greedy by size). */
#include "runtime/plan.h"

#include "runtime/ops/op.h"

#include <limits.h>
#include <stdlib.h>

bool rt_value_bytes(const struct rt_value *v, int64_t n, size_t *bytes)
{
    struct rt_shape s = rt_shape_at(&v->shape, n);
    if (v->layout == RT_BLOCKED) {
        int64_t b = rt_kernels()->block;
        s.dim[1] = (s.dim[1] + b - 1) / b * b;
    }
    return rt_shape_bytes(&s, v->dtype, bytes);
}

static bool in_plan(const struct rt_graph *g, int v)
{
    return !g->value[v].constant && !g->value[v].is_input && g->value[v].producer >= 0;
}

/* The last node that reads value v; nodes count when it is an output. */
static void find_last_uses(const struct rt_graph *g, const struct rt_plan *p, int *last)
{
    for (int v = 0; v < g->n_values; v++)
        last[v] = -1;
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->node[i].n_in; k++)
            if (g->node[i].in[k] >= 0)
                last[p->root[g->node[i].in[k]]] = i;
    for (int i = 0; i < g->n_outputs; i++)
        last[p->root[g->output[i]]] = g->n_nodes;
}

static void find_views(const struct rt_graph *g, struct rt_plan *p)
{
    for (int v = 0; v < g->n_values; v++)
        p->root[v] = v;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct rt_node *n = &g->node[i];
        if ((n->op->traits & RT_OP_VIEW) != 0)
            p->root[n->out[0]] = p->root[n->in[0]];
    }
}

/* Whether node i may write its first output over its first input. */
static bool may_overwrite(const struct rt_graph *g, const struct rt_plan *p, const int *last, int i,
                          int64_t batch)
{
    const struct rt_node *n = &g->node[i];
    if ((n->op->traits & RT_OP_INPLACE) == 0 || n->in[0] < 0 || n->out[0] < 0)
        return false;
    int root = p->root[n->in[0]];
    if (!in_plan(g, root) || last[root] != i)
        return false;
    for (int k = 1; k < n->n_in; k++)
        if (n->in[k] >= 0 && p->root[n->in[k]] == root)
            return false;
    size_t a, b;
    return rt_value_bytes(&g->value[root], batch, &a) &&
           rt_value_bytes(&g->value[n->out[0]], batch, &b) && a == b;
}

static void share_in_place(const struct rt_graph *g, struct rt_plan *p, int *last, int64_t batch)
{
    for (int i = 0; i < g->n_nodes; i++) {
        if (!may_overwrite(g, p, last, i, batch))
            continue;
        int from = g->node[i].out[0], root = p->root[g->node[i].in[0]];
        last[root] = last[from] > last[root] ? last[from] : last[root];
        for (int v = 0; v < g->n_values; v++)
            if (p->root[v] == from)
                p->root[v] = root;
    }
}

static enum rt_status list_slots(const struct rt_graph *g, const int *last, int64_t batch,
                                 struct rt_plan *p, struct rt_error *err)
{
    for (int v = 0; v < g->n_values; v++) {
        p->slot[v] = -1;
        if (p->root[v] != v || !in_plan(g, v))
            continue;
        struct rt_slot *s = &p->slots[p->n_slots];
        *s = (struct rt_slot){ .first = g->value[v].producer, .last = last[v] };
        if (s->last < s->first)
            s->last = s->first; /* written though nobody reads it */
        if (!rt_value_bytes(&g->value[v], batch, &s->bytes))
            return rt_fail(err, RT_E_LIMIT, "value '%s' is too large", g->value[v].name);
        p->slot[v] = p->n_slots++;
    }
    for (int v = 0; v < g->n_values; v++)
        p->slot[v] = p->slot[p->root[v]];
    for (int i = 0; i < g->n_nodes; i++) {
        p->scratch[i] = -1;
        if (g->node[i].scratch == 0)
            continue;
        p->slots[p->n_slots] = (struct rt_slot){ .bytes = g->node[i].scratch, .first = i, .last = i };
        p->scratch[i] = p->n_slots++;
    }
    return RT_OK;
}

struct ranked {
    size_t bytes;
    int slot;
};

static int larger_first(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->slot < y->slot ? -1 : 1;
}

static int lower_first(const void *a, const void *b)
{
    const struct rt_slot *const *x = a, *const *y = b;
    return (*x)->offset < (*y)->offset ? -1 : (*x)->offset > (*y)->offset;
}

static bool at_one_time(const struct rt_slot *a, const struct rt_slot *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* Places slots[rank[i].slot] one after the other; neighbour has room for all. */
static bool place(struct rt_plan *p, const struct ranked *rank, const struct rt_slot **neighbour)
{
    for (int i = 0; i < p->n_slots; i++) {
        struct rt_slot *s = &p->slots[rank[i].slot];
        int n = 0;
        for (int k = 0; k < i; k++)
            if (at_one_time(s, &p->slots[rank[k].slot]))
                neighbour[n++] = &p->slots[rank[k].slot];
        qsort(neighbour, (size_t)n, sizeof *neighbour, lower_first);
        size_t at = 0, end;
        for (int k = 0; k < n; k++) {
            if (neighbour[k]->offset >= at && neighbour[k]->offset - at >= s->bytes)
                break;
            size_t after = neighbour[k]->offset + rt_align_up(neighbour[k]->bytes);
            at = after > at ? after : at;
        }
        s->offset = at;
        if (s->bytes > SIZE_MAX / 4 || !rt_add_size(at, rt_align_up(s->bytes), &end) ||
            end > SIZE_MAX / 4)
            return false;
        p->bytes = end > p->bytes ? end : p->bytes;
        if (!rt_add_size(p->unplanned, rt_align_up(s->bytes), &p->unplanned))
            p->unplanned = SIZE_MAX;
    }
    return true;
}

enum rt_status rt_plan_make(const struct rt_graph *g, int64_t max_batch, size_t limit,
                            struct rt_arena *arena, struct rt_plan *out, struct rt_error *err)
{
    size_t nv = (size_t)g->n_values + 1, nn = (size_t)g->n_nodes + 1;
    struct rt_plan p = { .n_values = g->n_values, .n_nodes = g->n_nodes };
    p.root = rt_arena_array(arena, nv, sizeof *p.root);
    p.slot = rt_arena_array(arena, nv, sizeof *p.slot);
    p.scratch = rt_arena_array(arena, nn, sizeof *p.scratch);
    p.slots = rt_arena_array(arena, nv + nn, sizeof *p.slots);
    int *last = rt_alloc_array(nv, sizeof *last);
    struct ranked *rank = rt_alloc_array(nv + nn, sizeof *rank);
    const struct rt_slot **neighbour = rt_alloc_array(nv + nn, sizeof *neighbour);
    enum rt_status s = RT_OK;
    if (p.root == NULL || p.slot == NULL || p.scratch == NULL || p.slots == NULL || last == NULL ||
        rank == NULL || neighbour == NULL) {
        s = rt_fail(err, RT_E_NOMEM, "out of memory while planning the model's memory");
        goto out;
    }
    find_views(g, &p);
    find_last_uses(g, &p, last);
    share_in_place(g, &p, last, max_batch);
    s = list_slots(g, last, max_batch, &p, err);
    if (s != RT_OK)
        goto out;
    for (int i = 0; i < p.n_slots; i++)
        rank[i] = (struct ranked){ p.slots[i].bytes, i };
    qsort(rank, (size_t)p.n_slots, sizeof *rank, larger_first);
    if (!place(&p, rank, neighbour) || (limit != 0 && p.bytes > limit)) {
        s = rt_fail(err, RT_E_LIMIT,
                    "activations for %lld samples need %zu bytes, more than the limit of %zu",
                    (long long)max_batch, p.bytes, limit);
        goto out;
    }
    *out = p;
out:
    rt_free(last);
    rt_free(rank);
    rt_free(neighbour);
    return s;
}
