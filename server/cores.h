/* The core budget: what the models' executors take before they compute and give back after, so
 * that models which are busy at the same time take turns instead of crowding the cores. */
#ifndef SERVER_CORES_H
#define SERVER_CORES_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/rt.h"

struct sv_cores;

/* One who waits in line. Lies inside the caller's own struct, and is the line's until its cores
 * have come. */
struct sv_turn {
    /* Its cores have been taken for it. Under the budget's lock: be quick. */
    void (*come)(struct sv_turn *turn);
    /* Does its work instead, on a thread that holds a core already, and after it still does. NULL:
     * nobody else can. */
    void (*run)(struct sv_turn *turn);
    /* The line's. */
    int n;
    uint64_t number;
    struct sv_turn *next;
};

/* total >= 1. */
enum rt_status sv_cores_create(int total, struct sv_cores **out, struct rt_error *err);
void sv_cores_destroy(struct sv_cores *c); /* takes NULL; nobody may hold or wait for cores */
int sv_cores_total(const struct sv_cores *c);

/* Sleeps until n cores (at most the total) are free, in order of arrival. c may be NULL: no
 * bound. */
void sv_cores_take(struct sv_cores *c, int n);
/* The same without sleeping: false when they are not free, or others wait. */
bool sv_cores_try_take(struct sv_cores *c, int n);
/* Takes up to `most` of the cores that are free and that nobody waits for; how many. */
int sv_cores_take_spare(struct sv_cores *c, int most);
void sv_cores_give(struct sv_cores *c, int n);

/* Joins the line for one core: turn->come is called once, by now if one is free. */
void sv_cores_line_up(struct sv_cores *c, struct sv_turn *turn);
/* For a thread that holds one core and is through with it. Work of others that is first in line,
 * and was there before number `before`, is returned for the caller to run with that core: a thread
 * that goes on need not wake up another. When there is none, NULL, and *kept tells what became of
 * the core: given back, or, as nobody was there before that number, still the caller's. */
struct sv_turn *sv_cores_pass_on(struct sv_cores *c, uint64_t before, bool *kept);
/* The number that who joins the line next will have. */
uint64_t sv_cores_next_number(struct sv_cores *c);
/* For sv_cores_pass_on(): everybody was there before. */
#define SV_TURN_NEVER UINT64_MAX

/* How one model uses a budget: executors run batches at the same time, each with a team of
 * threads. */
struct sv_core_split {
    int executors;
    int team;     /* of each run; where it is elastic, the largest */
    bool elastic; /* each run has as many threads as the load leaves it */
};

/* The split for a model whose configuration asks for `instances` executors (0: it does not say, and
 * the split is elastic). Else executors * team <= total, unless there are more instances than
 * cores. */
struct sv_core_split sv_cores_split(int total, int instances);
/* The largest team of executor i. In an elastic split it is at work when the i before it are, and
 * threads that a team has once had stay with it. */
int sv_cores_team(const struct sv_core_split *split, int i);

#endif
