/* One request at a time, for what is asked before and after the load. */
#ifndef LOAD_FETCH_H
#define LOAD_FETCH_H

#include "runtime/rt.h"
#include "server/text.h"

#include <curl/curl.h>

/* GETs url, or POSTs post[0..post_len) when that is not NULL, with these headers (NULL: none). The
 * body goes to
 * *out, which is reset first and is the caller's in any case. RT_E_IO names the URL and what went
 * wrong, an answer other than 200 included. */
enum rt_status ld_fetch(const char *url, const struct curl_slist *headers, const char *post,
                        size_t post_len, struct sv_text *out, struct rt_error *err);

/* "base/path" for rt_free(); NULL when out of memory. */
char *ld_url(const char *base, const char *path);

#endif
