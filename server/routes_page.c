/* The built-in pages: /, /docs, /openapi.json and the files they ask for. Open to everybody: they
 * hold nothing that is this server's own, and ask for a key where one is needed. */
#include "server/routes.h"

#include "server/compress.h"
#include "server/page.h"

#include <string.h>

/* Whether the client has the file already: If-None-Match is a list of tags, weak ones too. */
static bool is_known(const struct sv_request *req, const struct sv_page_file *f)
{
    const char *tags = sv_request_header(req, "If-None-Match");
    return tags != NULL && (strcmp(tags, "*") == 0 || strstr(tags, f->etag) != NULL);
}

static void reply_file(struct sv_request *req, const char *name)
{
    const struct sv_page_file *f = sv_page_find(name);
    struct sv_response *res = &req->response;
    if (f == NULL) {
        sv_reply_status(res, 404, "Not Found: the page has no file '%.100s'", name);
        return;
    }
    /* To be asked for again each time, which costs one small answer: a server that was replaced
     * must not be used with the old one's page. */
    sv_response_header(res, "ETag", "%s", f->etag);
    sv_response_header(res, "Cache-Control", "no-cache");
    if (is_known(req, f)) {
        res->status = 304;
        return;
    }
    res->content_type = f->type;
    sv_response_gzip(req, f->gzip, f->len);
}

void sv_get_page(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    const char *accept = sv_request_header(req, "Accept");
    if (accept != NULL && strncmp(accept, "text/plain", 10) == 0)
        sv_get_hint(app, req, target);
    else
        reply_file(req, "index.html");
}

void sv_get_docs(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    (void)app;
    (void)target;
    reply_file(req, "docs.html");
}

void sv_get_openapi(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    (void)app;
    (void)target;
    reply_file(req, "openapi.json");
}

/* What stands where a model's name would is a file's here. */
void sv_get_page_file(struct sv_app *app, struct sv_request *req, const struct sv_target *target)
{
    (void)app;
    reply_file(req, target->model);
}
