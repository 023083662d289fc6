/* The program's front door: which command is meant. */
#include "server/app.h"
#include "server/cli.h"
#include "server/file.h"
#include "server/table.h"
#include "server/version.h"

#include <errno.h>
#include <string.h>

static const struct command {
    const char *name;
    int (*main)(int argc, char **argv);
    const char *usage;
    const char *what;
} commands[] = {
    { "serve", sv_serve_main, "[PATH...]", "answer predictions over HTTP" },
    { "predict", sv_predict_main, "MODEL IMAGE...", "classify pictures, no server" },
    { "run", sv_run_main, "MODEL --input FILE --output DIR", "raw tensors in, raw tensors out" },
    { "test", sv_test_main, "DIR...", "check models against recorded answers" },
    { "inspect", sv_inspect_main, "MODEL", "layers, batch norms, memory, FLOPs" },
    { "bench", sv_bench_main, "MODEL", "measure speed" },
};
#define N_COMMANDS ((int)(sizeof commands / sizeof commands[0]))

static void help(void)
{
    puts(SV_NAME " " SV_VERSION ": serves ONNX convolutional networks on CPUs\n\nCommands:");
    for (int i = 0; i < N_COMMANDS; i++)
        printf("  " SV_NAME " %-8s%-33s%s\n", commands[i].name, commands[i].usage,
               commands[i].what);
    puts("\n'" SV_NAME " COMMAND --help' tells more about each. To begin with:\n"
         "  " SV_NAME " serve model.onnx\n"
         "  curl --data-binary @cat.jpg http://localhost:8000/v2/models/model/classify");
}

static const struct command *find(const char *name)
{
    for (int i = 0; i < N_COMMANDS; i++)
        if (strcmp(name, commands[i].name) == 0)
            return &commands[i];
    return NULL;
}

/* One line that says what the user may have meant. */
static int unknown(const char *word)
{
    const char *names[N_COMMANDS];
    for (int i = 0; i < N_COMMANDS; i++)
        names[i] = commands[i].name;
    const char *near = sv_nearest(word, names, N_COMMANDS);
    fputs(SV_NAME ": '", stderr);
    sv_print_clean(word, stderr);
    if (near != NULL)
        fprintf(stderr, "' is not a command; did you mean '%s'?\n", near);
    else if (sv_path_has_suffix(word, ".onnx") || sv_is_folder(word))
        fprintf(stderr, "' is not a command; to serve it: " SV_NAME " serve %s\n", word);
    else
        fprintf(stderr, "' is not a command (see " SV_NAME " --help)\n");
    return SV_EXIT_USAGE;
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2) {
        fputs(SV_NAME ": a command is missing: try '" SV_NAME " serve model.onnx' or '" SV_NAME
                      " --help'\n",
              stderr);
        return SV_EXIT_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        puts(SV_NAME " " SV_VERSION);
        return 0;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        const struct command *about = argc > 2 ? find(argv[2]) : NULL;
        char flag[] = "--help", *only[] = { flag, NULL };
        if (about != NULL)
            return about->main(1, only);
        if (argc > 2)
            return unknown(argv[2]);
        help();
        return 0;
    }
    const struct command *c = find(word);
    return c != NULL ? c->main(argc - 2, argv + 2) : unknown(word);
}

int main(int argc, char **argv)
{
    int status = dispatch(argc, argv);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == 0) {
        fprintf(stderr, SV_NAME ": standard output: %s\n", strerror(errno));
        status = SV_EXIT_FAILURE;
    }
    return status;
}
