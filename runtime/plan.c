/* Lays values out in one block: each gets the lowest place that is free for as long as it lives,
 * the largest first, which wastes little (Pisarchyk and Lee, "Efficient Memory Management for Deep
 * Neural Net Inference", 2020, greedy by size). */
#include "runtime/plan.h"

#include "runtime/ops/op.h"
#include "runtime/ops/pixels.h"

#include <limits.h>
#include <stdlib.h>

bool rt_value_bytes(const struct rt_value *v, int64_t n, size_t *bytes)
{
    struct rt_shape s = rt_shape_at(&v->shape, n);
    if (v->layout == RT_BLOCKED) {
        int64_t b = rt_kernels()->block;
        s.dim[1] = (s.dim[1] + b - 1) / b * b;
    } else if (v->layout == RT_PIXELS) {
        s.dim[1] = rt_pixel_bytes(s.dim[1]);
    }
    return rt_shape_bytes(&s, v->dtype, bytes);
}

static bool in_plan(const struct rt_graph *g, int v)
{
    return !g->value[v].constant && !g->value[v].is_input && !g->value[v].streamed &&
           g->value[v].producer >= 0;
}

/* Of a value whose memory is its own: the first node that writes to it, and the last that reads it;
 * the number of nodes when it is an output. */
struct use {
    int first, last;
};

static void find_uses(const struct rt_graph *g, const struct rt_plan *p, struct use *use)
{
    for (int v = 0; v < g->n_values; v++)
        use[v] = (struct use){ g->value[v].producer, -1 };
    for (int i = 0; i < g->n_nodes; i++) {
        const struct rt_node *n = &g->node[i];
        const bool later = n->out[0] >= 0 && g->value[n->out[0]].streamed; /* by its reader */
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] >= 0)
                use[p->root[n->in[k]]].last = later ? i + 1 : i;
    }
    for (int i = 0; i < g->n_outputs; i++)
        use[p->root[g->output[i]]].last = g->n_nodes;
}

static void find_views(const struct rt_graph *g, struct rt_plan *p)
{
    for (int v = 0; v < g->n_values; v++) {
        p->root[v] = v;
        p->at[v] = 0;
    }
    for (int i = 0; i < g->n_nodes; i++) {
        const struct rt_node *n = &g->node[i];
        if ((n->op->traits & RT_OP_VIEW) != 0)
            p->root[n->out[0]] = p->root[n->in[0]];
    }
}

/* Value v and what lies in its memory become a part of y's. */
static void join(const struct rt_graph *g, struct rt_plan *p, struct use *use, int v, int y,
                 size_t at)
{
    use[y].first = use[v].first < use[y].first ? use[v].first : use[y].first;
    use[y].last = use[v].last > use[y].last ? use[v].last : use[y].last;
    for (int u = 0; u < g->n_values; u++)
        if (p->root[u] == v) {
            p->root[u] = y;
            p->at[u] += at;
        }
}

/* The last node that may read what was joined: that takes memory of one sample. */
static int end_of_joins(const struct rt_graph *g, const struct rt_plan_for *what)
{
    return what->max_batch == 1 ? g->n_nodes : what->cut - 1;
}

/* What is joined is made where it belongs in the whole, so that there is nothing to copy. In memory
 * of one sample, as inputs follow each other in each, but not those of a batch. */
static void find_joins(const struct rt_graph *g, const struct rt_plan_for *what, struct rt_plan *p,
                       struct use *use)
{
    const int latest = end_of_joins(g, what);
    for (int i = 0; i < g->n_nodes; i++) {
        const struct rt_node *n = &g->node[i];
        if ((n->op->traits & RT_OP_JOINS) == 0 || n->n_steps > 0)
            continue;
        const int y = n->out[0];
        if (p->root[y] != y || !in_plan(g, y) || use[y].last > latest ||
            rt_dim_at(g->value[y].shape.dim[0], 1) != 1)
            continue;
        size_t at = 0, bytes;
        for (int k = 0; k < n->n_in && rt_value_bytes(&g->value[n->in[k]], 1, &bytes); k++) {
            const int v = n->in[k];
            if (p->root[v] == v && in_plan(g, v) && use[v].last <= latest)
                join(g, p, use, v, y, at);
            at += bytes;
        }
    }
}

/* Whether node i may write its first output over its first input. */
static bool may_overwrite(const struct rt_graph *g, const struct rt_plan_for *what,
                          const struct rt_plan *p, const struct use *use, int i)
{
    const struct rt_node *n = &g->node[i];
    if ((n->op->traits & RT_OP_INPLACE) == 0 || n->in[0] < 0 || n->out[0] < 0)
        return false;
    const int x = n->in[0], y = n->out[0], root = p->root[x];
    if (!in_plan(g, root) || use[root].last != i || p->root[y] != y)
        return false;
    for (int k = 1; k < n->n_in; k++)
        if (n->in[k] >= 0 && p->root[n->in[k]] == root)
            return false;
    if (use[root].first < g->value[root].producer && use[y].last > end_of_joins(g, what))
        return false; /* it was joined */
    size_t whole, part, made;
    return rt_value_bytes(&g->value[root], what->max_batch, &whole) &&
           rt_value_bytes(&g->value[x], what->max_batch, &part) &&
           rt_value_bytes(&g->value[y], what->max_batch, &made) && part == whole && made == whole;
}

static void share_in_place(const struct rt_graph *g, const struct rt_plan_for *what,
                           struct rt_plan *p, struct use *use)
{
    for (int i = 0; i < g->n_nodes; i++) {
        if (!may_overwrite(g, what, p, use, i))
            continue;
        int from = g->node[i].out[0], root = p->root[g->node[i].in[0]];
        use[root].last = use[from].last > use[root].last ? use[from].last : use[root].last;
        for (int v = 0; v < g->n_values; v++)
            if (p->root[v] == from)
                p->root[v] = root;
    }
}

/* Memory that is held by nodes first..last. Samples reach the cut one after the other: what is for
 * all of them is held from the start. */
static struct rt_slot held(const struct rt_plan *p, int first, int last)
{
    struct rt_slot s = { .first = first, .last = last };
    s.of_sample = last < p->cut;
    if (first < p->cut && !s.of_sample)
        s.first = 0;
    return s;
}

static enum rt_status list_values(const struct rt_graph *g, const struct use *use, int64_t batch,
                                  struct rt_plan *p, struct rt_error *err)
{
    for (int v = 0; v < g->n_values; v++) {
        p->slot[v] = -1;
        if (p->root[v] != v || !in_plan(g, v))
            continue;
        struct rt_slot *s = &p->slots[p->n_slots];
        const int made = g->value[v].producer; /* it may be that nobody reads it */
        *s = held(p, use[v].first, use[v].last > made ? use[v].last : made);
        if (!rt_value_bytes(&g->value[v], s->of_sample ? 1 : batch, &s->bytes))
            return rt_fail(err, RT_E_LIMIT, "value '%s' is too large", g->value[v].name);
        p->slot[v] = p->n_slots++;
    }
    for (int v = 0; v < g->n_values; v++)
        p->slot[v] = p->slot[p->root[v]];
    return RT_OK;
}

static void list_scratch(const struct rt_graph *g, int threads, struct rt_plan *p)
{
    for (int i = 0; i < p->cut; i++) {
        const size_t each = rt_align_up(g->node[i].scratch_each);
        p->worker_bytes = each > p->worker_bytes ? each : p->worker_bytes;
    }
    const int shared = p->n_slots;
    if (p->worker_bytes > 0)
        p->slots[p->n_slots++] = (struct rt_slot){ .bytes = (size_t)threads * p->worker_bytes,
                                                   .first = 0,
                                                   .last = p->cut - 1 };
    for (int i = 0; i < g->n_nodes; i++) {
        p->scratch[i] = -1;
        if (g->node[i].scratch == 0)
            continue;
        p->scratch[i] = i < p->cut ? shared : p->n_slots++;
        if (i >= p->cut)
            p->slots[p->scratch[i]] =
                (struct rt_slot){ .bytes = g->node[i].scratch, .first = i, .last = i };
    }
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

/* Arrays of as many elements as there are slots. */
struct room {
    struct ranked *rank;
    const struct rt_slot **neighbour;
};

/* Places the slots of samples or all others, among themselves; *bytes is what they take. */
static bool place(struct rt_plan *p, const struct room *room, bool of_sample, size_t *bytes)
{
    int n_ranked = 0;
    for (int i = 0; i < p->n_slots; i++)
        if (p->slots[i].of_sample == of_sample)
            room->rank[n_ranked++] = (struct ranked){ p->slots[i].bytes, i };
    qsort(room->rank, (size_t)n_ranked, sizeof *room->rank, larger_first);
    *bytes = 0;
    for (int i = 0; i < n_ranked; i++) {
        struct rt_slot *s = &p->slots[room->rank[i].slot];
        int n = 0;
        for (int k = 0; k < i; k++)
            if (at_one_time(s, &p->slots[room->rank[k].slot]))
                room->neighbour[n++] = &p->slots[room->rank[k].slot];
        qsort(room->neighbour, (size_t)n, sizeof *room->neighbour, lower_first);
        size_t at = 0, end;
        for (int k = 0; k < n; k++) {
            const struct rt_slot *other = room->neighbour[k];
            if (other->offset >= at && other->offset - at >= s->bytes)
                break;
            size_t after = other->offset + rt_align_up(other->bytes);
            at = after > at ? after : at;
        }
        s->offset = at;
        if (s->bytes > SIZE_MAX / 4 || !rt_add_size(at, rt_align_up(s->bytes), &end) ||
            end > SIZE_MAX / 4)
            return false;
        *bytes = end > *bytes ? end : *bytes;
    }
    return true;
}

/* The memory of samples is a slot of its own among the others while nodes before the cut run. */
static bool place_all(struct rt_plan *p, const struct room *room)
{
    if (!place(p, room, true, &p->copy_bytes))
        return false;
    const int samples = p->n_slots;
    size_t bytes = 0;
    if (p->copy_bytes > 0) {
        if (!rt_mul_size(p->copy_bytes, (size_t)p->copies, &bytes))
            return false;
        p->slots[p->n_slots++] = (struct rt_slot){ .bytes = bytes, .first = 0, .last = p->cut - 1 };
    }
    if (!place(p, room, false, &p->bytes))
        return false;
    p->n_slots = samples;
    for (int i = 0; i < samples; i++)
        if (p->slots[i].of_sample)
            p->slots[i].offset += p->slots[samples].offset;
    return true;
}

/* What all slots would take side by side. */
static size_t unplanned_bytes(const struct rt_plan *p)
{
    size_t sum = 0, bytes;
    for (int i = 0; i < p->n_slots; i++) {
        const size_t copies = p->slots[i].of_sample ? (size_t)p->copies : 1;
        if (!rt_mul_size(rt_align_up(p->slots[i].bytes), copies, &bytes) ||
            !rt_add_size(sum, bytes, &sum))
            return SIZE_MAX;
    }
    return sum;
}

enum rt_status rt_plan_make(const struct rt_graph *g, const struct rt_plan_for *what,
                            struct rt_arena *arena, struct rt_plan *out, struct rt_error *err)
{
    /* Each value and each node's scratch, and those that samples share. */
    const size_t nv = (size_t)g->n_values + 1, nn = (size_t)g->n_nodes + 1, ns = nv + nn + 2;
    struct rt_plan p = { .n_values = g->n_values, .n_nodes = g->n_nodes, .cut = what->cut };
    p.copies = what->max_batch < what->threads ? (int)what->max_batch : what->threads;
    p.root = rt_arena_array(arena, nv, sizeof *p.root);
    p.at = rt_arena_array(arena, nv, sizeof *p.at);
    p.slot = rt_arena_array(arena, nv, sizeof *p.slot);
    p.scratch = rt_arena_array(arena, nn, sizeof *p.scratch);
    p.slots = rt_arena_array(arena, ns, sizeof *p.slots);
    struct use *use = rt_alloc_array(nv, sizeof *use);
    struct room room = { rt_alloc_array(ns, sizeof *room.rank),
                         rt_alloc_array(ns, sizeof *room.neighbour) };
    enum rt_status s = RT_OK;
    if (p.root == NULL || p.at == NULL || p.slot == NULL || p.scratch == NULL || p.slots == NULL ||
        use == NULL || room.rank == NULL || room.neighbour == NULL) {
        s = rt_fail(err, RT_E_NOMEM, "out of memory while planning the model's memory");
        goto out;
    }
    find_views(g, &p);
    find_uses(g, &p, use);
    find_joins(g, what, &p, use);
    share_in_place(g, what, &p, use);
    s = list_values(g, use, what->max_batch, &p, err);
    if (s != RT_OK)
        goto out;
    list_scratch(g, what->threads, &p);
    if (!place_all(&p, &room) || (what->limit != 0 && p.bytes > what->limit)) {
        s = rt_fail(err, RT_E_LIMIT,
                    "activations for %lld samples need %zu bytes, more than the limit of %zu",
                    (long long)what->max_batch, p.bytes, what->limit);
        goto out;
    }
    p.unplanned = unplanned_bytes(&p);
    *out = p;
out:
    rt_free(use);
    rt_free(room.rank);
    rt_free(room.neighbour);
    return s;
}
