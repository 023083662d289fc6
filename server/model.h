/* How a model comes into being: its file, config and labels to one sv_model. */
#ifndef SERVER_MODEL_H
#define SERVER_MODEL_H

#include "server/registry.h"
#include "server/sources.h"

/* Loads what source names, with config (which is taken over, emptied, on RT_OK) for what its file
 * does not say, and starts its batcher. *out holds one reference. Errors name the file. */
enum rt_status sv_model_load(const char *name, const struct sv_source *source,
                             struct sv_model_config *config,
                             const struct sv_registry_options *options, struct sv_model **out,
                             struct rt_error *err);

/* What sv_model_release() ends in: waits for accepted jobs, and frees. Not from a job's done. */
void sv_model_destroy(struct sv_model *m);

/* What a picture has to become for an input of this shape and type (io): as derived from it, then
 * as the config says. RT_E_INVALID names the config's field that does not fit, RT_E_UNSUPPORTED
 * says why the input cannot take a picture. */
enum rt_status sv_model_preprocess(const struct rt_io *io, const char *producer,
                                   const struct sv_input_config *config, struct sv_preprocess *out,
                                   struct rt_error *err);

/* Values of a sample of the first output, 0 when they cannot be counted. */
int64_t sv_model_classes(const struct sv_model *m);

/* The shape of input i for n samples, sizes that the file leaves free as the configuration sets
 * them. False when they are not known, or it is not one of numbers. */
bool sv_model_sample_shape(const struct sv_model *m, int i, int n, struct rt_shape *shape);

#endif
