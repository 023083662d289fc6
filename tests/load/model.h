/* What a server says about a model: names, datatypes and shapes, by the Open Inference Protocol. */
#ifndef LOAD_MODEL_H
#define LOAD_MODEL_H

#include "runtime/rt.h"
#include "server/options.h"

#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>

#define LD_INPUTS_MAX 16
#define LD_RANK_MAX 8

struct ld_input {
    char *name;
    char datatype[8]; /* "FP32" */
    int rank;
    int64_t dim[LD_RANK_MAX]; /* -1: free */
};

struct ld_model {
    char *name;
    int n_inputs;
    struct ld_input input[LD_INPUTS_MAX];
};

/* Asks the server at base. name NULL: the only model that is ready there. Reset *m in any case. */
enum rt_status ld_model_read(const char *base, const struct curl_slist *headers, const char *name,
                             struct ld_model *m, struct rt_error *err);
void ld_model_reset(struct ld_model *m);

/* Makes every dimension known: those that a text of shapes names ("NAME=1x3x224x224", or without
 * NAME= for every input), the first free one as batch. RT_E_INVALID names what is still free. */
enum rt_status ld_model_fix(struct ld_model *m, const struct sv_option_list *shapes, int batch,
                            struct rt_error *err);

/* Elements of an input whose dimensions are known, and bytes of one; 0 bytes: BYTES, or a datatype
 * that is not known. False: too many. */
bool ld_input_elements(const struct ld_input *in, size_t *n);
size_t ld_input_element_bytes(const struct ld_input *in);

#endif
