/* marks.c: records that mark the stream rather than change the tree, and settings. */
#include "store/core/core_internal.h"

#include "store/core/retain.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int snap_get(struct store *s, const char *name, struct row_snap *row, uint8_t **val, struct err *err)
{
    uint8_t key[KV_KEY_MAX];
    size_t vlen = 0;
    *val = NULL;
    int rc = kv_get(s->kv, key, key_snap(key, name, strlen(name)), val, &vlen, err);
    return rc < 0 ? rc : row_snap_decode(*val, vlen, row, err);
}

static int snapshot_checks(uint32_t action, const char *name, int found, const struct row_snap *old, struct err *err)
{
    if (found < 0 && found != ERR_NOENT)
        return found;
    if (action == RSN_CREATE && found == 0)
        return err_set(err, ERR_EXIST, "snapshot %s: it exists already (moment @%llu); choose another name", name,
                       (unsigned long long)old->at);
    if (action != RSN_CREATE && found == ERR_NOENT)
        return err_set(err, ERR_NOENT, "snapshot %s: there is none of this name; see: spare snapshot list", name);
    if (action == RSN_DELETE && old->held)
        return err_set(err, ERR_BUSY, "snapshot %s: it is held (%.*s); release it first", name, (int)old->reason_len,
                       (const char *)old->reason);
    return 0;
}

/*
 * A moment before the time from which on all are listed is kept by a point, which is durable before the name is. Of a younger one the name is enough: it is
 * looked at when that time goes on.
 */
static int snapshot_point(struct store *s, const char *name, uint64_t at, struct err *err)
{
    struct retained next = s->retained;
    uint32_t i = 0;
    int rc;
    if (at >= s->retained.listed)
        return 0;
    if (!retained_lists(&s->retained, at))
        return err_set(err, ERR_NOMOMENT, "snapshot %s: moment @%llu is not kept any more; the nearest one is @%llu", name, (unsigned long long)at,
                       (unsigned long long)retained_near(&s->retained, at));
    next.point = malloc((next.n + (size_t)1) * sizeof *next.point);
    if (next.point == NULL)
        return err_set(err, ERR_NOMEM, "snapshot %s: out of memory", name);
    while (i < s->retained.n && (s->retained.point[i].lsn < at || (s->retained.point[i].lsn == at && s->retained.point[i].kind < RETAIN_SNAPSHOT)))
        i++;
    memcpy(next.point, s->retained.point, i * sizeof *next.point);
    next.point[i] = (struct retained_point){ .lsn = at, .kind = RETAIN_SNAPSHOT, .placed_ns = io_wall_ns(s->io) };
    if (i < s->retained.n && s->retained.point[i].lsn == at && s->retained.point[i].kind == RETAIN_SNAPSHOT) {
        free(next.point);                /* another name of it has one */
        return 0;
    }
    memcpy(next.point + i + 1, s->retained.point + i, (s->retained.n - i) * sizeof *next.point);
    next.n++;
    rc = retain_write_locked(s, &next, err);
    free(next.point);
    return rc;
}

int store_snapshot(struct store *s, const struct caller *c, uint32_t action, const char *name, uint64_t at, const char *reason,
                   const char *person, int64_t until_ns, uint64_t *at_out, struct err *err)
{
    struct row_snap old = { 0 };
    struct record rec = { .type = REC_SNAPSHOT };
    uint8_t *val = NULL;
    if (strlen(name) > REC_NAME_MAX || strlen(name) == 0)
        return err_set(err, ERR_NAMETOOLONG, "snapshot: a name has 1 to %d bytes", REC_NAME_MAX);
    if ((reason != NULL && strlen(reason) > 4096) || (person != NULL && strlen(person) > 4096))
        return err_set(err, ERR_TOOLONG, "snapshot %s: reason and person have at most 4096 bytes", name);
    /* two that create one name at once: the second sees the first, since both go through this lock */
    pthread_mutex_lock(&s->mark_lock);
    int rc = store_apply(s, err);
    if (rc == 0)
        rc = snapshot_checks(action, name, snap_get(s, name, &old, &val, err), &old, err);
    if (rc == 0 && action == RSN_CREATE && at != AT_LIVE)
        rc = snapshot_point(s, name, at, err);
    if (rc == 0 && (rc = change_begin(s, NULL)) < 0)
        err_set(err, rc, "snapshot %s: %s", name, err_text(rc));
    if (rc < 0)
        goto out;
    rec.u.snapshot.action = action;
    rec.u.snapshot.at = action != RSN_CREATE ? old.at : at == AT_LIVE ? s->ix.meta.last_lsn : at;
    rec.u.snapshot.name = rec_text(name);
    rec.u.snapshot.until_ns = action == RSN_HOLD ? until_ns : 0;
    rec.u.snapshot.reason = reason != NULL ? rec_text(reason) : (struct rec_bytes){ old.reason, old.reason_len };
    rec.u.snapshot.person = person != NULL ? rec_text(person) : (struct rec_bytes){ old.person, old.person_len };
    rc = change_commit(s, c, &rec, NULL);
    if (rc < 0)
        err_set(err, rc, "snapshot %s: %s", name, err_text(rc));
    else
        rc = store_sync(s, err);             /* what is named is durable */
    if (rc == 0)
        rc = store_apply(s, err);
    if (rc == 0 && at_out != NULL)
        *at_out = rec.u.snapshot.at;
out:
    pthread_mutex_unlock(&s->mark_lock);
    free(val);
    return rc < 0 ? rc : 0;
}

int store_series(struct store *s, const struct caller *c, bool begin, const char *what, struct err *err)
{
    struct record rec = { .type = begin ? REC_SERIES_BEGIN : REC_SERIES_END };
    int rc = change_begin(s, NULL);
    if (rc < 0)
        return err_set(err, rc, "series: %s", err_text(rc));
    if (begin == s->series) {
        rc = err_set(err, begin ? ERR_BUSY : ERR_INVAL, begin ? "another restore is under way; try again when it is done"
                                                              : "no series is open");
        return change_abort(s, rc);
    }
    rec.u.series.id = begin ? 0 : s->ix.meta.series;
    rec.u.series.text = rec_text(what);
    rc = change_commit(s, c, &rec, NULL);
    return rc < 0 ? err_set(err, rc, "series: %s", err_text(rc)) : 0;
}

int store_canary(struct store *s, uint64_t value, struct err *err)
{
    const struct caller nobody = { 0 };
    struct record rec = { .type = REC_CANARY };
    int rc = change_begin(s, NULL);
    if (rc < 0)
        return err_set(err, rc, "canary: %s", err_text(rc));
    rec.u.canary.nonce = value;
    rc = change_commit(s, &nobody, &rec, NULL);
    return rc < 0 ? err_set(err, rc, "canary: %s", err_text(rc)) : 0;
}

int store_mounted(struct store *s, uint64_t mount_id, bool mounted, const char *dir, struct err *err)
{
    const struct caller nobody = { 0 };
    char host[256] = "";
    struct record rec = { .type = REC_MOUNT };
    (void)gethostname(host, sizeof host - 1);
    /* part of taking up the role, or of leaving the mount: it waits for nobody's lease or hold */
    int rc = s->opt.writable ? change_own(s) : ERR_ROFS;
    if (rc == 0 && atomic_load(&s->role) != ROLE_PRIMARY)
        rc = change_abort(s, ERR_FENCED);
    if (rc < 0)
        return err_set(err, rc, "mount record: %s", err_text(rc));
    rec.u.mount.id = mount_id;
    rec.u.mount.action = mounted ? 1 : 2;
    rec.u.mount.host = rec_text(host);
    rec.u.mount.dir = rec_text(dir);
    rc = change_commit(s, &nobody, &rec, NULL);
    return rc < 0 ? err_set(err, rc, "mount record: %s", err_text(rc)) : 0;
}

int store_config_get(struct store *s, const char *name, char *buf, size_t cap)
{
    pthread_mutex_lock(&s->mark_lock);
    int rc = super_config_get(&s->sb, name, buf, cap);
    pthread_mutex_unlock(&s->mark_lock);
    return rc;
}

int store_config_set(struct store *s, const char *name, const char *value, struct err *err)
{
    if (!s->opt.writable)
        return err_set(err, ERR_ROFS, "config %s: the store is open read-only", name);
    pthread_mutex_lock(&s->mark_lock);
    struct super *old = malloc(sizeof *old);
    int rc = old != NULL ? 0 : err_set(err, ERR_NOMEM, "config %s: out of memory", name);
    if (rc == 0) {
        super_copy(old, &s->sb);
        rc = super_config_set(&s->sb, name, value, err);
        if (rc == 0 && value == NULL && strcmp(name, "lease") == 0)
            lease_unset(&s->sb);
        if (rc == 0 && (rc = super_write(s->io, &s->sb, err)) < 0)
            super_copy(&s->sb, old);
    }
    if (rc >= 0 && lease_is_in(name))
        lease_take(s);
    if (rc >= 0 && strcmp(name, "nohistory") == 0) {
        pthread_mutex_lock(&s->lock);
        nohistory_set(&s->nohistory, value);
        pthread_mutex_unlock(&s->lock);
    }
    free(old);
    pthread_mutex_unlock(&s->mark_lock);
    return rc < 0 ? rc : 0;
}

/* Of superblock and retained set: is one of the two copies bad? mark_lock is held, so none is just being written. */
static int look_at_copies_locked(struct store *s, struct err *super, struct err *set, struct err *err)
{
    struct super *sb = malloc(sizeof *sb);
    struct retained r = { 0 };
    int rc = sb != NULL ? super_read(s->io, sb, super, err) : err_set(err, ERR_NOMEM, "superblock: out of memory");
    if (rc == ERR_DAMAGE && err != NULL) {       /* both, while it is open: what is in memory counts */
        *super = *err;
        rc = 0;
    }
    free(sb);
    if (rc == 0)
        rc = retained_read(s->io, s->sb.lineage, NULL, &r, set, err);
    if (rc == ERR_DAMAGE && err != NULL) {
        *set = *err;
        rc = 0;
    }
    retained_release(&r);
    return rc;
}

int store_copies_heal(struct store *s, struct err *why, struct err *err)
{
    struct err super = { 0 }, set = { 0 }, own = { 0 };
    err = err != NULL ? err : &own;
    pthread_mutex_lock(&s->mark_lock);
    int rc = look_at_copies_locked(s, &super, &set, err);
    if (rc == 0 && s->opt.writable && super.code != 0)
        rc = super_write(s->io, &s->sb, err);    /* over the bad one: the other stays until that is durable */
    if (set.code != 0)
        s->retained_both = 0;
    pthread_mutex_unlock(&s->mark_lock);
    if (rc == 0 && s->opt.writable && set.code != 0)
        rc = retain_both_copies(s, err);
    *why = super.code != 0 ? super : set;
    return rc == 0 && why->code != 0 ? 1 : rc;
}
