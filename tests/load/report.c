/* Tables for people. */
#include "tests/load/report.h"

#include "server/table.h"

#include <inttypes.h>
#include <math.h>

#define MS(ns) ((double)(ns)*1e-6)
#define BUSY 0.9 /* of a core: from there on the generator itself may be what is measured */

const char *ld_load_text(const struct ld_level *l, char buf[LD_LOAD_TEXT])
{
    if (l->concurrency > 0)
        snprintf(buf, LD_LOAD_TEXT, "%d conn.", l->concurrency);
    else
        snprintf(buf, LD_LOAD_TEXT, "%.*f/s", l->rate < 100 ? 1 : 0, l->rate);
    return buf;
}

static void print_levels(const struct ld_result *result, int n, FILE *to)
{
    static const struct sv_column column[] = {
        { .title = "SIDE", .shrink = true },   { .title = "LOAD", .right = true },
        { .title = "REQ/s", .right = true },   { .title = "p50 ms", .right = true },
        { .title = "p90", .right = true },     { .title = "p99", .right = true },
        { .title = "p99.9", .right = true },   { .title = "max", .right = true },
        { .title = "FAILED", .right = true },  { .title = "QUEUE ms", .right = true },
        { .title = "COMPUTE", .right = true }, { .title = "BATCH", .right = true },
    };
    struct sv_table t;
    char load[LD_LOAD_TEXT];
    sv_table_init(&t, column, 12);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < result[i].n_levels; k++) {
            const struct ld_level *l = &result[i].level[k];
            const double share[] = { 0.5, 0.9, 0.99, 0.999 };
            const double requests = (double)l->split.requests * 1e6;
            sv_table_cell(&t, "%s", result[i].side->label);
            sv_table_cell(&t, "%s", ld_load_text(l, load));
            sv_table_cell(&t, "%.1f", ld_level_throughput(l));
            for (int p = 0; p < 4; p++)
                sv_table_cell(&t, "%.2f", MS(ld_histogram_percentile(&l->good, share[p])));
            sv_table_cell(&t, "%.2f", MS(l->good.max));
            sv_table_cell(&t, "%" PRIu64, ld_run_failed(&l->run));
            if (l->has_split && l->split.requests > 0) {
                sv_table_cell(&t, "%.2f", l->split.queue / requests);
                sv_table_cell(&t, "%.2f", l->split.compute / requests);
                sv_table_cell(&t, "%.2f", ld_split_mean_batch(&l->split));
            } else {
                for (int p = 0; p < 3; p++)
                    sv_table_cell(&t, "%s", "");
            }
        }
    sv_table_print(&t, to);
    sv_table_reset(&t);
}

static void print_ratios(const struct ld_result *result, int n, FILE *to)
{
    static const struct sv_column column[] = {
        { .title = "SIDE", .shrink = true },      { .title = "LOAD", .right = true },
        { .title = "THROUGHPUT", .right = true }, { .title = "p50", .right = true },
        { .title = "p90", .right = true },        { .title = "p99", .right = true },
    };
    struct sv_table t;
    char load[LD_LOAD_TEXT];
    fprintf(to, "\nTimes the figures of %s, medians of %d rounds:\n", result[0].side->label,
            result[0].level[0].n_rounds);
    sv_table_init(&t, column, 6);
    for (int i = 1; i < n; i++)
        for (int k = 0; k < result[i].n_levels; k++) {
            const struct ld_round r = ld_level_ratio(&result[i].level[k], &result[0].level[k]);
            const double v[] = { r.throughput, r.p50, r.p90, r.p99 };
            sv_table_cell(&t, "%s", result[i].side->label);
            sv_table_cell(&t, "%s", ld_load_text(&result[i].level[k], load));
            for (int p = 0; p < 4; p++)
                if (isnan(v[p]))
                    sv_table_cell(&t, "%s", "");
                else
                    sv_table_cell(&t, "%.3f", v[p]);
        }
    sv_table_print(&t, to);
    sv_table_reset(&t);
}

/* What the figures do not say of themselves. */
static void print_remarks(const struct ld_result *r, FILE *to)
{
    char load[LD_LOAD_TEXT];
    const char *label = r->side->label;
    if (r->side->bodies.samples > 1)
        fprintf(to, "%s: every request holds %d samples.\n", label, r->side->bodies.samples);
    for (int k = 0; k < r->n_levels; k++) {
        const struct ld_run *run = &r->level[k].run;
        ld_load_text(&r->level[k], load);
        for (int i = 0; i < run->n_statuses; i++)
            if (run->status[i].status / 100 != 2)
                fprintf(to, "%s, %s: %" PRIu64 " answers of status %d.\n", label, load,
                        run->status[i].ns.n, run->status[i].status);
        if (run->broken > 0)
            fprintf(to, "%s, %s: %" PRIu64 " requests without an answer: %s.\n", label, load,
                    run->broken, run->why);
        if (run->unsent > 0)
            fprintf(to,
                    "%s, %s: %" PRIu64 " requests found no free connection before time was up.\n",
                    label, load, run->unsent);
        if (run->wrong > 0)
            fprintf(to, "%s, %s: %" PRIu64 " answers are not what they have to be.\n", label, load,
                    run->wrong);
        if (run->held_up > 0)
            fprintf(to,
                    "%s, %s: %" PRIu64 " of %" PRIu64 " requests waited for a free connection.\n",
                    label, load, run->held_up, run->requests);
        if (run->cpu > BUSY)
            fprintf(to, "%s, %s: convd-load itself used %.0f %% of a core: it may be the limit.\n",
                    label, load, run->cpu * 100);
    }
}

void ld_report_tables(const struct ld_result *result, int n, FILE *to)
{
    print_levels(result, n, to);
    for (int i = 0; i < n; i++)
        print_remarks(&result[i], to);
    if (result[0].limit > 0)
        for (int i = 0; i < n; i++)
            fprintf(to, "%s: the knee is at %.1f requests/s (p99 within %.2f ms)\n",
                    result[i].side->label, result[i].knee, result[i].limit * 1e3);
    else if (n > 1)
        print_ratios(result, n, to);
}
