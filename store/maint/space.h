/*
 * space.h: what uses the space of a store, and what would give some back. Changes nothing; reads all rows of the past, once for each question.
 *
 * Threads: any.
 */
#ifndef STORE_MAINT_SPACE_H
#define STORE_MAINT_SPACE_H

#include "store/core/retain.h"
#include "store/maint/reclaim.h"

struct space_sizes {
    uint64_t present, past;          /* bytes of packs that the tree of today needs; that only moments kept need */
    uint64_t leaving;                /* that no listed moment needs: on its way out, or not made anew for so little */
    uint64_t tables;                 /* of packs: what leads to their data */
    uint64_t log, archive, index;    /* files of these */
    uint64_t reserve, other;
    uint64_t total;                  /* of them all: what the store takes on the disk */
    uint64_t linked;                 /* of total: files that a fork or a branch has, too (or, of a fork, the store it was made of): they give nothing back before these go */
    uint64_t forks;                  /* beside total: what forks and branches inside have that the store has not */
};
/* space_sizes(s, opt, out, err): ${opt}: stop and tell. Errors: as reclaim_measure. */
int space_sizes(struct store *s, const struct reclaim_options *opt, struct space_sizes *out, struct err *err);

/*
 * space_below(s, dir, opt, out, err): of what is or was below directory ${dir}, or of the file: what packs hold for it alone, today and in the past; and what it
 * shares with the rest. NOENT no such inode.
 */
struct space_below { uint64_t inodes, alone, shared; };
int space_below(struct store *s, uint64_t ino, const struct reclaim_options *opt, struct space_below *out, struct err *err);

/*
 * space_free(s, bytes, opt, out, err): the earliest moment so that letting go of all before it (but for snapshots and holds) makes packs give back ${bytes};
 * *${out}: that moment, how much, and how old the store was then. Where nothing frees so much: the present, and what that frees.
 */
struct space_free { uint64_t lsn, bytes, age_ns, now_age_ns; bool enough; unsigned looks; };
int space_free(struct store *s, uint64_t bytes, const struct reclaim_options *opt, struct space_free *out, struct err *err);

#endif
