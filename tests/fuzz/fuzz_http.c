/* Any bytes on a connection to the server: read by libmicrohttpd, checked, routed, answered. A byte
 * 0xff ends a piece that is sent on its own; behind the last piece the client closes its side at
 * once, else when the server has had a moment. Every connection has to end then, and what came back
 * has to begin as an answer does. */
#include "tests/fuzz/fuzz.h"
#include "tests/serving.h"

#include "server/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#define PIECE_END 0xff
#define PATIENCE_S 60
#define MOMENT_MS 3
#define PARKED_MAX 64

static struct serving serving;
static struct sv_http *http;

static void handle(void *context, struct sv_request *req)
{
    sv_route(context, req);
}

static void start(void)
{
    static const struct chain chain = { "x", "Relu", RT_FLOAT, 2, { -1, 3 } };
    struct rt_error err = { .text = "" };
    serving_start(&serving);
    serving_add(&serving, "float", &chain, 1);
    const struct sv_http_options o = {
        .host = "127.0.0.1",
        .threads = 1,
        .max_body = 1 << 16,
        .max_body_memory = 1 << 20,
        .handle = handle,
        .context = &serving.app,
    };
    HOLDS(sv_http_start(&o, &http, &err) == RT_OK, "%s", err.text);
}

/* A connection from an address of its own: one address has too few ports for so many. */
static int connect_to_server(void)
{
    static uint32_t n;
    const struct sockaddr_in from = { .sin_family = AF_INET,
                                      .sin_addr = { htonl(0x7f010001 + n++ % 60000) } };
    const struct sockaddr_in to = { .sin_family = AF_INET,
                                    .sin_port = htons((uint16_t)sv_http_port(http)),
                                    .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    HOLDS(fd >= 0 && bind(fd, (const struct sockaddr *)&from, sizeof from) == 0 &&
              connect(fd, (const struct sockaddr *)&to, sizeof to) == 0,
          "no connection");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
    return fd;
}

static void send_pieces(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        const uint8_t *end = memchr(data, PIECE_END, len);
        size_t piece = end != NULL ? (size_t)(end - data) : len;
        if (piece > 0 && send(fd, data, piece, MSG_NOSIGNAL) < 0)
            return; /* the server has had enough */
        size_t used = piece + (end != NULL);
        data += used;
        len -= used;
    }
}

/* Whether something can be read in time. libFuzzer's clock interrupts. */
static bool readable(int fd, int timeout_ms)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    int n;
    do
        n = poll(&p, 1, timeout_ms);
    while (n < 0 && errno == EINTR);
    return n == 1;
}

/* A client that has closed its side and may still be answered. */
struct connection {
    int fd;
    size_t all;    /* bytes that came back */
    char first[9]; /* the first of them */
};

/* Reads until the server ends the connection, or for so long; whether it has ended. */
static bool read_to_end(struct connection *c, int timeout_ms)
{
    char answer[4096];
    while (readable(c->fd, timeout_ms)) {
        ssize_t got = recv(c->fd, answer, sizeof answer, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            HOLDS(c->all == 0 || strncmp(c->first, "HTTP/1.", c->all < 7 ? c->all : 7) == 0 ||
                      c->first[0] == '{' || c->first[0] == '<',
                  "an answer that begins with '%s'", c->first);
            close(c->fd);
            return true;
        }
        for (ssize_t i = 0; i < got && c->all + (size_t)i < sizeof c->first - 1; i++)
            c->first[c->all + (size_t)i] = answer[i];
        c->all += (size_t)got;
    }
    return false;
}

/* A client that is silent in the middle of a request is looked after once a second only: meanwhile
 * others go on. */
static struct connection parked[PARKED_MAX];
static int n_parked;

static void end_oldest(void)
{
    /* Seconds of this process: one that was stopped for long has not waited. */
    int seconds = 0;
    while (!read_to_end(&parked[0], 1000))
        HOLDS(++seconds < PATIENCE_S, "the connection does not end");
    memmove(parked, parked + 1, (size_t)--n_parked * sizeof parked[0]);
}

static void end_all(void)
{
    while (n_parked > 0)
        end_oldest();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (http == NULL) {
        start();
        atexit(end_all);
    }
    struct connection c = { .fd = connect_to_server(), .first = "" };
    send_pieces(c.fd, data, len);
    if (len == 0 || data[len - 1] != PIECE_END)
        readable(c.fd, MOMENT_MS);
    shutdown(c.fd, SHUT_WR);
    if (!read_to_end(&c, MOMENT_MS)) {
        if (n_parked == PARKED_MAX)
            end_oldest();
        parked[n_parked++] = c;
    }
    return 0;
}
