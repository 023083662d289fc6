/* Fills errors. */
#include "runtime/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#undef rt_fail
#undef rt_fail_nomem

enum rt_status rt_fail(struct rt_error *err, enum rt_status status, const char *fmt, ...)
{
    if (err != NULL) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
        err->status = status;
    }
    return status;
}

enum rt_status rt_fail_nomem(struct rt_error *err, unsigned long long bytes)
{
    return rt_fail(err, RT_E_NOMEM, "out of memory: %llu bytes could not be allocated", bytes);
}

void rt_error_prefix(struct rt_error *err, const char *fmt, ...)
{
    if (err == NULL)
        return;
    char context[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(context, sizeof context, fmt, ap);
    va_end(ap);
    size_t front = strlen(context) + 2, old = strlen(err->text);
    if (old > sizeof err->text - 1 - front)
        old = sizeof err->text - 1 - front;
    memmove(err->text + front, err->text, old);
    err->text[front + old] = '\0';
    memcpy(err->text, context, front - 2);
    memcpy(err->text + front - 2, ": ", 2);
}

const char *rt_status_name(enum rt_status status)
{
    static const char *const name[] = {
        [RT_OK] = "ok",
        [RT_E_NOMEM] = "out of memory",
        [RT_E_INVALID] = "invalid",
        [RT_E_UNSUPPORTED] = "unsupported",
        [RT_E_LIMIT] = "over a limit",
        [RT_E_IO] = "i/o",
        [RT_E_NOT_FOUND] = "not found",
        [RT_E_BUSY] = "busy",
        [RT_E_TIMEOUT] = "timeout",
        [RT_E_DYNAMIC] = "dynamic",
    };
    return name[status];
}
