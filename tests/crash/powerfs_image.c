/* powerfs_image: inodes, whole images, the cut. */
#include "tests/crash/powerfs_image.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void *pf_alloc(size_t len)
{
    void *p = calloc(1, len > 0 ? len : 1);
    if (p == NULL)
        abort();
    return p;
}

/* Room for want items; new ones are zero.  *cap is what there is room for. */
void *pf_grow(void *p, size_t *cap, size_t want, size_t item)
{
    if (want <= *cap)
        return p;
    size_t fresh = *cap * 2 > want ? *cap * 2 : want;
    if (fresh < 8)
        fresh = 8;
    p = realloc(p, fresh * item);
    if (p == NULL)
        abort();
    memset((char *)p + *cap * item, 0, (fresh - *cap) * item);
    *cap = fresh;
    return p;
}

uint64_t pf_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t pf_random_below(uint64_t *state, uint64_t bound)
{
    return bound == 0 ? 0 : pf_random(state) % bound;
}

/* --- inodes ---------------------------------------------------------------- */

struct pf_inode *pf_inode_get(const struct pf_image *img, uint64_t ino)
{
    return ino < img->tab_cap ? img->tab[ino] : NULL;
}

static void inode_add(struct pf_image *img, struct pf_inode *in)
{
    img->tab = pf_grow(img->tab, &img->tab_cap, (size_t)in->ino + 1, sizeof(*img->tab));
    img->tab[in->ino] = in;
    in->prev = NULL;
    in->next = img->head;
    if (img->head != NULL)
        img->head->prev = in;
    img->head = in;
}

static void inode_remove(struct pf_image *img, struct pf_inode *in)
{
    img->tab[in->ino] = NULL;
    if (in->prev != NULL)
        in->prev->next = in->next;
    else
        img->head = in->next;
    if (in->next != NULL)
        in->next->prev = in->prev;
    img->used_pages -= in->allocated;
}

static void inode_destroy(struct pf_inode *in)
{
    pf_data_release(in);
    pf_dir_release(&in->vdir);
    pf_dir_release(&in->ddir);
    free(in->target);
    free(in);
}

struct pf_inode *pf_inode_new(struct pf_image *img, mode_t mode, uid_t uid, gid_t gid)
{
    struct pf_inode *in = pf_alloc(sizeof(*in));
    in->ino = img->next_ino++;
    in->attr.mode = mode;
    in->attr.uid = uid;
    in->attr.gid = gid;
    clock_gettime(CLOCK_REALTIME, &in->attr.mtime);
    in->attr.atime = in->attr.ctime = in->attr.mtime;
    in->dattr = in->attr;
    inode_add(img, in);
    return in;
}

void pf_inode_maybe_free(struct pf_image *img, struct pf_inode *in)
{
    if (in->nlookup > 0 || in->vlinks > 0 || in->dlinks > 0 || in->pendrefs > 0 ||
        in->ino == PF_ROOT_INO)
        return;
    inode_remove(img, in);
    /* A directory removed for good takes its durable entries along. */
    for (size_t i = 0; i < in->ddir.n; i++) {
        struct pf_inode *child = pf_inode_get(img, in->ddir.ent[i].ino);
        if (child != NULL) {
            child->dlinks--;
            pf_inode_maybe_free(img, child);
        }
    }
    inode_destroy(in);
}

void pf_attr_touch(struct pf_image *img, struct pf_inode *in, bool mtime)
{
    clock_gettime(CLOCK_REALTIME, &in->attr.ctime);
    if (mtime)
        in->attr.mtime = in->attr.ctime;
    in->attr_seq = img->next_seq++;
}

/* --- images ---------------------------------------------------------------- */

struct pf_image *pf_image_new(void)
{
    struct pf_image *img = pf_alloc(sizeof(*img));
    img->next_ino = PF_ROOT_INO;
    img->next_seq = 1;
    struct pf_inode *root = pf_inode_new(img, S_IFDIR | 0755, 0, 0);
    root->vlinks = root->dlinks = 1;
    return img;
}

void pf_image_free(struct pf_image *img)
{
    if (img == NULL)
        return;
    pf_dir_ops_release(img);
    while (img->head != NULL) {
        struct pf_inode *in = img->head;
        img->head = in->next;
        inode_destroy(in);
    }
    free(img->tab);
    free(img);
}

struct pf_image *pf_image_clone(const struct pf_image *img)
{
    struct pf_image *to = pf_alloc(sizeof(*to));
    *to = *img;
    to->head = NULL;
    to->tab = NULL;
    to->tab_cap = 0;
    to->dop = NULL;
    to->dops_cap = 0;
    for (const struct pf_inode *in = img->head; in != NULL; in = in->next) {
        struct pf_inode *copy = pf_alloc(sizeof(*copy));
        *copy = *in;
        copy->nlookup = 0;
        if (in->target != NULL && (copy->target = strdup(in->target)) == NULL)
            abort();
        pf_data_clone(copy, in);
        pf_dir_copy(&copy->vdir, &in->vdir);
        pf_dir_copy(&copy->ddir, &in->ddir);
        inode_add(to, copy);
    }
    if (img->ndops > 0)
        to->dop = pf_grow(NULL, &to->dops_cap, img->ndops, sizeof(*to->dop));
    for (size_t i = 0; i < img->ndops; i++) {
        to->dop[i] = img->dop[i];
        to->dop[i]->refs++;
    }
    return to;
}

void pf_image_sync(struct pf_image *img)
{
    for (struct pf_inode *in = img->head; in != NULL; in = in->next) {
        pf_data_sync(in);
        in->dattr = in->attr;
        in->attr_seq = 0;
    }
    pf_dir_sync_all(img);
}

static int seq_cmp(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* A point in the order of all pending operations: 0 keeps none. */
static uint64_t pick_prefix(const struct pf_image *img, uint64_t *rng)
{
    size_t n = img->ndops, k = 0;
    for (const struct pf_inode *in = img->head; in != NULL; in = in->next)
        n += in->nops;
    uint64_t *seq = pf_alloc((n + 1) * sizeof(*seq));
    for (size_t i = 0; i < img->ndops; i++)
        seq[k++] = img->dop[i]->seq;
    for (const struct pf_inode *in = img->head; in != NULL; in = in->next)
        for (size_t i = 0; i < in->nops; i++)
            seq[k++] = in->op[i]->seq;
    qsort(seq, n, sizeof(*seq), seq_cmp);
    uint64_t at = pf_random_below(rng, n + 1);
    uint64_t point = at == 0 ? 0 : seq[at - 1];
    free(seq);
    return point;
}

static void cut_attr(struct pf_inode *in, const struct pf_cut *cut, uint64_t *rng,
                     uint64_t prefix_seq)
{
    bool keep = false;
    if (in->attr_seq != 0) {
        keep = cut->mode == PF_KEEP_ALL ||
               (cut->mode == PF_PREFIX && in->attr_seq <= prefix_seq) ||
               (cut->mode == PF_RANDOM && pf_random_below(rng, 2));
    }
    if (keep)
        in->dattr = in->attr;
    else
        in->attr = in->dattr;
    in->attr_seq = 0;
}

/* Walk the durable tree, counting links; what is not met is lost. */
static void count_links(struct pf_image *img)
{
    size_t cap = 0, n = 0;
    struct pf_inode **todo = NULL;
    for (struct pf_inode *in = img->head; in != NULL; in = in->next)
        in->vlinks = in->dlinks = 0;
    struct pf_inode *root = pf_inode_get(img, PF_ROOT_INO);
    root->vlinks = root->dlinks = 1;
    todo = pf_grow(todo, &cap, 1, sizeof(*todo));
    todo[n++] = root;
    while (n > 0) {
        const struct pf_inode *dir = todo[--n];
        for (size_t i = 0; i < dir->ddir.n; i++) {
            struct pf_inode *in = pf_inode_get(img, dir->ddir.ent[i].ino);
            if (S_ISDIR(in->attr.mode) && in->dlinks == 0) {
                todo = pf_grow(todo, &cap, n + 1, sizeof(*todo));
                todo[n++] = in;
            }
            in->dlinks++;
            in->vlinks++;
        }
    }
    free(todo);
}

void pf_image_cut(struct pf_image *img, const struct pf_cut *cut,
                  struct pf_cut_stats *stats)
{
    uint64_t rng = cut->seed * UINT64_C(0x2545f4914f6cdd1d) + (uint64_t)cut->mode;
    uint64_t prefix_seq = cut->mode == PF_PREFIX ? pick_prefix(img, &rng) : 0;
    *stats = (struct pf_cut_stats){ 0 };
    pf_dir_cut(img, cut, &rng, prefix_seq, stats);
    /* By number, not by list order, so that a saved image cuts the same. */
    for (size_t i = 0; i < img->tab_cap; i++) {
        struct pf_inode *in = img->tab[i];
        if (in == NULL)
            continue;
        in->nlookup = 0;
        cut_attr(in, cut, &rng, prefix_seq);
        pf_data_cut(in, cut, &rng, prefix_seq, stats);
        pf_dir_release(&in->vdir);
        pf_dir_copy(&in->vdir, &in->ddir);
    }
    count_links(img);
    img->used_pages = 0;
    for (struct pf_inode *in = img->head, *next; in != NULL; in = next) {
        next = in->next;
        img->used_pages += in->allocated;
        if (in->vlinks == 0) {
            inode_remove(img, in);
            inode_destroy(in);
        }
    }
}
