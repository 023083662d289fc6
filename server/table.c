/* Column widths, cutting, colour. A character counts as one column wide whatever its script. */
#include "server/table.h"

#include "runtime/rt.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define GAP 2       /* blanks in front of each column */
#define NARROWEST 8 /* a shrinking column keeps as much */

void sv_table_init(struct sv_table *t, const struct sv_column *column, int n_columns)
{
    *t = (struct sv_table){ .column = column, .n_columns = n_columns };
}

static bool is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

void sv_table_cell(struct sv_table *t, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (char *s = text; *s != '\0'; s++)
        if (is_control(*s))
            *s = '?';
    if (t->n_cells == t->room && !t->failed) {
        int room = t->room > 0 ? 2 * t->room : 16 * t->n_columns;
        char **grown = rt_realloc_array(t->cell, (size_t)room, sizeof *grown);
        t->failed = grown == NULL;
        if (grown != NULL) {
            t->cell = grown;
            t->room = room;
        }
    }
    char *copy = t->failed || text[0] == '\0' ? NULL : rt_strdup(text);
    t->failed |= copy == NULL && text[0] != '\0';
    if (t->failed)
        return;
    t->cell[t->n_cells++] = copy;
    t->n_rows = (t->n_cells + t->n_columns - 1) / t->n_columns;
}

void sv_table_reset(struct sv_table *t)
{
    for (int i = 0; i < t->n_cells; i++)
        rt_free(t->cell[i]);
    rt_free(t->cell);
    sv_table_init(t, t->column, t->n_columns);
}

static int width_of(const char *utf8)
{
    int n = 0;
    for (; *utf8 != '\0'; utf8++)
        n += ((unsigned char)*utf8 & 0xc0) != 0x80;
    return n;
}

static const char *cell_at(const struct sv_table *t, int row, int column)
{
    int i = row * t->n_columns + column;
    return i < t->n_cells && t->cell[i] != NULL ? t->cell[i] : "";
}

/* Takes from the widest column that may shrink until the line fits or none is left. */
static void fit(const struct sv_table *t, int *width, int line)
{
    int total = 0;
    for (int c = 0; c < t->n_columns; c++)
        total += width[c] > 0 ? GAP + width[c] : 0;
    while (total > line) {
        int widest = -1;
        for (int c = 0; c < t->n_columns; c++)
            if (t->column[c].shrink && width[c] > NARROWEST &&
                (widest < 0 || width[c] > width[widest]))
                widest = c;
        if (widest < 0)
            return;
        width[widest]--;
        total--;
    }
}

/* Text in a field of width columns; the last one of a line is not filled up on its right. */
static void put_field(FILE *to, const char *text, int width, bool right, bool last)
{
    int have = width_of(text);
    if (last && have == 0)
        return;
    for (int i = 0; i < GAP; i++)
        putc(' ', to);
    if (have > width) {
        int n = 0;
        for (const char *s = text; *s != '\0'; s++) {
            n += ((unsigned char)*s & 0xc0) != 0x80;
            if (n == width)
                break;
            putc(*s, to);
        }
        fputs("\xe2\x80\xa6", to); /* an ellipsis */
        return;
    }
    const int fill = last && !right ? 0 : width - have;
    if (right)
        fprintf(to, "%*s%s", fill, "", text);
    else
        fprintf(to, "%s%*s", text, fill, "");
}

void sv_table_print(const struct sv_table *t, FILE *to)
{
    if (t->failed) {
        fputs("  (out of memory)\n", to);
        return;
    }
    int width[SV_TABLE_COLUMNS] = { 0 }, last = 0;
    for (int c = 0; c < t->n_columns; c++) {
        for (int r = 0; r < t->n_rows; r++) {
            int w = width_of(cell_at(t, r, c));
            width[c] = w > width[c] ? w : width[c];
        }
        int title = width_of(t->column[c].title);
        if (width[c] > 0) {
            width[c] = width[c] > title ? width[c] : title;
            last = c;
        }
    }
    const int line = sv_terminal_width(to);
    if (line > 0)
        fit(t, width, line);
    fputs(sv_style(to, SV_BOLD), to);
    for (int c = 0; c <= last; c++)
        if (width[c] > 0)
            put_field(to, t->column[c].title, width[c], t->column[c].right, c == last);
    fprintf(to, "%s\n", sv_style(to, SV_PLAIN));
    for (int r = 0; r < t->n_rows; r++) {
        for (int c = 0; c <= last; c++)
            if (width[c] > 0)
                put_field(to, cell_at(t, r, c), width[c], t->column[c].right, c == last);
        putc('\n', to);
    }
}

int sv_terminal_width(FILE *to)
{
    int fd = fileno(to);
    struct winsize size;
    if (fd < 0 || !isatty(fd))
        return 0;
    if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return 80;
}

bool sv_terminal_colour(FILE *to)
{
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    return isatty(fileno(to)) && (no_color == NULL || no_color[0] == '\0') && term != NULL &&
           strcmp(term, "dumb") != 0;
}

const char *sv_style(FILE *to, enum sv_style style)
{
    static const char *const escape[] = {
        [SV_PLAIN] = "\x1b[0m", [SV_BOLD] = "\x1b[1m",   [SV_DIM] = "\x1b[2m",
        [SV_RED] = "\x1b[31m",  [SV_GREEN] = "\x1b[32m", [SV_YELLOW] = "\x1b[33m",
    };
    return sv_terminal_colour(to) ? escape[style] : "";
}

void sv_print_clean(const char *text, FILE *to)
{
    for (; *text != '\0'; text++)
        putc(is_control(*text) ? '?' : *text, to);
}

const char *sv_quantity(double value, const char *unit, char buf[SV_QUANTITY_TEXT])
{
    static const char *const prefix[] = { "", "k", "M", "G", "T", "P" };
    size_t p = 0;
    /* 999.5 would be shown as 1000. */
    while (fabs(value) >= 999.5 && p + 1 < sizeof prefix / sizeof prefix[0]) {
        value /= 1000;
        p++;
    }
    const int decimals = p == 0 ? 0 : fabs(value) < 9.995 ? 2 : fabs(value) < 99.95 ? 1 : 0;
    snprintf(buf, SV_QUANTITY_TEXT, "%.*f %s%s", decimals, value, prefix[p], unit);
    return buf;
}
