/* The list of all commands, from which the front door, the manual and the completions follow. */
#ifndef SERVER_COMMANDS_H
#define SERVER_COMMANDS_H

#include "server/options.h"

struct sv_cli_command {
    const struct sv_command *command;
    int (*main)(int argc, char **argv); /* see cli.h */
    const char *usage;                  /* with the options that cannot be left out */
    const char *what;                   /* a few words */
};

/* Ends with one whose command is NULL. */
extern const struct sv_cli_command sv_commands[];

/* NULL when there is none of that name. */
const struct sv_cli_command *sv_command_find(const char *name);

#endif
