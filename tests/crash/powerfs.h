/*
 * powerfs: the mounted file system around one image, its calls and faults.
 *
 * Locking: fs->lock guards everything below it.  The FUSE loop is one thread;
 * control connections have a thread each.  Nothing notifies the kernel, so
 * no reply depends on another thread.
 */
#ifndef POWERFS_H
#define POWERFS_H

#include "tests/crash/powerfs_image.h"

#include <fuse_lowlevel.h>
#include <pthread.h>

/* Kinds of counted calls: name, class ('w' changes, 's' syncs, 'r' reads). */
#define PF_KINDS(X)                                                                       \
    X(WRITE, "write", 'w')                                                                \
    X(TRUNCATE, "truncate", 'w')                                                          \
    X(SETATTR, "setattr", 'w')                                                            \
    X(FALLOCATE, "fallocate", 'w')                                                        \
    X(CREATE, "create", 'w')                                                              \
    X(MKNOD, "mknod", 'w')                                                                \
    X(MKDIR, "mkdir", 'w')                                                                \
    X(SYMLINK, "symlink", 'w')                                                            \
    X(LINK, "link", 'w')                                                                  \
    X(UNLINK, "unlink", 'w')                                                              \
    X(RMDIR, "rmdir", 'w')                                                                \
    X(RENAME, "rename", 'w')                                                              \
    X(FSYNC, "fsync", 's')                                                                \
    X(FDATASYNC, "fdatasync", 's')                                                        \
    X(FSYNCDIR, "fsyncdir", 's')                                                          \
    X(READ, "read", 'r')                                                                  \
    X(OTHER, "other", 'r')

enum pf_kind {
#define PF_KIND_ENUM(id, name, class) PF_KIND_##id,
    PF_KINDS(PF_KIND_ENUM)
#undef PF_KIND_ENUM
    PF_KIND_COUNT
};

/* What a fault waits for: one kind, a class ("write-class", "sync-class") or both ("any"). */
struct pf_trigger {
    uint64_t left; /* calls until it fires; 0 = not set */
    int kind;      /* enum pf_kind, or -1 for a class */
    char class;    /* 'w', 's', or 'a' for both */
};

struct pf_saved {
    struct pf_saved *next;
    char *name;
    struct pf_image *img;
};

struct pf_fs {
    pthread_mutex_t lock;
    pthread_cond_t thawed;
    struct pf_image *img;
    uint64_t generation; /* of node ids; raised by cut and load */
    bool dead;           /* cut and not yet revived */
    bool frozen;
    uint64_t calls[PF_KIND_COUNT];
    uint64_t cuts;
    struct pf_trigger arm;
    struct pf_cut arm_cut;
    struct pf_trigger eio;
    struct pf_cut_stats last;
    struct pf_saved *saved;
};

extern const struct fuse_lowlevel_ops pf_ops;

/* powerfs_fs.c; all with fs->lock held */
void pf_fs_init(struct pf_fs *fs);
void pf_fs_release(struct pf_fs *fs);
void pf_fs_cut(struct pf_fs *fs, const struct pf_cut *cut);
void pf_fs_save(struct pf_fs *fs, const char *name);
int pf_fs_load(struct pf_fs *fs, const char *name);   /* -ENOENT */
int pf_fs_forget(struct pf_fs *fs, const char *name); /* -ENOENT */
int pf_trigger_parse(struct pf_trigger *t, const char *kind); /* -EINVAL; left untouched */
const char *pf_kind_name(unsigned kind);

/* Count a call; whether the fault is due at it. */
bool pf_trigger_due(struct pf_trigger *t, enum pf_kind kind);

/* powerfs_ctl.c: serve a listening socket in a thread of its own. */
int pf_ctl_listen(const char *path);                  /* fd or -errno */
int pf_ctl_serve(struct pf_fs *fs, int fd);           /* 0 or -errno */
int pf_ctl_client(const char *path, int argc, char **argv); /* exit code */

#endif
