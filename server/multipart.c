/* Boundaries and part headers (RFC 7578). */
#include "server/multipart.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char form_data[] = "multipart/form-data";

bool sv_is_multipart(const char *content_type)
{
    return content_type != NULL && strncasecmp(content_type, form_data, sizeof form_data - 1) == 0;
}

/* The value of key in "...; key=value; key2=\"value\"", cut to room - 1 bytes; false: not there. */
static bool parameter(const char *p, const char *end, const char *key, char *out, size_t room)
{
    size_t key_len = strlen(key);
    while (p < end) {
        if (*p == '"') { /* a quoted value, which may hold anything */
            for (p++; p < end && *p != '"'; p++)
                p += *p == '\\' && p + 1 < end;
            p++;
            continue;
        }
        if (*p++ != ';')
            continue;
        while (p < end && (*p == ' ' || *p == '\t'))
            p++;
        if ((size_t)(end - p) <= key_len || strncasecmp(p, key, key_len) != 0 || p[key_len] != '=')
            continue;
        p += key_len + 1;
        bool quoted = p < end && *p == '"';
        p += quoted;
        size_t n = 0;
        while (p < end && (quoted ? *p != '"' : *p != ';' && *p != ' ')) {
            if (quoted && *p == '\\' && p + 1 < end && (p[1] == '"' || p[1] == '\\'))
                p++;
            if (n + 1 < room)
                out[n++] = *p;
            p++;
        }
        out[n] = '\0';
        return true;
    }
    return false;
}

enum rt_status sv_parts_begin(struct sv_parts *p, const char *content_type, const char *body,
                              size_t len, struct rt_error *err)
{
    char boundary[72];
    if (!parameter(content_type, content_type + strlen(content_type), "boundary", boundary,
                   sizeof boundary) ||
        boundary[0] == '\0' || strlen(boundary) > 70)
        return rt_fail(err, RT_E_INVALID,
                       "Content-Type multipart/form-data needs a boundary of 1 to 70 characters");
    p->delimiter_len = (size_t)snprintf(p->delimiter, sizeof p->delimiter, "\r\n--%s", boundary);
    p->end = body + len;
    /* The first delimiter needs no line end in front of it. */
    const char *bare = p->delimiter + 2;
    size_t bare_len = p->delimiter_len - 2;
    p->at = len >= bare_len && memcmp(body, bare, bare_len) == 0
                ? body
                : memmem(body, len, p->delimiter, p->delimiter_len);
    if (p->at == NULL)
        return rt_fail(err, RT_E_INVALID, "the form's boundary '%s' does not occur in the body",
                       boundary);
    p->at += p->at == body ? bare_len : p->delimiter_len;
    return RT_OK;
}

static enum rt_status cut_short(struct rt_error *err)
{
    return rt_fail(err, RT_E_INVALID, "the multipart body ends in the middle of a part");
}

/* What follows "name:" on a line, behind spaces; NULL when it begins with another name. */
static const char *value_of(const char *line, const char *eol, const char *name)
{
    size_t len = strlen(name);
    if ((size_t)(eol - line) < len || strncasecmp(line, name, len) != 0)
        return NULL;
    line += len;
    while (line < eol && (*line == ' ' || *line == '\t'))
        line++;
    return line;
}

static void read_header(struct sv_part *part, const char *line, const char *eol)
{
    const char *v = value_of(line, eol, "Content-Disposition:");
    if (v != NULL) {
        part->has_file_name =
            parameter(v, eol, "filename", part->file_name, sizeof part->file_name);
        if (!parameter(v, eol, "name", part->field, sizeof part->field))
            part->field[0] = '\0';
    }
    v = value_of(line, eol, "Content-Type:");
    if (v != NULL)
        part->is_image = eol - v >= 6 && strncasecmp(v, "image/", 6) == 0;
}

/* p->at is behind a delimiter here: "--" closes the form, a line end begins a part. */
enum rt_status sv_parts_next(struct sv_parts *p, struct sv_part *out, bool *more,
                             struct rt_error *err)
{
    *more = false;
    if (p->end - p->at >= 2 && memcmp(p->at, "--", 2) == 0)
        return RT_OK;
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\t'))
        p->at++;
    if (p->end - p->at < 2 || memcmp(p->at, "\r\n", 2) != 0)
        return cut_short(err);
    /* The line end stays, so that headers end in an empty line even when there are none. */
    const char *headers = p->at;
    const char *blank = memmem(headers, (size_t)(p->end - headers), "\r\n\r\n", 4);
    if (blank == NULL)
        return cut_short(err);
    const char *bytes = blank + 4;
    /* An empty part's delimiter begins with the line end of its headers. */
    const char *from = bytes - 2;
    const char *next = memmem(from, (size_t)(p->end - from), p->delimiter, p->delimiter_len);
    if (next == NULL)
        return cut_short(err);
    *out = (struct sv_part){ .bytes = bytes, .len = next > bytes ? (size_t)(next - bytes) : 0 };
    for (const char *line = headers + 2; line < blank;) {
        const char *eol = memmem(line, (size_t)(blank + 2 - line), "\r\n", 2);
        read_header(out, line, eol);
        line = eol + 2;
    }
    p->at = next + p->delimiter_len;
    *more = true;
    return RT_OK;
}
