/* Einsum: products of any number of tensors summed over the labels that the result lacks. */
#include <ctype.h>
#include <string.h>

#include "runtime/ops/element.h"
#include "runtime/ops/op.h"

/* Labels are the letters; the axes that "..." stands for come after them, the last one last. */
#define LETTERS 52
#define LABELS (LETTERS + RT_MAX_RANK)
#define MAX_OPERANDS 8

/* A term of the equation: the label of each axis, in order. */
struct term {
    int rank;
    int label[RT_MAX_RANK];
};

struct equation {
    int n_operands;
    struct term operand[MAX_OPERANDS], result;
};

static int label_of(char c)
{
    return c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? 26 + c - 'a' : -1;
}

/* Reads a term up to a comma, an arrow or the end. covered: axes that "..." stands for. */
static const char *read_term(const char *p, struct term *t, int covered)
{
    for (t->rank = 0; *p != '\0' && *p != ',' && *p != '-'; p++) {
        if (*p == ' ')
            continue;
        const bool dots = strncmp(p, "...", 3) == 0;
        const int more = dots ? covered : 1;
        if ((!dots && label_of(*p) < 0) || t->rank + more > RT_MAX_RANK)
            return NULL;
        for (int i = 0; i < more; i++)
            t->label[t->rank++] = dots ? LABELS - covered + i : label_of(*p);
        p += dots ? 2 : 0;
    }
    return p;
}

static int count_letters(const char *p)
{
    int n = 0;
    for (; *p != '\0' && *p != ',' && *p != '-'; p++)
        n += label_of(*p) >= 0;
    return n;
}

/* Without an arrow the result has what "..." stands for and then, in alphabetical order, the
 * letters that stand in the equation once. */
static void imply_result(struct equation *e, const char *text, int covered)
{
    static const char order[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    e->result.rank = 0;
    for (int i = 0; i < covered; i++)
        e->result.label[e->result.rank++] = LABELS - covered + i;
    for (const char *c = order; *c != '\0'; c++) {
        const char *first = strchr(text, *c);
        if (first != NULL && strchr(first + 1, *c) == NULL && e->result.rank < RT_MAX_RANK)
            e->result.label[e->result.rank++] = label_of(*c);
    }
}

static enum rt_status parse(struct equation *e, const struct rt_node *n,
                            const struct rt_shape *const *shapes, struct rt_error *err)
{
    const char *text = rt_attr_string(n, "equation", "");
    const char *p = text, *bad = "cannot be read";
    int most = 0;
    e->n_operands = 0;
    for (bool more = true; more;) {
        const int i = e->n_operands;
        if (i == n->n_in || i == MAX_OPERANDS) {
            bad = "does not have one term an input";
            goto fail;
        }
        /* NOLINTNEXTLINE(clang-analyzer-core.*): there is one an input */
        const int covered = shapes[i]->rank - count_letters(p);
        p = read_term(p, &e->operand[i], covered);
        if (p == NULL || covered < 0)
            goto fail;
        if (e->operand[i].rank != shapes[i]->rank) {
            bad = "does not fit the rank of an input";
            goto fail;
        }
        const bool has_dots = memchr(text, '.', strlen(text)) != NULL;
        most = has_dots && covered > most ? covered : most;
        e->n_operands++;
        more = *p == ',';
        p += more;
    }
    if (e->n_operands != n->n_in) {
        bad = "does not have one term an input";
        goto fail;
    }
    if (*p == '\0') {
        imply_result(e, text, most);
        return RT_OK;
    }
    if (strncmp(p, "->", 2) == 0) {
        p = read_term(p + 2, &e->result, most);
        if (p != NULL && *p == '\0')
            return RT_OK;
    }
fail:
    return rt_node_fail(err, RT_E_INVALID, n, "equation '%s' %s", text, bad);
}

/* The size of each label, 0 for one that does not occur; a label's axes are as long as each other
 * or 1. */
static enum rt_status measure(const struct equation *e, const struct rt_node *n,
                              const struct rt_shape *const *shapes, int64_t size[LABELS],
                              bool used[LABELS], struct rt_error *err)
{
    memset(used, 0, LABELS * sizeof *used);
    for (int i = 0; i < e->n_operands; i++) {
        for (int k = 0; k < e->operand[i].rank; k++) {
            const int label = e->operand[i].label[k];
            /* NOLINTNEXTLINE(clang-analyzer-core.*): there is one an operand */
            const int64_t dim = shapes[i]->dim[k];
            if (!used[label] || size[label] == 1)
                size[label] = dim;
            else if (dim != 1 && dim != size[label])
                return rt_node_fail(err, RT_E_INVALID, n, "a label stands for %lld and for %lld",
                                    (long long)size[label], (long long)dim);
            used[label] = true;
        }
    }
    for (int k = 0; k < e->result.rank; k++) {
        const int label = e->result.label[k];
        bool twice = false;
        for (int j = 0; j < k; j++)
            twice = twice || e->result.label[j] == label;
        if (!used[label] || twice)
            return rt_node_fail(err, RT_E_INVALID, n, "the result's labels are wrong");
    }
    return RT_OK;
}

static bool in_result(const struct equation *e, int label)
{
    for (int k = 0; k < e->result.rank; k++)
        if (e->result.label[k] == label)
            return true;
    return false;
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const struct rt_shape *shapes[MAX_OPERANDS];
    struct equation e;
    int64_t size[LABELS];
    bool used[LABELS];
    if (n->n_in > MAX_OPERANDS)
        return rt_node_fail(err, RT_E_UNSUPPORTED, n, "has %d inputs", n->n_in);
    for (int i = 0; i < n->n_in; i++) {
        if (!rt_has_in(n, i))
            return rt_node_fail(err, RT_E_INVALID, n, "input %d is missing", i);
        enum rt_status s = rt_check_type(g, n, i, RT_T_NUMBER, err);
        if (s == RT_OK)
            s = rt_check_same_type(g, n, 0, i, err);
        if (s != RT_OK)
            return s;
        shapes[i] = &rt_in(g, n, i)->shape;
    }
    enum rt_status s = parse(&e, n, shapes, err);
    if (s == RT_OK)
        s = measure(&e, n, shapes, size, used, err);
    if (s != RT_OK)
        return s;
    struct rt_shape y = { .rank = e.result.rank };
    for (int k = 0; k < y.rank; k++)
        y.dim[k] = size[e.result.label[k]];
    for (int l = 0; l < LABELS; l++)
        if (used[l] && rt_is_batched(size[l]) && !in_result(&e, l))
            return rt_node_fail(err, RT_E_UNSUPPORTED, n, "sums over the batch axis");
    return rt_set_out(g, n, 0, rt_in(g, n, 0)->dtype, &y, err);
}

/* The loops of one run: first the result's axes, then the summed labels, with a step in each
 * operand. */
struct loops {
    int n_result, n;
    int64_t dim[LABELS];
    int64_t stride[LABELS][MAX_OPERANDS];
};

static void plan_loops(struct loops *l, const struct equation *e, const int64_t size[LABELS],
                       const bool used[LABELS], const struct rt_tensor *in)
{
    int label[LABELS];
    l->n_result = l->n = e->result.rank;
    for (int k = 0; k < l->n; k++)
        label[k] = e->result.label[k];
    for (int i = 0; i < LABELS; i++)
        if (used[i] && !in_result(e, i))
            label[l->n++] = i;
    for (int k = 0; k < l->n; k++)
        l->dim[k] = size[label[k]];
    for (int i = 0; i < e->n_operands; i++) {
        int64_t stride[RT_MAX_RANK];
        rt_strides(&in[i].shape, stride);
        for (int k = 0; k < l->n; k++) {
            l->stride[k][i] = 0;
            for (int a = 0; a < e->operand[i].rank; a++)
                if (e->operand[i].label[a] == label[k] && in[i].shape.dim[a] != 1)
                    l->stride[k][i] += stride[a];
        }
    }
}

/* acc[i] = x[i], or the product of both. */
static void multiply(union rt_chunk *acc, const union rt_chunk *x, enum rt_kind kind, bool first,
                     int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (kind == RT_KIND_DOUBLE)
            acc->d[i] = first ? x->d[i] : acc->d[i] * x->d[i];
        else
            acc->u[i] = first ? x->u[i] : acc->u[i] * x->u[i];
    }
}

/* The sum of the products over the summed labels, for the operands' elements at from on. */
static void sum_products(const struct loops *l, const struct rt_tensor *in, int n_in,
                         const int64_t *from, enum rt_kind kind, union rt_chunk *sum)
{
    /* The innermost loop runs over buffers; without one, over a single element. */
    const bool any = l->n > l->n_result;
    const int last = l->n - 1;
    const int64_t inner = any ? l->dim[last] : 1;
    int64_t outer = 1;
    for (int k = l->n_result; k < last; k++)
        outer *= l->dim[k];
    sum->u[0] = 0; /* a zero of every kind */
    for (int64_t o = 0; o < outer; o++) {
        int64_t at[MAX_OPERANDS], rest = o;
        memcpy(at, from, (size_t)n_in * sizeof *at);
        for (int k = last - 1; k >= l->n_result; rest /= l->dim[k--])
            for (int i = 0; i < n_in; i++)
                at[i] += rest % l->dim[k] * l->stride[k][i];
        for (int64_t done = 0, n; done < inner; done += n) {
            union rt_chunk acc, x;
            n = inner - done < RT_CHUNK ? inner - done : RT_CHUNK;
            for (int i = 0; i < n_in; i++) {
                const int64_t step = any ? l->stride[last][i] : 0;
                rt_load_elements(&x, kind, in[i].dtype, rt_element_at(&in[i], at[i] + done * step),
                                 step, n);
                multiply(&acc, &x, kind, i == 0, n);
            }
            for (int64_t i = 0; i < n; i++) {
                if (kind == RT_KIND_DOUBLE)
                    sum->d[0] += acc.d[i];
                else
                    sum->u[0] += acc.u[i];
            }
        }
    }
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    const int n_in = c->node->n_in;
    const struct rt_tensor *y = &c->out[0];
    const struct rt_shape *shapes[MAX_OPERANDS];
    struct equation e;
    int64_t size[LABELS];
    bool used[LABELS];
    for (int i = 0; i < n_in; i++)
        shapes[i] = &c->in[i].shape;
    if (parse(&e, c->node, shapes, NULL) != RT_OK ||
        measure(&e, c->node, shapes, size, used, NULL) != RT_OK)
        return;
    struct loops l;
    plan_loops(&l, &e, size, used, c->in);
    const enum rt_kind kind = rt_dtype_is_float(y->dtype) ? RT_KIND_DOUBLE : RT_KIND_UINT;
    int64_t i, end;
    rt_worker_share(w, rt_shape_numel(&y->shape), 16, &i, &end);
    for (; i < end; i++) {
        int64_t from[MAX_OPERANDS] = { 0 }, rest = i;
        for (int k = l.n_result - 1; k >= 0; rest /= l.dim[k--])
            for (int o = 0; o < n_in; o++)
                from[o] += rest % l.dim[k] * l.stride[k][o];
        union rt_chunk sum;
        sum_products(&l, c->in, n_in, from, kind, &sum);
        rt_store_elements(y->dtype, rt_element_at(y, i), 1, &sum, kind, 1);
    }
}

const struct rt_op rt_op_Einsum = {
    .name = "Einsum",
    .since = 12,
    .min_in = 1,
    .max_in = MAX_OPERANDS,
    .min_out = 1,
    .max_out = 1,
    .infer = infer,
    .run = run,
};
