#include "store/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct row { int code, eno, exit; const char *name, *text; };

static const struct row rows[] = {
#define X(name, num, eno, ex, text) { -(num), eno, ex, #name, text },
    ERR_TABLE(X)
#undef X
};

static const struct row *row_of(int code)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].code == code)
            return &rows[i];
    return NULL;
}

/*
 * Messages hold names of files, which may hold anything: one failure stays one
 * line, and no terminal is sent control codes. Bytes >= 0x80 pass, names are
 * usually UTF-8. What does not fit ends in "...".
 */
static void store_msg(struct err *err, const char *msg, size_t wanted)
{
    size_t n = strnlen(msg, ERR_MSG_MAX - 1);

    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)msg[i];
        err->msg[i] = c < 0x20 || c == 0x7f ? '?' : msg[i];
    }
    err->msg[n] = '\0';
    if (wanted >= ERR_MSG_MAX)
        memcpy(err->msg + ERR_MSG_MAX - 4, "...", 4);
}

static int __attribute__((format(printf, 3, 0)))
set_va(struct err *err, int code, const char *fmt, va_list ap, int eno)
{
    char tmp[ERR_MSG_MAX];      /* an argument may be err->msg itself */
    int n;
    size_t len;

    if (code >= 0)
        code = ERR_UNKNOWN;     /* a failure never becomes a success */
    if (!err)
        return code;
    n = vsnprintf(tmp, sizeof tmp, fmt, ap);
    len = n < 0 ? 0 : (size_t)n;
    if (n < 0)
        tmp[0] = '\0';
    if (eno > 0 && len < sizeof tmp) {
        char buf[128];
        const char *s = strerror_r(eno, buf, sizeof buf);
        n = snprintf(tmp + len, sizeof tmp - len, "%s%s", len ? ": " : "", s);
        len += n < 0 ? 0 : (size_t)n;
    }
    err->code = code;
    store_msg(err, tmp, len);
    return code;
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    code = set_va(err, code, fmt, ap, 0);
    va_end(ap);
    return code;
}

static int code_of_errno(int eno)
{
    /* What has no errno of its own in the table. */
    switch (eno) {
    case EDQUOT: return ERR_NOSPC;
    case ENOSYS: return ERR_NOTSUP;
    default: break;
    }
    /* Several codes share an errno; the plain one comes first in the table. */
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].eno == eno)
            return rows[i].code;
    return ERR_UNKNOWN;
}

int err_from_errno(struct err *err, int eno, const char *fmt, ...)
{
    va_list ap;
    int code = code_of_errno(eno);

    va_start(ap, fmt);
    code = set_va(err, code, fmt, ap, eno);
    va_end(ap);
    return code;
}

int err_errno(int code)
{
    const struct row *r = row_of(code);

    if (code == 0)
        return 0;
    return r ? r->eno : EIO;
}

int err_exit(int code)
{
    const struct row *r = row_of(code);

    if (code == 0)
        return 0;
    return r ? r->exit : 1;
}

const char *err_text(int code)
{
    const struct row *r = row_of(code);

    return r ? r->text : "?";
}

const char *err_name(int code)
{
    const struct row *r = row_of(code);

    return r ? r->name : "?";
}
