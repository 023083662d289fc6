/* Any bytes as a tensor: NumPy's format where they begin as that does, else a TensorProto. What can
 * be read is written as .npy and must come back the same. */
#include "server/npy.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

static bool is_npy(const uint8_t *data, size_t len)
{
    return len > 0 && data[0] == 0x93;
}

static void there_and_back(const struct rt_tensor *t)
{
    struct rt_error err = { .text = "" };
    struct rt_tensor again;
    void *file = NULL;
    size_t file_len, bytes, bytes_again;
    if (sv_npy_write(t, &file, &file_len, &err) != RT_OK)
        return; /* a type that NumPy does not have */
    HOLDS(sv_npy_read(file, file_len, &again, &err) == RT_OK, "own file refused: %s", err.text);
    HOLDS(again.dtype == t->dtype && rt_shape_equal(&again.shape, &t->shape), "another shape");
    HOLDS(rt_shape_bytes(&t->shape, t->dtype, &bytes) &&
              rt_shape_bytes(&again.shape, again.dtype, &bytes_again) && bytes == bytes_again,
          "another size");
    HOLDS(bytes == 0 || memcmp(again.data, t->data, bytes) == 0, "other elements");
    rt_free(again.data);
    rt_free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct rt_error err = { .text = "" };
    struct rt_tensor t = { .data = NULL };
    char name[16];
    long live = rt_mem_live();
    enum rt_status s = is_npy(data, len)
                           ? sv_npy_read(data, len, &t, &err)
                           : rt_tensor_from_pb(data, len, &t, name, sizeof name, &err);
    HOLDS(s == RT_OK || err.text[0] != '\0', "a refused tensor without a reason");
    if (s == RT_OK) {
        there_and_back(&t);
        rt_free(t.data);
    }
    HOLDS(rt_mem_live() == live, "%ld blocks are left over", rt_mem_live() - live);
    return 0;
}
