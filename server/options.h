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

/* What a setting can come from; later ones win over earlier ones. */
enum sv_source_kind { SV_FROM_NOWHERE, SV_FROM_FILE, SV_FROM_ENVIRONMENT, SV_FROM_COMMAND_LINE };

/* The same as messages name it: "--port", "CONVD_PORT", "convd.json: port". */
#define SV_ORIGIN_LEN 128
struct sv_origin {
    enum sv_source_kind kind;
    const char *text;
};

struct sv_option_list {
    int n;
    const char *item[SV_OPTION_LIST_MAX];
    enum sv_source_kind from; /* all of them: lists of two sources are not joined */
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
    bool no_file;        /* makes no sense in a file of settings */
    const char *none;    /* what the help calls a value of 0 or NULL: "all cores"; NULL: nothing */
};

struct sv_command {
    const char *program; /* what help calls a program of its own; NULL: "convd", then name */
    const char *name;    /* "serve" */
    const char *usage;   /* "[PATH...]": what stands behind the options */
    const char *summary; /* what it does; may have several lines, without a last newline */
    const struct sv_option *options; /* ends with one whose name is NULL */
    const void *defaults;            /* settings before anything is read */
    bool environment;                /* options are also taken from CONVD_<NAME> */
    const char *file;     /* the option that names a JSON file of settings (config_file.h); NULL */
    const char *epilogue; /* printed behind the options; NULL: nothing */
};

/* What is left of a command line. */
struct sv_arguments {
    int n;
    char **item;  /* into argv, which is reordered */
    bool help;    /* --help or -h was given: nothing else was looked at */
    void *memory; /* what strings from a file lie in: rt_free() it after the settings */
};

/* Reads the file of settings, the environment, and argv[0..argc), which starts behind the command's
 * own name, into settings, whose members hold the defaults before; what is read later wins. Lists
 * in the environment are cut at commas. Options and other arguments may be mixed; "--" ends the
 * options; "-" and negative numbers are no options. RT_E_INVALID names the option, with the nearest
 * known one for an unknown one. */
enum rt_status sv_options_parse(const struct sv_command *c, int argc, char **argv, void *settings,
                                struct sv_arguments *rest, struct rt_error *err);

/* Gives one option its value from text, which must last as long as settings for strings and lists.
 * RT_E_INVALID says what is wrong with it, and where it came from. */
enum rt_status sv_option_set(const struct sv_option *o, void *settings,
                             const struct sv_origin *origin, const char *text,
                             struct rt_error *err);

/* Usage, summary and one entry an option. */
void sv_options_help(const struct sv_command *c, FILE *to);
/* What help and reference say an option is when it is not given, "" when there is nothing to say.
 */
#define SV_OPTION_DEFAULT 256
void sv_option_default(const struct sv_option *o, const struct sv_command *c,
                       char buf[SV_OPTION_DEFAULT]);

/* Of the words in names[0..n), the one nearest to word, or NULL when none is near. */
const char *sv_nearest(const char *word, const char *const *names, int n);

#endif
