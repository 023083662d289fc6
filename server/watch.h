/* The thread that looks after sockets where the HTTP library does not: whether peers have gone
 * away, those that take longer than they may for what they send, and those that were refused in
 * the middle of a body, which are read empty before they are closed so that the refusal arrives. */
#ifndef SERVER_WATCH_H
#define SERVER_WATCH_H

#include "runtime/rt.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sv_watch;

/* Lies inside the caller's own struct, all zero but for the first four. */
struct sv_watched {
    int fd;
    bool patient;                       /* look once a second instead of ten times */
    void (*gone)(struct sv_watched *w); /* the peer closed; once, or for a patient one each second
                                           until it is removed; on the watch's thread, inside its
                                           lock: be quick, and call nothing of it */
    uint64_t patience_ns;               /* see resting */
    /* sv_now_ns() from which on a patient one's socket is shut down; 0: never. May be set at any
     * time. */
    _Atomic uint64_t deadline;
    /* sv_now_ns() since when the peer need not send anything; 0: it has to. Once it does send, its
     * deadline is patience_ns later. To be set before the deadline. */
    _Atomic uint64_t resting;
    struct sv_watched *next, *prev; /* the watch's */
    bool listed, told;              /* likewise */
};

enum rt_status sv_watch_create(struct sv_watch **out, struct rt_error *err);
/* Nothing may be watched any more; what lingers is closed. Takes NULL. */
void sv_watch_destroy(struct sv_watch *w);

/* gone is called soon after the peer has closed fd, or its sending half. */
void sv_watch_add(struct sv_watch *w, struct sv_watched *one);
/* After it gone is not called, nor being called. Takes one that is not watched. */
void sv_watch_remove(struct sv_watch *w, struct sv_watched *one);

/* Takes over fd, whose sending half is done with: reads and drops what still comes, for a few
 * seconds at most, then closes it. */
void sv_watch_linger(struct sv_watch *w, int fd);

#endif
