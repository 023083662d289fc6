/* `convd tune`: measures the ways in which layers can be computed, and writes down the fastest. */
#include "server/bench.h"
#include "server/cli.h"
#include "server/file.h"
#include "server/table.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* Each way is measured this often, in turns. */
#define ROUNDS 3
#define MOST_WAYS 4
/* A way has to be so much faster than the guess to take its place: less is noise. */
#define WORTH 0.97

struct settings {
    int batch, threads;
    double seconds;
};

static const struct sv_option options[] = {
    { .name = "batch",
      .letter = 'b',
      .type = SV_OPTION_INT,
      .offset = offsetof(struct settings, batch),
      .value = "N",
      .help = "samples of the runs that are measured",
      .min = 1,
      .max = 4096 },
    SV_CLI_THREADS(offsetof(struct settings, threads)),
    { .name = "seconds",
      .letter = 's',
      .type = SV_OPTION_SECONDS,
      .offset = offsetof(struct settings, seconds),
      .value = "TIME",
      .help = "how long each measurement takes",
      .min = 0.001,
      .max = 3600 },
    { 0 },
};

static const struct settings defaults = { .batch = 1, .seconds = 0.5 };

const struct sv_command sv_tune_command = {
    .name = "tune",
    .usage = "MODEL",
    .summary =
        "Measures the algorithms that each layer of a model can be computed by, and writes the\n"
        "fastest to MODEL.tune, which all commands read from then on. Without such a file\n"
        "algorithms are chosen by what they should cost. The file counts for this model and for\n"
        "processors with the same kernels; results are the same bits on every start.",
    .options = options,
    .defaults = &defaults,
    .epilogue = "Examples:\n"
                "  convd tune model.onnx\n"
                "  convd tune model.onnx --batch 8 --threads 2",
};

/* What is measured of a model: the guess first, then each way for all layers that have it. */
struct tuning {
    const struct settings *set;
    const char *file;
    struct rt_model *model; /* by guess, for what its layers are */
    double *seconds;        /* [MOST_WAYS][layers], the least of all rounds */
    int *best;              /* [layers]: the way to take */
};

/* A layer whose name would not stay on its line keeps its guess. */
static bool has_ways(const struct rt_layer *l)
{
    return l->n_choices > 1 && strchr(l->name, '\n') == NULL;
}

/* The file's text with way[i] for layer i, or with way `all` where ways is NULL; for rt_free(). */
static char *write_text(const struct rt_model *m, const int *ways, int all)
{
    struct rt_model_info info;
    rt_model_info(m, &info);
    size_t room = 128, at;
    for (int i = 0; i < rt_model_n_layers(m); i++)
        room += strlen(rt_model_layer(m, i)->name) + 64;
    char *text = rt_alloc(room);
    if (text == NULL)
        return NULL;
    at = (size_t)snprintf(text, room, "convd tuning 1\nisa %s\nmodel %016" PRIx64 "\n", info.isa,
                          info.signature);
    for (int i = 0; i < rt_model_n_layers(m); i++) {
        const struct rt_layer *l = rt_model_layer(m, i);
        if (!has_ways(l))
            continue;
        const int way = ways != NULL ? ways[i] : all < l->n_choices ? all : l->n_choices - 1;
        at += (size_t)snprintf(text + at, room - at, "%s %s\n", l->choice[way], l->name);
    }
    return text;
}

/* Runs the model by these choices (NULL: by guess). layers, if not NULL, get what each took where
 * that is less than what is there; *median what the whole took. */
static enum rt_status measure(const struct tuning *t, const char *text, double *layers,
                              double *median, struct rt_error *err)
{
    static const struct sv_option_list no_shapes;
    struct sv_bench_case c = {
        .batch = rt_model_max_batch(t->model) > 0 ? t->set->batch : 1,
        .threads = t->set->threads > 0 ? t->set->threads : rt_cpu_budget(),
    };
    const struct sv_bench_options o = {
        .path = t->file,
        .seconds = t->set->seconds,
        .untuned = true,
        .tuning = text,
        .profile = layers != NULL,
        .shapes = &no_shapes,
    };
    enum rt_status s = sv_bench_run(&o, &c, 1, err);
    for (int i = 0; s == RT_OK && layers != NULL && i < rt_model_n_layers(t->model); i++)
        if (layers[i] == 0 || c.layer_seconds[i] < layers[i])
            layers[i] = c.layer_seconds[i];
    *median = c.median;
    sv_bench_reset(&c, 1);
    return s;
}

static enum rt_status measure_ways(const struct tuning *t, int n_ways, struct rt_error *err)
{
    const int n = rt_model_n_layers(t->model);
    enum rt_status s = RT_OK;
    double median;
    for (int round = 0; s == RT_OK && round < ROUNDS; round++)
        for (int way = 0; s == RT_OK && way < n_ways; way++) {
            char *text = write_text(t->model, NULL, way);
            s = text != NULL ? measure(t, text, t->seconds + way * n, &median, err)
                             : rt_fail_nomem(err, 128);
            rt_free(text);
        }
    return s;
}

/* Each layer's fastest way, and a line for each that is not its guess. Returns how many. */
static int pick(const struct tuning *t)
{
    static const struct sv_column column[] = { { .title = "NAME", .shrink = true },
                                               { .title = "GUESS" },
                                               { .title = "ms", .right = true },
                                               { .title = "MEASURED" },
                                               { .title = "ms", .right = true } };
    const int n = rt_model_n_layers(t->model);
    struct sv_table table;
    int changed = 0;
    sv_table_init(&table, column, 5);
    for (int i = 0; i < n; i++) {
        const struct rt_layer *l = rt_model_layer(t->model, i);
        const int guess = l->chosen;
        int best = guess;
        for (int way = 0; has_ways(l) && way < l->n_choices; way++) {
            const double limit = best == guess ? WORTH : 1;
            if (t->seconds[way * n + i] < limit * t->seconds[best * n + i])
                best = way;
        }
        t->best[i] = best;
        if (best == guess)
            continue;
        changed++;
        sv_table_cell(&table, "%s", l->name);
        sv_table_cell(&table, "%s", l->choice[guess]);
        sv_table_cell(&table, "%.3f", t->seconds[guess * n + i] * 1e3);
        sv_table_cell(&table, "%s", l->choice[best]);
        sv_table_cell(&table, "%.3f", t->seconds[best * n + i] * 1e3);
    }
    if (changed > 0)
        sv_table_print(&table, stdout);
    sv_table_reset(&table);
    return changed;
}

/* The whole by guess and by what was measured, in turns: is it worth a file? */
static enum rt_status compare(const struct tuning *t, const char *text, double *guess,
                              double *tuned, struct rt_error *err)
{
    enum rt_status s = RT_OK;
    *guess = *tuned = 0;
    for (int round = 0; s == RT_OK && round < ROUNDS; round++) {
        double g, m;
        s = measure(t, NULL, NULL, &g, err);
        if (s == RT_OK)
            s = measure(t, text, NULL, &m, err);
        if (s != RT_OK)
            return s;
        *guess = round == 0 || g < *guess ? g : *guess;
        *tuned = round == 0 || m < *tuned ? m : *tuned;
    }
    return s;
}

/* Writes the file, or says why there is none to write. */
static enum rt_status finish(const struct tuning *t, struct rt_error *err)
{
    double guess, tuned;
    const int changed = pick(t);
    if (changed == 0) {
        puts("  every layer's guess is its fastest way: no file is needed");
        return RT_OK;
    }
    char *text = write_text(t->model, t->best, 0);
    if (text == NULL)
        return rt_fail_nomem(err, 128);
    enum rt_status s = compare(t, text, &guess, &tuned, err);
    if (s == RT_OK)
        printf("  the whole: %.3f ms by guess, %.3f ms as measured\n", guess * 1e3, tuned * 1e3);
    char path[4096];
    if (s == RT_OK && tuned >= guess) {
        puts("  no file is written: all together these are no faster than the guesses");
    } else if (s == RT_OK) {
        if (snprintf(path, sizeof path, "%s.tune", t->file) >= (int)sizeof path)
            s = rt_fail(err, RT_E_INVALID, "%s: the path is too long", t->file);
        else
            s = sv_file_write(path, text, strlen(text), err);
        if (s == RT_OK)
            printf("  %s: written\n", path);
    }
    rt_free(text);
    return s;
}

static enum rt_status tune(struct tuning *t, struct rt_error *err)
{
    int n_ways = 0;
    const int n = rt_model_n_layers(t->model);
    for (int i = 0; i < n; i++)
        if (has_ways(rt_model_layer(t->model, i)) &&
            rt_model_layer(t->model, i)->n_choices > n_ways)
            n_ways = rt_model_layer(t->model, i)->n_choices;
    if (n_ways == 0) {
        puts("  no layer of the model has a choice: there is nothing to measure");
        return RT_OK;
    }
    t->seconds = rt_zalloc_array((size_t)(MOST_WAYS * n), sizeof *t->seconds);
    t->best = rt_zalloc_array((size_t)n, sizeof *t->best);
    enum rt_status s = t->seconds != NULL && t->best != NULL
                           ? measure_ways(t, n_ways, err)
                           : rt_fail_nomem(err, (size_t)(MOST_WAYS * n) * sizeof *t->seconds);
    if (s == RT_OK)
        s = finish(t, err);
    rt_free(t->seconds);
    rt_free(t->best);
    return s;
}

int sv_tune_main(int argc, char **argv)
{
    struct settings set = defaults;
    struct sv_arguments rest;
    struct rt_error err = { 0 };
    char *file = NULL;
    int status;
    if (!sv_cli_begin(&sv_tune_command, argc, argv, &set, &rest, &status))
        return status;
    if (rest.n != 1)
        return sv_cli_usage(&sv_tune_command,
                            rest.n == 0 ? "a model is missing" : "more than one model");
    struct tuning t = { .set = &set };
    const struct rt_options o = { .max_batch = set.batch,
                                  .allow_batch_statistics = true,
                                  .untuned = true };
    enum rt_status s = sv_cli_model_path(rest.item[0], &file, &err);
    if (s == RT_OK)
        s = sv_cli_load(file, &o, &t.model, &err);
    t.file = file;
    if (s == RT_OK)
        s = tune(&t, &err);
    rt_model_release(t.model);
    rt_free(file);
    return s == RT_OK ? 0 : sv_cli_fail(&sv_tune_command, &err);
}
