/*
 * anew.h: a standby that cannot go on from what it has (its primary let go of what it lacks, or it cannot go back to where they part) is made anew beside itself, in incoming/, while it stays
 * what it is; then the new one takes its place, and all it had becomes a branch (branch.h).
 */
#ifndef STORE_CORE_ANEW_H
#define STORE_CORE_ANEW_H

#include "store/core/rewind.h"

#define ANEW_DIR "incoming"

/*
 * anew_begin(io, err): what is in incoming/ is of a try that was cut off in the middle and may be gone on with, or goes; the directory is there. IO.
 */
int anew_begin(struct io *io, struct err *err);

/*
 * store_anew(io, dir, both, branch, err): the store that was made in incoming/ takes the place of this one, which nobody has open and which was closed cleanly: a standby. It keeps its site,
 * its place and its settings. ${both}: the last record of which it was found that both have it; 0: of none; UINT64_MAX: nothing speaks against what the
 * epochs say. ${branch}: what it was is called so from now on. The next open makes the index. Every step can be repeated: what a crash leaves is the store of before, or an
 * open that writes does the rest (anew_finish).
 * Errors: LOCKED; INVAL it is no such store, or nothing was made; NOSPC, IO, DAMAGE.
 */
int store_anew(struct io *io, const char *dir, uint64_t both, char branch[BRANCH_NAME_MAX], struct err *err);

#endif
