/* The commands' common ways: how they begin, fail, find and load a model. */
#include "server/cli.h"

#include "server/file.h"
#include "server/progress.h"
#include "server/table.h"
#include "server/version.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool sv_cli_begin(const struct sv_command *c, int argc, char **argv, void *settings,
                  struct sv_arguments *rest, int *status)
{
    struct rt_error err = { 0 };
    if (sv_options_parse(c, argc, argv, settings, rest, &err) != RT_OK) {
        rt_free(rest->memory);
        *status = sv_cli_usage(c, "%s", err.text);
        return false;
    }
    if (rest->help) {
        sv_options_help(c, stdout);
        *status = 0;
        return false;
    }
    return true;
}

int sv_cli_fail(const struct sv_command *c, const struct rt_error *err)
{
    fflush(stdout);
    if (err->text[0] == '\0')
        return SV_EXIT_FAILURE;
    fprintf(stderr, SV_NAME " %s: ", c->name);
    sv_print_clean(err->text, stderr);
    putc('\n', stderr);
    return SV_EXIT_FAILURE;
}

int sv_cli_usage(const struct sv_command *c, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fprintf(stderr, SV_NAME " %s: ", c->name);
    sv_print_clean(text, stderr);
    fprintf(stderr, " (see " SV_NAME " %s --help)\n", c->name);
    return SV_EXIT_USAGE;
}

enum rt_status sv_cli_model_path(const char *path, char **out, struct rt_error *err)
{
    if (path[0] == '\0')
        return rt_fail(err, RT_E_INVALID, "the path is empty");
    char *file = sv_is_folder(path) ? sv_path_join(path, "model.onnx") : rt_strdup(path);
    if (file == NULL)
        return rt_fail_nomem(err, strlen(path) + 1);
    if (!sv_is_file(file)) {
        enum rt_status s = strcmp(file, path) == 0
                               ? rt_fail(err, RT_E_NOT_FOUND, "%s: there is no such file", path)
                               : rt_fail(err, RT_E_NOT_FOUND, "%s: no model.onnx in it", path);
        rt_free(file);
        return s;
    }
    *out = file;
    return RT_OK;
}

enum rt_status sv_cli_load(const char *path, const struct rt_options *options,
                           struct rt_model **out, struct rt_error *err)
{
    char *file;
    enum rt_status s = sv_cli_model_path(path, &file, err);
    if (s != RT_OK)
        return s;
    struct sv_progress bar;
    struct rt_options shown = *options;
    sv_progress_begin(&bar, "loading");
    shown.progress = sv_progress_loading;
    shown.progress_user = &bar;
    s = rt_model_load_file(file, &shown, out, err);
    rt_free(file);
    return s;
}

enum rt_status sv_cli_numbers(const char *option, const struct sv_option_list *list, int min,
                              int max, int *out, int max_n, int *n, struct rt_error *err)
{
    int count = 0;
    for (int i = 0; i < list->n; i++) {
        for (const char *at = list->item[i];; at++) {
            char *end;
            errno = 0;
            long v = strtol(at, &end, 10);
            if (end == at || errno != 0 || v < min || v > max || (*end != ',' && *end != '\0'))
                return rt_fail(err, RT_E_INVALID,
                               "--%s: '%s' is not a list of numbers from %d to %d", option,
                               list->item[i], min, max);
            if (count == max_n)
                return rt_fail(err, RT_E_INVALID, "--%s: more than %d numbers", option, max_n);
            out[count++] = (int)v;
            at = end;
            if (*at == '\0')
                break;
        }
    }
    *n = count;
    return RT_OK;
}

enum rt_status sv_cli_number(const char *option, const char *text, double *out,
                             struct rt_error *err)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(v) || v < 0)
        return rt_fail(err, RT_E_INVALID, "--%s: '%s' is not a number of 0 or more", option, text);
    *out = v;
    return RT_OK;
}
