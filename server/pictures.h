/* Encoded pictures that are the input of a job: decoded on the pool, each a task of its own,
 * straight into the job's memory, which is then submitted. */
#ifndef SERVER_PICTURES_H
#define SERVER_PICTURES_H

#include "server/pool.h"
#include "server/registry.h"

/* Pictures of one request at most. */
#define SV_PICTURES_MAX 128

struct sv_pictures;

/* Makes the input of the job for n pictures of this model, which has an input for them; the other
 * inputs are the caller's to fill. RT_E_INVALID: n is 0, or above 1 without a batch axis;
 * RT_E_LIMIT: it is above SV_PICTURES_MAX. */
enum rt_status sv_pictures_create(const struct sv_model *m, struct sv_job *job, int n,
                                  struct sv_pictures **out, struct rt_error *err);
/* Picture i is bytes[0..len), which must last until the job is done; or the base64 text of it. */
void sv_pictures_set(struct sv_pictures *p, int i, const char *bytes, size_t len, bool base64);
/* What errors call picture i, "" for not at all; lasts as long as its bytes. Without this it is
 * called by the input and its number. */
void sv_pictures_call(struct sv_pictures *p, int i, const char *what);

/* Decodes and submits. The job's done is called exactly once from here on, on any thread, maybe
 * before this returns; its error may then be that of a picture. max_pixels: see preprocess.h. */
void sv_pictures_start(struct sv_pictures *p, struct sv_pool *pool, size_t max_pixels);
/* The client went away: what is not decoded yet will not be. sv_job_cancel() is for the caller. */
void sv_pictures_cancel(struct sv_pictures *p);
void sv_pictures_destroy(struct sv_pictures *p); /* not between start and done; takes NULL */

/* The shape of the model's picture input for n samples. */
struct rt_shape sv_pictures_shape(const struct sv_model *m, int n);

#endif
