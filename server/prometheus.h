/* The page that Prometheus reads: the server's own numbers, and the same under the names that those
 * who come from Triton know. */
#ifndef SERVER_PROMETHEUS_H
#define SERVER_PROMETHEUS_H

#include "server/app.h"
#include "server/text.h"

#define SV_PROMETHEUS_TYPE "text/plain; version=0.0.4; charset=utf-8"

enum rt_status sv_prometheus_write(struct sv_app *app, struct sv_text *to, struct rt_error *err);

#endif
