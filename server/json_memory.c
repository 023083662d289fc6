/* Lets Jansson take its memory from where everybody does, so that it is counted, and so that tests
 * can make it run out. Before main(), because memory must not change hands between allocators. */
#include "server/json_memory.h"

#include <jansson.h>

#include "runtime/rt.h"

static _Thread_local bool failed;

static void *allocate(size_t len)
{
    void *p = rt_alloc(len);
    failed |= p == NULL;
    return p;
}

__attribute__((constructor)) static void use_our_memory(void)
{
    json_set_alloc_funcs(allocate, rt_free);
}

bool sv_json_out_of_memory(void)
{
    bool was = failed;
    failed = false;
    return was;
}
