/*
 * packrig.h: packing a teststore whole, losing its index, and what must hold then; and the records of a store as its log had them, to be compared
 * with what archive, packs or another site make of them. Failures fail the test.
 */
#ifndef TESTS_LIB_PACKRIG_H
#define TESTS_LIB_PACKRIG_H

#include "store/maint/packer.h"
#include "tests/lib/pasttree.h"

enum { PACKRIG_RECORDS = 4000 };

/* packrig_start(t, p, seed, segment): a new store with segments of so many bytes; ${p} begins from ${seed}. */
void packrig_start(struct teststore *t, struct past *p, uint64_t seed, uint64_t segment);
/* packrig_open, packrig_close: of a store that lies on its disk. packrig_without_index: closed, the index thrown away, opened. */
void packrig_open(struct teststore *t);
void packrig_close(struct teststore *t);
void packrig_without_index(struct teststore *t);

/* What was packed: the sums of all steps. */
struct packrig_sum { struct packer_result r; unsigned steps; };
/* packrig_try(s, sum, err): upkeep_pack. packrig_pack: it succeeds, and the log holds nothing then. ${sum} may be NULL. */
int  packrig_try(struct store *s, struct packrig_sum *sum, struct err *err);
void packrig_pack(struct store *s, struct packrig_sum *sum);

/* packrig_well(p, s, when): all moments are what they were, all packs are whole, and no chain of differences is too long. */
void packrig_well(const struct past *p, struct store *s, const char *when);

struct packrig_records { struct { uint64_t lsn; uint32_t head_len, len; uint8_t *p; } v[PACKRIG_RECORDS]; unsigned n; };
/* packrig_note(w, s): those that the log has, data too, and ${w} has not. packrig_forget: frees them. */
void packrig_note(struct packrig_records *w, struct store *s);
void packrig_forget(struct packrig_records *w);
/* packrig_same(w, i, rec, head): it is the i-th. packrig_walk(w, s, from, each): the history of ${s} from the ${from}-th on is the same, to the end;
 * ${each} (may be NULL) is called before each step. packrig_walks: from many. */
void packrig_same(const struct packrig_records *w, unsigned i, const struct record *rec, const uint8_t *head);
void packrig_walk(const struct packrig_records *w, struct store *s, unsigned from, void (*each)(struct store *s, unsigned i));
void packrig_walks(const struct packrig_records *w, struct store *s);

#endif
