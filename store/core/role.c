/* role.c: see role.h. */
#include "store/core/role.h"

#include "store/base/bytes.h"
#include "store/core/core_internal.h"
#include "store/core/standby.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char fenced_key[] = "fenced", promote_at_key[] = "promote-at";

const char *role_name(uint32_t role)
{
    static const char *const names[] = { "none", "primary", "standby", "fenced", "branch" };

    return role <= ROLE_BRANCH ? names[role] : "unknown";
}

uint32_t store_role(struct store *s)
{
    return atomic_load(&s->role);
}

bool store_role_moves(struct store *s)
{
    if (pthread_mutex_trylock(&s->role_lock) != 0)
        return true;
    pthread_mutex_unlock(&s->role_lock);
    return false;
}

uint32_t store_role_settled(struct store *s)
{
    uint32_t role;

    pthread_mutex_lock(&s->role_lock);
    role = store_role(s);
    pthread_mutex_unlock(&s->role_lock);
    return role;
}

/* ---- what fenced it: a setting, since there is no record of that epoch here ---- */

static int fence_put(struct super *sb, const struct epoch_row *by, struct err *err)
{
    char id[33], site[33], text[128];

    hex_put(id, by->id, 16);
    hex_put(site, by->site, 16);
    snprintf(text, sizeof text, "%" PRIu32 " %s %s %" PRIu64, by->number, id, site, by->first_lsn);
    return super_config_set(sb, fenced_key, text, err);
}

bool role_fence_get(const struct super *sb, struct epoch_row *by)
{
    char text[128], id[33], site[33];

    memset(by, 0, sizeof *by);
    return super_config_get(sb, fenced_key, text, sizeof text) > 0 &&
           sscanf(text, "%" SCNu32 " %32s %32s %" SCNu64, &by->number, id, site, &by->first_lsn) == 4 && strlen(id) == 32 && strlen(site) == 32 &&
           hex_get(id, by->id, 16) && hex_get(site, by->site, 16) && by->number > sb->epochs[sb->n_epochs - 1].number;
}

int role_fence_keep(struct super *sb, struct err *err)
{
    struct epoch_row noted;

    return role_fence_get(sb, &noted) ? 0 : fence_put(sb, &sb->epochs[sb->n_epochs - 1], err);
}

void role_fence_clear(struct super *sb)
{
    (void)super_config_set(sb, fenced_key, NULL, NULL);
}

bool store_fenced_by(struct store *s, struct epoch_row *by)
{
    bool yes;

    pthread_mutex_lock(&s->mark_lock);
    yes = role_fence_get(&s->sb, by);
    pthread_mutex_unlock(&s->mark_lock);
    return yes;
}

uint32_t store_epoch_known(struct store *s)
{
    struct epoch_row by;
    uint32_t n;

    pthread_mutex_lock(&s->mark_lock);
    n = s->sb.epochs[s->sb.n_epochs - 1].number;
    if (role_fence_get(&s->sb, &by) && by.number > n)
        n = by.number;
    pthread_mutex_unlock(&s->mark_lock);
    return n;
}

/* ---- changes ---- */

/* One at a time: BUSY. */
static int hold(struct store *s, bool own_passes)
{
    int rc = 0;

    pthread_mutex_lock(&s->lock);
    if (s->hold)
        rc = ERR_BUSY;
    else
        s->hold_passes = own_passes;
    s->hold_by = rc == 0 ? pthread_self() : s->hold_by;
    s->hold = true;
    pthread_mutex_unlock(&s->lock);
    return rc;
}

int store_hold(struct store *s, struct err *err)
{
    return hold(s, false) == 0 ? 0 : err_set(err, ERR_BUSY, "%s: a switchover, or a promotion to a moment, is under way; try again when it is done", s->dir != NULL ? s->dir : "store");
}

void store_unhold(struct store *s)
{
    pthread_mutex_lock(&s->lock);
    s->hold = false;
    pthread_mutex_unlock(&s->lock);
    run_progress(s);
}

/* ---- a failover that is not final ---- */

static const char uncommitted_key[] = "uncommitted";

/* (Where the settings are full it is not known, and nothing depends on it.) */
void role_uncommitted_put(struct super *sb, const uint8_t site[16])
{
    char text[33];

    if (site != NULL)
        hex_put(text, site, 16);
    (void)super_config_set(sb, uncommitted_key, site != NULL ? text : NULL, NULL);
}

void role_unbound(struct super *sb)
{
    role_fence_clear(sb);
    role_uncommitted_put(sb, NULL);
    lease_none(sb);
    standbys_none(sb);
}

void role_alone(struct super *sb)
{
    role_unbound(sb);
    (void)super_config_set(sb, promote_at_key, NULL, NULL);
}

bool store_uncommitted(struct store *s, uint8_t site[16])
{
    char text[40] = "";

    return store_role(s) == ROLE_PRIMARY && store_config_get(s, uncommitted_key, text, sizeof text) == 32 && hex_get(text, site, 16);
}

int store_commit(struct store *s, struct err *err)
{
    char text[40];

    if (store_role(s) != ROLE_PRIMARY)
        return err_set(err, ERR_FENCED, "%s: expected the primary, found a store that is %s", s->dir != NULL ? s->dir : "store", role_name(store_role(s)));
    return store_config_get(s, uncommitted_key, text, sizeof text) > 0 ? store_config_set(s, uncommitted_key, NULL, err) : 0;
}

/* The primary of before has the record by which this one took over: it follows. */
void role_followed(struct store *s, const uint8_t site[16], uint64_t acked)
{
    uint8_t was[16];

    if (store_uncommitted(s, was) && memcmp(was, site, 16) == 0 && acked > s->sb.epochs[s->sb.n_epochs - 1].first_lsn)
        (void)store_config_set(s, uncommitted_key, NULL, NULL);
}

/* No record is begun any more: those that were are written by their threads, and synced here. */
static int all_durable(struct store *s, struct err *err)
{
    struct hash128 hash;
    uint64_t last;
    int rc;

    log_last(s->log, &last, &hash);
    rc = last != 0 ? log_wait_written(s->log, last) : 0;
    if (rc == 0)
        rc = store_sync(s, err);
    if (rc == 0 && log_durable(s->log) != log_head(s->log))
        rc = err_set(err, ERR_IO, "store: expected all of its log to be durable when it gave up its role, found @%" PRIu64 " of @%" PRIu64, log_durable(s->log), log_head(s->log));
    return rc;
}

/* From here on no record is begun; those that were are synced. Who waits for room is refused. */
static int stop_changes(struct store *s, uint32_t role, struct err *err)
{
    pthread_mutex_lock(&s->lock);
    atomic_store(&s->role, role);
    s->hold = false;
    pthread_mutex_unlock(&s->lock);
    run_progress(s);
    return all_durable(s, err);
}

/* Into both copies: one that rots must not take a role with it. If it fails memory says as before, so that the next try writes; but for where and as what copies are written. */
static int write_both(struct store *s, const struct super *before, struct err *err)
{
    int rc = super_write(s->io, &s->sb, err);

    if (rc == 0)
        rc = super_write(s->io, &s->sb, err);
    if (rc < 0) {
        uint64_t gen = s->sb.gen;
        int current = s->sb.current;

        super_copy(&s->sb, before);
        s->sb.gen = gen;
        s->sb.current = current;
    }
    return rc;
}

static int write_role(struct store *s, uint32_t role, const struct epoch_row *by, struct err *err)
{
    struct super *before = malloc(sizeof *before);
    int rc = before != NULL ? 0 : err_set(err, ERR_NOMEM, "store: out of memory");

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&s->mark_lock);
    super_copy(before, &s->sb);
    if (by != NULL)
        rc = fence_put(&s->sb, by, err);
    (void)super_config_set(&s->sb, promote_at_key, NULL, NULL);      /* what was under way ends with the role */
    s->sb.role = rc == 0 ? role : s->sb.role;
    role_uncommitted_put(&s->sb, NULL);
    s->sb.durable = log_durable(s->log);
    log_last(s->log, &s->sb.last_lsn, &s->sb.last_hash);
    if (rc == 0)
        rc = write_both(s, before, err);
    if (rc == 0)
        lease_take(s);
    pthread_mutex_unlock(&s->mark_lock);
    free(before);
    return rc;
}

/* A role that appends nothing. */
static int leave(struct store *s, uint32_t role, const struct epoch_row *by, struct err *err)
{
    int rc;

    if (!s->opt.writable)
        return err_set(err, ERR_ROFS, "%s: the store is open read-only", s->dir != NULL ? s->dir : "store");
    rc = stop_changes(s, role, err);
    return rc < 0 ? rc : write_role(s, role, by, err);
}

uint32_t store_fenced_since(struct store *s)
{
    uint32_t known = store_epoch_known(s), met = atomic_load(&s->met);

    return met > known ? met : known;
}

/* Who is not primary only counts on from it, once it is promoted. */
static int note_fence(struct store *s, const struct epoch_row *by, struct err *err)
{
    struct super *before = malloc(sizeof *before);
    struct epoch_row noted;
    int rc = before != NULL ? 0 : err_set(err, ERR_NOMEM, "store: out of memory");

    pthread_mutex_lock(&s->mark_lock);
    if (rc == 0 && (!role_fence_get(&s->sb, &noted) || noted.number < by->number)) {
        super_copy(before, &s->sb);
        rc = fence_put(&s->sb, by, err);
        if (rc == 0)
            rc = write_both(s, before, err);
    }
    pthread_mutex_unlock(&s->mark_lock);
    free(before);
    return rc;
}

/* Who looked meanwhile, and did not wait (store_role_moves), looks again. */
static void role_unlock(struct store *s)
{
    pthread_mutex_unlock(&s->role_lock);
    run_progress(s);
}

/* At once, whoever changes the role meanwhile: what is written down about it, and what else there is to do, waits for him. */
static void take_no_more(struct store *s)
{
    uint32_t known = store_epoch_known(s);
    bool end;

    pthread_mutex_lock(&s->lock);
    end = atomic_load(&s->role) == ROLE_PRIMARY && atomic_load(&s->met) > known;
    if (end)
        atomic_store(&s->role, ROLE_FENCED);
    pthread_mutex_unlock(&s->lock);
    if (end)
        run_progress(s);
}

static void meet(struct store *s, uint32_t number)
{
    uint32_t known = store_epoch_known(s), met = atomic_load(&s->met);

    if (number <= known || number > known + NUMBERS_SKIPPED_MAX)
        return;
    while (met < number && !atomic_compare_exchange_weak(&s->met, &met, number))
        ;
    take_no_more(s);
}

int store_fence(struct store *s, const struct epoch_row *by, struct err *err)
{
    int rc = 0;

    if (s->opt.writable)
        meet(s, by->number);
    pthread_mutex_lock(&s->role_lock);
    if (by->number > s->sb.epochs[s->sb.n_epochs - 1].number + NUMBERS_SKIPPED_MAX)
        rc = err_set(err, ERR_BADREC, "store: somebody speaks of epoch %" PRIu32 ", and here the newest is %" PRIu32 ": that is not believed", by->number,
                     s->sb.epochs[s->sb.n_epochs - 1].number);
    else if (by->number <= s->sb.epochs[s->sb.n_epochs - 1].number)
        rc = 0;
    else if (store_role(s) == ROLE_PRIMARY || (store_role(s) == ROLE_FENCED && s->sb.role == ROLE_PRIMARY))       /* (also one that could not be written down) */
        rc = leave(s, ROLE_FENCED, by, err);
    else if (s->opt.writable)
        rc = note_fence(s, by, err);
    role_unlock(s);
    return rc;
}

/* Of a primary: what ends its role now would end it for ever. */
static int has_room(struct store *s, uint32_t most, struct err *err)
{
    uint32_t n;

    pthread_mutex_lock(&s->mark_lock);
    n = s->sb.n_epochs;
    pthread_mutex_unlock(&s->mark_lock);
    return n < most ? 0 : identity_full(s->dir, n, err);
}

int store_may_hand_over(struct store *s, struct err *err)
{
    return has_room(s, SUPER_EPOCHS_MAX - SUPER_EPOCHS_KEPT, err);
}

int store_demote(struct store *s, struct err *err)
{
    int rc = 0;

    pthread_mutex_lock(&s->role_lock);
    if (store_role(s) == ROLE_BRANCH)
        rc = err_set(err, ERR_ROFS, "%s: expected a store that has a role, found a branch, which is for reading", s->dir != NULL ? s->dir : "store");
    else if (store_role(s) == ROLE_PRIMARY)
        rc = has_room(s, SUPER_EPOCHS_MAX, err);
    if (rc == 0 && (store_role(s) != ROLE_STANDBY || s->sb.role != ROLE_STANDBY))
        rc = leave(s, ROLE_STANDBY, NULL, err);
    role_unlock(s);
    return rc;
}

/* ---- promotion ---- */

int role_holds_tree(struct store *s, struct err *err)
{
    const char *name = s->dir != NULL ? s->dir : "store";
    struct row_ino root;

    if (log_head(s->log) < s->retained.horizon)      /* made of files that are ahead of its log: what it keeps is not all there yet */
        return err_set(err, ERR_BOOTSTRAP, "%s: expected a standby that has caught up, found its log to end @%" PRIu64 ", and what it keeps to begin @%" PRIu64,
                       name, log_head(s->log), s->retained.horizon);
    if (asof_ino(s->kv, UINT64_MAX, INO_ROOT, &root, NULL, NULL) < 0)
        return err_set(err, ERR_BOOTSTRAP, "%s: expected a standby that holds a tree, found one that was never sent any", name);
    return 0;
}

int role_may_promote(struct store *s, struct err *err)
{
    const char *name = s->dir != NULL ? s->dir : "store";

    if (s->sb.role == ROLE_BRANCH)
        return err_set(err, ERR_ROFS, "%s: expected a standby, found a branch, which is for reading; `spare fork` makes a store of it", name);
    if (s->sb.role == ROLE_PRIMARY)
        return err_set(err, ERR_INVAL, "%s: expected a standby, found a store that is primary already", name);
    int rc = lease_allows(s, err);

    return rc < 0 ? rc : role_holds_tree(s, err);
}

/* It may come back, with what it had not shipped or without: what it lacks is held for it, as for any standby. */
void role_expect_back(struct store *s, const uint8_t site[16], uint64_t acked)
{
    struct standby b = { .acked = acked, .heard_s = io_wall_ns(s->io) / 1000000000 };

    struct standby known;

    if (memcmp(site, s->sb.site, 16) == 0)
        return;
    for (unsigned i = 0; i < STANDBYS_MAX; i++)          /* once a standby of this one, by a name that leads to it */
        if (standby_get(s, i, &known) && memcmp(known.site, site, 16) == 0) {
            known.acked = known.acked < acked ? known.acked : acked;
            (void)standby_note(s, &known, NULL);
            return;
        }
    memcpy(b.site, site, 16);
    snprintf(b.target, sizeof b.target, "@%02x%02x%02x%02x", site[0], site[1], site[2], site[3]);
    (void)standby_note(s, &b, NULL);     /* of a full list: then it is made anew when it comes */
}

/* role_lock is held. ${at} 0: of now. The mark that a restore follows is written with the role. */
static int promote_locked(struct store *s, uint64_t at, const char *reason, bool keep_orphans, struct err *err)
{
    char text[24];
    int rc = s->opt.writable ? 0 : err_set(err, ERR_ROFS, "%s: the store is open read-only", s->dir != NULL ? s->dir : "store");

    pthread_mutex_lock(&s->mark_lock);
    if (rc == 0)
        rc = store_sync(s, err);
    if (rc == 0)
        rc = store_apply(s, err);
    if (rc == 0)
        rc = role_may_promote(s, err);
    snprintf(text, sizeof text, "%" PRIu64, at);
    if (rc == 0)
        rc = super_config_set(&s->sb, promote_at_key, at != 0 ? text : NULL, err);
    if (rc >= 0)
        rc = identity_become_writer(s, false, reason, err);
    if (rc == 0) {
        s->lease_awaited = false;
        lease_take(s);
    } else if (at != 0 && s->sb.role != ROLE_PRIMARY) {
        (void)super_config_set(&s->sb, promote_at_key, NULL, NULL);
        if (atomic_load(&s->failed) == 0)
            (void)super_write(s->io, &s->sb, NULL);
    }
    pthread_mutex_unlock(&s->mark_lock);
    return rc == 0 ? role_settle(s, keep_orphans, err) : rc;
}

int store_promote(struct store *s, const char *reason, bool keep_orphans, struct err *err)
{
    int rc;

    pthread_mutex_lock(&s->role_lock);
    rc = promote_locked(s, 0, reason, keep_orphans, err);
    role_unlock(s);
    return rc;
}

uint64_t store_promote_unfinished(struct store *s)
{
    char text[24];

    return store_config_get(s, promote_at_key, text, sizeof text) > 0 ? strtoull(text, NULL, 10) : 0;
}

/* It goes on with another moment than it began with. */
static int note_moment(struct store *s, uint64_t at, struct err *err)
{
    char text[24];

    snprintf(text, sizeof text, "%" PRIu64, at);
    return store_config_set(s, promote_at_key, text, err);
}

/* Whoever waits for the role (store_role_settled) waits until the tree is the one of then. */
int store_promote_at(struct store *s, const struct caller *c, uint64_t at, const char *reason, bool keep_orphans, void (*progress)(void *arg, const struct restore_stats *st),
                     void *arg, struct restore_stats *st, struct err *err)
{
    const char *name = s->dir != NULL ? s->dir : "store";
    struct err why = { 0 };
    uint64_t was = store_promote_unfinished(s);
    bool held = false;
    int rc = 0;

    pthread_mutex_lock(&s->role_lock);
    if (store_role(s) == ROLE_PRIMARY && was == 0)
        rc = err_set(err, ERR_INVAL, "%s: expected a standby, found a store that is primary already; `spare restore` brings back what a tree was", name);
    if (rc == 0) {
        rc = hold(s, true);
        held = rc == 0;
        if (rc < 0)
            err_set(err, rc, "%s: a switchover is under way; try again when it is done", name);
    }
    if (rc == 0 && store_role(s) != ROLE_PRIMARY) {
        rc = promote_locked(s, at, reason, keep_orphans, err);
        take_no_more(s);                 /* a later epoch may have been met while the role was none to lose */
    } else if (rc == 0 && was != at) {
        rc = note_moment(s, at, err);
    }
    if (rc == 0 && (rc = restore_path(s, c, at, "", "", true, progress, arg, st, &why)) < 0)
        err_set(err, rc, "%s: is the primary now, but its tree is not yet the one of @%" PRIu64 ": %.300s; `spare promote --at @%" PRIu64 " %s` goes on with it", name, at, why.msg, at, name);
    if (rc == 0)
        rc = store_config_set(s, promote_at_key, NULL, err);
    role_unlock(s);
    if (held)
        store_unhold(s);
    return rc;
}
