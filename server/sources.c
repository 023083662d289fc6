/* Walks the folder forms in which models come. */
#include "server/sources.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/rt.h"
#include "server/file.h"
#include "server/log.h"

#define MODEL_FILE "model.onnx"

/* The number that a version's folder is called, 0 for any other name. */
static int64_t version_of(const char *name)
{
    int64_t v = 0;
    if (name[0] < '1' || name[0] > '9' || strlen(name) > 18)
        return 0;
    for (const char *p = name; *p != '\0'; p++) {
        if (*p < '0' || *p > '9')
            return 0;
        v = v * 10 + (*p - '0');
    }
    return v;
}

static enum rt_status no_memory(struct rt_error *err)
{
    return rt_fail_nomem(err, PATH_MAX);
}

/* path without slashes at its end, and absolute where its last part would not be a name. */
static enum rt_status clean(const char *path, char out[PATH_MAX], struct rt_error *err)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    if (len == 0)
        return rt_fail(err, RT_E_INVALID, "the path is empty");
    if (len >= PATH_MAX)
        return rt_fail(err, RT_E_INVALID, "the path has %zu bytes, which is too long", len);
    memcpy(out, path, len);
    out[len] = '\0';
    const char *base = sv_path_base(out);
    if (strcmp(base, ".") != 0 && strcmp(base, "..") != 0)
        return RT_OK;
    if (realpath(path, out) == NULL)
        return rt_fail(err, RT_E_NOT_FOUND, "%s: there is no such file or folder", path);
    return RT_OK;
}

/* folder/name if there is such a thing, else NULL (out of memory: too, with *s set). That it cannot
 * be read is said by who reads it. */
static char *existing(const char *folder, const char *name, enum rt_status *s, struct rt_error *err)
{
    if (*s != RT_OK || folder == NULL)
        return NULL;
    char *path = sv_path_join(folder, name);
    if (path == NULL) {
        *s = no_memory(err);
        return NULL;
    }
    if (sv_exists(path))
        return path;
    rt_free(path);
    return NULL;
}

/* Adds folder/file as a model; upper is the folder above a version's (else NULL), where config and
 * labels are looked for after folder. stem: what those files' names start with. */
static enum rt_status add(struct sv_sources *list, const char *name, size_t name_len,
                          int64_t version, const char *folder, const char *upper, const char *file,
                          const char *stem, struct rt_error *err)
{
    struct sv_source *grown = rt_realloc_array(list->item, (size_t)list->n + 1, sizeof *list->item);
    if (grown == NULL)
        return no_memory(err);
    list->item = grown;
    struct sv_source *src = &list->item[list->n++];
    char config[NAME_MAX + 1], labels[NAME_MAX + 1];
    snprintf(config, sizeof config, "%sconfig.json", stem);
    snprintf(labels, sizeof labels, "%slabels.txt", stem);
    enum rt_status s = RT_OK;
    *src = (struct sv_source){
        .name = rt_alloc(name_len + 1),
        .version = version,
        .path = sv_path_join(folder, file),
    };
    if (src->name == NULL || src->path == NULL)
        return no_memory(err);
    memcpy(src->name, name, name_len);
    src->name[name_len] = '\0';
    src->config = existing(folder, config, &s, err);
    if (src->config == NULL)
        src->config = existing(upper, config, &s, err);
    src->labels = existing(folder, labels, &s, err);
    if (src->labels == NULL)
        src->labels = existing(upper, labels, &s, err);
    return s;
}

/* A folder with model.onnx, called by its own name or, if that is a version's, by that above. */
static enum rt_status add_folder(struct sv_sources *list, const char *folder, struct rt_error *err)
{
    char here[PATH_MAX], above[PATH_MAX];
    enum rt_status s = clean(folder, here, err);
    if (s != RT_OK)
        return s;
    const char *name = sv_path_base(here);
    int64_t version = version_of(name);
    if (version == 0)
        return add(list, name, strlen(name), 1, here, NULL, MODEL_FILE, "", err);
    char *upper = sv_path_folder(here);
    if (upper == NULL)
        return no_memory(err);
    s = clean(upper, above, err);
    rt_free(upper);
    if (s != RT_OK)
        return s;
    name = sv_path_base(above);
    return add(list, name, strlen(name), version, here, above, MODEL_FILE, "", err);
}

/* Of a file that is not called like a model: what it seems to be, or how models are called. */
static enum rt_status no_model(const char *path, struct rt_error *err)
{
    char start[512];
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return rt_fail(err, RT_E_IO, "%s: %s", path, strerror(errno));
    const size_t len = fread(start, 1, sizeof start, f);
    const char *seems = ferror(f) ? NULL : rt_sniff(start, len);
    fclose(f);
    if (seems != NULL)
        return rt_fail(err, RT_E_INVALID, "%s: this is not an ONNX model but %s", path, seems);
    return rt_fail(err, RT_E_INVALID, "%s: the name of an ONNX model ends in .onnx", path);
}

static enum rt_status add_file(struct sv_sources *list, const char *path, struct rt_error *err)
{
    if (!sv_path_has_suffix(path, ".onnx"))
        return no_model(path, err);
    char *folder = sv_path_folder(path);
    if (folder == NULL)
        return no_memory(err);
    const char *file = sv_path_base(path);
    enum rt_status s;
    if (strcmp(file, MODEL_FILE) == 0) {
        s = add_folder(list, folder, err);
    } else {
        char stem[NAME_MAX + 1];
        size_t len = strlen(file) - strlen(".onnx");
        snprintf(stem, sizeof stem, "%.*s.", (int)len, file);
        s = add(list, file, len, 1, folder, NULL, file, stem, err);
    }
    rt_free(folder);
    return s;
}

/* Adds folder if it is a model by itself: model.onnx in it, or in folders called by versions. */
static enum rt_status add_model_folder(struct sv_sources *list, const char *folder,
                                       const struct sv_names *names, struct rt_error *err)
{
    bool plain = false;
    int n_before = list->n;
    enum rt_status s = RT_OK;
    for (size_t i = 0; i < names->n && s == RT_OK; i++) {
        plain |= strcmp(names->name[i], MODEL_FILE) == 0;
        if (version_of(names->name[i]) == 0)
            continue;
        char *version = sv_path_join(folder, names->name[i]);
        if (version == NULL)
            return no_memory(err);
        char *file = existing(version, MODEL_FILE, &s, err);
        if (file != NULL)
            s = add_folder(list, version, err);
        rt_free(file);
        rt_free(version);
    }
    if (s != RT_OK || !plain)
        return s;
    if (list->n > n_before)
        return rt_fail(err, RT_E_INVALID,
                       "%s: holds both " MODEL_FILE " and versions of it in numbered folders",
                       folder);
    return add_folder(list, folder, err);
}

static enum rt_status skip(struct rt_error *err)
{
    sv_log(SV_LOG_WARN, "%s: skipped", err->text);
    *err = (struct rt_error){ .status = RT_OK };
    return RT_OK;
}

/* A folder of models, in any of the forms. */
static enum rt_status add_collection(struct sv_sources *list, const char *folder,
                                     const struct sv_names *names, struct rt_error *err)
{
    enum rt_status s = RT_OK;
    for (size_t i = 0; i < names->n && s == RT_OK; i++) {
        char *path = sv_path_join(folder, names->name[i]);
        if (path == NULL)
            return no_memory(err);
        if (sv_is_folder(path)) {
            struct sv_names inner = { 0 };
            s = sv_folder_list(path, &inner, err);
            if (s == RT_OK)
                s = add_model_folder(list, path, &inner, err);
            else if (s != RT_E_NOMEM)
                s = skip(err); /* as "lost+found" on a volume of its own */
            sv_names_reset(&inner);
        } else if (sv_path_has_suffix(path, ".onnx")) {
            s = add_file(list, path, err);
        }
        rt_free(path);
    }
    return s;
}

enum rt_status sv_sources_find(const char *path, struct sv_sources *out, struct rt_error *err)
{
    struct sv_sources list = { 0 };
    struct sv_names names = { 0 };
    char cleaned[PATH_MAX];
    enum rt_status s = clean(path, cleaned, err);
    if (s == RT_OK && sv_is_file(cleaned)) {
        s = add_file(&list, cleaned, err);
    } else if (s == RT_OK) {
        s = sv_folder_list(cleaned, &names, err);
        if (s == RT_OK)
            s = add_model_folder(&list, cleaned, &names, err);
        if (s == RT_OK && list.n == 0)
            s = add_collection(&list, cleaned, &names, err);
        if (s == RT_OK && list.n == 0)
            s = rt_fail(err, RT_E_NOT_FOUND, "%s: there is no .onnx model in it", path);
    }
    sv_names_reset(&names);
    if (s != RT_OK) {
        sv_sources_reset(&list);
        return s;
    }
    *out = list;
    return RT_OK;
}

/* FNV-1a. */
static void mix(uint64_t *hash, const void *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        /* NOLINTNEXTLINE(clang-analyzer-core.*): all were written, a number at a time */
        *hash = (*hash ^ ((const unsigned char *)bytes)[i]) * UINT64_C(0x100000001b3);
}

static void mix_file(uint64_t *hash, const char *path)
{
    struct stat st;
    if (path == NULL || stat(path, &st) != 0) {
        mix(hash, "", 1);
        return;
    }
    const int64_t facts[] = { (int64_t)st.st_dev,          (int64_t)st.st_ino,
                              (int64_t)st.st_size,         (int64_t)st.st_mtim.tv_sec,
                              (int64_t)st.st_mtim.tv_nsec, (int64_t)st.st_ctim.tv_sec,
                              (int64_t)st.st_ctim.tv_nsec };
    mix(hash, facts, sizeof facts);
}

struct sv_stamp sv_source_stamp(const struct sv_source *source)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    mix_file(&hash, source->path);
    mix_file(&hash, source->config);
    mix_file(&hash, source->labels);
    return (struct sv_stamp){ .value = hash | 1 };
}

void sv_sources_reset(struct sv_sources *s)
{
    for (int i = 0; i < s->n; i++) {
        rt_free(s->item[i].name);
        rt_free(s->item[i].path);
        rt_free(s->item[i].config);
        rt_free(s->item[i].labels);
    }
    rt_free(s->item);
    memset(s, 0, sizeof *s);
}
