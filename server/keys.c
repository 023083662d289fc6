/* Reads keys and compares them in constant time. */
#include "server/keys.h"

#include <pthread.h>
#include <string.h>

#include "server/file.h"

#define KEY_MIN 8
#define KEY_MAX 512
#define FILE_MAX ((size_t)1 << 20)

/* Padded with zeros, so that every comparison looks at all of it. */
struct key {
    unsigned char text[KEY_MAX];
};

struct sv_keys {
    char *path;
    pthread_rwlock_t lock;
    struct key *key; /* key[0..n) */
    int n;
};

static enum rt_status read_line(const char *path, int line, const char *text, size_t len,
                                struct key *out, struct rt_error *err)
{
    if (len < KEY_MIN || len > KEY_MAX)
        return rt_fail(err, RT_E_INVALID, "%s: line %d: a key has %d to %d characters, not %zu",
                       path, line, KEY_MIN, KEY_MAX, len);
    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return rt_fail(err, RT_E_INVALID,
                           "%s: line %d: character %zu is neither a letter, a digit nor another "
                           "visible ASCII character",
                           path, line, i + 1);
    memset(out, 0, sizeof *out);
    memcpy(out->text, text, len);
    return RT_OK;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static enum rt_status parse(const char *path, const char *text, struct key **out, int *n,
                            struct rt_error *err)
{
    struct key *list = NULL;
    enum rt_status s = RT_OK;
    *n = 0;
    for (int line = 1; *text != '\0' && s == RT_OK; line++) {
        size_t len = strcspn(text, "\n");
        const char *next = text + len + (text[len] == '\n');
        for (; len > 0 && is_blank(text[0]); len--)
            text++;
        while (len > 0 && is_blank(text[len - 1]))
            len--;
        if (len > 0 && text[0] != '#') {
            struct key *grown = rt_realloc_array(list, (size_t)*n + 1, sizeof *grown);
            if (grown == NULL) {
                s = rt_fail_nomem(err, sizeof *grown);
                break;
            }
            list = grown;
            s = read_line(path, line, text, len, &list[*n], err);
            *n += s == RT_OK;
        }
        text = next;
    }
    if (s == RT_OK && *n == 0)
        s = rt_fail(err, RT_E_INVALID, "%s: holds no key", path);
    if (s != RT_OK) {
        rt_free(list);
        return s;
    }
    *out = list;
    return RT_OK;
}

enum rt_status sv_keys_reload(struct sv_keys *k, struct rt_error *err)
{
    void *text;
    size_t len;
    struct key *list;
    int n;
    enum rt_status s = sv_file_read(k->path, FILE_MAX, &text, &len, err);
    if (s != RT_OK)
        return s;
    s = parse(k->path, text, &list, &n, err);
    rt_free(text);
    if (s != RT_OK)
        return s;
    pthread_rwlock_wrlock(&k->lock);
    struct key *old = k->key;
    k->key = list;
    k->n = n;
    pthread_rwlock_unlock(&k->lock);
    rt_free(old);
    return RT_OK;
}

enum rt_status sv_keys_create(const char *path, struct sv_keys **out, struct rt_error *err)
{
    struct sv_keys *k = rt_zalloc(sizeof *k);
    if (k == NULL)
        return rt_fail_nomem(err, sizeof *k);
    pthread_rwlock_init(&k->lock, NULL);
    k->path = rt_strdup(path);
    enum rt_status s =
        k->path != NULL ? sv_keys_reload(k, err) : rt_fail_nomem(err, strlen(path) + 1);
    if (s != RT_OK) {
        sv_keys_destroy(k);
        return s;
    }
    *out = k;
    return RT_OK;
}

void sv_keys_destroy(struct sv_keys *k)
{
    if (k == NULL)
        return;
    pthread_rwlock_destroy(&k->lock);
    rt_free(k->key);
    rt_free(k->path);
    rt_free(k);
}

bool sv_keys_match(struct sv_keys *k, const char *text)
{
    struct key shown = { { 0 } };
    size_t len = strlen(text);
    if (len < KEY_MIN || len > KEY_MAX)
        return false;
    memcpy(shown.text, text, len);
    unsigned matches = 0;
    pthread_rwlock_rdlock(&k->lock);
    for (int i = 0; i < k->n; i++) {
        unsigned differ = 0;
        for (size_t c = 0; c < KEY_MAX; c++)
            differ |= (unsigned)(shown.text[c] ^ k->key[i].text[c]);
        matches |= differ - 1; /* all ones only when nothing differed: differ is below 256 */
    }
    pthread_rwlock_unlock(&k->lock);
    return matches >> 31 != 0;
}
