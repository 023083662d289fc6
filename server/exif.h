/* EXIF: the one field of it that matters here, which way up the picture is. */
#ifndef SERVER_EXIF_H
#define SERVER_EXIF_H

#include <stddef.h>
#include <stdint.h>

/* The orientation, 1..8, that a TIFF structure tells (with or without "Exif\0\0" in front), as
 * found in PNG's eXIf and WebP's EXIF chunk; 1 (upright) when it tells none or is damaged. */
int sv_exif_orientation(const uint8_t *tiff, size_t len);
/* The same from a whole JPEG, whose first EXIF segment counts. */
int sv_exif_orientation_jpeg(const uint8_t *jpeg, size_t len);

#endif
