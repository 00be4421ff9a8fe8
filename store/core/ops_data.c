/* ops_data.c: content: write, fallocate, clone, fsync, and folding of blocks in many small pieces. */
#include "store/core/core_internal.h"

#include "store/base/slow.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { WRITE_MAX = 1 << 20 };         /* bytes of one record */

static int regular(struct store *s, uint64_t ino, struct crow **r)
{
    int rc = change_ino(s, ino, r);
    if (rc == 0 && S_ISDIR((*r)->u.ino.row.mode))
        return ERR_ISDIR;
    return rc == 0 && !S_ISREG((*r)->u.ino.row.mode) ? ERR_INVAL : rc;
}

/*
 * A block in more than BLOCK_PIECES_MAX pieces gets its longest run of small ones written anew as one, by a REWRITE
 * record: content and times stay, the row gets short again. Each byte is rewritten once or twice in its life, since
 * what was folded is no small piece any more.
 */
static int fold(struct store *s, uint64_t ino, uint64_t mapgen, uint64_t block)
{
    const struct caller nobody = { 0 };
    struct row_map map = { 0 };
    struct row_ino row;
    struct crow *r = NULL;
    struct wait wait = { 0 };
    uint32_t off = 0, len = 0;
    uint8_t *buf = NULL;
    int rc = store_getattr(s, AT_LIVE, ino, &row, NULL);
    if (rc < 0 || row.mapgen != mapgen)
        return 0;
    rc = read_map(s, AT_LIVE, ino, mapgen, block, 0, BLOCK_BYTES, &map, NULL);
    if (rc < 0 || map.n <= BLOCK_PIECES_MAX || !index_fold_range(&map, &off, &len))
        goto out;
    uint64_t pos = (block << BLOCK_SHIFT) + off;
    buf = malloc(len);
    if (buf == NULL || store_read(s, AT_LIVE, ino, pos, buf, len, false, NULL, NULL) != (int64_t)len)
        goto out;
    if (change_begin(s, &wait) < 0)          /* no room: the next write of this block will do */
        goto out;
    /* anything done to the file meanwhile: leave it for the next time */
    rc = change_ino(s, ino, &r);
    if (rc < 0 || r->u.ino.row.content != row.content || r->u.ino.row.birth != row.birth) {
        pthread_mutex_unlock(&s->lock);
        goto out;
    }
    struct record rec = { .type = REC_REWRITE, .ino = ino, .data_len = len };
    rec.u.write.off = pos;
    rc = change_commit(s, &nobody, &rec, buf);
out:
    free(buf);
    free(map.piece);
    return rc == ERR_POISONED ? rc : 0;
}

/* ---- CACHEDIR.TAG ---- */

static int tag_name(void *arg, uint64_t parent, const char *name, size_t nlen)
{
    if (nlen != sizeof NOHISTORY_TAG - 1 || memcmp(name, NOHISTORY_TAG, nlen) != 0)
        return 0;
    *(uint64_t *)arg = parent;
    return 1;
}

/* *${dir}: the directory to be tagged once this is written; 0: none. WAIT: names are in the index alone. */
static int tag_for(struct store *s, uint64_t ino, uint64_t off, const void *buf, size_t len, uint64_t *dir, struct wait *wait)
{
    *dir = 0;
    if (off != 0 || len < sizeof NOHISTORY_SIGNATURE - 1 || memcmp(buf, NOHISTORY_SIGNATURE, sizeof NOHISTORY_SIGNATURE - 1) != 0)
        return 0;
    pthread_mutex_lock(&s->lock);
    bool asked = s->nohistory.tags;
    pthread_mutex_unlock(&s->lock);
    return asked ? store_parents(s, AT_LIVE, ino, tag_name, dir, wait) : 0;
}

/* A record of its own, behind that of the write: where a crash or a full disk comes between, history goes on being kept. */
static void tag(struct store *s, const struct caller *c, uint64_t dir, uint64_t ino)
{
    struct caller own = { .uid = c->uid, .gid = c->gid, .pid = c->pid, .unique = c->unique };
    struct record rec = { .type = REC_SETXATTR, .ino = dir };
    struct crow *d = NULL, *den = NULL;
    if (change_more(s) < 0)
        return;
    if (change_dir(s, dir, &d) < 0 || row_hides(&d->u.ino.row) || change_name(s, dir, NOHISTORY_TAG, sizeof NOHISTORY_TAG - 1, &den) < 0 || !den->present ||
        den->u.den.ino != ino) {
        (void)change_abort(s, 0);
        return;
    }
    rec.u.xattr.mode = REC_NO_MODE;
    rec.u.xattr.name = rec_bytes_of(REC_XATTR_NOHISTORY, sizeof REC_XATTR_NOHISTORY - 1);
    rec.u.xattr.value = rec_bytes_of(NOHISTORY_TAG, sizeof NOHISTORY_TAG - 1);
    if (change_commit(s, &own, &rec, NULL) == 0 && c->tagged != NULL)
        *c->tagged = dir;
}

int64_t store_write(struct store *s, const struct caller *c, uint64_t ino, uint64_t off, const void *buf, size_t len,
                    struct wait *wait)
{
    struct crow *r = NULL, *m;
    struct record rec = { .type = REC_WRITE, .ino = ino };
    uint64_t dir;
    if (len == 0)
        return 0;
    if (len > WRITE_MAX)
        len = WRITE_MAX;
    int rc = tag_for(s, ino, off, buf, len, &dir, wait);
    if (rc == 0)
        rc = change_begin(s, wait);
    if (rc < 0)
        return rc;
    rc = regular(s, ino, &r);
    if (rc == 0 && off == UINT64_MAX)
        off = r->u.ino.row.size;
    if (rc == 0 && (off > FILE_SIZE_MAX || len > FILE_SIZE_MAX - off))
        rc = ERR_FBIG;
    if (rc < 0)
        return change_abort(s, rc);
    uint64_t mapgen = r->u.ino.row.mapgen, block = off >> BLOCK_SHIFT;
    m = cache_peek(&s->ix.cache, CROW_MAP, ino, mapgen, block, NULL, 0);
    bool many = m != NULL && m->present && m->u.map.row.n > BLOCK_PIECES_MAX;
    rec.data_len = (uint32_t)len;
    rec.u.write.off = off;
    rc = change_commit(s, c, &rec, buf);
    if (rc < 0)
        return rc;
    if (dir != 0)
        tag(s, c, dir, ino);
    rc = many ? fold(s, ino, mapgen, block) : 0;
    return rc < 0 ? rc : (int64_t)len;
}

int store_fallocate(struct store *s, const struct caller *c, uint64_t ino, uint32_t mode, uint64_t off, uint64_t len,
                    struct wait *wait)
{
    struct crow *r = NULL;
    if (mode != 0 && mode != RFA_KEEP_SIZE && mode != (RFA_PUNCH_HOLE | RFA_KEEP_SIZE) && mode != RFA_ZERO_RANGE &&
        mode != (RFA_ZERO_RANGE | RFA_KEEP_SIZE))
        return ERR_NOTSUP;
    if (len == 0)
        return ERR_INVAL;
    int rc = change_begin(s, wait);
    if (rc < 0)
        return rc;
    rc = regular(s, ino, &r);
    if (rc == 0 && (off > FILE_SIZE_MAX || len > FILE_SIZE_MAX - off))
        rc = ERR_FBIG;
    if (rc < 0)
        return change_abort(s, rc);
    struct record rec = { .type = REC_FALLOCATE, .ino = ino };
    rec.u.fallocate.mode = mode;
    rec.u.fallocate.off = off;
    rec.u.fallocate.len = len;
    return change_commit(s, c, &rec, NULL);
}

/* ---- clone ---- */

static int64_t clone_live(struct store *s, const struct caller *c, uint64_t src, uint64_t src_off, uint64_t dst,
                          uint64_t dst_off, uint64_t len, struct wait *wait)
{
    struct crow *a = NULL, *b = NULL;
    int rc = change_begin(s, wait);
    if (rc < 0)
        return rc;
    rc = regular(s, src, &a);
    if (rc == 0)
        rc = regular(s, dst, &b);
    if (rc < 0)
        return change_abort(s, rc);
    uint64_t size = a->u.ino.row.size;
    len = src_off >= size ? 0 : len < size - src_off ? len : size - src_off;
    if (dst_off > FILE_SIZE_MAX || len > FILE_SIZE_MAX - dst_off)
        return change_abort(s, ERR_FBIG);    /* also where nothing is left to copy, as the kernel sees it */
    if (len == 0)
        return change_abort(s, 0);
    if (src == dst && src_off < dst_off + len && dst_off < src_off + len)
        return change_abort(s, ERR_INVAL);
    struct record rec = { .type = REC_CLONE, .ino = dst };
    rec.u.clone.src_ino = src;
    rec.u.clone.src_off = src_off;
    rec.u.clone.dst_off = dst_off;
    rec.u.clone.len = len;
    rc = change_commit(s, c, &rec, NULL);
    return rc < 0 ? rc : (int64_t)len;
}

/*
 * The pieces of [off, off + *len) of a past file, for a record that stays within CLONE_PIECES_MAX: *${len} is cut to
 * the part they cover. Piece offsets are relative to ${off}.
 */
static int past_pieces(struct store *s, uint64_t at, uint64_t ino, const struct row_ino *row, uint64_t off, uint64_t *len,
                       struct rec_piece *out, uint32_t *n)
{
    uint64_t end = off + *len;
    *n = 0;
    for (uint64_t pos = off; pos < end;) {
        uint64_t block = pos >> BLOCK_SHIFT, base = block << BLOCK_SHIFT;
        uint64_t to = base + BLOCK_BYTES < end ? base + BLOCK_BYTES : end;
        struct row_map map = { 0 };
        int rc = read_map(s, at, ino, row->mapgen, block, (uint32_t)(pos - base), (uint32_t)(to - base), &map, NULL);
        if (rc < 0)
            return rc;
        if (*n + map.n > CLONE_PIECES_MAX && *n > 0) {
            free(map.piece);
            *len = pos - off;
            return 0;
        }
        for (uint32_t i = 0; i < map.n; i++) {
            const struct piece *p = &map.piece[i];
            uint64_t ps = base + p->off, pe = ps + p->len, f = ps > pos ? ps : pos, t = pe < to ? pe : to;
            if (f >= t)
                continue;
            if (*n == CLONE_PIECES_MAX) {        /* one block in more pieces than a record holds: up to here */
                *len = f - off;
                free(map.piece);
                return 0;
            }
            out[(*n)++] = (struct rec_piece){ .dst_off = f - off, .lsn = p->lsn, .dstart = p->dstart,
                                              .doff = p->doff + (uint32_t)(f - ps), .len = (uint32_t)(t - f) };
        }
        free(map.piece);
        pos = to;
    }
    return 0;
}

/* ${whole}: part of a restore of a whole file, in order: the part that reaches its end says which version it brings back,
 * and the file ends there. */
static int64_t clone_past(struct store *s, const struct caller *c, uint64_t at, uint64_t src, uint64_t src_off, uint64_t dst,
                          uint64_t dst_off, uint64_t len, bool whole, struct wait *wait)
{
    struct row_ino row;
    struct crow *b = NULL;
    struct rec_piece *v = NULL;
    uint8_t *list = NULL;
    uint32_t n = 0;
    uint64_t asked = len;
    int64_t rc = store_getattr(s, at, src, &row, wait);
    if (rc < 0)
        return rc;
    if (!S_ISREG(row.mode))
        return ERR_INVAL;
    len = src_off >= row.size ? 0 : len < row.size - src_off ? len : row.size - src_off;
    if (dst_off > FILE_SIZE_MAX || len > FILE_SIZE_MAX - dst_off)
        return ERR_FBIG;
    if (len == 0)
        return 0;
    v = malloc(CLONE_PIECES_MAX * sizeof *v);
    rc = v != NULL ? past_pieces(s, at, src, &row, src_off, &len, v, &n) : ERR_NOMEM;
    if (rc == 0 && (list = malloc(((size_t)n + 1) * REC_PIECE_BYTES)) == NULL)
        rc = ERR_NOMEM;
    for (uint32_t i = 0; i < n && rc == 0; i++) {
        v[i].dst_off += dst_off;
        rec_piece_put(list, i, &v[i]);
    }
    if (rc == 0)
        rc = change_begin(s, wait);
    if (rc == 0) {
        rc = regular(s, dst, &b);
        if (rc < 0) {
            rc = change_abort(s, (int)rc);
        } else {
            struct record rec = { .type = REC_CLONE, .ino = dst };
            rec.u.clone.dst_off = dst_off;
            rec.u.clone.len = len;
            rec.u.clone.n_pieces = n;
            rec.u.clone.pieces = list;
            /* the whole of a past file over the whole of this one brings that version back */
            if (whole ? src_off + len == row.size
                      : src_off == 0 && dst_off == 0 && asked >= row.size && len == row.size && b->u.ino.row.size <= len)
                rec.u.clone.origin = row.origin != 0 ? row.origin : row.content;
            if (whole && src_off == 0)
                rec.flags |= RECF_NEW_BURST;     /* what it replaces is a version, however young */
            rc = change_commit(s, c, &rec, NULL);
        }
    }
    free(v);
    free(list);
    return rc < 0 ? rc : (int64_t)len;
}

int data_restore(struct store *s, const struct caller *c, uint64_t at, uint64_t src, uint64_t dst, uint64_t size)
{
    uint64_t off = 0;
    if (size == 0) {
        struct setattr_in in = { .valid = RSA_SIZE };
        return store_setattr(s, c, dst, &in, NULL, NULL);
    }
    while (off < size) {
        int64_t n = clone_past(s, c, at, src, off, dst, off, size - off, true, NULL);
        if (n <= 0)
            return n < 0 ? (int)n : ERR_DAMAGE;  /* the row said that there is more */
        off += (uint64_t)n;
    }
    return 0;
}

int64_t store_clone(struct store *s, const struct caller *c, uint64_t src_at, uint64_t src_ino, uint64_t src_off,
                    uint64_t dst_ino, uint64_t dst_off, uint64_t len, struct wait *wait)
{
    if (src_at == AT_LIVE)
        return clone_live(s, c, src_ino, src_off, dst_ino, dst_off, len, wait);
    return clone_past(s, c, src_at, src_ino, src_off, dst_ino, dst_off, len, false, wait);
}

/* ---- fsync ---- */

void store_mark_version(struct store *s, uint64_t ino)
{
    struct crow *r;
    pthread_mutex_lock(&s->lock);
    r = cache_peek(&s->ix.cache, CROW_INO, ino, 0, 0, NULL, 0);
    if (r != NULL && r->present)
        r->u.ino.synced = true;
    pthread_mutex_unlock(&s->lock);
}

int store_fsync(struct store *s, uint64_t ino, struct wait *wait)
{
    struct crow *r;
    if (atomic_load(&s->failed))
        return ERR_POISONED;
    if (wait != NULL && wait->kind == WAIT_DURABLE && log_durable(s->log) >= wait->addr)
        return 0;
    pthread_mutex_lock(&s->lock);
    uint64_t upto = s->ix.meta.applied;
    /* the order of operations is kept whole, so what is durable is a prefix: the file's own last change is enough,
     * unless names lead to it; everything up to now is simplest and costs the same one flush */
    if (ino != 0 && (r = cache_peek(&s->ix.cache, CROW_INO, ino, 0, 0, NULL, 0)) != NULL && r->present)
        r->u.ino.synced = true;
    if (log_durable(s->log) >= upto) {
        pthread_mutex_unlock(&s->lock);
        return 0;
    }
    if (!s->opt.writable) {              /* nobody will ever sync that: no wait */
        pthread_mutex_unlock(&s->lock);
        return ERR_ROFS;
    }
    if (wait == NULL) {                  /* by this thread itself: waking the committer, and being woken by it, costs as much as a fast disk */
        pthread_mutex_unlock(&s->lock);
        slow_now();
        return log_wait_written(s->log, upto - 1) < 0 || store_sync(s, NULL) < 0 ? ERR_POISONED : 0;
    }
    *wait = (struct wait){ WAIT_DURABLE, upto };
    run_nudge_locked(s, WAIT_DURABLE);
    pthread_mutex_unlock(&s->lock);
    return ERR_WAIT;
}
