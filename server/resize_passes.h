/* The two passes of a resize over taps that are known: across a source row, and down columns of the
 * rows in between. All levels of instructions give the same bits, as the sums are whole numbers. */
#ifndef SERVER_RESIZE_PASSES_H
#define SERVER_RESIZE_PASSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/resize.h"

/* A tap's coefficient has so many fractional bits, as in Pillow, and is kept as two 16-bit halves:
 * coefficient = high * 4096 + low. */
#define SV_TAP_BITS 22
#define SV_TAP_LOW_BITS 12
/* Taps are padded with zeros to a multiple of this. */
#define SV_TAP_PAD 8
/* Bytes that a pass may read behind a row's end; across() may write as many. */
#define SV_ROW_PAD SV_RESIZE_PAD
#define SV_LANES_MAX 4

/* Which source pixels make which of n pixels. */
struct sv_taps {
    int n;
    int room;                  /* of taps a pixel, a multiple of SV_TAP_PAD */
    const int *first;          /* [n] first source pixel */
    const int *count;          /* [n] taps in use */
    const int16_t *low, *high; /* [n * room] */
    const void *prepared;      /* what prepare() made of them; NULL: nothing */
};

struct sv_passes {
    int lanes; /* rows that across() works on at once, at most SV_LANES_MAX */
    /* Rows of 1 or 3 bytes a pixel; src[0..lanes) to dst[0..lanes), where a row may be there twice.
     */
    void (*across)(const struct sv_taps *t, int channels, const uint8_t *const *src,
                   uint8_t *const *dst);
    /* len columns of the bytes at src, whose rows lie stride apart, through count taps. */
    void (*down)(const int16_t *low, const int16_t *high, int count, const uint8_t *src,
                 size_t stride, uint8_t *dst, size_t len);
    /* Brings taps into the order in which across() wants them, once for all rows. room: bytes,
     * aligned as rt_alloc() does; prepared_len() says how many it takes. False: these taps do not
     * suit it, and across() works without. Both NULL: there is nothing to prepare. */
    size_t (*prepared_len)(int n, int room, int channels);
    bool (*prepare)(const struct sv_taps *t, int channels, void *room);
};

/* For the level that rt_isa() says. */
const struct sv_passes *sv_resize_passes(void);
/* All that this machine can run, from 0 on, for tests; NULL behind the last. */
const struct sv_passes *sv_resize_passes_at(int i);

#endif
