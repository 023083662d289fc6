/* Makes and frees a model's counters. */
#include "server/metrics.h"

#include <assert.h>
#include <string.h>

#include "runtime/rt.h"

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

void sv_stats_reset(struct sv_stats *s)
{
    rt_free(s->batch);
    memset(s, 0, sizeof *s);
}
