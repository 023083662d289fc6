/* Tables of text with aligned columns, for a terminal or a file. */
#ifndef SERVER_TABLE_H
#define SERVER_TABLE_H

#include <stdbool.h>
#include <stdio.h>

#define SV_TABLE_COLUMNS 12

struct sv_column {
    const char *title;
    bool right;  /* aligned to the right, as numbers are */
    bool shrink; /* may be cut (with an ellipsis) where the terminal is too narrow */
};

/* Rows are kept until the table is printed, since widths follow from all of them. A column in
 * which every cell is empty is left out. */
struct sv_table {
    const struct sv_column *column; /* [n_columns], the caller's */
    int n_columns;
    int n_rows;
    char **cell; /* [row * n_columns + column]; NULL is empty */
    int n_cells, room;
    bool failed; /* out of memory: nothing is printed but that */
};

void sv_table_init(struct sv_table *t, const struct sv_column *column, int n_columns);
/* Adds the next cell, from left to right; the cell after a row's last one begins a new row.
 * Control characters are replaced, so that names from a file cannot steer the terminal. */
void sv_table_cell(struct sv_table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prints title line and rows, each indented by two blanks. On a terminal lines
 * are kept within its width, as far as columns may shrink. */
void sv_table_print(const struct sv_table *t, FILE *to);
void sv_table_reset(struct sv_table *t);

/* Columns of the terminal that `to` is; 0 when it is none. */
int sv_terminal_width(FILE *to);
/* Whether escape sequences for colour belong there: a terminal, TERM is not "dumb" and NO_COLOR is
 * not set. */
bool sv_terminal_colour(FILE *to);

enum sv_style { SV_PLAIN, SV_BOLD, SV_DIM, SV_RED, SV_GREEN, SV_YELLOW };
/* What switches a style on (SV_PLAIN: all off) there; "" where there is no colour. */
const char *sv_style(FILE *to, enum sv_style style);

/* Prints text to a stream with control characters replaced by '?'. */
void sv_print_clean(const char *text, FILE *to);

/* "1.53 MB", "640 B": three digits, powers of 1000. Returns buf. */
#define SV_QUANTITY_TEXT 32
const char *sv_quantity(double value, const char *unit, char buf[SV_QUANTITY_TEXT]);

#endif
