/*
 * site.h: a site, from here: spare's own commands and the plan's, run there. Here they are children; elsewhere ssh runs them. What a plan's step does goes through the same commands a person types,
 * so that the runbook and the engine cannot drift apart.
 */
#ifndef CLI_DR_SITE_H
#define CLI_DR_SITE_H

#include "cli/dr/plan.h"
#include "cli/dr/proc.h"

#include <jansson.h>

/* Who asks. */
struct site_view {
    const struct plan *plan;
    const struct plan_site *here;       /* this machine's */
    const char *run;                    /* the run's name, for commands; NULL */
    const volatile int *stop;           /* set: what runs is ended */
    const char *notes;                  /* where it is noted what runs (proc.h), for whoever goes on with the run; NULL: what runs ends with this process */
};

/* site_is_here(v, s): its commands are children: it is this site, or has no host. */
bool site_is_here(const struct site_view *v, const struct plan_site *s);
/* site_target(s, st): as `spare sync` on another site names it; malloced. From a site on the same machine it is a path. */
char *site_target(const struct plan_site *s, const struct plan_store *st);

/*
 * site_spare(v, s, argv, timeout_ms, out, err): `spare ARGV --json` there; argv without the program, NULL-ended.
 * 0, and *out its first object (NULL: it printed none). > 0: its exit status; ${err} has its message. AWAY: the site was not reached, or took too long. *out may be NULL.
 */
int site_spare(const struct site_view *v, const struct plan_site *s, const char *const argv[], int64_t timeout_ms, json_t **out, struct err *err);
/* site_spare_text(v, s, argv, timeout_ms, max, out, err): the same, with all it printed; malloced; NULL: there is none, or no memory. TOOLONG: it printed more than max bytes, and *out is NULL. */
int site_spare_text(const struct site_view *v, const struct plan_site *s, const char *const argv[], int64_t timeout_ms, size_t max, char **out, struct err *err);

/* site_command(v, at, other, command, log, timeout_ms, step, p, err): a command of the plan, started at ${at}; its output goes to ${log}. */
int site_command(const struct site_view *v, const struct plan_site *at, const struct plan_site *other, const char *command, const char *log, int64_t timeout_ms, const char *step,
                 struct proc *p, struct err *err);

/* How a store is. */
struct site_store {
    bool reached;               /* there is an answer */
    bool unfinished;            /* a promotion to a moment was cut off: its tree is neither */
    bool uncommitted;           /* it failed over, and nobody said that it is for good */
    bool lease_out;             /* a primary that takes no change until its standby answers */
    char role[16], state[48], lineage[40], mounted_at[512], why[256];
    uint64_t epoch, durable_lsn;
    uint64_t epochs_left;       /* cli/role.h */
    int64_t held_to_ms;         /* wall clock of the last record it holds, a standby up to then everything; -1: not known */
    int64_t lag_ms;             /* a primary: how far its nearest standby is behind; -1: none is there */
    uint64_t disk_free;
};

/* site_look(v, s, st, out): `spare status` there, within the site's contact-timeout (here: 30 s). What failed is in out->why. */
void site_look(const struct site_view *v, const struct plan_site *s, const struct plan_store *st, struct site_store *out);

#endif
