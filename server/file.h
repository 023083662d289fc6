/* Files and folders: read whole, written whole, listed, made; paths taken apart and joined.
 * Everything allocated here ends with rt_free(). Any thread may call any of it. */
#ifndef SERVER_FILE_H
#define SERVER_FILE_H

#include "runtime/rt.h"

#include <stdbool.h>
#include <stddef.h>

/* The whole of a regular file or pipe, with a zero byte behind it that *len does not count.
 * More than limit bytes are refused (RT_E_LIMIT); 0 stands for no limit. */
enum rt_status sv_file_read(const char *path, size_t limit, void **bytes, size_t *len,
                            struct rt_error *err);

/* Makes path's content what is given, replacing what was there. */
enum rt_status sv_file_write(const char *path, const void *bytes, size_t len, struct rt_error *err);

bool sv_is_folder(const char *path); /* a link to one counts; false when there is nothing */
bool sv_is_file(const char *path);   /* there is something that is no folder */
bool sv_exists(const char *path);    /* there is something, if only a link to nothing */

/* The names in a folder, sorted so that "v2" stands before "v10", without those that begin with a
 * dot. Reset it in any case, also after a failure. */
struct sv_names {
    char **name;
    size_t n;
};
enum rt_status sv_folder_list(const char *path, struct sv_names *out, struct rt_error *err);
void sv_names_reset(struct sv_names *names);

/* Makes a folder and those above it that are missing; one that is there already is fine. */
enum rt_status sv_folder_create(const char *path, struct rt_error *err);

/* "folder/name" as a block of its own; NULL when out of memory. */
char *sv_path_join(const char *folder, const char *name);
/* The folder that path lies in ("." for a bare name); NULL when out of memory. */
char *sv_path_folder(const char *path);
/* What follows the last slash, inside path. "a/b/" gives "b/". */
const char *sv_path_base(const char *path);
/* Whether path ends in the suffix (".npy"), upper and lower case alike. */
bool sv_path_has_suffix(const char *path, const char *suffix);

#endif
