/*
 * witness.h: the other site's word for a record: the heads of this site's records that it was shown, in its own state (sites/SITE/witness.PLAN@OF@RUN: "SEQ HASH KEY" a line), and its signature for the newest one.
 * Whoever has this site's key can make a record anew, or remove one; not what the other site remembers of it. Here it is known by the key the plan has, or by the first one it answered with (sites/SITE/seen.PLAN@OTHER). A run's commands show the head when they end, the report and `plan check` each time.
 */
#ifndef CLI_DR_WITNESS_H
#define CLI_DR_WITNESS_H

#include "cli/dr/run.h"

/* witness_key(r): the key this site's records are proven by: that of the plan, where it has one. */
const char *witness_key(const struct run *r);

/*
 * witness_ask(r, o, err): shows the other site the head. 0 and *o: what it says, its signature proven; "site", "key", "sig", "before" (lines of this record it knew: seq, hash), "runs" (the newest head of each run
 * of this site and plan it knows: run, seq, hash). AWAY: not reached. DAMAGE: it knows another record, or the record here is not what it countersigned.
 */
int witness_ask(struct run *r, json_t **o, struct err *err);
/* witness_newest(r, o, err): DAMAGE: it knows a run of this site that is newer than ${r}, and is not here any more. */
int witness_newest(const struct run *r, const json_t *o, struct err *err);
/* witness_end(r): when a command is through with a run. Best effort: a site that did not answer before is not asked. A record that is not the one the site knows is said. */
void witness_end(struct run *r);
/* witness_check(v, other, say, arg): every run of v->here that the site ${other} knows; say: one that is not here, or is another. 0: asked; AWAY. */
int witness_check(const struct site_view *v, const struct plan_site *other, void (*say)(void *arg, const char *text), void *arg, struct err *err);

#endif
