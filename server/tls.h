/* The certificate that the server shows, and its key: read from files, and again while connections
 * are made. Alone knows GnuTLS. */
#ifndef SERVER_TLS_H
#define SERVER_TLS_H

#include "runtime/rt.h"

struct sv_tls;

/* Reads a certificate (with those it is signed by behind it) and its private key, both PEM.
 * RT_E_INVALID when either cannot be understood, or the key is not the certificate's. */
enum rt_status sv_tls_create(const char *cert_path, const char *key_path, struct sv_tls **out,
                             struct rt_error *err);
/* No connection may be being made any more. Takes NULL. */
void sv_tls_destroy(struct sv_tls *t);

/* Reads the files again; connections made from now on see what is in them. On failure all stays as
 * it was. One thread at a time. */
enum rt_status sv_tls_reload(struct sv_tls *t, struct rt_error *err);

/* The function that GnuTLS asks for the certificate of the one sv_tls there is: a
 * gnutls_certificate_retrieve_function2, which has no argument that could say which. */
void *sv_tls_callback(struct sv_tls *t);

/* What the protocol may be, in GnuTLS's words. */
#define SV_TLS_PRIORITIES "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

#endif
