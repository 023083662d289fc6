/* What `convd serve` says when it starts: its models, its address, and a line to try. */
#ifndef SERVER_BANNER_H
#define SERVER_BANNER_H

#include "server/registry.h"

/* For each loaded model its inputs, batch norms and load time, and what it makes of pictures. */
void sv_banner_models(struct sv_registry *r);

/* A log line with the address, and on standard error a curl command that works as it stands, for
 * the first model that takes pictures, or else the first. host as given to --host; scheme: "http" or "https". */
void sv_banner_address(struct sv_registry *r, const char *scheme, const char *host, int port,
                       bool command);

#endif
