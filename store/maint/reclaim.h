/*
 * reclaim.h: gives back what no moment needs any more: rows of the index, and data in packs. store/maint/DESIGN.md, "Reclaim".
 *
 * Threads: any; one at a time waits for the other.
 */
#ifndef STORE_MAINT_RECLAIM_H
#define STORE_MAINT_RECLAIM_H

#include "store/core/store.h"
#include "store/maint/packer.h"

struct reclaim_options {
    bool now;                        /* what is not listed any more goes without its grace; packs are made anew for less */
    const struct policy *policy;     /* instead of that of the settings; NULL: that */
    bool sweep;                      /* also if nothing left the retained set since the last time */
    bool base;                       /* a base is made also where no records can go for it, or it is larger than they */
    int (*stop)(void *arg);          /* asked often: nonzero ends it early, nothing is lost; may be NULL */
    void (*tell)(void *arg, const char *what, uint64_t done, uint64_t total);    /* may be NULL; total 0: not known */
    void *arg;
    struct needed *needed;           /* if not NULL: gets the records of the log whose data are needed */
    bool (*of)(void *of_arg, uint64_t ino);    /* reclaim_measure: data of these inodes alone; NULL: of all */
    void *of_arg;
};

struct reclaim_result {
    bool     swept;                  /* all rows were seen */
    uint64_t rows, rows_gone;
    uint64_t packs, packs_gone;      /* made anew; files they took the place of */
    uint64_t bytes_before, bytes_after;      /* of all packs */
    uint64_t needed;                 /* bytes of frames in packs that are needed */
    uint64_t base_bytes;             /* of a new base; 0: none was made */
    uint64_t archive_gone;           /* bytes of archive files it took the place of */
};

/*
 * reclaim(s, opt, res, err): the retained set is brought up to date, then rows, then packs. BUSY: told to stop. Errors: DAMAGE (the index does not have what it
 * counts, or data that are needed are not there: then no data go), NOSPC, IO, NOMEM, ROFS.
 */
int reclaim(struct store *s, const struct reclaim_options *opt, struct reclaim_result *res, struct err *err);

/*
 * reclaim_measure(s, keep, opt, out, err): what packs would need if that were kept; changes nothing. Whole rows are read. BUSY, DAMAGE, IO, NOMEM as above.
 */
struct keep;
struct reclaim_sizes { uint64_t stored, needed; };       /* bytes of frames in packs */
int reclaim_measure(struct store *s, const struct keep *keep, const struct reclaim_options *opt, struct reclaim_sizes *out, struct err *err);

#endif
