/* The pictures that the arguments of a command stand for. */
#ifndef SERVER_PICTURE_LIST_H
#define SERVER_PICTURE_LIST_H

#include "runtime/rt.h"

struct sv_picture_list {
    int n;
    struct sv_picture {
        char *path;
        char *name; /* for the reader: the file's, or its path inside of the folder given */
    } *item;
};

/* A file stands for itself; a folder for all JPEG, PNG and WebP files in it and below, in order,
 * as their names say. RT_E_NOT_FOUND when a folder holds none. *out is to be reset in any case. */
enum rt_status sv_picture_list_make(char *const *argument, int n, struct sv_picture_list *out,
                                    struct rt_error *err);
void sv_picture_list_reset(struct sv_picture_list *list);

#endif
