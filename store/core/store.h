/*
 * store.h: a store, opened: file-system operations on the live tree, reads of the live tree or any past
 * moment, durability, and what runs behind (applier, committer). Knows nothing of FUSE or terminals.
 *
 * A change is validated against rows in memory (cache.h), appended to the log as ONE record, applied to
 * the rows in memory by the same function that replays the log (index/apply.h), and answered when every
 * lower record is written to the page cache. A second thread puts the rows into the index in batches.
 *
 * Permissions are not checked here: the kernel does (default_permissions), commands by ownership.
 *
 * Waiting. No function that takes a `struct wait *` ever blocks on the applier or on a flush: it returns
 * ERR_WAIT with *wait filled in, changes nothing, and is called again when store_ready(s, wait) (the
 * on_progress hook tells when to look). *wait is zeroed before the first call of a request and handed back as it is
 * when the call is repeated: what was waited for is then enough, however busy the store is. With wait == NULL it waits
 * in place (commands, tests).
 *
 * Locking: internal. Threads: everything may be called from any thread, unless said otherwise. With
 * options.threads == false nothing runs behind: the caller drives store_apply, store_sync, store_flush
 * (the deterministic simulation), and a NULL wait drives them as needed.
 */
#ifndef STORE_CORE_STORE_H
#define STORE_CORE_STORE_H

#include "store/base/err.h"
#include "store/base/io.h"
#include "store/base/super.h"
#include "store/index/kv.h"
#include "store/index/rows.h"
#include "store/log/log.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store;
struct history;
struct packs;
struct index_trim;

/* A moment: everything up to and including this LSN. AT_LIVE is the tree as it is. */
#define AT_LIVE UINT64_MAX

/* Who asks. */
struct caller {
    uint32_t uid, gid, pid;
    uint64_t unique;          /* FUSE request, 0 if none */
    uint32_t umask;           /* for create; 0 if the kernel applied it */
    bool     kill_priv;       /* KILLPRIV_V2: clear suid/sgid/capability with this change */
    bool     *killed;         /* if not NULL: set to true when this change took suid, sgid or capability away */
    uint64_t *tagged;         /* if not NULL: set to the directory that got an attribute because of this write (nohistory.h) */
    uint64_t *lsn_out;        /* if not NULL: set to the LSN between append and apply (slot bookkeeping) */
};

/* WAIT_REMOTE: until a standby has everything below addr; not the store's to know (fs/remote.h). WAIT_HOLD: until changes are not held any more (store_hold). WAIT_LEASE: for a lease, or until addr, ms of boot time (lease.h): over then without any progress. */
enum wait_kind { WAIT_NONE, WAIT_APPLIED, WAIT_DURABLE, WAIT_BACKLOG, WAIT_HOLD, WAIT_REMOTE, WAIT_LEASE };
struct wait { enum wait_kind kind; uint64_t addr; };

struct store_hooks {
    void *arg;
    /* applied, durable or backlog moved, or the store failed: parked requests may be ready. Called without locks. */
    void (*on_progress)(void *arg);
    /* a command changed the live tree behind the kernel's back. Called without locks, after the change. */
    void (*on_inval_ino)(void *arg, uint64_t ino);
    void (*on_inval_entry)(void *arg, uint64_t parent, const char *name, size_t nlen);
    /* a command took the last name of ${ino}: reap it (store_reap) once nobody uses it. Where NULL the store does at once. */
    void (*on_gone)(void *arg, uint64_t ino);
    /* a command is about to say that it is done: return when the kernel has heard of what it changed. May block. False: it has not yet. */
    bool (*on_settle)(void *arg);
    /* up to ${cap} moments that somebody outside may be in, from *${pos} (0 at first) on: their number, 0 at the end, SIZE_MAX: not known yet.
     * They stay whole. NULL: nobody. */
    size_t (*on_used)(void *arg, size_t *pos, uint64_t *lsns, size_t cap);
    /* only because somebody is in it this moment is still kept: whoever does not need it any more should leave. */
    void (*on_last_use)(void *arg, uint64_t lsn);
    /* the log is poisoned or the index failed: nothing more is acknowledged; a daemon leaves by _exit. */
    void (*on_fatal)(void *arg, const struct err *err);
};

struct store_options {
    bool writable;            /* false: read-only, changes nothing on disk, also opens a damaged store */
    bool unlocked;            /* of a branch, for reading: its lock is not asked for, so that others may read it, too */
    bool threads;             /* run applier and committer */
    bool promote;             /* a standby becomes the primary, in a new epoch; of a primary: INVAL */
    bool fresh_index;         /* the index is made anew from archive and log; that of now is kept until the open succeeds, and is back if it does not */
    bool keep_orphans;        /* do not reap unlinked-but-open files at open (worker restart) */
    uint32_t location;        /* enum store_location */
    uint64_t memory_bytes;    /* bound of caches, overlay and RocksDB; 256 MiB default where 0 */
    uint32_t commit_ms;       /* group commit at the latest after; 100 default where 0 */
    struct log_options log;
    struct store_hooks hooks;
    /* tests: use this index instead of RocksDB under the store; closed by the store, also when open fails */
    struct kv *kv;
};
enum store_location {
    LOCATION_AS_IS = 0, LOCATION_MOVED = 1, LOCATION_COPIED = 2,
    LOCATION_COPIED_STANDBY = 3,  /* as COPIED, by a command that is for standbys: the copy of a primary is not made a store of its own: INVAL */
};

/* ---- life ---- */

/* Set-up of a new store. */
struct store_init {
    const char *timezone;     /* for day boundaries; "UTC" where NULL */
    uint64_t history_max, keep_free;  /* bytes; chosen from free space where 0 */
    uint32_t root_uid, root_gid, root_mode;
};

/*
 * store_create(io, dir, init, err):
 * Make a store in the existing, empty directory behind ${io}; ${dir} is its path (for the index, and for messages),
 * NULL for a test without RocksDB. Durable on return: superblock, retained set, log with EPOCH, and CREATE of the root.
 * Errors: EXIST a store is there; NOTEMPTY; NOSPC; IO.
 */
int store_create(struct io *io, const char *dir, const struct store_init *init, struct err *err);

/*
 * store_create_standby(io, dir, seed, err):
 * As store_create, for a store that is to follow another: of its lineage, with nothing in it yet.
 */
struct store_seed {
    uint8_t lineage[16], key[32];
    uint32_t key_id;
    struct epoch_row epoch;
    const char *timezone;
    /* of one that begins with files of archive and packs, which are there: where its log begins (else 0), the record before, the epochs and the set of then */
    uint64_t begins, last_lsn;
    struct hash128 last_hash;
    const struct epoch_row *epochs;
    uint32_t n_epochs;
    struct retained *retained;
    struct io_file *lock;     /* of store_vacant, where that was asked before; stays the caller's */
};
int store_create_standby(struct io *io, const char *dir, const struct store_seed *seed, struct err *err);
/*
 * store_vacant(io, dir, keep, lock, err): a store may be made here: nothing is in the directory, or what is left of a making that was cut off, which goes; ${keep}: but for
 * files of archive and packs. *${lock} is taken where it is NULL, also on failure perhaps: the caller closes it. Nothing else is removed. Errors: EXIST, NOTEMPTY, LOCKED, IO.
 * store_file_name(name): of a file of archive or packs, or of one in the making.
 */
int  store_vacant(struct io *io, const char *dir, bool keep, struct io_file **lock, struct err *err);
bool store_file_name(const char *name);

/*
 * store_open(io, dir, opt, out, recovery, err):
 * Take the lock, read the superblock, recover log and index, replay. *${recovery} (may be NULL) says what was found.
 * A writable open of a primary that was not closed cleanly appends INCARNATION and reaps orphans; a standby appends nothing of its own.
 * Errors: NOSTORE, VERSION, LOCKED (pid), MOVED (elsewhere than it says: pass location), DAMAGE, NOSPC, IO, ACCES.
 */
int store_open(struct io *io, const char *dir, const struct store_options *opt, struct store **out,
               struct log_recovery *recovery, struct err *err);

/* store_close(s, err): clean close: everything applied, flushed and marked clean. Frees ${s} in any case. A
 * poisoned store is dropped without writing anything. */
int store_close(struct store *s, struct err *err);

/* store_drop(s): as a crash: frees memory, writes nothing (simulation, tests). */
void store_drop(struct store *s);

struct store_info {
    uint64_t head, written, durable, applied, persisted, first;
    uint64_t shown;           /* a standby's: end of what everybody sees, through a mount too */
    uint64_t n_inodes, n_bytes;
    uint64_t unapplied_ops, unapplied_bytes;
    uint64_t unflushed_ops, unflushed_bytes;    /* in the index, and not durable there */
    uint64_t log_bytes;
    int64_t  oldest_wall_ns;  /* of the first record held */
    uint64_t listed_from;     /* every moment from here on is listed; LOG_FIRST_ADDR: all there ever were */
    uint32_t points;          /* moments before it that are */
    uint64_t memory_bytes;
    int      failed;          /* 0 or the error that stopped it */
    uint64_t ever_hidden;     /* how often an inode was made hidden (rows.h) */
    bool     tight;           /* the disk is nearly full: changes that need space are refused */
    bool     short_of;        /* less of the past is kept than keep-all says */
    bool     writable;
    uint64_t cache_rows, cache_hits, cache_misses;
    /* of its superblock (store_super): */
    uint8_t  lineage[16], site[16];
    uint32_t role, key_id;    /* role: as last written */
    uint32_t epoch, n_epochs; /* the number of the newest one; rows */
    uint64_t incarnation;
    uint64_t super_gen;
    int64_t  created_wall_ns;
    bool     clean;
};
void store_info(struct store *s, struct store_info *info);
/* store_super(s, out): all of the superblock, as last written; too large for a stack. store_epoch_id(s, number, id): of a row of it; zero: there is none. */
void store_super(struct store *s, struct super *out);
void store_epoch_id(struct store *s, uint32_t number, uint8_t id[16]);
struct io *store_io(struct store *s);
struct kv *store_kv(struct store *s);       /* reads only */
struct log *store_log(struct store *s);     /* reads; and log_drop, by who packs */
struct history *store_history(struct store *s);
struct packs *store_packs(struct store *s);
/* What packing needs to know: the hash key of the lineage, 32 bytes; the generation of the retained set. */
const uint8_t *store_hash_key(struct store *s);
uint64_t store_retained_gen(struct store *s);
/* store_maint_begin, store_maint_end: around work on packs and archive: one at a time. A step of packing takes seconds: store_maint_try is for who must not wait; false: somebody else is at it. */
void store_maint_begin(struct store *s);
bool store_maint_try(struct store *s);
void store_maint_end(struct store *s);
/* store_next_ino(s): above all inode numbers that were ever given. */
uint64_t store_next_ino(struct store *s);
/* store_whole_from(s): every record from this address on is held with its data. */
uint64_t store_whole_from(struct store *s);
/* store_retained(s, out, err): a copy of the retained set; retained_release. NOMEM. */
int store_retained(struct store *s, struct retained *out, struct err *err);
/* store_reclaim_begin, store_reclaim_end: around a pass over all rows that takes some away, or asks what could go: one at a time, before store_maint_begin. False: another one
 * is under way; try again. */
bool store_reclaim_begin(struct store *s);
void store_reclaim_end(struct store *s);
/* store_put_rows(s, fill, arg, err): rows that no record makes, of tables that apply does not know, as ${fill} puts them: hints. They become
 * durable with a later flush, or never. */
int store_put_rows(struct store *s, void (*fill)(void *arg, struct kv *kv, struct kv_batch *b), void *arg, struct err *err);
/* store_trim(s, t, err): rows that no moment needs leave the index (index_trim), as if a record had done it; waits where changes would have to. */
int store_trim(struct store *s, const struct index_trim *t, struct err *err);
/* store_settle(s): nothing is changed for a while, it seems: the index is put in order behind, and takes less space. */
void store_settle(struct store *s);

/* store_roll(s, err): begin a new segment, so that what there is can be packed. */
int store_roll(struct store *s, struct err *err);
/* store_read_data(s, lsn, dstart, doff, len, out, nowait, err): data of a record, wherever they are now: as log_read_data. */
int store_read_data(struct store *s, uint64_t lsn, uint32_t dstart, uint32_t doff, uint32_t len, uint8_t *out, bool nowait, struct err *err);
/* store_try_data: the same, but damage is not noted for the other side to heal (it asks itself), and what is nowhere is NOENT. */
int store_try_data(struct store *s, uint64_t lsn, uint32_t dstart, uint32_t doff, uint32_t len, uint8_t *out, bool nowait, struct err *err);
/* store_has_data(s, lsn, doff, len, had, err): whether all of these bytes of a record's data are here, damaged or not. Errors: DAMAGE the tables cannot be read; IO, NOMEM. */
int store_has_data(struct store *s, uint64_t lsn, uint32_t doff, uint32_t len, bool *had, struct err *err);
const char *store_dir(struct store *s);

/* ---- progress ---- */

/* store_ready(s, w): true when a call that returned ERR_WAIT with ${w} is worth repeating (also after a failure). */
bool store_ready(struct store *s, const struct wait *w);
/* store_await(s, w): block until ready; drives the work itself where there are no threads. 0, or POISONED. */
int store_await(struct store *s, const struct wait *w);
/* store_apply(s, err): put everything pending into the index now (threads == false, or tests). */
int store_apply(struct store *s, struct err *err);
/* store_sync(s, err): everything answered so far is durable when it returns 0. */
int store_sync(struct store *s, struct err *err);
/* store_flush(s, err): make the index durable up to what is applied and durable. */
int store_flush(struct store *s, struct err *err);

/* store_watch(s, fd): add 1 to this eventfd (non-blocking) whenever something became durable or applied, or the store failed; BUSY: too many.
 * store_unwatch(s, fd): no more, once it returned. The descriptor is the caller's. */
int store_watch(struct store *s, int fd);
void store_unwatch(struct store *s, int fd);

/* ---- space ---- */

/*
 * store_space_look(s, sp): looks at the disk, *${sp}; to be called about each second. Makes the reserve where there is room. TIGHT: changes that need space are
 * refused (NOSPC) from now on; NONE: all changes are but those that end something; until a later look finds enough.
 * store_reserve_use(s): lets go of the reserve, for reclaim; false: there is none.
 * Threads: one.
 */
enum store_space { SPACE_ENOUGH, SPACE_TIGHT, SPACE_NONE };
enum store_space store_space_look(struct store *s, struct io_space_info *sp);
bool store_reserve_use(struct store *s);

/* ---- following ---- */

/*
 * store_follow(s, recs, len, err): of a standby, opened writable: the next records of its primary, one behind the other. Each is verified (form,
 * hash, place in the chain, sums of its data), appended, applied, and shown to the kernel before this returns; they are durable when
 * store_sync says so. On failure those before the one that failed count; log_head tells.
 * Errors: BADREC what is wrong with which; FENCED no standby; NOSPC; POISONED; IO.
 * Threads: one caller at a time.
 */
int store_follow(struct store *s, const uint8_t *recs, size_t len, struct err *err);
/* store_shown(s): below this address everything can be read, through a mount too. */
uint64_t store_shown(struct store *s);

/* ---- reading: ${at} is AT_LIVE or a moment ---- */

/* Errors of all: NOENT, NOTDIR, STALE (no such inode), DAMAGE, WAIT. `row` is filled in on success. Of a moment what is hidden (rows.h) is not there. */
int store_lookup(struct store *s, uint64_t at, uint64_t parent, const char *name, size_t nlen,
                 uint64_t *ino, struct row_ino *row, struct wait *wait);
int store_getattr(struct store *s, uint64_t at, uint64_t ino, struct row_ino *row, struct wait *wait);
/* store_readlink: writes at most ${cap} bytes, returns the length; INVAL when it is no symlink. */
int store_readlink(struct store *s, uint64_t at, uint64_t ino, char *buf, size_t cap, struct wait *wait);

struct dirent_out { uint64_t ino, cookie; uint32_t type; bool hidden; const char *name; size_t nlen; };  /* type: S_IFMT >> 12; hidden: of the live tree alone (rows.h) */
/* store_readdir: entries with cookie > ${after} in cookie order, until ${fn} returns nonzero (that entry counts as
 * not taken). "." and ".." are the caller's; cookies are >= LOG_FIRST_ADDR. fn runs without the store's lock. */
int store_readdir(struct store *s, uint64_t at, uint64_t ino, uint64_t after,
                  int (*fn)(void *arg, const struct dirent_out *d), void *arg, struct wait *wait);
/* store_read: up to ${len} bytes at ${off}; returns the bytes (short only at end of file). ISDIR, DAMAGE.
 * nowait: ERR_WAIT with wait->kind WAIT_NONE when the disk would have to be waited for: hand it to a slow thread. */
int64_t store_read(struct store *s, uint64_t at, uint64_t ino, uint64_t off, void *buf, size_t len,
                   bool nowait, struct wait *wait, struct err *err);
/* store_seek: SEEK_DATA / SEEK_HOLE; NXIO. */
int64_t store_seek(struct store *s, uint64_t at, uint64_t ino, uint64_t off, int whence, struct wait *wait);
/* store_getxattr: returns the length; with cap 0 only that; RANGE, NODATA. store_listxattr: NUL-terminated names. */
int64_t store_getxattr(struct store *s, uint64_t at, uint64_t ino, const char *name, void *buf, size_t cap, struct wait *wait);
int64_t store_listxattr(struct store *s, uint64_t at, uint64_t ino, char *buf, size_t cap, struct wait *wait);
/* store_parents: calls fn for each (parent, name) of ${ino}: hard links; for paths. */
int store_parents(struct store *s, uint64_t at, uint64_t ino,
                  int (*fn)(void *arg, uint64_t parent, const char *name, size_t nlen), void *arg, struct wait *wait);

/* ---- changing the live tree. Errors besides each one's own: ROFS, NOSPC, POISONED, WAIT, STALE ---- */

/* store_create_node: file, directory, symlink (${target}), device, fifo, socket. Applies umask or the parent's default
 * ACL, setgid inheritance. EXIST, NAMETOOLONG, NOTDIR, MLINK, INVAL. */
int store_create_node(struct store *s, const struct caller *c, uint64_t parent, const char *name, size_t nlen,
                      uint32_t mode, uint32_t rdev, const char *target, uint64_t *ino, struct row_ino *row, struct wait *wait);
int store_link_node(struct store *s, const struct caller *c, uint64_t ino, uint64_t parent, const char *name, size_t nlen,
                    struct row_ino *row, struct wait *wait);
/* store_unlink: dir = rmdir. NOTEMPTY, ISDIR, NOTDIR. *gone (may be NULL): set to the inode if it has no name left
 * (an orphan: the caller appends store_reap when nobody uses it any more), else 0. */
int store_unlink(struct store *s, const struct caller *c, uint64_t parent, const char *name, size_t nlen, bool dir,
                 uint64_t *gone, struct wait *wait);
/* store_rename: flags RRN_*. INVAL when a directory would move below itself; XDEV when one that is hidden (rows.h) would move, either way, to where it
 * would not be: what is in it has no history, and is not given one by being moved. *gone as above, for what was replaced. */
int store_rename(struct store *s, const struct caller *c, uint64_t src_parent, const char *src, size_t slen,
                 uint64_t dst_parent, const char *dst, size_t dlen, uint32_t flags, uint64_t *gone, struct wait *wait);
/* store_setattr: valid RSA_*; atime/mtime with nsec == TIME_NOW take the record's clock. FBIG, ISDIR. valid 0 logs nothing. */
#define TIME_NOW 0x3fffffffu
struct setattr_in { uint32_t valid, mode, uid, gid; uint64_t size; struct rec_time atime, mtime; };
int store_setattr(struct store *s, const struct caller *c, uint64_t ino, const struct setattr_in *in,
                  struct row_ino *row, struct wait *wait);
/* store_write: all of it or nothing; returns len. ${off} AT_END (UINT64_MAX): append at the size as of its LSN. FBIG. */
int64_t store_write(struct store *s, const struct caller *c, uint64_t ino, uint64_t off, const void *buf, size_t len,
                    struct wait *wait);
int store_fallocate(struct store *s, const struct caller *c, uint64_t ino, uint32_t mode, uint64_t off, uint64_t len,
                    struct wait *wait);
/* store_clone: share extents: ${src_at} AT_LIVE or a moment. Stops at the source's end of file; returns bytes. */
int64_t store_clone(struct store *s, const struct caller *c, uint64_t src_at, uint64_t src_ino, uint64_t src_off,
                    uint64_t dst_ino, uint64_t dst_off, uint64_t len, struct wait *wait);
/* flags XATTR_CREATE 1, XATTR_REPLACE 2. EXIST, NODATA, RANGE, NOTSUP (namespace). */
int store_setxattr(struct store *s, const struct caller *c, uint64_t ino, const char *name, const void *val, size_t len,
                   uint32_t flags, bool acl_kill_sgid, struct wait *wait);
int store_removexattr(struct store *s, const struct caller *c, uint64_t ino, const char *name, struct wait *wait);
/* store_reap: these orphans are used by nobody any more. Those that have a name again are left out. */
int store_reap(struct store *s, const uint64_t *inos, size_t n, struct wait *wait);

/* store_fsync: 0 when everything done to ${ino} (0: anything at all) is durable; else WAIT{DURABLE}, or with ${wait} NULL it is made so
 * by this thread (slow_now() before). The state becomes a version: the next change of ino begins a new burst. */
int store_fsync(struct store *s, uint64_t ino, struct wait *wait);
/* store_mark_version(s, ino): only that: the present state is a version, and the next change begins a burst. Lost at a restart. */
void store_mark_version(struct store *s, uint64_t ino);

struct statfs_out { uint64_t total, avail, files, files_free; };
int store_statfs(struct store *s, struct statfs_out *out);

/* ---- markers ---- */

/* store_snapshot: RSN_* actions; for CREATE ${at} AT_LIVE names the present (synced first), *at_out the moment. EXIST, NOENT. */
int store_snapshot(struct store *s, const struct caller *c, uint32_t action, const char *name, uint64_t at,
                   const char *reason, const char *person, int64_t until_ns, uint64_t *at_out, struct err *err);
int store_series(struct store *s, const struct caller *c, bool begin, const char *text, struct err *err);
/* store_canary(s, value, err): a CANARY record: a mark in the log that changes nothing. */
int store_canary(struct store *s, uint64_t value, struct err *err);
int store_mounted(struct store *s, uint64_t mount_id, bool mounted, const char *dir, struct err *err);
/* store_config: read or change a setting; persisted in the superblock at once. */
int store_config_get(struct store *s, const char *name, char *buf, size_t cap);
int store_config_set(struct store *s, const char *name, const char *value, struct err *err);
/* store_copies_heal(s, why, err): both copies of superblock and retained set, as they are on the disk: 0 they are whole; 1 one was not (*${why}), and is written anew where the store is writable. IO, NOMEM. */
int store_copies_heal(struct store *s, struct err *why, struct err *err);

#endif
