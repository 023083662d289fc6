/* Writes the metrics page. The samples of a metric stand together, so each metric goes through all
 * models. */
#include "server/prometheus.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "server/clock.h"
#include "server/file.h"
#include "server/http.h"

static void head(struct sv_text *t, const char *name, const char *type, const char *help)
{
    sv_text_printf(t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A label's value: backslash, quote and newline are escaped. */
static void label_value(struct sv_text *t, const char *value)
{
    for (; *value != '\0'; value++) {
        if (*value == '\\' || *value == '"')
            sv_text_add(t, "\\");
        if (*value == '\n')
            sv_text_add(t, "\\n");
        else
            sv_text_bytes(t, value, 1);
    }
}

static void labels(struct sv_text *t, const struct sv_entry *e)
{
    sv_text_add(t, "model=\"");
    label_value(t, e->name);
    sv_text_printf(t, "\",version=\"%s\"", e->version_text);
}

static void seconds(struct sv_text *t, uint64_t ns)
{
    sv_text_printf(t, "%llu.%09llu", (unsigned long long)(ns / SV_NS_PER_SECOND),
                   (unsigned long long)(ns % SV_NS_PER_SECOND));
}

/* One counter of every model that is served; scale: nanoseconds become microseconds with 1000. */
static void per_model(struct sv_text *t, const struct sv_model_list *list, const char *name,
                      const char *help, size_t offset, uint64_t scale)
{
    head(t, name, "counter", help);
    for (int i = 0; i < list->n; i++) {
        const struct sv_entry *e = &list->entry[i];
        if (e->model == NULL)
            continue;
        const _Atomic uint64_t *value = (const void *)((const char *)&e->model->stats + offset);
        sv_text_printf(t, "%s{", name);
        labels(t, e);
        sv_text_printf(t, "} %llu\n", (unsigned long long)(sv_read(value) / scale));
    }
}

static void histogram(struct sv_text *t, const struct sv_model_list *list, const char *name,
                      const char *help, size_t offset)
{
    head(t, name, "histogram", help);
    for (int i = 0; i < list->n; i++) {
        const struct sv_entry *e = &list->entry[i];
        if (e->model == NULL)
            continue;
        const struct sv_histogram *h = (const void *)((const char *)&e->model->stats + offset);
        uint64_t n = 0;
        for (int b = 0; b <= SV_BUCKETS; b++) {
            n += sv_read(&h->bucket[b]);
            sv_text_printf(t, "%s_bucket{", name);
            labels(t, e);
            if (b < SV_BUCKETS)
                sv_text_printf(t, ",le=\"%g\"} ", (double)sv_bucket_ns[b] / 1e9);
            else
                sv_text_add(t, ",le=\"+Inf\"} ");
            sv_text_printf(t, "%llu\n", (unsigned long long)n);
        }
        sv_text_printf(t, "%s_sum{", name);
        labels(t, e);
        sv_text_add(t, "} ");
        seconds(t, sv_read(&h->ns));
        sv_text_printf(t, "\n%s_count{", name);
        labels(t, e);
        sv_text_printf(t, "} %llu\n", (unsigned long long)n);
    }
}

static void batch_sizes(struct sv_text *t, const struct sv_model_list *list)
{
    static const char name[] = "convd_batch_size";
    head(t, name, "histogram", "Samples in one execution of the model.");
    for (int i = 0; i < list->n; i++) {
        const struct sv_entry *e = &list->entry[i];
        if (e->model == NULL)
            continue;
        const struct sv_stats *s = &e->model->stats;
        uint64_t n = 0, sum = 0;
        for (int b = 1; b <= s->max_batch; b++) {
            uint64_t count = sv_read(&s->batch[b - 1].compute_infer.count);
            n += count;
            sum += count * (uint64_t)b;
            if ((b & (b - 1)) != 0 && b != s->max_batch)
                continue; /* powers of two, and the largest */
            sv_text_printf(t, "%s_bucket{", name);
            labels(t, e);
            sv_text_printf(t, ",le=\"%d\"} %llu\n", b, (unsigned long long)n);
        }
        sv_text_printf(t, "%s_bucket{", name);
        labels(t, e);
        sv_text_printf(t, ",le=\"+Inf\"} %llu\n%s_sum{", (unsigned long long)n, name);
        labels(t, e);
        sv_text_printf(t, "} %llu\n%s_count{", (unsigned long long)sum, name);
        labels(t, e);
        sv_text_printf(t, "} %llu\n", (unsigned long long)n);
    }
}

static void outcome(struct sv_text *t, const char *name, const struct sv_entry *e, const char *key,
                    const char *word, uint64_t value)
{
    sv_text_printf(t, "%s{", name);
    labels(t, e);
    sv_text_printf(t, ",%s=\"%s\"} %llu\n", key, word, (unsigned long long)value);
}

/* Failures by reason. Each is counted once: what is not one of the known reasons is the rest. */
static void outcomes(struct sv_text *t, const struct sv_model_list *list)
{
    static const char ours[] = "convd_requests_total", theirs[] = "nv_inference_request_failure";
    for (int pass = 0; pass < 2; pass++) {
        head(t, pass == 0 ? ours : theirs, "counter",
             pass == 0 ? "Requests by what became of them."
                       : "Number of failed inference requests, all batch sizes.");
        for (int i = 0; i < list->n; i++) {
            const struct sv_entry *e = &list->entry[i];
            if (e->model == NULL)
                continue;
            const struct sv_stats *s = &e->model->stats;
            uint64_t failed = sv_read(&s->fail.count), rejected = sv_read(&s->rejected),
                     late = sv_read(&s->timed_out), cancelled = sv_read(&s->cancelled),
                     known = rejected + late + cancelled,
                     other = failed > known ? failed - known : 0;
            if (pass == 0) {
                outcome(t, ours, e, "outcome", "success", sv_read(&s->success.count));
                outcome(t, ours, e, "outcome", "rejected", rejected);
                outcome(t, ours, e, "outcome", "timeout", late);
                outcome(t, ours, e, "outcome", "cancelled", cancelled);
                outcome(t, ours, e, "outcome", "failed", other);
            } else {
                outcome(t, theirs, e, "reason", "REJECTED", rejected);
                outcome(t, theirs, e, "reason", "CANCELED", cancelled);
                outcome(t, theirs, e, "reason", "BACKEND", 0);
                outcome(t, theirs, e, "reason", "OTHER", other + late);
            }
        }
    }
}

static void model_gauges(struct sv_text *t, const struct sv_model_list *list)
{
    static const struct {
        const char *name, *type, *help;
    } metric[] = {
        { "convd_model_ready", "gauge", "Whether the version is served." },
        { "convd_model_loads_total", "counter", "How often the version was loaded." },
        { "convd_model_load_failures_total", "counter", "How often loading the version failed." },
        { "convd_model_load_seconds", "gauge", "How long loading it took." },
        { "convd_model_bytes", "gauge", "Memory of weights and of one session's activations." },
        { "convd_queue_length", "gauge", "Requests that wait now." },
        { "nv_inference_pending_request_count", "gauge",
          "Instantaneous number of pending requests awaiting execution per model." },
    };
    for (size_t k = 0; k < sizeof metric / sizeof metric[0]; k++) {
        head(t, metric[k].name, metric[k].type, metric[k].help);
        for (int i = 0; i < list->n; i++) {
            const struct sv_entry *e = &list->entry[i];
            struct rt_model_info info;
            if (k >= 3 && e->model == NULL)
                continue;
            sv_text_printf(t, "%s{", metric[k].name);
            labels(t, e);
            sv_text_add(t, "} ");
            switch (k) {
            case 0:
                sv_text_int(t, e->model != NULL);
                break;
            case 1:
                sv_text_uint(t, e->loads);
                break;
            case 2:
                sv_text_uint(t, e->failures);
                break;
            case 3:
                sv_text_printf(t, "%.6f", e->model->load_seconds);
                break;
            case 4:
                rt_model_info(e->model->rt, &info);
                sv_text_uint(t, info.weight_bytes + info.activation_bytes);
                break;
            default:
                sv_text_int(t, sv_batcher_waiting(e->model->batcher));
            }
            sv_text_add(t, "\n");
        }
    }
}

#define STATS(member) offsetof(struct sv_stats, member)

static void models(struct sv_text *t, const struct sv_model_list *list)
{
    model_gauges(t, list);
    outcomes(t, list);
    per_model(t, list, "convd_samples_total", "Samples that were run.", STATS(inference_count), 1);
    per_model(t, list, "convd_executions_total", "Executions of the model.", STATS(execution_count),
              1);
    batch_sizes(t, list);
    histogram(t, list, "convd_request_duration_seconds",
              "From a request's arrival to its answer, of those that succeeded.",
              STATS(request_time));
    histogram(t, list, "convd_queue_duration_seconds", "What they waited for an executor.",
              STATS(queue_time));
    histogram(t, list, "convd_compute_duration_seconds", "What running the model took.",
              STATS(compute_time));
    histogram(t, list, "convd_decode_duration_seconds", "What understanding their bodies took.",
              STATS(decode_time));
    per_model(t, list, "nv_inference_request_success",
              "Number of successful inference requests, all batch sizes.", STATS(success.count), 1);
    per_model(t, list, "nv_inference_count",
              "Number of inferences performed (does not include cached requests).",
              STATS(inference_count), 1);
    per_model(t, list, "nv_inference_exec_count",
              "Number of model executions performed (does not include cached requests).",
              STATS(execution_count), 1);
    per_model(t, list, "nv_inference_request_duration_us",
              "Cumulative inference request duration in microseconds.", STATS(success.ns), 1000);
    per_model(t, list, "nv_inference_queue_duration_us",
              "Cumulative inference queuing duration in microseconds.", STATS(queue.ns), 1000);
    per_model(t, list, "nv_inference_compute_input_duration_us",
              "Cumulative compute input duration in microseconds.", STATS(compute_input.ns), 1000);
    per_model(t, list, "nv_inference_compute_infer_duration_us",
              "Cumulative compute inference duration in microseconds.", STATS(compute_infer.ns),
              1000);
    per_model(t, list, "nv_inference_compute_output_duration_us",
              "Cumulative inference compute output duration in microseconds.",
              STATS(compute_output.ns), 1000);
}

static void gauge(struct sv_text *t, const char *name, const char *help, int64_t value)
{
    head(t, name, "gauge", help);
    sv_text_printf(t, "%s %lld\n", name, (long long)value);
}

static void server(struct sv_app *app, struct sv_text *t)
{
    head(t, "convd_build_info", "gauge", "The program, and the kernels it chose.");
    sv_text_printf(t, "convd_build_info{version=\"%s\",isa=\"%s\"} 1\n", SV_VERSION, rt_isa());
    gauge(t, "convd_ready", "Whether new work is taken.", atomic_load(&app->ready));
    if (app->http != NULL) {
        gauge(t, "convd_connections", "Connections that are open.", sv_http_connections(app->http));
        gauge(t, "convd_requests_in_flight", "Requests that have arrived and are not answered yet.",
              sv_http_in_flight(app->http));
        head(t, "convd_body_bytes", "gauge", "Memory held for the bodies of requests.");
        sv_text_printf(t, "convd_body_bytes %zu\n", sv_http_body_bytes(app->http));
        head(t, "convd_answer_bytes", "gauge", "Memory held for answers that are being sent.");
        sv_text_printf(t, "convd_answer_bytes %zu\n", sv_http_answer_bytes(app->http));
    }
    head(t, "convd_http_responses_total", "counter",
         "Answers by HTTP status; 499: the client did not wait for it.");
    for (int i = 0; i < SV_STATUS_MAX; i++)
        if (sv_read(&app->stats.answers[i]) > 0)
            sv_text_printf(t, "convd_http_responses_total{code=\"%d\"} %llu\n", i,
                           (unsigned long long)sv_read(&app->stats.answers[i]));
    head(t, "convd_http_received_bytes_total", "counter", "Bytes of requests' bodies.");
    sv_text_printf(t, "convd_http_received_bytes_total %llu\n",
                   (unsigned long long)sv_read(&app->stats.received));
    head(t, "convd_http_sent_bytes_total", "counter", "Bytes of answers' bodies.");
    sv_text_printf(t, "convd_http_sent_bytes_total %llu\n",
                   (unsigned long long)sv_read(&app->stats.sent));
}

static int count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = -3; /* ".", ".." and the folder itself */
    if (dir == NULL)
        return 0;
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

/* Field i, from 1, of /proc/self/stat, which is at least the 3rd. */
static unsigned long long stat_field(const char *stat, int i)
{
    const char *p = strrchr(stat, ')'); /* the 2nd field, which may hold anything */
    for (int at = 2; p != NULL && at < i; at++)
        p = strchr(p + 1, ' ');
    return p != NULL ? strtoull(p + 1, NULL, 10) : 0;
}

static double boot_time(void)
{
    struct timespec now, since;
    clock_gettime(CLOCK_REALTIME, &now);
    clock_gettime(CLOCK_BOOTTIME, &since);
    return (double)(now.tv_sec - since.tv_sec) + (double)(now.tv_nsec - since.tv_nsec) / 1e9;
}

/* The names that Prometheus' own client libraries use. */
static void process(struct sv_text *t)
{
    struct rusage used;
    struct rlimit files;
    void *stat = NULL;
    size_t len;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                 (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    head(t, "process_cpu_seconds_total", "counter", "Processor time, user and system.");
    sv_text_printf(t, "process_cpu_seconds_total %.6f\n", cpu);
    if (sv_file_read("/proc/self/stat", 0, &stat, &len, NULL) == RT_OK) {
        gauge(t, "process_threads", "Threads.", (int64_t)stat_field(stat, 20));
        head(t, "process_start_time_seconds", "gauge", "Unix time at which it started.");
        sv_text_printf(t, "process_start_time_seconds %.2f\n",
                       boot_time() + (double)stat_field(stat, 22) / (double)sysconf(_SC_CLK_TCK));
        gauge(t, "process_virtual_memory_bytes", "Address space.", (int64_t)stat_field(stat, 23));
        gauge(t, "process_resident_memory_bytes", "Memory that is resident.",
              (int64_t)stat_field(stat, 24) * sysconf(_SC_PAGESIZE));
    }
    rt_free(stat);
    gauge(t, "process_open_fds", "Open file descriptors.", count_fds());
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        gauge(t, "process_max_fds", "File descriptors that may be open.", (int64_t)files.rlim_cur);
}

enum rt_status sv_prometheus_write(struct sv_app *app, struct sv_text *to, struct rt_error *err)
{
    struct sv_model_list list;
    enum rt_status s = sv_registry_list(app->registry, NULL, &list, err);
    if (s != RT_OK)
        return s;
    server(app, to);
    models(to, &list);
    process(to);
    sv_model_list_reset(&list);
    return RT_OK;
}
