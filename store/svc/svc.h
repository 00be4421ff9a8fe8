/*
 * svc.h: requests to an opened store, as JSON, executed the same way whoever has it open: the process that
 * serves a mount (server.h, over the control socket) or the command itself.
 *
 * A request is an object {"op": NAME, ...}; SVC_OPS below lists names and arguments. What it yields goes to a
 * svc_emit_fn, item by item; a failure is the return value and ${err}. Unknown arguments are refused, so that
 * a newer command never believes an older server did what it asked for.
 *
 * Bytes (paths, names) travel as wire.h says. Times are RFC 3339, sizes end in _bytes, LSNs in _lsn or are "lsn".
 */
#ifndef STORE_SVC_SVC_H
#define STORE_SVC_SVC_H

#include "store/base/err.h"
#include "store/core/store.h"
#include "store/sync/link.h"

#include <jansson.h>
#include <stddef.h>

/*
 * X(name, writes, arguments): ${writes}: needs a store that was opened writable.
 */
#define SVC_OPS(X)                                                                             \
    X(status,   false, "")                                                                     \
    X(info,     false, "")                                                                     \
    X(snapshot, true,  "action name at reason person until")                                   \
    X(snapshots, false, "")                                                                    \
    X(moments,  false, "")                                                                     \
    X(resolve,  false, "at")                                                                   \
    X(log,      false, "path every_write follow limit from to")                                \
    X(cat,      false, "path at offset length")                                                \
    X(restore,  true,  "path at to delete_extra")                                              \
    X(undo,     true,  "path redo")                                                            \
    X(config,   false, "")                                                                     \
    X(config_set, true, "name value")                                                          \
    X(check,    false, "read_data")                                                            \
    X(scrub,    true,  "again close_gaps")                                                     \
    X(reclaim,  true,  "now")                                                                  \
    X(retain,   false, "policy measure")                                                       \
    X(space,    false, "path free")                                                            \
    X(diff,     false, "from to")                                                              \
    X(find,     false, "pattern deleted")                                                      \
    X(wait,     false, "until on timeout_ms")                                             \
    X(ship,     false, "target follow make probe compress")                                          \
    X(receive,  false, "source once probe")                                                    \
    X(standby,  true,  "action target ssh remote")                                             \
    X(role,     true,  "action reason target timeout_ms unfenced at hands_over")               \
    X(fork,     false, "name at")                                                              \
    X(sync,     false, "target follow hold")                                                   \
    X(yield,    false, "")                                                                     \
    X(leave_branch, false, "name")                                                             \
    X(upgrade,  false, "program layout")

/*
 * Receives what a request yields. ${type}: "item" a line of the answer, "data" bytes in ${bin}, "progress", "total" (of diff) what its lines come to.
 * ${item} is borrowed. Nonzero (a negative err_code, ERR_INTR by habit) ends the request with that code.
 */
typedef int svc_emit_fn(void *arg, const char *type, const json_t *item, const void *bin, size_t len);

/* What a request is run on. */
struct svc_env {
    struct store *s;
    const char *mount_dir;              /* where it is mounted, or NULL */
    const struct log_recovery *recovery; /* what opening found, or NULL */
    struct link_table *links;           /* streams of this process, or NULL */
    volatile int *end_receive;          /* not 0: no stream runs into this store, and one that does ends; or NULL */
    struct replicate *replicate;        /* who ships by itself, of a mount; or NULL */
    volatile int *yield;                /* set when somebody who wants the store asks for it, where this process can give it up; or NULL */
    /* counters of whoever serves the mount, for `info`; may be NULL */
    void (*counters)(void *arg, void (*put)(void *put_arg, const char *name, uint64_t value), void *put_arg);
    void *counters_arg;
    /* go on as that program, whose processes share memory of that layout; NULL: this is no mount */
    int (*upgrade)(void *arg, const struct caller *who, const char *program, uint64_t layout, struct err *err);
    /* as svc_hooks.fit; NULL: this is no mount */
    bool (*fit)(void *arg, char *options, size_t cap, struct err *why);
    /* as svc_hooks.leave_branch; NULL: it shows none */
    int (*leave_branch)(void *arg, const char *name, struct err *err);
    uint64_t branch_memory;             /* as svc_hooks.branch_memory */
};

/* What a request that runs a stream to another site is given beside its arguments: where to, and what ends it. */
struct svc_stream { int in, out; struct link_stop stop; };

/*
 * svc_call(env, who, req, stream, emit, arg, err):
 * Run ${req} on behalf of ${who} and return when it is done. ${stream}: of "ship" and "receive"; else NULL.
 * Errors: USAGE unknown op or argument; whatever the store says; what ${emit} returned.
 * Threads: any number at once.
 */
int svc_call(const struct svc_env *env, const struct caller *who, const json_t *req, const struct svc_stream *stream,
             svc_emit_fn *emit, void *arg, struct err *err);

/* svc_op_writes(name): 1 it needs a writable store, 0 not, ERR_USAGE no such request. */
int svc_op_writes(const char *name);

/*
 * svc_check_closed(io, dir, read_data, emit, arg, err):
 * As the request "check", for a store that could not be opened: superblock, retained set and the log as far as
 * they go. Changes nothing.
 */
int svc_check_closed(struct io *io, const char *dir, bool read_data, svc_emit_fn *emit, void *arg, struct err *err);

/* svc_settings: the table behind "config". name, unit ("", "bytes", "ms", "zone", "time", "count", "patterns", "rate", "word", "lease"), default, what it does. */
struct svc_setting { const char *name, *unit, *fallback, *text; };
extern const struct svc_setting svc_settings[];
extern const size_t svc_n_settings;

/* svc_size_parse(text, out, err): "512M", "20GiB", "1000" to bytes. USAGE. */
int svc_size_parse(const char *text, uint64_t *out, struct err *err);

/* svc_setting_check(name, value, norm, cap, err): validate; the form to store goes to ${norm}. USAGE. */
int svc_setting_check(const char *name, const char *value, char *norm, size_t cap, struct err *err);

#endif
