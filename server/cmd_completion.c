/* `convd completion`: scripts by which bash and zsh complete commands and options, made from the
 * same tables as --help. */
#include "server/cli.h"
#include "server/commands.h"
#include "server/version.h"

#include <stdio.h>
#include <string.h>

struct settings {
    int none;
};

static const struct settings defaults = { 0 };
static const struct sv_option options[] = { { 0 } };

const struct sv_command sv_completion_command = {
    .name = "completion",
    .usage = "bash|zsh",
    .summary = "Prints a script by which the shell completes commands, options and their values.",
    .options = options,
    .defaults = &defaults,
    .epilogue = "Examples:\n"
                "  convd completion bash > ~/.local/share/bash-completion/completions/convd\n"
                "  convd completion zsh > ~/.zfunc/_convd",
};

/* "a|b" with blanks in place of the bars. */
static void print_choices(const char *choices)
{
    for (; *choices != '\0'; choices++)
        putchar(*choices == '|' ? ' ' : *choices);
}

static bool is_path(const struct sv_option *o)
{
    return o->value != NULL &&
           (strstr(o->value, "FILE") != NULL || strstr(o->value, "DIR") != NULL ||
            strstr(o->value, "PATH") != NULL);
}

/* What may follow an option that takes a value: the words, or nothing that is known. Files are
 * completed where nothing is said. */
static void bash_values(const struct sv_option *o)
{
    if (o->type == SV_OPTION_FLAG || is_path(o))
        return;
    printf("            --%s", o->name);
    if (o->letter != 0)
        printf(" | -%c", o->letter);
    fputs(") COMPREPLY=(", stdout);
    if (o->type == SV_OPTION_CHOICE) {
        fputs("$(compgen -W '", stdout);
        print_choices(o->choices);
        fputs("' -- \"$word\")", stdout);
    }
    fputs("); return ;;\n", stdout);
}

static void print_bash(void)
{
    puts("# " SV_NAME " " SV_VERSION ": completion for bash\n"
         "_convd() {\n"
         "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} options=\n"
         "    if ((COMP_CWORD == 1)); then");
    fputs("        COMPREPLY=($(compgen -W '--help --version", stdout);
    for (const struct sv_cli_command *c = sv_commands; c->command != NULL; c++)
        printf(" %s", c->command->name);
    puts("' -- \"$word\"))\n"
         "        return\n"
         "    fi\n"
         "    case ${COMP_WORDS[1]} in");
    for (const struct sv_cli_command *c = sv_commands; c->command != NULL; c++) {
        printf("    %s)\n        options='", c->command->name);
        for (const struct sv_option *o = c->command->options; o->name != NULL; o++)
            printf("--%s ", o->name);
        puts("--help'\n        case $before in");
        for (const struct sv_option *o = c->command->options; o->name != NULL; o++)
            bash_values(o);
        puts("        esac");
        if (c->command == &sv_completion_command)
            puts(
                "        [[ $word == -* ]] || { COMPREPLY=($(compgen -W 'bash zsh' -- \"$word\")); "
                "return; }");
        puts("        ;;");
    }
    puts("    esac\n"
         "    if [[ $word == -* ]]; then\n"
         "        COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
         "    else\n"
         "        mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
         "    fi\n"
         "}\n"
         "complete -o filenames -F _convd " SV_NAME);
}

/* Text inside of '...[...]': brackets, colons and the quote would end it. */
static void zsh_text(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else if (strchr("[]:\\", *text) != NULL)
            printf("\\%c", *text);
        else
            putchar(*text);
    }
}

static void zsh_option(const struct sv_option *o)
{
    const char *often = o->type == SV_OPTION_LIST ? "*" : "";
    for (int form = 0; form < (o->letter != 0 ? 2 : 1); form++) {
        if (form == 0)
            printf("            '%s--%s[", often, o->name);
        else
            printf("            '%s-%c[", often, o->letter);
        zsh_text(o->help);
        putchar(']');
        if (o->type == SV_OPTION_CHOICE) {
            printf(":%s:(", o->name);
            print_choices(o->choices);
            putchar(')');
        } else if (o->type != SV_OPTION_FLAG) {
            putchar(':');
            zsh_text(o->value != NULL ? o->value : "value");
            fputs(is_path(o) ? ":_files" : ": ", stdout);
        }
        puts("' \\");
    }
}

static void print_zsh(void)
{
    puts("#compdef " SV_NAME "\n"
         "# " SV_NAME " " SV_VERSION ": completion for zsh\n"
         "_convd() {\n"
         "    local -a commands\n"
         "    local state line\n"
         "    commands=(");
    for (const struct sv_cli_command *c = sv_commands; c->command != NULL; c++) {
        printf("        '%s:", c->command->name);
        zsh_text(c->what);
        puts("'");
    }
    puts("    )\n"
         "    _arguments -C '1:command:->command' '*::argument:->argument'\n"
         "    case $state in\n"
         "    command) _describe command commands ;;\n"
         "    argument)\n"
         "        case $words[1] in");
    for (const struct sv_cli_command *c = sv_commands; c->command != NULL; c++) {
        printf("        %s) _arguments \\\n", c->command->name);
        for (const struct sv_option *o = c->command->options; o->name != NULL; o++)
            zsh_option(o);
        printf("            '--help[print this]' \\\n            '*:%s' ;;\n",
               c->command == &sv_completion_command ? "shell:(bash zsh)" : "file:_files");
    }
    puts("        esac ;;\n"
         "    esac\n"
         "}\n"
         "if [[ $funcstack[1] == _convd ]]; then\n"
         "    _convd \"$@\"\n"
         "else\n"
         "    compdef _convd " SV_NAME "\n"
         "fi");
}

int sv_completion_main(int argc, char **argv)
{
    struct settings set = defaults;
    struct sv_arguments rest;
    int status;
    if (!sv_cli_begin(&sv_completion_command, argc, argv, &set, &rest, &status))
        return status;
    if (rest.n == 1 && strcmp(rest.item[0], "bash") == 0)
        print_bash();
    else if (rest.n == 1 && strcmp(rest.item[0], "zsh") == 0)
        print_zsh();
    else
        return sv_cli_usage(&sv_completion_command, "for which shell: bash or zsh?");
    return 0;
}
