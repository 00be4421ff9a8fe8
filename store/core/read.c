/*
 * read.c: reading the live tree (rows in memory, else the index) or a past moment (the index alone).
 */
#include "store/core/core_internal.h"
#include "store/core/wounds.h"
#include "store/pack/packs_supplement.h"

#include "store/base/slow.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int read_applied(struct store *s, uint64_t lsn, struct wait *wait)
{
    struct wait own, *w = wait_or(wait, &own);
    uint64_t applied = atomic_load(&s->applied);
    if (applied > lsn)
        return 0;
    if (wait != NULL && wait->kind == WAIT_APPLIED && wait->addr != 0 && applied >= wait->addr)
        return 0;                        /* what this request waited for has come; later changes do not hold it up */
    *w = (struct wait){ WAIT_APPLIED, lsn + 1 };
    if (wait == NULL) {
        int rc = store_await(s, w);
        return rc < 0 ? ERR_POISONED : 0;
    }
    pthread_mutex_lock(&s->lock);
    run_nudge_locked(s, WAIT_APPLIED);
    pthread_mutex_unlock(&s->lock);
    return atomic_load(&s->failed) ? ERR_POISONED : ERR_WAIT;
}

int read_at(struct store *s, uint64_t at, struct wait *wait)
{
    if (at == AT_LIVE || atomic_load(&s->applied) > at)
        return 0;
    /* a moment between the last record and the head: wait for that record, nothing more comes */
    uint64_t head = log_head(s->log);
    return head <= at ? read_applied(s, head - 1, wait) : read_applied(s, at, wait);
}

/*
 * A row of the live tree with the lock held, loaded outside the lock if it is not in memory. On success the lock is held
 * and *${out} is valid until it is released, NULL for a name that is known not to exist without one; on failure it is not held.
 */
static int live_row(struct store *s, enum crow_kind kind, uint64_t ino, uint64_t mapgen, uint64_t block, const void *name,
                    size_t nlen, struct crow **out, struct err *err)
{
    pthread_mutex_lock(&s->lock);
    for (;;) {
        struct crow *r = cache_peek(&s->ix.cache, kind, ino, mapgen, block, name, nlen);
        if (r != NULL) {
            s->ix.cache.hits++;
            *out = r;
            return 0;
        }
        if (kind == CROW_DEN && cache_is_whole(&s->ix.cache, ino)) {
            *out = NULL;                 /* none is made: whoever looks for names that are not there would fill the memory */
            return 0;
        }
        s->ix.cache.misses++;
        /* Who only reads applies nothing, so the bound is kept here too. A little late: what is evicted makes other threads load again. */
        if (s->ix.cache.bytes > s->opt.memory_bytes / 4 + s->opt.memory_bytes / 256)
            cache_trim(&s->ix.cache, s->opt.memory_bytes / 4);
        uint64_t evictions = s->ix.cache.evictions;
        pthread_mutex_unlock(&s->lock);
        int rc = cache_load(s->kv, kind, ino, mapgen, block, name, nlen, &r, err);
        if (rc < 0)
            return rc;
        pthread_mutex_lock(&s->lock);
        (void)cache_insert_loaded(&s->ix.cache, r, evictions);
    }
}

/* Of an inode, a name or a map. */
static uint64_t row_birth(const struct crow *r)
{
    switch (r->kind) {
    case CROW_INO:
        return r->u.ino.row.birth;
    case CROW_DEN:
        return r->u.den.birth;
    default:
        return r->u.map.row.birth;
    }
}

/*
 * A row of a past moment that is still what it was, if it is in memory: the current row, born at or before ${at}. Most of a past tree is such
 * rows, and each saves a look-up or two in the index. On success the lock is held; NULL: it is not, and the index has to be asked.
 */
static struct crow *same_row(struct store *s, uint64_t at, enum crow_kind kind, uint64_t ino, uint64_t mapgen, uint64_t block,
                             const void *name, size_t nlen)
{
    pthread_mutex_lock(&s->lock);
    struct crow *r = cache_peek(&s->ix.cache, kind, ino, mapgen, block, name, nlen);
    if (r != NULL && r->present && row_birth(r) <= at)
        return r;
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static int past_ino(struct store *s, uint64_t at, uint64_t ino, struct row_ino *row)
{
    struct crow *r = same_row(s, at, CROW_INO, ino, 0, 0, NULL, 0);
    if (r == NULL) {
        int rc = asof_ino(s->kv, at, ino, row, NULL, NULL);
        return rc == ERR_NOENT ? ERR_STALE : rc;
    }
    *row = r->u.ino.row;
    pthread_mutex_unlock(&s->lock);
    return row->hidden != 0 ? ERR_STALE : 0;     /* it is here, and of no moment */
}

static int past_den(struct store *s, uint64_t at, uint64_t parent, const char *name, size_t nlen, struct row_den *den)
{
    struct crow *r = same_row(s, at, CROW_DEN, parent, 0, 0, name, nlen);
    if (r == NULL)
        return asof_den(s->kv, at, parent, name, nlen, den, NULL);
    *den = r->u.den;
    pthread_mutex_unlock(&s->lock);
    return den->hidden ? ERR_NOENT : 0;
}

int store_getattr(struct store *s, uint64_t at, uint64_t ino, struct row_ino *row, struct wait *wait)
{
    struct crow *r = NULL;
    int rc = read_at(s, at, wait);
    if (rc < 0)
        return rc;
    if (at != AT_LIVE)
        return past_ino(s, at, ino, row);
    rc = live_row(s, CROW_INO, ino, 0, 0, NULL, 0, &r, NULL);
    if (rc < 0)
        return rc;
    if (r->present)
        *row = r->u.ino.row;
    else
        rc = ERR_STALE;
    pthread_mutex_unlock(&s->lock);
    return rc;
}

int read_den(struct store *s, uint64_t parent, const char *name, size_t nlen, struct row_den *den)
{
    struct crow *r = NULL;
    int rc = live_row(s, CROW_DEN, parent, 0, 0, name, nlen, &r, NULL);
    if (rc < 0)
        return rc;
    if (r != NULL && r->present)
        *den = r->u.den;
    else
        rc = ERR_NOENT;
    pthread_mutex_unlock(&s->lock);
    return rc;
}

int store_lookup(struct store *s, uint64_t at, uint64_t parent, const char *name, size_t nlen, uint64_t *ino,
                 struct row_ino *row, struct wait *wait)
{
    struct row_den den = { 0 };
    if (nlen > REC_NAME_MAX)
        return ERR_NAMETOOLONG;
    if (nlen == 0)
        return ERR_NOENT;
    int rc = read_at(s, at, wait);
    if (rc < 0)
        return rc;
    rc = at != AT_LIVE ? past_den(s, at, parent, name, nlen, &den) : read_den(s, parent, name, nlen, &den);
    if (rc < 0)
        return rc;
    *ino = den.ino;
    rc = store_getattr(s, at, den.ino, row, wait);
    return rc == ERR_STALE ? ERR_NOENT : rc;   /* unlinked and reaped in between */
}

int store_readlink(struct store *s, uint64_t at, uint64_t ino, char *buf, size_t cap, struct wait *wait)
{
    struct row_ino row;
    struct crow *r = NULL;
    char *target = NULL;
    size_t n = 0;
    int rc = read_at(s, at, wait);
    if (rc < 0)
        return rc;
    if (at != AT_LIVE) {
        rc = asof_ino(s->kv, at, ino, &row, &target, NULL);
        if (rc < 0)
            return rc == ERR_NOENT ? ERR_STALE : rc;
    } else {
        rc = live_row(s, CROW_INO, ino, 0, 0, NULL, 0, &r, NULL);
        if (rc < 0)
            return rc;
        if (!r->present)
            return change_abort(s, ERR_STALE);
        row = r->u.ino.row;
        target = r->u.ino.target;
    }
    if (!S_ISLNK(row.mode)) {
        rc = ERR_INVAL;
    } else {
        n = row.target_len < cap ? row.target_len : cap;
        if (n > 0)
            memcpy(buf, target, n);
    }
    if (at == AT_LIVE)
        pthread_mutex_unlock(&s->lock);
    else
        free(target);
    return rc < 0 ? rc : (int)n;
}

/* ---- directories ---- */

/* The part that has what comes behind ${after}. */
static struct listing *listing_find(struct store *s, uint64_t at, uint64_t ino, uint64_t version, uint64_t after)
{
    struct listing *l = NULL;
    pthread_mutex_lock(&s->list_lock);
    for (int i = 0; i < LISTINGS; i++) {
        struct listing *c = s->listing[i];
        if (c != NULL && c->at == at && c->ino == ino && c->version == version && c->list.after <= after && after < c->list.last) {
            l = c;
            l->refs++;
            l->used = ++s->list_clock;
            break;
        }
    }
    pthread_mutex_unlock(&s->list_lock);
    return l;
}

static void listing_put(struct store *s, struct listing *l)
{
    pthread_mutex_lock(&s->list_lock);
    bool last = --l->refs == 0;
    pthread_mutex_unlock(&s->list_lock);
    if (last) {
        asof_list_free(&l->list);
        free(l);
    }
}

static void listing_keep(struct store *s, struct listing *l)
{
    struct listing *old;
    int victim = 0;
    pthread_mutex_lock(&s->list_lock);
    for (int i = 0; i < LISTINGS; i++) {
        if (s->listing[i] == NULL) {
            victim = i;
            break;
        }
        if (s->listing[i]->used < s->listing[victim]->used)
            victim = i;
    }
    old = s->listing[victim];
    l->refs++;
    l->used = ++s->list_clock;
    s->listing[victim] = l;
    pthread_mutex_unlock(&s->list_lock);
    if (old != NULL)
        listing_put(s, old);
}

static int listing_get(struct store *s, uint64_t at, uint64_t ino, uint64_t version, uint64_t after, struct listing **out)
{
    struct listing *l = listing_find(s, at, ino, version, after);
    if (l == NULL) {
        l = calloc(1, sizeof *l);
        if (l == NULL)
            return ERR_NOMEM;
        l->at = at;
        l->ino = ino;
        l->version = version;
        l->refs = 1;
        int rc = asof_readdir_from(s->kv, at, ino, after, at == AT_LIVE ? LISTING_LIVE_BYTES : LISTING_PAST_BYTES, &l->list, NULL);
        if (rc < 0) {
            free(l);
            return rc;
        }
        listing_keep(s, l);
    }
    *out = l;
    return 0;
}

/* dir_state: the LSN of the last change of the directory's entries in the live tree. */
static int dir_state(struct store *s, uint64_t at, uint64_t ino, uint64_t *version)
{
    struct row_ino row;
    struct crow *r = NULL;
    int rc;
    if (at != AT_LIVE) {
        rc = past_ino(s, at, ino, &row);
        *version = 0;
        return rc < 0 ? rc : S_ISDIR(row.mode) ? 0 : ERR_NOTDIR;
    }
    rc = live_row(s, CROW_INO, ino, 0, 0, NULL, 0, &r, NULL);
    if (rc < 0)
        return rc;
    rc = !r->present ? ERR_STALE : !S_ISDIR(r->u.ino.row.mode) ? ERR_NOTDIR : 0;
    *version = r->present ? r->u.ino.row.birth : 0;
    pthread_mutex_unlock(&s->lock);
    return rc;
}

/* False: ${fn} has enough. */
static bool list_behind(const struct asof_list *l, uint64_t after, int (*fn)(void *arg, const struct dirent_out *d), void *arg)
{
    size_t lo = 0, hi = l->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (l->v[mid].cookie <= after)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < l->n; lo++) {
        const struct asof_entry *e = &l->v[lo];
        struct dirent_out d = { .ino = e->ino, .cookie = e->cookie, .type = e->type, .hidden = e->hidden, .name = e->name, .nlen = e->name_len };
        if (fn(arg, &d) != 0)
            return false;
    }
    return true;
}

int store_readdir(struct store *s, uint64_t at, uint64_t ino, uint64_t after,
                  int (*fn)(void *arg, const struct dirent_out *d), void *arg, struct wait *wait)
{
    struct listing *l = NULL;
    uint64_t version = 0;
    bool more = true;
    int rc = read_at(s, at, wait);
    if (rc == 0)
        rc = dir_state(s, at, ino, &version);
    if (rc == 0 && at == AT_LIVE) {
        rc = read_applied(s, version, wait);
        if (wait != NULL && wait->kind == WAIT_APPLIED && wait->addr != 0 && wait->addr - 1 < version)
            version = wait->addr - 1;
    }
    while (rc == 0 && more) {
        rc = listing_get(s, at, ino, version, after, &l);
        if (rc < 0)
            break;
        more = list_behind(&l->list, after, fn, arg) && l->list.last != UINT64_MAX;
        after = l->list.last;
        listing_put(s, l);
    }
    return rc;
}

/* Waits until everything done to the live inode is in the index. */
static int ino_applied(struct store *s, uint64_t ino, struct wait *wait)
{
    struct row_ino row;
    int rc = store_getattr(s, AT_LIVE, ino, &row, wait);
    return rc < 0 ? rc : read_applied(s, row.birth, wait);
}

int store_parents(struct store *s, uint64_t at, uint64_t ino,
                  int (*fn)(void *arg, uint64_t parent, const char *name, size_t nlen), void *arg, struct wait *wait)
{
    int rc = at == AT_LIVE ? ino_applied(s, ino, wait) : read_at(s, at, wait);
    if (rc == 0)
        rc = asof_parents(s->kv, at, ino, fn, arg, NULL);
    return rc < 0 ? rc : 0;
}

/* ---- content ---- */

int read_map(struct store *s, uint64_t at, uint64_t ino, uint64_t mapgen, uint64_t block, uint32_t from, uint32_t to, struct row_map *map,
             struct err *err)
{
    struct crow *r = NULL;
    int rc = 0;
    if (at == AT_LIVE)
        rc = live_row(s, CROW_MAP, ino, mapgen, block, NULL, 0, &r, err);
    else if ((r = same_row(s, at, CROW_MAP, ino, mapgen, block, NULL, 0)) == NULL)
        return asof_map(s->kv, at, ino, mapgen, block, from, to, map, err);
    if (rc < 0)
        return rc;
    memset(map, 0, sizeof *map);
    if (r->present && r->u.map.row.n > 0) {
        map->piece = malloc(r->u.map.row.n * sizeof *map->piece);
        if (map->piece != NULL) {
            memcpy(map->piece, r->u.map.row.piece, r->u.map.row.n * sizeof *map->piece);
            map->n = r->u.map.row.n;
        } else {
            rc = ERR_NOMEM;
        }
    }
    pthread_mutex_unlock(&s->lock);
    return rc;
}

int store_try_data(struct store *s, uint64_t lsn, uint32_t dstart, uint32_t doff, uint32_t len, uint8_t *out, bool nowait, struct err *err)
{
    int rc = lsn >= log_first(s->log) ? log_read_data(s->log, lsn, dstart, doff, len, out, nowait, err) : ERR_NOENT;
    if (rc != ERR_NOENT || lsn >= log_first(s->log))
        return rc;
    return packs_read(s->packs, lsn, doff, len, out, nowait, err);
}

int store_read_data(struct store *s, uint64_t lsn, uint32_t dstart, uint32_t doff, uint32_t len, uint8_t *out, bool nowait, struct err *err)
{
    const struct wound w = { lsn, dstart, doff, len, 0, false };
    int rc = store_try_data(s, lsn, dstart, doff, len, out, nowait, err);
    if (rc == ERR_DAMAGE)
        wounds_note(s, &w);
    return rc != ERR_NOENT || lsn >= log_first(s->log) ? rc : err_set(err, ERR_DAMAGE, "data of the record at address %" PRIu64 ", [%" PRIu32 ", +%" PRIu32
                                                                      "): expected in the log or in a pack, found in neither", lsn, doff, len);
}

static int not_there(void *arg, uint32_t doff, uint32_t len)
{
    (void)doff;
    (void)len;
    *(bool *)arg = false;
    return 0;
}

int store_has_data(struct store *s, uint64_t lsn, uint32_t doff, uint32_t len, bool *had, struct err *err)
{
    *had = lsn < log_head(s->log);
    return lsn >= log_first(s->log) ? 0 : packs_lacking(s->packs, lsn, doff, len, not_there, had, err);
}

static int read_block(struct store *s, uint64_t at, const struct row_ino *row, uint64_t ino, uint64_t pos, uint8_t *buf,
                      uint32_t len, bool nowait, struct err *err)
{
    struct row_map map = { 0 };
    uint32_t from = (uint32_t)(pos & (BLOCK_BYTES - 1)), to = from + len, done = from;
    int rc = read_map(s, at, ino, row->mapgen, pos >> BLOCK_SHIFT, from, to, &map, err);
    for (uint32_t i = 0; rc == 0 && i < map.n && map.piece[i].off < to; i++) {
        const struct piece *p = &map.piece[i];
        uint32_t pe = p->off + p->len, f = p->off > from ? p->off : from, t = pe < to ? pe : to;
        if (f >= t)
            continue;
        memset(buf + (done - from), 0, f - done);
        rc = store_read_data(s, p->lsn, p->dstart, p->doff + (f - p->off), t - f, buf + (f - from), nowait || slow_hook != NULL, err);
        if (rc == ERR_WAIT && !nowait) {
            slow_now();
            rc = store_read_data(s, p->lsn, p->dstart, p->doff + (f - p->off), t - f, buf + (f - from), false, err);
        }
        done = t;
    }
    if (rc == 0)
        memset(buf + (done - from), 0, to - done);
    free(map.piece);
    return rc;
}

int64_t store_read(struct store *s, uint64_t at, uint64_t ino, uint64_t off, void *buf, size_t len, bool nowait,
                   struct wait *wait, struct err *err)
{
    struct row_ino row;
    size_t done = 0;
    /* rows and data are read under no common lock: a truncation in between must not show as garbage, so the map
     * generation and size come from one row, and data in the log never changes */
    int rc = store_getattr(s, at, ino, &row, wait);
    if (rc < 0)
        return rc;
    if (S_ISDIR(row.mode))
        return ERR_ISDIR;
    if (!S_ISREG(row.mode))
        return ERR_INVAL;
    if (off >= row.size)
        return 0;
    if (len > row.size - off)
        len = row.size - off;
    while (done < len) {
        uint64_t pos = off + done;
        size_t n = BLOCK_BYTES - (pos & (BLOCK_BYTES - 1));
        if (n > len - done)
            n = len - done;
        rc = read_block(s, at, &row, ino, pos, (uint8_t *)buf + done, (uint32_t)n, nowait, err);
        if (rc < 0) {
            if (rc == ERR_WAIT && wait != NULL)
                *wait = (struct wait){ WAIT_NONE, 0 };
            return rc;
        }
        done += n;
    }
    return (int64_t)done;
}

/* The first byte >= pos of the block that is data (or, with ${hole}, that is not); block end if there is none. */
static int seek_block(struct store *s, uint64_t at, const struct row_ino *row, uint64_t ino, uint64_t block, uint32_t from,
                      bool hole, uint32_t *out)
{
    struct row_map map = { 0 };
    uint32_t pos = from;
    int rc = read_map(s, at, ino, row->mapgen, block, 0, BLOCK_BYTES, &map, NULL);
    *out = hole ? from : BLOCK_BYTES;
    for (uint32_t i = 0; rc == 0 && i < map.n; i++) {
        const struct piece *p = &map.piece[i];
        if (p->off + p->len <= pos)
            continue;
        if (!hole) {
            *out = p->off > pos ? p->off : pos;
            break;
        }
        if (p->off > pos)
            break;
        pos = p->off + p->len;
        *out = pos;
    }
    free(map.piece);
    return rc;
}

struct next_block { uint64_t block; bool found; };

static int first_block(void *arg, uint64_t block)
{
    struct next_block *n = arg;
    n->block = block;
    n->found = true;
    return 1;
}

int64_t store_seek(struct store *s, uint64_t at, uint64_t ino, uint64_t off, int whence, struct wait *wait)
{
    struct row_ino row;
    bool hole = whence == SEEK_HOLE;
    int rc = store_getattr(s, at, ino, &row, wait);
    if (rc < 0)
        return rc;
    if (whence != SEEK_DATA && whence != SEEK_HOLE)
        return ERR_INVAL;
    if (!S_ISREG(row.mode))
        return ERR_INVAL;
    if (off >= row.size)
        return ERR_NXIO;
    if (row.blocks == 0)
        return hole ? (int64_t)off : ERR_NXIO;
    if (at == AT_LIVE && (rc = read_applied(s, row.birth, wait)) < 0)
        return rc;
    uint64_t last = (row.size - 1) >> BLOCK_SHIFT;
    for (uint64_t b = off >> BLOCK_SHIFT; b <= last; b++) {
        uint32_t from = b == off >> BLOCK_SHIFT ? (uint32_t)(off & (BLOCK_BYTES - 1)) : 0, at_off = 0;
        if (!hole) {                     /* leap over blocks without any row */
            struct next_block n = { 0 };
            rc = asof_blocks(s->kv, ino, row.mapgen, b, last, first_block, &n, NULL);
            if (rc < 0)
                return rc;
            if (!n.found)
                return ERR_NXIO;
            if (n.block > b)
                from = 0;
            b = n.block;
        }
        rc = seek_block(s, at, &row, ino, b, from, hole, &at_off);
        if (rc < 0)
            return rc;
        uint64_t pos = (b << BLOCK_SHIFT) + at_off;
        if (at_off < BLOCK_BYTES)
            return pos < row.size ? (int64_t)pos : hole ? (int64_t)row.size : ERR_NXIO;
    }
    return hole ? (int64_t)row.size : ERR_NXIO;
}

/* ---- extended attributes ---- */

int64_t store_getxattr(struct store *s, uint64_t at, uint64_t ino, const char *name, void *buf, size_t cap, struct wait *wait)
{
    struct row_ino row;
    struct crow *r = NULL;
    uint8_t *val = NULL;
    size_t len = 0, nlen = strlen(name);
    if (nlen > REC_NAME_MAX)
        return ERR_RANGE;
    int64_t rc = store_getattr(s, at, ino, &row, wait);
    if (rc < 0)
        return rc;
    if (at != AT_LIVE) {
        rc = asof_xat(s->kv, at, ino, name, nlen, &val, &len, NULL);
        if (rc < 0)
            return rc == ERR_NOENT ? ERR_NODATA : rc;
    } else {
        if (row.n_xattr == 0)
            return ERR_NODATA;
        rc = live_row(s, CROW_XAT, ino, 0, 0, name, nlen, &r, NULL);
        if (rc < 0)
            return rc;
        if (!r->present)
            return change_abort(s, ERR_NODATA);
        val = r->u.xat.val;
        len = r->val_len;
    }
    rc = (int64_t)len;
    if (cap > 0 && len > cap)
        rc = ERR_RANGE;
    else if (cap > 0 && len > 0)
        memcpy(buf, val, len);
    if (at == AT_LIVE)
        pthread_mutex_unlock(&s->lock);
    else
        free(val);
    return rc;
}

struct xattr_list { char *buf; size_t cap, len; bool over; };

static int xattr_one(void *arg, const void *name, size_t nlen)
{
    struct xattr_list *x = arg;
    if (x->cap > 0 && x->len + nlen + 1 <= x->cap) {
        memcpy(x->buf + x->len, name, nlen);
        x->buf[x->len + nlen] = '\0';
    } else if (x->cap > 0) {
        x->over = true;
    }
    x->len += nlen + 1;
    return 0;
}

int64_t store_listxattr(struct store *s, uint64_t at, uint64_t ino, char *buf, size_t cap, struct wait *wait)
{
    struct row_ino row;
    struct xattr_list x = { .buf = buf, .cap = cap };
    int rc = store_getattr(s, at, ino, &row, wait);
    if (rc < 0)
        return rc;
    if (row.n_xattr == 0)
        return 0;
    if (at == AT_LIVE && (rc = read_applied(s, row.birth, wait)) < 0)
        return rc;
    rc = asof_listxattr(s->kv, at, ino, xattr_one, &x, NULL);
    return rc < 0 ? rc : x.over ? ERR_RANGE : (int64_t)x.len;
}

int store_statfs(struct store *s, struct statfs_out *out)
{
    struct io_space_info sp;
    int rc = s->io->ops->space(s->io, &sp, NULL);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&s->lock);
    out->files = s->ix.meta.n_inodes + sp.files_avail;
    pthread_mutex_unlock(&s->lock);
    out->total = sp.total;
    out->avail = sp.avail;
    out->files_free = sp.files_avail;
    return 0;
}
