#include "cli/dr/site.h"

#include "cli/dr/env.h"
#include "cli/dr/record.h"
#include "cli/out.h"
#include "cli/role.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOCAL_MS = 30000, ANSWER_MAX = 1 << 20 };

bool site_is_here(const struct site_view *v, const struct plan_site *s)
{
    return s == v->here || !s->host || (v->here->host && strcmp(s->host, v->here->host) == 0);
}

char *site_target(const struct plan_site *s, const struct plan_store *st)
{
    char *t = NULL;

    if (!s->host)
        return strdup(st->path);
    return asprintf(&t, "%s:%s", s->host, st->path) < 0 ? NULL : t;
}

/* ---- what is run ---- */

/* Words, each with its own memory; ${v} ends with a NULL. */
struct line { char **v; unsigned n; bool no_memory; };

/* Takes ${w}; NULL: there was no memory for it. */
static void own_word(struct line *l, char *w)
{
    char **more = w ? realloc(l->v, (l->n + 2) * sizeof *more) : NULL;

    l->no_memory |= !more;
    if (!more) {
        free(w);
        return;
    }
    l->v = more;
    l->v[l->n++] = w;
    l->v[l->n] = NULL;
}

static void word(struct line *l, const char *w)
{
    own_word(l, strdup(w));
}

static void line_release(struct line *l)
{
    for (unsigned i = 0; i < l->n; i++)
        free(l->v[i]);
    free(l->v);
}

/* A word that is missing would make another command of it. */
static int line_start(struct line *l, const struct proc_how *how, struct proc *p, struct err *err)
{
    int r = l->no_memory ? err_set(err, ERR_NOMEM, "no memory for a command") : proc_start(l->v, how, p, err);

    line_release(l);
    return r;
}

/* ssh, as the plan has it, up to the command. */
static void reach(struct line *l, const struct plan_site *s)
{
    char *ssh = strdup(s->ssh ? s->ssh : "ssh"), *save = NULL, *timeout = NULL;

    l->no_memory |= !ssh;
    for (char *w = ssh ? strtok_r(ssh, " ", &save) : NULL; w; w = strtok_r(NULL, " ", &save))
        word(l, w);
    free(ssh);
    if (asprintf(&timeout, "-oConnectTimeout=%d", (int)((s->contact_ms + 999) / 1000)) < 0)
        timeout = NULL;
    word(l, "-oBatchMode=yes");
    own_word(l, timeout);
    word(l, "--");
    word(l, s->host);
}

static char *remote_spare(const struct plan_site *s, const char *const argv[])
{
    char *out = NULL;
    size_t len = 0;
    FILE *m = open_memstream(&out, &len);

    if (!m)
        return NULL;
    fputs(s->spare ? s->spare : "spare", m);
    fputs(" --json", m);
    for (; *argv; argv++) {
        putc(' ', m);
        env_quote(m, *argv);
    }
    return fclose(m) ? NULL : out;
}

/* The first line that is an object. */
static json_t *first_object(const char *text)
{
    while (text && *text) {
        size_t n = strcspn(text, "\n");
        json_t *o = json_loadb(text, n, 0, NULL);

        if (json_is_object(o))
            return o;
        json_decref(o);
        text += n + (text[n] == '\n');
    }
    return NULL;
}

/* What a spare said on stderr: its error, else the last line. */
static void message_of_spare(const struct proc *p, char *buf, size_t cap)
{
    char tail[1024];
    json_t *o;

    proc_tail(p, tail, sizeof tail);
    o = json_loads(tail, 0, NULL);
    if (json_object_get(o, "error"))
        snprintf(buf, cap, "%.700s", item_text(json_object_get(o, "error"), "message"));
    else
        snprintf(buf, cap, "%.700s", json_object_get(o, "message") ? item_text(o, "message") : tail);
    json_decref(o);
}

int site_spare_text(const struct site_view *v, const struct plan_site *s, const char *const argv[], int64_t timeout_ms, size_t max, char **out, struct err *err)
{
    const bool here = site_is_here(v, s);
    struct line l = { 0 };
    struct proc p;
    struct proc_end end;
    char said[ERR_MSG_MAX] = "";
    bool answers;
    int r;

    if (out)
        *out = NULL;
    if (here) {
        word(&l, "/proc/self/exe");
        word(&l, "--json");
        for (const char *const *a = argv; *a; a++)
            word(&l, *a);
    } else {
        reach(&l, s);
        own_word(&l, remote_spare(s, argv));
    }
    r = line_start(&l, &(struct proc_how){ .apart = true, .tied = !v->notes, .notes = v->notes, .keep_bytes = (int64_t)max, .timeout_ms = timeout_ms }, &p, err);
    if (r)
        return r;
    proc_wait(&p, &end, v->stop);
    message_of_spare(&p, said, sizeof said);
    answers = out && (end.exit == 0 || end.exit == 3 || (end.exit >= 20 && end.exit <= 25));
    if (answers && proc_data_bytes(&p) <= (int64_t)max)
        *out = proc_data(&p, max);
    if (answers && proc_data_bytes(&p) > (int64_t)max) {
        r = err_set(err, ERR_TOOLONG, "site %s: spare %s: expected at most %zu bytes, found %lld", s->h.name, argv[0], max, (long long)proc_data_bytes(&p));
    } else if (end.exit < 0) {
        r = err_set(err, ERR_AWAY, "site %s: no answer to `spare %s` within %lld ms", s->h.name, argv[0], (long long)end.ms);
    } else if (!here && end.exit == 255) {
        r = err_set(err, ERR_AWAY, "site %s: not reached: %s", s->h.name, said);
    } else if (end.exit > 0 && end.exit != 3) {
        r = end.exit;
        err_set(err, ERR_UNKNOWN, "site %s: spare %s: %s", s->h.name, argv[0], *said ? said : "it failed, and said nothing");
    }
    proc_release(&p);
    return r;
}

int site_spare(const struct site_view *v, const struct plan_site *s, const char *const argv[], int64_t timeout_ms, json_t **out, struct err *err)
{
    char *text = NULL;
    int r = site_spare_text(v, s, argv, timeout_ms, ANSWER_MAX, out ? &text : NULL, err);

    if (out)
        *out = first_object(text);
    free(text);
    return r;
}

/* ---- the plan's own ---- */

/* As many as 16 stores need. */
struct vars { char *v[64]; unsigned n; bool no_memory; };

static void add_var(void *arg, const char *name, const char *value)
{
    struct vars *e = arg;
    char *v = NULL;

    if (e->n == 63 || asprintf(&v, "%s=%s", name, value) < 0)
        e->no_memory = true;
    else
        e->v[e->n++] = v;
}

/* NAME=VALUE... sh -c COMMAND, as a shell over there reads it. */
static char *remote_command(const struct vars *e, const char *command)
{
    char *out = NULL;
    size_t len = 0;
    FILE *m = open_memstream(&out, &len);

    if (!m)
        return NULL;
    fputs("env", m);
    for (unsigned i = 0; i < e->n; i++) {
        putc(' ', m);
        env_quote(m, e->v[i]);
    }
    fputs(" /bin/sh -c ", m);
    env_quote(m, command);
    return fclose(m) ? NULL : out;
}

int site_command(const struct site_view *v, const struct plan_site *at, const struct plan_site *other, const char *command, const char *log, int64_t timeout_ms, const char *step,
                 struct proc *p, struct err *err)
{
    struct line l = { 0 };
    struct vars e = { 0 };
    const bool here = site_is_here(v, at);
    int r;

    env_each(v->plan, at, other, add_var, &e);
    add_var(&e, "SPARE_RUN", v->run ? v->run : "");
    add_var(&e, "SPARE_STEP", step);
    if (here) {
        word(&l, "/bin/sh");
        word(&l, "-c");
        word(&l, command);
    } else {
        reach(&l, at);
        own_word(&l, remote_command(&e, command));
    }
    r = e.no_memory ? err_set(err, ERR_NOMEM, "no memory for a command") : 0;
    if (r)
        line_release(&l);
    else
        r = line_start(&l, &(struct proc_how){ .env = here ? e.v : NULL, .log = log, .tied = !v->notes, .notes = v->notes, .timeout_ms = timeout_ms }, p, err);
    for (unsigned i = 0; i < e.n; i++)
        free(e.v[i]);
    return r;
}

/* ---- how a store is ---- */

static void text_of(const json_t *o, const char *key, char *buf, size_t cap)
{
    snprintf(buf, cap, "%s", item_text(o, key));
}

void site_look(const struct site_view *v, const struct plan_site *s, const struct plan_store *st, struct site_store *out)
{
    const char *const argv[] = { "status", st->path, NULL };
    const int64_t timeout_ms = site_is_here(v, s) ? LOCAL_MS : s->contact_ms;
    struct err err = { 0 };
    const json_t *rpo;
    json_t *o = NULL;
    int r = site_spare(v, s, argv, timeout_ms, &o, &err);

    *out = (struct site_store){ .held_to_ms = -1, .lag_ms = -1 };
    /* Exit statuses of a state (20, 22, 23, 24) come with an answer; a store that is not there comes without. */
    out->reached = (r == 0 || r >= 20) && o;
    if (r && !out->reached)
        snprintf(out->why, sizeof out->why, "%.250s", err.msg);
    if (out->reached) {
        text_of(o, "role", out->role, sizeof out->role);
        text_of(o, "state", out->state, sizeof out->state);
        text_of(o, "lineage", out->lineage, sizeof out->lineage);
        text_of(o, "mounted_at", out->mounted_at, sizeof out->mounted_at);
        out->epoch = item_u64(o, "epoch");
        out->epochs_left = role_epochs_left(o);
        out->unfinished = item_u64(o, "promote_unfinished_at_lsn") != 0;
        out->uncommitted = *item_text(o, "failed_over_from") != 0;
        out->lease_out = strcmp(item_text(json_object_get(o, "lease"), "state"), "out") == 0;
        out->durable_lsn = item_u64(o, "durable_lsn");
        out->disk_free = item_u64(o, "disk_free_bytes");
        rpo = json_object_get(o, "rpo_seconds");
        out->lag_ms = json_is_number(rpo) ? (int64_t)(json_number_value(rpo) * 1000) : -1;
        out->held_to_ms = record_parse_ms(item_text(o, "last_record"));
    }
    json_decref(o);
}
