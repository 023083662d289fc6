/* A load generator: one thread, many connections, requests made beforehand. Either each connection
 * asks again as soon as it has its answer, or requests begin at a steady rate. Every answer may be
 * compared with those that are right. Prints one line of JSON.
 *
 *   load --port N --path /P --connections N --seconds S [--rate R] [--header 'K: V']...
 *        --body FILE [--answer FILE]... [--body FILE [--answer FILE]...]...
 *
 * Bodies take turns; an answer with status 200 must be one of its body's --answer files, if it has
 * any. Latencies run from the first byte sent to the last one received. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BODIES_MAX 32
#define ANSWERS_MAX 4
#define HEADERS_MAX 16
#define STATUS_MAX 600
#define HEAD_MAX ((size_t)16 << 10) /* of an answer */

struct bytes {
    char *p;
    size_t len;
};

struct request {
    struct bytes wire; /* head and body */
    int n_answers;
    struct bytes answer[ANSWERS_MAX];
};

struct connection {
    int fd;
    bool busy, writing;
    const struct request *request;
    size_t sent;
    uint64_t begun;
    char *in; /* what has come of the answer */
    size_t in_len, in_room;
    size_t head_len; /* 0: not complete */
    size_t body_len;
    int status;
    bool close;
    struct connection *next_idle;
};

/* Latencies of one status, in microseconds. */
struct times {
    uint32_t *us;
    size_t n, room;
};

struct load {
    int port, n_connections;
    double seconds, rate;
    int n_requests;
    struct request request[BODIES_MAX];
    int epoll;
    struct connection *connection, *idle;
    uint64_t started, ends;
    uint64_t begun;               /* requests */
    uint64_t wrong;               /* answers */
    uint64_t broken;              /* connections that ended inside an answer */
    uint64_t without_retry_after; /* refusals */
    uint64_t held_up;             /* requests for which no connection was free */
    int in_flight;
    struct times times[STATUS_MAX];
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *need(void *p)
{
    if (p == NULL)
        fail("memory");
    return p;
}

static struct bytes read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        fail(path);
    struct bytes b = { 0 };
    size_t room = 1 << 16, n;
    b.p = need(malloc(room));
    while ((n = fread(b.p + b.len, 1, room - b.len, f)) > 0) {
        b.len += n;
        if (b.len == room)
            b.p = need(realloc(b.p, room *= 2));
    }
    fclose(f);
    return b;
}

static void make_wire(struct request *r, const char *path, int port, const char *const *header,
                      int n_headers, const char *file)
{
    struct bytes body = read_file(file);
    char head[8192];
    int n = snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n", path, port);
    for (int i = 0; i < n_headers; i++)
        n += snprintf(head + n, sizeof head - (size_t)n, "%s\r\n", header[i]);
    n += snprintf(head + n, sizeof head - (size_t)n, "Content-Length: %zu\r\n\r\n", body.len);
    r->wire.len = (size_t)n + body.len;
    r->wire.p = need(malloc(r->wire.len));
    memcpy(r->wire.p, head, (size_t)n);
    memcpy(r->wire.p + n, body.p, body.len);
    free(body.p);
}

static void watch(const struct load *l, struct connection *c, int how, bool writing)
{
    struct epoll_event e = { .events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = c };
    if (epoll_ctl(l->epoll, how, c->fd, &e) != 0)
        fail("epoll_ctl");
    c->writing = writing;
}

static void dial(const struct load *l, struct connection *c)
{
    const struct sockaddr_in to = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)l->port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    const int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (const struct sockaddr *)&to, sizeof to) != 0)
        fail("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    watch(l, c, EPOLL_CTL_ADD, false);
}

static void rest(struct load *l, struct connection *c)
{
    c->next_idle = l->idle;
    l->idle = c;
}

static void redial(struct load *l, struct connection *c)
{
    close(c->fd);
    if (c->busy)
        l->in_flight--;
    c->busy = false;
    dial(l, c);
}

/* Whether the connection is still good. */
static bool send_more(struct load *l, struct connection *c)
{
    const struct bytes *w = &c->request->wire;
    while (c->sent < w->len) {
        ssize_t n = send(c->fd, w->p + c->sent, w->len - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) /* the server may have answered and closed: what it said is still to be read */
            break;
        c->sent += (size_t)n;
    }
    if ((c->sent < w->len) != c->writing)
        watch(l, c, EPOLL_CTL_MOD, c->sent < w->len);
    return true;
}

static void begin(struct load *l, struct connection *c)
{
    c->busy = true;
    c->request = &l->request[l->begun++ % (uint64_t)l->n_requests];
    c->sent = c->in_len = c->head_len = 0;
    c->begun = now_ns();
    l->in_flight++;
    send_more(l, c);
}

static const char *find_header(const struct connection *c, const char *name)
{
    const size_t n = strlen(name);
    const char *end = c->in + c->head_len;
    for (const char *p = c->in; p + n < end; p++)
        if (p[0] == '\n' && strncasecmp(p + 1, name, n) == 0 && p[1 + n] == ':')
            return p + 2 + n;
    return NULL;
}

static void parse_head(struct connection *c)
{
    const char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
    if (end == NULL)
        return;
    c->head_len = (size_t)(end - c->in) + 4;
    c->status = atoi(c->in + sizeof "HTTP/1.1");
    const char *len = find_header(c, "Content-Length"), *how = find_header(c, "Connection");
    c->body_len = len != NULL ? strtoul(len, NULL, 10) : 0;
    c->close = how != NULL && strncasecmp(how + strspn(how, " "), "close", 5) == 0;
}

static bool is_right(const struct connection *c)
{
    const struct request *r = c->request;
    for (int i = 0; i < r->n_answers; i++)
        if (r->answer[i].len == c->body_len &&
            memcmp(r->answer[i].p, c->in + c->head_len, c->body_len) == 0)
            return true;
    return r->n_answers == 0;
}

static void note(struct load *l, struct connection *c)
{
    struct times *t = &l->times[c->status > 0 && c->status < STATUS_MAX ? c->status : 0];
    if (t->n == t->room) {
        t->room = t->room * 2 + 1024;
        t->us = need(realloc(t->us, t->room * sizeof *t->us));
    }
    t->us[t->n++] = (uint32_t)((now_ns() - c->begun) / 1000);
    if (c->status == 200)
        l->wrong += !is_right(c);
    else if (c->status == 503 || c->status == 429)
        l->without_retry_after += find_header(c, "Retry-After") == NULL;
    l->in_flight--;
    c->busy = false;
}

/* Reads what there is; true when an answer is complete or the connection has ended. */
static bool receive(struct load *l, struct connection *c)
{
    for (;;) {
        if (c->in_room - c->in_len < HEAD_MAX)
            c->in = need(realloc(c->in, c->in_room = c->in_room * 2 + 2 * HEAD_MAX));
        ssize_t n = recv(c->fd, c->in + c->in_len, c->in_room - c->in_len - 1, 0);
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n <= 0) {
            l->broken += c->busy;
            redial(l, c);
            return true;
        }
        c->in_len += (size_t)n;
        c->in[c->in_len] = '\0';
        if (c->head_len == 0)
            parse_head(c);
        if (c->head_len > 0 && c->in_len >= c->head_len + c->body_len) {
            note(l, c);
            if (c->close || c->sent < c->request->wire.len)
                redial(l, c);
            return true;
        }
    }
}

static void ready(struct load *l, struct connection *c, unsigned events)
{
    if (c->busy && (events & EPOLLOUT) != 0)
        send_more(l, c);
    if ((events & ~(unsigned)EPOLLOUT) == 0)
        return;
    if (!c->busy) { /* the server closed an idle connection, or says what nobody asked for */
        char byte;
        if (recv(c->fd, &byte, 1, MSG_PEEK) == 0)
            redial(l, c);
        return;
    }
    if (!receive(l, c))
        return;
    if (l->rate == 0 && now_ns() < l->ends)
        begin(l, c);
    else
        rest(l, c);
}

/* Begins what is due; the time until the next request, in nanoseconds. */
static uint64_t begin_due(struct load *l)
{
    uint64_t now = now_ns();
    if (now >= l->ends)
        return 100000000;
    if (l->rate == 0) {
        while (l->idle != NULL) {
            struct connection *c = l->idle;
            l->idle = c->next_idle;
            begin(l, c);
        }
        return l->ends - now;
    }
    for (;;) {
        uint64_t due = l->started + (uint64_t)((double)(l->begun + l->held_up) * 1e9 / l->rate);
        if (due > now)
            return due < l->ends ? due - now : l->ends - now;
        struct connection *c = l->idle;
        if (c == NULL) {
            l->held_up++;
            continue;
        }
        l->idle = c->next_idle;
        begin(l, c);
    }
}

static void run(struct load *l)
{
    l->epoll = epoll_create1(0);
    l->connection = need(calloc((size_t)l->n_connections, sizeof *l->connection));
    for (int i = 0; i < l->n_connections; i++) {
        dial(l, &l->connection[i]);
        rest(l, &l->connection[i]);
    }
    l->started = now_ns();
    l->ends = l->started + (uint64_t)(l->seconds * 1e9);
    const uint64_t patience = l->ends + (uint64_t)60 * 1000000000u;
    while (now_ns() < l->ends || (l->in_flight > 0 && now_ns() < patience)) {
        struct epoll_event event[64];
        uint64_t wait = begin_due(l);
        struct timespec timeout = { (time_t)(wait / 1000000000u), (long)(wait % 1000000000u) };
        int n = epoll_pwait2(l->epoll, event, 64, &timeout, NULL);
        for (int i = 0; i < n; i++)
            ready(l, event[i].data.ptr, event[i].events);
    }
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile(const struct times *t, double p)
{
    size_t i = (size_t)(p * (double)(t->n - 1) + 0.5);
    return (double)t->us[i] / 1000;
}

static void print(struct load *l)
{
    printf("{\"seconds\":%.3f,\"begun\":%llu,\"wrong\":%llu,\"broken\":%llu,\"lost\":%d,"
           "\"held_up\":%llu,\"without_retry_after\":%llu,\"answers\":{",
           l->seconds, (unsigned long long)l->begun, (unsigned long long)l->wrong,
           (unsigned long long)l->broken, l->in_flight, (unsigned long long)l->held_up,
           (unsigned long long)l->without_retry_after);
    const char *comma = "";
    for (int i = 0; i < STATUS_MAX; i++) {
        struct times *t = &l->times[i];
        if (t->n == 0)
            continue;
        qsort(t->us, t->n, sizeof *t->us, by_value);
        printf("%s\"%d\":{\"count\":%zu,\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"p999\":%.3f,"
               "\"max\":%.3f}",
               comma, i, t->n, percentile(t, 0.5), percentile(t, 0.9), percentile(t, 0.99),
               percentile(t, 0.999), percentile(t, 1));
        comma = ",";
    }
    printf("}}\n");
}

int main(int argc, char **argv)
{
    static struct load l;
    const char *path = "/", *header[HEADERS_MAX];
    int n_headers = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (strcmp(name, "--port") == 0)
            l.port = atoi(value);
        else if (strcmp(name, "--path") == 0)
            path = value;
        else if (strcmp(name, "--connections") == 0)
            l.n_connections = atoi(value);
        else if (strcmp(name, "--seconds") == 0)
            l.seconds = atof(value);
        else if (strcmp(name, "--rate") == 0)
            l.rate = atof(value);
        else if (strcmp(name, "--header") == 0 && n_headers < HEADERS_MAX)
            header[n_headers++] = value;
        else if (strcmp(name, "--body") == 0 && l.n_requests < BODIES_MAX)
            make_wire(&l.request[l.n_requests++], path, l.port, header, n_headers, value);
        else if (strcmp(name, "--answer") == 0 && l.n_requests > 0 &&
                 l.request[l.n_requests - 1].n_answers < ANSWERS_MAX) {
            struct request *r = &l.request[l.n_requests - 1];
            r->answer[r->n_answers++] = read_file(value);
        } else {
            fprintf(stderr, "load: %s: not known, or too often\n", name);
            return 2;
        }
    }
    if (argc % 2 == 0 || l.n_requests == 0 || l.n_connections < 1) {
        fputs("usage: see the head of load.c\n", stderr);
        return 2;
    }
    run(&l);
    print(&l);
    return 0;
}
