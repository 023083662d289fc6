/* Makes log lines and writes each with one call, so that those of two threads do not mix. */
#include "server/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "server/utf8.h"

static atomic_int least = SV_LOG_INFO;
static atomic_int how = SV_LOG_TEXT;

#define MESSAGE_LEN 4001
/* Every byte may become "\u0000", and there is a frame around it. */
#define LINE_LEN (6 * MESSAGE_LEN + 128)

static const char *const level_name[] = { "debug", "info", "warn", "error" };

void sv_log_set(enum sv_log_level level, enum sv_log_format format)
{
    atomic_store(&least, (int)level);
    atomic_store(&how, (int)format);
}

void sv_log_set_level(enum sv_log_level level)
{
    atomic_store(&least, (int)level);
}

bool sv_log_enabled(enum sv_log_level level)
{
    return (int)level >= atomic_load_explicit(&least, memory_order_relaxed);
}

/* Writes message to `to` as it may stand in a line, or within JSON's quotes; returns the end. */
static char *escape(char *to, const char *message, bool json)
{
    size_t len = strlen(message);
    for (size_t i = 0; i < len;) {
        size_t n = sv_utf8_character(message + i, len - i);
        unsigned char c = (unsigned char)message[i];
        if (n == 0) {
            to = stpcpy(to, "\xef\xbf\xbd"); /* U+FFFD */
            n = 1;
        } else if (c < 0x20 || c == 0x7f) {
            to += sprintf(to, "\\u%04x", c);
        } else if (json && (c == '"' || c == '\\')) {
            *to++ = '\\';
            *to++ = (char)c;
        } else {
            memcpy(to, message + i, n);
            to += n;
        }
        i += n;
    }
    return to;
}

static char *put_time(char *to, bool time_of_day)
{
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    if (time_of_day) {
        localtime_r(&now.tv_sec, &tm);
        return to + strftime(to, 32, "%H:%M:%S", &tm);
    }
    gmtime_r(&now.tv_sec, &tm);
    to += strftime(to, 32, "%Y-%m-%dT%H:%M:%S", &tm);
    return to + sprintf(to, ".%03dZ", (int)(now.tv_nsec / 1000000));
}

void sv_log(enum sv_log_level level, const char *fmt, ...)
{
    if (!sv_log_enabled(level))
        return;
    char message[MESSAGE_LEN], line[LINE_LEN];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    char *p = line;
    if (atomic_load_explicit(&how, memory_order_relaxed) == SV_LOG_JSON) {
        p = put_time(stpcpy(p, "{\"time\":\""), false);
        p += sprintf(p, "\",\"level\":\"%s\",\"message\":\"", level_name[level]);
        p = stpcpy(escape(p, message, true), "\"}\n");
    } else {
        p = put_time(p, isatty(STDERR_FILENO) == 1);
        p += sprintf(p, " %-5s ", level_name[level]);
        p = stpcpy(escape(p, message, false), "\n");
    }
    ssize_t written = write(STDERR_FILENO, line, (size_t)(p - line));
    (void)written; /* there is nowhere to report it */
}
