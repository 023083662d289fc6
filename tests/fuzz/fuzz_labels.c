/* Any bytes as labels.txt. */
#include "server/labels.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct rt_error err = { .text = "" };
    struct sv_labels labels = { .n = 0 };
    long live = rt_mem_live();
    enum rt_status s = sv_labels_parse((const char *)data, len, &labels, &err);
    HOLDS(s == RT_OK || (err.text[0] != '\0' && labels.n == 0), "refused, but something is there");
    size_t all = 0;
    for (int i = 0; i < labels.n; i++) {
        const char *label = sv_labels_get(&labels, i);
        all += label != NULL ? strlen(label) : 0;
    }
    HOLDS(all <= len, "labels of %zu bytes from %zu", all, len);
    HOLDS(sv_labels_get(&labels, labels.n) == NULL && sv_labels_get(&labels, -1) == NULL,
          "a label beyond the last");
    sv_labels_reset(&labels);
    HOLDS(rt_mem_live() == live, "%ld blocks are left over", rt_mem_live() - live);
    return 0;
}
