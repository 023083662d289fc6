/* Looks at the folders that models come from, and lets the registry rescan them when something in
 * them has changed. */
#ifndef SERVER_FOLDER_WATCH_H
#define SERVER_FOLDER_WATCH_H

#include "server/registry.h"

struct sv_folder_watch;

/* Starts a thread that watches path[0..n), which must outlive it as the registry must. interval_ns:
 * how often to look; 0: when the system tells of a change, or every two seconds where it cannot.
 * A file is taken to be complete when nothing has changed for a fifth of a second. */
enum rt_status sv_folder_watch_start(struct sv_registry *r, const char *const *path, int n,
                                     uint64_t interval_ns, struct sv_folder_watch **out,
                                     struct rt_error *err);
/* Waits for a rescan that is going on. Takes NULL. */
void sv_folder_watch_stop(struct sv_folder_watch *w);

#endif
