/*
 * loss.h: what was lost by a failover, exactly. It is known once the old primary is back: what it had beyond the moment at which the sites parted is a branch there. A rejoin that makes one writes down
 * from when to when that branch goes, how many operations made it, how many files differ at its end and how large they are, and keeps the list in the run's out/lost.STORE, with its hash in the record.
 */
#ifndef CLI_DR_LOSS_H
#define CLI_DR_LOSS_H

#include "cli/dr/run.h"

/* loss_before(r, s, there, err): before that store goes back: the branches it has, kept in the run's directory, so that a step that was cut off knows them too. Errors: AWAY, IO. */
int loss_before(struct run *r, const struct step *s, const struct plan_store *there, struct err *err);
/*
 * loss_after(r, s, there, more): after: "lost", an object, into ${more}: {"store", "site", "branch": null} where nothing was lost; else {"branch", "parted", "ends", "ms", "operations", "files", "bytes", "manifest_sha256"}: the last record that both have, the last operation on the branch (the latest clock of any), the time between;
 * {"known_by": RUN} where that rejoin before it, behind the same failover, told what there was, and there is nothing more; {"unknown": REASON} where it could not be asked, or the store had gone back before this run, and neither a branch nor a rejoin before tells of it. The run goes on: all that was there is kept.
 */
void loss_after(struct run *r, const struct step *s, const struct plan_store *there, json_t *more);

/* loss_of(r, err): of a failover, what the rejoins behind it wrote down, of each store what the first of them told; of a rejoin, what it did: an array of such objects, by store; empty: nothing is known yet. Owned by the caller. DAMAGE: the record of a rejoin. */
json_t *loss_of(const struct run *r, struct err *err);
/*
 * loss_manifest(lost, fn, arg, err): each line of the list of such an object, as `branch show --json` prints it. DAMAGE: it was changed since; nothing is given to fn.
 */
int loss_manifest(const json_t *lost, void (*fn)(void *arg, const json_t *line), void *arg, struct err *err);
/* loss_ms(r, all): the longest of them; 0: nothing was lost; -1: not known of each store of ${r}. */
int64_t loss_ms(const struct run *r, const json_t *all);

#endif
