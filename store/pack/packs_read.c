/*
 * packs_read.c: from an address to bytes: pack by address, block of addresses by directory, entry; chunk by number, in the pack that names it or the one of
 * that address; its frame, expanded, a delta's base first; the chunk's hash; then bytes. Depth falls with each base, so there is an end to it.
 */
#include "store/base/bytes.h"
#include "store/log/record.h"
#include "store/pack/packs_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Damage of the first tables, or a disk that does not give them: the second ones are asked. */
static bool try_second(int rc)
{
    return rc != 0 && rc != ERR_WAIT && rc != ERR_NOMEM;
}

int packs_dir(struct packs *ps, struct pack *p, bool nowait, struct cached **out, struct err *err)
{
    int rc;

    *out = packs_get(ps, p, p->h.tables_at, CACHED_DIR);
    if (*out)
        return 0;
    rc = packs_load_dir(ps, p, p->h.tables_at, nowait, out, err);
    if (try_second(rc)) {
        int again = packs_load_dir(ps, p, p->h.tables2_at, nowait, out, NULL);

        rc = again == ERR_WAIT ? err_set(err, again, "packs: not in memory") : again == 0 ? 0 : rc;
    }
    if (rc == 0)
        packs_keep(ps, *out);
    return rc;
}

int packs_block(struct packs *ps, struct pack *p, const struct pack_block *dir, uint32_t i, bool nowait, struct cached **out, struct err *err)
{
    static const enum cached_kind kinds[] = { CACHED_FRAMES, CACHED_FRAMES, CACHED_CHUNKS, CACHED_ADDRS };
    int rc;

    *out = packs_get(ps, p, p->h.tables_at + dir[i].at, kinds[dir[i].kind]);
    if (*out)
        return 0;
    rc = packs_load_block(ps, p, dir, i, p->h.tables_at, nowait, out, err);
    if (try_second(rc)) {
        int again = packs_load_block(ps, p, dir, i, p->h.tables2_at, nowait, out, NULL);

        rc = again == ERR_WAIT ? err_set(err, again, "packs: not in memory") : again == 0 ? 0 : rc;
    }
    if (rc == 0)
        packs_keep(ps, *out);
    return rc;
}

uint32_t packs_seek(const struct cached *dir, enum pack_block_kind kind, uint64_t key)
{
    uint32_t lo = 0, hi = dir->n;

    while (lo < hi) {           /* behind the last one that begins at or below the key */
        uint32_t mid = lo + (hi - lo) / 2;
        const struct pack_block *b = &dir->u.dir[mid];

        if (b->kind < (uint32_t)kind || (b->kind == (uint32_t)kind && b->least <= key))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo > 0 && dir->u.dir[lo - 1].kind == (uint32_t)kind ? lo - 1 : UINT32_MAX;
}

/* The block of ${kind} of the pack in which ${key} would be; NULL in *${out}: none. */
static int block_of(struct packs *ps, struct pack *p, enum pack_block_kind kind, uint64_t key, bool nowait, struct cached **out, struct err *err)
{
    struct cached *dir;
    uint32_t i;
    int rc = packs_dir(ps, p, nowait, &dir, err);

    *out = NULL;
    if (rc)
        return rc;
    i = packs_seek(dir, kind, key);
    if (i != UINT32_MAX)
        rc = packs_block(ps, p, dir->u.dir, i, nowait, out, err);
    packs_put(ps, dir);
    return rc;
}

/* ---- chunks ---- */

const struct pack_chunk *packs_find_chunk(const struct cached *c, uint64_t number)
{
    uint32_t lo = 0, hi = c->n;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (c->u.chunk[mid].number == number)
            return &c->u.chunk[mid];
        if (c->u.chunk[mid].number < number)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

/* The frame of the chunk that was found, and whether the chunk can be in it. */
static int find_frame(struct packs *ps, struct chunk_place *pl, bool nowait, struct err *err)
{
    const struct pack_chunk *k = pl->chunk;
    int rc = block_of(ps, pl->pack, PACK_FRAMES, k->frame, nowait, &pl->frames, err);
    struct cached *dir;
    uint64_t least;

    if (rc == 0)
        rc = packs_dir(ps, pl->pack, nowait, &dir, err);
    if (rc)
        return rc;
    least = pl->frames ? dir->u.dir[packs_seek(dir, PACK_FRAMES, k->frame)].least : 0;
    packs_put(ps, dir);
    if (pl->frames == NULL || k->frame - least >= pl->frames->n)
        return packs_bad(err, pl->pack, pl->chunks->at, "block of chunks: chunk %" PRIu64 " is in frame %" PRIu32 ", which there is not", k->number,
                         k->frame);
    pl->frame = &pl->frames->u.frame[k->frame - least];
    if (k->off > pl->frame->expanded || k->len > pl->frame->expanded - k->off || (pl->frame->kind == PACK_DELTA && k->len != pl->frame->expanded))
        return packs_bad(err, pl->pack, pl->chunks->at, "block of chunks: chunk %" PRIu64 " lies at %" PRIu32 " + %" PRIu32
                         " of frame %" PRIu32 ", which has %" PRIu32 " bytes", k->number, k->off, k->len, k->frame, pl->frame->expanded);
    return 0;
}

/* In this pack, whose hold goes over to *${pl}, or NOENT (without a message). */
static int place_in(struct packs *ps, struct pack *p, uint64_t number, bool nowait, struct chunk_place *pl, struct err *err)
{
    int rc;

    pl->pack = p;
    rc = block_of(ps, p, PACK_CHUNKS, number, nowait, &pl->chunks, err);
    if (rc)
        return rc;
    pl->chunk = pl->chunks ? packs_find_chunk(pl->chunks, number) : NULL;
    return pl->chunk ? find_frame(ps, pl, nowait, err) : ERR_NOENT;
}

void packs_place_end(struct packs *ps, struct chunk_place *pl)
{
    packs_put(ps, pl->chunks);
    packs_put(ps, pl->frames);
    packs_release(ps, pl->pack);
    memset(pl, 0, sizeof *pl);
}

/* One more hold of a pack that is held. */
static struct pack *hold(struct packs *ps, struct pack *p)
{
    pthread_mutex_lock(&ps->mutex);
    p->refs++;
    pthread_mutex_unlock(&ps->mutex);
    return p;
}

int packs_place(struct packs *ps, struct pack *home, uint64_t number, bool nowait, struct chunk_place *out, struct err *err)
{
    struct pack *p;
    uint64_t until;
    int rc = ERR_NOENT;

    memset(out, 0, sizeof *out);
    if (home)
        rc = place_in(ps, hold(ps, home), number, nowait, out, err);
    if (rc == ERR_NOENT) {
        packs_place_end(ps, out);
        rc = packs_find(ps, number, nowait, &p, &until, err);
        if (rc == 0)
            rc = p == NULL ? ERR_NOENT : place_in(ps, p, number, nowait, out, err);
    }
    if (rc)
        packs_place_end(ps, out);
    return rc == ERR_NOENT ? err_set(err, rc, "packs: chunk %" PRIu64 " is not there", number) : rc;
}

/* ---- frames ---- */

int packs_verify(struct packs *ps, const struct pack *p, const struct pack_frame *f, const struct pack_chunk *k, const uint8_t *bytes, struct err *err)
{
    struct hash128 sum = pack_hash(ps->key, bytes + k->off, k->len);

    if (hash128_eq(&sum, &k->hash))
        return 0;
    return packs_bad(err, p, f->at, "frame %" PRIu32 " of %" PRIu32 " bytes: chunk %" PRIu64 ": hash: expected %016" PRIx64 "..., found %016" PRIx64 "...",
                     k->frame, f->stored, k->number, get_be64(k->hash.b), get_be64(sum.b));
}

/* Whether the chunk at ${pl} in these bytes has its hash; what was found good is not hashed again while the bytes are kept. */
static int verified(struct packs *ps, const struct chunk_place *pl, struct cached *c, struct err *err)
{
    int rc;

    if (packs_is_verified(ps, c, pl->chunk->number))
        return 0;
    rc = packs_verify(ps, pl->pack, pl->frame, pl->chunk, c->u.bytes, err);
    if (rc == 0)
        packs_note_verified(ps, c, pl->chunk->number);
    return rc;
}

/* The bytes of the chunk at ${pl}, verified: *${out} holds them, *${bytes} is where. Bytes in which damage was found first are not kept. */
static int chunk_bytes(struct packs *ps, const struct chunk_place *pl, bool nowait, struct cached **out, const uint8_t **bytes, struct err *err)
{
    struct cached *c = packs_get(ps, pl->pack, pl->frame->at, CACHED_BYTES);
    int rc = c ? verified(ps, pl, c, err) : ERR_MISS;

    if (c && rc) {              /* damage of the disk, or of memory since: the disk says which */
        packs_put(ps, c);
        c = NULL;
    }
    if (c == NULL) {
        rc = packs_expand(ps, pl->pack, pl->frame, nowait, &c, err);
        if (rc)
            return rc;
        rc = verified(ps, pl, c, err);
        if (rc == 0)
            packs_keep(ps, c);
    }
    if (rc) {
        packs_put(ps, c);
        return rc;
    }
    *out = c;
    *bytes = c->u.bytes + pl->chunk->off;
    return 0;
}

/* The base of a delta: *${out} holds its bytes. */
static int base_bytes(struct packs *ps, struct pack *p, const struct pack_frame *f, bool nowait, struct cached **out, const uint8_t **bytes,
                      uint32_t *len, struct err *err)
{
    struct chunk_place pl;
    int rc = packs_place(ps, p, f->base, nowait, &pl, err);

    if (rc == ERR_NOENT)
        return packs_bad(err, p, f->at, "frame of %" PRIu32 " bytes: its base, chunk %" PRIu64 ", is nowhere", f->stored, f->base);
    if (rc)
        return rc;
    if (pl.frame->depth >= f->depth)
        rc = packs_bad(err, p, f->at, "frame of %" PRIu32 " bytes: expected a base, chunk %" PRIu64 ", of a depth below %d, found %d", f->stored,
                       f->base, f->depth, pl.frame->depth);
    else
        rc = chunk_bytes(ps, &pl, nowait, out, bytes, err);
    *len = pl.chunk->len;
    packs_place_end(ps, &pl);
    return rc;
}

static int squeezed(struct packs *ps, struct pack *p, const struct pack_frame *f, const uint8_t *prefix, uint32_t prefix_len, bool nowait, uint8_t *to,
                    struct err *err)
{
    struct squeeze *z = packs_squeeze(ps);
    uint8_t *stored = malloc(f->stored);
    int rc = z && stored ? packs_bytes(ps, p, "frame", stored, f->stored, f->at, nowait, err) : err_set(err, ERR_NOMEM, "packs: out of memory");

    if (rc == 0) {
        rc = unsqueeze(z, stored, f->stored, prefix, prefix_len, to, f->expanded);
        if (rc == ERR_DAMAGE)
            rc = packs_bad(err, p, f->at, "frame: expected %" PRIu32 " bytes that expand to %" PRIu32 ", found other ones", f->stored, f->expanded);
        else if (rc)
            rc = err_set(err, rc, "packs: out of memory");
    }
    free(stored);
    if (z)
        packs_squeeze_back(ps, z);
    return rc;
}

int packs_expand(struct packs *ps, struct pack *p, const struct pack_frame *f, bool nowait, struct cached **out, struct err *err)
{
    struct cached *base = NULL, *c = NULL;
    const uint8_t *prefix = NULL;
    uint32_t prefix_len = 0;
    int rc = f->kind == PACK_DELTA ? base_bytes(ps, p, f, nowait, &base, &prefix, &prefix_len, err) : 0;

    if (rc)
        return rc;
    c = packs_cached_new(p, f->at, CACHED_BYTES);
    if (c == NULL || (c->u.bytes = malloc(f->expanded)) == NULL)
        rc = err_set(err, ERR_NOMEM, "packs: out of memory");
    else if (f->kind == PACK_RAW)
        rc = packs_bytes(ps, p, "frame", c->u.bytes, f->stored, f->at, nowait, err);
    else
        rc = squeezed(ps, p, f, prefix, prefix_len, nowait, c->u.bytes, err);
    packs_put(ps, base);
    if (rc) {
        packs_put(ps, c);
        return rc;
    }
    c->n = f->expanded;
    c->cost += f->expanded;
    *out = c;
    return 0;
}

int packs_chunk(struct packs *ps, uint64_t number, uint8_t *buf, uint32_t *len, uint8_t *depth, struct err *err)
{
    struct chunk_place pl;
    struct cached *c;
    const uint8_t *bytes;
    int rc = packs_place(ps, NULL, number, false, &pl, err);

    if (rc)
        return rc;
    rc = chunk_bytes(ps, &pl, false, &c, &bytes, err);
    if (rc == 0) {
        memcpy(buf, bytes, pl.chunk->len);
        *len = pl.chunk->len;
        *depth = pl.frame->depth;
        packs_put(ps, c);
    }
    packs_place_end(ps, &pl);
    return rc;
}

/* ---- addresses ---- */

uint32_t packs_seek_addr(const struct cached *c, uint64_t lsn)
{
    uint32_t lo = 0, hi = c->n;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (c->u.addr[mid].lsn < lsn)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* ${n} bytes from ${skip} on in what entry ${a} of ${p} names. */
static int read_entry(struct packs *ps, struct pack *p, const struct cached *table, const struct pack_addr *a, uint32_t skip, uint32_t n, uint8_t *out,
                      bool nowait, struct err *err)
{
    struct chunk_place pl;
    struct cached *c;
    const uint8_t *bytes;
    int rc = packs_place(ps, p, a->chunk, nowait, &pl, err);

    if (rc == ERR_NOENT)
        return packs_bad(err, p, table->at, "block of addresses: the data of the record at address %" PRIu64 " are in chunk %" PRIu64
                         ", which is nowhere", a->lsn, a->chunk);
    if (rc)
        return rc;
    if (a->chunk_off > pl.chunk->len || a->len > pl.chunk->len - a->chunk_off) {
        rc = packs_bad(err, p, table->at, "block of addresses: the data of the record at address %" PRIu64 " lie at %" PRIu32 " + %" PRIu32
                       " of chunk %" PRIu64 ", which has %" PRIu32 " bytes", a->lsn, a->chunk_off, a->len, a->chunk, pl.chunk->len);
    } else {
        rc = chunk_bytes(ps, &pl, nowait, &c, &bytes, err);
        if (rc == 0) {
            memcpy(out, bytes + a->chunk_off + skip, n);
            packs_put(ps, c);
        }
    }
    packs_place_end(ps, &pl);
    return rc;
}

static int no_data(uint64_t lsn, uint32_t doff, struct err *err)
{
    return err_set(err, ERR_NOENT, "packs: byte %" PRIu32 " of the data of the record at address %" PRIu64 " is in no pack", doff, lsn);
}

int packs_read(struct packs *ps, uint64_t lsn, uint32_t doff, uint32_t len, uint8_t *out, bool nowait, struct err *err)
{
    uint64_t pos = doff, end = pos + len, until;
    struct cached *table = NULL;
    struct pack *p;
    int rc = packs_find(ps, lsn, nowait, &p, &until, err);

    if (rc)
        return rc;
    if (p == NULL || end > REC_DATA_MAX) {
        packs_release(ps, p);
        return no_data(lsn, doff, err);
    }
    rc = block_of(ps, p, PACK_ADDRESSES, lsn, nowait, &table, err);
    for (uint32_t i = table ? packs_seek_addr(table, lsn) : 0; rc == 0 && table && pos < end && i < table->n && table->u.addr[i].lsn == lsn; i++) {
        const struct pack_addr *a = &table->u.addr[i];
        uint64_t stop = (uint64_t)a->doff + a->len;
        uint32_t n;

        if (stop <= pos)
            continue;
        if (a->doff > pos)
            break;
        n = (uint32_t)((stop < end ? stop : end) - pos);
        rc = read_entry(ps, p, table, a, (uint32_t)pos - a->doff, n, out + (pos - doff), nowait, err);
        pos += n;
    }
    if (rc == 0 && pos < end)
        rc = no_data(lsn, (uint32_t)pos, err);
    packs_put(ps, table);
    packs_release(ps, p);
    return rc;
}

/* The entries of one pack in [from, to). */
static int walk_pack(struct packs *ps, struct pack *p, uint64_t from, uint64_t to, int (*fn)(void *arg, const struct pack_addr *a), void *arg, struct err *err)
{
    struct cached *dir;
    uint32_t i;
    int rc = packs_dir(ps, p, false, &dir, err);

    if (rc)
        return rc;
    i = packs_seek(dir, PACK_ADDRESSES, from);
    for (i = i == UINT32_MAX ? 0 : i; rc == 0 && i < dir->n; i++) {
        const struct pack_block *b = &dir->u.dir[i];
        struct cached *table;

        if (b->kind != PACK_ADDRESSES)
            continue;
        if (b->least >= to)
            break;
        rc = packs_block(ps, p, dir->u.dir, i, false, &table, err);
        if (rc)
            break;
        for (uint32_t k = packs_seek_addr(table, from); rc == 0 && k < table->n && table->u.addr[k].lsn < to; k++)
            rc = fn(arg, &table->u.addr[k]);
        packs_put(ps, table);
    }
    packs_put(ps, dir);
    return rc;
}

int packs_walk(struct packs *ps, uint64_t from, uint64_t to, int (*fn)(void *arg, const struct pack_addr *a), void *arg, struct err *err)
{
    int rc = 0;

    for (uint64_t at = from, until; rc == 0 && at < to; at = until) {
        struct pack *p;

        rc = packs_find(ps, at, false, &p, &until, err);
        if (rc == 0 && p)
            rc = walk_pack(ps, p, at, until < to ? until : to, fn, arg, err);
        packs_release(ps, p);
    }
    return rc;
}
