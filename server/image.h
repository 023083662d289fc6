/* Pictures: encoded JPEG, PNG and WebP bytes to upright 8-bit pixels. What the file says is never
 * trusted: sizes are bounded before anything is allocated, and damage is an error, not a guess.
 *
 * Pixels are those that Pillow gives for Image.open(f) -> ImageOps.exif_transpose -> convert("RGB")
 * or convert("L"), so that what a model scored there it scores here:
 *   - alpha is dropped and the colour under it kept;
 *   - grey is ITU-R 601 luma of the RGB values in Pillow's integer arithmetic;
 *   - CMYK is taken as inverted, as Adobe writes it; colour profiles and gamma are ignored;
 *   - of an animation the first frame is shown.
 * The one exception is 16-bit PNG, where value / 257 rounded takes the place of Pillow's cut to the
 * upper byte (RGB) or saturation (grey). */
#ifndef SERVER_IMAGE_H
#define SERVER_IMAGE_H

#include "runtime/rt.h"

/* Bounds that hold when the options say 0. */
#define SV_IMAGE_MAX_PIXELS ((size_t)64 * 1024 * 1024)
#define SV_IMAGE_MAX_SCANS 100

enum sv_image_format { SV_IMAGE_JPEG, SV_IMAGE_PNG, SV_IMAGE_WEBP };

struct sv_image;

/* Takes a picture's rows as they are decoded, so that all of them need not be in memory. */
struct sv_row_sink {
    /* What the picture is; its pixel is NULL. Sets left and right. */
    enum rt_status (*begin)(struct sv_row_sink *sink, const struct sv_image *picture,
                            struct rt_error *err);
    int left, right; /* columns from left to before right are looked at; others hold anything */
    /* The next n rows, dense; `readable` bytes may be read from rows on. */
    void (*rows)(struct sv_row_sink *sink, const uint8_t *rows, int n, size_t readable);
};

/* All zero: RGB, default bounds, exact. */
struct sv_decode_options {
    int channels;      /* 1 (grey) or 3 (RGB); 0: 3 */
    size_t max_pixels; /* width * height that a file may declare; 0: SV_IMAGE_MAX_PIXELS */
    int max_scans;     /* scans of a progressive JPEG; 0: SV_IMAGE_MAX_SCANS */
    /* When both are above 0, a JPEG may come out at 1/2, 1/4 or 1/8 of its size as long as the
     * upright picture stays at least this wide and high. That saves most of the decoding time of
     * a large photo; the result is close to, not the same as, that of decoding it whole. When the
     * picture is shrunk further to half this size, photos differ by 0.3 to 1.6 levels of 255 on
     * average; at a third, by less than 0.6. */
    int min_width, min_height;
    /* NULL, or what gets the rows of a picture that comes out of the decoder as it is wanted:
     * upright, with these channels. It then has no pixels in the end. */
    struct sv_row_sink *sink;
};

/* width * height pixels of channels bytes, rows dense and from the top. */
struct sv_image {
    int width, height, channels;
    int full_width, full_height; /* upright size in the file: larger than the above if scaled */
    /* Left, top, right and bottom of the picture in these pixels. When scaled, a pixel at the
     * border can lie partly outside; else 0, 0, width, height. */
    double box[4];
    enum sv_image_format format;
    uint8_t *pixel; /* owned; NULL when empty, or when a sink has had the rows */
};

/* Decodes bytes[0..len), whose format is told from its first bytes. opt may be NULL. *out need not
 * be initialised, is written on RT_OK only and is then ended by sv_image_reset(). RT_E_UNSUPPORTED:
 * another format, or a variant that is not decoded; RT_E_INVALID: damaged or no picture at all;
 * RT_E_LIMIT: over a bound. Any number of threads. */
enum rt_status sv_image_decode(const void *bytes, size_t len, const struct sv_decode_options *opt,
                               struct sv_image *out, struct rt_error *err);
/* Frees the pixels and empties *image; an empty one is left as it is. */
void sv_image_reset(struct sv_image *image);

/* Whether the first bytes are those of a format that sv_image_decode() takes. */
bool sv_image_recognised(const void *bytes, size_t len);

#endif
