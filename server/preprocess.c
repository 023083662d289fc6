/* Works out which pixels a model sees, and turns them into numbers through one table a channel. */
#include "server/preprocess.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DEFAULT_SIDE 224
/* From this width on a network is taken to have been trained on ImageNet. */
#define IMAGENET_SIDE 64

static bool is_picture_channels(int64_t c)
{
    return c == 1 || c == 3;
}

enum rt_status sv_preprocess_derive(const struct rt_io *input, const char *producer,
                                    struct sv_preprocess *out, struct rt_error *err)
{
    char text[RT_SHAPE_TEXT];
    const struct rt_shape *shape = &input->shape;
    rt_shape_text(shape, text);
    if (shape->rank != 3 && shape->rank != 4)
        return rt_fail(err, RT_E_UNSUPPORTED,
                       "input %s has shape %s: a picture has 3 or 4 dimensions", input->name, text);
    if (input->dtype != RT_FLOAT && input->dtype != RT_FLOAT16 && input->dtype != RT_UINT8)
        return rt_fail(err, RT_E_UNSUPPORTED,
                       "input %s is of type %s: pictures become float, float16 or uint8",
                       input->name, rt_dtype_name(input->dtype));
    const int64_t *d = shape->dim + (shape->rank - 3);
    const bool nhwc = !is_picture_channels(d[0]);
    const int64_t channels = nhwc ? d[2] : d[0];
    int64_t height = nhwc ? d[0] : d[1], width = nhwc ? d[1] : d[2];
    if (!is_picture_channels(channels))
        return rt_fail(
            err, RT_E_UNSUPPORTED,
            "input %s has shape %s: neither [N,C,H,W] nor [N,H,W,C] with 1 or 3 channels",
            input->name, text);
    if (height < 0)
        height = width < 0 ? DEFAULT_SIDE : width;
    if (width < 0)
        width = height;
    if (height < 1 || width < 1 || height > SV_PREPROCESS_MAX_SIDE ||
        width > SV_PREPROCESS_MAX_SIDE)
        return rt_fail(err, RT_E_UNSUPPORTED,
                       "input %s has shape %s: a picture's sides are 1 to %d pixels", input->name,
                       text, SV_PREPROCESS_MAX_SIDE);
    *out = (struct sv_preprocess){
        .width = (int)width,
        .height = (int)height,
        .channels = (int)channels,
        .nhwc = nhwc,
        .color = channels == 1 ? SV_GRAY : SV_RGB,
        .resize = SV_RESIZE_CROP,
        .filter = SV_FILTER_BILINEAR,
        .dtype = input->dtype,
        .scale = input->dtype == RT_UINT8 ? 1.0f : 1.0f / 255,
        .std = { 1, 1, 1, 1 },
    };
    if (input->dtype != RT_UINT8 && channels == 3 && width >= IMAGENET_SIDE && producer != NULL &&
        strncmp(producer, "pytorch", 7) == 0) {
        static const float mean[] = { 0.485f, 0.456f, 0.406f }, std[] = { 0.229f, 0.224f, 0.225f };
        memcpy(out->mean, mean, sizeof mean);
        memcpy(out->std, std, sizeof std);
    }
    return RT_OK;
}

enum rt_status sv_preprocess_check(const struct sv_preprocess *p, struct rt_error *err)
{
    if (p->width < 1 || p->width > SV_PREPROCESS_MAX_SIDE || p->height < 1 ||
        p->height > SV_PREPROCESS_MAX_SIDE)
        return rt_fail(err, RT_E_INVALID, "width and height must be 1 to %d, got %d x %d",
                       SV_PREPROCESS_MAX_SIDE, p->width, p->height);
    if (p->channels != (p->color == SV_GRAY ? 1 : 3))
        return rt_fail(err, RT_E_INVALID, "channels must be %d for this color, got %d",
                       p->color == SV_GRAY ? 1 : 3, p->channels);
    if (p->dtype != RT_FLOAT && p->dtype != RT_FLOAT16 && p->dtype != RT_UINT8)
        return rt_fail(err, RT_E_INVALID, "dtype must be float, float16 or uint8, got %s",
                       rt_dtype_name(p->dtype));
    const int longer = p->width > p->height ? p->width : p->height;
    if (p->resize == SV_RESIZE_CROP && p->resize_to != 0 &&
        (p->resize_to < longer || p->resize_to > SV_PREPROCESS_MAX_SIDE))
        return rt_fail(err, RT_E_INVALID,
                       "resize_to must be %d to %d, so that it covers %d x %d, got %d", longer,
                       SV_PREPROCESS_MAX_SIDE, p->width, p->height, p->resize_to);
    if (!isfinite(p->scale))
        return rt_fail(err, RT_E_INVALID, "scale must be finite");
    for (int c = 0; c < p->channels; c++)
        if (!isfinite(p->mean[c]) || !isfinite(p->std[c]) || p->std[c] == 0)
            return rt_fail(err, RT_E_INVALID, "mean[%d] and std[%d] must be finite, and std not 0",
                           c, c);
    if (!(p->fill >= 0 && p->fill <= 255))
        return rt_fail(err, RT_E_INVALID, "fill must be 0 to 255, got %g", (double)p->fill);
    return RT_OK;
}

size_t sv_preprocess_bytes(const struct sv_preprocess *p)
{
    return (size_t)p->width * (size_t)p->height * (size_t)p->channels * rt_dtype_size(p->dtype);
}

/* The size a whole picture is resized to, what of it the model sees, and where in the model's input
 * that goes. */
struct geometry {
    int64_t full_width, full_height;
    int64_t left, top;
    int window_width, window_height;
    int at_x, at_y;
};

/* torchvision's CenterCrop: int(round((length - wanted) / 2.0)), halves to even. */
static int64_t centre(int64_t length, int wanted)
{
    return llrint((double)(length - wanted) / 2);
}

/* torchvision's Resize(size): the short side becomes size, the long one int(size * long / short).
 * With another shape than square, and no size given, the side that has to give way is the one that
 * is too long for the shape. */
static void crop_geometry(const struct sv_preprocess *p, int64_t w, int64_t h, struct geometry *g)
{
    const int to_width = p->resize_to != 0 ? p->resize_to : p->width;
    const int to_height = p->resize_to != 0 ? p->resize_to : p->height;
    if (w * to_height >= h * to_width) {
        g->full_height = to_height;
        g->full_width = (int64_t)((double)(to_height * w) / (double)h);
    } else {
        g->full_width = to_width;
        g->full_height = (int64_t)((double)(to_width * h) / (double)w);
    }
    g->window_width = p->width;
    g->window_height = p->height;
    g->left = centre(g->full_width, p->width);
    g->top = centre(g->full_height, p->height);
}

static void fit_geometry(const struct sv_preprocess *p, int64_t w, int64_t h, struct geometry *g)
{
    const double by = fmin((double)p->width / (double)w, (double)p->height / (double)h);
    const int width = (int)rint((double)w * by), height = (int)rint((double)h * by);
    g->window_width = width < 1 ? 1 : width;
    g->window_height = height < 1 ? 1 : height;
    g->full_width = g->window_width;
    g->full_height = g->window_height;
    g->at_x = (p->width - g->window_width) / 2;
    g->at_y = (p->height - g->window_height) / 2;
}

static void find_geometry(const struct sv_preprocess *p, int64_t w, int64_t h, struct geometry *g)
{
    *g = (struct geometry){
        .full_width = p->width,
        .full_height = p->height,
        .window_width = p->width,
        .window_height = p->height,
    };
    if (p->resize == SV_RESIZE_CROP)
        crop_geometry(p, w, h, g);
    else if (p->resize == SV_RESIZE_FIT)
        fit_geometry(p, w, h, g);
}

/* What becomes of each pixel value in one channel. */
union table {
    float f32[256];
    uint16_t f16[256];
    uint8_t u8[256];
};

static double normalised(const struct sv_preprocess *p, int c, double pixel)
{
    return (pixel * (double)p->scale - (double)p->mean[c]) / (double)p->std[c];
}

static uint8_t saturated(double v)
{
    return (uint8_t)rint(fmin(fmax(v, 0), 255));
}

static void fill_table(const struct sv_preprocess *p, int c, union table *t)
{
    for (int v = 0; v < 256; v++) {
        const double x = normalised(p, c, v);
        if (p->dtype == RT_FLOAT)
            t->f32[v] = (float)x;
        else if (p->dtype == RT_FLOAT16)
            t->f16[v] = rt_double_to_half(x);
        else
            t->u8[v] = saturated(x);
    }
}

/* n pixels of one channel, steps apart, through its table. */
static void look_up(const struct sv_preprocess *p, const union table *t, const uint8_t *pixel,
                    size_t pixel_step, void *dst, size_t first, size_t dst_step, size_t n)
{
    if (p->dtype == RT_FLOAT) {
        float *to = (float *)dst + first;
        for (size_t i = 0; i < n; i++)
            to[i * dst_step] = t->f32[pixel[i * pixel_step]];
    } else if (p->dtype == RT_FLOAT16) {
        uint16_t *to = (uint16_t *)dst + first;
        for (size_t i = 0; i < n; i++)
            to[i * dst_step] = t->f16[pixel[i * pixel_step]];
    } else {
        uint8_t *to = (uint8_t *)dst + first;
        for (size_t i = 0; i < n; i++)
            to[i * dst_step] = t->u8[pixel[i * pixel_step]];
    }
}

static void fill_ground(const struct sv_preprocess *p, void *dst)
{
    const size_t area = (size_t)p->width * (size_t)p->height, channels = (size_t)p->channels;
    for (size_t c = 0; c < channels; c++) {
        const double x = normalised(p, (int)c, (double)p->fill);
        const uint16_t half = rt_double_to_half(x);
        for (size_t i = 0; i < area; i++) {
            const size_t at = p->nhwc ? i * channels + c : c * area + i;
            if (p->dtype == RT_FLOAT)
                ((float *)dst)[at] = (float)x;
            else if (p->dtype == RT_FLOAT16)
                ((uint16_t *)dst)[at] = half;
            else
                ((uint8_t *)dst)[at] = saturated(x);
        }
    }
}

static void normalise(const struct sv_preprocess *p, const struct geometry *g,
                      const uint8_t *window, void *dst)
{
    const size_t channels = (size_t)p->channels;
    const size_t area = (size_t)p->width * (size_t)p->height;
    const size_t n = (size_t)g->window_width;
    if (n != (size_t)p->width || g->window_height != p->height)
        fill_ground(p, dst);
    for (size_t c = 0; c < channels; c++) {
        union table t;
        fill_table(p, (int)c, &t);
        const size_t from = p->color == SV_BGR ? 2 - c : c;
        for (size_t y = 0; y < (size_t)g->window_height; y++) {
            const size_t at = ((size_t)g->at_y + y) * (size_t)p->width + (size_t)g->at_x;
            look_up(p, &t, window + y * n * channels + from, channels, dst,
                    p->nhwc ? at * channels + c : c * area + at, p->nhwc ? channels : 1, n);
        }
    }
}

/* From a picture's pixels, all of them or row by row, to a sample. */
struct filling {
    struct sv_row_sink sink; /* first: a sink is a filling */
    const struct sv_preprocess *p;
    struct geometry g;
    struct sv_resize r;
    uint8_t *window;
    struct sv_resizing *resizing; /* of rows that come one after the other */
};

/* What becomes of this picture, and the memory for its window. */
static enum rt_status plan(struct filling *f, const struct sv_image *image, struct rt_error *err)
{
    struct geometry *g = &f->g;
    assert(image->channels == f->p->channels);
    find_geometry(f->p, image->full_width, image->full_height, g);
    f->r = (struct sv_resize){
        .src = image->pixel,
        .width = image->width,
        .height = image->height,
        .channels = image->channels,
        .box = { image->box[0], image->box[1], image->box[2], image->box[3] },
        .full_width = g->full_width,
        .full_height = g->full_height,
        .left = g->left,
        .top = g->top,
        .window_width = g->window_width,
        .window_height = g->window_height,
        .filter = f->p->filter,
    };
    const size_t stride = (size_t)g->window_width * (size_t)f->p->channels;
    f->window = rt_alloc_array((size_t)g->window_height, stride);
    if (f->window == NULL)
        return rt_fail_nomem(err, (unsigned long long)g->window_height * stride);
    return RT_OK;
}

static size_t window_stride(const struct filling *f)
{
    return (size_t)f->r.window_width * (size_t)f->r.channels;
}

static enum rt_status begin_rows(struct sv_row_sink *sink, const struct sv_image *picture,
                                 struct rt_error *err)
{
    struct filling *f = (struct filling *)(void *)sink;
    enum rt_status s = plan(f, picture, err);
    if (s == RT_OK)
        s = sv_resize_begin(&f->r, f->window, window_stride(f), &f->resizing, err);
    if (s == RT_OK)
        sv_resize_columns(f->resizing, &sink->left, &sink->right);
    return s;
}

static void take_rows(struct sv_row_sink *sink, const uint8_t *rows, int n, size_t readable)
{
    sv_resize_rows(((struct filling *)(void *)sink)->resizing, rows, n, readable);
}

static void filling_reset(struct filling *f)
{
    sv_resize_end(f->resizing);
    rt_free(f->window);
}

enum rt_status sv_preprocess_pixels(const struct sv_preprocess *p, const struct sv_image *image,
                                    void *dst, struct rt_error *err)
{
    struct filling f = { .p = p };
    enum rt_status s = plan(&f, image, err);
    if (s == RT_OK)
        s = sv_resize(&f.r, f.window, window_stride(&f), err);
    if (s == RT_OK)
        normalise(p, &f.g, f.window, dst);
    filling_reset(&f);
    return s;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Twice the size that the picture is resized to, so that little is lost. The short side is what
 * counts when the shape is kept: asking it of both sides asks no more of the long one. */
static void ask_for_less(const struct sv_preprocess *p, struct sv_decode_options *o)
{
    o->min_width = 2 * p->width;
    o->min_height = 2 * p->height;
    if (p->resize != SV_RESIZE_CROP)
        return;
    if (p->resize_to != 0)
        o->min_width = o->min_height = 2 * p->resize_to;
}

enum rt_status sv_preprocess_run(const struct sv_preprocess *p, const void *bytes, size_t len,
                                 void *dst, struct sv_preprocess_times *times, struct rt_error *err)
{
    struct sv_decode_options o = { .channels = p->channels, .max_pixels = p->max_pixels };
    if (p->scaled_decode && p->filter != SV_FILTER_NEAREST)
        ask_for_less(p, &o);
    struct filling f = { .sink = { .begin = begin_rows, .rows = take_rows }, .p = p };
    if (p->filter != SV_FILTER_NEAREST)
        o.sink = &f.sink;
    const double start = seconds();
    struct sv_image image = { 0 };
    enum rt_status s = sv_image_decode(bytes, len, &o, &image, err);
    const double decoded = seconds();
    if (s == RT_OK && image.pixel == NULL)
        normalise(p, &f.g, f.window, dst);
    else if (s == RT_OK)
        s = sv_preprocess_pixels(p, &image, dst, err);
    filling_reset(&f);
    sv_image_reset(&image);
    if (s == RT_OK && times != NULL)
        *times = (struct sv_preprocess_times){ decoded - start, seconds() - decoded };
    return s;
}

/* Three values at %g's width, brackets and commas. */
#define VALUES_TEXT 64

/* "0.5" when all channels have it, else "[0.485,0.456,0.406]". */
static void values_text(const float *v, int n, char text[VALUES_TEXT])
{
    if (n == 1 || (v[0] == v[1] && v[1] == v[2]))
        snprintf(text, VALUES_TEXT, "%g", (double)v[0]);
    else
        snprintf(text, VALUES_TEXT, "[%g,%g,%g]", (double)v[0], (double)v[1], (double)v[2]);
}

const char *sv_preprocess_describe(const struct sv_preprocess *p, char buf[SV_PREPROCESS_TEXT])
{
    static const char *const color[] = { [SV_RGB] = "RGB", [SV_BGR] = "BGR", [SV_GRAY] = "grey" };
    static const char *const filter[] = {
        [SV_FILTER_BILINEAR] = "bilinear",
        [SV_FILTER_BICUBIC] = "bicubic",
        [SV_FILTER_NEAREST] = "nearest",
    };
    char how[64];
    if (p->resize == SV_RESIZE_STRETCH)
        snprintf(how, sizeof how, "stretched");
    else if (p->resize == SV_RESIZE_FIT)
        snprintf(how, sizeof how, "fitted on a ground of %g", (double)p->fill);
    else if (p->resize_to != 0)
        snprintf(how, sizeof how, "short side to %d and centre crop", p->resize_to);
    else
        snprintf(how, sizeof how, "resized to cover and centre crop");

    char mean[VALUES_TEXT], std[VALUES_TEXT];
    values_text(p->mean, p->channels, mean);
    values_text(p->std, p->channels, std);
    const int used = snprintf(buf, SV_PREPROCESS_TEXT, "%dx%d %s %s %s, %s (%s), ", p->width,
                              p->height, color[p->color], rt_dtype_name(p->dtype),
                              p->nhwc ? "NHWC" : "NCHW", how, filter[p->filter]);
    const size_t room = SV_PREPROCESS_TEXT - (size_t)used;
    if (p->scale == 1 && strcmp(mean, "0") == 0 && strcmp(std, "1") == 0)
        snprintf(buf + used, room, "pixels as they are");
    else
        snprintf(buf + used, room, "(pixel * %g - %s) / %s", (double)p->scale, mean, std);
    return buf;
}
