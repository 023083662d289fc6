/* Decoding: what comes out of each format and variant, what is refused, and that neither damage nor
 * a lack of memory does harm. tests/check_pillow.py compares many more pictures with Pillow. */
#include "server/image.h"
#include "server/image_codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/pictures.h"

#define W 5
#define H 3

/* Every pixel another colour. */
static const uint8_t *colors(void)
{
    static uint8_t rgb[W * H * 3];
    for (int i = 0; i < W * H; i++) {
        rgb[3 * i] = (uint8_t)(i * 17);
        rgb[3 * i + 1] = (uint8_t)(255 - i * 11);
        rgb[3 * i + 2] = (uint8_t)(i * i);
    }
    return rgb;
}

static uint8_t luma(const uint8_t *rgb)
{
    return (uint8_t)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16);
}

/* Decodes p, which must succeed, and frees it. */
static struct sv_image decoded(struct picture p, const struct sv_decode_options *o)
{
    struct rt_error err = { 0 };
    struct sv_image image = { 0 };
    if (sv_image_decode(p.bytes, p.len, o, &image, &err) != RT_OK)
        fail_msg("%s", err.text);
    picture_free(&p);
    return image;
}

static void expect_pixels(struct sv_image image, int width, int height, int channels,
                          const uint8_t *pixel)
{
    assert_int_equal(image.width, width);
    assert_int_equal(image.height, height);
    assert_int_equal(image.channels, channels);
    assert_int_equal(image.full_width, width);
    assert_int_equal(image.full_height, height);
    assert_true(image.box[0] == 0 && image.box[1] == 0);
    assert_true(image.box[2] == width && image.box[3] == height);
    assert_memory_equal(image.pixel, pixel, (size_t)(width * height * channels));
    sv_image_reset(&image);
    assert_null(image.pixel);
}

static void expect_refusal(const void *bytes, size_t len, const struct sv_decode_options *o,
                           enum rt_status status, const char *says)
{
    struct rt_error err = { 0 };
    struct sv_image image;
    assert_int_equal(sv_image_decode(bytes, len, o, &image, &err), status);
    assert_int_equal(err.status, status);
    if (strstr(err.text, says) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, says);
}

static void tells_formats_apart(void **state)
{
    (void)state;
    expect_refusal("", 0, NULL, RT_E_INVALID, "no bytes");
    expect_refusal(NULL, 0, NULL, RT_E_INVALID, "no bytes");
    expect_refusal("hello, world", 12, NULL, RT_E_INVALID, "looks like text");
    expect_refusal("/9j/4AAQSkZJRg", 14, NULL, RT_E_INVALID, "base64");
    expect_refusal("GIF89a\1\0\1\0", 10, NULL, RT_E_UNSUPPORTED, "a GIF");
    expect_refusal("BM\0\0\0\0", 6, NULL, RT_E_UNSUPPORTED, "a BMP");
    expect_refusal("II*\0\0\0", 6, NULL, RT_E_UNSUPPORTED, "a TIFF");
    expect_refusal("\0\0\0\30ftypheic", 12, NULL, RT_E_UNSUPPORTED, "HEIC");
    expect_refusal("RIFF\0\0\0\0WAVE", 12, NULL, RT_E_INVALID, "52 49 46 46");
    expect_refusal("\xff\xd8", 2, NULL, RT_E_INVALID, "ff d8");
    assert_true(sv_image_recognised("\xff\xd8\xff\xe0", 4));
    assert_true(sv_image_recognised("RIFF....WEBP", 12));
    assert_false(sv_image_recognised("GIF89a", 6));
    assert_false(sv_image_recognised("", 0));
}

static void png_colors(void **state)
{
    (void)state;
    const uint8_t *rgb = colors();
    uint8_t gray[W * H], spread[W * H * 3], rgba[W * H * 4], ga[W * H * 2];
    for (int i = 0; i < W * H; i++) {
        gray[i] = luma(rgb + 3 * i);
        memset(spread + 3 * i, gray[i], 3);
        memcpy(rgba + 4 * i, rgb + 3 * i, 3);
        rgba[4 * i + 3] = (uint8_t)(i * 9);
        ga[2 * i] = gray[i];
        ga[2 * i + 1] = (uint8_t)(i * 9);
    }
    const struct sv_decode_options to_gray = { .channels = 1 };
    for (int interlaced = 0; interlaced < 2; interlaced++) {
        struct picture_png o = {
            .width = W,
            .height = H,
            .color = SPNG_COLOR_TYPE_TRUECOLOR,
            .depth = 8,
            .interlaced = interlaced,
            .pixel = rgb,
            .len = W * H * 3,
        };
        expect_pixels(decoded(picture_png(&o), NULL), W, H, 3, rgb);
        expect_pixels(decoded(picture_png(&o), &to_gray), W, H, 1, gray);
        const struct spng_trns first = { .red = rgb[0], .green = rgb[1], .blue = rgb[2] };
        o.transparency = &first;
        expect_pixels(decoded(picture_png(&o), NULL), W, H, 3, rgb);
        o.transparency = NULL;
        o.color = SPNG_COLOR_TYPE_TRUECOLOR_ALPHA;
        o.pixel = rgba;
        o.len = sizeof rgba;
        expect_pixels(decoded(picture_png(&o), NULL), W, H, 3, rgb);
        o.color = SPNG_COLOR_TYPE_GRAYSCALE_ALPHA;
        o.pixel = ga;
        o.len = sizeof ga;
        expect_pixels(decoded(picture_png(&o), NULL), W, H, 3, spread);
        expect_pixels(decoded(picture_png(&o), &to_gray), W, H, 1, gray);
        o.color = SPNG_COLOR_TYPE_GRAYSCALE;
        o.pixel = gray;
        o.len = sizeof gray;
        expect_pixels(decoded(picture_png(&o), &to_gray), W, H, 1, gray);
    }
}

static void png_depths(void **state)
{
    (void)state;
    static const uint16_t deep[] = { 0, 128, 129, 257, 32896, 65406, 65407, 65535 };
    static const uint8_t shallow[] = { 0, 0, 1, 1, 128, 254, 255, 255 };
    const struct sv_decode_options to_gray = { .channels = 1 };
    struct picture_png o = {
        .width = 8,
        .height = 1,
        .color = SPNG_COLOR_TYPE_GRAYSCALE,
        .depth = 16,
        .pixel = deep,
        .len = sizeof deep,
    };
    expect_pixels(decoded(picture_png(&o), &to_gray), 8, 1, 1, shallow);

    /* 0x1b: the four values of two bits in order. */
    o.pixel = (const uint8_t[]){ 0x1b, 0x1b };
    o.len = 1;
    o.width = 4;
    o.depth = 2;
    expect_pixels(decoded(picture_png(&o), &to_gray), 4, 1, 1,
                  (const uint8_t[]){ 0, 85, 170, 255 });
    o.interlaced = true;
    expect_pixels(decoded(picture_png(&o), &to_gray), 4, 1, 1,
                  (const uint8_t[]){ 0, 85, 170, 255 });
    o.interlaced = false;
    o.width = 2;
    o.depth = 4;
    expect_pixels(decoded(picture_png(&o), &to_gray), 2, 1, 1, (const uint8_t[]){ 17, 187 });
    o.width = 8;
    o.depth = 1;
    expect_pixels(decoded(picture_png(&o), &to_gray), 8, 1, 1,
                  (const uint8_t[]){ 0, 0, 0, 255, 255, 0, 255, 255 });

    const struct spng_plte palette = {
        3, { { 10, 20, 30, 0 }, { 40, 50, 60, 0 }, { 70, 80, 90, 0 } }
    };
    const struct spng_trns clear = { .n_type3_entries = 1, .type3_alpha = { 0 } };
    o.pixel = (const uint8_t[]){ 0x18 };
    o.width = 3;
    o.depth = 2;
    o.color = SPNG_COLOR_TYPE_INDEXED;
    o.palette = &palette;
    o.transparency = &clear;
    expect_pixels(decoded(picture_png(&o), NULL), 3, 1, 3,
                  (const uint8_t[]){ 10, 20, 30, 40, 50, 60, 70, 80, 90 });
    expect_pixels(decoded(picture_png(&o), &to_gray), 3, 1, 1, (const uint8_t[]){ 18, 48, 78 });
}

/* Largest difference to rgb, of a picture that is then freed. */
static int off_by(struct sv_image image, const uint8_t *want)
{
    int off = 0;
    for (int i = 0; i < image.width * image.height * image.channels; i++)
        if (abs(image.pixel[i] - want[i]) > off)
            off = abs(image.pixel[i] - want[i]);
    sv_image_reset(&image);
    return off;
}

static void jpeg_colors(void **state)
{
    (void)state;
    enum { SIDE = 16 };
    static uint8_t rgb[SIDE * SIDE * 3], gray[SIDE * SIDE], cmyk[SIDE * SIDE * 4];
    for (int i = 0; i < SIDE * SIDE; i++) {
        const uint8_t color[] = { 200, (uint8_t)(i / SIDE * 8), 50 };
        memcpy(rgb + 3 * i, color, 3);
        gray[i] = luma(color);
        memcpy(cmyk + 4 * i, color, 3); /* as inverted inks, without black */
        cmyk[4 * i + 3] = 255;
    }
    const struct sv_decode_options to_gray = { .channels = 1 };
    struct picture_jpeg o = { .width = SIDE, .height = SIDE, .channels = 3, .pixel = rgb };
    for (int i = 0; i < 4; i++) {
        o.progressive = (i & 1) != 0;
        o.subsampled = (i & 2) != 0;
        assert_in_range(off_by(decoded(picture_jpeg(&o), NULL), rgb), 0, 6);
        assert_in_range(off_by(decoded(picture_jpeg(&o), &to_gray), gray), 0, 4);
    }
    o.channels = 4;
    o.pixel = cmyk;
    for (int i = 0; i < 2; i++) {
        o.ycck = i != 0;
        assert_in_range(off_by(decoded(picture_jpeg(&o), NULL), rgb), 0, 8);
    }
    o.channels = 1;
    o.pixel = gray;
    struct sv_image image = decoded(picture_jpeg(&o), NULL);
    assert_int_equal(image.channels, 3);
    assert_int_equal(image.format, SV_IMAGE_JPEG);
    for (int i = 0; i < SIDE * SIDE; i++)
        assert_memory_equal(image.pixel + 3 * i, image.pixel + 3 * i + 1, 2);
    sv_image_reset(&image);
    assert_in_range(off_by(decoded(picture_jpeg(&o), &to_gray), gray), 0, 3);
}

static void jpeg_refusals(void **state)
{
    (void)state;
    const struct picture_jpeg o = { .width = W, .height = H, .channels = 3, .pixel = colors() };
    struct picture p = picture_jpeg(&o);
    uint8_t *frame = p.bytes;
    while (frame[0] != 0xff || frame[1] != 0xc0)
        frame++;
    frame[4] = 12;
    expect_refusal(p.bytes, p.len, NULL, RT_E_UNSUPPORTED, "12 bits");
    frame[4] = 8;
    frame[1] = 0xc3;
    expect_refusal(p.bytes, p.len, NULL, RT_E_UNSUPPORTED, "SOF");
    frame[1] = 0xc0;
    memset(frame + 5, 0xff, 4);
    expect_refusal(p.bytes, p.len, NULL, RT_E_LIMIT, "65500 pixels");
    memset(frame + 5, 0, 4);
    expect_refusal(p.bytes, p.len, NULL, RT_E_INVALID, "JPEG: ");
    picture_free(&p);

    static uint8_t blank[16 * 16 * 3];
    const struct picture_jpeg many = {
        .width = 16,
        .height = 16,
        .channels = 3,
        .pixel = blank,
        .progressive = true,
    };
    p = picture_jpeg(&many);
    const struct sv_decode_options few = { .max_scans = 3 };
    expect_refusal(p.bytes, p.len, &few, RT_E_LIMIT, "more than 3 scans");
    picture_free(&p);

    static const uint8_t two_components[] = {
        0xff, 0xd8, 0xff, 0xc0, 0, 14, 8, 0, 4, 0, 4,  2, 1, 0x11, 0, 2, 0x11, 0, /* the frame */
        0xff, 0xda, 0,    10,   2, 1,  0, 2, 0, 0, 63, 0,                         /* a scan */
    };
    expect_refusal(two_components, sizeof two_components, NULL, RT_E_UNSUPPORTED,
                   "has 2 components");
}

static void jpeg_scaled(void **state)
{
    (void)state;
    enum { WIDE = 101, HIGH = 50 };
    static uint8_t rgb[WIDE * HIGH * 3];
    memset(rgb, 99, sizeof rgb);
    struct picture_jpeg o = { .width = WIDE, .height = HIGH, .channels = 3, .pixel = rgb };
    static const struct {
        int min_width, min_height, orientation, width, height;
        double box[4];
    } cases[] = {
        { 0, 20, 0, 101, 50, { 0, 0, 101, 50 } },     { 51, 25, 0, 101, 50, { 0, 0, 101, 50 } },
        { 50, 25, 0, 51, 25, { 0, 0, 50.5, 25 } },    { 25, 13, 0, 51, 25, { 0, 0, 50.5, 25 } },
        { 25, 12, 0, 26, 13, { 0, 0, 25.25, 12.5 } }, { 1, 1, 0, 13, 7, { 0, 0, 12.625, 6.25 } },
        { 1, 1, 3, 13, 7, { 0.375, 0.75, 13, 7 } },   { 12, 25, 6, 13, 26, { 0.5, 0, 13, 25.25 } },
        { 26, 12, 6, 50, 101, { 0, 0, 50, 101 } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct sv_decode_options options = { .min_width = cases[i].min_width,
                                                   .min_height = cases[i].min_height };
        o.orientation = cases[i].orientation;
        struct sv_image image = decoded(picture_jpeg(&o), &options);
        const bool turned = o.orientation >= 5;
        assert_int_equal(image.width, cases[i].width);
        assert_int_equal(image.height, cases[i].height);
        assert_int_equal(image.full_width, turned ? HIGH : WIDE);
        assert_int_equal(image.full_height, turned ? WIDE : HIGH);
        assert_memory_equal(image.box, cases[i].box, sizeof image.box);
        sv_image_reset(&image);
    }
}

static void webp(void **state)
{
    (void)state;
    const uint8_t *rgb = colors();
    expect_pixels(decoded(picture_webp(W, H, rgb), NULL), W, H, 3, rgb);
    uint8_t gray[W * H];
    for (int i = 0; i < W * H; i++)
        gray[i] = luma(rgb + 3 * i);
    const struct sv_decode_options to_gray = { .channels = 1 };
    expect_pixels(decoded(picture_webp(W, H, rgb), &to_gray), W, H, 1, gray);

    /* A frame that covers part of its canvas leaves the rest black. */
    struct picture still = picture_webp(W, H, rgb);
    uint8_t canvas[(W + 3) * (H + 4) * 3] = { 0 };
    for (int y = 0; y < H; y++)
        memcpy(canvas + ((y + 4) * (W + 3) + 2) * 3, rgb + y * W * 3, W * 3);
    expect_pixels(decoded(picture_webp_animation(W + 3, H + 4, &still, W, H, 2, 4), NULL), W + 3,
                  H + 4, 3, canvas);
    struct picture outside = picture_webp_animation(W + 1, H + 4, &still, W, H, 2, 4);
    expect_refusal(outside.bytes, outside.len, NULL, RT_E_INVALID, "WebP: ");
    picture_free(&outside);
    picture_free(&still);
}

/* The file's own sizes fit each other, but the picture in it goes on. */
static void webp_that_ends_early(void **state)
{
    (void)state;
    static uint8_t noise[32 * 32 * 3];
    unsigned random = 1;
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)((random = random * 1103515245u + 12345u) >> 16);
    for (int lossless = 0; lossless < 2; lossless++) {
        uint8_t *p;
        const size_t len = lossless ? WebPEncodeLosslessRGB(noise, 32, 32, 96, &p)
                                    : WebPEncodeRGB(noise, 32, 32, 96, 80, &p);
        rt_mem_written(&p, sizeof p);
        rt_mem_written(p, len);
        const size_t left = (len - 20) / 4 * 2; /* of what stands behind the 20 bytes of headers */
        for (int i = 0; i < 4; i++) {
            p[4 + i] = (uint8_t)((left + 12) >> 8 * i);
            p[16 + i] = (uint8_t)(left >> 8 * i);
        }
        expect_refusal(p, 20 + left, NULL, RT_E_INVALID, "WebP: ");
        WebPFree(p);
    }
}

static void turns_upright(void **state)
{
    (void)state;
    /* abc    What each orientation makes of it, as in the EXIF standard's figure. */
    /* def */
    static const char *const upright[] = { "abcdef", "abcdef", "cbafed", "fedcba", "defabc",
                                           "adbecf", "daebfc", "fcebda", "cfbead" };
    for (uint8_t o = 0; o <= 8; o++) {
        const struct picture_png png = {
            .width = 3,
            .height = 2,
            .color = SPNG_COLOR_TYPE_GRAYSCALE,
            .depth = 8,
            .pixel = "abcdef",
            .len = 6,
            .orientation = o,
        };
        uint8_t spread[18];
        for (int i = 0; i < 18; i++)
            spread[i] = (uint8_t)upright[o][i / 3];
        const struct sv_decode_options to_gray = { .channels = 1 };
        const int width = o >= 5 ? 2 : 3, height = o >= 5 ? 3 : 2;
        expect_pixels(decoded(picture_png(&png), &to_gray), width, height, 1,
                      (const uint8_t *)upright[o]);
        expect_pixels(decoded(picture_png(&png), NULL), width, height, 3, spread);

        static uint8_t blank[W * H * 3];
        const struct picture_jpeg jpeg = {
            .width = W,
            .height = H,
            .channels = 3,
            .pixel = blank,
            .orientation = o,
        };
        struct sv_image image = decoded(picture_jpeg(&jpeg), NULL);
        assert_int_equal(image.width, o >= 5 ? H : W);
        sv_image_reset(&image);
    }
}

static void bounds_sizes(void **state)
{
    (void)state;
    const uint8_t *rgb = colors();
    const struct picture_jpeg jpeg = { .width = W, .height = H, .channels = 3, .pixel = rgb };
    struct picture all[] = { picture_jpeg(&jpeg), picture_png_rgb(W, H, rgb),
                             picture_webp(W, H, rgb) };
    for (size_t i = 0; i < 3; i++) {
        const struct sv_decode_options enough = { .max_pixels = W * H };
        const struct sv_decode_options less = { .max_pixels = W * H - 1 };
        rt_mem_peak_reset();
        expect_refusal(all[i].bytes, all[i].len, &less, RT_E_LIMIT, "5 x 3 pixels");
        expect_pixels(decoded(picture_png_rgb(W, H, rgb), &enough), W, H, 3, rgb);
        picture_free(&all[i]);
    }

    /* A valid header, then nothing: 900 million pixels must not be asked memory for. */
    static const uint8_t bomb[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x75\x30\0\0\x75\x30\1\0\0\0\0"
                                  "\xed\xab\x27\xbb";
    rt_mem_peak_reset();
    expect_refusal(bomb, sizeof bomb - 1, NULL, RT_E_LIMIT, "30000 x 30000");
    /* The libraries refuse this by themselves. */
    struct rt_error err;
    assert_int_equal(sv_image_check_size("PNG", 0, 7, NULL, &err), RT_E_INVALID);
    assert_string_equal(err.text, "PNG: the picture is 0 x 7 pixels: it is empty");
    assert_in_range(rt_mem_peak(), 0, 1 << 20);
}

/* Decodes the first n bytes in a block of just that size, so that sanitizers see any step past it.
 */
static enum rt_status decode_copy(const uint8_t *bytes, size_t n, struct rt_error *err)
{
    uint8_t *copy = malloc(n != 0 ? n : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, n);
    struct sv_image image;
    const enum rt_status s = sv_image_decode(copy, n, NULL, &image, err);
    if (s == RT_OK)
        sv_image_reset(&image);
    free(copy);
    return s;
}

static void survives_damage(void **state)
{
    (void)state;
    enum { SIDE = 24 };
    static uint8_t rgb[SIDE * SIDE * 3];
    for (int i = 0; i < SIDE * SIDE * 3; i++)
        rgb[i] = (uint8_t)(i * i / 7);
    struct picture_jpeg baseline = { .width = SIDE,
                                     .height = SIDE,
                                     .channels = 3,
                                     .pixel = rgb,
                                     .quality = 40,
                                     .subsampled = true,
                                     .orientation = 6 };
    struct picture_jpeg progressive = baseline;
    progressive.progressive = true;
    struct picture_png interlaced = { .width = 8,
                                      .height = 8,
                                      .color = SPNG_COLOR_TYPE_TRUECOLOR,
                                      .depth = 8,
                                      .interlaced = true,
                                      .pixel = rgb,
                                      .len = 8 * 8 * 3,
                                      .orientation = 5 };
    struct picture all[] = { picture_jpeg(&baseline), picture_jpeg(&progressive),
                             picture_png_rgb(12, 12, rgb), picture_png(&interlaced),
                             picture_webp(12, 12, rgb) };
    /* Bytes after the last pixel: JPEG's end marker, the adler and the checksum of PNG's data and
     * its last chunk, padding. Losing some of them may go unnoticed. */
    static const size_t tail[] = { 2, 2, 20, 20, 1 };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct rt_error err = { 0 };
        assert_int_equal(decode_copy(all[i].bytes, all[i].len, &err), RT_OK);
        for (size_t n = 0; n < all[i].len; n++) {
            const enum rt_status s = decode_copy(all[i].bytes, n, &err);
            if (s != RT_E_INVALID && !(s == RT_OK && n >= all[i].len - tail[i]))
                fail_msg("picture %zu cut to %zu of %zu bytes: status %d", i, n, all[i].len, s);
        }
        for (size_t n = 0; n < all[i].len; n++) {
            for (int bit = 0; bit < 8; bit += 1 + bit) {
                all[i].bytes[n] ^= (uint8_t)(1 << bit);
                decode_copy(all[i].bytes, all[i].len, &err);
                all[i].bytes[n] ^= (uint8_t)(1 << bit);
            }
        }
        picture_free(&all[i]);
    }
}

static void survives_lack_of_memory(void **state)
{
    (void)state;
    const uint8_t *rgb = colors();
    static uint8_t cmyk[W * H * 4];
    const struct picture_jpeg jpeg = {
        .width = W, .height = H, .channels = 4, .pixel = cmyk, .orientation = 6
    };
    const struct picture_png png = { .width = W,
                                     .height = H,
                                     .color = SPNG_COLOR_TYPE_TRUECOLOR,
                                     .depth = 8,
                                     .interlaced = true,
                                     .pixel = rgb,
                                     .len = W * H * 3,
                                     .orientation = 8 };
    struct picture all[] = { picture_jpeg(&jpeg), picture_png(&png), picture_webp(W, H, rgb) };
    const long live = rt_mem_live();
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        enum rt_status s = RT_E_NOMEM;
        for (long after = 0; s != RT_OK; after++) {
            struct rt_error err = { 0 };
            rt_mem_fail(after);
            s = decode_copy(all[i].bytes, all[i].len, &err);
            rt_mem_fail(-1);
            if (s != RT_OK && s != RT_E_NOMEM)
                fail_msg("picture %zu, allocation %ld: %s", i, after, err.text);
            assert_int_equal(rt_mem_live(), live);
        }
        picture_free(&all[i]);
    }
}

static int nothing_leaked(void **state)
{
    (void)state;
    return rt_mem_live() == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_formats_apart),
        cmocka_unit_test(png_colors),
        cmocka_unit_test(png_depths),
        cmocka_unit_test(jpeg_colors),
        cmocka_unit_test(jpeg_refusals),
        cmocka_unit_test(jpeg_scaled),
        cmocka_unit_test(webp),
        cmocka_unit_test(webp_that_ends_early),
        cmocka_unit_test(turns_upright),
        cmocka_unit_test(bounds_sizes),
        cmocka_unit_test(survives_damage),
        cmocka_unit_test(survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, nothing_leaked);
}
