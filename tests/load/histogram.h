/* Latencies counted in a log-linear histogram, as HdrHistogram does: any number of values in fixed
 * memory, each known to one part in 1024. One thread at a time. */
#ifndef LOAD_HISTOGRAM_H
#define LOAD_HISTOGRAM_H

#include "runtime/rt.h"

#include <stdint.h>

/* Values below 2^11 have a bucket each; from there on every power of two is cut into 2^10. */
#define LD_HISTOGRAM_BITS 10
#define LD_HISTOGRAM_RANGE                                                                         \
    42 /* values of 2^42 and more share the last bucket: 73 minutes in ns                          \
        */
#define LD_HISTOGRAM_BUCKETS                                                                       \
    ((size_t)(LD_HISTOGRAM_RANGE - LD_HISTOGRAM_BITS + 1) << LD_HISTOGRAM_BITS)

/* Begins all zero, which is an empty one. */
struct ld_histogram {
    uint64_t *bucket; /* [LD_HISTOGRAM_BUCKETS]; NULL until the first value */
    uint64_t n, max;  /* max is exact */
    double sum;
};

void ld_histogram_reset(struct ld_histogram *h);

enum rt_status ld_histogram_add(struct ld_histogram *h, uint64_t value, struct rt_error *err);
/* Adds what from has counted. */
enum rt_status ld_histogram_merge(struct ld_histogram *h, const struct ld_histogram *from,
                                  struct rt_error *err);

/* The smallest value that a share p (0 to 1) of all values do not exceed, rounded up to the end of
 * its bucket, never beyond max; 0 when there is none. */
uint64_t ld_histogram_percentile(const struct ld_histogram *h, double p);
double ld_histogram_mean(const struct ld_histogram *h);

/* How many values are in from <= value < to, as far as buckets tell: exact where both are powers of
 * two or multiples of a power of two's 1024th part. */
uint64_t ld_histogram_between(const struct ld_histogram *h, uint64_t from, uint64_t to);

#endif
