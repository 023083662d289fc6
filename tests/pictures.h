/* Small pictures in every encoded form that a test asks for. Those made here are freed with
 * picture_free(). */
#ifndef TESTS_PICTURES_H
#define TESTS_PICTURES_H

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <spng.h>
#include <webp/encode.h>

#include "runtime/mem.h" /* what the libraries have written */

struct picture {
    uint8_t *bytes;
    size_t len;
};

static inline void picture_free(struct picture *p)
{
    free(p->bytes);
    *p = (struct picture){ NULL, 0 };
}

/* A TIFF structure that says orientation and nothing else. */
#define PICTURE_EXIF(orientation)                                                                  \
    {                                                                                              \
        'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, (orientation), 0, 0, 0,   \
            0, 0, 0                                                                                \
    }

struct picture_jpeg {
    int width, height;
    int channels; /* 1, 3 or 4 (CMYK, as stored) */
    const uint8_t *pixel;
    int quality; /* 0: 95 */
    bool progressive;
    bool subsampled; /* 4:2:0 */
    bool ycck;
    int orientation; /* 0: no EXIF */
};

static inline struct picture picture_jpeg(const struct picture_jpeg *o)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *bytes = NULL;
    unsigned long len = 0;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &bytes, &len);
    jpeg.image_width = (JDIMENSION)o->width;
    jpeg.image_height = (JDIMENSION)o->height;
    jpeg.input_components = o->channels;
    jpeg.in_color_space = o->channels == 1 ? JCS_GRAYSCALE : o->channels == 3 ? JCS_RGB : JCS_CMYK;
    jpeg_set_defaults(&jpeg);
    rt_mem_written(&jpeg, sizeof jpeg);
    if (o->channels == 4)
        jpeg_set_colorspace(&jpeg, o->ycck ? JCS_YCCK : JCS_CMYK);
    jpeg_set_quality(&jpeg, o->quality != 0 ? o->quality : 95, TRUE);
    if (o->channels == 3 && !o->subsampled)
        jpeg.comp_info[0].h_samp_factor = jpeg.comp_info[0].v_samp_factor = 1;
    if (o->progressive)
        jpeg_simple_progression(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    if (o->orientation != 0) {
        const uint8_t tiff[] = PICTURE_EXIF((uint8_t)o->orientation);
        uint8_t segment[6 + sizeof tiff] = "Exif\0";
        memcpy(segment + 6, tiff, sizeof tiff);
        jpeg_write_marker(&jpeg, JPEG_APP0 + 1, segment, sizeof segment);
    }
    for (int y = 0; y < o->height; y++) {
        JSAMPROW row =
            (JSAMPROW)(uintptr_t)(o->pixel + (size_t)y * (size_t)(o->width * o->channels));
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    rt_mem_written(&bytes, sizeof bytes);
    rt_mem_written(&len, sizeof len);
    rt_mem_written(bytes, len);
    return (struct picture){ bytes, len };
}

struct picture_png {
    uint32_t width, height;
    enum spng_color_type color;
    uint8_t depth;
    bool interlaced;
    const void *pixel; /* rows packed as in the file, 16-bit samples in the host's order */
    size_t len;
    const struct spng_plte *palette;
    const struct spng_trns *transparency;
    uint8_t orientation; /* 0: no EXIF */
};

static inline struct picture picture_png(const struct picture_png *o)
{
    spng_ctx *png = spng_ctx_new(SPNG_CTX_ENCODER);
    assert(png != NULL);
    spng_set_option(png, SPNG_ENCODE_TO_BUFFER, 1);
    struct spng_ihdr ihdr = {
        .width = o->width,
        .height = o->height,
        .bit_depth = o->depth,
        .color_type = (uint8_t)o->color,
        .interlace_method = o->interlaced ? SPNG_INTERLACE_ADAM7 : SPNG_INTERLACE_NONE,
    };
    spng_set_ihdr(png, &ihdr);
    struct spng_plte palette;
    struct spng_trns transparency;
    if (o->palette != NULL) {
        palette = *o->palette;
        spng_set_plte(png, &palette);
    }
    if (o->transparency != NULL) {
        transparency = *o->transparency;
        spng_set_trns(png, &transparency);
    }
    uint8_t tiff[] = PICTURE_EXIF(o->orientation);
    struct spng_exif exif = { sizeof tiff, (char *)tiff };
    if (o->orientation != 0)
        spng_set_exif(png, &exif);
    int code = spng_encode_image(png, o->pixel, o->len, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE);
    struct picture p = { NULL, 0 };
    if (code == 0)
        p.bytes = spng_get_png_buffer(png, &p.len, &code);
    if (code != 0)
        fprintf(stderr, "picture_png: %s\n", spng_strerror(code));
    spng_ctx_free(png);
    return p;
}

/* 8-bit RGB. */
static inline struct picture picture_png_rgb(int width, int height, const uint8_t *rgb)
{
    return picture_png(&(struct picture_png){
        .width = (uint32_t)width,
        .height = (uint32_t)height,
        .color = SPNG_COLOR_TYPE_TRUECOLOR,
        .depth = 8,
        .pixel = rgb,
        .len = (size_t)width * (size_t)height * 3,
    });
}

/* Lossless. */
static inline struct picture picture_webp(int width, int height, const uint8_t *rgb)
{
    uint8_t *bytes = NULL;
    const size_t len = WebPEncodeLosslessRGB(rgb, width, height, 3 * width, &bytes);
    struct picture p = { malloc(len), len };
    assert(p.bytes != NULL);
    rt_mem_written(&bytes, sizeof bytes);
    rt_mem_written(bytes, len);
    memcpy(p.bytes, bytes, len);
    WebPFree(bytes);
    return p;
}

static inline uint8_t *picture_put_chunk(uint8_t *to, const char *name, size_t len)
{
    memcpy(to, name, 4);
    for (int i = 0; i < 4; i++)
        to[4 + i] = (uint8_t)(len >> 8 * i);
    return to + 8;
}

/* An animation on a canvas of width x height, whose one frame is still (of still_width x
 * still_height, lossless) at x, y, which must be even. */
static inline struct picture picture_webp_animation(int width, int height,
                                                    const struct picture *still, int still_width,
                                                    int still_height, int x, int y)
{
    const size_t frame = still->len - 12; /* without RIFF, size, WEBP */
    struct picture p = { NULL, 12 + 18 + 14 + 8 + 16 + frame };
    p.bytes = calloc(1, p.len);
    assert(p.bytes != NULL);
    uint8_t *to = picture_put_chunk(p.bytes, "RIFF", p.len - 8);
    memcpy(to, "WEBP", 4);
    to = picture_put_chunk(to + 4, "VP8X", 10);
    to[0] = 2; /* an animation */
    to[4] = (uint8_t)(width - 1);
    to[7] = (uint8_t)(height - 1);
    to = picture_put_chunk(to + 10, "ANIM", 6);
    to = picture_put_chunk(to + 6, "ANMF", 16 + frame);
    to[0] = (uint8_t)(x / 2);
    to[3] = (uint8_t)(y / 2);
    to[6] = (uint8_t)(still_width - 1);
    to[9] = (uint8_t)(still_height - 1);
    memcpy(to + 16, still->bytes + 12, frame);
    return p;
}

#endif
