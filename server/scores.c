/* Softmax, sigmoid, and the selection of the best few. */
#include "server/scores.h"

#include "runtime/rt.h"
#include "server/compare.h"

#include <math.h>
#include <string.h>

/* Whether a is to stand before b. */
static bool before(const struct sv_class *a, const struct sv_class *b)
{
    if (isnan(a->score) != isnan(b->score))
        return isnan(b->score);
    if (a->score != b->score && !isnan(a->score))
        return a->score > b->score;
    return a->index < b->index;
}

static void softmax(float *x, int64_t n)
{
    float largest = -INFINITY;
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fmaxf(largest, x[i]);
    for (int64_t i = 0; i < n; i++) {
        x[i] = expf(x[i] - largest);
        sum += (double)x[i];
    }
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)((double)x[i] / sum);
}

static void apply(enum sv_scores scores, float *x, int64_t n)
{
    if (scores == SV_SCORES_SOFTMAX)
        softmax(x, n);
    for (int64_t i = 0; i < n && scores == SV_SCORES_SIGMOID; i++)
        x[i] = 1 / (1 + expf(-x[i]));
}

/* Keeps best[0..*n) in order and at most k long. */
static void insert(struct sv_class c, int k, struct sv_class *best, int *n)
{
    int at = *n;
    while (at > 0 && before(&c, &best[at - 1]))
        at--;
    if (at == k)
        return;
    const int moved = (*n < k ? *n : k - 1) - at;
    memmove(best + at + 1, best + at, (size_t)moved * sizeof *best);
    best[at] = c;
    *n += *n < k;
}

/* Whether one dimension holds all the classes. */
static bool is_row(const struct rt_shape *shape, int64_t classes)
{
    for (int d = 0; d < shape->rank; d++)
        if (shape->dim[d] == classes)
            return true;
    return classes == 1;
}

enum rt_status sv_scores_top(const struct rt_tensor *output, int64_t row, int64_t n_rows,
                             enum sv_scores scores, bool is_probability, int k,
                             struct sv_class *best, int *n, struct rt_error *err)
{
    const int64_t all = rt_shape_numel(&output->shape), classes = n_rows > 0 ? all / n_rows : 0;
    char text[RT_SHAPE_TEXT];
    if (classes == 0 || classes * n_rows != all)
        return rt_fail(err, RT_E_INVALID, "an output of %s holds no classes for %lld samples",
                       rt_shape_text(&output->shape, text), (long long)n_rows);
    if (!is_row(&output->shape, classes))
        return rt_fail(err, RT_E_INVALID,
                       "this model is no classifier: its output of %s is not one number a class",
                       rt_shape_text(&output->shape, text));
    float *x = rt_alloc_array((size_t)classes, sizeof *x);
    if (x == NULL)
        return rt_fail_nomem(err, (size_t)classes * sizeof *x);
    for (int64_t i = 0; i < classes; i++)
        x[i] = (float)sv_element(output, row * classes + i);
    if (scores == SV_SCORES_AUTO)
        scores = is_probability || !rt_dtype_is_float(output->dtype) ? SV_SCORES_NONE
                                                                     : SV_SCORES_SOFTMAX;
    apply(scores, x, classes);
    *n = 0;
    for (int64_t i = 0; i < classes; i++)
        insert((struct sv_class){ i, x[i] }, k, best, n);
    rt_free(x);
    return RT_OK;
}
