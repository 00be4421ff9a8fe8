/* svc_space.c: the request "space": what uses the store's space, of one path, and what would give some back. */
#include "store/svc/svc_internal.h"

#include "store/core/moment.h"
#include "store/core/version.h"
#include "store/maint/space.h"

#include <stdlib.h>

enum { TELL_ROWS = 65536 };
struct asking { struct svc_req *q; uint64_t told; };

static int asked_to_stop(void *arg)
{
    return ((struct asking *)arg)->q->stopped;
}

static void tell(void *arg, const char *what, uint64_t done, uint64_t total)
{
    struct asking *a = arg;
    json_t *o;

    if (done >= a->told && done - a->told < TELL_ROWS)
        return;
    a->told = done;
    o = json_object();
    svc_put_text(o, "what", what);
    svc_put_u64(o, "done", done);
    svc_put_u64(o, "total", total);
    (void)svc_emit(a->q, "progress", o);
}

static int sizes(struct svc_req *q, const struct reclaim_options *opt, struct err *err)
{
    struct space_sizes z;
    int r = space_sizes(q->s, opt, &z, err);
    json_t *o;

    if (r < 0)
        return r;
    o = json_object();
    svc_put_text(o, "kind", "store");
    svc_put_u64(o, "packs_present_bytes", z.present);
    svc_put_u64(o, "packs_past_bytes", z.past);
    svc_put_u64(o, "packs_leaving_bytes", z.leaving);
    svc_put_u64(o, "packs_tables_bytes", z.tables);
    svc_put_u64(o, "log_bytes", z.log);
    svc_put_u64(o, "archive_bytes", z.archive);
    svc_put_u64(o, "index_bytes", z.index);
    svc_put_u64(o, "reserve_bytes", z.reserve);
    svc_put_u64(o, "other_bytes", z.other);
    svc_put_u64(o, "total_bytes", z.total);
    svc_put_u64(o, "linked_bytes", z.linked);
    svc_put_u64(o, "forks_bytes", z.forks);
    return svc_emit(q, "item", o);
}

static int below(struct svc_req *q, const char *path, const struct reclaim_options *opt, struct err *err)
{
    struct space_below z;
    struct row_ino row;
    uint64_t ino = 0;
    int r = store_walk(q->s, AT_LIVE, path, &ino, &row, err);
    json_t *o;

    if (r == 0)
        r = space_below(q->s, ino, opt, &z, err);
    if (r < 0)
        return r;
    o = json_object();
    svc_put_text(o, "kind", "path");
    svc_put_text(o, "path", path);
    svc_put_u64(o, "objects", z.inodes);
    svc_put_u64(o, "alone_bytes", z.alone);
    svc_put_u64(o, "shared_bytes", z.shared);
    return svc_emit(q, "item", o);
}

static int frees(struct svc_req *q, uint64_t bytes, const struct reclaim_options *opt, struct err *err)
{
    struct space_free z;
    int64_t wall;
    int r = space_free(q->s, bytes, opt, &z, err);
    json_t *o;

    if (r < 0)
        return r;
    o = json_object();
    svc_put_text(o, "kind", "free");
    svc_put_u64(o, "asked_bytes", bytes);
    json_object_set_new(o, "enough", json_boolean(z.enough));
    svc_put_u64(o, "before_lsn", z.lsn);
    if (z.lsn > 0 && moment_wall(q->s, z.lsn, &wall, NULL) == 0)
        svc_put_time(o, "before", wall);
    svc_put_u64(o, "frees_bytes", z.bytes);
    json_object_set_new(o, "keep_all_seconds", json_real(z.now_age_ns > z.age_ns ? (double)(z.now_age_ns - z.age_ns) / 1e9 : 0));
    return svc_emit(q, "item", o);
}

int svc_op_space(struct svc_req *q, struct err *err)
{
    struct asking a = { .q = q };
    const struct reclaim_options opt = { .stop = asked_to_stop, .tell = tell, .arg = &a };
    char *path = NULL;
    uint64_t bytes;
    int r = svc_settle(q, err);

    if (r == 0)
        r = svc_arg_path(q, "path", &path, err);
    if (r == 0)
        r = svc_arg_u64(q, "free", 0, &bytes, err);
    if (r == 0 && path != NULL && *path != '\0')
        r = below(q, path, &opt, err);
    else if (r == 0)
        r = sizes(q, &opt, err);
    if (r == 0 && bytes > 0)
        r = frees(q, bytes, &opt, err);
    free(path);
    return r;
}
