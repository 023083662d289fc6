/* The latency-throughput curve, on the rows of the plots that convd draws. */
#include "tests/load/chart.h"

#include "server/file.h"
#include "server/plot.h"
#include "tests/load/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEFT (SV_PLOT_MARGIN + 56.0)
#define RIGHT (SV_PLOT_WIDTH - SV_PLOT_MARGIN - 8.0)
#define TALL 300.0
#define QUIET "#566072"
#define GRID "#e3e6eb"

/* Which figure of a level a line shows. */
struct line {
    double share;
    const char *dash;
    const char *name;
};

static const struct line line_of[] = {
    { 0.5, "", "median" },
    { 0.99, " stroke-dasharray=\"5 4\"", "99 % (dashed)" },
};

/* Throughput runs linearly from 0 to most, latency logarithmically between two powers of ten. */
struct axes {
    double most, low, high;
    double top;
};

static double latency(const struct ld_level *l, double share)
{
    return (double)ld_histogram_percentile(&l->good, share) * 1e-6;
}

static double x_of(const struct axes *a, double throughput)
{
    return LEFT + (RIGHT - LEFT) * throughput / a->most;
}

static double y_of(const struct axes *a, double ms)
{
    return a->top + TALL * (log(a->high) - log(ms)) / (log(a->high) - log(a->low));
}

/* 1, 2 or 5 times a power of ten, so that few steps reach most. */
static double nice_step(double most)
{
    const double raw = most / 6, power = pow(10, floor(log10(raw)));
    return power * (raw / power > 5 ? 10 : raw / power > 2 ? 5 : raw / power > 1 ? 2 : 1);
}

static bool fit(struct axes *a, const struct ld_result *result, int n)
{
    double low = INFINITY, high = 0;
    a->most = 0;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < result[i].n_levels; k++) {
            const struct ld_level *l = &result[i].level[k];
            if (l->good.n == 0)
                continue;
            a->most = fmax(a->most, ld_level_throughput(l));
            low = fmin(low, latency(l, 0.5));
            high = fmax(high, latency(l, 0.99));
        }
    if (a->most <= 0 || high <= 0)
        return false;
    a->most *= 1.05;
    a->low = low * 0.8;
    a->high = high * 1.25;
    return true;
}

static void draw_axes(struct sv_plot *p, const struct axes *a)
{
    char text[32];
    const double step = nice_step(a->most), bottom = a->top + TALL;
    for (int i = 0; i * step <= a->most; i++) {
        const double x = x_of(a, i * step);
        sv_text_printf(&p->body, "<path stroke=\"%s\" d=\"M%.1f %.1fV%.1f\"/>\n", GRID, x, a->top,
                       bottom);
        snprintf(text, sizeof text, "%.6g", i * step);
        sv_plot_text(p, x, bottom + 15, "text-anchor=\"middle\" fill=\"" QUIET "\"", text);
    }
    for (int power = (int)floor(log10(a->low)); pow(10, power) <= a->high; power++)
        for (int i = 0; i < 3; i++) {
            static const int steps[] = { 1, 2, 5 };
            const double ms = pow(10, power) * steps[i], y = y_of(a, ms);
            if (ms < a->low || ms > a->high)
                continue;
            sv_text_printf(&p->body, "<path stroke=\"%s\" d=\"M%.1f %.1fH%.1f\"/>\n", GRID, LEFT, y,
                           RIGHT);
            snprintf(text, sizeof text, "%.3g ms", ms);
            sv_plot_text(p, LEFT - 6, y + 4, "text-anchor=\"end\" fill=\"" QUIET "\"", text);
        }
    sv_plot_text(p, RIGHT, bottom + 31, "text-anchor=\"end\" fill=\"" QUIET "\"",
                 "requests answered a second");
}

/* In the order of load, as a search has not tried them. */
static int by_load(const void *a, const void *b)
{
    const struct ld_level *x = *(const struct ld_level *const *)a;
    const struct ld_level *y = *(const struct ld_level *const *)b;
    const double dx = x->concurrency + x->rate, dy = y->concurrency + y->rate;
    return (dx > dy) - (dx < dy);
}

/* The levels of one kind, closed (filled points) or open (hollow ones), as a line. */
static void draw_curve(struct sv_plot *p, const struct axes *a, const struct ld_result *r,
                       bool open, const struct line *how, const char *colour)
{
    const struct ld_level *level[LD_LEVELS_MAX];
    int n = 0;
    for (int k = 0; k < r->n_levels; k++)
        if ((r->level[k].concurrency == 0) == open && r->level[k].good.n > 0)
            level[n++] = &r->level[k];
    if (n == 0)
        return;
    qsort(level, (size_t)n, sizeof(void *), by_load);
    sv_text_printf(&p->body, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\"%s d=\"", colour,
                   how->dash);
    for (int i = 0; i < n; i++)
        sv_text_printf(&p->body, "%c%.1f %.1f", i == 0 ? 'M' : 'L',
                       x_of(a, ld_level_throughput(level[i])),
                       y_of(a, latency(level[i], how->share)));
    sv_text_add(&p->body, "\"/>\n");
    for (int i = 0; i < n; i++) {
        char load[LD_LOAD_TEXT];
        sv_text_printf(&p->body,
                       "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" stroke=\"%s\" stroke-width=\"2\" "
                       "fill=\"%s\"><title>%s: %.1f/s, %.2f ms</title></circle>\n",
                       x_of(a, ld_level_throughput(level[i])),
                       y_of(a, latency(level[i], how->share)), colour, open ? "#ffffff" : colour,
                       ld_load_text(level[i], load), ld_level_throughput(level[i]),
                       latency(level[i], how->share));
    }
}

static void draw_knee(struct sv_plot *p, const struct axes *a, const struct ld_result *r,
                      const char *colour)
{
    char text[64];
    if (r->knee <= 0)
        return;
    const double x = x_of(a, fmin(r->knee, a->most));
    sv_text_printf(&p->body,
                   "<path stroke=\"%s\" stroke-dasharray=\"2 3\" d=\"M%.1f %.1fv%.1f\"/>\n", colour,
                   x, a->top, TALL);
    snprintf(text, sizeof text, "knee: %.0f/s", r->knee);
    sv_plot_text(p, x - 5, a->top + 12, "text-anchor=\"end\"", text);
}

static void draw_curves(struct sv_plot *p, const struct ld_result *result, int n)
{
    struct axes a;
    if (!fit(&a, result, n))
        return;
    sv_plot_heading(p, "Latency over throughput: median, and dashed the 99th percentile");
    a.top = p->y + 6;
    draw_axes(p, &a);
    for (int i = 0; i < n; i++) {
        const char *colour = sv_plot_colour_name((enum sv_plot_colour)i);
        for (size_t k = 0; k < sizeof line_of / sizeof line_of[0]; k++) {
            draw_curve(p, &a, &result[i], false, &line_of[k], colour);
            draw_curve(p, &a, &result[i], true, &line_of[k], colour);
        }
        draw_knee(p, &a, &result[i], colour);
    }
    p->y = a.top + TALL + 36;
}

/* The level with the highest throughput. */
static int best_level(const struct ld_result *r)
{
    int best = 0;
    for (int k = 1; k < r->n_levels; k++)
        if (ld_level_throughput(&r->level[k]) > ld_level_throughput(&r->level[best]))
            best = k;
    return best;
}

static void draw_throughput(struct sv_plot *p, const struct ld_result *result, int n)
{
    double most = 0;
    char label[128], text[128], load[LD_LOAD_TEXT];
    for (int i = 0; i < n; i++)
        most = fmax(most, ld_level_throughput(&result[i].level[best_level(&result[i])]));
    sv_plot_heading(p, "Requests a second, at the load with the most");
    for (int i = 0; i < n && most > 0; i++) {
        const struct ld_level *l = &result[i].level[best_level(&result[i])];
        const double v = ld_level_throughput(l);
        snprintf(label, sizeof label, "%s, %s", result[i].side->label, ld_load_text(l, load));
        snprintf(text, sizeof text, "%.1f", v);
        sv_plot_bar(p, label, v / most, (enum sv_plot_colour)i, text);
    }
}

/* Where the mean request's time went; what is neither queue nor compute is the way there and
 * back, decoding and encoding. */
static void draw_split(struct sv_plot *p, const struct ld_result *result, int n)
{
    static const char *const part[] = { "waiting in the queue", "computing", "all else" };
    double most = 0;
    for (int i = 0; i < n; i++) {
        const struct ld_level *l = &result[i].level[best_level(&result[i])];
        most = fmax(most, ld_histogram_mean(&l->good));
        if (!l->has_split || l->split.requests == 0)
            return;
    }
    sv_plot_heading(p, "Where the time of a request goes at that load, on average");
    for (int i = 0; i < n && most > 0; i++) {
        const struct ld_level *l = &result[i].level[best_level(&result[i])];
        const double requests = (double)l->split.requests;
        const double queue = l->split.queue / requests, compute = l->split.compute / requests;
        const double ns[] = { queue, compute,
                              fmax(0, ld_histogram_mean(&l->good) - queue - compute) };
        for (int k = 0; k < 3; k++) {
            char label[128], text[64];
            snprintf(label, sizeof label, "%.60s: %s", result[i].side->label, part[k]);
            snprintf(text, sizeof text, "%.2f ms", ns[k] * 1e-6);
            if (k == 1)
                snprintf(text, sizeof text, "%.2f ms, %.1f samples a run", ns[k] * 1e-6,
                         ld_split_mean_batch(&l->split));
            sv_plot_bar(p, label, ns[k] / most, (enum sv_plot_colour)i, text);
        }
    }
}

static enum rt_status draw(const char *title, const struct ld_result *result, int n,
                           struct sv_text *out, struct rt_error *err)
{
    struct sv_plot p;
    const char *label[LD_SIDES_MAX];
    char subtitle[160];
    const struct ld_level *l = &result[0].level[0];
    for (int i = 0; i < n; i++)
        label[i] = result[i].side->label;
    snprintf(
        subtitle, sizeof subtitle,
        "convd-load: %s, %d round%s of %.3g s; filled points closed loop, hollow ones open loop",
        n > 1 ? "sides in turns" : result[0].side->label, l->n_rounds, l->n_rounds == 1 ? "" : "s",
        l->n_rounds > 0 ? l->run.seconds / l->n_rounds : 0);
    sv_plot_begin(&p, title, subtitle);
    if (n > 1)
        sv_plot_legend(&p, label, n);
    draw_curves(&p, result, n);
    draw_throughput(&p, result, n);
    draw_split(&p, result, n);
    return sv_plot_end(&p, out, err);
}

/* The page: the picture, then the tables as they are printed. */
static enum rt_status add_page(const char *title, const struct ld_result *result, int n,
                               struct sv_text *page, struct rt_error *err)
{
    char *tables = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&tables, &len);
    if (f == NULL)
        return rt_fail_nomem(err, 1);
    ld_report_tables(result, n, f);
    fclose(f);
    sv_text_add(page, "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>");
    sv_text_xml(page, title);
    sv_text_add(page, "</title>\n<body style=\"font-family:system-ui,sans-serif;margin:24px\">\n");
    enum rt_status s = draw(title, result, n, page, err);
    sv_text_add(page, "<pre>");
    sv_text_xml(page, tables != NULL ? tables : "");
    sv_text_add(page, "</pre></body></html>\n");
    free(tables);
    return s == RT_OK && page->failed ? rt_fail_nomem(err, page->len) : s;
}

enum rt_status ld_chart_write(const char *path, const char *title, const struct ld_result *result,
                              int n, struct rt_error *err)
{
    struct sv_text t = { 0 };
    enum rt_status s = sv_path_has_suffix(path, ".html") ? add_page(title, result, n, &t, err)
                                                         : draw(title, result, n, &t, err);
    if (s == RT_OK)
        s = sv_file_write(path, t.p, t.len, err);
    sv_text_reset(&t);
    return s;
}
