/* Makes access log lines and writes each with one call. */
#include "server/access_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "server/clock.h"
#include "server/text.h"

struct sv_access_log {
    char *path;
    int fd; /* the same number as long as it is open */
};

static int open_file(const char *path)
{
    return strcmp(path, "-") == 0 ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)
                                  : open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
}

static enum rt_status fail_open(const char *path, struct rt_error *err)
{
    return rt_fail(err, RT_E_IO, "%s: the access log cannot be opened: %s", path, strerror(errno));
}

enum rt_status sv_access_log_open(const char *path, struct sv_access_log **out,
                                  struct rt_error *err)
{
    struct sv_access_log *log = rt_zalloc(sizeof *log);
    char *copy = rt_strdup(path);
    if (log == NULL || copy == NULL) {
        rt_free(log);
        rt_free(copy);
        return rt_fail_nomem(err, sizeof *log + strlen(path));
    }
    log->path = copy;
    log->fd = open_file(path);
    if (log->fd < 0) {
        enum rt_status s = fail_open(path, err);
        rt_free(copy);
        rt_free(log);
        return s;
    }
    *out = log;
    return RT_OK;
}

void sv_access_log_close(struct sv_access_log *log)
{
    if (log == NULL)
        return;
    close(log->fd);
    rt_free(log->path);
    rt_free(log);
}

enum rt_status sv_access_log_reopen(struct sv_access_log *log, struct rt_error *err)
{
    int fd = open_file(log->path);
    /* dup3() lets the number stand for the new file at once, for those who write just now, too. */
    if (fd < 0 || dup3(fd, log->fd, O_CLOEXEC) < 0) {
        enum rt_status s = fail_open(log->path, err);
        if (fd >= 0)
            close(fd);
        return s;
    }
    close(fd);
    return RT_OK;
}

static void add_time(struct sv_text *t)
{
    struct timespec now;
    struct tm tm;
    char text[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    sv_text_printf(t, "{\"time\":\"%s.%03dZ\"", text, (int)(now.tv_nsec / 1000000));
}

static void add_string(struct sv_text *t, const char *key, const char *value)
{
    sv_text_printf(t, ",\"%s\":", key);
    sv_text_json_str(t, value);
}

static void add_ms(struct sv_text *t, const char *key, uint64_t ns)
{
    sv_text_printf(t, ",\"%s\":%.3f", key, (double)ns / 1e6);
}

void sv_access_log_write(struct sv_access_log *log, const struct sv_request *req)
{
    struct sv_text t = { 0 };
    const struct sv_account *a = &req->account;
    char peer[SV_PEER] = "";
    if (req->find_peer != NULL)
        req->find_peer(req, peer);
    add_time(&t);
    add_string(&t, "id", req->id);
    add_string(&t, "peer", peer);
    add_string(&t, "method", req->method);
    add_string(&t, "path", req->path);
    sv_text_printf(&t, ",\"status\":%d,\"request_bytes\":%zu,\"response_bytes\":%zu",
                   sv_request_status(req), req->body_len, req->response.body_len);
    add_ms(&t, "total_ms", sv_now_ns() - req->arrival);
    if (a->model != NULL) {
        add_string(&t, "model", a->model);
        add_string(&t, "version", a->version);
        sv_text_printf(&t, ",\"batch_size\":%d", a->batch);
        add_ms(&t, "decode_ms", a->decode_ns);
        add_ms(&t, "queue_ms", a->queue_ns);
        add_ms(&t, "compute_ms", a->compute_ns);
    }
    if (req->trace[0] != '\0')
        add_string(&t, "trace_id", req->trace);
    sv_text_add(&t, "}\n");
    if (!t.failed) {
        ssize_t written = write(log->fd, t.p, t.len);
        (void)written; /* there is nowhere to report it */
    }
    sv_text_reset(&t);
}
