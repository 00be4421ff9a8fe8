/* roleworld_disk.c: a site's chain of records, and who may add to it. What store/core does (identity.c, role.c, follow.c, rewind.c), as a model with cuts between the steps. */
#include "tests/lib/roleworld_internal.h"

#include "store/log/frame.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- chains ---- */

uint64_t rw_end(const struct disk *d, unsigned n) { return n > 0 ? d->rec[n - 1].end : BEGINS; }

unsigned rw_index(const struct disk *d, uint64_t end)
{
    unsigned lo = 0, hi = d->n;

    while (lo < hi) {
        unsigned mid = lo + (hi - lo + 1) / 2;

        if (rw_end(d, mid) <= end)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

unsigned rw_common(const struct disk *a, unsigned na, const struct disk *b, unsigned nb)
{
    unsigned lo = 0, hi = na < nb ? na : nb;

    while (lo < hi) {
        unsigned mid = lo + (hi - lo + 1) / 2;

        if (hash128_eq(&a->rec[mid - 1].hash, &b->rec[mid - 1].hash))
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

uint32_t rw_known(const struct disk *d)
{
    return d->n_rows > 0 ? d->rows[epoch_held(d->rows, d->n_rows, rw_end(d, d->durable)) - 1].number : 0;
}

uint32_t rw_heard_of(const struct disk *d)
{
    uint32_t n = d->n_rows > 0 ? d->rows[d->n_rows - 1].number : 0;

    return d->fence.number > n ? d->fence.number : n;
}

/* ---- what was acknowledged ---- */

static bool holds(const struct site *s, const struct proof *p)
{
    if (p->i <= s->d.n && hash128_eq(&s->d.rec[p->i - 1].hash, &p->hash))
        return true;
    for (unsigned b = 0; b < s->d.n_branches; b++)
        if (p->i <= s->branch[b].n && hash128_eq(&s->branch[b].rec[p->i - 1].hash, &p->hash))
            return true;
    return false;
}

void rw_prove(struct world *w, int i, unsigned n, const char *what)
{
    const struct disk *d = &w->site[i].d;
    struct proof *p = NULL;

    while (n > 0 && d->rec[n - 1].kind != KIND_DATA)     /* markers alone are not kept */
        n--;
    if (n == 0)
        return;
    for (unsigned k = 0; k < w->n_proofs && p == NULL; k++) {
        struct proof *q = &w->proof[k];

        if (q->site != i || q->what != what || q->off || q->i > d->n || !hash128_eq(&d->rec[q->i - 1].hash, &q->hash))
            continue;
        if (q->i >= n)
            return;
        p = q;                           /* a chain: the later one holds the earlier one, too */
    }
    if (p == NULL && w->n_proofs == PROOFS_MAX)
        abort();
    if (p == NULL)
        p = &w->proof[w->n_proofs++];
    *p = (struct proof){ .site = i, .i = n, .hash = d->rec[n - 1].hash, .what = what };
}

void rw_proofs(struct world *w, int i, bool excuse)
{
    for (unsigned k = 0; k < w->n_proofs; k++) {
        struct proof *p = &w->proof[k];

        if (p->site != i || p->off || holds(&w->site[i], p))
            continue;
        if (excuse)
            p->off = true;
        else
            rw_wrong(w, "site %d: record %u, %s, is in its log no more, nor in a branch", i, p->i, p->what);
    }
}

/* ---- who writes ---- */

static unsigned uid_of(const uint8_t id[16]) { return get_u32(id); }

static void epoch_row(struct world *w, int i, uint32_t number, struct epoch_row *e)
{
    struct disk *d = &w->site[i].d;

    if (w->n_epochs + 1 >= EPOCHS_MAX)
        abort();
    *e = (struct epoch_row){ .number = number, .first_lsn = rw_end(d, d->n) };
    memcpy(e->site, d->site, 16);
    put_u32(e->id, ++w->n_epochs);
    e->lineage[0] = d->lineage;
    if (d->n > 0)
        e->prev_hash = d->rec[d->n - 1].hash;
    w->epoch[w->n_epochs].owner = i;
}

static void lengthen(struct world *w, int i, enum rec_kind kind)
{
    struct disk *d = &w->site[i].d;
    struct rec *r = &d->rec[d->n];
    const struct epoch_row *e = &d->rows[d->n_rows - 1];
    struct epoch_seen *seen = &w->epoch[uid_of(e->id)];
    uint64_t mix[4];

    if (d->n == RECS_MAX)
        abort();
    *r = (struct rec){ .lsn = rw_end(d, d->n), .len = REC_MIN + 64 * rw_below(w, 3), .kind = kind, .number = e->number };
    r->end = r->lsn + frame_span(r->len);
    memcpy(r->id, e->id, 16);
    memcpy(r->site, e->site, 16);
    r->lineage = e->lineage[0];
    mix[0] = r->lsn;
    mix[1] = d->n > 0 ? get_u64(d->rec[d->n - 1].hash.b) : 0;
    mix[2] = w->salt++;                  /* what is written again after a loss is something else */
    mix[3] = r->len;
    r->hash = hash128(mix, sizeof mix);
    d->n++;
    if (seen->owner != i && !w->site[i].copied)
        rw_wrong(w, "site %d appends in epoch %" PRIu32 ", which is site %d's", i, e->number, seen->owner);
    if (e->number < w->site[i].heard)
        rw_wrong(w, "site %d appends in epoch %" PRIu32 ", and was told of epoch %" PRIu32, i, e->number, w->site[i].heard);
}

void rw_create(struct world *w, int i)
{
    struct disk *d = &w->site[i].d;

    d->role = ROLE_PRIMARY;
    d->site[0] = (uint8_t)++w->n_sites_made;
    d->lineage = FIRST_LINEAGE;
    epoch_row(w, i, 1, &d->rows[0]);
    d->n_rows = 1;
    lengthen(w, i, KIND_EPOCH);
    lengthen(w, i, KIND_MARK);
    d->durable = d->n;
}

bool rw_append(struct world *w, int i)
{
    struct site *s = &w->site[i];

    if (s->d.role != ROLE_PRIMARY && !(w->plant == ROLE_PLANT_FENCED_APPENDS && s->d.role == ROLE_FENCED))
        return false;
    if (s->full || s->d.n >= DATA_MAX || rw_frozen(w, i) || !rw_leased(w, i))
        return false;
    lengthen(w, i, KIND_DATA);
    w->seen->appends++;
    return true;
}

void rw_sync(struct world *w, int i)
{
    w->site[i].d.durable = w->site[i].d.n;
    w->site[i].row_lost = 0;
}

void rw_fsync(struct world *w, int i)
{
    struct site *s = &w->site[i];

    if (s->d.role != ROLE_PRIMARY || s->d.n == 0)
        return;
    rw_sync(w, i);
    rw_prove(w, i, s->d.n, "answered by fsync");
    w->seen->fsyncs++;
    if (s->n_waits < WAITS && rw_below(w, 2))
        s->wait[s->n_waits++] = s->d.n;
}

void rw_answer(struct world *w, int i)
{
    struct site *s = &w->site[i];
    unsigned k = 0;

    if (s->d.role != ROLE_PRIMARY)
        s->n_waits = 0;                  /* refused */
    for (unsigned l = 0; l < LINES_MAX && s->n_waits > 0; l++) {
        const struct line *x = &w->line[l];
        uint64_t acked = w->plant == ROLE_PLANT_RPO_RECEIVED ? x->ship.received : x->ship.acked;

        if (!x->used || !x->ship_live || x->from != i || x->ship.state != SHIP_STREAM)
            continue;
        for (k = 0; k < s->n_waits; k++)
            if (rw_end(&s->d, s->wait[k]) <= acked) {
                const struct site *b = &w->site[x->to];
                unsigned n = s->wait[k];
                bool there = n <= b->d.n && hash128_eq(&b->d.rec[n - 1].hash, &s->d.rec[n - 1].hash);

                if (there)
                    rw_prove(w, x->to, n, "answered under rpo=0");
                else if (x->clean)       /* (else it went back, or was set back, since it said so) */
                    rw_wrong(w, "site %d answers record %u under rpo=0, and site %d has it not", i, n, x->to);
                w->seen->rpo++;
                s->wait[k--] = s->wait[--s->n_waits];
            }
    }
}

/* ---- roles ---- */

/* A new row of epochs is durable before its record; where a cut comes between, the next open makes the record. */
static void be_writer(struct world *w, int i)
{
    struct disk *d = &w->site[i].d;
    const struct epoch_row *e = &d->rows[d->n_rows - 1];

    if (d->role != ROLE_PRIMARY)
        return;
    if (e->first_lsn >= rw_end(d, d->n) && memcmp(e->site, d->site, 16) == 0)
        lengthen(w, i, KIND_EPOCH);
    if (w->site[i].d.n < RECS_MAX - 100)
        lengthen(w, i, KIND_MARK);
}

/* Power or process: what was not synced may go. It is up again at once. */
void rw_kill(struct world *w, int i)
{
    struct site *s = &w->site[i];

    rw_down(w, i);
    if (s->d.role == 0)
        return;
    if (s->d.n > s->d.durable)
        s->d.n -= rw_below(w, s->d.n - s->d.durable + 1);
    s->d.durable = s->d.n;
    s->d.n_rows -= s->row_lost < s->d.n_rows ? s->row_lost : 0;
    s->row_lost = 0;
    s->n_waits = 0;
    rw_lease_opened(w, i);
    w->seen->kills++;
    rw_proofs(w, i, false);
    be_writer(w, i);
}

static bool cut_here(struct world *w, int i)
{
    if (!rw_one_in(w, 8))
        return false;
    rw_kill(w, i);
    return true;
}

bool rw_begin_epoch(struct world *w, int i)
{
    struct site *s = &w->site[i];
    struct disk *d = &s->d;
    uint32_t last = d->rows[d->n_rows - 1].number;
    uint32_t held = epoch_held(d->rows, d->n_rows, rw_end(d, d->n));

    if (d->fence.number > last && w->plant != ROLE_PLANT_FENCE_IGNORED)
        last = d->fence.number;
    if (w->plant == ROLE_PLANT_ROWS_STAY && held + 1 < d->n_rows)
        held = d->n_rows - 1;
    if (held == ROWS_MAX || d->n >= RECS_MAX - 50 || w->n_epochs + 10 > EPOCHS_MAX)
        return false;
    epoch_row(w, i, last + 1, &d->rows[held]);
    if (epoch_row_wrong(&d->rows[held], &d->rows[held - 1]) != NULL)
        rw_wrong(w, "site %d: a table of epochs that does not rise: @%" PRIu64 " behind @%" PRIu64, i, d->rows[held].first_lsn, d->rows[held - 1].first_lsn);
    d->n_rows = held + 1;
    d->fence.number = 0;
    s->row_lost = w->plant == ROLE_PLANT_ROW_LATE;
    if (last + 1 <= s->heard)
        rw_wrong(w, "site %d begins epoch %" PRIu32 ", and was told of epoch %" PRIu32, i, last + 1, s->heard);
    return true;
}

bool rw_promote(struct world *w, int i)
{
    struct disk *d = &w->site[i].d;

    if (d->role == 0 || d->role == ROLE_PRIMARY || d->n == 0 || w->site[i].full || rw_frozen(w, i) || !rw_lease_allows(w, i))
        return false;
    rw_sync(w, i);
    if (!rw_begin_epoch(w, i))
        return false;
    d->role = ROLE_PRIMARY;
    rw_lease_promoted(w, i);
    w->seen->promotions++;
    if (cut_here(w, i))
        return true;
    lengthen(w, i, KIND_EPOCH);
    if (cut_here(w, i))
        return true;
    lengthen(w, i, KIND_MARK);
    if (cut_here(w, i))
        return true;
    rw_sync(w, i);
    return true;
}

void rw_demote(struct world *w, int i)
{
    struct disk *d = &w->site[i].d;

    if (d->role != ROLE_PRIMARY && d->role != ROLE_FENCED)
        return;
    rw_sync(w, i);
    if (cut_here(w, i))
        return;
    d->role = ROLE_STANDBY;
    w->seen->demotions++;
}

void rw_fence(struct world *w, int i, const struct epoch_row *by)
{
    struct site *s = &w->site[i];
    struct disk *d = &s->d;

    if (w->epoch[uid_of(by->id)].copy_of == d->lineage)
        rw_wrong(w, "site %d is fenced by a copy of what it is", i);
    if (d->role == 0 || by->number <= d->rows[d->n_rows - 1].number)
        return;
    if (d->role == ROLE_PRIMARY) {
        rw_sync(w, i);
        if (cut_here(w, i))
            return;
        if (w->plant != ROLE_PLANT_FENCE_IN_MEMORY || rw_below(w, 2))
            d->role = ROLE_FENCED;
        w->seen->fences++;
    } else if (by->number <= d->fence.number) {
        return;
    }
    d->fence = *by;
    if (s->heard < by->number)
        s->heard = by->number;
}

/* ---- the standby's way of a record ---- */

void rw_put_record(const struct disk *d, unsigned k, uint8_t *p)
{
    const struct rec *r = &d->rec[k];

    memset(p, 0, r->len);
    put_u64(p, r->lsn);
    memcpy(p + 8, r->hash.b, 16);
    put_u32(p + 24, r->len);
    put_u32(p + 28, r->kind);
    put_u32(p + 32, r->number);
    memcpy(p + 36, r->id, 16);
    memcpy(p + 52, r->site, 16);
    if (k > 0)
        memcpy(p + 68, d->rec[k - 1].hash.b, 16);
    p[84] = r->lineage;
}

/* Rows go: the highest number that is known stays known. */
static void keep_fence(struct disk *d)
{
    if (d->fence.number <= d->rows[d->n_rows - 1].number)
        d->fence = d->rows[d->n_rows - 1];
}

/* The record that begins an epoch: its row first. */
static int enter_epoch(struct world *w, struct disk *d, const struct rec *r, const struct hash128 *before, struct err *err)
{
    struct epoch_row e = { .number = r->number, .first_lsn = r->lsn, .prev_hash = *before };
    uint32_t held = epoch_held(d->rows, d->n_rows, r->lsn);
    const char *why;

    memcpy(e.id, r->id, 16);
    memcpy(e.site, r->site, 16);
    e.lineage[0] = r->lineage;
    if (r->lineage != d->lineage && d->rows[held - 1].lineage[0] == d->lineage)
        return err_set(err, ERR_BADREC, "record @%" PRIu64 ": an epoch of another lineage", r->lsn);
    if (w->plant == ROLE_PLANT_ROWS_STAY && held + 1 < d->n_rows)
        held = d->n_rows - 1;
    for (uint32_t k = w->plant == ROLE_PLANT_ROWS_STAY ? d->n_rows - 1 : 0; k < d->n_rows; k++)
        if (memcmp(d->rows[k].id, e.id, 16) == 0 && d->rows[k].first_lsn == e.first_lsn)
            return 0;
    why = epoch_row_wrong(&e, &d->rows[held - 1]);
    if (why != NULL || held >= ROWS_MAX - 16)
        return err_set(err, why != NULL ? ERR_BADREC : ERR_NOSPC, "record @%" PRIu64 ": an epoch that does not follow the one before: %s", r->lsn, why != NULL ? why : "no room");
    keep_fence(d);
    d->rows[held] = e;
    d->n_rows = held + 1;
    return 0;
}

static int take(struct world *w, int i, const uint8_t *p, struct err *err)
{
    struct disk *d = &w->site[i].d;
    struct rec r = { .lsn = get_u64(p), .len = get_u32(p + 24), .kind = (enum rec_kind)get_u32(p + 28), .number = get_u32(p + 32) };
    struct hash128 before = { { 0 } };
    const struct epoch_row *e;
    int rc = 0;

    memcpy(r.hash.b, p + 8, 16);
    memcpy(r.id, p + 36, 16);
    memcpy(r.site, p + 52, 16);
    r.lineage = p[84];
    r.end = r.lsn + frame_span(r.len);
    if (d->n > 0)
        before = d->rec[d->n - 1].hash;
    if (d->n >= RECS_MAX - 100)
        return err_set(err, ERR_NOSPC, "no space left");
    if (r.lsn != rw_end(d, d->n) || memcmp(before.b, p + 68, 16) != 0)
        return err_set(err, ERR_BADREC, "record @%" PRIu64 " does not follow the last one held here", r.lsn);
    if (d->rows[d->n_rows - 1].first_lsn >= r.lsn && r.kind != KIND_EPOCH)
        keep_fence(d);
    if (r.kind == KIND_EPOCH)
        rc = enter_epoch(w, d, &r, &before, err);
    else if (w->plant != ROLE_PLANT_ROWS_STAY)
        d->n_rows = epoch_held(d->rows, d->n_rows, r.lsn);
    else if (d->n_rows > 1 && d->rows[d->n_rows - 1].first_lsn >= r.lsn)
        d->n_rows--;
    e = &d->rows[epoch_held(d->rows, d->n_rows, r.lsn + 1) - 1];
    if (rc == 0 && (r.number != e->number || memcmp(r.id, e->id, 16) != 0))
        rc = err_set(err, ERR_BADREC, "record @%" PRIu64 " is not of the epoch that is begun", r.lsn);
    if (rc == 0)
        d->rec[d->n++] = r;
    return rc;
}

bool rw_follow(struct world *w, int i, const uint8_t *p, uint32_t len, struct err *err)
{
    struct site *s = &w->site[i];
    int rc = 0;

    if (s->d.role != ROLE_STANDBY)
        rc = err_set(err, ERR_FENCED, "expected a standby, found another role");
    for (uint32_t at = 0; rc == 0 && at < len; at += get_u32(p + at + 24))
        rc = s->full && rw_below(w, 2) ? err_set(err, ERR_NOSPC, "no space left") : take(w, i, p + at, err);
    if (rc == ERR_NOSPC)
        w->seen->full++;
    return rc == 0;
}

/* ---- back to a fork ---- */

static bool worth_keeping(const struct disk *d, unsigned from)
{
    for (unsigned k = from; k < d->n; k++)
        if (d->rec[k].kind == KIND_DATA)
            return true;
    return false;
}

static void keep_branch(struct world *w, int i)
{
    struct site *s = &w->site[i];
    struct disk *d = &s->d;
    struct branch *b;

    for (unsigned k = 0; k < d->n_branches; k++)
        if (s->branch[k].n == d->n && hash128_eq(&s->branch[k].rec[d->n - 1].hash, &d->rec[d->n - 1].hash))
            return;                      /* a try that was cut off had made it */
    if (w->plant == ROLE_PLANT_NO_BRANCH)
        return;
    if (d->n_branches == BRANCHES_MAX)
        abort();
    b = &s->branch[d->n_branches++];
    free(b->rec);
    b->rec = malloc(d->n * sizeof *b->rec);
    if (b->rec == NULL)
        abort();
    memcpy(b->rec, d->rec, d->n * sizeof *b->rec);
    b->n = d->n;
    w->seen->branches++;
}

void rw_go_back(struct world *w, int i, const struct receive *r, const struct line *l)
{
    struct site *s = &w->site[i];
    struct disk *d = &s->d;
    uint64_t at = r->fork.low;
    unsigned k = rw_index(d, at), fork = l->ship_live ? rw_common(d, d->n, &w->site[l->from].d, w->site[l->from].d.n) : k;
    uint32_t n = 1;

    rw_down(w, i);
    rw_sync(w, i);
    if (d->role != ROLE_STANDBY || s->full || at <= BEGINS || rw_end(d, d->n) <= at)
        return;
    if (w->plant == ROLE_PLANT_BACK_TOO_FAR && k > 1)
        at = rw_end(d, --k);
    if (w->plant == ROLE_PLANT_BACK_TOO_LITTLE && k + 1 < d->n)
        at = rw_end(d, ++k);
    if (rw_end(d, k) != at || k != fork)
        rw_wrong(w, "site %d goes back to @%" PRIu64 ", and parts from site %d behind record %u, @%" PRIu64, i, at, l->from, fork, rw_end(d, fork));
    if (cut_here(w, i))
        return;
    if (worth_keeping(d, k))
        keep_branch(w, i);
    if (cut_here(w, i))
        return;
    keep_fence(d);
    while (n < d->n_rows && d->rows[n].first_lsn < at)
        n++;
    d->n_rows = n;
    if (w->plant == ROLE_PLANT_FENCE_GOES)
        d->fence.number = 0;
    d->n = d->durable = k;               /* (a cut behind the superblock: the next open does the rest) */
    w->seen->rewinds++;
    rw_proofs(w, i, false);
}
