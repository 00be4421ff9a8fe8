/*
 * run.h: a run: a failover, a switchover, a rejoin, or the rollback of one, step by step. Everything it knows lies in its directory at this site, STATE/sites/SITE/runs/ID: plan.yaml (the plan as it
 * was), journal (record.h), out/ (what commands said), running/ (its children, proc.h), lock. Memory of it is what the journal's lines make: a run that is opened again stands where its journal ends.
 *
 * Each step is written down as intended before it begins, and with its result after. One that was intended and has no result was cut off: what it was about is asked first (which role, mounted, healthy),
 * and done again where that does not say it is done. So the plan's commands must bear being run again; those of spare do. Never twice at the same time: a child outlives a killed run, and whoever goes
 * on waits for its end first, as long as it may take. (What ssh began elsewhere is waited for as long as ssh is.)
 */
#ifndef CLI_DR_RUN_H
#define CLI_DR_RUN_H

#include "cli/dr/dr.h"
#include "cli/dr/message.h"
#include "cli/dr/record.h"
#include "cli/dr/site.h"

#include <fcntl.h>
#include <limits.h>

enum run_kind { RUN_FAILOVER, RUN_SWITCHOVER, RUN_REJOIN };
/* DIRTY: it began, and is neither up nor stopped: it runs, or was killed. */
enum run_state { RUN_DIRTY, RUN_STOPPED, RUN_UP, RUN_COMMITTED, RUN_ROLLED_BACK, RUN_CLOSED };

enum step_kind { STEP_DETECT, STEP_CONFIRM, STEP_FENCE, STEP_PROMOTE, STEP_MOUNT, STEP_STOP, STEP_HAND_OVER, STEP_START, STEP_HEALTH, STEP_MANUAL, STEP_TRAFFIC, STEP_UMOUNT, STEP_DEMOTE, STEP_MEET,
                 STEP_SHIP };
/* PASSED: it failed, and the plan says to go on. */
enum step_state { STEP_TODO, STEP_RUNNING, STEP_WAITING, STEP_DONE, STEP_PASSED, STEP_FAILED };

struct step {
    char name[160];             /* "start/db" */
    enum step_kind kind;
    enum step_state state;
    bool cut_off;               /* intended in another life, without a result */
    const struct plan_system *sys;
    const struct plan_store *st;             /* at the site ${at} */
    const struct plan_command *cmd;
    const struct plan_manual *man;
    const struct plan_site *at, *other;      /* where it is done */
    unsigned *needs, n_needs;                /* steps before it */
    /* of this life */
    struct proc proc;
    int64_t began_ms, next_ms;
    int tries, in_a_row, good, answers, last_exit;
    char last_said[300];        /* of the last try that ended by itself */
    bool probing;               /* cut off: its health is asked first */
    /* of the record */
    int64_t intent_wall_ms, end_wall_ms, ms;
    char reason[512];
};

struct run {
    char id[80], dir[PATH_MAX], notes[PATH_MAX + 16];
    enum run_kind kind;
    enum run_state state;
    bool back;                  /* it is being rolled back: to and from have changed places */
    struct plan *plan;          /* as it was when the run began; text_sha256: of what was read, plan_sha256: as the first line has it */
    char text_sha256[SEAL_HASH_TEXT], plan_sha256[SEAL_HASH_TEXT];
    const struct plan_site *here, *to, *from;
    struct seal *seal;
    struct record *rec;
    struct site_view view;
    int lock;                   /* -1: not ours */
    struct step *steps;
    unsigned n_steps;
    bool stopping;              /* a step failed: nothing new begins */
    /* as said when it began, or was resumed */
    bool unfenced;
    int64_t accept_loss_ms;     /* -1: nothing said; INT64_MAX: any */
    int64_t since_ms;           /* when the primary went away; -1: not said */
    int64_t prefer;
    char at[40];                /* the moment to go back to with the promotion; "": none */
    /* as seen by detect, in this life */
    bool looked;
    struct site_store to_seen[16], from_seen[16];
    /* as the first detect of the record saw it, of a rejoin: bit i: store i of ${to} was a standby already that knows of the epoch here: it had gone back before */
    uint32_t was_back;
    bool detected;
    bool replaced;              /* closed, since another one took its place */
    char after[80];             /* the run whose place it took; "": none */
    /* as measured */
    int64_t began_wall_ms, out_since_wall_ms;        /* out_since: as the run whose place it took began, where that one never came up */
    int64_t up_wall_ms, promoted_wall_ms, held_to_ms, loss_ms;        /* -1: not yet, not known */
    char stop_reason[512], stop_step[160];
    int stop_code;              /* of this life: why, as an error */
    uint64_t notices;
    bool told[N_MESSAGE_EVENTS];
    const struct dr_options *opt;
};

/* ---- run_open.c ---- */

/* run_site(plan, src, o, out, err): which site this is: --site, else the one whose stores lie here, by host where that is not enough. USAGE. */
int run_site(const struct plan *p, const struct dr_options *o, const struct plan_site **out, struct err *err);
/* run_site_dir(site, buf): STATE/sites/SITE, made. */
int run_site_dir(const char *site, char buf[PATH_MAX], struct err *err);
/* What a run takes over of one that it replaces: a promotion counts that was begun. run_before(r, b): if ${r} was replaced; else nothing of what came before it counts any more. */
struct before { char id[80], to[80]; bool failover; int64_t promoted_wall_ms, held_to_ms, loss_ms, out_since_wall_ms /* -1: nothing was */; };
void run_before(const struct run *r, struct before *b);
/* run_new: a run that begins now, with its lock; its name is behind those of all that were before at this site, also where the clock was set back. run_open: one that is there; with ${work} its lock is taken: LOCKED another process goes on with it; NOENT: there is none,
 * or it was cut off before its first line; DAMAGE: the record, or its copy of the plan, is not what was written. Of both: run_close. */
int  run_new(enum run_kind kind, const struct plan_source *src, const struct dr_options *o, const struct before *before, const struct plan_site *here, const struct plan_site *to, const struct plan_site *from, struct run **out, struct err *err);
int  run_open(const char *site, const char *id, bool work, struct run **out, struct err *err);
/*
 * run_beginning(site, lock, err): from looking which run is not over to having that one's lock, or that of a new one: a site does this once at a time, or two would find none, and both begin. Waits for whoever is at it (who may
 * wait for what a run that was cut off had begun). *lock: to be closed. INTR: nothing is held; IO.
 */
int  run_beginning(const char *site, int *lock, struct err *err);
/* run_options(o, into, err): what the command line says, as fields of a line. USAGE. */
int  run_options(const struct dr_options *o, json_t *into, struct err *err);
void run_close(struct run *r);
/* run_locked(r, name): whether another process holds that file of its directory: "lock" whoever goes through the steps, "keeper" whoever tells people. Asked, not tried: nobody is kept from it for an instant. run_whole: what is locked. */
bool run_locked(const struct run *r, const char *name);
extern const struct flock run_whole;
/* run_find(plan, site, open, id, err): the newest run of that plan (NULL: any) at that site; ${open}: that is not over. NOENT. */
int  run_find(const char *plan, const char *site, bool open, char id[80], struct err *err);
/* run_each(fn, arg): all of this machine, oldest first; fn gets site and id. */
int  run_each(int (*fn)(void *arg, const char *site, const char *id), void *arg);
const char *run_kind_name(const struct run *r);
const char *run_state_name(const struct run *r);
bool run_over(const struct run *r);
/* run_out_ms(r): how long the systems were out of service, also by the run whose place it took; a rejoin: how long it took. -1: it is not up. */
int64_t run_out_ms(const struct run *r);

/* ---- run_steps.c ---- */

/* run_make_steps(r, err): by kind and direction; what was there goes. run_step(r, name): NULL: no such. */
int run_make_steps(struct run *r, struct err *err);
void run_free_steps(struct run *r);
struct step *run_step(struct run *r, const char *name);
/* run_touched(r): what a failover or switchover would have to take back was begun, by it or by the one whose place it took. */
bool run_touched(const struct run *r);

/* ---- run_act.c: what spare itself does ---- */

/* run_act(r, s, more, err): does a step that is no command of the plan; ${more}: fields for its result. 0; a negative code: it failed. LOSTDATA: refused. */
int run_act(struct run *r, struct step *s, json_t *more, struct err *err);
/* run_may_go_back(r, accepted_ms, err): whether a rollback would begin at all: asked before it does, so that a run whose rollback is refused stays up. AWAY, LOSTDATA. */
int run_may_go_back(struct run *r, int64_t accepted_ms, struct err *err);
/* run_by_spare(kind): run_act does it. */
bool run_by_spare(enum step_kind kind);

/* ---- run.c ---- */

/* run_go(r, err): from where it stands to its end: up (0), stopped (its reason in err), interrupted. */
int run_go(struct run *r, struct err *err);
/* run_note(r, event, step, fields, err): a line of the journal. */
int run_note(struct run *r, const char *event, const char *step, json_t *more, struct err *err);
/* run_line: the record_fn of a run. */
int run_line(void *arg, const json_t *line);
/* run_tell(r, event, step, reason): people are to be told; the keeper does it. Best effort: the run is not held up. */
void run_tell(struct run *r, enum message_event e, const char *step, const char *reason);
/* run_keeper(r): starts the process that tells people and waits for a decision, where there is a need for one and none is there. */
void run_keeper(struct run *r);

#endif
