/* loss.c: see loss.h. */
#include "cli/dr/loss.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ASK_MS = 120000, LIST_MAX = 1 << 20, MANIFEST_MAX = 256 << 20 };

/* ---- files of the run ---- */

static void path_of(char buf[PATH_MAX + 128], const struct run *r, const char *what, const char *store)
{
    snprintf(buf, PATH_MAX + 128, "%s/out/%s.%.80s", r->dir, what, store);
}

static char *read_all(const char *path, size_t *len)
{
    char *text = NULL, buf[4096];
    FILE *f = fopen(path, "re"), *m = f ? open_memstream(&text, len) : NULL;
    size_t n;

    while (m && (n = fread(buf, 1, sizeof buf, f)) > 0)
        fwrite(buf, 1, n, m);
    if (f)
        fclose(f);
    if (m && fclose(m)) {
        free(text);
        text = NULL;
    }
    return text;
}

/* The objects of a text, one a line. */
static json_t *lines_of(const char *text)
{
    json_t *all = json_array();

    while (text && *text) {
        size_t n = strcspn(text, "\n");
        json_t *o = json_loadb(text, n, 0, NULL);

        if (json_is_object(o))
            json_array_append(all, o);
        json_decref(o);
        text += n + (text[n] == '\n');
    }
    return all;
}

/* ---- written down by a rejoin ---- */

int loss_before(struct run *r, const struct step *s, const struct plan_store *there, struct err *err)
{
    const char *const argv[] = { "branch", "list", "--store", there->path, NULL };
    char path[PATH_MAX + 128], *text = NULL;
    int rc;

    path_of(path, r, "branches", there->h.name);
    if (access(path, F_OK) == 0)
        return 0;
    rc = site_spare_text(&r->view, s->other, argv, ASK_MS, LIST_MAX, &text, err);
    if (rc == 0)
        rc = record_keep(path, text ? text : "", text ? strlen(text) : 0, err);
    free(text);
    return rc > 0 ? ERR_UNKNOWN : rc;
}

static bool named(const json_t *list, const char *name)
{
    size_t i;
    json_t *o;

    json_array_foreach(list, i, o)
        if (strcmp(item_text(o, "name"), name) == 0)
            return true;
    return false;
}

/* The newest failover of the plan before a rejoin; and what earlier rejoins wrote down of what was lost: those behind that failover from ${since} on. */
struct past { const struct run *rejoin; int64_t held_to_ms; json_t *told; size_t since; };

static int look_back(void *arg, const char *site, const char *id)
{
    struct past *p = arg;
    struct run *r = NULL;
    struct err why = { 0 };

    if (strcmp(site, p->rejoin->here->h.name) != 0 || strcmp(id, p->rejoin->id) >= 0 || run_open(site, id, false, &r, &why))
        return 0;
    if (strcmp(r->plan->h.name, p->rejoin->plan->h.name) == 0 && r->kind == RUN_FAILOVER && r->promoted_wall_ms >= 0) {
        p->held_to_ms = r->held_to_ms;
        p->since = json_array_size(p->told);
    }
    if (strcmp(r->plan->h.name, p->rejoin->plan->h.name) == 0 && r->kind == RUN_REJOIN) {
        json_t *lost = loss_of(r, &why);

        json_array_extend(p->told, lost);
        json_decref(lost);
    }
    run_close(r);
    return 0;
}

/* Whether an entry tells itself what that store lost, a branch or nothing. */
static bool tells(const json_t *lost)
{
    return !json_object_get(lost, "unknown") && !json_object_get(lost, "known_by");
}

static bool is_told(const json_t *told, const char *store, const char *branch)
{
    size_t i;
    json_t *o;

    json_array_foreach(told, i, o)
        if (strcmp(item_text(o, "store"), store) == 0 && strcmp(item_text(o, "branch"), branch) == 0)
            return true;
    return false;
}

/* The rejoin behind that failover that told what that store had; "": none did. */
static void told_by(const struct past *p, const char *store, char id[80])
{
    id[0] = '\0';
    for (size_t i = p->since; i < json_array_size(p->told) && !id[0]; i++) {
        const json_t *o = json_array_get(p->told, i);

        if (strcmp(item_text(o, "store"), store) == 0 && tells(o))
            snprintf(id, 80, "%s", strrchr(item_text(o, "directory"), '/') + 1);
    }
}

/* What the failover left: the branch that was not there before; or one that parted behind what was held then, of a store that had gone back before. NULL: none; ${known_by}: the rejoin before this one that told what there was, "": none did. Borrowed. */
static const json_t *its_branch(const struct run *r, const char *store, const json_t *before, const json_t *now, char known_by[80])
{
    struct past past = { .rejoin = r, .held_to_ms = -1, .told = json_array() };
    const json_t *found = NULL;
    size_t i;
    json_t *o;

    (void)run_each(look_back, &past);
    json_array_foreach(now, i, o) {
        const char *name = item_text(o, "name");
        const bool behind = past.held_to_ms >= 0 && record_parse_ms(item_text(o, "parted")) >= past.held_to_ms && !is_told(past.told, store, name);

        if (!found && (behind || !named(before, name)))
            found = o;
    }
    told_by(&past, store, known_by);
    json_decref(past.told);
    return found;
}

static bool was_back(const struct run *r, const struct plan_store *there)
{
    return r->was_back >> (there - r->to->stores.v) & 1;
}

static bool is_total(const json_t *line)
{
    return strcmp(item_text(line, "what"), "total") == 0;
}

/* What the list comes to: of it, files and bytes; by its last line, operations, and when the last of them was made: that the branch was opened again later is none. */
static void put_total(json_t *lost, const char *text)
{
    json_t *all = lines_of(text), *o;
    int64_t parted = record_parse_ns(item_text(lost, "parted")), ends = -1;
    uint64_t files = 0, bytes = 0;
    size_t i;

    json_array_foreach(all, i, o) {
        if (!is_total(o)) {
            files++;
            bytes += item_u64(o, "size_after_bytes");
            continue;
        }
        if (!json_object_get(o, "operations"))
            continue;                    /* its records are gone */
        json_object_set(lost, "operations", json_object_get(o, "operations"));
        if (*item_text(o, "last"))
            json_object_set(lost, "ends", json_object_get(o, "last"));
        ends = *item_text(o, "last") ? record_parse_ns(item_text(o, "last")) : parted;
    }
    json_object_set_new(lost, "files", json_integer((json_int_t)files));
    json_object_set_new(lost, "bytes", json_integer((json_int_t)bytes));
    if (parted >= 0 && ends >= parted)               /* rounded up: where something was lost it is not 0 */
        json_object_set_new(lost, "ms", json_integer((ends - parted + 999999) / 1000000));
    json_decref(all);
}

static int put_manifest(struct run *r, const struct step *s, const struct plan_store *there, const char *branch, json_t *lost, struct err *err)
{
    const char *const argv[] = { "branch", "show", branch, "--store", there->path, NULL };
    char path[PATH_MAX + 128], hash[SEAL_HASH_TEXT], *text = NULL;
    int rc = site_spare_text(&r->view, s->other, argv, ASK_MS, MANIFEST_MAX, &text, err);

    path_of(path, r, "lost", there->h.name);
    if (rc == 0)
        rc = record_keep(path, text ? text : "", text ? strlen(text) : 0, err);
    if (rc == 0) {
        put_total(lost, text);
        seal_hash(text ? text : "", text ? strlen(text) : 0, hash);
        json_object_set_new(lost, "manifest_sha256", json_string(hash));
    }
    free(text);
    return rc;
}

void loss_after(struct run *r, const struct step *s, const struct plan_store *there, json_t *more)
{
    const char *const argv[] = { "branch", "list", "--store", there->path, NULL };
    char path[PATH_MAX + 128], known_by[80], *was, *text = NULL;
    json_t *before, *now, *lost = json_object();
    const json_t *b;
    struct err why = { 0 };
    size_t len = 0;
    int rc = site_spare_text(&r->view, s->other, argv, ASK_MS, LIST_MAX, &text, &why);

    path_of(path, r, "branches", there->h.name);
    was = read_all(path, &len);
    before = lines_of(was);
    now = lines_of(text);
    b = its_branch(r, there->h.name, before, now, known_by);
    json_object_set_new(lost, "store", json_string(there->h.name));
    json_object_set_new(lost, "site", json_string(s->other->h.name));
    if (b || rc || !known_by[0])
        json_object_set_new(lost, "branch", b ? json_string(item_text(b, "name")) : json_null());
    else
        json_object_set_new(lost, "known_by", json_string(known_by));
    if (rc == 0 && b) {
        json_object_set_new(lost, "parted", json_string(item_text(b, "parted")));
        rc = put_manifest(r, s, there, item_text(b, "name"), lost, &why);
    }
    if (rc == 0 && !b && was_back(r, there) && !known_by[0])
        rc = err_set(&why, ERR_NOENT, "it had gone back before this run, and no branch of then is there");
    if (rc) {
        json_object_set_new(lost, "unknown", record_text(why.msg));
        out_warn("site %s, store %s: what was lost is kept, but could not be listed: %s", s->other->h.name, there->h.name, why.msg);
    }
    json_object_set_new(more, "lost", lost);
    json_decref(before);
    json_decref(now);
    free(was);
    free(text);
}

/* ---- read ---- */

/* What the rejoins behind a run tell, store by store; ${over}: what is behind is of another failover. */
struct gather { const struct run *of; json_t *all; const char *dir; bool over; struct err *err; };

/* Where in the list that store is; its length: nowhere. */
static size_t of_store(const json_t *all, const char *store)
{
    size_t i;
    json_t *o;

    json_array_foreach(all, i, o)
        if (strcmp(item_text(o, "store"), store) == 0)
            break;
    return i;
}

/* Of each store the first entry that tells; until one does, the first one there is. */
static int gather_line(void *arg, const json_t *line)
{
    struct gather *g = arg;
    json_t *lost = json_object_get(line, "lost"), *o;
    const json_t *old;
    size_t i;

    if (!json_is_object(lost) || strcmp(item_text(line, "event"), "done") != 0)
        return 0;
    i = of_store(g->all, item_text(lost, "store"));
    old = json_array_get(g->all, i);
    if (old && (tells(old) || !tells(lost)))
        return 0;
    o = json_copy(lost);
    json_object_set_new(o, "directory", json_string(g->dir));
    if (old)
        json_array_set_new(g->all, i, o);
    else
        json_array_append_new(g->all, o);
    return 0;
}

static int gather_run(struct gather *g, const struct run *rejoin, struct err *err)
{
    uint64_t lines;

    g->dir = rejoin->dir;
    return record_verify(rejoin->dir, g->of->here->key ? g->of->here->key : seal_public(g->of->seal), gather_line, g, &lines, err);
}

/* The rejoins of that plan after it: one that was cut off told of some of the stores, the next one of the others. Up to the next failover of it, or switchover: one that came through found no old primary any more. */
static int gather_behind(void *arg, const char *site, const char *id)
{
    struct gather *g = arg;
    struct run *r = NULL;
    struct err why = { 0 };
    int rc = 0;

    if (g->over || strcmp(site, g->of->here->h.name) != 0 || strcmp(id, g->of->id) <= 0 || run_open(site, id, false, &r, &why))
        return 0;
    if (strcmp(r->plan->h.name, g->of->plan->h.name) == 0) {
        g->over = r->kind == RUN_FAILOVER || (r->kind == RUN_SWITCHOVER && r->up_wall_ms >= 0);
        if (r->kind == RUN_REJOIN)
            rc = gather_run(g, r, g->err);
    }
    run_close(r);
    return rc;
}

json_t *loss_of(const struct run *r, struct err *err)
{
    struct gather g = { .of = r, .all = json_array(), .err = err };
    int rc = 0;

    if (r->kind == RUN_FAILOVER)
        rc = run_each(gather_behind, &g);
    else if (r->kind == RUN_REJOIN)
        rc = gather_run(&g, r, err);
    if (rc == 0)
        return g.all;
    json_decref(g.all);
    return NULL;
}

int loss_manifest(const json_t *lost, void (*fn)(void *arg, const json_t *line), void *arg, struct err *err)
{
    char path[PATH_MAX + 128], hash[SEAL_HASH_TEXT] = "", *text;
    json_t *all, *o;
    size_t len = 0, i;

    if (!*item_text(lost, "manifest_sha256"))
        return 0;
    snprintf(path, sizeof path, "%s/out/lost.%.80s", item_text(lost, "directory"), item_text(lost, "store"));
    text = read_all(path, &len);
    if (text)
        seal_hash(text, len, hash);
    if (strcmp(hash, item_text(lost, "manifest_sha256")) != 0) {
        free(text);
        return err_set(err, ERR_DAMAGE, "%s: expected the list with the hash %.16s... that the record names, found %.16s%s", path, item_text(lost, "manifest_sha256"), text ? hash : "none", text ? "..." : "");
    }
    all = lines_of(text);
    json_array_foreach(all, i, o)
        if (!is_total(o))
            fn(arg, o);
    json_decref(all);
    free(text);
    return 0;
}

int64_t loss_ms(const struct run *r, const json_t *all)
{
    int64_t longest = -1;

    for (unsigned i = 0; i < r->from->stores.n; i++) {
        const json_t *o = json_array_get(all, of_store(all, r->from->stores.v[i].h.name));

        if (!o || !tells(o) || (*item_text(o, "branch") && !json_object_get(o, "ms")))
            return -1;
        if ((int64_t)item_u64(o, "ms") > longest)
            longest = (int64_t)item_u64(o, "ms");
    }
    return longest;
}
