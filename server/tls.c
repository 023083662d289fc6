/* Reads PEM files and hands certificates to GnuTLS. */
#include "server/tls.h"

#include <assert.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "server/file.h"

#define CHAIN_MAX 16
#define FILE_MAX ((size_t)1 << 20)

/* A certificate and its key, as they were at some time. Those that were replaced are kept, as a
 * handshake may still be at work with them: a few kilobytes each. */
struct identity {
    struct identity *before;
    gnutls_pcert_st chain[CHAIN_MAX];
    unsigned n_chain;
    gnutls_privkey_t key;
};

struct sv_tls {
    char *cert_path, *key_path;
    pthread_mutex_t lock; /* of now */
    struct identity *now;
};

/* See sv_tls_callback(). */
static struct sv_tls *the_one;

static void identity_destroy(struct identity *id)
{
    for (unsigned i = 0; i < id->n_chain; i++)
        gnutls_pcert_deinit(&id->chain[i]);
    if (id->key != NULL)
        gnutls_privkey_deinit(id->key);
    rt_free(id);
}

static enum rt_status read_pem(const char *path, gnutls_datum_t *out, struct rt_error *err)
{
    void *bytes;
    size_t len;
    enum rt_status s = sv_file_read(path, FILE_MAX, &bytes, &len, err);
    if (s == RT_OK)
        *out = (gnutls_datum_t){ .data = bytes, .size = (unsigned)len };
    return s;
}

/* Whether the key is that of the certificate. */
static bool belong_together(struct identity *id)
{
    unsigned char of_cert[64], of_key[64];
    size_t n_cert = sizeof of_cert, n_key = sizeof of_key;
    gnutls_pubkey_t pub;
    if (gnutls_pubkey_init(&pub) < 0)
        return false;
    bool same = gnutls_pubkey_import_privkey(pub, id->key, 0, 0) >= 0 &&
                gnutls_pubkey_get_key_id(pub, GNUTLS_KEYID_USE_SHA256, of_key, &n_key) >= 0 &&
                gnutls_pubkey_get_key_id(id->chain[0].pubkey, GNUTLS_KEYID_USE_SHA256, of_cert,
                                         &n_cert) >= 0 &&
                n_cert == n_key && memcmp(of_cert, of_key, n_key) == 0;
    gnutls_pubkey_deinit(pub);
    return same;
}

static enum rt_status understand(const struct sv_tls *t, const gnutls_datum_t *cert,
                                 const gnutls_datum_t *key, struct identity *id,
                                 struct rt_error *err)
{
    unsigned n = CHAIN_MAX;
    int e = gnutls_pcert_list_import_x509_raw(id->chain, &n, cert, GNUTLS_X509_FMT_PEM, 0);
    if (e < 0)
        return rt_fail(err, RT_E_INVALID, "%s: is not a PEM certificate: %s", t->cert_path,
                       gnutls_strerror(e));
    id->n_chain = n;
    e = gnutls_privkey_init(&id->key);
    if (e >= 0)
        e = gnutls_privkey_import_x509_raw(id->key, key, GNUTLS_X509_FMT_PEM, NULL, 0);
    if (e < 0)
        return rt_fail(err, RT_E_INVALID, "%s: is not a PEM private key: %s", t->key_path,
                       gnutls_strerror(e));
    if (n == 0 || !belong_together(id))
        return rt_fail(err, RT_E_INVALID, "%s: is not the key of %s", t->key_path, t->cert_path);
    return RT_OK;
}

enum rt_status sv_tls_reload(struct sv_tls *t, struct rt_error *err)
{
    gnutls_datum_t cert = { 0 }, key = { 0 };
    struct identity *id = rt_zalloc(sizeof *id);
    enum rt_status s = id != NULL ? RT_OK : rt_fail_nomem(err, sizeof *id);
    if (s == RT_OK)
        s = read_pem(t->cert_path, &cert, err);
    if (s == RT_OK)
        s = read_pem(t->key_path, &key, err);
    if (s == RT_OK)
        s = understand(t, &cert, &key, id, err);
    rt_free(cert.data);
    if (key.data != NULL)
        gnutls_memset(key.data, 0, key.size);
    rt_free(key.data);
    if (s != RT_OK) {
        if (id != NULL)
            identity_destroy(id);
        return s;
    }
    pthread_mutex_lock(&t->lock);
    id->before = t->now;
    t->now = id;
    pthread_mutex_unlock(&t->lock);
    return RT_OK;
}

enum rt_status sv_tls_create(const char *cert_path, const char *key_path, struct sv_tls **out,
                             struct rt_error *err)
{
    struct sv_tls *t = rt_zalloc(sizeof *t);
    if (t == NULL)
        return rt_fail_nomem(err, sizeof *t);
    pthread_mutex_init(&t->lock, NULL);
    t->cert_path = rt_strdup(cert_path);
    t->key_path = rt_strdup(key_path);
    enum rt_status s =
        t->cert_path != NULL && t->key_path != NULL ? sv_tls_reload(t, err) : rt_fail_nomem(err, 0);
    if (s != RT_OK) {
        sv_tls_destroy(t);
        return s;
    }
    *out = t;
    return RT_OK;
}

void sv_tls_destroy(struct sv_tls *t)
{
    if (t == NULL)
        return;
    if (the_one == t)
        the_one = NULL;
    for (struct identity *id = t->now, *before; id != NULL; id = before) {
        before = id->before;
        identity_destroy(id);
    }
    pthread_mutex_destroy(&t->lock);
    rt_free(t->cert_path);
    rt_free(t->key_path);
    rt_free(t);
}

static int retrieve(gnutls_session_t session, const gnutls_datum_t *ca, int n_ca,
                    const gnutls_pk_algorithm_t *algorithms, int n_algorithms,
                    gnutls_pcert_st **chain, unsigned *n_chain, gnutls_privkey_t *key)
{
    (void)session, (void)ca, (void)n_ca, (void)algorithms, (void)n_algorithms;
    pthread_mutex_lock(&the_one->lock);
    struct identity *id = the_one->now;
    pthread_mutex_unlock(&the_one->lock);
    *chain = id->chain;
    *n_chain = id->n_chain;
    *key = id->key;
    return 0;
}

void *sv_tls_callback(struct sv_tls *t)
{
    assert(the_one == NULL || the_one == t);
    the_one = t;
    gnutls_certificate_retrieve_function2 *function = retrieve;
    void *pointer;
    _Static_assert(sizeof pointer == sizeof function, "functions are as wide as data");
    memcpy(&pointer, &function, sizeof pointer);
    return pointer;
}
