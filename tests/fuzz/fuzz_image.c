/* Any bytes as a picture: decoded, turned, resized and made a tensor. The last byte, which no
 * decoder reads, chooses how. */
#include "server/preprocess.h"
#include "tests/fuzz/fuzz.h"

#define MAX_PIXELS ((size_t)1 << 18)

static struct sv_preprocess choose(unsigned bits)
{
    static const enum rt_dtype types[] = { RT_FLOAT, RT_FLOAT16, RT_UINT8, RT_FLOAT };
    struct sv_preprocess p = {
        .width = 9,
        .height = 7,
        .color = (enum sv_color)(bits % 3),
        .nhwc = bits & 4,
        .resize = (enum sv_resize_mode)((bits >> 3) % 3),
        .filter = (enum sv_filter)((bits >> 5) % 3),
        .dtype = types[bits >> 6],
        .scale = 1.0f / 255,
        .std = { 1, 1, 1, 1 },
        .scaled_decode = bits & 8,
        .max_pixels = MAX_PIXELS,
    };
    p.channels = p.color == SV_GRAY ? 1 : 3;
    p.resize_to = p.resize == SV_RESIZE_CROP && bits & 16 ? 11 : 0;
    return p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct rt_error err = { .text = "" };
    const struct sv_preprocess p = choose(len > 0 ? data[len - 1] : 0);
    HOLDS(sv_preprocess_check(&p, &err) == RT_OK, "%s", err.text);
    long live = rt_mem_live();
    void *tensor = malloc(sv_preprocess_bytes(&p));
    HOLDS(tensor != NULL, "no memory");
    enum rt_status s = sv_preprocess_run(&p, data, len, tensor, NULL, &err);
    HOLDS(s == RT_OK || err.text[0] != '\0', "a refused picture without a reason");
    HOLDS(s != RT_OK || sv_image_recognised(data, len), "decoded, but not recognised");
    free(tensor);
    HOLDS(rt_mem_live() == live, "%ld blocks are left over", rt_mem_live() - live);
    return 0;
}
