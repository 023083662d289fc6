/* `convd-load`: loads one or several servers, and says what came of it. */
#include "runtime/mem.h"
#include "server/cli.h"
#include "server/file.h"
#include "server/table.h"
#include "tests/load/chart.h"
#include "tests/load/measure.h"
#include "tests/load/report.h"

#include <curl/curl.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static int complain(const struct rt_error *err, int status)
{
    fflush(stdout);
    fprintf(stderr, "%s: ", ld_command.program);
    sv_print_clean(err->text, stderr);
    fputs(status == SV_EXIT_USAGE ? " (see convd-load --help)\n" : "\n", stderr);
    return status;
}

static enum rt_status check(const struct ld_settings *set, int n, struct rt_error *err)
{
    if (n == 0)
        return rt_fail(err, RT_E_INVALID, "say which server to load, as in http://localhost:8000");
    if (n > LD_SIDES_MAX)
        return rt_fail(err, RT_E_INVALID, "%d sides; at most %d can be compared", n, LD_SIDES_MAX);
    if (set->knee && (set->concurrency.n > 0 || set->rate.n > 0))
        return rt_fail(err, RT_E_INVALID,
                       "--knee chooses its loads itself: leave out --concurrency and --rate");
    if (set->limit > 0 && !set->knee)
        return rt_fail(err, RT_E_INVALID, "--limit is for --knee");
    return RT_OK;
}

static enum rt_status write_json(const struct ld_settings *set, const struct ld_result *result,
                                 int n, struct rt_error *err)
{
    if (strcmp(set->json, "-") == 0) {
        ld_report_json(set, result, n, stdout);
        return RT_OK;
    }
    FILE *f = fopen(set->json, "w");
    if (f == NULL)
        return rt_fail(err, RT_E_IO, "%s: %s", set->json, strerror(errno));
    ld_report_json(set, result, n, f);
    const bool failed = ferror(f) != 0;
    if (fclose(f) != 0 || failed)
        return rt_fail(err, RT_E_IO, "%s: writing failed", set->json);
    return RT_OK;
}

static enum rt_status report(const struct ld_settings *set, const struct ld_result *result, int n,
                             struct rt_error *err)
{
    enum rt_status s = set->json != NULL ? write_json(set, result, n, err) : RT_OK;
    if (set->json == NULL || strcmp(set->json, "-") != 0)
        ld_report_tables(result, n, stdout);
    return s == RT_OK && set->plot != NULL ? ld_chart_write(set->plot, set->title, result, n, err)
                                           : s;
}

/* Whether any side answered anything: a load that found nobody is not a result. */
static bool is_anybody_there(const struct ld_result *result, int n)
{
    for (int i = 0; i < n; i++)
        for (int k = 0; k < result[i].n_levels; k++)
            if (result[i].level[k].run.n_statuses > 0)
                return true;
    return false;
}

int main(int argc, char **argv)
{
    static struct ld_side side[LD_SIDES_MAX];
    static struct ld_result result[LD_SIDES_MAX];
    struct ld_settings set = ld_defaults;
    struct sv_arguments rest;
    struct rt_error err = { 0 };
    if (sv_options_parse(&ld_command, argc - 1, argv + 1, &set, &rest, &err) != RT_OK)
        return complain(&err, SV_EXIT_USAGE);
    if (rest.help) {
        sv_options_help(&ld_command, stdout);
        return 0;
    }
    if (check(&set, rest.n, &err) != RT_OK)
        return complain(&err, SV_EXIT_USAGE);

    signal(SIGPIPE, SIG_IGN);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    enum rt_status s = RT_OK;
    for (int i = 0; i < rest.n && s == RT_OK; i++) {
        s = ld_side_open(rest.item[i], &set, &side[i], &err);
        result[i].side = &side[i];
    }
    if (s == RT_OK)
        s = ld_measure(&set, result, rest.n, &err);
    if (s == RT_OK)
        s = report(&set, result, rest.n, &err);
    if (s == RT_OK && !is_anybody_there(result, rest.n))
        s = rt_fail(&err, RT_E_IO, "nobody answered: %s", result[0].level[0].run.why);
    for (int i = 0; i < rest.n; i++) {
        ld_result_reset(&result[i]);
        ld_side_reset(&side[i]);
    }
    curl_global_cleanup();
    if (s == RT_OK)
        return 0;
    return complain(&err, s == RT_E_INVALID ? SV_EXIT_USAGE : SV_EXIT_FAILURE);
}
