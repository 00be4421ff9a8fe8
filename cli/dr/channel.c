#include "cli/dr/channel.h"

#include "cli/dr/proc.h"
#include "cli/dr/web.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { VARS = 9 };

static int run(const char *command, const char *address, const struct letter *l, const char *text, int64_t timeout_ms, const char *log, struct err *err)
{
    const struct { const char *name, *value; } vars[] = {
        { "SPARE_TO", address }, { "SPARE_SUBJECT", l->subject }, { "SPARE_PERSON", l->person }, { "SPARE_LINK", l->link }, { "SPARE_EVENT", l->event }, { "SPARE_ID", l->id },
        { "SPARE_DRY", l->dry ? "1" : "" },
    };
    char *env[VARS] = { NULL }, *whole = NULL, said[400];
    char sh[] = "/bin/sh", c[] = "-c";
    struct proc p;
    struct proc_end end;
    /* Without CLOEXEC: the child reads its text there. */
    int fd = memfd_create("text", 0), r = 0;

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || asprintf(&whole, "exec </dev/fd/%d; %s", fd, command) < 0)    /* (dash closes none above 9) */
        r = err_set(err, ERR_NOMEM, "no memory");
    for (size_t i = 0; r == 0 && i < sizeof vars / sizeof vars[0]; i++)
        if (asprintf(&env[i], "%s=%s", vars[i].name, vars[i].value ? vars[i].value : "") < 0)
            r = err_set(err, ERR_NOMEM, "no memory");
    if (r == 0)
        r = proc_start((char *[]){ sh, c, whole, NULL }, &(struct proc_how){ .env = env, .log = log, .tied = true, .timeout_ms = timeout_ms }, &p, err);
    if (r == 0) {
        proc_wait(&p, &end, NULL);
        proc_tail(&p, said, sizeof said);
        proc_release(&p);
        if (end.exit < 0)
            r = err_set(err, ERR_AWAY, "it took longer than %lld ms", (long long)timeout_ms);
        else if (end.exit)
            r = err_set(err, ERR_AWAY, "exit status %d%s%s", end.exit, *said ? ": " : "", said);
    }
    if (fd >= 0)
        close(fd);
    for (int i = 0; i < VARS; i++)
        free(env[i]);
    free(whole);
    return r;
}

/* Plain where it is ASCII, else as RFC 2047 has it. */
static void subject(FILE *m, const char *s)
{
    bool plain = true;

    for (const char *c = s; *c; c++)
        plain &= (unsigned char)*c < 0x80;
    fputs("Subject: ", m);
    if (plain) {
        fprintf(m, "%s\n", s);
        return;
    }
    /* A piece at a time, cut between characters. */
    while (*s) {
        size_t n = 0;

        fputs("=?UTF-8?Q?", m);
        while (*s && n < 40) {
            do {
                fprintf(m, "=%02X", (unsigned char)*s++);
                n += 3;
            } while (((unsigned char)*s & 0xc0) == 0x80);
        }
        fputs(*s ? "?=\n " : "?=\n", m);
    }
}

static int mail(const struct plan_channel *c, const char *address, const struct letter *l, const char *log, struct err *err)
{
    const char *program = c->command ? c->command : "/usr/sbin/sendmail";
    char *text = NULL, *command = NULL, host[256] = "localhost", date[64];
    time_t now = time(NULL);
    struct tm tm;
    size_t len = 0;
    FILE *m;
    int r;

    if (l->dry) {
        size_t n = strcspn(program, " ");
        char *path = strndup(program, n);

        r = path && access(path, X_OK) == 0 ? 0 : err_set(err, ERR_AWAY, "%.*s: expected a program that sends mail, found none", (int)n, program);
        free(path);
        return r;
    }
    m = open_memstream(&text, &len);
    if (!m)
        return err_set(err, ERR_NOMEM, "no memory");
    (void)gethostname(host, sizeof host - 1);
    gmtime_r(&now, &tm);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S +0000", &tm);
    if (c->from)
        fprintf(m, "From: %s\n", c->from);
    fprintf(m, "To: %s\n", address);
    subject(m, l->subject);
    fprintf(m, "Date: %s\nMessage-ID: <%s@%s>\nAuto-Submitted: auto-generated\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n%s", date, l->id, host, l->text);
    if (fclose(m) || asprintf(&command, "%s -i -- \"$SPARE_TO\"", program) < 0) {
        free(text);
        return err_set(err, ERR_NOMEM, "no memory");
    }
    r = run(command, address, l, text, c->timeout_ms, log, err);
    free(command);
    free(text);
    return r;
}

static int webhook(const struct plan_channel *c, const char *address, const struct letter *l, struct err *err)
{
    json_t *o = json_object();
    char *text;
    int r;

    json_object_set_new(o, "id", json_string(l->id));
    json_object_set_new(o, "plan", json_string(l->plan));
    json_object_set_new(o, "run", json_string(l->run));
    json_object_set_new(o, "event", json_string(l->event));
    json_object_set_new(o, "person", json_string(l->person));
    json_object_set_new(o, "to", json_string(address));
    json_object_set_new(o, "subject", json_string(l->subject));
    json_object_set_new(o, "text", json_string(l->text));
    if (l->link)
        json_object_set_new(o, "link", json_string(l->link));
    if (l->dry)
        json_object_set_new(o, "dry", json_true());
    text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    r = text ? web_send(c->url, text, (long)c->timeout_ms, err) : err_set(err, ERR_NOMEM, "no memory");
    free(text);
    return r;
}

int channel_send(const struct plan_channel *c, const char *address, const struct letter *l, const char *log, struct err *err)
{
    switch (c->type) {
    case CHANNEL_COMMAND: return run(c->command, address, l, l->text, c->timeout_ms, log, err);
    case CHANNEL_MAIL: return mail(c, address, l, log, err);
    case CHANNEL_WEBHOOK: return webhook(c, address, l, err);
    default: return web_send(c->url, NULL, (long)c->timeout_ms, err);
    }
}
