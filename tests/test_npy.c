/* .npy files: round trips, headers as other writers make them, and damage at every byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "runtime/mem.h"
#include "server/npy.h"

#define HEADER_MAX 1024

/* A version-1 file image with this dictionary and these elements; its length. */
static size_t image(unsigned char *to, unsigned version, const char *dictionary, const void *data,
                    size_t data_len)
{
    size_t text = strlen(dictionary), prefix = version == 1 ? 10 : 12;
    assert_true(prefix + text + data_len <= HEADER_MAX);
    memcpy(to, "\x93NUMPY", 6);
    to[6] = (unsigned char)version;
    to[7] = 0;
    to[8] = (unsigned char)(text & 0xff);
    to[9] = (unsigned char)(text >> 8);
    if (version > 1)
        to[10] = to[11] = 0;
    memcpy(to + prefix, dictionary, text);
    memcpy(to + prefix + text, data, data_len);
    return prefix + text + data_len;
}

static enum rt_status read_text(const char *dictionary, const void *data, size_t len,
                                struct rt_tensor *t, struct rt_error *err)
{
    unsigned char file[HEADER_MAX];
    size_t n = image(file, 1, dictionary, data, len);
    return sv_npy_read(file, n, t, err);
}

static void test_round_trip(void **state)
{
    (void)state;
    static const enum rt_dtype types[] = { RT_FLOAT,  RT_DOUBLE, RT_FLOAT16, RT_BFLOAT16, RT_INT8,
                                           RT_INT16,  RT_INT32,  RT_INT64,   RT_UINT8,    RT_UINT16,
                                           RT_UINT32, RT_UINT64, RT_BOOL };
    static const struct rt_shape shapes[] = {
        { 0, { 0 } },       { 1, { 3 } },          { 2, { 2, 3 } },
        { 3, { 2, 0, 3 } }, { 4, { 1, 2, 2, 1 } }, { 8, { 1, 1, 1, 1, 1, 1, 1, 2 } },
    };
    unsigned char data[64];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i & 1);
    for (size_t k = 0; k < sizeof types / sizeof types[0]; k++)
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
            struct rt_tensor t = { types[k], shapes[s], data }, back;
            struct rt_error err = { 0 };
            void *bytes;
            size_t len, want;
            assert_int_equal(sv_npy_write(&t, &bytes, &len, &err), RT_OK);
            assert_true(rt_shape_bytes(&t.shape, t.dtype, &want));
            assert_int_equal((len - want) % 64, 0);
            assert_int_equal(sv_npy_read(bytes, len, &back, &err), RT_OK);
            assert_int_equal(back.dtype, t.dtype);
            assert_true(rt_shape_equal(&back.shape, &t.shape));
            assert_memory_equal(back.data, data, want);
            rt_free(back.data);
            rt_free(bytes);
        }
}

static void test_written_header(void **state)
{
    (void)state;
    const float x[] = { 1, 2, 3 };
    struct rt_tensor t = { RT_FLOAT, { 1, { 3 } }, (void *)(uintptr_t)x };
    void *bytes;
    size_t len;
    assert_int_equal(sv_npy_write(&t, &bytes, &len, NULL), RT_OK);
    static const char want[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), } ";
    assert_memory_equal(bytes, "\x93NUMPY\x01\x00\x76\x00", 10);
    assert_memory_equal((char *)bytes + 10, want, sizeof want - 1);
    assert_int_equal(((char *)bytes)[127], '\n');
    assert_int_equal(len, 128 + sizeof x);
    rt_free(bytes);
}

static void test_other_writers(void **state)
{
    (void)state;
    const int16_t x[] = { 1, 2, 3, 4, 5, 6 };
    static const char *const forms[] = {
        "{'descr': '<i2', 'fortran_order': False, 'shape': (2, 3), }\n",
        "{\"shape\":(2,3),\"fortran_order\":False,\"descr\":\"<i2\"}",
        "  { 'fortran_order' : False , 'descr' : '<i2' , 'shape' : ( 2L , 3L , ) , }   \n",
    };
    unsigned char file[HEADER_MAX];
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
        for (unsigned version = 1; version <= 3; version++) {
            struct rt_tensor t;
            struct rt_error err = { 0 };
            size_t len = image(file, version, forms[i], x, sizeof x);
            if (sv_npy_read(file, len, &t, &err) != RT_OK)
                fail_msg("%s: %s", forms[i], err.text);
            assert_int_equal(t.dtype, RT_INT16);
            assert_int_equal(t.shape.rank, 2);
            assert_memory_equal(t.data, x, sizeof x);
            rt_free(t.data);
        }
}

static void test_fortran_order(void **state)
{
    (void)state;
    /* a[i][j][k] = 100 i + 10 j + k, the first index fastest. */
    const int32_t x[] = { 0, 100, 10, 110, 20, 120, 1, 101, 11, 111, 21, 121 };
    const int32_t want[] = { 0, 1, 10, 11, 20, 21, 100, 101, 110, 111, 120, 121 };
    struct rt_tensor t;
    assert_int_equal(read_text("{'descr': '<i4', 'fortran_order': True, 'shape': (2, 3, 2)}", x,
                               sizeof x, &t, NULL),
                     RT_OK);
    assert_memory_equal(t.data, want, sizeof want);
    rt_free(t.data);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *dictionary;
        enum rt_status status;
        const char *says;
    } table[] = {
        { "{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}", RT_E_UNSUPPORTED,
          "big-endian" },
        { "{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", RT_E_UNSUPPORTED, "<c8" },
        { "{'descr': '<U1', 'fortran_order': False, 'shape': (1,)}", RT_E_UNSUPPORTED, "<U1" },
        { "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", RT_E_UNSUPPORTED, "|O" },
        { "{'descr': '', 'fortran_order': False, 'shape': (1,)}", RT_E_UNSUPPORTED, "''" },
        { "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", RT_E_UNSUPPORTED,
          "structured" },
        { "{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}", RT_E_INVALID, "fortran_order" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': [1]}", RT_E_INVALID, "shape" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", RT_E_INVALID, "shape" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (1", RT_E_INVALID, "shape" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
          RT_E_INVALID, "shape" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", RT_E_LIMIT,
          "too large" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}",
          RT_E_UNSUPPORTED, "dimensions" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", RT_E_INVALID, "8 bytes" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': ()", RT_E_INVALID, "'}'" },
        { "{'descr': '<f4', 'shape': (1,)}", RT_E_INVALID, "fortran_order" },
        { "{'descr': '<f4', 'colour': 1, 'shape': (1,)}", RT_E_INVALID, "colour" },
        { "{}", RT_E_INVALID, "descr" },
        { "[]", RT_E_INVALID, "'{'" },
        { "", RT_E_INVALID, "'{'" },
    };
    const float one = 1;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct rt_tensor t;
        struct rt_error err = { 0 };
        enum rt_status s = read_text(table[i].dictionary, &one, sizeof one, &t, &err);
        if (s != table[i].status || strstr(err.text, table[i].says) == NULL)
            fail_msg("%s: status %d, '%s'", table[i].dictionary, (int)s, err.text);
    }
    struct rt_tensor t;
    struct rt_error err = { 0 };
    assert_int_equal(sv_npy_read("\x93NUMPY\2\0\1\0", 10, &t, &err), RT_E_INVALID);
    assert_string_equal(err.text, "npy file ends inside its header");
    void *bytes;
    size_t len;
    t = (struct rt_tensor){ RT_FLOAT, rt_shape_of(2, (int64_t[]){ 1LL << 40, 1LL << 40 }), NULL };
    assert_int_equal(sv_npy_write(&t, &bytes, &len, &err), RT_E_UNSUPPORTED);
    assert_string_equal(err.text, "a tensor of float cannot be written as .npy");
}

/* A file cut anywhere, or with any one byte changed, is refused or read, and nothing else; the
 * copies end where an address sanitizer sees it. */
static void test_damage(void **state)
{
    (void)state;
    const float x[] = { 1, 2, 3, 4 };
    struct rt_tensor t = { RT_FLOAT, { 2, { 2, 2 } }, (void *)(uintptr_t)x }, back;
    void *bytes;
    size_t len;
    assert_int_equal(sv_npy_write(&t, &bytes, &len, NULL), RT_OK);
    for (size_t cut = 0; cut < len; cut++) {
        struct rt_error err = { 0 };
        char *copy = test_malloc(cut + (cut == 0));
        memcpy(copy, bytes, cut);
        assert_int_not_equal(sv_npy_read(copy, cut, &back, &err), RT_OK);
        assert_string_not_equal(err.text, "");
        test_free(copy);
    }
    for (size_t at = 0; at < 128; at++)
        for (int value = 0; value < 256; value += 5) {
            char *copy = test_malloc(len);
            memcpy(copy, bytes, len);
            copy[at] = (char)value;
            if (sv_npy_read(copy, len, &back, NULL) == RT_OK)
                rt_free(back.data);
            test_free(copy);
        }
    rt_free(bytes);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    const float one = 1;
    struct rt_tensor t = { RT_FLOAT, { 0, { 0 } }, (void *)(uintptr_t)&one };
    struct rt_error err = { 0 };
    void *bytes;
    size_t len;
    rt_mem_fail(0);
    assert_int_equal(sv_npy_write(&t, &bytes, &len, &err), RT_E_NOMEM);
    rt_mem_fail(0);
    assert_int_equal(read_text("{'descr': '<f4', 'fortran_order': False, 'shape': ()}", &one,
                               sizeof one, &t, &err),
                     RT_E_NOMEM);
    rt_mem_fail(-1);
    assert_int_equal(rt_mem_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),    cmocka_unit_test(test_written_header),
        cmocka_unit_test(test_other_writers), cmocka_unit_test(test_fortran_order),
        cmocka_unit_test(test_refused),       cmocka_unit_test(test_damage),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
