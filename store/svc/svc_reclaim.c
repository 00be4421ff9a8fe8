/* svc_reclaim.c: the request "reclaim": gives space back now, without waiting for quiet: packs what the log has. */
#include "store/svc/svc_internal.h"

#include "store/maint/packer.h"
#include "store/maint/upkeep.h"

struct reclaim { struct svc_req *q; uint64_t data, packs, archives, chunks, known, deltas, records; };

static int asked_to_stop(void *arg)
{
    return ((struct reclaim *)arg)->q->stopped;
}

static int each_step(void *arg, const struct packer_result *r)
{
    struct reclaim *c = arg;
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

int svc_op_reclaim(struct svc_req *q, struct err *err)
{
    struct reclaim c = { .q = q };
    json_t *o;
    int r = upkeep_pack(q->s, asked_to_stop, &c, each_step, err);

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
    return svc_emit(q, "item", o);
}
