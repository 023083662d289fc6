/* The printer. Floats by Raffaello Giulietti's Schubfach algorithm: of the decimals inside the
 * interval that rounds to the float, the shortest, and of those the nearest, with three
 * multiplications and no loop over candidates. */
#include "server/numbers.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t sv_print_uint(char *buf, uint64_t v)
{
    char reversed[20];
    size_t n = 0;
    do
        reversed[n++] = (char)('0' + v % 10);
    while ((v /= 10) != 0);
    for (size_t i = 0; i < n; i++)
        buf[i] = reversed[n - 1 - i];
    return n;
}

size_t sv_print_int(char *buf, int64_t v)
{
    if (v >= 0)
        return sv_print_uint(buf, (uint64_t)v);
    buf[0] = '-';
    return 1 + sv_print_uint(buf + 1, 0 - (uint64_t)v);
}

/* 10^k for k = POWER_MIN and up, as the 64 leading bits, rounded up. */
#define POWER_MIN (-31)
static const uint64_t power_bits[] = {
    0x81ceb32c4b43fcf5, 0xa2425ff75e14fc32, 0xcad2f7f5359a3b3f, 0xfd87b5f28300ca0e,
    0x9e74d1b791e07e49, 0xc612062576589ddb, 0xf79687aed3eec552, 0x9abe14cd44753b53,
    0xc16d9a0095928a28, 0xf1c90080baf72cb2, 0x971da05074da7bef, 0xbce5086492111aeb,
    0xec1e4a7db69561a6, 0x9392ee8e921d5d08, 0xb877aa3236a4b44a, 0xe69594bec44de15c,
    0x901d7cf73ab0acda, 0xb424dc35095cd810, 0xe12e13424bb40e14, 0x8cbccc096f5088cc,
    0xafebff0bcb24aaff, 0xdbe6fecebdedd5bf, 0x89705f4136b4a598, 0xabcc77118461cefd,
    0xd6bf94d5e57a42bd, 0x8637bd05af6c69b6, 0xa7c5ac471b478424, 0xd1b71758e219652c,
    0x83126e978d4fdf3c, 0xa3d70a3d70a3d70b, 0xcccccccccccccccd, 0x8000000000000000,
    0xa000000000000000, 0xc800000000000000, 0xfa00000000000000, 0x9c40000000000000,
    0xc350000000000000, 0xf424000000000000, 0x9896800000000000, 0xbebc200000000000,
    0xee6b280000000000, 0x9502f90000000000, 0xba43b74000000000, 0xe8d4a51000000000,
    0x9184e72a00000000, 0xb5e620f480000000, 0xe35fa931a0000000, 0x8e1bc9bf04000000,
    0xb1a2bc2ec5000000, 0xde0b6b3a76400000, 0x8ac7230489e80000, 0xad78ebc5ac620000,
    0xd8d726b7177a8000, 0x878678326eac9000, 0xa968163f0a57b400, 0xd3c21bcecceda100,
    0x84595161401484a0, 0xa56fa5b99019a5c8, 0xcecb8f27f4200f3a, 0x813f3978f8940985,
    0xa18f07d736b90be6, 0xc9f2c9cd04674edf, 0xfc6f7c4045812297, 0x9dc5ada82b70b59e,
    0xc5371912364ce306, 0xf684df56c3e01bc7, 0x9a130b963a6c115d, 0xc097ce7bc90715b4,
    0xf0bdc21abb48db21, 0x96769950b50d88f5, 0xbc143fa4e250eb32, 0xeb194f8e1ae525fe,
    0x92efd1b8d0cf37bf, 0xb7abc627050305ae, 0xe596b7b0c643c71a, 0x8f7e32ce7bea5c70,
    0xb35dbf821ae4f38c,
};

/* floor(log2(10^e)) for |e| < 1233. */
static int floor_log2_power10(int e)
{
    return (e * 1741647) >> 19;
}

/* The upper 32 bits of the product's 96, with the last bit set when anything was cut off: enough
 * to compare with the interval's ends exactly. */
static uint32_t multiply_to_odd(uint64_t power, uint32_t c)
{
    uint64_t low = (power & UINT32_MAX) * c, high = (power >> 32) * c;
    uint64_t sum = high + (low >> 32);
    return (uint32_t)(sum >> 32) | ((uint32_t)sum > 1);
}

/* digits * 10^exponent, the shortest decimal for a finite float above 0, given by its bits. */
static uint32_t shortest(uint32_t bits, int *exponent)
{
    uint32_t fraction = bits & 0x7fffff, biased = bits >> 23;
    uint32_t c = biased != 0 ? fraction | 0x800000 : fraction;
    int q = (int)(biased != 0 ? biased : 1) - 150;
    if (q <= 0 && q > -24 && (c & ((1u << -q) - 1)) == 0) { /* an integer below 2^24 */
        *exponent = 0;
        return c >> -q;
    }
    /* The float's neighbours lie half a unit away, a quarter of one below a power of two. */
    bool near_below = fraction == 0 && biased > 1;
    /* cppcheck-suppress shiftNegativeLHS ; gcc and clang keep the sign */
    int k = (q * 1262611 - (near_below ? 524031 : 0)) >> 22;
    int h = q + floor_log2_power10(-k) + 1;
    uint64_t power = power_bits[-k - POWER_MIN];
    uint32_t below = multiply_to_odd(power, (4 * c - 2 + near_below) << h);
    uint32_t value = multiply_to_odd(power, (4 * c) << h);
    uint32_t above = multiply_to_odd(power, (4 * c + 2) << h);
    bool odd = (c & 1) != 0; /* the ends themselves round to the even neighbour */
    below += odd;
    above -= odd;
    uint32_t s = value / 4;
    if (s >= 10) { /* one digit less, if exactly one such decimal lies inside */
        uint32_t tens = s / 10;
        bool down = below <= 40 * tens, up = 40 * tens + 40 <= above;
        if (down != up) {
            *exponent = k + 1;
            return tens + up;
        }
    }
    *exponent = k;
    bool down = below <= 4 * s, up = 4 * s + 4 <= above;
    if (down != up)
        return s + up;
    uint32_t middle = 4 * s + 2;
    return s + (value > middle || (value == middle && (s & 1) != 0));
}

/* 0 and the powers of ten between this and the next are written out, the others get an exponent. */
#define PLAIN_MIN (-5)
#define PLAIN_MAX 9

/* digits[0..n) as the decimal digits of d.ddd * 10^exponent. */
static size_t lay_out(char *buf, const char *digits, size_t n, int exponent)
{
    char *p = buf;
    if (exponent >= PLAIN_MIN && exponent < 0) {
        *p++ = '0';
        *p++ = '.';
        for (int i = exponent; i < -1; i++)
            *p++ = '0';
        memcpy(p, digits, n);
        return (size_t)(p + n - buf);
    }
    if (exponent >= 0 && exponent <= PLAIN_MAX) {
        size_t whole = (size_t)exponent + 1;
        for (size_t i = 0; i < whole; i++)
            *p++ = i < n ? digits[i] : '0';
        *p++ = '.';
        if (n <= whole)
            *p++ = '0';
        else
            memcpy(p, digits + whole, n - whole);
        return (size_t)(p - buf) + (n > whole ? n - whole : 0);
    }
    *p++ = digits[0];
    if (n > 1) {
        *p++ = '.';
        memcpy(p, digits + 1, n - 1);
        p += n - 1;
    }
    *p++ = 'e';
    p += sv_print_int(p, exponent);
    return (size_t)(p - buf);
}

static size_t print_special(char *buf, bool nan, bool negative)
{
    const char *text = nan ? "NaN" : negative ? "-Infinity" : "Infinity";
    size_t n = strlen(text);
    /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): others follow it */
    memcpy(buf, text, n);
    return n;
}

size_t sv_print_float(char *buf, float v)
{
    if (!isfinite(v))
        return print_special(buf, isnan(v), v < 0);
    size_t sign = signbit(v) != 0;
    buf[0] = '-';
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    bits &= INT32_MAX;
    int exponent = 0;
    uint32_t value = bits != 0 ? shortest(bits, &exponent) : 0;
    for (; value != 0 && value % 10 == 0; value /= 10)
        exponent++;
    char digits[SV_NUMBER_ROOM];
    size_t n = sv_print_uint(digits, value);
    return sign + lay_out(buf + sign, digits, n, exponent + (int)n - 1);
}

size_t sv_print_double(char *buf, double v)
{
    if (!isfinite(v))
        return print_special(buf, isnan(v), v < 0);
    size_t sign = signbit(v) != 0;
    buf[0] = '-';
    /* Seventeen digits always read back, and fifteen or fewer come back from fifteen, but for
     * subnormals, which hold less. Answers in FP64 are rare: what is shortest is found by trying.
     */
    char text[SV_NUMBER_ROOM];
    for (int precision = fabs(v) < DBL_MIN ? 0 : 14; precision <= 16; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, fabs(v));
        if (strtod(text, NULL) == fabs(v))
            break;
    }
    char *e = strchr(text, 'e');
    int exponent = (int)strtol(e + 1, NULL, 10);
    size_t n = 1;
    for (const char *p = text + 2; p < e; p++) /* text[1] is the point, if there is one */
        text[n++] = *p;
    while (n > 1 && text[n - 1] == '0')
        n--;
    return sign + lay_out(buf + sign, text, n, exponent);
}
