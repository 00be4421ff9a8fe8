/*
 * follow.c: the standby's way of a record: verified, appended as it is, applied by the same function as everywhere, shown.
 *
 * An epoch's row is durable in both superblocks before its EPOCH record is in the log. Where a cut comes between, the row points to the end
 * of the log; the record comes again from the primary and finds its row, or another primary's takes its place.
 */
#include "store/core/core_internal.h"
#include "store/core/lacking.h"
#include "store/core/role.h"

#include "store/log/frame.h"

#include <inttypes.h>
#include <stdlib.h>

static int bad_record(struct err *err, uint64_t lsn, const char *expected)
{
    return err_set(err, ERR_BADREC, "record @%" PRIu64 " of the primary: expected %s", lsn, expected);
}

/* Whether it is the next record: asked before anything is done about it. */
static int is_next(struct store *s, const struct record *rec, struct err *err)
{
    struct hash128 hash;
    uint64_t last;
    log_last(s->log, &last, &hash);
    if (rec->lsn == log_head(s->log) && rec->prev_lsn == last && hash128_eq(&rec->prev_hash, &hash))
        return 0;
    return bad_record(err, rec->lsn, "the one that follows the last one held here");
}

/* ---- epochs ---- */

static int add_row(struct store *s, const struct record *rec, struct err *err)
{
    struct super *sb = &s->sb;
    uint32_t n = epoch_held(sb->epochs, sb->n_epochs, rec->lsn);     /* those behind: their records never came, or were lost */
    struct epoch_row e = { .number = rec->u.epoch.number, .first_lsn = rec->lsn, .prev_hash = rec->prev_hash };
    if (n >= SUPER_EPOCHS_MAX - SUPER_EPOCHS_KEPT)       /* what a primary may say, however wrong it is, leaves this site able to go on by itself */
        return err_set(err, ERR_NOSPC, "%s: expected room for one more epoch of its primary, found %" PRIu32 " of %d there (the last %d are kept for a promotion here): this standby takes nothing any "
                       "more; it keeps what it has, and can be promoted. For a standby again make a new store (`spare init`), copy the primary's tree into it and ship that one",
                       s->dir != NULL ? s->dir : "store", n, SUPER_EPOCHS_MAX, SUPER_EPOCHS_KEPT);
    memcpy(e.site, rec->u.epoch.site, 16);
    memcpy(e.id, rec->u.epoch.id, 16);
    memcpy(e.lineage, rec->u.epoch.lineage, 16);
    const char *wrong = epoch_row_wrong(&e, &sb->epochs[n - 1]);
    if (wrong != NULL || e.number - sb->epochs[n - 1].number > NUMBERS_SKIPPED_MAX)
        return bad_record(err, rec->lsn, "an epoch that follows the one before");
    struct super *before = malloc(sizeof *before);
    if (before == NULL)
        return err_set(err, ERR_NOMEM, "store: out of memory");
    super_copy(before, sb);
    if (n < sb->n_epochs)
        (void)role_fence_keep(sb, NULL);
    sb->epochs[n] = e;
    sb->n_epochs = n + 1;
    int rc = super_write(s->io, sb, err);
    if (rc == 0)
        rc = super_write(s->io, sb, err);
    if (rc < 0) {                        /* on disk or not: a row without its record does no harm */
        before->gen = sb->gen;
        before->current = sb->current;
        super_copy(sb, before);
    }
    free(before);
    history_epochs(s->history, sb);
    packs_epochs(s->packs, sb->epochs, sb->n_epochs);
    return rc;
}

/*
 * A row whose record never came, and something else is there: the primary of before goes on, and the row would part us from it at the next
 * open. Gone from both superblocks before that record is in the log. (A cut may have taken the records of several.)
 */
static int forget_row(struct store *s, const struct record *rec, struct err *err)
{
    struct super *sb = &s->sb;
    int rc = 0;
    pthread_mutex_lock(&s->mark_lock);
    if (epoch_held(sb->epochs, sb->n_epochs, rec->lsn) < sb->n_epochs) {
        uint32_t n = sb->n_epochs;

        (void)role_fence_keep(sb, NULL); /* (settings that are full forget it) */
        sb->n_epochs = epoch_held(sb->epochs, n, rec->lsn);
        rc = super_write(s->io, sb, err);
        if (rc == 0)
            rc = super_write(s->io, sb, err);
        if (rc < 0)
            sb->n_epochs = n;
        history_epochs(s->history, sb);
        packs_epochs(s->packs, sb->epochs, sb->n_epochs);
    }
    pthread_mutex_unlock(&s->mark_lock);
    return rc;
}

/* Of several whose records a cut took any may be the one that comes again; forget_row and add_row see to those behind it. */
static bool has_row(const struct super *sb, const struct record *rec)
{
    for (uint32_t i = sb->n_epochs; i-- > 0;) {
        const struct epoch_row *e = &sb->epochs[i];

        if (e->number == rec->u.epoch.number && e->first_lsn == rec->lsn && memcmp(e->id, rec->u.epoch.id, 16) == 0)
            return true;
    }
    return false;
}

/* The record that begins an epoch: its row first. From here on segments begin in it. */
static int enter_epoch(struct store *s, const struct record *rec, struct err *err)
{
    int rc = 0;
    if (rec->epoch != rec->u.epoch.number)
        return bad_record(err, rec->lsn, "the first of its epoch to be of it");
    /* What a fork has of the store it was made of comes before its own. */
    if (memcmp(rec->u.epoch.lineage, s->sb.lineage, 16) != 0 && memcmp(identity_epoch_held(s)->lineage, s->sb.lineage, 16) == 0)
        return bad_record(err, rec->lsn, "an epoch of this store's lineage");
    pthread_mutex_lock(&s->mark_lock);
    if (!has_row(&s->sb, rec))
        rc = add_row(s, rec, err);
    uint64_t incarnation = s->sb.incarnation;
    pthread_mutex_unlock(&s->mark_lock);
    return rc < 0 ? rc : log_set_writer(s->log, rec->u.epoch.number, rec->u.epoch.id, incarnation, err);
}

/* ---- what the kernel has to hear ---- */

/* Inodes of one call, each told once; names as they come. */
struct told { uint64_t *ino; size_t n; };

static void tell_ino(struct told *t, uint64_t ino)
{
    if (ino == 0 || t->ino == NULL || (t->n > 0 && t->ino[t->n - 1] == ino))
        return;
    t->ino[t->n++] = ino;
}

static void tell_name(struct store *s, struct told *t, uint64_t parent, const struct rec_bytes *name)
{
    if (parent == 0)
        return;                          /* the root has no name */
    if (s->opt.hooks.on_inval_entry != NULL)
        s->opt.hooks.on_inval_entry(s->opt.hooks.arg, parent, (const char *)name->p, name->len);
    tell_ino(t, parent);
}

static void tell(struct store *s, struct told *t, const struct record *r)
{
    switch (r->type) {
    case REC_CREATE:
        tell_name(s, t, r->u.create.parent, &r->u.create.name);
        return;
    case REC_LINK: case REC_UNLINK:
        tell_name(s, t, r->u.link.parent, &r->u.link.name);
        break;
    case REC_RENAME:
        tell_name(s, t, r->u.rename.src_parent, &r->u.rename.src_name);
        tell_name(s, t, r->u.rename.dst_parent, &r->u.rename.dst_name);
        tell_ino(t, r->u.rename.dst_ino);
        break;
    case REC_SETATTR: case REC_WRITE: case REC_CLONE: case REC_FALLOCATE: case REC_SETXATTR: case REC_REMOVEXATTR:
        break;
    default:
        return;                          /* changes nothing that can be seen in the tree */
    }
    tell_ino(t, r->ino);
}

static int ino_cmp(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void tell_end(struct store *s, struct told *t)
{
    if (t->n > 1)
        qsort(t->ino, t->n, sizeof *t->ino, ino_cmp);
    for (size_t i = 0; i < t->n; i++)
        if (i == 0 || t->ino[i] != t->ino[i - 1])
            s->opt.hooks.on_inval_ino(s->opt.hooks.arg, t->ino[i]);
}

/* ---- one record ---- */

static int take(struct store *s, const struct record *rec, const uint8_t *head, const uint8_t *data, struct err *err)
{
    struct log_slot slot;
    const struct wait backlog = { WAIT_BACKLOG, 0 };
    int rc = store_await(s, &backlog);
    if (rc == 0)
        rc = is_next(s, rec, err);
    if (rc == 0)
        rc = lacking_note(s, rec, err);
    if (rc == 0)
        rc = rec->type == REC_EPOCH ? enter_epoch(s, rec, err) : forget_row(s, rec, err);
    if (rc < 0)
        return err != NULL && err->code != 0 ? rc : err_set(err, rc, "%s", err_text(rc));
    pthread_mutex_lock(&s->lock);
    if (rec->type == REC_CREATE && rec->ino != INO_ROOT && (rec->ino != s->ix.meta.next_ino || rec->ino > INO_MAX))
        return change_abort(s, bad_record(err, rec->lsn, "the next inode number"));
    rc = atomic_load(&s->tight) == SPACE_ENOUGH ? 0 : reserve_allows(s, &(struct record){ .type = REC_WRITE }, err);
    if (rc == 0)
        rc = log_room(s->log, (uint64_t)rec->head_len + rec->data_len, err);
    if (rc == 0) {
        rc = log_append_place(s->log, rec, &slot);
        if (rc == ERR_BADREC)
            bad_record(err, rec->lsn, "one of the epoch that is begun");
        else if (rc < 0)
            err_set(err, rc, "log: %s", err_text(rc));
    }
    if (rc < 0)
        return change_abort(s, rc);
    rc = index_apply(&s->ix, rec, err);
    if (rc == 0)
        run_appended_locked(s);
    pthread_mutex_unlock(&s->lock);
    if (rc == 0)
        rc = log_append_write(s->log, &slot, head, rec->head_len, data, rec->data_len, err);
    if (rc == 0)
        rc = log_wait_written(s->log, rec->lsn);
    return rc < 0 ? store_fail(s, ERR_POISONED, err) : 0;
}

static int verify(const uint8_t *p, size_t left, struct record *rec, struct err *err)
{
    struct err why = { 0 };
    uint32_t bad = 0;
    int rc = record_decode(p, left, rec, &why);
    if (rc < 0)
        return rc == ERR_NOMEM ? err_set(err, rc, "out of memory") : err_set(err, ERR_BADREC, "a record of the primary: %s", why.msg);
    if (rec->data_len > left - rec->head_len)
        return bad_record(err, rec->lsn, "all of its data");
    if (rec->data_len > 0 && record_check_data(rec, p + rec->head_len, 0, rec->data_len, &bad) < 0)
        return err_set(err, ERR_BADREC, "record @%" PRIu64 " of the primary: its data at %" PRIu32 " is not what its checksum says", rec->lsn, bad);
    return 0;
}

static int follow(struct store *s, const uint8_t *recs, size_t len, struct err *err)
{
    struct err own = { 0 };
    struct err *e = err != NULL ? err : &own;
    struct told t = { 0 };
    struct record rec;
    uint64_t end;
    int rc = 0;
    if (!s->opt.writable)
        return err_set(e, ERR_ROFS, "store: opened read-only");
    if (atomic_load(&s->failed) != 0)
        return err_set(e, ERR_POISONED, "%s", err_text(ERR_POISONED));
    if (s->opt.hooks.on_inval_ino != NULL && (t.ino = malloc((len / REC_HEAD_BYTES * 4 + 4) * sizeof *t.ino)) == NULL)
        return err_set(e, ERR_NOMEM, "store: out of memory");
    for (size_t at = 0; at < len && rc == 0; at += (size_t)rec.head_len + rec.data_len) {
        rc = verify(recs + at, len - at, &rec, e);
        if (rc == 0)
            rc = take(s, &rec, recs + at, recs + at + rec.head_len, e);
        if (rc == 0)
            tell(s, &t, &rec);
        if (rc < 0)
            break;
    }
    end = log_head(s->log);
    tell_end(s, &t);
    free(t.ino);
    if (s->opt.hooks.on_settle == NULL || s->opt.hooks.on_settle(s->opt.hooks.arg))
        atomic_store(&s->shown, end);    /* else the next call says so */
    return rc;
}

int store_follow(struct store *s, const uint8_t *recs, size_t len, struct err *err)
{
    int rc;
    pthread_mutex_lock(&s->role_lock);
    rc = store_role(s) == ROLE_STANDBY ? follow(s, recs, len, err)
       : err_set(err, ERR_FENCED, "store: expected a standby, found one that is %s", role_name(store_role(s)));
    pthread_mutex_unlock(&s->role_lock);
    return rc;
}

uint64_t store_shown(struct store *s)
{
    return atomic_load(&s->shown);
}
