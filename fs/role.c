#include "fs/role.h"

#include "fs/chores.h"
#include "store/core/role.h"
#include "store/index/rows.h"

#include <stdlib.h>
#include <string.h>

bool role_changed(struct fs *fs)
{
    uint32_t taken = atomic_load(&fs->role);

    return taken != 0 && taken != store_role(fs->store);
}

/* What an earlier worker answered was found and is durable since: a later one must find what this one answers. */
static void answers_are_mine(struct fs *fs)
{
    struct mem_head *h = mem_head(fs->mem);
    struct store_info info;

    store_info(fs->store, &info);
    atomic_store(&h->acked_lsn, 0);
    h->acked_writer = info.incarnation;
}

/* The first worker that may change something says whose mount this is; a later one goes on where the kernel is. */
static int note_mount(struct fs *fs, struct err *err)
{
    struct mem_head *h = mem_head(fs->mem);
    uint64_t lsn = log_head(store_log(fs->store));
    int rc;

    answers_are_mine(fs);
    if (h->mount_lsn != 0)
        return 0;
    rc = store_mounted(fs->store, h->mount_id, true, fs->o->dir, err);
    if (rc == 0)
        h->mount_lsn = lsn;
    return rc;
}

int role_begin(struct fs *fs, struct err *err)
{
    struct mem_head *h = mem_head(fs->mem);
    uint32_t role = store_role(fs->store);
    int rc = fs_changes(fs) ? note_mount(fs, err) : 0;

    if (rc < 0)
        return rc;
    if (role != ROLE_PRIMARY && !fs->o->read_only)
        atomic_store(&h->acked_lsn, 0);          /* all of it was found, and what comes is another's */
    if (h->fitted == 0)
        h->fitted = role;                        /* mounted for it */
    atomic_store(&fs->role, role);
    return 0;
}

/* Files without a name that came with the log: the kernel may know some of them; the others go. */
static void look_for_orphans(struct fs *fs)
{
    struct kv *kv = store_kv(fs->store);
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX];
    size_t llen = key_orphan(lo, 0), hlen = key_orphan(hi, INO_MAX + 1);
    struct kv_iter *it = kv->ops->iter_new(kv, NULL, lo, llen, hi, hlen);
    struct key_parts parts;

    if (!it)
        return;              /* they go when the store is opened next */
    for (kv->ops->iter_seek(it, lo, llen); kv->ops->iter_valid(it); kv->ops->iter_next(it)) {
        size_t klen;
        const uint8_t *k = kv->ops->iter_key(it, &klen);

        if (key_parse(k, klen, &parts))
            op_gone(fs, parts.ino);
    }
    kv->ops->iter_free(it);
}

static void become_primary(struct fs *fs)
{
    struct err err = { 0 };

    if (note_mount(fs, &err) < 0)
        fs_log("%s: %s", fs->o->store, err.msg);
    look_for_orphans(fs);
    fs_log("%s: is the primary now; changes are accepted", fs->o->store);
}

/* The kernel may hold pages that it was going to write: they are no part of this store any more, and what comes instead is another's. */
static void become_follower(struct fs *fs, uint32_t role)
{
    chores_inval_all(fs->chores);
    if (role == ROLE_FENCED)
        fs_log("%s: fenced: another site is the primary since epoch %u; changes are answered with \"read-only file system\" from here on", fs->o->store, store_fenced_since(fs->store));
    else
        fs_log("%s: is a %s now; changes are answered with \"read-only file system\" from here on", fs->o->store, role_name(role));
}

/* Where the role is the one that the mount was last made for, its flags are a person's: a mount may be remounted read-only. */
static bool kernel_fits(struct fs *fs, uint32_t role, struct err *why)
{
    struct mem_head *h = mem_head(fs->mem);
    bool writable = role == ROLE_PRIMARY;
    struct fs_mounted *m;
    int rc;

    if (fs->o->read_only || (h->fitted == ROLE_PRIMARY) == writable)
        return true;
    m = malloc(sizeof *m);
    rc = m ? fs_mounted_at(fs->o->dir, m) : ERR_NOMEM;
    if (rc == 0 && (m->past || strcmp(m->source, fs->o->fsname) != 0))
        rc = ERR_NOENT;
    if (rc < 0)
        err_set(why, rc, "%s: expected this mount there, found none", fs->o->dir);
    else if (m->read_only == writable)
        rc = mount_turn(fs->o, m, writable, why);
    free(m);
    if (rc == 0)
        h->fitted = role;
    return rc == 0;
}

bool role_fit(struct fs *fs, struct err *why)
{
    struct err own = { 0 }, *e = why ? why : &own;
    uint32_t was, now;
    bool fits;

    pthread_mutex_lock(&fs->role_lock);
    was = atomic_load(&fs->role);
    now = store_role_settled(fs->store);
    if (was != now && now == ROLE_PRIMARY)
        become_primary(fs);
    else if (was != now && was == ROLE_PRIMARY)
        become_follower(fs, now);
    atomic_store(&fs->role, now);
    fits = kernel_fits(fs, now, e);
    if (!fits && was != now)
        fs_log("%s; the kernel goes on %s", e->msg, now == ROLE_PRIMARY ? "to refuse changes" : "to let changes through, and they are refused here");
    pthread_mutex_unlock(&fs->role_lock);
    return fits;
}
