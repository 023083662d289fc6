/* `convd run`: raw tensors in, raw tensors out. */
#include "server/cli.h"
#include "server/feed.h"
#include "server/file.h"
#include "server/npy.h"
#include "server/table.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct settings {
    struct sv_option_list input;
    const char *output;
    int threads;
    size_t memory;
    bool exact;
};

static const struct sv_option options[] = {
    { .name = "input",
      .letter = 'i',
      .type = SV_OPTION_LIST,
      .offset = offsetof(struct settings, input),
      .value = "[NAME=]FILE",
      .help = "a tensor in a .npy or .pb file, for the input of that name or else the next one; "
              "may be repeated" },
    { .name = "output",
      .letter = 'o',
      .type = SV_OPTION_STRING,
      .offset = offsetof(struct settings, output),
      .value = "DIR",
      .help = "the folder for NAME.npy of every output; made if it is not there" },
    SV_CLI_THREADS(offsetof(struct settings, threads)),
    SV_CLI_MEMORY(offsetof(struct settings, memory)),
    SV_CLI_EXACT(offsetof(struct settings, exact)),
    { 0 },
};

static const struct settings defaults = { 0 };

const struct sv_command sv_run_command = {
    .name = "run",
    .usage = "MODEL",
    .summary = "Runs a model once on tensors from files and writes its outputs as .npy.\n"
               "MODEL is a .onnx file, or a folder with a model.onnx.",
    .options = options,
    .defaults = &defaults,
    .epilogue = "Examples:\n"
                "  convd run model.onnx --input x.npy --output out\n"
                "  convd run model.onnx --input image=x.npy --input size=y.pb --output out",
};

/* "NAME=FILE" where NAME is one of the model's inputs; else all of it is a path. */
static enum rt_status add_input(struct sv_feed *feed, const struct rt_model *m, const char *text,
                                struct rt_error *err)
{
    const char *equals = strchr(text, '=');
    if (equals == NULL || sv_is_file(text))
        return sv_feed_add(feed, text, NULL, err);
    size_t len = (size_t)(equals - text);
    char known[512] = "";
    for (int i = 0, at = 0; i < rt_model_n_inputs(m); i++) {
        const char *name = rt_model_input(m, i)->name;
        if (strlen(name) == len && memcmp(name, text, len) == 0)
            return sv_feed_add(feed, equals + 1, name, err);
        if (at < (int)sizeof known)
            at += snprintf(known + at, sizeof known - (size_t)at, i > 0 ? ", %s" : "%s", name);
    }
    return rt_fail(err, RT_E_INVALID, "--input %s: the model has no input of that name, only %s",
                   text, known);
}

static enum rt_status read_inputs(struct sv_feed *feed, const struct rt_model *m,
                                  const struct sv_option_list *list, struct rt_error *err)
{
    enum rt_status s = RT_OK;
    for (int i = 0; i < list->n && s == RT_OK; i++)
        s = add_input(feed, m, list->item[i], err);
    return s;
}

/* An output's name as a file's: what a file system or a shell could take amiss becomes '_', a
 * leading dot too. Two names that fall together get their numbers. */
static void file_name(const struct rt_model *m, int i, char *buf, size_t size)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    for (int k = i; k >= 0; k--) {
        char name[200];
        snprintf(name, sizeof name, "%s", rt_model_output(m, k)->name);
        for (char *s = name; *s != '\0'; s++)
            if (strchr(plain, *s) == NULL || (s == name && (*s == '.' || *s == '-')))
                *s = '_';
        if (k == i)
            snprintf(buf, size, "%s", name[0] != '\0' ? name : "output");
        else if (strncmp(buf, name, sizeof name) == 0) {
            size_t len = strlen(buf);
            snprintf(buf + len, size - len, ".%d", i);
            break;
        }
    }
}

static enum rt_status write_outputs(const struct rt_model *m, const struct rt_tensor *out,
                                    const char *folder, struct rt_error *err)
{
    enum rt_status s = sv_folder_create(folder, err);
    for (int i = 0; i < rt_model_n_outputs(m) && s == RT_OK; i++) {
        char name[256], shape[RT_SHAPE_TEXT];
        void *bytes = NULL;
        size_t len = 0;
        file_name(m, i, name, sizeof name - sizeof ".npy");
        memcpy(name + strlen(name), ".npy", sizeof ".npy");
        char *path = sv_path_join(folder, name);
        if (path == NULL)
            return rt_fail_nomem(err, sizeof name);
        s = sv_npy_write(&out[i], &bytes, &len, err);
        if (s == RT_OK)
            s = sv_file_write(path, bytes, len, err);
        else
            rt_error_prefix(err, "output %s", rt_model_output(m, i)->name);
        if (s == RT_OK) {
            sv_print_clean(path, stdout);
            printf(": %s %s\n", rt_dtype_name(out[i].dtype), rt_shape_text(&out[i].shape, shape));
        }
        rt_free(bytes);
        rt_free(path);
    }
    return s;
}

static enum rt_status run(const struct rt_model *m, struct rt_session *session,
                          const struct sv_feed *feed, const char *folder, struct rt_error *err)
{
    struct rt_tensor in[SV_FEED_MAX], out[SV_FEED_MAX];
    int slot[SV_FEED_MAX];
    if (rt_model_n_outputs(m) > SV_FEED_MAX)
        return rt_fail(err, RT_E_LIMIT, "the model has more than %d outputs", SV_FEED_MAX);
    enum rt_status s = sv_feed_inputs(feed, m, slot, err);
    if (s != RT_OK)
        return s;
    for (int k = 0; k < feed->n; k++)
        in[slot[k]] = feed->tensor[k];
    s = rt_session_run(session, in, out, err);
    return s == RT_OK ? write_outputs(m, out, folder, err) : s;
}

/* Loads the model, and once more if the tensors turn out to be a larger batch than it was compiled
 * for. */
static enum rt_status load(const char *path, const struct settings *set, struct sv_feed *feed,
                           struct rt_model **out, struct rt_error *err)
{
    struct rt_options o = { .exact = set->exact,
                            .memory_limit = set->memory,
                            .allow_batch_statistics = true };
    enum rt_status s = sv_cli_load(path, &o, out, err);
    if (s == RT_OK)
        s = read_inputs(feed, *out, &set->input, err);
    if (s != RT_OK || rt_model_max_batch(*out) == 0 ||
        sv_feed_batch(feed) <= rt_model_max_batch(*out))
        return s;
    rt_model_release(*out);
    *out = NULL;
    o.max_batch = sv_feed_batch(feed);
    return sv_cli_load(path, &o, out, err);
}

int sv_run_main(int argc, char **argv)
{
    struct settings set = defaults;
    struct sv_arguments rest;
    int status;
    if (!sv_cli_begin(&sv_run_command, argc, argv, &set, &rest, &status))
        return status;
    if (rest.n != 1)
        return sv_cli_usage(&sv_run_command,
                            rest.n == 0 ? "a model is missing" : "more than one model");
    if (set.output == NULL)
        return sv_cli_usage(&sv_run_command, "--output DIR is missing");

    struct rt_error err = { 0 };
    struct rt_model *m = NULL;
    struct rt_session *session = NULL;
    struct sv_feed *feed = rt_zalloc(sizeof *feed);
    enum rt_status s =
        feed != NULL ? load(rest.item[0], &set, feed, &m, &err) : rt_fail_nomem(&err, sizeof *feed);
    if (s == RT_OK)
        s = rt_session_create(m, set.threads, &session, &err);
    if (s == RT_OK)
        s = run(m, session, feed, set.output, &err);
    rt_session_destroy(session);
    rt_model_release(m);
    if (feed != NULL)
        sv_feed_reset(feed);
    rt_free(feed);
    return s == RT_OK ? 0 : sv_cli_fail(&sv_run_command, &err);
}
