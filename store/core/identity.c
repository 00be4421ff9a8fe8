/*
 * identity.c: who a store is and where: its place, its site, its epochs, and who writes in it from here on.
 */
#include "store/base/bytes.h"
#include "store/core/core_internal.h"
#include "store/core/fork.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void machine_id(uint8_t out[16])
{
    char text[33] = "";
    FILE *f = fopen("/etc/machine-id", "re");
    memset(out, 0, 16);
    if (f == NULL)
        return;
    if (fread(text, 1, 32, f) != 32 || !hex_get(text, out, 16))
        memset(out, 0, 16);
    fclose(f);
}

int identity_place(struct io *io, const char *dir, struct store_place *p, struct err *err)
{
    struct io_stat st;
    *p = (struct store_place){ .dev = 0 };
    if (dir == NULL)
        return 0;
    int rc = io_stat_path(io, ".", &st, err);
    if (rc < 0)
        return rc;
    machine_id(p->machine);
    p->dev = st.dev;
    p->ino = st.ino;
    return 0;
}

void identity_put_place(struct super *sb, const struct store_place *p)
{
    memcpy(sb->machine, p->machine, sizeof sb->machine);
    sb->dev = p->dev;
    sb->ino = p->ino;
}

void identity_incarnation(struct record *rec, uint64_t id, struct whereabouts *w)
{
    memset(w, 0, sizeof *w);
    *rec = (struct record){ .type = REC_INCARNATION };
    (void)gethostname(w->host, sizeof w->host - 1);
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (f != NULL) {
        if (fgets(w->boot, sizeof w->boot, f) != NULL)
            w->boot[strcspn(w->boot, "\n")] = '\0';
        fclose(f);
    }
    rec->u.incarnation.id = id;
    rec->u.incarnation.host = rec_text(w->host);
    rec->u.incarnation.boot_id = rec_text(w->boot);
}

void identity_epoch(struct record *rec, const struct epoch_row *e, const char *reason)
{
    *rec = (struct record){ .type = REC_EPOCH };
    rec->u.epoch.number = e->number;
    memcpy(rec->u.epoch.site, e->site, 16);
    memcpy(rec->u.epoch.id, e->id, 16);
    memcpy(rec->u.epoch.lineage, e->lineage, 16);
    rec->u.epoch.reason = rec_text(reason);
}

uint64_t identity_random(struct io *io)
{
    uint64_t id = 0;
    while (id == 0)
        io_random(io, &id, sizeof id);
    return id;
}

int identity_check(struct store *s, struct err *err)
{
    struct store_place now;
    const struct super *sb = &s->sb;
    if (s->dir == NULL || s->opt.location != LOCATION_AS_IS)
        return 0;
    int rc = identity_place(s->io, s->dir, &now, err);
    if (rc < 0)
        return rc;
    /* device numbers change with every boot on some machines: machine and inode tell */
    if (now.ino == sb->ino && memcmp(now.machine, sb->machine, 16) == 0)
        return 0;
    return err_set(err, ERR_MOVED, "%s: the store was made on %s, inode %" PRIu64 ", and is now on %s, inode %" PRIu64
                   "; say --moved if this is the store itself (it stays what it was), --copied if the other one still exists (this one becomes a store of its own, with its history, "
                   "and ships to nobody)", s->dir,
                   memcmp(now.machine, sb->machine, 16) == 0 ? "this machine" : "another machine", sb->ino, "this machine", now.ino);
}

int identity_relocate(struct store *s, struct err *err)
{
    if (s->opt.location == LOCATION_AS_IS || !s->opt.writable)
        return 0;
    struct store_place now;
    int rc = identity_place(s->io, s->dir, &now, err);
    if (rc < 0)
        return rc;
    if (s->opt.location == LOCATION_COPIED_STANDBY) {
        if (s->sb.role == ROLE_PRIMARY)
            return err_set(err, ERR_INVAL, "%s: expected the copy of a standby, found that of a primary; `spare mount --copied` makes it a store of its own", s->dir != NULL ? s->dir : "store");
        s->opt.location = LOCATION_COPIED;
    }
    s->was_here = s->dir != NULL && now.ino == s->sb.ino && memcmp(now.machine, s->sb.machine, 16) == 0;
    if (s->opt.location == LOCATION_COPIED)
        io_random(s->io, s->sb.site, sizeof s->sb.site);
    identity_put_place(&s->sb, &now);
    return 0;
}

int identity_full(const char *name, uint32_t held, struct err *err)
{
    return err_set(err, ERR_NOSPC, "%s: expected room for one more epoch, found %" PRIu32 " of %d there (each promotion, switchover, copy and fork took one; the last %d are kept "
                   "for a promotion here). It goes on as it is, in the role that it has. To change roles again, make a new store (`spare init`), copy the tree into it and ship "
                   "that one; this one keeps its history, for reading (mount -o ro)", name != NULL ? name : "store", held, SUPER_EPOCHS_MAX, SUPER_EPOCHS_KEPT);
}

const struct epoch_row *identity_epoch_held(const struct store *s)
{
    const struct super *sb = &s->sb;
    return &sb->epochs[epoch_held(sb->epochs, sb->n_epochs, log_head(s->log)) - 1];
}

/*
 * A copy of a primary goes its own way from here: as a fork does, in a lineage of its own, so that it is no primary of what its original is, and fences nobody. A standby that is
 * promoted does, too, in an epoch of its own: whoever meets both sees the fork and where it is. Rows whose record was never made (this was cut off, or copied in that state), or was
 * lost, give way: no record carries them.
 */
static int begin_epoch(struct store *s, bool copied, struct err *err)
{
    struct super *sb = &s->sb;
    uint32_t last_number = sb->epochs[sb->n_epochs - 1].number, held = epoch_held(sb->epochs, sb->n_epochs, log_head(s->log));
    struct epoch_row fence;
    uint64_t last;
    if (role_fence_get(sb, &fence) && fence.number > last_number)    /* of which there is no record here */
        last_number = fence.number;
    if (last_number >= INT32_MAX)
        return err_set(err, ERR_NOSPC, "store: an epoch of number %" PRIu32 " is known, after which there is none", last_number);
    if (copied && super_epochs_left(held) == 0)          /* nothing could follow it */
        return err_set(err, ERR_NOSPC, "%s: expected room for one more epoch, found %" PRIu32 " of %d there (the last %d are kept for promotions), so this copy cannot become a store of its own. Read it "
                       "(mount -o ro), and copy its tree into a new store (`spare init`); do not say --moved while the other one exists: both would be the same primary",
                       s->dir != NULL ? s->dir : "store", held, SUPER_EPOCHS_MAX, SUPER_EPOCHS_KEPT);
    if (held == SUPER_EPOCHS_MAX)
        return identity_full(s->dir, held, err);
    struct epoch_row *e = &sb->epochs[held];
    sb->n_epochs = held + 1;
    *e = (struct epoch_row){ .number = last_number + 1, .first_lsn = log_head(s->log) };
    if (copied)
        io_random(s->io, sb->lineage, 16);
    memcpy(e->site, sb->site, 16);
    memcpy(e->lineage, sb->lineage, 16);
    io_random(s->io, e->id, 16);
    log_last(s->log, &last, &e->prev_hash);
    role_fence_clear(sb);
    lease_clear(sb);
    if (!copied)
        return 0;
    role_unbound(sb);
    fork_mark(sb, last);
    return 0;
}

/* What is kept of the past, of the lineage of now, in both copies. */
static int put_retained(struct store *s, struct err *err)
{
    struct retained next = s->retained;
    int rc = retained_write(s->io, s->sb.lineage, &next, err);
    if (rc == 0)
        rc = retained_write(s->io, s->sb.lineage, &next, err);
    pthread_rwlock_wrlock(&s->retained_lock);
    s->retained = next;
    pthread_rwlock_unlock(&s->retained_lock);
    if (rc == 0)
        s->retained_both = next.gen;
    return rc;
}

/* The records are the truth about epochs: a table that is behind them is an older copy of the superblock, and what else it says may be old. */
int identity_check_epoch(const struct store *s, struct err *err)
{
    uint32_t known = s->sb.epochs[s->sb.n_epochs - 1].number;
    if (!s->opt.writable || s->ix.meta.epoch <= known)
        return 0;
    return err_set(err, ERR_DAMAGE, "superblock: its newest epoch is %u, but the log has records of epoch %u: the copy that knew it is lost. "
                   "Reading works (mount -o ro)", known, s->ix.meta.epoch);
}

static int append_marker(struct store *s, struct record *rec, const char *what, struct err *err)
{
    const struct caller nobody = { 0 };
    int rc = change_own(s);
    if (rc == 0)
        rc = change_commit(s, &nobody, rec, NULL);
    return rc < 0 ? err_set(err, rc, "store: cannot record its %s: %s", what, err_text(rc)) : 0;
}

/*
 * A promotion failed. Where its record was not begun (${none}) it is undone in both superblocks: else the store would follow on in memory, and be primary of somebody else's epoch at its
 * next open. Where that fails, too, or the record was begun, nothing may go on here before the disk was read anew.
 */
static void take_back(struct store *s, const struct super *before, bool none)
{
    struct err why = { 0 };
    uint64_t gen = s->sb.gen;
    int current = s->sb.current, rc = none ? 0 : ERR_POISONED;
    super_copy(&s->sb, before);
    s->sb.gen = gen;
    s->sb.current = current;
    if (rc == 0)
        rc = super_write(s->io, &s->sb, &why);
    if (rc == 0)
        rc = super_write(s->io, &s->sb, &why);
    history_epochs(s->history, &s->sb);
    packs_epochs(s->packs, s->sb.epochs, s->sb.n_epochs);
    if (rc == 0)                         /* who wrote until now goes on */
        rc = log_set_writer(s->log, identity_epoch_held(s)->number, identity_epoch_held(s)->id, s->sb.incarnation, &why);
    if (rc < 0)
        store_fail(s, ERR_POISONED, &why);
}

/*
 * From here on the log may grow: who writes, and that the end is not known any more. A new row of epochs is durable before its
 * record; where a crash came between, the row points to the end of the log, and the record is made now.
 *
 * A lineage of its own is in both superblocks first, then in both retained sets, then in segments and in the record; until that is there a set of the lineage before is taken for the
 * store's (retained_read), and made its own at the next open.
 */
static int become_writer(struct store *s, bool clean, const char *promote, bool copied, struct err *err)
{
    struct super *before = malloc(sizeof *before);
    struct record rec;
    struct whereabouts w;
    struct epoch_row other = { 0 };
    int rc;
    if (before == NULL)
        return err_set(err, ERR_NOMEM, "store: out of memory");
    super_copy(before, &s->sb);
    /* It took over from this one; else this one may from it. (A note of this site's own epoch, whose row went, says nothing of another.) */
    bool fenced = role_fence_get(&s->sb, &other) && memcmp(other.site, s->sb.site, 16) != 0;
    if (!fenced)
        other = *identity_epoch_held(s);
    s->series = s->ix.meta.series != 0;
    rc = promote != NULL || copied ? begin_epoch(s, copied, err) : 0;
    if (rc < 0) {
        free(before);
        return rc;
    }
    const struct epoch_row *e = &s->sb.epochs[s->sb.n_epochs - 1];
    bool new_epoch = e->first_lsn >= log_head(s->log) && memcmp(e->site, s->sb.site, 16) == 0;
    bool forked = new_epoch && s->sb.n_epochs > 1 && memcmp(e->lineage, e[-1].lineage, 16) != 0;   /* fork.h */
    uint64_t id = clean && !new_epoch && s->sb.incarnation != 0 ? s->sb.incarnation : identity_random(s->io);
    bool fresh = id != s->sb.incarnation;
    if (promote != NULL)                 /* (of a primary of before that takes over again it is no failover) */
        role_uncommitted_put(&s->sb, before->role == ROLE_STANDBY && memcmp(other.site, s->sb.site, 16) != 0 ? other.site : NULL);
    s->sb.role = ROLE_PRIMARY;
    s->sb.incarnation = id;
    s->sb.clean = 0;
    s->sb.durable = log_durable(s->log);
    s->sb.segment_gen = log_newest(s->log);
    log_last(s->log, &s->sb.last_lsn, &s->sb.last_hash);
    rc = super_write(s->io, &s->sb, err);
    if (rc == 0 && new_epoch)            /* into both copies: one that rots must not take an epoch, or a site, with it */
        rc = super_write(s->io, &s->sb, err);
    history_epochs(s->history, &s->sb);
    packs_epochs(s->packs, s->sb.epochs, s->sb.n_epochs);
    if (rc == 0 && forked && promote == NULL)    /* (a standby of a fork was made with a set of its lineage) */
        rc = put_retained(s, err);
    log_set_lineage(s->log, s->sb.lineage);
    if (rc == 0)
        rc = log_set_writer(s->log, e->number, e->id, id, err);
    if (rc == 0 && new_epoch) {
        identity_epoch(&rec, e, promote != NULL ? promote : copied ? "copied" : forked ? "forked" : "begun before, and cut off");
        rc = append_marker(s, &rec, "epoch", err);
        if (rc == 0 && rec.lsn != e->first_lsn)
            rc = err_set(err, ERR_DAMAGE, "store: its epoch %u should begin @%" PRIu64 ", the log ends @%" PRIu64, e->number,
                         e->first_lsn, rec.lsn);
    }
    if (rc == 0 && fresh) {
        identity_incarnation(&rec, id, &w);
        rc = append_marker(s, &rec, "incarnation", err);
    }
    if (rc < 0 && promote != NULL)
        take_back(s, before, log_head(s->log) == e->first_lsn);
    free(before);
    if (rc < 0)
        return rc;
    if (promote != NULL)
        role_expect_back(s, other.site, fenced && other.first_lsn < e->first_lsn ? other.first_lsn : e->first_lsn);
    pthread_mutex_lock(&s->lock);
    atomic_store(&s->role, ROLE_PRIMARY);    /* from here on others append, too */
    pthread_mutex_unlock(&s->lock);
    return 0;
}

/*
 * Told to be a copy where a lineage was begun, and cut off: there may be segments of it, so it becomes one of those the store had. Until its own is written it lies nowhere: cut off here it
 * must not be taken for the other one, which ends the same, in the same epoch.
 */
static int end_begun(struct store *s, bool clean, struct err *err)
{
    struct store_place here = { .dev = s->sb.dev, .ino = s->sb.ino };
    uint8_t site[16];
    int rc;
    memcpy(here.machine, s->sb.machine, 16);
    identity_put_place(&s->sb, &(struct store_place){ .dev = 0 });
    memcpy(site, s->sb.site, 16);
    memcpy(s->sb.site, s->sb.epochs[s->sb.n_epochs - 1].site, 16);
    rc = become_writer(s, clean, NULL, false, err);
    if (rc == 0)
        rc = store_sync(s, err);
    memcpy(s->sb.site, site, 16);        /* (nothing was written of it yet) */
    identity_put_place(&s->sb, &here);
    return rc;
}

int identity_become_writer(struct store *s, bool clean, const char *promote, struct err *err)
{
    bool copied = s->opt.location == LOCATION_COPIED && promote == NULL;
    bool begun = copied && memcmp(identity_epoch_held(s)->lineage, s->sb.lineage, 16) != 0;
    if (copied && !begun && s->was_here && super_before(&s->sb) != NULL)
        return err_set(err, ERR_INVAL, "%s: expected a store that was copied just now, found one that lies where it says and is a store of its own already; leave --copied away. (If it came "
                       "here as part of a whole disk or machine that was copied, copy its directory, and say --copied of that)", s->dir);
    int rc = begun ? end_begun(s, clean, err) : 0;
    return rc < 0 ? rc : become_writer(s, clean && !begun, promote, copied, err);
}

/* The standby's part: nothing is appended but what comes from the primary; frames name this site's own writer. */
int identity_become_follower(struct store *s, bool clean, struct err *err)
{
    struct super *sb = &s->sb;
    sb->incarnation = clean && sb->incarnation != 0 ? sb->incarnation : identity_random(s->io);
    sb->clean = 0;
    sb->durable = log_durable(s->log);
    sb->segment_gen = log_newest(s->log);
    log_last(s->log, &sb->last_lsn, &sb->last_hash);
    int rc = super_write(s->io, sb, err);
    if (rc == 0 && s->opt.location == LOCATION_COPIED)
        rc = super_write(s->io, sb, err);    /* its new site, into both copies */
    const struct epoch_row *e = identity_epoch_held(s);
    return rc < 0 ? rc : log_set_writer(s->log, e->number, e->id, sb->incarnation, err);
}

/* ---- looking at it ---- */

void store_super(struct store *s, struct super *out)
{
    pthread_mutex_lock(&s->mark_lock);
    super_copy(out, &s->sb);
    pthread_mutex_unlock(&s->mark_lock);
}

void store_epoch_id(struct store *s, uint32_t number, uint8_t id[16])
{
    memset(id, 0, 16);
    pthread_mutex_lock(&s->mark_lock);
    for (uint32_t i = 0; i < s->sb.n_epochs; i++)
        if (s->sb.epochs[i].number == number)
            memcpy(id, s->sb.epochs[i].id, 16);
    pthread_mutex_unlock(&s->mark_lock);
}

void identity_info(struct store *s, struct store_info *info)
{
    const struct super *sb = &s->sb;
    pthread_mutex_lock(&s->mark_lock);
    memcpy(info->lineage, sb->lineage, sizeof info->lineage);
    memcpy(info->site, sb->site, sizeof info->site);
    info->role = sb->role;
    info->key_id = sb->key_id;
    info->epoch = sb->n_epochs > 0 ? sb->epochs[sb->n_epochs - 1].number : 0;
    info->n_epochs = sb->n_epochs;
    info->incarnation = sb->incarnation;
    info->super_gen = sb->gen;
    info->created_wall_ns = sb->created_wall_ns;
    info->clean = sb->clean != 0;
    pthread_mutex_unlock(&s->mark_lock);
}
