/* Makes room for bodies as they come, and stops those that pass a bound. */
#include "server/incoming.h"

#include <string.h>

#include "runtime/rt.h"

/* Pieces that a body of unknown length may come in; beyond it each must have so many bytes. */
#define PIECES_MAX 65536
#define PIECE_MIN 1024

void sv_incoming_too_large(const struct sv_bodies *bodies, struct sv_response *res)
{
    sv_reply_status(res, 413, "the body is larger than the %zu bytes that are taken (--max-body)",
                    bodies->most);
}

void sv_incoming_drop(struct sv_incoming *in)
{
    if (in->bytes != NULL)
        rt_free(in->bytes - in->lead);
    in->bytes = NULL;
    atomic_fetch_sub_explicit(&in->bodies->held, in->room + in->more, memory_order_relaxed);
    in->room = in->more = 0;
}

/* Counts more bytes as held, unless that is over the bound. */
static enum rt_status book(struct sv_bodies *all, size_t more, struct rt_error *err)
{
    const size_t held = atomic_fetch_add_explicit(&all->held, more, memory_order_relaxed) +
                        atomic_load_explicit(&all->sending, memory_order_relaxed);
    if (all->most_memory == 0 || held + more <= all->most_memory)
        return RT_OK;
    atomic_fetch_sub_explicit(&all->held, more, memory_order_relaxed);
    return rt_fail(err, RT_E_BUSY,
                   "the requests at work have %zu bytes of bodies and answers, as many as may be "
                   "held (--max-body-memory)",
                   held);
}

enum rt_status sv_incoming_hold(struct sv_incoming *in, size_t more, struct rt_error *err)
{
    struct sv_bodies *all = in->bodies;
    enum rt_status s = RT_OK;
    if (atomic_load_explicit(&all->held, memory_order_relaxed) == in->room + in->more &&
        atomic_load_explicit(&all->sending, memory_order_relaxed) == 0)
        atomic_fetch_add_explicit(&all->held, more, memory_order_relaxed);
    else
        s = book(all, more, err);
    if (s == RT_OK)
        in->more += more;
    return s;
}

/* Makes room for len more bytes. */
static enum rt_status grow(struct sv_incoming *in, size_t len, struct rt_error *err)
{
    struct sv_bodies *all = in->bodies;
    size_t room = in->room > 0 ? in->room * 2 : SV_BODY_AT_ONCE;
    if (room < in->len + len)
        room = in->len + len;
    if (room > in->limit)
        room = in->limit;
    const size_t more = room - in->room;
    enum rt_status s = book(all, more, err);
    if (s != RT_OK)
        return s;
    char *grown =
        rt_realloc_array(in->bytes != NULL ? in->bytes - in->lead : NULL, in->lead + room + 1, 1);
    if (grown == NULL) {
        atomic_fetch_sub_explicit(&all->held, more, memory_order_relaxed);
        return rt_fail_nomem(err, room);
    }
    in->bytes = grown + in->lead;
    in->room = room;
    return RT_OK;
}

bool sv_incoming_answer(const struct sv_incoming *in, size_t len, struct sv_response *res)
{
    struct sv_bodies *all = in->bodies;
    const size_t sending = atomic_fetch_add_explicit(&all->sending, len, memory_order_relaxed);
    const size_t own = in->room + in->more;
    const size_t others = sending + atomic_load_explicit(&all->held, memory_order_relaxed) - own;
    if (all->most_memory == 0 || len <= SV_ANSWER_AT_ONCE || in->len == 0 || others == 0 ||
        others + own + len <= all->most_memory)
        return true;
    atomic_fetch_sub_explicit(&all->sending, len, memory_order_relaxed);
    struct rt_error err;
    rt_fail(&err, RT_E_BUSY,
            "the requests at work have %zu bytes of bodies and answers, there is no room for an "
            "answer of %zu (--max-body-memory)",
            others + own, len);
    sv_response_reset(res);
    sv_reply_error(res, &err);
    return false;
}

/* Whether a piece can be taken; when not, the response says why. */
static bool take(struct sv_incoming *in, size_t len, struct sv_response *res)
{
    struct rt_error err;
    if (len > in->limit - in->len) {
        sv_incoming_too_large(in->bodies, res);
        return false;
    }
    if (++in->n_pieces > PIECES_MAX + in->len / PIECE_MIN) {
        sv_reply_status(res, 400, "the body came in more than %d chunks", PIECES_MAX);
        return false;
    }
    if (len <= in->room - in->len || grow(in, len, &err) == RT_OK)
        return true;
    sv_reply_error(res, &err);
    return false;
}

/* Small pieces that are dropped count for more than they hold. */
bool sv_incoming_add(struct sv_incoming *in, const char *piece, size_t len, struct sv_response *res)
{
    in->unwanted |= !in->unwanted && !take(in, len, res);
    if (in->unwanted) {
        sv_incoming_drop(in);
        in->dropped += len > PIECE_MIN ? len : PIECE_MIN;
        return in->dropped / 4 <= in->bodies->most;
    }
    memcpy(in->bytes + in->len, piece, len);
    in->len += len;
    return true;
}
