/* What was measured as a picture, and what of it the batch norms took. */
#include "server/bench.h"

#include "server/layer_times.h"
#include "server/plot.h"
#include "server/report.h"

#include <stdio.h>
#include <string.h>

const char *sv_batchnorm_mode_name(enum rt_batchnorm_mode mode)
{
    return mode == RT_BATCHNORM_FOLDED ? "folded" : "separate";
}

struct sv_bench_norms sv_bench_norms(const struct sv_bench_case *c)
{
    struct sv_bench_norms sum = { 0 };
    const double total = sv_layer_times_sum(c->model, c->layer_seconds);
    for (int i = 0; i < rt_model_n_layers(c->model); i++) {
        const struct rt_layer *l = rt_model_layer(c->model, i);
        /* One whose statistics are constant runs as a ChannelAffine. */
        if (strcmp(l->op, "BatchNormalization") != 0 && strcmp(l->op, "ChannelAffine") != 0)
            continue;
        sum.n++;
        sum.seconds += c->layer_seconds[i];
        sum.bytes += (double)sv_report_output_bytes(l) * c->batch;
    }
    sum.share = total > 0 ? sum.seconds / total : 0;
    return sum;
}

static enum sv_plot_colour colour_of(const struct sv_bench_case *c)
{
    return c->batchnorm == RT_BATCHNORM_FOLDED ? SV_PLOT_BLUE : SV_PLOT_ORANGE;
}

static void plot_speed(struct sv_plot *p, const struct sv_bench_case *cases, int n)
{
    double best = 0;
    for (int i = 0; i < n; i++)
        best = cases[i].batch / cases[i].median > best ? cases[i].batch / cases[i].median : best;
    sv_plot_heading(p, "Images a second");
    for (int i = 0; i < n; i++) {
        const struct sv_bench_case *c = &cases[i];
        char label[64], text[96];
        snprintf(label, sizeof label, "batch %d, %d thread%s", c->batch, c->threads,
                 c->threads == 1 ? "" : "s");
        snprintf(text, sizeof text, "%.1f (%.3f ms a run)", c->batch / c->median, c->median * 1e3);
        sv_plot_bar(p, label, c->batch / c->median / best, colour_of(c), text);
    }
}

static void plot_layers(struct sv_plot *p, const struct sv_bench_case *c)
{
    char text[128];
    double most = 0;
    const double total = sv_layer_times_sum(c->model, c->layer_seconds);
    for (int i = 0; i < rt_model_n_layers(c->model); i++)
        most = c->layer_seconds[i] > most ? c->layer_seconds[i] : most;
    snprintf(text, sizeof text, "Layers: batch %d, %d thread%s, batch norms %s", c->batch,
             c->threads, c->threads == 1 ? "" : "s", sv_batchnorm_mode_name(c->batchnorm));
    sv_plot_heading(p, text);
    for (int i = 0; i < rt_model_n_layers(c->model); i++) {
        const double seconds = c->layer_seconds[i];
        snprintf(text, sizeof text, "%.3f ms, %.1f %%", seconds * 1e3,
                 total > 0 ? seconds / total * 100 : 0);
        sv_plot_bar(p, rt_model_layer(c->model, i)->name, most > 0 ? seconds / most : 0,
                    colour_of(c), text);
    }
}

enum rt_status sv_bench_plot(const char *file, const char *model, const struct sv_bench_case *cases,
                             int n, bool profile, struct rt_error *err)
{
    static const char *const mode[] = { "batch norms folded", "batch norms separate" };
    struct sv_plot p;
    struct rt_model_info info;
    char subtitle[128];
    rt_model_info(cases[0].model, &info);
    snprintf(subtitle, sizeof subtitle, "convd, %s kernels, medians", info.isa);
    sv_plot_begin(&p, model, subtitle);
    sv_plot_legend(&p, mode, 2);
    plot_speed(&p, cases, n);
    for (int i = 0; i < n && profile; i++)
        plot_layers(&p, &cases[i]);
    return sv_plot_write(&p, file, err);
}
