/*
 * memfd.h: what outlives a worker: requests read and not answered, look-up counts, the saved INIT, the moment table.
 *
 * One memfd, made and mapped by the supervisor, inherited by each worker. It is sparse: only pages that were used exist.
 *
 *     head | slots | small buffers | past | large buffers | look-ups A | look-ups B
 *
 * A buffer whose fuse_in_header has len != 0 holds a request that may be unanswered (shim.h). Slot i belongs to
 * buffer i: large ones first, then small ones. Everything in here is trusted as our own writing, but for one
 * thing: a worker may have died between any two stores, so the order of stores matters where said so.
 *
 * Look-up counts: (inode, count, orphan) with open addressing. A count of 0 stays as a tombstone until the table is
 * rebuilt into the other region; the switch is one store. Each crash can only leave a count too high (an unlinked file
 * is then kept until the unmount), never too low.
 *
 * Locking: internal, process-local; leaf locks. Threads: any, unless said otherwise.
 */
#ifndef FS_MEMFD_H
#define FS_MEMFD_H

#include "fs/shim.h"
#include "store/base/err.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MEM_LAYOUT = 2,              /* changes whenever anything in here does, fs/past.c's part included: what `spare upgrade` compares */
    MEM_LARGE = 64,              /* buffers that hold any request */
    MEM_SMALL = 2048,            /* buffers of parked requests */
    MEM_SMALL_BYTES = 4096 + 128,/* a 4 KiB write with its head and the shim's tail */
    MEM_LOOKUPS_LOG2 = 24,       /* most look-up entries: 16 million inodes known to the kernel */
    MEM_PAST_BYTES = 64 << 20,   /* the moment table; its layout is fs/past.c's */
    MEM_CRASHES_MAX = 3,         /* a request seen in so many crashes is answered EIO */
};

enum mem_state { SLOT_FREE = 0, SLOT_RUNNING = 1, SLOT_PARKED = 2, SLOT_ANSWERING = 3 };

/* One request on its way through a worker. */
struct mem_slot {
    uint64_t unique;
    uint64_t lsn;                /* set by the store between append and apply (caller.lsn_out) */
    int32_t  result;             /* SLOT_ANSWERING: the errno it is answered with, 0 success */
    uint32_t state;
    uint32_t crashes;            /* workers that died while it was running */
    uint32_t pad[9];
};

struct mem_head {
    uint64_t magic;
    uint64_t mount_id;           /* random; the id of this mount's MOUNT record */
    uint64_t mount_lsn;          /* log head when the first worker had mounted: older records are not this mount's */
    _Atomic uint64_t acked_lsn;  /* highest LSN answered since a worker found the store whole; a recovery without it lost something */
    uint64_t acked_writer;       /* incarnation of that record */
    uint32_t workers;            /* workers started */
    uint32_t planned;            /* that many were, when the last of them was ended for another program: no crash of what it worked on */
    _Atomic uint64_t lookups;    /* region (bit 63) and log2 of its capacity */
    uint32_t fitted;             /* enum super_role that the kernel's flags of the mount are for; 0: no worker has served yet */
    uint32_t pad;
    struct shim_saved live, past;
};

/* mem_crashed(h): the worker before this one died of what it worked on, for all that is known. */
static inline bool mem_crashed(const struct mem_head *h) { return h->planned == 0 || h->planned + 1 != h->workers; }

struct mem;

/* mem_new(out, err): for the supervisor. NOMEM, IO. mem_free accepts NULL. */
int  mem_new(struct mem **out, struct err *err);
void mem_free(struct mem *m);
/* mem_fd(m): its descriptor. mem_adopt(fd, out, err): as mem_new, with the memory of another program's process; ${fd} is then its own. DAMAGE: it is
 * not such memory. */
int  mem_fd(const struct mem *m);
int  mem_adopt(int fd, struct mem **out, struct err *err);
struct mem_head *mem_head(struct mem *m);
/* mem_past(m): MEM_PAST_BYTES of zeroed memory that belong to fs/past.c. */
void *mem_past(struct mem *m);

/* mem_attach(m): in a new worker, single-threaded: forget what the process before knew of free buffers, look at the memory itself.
 * Buffers that hold a request are in use until mem_put. */
void mem_attach(struct mem *m);

/* Large buffers, for the shim. mem_get: 0 or -ENOBUFS. */
int  mem_get(void *mem, struct shim_buf *out);
void mem_put(void *mem, struct shim_buf *buf);
/* mem_get_small: a small buffer; -ENOBUFS. Given back with mem_put, too. */
int  mem_get_small(struct mem *m, struct shim_buf *out);

/* mem_slot_of(m, p): the slot of the buffer ${p} points into, NULL if it is none of ours. */
struct mem_slot *mem_slot_of(struct mem *m, const void *p);

/* mem_found(m, i, buf, slot): buffer number ${i} (0 .. MEM_LARGE + MEM_SMALL - 1): true and filled in if it holds a request. */
bool mem_found(struct mem *m, unsigned i, struct shim_buf *buf, struct mem_slot **slot);

/* ---- look-ups ---- */

/* lookups_add(m, ino, n): the kernel gets to know ${ino} ${n} times more. ERR_NOMEM when the table is full. */
int  lookups_add(struct mem *m, uint64_t ino, uint64_t n);
/* lookups_sub: it forgot; true when it was the last and ${ino} is an orphan: to be reaped. */
bool lookups_sub(struct mem *m, uint64_t ino, uint64_t n);
/* lookups_orphan: ${ino} lost its last name; true when nobody knows it: to be reaped now. */
bool lookups_orphan(struct mem *m, uint64_t ino);
/* lookups_named: it has a name again, or was reaped: no orphan any more. */
void lookups_named(struct mem *m, uint64_t ino);
/* lookups_list: up to ${cap} inodes the kernel knows (unused_orphans: orphans it does not know), from *${pos} (0 at first) on;
 * returns their number, 0 at the end. Changes meanwhile may be missed or seen twice. */
size_t lookups_list(struct mem *m, bool unused_orphans, size_t *pos, uint64_t *inos, size_t cap);

#endif
