/* WebP through libwebp: stills and the first frame of animations. */
#include "server/exif.h"
#include "server/image_codec.h"

#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

static enum rt_status decode_frame(const WebPIterator *frame, struct sv_image *image,
                                   struct rt_error *err)
{
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config))
        return rt_fail(err, RT_E_UNSUPPORTED, "WebP: the library is of another version");
    const size_t stride = (size_t)image->width * 3;
    const size_t first = (size_t)frame->y_offset * stride + (size_t)frame->x_offset * 3;
    config.output.colorspace = MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = image->pixel + first;
    config.output.u.RGBA.stride = (int)stride;
    config.output.u.RGBA.size = (size_t)image->height * stride - first;
    const VP8StatusCode code = WebPDecode(frame->fragment.bytes, frame->fragment.size, &config);
    rt_mem_written(config.output.u.RGBA.rgba, config.output.u.RGBA.size);
    WebPFreeDecBuffer(&config.output);
    switch (code) {
    case VP8_STATUS_OK:
        return RT_OK;
    case VP8_STATUS_OUT_OF_MEMORY:
        return rt_fail(err, RT_E_NOMEM, "WebP: out of memory");
    case VP8_STATUS_NOT_ENOUGH_DATA:
        return rt_fail(err, RT_E_INVALID, "WebP: the file is cut off before the picture ends");
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return rt_fail(err, RT_E_UNSUPPORTED, "WebP: uses a feature that is not supported");
    default:
        return rt_fail(err, RT_E_INVALID, "WebP: the picture's data is damaged");
    }
}

static enum rt_status decode_first(const WebPDemuxer *webp, const struct sv_decode_options *opt,
                                   struct sv_image *image, struct rt_error *err)
{
    const uint32_t width = WebPDemuxGetI(webp, WEBP_FF_CANVAS_WIDTH);
    const uint32_t height = WebPDemuxGetI(webp, WEBP_FF_CANVAS_HEIGHT);
    enum rt_status s = sv_image_check_size("WebP", width, height, opt, err);
    if (s != RT_OK)
        return s;
    WebPIterator frame = { 0 };
    if (!WebPDemuxGetFrame(webp, 1, &frame))
        return rt_fail(err, RT_E_INVALID, "WebP: holds no picture");
    s = sv_image_create(image, (int)width, (int)height, 3, err);
    if (s == RT_OK) {
        /* An animation's first frame may leave part of the canvas bare. */
        if ((uint32_t)frame.width != width || (uint32_t)frame.height != height)
            memset(image->pixel, 0, (size_t)width * height * 3);
        s = decode_frame(&frame, image, err);
        if (s != RT_OK)
            sv_image_reset(image);
    }
    WebPDemuxReleaseIterator(&frame);
    return s;
}

enum rt_status sv_decode_webp(const uint8_t *bytes, size_t len, const struct sv_decode_options *opt,
                              struct sv_image *out, int *orientation, struct rt_error *err)
{
    const WebPData data = { bytes, len };
    WebPDemuxer *webp = WebPDemux(&data);
    if (webp == NULL)
        return rt_fail(err, RT_E_INVALID, "WebP: the file is cut off or damaged");
    enum rt_status s = decode_first(webp, opt, out, err);
    if (s == RT_OK) {
        out->format = SV_IMAGE_WEBP;
        WebPChunkIterator exif = { 0 };
        if (WebPDemuxGetChunk(webp, "EXIF", 1, &exif)) {
            *orientation = sv_exif_orientation(exif.chunk.bytes, exif.chunk.size);
            WebPDemuxReleaseChunkIterator(&exif);
        }
    }
    WebPDemuxDelete(webp);
    return s;
}
