/* A growing buffer and the writing of JSON strings. */
#include "server/text.h"

#include "runtime/rt.h"
#include "server/numbers.h"
#include "server/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void sv_text_reset(struct sv_text *t)
{
    rt_free(t->p);
    *t = (struct sv_text){ 0 };
}

char *sv_text_reserve(struct sv_text *t, size_t n)
{
    if (t->failed)
        return NULL;
    if (t->p != NULL && n <= t->room - t->len)
        return t->p + t->len;
    size_t room, need;
    if (!rt_add_size(t->len, n, &need) || !rt_add_size(need, need / 2 + 256, &room)) {
        t->failed = true;
        return NULL;
    }
    char *grown = rt_realloc_array(t->p, room, 1);
    if (grown == NULL) {
        t->failed = true;
        return NULL;
    }
    t->p = grown;
    t->room = room;
    return t->p + t->len;
}

void sv_text_bytes(struct sv_text *t, const void *bytes, size_t len)
{
    char *to = sv_text_reserve(t, len);
    if (to == NULL || len == 0)
        return;
    memcpy(to, bytes, len);
    t->len += len;
}

void sv_text_add(struct sv_text *t, const char *s)
{
    sv_text_bytes(t, s, strlen(s));
}

void sv_text_printf(struct sv_text *t, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *to = n >= 0 ? sv_text_reserve(t, (size_t)n + 1) : NULL;
    if (to != NULL) {
        vsnprintf(to, (size_t)n + 1, fmt, again);
        t->len += (size_t)n;
    }
    va_end(again);
    va_end(ap);
}

void sv_text_json(struct sv_text *t, const char *s, size_t len)
{
    static const char letter[0x20] = {
        ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r',
    };
    const char *p = s, *end = s + len;
    sv_text_bytes(t, "\"", 1);
    while (p < end) {
        const char *plain = p;
        size_t n = 0;
        while (p < end && (unsigned char)*p >= 0x20 && *p != '"' && *p != '\\' &&
               (n = sv_utf8_character(p, (size_t)(end - p))) != 0)
            p += n;
        sv_text_bytes(t, plain, (size_t)(p - plain));
        if (p == end)
            break;
        unsigned char c = (unsigned char)*p;
        if (c == '"' || c == '\\')
            sv_text_printf(t, "\\%c", c);
        else if (c < 0x20 && letter[c] != 0)
            sv_text_printf(t, "\\%c", letter[c]);
        else if (c < 0x20)
            sv_text_printf(t, "\\u%04x", c);
        else
            sv_text_add(t, "\xef\xbf\xbd");
        p++;
    }
    sv_text_bytes(t, "\"", 1);
}

void sv_text_json_str(struct sv_text *t, const char *s)
{
    sv_text_json(t, s, strlen(s));
}

void sv_text_xml(struct sv_text *t, const char *s)
{
    for (; *s != '\0'; s++) {
        if (*s == '<')
            sv_text_add(t, "&lt;");
        else if (*s == '>')
            sv_text_add(t, "&gt;");
        else if (*s == '&')
            sv_text_add(t, "&amp;");
        else
            sv_text_bytes(t, (unsigned char)*s < 0x20 && *s != '\n' ? "?" : s, 1);
    }
}

void sv_text_int(struct sv_text *t, int64_t v)
{
    char *to = sv_text_reserve(t, SV_NUMBER_ROOM);
    if (to != NULL)
        t->len += sv_print_int(to, v);
}

void sv_text_uint(struct sv_text *t, uint64_t v)
{
    char *to = sv_text_reserve(t, SV_NUMBER_ROOM);
    if (to != NULL)
        t->len += sv_print_uint(to, v);
}

void sv_text_float(struct sv_text *t, float v)
{
    char *to = sv_text_reserve(t, SV_NUMBER_ROOM);
    if (to != NULL)
        t->len += sv_print_float(to, v);
}
