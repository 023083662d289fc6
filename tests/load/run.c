/* What runs have counted, added up and summed up. */
#include "tests/load/run.h"

#include <stdio.h>

void ld_run_reset(struct ld_run *r)
{
    for (int i = 0; i < r->n_statuses; i++) {
        ld_histogram_reset(&r->status[i].ns);
        ld_histogram_reset(&r->status[i].first);
    }
    ld_histogram_reset(&r->late);
    *r = (struct ld_run){ 0 };
}

enum rt_status ld_run_merge(struct ld_run *r, const struct ld_run *from, struct rt_error *err)
{
    const double seconds = r->seconds + from->seconds;
    r->cpu = (r->cpu * r->seconds + from->cpu * from->seconds) / seconds;
    r->seconds = seconds;
    r->requests += from->requests;
    r->answered_in_time += from->answered_in_time;
    r->broken += from->broken;
    r->unsent += from->unsent;
    r->wrong += from->wrong;
    r->held_up += from->held_up;
    r->without_retry_after += from->without_retry_after;
    if (r->why[0] == '\0')
        snprintf(r->why, sizeof r->why, "%s", from->why);
    enum rt_status s = ld_histogram_merge(&r->late, &from->late, err);
    for (int i = 0; i < from->n_statuses && s == RT_OK; i++) {
        struct ld_times *to = ld_run_times(r, from->status[i].status);
        s = ld_histogram_merge(&to->ns, &from->status[i].ns, err);
        if (s == RT_OK)
            s = ld_histogram_merge(&to->first, &from->status[i].first, err);
    }
    return s;
}

struct ld_times *ld_run_times(struct ld_run *r, int status)
{
    int i = 0;
    while (i < r->n_statuses && r->status[i].status != status)
        i++;
    if (i == LD_STATUSES_MAX)
        return &r->status[LD_STATUSES_MAX - 1];
    if (i == r->n_statuses)
        r->status[r->n_statuses++].status = status;
    return &r->status[i];
}

enum rt_status ld_run_good(const struct ld_run *r, struct ld_histogram *out, struct rt_error *err)
{
    for (int i = 0; i < r->n_statuses; i++)
        if (r->status[i].status / 100 == 2) {
            enum rt_status s = ld_histogram_merge(out, &r->status[i].ns, err);
            if (s != RT_OK)
                return s;
        }
    return RT_OK;
}

uint64_t ld_run_failed(const struct ld_run *r)
{
    uint64_t good = 0;
    for (int i = 0; i < r->n_statuses; i++)
        if (r->status[i].status / 100 == 2)
            good += r->status[i].ns.n;
    return r->requests - good + r->wrong;
}

double ld_run_throughput(const struct ld_run *r)
{
    return r->seconds > 0 ? (double)r->answered_in_time / r->seconds : 0;
}
