/* libcurl's easy interface, once. */
#include "tests/load/fetch.h"

#include "runtime/mem.h"

#include <stdio.h>
#include <string.h>

#define PATIENCE 30L /* seconds */
#define QUOTED 200   /* bytes of an answer that says no */

char *ld_url(const char *base, const char *path)
{
    const size_t base_len = strlen(base), path_len = strlen(path);
    char *url = rt_alloc(base_len + path_len + 2);
    if (url == NULL)
        return NULL;
    const size_t keep = base_len > 0 && base[base_len - 1] == '/' ? base_len - 1 : base_len;
    memcpy(url, base, keep);
    url[keep] = '/';
    memcpy(url + keep + 1, path + (path[0] == '/'), path_len + 1 - (path[0] == '/'));
    return url;
}

static size_t take(char *p, size_t size, size_t n, void *to)
{
    sv_text_bytes(to, p, size * n);
    return size * n;
}

enum rt_status ld_fetch(const char *url, const struct curl_slist *headers, const char *post,
                        size_t post_len, struct sv_text *out, struct rt_error *err)
{
    char why[CURL_ERROR_SIZE] = "";
    long status = 0;
    CURL *c = curl_easy_init();
    if (c == NULL)
        return rt_fail_nomem(err, 1);
    sv_text_reset(out);
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_TIMEOUT, PATIENCE);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, out);
    if (post != NULL) {
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)post_len);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, post);
    }
    const CURLcode code = curl_easy_perform(c);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(c);
    if (code != CURLE_OK)
        return rt_fail(err, RT_E_IO, "%s: %s", url,
                       why[0] != '\0' ? why : curl_easy_strerror(code));
    if (out->failed)
        return rt_fail_nomem(err, out->len);
    if (status != 200)
        return rt_fail(err, RT_E_IO, "%s: status %ld: %.*s", url, status,
                       (int)(out->len < QUOTED ? out->len : QUOTED), out->len > 0 ? out->p : "");
    return RT_OK;
}
