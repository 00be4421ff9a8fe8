/*
 * message.h: what people are told: templates with figures in braces, filled when a message is sent.
 */
#ifndef CLI_DR_MESSAGE_H
#define CLI_DR_MESSAGE_H

#include "cli/dr/plan.h"

/* X(name, what it stands for): the figures a template may name. */
#define MESSAGE_FIGURES(X) \
    X(plan, "the plan's name") X(run, "the run") X(kind, "failover, switchover, rollback...") X(state, "where the run is") X(site, "the site that takes over") \
    X(other, "the other site") X(step, "the step that failed, or waits") X(reason, "why") X(rpo, "what may be lost, measured") X(rpo_objective, "") \
    X(eta, "until the systems are up, by the plan and what was measured before") X(rto_objective, "") X(elapsed, "since the run began") X(decides, "who decides") \
    X(person, "who gets this") X(link, "acknowledges it, once") X(ack, "the command that acknowledges it") X(host, "this machine")

enum figure {
#define X(name, text) FIGURE_##name,
    MESSAGE_FIGURES(X)
#undef X
    N_FIGURES
};

/* X(id, name): what there are messages for. */
#define MESSAGE_EVENTS(X) \
    X(BEGUN, "begun") X(WAITING, "waiting") X(STOPPED, "stopped") X(UP, "up") X(COMMITTED, "committed") X(ROLLED_BACK, "rolled-back") X(DRILL, "drill")
enum message_event {
#define X(id, name) MESSAGE_##id,
    MESSAGE_EVENTS(X)
#undef X
    N_MESSAGE_EVENTS
};

/* Values of the figures; NULL is "unknown". */
struct figures { const char *v[N_FIGURES]; };

/* message_event_name(e); message_event(name): N_MESSAGE_EVENTS: no such. */
const char *message_event_name(enum message_event e);
enum message_event message_event(const char *name);

/* message_check(text, bad, cap): whether all braces hold a figure; else what does not, in ${bad}. "{{" is a brace. */
bool message_check(const char *text, char *bad, size_t cap);

/* message_fill(text, f): malloced; NULL: no memory. */
char *message_fill(const char *text, const struct figures *f);

/* message_of(plan, event, subject, text): the plan's own, else the built-in one. */
void message_of(const struct plan *p, enum message_event e, const char **subject, const char **text);

#endif
