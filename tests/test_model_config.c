/* config.json and what goes with it: every message names its field, labels, the paths that stand
 * for models, what a picture becomes, and command lines (whose words config.json shares). */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "server/config_file.h"
#include "server/file.h"
#include "server/model.h"
#include "server/model_config.h"
#include "server/options.h"
#include "server/sources.h"

static enum rt_status parse(const char *text, struct sv_model_config *c, struct rt_error *err)
{
    return sv_model_config_parse("config.json", text, strlen(text), c, err);
}

static void reads_everything(void **state)
{
    (void)state;
    struct sv_model_config c;
    struct rt_error err = { 0 };
    const char *text =
        "{\"name\": \"n\\u00e4me\", \"max_batch_size\": 16, \"labels\": \"sub/labels.txt\","
        "\"scores\": \"sigmoid\", \"max_queue_size\": 9, \"max_queue_delay_us\": 500,"
        "\"instances\": 2, \"batchnorm\": \"separate\", \"allow_batch_statistics\": true,"
        "\"input\": {\"name\": \"x\", \"color\": \"bgr\", \"layout\": \"NHWC\","
        " \"resize\": \"fit\", \"resize_to\": 256, \"filter\": \"bicubic\", \"scale\": 1,"
        " \"mean\": [1, 2.5, 3], \"std\": 2, \"fill\": 114, \"width\": 20, \"height\": 10}}";
    assert_int_equal(parse(text, &c, &err), RT_OK);
    assert_string_equal(c.name, "n\xc3\xa4me");
    assert_int_equal(c.max_batch_size, 16);
    assert_string_equal(c.labels_file, "sub/labels.txt");
    assert_int_equal(c.scores, SV_SCORES_SIGMOID);
    assert_int_equal(c.max_queue_size, 9);
    assert_int_equal(c.max_queue_delay_us, 500);
    assert_int_equal(c.instances, 2);
    assert_int_equal(c.batchnorm, RT_BATCHNORM_SEPARATE);
    assert_true(c.allow_batch_statistics);
    assert_true(c.input.present && c.input.has_color && c.input.has_layout);
    assert_int_equal(c.input.color, SV_BGR);
    assert_true(c.input.nhwc);
    assert_int_equal(c.input.resize, SV_RESIZE_FIT);
    assert_int_equal(c.input.filter, SV_FILTER_BICUBIC);
    assert_int_equal(c.input.resize_to, 256);
    assert_int_equal(c.input.n_mean, 3);
    assert_true(c.input.mean[1] == 2.5f);
    assert_int_equal(c.input.n_std, 1);
    assert_true(c.input.fill == 114);
    assert_int_equal(c.input.width * 100 + c.input.height, 2010);
    sv_model_config_reset(&c);
    assert_int_equal(parse("{}", &c, &err), RT_OK);
    assert_null(c.name);
    assert_false(c.input.present);
    sv_model_config_reset(&c);
    assert_int_equal(parse("{\"labels\": [\"a\", \"b\"]}", &c, &err), RT_OK);
    assert_int_equal(c.labels.n, 2);
    assert_string_equal(sv_labels_get(&c.labels, 1), "b");
    sv_model_config_reset(&c);
}

static void reads_how_to_queue(void **state)
{
    (void)state;
    struct sv_model_config c;
    struct rt_error err = { 0 };
    const char *text =
        "{\"version_policy\": {\"specific\": {\"versions\": [3, 1]}}, \"priority_levels\": 4,"
        "\"preferred_batch_size\": [8, 2, 8], \"warmup\": 3, \"queue_policy\":"
        " {\"timeout_action\": \"delay\", \"default_timeout_us\": 7,"
        "  \"allow_timeout_override\": false}}";
    assert_int_equal(parse(text, &c, &err), RT_OK);
    assert_int_equal(c.version_policy, SV_VERSIONS_SPECIFIC);
    assert_int_equal(c.n_versions, 2);
    assert_int_equal(c.version[0] * 10 + c.version[1], 31);
    assert_int_equal(c.priority_levels, 4);
    assert_int_equal(c.default_priority_level, 2);
    assert_int_equal(c.n_preferred, 2);
    assert_int_equal(c.preferred_batch_size[0] * 10 + c.preferred_batch_size[1], 28);
    assert_int_equal(c.timeout_action, SV_TIMEOUT_DELAY);
    assert_int_equal(c.default_timeout_us, 7);
    assert_true(c.fixed_timeout);
    assert_int_equal(c.warmup, 3);
    sv_model_config_reset(&c);
    assert_int_equal(parse("{\"version_policy\": {\"latest\": {}}, \"warmup\": 0}", &c, &err),
                     RT_OK);
    assert_int_equal(c.version_policy, SV_VERSIONS_LATEST);
    assert_int_equal(c.n_versions, 1);
    assert_int_equal(c.warmup, -1);
    sv_model_config_reset(&c);
}

/* Whether the parser knows the key. */
static bool has_key(const char *path)
{
    const char *key;
    for (int i = 0; (key = sv_model_config_key(i)) != NULL; i++)
        if (strcmp(key, path) == 0)
            return true;
    return false;
}

/* Counts the properties of a schema and of those inside of it; each has to be a key. */
static int count_properties(const json_t *schema, const char *prefix)
{
    const char *name;
    json_t *inner;
    int n = 0;
    json_object_foreach(json_object_get(schema, "properties"), name, inner)
    {
        char path[128];
        snprintf(path, sizeof path, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "", name);
        if (!has_key(path))
            fail_msg("the schema has '%s', the parser does not", path);
        n += 1 + count_properties(inner, path);
    }
    return n;
}

static void schema_lists_the_same_keys(void **state)
{
    (void)state;
    json_error_t why;
    json_t *schema = json_load_file("server/model_config.schema.json", 0, &why);
    if (schema == NULL)
        fail_msg("%s: line %d: %s", why.source, why.line, why.text);
    int n = 0;
    while (sv_model_config_key(n) != NULL)
        n++;
    assert_int_equal(count_properties(schema, ""), n);
    json_decref(schema);
}

static void messages_name_the_field(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        { "", "config.json: line 1, column 0: " },
        { "[]", "config.json: expected an object, got an array" },
        { "{\"a\": 1, \"a\": 2}", "config.json: line 1, column " },
        { "{\"max_batch\": 8}",
          "config.json: max_batch: unknown key; did you mean \"max_batch_size\"?" },
        { "{\"xyzzy\": 8}", "config.json: xyzzy: unknown key" },
        { "{\"input\": {\"colour\": \"rgb\"}}",
          "config.json: input.colour: unknown key; did you mean \"color\"?" },
        { "{\"input\": {\"mean\": [1, 2, \"x\"]}}",
          "config.json: input.mean[2]: expected a number, got a string" },
        { "{\"input\": {\"mean\": [1, 2]}}",
          "config.json: input.mean: expected 1 number (grey) or 3 (colour), got 2" },
        { "{\"input\": {\"std\": [1, 0, 1]}}",
          "config.json: input.std: must not be 0, pixels are divided by it" },
        { "{\"input\": {\"scale\": 1e300}}",
          "config.json: input.scale: 1e+300 is more than a 32-bit float holds" },
        { "{\"input\": {\"scale\": null}}",
          "config.json: input.scale: expected a number, got null" },
        { "{\"input\": {\"fill\": 300}}",
          "config.json: input.fill: must be between 0 and 255, got 300" },
        { "{\"input\": {\"width\": 2.5}}",
          "config.json: input.width: expected a whole number, got a number with a fraction" },
        { "{\"input\": {\"resize\": \"zoom\"}}",
          "config.json: input.resize: expected \"stretch\", \"crop\" or \"fit\", got \"zoom\"" },
        { "{\"input\": 5}", "config.json: input: expected an object, got a whole number" },
        { "{\"max_batch_size\": 0}",
          "config.json: max_batch_size: must be between 1 and 4096, got 0" },
        { "{\"scores\": true}",
          "config.json: scores: expected \"auto\", \"softmax\", \"sigmoid\" or \"none\", got "
          "true" },
        { "{\"allow_batch_statistics\": 1}",
          "config.json: allow_batch_statistics: expected true or false, got a whole number" },
        { "{\"labels\": \"../labels.txt\"}",
          "config.json: labels: \"../labels.txt\" is not inside the model's folder" },
        { "{\"labels\": \"/etc/passwd\"}",
          "config.json: labels: \"/etc/passwd\" is not inside the model's folder" },
        { "{\"labels\": \"a/../../b\"}",
          "config.json: labels: \"a/../../b\" is not inside the model's folder" },
        { "{\"labels\": [\"a\", 2]}",
          "config.json: labels[1]: expected a string, got a whole number" },
        { "{\"name\": \"a/b\"}", "config.json: name: a model cannot be called \"a/b\"" },
        { "{\"name\": \"stats\"}", "config.json: name: a model cannot be called \"stats\"" },
        { "{\"name\": \"\\u0007\"}", "config.json: name: a model cannot be called" },
        { "{\"input\": {\"scale\": 0}}", "config.json: input.scale: must not be 0" },
        { "{\"version_policy\": {\"specific\": {}}}",
          "config.json: version_policy.specific: \"versions\" is missing" },
        { "{\"version_policy\": {\"all\": {}, \"latest\": {}}}",
          "config.json: version_policy: expected one of" },
        { "{\"priority_levels\": 2, \"default_priority_level\": 3}",
          "config.json: default_priority_level: is 3, but priority_levels is 2" },
        { "{\"max_batch_size\": 2, \"preferred_batch_size\": [3]}",
          "config.json: preferred_batch_size: holds 3, but max_batch_size is 2" },
        { "{\"preferred_batch_size\": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}",
          "config.json: preferred_batch_size: at most 16 sizes are taken" },
        { "{\"version_policy\": {\"specific\": {\"versions\": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
          "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}}}",
          "config.json: version_policy.specific.versions: at most 32 versions are taken" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sv_model_config c;
        struct rt_error err = { 0 };
        assert_int_equal(parse(cases[i][0], &c, &err), RT_E_INVALID);
        assert_int_equal(err.status, RT_E_INVALID);
        if (strncmp(err.text, cases[i][1], strlen(cases[i][1])) != 0)
            fail_msg("%s: got '%s', wanted '%s...'", cases[i][0], err.text, cases[i][1]);
    }
}

static void config_out_of_memory(void **state)
{
    (void)state;
    const char *text = "{\"name\": \"n\", \"labels\": [\"a\", \"b\", \"c\"],"
                       "\"input\": {\"name\": \"x\"}}";
    long before = rt_mem_live();
    enum rt_status s = RT_E_NOMEM;
    for (long after = 0; s != RT_OK; after++) {
        struct sv_model_config c = { 0 };
        rt_mem_fail(after);
        s = parse(text, &c, NULL);
        rt_mem_fail(-1);
        assert_true(s == RT_OK || s == RT_E_NOMEM);
        sv_model_config_reset(&c);
        assert_int_equal(rt_mem_live(), before);
    }
}

static void labels(void **state)
{
    (void)state;
    struct sv_labels l;
    struct rt_error err = { 0 };
    const char *text = "\xef\xbb\xbf"
                       "cat\r\n\nbird\xc3\xa9\nlast";
    assert_int_equal(sv_labels_parse(text, strlen(text), &l, &err), RT_OK);
    assert_int_equal(l.n, 4);
    assert_string_equal(sv_labels_get(&l, 0), "cat");
    assert_null(sv_labels_get(&l, 1));
    assert_string_equal(sv_labels_get(&l, 2), "bird\xc3\xa9");
    assert_string_equal(sv_labels_get(&l, 3), "last");
    assert_null(sv_labels_get(&l, 4));
    assert_null(sv_labels_get(&l, -1));
    sv_labels_reset(&l);
    assert_int_equal(sv_labels_parse("ok\n\xff\n", 5, &l, &err), RT_E_INVALID);
    assert_string_equal(err.text, "line 2 is not UTF-8 text");
    assert_int_equal(sv_labels_parse("", 0, &l, &err), RT_OK);
    assert_int_equal(l.n, 0);
    sv_labels_reset(&l);
}

/* A folder below the system's for temporary files, which the test fills and leaves empty. */
static char root[PATH_MAX];

static void put(const char *path)
{
    char full[PATH_MAX + 256];
    snprintf(full, sizeof full, "%s/%s", root, path);
    char *folder = sv_path_folder(full);
    assert_int_equal(sv_folder_create(folder, NULL), RT_OK);
    rt_free(folder);
    assert_int_equal(sv_file_write(full, "x", 1, NULL), RT_OK);
}

static int make_root(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(root, sizeof root, "%s/convd-test-XXXXXX", tmp != NULL ? tmp : "/tmp");
    return mkdtemp(root) != NULL ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    char command[PATH_MAX + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

/* Checks what root/path stands for: "name:version:file:config:labels" for each model, paths from
 * root on, "-" for none. */
static void expect_sources(const char *path, const char *wanted)
{
    struct sv_sources list;
    struct rt_error err = { 0 };
    char full[PATH_MAX + 256], got[2048] = "";
    snprintf(full, sizeof full, "%s%s", root, path);
    enum rt_status s = sv_sources_find(full, &list, &err);
    if (s != RT_OK) {
        snprintf(got, sizeof got, "%s",
                 strncmp(err.text, root, strlen(root)) == 0 ? err.text + strlen(root) : err.text);
        assert_string_equal(got, wanted);
        return;
    }
    for (int i = 0; i < list.n; i++) {
        const struct sv_source *src = &list.item[i];
        const char *files[] = { src->path, src->config, src->labels };
        size_t len = strlen(got);
        len += (size_t)snprintf(got + len, sizeof got - len, "%s%s:%d", i > 0 ? " " : "", src->name,
                                (int)src->version);
        for (int k = 0; k < 3; k++)
            len += (size_t)snprintf(got + len, sizeof got - len, ":%s",
                                    files[k] != NULL ? files[k] + strlen(root) : "-");
    }
    sv_sources_reset(&list);
    assert_string_equal(got, wanted);
}

static void paths_stand_for_models(void **state)
{
    (void)state;
    put("bare/b.onnx");
    put("bare/a.onnx");
    put("bare/a.labels.txt");
    put("bare/a.config.json");
    put("bare/notes.txt");
    put("zoo/plain/model.onnx");
    put("zoo/plain/config.json");
    put("zoo/plain/labels.txt");
    put("zoo/many/1/model.onnx");
    put("zoo/many/10/model.onnx");
    put("zoo/many/10/labels.txt");
    put("zoo/many/2/model.onnx");
    put("zoo/many/03/model.onnx");
    put("zoo/many/config.json");
    put("zoo/many/labels.txt");
    put("zoo/x.onnx");
    put("zoo/other/readme");
    put("both/model.onnx");
    put("both/1/model.onnx");
    put("empty/readme");
    expect_sources("/bare/a.onnx", "a:1:/bare/a.onnx:/bare/a.config.json:/bare/a.labels.txt");
    expect_sources("/bare", "a:1:/bare/a.onnx:/bare/a.config.json:/bare/a.labels.txt "
                            "b:1:/bare/b.onnx:-:-");
    const char *plain = "plain:1:/zoo/plain/model.onnx:/zoo/plain/config.json:"
                        "/zoo/plain/labels.txt";
    expect_sources("/zoo/plain", plain);
    expect_sources("/zoo/plain/", plain);
    expect_sources("/zoo/plain/.", plain);
    expect_sources("/zoo/plain/model.onnx", plain);
    expect_sources("/zoo/many/2/model.onnx",
                   "many:2:/zoo/many/2/model.onnx:/zoo/many/config.json:/zoo/many/labels.txt");
    expect_sources("/zoo",
                   "many:1:/zoo/many/1/model.onnx:/zoo/many/config.json:/zoo/many/labels.txt "
                   "many:2:/zoo/many/2/model.onnx:/zoo/many/config.json:/zoo/many/labels.txt "
                   "many:10:/zoo/many/10/model.onnx:/zoo/many/config.json:"
                   "/zoo/many/10/labels.txt "
                   "plain:1:/zoo/plain/model.onnx:/zoo/plain/config.json:/zoo/plain/labels.txt "
                   "x:1:/zoo/x.onnx:-:-");
    expect_sources("/both", "/both: holds both model.onnx and versions of it in numbered folders");
    expect_sources("/empty", "/empty: there is no .onnx model in it");
    expect_sources("/nothing", "/nothing: No such file or directory");
    expect_sources("/empty/readme", "/empty/readme: this is not an ONNX model but a text file");
}

static void sources_out_of_memory(void **state)
{
    (void)state;
    put("z/many/1/model.onnx");
    put("z/many/labels.txt");
    put("z/a.onnx");
    char path[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s/z", root);
    long before = rt_mem_live();
    enum rt_status s = RT_E_NOMEM;
    for (long after = 0; s != RT_OK; after++) {
        struct sv_sources list = { 0 };
        struct rt_error err = { 0 };
        rt_mem_fail(after);
        s = sv_sources_find(path, &list, &err);
        rt_mem_fail(-1);
        assert_true(s == RT_OK || s == RT_E_NOMEM);
        sv_sources_reset(&list);
        assert_int_equal(rt_mem_live(), before);
    }
}

static const struct rt_io colour = { "x", RT_FLOAT, { 4, { -1, 3, 20, 30 } } };
static const struct rt_io grey = { "x", RT_FLOAT, { 4, { -1, 1, 28, 28 } } };
static const struct rt_io free_size = { "x", RT_FLOAT, { 4, { -1, 3, -1, -1 } } };

static enum rt_status preprocess(const struct rt_io *io, const char *input, struct sv_preprocess *p,
                                 struct rt_error *err)
{
    char text[512];
    struct sv_model_config c;
    snprintf(text, sizeof text, "{\"input\": %s}", input);
    assert_int_equal(parse(text, &c, NULL), RT_OK);
    enum rt_status s = sv_model_preprocess(io, "", &c.input, p, err);
    sv_model_config_reset(&c);
    return s;
}

static void config_goes_over_what_is_derived(void **state)
{
    (void)state;
    struct sv_preprocess p;
    struct rt_error err = { 0 };
    assert_int_equal(preprocess(&colour, "{}", &p, &err), RT_OK);
    assert_int_equal(p.width, 30);
    assert_int_equal(p.height, 20);
    assert_int_equal(p.color, SV_RGB);
    assert_int_equal(preprocess(&colour,
                                "{\"color\": \"bgr\", \"mean\": [10, 20, 30], \"resize\": "
                                "\"fit\", \"fill\": 9}",
                                &p, &err),
                     RT_OK);
    assert_int_equal(p.color, SV_BGR);
    assert_int_equal(p.resize, SV_RESIZE_FIT);
    assert_true(p.scale == 1.0f / 255 && p.mean[2] == 30 && p.std[2] == 1 && p.fill == 9);
    assert_int_equal(preprocess(&grey, "{\"color\": \"gray\", \"std\": [0.5]}", &p, &err), RT_OK);
    assert_int_equal(p.channels, 1);
    assert_true(p.std[0] == 0.5f && p.mean[0] == 0);
    assert_int_equal(preprocess(&free_size, "{\"width\": 64, \"height\": 48}", &p, &err), RT_OK);
    assert_int_equal(p.width, 64);
    assert_int_equal(p.height, 48);

    static const struct {
        const struct rt_io *io;
        const char *input, *wanted;
    } bad[] = {
        { &colour, "{\"width\": 31}", "input.width: the model's input is 30, not 31" },
        { &colour, "{\"color\": \"gray\"}",
          "input.color: makes 1 channels, but the model's input has 3" },
        { &grey, "{\"color\": \"rgb\"}",
          "input.color: makes 3 channels, but the model's input has 1" },
        { &colour, "{\"layout\": \"NHWC\"}",
          "input.layout: makes 3 channels, but the model's input has 30" },
        { &grey, "{\"mean\": [1, 2, 3]}", "input.mean: has 3 numbers, but pictures are grey" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(preprocess(bad[i].io, bad[i].input, &p, &err), RT_E_INVALID);
        assert_string_equal(err.text, bad[i].wanted);
    }
}

struct settings {
    bool flag, on;
    const char *word;
    int number, choice;
    size_t size;
    double seconds;
    struct sv_option_list list;
};

static const struct sv_option table[] = {
    { .name = "flag",
      .letter = 'f',
      .type = SV_OPTION_FLAG,
      .offset = offsetof(struct settings, flag),
      .help = "a flag" },
    { .name = "switched-on",
      .type = SV_OPTION_FLAG,
      .offset = offsetof(struct settings, on),
      .help = "a flag that is on" },
    { .name = "word",
      .letter = 'w',
      .type = SV_OPTION_STRING,
      .offset = offsetof(struct settings, word),
      .value = "WORD",
      .help = "a word" },
    { .name = "number",
      .letter = 'n',
      .type = SV_OPTION_INT,
      .offset = offsetof(struct settings, number),
      .value = "N",
      .help = "a number",
      .min = -3,
      .max = 7 },
    { .name = "choice",
      .type = SV_OPTION_CHOICE,
      .offset = offsetof(struct settings, choice),
      .choices = "one|two|three",
      .help = "a choice" },
    { .name = "max-size",
      .type = SV_OPTION_SIZE,
      .offset = offsetof(struct settings, size),
      .value = "BYTES",
      .help = "a size" },
    { .name = "time",
      .type = SV_OPTION_SECONDS,
      .offset = offsetof(struct settings, seconds),
      .value = "T",
      .help = "a time",
      .max = 100 },
    { .name = "list",
      .type = SV_OPTION_LIST,
      .offset = offsetof(struct settings, list),
      .value = "X",
      .help = "a list" },
    { .name = NULL },
};

static const struct sv_command command = {
    .name = "try",
    .usage = "[PATH...]",
    .summary = "Tries.",
    .options = table,
    .environment = true,
};

/* Parses a command line of words between blanks. */
static enum rt_status parse_line(const char *line, struct settings *set, struct sv_arguments *rest,
                                 struct rt_error *err)
{
    static char copy[512], *argv[64];
    int argc = 0;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " "))
        argv[argc++] = word;
    *set = (struct settings){ .on = true, .size = 1 << 20, .seconds = 30 };
    *err = (struct rt_error){ 0 };
    return sv_options_parse(&command, argc, argv, set, rest, err);
}

static void command_lines(void **state)
{
    (void)state;
    struct settings set;
    struct sv_arguments rest;
    struct rt_error err;
    assert_int_equal(parse_line("a -f --number=-3 b --word x --choice three --max-size 64M "
                                "--time 500ms --no-switched-on --list 1 --list=2 -- --flag",
                                &set, &rest, &err),
                     RT_OK);
    assert_true(set.flag && !set.on);
    assert_int_equal(set.number, -3);
    assert_string_equal(set.word, "x");
    assert_int_equal(set.choice, 2);
    assert_int_equal(set.size, 64 << 20);
    assert_true(set.seconds == 0.5);
    assert_int_equal(set.list.n, 2);
    assert_string_equal(set.list.item[1], "2");
    assert_int_equal(rest.n, 3);
    assert_string_equal(rest.item[0], "a");
    assert_string_equal(rest.item[1], "b");
    assert_string_equal(rest.item[2], "--flag");
    assert_int_equal(parse_line("-wx -n 4 - -5", &set, &rest, &err), RT_OK);
    assert_string_equal(set.word, "x");
    assert_int_equal(rest.n, 2);
    assert_int_equal(parse_line("--nonsense --help", &set, &rest, &err), RT_OK);
    assert_true(rest.help);

    static const char *const bad[][2] = {
        { "--numbr 4", "unknown option --numbr; did you mean --number?" },
        { "--zzzzzz", "unknown option --zzzzzz" },
        { "--no-word", "unknown option --no-word; did you mean --word?" },
        { "-q", "unknown option -q" },
        { "--number", "--number needs a value" },
        { "--number 8", "--number: must be between -3 and 7, got 8" },
        { "--number 0x2", "--number: expected a whole number, got '0x2'" },
        { "--number 2.5", "--number: expected a whole number, got '2.5'" },
        { "--max-size 3X", "--max-size: expected a number of bytes, as in 65536 or 64M, got '3X'" },
        { "--max-size -1", "--max-size: must be at least 0, got -1" },
        { "--time 5h", "--time: expected a time, as in 30, 30s or 500ms, got '5h'" },
        { "--choice four", "--choice: must be one of one|two|three, got 'four'" },
        { "--flag=maybe", "--flag: expected 1 or 0, got 'maybe'" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(parse_line(bad[i][0], &set, &rest, &err), RT_E_INVALID);
        assert_string_equal(err.text, bad[i][1]);
    }
}

static void environment(void **state)
{
    (void)state;
    struct settings set;
    struct sv_arguments rest;
    struct rt_error err;
    setenv("CONVD_MAX_SIZE", "2K", 1);
    setenv("CONVD_SWITCHED_ON", "off", 1);
    setenv("CONVD_NUMBER", "1", 1);
    assert_int_equal(parse_line("--number 2", &set, &rest, &err), RT_OK);
    assert_int_equal(set.size, 2048);
    assert_int_equal(set.number, 2);
    assert_false(set.on);
    setenv("CONVD_NUMBER", "many", 1);
    assert_int_equal(parse_line("", &set, &rest, &err), RT_E_INVALID);
    assert_string_equal(err.text, "CONVD_NUMBER: expected a whole number, got 'many'");
    unsetenv("CONVD_MAX_SIZE");
    unsetenv("CONVD_SWITCHED_ON");
    unsetenv("CONVD_NUMBER");
}

/* Defaults, then the file, then the environment, then the command line. */
static void settings_file(void **state)
{
    (void)state;
    static const char path[] = "/tmp/convd-test-settings.json";
    static const char text[] = "{\"number\": 5, \"max_size\": \"3K\", \"time\": 0.5,"
                               "\"choice\": \"three\", \"switched_on\": true, \"word\": \"w\","
                               "\"list\": [\"a\", \"b\"]}";
    static const char *const bad[][2] = {
        { "[]", ": expected an object" },
        { "{\"numbr\": 1}", ": unknown key \"numbr\"; did you mean \"number\"?" },
        { "{\"number\": 9}", ": number: must be between -3 and 7, got 9" },
        { "{\"number\": true}", ": number: true and false are for switches" },
        { "{\"flag\": 1}", ": flag: expected true or false" },
        { "{\"list\": [1]}", ": list: element 0 is not a string" },
        { "{\"word\": 1}", ": word: expected a string" },
        { "{\"number\": ", ": line 1, column 11: " },
    };
    struct sv_command with_file = command;
    with_file.file = "word";
    struct settings set = { 0 };
    struct sv_arguments rest;
    struct rt_error err;
    assert_int_equal(sv_file_write(path, text, strlen(text), NULL), RT_OK);
    char option[] = "--word", file[sizeof path], number[] = "--number=2", list[] = "--list=c";
    strcpy(file, path);
    char *argv[] = { option, file, number, list };
    setenv("CONVD_TIME", "2s", 1);
    setenv("CONVD_NUMBER", "3", 1);
    assert_int_equal(sv_options_parse(&with_file, 4, argv, &set, &rest, &err), RT_OK);
    assert_int_equal(set.number, 2);
    assert_true(set.seconds == 2);
    assert_int_equal(set.size, 3072);
    assert_int_equal(set.choice, 2);
    assert_true(set.on);
    assert_int_equal(set.list.n, 1);
    assert_string_equal(set.list.item[0], "c");
    rt_free(rest.memory);
    unsetenv("CONVD_TIME");
    unsetenv("CONVD_NUMBER");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        void *memory;
        assert_int_equal(sv_file_write(path, bad[i][0], strlen(bad[i][0]), NULL), RT_OK);
        assert_int_equal(sv_config_file_read(&command, path, &set, &memory, &err), RT_E_INVALID);
        if (strstr(err.text, bad[i][1]) == NULL)
            fail_msg("'%s' gave: %s", bad[i][0], err.text);
    }
    remove(path);
}

/* What is printed reads back as the same. */
static void settings_printed(void **state)
{
    (void)state;
    static const char path[] = "/tmp/convd-test-settings.json";
    const struct settings set = { .on = true, .size = 5 << 20, .seconds = 0.1, .choice = 1,
                                  .word = "a \"b\"", .number = -2,
                                  .list = { .n = 2, .item = { "x", "y" } } };
    struct settings read = { 0 };
    void *memory;
    FILE *f = fopen(path, "w");
    sv_config_file_print(&command, &set, f);
    fclose(f);
    assert_int_equal(sv_config_file_read(&command, path, &read, &memory, NULL), RT_OK);
    assert_int_equal(read.number, -2);
    assert_int_equal(read.size, 5 << 20);
    assert_true(read.seconds == 0.1 && read.on && !read.flag);
    assert_int_equal(read.choice, 1);
    assert_string_equal(read.word, "a \"b\"");
    assert_int_equal(read.list.n, 2);
    assert_string_equal(read.list.item[1], "y");
    rt_free(memory);
    remove(path);
}

static void help_shows_defaults(void **state)
{
    (void)state;
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    const struct settings set = { .on = true, .size = 64 << 20, .seconds = 1.5, .choice = 1 };
    struct sv_command with_defaults = command;
    with_defaults.defaults = &set;
    sv_options_help(&with_defaults, f);
    fclose(f);
    assert_non_null(strstr(text, "Usage: convd try [OPTION...] [PATH...]\n"));
    assert_non_null(strstr(text, "--max-size BYTES          a size (default: 64M)\n"));
    assert_non_null(strstr(text, "a flag that is on (default: on; --no-switched-on\n"));
    assert_non_null(strstr(text, "a time (default: 1.5 s)\n"));
    assert_non_null(strstr(text, "  -f, --flag"));
    assert_non_null(strstr(text, "a choice (default: two)\n"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_everything),
        cmocka_unit_test(reads_how_to_queue),
        cmocka_unit_test(schema_lists_the_same_keys),
        cmocka_unit_test(messages_name_the_field),
        cmocka_unit_test(config_out_of_memory),
        cmocka_unit_test(labels),
        cmocka_unit_test_setup_teardown(paths_stand_for_models, make_root, remove_root),
        cmocka_unit_test_setup_teardown(sources_out_of_memory, make_root, remove_root),
        cmocka_unit_test(config_goes_over_what_is_derived),
        cmocka_unit_test(command_lines),
        cmocka_unit_test(environment),
        cmocka_unit_test(settings_file),
        cmocka_unit_test(settings_printed),
        cmocka_unit_test(help_shows_defaults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
