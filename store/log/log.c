/*
 * log.c: opening and closing, the table of segments, and their open files.
 */
#include "store/log/log_internal.h"
#include "store/base/super.h"

#include <stdlib.h>
#include <string.h>

/* --- waiting --------------------------------------------------------------- */

void log_wait_locked(struct log *log)
{
    log->waiters++;
    pthread_cond_wait(&log->changed, &log->mutex);
    log->waiters--;
}

void log_wake_locked(struct log *log)
{
    if (log->waiters > 0)
        pthread_cond_broadcast(&log->changed);
}

void log_poison(struct log *log)
{
    pthread_mutex_lock(&log->mutex);
    atomic_store(&log->poisoned, ERR_POISONED);
    pthread_cond_broadcast(&log->changed);
    pthread_mutex_unlock(&log->mutex);
}

/* --- the table of segments ------------------------------------------------- */

static int grow(struct segment ***v, size_t *cap, size_t need)
{
    size_t n = *cap > 0 ? *cap : 64;
    struct segment **p;

    while (n < need)
        n *= 2;
    if (n == *cap)
        return 0;
    p = realloc(*v, n * sizeof *p);
    if (p == NULL)
        return ERR_NOMEM;
    *v = p;
    *cap = n;
    return 0;
}

int log_grow(struct log *log, struct err *err)
{
    struct segment **dead;
    int rc;

    pthread_mutex_lock(&log->mutex);
    rc = grow(&log->segs, &log->cap_segs, log->n_segs + 1);
    if (rc == 0)
        rc = grow(&log->open, &log->cap_open, log->n_open + 1);
    if (rc == 0) {
        dead = realloc(log->dead, (log->n_dead + log->n_segs + 2) * sizeof *dead);
        if (dead == NULL)
            rc = ERR_NOMEM;
        else
            log->dead = dead;
    }
    pthread_mutex_unlock(&log->mutex);
    return rc == 0 ? 0 : err_set(err, rc, "log: out of memory for the table of segments");
}

struct segment *log_segment_new(const struct segment_header *h, struct io_file *file)
{
    struct segment *seg = calloc(1, sizeof *seg);

    if (seg == NULL)
        return NULL;
    seg->first = h->first;
    seg->gen = h->gen;
    seg->end = seg->cut = UINT64_MAX;
    seg->capacity = h->capacity;
    seg->incarnation = h->incarnation;
    seg->header_known = true;
    seg->file = file;
    return seg;
}

void log_add_locked(struct log *log, struct segment *seg)
{
    if (log->n_segs > 0)
        log->segs[log->n_segs - 1]->end = seg->first;
    log->segs[log->n_segs++] = seg;
    if (seg->file != NULL)
        log->open[log->n_open++] = seg;
    log->cur = seg;
}

void log_unpin_locked(struct log *log, struct segment *seg)
{
    if (seg->pinned && seg != log->cur && seg->end <= atomic_load(&log->durable)) {
        seg->pinned = false;
        seg->refs--;
    }
}

/* The segment that covers ${addr}, or NULL below the first one. */
static struct segment *find_locked(struct log *log, uint64_t addr)
{
    size_t lo = 0, hi = log->n_segs;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (log->segs[mid]->first <= addr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo > 0 ? log->segs[lo - 1] : NULL;
}

void log_open_remove_locked(struct log *log, struct segment *seg)
{
    for (size_t i = 0; i < log->n_open; i++)
        if (log->open[i] == seg) {
            log->open[i] = log->open[--log->n_open];
            return;
        }
}

struct io_file *log_evict_locked(struct log *log)
{
    struct segment *old = NULL;
    struct io_file *file;

    if (log->n_open <= LOG_OPEN_MAX)
        return NULL;
    for (size_t i = 0; i < log->n_open; i++)
        if (log->open[i]->refs == 0 && (old == NULL || log->open[i]->used < old->used))
            old = log->open[i];
    if (old == NULL)
        return NULL;
    file = old->file;
    old->file = NULL;
    log_open_remove_locked(log, old);
    return file;
}

int log_hold(struct log *log, uint64_t addr, struct segment **out, struct err *err)
{
    char name[SEGMENT_NAME_MAX];
    struct io_file *file = NULL, *close_it = NULL;
    struct segment *seg;
    bool dropped = false;
    int rc = 0;

    pthread_mutex_lock(&log->mutex);
    seg = find_locked(log, addr);
    if (seg == NULL) {
        pthread_mutex_unlock(&log->mutex);
        return err_set(err, ERR_NOENT, "log: address %llu is below what is held", (unsigned long long)addr);
    }
    seg->refs++;                /* also keeps it out of log_evict_locked's hands */
    seg->used = ++log->stamp;
    if (seg->file == NULL) {
        pthread_mutex_unlock(&log->mutex);
        segment_name(seg->first, seg->gen, name);
        rc = io_open(log->io, name, IO_RDONLY, &file, err);
        pthread_mutex_lock(&log->mutex);
        if (rc == 0 && seg->file != NULL)
            close_it = file;    /* another thread was faster */
        else if (rc == 0) {
            rc = grow(&log->open, &log->cap_open, log->n_open + 1);
            if (rc == 0) {
                seg->file = file;
                log->open[log->n_open++] = seg;
                close_it = log_evict_locked(log);
            } else {
                close_it = file;
                err_set(err, rc, "log: out of memory for the table of open segments");
            }
        }
        if (rc != 0)
            seg->refs--;
        dropped = seg->dropped;
    }
    pthread_mutex_unlock(&log->mutex);
    if (close_it != NULL)
        io_close(close_it);
    if (rc == ERR_NOENT && dropped)
        return err_set(err, ERR_NOENT, "log: address %llu is no longer held", (unsigned long long)addr);
    if (rc == ERR_NOENT)        /* the name was there when the log was opened */
        return err_set(err, ERR_DAMAGE, "%s: expected a segment file, found none", name);
    if (rc == 0)
        *out = seg;
    return rc;
}

void log_release(struct log *log, struct segment *seg)
{
    if (seg == NULL)
        return;
    pthread_mutex_lock(&log->mutex);
    seg->refs--;
    pthread_mutex_unlock(&log->mutex);
}

uint64_t log_segment_end(struct log *log, const struct segment *seg)
{
    uint64_t end;

    pthread_mutex_lock(&log->mutex);
    end = seg->end;
    pthread_mutex_unlock(&log->mutex);
    return end;
}

void log_forget(struct log *log, struct segment *seg)
{
    pthread_mutex_lock(&log->mutex);
    for (size_t i = 0; i < log->n_segs; i++) {
        if (log->segs[i] != seg)
            continue;
        memmove(log->segs + i, log->segs + i + 1, (log->n_segs - i - 1) * sizeof *log->segs);
        log->n_segs--;
        break;
    }
    if (seg->pinned) {
        seg->pinned = false;
        seg->refs--;
    }
    log->dead[log->n_dead++] = seg;
    log->cur = log->n_segs > 0 ? log->segs[log->n_segs - 1] : NULL;
    if (log->cur != NULL)
        log->cur->end = UINT64_MAX;
    pthread_mutex_unlock(&log->mutex);
}

void log_unlink(struct log *log, uint64_t first, uint64_t gen)
{
    char name[SEGMENT_NAME_MAX];

    segment_name(first, gen, name);
    io_unlink(log->io, name, NULL);
    log->swept = false;
}

static bool our_lineage(const struct log *log, const uint8_t lineage[16])
{
    if (memcmp(log->lineage, lineage, 16) == 0)
        return true;
    for (uint32_t i = 0; i < log->n_epochs; i++)
        if (memcmp(log->of_epoch[i], lineage, 16) == 0)
            return true;
    return false;
}

int log_read_header(struct log *log, struct segment *seg, struct segment_header *h, struct err *err)
{
    char name[SEGMENT_NAME_MAX];
    uint8_t buf[SEGMENT_HEADER_BYTES];
    struct err e = { 0 };
    int64_t n;
    int rc;

    segment_name(seg->first, seg->gen, name);
    n = io_pread(seg->file, buf, sizeof buf, 0, err);
    if (n < 0)
        return (int)n;
    rc = segment_header_decode(buf, (size_t)n, h, &e);
    if (rc != 0)
        return err_set(err, rc, "%s: offset 0: %s", name, e.msg);
    if (h->first != seg->first || h->gen != seg->gen)
        return err_set(err, ERR_DAMAGE, "%s: offset 0: expected the header of this name, found first %llx, generation %llx",
                       name, (unsigned long long)h->first, (unsigned long long)h->gen);
    /* The site may be that of the store this one is a copy of. */
    if (!our_lineage(log, h->lineage))
        return err_set(err, ERR_DAMAGE, "%s: offset 0: expected a segment of this store's lineage, found one of another", name);
    pthread_mutex_lock(&log->mutex);
    if (!seg->header_known) {
        seg->capacity = h->capacity;
        seg->incarnation = h->incarnation;
        seg->header_known = true;
    }
    pthread_mutex_unlock(&log->mutex);
    return 0;
}

/* --- open and close -------------------------------------------------------- */

struct listing {
    struct { uint64_t first, gen; } *v;
    size_t n, cap;
    int rc;
};

static int list_one(void *arg, const char *name)
{
    struct listing *l = arg;
    uint64_t first, gen;

    if (!segment_parse(name, &first, &gen))
        return 0;
    if (l->n == l->cap) {
        size_t cap = l->cap > 0 ? l->cap * 2 : 64;
        void *p = realloc(l->v, cap * sizeof *l->v);

        if (p == NULL) {
            l->rc = ERR_NOMEM;
            return 1;
        }
        l->v = p;
        l->cap = cap;
    }
    l->v[l->n].first = first;
    l->v[l->n].gen = gen;
    l->n++;
    return 0;
}

static int newest_first(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return x[1] < y[1] ? 1 : x[1] > y[1] ? -1 : 0;
}

/*
 * Fill the table from the names in log/. Newest generation first: each covers what
 * lies between its first address and the lowest first address of a newer one; nothing
 * there: it is superseded (*${n_old} of them, kept at the end of ${l}).
 */
static int build_table(struct log *log, struct listing *l, size_t *n_old, struct err *err)
{
    struct segment **seg = NULL;
    uint64_t limit = UINT64_MAX;
    size_t n = 0, old = 0;
    int rc = 0;

    qsort(l->v, l->n, sizeof *l->v, newest_first);
    seg = calloc(l->n, sizeof(struct segment *));
    if (seg == NULL)
        return err_set(err, ERR_NOMEM, "log: out of memory");
    log->max_gen = l->v[0].gen;
    for (size_t i = 0; i < l->n && rc == 0; i++) {
        struct segment_header h = { .first = l->v[i].first, .gen = l->v[i].gen };

        if (i > 0 && l->v[i].gen == l->v[i - 1].gen) {
            rc = err_set(err, ERR_DAMAGE, "log: expected one segment of generation %08llx, found two",
                         (unsigned long long)l->v[i].gen);
        } else if (h.first >= limit) {
            l->v[old++] = l->v[i];      /* old <= i: a place already passed */
        } else if ((seg[n] = log_segment_new(&h, NULL)) == NULL) {
            rc = err_set(err, ERR_NOMEM, "log: out of memory");
        } else {
            seg[n]->header_known = false;
            seg[n]->end = limit;
            limit = h.first;
            n++;
        }
    }
    while (rc == 0 && log->n_segs < n) {
        rc = log_grow(log, err);
        if (rc == 0) {
            log_add_locked(log, seg[n - 1 - log->n_segs]);  /* nobody else has the log yet */
            seg[n - log->n_segs] = NULL;
        }
    }
    for (size_t i = 0; i < n; i++)
        free(seg[i]);           /* only those not handed over on failure */
    free(seg);
    *n_old = old;
    return rc;
}

struct log *log_alloc(struct io *io, const struct super *sb, const struct log_options *opt)
{
    struct log *log = calloc(1, sizeof *log);

    if (log == NULL)
        return NULL;
    log->io = io;
    if (opt != NULL)
        log->opt = *opt;
    if (log->opt.segment_bytes == 0)
        log->opt.segment_bytes = LOG_SEGMENT_DEF;
    log->zeroing = UINT64_MAX;
    memcpy(log->lineage, sb->lineage, 16);
    memcpy(log->site, sb->site, 16);
    log->key_id = sb->key_id;
    log->incarnation = sb->incarnation;
    if (sb->n_epochs > 0 && sb->n_epochs <= SUPER_EPOCHS_MAX) {
        log->n_epochs = sb->n_epochs;
        for (uint32_t i = 0; i < sb->n_epochs; i++)
            memcpy(log->of_epoch[i], sb->epochs[i].lineage, 16);
        log->epoch = sb->epochs[sb->n_epochs - 1].number;
        memcpy(log->epoch_id, sb->epochs[sb->n_epochs - 1].id, 16);
    }
    pthread_mutex_init(&log->drop_lock, NULL);
    pthread_mutex_init(&log->make_lock, NULL);
    pthread_mutex_init(&log->mutex, NULL);
    pthread_cond_init(&log->changed, NULL);
    return log;
}

int log_create(struct io *io, const struct super *sb, const struct log_options *opt, struct err *err)
{
    static const struct hash128 none;

    return log_create_at(io, sb, opt, LOG_FIRST_ADDR, 0, &none, err);
}

int log_create_at(struct io *io, const struct super *sb, const struct log_options *opt, uint64_t first, uint64_t last_lsn, const struct hash128 *last_hash,
                  struct err *err)
{
    struct segment_header h;
    struct segment *seg = NULL;
    struct log *log;
    int rc;

    rc = io_mkdir(io, "log", err);
    if (rc != 0 && rc != ERR_EXIST)
        return rc;
    log = log_alloc(io, sb, opt);
    if (log == NULL)
        return err_set(err, ERR_NOMEM, "log: out of memory");
    rc = io_syncdir(io, ".", err);
    if (rc != 0)
        goto out;
    rc = log_next_open(log, log->opt.segment_bytes, log->opt.preallocate, err);
    if (rc != 0)
        goto out;
    log_header_fill(log, &h);
    h.gen = 1;
    h.first = h.cut = first;
    h.prev_lsn = last_lsn;
    h.prev_hash = *last_hash;
    if (last_lsn != 0) {                 /* there was another one, which nobody has */
        h.gen = 2;
        h.prev_gen = 1;
        h.prev_first = LOG_FIRST_ADDR;
    }
    h.capacity = log->opt.segment_bytes;
    rc = log_publish(log, &h, &seg, err);
    if (rc == 0) {
        io_close(seg->file);
        free(seg);
    }
out:
    log_close(log);
    return rc;
}

int log_trim(struct io_file *f, uint64_t bytes, struct err *err)
{
    struct io_stat st;
    int rc = io_fstat(f, &st, err);

    return rc != 0 || st.nlink > 1 ? rc : io_ftruncate(f, bytes, err);
}

/* The last segment is written to: open it so, and keep it open. */
static int open_current(struct log *log, struct err *err)
{
    struct segment_header h;
    struct segment *seg = log->cur;
    struct io_stat st = { 0 };
    char name[SEGMENT_NAME_MAX];
    int rc;

    if (seg->pinned)
        return 0;               /* made by log_seal */
    rc = log_grow(log, err);
    if (rc != 0)
        return rc;
    if (seg->file != NULL) {
        io_close(seg->file);
        seg->file = NULL;
        log_open_remove_locked(log, seg);
    }
    segment_name(seg->first, seg->gen, name);
    rc = io_open(log->io, name, IO_RDWR, &seg->file, err);
    if (rc != 0)
        return rc;
    log->open[log->n_open++] = seg;
    seg->pinned = true;
    seg->refs++;
    rc = log_read_header(log, seg, &h, err);
    if (rc == 0 && h.ro_compat != 0)
        rc = err_set(err, ERR_VERSION, "%s: unknown features %#llx: this program may read it, not write", name,
                     (unsigned long long)h.ro_compat);
    if (rc == 0)
        log->incarnation = seg->incarnation;
    if (rc == 0)
        rc = io_fstat(seg->file, &st, err);
    if (rc == 0 && st.nlink > 1)
        seg->capacity = 0;      /* a branch has it too: full, so that log_set_writer takes a new one */
    return rc;
}

/* Files that a newer generation covers wholly: left behind by a recovery that was cut short. The
 * directory is synced first, so that the newer one is there for good. */
static void drop_superseded(struct log *log, const struct listing *l, size_t n)
{
    if (n == 0 || io_syncdir(log->io, "log", NULL) != 0)
        return;
    for (size_t i = 0; i < n; i++)
        log_unlink(log, l->v[i].first, l->v[i].gen);
}

/* What is copied behind ${addr} was written in the epoch of that place, which a later row does not change. */
void log_epoch_at(struct log *log, const struct super *sb, uint64_t addr)
{
    for (uint32_t i = 0; i < sb->n_epochs && i < SUPER_EPOCHS_MAX && (i == 0 || sb->epochs[i].first_lsn <= addr); i++) {
        log->epoch = sb->epochs[i].number;
        memcpy(log->epoch_id, sb->epochs[i].id, 16);
    }
}

/*
 * What was answered and the disk did not keep: others know of it, so that going on from before it must not happen unseen. An address
 * alone would not tell: somebody else may have gone on there meanwhile.
 */
static int check_least(struct log *log, const struct log_recovery *rec, struct err *err)
{
    uint64_t lsn = log->opt.least_lsn;
    struct record r;
    void *buf = NULL;
    /* What was let go of had been durable. */
    bool there = lsn < log_first(log) || (lsn <= rec->last_lsn && log_read_record(log, lsn, false, &r, &buf, NULL) == 0 && r.incarnation == log->opt.least_writer);

    free(buf);
    return there ? 0 : err_set(err, ERR_IO, "log: operations that had been answered are lost, the disk did not keep them: it ends with the "
                               "record @%llu, and @%llu had been answered. Reading works; unmount and mount again to go on from there",
                               (unsigned long long)rec->last_lsn, (unsigned long long)lsn);
}

int log_open(struct io *io, const struct super *sb, const struct log_options *opt, bool writable,
             uint64_t known_durable, struct log **out, struct log_recovery *rec, struct err *err)
{
    struct listing l = { 0 };
    struct log_end end = { 0 };
    struct log *log;
    size_t n_old = 0;
    int rc;

    memset(rec, 0, sizeof *rec);
    log = log_alloc(io, sb, opt);
    if (log == NULL)
        return err_set(err, ERR_NOMEM, "log: out of memory");
    rc = io_list(io, "log", list_one, &l, err);
    if (rc == ERR_NOENT)
        rc = err_set(err, ERR_DAMAGE, "log: expected a directory of segments, found none");
    if (rc >= 0 && l.rc != 0)
        rc = err_set(err, l.rc, "log: out of memory");
    else if (rc >= 0 && l.n == 0)
        rc = err_set(err, ERR_DAMAGE, "log: expected segments, found none");
    if (rc < 0)
        goto out;
    rc = build_table(log, &l, &n_old, err);
    if (rc != 0)
        goto out;
    log_part(log, sb);
    rc = log_recover(log, sb, known_durable, rec, &end, err);
    if (rc != 0)
        goto out;
    if (rec->damaged && writable) {
        if (err != NULL)
            *err = rec->damage;
        rc = ERR_DAMAGE;
        goto out;
    }
    if (writable && log->opt.least_lsn != 0) {
        rc = check_least(log, rec, err);
        if (rc != 0)
            goto out;
    }
    if (writable) {
        log->writable = true;
        if (!end.clean)
            log_epoch_at(log, sb, end.copy_from);
        rc = end.clean ? 0 : log_seal(log, &end, rec, err);
        if (rc == 0)
            rc = open_current(log, err);
        if (rc != 0)
            goto out;
        drop_superseded(log, &l, n_old);
        (void)io_unlink(io, LOG_HEALED, NULL);      /* left by a crash */
    }
    *out = log;
    log = NULL;
out:
    free(l.v);
    log_close(log);
    return rc;
}

static void free_segments(struct segment **v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (v[i]->file != NULL)
            io_close(v[i]->file);
        free(v[i]);
    }
    free(v);
}

void log_close(struct log *log)
{
    if (log == NULL)
        return;
    free_segments(log->segs, log->n_segs);
    free_segments(log->dead, log->n_dead);
    free(log->open);
    if (log->next != NULL)
        io_close(log->next);
    pthread_cond_destroy(&log->changed);
    pthread_mutex_destroy(&log->mutex);
    pthread_mutex_destroy(&log->make_lock);
    pthread_mutex_destroy(&log->drop_lock);
    free(log);
}

/* --- what it says ---------------------------------------------------------- */

void log_end_here(struct log *log, uint64_t addr, uint64_t lsn, const struct hash128 *hash)
{
    log->last_lsn = lsn;
    log->last_hash = *hash;
    atomic_store(&log->head, addr);
    atomic_store(&log->written, addr);
    atomic_store(&log->durable, addr);
}

uint64_t log_head(struct log *log)    { return atomic_load(&log->head); }
uint64_t log_written(struct log *log) { return atomic_load(&log->written); }
uint64_t log_durable(struct log *log) { return atomic_load(&log->durable); }
int      log_poisoned(struct log *log) { return atomic_load(&log->poisoned); }

uint64_t log_newest(struct log *log)
{
    pthread_mutex_lock(&log->mutex);
    uint64_t gen = log->max_gen;
    pthread_mutex_unlock(&log->mutex);
    return gen;
}

uint64_t log_first(struct log *log)
{
    uint64_t first;

    pthread_mutex_lock(&log->mutex);
    first = log->segs[0]->first;
    pthread_mutex_unlock(&log->mutex);
    return first;
}

void log_last(struct log *log, uint64_t *lsn, struct hash128 *hash)
{
    pthread_mutex_lock(&log->mutex);
    *lsn = log->last_lsn;
    *hash = log->last_hash;
    pthread_mutex_unlock(&log->mutex);
}

int log_segments(struct log *log, int (*fn)(void *arg, const struct log_segment_info *s), void *arg)
{
    uint64_t at = 0;
    int rc = 0;

    /* By address, not by index: segments may be added meanwhile. */
    while (rc == 0) {
        struct log_segment_info s = { 0 };
        struct io_stat st;
        struct segment *seg = NULL;

        pthread_mutex_lock(&log->mutex);
        for (size_t i = 0; i < log->n_segs && (seg == NULL || log->segs[i]->first == seg->first); i++)
            if (log->segs[i]->first >= at)
                seg = log->segs[i];      /* of two that begin there the newer one: the other was empty, and too small for a record */
        if (seg != NULL) {
            s.first = seg->first;
            s.gen = seg->gen;
            s.end = seg->end == UINT64_MAX ? atomic_load(&log->written) : seg->end;
        }
        pthread_mutex_unlock(&log->mutex);
        if (seg == NULL)
            break;
        segment_name(s.first, s.gen, s.name);
        if (io_stat_path(log->io, s.name, &st, NULL) == 0)
            s.file_bytes = st.size;
        rc = fn(arg, &s);
        at = s.first + 1;
    }
    return rc;
}
