/* Which handler answers which path. */
#ifndef SERVER_ROUTES_H
#define SERVER_ROUTES_H

#include "server/app.h"
#include "server/request.h"

/* Answers req (200, 400, 404, 405 ...) or puts it to sleep. Never blocks. */
void sv_route(struct sv_app *app, struct sv_request *req);

/* When a request's headers are complete: false, and an answer, when there is no point in reading
 * its body. */
bool sv_route_admits(struct sv_app *app, struct sv_request *req);

/* What is added to every answer: to be called when one is about to be sent. */
void sv_route_answering(struct sv_app *app, struct sv_request *req);
/* Counts the request, and writes its line of the access log: when it is over. */
void sv_route_completed(struct sv_app *app, struct sv_request *req);

/* Notes in the request what a job of it cost; of several, the longest and the largest count. The
 * request must hold the model until it ends. */
void sv_account_job(struct sv_request *req, const struct sv_model *m, const struct sv_job *job);

/* The part of a path that names a model. */
struct sv_target {
    char model[256];
    int64_t version; /* 0: the newest one */
};

typedef void sv_handler(struct sv_app *app, struct sv_request *req, const struct sv_target *target);

/* The model that the target names, or the default one when it names none: a reference of the
 * caller's. When there is none, the error is written to res and NULL returned. */
struct sv_model *sv_find_model(struct sv_app *app, const struct sv_target *target,
                               struct sv_response *res);
/* sv_batcher_admit() for what a request of this route would be run by. */
bool sv_admits_job(struct sv_app *app, struct sv_request *req, const struct sv_target *target);
/* Whether new work is taken; when not, the refusal is written to res. */
bool sv_accepts_work(struct sv_app *app, struct sv_response *res);

/* Calls the handler once the body is as it was before it was compressed, if it was: at once, or on
 * a later turn of the same thread, the request having slept meanwhile. Or fills the response. */
void sv_with_body(struct sv_app *app, struct sv_request *req, const struct sv_target *target,
                  sv_handler *handler);

/* routes_v2.c: what there is, and how it is. */
sv_handler sv_get_hint, sv_get_live, sv_get_ready, sv_get_server, sv_get_models, sv_get_model,
    sv_get_model_ready, sv_get_model_stats, sv_get_all_stats, sv_get_model_config;
/* routes_control.c: operation. */
sv_handler sv_get_metrics, sv_post_index, sv_post_load, sv_post_unload, sv_post_named_repository,
    sv_get_logging, sv_post_logging;
/* routes_report.c: what a model was compiled to, and what its layers take. */
sv_handler sv_get_model_report, sv_post_model_profile;
/* routes_page.c: the built-in pages. */
sv_handler sv_get_page, sv_get_docs, sv_get_openapi, sv_get_page_file;
/* routes_infer.c and routes_classify.c: work, which sv_accepts_work() has been asked about. */
sv_handler sv_post_infer, sv_post_predict, sv_post_classify;
/* routes_v1.c: what there is, in the words of TensorFlow Serving and KServe's first protocol. */
sv_handler sv_get_v1_model, sv_get_v1_metadata, sv_post_v1_other;

#endif
