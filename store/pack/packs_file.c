/* packs_file.c: the files of the set: open within a bound; heads and tables from their bytes. */
#include "store/pack/packs_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int packs_bad(struct err *err, const struct pack *p, uint64_t at, const char *fmt, ...)
{
    char why[ERR_MSG_MAX / 2];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    return err_set(err, ERR_DAMAGE, "%s: offset %" PRIu64 ": %s", p->name, at, why);
}

/* ---- bytes ---- */

/* With too many files open, that of the pack idle for longest, for the caller to close. */
static struct io_file *evict_locked(struct packs *ps)
{
    struct pack *old = NULL;
    struct io_file *f;

    if (ps->n_open <= PACKS_OPEN_MAX)
        return NULL;
    for (size_t i = 0; i < ps->n; i++)
        if (ps->pack[i]->file && ps->pack[i]->refs == 0 && (old == NULL || ps->pack[i]->used < old->used))
            old = ps->pack[i];
    if (old == NULL)
        return NULL;
    f = old->file;
    old->file = NULL;
    ps->n_open--;
    return f;
}

static int file_of(struct packs *ps, struct pack *p, bool nowait, struct io_file **out, struct err *err)
{
    struct io_file *close_it = NULL;
    int rc;

    pthread_mutex_lock(&ps->mutex);
    *out = p->file;
    pthread_mutex_unlock(&ps->mutex);
    if (*out)
        return 0;
    if (nowait)
        return err_set(err, ERR_WAIT, "packs: not open");
    rc = io_open(ps->io, p->name, IO_RDONLY, out, err);
    if (rc == ERR_NOENT)
        return packs_bad(err, p, 0, "expected a pack, found no file");
    if (rc)
        return rc;
    pthread_mutex_lock(&ps->mutex);
    if (p->file) {                  /* another thread was faster */
        close_it = *out;
        *out = p->file;
    } else {
        p->file = *out;
        ps->n_open++;
        close_it = evict_locked(ps);
    }
    pthread_mutex_unlock(&ps->mutex);
    if (close_it)
        io_close(close_it);
    return 0;
}

int packs_bytes(struct packs *ps, struct pack *p, const char *what, void *buf, size_t n, uint64_t off, bool nowait, struct err *err)
{
    struct io_file *f;
    int rc = file_of(ps, p, nowait, &f, err);
    int64_t got;

    if (rc)
        return rc;
    got = nowait ? io_pread_nowait(f, buf, n, off) : io_pread(f, buf, n, off, err);
    if (got == ERR_WAIT)
        return err_set(err, ERR_WAIT, "packs: not in memory");
    if (got < 0)
        return nowait ? err_set(err, (int)got, "%s: offset %" PRIu64 ": read of %zu bytes", p->name, off, n) : (int)got;
    if ((uint64_t)got < n)
        return packs_bad(err, p, off, "%s: expected %zu bytes, found the end of the file after %" PRId64, what, n, got);
    return 0;
}

int packs_size(struct packs *ps, struct pack *p, bool nowait, uint64_t *size, struct err *err)
{
    struct io_file *f;
    struct io_stat st;
    int rc = file_of(ps, p, nowait, &f, err);

    if (rc == 0)
        rc = io_fstat(f, &st, err);
    if (rc == 0)
        *size = st.size;
    return rc;
}

/* ---- head ---- */

static bool known_lineage(const struct packs *ps, const uint8_t id[16])
{
    bool yes = memcmp(ps->lineage, id, 16) == 0;

    for (uint32_t i = 0; !yes && i < ps->n_epochs; i++)
        yes = memcmp(ps->epochs[i].lineage, id, 16) == 0;
    return yes;
}

int packs_get_head(struct packs *ps, struct pack *p, uint64_t at, bool nowait, struct pack_head *h, struct err *err)
{
    uint8_t buf[PACK_HEAD_BYTES];
    struct err why = { 0 };
    uint64_t cut;
    int rc = packs_bytes(ps, p, "head", buf, sizeof buf, at, nowait, err);

    if (rc)
        return rc;
    rc = pack_head_decode(buf, sizeof buf, 0, h, NULL, &why);
    if (rc == ERR_DAMAGE)
        return packs_bad(err, p, at, "%s", why.msg);
    if (rc)
        return err_set(err, rc, "%s: offset %" PRIu64 ": %.300s", p->name, at, why.msg);
    if (h->first != p->first || h->end != p->end || h->gen != p->gen)
        return packs_bad(err, p, at, "head: expected addresses %" PRIu64 " to %" PRIu64 " and generation %" PRIu64 " by the file's name, found %"
                         PRIu64 " to %" PRIu64 " and %" PRIu64, p->first, p->end, p->gen, h->first, h->end, h->gen);
    if (!known_lineage(ps, h->lineage))
        return packs_bad(err, p, at, "head: its lineage at byte 64 is none of this store's: it belongs to another store");
    if (!packs_cut(ps, h, &cut))
        return packs_bad(err, p, at, "head: its epoch at byte 96 is none of this store's");
    if (h->key_id != ps->key_id)
        return packs_bad(err, p, at, "head: expected key id %" PRIu32 ", found %" PRIu32, ps->key_id, h->key_id);
    return 0;
}

static void set_state(struct packs *ps, struct pack *p, const struct pack_head *h)
{
    pthread_mutex_lock(&ps->mutex);
    if (p->state != PACK_GOOD) {
        if (h) {
            p->h = *h;
            packs_cut(ps, h, &p->cut);
        }
        p->state = h ? PACK_GOOD : PACK_BAD;
    }
    pthread_mutex_unlock(&ps->mutex);
}

int packs_load_head(struct packs *ps, struct pack *p, bool nowait, struct err *err)
{
    struct pack_head h;
    uint64_t size = 0;
    int rc = packs_get_head(ps, p, 0, nowait, &h, err), again;

    if (rc != 0 && rc != ERR_WAIT && rc != ERR_NOMEM && rc != ERR_VERSION && packs_size(ps, p, nowait, &size, NULL) == 0 &&
        size >= 2 * PACK_HEAD_BYTES + 16) {
        again = packs_get_head(ps, p, size - PACK_HEAD_BYTES - 16, nowait, &h, NULL);
        if (again == ERR_WAIT)
            return err_set(err, again, "packs: not in memory");
        rc = again == 0 ? 0 : rc;
    }
    if (rc != ERR_WAIT && rc != ERR_NOMEM)
        set_state(ps, p, rc == 0 ? &h : NULL);
    return rc;
}

/* ---- directory, blocks ---- */

static const char *kind_name(uint32_t kind)
{
    static const char *const names[] = { "block", "block of frames", "block of chunks", "block of addresses" };

    return names[kind <= PACK_ADDRESSES ? kind : 0];
}

int packs_load_dir(struct packs *ps, struct pack *p, uint64_t tables, bool nowait, struct cached **out, struct err *err)
{
    size_t len = pack_dir_bytes(p->h.n_blocks);
    struct cached *c = packs_cached_new(p, p->h.tables_at, CACHED_DIR);
    uint8_t *buf = malloc(len);
    struct err why = { 0 };
    int rc;

    *out = NULL;
    if (c && buf)
        rc = packs_bytes(ps, p, "directory", buf, len, tables, nowait, err);
    else
        rc = err_set(err, ERR_NOMEM, "%s: a directory of %zu bytes: out of memory", p->name, len);
    if (rc == 0) {
        rc = pack_dir_decode(buf, len, &p->h, &c->u.dir, &why);
        if (rc)
            rc = rc == ERR_DAMAGE ? packs_bad(err, p, tables, "%s", why.msg) : err_set(err, rc, "%s: %s", p->name, why.msg);
    }
    free(buf);
    if (rc) {
        free(c);
        return rc;
    }
    c->n = p->h.n_blocks;
    c->cost += c->n * sizeof *c->u.dir;
    *out = c;
    return 0;
}

/* The bytes of the block at file offset ${at}, good by their sum, expanded; the caller frees. */
static int expand(struct packs *ps, struct pack *p, const struct pack_block *b, uint64_t at, bool nowait, uint8_t **out, struct err *err)
{
    const char *what = kind_name(b->kind);
    uint8_t *stored = malloc(b->stored), *to = malloc(b->expanded);
    struct squeeze *z = packs_squeeze(ps);
    int rc;

    if (stored && to && z)
        rc = packs_bytes(ps, p, what, stored, b->stored, at, nowait, err);
    else
        rc = err_set(err, ERR_NOMEM, "%s: a block of %" PRIu32 " bytes: out of memory", p->name, b->expanded);
    if (rc == 0 && hash64(stored, b->stored) != b->sum)
        rc = packs_bad(err, p, at, "%s, %" PRIu32 " bytes: sum: expected %016" PRIx64 ", found %016" PRIx64, what, b->stored, b->sum,
                       hash64(stored, b->stored));
    if (rc == 0) {
        rc = unsqueeze(z, stored, b->stored, NULL, 0, to, b->expanded);
        if (rc == ERR_DAMAGE)
            rc = packs_bad(err, p, at, "%s: expected %" PRIu32 " bytes that expand to %" PRIu32 ", found other ones", what, b->stored, b->expanded);
        else if (rc)
            rc = err_set(err, rc, "%s: a block: out of memory", p->name);
    }
    if (z)
        packs_squeeze_back(ps, z);
    free(stored);
    if (rc) {
        free(to);
        return rc;
    }
    *out = to;
    return 0;
}

/* Whether block ${b} of the directory ends where the next one begins; what is wrong goes to ${why}. */
static int check_next(const struct pack *p, const struct pack_block *b, bool last, const struct cached *c, struct err *why)
{
    const struct pack_block *next = !last && b[1].kind == b->kind ? b + 1 : NULL;
    uint64_t end, want;

    if (c->kind == CACHED_FRAMES) {
        end = c->u.frame[c->n - 1].at + c->u.frame[c->n - 1].stored;
        want = next ? next->frames_at : p->h.tables_at;
        return end == want ? 0 : err_set(why, ERR_DAMAGE, "block of frames: expected them to end at offset %" PRIu64 ", found %" PRIu64, want, end);
    }
    end = c->kind == CACHED_CHUNKS ? c->u.chunk[c->n - 1].number : c->u.addr[c->n - 1].lsn;
    return next == NULL || end < next->least ? 0 : err_set(why, ERR_DAMAGE, "%s: expected none from %" PRIu64 " on, found %" PRIu64,
                                                           kind_name(b->kind), next->least, end);
}

static int decode(const struct pack *p, const struct pack_block *b, const uint8_t *bytes, struct cached *c, struct err *why)
{
    c->n = b->entries;
    switch (c->kind) {
    case CACHED_FRAMES:
        c->cost += c->n * sizeof *c->u.frame;
        return pack_frames_decode(bytes, b->expanded, &p->h, b, &c->u.frame, why);
    case CACHED_CHUNKS:
        c->cost += c->n * sizeof *c->u.chunk;
        return pack_chunks_decode(bytes, b->expanded, &p->h, b, &c->u.chunk, why);
    default:
        c->cost += c->n * sizeof *c->u.addr;
        return pack_addrs_decode(bytes, b->expanded, &p->h, b, &c->u.addr, why);
    }
}

int packs_load_block(struct packs *ps, struct pack *p, const struct pack_block *dir, uint32_t i, uint64_t tables, bool nowait, struct cached **out,
                     struct err *err)
{
    static const enum cached_kind kinds[] = { CACHED_FRAMES, CACHED_FRAMES, CACHED_CHUNKS, CACHED_ADDRS };
    const struct pack_block *b = dir + i;
    struct cached *c = NULL;
    struct err why = { 0 };
    uint8_t *bytes = NULL;
    int rc = expand(ps, p, b, tables + b->at, nowait, &bytes, err);

    *out = NULL;
    if (rc || b->kind == 0 || b->kind > PACK_ADDRESSES) {    /* of another kind: its sum is all that is known of it */
        free(bytes);
        return rc;
    }
    c = packs_cached_new(p, p->h.tables_at + b->at, kinds[b->kind]);
    rc = c ? decode(p, b, bytes, c, &why) : err_set(&why, ERR_NOMEM, "a block: out of memory");
    if (rc == 0)
        rc = check_next(p, b, i + 1 == p->h.n_blocks, c, &why);
    free(bytes);
    if (rc == 0) {
        *out = c;
        return 0;
    }
    packs_put(ps, c);
    return rc == ERR_DAMAGE ? packs_bad(err, p, tables + b->at, "%s", why.msg) : err_set(err, rc, "%s: %s", p->name, why.msg);
}
