/* One GET request to a server nearby, for asking whether it is well. */
#ifndef SERVER_PROBE_H
#define SERVER_PROBE_H

#include <stdbool.h>

#include "runtime/rt.h"

struct sv_probe {
    const char *host; /* name or address; NULL: this machine, by whichever loopback answers */
    int port;
    bool tls;         /* no certificate is checked: nothing is told, and hardly anything believed */
    const char *path; /* "/v2/health/ready" */
    double timeout;   /* seconds for all of it, looking up the name aside */
};

/* *status is that of the answer, whose body is not read. RT_E_IO when none came: the sentence says
 * how far it went. */
enum rt_status sv_probe(const struct sv_probe *p, int *status, struct rt_error *err);

#endif
