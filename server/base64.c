/* Six bits a character. */
#include "server/base64.h"

/* -1: not of the alphabet. */
static int bits_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    return c == '/' || c == '_' ? 63 : -1;
}

bool sv_base64_decode(const char *text, size_t len, unsigned char *out, size_t *out_len)
{
    unsigned pending = 0;
    int n_pending = 0;
    size_t n = 0, i = 0, read = 0;
    for (; i < len && text[i] != '='; i++) {
        if (text[i] == '\\' && i + 1 < len && text[i + 1] == '/')
            continue;
        int bits = bits_of(text[i]);
        if (bits < 0)
            return false;
        read++;
        pending = pending << 6 | (unsigned)bits;
        n_pending += 6;
        if (n_pending >= 8) {
            n_pending -= 8;
            out[n++] = (unsigned char)(pending >> n_pending);
            pending &= (1u << n_pending) - 1;
        }
    }
    const size_t padding = len - i;
    for (; i < len; i++)
        if (text[i] != '=')
            return false;
    *out_len = n;
    return read % 4 != 1 && (padding == 0 || (padding <= 2 && (read + padding) % 4 == 0));
}
