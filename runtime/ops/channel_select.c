/* ChannelSelect, the runtime's own: an output whose channels (axis 1) are any channels of its
 * inputs, in any order. What concatenations, splits and shuffles of channels become, alone or
 * composed. Attribute channels: for each channel of the output its number among the channels of all
 * inputs, one input after the other. */
#include <string.h>

#include "runtime/ops/op.h"
#include "runtime/ops/steps.h"

/* The inputs that are selected from: those of steps stand behind them. */
static int n_selected(const struct rt_node *n)
{
    int i = n->n_in;
    while (i > 0 && rt_steps_read(n, i - 1))
        i--;
    return i;
}

static enum rt_status infer(struct rt_graph *g, struct rt_node *n, struct rt_error *err)
{
    const int64_t *channels;
    struct rt_shape y = rt_in(g, n, 0)->shape;
    y.dim[1] = rt_attr_ints(n, "channels", &channels);
    return rt_set_out(g, n, 0, rt_in(g, n, 0)->dtype, &y, err);
}

/* The input that channel ch of all belongs to, and its number there. */
static int input_of(const struct rt_node *n, const int64_t *input_channels, int64_t ch,
                    int64_t *there)
{
    int i = 0;
    for (; i + 1 < n_selected(n) && ch >= input_channels[i]; i++)
        ch -= input_channels[i];
    *there = ch;
    return i;
}

/* One piece of a channel, or of a block of them. */
struct source {
    int input;
    int64_t at; /* its channel, or its block of channels */
};

struct state {
    struct source *source;
    /* The blocked form: sources first[k]..first[k + 1] - 1 give lanes of output block k, with
     * tables of rt_select for each. */
    int64_t *first;
    int32_t *lane, *mask;
};

static enum rt_status start(struct rt_build *b, struct rt_node *n, size_t sources, int64_t **sizes,
                            struct rt_error *err)
{
    struct state *s = rt_arena_alloc(b->arena, sizeof *s);
    *sizes = rt_alloc_array((size_t)n->n_in, sizeof **sizes);
    if (s != NULL)
        s->source = rt_arena_array(b->arena, sources, sizeof *s->source);
    if (s == NULL || s->source == NULL || *sizes == NULL) {
        rt_free(*sizes);
        return rt_fail_nomem(err, sources * sizeof *s->source);
    }
    for (int i = 0; i < n_selected(n); i++)
        (*sizes)[i] = rt_in(b->g, n, i)->shape.dim[1];
    n->state = s;
    return RT_OK;
}

static enum rt_status prepare(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    const int64_t *channels;
    int64_t *sizes;
    const int count = rt_attr_ints(n, "channels", &channels);
    enum rt_status status = start(b, n, (size_t)count, &sizes, err);
    if (status != RT_OK)
        return status;
    struct state *s = n->state;
    for (int c = 0; c < count; c++)
        s->source[c].input = input_of(n, sizes, channels[c], &s->source[c].at);
    rt_free(sizes);
    return RT_OK;
}

static void run(const struct rt_call *c, const struct rt_worker *w)
{
    const struct state *s = c->node->state;
    const struct rt_shape *y = &c->out[0].shape;
    const int64_t pixels = rt_shape_range(y, 2, y->rank);
    int64_t i, end;
    rt_worker_share(w, y->dim[0] * y->dim[1], 1, &i, &end);
    for (; i < end; i++) {
        const int64_t sample = i / y->dim[1], ch = i % y->dim[1];
        const struct source *from = &s->source[ch];
        const struct rt_tensor *x = &c->in[from->input];
        float *to = (float *)c->out[0].data + i * pixels;
        memcpy(to, (const float *)x->data + (sample * x->shape.dim[1] + from->at) * pixels,
               (size_t)pixels * sizeof *to);
        rt_steps_plain(c, to, sample, ch, i * pixels, pixels);
    }
}

static bool can_block(const struct rt_graph *g, const struct rt_node *n)
{
    for (int i = 0; i < n->n_in; i++)
        if (g->value[n->in[i]].constant)
            return false;
    return g->value[n->in[0]].shape.rank == 4;
}

/* The source of input and block among those from first on, a new one if there is none. */
static int64_t source_of(struct state *s, int64_t first, int64_t *n, int input, int64_t block)
{
    for (int64_t i = first; i < *n; i++)
        if (s->source[i].input == input && s->source[i].at == block)
            return i;
    s->source[*n] = (struct source){ input, block };
    return (*n)++;
}

static enum rt_status prepare_blocked(struct rt_build *b, struct rt_node *n, struct rt_error *err)
{
    const int64_t *channels, block = rt_kernels()->block;
    int64_t *sizes, count = rt_attr_ints(n, "channels", &channels), made = 0, there;
    const int64_t blocks = (count + block - 1) / block;
    /* Each lane may have a source of its own. */
    const size_t room = (size_t)(blocks * block);
    enum rt_status status = start(b, n, room, &sizes, err);
    if (status != RT_OK)
        return status;
    struct state *s = n->state;
    s->first = rt_arena_array(b->arena, (size_t)blocks + 1, sizeof *s->first);
    s->lane = rt_arena_array(b->arena, room * (size_t)block, sizeof *s->lane);
    s->mask = rt_arena_array(b->arena, room * (size_t)block, sizeof *s->mask);
    if (s->first == NULL || s->lane == NULL || s->mask == NULL) {
        rt_free(sizes);
        return rt_fail_nomem(err, room * (size_t)block * sizeof *s->lane);
    }
    for (int64_t c = 0; c < count; c++) {
        const int64_t k = c / block;
        if (c % block == 0)
            s->first[k] = made;
        const int input = input_of(n, sizes, channels[c], &there);
        const int64_t i = source_of(s, s->first[k], &made, input, there / block);
        s->lane[i * block + c % block] = (int32_t)(there % block);
        s->mask[i * block + c % block] = -1;
    }
    s->first[blocks] = made;
    rt_free(sizes);
    return RT_OK;
}

/* Pixels that are worked on together: they stay in the first cache for their steps. */
#define RUN 128
#define MAX_SOURCES 16

static void run_blocked(const struct rt_call *c, const struct rt_worker *w)
{
    const struct state *s = c->node->state;
    const struct rt_shape *y = &c->out[0].shape;
    const int64_t block = rt_kernels()->block, blocks = (y->dim[1] + block - 1) / block;
    const int64_t pixels = y->dim[2] * y->dim[3], runs = (pixels + RUN - 1) / RUN;
    int64_t item, end;
    rt_worker_share(w, y->dim[0] * blocks * runs, 1, &item, &end);
    for (; item < end; item++) {
        const int64_t pixel = item % runs * RUN, k = item / runs % blocks;
        const int64_t sample = item / runs / blocks;
        const int64_t at = ((sample * blocks + k) * pixels + pixel) * block;
        const int64_t n = pixels - pixel < RUN ? pixels - pixel : RUN;
        const float *x[MAX_SOURCES];
        const int64_t first = s->first[k], sources = s->first[k + 1] - first;
        for (int64_t i = 0; i < sources; i++) {
            const struct source *from = &s->source[first + i];
            const struct rt_tensor *in = &c->in[from->input];
            const int64_t in_blocks = (in->shape.dim[1] + block - 1) / block;
            x[i] = (const float *)in->data +
                   ((sample * in_blocks + from->at) * pixels + pixel) * block;
        }
        const struct rt_select select = {
            .x = x,
            .y = (float *)c->out[0].data + at,
            .pixels = (size_t)n,
            .sources = (size_t)sources,
            .lane = s->lane + first * block,
            .mask = s->mask + first * block,
        };
        rt_kernels()->select(&select);
        rt_steps_blocked(c, select.y, sample, k, at, n);
    }
}

#define COMMON                                                                                     \
    .name = "ChannelSelect", .domain = "ai.convd", .min_in = 1, .max_in = -1, .min_out = 1,        \
    .max_out = 1, .traits = RT_OP_EPILOGUE, .infer = infer

static const struct rt_op blocked = { COMMON, .prepare = prepare_blocked, .run = run_blocked };
const struct rt_op rt_op_ChannelSelect = { COMMON, .prepare = prepare, .run = run,
                                           .can_block = can_block, .blocked = &blocked };
