/* Compressed bodies: what is inflated, what is refused, and what an answer may be sent as. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/rt.h"
#include "server/compress.h"

#include <strings.h>
#include <zlib.h>

static const char *coding; /* of every answer here */

static const char *find(const struct sv_request *req, const char *name)
{
    (void)req;
    return strcasecmp(name, "Accept-Encoding") == 0 ? coding : NULL;
}

static struct sv_request request(const void *body, size_t len)
{
    return (struct sv_request){ .body = body, .body_len = len, .find_header = find };
}

/* zlib's container; the length. */
static size_t pack(const char *from, size_t len, unsigned char *to, size_t room)
{
    uLongf n = room;
    assert_int_equal(compress2(to, &n, (const Bytef *)from, len, 9), Z_OK);
    return n;
}

static void test_inflate_bounds(void **state)
{
    (void)state;
    static char text[5000];
    unsigned char packed[6000];
    struct rt_error err;
    memset(text, 'a', sizeof text);
    for (size_t len = 1; len < sizeof text; len += len < 40 ? 1 : 61) {
        size_t n = pack(text, len, packed, sizeof packed);
        for (size_t max = len - 1; max <= len + 1; max++) {
            struct sv_request req = request(packed, n);
            enum rt_status s = sv_request_inflate(&req, max, &err);
            assert_int_equal(s, max >= len ? RT_OK : RT_E_LIMIT);
            if (s == RT_OK) {
                assert_int_equal(req.body_len, len);
                assert_memory_equal(req.body, text, len);
                assert_int_equal(req.body[len], 0);
            } else {
                assert_ptr_equal(req.body, packed);
            }
            sv_request_reset(&req);
        }
        for (size_t cut = 0; cut < n; cut++) {
            struct sv_request req = request(packed, cut);
            assert_int_equal(sv_request_inflate(&req, 1 << 20, &err), RT_E_INVALID);
            sv_request_reset(&req);
        }
    }
}

static void test_without_memory(void **state)
{
    (void)state;
    static char text[5000];
    unsigned char packed[6000];
    memset(text, 'a', sizeof text);
    size_t n = pack(text, sizeof text, packed, sizeof packed);
    long before = rt_mem_live(), after = 0;
    enum rt_status s;
    struct rt_error err;
    coding = "gzip";
    do {
        struct sv_request req = request(packed, n);
        rt_mem_fail(after++);
        s = sv_request_inflate(&req, sizeof text, &err);
        rt_mem_fail(-1);
        assert_true(s == RT_OK || s == RT_E_NOMEM);
        sv_request_reset(&req);
        assert_int_equal(rt_mem_live(), before);
    } while (s != RT_OK && after < 100);
    assert_int_equal(s, RT_OK);
    /* Without memory an answer goes out as it is. */
    for (after = 0; after < 12; after++) {
        struct sv_request req = request("", 0);
        struct sv_text t = { 0 };
        sv_text_bytes(&t, text, sizeof text);
        sv_response_text(&req.response, &t);
        rt_mem_fail(after);
        sv_response_deflate(&req);
        rt_mem_fail(-1);
        assert_true(req.response.body_len == sizeof text || req.response.body_len < 100);
        assert_true(req.response.body_len < 100 || after < 11);
        sv_request_reset(&req);
        assert_int_equal(rt_mem_live(), before);
    }
}

static void test_accept(void **state)
{
    (void)state;
    static const struct {
        const char *accept;
        enum sv_coding wanted;
    } row[] = {
        { NULL, SV_CODING_IDENTITY },
        { "", SV_CODING_IDENTITY },
        { ",", SV_CODING_IDENTITY },
        { ";;;", SV_CODING_IDENTITY },
        { "gzip", SV_CODING_GZIP },
        { "deflate,gzip", SV_CODING_DEFLATE },
        { "gzip;q=0.001", SV_CODING_GZIP },
        { "gzip;q=0.000", SV_CODING_IDENTITY },
        { "gzip;q=0.0001, deflate;q=0.1", SV_CODING_DEFLATE },
        { "gzip;q=.5", SV_CODING_IDENTITY },
        { "gzip;q=", SV_CODING_IDENTITY },
        { "gzip;x=1", SV_CODING_IDENTITY },
        { "gzip;q=1.001", SV_CODING_IDENTITY },
        { "gzipped", SV_CODING_IDENTITY },
        { "gzip deflate", SV_CODING_IDENTITY },
        { "deflate;Q=0.9,gzip;q=1.", SV_CODING_GZIP },
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        if (sv_accepted_coding(row[i].accept) != row[i].wanted)
            fail_msg("'%s': %d", row[i].accept, (int)sv_accepted_coding(row[i].accept));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inflate_bounds),
        cmocka_unit_test(test_without_memory),
        cmocka_unit_test(test_accept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
