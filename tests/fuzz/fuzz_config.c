/* Any bytes as each of the small JSON documents: a model's config.json, the server's settings, the
 * bodies of the repository and logging extensions. */
#include "server/codec_control.h"
#include "server/config_file.h"
#include "server/model_config.h"
#include "server/serve_settings.h"
#include "tests/fuzz/fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

static void config(const char *text, size_t len)
{
    struct rt_error err = { .text = "" };
    struct sv_model_config c = { .name = NULL };
    if (sv_model_config_parse("config.json", text, len, &c, &err) != RT_OK)
        HOLDS(err.text[0] != '\0' && c.name == NULL, "refused, but something is there");
    else
        HOLDS(c.name == NULL || sv_model_name_valid(c.name), "a name that no path could have");
    sv_model_config_reset(&c);
}

/* Settings are read from a file by name: this one lies in memory. */
static void settings(const char *text, size_t len)
{
    struct rt_error err = { .text = "" };
    char path[64];
    void *memory = NULL;
    struct sv_serve_settings s = sv_serve_defaults;
    int fd = memfd_create("settings", MFD_CLOEXEC);
    HOLDS(fd >= 0 && write(fd, text, len) == (ssize_t)len, "no file in memory");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    enum rt_status status = sv_config_file_read(&sv_serve_command, path, &s, &memory, &err);
    HOLDS(status == RT_OK || err.text[0] != '\0', "refused settings without a reason");
    rt_free(memory);
    close(fd);
}

static void control(const char *text, size_t len)
{
    struct rt_error err = { .text = "" };
    struct sv_log_request log;
    char *given = NULL;
    bool ready;
    sv_control_index(text, len, &ready, &err);
    sv_control_unload(text, len, &err);
    sv_control_logging(text, len, &log, &err);
    if (sv_control_load(text, len, &given, &err) == RT_OK)
        rt_free(given);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const char *text = (const char *)data;
    long live = rt_mem_live();
    config(text, len);
    settings(text, len);
    control(text, len);
    HOLDS(rt_mem_live() == live, "%ld blocks are left over", rt_mem_live() - live);
    return 0;
}
