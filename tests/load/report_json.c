/* JSON for programs. */
#include "server/json_out.h"
#include "tests/load/arrivals.h"
#include "tests/load/report.h"

#include <math.h>

#define MS(ns) ((double)(ns)*1e-6)
#define FINE 8 /* buckets of a power of two that the file keeps of a histogram */

static void put_percentiles(struct sv_json *j, const struct ld_histogram *h)
{
    static const struct {
        const char *name;
        double share;
    } p[] = { { "p50", 0.5 },  { "p75", 0.75 }, { "p90", 0.9 },
              { "p95", 0.95 }, { "p99", 0.99 }, { "p999", 0.999 } };
    sv_json_int(j, "count", (int64_t)h->n);
    sv_json_double(j, "mean", ld_histogram_mean(h) * 1e-6);
    for (size_t i = 0; i < sizeof p / sizeof p[0]; i++)
        sv_json_double(j, p[i].name, MS(ld_histogram_percentile(h, p[i].share)));
    sv_json_double(j, "max", MS(h->max));
}

static void put_latency(struct sv_json *j, const char *key, const struct ld_histogram *h)
{
    sv_json_row(j, key);
    put_percentiles(j, h);
    sv_json_end(j);
}

static void put_answers(struct sv_json *j, const struct ld_times *t)
{
    char status[16];
    snprintf(status, sizeof status, "%d", t->status);
    sv_json_object(j, status);
    put_percentiles(j, &t->ns);
    put_latency(j, "first_byte", &t->first);
    sv_json_end(j);
}

static void put_histogram(struct sv_json *j, const struct ld_histogram *h)
{
    sv_json_array(j, "histogram");
    for (int power = 10; power < LD_HISTOGRAM_RANGE; power++)
        for (uint64_t part = 0; part < FINE; part++) {
            const uint64_t base = UINT64_C(1) << power, step = base / FINE;
            const uint64_t from = power == 10 && part == 0 ? 0 : base + part * step;
            const uint64_t to = base + (part + 1) * step;
            const uint64_t n = ld_histogram_between(h, from, to);
            if (n == 0)
                continue;
            sv_json_row(j, NULL);
            sv_json_double(j, "from_ms", MS(from));
            sv_json_double(j, "to_ms", MS(to));
            sv_json_int(j, "count", (int64_t)n);
            sv_json_end(j);
        }
    sv_json_end(j);
}

static void put_split(struct sv_json *j, const struct ld_split *s)
{
    const double requests = s->requests > 0 ? (double)s->requests * 1e6 : NAN;
    sv_json_object(j, "server");
    sv_json_int(j, "requests", (int64_t)s->requests);
    sv_json_int(j, "samples", (int64_t)s->samples);
    sv_json_int(j, "runs", (int64_t)s->runs);
    sv_json_double(j, "queue_ms", s->queue / requests);
    sv_json_double(j, "input_ms", s->input / requests);
    sv_json_double(j, "compute_ms", s->compute / requests);
    sv_json_double(j, "output_ms", s->output / requests);
    sv_json_double(j, "mean_batch", ld_split_mean_batch(s));
    sv_json_array(j, "batches");
    for (int i = 0; i < s->n_batches; i++) {
        sv_json_row(j, NULL);
        sv_json_int(j, "size", s->batch[i].size);
        sv_json_int(j, "runs", (int64_t)s->batch[i].runs);
        sv_json_end(j);
    }
    sv_json_end(j);
    sv_json_end(j);
}

static void put_ratio(struct sv_json *j, const struct ld_level *l, const struct ld_level *of)
{
    const struct ld_round r = ld_level_ratio(l, of);
    sv_json_row(j, "to_first_side");
    sv_json_double(j, "throughput", r.throughput);
    sv_json_double(j, "p50", r.p50);
    sv_json_double(j, "p90", r.p90);
    sv_json_double(j, "p99", r.p99);
    sv_json_end(j);
}

static void put_level(struct sv_json *j, const struct ld_level *l, int samples,
                      const struct ld_level *first)
{
    const struct ld_run *run = &l->run;
    sv_json_object(j, NULL);
    if (l->concurrency > 0)
        sv_json_int(j, "concurrency", l->concurrency);
    else
        sv_json_double(j, "rate", l->rate);
    sv_json_double(j, "seconds", run->seconds);
    sv_json_double(j, "requests_per_second", ld_level_throughput(l));
    sv_json_double(j, "samples_per_second", ld_level_throughput(l) * samples);
    sv_json_int(j, "requests", (int64_t)run->requests);
    sv_json_int(j, "failed", (int64_t)ld_run_failed(run));
    sv_json_int(j, "broken", (int64_t)run->broken);
    sv_json_int(j, "unsent", (int64_t)run->unsent);
    sv_json_int(j, "wrong", (int64_t)run->wrong);
    sv_json_int(j, "held_up", (int64_t)run->held_up);
    sv_json_int(j, "without_retry_after", (int64_t)run->without_retry_after);
    put_latency(j, "latency_ms", &l->good);
    put_latency(j, "begun_late_ms", &run->late);
    sv_json_object(j, "answers");
    for (int i = 0; i < run->n_statuses; i++)
        put_answers(j, &run->status[i]);
    sv_json_end(j);
    sv_json_array(j, "rounds");
    for (int i = 0; i < l->n_rounds; i++) {
        sv_json_row(j, NULL);
        sv_json_double(j, "requests_per_second", l->round[i].throughput);
        sv_json_double(j, "p50", l->round[i].p50 * 1e3);
        sv_json_double(j, "p90", l->round[i].p90 * 1e3);
        sv_json_double(j, "p99", l->round[i].p99 * 1e3);
        sv_json_end(j);
    }
    sv_json_end(j);
    if (first != NULL)
        put_ratio(j, l, first);
    if (l->has_split)
        put_split(j, &l->split);
    sv_json_double(j, "generator_cores", run->cpu);
    put_histogram(j, &l->good);
    sv_json_end(j);
}

void ld_report_json(const struct ld_settings *set, const struct ld_result *result, int n, FILE *to)
{
    struct sv_json j;
    sv_json_init(&j, to);
    sv_json_object(&j, NULL);
    sv_json_string(&j, "title", set->title);
    sv_json_string(&j, "arrivals", set->arrivals == LD_CONSTANT ? "constant" : "poisson");
    sv_json_double(&j, "round_seconds", set->time);
    sv_json_double(&j, "warm_up_seconds", set->warm_up);
    sv_json_array(&j, "sides");
    for (int i = 0; i < n; i++) {
        const struct ld_side *s = result[i].side;
        sv_json_object(&j, NULL);
        sv_json_string(&j, "label", s->label);
        sv_json_string(&j, "url", s->bodies.url);
        sv_json_string(&j, "model", s->model.name);
        sv_json_string(&j, "body", ld_body_name((enum ld_body_kind)s->set.body));
        sv_json_int(&j, "body_bytes", (int64_t)s->bodies.item[0].bytes.len);
        sv_json_int(&j, "samples", s->bodies.samples);
        if (result[i].limit > 0) {
            sv_json_double(&j, "knee", result[i].knee);
            sv_json_double(&j, "limit_ms", result[i].limit * 1e3);
        }
        sv_json_array(&j, "levels");
        for (int k = 0; k < result[i].n_levels; k++)
            put_level(&j, &result[i].level[k], s->bodies.samples,
                      i > 0 && result[i].limit == 0 ? &result[0].level[k] : NULL);
        sv_json_end(&j);
        sv_json_end(&j);
    }
    sv_json_end(&j);
    sv_json_end(&j);
}
