/* dump_archive.c: an archive file as text: its head, each frame and the records in it. */
#include "cli/dump_internal.h"
#include "cli/dump_record.h"
#include "cli/out.h"
#include "store/pack/archive.h"
#include "store/pack/squeeze.h"

#include <stdlib.h>
#include <string.h>

struct archive_dump { const struct dump_in *in; struct archive_head head; struct squeeze *squeeze; uint8_t *stored, *raw; struct archive_heads heads; };

bool dump_is_archive(const struct dump_in *f, const uint8_t *buf, size_t len)
{
    const char *base = strrchr(f->path, '/');
    uint64_t first, end, gen;

    return (len >= 8 && memcmp(buf, "SPAREARC", 8) == 0) || archive_parse(base ? base + 1 : f->path, &first, &end, &gen);
}

static void show_head(const struct archive_head *h)
{
    json_t *o = json_object();

    json_object_set_new(o, "file", json_string("archive"));
    dump_num(o, "compat", h->compat);
    dump_num(o, "ro_compat", h->ro_compat);
    dump_num(o, "incompat", h->incompat);
    dump_hex(o, "lineage", h->lineage, 16);
    dump_hex(o, "site", h->site, 16);
    dump_hex(o, "epoch_id", h->epoch_id, 16);
    dump_num(o, "hash_alg", h->hash_alg);
    dump_num(o, "generation", h->gen);
    dump_num(o, "first_lsn", h->first);
    dump_num(o, "end_lsn", h->end);
    dump_num(o, "records", h->n_records);
    dump_num(o, "frames", h->n_frames);
    dump_num(o, "retained_generation", h->retained_gen);
    dump_show(o);
}

static void show_frame(const struct archive_frame *f, uint64_t off)
{
    json_t *o = json_object();

    dump_num(o, "frame_lsn", f->first_lsn);
    dump_num(o, "end_lsn", f->end);
    dump_num(o, "file_offset", off);
    dump_num(o, "stored_bytes", f->stored);
    dump_num(o, "expanded_bytes", f->expanded);
    dump_num(o, "records", f->n);
    dump_num(o, "previous_lsn", f->prev_lsn);
    dump_hex(o, "previous_hash", f->prev_hash.b, 16);
    dump_hex(o, "last_hash", f->last_hash.b, 16);
    dump_show(o);
}

static int read_all(const struct dump_in *f, void *buf, size_t len, uint64_t off, struct err *err)
{
    int64_t n = dump_read(f, buf, len, off, err);

    if (n >= 0 && (size_t)n < len)
        return err_set(err, ERR_DAMAGE, "%s: offset %llu: expected %zu bytes, found %lld before the end of the file", f->path,
                       (unsigned long long)off, len, (long long)n);
    return n < 0 ? (int)n : 0;
}

/* The first head; the copy behind the frames where that one is bad, which is then said. */
static int read_heads(struct archive_dump *d, struct err *bad, struct err *err)
{
    const struct dump_in *f = d->in;
    uint8_t one[ARCHIVE_HEAD_BYTES], two[ARCHIVE_HEAD_BYTES] = { 0 };
    uint64_t at = f->size < ARCHIVE_TAIL_BYTES ? 0 : f->size - ARCHIVE_TAIL_BYTES;
    struct archive_head copy;
    struct err why = { 0 };
    int first, second, r = read_all(f, one, sizeof one, 0, err);

    if (r == 0)
        r = read_all(f, two, sizeof two, at, err);
    if (r)
        return r;
    first = archive_head_decode(one, sizeof one, f->size, &d->head, &why);
    if (first)
        err_set(bad, first, "%s: offset 0: %s", f->path, why.msg);
    second = archive_head_decode(two, sizeof two, f->size, &copy, &why);
    if (first && second)
        return err_set(err, bad->code, "%s", bad->msg);
    if (first)
        d->head = copy;
    else if (second || memcmp(one, two, sizeof one) != 0)
        err_set(bad, ERR_DAMAGE, "%s: offset %llu: expected the first head's bytes once more, found: %s", f->path, (unsigned long long)at,
                second ? why.msg : "others");
    return 0;
}

/* The frame at ${off} of head ${fr}: its records into d->heads. */
static int read_frame(struct archive_dump *d, uint64_t off, struct archive_frame *fr, struct err *err)
{
    const struct dump_in *f = d->in;
    uint8_t raw[ARCHIVE_FRAME_HEAD_BYTES];
    struct err why = { 0 };
    int r = read_all(f, raw, sizeof raw, off, err);

    if (r)
        return r;
    r = archive_frame_decode(raw, sizeof raw, fr, &why);
    if (r)
        return err_set(err, r, "%s: offset %llu: %s", f->path, (unsigned long long)off, why.msg);
    show_frame(fr, off);
    r = read_all(f, d->stored, fr->stored, off + sizeof raw, err);
    if (r)
        return r;
    r = unsqueeze(d->squeeze, d->stored, fr->stored, NULL, 0, d->raw, fr->expanded);
    if (r)
        return err_set(err, r, "%s: offset %llu: expected a zstd frame of %u bytes that expands to %u, found other bytes", f->path,
                       (unsigned long long)off + sizeof raw, fr->stored, fr->expanded);
    r = archive_unfold(d->raw, fr->expanded, fr, &d->heads, &why);
    if (r)
        return err_set(err, r, "%s: offset %llu: %s", f->path, (unsigned long long)off, why.msg);
    if (!hash128_eq(&d->heads.last_hash, &fr->last_hash))
        return err_set(err, ERR_DAMAGE, "%s: offset %llu: the hash of the last record, LSN %llu, is not the one that the frame states", f->path,
                       (unsigned long long)off + 56, (unsigned long long)d->heads.last_lsn);
    return 0;
}

static int show_records(struct archive_dump *d, struct err *err)
{
    struct record rec;
    int r = 0;

    for (size_t at = 0; at < d->heads.len && r == 0; at += rec.head_len) {
        if (out_interrupted)
            return err_set(err, ERR_INTR, "interrupted");
        r = record_decode(d->heads.p + at, d->heads.len - at, &rec, err);
        if (r == 0)
            dump_show(dump_record(&rec));
    }
    return r;
}

static int show_frames(struct archive_dump *d, struct err *err)
{
    uint64_t off = ARCHIVE_HEAD_BYTES, end = d->head.size - ARCHIVE_TAIL_BYTES, lsn = d->head.first, records = 0;
    struct archive_frame fr;
    int r = 0;

    while (off < end && r == 0) {
        r = read_frame(d, off, &fr, err);
        if (r == 0)
            r = show_records(d, err);
        if (r == 0) {
            off += ARCHIVE_FRAME_HEAD_BYTES + (uint64_t)fr.stored;
            lsn = fr.end;
            records += fr.n;
        }
    }
    if (r == 0)
        dump_end("end of frames", off, lsn, records);
    return r;
}

/* The file's last bytes are the hash of all before. */
static int check_hash(const struct archive_dump *d, struct err *err)
{
    const struct dump_in *f = d->in;
    uint64_t end = f->size - ARCHIVE_HASH_BYTES;
    struct hash128_state state;
    struct hash128 sum, found;
    int r = 0;

    hash128_init(&state);
    for (uint64_t at = 0; at < end && r == 0; at += ARCHIVE_FRAME_MAX) {
        size_t n = end - at < ARCHIVE_FRAME_MAX ? (size_t)(end - at) : ARCHIVE_FRAME_MAX;

        r = read_all(f, d->raw, n, at, err);
        if (r == 0)
            hash128_update(&state, d->raw, n);
    }
    if (r == 0)
        r = read_all(f, found.b, sizeof found.b, end, err);
    if (r)
        return r;
    sum = hash128_final(&state);
    return hash128_eq(&sum, &found) ? 0 : err_set(err, ERR_DAMAGE, "%s: offset %llu: expected the hash of all before, found another", f->path,
                                                  (unsigned long long)end);
}

int dump_archive(const struct dump_in *f, struct err *err)
{
    struct archive_dump d = { .in = f, .squeeze = squeeze_new(), .stored = malloc(ARCHIVE_FRAME_MAX), .raw = malloc(ARCHIVE_FRAME_MAX) };
    struct err bad = { 0 };
    int r = d.squeeze && d.stored && d.raw ? read_heads(&d, &bad, err) : err_set(err, ERR_NOMEM, "%s: no memory", f->path);

    if (r == 0) {
        show_head(&d.head);
        r = show_frames(&d, err);
    }
    if (r == 0 && bad.code)             /* the rest could be read all the same */
        r = err_set(err, bad.code, "%s", bad.msg);
    if (r == 0)
        r = check_hash(&d, err);
    squeeze_free(d.squeeze);
    free(d.stored);
    free(d.raw);
    free(d.heads.p);
    return r;
}
