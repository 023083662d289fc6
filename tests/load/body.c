/* Bodies of tensors and of files. */
#include "tests/load/body.h"

#include "runtime/mem.h"
#include "server/file.h"
#include "tests/load/arrivals.h"
#include "tests/load/fetch.h"

#include <stdio.h>
#include <string.h>

#define TENSOR_BODIES 4 /* of different numbers, so that no cache flatters */

void ld_bodies_reset(struct ld_bodies *b)
{
    for (int i = 0; i < b->n; i++) {
        struct ld_body *body = &b->item[i];
        sv_text_reset(&body->bytes);
        curl_slist_free_all(body->headers);
        for (int k = 0; k < body->n_answers; k++)
            rt_free(body->answer[k].p);
    }
    rt_free(b->url);
    *b = (struct ld_bodies){ 0 };
}

static enum rt_status add_header(struct ld_body *b, const char *line, struct rt_error *err)
{
    struct curl_slist *longer = curl_slist_append(b->headers, line);
    if (longer == NULL)
        return rt_fail_nomem(err, strlen(line));
    b->headers = longer;
    return RT_OK;
}

/* The headers of a body: curl's own that would disturb are taken away. */
static enum rt_status set_headers(const struct ld_settings *set, struct ld_body *b,
                                  const char *type, size_t json_len, struct rt_error *err)
{
    char line[128];
    enum rt_status s = add_header(b, "Expect:", err);
    snprintf(line, sizeof line, "Content-Type:%s%s", type != NULL ? " " : "",
             type != NULL ? type : "");
    if (s == RT_OK)
        s = add_header(b, line, err);
    if (s == RT_OK && json_len > 0) {
        snprintf(line, sizeof line, "Inference-Header-Content-Length: %zu", json_len);
        s = add_header(b, line, err);
    }
    for (int i = 0; i < set->header.n && s == RT_OK; i++)
        s = add_header(b, set->header.item[i], err);
    return s;
}

/* One random value of a datatype, where only its bytes count: floats from -1 to 1, bytes of any
 * value, other integers 0 or 1, since they may be indices. */
static void put_value(unsigned char *to, size_t bytes, const char *datatype, uint64_t *seed)
{
    const double u = ld_random_unit(seed) * 2 - 1;
    const float f = (float)u;
    uint64_t bits = ld_random(seed) & (strcmp(datatype, "UINT8") == 0 ? 255 : 1);
    uint32_t single;
    memcpy(&single, &f, sizeof single);
    if (strcmp(datatype, "FP32") == 0)
        bits = single;
    else if (strcmp(datatype, "FP64") == 0)
        memcpy(&bits, &u, sizeof bits);
    else if (strcmp(datatype, "BF16") == 0)
        bits = single >> 16;
    else if (strcmp(datatype, "FP16") == 0)
        bits = 0x3000 + (bits << 15) + (ld_random(seed) & 0x7ff); /* 1/8 up to 1/2, signed */
    for (size_t i = 0; i < bytes; i++)
        to[i] = (unsigned char)(bits >> (8 * i));
}

static void put_json_value(struct sv_text *t, const char *datatype, uint64_t *seed)
{
    const uint64_t bits = ld_random(seed);
    if (datatype[0] == 'F' || strcmp(datatype, "BF16") == 0)
        sv_text_float(t, (float)(ld_random_unit(seed) * 2 - 1));
    else if (strcmp(datatype, "BOOL") == 0)
        sv_text_add(t, (bits & 1) != 0 ? "true" : "false");
    else
        sv_text_uint(t, bits & (strcmp(datatype, "UINT8") == 0 ? 255 : 1));
}

static void begin_input(struct sv_text *t, const struct ld_input *in, int index)
{
    sv_text_add(t, index > 0 ? ",{\"name\":" : "{\"name\":");
    sv_text_json_str(t, in->name);
    sv_text_add(t, ",\"shape\":[");
    for (int d = 0; d < in->rank; d++) {
        sv_text_add(t, d > 0 ? "," : "");
        sv_text_int(t, in->dim[d]);
    }
    sv_text_printf(t, "],\"datatype\":\"%s\"", in->datatype);
}

static enum rt_status make_tensors(const struct ld_settings *set, const struct ld_model *m,
                                   uint64_t *seed, struct ld_body *b, struct rt_error *err)
{
    const bool binary = set->body == LD_BINARY;
    struct sv_text *t = &b->bytes;
    size_t n[LD_INPUTS_MAX], bytes[LD_INPUTS_MAX];
    sv_text_add(t, "{\"inputs\":[");
    for (int i = 0; i < m->n_inputs; i++) {
        const struct ld_input *in = &m->input[i];
        bytes[i] = ld_input_element_bytes(in);
        if (bytes[i] == 0)
            return rt_fail(err, RT_E_UNSUPPORTED,
                           "input '%s' is of %s: send files with --body bytes, or --body raw",
                           in->name, in->datatype);
        if (!ld_input_elements(in, &n[i]) || n[i] > SIZE_MAX / 64)
            return rt_fail(err, RT_E_LIMIT, "input '%s' is too large", in->name);
        begin_input(t, in, i);
        if (binary) {
            sv_text_printf(t, ",\"parameters\":{\"binary_data_size\":%zu}}", n[i] * bytes[i]);
            continue;
        }
        sv_text_add(t, ",\"data\":[");
        for (size_t k = 0; k < n[i] && !t->failed; k++) {
            sv_text_add(t, k > 0 ? "," : "");
            put_json_value(t, in->datatype, seed);
        }
        sv_text_add(t, "]}");
    }
    sv_text_add(t, binary ? "],\"parameters\":{\"binary_data_output\":true}}" : "]}");
    const size_t json_len = t->len;
    for (int i = 0; i < m->n_inputs && binary && !t->failed; i++) {
        unsigned char *to = (void *)sv_text_reserve(t, n[i] * bytes[i]);
        for (size_t k = 0; k < n[i] && to != NULL; k++)
            put_value(to + k * bytes[i], bytes[i], m->input[i].datatype, seed);
        t->len += to != NULL ? n[i] * bytes[i] : 0;
    }
    return set_headers(set, b, binary ? "application/octet-stream" : "application/json",
                       binary ? json_len : 0, err);
}

/* One file as the only element of a BYTES tensor: its length in four bytes, then itself. */
static enum rt_status make_bytes(const struct ld_settings *set, const struct ld_model *m,
                                 const void *file, size_t len, struct ld_body *b,
                                 struct rt_error *err)
{
    const struct ld_input *in = &m->input[0];
    size_t n;
    if (m->n_inputs != 1 || strcmp(in->datatype, "BYTES") != 0)
        return rt_fail(err, RT_E_INVALID,
                       "model '%s' does not take one BYTES tensor: its first input, '%s', is of %s",
                       m->name, in->name, in->datatype);
    if (!ld_input_elements(in, &n) || n != 1 || len > UINT32_MAX)
        return rt_fail(err, RT_E_INVALID, "input '%s' does not hold exactly one file", in->name);
    const unsigned char prefix[4] = { (unsigned char)len, (unsigned char)(len >> 8),
                                      (unsigned char)(len >> 16), (unsigned char)(len >> 24) };
    sv_text_add(&b->bytes, "{\"inputs\":[");
    begin_input(&b->bytes, in, 0);
    sv_text_printf(&b->bytes,
                   ",\"parameters\":{\"binary_data_size\":%zu}}],"
                   "\"parameters\":{\"binary_data_output\":true}}",
                   len + sizeof prefix);
    const size_t json_len = b->bytes.len;
    sv_text_bytes(&b->bytes, prefix, sizeof prefix);
    sv_text_bytes(&b->bytes, file, len);
    return set_headers(set, b, "application/octet-stream", json_len, err);
}

/* The answers that lie beside a file. */
static enum rt_status read_answers(const char *path, struct ld_body *b, struct rt_error *err)
{
    char name[4096];
    for (int i = 0; i < LD_ANSWERS_MAX; i++) {
        struct ld_answer *a = &b->answer[i];
        snprintf(name, sizeof name, "%s.answer%d", path, i);
        if (i > 0 && !sv_exists(name))
            break;
        enum rt_status s = sv_file_read(name, 0, &a->p, &a->len, err);
        if (s != RT_OK)
            return s;
        b->n_answers++;
    }
    return RT_OK;
}

static enum rt_status make_file(const struct ld_settings *set, const struct ld_model *m,
                                const char *path, struct ld_body *b, struct rt_error *err)
{
    void *file;
    size_t len;
    enum rt_status s = sv_file_read(path, 0, &file, &len, err);
    if (s != RT_OK)
        return s;
    if (set->body == LD_BYTES) {
        s = make_bytes(set, m, file, len, b, err);
    } else {
        sv_text_bytes(&b->bytes, file, len);
        s = set_headers(set, b, NULL, 0, err);
    }
    rt_free(file);
    if (s == RT_OK && set->check)
        s = read_answers(path, b, err);
    return s;
}

static enum rt_status make_url(const struct ld_settings *set, const char *base,
                               const struct ld_model *m, char **out, struct rt_error *err)
{
    char path[512];
    if (set->path == NULL)
        snprintf(path, sizeof path, "v2/models/%s/%s", m->name,
                 set->body == LD_IMAGE ? "classify" : "infer");
    *out = ld_url(base, set->path != NULL ? set->path : path);
    return *out != NULL ? RT_OK : rt_fail_nomem(err, sizeof path);
}

enum rt_status ld_bodies_make(const struct ld_settings *set, const char *base, struct ld_model *m,
                              struct ld_bodies *out, struct rt_error *err)
{
    const bool files = set->body == LD_IMAGE || set->body == LD_BYTES || set->body == LD_RAW;
    uint64_t seed = (uint64_t)set->seed;
    if (files && set->data.n == 0)
        return rt_fail(err, RT_E_INVALID, "--body %s: say what to send with --data FILE",
                       ld_body_name((enum ld_body_kind)set->body));
    if (!files && set->data.n > 0)
        return rt_fail(err, RT_E_INVALID, "--data: --body %s makes its own numbers",
                       ld_body_name((enum ld_body_kind)set->body));
    if (set->check && !files)
        return rt_fail(err, RT_E_INVALID, "--check needs --data, whose answers are known");
    if (files && set->batch > 1)
        return rt_fail(err, RT_E_INVALID, "--batch goes with tensors, not with --body %s",
                       ld_body_name((enum ld_body_kind)set->body));
    if (set->body == LD_RAW && set->path == NULL)
        return rt_fail(err, RT_E_INVALID, "--body raw: say where to send it with --path");
    enum rt_status s = make_url(set, base, m, &out->url, err);
    if (s == RT_OK && (!files || set->body == LD_BYTES))
        s = ld_model_fix(m, &set->shape, set->batch, err);
    out->samples = set->batch;
    for (int i = 0; s == RT_OK && i < (files ? set->data.n : TENSOR_BODIES); i++) {
        struct ld_body *b = &out->item[out->n++];
        s = files ? make_file(set, m, set->data.item[i], b, err)
                  : make_tensors(set, m, &seed, b, err);
        if (s == RT_OK && b->bytes.failed)
            s = rt_fail_nomem(err, b->bytes.len);
    }
    return s;
}
