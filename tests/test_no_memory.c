/* Memory that runs out at every single place: each command of this file is run again and again, and
 * its first allocation fails, then the second, ... until a run has none that could. Each failure
 * ends with a status and leaves nothing behind. */
#include "tests/serving.h"

#include "server/cli.h"
#include "server/commands.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>

#define WORDS 24
#define MOST 100000 /* allocations of a run: far above what any of these makes */

#define FASHION "models/fashion"
#define PICTURE FASHION "/samples/0000_ankle_boot.png"
#define TINY "models/tiny/"
#define NODE "/usr/share/libonnx-testdata/data/node/"

/* A folder for what is written; its name stands where a command has "@". */
static char folder[] = "/tmp/convd-test-XXXXXX";

static const char *const commands[][WORDS] = {
    { "predict", TINY "classifier", PICTURE, PICTURE, "--top", "3" },
    { "run", TINY "line/model.onnx", "--input", TINY "line/test_data_set_0/input_0.pb", "--output",
      "@/deep/er" },
    { "run", "--threads", "2", TINY "doubles", "--input", TINY "doubles/test_data_set_0/input_0.pb",
      "--output", "@" },
    { "test", TINY "residual", TINY "separable" },
    { "test", TINY "upsampling" },
    { "test", "@/below" },
    { "predict", TINY "classifier", "@/pictures" },
    { "test", NODE "test_convtranspose" },
    { "inspect", TINY "separable" },
    { "inspect", TINY "residual", "--json", "--threads", "2" },
    { "inspect", TINY "after_activation", "--batchnorm", "separate" },
    { "inspect", TINY "dense" },
    { "inspect", TINY "squeeze_excite" },
    { "inspect", TINY "volume" },
    { "bench", TINY "separable", "--seconds", "0.001", "--threads", "1", "--profile", "--plot",
      "@/plot.svg" },
    { "tune", "@/tuned.onnx", "--seconds", "0.001", "--threads", "1" },
    { "man" },
    { "completion", "bash" },
    { "health", "http://127.0.0.1:1" },
    { "serve", TINY "line", "--host", "127.0.0.1", "--port", "0", "--sandbox", "off", "--threads",
      "1", "--api-keys", "@/keys", "--control-keys", "@/keys", "--access-log", "@/log", "--watch",
      "--config", "@/settings.json" },
    { "serve", "--config", "@/settings.json", "--print-config" },
};

/* Runs one with its words; what it prints goes nowhere. */
static int run(const char *const *words)
{
    char text[WORDS][128], *argv[WORDS + 1] = { NULL };
    int n = 0;
    for (; words[n + 1] != NULL; n++) {
        const char *w = words[n + 1];
        const bool ours = w[0] == '@';
        snprintf(text[n], sizeof text[n], "%s%s", ours ? folder : "", ours ? w + 1 : w);
        argv[n] = text[n];
    }
    const struct sv_cli_command *c = sv_command_find(words[0]);
    assert_non_null(c);
    if (strcmp(words[0], "serve") != 0)
        return c->main(n, argv);
    /* The signal that ends a server waits for it from the start. */
    sigset_t end;
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    sigprocmask(SIG_BLOCK, &end, NULL);
    raise(SIGTERM);
    const int status = c->main(n, argv);
    sigtimedwait(&end, NULL, &(struct timespec){ 0 }); /* where it did not come so far */
    return status;
}

/* What a command printed to standard error while it failed; silence would leave a user guessing. */
static size_t printed(int file)
{
    struct stat st;
    fflush(NULL);
    assert_int_equal(fstat(file, &st), 0);
    return (size_t)st.st_size;
}

/* wanted: the status of a run that has all the memory it wants. */
static void starve(const char *const *words, int wanted)
{
    int out = dup(1), err = dup(2), nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    char said[] = "/tmp/convd-test-XXXXXX";
    int errors = mkstemp(said);
    assert_true(out >= 0 && err >= 0 && nowhere >= 0 && errors >= 0);
    unlink(said);
    const long live = rt_mem_live();
    long after = 0, left, silent = -1, leaky = -1;
    int status;
    fflush(NULL);
    dup2(strcmp(words[0], "test") == 0 ? errors : nowhere, 1); /* which lists there what failed */
    dup2(errors, 2);
    do {
        assert_int_equal(ftruncate(errors, 0), 0);
        rt_mem_fail(after);
        status = run(words);
        left = rt_mem_fail(-1);
        if (status != wanted && printed(errors) == 0 && silent < 0)
            silent = after;
        if (rt_mem_live() != live && leaky < 0)
            leaky = after;
        after++;
    } while (left < 0 && silent < 0 && leaky < 0 && after < MOST);
    fflush(NULL);
    dup2(out, 1);
    dup2(err, 2);
    close(out);
    close(err);
    close(nowhere);
    close(errors);
    if (silent >= 0 || leaky >= 0 || left < 0)
        fail_msg("%s %s, allocation %ld: %s", words[0], words[1] != NULL ? words[1] : "", after - 1,
                 silent >= 0  ? "failed without a word"
                 : leaky >= 0 ? "blocks are left over"
                              : "there is no end");
    assert_int_equal(status, wanted);
    print_message("%s %s: %ld allocations\n", words[0], words[1] != NULL ? words[1] : "",
                  after - 1);
}

static void test_commands(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strncmp(commands[i][1] != NULL ? commands[i][1] : "", NODE, strlen(NODE)) == 0 &&
            access(NODE, R_OK) != 0)
            continue;
        starve(commands[i], strcmp(commands[i][0], "health") == 0 ? 1 : 0);
    }
}

static int start(void **state)
{
    (void)state;
    struct rt_error err;
    void *model;
    size_t len;
    char path[64];
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/tuned.onnx", folder);
    if (sv_file_read(TINY "separable/model.onnx", 1 << 20, &model, &len, &err) != RT_OK)
        return -1;
    enum rt_status s = sv_file_write(path, model, len, &err);
    rt_free(model);
    static const char *const files[][2] = {
        { "keys", "a-key-of-this-test-0123456789\nanother-key-of-this-test-0123456789\n" },
        { "settings.json", "{\"max_batch\": 2, \"cors\": [\"https://example.org\"]}" },
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0] && s == RT_OK; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i][0]);
        s = sv_file_write(path, files[i][1], strlen(files[i][1]), &err);
    }
    /* Folders that are gone through. */
    static const char *const linked[][2] = {
        { "below", "" },
        { "below/line", TINY "line" },
        { "pictures", "" },
        { "pictures/boot.png", PICTURE },
    };
    for (size_t i = 0; i < sizeof linked / sizeof linked[0] && s == RT_OK; i++) {
        char target[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", folder, linked[i][0]);
        if (linked[i][1][0] == '\0'
                ? mkdir(path, 0700) != 0
                : realpath(linked[i][1], target) == NULL || symlink(target, path) != 0)
            return -1;
    }
    return s == RT_OK ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    sv_log_set(SV_LOG_ERROR, SV_LOG_TEXT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
