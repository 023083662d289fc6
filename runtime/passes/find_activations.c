/* Activations that exporters spell out become one operator again, which then fuses as one step:
 *
 *     x * Sigmoid(a x)                                   Swish
 *     Clip(x + 3, 0, 6) / 6                              HardSigmoid
 *     x * HardSigmoid(x), x * Clip(x + 3, 0, 6) / 6      HardSwish
 *     x * (1 + Erf(x / sqrt 2)) / 2                      Gelu
 *     x * (1 + Tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2   Gelu, approximate
 *     x * Tanh(Softplus(x))                              Mish
 *
 * with factors in any order. */
#include "runtime/passes/match.h"
#include "runtime/passes/pass.h"

/* A tree of products: a number times up to three values. */
#define MAX_FACTORS 3
#define MAX_DEPTH 4
struct product {
    float number;
    int n;
    int factor[MAX_FACTORS];
};

/* Multiplies v into *p, taken apart if it is a product itself that nobody else reads. */
static bool multiply(const struct rt_graph *g, int v, int depth, struct product *p)
{
    float k;
    if (rt_match_scalar(g, v, &k)) {
        p->number *= k;
        return true;
    }
    const bool open = depth == 0 || (g->value[v].uses == 1 && depth < MAX_DEPTH);
    const struct rt_node *n = open ? rt_match(g, v, &rt_op_Mul) : NULL;
    if (n != NULL)
        return multiply(g, n->in[0], depth + 1, p) && multiply(g, n->in[1], depth + 1, p);
    n = open ? rt_match(g, v, &rt_op_Div) : NULL;
    if (n != NULL && rt_match_scalar(g, n->in[1], &k)) {
        p->number /= k;
        return multiply(g, n->in[0], depth + 1, p);
    }
    if (p->n == MAX_FACTORS)
        return false;
    p->factor[p->n++] = v;
    return true;
}

struct found {
    const struct rt_op *op;
    int x;
    struct rt_attr attr[2];
    int n_attr;
};

static struct rt_attr float_attr(const char *name, float f)
{
    return (struct rt_attr){ .name = name, .type = RT_ATTR_FLOAT, .f = f };
}

/* v is Clip(x + 3, 0, 6). */
static bool is_shifted_clip(const struct rt_graph *g, int v, int *x)
{
    int sum;
    float low, high, shift;
    return rt_match_activation(g, v, RT_ACT_CLIP, &sum, &low, &high) && low == 0.0f &&
           high == 6.0f && rt_match_plus(g, sum, x, &shift) && shift == 3.0f;
}

static bool is_hard_sigmoid(const struct rt_graph *g, int v, int *x)
{
    float a, b;
    return rt_match_activation(g, v, RT_ACT_HARD_SIGMOID, x, &a, &b) &&
           rt_match_close(a, 1.0f / 6) && b == 0.5f;
}

/* v is x to the third. */
static bool is_cube(const struct rt_graph *g, int v, int x)
{
    const struct rt_node *n = rt_match(g, v, &rt_op_Pow);
    if (n != NULL)
        return n->in[0] == x && rt_match_number(g, n->in[1], 3.0f);
    struct product p = { .number = 1 };
    return multiply(g, v, 0, &p) && p.n == 3 && p.number == 1.0f && p.factor[0] == x &&
           p.factor[1] == x && p.factor[2] == x;
}

/* v is sqrt(2 / pi) (x + 0.044715 x^3). */
static bool is_tanh_argument(const struct rt_graph *g, int v, int x)
{
    int sum, cube;
    float k;
    if (!rt_match_times(g, v, &sum, &k) || !rt_match_close(k, 0.79788456f))
        return false;
    const struct rt_node *n = rt_match(g, sum, &rt_op_Add);
    for (int i = 0; n != NULL && i < 2; i++)
        if (n->in[i] == x && rt_match_times(g, n->in[1 - i], &cube, &k) &&
            rt_match_close(k, 0.044715f) && is_cube(g, cube, x))
            return true;
    return false;
}

/* x * gate * number, gate a function of x. */
static bool find_gated(const struct rt_graph *g, int x, int gate, float number, struct found *f)
{
    int of, inner;
    float a, b, k;
    f->x = x;
    if (number == 1.0f && rt_match_activation(g, gate, RT_ACT_SIGMOID, &of, &a, &b)) {
        f->op = &rt_op_Swish;
        if (of == x)
            return true;
        f->n_attr = 1;
        return rt_match_times(g, of, &inner, &k) && inner == x &&
               (f->attr[0] = float_attr("alpha", k), true);
    }
    if ((number == 1.0f && is_hard_sigmoid(g, gate, &of)) ||
        (rt_match_close(number, 1.0f / 6) && is_shifted_clip(g, gate, &of))) {
        f->op = &rt_op_HardSwish;
        return of == x;
    }
    if (number == 1.0f && rt_match_activation(g, gate, RT_ACT_TANH, &of, &a, &b)) {
        f->op = &rt_op_Mish;
        return rt_match_activation(g, of, RT_ACT_SOFTPLUS, &inner, &a, &b) && inner == x;
    }
    if (number != 0.5f || !rt_match_plus(g, gate, &of, &k) || k != 1.0f)
        return false;
    f->op = &rt_op_Gelu;
    const struct rt_node *erf = rt_match(g, of, &rt_op_Erf);
    if (erf != NULL)
        return rt_match_times(g, erf->in[0], &inner, &k) && inner == x &&
               rt_match_close(k, 0.70710678f);
    f->n_attr = 1;
    f->attr[0] = (struct rt_attr){ .name = "approximate", .type = RT_ATTR_STRING, .s = "tanh" };
    return rt_match_activation(g, of, RT_ACT_TANH, &inner, &a, &b) &&
           is_tanh_argument(g, inner, x);
}

static bool find(const struct rt_graph *g, int v, struct found *f)
{
    struct product p = { .number = 1 };
    if (!multiply(g, v, 0, &p))
        return false;
    if (p.n == 1 && rt_match_close(p.number, 1.0f / 6) && is_shifted_clip(g, p.factor[0], &f->x)) {
        f->op = &rt_op_HardSigmoid;
        f->n_attr = 2;
        f->attr[0] = float_attr("alpha", 1.0f / 6);
        f->attr[1] = float_attr("beta", 0.5f);
        return true;
    }
    return p.n == 2 && (find_gated(g, p.factor[0], p.factor[1], p.number, f) ||
                        (*f = (struct found){ .op = NULL },
                         find_gated(g, p.factor[1], p.factor[0], p.number, f)));
}

enum rt_status rt_pass_find_activations(struct rt_pass_run *r, int node, struct rt_error *err)
{
    struct rt_graph *g = r->g;
    const struct rt_node *n = &g->node[node];
    if ((n->op != &rt_op_Mul && n->op != &rt_op_Div) || n->n_steps > 0)
        return RT_OK;
    const struct rt_value *y = &g->value[n->out[0]];
    struct found f = { .op = NULL };
    if (y->dtype != RT_FLOAT || !find(g, n->out[0], &f) ||
        !rt_shape_equal(&y->shape, &g->value[f.x].shape))
        return RT_OK;
    const int made = rt_match_become(g, node, f.op, f.x, 1);
    bool ok = made >= 0;
    for (int i = 0; ok && i < f.n_attr; i++)
        ok = rt_match_set_attr(g, &g->node[made], f.attr[i]);
    if (!ok)
        return rt_graph_nomem(g, err);
    r->changes++;
    return rt_graph_tidy(g, err); /* what made up the formula is read by nobody now */
}
