/* Where each value of a compiled graph lies in a session's memory. Pure: graph and batch in,
 * offsets out. */
#ifndef RUNTIME_PLAN_H
#define RUNTIME_PLAN_H

#include "runtime/graph.h"

#define RT_NOWHERE SIZE_MAX

/* A stretch of memory that one value (with its views) or one node's scratch holds. */
struct rt_slot {
    size_t offset, bytes;
    int first, last; /* nodes during which it is held, both included */
    bool of_sample;  /* holds one sample, in each copy of the memory of samples */
};

/* What a plan is made for. */
struct rt_plan_for {
    int64_t max_batch;
    int threads;  /* largest team of a run */
    int cut;      /* nodes before this one are run sample by sample */
    size_t limit; /* of bytes; 0: none */
};

struct rt_plan {
    int n_values, n_nodes, n_slots;
    int *root;    /* [n_values] the value whose memory a value is or is part of: itself, what it
                     views, or what it is joined to others in */
    size_t *at;   /* [n_values] bytes into that memory */
    int *slot;    /* [n_values] of its root; -1: a constant or an input, which lie elsewhere */
    int *scratch; /* [n_nodes] slot, -1: none; all nodes before the cut share one, in which
                     each worker has worker_bytes */
    struct rt_slot *slots;
    int cut;
    int copies; /* of the slots of samples: the first one is at their offsets, the others
                   follow at a distance of copy_bytes */
    size_t copy_bytes;
    size_t worker_bytes;
    size_t bytes;     /* of the whole block */
    size_t unplanned; /* what it would be if no memory were used twice */
};

/* Bytes of v for n samples in its layout. false when they pass SIZE_MAX / 2. */
bool rt_value_bytes(const struct rt_value *v, int64_t n, size_t *bytes);

/* Plans g (tidy, inferred, prepared). Slots that are held at the same time do not overlap, where
 * nodes before the cut are one time for all that does not lie in the memory of samples. The plan's
 * arrays lie in arena. RT_E_LIMIT past the limit. */
enum rt_status rt_plan_make(const struct rt_graph *g, const struct rt_plan_for *what,
                            struct rt_arena *arena, struct rt_plan *out, struct rt_error *err);

#endif
