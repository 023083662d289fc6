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
};

struct rt_plan {
    int n_values, n_nodes, n_slots;
    int *root;       /* [n_values] the value whose memory a value is: itself, or what it views */
    int *slot;       /* [n_values] of its root; -1: a constant or an input, which lie elsewhere */
    int *scratch;    /* [n_nodes] slot, -1: none */
    struct rt_slot *slots;
    size_t bytes;     /* of the whole block */
    size_t unplanned; /* what it would be if no memory were used twice */
};

/* Bytes of v for n samples in its layout. false when they pass SIZE_MAX / 2. */
bool rt_value_bytes(const struct rt_value *v, int64_t n, size_t *bytes);

/* Plans g (tidy, inferred, prepared) for runs of up to max_batch samples. Slots that are held at
 * the same time do not overlap. The plan's arrays lie in arena. RT_E_LIMIT past limit bytes
 * (0: none). */
enum rt_status rt_plan_make(const struct rt_graph *g, int64_t max_batch, size_t limit,
                            struct rt_arena *arena, struct rt_plan *out, struct rt_error *err);

#endif
