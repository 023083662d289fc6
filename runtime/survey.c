/* Goes over a graph that was refused and notes what each node lacks. What hangs on a refused node
 * is left out: nothing is known of its inputs. */
#include "runtime/survey.h"

#include "runtime/ops/eval.h"
#include "runtime/ops/op.h"

#include <stdio.h>
#include <string.h>

/* Constants up to so many elements are computed: shapes, not weights. */
#define MAX_ELEMENTS 4096

struct findings {
    int n, n_listed;
    char text[1700]; /* "node 'a' (Op): why; node 'b' (Op): why": as many as fit */
};

static void note(struct findings *f, const char *sentence)
{
    static const char separator[] = "; ";
    const size_t used = strlen(f->text), len = strlen(sentence);
    f->n++;
    if (used + sizeof separator + len > sizeof f->text)
        return;
    const size_t between = used > 0 ? sizeof separator - 1 : 0;
    memcpy(f->text + used, separator, between);
    memcpy(f->text + used + between, sentence, len + 1);
    f->n_listed++;
}

static bool is_known(const struct rt_graph *g, const struct rt_node *n)
{
    for (int k = 0; k < n->n_in; k++)
        if (n->in[k] >= 0 && !g->value[n->in[k]].inferred)
            return false;
    return true;
}

static bool is_small(const struct rt_graph *g, const struct rt_node *n)
{
    int64_t count, sum = 0;
    for (int k = 0; k < n->n_in + n->n_out; k++) {
        const int v = k < n->n_in ? n->in[k] : n->out[k - n->n_in];
        if (v >= 0 && (!rt_shape_count(&g->value[v].shape, &count) || count > MAX_ELEMENTS))
            return false;
        sum += v >= 0 ? count : 0;
    }
    return sum <= MAX_ELEMENTS;
}

static enum rt_status look_at(struct rt_graph *g, int node, struct findings *f)
{
    struct rt_error err = { .status = RT_OK };
    struct rt_node *n = &g->node[node];
    if (n->op == NULL || !is_known(g, n))
        return RT_OK;
    enum rt_status s = n->op->infer(g, n, &err);
    if (s == RT_E_UNSUPPORTED)
        note(f, err.text);
    else if (s == RT_OK && rt_can_eval(g, n) && is_small(g, n))
        s = rt_eval(g, node, 1, &err);
    return s == RT_E_NOMEM ? s : RT_OK;
}

enum rt_status rt_survey(const struct rt_graph *src, const struct rt_shape *inputs, size_t limit,
                         struct rt_error *err)
{
    struct findings f = { .n = 0 };
    struct rt_graph *g = rt_graph_clone(src, limit);
    if (g == NULL)
        return rt_fail(err, RT_E_NOMEM, "out of memory while loading the model");
    for (int i = 0; i < g->n_inputs; i++) {
        g->value[g->input[i]].shape = inputs[i];
        g->value[g->input[i]].inferred = true;
    }
    enum rt_status s = RT_OK;
    for (int i = 0; s == RT_OK && i < g->n_nodes; i++)
        s = look_at(g, i, &f);
    rt_graph_destroy(g);
    if (s != RT_OK)
        return rt_fail(err, s, "out of memory while loading the model");
    char more[32] = "";
    if (f.n > f.n_listed)
        snprintf(more, sizeof more, "; and %d more", f.n - f.n_listed);
    return f.n < 2 ? RT_E_UNSUPPORTED
                   : rt_fail(err, RT_E_UNSUPPORTED, "%d nodes are not supported: %s%s", f.n, f.text,
                             more);
}
