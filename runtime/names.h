/* A table from names to numbers. Only grows; its memory is the arena's. */
#ifndef RUNTIME_NAMES_H
#define RUNTIME_NAMES_H

#include "runtime/mem.h"

struct rt_names {
    struct rt_arena *arena;
    size_t n, cap; /* cap is a power of two, or 0 */
    struct rt_name_slot *slot;
};

/* Maps name, which must live as long as the table, to value; false when there is no memory. A name
 * that is there already gets the new value. */
bool rt_names_put(struct rt_names *t, const char *name, int value);
/* The name's value, otherwise when it is not there. */
int rt_names_get(const struct rt_names *t, const char *name, int otherwise);

#endif
