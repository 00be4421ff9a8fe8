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

/* What is signed. */
static void witness_text(char buf[512], const char *site, const char *run, uint64_t seq, const char *hash)
{
    snprintf(buf, 512, "%.70s %.80s %llu %.64s", site, run, (unsigned long long)seq, hash);
}

/* ---- what was shown: at the other site ---- */

struct shown { uint64_t seq; char hash[SEAL_HASH_TEXT], key[SEAL_KEY_TEXT]; };

/* All lines of one run's file, in order; a torn one at the end counts as not there: *whole is where it begins. */
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
    text[n > 0 ? n : 0] = '\0';
    for (at = text; rc == 0 && (nl = strchr(at, '\n')); at = nl + 1) {
        unsigned long long seq;
        struct shown s;
        int end = 0;

        *nl = '\0';
        if (sscanf(at, "%llu %64[0-9a-f] %44[A-Za-z0-9+/=]%n", &seq, s.hash, s.key, &end) != 3 || at[end])
            rc = err_set(err, ERR_DAMAGE, "%s: expected a number, a hash and a key a line, found \"%.80s\"", path, at);
        else {
            s.seq = seq;
            rc = fn(arg, &s);
        }
        *whole = nl + 1 - text;
    }
    free(text);
    return rc;
}

static void shown_path(char buf[PATH_MAX + 256], const char *dir, const char *site, const char *run)
{
    snprintf(buf, PATH_MAX + 256, "%.*s/witness.%.70s.%.80s", PATH_MAX - 1, dir, site, run);
}

struct known { struct shown last; json_t *all; unsigned n; };

static int know(void *arg, const struct shown *s)
{
    struct known *k = arg;

    k->last = *s;
    k->n++;
    if (k->all)
        json_array_append_new(k->all, json_pack("[Is]", (json_int_t)s->seq, s->hash));
    return 0;
}

/* A new line, behind what is whole. What was shown once is never taken otherwise. */
static int show(const char *dir, const char *site, const char *run, const struct shown *s, struct known *k, struct err *err)
{
    char path[PATH_MAX + 256], text[256];
    off_t whole = 0;
    int fd, rc;
    size_t len;

    shown_path(path, dir, site, run);
    fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX)) {
        rc = err_from_errno(err, errno, "%s", path);
        goto out;
    }
    rc = read_shown(fd, path, know, k, &whole, err);
    if (rc == 0 && k->n && (k->last.seq > s->seq || (k->last.seq == s->seq && strcmp(k->last.hash, s->hash) != 0) || strcmp(k->last.key, s->key) != 0))
        rc = err_set(err, ERR_DAMAGE, "run %s of site %s: expected line %llu with the hash %.16s... by the key %s, as countersigned before, found line %llu, %.16s..., %s", run, site,
                     (unsigned long long)k->last.seq, k->last.hash, k->last.key, (unsigned long long)s->seq, s->hash, s->key);
    if (rc || (k->n && k->last.seq == s->seq))
        goto out;
    len = (size_t)snprintf(text, sizeof text, "%llu %s %s\n", (unsigned long long)s->seq, s->hash, s->key);
    if (ftruncate(fd, whole) || write(fd, text, len) != (ssize_t)len || fsync(fd) || record_sync_dir(dir))
        rc = err_from_errno(err, errno, "%s", path);
out:
    if (fd >= 0)
        close(fd);
    return rc;
}

/* ---- all runs of a site, newest last ---- */

static int of_site(const char *name, const char *site)
{
    const size_t n = strlen(site);

    return strncmp(name, "witness.", 8) == 0 && strncmp(name + 8, site, n) == 0 && name[8 + n] == '.' && strlen(name + 9 + n) < 80;
}

static int by_run(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static json_t *all_runs(const char *dir, const char *site, struct err *err)
{
    char **names = NULL;
    unsigned n = 0;
    json_t *list = json_array();
    DIR *d = opendir(dir);
    struct dirent *e;

    while (d && (e = readdir(d)))
        if (of_site(e->d_name, site)) {
            char **more = realloc(names, (n + 1) * sizeof *names), *name = strdup(e->d_name + 9 + strlen(site));

            names = more ? more : names;
            if (more && name)
                names[n++] = name;
            else
                free(name);
        }
    if (d)
        closedir(d);
    if (n > 1)
        qsort(names, n, sizeof *names, by_run);
    for (unsigned i = 0; i < n; i++) {
        char path[PATH_MAX + 256];
        struct known k = { 0 };
        off_t whole;
        int fd;

        shown_path(path, dir, site, names[i]);
        fd = i + RUNS_MAX < n ? -1 : open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && read_shown(fd, path, know, &k, &whole, err) == 0 && k.n)
            json_array_append_new(list, json_pack("[sIs]", names[i], (json_int_t)k.last.seq, k.last.hash));
        if (fd >= 0)
            close(fd);
        free(names[i]);
    }
    free(names);
    return list;
}

/* ---- the command of the other site ---- */

/* --reason "SITE RUN SEQ HASH KEY": shows and signs. --reason "SITE": what is known of that site. */
int dr_countersign(const struct dr_options *o)
{
    char dir[PATH_MAX], text[512], sig[SEAL_SIG_TEXT] = "", site[72], run[80];
    unsigned long long seq = 0;
    struct shown s = { 0 };
    struct known k = { .all = json_array() };
    struct seal *seal = NULL;
    struct err err = { 0 };
    json_t *j;
    int rc = 0, n = o->site && o->reason ? sscanf(o->reason, "%71[A-Za-z0-9._-] %79[A-Za-z0-9._-] %llu %64[0-9a-f] %44[A-Za-z0-9+/=]", site, run, &seq, s.hash, s.key) : 0;

    s.seq = seq;
    if (n != 5 && n != 1)
        rc = err_set(&err, ERR_USAGE, "dr countersign: expected --site, and --reason \"SITE RUN SEQ HASH KEY\", or \"SITE\"");
    if (rc == 0)
        rc = run_site_dir(o->site, dir, &err);
    if (rc == 0)
        rc = seal_open(dir, &seal, &err);
    if (rc == 0 && n == 5)
        rc = show(dir, site, run, &s, &k, &err);
    if (rc == 0 && n == 5) {
        witness_text(text, site, run, s.seq, s.hash);
        rc = seal_sign(seal, text, strlen(text), sig, &err);
    }
    if (rc == 0) {
        j = json_object();
        json_object_set_new(j, "site", json_string(o->site));
        json_object_set_new(j, "key", json_string(seal_public(seal)));
        json_object_set_new(j, "sig", json_string(sig));
        json_object_set(j, "before", k.all);
        json_object_set_new(j, "runs", all_runs(dir, site, &err));
        out_object(j);
        json_decref(j);
    }
    json_decref(k.all);
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

/* What it knew of this record before is in it still. */
static int holds(const struct run *r, const struct plan_site *other, const json_t *o, struct err *err)
{
    char text[512], hash[SEAL_HASH_TEXT];
    json_t *line;
    size_t i;

    witness_text(text, r->here->h.name, r->id, record_seq(r->rec), record_hash(r->rec));
    if (!seal_verify(other->key ? other->key : item_text(o, "key"), text, strlen(text), item_text(o, "sig")))
        return err_set(err, ERR_DAMAGE, "run %s: expected a countersignature by the key of site %s, found another", r->id, other->h.name);
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
    snprintf(text, sizeof text, "%.70s %.80s %llu %s %s", r->here->h.name, r->id, (unsigned long long)record_seq(r->rec), record_hash(r->rec), witness_key(r));
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

    if (rc == 0)
        rc = ask(v, other, v->here->h.name, &o, err);
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
