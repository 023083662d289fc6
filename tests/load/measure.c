/* Rounds, sweeps and the search. */
#include "tests/load/measure.h"

#include "server/cli.h"
#include "server/progress.h"
#include "tests/load/client.h"
#include "tests/load/knee.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define CARRIED 0.97   /* of the requests meant to begin that are answered in the same time */
#define ALONE 10       /* times the median of one connection that p99 may come to by default */
#define CAPACITY_AT 32 /* connections of the closed loop that tells what a server can do */
#define SECONDS(ns) ((double)(ns)*1e-9)

struct measure {
    const struct ld_settings *set;
    struct ld_result *result;
    int n, rounds;
    int done, all; /* runs */
    struct sv_progress progress;
    struct rt_error *err;
};

void ld_result_reset(struct ld_result *r)
{
    for (int i = 0; i < r->n_levels; i++) {
        ld_run_reset(&r->level[i].run);
        ld_histogram_reset(&r->level[i].good);
    }
    r->n_levels = 0;
}

/* One round of a side's load, added to its level. */
static enum rt_status run_once(struct measure *m, struct ld_side *side, struct ld_level *l)
{
    const struct ld_settings *set = m->set;
    const struct ld_load load = {
        .connections = l->concurrency > 0 ? l->concurrency : set->connections,
        .rate = l->concurrency > 0 ? 0 : l->rate,
        .process = (enum ld_process)set->arrivals,
        /* Each round has arrivals of its own, which are those of the other sides. */
        .seed = (uint64_t)set->seed + (uint64_t)l->n_rounds,
        .warm_up = set->warm_up,
        .seconds = set->time,
        .timeout = set->timeout,
    };
    struct ld_run run = { 0 };
    struct ld_split before, after;
    struct ld_histogram good = { 0 };
    const char *model = side->model.name;
    char what[128];
    snprintf(what, sizeof what, "%.60s, round %d", side->label, l->n_rounds + 1);
    sv_progress_show(&m->progress, m->all > 0 ? (double)m->done / m->all : 0, what);
    const bool counted =
        model != NULL && ld_split_read(side->url, side->headers, model, &before, NULL) == RT_OK;
    enum rt_status s = ld_client_run(&side->bodies, &load, &run, m->err);
    l->has_split = s == RT_OK && counted &&
                   ld_split_read(side->url, side->headers, model, &after, NULL) == RT_OK;
    if (l->has_split)
        ld_split_add(&l->split, &before, &after);
    if (s == RT_OK)
        s = ld_run_merge(&l->run, &run, m->err);
    if (s == RT_OK)
        s = ld_run_good(&run, &good, m->err);
    if (s == RT_OK)
        s = ld_histogram_merge(&l->good, &good, m->err);
    if (s == RT_OK)
        l->round[l->n_rounds++] = (struct ld_round){
            .throughput = ld_run_throughput(&run),
            .p50 = SECONDS(ld_histogram_percentile(&good, 0.5)),
            .p90 = SECONDS(ld_histogram_percentile(&good, 0.9)),
            .p99 = SECONDS(ld_histogram_percentile(&good, 0.99)),
        };
    ld_histogram_reset(&good);
    ld_run_reset(&run);
    m->done++;
    return s;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, ascending);
    return n == 0 ? NAN : n % 2 == 1 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

double ld_level_throughput(const struct ld_level *l)
{
    double v[LD_ROUNDS_MAX] = { 0 };
    for (int i = 0; i < l->n_rounds; i++)
        v[i] = l->round[i].throughput;
    return median(v, l->n_rounds);
}

struct ld_round ld_level_ratio(const struct ld_level *l, const struct ld_level *of)
{
    double v[4][LD_ROUNDS_MAX] = { { 0 } };
    const int n = l->n_rounds < of->n_rounds ? l->n_rounds : of->n_rounds;
    int known = 0;
    for (int i = 0; i < n; i++) {
        const struct ld_round *a = &l->round[i], *b = &of->round[i];
        if (b->throughput <= 0 || b->p50 <= 0 || a->p50 <= 0)
            continue; /* nothing was answered */
        v[0][known] = a->throughput / b->throughput;
        v[1][known] = a->p50 / b->p50;
        v[2][known] = a->p90 / b->p90;
        v[3][known] = a->p99 / b->p99;
        known++;
    }
    return (struct ld_round){ median(v[0], known), median(v[1], known), median(v[2], known),
                              median(v[3], known) };
}

/* The loads that the options ask for, to every side. */
static enum rt_status make_levels(struct measure *m)
{
    const struct ld_settings *set = m->set;
    static const struct sv_option_list usual = { .n = 1, .item = { "1,2,4,8,16" } };
    const struct sv_option_list *list =
        set->concurrency.n > 0 || set->rate.n > 0 ? &set->concurrency : &usual;
    int number[LD_LEVELS_MAX / 2], n = 0, rate[LD_LEVELS_MAX / 2], n_rates = 0;
    enum rt_status s = RT_OK;
    if (list->n > 0)
        s = sv_cli_numbers("concurrency", list, 1, 10000, number, LD_LEVELS_MAX / 2, &n, m->err);
    if (s == RT_OK && set->rate.n > 0)
        s = sv_cli_numbers("rate", &set->rate, 1, 1000000, rate, LD_LEVELS_MAX / 2, &n_rates,
                           m->err);
    if (s != RT_OK)
        return s;
    for (int i = 0; i < m->n; i++) {
        struct ld_result *r = &m->result[i];
        for (int k = 0; k < n; k++)
            r->level[r->n_levels++] = (struct ld_level){ .concurrency = number[k] };
        for (int k = 0; k < n_rates; k++)
            r->level[r->n_levels++] = (struct ld_level){ .rate = rate[k] };
    }
    return RT_OK;
}

/* All rounds of one level; who goes first changes by round, so that nobody always follows the
 * same one. */
static enum rt_status run_level(struct measure *m, int level)
{
    enum rt_status s = RT_OK;
    for (int round = 0; round < m->rounds; round++)
        for (int i = 0; i < m->n && s == RT_OK; i++) {
            struct ld_result *r = &m->result[(i + round) % m->n];
            s = run_once(m, r->side, &r->level[level]);
        }
    return s;
}

static enum rt_status run_sweep(struct measure *m)
{
    enum rt_status s = make_levels(m);
    const int n = m->result[0].n_levels;
    m->all = n * m->n * m->rounds;
    for (int i = 0; i < n && s == RT_OK; i++)
        s = run_level(m, i);
    return s;
}

static bool is_carried(const struct ld_level *l, double limit)
{
    return ld_run_failed(&l->run) == 0 &&
           (double)l->run.answered_in_time >= CARRIED * (double)l->run.requests &&
           SECONDS(ld_histogram_percentile(&l->good, 0.99)) <= limit;
}

/* What the way up to the knee looks like. */
static enum rt_status run_below(struct measure *m, struct ld_result *r)
{
    enum rt_status s = RT_OK;
    for (int quarter = 1; quarter < 4 && r->n_levels < LD_LEVELS_MAX && s == RT_OK; quarter++) {
        struct ld_level *l = &r->level[r->n_levels++];
        *l = (struct ld_level){ .rate = r->knee * quarter / 4 };
        for (int round = 0; round < m->rounds && s == RT_OK; round++)
            s = run_once(m, r->side, l);
    }
    return s;
}

/* One connection tells what is fast, many what is the most; between them the search goes on. */
static enum rt_status search(struct measure *m, struct ld_result *r)
{
    struct ld_knee knee = { 0 };
    r->level[0] = (struct ld_level){ .concurrency = 1 };
    r->level[1] = (struct ld_level){ .concurrency = CAPACITY_AT };
    r->n_levels = 2;
    for (int i = 0; i < 2; i++) {
        enum rt_status s = run_once(m, r->side, &r->level[i]);
        if (s != RT_OK)
            return s;
        if (r->level[i].good.n == 0)
            return rt_fail(m->err, RT_E_IO, "%s: no request was answered with success: %s",
                           r->side->label,
                           r->level[i].run.why[0] != '\0' ? r->level[i].run.why
                                                          : "see a sweep for their status");
    }
    r->limit = m->set->limit > 0 ? m->set->limit
                                 : ALONE * SECONDS(ld_histogram_percentile(&r->level[0].good, 0.5));
    const double most = ld_run_throughput(&r->level[1].run);
    ld_knee_init(&knee, most > 0 ? most : 1);
    for (bool more = true; more && r->n_levels < LD_LEVELS_MAX;) {
        struct ld_level *l = &r->level[r->n_levels++];
        *l = (struct ld_level){ .rate = knee.rate };
        enum rt_status s = RT_OK;
        for (int round = 0; round < m->rounds && s == RT_OK; round++)
            s = run_once(m, r->side, l);
        if (s != RT_OK)
            return s;
        more = ld_knee_next(&knee, is_carried(l, r->limit));
    }
    r->knee = knee.carried;
    return r->knee > 0 ? run_below(m, r) : RT_OK;
}

enum rt_status ld_measure(const struct ld_settings *set, struct ld_result *result, int n,
                          struct rt_error *err)
{
    struct measure m = { .set = set, .result = result, .n = n, .err = err };
    enum rt_status s = RT_OK;
    m.rounds = set->rounds > 0 ? set->rounds : n > 1 && !set->knee ? 3 : 1;
    sv_progress_begin(&m.progress, "loading");
    if (set->knee)
        for (int i = 0; i < n && s == RT_OK; i++)
            s = search(&m, &result[i]);
    else
        s = run_sweep(&m);
    sv_progress_end(&m.progress);
    return s;
}
