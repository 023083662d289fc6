/* A request for inference and its answer: the bytes of the wire <-> a job. JSON, the binary
 * extension both ways, and the raw binary request, as the Open Inference Protocol has them. */
#ifndef SERVER_CODEC_H
#define SERVER_CODEC_H

#include "server/pictures.h"
#include "server/registry.h"
#include "server/text.h"

/* One output that the answer holds. */
struct sv_wanted {
    int index;       /* of the model's outputs */
    bool binary;     /* behind the JSON instead of in it */
    int64_t classes; /* above 0: not the tensor, but so many of each sample's largest values */
};

/* In which words the answer is given. */
enum sv_form {
    SV_FORM_V2,      /* Open Inference Protocol */
    SV_FORM_ROWS,    /* TensorFlow Serving: {"predictions":[one for each sample]} */
    SV_FORM_COLUMNS, /* TensorFlow Serving: {"outputs":whole tensors} */
};

/* What a request asks for. Begins all zero; ended by sv_infer_reset(). */
struct sv_infer {
    const struct sv_model *model; /* not owned */
    struct sv_job *job;           /* owned: inputs are set, done and user are not */
    struct sv_pictures *pictures; /* owned: start these, which submit the job; NULL: submit it */
    enum sv_form form;
    char *id; /* NULL: none */
    int n_wanted;
    struct sv_wanted *wanted;
};

/* Understands body[0..len), behind which a zero byte follows. header_length is the value of
 * Inference-Header-Content-Length, NULL when it is absent. Checks everything against the model, so
 * that the job can be submitted. Inputs may point into the body, which must last as long as *out.
 * *out is written on RT_OK only. RT_E_INVALID and others with the protocol's sentences. */
enum rt_status sv_infer_decode(const struct sv_model *model, const char *body, size_t len,
                               const char *header_length, struct sv_infer *out,
                               struct rt_error *err);

/* The same for the body of a :predict request of TensorFlow Serving and KServe's first protocol,
 * whose shapes follow from how the arrays are nested. */
enum rt_status sv_predict_decode(const struct sv_model *model, const char *body, size_t len,
                                 struct sv_infer *out, struct rt_error *err);

/* Writes the answer of the job, which is done without an error: JSON, and behind it the outputs
 * that go as binary. *json_len is the length of the first part. RT_E_NOMEM; RT_E_INVALID for
 * classes of an output that is too large; *to is then to be reset all the same. */
enum rt_status sv_infer_encode(const struct sv_infer *in, struct sv_text *to, size_t *json_len,
                               struct rt_error *err);

void sv_infer_reset(struct sv_infer *in);

#endif
