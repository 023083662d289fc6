/* Integer kernels for any CPU: what the other levels are checked against. Layouts are those of
 * AVX2. */
#include "runtime/kernels/integer.h"

#include <string.h>

#define ISA(name) name##_scalar
#include "runtime/kernels/integer.inc"

enum { LANES = 8, PANEL = 2 * LANES };

static int32_t to_int(float v)
{
    return (int32_t)rintf(v);
}

/* To 16 bits, as packing saturates. */
static int32_t to_short(int32_t v)
{
    return cut_scalar(v, INT16_MIN, INT16_MAX);
}

static uint8_t byte_of_sum(const struct rt_requantize *q, int32_t sum, float factor,
                           const float *shift, const uint8_t *residual)
{
    float v = (float)sum * factor;
    if (shift != NULL)
        v += *shift;
    if (residual != NULL) {
        if (q->middle)
            v = (float)cut_scalar(to_short(to_int(v)), q->mid_lo, q->mid_hi);
        v = v * q->own + (float)(*residual - q->r_zero) * q->other;
    }
    return (uint8_t)cut_scalar(to_short(to_int(v)) + q->zero, q->lo, q->hi);
}

static void mac(const struct rt_qmac *m)
{
    for (size_t r = 0; r < m->rows; r++) {
        for (size_t p = 0; p < m->pixels; p++) {
            const int16_t *w = m->w;
            uint32_t sum[PANEL];
            memcpy(sum, m->bias, sizeof sum);
            for (size_t i = 0; i < m->kh; i++) {
                for (size_t j = 0; j < m->kw; j++) {
                    const int16_t *x = (const int16_t *)m->x + r * m->x_row + p * m->x_pixel +
                                       i * m->x_kh + j * m->x_kw;
                    for (size_t n = 0; n < m->groups; n++, x += 2, w += 2 * PANEL)
                        for (size_t l = 0; l < PANEL; l++)
                            sum[l] += (uint32_t)(x[0] * w[2 * l] + x[1] * w[2 * l + 1]);
                }
            }
            const size_t at = r * m->y_row + p * m->y_pixel;
            for (size_t map = 0; map < PANEL; map++) {
                const size_t l = (size_t)rt_integer_place(&rt_integer_scalar, (int)map, PANEL);
                m->y[at + map] = byte_of_sum(m->q, (int32_t)sum[l], m->factor[l],
                                             m->shift != NULL ? m->shift + l : NULL,
                                             m->residual != NULL ? m->residual + at + map : NULL);
            }
        }
    }
}

static void widen(int16_t *y, const uint8_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i];
}

/* [rows / 4][kw][pair of rows][channel][2] */
static void depthwise(const struct rt_qdepthwise *d)
{
    enum { CHUNK = RT_PIXEL_CHANNELS, COLUMN = RT_QROWS * CHUNK };
    for (size_t n = 0; n < d->channels / CHUNK * d->rows * d->pixels; n++) {
        const size_t p = n % d->pixels, r = n / d->pixels % d->rows;
        const size_t chunk = n / d->pixels / d->rows, c = chunk * CHUNK;
        const int16_t *w = (const int16_t *)(const void *)((const char *)d->w + chunk * d->w_chunk);
        const uint8_t *x = d->x + r * d->x_row + p * d->stride * d->x_column + c;
        uint32_t sum[CHUNK];
        memcpy(sum, d->bias + c, sizeof sum);
        for (size_t plane = 0; plane < d->planes; plane++) {
            for (size_t i = 0; i < d->kh; i++) {
                for (size_t j = 0; j < d->kw; j++) {
                    const uint8_t *from = x + i * d->x_kh + j * d->dilation * d->x_column;
                    const int16_t *by = w + (i / RT_QROWS * d->kw + j) * COLUMN +
                                        i % RT_QROWS / 2 * 2 * CHUNK + i % 2;
                    for (size_t l = 0; l < CHUNK; l++)
                        sum[l] += (uint32_t)(from[l] * by[2 * l]);
                }
            }
            w += (d->kh + RT_QROWS - 1) / RT_QROWS * d->kw * COLUMN;
        }
        const size_t at = r * d->y_row + p * d->y_pixel + c;
        for (size_t l = 0; l < CHUNK; l++)
            d->y[at + l] = byte_of_sum(d->q, (int32_t)sum[l], d->factor[c + l],
                                       d->shift != NULL ? d->shift + c + l : NULL,
                                       d->residual != NULL ? d->residual + at + l : NULL);
    }
}

const struct rt_integer_kernels rt_integer_scalar = {
    .name = "scalar",
    .lanes = LANES,
    .group = 2,
    .wide = true,
    .tile = 1,
    .chunk = RT_PIXEL_CHANNELS,
    .mac = mac,
    .widen = widen,
    .depthwise = depthwise,
    INTEGER_SLOTS,
};
