/* How the server itself says that its time was spent: the statistics extension of the protocol. */
#ifndef LOAD_SPLIT_H
#define LOAD_SPLIT_H

#include "runtime/rt.h"

#include <curl/curl.h>
#include <stdint.h>

#define LD_BATCHES_MAX 64 /* different sizes */

/* Counters of a model, or what they grew by. */
struct ld_split {
    uint64_t requests, samples, runs; /* requests answered; samples in them; batches run for them */
    double queue, input, compute, output; /* ns, of all requests */
    int n_batches;
    struct ld_batch {
        int size;
        uint64_t runs;
    } batch[LD_BATCHES_MAX];
};

/* The counters as they stand. A server without them is not an error of the load: what that is
 * worth, the caller decides. */
enum rt_status ld_split_read(const char *base, const struct curl_slist *headers, const char *model,
                             struct ld_split *out, struct rt_error *err);

/* Adds what lies between two readings. */
void ld_split_add(struct ld_split *sum, const struct ld_split *before,
                  const struct ld_split *after);

/* Samples a run; 0: none was run. */
double ld_split_mean_batch(const struct ld_split *s);

#endif
