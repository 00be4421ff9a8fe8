/*
 * The request "check": verify superblock, retained set, log and rows, and say what was looked at. Never changes
 * anything; goes on behind what it finds, so that one run names all of it.
 */
#include "store/pack/archive.h"
#include "store/core/retain.h"
#include "store/maint/reclaim.h"
#include "store/pack/base.h"
#include "store/pack/history.h"
#include "store/pack/packs.h"
#include "store/svc/svc_internal.h"

#include "store/core/version.h"
#include "store/log/frame.h"
#include "store/log/segment.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROGRESS_RECORDS = 4096 };

int svc_finding(struct svc_check *c, const char *what, const char *fmt, ...)
{
    char msg[1024];
    va_list ap;
    json_t *o = json_object();

    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    c->findings++;
    svc_put_text(o, "kind", "finding");
    svc_put_text(o, "what", what);
    svc_put_text(o, "message", msg);
    c->failed = svc_emit(c->q, "item", o);
    return c->failed;
}

int svc_looked(struct svc_check *c, const char *what, uint64_t count)
{
    json_t *o = json_object();

    svc_put_text(o, "kind", "looked_at");
    svc_put_text(o, "what", what);
    svc_put_u64(o, "count", count);
    c->failed = svc_emit(c->q, "item", o);
    return c->failed;
}

int svc_progress(struct svc_check *c, const char *what, uint64_t done, uint64_t total)
{
    json_t *o = json_object();

    svc_put_text(o, "what", what);
    svc_put_u64(o, "done_bytes", done);
    svc_put_u64(o, "total_bytes", total);
    c->failed = svc_emit(c->q, "progress", o);
    return c->failed;
}

/* A whole small file; *buf is malloced. */
static int read_file(struct io *io, const char *name, size_t max, uint8_t **buf, size_t *len, struct err *err)
{
    struct io_file *f = NULL;
    struct io_stat st;
    int64_t n;
    int r = io_open(io, name, IO_RDONLY, &f, err);

    *buf = NULL;
    if (r)
        return r;
    r = io_fstat(f, &st, err);
    if (r)
        goto out;
    if (st.size > max) {
        r = err_set(err, ERR_DAMAGE, "%s: expected at most %zu bytes, found %llu", name, max, (unsigned long long)st.size);
        goto out;
    }
    *buf = malloc((size_t)st.size + 1);
    if (!*buf) {
        r = err_set(err, ERR_NOMEM, "%s: no memory", name);
        goto out;
    }
    n = io_pread(f, *buf, (size_t)st.size, 0, err);
    if (n < 0)
        r = (int)n;
    else
        *len = (size_t)n;
out:
    io_close(f);
    return r;
}

/* Both copies of the superblock and of the retained set, each by itself: opening is content with one. */
int svc_check_files(struct svc_check *c, struct io *io, struct super *sb, struct err *err)
{
    struct super *one = malloc(sizeof *one);
    struct retained ret;
    uint8_t *buf = NULL, lineage[16];
    size_t len = 0;
    unsigned good = 0, good_ret = 0;
    struct err e;
    int r = 0;

    memset(sb, 0, sizeof *sb);
    if (!one) {
        r = err_set(err, ERR_NOMEM, "check: no memory");
        goto out;
    }
    for (int i = 0; i < 4 && !r; i++) {
        char name[16];
        bool is_super = i < 2;

        snprintf(name, sizeof name, "%s.%d", is_super ? "super" : "retained", i & 1);
        memset(&e, 0, sizeof e);
        r = read_file(io, name, RETAINED_FILE_MAX, &buf, &len, &e);
        if (r == 0 && is_super)
            r = super_decode(buf, len, one, &e);
        else if (r == 0 && (r = retained_decode(buf, len, lineage, &ret, &e)) == 0)
            retained_release(&ret);
        free(buf);
        buf = NULL;
        if (r) {
            r = svc_finding(c, name, "%s: %s", name, e.msg[0] ? e.msg : err_text(r));
            continue;
        }
        if (is_super) {
            good++;
            if (good == 1 || one->gen > sb->gen)
                super_copy(sb, one);
        } else {
            good_ret++;
            c->of_before[i & 1] = good && super_before(sb) && memcmp(lineage, super_before(sb), sizeof lineage) == 0;
            if (good && memcmp(lineage, sb->lineage, sizeof lineage) != 0 && !c->of_before[i & 1])
                r = svc_finding(c, name, "%s: expected the lineage of the superblock, found another one", name);
        }
    }
    if (r == 0)
        r = svc_looked(c, "copies of the superblock", good);
    if (r == 0)
        r = svc_looked(c, "copies of the retained set", good_ret);
    if (r == 0 && good == 0)
        r = err_set(err, ERR_DAMAGE, "super.0, super.1: no copy of the superblock is whole");
out:
    free(one);
    return r;
}

/* Of the lineage before they are the store's until its own has a record. */
static int check_sets(struct svc_check *c, const struct super *sb, struct log *log)
{
    const struct epoch_row *held = &sb->epochs[epoch_held(sb->epochs, sb->n_epochs, log_head(log)) - 1];
    int r = 0;

    for (int i = 0; i < 2 && r == 0; i++)
        if (c->of_before[i] && memcmp(held->lineage, sb->lineage, sizeof held->lineage) == 0)
            r = svc_finding(c, i ? "retained.1" : "retained.0", "retained.%d: expected the lineage of the superblock, found that of the store that this one was copied or forked from", i);
    return r;
}

struct span { uint64_t first, end, file_bytes; char name[40]; };
struct spans { struct span *v; size_t n, cap; };

static int add_span(void *arg, const struct log_segment_info *s)
{
    struct spans *v = arg;

    if (v->n == v->cap) {
        size_t cap = v->cap ? 2 * v->cap : 32;
        struct span *p = realloc(v->v, cap * sizeof *p);

        if (!p)
            return ERR_NOMEM;
        v->v = p;
        v->cap = cap;
    }
    v->v[v->n] = (struct span){ .first = s->first, .end = s->end, .file_bytes = s->file_bytes };
    snprintf(v->v[v->n].name, sizeof v->v[v->n].name, "%s", s->name);
    v->n++;
    return 0;
}

void svc_name_file(const struct svc_req *q, uint64_t ino, uint64_t lsn, char *buf, size_t cap)
{
    char path[PATH_MAX];

    snprintf(buf, cap, "inode %llu", (unsigned long long)ino);
    if (q->s && (store_path(q->s, AT_LIVE, ino, path, sizeof path, NULL) == 0 || store_path(q->s, lsn, ino, path, sizeof path, NULL) == 0))
        snprintf(buf, cap, "inode %llu, %s", (unsigned long long)ino, path);
}

/* The data of one record, which is bad for the files that use it, and for nothing else. */
static int check_data(struct svc_check *c, struct log *log, const struct record *rec)
{
    char file[PATH_MAX + 32];
    struct record full;
    struct err e = { 0 };
    void *buf = NULL;
    int r = log_read_record(log, rec->lsn, true, &full, &buf, &e);

    free(buf);
    if (r >= 0 || (r == ERR_NOENT && rec->lsn < log_first(log)))     /* let go of meanwhile: what has it now is checked later */
        return 0;
    svc_name_file(c->q, rec->ino, rec->lsn, file, sizeof file);
    return svc_finding(c, "data", "%s (LSN %llu: %s, written at offset %llu)", e.msg[0] ? e.msg : err_text(r),
                       (unsigned long long)rec->lsn, file, (unsigned long long)rec->u.write.off);
}

struct looking { struct svc_check *c; uint64_t done, total; };

static int say_looking(void *arg)
{
    struct looking *l = arg;

    l->done = l->total - l->done > LOG_LOOK_BYTES ? l->done + LOG_LOOK_BYTES : l->total;
    return svc_progress(l->c, "log", l->done, l->total);
}

struct segment_counts { uint64_t records, data; };

static int check_segment(struct svc_check *c, struct log *log, const struct span *s, uint64_t until, uint64_t base,
                         uint64_t total, struct segment_counts *n)
{
    struct log_iter *it = NULL;
    struct record rec;
    struct err e = { 0 };
    uint64_t at = s->first, bad;     /* where the next record is expected */
    int r = log_iter_new(log, at, until, 0, &it, &e);

    while (at < until && !c->failed) {
        if (r == 0)
            r = log_iter_next(it, &rec, &e);
        if (r == 0)
            break;
        if (r == 1) {
            at = rec.lsn + frame_span(rec.head_len + rec.data_len);
            r = c->read_data && rec.data_len > 0 ? check_data(c, log, &rec) : 0;
            n->data += c->read_data ? rec.data_len : 0;
            if (r == 0 && ++n->records % PROGRESS_RECORDS == 0)
                r = svc_progress(c, "log", base + (at - s->first), total);
            if (r != 0)
                break;
            continue;
        }
        if (r == ERR_NOENT && at < log_first(log))
            r = 0;                       /* let go of meanwhile */
        if (r != ERR_DAMAGE && r != ERR_IO)
            break;
        log_iter_free(it);
        it = NULL;
        bad = at;
        at = log_next_readable(log, bad + 8, until, say_looking, &(struct looking){ c, base + (bad - s->first), total });
        r = svc_finding(c, "log", "%s: %s (addresses %llu to %llu cannot be read)", s->name, e.msg, (unsigned long long)bad,
                        (unsigned long long)at);
        if (r == 0 && at < until)
            r = log_iter_new(log, at, until, 0, &it, &e);
    }
    log_iter_free(it);
    if (c->failed)
        return c->failed;
    return r < 0 ? svc_finding(c, "log", "%s: %s", s->name, e.msg[0] ? e.msg : err_text(r)) : 0;
}

/* Opening reads the heads of the newest segments only. */
static int check_header(struct svc_check *c, const char *name)
{
    uint8_t buf[SEGMENT_HEADER_BYTES];
    struct segment_header h;
    struct io_file *f = NULL;
    struct err e = { 0 };
    int64_t n = io_open(store_io(c->q->s), name, IO_RDONLY, &f, &e);

    if (n == 0) {
        n = io_pread(f, buf, sizeof buf, 0, &e);
        io_close(f);
    }
    if (n >= 0)
        n = segment_header_decode(buf, (size_t)n, &h, &e);
    return n < 0 ? svc_finding(c, "log", "%s: %s", name, e.msg) : 0;
}

int svc_check_log(struct svc_check *c, struct log *log, uint64_t until, struct err *err)
{
    struct spans v = { 0 };
    struct segment_counts count = { 0 };
    uint64_t total = 0, base = 0;
    int r = log_segments(log, add_span, &v);

    if (r) {
        err_set(err, r, "check: listing the log's segments");
        goto out;
    }
    for (size_t i = 0; i < v.n; i++)
        total += v.v[i].end - v.v[i].first;
    for (size_t i = 0; i < v.n && r == 0; i++) {
        uint64_t end = v.v[i].end < until ? v.v[i].end : until;

        if (i && v.v[i].first != v.v[i - 1].end)
            r = svc_finding(c, "log", "%s: expected to begin at %llu, where the one before it ends, found %llu", v.v[i].name,
                            (unsigned long long)v.v[i - 1].end, (unsigned long long)v.v[i].first);
        if (r == 0 && c->q->s)
            r = check_header(c, v.v[i].name);
        if (r == 0 && end > v.v[i].first)
            r = check_segment(c, log, &v.v[i], end, base, total, &count);
        base += v.v[i].end - v.v[i].first;
    }
    if (r == 0)
        r = svc_looked(c, "log segments", v.n);
    if (r == 0)
        r = svc_looked(c, "log records", count.records);
    if (r == 0 && c->read_data)
        r = svc_looked(c, "bytes of file data", count.data);
out:
    free(v.v);
    return r;
}

/* ---- what left the log ---- */

struct past_files { struct svc_check *c; struct store *s; uint64_t n, bytes, records, end, based; };    /* based: up to where a base has the rows */

static int check_archive_file(void *arg, const struct history_file *f)
{
    struct past_files *p = arg;
    struct archive *a = NULL;
    struct err e = { 0 }, warn = { 0 };
    int r;

    if (p->n > 0 && f->first != p->end && (r = svc_finding(p->c, "archive", "archive: expected a file with the records from @%llu on, found none "
                                                           "before @%llu", (unsigned long long)p->end, (unsigned long long)f->first)) != 0)
        return r;
    p->end = f->end;
    r = archive_open(store_io(p->s), f->first, f->own_end, f->gen, &a, &warn, &e);

    if (r == 0) {
        p->records += archive_head(a)->n_records;
        r = archive_check(a, &e);
    }
    archive_close(a);
    if (r == ERR_NOENT && history_first(store_history(p->s)) > f->first)
        return 0;                        /* let go of meanwhile */
    p->n++;
    if (warn.code != 0 && (r = svc_finding(p->c, "archive", "%s", warn.msg)) != 0)
        return r;
    return r < 0 ? svc_finding(p->c, "archive", "%s", e.msg[0] ? e.msg : err_text(r)) : 0;
}

static int check_base(void *arg, uint64_t gen)
{
    struct past_files *p = arg;
    struct base *b = NULL;
    struct err e = { 0 }, warn = { 0 };
    int r = base_open(store_io(p->s), gen, &b, &warn, &e);

    if (r == 0)
        r = base_check(b, &e);
    if (r == 0 && base_head(b)->applied > p->based)
        p->based = base_head(b)->applied;
    base_close(b);
    if (r == ERR_NOENT)
        return 0;                        /* another has taken its place meanwhile; if none has, that is said below */
    p->n++;
    if (r == 0 && warn.code != 0)
        return svc_finding(p->c, "archive", "%s", warn.msg);
    return r < 0 ? svc_finding(p->c, "archive", "%s; spare reclaim makes one anew", e.msg[0] ? e.msg : err_text(r)) : 0;
}

static void bad_pack(void *arg, const struct err *e)
{
    struct past_files *p = arg;

    (void)svc_finding(p->c, "pack", "%s", e->msg);
}

static int check_pack(void *arg, const struct packs_info *i)
{
    struct past_files *p = arg;
    struct err e = { 0 };
    int64_t r = packs_check(store_packs(p->s), i->gen, bad_pack, p, &e);

    p->n++;
    p->bytes += i->bytes;
    return r < 0 ? svc_finding(p->c, "pack", "%s: %s", i->name, e.msg[0] ? e.msg : err_text((int)r)) : p->c->failed;
}

static int check_past_files(struct svc_check *c, struct err *err)
{
    struct past_files p = { .c = c, .s = c->q->s };
    uint64_t held = log_first(store_log(p.s)), first = history_first(store_history(p.s));
    struct keep keep = { 0 };
    int r = retain_keep(p.s, &keep, err);

    free((void *)(uintptr_t)keep.point);
    if (r == 0)
        r = history_files(store_history(p.s), check_archive_file, &p);

    if (r == 0 && held > LOG_FIRST_ADDR && p.end < held)
        r = svc_finding(c, "archive", "archive: expected records up to @%llu, where the log begins, found them up to @%llu", (unsigned long long)held,
                        (unsigned long long)p.end);
    for (uint64_t at = LOG_FIRST_ADDR, from; r == 0 && (r = packs_gap(store_packs(p.s), at, held, &from, &at, err)) == 1;)
        r = svc_finding(c, "pack", "packs: expected the data of addresses @%llu to @%llu, found no pack that has them: a file is gone; spare scrub heals it with what another site has. Where none has it, spare scrub --close-gaps goes on without",
                        (unsigned long long)from, (unsigned long long)at);
    if (r == 0 && p.n > 0)
        r = svc_looked(c, "archive files", p.n);
    if (r == 0 && p.n > 0)
        r = svc_looked(c, "archive records", p.records);
    p.n = 0;
    if (r == 0)
        r = base_list(store_io(p.s), check_base, &p, err);
    if (r == 0 && first > LOG_FIRST_ADDR && keep.horizon < first)
        r = svc_finding(c, "archive", "archive: expected records from @%llu on, from where every moment is kept, found them from @%llu on",
                        (unsigned long long)keep.horizon, (unsigned long long)first);
    if (r == 0 && p.based < first && first > LOG_FIRST_ADDR)
        r = svc_finding(c, "archive", "archive: expected a base, since there are no records before @%llu, found none that is whole; spare reclaim makes one anew",
                        (unsigned long long)first);
    if (r == 0 && p.n > 0)
        r = svc_looked(c, "bases of the archive", p.n);
    p.n = 0;
    if (r == 0 && c->read_data)
        r = packs_list(store_packs(p.s), check_pack, &p, err);
    if (r == 0 && p.n > 0)
        r = svc_looked(c, "packs", p.n);
    if (r == 0 && p.bytes > 0)
        r = svc_looked(c, "bytes of packs", p.bytes);
    return r;
}

static int asked_to_stop(void *arg)
{
    return ((struct svc_check *)arg)->failed != 0;
}

/* The data that rows of kept moments name: those that left the log are in packs. */
static int check_needed(struct svc_check *c, struct err *err)
{
    const struct reclaim_options opt = { .stop = asked_to_stop, .arg = c };
    struct reclaim_sizes sizes;
    struct keep keep = { 0 };
    struct err e = { 0 };
    int r = retain_keep(c->q->s, &keep, err);

    if (r < 0)
        return r;
    r = reclaim_measure(c->q->s, &keep, &opt, &sizes, &e);
    free((void *)(uintptr_t)keep.point);
    if (r == ERR_DAMAGE)
        return svc_finding(c, "data", "%s", e.msg);
    if (r < 0)
        return err_set(err, r, "%s", e.msg);
    return sizes.stored > 0 ? svc_looked(c, "bytes of packs that moments need", sizes.needed) : 0;
}

static int result(struct svc_check *c, const char *dir, struct err *err)
{
    json_t *o = json_object();
    int r;

    svc_put_text(o, "kind", "result");
    svc_put_u64(o, "findings", c->findings);
    json_object_set_new(o, "data_read", json_boolean(c->read_data));
    r = svc_emit(c->q, "item", o);
    if (r || !c->findings)
        return r;
    return err_set(err, ERR_DAMAGE, "%s: expected a store without damage, found %llu places; nothing was changed. Keep a copy "
                   "of the store; what is whole can be read: spare mount -o ro", dir ? dir : "store",
                   (unsigned long long)c->findings);
}

int svc_op_check(struct svc_req *q, struct err *err)
{
    struct svc_check c = { .q = q };
    struct super *sb = malloc(sizeof *sb);
    const struct log_recovery *rec = q->env->recovery;
    int r = svc_arg_bool(q, "read_data", &c.read_data, err);

    if (!sb)
        r = err_set(err, ERR_NOMEM, "check: no memory");
    if (r == 0)
        r = q->env->recovery && q->env->recovery->damaged ? 0 : svc_settle(q, err);
    if (r == 0)
        r = svc_check_files(&c, store_io(q->s), sb, err);
    if (r == 0)
        r = check_sets(&c, sb, store_log(q->s));
    if (r == 0 && rec && rec->damaged)
        r = svc_finding(&c, "log", "%s", rec->damage.msg);
    if (r == 0)
        r = svc_check_log(&c, store_log(q->s), log_written(store_log(q->s)), err);
    if (r == 0)
        r = check_past_files(&c, err);
    if (r == 0)
        r = svc_check_rows(&c, err);
    if (r == 0 && c.read_data && c.findings == 0)
        r = check_needed(&c, err);
    if (r == 0)
        r = result(&c, store_dir(q->s), err);
    free(sb);
    return r;
}

int svc_check_closed(struct io *io, const char *dir, bool read_data, svc_emit_fn *emit, void *arg, struct err *err)
{
    struct svc_req q = { .emit = emit, .arg = arg };
    struct svc_check c = { .q = &q, .read_data = read_data };
    struct super *sb = malloc(sizeof *sb);
    struct log_recovery *rec = calloc(1, sizeof *rec);
    struct log *log = NULL;
    struct log_options lo = { 0 };
    struct err e = { 0 };
    int r = sb && rec ? 0 : err_set(err, ERR_NOMEM, "check: no memory");

    if (r == 0)
        r = svc_check_files(&c, io, sb, err);
    if (r)
        goto out;
    r = log_open(io, sb, &lo, false, 0, &log, rec, &e);
    if (r) {
        r = svc_finding(&c, "log", "%s", e.msg[0] ? e.msg : err_text(r));
    } else {
        r = check_sets(&c, sb, log);
        if (r == 0 && rec->damaged)
            r = svc_finding(&c, "log", "%s", rec->damage.msg);
        if (r == 0)
            r = svc_check_log(&c, log, log_written(log), err);
        log_close(log);
    }
    if (r == 0)
        r = result(&c, dir, err);
out:
    free(sb);
    free(rec);
    return q.stopped ? q.stopped : r;
}
