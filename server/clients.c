/* A table of connections by address. */
#include "server/clients.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "runtime/rt.h"

#define BUCKETS 1024

struct sv_clients {
    int max, max_each;
    atomic_int n;
    pthread_mutex_t lock;
    struct sv_client *bucket[BUCKETS];
};

enum rt_status sv_clients_create(int max, int max_each, struct sv_clients **out,
                                 struct rt_error *err)
{
    struct sv_clients *c = rt_zalloc(sizeof *c);
    if (c == NULL)
        return rt_fail_nomem(err, sizeof *c);
    c->max = max;
    c->max_each = max_each;
    pthread_mutex_init(&c->lock, NULL);
    *out = c;
    return RT_OK;
}

void sv_clients_destroy(struct sv_clients *c)
{
    if (c == NULL)
        return;
    pthread_mutex_destroy(&c->lock);
    rt_free(c);
}

/* Whom the address stands for: IPv4 as mapped into IPv6, of IPv6 the network alone, since a host
 * has all addresses of its network to choose from. */
static void identify(const struct sockaddr *address, unsigned char out[16])
{
    static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };
    memset(out, 0, 16);
    if (address == NULL)
        return;
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof v4);
        memcpy(out, mapped, 12);
        memcpy(out + 12, &v4.sin_addr, 4);
    } else if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof v6);
        memcpy(out, &v6.sin6_addr, 16);
        if (memcmp(out, mapped, 12) != 0)
            memset(out + 8, 0, 8);
    }
}

static struct sv_client **bucket_of(struct sv_clients *c, const unsigned char address[16])
{
    unsigned hash = 0;
    for (int i = 0; i < 16; i++)
        hash = hash * 31 + address[i];
    return &c->bucket[hash % BUCKETS];
}

void sv_clients_enter(struct sv_clients *c, struct sv_client *client,
                      const struct sockaddr *address)
{
    int all = atomic_fetch_add(&c->n, 1) + 1, each = 1;
    client->surplus = SV_SURPLUS_NONE;
    client->next = client->prev = NULL;
    identify(address, client->address);
    if (c->max_each > 0) {
        pthread_mutex_lock(&c->lock);
        struct sv_client **head = bucket_of(c, client->address);
        for (const struct sv_client *other = *head; other != NULL; other = other->next)
            each += memcmp(other->address, client->address, 16) == 0;
        client->next = *head;
        if (*head != NULL)
            (*head)->prev = client;
        *head = client;
        pthread_mutex_unlock(&c->lock);
        if (each > c->max_each)
            client->surplus = SV_SURPLUS_EACH;
    }
    if (c->max > 0 && all > c->max)
        client->surplus = SV_SURPLUS_ALL;
}

void sv_clients_leave(struct sv_clients *c, struct sv_client *client)
{
    atomic_fetch_sub(&c->n, 1);
    if (c->max_each == 0)
        return;
    pthread_mutex_lock(&c->lock);
    *(client->prev != NULL ? &client->prev->next : bucket_of(c, client->address)) = client->next;
    if (client->next != NULL)
        client->next->prev = client->prev;
    pthread_mutex_unlock(&c->lock);
}

int sv_clients_count(const struct sv_clients *c)
{
    return atomic_load(&c->n);
}

void sv_address_text(const struct sockaddr *address, char *out, size_t len)
{
    char text[INET6_ADDRSTRLEN] = "";
    if (address != NULL && address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof v4);
        inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    } else if (address != NULL && address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof v6);
        inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
    }
    bool mapped = strncmp(text, "::ffff:", 7) == 0 && strchr(text, '.') != NULL;
    snprintf(out, len, "%s", text + (mapped ? 7 : 0));
}
