/* Runs a model: one block of memory, the plan's calls bound to it, one team of threads. */
#include "runtime/clock.h"
#include "runtime/float_mode.h"
#include "runtime/model.h"
#include "runtime/ops/fault.h"
#include "runtime/ops/op.h"
#include "runtime/parallel.h"
#include "runtime/rehearsal.h"

#include <string.h>

/* Bytes of a session's memory that are made with it. What is beyond takes little of a run that is
 * as long as one that uses so much. */
#define TOUCHED ((size_t)16 << 20)

/* A program's calls, with their tensors in one array and the value that each of them shows. Nodes
 * before the plan's cut have a set of calls for each copy of the memory of samples, one set after
 * the other, then come those of the other nodes; tensors lie in the same order. */
struct bound {
    struct rt_program *program;
    struct rt_call *call;
    struct rt_tensor *tensor;
    int *value;
    int sample_tensors; /* of a set */
    int n_tensors;
    char *block;
    struct rt_barrier *barrier; /* [copies] */
    double *seconds;
};

struct rt_session {
    struct rt_model *model;
    int threads; /* of a run */
    int most_threads;
    struct bound bound;
    struct rt_graph *holder;     /* INTERPRETED: what the last run's outputs lie in */
    struct rt_tensor *sample_in; /* LOOPED: one sample's inputs */
    struct rt_tensor *gathered;  /* LOOPED: outputs of all samples */
    struct rt_fault fault;
    bool profile;
};

static void unbind(struct bound *b)
{
    rt_free(b->call);
    rt_free(b->tensor);
    rt_free(b->value);
    rt_free(b->block);
    rt_free(b->barrier);
    rt_free(b->seconds);
    *b = (struct bound){ .program = NULL };
}

/* Makes the calls of nodes first..end-1 from *call on. */
static void bind_nodes(struct rt_session *s, struct bound *b, int first, int end,
                       struct rt_call *call)
{
    const struct rt_program *p = b->program;
    for (int i = first; i < end; i++, call++) {
        const struct rt_node *node = &p->g->node[i];
        *call = (struct rt_call){
            .node = node,
            .in = b->tensor + b->n_tensors,
            .out = b->tensor + b->n_tensors + node->n_in,
            .fault = &s->fault,
        };
        if (node->n_in > 0 && node->in[0] >= 0 && p->g->value[node->in[0]].streamed)
            call->feeder = call - 1;      /* its only reader is the next node */
        int scratch = p->plan.scratch[i]; /* without any it is no room at all, but somewhere */
        call->scratch = b->block + (scratch >= 0 ? p->plan.slots[scratch].offset : 0);
        for (int k = 0; k < node->n_in; k++)
            b->value[b->n_tensors++] = node->in[k];
        for (int k = 0; k < node->n_out; k++)
            b->value[b->n_tensors++] = node->out[k];
    }
}

static enum rt_status bind(struct rt_session *s, struct rt_program *p, struct rt_error *err)
{
    const struct rt_graph *g = p->g;
    const int cut = p->plan.cut, copies = cut > 0 ? p->plan.copies : 0;
    struct bound b = { .program = p };
    size_t n = 0;
    for (int i = 0; i < g->n_nodes; i++)
        n += ((size_t)g->node[i].n_in + (size_t)g->node[i].n_out) * (i < cut ? (size_t)copies : 1);
    b.call = rt_zalloc_array((size_t)(cut * copies + g->n_nodes - cut) + 1, sizeof *b.call);
    b.tensor = rt_zalloc_array(n + 1, sizeof *b.tensor);
    b.value = rt_alloc_array(n + 1, sizeof *b.value);
    b.barrier = rt_zalloc_array((size_t)copies, sizeof *b.barrier);
    b.seconds = rt_zalloc_array((size_t)g->n_nodes + 1, sizeof *b.seconds);
    b.block = rt_zalloc_lasting(p->plan.bytes);
    if (b.call == NULL || b.tensor == NULL || b.value == NULL || b.barrier == NULL ||
        b.seconds == NULL || b.block == NULL) {
        unbind(&b);
        return rt_fail(err, RT_E_NOMEM, "out of memory: %zu bytes for activations", p->plan.bytes);
    }
    for (int copy = 0; copy < copies; copy++) {
        bind_nodes(s, &b, 0, cut, b.call + copy * cut);
        b.sample_tensors = b.n_tensors / (copy + 1);
    }
    bind_nodes(s, &b, cut, g->n_nodes, b.call + copies * cut);
    const size_t touched = p->plan.bytes < TOUCHED ? p->plan.bytes : TOUCHED;
    rt_make_pages(b.block, touched);
    rt_parallel_touch(s->threads, b.block, touched);
    unbind(&s->bound);
    s->bound = b;
    return RT_OK;
}

/* Samples first..first+n-1 of a run on inputs in[]. */
struct part {
    const struct rt_tensor *in;
    int64_t first, n;
    int copy; /* of the memory of samples */
};

static struct rt_tensor view(const struct bound *b, int v, const struct part *part)
{
    const struct rt_graph *g = b->program->g;
    const struct rt_plan *plan = &b->program->plan;
    struct rt_tensor t = rt_graph_tensor(g, v);
    if (v < 0)
        return t;
    const int root = plan->root[v];
    if (plan->slot[v] >= 0) {
        const struct rt_slot *slot = &plan->slots[plan->slot[v]];
        t.data = b->block + slot->offset + plan->at[v];
        if (slot->of_sample)
            t.data = (char *)t.data + (size_t)part->copy * plan->copy_bytes;
    } else if (g->value[root].constant) {
        t.data = rt_graph_tensor(g, root).data;
    } else {
        for (int i = 0; i < g->n_inputs; i++)
            if (g->input[i] == root)
                t.data = part->in[i].data;
    }
    if (part->first > 0 && !g->value[v].streamed &&
        (plan->slot[v] < 0 || !plan->slots[plan->slot[v]].of_sample) &&
        rt_shape_batch_axis(&t.shape) == 0) {
        size_t bytes = 0;
        rt_value_bytes(&g->value[v], 1, &bytes);
        t.data = (char *)t.data + (size_t)part->first * bytes;
    }
    t.shape = rt_shape_at(&t.shape, part->n);
    return t;
}

/* What the workers of a team share in a run. */
struct run {
    struct rt_session *s;
    const struct rt_tensor *in;
    int64_t n;
};

/* What node i is the first to hold is not yet written: before the cut, in a copy of the memory of
 * samples. Only a team of one knows that no other worker is ahead. */
static void forget_slots(const struct bound *b, int i, int copy)
{
    if (!RT_WATCHED)
        return;
    const struct rt_plan *plan = &b->program->plan;
    for (int k = 0; k < plan->n_slots; k++) {
        const struct rt_slot *slot = &plan->slots[k];
        if (slot->first == i && slot->of_sample == (i < plan->cut))
            rt_mem_forget(b->block + slot->offset + (size_t)copy * plan->copy_bytes, slot->bytes);
    }
}

/* Nodes first..end-1, whose calls start at *call, in that copy of the memory of samples; seconds:
 * where their times are added, or NULL. */
static void run_nodes(const struct bound *b, int first, int end, int copy,
                      const struct rt_call *call, double *seconds, const struct rt_worker *w)
{
    const struct rt_graph *g = b->program->g;
    double start = seconds != NULL ? rt_now() : 0;
    const uint64_t callers = rt_float_mode();
    uint64_t mode = callers;
    for (int i = first; i < end; i++, call++) {
        if (!rt_node_runs(g, &g->node[i]))
            continue;
        if (w->rehearsal != NULL)
            rt_rehearsal_layer(w, i);
        forget_slots(b, i, copy);
        rt_float_mode_switch(&mode, (g->node[i].op->traits & RT_OP_FLUSHES) != 0);
        g->node[i].op->run(call, w);
        rt_worker_barrier(w);
        if (seconds != NULL) {
            const double done = rt_now();
            seconds[i] += done - start;
            start = done;
        }
    }
    rt_float_mode_set(callers);
}

/* Nodes before the cut on one sample, by a group of workers. */
static void run_sample(const struct run *r, int64_t sample, int group, int first_worker,
                       double *seconds, const struct rt_worker *w)
{
    struct bound *b = &r->s->bound;
    const struct rt_plan *plan = &b->program->plan;
    struct rt_call *call = b->call + group * plan->cut;
    if (w->id == 0) {
        const struct part part = { r->in, sample, 1, group };
        const int from = group * b->sample_tensors;
        for (int i = 0; i < b->sample_tensors; i++)
            b->tensor[from + i] = view(b, b->value[from + i], &part);
        for (int i = 0; i < plan->cut; i++)
            if (plan->scratch[i] >= 0)
                call[i].scratch = b->block + plan->slots[plan->scratch[i]].offset +
                                  (size_t)first_worker * plan->worker_bytes;
    }
    rt_worker_barrier(w);
    run_nodes(b, 0, plan->cut, group, call, seconds, w);
}

/* Nodes before the cut: the team goes over the samples in groups. */
static void run_samples(const struct run *r, double *seconds, const struct rt_worker *w)
{
    struct bound *b = &r->s->bound;
    const int groups = rt_parallel_groups(w->count, r->n, b->program->plan.copies);
    struct rt_worker in_group = *w;
    const int group = rt_worker_group(w, groups, b->barrier, &in_group);
    const int first_worker = w->id - in_group.id;
    if (group >= 0 && in_group.count == 1) {
        int64_t i = 0, end = 0;
        while (rt_worker_claim(w, r->n, 1, &i, &end))
            for (; i < end; i++)
                run_sample(r, i, group, first_worker, seconds, &in_group);
    } else if (group >= 0) {
        for (int64_t i = group; i < r->n; i += groups)
            run_sample(r, i, group, first_worker, seconds, &in_group);
    }
    rt_worker_barrier(w);
}

/* On every thread of the team: all steps, together. */
static void run_steps(void *ctx, const struct rt_worker *w)
{
    const struct run *r = ctx;
    struct bound *b = &r->s->bound;
    const struct rt_plan *plan = &b->program->plan;
    double *seconds = r->s->profile && w->id == 0 ? b->seconds : NULL;
    if (plan->cut > 0)
        run_samples(r, seconds, w);
    run_nodes(b, plan->cut, b->program->g->n_nodes, 0,
              b->call + (plan->cut > 0 ? plan->copies * plan->cut : 0), seconds, w);
}

/* Binds the calls to this run's inputs. */
static void begin_run(struct rt_session *s, int64_t n, const struct rt_tensor *in)
{
    struct bound *b = &s->bound;
    const struct rt_plan *plan = &b->program->plan;
    const struct part all = { .in = in, .n = n };
    rt_mem_forget(b->block, plan->bytes);
    for (int i = plan->cut > 0 ? plan->copies * b->sample_tensors : 0; i < b->n_tensors; i++)
        b->tensor[i] = view(b, b->value[i], &all);
    if (plan->cut > 0)
        memset(b->barrier, 0, (size_t)plan->copies * sizeof *b->barrier);
    atomic_flag_clear(&s->fault.taken);
    atomic_store(&s->fault.set, false);
}

static enum rt_status run_program(struct rt_session *s, int64_t n, const struct rt_tensor *in,
                                  struct rt_tensor *out, struct rt_error *err)
{
    struct bound *b = &s->bound;
    /* NOLINTNEXTLINE(clang-analyzer-core.*): it was bound to one */
    const struct rt_graph *g = b->program->g;
    const struct part all = { .in = in, .n = n };
    begin_run(s, n, in);
    rt_parallel(s->threads, run_steps, &(struct run){ s, in, n });
    if (atomic_load(&s->fault.set)) {
        if (err != NULL)
            *err = s->fault.err;
        return s->fault.err.status;
    }
    for (int i = 0; i < g->n_outputs; i++)
        out[i] = view(b, g->output[i], &all);
    return RT_OK;
}

/* The i-th of n samples in t. */
static struct rt_tensor sample_of(const struct rt_tensor *t, int64_t i, int64_t n)
{
    struct rt_tensor one = *t;
    one.shape.dim[0] /= n;
    size_t bytes = 0;
    rt_shape_bytes(&one.shape, one.dtype, &bytes);
    one.data = (char *)t->data + (size_t)i * bytes;
    return one;
}

static enum rt_status run_looped(struct rt_session *s, int64_t n, const struct rt_tensor *in,
                                 struct rt_tensor *out, struct rt_error *err)
{
    struct rt_model *m = s->model;
    for (int64_t i = 0; i < n; i++) {
        for (int k = 0; k < m->src->n_inputs; k++)
            s->sample_in[k] = sample_of(&in[k], i, n);
        enum rt_status status = run_program(s, 1, s->sample_in, out, err);
        if (status != RT_OK)
            return status;
        for (int k = 0; k < m->src->n_outputs; k++) {
            size_t bytes = 0;
            rt_shape_bytes(&out[k].shape, out[k].dtype, &bytes);
            s->gathered[k].dtype = out[k].dtype;
            s->gathered[k].shape = out[k].shape;
            s->gathered[k].shape.dim[0] *= n;
            if (bytes > 0)
                memcpy((char *)s->gathered[k].data + (size_t)i * bytes, out[k].data, bytes);
        }
    }
    for (int k = 0; k < m->src->n_outputs; k++)
        out[k] = s->gathered[k];
    return RT_OK;
}

static enum rt_status check_input(const struct rt_model *m, int i, const struct rt_tensor *t,
                                  int64_t *n, struct rt_error *err)
{
    const struct rt_io *io = &m->input[i];
    char want[RT_SHAPE_TEXT], got[RT_SHAPE_TEXT];
    if (t->dtype != io->dtype)
        return rt_fail(err, RT_E_INVALID, "input '%s' has type %s, the model wants %s", io->name,
                       rt_dtype_name(t->dtype), rt_dtype_name(io->dtype));
    bool fits = m->options.any_shape || t->shape.rank == io->shape.rank;
    for (int k = 0; fits && !m->options.any_shape && k < t->shape.rank; k++)
        fits = t->shape.dim[k] == io->shape.dim[k] ||
               (io->shape.dim[k] < 0 && t->shape.dim[k] >= 0 && !rt_is_batched(t->shape.dim[k]));
    size_t bytes;
    if (!fits || !rt_shape_bytes(&t->shape, t->dtype, &bytes))
        return rt_fail(err, RT_E_INVALID, "input '%s' has shape %s, the model wants %s", io->name,
                       rt_shape_text(&t->shape, got), rt_shape_text(&io->shape, want));
    int max = rt_model_max_batch(m);
    if (max == 0)
        return RT_OK;
    if (t->shape.dim[0] < 1 || t->shape.dim[0] > max)
        return rt_fail(err, RT_E_INVALID, "input '%s' has %lld samples, a run takes 1 to %d",
                       io->name, (long long)t->shape.dim[0], max);
    if (i > 0 && t->shape.dim[0] != *n)
        return rt_fail(err, RT_E_INVALID, "input '%s' has %lld samples, the others have %lld",
                       io->name, (long long)t->shape.dim[0], (long long)*n);
    *n = t->shape.dim[0];
    return RT_OK;
}

enum rt_status rt_session_run(struct rt_session *s, const struct rt_tensor *in,
                              struct rt_tensor *out, struct rt_error *err)
{
    struct rt_model *m = s->model;
    int64_t n = 1;
    enum rt_status status = RT_OK;
    for (int i = 0; status == RT_OK && i < m->src->n_inputs; i++)
        status = check_input(m, i, &in[i], &n, err);
    if (status != RT_OK)
        return status;
    if (s->profile && s->bound.program != NULL)
        memset(s->bound.seconds, 0,
               (size_t)s->bound.program->g->n_nodes * sizeof *s->bound.seconds);
    if (m->mode == RT_MODE_INTERPRETED) {
        rt_graph_destroy(s->holder);
        s->holder = NULL;
        return rt_interpret(m->src, in, &m->options, s->threads, out, &s->holder, err);
    }
    if (m->mode == RT_MODE_SHAPED) {
        struct rt_program *p;
        status = rt_model_program_for(m, in, &p, err);
        if (status != RT_OK)
            return status;
        const struct rt_program *done = p; /* which is had once */
        if (p != s->bound.program) {
            const struct rt_program *before = s->bound.program;
            status = bind(s, p, err);
            done = status == RT_OK ? before : p;
        }
        rt_model_program_done(m, done);
        if (status != RT_OK)
            return status;
    }
    if (m->mode == RT_MODE_LOOPED)
        return run_looped(s, n, in, out, err);
    return run_program(s, n, in, out, err);
}

static enum rt_status prepare_loop(struct rt_session *s, struct rt_error *err)
{
    struct rt_model *m = s->model;
    size_t n_out = (size_t)m->src->n_outputs;
    s->sample_in = rt_zalloc_array((size_t)m->src->n_inputs + 1, sizeof *s->sample_in);
    s->gathered = rt_zalloc_array(n_out + 1, sizeof *s->gathered);
    if (s->sample_in == NULL || s->gathered == NULL)
        return rt_fail(err, RT_E_NOMEM, "out of memory while making a session");
    for (size_t k = 0; k < n_out; k++) {
        const struct rt_value *v = &m->program->g->value[m->program->g->output[k]];
        size_t one, all;
        if (!rt_shape_bytes(&v->shape, v->dtype, &one) ||
            !rt_mul_size(one, (size_t)m->options.max_batch, &all))
            return rt_fail(err, RT_E_LIMIT, "output '%s' is too large", v->name);
        s->gathered[k].data = rt_alloc(all);
        if (s->gathered[k].data == NULL)
            return rt_fail_nomem(err, all);
    }
    return RT_OK;
}

/* The first run should not be slower than later ones, nor loading take much longer for that. */
static void settle_at_first(struct rt_session *s)
{
    const double end = rt_now() + s->model->load_seconds / 2;
    while (rt_now() < end && rt_session_settle(s))
        ;
}

enum rt_status rt_session_create(struct rt_model *m, int threads, struct rt_session **out,
                                 struct rt_error *err)
{
    struct rt_session *s = rt_zalloc(sizeof *s);
    if (s == NULL)
        return rt_fail_nomem(err, sizeof *s);
    s->model = rt_model_retain(m);
    s->threads = threads > 0 ? threads : rt_cpu_budget();
    if (s->threads > m->max_threads)
        s->threads = m->max_threads; /* scratch memory is planned for that many */
    s->most_threads = s->threads;
    enum rt_status status = RT_OK;
    if (m->program != NULL && m->mode != RT_MODE_SHAPED)
        status = bind(s, m->program, err);
    if (status == RT_OK && m->mode == RT_MODE_LOOPED)
        status = prepare_loop(s, err);
    if (status == RT_OK) {
        settle_at_first(s);
        *out = s;
    } else {
        rt_session_destroy(s);
    }
    return status;
}

void rt_session_destroy(struct rt_session *s)
{
    if (s == NULL)
        return;
    if (s->model->mode == RT_MODE_SHAPED)
        rt_model_program_done(s->model, s->bound.program);
    unbind(&s->bound);
    rt_graph_destroy(s->holder);
    for (int k = 0; s->gathered != NULL && k < s->model->src->n_outputs; k++)
        rt_free(s->gathered[k].data);
    rt_free(s->gathered);
    rt_free(s->sample_in);
    rt_model_release(s->model);
    rt_free(s);
}

void rt_session_set_team(struct rt_session *s, int threads)
{
    s->threads = threads < 1 ? 1 : threads < s->most_threads ? threads : s->most_threads;
}

bool rt_session_settle(struct rt_session *s)
{
    const struct bound *b = &s->bound;
    return b->program != NULL &&
           (rt_settle(b->block, b->program->plan.bytes) || rt_arena_settle(b->program->arena));
}

bool rt_session_is_random(const struct rt_session *s)
{
    return s->holder != NULL ? s->holder->random
                             : s->bound.program != NULL && s->bound.program->g->random;
}

void rt_session_profile(struct rt_session *s, bool on)
{
    s->profile = on;
}

const double *rt_session_layer_seconds(const struct rt_session *s)
{
    return s->bound.seconds;
}

enum rt_status rt_session_balance(struct rt_session *s, const struct rt_tensor *in,
                                  struct rt_balance *out, double *largest, struct rt_error *err)
{
    const struct rt_model *m = s->model;
    int64_t n = 1;
    enum rt_status status = RT_OK;
    if (m->program == NULL || s->bound.program != m->program)
        return rt_fail(err, RT_E_UNSUPPORTED,
                       "how its work is shared out is not known before a run shows its sizes");
    for (int i = 0; status == RT_OK && i < m->src->n_inputs; i++)
        status = check_input(m, i, &in[i], &n, err);
    if (status != RT_OK)
        return status;
    const int n_layers = m->program->g->n_nodes, workers = s->threads;
    double *work = rt_zalloc_array((size_t)n_layers * (size_t)workers + 1, sizeof *work);
    if (work == NULL)
        return rt_fail_nomem(err, (size_t)n_layers * (size_t)workers * sizeof *work);
    struct rt_rehearsed found;
    struct run r = { s, in, m->mode == RT_MODE_LOOPED ? 1 : n };
    begin_run(s, r.n, in);
    status = rt_rehearse(workers, run_steps, &r, work, &found, err);
    for (int i = 0; status == RT_OK && i < n_layers; i++) {
        double sum = 0, most = 0;
        for (int k = 0; k < workers; k++) {
            const double one = work[(size_t)i * (size_t)workers + (size_t)k];
            sum += one;
            most = one > most ? one : most;
        }
        largest[i] = sum > 0 ? most / sum : 0;
    }
    if (status == RT_OK)
        *out = (struct rt_balance){
            .bound = found.length > 0 ? found.work / (found.length * workers) : 1,
            .barriers = found.barriers,
        };
    rt_free(work);
    return status;
}
