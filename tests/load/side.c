/* A side, from its argument on. */
#include "tests/load/side.h"

#include "runtime/mem.h"
#include "tests/load/fetch.h"

#include <string.h>

void ld_side_reset(struct ld_side *s)
{
    ld_bodies_reset(&s->bodies);
    ld_model_reset(&s->model);
    curl_slist_free_all(s->headers);
    rt_free(s->text);
    *s = (struct ld_side){ 0 };
}

/* Cuts the text at its commas; options that stand there replace those for all. */
static enum rt_status parse(struct ld_side *s, const char *argument, struct rt_error *err)
{
    char *rest = strchr(s->text, ',');
    if (rest != NULL)
        *rest++ = '\0';
    char *equals = strchr(s->text, '=');
    s->label = argument;
    s->url = s->text;
    if (equals != NULL) {
        *equals = '\0';
        s->label = s->text;
        s->url = equals + 1;
    }
    if (s->url[0] == '\0' || s->label[0] == '\0')
        return rt_fail(err, RT_E_INVALID, "'%s': expected [LABEL=]URL[,OPTION=VALUE...]", argument);
    /* Lists that a side gives anew begin empty: its own words come from elsewhere. */
    s->set.data.from = s->set.shape.from = s->set.header.from = SV_FROM_FILE;
    for (char *word = rest; word != NULL; word = rest) {
        rest = strchr(word, ',');
        if (rest != NULL)
            *rest++ = '\0';
        equals = strchr(word, '=');
        if (equals == NULL)
            return rt_fail(err, RT_E_INVALID, "%s: '%s' is not OPTION=VALUE", s->label, word);
        *equals = '\0';
        enum rt_status status = ld_settings_override(&s->set, s->label, word, equals + 1, err);
        if (status != RT_OK)
            return status;
    }
    return RT_OK;
}

/* Sends the first request once: what is wrong with it is better said now than counted later. */
static enum rt_status try_once(const struct ld_side *s, struct rt_error *err)
{
    const struct ld_body *b = &s->bodies.item[0];
    struct sv_text answer = { 0 };
    enum rt_status status =
        ld_fetch(s->bodies.url, b->headers, b->bytes.p, b->bytes.len, &answer, err);
    sv_text_reset(&answer);
    return status;
}

enum rt_status ld_side_open(const char *argument, const struct ld_settings *set,
                            struct ld_side *out, struct rt_error *err)
{
    out->set = *set;
    out->text = rt_strdup(argument);
    if (out->text == NULL)
        return rt_fail_nomem(err, strlen(argument));
    enum rt_status s = parse(out, argument, err);
    for (int i = 0; i < out->set.header.n && s == RT_OK; i++) {
        struct curl_slist *longer = curl_slist_append(out->headers, out->set.header.item[i]);
        if (longer == NULL)
            s = rt_fail_nomem(err, strlen(out->set.header.item[i]));
        else
            out->headers = longer;
    }
    if (s == RT_OK && out->set.body != LD_RAW)
        s = ld_model_read(out->url, out->headers, out->set.model, &out->model, err);
    if (s == RT_OK)
        s = ld_bodies_make(&out->set, out->url, &out->model, &out->bodies, err);
    return s == RT_OK ? try_once(out, err) : s;
}
