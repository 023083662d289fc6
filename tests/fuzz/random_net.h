/* Random small networks as ONNX files: convolutions, batch norms in odd places, and what real
 * networks put between them. A network is a list of layers that are chosen without regard to sizes;
 * writing it fits each to what it reads, so that any layer can be left out and what remains is a
 * network still. */
#ifndef TESTS_FUZZ_RANDOM_NET_H
#define TESTS_FUZZ_RANDOM_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/onnx_bytes.h"

#define NET_LAYERS 14

/* What one layer draws its attributes and weights from. */
struct net_layer {
    unsigned kind;
    uint64_t seed;
    unsigned reads[2]; /* how many values back; modulo those there are */
    bool left_out;     /* who would read it reads what it would read */
    bool shown;        /* its value is an output of the network too */
};

struct net {
    uint64_t seed;
    int n_layers;
    int64_t batch; /* of the input: -1 free, else as declared */
    int64_t channels, height, width;
    struct net_layer layer[NET_LAYERS];
};

/* The network of that number: the same one on every machine. */
struct net net_draw(uint64_t seed);
/* As an ONNX file; the caller frees p. */
struct bytes net_write(const struct net *n);

/* Numbers from a seed, which moves on. */
uint64_t net_random(uint64_t *seed);
/* About normal: mean 0, variance 1. */
float net_normal(uint64_t *seed);

#endif
