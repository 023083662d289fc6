/* Command lines: one table of options a command, from which parsing, environment and help follow.
 */
#ifndef SERVER_OPTIONS_H
#define SERVER_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "runtime/rt.h"

/* The type of the member that an option fills. */
enum sv_option_type {
    SV_OPTION_FLAG,   /* bool: --name, --no-name */
    SV_OPTION_STRING, /* const char *: into argv or the environment */
    SV_OPTION_INT,    /* int, min..max */
    SV_OPTION_SIZE,   /* size_t, min..max: bytes, or 16K, 64M, 1G (powers of 1024; KiB.. as well) */
    SV_OPTION_SECONDS, /* double, min..max: seconds, or 500ms, 30s, 2m */
    SV_OPTION_CHOICE,  /* int: the index of the word in choices */
    SV_OPTION_LIST,    /* struct sv_option_list: may be given several times */
};

#define SV_OPTION_LIST_MAX 64

struct sv_option_list {
    int n;
    const char *item[SV_OPTION_LIST_MAX];
};

/* All but name, type, offset and help may be left out. */
struct sv_option {
    const char *name; /* "max-body": --max-body, CONVD_MAX_BODY */
    char letter;      /* 'p': -p; 0: none */
    enum sv_option_type type;
    size_t offset;       /* of the member in the settings */
    const char *value;   /* what the help calls it: "BYTES"; may be NULL for flags and choices */
    const char *help;    /* one sentence without a full stop; the default is added to it */
    double min, max;     /* both 0: any value of 0 or more */
    const char *choices; /* "debug|info|warn|error" */
    const char *none;    /* what the help calls a value of 0 or NULL: "all cores"; NULL: nothing */
};

struct sv_command {
    const char *name;    /* "serve" */
    const char *usage;   /* "[PATH...]": what stands behind the options */
    const char *summary; /* what it does; may have several lines, without a last newline */
    const struct sv_option *options; /* ends with one whose name is NULL */
    bool environment;     /* options are also taken from CONVD_<NAME>; the command line wins */
    const char *epilogue; /* printed behind the options; NULL: nothing */
};

/* What is left of a command line. */
struct sv_arguments {
    int n;
    char **item; /* into argv, which is reordered */
    bool help;   /* --help or -h was given: nothing else was looked at */
};

/* Reads argv[0..argc), which starts behind the command's own name, and the environment into
 * settings, whose members hold the defaults before. Options and other arguments may be mixed; "--"
 * ends the options; "-" and negative numbers are no options.
 * RT_E_INVALID names the option, with the nearest known one for an unknown one. */
enum rt_status sv_options_parse(const struct sv_command *c, int argc, char **argv, void *settings,
                                struct sv_arguments *rest, struct rt_error *err);

/* Usage, summary and one entry an option; defaults are those of settings. */
void sv_options_help(const struct sv_command *c, const void *settings, FILE *to);

/* Of the words in names[0..n), the one nearest to word, or NULL when none is near. */
const char *sv_nearest(const char *word, const char *const *names, int n);

#endif
