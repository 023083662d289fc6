/* libmicrohttpd's callbacks: take the head, let the body come in, dispatch once, sleep, answer,
 * free. */
#include "server/http.h"

#include "runtime/rt.h"
#include "server/clients.h"
#include "server/clock.h"
#include "server/compress.h"
#include "server/give_way.h"
#include "server/head.h"
#include "server/incoming.h"
#include "server/listen.h"
#include "server/log.h"
#include "server/watch.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct sv_http {
    struct sv_http_options options;
    struct MHD_Daemon *daemon;
    struct sv_watch *watch;
    struct sv_clients *clients;
    int port;
    int quiet;             /* the socket that listened, once closing; -1 */
    atomic_bool closing;   /* quiesced */
    _Atomic uint64_t stir; /* sv_now_ns() when, while closing, a client last did anything */
    atomic_bool stopping;  /* nothing is dispatched any more */
    atomic_int in_flight;  /* exchanges that were dispatched */
    atomic_int at_work;    /* likewise, and have not been answered */
    atomic_int waking;     /* threads inside woken() */
    struct sv_bodies bodies;
};

/* Shorter bodies have mostly come by the time their headers are read. */
#define WORTH_ASKING ((size_t)64 << 10)
/* Clients that keep their connections send the next request this soon; a draining server that has
 * heard of none for so long has answered all. */
#define CALM_NS (SV_NS_PER_SECOND / 4)
/* Connections beyond the bound that are open for as long as it takes to refuse them: how many, and
 * how long each. */
#define SURPLUS 128
#define SURPLUS_SECONDS 5
/* What a connection may use for headers and as its window on a body. */
#define CONNECTION_MEMORY ((size_t)32 << 10)

enum phase {
    AWAKE,  /* the handler runs, or will */
    ASLEEP, /* the connection is suspended */
    WOKEN,  /* sv_request_wake() was called */
};

/* A request while libmicrohttpd knows it: made when its headers are complete, freed when it has
 * been completed, which is never while it sleeps. */
struct exchange {
    struct sv_request req; /* first: a request is an exchange */
    struct sv_http *http;
    struct MHD_Connection *connection;
    struct sv_incoming body;
    size_t sending; /* bytes of the answer; counted in http->bodies.sending */
    bool dispatched;
    bool at_work;
    bool refused; /* answered before its body was read */
    struct sv_watched watched;
    atomic_int phase;
};

static struct exchange *exchange_of(const struct sv_request *req)
{
    return (struct exchange *)(uintptr_t)req;
}

static const char *find_header(const struct sv_request *req, const char *name)
{
    return MHD_lookup_connection_value(exchange_of(req)->connection, MHD_HEADER_KIND, name);
}

/* Looks for value number i of a name; name NULL: for the name of argument number i. */
struct query {
    const char *name;
    int i;
    const char *found;
};

static enum MHD_Result match_query(void *cls, enum MHD_ValueKind kind, const char *name,
                                   const char *value)
{
    (void)kind;
    struct query *q = cls;
    if ((q->name != NULL && strcmp(name, q->name) != 0) || q->i-- > 0)
        return MHD_YES;
    q->found = q->name == NULL ? name : value != NULL ? value : "";
    return MHD_NO;
}

static const char *find_query(const struct sv_request *req, const char *name, int i)
{
    struct query q = { .name = name, .i = i };
    MHD_get_connection_values(exchange_of(req)->connection, MHD_GET_ARGUMENT_KIND, match_query, &q);
    return q.found;
}

static const char *query_name(const struct sv_request *req, int i)
{
    return find_query(req, NULL, i);
}

/* x may be gone once the connection is resumed; http stays while a thread is counted here. */
static void woken(struct sv_request *req)
{
    struct exchange *x = exchange_of(req);
    struct sv_http *h = x->http;
    atomic_fetch_add(&h->waking, 1);
    if (atomic_exchange(&x->phase, WOKEN) == ASLEEP)
        MHD_resume_connection(x->connection);
    atomic_fetch_sub(&h->waking, 1);
}

static enum rt_status hold(struct sv_request *req, size_t more, struct rt_error *err)
{
    return sv_incoming_hold(&exchange_of(req)->body, more, err);
}

static void client_gone(struct sv_watched *w)
{
    struct exchange *x =
        (struct exchange *)(void *)((char *)w - offsetof(struct exchange, watched));
    if (x->req.work->cancel != NULL)
        x->req.work->cancel(x->req.state);
}

static const struct sockaddr *address_of(struct MHD_Connection *c)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    return info != NULL ? info->client_addr : NULL;
}

static void find_peer(const struct sv_request *req, char out[SV_PEER])
{
    sv_address_text(address_of(exchange_of(req)->connection), out, SV_PEER);
}

/* NULL when there was no memory for it. */
static struct sv_client *client_of(struct MHD_Connection *c)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info != NULL ? info->socket_context : NULL;
}

/* What the peer sends next must have come in this many seconds; 0: nothing is awaited.
 * libmicrohttpd itself only sees connections on which nothing moves at all. */
static void allow(struct MHD_Connection *c, int seconds)
{
    struct sv_client *client = client_of(c);
    if (client != NULL)
        atomic_store_explicit(&client->watched.deadline,
                              seconds > 0 ? sv_now_ns() + (uint64_t)seconds * SV_NS_PER_SECOND : 0,
                              memory_order_release);
}

/* The peer may rest now; when it begins to send, the time for headers begins. */
static void allow_rest(struct sv_http *h, struct MHD_Connection *c)
{
    struct sv_client *client = client_of(c);
    if (client == NULL)
        return;
    atomic_store_explicit(&client->watched.resting, sv_now_ns(), memory_order_relaxed);
    allow(c, h->options.idle_timeout + h->options.header_timeout);
}

/* Whoever drains waits for calm. */
static void stir(struct sv_http *h)
{
    if (atomic_load_explicit(&h->closing, memory_order_relaxed))
        atomic_store_explicit(&h->stir, sv_now_ns(), memory_order_relaxed);
}

static int socket_of(struct MHD_Connection *c)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info != NULL ? info->connect_fd : -1;
}

/* It holds up a stop no longer. */
static void leave_work(struct exchange *x)
{
    if (x->at_work)
        atomic_fetch_sub(&x->http->at_work, 1);
    x->at_work = false;
}

/* Hands the response over to libmicrohttpd. */
static enum MHD_Result answer(struct exchange *x)
{
    struct sv_response *res = &x->req.response;
    sv_response_deflate(&x->req);
    if (res->body_owned && sv_incoming_answer(&x->body, res->body_len, res))
        x->sending = res->body_len;
    if (x->http->options.answering != NULL)
        x->http->options.answering(x->http->options.context, &x->req);
    if (res->body_len > SV_ANSWER_AT_ONCE)
        allow(x->connection, x->http->options.body_timeout);
    void *body = (void *)(uintptr_t)res->body;
    struct MHD_Response *r =
        res->body_owned
            ? MHD_create_response_from_buffer_with_free_callback(res->body_len, body, rt_free)
            : MHD_create_response_from_buffer(res->body_len, body, MHD_RESPMEM_PERSISTENT);
    if (r == NULL)
        return MHD_NO;
    res->body_owned = false;
    const char *type = res->content_type != NULL ? res->content_type : "application/json";
    bool good = res->body_len == 0 || MHD_add_response_header(r, "Content-Type", type) == MHD_YES;
    for (int i = 0; i < res->n_headers; i++)
        good &= MHD_add_response_header(r, res->header[i].name, res->header[i].value) == MHD_YES;
    if (atomic_load_explicit(&x->http->closing, memory_order_relaxed))
        good &= MHD_add_response_header(r, "Connection", "close") == MHD_YES;
    int status = res->status != 0 ? res->status : 200;
    enum MHD_Result queued = good ? MHD_queue_response(x->connection, (unsigned)status, r) : MHD_NO;
    MHD_destroy_response(r);
    return queued;
}

/* Lets the connection rest until the request is woken, which it may have been by now. */
static void rest(struct exchange *x)
{
    x->watched = (struct sv_watched){ .fd = socket_of(x->connection), .gone = client_gone };
    sv_watch_add(x->http->watch, &x->watched);
    MHD_suspend_connection(x->connection);
    int awake = AWAKE;
    if (!atomic_compare_exchange_strong(&x->phase, &awake, ASLEEP))
        MHD_resume_connection(x->connection);
}

/* The handler, or finish, is through: the request sleeps, and goes on when it is woken, or it has
 * its answer. */
static enum MHD_Result go_on(struct exchange *x)
{
    while (x->req.asleep) {
        if (atomic_load(&x->phase) != WOKEN) {
            rest(x);
            return MHD_YES;
        }
        atomic_store(&x->phase, AWAKE);
        sv_request_finish(&x->req);
    }
    enum MHD_Result r = answer(x);
    leave_work(x);
    return r;
}

/* The request is complete: lets it be answered, now or later. Nothing is dispatched while stopping,
 * as a suspended connection cannot be closed. */
static enum MHD_Result dispatch(struct exchange *x)
{
    struct sv_http *h = x->http;
    x->dispatched = x->at_work = true;
    atomic_fetch_add(&h->in_flight, 1);
    atomic_fetch_add(&h->at_work, 1);
    allow(x->connection, 0);
    if (x->body.bytes != NULL)
        x->body.bytes[x->body.len] = '\0';
    x->req.body = x->body.bytes != NULL ? x->body.bytes : "";
    if (atomic_load(&h->stopping))
        sv_reply_status(&x->req.response, 503, "Server not ready: it is stopping");
    else
        h->options.handle(h->options.context, &x->req);
    return go_on(x);
}

/* Answers before the body has been read, which ends the connection. */
static enum MHD_Result refuse(struct exchange *x)
{
    x->refused = true;
    sv_response_header(&x->req.response, "Connection", "close");
    return answer(x);
}

static enum MHD_Result refuse_surplus(struct exchange *x, enum sv_surplus surplus)
{
    struct sv_response *res = &x->req.response;
    sv_response_header(res, "Retry-After", "1");
    if (surplus == SV_SURPLUS_EACH)
        sv_reply_status(res, 429,
                        "there are more than %d connections from this address "
                        "(--max-connections-per-address)",
                        x->http->options.max_connections_each);
    else
        sv_reply_status(res, 503, "there are more than %d connections (--max-connections)",
                        x->http->options.max_connections);
    return refuse(x);
}

/* Whether a header went on on the next line. libmicrohttpd moves its name away then and puts what
 * went on behind that: a length that is folded is one no more, and its body would be the next
 * request. A header of one line lies where it came in, its value behind the name and blanks. */
static bool is_folded(const char *name, const char *value)
{
    if (value == NULL)
        return false;
    const char *behind = name + strlen(name) + 1;
    const size_t blanks = (uintptr_t)value - (uintptr_t)behind; /* huge where value lies before */
    return blanks > CONNECTION_MEMORY || strspn(behind, " \t") < blanks;
}

/* A head while its headers are gone through. */
struct reading {
    struct sv_head *head;
    const char *end; /* of the header before, where it lay; NULL: not known */
};

/* Whether there is more than line ends between two places of a head: libmicrohttpd hands out
 * strings, which end at a zero byte, and leaves out headers without a name. Where it has moved
 * something, as it does with what is folded, nothing can be said. */
static bool is_hidden(const char *from, const char *to, size_t line_ends)
{
    const size_t between = (uintptr_t)to - (uintptr_t)from;
    return from != NULL && between > line_ends && between < CONNECTION_MEMORY;
}

static enum MHD_Result add_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                  const char *value)
{
    (void)kind;
    struct reading *r = cls;
    r->head->folded |= is_folded(name, value);
    r->head->hidden |= is_hidden(r->end, name, 2);
    r->end = value != NULL ? value + strlen(value) : NULL;
    sv_head_add(r->head, name, value);
    return MHD_YES;
}

static enum MHD_Result add_argument(void *cls, enum MHD_ValueKind kind, const char *name,
                                    const char *value)
{
    (void)kind;
    struct sv_head *head = cls;
    head->target_len += strlen(name) + (value != NULL ? strlen(value) : 0) + 2;
    return MHD_YES;
}

/* What stands in front of `path` and behind it shows whether either was cut at a zero byte. */
static void read_head(struct MHD_Connection *c, const char *path, const char *method,
                      const char *version, struct sv_head *head)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    const struct sv_client *client = client_of(c);
    *head = (struct sv_head){ .http_1_0 = strcmp(version, "HTTP/1.0") == 0,
                              .target_len = strlen(path),
                              .len = info != NULL ? info->header_size : 0 };
    MHD_get_connection_values(c, MHD_GET_ARGUMENT_KIND, add_argument, head);
    const char *target = method + strlen(method) + 1;
    head->hidden = is_hidden(target, path, strspn(target, " ")) ||
                   (client != NULL && is_hidden(path + client->target_len, version, 1));
    struct reading r = { .head = head };
    MHD_get_connection_values(c, MHD_HEADER_KIND, add_header, &r);
    head->hidden |= is_hidden(r.end, method + head->len, 4);
}

/* Tensors that lie in the body are used there, if they are aligned. Whether the length of what is
 * in front of them is a good one is the codec's to say. */
static size_t lead_of(const struct sv_request *req)
{
    const char *json_len = find_header(req, "Inference-Header-Content-Length");
    return json_len != NULL ? -(size_t)strtoull(json_len, NULL, 10) % RT_ALIGN : 0;
}

/* Asks whether the body is wanted, where reading it is more work than asking. One that is not, and
 * long or yet to be sent, is not read: that costs the connection, and so does one of unknown
 * length. Others are read and dropped, as a new connection costs more. */
static enum MHD_Result ask_admission(struct exchange *x, const struct sv_head *head)
{
    const struct sv_http_options *o = &x->http->options;
    const bool known = head->encoding == NULL;
    if (o->admits == NULL || (known && (head->length == NULL || x->body.limit < WORTH_ASKING)))
        return MHD_YES;
    x->body.unwanted = !o->admits(o->context, &x->req);
    if (x->body.unwanted && (!known || x->body.limit > SV_BODY_AT_ONCE || head->expects))
        return refuse(x);
    return MHD_YES;
}

/* The headers are complete. A body that is declared too large is refused unread, as is a connection
 * that is one too many; *out is NULL when there is no memory even to say so. */
static enum MHD_Result begin(struct sv_http *h, struct MHD_Connection *c, const char *path,
                             const char *method, const char *version, struct exchange **out)
{
    struct exchange *x = rt_zalloc(sizeof *x);
    if (x == NULL)
        return MHD_NO;
    *out = x;
    x->http = h;
    x->body.bodies = &h->bodies;
    x->connection = c;
    x->req.method = method;
    x->req.path = path;
    x->req.arrival = sv_now_ns();
    x->req.find_header = find_header;
    x->req.find_query = find_query;
    x->req.query_name = query_name;
    x->req.find_peer = find_peer;
    x->req.woken = woken;
    x->req.hold = hold;
    const struct sv_client *client = client_of(c);
    if (client != NULL && client->surplus != SV_SURPLUS_NONE)
        return refuse_surplus(x, client->surplus);
    struct sv_head head;
    read_head(c, path, method, version, &head);
    if (!sv_head_check(&head, &x->req.response))
        return refuse(x);
    allow(c, h->options.body_timeout);
    x->body.lead = lead_of(&x->req);
    x->body.limit = h->options.max_body;
    if (head.length != NULL) {
        unsigned long long len = strtoull(head.length, NULL, 10); /* libmicrohttpd checked it */
        if (len > h->options.max_body) {
            sv_incoming_too_large(&h->bodies, &x->req.response);
            return refuse(x);
        }
        x->body.limit = (size_t)len;
    }
    return ask_admission(x, &head);
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *c, const char *path,
                                 const char *method, const char *version, const char *data,
                                 size_t *len, void **con_cls)
{
    struct exchange *x = *con_cls;
    stir(cls);
    if (x == NULL) {
        enum MHD_Result r = begin(cls, c, path, method, version, &x);
        *con_cls = x;
        return r;
    }
    if (*len > 0) {
        const bool taken = sv_incoming_add(&x->body, data, *len, &x->req.response);
        x->req.body_len = x->body.len;
        *len = 0;
        return taken ? MHD_YES : MHD_NO;
    }
    if (!x->dispatched)
        return x->body.unwanted ? answer(x) : dispatch(x);
    sv_watch_remove(x->http->watch, &x->watched);
    return go_on(x);
}

static void on_completed(void *cls, struct MHD_Connection *c, void **con_cls,
                         enum MHD_RequestTerminationCode why)
{
    struct sv_http *h = cls;
    struct exchange *x = *con_cls;
    if (x == NULL)
        return;
    *con_cls = NULL;
    sv_watch_remove(h->watch, &x->watched);
    leave_work(x);
    allow_rest(h, c);
    stir(h);
    /* What is written to a peer that has closed seems to be sent, until it says that it is not. */
    x->req.sent = why == MHD_REQUEST_TERMINATED_COMPLETED_OK && !x->watched.told;
    if (h->options.completed != NULL)
        h->options.completed(h->options.context, &x->req);
    if (x->refused) {
        int fd = dup(socket_of(c));
        if (fd >= 0)
            sv_watch_linger(h->watch, fd);
    }
    bool was_counted = x->dispatched;
    atomic_fetch_sub_explicit(&h->bodies.sending, x->sending, memory_order_relaxed);
    sv_request_reset(&x->req);
    sv_incoming_drop(&x->body);
    rt_free(x);
    if (was_counted)
        atomic_fetch_sub(&h->in_flight, 1);
}

/* libmicrohttpd overlooks the end of a connection that came together with its last bytes: its epoll
 * is edge-triggered, and a read that was not filled counts as the last one. This is a new edge. */
static void make_edge(struct sv_watched *w)
{
    shutdown(w->fd, SHUT_RD);
}

/* Without memory the connection is served unwatched and uncounted. */
static void on_connection(void *cls, struct MHD_Connection *c, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct sv_http *h = cls;
    struct sv_client *client = *context;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        client = rt_zalloc(sizeof *client);
        *context = client;
        if (client == NULL)
            return;
        sv_clients_enter(h->clients, client, address_of(c));
        /* One that is too many waits for its refusal a moment only. */
        int patience =
            client->surplus != SV_SURPLUS_NONE ? SURPLUS_SECONDS : h->options.header_timeout;
        client->watched.fd = socket_of(c);
        client->watched.patient = true;
        client->watched.gone = make_edge;
        client->watched.patience_ns = (uint64_t)h->options.header_timeout * SV_NS_PER_SECOND;
        atomic_init(&client->watched.deadline, sv_now_ns() + (uint64_t)patience * SV_NS_PER_SECOND);
        sv_watch_add(h->watch, &client->watched);
    } else if (client != NULL) {
        sv_watch_remove(h->watch, &client->watched);
        sv_clients_leave(h->clients, client);
        rt_free(client);
    }
}

/* The request line is complete; the rest of the headers has to follow. The time for them has begun
 * already, unless both came at once behind a rest. What is returned becomes the request's first
 * *con_cls. */
static void *on_request_line(void *cls, const char *uri, struct MHD_Connection *c)
{
    struct sv_http *h = cls;
    struct sv_client *client = client_of(c);
    stir(h);
    if (client != NULL)
        client->target_len = strlen(uri);
    if (client != NULL &&
        atomic_exchange_explicit(&client->watched.resting, 0, memory_order_relaxed) != 0)
        allow(c, h->options.header_timeout);
    return NULL;
}

/* Paths are decoded after they have been split, so that %2F is no separator. */
static size_t leave_encoded(void *cls, struct MHD_Connection *c, char *s)
{
    (void)cls;
    (void)c;
    return strlen(s);
}

static void on_log(void *cls, const char *fmt, va_list ap)
{
    (void)cls;
    if (!sv_log_enabled(SV_LOG_DEBUG))
        return;
    char line[512];
    vsnprintf(line, sizeof line, fmt, ap);
    line[strcspn(line, "\n")] = '\0';
    sv_log(SV_LOG_DEBUG, "http: %s", line);
}

#define OPTIONS_MAX 8

static void fill_options(const struct sv_http *h, int fd, struct MHD_OptionItem list[OPTIONS_MAX])
{
    const struct sv_http_options *o = &h->options;
    int n = 0;
    list[n++] = (struct MHD_OptionItem){ MHD_OPTION_LISTEN_SOCKET, fd, NULL };
    /* Each thread gets an equal part of this, but not of the connections. */
    list[n++] = (struct MHD_OptionItem){ MHD_OPTION_CONNECTION_LIMIT,
                                         (o->max_connections + SURPLUS) * o->threads, NULL };
    list[n++] = (struct MHD_OptionItem){ MHD_OPTION_CONNECTION_TIMEOUT, o->idle_timeout, NULL };
    list[n++] = (struct MHD_OptionItem){ MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                                         (intptr_t)CONNECTION_MEMORY, NULL };
    if (o->threads > 1) /* a pool of one is what libmicrohttpd calls no pool */
        list[n++] = (struct MHD_OptionItem){ MHD_OPTION_THREAD_POOL_SIZE, o->threads, NULL };
    if (o->tls != NULL) {
        list[n++] =
            (struct MHD_OptionItem){ MHD_OPTION_HTTPS_CERT_CALLBACK, 0, sv_tls_callback(o->tls) };
        list[n++] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_PRIORITIES, 0,
                                             (void *)(uintptr_t)SV_TLS_PRIORITIES };
    }
    list[n] = (struct MHD_OptionItem){ MHD_OPTION_END, 0, NULL };
}

enum rt_status sv_http_start(const struct sv_http_options *options, struct sv_http **out,
                             struct rt_error *err)
{
    int fd = -1;
    struct sv_http *h = rt_zalloc(sizeof *h);
    if (h == NULL)
        return rt_fail_nomem(err, sizeof *h);
    h->options = *options;
    h->bodies =
        (struct sv_bodies){ .most = options->max_body, .most_memory = options->max_body_memory };
    h->quiet = -1;
    if (h->options.threads == 0)
        h->options.threads = 2;
    if (h->options.max_connections == 0)
        h->options.max_connections = 4096;
    if (h->options.idle_timeout == 0)
        h->options.idle_timeout = 75;
    if (h->options.header_timeout == 0)
        h->options.header_timeout = 20;
    if (h->options.body_timeout == 0)
        h->options.body_timeout = 300;
    enum rt_status s = sv_watch_create(&h->watch, err);
    if (s == RT_OK)
        s = sv_clients_create(h->options.max_connections, h->options.max_connections_each,
                              &h->clients, err);
    if (s == RT_OK)
        s = sv_listen(options->host, options->port, &fd, &h->port, err);
    if (s != RT_OK)
        goto fail;
    struct MHD_OptionItem list[OPTIONS_MAX];
    fill_options(h, fd, list);
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC |
                     MHD_USE_ERROR_LOG | (options->tls != NULL ? MHD_USE_TLS : 0);
    sv_go_first();
    h->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_access, h, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, h, MHD_OPTION_NOTIFY_CONNECTION, on_connection,
        h, MHD_OPTION_UNESCAPE_CALLBACK, leave_encoded, NULL, MHD_OPTION_URI_LOG_CALLBACK,
        on_request_line, h, MHD_OPTION_ARRAY, list, MHD_OPTION_END);
    sv_go_as_others();
    if (h->daemon == NULL) {
        s = rt_fail(err, RT_E_IO, "the HTTP server cannot be started on port %d", h->port);
        goto fail;
    }
    *out = h;
    return RT_OK;
fail:
    if (fd >= 0)
        close(fd);
    sv_clients_destroy(h->clients);
    sv_watch_destroy(h->watch);
    rt_free(h);
    return s;
}

int sv_http_port(const struct sv_http *h)
{
    return h->port;
}

int sv_http_in_flight(const struct sv_http *h)
{
    return atomic_load(&h->in_flight);
}

size_t sv_http_body_bytes(const struct sv_http *h)
{
    return atomic_load(&h->bodies.held);
}

size_t sv_http_answer_bytes(const struct sv_http *h)
{
    return atomic_load(&h->bodies.sending);
}

int sv_http_connections(const struct sv_http *h)
{
    return sv_clients_count(h->clients);
}

void sv_http_quiesce(struct sv_http *h)
{
    atomic_store(&h->stir, sv_now_ns());
    if (atomic_exchange(&h->closing, true))
        return;
    /* It listens no more, but stays open: libmicrohttpd's threads have yet to take it out of what
     * they wait for, and end the process when they cannot. */
    h->quiet = MHD_quiesce_daemon(h->daemon);
    if (h->quiet >= 0)
        shutdown(h->quiet, SHUT_RDWR);
}

static void nap(void)
{
    nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

static bool is_calm(const struct sv_http *h)
{
    if (sv_http_in_flight(h) > 0)
        return false;
    return sv_http_connections(h) == 0 || sv_now_ns() - atomic_load(&h->stir) >= CALM_NS;
}

bool sv_http_drain(struct sv_http *h, uint64_t timeout_ns)
{
    uint64_t begun = sv_now_ns();
    while (!is_calm(h) && sv_now_ns() - begun < timeout_ns)
        nap();
    return is_calm(h);
}

void sv_http_stop(struct sv_http *h)
{
    if (h == NULL)
        return;
    sv_http_quiesce(h);
    atomic_store(&h->stopping, true);
    while (atomic_load(&h->at_work) > 0 || atomic_load(&h->waking) > 0)
        nap();
    MHD_stop_daemon(h->daemon);
    if (h->quiet >= 0)
        close(h->quiet);
    sv_clients_destroy(h->clients);
    sv_watch_destroy(h->watch);
    rt_free(h);
}
