/* The histogram's buckets and what is read from them. */
#include "tests/load/histogram.h"

#include "runtime/mem.h"

#include <math.h>

static size_t bucket_of(uint64_t value)
{
    if (value >> LD_HISTOGRAM_RANGE != 0)
        return LD_HISTOGRAM_BUCKETS - 1;
    if (value >> (LD_HISTOGRAM_BITS + 1) == 0)
        return (size_t)value;
    const unsigned shift = 63u - (unsigned)__builtin_clzll(value) - LD_HISTOGRAM_BITS;
    return ((size_t)shift << LD_HISTOGRAM_BITS) + (size_t)(value >> shift);
}

/* The largest value that the bucket holds. */
static uint64_t bucket_end(size_t bucket)
{
    if (bucket >> (LD_HISTOGRAM_BITS + 1) == 0)
        return bucket;
    const unsigned shift = (unsigned)(bucket >> LD_HISTOGRAM_BITS) - 1;
    const uint64_t part = bucket - ((uint64_t)shift << LD_HISTOGRAM_BITS);
    return ((part + 1) << shift) - 1;
}

void ld_histogram_reset(struct ld_histogram *h)
{
    rt_free(h->bucket);
    *h = (struct ld_histogram){ 0 };
}

static enum rt_status need_buckets(struct ld_histogram *h, struct rt_error *err)
{
    if (h->bucket == NULL)
        h->bucket = rt_zalloc_array(LD_HISTOGRAM_BUCKETS, sizeof *h->bucket);
    return h->bucket != NULL ? RT_OK : rt_fail_nomem(err, LD_HISTOGRAM_BUCKETS * sizeof *h->bucket);
}

enum rt_status ld_histogram_add(struct ld_histogram *h, uint64_t value, struct rt_error *err)
{
    enum rt_status s = need_buckets(h, err);
    if (s != RT_OK)
        return s;
    h->bucket[bucket_of(value)]++;
    h->n++;
    h->sum += (double)value;
    h->max = value > h->max ? value : h->max;
    return RT_OK;
}

enum rt_status ld_histogram_merge(struct ld_histogram *h, const struct ld_histogram *from,
                                  struct rt_error *err)
{
    if (from->n == 0)
        return RT_OK;
    enum rt_status s = need_buckets(h, err);
    if (s != RT_OK)
        return s;
    for (size_t i = 0; i < LD_HISTOGRAM_BUCKETS; i++)
        h->bucket[i] += from->bucket[i];
    h->n += from->n;
    h->sum += from->sum;
    h->max = from->max > h->max ? from->max : h->max;
    return RT_OK;
}

uint64_t ld_histogram_percentile(const struct ld_histogram *h, double p)
{
    if (h->n == 0)
        return 0;
    /* The rank counts from 1: of ten values the median is the fifth. */
    const double rank = ceil(p * (double)h->n);
    uint64_t seen = 0;
    for (size_t i = 0; i < LD_HISTOGRAM_BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen > 0 && (double)seen >= rank) {
            const uint64_t end = bucket_end(i);
            return end < h->max && i < LD_HISTOGRAM_BUCKETS - 1 ? end : h->max;
        }
    }
    return h->max;
}

double ld_histogram_mean(const struct ld_histogram *h)
{
    return h->n > 0 ? h->sum / (double)h->n : 0;
}

uint64_t ld_histogram_between(const struct ld_histogram *h, uint64_t from, uint64_t to)
{
    uint64_t n = 0;
    if (h->n == 0 || to <= from)
        return 0;
    for (size_t i = bucket_of(from); i <= bucket_of(to - 1); i++)
        n += h->bucket[i];
    return n;
}
