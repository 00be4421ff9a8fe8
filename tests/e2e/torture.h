/*
 * torture.h: random operations on a mounted spare by system calls, next to the model of tests/sim; then past moments in
 * `.snapshots` against the model as it was.
 *
 * An operation that changes nothing the model knows (fsync, open and close) is not in the history. The model's clock stands
 * still at TORT_NOW, so that a time the model does not know exactly is told from one that was set.
 */
#ifndef TESTS_E2E_TORTURE_H
#define TESTS_E2E_TORTURE_H

#include "tests/sim/model.h"
#include "tests/sim/ops.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TORT_FDS = 16 };
#define TORT_NOW (-5000000000000000000ll)
#define TORT_NOW_SEC (-5000000000ll)

/* Ways of making a system call out of an operation, and what is not an operation of the model: counted and reported. */
#define TORT_TABLE(X)                                                                                              \
    X(OPEN_CREAT) X(CREAT) X(MKNOD) X(MKDIR) X(SYMLINK) X(LINK) X(UNLINK) X(RMDIR) X(RENAME) X(NOREPLACE) X(EXCHANGE) \
    X(TRUNCATE) X(FTRUNCATE) X(OPEN_TRUNC) X(PWRITE) X(APPEND) X(MMAP) X(FALLOCATE) X(PUNCH) X(ZERO)                  \
    X(COPY_FILE_RANGE) X(SETXATTR) X(REMOVEXATTR) X(ACL) X(CHMOD) X(CHOWN) X(UTIMENS) X(FSYNC) X(UNNAMED)
enum tort_way {
#define X(name) TORT_##name,
    TORT_TABLE(X)
#undef X
    TORT_N_WAYS
};

struct tort_fd { int fd; uint64_t ino; };

struct tort {
    const char *spare, *store, *mnt;
    uint64_t seed;
    struct gen gen;
    struct rng rng;
    struct model *m;
    struct mop *hist; size_t n_hist, cap_hist;     /* answered with success; .lsn: a moment right after it */
    struct tort_fd fd[TORT_FDS];                   /* kept open, some of them without a name by now */
    int ctl;                                       /* control socket, -1: not connected */
    size_t live_sum, live_max, n_done, n_refused, n_given, big_names;
    uint64_t ways[TORT_N_WAYS];
    uint64_t objects, bytes;                       /* compared */
    char doing[800];
};

/* torture_check.c. tort_fail: print what went wrong, where and how to repeat it; returns -1. */
int tort_fail(const struct tort *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* torture_ops.c. tort_op: one operation by system calls and in the model. 0, or -1 told. */
int tort_op(struct tort *t, struct mop *op);
/* tort_fsync: fsync of something. tort_open_some: keep a random file open. tort_close_all: and forget the unnamed ones. */
int tort_fsync(struct tort *t);
int tort_open_some(struct tort *t);
void tort_close_all(struct tort *t);
/* tort_dir: O_PATH descriptor of a live directory, by names from the mount point; -1. */
int tort_dir(const struct tort *t, uint64_t ino);

/* torture_check.c. tort_check: the tree below ${root} against ${m}; ${what} names it in messages. */
int tort_check(struct tort *t, const char *root, const struct model *m, const char *what);

/* torture_ctl.c. tort_moment: a moment that holds everything answered so far; 0 on failure, told. */
uint64_t tort_moment(struct tort *t);
/* tort_spare: run the program with these arguments (NULL ends them); its exit status, -1 where it did not run. */
int tort_spare(const struct tort *t, ...);
void tort_disconnect(struct tort *t);

#endif
