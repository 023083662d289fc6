/* The table of commands. */
#include "server/commands.h"

#include "server/app.h"
#include "server/cli.h"
#include "server/serve_settings.h"

#include <string.h>

const struct sv_cli_command sv_commands[] = {
    { &sv_serve_command, sv_serve_main, "[PATH...]", "answer predictions over HTTP" },
    { &sv_predict_command, sv_predict_main, "MODEL IMAGE...", "classify pictures, no server" },
    { &sv_run_command, sv_run_main, "MODEL --input FILE --output DIR",
      "raw tensors in, raw tensors out" },
    { &sv_test_command, sv_test_main, "DIR...", "check models against recorded answers" },
    { &sv_inspect_command, sv_inspect_main, "MODEL", "layers, batch norms, memory, FLOPs" },
    { &sv_bench_command, sv_bench_main, "MODEL", "measure speed" },
    { &sv_tune_command, sv_tune_main, "MODEL", "measure algorithms and keep the fastest" },
    { &sv_health_command, sv_health_main, "[URL]", "ask a server whether it is ready" },
    { &sv_completion_command, sv_completion_main, "bash|zsh", "print what a shell completes by" },
    { &sv_man_command, sv_man_main, "", "print the manual page" },
    { 0 },
};

const struct sv_cli_command *sv_command_find(const char *name)
{
    for (const struct sv_cli_command *c = sv_commands; c->command != NULL; c++)
        if (strcmp(name, c->command->name) == 0)
            return c;
    return NULL;
}
