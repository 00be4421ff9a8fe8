/*
 * log_anew.c: a segment whose file is gone (somebody removed it, a file system's check took it), made anew of the heads of its records, which the chain has proven. Frames are this site's own and their durable address is what
 * it knows by now; data lie where they lay, and are zeros until they come: their sums say so.
 *
 * Never in the file of the segment before: that may be linked into a branch, which goes on in it another way.
 *
 * log/healed made | header, frames and heads | its length | synced | renamed | directory synced | into the table. Before the rename: a file without meaning. After it: a segment of which data are damaged.
 */
#include "store/log/log_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

uint64_t log_writer(struct log *log)
{
    uint64_t incarnation;

    pthread_mutex_lock(&log->mutex);
    incarnation = log->incarnation;
    pthread_mutex_unlock(&log->mutex);
    return incarnation;
}

enum { DISK_PIECE = 4096 };           /* what a disk gives, or not, as a whole */

/* ---- what it says of itself ---- */

struct before { uint64_t first, gen, prev_first, prev_gen; };

static int segment_before(void *arg, const struct log_segment_info *s)
{
    struct before *b = arg;

    if (s->first >= b->first)
        return 1;
    if (s->gen < b->gen) {
        b->prev_first = s->first;
        b->prev_gen = s->gen;
    }
    return 0;
}

/* Where the record before it cannot be read there may have been another segment, of which only this header would say so: it says nothing then. */
static bool follows(struct log *log, const struct record *rec)
{
    struct record r;
    void *buf = NULL;
    int rc = rec->prev_lsn >= log_first(log) ? log_read_record(log, rec->prev_lsn, false, &r, &buf, NULL) : 0;

    free(buf);
    return rc == 0;
}

void log_header_say(struct log *log, const struct super *sb, const struct record *rec, uint64_t first, uint64_t gen, uint64_t capacity, uint64_t incarnation, struct segment_header *h)
{
    struct before b = { first, gen, 0, 0 };

    if (follows(log, rec))
        (void)log_segments(log, segment_before, &b);
    log_header_fill(log, h);
    memcpy(h->site, sb->site, 16);
    h->gen = gen;
    h->first = h->cut = first;
    h->capacity = capacity;
    h->incarnation = incarnation;
    h->epoch = rec->epoch;
    memset(h->epoch_id, 0, 16);
    for (uint32_t i = 0; i < sb->n_epochs; i++)
        if (sb->epochs[i].number == rec->epoch) {
            memcpy(h->epoch_id, sb->epochs[i].id, 16);
            memcpy(h->lineage, sb->epochs[i].lineage, 16);
        }
    h->prev_gen = b.prev_gen;
    h->prev_first = b.prev_first;
    h->prev_lsn = rec->prev_lsn;
    h->prev_hash = rec->prev_hash;
    h->created_wall_ns = rec->wall_ns;
}

/* ---- another timeline ---- */

/* Whether what ${seg} has where this epoch begins is not of it. What cannot be read is taken for that where a branch has the file, too: then it is made anew elsewhere. */
static bool went_elsewhere(struct segment *seg, const struct epoch_row *e)
{
    struct log_window w = { .step = 4096 };
    const uint8_t *raw;
    struct log_bad bad;
    struct record rec;
    struct frame f;
    struct io_stat st;
    int rc = log_scan(&w, seg, e->first_lsn, seg->end, &f, &rec, &raw, &bad, NULL);
    bool other = rc == 1 ? rec.epoch < e->number : seg->end != UINT64_MAX && io_fstat(seg->file, &st, NULL) == 0 && st.nlink > 1;

    log_window_release(&w);
    return other;
}

void log_part(struct log *log, const struct super *sb)
{
    for (uint32_t i = 1; i < sb->n_epochs; i++) {
        const struct epoch_row *e = &sb->epochs[i];
        struct segment *seg = NULL;

        /* (A segment that begins with the epoch was made for it. Where the file cannot be opened it is gone itself.) */
        if (e->first_lsn <= log_first(log) || log_hold(log, e->first_lsn, &seg, NULL) < 0)
            continue;
        if (seg->first < e->first_lsn && e->first_lsn < seg->cut && went_elsewhere(seg, e))
            seg->cut = e->first_lsn;
        log_release(log, seg);
    }
}

/* ---- is it gone? ---- */

void log_gone_from(struct log_gone *g, uint64_t lsn)
{
    g->from = lsn;
    g->from_gen = g->gen + 1;
}

/* The one that has ${addr}, and the one behind it. */
static void around(struct log *log, uint64_t addr, struct log_gone *g)
{
    *g = (struct log_gone){ .next = UINT64_MAX, .from = UINT64_MAX, .room = UINT64_MAX };
    pthread_mutex_lock(&log->mutex);
    for (size_t i = 0; i < log->n_segs; i++) {
        if (log->segs[i]->first > addr) {
            g->next = log->segs[i]->first;
            g->next_gen = log->segs[i]->gen;
            break;
        }
        g->first = log->segs[i]->first;
        g->gen = log->segs[i]->gen;
        log_gone_from(g, log->segs[i]->cut);
    }
    pthread_mutex_unlock(&log->mutex);
}

uint64_t log_no_bytes(struct log *log, uint64_t addr)
{
    char name[SEGMENT_NAME_MAX];
    struct log_gone g;
    struct io_stat st;
    int rc;

    around(log, addr, &g);
    segment_name(g.first, g.gen, name);
    rc = io_stat_path(log->io, name, &st, NULL);
    if (rc == ERR_NOENT || addr >= g.from || (rc == 0 && st.size <= SEGMENT_HEADER_BYTES + (addr - g.first)))
        return g.next;
    return addr + FRAME_ALIGN;
}

/* Its header; false: it cannot be read. */
static bool header_of(struct log *log, uint64_t addr, struct segment_header *h, struct err *err)
{
    struct segment *seg = NULL;
    int rc = log_hold(log, addr, &seg, err);

    if (rc == 0)
        rc = log_read_header(log, seg, h, err);
    log_release(log, seg);
    return rc == 0;
}

int log_look_gone(struct log *log, uint64_t addr, struct log_gone *g, struct err *err)
{
    char name[SEGMENT_NAME_MAX];
    struct segment_header h;
    struct io_stat st;
    bool known;
    int rc;

    around(log, addr, g);
    segment_name(g->first, g->gen, name);
    rc = io_stat_path(log->io, name, &st, err);
    if (rc == ERR_NOENT && g->next != UINT64_MAX) {
        g->whole = true;
        return 0;
    }
    if (rc < 0)
        return rc == ERR_NOENT ? err_set(err, ERR_DAMAGE, "%s: expected the newest segment of the log, found no such file", name) : rc;
    if (g->next == UINT64_MAX)
        return 0;
    known = header_of(log, g->next, &h, NULL);
    if (known && (h.prev_gen == g->gen || h.prev_first >= g->next))
        return 0;                        /* nothing was between them, or nothing that held a record */
    if (known && h.prev_gen > g->gen && h.prev_gen < g->next_gen && h.prev_first > g->first && h.prev_first < g->from) {
        g->from = h.prev_first;
        g->from_gen = h.prev_gen;
    }
    g->shared = st.nlink > 1 && g->next_gen > g->gen + 1;
    g->room = st.size > SEGMENT_HEADER_BYTES ? g->first + st.size - SEGMENT_HEADER_BYTES : g->first;
    if (header_of(log, g->first, &h, NULL) && h.capacity > 0 && g->first + h.capacity < g->room)
        g->room = g->first + h.capacity;
    return 0;
}

bool log_is_gone(const struct log_gone *g, const struct record *rec)
{
    return g->whole || rec->lsn >= g->from || rec->lsn + frame_span(rec->head_len + rec->data_len) > g->room;
}

/* ---- made anew ---- */

struct taken { uint64_t gen; bool yes; };

static int is_taken(void *arg, const char *name)
{
    struct taken *t = arg;
    uint64_t first, gen;

    t->yes = t->yes || (segment_parse(name, &first, &gen) && gen == t->gen);
    return 0;
}

/* A generation between those of its neighbours: its own was one. */
static int free_gen(struct log *log, const struct log_gone *g, uint64_t *gen, struct err *err)
{
    int rc = 0;

    *gen = g->whole ? g->gen : g->from != UINT64_MAX ? g->from_gen : g->gen + 1;
    for (;; ++*gen) {
        struct taken t = { *gen, false };

        if (*gen >= g->next_gen)
            return err_set(err, ERR_DAMAGE, "log: expected a generation between %08" PRIx64 " and %08" PRIx64 " for the segment that is gone before @%" PRIu64 ", found none", g->gen, g->next_gen, g->next);
        rc = io_list(log->io, "log", is_taken, &t, err);
        if (rc < 0 || !t.yes)
            return rc;
    }
}

/* How many bytes of these heads are of it: all up to where the next segment begins. */
static int64_t its_own(const struct log_gone *g, const uint8_t *p, size_t len, struct err *err)
{
    struct record rec;
    uint64_t at = 0;
    size_t off = 0;
    int rc = 0;

    for (; rc == 0 && off < len && at < g->next; off += rec.head_len) {
        rc = record_decode(p + off, len - off, &rec, err);
        at = rec.lsn + frame_span(rec.head_len + rec.data_len);
    }
    if (rc == 0 && at != g->next)
        rc = err_set(err, ERR_DAMAGE, "log: expected the records of a segment that is gone up to @%" PRIu64 ", found them up to @%" PRIu64, g->next, at);
    return rc < 0 ? rc : (int64_t)off;
}

static int put_all(struct log *log, struct io_file *f, const struct segment_header *h, uint64_t end, const uint8_t *p, size_t len, struct err *err)
{
    uint64_t durable = log_durable(log) < end ? log_durable(log) : end;
    uint8_t buf[SEGMENT_HEADER_BYTES], frame[FRAME_BYTES];
    struct iovec head = { buf, sizeof buf };
    struct record rec;
    int rc;

    segment_header_encode(h, buf);
    rc = io_pwritev(f, &head, 1, 0, err);
    for (size_t off = 0; rc == 0 && off < len; off += rec.head_len) {
        struct frame fr = { .gen = h->gen, .incarnation = h->incarnation, .durable = durable };
        struct iovec iov[2] = { { frame, sizeof frame }, { (void *)(uintptr_t)(p + off), 0 } };

        rc = record_decode(p + off, len - off, &rec, err);
        if (rc < 0)
            break;
        fr.lsn = rec.lsn;
        fr.rec_len = rec.head_len + rec.data_len;
        iov[1].iov_len = rec.head_len;
        frame_encode(&fr, frame);
        rc = io_pwritev(f, iov, 2, SEGMENT_HEADER_BYTES + (rec.lsn - h->first), err);
    }
    if (rc == 0)
        rc = io_ftruncate(f, SEGMENT_HEADER_BYTES + (end - h->first), err);
    return rc == 0 ? io_fdatasync(f, err) : rc;
}

static int write_file(struct log *log, const struct segment_header *h, uint64_t end, const uint8_t *p, size_t len, struct err *err)
{
    char name[SEGMENT_NAME_MAX];
    struct io_file *f = NULL;
    int rc = io_unlink(log->io, LOG_HEALED, err);

    if (rc < 0 && rc != ERR_NOENT)
        return rc;
    rc = io_open(log->io, LOG_HEALED, IO_RDWR | IO_CREATE, &f, err);
    if (rc < 0)
        return rc;
    rc = put_all(log, f, h, end, p, len, err);
    io_close(f);
    segment_name(h->first, h->gen, name);
    if (rc == 0)
        rc = io_rename(log->io, LOG_HEALED, name, err);
    if (rc < 0)
        (void)io_unlink(log->io, LOG_HEALED, NULL);
    else if ((rc = io_syncdir(log->io, "log", err)) < 0)
        (void)io_unlink(log->io, name, NULL);
    return rc;
}

/* ---- its name alone is gone ---- */

/* [at, end), piece by piece: what the disk does not give is zeros in the new one, and its sums say so. */
static int copy_range(struct io_file *from, struct io_file *to, uint64_t at, uint64_t end, size_t piece, uint8_t *buf, struct err *err)
{
    int rc = 0;

    for (size_t n; rc == 0 && at < end; at += n) {
        struct iovec iov = { buf, 0 };
        int64_t got;

        n = end - at < piece ? (size_t)(end - at) : piece;
        got = io_pread(from, buf, n, at, NULL);
        if (got == ERR_IO && piece > DISK_PIECE)
            rc = copy_range(from, to, at, at + n, DISK_PIECE, buf, err);
        else if (got < 0 && got != ERR_IO)
            rc = err_set(err, (int)got, "log: a segment without a name cannot be read: %s", err_text((int)got));
        iov.iov_len = got > 0 ? (size_t)got : 0;
        if (got > 0)
            rc = io_pwritev(to, &iov, 1, at, err);
    }
    return rc;
}

static int copy_bytes(struct io_file *from, struct io_file *to, struct err *err)
{
    uint8_t *buf = malloc(LOG_LOOK_BYTES);
    struct io_stat st;
    int rc = buf != NULL ? io_fstat(from, &st, err) : err_set(err, ERR_NOMEM, "log: out of memory");

    if (rc == 0)
        rc = io_ftruncate(to, st.size, err);
    if (rc == 0)
        rc = copy_range(from, to, 0, st.size, LOG_LOOK_BYTES, buf, err);
    free(buf);
    return rc == 0 ? io_fdatasync(to, err) : rc;
}

/* Who reads in the old one goes on: the bytes are the same. Who comes next has the new one, ${anew}: 0. BUSY: the old one is not done with. */
static int swap(struct log *log, struct segment *old, struct segment *anew, struct err *err)
{
    int rc;

    pthread_mutex_lock(&log->make_lock);
    rc = log_grow(log, err);             /* (of the dead) */
    pthread_mutex_lock(&log->mutex);
    if (rc == 0 && (old->pinned || old->dropped || old == log->cur))
        rc = err_set(err, ERR_BUSY, "log: the segment that begins @%" PRIu64 " is still being written", old->first);
    for (size_t i = 0; rc == 0 && i < log->n_segs; i++) {
        if (log->segs[i] != old)
            continue;
        anew->end = old->end;
        anew->cut = old->cut;
        log->segs[i] = anew;
        log_open_remove_locked(log, old);
        log->dead[log->n_dead++] = old;  /* closed with the log */
        break;
    }
    pthread_mutex_unlock(&log->mutex);
    pthread_mutex_unlock(&log->make_lock);
    return rc;
}

static int copy_open(struct log *log, struct segment *seg, const char *name, struct err *err)
{
    const struct segment_header h = { .first = seg->first, .gen = seg->gen };
    struct segment *anew = log_segment_new(&h, NULL);
    struct io_file *f = NULL;
    int rc = anew != NULL ? io_unlink(log->io, LOG_HEALED, err) : err_set(err, ERR_NOMEM, "log: out of memory");

    if (rc == 0 || rc == ERR_NOENT)
        rc = io_open(log->io, LOG_HEALED, IO_RDWR | IO_CREATE, &f, err);
    if (rc == 0)
        rc = copy_bytes(seg->file, f, err);
    if (f != NULL)
        io_close(f);
    if (rc == 0)
        rc = io_rename(log->io, LOG_HEALED, name, err);
    if (rc < 0)
        (void)io_unlink(log->io, LOG_HEALED, NULL);
    else if ((rc = io_syncdir(log->io, "log", err)) == 0) {
        anew->header_known = false;      /* read when it is opened */
        rc = swap(log, seg, anew, err);
    }
    if (rc < 0)
        free(anew);
    return rc;
}

/* All that the segment before ${end} will ever have is in its file, durable. */
static int settled(struct log *log, uint64_t end, struct err *err)
{
    int rc = log_wait_written(log, end - 1) < 0 ? err_set(err, ERR_POISONED, "log: an earlier write or flush failed") : log_sync(log, err);

    return rc == 0 && log_durable(log) < end ? err_set(err, ERR_BUSY, "log: the segment that ends @%" PRIu64 " is still being written", end) : rc;
}

int log_heal_name(struct log *log, uint64_t first, struct err *err)
{
    char name[SEGMENT_NAME_MAX];
    struct segment *seg = NULL;
    struct log_gone g;
    struct io_stat st;
    uint64_t gen;
    int rc;

    around(log, first, &g);
    gen = g.gen;
    segment_name(g.first, g.gen, name);
    rc = g.first == first ? io_stat_path(log->io, name, &st, err) : err_set(err, ERR_NOENT, "log: no segment begins @%" PRIu64, first);
    if (rc != ERR_NOENT || g.first != first)
        return rc;
    rc = 0;
    if (g.next == UINT64_MAX && (rc = log_roll(log, err)) == 0) {        /* what is appended from here on has a name */
        around(log, first, &g);
        if (g.next == UINT64_MAX && g.gen == gen) {                      /* nothing was appended yet */
            rc = log_cover(log, first, err);
            return rc == 0 ? 1 : rc;
        }
    }
    if (rc == 0)
        rc = g.first != first || g.gen != gen || g.next == UINT64_MAX ? err_set(err, ERR_BUSY, "log: another segment begins @%" PRIu64 " by now", first) : settled(log, g.next, err);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&log->drop_lock);
    rc = log_hold(log, first, &seg, err);
    if (rc == 0)
        rc = seg->first == first && seg->gen == gen ? copy_open(log, seg, name, err) : err_set(err, ERR_NOENT, "log: no segment begins @%" PRIu64 " any more", first);
    log_release(log, seg);
    pthread_mutex_unlock(&log->drop_lock);
    return rc < 0 ? rc : 1;
}

/* Between its neighbours. ${seg} is the table's from here on. */
static int insert(struct log *log, struct segment *seg, uint64_t end, struct err *err)
{
    size_t i;
    int rc;

    pthread_mutex_lock(&log->make_lock);
    rc = log_grow(log, err);
    pthread_mutex_lock(&log->mutex);
    for (i = 0; rc == 0 && i < log->n_segs && log->segs[i]->first <= seg->first; i++)
        ;
    if (rc == 0) {
        memmove(log->segs + i + 1, log->segs + i, (log->n_segs - i) * sizeof *log->segs);
        log->segs[i] = seg;
        log->n_segs++;
        seg->end = end;
        if (i > 0)
            log->segs[i - 1]->end = seg->first;
    }
    pthread_mutex_unlock(&log->mutex);
    pthread_mutex_unlock(&log->make_lock);
    return rc;
}

/* Whether the neighbours are what they were: neither was let go of, nor healed by another stream. */
static bool same_around(struct log *log, uint64_t addr, const struct log_gone *g)
{
    struct log_gone now;

    around(log, addr, &now);
    return now.first == g->first && now.gen == g->gen && now.next == g->next && now.next_gen == g->next_gen;
}

/* Who wrote the frames of one that is in the table, if that is known. */
static uint64_t written_before(struct log *log, uint64_t first)
{
    uint64_t incarnation;

    pthread_mutex_lock(&log->mutex);
    incarnation = log->incarnation;
    for (size_t i = 0; i < log->n_segs; i++)
        if (log->segs[i]->first == first && log->segs[i]->header_known)
            incarnation = log->segs[i]->incarnation;
    pthread_mutex_unlock(&log->mutex);
    return incarnation;
}

int64_t log_segment_anew(struct log *log, const struct super *sb, const struct log_gone *g, const uint8_t *p, size_t len, struct err *err)
{
    struct segment_header h = { 0 };
    struct segment *seg = NULL;
    struct record rec;
    uint64_t gen = 0;
    int64_t own = its_own(g, p, len, err);
    int rc = own < 0 ? (int)own : record_decode(p, len, &rec, err);

    if (rc < 0)
        return rc;
    if (g->whole && rec.lsn != g->first)
        return err_set(err, ERR_DAMAGE, "log: expected the records of a segment that is gone from @%" PRIu64 " on, found them from @%" PRIu64 " on", g->first, rec.lsn);
    pthread_mutex_lock(&log->drop_lock);
    rc = same_around(log, rec.lsn, g) ? free_gen(log, g, &gen, err) : err_set(err, ERR_NOENT, "log: the segment that is gone before @%" PRIu64 " was healed, or let go of, meanwhile", g->next);
    if (rc == 0) {
        log_header_say(log, sb, &rec, rec.lsn, gen, g->next - rec.lsn, g->whole ? written_before(log, g->first) : log_writer(log), &h);
        if (!g->whole && (seg = log_segment_new(&h, NULL)) == NULL)
            rc = err_set(err, ERR_NOMEM, "log: out of memory");
    }
    if (rc == 0)
        rc = write_file(log, &h, g->next, p, (size_t)own, err);
    if (rc == 0 && seg != NULL && (rc = insert(log, seg, g->next, err)) < 0)
        log_unlink(log, h.first, h.gen);         /* else the next try would make another one beside it */
    pthread_mutex_unlock(&log->drop_lock);
    if (rc < 0)
        free(seg);
    return rc < 0 ? rc : own;
}
