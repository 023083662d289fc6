/* What the commands of the command line share. Each command is one function from its arguments
 * (behind its name) to the exit status: 0 done, 1 failed, 2 not understood. It prints its own
 * errors, one line each, to standard error. */
#ifndef SERVER_CLI_H
#define SERVER_CLI_H

#include "runtime/rt.h"
#include "server/options.h"

#define SV_EXIT_FAILURE 1
#define SV_EXIT_USAGE 2

int sv_predict_main(int argc, char **argv);
int sv_run_main(int argc, char **argv);
int sv_test_main(int argc, char **argv);
int sv_inspect_main(int argc, char **argv);
int sv_bench_main(int argc, char **argv);
int sv_tune_main(int argc, char **argv);
int sv_health_main(int argc, char **argv);
int sv_completion_main(int argc, char **argv);
int sv_man_main(int argc, char **argv);

/* Their tables of options. */
extern const struct sv_command sv_predict_command, sv_run_command, sv_test_command,
    sv_inspect_command, sv_bench_command, sv_tune_command, sv_health_command, sv_completion_command, sv_man_command;

/* Options that several commands have, as entries of their tables; at is the offset of the member
 * that each fills. */
#define SV_CLI_THREADS(at)                                                                         \
    {                                                                                              \
        .name = "threads", .letter = 't', .type = SV_OPTION_INT, .offset = (at), .value = "N",     \
        .help = "threads to run on", .max = 1024, .none = "all cores"                              \
    }
#define SV_CLI_MEMORY(at)                                                                          \
    {                                                                                              \
        .name = "max-model-memory", .type = SV_OPTION_SIZE, .offset = (at), .value = "BYTES",      \
        .help = "weights, constants and activations that a model may need", .none = "4G"           \
    }
#define SV_CLI_EXTRA(at)                                                                           \
    {                                                                                              \
        .name = "extra-weights", .type = SV_OPTION_SIZE, .offset = (at), .value = "BYTES",         \
        .help = "what weights may take beyond the model's own where faster algorithms want them "  \
                "transformed",                                                                     \
        .none = "a quarter of the model, at least 64M"                                               \
    }
#define SV_CLI_EXACT(at)                                                                           \
    {                                                                                              \
        .name = "exact", .type = SV_OPTION_FLAG, .offset = (at),                                   \
        .help = "use no algorithm that trades accuracy for speed"                                  \
    }

/* Parses a command line and answers --help. False: the command is over, with *status. */
bool sv_cli_begin(const struct sv_command *c, int argc, char **argv, void *settings,
                  struct sv_arguments *rest, int *status);

/* "convd predict: sentence" to standard error, nothing where the sentence is empty because it was
 * said already; the command's exit status. */
int sv_cli_fail(const struct sv_command *c, const struct rt_error *err);
/* The same for a command line that makes no sense, with a pointer to --help. */
int sv_cli_usage(const struct sv_command *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* The model's file: path itself, or model.onnx in it when it is a folder. A block of its own. */
enum rt_status sv_cli_model_path(const char *path, char **out, struct rt_error *err);
/* Loads what sv_cli_model_path() finds; errors are explained. */
enum rt_status sv_cli_load(const char *path, const struct rt_options *options,
                           struct rt_model **out, struct rt_error *err);

/* The numbers min..max in the items of a list, each of which may hold several ("1,8"), to
 * out[0..*n), at most max_n. RT_E_INVALID names the option. */
enum rt_status sv_cli_numbers(const char *option, const struct sv_option_list *list, int min,
                              int max, int *out, int max_n, int *n, struct rt_error *err);

/* A number of 0 or more, as in "1e-3". */
enum rt_status sv_cli_number(const char *option, const char *text, double *out,
                             struct rt_error *err);

#endif
