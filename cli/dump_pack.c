/*
 * dump_pack.c: a pack as text: its head, each block of its tables, the frames, chunks and addresses in it. Where a head, a directory or a block is damaged, the
 * copy is shown: file_offset says which. Frames stay as they are: their hashes are keyed, and a delta's base may be in another file.
 */
#include "cli/dump_pack.h"
#include "cli/out.h"
#include "store/pack/pack.h"
#include "store/pack/squeeze.h"

#include <stdlib.h>
#include <string.h>

struct pack_dump { const struct dump_in *in; struct pack_head h; struct pack_block *dir; struct squeeze *z; };

bool dump_is_pack(const struct dump_in *f, const uint8_t *buf, size_t len)
{
    const char *base = strrchr(f->path, '/');
    uint64_t first, end, gen;

    return (len >= 8 && memcmp(buf, "SPAREPAK", 8) == 0) || pack_parse(base ? base + 1 : f->path, &first, &end, &gen);
}

/* ---- lines ---- */

static void show_head(const struct pack_head *h, uint64_t at, bool other_size)
{
    json_t *o = json_object();

    json_object_set_new(o, "file", json_string("pack"));
    dump_num(o, "file_offset", at);
    dump_num(o, "compat", h->compat);
    dump_num(o, "ro_compat", h->ro_compat);
    dump_num(o, "incompat", h->incompat);
    dump_num(o, "size_bytes", h->size);
    if (other_size)
        json_object_set_new(o, "other_size", json_true());
    dump_hex(o, "lineage", h->lineage, 16);
    dump_hex(o, "site", h->site, 16);
    dump_hex(o, "epoch_id", h->epoch_id, 16);
    dump_num(o, "hash_alg", h->hash_alg);
    dump_num(o, "key_id", h->key_id);
    dump_num(o, "generation", h->gen);
    dump_num(o, "first_lsn", h->first);
    dump_num(o, "end_lsn", h->end);
    dump_num(o, "retained_generation", h->retained_gen);
    dump_num(o, "tables_offset", h->tables_at);
    dump_num(o, "second_tables_offset", h->tables2_at);
    dump_num(o, "tables_bytes", h->tables_bytes);
    dump_num(o, "blocks", h->n_blocks);
    dump_show(o);
}

static void show_block(const struct pack_block *b, uint32_t i, uint64_t at)
{
    static const char *const kinds[] = { "?", "frames", "chunks", "addresses" };
    json_t *o = json_object();

    dump_num(o, "block", i);
    json_object_set_new(o, "kind", json_string(kinds[b->kind <= PACK_ADDRESSES ? b->kind : 0]));
    dump_num(o, "file_offset", at);
    dump_num(o, "entries", b->entries);
    dump_num(o, "least", b->least);
    dump_num(o, "stored_bytes", b->stored);
    dump_num(o, "expanded_bytes", b->expanded);
    dump_show(o);
}

static void show_frame(const struct pack_frame *f, uint64_t number)
{
    static const char *const kinds[] = { "raw", "zstd", "delta" };
    json_t *o = json_object();

    dump_num(o, "frame", number);
    json_object_set_new(o, "kind", json_string(kinds[f->kind]));
    dump_num(o, "file_offset", f->at);
    dump_num(o, "stored_bytes", f->stored);
    dump_num(o, "expanded_bytes", f->expanded);
    if (f->kind == PACK_DELTA) {
        dump_num(o, "base_chunk", f->base);
        dump_num(o, "depth", f->depth);
    }
    dump_show(o);
}

static void show_chunk(const struct pack_chunk *k)
{
    json_t *o = json_object();

    dump_num(o, "chunk", k->number);
    dump_num(o, "frame", k->frame);
    dump_num(o, "frame_offset", k->off);
    dump_num(o, "bytes", k->len);
    dump_hex(o, "hash", k->hash.b, 16);
    dump_show(o);
}

static void show_addr(const struct pack_addr *a)
{
    json_t *o = json_object();

    dump_num(o, "lsn", a->lsn);
    dump_num(o, "data_offset", a->doff);
    dump_num(o, "bytes", a->len);
    dump_num(o, "chunk", a->chunk);
    dump_num(o, "chunk_offset", a->chunk_off);
    dump_num(o, "ino", a->ino);
    dump_num(o, "offset", a->off);
    dump_show(o);
}

/* ---- reading ---- */

static int bad(const struct pack_dump *d, uint64_t at, const struct err *why, struct err *err)
{
    return err_set(err, why->code, "%s: offset %llu: %s", d->in->path, (unsigned long long)at, why->msg);
}

static int read_all(const struct pack_dump *d, void *buf, size_t len, uint64_t at, struct err *err)
{
    int64_t n = dump_read(d->in, buf, len, at, err);

    if (n < 0)
        return (int)n;
    if ((uint64_t)n == len)
        return 0;
    return err_set(err, ERR_DAMAGE, "%s: offset %llu: expected %zu bytes, found the end of the file after %lld", d->in->path, (unsigned long long)at, len,
                   (long long)n);
}

static int head_at(struct pack_dump *d, uint64_t at, bool *other_size, struct err *err)
{
    uint8_t buf[PACK_HEAD_BYTES];
    struct err why = { 0 };
    int rc = read_all(d, buf, sizeof buf, at, err);

    if (rc)
        return rc;
    rc = pack_head_decode(buf, sizeof buf, d->in->size, &d->h, other_size, &why);
    return rc ? bad(d, at, &why, err) : 0;
}

static int dir_at(struct pack_dump *d, uint64_t at, struct err *err)
{
    size_t len = pack_dir_bytes(d->h.n_blocks);
    uint8_t *buf = malloc(len);
    struct err why = { 0 };
    int rc = buf ? read_all(d, buf, len, at, err) : err_set(err, ERR_NOMEM, "%s: no memory for a directory of %zu bytes", d->in->path, len);

    if (rc == 0) {
        rc = pack_dir_decode(buf, len, &d->h, &d->dir, &why);
        if (rc)
            rc = bad(d, at, &why, err);
    }
    free(buf);
    return rc;
}

/* The block as it lies at ${at}, expanded into *${out}, which the caller frees. */
static int block_at(const struct pack_dump *d, const struct pack_block *b, uint64_t at, uint8_t **out, struct err *err)
{
    uint8_t *stored = malloc(b->stored), *raw = malloc(b->expanded);
    int rc = stored && raw ? read_all(d, stored, b->stored, at, err) : err_set(err, ERR_NOMEM, "%s: no memory for a block", d->in->path);

    if (rc == 0 && hash64(stored, b->stored) != b->sum)
        rc = err_set(err, ERR_DAMAGE, "%s: offset %llu: block of %u bytes: sum: expected %016llx, found %016llx", d->in->path, (unsigned long long)at,
                     b->stored, (unsigned long long)b->sum, (unsigned long long)hash64(stored, b->stored));
    if (rc == 0) {
        rc = unsqueeze(d->z, stored, b->stored, NULL, 0, raw, b->expanded);
        if (rc)
            rc = err_set(err, rc, "%s: offset %llu: block: expected %u bytes that expand to %u, found other ones", d->in->path, (unsigned long long)at,
                         b->stored, b->expanded);
    }
    free(stored);
    if (rc)
        free(raw);
    else
        *out = raw;
    return rc;
}

/* ---- all of it ---- */

static int show_entries(const struct pack_dump *d, const struct pack_block *b, const uint8_t *raw, uint64_t at, struct err *err)
{
    struct pack_frame *f = NULL;
    struct pack_chunk *k = NULL;
    struct pack_addr *a = NULL;
    struct err why = { 0 };
    int rc = 0;

    if (b->kind == PACK_FRAMES)
        rc = pack_frames_decode(raw, b->expanded, &d->h, b, &f, &why);
    else if (b->kind == PACK_CHUNKS)
        rc = pack_chunks_decode(raw, b->expanded, &d->h, b, &k, &why);
    else if (b->kind == PACK_ADDRESSES)
        rc = pack_addrs_decode(raw, b->expanded, &d->h, b, &a, &why);
    for (uint32_t i = 0; rc == 0 && i < b->entries && !out_interrupted; i++) {
        if (f)
            show_frame(&f[i], b->least + i);
        if (k)
            show_chunk(&k[i]);
        if (a)
            show_addr(&a[i]);
    }
    free(f);
    free(k);
    free(a);
    return rc ? bad(d, at, &why, err) : 0;
}

static int show_blocks(const struct pack_dump *d, struct err *err)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < d->h.n_blocks; i++) {
        const struct pack_block *b = &d->dir[i];
        uint64_t at = d->h.tables_at + b->at;
        uint8_t *raw = NULL;

        if (out_interrupted)
            return err_set(err, ERR_INTR, "interrupted");
        rc = block_at(d, b, at, &raw, err);
        if (rc == ERR_DAMAGE) {
            at = d->h.tables2_at + b->at;
            rc = block_at(d, b, at, &raw, NULL) == 0 ? 0 : rc;
        }
        if (rc)
            break;
        show_block(b, i, at);
        rc = show_entries(d, b, raw, at, err);
        free(raw);
    }
    return rc;
}

int dump_pack(const struct dump_in *f, struct err *err)
{
    struct pack_dump d = { .in = f, .z = squeeze_new() };
    uint64_t at = 0;
    bool other_size = false;
    int rc = d.z ? head_at(&d, 0, &other_size, err) : err_set(err, ERR_NOMEM, "%s: no memory", f->path);

    if (rc == ERR_DAMAGE && f->size >= 2 * PACK_HEAD_BYTES + 16) {
        at = f->size - PACK_HEAD_BYTES - 16;
        rc = head_at(&d, at, &other_size, NULL) == 0 ? 0 : rc;
    }
    if (rc == 0) {
        show_head(&d.h, at, other_size);
        rc = dir_at(&d, d.h.tables_at, err);
        if (rc == ERR_DAMAGE)
            rc = dir_at(&d, d.h.tables2_at, NULL) == 0 ? 0 : rc;
    }
    if (rc == 0)
        rc = show_blocks(&d, err);
    free(d.dir);
    squeeze_free(d.z);
    return rc;
}
