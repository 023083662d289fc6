/* From what a classifier puts out to its best classes with their scores. */
#ifndef SERVER_SCORES_H
#define SERVER_SCORES_H

#include "runtime/rt.h"
#include "server/model_config.h"

struct sv_class {
    int64_t index;
    float score;
};

/* The k best classes of sample `row` of n_rows to best[0..*n), best first; of equal ones the lower
 * index first, NaN last. *n is k, or the number of classes where that is less. The classes lie
 * along one dimension of output; the others are the samples or 1. SV_SCORES_AUTO is softmax, but
 * for an output that is a probability already or of integers, whose elements are the scores as they
 * are. Reads output, changes nothing. RT_E_NOMEM; RT_E_INVALID: an output of another form, such
 * as a picture or boxes. */
enum rt_status sv_scores_top(const struct rt_tensor *output, int64_t row, int64_t n_rows,
                             enum sv_scores scores, bool is_probability, int k,
                             struct sv_class *best, int *n, struct rt_error *err);

#endif
