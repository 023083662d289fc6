/* A thread around poll(). Sockets are not polled when they are added but at the next sweep, so that
 * requests which are answered fast never cost a system call here. */
#include "server/watch.h"

#include "runtime/rt.h"
#include "server/clock.h"

#include <assert.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define SWEEP_MS 100
#define PATIENT_MS 1000
#define NS_PER_MS (SV_NS_PER_SECOND / 1000)
#define MOMENT_MS 20 /* the kernel's clock is that coarse */
#define LINGER_NS (5 * SV_NS_PER_SECOND)
#define LINGER_MAX 64

struct sv_watch {
    pthread_t thread;
    pthread_mutex_t lock;
    int event;           /* written to when the thread has something new to look at */
    bool stopping;
    int timeout; /* milliseconds the thread sleeps now; -1: until event is written to */
    struct sv_watched *head;
    int n_prompt;        /* of them that are not patient */
    struct pollfd *poll; /* for the sweep; grows */
    int room;
    int n_lingering;
    struct {
        int fd;
        uint64_t until;
    } lingering[LINGER_MAX];
};

static void nudge(struct sv_watch *w)
{
    eventfd_write(w->event, 1); /* cannot fail but by overflow, and then it is readable anyway */
}

/* A peer that rests and has sent something: it has to finish what it began. What came with, or a
 * moment after, the end of its last request is not told apart from that. */
static void end_rest(struct sv_watched *one, uint64_t now)
{
    uint64_t deadline = atomic_load_explicit(&one->deadline, memory_order_acquire);
    uint64_t since = atomic_load_explicit(&one->resting, memory_order_relaxed);
    struct tcp_info info = { 0 };
    socklen_t len = sizeof info;
    if (deadline == 0 || since == 0 || getsockopt(one->fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
        return;
    /* Some kernels leave it 0, which is not believed. */
    uint64_t came = now - info.tcpi_last_data_recv * NS_PER_MS;
    if (info.tcpi_last_data_recv == 0 || came < since + MOMENT_MS * NS_PER_MS)
        return;
    /* The socket's owner may have gone on meanwhile; then the deadline is another. */
    if (atomic_compare_exchange_strong(&one->deadline, &deadline, came + one->patience_ns))
        atomic_compare_exchange_strong(&one->resting, &since, 0);
}

/* Ends connections that are out of time: their owner then finds them closed. Holds the lock. */
static void end_late(struct sv_watch *w, uint64_t now)
{
    for (struct sv_watched *one = w->head; one != NULL; one = one->next) {
        if (one->patient)
            end_rest(one, now);
        uint64_t deadline = atomic_load_explicit(&one->deadline, memory_order_relaxed);
        if (one->patient && deadline != 0 && deadline <= now) {
            atomic_store_explicit(&one->deadline, 0, memory_order_relaxed);
            shutdown(one->fd, SHUT_RDWR);
        }
    }
}

/* Tells those whose peer has closed. Holds the lock. Without memory the sweep is put off. */
static void sweep(struct sv_watch *w, bool patient_too)
{
    int n = 0;
    for (struct sv_watched *one = w->head; one != NULL; one = one->next)
        n++;
    if (n > w->room) {
        struct pollfd *grown = rt_realloc_array(w->poll, (size_t)n * 2, sizeof *grown);
        if (grown == NULL)
            return;
        w->poll = grown;
        w->room = n * 2;
    }
    int i = 0;
    for (struct sv_watched *one = w->head; one != NULL; one = one->next) {
        bool skip = one->told || (one->patient && !patient_too);
        w->poll[i++] = (struct pollfd){ .fd = skip ? -1 : one->fd, .events = POLLRDHUP };
    }
    if (n == 0 || poll(w->poll, (nfds_t)n, 0) <= 0)
        return;
    i = 0;
    for (struct sv_watched *one = w->head; one != NULL; one = one->next)
        if ((w->poll[i++].revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0) {
            one->told = !one->patient;
            one->gone(one);
        }
}

/* Reads what a lingering socket has; false when it can be closed. */
static bool drop_input(int fd)
{
    static char bin[64 * 1024]; /* written by one thread, read by none */
    for (int i = 0; i < 16; i++) {
        ssize_t n = recv(fd, bin, sizeof bin, MSG_DONTWAIT);
        if (n <= 0)
            return n < 0;
    }
    return true;
}

static void tend_lingering(struct sv_watch *w, const struct pollfd *seen, int n_seen, uint64_t now)
{
    int kept = 0;
    for (int i = 0; i < w->n_lingering; i++) {
        bool keep = w->lingering[i].until > now && !w->stopping;
        /* cppcheck-suppress nullPointer ; n_seen is 0 then */
        if (keep && i < n_seen && seen[i].revents != 0)
            keep = (seen[i].revents & (POLLERR | POLLNVAL)) == 0 && drop_input(seen[i].fd);
        if (keep)
            w->lingering[kept++] = w->lingering[i];
        else
            close(w->lingering[i].fd);
    }
    w->n_lingering = kept;
}

/* How long the thread may sleep. Holds the lock. */
static int wanted_timeout(const struct sv_watch *w)
{
    if (w->n_prompt > 0 || w->n_lingering > 0)
        return SWEEP_MS;
    return w->head != NULL ? PATIENT_MS : -1;
}

static void *run(void *arg)
{
    struct sv_watch *w = arg;
    struct pollfd seen[1 + LINGER_MAX];
    uint64_t next_sweep = 0, next_patient = 0;
    pthread_mutex_lock(&w->lock);
    while (!w->stopping) {
        int n = w->n_lingering;
        seen[0] = (struct pollfd){ .fd = w->event, .events = POLLIN };
        for (int i = 0; i < n; i++)
            seen[1 + i] = (struct pollfd){ .fd = w->lingering[i].fd, .events = POLLIN };
        w->timeout = wanted_timeout(w);
        int timeout = w->timeout;
        pthread_mutex_unlock(&w->lock);
        int ready = poll(seen, (nfds_t)n + 1, timeout);
        if (ready > 0 && seen[0].revents != 0) {
            eventfd_t count;
            eventfd_read(w->event, &count);
        }
        uint64_t now = sv_now_ns();
        pthread_mutex_lock(&w->lock);
        for (int i = 0; ready < 0 && i <= n; i++)
            seen[i].revents = 0;
        tend_lingering(w, seen + 1, n, now);
        if (now < next_sweep)
            continue;
        next_sweep = now + SWEEP_MS * NS_PER_MS;
        sweep(w, now >= next_patient);
        if (now >= next_patient)
            end_late(w, now);
        if (now >= next_patient)
            next_patient = now + PATIENT_MS * NS_PER_MS;
    }
    tend_lingering(w, NULL, 0, UINT64_MAX);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

enum rt_status sv_watch_create(struct sv_watch **out, struct rt_error *err)
{
    struct sv_watch *w = rt_zalloc(sizeof *w);
    if (w == NULL)
        return rt_fail_nomem(err, sizeof *w);
    pthread_mutex_init(&w->lock, NULL);
    w->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int failed = w->event < 0 || pthread_create(&w->thread, NULL, run, w) != 0;
    if (failed) {
        if (w->event >= 0)
            close(w->event);
        pthread_mutex_destroy(&w->lock);
        rt_free(w);
        return rt_fail(err, RT_E_IO, "the thread that watches sockets cannot be started");
    }
    *out = w;
    return RT_OK;
}

void sv_watch_destroy(struct sv_watch *w)
{
    if (w == NULL)
        return;
    pthread_mutex_lock(&w->lock);
    assert(w->head == NULL);
    w->stopping = true;
    nudge(w);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    close(w->event);
    pthread_mutex_destroy(&w->lock);
    rt_free(w->poll);
    rt_free(w);
}

/* Wakes the thread when it sleeps longer than it should by now. Holds the lock. */
static void rouse(struct sv_watch *w)
{
    int wanted = wanted_timeout(w);
    if (w->timeout < 0 || w->timeout > wanted) {
        w->timeout = wanted;
        nudge(w);
    }
}

void sv_watch_add(struct sv_watch *w, struct sv_watched *one)
{
    pthread_mutex_lock(&w->lock);
    one->prev = NULL;
    one->next = w->head;
    if (w->head != NULL)
        w->head->prev = one;
    w->head = one;
    one->listed = true;
    w->n_prompt += !one->patient;
    rouse(w);
    pthread_mutex_unlock(&w->lock);
}

void sv_watch_remove(struct sv_watch *w, struct sv_watched *one)
{
    pthread_mutex_lock(&w->lock);
    if (one->listed) {
        if (one->prev != NULL)
            one->prev->next = one->next;
        else
            w->head = one->next;
        if (one->next != NULL)
            one->next->prev = one->prev;
        one->listed = false;
        w->n_prompt -= !one->patient;
    }
    pthread_mutex_unlock(&w->lock);
}

void sv_watch_linger(struct sv_watch *w, int fd)
{
    pthread_mutex_lock(&w->lock);
    if (w->n_lingering == LINGER_MAX || w->stopping) {
        close(fd);
    } else {
        w->lingering[w->n_lingering].fd = fd;
        w->lingering[w->n_lingering].until = sv_now_ns() + LINGER_NS;
        w->n_lingering++;
        nudge(w);
    }
    pthread_mutex_unlock(&w->lock);
}
