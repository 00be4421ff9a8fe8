/*
 * log_internal.h: what the files of the log share. DESIGN.md has the invariants.
 *
 * Lock order: drop_lock, make_lock, then mutex. The mutex is a leaf: no I/O and no other
 * lock is taken while it is held. A field's comment names its lock; fields
 * without one do not change after log_open.
 */
#ifndef STORE_LOG_LOG_INTERNAL_H
#define STORE_LOG_LOG_INTERNAL_H

#include "store/base/super.h"
#include "store/log/frame.h"
#include "store/log/log.h"
#include "store/log/segment.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    LOG_RING        = 4096,         /* appends between begin and the end of their write */
    LOG_OPEN_MAX    = 256,          /* segment files kept open beyond those in use */
    LOG_SEGMENT_DEF = 64 << 20,
    LOG_WINDOW      = 128 << 10,    /* bytes read at a time when walking */
    LOG_SMALL_SYNC  = 64 << 10,     /* bytes a sync makes durable, when it counts as small */
    LOG_ZERO_PIECE  = 256 << 10,    /* so much at a time */
};
#define LOG_NEXT "log/next"         /* a segment in the making; has no meaning until renamed */
#define LOG_HEALED "log/healed"     /* the same of one that was gone */

struct segment {
    uint64_t first, gen;
    uint64_t end;               /* mutex; where the next one begins, UINT64_MAX for the last */
    uint64_t capacity;          /* these two where header_known, which they do not change behind */
    uint64_t incarnation;
    uint64_t cut;               /* from here on its file has records of another timeline, UINT64_MAX: nowhere; set by log_open */
    _Atomic bool header_known;  /* its header was read and is good; set under the mutex, read anywhere */
    bool     header_bad;        /* it was read and is damaged */
    bool     reserved;          /* make_lock; disk space for all of capacity is allocated */
    bool     dropped;           /* mutex; log_drop took it out of the table: its name is gone, or will be */
    bool     pinned;            /* mutex; holds a ref while it is current or not wholly durable */
    struct io_file *file;       /* mutex; NULL while closed */
    unsigned refs;              /* mutex; users of file */
    uint64_t used;              /* mutex; stamp of the last use */
};

struct log {
    struct io *io;
    struct log_options opt;
    uint8_t  lineage[16], site[16];
    uint8_t  of_epoch[SUPER_EPOCHS_MAX][16];   /* lineages of the rows: segments from before a fork are of another */
    uint32_t n_epochs;
    uint32_t key_id;
    bool     writable;
    uint64_t max_gen;           /* make_lock; largest generation ever seen */

    pthread_mutex_t drop_lock;  /* letting segments go; before make_lock */
    pthread_mutex_t make_lock;  /* making segments */
    bool     swept;             /* make_lock; log/ has no file that a newer one covers, and none comes back with a power cut */
    struct io_file *next;       /* make_lock; a segment prepared as LOG_NEXT, or NULL */
    uint64_t next_capacity;     /* make_lock */

    pthread_mutex_t mutex;
    pthread_cond_t  changed;    /* mutex; written, durable, switching, syncing or poisoned changed */
    struct segment **segs;      /* mutex; by first address */
    size_t   n_segs, cap_segs;
    struct segment **dead;      /* mutex; replaced while open; freed by log_close */
    size_t   n_dead;
    struct segment **open;      /* mutex; those with a file */
    size_t   n_open, cap_open;
    uint64_t stamp;             /* mutex */
    struct segment *cur;        /* mutex; the last of segs */

    uint32_t epoch;             /* mutex */
    uint8_t  epoch_id[16];      /* mutex */
    uint64_t incarnation;       /* mutex */
    _Atomic uint64_t head, written, durable;    /* written under the mutex, read anywhere */
    uint64_t last_lsn;          /* mutex */
    struct hash128 last_hash;   /* mutex */
    bool     switching;         /* mutex; head stands still while the next segment is made */
    bool     syncing;           /* mutex; one thread is in fdatasync */
    bool     finished;          /* mutex; log_finish was called */
    unsigned small_syncs;       /* mutex; in a row */
    uint64_t zeroed;            /* mutex; up to this address the blocks were written */
    uint64_t zeroing;           /* mutex; from this address zeros are being written, UINT64_MAX none: no append may reach it */
    unsigned waiters;           /* mutex; of changed */
    _Atomic int poisoned;

    uint32_t ring_head, ring_tail;              /* mutex; free running */
    struct { uint64_t end; bool done; } ring[LOG_RING]; /* mutex */
};

/* --- log.c: the table of segments and their files ------------------------- */

/* log_alloc(io, sb, opt): a log of that store, with nothing in it; log_close. NULL when out of memory. log_epoch_at(log, sb, addr): what is written next is of the epoch of that address. */
struct log *log_alloc(struct io *io, const struct super *sb, const struct log_options *opt);
void log_epoch_at(struct log *log, const struct super *sb, uint64_t addr);

/* log_poison(log): nothing is acknowledged from here on; wakes every waiter. Takes the mutex. */
void log_poison(struct log *log);
/* log_wait_locked(log): wait for `changed`. */
void log_wait_locked(struct log *log);
/* log_wake_locked(log): wake those who wait for `changed`. */
void log_wake_locked(struct log *log);

/* log_add_locked(log, seg): append to the table, which has room (log_grow); it becomes cur. */
void log_add_locked(struct log *log, struct segment *seg);
/* log_unpin_locked(log, seg): let go of its file if it is not current and wholly durable. */
void log_unpin_locked(struct log *log, struct segment *seg);
/* log_open_remove_locked(log, seg): out of the table of open files; the file is the caller's. */
void log_open_remove_locked(struct log *log, struct segment *seg);
/* log_evict_locked(log): with too many files open, take that of the least recently used idle segment out
 * of the table: the caller closes it without the mutex. NULL: none. */
struct io_file *log_evict_locked(struct log *log);
/* log_grow(log): make room for one more segment in the table and for all of them among the dead. NOMEM.
 * Not under the mutex. */
int log_grow(struct log *log, struct err *err);
/* log_segment_new(log, h, file): a segment of the header ${h}; NULL when out of memory. */
struct segment *log_segment_new(const struct segment_header *h, struct io_file *file);

/* log_hold(log, addr, out, err): the segment that covers ${addr}, its file open. Release it.
 * Errors: NOENT below the first address; IO. */
int log_hold(struct log *log, uint64_t addr, struct segment **out, struct err *err);
void log_release(struct log *log, struct segment *seg);
/* log_segment_end(log, seg): where it ends for good, UINT64_MAX for the last. */
uint64_t log_segment_end(struct log *log, const struct segment *seg);
/* log_read_header(log, seg, h, err): read and check the header of a held segment against its name and
 * the store; sets what is known of ${seg}. Errors: DAMAGE, VERSION, IO. */
int log_read_header(struct log *log, struct segment *seg, struct segment_header *h, struct err *err);
/* log_forget(log, seg, err): drop from the table (not its file on disk). Takes the mutex. */
void log_forget(struct log *log, struct segment *seg);
/* log_unlink(log, first, gen): remove a superseded file; failure does no harm and is not reported. */
void log_unlink(struct log *log, uint64_t first, uint64_t gen);

/* --- log_make.c: new segments --------------------------------------------- */

/* log_next_open(log, capacity, reserve, err): log->next becomes a fresh file, synced, with the
 * space of header and (with ${reserve}) capacity allocated. make_lock (or sole owner). */
int log_next_open(struct log *log, uint64_t capacity, bool reserve, struct err *err);
void log_next_drop(struct log *log);
/* log_trim(f, bytes, err): gives back what a segment has behind ${bytes}; nothing where a branch has a link to it. */
int log_trim(struct io_file *f, uint64_t bytes, struct err *err);
/* log_header_fill(log, h): store identity, writer and time; the caller sets the rest. */
void log_header_fill(struct log *log, struct segment_header *h);
/* log_cover(log, first, err): a new segment in the place of the current one, which begins @${first} and holds nothing; that one goes, with its file. Errors: BUSY it holds something by now, or the log is being closed; as log_roll. */
int log_cover(struct log *log, uint64_t first, struct err *err);
/* log_publish(log, h, out, err): write ${h} to log->next, sync, rename, sync the directory. After it the
 * segment exists for good. On failure nothing is known: poison. */
int log_publish(struct log *log, const struct segment_header *h, struct segment **out, struct err *err);

/* --- log_scan.c: one record where it lies --------------------------------- */

struct log_window {
    uint8_t *buf;
    size_t   cap, len;
    uint64_t gen, off;          /* of what buf holds */
    size_t   step;              /* bytes to read at a time; 0: LOG_WINDOW */
};
void log_window_release(struct log_window *w);
/* log_window_get(w, seg, off, n, p, got, err): *${got} <= ${n} bytes of the held ${seg}'s file at ${off}
 * (fewer only at the end of the file); *${p} is good until the next call. */
int log_window_get(struct log_window *w, struct segment *seg, uint64_t off, size_t n,
                   const uint8_t **p, size_t *got, struct err *err);

/* What is wrong at a place. */
struct log_bad {
    bool blank;                 /* nothing was ever written here: zeros, the end of the file, or a
                                   frame of an earlier use of these blocks */
    uint64_t span;              /* bytes the record claims, 0 unknown */
    uint64_t offset;            /* in the segment file */
    char why[ERR_MSG_MAX / 2];
};

/* log_frame_at(seg, pos, buf, f): true iff ${buf} is a frame this segment's writer put at ${pos}, on this store's timeline. */
bool log_frame_at(const struct segment *seg, uint64_t pos, const uint8_t *buf, struct frame *f);
/*
 * log_scan(w, seg, pos, limit, f, rec, raw, bad, err):
 * Look at the record at ${pos} of a held segment, which must end by ${limit}: frame, head, hash.
 * 1 good (*${raw}: its frame and head in the window), 0 not (*${bad} says why), < 0 IO, NOMEM.
 */
int log_scan(struct log_window *w, struct segment *seg, uint64_t pos, uint64_t limit, struct frame *f,
             struct record *rec, const uint8_t **raw, struct log_bad *bad, struct err *err);
/* log_scan_data(...): after log_scan, the data too: 1 and rec->data (and rec's other pointers, and *raw)
 * set anew, 0 bad, < 0 IO, NOMEM. */
int log_scan_data(struct log_window *w, struct segment *seg, uint64_t pos, struct record *rec,
                  const uint8_t **raw, struct log_bad *bad, struct err *err);
/* log_bad_set(err, seg, bad): the ERR_DAMAGE message for it. */
int log_bad_set(struct err *err, const struct segment *seg, const struct log_bad *bad);

/* --- log_recover.c, log_seal.c --------------------------------------------- */

struct log_end {                /* what the scan found */
    bool clean;
    uint64_t copy_from;         /* the first record not proven durable, or the cut */
    uint64_t copy_prev_lsn;     /* the record below it */
    struct hash128 copy_prev_hash;
};
/* log_recover(log, sb, known_durable, rec, end, err): find the end; reads only. Sets head, written, durable
 * and last of ${log}, forgets segments beyond the end. */
int log_recover(struct log *log, const struct super *sb, uint64_t known_durable, struct log_recovery *rec,
                struct log_end *end, struct err *err);
/* log_seal(log, end, rec, err): after an unclean stop: copy [copy_from, cut) into a new segment. */
int log_seal(struct log *log, const struct log_end *end, struct log_recovery *rec, struct err *err);

static inline uint64_t segment_offset(const struct segment *seg, uint64_t addr)
{
    return SEGMENT_HEADER_BYTES + (addr - seg->first);
}

static inline struct hash128 hash128_none(void)
{
    struct hash128 h = { { 0 } };
    return h;
}

/* --- log_anew.c: segments that are gone ------------------------------------ */

/* log_writer(log): the incarnation of what is appended. */
uint64_t log_writer(struct log *log);

/* log_part(log, sb): of files that went on another way than this store did (it went back; a branch may have a link to them) what lies behind is not its. By log_open, before anything is scanned. */
void log_part(struct log *log, const struct super *sb);

/* log_header_say(log, sb, rec, first, gen, capacity, incarnation, h): the header of a segment that begins with ${rec} (its lsn, epoch, wall_ns, prev_*). What cannot be known any more (when it was made, what was before it and is gone) nobody asks for. */
void log_header_say(struct log *log, const struct super *sb, const struct record *rec, uint64_t first, uint64_t gen, uint64_t capacity, uint64_t incarnation, struct segment_header *h);

/* log_no_bytes(log, addr): where the file that has ${addr} is gone, or ends before it, the address from which on another one has them; else ${addr} + 8. */
uint64_t log_no_bytes(struct log *log, uint64_t addr);

/*
 * log_look_gone(log, addr, g, err): what is known of the segment that has ${addr} by its name, and whether there was another one between it and the next. log_is_gone(g, rec): whether that record lay in a file that is gone.
 * Errors: DAMAGE it is the newest one that is gone; IO. log_gone_from(g, lsn): the heads from ${lsn} on go up to the next segment: of a file that is shared nobody knows where it ended, so these become one of their own.
 * log_segment_anew(log, sb, g, heads, len, err): that file once more, of these heads, from the first on: returns the bytes of them that are in it. Durable under its name on return. Takes drop_lock, make_lock.
 * Errors: DAMAGE they are not all of it, or no generation is free for it; IO, NOSPC, NOMEM: nothing has its name (but after a power cut it may be there, whole).
 */
struct log_gone { uint64_t first, gen, next, next_gen; bool whole, shared; uint64_t from, from_gen, room; };     /* whole: its own file; shared: a branch has it, too, and more may have been behind it; from: where another one began; room: what begins, or ends, behind is not in this one */
int     log_look_gone(struct log *log, uint64_t addr, struct log_gone *g, struct err *err);
bool    log_is_gone(const struct log_gone *g, const struct record *rec);
void    log_gone_from(struct log_gone *g, uint64_t lsn);
int64_t log_segment_anew(struct log *log, const struct super *sb, const struct log_gone *g, const uint8_t *heads, size_t len, struct err *err);

#endif
