/* An HTTP server that does nothing: libmicrohttpd reads each request's body and sends the same
 * bytes back for all of them. What a server built on that library can reach at best.
 *
 *   empty_server PORT THREADS ANSWER_BYTES */
#include <microhttpd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct answer {
    struct MHD_Response *response;
};

static enum MHD_Result on_access(void *cls, struct MHD_Connection *connection, const char *path,
                                 const char *method, const char *version, const char *data,
                                 size_t *len, void **state)
{
    (void)path;
    (void)method;
    (void)version;
    (void)data;
    const struct answer *a = cls;
    static char seen;
    if (*state == NULL) {
        *state = &seen;
        return MHD_YES;
    }
    if (*len > 0) {
        *len = 0;
        return MHD_YES;
    }
    return MHD_queue_response(connection, 200, a->response);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fputs("usage: empty_server PORT THREADS ANSWER_BYTES\n", stderr);
        return 2;
    }
    const size_t len = strtoul(argv[3], NULL, 10);
    const unsigned threads = (unsigned)strtoul(argv[2], NULL, 10);
    char *bytes = malloc(len + 1);
    if (bytes == NULL)
        return 1;
    memset(bytes, 'x', len);
    struct answer answer = {
        .response = MHD_create_response_from_buffer(len, bytes, MHD_RESPMEM_PERSISTENT),
    };
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    struct MHD_OptionItem pool[] = { { MHD_OPTION_THREAD_POOL_SIZE, (intptr_t)threads, NULL },
                                     { MHD_OPTION_END, 0, NULL } };
    struct MHD_Daemon *daemon =
        MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, (uint16_t)strtoul(argv[1], NULL, 10), NULL,
                         NULL, on_access, &answer, MHD_OPTION_CONNECTION_LIMIT, 4096u,
                         MHD_OPTION_ARRAY, &pool[threads > 1 ? 0 : 1], MHD_OPTION_END);
    if (daemon == NULL) {
        perror("empty_server");
        return 1;
    }
    int sig;
    sigwait(&signals, &sig);
    MHD_stop_daemon(daemon);
    MHD_destroy_response(answer.response);
    free(bytes);
    return 0;
}
