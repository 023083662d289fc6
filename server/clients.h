/* The connections that are open: how many there are, and how many of each address. Knows nothing of
 * HTTP. */
#ifndef SERVER_CLIENTS_H
#define SERVER_CLIENTS_H

#include <sys/socket.h>

#include "server/watch.h"

struct sv_clients;

/* Why a connection is one too many. */
enum sv_surplus {
    SV_SURPLUS_NONE,
    SV_SURPLUS_ALL,  /* there are as many as there may be */
    SV_SURPLUS_EACH, /* likewise of its address */
};

/* One connection. */
struct sv_client {
    struct sv_watched watched; /* the caller's own business, and so is the next */
    size_t target_len;         /* of the request at hand: path and query as they came */
    enum sv_surplus surplus;   /* set by sv_clients_enter() */
    /* The list's. */
    unsigned char address[16];
    struct sv_client *next, *prev;
};

/* max: connections in all, max_each: of one address (IPv6: of one /64 network); 0: no bound. */
enum rt_status sv_clients_create(int max, int max_each, struct sv_clients **out,
                                 struct rt_error *err);
void sv_clients_destroy(struct sv_clients *c); /* takes NULL; all have left */

/* Counts the client in, also one that is too many, and says so in client->surplus. address may be
 * NULL: not known. Any thread, as the next. */
void sv_clients_enter(struct sv_clients *c, struct sv_client *client,
                      const struct sockaddr *address);
void sv_clients_leave(struct sv_clients *c, struct sv_client *client);
int sv_clients_count(const struct sv_clients *c);

/* The address as text: "127.0.0.1", "2001:db8::1", cut at len - 1; "" when it is not
 * known. */
void sv_address_text(const struct sockaddr *address, char *out, size_t len);

#endif
