/* The HTTP side: sockets <-> sv_request. Alone knows libmicrohttpd.
 *
 * A few threads serve all sockets and never wait: a request whose answer takes time is put to
 * sleep by its handler (request.h), and its connection rests until it is woken. */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include "server/request.h"
#include "server/tls.h"

struct sv_http;

struct sv_http_options {
    const char *host;         /* name or address to listen on; "": every address, IPv6 and IPv4 */
    int port;                 /* 0: any that is free */
    int threads;              /* that serve sockets; 0: two */
    size_t max_body;          /* bytes of a request's body; more gets 413 */
    size_t max_body_memory;   /* bytes of all bodies and answers at a time; more gets 503. 0: no
                                 bound */
    int max_connections;      /* open at a time; 0: 4096. More get 503 */
    int max_connections_each; /* of one address; 0: no bound. More get 429 */
    int idle_timeout;         /* seconds a connection may rest without a byte moving; 0: 75 */
    int header_timeout;       /* seconds that a request's headers may take to arrive, from its first
                                 byte or, for a connection's first, from its opening; 0: 20 */
    int body_timeout;         /* likewise its body; 0: 300 */
    struct sv_tls *tls;       /* NULL: without. Must outlive the sv_http */
    /* Asked when a request's headers are complete and a body follows: false, and an answer, when it
     * is to be refused unread. NULL: none is. */
    bool (*admits)(void *context, struct sv_request *req);
    /* Told when an answer is about to be sent: may add headers. NULL: nothing is to be added. */
    void (*answering)(void *context, struct sv_request *req);
    /* Told when a request is over, its answer sent or not. NULL: nobody wants to know. All on
     * threads that serve sockets: must not block. */
    void (*completed)(void *context, struct sv_request *req);
    /* Answers req or puts it to sleep. On a thread that serves sockets: must not block. */
    void (*handle)(void *context, struct sv_request *req);
    void *context;
};

/* Binds, listens and serves. RT_E_IO says what the system objected to. */
enum rt_status sv_http_start(const struct sv_http_options *options, struct sv_http **out,
                             struct rt_error *err);
int sv_http_port(const struct sv_http *h);
/* Requests that have arrived whole and whose answer has not been sent. */
int sv_http_in_flight(const struct sv_http *h);
int sv_http_connections(const struct sv_http *h);   /* open now */
size_t sv_http_body_bytes(const struct sv_http *h); /* held for bodies now */
size_t sv_http_answer_bytes(const struct sv_http *h); /* likewise for answers being sent */

/* New connections are refused from here on. Open ones are served on, and closed after each
 * answer. */
void sv_http_quiesce(struct sv_http *h);
/* After sv_http_quiesce(): waits until no request is in flight and none has come for a moment, in
 * which clients that keep their connections would have sent their next and been told that it is the
 * last; or until timeout_ns have passed. Whether it is so. */
bool sv_http_drain(struct sv_http *h, uint64_t timeout_ns);
/* Quiesces, waits for the requests in flight (their handlers must be on the way to wake them),
 * closes every connection and frees. Takes NULL. */
void sv_http_stop(struct sv_http *h);

#endif
