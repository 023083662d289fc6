/* Makes and frees a model's counters; sorts durations. */
#include "server/metrics.h"

#include <assert.h>
#include <string.h>

#include "runtime/rt.h"

#define MS UINT64_C(1000000)

const uint64_t sv_bucket_ns[SV_BUCKETS] = {
    MS / 10, MS / 4,   MS / 2,   MS,       MS * 5 / 2, 5 * MS,    10 * MS,    25 * MS,
    50 * MS, 100 * MS, 250 * MS, 500 * MS, 1000 * MS,  2500 * MS, 10000 * MS,
};

void sv_observe(struct sv_histogram *h, uint64_t ns)
{
    int i = 0;
    while (i < SV_BUCKETS && ns > sv_bucket_ns[i])
        i++;
    sv_add(&h->bucket[i], 1);
    sv_add(&h->ns, ns);
}

enum rt_status sv_stats_init(struct sv_stats *s, int max_batch, struct rt_error *err)
{
    assert(max_batch >= 1);
    struct sv_batch_stats *batch = rt_zalloc_array((size_t)max_batch, sizeof *batch);
    if (batch == NULL)
        return rt_fail_nomem(err, (size_t)max_batch * sizeof *batch);
    memset(s, 0, sizeof *s);
    s->max_batch = max_batch;
    s->batch = batch;
    return RT_OK;
}

void sv_stats_clear(struct sv_stats *s)
{
    struct sv_batch_stats *batch = s->batch;
    int max_batch = s->max_batch;
    memset(s, 0, sizeof *s);
    memset(batch, 0, (size_t)max_batch * sizeof *batch);
    s->batch = batch;
    s->max_batch = max_batch;
}

void sv_stats_reset(struct sv_stats *s)
{
    rt_free(s->batch);
    memset(s, 0, sizeof *s);
}
