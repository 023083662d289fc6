/* What a handler sees of HTTP: one request and the answer to it. Knows nothing of sockets, so that
 * tests call handlers directly. */
#ifndef SERVER_REQUEST_H
#define SERVER_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/rt.h"
#include "server/text.h"

struct sv_request;

#define SV_RESPONSE_HEADERS 16
#define SV_PEER 46 /* of an address as text */
#define SV_HEADER_VALUE 128

/* Begins all zero, which stands for 200 without a body; ended by sv_response_reset(). */
struct sv_response {
    int status;               /* 0: 200 */
    const char *content_type; /* static; NULL: application/json */
    const void *body;         /* set through the functions below */
    size_t body_len;
    bool body_owned;
    bool coded; /* whether to compress the body has been decided (compress.h) */
    int n_headers;
    struct sv_header {
        const char *name; /* static */
        char value[SV_HEADER_VALUE];
    } header[SV_RESPONSE_HEADERS];
};

/* Adds a header, whose value is cut at SV_HEADER_VALUE - 1 bytes. There is room for all that this
 * program sends. */
void sv_response_header(struct sv_response *res, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void sv_response_header_text(struct sv_response *res, const char *name, const char *value);
/* text lives as long as the program. */
void sv_response_static(struct sv_response *res, const char *text);
/* Takes over the text's memory and leaves it empty; a text that ran out of memory becomes an error
 * answer. */
void sv_response_text(struct sv_response *res, struct sv_text *text);
void sv_response_reset(struct sv_response *res);

/* {"error":"..."} with this HTTP status. What was in res before is dropped, but for headers. */
void sv_reply_status(struct sv_response *res, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same with the HTTP status that belongs to err->status, and Retry-After where a later try
 * may do better. */
void sv_reply_error(struct sv_response *res, const struct rt_error *err);
/* That table: 400 for RT_E_INVALID, and so on. */
int sv_http_status(enum rt_status status);

/* What a handler leaves behind when the answer has to wait. state is the handler's own. */
struct sv_work {
    /* Fills the response, or puts the request to sleep again: with other work, of which a new state
     * is then the one to be released, and its own is gone. Once, after sv_request_wake(), on a
     * thread that serves sockets. */
    void (*finish)(void *state, struct sv_request *req);
    /* The client went away: what still waits need not be done, but sv_request_wake() must be
     * called all the same. On any thread, at any time before finish and release, at most once;
     * NULL: does nothing. */
    void (*cancel)(void *state);
    /* Frees state. After finish, or in its place. */
    void (*release)(void *state);
};

/* What a request that used a model cost, for headers and the access log. Strings live as long as
 * the request's state. */
struct sv_account {
    const char *model, *version; /* NULL: it used none */
    int batch;                   /* samples of the largest run it took part in */
    uint64_t decode_ns, queue_ns, compute_ns;
};

struct sv_request {
    const char *method;
    const char *path; /* without the query, percent-encoded as it came */
    const char *body; /* body[0..body_len), and a zero byte behind it */
    size_t body_len;
    uint64_t arrival; /* sv_now_ns() when its headers were complete */

    /* A header by its name in any case, NULL when absent; value i, from 0, of those that a query
     * has for a name, still percent-encoded, and the name of its argument i, both NULL behind the
     * last. Only while a handler or finish runs; the strings live as long as the request. Ask
     * through sv_request_header() and sv_request_query_int(). */
    const char *(*find_header)(const struct sv_request *req, const char *name);
    const char *(*find_query)(const struct sv_request *req, const char *name, int i);
    const char *(*query_name)(const struct sv_request *req, int i);
    /* Where it came from; "" when that is not known. NULL: never known. */
    void (*find_peer)(const struct sv_request *req, char out[SV_PEER]);
    /* Whoever made the request is told here that a sleeping one can go on. On any thread. */
    void (*woken)(struct sv_request *req);
    /* Counts more bytes of memory as this request's, until its end; RT_E_BUSY: there is no room for
     * them. On any thread, one at a time. NULL: nobody counts. */
    enum rt_status (*hold)(struct sv_request *req, size_t more, struct rt_error *err);

    char id[SV_HEADER_VALUE]; /* by sv_request_identify(): the client's own, or one made up */
    char trace[33];           /* the trace id of the traceparent header, "" when there is none */
    struct sv_account account;

    char *inflated; /* owned: the body, where it came compressed (compress.h) */
    struct sv_response response;
    bool sent;                  /* the whole answer was */
    const struct sv_work *work; /* NULL: the handler has filled the response */
    void *state;
    bool asleep; /* between sv_request_sleep() and sv_request_finish() */
};

const char *sv_request_header(const struct sv_request *req, const char *name);
/* The whole number from min to max that the query has for the only name it may have; *out is left
 * as it is when it has none. RT_E_INVALID: it is something else, or there are several, or other
 * names, which would have been misspelt. */
enum rt_status sv_request_query_int(const struct sv_request *req, const char *name, int min,
                                    int max, int *out, struct rt_error *err);

/* Gives the request its id, which the answer then repeats, and its trace. Once. */
void sv_request_identify(struct sv_request *req);
/* The status that the client saw; 499 when it went away before it could. */
int sv_request_status(const struct sv_request *req);

/* Called by a handler that returns without an answer. From then on the request may be woken, by
 * any thread, even before the handler has returned; the handler must not touch it any more. Until
 * then it belongs to whoever wakes it, but for what may only be asked while a handler runs. */
void sv_request_sleep(struct sv_request *req, const struct sv_work *work, void *state);
/* Ends the sleep. Once; the caller must not touch req or state after it. */
void sv_request_wake(struct sv_request *req);

/* For whoever made the request, once it has been woken: finishes its work. It may be asleep
 * after it. */
void sv_request_finish(struct sv_request *req);

/* For whoever made the request: frees what the handler left in it, not the request itself. */
void sv_request_reset(struct sv_request *req);

#endif
