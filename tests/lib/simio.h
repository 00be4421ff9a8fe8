/*
 * simio.h: a disk in memory behind the io table, for deterministic simulation.
 *
 * Every file has what a process sees and what the disk holds. pwritev, ftruncate
 * and the calls that change names are pending until fdatasync of the file or
 * syncdir of the directory, and may be lost, kept, torn (at 512 bytes) or
 * reordered by a power cut. Strict where file systems may be: fdatasync of a new file
 * does not make its name durable, only syncdir of its directory does.
 *
 * The same calls with the same seed give the same bytes, clocks and ids. A test
 * runs once, takes simio_clone at any point, and explores as many cuts as it
 * likes: pages are shared until written.
 *
 *   struct simio *sim = simio_new(seed);
 *   store_open(simio_io(sim), ...); ...
 *   struct simio *s = simio_clone(sim);
 *   simio_cut(s, 17, SIMIO_CUT_RANDOM);
 *   store_open(simio_io(s), ...);     recovery sees the surviving image
 *
 * The struct io of a sim lives as long as the sim: ops->free does nothing, so that a store may be
 * closed and opened again on it. simio_free releases all.
 *
 * Threads: all calls take one mutex of the sim; clones share only pages, with
 * atomic counts, and may be used by different threads. With several threads
 * in one sim the order of their calls, hence the result, is theirs.
 */
#ifndef TESTS_LIB_SIMIO_H
#define TESTS_LIB_SIMIO_H

#include "store/base/io.h"

#include <stdbool.h>
#include <stdint.h>

struct simio;

/* Kinds of calls, for counters and faults. */
#define SIMIO_CALLS(X)                                                        \
    X(OPEN) X(CREATE) X(PREAD) X(PREAD_NOWAIT) X(PWRITEV) X(FDATASYNC)        \
    X(FTRUNCATE) X(ALLOCATE) X(FSTAT) X(STAT) X(MKDIR) X(RENAME) X(LINK)      \
    X(UNLINK) X(SYNCDIR) X(LIST) X(SPACE) X(LOCK)

enum simio_call {
    SIMIO_ANY,              /* every call */
    SIMIO_MUTATING,         /* every call that may change the disk; see simio_mutations */
#define X(name) SIMIO_##name,
    SIMIO_CALLS(X)
#undef X
    SIMIO_N_CALLS
};

enum simio_cut_mode {
    SIMIO_CUT_DROP_ALL,     /* only what was synced survives */
    SIMIO_CUT_KEEP_ALL,     /* everything survives */
    SIMIO_CUT_PREFIX,       /* pending changes of the whole disk survive up to one in their order, that one torn */
    SIMIO_CUT_RANDOM,       /* each page, size and name on its own: any pending version, mixed by sectors */
    SIMIO_N_CUT_MODES
};

/* simio_new(seed): an empty store directory; boot clock 1 s, wall clock 2026-01-01. Aborts without memory,
 * as everything here does. */
struct simio *simio_new(uint64_t seed);
void simio_free(struct simio *sim);
struct io *simio_io(struct simio *sim);
/* simio_of(io): the sim behind an io made here. */
struct simio *simio_of(struct io *io);

/*
 * simio_clone(sim): an independent disk in the same state: what is visible, what is durable, what is
 * pending, clocks, PRNG, counters, space. No file is open in it and no lock held (as after simio_kill);
 * faults, cut_at and planted bugs are not taken over.
 */
struct simio *simio_clone(struct simio *sim);

/*
 * simio_cut(sim, seed, mode): the power fails. What survives, chosen by ${seed}, is from then on both visible and
 * durable. Files open before fail every call with ERR_IO (io_close still frees them); locks are free;
 * faults and cut_at are cleared; the boot clock starts again.
 */
void simio_cut(struct simio *sim, uint64_t seed, enum simio_cut_mode mode);

/* simio_kill(sim): the process dies, the machine stays: all is visible as it was, pending stays pending.
 * Open files, locks, faults and cut_at as above. */
void simio_kill(struct simio *sim);

/*
 * simio_cut_at(sim, n): from the n-th mutating call from now on (1 = the next) every call fails with ERR_IO and
 * changes nothing; the n-th itself may have happened whole, in part (a write) or not at all, and a
 * sync has not. The test then calls simio_cut or simio_kill. 0 switches off.
 * simio_dead(sim): whether that point was reached.
 */
void simio_cut_at(struct simio *sim, uint64_t n);
bool simio_dead(struct simio *sim);

/*
 * simio_fail_at(sim, kind, n, code): the n-th call of ${kind} from now (1 = the next) fails with ${code}, once.
 * A failed pwritev may have written a part. A failed fdatasync gives up the dirty pages of its file: each
 * stays visible, but either reached the disk or will not until it is written again (and simio_evict
 * shows which). Other failed calls change nothing. Up to 16 may be armed.
 * simio_fail_from: the same for the n-th and all later ones. simio_fail_clear: disarm all.
 */
void simio_fail_at(struct simio *sim, enum simio_call kind, uint64_t n, int code);
void simio_fail_from(struct simio *sim, enum simio_call kind, uint64_t n, int code);
void simio_fail_clear(struct simio *sim);

/* simio_evict(sim): the kernel drops clean pages: those a failed fdatasync gave up show the disk again. */
void simio_evict(struct simio *sim);

/* simio_calls(sim, kind): how often it was called, failed calls included. simio_mutations: SIMIO_MUTATING. */
uint64_t simio_calls(struct simio *sim, enum simio_call kind);
uint64_t simio_mutations(struct simio *sim);
const char *simio_call_name(enum simio_call kind);

/* simio_set_space(sim, bytes): size of the disk for ENOSPC; 0 (default): unlimited. Full pages of 4 KiB count. */
void simio_set_space(struct simio *sim, uint64_t bytes);
uint64_t simio_used(struct simio *sim);

/* Clocks: wall may jump anywhere; boot only goes on. simio_tick: every clock reading also advances both. */
void simio_set_wall(struct simio *sim, int64_t wall_ns);
void simio_advance(struct simio *sim, uint64_t ns);
void simio_tick(struct simio *sim, uint64_t ns_per_call);

/* simio_nowait_misses(sim, percent): how many pread_nowait calls answer ERR_WAIT (default 0). */
void simio_nowait_misses(struct simio *sim, unsigned percent);

/*
 * Planted bugs: the call answers 0 and does nothing, for every path that begins with ${prefix} ("" all,
 * NULL: off). A test that still passes with one proves nothing.
 */
void simio_bug_skip_sync(struct simio *sim, const char *prefix);
void simio_bug_skip_syncdir(struct simio *sim, const char *prefix);

/* simio_flip(sim, path, off, mask): damage: XOR a byte of a file, on disk and in view. False: no such byte. */
bool simio_flip(struct simio *sim, const char *path, uint64_t off, uint8_t mask);

/* simio_digest(sim): 64 bits over all names, sizes and bytes in view; equal disks have equal digests. */
uint64_t simio_digest(struct simio *sim);
/* simio_pending(sim): pending changes; 0: a cut loses nothing. */
uint64_t simio_pending(struct simio *sim);

#endif
