/* getaddrinfo, socket, bind, listen. */
#include "server/listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Connections that wait to be accepted; the system's own bound may be lower. */
#define BACKLOG 1024

/* A listening socket on this address; -1 with errno. */
static int open_one(const struct addrinfo *a, bool every_address)
{
    const int on = 1, off = 0;
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    /* Accepted sockets inherit it: an answer must not wait for an acknowledgement. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (a->ai_family == AF_INET6 && every_address)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        int why = errno;
        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

static int port_of(int fd)
{
    struct sockaddr_storage a = { .ss_family = AF_UNSPEC };
    socklen_t len = sizeof a;
    if (getsockname(fd, (struct sockaddr *)&a, &len) != 0)
        return 0;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (a.ss_family == AF_INET6) {
        memcpy(&v6, &a, sizeof v6);
        return ntohs(v6.sin6_port);
    }
    memcpy(&v4, &a, sizeof v4);
    return ntohs(v4.sin_port);
}

enum rt_status sv_listen(const char *host, int port, int *fd, int *bound, struct rt_error *err)
{
    bool every_address = host[0] == '\0';
    struct addrinfo hints = { .ai_family = AF_UNSPEC,
                              .ai_socktype = SOCK_STREAM,
                              .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
    struct addrinfo *list = NULL;
    char service[12];
    snprintf(service, sizeof service, "%d", port);
    int e = getaddrinfo(every_address ? NULL : host, service, &hints, &list);
    if (e != 0)
        return rt_fail(err, RT_E_IO, "cannot listen on '%s': %s", host, gai_strerror(e));
    /* IPv6 first for every address, as such a socket takes IPv4 as well. */
    int got = -1, why = 0;
    for (int pass = 0; pass < 2 && got < 0; pass++)
        for (const struct addrinfo *a = list; a != NULL && got < 0; a = a->ai_next) {
            bool wanted = !every_address || (a->ai_family == AF_INET6) == (pass == 0);
            if (!wanted)
                continue;
            got = open_one(a, every_address);
            if (got < 0)
                why = errno;
        }
    freeaddrinfo(list);
    const char *of = every_address ? "" : " of ", *where = every_address ? "" : host;
    if (got < 0 && why == EADDRINUSE)
        return rt_fail(err, RT_E_IO,
                       "port %d%s%s is in use by another program; --port takes another, or 0 for "
                       "any that is free",
                       port, of, where);
    if (got < 0)
        return rt_fail(err, RT_E_IO, "cannot listen on port %d%s%s: %s", port, of, where,
                       strerror(why));
    *fd = got;
    *bound = port_of(got);
    return RT_OK;
}
