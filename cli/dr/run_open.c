/* run_open.c: runs on disk: made, found, opened. */
#include "cli/dr/run.h"

#include "cli/locate.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- which site this is ---- */

static bool is_own_address(const char *host)
{
    struct ifaddrs *all = NULL;
    char text[NI_MAXHOST];
    bool own = false;

    if (getifaddrs(&all))
        return false;
    for (struct ifaddrs *a = all; a && !own; a = a->ifa_next) {
        socklen_t len;

        if (!a->ifa_addr || (a->ifa_addr->sa_family != AF_INET && a->ifa_addr->sa_family != AF_INET6))
            continue;
        len = a->ifa_addr->sa_family == AF_INET ? sizeof (struct sockaddr_in) : sizeof (struct sockaddr_in6);
        own = getnameinfo(a->ifa_addr, len, text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0 && strcmp(text, host) == 0;
    }
    freeifaddrs(all);
    return own;
}

/* By name, short or whole, or by address. A user@ in front does not count. */
static bool is_this_host(const char *host)
{
    const char *at = strrchr(host, '@');
    char own[256] = "";
    size_t n;

    host = at ? at + 1 : host;
    (void)gethostname(own, sizeof own - 1);
    n = strcspn(own, ".");
    return strcasecmp(own, host) == 0 || (strcspn(host, ".") == n && strncasecmp(own, host, n) == 0 && (!own[n] || !host[n])) || is_own_address(host);
}

int run_site(const struct plan *p, const struct dr_options *o, const struct plan_site **out, struct err *err)
{
    const struct plan_site *found = NULL;
    unsigned n = 0;

    if (o->site) {
        *out = plan_site(p, o->site);
        return *out ? 0 : err_set(err, ERR_USAGE, "--site %s: the plan has no such site", o->site);
    }
    for (unsigned i = 0; i < p->sites.n; i++) {
        const struct plan_site *s = &p->sites.v[i];
        bool here = !s->host || is_this_host(s->host);

        for (unsigned k = 0; here && k < s->stores.n; k++)
            here = locate_is_store(s->stores.v[k].path);
        if (here) {
            found = s;
            n++;
        }
    }
    *out = found;
    if (n == 1)
        return 0;
    return n ? err_set(err, ERR_USAGE, "several sites of the plan are on this machine: say which one is meant, --site NAME")
             : err_set(err, ERR_USAGE, "no site of the plan is this machine, by its host and its stores: say which one it is, --site NAME");
}

/* ---- directories ---- */

/* One that was made is on disk when what lies in it is. */
static int make_dir(const char *path, mode_t mode, struct err *err)
{
    char up[PATH_MAX];
    char *slash;

    if (mkdir(path, mode) == 0) {
        snprintf(up, sizeof up, "%s", path);
        slash = strrchr(up, '/');
        up[slash && slash != up ? slash - up : 1] = '\0';
        return record_sync_dir(up) ? err_from_errno(err, errno, "%s", up) : 0;
    }
    return errno == EEXIST ? 0 : err_from_errno(err, errno, "%s", path);
}

static int make_dirs(char *path, struct err *err)
{
    for (char *c = path + 1; (c = strchr(c, '/')); *c++ = '/') {
        int rc;

        *c = '\0';
        rc = make_dir(path, 0755, err);
        if (rc)
            return rc;
    }
    return make_dir(path, 0700, err);
}

int run_site_dir(const char *site, char buf[PATH_MAX], struct err *err)
{
    if (snprintf(buf, PATH_MAX, "%s/sites/%s", dr_state_dir(), site) >= PATH_MAX - 256)
        return err_set(err, ERR_NAMETOOLONG, "%s: too long", dr_state_dir());
    return make_dirs(buf, err);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names below ${dir}, sorted; malloced, as each is. */
static unsigned names(const char *dir, char ***out)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    unsigned n = 0;

    *out = NULL;
    while (d && (e = readdir(d))) {
        char **more = e->d_name[0] == '.' ? NULL : realloc(*out, (n + 1) * sizeof **out);

        if (!more)
            continue;
        *out = more;
        (*out)[n] = strdup(e->d_name);
        n += (*out)[n] != NULL;
    }
    if (d)
        closedir(d);
    if (n > 1)
        qsort(*out, n, sizeof **out, by_name);
    return n;
}

int run_each(int (*fn)(void *arg, const char *site, const char *id), void *arg)
{
    char path[PATH_MAX + 512], **sites, **ids;
    unsigned n, m;
    int rc = 0;

    snprintf(path, sizeof path, "%s/sites", dr_state_dir());
    n = names(path, &sites);
    for (unsigned i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/sites/%s/runs", dr_state_dir(), sites[i]);
        m = names(path, &ids);
        for (unsigned k = 0; k < m; k++) {
            rc = rc ? rc : fn(arg, sites[i], ids[k]);
            free(ids[k]);
        }
        free(ids);
        free(sites[i]);
    }
    free(sites);
    return rc;
}

/* ---- one run ---- */

static const char *const kinds[] = { "failover", "switchover", "rejoin" };
static const char *const states[] = { "cut off, or under way", "stopped", "up, before commit", "committed", "rolled back", "closed" };

const char *run_kind_name(const struct run *r)
{
    return r->back ? "rollback" : kinds[r->kind];
}

const char *run_state_name(const struct run *r)
{
    return states[r->state];
}

bool run_over(const struct run *r)
{
    return r->state >= RUN_COMMITTED;
}

int64_t run_out_ms(const struct run *r)
{
    return r->up_wall_ms < 0 ? -1 : r->up_wall_ms - r->out_since_wall_ms;
}

void run_close(struct run *r)
{
    if (!r)
        return;
    run_free_steps(r);
    record_close(r->rec);
    seal_close(r->seal);
    if (r->lock >= 0)
        close(r->lock);
    plan_free(r->plan);
    free(r);
}

static struct run *blank(void)
{
    struct run *r = calloc(1, sizeof *r);

    if (r) {
        r->lock = -1;
        r->accept_loss_ms = r->since_ms = r->up_wall_ms = r->promoted_wall_ms = r->held_to_ms = r->loss_ms = -1;
    }
    return r;
}

enum { LOCK_TRIES = 10, LOCK_MS = 20 };
const struct flock run_whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

static int take_lock(struct run *r, struct err *err)
{
    char path[PATH_MAX + 16];

    snprintf(path, sizeof path, "%s/lock", r->dir);
    r->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (r->lock < 0)
        return err_from_errno(err, errno, "%s", path);
    /* A child that was just made by one that was killed holds it until it is what it shall be, and by then has noted that it runs. */
    for (int i = 0; fcntl(r->lock, F_OFD_SETLK, &run_whole); i++) {
        if (i == LOCK_TRIES)
            return err_set(err, ERR_LOCKED, "run %s is under way: another process goes on with it", r->id);
        (void)poll(NULL, 0, LOCK_MS);
    }
    return 0;
}

int run_beginning(const char *site, int *lock, struct err *err)
{
    char dir[PATH_MAX], path[PATH_MAX + 16];
    int fd, rc = run_site_dir(site, dir, err);

    if (rc)
        return rc;
    snprintf(path, sizeof path, "%s/beginning", dir);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_from_errno(err, errno, "%s", path);
    for (int i = 0; fcntl(fd, F_OFD_SETLK, &run_whole); i++) {
        if (i == LOCK_TRIES)
            out_message("waiting for another command that is about to begin, or to go on, at site %s", site);
        if (out_interrupted) {
            close(fd);
            return err_set(err, ERR_INTR, "interrupted; nothing was begun");
        }
        (void)poll(NULL, 0, LOCK_MS);
    }
    *lock = fd;
    return 0;
}

bool run_locked(const struct run *r, const char *name)
{
    struct flock is = run_whole;
    char path[PATH_MAX + 32];
    bool taken;
    int fd;

    snprintf(path, sizeof path, "%s/%s", r->dir, name);
    fd = open(path, O_RDWR | O_CLOEXEC);
    taken = fd >= 0 && fcntl(fd, F_OFD_GETLK, &is) == 0 && is.l_type != F_UNLCK;
    if (fd >= 0)
        close(fd);
    return taken;
}

static void say_left(const char *what)
{
    out_message("waiting for what was begun before this was cut off: %s", what);
}

/* What it began in another life has ended from here on. */
static int wait_for_left(struct run *r, struct err *err)
{
    snprintf(r->notes, sizeof r->notes, "%s/running", r->dir);
    if (mkdir(r->notes, 0700) && errno != EEXIST)
        return err_from_errno(err, errno, "%s", r->notes);
    r->view.notes = r->notes;
    return proc_left(r->notes, say_left, &out_interrupted) ? 0 : err_set(err, ERR_INTR, "interrupted; the same command goes on with it");
}

/* The plan as it was when the run began. */
static int load_plan(struct run *r, const char *site, struct err *err)
{
    struct problems p = { 0 };
    char path[PATH_MAX + 16], *text = NULL;
    size_t len = 0, n;
    char buf[4096];
    FILE *f, *m;
    int rc;

    snprintf(path, sizeof path, "%s/plan.yaml", r->dir);
    f = fopen(path, "re");
    if (!f)
        return err_from_errno(err, errno, "%s", path);
    m = open_memstream(&text, &len);
    while (m && (n = fread(buf, 1, sizeof buf, f)) > 0)
        fwrite(buf, 1, n, m);
    fclose(f);
    if (!m || fclose(m))
        return err_set(err, ERR_NOMEM, "no memory");
    seal_hash(text, len, r->text_sha256);
    p.file = path;
    rc = plan_parse(text, len, &r->plan, &p, err);
    problems_release(&p);
    free(text);
    if (rc == 0 && !(r->here = plan_site(r->plan, site)))
        rc = err_set(err, ERR_DAMAGE, "%s: expected the site %s in it, found none", path, site);
    return rc;
}

static int open_parts(struct run *r, const char *site, bool work, struct err *err)
{
    char dir[PATH_MAX];
    int rc = run_site_dir(site, dir, err);

    if (rc == 0 && work)
        rc = take_lock(r, err);
    if (rc == 0)
        rc = load_plan(r, site, err);
    if (rc == 0)
        rc = seal_open(dir, &r->seal, err);
    if (rc == 0) {
        r->prefer = r->plan->prefer;
        r->view = (struct site_view){ .plan = r->plan, .here = r->here, .run = r->id, .stop = &out_interrupted };
        rc = work ? wait_for_left(r, err) : 0;
    }
    if (rc == 0) {
        rc = record_open(r->dir, r->seal, run_line, r, &r->rec, err);
    }
    return rc;
}

/* Cut off before its first line: nothing was done by it. One that has a head had lines. */
static int never_began(const struct run *r, struct err *err)
{
    char path[PATH_MAX + 16];

    snprintf(path, sizeof path, "%s/head", r->dir);
    if (access(path, F_OK) == 0)
        return err_set(err, ERR_DAMAGE, "%s/journal: expected the lines its head knows of, found none: they were taken off", r->dir);
    return err_set(err, ERR_NOENT, "%s: expected a run, found one that never began", r->id);
}

int run_open(const char *site, const char *id, bool work, struct run **out, struct err *err)
{
    struct run *r = blank();
    char dir[PATH_MAX];
    struct stat st;
    int rc = r ? run_site_dir(site, dir, err) : ERR_NOMEM;

    if (rc == 0) {
        snprintf(r->id, sizeof r->id, "%s", id);
        if (snprintf(r->dir, sizeof r->dir, "%s/runs/%s", dir, id) >= (int)sizeof r->dir || stat(r->dir, &st))
            rc = err_set(err, ERR_NOENT, "%s: no such run", id);
    }
    if (rc == 0)
        rc = open_parts(r, site, work, err);
    if (rc == 0 && !r->to)
        rc = never_began(r, err);
    else if (rc == 0 && strcmp(r->text_sha256, r->plan_sha256) != 0)
        rc = err_set(err, ERR_DAMAGE, "%s/plan.yaml: expected the plan the run began with, SHA-256 %.16s..., found %.16s...: it was changed; a run goes on with the plan it began with, `--new` begins one with another", r->dir,
                     r->plan_sha256, r->text_sha256);
    if (rc)
        run_close(r);
    else
        *out = r;
    return rc;
}

static int write_plan(const struct run *r, const struct plan_source *src, struct err *err)
{
    char path[PATH_MAX + 16];
    FILE *f;
    bool ok;

    snprintf(path, sizeof path, "%s/out", r->dir);
    if (mkdir(path, 0700) && errno != EEXIST)
        return err_from_errno(err, errno, "%s", path);
    snprintf(path, sizeof path, "%s/plan.yaml", r->dir);
    f = fopen(path, "we");
    if (!f)
        return err_from_errno(err, errno, "%s", path);
    ok = fwrite(src->text, 1, src->len, f) == src->len && fflush(f) == 0 && fsync(fileno(f)) == 0;
    return fclose(f) || !ok ? err_from_errno(err, errno, "%s", path) : 0;
}

int run_options(const struct dr_options *o, json_t *into, struct err *err)
{
    int64_t ms = 0;

    if (o->accept_loss && strcmp(o->accept_loss, "any") == 0)
        json_object_set_new(into, "accept_loss_ms", json_string("any"));
    else if (o->accept_loss && !plan_duration_parse(o->accept_loss, &ms))
        return err_set(err, ERR_USAGE, "--accept-loss: expected a time such as 14s, or any, found %s", o->accept_loss);
    else if (o->accept_loss)
        json_object_set_new(into, "accept_loss_ms", json_integer(ms));
    if (o->since && (ms = record_parse_ms(o->since)) < 0)
        return err_set(err, ERR_USAGE, "--since: expected a time such as 2026-11-22T10:15:03Z, found %s", o->since);
    if (o->since)
        json_object_set_new(into, "since_ms", json_integer(ms));
    if (o->at && record_parse_ms(o->at) < 0)         /* a time from now would be another one when this is gone on with */
        return err_set(err, ERR_USAGE, "--at: expected a time such as 2026-11-22T10:15:03Z, found %s", o->at);
    if (o->at)
        json_object_set_new(into, "at", json_string(o->at));
    if (o->prefer && strcmp(o->prefer, "rpo") != 0 && strcmp(o->prefer, "rto") != 0)
        return err_set(err, ERR_USAGE, "--prefer: expected rpo or rto, found %s", o->prefer);
    if (o->prefer)
        json_object_set_new(into, "prefer", json_string(o->prefer));
    if (o->unfenced)
        json_object_set_new(into, "unfenced", json_true());
    return 0;
}

/* Since when changes may have been made here: a promotion that was begun may be through, also where its run was killed before it could say so. -1: none was. */
static int64_t may_be_promoted(const struct run *r)
{
    for (unsigned i = 0; i < r->n_steps && r->promoted_wall_ms < 0; i++)
        if (r->steps[i].kind == STEP_PROMOTE && r->steps[i].intent_wall_ms >= 0)
            return r->steps[i].intent_wall_ms;
    return r->promoted_wall_ms;
}

void run_before(const struct run *r, struct before *b)
{
    const int64_t promoted = may_be_promoted(r);
    const bool out = r->up_wall_ms < 0 && (r->kind == RUN_FAILOVER || (r->kind == RUN_SWITCHOVER && run_touched(r)));

    *b = (struct before){ .out_since_wall_ms = out ? r->out_since_wall_ms : -1, .failover = r->kind == RUN_FAILOVER && !r->back && promoted >= 0, .promoted_wall_ms = promoted, .held_to_ms = r->held_to_ms, .loss_ms = r->loss_ms };
    snprintf(b->id, sizeof b->id, "%s", r->replaced ? r->id : "");
    snprintf(b->to, sizeof b->to, "%.79s", r->to->h.name);
}

static void put_before(json_t *o, const struct before *b, const struct plan_site *to, enum run_kind kind)
{
    if (!b->id[0])
        return;
    json_object_set_new(o, "after", json_string(b->id));
    if (kind != RUN_REJOIN && b->out_since_wall_ms >= 0)
        json_object_set_new(o, "out_since_wall_ms", json_integer(b->out_since_wall_ms));
    if (kind != RUN_FAILOVER || !b->failover || strcmp(b->to, to->h.name) != 0)
        return;
    json_object_set_new(o, "promoted_wall_ms", json_integer(b->promoted_wall_ms));
    json_object_set_new(o, "loss_at_most_ms", b->loss_ms < 0 || b->loss_ms == INT64_MAX ? json_null() : json_integer(b->loss_ms));
    if (b->held_to_ms >= 0)
        json_object_set_new(o, "held_to_ms", json_integer(b->held_to_ms));
}

static json_t *first_line(const struct run *r, const struct plan_source *src, const struct before *before, const struct plan_site *to, const struct plan_site *from)
{
    char host[256] = "", hash[SEAL_HASH_TEXT];
    const char *user = getenv("SUDO_USER") ? getenv("SUDO_USER") : getenv("LOGNAME");
    json_t *o = json_object();

    (void)gethostname(host, sizeof host - 1);
    seal_hash(src->text, src->len, hash);
    json_object_set_new(o, "run", json_string(r->id));
    json_object_set_new(o, "kind", json_string(kinds[r->kind]));
    json_object_set_new(o, "plan", json_string(r->plan->h.name));
    json_object_set_new(o, "plan_sha256", json_string(hash));
    json_object_set_new(o, "site", json_string(r->here->h.name));
    json_object_set_new(o, "to", json_string(to->h.name));
    json_object_set_new(o, "from", json_string(from->h.name));
    json_object_set_new(o, "host", json_string(host));
    json_object_set_new(o, "by", json_string(user ? user : ""));
    json_object_set_new(o, "key", json_string(seal_public(r->seal)));
    (void)run_options(r->opt, o, NULL);      /* they were looked at before */
    put_before(o, before, to, r->kind);
    return o;
}

/* Of the newest run in that directory; -1: there is none. */
static int64_t newest_ms(const char *dir)
{
    char path[PATH_MAX + 16], **all;
    struct tm tm = { 0 };
    int64_t ms = -1;
    unsigned n;
    int sub = 0;

    snprintf(path, sizeof path, "%s/runs", dir);
    n = names(path, &all);
    if (n > 0 && sscanf(all[n - 1], "%4d%2d%2dT%2d%2d%2d.%3d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &sub) == 7) {
        tm.tm_year -= 1900;
        tm.tm_mon -= 1;
        ms = (int64_t)timegm(&tm) * 1000 + sub;
    }
    for (unsigned i = 0; i < n; i++)
        free(all[i]);
    free(all);
    return ms;
}

/* Names are told in the order of runs by all that look for the newest one. */
static void name_run(struct run *r, const char *dir, const char *token)
{
    int64_t ms = record_wall_ms(), last = newest_ms(dir);
    time_t now;
    struct tm tm;

    ms = ms > last ? ms : last + 1;
    now = (time_t)(ms / 1000);
    gmtime_r(&now, &tm);
    strftime(r->id, sizeof r->id, "%Y%m%dT%H%M%S", &tm);
    snprintf(r->id + strlen(r->id), sizeof r->id - strlen(r->id), ".%03dZ-%s-%.4s", (int)(ms % 1000), kinds[r->kind], token);
}

int run_new(enum run_kind kind, const struct plan_source *src, const struct dr_options *o, const struct before *before, const struct plan_site *here, const struct plan_site *to, const struct plan_site *from, struct run **out, struct err *err)
{
    struct run *r = blank();
    char dir[PATH_MAX], token[SEAL_TOKEN_TEXT];
    int rc = r ? run_site_dir(here->h.name, dir, err) : ERR_NOMEM;

    if (rc == 0)
        rc = seal_token(token, err);
    if (rc == 0) {
        r->kind = kind;
        r->opt = o;
        name_run(r, dir, token);
        snprintf(r->dir, sizeof r->dir, "%.*s/runs/%s", PATH_MAX - 128, dir, r->id);
        rc = make_dirs(r->dir, err);
    }
    if (rc == 0)
        rc = write_plan(r, src, err);
    if (rc == 0)
        rc = open_parts(r, here->h.name, true, err);
    if (rc == 0)
        rc = run_note(r, "begin", "", first_line(r, src, before, to, from), err);
    if (rc)
        run_close(r);
    else
        *out = r;
    return rc;
}

struct finding { const char *plan, *site; bool open; char id[80]; };

static int find_one(void *arg, const char *site, const char *id)
{
    struct finding *f = arg;
    struct run *r = NULL;
    struct err why = { 0 };

    if (f->site && strcmp(site, f->site) != 0)
        return 0;
    int rc = run_open(site, id, false, &r, &why);

    if (rc) {
        if (rc != ERR_NOENT)             /* one that never began is none */
            out_message("%s: not looked at: %s", id, why.msg);
        return 0;
    }
    if ((!f->plan || strcmp(r->plan->h.name, f->plan) == 0) && (!f->open || !run_over(r)))
        snprintf(f->id, sizeof f->id, "%s", id);
    run_close(r);
    return 0;
}

int run_find(const char *plan, const char *site, bool open, char id[80], struct err *err)
{
    struct finding f = { .plan = plan, .site = site, .open = open };

    (void)run_each(find_one, &f);
    snprintf(id, 80, "%s", f.id);
    return f.id[0] ? 0 : err_set(err, ERR_NOENT, "expected a run%s of %s at this site, found none", open ? " that is not over" : "", plan ? plan : "any plan");
}
