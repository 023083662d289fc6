/* Whether a request's head may be taken: where the request ends has to be beyond doubt, or a proxy
 * in front and this server could see different requests in the same bytes. Knows nothing of
 * sockets. */
#ifndef SERVER_HEAD_H
#define SERVER_HEAD_H

#include <stdbool.h>
#include <stddef.h>

#include "server/request.h"

/* Bytes of a target (path and query), and of a request line and headers. */
#define SV_TARGET_MAX ((size_t)8 << 10)
#define SV_HEAD_MAX ((size_t)16 << 10)

/* Begins all zero. */
struct sv_head {
    bool http_1_0;     /* else HTTP/1.1 or later */
    size_t target_len; /* path and query */
    size_t len;        /* request line and headers */
    bool folded;       /* a header goes on on the next line */
    bool hidden;       /* there are bytes that are part of no string: behind a zero byte */
    /* Set by sv_head_add(). */
    int n_hosts, n_lengths, n_encodings;
    bool bad_host;        /* one has bytes that no host and port have */
    const char *length;   /* the first Content-Length */
    const char *encoding; /* the first Transfer-Encoding */
    bool expects;         /* to be told before it sends the body: Expect: 100-continue */
    bool differ;          /* another Content-Length says something else */
    const char *bad_name; /* of the first header with bytes that it may not have */
};

/* Notes a header. Both strings must live until the check; value may be NULL. */
void sv_head_add(struct sv_head *h, const char *name, const char *value);
/* Whether the request may be taken; when not, the response says why, and the connection must be
 * closed behind it. */
bool sv_head_check(const struct sv_head *h, struct sv_response *res);

#endif
