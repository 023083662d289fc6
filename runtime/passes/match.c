/* Recognising formulas: see match.h. */
#include "runtime/passes/match.h"

#include <math.h>
#include <string.h>

const struct rt_node *rt_match(const struct rt_graph *g, int v, const struct rt_op *op)
{
    const int producer = v >= 0 ? g->value[v].producer : -1;
    if (producer < 0)
        return NULL;
    const struct rt_node *n = &g->node[producer];
    return n->op == op && n->n_steps == 0 && n->out[0] == v ? n : NULL;
}

const struct rt_node *rt_match_only(const struct rt_graph *g, int v, const struct rt_op *op)
{
    return v >= 0 && g->value[v].uses == 1 ? rt_match(g, v, op) : NULL;
}

bool rt_match_scalar(const struct rt_graph *g, int v, float *x)
{
    const struct rt_value *c = v >= 0 ? &g->value[v] : NULL;
    if (c == NULL || !c->constant || c->dtype != RT_FLOAT || rt_shape_numel(&c->shape) != 1)
        return false;
    *x = *(const float *)c->data;
    return true;
}

bool rt_match_close(float a, float b)
{
    return fabsf(a - b) <= 2e-6f * fabsf(b);
}

bool rt_match_number(const struct rt_graph *g, int v, float is)
{
    float x;
    return rt_match_scalar(g, v, &x) && rt_match_close(x, is);
}

/* v is op of a value and a constant scalar, in either order. */
static bool with_scalar(const struct rt_graph *g, int v, const struct rt_op *op, int *x, float *k)
{
    const struct rt_node *n = rt_match(g, v, op);
    for (int i = 0; n != NULL && i < 2; i++) {
        if (rt_match_scalar(g, n->in[i], k)) {
            *x = n->in[1 - i];
            return true;
        }
    }
    return false;
}

bool rt_match_plus(const struct rt_graph *g, int v, int *x, float *k)
{
    return with_scalar(g, v, &rt_op_Add, x, k);
}

bool rt_match_times(const struct rt_graph *g, int v, int *x, float *k)
{
    if (with_scalar(g, v, &rt_op_Mul, x, k))
        return true;
    const struct rt_node *n = rt_match(g, v, &rt_op_Div);
    if (n == NULL || !rt_match_scalar(g, n->in[1], k))
        return false;
    *x = n->in[0];
    *k = 1 / *k;
    return true;
}

bool rt_match_activation(const struct rt_graph *g, int v, enum rt_activation act, int *x, float *a,
                         float *b)
{
    const int producer = v >= 0 ? g->value[v].producer : -1;
    const struct rt_node *n = producer >= 0 ? &g->node[producer] : NULL;
    struct rt_step step = { .arg = 0 };
    int data = 0;
    if (n == NULL || n->op->as_step == NULL || n->n_steps > 0 ||
        !n->op->as_step(g, n, &step, &data) || step.kind != RT_STEP_ACTIVATION || step.act != act)
        return false;
    *x = n->in[data];
    *a = step.a;
    *b = step.b;
    return true;
}

int rt_match_become(struct rt_graph *g, int i, const struct rt_op *op, int x, int n_in)
{
    const int made = rt_graph_add_node(g, op, g->node[i].name, n_in, 1);
    if (made < 0)
        return -1;
    g->node[made].in[0] = x;
    g->node[made].out[0] = g->node[i].out[0];
    g->value[x].uses++;
    rt_graph_kill(g, i);
    return made;
}

bool rt_match_set_attr(struct rt_graph *g, struct rt_node *n, struct rt_attr attr)
{
    struct rt_attr *all = rt_graph_alloc(g, (size_t)n->n_attr + 1, sizeof *all);
    if (all == NULL)
        return false;
    if (n->n_attr > 0)
        memcpy(all, n->attr, (size_t)n->n_attr * sizeof *all);
    all[n->n_attr++] = attr;
    n->attr = all;
    return true;
}
