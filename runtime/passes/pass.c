/* The list of passes and the loop around it. */
#include "runtime/passes/pass.h"

/* Each round removes or fuses a node; a graph that still changes after so many is our own bug. */
#define MAX_ROUNDS 64

static rt_pass *const list[] = {
    rt_pass_fold_constants,
    rt_pass_drop_identity,
    rt_pass_simplify,
    rt_pass_find_activations,
    rt_pass_find_norms,
    rt_pass_channels_first,
    rt_pass_channel_moves,
    rt_pass_fold_affine,
    rt_pass_pool_first,
    rt_pass_fuse_steps,
};

static enum rt_status run_pass(rt_pass *pass, struct rt_pass_run *r, struct rt_error *err)
{
    int before = r->changes;
    for (int i = 0; i < r->g->n_nodes; i++) {
        if (r->g->node[i].op == NULL)
            continue;
        enum rt_status s = pass(r, i, err);
        if (s != RT_OK)
            return s;
    }
    if (r->changes == before)
        return RT_OK;
    enum rt_status s = rt_graph_tidy(r->g, err);
#ifndef NDEBUG
    if (s == RT_OK)
        s = rt_graph_verify(r->g, err);
#endif
    return s;
}

enum rt_status rt_passes_run(struct rt_graph *g, const struct rt_options *options, int threads,
                             struct rt_error *err)
{
    struct rt_pass_run r = { .g = g, .options = options, .threads = threads, .keep_quantised = true };
    enum rt_status s = RT_OK;
    do {
        r.changes = 0;
        s = run_pass(rt_pass_fold_constants, &r, err);
    } while (s == RT_OK && r.changes > 0);
    r.keep_quantised = false;
    if (s == RT_OK)
        s = rt_record_batchnorms(g, err);
    if (s == RT_OK)
        s = rt_find_integers(g, err);
    for (int round = 0; s == RT_OK && round < MAX_ROUNDS; round++) {
        r.changes = 0;
        for (size_t i = 0; s == RT_OK && i < sizeof list / sizeof list[0]; i++)
            s = run_pass(list[i], &r, err);
        if (r.changes == 0)
            break;
    }
    return s;
}
