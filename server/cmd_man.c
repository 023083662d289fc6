/* `convd man`: the manual page, and the same as a reference in Markdown, from the commands' own
 * tables. */
#include "server/cli.h"
#include "server/commands.h"
#include "server/version.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct settings {
    bool markdown;
};

static const struct sv_option options[] = {
    { .name = "markdown",
      .type = SV_OPTION_FLAG,
      .offset = offsetof(struct settings, markdown),
      .help = "print tables of all options instead" },
    { 0 },
};

static const struct settings defaults = { 0 };

const struct sv_command sv_man_command = {
    .name = "man",
    .usage = "",
    .summary = "Prints the manual page.",
    .options = options,
    .defaults = &defaults,
    .epilogue = "Example:\n"
                "  convd man | man -l -",
};

/* Text with what troff takes for its own made harmless; lines that begin with a dot or a quote are
 * requests to it. */
static void roff(const char *text)
{
    bool begin = true;
    for (; *text != '\0'; text++) {
        if (begin && (*text == '.' || *text == '\''))
            fputs("\\&", stdout);
        begin = *text == '\n';
        if (*text == '\\')
            fputs("\\e", stdout);
        else if (*text == '-')
            fputs("\\-", stdout);
        else
            putchar(*text);
    }
}

static const char *value_of(const struct sv_option *o)
{
    return o->value != NULL ? o->value : o->choices != NULL ? o->choices : "";
}

static void roff_option(const struct sv_option *o, const struct sv_command *c)
{
    char tail[SV_OPTION_DEFAULT];
    sv_option_default(o, c, tail);
    puts(".TP");
    fputs(".B ", stdout);
    if (o->letter != 0)
        printf("\\-%c, ", o->letter);
    fputs("\\-\\-", stdout);
    roff(o->name);
    if (value_of(o)[0] != '\0') {
        fputs("\\fR \\fI", stdout);
        roff(value_of(o));
        fputs("\\fR", stdout);
    }
    putchar('\n');
    roff(o->help);
    if (tail[0] != '\0') {
        fputs(" (default: ", stdout);
        roff(tail);
        putchar(')');
    }
    puts(".");
}

/* An epilogue is text as it stands in a terminal, so it is set as it is. */
static void roff_command(const struct sv_cli_command *c)
{
    printf(".SS " SV_NAME " %s ", c->command->name);
    roff(c->usage);
    puts("");
    roff(c->command->summary);
    puts("");
    for (const struct sv_option *o = c->command->options; o->name != NULL; o++)
        roff_option(o, c->command);
    if (c->command->epilogue != NULL) {
        puts(".PP\n.nf");
        roff(c->command->epilogue);
        puts("\n.fi");
    }
}

static void print_page(void)
{
    puts(".TH CONVD 1 \"\" \"" SV_NAME " " SV_VERSION "\"\n"
         ".SH NAME\n" SV_NAME " \\- serves ONNX convolutional networks on CPUs\n"
         ".SH SYNOPSIS\n"
         ".B " SV_NAME "\n"
         "\\fICOMMAND\\fR [\\fIOPTION\\fR...] [\\fIARGUMENT\\fR...]\n"
         ".SH DESCRIPTION\n"
         "Loads ONNX networks, compiles each for this machine's CPU, and answers predictions over\n"
         "HTTP. Options may stand before and after arguments, as \\-\\-name VALUE or\n"
         "\\-\\-name=VALUE; flags that are on are turned off by \\-\\-no\\-name; \\-\\- ends the\n"
         "options.\n"
         ".SH COMMANDS");
    for (const struct sv_cli_command *c = sv_commands; c->command != NULL; c++)
        roff_command(c);
    puts(
        ".SH ENVIRONMENT\n"
        "Every option of serve may be set as \\fBCONVD_\\fIOPTION\\fR, in upper case and with _\n"
        "for \\-: CONVD_MAX_BODY=64M. Lists have commas between their items.\n"
        ".TP\n.B RT_ISA\nscalar, avx2, avx512 or neon: the most that kernels may use.\n"
        ".TP\n.B NO_COLOR\nNo colour on terminals.\n"
        ".SH EXIT STATUS\n"
        "0: done. 1: failed, with one line on standard error. 2: the command line makes no sense.\n"
        ".SH FILES\n"
        ".TP\n.B config.json\nBeside a model.onnx: what its file does not say.\n"
        ".TP\n.B labels.txt\nBeside it: the names of its classes, one a line.");
}

/* A cell of a table: a bar would end it. */
static void cell(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '|')
            putchar('\\');
        putchar(*text);
    }
}

static void print_markdown(void)
{
    for (const struct sv_cli_command *c = sv_commands; c->command != NULL; c++) {
        if (c->command->options->name == NULL)
            continue;
        printf("### convd %s %s\n\n| option | default | |\n|---|---|---|\n", c->command->name,
               c->usage);
        for (const struct sv_option *o = c->command->options; o->name != NULL; o++) {
            char tail[SV_OPTION_DEFAULT];
            sv_option_default(o, c->command, tail);
            printf("| `--%s", o->name);
            if (value_of(o)[0] != '\0') {
                putchar(' ');
                cell(value_of(o));
            }
            putchar('`');
            if (o->letter != 0)
                printf(", `-%c`", o->letter);
            fputs(" | ", stdout);
            cell(tail);
            fputs(" | ", stdout);
            cell(o->help);
            puts(" |");
        }
        puts("");
    }
}

int sv_man_main(int argc, char **argv)
{
    struct settings set = defaults;
    struct sv_arguments rest;
    int status;
    if (!sv_cli_begin(&sv_man_command, argc, argv, &set, &rest, &status))
        return status;
    if (rest.n > 0)
        return sv_cli_usage(&sv_man_command, "it takes no arguments");
    if (set.markdown)
        print_markdown();
    else
        print_page();
    return 0;
}
