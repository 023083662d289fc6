/* A command's settings from a JSON file, and as one: the keys are the options' names, with '_' for
 * '-'. */
#ifndef SERVER_CONFIG_FILE_H
#define SERVER_CONFIG_FILE_H

#include <stdio.h>

#include "server/options.h"

/* Reads the file into settings. Values are numbers, strings as they stand on a command line ("64M",
 * "30s"), booleans for flags, arrays of strings for lists, and null for what is to stay as it is.
 * *memory holds the strings and is to be freed with rt_free() after the settings. Errors name file
 * and key, with the nearest known one for an unknown one. */
enum rt_status sv_config_file_read(const struct sv_command *c, const char *path, void *settings,
                                   void **memory, struct rt_error *err);

/* Writes settings as such a file. What is not set is null. */
void sv_config_file_print(const struct sv_command *c, const void *settings, FILE *to);

#endif
