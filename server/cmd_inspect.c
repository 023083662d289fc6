/* `convd inspect`: what a model became: layers, batch norms, memory. */
#include "server/balance.h"
#include "server/cli.h"
#include "server/file.h"
#include "server/plot.h"
#include "server/report.h"
#include "server/table.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct settings {
    bool json, exact;
    size_t memory, extra;
    int max_batch, batchnorm, batch;
    struct sv_option_list threads;
    const char *plot;
};

static const struct sv_option options[] = {
    { .name = "json",
      .type = SV_OPTION_FLAG,
      .offset = offsetof(struct settings, json),
      .help = "print one JSON object instead of tables" },
    { .name = "max-batch",
      .type = SV_OPTION_INT,
      .offset = offsetof(struct settings, max_batch),
      .value = "N",
      .help = "samples that memory is planned for",
      .min = 1,
      .max = 4096 },
    SV_CLI_MEMORY(offsetof(struct settings, memory)),
    { .name = "batchnorm",
      .type = SV_OPTION_CHOICE,
      .offset = offsetof(struct settings, batchnorm),
      .help = "compile batch norms into other layers or each as its own",
      .choices = "folded|separate" },
    SV_CLI_EXTRA(offsetof(struct settings, extra)),
    SV_CLI_EXACT(offsetof(struct settings, exact)),
    { .name = "threads",
      .letter = 't',
      .type = SV_OPTION_LIST,
      .offset = offsetof(struct settings, threads),
      .value = "N,...",
      .help = "show how evenly so many threads would share the work, up to 64" },
    { .name = "batch",
      .letter = 'b',
      .type = SV_OPTION_INT,
      .offset = offsetof(struct settings, batch),
      .value = "N",
      .help = "samples of the run that --threads looks at",
      .min = 1,
      .max = 4096 },
    { .name = "plot",
      .type = SV_OPTION_STRING,
      .offset = offsetof(struct settings, plot),
      .value = "FILE.svg",
      .help = "draw the layers' work and memory, and the statistics of batch norms, as a picture" },
    { 0 },
};

static const struct settings defaults = { .max_batch = 8, .batch = 1 };

const struct sv_command sv_inspect_command = {
    .name = "inspect",
    .usage = "MODEL",
    .summary = "Shows what a model was compiled to: its layers and what was fused into each, what\n"
               "became of every batch norm, memory and work. MODEL is a .onnx file, or a folder\n"
               "with a model.onnx.",
    .options = options,
    .defaults = &defaults,
    .epilogue = "Examples:\n"
                "  convd inspect model.onnx\n"
                "  convd inspect model.onnx --plot model.svg\n"
                "  convd inspect model.onnx --threads 4,16 --batch 16\n"
                "  convd inspect model.onnx --json | jq '.batchnorms[].fate'",
};

static void heading(const char *text)
{
    printf("\n%s%s%s\n", sv_style(stdout, SV_BOLD), text, sv_style(stdout, SV_PLAIN));
}

/* As rt_shape_text(), but with N for the batch and ? for other free dimensions. */
static const char *shape_text(const struct rt_shape *shape, bool batched, char buf[RT_SHAPE_TEXT])
{
    char all[RT_SHAPE_TEXT], *to = buf;
    rt_shape_text(shape, all);
    for (const char *from = all; *from != '\0'; from++) {
        if (strncmp(from, "-1", 2) == 0) {
            *to++ = batched && from == all + 1 ? 'N' : '?';
            from++;
        } else {
            *to++ = *from;
        }
    }
    *to = '\0';
    return buf;
}

static void print_summary(const char *file, const struct rt_model *m)
{
    struct rt_model_info i;
    char a[SV_QUANTITY_TEXT], b[SV_QUANTITY_TEXT];
    rt_model_info(m, &i);
    printf("%s", sv_style(stdout, SV_BOLD));
    sv_print_clean(file, stdout);
    printf("%s\n  producer    ", sv_style(stdout, SV_PLAIN));
    sv_print_clean(i.producer[0] != '\0' ? i.producer : "not said", stdout);
    printf(" (opset %d, IR version %d)\n", i.opset, i.ir_version);
    printf("  nodes       %d, of which %d layers are left\n", i.n_nodes, rt_model_n_layers(m));
    printf("  parameters  %s\n", sv_quantity((double)i.n_parameters, "", a));
    printf("  work        %s a sample\n", sv_quantity(i.flops, "FLOP", a));
    if (rt_model_max_batch(m) > 0)
        printf("  batch       1 to %d samples a run\n", rt_model_max_batch(m));
    else
        printf("  batch       fixed%s%s\n", i.batch_note != NULL ? ": " : "",
               i.batch_note != NULL ? i.batch_note : "");
    if (i.dynamic)
        puts("  sizes       free beside the batch: planned anew for each");
    printf("  kernels     %s\n", i.isa);
    if (i.tuning_note != NULL)
        printf("  tuning      its .tune file is not used: %s\n", i.tuning_note);
    else if (i.tuned > 0)
        printf("  tuning      %d layers as its .tune file says\n", i.tuned);
    heading("Memory");
    printf("  weights      %s, as packed\n", sv_quantity((double)i.weight_bytes, "B", a));
    printf("  activations  %s for one sample, %s for %d\n",
           sv_quantity((double)i.activation_bytes_one, "B", a),
           sv_quantity((double)i.activation_bytes, "B", b),
           rt_model_max_batch(m) > 0 ? rt_model_max_batch(m) : 1);
    if (i.activation_bytes > 0 && i.unplanned_bytes > i.activation_bytes)
        printf("  sharing      %s without it, %.1f times as much\n",
               sv_quantity((double)i.unplanned_bytes, "B", a),
               (double)i.unplanned_bytes / (double)i.activation_bytes);
}

static void print_ios(const struct rt_model *m)
{
    static const struct sv_column column[] = { { .title = "" },
                                               { .title = "NAME", .shrink = true },
                                               { .title = "TYPE" },
                                               { .title = "SHAPE" } };
    struct sv_table t;
    char shape[RT_SHAPE_TEXT];
    const bool batched = rt_model_max_batch(m) > 0;
    sv_table_init(&t, column, 4);
    for (int k = 0; k < rt_model_n_inputs(m) + rt_model_n_outputs(m); k++) {
        const bool input = k < rt_model_n_inputs(m);
        const struct rt_io *io =
            input ? rt_model_input(m, k) : rt_model_output(m, k - rt_model_n_inputs(m));
        sv_table_cell(&t, "%s", input ? "in" : "out");
        sv_table_cell(&t, "%s", io->name);
        sv_table_cell(&t, "%s", rt_dtype_name(io->dtype));
        sv_table_cell(&t, "%s", shape_text(&io->shape, batched, shape));
    }
    heading("Inputs and outputs");
    sv_table_print(&t, stdout);
    sv_table_reset(&t);
}

/* With what the last of the balances says of each. */
static void print_layers(const struct rt_model *m, const struct sv_balances *all)
{
    const struct sv_balance *last = all->n > 0 ? &all->balance[all->n - 1] : NULL;
    static const struct sv_column column[] = {
        { .title = "#", .right = true },
        { .title = "NAME", .shrink = true },
        { .title = "OPERATOR" },
        { .title = "FUSED", .shrink = true },
        { .title = "ALGORITHM", .shrink = true },
        { .title = "TYPE" },
        { .title = "SHAPE" },
        { .title = "MFLOP", .right = true },
        { .title = "WEIGHTS", .right = true },
        { .title = "LARGEST SHARE", .right = true },
    };
    struct sv_table t;
    char text[RT_SHAPE_TEXT];
    const bool batched = rt_model_max_batch(m) > 0;
    bool all_float = true;
    for (int i = 0; i < rt_model_n_layers(m); i++)
        all_float &= rt_model_layer(m, i)->dtype == RT_FLOAT;
    sv_table_init(&t, column, last != NULL ? 10 : 9);
    for (int i = 0; i < rt_model_n_layers(m); i++) {
        const struct rt_layer *l = rt_model_layer(m, i);
        sv_table_cell(&t, "%d", i);
        sv_table_cell(&t, "%s", l->name);
        sv_table_cell(&t, "%s", l->op);
        sv_table_cell(&t, "%s", l->fused);
        sv_table_cell(&t, "%s", l->algorithm);
        sv_table_cell(&t, "%s", all_float ? "" : rt_dtype_name(l->dtype));
        sv_table_cell(&t, "%s", shape_text(&l->shape, batched, text));
        sv_table_cell(&t, "%.2f", l->flops * 1e-6);
        if (l->weight_bytes > 0)
            sv_table_cell(&t, "%s", sv_quantity((double)l->weight_bytes, "B", text));
        else
            sv_table_cell(&t, "%s", "");
        if (last != NULL && last->largest[i] > 0)
            sv_table_cell(&t, "%.1f %%", last->largest[i] * 100);
        else if (last != NULL)
            sv_table_cell(&t, "%s", "");
    }
    heading("Layers");
    if (rt_model_n_layers(m) == 0)
        puts("  known once a run has shown the sizes of the inputs");
    else
        sv_table_print(&t, stdout);
    sv_table_reset(&t);
}

/* "ok", or what is wrong with how many channels. */
static void health_text(const struct rt_batchnorm *b, char *buf, size_t size)
{
    const struct {
        int64_t n;
        const char *what;
    } findings[] = {
        { b->non_finite, "non-finite" },       { b->negative_var, "negative variance" },
        { b->tiny_var, "variance < epsilon" }, { b->dead, "dead" },
        { b->exploding, "exploding" },
    };
    size_t at = 0;
    snprintf(buf, size, "ok");
    for (size_t i = 0; i < sizeof findings / sizeof findings[0]; i++)
        if (findings[i].n > 0 && at < size)
            at += (size_t)snprintf(buf + at, size - at, "%s%lld %s", at > 0 ? ", " : "",
                                   (long long)findings[i].n, findings[i].what);
}

static void print_batchnorms(const struct rt_model *m)
{
    static const struct sv_column column[] = {
        { .title = "NAME", .shrink = true },
        { .title = "CHANNELS", .right = true },
        { .title = "PLACEMENT", .shrink = true },
        { .title = "FATE" },
        { .title = "INTO, OR WHY NOT", .shrink = true },
        { .title = "VARIANCE" },
        { .title = "HEALTH", .shrink = true },
    };
    struct sv_table t;
    int count[RT_BN_UNUSED + 1] = { 0 };
    sv_table_init(&t, column, 7);
    for (int i = 0; i < rt_model_n_batchnorms(m); i++) {
        const struct rt_batchnorm *b = rt_model_batchnorm(m, i);
        char health[160];
        health_text(b, health, sizeof health);
        count[b->fate]++;
        sv_table_cell(&t, "%s", b->name);
        sv_table_cell(&t, "%lld", (long long)b->channels);
        sv_table_cell(&t, "%s", b->placement);
        sv_table_cell(&t, "%s", rt_batchnorm_fate_name(b->fate));
        sv_table_cell(&t, "%s", b->into != NULL ? b->into : b->why != NULL ? b->why : "");
        sv_table_cell(&t, "%.2g .. %.2g", (double)b->min_var, (double)b->max_var);
        sv_table_cell(&t, "%s", health);
    }
    heading("Batch norms");
    if (rt_model_n_batchnorms(m) == 0) {
        puts("  none");
    } else {
        printf("  %d", rt_model_n_batchnorms(m));
        const char *separator = ": ";
        for (int fate = 0; fate <= RT_BN_UNUSED; fate++) {
            if (count[fate] == 0)
                continue;
            printf("%s%d %s", separator, count[fate],
                   rt_batchnorm_fate_name((enum rt_batchnorm_fate)fate));
            separator = ", ";
        }
        puts("");
        sv_table_print(&t, stdout);
    }
    sv_table_reset(&t);
}

static void plot_layers(struct sv_plot *p, const struct rt_model *m)
{
    double flops = 1, weights = 1;
    char text[SV_QUANTITY_TEXT];
    for (int i = 0; i < rt_model_n_layers(m); i++) {
        const struct rt_layer *l = rt_model_layer(m, i);
        flops = l->flops > flops ? l->flops : flops;
        weights = (double)l->weight_bytes > weights ? (double)l->weight_bytes : weights;
    }
    sv_plot_heading(p, "Work of each layer, a sample");
    for (int i = 0; i < rt_model_n_layers(m); i++) {
        const struct rt_layer *l = rt_model_layer(m, i);
        sv_plot_bar(p, l->name, l->flops / flops, SV_PLOT_BLUE,
                    sv_quantity(l->flops, "FLOP", text));
    }
    sv_plot_heading(p, "Weights of each layer, as packed");
    for (int i = 0; i < rt_model_n_layers(m); i++) {
        const struct rt_layer *l = rt_model_layer(m, i);
        if (l->weight_bytes > 0)
            sv_plot_bar(p, l->name, (double)l->weight_bytes / weights, SV_PLOT_GREEN,
                        sv_quantity((double)l->weight_bytes, "B", text));
    }
}

static void print_balances(const struct rt_model *m, const struct sv_balances *all)
{
    static const struct sv_column column[] = { { .title = "THREADS", .right = true },
                                               { .title = "BOUND", .right = true },
                                               { .title = "BARRIERS", .right = true },
                                               { .title = "WORST LAYER", .shrink = true },
                                               { .title = "LARGEST SHARE", .right = true },
                                               { .title = "OF", .right = true } };
    struct sv_table t;
    sv_table_init(&t, column, 6);
    for (int i = 0; i < all->n; i++) {
        const struct sv_balance *b = &all->balance[i];
        const int worst = sv_balance_worst(m, b);
        sv_table_cell(&t, "%d", b->threads);
        sv_table_cell(&t, "%.1f %%", b->whole.bound * 100);
        sv_table_cell(&t, "%d", b->whole.barriers);
        sv_table_cell(&t, "%s", worst >= 0 ? rt_model_layer(m, worst)->name : "");
        sv_table_cell(&t, "%.1f %%", worst >= 0 ? b->largest[worst] * 100 : 0);
        sv_table_cell(&t, "%.1f %%", 100.0 / b->threads);
    }
    printf("\n%sLoad balance, batch %d%s\n", sv_style(stdout, SV_BOLD), all->batch,
           sv_style(stdout, SV_PLAIN));
    sv_table_print(&t, stdout);
    sv_table_reset(&t);
}

static enum rt_status plot(const char *path, const char *file, const struct rt_model *m,
                           struct rt_error *err)
{
    static const char *const statistic[] = { "running mean", "running variance", "folded scale" };
    struct rt_model_info i;
    struct sv_plot p;
    char subtitle[128], work[SV_QUANTITY_TEXT], parameters[SV_QUANTITY_TEXT];
    rt_model_info(m, &i);
    snprintf(subtitle, sizeof subtitle, "%s a sample, %s parameters, %d layers, %s kernels",
             sv_quantity(i.flops, "FLOP", work),
             sv_quantity((double)i.n_parameters, "", parameters), rt_model_n_layers(m), i.isa);
    sv_plot_begin(&p, file, subtitle);
    plot_layers(&p, m);
    if (rt_model_n_batchnorms(m) > 0) {
        sv_plot_heading(&p, "Batch norms: how their channels spread");
        sv_plot_legend(&p, statistic, 3);
    }
    for (int k = 0; k < rt_model_n_batchnorms(m); k++) {
        const struct rt_batchnorm *b = rt_model_batchnorm(m, k);
        const struct rt_histogram *const h[] = { &b->mean, &b->var, &b->gain };
        sv_plot_histograms(&p, b->name, h, 3);
    }
    return sv_plot_write(&p, path, err);
}

int sv_inspect_main(int argc, char **argv)
{
    struct settings set = defaults;
    struct sv_arguments rest;
    struct rt_error err = { 0 };
    struct rt_model *m = NULL;
    int status;
    if (!sv_cli_begin(&sv_inspect_command, argc, argv, &set, &rest, &status))
        return status;
    if (rest.n != 1)
        return sv_cli_usage(&sv_inspect_command,
                            rest.n == 0 ? "a model is missing" : "more than one model");
    if (set.plot != NULL && sv_plot_check(set.plot, &err) != RT_OK)
        return sv_cli_usage(&sv_inspect_command, "%s", err.text);

    int threads[SV_MOST_BALANCES], n_threads = 0;
    if (set.threads.n > 0 &&
        sv_cli_numbers("threads", &set.threads, 1, 64, threads, SV_MOST_BALANCES, &n_threads,
                       &err) != RT_OK)
        return sv_cli_usage(&sv_inspect_command, "%s", err.text);

    struct sv_balances all = { .batch = set.batch };
    struct rt_options o = {
        .max_batch = n_threads > 0 && set.batch > set.max_batch ? set.batch : set.max_batch,
        .memory_limit = set.memory,
        .exact = set.exact,
        .extra_weights = set.extra,
        .allow_batch_statistics = true,
        .batchnorm = set.batchnorm == 0 ? RT_BATCHNORM_FOLDED : RT_BATCHNORM_SEPARATE,
    };
    for (int i = 0; i < n_threads; i++)
        o.threads = threads[i] > o.threads ? threads[i] : o.threads;
    char *file = NULL;
    enum rt_status s = sv_cli_model_path(rest.item[0], &file, &err);
    if (s == RT_OK)
        s = sv_cli_load(file, &o, &m, &err);
    if (s == RT_OK)
        s = sv_balances_take(m, threads, n_threads, &all, &err);
    if (s == RT_OK && set.json) {
        struct sv_json j;
        sv_json_init(&j, stdout);
        sv_report_json(&j, file, m, NULL, &all);
    } else if (s == RT_OK) {
        print_summary(file, m);
        print_ios(m);
        print_layers(m, &all);
        if (all.n > 0)
            print_balances(m, &all);
        print_batchnorms(m);
    }
    if (s == RT_OK && set.plot != NULL)
        s = plot(set.plot, file, m, &err);
    sv_balances_reset(&all);
    rt_model_release(m);
    rt_free(file);
    return s == RT_OK ? 0 : sv_cli_fail(&sv_inspect_command, &err);
}
