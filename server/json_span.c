/* Brackets, strings, commas; no recursion. */
#include "server/json_span.h"

#include "server/tensor_json.h"

#include <string.h>

static const char *skip_space(const char *p)
{
    return p + strspn(p, " \t\r\n");
}

/* From a string's opening quote to behind its closing one; NULL when there is none before end. */
static const char *skip_string(const char *p, const char *end)
{
    for (p++;; p += 2) {
        p += strcspn(p, "\"\\");
        if (p >= end || *p == '\0')
            return NULL;
        if (*p == '"')
            return p + 1;
        if (p + 1 >= end)
            return NULL;
    }
}

/* From the first byte of a value to behind it, in text whose brackets and strings are whole. */
static const char *skip_value(const char *p)
{
    int depth = 0;
    if (*p != '[' && *p != '{' && *p != '"')
        return p + strcspn(p, " \t\r\n,:[]{}\"");
    do {
        if (*p == '"') {
            for (p++; *(p += strcspn(p, "\"\\")) != '"'; p += 2)
                continue;
            p++;
        } else {
            depth += *p == '[' || *p == '{' ? 1 : -1;
            p++;
        }
        if (depth > 0)
            p += strcspn(p, "[]{}\"");
    } while (depth > 0);
    return p;
}

enum rt_status sv_span_document(const char *text, size_t len, struct sv_span *out,
                                struct rt_error *err)
{
    char open[SV_JSON_DEPTH_MAX];
    int depth = 0;
    const char *end = text + len, *p = skip_space(text), *from = p;
    if (p >= end)
        return rt_fail(err, RT_E_INVALID, "the body is empty: a JSON object is wanted");
    if (*p != '{' && *p != '[')
        return rt_fail(err, RT_E_INVALID, "the body is not valid JSON: it must be an object");
    do {
        if (*p == '"') {
            const char *after = skip_string(p, end);
            if (after == NULL)
                return rt_fail(err, RT_E_INVALID,
                               "the body is not valid JSON: the string at byte %zu has no end",
                               (size_t)(p - text));
            p = after;
        } else if (*p == '[' || *p == '{') {
            if (depth == SV_JSON_DEPTH_MAX)
                return rt_fail(err, RT_E_INVALID,
                               "JSON nesting depth exceeds maximum allowed limit (%d)",
                               SV_JSON_DEPTH_MAX);
            open[depth++] = *p++;
        } else {
            /* NOLINTNEXTLINE(clang-analyzer-core.*): below depth it was written */
            if (open[--depth] != (*p == ']' ? '[' : '{'))
                return rt_fail(err, RT_E_INVALID,
                               "the body is not valid JSON: '%c' at byte %zu closes '%c'", *p,
                               (size_t)(p - text), open[depth]);
            p++;
        }
        if (depth > 0)
            p += strcspn(p, "[]{}\"");
        if (depth > 0 && (p >= end || *p == '\0'))
            return rt_fail(err, RT_E_INVALID, "the body is not valid JSON: it ends too early");
    } while (depth > 0);
    *out = (struct sv_span){ from, (size_t)(p - from) };
    p = skip_space(p);
    if (p < end)
        return rt_fail(err, RT_E_INVALID,
                       "the body is not valid JSON: nothing may follow at byte %zu",
                       (size_t)(p - text));
    return RT_OK;
}

bool sv_spans_begin(struct sv_spans *s, const char *text, struct sv_span v)
{
    *s = (struct sv_spans){ .text = text, .at = v.p + 1, .object = *v.p == '{' };
    return *v.p == '{' || *v.p == '[';
}

static enum rt_status expected(const struct sv_spans *s, const char *p, const char *what,
                               struct rt_error *err)
{
    return rt_fail(err, RT_E_INVALID, "the body is not valid JSON: %s expected at byte %zu", what,
                   (size_t)(p - s->text));
}

enum rt_status sv_spans_next(struct sv_spans *s, struct sv_span *key, struct sv_span *value,
                             bool *more, struct rt_error *err)
{
    const char *p = skip_space(s->at);
    *more = *p != ']' && *p != '}';
    if (!*more) {
        s->at = p;
        return RT_OK;
    }
    if (s->begun && *p++ != ',')
        return expected(s, p - 1, "','", err);
    s->begun = true;
    p = skip_space(p);
    if (s->object) {
        if (*p != '"')
            return expected(s, p, "the name of a member", err);
        const char *after = skip_value(p);
        *key = (struct sv_span){ p, (size_t)(after - p) };
        p = skip_space(after);
        if (*p++ != ':')
            return expected(s, p - 1, "':'", err);
        p = skip_space(p);
    }
    const char *after = *p == ']' || *p == '}' ? p : skip_value(p);
    if (after == p)
        return expected(s, p, "a value", err);
    *value = (struct sv_span){ p, (size_t)(after - p) };
    s->at = after;
    return RT_OK;
}

bool sv_span_is(struct sv_span v, const char *word)
{
    size_t n = strlen(word);
    return v.len == n + 2 && *v.p == '"' && memcmp(v.p + 1, word, n) == 0;
}
