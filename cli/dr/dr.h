/*
 * dr.h: what `spare dr` does, a function for each of its words. Each returns the exit code; what goes wrong is said by out.h.
 */
#ifndef CLI_DR_DR_H
#define CLI_DR_DR_H

#include "cli/dr/plan_find.h"
#include "cli/out.h"

#include <limits.h>

struct dr_options {
    const char *plan;           /* a name, a store, a file; NULL: the only one */
    const char *site;           /* --site: which site this is, or which is meant */
    const char *run;            /* --run: by default the one that is open, else the last */
    const char *accept_loss;    /* --accept-loss: a time, or "any" */
    const char *since;          /* --since: when the primary went away, RFC 3339 */
    const char *at;             /* --at: the moment whose tree the stores shall have, RFC 3339 */
    const char *prefer;         /* --prefer: rpo, rto */
    const char *step;           /* --step: ack of a manual step */
    const char *person;         /* --by */
    const char *reason;         /* --reason */
    bool unfenced;              /* --unfenced */
    bool html;                  /* --html */
    bool keep;                  /* --keep: the runbook into this machine's state, and into the store where it is mounted */
    bool failed;                /* --failed: ack of a manual step that could not be done */
    bool quick;                 /* --quick: plan check without hooks and notices */
    bool again;                 /* --new: a run of its own, though one is open */
};

/* 0 ready, 3 warnings, 1 problems. */
int dr_plan_check(const struct dr_options *o);
int dr_plan_show(const struct dr_options *o);
int dr_plan_runbook(const struct dr_options *o);
/* runbook_keep(p, src, dir, err): both forms, as STATE/runbooks/PLAN.txt and .html, where they differ from what is there; the directory in ${dir}. */
int runbook_keep(const struct plan *p, const struct plan_source *src, char dir[PATH_MAX], struct err *err);
/* Of failover, switchover: 0 up; 1 stopped; 20, 21 up, but RPO or RTO missed (20: or not known); 23 refused. The same command goes on with what was stopped or killed. */
int dr_failover(const struct dr_options *o);
int dr_switchover(const struct dr_options *o);
int dr_rejoin(const struct dr_options *o);
int dr_commit(const struct dr_options *o);
int dr_rollback(const struct dr_options *o);
int dr_ack(const struct dr_options *o);
int dr_list(const struct dr_options *o);
/* 13: the record was changed, or is not all there. */
int dr_report(const struct dr_options *o);
/* Not for people: at the other site, its word for a record's head. */
int dr_countersign(const struct dr_options *o);
/* Not for people: the process beside a run. */
int dr_keep(const struct dr_options *o);

#endif
