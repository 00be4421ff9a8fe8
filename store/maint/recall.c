/* recall.c: see recall.h. */
#include "store/maint/recall.h"

#include "store/log/frame.h"
#include "store/maint/pack_internal.h"
#include "store/pack/archive.h"
#include "store/pack/base.h"
#include "store/pack/history.h"

#include <stdlib.h>
#include <string.h>

/* Records that cannot be read: those that begin in [from, until). ${end}: so far they came. The one behind them, if it is known, says which the last one is. */
struct gap { uint64_t from, until, end; uint8_t *p; size_t len; bool behind; uint64_t lsn; struct hash128 hash; };

struct recall {
    struct store *s;
    struct wound w;
    bool archive, gone;                  /* gone: no file has them; it is made anew, generation 0 in ${file} */
    struct history_file file;
    struct gap *gap;
    size_t n, bytes;
};

static int nomem(struct err *err)
{
    return err_set(err, ERR_NOMEM, "heal: out of memory");
}

const char *recall_limit(const struct wound *w)
{
    return w->until > w->lsn && w->until - w->lsn > RECALL_BYTES_MAX ?
           "; where that is more than 64 MiB of heads of records it is not healed in place: a standby is made anew (spare sync STORE TARGET --new), of a primary the standby takes over (spare promote)" : "";
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
    *lost = c->failed || (rc == 1 && (c->any ? rec->prev_lsn != c->lsn || !hash128_eq(&rec->prev_hash, &c->hash) : rec->lsn != c->at));
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
    int rc = r->gone ? ERR_NOENT : archive_open(store_io(r->s), r->file.first, r->file.own_end, r->file.gen, &c->a, NULL, &why);

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

static int prove(struct recall *r, struct gap *g, struct err *err)
{
    struct record last;
    int rc = g->behind ? 0 : history_behind(store_history(r->s), r->file.end, &g->lsn, &g->hash, err);

    if (rc == 0)
        rc = log_heads_check(g->p, g->len, g->from, false, &last, err);
    if (rc == 0 && (last.lsn != g->lsn || !hash128_eq(&last.hash, &g->hash)))
        rc = err_set(err, ERR_DAMAGE, "records of another site: @%llu is not what the record behind it here follows", (unsigned long long)last.lsn);
    return rc;
}

/* The file behind ${f}, if it can be read, goes on with the record behind this one. */
static int goes_on(struct store *s, const struct history_file *f, uint64_t lsn, const struct hash128 *hash, struct err *err)
{
    struct archive *a = NULL;
    struct history_file next;
    struct record rec;
    int rc = 0;

    if (history_open_file(store_history(s), f->end, &next, &a, NULL, NULL) < 0)
        return 0;
    if (next.first == f->end && archive_next(a, &rec, NULL, NULL) == 1 && (rec.prev_lsn != lsn || !hash128_eq(&rec.prev_hash, hash)))
        rc = err_set(err, ERR_DAMAGE, "archive: the record @%llu: expected @%llu before it, found that it follows another", (unsigned long long)rec.lsn, (unsigned long long)lsn);
    archive_close(a);
    return rc;
}

/* So far the file that is made anew: no file may lack what the one before it had. */
struct making { struct archive_writer *w; uint64_t at, lsn; struct hash128 hash; uint32_t epoch; };

static int put_one(struct making *m, const struct record *rec, const uint8_t *head, struct err *err)
{
    int rc = rec->lsn == m->at ? archive_add(m->w, rec, head, err) :
             err_set(err, ERR_DAMAGE, "heal: expected a record @%llu, found @%llu: more is damaged by now", (unsigned long long)m->at, (unsigned long long)rec->lsn);

    m->at = rec->lsn + frame_span(rec->head_len + rec->data_len);
    m->lsn = rec->lsn;
    m->hash = rec->hash;
    m->epoch = rec->epoch;
    return rc;
}

static int put_gap(const struct gap *g, struct making *m, struct err *err)
{
    struct record rec;
    int rc = 0;

    for (size_t off = 0; rc == 0 && off < g->len; off += rec.head_len) {
        rc = record_decode(g->p + off, g->len - off, &rec, err);
        if (rc == 0)
            rc = put_one(m, &rec, g->p + off, err);
    }
    return rc;
}

static int put_records(struct recall *r, struct making *m, struct err *err)
{
    struct reading c = { 0 };
    const uint8_t *head;
    struct record rec;
    size_t i = 0;
    bool lost = false;
    int rc = begin_reading(r, &c, err);

    while (rc == 0 && (rc = next_good(r, &c, &rec, &head, &lost, err)) == 1) {
        for (rc = 0; rc == 0 && i < r->n && r->gap[i].from < rec.lsn; i++)
            rc = put_gap(&r->gap[i], m, err);
        if (rc == 0)
            rc = put_one(m, &rec, head, err);
        took(&c, &rec);
    }
    for (; rc == 0 && i < r->n; i++)
        rc = put_gap(&r->gap[i], m, err);
    archive_close(c.a);
    if (rc == 0 && m->at != r->file.end)
        rc = err_set(err, ERR_DAMAGE, "heal: expected records up to @%llu, found them up to @%llu: more is damaged by now", (unsigned long long)r->file.end, (unsigned long long)m->at);
    return rc == 0 ? goes_on(r->s, &r->file, m->lsn, &m->hash, err) : rc;
}

static int file_anew(struct recall *r, struct err *err)
{
    struct history *h = store_history(r->s);
    struct archive_head head = { .gen = history_next_gen(h), .first = r->file.first, .end = r->file.end, .retained_gen = store_retained_gen(r->s) };
    struct making m = { .at = head.first };
    struct store_info info;
    char old[ARCHIVE_NAME_MAX];
    uint8_t epoch_id[16];
    int rc = names_free_gen(store_io(r->s), "archive", archive_parse, &head.gen, err);

    if (rc == 0) {
        store_info(r->s, &info);
        memcpy(head.lineage, info.lineage, 16);
        memcpy(head.site, info.site, 16);
        rc = archive_new(store_io(r->s), &head, &m.w, err);
    }
    if (rc < 0)
        return rc;
    rc = put_records(r, &m, err);
    if (rc < 0) {
        archive_drop(m.w);
        return rc;
    }
    store_epoch_id(r->s, m.epoch, epoch_id);
    rc = archive_finish(m.w, epoch_id, err);
    if (rc == 0)
        rc = history_added(h, head.first, head.end, head.gen, err);
    archive_name(r->file.first, r->file.own_end, r->file.gen, old);
    if (rc == 0 && !r->gone)
        (void)io_unlink(store_io(r->s), old, NULL);      /* else the newer one counts all the same */
    return rc;
}

/* ---- files that are gone ---- */

struct seek { uint64_t at, end; };

static int past_file(void *arg, const struct history_file *f)
{
    struct seek *k = arg;

    if (f->first > k->at) {
        k->end = f->first;
        return 1;
    }
    k->at = f->end > k->at ? f->end : k->at;
    return 0;
}

static int any_base(void *arg, uint64_t gen)
{
    (void)gen;
    *(bool *)arg = true;
    return 1;
}

/* From where on records should be there. */
static int should_begin(struct store *s, uint64_t *from, struct err *err)
{
    uint64_t first = history_first(store_history(s));
    struct retained set;
    bool based = false;
    int rc;

    *from = LOG_FIRST_ADDR;
    if (first <= LOG_FIRST_ADDR)
        return 0;
    rc = base_list(store_io(s), any_base, &based, err);
    if (rc < 0 || !based)
        return rc < 0 ? rc : 0;
    rc = store_retained(s, &set, err);
    if (rc == 0) {
        *from = set.horizon < first ? set.horizon : first;
        retained_release(&set);
    }
    return rc;
}

int recall_gap(struct store *s, uint64_t from, struct wound *w, struct err *err)
{
    uint64_t held = log_first(store_log(s));
    struct seek k = { .end = held };
    int rc = should_begin(s, &k.at, err);

    k.at = k.at > from ? k.at : from;
    if (rc == 0)
        (void)history_files(store_history(s), past_file, &k);
    if (rc < 0 || k.at >= held)
        return rc;
    *w = (struct wound){ .lsn = k.at, .until = k.end < held ? k.end : held };
    return 1;
}

/* Whether these are just the addresses that no file has. */
static bool is_gap(struct store *s, const struct wound *w)
{
    struct wound g;

    return recall_gap(s, w->lsn, &g, NULL) == 1 && g.lsn == w->lsn && g.until == w->until;
}

/* ---- whole? ---- */

int recall_file_check(struct store *s, uint64_t addr, struct history_file *f, struct err *why)
{
    struct archive *a = NULL;
    struct record rec;
    uint64_t first = 0, at = 0, lsn = 0;
    struct hash128 hash = { { 0 } };
    int rc = history_open_file(store_history(s), addr, f, &a, why, why);

    if (rc == 0)
        rc = archive_check(a, why);      /* which proves the chain from its first record to its last one */
    if (rc == 0 && (rc = archive_next(a, &rec, NULL, why)) == 1) {
        first = rec.lsn;
        rc = archive_seek(a, f->end - FRAME_ALIGN, why);
    }
    while (rc == 0 && (rc = archive_next(a, &rec, NULL, why)) == 1 && rec.lsn < f->end) {
        at = rec.lsn + frame_span(rec.head_len + rec.data_len);
        lsn = rec.lsn;
        hash = rec.hash;
        rc = 0;
    }
    rc = rc > 0 ? 0 : rc;
    if (rc == 0 && (first != f->first || at != f->end))
        rc = err_set(why, ERR_DAMAGE, "archive: expected records from @%llu to @%llu in one file, found the first @%llu, and that the last one ends @%llu", (unsigned long long)f->first,
                     (unsigned long long)f->end, (unsigned long long)first, (unsigned long long)at);
    if (rc == 0)
        rc = goes_on(s, f, lsn, &hash, why);
    archive_close(a);
    return rc == 0 && why->code != 0 ? ERR_DAMAGE : rc;
}

/* (None there: it was let go of.) */
static bool file_whole(struct store *s, uint64_t addr)
{
    struct history_file f;
    int rc = recall_file_check(s, addr, &f, &(struct err){ 0 });

    return rc == 0 || rc == ERR_NOENT;
}

static bool log_whole(struct store *s, const struct wound *w)
{
    struct log_iter *it = NULL;
    struct record rec;
    int rc = log_iter_new(store_log(s), w->lsn, w->until, 0, &it, NULL);

    while (rc == 0 && (rc = log_iter_next(it, &rec, NULL)) == 1)
        rc = 0;
    log_iter_free(it);
    return rc == 0 || rc == ERR_NOENT;
}

/* Whether the wound is of a file of the archive, also of one whose records the log has still. */
static bool of_file(struct store *s, const struct wound *w, struct history_file *f)
{
    return history_file_of(store_history(s), w->lsn, f) && f->first == w->lsn && f->end == w->until;
}

bool recall_whole(struct store *s, const struct wound *w)
{
    struct history_file f;

    if (w->lsn < log_first(store_log(s)))
        return file_whole(s, w->lsn) && !is_gap(s, w);
    return log_whole(s, w) && (!of_file(s, w, &f) || file_whole(s, w->lsn));
}

/* ---- the wound ---- */

/* 1: some of it. */
static int hear_log(struct recall *r, uint64_t from, uint64_t until)
{
    struct log_iter *it = NULL;
    struct record rec;
    bool any = false;
    int rc = log_iter_new(store_log(r->s), from, until, 0, &it, NULL);

    while (rc == 0 && (rc = log_iter_next(it, &rec, NULL)) == 1) {
        rc = recall_heard(r, log_iter_raw(it) + FRAME_BYTES, rec.head_len, rec.lsn + frame_span(rec.head_len + rec.data_len), NULL);
        any = any || rc == 0;
    }
    log_iter_free(it);
    return rc < 0 ? rc : any;
}

/* What the log has still nobody is asked for; what it has let go of since, somebody is. */
static int fill_from_log(struct recall *r, struct err *err)
{
    uint64_t from, until;
    int rc = 1;

    while (rc == 1 && recall_next(r, &from, &until) == 1)
        rc = hear_log(r, from, until);
    return rc == ERR_NOMEM ? nomem(err) : 0;
}

int recall_new(struct store *s, const struct wound *w, struct recall **out, struct err *err)
{
    struct recall *r = calloc(1, sizeof *r);
    bool logged;
    int rc = r != NULL ? 0 : nomem(err);

    *out = NULL;
    if (rc < 0)
        return rc;
    r->s = s;
    r->w = *w;
    logged = w->lsn >= log_first(store_log(s));
    r->gone = !logged && is_gap(s, w);
    if (r->gone)
        r->file = (struct history_file){ .first = w->lsn, .end = w->until, .own_end = w->until };
    r->archive = r->gone || (logged ? of_file(s, w, &r->file) && log_whole(s, w) : history_file_of(store_history(s), w->lsn, &r->file));
    if (recall_whole(s, w) || (!logged && !r->archive))
        rc = err_set(err, ERR_NOENT, "heal: nothing is damaged @%llu", (unsigned long long)w->lsn);
    else
        rc = r->archive ? look_at_file(r, err) : add_gap(r, w->lsn, w->until, NULL, err);
    if (rc == 0 && r->archive && logged)
        rc = fill_from_log(r, err);
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
    struct record last;
    uint8_t *p;
    int rc;

    while (g->end >= g->until)
        g++;
    if (len == 0)
        return err_set(err, ERR_NOENT, "heal: the other site does not have the record @%llu either", (unsigned long long)g->end);
    rc = log_heads_check(heads, len, g->end, true, &last, err);
    if (rc < 0)
        return rc;
    if (last.lsn >= g->until || last.lsn + frame_span(last.head_len + last.data_len) != end)
        return err_set(err, ERR_DAMAGE, "heal: expected records from @%llu to below @%llu that end @%llu, found one @%llu that ends @%llu", (unsigned long long)g->end, (unsigned long long)g->until,
                       (unsigned long long)end, (unsigned long long)last.lsn, (unsigned long long)(last.lsn + frame_span(last.head_len + last.data_len)));
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
            wounds_note(r->s, &(struct wound){ rec.lsn, record_dstart(rec.head_len), at, n, 0, false });
        }
    }
}

static int log_apply(struct recall *r, struct err *err)
{
    struct super *sb = malloc(sizeof *sb);
    int rc;

    if (sb == NULL)
        return nomem(err);
    store_super(r->s, sb);
    rc = log_heal_heads(store_log(r->s), sb, r->gap[0].from, r->gap[0].p, r->gap[0].len, err);
    free(sb);
    if (rc == 0)
        look_at_data(r, &r->gap[0]);
    return rc;
}

int recall_apply(struct recall *r, struct err *err)
{
    struct history_file now;
    int rc = 0;

    if (!r->archive)
        return log_apply(r, err);
    if (!store_maint_try(r->s))
        return err_set(err, ERR_BUSY, "heal: packs or archive are being worked on");
    if (r->gone ? !is_gap(r->s, &r->w) : !history_file_of(store_history(r->s), r->file.first, &now) || now.gen != r->file.gen || now.end != r->file.end)
        rc = err_set(err, ERR_NOENT, "heal: the file of the archive that begins @%llu was made anew, or let go of, meanwhile", (unsigned long long)r->file.first);
    for (size_t i = 0; rc == 0 && i < r->n; i++)
        rc = prove(r, &r->gap[i], err);
    if (rc == 0)
        rc = file_anew(r, err);
    store_maint_end(r->s);
    return rc;
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
