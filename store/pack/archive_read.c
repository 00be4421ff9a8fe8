/*
 * archive_read.c: an archive file's records in order. A frame is checked whole, to the hash of its last record, before the
 * first of them is given: one that is damaged gives none, and reading can go on behind it.
 */
#include "store/pack/archive_internal.h"
#include "store/pack/sealed.h"
#include "store/pack/squeeze.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { SEARCH_BYTES = 4096 };

/* A place between two frames. */
struct place {
    uint64_t at;                    /* offset in the file */
    uint64_t lsn;                   /* address behind the frame before */
    uint64_t records, frames;       /* so far, by the frames' heads */
    bool torn;                      /* a head was bad: the two above are not known */
    bool known;                     /* the last record of the frame before was read: */
    uint64_t last_lsn;
    struct hash128 last_hash;
};

struct archive {
    struct io_file *file;
    char name[ARCHIVE_NAME_MAX];
    uint64_t first, end, gen;       /* of the name */
    uint64_t size;                  /* of the file */
    uint64_t frames_end;            /* where the frames end, by the head */
    struct archive_head head;
    struct place next;              /* of the next frame to be read */
    struct archive_heads heads;     /* records of the frame read last */
    size_t heads_at;                /* of them given */
    struct squeeze *squeeze;
    uint8_t *raw, *stored;          /* the expanded bytes, and as they lie in the file */
    size_t raw_cap, stored_cap;
};

static int no_memory(const struct archive *a, struct err *err)
{
    return err_set(err, ERR_NOMEM, "%s: out of memory", a->name);
}

static void rewind_to_first(struct archive *a)
{
    a->next = (struct place){ .at = ARCHIVE_HEAD_BYTES, .lsn = a->head.first };
    a->heads.len = a->heads_at = 0;
}

static int read_all(const struct archive *a, uint8_t *buf, size_t len, uint64_t off, struct err *err)
{
    return sealed_read(a->file, a->name, buf, len, off, err);
}

/* The head at ${off}, of a file of ${size} bytes; 0: as many as it says itself. */
static int read_head(const struct archive *a, uint64_t off, uint64_t size, uint8_t buf[ARCHIVE_HEAD_BYTES], struct archive_head *h, struct err *err)
{
    struct err why = { 0 };
    int rc = read_all(a, buf, ARCHIVE_HEAD_BYTES, off, err);

    if (rc != 0)
        return rc;
    rc = archive_head_decode(buf, ARCHIVE_HEAD_BYTES, size != 0 ? size : get_u64(buf + 40), h, &why);
    if (rc != 0)
        return err_set(err, rc, "%s: offset %" PRIu64 ": %s", a->name, off, why.msg);
    if (h->first != a->first || h->end != a->end || h->gen != a->gen)
        return err_set(err, ERR_DAMAGE, "%s: offset %" PRIu64 ": expected addresses and generation of its name, found %" PRIu64 " to %" PRIu64
                       ", generation %" PRIu64, a->name, off + 112, h->first, h->end, h->gen);
    return 0;
}

/* The first head, or its copy, or the first one of a file that is too short or too long: then ${warn} says what is wrong. ${err} is not NULL. */
static int find_head(struct archive *a, struct err *warn, struct err *err)
{
    uint8_t buf[ARCHIVE_HEAD_BYTES];
    struct io_stat st;
    int rc = io_fstat(a->file, &st, err);

    if (rc != 0)
        return rc;
    a->size = st.size;
    rc = read_head(a, 0, a->size, buf, &a->head, err);
    if (rc == 0 || rc == ERR_VERSION || rc == ERR_NOMEM)
        return rc;
    if ((a->size < ARCHIVE_HEAD_BYTES + ARCHIVE_TAIL_BYTES ||
         read_head(a, a->size - ARCHIVE_TAIL_BYTES, a->size, buf, &a->head, NULL) != 0) && read_head(a, 0, 0, buf, &a->head, NULL) != 0)
        return rc;
    if (warn != NULL)
        *warn = *err;
    return 0;
}

int archive_open(struct io *io, uint64_t first, uint64_t end, uint64_t gen, struct archive **out, struct err *warn, struct err *err)
{
    struct archive *a = calloc(1, sizeof *a);
    struct err why = { 0 };
    int rc;

    *out = NULL;
    if (a == NULL)
        return err_set(err, ERR_NOMEM, "archive: out of memory");
    archive_name(first, end, gen, a->name);
    a->first = first;
    a->end = end;
    a->gen = gen;
    a->squeeze = squeeze_new();
    rc = a->squeeze == NULL ? no_memory(a, err) : io_open(io, a->name, IO_RDONLY, &a->file, err);
    if (rc != 0) {
        a->file = NULL;
        archive_close(a);
        return rc;
    }
    rc = find_head(a, warn, &why);
    if (rc != 0) {
        archive_close(a);
        return err_set(err, rc, "%s", why.msg);
    }
    a->frames_end = a->head.size - ARCHIVE_TAIL_BYTES;
    rewind_to_first(a);
    *out = a;
    return 0;
}

void archive_close(struct archive *a)
{
    if (a == NULL)
        return;
    if (a->file != NULL)
        io_close(a->file);
    squeeze_free(a->squeeze);
    free(a->heads.p);
    free(a->raw);
    free(a->stored);
    free(a);
}

const struct archive_head *archive_head(const struct archive *a)
{
    return &a->head;
}

/* Whether a frame of this head can lie at ${at}, behind the addresses below ${lsn}. */
static bool fits(const struct archive *a, uint64_t at, uint64_t lsn, const struct archive_frame *f)
{
    return at <= a->frames_end && ARCHIVE_FRAME_HEAD_BYTES + (uint64_t)f->stored <= a->frames_end - at && f->first_lsn >= lsn &&
           f->end <= a->head.end;
}

/* The frame's head at ${p}. */
static int read_frame(const struct archive *a, const struct place *p, struct archive_frame *f, struct err *err)
{
    uint8_t buf[ARCHIVE_FRAME_HEAD_BYTES];
    struct err why = { 0 };
    int rc = read_all(a, buf, sizeof buf, p->at, err);

    if (rc != 0)
        return rc;
    if (archive_frame_decode(buf, sizeof buf, f, &why) != 0)
        return err_set(err, ERR_DAMAGE, "%s: offset %" PRIu64 ": %s", a->name, p->at, why.msg);
    if (!fits(a, p->at, p->lsn, f))
        return err_set(err, ERR_DAMAGE, "%s: offset %" PRIu64 ": expected a frame of addresses %" PRIu64 " to %" PRIu64 " before offset %" PRIu64
                       ", found %" PRIu64 " to %" PRIu64 ", %" PRIu32 " bytes", a->name, p->at, p->lsn, a->head.end, a->frames_end,
                       f->first_lsn, f->end, f->stored);
    return 0;
}

/* To the next good head of a frame behind ${p}, or to the end of the frames: what is between cannot be told. */
static void search(const struct archive *a, struct place *p)
{
    uint64_t limit = a->frames_end < a->size ? a->frames_end : a->size;
    uint8_t buf[SEARCH_BYTES + ARCHIVE_FRAME_HEAD_BYTES - 1];
    struct archive_frame f;

    p->torn = true;
    p->known = false;
    for (uint64_t at = p->at + 1; at < limit; at += SEARCH_BYTES) {
        size_t want = limit - at < sizeof buf ? (size_t)(limit - at) : sizeof buf;
        int64_t n = io_pread(a->file, buf, want, at, NULL);     /* a part that cannot be read is passed over */

        for (int64_t i = 0; i + ARCHIVE_FRAME_HEAD_BYTES <= n; i++)
            if (get_u32(buf + i) == ARCHIVE_FRAME_MAGIC && archive_frame_decode(buf + i, ARCHIVE_FRAME_HEAD_BYTES, &f, NULL) == 0 &&
                fits(a, at + (uint64_t)i, p->lsn, &f)) {
                p->at = at + (uint64_t)i;
                return;
            }
    }
    p->at = a->frames_end;
}

/* Behind frame ${f}, of which the head alone was looked at. */
static void pass(struct place *p, const struct archive_frame *f)
{
    p->at += ARCHIVE_FRAME_HEAD_BYTES + f->stored;
    p->lsn = f->end;
    p->records += f->n;
    p->frames++;
    p->known = false;
}

/* Room for ${want} bytes; what was there is not kept. */
static bool room(uint8_t **buf, size_t *cap, size_t want)
{
    if (want > *cap) {
        free(*buf);
        *buf = malloc(want);
        *cap = *buf != NULL ? want : 0;
    }
    return want <= *cap;
}

/* The records of frame ${f} at ${p} into a->heads. */
static int unfold(struct archive *a, const struct place *p, const struct archive_frame *f, struct err *err)
{
    uint64_t at = p->at + ARCHIVE_FRAME_HEAD_BYTES, before = p->known ? p->last_lsn : f->prev_lsn;
    struct err why = { 0 };
    int rc;

    if (f->prev_lsn != before || (p->known && !hash128_eq(&f->prev_hash, &p->last_hash)) || (!p->torn && f->prev_lsn >= p->lsn))
        return err_set(err, ERR_DAMAGE, "%s: offset %" PRIu64 ": record before a frame: expected LSN %" PRIu64 " %016" PRIx64 "..., found %" PRIu64
                       " %016" PRIx64 "...", a->name, p->at + 32, before, get_be64(p->last_hash.b), f->prev_lsn, get_be64(f->prev_hash.b));
    if (!room(&a->stored, &a->stored_cap, f->stored) || !room(&a->raw, &a->raw_cap, f->expanded))
        return no_memory(a, err);
    rc = read_all(a, a->stored, f->stored, at, err);
    if (rc != 0)
        return rc;
    rc = unsqueeze(a->squeeze, a->stored, f->stored, NULL, 0, a->raw, f->expanded);
    if (rc == ERR_NOMEM)
        return no_memory(a, err);
    if (rc != 0)
        return err_set(err, ERR_DAMAGE, "%s: offset %" PRIu64 ": expected a zstd frame of %" PRIu32 " bytes that expands to %" PRIu32
                       ", found other bytes", a->name, at, f->stored, f->expanded);
    rc = archive_unfold(a->raw, f->expanded, f, &a->heads, &why);
    if (rc != 0)
        return err_set(err, rc, "%s: offset %" PRIu64 ": frame from LSN %" PRIu64 " on: %s", a->name, p->at, f->first_lsn, why.msg);
    if (!hash128_eq(&a->heads.last_hash, &f->last_hash))
        return err_set(err, ERR_DAMAGE, "%s: offset %" PRIu64 ": hash of the last record, LSN %" PRIu64 ": expected %016" PRIx64
                       "..., found %016" PRIx64 "...", a->name, p->at + 56, a->heads.last_lsn, get_be64(f->last_hash.b),
                       get_be64(a->heads.last_hash.b));
    return 0;
}

/* The next frame. In any case the place moves on. */
static int load(struct archive *a, struct err *err)
{
    struct place p = a->next;
    struct archive_frame f;
    int rc = read_frame(a, &p, &f, err);

    if (rc != 0) {
        search(a, &a->next);
        return rc;
    }
    pass(&a->next, &f);
    rc = unfold(a, &p, &f, err);
    if (rc != 0)
        return rc;
    a->next.known = true;
    a->next.last_lsn = a->heads.last_lsn;
    a->next.last_hash = a->heads.last_hash;
    return 0;
}

/* Behind the last frame: whether they were as many as the head says. Said once. */
static int count(struct archive *a, struct err *err)
{
    struct place *p = &a->next;

    if (p->torn || (p->frames == a->head.n_frames && p->records == a->head.n_records))
        return 0;
    p->torn = true;
    return err_set(err, ERR_DAMAGE, "%s: offset 136: expected %" PRIu64 " records in %" PRIu32 " frames, found %" PRIu64 " in %" PRIu64,
                   a->name, a->head.n_records, a->head.n_frames, p->records, p->frames);
}

int archive_seek(struct archive *a, uint64_t lsn, struct err *err)
{
    struct archive_frame f;
    struct place p;

    (void)err;                      /* what is bad shows when it is read */
    rewind_to_first(a);
    while (a->next.at < a->frames_end) {
        if (read_frame(a, &a->next, &f, NULL) == 0) {
            if (f.end > lsn)
                break;
            pass(&a->next, &f);
            continue;
        }
        /* What lies here may be it: then archive_next says that it is bad. */
        p = a->next;
        search(a, &p);
        if (p.at == a->frames_end || read_frame(a, &p, &f, NULL) != 0 || f.first_lsn > lsn)
            break;
        a->next = p;
    }
    return 0;
}

int archive_next(struct archive *a, struct record *rec, const uint8_t **head, struct err *err)
{
    const uint8_t *at;
    struct err why = { 0 };
    int rc = 0;

    if (a->heads_at == a->heads.len) {
        a->heads.len = a->heads_at = 0;
        if (a->next.at >= a->frames_end)
            return count(a, err);
        rc = load(a, err);
        if (rc != 0)
            a->heads.len = 0;
    }
    if (rc != 0)
        return rc;
    at = a->heads.p + a->heads_at;
    rc = record_decode(at, a->heads.len - a->heads_at, rec, &why);
    if (rc != 0) {                  /* no memory: all else was checked */
        a->heads_at = a->heads.len;
        return err_set(err, rc, "%s: frame before offset %" PRIu64 ": %s", a->name, a->next.at, why.msg);
    }
    a->heads_at += rec->head_len;
    if (head != NULL)
        *head = at;
    return 1;
}

/* Both heads are good, and the same. */
static int check_heads(const struct archive *a, struct err *err)
{
    uint8_t one[ARCHIVE_HEAD_BYTES], two[ARCHIVE_HEAD_BYTES];
    struct archive_head h;
    int rc = read_head(a, 0, a->size, one, &h, err);

    if (rc == 0)
        rc = read_head(a, a->size - ARCHIVE_TAIL_BYTES, a->size, two, &h, err);
    if (rc == 0 && memcmp(one, two, sizeof one) != 0)
        rc = err_set(err, ERR_DAMAGE, "%s: offset %" PRIu64 ": expected the first head's bytes once more, found others", a->name,
                     a->size - ARCHIVE_TAIL_BYTES);
    return rc;
}

int archive_check(struct archive *a, struct err *err)
{
    struct record rec;
    int rc = check_heads(a, err);

    rewind_to_first(a);
    if (rc == 0)
        do
            rc = archive_next(a, &rec, NULL, err);
        while (rc == 1);
    if (rc == 0)                    /* last: what is above says more precisely where */
        rc = sealed_check(a->file, a->name, a->size, err);
    rewind_to_first(a);
    return rc;
}
