/* Pictures for a report: rows of bars and histograms as one SVG file. */
#ifndef SERVER_PLOT_H
#define SERVER_PLOT_H

#include "runtime/rt.h"
#include "server/text.h"

#define SV_PLOT_WIDTH 900 /* pixels; the height grows */
#define SV_PLOT_MARGIN 24

/* Begins with sv_plot_begin(); rows are put below one another; ends with sv_plot_end() or
 * sv_plot_write(). What has a form of its own is SVG added to body, with y moved below it. */
struct sv_plot {
    struct sv_text body;
    double y; /* where the next row begins */
};

/* Colours of rows, as the legend names them. */
enum sv_plot_colour { SV_PLOT_BLUE, SV_PLOT_ORANGE, SV_PLOT_GREEN };

void sv_plot_begin(struct sv_plot *p, const char *title, const char *subtitle);
void sv_plot_heading(struct sv_plot *p, const char *text);
/* One line of names for the colours 0..n). */
void sv_plot_legend(struct sv_plot *p, const char *const *name, int n);
/* share: 0 to 1, of the widest bar. text stands behind the bar. */
void sv_plot_bar(struct sv_plot *p, const char *label, double share, enum sv_plot_colour colour,
                 const char *text);
/* A label and up to three histograms side by side, in the order of the colours. */
void sv_plot_histograms(struct sv_plot *p, const char *label, const struct rt_histogram *const *h,
                        int n);
/* One line of text, with what XML takes for its own written otherwise; attributes are those of its
 * element. */
void sv_plot_text(struct sv_plot *p, double x, double y, const char *attributes, const char *s);
const char *sv_plot_colour_name(enum sv_plot_colour colour); /* "#1f5fbf" */

/* Adds the whole picture to out and frees p, in any case. */
enum rt_status sv_plot_end(struct sv_plot *p, struct sv_text *out, struct rt_error *err);
/* Refuses, before any work is done for it, a name that is none of SVG or where no file can be. */
enum rt_status sv_plot_check(const char *path, struct rt_error *err);
/* Writes the file and frees, in any case. */
enum rt_status sv_plot_write(struct sv_plot *p, const char *path, struct rt_error *err);

#endif
