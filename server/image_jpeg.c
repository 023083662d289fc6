/* JPEG through libjpeg-turbo: its errors become statuses, it prints nothing and ends nothing. */
#include "server/exif.h"
#include "server/image_codec.h"
#include "server/resize.h"

#include <setjmp.h>
#include <stdio.h>

#include <jerror.h>
#include <jpeglib.h>

/* Everything that must outlive a longjmp. */
struct decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    enum rt_status status;
    struct rt_error *err;
    size_t len;
    int max_scans;
    struct sv_image image;
    uint8_t *row; /* of a CMYK picture; or STRIP rows for a sink */
};

static struct decoder *decoder_of(j_common_ptr jpeg)
{
    return jpeg->client_data;
}

static _Noreturn void fail(struct decoder *d, enum rt_status status)
{
    d->status = status;
    longjmp(d->failed, 1);
}

static _Noreturn void on_error(j_common_ptr jpeg)
{
    struct decoder *d = decoder_of(jpeg);
    char text[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, text);
    switch (jpeg->err->msg_code) {
    case JERR_OUT_OF_MEMORY:
        fail(d, rt_fail(d->err, RT_E_NOMEM, "JPEG: out of memory"));
    case JERR_BAD_PRECISION:
        fail(d,
             rt_fail(d->err, RT_E_UNSUPPORTED, "JPEG: has %d bits a sample; only 8 are supported",
                     jpeg->err->msg_parm.i[0]));
    case JERR_IMAGE_TOO_BIG:
        fail(d, rt_fail(d->err, RT_E_LIMIT, "JPEG: %s", text));
    case JERR_SOF_UNSUPPORTED:
    case JERR_ARITH_NOTIMPL:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_COMPONENT_COUNT:
        fail(d, rt_fail(d->err, RT_E_UNSUPPORTED, "JPEG: %s", text));
    default:
        fail(d, rt_fail(d->err, RT_E_INVALID, "JPEG: %s", text));
    }
}

/* Warnings are damage that the decoder can draw over; like Pillow, so do we. */
static void on_message(j_common_ptr jpeg, int level)
{
    (void)jpeg;
    (void)level;
}

static void print_nothing(j_common_ptr jpeg)
{
    (void)jpeg;
}

static void source_init(j_decompress_ptr jpeg)
{
    (void)jpeg;
}

/* All bytes were there from the start, so wanting more means that the file was cut. */
static _Noreturn void ends_early(struct decoder *d)
{
    fail(d, rt_fail(d->err, RT_E_INVALID, "JPEG: the file is cut off after %zu bytes", d->len));
}

static boolean source_fill(j_decompress_ptr jpeg)
{
    ends_early(decoder_of((j_common_ptr)jpeg));
}

static void source_skip(j_decompress_ptr jpeg, long n)
{
    if (n <= 0)
        return;
    if ((size_t)n > jpeg->src->bytes_in_buffer)
        ends_early(decoder_of((j_common_ptr)jpeg));
    jpeg->src->next_input_byte += n;
    jpeg->src->bytes_in_buffer -= (size_t)n;
}

/* A progressive file of a few kilobytes can ask for a thousand passes over the whole picture. */
static void on_progress(j_common_ptr common)
{
    struct decoder *d = decoder_of(common);
    if (d->jpeg.input_scan_number > d->max_scans)
        fail(d, rt_fail(d->err, RT_E_LIMIT, "JPEG: more than %d scans", d->max_scans));
}

/* The strongest of 1/2, 1/4 and 1/8 that leaves width x height pixels or more. */
static unsigned int denominator(unsigned int width, unsigned int height, int min_width,
                                int min_height)
{
    if (min_width <= 0 || min_height <= 0)
        return 1;
    unsigned int by = 8;
    while (by > 1 &&
           (width / by < (unsigned int)min_width || height / by < (unsigned int)min_height))
        by /= 2;
    return by;
}

/* Pillow's arithmetic, on inverted values as Adobe stores them. */
static void cmyk_to_rgb(uint8_t *rgb, const uint8_t *cmyk, int width)
{
    for (int x = 0; x < width; x++, rgb += 3, cmyk += 4) {
        const int k = cmyk[3];
        for (int c = 0; c < 3; c++) {
            const int ink = (255 - cmyk[c]) * k + 128;
            const int v = k - ((ink >> 8) + ink) / 256;
            rgb[c] = (uint8_t)(v < 0 ? 0 : v);
        }
    }
}

static void start(struct decoder *d, const uint8_t *bytes, size_t len)
{
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    jpeg->err = jpeg_std_error(&d->errors);
    d->errors.error_exit = on_error;
    d->errors.emit_message = on_message;
    d->errors.output_message = print_nothing;
    jpeg->client_data = d;
    d->len = len;
    d->source = (struct jpeg_source_mgr){
        .next_input_byte = bytes,
        .bytes_in_buffer = len,
        .init_source = source_init,
        .fill_input_buffer = source_fill,
        .skip_input_data = source_skip,
        .resync_to_restart = jpeg_resync_to_restart,
        .term_source = source_init,
    };
    d->progress.progress_monitor = on_progress;
}

/* Rows that a sink gets at once: as many as libjpeg decodes in one go, mostly. They stay in the
 * first caches. */
#define STRIP 16
/* Rows that are aligned for vectors libjpeg-turbo writes past the caches, from where reading them
 * again would take longer than all of the resize. */
#define ASKEW 8

/* Columns on either side of those that are wanted, as upsampling looks at its neighbours. */
#define BESIDE 4

/* Leaves out what lies beside the columns that are wanted, but for reading past it; says where rows
 * begin. Several scans are smoothed across blocks, and scaled ones are small already. */
static int narrow(struct jpeg_decompress_struct *jpeg, int left, int right)
{
    if (jpeg_has_multiple_scans(jpeg) || jpeg->scale_denom != 1)
        return 0;
    const int width = (int)jpeg->output_width;
    left = left > BESIDE ? left - BESIDE : 0;
    right = right < width - BESIDE ? right + BESIDE : width;
    if (right - left > width - width / 8)
        return 0;
    JDIMENSION from = (JDIMENSION)left, n = (JDIMENSION)(right - left);
    jpeg_crop_scanline(jpeg, &from, &n);
    return (int)from;
}

static enum rt_status decode_to_sink(struct decoder *d, struct sv_row_sink *sink)
{
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    const size_t channels = (size_t)d->image.channels, stride = (size_t)d->image.width * channels;
    const size_t len = STRIP * stride + SV_RESIZE_PAD;
    d->row = rt_zalloc(ASKEW + len);
    if (d->row == NULL)
        return rt_fail_nomem(d->err, ASKEW + len);
    uint8_t *strip = d->row + ASKEW;
    enum rt_status s = sink->begin(sink, &d->image, d->err);
    if (s != RT_OK)
        return s;
    jpeg_start_decompress(jpeg);
    const size_t skip = (size_t)narrow(jpeg, sink->left, sink->right) * channels;
    while (jpeg->output_scanline < jpeg->output_height) {
        int n = 0;
        while (n < STRIP && jpeg->output_scanline < jpeg->output_height) {
            uint8_t *row = strip + (size_t)n * stride + skip;
            n += (int)jpeg_read_scanlines(jpeg, &row, 1);
        }
        rt_mem_written(strip, (size_t)n * stride);
        sink->rows(sink, strip, n, len);
    }
    return RT_OK;
}

/* Whatever it makes is in *d, so that nothing is lost when libjpeg jumps out of it. */
static enum rt_status decode(struct decoder *d, const struct sv_decode_options *opt,
                             int orientation)
{
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    jpeg_create_decompress(jpeg);
    jpeg->src = &d->source;
    jpeg->progress = &d->progress;
    jpeg_read_header(jpeg, TRUE);
    enum rt_status s =
        sv_image_check_size("JPEG", jpeg->image_width, jpeg->image_height, opt, d->err);
    if (s != RT_OK)
        return s;
    const int components = jpeg->num_components;
    if (components != 1 && components != 3 && components != 4)
        return rt_fail(d->err, RT_E_UNSUPPORTED,
                       "JPEG: has %d components, not 1 (grey), 3 (colour) or 4 (CMYK)", components);
    const int channels = components == 1 && opt->channels == 1 ? 1 : 3;
    jpeg->out_color_space = components == 4 ? JCS_CMYK : channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    const bool swap = orientation >= 5;
    jpeg->scale_num = 1;
    jpeg->scale_denom =
        denominator(jpeg->image_width, jpeg->image_height, swap ? opt->min_height : opt->min_width,
                    swap ? opt->min_width : opt->min_height);
    jpeg_calc_output_dimensions(jpeg);
    const bool to_sink =
        opt->sink != NULL && orientation == 1 && components != 4 && channels == opt->channels;
    if (to_sink)
        d->image = (struct sv_image){
            .width = (int)jpeg->output_width,
            .height = (int)jpeg->output_height,
            .channels = channels,
        };
    else
        s = sv_image_create(&d->image, (int)jpeg->output_width, (int)jpeg->output_height, channels,
                            d->err);
    if (s != RT_OK)
        return s;
    d->image.full_width = (int)jpeg->image_width;
    d->image.full_height = (int)jpeg->image_height;
    d->image.box[2] = (double)jpeg->image_width / jpeg->scale_denom;
    d->image.box[3] = (double)jpeg->image_height / jpeg->scale_denom;
    if (to_sink)
        return decode_to_sink(d, opt->sink);
    if (components == 4) {
        d->row = rt_alloc_array(jpeg->output_width, 4);
        if (d->row == NULL)
            return rt_fail_nomem(d->err, (unsigned long long)jpeg->output_width * 4);
    }
    jpeg_start_decompress(jpeg);
    const size_t stride = (size_t)d->image.width * (size_t)channels;
    while (jpeg->output_scanline < jpeg->output_height) {
        uint8_t *to = d->image.pixel + jpeg->output_scanline * stride;
        uint8_t *row = d->row != NULL ? d->row : to;
        jpeg_read_scanlines(jpeg, &row, 1);
        rt_mem_written(row, d->row != NULL ? (size_t)jpeg->output_width * 4 : stride);
        if (d->row != NULL)
            cmyk_to_rgb(to, d->row, d->image.width);
    }
    return RT_OK;
}

/* The setjmp stands in a function of its own because locals beside it would lose their values. */
static enum rt_status decode_guarded(struct decoder *d, const struct sv_decode_options *opt,
                                     int orientation)
{
    if (setjmp(d->failed) == 0)
        d->status = decode(d, opt, orientation);
    return d->status;
}

enum rt_status sv_decode_jpeg(const uint8_t *bytes, size_t len, const struct sv_decode_options *opt,
                              struct sv_image *out, int *orientation, struct rt_error *err)
{
    struct decoder d = { .err = err, .max_scans = opt->max_scans };
    *orientation = sv_exif_orientation_jpeg(bytes, len);
    start(&d, bytes, len);
    const enum rt_status s = decode_guarded(&d, opt, *orientation);
    jpeg_destroy_decompress(&d.jpeg);
    rt_free(d.row);
    if (s != RT_OK) {
        rt_free(d.image.pixel);
        return s;
    }
    d.image.format = SV_IMAGE_JPEG;
    *out = d.image;
    return RT_OK;
}
