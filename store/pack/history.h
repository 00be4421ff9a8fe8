/*
 * history.h: every record that a store has, in order: those of the log, before them the archive's. And which files of the archive count.
 *
 * Where both have a record the log is asked. A record that leaves the log is in the archive before, so that a reader who finds it gone goes on there.
 *
 * Locking: one internal mutex, a leaf but for history_record, which reads under it (another one, of its own). Threads: any; an iterator belongs to one.
 */
#ifndef STORE_PACK_HISTORY_H
#define STORE_PACK_HISTORY_H

#include "store/base/super.h"
#include "store/log/log.h"

struct history;

/*
 * history_open(io, log, sb, out, err): lists archive/ (none is fine). ${sb}: lineage and epochs, copied. ${log} stays the caller's and lives longer.
 * history_epochs(h, sb): the table of epochs has changed.
 * Errors: IO, NOMEM.
 */
int  history_open(struct io *io, struct log *log, const struct super *sb, struct history **out, struct err *err);
void history_epochs(struct history *h, const struct super *sb);
void history_close(struct history *h);

/* history_first(h): the lowest address of a record that is had. history_end(h): behind the last one that the archive has end to end from
 * its first on; 0: none. history_next_gen: for a new file. history_added: it is durable, and counts from here on. */
uint64_t history_first(struct history *h);
uint64_t history_end(struct history *h);
uint64_t history_next_gen(struct history *h);
int      history_added(struct history *h, uint64_t first, uint64_t end, uint64_t gen, struct err *err);

/*
 * history_let_go(h, upto, err): files of the archive that have nothing at or above ${upto} go, but for the last one. What a base has must be durable before.
 * An iterator in the middle of one reads it to its end. Returns the bytes that went. IO.
 */
int64_t history_let_go(struct history *h, uint64_t upto, struct err *err);
/* history_older(h, upto, first, least): bytes of the files that history_let_go would remove. *${first}: the address from which on records stay; *${least}: what it is to be given later, for these files and no others; 0: there are none. */
uint64_t history_older(struct history *h, uint64_t upto, uint64_t *first, uint64_t *least);

/* history_file_of(h, addr, f): the file of the archive that has ${addr}; false: none. */
struct history_file;
bool     history_file_of(struct history *h, uint64_t addr, struct history_file *f);

/*
 * history_open_file(h, addr, f, out, warn, err): the file that has ${addr}, *${f}, as archive_open opens it; of one that is made anew, or let go of, meanwhile what counts then. *${out} is NULL on failure. Errors: NOENT no file that
 * counts has it; DAMAGE, also where the one that counts is gone; VERSION, IO, NOMEM.
 */
struct archive;
int      history_open_file(struct history *h, uint64_t addr, struct history_file *f, struct archive **out, struct err *warn, struct err *err);

/* history_files(h, fn): calls fn for each archive file that counts, by address; nonzero stops and is returned. */
struct history_file { uint64_t first, end, gen, own_end; };    /* end: where it counts to; own_end: as in its name */
int  history_files(struct history *h, int (*fn)(void *arg, const struct history_file *f), void *arg);

/*
 * Records from ${from}, a place where one may begin, up to below ${until} (at most what is written), without data. As log_iter_next: 1, 0, < 0.
 * *${head} (may be NULL): its head_len bytes. Errors: DAMAGE, also a gap; NOENT they were let go of meanwhile; IO; NOMEM.
 */
struct history_iter;
int  history_iter_new(struct history *h, uint64_t from, uint64_t until, struct history_iter **out, struct err *err);
int  history_next(struct history_iter *it, struct record *rec, const uint8_t **head, struct err *err);
void history_iter_free(struct history_iter *it);

/* history_record(h, lsn, rec, buf, err): as log_read_record, without data. NOENT no record that is had begins there. */
int  history_record(struct history *h, uint64_t lsn, struct record *rec, void **buf, struct err *err);

/* history_behind(h, end, lsn, hash, err): which record ends at ${end}, and its hash, by what the one behind it says: log_behind, and what the archive has. Errors: NOENT, as history_record, IO, DAMAGE, NOMEM. */
int  history_behind(struct history *h, uint64_t end, uint64_t *lsn, struct hash128 *hash, struct err *err);

/*
 * history_before(h, addr, out, err): the last record that ends at or below ${addr}: where it begins and ends, and its hash. NOENT there is none that is had. Reads up to a segment of the log, or a
 * file of the archive.
 */
struct history_place { uint64_t lsn, end; struct hash128 hash; };
int  history_before(struct history *h, uint64_t addr, struct history_place *out, struct err *err);

#endif
