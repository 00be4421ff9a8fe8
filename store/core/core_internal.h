/*
 * core_internal.h: what the files of core share. Public: store.h.
 *
 * Lock order (DESIGN.md, 2): store.lock, then the log's mutex (a leaf). No hook is called and no reply is sent under store.lock. The
 * listing cache has a lock of its own, a leaf.
 */
#ifndef STORE_CORE_CORE_INTERNAL_H
#define STORE_CORE_CORE_INTERNAL_H

#include "store/base/lease.h"
#include "store/core/nohistory.h"
#include "store/core/store.h"
#include "store/index/asof.h"
#include "store/index/index.h"
#include "store/pack/history.h"
#include "store/pack/packs.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum {
    BACKLOG_OPS   = 20000,          /* records not durable in the index, which a restart does again; beyond it changes wait */
    BACKLOG_BYTES = 64 << 20,       /* of their rows */
    FLUSH_OPS     = 5000,           /* records in the index and in no flush: begin one; with twice that not durable the applier waits for it */
    FLUSH_BYTES   = 16 << 20,
    DRAIN_OPS     = 1024,           /* a batch */
    DRAIN_MS      = 10,
    LISTINGS      = 8,
    LISTING_LIVE_BYTES = 256 << 10, /* of one: a change makes it worthless */
    LISTING_PAST_BYTES = 4 << 20,   /* each reads the directory's history */
    WATCHES       = 32,
    WALLS         = 1024,           /* clocks of past moments remembered */
    HEAD_STACK    = 8192,           /* heads up to this many bytes need no malloc */
    CLONE_PIECES_MAX = 16384,       /* of one record */
};

/* A sorted part of the listing of a directory at a moment, so that a long readdir does not read the history again. */
struct listing { uint64_t at, ino, version; struct asof_list list; unsigned refs; uint64_t used; };

/* Somebody reads at a moment. */
struct entered { uint64_t lsn; unsigned refs; struct entered *next; };

struct store {
    struct io *io;
    char *dir;                      /* NULL in tests without one */
    struct store_options opt;
    struct io_file *lock_file;
    struct super sb;                /* mark_lock */
    _Atomic uint32_t role;          /* enum super_role; changed under role_lock and lock. What is in force: the superblock follows, or was first (role.h) */
    bool hold;                      /* lock; changes wait */
    _Atomic uint32_t met;           /* the highest number of an epoch of others that was met since the store was opened */
    bool hold_passes;               /* lock; but those of this thread do not */
    pthread_t hold_by;
    bool was_here;                  /* at open: it lies where it says; known where it was told why not (LOCATION_) */
    bool leased;                    /* lock; the change under way is one that needs a lease, where there are any */
    _Atomic uint64_t lease_until;   /* ms of boot time: changes are taken until then; UINT64_MAX: no lease is needed (lease.h) */
    pthread_mutex_t lease_lock;     /* a leaf; guards the two below: streams ask each turn, and mark_lock is held for long */
    struct lease lease_asked, lease_told;    /* as the settings have them */
    uint64_t promised_ms;           /* mark_lock; the same clock: not promoted before */
    bool lease_taken, lease_awaited;    /* mark_lock; settings were looked at; a promotion is near, and nothing is promised any more */
    pthread_mutex_t role_lock;      /* one change of role at a time, and none while records are taken; before all others */
    struct log *log;
    struct history *history;        /* records of the log, and of the archive before it */
    struct packs *packs;            /* data that left the log */
    struct kv *kv;
    struct retained retained;       /* retained_lock; changed under mark_lock, too */
    pthread_rwlock_t retained_lock; /* a leaf */
    struct err no_base;             /* why the newest base was passed over, at open */
    uint64_t retained_both;         /* mark_lock; the generation that both copies were written for, or what came before it with the same in it */

    pthread_mutex_t lock;
    pthread_cond_t  work;           /* lock; for the applier */
    pthread_cond_t  commit;         /* lock; for the committer */
    pthread_cond_t  progress;       /* lock; for store_await */
    struct index ix;                /* lock */
    bool want_apply;                /* lock; a reader waits: end the batch early */
    bool want_sync;                 /* lock; an fsync waits */
    bool stop;                      /* lock */
    bool commit_idle;               /* lock; the committer sleeps until something is written */
    bool series;                    /* lock; between SERIES_BEGIN and END */
    struct nohistory nohistory;     /* lock; by the setting */
    bool flushing;                  /* drain_lock */
    uint64_t flush_to;              /* drain_lock; applied address the running flush makes durable */
    _Atomic uint64_t unflushed_ops, unflushed_bytes;    /* written under drain_lock; in the index, and in no flush yet */
    _Atomic uint64_t flush_ops, flush_bytes;            /* the same; of the running flush */
    pthread_mutex_t drain_lock;     /* one drain or flush at a time; taken before lock */
    _Atomic uint64_t persisted;     /* applied address that is durable in the index */
    _Atomic uint64_t applied;
    _Atomic uint64_t shown;         /* a standby's: below it everything can be read, and the kernel has heard of it */
    _Atomic int failed;             /* 0 or the error that stopped it */
    _Atomic bool told_fatal;
    _Atomic int tight;              /* enum store_space */
    bool replaced;                  /* the index that was there is put aside (opening) */
    _Atomic bool short_of;          /* by the last change of the retained set */
    bool has_threads;
    pthread_t applier, committer;

    pthread_mutex_t mark_lock;      /* snapshots, settings and the retained set, one at a time; taken before lock; guards sb; recursive: what is planned asks for settings */
    pthread_mutex_t reclaim_lock;   /* one reclaim, or question like it, at a time; before maint_lock; see store_reclaim_begin */
    pthread_mutex_t maint_lock;     /* one packing at a time; before all others; see store_maint_begin */
    pthread_mutex_t watch_lock;     /* a leaf; held while they are written to, so that none is closed meanwhile */
    int watch[WATCHES], n_watch;    /* watch_lock */
    pthread_mutex_t list_lock;
    struct listing *listing[LISTINGS];   /* list_lock */
    uint64_t list_clock;                 /* list_lock */
    pthread_mutex_t wounds_lock;         /* a leaf */
    struct wound *wounds;                /* wounds_lock */
    size_t n_wounds;                     /* wounds_lock */
    uint64_t wounds_noted, wounds_healed, wounds_given_up;    /* wounds_lock */
    pthread_mutex_t lacking_lock;        /* a leaf */
    struct lack *lacking;                /* lacking_lock; by the records that name them */
    size_t n_lacking, cap_lacking;       /* lacking_lock */
    struct entered *entered;             /* list_lock */
    struct { uint64_t lsn; int64_t ns; } wall[WALLS];    /* list_lock; of records that the archive has: to ask it is to expand a frame */
};

/* ---- identity.c ---- */

/* Who writes from here on; backs the texts of a record of it. */
struct whereabouts { char host[256], boot[64]; };

/* Where a store lies. identity_place(io, dir, p, err): machine, device and inode of where ${dir} is; none where ${dir} is NULL. identity_put_place(sb, p). */
struct store_place { uint8_t machine[16]; uint64_t dev, ino; };
int  identity_place(struct io *io, const char *dir, struct store_place *p, struct err *err);
void identity_put_place(struct super *sb, const struct store_place *p);
/* identity_check(s, err): the store is where it says, or options.location says why not. MOVED. */
int  identity_check(struct store *s, struct err *err);
/* identity_relocate(s, err): takes the place, and for a copy a site of its own; in memory: identity_become_writer makes it durable. INVAL: a primary, and the copy of a standby was meant. */
int  identity_relocate(struct store *s, struct err *err);
/* identity_check_epoch(s, err): after replay: the table of epochs is not behind the records. DAMAGE. */
int  identity_check_epoch(const struct store *s, struct err *err);
/* identity_become_writer(s, clean, err): from here on the log may grow; ${clean}: it was closed so. ${promote}: why a store that was
 * not becomes primary, or NULL; it begins an epoch, as a copy does. INVAL: told it is a copy, and is a store of its own already. identity_become_follower: of a standby, which appends what its primary did. */
int  identity_become_writer(struct store *s, bool clean, const char *promote, struct err *err);
int  identity_become_follower(struct store *s, bool clean, struct err *err);
/* identity_info(s, info): the part of ${info} that is of the superblock. */
void identity_info(struct store *s, struct store_info *info);
/* identity_epoch_held(s): the newest epoch of which there are records (the first one, if there are none yet). mark_lock or sole owner. */
const struct epoch_row *identity_epoch_held(const struct store *s);
/* Records of an incarnation and of an epoch, and a random id that is not 0. */
void identity_incarnation(struct record *rec, uint64_t id, struct whereabouts *w);
void identity_epoch(struct record *rec, const struct epoch_row *e, const char *reason);
uint64_t identity_random(struct io *io);
/* identity_full(name, held, err): of a store, or NULL, whose table has ${held} epochs, and no room for the one that was to come: NOSPC, and what to do. */
int  identity_full(const char *name, uint32_t held, struct err *err);

static inline struct rec_bytes rec_bytes_of(const void *p, size_t len)
{
    return (struct rec_bytes){ .p = p, .len = (uint32_t)len };
}

static inline struct rec_bytes rec_text(const char *s)
{
    return s != NULL ? rec_bytes_of(s, strlen(s)) : rec_bytes_of("", 0);
}

/* ---- role.c ---- */

/* role_may_promote(s, err): see store_promote. role_holds_tree(s, err): there is something to go on with: BOOTSTRAP. role_fence_get(sb, by): what fenced the store, where its epoch is not known here yet; role_fence_clear(sb).
 * role_expect_back(s, site, acked): the site that was primary. role_settle(s, keep_orphans, err): what a new primary finds half done is ended (store.c). */
int  role_may_promote(struct store *s, struct err *err);
/* role_uncommitted_put(sb, site): see store_uncommitted; NULL: not. In memory. role_followed(s, site, acked): that site acknowledged so much; mark_lock. */
void role_uncommitted_put(struct super *sb, const uint8_t site[16]);
/* role_alone(sb): of a copy that is to be a store of its own, a fork or a branch: what bound its original to other sites is nothing to it: standbys, leases, fences, what was under way. In memory. */
void role_alone(struct super *sb);
/* role_unbound(sb): the same of one that is told it is a copy: what was under way in its own tree goes on. In memory. */
void role_unbound(struct super *sb);
void role_followed(struct store *s, const uint8_t site[16], uint64_t acked);
int  role_holds_tree(struct store *s, struct err *err);
bool role_fence_get(const struct super *sb, struct epoch_row *by);
void role_fence_clear(struct super *sb);
/* role_fence_keep(sb, err): before rows go whose records are not (any more) held: the highest number known stays known. Writes nothing. Errors: TOOLONG. */
int role_fence_keep(struct super *sb, struct err *err);
void role_expect_back(struct store *s, const uint8_t site[16], uint64_t acked);
int  role_settle(struct store *s, bool keep_orphans, struct err *err);

/* ---- fork.c ---- */

/* fork_mark(sb, lsn, err): of a fork, or a copy: a store of its own behind the record ${lsn}; what was under way for another is nothing to it. In memory. */
void fork_mark(struct super *sb, uint64_t lsn);

/* ---- lease.c ---- */

/* lease_take(s): settings or role have changed, or were just read; under mark_lock, or sole owner. lease_holds(s): no lease is needed, or there is one. lease_wait_until(s): where there is none, so long
 * changes wait for one; lease_waits(s, until_ms): that is not yet over. lease_allows(s, err): store_lease_await was asked before a promotion: 0 or FENCED. lease_clear(sb): of a new primary, what it was told; lease_none(sb): and the setting. */
void lease_take(struct store *s);
bool lease_holds(struct store *s);
uint64_t lease_wait_until(struct store *s);
bool lease_waits(struct store *s, uint64_t until_ms);
int  lease_allows(struct store *s, struct err *err);
void lease_clear(struct super *sb);
void lease_none(struct super *sb);
/* lease_is_in(setting): lease_take is due when that one has changed. lease_unset(sb): the setting goes; where it comes back one begins anew. */
bool lease_is_in(const char *setting);
void lease_unset(struct super *sb);

/* ---- rewind.c ---- */

/* rewind_pending(sb): a rewind was cut off; rewind_finish(io, sb, err): the rest of it, before anything else of the store is opened. Writes *${sb}. Errors: IO, NOSPC. */
bool rewind_pending(const struct super *sb);
/* Of a closed store: rewind_last_clock(io, sb): when its last record was made; rewind_common(io, sb, fork, end): its last record that ends at or below ${fork}, and where; 0: not known. anew_pending, anew_finish: the same of anew.c. */
int64_t rewind_last_clock(struct io *io, const struct super *sb);
uint64_t rewind_common(struct io *io, const struct super *sb, uint64_t fork, uint64_t *end);
/* rewind_cut_set(r, at): the set of a store that ends at ${at}. In memory. */
void rewind_cut_set(struct retained *r, uint64_t at);
bool anew_pending(const struct super *sb);
int  anew_finish(struct io *io, struct super *sb, struct err *err);
int  rewind_finish(struct io *io, struct super *sb, struct err *err);

/* ---- run.c ---- */
int  run_start(struct store *s, struct err *err);
/* run_appended_locked(s): a record was appended and applied: wakes those who carry it further; under lock. */
void run_appended_locked(struct store *s);
void run_stop(struct store *s);
/* rebase(s, err): into an index in which nothing was applied: the rows of the newest base that is whole (rebase.c); none is fine. Errors: IO, NOMEM. */
int  rebase(struct store *s, struct err *err);

/* run_drain(s, err): one batch: returns 1 something was put, 0 nothing to do, < 0 failed (and the store with it). */
int  run_drain(struct store *s, struct err *err);
/* store_fail: remember the first failure, wake everybody, tell the hook. Returns ${code}. */
int  store_fail(struct store *s, int code, const struct err *err);
void run_progress(struct store *s);
/* run_has_room_locked: a change need not wait for the applier: what a restart would have to do again is bounded. */
bool run_has_room_locked(const struct store *s);
/* run_nudge_locked: somebody waits for this kind of progress; under lock. */
void run_nudge_locked(struct store *s, enum wait_kind kind);

/* ---- change.c: the way of every change ---- */

/*
 * change_begin(s, wait): take the lock for a change; fails (lock not held) with ROFS, POISONED, FENCED, BUSY, WAIT{BACKLOG, HOLD, LEASE}. change_more(s): for a further record of the same
 * request, which room for the first one was waited for; POISONED, FENCED. change_own(s): for a record by which the store itself takes up its role; POISONED.
 * change_commit(s, c, rec, data): append ${rec} (ino, flags and args set; data_len too) and apply it; releases the lock,
 * writes, waits for lower records. change_abort(s, rc): releases the lock and returns ${rc}.
 */
int change_begin(struct store *s, struct wait *wait);
int change_more(struct store *s);
int change_own(struct store *s);
int change_commit(struct store *s, const struct caller *c, struct record *rec, const void *data);
int change_abort(struct store *s, int rc);
/* change_commit_row: as change_commit, and *${row} (may be NULL) gets inode ${ino} as this very record left it. */
int change_commit_row(struct store *s, const struct caller *c, struct record *rec, const void *data, uint64_t ino,
                      struct row_ino *row);
/* Rows for a change, under the lock. STALE when the inode is not there; NOTDIR. */
int change_ino(struct store *s, uint64_t ino, struct crow **out);
int change_dir(struct store *s, uint64_t ino, struct crow **out);
/* change_name: checks the name and gives its row (present or not). */
int change_name(struct store *s, uint64_t parent, const char *name, size_t nlen, struct crow **out);
/* change_err: an internal failure of a look-up under the lock: IO and DAMAGE pass, others as they are. */
bool change_new_burst(struct store *s, const struct crow *ino);

/* ---- reserve.c ---- */

/* reserve_segment(io): bytes of a segment of the log on a disk of this size. reserve_at_open(s): the disk is full: the reserve is used, before anything else is tried. */
uint64_t reserve_segment(struct io *io);
void reserve_at_open(struct store *s);
/* reserve_at_close(s): closed cleanly, on a disk with plenty of room, a store takes no more than it needs. */
void reserve_at_close(struct store *s);
/* reserve_allows(s, rec, err): 0, or NOSPC: a change that needs more of a disk that is nearly full. */
int reserve_allows(const struct store *s, const struct record *rec, struct err *err);

/* ---- retain.c ---- */

/* retain_write_locked(s, next, err): ${next} is the set once it is durable; mark_lock is held. Takes its points. */
int retain_write_locked(struct store *s, struct retained *next, struct err *err);

/* ---- ops_data.c ---- */

/*
 * data_restore(s, c, at, src, dst, size): the live file ${dst} gets the content that ${src} had at moment ${at}, ${size} bytes, and
 * ends there; its row names the version (origin). One record, unless the past content is in more than CLONE_PIECES_MAX pieces:
 * then what ${dst} held beyond its first parts stays until the last one. What it held before is a version. On failure ${dst} may
 * hold a part: its state before is in history.
 */
int data_restore(struct store *s, const struct caller *c, uint64_t at, uint64_t src, uint64_t dst, uint64_t size);

/* ---- read.c ---- */
/* read_at(s, at, wait): 0 when rows of moment ${at} can be read; WAIT{APPLIED}. */
int read_at(struct store *s, uint64_t at, struct wait *wait);
/* read_applied(s, lsn, wait): 0 when the index holds everything up to and including ${lsn}; WAIT{APPLIED}. */
int read_applied(struct store *s, uint64_t lsn, struct wait *wait);
/* read_den(s, parent, name, nlen, den): a name of the live tree, 1 to 255 bytes. NOENT. */
int read_den(struct store *s, uint64_t parent, const char *name, size_t nlen, struct row_den *den);
/* The pieces of a block, live or at a moment, all that lie in its bytes [from, to) and maybe others (malloced). */
int read_map(struct store *s, uint64_t at, uint64_t ino, uint64_t mapgen, uint64_t block, uint32_t from, uint32_t to, struct row_map *map,
             struct err *err);

static inline struct wait *wait_or(struct wait *w, struct wait *own)
{
    return w != NULL ? w : own;
}

#endif
