/* svc_diff.c: the requests "diff" and "find": what changed between two moments, where names were that are gone. */
#include "store/svc/svc_internal.h"

#include "store/core/diff.h"
#include "store/core/moment.h"

struct diffing { struct svc_req *q; uint64_t to; struct diff_total total; uint64_t n; };

static int emit_change(void *arg, const struct diff_entry *e)
{
    static const char *const kinds[] = { "added", "removed", "renamed", "content", "attributes" };
    struct diffing *d = arg;
    struct row_ino row;
    json_t *o = json_object();

    svc_put_text(o, "change", kinds[e->kind]);
    svc_put_text(o, "path", e->path);
    if (e->old_path)
        svc_put_text(o, "old_path", e->old_path);
    svc_put_text(o, "type", svc_type_word(e->mode));
    svc_put_u64(o, "size_before_bytes", e->size_before);
    svc_put_u64(o, "size_after_bytes", e->size_after);
    if (d->total.known)
        svc_put_u64(o, "operations", e->operations);
    d->n++;
    if (e->kind != DIFF_REMOVED && store_getattr(d->q->s, d->to, e->ino, &row, NULL) == 0)
        svc_put_time(o, "changed", row.ctime.sec * 1000000000 + row.ctime.nsec);
    return svc_emit(d->q, "item", o);
}

/* Behind them: what they come to. */
static int emit_total(struct diffing *d)
{
    json_t *o = json_object();

    svc_put_u64(o, "changes", d->n);
    if (d->total.known)
        svc_put_u64(o, "operations", d->total.operations);
    if (d->total.known && d->total.operations > 0) {
        svc_put_u64(o, "first_lsn", d->total.first_lsn);
        svc_put_time(o, "first", d->total.first_ns);
        svc_put_u64(o, "last_lsn", d->total.last_lsn);
        svc_put_time(o, "last", d->total.last_ns);
    }
    return svc_emit(d->q, "total", o);
}

int svc_op_diff(struct svc_req *q, struct err *err)
{
    struct diffing d = { .q = q };
    struct store_info info;
    uint64_t from, to, day = 0;
    int r = svc_settle(q, err);

    store_info(q->s, &info);
    if (r == 0 && moment_resolve(q->s, "1d", &day, NULL) < 0)
        day = info.first;                /* younger than a day: all of it */
    if (r == 0)
        r = svc_arg_at(q, "from", day, &from, err);
    if (r == 0)
        r = svc_arg_at(q, "to", AT_LIVE, &to, err);
    if (r == 0 && from > to)
        r = err_set(err, ERR_USAGE, "diff: expected --from before --to, found it behind");
    d.to = to;
    if (r == 0)
        r = diff_moments(q->s, from, to, emit_change, &d, &d.total, err);
    return r < 0 || q->stopped ? r : emit_total(&d);
}

static int emit_name(void *arg, const struct find_entry *e)
{
    struct svc_req *q = arg;
    json_t *o = json_object();

    svc_put_text(o, "path", e->path);
    svc_put_text(o, "type", svc_type_word(e->type << 12));
    json_object_set_new(o, "deleted", json_boolean(e->gone));
    if (e->gone) {
        svc_put_u64(o, "gone_lsn", e->gone_lsn);
        if (e->gone_ns != 0)
            svc_put_time(o, "gone", e->gone_ns);
        svc_put_u64(o, "at_lsn", e->at);
        if (e->moved_to)
            svc_put_text(o, "moved_to", e->moved_to);
    }
    return svc_emit(q, "item", o);
}

int svc_op_find(struct svc_req *q, struct err *err)
{
    const char *pattern;
    bool deleted = false;
    int r = svc_arg_text(q, "pattern", &pattern, err);

    if (r == 0)
        r = svc_arg_bool(q, "deleted", &deleted, err);
    if (r == 0 && (!pattern || !*pattern))
        r = err_set(err, ERR_USAGE, "find: expected a pattern");
    if (r == 0)
        r = svc_settle(q, err);
    return r < 0 ? r : find_names(q->s, pattern, deleted, emit_name, q, err);
}
