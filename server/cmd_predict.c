/* `convd predict`: pictures to classes, with the same model set-up as the server's, but without
 * one. */
#include "server/cli.h"
#include "server/cores.h"
#include "server/file.h"
#include "server/json_out.h"
#include "server/log.h"
#include "server/model.h"
#include "server/picture_list.h"
#include "server/pictures.h"
#include "server/progress.h"
#include "server/scores.h"
#include "server/version.h"

#include <inttypes.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_TOP 1000
#define MAX_FILE ((size_t)256 * 1024 * 1024) /* bytes of a picture */

struct settings {
    int top, threads, format;
    bool exact;
};

enum format { JSON, JSON_LINES, CSV };

static const struct sv_option options[] = {
    { .name = "top",
      .letter = 'k',
      .type = SV_OPTION_INT,
      .offset = offsetof(struct settings, top),
      .value = "K",
      .help = "classes to name for each picture",
      .min = 1,
      .max = MAX_TOP },
    { .name = "format",
      .type = SV_OPTION_CHOICE,
      .offset = offsetof(struct settings, format),
      .help = "one JSON object, one a picture, or a table with a line for each class",
      .choices = "json|jsonl|csv" },
    SV_CLI_THREADS(offsetof(struct settings, threads)),
    SV_CLI_EXACT(offsetof(struct settings, exact)),
    { 0 },
};

static const struct settings defaults = { .top = 5 };

const struct sv_command sv_predict_command = {
    .name = "predict",
    .usage = "MODEL IMAGE|FOLDER...",
    .summary =
        "Classifies pictures (JPEG, PNG, WebP), or all in a folder. MODEL is a .onnx file, or a\n"
        "folder with a model.onnx; config.json and labels.txt beside it are used as 'convd serve'\n"
        "uses them. A picture that cannot be read gets an \"error\" in place of its classes, and\n"
        "the exit status is then 1.",
    .options = options,
    .defaults = &defaults,
    .epilogue = "Examples:\n"
                "  convd predict models/fashion shoe.png --top 3\n"
                "  convd predict models/fashion holiday/ --format csv > holiday.csv",
};

/* A job that somebody waits for. */
struct ticket {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
};

static void job_done(struct sv_job *job)
{
    struct ticket *t = job->user;
    pthread_mutex_lock(&t->lock);
    t->done = true;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

/* Runs the job to its end; its error is then in job->error as well. */
static enum rt_status run_job(struct sv_job *job, struct rt_error *err)
{
    struct ticket t = { .done = false };
    pthread_mutex_init(&t.lock, NULL);
    pthread_cond_init(&t.changed, NULL);
    /* cppcheck-suppress autoVariables ; the job is waited for */
    job->user = &t;
    job->done = job_done;
    enum rt_status s = sv_batcher_submit(job, err);
    if (s == RT_OK) {
        pthread_mutex_lock(&t.lock);
        while (!t.done)
            pthread_cond_wait(&t.changed, &t.lock);
        pthread_mutex_unlock(&t.lock);
        s = job->error.status;
        if (s != RT_OK)
            *err = job->error;
    }
    pthread_cond_destroy(&t.changed);
    pthread_mutex_destroy(&t.lock);
    return s;
}

static enum rt_status read_picture(const struct sv_model *m, const char *path, void *dst,
                                   struct rt_error *err)
{
    void *bytes;
    size_t len;
    enum rt_status s = sv_file_read(path, MAX_FILE, &bytes, &len, err);
    if (s != RT_OK)
        return s;
    s = sv_preprocess_run(&m->preprocess, bytes, len, dst, NULL, err);
    rt_free(bytes);
    if (s != RT_OK)
        rt_error_prefix(err, "%s", path);
    return s;
}

/* A run's worth of pictures. */
struct group {
    const struct sv_model *model;
    const struct sv_picture *picture; /* picture[0..n) */
    int n, first;                     /* the number of picture[0] among all */
    struct rt_error *error;           /* error[0..n): RT_OK where the picture could be read */
    struct sv_job *job;
};

static enum rt_status run_group(struct group *g, struct rt_error *err)
{
    const struct sv_model *m = g->model;
    const struct rt_io *io = rt_model_input(m->rt, m->image_input);
    const struct rt_shape shape = sv_pictures_shape(m, g->n);
    const size_t sample = sv_preprocess_bytes(&m->preprocess);
    g->job = sv_job_create(m->batcher);
    if (g->job == NULL)
        return rt_fail_nomem(err, sizeof *g->job);
    g->job->n = g->n;
    enum rt_status s = sv_job_input(g->job, m->image_input, io->dtype, &shape, err);
    if (s != RT_OK)
        return s;
    int n_read = 0;
    for (int i = 0; i < g->n; i++) {
        char *dst = (char *)g->job->in[m->image_input].data + (size_t)i * sample;
        if (read_picture(m, g->picture[i].path, dst, &g->error[i]) == RT_OK)
            n_read++;
        else
            memset(dst, 0, sample);
    }
    return n_read > 0 ? run_job(g->job, err) : RT_OK;
}

/* The classes of picture i of the group, in order. */
static enum rt_status best_of(const struct group *g, int i, int top, struct sv_class *best, int *n,
                              struct rt_error *err)
{
    const struct sv_model *m = g->model;
    return sv_scores_top(&g->job->out[0], i, g->n, m->config.scores,
                         rt_model_output_is_probability(m->rt, 0), top, best, n, err);
}

static void json_classes(const struct group *g, const struct sv_class *best, int n,
                         struct sv_json *j)
{
    sv_json_array(j, "classes");
    for (int k = 0; k < n; k++) {
        sv_json_row(j, NULL);
        sv_json_int(j, "index", best[k].index);
        sv_json_string(j, "label", sv_labels_get(&g->model->labels, best[k].index));
        sv_json_float(j, "score", best[k].score);
        sv_json_end(j);
    }
    sv_json_end(j);
}

/* A field of a table: quoted where it holds what separates fields. */
static void csv_field(const char *text)
{
    const bool quoted = strpbrk(text, ",\"\r\n") != NULL;
    if (quoted)
        putchar('"');
    for (; *text != '\0'; text++) {
        if (*text == '"')
            putchar('"');
        putchar(*text);
    }
    if (quoted)
        putchar('"');
}

static void csv_classes(const struct group *g, int i, const struct sv_class *best, int n)
{
    for (int k = 0; k < n; k++) {
        const char *label = sv_labels_get(&g->model->labels, best[k].index);
        csv_field(g->picture[i].name);
        printf(",%d,%lld,", k + 1, (long long)best[k].index);
        csv_field(label != NULL ? label : "");
        printf(",%.9g,\n", (double)best[k].score);
    }
    if (n == 0) {
        csv_field(g->picture[i].name);
        fputs(",,,,,", stdout);
        csv_field(g->error[i].text);
        putchar('\n');
    }
}

static enum rt_status print_group(const struct group *g, const struct settings *set,
                                  struct sv_json *j, struct rt_error *err)
{
    enum rt_status s = RT_OK;
    struct sv_class best[MAX_TOP];
    for (int i = 0; i < g->n && s == RT_OK; i++) {
        int n = 0;
        if (g->error[i].status == RT_OK)
            s = best_of(g, i, set->top, best, &n, err);
        if (set->format == CSV) {
            csv_classes(g, i, best, n);
            continue;
        }
        if (set->format == JSON_LINES)
            sv_json_row(j, NULL);
        else
            sv_json_object(j, NULL);
        sv_json_int(j, "image", g->first + i);
        sv_json_string(j, "name", g->picture[i].name);
        if (g->error[i].status != RT_OK)
            sv_json_string(j, "error", g->error[i].text);
        else if (s == RT_OK)
            json_classes(g, best, n, j);
        sv_json_end(j);
    }
    return s;
}

/* All pictures, in groups of the largest batch; *n_bad counts those that could not be read. */
static enum rt_status predict(const struct sv_model *m, const struct sv_picture_list *list,
                              const struct settings *set, struct sv_json *j, int *n_bad,
                              struct rt_error *err)
{
    const int n = list->n;
    struct sv_progress progress;
    const int most = m->max_batch > 0 ? m->max_batch : 1;
    struct rt_error *error = rt_zalloc_array((size_t)most, sizeof *error);
    if (error == NULL)
        return rt_fail_nomem(err, (size_t)most * sizeof *error);
    enum rt_status s = RT_OK;
    /* The result says it, too: on the same terminal a line of its own would be amid that. */
    const bool in_view = isatty(STDOUT_FILENO) && isatty(STDERR_FILENO);
    sv_progress_begin(&progress, "classifying");
    for (int first = 0; first < n && s == RT_OK; first += most) {
        struct group g = {
            m, list->item + first, n - first < most ? n - first : most, first, error, NULL
        };
        sv_progress_show(&progress, (double)first / n, list->item[first].name);
        memset(error, 0, (size_t)most * sizeof *error);
        s = run_group(&g, err);
        /* The bar goes before lines come: both may be the same terminal. */
        if (s == RT_OK && isatty(STDOUT_FILENO))
            sv_progress_end(&progress);
        if (s == RT_OK)
            s = print_group(&g, set, j, err);
        sv_job_destroy(g.job);
        for (int i = 0; i < g.n; i++) {
            *n_bad += error[i].status != RT_OK;
            if (error[i].status == RT_OK || in_view)
                continue;
            sv_progress_end(&progress);
            sv_cli_fail(&sv_predict_command, &error[i]);
        }
    }
    sv_progress_end(&progress);
    rt_free(error);
    return s;
}

/* Whether pictures are what the model takes: one a run at least, and nothing beside them. */
static enum rt_status check_model(const struct sv_model *m, struct rt_error *err)
{
    if (m->image_input < 0)
        return rt_fail(err, RT_E_UNSUPPORTED, "%s: %s", m->path, m->image_note);
    const struct rt_io *io = rt_model_input(m->rt, m->image_input);
    if (m->n_in != 1 || m->n_out < 1)
        return rt_fail(err, RT_E_UNSUPPORTED, "%s: takes %d inputs, not just a picture", m->path,
                       m->n_in);
    if (m->max_batch == 0 && io->shape.rank == 4 && io->shape.dim[0] > 1)
        return rt_fail(err, RT_E_UNSUPPORTED, "%s: takes exactly %lld pictures a run", m->path,
                       (long long)io->shape.dim[0]);
    return RT_OK;
}

/* Labels that are too few leave classes without a name, and answers that nobody understands. */
static void check_labels(const struct sv_model *m)
{
    const int64_t n = sv_model_classes(m);
    if (m->labels.n > 0 && n > m->labels.n)
        fprintf(stderr, SV_NAME " predict: %s: only %d labels for %" PRId64 " classes\n", m->path,
                m->labels.n, n);
}

/* Loads the one model, or the newest version of it, that path stands for. */
static enum rt_status load(const char *path, const struct sv_registry_options *o,
                           struct sv_model **out, struct rt_error *err)
{
    struct sv_model_config config = { 0 };
    struct sv_sources sources;
    enum rt_status s = sv_sources_find(path, &sources, err);
    if (s != RT_OK)
        return s;
    const struct sv_source *src = &sources.item[sources.n - 1];
    if (strcmp(src->name, sources.item[0].name) != 0)
        s = rt_fail(err, RT_E_INVALID, "%s: holds several models, %s and %s among them", path,
                    sources.item[0].name, src->name);
    if (s == RT_OK && src->config != NULL)
        s = sv_model_config_read(src->config, &config, err);
    if (s == RT_OK) {
        char *name = rt_strdup(config.name != NULL ? config.name : src->name);
        s = name != NULL ? sv_model_load(name, src, &config, o, out, err)
                         : rt_fail_nomem(err, strlen(src->name) + 1);
        rt_free(name);
    }
    sv_model_config_reset(&config);
    sv_sources_reset(&sources);
    return s;
}

static enum rt_status predict_all(const struct settings *set, const struct sv_arguments *rest,
                                  int *n_bad, struct rt_error *err)
{
    struct sv_progress loading;
    struct sv_registry_options o = { .max_queue = 1, .exact = set->exact, .loading = &loading };
    struct sv_picture_list list = { 0 };
    struct sv_model *m = NULL;
    struct sv_json j;
    sv_progress_begin(&loading, "loading");
    enum rt_status s =
        sv_cores_create(set->threads > 0 ? set->threads : rt_cpu_budget(), &o.cores, err);
    if (s == RT_OK)
        s = load(rest->item[0], &o, &m, err);
    if (s == RT_OK)
        s = check_model(m, err);
    if (s == RT_OK)
        check_labels(m);
    if (s == RT_OK)
        s = sv_picture_list_make(rest->item + 1, rest->n - 1, &list, err);
    sv_json_init(&j, stdout);
    if (s == RT_OK && set->format == JSON) {
        sv_json_object(&j, NULL);
        sv_json_string(&j, "model_name", m->name);
        sv_json_array(&j, "predictions");
    } else if (s == RT_OK && set->format == CSV) {
        puts("name,rank,index,label,score,error");
    }
    if (s == RT_OK)
        s = predict(m, &list, set, &j, n_bad, err);
    while (j.depth > 0)
        sv_json_end(&j);
    sv_picture_list_reset(&list);
    sv_model_release(m);
    sv_cores_destroy(o.cores);
    return s;
}

int sv_predict_main(int argc, char **argv)
{
    struct settings set = defaults;
    struct sv_arguments rest;
    struct rt_error err = { 0 };
    int status, n_bad = 0;
    if (!sv_cli_begin(&sv_predict_command, argc, argv, &set, &rest, &status))
        return status;
    if (rest.n < 2)
        return sv_cli_usage(&sv_predict_command,
                            rest.n == 0 ? "a model is missing" : "a picture is missing");
    sv_log_set(SV_LOG_ERROR, SV_LOG_TEXT);
    if (predict_all(&set, &rest, &n_bad, &err) != RT_OK)
        return sv_cli_fail(&sv_predict_command, &err);
    return n_bad > 0 ? SV_EXIT_FAILURE : 0;
}
