/* One measured load: requests to one URL over libcurl, in a closed or an open loop. */
#ifndef LOAD_CLIENT_H
#define LOAD_CLIENT_H

#include "runtime/rt.h"
#include "tests/load/arrivals.h"
#include "tests/load/body.h"
#include "tests/load/run.h"

struct ld_load {
    int connections;         /* closed loop: all are busy; open loop: the most there may be */
    double rate;             /* requests a second; 0: closed loop */
    enum ld_process process; /* of an open loop */
    uint64_t seed;
    double warm_up, seconds, timeout;
};

/* Applies the load and waits for its answers. A closed loop's latency runs from sending, an open
 * loop's from when the request was meant to begin. Reset *out in any case. */
enum rt_status ld_client_run(const struct ld_bodies *bodies, const struct ld_load *load,
                             struct ld_run *out, struct rt_error *err);

#endif
