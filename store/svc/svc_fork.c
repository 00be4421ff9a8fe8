/* svc_fork.c: the request "fork": a writable copy of what the store is now, without its name yet (store/core/fork.h). */
#include "store/svc/svc_internal.h"

#include "store/core/fork.h"
#include "store/core/moment.h"

/* restore_lsn: whoever asked restores the fork to that moment: what was asked for, or the one before a series that was under way; 0: it is what it shall be. */
int svc_op_fork(struct svc_req *q, struct err *err)
{
    const char *name;
    struct fork f;
    uint64_t at = 0;
    int64_t wall = 0;
    json_t *o;
    int r = svc_arg_text(q, "name", &name, err);

    if (r == 0 && !name)
        r = err_set(err, ERR_USAGE, "fork: expected a name");
    if (r == 0 && q->env->recovery && q->env->recovery->damaged)     /* a branch: it would be one that ends there */
        r = err_set(err, ERR_DAMAGE, "%s", q->env->recovery->damage.msg);
    if (r == 0)
        r = svc_arg_at(q, "at", 0, &at, err);
    if (r == 0)
        r = store_fork(q->s, name, &f, err);
    if (r == 0)
        r = moment_wall(q->s, at ? at : f.moment, &wall, err);
    if (r)
        return r;
    if (at == 0 && f.moment < f.lsn)
        at = f.moment;
    o = json_object();
    svc_put_text(o, "name", name);
    svc_put_hex(o, "site", f.site, sizeof f.site);
    svc_put_u64(o, "forked_lsn", f.lsn);
    svc_put_u64(o, "lsn", at ? at : f.lsn);
    svc_put_time(o, "time", wall);
    svc_put_u64(o, "restore_lsn", at < f.lsn ? at : 0);
    svc_put_u64(o, "shared_files", f.links);
    json_object_set_new(o, "paused_seconds", json_real((double)f.paused_ns / 1e9));
    return svc_emit(q, "item", o);
}
