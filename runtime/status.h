/* Results: the few statuses a caller can act on, and one sentence for a human. */
#ifndef RUNTIME_STATUS_H
#define RUNTIME_STATUS_H

#pragma GCC visibility push(default)

enum rt_status {
    RT_OK = 0,
    RT_E_NOMEM,       /* an allocation failed */
    RT_E_INVALID,     /* the file or the request is wrong */
    RT_E_UNSUPPORTED, /* it may be right, but this program does not do it */
    RT_E_LIMIT,       /* a stated bound (memory, size, depth, count) was passed */
    RT_E_IO,          /* reading, writing or the system failed */
    RT_E_NOT_FOUND,   /* no model, file or route of that name */
    RT_E_BUSY,        /* full or stopping: try again later */
    RT_E_TIMEOUT,     /* a deadline passed before the work was done */
    RT_E_DYNAMIC,     /* a shape depends on tensor data; stays inside runtime/ */
};

struct rt_error {
    enum rt_status status;
    char text[2048]; /* one sentence, no newline at its end; empty when status is RT_OK */
};

/* Fills *err (err may be NULL) and returns status, so that a failure is one line:
 *     return rt_fail(err, RT_E_INVALID, "%s: stride must be positive, got %d", name, s); */
enum rt_status rt_fail(struct rt_error *err, enum rt_status status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* As rt_fail(), for an allocation of bytes that could not be had. */
enum rt_status rt_fail_nomem(struct rt_error *err, unsigned long long bytes);

/* Who analyses a file sees into no other one, and is told what these return. */
#ifdef __clang_analyzer__
#define rt_fail(err, status, ...) (rt_fail(err, status, __VA_ARGS__), (status))
#define rt_fail_nomem(err, bytes) (rt_fail_nomem(err, bytes), RT_E_NOMEM)
#endif

/* Puts "context: " in front of the sentence that *err holds. */
void rt_error_prefix(struct rt_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The status's name in lower case ("invalid", "unsupported", ...), for logs and metrics. */
const char *rt_status_name(enum rt_status status);

#pragma GCC visibility pop

#endif
