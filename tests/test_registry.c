/* The registry: what loading, failing and finding look like to those who serve, with real (small)
 * models in a folder of the test's own. */
#include "tests/serving.h"

static const struct chain picture = { "x", "Relu", RT_FLOAT, 4, { -1, 1, 28, 28 } };

static char root[64];
static struct sv_cores *cores;
static struct sv_registry *registry;

static void put_file(const char *path, const void *bytes, size_t len)
{
    char full[256];
    snprintf(full, sizeof full, "%s/%s", root, path);
    char *folder = sv_path_folder(full);
    assert_int_equal(sv_folder_create(folder, NULL), RT_OK);
    rt_free(folder);
    assert_int_equal(sv_file_write(full, bytes, len, NULL), RT_OK);
}

static void put_text(const char *path, const char *text)
{
    put_file(path, text, strlen(text));
}

static void put_model(const char *path)
{
    struct bytes model;
    make_model(&model, &picture, 1);
    put_file(path, model.p, model.len);
}

static enum rt_status add(const char *path, struct rt_error *err)
{
    char full[256];
    snprintf(full, sizeof full, "%s/%s", root, path);
    return sv_registry_add(registry, full, err);
}

static enum rt_status create(struct rt_error *err)
{
    const struct sv_registry_options o = { .max_batch = 4, .max_queue = 9, .cores = cores };
    return sv_registry_create(&o, &registry, err);
}

static int begin(void **state)
{
    (void)state;
    strcpy(root, "/tmp/convd-test-XXXXXX");
    assert_non_null(mkdtemp(root));
    sv_log_set(SV_LOG_ERROR + 1, SV_LOG_TEXT); /* failures are meant here */
    assert_int_equal(sv_cores_create(2, &cores, NULL), RT_OK);
    assert_int_equal(create(NULL), RT_OK);
    return 0;
}

static int end(void **state)
{
    (void)state;
    char command[128];
    sv_registry_destroy(registry);
    sv_cores_destroy(cores);
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static void expect_not_found(const char *name, int64_t version, enum rt_status status,
                             const char *text)
{
    struct sv_model *m;
    struct rt_error err = { .text = "" };
    assert_int_equal(sv_registry_find(registry, name, version, &m, &err), status);
    assert_string_equal(err.text, text);
}

/* The reason why an entry failed; NULL when it is ready. Valid until the next call. */
static const char *reason_of(const char *name)
{
    static char reason[2048];
    struct sv_model_list list;
    assert_int_equal(sv_registry_list(registry, name, &list, NULL), RT_OK);
    assert_int_equal(list.n, 1);
    bool ready = list.entry[0].state == SV_MODEL_READY;
    assert_true(ready == (list.entry[0].model != NULL));
    snprintf(reason, sizeof reason, "%s", list.entry[0].reason);
    sv_model_list_reset(&list);
    return ready ? NULL : reason;
}

static void versions(void **state)
{
    (void)state;
    struct sv_model *m;
    struct rt_error err = { .text = "" };
    put_model("many/1/model.onnx");
    put_model("many/12/model.onnx");
    put_text("many/13-bad/note", "");
    put_text("many/14/model.onnx", "not a model");
    put_text("many/labels.txt", "zero\none\n");
    assert_int_equal(add("many", &err), RT_OK);
    assert_int_equal(sv_registry_find(registry, "many", 0, &m, &err), RT_OK);
    assert_int_equal(m->version, 12); /* the highest that is ready */
    assert_string_equal(m->version_text, "12");
    assert_int_equal(m->max_batch, 4);
    assert_string_equal(sv_labels_get(&m->labels, 1), "one");
    assert_int_equal(m->image_input, 0);
    assert_int_equal(m->preprocess.width, 28);
    sv_model_release(m);
    assert_int_equal(sv_registry_find(registry, "many", 1, &m, &err), RT_OK);
    assert_int_equal(m->version, 1);
    sv_model_release(m);
    expect_not_found("few", 0, RT_E_NOT_FOUND,
                     "Request for unknown model: 'few' is not found; there is 'many'");
    expect_not_found("many", 3, RT_E_NOT_FOUND,
                     "Request for unknown model: 'many' version 3 is not found");
    expect_not_found("many", 14, RT_E_BUSY,
                     "Request for unknown model: 'many' version 14 is not at ready state");

    struct sv_model_list list;
    assert_int_equal(sv_registry_list(registry, NULL, &list, NULL), RT_OK);
    assert_int_equal(list.n, 3);
    assert_int_equal(list.entry[1].version, 12);
    assert_string_equal(list.entry[1].reason, "");
    assert_int_equal(list.entry[2].state, SV_MODEL_FAILED);
    assert_non_null(strstr(list.entry[2].reason, "many/14/model.onnx"));
    sv_model_list_reset(&list);
    assert_int_equal(sv_registry_list(registry, "few", &list, NULL), RT_OK);
    assert_int_equal(list.n, 0);
    sv_model_list_reset(&list);
}

static void failures_are_kept(void **state)
{
    (void)state;
    struct sv_model *m;
    struct rt_error err = { .text = "" };
    assert_int_equal(sv_registry_default(registry, &m, &err), RT_E_NOT_FOUND);
    put_text("a-bad.onnx", "");
    assert_int_equal(add("a-bad.onnx", &err), RT_OK);
    assert_non_null(strstr(reason_of("a-bad"), "a-bad.onnx"));
    expect_not_found("a-bad", 0, RT_E_NOT_FOUND,
                     "Request for unknown model: 'a-bad' has no available versions");
    put_model("b/model.onnx");
    put_text("b/config.json", "{\"instances\": \"two\"}");
    assert_int_equal(add("b", &err), RT_OK);
    assert_non_null(strstr(reason_of("b"), "b/config.json: instances: expected a whole number"));
    put_model("c/model.onnx");
    put_text("c/config.json", "{\"input\": {\"name\": \"z\"}}");
    assert_int_equal(add("c", &err), RT_OK);
    assert_non_null(
        strstr(reason_of("c"), "c/config.json: input.name: the model has no input 'z'"));
    put_model("d/model.onnx");
    put_text("d/config.json", "{\"input\": {\"width\": 3}}");
    assert_int_equal(add("d", &err), RT_OK);
    assert_non_null(strstr(reason_of("d"), "d/config.json: input.width: the model's input is 28"));
    put_model("e/model.onnx");
    put_text("e/config.json", "{\"labels\": \"there-is.none\"}");
    assert_int_equal(add("e", &err), RT_OK);
    assert_non_null(strstr(reason_of("e"), "there-is.none"));
    put_model("stats.onnx");
    assert_int_equal(add("stats.onnx", &err), RT_OK);
    assert_non_null(strstr(reason_of("stats"), "a model cannot be called 'stats'"));
    assert_int_equal(sv_registry_default(registry, &m, &err), RT_E_NOT_FOUND);
    assert_string_equal(err.text, "No model is loaded");
}

static void names_and_settings(void **state)
{
    (void)state;
    struct sv_model *m;
    struct rt_error err = { .text = "" };
    put_model("f.onnx");
    put_text("f.config.json", "{\"name\": \"given\", \"max_batch_size\": 3, \"instances\": 2,"
                              "\"labels\": [\"only\"], \"input\": {\"color\": \"gray\"}}");
    assert_int_equal(add("f.onnx", &err), RT_OK);
    expect_not_found("f", 0, RT_E_NOT_FOUND,
                     "Request for unknown model: 'f' is not found; there is 'given'");
    assert_int_equal(sv_registry_default(registry, &m, &err), RT_OK);
    assert_string_equal(m->name, "given");
    assert_int_equal(m->max_batch, 3);
    assert_int_equal(m->labels.n, 1);
    assert_int_equal(sv_batcher_split(m->batcher).executors, 2);
    assert_int_equal(sv_batcher_split(m->batcher).team, 1);
    sv_model_release(m);
    sv_registry_destroy(registry);
    assert_int_equal(create(NULL), RT_OK);
    put_model("g/given/model.onnx");
    assert_int_equal(add("f.onnx", &err), RT_OK);
    assert_int_equal(add("g", &err), RT_E_INVALID);
    assert_non_null(strstr(err.text, "two models are called 'given' (version 1)"));
    assert_int_equal(add("nothing", &err), RT_E_NOT_FOUND);
}

static void *look(void *arg)
{
    atomic_bool *stop = arg;
    while (!atomic_load(stop)) {
        struct sv_model *m;
        struct sv_model_list list;
        if (sv_registry_find(registry, "many", 0, &m, NULL) == RT_OK)
            sv_model_release(m);
        if (sv_registry_list(registry, NULL, &list, NULL) == RT_OK)
            sv_model_list_reset(&list);
    }
    return NULL;
}

static void found_while_others_load(void **state)
{
    (void)state;
    pthread_t thread;
    atomic_bool stop = false;
    assert_int_equal(pthread_create(&thread, NULL, look, &stop), 0);
    for (int i = 9; i > 0; i--) {
        char path[32];
        snprintf(path, sizeof path, "many/%d/model.onnx", i);
        put_model(path);
        assert_int_equal(add(path, NULL), RT_OK);
    }
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    struct sv_model_list list;
    assert_int_equal(sv_registry_list(registry, "many", &list, NULL), RT_OK);
    assert_int_equal(list.n, 9);
    for (int i = 0; i < 9; i++)
        assert_int_equal(list.entry[i].version, i + 1);
    sv_model_list_reset(&list);
}

/* Loading with each allocation failing in turn: an error or an entry that says so, no leak. */
static void allocations_fail_in_turn(void **state)
{
    (void)state;
    put_model("h/model.onnx");
    put_text("h/config.json", "{\"labels\": [\"a\", \"b\"], \"name\": \"h\"}");
    sv_registry_destroy(registry);
    registry = NULL;
    long before = rt_mem_live();
    bool loaded = false;
    for (long after = 0; !loaded; after++) {
        struct rt_error err = { .text = "" };
        struct sv_model *m = NULL;
        struct sv_model_list list = { 0 };
        rt_mem_fail(after);
        enum rt_status s = create(&err);
        if (s == RT_OK)
            s = add("h", &err);
        if (s == RT_OK)
            s = sv_registry_list(registry, NULL, &list, &err);
        if (s == RT_OK)
            s = sv_registry_find(registry, "h", 0, &m, &err);
        rt_mem_fail(-1);
        assert_true(s == RT_OK || s == RT_E_NOMEM || s == RT_E_NOT_FOUND);
        if (s == RT_E_NOT_FOUND)
            assert_non_null(strstr(list.entry[0].reason, "out of memory"));
        loaded = m != NULL;
        sv_model_list_reset(&list);
        sv_model_release(m);
        sv_registry_destroy(registry);
        registry = NULL;
        assert_int_equal(rt_mem_live(), before);
    }
}

/* Whether one version of "m" is found, and which model it is. */
static struct sv_model *hold(const char *name, int64_t version)
{
    struct sv_model *m = NULL;
    sv_registry_find(registry, name, version, &m, NULL);
    return m;
}

static void models_change(void **state)
{
    (void)state;
    struct rt_error err = { .text = "" };
    put_model("m/1/model.onnx");
    assert_int_equal(add("", &err), RT_OK);
    struct sv_model *old = hold("m", 1);
    assert_int_equal(sv_registry_rescan(registry, false), 0);
    struct sv_model *same = hold("m", 1);
    assert_ptr_equal(same, old); /* nothing has changed */
    sv_model_release(same);

    put_model("m/2/model.onnx");
    put_model("n.onnx");
    assert_int_equal(sv_registry_rescan(registry, false), 0);
    struct sv_model *second = hold("m", 0), *n = hold("n", 0);
    assert_int_equal(second->version, 2);
    assert_non_null(n);
    sv_model_release(second);
    sv_model_release(n);

    /* What was held before is whole while its successor serves. */
    assert_int_equal(sv_registry_load(registry, "m", NULL, &err), RT_OK);
    struct sv_model *fresh = hold("m", 1);
    assert_ptr_not_equal(fresh, old);
    assert_string_equal(old->name, "m");
    assert_int_equal(sv_batcher_waiting(old->batcher), 0);
    sv_model_release(old);
    sv_model_release(fresh);

    assert_int_equal(sv_registry_unload(registry, "n", &err), RT_OK);
    expect_not_found("n", 0, RT_E_NOT_FOUND,
                     "Request for unknown model: 'n' has no available versions");
    assert_int_equal(sv_registry_rescan(registry, true), 0);
    assert_null(hold("n", 0)); /* rescanning does not undo it */
    assert_int_equal(sv_registry_load(registry, "n", NULL, &err), RT_OK);
    sv_model_release(hold("n", 0));
    assert_int_equal(sv_registry_unload(registry, "none", &err), RT_E_NOT_FOUND);
    assert_int_equal(sv_registry_load(registry, "../n", NULL, &err), RT_E_NOT_FOUND);

    char path[256];
    snprintf(path, sizeof path, "%s/n.onnx", root);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(sv_registry_rescan(registry, false), 0);
    expect_not_found("n", 0, RT_E_NOT_FOUND,
                     "Request for unknown model: 'n' is not found; there is 'm'");
}

/* The sentence about an unknown model names what there is, as far as it stays a sentence. */
static void unknown_models_meet_known_ones(void **state)
{
    (void)state;
    struct rt_error err = { .text = "" };
    char name[128], path[160];
    for (int i = 1; i <= 7; i++) {
        snprintf(path, sizeof path, "m%d/1/model.onnx", i);
        put_model(path);
    }
    put_text("m0/1/model.onnx", "not a model"); /* is listed with its error, but not served */
    put_model("m1/2/model.onnx");
    assert_int_equal(add("", &err), RT_OK);
    expect_not_found(
        "m", 0, RT_E_NOT_FOUND,
        "Request for unknown model: 'm' is not found; there are 'm1', 'm2', 'm3', 'm4', "
        "'m5' and 2 more");
    for (int i = 3; i <= 7; i++) {
        snprintf(name, sizeof name, "m%d", i);
        assert_int_equal(sv_registry_unload(registry, name, &err), RT_OK);
    }
    memset(name, 'x', 100);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%d%.100s/model.onnx", i, name);
        put_model(path);
    }
    assert_int_equal(sv_registry_rescan(registry, true), 1);
    struct sv_model *m;
    assert_int_equal(sv_registry_find(registry, "m", 0, &m, &err), RT_E_NOT_FOUND);
    assert_non_null(strstr(err.text, " more"));
    assert_true(strlen(err.text) < 320);
}

static void no_model_is_named(void **state)
{
    (void)state;
    expect_not_found("m", 0, RT_E_NOT_FOUND,
                     "Request for unknown model: 'm' is not found; there is none");
}

static void failures_change_nothing(void **state)
{
    (void)state;
    struct rt_error err = { .text = "" };
    put_model("m/1/model.onnx");
    assert_int_equal(add("", &err), RT_OK);
    put_text("m/1/model.onnx", "broken");
    assert_int_equal(sv_registry_load(registry, "m", NULL, &err), RT_E_INVALID);
    assert_non_null(strstr(err.text, "load failed for model 'm': "));
    assert_int_equal(sv_registry_rescan(registry, false), 0); /* the same file is not tried again */
    assert_int_equal(sv_registry_rescan(registry, true), 1);
    struct sv_model_list list;
    assert_int_equal(sv_registry_list(registry, "m", &list, NULL), RT_OK);
    assert_int_equal(list.entry[0].state, SV_MODEL_READY);
    assert_non_null(strstr(list.entry[0].reason, "model.onnx"));
    assert_int_equal(list.entry[0].loads, 1);
    assert_int_equal(list.entry[0].failures, 2);
    sv_model_list_reset(&list);
    put_text("m/config.json", "{\"name\": 3}");
    assert_int_equal(sv_registry_rescan(registry, false), 1);
    struct sv_model *m = hold("m", 1);
    assert_non_null(m);
    sv_model_release(m);
}

/* Loading again with each allocation failing in turn: there is always a model to find. */
static void reloading_out_of_memory(void **state)
{
    (void)state;
    struct rt_error err = { .text = "" };
    put_model("m/1/model.onnx");
    put_text("m/config.json", "{\"labels\": [\"a\"]}");
    assert_int_equal(add("m", &err), RT_OK);
    enum rt_status s = RT_E_NOMEM;
    for (long after = 0; s != RT_OK; after++) {
        rt_mem_fail(after);
        s = sv_registry_load(registry, "m", NULL, &err);
        rt_mem_fail(-1);
        assert_true(s == RT_OK || s == RT_E_NOMEM || strstr(err.text, "out of memory") != NULL);
        struct sv_model *m = hold("m", 0);
        assert_non_null(m);
        sv_model_release(m);
    }
}

/* The split of a model whose run is short, but not shorter than waking an executor. */
static struct sv_core_split split_with(int socket_threads, const char *path)
{
    const struct sv_registry_options o = {
        .max_batch = 4, .max_queue = 9, .cores = cores, .socket_threads = socket_threads
    };
    struct sv_registry *r;
    struct sv_model *m;
    struct rt_error err = { .text = "" };
    assert_int_equal(sv_registry_create(&o, &r, &err), RT_OK);
    assert_int_equal(sv_registry_add(r, path, &err), RT_OK);
    assert_int_equal(sv_registry_default(r, &m, &err), RT_OK);
    const struct sv_core_split split = sv_batcher_split(m->batcher);
    sv_model_release(m);
    sv_registry_destroy(r);
    return split;
}

/* Threads of sockets run it themselves where there is one for every core. */
static void light_models(void **state)
{
    (void)state;
    static const struct chain medium = { "x", "Relu", RT_FLOAT, 4, { -1, 3, 160, 160 } };
    struct bytes model;
    char path[256];
    make_model(&model, &medium, 1);
    put_file("medium/model.onnx", model.p, model.len);
    snprintf(path, sizeof path, "%s/medium", root);
    assert_true(split_with(1, path).elastic);
    const struct sv_core_split split = split_with(2, path);
    assert_false(split.elastic);
    assert_int_equal(split.executors, 2);
    assert_int_equal(split.team, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(light_models, begin, end),
        cmocka_unit_test_setup_teardown(versions, begin, end),
        cmocka_unit_test_setup_teardown(failures_are_kept, begin, end),
        cmocka_unit_test_setup_teardown(names_and_settings, begin, end),
        cmocka_unit_test_setup_teardown(found_while_others_load, begin, end),
        cmocka_unit_test_setup_teardown(allocations_fail_in_turn, begin, end),
        cmocka_unit_test_setup_teardown(models_change, begin, end),
        cmocka_unit_test_setup_teardown(unknown_models_meet_known_ones, begin, end),
        cmocka_unit_test_setup_teardown(no_model_is_named, begin, end),
        cmocka_unit_test_setup_teardown(failures_change_nothing, begin, end),
        cmocka_unit_test_setup_teardown(reloading_out_of_memory, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
