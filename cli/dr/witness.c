#include "cli/dr/witness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RUNS_MAX = 200, NOTE_MAX = 1 << 20, LOCAL_MS = 30000, MORE_MS = 5000 };

/* Whose records: those of a site, by a plan. */
struct whose { const char *plan, *site; };

/* What is signed. */
static void witness_text(char buf[512], const struct whose *w, const char *run, uint64_t seq, const char *hash)
{
    snprintf(buf, 512, "%.70s %.70s %.80s %llu %.64s", w->plan, w->site, run, (unsigned long long)seq, hash);
}

/* ---- what was shown: at the other site ---- */

struct shown { uint64_t seq; char hash[SEAL_HASH_TEXT], key[SEAL_KEY_TEXT]; };

/* "SEQ HASH KEY", of so many bytes. */
static bool parse_shown(const char *line, size_t len, struct shown *s)
{
    char text[256];
    unsigned long long seq;
    int end = -1;

    if (len >= sizeof text)
        return false;
    memcpy(text, line, len);
    text[len] = '\0';
    if (sscanf(text, "%llu %64[0-9a-f] %44[A-Za-z0-9+/=]%n", &seq, s->hash, s->key, &end) != 3 || end != (int)len)
        return false;
    s->seq = seq;
    return true;
}

/* All lines of one run's file, in order; a torn one at the end counts as not there, whatever its bytes: *whole is where it begins. */
static int read_shown(int fd, const char *path, int (*fn)(void *arg, const struct shown *s), void *arg, off_t *whole, struct err *err)
{
    struct stat st;
    char *text, *at, *nl;
    ssize_t n;
    int rc = 0;

    *whole = 0;
    if (fstat(fd, &st))
        return err_from_errno(err, errno, "%s", path);
    if (st.st_size > NOTE_MAX)
        return err_set(err, ERR_DAMAGE, "%s: expected at most %d bytes, found %lld", path, NOTE_MAX, (long long)st.st_size);
    text = malloc((size_t)st.st_size + 1);
    if (!text)
        return err_set(err, ERR_NOMEM, "no memory");
    n = pread(fd, text, (size_t)st.st_size, 0);
    if (n < 0)
        rc = err_from_errno(err, errno, "%s", path);
    for (at = text; rc == 0 && n > 0 && (nl = memchr(at, '\n', (size_t)(text + n - at))); at = nl + 1) {
        struct shown s;

        if (parse_shown(at, (size_t)(nl - at), &s))
            rc = fn(arg, &s);
        else
            rc = err_set(err, ERR_DAMAGE, "%s: expected a number, a hash and a key a line, found \"%.*s\"", path, (int)(nl - at < 80 ? nl - at : 80), at);
        *whole = nl + 1 - text;
    }
    free(text);
    return rc;
}

/* (No name has a "@".) */
static void shown_path(char buf[PATH_MAX + 256], const char *dir, const struct whose *w, const char *run)
{
    snprintf(buf, PATH_MAX + 256, "%.*s/witness.%.70s@%.70s@%.80s", PATH_MAX - 1, dir, w->plan, w->site, run);
}

/* ${now}: what is shown now; NULL. other: what was shown before and cannot be of the same record: the same line is another one, or the key is. */
struct known { const struct shown *now; struct shown last, other; json_t *all; unsigned n; };

static int know(void *arg, const struct shown *s)
{
    struct known *k = arg;

    if (k->now && (strcmp(k->now->key, s->key) != 0 || (k->now->seq == s->seq && strcmp(k->now->hash, s->hash) != 0)))
        k->other = *s;
    k->last = *s;
    k->n++;
    if (k->all)
        json_array_append_new(k->all, json_pack("[Is]", (json_int_t)s->seq, s->hash));
    return 0;
}

/* A new line, behind what is whole. What was shown once is never taken otherwise. A line before the last one that was shown may come late, from a command that was slower: whoever shows it proves all lines, also that one. */
static int show(const char *dir, const struct whose *w, const char *run, const struct shown *s, struct known *k, struct err *err)
{
    char path[PATH_MAX + 256], text[256];
    off_t whole = 0;
    int fd, rc;
    size_t len;

    k->now = s;
    shown_path(path, dir, w, run);
    fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX)) {
        rc = err_from_errno(err, errno, "%s", path);
        goto out;
    }
    rc = read_shown(fd, path, know, k, &whole, err);
    if (rc == 0 && k->other.hash[0])
        rc = err_set(err, ERR_DAMAGE, "run %s of site %s: expected line %llu with the hash %.16s... by the key %s, as countersigned before, found line %llu, %.16s..., %s", run, w->site,
                     (unsigned long long)k->other.seq, k->other.hash, k->other.key, (unsigned long long)s->seq, s->hash, s->key);
    if (rc)
        goto out;
    if (k->n && k->last.seq >= s->seq) {
        /* Whoever wrote it may have been cut off before it was on disk. */
        rc = fsync(fd) || record_sync_dir(dir) ? err_from_errno(err, errno, "%s", path) : 0;
        goto out;
    }
    len = (size_t)snprintf(text, sizeof text, "%llu %s %s\n", (unsigned long long)s->seq, s->hash, s->key);
    if (ftruncate(fd, whole) || write(fd, text, len) != (ssize_t)len || fsync(fd) || record_sync_dir(dir)) {
        rc = err_from_errno(err, errno, "%s", path);
        if (ftruncate(fd, whole))                /* it was said not to count */
            rc = err_from_errno(err, errno, "%s: taking back a line that could not be written", path);
    }
out:
    if (fd >= 0)
        close(fd);
    return rc;
}

/* ---- all runs of a site by a plan, newest last ---- */

/* The run in the name of a file; NULL: it is of another site or plan. */
static const char *run_of(const char *name, const struct whose *w)
{
    char lead[160];
    const int n = snprintf(lead, sizeof lead, "witness.%.70s@%.70s@", w->plan, w->site);

    return strncmp(name, lead, (size_t)n) == 0 && name[n] && strlen(name + n) < 80 ? name + n : NULL;
}

static int by_run(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int run_names(const char *dir, const struct whose *w, char ***names, unsigned *n, struct err *err)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    int rc = d ? 0 : err_from_errno(err, errno, "%s", dir);

    errno = 0;
    while (rc == 0 && (e = readdir(d))) {
        const char *run = run_of(e->d_name, w);
        char **more = run ? realloc(*names, (*n + 1) * sizeof **names) : NULL, *name = more ? strdup(run) : NULL;

        *names = more ? more : *names;
        if (name)
            (*names)[(*n)++] = name;
        else if (run)
            rc = err_set(err, ERR_NOMEM, "no memory");
        errno = 0;
    }
    if (rc == 0 && errno)
        rc = err_from_errno(err, errno, "%s", dir);
    if (d)
        closedir(d);
    if (*n > 1)
        qsort(*names, *n, sizeof **names, by_run);
    return rc;
}

/* One that cannot be read is not left out: it would pass for one that was never shown. */
static int one_run(const char *dir, const struct whose *w, const char *run, json_t *list, struct err *err)
{
    char path[PATH_MAX + 256];
    struct known k = { 0 };
    off_t whole;
    int fd, rc;

    shown_path(path, dir, w, run);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_from_errno(err, errno, "%s", path);
    rc = read_shown(fd, path, know, &k, &whole, err);
    close(fd);
    if (rc == 0 && k.n)
        json_array_append_new(list, json_pack("[sIs]", run, (json_int_t)k.last.seq, k.last.hash));
    return rc;
}

static int all_runs(const char *dir, const struct whose *w, json_t *list, struct err *err)
{
    char **names = NULL;
    unsigned n = 0;
    int rc = run_names(dir, w, &names, &n, err);

    for (unsigned i = 0; i < n; i++) {
        if (rc == 0 && i + RUNS_MAX >= n)
            rc = one_run(dir, w, names[i], list, err);
        free(names[i]);
    }
    free(names);
    return rc;
}

/* ---- the command of the other site ---- */

/* --reason "PLAN SITE RUN SEQ HASH KEY": shows and signs. --reason "PLAN SITE": what is known of that site. */
int dr_countersign(const struct dr_options *o)
{
    char dir[PATH_MAX], text[512], sig[SEAL_SIG_TEXT] = "", plan[72], site[72], run[80];
    const struct whose w = { plan, site };
    unsigned long long seq = 0;
    struct shown s = { 0 };
    struct known k = { .all = json_array() };
    struct seal *seal = NULL;
    struct err err = { 0 };
    json_t *j, *runs = json_array();
    int rc = 0, n = o->site && o->reason ? sscanf(o->reason, "%71[A-Za-z0-9._-] %71[A-Za-z0-9._-] %79[A-Za-z0-9._-] %llu %64[0-9a-f] %44[A-Za-z0-9+/=]", plan, site, run, &seq, s.hash, s.key) : 0;

    s.seq = seq;
    if (n != 6 && n != 2)
        rc = err_set(&err, ERR_USAGE, "dr countersign: expected --site, and --reason \"PLAN SITE RUN SEQ HASH KEY\", or \"PLAN SITE\"");
    if (rc == 0)
        rc = run_site_dir(o->site, dir, &err);
    if (rc == 0)
        rc = seal_open(dir, &seal, &err);
    if (rc == 0 && n == 6)
        rc = show(dir, &w, run, &s, &k, &err);
    if (rc == 0 && n == 6) {
        witness_text(text, &w, run, s.seq, s.hash);
        rc = seal_sign(seal, text, strlen(text), sig, &err);
    }
    if (rc == 0)
        rc = all_runs(dir, &w, runs, &err);
    if (rc == 0) {
        j = json_object();
        json_object_set_new(j, "site", json_string(o->site));
        json_object_set_new(j, "key", json_string(seal_public(seal)));
        json_object_set_new(j, "sig", json_string(sig));
        json_object_set(j, "before", k.all);
        json_object_set(j, "runs", runs);
        out_object(j);
        json_decref(j);
    }
    json_decref(k.all);
    json_decref(runs);
    seal_close(seal);
    return rc ? out_error(&err, rc) : EXIT_OK;
}

/* ---- here ---- */

const char *witness_key(const struct run *r)
{
    return r->here->key ? r->here->key : seal_public(r->seal);
}

static const struct plan_site *other_of(const struct run *r)
{
    return r->here == r->to ? r->from : r->to;
}

static int ask(const struct site_view *v, const struct plan_site *other, const char *text, json_t **o, struct err *err)
{
    const char *argv[] = { "dr", "countersign", "--site", other->h.name, "--reason", text, NULL };
    int rc = site_spare(v, other, argv, site_is_here(v, other) ? LOCAL_MS : other->contact_ms + MORE_MS, o, err);

    if (rc == 0 && !*o)
        rc = err_set(err, ERR_AWAY, "site %s: it said nothing", other->h.name);
    return rc == 13 ? ERR_DAMAGE : rc > 0 ? ERR_AWAY : rc;
}

/* The key of the other site: the plan has it; else it is the first one that site answered with, kept as sites/HERE/seen.PLAN@OTHER. "": none yet. */
static int known_key(const struct run *r, const struct plan_site *other, char path[PATH_MAX + 256], char key[SEAL_KEY_TEXT], struct err *err)
{
    char dir[PATH_MAX];
    int rc = run_site_dir(r->here->h.name, dir, err), got;
    FILE *f;

    snprintf(key, SEAL_KEY_TEXT, "%s", other->key ? other->key : "");
    if (rc || other->key)
        return rc;
    snprintf(path, PATH_MAX + 256, "%.*s/seen.%.70s@%.70s", PATH_MAX - 1, dir, r->plan->h.name, other->h.name);
    f = fopen(path, "re");
    if (!f)
        return errno == ENOENT ? 0 : err_from_errno(err, errno, "%s", path);
    got = fscanf(f, "%44[A-Za-z0-9+/=]", key);
    fclose(f);
    return got == 1 ? 0 : err_set(err, ERR_DAMAGE, "%s: expected the key of site %s, found something else", path, other->h.name);
}

/* It is signed by the key of that site. The first one is kept. */
static int proven(const struct run *r, const struct plan_site *other, const char *text, const json_t *o, struct err *err)
{
    char path[PATH_MAX + 256], key[SEAL_KEY_TEXT];
    const char *its = item_text(o, "key");
    int rc = known_key(r, other, path, key, err);

    if (rc)
        return rc;
    if (*key && !other->key && strcmp(key, its) != 0)
        return err_set(err, ERR_DAMAGE, "site %s: expected the key it answered with first, %s (%s), found %s: somebody else answers, or its state was made anew; if that is right, the plan has its new key, or that file is removed",
                       other->h.name, key, path, its);
    if (!seal_verify(*key ? key : its, text, strlen(text), item_text(o, "sig")))
        return err_set(err, ERR_DAMAGE, "run %s: expected a countersignature by the key of site %s, found another", r->id, other->h.name);
    return *key ? 0 : record_keep(path, its, strlen(its), err);
}

/* What it knew of this record before is in it still. */
static int holds(const struct run *r, const struct plan_site *other, const json_t *o, struct err *err)
{
    char text[512], hash[SEAL_HASH_TEXT];
    json_t *line;
    size_t i;
    int rc;

    witness_text(text, &(struct whose){ r->plan->h.name, r->here->h.name }, r->id, record_seq(r->rec), record_hash(r->rec));
    rc = proven(r, other, text, o, err);
    if (rc)
        return rc;
    json_array_foreach(json_object_get(o, "before"), i, line) {
        const long long seq = json_integer_value(json_array_get(line, 0));
        const char *was = json_string_value(json_array_get(line, 1));

        if (!was || !record_line_hash(r->dir, (uint64_t)seq, hash) || strcmp(hash, was) != 0)
            return err_set(err, ERR_DAMAGE, "run %s: line %lld: expected the hash %.16s..., as site %s countersigned it before, found %.16s...: the record was made anew", r->id, seq, was ? was : "none", other->h.name, hash);
    }
    return 0;
}

int witness_ask(struct run *r, json_t **o, struct err *err)
{
    const struct plan_site *other = other_of(r);
    char text[512];
    int rc;

    *o = NULL;
    snprintf(text, sizeof text, "%.70s %.70s %.80s %llu %s %s", r->plan->h.name, r->here->h.name, r->id, (unsigned long long)record_seq(r->rec), record_hash(r->rec), witness_key(r));
    rc = ask(&r->view, other, text, o, err);
    if (rc == 0)
        rc = holds(r, other, *o, err);
    if (rc) {
        json_decref(*o);
        *o = NULL;
    }
    return rc;
}

static bool is_here(const char *site, const char *run)
{
    char dir[PATH_MAX], path[PATH_MAX + 128];

    if (run_site_dir(site, dir, NULL))
        return true;
    snprintf(path, sizeof path, "%s/runs/%.80s/journal", dir, run);
    return access(path, F_OK) == 0;
}

int witness_newest(const struct run *r, const json_t *o, struct err *err)
{
    json_t *known;
    size_t i;

    json_array_foreach(json_object_get(o, "runs"), i, known) {
        const char *run = json_string_value(json_array_get(known, 0));

        if (run && strcmp(run, r->id) > 0 && !is_here(r->here->h.name, run))
            return err_set(err, ERR_DAMAGE, "run %s: expected its record here, since site %s countersigned its line %lld, found none: it was removed. --run %s reports on the one before", run, item_text(o, "site"),
                           (long long)json_integer_value(json_array_get(known, 1)), r->id);
    }
    return 0;
}

void witness_end(struct run *r)
{
    const struct plan_site *other = other_of(r);
    const struct site_store *seen = other == r->to ? r->to_seen : r->from_seen;
    struct err why = { 0 };
    json_t *o = NULL;

    if (r->looked && !seen[0].reached && !site_is_here(&r->view, other))
        return;
    if (witness_ask(r, &o, &why) == ERR_DAMAGE)
        out_warn("%s", why.msg);
    json_decref(o);
}

int witness_check(const struct site_view *v, const struct plan_site *other, void (*say)(void *arg, const char *text), void *arg, struct err *err)
{
    char dir[PATH_MAX], path[PATH_MAX + 128], text[512], hash[SEAL_HASH_TEXT];
    json_t *o = NULL, *known;
    size_t i;
    int rc = run_site_dir(v->here->h.name, dir, err);

    snprintf(text, sizeof text, "%.70s %.70s", v->plan->h.name, v->here->h.name);
    if (rc == 0)
        rc = ask(v, other, text, &o, err);
    json_array_foreach(json_object_get(o, "runs"), i, known) {
        const char *run = json_string_value(json_array_get(known, 0)), *was = json_string_value(json_array_get(known, 2));
        const long long seq = json_integer_value(json_array_get(known, 1));

        if (!run || !was)
            continue;
        snprintf(path, sizeof path, "%s/runs/%.80s", dir, run);
        if (record_line_hash(path, (uint64_t)seq, hash) && strcmp(hash, was) == 0)
            continue;
        snprintf(text, sizeof text, "run %s: expected line %lld with the hash %.16s..., as site %s countersigned it, found %.16s: the record was removed, shortened or made anew", run, seq, was, other->h.name, hash);
        say(arg, text);
    }
    json_decref(o);
    return rc;
}
