/* Files and folders to pictures. */
#include "server/picture_list.h"

#include "server/file.h"

#include <limits.h>
#include <string.h>

/* Folders below one that is given: a bound for links that lead back up. */
#define MAX_DEPTH 12

/* Takes path and name over. */
static enum rt_status add(struct sv_picture_list *list, char *path, char *name,
                          struct rt_error *err)
{
    struct sv_picture *grown = NULL;
    /* Room doubles when the number is a power of two. */
    if (path != NULL && name != NULL && (list->n & (list->n - 1)) != 0)
        grown = list->item;
    else if (path != NULL && name != NULL && list->n < INT_MAX / 2)
        grown = rt_realloc_array(list->item, list->n > 0 ? (size_t)list->n * 2 : 1, sizeof *grown);
    if (grown == NULL) {
        rt_free(path);
        rt_free(name);
        return rt_fail_nomem(err, sizeof *grown);
    }
    list->item = grown;
    list->item[list->n++] = (struct sv_picture){ path, name };
    return RT_OK;
}

static bool is_picture(const char *name)
{
    static const char *const suffix[] = { ".jpg", ".jpeg", ".png", ".webp" };
    for (size_t i = 0; i < sizeof suffix / sizeof suffix[0]; i++)
        if (sv_path_has_suffix(name, suffix[i]))
            return true;
    return false;
}

/* inside: the path from the folder given to this one, "" at first. */
static enum rt_status add_folder(struct sv_picture_list *list, const char *folder,
                                 const char *inside, int depth, struct rt_error *err)
{
    struct sv_names names;
    enum rt_status s = sv_folder_list(folder, &names, err);
    for (size_t i = 0; i < names.n && s == RT_OK; i++) {
        char *path = sv_path_join(folder, names.name[i]);
        char *name =
            inside[0] != '\0' ? sv_path_join(inside, names.name[i]) : rt_strdup(names.name[i]);
        if (path != NULL && name != NULL && !sv_is_folder(path) && is_picture(name)) {
            s = add(list, path, name, err);
            continue;
        }
        if (path == NULL || name == NULL)
            s = rt_fail_nomem(err, strlen(folder));
        else if (sv_is_folder(path) && depth < MAX_DEPTH)
            s = add_folder(list, path, name, depth + 1, err);
        rt_free(path);
        rt_free(name);
    }
    sv_names_reset(&names);
    return s;
}

enum rt_status sv_picture_list_make(char *const *argument, int n, struct sv_picture_list *out,
                                    struct rt_error *err)
{
    enum rt_status s = RT_OK;
    *out = (struct sv_picture_list){ 0 };
    for (int i = 0; i < n && s == RT_OK; i++) {
        const int before = out->n;
        if (!sv_is_folder(argument[i])) {
            s = add(out, rt_strdup(argument[i]), rt_strdup(sv_path_base(argument[i])), err);
            continue;
        }
        s = add_folder(out, argument[i], "", 0, err);
        if (s == RT_OK && out->n == before)
            s = rt_fail(err, RT_E_NOT_FOUND, "%s: no JPEG, PNG or WebP file in it", argument[i]);
    }
    return s;
}

void sv_picture_list_reset(struct sv_picture_list *list)
{
    for (int i = 0; i < list->n; i++) {
        rt_free(list->item[i].path);
        rt_free(list->item[i].name);
    }
    rt_free(list->item);
    *list = (struct sv_picture_list){ 0 };
}
