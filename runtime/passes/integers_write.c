/* Making operators on bytes of what was recognised (integers.h). */
#include "runtime/ops/pixels.h"
#include "runtime/passes/integers.h"
#include "runtime/passes/match.h"

#include <math.h>
#include <string.h>

static enum rt_status nomem(const struct rt_int_sweep *s, struct rt_error *err)
{
    return rt_graph_nomem(s->g, err);
}

static bool set_twin(struct rt_int_sweep *s, int value, int twin, int back)
{
    if (value >= s->cap) {
        const int cap = 2 * value + 16;
        int *more = rt_graph_alloc(s->g, 2 * (size_t)cap, sizeof *more);
        if (more == NULL)
            return false;
        memset(more, -1, 2 * (size_t)cap * sizeof *more);
        if (s->cap > 0) {
            memcpy(more, s->twin, (size_t)s->cap * sizeof *more);
            memcpy(more + cap, s->back, (size_t)s->cap * sizeof *more);
        }
        s->twin = more;
        s->back = more + cap;
        s->cap = cap;
    }
    s->twin[value] = twin;
    s->back[value] = back;
    return true;
}

int rt_int_twin_of(const struct rt_int_sweep *s, int value)
{
    return value < s->cap ? s->twin[value] : -1;
}

/* The bytes lo..hi that a result clamped in reals has: quantising keeps the order. */
static void clamp_bytes(const struct rt_int_clamp *c, const struct rt_int_quantised *y, int32_t *lo,
                        int32_t *hi)
{
    const float below = fmaxf(-1e6f, fminf(1e6f, c->lo / y->scale));
    const float above = fmaxf(-1e6f, fminf(1e6f, c->hi / y->scale));
    const int32_t least = (int32_t)rintf(below) + y->zero, most = (int32_t)rintf(above) + y->zero;
    *lo = least < 0 ? 0 : least > 255 ? 255 : least;
    *hi = most < 0 ? 0 : most > 255 ? 255 : most;
}

/* A node of op that makes bytes of that shape; its output, or -1: no memory. */
static int add_node(struct rt_int_sweep *s, const struct rt_op *op, const char *name, int n_in,
                    const struct rt_shape *shape, const char *value_name, void *state)
{
    struct rt_graph *g = s->g;
    const struct rt_shape copy = *shape;
    const int v = rt_graph_add_typed(g, RT_UINT8, &copy);
    const int n = v >= 0 ? rt_graph_add_node(g, op, name, n_in, 1) : -1;
    if (n < 0)
        return -1;
    g->value[v].layout = RT_PIXELS;
    g->value[v].name = value_name;
    g->value[v].producer = n;
    g->node[n].out[0] = v;
    g->node[n].state = state;
    return v;
}

static struct rt_pixel_scale *scale_state(struct rt_int_sweep *s, float scale, int32_t zero,
                                          bool flip)
{
    struct rt_pixel_scale *p = rt_graph_alloc(s->g, 1, sizeof *p);
    if (p != NULL)
        *p = (struct rt_pixel_scale){ scale, zero, flip };
    return p;
}

int rt_int_bytes_of(struct rt_int_sweep *s, const struct rt_int_quantised *q)
{
    struct rt_graph *g = s->g;
    int v = rt_int_twin_of(s, q->value);
    if (v < 0) {
        const struct rt_node *n = rt_int_producer(g, q->value);
        const struct rt_value *value = &g->value[q->value];
        float scale;
        int32_t zero;
        const bool real =
            n != NULL && n->op == &rt_op_QuantizeLinear && g->value[n->in[0]].dtype == RT_FLOAT &&
            rt_int_has_pixels(&g->value[n->in[0]]) && rt_int_read_scale(g, n->in[1], &scale) &&
            rt_int_read_zero(g, rt_int_input(n, 2), value->dtype, &zero);
        const int from = real ? n->in[0] : q->value;
        struct rt_pixel_scale *p = real ? scale_state(s, scale, zero, false)
                                        : scale_state(s, 1, 0, value->dtype == RT_INT8);
        if (p == NULL)
            return -1;
        v = add_node(s, real ? &rt_op_QuantizePixels : &rt_op_ToPixels,
                     real ? n->name : value->name, 1, &value->shape, value->name, p);
        if (v < 0)
            return -1;
        g->node[g->value[v].producer].in[0] = from;
        if (!set_twin(s, q->value, v, -1))
            return -1;
    }
    if (q->flatten >= 0) {
        const struct rt_value *to = &g->value[q->flatten];
        const int flat = add_node(s, &rt_op_FlattenPixels, to->name, 1, &to->shape, to->name, NULL);
        if (flat < 0)
            return -1;
        g->node[g->value[flat].producer].in[0] = v;
        return flat;
    }
    return v;
}

enum rt_status rt_int_take_over(struct rt_int_sweep *s, int i, int y, int bytes,
                                struct rt_error *err)
{
    struct rt_graph *g = s->g;
    struct rt_pixel_scale *p = scale_state(s, 1, 0, g->value[y].dtype == RT_INT8);
    const int back =
        p != NULL ? rt_graph_add_node(g, &rt_op_FromPixels, g->value[y].name, 1, 1) : -1;
    if (back < 0 || !set_twin(s, y, bytes, back))
        return nomem(s, err);
    rt_graph_kill(g, i);
    g->node[back].in[0] = bytes;
    g->node[back].out[0] = y;
    g->node[back].state = p;
    g->value[y].producer = back;
    s->changes++;
    return RT_OK;
}

/* Says in the report what else a node does. */
static void label(struct rt_node *n, const char *text)
{
    if (n->n_steps < RT_MAX_STEPS)
        n->step[n->n_steps++] = (struct rt_step){ .kind = RT_STEP_ACTIVATION, .label = text };
}

static void label_clamps(struct rt_node *n, const struct rt_int_clamp *c)
{
    for (int k = 0; k < c->n_labels; k++)
        label(n, c->label[k]);
}

/* Fills p's arrays. False: no memory, *fits true; or a sum could be too large. */
static bool set_maps(struct rt_int_sweep *s, struct rt_pixel_conv *p,
                     const struct rt_int_weights *w, const struct rt_int_bias *b,
                     const struct rt_int_quantised *x, float y_scale, bool *fits)
{
    const struct rt_graph *g = s->g;
    const int64_t maps = p->c.maps;
    int32_t *zero = rt_graph_alloc(s->g, (size_t)maps, sizeof *zero);
    int32_t *bias = rt_graph_alloc(s->g, (size_t)maps, sizeof *bias);
    float *factor = rt_graph_alloc(s->g, (size_t)maps, sizeof *factor);
    float *shift = rt_graph_alloc(s->g, (size_t)maps, sizeof *shift);
    *fits = true;
    if (zero == NULL || bias == NULL || factor == NULL || shift == NULL)
        return false;
    const double most = 255.0 * 255.0 * (double)(p->c.group_channels * rt_conv_taps(&p->c));
    bool shifts = false;
    for (int64_t m = 0; m < maps && *fits; m++) {
        const float scale = x->scale * rt_int_float_of_map(g, w->scale, m);
        zero[m] = w->zero >= 0 ? (int32_t)rt_int_of_map(g, w->zero, m) : 0;
        factor[m] = scale / y_scale;
        double sum = most;
        if (b->v >= 0 && b->scale < 0 && !b->at_scale) {
            shift[m] = rt_int_float_of_map(g, b->v, m) / y_scale;
            shifts = true;
        } else if (b->v >= 0 &&
                   (b->at_scale || rt_match_close(rt_int_float_of_map(g, b->scale, m), scale))) {
            bias[m] = (int32_t)rt_int_of_map(g, b->v, m);
            sum += fabs((double)bias[m]);
        } else if (b->v >= 0) {
            shift[m] =
                (float)rt_int_of_map(g, b->v, m) * rt_int_float_of_map(g, b->scale, m) / y_scale;
            shifts = true;
        }
        /* An x_zero of up to 255 is taken off each input in the bias. */
        *fits = isfinite(factor[m]) && factor[m] > 0 && isfinite(shift[m]) &&
                sum * (double)factor[m] + fabs((double)shift[m]) < RT_INT_MOST && sum < RT_INT_MOST;
    }
    p->w_zero = zero;
    p->bias = b->v >= 0 ? bias : NULL;
    p->factor = factor;
    p->shift = shifts ? shift : NULL;
    return *fits;
}

enum rt_status rt_int_put_conv(struct rt_int_sweep *s, int i, const struct rt_int_found *f,
                               bool *done, struct rt_error *err)
{
    struct rt_graph *g = s->g;
    const bool adds = f->residual >= 0;
    struct rt_int_quantised r;
    struct rt_pixel_conv *p = rt_graph_alloc(g, 1, sizeof *p);
    if (p == NULL)
        return nomem(s, err);
    bool fits;
    p->c = f->c;
    p->x_zero = f->x.zero;
    p->w_map = f->w_map;
    p->w_channel = f->w_channel;
    p->q.zero = f->y.zero;
    clamp_bytes(&f->clamp, &f->y, &p->q.lo, &p->q.hi);
    if (!set_maps(s, p, &f->w, &f->b, &f->x, f->y.scale, &fits))
        return fits ? nomem(s, err) : RT_OK;
    if (adds) {
        if (!rt_int_is_dequantised(g, f->residual, &r))
            return RT_OK;
        p->q.own = 1;
        p->q.other = r.scale / f->y.scale;
        p->q.r_zero = r.zero;
        if (!isfinite(p->q.other) || (double)p->q.other * 255 > RT_INT_MOST)
            return RT_OK;
    }
    const int x = rt_int_bytes_of(s, &f->x), res = adds ? rt_int_bytes_of(s, &r) : -1;
    const struct rt_value *y = &g->value[f->y.value];
    const int v = add_node(s, f->op, f->name, adds ? 3 : 2, &y->shape, y->name, p);
    if (x < 0 || v < 0 || (adds && res < 0))
        return nomem(s, err);
    struct rt_node *n = &g->node[g->value[v].producer];
    n->in[0] = x;
    n->in[1] = f->w.w;
    if (adds) {
        n->in[2] = res;
        label(n, "Add");
    }
    label_clamps(n, &f->clamp);
    *done = true;
    return rt_int_take_over(s, i, f->y.value, v, err);
}

enum rt_status rt_int_add_to_conv(struct rt_int_sweep *s, int i, struct rt_node *n,
                                  const struct rt_int_quantised *a,
                                  const struct rt_int_quantised *b,
                                  const struct rt_int_quantised *y,
                                  const struct rt_int_clamp *clamp, struct rt_error *err)
{
    struct rt_graph *g = s->g;
    struct rt_pixel_conv *p = n->state;
    const int bytes = n->out[0], at = g->value[bytes].producer;
    p->q.middle = true;
    p->q.mid_lo = p->q.lo - p->q.zero;
    p->q.mid_hi = p->q.hi - p->q.zero;
    p->q.own = a->scale / y->scale;
    p->q.other = b->scale / y->scale;
    p->q.r_zero = b->zero;
    p->q.zero = y->zero;
    clamp_bytes(clamp, y, &p->q.lo, &p->q.hi);
    const int residual = rt_int_bytes_of(s, b);
    if (residual < 0 || rt_graph_add_input(g, &g->node[at], residual) != 2)
        return nomem(s, err);
    label(&g->node[at], "Add");
    label_clamps(&g->node[at], clamp);
    /* The value that it made is no more. */
    if (s->back[a->value] >= 0)
        rt_graph_kill(g, s->back[a->value]);
    g->value[a->value].producer = -1;
    s->twin[a->value] = s->back[a->value] = -1;
    g->value[bytes].shape = g->value[y->value].shape;
    g->value[bytes].name = g->value[y->value].name;
    return rt_int_take_over(s, i, y->value, bytes, err);
}

enum rt_status rt_int_put_add(struct rt_int_sweep *s, int i, const char *name,
                              const struct rt_int_quantised *a, const struct rt_int_quantised *b,
                              const struct rt_int_quantised *y, const struct rt_int_clamp *clamp,
                              struct rt_error *err)
{
    struct rt_graph *g = s->g;
    struct rt_pixel_add *p = rt_graph_alloc(g, 1, sizeof *p);
    if (p == NULL)
        return nomem(s, err);
    *p = (struct rt_pixel_add){ .a_factor = a->scale / y->scale,
                                .b_factor = b->scale / y->scale,
                                .a_zero = a->zero,
                                .b_zero = b->zero,
                                .zero = y->zero };
    clamp_bytes(clamp, y, &p->lo, &p->hi);
    const int left = rt_int_bytes_of(s, a), right = rt_int_bytes_of(s, b);
    const struct rt_value *to = &g->value[y->value];
    const int v = add_node(s, &rt_op_AddPixels, name, 2, &to->shape, to->name, p);
    if (left < 0 || right < 0 || v < 0)
        return nomem(s, err);
    struct rt_node *n = &g->node[g->value[v].producer];
    n->in[0] = left;
    n->in[1] = right;
    label_clamps(n, clamp);
    return rt_int_take_over(s, i, y->value, v, err);
}

enum rt_status rt_int_put_pool(struct rt_int_sweep *s, int i, const struct rt_op *op, int from,
                               const struct rt_int_quantised *x, const struct rt_int_quantised *y,
                               const struct rt_int_clamp *clamp, struct rt_error *err)
{
    struct rt_graph *g = s->g;
    const bool windows = op == &rt_op_MaxPoolPixels || op == &rt_op_AveragePoolPixels;
    struct rt_pixel_pool *p = rt_graph_alloc(g, 1, sizeof *p);
    struct rt_node *copy = rt_graph_alloc(g, 1, sizeof *copy);
    if (p == NULL || copy == NULL)
        return nomem(s, err);
    *copy = g->node[from]; /* which moves when others are added */
    *p = (struct rt_pixel_pool){ .from = windows ? copy : NULL,
                                 .max = op == &rt_op_MaxPoolPixels || op == &rt_op_RescalePixels,
                                 .x_scale = x->scale,
                                 .y_scale = y->scale,
                                 .x_zero = x->zero,
                                 .zero = y->zero };
    clamp_bytes(clamp, y, &p->lo, &p->hi);
    const char *name = copy->name;
    const int bytes = rt_int_bytes_of(s, x);
    const struct rt_value *to = &g->value[y->value];
    const int v = bytes >= 0 ? add_node(s, op, name, 1, &to->shape, to->name, p) : -1;
    if (v < 0)
        return nomem(s, err);
    g->node[g->value[v].producer].in[0] = bytes;
    label_clamps(&g->node[g->value[v].producer], clamp);
    return rt_int_take_over(s, i, y->value, v, err);
}

enum rt_status rt_int_put_dequantize(struct rt_int_sweep *s, int i,
                                     const struct rt_int_quantised *q, struct rt_error *err)
{
    struct rt_graph *g = s->g;
    struct rt_pixel_scale *p = scale_state(s, q->scale, q->zero, false);
    const int y = g->node[i].out[0];
    const int made =
        p != NULL ? rt_graph_add_node(g, &rt_op_DequantizePixels, g->node[i].name, 1, 1) : -1;
    if (made < 0)
        return nomem(s, err);
    rt_graph_kill(g, i);
    g->node[made].in[0] = rt_int_twin_of(s, q->value);
    g->node[made].out[0] = y;
    g->node[made].state = p;
    g->value[y].producer = made;
    s->changes++;
    return RT_OK;
}
