/* plan_find.c: where a plan is. */
#include "cli/dr/plan_find.h"

#include "cli/locate.h"
#include "cli/out.h"
#include "cli/session.h"
#include "fs/mount.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STORES_MAX = 64 };
#define NOTES "stores"          /* in the state directory: a store a line */

const char *dr_state_dir(void)
{
    static char dir[PATH_MAX];
    const char *own = getenv("SPARE_DR_STATE"), *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

    if (own && *own)
        snprintf(dir, sizeof dir, "%s", own);
    else if (geteuid() == 0)
        snprintf(dir, sizeof dir, "/var/lib/spare/dr");
    else if (xdg && xdg[0] == '/')
        snprintf(dir, sizeof dir, "%s/spare/dr", xdg);
    else
        snprintf(dir, sizeof dir, "%s/.local/state/spare/dr", home ? home : "/tmp");
    return dir;
}

/* ---- one text ---- */

struct text { char *p; size_t len; bool too_long, no_memory; };

static void append(struct text *t, const void *p, size_t len)
{
    char *more;

    if (len > (size_t)TREE_MAX_BYTES + 1 - t->len) {     /* one more than a plan may have: the parser says so */
        t->too_long = true;
        return;
    }
    more = realloc(t->p, t->len + len + 1);
    t->no_memory |= !more;
    if (!more)
        return;
    memcpy(more + t->len, p, len);
    t->p = more;
    t->len += len;
    t->p[t->len] = '\0';
}

static int emit_text(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    struct text *t = arg;

    (void)o;
    if (strcmp(type, "data") == 0)
        append(t, bin, len);
    return out_interrupted ? ERR_INTR : t->too_long ? ERR_TOOLONG : t->no_memory ? ERR_NOMEM : 0;
}

static void clear(struct plan_source *s)
{
    free(s->text);
    free(s->from);
    free(s->store);
    memset(s, 0, sizeof *s);
}

void plan_source_release(struct plan_source *s)
{
    clear(s);
}

static int read_file(const char *path, struct plan_source *src, struct err *err)
{
    struct text t = { 0 };
    struct place p = { 0 };
    struct err none = { 0 };
    char buf[8192];
    FILE *f = fopen(path, "re");
    size_t n;
    int r = 0;

    if (!f)
        return err_from_errno(err, errno, "%s", path);
    while (!t.too_long && !t.no_memory && (n = fread(buf, 1, sizeof buf, f)) > 0)
        append(&t, buf, n);
    if (ferror(f))
        r = err_from_errno(err, errno, "%s", path);
    fclose(f);
    if (r == 0 && t.too_long)
        r = err_set(err, ERR_USAGE, "%s:1:1: expected a plan of at most %d KiB, found more", path, TREE_MAX_BYTES / 1024);
    src->text = t.p ? t.p : strdup("");
    src->len = t.len;
    src->from = strdup(path);
    if (locate_store(path, &p, &none) == 0)
        src->store = strdup(p.store);
    locate_release(&p);
    if (r == 0 && (!src->text || !src->from || t.no_memory))
        r = err_set(err, ERR_NOMEM, "%s: no memory", path);
    if (r)
        clear(src);
    return r;
}

/* The plan of a store. Nothing in it is changed, but for what a store not closed cleanly needs to be read at all. */
static int read_store(const char *store, struct plan_source *src, struct err *err)
{
    struct session *ses = NULL;
    struct text t = { 0 };
    json_t *req = session_request("cat");
    int r = session_open(store, SESSION_READ, &ses, err);

    session_put_bytes(req, "path", PLAN_PATH);
    if (r)
        json_decref(req);
    else
        r = session_call(ses, req, emit_text, &t, err);
    (void)session_close(ses, NULL);
    if (r == ERR_TOOLONG)
        r = err_set(err, ERR_USAGE, "%s/" PLAN_PATH ":1:1: expected a plan of at most %d KiB, found more", store, TREE_MAX_BYTES / 1024);
    if (r == 0) {
        src->text = t.p ? t.p : strdup("");
        src->len = t.len;
        src->store = strdup(store);
        if (asprintf(&src->from, "%s/" PLAN_PATH, store) < 0)
            src->from = NULL;
        r = src->text && src->store && src->from ? 0 : err_set(err, ERR_NOMEM, "%s: no memory", store);
        if (r)
            clear(src);
    } else {
        free(t.p);
    }
    return r;
}

/* ---- the stores of this machine ---- */

struct stores { unsigned n; char *v[STORES_MAX]; };

static void add(struct stores *s, const char *dir)
{
    char *real = realpath(dir, NULL);

    for (unsigned i = 0; real && i < s->n; i++)
        if (strcmp(s->v[i], real) == 0) {
            free(real);
            return;
        }
    if (real && s->n < STORES_MAX && locate_is_store(real))
        s->v[s->n++] = real;
    else
        free(real);
}

static int add_mounted(void *arg, const struct fs_mounted *m)
{
    struct place p = { 0 };
    struct err none = { 0 };

    if (!m->past && locate_store(m->dir, &p, &none) == 0)
        add(arg, p.store);
    locate_release(&p);
    return 0;
}

static void add_below(struct stores *s, const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    char path[PATH_MAX];

    while (d && (e = readdir(d)))
        if (e->d_name[0] != '.' && snprintf(path, sizeof path, "%s/%s", dir, e->d_name) < (int)sizeof path)
            add(s, path);
    if (d)
        closedir(d);
}

static void add_noted(struct stores *s)
{
    char path[PATH_MAX + 16], *line = NULL;
    size_t cap = 0;
    ssize_t n;
    FILE *f;

    snprintf(path, sizeof path, "%s/" NOTES, dr_state_dir());
    f = fopen(path, "re");
    while (f && (n = getline(&line, &cap, f)) > 0) {
        line[strcspn(line, "\n")] = '\0';
        add(s, line);
    }
    free(line);
    if (f)
        fclose(f);
}

static void all_stores(struct stores *s)
{
    struct place p = { 0 };
    struct err none = { 0 };
    const char *home = getenv("HOME");
    char path[PATH_MAX];

    if (locate_store(NULL, &p, &none) == 0)
        add(s, p.store);
    locate_release(&p);
    (void)fs_mounted_each(add_mounted, s);
    add_noted(s);
    add_below(s, "/var/lib/spare/stores");
    if (home && snprintf(path, sizeof path, "%s/.local/share/spare", home) < (int)sizeof path)
        add_below(s, path);
}

static void release(struct stores *s)
{
    for (unsigned i = 0; i < s->n; i++)
        free(s->v[i]);
}

void plan_note(const char *store)
{
    struct stores s = { 0 };
    char path[PATH_MAX + 16];
    bool known = false;
    FILE *f;

    add_noted(&s);
    for (unsigned i = 0; i < s.n; i++)
        known |= strcmp(s.v[i], store) == 0;
    release(&s);
    if (known || strchr(store, '\n'))
        return;
    snprintf(path, sizeof path, "%s", dr_state_dir());
    for (char *c = path + 1; (c = strchr(c, '/')); *c++ = '/') {
        *c = '\0';
        (void)mkdir(path, 0755);
    }
    (void)mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/" NOTES, dr_state_dir());
    f = fopen(path, "ae");
    if (f) {
        fprintf(f, "%s\n", store);
        fclose(f);
    }
}

int plan_each(int (*fn)(void *arg, const struct plan_source *src), void *arg, struct err *err)
{
    struct stores s = { 0 };
    int r = 0;

    all_stores(&s);
    for (unsigned i = 0; r == 0 && i < s.n; i++) {
        struct plan_source src = { 0 };
        struct err why = { 0 };
        int got = read_store(s.v[i], &src, &why);

        if (got == ERR_INTR)
            r = err_set(err, got, "interrupted");
        else if (got == 0)
            r = fn(arg, &src);
        else if (got != ERR_NOENT && got != ERR_NOTDIR && got != ERR_ISDIR && got != ERR_BOOTSTRAP)
            out_message("%s: not looked at for a plan: %s", s.v[i], why.msg);
        clear(&src);
    }
    release(&s);
    return r;
}

/* ---- finding one ---- */

/* The name a text gives itself, even if the rest of it is wrong. */
static char *name_of(const struct plan_source *src)
{
    struct problems p = { .file = src->from };
    struct arena a = { 0 };
    struct tree *t = NULL;
    char *name = NULL;

    (void)tree_read(src->text, src->len, &a, &t, &p);
    for (const struct tree *c = t && t->kind == TREE_MAP ? t->first : NULL; c; c = c->next)
        if (strcmp(c->key, "plan") == 0 && c->kind == TREE_SCALAR)
            name = strdup(c->text);
    problems_release(&p);
    arena_release(&a);
    return name ? name : strdup("");
}

struct looking { const char *name; struct plan_source found; char *found_name; char seen[400]; bool several; };

static int look_at(void *arg, const struct plan_source *src)
{
    struct looking *l = arg;
    char *name = name_of(src);
    const char *base = strrchr(src->store, '/');
    bool fits = name && (!l->name || strcmp(name, l->name) == 0 || strcmp(base ? base + 1 : src->store, l->name) == 0);

    if (name)
        snprintf(l->seen + strlen(l->seen), sizeof l->seen - strlen(l->seen), "%s%.60s in %.120s", l->seen[0] ? ", " : "", name, src->store);
    if (fits && l->found.text) {
        l->several |= strcmp(l->found_name, name) != 0;
    } else if (fits) {
        l->found = (struct plan_source){ strdup(src->text), src->len, strdup(src->from), strdup(src->store) };
        l->found_name = name;
        return l->found.text && l->found.from && l->found.store ? 0 : ERR_NOMEM;
    }
    free(name);
    return 0;
}

int plan_find(const char *arg, struct plan_source *src, struct err *err)
{
    struct looking l = { .name = arg };
    struct place p = { 0 };
    struct stat st;
    int r;

    memset(src, 0, sizeof *src);
    if (arg && stat(arg, &st) == 0 && S_ISREG(st.st_mode))
        return read_file(arg, src, err);
    if (arg && stat(arg, &st) == 0 && S_ISDIR(st.st_mode)) {
        r = locate_store(arg, &p, err);
        if (r == 0)
            r = read_store(p.store, src, err);
        if (r == ERR_NOENT) {
            char why[300];

            snprintf(why, sizeof why, "%.299s", err->msg);
            err_set(err, r, "%s: expected a plan at " PLAN_PATH " in this store, found none (%s)", p.store, why);
        }
        locate_release(&p);
        return r;
    }
    if (arg && strchr(arg, '/'))
        return err_from_errno(err, ENOENT, "%s", arg);
    r = plan_each(look_at, &l, err);
    free(l.found_name);
    if (r == 0 && l.several)
        r = err_set(err, ERR_USAGE, "expected the name of a plan, found several: %s", l.seen);
    if (r == 0 && !l.found.text)
        r = l.seen[0] ? err_set(err, ERR_NOENT, "%s: expected the name of a plan, found %s", arg, l.seen)
                      : err_set(err, ERR_NOENT, "expected a plan at " PLAN_PATH " in a store of this machine, found none; name a file, or a store");
    if (r)
        clear(&l.found);
    else
        *src = l.found;
    return r;
}

int plan_load(const char *arg, struct plan_source *src, struct plan **plan, struct err *err)
{
    struct problems p = { 0 };
    int r = plan_find(arg, src, err);

    if (r)
        return r;
    p.file = src->from;
    r = plan_parse(src->text, src->len, plan, &p, err);
    for (unsigned i = 0; i < p.n; i++)
        out_message("%s", p.text[i]);
    if (r == ERR_USAGE && p.n > 0)
        err_set(err, r, "%s: %u fault%s in the plan", src->from, p.n, p.n == 1 ? "" : "s");
    problems_release(&p);
    if (r)
        clear(src);
    return r;
}
