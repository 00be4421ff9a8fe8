/*
 * log_recover.c: where the log ends, and whether it ends there for an innocent
 * reason. Only reads. DESIGN.md, "Opening".
 *
 * After a clean close the superblock says where the end is, and one record is
 * looked at. Else the last two segments are walked (all before them is durable,
 * invariant 4). At the first bad place everything behind it is searched
 * for a frame that knew a larger durable address: then it is damage, else
 * a torn tail.
 */
#include "store/log/log_internal.h"
#include "store/base/super.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { SEARCH_BYTES = 1 << 20, SEARCH_ZEROS = 4096 };

/* A place between two records. */
struct place {
    uint64_t pos;
    bool     chained;               /* prev_* are known */
    uint64_t prev_lsn;
    struct hash128 prev_hash;
};

struct recovery {
    struct log *log;
    const struct super *sb;
    struct log_recovery *rec;
    struct log_window win;
    uint64_t durable;               /* largest address proven durable so far */
    struct place at;                /* the walk: behind the last good record */
    struct log_bad bad;             /* why the walk ended */
    struct segment *bad_seg;
    uint64_t search_good;           /* first good record found behind a bad place, 0 none */
    uint64_t search_durable;        /* largest durable address known to a frame behind it */
    uint64_t search_end;            /* behind the last byte that is not zero */
    bool     search_any;            /* any frame of ours behind it */
    struct err *err;
};

static void note_damage(struct recovery *r, const struct err *e, uint64_t from, uint64_t to)
{
    if (r->rec->damaged)
        return;                     /* the first one is named; check finds them all */
    r->rec->damaged = true;
    r->rec->damage = *e;
    r->rec->damage_from = from;
    r->rec->damage_to = to;
}

/* The header of a segment the walk enters. Damage there does not hide its records. */
static int enter(struct recovery *r, struct segment *seg)
{
    struct segment_header h;
    struct err e = { 0 };
    int rc;

    rc = log_read_header(r->log, seg, &h, &e);
    if (rc == ERR_DAMAGE) {
        seg->header_bad = true;
        note_damage(r, &e, seg->first, seg->first);
        return 0;
    }
    if (rc != 0) {
        if (r->err != NULL)
            *r->err = e;
        return rc;
    }
    if (r->at.pos == seg->first && !r->at.chained) {
        r->at.chained = true;
        r->at.prev_lsn = h.prev_lsn;
        r->at.prev_hash = h.prev_hash;
    }
    return 0;
}

/*
 * What a frame says was durable, as far as its segment goes: frames of a recovery's copy claim all of the copy, and where a newer segment
 * begins inside it (a fork), what followed was let go.
 */
static void claim(struct log *log, const struct segment *seg, struct frame *f)
{
    uint64_t end = log_segment_end(log, seg);

    if (f->durable > end)
        f->durable = end;
}

/*
 * Look at the record at r->at.pos; its data too if it ends above ${data_from}. 1 good, and r->at is behind
 * it; 0 bad or the end, r->bad says why; < 0 IO, NOMEM, VERSION.
 */
static int step(struct recovery *r, uint64_t data_from, struct frame *f, struct record *rec)
{
    struct segment *seg = NULL;
    const uint8_t *raw;
    uint64_t limit;
    int rc;

    rc = log_hold(r->log, r->at.pos, &seg, r->err);
    if (rc != 0)
        return rc;
    if (r->at.pos == seg->first || !(seg->header_known || seg->header_bad))
        rc = enter(r, seg);
    if (rc != 0)
        goto out;
    limit = log_segment_end(r->log, seg);
    if (seg->header_known && limit > seg->first + seg->capacity)
        limit = seg->first + seg->capacity;
    r->bad_seg = seg;
    rc = log_scan(&r->win, seg, r->at.pos, limit, f, rec, &raw, &r->bad, r->err);
    if (rc == 1 && r->at.chained &&
        (rec->prev_lsn != r->at.prev_lsn || !hash128_eq(&rec->prev_hash, &r->at.prev_hash))) {
        snprintf(r->bad.why, sizeof r->bad.why, "chain: expected predecessor %" PRIu64 " %016" PRIx64
                 "..., found %" PRIu64 " %016" PRIx64 "...", r->at.prev_lsn, get_be64(r->at.prev_hash.b),
                 rec->prev_lsn, get_be64(rec->prev_hash.b));
        rc = 0;
    }
    if (rc == 1)
        claim(r->log, seg, f);
    if (rc == 1 && r->at.pos + frame_span(f->rec_len) > data_from)
        rc = log_scan_data(&r->win, seg, r->at.pos, rec, &raw, &r->bad, r->err);
    if (rc == 1) {
        r->at.pos += frame_span(f->rec_len);
        r->at.chained = true;
        r->at.prev_lsn = rec->lsn;
        r->at.prev_hash = rec->hash;
    }
out:
    log_release(r->log, seg);
    return rc;
}

/* Is there a good record at ${pos}? */
static int good_at(struct recovery *r, struct segment *seg, uint64_t pos, uint64_t limit)
{
    struct log_window w = { .step = 4096 };
    struct log_bad bad;
    struct record rec;
    struct frame f;
    const uint8_t *raw;
    int rc = log_scan(&w, seg, pos, limit, &f, &rec, &raw, &bad, r->err);

    log_window_release(&w);
    return rc;
}

/* A frame of ours may start here: the four bytes fit. */
static int search_frame(struct recovery *r, struct segment *seg, uint64_t pos, uint64_t limit, const uint8_t *p)
{
    struct frame f;
    int rc = 0;

    if (!log_frame_at(seg, pos, p, &f))
        return 0;
    claim(r->log, seg, &f);
    r->search_any = true;
    if (f.durable > r->search_durable)
        r->search_durable = f.durable;
    if (r->search_good == 0) {
        rc = good_at(r, seg, pos, limit);
        if (rc == 1)
            r->search_good = pos;
    }
    return rc < 0 ? rc : 0;
}

/* Search one segment from ${pos} up in steps of 8 bytes. */
static int search_segment(struct recovery *r, struct segment *seg, uint64_t pos, uint64_t limit)
{
    struct log_window w = { .step = SEARCH_BYTES };
    const uint8_t *p;
    size_t got = SEARCH_BYTES;
    int rc = 0;

    while (rc == 0 && pos < limit && got == SEARCH_BYTES) {
        uint64_t off = segment_offset(seg, pos), data = io_next_data(seg->file, off);

        /* Reserved space that was never written: to read it is to fill the page cache with zeros, a good part of what a restart takes. */
        if (data == UINT64_MAX)
            break;
        pos += (data - off) / FRAME_ALIGN * FRAME_ALIGN;
        if (pos >= limit)
            break;
        rc = log_window_get(&w, seg, segment_offset(seg, pos), SEARCH_BYTES, &p, &got, r->err);
        if (rc != 0)
            break;
        size_t i = 0;

        for (; rc == 0 && i + FRAME_BYTES <= got && i < limit - pos; i += FRAME_ALIGN) {
            if (i % SEARCH_ZEROS == 0 && i + SEARCH_ZEROS <= got && p[i] == 0 && memcmp(p + i, p + i + 1, SEARCH_ZEROS - 1) == 0) {
                i += SEARCH_ZEROS - FRAME_ALIGN;    /* most of a reserved segment */
                continue;
            }
            if (get_u64(p + i) == 0)
                continue;
            r->search_end = pos + i + FRAME_ALIGN;
            if (get_u32(p + i) == FRAME_MAGIC)
                rc = search_frame(r, seg, pos + i, limit, p + i);
        }
        for (size_t j = i; got < SEARCH_BYTES && j < got && pos + j < limit; j++)
            if (p[j] != 0)
                r->search_end = pos + j + 1;    /* too little for a frame */
        pos += i > 0 ? i : FRAME_ALIGN;
    }
    log_window_release(&w);
    return rc;
}

/* Look on behind the bad place: the rest of its segment and all later ones. */
static int search(struct recovery *r, uint64_t bad)
{
    uint64_t pos = bad + FRAME_ALIGN;
    int rc = 0;

    r->search_good = r->search_durable = 0;
    r->search_end = bad;
    r->search_any = false;
    while (rc == 0) {
        struct segment *seg = NULL;
        uint64_t limit;

        rc = log_hold(r->log, pos, &seg, r->err);
        if (rc != 0)
            return rc;
        if (pos == seg->first) {
            struct segment_header h;
            struct err e = { 0 };

            rc = log_read_header(r->log, seg, &h, &e);
            if (rc == ERR_DAMAGE)
                note_damage(r, &e, seg->first, seg->first);
            rc = 0;
        }
        limit = log_segment_end(r->log, seg);
        rc = search_segment(r, seg, pos, limit);
        log_release(r->log, seg);
        if (limit == UINT64_MAX)
            break;
        pos = limit;
    }
    return rc;
}

/* At the start of a segment its header names the predecessor: needed also if no record there is proven durable, since a
 * copy of all of them then begins with it. */
static int chain_in(struct recovery *r)
{
    struct segment *seg = NULL;
    int rc;

    if (r->at.chained)
        return 0;
    rc = log_hold(r->log, r->at.pos, &seg, r->err);
    if (rc != 0)
        return rc;
    if (r->at.pos == seg->first)
        rc = enter(r, seg);
    log_release(r->log, seg);
    return rc;
}

/*
 * One walk from r->at to the first bad place. First all heads, which also gives what frames knew durable;
 * then the data of what nothing proved durable. Leaves r->at at the bad place (or end) and in ${end}
 * the first record not proven durable.
 */
static int walk(struct recovery *r, struct log_end *end)
{
    struct place start, before;
    struct record rec;
    struct frame f;
    uint64_t n = 0;
    int rc = chain_in(r);

    if (rc != 0)
        return rc;
    start = before = r->at;
    while ((rc = step(r, UINT64_MAX, &f, &rec)) == 1) {
        n++;
        if (f.durable > r->durable)
            r->durable = f.durable;
    }
    end->copy_from = r->at.pos;
    end->copy_prev_lsn = r->at.prev_lsn;
    end->copy_prev_hash = r->at.prev_hash;
    if (rc < 0 || r->at.pos <= r->durable) {
        r->rec->n_records += n;
        return rc;
    }
    /* From the start again, since only now it is known which data need to be read. */
    r->at = start;
    n = 0;
    while ((rc = step(r, r->durable, &f, &rec)) == 1) {
        n++;
        if (r->at.pos <= r->durable)
            before = r->at;
    }
    end->copy_from = before.pos;
    end->copy_prev_lsn = before.prev_lsn;
    end->copy_prev_hash = before.prev_hash;
    r->rec->n_records += n;
    return rc;
}

/* The bad place at r->at is damage. Go on behind it; false: nothing readable is there. */
static bool skip_damage(struct recovery *r, uint64_t proven)
{
    struct err e = { 0 };
    uint64_t to = r->search_good != 0 ? r->search_good : proven;
    size_t n;

    log_bad_set(&e, r->bad_seg, &r->bad);
    n = strlen(e.msg);
    snprintf(e.msg + n, sizeof e.msg - n, "; addresses below %" PRIu64 " were durable, so this is damage, not a torn tail"
             " (lost: addresses %" PRIu64 " to %" PRIu64 ")", proven, r->at.pos, to);
    note_damage(r, &e, r->at.pos, to);
    r->durable = proven;
    if (r->search_good == 0)
        return false;
    r->at = (struct place){ .pos = r->search_good };
    return true;
}

/* The superblock's last record, if it is where it should be: 1, and r->at is behind it. */
static int try_superblock(struct recovery *r)
{
    struct record rec;
    struct frame f;
    int rc;

    r->at = (struct place){ .pos = r->sb->last_lsn };
    rc = step(r, UINT64_MAX, &f, &rec);
    if (rc == 1 && !(hash128_eq(&rec.hash, &r->sb->last_hash) && r->at.pos == r->sb->durable))
        rc = 0;
    return rc;
}

/*
 * Where the walk starts: the superblock's last record if it lies in the last two segments, else the
 * first of these, whose header names the record before it (a copy of the tail may begin right there).
 */
static int find_start(struct recovery *r, bool *at_sb)
{
    struct log *log = r->log;
    struct segment *start = log->segs[log->n_segs > 1 ? log->n_segs - 2 : 0], *seg = NULL;
    const struct super *sb = r->sb;
    int rc;

    *at_sb = false;
    if (start->first > r->durable)
        r->durable = start->first;
    if (sb->last_lsn >= start->first && sb->last_lsn % FRAME_ALIGN == 0 && sb->last_lsn < sb->durable) {
        rc = try_superblock(r);
        *at_sb = rc == 1;
        if (rc != 0)
            return rc < 0 ? rc : 0;
    }
    r->at = (struct place){ .pos = start->first };
    rc = log_hold(log, start->first, &seg, r->err);
    if (rc != 0)
        return rc;
    rc = enter(r, seg);
    log_release(log, seg);
    return rc;
}

/* After a clean close: the end is at sb->durable, and nothing is behind it. */
static int try_clean(struct recovery *r, uint64_t known_durable, bool at_sb, bool *clean)
{
    struct log *log = r->log;
    struct segment *last = log->cur;
    const struct super *sb = r->sb;
    struct place before;
    struct record rec;
    struct frame f;
    int rc;

    *clean = false;
    if (!sb->clean || known_durable > sb->durable || sb->segment_gen > log->max_gen)
        return 0;
    if (sb->last_lsn == 0 ? sb->durable != last->first : !at_sb)
        return 0;
    if (last->first > sb->durable)
        return 0;
    if (sb->last_lsn == 0)
        r->at = (struct place){ .pos = sb->durable };
    /* An older copy of the superblock may have been taken for the newest. */
    before = r->at;
    rc = step(r, 0, &f, &rec);
    r->at = before;
    if (rc == 0)
        *clean = r->bad.blank && !r->rec->damaged;
    return rc < 0 ? rc : 0;
}

/* Segments that begin beyond the end hold nothing that counts. */
static int forget_beyond(struct log *log, uint64_t end, struct err *err)
{
    while (log->n_segs > 1 && log->segs[log->n_segs - 1]->first > end) {
        int rc = log_grow(log, err);

        if (rc != 0)
            return rc;
        log_forget(log, log->segs[log->n_segs - 1]);
    }
    return 0;
}

/* Walk, judge, and walk on behind damage, to the end. */
static int find_end(struct recovery *r, uint64_t witness, struct log_end *end)
{
    uint64_t proven;
    int rc;

    for (;;) {
        rc = walk(r, end);
        if (rc == 0)
            rc = search(r, r->at.pos);
        if (rc != 0)
            return rc;
        proven = r->search_durable > r->durable ? r->search_durable : r->durable;
        proven = witness > proven ? witness : proven;
        if (proven <= r->at.pos)
            break;
        if (!skip_damage(r, proven))
            return 0;
    }
    r->rec->torn = r->search_any || !r->bad.blank;
    if (r->rec->torn)
        r->rec->cut_bytes = r->bad.span > 0 ? r->bad.span
                            : r->search_end > r->at.pos ? r->search_end - r->at.pos : FRAME_ALIGN;
    return 0;
}

static int check_newest(struct recovery *r)
{
    struct err e = { 0 };

    if (r->sb->segment_gen <= r->log->max_gen)
        return 0;
    err_set(&e, ERR_DAMAGE, "log: expected a segment of generation %08" PRIx64 ", found none above %08" PRIx64,
            r->sb->segment_gen, r->log->max_gen);
    note_damage(r, &e, r->sb->durable, r->sb->durable);
    return 0;
}

int log_recover(struct log *log, const struct super *sb, uint64_t known_durable, struct log_recovery *rec,
                struct log_end *end, struct err *err)
{
    struct recovery r = { .log = log, .sb = sb, .rec = rec, .err = err };
    uint64_t witness = sb->durable > known_durable ? sb->durable : known_durable;
    bool at_sb = false;
    int rc;

    r.durable = sb->durable;
    rc = find_start(&r, &at_sb);
    if (rc == 0)
        rc = try_clean(&r, known_durable, at_sb, &end->clean);
    if (rc != 0)
        goto out;
    if (end->clean) {
        rec->clean = true;
        end->copy_from = r.at.pos;
    } else {
        rc = check_newest(&r);
        if (known_durable > r.durable)
            r.durable = known_durable;
        if (rc == 0)
            rc = find_end(&r, witness, end);
    }
    if (rc == 0)
        rc = forget_beyond(log, r.at.pos, err);
    if (rc != 0)
        goto out;
    rec->cut = r.at.pos;
    rec->durable_known = r.durable > witness ? r.durable : witness;
    rec->last_lsn = r.at.prev_lsn;
    rec->last_hash = r.at.prev_hash;
    log->last_lsn = r.at.prev_lsn;
    log->last_hash = r.at.prev_hash;
    atomic_store(&log->head, r.at.pos);
    atomic_store(&log->written, r.at.pos);
    atomic_store(&log->durable, r.durable < r.at.pos ? r.durable : r.at.pos);
out:
    log_window_release(&r.win);
    return rc;
}
