/*
 * sweep.h: which rows of the past are still needed, and which data.
 *
 * A row or a piece that was in [birth, death) is needed if one of the moments kept lies in it: one at or above the horizon, or a point. What no moment
 * needs is given to the caller in portions, to be taken out of the index (index_trim); pieces that are needed are named one by one.
 *
 * All is seen as of one snapshot. What is not needed there will not be later: nobody can get at a moment that is not kept. A row that is not there
 * looks the same as one that nobody needs, so at the end what was seen is compared with what the index counts (struct row_meta): only if that
 * agrees may data be let go of.
 *
 * Threads: one for a sweep, beside all else.
 */
#ifndef STORE_INDEX_SWEEP_H
#define STORE_INDEX_SWEEP_H

#include "store/index/index.h"
#include "store/index/kv.h"
#include "store/index/rows.h"

/* The moments kept: all at or above ${horizon}, and ${point}, rising. */
struct keep { uint64_t horizon; const uint64_t *point; size_t n; };
/* keep_needs(k, birth, death): a moment kept lies in [birth, death). */
bool keep_needs(const struct keep *k, uint64_t birth, uint64_t death);

struct sweep_hooks {
    void *arg;
    /* a piece that is needed; of inode ${ino}; ${live}: by the present (then also, perhaps, by the past). Nonzero ends the sweep. */
    int (*on_piece)(void *arg, uint64_t ino, bool live, const struct piece *p);
};

struct sweep;
/* sweep_new(kv, keep, hooks, out, err): ${keep} is copied. ${hooks} may be NULL. NOMEM. */
int  sweep_new(struct kv *kv, const struct keep *keep, const struct sweep_hooks *hooks, struct sweep **out, struct err *err);
/*
 * sweep_step(w, rows, trim, err): the next ${rows} rows or some more. 1: there is more; 0: all were seen; *${trim} is what goes of them, valid until the next call.
 * Errors: DAMAGE, IO, NOMEM, what a hook returned.
 */
int  sweep_step(struct sweep *w, size_t rows, struct index_trim *trim, struct err *err);
/* sweep_whole(w, err): after the last step: what was seen is what the index counts. DAMAGE says what is missing. */
int  sweep_whole(const struct sweep *w, struct err *err);
struct sweep_seen { uint64_t rows, gone, applied; };     /* applied: all records below it are in what was seen */
void sweep_seen(const struct sweep *w, struct sweep_seen *out);
void sweep_free(struct sweep *w);

#endif
