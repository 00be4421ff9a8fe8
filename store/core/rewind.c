/*
 * rewind.c: see rewind.h.
 *
 * In this order, each step durable before the next; a crash behind a step leaves:
 *   branches/NAME.part filled with links        the store of before; the part is made anew
 *   index moved into it                         the store of before, its index made anew at the next open
 *   branches/NAME.part renamed                  the same, and the branch
 *   retained set, superblock                    a standby whose setting `rewind` says where it ends: the next open that writes does the rest (rewind_finish)
 *   log ends at the fork, what lies behind is removed, the setting goes
 */
#include "store/core/rewind.h"

#include "store/core/branch.h"
#include "store/core/core_internal.h"
#include "store/core/part.h"
#include "store/core/standby.h"
#include "store/log/segment.h"
#include "store/pack/archive.h"
#include "store/pack/base.h"
#include "store/pack/pack.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 300 };
static const char rewind_key[] = "rewind";

static bool worth_keeping(struct history *h, uint64_t at)
{
    struct history_iter *it = NULL;
    struct record rec;
    bool worth = false;
    int rc = history_iter_new(h, at, UINT64_MAX, &it, NULL);

    while (rc == 0 && !worth && (rc = history_next(it, &rec, NULL, NULL)) == 1) {
        rc = 0;
        switch (rec.type) {
        case REC_INCARNATION: case REC_EPOCH: case REC_MOUNT: case REC_REAP: case REC_CANARY: case REC_PIN: case REC_POLICY: case REC_SERIES_BEGIN: case REC_SERIES_END:
            break;                       /* of who wrote, not of what */
        default:
            worth = true;
        }
    }
    history_iter_free(it);
    return worth || rc < 0;
}

bool rewind_worth_keeping(struct store *s, uint64_t at)
{
    return worth_keeping(store_history(s), at);
}

/* ---- the store ---- */

void rewind_cut_set(struct retained *r, uint64_t at)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < r->n; i++)
        if (r->point[i].lsn < at)
            r->point[n++] = r->point[i];
    r->n = n;
    r->horizon = r->horizon < at ? r->horizon : at;
    r->listed = r->listed < at ? r->listed : at;
    if (r->leaving > r->listed || r->leaving <= r->horizon)
        r->leaving = r->leaving_age_ns = 0;
}

/* What of the past is kept at the fork: moments behind it are the branch's. From the fork on everything is whole, since all of it is still to come. */
static int cut_retained(struct io *io, const struct super *sb, uint64_t at, struct err *err)
{
    struct retained r = { 0 };
    int rc = retained_read(io, sb->lineage, NULL, &r, NULL, err);

    if (rc < 0)
        return rc;
    rewind_cut_set(&r, at);
    rc = retained_write(io, sb->lineage, &r, err);
    if (rc == 0)
        rc = retained_write(io, sb->lineage, &r, err);
    retained_release(&r);
    return rc;
}

static int cut_super(struct io *io, struct super *sb, const struct rewind *r, struct err *err)
{
    uint32_t n = 1;
    int rc = role_fence_keep(sb, err);

    if (rc < 0)
        return rc;
    while (n < sb->n_epochs && sb->epochs[n].first_lsn < r->at)
        n++;
    sb->n_epochs = n;
    sb->role = ROLE_STANDBY;
    sb->clean = 1;
    sb->durable = r->at;
    sb->last_lsn = r->last_lsn;
    sb->last_hash = r->last_hash;
    /* (What fenced it, and what it was itself, stays known: a promotion here goes above all that was heard of, whomever it follows until then.) */
    standbys_cut(sb, r->at);
    (void)super_config_set(sb, "scrub-at", NULL, NULL);  /* a place of the other timeline */
    rc = super_config_set(sb, rewind_key, "begun", err);
    if (rc == 0)
        rc = super_write(io, sb, err);
    return rc < 0 ? rc : super_write(io, sb, err);
}

struct behind { struct io *io; uint64_t at; bool (*parse)(const char *, uint64_t *, uint64_t *, uint64_t *); const char *dir; bool straddles; struct err *err; };

static int look_behind(void *arg, const char *name)
{
    struct behind *b = arg;
    uint64_t first, end, gen;

    if (b->parse(name, &first, &end, &gen))
        b->straddles |= first < b->at && end > b->at;
    return 0;
}

static int remove_behind(void *arg, const char *name)
{
    struct behind *b = arg;
    uint64_t first, end, gen;
    char path[PATH_BYTES];

    if (!b->parse(name, &first, &end, &gen) || first < b->at)
        return 0;
    snprintf(path, sizeof path, "%s/%s", b->dir, name);
    return io_unlink(b->io, path, b->err);
}

static int each_behind(struct io *io, uint64_t at, int (*fn)(void *arg, const char *name), bool *straddles, struct err *err)
{
    struct behind b = { .io = io, .at = at, .parse = archive_parse, .dir = "archive", .err = err };
    int rc = io_list(io, "archive", fn, &b, err);

    if (rc == ERR_NOENT)
        rc = 0;
    b.parse = pack_parse;
    b.dir = "packs";
    if (rc == 0)
        rc = io_list(io, "packs", fn, &b, err);
    if (straddles != NULL)
        *straddles = b.straddles;
    return rc == ERR_NOENT ? 0 : rc;
}

struct bases { struct io *io; uint64_t at, least; const struct super *sb; bool fits, remove; struct err *err; };

/* Of this timeline as far as the fork. */
static bool of_ours(const struct super *sb, const struct base_head *h)
{
    for (uint32_t i = 0; sb != NULL && i < sb->n_epochs; i++)
        if (memcmp(sb->epochs[i].id, h->epoch_id, 16) == 0 && memcmp(sb->epochs[i].lineage, h->lineage, 16) == 0)
            return i + 1 == sb->n_epochs || h->applied <= sb->epochs[i + 1].first_lsn;
    return false;
}

static int one_base(void *arg, uint64_t gen)
{
    struct bases *k = arg;
    char name[BASE_NAME_MAX];
    struct base *b = NULL;
    int rc = base_open(k->io, gen, &b, NULL, NULL);
    bool behind = rc == 0 && base_head(b)->applied > k->at;

    /* records behind it must be there, or those it has are not all */
    k->fits |= !k->remove && rc == 0 && !behind && base_head(b)->applied >= k->least && of_ours(k->sb, base_head(b)) && base_check(b, NULL) == 0;
    base_close(b);
    base_name(gen, name);
    return behind && k->remove ? io_unlink(k->io, name, k->err) : 0;
}

static int first_archived(void *arg, const char *name)
{
    uint64_t *least = arg, first, end, gen;

    if (archive_parse(name, &first, &end, &gen) && first < *least)
        *least = first;
    return 0;
}

static int first_logged(void *arg, const char *name)
{
    uint64_t *least = arg, first, gen;

    if (segment_parse(name, &first, &gen) && first < *least)
        *least = first;
    return 0;
}

/* Whether all that was there at the fork is kept. */
static int horizon_fits(struct io *io, const struct super *sb, uint64_t at, struct err *err)
{
    struct retained r = { 0 };
    int rc = retained_read(io, sb->lineage, NULL, &r, NULL, err);

    if (rc == 0 && r.horizon >= at)
        rc = err_set(err, ERR_BOOTSTRAP, "the store parts from its primary @%" PRIu64 ", and keeps what was there from @%" PRIu64 " on only; it must be made anew", at, r.horizon);
    retained_release(&r);
    return rc;
}

int rewind_possible(struct io *io, const struct super *sb, const struct rewind *r, struct err *err)
{
    struct bases k = { .io = io, .at = r->at, .least = UINT64_MAX, .sb = sb, .err = err };
    bool straddles = false;
    int rc = io_list(io, "log", first_logged, &k.least, err);

    if (rc == 0)
        rc = io_list(io, "archive", first_archived, &k.least, err);
    if (rc == ERR_NOENT)
        rc = 0;
    if (rc == 0)
        rc = base_list(io, one_base, &k, err);
    if (rc == 0 && !k.fits && k.least > LOG_FIRST_ADDR)
        rc = err_set(err, ERR_BOOTSTRAP, "the store parts from its primary @%" PRIu64 ", and records before @%" PRIu64 " were let go of since; it must be made anew", r->at, k.least);
    if (rc == 0)
        rc = each_behind(io, r->at, look_behind, &straddles, err);
    if (rc == 0 && straddles)
        rc = err_set(err, ERR_BOOTSTRAP, "the store parts from its primary @%" PRIu64 ", inside of what it has packed; it must be made anew", r->at);
    return rc < 0 ? rc : horizon_fits(io, sb, r->at, err);
}

static int remove_rest(struct io *io, uint64_t at, struct err *err)
{
    static const char *const dirs[] = { "archive", "packs" };
    struct bases k = { .io = io, .at = at, .least = UINT64_MAX, .remove = true, .err = err };
    struct io_stat st;
    int rc = each_behind(io, at, remove_behind, NULL, err);

    if (rc == 0)
        rc = base_list(io, one_base, &k, err);
    if (rc == 0 && io_stat_path(io, "index", &st, NULL) == 0)    /* where no branch has taken it */
        rc = part_remove_tree(io, "index", 1, err);
    for (size_t i = 0; rc == 0 && i < sizeof dirs / sizeof dirs[0]; i++)         /* what went must not come back without the setting that says so */
        if ((rc = io_syncdir(io, dirs[i], err)) == ERR_NOENT)
            rc = 0;
    return rc < 0 ? rc : io_syncdir(io, ".", err);
}

bool rewind_pending(const struct super *sb)
{
    char buf[16];

    return super_config_get(sb, rewind_key, buf, sizeof buf) > 0;
}

/* The superblock says where it ends. */
int rewind_finish(struct io *io, struct super *sb, struct err *err)
{
    int rc;

    (void)io_unlink(io, "ballast", NULL);
    rc = log_end_at(io, sb, sb->durable, sb->last_lsn, &sb->last_hash, err);
    if (rc == 0)
        rc = remove_rest(io, sb->durable, err);
    if (rc == 0)
        rc = super_config_set(sb, rewind_key, NULL, err);
    if (rc == 0)
        rc = super_write(io, sb, err);
    return rc < 0 ? rc : super_write(io, sb, err);
}

/* It is a standby, closed cleanly, and holds what is to be taken back. */
static int look(struct io *io, const char *dir, const struct rewind *r, struct super *sb, struct err *err)
{
    int rc = super_read(io, sb, NULL, err);

    if (rc == 0)
        rc = super_writable(sb, err);
    if (rc == 0 && rewind_pending(sb))   /* that one first, by an open */
        rc = err_set(err, ERR_BUSY, "%s: it is going back already; open it once, and try again", dir != NULL ? dir : "store");
    if (rc == 0 && (sb->role != ROLE_STANDBY || !sb->clean || sb->durable <= r->at || r->at <= LOG_FIRST_ADDR))
        rc = err_set(err, ERR_INVAL, "%s: expected a standby that was closed cleanly and ends behind @%" PRIu64 ", found role %" PRIu32 ", %s, and its end @%" PRIu64,
                     dir != NULL ? dir : "store", r->at, sb->role, sb->clean ? "closed" : "not closed", sb->durable);
    return rc;
}

struct closed { struct log *log; struct history *history; };

static void closed_release(struct closed *c)
{
    history_close(c->history);
    if (c->log != NULL)
        log_close(c->log);
}

/* Records of a store that nobody has open. */
static int closed_open(struct io *io, const struct super *sb, struct closed *c, struct err *err)
{
    struct log_recovery rec;
    int rc;

    memset(c, 0, sizeof *c);
    rc = log_open(io, sb, NULL, false, 0, &c->log, &rec, err);
    if (rc == 0)
        rc = history_open(io, c->log, sb, &c->history, err);
    if (rc < 0)
        closed_release(c);
    return rc;
}

int64_t rewind_last_clock(struct io *io, const struct super *sb)
{
    struct closed c;
    struct record last;
    void *buf = NULL;
    int64_t ns = sb->created_wall_ns;

    if (closed_open(io, sb, &c, NULL) < 0)
        return ns;
    if (history_record(c.history, sb->last_lsn, &last, &buf, NULL) == 0)
        ns = last.wall_ns;
    free(buf);
    closed_release(&c);
    return ns;
}

uint64_t rewind_common(struct io *io, const struct super *sb, uint64_t fork, uint64_t *end)
{
    struct history_place p;
    struct closed c;
    uint64_t lsn = 0;

    if (fork == 0 || closed_open(io, sb, &c, NULL) < 0)
        return 0;
    if (history_before(c.history, fork, &p, NULL) == 0) {
        lsn = p.lsn;
        *end = p.end;
    }
    closed_release(&c);
    return lsn;
}

/* With the lock: who had the store since the stream may have done more in it. */
static int look_again(struct io *io, const struct super *sb, struct rewind *r, struct err *err)
{
    struct history_place p;
    struct closed c;
    int rc = closed_open(io, sb, &c, err);

    if (rc < 0)
        return rc;
    rc = history_before(c.history, r->at, &p, err);
    if (rc == 0 && (p.end != r->at || p.lsn != r->last_lsn || !hash128_eq(&p.hash, &r->last_hash)))
        rc = err_set(err, ERR_INVAL, "store: expected the record @%" PRIu64 " to end @%" PRIu64 ", where both part, found another there", r->last_lsn, r->at);
    r->keep |= rc == 0 && worth_keeping(c.history, r->at);
    closed_release(&c);
    return rc;
}

int store_rewind(struct io *io, const char *dir, struct rewind *r, struct err *err)
{
    struct super *sb = malloc(sizeof *sb);
    struct io_file *lock = NULL;
    int rc = sb != NULL ? io_lock(io, "lock", &lock, err) : err_set(err, ERR_NOMEM, "store: out of memory");

    r->branch[0] = '\0';
    if (rc == 0)
        rc = look(io, dir, r, sb, err);
    if (rc == 0)
        rc = rewind_possible(io, sb, r, err);
    if (rc == 0)
        rc = look_again(io, sb, r, err);
    if (rc == 0)
        (void)io_unlink(io, "ballast", NULL);    /* room for the little that is made; it comes back by itself */
    if (rc == 0 && r->keep)
        rc = branch_make(io, dir, sb, rewind_last_clock(io, sb), r->last_lsn, r->branch, err);
    if (rc == 0)
        rc = cut_retained(io, sb, r->at, err);
    if (rc == 0)
        rc = cut_super(io, sb, r, err);
    if (rc == 0)
        rc = rewind_finish(io, sb, err);
    if (lock != NULL)
        io_close(lock);
    free(sb);
    return rc;
}
