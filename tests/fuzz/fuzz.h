/* What a fuzz target is: one function that takes any bytes and comes back. libFuzzer calls it with
 * bytes it makes up, replay.c with those of files. What must never happen ends the process. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* One input. Always 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Ends the process with a sentence unless what a target promises holds. */
#define HOLDS(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                        \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#endif
