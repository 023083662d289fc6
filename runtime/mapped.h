/* A file as memory that stays readable whatever becomes of the file. */
#ifndef RUNTIME_MAPPED_H
#define RUNTIME_MAPPED_H

#include "runtime/status.h"

#include <stdbool.h>
#include <stddef.h>

struct rt_mapped {
    const void *bytes;
    size_t len;
    int slot; /* this file's own */
};

/* Maps a regular file that is not empty. Where it becomes shorter while it is mapped, or its disk
 * fails, zeros are read. For that, SIGBUS is handled as long as anything is mapped; what others
 * cause goes to the handler that was there before. RT_E_NOT_FOUND when there is no such file. Ended
 * by rt_mapped_close(). Any thread. */
enum rt_status rt_mapped_open(const char *path, struct rt_mapped *out, struct rt_error *err);
/* Whether all that was read was the file's. */
bool rt_mapped_whole(const struct rt_mapped *m);
void rt_mapped_close(struct rt_mapped *m);

#endif
