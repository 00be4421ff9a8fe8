/* recall.c: see recall.h. */
#include "store/maint/recall.h"

#include "store/log/frame.h"
#include "store/maint/pack_internal.h"
#include "store/pack/archive.h"
#include "store/pack/history.h"

#include <stdlib.h>
#include <string.h>

/* Records that cannot be read: those that begin in [from, until). ${end}: so far they came. The one behind them, if it is known, says which the last one is. */
struct gap { uint64_t from, until, end; uint8_t *p; size_t len; bool behind; uint64_t lsn; struct hash128 hash; };

struct recall {
    struct store *s;
    struct wound w;
    bool archive;
    struct history_file file;
    struct gap *gap;
    size_t n, bytes;
};

static int nomem(struct err *err)
{
    return err_set(err, ERR_NOMEM, "heal: out of memory");
}

void recall_free(struct recall *r)
{
    if (r == NULL)
        return;
    for (size_t i = 0; i < r->n; i++)
        free(r->gap[i].p);
    free(r->gap);
    free(r);
}

static int add_gap(struct recall *r, uint64_t from, uint64_t until, const struct record *behind, struct err *err)
{
    struct gap *g = realloc(r->gap, (r->n + 1) * sizeof *g);

    if (g == NULL)
        return nomem(err);
    r->gap = g;
    g += r->n++;
    *g = (struct gap){ .from = from, .until = until, .end = from, .behind = behind != NULL };
    if (behind != NULL) {
        g->lsn = behind->prev_lsn;
        g->hash = behind->prev_hash;
    }
    return 0;
}

/* ---- files of the archive ---- */

struct reading { struct archive *a; uint64_t at; bool any, failed; uint64_t lsn; struct hash128 hash; };

/* The next record of it that can be read: 1, 0 the end, < 0. *${lost}: there are others before it, from c->at on. */
static int next_good(struct recall *r, struct reading *c, struct record *rec, const uint8_t **head, bool *lost, struct err *err)
{
    struct err why = { 0 };
    int rc = c->a != NULL ? archive_next(c->a, rec, head, &why) : 0;

    while (rc == ERR_DAMAGE || rc == ERR_IO) {
        c->failed = true;
        rc = archive_next(c->a, rec, head, &why);
    }
    if (rc < 0)
        return err_set(err, rc, "%s", why.msg);
    if (rc == 1 && rec->lsn >= r->file.end)
        rc = 0;                          /* of a branch */
    *lost = c->failed || (rc == 1 && c->any && (rec->prev_lsn != c->lsn || !hash128_eq(&rec->prev_hash, &c->hash)));
    c->failed = false;
    return rc;
}

static void took(struct reading *c, const struct record *rec)
{
    c->at = rec->lsn + frame_span(rec->head_len + rec->data_len);
    c->any = true;
    c->lsn = rec->lsn;
    c->hash = rec->hash;
}

/* (A file whose head cannot be read has lost all its records.) */
static int begin_reading(struct recall *r, struct reading *c, struct err *err)
{
    struct err why = { 0 };
    int rc = archive_open(store_io(r->s), r->file.first, r->file.own_end, r->file.gen, &c->a, NULL, &why);

    c->at = r->file.first;
    if (rc == ERR_NOENT || rc == ERR_DAMAGE || rc == ERR_IO) {
        c->a = NULL;
        c->failed = true;
        rc = 0;
    }
    return rc < 0 ? err_set(err, rc, "%s", why.msg) : 0;
}

static int look_at_file(struct recall *r, struct err *err)
{
    struct reading c = { 0 };
    struct record rec;
    bool lost = false;
    int rc = begin_reading(r, &c, err);

    while (rc == 0 && (rc = next_good(r, &c, &rec, NULL, &lost, err)) == 1) {
        rc = lost ? add_gap(r, c.at, rec.lsn, &rec, err) : 0;
        took(&c, &rec);
    }
    if (rc == 0 && c.at < r->file.end)
        rc = add_gap(r, c.at, r->file.end, NULL, err);
    archive_close(c.a);
    return rc;
}

/* What the record behind the file says is before it. */
static int behind_file(struct recall *r, struct gap *g, struct err *err)
{
    struct history_iter *it = NULL;
    struct record rec;
    int rc;

    if (r->file.end == log_head(store_log(r->s))) {
        log_last(store_log(r->s), &g->lsn, &g->hash);
        if (r->file.end == log_head(store_log(r->s)))
            return 0;
    }
    rc = history_iter_new(store_history(r->s), r->file.end, UINT64_MAX, &it, err);
    if (rc == 0)
        rc = history_next(it, &rec, NULL, err);
    history_iter_free(it);
    if (rc == 0)
        rc = err_set(err, ERR_NOENT, "heal: no record behind @%llu", (unsigned long long)r->file.end);
    if (rc == 1) {
        g->lsn = rec.prev_lsn;
        g->hash = rec.prev_hash;
        rc = 0;
    }
    return rc;
}

static int prove(struct recall *r, struct gap *g, struct err *err)
{
    struct record last;
    int rc = g->behind ? 0 : behind_file(r, g, err);

    if (rc == 0)
        rc = log_heads_check(g->p, g->len, g->from, false, &last, err);
    if (rc == 0 && (last.lsn != g->lsn || !hash128_eq(&last.hash, &g->hash)))
        rc = err_set(err, ERR_DAMAGE, "records of another site: @%llu is not what the record behind it here follows", (unsigned long long)last.lsn);
    return rc;
}

static int put_gap(const struct gap *g, struct archive_writer *w, uint32_t *epoch, struct err *err)
{
    struct record rec;
    int rc = 0;

    for (size_t off = 0; rc == 0 && off < g->len; off += rec.head_len) {
        rc = record_decode(g->p + off, g->len - off, &rec, err);
        if (rc == 0) {
            *epoch = rec.epoch;
            rc = archive_add(w, &rec, g->p + off, err);
        }
    }
    return rc;
}

static int put_records(struct recall *r, struct archive_writer *w, uint32_t *epoch, struct err *err)
{
    struct reading c = { 0 };
    const uint8_t *head;
    struct record rec;
    size_t i = 0;
    bool lost = false;
    int rc = begin_reading(r, &c, err);

    while (rc == 0 && (rc = next_good(r, &c, &rec, &head, &lost, err)) == 1) {
        for (rc = 0; rc == 0 && i < r->n && r->gap[i].from < rec.lsn; i++)
            rc = put_gap(&r->gap[i], w, epoch, err);
        if (rc == 0)
            rc = archive_add(w, &rec, head, err);
        *epoch = rec.epoch;
        took(&c, &rec);
    }
    for (; rc == 0 && i < r->n; i++)
        rc = put_gap(&r->gap[i], w, epoch, err);
    archive_close(c.a);
    return rc;
}

static int file_anew(struct recall *r, struct err *err)
{
    struct history *h = store_history(r->s);
    struct archive_head head = { .gen = history_next_gen(h), .first = r->file.first, .end = r->file.end, .retained_gen = store_retained_gen(r->s) };
    struct archive_writer *w = NULL;
    struct store_info *info = malloc(sizeof *info);
    char old[ARCHIVE_NAME_MAX];
    uint8_t epoch_id[16];
    uint32_t epoch = 0;
    int rc = info != NULL ? names_free_gen(store_io(r->s), "archive", archive_parse, &head.gen, err) : nomem(err);

    if (rc == 0) {
        store_info(r->s, info);
        memcpy(head.lineage, info->super.lineage, 16);
        memcpy(head.site, info->super.site, 16);
        rc = archive_new(store_io(r->s), &head, &w, err);
    }
    free(info);
    if (rc < 0)
        return rc;
    rc = put_records(r, w, &epoch, err);
    if (rc < 0) {
        archive_drop(w);
        return rc;
    }
    epoch_id_of(r->s, epoch, epoch_id);
    rc = archive_finish(w, epoch_id, err);
    if (rc == 0)
        rc = history_added(h, head.first, head.end, head.gen, err);
    archive_name(r->file.first, r->file.own_end, r->file.gen, old);
    if (rc == 0)
        (void)io_unlink(store_io(r->s), old, NULL);      /* else the newer one counts all the same */
    return rc;
}

/* ---- the wound ---- */

int recall_new(struct store *s, const struct wound *w, struct recall **out, struct err *err)
{
    struct recall *r = calloc(1, sizeof *r);
    int rc = r != NULL ? 0 : nomem(err);

    *out = NULL;
    if (rc < 0)
        return rc;
    r->s = s;
    r->w = *w;
    r->archive = w->lsn < log_first(store_log(s));
    if (recall_whole(s, w) || (r->archive && !history_file_of(store_history(s), w->lsn, &r->file)))
        rc = err_set(err, ERR_NOENT, "heal: nothing is damaged @%llu", (unsigned long long)w->lsn);
    else
        rc = r->archive ? look_at_file(r, err) : add_gap(r, w->lsn, w->until, NULL, err);
    if (rc < 0) {
        recall_free(r);
        return rc;
    }
    *out = r;
    return 0;
}

int recall_next(const struct recall *r, uint64_t *from, uint64_t *until)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->gap[i].end < r->gap[i].until) {
            *from = r->gap[i].end;
            *until = r->gap[i].until;
            return 1;
        }
    return 0;
}

int recall_heard(struct recall *r, const uint8_t *heads, size_t len, uint64_t end, struct err *err)
{
    struct gap *g = r->gap;
    uint8_t *p;

    while (g->end >= g->until)
        g++;
    if (len == 0)
        return err_set(err, ERR_NOENT, "heal: the other site does not have the record @%llu either", (unsigned long long)g->end);
    if (len > RECALL_BYTES_MAX - r->bytes)
        return err_set(err, ERR_TOOLONG, "heal: expected at most %d bytes of heads of records, found more", (int)RECALL_BYTES_MAX);
    p = realloc(g->p, g->len + len);
    if (p == NULL)
        return nomem(err);
    memcpy(p + g->len, heads, len);
    g->p = p;
    g->len += len;
    g->end = end;
    r->bytes += len;
    return 0;
}

/* What was damaged together with its head is another wound. */
static void look_at_data(struct recall *r, const struct gap *g)
{
    struct record rec;

    for (size_t off = 0; off < g->len && record_decode(g->p + off, g->len - off, &rec, NULL) == 0; off += rec.head_len) {
        struct record full;
        void *buf = NULL;
        int rc = rec.data_len > 0 ? log_read_record(store_log(r->s), rec.lsn, true, &full, &buf, NULL) : 0;

        free(buf);
        for (uint32_t at = 0, n; rc == ERR_DAMAGE && at < rec.data_len; at += n) {
            n = rec.data_len - at < PACK_CHUNK_MAX ? rec.data_len - at : PACK_CHUNK_MAX;
            wounds_note(r->s, &(struct wound){ rec.lsn, record_dstart(rec.head_len), at, n, 0 });
        }
    }
}

int recall_apply(struct recall *r, struct err *err)
{
    int rc = 0;

    if (!r->archive) {
        rc = log_heal_heads(store_log(r->s), r->gap[0].from, r->gap[0].p, r->gap[0].len, err);
        if (rc == 0)
            look_at_data(r, &r->gap[0]);
        return rc;
    }
    store_maint_begin(r->s);
    for (size_t i = 0; rc == 0 && i < r->n; i++)
        rc = prove(r, &r->gap[i], err);
    if (rc == 0)
        rc = file_anew(r, err);
    store_maint_end(r->s);
    return rc;
}

static bool file_whole(struct store *s, uint64_t addr)
{
    struct archive *a = NULL;
    struct history_file f;
    struct err warn = { 0 };
    int rc = history_file_of(store_history(s), addr, &f) ? archive_open(store_io(s), f.first, f.own_end, f.gen, &a, &warn, NULL) : 0;

    if (rc == 0 && a != NULL)
        rc = archive_check(a, NULL);
    archive_close(a);
    return rc == 0 && warn.code == 0;
}

bool recall_whole(struct store *s, const struct wound *w)
{
    struct log_iter *it = NULL;
    struct record rec;
    int rc;

    if (w->lsn < log_first(store_log(s)))
        return file_whole(s, w->lsn);
    rc = log_iter_new(store_log(s), w->lsn, w->until, 0, &it, NULL);
    while (rc == 0 && (rc = log_iter_next(it, &rec, NULL)) == 1)
        rc = 0;
    log_iter_free(it);
    return rc == 0 || rc == ERR_NOENT;
}

bool recall_head(struct store *s, uint64_t lsn, struct wound *w)
{
    struct log *log = store_log(s);
    struct record rec;
    void *buf = NULL;
    int rc = lsn >= log_first(log) ? log_read_record(log, lsn, false, &rec, &buf, NULL) : ERR_NOENT;

    free(buf);
    if (rc != ERR_DAMAGE && rc != ERR_IO)
        return false;
    *w = (struct wound){ .lsn = lsn, .until = log_next_readable(log, lsn + 8, log_written(log), NULL, NULL) };
    return true;
}
