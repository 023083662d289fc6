/* RFC 9112: Host, Content-Length, Transfer-Encoding, and what headers may consist of. */
#include "server/head.h"

#include <string.h>
#include <strings.h>

/* A name is a token (RFC 9110, 5.6.2). A space in front of the colon would hide the header here and
 * not elsewhere. */
static bool is_name(const char *s)
{
    static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    return *s != '\0' && s[strspn(s, token)] == '\0';
}

static bool is_value(const char *s)
{
    for (; *s != '\0'; s++)
        if (((unsigned char)*s < ' ' && *s != '\t') || *s == 0x7f)
            return false;
    return true;
}

/* A name or address and a port, or nothing (RFC 3986, 3.2.2): no path, no user, no second one. */
static bool is_host(const char *s)
{
    static const char host[] = "-._~%!$&'()*+,;=:[]0123456789abcdefghijklmnopqrstuvwxyz"
                               "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    return s[strspn(s, host)] == '\0';
}

void sv_head_add(struct sv_head *h, const char *name, const char *value)
{
    if (value == NULL)
        value = "";
    if (h->bad_name == NULL && (!is_name(name) || !is_value(value)))
        h->bad_name = name;
    if (strcasecmp(name, "Host") == 0) {
        h->n_hosts++;
        h->bad_host |= !is_host(value);
    } else if (strcasecmp(name, "Content-Length") == 0) {
        if (h->n_lengths++ == 0)
            h->length = value;
        h->differ |= strcmp(h->length, value) != 0;
    } else if (strcasecmp(name, "Transfer-Encoding") == 0) {
        if (h->n_encodings++ == 0)
            h->encoding = value;
    } else if (strcasecmp(name, "Expect") == 0) {
        h->expects |= strcasecmp(value, "100-continue") == 0;
    }
}

/* The message is one at most. */
static bool check_framing(const struct sv_head *h, struct sv_response *res)
{
    if (h->differ)
        sv_reply_status(res, 400, "there are %d Content-Length headers, and they differ",
                        h->n_lengths);
    else if (h->n_lengths > 0 && h->n_encodings > 0)
        sv_reply_status(res, 400,
                        "Content-Length and Transfer-Encoding cannot both say how long a body is");
    else if (h->n_encodings > 1)
        sv_reply_status(res, 400, "there are %d Transfer-Encoding headers", h->n_encodings);
    else if (h->n_encodings > 0 && strcasecmp(h->encoding, "chunked") != 0)
        sv_reply_status(res, 501,
                        "Transfer-Encoding '%.64s' is not supported, only chunked; a compressed "
                        "body says Content-Encoding: gzip",
                        h->encoding);
    else if (h->n_encodings > 0 && h->http_1_0)
        sv_reply_status(res, 400, "HTTP/1.0 knows no Transfer-Encoding");
    else
        return true;
    return false;
}

bool sv_head_check(const struct sv_head *h, struct sv_response *res)
{
    if (h->target_len > SV_TARGET_MAX)
        sv_reply_status(res, 414, "the path and query have %zu bytes, at most %zu are taken",
                        h->target_len, SV_TARGET_MAX);
    else if (h->len > SV_HEAD_MAX)
        sv_reply_status(res, 431, "the headers have %zu bytes, at most %zu are taken", h->len,
                        SV_HEAD_MAX);
    else if (h->folded)
        sv_reply_status(
            res, 400,
            "a header goes on on the next line, which is not allowed any more (RFC 9112, "
            "5.2)");
    else if (h->hidden)
        sv_reply_status(res, 400,
                        "a zero byte stands in the request line or a header, or a header has no "
                        "name");
    else if (h->bad_name != NULL)
        sv_reply_status(res, 400,
                        "header '%.64s' is malformed: a space or control character stands in its "
                        "name, or a control character in its value",
                        h->bad_name);
    else if (h->n_hosts > 1 || (h->n_hosts == 0 && !h->http_1_0))
        sv_reply_status(res, 400, "HTTP/1.1 asks for one Host header, there are %d", h->n_hosts);
    else if (h->bad_host)
        sv_reply_status(res, 400, "the Host header is neither a host nor one with a port");
    else
        return check_framing(h, res);
    return false;
}
