/* Open addressing with linear probing, at most half full. */
#include "runtime/names.h"

#include <string.h>

struct rt_name_slot {
    const char *name; /* NULL: free */
    uint64_t hash;
    int value;
};

/* Seeded by the arena's address, which a file cannot know: it cannot choose names that collide. */
static uint64_t hash_of(const struct rt_names *t, const char *name)
{
    uint64_t h = 0xcbf29ce484222325u ^ (uint64_t)(uintptr_t)t->arena * 0x9e3779b97f4a7c15u;
    for (const char *p = name; *p != '\0'; p++) {
        h = (h ^ (unsigned char)*p) * 0x100000001b3u;
        h ^= h >> 29;
    }
    return h ^ h >> 32;
}

static struct rt_name_slot *slot_of(const struct rt_names *t, const char *name, uint64_t hash)
{
    size_t i = hash & (t->cap - 1);
    while (t->slot[i].name != NULL &&
           (t->slot[i].hash != hash || strcmp(t->slot[i].name, name) != 0))
        i = (i + 1) & (t->cap - 1);
    return &t->slot[i];
}

static bool grow(struct rt_names *t)
{
    struct rt_names bigger = { .arena = t->arena, .n = t->n, .cap = t->cap > 0 ? 2 * t->cap : 64 };
    bigger.slot = rt_arena_array(t->arena, bigger.cap, sizeof *bigger.slot);
    if (bigger.slot == NULL)
        return false;
    for (size_t i = 0; i < t->cap; i++)
        if (t->slot[i].name != NULL)
            *slot_of(&bigger, t->slot[i].name, t->slot[i].hash) = t->slot[i];
    *t = bigger;
    return true;
}

bool rt_names_put(struct rt_names *t, const char *name, int value)
{
    if (2 * t->n >= t->cap && !grow(t))
        return false;
    uint64_t hash = hash_of(t, name);
    struct rt_name_slot *s = slot_of(t, name, hash);
    t->n += s->name == NULL;
    *s = (struct rt_name_slot){ .name = name, .hash = hash, .value = value };
    return true;
}

int rt_names_get(const struct rt_names *t, const char *name, int otherwise)
{
    if (t->cap == 0)
        return otherwise;
    const struct rt_name_slot *s = slot_of(t, name, hash_of(t, name));
    return s->name != NULL ? s->value : otherwise;
}
