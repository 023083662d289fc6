/* Opening the socket that connections come in on. */
#ifndef SERVER_LISTEN_H
#define SERVER_LISTEN_H

#include "runtime/rt.h"

/* Binds to a name or address ("": every address, IPv6 and IPv4) and listens. *fd is the caller's,
 * *port the port that was bound (port 0: any that is free). RT_E_IO says which address and why. */
enum rt_status sv_listen(const char *host, int port, int *fd, int *bound, struct rt_error *err);

#endif
