/* The `serve` command: options, signals, start and stop in order. */
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/app.h"
#include "server/banner.h"
#include "server/cli.h"
#include "server/clock.h"
#include "server/file.h"
#include "server/http.h"
#include "server/log.h"
#include "server/routes.h"

struct settings {
    const char *host;
    int port;
    int threads;
    int max_batch;
    int max_queue;
    size_t max_body;
    size_t max_pixels;
    int max_connections;
    int idle_timeout;
    double drain_timeout;
    bool exact;
    int log_level;
    int log_format;
};

#define AT(field) .offset = offsetof(struct settings, field)

static const struct sv_option options[] = {
    { .name = "host",
      .type = SV_OPTION_STRING,
      AT(host),
      .value = "ADDRESS",
      .help = "address or host name to listen on",
      .none = "every address" },
    { .name = "port",
      .letter = 'p',
      .type = SV_OPTION_INT,
      AT(port),
      .value = "N",
      .help = "TCP port; 0 takes any that is free",
      .min = 0,
      .max = 65535 },
    { .name = "threads",
      .letter = 't',
      .type = SV_OPTION_INT,
      AT(threads),
      .value = "N",
      .help = "cores to compute with",
      .min = 0,
      .max = 1024,
      .none = "what the machine or container allows" },
    { .name = "max-batch",
      .type = SV_OPTION_INT,
      AT(max_batch),
      .value = "N",
      .help = "samples that a run may hold, for models whose config.json does not say",
      .min = 1,
      .max = 4096 },
    { .name = "max-queue",
      .type = SV_OPTION_INT,
      AT(max_queue),
      .value = "N",
      .help = "requests that may wait for one model, likewise; more are refused with 503",
      .min = 1,
      .max = 1000000 },
    { .name = "max-body",
      .type = SV_OPTION_SIZE,
      AT(max_body),
      .value = "BYTES",
      .help = "largest body of a request; larger ones are refused with 413",
      .min = 1,
      .max = 0x1p40 },
    { .name = "max-pixels",
      .type = SV_OPTION_SIZE,
      AT(max_pixels),
      .value = "N",
      .help = "width times height that a picture may have",
      .min = 1,
      .max = 0x1p31 },
    { .name = "max-connections",
      .type = SV_OPTION_INT,
      AT(max_connections),
      .value = "N",
      .help = "connections open at a time",
      .min = 1,
      .max = 1000000 },
    { .name = "idle-timeout",
      .type = SV_OPTION_INT,
      AT(idle_timeout),
      .value = "SECONDS",
      .help = "how long a connection may rest",
      .min = 1,
      .max = 86400 },
    { .name = "drain-timeout",
      .type = SV_OPTION_SECONDS,
      AT(drain_timeout),
      .value = "SECONDS",
      .help = "how long requests at work may take to finish after SIGTERM",
      .min = 0,
      .max = 86400 },
    { .name = "exact",
      .type = SV_OPTION_FLAG,
      AT(exact),
      .help = "use no algorithm that reorders sums" },
    { .name = "log-level",
      .type = SV_OPTION_CHOICE,
      AT(log_level),
      .choices = "debug|info|warn|error",
      .help = "least important messages to write" },
    { .name = "log-format",
      .type = SV_OPTION_CHOICE,
      AT(log_format),
      .choices = "text|json",
      .help = "of the lines on standard error" },
    { .name = NULL },
};

static const struct sv_command command = {
    .name = "serve",
    .usage = "[PATH...]",
    .summary =
        "Loads models and answers predictions over HTTP until SIGTERM or SIGINT.\n"
        "A PATH is an .onnx file, a folder of them, a folder NAME/ with a model.onnx, or one with\n"
        "numbered versions NAME/1/model.onnx; config.json and labels.txt beside a model.onnx are\n"
        "used. Without a PATH the bundled model, models/fashion, is served.",
    .options = options,
    .environment = true,
    .epilogue = "SIGTERM or SIGINT: readiness goes false, requests at work are finished, exit 0.\n"
                "A second one ends at once.\n\n"
                "Example:\n"
                "  convd serve model.onnx --port 8080",
};

static const struct settings defaults = {
    .host = NULL,
    .port = 8000,
    .max_batch = 8,
    .max_queue = 256,
    .max_body = (size_t)64 << 20,
    .max_pixels = SV_IMAGE_MAX_PIXELS,
    .max_connections = 4096,
    .idle_timeout = 75,
    .drain_timeout = 30,
    .log_level = SV_LOG_INFO,
    .log_format = SV_LOG_TEXT,
};

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

/* Fails when a path holds nothing, or no model at all could be loaded. */
static enum rt_status load_models(struct sv_registry *r, const struct sv_arguments *paths,
                                  struct rt_error *err)
{
    enum rt_status s = RT_OK;
    for (int i = 0; i < paths->n && s == RT_OK; i++)
        s = sv_registry_add(r, paths->item[i], err);
    char bundled[PATH_MAX];
    if (paths->n == 0)
        s = bundled_model(bundled)
                ? sv_registry_add(r, bundled, err)
                : rt_fail(err, RT_E_NOT_FOUND, "which model? Try '" SV_NAME " serve model.onnx'");
    struct sv_model *any = NULL;
    if (s == RT_OK)
        s = sv_registry_default(r, &any, err);
    if (s == RT_OK)
        sv_model_release(any);
    return s;
}

static void handle(void *context, struct sv_request *req)
{
    sv_route(context, req);
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
            return false;
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

/* Serves until a signal comes. */
static enum rt_status serve(struct sv_app *app, const struct settings *set, const sigset_t *signals,
                            int *status, struct rt_error *err)
{
    const char *host = set->host != NULL ? set->host : "";
    const struct sv_http_options http_options = {
        .host = host,
        .port = set->port,
        .max_body = set->max_body,
        .max_connections = set->max_connections,
        .idle_timeout = set->idle_timeout,
        .handle = handle,
        .context = app,
    };
    struct sv_http *http;
    enum rt_status s = sv_http_start(&http_options, &http, err);
    if (s != RT_OK)
        return s;
    atomic_store(&app->ready, true);
    sv_banner_address(app->registry, host, sv_http_port(http),
                      set->log_format == SV_LOG_TEXT && set->log_level <= SV_LOG_INFO);
    int sig;
    sigwait(signals, &sig);
    *status = stop(app, http, signals, set->drain_timeout);
    return RT_OK;
}

/* Makes what the server stands on, serves, and takes it down again. */
static enum rt_status run(const struct settings *set, const struct sv_arguments *paths,
                          const sigset_t *signals, int *status, struct rt_error *err)
{
    int budget = set->threads > 0 ? set->threads : rt_cpu_budget();
    struct sv_cores *cores = NULL;
    struct sv_app app = {
        .limits = { .max_body = set->max_body, .max_pixels = (int64_t)set->max_pixels },
        .started = sv_now_ns(),
    };
    atomic_init(&app.ready, false);
    enum rt_status s = sv_cores_create(budget, &cores, err);
    if (s == RT_OK) {
        const struct sv_registry_options o = {
            .max_batch = set->max_batch,
            .max_queue = set->max_queue,
            .cores = cores,
            .max_pixels = set->max_pixels,
            .exact = set->exact,
        };
        s = sv_registry_create(&o, &app.registry, err);
    }
    if (s == RT_OK)
        s = load_models(app.registry, paths, err);
    if (s == RT_OK) {
        sv_banner_models(app.registry);
        s = sv_pool_create(budget, set->max_queue, &app.pool, err);
    }
    if (s == RT_OK)
        s = serve(&app, set, signals, status, err);
    sv_pool_destroy(app.pool);
    sv_registry_destroy(app.registry);
    sv_cores_destroy(cores);
    return s;
}

int sv_serve_main(int argc, char **argv)
{
    struct settings set = defaults;
    struct sv_arguments paths;
    struct rt_error err = { .status = RT_OK };
    int status = 0;
    if (!sv_cli_begin(&command, argc, argv, &set, &paths, &status))
        return status;
    sv_log_set((enum sv_log_level)set.log_level, (enum sv_log_format)set.log_format);
    /* Blocked here, so in every thread made from here on: only sigwait() sees them. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (run(&set, &paths, &signals, &status, &err) != RT_OK)
        return sv_cli_fail(&command, &err);
    return status;
}
