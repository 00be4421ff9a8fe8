/* world.c: a store on a simulated disk and on the index twin. */
#include "tests/sim/rig.h"

#include <string.h>

int world_open(struct rig *r, struct world *w, struct log_recovery *rec, struct err *err)
{
    struct store_options opt = r->opt;
    struct kv *kv = NULL;
    memset(rec, 0, sizeof *rec);
    int rc = kv_twin_open(w->disk, &kv, err);
    if (rc < 0)
        return rc;
    w->twin = kv;
    opt.kv = hook_kv(&w->hook, kv);
    rc = store_open(&w->hook.io, NULL, &opt, &w->s, rec, err);
    if (rc < 0) {
        w->s = NULL;
        w->twin = NULL;
    }
    return rc;
}

void world_drop(struct world *w)
{
    if (w->s != NULL)
        store_drop(w->s);
    w->s = NULL;
    w->twin = NULL;
}

void world_lose_index(struct rig *r, struct world *w)
{
    kv_twin_disk_free(w->disk);
    w->disk = kv_twin_disk_new();
    r->st->rebuilt++;
}

void world_free(struct world *w)
{
    world_drop(w);
    hook_release(&w->hook);
    if (w->disk != NULL)
        kv_twin_disk_free(w->disk);
    if (w->sim != NULL)
        simio_free(w->sim);
    memset(w, 0, sizeof *w);
}
