/* Finds the orientation tag in EXIF data, reading nothing outside it. */
#include "server/exif.h"

#include <stdbool.h>
#include <string.h>

#define TAG_ORIENTATION 0x0112
#define TYPE_SHORT 3
#define TYPE_LONG 4

static uint32_t u16(const uint8_t *p, bool big)
{
    return big ? (uint32_t)p[0] << 8 | p[1] : (uint32_t)p[1] << 8 | p[0];
}

static uint32_t u32(const uint8_t *p, bool big)
{
    return big ? u16(p, big) << 16 | u16(p + 2, big) : u16(p + 2, big) << 16 | u16(p, big);
}

int sv_exif_orientation(const uint8_t *tiff, size_t len)
{
    if (len >= 6 && memcmp(tiff, "Exif\0\0", 6) == 0) {
        tiff += 6;
        len -= 6;
    }
    if (len < 8)
        return 1;
    const bool big = memcmp(tiff, "MM\0*", 4) == 0;
    if (!big && memcmp(tiff, "II*\0", 4) != 0)
        return 1;
    size_t at = u32(tiff + 4, big);
    if (at > len - 2)
        return 1;
    size_t n = u16(tiff + at, big);
    at += 2;
    for (; n > 0 && len - at >= 12; n--, at += 12) {
        const uint8_t *entry = tiff + at;
        if (u16(entry, big) != TAG_ORIENTATION)
            continue;
        const uint32_t type = u16(entry + 2, big);
        uint32_t value = 0;
        if (type == TYPE_SHORT)
            value = u16(entry + 8, big);
        else if (type == TYPE_LONG)
            value = u32(entry + 8, big);
        return value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

int sv_exif_orientation_jpeg(const uint8_t *jpeg, size_t len)
{
    size_t at = 2; /* past SOI */
    while (len >= 4 && at <= len - 4 && jpeg[at] == 0xff) {
        const uint8_t marker = jpeg[at + 1];
        if (marker == 0xff) { /* fill byte */
            at++;
            continue;
        }
        if (marker == 0xda || marker == 0xd9) /* scan data or the end */
            break;
        const size_t segment = u16(jpeg + at + 2, true); /* counts its own two bytes */
        if (segment < 2 || segment > len - at - 2)
            break;
        const uint8_t *body = jpeg + at + 4;
        if (marker == 0xe1 && segment >= 8 && memcmp(body, "Exif\0", 5) == 0)
            return sv_exif_orientation(body + 6, segment - 8);
        at += 2 + segment;
    }
    return 1;
}
