/*
 * restore.c: restore and undo: one series of ordinary records each, so that no moment resolves in the middle. Cut off by
 * a crash, what was done stays, and the moment before it is where it was.
 *
 * Undo keeps no state. Every restored file names, in its row, the version it brought back (origin). With id(v) = origin,
 * or its own content where that is 0, the versions of a name read from old to new are edits (origin 0: pushed
 * behind the position, what was ahead is given up) and moves (origin set: the position is that id). Backwards:
 *   undo: find where the present id was pushed; the version before it is where the position was then.
 *   redo: the newest edit that was pushed when the position was the present id, if it is newer than that id's own push.
 */
#include "store/core/restore.h"
#include "store/core/retain.h"
#include "store/core/core_internal.h"
#include "store/core/moment.h"
#include "store/core/restore_internal.h"
#include "store/core/version_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The directory and last name of a live path. ${nlen} 0: the root. */
struct place { uint64_t parent; const char *name; size_t nlen; };

static int place_of(struct store *s, const char *path, struct place *out, struct err *err)
{
    const char *p = path, *name, *last = NULL;
    size_t len;
    struct row_ino row;
    *out = (struct place){ .parent = INO_ROOT, .name = "" };
    while (path_next(&p, &name, &len)) {
        last = out->name = name;
        out->nlen = len;
    }
    if (last == NULL)
        return 0;
    if (out->nlen > REC_NAME_MAX)
        return err_set(err, ERR_NAMETOOLONG, "%s: %s", path, err_text(ERR_NAMETOOLONG));
    if (out->nlen == 2 && memcmp(last, "..", 2) == 0)
        return err_set(err, ERR_INVAL, "%s: expected a path without \"..\"", path);
    char *dir = strndup(path, (size_t)(last - path));
    if (dir == NULL)
        return err_set(err, ERR_NOMEM, "restore: out of memory");
    int rc = store_walk(s, AT_LIVE, dir, &out->parent, &row, err);
    if (rc == 0 && !S_ISDIR(row.mode))
        rc = err_set(err, ERR_NOTDIR, "%s: %s", dir, err_text(ERR_NOTDIR));
    free(dir);
    return rc;
}

static void restore_init(struct restore *r, struct store *s, const struct caller *c, uint64_t at, struct restore_stats *st, struct err *err)
{
    memset(r, 0, sizeof *r);
    memset(st, 0, sizeof *st);
    r->s = r->from = s;
    r->same_until = UINT64_MAX;
    /* rights come from the past, not from who restores it */
    r->c = (struct caller){ .uid = c->uid, .gid = c->gid, .pid = c->pid, .unique = c->unique };
    r->at = at;
    r->st = st;
    r->err = err;
}

/* The series around ${src} onto ${to}. Its end is written whatever happens inside, unless the store has failed. */
static int in_series(struct restore *r, const char *what, uint64_t src, const struct row_ino *row, const struct place *to)
{
    struct err end = { 0 };
    int rc = store_series(r->s, &r->c, true, what, r->err);
    if (rc < 0)
        return rc;
    rc = restore_entry(r, src, row, to->parent, to->name, to->nlen);
    int rc_end = store_series(r->s, &r->c, false, what, &end);
    restore_release(r);
    if (rc == 0 && rc_end < 0)
        rc = err_set(r->err, rc_end, "%s", end.msg);
    if (r->s->opt.hooks.on_settle != NULL)
        (void)r->s->opt.hooks.on_settle(r->s->opt.hooks.arg);
    return rc < 0 ? rc : store_sync(r->s, r->err);
}

static int bring(struct store *s, struct store *from, uint64_t same_until, const struct caller *c, uint64_t at, const char *src, const char *dst, bool delete_extra,
                 void (*progress)(void *arg, const struct restore_stats *st), void *arg, struct restore_stats *stats, struct err *err)
{
    struct restore_stats own;
    struct restore r;
    struct row_ino row;
    struct place to;
    char what[512];
    uint64_t ino = 0;
    if (at == AT_LIVE)
        return err_set(err, ERR_INVAL, "restore of %s: expected a moment", src);
    restore_init(&r, s, c, at, stats != NULL ? stats : &own, err);
    r.from = from;
    r.same_until = same_until;
    r.delete_extra = delete_extra;
    r.progress = progress;
    r.arg = arg;
    int rc = store_walk(from, at, src, &ino, &row, err);
    if (rc == 0)
        rc = place_of(s, dst, &to, err);
    if (rc == 0 && to.nlen == 0 && !S_ISDIR(row.mode))
        rc = err_set(err, ERR_EXIST, "restore of %s: the target is the root directory; name a file in it", src);
    if (rc < 0)
        return rc;
    snprintf(what, sizeof what, "restore %.200s to %.200s", src, dst);
    return in_series(&r, what, ino, &row, &to);
}

int restore_path(struct store *s, const struct caller *c, uint64_t at, const char *src, const char *dst, bool delete_extra,
                 void (*progress)(void *arg, const struct restore_stats *st), void *arg, struct restore_stats *stats, struct err *err)
{
    return bring(s, s, UINT64_MAX, c, at, src, dst, delete_extra, progress, arg, stats, err);
}

int restore_branch(struct store *s, const struct caller *c, struct store *branch, uint64_t parted, const char *src, const char *dst, bool delete_extra,
                   void (*progress)(void *arg, const struct restore_stats *st), void *arg, struct restore_stats *stats, struct err *err)
{
    uint64_t at = 0;
    int rc = moment_resolve(branch, "now", &at, err);
    return rc < 0 ? rc : bring(s, branch, parted, c, at, src, dst, delete_extra, progress, arg, stats, err);
}

/* ---- undo ---- */

struct search {
    bool redo;
    bool begun;                /* the newest version was seen: id is set */
    bool live;                 /* it is what the name holds now */
    bool pushed;               /* the place where id was pushed was passed */
    uint64_t id;
    bool found;
    struct version_seen hit;
    struct version_seen newer; /* the version before the present one in the scan, towards now */
    bool has_newer;
    struct version_seen second;   /* fallback for an id that was never pushed under this name: what came before it */
    bool has_second;
};

static int search_one(void *arg, const struct version_seen *x)
{
    struct search *k = arg;
    if (x->v.deleted)
        return 0;
    if (!k->begun) {
        k->begun = true;
        k->live = x->v.live;
        k->id = version_id(x);
        if (!x->v.live && !k->redo) {    /* the name is gone: its last version comes back */
            k->hit = *x;
            k->found = true;
            return 1;
        }
    }
    if (k->redo) {
        if (k->has_newer && k->newer.origin == 0 && version_id(x) == k->id && version_id(&k->newer) != k->id) {
            k->hit = k->newer;
            k->found = true;
            return 1;
        }
        k->newer = *x;
        k->has_newer = true;
        return x->origin == 0 && x->v.content == k->id;
    }
    if (version_id(x) != k->id && !k->has_second) {
        k->second = *x;
        k->has_second = true;
    }
    if (k->pushed && version_id(x) != k->id) {
        k->hit = *x;
        k->found = true;
        return 1;
    }
    if (x->origin == 0 && x->v.content == k->id)
        k->pushed = true;
    return 0;
}

int undo_path(struct store *s, const struct caller *c, const char *path, bool redo, struct err *err)
{
    struct search k = { .redo = redo };
    struct restore_stats st;
    struct restore r;
    struct row_ino row;
    struct place to;
    char what[512];
    int rc = store_walk(s, AT_LIVE, path, NULL, &row, NULL);
    if (rc == 0 && S_ISDIR(row.mode))
        return err_set(err, ERR_ISDIR, "%s: a directory has no versions to go back to; see: spare restore --at", path);
    if (nohistory_explain(s, path, err) == 1)
        return ERR_NOENT;
    rc = version_scan(s, path, false, search_one, &k, err);
    if (rc < 0)
        return rc;
    if (!k.found && !k.pushed && k.has_second && !redo) {
        k.hit = k.second;
        k.found = true;
    }
    if (!k.found)
        return err_set(err, ERR_NOENT, "%s: there is no %s version", path, redo ? "later" : "earlier");
    const uint64_t at = k.hit.v.lsn;     /* a moment listed in which it was there */
    rc = store_enter(s, at);
    if (rc < 0)
        return err_set(err, rc, "%s: out of memory", path);
    restore_init(&r, s, c, at, &st, err);
    rc = store_lists(s, at) ? place_of(s, path, &to, err) : err_set(err, ERR_NOMOMENT, "%s: that version was let go of just now", path);
    if (rc == 0)
        rc = store_getattr(s, at, k.hit.v.ino, &row, NULL);
    if (rc < 0 && (err == NULL || err->code == 0))
        err_set(err, rc, "%s: %s", path, err_text(rc));
    if (rc == 0) {
        row.nlink = 1;                   /* of this name alone */
        snprintf(what, sizeof what, "%s %.400s", redo ? "redo" : "undo", path);
        rc = in_series(&r, what, k.hit.v.ino, &row, &to);
    }
    store_leave(s, at);
    return rc;
}
