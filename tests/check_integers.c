/* Every integer kernel of every level against plain C: all tails, arrays that end at an unreadable
 * page, extremes. Results are bytes and have to be the same, whatever the level. */
#include "tests/check.h"

#include "runtime/kernels/integer.h"

#include <stdbool.h>

/* n bytes whose end is the end of what may be touched. */
struct bytes {
    uint8_t *at;
    struct guarded g;
};

static uint32_t draw(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

static struct bytes guarded_bytes(size_t n)
{
    const size_t words = (n + 3) / 4;
    struct bytes b = { .g = guarded_floats(words) };
    b.at = (uint8_t *)b.g.at + (4 * words - n);
    for (size_t i = 0; i < n; i++)
        b.at[i] = draw() % 8 == 0 ? (draw() % 2 == 0 ? 0 : 255) : (uint8_t)draw();
    return b;
}

static void bytes_free(struct bytes *b)
{
    guarded_free(&b->g);
}

static int64_t cut(int64_t v, int64_t lo, int64_t hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

/* What rt_requantize says. */
static uint8_t byte_of(const struct rt_requantize *q, int32_t sum, float factor, const float *shift,
                       const uint8_t *residual)
{
    volatile float v = (float)sum * factor;
    if (shift != NULL)
        v = v + *shift;
    if (residual != NULL) {
        if (q->middle)
            v = (float)cut(lrintf(v), q->mid_lo, q->mid_hi);
        volatile float own = v * q->own;
        volatile float other = (float)(*residual - q->r_zero) * q->other;
        v = own + other;
    }
    return (uint8_t)cut(lrintf(v) + q->zero, q->lo, q->hi);
}

static struct rt_requantize some_requantize(void)
{
    struct rt_requantize q = { .zero = (int32_t)(draw() % 256), .lo = 0, .hi = 255 };
    if (draw() % 2 == 0) {
        q.lo = (int32_t)(draw() % 128);
        q.hi = 128 + (int32_t)(draw() % 128);
    }
    q.middle = draw() % 2 == 0;
    q.mid_lo = -(int32_t)(draw() % 256);
    q.mid_hi = q.mid_lo + 255;
    q.own = 0.3f + noise() * 0.2f;
    q.other = 0.7f + noise() * 0.5f;
    q.r_zero = (int32_t)(draw() % 256);
    return q;
}

/* --- mac and sums ---------------------------------------------------------------------------- */

struct shape {
    size_t pixels, rows, maps, kh, kw, groups, stride, planes;
};

struct with {
    bool residual, shift, x_zero;
};

static int weight_of(const struct rt_integer_kernels *k, const void *w, size_t sums, size_t step,
                     size_t place, size_t c)
{
    const size_t at = (step * sums + place) * (size_t)k->group + c;
    return k->wide ? ((const int16_t *)w)[at] : ((const int8_t *)w)[at];
}

static int32_t sum_of(const struct rt_integer_kernels *k, const struct rt_qmac *m, size_t sums,
                      size_t r, size_t p, size_t place)
{
    uint32_t sum = (uint32_t)m->bias[place];
    if (m->x_zero != NULL)
        sum += (uint32_t)m->x_sum[r * m->pixels + p] * (uint32_t)m->x_zero[place];
    size_t step = 0;
    for (size_t i = 0; i < m->planes * m->kh; i++)
        for (size_t j = 0; j < m->kw; j++)
            for (size_t n = 0; n < m->groups; n++, step++)
                for (size_t c = 0; c < (size_t)k->group; c++) {
                    const size_t at = r * m->x_row + p * m->x_pixel + i % m->kh * m->x_kh +
                                      j * m->x_kw + n * (size_t)k->group + c;
                    const int x =
                        k->wide ? ((const int16_t *)m->x)[at] : ((const uint8_t *)m->x)[at];
                    sum += (uint32_t)(x * weight_of(k, m->w, sums, step, place, c));
                }
    return (int32_t)sum;
}

static void check_mac(const struct rt_integer_kernels *k, const struct shape *s,
                      const struct with *with)
{
    begin(
        "%s mac pixels %zu rows %zu maps %zu kernel %zux%zu groups %zu stride %zu planes %zu%s%s%s",
        k->name, s->pixels, s->rows, s->maps, s->kh, s->kw, s->groups, s->stride, s->planes,
        with->residual ? " residual" : "", with->shift ? " shift" : "",
        with->x_zero ? " x_zero" : "");
    const size_t group = (size_t)k->group, element = k->wide ? 2 : 1;
    const size_t panel = (size_t)rt_integer_panel(k);
    const bool one = s->maps <= RT_PIXEL_CHANNELS && k->lanes >= RT_PIXEL_CHANNELS;
    const size_t sums = one ? (size_t)k->lanes : panel;
    const size_t y_maps = (s->maps + 15) / 16 * 16;
    struct rt_requantize q = some_requantize();
    struct rt_qmac m = {
        .q = &q,
        .maps = s->maps,
        .pixels = s->pixels,
        .rows = s->rows,
        .kh = s->kh,
        .kw = s->kw,
        .groups = s->groups,
        .planes = s->planes,
        .x_kw = s->groups * group + 4,
        .y_pixel = y_maps + 3,
    };
    m.x_pixel = s->stride * m.x_kw;
    m.x_kh = (s->pixels * s->stride + s->kw) * m.x_kw;
    m.x_row = m.x_kh * 2;
    m.y_row = m.y_pixel * s->pixels + 5;
    const size_t x_len = (s->rows - 1) * m.x_row + (s->pixels - 1) * m.x_pixel +
                         (s->kh - 1) * m.x_kh + (s->kw - 1) * m.x_kw + s->groups * group;
    const size_t y_len = (s->rows - 1) * m.y_row + (s->pixels - 1) * m.y_pixel + y_maps;
    const size_t steps = s->planes * s->kh * s->kw * s->groups;
    struct bytes x = guarded_bytes(x_len * element),
                 w = guarded_bytes(steps * sums * group * element);
    struct bytes y = guarded_bytes(y_len), r = guarded_bytes(y_len), was = guarded_bytes(y_len);
    struct guarded bias = guarded_floats(sums), factor = guarded_floats(sums);
    struct guarded shift = guarded_noise(sums), x_zero = guarded_floats(sums);
    struct guarded x_sum = guarded_floats(s->rows * s->pixels);
    memcpy(was.at, y.at, y_len);
    if (k->wide) { /* a byte each, and a weight with its zero point taken off */
        for (size_t i = 0; i < x_len; i++)
            ((int16_t *)(void *)x.at)[i] = (int16_t)(draw() % 256);
        for (size_t i = 0; i < steps * sums * group; i++)
            ((int16_t *)(void *)w.at)[i] = (int16_t)((int)(draw() % 511) - 255);
    }
    for (size_t i = 0; i < sums; i++) {
        ((int32_t *)(void *)bias.at)[i] = (int32_t)(draw() % 60001) - 30000;
        ((int32_t *)(void *)x_zero.at)[i] = (int32_t)(draw() % 255) - 127;
        factor.at[i] = (1.2f + noise()) / (60.0f * sqrtf((float)(steps * group)));
        shift.at[i] *= 40;
    }
    for (size_t i = 0; i < s->rows * s->pixels; i++)
        ((int32_t *)(void *)x_sum.at)[i] = (int32_t)(draw() % 100000);
    m.x = x.at;
    m.w = w.at;
    m.y = y.at;
    m.residual = with->residual ? r.at : NULL;
    m.bias = (const int32_t *)(const void *)bias.at;
    m.factor = factor.at;
    m.shift = with->shift ? shift.at : NULL;
    m.x_zero = with->x_zero ? (const int32_t *)(const void *)x_zero.at : NULL;
    m.x_sum = (const int32_t *)(const void *)x_sum.at;
    k->mac(&m);
    size_t gap = 0;
    for (size_t row = 0; row < s->rows; row++) {
        for (size_t p = 0; p < s->pixels; p++) {
            const size_t at = row * m.y_row + p * m.y_pixel;
            for (; gap < at; gap++)
                CHECK(y.at[gap] == was.at[gap], "byte %zu between pixels was written", gap);
            gap = at + y_maps;
            for (size_t map = 0; map < s->maps; map++) {
                const size_t place = (size_t)rt_integer_place(k, (int)map, (int)s->maps);
                const uint8_t want = byte_of(
                    &q, sum_of(k, &m, sums, row, p, place), factor.at[place],
                    with->shift ? &shift.at[place] : NULL, with->residual ? &r.at[at + map] : NULL);
                CHECK(y.at[at + map] == want, "row %zu pixel %zu map %zu is %d, want %d", row, p,
                      map, y.at[at + map], want);
            }
        }
    }
    bytes_free(&x);
    bytes_free(&w);
    bytes_free(&y);
    bytes_free(&r);
    bytes_free(&was);
    guarded_free(&bias);
    guarded_free(&factor);
    guarded_free(&shift);
    guarded_free(&x_zero);
    guarded_free(&x_sum);
}

static void check_macs(const struct rt_integer_kernels *k)
{
    const size_t panel = (size_t)rt_integer_panel(k);
    for (size_t pixels = 1; pixels <= 2 * (size_t)k->tile + 1; pixels++) {
        const struct shape s = { pixels, 1 + pixels % 2, panel, 1 + pixels % 3, 1 + pixels % 2,
                                 3,      1 + pixels % 2, 1 };
        for (int i = 0; i < 8; i++) {
            const struct with with = { i & 1, i & 2, (i & 4) && !k->wide };
            check_mac(k, &s, &with);
            struct shape narrow = s;
            narrow.maps = RT_PIXEL_CHANNELS;
            narrow.planes = k->wide ? 1 : 2;
            check_mac(k, &narrow, &with);
        }
    }
    for (size_t maps = 1; maps <= panel; maps++) {
        for (size_t groups = 1; groups <= 9; groups += 4) {
            const struct shape s = {
                3, 2, maps, 3, 1, groups, 1, !k->wide && maps % 4 == 0 ? 2 : 1
            };
            check_mac(k, &s, &(struct with){ maps % 2, groups == 5, maps % 3 == 0 && !k->wide });
        }
    }
}

static void check_sums(const struct rt_integer_kernels *k)
{
    for (size_t bytes = 4; bytes <= 200; bytes += bytes < 80 ? 4 : 28) {
        for (size_t pixels = 1; pixels <= 5; pixels++) {
            begin("%s sums of %zu bytes, %zu pixels", k->name, bytes, pixels);
            struct rt_qsum s = { .pixels = pixels,
                                 .rows = 2,
                                 .x_pixel = bytes + 1,
                                 .kh = 1 + pixels % 3,
                                 .kw = 2,
                                 .bytes = bytes };
            s.x_kw = bytes;
            s.x_kh = (pixels + 2) * (bytes + 1);
            s.x_row = s.x_kh + 3;
            const size_t len =
                s.x_row + (pixels - 1) * s.x_pixel + (s.kh - 1) * s.x_kh + s.x_kw + bytes;
            struct bytes x = guarded_bytes(len), w = guarded_bytes(bytes);
            struct guarded out = guarded_floats(2 * pixels);
            for (size_t i = 0; i < bytes; i++)
                w.at[i] &= 1;
            s.x = x.at;
            s.w = w.at;
            s.out = (int32_t *)(void *)out.at;
            k->sums(&s);
            for (size_t n = 0; n < 2 * pixels; n++) {
                int32_t want = 0;
                for (size_t i = 0; i < s.kh; i++)
                    for (size_t j = 0; j < s.kw; j++)
                        for (size_t c = 0; c < bytes; c++)
                            want += w.at[c] * x.at[n / pixels * s.x_row + n % pixels * s.x_pixel +
                                                   i * s.x_kh + j * s.x_kw + c];
                CHECK(s.out[n] == want, "[%zu] is %d, want %d", n, s.out[n], want);
            }
            bytes_free(&x);
            bytes_free(&w);
            guarded_free(&out);
        }
    }
}

static void check_widen(const struct rt_integer_kernels *k)
{
    for (size_t n = 0; n <= 67; n++) {
        begin("%s widen n %zu", k->name, n);
        struct bytes x = guarded_bytes(n), y = guarded_bytes(2 * n);
        k->widen((int16_t *)(void *)y.at, x.at, n);
        for (size_t i = 0; i < n; i++)
            CHECK(((int16_t *)(void *)y.at)[i] == x.at[i], "[%zu]", i);
        bytes_free(&x);
        bytes_free(&y);
    }
}

/* --- depthwise ------------------------------------------------------------------------------- */

/* Where the weight of a tap of a channel is among those of a chunk, of one plane. */
static size_t tap_at(const struct rt_integer_kernels *k, const struct rt_qdepthwise *d,
                     size_t channel, size_t i, size_t j)
{
    const size_t chunk = (size_t)k->chunk, row = i % RT_QROWS;
    const size_t column = (i / RT_QROWS * d->kw + j) * RT_QROWS * chunk;
    const size_t lane = (size_t)rt_integer_lane(k, (int)channel);
    return k->wide ? column + row / 2 * 2 * chunk + 2 * lane + row % 2
                   : column + RT_QROWS * lane + row;
}

static void check_depthwise(const struct rt_integer_kernels *k, size_t channels, size_t pixels,
                            size_t kh, size_t kw, size_t stride, size_t dilation, size_t planes,
                            bool residual, bool shift)
{
    begin("%s depthwise channels %zu pixels %zu kernel %zux%zu stride %zu dilation %zu planes "
          "%zu%s%s",
          k->name, channels, pixels, kh, kw, stride, dilation, planes, residual ? " residual" : "",
          shift ? " shift" : "");
    const size_t chunk = (size_t)k->chunk, chunks = (channels + chunk - 1) / chunk;
    const size_t element = k->wide ? 2 : 1, groups = (kh + RT_QROWS - 1) / RT_QROWS;
    const size_t plane = groups * kw * RT_QROWS * chunk;
    struct rt_requantize q = some_requantize();
    struct rt_qdepthwise d = {
        .q = &q,
        .channels = channels,
        .pixels = pixels,
        .rows = 2,
        .x_column = channels + 16,
        .y_pixel = channels + 7,
        .stride = stride,
        .dilation = dilation,
        .kh = kh,
        .kw = kw,
        .planes = planes,
        .w_chunk = planes * plane * element,
    };
    const size_t width = (pixels - 1) * stride + (kw - 1) * dilation + 1;
    d.x_kh = width * d.x_column;
    d.x_row = stride * d.x_kh;
    d.y_row = pixels * d.y_pixel + 3;
    const size_t x_len = d.x_row + (kh - 1) * d.x_kh + (width - 1) * d.x_column + channels;
    const size_t y_len = d.y_row + (pixels - 1) * d.y_pixel + channels;
    struct bytes x = guarded_bytes(x_len), w = guarded_bytes(chunks * d.w_chunk);
    struct bytes y = guarded_bytes(y_len), r = guarded_bytes(y_len), was = guarded_bytes(y_len);
    struct guarded bias = guarded_floats(chunks * chunk), factor = guarded_floats(chunks * chunk);
    struct guarded shifts = guarded_noise(chunks * chunk);
    memset(w.at, 0, chunks * d.w_chunk); /* of rows that are none */
    memcpy(was.at, y.at, y_len);
    for (size_t c = 0; c < chunks * chunk; c++) {
        for (size_t tap = 0; tap < kh * kw * planes; tap++) {
            const size_t at =
                tap / (kh * kw) * plane + tap_at(k, &d, c % chunk, tap % (kh * kw) / kw, tap % kw);
            uint8_t *to = w.at + c / chunk * d.w_chunk;
            if (k->wide)
                ((int16_t *)(void *)to)[at] = (int16_t)((int)(draw() % 511) - 255);
            else
                to[at] = (uint8_t)draw();
        }
        ((int32_t *)(void *)bias.at)[c] = (int32_t)(draw() % 60001) - 30000;
        factor.at[c] = (1.2f + noise()) / (60.0f * sqrtf((float)(kh * kw)));
        shifts.at[c] *= 40;
    }
    d.x = x.at;
    d.w = w.at;
    d.y = y.at;
    d.residual = residual ? r.at : NULL;
    d.bias = (const int32_t *)(const void *)bias.at;
    d.factor = factor.at;
    d.shift = shift ? shifts.at : NULL;
    k->depthwise(&d);
    size_t gap = 0;
    for (size_t n = 0; n < 2 * pixels; n++) {
        const size_t at = n / pixels * d.y_row + n % pixels * d.y_pixel;
        for (; gap < at; gap++)
            CHECK(y.at[gap] == was.at[gap], "byte %zu between pixels was written", gap);
        gap = at + channels;
        for (size_t c = 0; c < channels; c++) {
            const size_t lane = c / chunk * chunk + (size_t)rt_integer_lane(k, (int)(c % chunk));
            const uint8_t *by = w.at + c / chunk * d.w_chunk;
            int32_t sum = d.bias[lane];
            for (size_t tap = 0; tap < kh * kw * planes; tap++) {
                const size_t i = tap % (kh * kw) / kw, j = tap % kw;
                const size_t from = n / pixels * d.x_row +
                                    (n % pixels * stride + j * dilation) * d.x_column + i * d.x_kh +
                                    c;
                const size_t w_at = tap / (kh * kw) * plane + tap_at(k, &d, c % chunk, i, j);
                sum += x.at[from] *
                       (k->wide ? ((const int16_t *)(const void *)by)[w_at] : (int8_t)by[w_at]);
            }
            const uint8_t want = byte_of(&q, sum, factor.at[lane], shift ? &shifts.at[lane] : NULL,
                                         residual ? &r.at[at + c] : NULL);
            CHECK(y.at[at + c] == want, "pixel %zu channel %zu is %d, want %d", n, c, y.at[at + c],
                  want);
        }
    }
    bytes_free(&x);
    bytes_free(&w);
    bytes_free(&y);
    bytes_free(&r);
    bytes_free(&was);
    guarded_free(&bias);
    guarded_free(&factor);
    guarded_free(&shifts);
}

static void check_depthwises(const struct rt_integer_kernels *k)
{
    for (size_t channels = 16; channels <= 144; channels += 16)
        for (size_t pixels = 1; pixels <= 9; pixels += 2)
            check_depthwise(k, channels, pixels, 3, 3, 1 + pixels % 4 / 2, 1,
                            1 + channels % 32 / 16, channels % 48 == 0, pixels % 3 == 0);
    for (size_t kh = 1; kh <= 9; kh++)
        for (size_t kw = 1; kw <= 7; kw += 2)
            for (size_t stride = 1; stride <= 3; stride++)
                for (size_t dilation = 1; dilation <= 2; dilation++)
                    check_depthwise(k, 48, 6, kh, kw, stride, dilation, 1 + kh % 2, kw == 3,
                                    kh == 5);
}

/* --- the rest -------------------------------------------------------------------------------- */

static void check_pools(const struct rt_integer_kernels *k)
{
    for (size_t channels = 16; channels <= 80; channels += 16) {
        for (size_t size = 0; size <= 4; size++) {
            struct rt_qwindow t = { .channels = channels,
                                    .pixels = 3,
                                    .kh = size,
                                    .kw = size + 1,
                                    .x_zero = (int32_t)(draw() % 100),
                                    .lo = 3,
                                    .hi = 250 };
            t.x_pixel = 2 * channels;
            t.x_kw = channels;
            t.x_kh = 9 * channels + 1;
            t.y_pixel = channels + 2;
            t.zero = size % 2 == 0 ? t.x_zero : 77;
            const size_t rows = size > 0 ? size - 1 : 0;
            const size_t len = 2 * t.x_pixel + rows * t.x_kh + size * t.x_kw + channels;
            struct bytes x = guarded_bytes(len), y = guarded_bytes(2 * t.y_pixel + channels);
            t.x = x.at;
            t.y = y.at;
            for (int mean = 0; mean < 2; mean++) {
                begin("%s %s pool channels %zu of %zux%zu", k->name, mean ? "mean" : "max",
                      channels, t.kh, t.kw);
                t.factor = mean            ? 0.37f / (float)(size * (size + 1) + 1)
                           : size % 2 == 0 ? 1
                                           : 0.61f;
                (mean ? k->mean_pool : k->max_pool)(&t);
                for (size_t p = 0; p < 3; p++)
                    for (size_t c = 0; c < channels; c++) {
                        int32_t sum = 0, most = 0;
                        for (size_t i = 0; i < t.kh; i++)
                            for (size_t j = 0; j < t.kw; j++) {
                                const int32_t v = x.at[p * t.x_pixel + i * t.x_kh + j * t.x_kw + c];
                                sum += v;
                                most = v > most ? v : most;
                            }
                        volatile float v = (float)((mean ? sum : most) - t.x_zero) * t.factor;
                        const int64_t want = cut(lrintf(v) + t.zero, t.lo, t.hi);
                        CHECK(y.at[p * t.y_pixel + c] == want,
                              "pixel %zu channel %zu is %d, want %d", p, c, y.at[p * t.y_pixel + c],
                              (int)want);
                    }
            }
            bytes_free(&x);
            bytes_free(&y);
        }
    }
}

static void check_add(const struct rt_integer_kernels *k)
{
    for (size_t n = 0; n <= 70; n++) {
        begin("%s add n %zu", k->name, n);
        struct bytes a = guarded_bytes(n), b = guarded_bytes(n), y = guarded_bytes(n);
        const struct rt_qadd t = { a.at, b.at, y.at, n, 0.5f, 0.7f, 12, 140, 100, 5, 240 };
        k->add(&t);
        for (size_t i = 0; i < n; i++) {
            volatile float l = (float)(a.at[i] - 12) * 0.5f, r = (float)(b.at[i] - 140) * 0.7f;
            volatile float v = l + r;
            const int64_t want = cut(lrintf(v) + 100, 5, 240);
            CHECK(y.at[i] == want, "[%zu] is %d, want %d", i, y.at[i], (int)want);
        }
        bytes_free(&a);
        bytes_free(&b);
        bytes_free(&y);
    }
}

static void check_quantize(const struct rt_integer_kernels *k)
{
    static const float special[] = { NAN,  INFINITY, -INFINITY, 1e30f, -1e30f,
                                     0.0f, -0.0f,    0.25f,     0.75f, -0.25f };
    for (size_t channels = 1; channels <= 4; channels++) {
        for (size_t n = 0; n <= 131; n += n < 20 ? 1 : 37) {
            for (size_t pixel = 4; pixel <= 16; pixel += 12) {
                begin("%s quantize channels %zu n %zu pixel %zu", k->name, channels, n, pixel);
                struct guarded x[4];
                const float *from[4] = { NULL };
                const int32_t zero = n % 2 == 0 ? 128 : 3;
                struct bytes y = guarded_bytes(n > 0 ? (n - 1) * pixel + 4 : 0);
                for (size_t c = 0; c < channels; c++) {
                    x[c] = guarded_noise(n);
                    for (size_t i = 0; i < n; i++)
                        x[c].at[i] = i < 10 ? special[(i + c) % 10] : x[c].at[i] * 80;
                    from[c] = x[c].at;
                }
                k->quantize(y.at, pixel, from, channels, n, 0.5f, zero);
                for (size_t i = 0; i < n; i++)
                    for (size_t c = 0; c < 4; c++) {
                        const float v =
                            c < channels ? rintf(from[c][i] / 0.5f) + (float)zero : (float)zero;
                        const int want = !(v > 0) ? 0 : v > 255 ? 255 : (int)v;
                        CHECK(y.at[i * pixel + c] == want, "pixel %zu channel %zu is %d, want %d",
                              i, c, y.at[i * pixel + c], want);
                    }
                for (size_t c = 0; c < channels; c++)
                    guarded_free(&x[c]);
                bytes_free(&y);
            }
        }
    }
}

int main(void)
{
    check_start();
    for (int i = 0; rt_integer_kernels_at(i) != NULL; i++) {
        const struct rt_integer_kernels *k = rt_integer_kernels_at(i);
        check_macs(k);
        if (k->sums != NULL)
            check_sums(k);
        if (k->widen != NULL)
            check_widen(k);
        check_depthwises(k);
        check_pools(k);
        check_add(k);
        check_quantize(k);
    }
    return check_end();
}
