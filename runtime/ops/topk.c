/* TopK: the largest or smallest elements along an axis, in order, and where they were. */
#include <math.h>

#include "runtime/ops/element.h"
#include "runtime/ops/op.h"

/* An element, by a number that is ordered as elements of its type are, and its place. */
struct item {
    union {
        double real;
        int64_t whole; /* unsigned ones with their highest bit turned */
    } key;
    int64_t index;
};

struct state {
    int axis;
    int64_t k;
    bool largest;
};

static enum rt_status read_state(struct state *s, struct rt_graph *g, const struct rt_node *n,
                                 struct rt_error *err)
{
    const struct rt_shape *x = &rt_in(g, n, 0)->shape;
    const int64_t *ks;
    int64_t count;
    enum rt_status status =
        rt_fix_axis(n, rt_attr_int(n, "axis", -1), x->rank, false, &s->axis, err);
    if (status != RT_OK)
        return status;
    s->largest = rt_attr_int(n, "largest", 1) != 0;
    s->k = rt_attr_int(n, "k", -1);
    if (n->opset >= 10) {
        status = rt_const_ints(g, n, 1, "K", &ks, &count, err);
        if (status != RT_OK)
            return status;
        s->k = count == 1 ? ks[0] : -1;
    }
    if (rt_is_batched(x->dim[s->axis]))
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "selects along the batch axis");
    if (s->k < 0 || s->k > x->dim[s->axis])
        return rt_node_fail(err, RT_E_INVALID, n, "K is %lld of %lld elements", (long long)s->k,
                            (long long)x->dim[s->axis]);
    return RT_OK;
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    struct state state;
    enum rt_status s = rt_check_type(g, n, 0, RT_T_NUMBER, err);
    if (s == RT_OK)
        s = read_state(&state, g, n, err);
    if (s != RT_OK)
        return s;
    const enum rt_dtype dtype = rt_in(g, n, 0)->dtype;
    struct rt_shape y = rt_in(g, n, 0)->shape;
    y.dim[state.axis] = state.k;
    s = rt_set_out(g, n, 0, dtype, &y, err);
    return s == RT_OK ? rt_set_out(g, n, 1, RT_INT64, &y, err) : s;
}

static enum rt_status prepare(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    struct state *s = rt_arena_alloc(b->arena, sizeof *s);
    if (s == NULL)
        return rt_graph_nomem(b->g, err);
    n->state = s;
    enum rt_status status = read_state(s, b->g, n, err);
    if (status == RT_OK)
        rt_set_scratch(b, n, (size_t)s->k * sizeof(struct item));
    return status;
}

/* Whether a comes before b in the result. Equal elements keep their order; NaN is the largest. */
static bool before(const struct item *a, const struct item *b, bool real, bool largest)
{
    if (real) {
        const double x = a->key.real, y = b->key.real;
        if (isnan(x) != isnan(y))
            return isnan(x) == largest;
        if (x < y || x > y)
            return (x > y) == largest;
    } else if (a->key.whole != b->key.whole) {
        return (a->key.whole > b->key.whole) == largest;
    }
    return a->index < b->index;
}

/* Moves the item at i down until no child comes after it: the root is the last of all. */
static void sift(struct item *heap, int64_t n, int64_t i, bool real, bool largest)
{
    const struct item moving = heap[i];
    for (int64_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(&heap[child], &heap[child + 1], real, largest))
            child++;
        if (!before(&moving, &heap[child], real, largest))
            break;
        heap[i] = heap[child];
    }
    heap[i] = moving;
}

static struct item item_at(const union rt_chunk *chunk, enum rt_kind kind, int64_t i, int64_t index)
{
    struct item item = { .index = index };
    if (kind == RT_KIND_DOUBLE)
        item.key.real = chunk->d[i];
    else
        item.key.whole = (int64_t)(chunk->u[i] ^ (kind == RT_KIND_UINT ? (uint64_t)1 << 63 : 0));
    return item;
}

/* The first k of a column of len elements, best first. */
static void select_column(const struct rt_tensor *x, int64_t at, int64_t len, int64_t inner,
                          enum rt_kind kind, const struct state *s, struct item *heap)
{
    const bool real = kind == RT_KIND_DOUBLE;
    union rt_chunk buf;
    for (int64_t first = 0, n; first < len; first += n) {
        n = len - first < RT_CHUNK ? len - first : RT_CHUNK;
        rt_load_elements(&buf, kind, x->dtype, rt_element_at(x, at + first * inner), inner, n);
        for (int64_t i = 0; i < n; i++) {
            const struct item item = item_at(&buf, kind, i, first + i);
            if (first + i < s->k) {
                heap[first + i] = item;
                for (int64_t r = s->k / 2 - 1; first + i == s->k - 1 && r >= 0; r--)
                    sift(heap, s->k, r, real, s->largest);
            } else if (before(&item, &heap[0], real, s->largest)) {
                heap[0] = item;
                sift(heap, s->k, 0, real, s->largest);
            }
        }
    }
    for (int64_t n = s->k - 1; n > 0; n--) {
        const struct item last = heap[0];
        heap[0] = heap[n];
        heap[n] = last;
        sift(heap, n, 0, real, s->largest);
    }
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    const struct state *s = c->node->state;
    const struct rt_tensor *x = &c->in[0];
    const enum rt_kind kind = rt_dtype_is_float(x->dtype) ? RT_KIND_DOUBLE : rt_kind_of(x->dtype);
    const int64_t len = x->shape.dim[s->axis];
    const int64_t inner = rt_shape_range(&x->shape, s->axis + 1, x->shape.rank);
    const size_t size = rt_dtype_size(x->dtype);
    struct item *heap = (struct item *)c->scratch + (int64_t)w->id * s->k;
    int64_t i, end;
    rt_worker_share(w, rt_shape_range(&x->shape, 0, s->axis) * inner, 8, &i, &end);
    for (; i < end && s->k > 0; i++) {
        const int64_t from = i / inner * len * inner + i % inner;
        const int64_t to = i / inner * s->k * inner + i % inner;
        select_column(x, from, len, inner, kind, s, heap);
        for (int64_t k = 0; k < s->k; k++) {
            if (rt_has_out(c->node, 0)) {
                const char *e = rt_element_at(x, from + heap[k].index * inner);
                char *y = rt_element_at(&c->out[0], to + k * inner);
                for (size_t b = 0; b < size; b++)
                    y[b] = e[b];
            }
            if (rt_has_out(c->node, 1))
                ((int64_t *)c->out[1].data)[to + k * inner] = heap[k].index;
        }
    }
}

const struct rt_op rt_op_TopK = {
    .name = "TopK",
    .min_in = 1,
    .max_in = 2,
    .min_out = 2,
    .max_out = 2,
    .infer = infer,
    .prepare = prepare,
    .run = run,
};
