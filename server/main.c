/* The program's front door: which command is meant. */
#include "server/cli.h"
#include "server/commands.h"
#include "server/file.h"
#include "server/table.h"
#include "server/version.h"

#include <errno.h>
#include <string.h>

static void help(void)
{
    puts(SV_NAME " " SV_VERSION ": serves ONNX convolutional networks on CPUs\n\nCommands:");
    for (const struct sv_cli_command *c = sv_commands; c->command != NULL; c++)
        printf("  " SV_NAME " %-11s%-33s%s\n", c->command->name, c->usage, c->what);
    puts("\n'" SV_NAME " COMMAND --help' tells more about each. To begin with:\n"
         "  " SV_NAME " serve model.onnx\n"
         "  curl --data-binary @cat.jpg http://localhost:8000/classify");
}

/* One line that says what the user may have meant. */
static int unknown(const char *word)
{
    const char *names[32];
    int n = 0;
    for (const struct sv_cli_command *c = sv_commands; c->command != NULL; c++)
        names[n++] = c->command->name;
    const char *near = sv_nearest(word, names, n);
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
        const struct sv_cli_command *about = argc > 2 ? sv_command_find(argv[2]) : NULL;
        char flag[] = "--help", *only[] = { flag, NULL };
        if (about != NULL)
            return about->main(1, only);
        if (argc > 2)
            return unknown(argv[2]);
        help();
        return 0;
    }
    const struct sv_cli_command *c = sv_command_find(word);
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
