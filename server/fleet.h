/* The models that exist: those that are served, and those that were replaced or unloaded but are
 * still at work for somebody. A thread of its own frees what nobody uses any more, so that whoever
 * gives up the last reference never waits for it. */
#ifndef SERVER_FLEET_H
#define SERVER_FLEET_H

#include "server/registry.h"

struct sv_fleet;

enum rt_status sv_fleet_create(struct sv_fleet **out, struct rt_error *err);
/* Waits until every model has been released and freed. Takes NULL. */
void sv_fleet_destroy(struct sv_fleet *f);

/* From here on m belongs to the fleet: sv_model_release() hands it over to be freed. */
void sv_fleet_join(struct sv_fleet *f, struct sv_model *m);

/* sv_batcher_stop() or sv_batcher_abort() for each. */
void sv_fleet_stop(struct sv_fleet *f, bool abort);

#endif
