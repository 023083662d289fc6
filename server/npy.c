/* The .npy format: magic, version, header length, a Python dictionary as text, then the elements.
 *
 *   \x93NUMPY 1 0 118 0 {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  \n data
 *
 * The dictionary is parsed by hand within the bounds that the header length sets. */
#include "server/npy.h"

#include "runtime/rt.h"

#include <stdio.h>
#include <string.h>

#define MAGIC "\x93NUMPY"
#define MAGIC_LEN 6
#define HEADER_ALIGN 64 /* where numpy.save() starts the elements, so that they can be mapped */

/* The letter and size after the byte order mark. */
static const struct {
    const char *code;
    enum rt_dtype dtype;
} codes[] = {
    { "f4", RT_FLOAT }, { "f8", RT_DOUBLE }, { "f2", RT_FLOAT16 }, { "V2", RT_BFLOAT16 },
    { "i1", RT_INT8 },  { "i2", RT_INT16 },  { "i4", RT_INT32 },   { "i8", RT_INT64 },
    { "u1", RT_UINT8 }, { "u2", RT_UINT16 }, { "u4", RT_UINT32 },  { "u8", RT_UINT64 },
    { "b1", RT_BOOL },
};
#define N_CODES (sizeof codes / sizeof codes[0])

/* The header's text that is still to be read. */
struct cursor {
    const char *at, *end;
};

static void skip_space(struct cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t'))
        c->at++;
}

/* Takes ch, if that is what comes next. */
static bool take(struct cursor *c, char ch)
{
    skip_space(c);
    if (c->at == c->end || *c->at != ch)
        return false;
    c->at++;
    return true;
}

static bool take_word(struct cursor *c, const char *word)
{
    size_t len = strlen(word);
    skip_space(c);
    if ((size_t)(c->end - c->at) < len || memcmp(c->at, word, len) != 0)
        return false;
    c->at += len;
    return true;
}

/* A quoted string without escapes; false also when it does not fit into buf. */
static bool take_string(struct cursor *c, char *buf, size_t size)
{
    skip_space(c);
    if (c->at == c->end || (*c->at != '\'' && *c->at != '"'))
        return false;
    const char quote = *c->at;
    const char *close = memchr(c->at + 1, quote, (size_t)(c->end - c->at - 1));
    if (close == NULL || (size_t)(close - c->at - 1) >= size)
        return false;
    size_t len = (size_t)(close - c->at - 1);
    memcpy(buf, c->at + 1, len);
    buf[len] = '\0';
    c->at = close + 1;
    return true;
}

static bool take_number(struct cursor *c, int64_t *out)
{
    skip_space(c);
    const char *start = c->at;
    int64_t n = 0;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++)
        if (!rt_mul_i64(n, 10, &n) || !rt_add_i64(n, *c->at - '0', &n))
            return false;
    if (c->at == start)
        return false;
    if (c->at < c->end && *c->at == 'L') /* Python 2 marked long integers so */
        c->at++;
    *out = n;
    return true;
}

static enum rt_status take_shape(struct cursor *c, struct rt_shape *shape, struct rt_error *err)
{
    if (!take(c, '('))
        return rt_fail(err, RT_E_INVALID, "npy header: 'shape' is not a tuple");
    *shape = (struct rt_shape){ 0 };
    while (!take(c, ')')) {
        int64_t dim;
        if (!take_number(c, &dim))
            return rt_fail(err, RT_E_INVALID,
                           "npy header: 'shape' holds something that is no size");
        if (shape->rank == RT_MAX_RANK)
            return rt_fail(err, RT_E_UNSUPPORTED, "npy header: more than %d dimensions",
                           RT_MAX_RANK);
        shape->dim[shape->rank++] = dim;
        if (!take(c, ',')) {
            if (!take(c, ')'))
                return rt_fail(err, RT_E_INVALID, "npy header: 'shape' does not end");
            break;
        }
    }
    return RT_OK;
}

static enum rt_status parse_descr(const char *descr, enum rt_dtype *dtype, struct rt_error *err)
{
    for (size_t i = 0; i < N_CODES && descr[0] != '\0'; i++) {
        if (strcmp(descr + 1, codes[i].code) != 0)
            continue;
        if (descr[0] == '>' && rt_dtype_size(codes[i].dtype) > 1)
            return rt_fail(err, RT_E_UNSUPPORTED,
                           "npy header: type '%s' is big-endian; save it as '<%s'", descr,
                           codes[i].code);
        if (strchr("<>|=", descr[0]) != NULL) {
            *dtype = codes[i].dtype;
            return RT_OK;
        }
    }
    return rt_fail(err, RT_E_UNSUPPORTED, "npy header: type '%s' is not supported", descr);
}

struct header {
    enum rt_dtype dtype;
    struct rt_shape shape;
    bool fortran;
};

static enum rt_status parse_dictionary(struct cursor *c, struct header *h, struct rt_error *err)
{
    bool have_descr = false, have_order = false, have_shape = false;
    if (!take(c, '{'))
        return rt_fail(err, RT_E_INVALID, "npy header: does not begin with '{'");
    while (!take(c, '}')) {
        char key[32], descr[32];
        if (!take_string(c, key, sizeof key) || !take(c, ':'))
            return rt_fail(err, RT_E_INVALID, "npy header: a key is malformed");
        if (strcmp(key, "descr") == 0) {
            if (!take_string(c, descr, sizeof descr))
                return rt_fail(err, RT_E_UNSUPPORTED,
                               "npy header: 'descr' is not a plain type (a structured array?)");
            enum rt_status s = parse_descr(descr, &h->dtype, err);
            if (s != RT_OK)
                return s;
            have_descr = true;
        } else if (strcmp(key, "fortran_order") == 0) {
            h->fortran = take_word(c, "True");
            if (!h->fortran && !take_word(c, "False"))
                return rt_fail(err, RT_E_INVALID,
                               "npy header: 'fortran_order' is neither True nor False");
            have_order = true;
        } else if (strcmp(key, "shape") == 0) {
            enum rt_status s = take_shape(c, &h->shape, err);
            if (s != RT_OK)
                return s;
            have_shape = true;
        } else {
            return rt_fail(err, RT_E_INVALID, "npy header: unknown key '%s'", key);
        }
        if (!take(c, ',')) {
            if (!take(c, '}'))
                return rt_fail(err, RT_E_INVALID, "npy header: does not end with '}'");
            break;
        }
    }
    if (!have_descr || !have_order || !have_shape)
        return rt_fail(err, RT_E_INVALID, "npy header: '%s' is missing",
                       !have_descr   ? "descr"
                       : !have_order ? "fortran_order"
                                     : "shape");
    return RT_OK;
}

/* Copies elements that lie first dimension fastest into last dimension fastest. */
static void from_fortran(const struct rt_shape *shape, size_t size, const char *src, char *dst,
                         int64_t n)
{
    int64_t index[RT_MAX_RANK] = { 0 }, stride[RT_MAX_RANK] = { 0 }, from = 0;
    for (int d = 0; d < shape->rank; d++)
        stride[d] = rt_shape_range(shape, 0, d);
    for (int64_t i = 0; i < n; i++, dst += size) {
        memcpy(dst, src + (size_t)from * size, size);
        for (int d = shape->rank - 1; d >= 0; d--) {
            from += stride[d];
            if (++index[d] < shape->dim[d])
                break;
            from -= stride[d] * shape->dim[d];
            index[d] = 0;
        }
    }
}

enum rt_status sv_npy_read(const void *bytes, size_t len, struct rt_tensor *out,
                           struct rt_error *err)
{
    const unsigned char *b = bytes;
    if (len < MAGIC_LEN + 4 || memcmp(b, MAGIC, MAGIC_LEN) != 0)
        return rt_fail(err, RT_E_INVALID, "not a .npy file: it does not begin with \\x93NUMPY");
    const unsigned version = b[MAGIC_LEN];
    if (version < 1 || version > 3)
        return rt_fail(err, RT_E_UNSUPPORTED, "npy format version %u is not known", version);
    /* The header's length takes two bytes in version 1 and four after that. */
    const size_t prefix = MAGIC_LEN + 2 + (version == 1 ? 2 : 4);
    if (len < prefix)
        return rt_fail(err, RT_E_INVALID, "npy file ends inside its header");
    size_t text = (size_t)b[8] | (size_t)b[9] << 8;
    if (version > 1)
        text |= (size_t)b[10] << 16 | (size_t)b[11] << 24;
    if (text > len - prefix)
        return rt_fail(err, RT_E_INVALID, "npy file ends inside its header");

    struct header h = { 0 };
    struct cursor c = { (const char *)b + prefix, (const char *)b + prefix + text };
    enum rt_status s = parse_dictionary(&c, &h, err);
    if (s != RT_OK)
        return s;
    char shape[RT_SHAPE_TEXT];
    size_t want, have = len - prefix - text;
    if (!rt_shape_bytes(&h.shape, h.dtype, &want))
        return rt_fail(err, RT_E_LIMIT, "npy file: an array of %s is too large",
                       rt_shape_text(&h.shape, shape));
    if (have != want)
        return rt_fail(err, RT_E_INVALID, "npy file: %s %s needs %zu bytes, %zu follow the header",
                       rt_dtype_name(h.dtype), rt_shape_text(&h.shape, shape), want, have);

    const char *data = (const char *)b + prefix + text;
    char *copy = rt_alloc(want);
    if (copy == NULL)
        return rt_fail_nomem(err, want);
    if (h.fortran)
        from_fortran(&h.shape, rt_dtype_size(h.dtype), data, copy, rt_shape_numel(&h.shape));
    else
        memcpy(copy, data, want);
    *out = (struct rt_tensor){ h.dtype, h.shape, copy };
    return RT_OK;
}

/* The tuple as Python prints it: "()", "(3,)", "(2, 3)". */
static int shape_tuple(const struct rt_shape *shape, char *buf, size_t size)
{
    int at = snprintf(buf, size, "(");
    for (int i = 0; i < shape->rank; i++)
        at += snprintf(buf + at, size - (size_t)at, i > 0 ? ", %lld" : "%lld",
                       (long long)shape->dim[i]);
    return at + snprintf(buf + at, size - (size_t)at, shape->rank == 1 ? ",)" : ")");
}

enum rt_status sv_npy_write(const struct rt_tensor *t, void **bytes, size_t *len,
                            struct rt_error *err)
{
    const char *code = NULL;
    for (size_t i = 0; i < N_CODES; i++)
        if (codes[i].dtype == t->dtype)
            code = codes[i].code;
    size_t data;
    if (code == NULL || !rt_shape_bytes(&t->shape, t->dtype, &data))
        return rt_fail(err, RT_E_UNSUPPORTED, "a tensor of %s cannot be written as .npy",
                       rt_dtype_name(t->dtype));

    char tuple[RT_MAX_RANK * 22 + 4], text[512];
    shape_tuple(&t->shape, tuple, sizeof tuple);
    size_t used = (size_t)snprintf(text, sizeof text,
                                   "{'descr': '%c%s', 'fortran_order': False, 'shape': %s, }",
                                   rt_dtype_size(t->dtype) == 1 ? '|' : '<', code, tuple);
    const size_t prefix = MAGIC_LEN + 4;
    size_t head = (prefix + used + 1 + HEADER_ALIGN - 1) / HEADER_ALIGN * HEADER_ALIGN;
    char *b = rt_alloc(head + data);
    if (b == NULL)
        return rt_fail_nomem(err, head + data);
    memcpy(b, MAGIC "\x01\x00", MAGIC_LEN + 2);
    b[8] = (char)((head - prefix) & 0xff);
    b[9] = (char)((head - prefix) >> 8);
    memcpy(b + prefix, text, used);
    memset(b + prefix + used, ' ', head - prefix - used);
    b[head - 1] = '\n';
    if (data > 0)
        memcpy(b + head, t->data, data);
    *bytes = b;
    *len = head + data;
    return RT_OK;
}
