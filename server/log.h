/* The log: one line a message on standard error, as text or as JSON. Any thread may log. */
#ifndef SERVER_LOG_H
#define SERVER_LOG_H

#include <stdbool.h>

enum sv_log_level {
    SV_LOG_DEBUG,
    SV_LOG_INFO,
    SV_LOG_WARN,
    SV_LOG_ERROR,
    SV_LOG_OFF, /* of no message: as the least level it drops them all */
};

enum sv_log_format {
    SV_LOG_TEXT, /* "2026-01-31T12:00:00.123Z warn  message"; on a terminal, the time of day only */
    SV_LOG_JSON, /* {"time":"...","level":"warn","message":"..."} */
};

/* Messages below level are dropped. Before the first call: info, text. May be called again. */
void sv_log_set(enum sv_log_level level, enum sv_log_format format);
/* Changes the level alone. */
void sv_log_set_level(enum sv_log_level level);
/* Whether a message of this level would be written, where making it is work. */
bool sv_log_enabled(enum sv_log_level level);

/* Writes one line. Control characters of the message are escaped, so that what a client sent
 * cannot forge a line; what is over 4000 bytes is cut. */
void sv_log(enum sv_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
