/* Resizing and preprocessing: which pixels a model sees and which numbers they become.
 * tests/check_pillow.py compares the resizing with Pillow, bit for bit. */
#include "server/preprocess.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/resize_passes.h"
#include "tests/pictures.h"

static void expect_resize(const struct sv_resize *r, const uint8_t *want)
{
    uint8_t got[512];
    const size_t stride = (size_t)(r->window_width * r->channels);
    assert_in_range(stride * (size_t)r->window_height, 1, sizeof got);
    memset(got, 0xee, sizeof got);
    struct rt_error err = { 0 };
    assert_int_equal(sv_resize(r, got, stride, &err), RT_OK);
    assert_memory_equal(got, want, stride * (size_t)r->window_height);
    for (size_t i = stride * (size_t)r->window_height; i < sizeof got; i++)
        assert_int_equal(got[i], 0xee);
}

/* Wanted values are those of Pillow. */
static void resize_small(void **state)
{
    (void)state;
    struct sv_resize r = {
        .src = (const uint8_t[]){ 0, 100, 255, 30 },
        .width = 4,
        .height = 1,
        .channels = 1,
        .full_width = 2,
        .full_height = 1,
        .window_width = 2,
        .window_height = 1,
    };
    expect_resize(&r, (const uint8_t[]){ 79, 136 });
    r.filter = SV_FILTER_BICUBIC;
    expect_resize(&r, (const uint8_t[]){ 75, 143 });
    r.filter = SV_FILTER_NEAREST;
    expect_resize(&r, (const uint8_t[]){ 100, 30 });

    r = (struct sv_resize){
        .src = (const uint8_t[]){ 0, 10, 20, 100, 200, 255 },
        .width = 1,
        .height = 2,
        .channels = 3,
        .full_width = 2,
        .full_height = 4,
        .window_width = 2,
        .window_height = 4,
    };
    expect_resize(&r,
                  (const uint8_t[]){ 0,  10,  20,  0,  10,  20,  25,  58,  79,  25,  58,  79,
                                     75, 153, 196, 75, 153, 196, 100, 200, 255, 100, 200, 255 });
    r.top = 2;
    r.left = 1;
    r.window_width = 1;
    r.window_height = 1;
    expect_resize(&r, (const uint8_t[]){ 75, 153, 196 });
}

static void resize_same_size_copies(void **state)
{
    (void)state;
    uint8_t pixels[9 * 7 * 3];
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(i * 37);
    for (int filter = SV_FILTER_BILINEAR; filter <= SV_FILTER_NEAREST; filter++) {
        const struct sv_resize r = {
            .src = pixels,
            .width = 9,
            .height = 7,
            .channels = 3,
            .full_width = 9,
            .full_height = 7,
            .window_width = 9,
            .window_height = 7,
            .filter = (enum sv_filter)filter,
        };
        expect_resize(&r, pixels);
    }
}

/* No shrinking, however strong, may overflow or darken: white stays white. */
static void resize_keeps_white(void **state)
{
    (void)state;
    enum { LONG = 20000 };
    uint8_t *white = malloc(LONG * 3);
    assert_non_null(white);
    memset(white, 255, LONG * 3);
    for (int filter = SV_FILTER_BILINEAR; filter <= SV_FILTER_BICUBIC; filter++) {
        for (int channels = 1; channels <= 3; channels += 2) {
            for (int wide = 0; wide < 2; wide++) {
                const struct sv_resize r = {
                    .src = white,
                    .width = wide ? LONG : 1,
                    .height = wide ? 1 : LONG,
                    .channels = channels,
                    .full_width = 3,
                    .full_height = 2,
                    .window_width = 3,
                    .window_height = 2,
                    .filter = (enum sv_filter)filter,
                };
                expect_resize(&r, white);
            }
        }
    }
    free(white);
}

static struct rt_io input(enum rt_dtype dtype, int rank, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return (struct rt_io){ "image", dtype, { rank, { a, b, c, d } } };
}

static void expect_derived(struct rt_io io, const char *producer, const char *want)
{
    struct sv_preprocess p;
    struct rt_error err = { 0 };
    char text[SV_PREPROCESS_TEXT];
    if (sv_preprocess_derive(&io, producer, &p, &err) != RT_OK)
        fail_msg("%s: %s", want, err.text);
    assert_int_equal(sv_preprocess_check(&p, &err), RT_OK);
    assert_string_equal(sv_preprocess_describe(&p, text), want);
}

static void expect_underived(struct rt_io io, const char *says)
{
    struct sv_preprocess p;
    struct rt_error err = { 0 };
    assert_int_equal(sv_preprocess_derive(&io, NULL, &p, &err), RT_E_UNSUPPORTED);
    if (strstr(err.text, says) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, says);
}

#define COVER "resized to cover and centre crop (bilinear), "
#define IMAGENET "(pixel * 0.00392157 - [0.485,0.456,0.406]) / [0.229,0.224,0.225]"
#define UNIT "(pixel * 0.00392157 - 0) / 1"

static void derives(void **state)
{
    (void)state;
    expect_derived(input(RT_FLOAT, 4, -1, 3, 224, 224), "pytorch 1.13.1",
                   "224x224 RGB float NCHW, " COVER IMAGENET);
    expect_derived(input(RT_FLOAT, 4, -1, 3, 224, 224), NULL,
                   "224x224 RGB float NCHW, " COVER UNIT);
    expect_derived(input(RT_FLOAT, 4, 1, 3, 32, 32), "pytorch",
                   "32x32 RGB float NCHW, " COVER UNIT);
    expect_derived(input(RT_FLOAT, 4, -1, 1, 28, 28), "pytorch",
                   "28x28 grey float NCHW, " COVER UNIT);
    expect_derived(input(RT_FLOAT16, 4, 1, 96, 64, 3), "tf2onnx",
                   "64x96 RGB float16 NHWC, " COVER UNIT);
    expect_derived(input(RT_FLOAT, 4, -1, 3, -1, -1), "x", "224x224 RGB float NCHW, " COVER UNIT);
    expect_derived(input(RT_FLOAT, 4, -1, 3, 300, -1), "x", "300x300 RGB float NCHW, " COVER UNIT);
    expect_derived(input(RT_UINT8, 3, 48, 64, 1, 0), "x",
                   "64x48 grey uint8 NHWC, " COVER "pixels as they are");
    expect_underived(input(RT_FLOAT, 2, -1, 784, 0, 0), "[-1,784]");
    expect_underived(input(RT_FLOAT, 4, -1, 4, 32, 32), "1 or 3 channels");
    expect_underived(input(RT_FLOAT, 4, -1, -1, -1, -1), "1 or 3 channels");
    expect_underived(input(RT_INT64, 4, -1, 3, 32, 32), "int64");
    expect_underived(input(RT_FLOAT, 4, -1, 3, 32, 100000), "16384");
    expect_underived(input(RT_FLOAT, 4, -1, 3, 0, 32), "1 to 16384");
}

static struct sv_preprocess plain(int width, int height, enum sv_resize_mode mode)
{
    return (struct sv_preprocess){
        .width = width,
        .height = height,
        .channels = 3,
        .resize = mode,
        .dtype = RT_FLOAT,
        .scale = 1,
        .std = { 1, 1, 1, 1 },
    };
}

static void expect_wrong(struct sv_preprocess p, const char *says)
{
    struct rt_error err = { 0 };
    assert_int_equal(sv_preprocess_check(&p, &err), RT_E_INVALID);
    if (strstr(err.text, says) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, says);
}

static void checks_fields(void **state)
{
    (void)state;
    const struct sv_preprocess good = plain(8, 8, SV_RESIZE_CROP);
    struct sv_preprocess p = good;
    struct rt_error err;
    assert_int_equal(sv_preprocess_check(&p, &err), RT_OK);
    p.width = 0;
    expect_wrong(p, "width");
    p = good;
    p.resize_to = 7;
    expect_wrong(p, "resize_to must be 8");
    p = good;
    p.color = SV_GRAY;
    expect_wrong(p, "channels must be 1");
    p = good;
    p.std[2] = 0;
    expect_wrong(p, "std[2]");
    p = good;
    p.mean[1] = NAN;
    expect_wrong(p, "mean[1]");
    p = good;
    p.scale = INFINITY;
    expect_wrong(p, "scale");
    p = good;
    p.fill = 256;
    expect_wrong(p, "fill");
    p = good;
    p.dtype = RT_INT64;
    expect_wrong(p, "int64");
}

/* A picture whose red is its column, green its row and blue 7. */
static struct picture grid(int width, int height)
{
    static uint8_t rgb[64 * 64 * 3];
    assert_in_range(width * height, 1, 64 * 64);
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            uint8_t *p = rgb + 3 * (y * width + x);
            p[0] = (uint8_t)x;
            p[1] = (uint8_t)y;
            p[2] = 7;
        }
    }
    return picture_png_rgb(width, height, rgb);
}

static void run(const struct sv_preprocess *p, struct picture picture, void *dst)
{
    struct rt_error err = { 0 };
    struct sv_preprocess_times times = { -1, -1 };
    if (sv_preprocess_run(p, picture.bytes, picture.len, dst, &times, &err) != RT_OK)
        fail_msg("%s", err.text);
    assert_true(times.decode >= 0 && times.resize >= 0);
    picture_free(&picture);
}

static void crops(void **state)
{
    (void)state;
    /* 7 wide, 4 cut out: 1.5 on the left goes to the even 2; 9 wide: 2.5 goes to 2 too. */
    static const int first[][2] = { { 7, 2 }, { 8, 2 }, { 9, 2 }, { 10, 3 }, { 11, 4 }, { 4, 0 } };
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) {
        const struct sv_preprocess p = plain(4, 4, SV_RESIZE_CROP);
        float x[3][4][4];
        assert_int_equal(sv_preprocess_bytes(&p), sizeof x);
        run(&p, grid(first[i][0], 4), x);
        assert_true(x[0][0][0] == (float)first[i][1] && x[0][3][3] == (float)first[i][1] + 3);
        assert_true(x[1][0][0] == 0 && x[1][3][3] == 3 && x[2][2][1] == 7);
        run(&p, grid(4, first[i][0]), x);
        assert_true(x[1][0][0] == (float)first[i][1] && x[0][0][0] == 0);
    }
    /* The short side to 6, then the middle 4 of it. */
    struct sv_preprocess p = plain(4, 4, SV_RESIZE_CROP);
    p.resize_to = 6;
    float x[3][4][4];
    run(&p, grid(6, 12), x);
    assert_true(x[0][0][0] == 1 && x[1][0][0] == 4);
    /* Not square: what is too wide for 6 x 4 is cut left and right, else above and below. */
    p = plain(6, 4, SV_RESIZE_CROP);
    float wide[3][4][6];
    run(&p, grid(10, 4), wide);
    assert_true(wide[0][0][0] == 2 && wide[1][0][0] == 0);
    run(&p, grid(6, 6), wide);
    assert_true(wide[0][0][0] == 0 && wide[1][0][0] == 1);
    /* One pixel wide: half a million rows when resized, of which four are computed. */
    run(&p, grid(1, 64), wide);
    assert_true(wide[0][0][0] == 0 && fabsf(wide[1][0][0] - 31.5f) < 1);
}

static void fits(void **state)
{
    (void)state;
    struct sv_preprocess p = plain(8, 5, SV_RESIZE_FIT);
    p.fill = 114;
    p.nhwc = true;
    float x[5][8][3];
    run(&p, grid(8, 2), x);
    for (int i = 0; i < 8; i++) {
        assert_true(x[0][i][0] == 114 && x[3][i][2] == 114 && x[4][i][1] == 114);
        assert_true(x[1][i][0] == (float)i && x[1][i][1] == 0 && x[2][i][1] == 1);
    }
    run(&p, grid(2, 5), x);
    assert_true(x[2][2][0] == 114 && x[2][3][0] == 0 && x[2][4][0] == 1 && x[2][5][0] == 114);
}

static void normalises(void **state)
{
    (void)state;
    struct sv_preprocess p = plain(4, 2, SV_RESIZE_STRETCH);
    p.scale = 1.0f / 255;
    memcpy(p.mean, (const float[]){ 0.5f, 0.25f, 0 }, 3 * sizeof(float));
    memcpy(p.std, (const float[]){ 0.5f, 2, 1 }, 3 * sizeof(float));
    float x[3][2][4];
    run(&p, grid(4, 2), x);
    assert_true(fabsf(x[0][0][3] - (3 / 255.0f - 0.5f) / 0.5f) < 1e-7f);
    assert_true(fabsf(x[1][1][0] - (1 / 255.0f - 0.25f) / 2) < 1e-7f);
    assert_true(fabsf(x[2][1][1] - 7 / 255.0f) < 1e-7f);
    p.color = SV_BGR;
    run(&p, grid(4, 2), x);
    assert_true(fabsf(x[0][1][1] - (7 / 255.0f - 0.5f) / 0.5f) < 1e-7f);
    assert_true(fabsf(x[2][0][3] - 3 / 255.0f) < 1e-7f);

    p = plain(4, 2, SV_RESIZE_STRETCH);
    p.dtype = RT_FLOAT16;
    p.nhwc = true;
    uint16_t half[2][4][3];
    assert_int_equal(sv_preprocess_bytes(&p), sizeof half);
    run(&p, grid(4, 2), half);
    assert_true(rt_half_to_float(half[1][3][0]) == 3 && rt_half_to_float(half[0][2][2]) == 7);

    p.dtype = RT_UINT8;
    p.scale = 60;
    p.mean[1] = 20.4f;
    uint8_t bytes[2][4][3];
    assert_int_equal(sv_preprocess_bytes(&p), sizeof bytes);
    run(&p, grid(4, 2), bytes);
    assert_int_equal(bytes[0][3][0], 180);
    assert_int_equal(bytes[0][0][1], 0);   /* -20.4 */
    assert_int_equal(bytes[1][0][1], 40);  /* 39.6 */
    assert_int_equal(bytes[0][0][2], 255); /* 420 */
}

/* A JPEG decoded at a quarter of its size gives nearly the same sample. */
static void decodes_scaled(void **state)
{
    (void)state;
    enum { SIDE = 203 };
    static uint8_t rgb[SIDE * SIDE * 3];
    for (int i = 0; i < SIDE * SIDE; i++) {
        rgb[3 * i] = (uint8_t)(i % SIDE);
        rgb[3 * i + 1] = (uint8_t)(i / SIDE);
        rgb[3 * i + 2] = 128;
    }
    for (int orientation = 1; orientation <= 8; orientation++) {
        const struct picture_jpeg o = {
            .width = SIDE, .height = SIDE, .channels = 3, .pixel = rgb, .orientation = orientation
        };
        struct sv_preprocess p = plain(20, 20, SV_RESIZE_CROP);
        float exact[3 * 20 * 20], scaled[3 * 20 * 20];
        run(&p, picture_jpeg(&o), exact);
        p.scaled_decode = true;
        run(&p, picture_jpeg(&o), scaled);
        for (int i = 0; i < 3 * 20 * 20; i++)
            if (fabsf(exact[i] - scaled[i]) > 2)
                fail_msg("orientation %d, element %d: %g and %g", orientation, i, (double)exact[i],
                         (double)scaled[i]);
    }
}

static uint32_t dice = 1;

static int random_below(int n)
{
    dice = dice * 1664525u + 1013904223u;
    return (int)((dice >> 8) % (uint32_t)n);
}

/* Rows that come out of the decoder one after the other make the sample that the whole picture
 * makes. */
static void rows_make_what_pictures_make(void **state)
{
    (void)state;
    enum { SIDE = 150 };
    static uint8_t pixel[SIDE * SIDE * 3];
    static float by_rows[3 * 40 * 50], whole[3 * 40 * 50];
    for (size_t i = 0; i < sizeof pixel; i++)
        pixel[i] = (uint8_t)random_below(256);
    for (int trial = 0; trial < 120; trial++) {
        const struct picture_jpeg o = {
            .width = 1 + random_below(SIDE),
            .height = 1 + random_below(SIDE),
            .channels = random_below(4) > 0 ? 3 : 1,
            .pixel = pixel,
            .progressive = random_below(4) == 0,
            .subsampled = random_below(2) == 0,
        };
        struct picture picture = picture_jpeg(&o);
        struct sv_preprocess p = plain(50, 40, (enum sv_resize_mode)random_below(3));
        p.filter = random_below(2) == 0 ? SV_FILTER_BILINEAR : SV_FILTER_BICUBIC;
        p.resize_to = p.resize == SV_RESIZE_CROP && random_below(2) == 0 ? 60 : 0;
        struct sv_image image;
        struct rt_error err;
        assert_int_equal(sv_preprocess_run(&p, picture.bytes, picture.len, by_rows, NULL, &err),
                         RT_OK);
        assert_int_equal(sv_image_decode(picture.bytes, picture.len, NULL, &image, &err), RT_OK);
        assert_int_equal(sv_preprocess_pixels(&p, &image, whole, &err), RT_OK);
        if (memcmp(by_rows, whole, sizeof whole) != 0)
            fail_msg("trial %d: %d x %d", trial, o.width, o.height);
        sv_image_reset(&image);
        picture_free(&picture);
    }
}

/* Random taps over random rows: each level gives the bits of the plainest. */
static void levels_agree(void **state)
{
    (void)state;
    enum { N = 40, ROOM = 16, ROWS = SV_LANES_MAX };
    static uint8_t got[ROWS][N * 3 + SV_ROW_PAD], column[N * 3];
    static uint8_t want[ROWS][N * 3 + SV_ROW_PAD], wanted[N * 3];
    static int16_t low[N * ROOM], high[N * ROOM];
    int first[N], count[N];
    uint8_t *source[ROWS]; /* no longer than is promised, so that checkers see what reads on */
    for (int trial = 0; trial < 400; trial++) {
        const int channels = random_below(3) > 0 ? 3 : 1, steps = 1 + random_below(6);
        const int most = 1 + random_below(ROOM - 4), big = (1 << SV_TAP_BITS) / most;
        struct sv_taps taps = { 1 + random_below(N), ROOM, first, count, low, high, NULL };
        memset(low, 0, sizeof low);
        memset(high, 0, sizeof high);
        for (int i = 0; i < taps.n; i++) {
            first[i] = i > 0 ? first[i - 1] + random_below(steps + 1) : random_below(3);
            count[i] = 1 + random_below(most);
            for (int k = 0; k < count[i]; k++) {
                const int c = random_below(big) - (random_below(4) == 0 ? big / 2 : 0);
                high[i * ROOM + k] = (int16_t)(c / (1 << SV_TAP_LOW_BITS));
                low[i * ROOM + k] = (int16_t)(c % (1 << SV_TAP_LOW_BITS));
            }
        }
        int width = 0;
        for (int i = 0; i < taps.n; i++)
            width = first[i] + count[i] > width ? first[i] + count[i] : width;
        const size_t row_len = (size_t)(width * channels), row_room = row_len + SV_ROW_PAD;
        for (int r = 0; r < ROWS; r++) {
            source[r] = malloc(row_room);
            assert_non_null(source[r]);
            for (size_t i = 0; i < row_room; i++)
                source[r][i] = (uint8_t)random_below(256);
        }
        const size_t len = (size_t)(taps.n * channels);
        for (int level = 0; sv_resize_passes_at(level) != NULL; level++) {
            const struct sv_passes *passes = sv_resize_passes_at(level);
            void *room = NULL;
            if (passes->prepared_len != NULL)
                room = rt_alloc(passes->prepared_len(taps.n, ROOM, channels) + 1);
            taps.prepared = NULL;
            if (room != NULL && passes->prepare(&taps, channels, room))
                taps.prepared = room;
            for (int r = 0; r < ROWS; r += passes->lanes) {
                const uint8_t *src[SV_LANES_MAX];
                uint8_t *dst[SV_LANES_MAX];
                for (int i = 0; i < passes->lanes; i++) {
                    src[i] = source[r + i];
                    dst[i] = level == 0 ? want[r + i] : got[r + i];
                }
                passes->across(&taps, channels, src, dst);
            }
            passes->down(low, high, count[0] < ROWS ? count[0] : ROWS, want[0], sizeof want[0],
                         level == 0 ? wanted : column, len);
            rt_free(room);
            for (int r = 0; r < ROWS && level > 0; r++)
                assert_memory_equal(got[r], want[r], len);
            if (level > 0)
                assert_memory_equal(column, wanted, len);
        }
        for (int r = 0; r < ROWS; r++)
            free(source[r]);
    }
}

static void passes_errors_on(void **state)
{
    (void)state;
    struct sv_preprocess p = plain(4, 4, SV_RESIZE_CROP);
    struct rt_error err = { 0 };
    float x[3 * 4 * 4];
    assert_int_equal(sv_preprocess_run(&p, "nonsense", 8, x, NULL, &err), RT_E_INVALID);
    struct picture picture = grid(9, 9);
    p.max_pixels = 80;
    assert_int_equal(sv_preprocess_run(&p, picture.bytes, picture.len, x, NULL, &err), RT_E_LIMIT);
    p.max_pixels = 0;
    enum rt_status s = RT_E_NOMEM;
    for (long after = 0; s != RT_OK; after++) {
        rt_mem_fail(after);
        s = sv_preprocess_run(&p, picture.bytes, picture.len, x, NULL, &err);
        rt_mem_fail(-1);
        assert_true(s == RT_OK || s == RT_E_NOMEM);
        assert_int_equal(rt_mem_live(), 0);
    }
    picture_free(&picture);
}

static int nothing_leaked(void **state)
{
    (void)state;
    return rt_mem_live() == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resize_small),
        cmocka_unit_test(resize_same_size_copies),
        cmocka_unit_test(resize_keeps_white),
        cmocka_unit_test(derives),
        cmocka_unit_test(checks_fields),
        cmocka_unit_test(crops),
        cmocka_unit_test(fits),
        cmocka_unit_test(normalises),
        cmocka_unit_test(decodes_scaled),
        cmocka_unit_test(rows_make_what_pictures_make),
        cmocka_unit_test(levels_agree),
        cmocka_unit_test(passes_errors_on),
    };
    return cmocka_run_group_tests(tests, NULL, nothing_leaked);
}
