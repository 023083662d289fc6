/* Parses command lines by table, and prints the table as help. */
#include "server/options.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/config_file.h"
#include "server/version.h"

static void *member(const struct sv_option *o, void *settings)
{
    return (char *)settings + o->offset;
}

static bool has_bounds(const struct sv_option *o)
{
    return o->min != 0 || o->max != 0;
}

static double lowest(const struct sv_option *o)
{
    return has_bounds(o) ? o->min : 0;
}

static double highest(const struct sv_option *o)
{
    if (has_bounds(o))
        return o->max;
    return o->type == SV_OPTION_INT ? INT_MAX : 0x1p52;
}

/* The number that s starts with; *unit is what follows it. */
static bool parse_number(const char *s, double *value, const char **unit)
{
    /* strtod() also takes hexadecimal, "inf" and "nan". */
    const char *digits = s + (s[0] == '-');
    digits += digits[0] == '.';
    if (!isdigit((unsigned char)*digits) || s[strcspn(s, "xX")] != '\0')
        return false;
    char *end;
    errno = 0;
    *value = strtod(s, &end);
    *unit = end;
    return errno == 0 && isfinite(*value);
}

static bool size_unit(const char *unit, double *factor)
{
    static const struct {
        char letter;
        double factor;
    } table[] = { { 'k', 0x1p10 }, { 'm', 0x1p20 }, { 'g', 0x1p30 }, { 't', 0x1p40 } };
    *factor = 1;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (tolower((unsigned char)unit[0]) != table[i].letter)
            continue;
        *factor = table[i].factor;
        unit++;
        break;
    }
    return unit[0] == '\0' || strcasecmp(unit, "b") == 0 ||
           (*factor > 1 && strcasecmp(unit, "ib") == 0);
}

static bool time_unit(const char *unit, double *factor)
{
    *factor = strcmp(unit, "ms") == 0 ? 1e-3 : strcmp(unit, "m") == 0 ? 60 : 1;
    return *factor != 1 || unit[0] == '\0' || strcmp(unit, "s") == 0;
}

static enum rt_status set_number(const struct sv_option *o, void *settings, const char *origin,
                                 const char *text, struct rt_error *err)
{
    double v = 0, factor = 1;
    const char *unit = "";
    bool ok = parse_number(text, &v, &unit);
    if (ok && o->type == SV_OPTION_SIZE)
        ok = size_unit(unit, &factor);
    else if (ok && o->type == SV_OPTION_SECONDS)
        ok = time_unit(unit, &factor);
    else if (ok)
        ok = unit[0] == '\0';
    v *= factor;
    if (!ok || (o->type != SV_OPTION_SECONDS && v != floor(v)))
        return rt_fail(err, RT_E_INVALID, "%s: expected %s, got '%s'", origin,
                       o->type == SV_OPTION_SIZE      ? "a number of bytes, as in 65536 or 64M"
                       : o->type == SV_OPTION_SECONDS ? "a time, as in 30, 30s or 500ms"
                                                      : "a whole number",
                       text);
    if (v < lowest(o) || v > highest(o)) {
        if (highest(o) >= 0x1p31)
            return v < lowest(o) ? rt_fail(err, RT_E_INVALID, "%s: must be at least %.15g, got %s",
                                           origin, lowest(o), text)
                                 : rt_fail(err, RT_E_INVALID, "%s: %s is too large", origin, text);
        return rt_fail(err, RT_E_INVALID, "%s: must be between %.15g and %.15g, got %s", origin,
                       lowest(o), highest(o), text);
    }
    if (o->type == SV_OPTION_INT)
        *(int *)member(o, settings) = (int)v;
    else if (o->type == SV_OPTION_SIZE)
        *(size_t *)member(o, settings) = (size_t)v;
    else
        *(double *)member(o, settings) = v;
    return RT_OK;
}

static enum rt_status set_choice(const struct sv_option *o, void *settings, const char *origin,
                                 const char *text, struct rt_error *err)
{
    const char *word = o->choices;
    for (int i = 0;; i++) {
        size_t len = strcspn(word, "|");
        if (strlen(text) == len && strncmp(word, text, len) == 0) {
            *(int *)member(o, settings) = i;
            return RT_OK;
        }
        if (word[len] == '\0')
            return rt_fail(err, RT_E_INVALID, "%s: must be one of %s, got '%s'", origin, o->choices,
                           text);
        word += len + 1;
    }
}

static enum rt_status set_flag(const struct sv_option *o, void *settings, const char *origin,
                               const char *text, struct rt_error *err)
{
    static const char *const words[2][5] = { { "0", "false", "no", "off", "" },
                                             { "1", "true", "yes", "on", "1" } };
    for (int value = 0; value < 2; value++)
        for (int i = 0; i < 5; i++)
            if (strcasecmp(text, words[value][i]) == 0) {
                *(bool *)member(o, settings) = value == 1;
                return RT_OK;
            }
    return rt_fail(err, RT_E_INVALID, "%s: expected 1 or 0, got '%s'", origin, text);
}

static enum rt_status add_item(struct sv_option_list *list, const struct sv_origin *origin,
                               const char *text, struct rt_error *err)
{
    if (list->from != origin->kind)
        list->n = 0;
    if (list->n == SV_OPTION_LIST_MAX)
        return rt_fail(err, RT_E_INVALID, "%s: given more than %d times", origin->text,
                       SV_OPTION_LIST_MAX);
    list->from = origin->kind;
    list->item[list->n++] = text;
    return RT_OK;
}

enum rt_status sv_option_set(const struct sv_option *o, void *settings,
                             const struct sv_origin *origin, const char *text, struct rt_error *err)
{
    switch (o->type) {
    case SV_OPTION_FLAG:
        return set_flag(o, settings, origin->text, text, err);
    case SV_OPTION_CHOICE:
        return set_choice(o, settings, origin->text, text, err);
    case SV_OPTION_STRING:
        *(const char **)member(o, settings) = text;
        return RT_OK;
    case SV_OPTION_LIST:
        return add_item(member(o, settings), origin, text, err);
    case SV_OPTION_INT:
    case SV_OPTION_SIZE:
    case SV_OPTION_SECONDS:
        break;
    }
    return set_number(o, settings, origin->text, text, err);
}

static enum rt_status set(const struct sv_option *o, void *settings, const char *origin,
                          const char *text, struct rt_error *err)
{
    return sv_option_set(o, settings, &(struct sv_origin){ SV_FROM_COMMAND_LINE, origin }, text,
                         err);
}

/* The option's variable, or NULL. */
static const char *variable(const struct sv_option *o, char name[SV_ORIGIN_LEN])
{
    snprintf(name, SV_ORIGIN_LEN, "CONVD_%s", o->name);
    for (char *p = name; *p != '\0'; p++)
        *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
    return getenv(name);
}

/* Cuts text at its commas, in memory that lives as long as the environment: its own. */
static enum rt_status set_items(const struct sv_option *o, void *settings,
                                const struct sv_origin *origin, char *text, struct rt_error *err)
{
    enum rt_status s = RT_OK;
    while (text != NULL && s == RT_OK) {
        char *item = strsep(&text, ",");
        if (item[0] != '\0')
            s = sv_option_set(o, settings, origin, item, err);
    }
    return s;
}

static enum rt_status read_environment(const struct sv_command *c, void *settings,
                                       struct rt_error *err)
{
    for (const struct sv_option *o = c->options; o->name != NULL; o++) {
        char name[SV_ORIGIN_LEN];
        const char *value = variable(o, name);
        if (value == NULL)
            continue;
        const struct sv_origin origin = { SV_FROM_ENVIRONMENT, name };
        enum rt_status s = o->type == SV_OPTION_LIST
                               ? set_items(o, settings, &origin, (char *)(uintptr_t)value, err)
                               : sv_option_set(o, settings, &origin, value, err);
        if (s != RT_OK)
            return s;
    }
    return RT_OK;
}

/* How many letters have to be put in, taken out or changed to get from a to b, both shorter than
 * the row. */
static int distance(const char *a, const char *b)
{
    int row[64];
    int n = (int)strlen(b);
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 1; a[i - 1] != '\0'; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int change = diagonal + (a[i - 1] != b[j - 1]);
            int best = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            diagonal = row[j];
            row[j] = change < best ? change : best;
        }
    }
    return row[n];
}

const char *sv_nearest(const char *word, const char *const *names, int n)
{
    const char *nearest = NULL;
    size_t len = strlen(word);
    int best = len < 4 ? 2 : (int)len / 3 + 2;
    for (int i = 0; i < n && len < 60; i++) {
        int d = strlen(names[i]) < 60 ? distance(word, names[i]) : best;
        if (len >= 3 && d > 1 && strncmp(word, names[i], len) == 0)
            d = 1; /* the rest is missing */
        if (d < best) {
            best = d;
            nearest = names[i];
        }
    }
    return nearest;
}

static enum rt_status unknown(const struct sv_command *c, const char *word, size_t len,
                              struct rt_error *err)
{
    const char *names[128];
    char text[SV_ORIGIN_LEN];
    int n = 0;
    for (const struct sv_option *o = c->options; o->name != NULL && n < 128; o++)
        names[n++] = o->name;
    snprintf(text, sizeof text, "%.*s", (int)(len < 60 ? len : 60), word);
    const char *near = sv_nearest(text, names, n);
    if (near != NULL)
        return rt_fail(err, RT_E_INVALID, "unknown option --%s; did you mean --%s?", text, near);
    return rt_fail(err, RT_E_INVALID, "unknown option --%s", text);
}

static const struct sv_option *find(const struct sv_command *c, const char *name, size_t len)
{
    for (const struct sv_option *o = c->options; o->name != NULL; o++)
        if (strlen(o->name) == len && strncmp(o->name, name, len) == 0)
            return o;
    return NULL;
}

/* "--name", "--name=value", "--name value", "--no-name"; *i is moved past what was used. */
static enum rt_status parse_long(const struct sv_command *c, int argc, char **argv, int *i,
                                 void *settings, struct rt_error *err)
{
    const char *name = argv[*i] + 2;
    size_t len = strcspn(name, "=");
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    const struct sv_option *o = find(c, name, len);
    if (o == NULL && value == NULL && strncmp(name, "no-", 3) == 0) {
        o = find(c, name + 3, len - 3);
        if (o != NULL && o->type == SV_OPTION_FLAG) {
            *(bool *)member(o, settings) = false;
            return RT_OK;
        }
        o = NULL;
    }
    if (o == NULL)
        return unknown(c, name, len, err);
    char origin[SV_ORIGIN_LEN];
    snprintf(origin, sizeof origin, "--%s", o->name);
    if (value == NULL && o->type == SV_OPTION_FLAG)
        value = "1";
    if (value == NULL && *i + 1 < argc)
        value = argv[++*i];
    if (value == NULL)
        return rt_fail(err, RT_E_INVALID, "%s needs a value", origin);
    return set(o, settings, origin, value, err);
}

/* "-p value", "-pvalue". */
static enum rt_status parse_short(const struct sv_command *c, int argc, char **argv, int *i,
                                  void *settings, struct rt_error *err)
{
    const char *word = argv[*i];
    for (const struct sv_option *o = c->options; o->name != NULL; o++) {
        if (o->letter == 0 || o->letter != word[1])
            continue;
        char origin[SV_ORIGIN_LEN];
        snprintf(origin, sizeof origin, "-%c", o->letter);
        const char *value = word[2] != '\0' ? word + 2 : NULL;
        if (o->type == SV_OPTION_FLAG) {
            if (value != NULL)
                break;
            value = "1";
        }
        if (value == NULL && *i + 1 < argc)
            value = argv[++*i];
        if (value == NULL)
            return rt_fail(err, RT_E_INVALID, "%s needs a value", origin);
        return set(o, settings, origin, value, err);
    }
    return rt_fail(err, RT_E_INVALID, "unknown option %.60s", word);
}

static bool is_option(const char *word)
{
    return word[0] == '-' && word[1] != '\0' && !isdigit((unsigned char)word[1]) && word[1] != '.';
}

/* The file of settings that the command line or the environment names comes before both. */
static enum rt_status read_file(const struct sv_command *c, int argc, char **argv, void *settings,
                                void **memory, struct rt_error *err)
{
    const struct sv_option *o = find(c, c->file, strlen(c->file));
    char name[SV_ORIGIN_LEN];
    size_t len = strlen(c->file);
    const char *path = c->environment ? variable(o, name) : NULL;
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strncmp(argv[i], "--", 2) != 0 || strncmp(argv[i] + 2, c->file, len) != 0)
            continue;
        if (argv[i][2 + len] == '=')
            path = argv[i] + 2 + len + 1;
        else if (argv[i][2 + len] == '\0' && i + 1 < argc)
            path = argv[i + 1];
    }
    if (path == NULL || path[0] == '\0')
        return RT_OK;
    return sv_config_file_read(c, path, settings, memory, err);
}

enum rt_status sv_options_parse(const struct sv_command *c, int argc, char **argv, void *settings,
                                struct sv_arguments *rest, struct rt_error *err)
{
    *rest = (struct sv_arguments){ .item = argv };
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            rest->help = true;
            return RT_OK;
        }
    enum rt_status s =
        c->file != NULL ? read_file(c, argc, argv, settings, &rest->memory, err) : RT_OK;
    if (s == RT_OK && c->environment)
        s = read_environment(c, settings, err);
    bool options = true;
    for (int i = 0; i < argc && s == RT_OK; i++) {
        if (options && strcmp(argv[i], "--") == 0)
            options = false;
        else if (options && strncmp(argv[i], "--", 2) == 0)
            s = parse_long(c, argc, argv, &i, settings, err);
        else if (options && is_option(argv[i]))
            s = parse_short(c, argc, argv, &i, settings, err);
        else
            argv[rest->n++] = argv[i];
    }
    return s;
}

void sv_option_default(const struct sv_option *o, const struct sv_command *c,
                       char buf[SV_OPTION_DEFAULT])
{
    const char *at = (const char *)c->defaults + o->offset;
    const size_t len = SV_OPTION_DEFAULT;
    buf[0] = '\0';
    switch (o->type) {
    case SV_OPTION_FLAG:
        if (*(const bool *)at)
            snprintf(buf, len, "on; --no-%s turns it off", o->name);
        return;
    case SV_OPTION_STRING: {
        const char *s = *(const char *const *)at;
        snprintf(buf, len, "%s", s != NULL ? s : o->none != NULL ? o->none : "");
        return;
    }
    case SV_OPTION_INT: {
        int v = *(const int *)at;
        if (v == 0 && o->none != NULL)
            snprintf(buf, len, "%s", o->none);
        else
            snprintf(buf, len, "%d", v);
        return;
    }
    case SV_OPTION_SIZE: {
        size_t v = *(const size_t *)at;
        int power = 0;
        while (v > 0 && v % 1024 == 0 && power < 4) {
            v /= 1024;
            power++;
        }
        static const char *const unit[] = { "", "K", "M", "G", "T" };
        if (v == 0 && o->none != NULL)
            snprintf(buf, len, "%s", o->none);
        else
            snprintf(buf, len, "%zu%s", v, unit[power]);
        return;
    }
    case SV_OPTION_SECONDS: {
        /* cppcheck-suppress invalidPointerCast ; a double lies there */
        double v = *(const double *)at;
        if (v == 0 && o->none != NULL)
            snprintf(buf, len, "%s", o->none);
        else
            snprintf(buf, len, "%g s", v);
        return;
    }
    case SV_OPTION_CHOICE: {
        const char *word = o->choices;
        assert(word != NULL);
        for (int i = *(const int *)at; i > 0; i--)
            word += strcspn(word, "|") + 1;
        snprintf(buf, len, "%.*s", (int)strcspn(word, "|"), word);
        return;
    }
    case SV_OPTION_LIST:
        return;
    }
}

/* Prints text from column on, broken between words so that lines end before column 80. */
static void print_wrapped(const char *text, int column, FILE *to)
{
    int at = column;
    while (*text != '\0') {
        int len = (int)strcspn(text, " ");
        if (at > column && at + 1 + len > 79) {
            fprintf(to, "\n%*s", column, "");
            at = column;
        } else if (at > column) {
            putc(' ', to);
            at++;
        }
        fprintf(to, "%.*s", len, text);
        at += len;
        text += len + (text[len] == ' ');
    }
    putc('\n', to);
}

#define HELP_COLUMN 28

static void print_option(const struct sv_option *o, const struct sv_command *c, FILE *to)
{
    char head[160], tail[SV_OPTION_DEFAULT], text[1024];
    const char *value = o->value != NULL ? o->value : o->choices;
    char letter[] = { '-', o->letter, ',', ' ', '\0' };
    int len = snprintf(head, sizeof head, "  %s--%s %s", o->letter != 0 ? letter : "", o->name,
                       value != NULL ? value : "");
    sv_option_default(o, c, tail);
    if (tail[0] != '\0')
        snprintf(text, sizeof text, "%s (default: %s)", o->help, tail);
    else
        snprintf(text, sizeof text, "%s", o->help);
    if (len > HELP_COLUMN - 2)
        fprintf(to, "%s\n%*s", head, HELP_COLUMN, "");
    else
        fprintf(to, "%-*s", HELP_COLUMN, head);
    print_wrapped(text, HELP_COLUMN, to);
}

void sv_options_help(const struct sv_command *c, FILE *to)
{
    fprintf(to, "Usage: %s%s [OPTION...]%s%s\n\n%s\n\nOptions:\n",
            c->program != NULL ? c->program : SV_NAME " ", c->program != NULL ? "" : c->name,
            c->usage[0] != '\0' ? " " : "", c->usage, c->summary);
    for (const struct sv_option *o = c->options; o->name != NULL; o++)
        print_option(o, c, to);
    fprintf(to, "%-*s%s\n", HELP_COLUMN, "  -h, --help", "print this");
    if (c->environment)
        fputs("\nEvery option may also be set in the environment: --max-body as CONVD_MAX_BODY, "
              "lists\n"
              "with commas between their items.\n",
              to);
    if (c->file != NULL)
        fprintf(to,
                "And in the JSON file that --%s names: {\"max_body\": \"64M\"}.\n"
                "The command line wins over the environment, and that over the file.\n",
                c->file);
    else if (c->environment)
        fputs("The command line wins.\n", to);
    if (c->epilogue != NULL)
        fprintf(to, "\n%s\n", c->epilogue);
}
