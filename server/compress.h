/* Compressed bodies both ways: Content-Encoding of requests, Accept-Encoding for answers. Alone
 * knows zlib's streams. */
#ifndef SERVER_COMPRESS_H
#define SERVER_COMPRESS_H

#include "server/request.h"

/* Puts the inflated body in the place of one that came as gzip or deflate (either container under
 * either name), so that handlers see no difference. At most max_body bytes come of it, and no more
 * memory than that is ever taken. False: the response is filled with what is wrong (400, 413, 415
 * or 503). */
bool sv_request_inflate(struct sv_request *req, size_t max_body);

/* Compresses the body of an answer where the client says that it takes that and it is worth the
 * time: from 1 KB of text on; the bytes of tensors hardly shrink. Without memory it stays as it is.
 * Only while headers may be asked for. */
void sv_response_deflate(struct sv_request *req);

/* Answers with what is stored as gzip[0..len), which lives as long as the program: as it is where
 * the client prefers that, else inflated. */
void sv_response_gzip(struct sv_request *req, const void *gzip, size_t len);

/* What a client prefers of what can be sent. */
enum sv_coding { SV_CODING_IDENTITY, SV_CODING_GZIP, SV_CODING_DEFLATE };

/* From the value of Accept-Encoding (NULL: none): the highest q wins, the first one on ties; what
 * cannot be understood is skipped. */
enum sv_coding sv_accepted_coding(const char *accept);

#endif
