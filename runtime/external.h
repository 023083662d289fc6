/* External tensor data: bytes of other files, never from outside the model's folder. */
#ifndef RUNTIME_EXTERNAL_H
#define RUNTIME_EXTERNAL_H

#include "runtime/status.h"

#include <stddef.h>
#include <stdint.h>

/* Opens the regular file at the relative path below folder, following no link, and checks that it
 * has len bytes at offset. *fd is the caller's to close. Errors name the path. */
enum rt_status rt_external_open(const char *folder, const char *path, int64_t offset, size_t len,
                                int *fd, struct rt_error *err);
/* Reads them. */
enum rt_status rt_external_read(int fd, const char *path, int64_t offset, void *to, size_t len,
                                struct rt_error *err);

#endif
