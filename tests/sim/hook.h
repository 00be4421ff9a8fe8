/*
 * hook.h: a thin layer over the simulated disk (and over the index twin) that sees every call before it happens: it
 * counts, calls back (so that a run can be copied in the middle of a store's operation), and plants bugs.
 */
#ifndef TESTS_SIM_HOOK_H
#define TESTS_SIM_HOOK_H

#include "store/base/io.h"
#include "store/index/kv.h"

/* Kinds of calls that may change what a crash leaves; the places to cut. */
#define HOOK_TABLE(X)                                                         \
    X(CREATE) X(PWRITEV) X(FDATASYNC) X(FTRUNCATE) X(ALLOCATE) X(MKDIR)       \
    X(RENAME) X(LINK) X(UNLINK) X(SYNCDIR) X(KV_WRITE) X(KV_FLUSH) X(KV_FLUSH_WAIT)

enum hook_call {
#define X(name) HOOK_##name,
    HOOK_TABLE(X)
#undef X
    HOOK_N_CALLS
};

/*
 * Planted bugs, to prove that the oracle sees them: what each stands for in the product is in tests/sim/README.md.
 */
#define BUG_TABLE(X)                                                                           \
    X(LOG_SYNC_IGNORED,   "fdatasync of the log does nothing")                                 \
    X(LOG_SYNC_SOMETIMES, "every third fdatasync of the log does nothing")                     \
    X(SUPER_SYNC_IGNORED, "fdatasync of what is not the log does nothing")                     \
    X(SYNCDIR_IGNORED,    "syncdir does nothing")                                              \
    X(WRITES_SWAPPED,     "a write of the log reaches the file only with the next one")        \
    X(WRITE_DROPPED,      "one in fifty writes of the log is lost")                            \
    X(WRITE_TORN,         "one in fifty writes of the log lacks its last byte")                \
    X(NEXT_SYNC_IGNORED,  "a new segment gets its name before its bytes are synced")           \
    X(READ_FLIPPED,       "one in fifty reads of the log has a flipped bit")                   \
    X(FLUSH_EARLY,        "the index makes rows durable before the log has their records")     \
    X(KV_WRITE_LOST,      "one in twenty batches of the index is lost")                        \
    X(BATCH_LOSES_DELETE, "one in twenty deletes of index rows is lost")                       \
    X(BATCH_LOSES_PUT,    "one in two hundred puts of index rows is lost")                     \
    X(HISTORY_BLIND,      "one in eight scans of the history of a name finds nothing")         \
    X(CLOCK_OTHER,        "a record's clock is not the one of its operation")                  \
    X(ACK_EARLY,          "fsync answers before anything is durable")                          \
    X(ACK_FILE,           "fsync of a file syncs only if it was the last one changed")      \
    X(PACK_SYNC_IGNORED,  "packs and archive files get their names before their bytes are synced") \
    X(PACK_NAME_IGNORED,  "segments go before the names of pack and archive file are durable") \
    X(DROP_ORDER,         "of two segments that go the newer one goes first")

enum bug {
    BUG_NONE,
#define X(name, text) BUG_##name,
    BUG_TABLE(X)
#undef X
    BUG_N
};
const char *bug_name(enum bug b);
const char *bug_text(enum bug b);
const char *hook_name(enum hook_call c);

struct hook {
    struct io io;                    /* what the store gets */
    struct io *inner;
    void (*before)(void *arg, enum hook_call call);   /* may be NULL */
    void *arg;
    uint64_t count[HOOK_N_CALLS];
    enum bug bug;
    uint64_t bug_calls;
    bool lies;                       /* one in two hints of packing is another one's: no bug, since they may be worth nothing */
    uint64_t hints;
    uint8_t *hint; size_t hint_len;
    /* DROP_ORDER */
    char held_name[64];
    /* WRITES_SWAPPED */
    struct io_file *held_file;
    uint8_t *held;
    size_t held_len;
    uint64_t held_off;
};

/* hook_init: ${h} stands before ${inner}, which must outlive it. hook_plant: from now on it has this bug. */
void hook_init(struct hook *h, struct io *inner);
void hook_plant(struct hook *h, enum bug bug);
void hook_release(struct hook *h);

/* hook_kv: ${inner} with this hook before it; takes ${inner} (closed with it). */
struct kv *hook_kv(struct hook *h, struct kv *inner);

#endif
