/* The pages that the server answers with itself: files of server/page/, compressed and made part of
 * the program by server/page/embed.sh. */
#ifndef SERVER_PAGE_H
#define SERVER_PAGE_H

#include <stddef.h>

struct sv_page_file {
    const char *name; /* "index.html" */
    const char *type; /* of its content */
    const char *etag; /* with its quotes: changes with the content */
    const unsigned char *gzip;
    size_t len; /* of gzip */
};

/* All files, ending with one whose name is NULL. */
extern const struct sv_page_file sv_page_files[];

/* NULL when there is none of that name. */
const struct sv_page_file *sv_page_find(const char *name);

#endif
