/*
 * history.c: see history.h. The table of archive files is small: one entry for each, by address, none overlapping: of two that have an address
 * the newer one counts, and the older one is cut off there.
 */
#include "store/pack/history.h"

#include "store/base/slow.h"
#include "store/log/frame.h"
#include "store/pack/archive.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { NEAR = 4 << 20 };          /* addresses: so far a look-up goes on from the one before */

struct history {
    struct io *io;
    struct log *log;
    pthread_mutex_t mutex;
    struct history_file *file;       /* mutex; by first; `end` is where it counts to, which may be before its own end */
    size_t n, cap;                   /* mutex */
    uint64_t max_gen;                /* mutex */
    uint8_t (*ids)[16];              /* mutex; epochs: id, and where the next one begins */
    uint64_t *until;                 /* mutex */
    uint32_t n_ids;                  /* mutex */
    pthread_mutex_t look;            /* one look-up of a record at a time; taken before mutex */
    struct history_iter *last;       /* look; where the last one ended, for the next */
    uint64_t last_pos;               /* look */
};

struct history_iter {
    struct history *h;
    uint64_t pos, until;
    struct log_iter *log;
    struct archive *arc;
    uint64_t arc_until;              /* what counts of it ends here */
    bool chained;                    /* prev_* hold the record before pos */
    uint64_t prev_lsn;
    struct hash128 prev_hash;
};

/* ---- the table ---- */

static int nomem(struct err *err)
{
    return err_set(err, ERR_NOMEM, "archive: out of memory");
}

static int grow_locked(struct history *h)
{
    size_t cap = h->cap > 0 ? 2 * h->cap : 32;
    struct history_file *f;

    if (h->n + 2 <= h->cap)
        return 0;
    if ((f = realloc(h->file, cap * sizeof *f)) == NULL)
        return ERR_NOMEM;
    h->file = f;
    h->cap = cap;
    return 0;
}

static void remove_locked(struct history *h, size_t i)
{
    h->n--;
    memmove(h->file + i, h->file + i + 1, (h->n - i) * sizeof *h->file);
}

/* One that is newer than all there are. */
static int insert_locked(struct history *h, const struct history_file *f)
{
    size_t i = 0;

    if (grow_locked(h) < 0)
        return ERR_NOMEM;
    while (i < h->n && h->file[i].first < f->end) {
        if (h->file[i].end <= f->first) {
            i++;
        } else if (h->file[i].first < f->first) {
            h->file[i++].end = f->first;    /* what it has behind that is of a branch, or is had by the newer one */
        } else {
            remove_locked(h, i);
        }
    }
    i = 0;
    while (i < h->n && h->file[i].first < f->first)
        i++;
    memmove(h->file + i + 1, h->file + i, (h->n - i) * sizeof *h->file);
    h->file[i] = *f;
    h->n++;
    if (f->gen > h->max_gen)
        h->max_gen = f->gen;
    return 0;
}

struct names { struct history_file *v; size_t n, cap; };

static int name_of(void *arg, const char *name)
{
    struct names *l = arg;
    struct history_file f;

    if (!archive_parse(name, &f.first, &f.end, &f.gen))
        return 0;
    f.own_end = f.end;
    if (l->n == l->cap) {
        size_t cap = l->cap > 0 ? 2 * l->cap : 32;
        struct history_file *v = realloc(l->v, cap * sizeof *v);

        if (v == NULL)
            return ERR_NOMEM;
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = f;
    return 0;
}

static int older_first(const void *a, const void *b)
{
    uint64_t x = ((const struct history_file *)a)->gen, y = ((const struct history_file *)b)->gen;

    return x < y ? -1 : x > y;
}

/* Whose the file is: where its timeline leaves ours, UINT64_MAX nowhere. */
static int timeline(struct history *h, const struct history_file *f, const struct archive_head *a, uint64_t *until, struct err *err)
{
    char name[ARCHIVE_NAME_MAX];
    int rc = ERR_DAMAGE;

    pthread_mutex_lock(&h->mutex);
    for (uint32_t i = 0; i < h->n_ids; i++)
        if (memcmp(h->ids[i], a->epoch_id, 16) == 0) {
            *until = h->until[i];
            rc = 0;
        }
    pthread_mutex_unlock(&h->mutex);
    if (rc == 0)
        return 0;
    archive_name(f->first, f->own_end, f->gen, name);
    return err_set(err, rc, "%s: offset 96: expected an epoch of this store, found one of another", name);
}

int history_open(struct io *io, struct log *log, const struct super *sb, struct history **out, struct err *err)
{
    struct names l = { 0 };
    struct history *h = calloc(1, sizeof *h);
    int rc;

    if (h == NULL)
        return nomem(err);
    h->io = io;
    h->log = log;
    pthread_mutex_init(&h->mutex, NULL);
    pthread_mutex_init(&h->look, NULL);
    rc = io_list(io, "archive", name_of, &l, err);
    if (rc == ERR_NOENT)
        rc = 0;
    if (l.n > 1)
        qsort(l.v, l.n, sizeof *l.v, older_first);
    for (size_t i = 0; rc == 0 && i < l.n; i++)
        rc = insert_locked(h, &l.v[i]);
    free(l.v);
    history_epochs(h, sb);
    if (rc == 0 && sb->n_epochs > 0 && h->ids == NULL)
        rc = ERR_NOMEM;
    if (rc < 0) {
        history_close(h);
        return rc == ERR_NOMEM ? nomem(err) : rc;
    }
    *out = h;
    return 0;
}

void history_epochs(struct history *h, const struct super *sb)
{
    uint8_t (*ids)[16] = calloc(sb->n_epochs > 0 ? sb->n_epochs : 1, 16);
    uint64_t *until = calloc(sb->n_epochs > 0 ? sb->n_epochs : 1, sizeof *until);

    if (ids == NULL || until == NULL) {
        free(ids);
        free(until);
        return;                          /* the table of before: it is the beginning of this one */
    }
    for (uint32_t i = 0; i < sb->n_epochs; i++) {
        memcpy(ids[i], sb->epochs[i].id, 16);
        until[i] = i + 1 < sb->n_epochs ? sb->epochs[i + 1].first_lsn : UINT64_MAX;
    }
    pthread_mutex_lock(&h->mutex);
    free(h->ids);
    free(h->until);
    h->ids = ids;
    h->until = until;
    h->n_ids = sb->n_epochs;
    pthread_mutex_unlock(&h->mutex);
}

void history_close(struct history *h)
{
    if (h == NULL)
        return;
    history_iter_free(h->last);
    pthread_mutex_destroy(&h->mutex);
    pthread_mutex_destroy(&h->look);
    free(h->file);
    free(h->ids);
    free(h->until);
    free(h);
}

uint64_t history_first(struct history *h)
{
    uint64_t first = log_first(h->log);

    pthread_mutex_lock(&h->mutex);
    if (h->n > 0 && h->file[0].first < first)
        first = h->file[0].first;
    pthread_mutex_unlock(&h->mutex);
    return first;
}

uint64_t history_end(struct history *h)
{
    uint64_t end = 0;

    pthread_mutex_lock(&h->mutex);
    for (size_t i = 0; i < h->n && (i == 0 || h->file[i].first == end); i++)
        end = h->file[i].end;
    pthread_mutex_unlock(&h->mutex);
    return end;
}

uint64_t history_next_gen(struct history *h)
{
    uint64_t gen;

    pthread_mutex_lock(&h->mutex);
    gen = h->max_gen + 1;
    pthread_mutex_unlock(&h->mutex);
    return gen;
}

int history_added(struct history *h, uint64_t first, uint64_t end, uint64_t gen, struct err *err)
{
    struct history_file f = { first, end, gen, end };
    int rc;

    pthread_mutex_lock(&h->mutex);
    rc = insert_locked(h, &f);
    pthread_mutex_unlock(&h->mutex);
    return rc < 0 ? nomem(err) : 0;
}

/* The ${i}-th file that counts; false: there are fewer. By number, since others may come meanwhile. */
static bool file_at(struct history *h, size_t i, struct history_file *f)
{
    bool there;

    pthread_mutex_lock(&h->mutex);
    there = i < h->n;
    if (there)
        *f = h->file[i];
    pthread_mutex_unlock(&h->mutex);
    return there;
}

/* The first one that begins at or behind ${addr}: files may go, and come, meanwhile. */
static bool file_from(struct history *h, uint64_t addr, struct history_file *f)
{
    bool there = false;

    pthread_mutex_lock(&h->mutex);
    for (size_t i = 0; i < h->n && !there; i++)
        if (h->file[i].first >= addr) {
            *f = h->file[i];
            there = true;
        }
    pthread_mutex_unlock(&h->mutex);
    return there;
}

int history_files(struct history *h, int (*fn)(void *arg, const struct history_file *f), void *arg)
{
    struct history_file f = { 0 };
    int rc = 0;

    while (rc == 0 && file_from(h, f.first + 1, &f))
        rc = fn(arg, &f);
    return rc;
}

/* ---- what a base has ---- */

/* How many of the oldest files have nothing at or above ${upto}. */
static size_t older_locked(const struct history *h, uint64_t upto)
{
    size_t n = 0;

    while (n + 1 < h->n && h->file[n].own_end < upto)       /* what ends there has the record before it, which may be asked for */
        n++;
    return n;
}

struct leftover { struct history *h; uint64_t upto; int64_t bytes; struct err *err; };

/* A file of that name, if all it has is below: also one whose addresses a newer one has. */
static int remove_below(void *arg, const char *name)
{
    struct leftover *l = arg;
    char path[ARCHIVE_NAME_MAX];
    uint64_t first, end, gen;
    struct io_stat st;
    int rc;

    if (!archive_parse(name, &first, &end, &gen) || end > l->upto)
        return 0;
    archive_name(first, end, gen, path);
    if (io_stat_path(l->h->io, path, &st, NULL) == 0)
        l->bytes += (int64_t)st.size;
    rc = io_unlink(l->h->io, path, l->err);
    if (rc == 0)                         /* one by one: a crash must leave no gap between an older one that is still there and the rest */
        rc = io_syncdir(l->h->io, "archive", l->err);
    return rc == ERR_NOENT ? 0 : rc;
}

int64_t history_let_go(struct history *h, uint64_t upto, struct err *err)
{
    struct leftover l = { .h = h, .err = err };
    size_t n;
    int rc;

    pthread_mutex_lock(&h->mutex);
    n = older_locked(h, upto);
    if (n > 0) {
        for (size_t i = 0; i < n; i++)
            l.upto = h->file[i].own_end > l.upto ? h->file[i].own_end : l.upto;
        h->n -= n;
        memmove(h->file, h->file + n, h->n * sizeof *h->file);
    }
    pthread_mutex_unlock(&h->mutex);
    rc = n > 0 ? io_list(h->io, "archive", remove_below, &l, err) : 0;
    return rc < 0 ? rc : l.bytes;
}

uint64_t history_older(struct history *h, uint64_t upto, uint64_t *first, uint64_t *least)
{
    char path[ARCHIVE_NAME_MAX];
    struct history_file f;
    uint64_t bytes = 0;
    struct io_stat st;
    size_t n;

    pthread_mutex_lock(&h->mutex);
    n = older_locked(h, upto);
    *first = n < h->n ? h->file[n].first : log_first(h->log);
    *least = 0;
    for (size_t i = 0; i < n; i++)
        *least = h->file[i].own_end >= *least ? h->file[i].own_end + 1 : *least;
    pthread_mutex_unlock(&h->mutex);
    for (size_t i = 0; i < n && file_at(h, i, &f); i++) {
        archive_name(f.first, f.own_end, f.gen, path);
        if (io_stat_path(h->io, path, &st, NULL) == 0)
            bytes += st.size;
    }
    return bytes;
}

/* ---- records in order ---- */

/* The file that has ${addr}: 1; 0 none. */
static int file_of(struct history *h, uint64_t addr, struct history_file *f)
{
    size_t lo = 0, hi;
    int there;

    pthread_mutex_lock(&h->mutex);
    for (hi = h->n; lo < hi;) {
        size_t mid = lo + (hi - lo) / 2;

        if (h->file[mid].first <= addr)
            lo = mid + 1;
        else
            hi = mid;
    }
    there = lo > 0 && h->file[lo - 1].end > addr;
    if (there)
        *f = h->file[lo - 1];
    pthread_mutex_unlock(&h->mutex);
    return there;
}

bool history_file_of(struct history *h, uint64_t addr, struct history_file *f)
{
    return file_of(h, addr, f) == 1;
}

static int no_file(struct history *h, uint64_t pos, struct err *err)
{
    uint64_t first = history_first(h);

    if (pos < first)
        return err_set(err, ERR_NOENT, "records before @%" PRIu64 " were let go of while they were read; try again", first);
    return err_set(err, ERR_DAMAGE, "archive: expected a file with the records from @%" PRIu64 " on, which are not in the log any more, found none", pos);
}

int history_open_file(struct history *h, uint64_t addr, struct history_file *f, struct archive **out, struct err *warn, struct err *err)
{
    char name[ARCHIVE_NAME_MAX];
    uint64_t gone = 0;

    *out = NULL;
    memset(f, 0, sizeof *f);
    while (file_of(h, addr, f)) {
        struct err why = { 0 };
        int rc = archive_open(h->io, f->first, f->own_end, f->gen, out, warn, &why);

        if (rc != ERR_NOENT)
            return rc < 0 ? err_set(err, rc, "%s", why.msg) : 0;
        archive_name(f->first, f->own_end, f->gen, name);
        if (f->gen == gone)              /* and it counts still */
            return err_set(err, ERR_DAMAGE, "%s: expected a file of the archive, found none", name);
        gone = f->gen;
    }
    return err_set(err, ERR_NOENT, "archive: no file has @%" PRIu64, addr);
}

/* Opens what the archive has at it->pos. */
static int enter_archive(struct history_iter *it, struct err *err)
{
    struct history_file f;
    uint64_t until = UINT64_MAX;
    int rc;

    archive_close(it->arc);
    it->arc = NULL;
    slow_now();                          /* a disk, and the expansion of a frame */
    rc = history_open_file(it->h, it->pos, &f, &it->arc, NULL, err);
    if (rc == ERR_NOENT)                 /* not "no such record" */
        return no_file(it->h, it->pos, err);
    if (rc == 0)
        rc = timeline(it->h, &f, archive_head(it->arc), &until, err);
    if (rc == 0 && until <= it->pos)
        rc = no_file(it->h, it->pos, err);      /* what it has there is of a branch */
    if (rc == 0)
        rc = archive_seek(it->arc, it->pos, err);
    it->arc_until = until < f.end ? until : f.end;
    return rc;
}

static bool chain_ok(struct history_iter *it, const struct record *rec, struct err *err)
{
    if (!it->chained || (rec->prev_lsn == it->prev_lsn && hash128_eq(&rec->prev_hash, &it->prev_hash)))
        return true;
    (void)err_set(err, ERR_DAMAGE, "record @%" PRIu64 ": chain: expected predecessor %" PRIu64 " %016" PRIx64 "..., found %" PRIu64 " %016" PRIx64 "...",
                  rec->lsn, it->prev_lsn, get_be64(it->prev_hash.b), rec->prev_lsn, get_be64(rec->prev_hash.b));
    return false;
}

/* A record out of the archive: 1; 0: nothing more in it before it->arc_until. */
static int from_archive(struct history_iter *it, struct record *rec, const uint8_t **head, struct err *err)
{
    int rc;

    do {
        rc = archive_next(it->arc, rec, head, err);
    } while (rc == 1 && rec->lsn < it->pos);
    return rc == 1 && rec->lsn >= it->arc_until ? 0 : rc;
}

int history_iter_new(struct history *h, uint64_t from, uint64_t until, struct history_iter **out, struct err *err)
{
    struct history_iter *it = calloc(1, sizeof *it);
    uint64_t first = history_first(h), written = log_written(h->log);

    if (it == NULL)
        return nomem(err);
    it->h = h;
    it->pos = from > first ? from : first;
    it->until = until < written ? until : written;
    *out = it;
    return 0;
}

static int from_log(struct history_iter *it, struct record *rec, const uint8_t **head, struct err *err)
{
    int rc = 0;

    archive_close(it->arc);
    it->arc = NULL;
    if (it->log == NULL)
        rc = log_iter_new(it->h->log, it->pos, it->until, 0, &it->log, err);
    if (rc == 0)
        rc = log_iter_next(it->log, rec, err);
    if (rc == 1 && head != NULL)
        *head = log_iter_raw(it->log) + FRAME_BYTES;
    return rc;
}

int history_next(struct history_iter *it, struct record *rec, const uint8_t **head, struct err *err)
{
    struct record r;
    int rc = 0;

    while (rc == 0 && it->pos < it->until) {
        if (it->pos >= log_first(it->h->log)) {
            rc = from_log(it, &r, head, err);
            if (rc == 0)
                return 0;
            /* let go of between two steps, or before the first one, which then began behind what was asked for: it is in the archive */
            if (rc == ERR_NOENT || (rc == 1 && r.lsn > it->pos && it->pos < log_first(it->h->log))) {
                log_iter_free(it->log);
                it->log = NULL;
                rc = 0;
                if (err != NULL)
                    *err = (struct err){ 0 };
            }
            continue;
        }
        if (it->arc == NULL || it->pos >= it->arc_until)
            rc = enter_archive(it, err);
        if (rc == 0)
            rc = from_archive(it, &r, head, err);
        if (rc == 0)
            it->pos = it->arc_until;     /* addresses without a record */
    }
    if (rc != 1)
        return rc;
    if (r.lsn >= it->until)
        return 0;
    if (!chain_ok(it, &r, err))
        return ERR_DAMAGE;
    it->pos = r.lsn + frame_span(r.head_len + r.data_len);
    it->chained = true;
    it->prev_lsn = r.lsn;
    it->prev_hash = r.hash;
    *rec = r;
    return 1;
}

void history_iter_free(struct history_iter *it)
{
    if (it == NULL)
        return;
    log_iter_free(it->log);
    archive_close(it->arc);
    free(it);
}

/* ---- the one before an address ---- */

int history_behind(struct history *h, uint64_t end, uint64_t *lsn, struct hash128 *hash, struct err *err)
{
    struct err why = { 0 };
    struct record rec;
    void *buf = NULL;
    int rc = log_behind(h->log, end, lsn, hash, &why);

    if (rc != ERR_NOENT || end >= log_first(h->log))
        return rc < 0 ? err_set(err, rc, "%s", why.msg) : 0;
    rc = history_record(h, end, &rec, &buf, err);
    if (rc == 0) {
        *lsn = rec.prev_lsn;
        *hash = rec.prev_hash;
    }
    free(buf);
    return rc;
}

struct around { uint64_t addr, first; };

static int segment_around(void *arg, const struct log_segment_info *s)
{
    struct around *a = arg;

    if (s->first < a->addr)
        a->first = s->first;
    return s->first >= a->addr;
}

/* Where the segment or the file begins that has what is before ${addr}; 0: none. */
static uint64_t begins_before(struct history *h, uint64_t addr)
{
    struct around a = { addr, 0 };
    struct history_file f;

    if (addr > log_first(h->log))
        (void)log_segments(h->log, segment_around, &a);
    else if (addr > history_first(h) && file_of(h, addr - 1, &f))
        a.first = f.first;
    return a.first;
}

int history_before(struct history *h, uint64_t addr, struct history_place *out, struct err *err)
{
    struct history_iter *it = NULL;
    struct record rec;
    uint64_t from, until = addr;
    int rc = 0;

    memset(out, 0, sizeof *out);
    while (rc == 0 && out->lsn == 0 && (from = begins_before(h, until)) != 0) {
        rc = history_iter_new(h, from, until, &it, err);
        while (rc == 0 && (rc = history_next(it, &rec, NULL, err)) == 1) {
            uint64_t end = rec.lsn + frame_span(rec.head_len + rec.data_len);

            rc = 0;
            if (end > addr)
                break;
            *out = (struct history_place){ rec.lsn, end, rec.hash };
        }
        history_iter_free(it);
        it = NULL;
        until = from;
    }
    return rc < 0 ? rc : out->lsn != 0 ? 0 : err_set(err, ERR_NOENT, "record before @%" PRIu64 ": none is had", addr);
}

/* ---- one record ---- */

/* Looks are often for one behind the other: the iterator of the last one is kept. */
static int look_up(struct history *h, uint64_t lsn, struct record *rec, const uint8_t **head, struct err *err)
{
    int rc = 0;

    if (h->last == NULL || lsn < h->last_pos || lsn - h->last_pos > NEAR || lsn >= h->last->arc_until) {
        history_iter_free(h->last);
        h->last = NULL;
        rc = history_iter_new(h, lsn, UINT64_MAX, &h->last, err);
    }
    while (rc == 0) {
        rc = history_next(h->last, rec, head, err);
        if (rc == 1)
            h->last_pos = h->last->pos;
        rc = rc == 1 && rec->lsn < lsn ? 0 : rc == 0 ? ERR_NOENT : rc;
    }
    return rc == 1 && rec->lsn == lsn ? 1 : rc < 0 ? rc : ERR_NOENT;
}

int history_record(struct history *h, uint64_t lsn, struct record *rec, void **buf, struct err *err)
{
    const uint8_t *head = NULL;
    struct record r;
    uint8_t *copy = NULL;
    int rc = lsn >= log_first(h->log) ? log_read_record(h->log, lsn, false, rec, buf, err) : ERR_NOENT;

    if (rc != ERR_NOENT || lsn >= log_first(h->log))
        return rc;
    if (lsn < history_first(h))
        return err_set(err, ERR_NOENT, "record @%" PRIu64 ": before the first one that is had", lsn);
    slow_now();
    pthread_mutex_lock(&h->look);
    rc = look_up(h, lsn, &r, &head, err);
    if (rc == 1 && (copy = malloc(r.head_len)) == NULL)
        rc = nomem(err);
    if (rc == 1)
        memcpy(copy, head, r.head_len);
    if (rc < 0) {
        history_iter_free(h->last);
        h->last = NULL;
    }
    pthread_mutex_unlock(&h->look);
    if (rc == ERR_NOENT)
        return err_set(err, ERR_NOENT, "record @%" PRIu64 ": none begins there", lsn);
    if (rc == 1)
        rc = record_decode(copy, r.head_len, rec, err);     /* its pointers go into the copy */
    if (rc < 0) {
        free(copy);
        return rc;
    }
    *buf = copy;
    return 0;
}
