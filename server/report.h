/* What a model was compiled to, as JSON: the same for `convd inspect --json` and for clients. */
#ifndef SERVER_REPORT_H
#define SERVER_REPORT_H

#include "server/balance.h"
#include "server/json_out.h"

/* Bytes of the layer's first output for one sample; 0 where its size is free. */
size_t sv_report_output_bytes(const struct rt_layer *l);

/* Writes one object: file, memory, inputs, outputs, layers, batch norms; what pictures become (NULL
 * where that is not known, or there are none); and how evenly threads would share the work, where
 * balances (may be NULL) were taken. */
void sv_report_json(struct sv_json *j, const char *file, const struct rt_model *m,
                    const char *pictures, const struct sv_balances *balances);

/* Writes the array "layers": seconds[i] is what layer i took of a run of `batch` samples. */
void sv_report_layer_times(struct sv_json *j, const struct rt_model *m, int batch,
                           const double *seconds);

#endif
