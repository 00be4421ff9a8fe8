/* check.c: `dr plan check`: whether the plan would work, before it is needed. It changes nothing but the runbook that is kept at each site; what it asks of channels and sites says that it is a trial. */
#include "cli/dr/channel.h"
#include "cli/dr/env.h"
#include "cli/dr/run.h"
#include "cli/dr/witness.h"
#include "cli/role.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SCRIPT_MS = 60000, OUTPUT_MAX = 1 << 20 };
enum level { LEVEL_OK, LEVEL_WARNING, LEVEL_PROBLEM };

struct facts { char *text; bool reached; };     /* what a site says of itself: lines of KEY TAB VALUE */

struct checking {
    const struct dr_options *o;
    const struct plan *p;
    struct site_view view;
    struct facts facts[PLAN_MAX_SITES];
    struct site_store seen[PLAN_MAX_SITES][16];
    unsigned warnings, problems;
};

static void say(struct checking *c, enum level level, const char *what, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static void say(struct checking *c, enum level level, const char *what, const char *fmt, ...)
{
    static const char *const words[] = { "ok", "warning", "PROBLEM" }, *const names[] = { "ok", "warning", "problem" };
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    c->warnings += level == LEVEL_WARNING;
    c->problems += level == LEVEL_PROBLEM;
    if (out_json) {
        json_t *j = json_object();

        json_object_set_new(j, "level", json_string(names[level]));
        json_object_set_new(j, "what", json_string(what));
        json_object_set_new(j, "text", json_string(text));
        out_object(j);
        json_decref(j);
    } else {
        out_text("%-8s %-10s %s\n", words[level], what, text);
    }
}

/* ---- the sites ---- */

static void look_at_store(struct checking *c, unsigned i, unsigned k)
{
    const struct plan_site *s = &c->p->sites.v[i];
    struct site_store *seen = &c->seen[i][k];
    bool primary = strcmp(s->h.name, c->p->primary) == 0;

    site_look(&c->view, s, &s->stores.v[k], seen);
    if (!seen->reached) {
        say(c, LEVEL_PROBLEM, "site", "%s, store %s: not reached: %s", s->h.name, s->stores.v[k].h.name, seen->why);
        return;
    }
    say(c, strcmp(seen->role, primary ? "primary" : "standby") == 0 ? LEVEL_OK : LEVEL_WARNING, "site", "%s, store %s: %s, %s%s", s->h.name, s->stores.v[k].h.name, seen->role, seen->state,
        strcmp(seen->role, primary ? "primary" : "standby") == 0 ? "" : primary ? "; the plan's primary is expected to be the primary" : "; expected a standby");
    if (strcmp(seen->state, "Damaged") == 0 || strcmp(seen->state, "Diverged") == 0 || strcmp(seen->state, "Space low") == 0 || strcmp(seen->state, "Read-only") == 0)
        say(c, LEVEL_PROBLEM, "state", "%s, store %s: %s", s->h.name, s->stores.v[k].h.name, seen->state);
    if (role_table_fills(seen->epochs_left))
        say(c, LEVEL_WARNING, "epochs", "%s, store " ROLE_TABLE_FILLS, s->h.name, s->stores.v[k].h.name, (unsigned long long)seen->epochs_left);
}

static void versions(struct checking *c)
{
    const char *const argv[] = { "version", NULL };
    char first[64] = "";

    for (unsigned i = 0; i < c->p->sites.n; i++) {
        const struct plan_site *s = &c->p->sites.v[i];
        struct err why = { 0 };
        json_t *o = NULL;

        if (site_spare(&c->view, s, argv, s->contact_ms + 5000, &o, &why) || !o)
            say(c, LEVEL_PROBLEM, "version", "%s: spare does not answer: %s", s->h.name, why.msg);
        else if (*first && strcmp(first, item_text(o, "version")) != 0)
            say(c, LEVEL_WARNING, "version", "spare is %s at %s, %s at %s", first, c->p->sites.v[0].h.name, item_text(o, "version"), s->h.name);
        else if (!*first)
            snprintf(first, sizeof first, "%s", item_text(o, "version"));
        json_decref(o);
    }
    if (*first)
        say(c, LEVEL_OK, "version", "spare %s", first);
}

/* ---- objectives ---- */

struct measured { const struct plan *p; int64_t ms; };

static int measure(void *arg, const char *site, const char *id)
{
    struct measured *m = arg;
    struct run *r = NULL;

    if (run_open(site, id, false, &r, NULL) == 0) {
        if (r->kind == RUN_FAILOVER && r->up_wall_ms >= 0 && strcmp(r->plan->h.name, m->p->h.name) == 0)
            m->ms = run_out_ms(r);
        run_close(r);
    }
    return 0;
}

static void objectives(struct checking *c)
{
    const struct plan *p = c->p;
    struct measured m = { p, -1 };
    char a[32], b[32];
    int64_t lag = -2;

    for (unsigned i = 0; i < p->sites.n; i++)
        for (unsigned k = 0; k < p->sites.v[i].stores.n && k < 16; k++)
            if (c->seen[i][k].reached && strcmp(c->seen[i][k].role, "primary") == 0 && c->seen[i][k].lag_ms > lag)
                lag = c->seen[i][k].lag_ms;
    if (p->objectives.rpo_ms >= 0 && lag >= 0)
        say(c, lag <= p->objectives.rpo_ms ? LEVEL_OK : LEVEL_PROBLEM, "RPO", "the standby is %s behind now; objective %s", plan_duration(lag, a), plan_duration(p->objectives.rpo_ms, b));
    else if (p->objectives.rpo_ms >= 0)
        say(c, LEVEL_WARNING, "RPO", "objective %s, and how far the standby is behind is not known", plan_duration(p->objectives.rpo_ms, b));
    (void)run_each(measure, &m);
    if (p->objectives.rto_ms >= 0 && m.ms >= 0)
        say(c, m.ms <= p->objectives.rto_ms ? LEVEL_OK : LEVEL_PROBLEM, "RTO", "the last failover took %s; objective %s", plan_duration(m.ms, a), plan_duration(p->objectives.rto_ms, b));
    else if (p->objectives.rto_ms >= 0)
        say(c, LEVEL_WARNING, "RTO", "objective %s, never measured here", plan_duration(p->objectives.rto_ms, b));
    for (unsigned i = 0; i < p->systems.n; i++) {
        const struct plan_system *s = &p->systems.v[i];

        if (s->max_outage_ms >= 0 && plan_rto(p, s) > s->max_outage_ms)
            say(c, LEVEL_PROBLEM, "outage", "%s may be missed for %s, and its RTO is %s", s->h.name, plan_duration(s->max_outage_ms, a), plan_duration(plan_rto(p, s), b));
        if (!s->health.command)
            say(c, LEVEL_WARNING, "health", "%s has no health check: nothing says that it works", s->h.name);
        for (unsigned k = 0; k < s->depends.n; k++)
            if (plan_system(p, s->depends.v[k].h.name)->critical > s->critical)
                say(c, LEVEL_WARNING, "order", "%s (critical %lld) waits for %s (critical %lld)", s->h.name, (long long)s->critical, s->depends.v[k].h.name, (long long)plan_system(p, s->depends.v[k].h.name)->critical);
    }
}

/* ---- what must be equal, and what must be there ---- */

static void each_word(FILE *m, const struct plan_words *w, const char *kind, const char *command)
{
    for (unsigned i = 0; i < w->n; i++) {
        fprintf(m, "w=");
        env_quote(m, w->v[i].h.name);
        fprintf(m, "; v=$(%s); printf '%s %%s\\t%%s\\n' \"$w\" \"${v:-none}\"\n", command, kind);
    }
}

/* A command's first word must be a program over there, and all of it a shell's. */
static void hook(FILE *m, const char *name, const char *command)
{
    const char *from = command + strspn(command, " \t\n(");
    size_t n = strcspn(from, " \t\n;&|()<>");
    char *word = strndup(from, n);

    if (!word)
        return;
    fputs("w=", m);
    env_quote(m, name);
    fputs("; c=", m);
    env_quote(m, command);
    fputs("; f=", m);
    env_quote(m, word);
    /* A word that the shell must expand first, or an assignment, says nothing about a program. */
    fputs("; case $f in *'$'*|*=*|'') f=true;; esac; v=$(command -v -- \"$f\" >/dev/null 2>&1 || echo \"$f is not there\"; printf '%s\\n' \"$c\" | sh -n 2>&1 | head -n 1); printf 'hook %s\\t%s\\n' \"$w\" \"${v:-ok}\"\n", m);
    free(word);
}

/* Every command of the plan that may run at a site: fn gets what it is called, and which site it is about. What fences the others is run here. */
typedef void hook_fn(void *arg, const char *name, const struct plan_command *c, const struct plan_site *other);
static void each_hook(const struct plan *p, const struct plan_site *s, hook_fn *fn, void *arg)
{
    static const char *const words[] = { "start", "stop", "health" };
    char name[160];

    for (unsigned i = 0; i < p->systems.n; i++) {
        const struct plan_system *y = &p->systems.v[i];
        const struct plan_command *const c[] = { &y->start, &y->stop, &y->health };

        for (unsigned k = 0; k < 3; k++) {
            snprintf(name, sizeof name, "%s/%s", words[k], y->h.name);
            if (c[k]->command)
                fn(arg, name, c[k], NULL);
        }
    }
    for (unsigned i = 0; i < p->traffic.n; i++) {
        snprintf(name, sizeof name, "traffic/%s", p->traffic.v[i].h.name);
        fn(arg, name, &p->traffic.v[i], NULL);
    }
    for (unsigned i = 0; i < p->sites.n; i++)
        for (unsigned k = 0; &p->sites.v[i] != s && k < p->sites.v[i].fence.n; k++) {
            snprintf(name, sizeof name, "fence/%s/%s", p->sites.v[i].h.name, p->sites.v[i].fence.v[k].h.name);
            fn(arg, name, &p->sites.v[i].fence.v[k], &p->sites.v[i]);
        }
}

static void add_hook(void *arg, const char *name, const struct plan_command *c, const struct plan_site *other)
{
    (void)other;
    hook(arg, name, c->command);
    if (c->check)
        hook(arg, name, c->check);
}

static char *script(const struct plan *p, const struct plan_site *s)
{
    char *out = NULL;
    size_t len = 0;
    FILE *m = open_memstream(&out, &len);

    if (!m)
        return NULL;
    each_word(m, &p->compare.packages, "package", "dpkg-query -W -f='${Version}' \"$w\" 2>/dev/null");
    each_word(m, &p->compare.units, "unit", "systemctl cat \"$w\" 2>/dev/null | cksum | grep -v '^4294967295 0'");
    each_word(m, &p->compare.files, "file", "sha256sum -- \"$w\" 2>/dev/null | cut -c1-64");
    each_word(m, &p->compare.users, "user", "id \"$w\" 2>/dev/null | tr -d '\\t'");
    each_word(m, &p->compare.ports, "port", "n=${w#*/}; case $w in udp/*) t=udp s=07;; *) t=tcp s=0A;; esac; h=$(printf ':%04X ' \"$n\"); grep -qi \"^ *[0-9]*: [0-9A-F]*$h[^ ]* $s \" /proc/net/$t /proc/net/${t}6 2>/dev/null && echo taken || echo free");
    each_hook(p, s, add_hook, m);
    return fclose(m) ? NULL : out;
}

static void gather(struct checking *c, unsigned i)
{
    const struct plan_site *s = &c->p->sites.v[i];
    char *text = script(c->p, s), said[300] = "";
    struct proc p;
    struct proc_end end = { .exit = 1 };
    struct err why = { 0 };

    if (text && site_command(&c->view, s, NULL, text, NULL, SCRIPT_MS, "check", &p, &why) == 0) {
        proc_wait(&p, &end, &out_interrupted);
        c->facts[i].text = proc_data(&p, OUTPUT_MAX);
        proc_tail(&p, said, sizeof said);
        proc_release(&p);
    }
    c->facts[i].reached = end.exit == 0 && c->facts[i].text;
    if (!c->facts[i].reached)
        say(c, LEVEL_PROBLEM, "site", "%s: what is there could not be asked: %s", s->h.name, *said ? said : why.msg);
    free(text);
}

/* The value of a key at a site; "" where it does not say. */
static void fact(const struct facts *f, const char *key, size_t len, char *buf, size_t cap)
{
    buf[0] = '\0';
    for (const char *s = f->text; f->reached && s && *s; s += strcspn(s, "\n") + (s[strcspn(s, "\n")] == '\n'))
        if (strncmp(s, key, len) == 0 && s[len] == '\t') {
            snprintf(buf, cap, "%.*s", (int)strcspn(s + len + 1, "\n"), s + len + 1);
            return;
        }
}

static void compare_key(struct checking *c, const char *key, size_t len)
{
    char a[300], b[300];
    const char *first = c->p->sites.v[0].h.name;

    fact(&c->facts[0], key, len, a, sizeof a);
    for (unsigned i = 1; i < c->p->sites.n; i++) {
        fact(&c->facts[i], key, len, b, sizeof b);
        if (*a && *b && strcmp(a, b) != 0)
            say(c, LEVEL_WARNING, "drift", "%.*s: %.100s at %s, %.100s at %s", (int)len, key, a, first, b, c->p->sites.v[i].h.name);
        else if (*a && *b && strcmp(a, "none") == 0)
            say(c, LEVEL_WARNING, "drift", "%.*s: is at no site", (int)len, key);
    }
}

static void port_key(struct checking *c, const char *key, size_t len)
{
    char v[64];

    for (unsigned i = 0; i < c->p->sites.n; i++) {
        bool primary = c->seen[i][0].reached && strcmp(c->seen[i][0].role, "primary") == 0;

        fact(&c->facts[i], key, len, v, sizeof v);
        if (*v && strcmp(v, primary ? "free" : "taken") == 0)
            say(c, LEVEL_WARNING, "drift", "%.*s: %s at %s", (int)len, key, primary ? "nobody listens" : "is taken already", c->p->sites.v[i].h.name);
    }
}

static void hooks_of(struct checking *c, unsigned i)
{
    for (const char *s = c->facts[i].text; c->facts[i].reached && s && *s; s += strcspn(s, "\n") + (s[strcspn(s, "\n")] == '\n')) {
        size_t len = strcspn(s, "\t\n");

        if (strncmp(s, "hook ", 5) == 0 && s[len] == '\t' && strncmp(s + len + 1, "ok\n", 3) != 0)
            say(c, LEVEL_PROBLEM, "hook", "%.*s at %s: %.*s", (int)len - 5, s + 5, c->p->sites.v[i].h.name, (int)strcspn(s + len + 1, "\n"), s + len + 1);
    }
}

/* ---- trials ---- */

struct trial { struct checking *c; const struct plan_site *at; unsigned n; };

/* The command itself is not run. One that hangs is ended at its time-out, with what it began. */
static void try_hook(void *arg, const char *name, const struct plan_command *c, const struct plan_site *other)
{
    struct trial *t = arg;
    char step[200], said[400] = "";
    struct proc p;
    struct proc_end end = { .exit = 1 };
    struct err why = { 0 };

    if (!c->check || out_interrupted)
        return;
    t->n++;
    snprintf(step, sizeof step, "check/%s", name);
    if (site_command(&t->c->view, t->at, other, c->check, NULL, c->timeout_ms, step, &p, &why)) {
        say(t->c, LEVEL_PROBLEM, "trial", "%s at %s: %s", name, t->at->h.name, why.msg);
        return;
    }
    proc_wait(&p, &end, &out_interrupted);
    proc_tail(&p, said, sizeof said);
    proc_release(&p);
    if (end.exit < 0)
        say(t->c, LEVEL_PROBLEM, "trial", "%s at %s: its check took longer than %lld ms, and was ended%s%s", name, t->at->h.name, (long long)c->timeout_ms, *said ? "; it said last: " : "", said);
    else if (end.exit)
        say(t->c, LEVEL_PROBLEM, "trial", "%s at %s: its check: exit status %d%s%s", name, t->at->h.name, end.exit, *said ? ": " : "", said);
}

static void trials(struct checking *c)
{
    struct trial t = { .c = c };
    const unsigned before = c->problems;

    for (unsigned i = 0; i < c->p->sites.n && !c->o->quick; i++) {
        t.at = &c->p->sites.v[i];
        if (c->facts[i].reached)
            each_hook(c->p, t.at, try_hook, &t);
    }
    if (t.n > 0 && c->problems == before)
        say(c, LEVEL_OK, "trial", "%u checks of commands succeeded", t.n);
}

static void compare(struct checking *c)
{
    unsigned before = c->warnings + c->problems;

    for (unsigned i = 0; i < c->p->sites.n; i++)
        gather(c, i);
    for (const char *s = c->facts[0].text; c->facts[0].reached && s && *s; s += strcspn(s, "\n") + (s[strcspn(s, "\n")] == '\n')) {
        size_t len = strcspn(s, "\t\n");

        if (strncmp(s, "port ", 5) == 0)
            port_key(c, s, len);
        else if (strncmp(s, "hook ", 5) != 0)
            compare_key(c, s, len);
    }
    for (unsigned i = 0; i < c->p->sites.n; i++)
        hooks_of(c, i);
    if (c->warnings + c->problems == before)
        say(c, LEVEL_OK, "drift", "hooks are there; nothing that is compared differs");
    for (unsigned i = 0; i < c->p->sites.n; i++)
        if (c->p->sites.v[i].fence.n == 0)
            say(c, LEVEL_WARNING, "fence", "nothing fences %s: a failover from it stops, and a person must say --unfenced", c->p->sites.v[i].h.name);
}

/* ---- people ---- */

static void people(struct checking *c)
{
    const struct plan *p = c->p;
    unsigned n = 0;

    if (!plan_decides(p))
        say(c, LEVEL_WARNING, "people", "the plan does not say who decides (decides: true)");
    if (p->escalation.n == 0)
        say(c, LEVEL_WARNING, "people", "the plan has no escalation: nobody is told");
    for (unsigned i = 0; i < p->people.n && !c->o->quick; i++)
        for (unsigned k = 0; k < p->people.v[i].contacts.n; k++) {
            const struct plan_contact *t = &p->people.v[i].contacts.v[k];
            const struct letter l = { .id = "check", .event = "check", .subject = "spare dr plan check: a trial", .text = "A trial of this channel by spare dr plan check.\n", .person = p->people.v[i].h.name,
                                      .plan = p->h.name, .run = "", .dry = true };
            struct err why = { 0 };

            n++;
            if (channel_send(plan_channel(p, t->channel), t->address, &l, NULL, &why))
                say(c, LEVEL_PROBLEM, "contact", "%s by %s: %s", p->people.v[i].h.name, t->channel, why.msg);
        }
    if (n > 0)
        say(c, LEVEL_OK, "contact", "%u contacts tried", n);
}

/* ---- the runbook ---- */

/* At each site, from the plan as its own store has it: there for the day this one is gone. */
static void runbooks(struct checking *c, const struct plan_source *src)
{
    char dir[PATH_MAX], own[SEAL_HASH_TEXT];

    seal_hash(src->text, src->len, own);
    for (unsigned i = 0; i < c->p->sites.n; i++) {
        const struct plan_site *s = &c->p->sites.v[i];
        const char *argv[] = { "dr", "plan", "runbook", s->stores.v[0].path, "--keep", NULL };
        struct err why = { 0 };
        json_t *o = NULL;

        if (!c->seen[i][0].reached)
            continue;                    /* (a problem already) */
        if (site_spare(&c->view, s, argv, s->contact_ms + 5000, &o, &why) || !o)
            say(c, LEVEL_PROBLEM, "runbook", "%s: not kept there: %s", s->h.name, why.msg);
        else if (strcmp(item_text(o, "plan_sha256"), own) != 0)
            say(c, LEVEL_WARNING, "runbook", "%s: its store has another plan (SHA-256 %.16s) than this one (%.16s): a change has not come there yet", s->h.name, item_text(o, "plan_sha256"), own);
        else
            say(c, LEVEL_OK, "runbook", "%s: kept in %s", s->h.name, item_text(o, "kept_in"));
        json_decref(o);
    }
    /* A plan that is a file of no store is nowhere else. */
    if (!src->store) {
        struct err why = { 0 };

        if (runbook_keep(c->p, src, dir, &why))
            say(c, LEVEL_PROBLEM, "runbook", "%s", why.msg);
    }
}

/* ---- records of before ---- */

static void say_record(void *arg, const char *text)
{
    say(arg, LEVEL_PROBLEM, "record", "%s", text);
}

static void records(struct checking *c)
{
    for (unsigned i = 0; i < c->p->sites.n; i++) {
        struct err why = { 0 };
        int rc = &c->p->sites.v[i] != c->view.here && c->seen[i][0].reached ? witness_check(&c->view, &c->p->sites.v[i], say_record, c, &why) : 0;

        if (rc)
            say(c, rc == ERR_DAMAGE ? LEVEL_PROBLEM : LEVEL_WARNING, "record", "%s: what it countersigned is not known: %s", c->p->sites.v[i].h.name, why.msg);
    }
}

int dr_plan_check(const struct dr_options *o)
{
    struct checking *c = calloc(1, sizeof *c);
    struct plan_source src = { 0 };
    struct plan *p = NULL;
    struct err err = { 0 }, none = { 0 };
    int rc = c ? plan_load(o->plan, &src, &p, &err) : ERR_NOMEM, code;

    if (rc == 0) {
        c->o = o;
        c->p = p;
        if (run_site(p, o, &c->view.here, &none))
            c->view.here = plan_site(p, p->primary);
        c->view = (struct site_view){ .plan = p, .here = c->view.here, .stop = &out_interrupted };
        if (src.store)
            plan_note(src.store);
        say(c, LEVEL_OK, "plan", "%s", src.from);
        for (unsigned i = 0; i < p->sites.n; i++)
            for (unsigned k = 0; k < p->sites.v[i].stores.n && k < 16; k++)
                look_at_store(c, i, k);
        versions(c);
        objectives(c);
        compare(c);
        trials(c);
        people(c);
        records(c);
        runbooks(c, &src);
    }
    code = rc ? out_error(&err, rc) : c->problems ? EXIT_FAILED : c->warnings ? EXIT_WARNINGS : EXIT_OK;
    for (unsigned i = 0; c && i < PLAN_MAX_SITES; i++)
        free(c->facts[i].text);
    free(c);
    plan_free(p);
    plan_source_release(&src);
    return code;
}
