/* The core budget: what the models' executors take before they compute and give back after, so
 * that models which are busy at the same time take turns instead of crowding the cores. */
#ifndef SERVER_CORES_H
#define SERVER_CORES_H

#include <stdbool.h>

#include "runtime/rt.h"

struct sv_cores;

/* total >= 1. */
enum rt_status sv_cores_create(int total, struct sv_cores **out, struct rt_error *err);
void sv_cores_destroy(struct sv_cores *c); /* takes NULL; nobody may hold or wait for cores */
int sv_cores_total(const struct sv_cores *c);

/* Sleeps until n cores (at most the total) are free, in order of arrival. c may be NULL: no
 * bound. */
void sv_cores_take(struct sv_cores *c, int n);
/* The same without sleeping: false when they are not free, or others wait. */
bool sv_cores_try_take(struct sv_cores *c, int n);
void sv_cores_give(struct sv_cores *c, int n);

/* How one model uses a budget: executors run batches at the same time, each with a team of
 * threads. */
struct sv_core_split {
    int executors;
    int team;
};

/* The split for a model whose configuration asks for `instances` executors (0: it does not say).
 * executors * team <= total, unless there are more instances than cores. */
struct sv_core_split sv_cores_split(int total, int instances);

#endif
