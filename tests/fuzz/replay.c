/* Runs a fuzz target on files and on all files of folders, one after the other: what `make test`
 * does with the seeds, with any compiler. The last line counts them. */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

static int n_files;

/* The bytes lie in a block of just their length, so that a sanitizer sees a read past them. */
static void replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    HOLDS(f != NULL, "%s cannot be opened", path);
    struct stat st;
    HOLDS(fstat(fileno(f), &st) == 0, "%s cannot be looked at", path);
    size_t len = (size_t)st.st_size;
    uint8_t *bytes = malloc(len > 0 ? len : 1);
    HOLDS(bytes != NULL && fread(bytes, 1, len, f) == len, "%s cannot be read", path);
    fclose(f);
    printf("%s\n", path);
    fflush(stdout); /* the last line names the culprit */
    LLVMFuzzerTestOneInput(bytes, len);
    free(bytes);
    n_files++;
}

static int visible(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static void replay(const char *path)
{
    struct dirent **entry;
    int n = scandir(path, &entry, visible, alphasort);
    if (n < 0) {
        replay_file(path);
        return;
    }
    for (int i = 0; i < n; i++) {
        char inner[4096];
        snprintf(inner, sizeof inner, "%s/%s", path, entry[i]->d_name);
        free(entry[i]);
        replay(inner);
    }
    free(entry);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        replay(argv[i]);
    printf("%d passed\n", n_files);
    return 0;
}
