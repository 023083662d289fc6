/* A bar that says how far a long command has come: on a terminal only, on standard error, and gone
 * when the command is done. */
#ifndef SERVER_PROGRESS_H
#define SERVER_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sv_progress {
    const char *what; /* "measuring" */
    bool shown;       /* standard error is a terminal */
    uint64_t next;    /* sv_now_ns() before which nothing is drawn anew */
};

/* what lives as long as p. Nothing is drawn yet. */
void sv_progress_begin(struct sv_progress *p, const char *what);
/* share: 0 to 1. detail may be NULL. Draws a few times a second, however often it is called. */
void sv_progress_show(struct sv_progress *p, double share, const char *detail);
/* For rt_options.progress: the bar of a large model that is being loaded; user is a struct
 * sv_progress. Small ones are loaded before anybody could read it. */
void sv_progress_loading(void *user, size_t done, size_t total);
/* Takes the bar away. Also to be called before anything else is printed. */
void sv_progress_end(struct sv_progress *p);

#endif
