/* One line of JSON for every request that was answered. */
#ifndef SERVER_ACCESS_LOG_H
#define SERVER_ACCESS_LOG_H

#include "server/request.h"

struct sv_access_log;

/* Appends to a file, which is made if it is not there; "-" is standard output. */
enum rt_status sv_access_log_open(const char *path, struct sv_access_log **out,
                                  struct rt_error *err);
void sv_access_log_close(struct sv_access_log *log); /* takes NULL */
/* Opens the file by its name again, after it has been moved away. Any thread. */
enum rt_status sv_access_log_reopen(struct sv_access_log *log, struct rt_error *err);

/* Writes the line of a request whose answer has been sent, or could not be. Any thread. Names and
 * paths are escaped, so that what a client sent cannot forge a line. */
void sv_access_log_write(struct sv_access_log *log, const struct sv_request *req);

#endif
