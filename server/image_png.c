/* PNG through libspng: every colour type and depth to 8-bit grey or RGB. */
#include "server/exif.h"
#include "server/image_codec.h"

#include <stdio.h>
#include <string.h>

#include <spng.h>

/* Text and profiles beside the pixels: more than anyone needs, less than hurts. */
#define MAX_CHUNK ((size_t)16 * 1024 * 1024)
#define MAX_CHUNKS ((size_t)32 * 1024 * 1024)

/* Whether an allocation has failed in the picture that this thread is decoding. libspng hands its
 * allocator no argument to keep that in, and reports zlib's lack of memory as damaged data. */
static _Thread_local bool out_of_memory;

static void *noticed(void *p)
{
    out_of_memory = out_of_memory || p == NULL;
    return p;
}

static void *png_malloc(size_t len)
{
    return noticed(rt_alloc(len));
}

static void *png_realloc(void *p, size_t len)
{
    return noticed(rt_realloc_array(p, 1, len));
}

static void *png_calloc(size_t n, size_t size)
{
    return noticed(rt_zalloc_array(n, size));
}

static enum rt_status fail(struct rt_error *err, int code)
{
    if (out_of_memory)
        return rt_fail(err, RT_E_NOMEM, "PNG: out of memory");
    switch (code) {
    case SPNG_IO_EOF:
    case SPNG_EIDAT_TOO_SHORT:
        return rt_fail(err, RT_E_INVALID, "PNG: the file is cut off before the picture ends");
    case SPNG_ECHUNK_LIMITS:
        return rt_fail(err, RT_E_LIMIT, "PNG: %s", spng_strerror(code));
    default:
        return rt_fail(err, RT_E_INVALID, "PNG: %s", spng_strerror(code));
    }
}

struct source {
    struct spng_ihdr ihdr;
    struct spng_plte palette;
    int channels; /* samples a pixel, as stored */
};

/* Sample i of a row as 8 bits, or as it is where it is an index into a palette. */
static inline uint8_t sample(const struct source *src, const uint8_t *row, size_t i)
{
    const unsigned int depth = src->ihdr.bit_depth;
    if (depth == 8)
        return row[i];
    if (depth == 16) {
        uint16_t v;
        memcpy(&v, row + 2 * i, 2);
        return (uint8_t)((v * 255u + 32895u) >> 16); /* v / 257, rounded */
    }
    const size_t bit = i * depth;
    const unsigned int top = (1u << depth) - 1;
    const unsigned int v = (unsigned int)row[bit / 8] >> (8 - depth - bit % 8) & top;
    return (uint8_t)(src->ihdr.color_type == SPNG_COLOR_TYPE_INDEXED ? v : v * (255 / top));
}

/* One row to channels bytes a pixel. Alpha, where there is some, is passed over. */
static void convert_row(const struct source *src, const uint8_t *row, uint8_t *to, int channels)
{
    const size_t n = src->ihdr.width;
    const size_t step = (size_t)src->channels;
    if (src->ihdr.color_type == SPNG_COLOR_TYPE_INDEXED) {
        for (size_t x = 0; x < n; x++, to += 3) {
            const struct spng_plte_entry *e = &src->palette.entries[sample(src, row, x)];
            to[0] = e->red;
            to[1] = e->green;
            to[2] = e->blue;
        }
    } else if (step >= 3) {
        for (size_t x = 0; x < n; x++, to += 3)
            for (size_t c = 0; c < 3; c++)
                to[c] = sample(src, row, x * step + c);
    } else {
        for (size_t x = 0; x < n; x++, to += channels)
            memset(to, sample(src, row, x * step), (size_t)channels);
    }
}

static int orientation_of(spng_ctx *png)
{
    struct spng_exif exif = { 0 };
    if (spng_get_exif(png, &exif) != 0)
        return 0;
    return sv_exif_orientation((const uint8_t *)exif.data, exif.length);
}

static enum rt_status read_header(spng_ctx *png, const struct sv_decode_options *opt,
                                  struct source *src, struct rt_error *err)
{
    int code = spng_get_ihdr(png, &src->ihdr);
    if (code != 0)
        return fail(err, code);
    enum rt_status s = sv_image_check_size("PNG", src->ihdr.width, src->ihdr.height, opt, err);
    if (s != RT_OK)
        return s;
    static const uint8_t channels[] = {
        [SPNG_COLOR_TYPE_GRAYSCALE] = 1,       [SPNG_COLOR_TYPE_TRUECOLOR] = 3,
        [SPNG_COLOR_TYPE_INDEXED] = 1,         [SPNG_COLOR_TYPE_GRAYSCALE_ALPHA] = 2,
        [SPNG_COLOR_TYPE_TRUECOLOR_ALPHA] = 4,
    };
    src->channels = channels[src->ihdr.color_type];
    if (src->ihdr.color_type == SPNG_COLOR_TYPE_INDEXED) {
        code = spng_get_plte(png, &src->palette);
        if (code != 0)
            return fail(err, code);
    }
    return RT_OK;
}

/* Rows in the file's own form go through rows[], which holds one, or all of them when interlacing
 * spreads a row over several passes. */
static enum rt_status read_rows(spng_ctx *png, const struct source *src, uint8_t *rows, size_t len,
                                struct sv_image *out, struct rt_error *err)
{
    const size_t stride = (size_t)out->width * (size_t)out->channels;
    int code = spng_decode_image(png, NULL, 0, SPNG_FMT_PNG, SPNG_DECODE_PROGRESSIVE);
    const bool interlaced = src->ihdr.interlace_method != SPNG_INTERLACE_NONE;
    while (code == 0) {
        struct spng_row_info info = { 0 };
        code = spng_get_row_info(png, &info);
        if (code != 0)
            break;
        uint8_t *row = interlaced ? rows + info.row_num * len : rows;
        code = spng_decode_row(png, row, len);
        rt_mem_written(row, len);
        if ((code == 0 || code == SPNG_EOI) && !interlaced)
            convert_row(src, row, out->pixel + info.row_num * stride, out->channels);
    }
    if (code != SPNG_EOI)
        return fail(err, code);
    if (interlaced)
        for (size_t y = 0; y < src->ihdr.height; y++)
            convert_row(src, rows + y * len, out->pixel + y * stride, out->channels);
    return RT_OK;
}

enum rt_status sv_decode_png(const uint8_t *bytes, size_t len, const struct sv_decode_options *opt,
                             struct sv_image *out, int *orientation, struct rt_error *err)
{
    out_of_memory = false;
    struct spng_alloc alloc = { png_malloc, png_realloc, png_calloc, rt_free };
    spng_ctx *png = spng_ctx_new2(&alloc, 0);
    if (png == NULL)
        return rt_fail(err, RT_E_NOMEM, "PNG: out of memory");
    spng_set_png_buffer(png, bytes, len);
    spng_set_chunk_limits(png, MAX_CHUNK, MAX_CHUNKS);

    struct source src = { .channels = 0 };
    struct sv_image image = { 0 };
    uint8_t *rows = NULL;
    enum rt_status s = read_header(png, opt, &src, err);
    if (s != RT_OK)
        goto out;
    const size_t row_len =
        ((size_t)src.ihdr.width * (size_t)src.channels * src.ihdr.bit_depth + 7) / 8;
    const size_t n_rows = src.ihdr.interlace_method != SPNG_INTERLACE_NONE ? src.ihdr.height : 1;
    rows = rt_zalloc_array(n_rows, row_len);
    if (rows == NULL) {
        s = rt_fail_nomem(err, (unsigned long long)n_rows * row_len);
        goto out;
    }
    const bool gray = src.channels <= 2 && src.ihdr.color_type != SPNG_COLOR_TYPE_INDEXED;
    s = sv_image_create(&image, (int)src.ihdr.width, (int)src.ihdr.height, gray ? opt->channels : 3,
                        err);
    if (s == RT_OK)
        s = read_rows(png, &src, rows, row_len, &image, err);
    if (s != RT_OK)
        goto out;
    /* EXIF may also stand behind the pixels; what is wrong there no longer matters. */
    *orientation = orientation_of(png);
    if (*orientation == 0 && spng_decode_chunks(png) == 0)
        *orientation = orientation_of(png);
    if (*orientation == 0)
        *orientation = 1;
    image.format = SV_IMAGE_PNG;
    *out = image;
    image.pixel = NULL;
out:
    rt_free(image.pixel);
    rt_free(rows);
    spng_ctx_free(png);
    return s;
}
