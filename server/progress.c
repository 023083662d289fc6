/* One line that is drawn over itself. */
#include "server/progress.h"

#include "server/clock.h"
#include "server/table.h"

#include <stdio.h>

#define BAR 24                   /* columns */
#define LARGE ((size_t)16 << 20) /* bytes of a model that takes a while */
#define PERIOD (SV_NS_PER_SECOND / 10)

void sv_progress_begin(struct sv_progress *p, const char *what)
{
    *p = (struct sv_progress){ .what = what, .shown = sv_terminal_width(stderr) > 60 };
}

void sv_progress_show(struct sv_progress *p, double share, const char *detail)
{
    const uint64_t now = p->shown ? sv_now_ns() : 0;
    if (!p->shown || now < p->next)
        return;
    p->next = now + PERIOD;
    const int full = share > 1 ? BAR : share > 0 ? (int)(share * BAR) : 0;
    fprintf(stderr, "\r%s ", p->what);
    fputs(sv_style(stderr, SV_GREEN), stderr);
    for (int i = 0; i < BAR; i++)
        fputs(i < full ? "\u2588" : "\u2591", stderr);
    fprintf(stderr, "%s %3d %% ", sv_style(stderr, SV_PLAIN), (int)(share * 100));
    if (detail != NULL) {
        /* What does not fit would begin a second line, which is not drawn over. */
        char cut[32];
        snprintf(cut, sizeof cut, "%s", detail);
        sv_print_clean(cut, stderr);
    }
    fputs("\x1b[K", stderr);
    fflush(stderr);
}

void sv_progress_loading(void *user, size_t done, size_t total)
{
    struct sv_progress *p = user;
    char of[SV_QUANTITY_TEXT];
    if (total < LARGE)
        return;
    if (done == total)
        sv_progress_end(p);
    else
        sv_progress_show(p, (double)done / (double)total, sv_quantity((double)total, "B", of));
}

void sv_progress_end(struct sv_progress *p)
{
    if (p->shown && p->next > 0)
        fputs("\r\x1b[K", stderr);
    p->next = 0;
}
