/* How far one tensor is from another, and whether that is near enough. */
#ifndef SERVER_COMPARE_H
#define SERVER_COMPARE_H

#include "runtime/rt.h"
#include "server/numbers.h"

/* Elementwise |got - wanted| <= atol + rtol * |wanted|; over a whole tensor
 * max |got - wanted| <= range * (max wanted - min wanted). */
struct sv_tolerance {
    double rtol, atol, range;
};

/* The result over all elements. NaN equals NaN, an infinity equals one of its sign, and neither
 * equals anything else at any tolerance. Integers and booleans have tolerance 0. */
struct sv_comparison {
    int64_t n;         /* elements compared */
    int64_t n_outside; /* of them outside the elementwise tolerance */
    int64_t n_special; /* of these, pairs of which NaN or an infinity is one side only */
    /* The element that is furthest outside its tolerance or nearest to leaving it; -1 when the
     * tensors are empty. */
    int64_t worst;
    double absolute, relative; /* its error; infinite for a special pair */
    double max_absolute;       /* the largest error among ordinary pairs */
    double range;              /* largest less smallest finite element of wanted, or the largest
                                * magnitude where all are equal */
    bool elementwise_ok, range_ok;
};

/* Compares all elements. RT_E_INVALID, with a sentence, when type or shape differ; out is then
 * left alone. */
enum rt_status sv_compare(const struct rt_tensor *got, const struct rt_tensor *wanted,
                          const struct sv_tolerance *tolerance, struct sv_comparison *out,
                          struct rt_error *err);

/* Element i as a decimal that reads back as the same value ("NaN" and "-Infinity" too). */
#define SV_ELEMENT_TEXT (SV_NUMBER_ROOM + 1)
const char *sv_element_text(const struct rt_tensor *t, int64_t i, char buf[SV_ELEMENT_TEXT]);
/* Element i as a double; 64-bit integers beyond 2^53 are rounded. */
double sv_element(const struct rt_tensor *t, int64_t i);
/* Where element i stands: "[0,3,1]"; "[]" in a scalar. */
const char *sv_index_text(const struct rt_shape *shape, int64_t i, char buf[RT_SHAPE_TEXT]);

#endif
