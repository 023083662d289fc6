/* The options' table. */
#include "tests/load/settings.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define AT(member) .offset = offsetof(struct ld_settings, member)
#define OWN 8 /* the first options of the table are those that a side may have its own of */

static const struct sv_option options[] = {
    { .name = "model",
      .letter = 'm',
      .type = SV_OPTION_STRING,
      AT(model),
      .value = "NAME",
      .help = "the model to ask",
      .none = "the only one" },
    { .name = "body",
      .letter = 'b',
      .type = SV_OPTION_CHOICE,
      AT(body),
      .choices = "binary|json|image|bytes|raw",
      .help = "tensors of random numbers, as binary or as JSON; files as they are for convd's "
              "/classify (image), as BYTES tensors, or for --path (raw)" },
    { .name = "data",
      .letter = 'd',
      .type = SV_OPTION_LIST,
      AT(data),
      .value = "FILE",
      .help = "what image, bytes and raw send; files take turns" },
    { .name = "batch",
      .type = SV_OPTION_INT,
      AT(batch),
      .value = "N",
      .help = "samples in a request of tensors",
      .min = 1,
      .max = 4096 },
    { .name = "shape",
      .type = SV_OPTION_LIST,
      AT(shape),
      .value = "[NAME=]1x3x224x224",
      .help = "sizes for an input (or all) whose dimensions beside the batch are free" },
    { .name = "path",
      .type = SV_OPTION_STRING,
      AT(path),
      .value = "PATH",
      .help = "where to send it, instead of the model's own path" },
    { .name = "header",
      .type = SV_OPTION_LIST,
      AT(header),
      .value = "'NAME: VALUE'",
      .help = "a header for every request" },
    { .name = "check",
      .type = SV_OPTION_FLAG,
      AT(check),
      .help = "an answer with status 200 has to be one of FILE.answer0, FILE.answer1, ... of its "
              "--data FILE, byte for byte" },
    { .name = "concurrency",
      .letter = 'c',
      .type = SV_OPTION_LIST,
      AT(concurrency),
      .value = "N,...",
      .help = "closed loop: this many connections, each asking again as soon as it is answered "
              "(default: 1,2,4,8,16, unless --rate or --knee is given)" },
    { .name = "rate",
      .letter = 'r',
      .type = SV_OPTION_LIST,
      AT(rate),
      .value = "N,...",
      .help = "open loop: this many requests a second, answered or not" },
    { .name = "arrivals",
      .type = SV_OPTION_CHOICE,
      AT(arrivals),
      .choices = "poisson|constant",
      .help = "how an open loop's requests are spread" },
    { .name = "knee",
      .type = SV_OPTION_FLAG,
      AT(knee),
      .help = "search the highest rate of an open loop that is carried: none fails, 97 % are "
              "answered in time, p99 stays within --limit" },
    { .name = "limit",
      .type = SV_OPTION_SECONDS,
      AT(limit),
      .value = "TIME",
      .help = "p99 that --knee allows",
      .none = "ten times the median of one connection alone" },
    { .name = "connections",
      .type = SV_OPTION_INT,
      AT(connections),
      .value = "N",
      .help = "most connections of an open loop; a request that finds none free waits for one, "
              "and the wait counts",
      .min = 1,
      .max = 10000 },
    { .name = "time",
      .letter = 't',
      .type = SV_OPTION_SECONDS,
      AT(time),
      .value = "TIME",
      .help = "how long each round of each load is measured",
      .min = 0.01,
      .max = 86400 },
    { .name = "warm-up",
      .type = SV_OPTION_SECONDS,
      AT(warm_up),
      .value = "TIME",
      .help = "the same load without being measured, before each round",
      .max = 3600 },
    { .name = "rounds",
      .type = SV_OPTION_INT,
      AT(rounds),
      .value = "N",
      .help = "rounds, in which all sides take turns",
      .none = "1, or 3 with several sides",
      .max = 99 },
    { .name = "timeout",
      .type = SV_OPTION_SECONDS,
      AT(timeout),
      .value = "TIME",
      .help = "when a request without an answer is given up",
      .min = 0.01,
      .max = 3600 },
    { .name = "seed",
      .type = SV_OPTION_INT,
      AT(seed),
      .value = "N",
      .help = "of arrivals and tensors",
      .max = 1e9 },
    { .name = "json",
      .type = SV_OPTION_STRING,
      AT(json),
      .value = "FILE",
      .help = "write all results; - is standard output, instead of tables" },
    { .name = "plot",
      .letter = 'p',
      .type = SV_OPTION_STRING,
      AT(plot),
      .value = "FILE.svg|.html",
      .help =
          "draw latency over throughput as a picture, or write a page with picture and tables" },
    { .name = "title",
      .type = SV_OPTION_STRING,
      AT(title),
      .value = "TEXT",
      .help = "of the picture" },
    { 0 },
};

const struct ld_settings ld_defaults = {
    .batch = 1,
    .connections = 256,
    .time = 5,
    .warm_up = 1,
    .timeout = 10,
    .seed = 1,
    .title = "Latency and throughput",
};

const struct sv_command ld_command = {
    .program = "convd-load",
    .name = "load",
    .usage = "[LABEL=]URL[,OPTION=VALUE...]...",
    .summary =
        "Loads servers of the Open Inference Protocol (v2) and measures them. One URL is a sweep\n"
        "over --concurrency (closed loop) or --rate (open loop: latency counts from when a "
        "request\n"
        "was meant to begin). Several are compared in interleaved rounds; behind a URL, options "
        "of\n"
        "what is sent (the first eight below) may be set for that side alone.",
    .options = options,
    .defaults = &ld_defaults,
    .epilogue = "Examples:\n"
                "  convd-load localhost:8000\n"
                "  convd-load localhost:8000 --rate 100,200,400 --time 20s --plot curve.html\n"
                "  convd-load localhost:8000 --body image --data cat.jpg --knee --limit 50ms\n"
                "  convd-load binary=localhost:8000 json=localhost:8000,body=json -c 8\n"
                "  convd-load convd=localhost:8000 triton=localhost:9000,model=net -c 1,4,16",
};

const char *ld_body_name(enum ld_body_kind kind)
{
    static const char *const name[] = { "binary", "json", "image", "bytes", "raw" };
    return name[kind];
}

enum rt_status ld_settings_override(struct ld_settings *set, const char *side, const char *name,
                                    const char *value, struct rt_error *err)
{
    char origin[SV_ORIGIN_LEN];
    snprintf(origin, sizeof origin, "%s: %s", side, name);
    for (int i = 0; options[i].name != NULL; i++)
        if (strcmp(options[i].name, name) == 0) {
            if (i >= OWN)
                return rt_fail(err, RT_E_INVALID,
                               "%s: %s is the same for all sides: give it as --%s", side, name,
                               name);
            const struct sv_origin from = { SV_FROM_COMMAND_LINE, origin };
            return sv_option_set(&options[i], set, &from, value, err);
        }
    return rt_fail(err, RT_E_INVALID, "%s: there is no option '%s'", side, name);
}
