/* A request's body while it comes in: bounded in length, in the pieces that it comes in, and by
 * what all bodies hold together. Knows nothing of sockets. */
#ifndef SERVER_INCOMING_H
#define SERVER_INCOMING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "server/request.h"

/* Up to this a body's declared length is allocated at once; beyond it memory follows what has
 * arrived, so that a length alone costs nothing. */
#define SV_BODY_AT_ONCE ((size_t)1 << 20)

/* Answers up to this are in the socket at once: the peer need not take them. */
#define SV_ANSWER_AT_ONCE ((size_t)64 << 10)

/* What all bodies of a server share. Any thread. */
struct sv_bodies {
    size_t most;           /* bytes of one (--max-body) */
    size_t most_memory;    /* of all at a time (--max-body-memory); 0: no bound */
    atomic_size_t held;    /* by all now */
    atomic_size_t sending; /* bytes of answers that the peers have yet to take: they count, too */
};

/* One of them; begins all zero but for bodies, lead and limit. One thread at a time. */
struct sv_incoming {
    struct sv_bodies *bodies;
    char *bytes;  /* lead bytes into their block, and a byte of room behind them; NULL: none came */
    size_t len;   /* that have come */
    size_t lead;  /* so many that the tensors behind the body's JSON are aligned */
    size_t limit; /* what may come in all, by the declaration or by bodies->most */
    size_t room;  /* without the lead and the byte behind; counted in bodies->held, as is */
    size_t more;  /* what sv_incoming_hold() was told */
    size_t n_pieces; /* that it came in */
    bool unwanted;   /* the response says why; the rest is dropped */
    size_t dropped;
};

/* The answer to a body that is, or says that it will be, longer than bodies->most. */
void sv_incoming_too_large(const struct sv_bodies *bodies, struct sv_response *res);
/* Adds a piece. Over a bound it becomes unwanted and *res says why; the rest is still to be read,
 * since an answer cannot be given in the middle of a body. False when too much of it has been. */
bool sv_incoming_add(struct sv_incoming *in, const char *piece, size_t len,
                     struct sv_response *res);
/* Counts the answer to it, of len bytes, until the caller takes them off bodies->sending. False,
 * and *res says why instead, when it is a long one and, with what the other requests hold, over the
 * bound: they were let in when nobody knew how long their answers would be. */
bool sv_incoming_answer(const struct sv_incoming *in, size_t len, struct sv_response *res);
/* Counts more bytes that are made of it, until it is dropped. RT_E_BUSY: that is over the bound,
 * and there are other requests. */
enum rt_status sv_incoming_hold(struct sv_incoming *in, size_t more, struct rt_error *err);
/* Frees the bytes; what has come stays counted in len. */
void sv_incoming_drop(struct sv_incoming *in);

#endif
