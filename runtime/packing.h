/* Weights brought into the order that kernels read: noted while nodes are prepared, done by all
 * threads at once when every node is. */
#ifndef RUNTIME_PACKING_H
#define RUNTIME_PACKING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/mem.h"

/* Piece i of the weights of one node. On any thread, pieces in any order. */
typedef void rt_pack(void *ctx, int64_t i);

struct rt_packing {
    rt_pack *pack;
    void *ctx;
    int64_t first, n; /* its pieces among those of all */
    struct rt_packing *next;
};

/* Begins all zero. */
struct rt_packings {
    struct rt_packing *head, *tail;
    int64_t n; /* pieces */
};

/* Notes pieces 0..n-1; ctx has to last until they are packed. False: no memory in the arena. */
bool rt_packings_add(struct rt_packings *p, struct rt_arena *arena, rt_pack *pack, void *ctx,
                     int64_t n);

/* Packs all that was noted. progress is told on the calling thread how many pieces of how many have
 * been begun. */
void rt_packings_run(const struct rt_packings *p, int threads,
                     void (*progress)(void *user, size_t done, size_t total), void *user);

#endif
