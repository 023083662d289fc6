/* Measures what each layer of a model takes. */
#ifndef SERVER_LAYER_TIMES_H
#define SERVER_LAYER_TIMES_H

#include "runtime/rt.h"

/* Runs the session on in[] (as rt_session_run() has it) a few times, and not for much longer than
 * `limit` seconds. seconds[0..rt_model_n_layers(m)) become the means, *runs how many they are of.
 * The thread that owns the session; its profiling is off when this returns. */
enum rt_status sv_layer_times(const struct rt_model *m, struct rt_session *s,
                              const struct rt_tensor *in, struct rt_tensor *out, double limit,
                              double *seconds, int *runs, struct rt_error *err);

double sv_layer_times_sum(const struct rt_model *m, const double *seconds);

#endif
