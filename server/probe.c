/* The other end of HTTP, as little of it as a health check needs: plain sockets, or GnuTLS on one.
 */
#include "server/probe.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "server/clock.h"

/* Behind "HTTP/1.1 " stand three digits. */
#define STATUS_LINE 12

struct connection {
    int fd;
    uint64_t deadline;
    gnutls_session_t tls; /* NULL: plain */
};

/* Lets the socket's next call take what is left of the time; false when nothing is. */
static bool limit_next_call(const struct connection *c)
{
    const uint64_t now = sv_now_ns();
    if (now >= c->deadline)
        return false;
    const uint64_t us = (c->deadline - now) / 1000 + 1;
    const struct timeval left = { .tv_sec = (time_t)(us / 1000000),
                                  .tv_usec = (suseconds_t)(us % 1000000) };
    return setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &left, sizeof left) == 0 &&
           setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &left, sizeof left) == 0;
}

/* What errno means when a call on a socket with a limit failed. */
static const char *reason(void)
{
    return errno == EAGAIN || errno == EINPROGRESS || errno == ETIMEDOUT ? "no answer in time"
                                                                         : strerror(errno);
}

static enum rt_status connect_any(const struct sv_probe *p, struct connection *c,
                                  struct rt_error *err)
{
    const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
    struct addrinfo *list;
    char port[16];
    snprintf(port, sizeof port, "%d", p->port);
    int e = getaddrinfo(p->host, port, &hints, &list);
    if (e != 0)
        return rt_fail(err, RT_E_IO, "%s: %s", p->host != NULL ? p->host : "localhost",
                       e == EAI_SYSTEM ? strerror(errno) : gai_strerror(e));
    const char *why = "no address";
    for (const struct addrinfo *a = list; a != NULL; a = a->ai_next) {
        c->fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (c->fd >= 0 && limit_next_call(c) && connect(c->fd, a->ai_addr, a->ai_addrlen) == 0)
            break;
        why = reason();
        if (c->fd >= 0)
            close(c->fd);
        c->fd = -1;
    }
    freeaddrinfo(list);
    return c->fd >= 0 ? RT_OK : rt_fail(err, RT_E_IO, "cannot connect: %s", why);
}

static enum rt_status begin_tls(struct connection *c, gnutls_certificate_credentials_t credentials,
                                struct rt_error *err)
{
    int e = gnutls_init(&c->tls, GNUTLS_CLIENT);
    if (e >= 0)
        e = gnutls_set_default_priority(c->tls);
    if (e >= 0)
        e = gnutls_credentials_set(c->tls, GNUTLS_CRD_CERTIFICATE, credentials);
    if (e >= 0) {
        gnutls_transport_set_int(c->tls, c->fd);
        const uint64_t now = sv_now_ns();
        gnutls_handshake_set_timeout(
            c->tls, now < c->deadline ? (unsigned)((c->deadline - now) / 1000000) + 1 : 1);
        do
            e = gnutls_handshake(c->tls);
        while (e < 0 && gnutls_error_is_fatal(e) == 0);
    }
    return e >= 0 ? RT_OK
                  : rt_fail(err, RT_E_IO, "TLS: %s; a server without --tls-cert speaks http only",
                            gnutls_strerror(e));
}

static ssize_t put(const struct connection *c, const char *bytes, size_t len)
{
    return c->tls != NULL ? gnutls_record_send(c->tls, bytes, len)
                          : send(c->fd, bytes, len, MSG_NOSIGNAL);
}

static ssize_t take(const struct connection *c, char *bytes, size_t len)
{
    return c->tls != NULL ? gnutls_record_recv(c->tls, bytes, len) : recv(c->fd, bytes, len, 0);
}

static enum rt_status ask(const struct sv_probe *p, const struct connection *c, int *status,
                          struct rt_error *err)
{
    char request[512], line[STATUS_LINE + 1] = "";
    int len = snprintf(request, sizeof request,
                       "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", p->path,
                       p->host != NULL ? p->host : "localhost");
    if (len < 0 || (size_t)len >= sizeof request)
        return rt_fail(err, RT_E_LIMIT, "host and path are longer than %zu characters",
                       sizeof request);
    if (!limit_next_call(c) || put(c, request, (size_t)len) != len)
        return rt_fail(err, RT_E_IO, "the connection broke before the request was sent");
    for (size_t n = 0; n < STATUS_LINE;) {
        errno = ETIMEDOUT;
        ssize_t got = limit_next_call(c) ? take(c, line + n, STATUS_LINE - n) : -1;
        if (got < 0)
            return rt_fail(err, RT_E_IO, "%s",
                           c->tls != NULL ? gnutls_strerror((int)got) : reason());
        if (got == 0)
            return rt_fail(err, RT_E_IO, "the connection was closed without an answer%s",
                           c->tls != NULL ? "" : "; a server with --tls-cert speaks https only");
        n += (size_t)got;
    }
    /* NOLINTNEXTLINE(cert-err34-c): three digits fit */
    if (sscanf(line, "HTTP/1.%*1[01] %3d", status) != 1)
        return rt_fail(err, RT_E_IO, "the answer is not HTTP%s",
                       c->tls != NULL ? "" : "; a server with --tls-cert speaks https only");
    return RT_OK;
}

enum rt_status sv_probe(const struct sv_probe *p, int *status, struct rt_error *err)
{
    struct connection c = {
        .fd = -1,
        .deadline = sv_now_ns() + (uint64_t)(p->timeout * (double)SV_NS_PER_SECOND),
    };
    gnutls_certificate_credentials_t credentials = NULL;
    enum rt_status s = RT_OK;
    if (p->tls && gnutls_certificate_allocate_credentials(&credentials) < 0)
        s = rt_fail_nomem(err, 0);
    if (s == RT_OK)
        s = connect_any(p, &c, err);
    if (s == RT_OK && p->tls)
        s = begin_tls(&c, credentials, err);
    if (s == RT_OK)
        s = ask(p, &c, status, err);
    if (c.tls != NULL)
        gnutls_deinit(c.tls);
    if (credentials != NULL)
        gnutls_certificate_free_credentials(credentials);
    if (c.fd >= 0)
        close(c.fd);
    return s;
}
