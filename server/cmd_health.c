/* `convd health`: whether a server is ready, for containers that hold nothing else to ask with. */
#include "server/cli.h"
#include "server/probe.h"
#include "server/serve_settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct settings {
    const char *host;
    int port;
    double timeout;
    bool live;
};

#define AT(field) .offset = offsetof(struct settings, field)

static const struct sv_option options[] = {
    { .name = "host",
      AT(host),
      .type = SV_OPTION_STRING,
      .value = "ADDRESS",
      .help = "address or host name of the server",
      .none = "this machine" },
    { .name = "port",
      .letter = 'p',
      AT(port),
      .type = SV_OPTION_INT,
      .value = "N",
      .help = "its TCP port",
      .min = 1,
      .max = 65535 },
    { .name = "timeout",
      AT(timeout),
      .type = SV_OPTION_SECONDS,
      .value = "SECONDS",
      .help = "how long it may take to answer",
      .min = 0.001,
      .max = 3600 },
    { .name = "live",
      AT(live),
      .type = SV_OPTION_FLAG,
      .help = "ask whether it is alive, which it also is while it starts or stops" },
    { 0 },
};

static const struct settings defaults = { .port = 8000, .timeout = 2 };

const struct sv_command sv_health_command = {
    .name = "health",
    .usage = "[URL]",
    .summary = "Asks a server whether it is ready: exit status 0 if so, else 1 and the reason.\n"
               "Without URL or options it asks the one that 'serve' would start here: CONVD_HOST,\n"
               "CONVD_PORT, CONVD_TLS_CERT and the file of CONVD_CONFIG are heeded.",
    .options = options,
    .defaults = &defaults,
    .epilogue = "Examples:\n"
                "  convd health\n"
                "  convd health https://example.org:8443",
};

/* Whether this is the address of no machine in particular, on which a server listens for all. */
static bool is_wildcard(const char *host)
{
    return host == NULL || host[0] == '\0' || strcmp(host, "0.0.0.0") == 0 ||
           strcmp(host, "::") == 0;
}

/* Cuts http[s]://HOST[:PORT][/] apart, in place. Addresses of version 6 stand in brackets. */
static enum rt_status parse_url(char *url, struct sv_probe *p, struct rt_error *err)
{
    static const char form[] = "expected a URL as in http://localhost:8000";
    p->tls = strncmp(url, "https://", 8) == 0;
    if (!p->tls && strncmp(url, "http://", 7) != 0)
        return rt_fail(err, RT_E_INVALID, "%s, got '%s'", form, url);
    char *host = url + (p->tls ? 8 : 7);
    char *end = host + strcspn(host, "/?#");
    if (end[0] != '\0' && strcmp(end, "/") != 0)
        return rt_fail(err, RT_E_INVALID, "%s, without a path, got '%s'", form, end);
    end[0] = '\0';
    char *port = strrchr(host, ':');
    if (host[0] == '[') {
        char *bracket = strchr(host, ']');
        if (bracket == NULL || (bracket[1] != '\0' && bracket[1] != ':'))
            return rt_fail(err, RT_E_INVALID, "%s, got '%s'", form, host);
        port = bracket[1] == ':' ? bracket + 1 : NULL;
        *bracket = '\0';
        host++;
    }
    p->port = p->tls ? 443 : 80;
    if (port != NULL) {
        char *rest;
        long n = strtol(port + 1, &rest, 10);
        if (rest == port + 1 || *rest != '\0' || n < 1 || n > 65535)
            return rt_fail(err, RT_E_INVALID, "'%s' is no port", port + 1);
        p->port = (int)n;
        *port = '\0';
    }
    if (host[0] == '\0')
        return rt_fail(err, RT_E_INVALID, "%s: the host is missing", form);
    p->host = host;
    return RT_OK;
}

/* What `serve` would be told here without arguments; strings live as long as *memory. */
static enum rt_status settings_of_server(struct sv_serve_settings *set, void **memory,
                                         struct rt_error *err)
{
    struct sv_arguments none;
    *set = sv_serve_defaults;
    enum rt_status s = sv_options_parse(&sv_serve_command, 0, NULL, set, &none, err);
    *memory = none.memory;
    return s;
}

/* The sentence of *err behind the address it is about. */
static int failed(const struct sv_probe *p, struct rt_error *err)
{
    const char *host = p->host != NULL ? p->host : "localhost";
    const bool v6 = strchr(host, ':') != NULL;
    rt_error_prefix(err, "%s://%s%s%s:%d", p->tls ? "https" : "http", v6 ? "[" : "", host,
                    v6 ? "]" : "", p->port);
    return sv_cli_fail(&sv_health_command, err);
}

int sv_health_main(int argc, char **argv)
{
    struct sv_serve_settings server;
    struct settings set = defaults;
    struct sv_arguments rest;
    struct rt_error err = { 0 };
    void *memory = NULL;
    int status = 0;
    enum rt_status s = settings_of_server(&server, &memory, &err);
    if (s == RT_OK) {
        set.host = server.host;
        set.port = server.port;
    }
    if (!sv_cli_begin(&sv_health_command, argc, argv, &set, &rest, &status)) {
        rt_free(memory);
        return status;
    }
    struct sv_probe p = {
        .host = is_wildcard(set.host) ? NULL : set.host,
        .port = set.port,
        .tls = s == RT_OK && server.tls_cert != NULL,
        .path = set.live ? "/v2/health/live" : "/v2/health/ready",
        .timeout = set.timeout,
    };
    if (rest.n > 1)
        status = sv_cli_usage(&sv_health_command, "one URL at a time");
    else if (rest.n == 1 && parse_url(rest.item[0], &p, &err) != RT_OK)
        status = sv_cli_usage(&sv_health_command, "%s", err.text);
    else if (rest.n == 0 && s != RT_OK)
        status = sv_cli_fail(&sv_health_command, &err);
    else if (p.port == 0)
        status = sv_cli_usage(&sv_health_command, "port 0 is any that is free: which one was it?");
    else if (sv_probe(&p, &status, &err) != RT_OK)
        status = failed(&p, &err);
    else if (status != 200) {
        rt_fail(&err, RT_E_BUSY, "%s (status %d)", set.live ? "not alive" : "not ready", status);
        status = failed(&p, &err);
    } else {
        puts(set.live ? "alive" : "ready");
        status = 0;
    }
    rt_free(memory);
    return status;
}
