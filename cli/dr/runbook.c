/*
 * runbook.c: `dr plan runbook`: the plan on paper, for the day `dr failover` is gone or nobody trusts it. Nothing in it needs this file, the plan or the run records:
 * each step is a command as it is typed. In the text form a line that begins with "    $ " begins a command, one with "    > " goes on with it.
 */
#include "cli/dr/dr.h"
#include "cli/dr/env.h"
#include "cli/dr/seal.h"
#include "cli/dr/site.h"
#include "fs/mount.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct book { FILE *f; bool html; const struct plan *p; const char *from, *sha256; unsigned step; };

/* ---- what a page is made of ---- */

static void put(struct book *b, const char *s)
{
    for (; *s; s++) {
        const char *as = b->html ? *s == '<' ? "&lt;" : *s == '>' ? "&gt;" : *s == '&' ? "&amp;" : *s == '"' ? "&quot;" : NULL : NULL;

        if (as)
            fputs(as, b->f);
        else
            putc(*s, b->f);
    }
}

static void heading(struct book *b, int level, const char *text)
{
    if (b->html)
        fprintf(b->f, "<h%d>", level);
    else
        fprintf(b->f, "\n%.*s ", level, "####");
    put(b, text);
    if (b->html)
        fprintf(b->f, "</h%d>\n", level);
    else
        fputs("\n\n", b->f);
    b->step = 0;
}

static void line(struct book *b, const char *tag, const char *lead, const char *text)
{
    if (b->html)
        fprintf(b->f, "<%s>", tag);
    else
        fputs(lead, b->f);
    for (const char *s = text; *s;) {
        size_t n = strcspn(s, "\n");
        char *part = strndup(s, n);

        if (part)
            put(b, part);
        free(part);
        s += n;
        if (*s == '\n' && *++s)
            fputs(b->html ? "<br>" : "\n  ", b->f);
    }
    if (b->html)
        fprintf(b->f, "</%.*s>\n", (int)strcspn(tag, " "), tag);
    else
        putc('\n', b->f);
}

static void para(struct book *b, const char *text)
{
    line(b, "p", "", text);
}

static void item(struct book *b, const char *text)
{
    line(b, "p class=item", "- ", text);
}

static void step(struct book *b, const char *text)
{
    char lead[24];

    b->step++;
    if (b->html) {
        fprintf(b->f, "<p class=step><b>%u.</b> <span class=box></span> ", b->step);
        put(b, text);
        fputs("</p>\n", b->f);
        return;
    }
    snprintf(lead, sizeof lead, "%u. [ ] ", b->step);
    line(b, "p", lead, text);
}

/* ${text} is released. */
static void command(struct book *b, char *text)
{
    const char *s = text;

    if (!text)
        return;
    if (b->html)
        fputs("<pre>", b->f);
    for (bool first = true; *s; first = false) {
        size_t n = strcspn(s, "\n");
        char *part = strndup(s, n);

        fputs(b->html ? first ? "$ " : "&gt; " : first ? "    $ " : "    > ", b->f);
        if (part)
            put(b, part);
        free(part);
        putc('\n', b->f);
        s += n + (s[n] == '\n');
    }
    if (b->html)
        fputs("</pre>\n", b->f);
    free(text);
}

static char *text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static char *text(const char *fmt, ...)
{
    char *out = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&out, fmt, ap) < 0)
        out = NULL;
    va_end(ap);
    return out;
}

/* ${words} printed by printf with "%s" are quoted before. */
static char *spare_command(const struct plan_site *s, const char *what, const char *a, const char *b, const char *options)
{
    char *qa = env_quoted(a), *qb = b ? env_quoted(b) : NULL, *qo = options ? env_quoted(options) : NULL;
    char *out = text("%s %s %s%s%s%s%s", s->spare ? s->spare : "spare", what, qa ? qa : "", qb ? " " : "", qb ? qb : "", qo ? " -o " : "", qo ? qo : "");

    free(qa);
    free(qb);
    free(qo);
    return out;
}

static void say_step(struct book *b, char *t)
{
    if (t)
        step(b, t);
    free(t);
}

static void say(struct book *b, char *t)
{
    if (t)
        para(b, t);
    free(t);
}

static void say_item(struct book *b, char *t)
{
    if (t)
        item(b, t);
    free(t);
}

/* ---- people ---- */

static void person(struct book *b, const struct plan_person *w)
{
    char *t = NULL;
    size_t len = 0;
    FILE *m = open_memstream(&t, &len);

    if (!m)
        return;
    fprintf(m, "%s, %s%s", w->title ? w->title : w->h.name, w->role, w->decides ? ", decides" : "");
    for (unsigned i = 0; i < w->contacts.n; i++)
        fprintf(m, "%s %s: %s", i ? ";" : ".", w->contacts.v[i].channel, w->contacts.v[i].address);
    if (fclose(m) == 0)
        item(b, t);
    free(t);
}

static void people(struct book *b)
{
    const struct plan *p = b->p;
    char wait[32];
    bool any = false;

    heading(b, 2, "Who decides");
    for (unsigned i = 0; i < p->people.n; i++)
        if (p->people.v[i].decides) {
            person(b, &p->people.v[i]);
            any = true;
        }
    if (!any)
        para(b, "The plan names nobody. Whoever reads this decides, and notes it here: ______________________");
    heading(b, 2, "Whom to call, in this order");
    for (unsigned i = 0; i < p->escalation.n; i++) {
        say(b, text("%u. These; when nobody has answered within %s, the next:", i + 1, plan_duration(p->escalation.v[i].wait_ms, wait)));
        for (unsigned k = 0; k < p->escalation.v[i].who.n; k++)
            person(b, plan_person(p, p->escalation.v[i].who.v[k].h.name));
    }
    if (p->escalation.n == 0)
        for (unsigned i = 0; i < p->people.n; i++)
            person(b, &p->people.v[i]);
    if (p->people.n == 0)
        para(b, "The plan names nobody.");
}

/* ---- steps ---- */

static void add_export(void *arg, const char *name, const char *value)
{
    FILE *m = arg;

    fprintf(m, " %s=", name);
    env_quote(m, value);
}

static void exports(struct book *b, const struct plan_site *to, const struct plan_site *from)
{
    char *t = NULL;
    size_t len = 0;
    FILE *m = open_memstream(&t, &len);

    if (!m)
        return;
    fputs("export", m);
    env_each(b->p, to, from, add_export, m);
    if (fclose(m) == 0)
        command(b, t);
    else
        free(t);
}

static void manual_steps(struct book *b, const struct plan_system *s, int64_t when)
{
    for (unsigned i = 0; i < s->manual.n; i++)
        if (s->manual.v[i].when == when)
            say_step(b, text("%s, by hand%s%s: %s", s->h.name, s->manual.v[i].who ? ", by " : "", s->manual.v[i].who ? s->manual.v[i].who : "", s->manual.v[i].text));
}

/* A command of the plan, in a shell of its own: what it sets, or ends, is not the operator's; it may end in a comment. */
static char *shell(const char *command)
{
    return text("( %s\n)", command);
}

static char *health_loop(const struct plan_command *h)
{
    int64_t ms = h->interval_ms < 100 ? 100 : h->interval_ms, tries = h->timeout_ms / ms + 1;

    return text("for i in $(seq %lld); do\n  ok=1; for k in $(seq %lld); do ( %s\n) || { ok=0; break; }; done; [ $ok = 1 ] && break; sleep %lld.%03lld\ndone; [ $ok = 1 ] && echo healthy || echo NOT HEALTHY",
                (long long)tries, (long long)h->stable, h->command, (long long)(ms / 1000), (long long)(ms % 1000));
}

static void start_systems(struct book *b)
{
    const struct plan *p = b->p;
    char a[32];

    for (unsigned w = 0; w < plan_waves(p); w++)
        for (int64_t c = 1; c <= 9; c++)
            for (unsigned i = 0; i < p->systems.n; i++) {
                const struct plan_system *s = &p->systems.v[i];

                if (s->wave != w || s->critical != c)
                    continue;
                manual_steps(b, s, MANUAL_BEFORE);
                if (s->start.command) {
                    say_step(b, text("Start %s%s%s (critical %lld; it may take %s).", s->h.name, s->title ? ", " : "", s->title ? s->title : "", (long long)s->critical,
                                     plan_duration(s->start.timeout_ms, a)));
                    command(b, shell(s->start.command));
                }
                if (s->health.command) {
                    say_step(b, text("%s must be healthy before anything goes on; it may take %s. Do not go on when it says NOT HEALTHY.", s->h.name, plan_duration(s->health.timeout_ms, a)));
                    command(b, health_loop(&s->health));
                }
                manual_steps(b, s, MANUAL_AFTER);
            }
}

static void stop_systems(struct book *b)
{
    const struct plan *p = b->p;

    for (unsigned w = plan_waves(p); w-- > 0;)
        for (unsigned i = 0; i < p->systems.n; i++)
            if (p->systems.v[i].wave == w && p->systems.v[i].stop.command) {
                say_step(b, text("Stop %s.", p->systems.v[i].h.name));
                command(b, shell(p->systems.v[i].stop.command));
            }
}

static void traffic(struct book *b)
{
    for (unsigned i = 0; i < b->p->traffic.n; i++) {
        say_step(b, text("Move traffic: %s.", b->p->traffic.v[i].h.name));
        command(b, shell(b->p->traffic.v[i].command));
    }
}

static void mount_step(struct book *b, const struct plan_site *to, const struct plan_store *s)
{
    char *q = env_quoted(s->mount), *m = spare_command(to, "mount", s->path, s->mount, s->options);

    say_step(b, text("Mount it at %s, unless it is mounted.", s->mount));
    if (q && m)
        command(b, text("mkdir -p %s; findmnt -rn -M %s || %s", q, q, m));
    free(q);
    free(m);
}

static void verify(struct book *b, const struct plan_site *at)
{
    say_step(b, text("Verify: role primary, and mounted; each system's health once more; and what a user does, done once by hand."));
    for (unsigned i = 0; i < at->stores.n; i++)
        command(b, spare_command(at, "status", at->stores.v[i].path, NULL, NULL));
    for (unsigned i = 0; i < b->p->systems.n; i++)
        if (b->p->systems.v[i].health.command)
            command(b, text("( %s\n) && echo %s: healthy || echo %s: NOT HEALTHY", b->p->systems.v[i].health.command, b->p->systems.v[i].h.name, b->p->systems.v[i].h.name));
}

/* ---- failover ---- */

static void fence(struct book *b, const struct plan_site *from)
{
    if (from->fence.n == 0) {
        say_step(b, text("Make sure that %s is off, or has no network: switch it off by hand. The plan has no command for it. As long as it may write, two sites do.", from->h.name));
        return;
    }
    say_step(b, text("Make sure that %s writes no more. One of these must succeed; if none does, have it switched off by hand before you go on.", from->h.name));
    for (unsigned i = 0; i < from->fence.n; i++)
        command(b, text("( %s\n) && echo %s: confirmed || echo %s: NOT CONFIRMED", from->fence.v[i].command, from->fence.v[i].h.name, from->fence.v[i].h.name));
}

static void failover(struct book *b, const struct plan_site *from, const struct plan_site *to)
{
    char a[32], c[32];

    say(b, text("All of these are typed on %s, as the user the stores belong to (root, where systems are started). Objectives: RPO %s, RTO %s.", to->host ? to->host : "the machine of the stores",
                plan_duration(b->p->objectives.rpo_ms, a), plan_duration(b->p->objectives.rto_ms, c)));
    say_step(b, text("Note the time: ______  and who decided: ______________________"));
    exports(b, to, from);
    say_step(b, text("See what there is: role standby, and up to when it has everything (history). What %s wrote later is lost to you for now; note how much: ______", from->h.name));
    for (unsigned i = 0; i < to->stores.n; i++)
        command(b, spare_command(to, "status", to->stores.v[i].path, NULL, NULL));
    fence(b, from);
    for (unsigned i = 0; i < to->stores.n; i++) {
        say_step(b, text("Make the store %s the primary.", to->stores.v[i].h.name));
        command(b, spare_command(to, "promote --unfenced", to->stores.v[i].path, NULL, NULL));
        mount_step(b, to, &to->stores.v[i]);
    }
    start_systems(b);
    traffic(b);
    verify(b, to);
    say_step(b, text("Tell the people above: it runs at %s; since when; what may be lost; who decides whether it stays.", to->h.name));
}

/* ---- the way back ---- */

/* `spare sync` of a store to the one of that name at the other site, as the plan reaches it. */
static char *sync_command(const struct plan_site *at, const struct plan_store *st, const struct plan_site *other)
{
    char *t = site_target(other, plan_store(other, st->h.name)), *out = t ? spare_command(at, "sync", st->path, t, NULL) : NULL;
    const char *const ways[] = { "--ssh", other->host ? other->ssh : NULL, "--remote-spare", other->host ? other->spare : NULL };

    for (unsigned i = 0; i < 4 && out; i += 2) {
        char *q = ways[i + 1] ? env_quoted(ways[i + 1]) : NULL, *more = q ? text("%s %s %s", out, ways[i], q) : NULL;

        if (ways[i + 1]) {
            free(out);
            out = more;
        }
        free(q);
    }
    free(t);
    return out;
}

static void way_back(struct book *b, const struct plan_site *from, const struct plan_site *to)
{
    say(b, text("%s is repaired. Before it has a network: nothing of it may start by itself.", from->h.name));
    say_step(b, text("On %s: its store gives up the role of the primary.", from->h.name));
    for (unsigned i = 0; i < from->stores.n; i++)
        command(b, spare_command(from, "demote", from->stores.v[i].path, NULL, NULL));
    step(b, "On the site that took over: ship to it. It goes back to where both parted; what only it had is kept there, for reading, as branches/NAME in its store.");
    exports(b, to, from);
    for (unsigned i = 0; i < to->stores.n; i++) {
        char *c = sync_command(to, &to->stores.v[i], from);

        /* The first one may end with its going back. */
        if (c)
            command(b, text("%s || %s", c, c));
        free(c);
    }
    say_step(b, text("At a quiet hour, on %s: stop what writes.", to->h.name));
    stop_systems(b);
    step(b, "Nothing writes any more: ship the rest, and let go of the store.");
    for (unsigned i = 0; i < to->stores.n; i++) {
        char *q = env_quoted(to->stores.v[i].mount);

        command(b, sync_command(to, &to->stores.v[i], from));
        if (q)
            command(b, text("%s umount %s", to->spare ? to->spare : "spare", q));
        command(b, sync_command(to, &to->stores.v[i], from));
        command(b, spare_command(to, "demote", to->stores.v[i].path, NULL, NULL));
        free(q);
    }
    say_step(b, text("On %s: it becomes the primary, and is mounted.", from->h.name));
    exports(b, from, to);
    for (unsigned i = 0; i < from->stores.n; i++) {
        command(b, spare_command(from, "promote --unfenced", from->stores.v[i].path, NULL, NULL));
        mount_step(b, from, &from->stores.v[i]);
    }
    start_systems(b);
    traffic(b);
    verify(b, from);
    say_step(b, text("On %s: ship to %s as before.", from->h.name, to->h.name));
    for (unsigned i = 0; i < from->stores.n; i++)
        command(b, sync_command(from, &from->stores.v[i], to));
}

/* ---- the whole ---- */

static const char style[] =
    "body{font:11pt/1.4 serif;max-width:48em;margin:2em auto;padding:0 1em;color:#000;background:#fff}"
    "h1{font-size:20pt}h2{font-size:15pt;border-bottom:1px solid #000}pre{font:9.5pt/1.35 monospace;background:#eee;padding:.5em;white-space:pre-wrap;overflow-wrap:anywhere}"
    ".item{margin:.2em 0 .2em 1.5em}.step{margin:1em 0 .3em}.box{display:inline-block;width:.8em;height:.8em;border:1px solid #000;margin-right:.3em}"
    "@page{size:A4;margin:18mm}@media print{body{margin:0;max-width:none}h2{break-after:avoid}h2.new{break-before:page}pre,.step{break-inside:avoid}pre{background:none;border:1px solid #999}}";

static void title(struct book *b)
{
    const struct plan *p = b->p;

    if (b->html) {
        fputs("<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8><title>", b->f);
        put(b, p->h.name);
        fprintf(b->f, ": recovery</title><style>%s</style></head><body>\n<h1>", style);
        put(b, p->title ? p->title : p->h.name);
        fputs(": how to recover it</h1>\n", b->f);
    } else {
        fprintf(b->f, "# %s: how to recover it\n\n", p->title ? p->title : p->h.name);
    }
    /* No date: the same plan makes the same pages, and they are written when they differ. */
    say(b, text("Plan %s, from %s, SHA-256 %.16s. Paper gets old: print it anew when the plan changes. Printed: ______________", p->h.name, b->from, b->sha256));
    for (unsigned i = 0; i < p->sites.n; i++) {
        const struct plan_site *s = &p->sites.v[i];

        say_item(b, text("Site %s%s%s%s, host %s%s", s->h.name, s->title ? " (" : "", s->title ? s->title : "", s->title ? ")" : "", s->host ? s->host : "(this machine)",
                         strcmp(s->h.name, p->primary) == 0 ? "; where it runs on ordinary days" : ""));
        for (unsigned k = 0; k < s->stores.n; k++)
            say_item(b, text("  store %s: %s, mounted at %s", s->stores.v[k].h.name, s->stores.v[k].path, s->stores.v[k].mount));
    }
}

static void section(struct book *b, char *t)
{
    if (t)
        heading(b, 2, t);
    free(t);
}

static void whole(struct book *b)
{
    const struct plan *p = b->p;
    const struct plan_site *from = plan_site(p, p->primary);

    title(b);
    people(b);
    for (unsigned i = 0; i < p->sites.n; i++) {
        const struct plan_site *to = &p->sites.v[i];

        if (to == from)
            continue;
        section(b, text("Failover: %s is gone, %s takes over", from->h.name, to->h.name));
        failover(b, from, to);
        section(b, text("The way back: from %s to %s", to->h.name, from->h.name));
        way_back(b, from, to);
    }
    if (b->html)
        fputs("</body></html>\n", b->f);
}

/* The page, malloced. */
static int make_page(const struct plan *p, const struct plan_source *src, bool html, char **page, size_t *len, struct err *err)
{
    char sha256[SEAL_HASH_TEXT];
    struct book b = { .html = html, .p = p, .from = src->from, .sha256 = sha256 };

    seal_hash(src->text, src->len, sha256);
    b.f = open_memstream(page, len);
    if (!b.f)
        return err_set(err, ERR_NOMEM, "no memory");
    whole(&b);
    return fclose(b.f) ? err_set(err, ERR_NOMEM, "no memory") : 0;
}

static bool is_equal(const char *path, const char *page, size_t len)
{
    char *old = malloc(len + 1);
    FILE *f = old ? fopen(path, "re") : NULL;
    bool same = f && fread(old, 1, len + 1, f) == len && memcmp(old, page, len) == 0;

    if (f)
        fclose(f);
    free(old);
    return same;
}

/* Whole under its name, or as before. */
static int write_page(const char *dir, const char *name, const char *page, size_t len, struct err *err)
{
    char path[PATH_MAX + 128], tmp[PATH_MAX + 160];
    FILE *f;
    bool ok;

    snprintf(path, sizeof path, "%.*s/%.100s", PATH_MAX, dir, name);
    if (is_equal(path, page, len))
        return 0;
    snprintf(tmp, sizeof tmp, "%s.%d", path, (int)getpid());
    f = fopen(tmp, "we");
    if (!f)
        return err_from_errno(err, errno, "%s", tmp);
    ok = fwrite(page, 1, len, f) == len && fflush(f) == 0 && fsync(fileno(f)) == 0;
    if (fclose(f) || !ok || rename(tmp, path)) {
        int e = errno;

        (void)unlink(tmp);
        return err_from_errno(err, e, "%s", path);
    }
    return 0;
}

static int write_both(const struct plan *p, const struct plan_source *src, const char *dir, const char *name, struct err *err)
{
    char file[128], *page = NULL;
    size_t len = 0;
    int r = 0;

    for (int html = 0; r == 0 && html < 2; html++) {
        snprintf(file, sizeof file, "%.70s.%s", name, html ? "html" : "txt");
        r = make_page(p, src, html, &page, &len, err);
        if (r == 0)
            r = write_page(dir, file, page, len, err);
        free(page);
        page = NULL;
    }
    return r;
}

int runbook_keep(const struct plan *p, const struct plan_source *src, char dir[PATH_MAX], struct err *err)
{
    snprintf(dir, PATH_MAX, "%s/runbooks", dr_state_dir());
    for (char *c = dir + 1; (c = strchr(c, '/')); *c++ = '/') {
        *c = '\0';
        (void)mkdir(dir, 0755);
    }
    if (mkdir(dir, 0700) && errno != EEXIST)
        return err_from_errno(err, errno, "%s", dir);
    return write_both(p, src, dir, p->h.name, err);
}

/* In this machine's state; and beside the plan, where the store it protects is mounted here: so that they are at every standby as soon as they are here. */
static int keep_pages(const struct plan *p, const struct plan_source *src, struct err *err)
{
    struct fs_mounted *m = malloc(sizeof *m);
    char dir[PATH_MAX], beside[PATH_MAX + 8] = "", sha256[SEAL_HASH_TEXT];
    int r = m ? runbook_keep(p, src, dir, err) : ERR_NOMEM;

    if (r == 0 && src->store && fs_mounted_store(src->store, m) == 0) {
        snprintf(beside, sizeof beside, "%.*s/.spare", PATH_MAX - 1, m->dir);
        if (access(beside, W_OK) && errno == EROFS)
            beside[0] = '\0';            /* a standby that is mounted for reading: it gets what the primary has */
        else
            r = write_both(p, src, beside, "runbook", err);
    }
    free(m);
    if (r)
        return r;
    if (out_json) {
        json_t *j = json_object();

        seal_hash(src->text, src->len, sha256);
        json_object_set_new(j, "plan", json_string(p->h.name));
        json_object_set_new(j, "plan_sha256", json_string(sha256));
        json_object_set_new(j, "kept_in", json_string(dir));
        out_object(j);
        json_decref(j);
        return 0;
    }
    out_text("%s/%s.txt, .html\n", out_name(dir), p->h.name);
    if (*beside)
        out_text("%s/runbook.txt, .html\n", out_name(beside));
    return 0;
}

int dr_plan_runbook(const struct dr_options *o)
{
    struct plan_source src = { 0 };
    struct plan *p = NULL;
    struct err err = { 0 };
    char *page = NULL;
    size_t len = 0;
    int r = plan_load(o->plan, &src, &p, &err);

    if (r == 0 && o->keep) {
        r = keep_pages(p, &src, &err);
        goto out;
    }
    if (r == 0)
        r = make_page(p, &src, o->html, &page, &len, &err);
    if (r == 0 && out_json) {
        json_t *j = json_object();

        json_object_set_new(j, "plan", json_string(p->h.name));
        json_object_set_new(j, o->html ? "html" : "text", json_string(page));
        out_object(j);
        json_decref(j);
    } else if (r == 0) {
        r = out_bytes(page, len, &err);
    }
out:
    free(page);
    plan_free(p);
    plan_source_release(&src);
    return r ? out_error(&err, r) : EXIT_OK;
}
