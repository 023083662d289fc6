/* The scanner: digits into 64 bits, one multiplication where that provably rounds right, else the
 * C library on a bounded copy. */
#include "server/numbers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A number's text taken apart: (-1)^negative * digits * 10^exponent. */
struct decimal {
    uint64_t digits;
    int64_t exponent;
    bool negative;
    bool cut;          /* digits holds only the first 19 significant ones */
    const char *first; /* of the mantissa's text, the sign not included */
    const char *last;  /* after the mantissa */
    int64_t written;   /* the exponent as the text has it */
};

/* More than this as an exponent is zero or too large whatever stands before it, as no text that
 * fits a request has digits enough to make up for it. */
#define EXPONENT_MAX 1000000000

static bool is_digit(char c)
{
    return (unsigned char)(c - '0') <= 9;
}

/* The first 19 significant digits of a mantissa that has more. */
static void keep_19(struct decimal *d)
{
    uint64_t digits = 0;
    int kept = 0;
    int64_t exponent = d->written;
    bool fraction = false;
    for (const char *p = d->first; p < d->last; p++) {
        if (*p == '.') {
            fraction = true;
        } else if (kept < 19) {
            digits = digits * 10 + (uint64_t)(*p - '0');
            kept += digits != 0;
            exponent -= fraction;
        } else {
            exponent += !fraction;
        }
    }
    d->digits = digits;
    d->exponent = exponent;
    d->cut = true;
}

static const char *take_apart(const char *p, struct decimal *d)
{
    d->negative = *p == '-';
    p += d->negative;
    d->first = p;
    if (!is_digit(*p))
        return NULL;
    uint64_t digits =
        0; /* wraps around when there are more than 19; keep_19() then does it again */
    const char *whole = p;
    do
        digits = digits * 10 + (uint64_t)(*p++ - '0');
    while (is_digit(*p));
    if (*whole == '0' && p - whole > 1)
        return NULL;
    ptrdiff_t count = p - whole;
    d->exponent = 0;
    if (*p == '.') {
        const char *fraction = ++p;
        while (is_digit(*p))
            digits = digits * 10 + (uint64_t)(*p++ - '0');
        if (p == fraction)
            return NULL;
        count += p - fraction;
        d->exponent = fraction - p;
    }
    d->last = p;
    d->written = 0;
    if (*p == 'e' || *p == 'E') {
        p++;
        bool down = *p == '-';
        p += *p == '-' || *p == '+';
        if (!is_digit(*p))
            return NULL;
        do {
            if (d->written < EXPONENT_MAX)
                d->written = d->written * 10 + (*p - '0');
            p++;
        } while (is_digit(*p));
        if (down)
            d->written = -d->written;
        d->exponent += d->written;
    }
    d->digits = digits;
    d->cut = false;
    if (count > 19) {
        const char *q = d->first;
        while (q < d->last && (*q == '0' || *q == '.')) {
            count -= *q == '0';
            q++;
        }
        if (count > 19)
            keep_19(d);
    }
    return p;
}

/* Digits after which no more can change which double or float is nearest, but for one that says
 * whether anything but zeros followed. */
#define DIGITS_MAX 780

/* Writes the number without its sign in the plainest form, so that the C library need not see an
 * unbounded text. */
static void plain_text(const struct decimal *d, char text[DIGITS_MAX + 32])
{
    size_t n = 0;
    int64_t exponent = d->written;
    bool fraction = false, more = false;
    for (const char *p = d->first; p < d->last; p++) {
        if (*p == '.') {
            fraction = true;
        } else if (n < DIGITS_MAX) {
            if (n > 0 || *p != '0')
                text[n++] = *p;
            exponent -= fraction;
        } else {
            more |= *p != '0';
            exponent += !fraction;
        }
    }
    if (n == 0)
        text[n++] = '0';
    if (more) {
        text[n++] = '1';
        exponent--;
    }
    text[n++] = 'e';
    text[n + sv_print_int(text + n, exponent)] = '\0';
}

static double slow_double(const struct decimal *d)
{
    char text[DIGITS_MAX + 32];
    plain_text(d, text);
    return strtod(text, NULL);
}

static float slow_float(const struct decimal *d)
{
    char text[DIGITS_MAX + 32];
    plain_text(d, text);
    return strtof(text, NULL);
}

/* Exact up to 1e22, rounded to nearest above. */
static const double power[] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14,
    1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22, 1e23, 1e24, 1e25, 1e26, 1e27, 1e28, 1e29,
    1e30, 1e31, 1e32, 1e33, 1e34, 1e35, 1e36, 1e37, 1e38, 1e39, 1e40, 1e41, 1e42, 1e43, 1e44,
    1e45, 1e46, 1e47, 1e48, 1e49, 1e50, 1e51, 1e52, 1e53, 1e54, 1e55, 1e56, 1e57, 1e58, 1e59,
};
#define EXACT_POWERS 22
#define POWERS ((int64_t)(sizeof power / sizeof power[0]) - 1)

/* A float by way of a double. The digits, the power and the product are each off by at most one
 * unit in the double's last place (and cut digits by far less), so unless the double lies within
 * four units of the middle between two floats, rounding it gives what rounding the text gives. */
static float to_float(const struct decimal *d)
{
    if (d->digits == 0)
        return 0;
    if (d->exponent < -POWERS || d->exponent > POWERS)
        return slow_float(d);
    double v = (double)d->digits;
    v = d->exponent < 0 ? v / power[-d->exponent] : v * power[d->exponent];
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    const uint64_t middle = 1u << 28;
    uint64_t rest = bits & ((1u << 29) - 1);
    if (v < 0x1p-126 || v > 0x1p127 || rest - (middle - 4) <= 8)
        return slow_float(d);
    return (float)v;
}

/* Exact digits times or over an exact power is rounded once. */
static double to_double(const struct decimal *d)
{
    if (d->digits == 0)
        return 0;
    if (d->cut || d->digits > 1ull << 53 || d->exponent < -EXACT_POWERS ||
        d->exponent > EXACT_POWERS)
        return slow_double(d);
    double v = (double)d->digits;
    return d->exponent < 0 ? v / power[-d->exponent] : v * power[d->exponent];
}

/* NaN, Infinity and -Infinity. */
static const char *scan_word(const char *p, double *out)
{
    bool negative = *p == '-';
    p += negative;
    if (strncmp(p, "Infinity", 8) == 0) {
        *out = negative ? -(double)INFINITY : (double)INFINITY;
        return p + 8;
    }
    if (!negative && strncmp(p, "NaN", 3) == 0) {
        *out = (double)NAN;
        return p + 3;
    }
    return NULL;
}

const char *sv_scan_float(const char *p, float *out, enum sv_scan_fault *fault)
{
    struct decimal d;
    double word;
    const char *after = take_apart(p, &d);
    if (after == NULL) {
        *fault = SV_SCAN_SYNTAX;
        after = scan_word(p, &word);
        if (after != NULL)
            *out = (float)word;
        return after;
    }
    float v = to_float(&d);
    if (isinf(v)) {
        *fault = SV_SCAN_RANGE;
        return NULL;
    }
    *out = d.negative ? -v : v;
    return after;
}

const char *sv_scan_double(const char *p, double *out, enum sv_scan_fault *fault)
{
    struct decimal d;
    const char *after = take_apart(p, &d);
    if (after == NULL) {
        *fault = SV_SCAN_SYNTAX;
        return scan_word(p, out);
    }
    double v = to_double(&d);
    if (isinf(v)) {
        *fault = SV_SCAN_RANGE;
        return NULL;
    }
    *out = d.negative ? -v : v;
    return after;
}

/* The digits of an integer; the sign is behind us. */
static const char *scan_magnitude(const char *p, uint64_t *out, enum sv_scan_fault *fault)
{
    const char *first = p;
    uint64_t v = 0;
    bool over = false;
    for (; is_digit(*p); p++)
        over |= __builtin_mul_overflow(v, (uint64_t)10, &v) ||
                __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v);
    *fault = SV_SCAN_SYNTAX;
    if (p == first || (*first == '0' && p - first > 1))
        return NULL;
    if (*p == '.' || *p == 'e' || *p == 'E') {
        *fault = SV_SCAN_FRACTION;
        return NULL;
    }
    if (over) {
        *fault = SV_SCAN_RANGE;
        return NULL;
    }
    *out = v;
    return p;
}

const char *sv_scan_int(const char *p, int64_t min, int64_t max, int64_t *out,
                        enum sv_scan_fault *fault)
{
    bool negative = *p == '-';
    uint64_t magnitude;
    const char *after = scan_magnitude(p + negative, &magnitude, fault);
    if (after == NULL)
        return NULL;
    uint64_t room = negative ? 0 - (uint64_t)min : (uint64_t)max;
    if (magnitude > room) {
        *fault = SV_SCAN_RANGE;
        return NULL;
    }
    *out = (int64_t)(negative ? 0 - magnitude : magnitude);
    return after;
}

const char *sv_scan_uint(const char *p, uint64_t max, uint64_t *out, enum sv_scan_fault *fault)
{
    bool negative = *p == '-';
    uint64_t magnitude;
    const char *after = scan_magnitude(p + negative, &magnitude, fault);
    if (after == NULL)
        return NULL;
    if (magnitude > max || (negative && magnitude != 0)) {
        *fault = SV_SCAN_RANGE;
        return NULL;
    }
    *out = magnitude;
    return after;
}
