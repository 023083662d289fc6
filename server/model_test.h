/* One ONNX backend test: a model, recorded inputs, recorded outputs. */
#ifndef SERVER_MODEL_TEST_H
#define SERVER_MODEL_TEST_H

#include "runtime/rt.h"
#include "server/compare.h"

struct sv_model_test_options {
    struct sv_tolerance tolerance;
    int threads; /* 0: all cores */
    bool exact;
    size_t memory_limit; /* as in rt_options */
};

enum sv_test_outcome { SV_TEST_PASSED, SV_TEST_FAILED, SV_TEST_SKIPPED, SV_TEST_OUTCOMES };

/* Figures are the largest over all outputs of all data sets. */
struct sv_model_test {
    enum sv_test_outcome outcome;
    struct rt_error reason; /* of a failure or a skip */
    int n_outputs;          /* compared */
    double max_absolute;    /* between ordinary elements */
    double range_error;     /* the same as a share of the output's range */
    bool by_range;          /* passed, but some output only by its range */
    double seconds;         /* the caller's to fill */
};

/* Runs folder/model.onnx on each folder/test_data_set_*. A test passes when every recorded output
 * is met: each element within the tolerance, or, in a model of more than 3 nodes, the largest
 * error within its share of the output's range. Skipped: what is refused as RT_E_UNSUPPORTED while
 * loading model or tensors, and folders without data. *out is all zero before. */
void sv_model_test_run(const char *folder, const struct sv_model_test_options *o,
                       struct sv_model_test *out);

#endif
