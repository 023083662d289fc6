/* One pass over the brackets and strings of a JSON text, without recursion. */
#include "server/json_cut.h"

#include "runtime/rt.h"
#include "server/tensor_json.h"

#include <string.h>

struct walk {
    const char *p, *end;
    const char *text;
    const char *copied; /* up to here everything is in the rest */
    int depth;
    char open[SV_JSON_DEPTH_MAX + 1]; /* open[1..depth]: the brackets */
    bool inputs;                      /* the last key of the outermost object is "inputs" */
    bool data;                        /* the last key at depth 3 is "data" */
    bool key;                         /* the next string is a key, if inside an object */
    int64_t element;                  /* of the array at depth 2 */
};

static bool at_data(const struct walk *w)
{
    return w->depth == 3 && w->inputs && w->data && !w->key && w->open[1] == '{' &&
           w->open[2] == '[' && w->open[3] == '{';
}

static enum rt_status too_deep(struct rt_error *err)
{
    return rt_fail(err, RT_E_INVALID, "JSON nesting depth exceeds maximum allowed limit (%d)",
                   SV_JSON_DEPTH_MAX);
}

static enum rt_status unclosed(const struct walk *w, const char *from, const char *what,
                               struct rt_error *err)
{
    return rt_fail(err, RT_E_INVALID, "the JSON text ends inside the %s that begins at byte %zu",
                   what, (size_t)(from - w->text));
}

/* Moves from a string's opening quote to behind its closing one. */
static enum rt_status skip_string(struct walk *w, struct rt_error *err)
{
    const char *from = w->p++;
    for (;;) {
        w->p += strcspn(w->p, "\"\\");
        if (w->p >= w->end || *w->p == '\0')
            return unclosed(w, from, "string", err);
        if (*w->p == '"')
            break;
        w->p += 2;
        if (w->p >= w->end)
            return unclosed(w, from, "string", err);
    }
    w->p++;
    return RT_OK;
}

/* Moves from an array's opening bracket to behind its closing one. */
static enum rt_status skip_array(struct walk *w, struct rt_error *err)
{
    const char *from = w->p++;
    int depth = w->depth + 1;
    while (depth > w->depth) {
        w->p += strcspn(w->p, "[]\"");
        if (w->p >= w->end || *w->p == '\0')
            return unclosed(w, from, "array", err);
        if (*w->p == '"') {
            enum rt_status s = skip_string(w, err);
            if (s != RT_OK)
                return s;
            continue;
        }
        depth += *w->p++ == '[' ? 1 : -1;
        if (depth > SV_JSON_DEPTH_MAX)
            return too_deep(err);
    }
    return RT_OK;
}

static enum rt_status copy_up_to(struct walk *w, const char *to, struct sv_text *rest,
                                 struct rt_error *err)
{
    size_t n = (size_t)(to - w->copied);
    if (rest->len + n > SV_JSON_REST_MAX)
        return rt_fail(err, RT_E_LIMIT,
                       "the JSON beside the arrays of tensor data is longer than %zu bytes",
                       SV_JSON_REST_MAX);
    sv_text_bytes(rest, w->copied, n);
    w->copied = to;
    return rest->failed ? rt_fail_nomem(err, rest->len + n) : RT_OK;
}

static enum rt_status cut_out(struct walk *w, struct sv_text *rest, struct sv_cuts *cuts,
                              struct rt_error *err)
{
    if (cuts->n == cuts->room) {
        int room = cuts->room * 2 + 4;
        struct sv_cut *grown = rt_realloc_array(cuts->cut, (size_t)room, sizeof *grown);
        if (grown == NULL)
            return rt_fail_nomem(err, (size_t)room * sizeof *grown);
        cuts->cut = grown;
        cuts->room = room;
    }
    const char *from = w->p;
    enum rt_status s = skip_array(w, err);
    if (s == RT_OK)
        s = copy_up_to(w, from, rest, err);
    if (s != RT_OK)
        return s;
    cuts->cut[cuts->n++] = (struct sv_cut){
        .element = w->element,
        .from = (size_t)(from - w->text),
        .to = (size_t)(w->p - w->text),
        .at = rest->len,
    };
    sv_text_add(rest, "[]");
    w->copied = w->p;
    return RT_OK;
}

/* A string: a key that tells where we are, or a value. */
static enum rt_status pass_string(struct walk *w, struct rt_error *err)
{
    const char *from = w->p;
    enum rt_status s = skip_string(w, err);
    if (s != RT_OK || !w->key)
        return s;
    size_t n = (size_t)(w->p - from);
    if (w->depth == 1)
        w->inputs = n == 8 && memcmp(from, "\"inputs\"", n) == 0;
    else if (w->depth == 3)
        w->data = n == 6 && memcmp(from, "\"data\"", n) == 0;
    return RT_OK;
}

/* Any other byte that means something. */
static enum rt_status pass_mark(struct walk *w, struct rt_error *err)
{
    switch (*w->p++) {
    case '{':
    case '[':
        if (++w->depth > SV_JSON_DEPTH_MAX)
            return too_deep(err);
        w->open[w->depth] = w->p[-1];
        w->key = w->p[-1] == '{';
        if (w->depth == 2)
            w->element = 0;
        break;
    case '}':
    case ']':
        if (w->depth == 0)
            return rt_fail(err, RT_E_INVALID,
                           "byte %zu of the JSON text closes what was not opened",
                           (size_t)(w->p - 1 - w->text));
        w->depth--;
        w->key = false;
        break;
    case ',':
        w->key = w->depth > 0 && w->open[w->depth] == '{';
        w->element += w->depth == 2;
        break;
    default: /* ':' */
        w->key = false;
        break;
    }
    return RT_OK;
}

enum rt_status sv_json_cut(const char *text, size_t len, struct sv_text *rest, struct sv_cuts *cuts,
                           struct rt_error *err)
{
    struct walk w = { .p = text, .end = text + len, .text = text, .copied = text };
    enum rt_status s = RT_OK;
    while (s == RT_OK) {
        w.p += strcspn(w.p, "\"[]{},:");
        if (w.p >= w.end || *w.p == '\0')
            break;
        if (*w.p == '"')
            s = pass_string(&w, err);
        else if (*w.p == '[' && at_data(&w))
            s = cut_out(&w, rest, cuts, err);
        else
            s = pass_mark(&w, err);
    }
    return s == RT_OK ? copy_up_to(&w, w.end, rest, err) : s;
}

void sv_cuts_reset(struct sv_cuts *cuts)
{
    rt_free(cuts->cut);
    *cuts = (struct sv_cuts){ 0 };
}

const struct sv_cut *sv_cuts_find(const struct sv_cuts *cuts, int64_t element)
{
    for (int i = 0; i < cuts->n; i++)
        if (cuts->cut[i].element == element)
            return &cuts->cut[i];
    return NULL;
}

size_t sv_cuts_offset(const struct sv_cuts *cuts, size_t at)
{
    size_t removed = 0;
    for (int i = 0; i < cuts->n && cuts->cut[i].at < at; i++)
        removed += cuts->cut[i].to - cuts->cut[i].from - 2;
    return at + removed;
}
