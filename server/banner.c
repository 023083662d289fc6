/* Makes the lines that `convd serve` starts with. */
#include "server/banner.h"

#include <stdio.h>
#include <string.h>

#include "server/file.h"
#include "server/log.h"
#include "server/text.h"
#include "server/version.h"

static void add_batchnorms(struct sv_text *t, const struct rt_model *rt)
{
    int n = rt_model_n_batchnorms(rt), folded = 0;
    for (int i = 0; i < n; i++) {
        enum rt_batchnorm_fate fate = rt_model_batchnorm(rt, i)->fate;
        folded += fate == RT_BN_FOLDED_BACK || fate == RT_BN_FOLDED_FORWARD ||
                  fate == RT_BN_FUSED || fate == RT_BN_CONSTANT;
    }
    if (n > 0)
        sv_text_printf(t, ", %d of %d batch norms folded", folded, n);
}

static void describe(const struct sv_model *m)
{
    struct sv_text t = { 0 };
    char text[RT_SHAPE_TEXT > SV_PREPROCESS_TEXT ? RT_SHAPE_TEXT : SV_PREPROCESS_TEXT];
    for (int i = 0; i < m->n_in; i++) {
        const struct rt_io *io = rt_model_input(m->rt, i);
        sv_text_printf(&t, "%s%s %s%s", i > 0 ? ", " : "", io->name, rt_dtype_oip(io->dtype),
                       rt_shape_text(&io->shape, text));
    }
    add_batchnorms(&t, m->rt);
    if (m->max_batch > 0)
        sv_text_printf(&t, ", batches up to %d", m->max_batch);
    else
        sv_text_add(&t, ", no batches");
    if (!t.failed)
        sv_log(SV_LOG_INFO, "model '%s' version %s: %.*s, loaded in %.1f ms", m->name,
               m->version_text, (int)t.len, t.p, m->load_seconds * 1e3);
    sv_text_reset(&t);
    if (m->image_input >= 0)
        sv_log(SV_LOG_INFO, "model '%s': pictures become %s", m->name,
               sv_preprocess_describe(&m->preprocess, text));
    else
        sv_log(SV_LOG_DEBUG, "model '%s' takes no pictures: %s", m->name, m->image_note);
}

void sv_banner_models(struct sv_registry *r)
{
    struct sv_model_list list;
    if (sv_registry_list(r, NULL, &list, NULL) != RT_OK)
        return;
    for (int i = 0; i < list.n; i++)
        if (list.entry[i].model != NULL)
            describe(list.entry[i].model);
    sv_model_list_reset(&list);
}

/* A picture among the model's own samples, to be freed; NULL when there is none. */
static char *sample_picture(const struct sv_model *m)
{
    static const char *const suffix[] = { ".png", ".jpg", ".jpeg", ".webp" };
    char *found = NULL, *folder = sv_path_folder(m->path);
    char *samples = folder != NULL ? sv_path_join(folder, "samples") : NULL;
    struct sv_names names = { 0 };
    if (samples != NULL && sv_is_folder(samples))
        sv_folder_list(samples, &names, NULL);
    for (size_t i = 0; i < names.n && found == NULL; i++)
        for (size_t k = 0; k < sizeof suffix / sizeof suffix[0] && found == NULL; k++)
            if (sv_path_has_suffix(names.name[i], suffix[k]))
                found = sv_path_join(samples, names.name[i]);
    sv_names_reset(&names);
    rt_free(samples);
    rt_free(folder);
    return found;
}

/* As it may stand in a URL. */
static void add_name(struct sv_text *t, const char *name)
{
    for (; *name != '\0'; name++) {
        bool plain = (*name >= '0' && *name <= '9') || (*name >= 'A' && *name <= 'Z') ||
                     (*name >= 'a' && *name <= 'z') || strchr("-._~", *name) != NULL;
        sv_text_printf(t, plain ? "%c" : "%%%02X", (unsigned char)*name);
    }
}

static void print_command(const struct sv_model *m, const char *base)
{
    struct sv_text t = { 0 };
    char *picture = m->image_input >= 0 ? sample_picture(m) : NULL;
    if (m->image_input >= 0)
        sv_text_printf(&t, "curl --data-binary '@%s' ", picture != NULL ? picture : "cat.jpg");
    else
        sv_text_add(&t, "curl ");
    sv_text_printf(&t, "'%s/v2/models/", base);
    add_name(&t, m->name);
    sv_text_add(&t, m->image_input >= 0 ? "/classify?top=3'" : "'");
    if (!t.failed)
        fprintf(stderr, "\nTry it:\n  %.*s\n\n", (int)t.len, t.p);
    sv_text_reset(&t);
    rt_free(picture);
}

void sv_banner_address(struct sv_registry *r, const char *scheme, const char *host, int port,
                       bool command)
{
    char base[320];
    bool any = host[0] == '\0' || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
    snprintf(base, sizeof base,
             strchr(host, ':') != NULL && !any ? "%s://[%s]:%d" : "%s://%s:%d", scheme,
             any ? "localhost" : host, port);
    sv_log(SV_LOG_INFO, SV_NAME " " SV_VERSION " listens on %s%s", base,
           any ? " (every address of this machine)" : "");
    struct sv_model_list list;
    if (!command || sv_registry_list(r, NULL, &list, NULL) != RT_OK)
        return;
    const struct sv_model *choice = NULL;
    for (int i = 0; i < list.n; i++) {
        const struct sv_model *m = list.entry[i].model;
        if (m != NULL && (choice == NULL || (choice->image_input < 0 && m->image_input >= 0)))
            choice = m;
    }
    if (choice != NULL)
        print_command(choice, base);
    sv_model_list_reset(&list);
}
