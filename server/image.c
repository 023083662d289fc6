/* Tells formats apart, bounds sizes, turns pictures upright and makes them grey. */
#include "server/image.h"

#include "server/image_codec.h"

#include <string.h>

/* What JPEG can hold, and more than WebP can: keeps single rows within reason too. */
#define MAX_SIDE 65535

/* A format known by its first bytes. A question mark in the pattern stands for any byte. */
struct signature {
    const char *name;
    size_t len;
    const char *pattern;
    sv_decode_fn *decode; /* NULL: recognised to be named in the refusal */
};

#define SIGNATURE(name, pattern, decode)                                                           \
    {                                                                                              \
        name, sizeof(pattern) - 1, pattern, decode                                                 \
    }

static const struct signature signatures[] = {
    SIGNATURE("JPEG", "\xff\xd8\xff", sv_decode_jpeg),
    SIGNATURE("PNG", "\x89PNG\r\n\x1a\n", sv_decode_png),
    SIGNATURE("WebP", "RIFF????WEBP", sv_decode_webp),
    SIGNATURE("a GIF", "GIF8", NULL),
    SIGNATURE("a BMP", "BM", NULL),
    SIGNATURE("a TIFF", "II*\0", NULL),
    SIGNATURE("a TIFF", "MM\0*", NULL),
    SIGNATURE("a HEIC, AVIF or video file", "????ftyp", NULL),
    SIGNATURE("a JPEG 2000", "\0\0\0\x0cjP  ", NULL),
    SIGNATURE("a JPEG 2000", "\xff\x4f\xff\x51", NULL),
    SIGNATURE("a JPEG XL", "\0\0\0\x0cJXL ", NULL),
    SIGNATURE("a JPEG XL", "\xff\x0a", NULL),
    SIGNATURE("a PBM, PGM or PPM", "P1", NULL),
    SIGNATURE("a PBM, PGM or PPM", "P2", NULL),
    SIGNATURE("a PBM, PGM or PPM", "P3", NULL),
    SIGNATURE("a PBM, PGM or PPM", "P4", NULL),
    SIGNATURE("a PBM, PGM or PPM", "P5", NULL),
    SIGNATURE("a PBM, PGM or PPM", "P6", NULL),
    SIGNATURE("an ICO", "\0\0\1\0", NULL),
    SIGNATURE("a Photoshop file", "8BPS", NULL),
    SIGNATURE("a PDF", "%PDF-", NULL),
    SIGNATURE("a NumPy array", "\x93NUMPY", NULL),
    SIGNATURE("gzip", "\x1f\x8b", NULL),
    SIGNATURE("a ZIP archive", "PK\3\4", NULL),
};

static const struct signature *recognise(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++) {
        const struct signature *s = &signatures[i];
        size_t k = 0;
        while (k < s->len && k < len && (s->pattern[k] == '?' || s->pattern[k] == (char)bytes[k]))
            k++;
        if (k == s->len)
            return s;
    }
    return NULL;
}

bool sv_image_recognised(const void *bytes, size_t len)
{
    const struct signature *s = recognise(bytes, len);
    return s != NULL && s->decode != NULL;
}

static bool starts_with(const uint8_t *bytes, size_t len, const char *text)
{
    const size_t n = strlen(text);
    return len >= n && memcmp(bytes, text, n) == 0;
}

static enum rt_status refuse_unknown(const uint8_t *bytes, size_t len, struct rt_error *err)
{
    static const char wanted[] = "a JPEG, PNG or WebP picture was expected";
    if (len == 0)
        return rt_fail(err, RT_E_INVALID, "%s, but there are no bytes", wanted);
    if (starts_with(bytes, len, "/9j/") || starts_with(bytes, len, "iVBOR") ||
        starts_with(bytes, len, "UklGR") || starts_with(bytes, len, "data:image/"))
        return rt_fail(err, RT_E_INVALID,
                       "%s, but this is one in base64: send the bytes themselves", wanted);
    size_t text = 0;
    while (text < len && text < 64 &&
           ((bytes[text] >= 0x20 && bytes[text] < 0x7f) || (bytes[text] >= 9 && bytes[text] <= 13)))
        text++;
    if (text == len || text == 64)
        return rt_fail(err, RT_E_INVALID, "%s, but this looks like text", wanted);
    char hex[3 * 8 + 1] = "";
    for (size_t i = 0; i < len && i < 8; i++) {
        static const char digit[] = "0123456789abcdef";
        hex[3 * i] = ' ';
        hex[3 * i + 1] = digit[bytes[i] >> 4];
        hex[3 * i + 2] = digit[bytes[i] & 15];
        hex[3 * i + 3] = '\0';
    }
    return rt_fail(err, RT_E_INVALID, "%s, but the first bytes are%s", wanted, hex);
}

enum rt_status sv_image_check_size(const char *format, uint64_t width, uint64_t height,
                                   const struct sv_decode_options *opt, struct rt_error *err)
{
    if (width == 0 || height == 0)
        return rt_fail(err, RT_E_INVALID, "%s: the picture is %llu x %llu pixels: it is empty",
                       format, (unsigned long long)width, (unsigned long long)height);
    if (width > MAX_SIDE || height > MAX_SIDE)
        return rt_fail(err, RT_E_LIMIT,
                       "%s: the picture is %llu x %llu pixels: a side may have %d at most", format,
                       (unsigned long long)width, (unsigned long long)height, MAX_SIDE);
    if (width * height > opt->max_pixels)
        return rt_fail(err, RT_E_LIMIT,
                       "%s: the picture is %llu x %llu pixels: more than the limit of %zu", format,
                       (unsigned long long)width, (unsigned long long)height, opt->max_pixels);
    return RT_OK;
}

enum rt_status sv_image_create(struct sv_image *out, int width, int height, int channels,
                               struct rt_error *err)
{
    const size_t len = (size_t)width * (size_t)height * (size_t)channels;
    uint8_t *pixel = rt_alloc(len);
    if (pixel == NULL)
        return rt_fail_nomem(err, len);
    *out = (struct sv_image){
        .width = width,
        .height = height,
        .channels = channels,
        .full_width = width,
        .full_height = height,
        .box = { 0, 0, width, height },
        .pixel = pixel,
    };
    return RT_OK;
}

void sv_image_reset(struct sv_image *image)
{
    rt_free(image->pixel);
    *image = (struct sv_image){ 0 };
}

/* Pillow's L24: 0.299, 0.587 and 0.114 in 16-bit fixed point. In place, since what is written
 * never passes what is read. */
static void make_gray(struct sv_image *image)
{
    const size_t n = (size_t)image->width * (size_t)image->height;
    uint8_t *p = image->pixel;
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)((p[3 * i] * 19595u + p[3 * i + 1] * 38470u + p[3 * i + 2] * 7471u +
                          0x8000u) >>
                         16);
    image->channels = 1;
}

/* Small enough that a tile of source and destination stay in the first cache however far apart
 * their rows lie. */
#define TILE 32

/* Copies n_rows x n_columns pixels; a step is the distance, in pixels, from one destination pixel's
 * source to the next's. */
static void copy_turned(uint8_t *dst, const uint8_t *src, int n_rows, int n_columns, int channels,
                        ptrdiff_t row_step, ptrdiff_t column_step)
{
    for (int y0 = 0; y0 < n_rows; y0 += TILE) {
        const int y1 = n_rows - y0 < TILE ? n_rows : y0 + TILE;
        for (int x0 = 0; x0 < n_columns; x0 += TILE) {
            const int x1 = n_columns - x0 < TILE ? n_columns : x0 + TILE;
            for (int y = y0; y < y1; y++) {
                const uint8_t *s = src + (y * row_step + x0 * column_step) * channels;
                uint8_t *d = dst + ((ptrdiff_t)y * n_columns + x0) * channels;
                for (int x = x0; x < x1; x++, s += column_step * channels, d += channels) {
                    d[0] = s[0];
                    if (channels == 3) {
                        d[1] = s[1];
                        d[2] = s[2];
                    }
                }
            }
        }
    }
}

/* Orientations 5..8 swap the sides; which corner of the file is the upright picture's first, and
 * which way its rows and columns run, is all that the number says. */
static enum rt_status turn_upright(struct sv_image *image, int orientation, struct rt_error *err)
{
    if (orientation == 1)
        return RT_OK;
    const bool swap = orientation >= 5;
    const bool from_right =
        orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    const bool from_bottom =
        orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    const int w = image->width, h = image->height;
    struct sv_image upright = { 0 };
    enum rt_status s = sv_image_create(&upright, swap ? h : w, swap ? w : h, image->channels, err);
    if (s != RT_OK)
        return s;
    const ptrdiff_t along_x = from_right ? -1 : 1;
    const ptrdiff_t along_y = from_bottom ? -(ptrdiff_t)w : w;
    const ptrdiff_t first = (from_bottom ? (ptrdiff_t)(h - 1) * w : 0) + (from_right ? w - 1 : 0);
    copy_turned(upright.pixel, image->pixel + first * image->channels, upright.height,
                upright.width, image->channels, swap ? along_x : along_y, swap ? along_y : along_x);
    upright.full_width = swap ? image->full_height : image->full_width;
    upright.full_height = swap ? image->full_width : image->full_height;
    const double *box = image->box;
    const double across[] = { from_right ? w - box[2] : box[0], from_right ? w - box[0] : box[2] };
    const double down[] = { from_bottom ? h - box[3] : box[1], from_bottom ? h - box[1] : box[3] };
    for (int i = 0; i < 2; i++) {
        upright.box[2 * i] = swap ? down[i] : across[i];
        upright.box[2 * i + 1] = swap ? across[i] : down[i];
    }
    upright.format = image->format;
    rt_free(image->pixel);
    *image = upright;
    return RT_OK;
}

enum rt_status sv_image_decode(const void *bytes, size_t len, const struct sv_decode_options *opt,
                               struct sv_image *out, struct rt_error *err)
{
    struct sv_decode_options o = opt != NULL ? *opt : (struct sv_decode_options){ 0 };
    if (o.channels == 0)
        o.channels = 3;
    if (o.max_pixels == 0)
        o.max_pixels = SV_IMAGE_MAX_PIXELS;
    if (o.max_scans == 0)
        o.max_scans = SV_IMAGE_MAX_SCANS;

    const struct signature *format = recognise(bytes, len);
    if (format == NULL)
        return refuse_unknown(bytes, len, err);
    if (format->decode == NULL)
        return rt_fail(err, RT_E_UNSUPPORTED,
                       "a JPEG, PNG or WebP picture was expected, but this is %s", format->name);
    struct sv_image image = { 0 };
    int orientation = 1;
    enum rt_status s = format->decode(bytes, len, &o, &image, &orientation, err);
    if (s != RT_OK)
        return s;
    if (image.pixel == NULL) {
        *out = image;
        return RT_OK;
    }
    if (image.channels > o.channels)
        make_gray(&image);
    s = turn_upright(&image, orientation, err);
    if (s != RT_OK)
        sv_image_reset(&image);
    else
        *out = image;
    return s;
}
