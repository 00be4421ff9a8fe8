#include "cli/out.h"

#include "store/svc/wire.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

volatile int out_interrupted;
bool out_json;

static bool warned, broken_pipe, progress_shown;
static int stdout_errno;        /* of the first write that failed */

static void on_signal(int sig)
{
    out_interrupted = sig;
}

void out_init(void)
{
    /* Once is asked for, twice is meant: the second one is not caught. */
    struct sigaction stop = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };
    struct sigaction ignore = { .sa_handler = SIG_IGN };

    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
}

void out_text(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (vprintf(fmt, ap) < 0 && errno == EPIPE)
        broken_pipe = true;
    va_end(ap);
}

static void print_object(FILE *f, const json_t *o)
{
    if (json_dumpf(o, f, JSON_COMPACT) || putc('\n', f) == EOF)
        if (errno == EPIPE)
            broken_pipe = true;
}

void out_object(const json_t *o)
{
    print_object(stdout, o);
}

int out_bytes(const void *p, size_t len, struct err *err)
{
    if (fwrite(p, 1, len, stdout) == len)
        return 0;
    stdout_errno = errno;
    if (errno == EPIPE) {
        broken_pipe = true;
        return err_set(err, ERR_INTR, "stdout: nobody reads it any more");
    }
    return err_from_errno(err, errno, "stdout");
}

static void message(const char *fmt, va_list ap)
{
    char buf[2048];
    json_t *o;

    vsnprintf(buf, sizeof buf, fmt, ap);
    out_progress_end();
    if (!out_json) {
        fprintf(stderr, "spare: %s\n", buf);
        return;
    }
    o = json_object();
    wire_set_bytes(o, "message", buf, strlen(buf));
    print_object(stderr, o);
    json_decref(o);
}

void out_message(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    message(fmt, ap);
    va_end(ap);
}

void out_warn(const char *fmt, ...)
{
    va_list ap;

    warned = true;
    va_start(ap, fmt);
    message(fmt, ap);
    va_end(ap);
}

int out_error(const struct err *err, int code)
{
    struct err own = { 0 };
    const char *msg;
    json_t *o, *e;

    out_progress_end();
    if (stdout_errno && !(err && err->msg[0])) {
        err_from_errno(&own, stdout_errno, "stdout");
        err = &own;
    }
    msg = err && err->msg[0] ? err->msg : err_text(code);
    if (code == ERR_INTR && out_interrupted)
        return 128 + out_interrupted;
    if (code == ERR_INTR && broken_pipe)
        return 128 + SIGPIPE;
    if (!out_json) {
        fprintf(stderr, "spare: %s\n", msg);
        return err_exit(code);
    }
    e = json_object();
    json_object_set_new(e, "name", json_string(err_name(code)));
    json_object_set_new(e, "code", json_integer(-code));
    wire_set_bytes(e, "message", msg, strlen(msg));
    o = json_object();
    json_object_set_new(o, "error", e);
    print_object(stderr, o);
    json_decref(o);
    return err_exit(code);
}

int out_finish(int exit_code)
{
    out_progress_end();
    if ((fflush(stdout) || ferror(stdout)) && exit_code == EXIT_OK) {
        if (broken_pipe || errno == EPIPE)
            return 128 + SIGPIPE;
        fprintf(stderr, "spare: stdout: %s\n", strerror(errno));
        return EXIT_FAILED;
    }
    return exit_code == EXIT_OK && warned ? EXIT_WARNINGS : exit_code;
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void out_progress(const char *what, uint64_t done, uint64_t total)
{
    static double began, drawn;
    static const char *current;
    double now = seconds();
    char a[32], b[32], c[32];
    double rate;

    if (out_json || !isatty(STDERR_FILENO))
        return;
    if (!current || strcmp(current, what) != 0) {
        free((void *)(uintptr_t)current);
        current = strdup(what);
        began = now;
    }
    if (now - began < 1 || now - drawn < 0.2)
        return;
    drawn = now;
    rate = (double)done / (now - began);
    fprintf(stderr, "\r\033[K%s: %s", what, out_size(done, a));
    if (total > done && rate > 0)
        fprintf(stderr, " of %s, %s/s, %.0f s left", out_size(total, b), out_size((uint64_t)rate, c),
                (double)(total - done) / rate);
    else
        fprintf(stderr, ", %s/s", out_size((uint64_t)rate, c));
    fflush(stderr);
    progress_shown = true;
}

void out_progress_end(void)
{
    if (progress_shown)
        fputs("\r\033[K", stderr);
    progress_shown = false;
}

const char *out_name(const char *bytes)
{
    static char buf[4 * 8192 + 1];
    size_t o = 0, len = strlen(bytes);

    for (size_t i = 0; i < len && o + 8 < sizeof buf;) {
        unsigned char ch = (unsigned char)bytes[i];
        size_t n = ch < 0x80 ? 1 : ch >= 0xf0 ? 4 : ch >= 0xe0 ? 3 : ch >= 0xc2 ? 2 : 0;
        json_t *j = n > 1 && n <= len - i ? json_stringn(bytes + i, n) : NULL;

        if (ch == '\n')
            o += (size_t)sprintf(buf + o, "\\n");
        else if (ch == '\\')
            o += (size_t)sprintf(buf + o, "\\\\");
        else if (ch < 0x20 || ch == 0x7f || (ch >= 0x80 && !j))
            o += (size_t)sprintf(buf + o, "\\%03o", ch);
        else {
            n = j ? n : 1;
            memcpy(buf + o, bytes + i, n);
            o += n;
            i += n - 1;
        }
        i++;
        json_decref(j);
    }
    buf[o] = '\0';
    return buf;
}

const char *out_size(uint64_t bytes, char buf[32])
{
    static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
    double v = (double)bytes;
    unsigned u = 0;

    while (v >= 1024 && u < 5) {
        v /= 1024;
        u++;
    }
    snprintf(buf, 32, u ? "%.1f %s" : "%.0f %s", v, unit[u]);
    return buf;
}

const char *out_time(const char *rfc3339, char buf[40])
{
    size_t o = 0;

    if (!*rfc3339)
        return strcpy(buf, "-");
    /* "2026-11-22T10:15:03.123Z" -> "2026-11-22T101503Z" */
    for (const char *p = rfc3339; *p && *p != '.' && *p != 'Z' && o < 38; p++)
        if (*p != ':')
            buf[o++] = *p;
    buf[o++] = 'Z';
    buf[o] = '\0';
    return buf;
}

const char *item_text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

uint64_t item_u64(const json_t *o, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(o, key));
}

bool item_true(const json_t *o, const char *key)
{
    return json_is_true(json_object_get(o, key));
}

const char *item_name(const json_t *o, const char *key)
{
    char *bytes = NULL;
    const char *s;

    if (wire_get_bytes(o, key, &bytes, NULL) || !bytes)
        return "";
    s = out_name(bytes);
    free(bytes);
    return s;
}
