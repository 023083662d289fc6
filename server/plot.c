/* SVG, row by row. */
#include "server/plot.h"

#include "server/file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WIDTH SV_PLOT_WIDTH
#define MARGIN SV_PLOT_MARGIN
#define LABEL 300 /* width of the labels */
#define ROW 20
#define BAR_MAX 360
#define HISTOGRAM 150
#define HISTOGRAM_TALL 40

static const char *const colour_name[] = { "#1f5fbf", "#c76a15", "#1c7a3d" };
#define N_COLOURS ((int)(sizeof colour_name / sizeof colour_name[0]))

const char *sv_plot_colour_name(enum sv_plot_colour colour)
{
    return colour_name[colour];
}

void sv_plot_text(struct sv_plot *p, double x, double y, const char *attributes, const char *s)
{
    sv_text_printf(&p->body, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, attributes);
    sv_text_xml(&p->body, s);
    sv_text_add(&p->body, "</text>\n");
}

/* The end of a name tells more than its beginning. */
static void label_at(struct sv_plot *p, double y, const char *label)
{
    const size_t most = 44, len = strlen(label);
    char cut[64];
    /* Not in the middle of a character. */
    const char *from = len > most ? label + len - most : label;
    while (from > label && ((unsigned char)*from & 0xc0) == 0x80)
        from++;
    snprintf(cut, sizeof cut, "%s%s", from > label ? "\u2026" : "", from);
    sv_plot_text(p, MARGIN + LABEL - 8, y, "text-anchor=\"end\"", cut);
}

void sv_plot_begin(struct sv_plot *p, const char *title, const char *subtitle)
{
    *p = (struct sv_plot){ .y = MARGIN + 14 };
    sv_plot_text(p, MARGIN, p->y, "font-size=\"18\" font-weight=\"bold\"", title);
    p->y += 22;
    sv_plot_text(p, MARGIN, p->y, "fill=\"#566072\"", subtitle);
    p->y += 14;
}

void sv_plot_heading(struct sv_plot *p, const char *text)
{
    p->y += 28;
    sv_plot_text(p, MARGIN, p->y, "font-size=\"14\" font-weight=\"bold\"", text);
    p->y += 10;
}

void sv_plot_legend(struct sv_plot *p, const char *const *name, int n)
{
    p->y += 14;
    for (int i = 0; i < n; i++) {
        const double x = MARGIN + LABEL + i * (HISTOGRAM + 20.0);
        sv_text_printf(&p->body,
                       "<rect x=\"%.1f\" y=\"%.1f\" width=\"10\" height=\"10\" fill=\"%s\"/>\n", x,
                       p->y - 9, colour_name[i % N_COLOURS]);
        sv_plot_text(p, x + 15, p->y, "fill=\"#566072\"", name[i]);
    }
    p->y += 8;
}

void sv_plot_bar(struct sv_plot *p, const char *label, double share, enum sv_plot_colour colour,
                 const char *text)
{
    const double width = share > 0 ? BAR_MAX * (share < 1 ? share : 1) : 0;
    label_at(p, p->y + 14, label);
    sv_text_printf(
        &p->body, "<rect x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" rx=\"2\" fill=\"%s\"/>\n",
        MARGIN + LABEL, p->y + 3, width, ROW - 6, colour_name[colour]);
    sv_plot_text(p, MARGIN + LABEL + width + 6, p->y + 14, "fill=\"#1a1f29\"", text);
    p->y += ROW;
}

static void histogram_at(struct sv_plot *p, double x, const struct rt_histogram *h,
                         const char *colour)
{
    const double step = (double)HISTOGRAM / RT_HISTOGRAM_BINS;
    const double bottom = p->y + HISTOGRAM_TALL;
    char range[64];
    int most = 1;
    for (int i = 0; i < RT_HISTOGRAM_BINS; i++)
        most = h->count[i] > most ? h->count[i] : most;
    sv_text_printf(&p->body, "<path stroke=\"#d5d9e0\" d=\"M%.1f %.1fh%d\"/>\n", x, bottom,
                   HISTOGRAM);
    for (int i = 0; i < RT_HISTOGRAM_BINS; i++) {
        const double tall = (double)h->count[i] / most * (HISTOGRAM_TALL - 6);
        if (h->count[i] > 0)
            sv_text_printf(&p->body,
                           "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" "
                           "fill=\"%s\"/>\n",
                           x + i * step, bottom - tall, step * 0.85, tall, colour);
    }
    snprintf(range, sizeof range, "%.3g \u2026 %.3g", (double)h->min, (double)h->max);
    sv_plot_text(p, x, bottom + 12, "font-size=\"10\" fill=\"#566072\"", range);
}

void sv_plot_histograms(struct sv_plot *p, const char *label, const struct rt_histogram *const *h,
                        int n)
{
    label_at(p, p->y + HISTOGRAM_TALL, label);
    for (int i = 0; i < n; i++)
        histogram_at(p, MARGIN + LABEL + i * (HISTOGRAM + 20.0), h[i], colour_name[i % N_COLOURS]);
    p->y += HISTOGRAM_TALL + 20;
}

enum rt_status sv_plot_end(struct sv_plot *p, struct sv_text *out, struct rt_error *err)
{
    const double height = p->y + MARGIN;
    sv_text_printf(out,
                   "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%.0f\" "
                   "viewBox=\"0 0 %d %.0f\" font-family=\"system-ui, DejaVu Sans, sans-serif\" "
                   "font-size=\"12\" fill=\"#1a1f29\">\n"
                   "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n",
                   WIDTH, height, WIDTH, height);
    sv_text_bytes(out, p->body.p, p->body.len);
    sv_text_add(out, "</svg>\n");
    enum rt_status s = out->failed || p->body.failed ? rt_fail_nomem(err, p->body.len) : RT_OK;
    sv_text_reset(&p->body);
    return s;
}

enum rt_status sv_plot_check(const char *path, struct rt_error *err)
{
    const size_t len = strlen(path);
    if (len < 4 || strcmp(path + len - 4, ".svg") != 0)
        return rt_fail(err, RT_E_INVALID,
                       "--plot %s: the picture is SVG, its name has to end in .svg", path);
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL ? rt_strdup(".") : rt_strdup(path);
    if (folder == NULL)
        return rt_fail_nomem(err, len);
    if (slash != NULL)
        folder[slash - path + 1] = '\0';
    const int e = access(folder, W_OK) == 0 ? 0 : errno;
    rt_free(folder);
    return e == 0 ? RT_OK
                  : rt_fail(err, RT_E_IO, "--plot %s: there can be no file: %s", path, strerror(e));
}

enum rt_status sv_plot_write(struct sv_plot *p, const char *path, struct rt_error *err)
{
    struct sv_text t = { 0 };
    enum rt_status s = sv_plot_end(p, &t, err);
    if (s == RT_OK)
        s = sv_file_write(path, t.p, t.len, err);
    sv_text_reset(&t);
    return s;
}
