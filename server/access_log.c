/* Makes access log lines, gathers them, and writes many with one call. */
#include "server/access_log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "server/clock.h"
#include "server/numbers.h"
#include "server/text.h"

/* A line is written so long after it was made at the latest, */
#define DELAY_NS (SV_NS_PER_SECOND / 5)
/* ... sooner when so many bytes wait, and by whoever adds to them when it is this many. */
#define MANY ((size_t)64 << 10)
#define TOO_MANY ((size_t)256 << 10)

struct sv_access_log {
    char *path;
    int fd; /* the same number as long as it is open */
    pthread_mutex_t lock;
    pthread_cond_t changed;        /* on CLOCK_MONOTONIC: there are lines, or many, or none left */
    struct sv_text lines, leaving; /* that wait; that are being written */
    bool writing;                  /* somebody is at it, without the lock */
    bool started, stopping;
    pthread_t thread;
    /* The second that the last line was made in, and its text. */
    time_t second;
    char second_text[32];
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
    log->second = -1;
    log->fd = open_file(path);
    if (log->fd < 0) {
        enum rt_status s = fail_open(path, err);
        rt_free(copy);
        rt_free(log);
        return s;
    }
    pthread_mutex_init(&log->lock, NULL);
    sv_clock_condition(&log->changed);
    *out = log;
    return RT_OK;
}

static void write_all(int fd, const char *p, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* there is nowhere to report it */
        p += n;
        len -= (size_t)n;
    }
}

/* Writes what waits. Under the lock, which is given up meanwhile. */
static void flush(struct sv_access_log *log)
{
    while (log->writing)
        pthread_cond_wait(&log->changed, &log->lock);
    if (log->lines.len == 0)
        return;
    const struct sv_text lines = log->lines;
    log->lines = log->leaving;
    log->leaving = lines;
    log->writing = true;
    pthread_mutex_unlock(&log->lock);
    write_all(log->fd, lines.p, lines.len);
    pthread_mutex_lock(&log->lock);
    log->leaving.len = 0;
    log->writing = false;
    pthread_cond_broadcast(&log->changed);
}

void sv_access_log_flush(struct sv_access_log *log)
{
    if (log == NULL)
        return;
    pthread_mutex_lock(&log->lock);
    flush(log);
    pthread_mutex_unlock(&log->lock);
}

/* Sleeps while there is nothing to write. */
static void *write_lines(void *arg)
{
    struct sv_access_log *log = arg;
    pthread_setname_np(pthread_self(), "convd-log");
    pthread_mutex_lock(&log->lock);
    while (!log->stopping) {
        if (log->lines.len == 0) {
            pthread_cond_wait(&log->changed, &log->lock);
            continue;
        }
        const struct timespec until = sv_clock_timespec(sv_now_ns() + DELAY_NS);
        int e = 0;
        while (e == 0 && !log->stopping && log->lines.len < MANY)
            e = pthread_cond_timedwait(&log->changed, &log->lock, &until);
        flush(log);
    }
    pthread_mutex_unlock(&log->lock);
    return NULL;
}

enum rt_status sv_access_log_start(struct sv_access_log *log, struct rt_error *err)
{
    int e = pthread_create(&log->thread, NULL, write_lines, log);
    if (e != 0)
        return rt_fail(err, RT_E_IO, "cannot start a thread: %s", strerror(e));
    log->started = true;
    return RT_OK;
}

void sv_access_log_close(struct sv_access_log *log)
{
    if (log == NULL)
        return;
    pthread_mutex_lock(&log->lock);
    log->stopping = true;
    pthread_cond_broadcast(&log->changed);
    pthread_mutex_unlock(&log->lock);
    if (log->started)
        pthread_join(log->thread, NULL);
    sv_access_log_flush(log);
    close(log->fd);
    sv_text_reset(&log->lines);
    sv_text_reset(&log->leaving);
    pthread_cond_destroy(&log->changed);
    pthread_mutex_destroy(&log->lock);
    rt_free(log->path);
    rt_free(log);
}

enum rt_status sv_access_log_reopen(struct sv_access_log *log, struct rt_error *err)
{
    int fd = open_file(log->path);
    sv_access_log_flush(log); /* lines of before belong to the file of before */
    /* dup3() lets the number stand for the new file at once, for who writes just now, too. */
    if (fd < 0 || dup3(fd, log->fd, O_CLOEXEC) < 0) {
        enum rt_status s = fail_open(log->path, err);
        if (fd >= 0)
            close(fd);
        return s;
    }
    close(fd);
    return RT_OK;
}

/* As three digits. */
static void add_thousandths(struct sv_text *t, unsigned n)
{
    const char digits[] = { (char)('0' + n / 100), (char)('0' + n / 10 % 10),
                            (char)('0' + n % 10) };
    sv_text_bytes(t, digits, sizeof digits);
}

/* Lines come by the hundreds a second: what they share is printed once a second. */
static void add_time(struct sv_access_log *log)
{
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec != log->second) {
        gmtime_r(&now.tv_sec, &tm);
        strftime(log->second_text, sizeof log->second_text, "%Y-%m-%dT%H:%M:%S.", &tm);
        log->second = now.tv_sec;
    }
    sv_text_add(&log->lines, "{\"time\":\"");
    sv_text_add(&log->lines, log->second_text);
    add_thousandths(&log->lines, (unsigned)(now.tv_nsec / 1000000));
    sv_text_add(&log->lines, "Z\"");
}

static void add_key(struct sv_text *t, const char *key)
{
    sv_text_add(t, ",\"");
    sv_text_add(t, key);
    sv_text_add(t, "\":");
}

static void add_string(struct sv_text *t, const char *key, const char *value)
{
    add_key(t, key);
    sv_text_json_str(t, value);
}

static void add_number(struct sv_text *t, const char *key, size_t n)
{
    add_key(t, key);
    sv_text_uint(t, n);
}

/* With three decimals. */
static void add_ms(struct sv_text *t, const char *key, uint64_t ns)
{
    const uint64_t us = ns / 1000;
    add_number(t, key, us / 1000);
    sv_text_add(t, ".");
    add_thousandths(t, (unsigned)(us % 1000));
}

/* Under the lock. */
static void add_line(struct sv_access_log *log, const struct sv_request *req, const char *peer)
{
    struct sv_text *t = &log->lines;
    const struct sv_account *a = &req->account;
    add_time(log);
    add_string(t, "id", req->id);
    add_string(t, "peer", peer);
    add_string(t, "method", req->method);
    add_string(t, "path", req->path);
    add_number(t, "status", (size_t)sv_request_status(req));
    add_number(t, "request_bytes", req->body_len);
    add_number(t, "response_bytes", req->response.body_len);
    add_ms(t, "total_ms", sv_now_ns() - req->arrival);
    if (a->model != NULL) {
        add_string(t, "model", a->model);
        add_string(t, "version", a->version);
        add_number(t, "batch_size", (size_t)a->batch);
        add_ms(t, "decode_ms", a->decode_ns);
        add_ms(t, "queue_ms", a->queue_ns);
        add_ms(t, "compute_ms", a->compute_ns);
    }
    if (req->trace[0] != '\0')
        add_string(t, "trace_id", req->trace);
    sv_text_add(t, "}\n");
}

void sv_access_log_write(struct sv_access_log *log, const struct sv_request *req)
{
    char peer[SV_PEER] = "";
    if (req->find_peer != NULL)
        req->find_peer(req, peer);
    pthread_mutex_lock(&log->lock);
    if (log->lines.len >= TOO_MANY)
        flush(log);
    const size_t before = log->lines.len;
    add_line(log, req, peer);
    if (log->lines.failed) { /* out of memory: this one is left out */
        log->lines.failed = false;
        log->lines.len = before;
    }
    if (before == 0 || (before < MANY && log->lines.len >= MANY))
        pthread_cond_broadcast(&log->changed);
    pthread_mutex_unlock(&log->lock);
}
