/* powerfs_dir: directories, their pending operations, and what a cut leaves. */
#include "tests/crash/powerfs_image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1u << 0)
#define RENAME_EXCHANGE (1u << 1)
#endif

static uint32_t hash_name(const char *name)
{
    uint32_t h = 2166136261u;
    for (; *name != '\0'; name++)
        h = (h ^ (uint8_t)*name) * 16777619u;
    return h;
}

static char *copy_name(const char *name)
{
    char *s = strdup(name);
    if (s == NULL)
        abort();
    return s;
}

static struct pf_dirent *find_hashed(const struct pf_dir *dir, const char *name, uint32_t hash)
{
    for (size_t i = 0; i < dir->n; i++)
        if (dir->ent[i].hash == hash && strcmp(dir->ent[i].name, name) == 0)
            return &dir->ent[i];
    return NULL;
}

struct pf_dirent *pf_dir_find(const struct pf_dir *dir, const char *name)
{
    return find_hashed(dir, name, hash_name(name));
}

/* Set or (ino 0) remove an entry; returns the inode number it had, or 0. */
static uint64_t entry_set(struct pf_dir *dir, const char *name, uint32_t hash, uint64_t ino)
{
    struct pf_dirent *e = find_hashed(dir, name, hash);
    uint64_t old = e != NULL ? e->ino : 0;
    if (e != NULL && ino != 0) {
        e->ino = ino;
    } else if (e != NULL) {
        free(e->name);
        size_t at = (size_t)(e - dir->ent);
        memmove(e, e + 1, (dir->n - at - 1) * sizeof(*e));
        dir->n--;
    } else if (ino != 0) {
        dir->ent = pf_grow(dir->ent, &dir->cap, dir->n + 1, sizeof(*e));
        dir->ent[dir->n++] = (struct pf_dirent){ .ino = ino, .cookie = ++dir->next_cookie,
                                                 .name = copy_name(name), .hash = hash };
    }
    return old;
}

void pf_dir_copy(struct pf_dir *to, const struct pf_dir *from)
{
    *to = (struct pf_dir){ .n = from->n, .cap = from->n, .next_cookie = from->next_cookie };
    if (from->n == 0)
        return;
    to->ent = pf_alloc(from->n * sizeof(*to->ent));
    for (size_t i = 0; i < from->n; i++) {
        to->ent[i] = from->ent[i];
        to->ent[i].name = copy_name(from->ent[i].name);
    }
}

void pf_dir_release(struct pf_dir *dir)
{
    for (size_t i = 0; i < dir->n; i++)
        free(dir->ent[i].name);
    free(dir->ent);
    *dir = (struct pf_dir){ 0 };
}

/* --- pending operations ---------------------------------------------------- */

static void hold(struct pf_image *img, uint64_t ino, int delta)
{
    struct pf_inode *in = pf_inode_get(img, ino);
    if (in == NULL)
        return;
    if (delta > 0) {
        in->pendrefs++;
    } else {
        in->pendrefs--;
        pf_inode_maybe_free(img, in);
    }
}

static void op_unref(struct pf_dir_op *op)
{
    if (--op->refs > 0)
        return;
    for (unsigned i = 0; i < op->n; i++)
        free(op->set[i].name);
    free(op);
}

static void op_set(struct pf_dir_op *op, uint64_t dir, const char *name, uint64_t ino)
{
    op->set[op->n].dir = dir;
    op->set[op->n].ino = ino;
    op->set[op->n].name = copy_name(name);
    op->set[op->n].hash = hash_name(name);
    op->n++;
}

static struct pf_dir_op *op_new(struct pf_image *img, enum pf_dir_kind kind)
{
    struct pf_dir_op *op = pf_alloc(sizeof(*op));
    op->seq = img->next_seq++;
    op->refs = 1;
    op->kind = kind;
    return op;
}

/* Make the operation visible and queue it. */
static void op_issue(struct pf_image *img, struct pf_dir_op *op)
{
    uint64_t old[2] = { 0, 0 };
    for (unsigned i = 0; i < op->n; i++) {
        struct pf_inode *dir = pf_inode_get(img, op->set[i].dir);
        hold(img, op->set[i].dir, 1);
        if (op->set[i].ino != 0) {
            hold(img, op->set[i].ino, 1);
            pf_inode_get(img, op->set[i].ino)->vlinks++;
        }
        old[i] = entry_set(&dir->vdir, op->set[i].name, op->set[i].hash, op->set[i].ino);
        pf_attr_touch(img, dir, true);
    }
    img->dop = pf_grow(img->dop, &img->dops_cap, img->ndops + 1, sizeof(*img->dop));
    img->dop[img->ndops++] = op;
    for (unsigned i = 0; i < op->n; i++) {
        struct pf_inode *in = old[i] != 0 ? pf_inode_get(img, old[i]) : NULL;
        if (in == NULL)
            continue;
        in->vlinks--;
        pf_attr_touch(img, in, false);
        pf_inode_maybe_free(img, in);
    }
}

int pf_dir_link(struct pf_image *img, struct pf_inode *dir, const char *name,
                struct pf_inode *in)
{
    if (pf_dir_find(&dir->vdir, name) != NULL)
        return -EEXIST;
    if (img->full_pages != 0 && img->used_pages >= img->full_pages)
        return -ENOSPC;
    struct pf_dir_op *op = op_new(img, PF_DIR_LINK);
    op_set(op, dir->ino, name, in->ino);
    op_issue(img, op);
    return 0;
}

int pf_dir_unlink(struct pf_image *img, struct pf_inode *dir, const char *name, bool rmdir)
{
    const struct pf_dirent *e = pf_dir_find(&dir->vdir, name);
    if (e == NULL)
        return -ENOENT;
    const struct pf_inode *in = pf_inode_get(img, e->ino);
    if (rmdir != S_ISDIR(in->attr.mode))
        return rmdir ? -ENOTDIR : -EISDIR;
    if (rmdir && in->vdir.n > 0)
        return -ENOTEMPTY;
    struct pf_dir_op *op = op_new(img, rmdir ? PF_DIR_RMDIR : PF_DIR_UNLINK);
    op->victim_dir = rmdir ? in->ino : 0;
    op_set(op, dir->ino, name, 0);
    op_issue(img, op);
    return 0;
}

int pf_dir_rename(struct pf_image *img, struct pf_inode *from, const char *name,
                  struct pf_inode *to, const char *to_name, unsigned flags)
{
    const struct pf_dirent *src = pf_dir_find(&from->vdir, name);
    const struct pf_dirent *dst = pf_dir_find(&to->vdir, to_name);
    uint64_t other = dst != NULL ? dst->ino : 0;
    if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    if (src == NULL || ((flags & RENAME_EXCHANGE) && dst == NULL))
        return -ENOENT;
    if ((flags & RENAME_NOREPLACE) && dst != NULL)
        return -EEXIST;
    if (src->ino == other)
        return 0;
    struct pf_inode *in = pf_inode_get(img, src->ino);
    const struct pf_inode *victim = other != 0 ? pf_inode_get(img, other) : NULL;
    bool is_dir = S_ISDIR(in->attr.mode);
    bool victim_is_dir = victim != NULL && S_ISDIR(victim->attr.mode);
    if (victim != NULL && !(flags & RENAME_EXCHANGE)) {
        if (is_dir != victim_is_dir)
            return is_dir ? -ENOTDIR : -EISDIR;
        if (victim_is_dir && victim->vdir.n > 0)
            return -ENOTEMPTY;
    }
    struct pf_dir_op *op = op_new(img, PF_DIR_RENAME);
    op->moves_dir = is_dir || ((flags & RENAME_EXCHANGE) && victim_is_dir);
    op->victim_dir = victim_is_dir && !(flags & RENAME_EXCHANGE) ? other : 0;
    /* src points into the table that op_issue changes */
    uint64_t ino = src->ino;
    op_set(op, from->ino, name, flags & RENAME_EXCHANGE ? other : 0);
    op_set(op, to->ino, to_name, ino);
    pf_attr_touch(img, in, false);
    op_issue(img, op);
    return 0;
}

/* --- what must survive with what ------------------------------------------- */

static bool touches_dir(const struct pf_dir_op *op, uint64_t dir)
{
    return op->set[0].dir == dir || (op->n > 1 && op->set[1].dir == dir);
}

static bool links(const struct pf_dir_op *op, uint64_t ino)
{
    return op->set[0].ino == ino || (op->n > 1 && op->set[1].ino == ino);
}

/*
 * Whether op cannot be durable without the earlier one.  strong: op is a
 * rename or was needed by one, so the directory it puts a name into must be
 * reachable, or the renamed file would be lost from both places.
 */
static bool depends(const struct pf_dir_op *op, const struct pf_dir_op *earlier, bool strong)
{
    for (unsigned i = 0; i < op->n; i++) {
        for (unsigned j = 0; j < earlier->n; j++)
            if (op->set[i].dir == earlier->set[j].dir &&
                op->set[i].hash == earlier->set[j].hash &&
                strcmp(op->set[i].name, earlier->set[j].name) == 0)
                return true;
        if (strong && op->set[i].ino != 0 && links(earlier, op->set[i].dir))
            return true;
    }
    if (op->victim_dir != 0 && touches_dir(earlier, op->victim_dir))
        return true;
    return op->moves_dir && earlier->moves_dir;
}

/* Extend the chosen set by everything it depends on. */
static void close_over(const struct pf_image *img, bool *chosen)
{
    bool *strong = pf_alloc(img->ndops + 1);
    for (size_t i = img->ndops; i-- > 0;) {
        if (!chosen[i])
            continue;
        strong[i] = strong[i] || img->dop[i]->kind == PF_DIR_RENAME;
        for (size_t j = 0; j < i; j++) {
            if (depends(img->dop[i], img->dop[j], strong[i])) {
                chosen[j] = true;
                strong[j] = strong[j] || strong[i];
            }
        }
    }
    free(strong);
}

static void op_commit(struct pf_image *img, const struct pf_dir_op *op)
{
    for (unsigned i = 0; i < op->n; i++) {
        struct pf_inode *dir = pf_inode_get(img, op->set[i].dir);
        if (op->set[i].ino != 0)
            pf_inode_get(img, op->set[i].ino)->dlinks++;
        uint64_t old = entry_set(&dir->ddir, op->set[i].name, op->set[i].hash, op->set[i].ino);
        struct pf_inode *in = old != 0 ? pf_inode_get(img, old) : NULL;
        if (in != NULL) {
            in->dlinks--;
            pf_inode_maybe_free(img, in);
        }
    }
}

/* The operation no longer waits; inodes only it kept go. */
static void op_retire(struct pf_image *img, struct pf_dir_op *op)
{
    for (unsigned i = 0; i < op->n; i++) {
        if (op->set[i].ino != 0)
            hold(img, op->set[i].ino, -1);
        hold(img, op->set[i].dir, -1);
    }
    op_unref(op);
}

static void commit_chosen(struct pf_image *img, const bool *chosen)
{
    size_t n = img->ndops, kept = 0, out = 0;
    struct pf_dir_op **done = pf_alloc((n + 1) * sizeof(*done));
    for (size_t i = 0; i < n; i++) {
        if (chosen[i]) {
            op_commit(img, img->dop[i]);
            done[out++] = img->dop[i];
        } else {
            img->dop[kept++] = img->dop[i];
        }
    }
    img->ndops = kept;
    for (size_t i = 0; i < out; i++)
        op_retire(img, done[i]);
    free(done);
}

void pf_dir_sync(struct pf_image *img, const struct pf_inode *dir)
{
    bool *chosen = pf_alloc(img->ndops + 1);
    for (size_t i = 0; i < img->ndops; i++)
        chosen[i] = touches_dir(img->dop[i], dir->ino);
    close_over(img, chosen);
    commit_chosen(img, chosen);
    free(chosen);
}

void pf_dir_sync_name(struct pf_image *img, const struct pf_inode *in)
{
    if (in->dlinks > 0 || in->pendrefs == 0)
        return; /* not newly created */
    bool *chosen = pf_alloc(img->ndops + 1);
    for (size_t i = 0; i < img->ndops; i++)
        chosen[i] = links(img->dop[i], in->ino);
    close_over(img, chosen);
    commit_chosen(img, chosen);
    free(chosen);
}

void pf_dir_sync_all(struct pf_image *img)
{
    bool *chosen = pf_alloc(img->ndops + 1);
    memset(chosen, true, img->ndops);
    commit_chosen(img, chosen);
    free(chosen);
}

static void choose_random(const struct pf_image *img, const struct pf_cut *cut,
                          uint64_t *rng, bool *chosen)
{
    enum pf_dirs how = cut->dirs;
    if (how == PF_DIRS_AUTO)
        how = pf_random_below(rng, 2) ? PF_DIRS_PREFIX : PF_DIRS_SUBSET;
    if (how == PF_DIRS_PREFIX) {
        memset(chosen, true, pf_random_below(rng, img->ndops + 1));
        return;
    }
    uint64_t keep = 1 + pf_random_below(rng, 15);
    for (size_t i = 0; i < img->ndops; i++)
        chosen[i] = pf_random_below(rng, 16) < keep;
    close_over(img, chosen);
}

void pf_dir_cut(struct pf_image *img, const struct pf_cut *cut, uint64_t *rng,
                uint64_t prefix_seq, struct pf_cut_stats *stats)
{
    bool *chosen = pf_alloc(img->ndops + 1);
    switch (cut->mode) {
    case PF_DROP_ALL:
        break;
    case PF_KEEP_ALL:
        memset(chosen, true, img->ndops);
        break;
    case PF_PREFIX:
        for (size_t i = 0; i < img->ndops; i++)
            chosen[i] = img->dop[i]->seq <= prefix_seq;
        break;
    case PF_RANDOM:
        choose_random(img, cut, rng, chosen);
        break;
    }
    stats->dir_ops += img->ndops;
    for (size_t i = 0; i < img->ndops; i++)
        stats->dir_lost += !chosen[i];
    commit_chosen(img, chosen);
    while (img->ndops > 0)
        op_retire(img, img->dop[--img->ndops]);
    free(chosen);
}

void pf_dir_ops_release(struct pf_image *img)
{
    for (size_t i = 0; i < img->ndops; i++)
        op_unref(img->dop[i]);
    free(img->dop);
    img->dop = NULL;
    img->ndops = img->dops_cap = 0;
}
