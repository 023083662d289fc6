/* libcurl's multi interface on epoll, one thread. */
#include "tests/load/client.h"

#include "runtime/mem.h"
#include "server/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#define EVENTS 64
#define UPLOAD_BUFFER (1L << 20)

struct slot {
    CURL *easy;
    const struct ld_body *body;
    struct client *client;
    uint64_t intended; /* ns since the start, as those that follow */
    uint64_t begun;    /* when it was handed to curl */
    uint64_t sending;  /* when its connection was there */
    uint64_t first;    /* when the first line of its answer was; 0: not yet */
    size_t got;        /* bytes of the answer */
    unsigned matching; /* the body's answers that may still be this one, a bit each */
    struct slot *next_idle;
};

struct client {
    const struct ld_bodies *bodies;
    const struct ld_load *load;
    struct ld_run *run;
    struct rt_error *err;
    CURLM *multi;
    int epoll;
    struct slot *slot, *idle;
    int in_flight;
    uint64_t started;            /* sv_now_ns() */
    uint64_t from, to, last;     /* ns since the start: measured time, and when all is given up */
    uint64_t timer;              /* ns since the start when curl wants to be called; 0: never */
    uint64_t sent;               /* requests */
    uint64_t short_at;           /* ns since the start when last a due request found none free */
    struct ld_arrivals arrivals; /* of an open loop */
    double cpu_from;             /* processor seconds used when measuring began; below 0: not yet */
};

static uint64_t now_of(const struct client *c)
{
    return sv_now_ns() - c->started;
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* What curl calls. */

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *known)
{
    (void)easy;
    struct client *c = data;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(c->epoll, EPOLL_CTL_DEL, fd, NULL);
        curl_multi_assign(c->multi, fd, NULL);
        return 0;
    }
    struct epoll_event e = {
        .events = ((what & CURL_POLL_IN) != 0 ? EPOLLIN : 0) |
                  ((what & CURL_POLL_OUT) != 0 ? EPOLLOUT : 0),
        .data.fd = fd,
    };
    epoll_ctl(c->epoll, known == NULL ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &e);
    curl_multi_assign(c->multi, fd, c); /* anything but NULL: it is watched */
    return 0;
}

static int on_timer(CURLM *multi, long ms, void *data)
{
    (void)multi;
    struct client *c = data;
    c->timer = ms < 0 ? 0 : now_of(c) + (uint64_t)ms * 1000000 + 1;
    return 0;
}

static int on_sending(void *data, char *to, char *from, int to_port, int from_port)
{
    (void)to, (void)from, (void)to_port, (void)from_port;
    struct slot *s = data;
    s->sending = now_of(s->client);
    return CURL_PREREQFUNC_OK;
}

static size_t on_header(char *p, size_t size, size_t n, void *data)
{
    (void)p;
    struct slot *s = data;
    if (s->first == 0)
        s->first = now_of(s->client);
    return size * n;
}

static size_t on_answer(char *p, size_t size, size_t n, void *data)
{
    struct slot *s = data;
    const size_t len = size * n;
    for (int i = 0; i < s->body->n_answers; i++) {
        const struct ld_answer *a = &s->body->answer[i];
        if ((s->matching & 1u << i) != 0 &&
            (len > a->len - s->got || memcmp((const char *)a->p + s->got, p, len) != 0))
            s->matching &= ~(1u << i);
    }
    s->got += len;
    return len;
}

/* Requests. */

static void begin(struct client *c, uint64_t intended)
{
    struct slot *s = c->idle;
    c->idle = s->next_idle;
    s->body = &c->bodies->item[c->sent++ % (uint64_t)c->bodies->n];
    s->intended = intended;
    s->begun = now_of(c);
    s->sending = s->first = 0;
    s->got = 0;
    s->matching = (1u << s->body->n_answers) - 1;
    curl_easy_setopt(s->easy, CURLOPT_HTTPHEADER, s->body->headers);
    curl_easy_setopt(s->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)s->body->bytes.len);
    curl_easy_setopt(s->easy, CURLOPT_POSTFIELDS, s->body->bytes.p);
    curl_multi_add_handle(c->multi, s->easy);
    c->in_flight++;
}

static bool is_wrong(const struct slot *s)
{
    for (int i = 0; i < s->body->n_answers; i++)
        if ((s->matching & 1u << i) != 0 && s->got == s->body->answer[i].len)
            return false;
    return s->body->n_answers > 0;
}

static enum rt_status note(struct client *c, const struct slot *s, CURLcode code)
{
    struct ld_run *r = c->run;
    const uint64_t now = now_of(c);
    struct curl_header *header;
    long status = 0;
    curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &status);
    if (code == CURLE_OK && status / 100 == 2 && now >= c->from && now < c->to)
        r->answered_in_time++;
    if (s->intended < c->from || s->intended >= c->to)
        return RT_OK;
    r->requests++;
    if (code != CURLE_OK) {
        if (r->broken++ == 0)
            snprintf(r->why, sizeof r->why, "%s", curl_easy_strerror(code));
        return RT_OK;
    }
    r->wrong += status == 200 && is_wrong(s);
    r->without_retry_after +=
        (status == 429 || status == 503) &&
        curl_easy_header(s->easy, "Retry-After", 0, CURLH_HEADER, -1, &header) != CURLHE_OK;
    struct ld_times *t = ld_run_times(r, (int)status);
    enum rt_status e = ld_histogram_add(&t->ns, now - s->intended, c->err);
    if (e == RT_OK)
        e = ld_histogram_add(&t->first, s->first - s->sending, c->err);
    return e == RT_OK ? ld_histogram_add(&r->late, s->begun - s->intended, c->err) : e;
}

/* Takes the answers that are complete; *any: there were some. */
static enum rt_status collect(struct client *c, bool *any)
{
    enum rt_status s = RT_OK;
    CURLMsg *m;
    int left;
    *any = false;
    while ((m = curl_multi_info_read(c->multi, &left)) != NULL && s == RT_OK) {
        struct slot *slot;
        CURL *easy = m->easy_handle;
        *any = true;
        const CURLcode code = m->data.result;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &slot);
        s = note(c, slot, code);
        curl_multi_remove_handle(c->multi, easy);
        slot->next_idle = c->idle;
        c->idle = slot;
        c->in_flight--;
    }
    return s;
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Begins what is due, as far as there are connections. */
static void begin_due(struct client *c)
{
    const uint64_t now = now_of(c);
    if (c->load->rate == 0) {
        while (c->idle != NULL && now < c->to)
            begin(c, now);
        return;
    }
    while (c->arrivals.next < (double)c->to && (uint64_t)c->arrivals.next <= now) {
        const uint64_t due = (uint64_t)c->arrivals.next;
        if (c->idle == NULL) {
            c->short_at = now;
            return;
        }
        c->run->held_up += due <= c->short_at && due >= c->from;
        begin(c, due);
        ld_arrivals_advance(&c->arrivals);
    }
}

/* ns until something has to be done that no socket tells of. */
static uint64_t time_to_wait(const struct client *c)
{
    const uint64_t now = now_of(c);
    uint64_t next = now < c->to ? c->to : c->last;
    if (c->load->rate > 0 && c->arrivals.next < (double)c->to && c->idle != NULL)
        next = sooner(next, (uint64_t)c->arrivals.next);
    if (c->timer > 0)
        next = sooner(next, c->timer);
    return next > now ? next - now : 0;
}

static bool is_over(const struct client *c)
{
    const uint64_t now = now_of(c);
    const bool more = c->load->rate > 0 && (uint64_t)c->arrivals.next < c->to;
    return now >= c->last || (now >= c->to && c->in_flight == 0 && !more);
}

static void watch_cpu(struct client *c)
{
    const uint64_t now = now_of(c);
    if (c->cpu_from < 0 && now >= c->from) {
        c->cpu_from = cpu_seconds();
        c->run->cpu = -1;
    }
    if (c->run->cpu < 0 && now >= c->to)
        c->run->cpu = (cpu_seconds() - c->cpu_from) / c->run->seconds;
}

/* Lets curl do what it asked to be called for, the sending of new requests included. */
static void run_timer(struct client *c)
{
    int running;
    while (c->timer > 0 && c->timer <= now_of(c)) {
        c->timer = 0;
        curl_multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
}

static void run_socket(struct client *c, const struct epoll_event *e)
{
    int what = 0, running;
    if ((e->events & EPOLLIN) != 0)
        what |= CURL_CSELECT_IN;
    if ((e->events & EPOLLOUT) != 0)
        what |= CURL_CSELECT_OUT;
    if ((e->events & (EPOLLERR | EPOLLHUP)) != 0)
        what |= CURL_CSELECT_ERR;
    curl_multi_socket_action(c->multi, e->data.fd, what, &running);
}

static enum rt_status loop(struct client *c)
{
    enum rt_status s = RT_OK;
    while (s == RT_OK && !is_over(c)) {
        struct epoll_event event[EVENTS];
        bool any;
        begin_due(c);
        run_timer(c);
        s = collect(c, &any);
        watch_cpu(c);
        if (any) /* whose connections may be wanted at once */
            continue;
        const uint64_t wait = time_to_wait(c);
        const struct timespec t = { (time_t)(wait / SV_NS_PER_SECOND),
                                    (long)(wait % SV_NS_PER_SECOND) };
        const int n = epoll_pwait2(c->epoll, event, EVENTS, &t, NULL);
        if (n < 0 && errno != EINTR)
            return rt_fail(c->err, RT_E_IO, "epoll_pwait2: %s", strerror(errno));
        for (int i = 0; i < n; i++)
            run_socket(c, &event[i]);
    }
    return s;
}

/* What was not even sent when time was up. */
static void count_unsent(struct client *c)
{
    while (c->load->rate > 0 && (uint64_t)c->arrivals.next < c->to) {
        if ((uint64_t)c->arrivals.next >= c->from) {
            c->run->requests++;
            c->run->unsent++;
        }
        ld_arrivals_advance(&c->arrivals);
    }
}

/* What is still on its way then has no answer. */
static void count_lost(struct client *c)
{
    for (int i = 0; i < c->load->connections; i++) {
        const struct slot *s = &c->slot[i];
        bool idle = false;
        for (const struct slot *k = c->idle; k != NULL && !idle; k = k->next_idle)
            idle = k == s;
        if (idle || s->intended < c->from || s->intended >= c->to)
            continue;
        c->run->requests++;
        if (c->run->broken++ == 0)
            snprintf(c->run->why, sizeof c->run->why, "no answer in time");
    }
}

static enum rt_status create(struct client *c)
{
    const int n = c->load->connections;
    c->epoll = epoll_create1(EPOLL_CLOEXEC);
    c->multi = curl_multi_init();
    c->slot = rt_zalloc_array((size_t)n, sizeof *c->slot);
    if (c->epoll < 0 || c->multi == NULL || c->slot == NULL)
        return rt_fail_nomem(c->err, (unsigned)n * sizeof *c->slot);
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)n);
    for (int i = n - 1; i >= 0; i--) {
        struct slot *s = &c->slot[i];
        s->client = c;
        s->easy = curl_easy_init();
        if (s->easy == NULL)
            return rt_fail_nomem(c->err, 1);
        curl_easy_setopt(s->easy, CURLOPT_URL, c->bodies->url);
        curl_easy_setopt(s->easy, CURLOPT_PRIVATE, s);
        curl_easy_setopt(s->easy, CURLOPT_POST, 1L);
        curl_easy_setopt(s->easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(s->easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(s->easy, CURLOPT_TIMEOUT_MS, (long)(c->load->timeout * 1000));
        curl_easy_setopt(s->easy, CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER);
        curl_easy_setopt(s->easy, CURLOPT_PREREQFUNCTION, on_sending);
        curl_easy_setopt(s->easy, CURLOPT_PREREQDATA, s);
        curl_easy_setopt(s->easy, CURLOPT_HEADERFUNCTION, on_header);
        curl_easy_setopt(s->easy, CURLOPT_HEADERDATA, s);
        curl_easy_setopt(s->easy, CURLOPT_WRITEFUNCTION, on_answer);
        curl_easy_setopt(s->easy, CURLOPT_WRITEDATA, s);
        s->next_idle = c->idle;
        c->idle = s;
    }
    return RT_OK;
}

static void destroy(struct client *c)
{
    for (int i = 0; i < c->load->connections && c->slot != NULL; i++)
        if (c->slot[i].easy != NULL) {
            curl_multi_remove_handle(c->multi, c->slot[i].easy);
            curl_easy_cleanup(c->slot[i].easy);
        }
    curl_multi_cleanup(c->multi);
    rt_free(c->slot);
    if (c->epoll >= 0)
        close(c->epoll);
}

enum rt_status ld_client_run(const struct ld_bodies *bodies, const struct ld_load *load,
                             struct ld_run *out, struct rt_error *err)
{
    struct client c = {
        .bodies = bodies,
        .load = load,
        .run = out,
        .err = err,
        .from = (uint64_t)(load->warm_up * 1e9),
        .to = (uint64_t)((load->warm_up + load->seconds) * 1e9),
        .last = (uint64_t)((load->warm_up + load->seconds + load->timeout) * 1e9),
        .cpu_from = -1,
    };
    *out = (struct ld_run){ .seconds = load->seconds };
    if (load->rate > 0)
        ld_arrivals_init(&c.arrivals, load->process, load->rate, load->seed);
    c.started = sv_now_ns();
    enum rt_status s = create(&c);
    if (s == RT_OK) {
        c.started = sv_now_ns();
        c.timer = 0;
        s = loop(&c);
        watch_cpu(&c);
        count_unsent(&c);
        count_lost(&c);
    }
    destroy(&c);
    return s;
}
