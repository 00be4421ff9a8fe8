/* svc_reclaim.c: the request "reclaim": gives space back now, without waiting for quiet: packs what the log has, then lets go of what no moment needs. */
#include "store/svc/svc_internal.h"

#include "store/maint/packer.h"
#include "store/maint/reclaim.h"
#include "store/maint/upkeep.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TELL_ROWS = 65536, NICE = 15 };

struct work { struct svc_req *q; uint64_t data, packs, archives, chunks, known, deltas, records, told; };

static int asked_to_stop(void *arg)
{
    return ((struct work *)arg)->q->stopped;
}

static int each_step(void *arg, const struct packer_result *r)
{
    struct work *c = arg;
    json_t *o = json_object();

    c->data += r->data_bytes;
    c->packs += r->pack_bytes;
    c->archives += r->archive_bytes;
    c->chunks += r->chunks;
    c->known += r->known;
    c->deltas += r->deltas;
    c->records += r->records;
    svc_put_text(o, "what", "packing");
    svc_put_u64(o, "done_lsn", r->end);
    return svc_emit(c->q, "progress", o);
}

/* Asked to tell at each step; said now and then. */
static void tell(void *arg, const char *what, uint64_t done, uint64_t total)
{
    struct work *c = arg;
    json_t *o;

    if (total == 0 && done - c->told < TELL_ROWS)
        return;
    c->told = done;
    o = json_object();
    svc_put_text(o, "what", what);
    svc_put_u64(o, "done", done);
    svc_put_u64(o, "total", total);
    (void)svc_emit(c->q, "progress", o);
}

int svc_op_reclaim(struct svc_req *q, struct err *err)
{
    struct work c = { .q = q };
    struct reclaim_options opt = { .stop = asked_to_stop, .tell = tell, .arg = &c, .sweep = true };
    struct reclaim_result res;
    json_t *o;
    int r = svc_arg_bool(q, "now", &opt.now, err);

    if (q->env->mount_dir)               /* the thread is this client's alone, and a mount has others to serve */
        (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);

    if (r == 0)
        r = upkeep_pack(q->s, NULL, asked_to_stop, &c, each_step, err);
    if (r == 0)
        r = reclaim(q->s, &opt, &res, err);
    if (r)
        return r;
    o = json_object();
    svc_put_u64(o, "records", c.records);
    svc_put_u64(o, "data_bytes", c.data);
    svc_put_u64(o, "pack_bytes", c.packs);
    svc_put_u64(o, "archive_bytes", c.archives);
    svc_put_u64(o, "chunks", c.chunks);
    svc_put_u64(o, "chunks_known", c.known);
    svc_put_u64(o, "chunks_delta", c.deltas);
    svc_put_u64(o, "rows", res.rows);
    svc_put_u64(o, "rows_gone", res.rows_gone);
    svc_put_u64(o, "packs_made", res.packs);
    svc_put_u64(o, "packs_gone", res.packs_gone);
    svc_put_u64(o, "packs_bytes_before", res.bytes_before);
    svc_put_u64(o, "packs_bytes_after", res.bytes_after);
    svc_put_u64(o, "base_bytes", res.base_bytes);
    svc_put_u64(o, "archive_bytes_gone", res.archive_gone);
    return svc_emit(q, "item", o);
}
