/* The body of an inference request, taken apart but not yet held against a model. Between the
 * files of the codec. */
#ifndef SERVER_CODEC_REQUEST_H
#define SERVER_CODEC_REQUEST_H

#include "runtime/rt.h"
#include "server/json_cut.h"

/* Strings and texts lie in the request or in the body. */
struct sv_wire_input {
    const char *name, *datatype;
    struct rt_shape shape;
    const char *json; /* json[0..json_len): its array; NULL when it is binary */
    size_t json_len;
    const char *blob; /* blob[0..blob_len): its bytes; NULL when it is JSON */
    size_t blob_len;
};

struct sv_wire_output {
    const char *name;
    bool binary;
    uint64_t classes; /* how many of the largest values are wanted in its place; 0: it itself */
};

/* Begins all zero; ended by sv_wire_reset(). */
struct sv_wire_request {
    void *tree; /* the parsed JSON, which owns the strings */
    struct sv_cuts cuts;
    const char *id;      /* NULL: none */
    uint64_t timeout_us; /* 0: none */
    uint64_t priority;   /* 0: none */
    bool binary_output;  /* of outputs, when none is listed */
    int n_in, n_out;
    struct sv_wire_input *in;
    struct sv_wire_output *out; /* n_out is 0 when none is listed: all are wanted */
};

/* The JSON in front of binary tensors that was understood last: who sends one picture after another
 * sends the same again and again, and it need not be parsed again. For any number of threads. */
struct sv_wire_memo;

/* NULL: out of memory. */
struct sv_wire_memo *sv_wire_memo_create(void);
void sv_wire_memo_destroy(struct sv_wire_memo *memo);

/* Parses body[0..json_len) as JSON and hands the bytes up to body[len) to the inputs that ask for
 * them. `model` is the model's name, for messages. *w is to be reset in any case. */
enum rt_status sv_wire_parse(const char *body, size_t json_len, size_t len, const char *model,
                             struct sv_wire_memo *memo, struct sv_wire_request *w,
                             struct rt_error *err);
void sv_wire_reset(struct sv_wire_request *w);

/* What a client wrote is shown in messages up to this many bytes: "%.*s". */
#define SV_SHOWN 100

#endif
