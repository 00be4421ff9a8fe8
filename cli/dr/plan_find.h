/*
 * plan_find.h: where a plan is. It lies in the store it protects, at PLAN_PATH, so that every standby has it; commands find it in any store of this machine, whether it
 * is mounted or not, or by path.
 */
#ifndef CLI_DR_PLAN_FIND_H
#define CLI_DR_PLAN_FIND_H

#include "cli/dr/plan.h"

struct plan_source {
    char *text;
    size_t len;
    char *from;                 /* as messages name it: a path, or STORE/.spare/plan.yaml */
    char *store;                /* the store it lies in; NULL: a file that is in none */
};

/*
 * plan_find(arg, src, err):
 * ${arg} a file: that one. A directory: the plan of the store it is, or is in. Else a name, of a plan or of its store: looked for in the store of the current directory, $SPARE_STORE, every store
 * that is mounted here, those below /var/lib/spare/stores and ~/.local/share/spare, and those noted by plan_note. NULL: the only plan these have.
 * Errors: NOENT none, or none of that name (the message lists what was looked at); USAGE there are several and none was named; IO, NOSTORE.
 */
int plan_find(const char *arg, struct plan_source *src, struct err *err);
void plan_source_release(struct plan_source *s);

/* plan_load(arg, src, plan, err): plan_find and plan_parse; every problem is printed by out_message. */
int plan_load(const char *arg, struct plan_source *src, struct plan **plan, struct err *err);

/* plan_each(fn, arg, err): every store of this machine that has a plan. fn takes nothing over; nonzero ends it. */
int plan_each(int (*fn)(void *arg, const struct plan_source *src), void *arg, struct err *err);

/* plan_note(store, state_dir): a store is found from now on, wherever it lies. Best effort. */
void plan_note(const char *store);

/* dr_state_dir(): $SPARE_DR_STATE, else /var/lib/spare/dr for root, $XDG_STATE_HOME/spare/dr (~/.local/state) for others. A static buffer. */
const char *dr_state_dir(void);

#endif
