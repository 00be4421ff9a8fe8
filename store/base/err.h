/*
 * err.h: the one table of errors, and the carrier of their message.
 *
 * Functions return 0 (or a count >= 0) on success and a negative code of this
 * table on failure. errno exists only below io.c and at the FUSE edge
 * (err_errno); exit codes exist only in cli/ (err_exit).
 *
 * A failure is described once, where it is detected: object, offset, what was
 * expected, what was found, what to do next. Whoever cannot add to that passes
 * the struct err through untouched.
 */
#ifndef STORE_BASE_ERR_H
#define STORE_BASE_ERR_H

#include <stdbool.h>
#include <stddef.h>

/*
 * X(name, number, errno, exit code, text). Numbers are part of --json output
 * and never change; new ones go to the end.
 */
#define ERR_TABLE(X)                                                          \
    X(IO,        1, EIO,          1, "input/output error")                    \
    X(NOMEM,     2, ENOMEM,       1, "out of memory")                         \
    X(NOENT,     3, ENOENT,       1, "no such file or directory")             \
    X(EXIST,     4, EEXIST,       1, "it exists already")                     \
    X(NOTDIR,    5, ENOTDIR,      1, "not a directory")                       \
    X(ISDIR,     6, EISDIR,       1, "is a directory")                        \
    X(NOTEMPTY,  7, ENOTEMPTY,    1, "directory not empty")                   \
    X(INVAL,     8, EINVAL,       2, "invalid argument")                      \
    X(NAMETOOLONG, 9, ENAMETOOLONG, 1, "name longer than 255 bytes")          \
    X(FBIG,     10, EFBIG,        1, "beyond the largest file size")          \
    X(NOSPC,    11, ENOSPC,      14, "no space left")                         \
    X(ROFS,     12, EROFS,        1, "read-only")                             \
    X(NODATA,   13, ENODATA,      1, "no such attribute")                     \
    X(RANGE,    14, ERANGE,       1, "buffer too small")                      \
    X(PERM,     15, EPERM,       12, "operation not permitted")               \
    X(ACCES,    16, EACCES,      12, "permission denied")                     \
    X(NXIO,     17, ENXIO,        1, "no data beyond this offset")            \
    X(MLINK,    18, EMLINK,       1, "too many links")                        \
    X(NOTSUP,   19, EOPNOTSUPP,   1, "not supported")                         \
    X(STALE,    20, ESTALE,       1, "the file is gone")                      \
    X(INTR,     21, EINTR,      130, "interrupted")                           \
    X(BUSY,     22, EBUSY,       11, "in use")                                \
    X(NOSTORE,  23, ENOENT,      10, "no such store")                         \
    X(LOCKED,   24, EBUSY,       11, "the store is in use")                   \
    X(DAMAGE,   25, EIO,         13, "damage found")                          \
    X(VERSION,  26, EIO,         10, "the store is of another format version")\
    X(MOVED,    27, EIO,         10, "the store was moved or copied")         \
    X(NOMOMENT, 28, ENOENT,       1, "no such moment")                        \
    X(USAGE,    29, EINVAL,       2, "usage")                                 \
    X(TRUNCATED, 30, EIO,        13, "ends too early")                        \
    X(BADREC,   31, EIO,         13, "not a valid record")                    \
    X(POISONED, 32, EIO,          1, "a flush failed; nothing more is acknowledged") \
    X(WAIT,     33, EAGAIN,       1, "must wait (internal)")                  \
    X(MISS,     34, EAGAIN,       1, "not in memory (internal)")              \
    X(FENCED,   35, EROFS,       24, "another site is primary, or its lease is out") \
    X(LOSTDATA, 36, EINVAL,      23, "refused, would lose data")              \
    X(TOOLONG,  37, E2BIG,        2, "too long")                              \
    X(UNKNOWN,  38, EIO,          1, "unknown failure")                       \
    X(PEERVER,  39, EPROTO,       2, "the other side speaks another protocol") \
    X(DIVERGED, 40, EROFS,       24, "the two sides have gone different ways") \
    X(AWAY,     41, EHOSTDOWN,   22, "the standby cannot be reached")         \
    X(BOOTSTRAP, 42, EIO,        22, "the standby must be made anew")         \
    X(XDEV,     43, EXDEV,        1, "a directory of which no history is kept stays where none is; copy it")

enum err_code {
#define X(name, num, eno, ex, text) ERR_##name = -(num),
    ERR_TABLE(X)
#undef X
};

#define ERR_MSG_MAX 768

/* Carries the message of a failure upwards. Zeroed = no failure. */
struct err {
    int  code;              /* 0 or a negative err_code */
    char msg[ERR_MSG_MAX];  /* object, expected, found, what to do; no newline */
};

/*
 * err_set(err, code, fmt, ...):
 * Record in ${err} (may be NULL) the failure ${code} with a message, and
 * return ${code}: `return err_set(err, ERR_DAMAGE, "%s: ...", path);`.
 * An ${err} that already holds a failure is overwritten.
 */
int err_set(struct err *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * err_from_errno(err, eno, fmt, ...):
 * As err_set with the code that stands for the errno value ${eno}; the text
 * of ${eno} is appended to the message.
 */
int err_from_errno(struct err *err, int eno, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* err_errno(code): the positive errno for ${code}; EIO for an unknown one. */
int err_errno(int code);

/* err_exit(code): the exit code of the commands for ${code}; 0 for 0. */
int err_exit(int code);

/* err_text(code), err_name(code): static strings; "?" for an unknown one. */
const char *err_text(int code);
const char *err_name(int code);

#endif
