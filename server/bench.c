/* Rounds over all cases; in each round a case gets one untimed run, then a slice of timed ones. */
#include "server/bench.h"

#include "server/cli.h"
#include "server/clock.h"
#include "server/layer_times.h"
#include "server/progress.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLICE 0.1     /* seconds of a case's turn */
#define FEWEST_RUNS 5 /* timed, of however slow a model */

static double seconds_since(uint64_t start)
{
    return (double)(sv_now_ns() - start) / (double)SV_NS_PER_SECOND;
}

/* A dimension list "1x3x224x224" to *shape. */
static bool parse_shape(const char *text, struct rt_shape *shape)
{
    *shape = (struct rt_shape){ 0 };
    for (;;) {
        char *end;
        long long v = strtoll(text, &end, 10);
        if (end == text || v < 1 || shape->rank == RT_MAX_RANK)
            return false;
        shape->dim[shape->rank++] = v;
        if (*end == '\0')
            return true;
        if (*end != 'x' && *end != ',')
            return false;
        text = end + 1;
    }
}

/* The shape that was asked for on the command line; *found false when none was. */
static enum rt_status given_shape(const struct sv_option_list *shapes, const char *name,
                                  struct rt_shape *out, bool *found, struct rt_error *err)
{
    *found = false;
    for (int i = 0; i < shapes->n; i++) {
        const char *equals = strrchr(shapes->item[i], '=');
        if (equals != NULL && (strlen(name) != (size_t)(equals - shapes->item[i]) ||
                               strncmp(name, shapes->item[i], strlen(name)) != 0))
            continue;
        if (!parse_shape(equals != NULL ? equals + 1 : shapes->item[i], out))
            return rt_fail(err, RT_E_INVALID, "--shape %s: expected sizes, as in 1x3x224x224",
                           shapes->item[i]);
        *found = true;
    }
    return RT_OK;
}

/* The input's shape with its free dimensions filled in. */
static enum rt_status input_shape(const struct sv_bench_options *o, const struct rt_model *m,
                                  const struct rt_io *io, int batch, struct rt_shape *out,
                                  struct rt_error *err)
{
    struct rt_shape given;
    bool found;
    char text[RT_SHAPE_TEXT];
    enum rt_status s = given_shape(o->shapes, io->name, &given, &found, err);
    if (s != RT_OK)
        return s;
    *out = io->shape;
    if (found && given.rank != out->rank)
        return rt_fail(err, RT_E_INVALID, "--shape: input %s is %s, of %d dimensions", io->name,
                       rt_shape_text(&io->shape, text), io->shape.rank);
    for (int d = 0; d < out->rank; d++) {
        if (d == 0 && rt_model_max_batch(m) > 0)
            out->dim[d] = batch;
        else if (found && out->dim[d] >= 0 && given.dim[d] != out->dim[d])
            return rt_fail(err, RT_E_INVALID, "--shape: input %s is %s, its dimension %d is not %lld",
                           io->name, rt_shape_text(&io->shape, text), d, (long long)given.dim[d]);
        else if (out->dim[d] < 0 && found)
            out->dim[d] = given.dim[d];
        else if (out->dim[d] < 0)
            return rt_fail(err, RT_E_INVALID,
                           "input %s is %s: say which sizes with --shape, as in 1x3x224x224",
                           io->name, rt_shape_text(&io->shape, text));
    }
    return RT_OK;
}

static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* Floats from -1 to 1 and all values of small integers. The wide integers and booleans stay 0:
 * they are sizes or indices, of which no other value is safe. */
static void fill_random(const struct rt_tensor *t, int64_t n, uint32_t *state)
{
    for (int64_t i = 0; i < n; i++) {
        const uint32_t r = next_random(state);
        const float f = (float)(int32_t)r * 0x1p-31f;
        switch (t->dtype) {
        case RT_FLOAT:
            ((float *)t->data)[i] = f;
            break;
        case RT_DOUBLE:
            ((double *)t->data)[i] = (double)f;
            break;
        case RT_FLOAT16:
            ((uint16_t *)t->data)[i] = rt_float_to_half(f);
            break;
        case RT_BFLOAT16:
            ((uint16_t *)t->data)[i] = rt_float_to_bfloat16(f);
            break;
        case RT_INT8:
        case RT_UINT8:
            ((uint8_t *)t->data)[i] = (uint8_t)(r >> 24);
            break;
        default:
            return;
        }
    }
}

static enum rt_status make_inputs(const struct sv_bench_options *o, struct sv_bench_case *c,
                                  struct rt_error *err)
{
    const int n_in = rt_model_n_inputs(c->model), n_out = rt_model_n_outputs(c->model);
    uint32_t state = 2463534242u; /* the same numbers for every case */
    c->in = rt_zalloc_array((size_t)n_in + 1, sizeof *c->in);
    c->out = rt_zalloc_array((size_t)n_out + 1, sizeof *c->out);
    if (c->in == NULL || c->out == NULL)
        return rt_fail_nomem(err, sizeof *c->in * (size_t)(n_in + n_out));
    for (int i = 0; i < n_in; i++) {
        const struct rt_io *io = rt_model_input(c->model, i);
        struct rt_tensor *t = &c->in[i];
        size_t len;
        t->dtype = io->dtype;
        enum rt_status s = input_shape(o, c->model, io, c->batch, &t->shape, err);
        if (s != RT_OK)
            return s;
        if (!rt_shape_bytes(&t->shape, t->dtype, &len))
            return rt_fail(err, RT_E_LIMIT, "input %s is too large", io->name);
        t->data = rt_zalloc(len);
        if (t->data == NULL)
            return rt_fail_nomem(err, len);
        if (!o->zero)
            fill_random(t, rt_shape_numel(&t->shape), &state);
    }
    return RT_OK;
}

/* Bytes of this process's memory that are resident; 0: the system does not say. */
static size_t resident(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL)
        return 0;
    if (fscanf(f, "%*u %lu", &pages) != 1) /* NOLINT(cert-err34-c): the kernel's own numbers */
        pages = 0;
    fclose(f);
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* The most that has been; 0: the system does not say. */
static size_t resident_peak(void)
{
    char line[128];
    unsigned long kib = 0;
    FILE *f = fopen("/proc/self/status", "re");
    if (f == NULL)
        return 0;
    while (fgets(line, sizeof line, f) != NULL && sscanf(line, "VmHWM: %lu", &kib) != 1)
        ;
    fclose(f);
    return (size_t)kib * 1024;
}

static enum rt_status load(const struct sv_bench_options *o, enum rt_batchnorm_mode mode,
                           struct sv_bench_case *cases, int n, struct rt_error *err)
{
    struct rt_options options = { .exact = o->exact,
                                  .untuned = o->untuned,
                                  .tuning = o->tuning,
                                  .extra_weights = o->extra_weights,
                                  .allow_batch_statistics = true,
                                  .batchnorm = mode };
    struct rt_model *m = NULL;
    bool used = false;
    for (int i = 0; i < n; i++) {
        used |= cases[i].batchnorm == mode;
        options.max_batch = cases[i].batch > options.max_batch ? cases[i].batch : options.max_batch;
    }
    if (!used)
        return RT_OK;
    const size_t before = resident();
    const uint64_t start = sv_now_ns();
    enum rt_status s = sv_cli_load(o->path, &options, &m, err);
    const double took = seconds_since(start);
    struct rt_model_info info;
    if (s == RT_OK && rt_model_max_batch(m) == 0 && options.max_batch > 1) {
        rt_model_info(m, &info);
        s = rt_fail(err, RT_E_INVALID, "--batch: the model's batch is fixed%s%s",
                    info.batch_note != NULL ? ": " : "",
                    info.batch_note != NULL ? info.batch_note : "");
    }
    for (int i = 0; i < n && s == RT_OK; i++)
        if (cases[i].batchnorm == mode) {
            cases[i].model = rt_model_retain(m);
            cases[i].resident_before = before;
            cases[i].load = took;
        }
    rt_model_release(m);
    return s;
}

/* One run; its time, if time is not NULL. */
static enum rt_status run_once(struct sv_bench_case *c, double *time, struct rt_error *err)
{
    uint64_t start = sv_now_ns();
    enum rt_status s = rt_session_run(c->session, c->in, c->out, err);
    if (time != NULL)
        *time = seconds_since(start);
    return s;
}

static enum rt_status keep(struct sv_bench_case *c, double time, struct rt_error *err)
{
    if (c->n_runs == c->room) {
        int room = c->room > 0 ? 2 * c->room : 256;
        double *grown =
            c->room < INT_MAX / 2 ? rt_realloc_array(c->sample, (size_t)room, sizeof *grown) : NULL;
        if (grown == NULL)
            return rt_fail_nomem(err, (unsigned long long)room * sizeof *grown);
        c->sample = grown;
        c->room = room;
    }
    c->sample[c->n_runs++] = time;
    c->total += time;
    return RT_OK;
}

static bool done(const struct sv_bench_case *c, double seconds)
{
    return c->total >= seconds && c->n_runs >= FEWEST_RUNS;
}

static enum rt_status take_turn(struct sv_bench_case *c, double seconds, struct rt_error *err)
{
    /* The case before has left the caches, and the thread team, as it liked them. */
    enum rt_status s = run_once(c, NULL, err);
    const double slice = seconds < SLICE ? seconds : SLICE;
    /* NOLINTNEXTLINE(cert-flp30-c): time is what is counted */
    for (double spent = 0, time; s == RT_OK && spent <= slice; spent += time) {
        s = run_once(c, &time, err);
        if (s == RT_OK)
            s = keep(c, time, err);
        if (s != RT_OK)
            return s;
    }
    return s;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void summarise(struct sv_bench_case *c)
{
    const int n = c->n_runs;
    qsort(c->sample, (size_t)n, sizeof *c->sample, ascending);
    c->min = c->sample[0];
    c->median = n % 2 != 0 ? c->sample[n / 2] : (c->sample[n / 2 - 1] + c->sample[n / 2]) / 2;
    c->p99 = c->sample[(int)((double)(n - 1) * 0.99)];
    c->peak = rt_peak_flops(c->threads);
}

static enum rt_status profile(struct sv_bench_case *c, double seconds, struct rt_error *err)
{
    const int n_layers = rt_model_n_layers(c->model);
    int runs;
    c->layer_seconds = rt_zalloc_array((size_t)n_layers + 1, sizeof *c->layer_seconds);
    if (c->layer_seconds == NULL)
        return rt_fail_nomem(err, (size_t)n_layers * sizeof *c->layer_seconds);
    return sv_layer_times(c->model, c->session, c->in, c->out, seconds, c->layer_seconds, &runs,
                          err);
}

/* The share of all that is to be measured. */
static double measured(const struct sv_bench_case *cases, int n, double seconds)
{
    double share = 0;
    for (int i = 0; i < n; i++)
        share += cases[i].total < seconds ? cases[i].total / seconds : 1;
    return share / n;
}

enum rt_status sv_bench_run(const struct sv_bench_options *o, struct sv_bench_case *cases, int n,
                            struct rt_error *err)
{
    enum rt_status s = load(o, RT_BATCHNORM_FOLDED, cases, n, err);
    if (s == RT_OK)
        s = load(o, RT_BATCHNORM_SEPARATE, cases, n, err);
    for (int i = 0; i < n && s == RT_OK; i++) {
        const uint64_t start = sv_now_ns();
        s = rt_session_create(cases[i].model, cases[i].threads, &cases[i].session, err);
        cases[i].load += seconds_since(start);
        cases[i].resident_loaded = resident();
        if (s == RT_OK)
            s = make_inputs(o, &cases[i], err);
        if (s == RT_OK)
            s = run_once(&cases[i], &cases[i].first_run, err);
        cases[i].resident_peak = resident_peak();
        while (s == RT_OK && rt_session_settle(cases[i].session))
            ;
        cases[i].resident_run = resident();
    }
    struct sv_progress progress;
    sv_progress_begin(&progress, "measuring");
    for (bool more = true; more && s == RT_OK;) {
        more = false;
        for (int i = 0; i < n && s == RT_OK; i++) {
            if (done(&cases[i], o->seconds))
                continue;
            s = take_turn(&cases[i], o->seconds, err);
            more = true;
            if (o->progress)
                sv_progress_show(&progress, measured(cases, n, o->seconds), NULL);
        }
    }
    for (int i = 0; i < n && s == RT_OK; i++) {
        summarise(&cases[i]);
        if (o->profile)
            s = profile(&cases[i], o->seconds, err);
    }
    sv_progress_end(&progress);
    return s;
}

void sv_bench_reset(struct sv_bench_case *cases, int n)
{
    for (int k = 0; k < n; k++) {
        struct sv_bench_case *c = &cases[k];
        rt_session_destroy(c->session);
        for (int i = 0; c->in != NULL && i < rt_model_n_inputs(c->model); i++)
            rt_free(c->in[i].data);
        rt_free(c->in);
        rt_free(c->out);
        rt_free(c->sample);
        rt_free(c->layer_seconds);
        rt_model_release(c->model);
    }
}
