/* JSON text: commas, indentation, levels. */
#include "server/json_out.h"

#include "server/numbers.h"
#include "server/text.h"

#include <assert.h>
#include <math.h>

void sv_json_init(struct sv_json *j, FILE *f)
{
    *j = (struct sv_json){ .f = f };
}

static void write_string(FILE *f, const char *s)
{
    struct sv_text t = { 0 };
    sv_text_json_str(&t, s);
    if (t.failed)
        fputs("\"\"", f);
    else
        fwrite(t.p, 1, t.len, f);
    sv_text_reset(&t);
}

static void new_line(struct sv_json *j)
{
    putc('\n', j->f);
    for (int i = 0; i < j->depth; i++)
        fputs("  ", j->f);
}

/* The comma, the line and the name in front of a value. */
static void begin(struct sv_json *j, const char *key)
{
    if (j->depth == 0)
        return;
    bool *empty = &j->level[j->depth - 1].empty;
    if (!*empty)
        putc(',', j->f);
    if (!j->level[j->depth - 1].inlined)
        new_line(j);
    else if (!*empty)
        putc(' ', j->f);
    *empty = false;
    assert((key != NULL) == (j->level[j->depth - 1].close == '}'));
    if (key != NULL) {
        write_string(j->f, key);
        fputs(": ", j->f);
    }
}

static void open_level(struct sv_json *j, const char *key, char bracket, char close, bool inlined)
{
    begin(j, key);
    assert(j->depth < SV_JSON_DEPTH);
    inlined |= j->depth > 0 && j->level[j->depth - 1].inlined;
    putc(bracket, j->f);
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
    putc(j->level[j->depth].close, j->f);
    if (j->depth == 0)
        putc('\n', j->f);
}

void sv_json_string(struct sv_json *j, const char *key, const char *value)
{
    begin(j, key);
    if (value != NULL)
        write_string(j->f, value);
    else
        fputs("null", j->f);
}

void sv_json_int(struct sv_json *j, const char *key, int64_t value)
{
    begin(j, key);
    fprintf(j->f, "%lld", (long long)value);
}

void sv_json_bool(struct sv_json *j, const char *key, bool value)
{
    begin(j, key);
    fputs(value ? "true" : "false", j->f);
}

void sv_json_double(struct sv_json *j, const char *key, double value)
{
    char text[SV_NUMBER_ROOM];
    begin(j, key);
    if (isfinite(value))
        fwrite(text, 1, sv_print_double(text, value), j->f);
    else
        fputs("null", j->f);
}

void sv_json_float(struct sv_json *j, const char *key, float value)
{
    char text[SV_NUMBER_ROOM];
    begin(j, key);
    if (isfinite(value))
        fwrite(text, 1, sv_print_float(text, value), j->f);
    else
        fputs("null", j->f);
}

void sv_json_shape(struct sv_json *j, const char *key, const struct rt_shape *value)
{
    begin(j, key);
    char text[RT_SHAPE_TEXT];
    fputs(rt_shape_text(value, text), j->f);
}
