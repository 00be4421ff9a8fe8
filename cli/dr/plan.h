/*
 * plan.h: a disaster recovery plan: what there is, in which order it comes back, who is told. The keys are those of the YAML (spare-plan(5)).
 *
 * A plan is read as a whole or not at all; all of its memory goes with it. Times are milliseconds. Threads: none shared.
 */
#ifndef CLI_DR_PLAN_H
#define CLI_DR_PLAN_H

#include "cli/dr/tree.h"

#include <stdbool.h>

enum { PLAN_VERSION = 1, PLAN_MAX_SITES = 8, PLAN_MAX_SYSTEMS = 256 };
/* Where it lies in the store it protects, from the root. */
#define PLAN_PATH ".spare/plan.yaml"

/* What every entry begins with: where it is in the text, and its name, "" where it has none. */
struct plan_head { struct mark at; const char *name; };

/* A word of a list. */
struct plan_word { struct plan_head h; };

struct plan_words { struct plan_word *v; unsigned n; };

enum plan_on_failure { ON_FAILURE_STOP, ON_FAILURE_CONTINUE, ON_FAILURE_MANUAL };

/* A command, run by /bin/sh at the site it is for. command NULL: there is none. */
struct plan_command {
    struct plan_head h;
    const char *command;
    const char *check;          /* its trial: plan check runs it at each site the command may run at; NULL: there is none */
    int64_t timeout_ms;         /* of one try, and of the trial; health: of all of them */
    int64_t retries;            /* tries after the first */
    int64_t interval_ms;        /* between tries */
    int64_t on_failure;         /* enum plan_on_failure */
    int64_t stable;             /* health: so many successes in a row count as one */
};
struct plan_commands { struct plan_command *v; unsigned n; };

/* A step for a person. */
enum plan_manual_when { MANUAL_BEFORE, MANUAL_AFTER };
struct plan_manual { struct plan_head h; const char *text; const char *who; int64_t when; };
struct plan_manuals { struct plan_manual *v; unsigned n; };

/* What is promised; -1: nothing said. */
struct plan_objectives { struct plan_head h; int64_t rpo_ms, rto_ms, retention_ms; };

struct plan_store { struct plan_head h; const char *path, *mount, *options; };
struct plan_stores { struct plan_store *v; unsigned n; };

struct plan_site {
    struct plan_head h;
    const char *title, *host;   /* host NULL: a directory of the machine the command runs on */
    const char *ssh, *spare;    /* what reaches it; what runs there */
    int64_t contact_ms;         /* no answer within: it is not reached */
    const char *key;            /* its Ed25519 key, base64; NULL: the one first seen */
    struct plan_stores stores;
    struct plan_commands fence; /* run at the other site; one that succeeds says that this site writes no more */
};
struct plan_sites { struct plan_site *v; unsigned n; };

struct plan_system {
    struct plan_head h;
    const char *title;
    int64_t critical;           /* 1, the most, to 9 */
    int64_t max_outage_ms;      /* -1: nothing said */
    struct plan_words depends;
    struct plan_command start, stop, health;
    struct plan_manuals manual;
    struct plan_objectives objectives;
    unsigned wave;              /* set by plan_check: 0 first */
};
struct plan_systems { struct plan_system *v; unsigned n; };

struct plan_contact { struct plan_head h; const char *channel, *address; };
struct plan_contacts { struct plan_contact *v; unsigned n; };
struct plan_person { struct plan_head h; const char *title, *role; bool decides; struct plan_contacts contacts; };
struct plan_persons { struct plan_person *v; unsigned n; };

/* A rung of the ladder: these are told; wait so long for one of them to acknowledge. */
struct plan_rung { struct plan_head h; struct plan_words who; int64_t wait_ms; };
struct plan_rungs { struct plan_rung *v; unsigned n; };

enum plan_channel_type { CHANNEL_COMMAND, CHANNEL_MAIL, CHANNEL_WEBHOOK, CHANNEL_HEARTBEAT };
struct plan_channel { struct plan_head h; int64_t type; const char *command, *url, *from; int64_t timeout_ms, interval_ms; };
struct plan_channels { struct plan_channel *v; unsigned n; };

struct plan_message { struct plan_head h; const char *subject, *text; };
struct plan_messages { struct plan_message *v; unsigned n; };

enum plan_prefer { PREFER_RPO, PREFER_RTO };
enum plan_decision { DECIDE_WAIT, DECIDE_COMMIT, DECIDE_ROLLBACK };
struct plan_commit { struct plan_head h; int64_t after_ms; int64_t then; };
struct plan_ack { struct plan_head h; const char *listen; const char *url; };
struct plan_drill { struct plan_head h; int64_t every_ms; const char *at; struct plan_words tell; };
/* What shall be equal at the sites. */
struct plan_compare { struct plan_head h; struct plan_words packages, units, files, ports, users; };

struct plan {
    struct plan_head h;         /* its name */
    int64_t version;
    const char *title, *primary;
    int64_t prefer;
    struct plan_objectives objectives;
    struct plan_sites sites;
    struct plan_systems systems;
    struct plan_commands traffic;
    struct plan_persons people;
    struct plan_channels channels;
    struct plan_rungs escalation;
    struct plan_messages messages;
    struct plan_commit commit;
    struct plan_ack ack;
    struct plan_drill drill;
    struct plan_compare compare;
    struct tree *root;          /* what it was read from: places of values */
    struct arena arena;
};

/*
 * plan_parse(text, len, out, p, err):
 * Reads and checks a plan. 0 and *out (plan_free). USAGE: what is wrong is in ${p}, at most 50 places, sorted; ${err} has the first. NOMEM.
 */
int plan_parse(const char *text, size_t len, struct plan **out, struct problems *p, struct err *err);
void plan_free(struct plan *p);

/* ---- for plan_read.c and its kin ---- */

/* plan_fill(root, plan, p): by the tables of plan_schema.c. plan_check(plan, p): what names what, and the order; sets the waves. Problems go to ${p}; NOMEM. */
int plan_fill(const struct tree *root, struct plan *plan, struct problems *p);
int plan_check(struct plan *plan, struct problems *p);

/* plan_where(p, text): where in the text the value ${text}, a pointer out of the plan, stands; ${or} where it does not. */
struct mark plan_where(const struct plan *p, const char *text, struct mark or);

/* ---- questions ---- */

struct plan_site    *plan_site(const struct plan *p, const char *name);
struct plan_system  *plan_system(const struct plan *p, const char *name);
struct plan_person  *plan_person(const struct plan *p, const char *name);
struct plan_channel *plan_channel(const struct plan *p, const char *name);
struct plan_message *plan_message(const struct plan *p, const char *name);
struct plan_store   *plan_store(const struct plan_site *s, const char *name);
/* plan_waves(p): how many there are. plan_decides(p): who decides, the first one; NULL: nobody is named. */
unsigned plan_waves(const struct plan *p);
const struct plan_person *plan_decides(const struct plan *p);
/* plan_rto(p, s), plan_rpo(p, s): the system's own, else the plan's; -1: nothing said. */
int64_t plan_rto(const struct plan *p, const struct plan_system *s);
int64_t plan_rpo(const struct plan *p, const struct plan_system *s);

/* plan_duration(ms, buf): "1.5s", "2m", "7d": as short as it is exact; "-" for -1. plan_duration_parse(text, ms): false: it is none. */
const char *plan_duration(int64_t ms, char buf[32]);
bool plan_duration_parse(const char *text, int64_t *ms);

#endif
