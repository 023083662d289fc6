/* What image.c asks of the three decoders, and what it lends them. Inside server/image*.c only. */
#ifndef SERVER_IMAGE_CODEC_H
#define SERVER_IMAGE_CODEC_H

#include "server/image.h"

/* Decodes bytes[0..len), which start with the format's signature. opt has no zero left but in
 * min_width and min_height. On RT_OK *out holds pixels as they lie in the file, RGB, or grey where
 * the file is grey and opt->channels is 1, and *orientation how EXIF says to turn them (1..8). On
 * failure nothing is owned. */
typedef enum rt_status sv_decode_fn(const uint8_t *bytes, size_t len,
                                    const struct sv_decode_options *opt, struct sv_image *out,
                                    int *orientation, struct rt_error *err);
sv_decode_fn sv_decode_jpeg;
sv_decode_fn sv_decode_png;
sv_decode_fn sv_decode_webp;

/* RT_E_LIMIT when a picture of this size may not be decoded, RT_E_INVALID when a side is 0. format
 * is for the sentence. */
enum rt_status sv_image_check_size(const char *format, uint64_t width, uint64_t height,
                                   const struct sv_decode_options *opt, struct rt_error *err);
/* Makes *out a picture of this size, full size the same, pixels not cleared. The caller sets
 * format. */
enum rt_status sv_image_create(struct sv_image *out, int width, int height, int channels,
                               struct rt_error *err);

#endif
