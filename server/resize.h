/* Resizing of 8-bit pictures, bit for bit as Pillow's Image.resize() does it: two passes, across
 * then down, each antialiased (the filter widens as the picture shrinks), in 22-bit fixed point,
 * rounded to 8 bits in between. */
#ifndef SERVER_RESIZE_H
#define SERVER_RESIZE_H

#include "runtime/rt.h"

enum sv_filter { SV_FILTER_BILINEAR, SV_FILTER_BICUBIC, SV_FILTER_NEAREST };

/* The box of the source is resized to full_width x full_height, of which the window is computed:
 * the pixels are those of a whole resize followed by a crop, without the cost of the rest. */
struct sv_resize {
    const uint8_t *src; /* width * height pixels of channels (1 or 3) bytes, rows dense */
    int width, height, channels;
    double box[4]; /* left, top, right, bottom in source pixels; all zero: everything */
    int64_t full_width, full_height;
    int64_t left, top;               /* of the window in the resized picture; it lies inside */
    int window_width, window_height; /* 1 or more each */
    enum sv_filter filter;
};

/* Writes the window to dst, whose rows lie dst_stride bytes apart. dst must not overlap the
 * source. Takes one block of memory for its duration, and fails only for want of it. */
enum rt_status sv_resize(const struct sv_resize *r, uint8_t *dst, size_t dst_stride,
                         struct rt_error *err);

/* The same for rows that come one after the other, as a decoder makes them: begin, rows from the
 * top until all have come, end. r->src is not used, and the filter must not be SV_FILTER_NEAREST.
 * Begin fails only for want of memory. n rows lie dense, with `readable` bytes from the first one's
 * begin on; work is saved when these are SV_RESIZE_PAD more than the rows have. */
#define SV_RESIZE_PAD 64
struct sv_resizing;
enum rt_status sv_resize_begin(const struct sv_resize *r, uint8_t *dst, size_t dst_stride,
                               struct sv_resizing **out, struct rt_error *err);
/* The columns that rows are read at, from *left to before *right. */
void sv_resize_columns(const struct sv_resizing *z, int *left, int *right);
void sv_resize_rows(struct sv_resizing *z, const uint8_t *rows, int n, size_t readable);
void sv_resize_end(struct sv_resizing *z); /* takes NULL; also before all rows have come */

#endif
