/* powerfs_fs: faults, saved images, and what a cut does to the mount. */
#define FUSE_USE_VERSION 312
#include "tests/crash/powerfs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    char class;
} kinds[PF_KIND_COUNT] = {
#define PF_KIND_ROW(id, name, class) { name, class },
    PF_KINDS(PF_KIND_ROW)
#undef PF_KIND_ROW
};

const char *pf_kind_name(unsigned kind)
{
    return kind < PF_KIND_COUNT ? kinds[kind].name : "?";
}

int pf_trigger_parse(struct pf_trigger *t, const char *kind)
{
    static const char *const classes[] = { "any", "write-class", "sync-class" };
    static const char letters[] = "aws";
    for (size_t i = 0; i < 3; i++) {
        if (strcmp(kind, classes[i]) == 0) {
            t->kind = -1;
            t->class = letters[i];
            return 0;
        }
    }
    for (int i = 0; i < PF_KIND_COUNT; i++) {
        if (strcmp(kind, kinds[i].name) == 0) {
            t->kind = i;
            return 0;
        }
    }
    return -EINVAL;
}

bool pf_trigger_due(struct pf_trigger *t, enum pf_kind kind)
{
    char class = kinds[kind].class;
    if (t->left == 0)
        return false;
    if (t->kind >= 0 ? t->kind != (int)kind
                     : class == 'r' || (t->class != 'a' && t->class != class))
        return false;
    return --t->left == 0;
}

void pf_fs_init(struct pf_fs *fs)
{
    *fs = (struct pf_fs){ .img = pf_image_new(), .generation = 1 };
    pthread_mutex_init(&fs->lock, NULL);
    pthread_cond_init(&fs->thawed, NULL);
}

static void saved_free(struct pf_saved *s)
{
    pf_image_free(s->img);
    free(s->name);
    free(s);
}

void pf_fs_release(struct pf_fs *fs)
{
    while (fs->saved != NULL) {
        struct pf_saved *s = fs->saved;
        fs->saved = s->next;
        saved_free(s);
    }
    pf_image_free(fs->img);
    fs->img = NULL;
    pthread_cond_destroy(&fs->thawed);
    pthread_mutex_destroy(&fs->lock);
}

void pf_fs_cut(struct pf_fs *fs, const struct pf_cut *cut)
{
    pf_image_cut(fs->img, cut, &fs->last);
    fs->generation++;
    fs->cuts++;
    fs->dead = true;
    fs->arm.left = fs->eio.left = 0;
}

static struct pf_saved **find_saved(struct pf_fs *fs, const char *name)
{
    struct pf_saved **at = &fs->saved;
    while (*at != NULL && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

int pf_fs_forget(struct pf_fs *fs, const char *name)
{
    struct pf_saved **at = find_saved(fs, name);
    struct pf_saved *s = *at;
    if (s == NULL)
        return -ENOENT;
    *at = s->next;
    saved_free(s);
    return 0;
}

void pf_fs_save(struct pf_fs *fs, const char *name)
{
    struct pf_saved *s = pf_alloc(sizeof(*s));
    (void)pf_fs_forget(fs, name); /* absent is fine: the name is taken over */
    s->name = strdup(name);
    if (s->name == NULL)
        abort();
    s->img = pf_image_clone(fs->img);
    s->next = fs->saved;
    fs->saved = s;
}

int pf_fs_load(struct pf_fs *fs, const char *name)
{
    struct pf_saved *s = *find_saved(fs, name);
    if (s == NULL)
        return -ENOENT;
    struct pf_image *img = pf_image_clone(s->img);
    img->full_pages = fs->img->full_pages; /* faults belong to the mount */
    img->ext4_like = fs->img->ext4_like;
    pf_image_free(fs->img);
    fs->img = img;
    fs->generation++;
    fs->dead = false;
    fs->arm.left = fs->eio.left = 0;
    return 0;
}
