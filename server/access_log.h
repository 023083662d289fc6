/* One line of JSON for every request that was answered. */
#ifndef SERVER_ACCESS_LOG_H
#define SERVER_ACCESS_LOG_H

#include "server/request.h"

struct sv_access_log;

/* Appends to a file, which is made if it is not there; "-" is standard output. */
enum rt_status sv_access_log_open(const char *path, struct sv_access_log **out,
                                  struct rt_error *err);
/* From here on lines are written a fifth of a second after they were made at the latest, by a
 * thread of the log's own; before, and in any case, when there are many, and by flush and close.
 * Once. */
enum rt_status sv_access_log_start(struct sv_access_log *log, struct rt_error *err);
void sv_access_log_flush(struct sv_access_log *log); /* takes NULL. Any thread */
void sv_access_log_close(struct sv_access_log *log); /* takes NULL */
/* Opens the file by its name again, after it has been moved away. Any thread. */
enum rt_status sv_access_log_reopen(struct sv_access_log *log, struct rt_error *err);

/* Makes the line of a request whose answer has been sent, or could not be. Any thread. Names and
 * paths are escaped, so that what a client sent cannot forge a line. */
void sv_access_log_write(struct sv_access_log *log, const struct sv_request *req);

#endif
