/* The `serve` command: signals, start and stop in order. */
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "server/app.h"
#include "server/banner.h"
#include "server/cli.h"
#include "server/clock.h"
#include "server/config_file.h"
#include "server/file.h"
#include "server/folder_watch.h"
#include "server/http.h"
#include "server/listen.h"
#include "server/log.h"
#include "server/progress.h"
#include "server/routes.h"
#include "server/sandbox.h"
#include "server/serve_settings.h"

#define SOCKET_THREADS 2
/* Loads and unloads that may wait for one another. */
#define CHANGES_WAITING 64

/* The bundled model's folder: below that of the binary, below the one it was built in, or below
 * the current one. */
static bool bundled_model(char out[PATH_MAX])
{
    static const char *const below[] = { "", "/..", "/../..", "/../share/convd" };
    char binary[PATH_MAX] = "";
    ssize_t len = readlink("/proc/self/exe", binary, sizeof binary - 1);
    char *slash = len > 0 ? strrchr(binary, '/') : NULL;
    if (slash != NULL)
        *slash = '\0';
    for (size_t i = 0; i < sizeof below / sizeof below[0] && slash != NULL; i++) {
        char path[PATH_MAX + 64];
        snprintf(path, sizeof path, "%s%s/models/fashion", binary, below[i]);
        if (realpath(path, out) != NULL && sv_is_folder(out))
            return true;
    }
    return sv_is_folder("models/fashion") && strcpy(out, "models/fashion") != NULL;
}

/* The paths to serve: arguments and --models; there is room for one more. */
struct paths {
    int n;
    const char **item;
};

static enum rt_status collect_paths(const struct sv_serve_settings *set,
                                    const struct sv_arguments *args, struct paths *out,
                                    struct rt_error *err)
{
    size_t n = (size_t)args->n + (size_t)set->models.n + 1;
    out->item = rt_alloc_array(n, sizeof *out->item);
    if (out->item == NULL)
        return rt_fail_nomem(err, n * sizeof *out->item);
    for (int i = 0; i < args->n; i++)
        out->item[out->n++] = args->item[i];
    for (int i = 0; i < set->models.n; i++)
        out->item[out->n++] = set->models.item[i];
    return RT_OK;
}

/* Whether the log has the one reason why nothing is served. */
static bool is_said(struct sv_registry *r)
{
    struct sv_model_list list = { 0 };
    struct rt_error err;
    bool one = sv_log_enabled(SV_LOG_ERROR) && sv_registry_list(r, NULL, &list, &err) == RT_OK &&
               list.n == 1 && list.entry[0].reason[0] != '\0';
    sv_model_list_reset(&list);
    return one;
}

/* Fails when a path holds nothing, or no model at all could be loaded. */
static enum rt_status load_models(struct sv_registry *r, const struct paths *paths,
                                  struct rt_error *err)
{
    enum rt_status s = RT_OK;
    for (int i = 0; i < paths->n && s == RT_OK; i++)
        s = sv_registry_add(r, paths->item[i], err);
    if (paths->n == 0)
        s = rt_fail(err, RT_E_NOT_FOUND, "which model? Try '" SV_NAME " serve model.onnx'");
    struct sv_model *any = NULL;
    if (s != RT_OK)
        return s;
    s = sv_registry_default(r, &any, err);
    if (s == RT_OK)
        sv_model_release(any);
    else if (is_said(r))
        err->text[0] = '\0';
    return s;
}

static void make_signals(sigset_t *set, bool with_hangup)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    if (with_hangup)
        sigaddset(set, SIGHUP);
}

static void handle(void *context, struct sv_request *req)
{
    sv_route(context, req);
}

static bool admits(void *context, struct sv_request *req)
{
    return sv_route_admits(context, req);
}

static void answering(void *context, struct sv_request *req)
{
    sv_route_answering(context, req);
}

static void completed(void *context, struct sv_request *req)
{
    sv_route_completed(context, req);
}

/* Waits for requests at work to finish, timeout seconds at most or until another signal comes;
 * whether all did. */
static bool drain(struct sv_http *http, const sigset_t *signals, double timeout)
{
    const uint64_t slice = SV_NS_PER_SECOND / 20;
    uint64_t until = sv_now_ns() + (uint64_t)(timeout * (double)SV_NS_PER_SECOND);
    for (;;) {
        uint64_t now = sv_now_ns();
        uint64_t left = now < until ? until - now : 0;
        if (sv_http_drain(http, left < slice ? left : slice))
            return true;
        if (left == 0 || sigtimedwait(signals, NULL, &(struct timespec){ 0 }) > 0)
            return sv_http_in_flight(http) == 0;
    }
}

/* From the first signal to the last answer; the exit status. */
static int stop(struct sv_app *app, struct sv_http *http, const sigset_t *signals, double timeout)
{
    atomic_store(&app->ready, false);
    sv_http_quiesce(http);
    int n = sv_http_in_flight(http);
    sv_log(SV_LOG_INFO, "stopping: %d request%s at work", n, n == 1 ? "" : "s");
    if (!drain(http, signals, timeout)) {
        sv_log(SV_LOG_WARN, "stopping: %d requests are not finished, those that wait are refused",
               sv_http_in_flight(http));
        sv_registry_stop(app->registry, true);
        /* What runs cannot be interrupted. It gets a moment; then the process ends around it. */
        if (!drain(http, signals, 2)) {
            sv_log(SV_LOG_ERROR, "stopped in the middle of %d requests", sv_http_in_flight(http));
            _exit(SV_EXIT_FAILURE);
        }
        sv_http_stop(http);
        return SV_EXIT_FAILURE;
    }
    sv_http_stop(http);
    sv_log(SV_LOG_INFO, "stopped");
    return 0;
}

/* All that is made before serving, and read again on SIGHUP. */
struct server {
    const struct sv_serve_settings *set;
    struct paths paths;
    char bundled[PATH_MAX];
    struct sv_app app;
    struct sv_cores *cores;
    struct sv_tls *tls;
    struct sv_folder_watch *watch;
    struct sv_task rescan;
    struct sv_progress loading;
    atomic_bool rescanning;
};

static void rescan(struct sv_task *task)
{
    struct server *s = (struct server *)(void *)((char *)task - offsetof(struct server, rescan));
    atomic_store(&s->rescanning, false); /* what changes from here on needs another one */
    sv_registry_rescan(s->app.registry, true);
}

static void report(enum rt_status s, const struct rt_error *err)
{
    if (s != RT_OK)
        sv_log(SV_LOG_ERROR, "%s; what was read before stays in use", err->text);
}

/* SIGHUP. */
static void reload(struct server *s)
{
    struct rt_error err;
    sv_log(SV_LOG_INFO, "SIGHUP: everything is read again");
    if (s->tls != NULL)
        report(sv_tls_reload(s->tls, &err), &err);
    if (s->app.api_keys != NULL)
        report(sv_keys_reload(s->app.api_keys, &err), &err);
    if (s->app.control_keys != NULL)
        report(sv_keys_reload(s->app.control_keys, &err), &err);
    if (s->app.access_log != NULL)
        report(sv_access_log_reopen(s->app.access_log, &err), &err);
    if (!atomic_exchange(&s->rescanning, true) &&
        sv_pool_submit(s->app.control, &s->rescan, &err) != RT_OK) {
        atomic_store(&s->rescanning, false);
        sv_log(SV_LOG_WARN, "the models are not looked at: %s", err.text);
    }
}

/* Serves until a signal comes. */
static enum rt_status serve(struct server *s, int *status, struct rt_error *err)
{
    const struct sv_serve_settings *set = s->set;
    const char *host = set->host != NULL ? set->host : "";
    const struct sv_http_options http_options = {
        .host = host,
        .port = set->port,
        .threads = SOCKET_THREADS,
        .max_body = set->max_body,
        .max_body_memory = set->max_body_memory,
        .max_connections = set->max_connections,
        .max_connections_each = set->max_connections_each,
        .idle_timeout = set->idle_timeout,
        .header_timeout = set->header_timeout,
        .body_timeout = set->body_timeout,
        .tls = s->tls,
        .admits = admits,
        .answering = answering,
        .completed = completed,
        .handle = handle,
        .context = &s->app,
    };
    struct sv_http *http;
    enum rt_status e = sv_http_start(&http_options, &http, err);
    if (e != RT_OK)
        return e;
    s->app.http = http;
    sv_sandbox_seal();
    atomic_store(&s->app.ready, true);
    sv_banner_address(s->app.registry, s->tls != NULL ? "https" : "http", host, sv_http_port(http),
                      set->log_format == SV_LOG_TEXT && set->log_level <= SV_LOG_INFO);
    sigset_t all, ending;
    make_signals(&all, true);
    make_signals(&ending, false);
    int sig;
    while (sigwait(&all, &sig) == 0 && sig == SIGHUP)
        reload(s);
    *status = stop(&s->app, http, &ending, set->drain_timeout);
    return RT_OK;
}

/* An address that is taken is said at once, not after the models were loaded. */
static enum rt_status check_address(const struct sv_serve_settings *set, struct rt_error *err)
{
    int fd, port;
    if (set->port == 0)
        return RT_OK;
    enum rt_status s = sv_listen(set->host != NULL ? set->host : "", set->port, &fd, &port, err);
    if (s == RT_OK)
        close(fd);
    return s;
}

static enum rt_status check_settings(const struct sv_serve_settings *set, struct rt_error *err)
{
    if ((set->tls_cert != NULL) != (set->tls_key != NULL))
        return rt_fail(err, RT_E_INVALID, "--tls-cert and --tls-key belong together");
    for (int i = 0; i < set->cors.n; i++) {
        const char *origin = set->cors.item[i];
        bool good = strcmp(origin, "*") == 0 || (strstr(origin, "://") != NULL &&
                                                 strchr(strstr(origin, "://") + 3, '/') == NULL);
        if (!good || strlen(origin) >= SV_HEADER_VALUE)
            return rt_fail(err, RT_E_INVALID,
                           "--cors: '%s' is no origin, as https://example.org or *", origin);
    }
    return RT_OK;
}

/* As many files as the system lets this process have: every connection is one. */
static void raise_file_limit(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max < 1 << 20 ? files.rlim_max : 1 << 20;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static enum rt_status open_files(struct server *s, struct rt_error *err)
{
    const struct sv_serve_settings *set = s->set;
    enum rt_status e = check_settings(set, err);
    if (e == RT_OK && set->tls_cert != NULL)
        e = sv_tls_create(set->tls_cert, set->tls_key, &s->tls, err);
    if (e == RT_OK && set->api_keys != NULL)
        e = sv_keys_create(set->api_keys, &s->app.api_keys, err);
    if (e == RT_OK && set->control_keys != NULL)
        e = sv_keys_create(set->control_keys, &s->app.control_keys, err);
    if (e == RT_OK && set->access_log != NULL)
        e = sv_access_log_open(set->access_log, &s->app.access_log, err);
    return e;
}

/* Before there is a second thread, as each would have to be confined on its own. */
static enum rt_status enter_sandbox(const struct server *s, struct rt_error *err)
{
    const struct sv_serve_settings *set = s->set;
    const char *const reread[] = { set->tls_cert, set->tls_key, set->api_keys, set->control_keys };
    const struct sv_sandbox_files files = {
        .model = s->paths.item,
        .n_models = (size_t)s->paths.n,
        .reread = reread,
        .n_reread = sizeof reread / sizeof reread[0],
        .log = set->access_log,
    };
    return set->sandbox == SV_SANDBOX_ON ? sv_sandbox_enter(&files, err) : RT_OK;
}

static enum rt_status start(struct server *s, struct rt_error *err)
{
    const struct sv_serve_settings *set = s->set;
    int budget = set->threads > 0 ? set->threads : rt_cpu_budget();
    enum rt_status e = sv_cores_create(budget, &s->cores, err);
    s->app.cores = s->cores;
    if (e == RT_OK) {
        const struct sv_registry_options o = {
            .max_batch = set->max_batch,
            .memory_limit = set->max_model_memory,
            .max_queue = set->max_queue,
            .max_queue_memory = set->max_queue_memory,
            .max_answer = set->max_answer,
            .queue_timeout_us = (int)(set->queue_timeout * 1e6),
            .cores = s->cores,
            .socket_threads = SOCKET_THREADS,
            .max_pixels = set->max_pixels,
            .exact = set->exact,
            .extra_weights = set->extra_weights,
            .warm_up = true,
            .loading = &s->loading,
        };
        e = sv_registry_create(&o, &s->app.registry, err);
    }
    sv_progress_begin(&s->loading, "loading");
    if (e == RT_OK)
        e = load_models(s->app.registry, &s->paths, err);
    s->loading.shown = false; /* what is loaded later is loaded beside requests and their log */
    if (e != RT_OK)
        return e;
    sv_banner_models(s->app.registry);
    if (s->app.access_log != NULL)
        e = sv_access_log_start(s->app.access_log, err);
    if (e == RT_OK)
        e = sv_pool_create(budget, set->max_queue, s->cores, &s->app.pool, err);
    if (e == RT_OK)
        e = sv_pool_create(1, CHANGES_WAITING, NULL, &s->app.control, err);
    if (e == RT_OK && set->watch)
        e = sv_folder_watch_start(s->app.registry, s->paths.item, s->paths.n,
                                  (uint64_t)(set->watch_interval * (double)SV_NS_PER_SECOND),
                                  &s->watch, err);
    return e;
}

/* Makes what the server stands on, serves, and takes it down again. */
static enum rt_status run(const struct sv_serve_settings *set, const struct sv_arguments *args,
                          int *status, struct rt_error *err)
{
    struct server s = {
        .set = set,
        .app = {
            .limits = { .max_body = set->max_body, .max_pixels = (int64_t)set->max_pixels },
            .started = sv_now_ns(),
            .model_control = set->model_control,
            .n_origins = set->cors.n,
            .origin = set->cors.item,
        },
        .rescan = { .run = rescan },
    };
    atomic_init(&s.app.ready, false);
    atomic_init(&s.rescanning, false);
    raise_file_limit();
    enum rt_status e = collect_paths(set, args, &s.paths, err);
    if (e == RT_OK)
        e = open_files(&s, err);
    if (e == RT_OK && s.paths.n == 0 && bundled_model(s.bundled))
        s.paths.item[s.paths.n++] = s.bundled;
    if (e == RT_OK)
        e = enter_sandbox(&s, err);
    if (e == RT_OK)
        e = check_address(set, err);
    if (e == RT_OK)
        e = start(&s, err);
    if (e == RT_OK)
        e = serve(&s, status, err);
    sv_folder_watch_stop(s.watch);
    sv_pool_destroy(s.app.control);
    sv_pool_destroy(s.app.pool);
    sv_registry_destroy(s.app.registry);
    sv_cores_destroy(s.cores);
    sv_access_log_close(s.app.access_log);
    sv_keys_destroy(s.app.control_keys);
    sv_keys_destroy(s.app.api_keys);
    sv_tls_destroy(s.tls);
    rt_free(s.paths.item);
    return e;
}

/* Positional paths are settings like others: they are printed as such. */
static enum rt_status print_config(struct sv_serve_settings *set, const struct sv_arguments *args,
                                   struct rt_error *err)
{
    struct paths paths = { 0 };
    enum rt_status s = collect_paths(set, args, &paths, err);
    if (s == RT_OK && paths.n > SV_OPTION_LIST_MAX)
        s = rt_fail(err, RT_E_LIMIT, "more than %d paths", SV_OPTION_LIST_MAX);
    for (int i = 0; i < paths.n && s == RT_OK; i++)
        set->models.item[i] = paths.item[i];
    if (s == RT_OK) {
        set->models.n = paths.n;
        sv_config_file_print(&sv_serve_command, set, stdout);
    }
    rt_free(paths.item);
    return s;
}

int sv_serve_main(int argc, char **argv)
{
    struct sv_serve_settings set = sv_serve_defaults;
    sv_serve_fit(&set, rt_memory_limit(), rt_cpu_budget());
    struct sv_arguments args;
    struct rt_error err = { .status = RT_OK };
    int status = 0;
    if (!sv_cli_begin(&sv_serve_command, argc, argv, &set, &args, &status))
        return status;
    enum rt_status s;
    if (set.print_config) {
        s = print_config(&set, &args, &err);
    } else {
        sv_log_set((enum sv_log_level)set.log_level, (enum sv_log_format)set.log_format);
        /* Blocked here, so in every thread made from here on: only sigwait() sees them. */
        sigset_t signals;
        make_signals(&signals, true);
        pthread_sigmask(SIG_BLOCK, &signals, NULL);
        signal(SIGPIPE, SIG_IGN);
        s = run(&set, &args, &status, &err);
    }
    if (s != RT_OK)
        status = sv_cli_fail(&sv_serve_command, &err);
    rt_free(args.memory);
    return status;
}
