/* `convd test`: models against recorded answers, in the folders of ONNX's backend tests. */
#include "server/cli.h"
#include "server/clock.h"
#include "server/file.h"
#include "server/json_out.h"
#include "server/model_test.h"
#include "server/progress.h"
#include "server/table.h"

#include <fnmatch.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Folders below a DIR that are looked into: a bound for links that lead back up. */
#define MAX_DEPTH 12

struct settings {
    struct sv_option_list filter;
    bool json, quiet, exact;
    const char *rtol, *atol, *range;
    int threads;
    size_t memory;
};

static const struct sv_option options[] = {
    { .name = "filter",
      .letter = 'f',
      .type = SV_OPTION_LIST,
      .offset = offsetof(struct settings, filter),
      .value = "PATTERN",
      .help = "only tests whose name matches, as 'test_conv*'; may be repeated" },
    { .name = "json",
      .type = SV_OPTION_FLAG,
      .offset = offsetof(struct settings, json),
      .help = "print one JSON object instead of lines" },
    { .name = "quiet",
      .letter = 'q',
      .type = SV_OPTION_FLAG,
      .offset = offsetof(struct settings, quiet),
      .help = "do not list the tests that passed" },
    { .name = "rtol",
      .type = SV_OPTION_STRING,
      .offset = offsetof(struct settings, rtol),
      .value = "X",
      .help = "error allowed for each element, as a share of the wanted value" },
    { .name = "atol",
      .type = SV_OPTION_STRING,
      .offset = offsetof(struct settings, atol),
      .value = "X",
      .help = "error allowed for each element besides" },
    { .name = "range-tol",
      .type = SV_OPTION_STRING,
      .offset = offsetof(struct settings, range),
      .value = "X",
      .help = "largest error allowed as a share of an output's range, which also passes a model of "
              "more than 3 nodes" },
    SV_CLI_THREADS(offsetof(struct settings, threads)),
    SV_CLI_MEMORY(offsetof(struct settings, memory)),
    SV_CLI_EXACT(offsetof(struct settings, exact)),
    { 0 },
};

static const struct settings defaults = { .rtol = "1e-3", .atol = "1e-7", .range = "1e-4" };

const struct sv_command sv_test_command = {
    .name = "test",
    .usage = "DIR...",
    .summary =
        "Runs models on recorded inputs and compares what comes out with recorded outputs.\n"
        "A test is a folder with model.onnx and test_data_set_*/input_*.pb and output_*.pb, as\n"
        "ONNX's backend tests are; a DIR is one or holds some, at any depth. Models that are\n"
        "refused because something in them is not supported count as skipped.\n"
        "The exit status is 1 if a test failed.",
    .options = options,
    .defaults = &defaults,
    .epilogue = "Example:\n"
                "  convd test /usr/share/libonnx-testdata/data/node --filter 'test_conv*'",
};

/* What is gone through, and the count of it. */
struct walk {
    const struct settings *set;
    struct sv_model_test_options options;
    struct sv_json json;
    struct sv_progress progress;
    bool counting; /* tests are only counted, for the bar's sake */
    int to_come;
    int found, count[SV_TEST_OUTCOMES];
};

static bool wanted(const struct walk *w, const char *name)
{
    bool match = w->set->filter.n == 0;
    for (int i = 0; i < w->set->filter.n; i++)
        match |= fnmatch(w->set->filter.item[i], name, 0) == 0;
    return match;
}

static void print_line(const struct walk *w, const char *name, const struct sv_model_test *t)
{
    static const struct {
        const char *word;
        enum sv_style style;
    } of[SV_TEST_OUTCOMES] = {
        [SV_TEST_PASSED] = { "ok  ", SV_GREEN },
        [SV_TEST_FAILED] = { "FAIL", SV_RED },
        [SV_TEST_SKIPPED] = { "skip", SV_YELLOW },
    };
    if (w->set->quiet && t->outcome == SV_TEST_PASSED)
        return;
    printf("%s%s%s %s: ", sv_style(stdout, of[t->outcome].style), of[t->outcome].word,
           sv_style(stdout, SV_PLAIN), name);
    if (t->outcome != SV_TEST_PASSED)
        sv_print_clean(t->reason.text, stdout);
    else if (t->by_range)
        printf("largest error %.2g of the output's range", t->range_error);
    else
        printf("largest error %.2g", t->max_absolute);
    putchar('\n');
    fflush(stdout);
}

static void print_json(struct sv_json *j, const char *folder, const char *name,
                       const struct sv_model_test *t)
{
    static const char *const word[SV_TEST_OUTCOMES] = {
        [SV_TEST_PASSED] = "passed", [SV_TEST_FAILED] = "failed", [SV_TEST_SKIPPED] = "skipped"
    };
    sv_json_row(j, NULL);
    sv_json_string(j, "name", name);
    sv_json_string(j, "folder", folder);
    sv_json_string(j, "result", word[t->outcome]);
    if (t->outcome != SV_TEST_PASSED)
        sv_json_string(j, "reason", t->reason.text);
    if (t->n_outputs > 0) {
        sv_json_int(j, "outputs", t->n_outputs);
        sv_json_double(j, "max_absolute", t->max_absolute);
        sv_json_double(j, "range_error", t->range_error);
        sv_json_string(j, "rule", t->by_range ? "range" : "elementwise");
    }
    sv_json_double(j, "seconds", t->seconds);
    sv_json_end(j);
}

static void test_one(struct walk *w, const char *folder)
{
    char name[256];
    snprintf(name, sizeof name, "%s", sv_path_base(folder));
    name[strcspn(name, "/")] = '\0';
    if (!wanted(w, name))
        return;
    if (w->counting) {
        w->to_come++;
        return;
    }
    struct sv_model_test t = { 0 };
    uint64_t start = sv_now_ns();
    sv_progress_show(&w->progress, w->to_come > 0 ? (double)w->found / w->to_come : 0, name);
    sv_model_test_run(folder, &w->options, &t);
    t.seconds = (double)(sv_now_ns() - start) / (double)SV_NS_PER_SECOND;
    w->found++;
    w->count[t.outcome]++;
    /* The bar goes before lines come: both may be the same terminal. */
    if (isatty(STDOUT_FILENO) && !(w->set->quiet && t.outcome == SV_TEST_PASSED))
        sv_progress_end(&w->progress);
    if (w->set->json)
        print_json(&w->json, folder, name, &t);
    else
        print_line(w, name, &t);
}

static enum rt_status walk(struct walk *w, const char *folder, int depth, struct rt_error *err)
{
    char *model = sv_path_join(folder, "model.onnx");
    if (model == NULL)
        return rt_fail_nomem(err, strlen(folder));
    const bool is_test = sv_is_file(model);
    rt_free(model);
    if (is_test) {
        test_one(w, folder);
        return RT_OK;
    }
    struct sv_names names;
    enum rt_status s = sv_folder_list(folder, &names, err);
    for (size_t i = 0; i < names.n && s == RT_OK && depth < MAX_DEPTH; i++) {
        char *below = sv_path_join(folder, names.name[i]);
        if (below == NULL)
            s = rt_fail_nomem(err, strlen(folder));
        else if (sv_is_folder(below))
            s = walk(w, below, depth + 1, err);
        rt_free(below);
    }
    sv_names_reset(&names);
    return s;
}

int sv_test_main(int argc, char **argv)
{
    struct settings set = defaults;
    struct sv_arguments rest;
    struct rt_error err = { 0 };
    int status;
    if (!sv_cli_begin(&sv_test_command, argc, argv, &set, &rest, &status))
        return status;
    if (rest.n == 0)
        return sv_cli_usage(&sv_test_command, "a folder is missing");

    struct walk w = {
        .set = &set,
        .options = { .threads = set.threads, .exact = set.exact, .memory_limit = set.memory },
    };
    struct sv_tolerance *t = &w.options.tolerance;
    if (sv_cli_number("rtol", set.rtol, &t->rtol, &err) != RT_OK ||
        sv_cli_number("atol", set.atol, &t->atol, &err) != RT_OK ||
        sv_cli_number("range-tol", set.range, &t->range, &err) != RT_OK)
        return sv_cli_usage(&sv_test_command, "%s", err.text);
    enum rt_status s = RT_OK;
    if (set.json) {
        sv_json_init(&w.json, stdout);
        sv_json_object(&w.json, NULL);
        sv_json_array(&w.json, "tests");
    }
    sv_progress_begin(&w.progress, "testing");
    w.counting = w.progress.shown;
    for (int i = 0; w.counting && i < rest.n && s == RT_OK; i++)
        s = walk(&w, rest.item[i], 0, &err);
    w.counting = false;
    for (int i = 0; i < rest.n && s == RT_OK; i++)
        s = walk(&w, rest.item[i], 0, &err);
    sv_progress_end(&w.progress);
    const int passed = w.count[SV_TEST_PASSED], failed = w.count[SV_TEST_FAILED],
              skipped = w.count[SV_TEST_SKIPPED];
    if (set.json) {
        sv_json_end(&w.json);
        sv_json_int(&w.json, "passed", passed);
        sv_json_int(&w.json, "failed", failed);
        sv_json_int(&w.json, "skipped", skipped);
        sv_json_end(&w.json);
    }
    if (s != RT_OK)
        return sv_cli_fail(&sv_test_command, &err);
    if (w.found == 0) {
        rt_fail(&err, RT_E_NOT_FOUND, "%s: no test%s in it (a folder with model.onnx)",
                rest.item[0], set.filter.n > 0 ? " of that name" : "");
        return sv_cli_fail(&sv_test_command, &err);
    }
    if (!set.json)
        printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed > 0 ? SV_EXIT_FAILURE : 0;
}
