/* What the shared kernels (*.inc) are written in: a vector of floats, VEC, and its few operations,
 * for the level whose file includes this. Included by level files only, after one of
 *     #define LEVEL_SCALAR, LEVEL_AVX2, LEVEL_AVX512, LEVEL_AVX512_EMULATED or LEVEL_NEON
 * LEVEL_AVX512_EMULATED has the width, the tiles and the rounding of AVX-512 in plain C: it runs
 * anywhere, so that tests can check code for which no machine is at hand.
 *
 * VEC is the compiler's own vector type: + - * / & | << work on it. Everything here
 * is a macro or a static function, so that no wide code can be shared with other files. */
#ifndef RUNTIME_KERNELS_LEVEL_H
#define RUNTIME_KERNELS_LEVEL_H

#include "runtime/kernels/kernels.h"

#include <float.h>
#include <math.h>
#include <string.h>

#if defined(LEVEL_AVX512)
#include <immintrin.h>
#define ISA(name) name##_avx512
#define VEC_N 16
#elif defined(LEVEL_AVX512_EMULATED)
#define ISA(name) name##_avx512_emulated
#define VEC_N 16
#elif defined(LEVEL_AVX2)
#include <immintrin.h>
#define ISA(name) name##_avx2
#define VEC_N 8
#elif defined(LEVEL_NEON)
#include <arm_neon.h>
#define ISA(name) name##_neon
#define VEC_N 4
#elif defined(LEVEL_SCALAR)
#define ISA(name) name##_scalar
#define VEC_N 8
#else
#error "a level's file says which level it is"
#endif

/* Vectors wider than the machine's are only ever passed to functions that are inlined. */
#pragma GCC diagnostic ignored "-Wpsabi"

typedef float VEC __attribute__((vector_size(4 * VEC_N)));
typedef int32_t IVEC __attribute__((vector_size(4 * VEC_N)));
typedef float VEC_ANYWHERE __attribute__((vector_size(4 * VEC_N), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline, unused))

INLINE VEC vload(const float *p)
{
    return *(const VEC_ANYWHERE *)p;
}

INLINE VEC vload_anywhere(const rt_float_anywhere *p)
{
    VEC v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void vstore(float *p, VEC v)
{
    *(VEC_ANYWHERE *)p = v;
}

INLINE IVEC vload_int(const int32_t *p)
{
    IVEC v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* The first n < VEC_N floats at p, zeros after them; and back. Nothing else is touched. */
INLINE VEC vload_part(const float *p, size_t n)
{
    float lane[VEC_N] = { 0 };
    memcpy(lane, p, n * sizeof *p);
    return vload(lane);
}

INLINE void vstore_part(float *p, VEC v, size_t n)
{
    float lane[VEC_N];
    vstore(lane, v);
    memcpy(p, lane, n * sizeof *p);
}

/* Bit casts; mask ? a : b for a mask of all ones or all zeros a lane. */
#define vbits(v) ((IVEC)(v))
#define vfloat(i) ((VEC)(i))

/* Comparisons to masks. gcc takes vectors wider than the machine's apart lane by lane here, so such
 * ones are compared by quarters and halves. */
#if defined(LEVEL_AVX512) || defined(LEVEL_AVX2) || defined(LEVEL_NEON)
#define vless(a, b) ((IVEC)((a) < (b)))
#define vequal(a, b) ((IVEC)((a) == (b)))
#define vnan(a) ((IVEC)((a) != (a)))
#else
typedef float QUAD __attribute__((vector_size(16), may_alias));
typedef int32_t IQUAD __attribute__((vector_size(16), may_alias));

#define COMPARISON(name, op)                                                                       \
    INLINE IVEC name(VEC a, VEC b)                                                                 \
    {                                                                                              \
        IVEC r;                                                                                    \
        for (size_t i = 0; i < VEC_N / 4; i++)                                                     \
            ((IQUAD *)&r)[i] = ((const QUAD *)&a)[i] op((const QUAD *)&b)[i];                      \
        return r;                                                                                  \
    }

COMPARISON(vless, <)
COMPARISON(vequal, ==)
COMPARISON(vdiffer, !=)
#define vnan(a) vdiffer(a, a)
#endif

INLINE VEC vselect(IVEC mask, VEC a, VEC b)
{
    return vfloat((mask & vbits(a)) | (~mask & vbits(b)));
}

INLINE IVEC vround_int(VEC v) /* to nearest; |v| < 2^22 */
{
    const VEC magic = (VEC){ 0 } + 12582912.0f; /* 1.5 * 2^23: the integer is in the low bits */
    return vbits(v + magic) - vbits(magic);
}

INLINE VEC vfrom_int(IVEC i)
{
    return __builtin_convertvector(i, VEC);
}

INLINE VEC vabs(VEC v)
{
    return vfloat(vbits(v) & 0x7fffffff);
}

/* |v| with the sign of s. */
INLINE VEC vcopysign(VEC v, VEC s)
{
    return vfloat((vbits(v) & 0x7fffffff) | (vbits(s) & (int32_t)0x80000000));
}

/* vmax and vmin give the second operand when one of the two is NaN, or when both are zeros: a bound
 * comes first, and what it bounds comes through. vfma rounds once, but on the scalar level, which
 * has no such instruction. */
#if defined(LEVEL_AVX512)

#define vset1(x) _mm512_set1_ps(x)
#define vmax(a, b) ((VEC)_mm512_max_ps(a, b))
#define vmin(a, b) ((VEC)_mm512_min_ps(a, b))
#define vsqrt(a) ((VEC)_mm512_sqrt_ps(a))
#define vfma(a, b, c) ((VEC)_mm512_fmadd_ps(a, b, c))
#define vreciprocal_guess(a) ((VEC)_mm512_rcp14_ps(a))
/* a * 2^n, n the largest whole number that is not above b. NaN stays. */
#define vldexp(a, b) ((VEC)_mm512_scalef_ps(a, b))
/* a, or where it is larger than b >= 0 in size, or NaN, b with the sign of a. */
#define vbound(a, b) ((VEC)_mm512_range_ps(a, b, 2))
/* Lane i of the result is float index[i] % 32 of those at p, where a line begins. */
#define vlookup(p, index)                                                                          \
    ((VEC)_mm512_permutex2var_ps(_mm512_load_ps(p), (__m512i)(index), _mm512_load_ps((p) + 16)))
/* Lane i of the result is lane index[i] of v. */
#define vpermute(v, index) ((VEC)_mm512_permutexvar_ps((__m512i)(index), v))
/* The same, cheaper, where index[i] / 4 is i / 4. */
#define vpermute_near(v, index) ((VEC)_mm512_permutevar_ps(v, (__m512i)(index)))

#elif defined(LEVEL_AVX2)

#define vset1(x) _mm256_set1_ps(x)
#define vmax(a, b) ((VEC)_mm256_max_ps(a, b))
#define vmin(a, b) ((VEC)_mm256_min_ps(a, b))
#define vsqrt(a) ((VEC)_mm256_sqrt_ps(a))
#define vfma(a, b, c) ((VEC)_mm256_fmadd_ps(a, b, c))
#define vpermute(v, index) ((VEC)_mm256_permutevar8x32_ps(v, (__m256i)(index)))
#define vpermute_near(v, index) ((VEC)_mm256_permutevar_ps(v, (__m256i)(index)))

#elif defined(LEVEL_NEON)

#define vset1(x) ((VEC)vdupq_n_f32(x))
#define vsqrt(a) ((VEC)vsqrtq_f32((float32x4_t)(a)))
#define vfma(a, b, c) ((VEC)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))

/* Not its own maximum, which hands on a NaN of either operand. */
INLINE VEC vmax(VEC a, VEC b)
{
    return vselect(vless(b, a), a, b);
}

INLINE VEC vmin(VEC a, VEC b)
{
    return vselect(vless(a, b), a, b);
}

/* Bytes are looked up: those of lane i begin at 4 * i. */
INLINE VEC vpermute(VEC v, IVEC index)
{
    const IVEC bytes = index * 0x04040404 + 0x03020100;
    return (VEC)vqtbl1q_u8((uint8x16_t)v, (uint8x16_t)bytes);
}
#define vpermute_near vpermute

#else

INLINE VEC vset1(float x)
{
    return x - (VEC){ 0 };
}

INLINE VEC vmax(VEC a, VEC b)
{
    return vselect(vless(b, a), a, b);
}

INLINE VEC vmin(VEC a, VEC b)
{
    return vselect(vless(a, b), a, b);
}

INLINE VEC vsqrt(VEC v)
{
    for (int i = 0; i < VEC_N; i++)
        v[i] = sqrtf(v[i]);
    return v;
}

INLINE VEC vpermute(VEC v, IVEC index)
{
    VEC r = v;
    for (int i = 0; i < VEC_N; i++)
        r[i] = v[index[i]];
    return r;
}
#define vpermute_near vpermute

#if defined(LEVEL_SCALAR)
INLINE VEC vfma(VEC a, VEC b, VEC c)
{
    return a * b + c;
}
#else
/* Out of line: this is for tests, where what counts is that it compiles fast. */
static __attribute__((noinline)) void fma_lanes(VEC *c, const VEC *a, const VEC *b)
{
    for (int i = 0; i < VEC_N; i++)
        (*c)[i] = fmaf((*a)[i], (*b)[i], (*c)[i]);
}

INLINE VEC vfma(VEC a, VEC b, VEC c)
{
    fma_lanes(&c, &a, &b);
    return c;
}

#define vadd_product(sum, a, b) fma_lanes(&(sum), &(a), &(b))

static __attribute__((noinline)) void ldexp_lanes(VEC *a, const VEC *b)
{
    for (int i = 0; i < VEC_N; i++) {
        const float most = fminf(1000.0f, fmaxf(-1000.0f, (*b)[i]));
        (*a)[i] = (*b)[i] == (*b)[i] ? ldexpf((*a)[i], (int)floorf(most)) : (*b)[i];
    }
}

INLINE VEC vldexp(VEC a, VEC b)
{
    ldexp_lanes(&a, &b);
    return a;
}
#define vldexp vldexp

INLINE VEC vbound(VEC a, VEC b)
{
    return vcopysign(vmin(vabs(a), b), a); /* the bound last: NaN is none */
}

INLINE VEC vlookup(const float p[32], IVEC index)
{
    VEC r;
    for (int i = 0; i < VEC_N; i++)
        r[i] = p[index[i] & 31];
    return r;
}
#endif

#endif

/* 1 / v for v >= 1, to a unit in the last place, where that is no denormal; 0 for infinity. NaN
 * stays. A division keeps the widest units busy for longer than all the rest of a logistic
 * function. */
INLINE VEC vreciprocal(VEC v)
{
    const VEC one = vset1(1.0f);
#if defined(vreciprocal_guess)
    const VEC guess = vreciprocal_guess(v);
    return vfma(guess, vfma(-vmin(vset1(FLT_MAX), v), guess, one), guess);
#else
    return one / v;
#endif
}

/* Makes the compiler keep a variable where it is, instead of loading it at each use. */
#if defined(LEVEL_AVX512) || defined(LEVEL_AVX2)
#define IN_REGISTER(v) __asm__("" : "+v"(v))
#elif defined(LEVEL_NEON)
#define IN_REGISTER(v) __asm__("" : "+w"(v))
#else
#define IN_REGISTER(v) ((void)(v))
#endif

/* sum = vfma(a, b, sum), of variables. */
#if !defined(vadd_product)
#define vadd_product(sum, a, b) sum = vfma(a, b, sum)
#endif

#endif
