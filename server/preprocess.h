/* From a picture's bytes to the tensor that a model wants: decode, turn upright, resize, crop,
 * normalise. Values only: nothing here owns memory, and every function may be called by any number
 * of threads. */
#ifndef SERVER_PREPROCESS_H
#define SERVER_PREPROCESS_H

#include "runtime/rt.h"
#include "server/image.h"
#include "server/resize.h"

/* Order of the channels in the tensor. */
enum sv_color { SV_RGB, SV_BGR, SV_GRAY };

/* How a picture of any shape fills width x height. */
enum sv_resize_mode {
    SV_RESIZE_CROP,    /* keep its shape, resize the short side, cut out the centre (torchvision's
                        * Resize(resize_to), CenterCrop) */
    SV_RESIZE_STRETCH, /* change its shape */
    SV_RESIZE_FIT,     /* keep its shape, all of it visible, centred on a ground of fill */
};

/* Largest width and height. */
#define SV_PREPROCESS_MAX_SIDE 16384

/* One sample is [channels,height,width], or [height,width,channels] if nhwc. Element of channel c:
 * (pixel * scale - mean[c]) / std[c] with pixel in 0..255 and c counted in the tensor's order (for
 * BGR mean[0] is blue's). Integer types round to nearest and saturate. */
struct sv_preprocess {
    int width, height;
    int channels; /* 1 for SV_GRAY, else 3 */
    bool nhwc;
    enum sv_color color;
    enum sv_resize_mode resize;
    int resize_to; /* SV_RESIZE_CROP: short side in pixels; 0: as small as covers width x height */
    enum sv_filter filter;
    enum rt_dtype dtype; /* RT_FLOAT, RT_FLOAT16 or RT_UINT8 */
    float scale, mean[4], std[4];
    float fill;         /* SV_RESIZE_FIT: the ground's pixel value, 0..255 */
    bool scaled_decode; /* large JPEGs may be decoded at a fraction of their size; see image.h */
    size_t max_pixels;  /* 0: SV_IMAGE_MAX_PIXELS */
};

/* What an input most likely wants, for a model that comes without a word on it:
 *   - [N,C,H,W], [N,H,W,C] or the same without N, where C is 1 (grey) or 3 (RGB), first form first;
 *     a free H or W is the other one, or 224 when both are free;
 *   - CROP to just cover the size, bilinear;
 *   - float and float16: 0..1, and if producer (may be NULL) starts with "pytorch", C is 3 and W is
 *     64 or more, ImageNet's mean and deviation taken off; uint8: the pixels as they are.
 * RT_E_UNSUPPORTED: the input does not look like a picture; the sentence says why. */
enum rt_status sv_preprocess_derive(const struct rt_io *input, const char *producer,
                                    struct sv_preprocess *out, struct rt_error *err);

/* Whether the fields make sense together; RT_E_INVALID names the one that does not. Those of
 * sv_preprocess_derive() always do; ask before using others. */
enum rt_status sv_preprocess_check(const struct sv_preprocess *p, struct rt_error *err);

/* Bytes of one sample. */
size_t sv_preprocess_bytes(const struct sv_preprocess *p);

/* Seconds spent. */
struct sv_preprocess_times {
    double decode; /* bytes to upright pixels; with the resize where that is done row by row */
    double resize; /* resizing, cropping and normalising */
};

/* Fills dst, sv_preprocess_bytes() long and aligned for its type, from one encoded picture. times
 * may be NULL and is written on RT_OK. Errors are those of sv_image_decode(); dst then holds
 * nothing of use. */
enum rt_status sv_preprocess_run(const struct sv_preprocess *p, const void *bytes, size_t len,
                                 void *dst, struct sv_preprocess_times *times,
                                 struct rt_error *err);
/* The same from pixels, whose channels are the sample's. */
enum rt_status sv_preprocess_pixels(const struct sv_preprocess *p, const struct sv_image *image,
                                    void *dst, struct rt_error *err);

/* One line, as "224x224 RGB float NCHW, short side to 256 and centre crop (bilinear), (pixel *
 * 0.00392157 - [0.485,0.456,0.406]) / [0.229,0.224,0.225]". Returns buf. */
#define SV_PREPROCESS_TEXT 320
const char *sv_preprocess_describe(const struct sv_preprocess *p, char buf[SV_PREPROCESS_TEXT]);

#endif
