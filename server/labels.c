/* Reads label files. */
#include "server/labels.h"

#include <string.h>

#include "runtime/rt.h"
#include "server/file.h"
#include "server/utf8.h"

#define MAX_FILE ((size_t)16 * 1024 * 1024)

enum rt_status sv_labels_add(struct sv_labels *l, const char *label, size_t len,
                             struct rt_error *err)
{
    /* Grown at powers of two, so that the array's room follows from n. */
    if ((l->n & (l->n - 1)) == 0) {
        size_t room = l->n > 0 ? (size_t)l->n * 2 : 1;
        char **grown = rt_realloc_array(l->label, room, sizeof *grown);
        if (grown == NULL)
            return rt_fail_nomem(err, room * sizeof *grown);
        l->label = grown;
    }
    char *copy = rt_alloc(len + 1);
    if (copy == NULL)
        return rt_fail_nomem(err, len + 1);
    memcpy(copy, label, len);
    copy[len] = '\0';
    l->label[l->n++] = copy;
    return RT_OK;
}

static enum rt_status add_line(struct sv_labels *l, const char *line, size_t len,
                               struct rt_error *err)
{
    size_t bad;
    if (len > 0 && line[len - 1] == '\r')
        len--;
    if (!sv_utf8_valid(line, len, &bad) || memchr(line, '\0', len) != NULL)
        return rt_fail(err, RT_E_INVALID, "line %d is not UTF-8 text", l->n + 1);
    return sv_labels_add(l, line, len, err);
}

enum rt_status sv_labels_parse(const char *text, size_t len, struct sv_labels *out,
                               struct rt_error *err)
{
    struct sv_labels l = { 0 };
    enum rt_status s = RT_OK;
    size_t at = len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    while (at < len && s == RT_OK) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t n = end != NULL ? (size_t)(end - (text + at)) : len - at;
        s = add_line(&l, text + at, n, err);
        at += n + 1;
    }
    if (s != RT_OK) {
        sv_labels_reset(&l);
        return s;
    }
    *out = l;
    return RT_OK;
}

enum rt_status sv_labels_read(const char *path, struct sv_labels *out, struct rt_error *err)
{
    void *text;
    size_t len;
    enum rt_status s = sv_file_read(path, MAX_FILE, &text, &len, err);
    if (s != RT_OK)
        return s;
    s = sv_labels_parse(text, len, out, err);
    if (s != RT_OK && s != RT_E_NOMEM)
        rt_error_prefix(err, "%s", path);
    rt_free(text);
    return s;
}

void sv_labels_reset(struct sv_labels *l)
{
    for (int i = 0; i < l->n; i++)
        rt_free(l->label[i]);
    rt_free(l->label);
    memset(l, 0, sizeof *l);
}

const char *sv_labels_get(const struct sv_labels *l, int64_t i)
{
    return i >= 0 && i < l->n && l->label[i][0] != '\0' ? l->label[i] : NULL;
}
