/* Compressed bodies both ways: Content-Encoding of requests, Accept-Encoding for answers. Alone
 * knows zlib's streams. */
#ifndef SERVER_COMPRESS_H
#define SERVER_COMPRESS_H

#include "server/request.h"

/* Whether the body came as gzip or deflate. False: as something else, and the response is filled
 * (415). */
bool sv_request_coding(struct sv_request *req, bool *compressed);

/* Puts the inflated body in the place of one that came as gzip or deflate (either container under
 * either name), so that handlers see no difference. No more memory than max_body bytes is ever
 * taken: RT_E_LIMIT when more would come of it. RT_E_INVALID, RT_E_NOMEM, RT_E_BUSY when
 * req->hold says so; the body is then what it was. On any thread that has the request to itself. */
enum rt_status sv_request_inflate(struct sv_request *req, size_t max_body, struct rt_error *err);

/* What a client prefers of what can be sent. */
enum sv_coding { SV_CODING_IDENTITY, SV_CODING_GZIP, SV_CODING_DEFLATE };

/* From the value of Accept-Encoding (NULL: none): the highest q wins, the first one on ties; what
 * cannot be understood is skipped. */
enum sv_coding sv_accepted_coding(const char *accept);

/* Compresses the body of an answer, where the client says that it takes that and it is worth the
 * time: from 1 KB of text on; the bytes of tensors hardly shrink. Without memory it stays as it is.
 * Only while headers may be asked for. */
void sv_response_deflate(struct sv_request *req);
/* The same for a client that prefers this coding, at any time and on any thread. Once done, the
 * other does nothing. */
void sv_response_deflate_as(struct sv_response *res, enum sv_coding coding);

/* Answers with what is stored as gzip[0..len), which lives as long as the program: as it is where
 * the client prefers that, else inflated. */
void sv_response_gzip(struct sv_request *req, const void *gzip, size_t len);

#endif
