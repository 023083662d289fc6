/* Numbers as JSON writes them: a scanner that rounds correctly and a printer of the shortest text
 * that reads back as the same value. Knows nothing of arrays or tensors. The locale must be "C". */
#ifndef SERVER_NUMBERS_H
#define SERVER_NUMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sv_scan_fault {
    SV_SCAN_SYNTAX,   /* not a number by JSON's grammar */
    SV_SCAN_RANGE,    /* a number, but larger than the type holds */
    SV_SCAN_FRACTION, /* an integer is wanted and this has a fraction or an exponent */
};

/* Each scans one number at p and returns the byte after it. The text must go on with a byte that
 * no number holds (a comma, a bracket, NUL), which ends the scan, so that no length is needed.
 * NULL with *fault set, and *out untouched, when it is not one.
 *
 * The result is the representable value nearest to the text, ties to even; a magnitude that would
 * round to infinity is SV_SCAN_RANGE. NaN, Infinity and -Infinity are accepted beside JSON's own.
 */
const char *sv_scan_float(const char *p, float *out, enum sv_scan_fault *fault);
const char *sv_scan_double(const char *p, double *out, enum sv_scan_fault *fault);
const char *sv_scan_int(const char *p, int64_t min, int64_t max, int64_t *out,
                        enum sv_scan_fault *fault);
const char *sv_scan_uint(const char *p, uint64_t max, uint64_t *out, enum sv_scan_fault *fault);

/* Bytes that a printer may write; no NUL follows. */
#define SV_NUMBER_ROOM 32

/* Each writes to buf[0..SV_NUMBER_ROOM) and returns the bytes written. Floats have a point or an
 * exponent ("1.0", "1e-7"), so that readers keep them apart from integers; NaN, Infinity and
 * -Infinity are bare. */
size_t sv_print_float(char *buf, float v);
size_t sv_print_double(char *buf, double v);
size_t sv_print_int(char *buf, int64_t v);
size_t sv_print_uint(char *buf, uint64_t v);

#endif
