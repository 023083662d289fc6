/* JSON text: commas, indentation, levels. */
#include "server/json_out.h"

#include "server/numbers.h"

#include <assert.h>
#include <math.h>
#include <string.h>

void sv_json_init(struct sv_json *j, FILE *f)
{
    *j = (struct sv_json){ .f = f };
}

void sv_json_init_text(struct sv_json *j, struct sv_text *t)
{
    *j = (struct sv_json){ .t = t };
}

static void write_bytes(struct sv_json *j, const char *p, size_t len)
{
    if (j->t != NULL)
        sv_text_bytes(j->t, p, len);
    else
        fwrite(p, 1, len, j->f);
}

static void put(struct sv_json *j, const char *s)
{
    write_bytes(j, s, strlen(s));
}

static void write_string(struct sv_json *j, const char *s)
{
    struct sv_text t = { 0 };
    sv_text_json_str(&t, s);
    if (t.failed)
        put(j, "\"\"");
    else
        write_bytes(j, t.p, t.len);
    if (j->t != NULL)
        j->t->failed |= t.failed;
    sv_text_reset(&t);
}

static void new_line(struct sv_json *j)
{
    put(j, "\n");
    for (int i = 0; i < j->depth; i++)
        put(j, "  ");
}

/* The comma, the line and the name in front of a value. */
static void begin(struct sv_json *j, const char *key)
{
    if (j->depth == 0)
        return;
    bool *empty = &j->level[j->depth - 1].empty;
    if (!*empty)
        put(j, ",");
    if (!j->level[j->depth - 1].inlined)
        new_line(j);
    else if (!*empty)
        put(j, " ");
    *empty = false;
    assert((key != NULL) == (j->level[j->depth - 1].close == '}'));
    if (key != NULL) {
        write_string(j, key);
        put(j, ": ");
    }
}

static void open_level(struct sv_json *j, const char *key, char bracket, char close, bool inlined)
{
    begin(j, key);
    assert(j->depth < SV_JSON_DEPTH);
    inlined |= j->depth > 0 && j->level[j->depth - 1].inlined;
    write_bytes(j, &bracket, 1);
    j->level[j->depth].close = close;
    j->level[j->depth].empty = true;
    j->level[j->depth].inlined = inlined;
    j->depth++;
}

void sv_json_object(struct sv_json *j, const char *key)
{
    open_level(j, key, '{', '}', false);
}

void sv_json_array(struct sv_json *j, const char *key)
{
    open_level(j, key, '[', ']', false);
}

void sv_json_row(struct sv_json *j, const char *key)
{
    open_level(j, key, '{', '}', true);
}

void sv_json_end(struct sv_json *j)
{
    assert(j->depth > 0);
    j->depth--;
    if (!j->level[j->depth].empty && !j->level[j->depth].inlined)
        new_line(j);
    write_bytes(j, &j->level[j->depth].close, 1);
    if (j->depth == 0)
        put(j, "\n");
}

void sv_json_string(struct sv_json *j, const char *key, const char *value)
{
    begin(j, key);
    if (value != NULL)
        write_string(j, value);
    else
        put(j, "null");
}

void sv_json_int(struct sv_json *j, const char *key, int64_t value)
{
    begin(j, key);
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    put(j, text);
}

void sv_json_bool(struct sv_json *j, const char *key, bool value)
{
    begin(j, key);
    put(j, value ? "true" : "false");
}

void sv_json_double(struct sv_json *j, const char *key, double value)
{
    char text[SV_NUMBER_ROOM];
    begin(j, key);
    if (isfinite(value))
        write_bytes(j, text, sv_print_double(text, value));
    else
        put(j, "null");
}

void sv_json_float(struct sv_json *j, const char *key, float value)
{
    char text[SV_NUMBER_ROOM];
    begin(j, key);
    if (isfinite(value))
        write_bytes(j, text, sv_print_float(text, value));
    else
        put(j, "null");
}

void sv_json_shape(struct sv_json *j, const char *key, const struct rt_shape *value)
{
    begin(j, key);
    char text[RT_SHAPE_TEXT];
    put(j, rt_shape_text(value, text));
}
