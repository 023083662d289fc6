/* What the C library may answer libmicrohttpd: sends, receptions and acceptances that fail, are
 * interrupted or move little at a time, and a clock that somebody sets. A client gets its whole
 * answer or none, the next one is served, and nothing is left over.
 *
 * The calls of libmicrohttpd come here as this program has functions of these names, which the
 * dynamic linker finds first. */
#include "tests/serving.h"

#include "server/http.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#define EXPORTED __attribute__((visibility("default")))
#define NUMBERS 2000

/* --- calls that fail ------------------------------------------------------------------------- */

enum which { SEND, RECV, ACCEPT, EPOLL, N_CALLS };

static struct {
    atomic_int call;   /* the kind of call that fails, once; N_CALLS: none does */
    atomic_long after; /* so many more of its kind succeed before */
    atomic_int error;
    atomic_bool narrow; /* sockets have room for little */
    atomic_int parts;   /* sends that moved less than they were given */
} fault = { .call = N_CALLS };

static _Thread_local bool is_client; /* whose calls do as they should */

static bool fails(enum which c)
{
    if (is_client || (enum which)atomic_load(&fault.call) != c ||
        atomic_fetch_sub(&fault.after, 1) != 0)
        return false;
    atomic_store(&fault.call, N_CALLS);
    errno = atomic_load(&fault.error);
    return true;
}

static ssize_t counted(ssize_t sent, size_t len)
{
    if (!is_client && sent >= 0 && (size_t)sent < len)
        atomic_fetch_add(&fault.parts, 1);
    return sent;
}

/* The function that this one hides, looked up each time: sanitizers call some before anything could
 * be kept. */
#define HIDDEN(type, name)                                                                         \
    type *name##_hidden;                                                                           \
    *(void **)(&name##_hidden) = dlsym(RTLD_NEXT, #name);

typedef ssize_t send_type(int, const void *, size_t, int);
EXPORTED ssize_t send(int fd, const void *from, size_t len, int flags)
{
    HIDDEN(send_type, send)
    return fails(SEND) ? -1 : counted(send_hidden(fd, from, len, flags), len);
}

typedef ssize_t sendmsg_type(int, const struct msghdr *, int);
EXPORTED ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    HIDDEN(sendmsg_type, sendmsg)
    size_t len = 0;
    for (size_t i = 0; i < message->msg_iovlen; i++)
        len += message->msg_iov[i].iov_len;
    return fails(SEND) ? -1 : counted(sendmsg_hidden(fd, message, flags), len);
}

typedef ssize_t recv_type(int, void *, size_t, int);
EXPORTED ssize_t recv(int fd, void *to, size_t len, int flags)
{
    HIDDEN(recv_type, recv)
    const ssize_t got = fails(RECV) ? -1 : recv_hidden(fd, to, len, flags);
    if (got > 0)
        rt_mem_written(to, (size_t)got);
    return got;
}

/* An address is a union of pointers in glibc. */
typedef int accept4_type(int, __SOCKADDR_ARG, socklen_t *, int);
EXPORTED int accept4(int fd, __SOCKADDR_ARG address, socklen_t *len, int flags)
{
    HIDDEN(accept4_type, accept4)
    const int accepted = fails(ACCEPT) ? -1 : accept4_hidden(fd, address, len, flags);
    if (accepted >= 0 && atomic_load(&fault.narrow))
        setsockopt(accepted, SOL_SOCKET, SO_SNDBUF, &(int){ 1 }, sizeof(int));
    return accepted;
}

typedef int epoll_wait_type(int, struct epoll_event *, int, int);
EXPORTED int epoll_wait(int fd, struct epoll_event *events, int n, int timeout)
{
    HIDDEN(epoll_wait_type, epoll_wait)
    return fails(EPOLL) ? -1 : epoll_wait_hidden(fd, events, n, timeout);
}

/* --- the clock that is set ------------------------------------------------------------------- */

static atomic_llong moved; /* seconds that the clock of the day is off */
static atomic_int asked;   /* how often since it was set */

typedef int clock_gettime_type(clockid_t, struct timespec *);
EXPORTED int clock_gettime(clockid_t clock, struct timespec *t)
{
    HIDDEN(clock_gettime_type, clock_gettime)
    const int e = clock_gettime_hidden(clock, t);
    rt_mem_written(t, sizeof *t);
    if (clock == CLOCK_REALTIME) {
        atomic_fetch_add(&asked, 1);
        t->tv_sec += (time_t)atomic_load(&moved);
    }
    return e;
}

EXPORTED time_t time(time_t *to)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (to != NULL)
        *to = t.tv_sec;
    return t.tv_sec;
}

/* --- a server and its client ----------------------------------------------------------------- */

static struct serving serving;
static struct sv_http *http;
static const struct chain wide = { "x", "Relu", RT_FLOAT, 2, { -1, NUMBERS } };

static char request[64 << 10], usual[64 << 10];
static size_t request_len, usual_len;

static void handle(void *context, struct sv_request *req)
{
    sv_route(context, req);
}

static int dial(void)
{
    const struct sockaddr_in to = { .sin_family = AF_INET,
                                    .sin_port = htons((uint16_t)sv_http_port(http)),
                                    .sin_addr = { htonl(INADDR_LOOPBACK) } };
    const struct timeval patience = { .tv_sec = 60 };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (atomic_load(&fault.narrow))
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){ 1 }, sizeof(int));
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static bool is_whole(const char *answer, size_t len)
{
    static const char key[] = "Content-Length: ";
    const char *end = memmem(answer, len, "\r\n\r\n", 4);
    const char *length = memmem(answer, len, key, sizeof key - 1);
    if (end == NULL || length == NULL || length > end)
        return false;
    return (size_t)(end + 4 - answer) + strtoul(length + sizeof key - 1, NULL, 10) == len;
}

/* Sends a request and reads its answer, whole or up to where the connection broke; its length. */
static size_t exchange_on(int fd, const char *text, size_t len, char *answer, size_t room)
{
    size_t sent = 0, got = 0;
    ssize_t n = 0;
    while (sent < len && (n = send(fd, text + sent, len - sent, MSG_NOSIGNAL)) > 0)
        sent += (size_t)n;
    while (!is_whole(answer, got) && (n = recv(fd, answer + got, room - got, 0)) > 0)
        got += (size_t)n;
    if (n < 0 && errno == EAGAIN)
        fail_msg("no answer and no end after %zu bytes", got);
    return got;
}

static size_t exchange(char *answer, size_t room)
{
    int fd = dial();
    const size_t len = exchange_on(fd, request, request_len, answer, room);
    close(fd);
    return len;
}

static bool is_usual(const char *answer, size_t len)
{
    /* The time of day is the only thing that changes. */
    const char *body = memmem(answer, len, "\r\n\r\n", 4), *wanted = strstr(usual, "\r\n\r\n");
    return body != NULL && strncmp(answer, usual, strlen("HTTP/1.1 200")) == 0 &&
           len - (size_t)(body - answer) == usual_len - (size_t)(wanted - usual) &&
           memcmp(body, wanted, usual_len - (size_t)(wanted - usual)) == 0;
}

static void wait_for_connections(int n)
{
    for (int i = 0; i < 60000 && sv_http_connections(http) != n; i++)
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    assert_int_equal(sv_http_connections(http), n);
}

static int open_files(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

/* A connection that is counted no more still has its memory and its socket for a moment. So had the
 * one before the two numbers were taken, perhaps. */
static void wait_for_the_end(long live, int files)
{
    wait_for_connections(0);
    for (int i = 0; i < 60000 && (rt_mem_live() > live || open_files() > files); i++)
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    assert_true(rt_mem_live() <= live);
    assert_true(open_files() <= files);
}

static int start(void **state)
{
    (void)state;
    static char body[48 << 10];
    struct rt_error err;
    is_client = true;
    size_t len = (size_t)sprintf(
        body, "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,%d],\"datatype\":\"FP32\",\"data\":[",
        NUMBERS);
    for (int i = 0; i < NUMBERS; i++)
        len += (size_t)sprintf(body + len, "%s%d.5", i > 0 ? "," : "", i - NUMBERS / 2);
    len += (size_t)sprintf(body + len, "]}]}");
    request_len = (size_t)sprintf(request,
                                  "POST /v2/models/wide/infer HTTP/1.1\r\nHost: x\r\n"
                                  "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                                  len, body);
    serving_start(&serving);
    serving_add(&serving, "wide", &wide, 1);
    sv_log_set(SV_LOG_ERROR + 1, SV_LOG_TEXT); /* failures are meant here */
    const struct sv_http_options h = {
        .host = "127.0.0.1", .max_body = 1 << 20, .handle = handle, .context = &serving.app
    };
    if (sv_http_start(&h, &http, &err) != RT_OK)
        return -1;
    usual_len = exchange(usual, sizeof usual - 1);
    wait_for_connections(0);
    return strncmp(usual, "HTTP/1.1 200", 12);
}

static int stop(void **state)
{
    (void)state;
    sv_http_stop(http);
    serving_stop(&serving);
    return 0;
}

/* --- the tests ------------------------------------------------------------------------------- */

static void test_calls_that_fail(void **state)
{
    (void)state;
    static const struct {
        enum which call;
        int error;
        bool harmless; /* the answer comes all the same */
    } list[] = {
        { SEND, EINTR, true },     { SEND, EPIPE, false },      { SEND, ECONNRESET, false },
        { SEND, ENOBUFS, false },  { SEND, ENOMEM, false },     { SEND, EIO, false },
        { RECV, EINTR, true },     { RECV, ECONNRESET, false }, { RECV, ENOMEM, false },
        { RECV, EIO, false },      { ACCEPT, EINTR, true },     { ACCEPT, ECONNABORTED, true },
        { ACCEPT, EMFILE, true },  { ACCEPT, ENFILE, true },    { ACCEPT, ENOMEM, true },
        { ACCEPT, ENOBUFS, true }, { ACCEPT, EPERM, true },     { EPOLL, EINTR, true },
    };
    static char answer[sizeof usual];
    const long live = rt_mem_live();
    const int files = open_files();
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        long n = 0, failed = 0;
        bool met;
        do {
            atomic_store(&fault.error, list[i].error);
            atomic_store(&fault.after, n);
            atomic_store(&fault.call, (int)list[i].call);
            size_t len = exchange(answer, sizeof answer);
            met = atomic_exchange(&fault.call, N_CALLS) == N_CALLS;
            const bool right = is_usual(answer, len);
            failed += !right;
            if (!right && (list[i].harmless || !met || is_whole(answer, len)))
                fail_msg("call %d, number %ld, %s: %zu bytes: %.*s", (int)list[i].call, n,
                         strerror(list[i].error), len, (int)(len < 200 ? len : 200), answer);
            wait_for_connections(0);
            len = exchange(answer, sizeof answer);
            assert_true(is_usual(answer, len));
            wait_for_the_end(live, files);
            n++;
        } while (met && n < 1000);
        assert_true(n > 1); /* at least one of them failed */
        assert_true(list[i].harmless || failed > 0);
    }
}

/* What goes in parts, each when there is room again, arrives as ever. */
static void test_narrow_sockets(void **state)
{
    (void)state;
    static char answer[sizeof usual];
    atomic_store(&fault.narrow, true);
    const size_t len = exchange(answer, sizeof answer);
    atomic_store(&fault.narrow, false);
    if (!is_usual(answer, len))
        fail_msg("%zu bytes: %.*s", len, (int)(len < 200 ? len : 200), answer);
    assert_true(atomic_load(&fault.parts) > 0);
    wait_for_connections(0);
}

/* Neither a request that waits nor a connection that rests minds, and the next ones are served. */
static void test_clock_that_is_set(void **state)
{
    (void)state;
    static const long long jumps[] = { 3600, -3600, 400LL * 86400, -400LL * 86400, 0 };
    static char answer[sizeof usual];
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    int fd = dial();
    for (size_t i = 0; i <= sizeof jumps / sizeof jumps[0]; i++) {
        const bool first = i == sizeof jumps / sizeof jumps[0]; /* of all time: 1970 */
        atomic_store(&moved, first ? -(long long)t.tv_sec : jumps[i]);
        atomic_store(&asked, 0);
        size_t len = exchange_on(fd, request, request_len, answer, sizeof answer);
        if (!is_usual(answer, len))
            fail_msg("jump %lld: %zu bytes: %.*s", (long long)atomic_load(&moved), len,
                     (int)(len < 200 ? len : 200), answer);
        assert_true(atomic_load(&asked) > 0);
        len = exchange(answer, sizeof answer);
        assert_true(is_usual(answer, len));
        static const char *const others[] = { "/metrics", "/v2/health/ready", "/v2/models/stats" };
        for (size_t k = 0; k < sizeof others / sizeof others[0]; k++) {
            char get[128];
            const int n =
                snprintf(get, sizeof get, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", others[k]);
            len = exchange_on(fd, get, (size_t)n, answer, sizeof answer);
            assert_true(is_whole(answer, len));
            assert_memory_equal(answer, "HTTP/1.1 200", 12);
        }
    }
    atomic_store(&moved, 0);
    close(fd);
    wait_for_connections(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls_that_fail),
        cmocka_unit_test(test_narrow_sockets),
        cmocka_unit_test(test_clock_that_is_set),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
