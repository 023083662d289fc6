/* `convd bench`: a model's speed, by batch, threads and what is done with its batch norms. */
#include "server/bench.h"
#include "server/cli.h"
#include "server/layer_times.h"
#include "server/plot.h"
#include "server/report.h"
#include "server/table.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define MAX_VALUES 16 /* of one list option */

struct settings {
    struct sv_option_list batch, threads, batchnorm, shape;
    double seconds;
    bool profile, json, exact, zero;
    size_t extra;
    const char *plot;
};

static const struct sv_option options[] = {
    { .name = "batch",
      .letter = 'b',
      .type = SV_OPTION_LIST,
      .offset = offsetof(struct settings, batch),
      .value = "N,...",
      .help = "samples a run (default: 1)" },
    { .name = "threads",
      .letter = 't',
      .type = SV_OPTION_LIST,
      .offset = offsetof(struct settings, threads),
      .value = "N,...",
      .help = "threads to run on (default: all cores)" },
    { .name = "batchnorm",
      .type = SV_OPTION_LIST,
      .offset = offsetof(struct settings, batchnorm),
      .value = "folded,separate",
      .help = "batch norms compiled into other layers, or each as its own (default: folded)" },
    { .name = "seconds",
      .letter = 's',
      .type = SV_OPTION_SECONDS,
      .offset = offsetof(struct settings, seconds),
      .value = "TIME",
      .help = "time for each combination",
      .min = 0.001,
      .max = 3600 },
    { .name = "shape",
      .type = SV_OPTION_LIST,
      .offset = offsetof(struct settings, shape),
      .value = "[NAME=]1x3x224x224",
      .help = "sizes for an input (or all) whose dimensions beside the batch are free" },
    { .name = "zero",
      .type = SV_OPTION_FLAG,
      .offset = offsetof(struct settings, zero),
      .help = "feed zeros instead of random numbers" },
    { .name = "profile",
      .letter = 'p',
      .type = SV_OPTION_FLAG,
      .offset = offsetof(struct settings, profile),
      .help = "print the time of each layer" },
    SV_CLI_EXTRA(offsetof(struct settings, extra)),
    SV_CLI_EXACT(offsetof(struct settings, exact)),
    { .name = "json",
      .type = SV_OPTION_FLAG,
      .offset = offsetof(struct settings, json),
      .help = "print one JSON object instead of tables" },
    { .name = "plot",
      .type = SV_OPTION_STRING,
      .offset = offsetof(struct settings, plot),
      .value = "FILE.svg",
      .help = "draw the results, and with --profile the layers, as a picture" },
    { 0 },
};

static const struct settings defaults = { .seconds = 2 };

const struct sv_command sv_bench_command = {
    .name = "bench",
    .usage = "MODEL",
    .summary =
        "Measures how fast a model runs. All combinations of the lists take turns, round by\n"
        "round. MODEL is a .onnx file, or a folder with a model.onnx.",
    .options = options,
    .defaults = &defaults,
    .epilogue = "Examples:\n"
                "  convd bench model.onnx --batch 1,8 --threads 1,2\n"
                "  convd bench model.onnx --batchnorm folded,separate --profile\n"
                "  convd bench model.onnx --batch 1,2,4,8 --plot speed.svg",
};

/* The words of the list, folded first, to mode[0..*n). */
static enum rt_status parse_modes(const struct sv_option_list *list, enum rt_batchnorm_mode mode[2],
                                  int *n, struct rt_error *err)
{
    bool wanted[2] = { list->n == 0, false };
    for (int i = 0; i < list->n; i++) {
        for (const char *word = list->item[i];;) {
            const size_t len = strcspn(word, ",");
            if (len == 6 && strncmp(word, "folded", len) == 0)
                wanted[0] = true;
            else if (len == 8 && strncmp(word, "separate", len) == 0)
                wanted[1] = true;
            else
                return rt_fail(err, RT_E_INVALID,
                               "--batchnorm: '%.*s' is neither 'folded' nor 'separate'", (int)len,
                               word);
            if (word[len] == '\0')
                break;
            word += len + 1;
        }
    }
    *n = 0;
    if (wanted[0])
        mode[(*n)++] = RT_BATCHNORM_FOLDED;
    if (wanted[1])
        mode[(*n)++] = RT_BATCHNORM_SEPARATE;
    return RT_OK;
}

/* All combinations; *out is the caller's, for rt_free(). */
static enum rt_status make_cases(const struct settings *set, struct sv_bench_case **out, int *n,
                                 struct rt_error *err)
{
    int batch[MAX_VALUES] = { 1 }, threads[MAX_VALUES] = { rt_cpu_budget() };
    int n_batch = 1, n_threads = 1, n_modes = 0;
    enum rt_batchnorm_mode mode[2];
    enum rt_status s = parse_modes(&set->batchnorm, mode, &n_modes, err);
    if (s == RT_OK && set->batch.n > 0)
        s = sv_cli_numbers("batch", &set->batch, 1, 4096, batch, MAX_VALUES, &n_batch, err);
    if (s == RT_OK && set->threads.n > 0)
        s = sv_cli_numbers("threads", &set->threads, 1, 1024, threads, MAX_VALUES, &n_threads, err);
    if (s != RT_OK)
        return s;
    struct sv_bench_case *c =
        rt_zalloc_array((size_t)n_batch * (size_t)n_threads * (size_t)n_modes, sizeof **out);
    if (c == NULL)
        return rt_fail_nomem(err, sizeof **out);
    *out = c;
    *n = n_batch * n_threads * n_modes;
    for (int b = 0; b < n_batch; b++)
        for (int t = 0; t < n_threads; t++)
            for (int m = 0; m < n_modes; m++, c++) {
                c->batch = batch[b];
                c->threads = threads[t];
                c->batchnorm = mode[m];
            }
    return RT_OK;
}

static double model_flops(const struct sv_bench_case *c)
{
    struct rt_model_info info;
    rt_model_info(c->model, &info);
    return info.flops * c->batch;
}

static void print_results(const char *path, const struct sv_bench_case *cases, int n)
{
    static const struct sv_column column[] = {
        { .title = "BATCH", .right = true },
        { .title = "THREADS", .right = true },
        { .title = "BATCH NORM" },
        { .title = "RUNS", .right = true },
        { .title = "MIN ms", .right = true },
        { .title = "MEDIAN ms", .right = true },
        { .title = "P99 ms", .right = true },
        { .title = "IMAGES/s", .right = true },
        { .title = "GFLOP/s", .right = true },
        { .title = "OF PEAK", .right = true },
    };
    struct rt_model_info info;
    struct sv_table t;
    char work[SV_QUANTITY_TEXT];
    rt_model_info(cases[0].model, &info);
    sv_print_clean(path, stdout);
    printf(": %s a sample, %s kernels\n", sv_quantity(info.flops, "FLOP", work), info.isa);
    sv_table_init(&t, column, 10);
    for (int i = 0; i < n; i++) {
        const struct sv_bench_case *c = &cases[i];
        sv_table_cell(&t, "%d", c->batch);
        sv_table_cell(&t, "%d", c->threads);
        sv_table_cell(&t, "%s", sv_batchnorm_mode_name(c->batchnorm));
        sv_table_cell(&t, "%d", c->n_runs);
        sv_table_cell(&t, "%.3f", c->min * 1e3);
        sv_table_cell(&t, "%.3f", c->median * 1e3);
        sv_table_cell(&t, "%.3f", c->p99 * 1e3);
        sv_table_cell(&t, "%.1f", c->batch / c->median);
        sv_table_cell(&t, "%.1f", model_flops(c) / c->median * 1e-9);
        sv_table_cell(&t, "%.0f %%", model_flops(c) / c->median / c->peak * 100);
    }
    sv_table_print(&t, stdout);
    sv_table_reset(&t);
}

/* What running every batch norm as a layer of its own costs: folded and separate of the same batch
 * and threads stand next to each other. */
static void print_study(const struct sv_bench_case *cases, int n)
{
    bool studied = false;
    for (int i = 0; i + 1 < n; i++) {
        const struct sv_bench_case *folded = &cases[i], *separate = &cases[i + 1];
        if (folded->batchnorm != RT_BATCHNORM_FOLDED ||
            separate->batchnorm != RT_BATCHNORM_SEPARATE)
            continue;
        const struct sv_bench_norms f = sv_bench_norms(folded), s = sv_bench_norms(separate);
        char a[SV_QUANTITY_TEXT], b[SV_QUANTITY_TEXT];
        printf("\n  batch %d, %d thread%s: separate batch norms cost %+.3f ms a run (%+.1f %%)\n",
               folded->batch, folded->threads, folded->threads == 1 ? "" : "s",
               (separate->median - folded->median) * 1e3,
               (separate->median / folded->median - 1) * 100);
        printf("    folded    %3d layers, of which %3d batch norms: %.3f ms, %.1f %%, %s written\n",
               rt_model_n_layers(folded->model), f.n, f.seconds * 1e3, f.share * 100,
               sv_quantity(f.bytes, "B", a));
        printf("    separate  %3d layers, of which %3d batch norms: %.3f ms, %.1f %%, %s written\n",
               rt_model_n_layers(separate->model), s.n, s.seconds * 1e3, s.share * 100,
               sv_quantity(s.bytes, "B", b));
        studied = true;
    }
    if (studied)
        puts(
            "  A norm of its own also keeps what follows it out of the convolution: activations\n"
            "  and additions become layers, too, and each of them reads and writes tensors again.");
}

static void print_profile(const struct sv_bench_case *c)
{
    static const struct sv_column column[] = {
        { .title = "#", .right = true },
        { .title = "NAME", .shrink = true },
        { .title = "OPERATOR" },
        { .title = "FUSED", .shrink = true },
        { .title = "ALGORITHM" },
        { .title = "ms", .right = true },
        { .title = "SHARE", .right = true },
        { .title = "WEIGHTS", .right = true },
        { .title = "OUTPUT", .right = true },
        { .title = "GFLOP/s", .right = true },
    };
    struct sv_table t;
    const double total = sv_layer_times_sum(c->model, c->layer_seconds);
    printf("\n%sLayers: batch %d, threads %d, batch norm %s%s\n", sv_style(stdout, SV_BOLD),
           c->batch, c->threads, sv_batchnorm_mode_name(c->batchnorm), sv_style(stdout, SV_PLAIN));
    char bytes[SV_QUANTITY_TEXT];
    sv_table_init(&t, column, 10);
    for (int i = 0; i < rt_model_n_layers(c->model); i++) {
        const struct rt_layer *l = rt_model_layer(c->model, i);
        const double seconds = c->layer_seconds[i];
        sv_table_cell(&t, "%d", i);
        sv_table_cell(&t, "%s", l->name);
        sv_table_cell(&t, "%s", l->op);
        sv_table_cell(&t, "%s", l->fused);
        sv_table_cell(&t, "%s", l->algorithm);
        sv_table_cell(&t, "%.3f", seconds * 1e3);
        sv_table_cell(&t, "%.1f %%", total > 0 ? seconds / total * 100 : 0);
        sv_table_cell(&t, "%s",
                      l->weight_bytes == 0 ? "" : sv_quantity((double)l->weight_bytes, "B", bytes));
        sv_table_cell(&t, "%s",
                      sv_quantity((double)sv_report_output_bytes(l) * c->batch, "B", bytes));
        if (seconds > 0 && l->flops > 0)
            sv_table_cell(&t, "%.1f", l->flops * c->batch / seconds * 1e-9);
        else
            sv_table_cell(&t, "%s", "");
    }
    sv_table_print(&t, stdout);
    printf("  all layers: %.3f ms\n", total * 1e3);
    sv_table_reset(&t);
}

static void print_json(const char *path, const struct settings *set,
                       const struct sv_bench_case *cases, int n)
{
    struct sv_json j;
    struct rt_model_info info;
    rt_model_info(cases[0].model, &info);
    sv_json_init(&j, stdout);
    sv_json_object(&j, NULL);
    sv_json_string(&j, "model", path);
    sv_json_string(&j, "isa", info.isa);
    sv_json_double(&j, "flops", info.flops);
    sv_json_bool(&j, "exact", set->exact);
    sv_json_string(&j, "input", set->zero ? "zero" : "random");
    sv_json_array(&j, "results");
    for (int i = 0; i < n; i++) {
        const struct sv_bench_case *c = &cases[i];
        sv_json_object(&j, NULL);
        sv_json_int(&j, "batch", c->batch);
        sv_json_int(&j, "threads", c->threads);
        sv_json_string(&j, "batchnorm", sv_batchnorm_mode_name(c->batchnorm));
        sv_json_double(&j, "load_seconds", c->load);
        sv_json_double(&j, "first_run_seconds", c->first_run);
        sv_json_int(&j, "resident_bytes_before", (int64_t)c->resident_before);
        sv_json_int(&j, "resident_bytes_loaded", (int64_t)c->resident_loaded);
        sv_json_int(&j, "resident_bytes_run", (int64_t)c->resident_run);
        sv_json_int(&j, "resident_bytes_peak", (int64_t)c->resident_peak);
        sv_json_int(&j, "runs", c->n_runs);
        sv_json_double(&j, "min_seconds", c->min);
        sv_json_double(&j, "median_seconds", c->median);
        sv_json_double(&j, "p99_seconds", c->p99);
        sv_json_double(&j, "images_per_second", c->batch / c->median);
        sv_json_double(&j, "gflops", model_flops(c) / c->median * 1e-9);
        sv_json_double(&j, "peak_gflops", c->peak * 1e-9);
        rt_model_info(c->model, &info);
        sv_json_int(&j, "weight_bytes", (int64_t)info.weight_bytes);
        sv_json_int(&j, "activation_bytes", (int64_t)info.activation_bytes);
        if (c->layer_seconds != NULL) {
            const struct sv_bench_norms norms = sv_bench_norms(c);
            sv_json_row(&j, "batchnorms");
            sv_json_int(&j, "layers", norms.n);
            sv_json_double(&j, "seconds", norms.seconds);
            sv_json_double(&j, "share", norms.share);
            sv_json_double(&j, "written_bytes", norms.bytes);
            sv_json_end(&j);
        }
        if (set->profile)
            sv_report_layer_times(&j, c->model, c->batch, c->layer_seconds);
        sv_json_end(&j);
    }
    sv_json_end(&j);
    sv_json_end(&j);
}

int sv_bench_main(int argc, char **argv)
{
    struct settings set = defaults;
    struct sv_arguments rest;
    struct rt_error err = { 0 };
    struct sv_bench_case *cases = NULL;
    int status, n = 0;
    if (!sv_cli_begin(&sv_bench_command, argc, argv, &set, &rest, &status))
        return status;
    if (rest.n != 1)
        return sv_cli_usage(&sv_bench_command,
                            rest.n == 0 ? "a model is missing" : "more than one model");
    if (set.plot != NULL && sv_plot_check(set.plot, &err) != RT_OK)
        return sv_cli_usage(&sv_bench_command, "%s", err.text);
    if (make_cases(&set, &cases, &n, &err) != RT_OK)
        return sv_cli_usage(&sv_bench_command, "%s", err.text);

    const struct sv_bench_options o = {
        .path = rest.item[0],
        .seconds = set.seconds,
        .exact = set.exact,
        .extra_weights = set.extra,
        .zero = set.zero,
        .profile = set.profile || set.batchnorm.n > 0,
        .progress = true,
        .shapes = &set.shape,
    };
    enum rt_status s = sv_bench_run(&o, cases, n, &err);
    if (s == RT_OK && set.json) {
        print_json(rest.item[0], &set, cases, n);
    } else if (s == RT_OK) {
        print_results(rest.item[0], cases, n);
        for (int i = 0; i < n && set.profile; i++)
            print_profile(&cases[i]);
        print_study(cases, n);
    }
    if (s == RT_OK && set.plot != NULL)
        s = sv_bench_plot(set.plot, rest.item[0], cases, n, set.profile, &err);
    sv_bench_reset(cases, n);
    rt_free(cases);
    return s == RT_OK ? 0 : sv_cli_fail(&sv_bench_command, &err);
}
