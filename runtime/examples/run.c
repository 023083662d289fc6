/* Loads a model, runs it on zeros and prints its first output:
 *     cc run.c $(pkg-config --cflags --libs convd) -o run && ./run model.onnx */
#include <runtime/rt.h>

#include <stdio.h>

int main(int argc, char **argv)
{
    struct rt_model *m = NULL;
    struct rt_session *s = NULL;
    struct rt_tensor in, out;
    struct rt_error err = { .text = "usage: run MODEL" };
    size_t len;
    enum rt_status e = argc == 2 ? rt_model_load_file(argv[1], NULL, &m, &err) : RT_E_INVALID;
    if (e == RT_OK && (rt_model_n_inputs(m) != 1 || rt_model_n_outputs(m) != 1))
        e = rt_fail(&err, RT_E_UNSUPPORTED, "%s: wants one input and one output", argv[1]);
    if (e == RT_OK) {
        in = (struct rt_tensor){ rt_model_input(m, 0)->dtype, rt_model_input(m, 0)->shape, NULL };
        if (in.shape.dim[0] < 0)
            in.shape.dim[0] = 1; /* the batch */
        in.data = rt_shape_bytes(&in.shape, in.dtype, &len) ? rt_zalloc(len) : NULL;
        e = in.data != NULL ? rt_session_create(m, 0, &s, &err) : RT_E_INVALID;
        e = e == RT_OK ? rt_session_run(s, &in, &out, &err) : e;
        for (int64_t i = 0; e == RT_OK && i < rt_shape_numel(&out.shape); i++)
            printf("%lld %g\n", (long long)i, (double)((const float *)out.data)[i]);
        rt_free(in.data);
    }
    if (e != RT_OK)
        fprintf(stderr, "%s\n", err.text);
    rt_session_destroy(s);
    rt_model_release(m);
    return e != RT_OK;
}
