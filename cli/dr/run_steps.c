/* run_steps.c: which steps a run has, and what each waits for. */
#include "cli/dr/run.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct making { struct run *r; unsigned cap; bool no_memory; unsigned last[PLAN_MAX_SYSTEMS]; };
enum { NONE = UINT32_MAX };

static unsigned add(struct making *m, enum step_kind kind, const struct plan_site *at, const struct plan_site *other, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
static unsigned add(struct making *m, enum step_kind kind, const struct plan_site *at, const struct plan_site *other, const char *fmt, ...)
{
    struct run *r = m->r;
    struct step *s;
    size_t base;
    va_list ap;

    if (r->n_steps == m->cap) {
        struct step *more = realloc(r->steps, (m->cap ? 2 * m->cap : 32) * sizeof *more);

        if (!more) {
            m->no_memory = true;
            return 0;
        }
        r->steps = more;
        m->cap = m->cap ? 2 * m->cap : 32;
    }
    s = &r->steps[r->n_steps];
    *s = (struct step){ .kind = kind, .at = at, .other = other, .proc = { .out = -1, .data = -1 }, .end_wall_ms = -1, .intent_wall_ms = -1 };
    base = (size_t)snprintf(s->name, sizeof s->name, "%s", r->back ? "rollback/" : "");
    va_start(ap, fmt);
    vsnprintf(s->name + base, sizeof s->name - base, fmt, ap);
    va_end(ap);
    return r->n_steps++;
}

static void need(struct making *m, unsigned step, unsigned before)
{
    struct step *s = step < m->r->n_steps ? &m->r->steps[step] : NULL;
    unsigned *more;

    if (!s || before == NONE || m->no_memory)
        return;
    more = realloc(s->needs, (s->n_needs + 1) * sizeof *more);
    m->no_memory |= !more;
    if (!more)
        return;
    s->needs = more;
    s->needs[s->n_needs++] = before;
}

/* Everything there is so far. */
static void need_all(struct making *m, unsigned step, unsigned from)
{
    for (unsigned i = from; i < step; i++)
        need(m, step, i);
}

static unsigned chain(struct making *m, unsigned step, unsigned before)
{
    need(m, step, before);
    return step;
}

static unsigned manual(struct making *m, const struct plan_system *sys, int64_t when, unsigned before, const struct plan_site *to, const struct plan_site *from)
{
    for (unsigned i = 0; i < sys->manual.n; i++)
        if (sys->manual.v[i].when == when) {
            before = chain(m, add(m, STEP_MANUAL, to, from, "manual/%s/%s", sys->h.name, sys->manual.v[i].h.name), before);
            if (m->no_memory)
                return 0;
            m->r->steps[before].sys = sys;
            m->r->steps[before].man = &sys->manual.v[i];
        }
    return before;
}

static unsigned command(struct making *m, enum step_kind kind, const char *word, const struct plan_system *sys, const struct plan_command *c, unsigned before, const struct plan_site *at,
                        const struct plan_site *other)
{
    unsigned i;

    if (!c->command)
        return before;
    i = chain(m, add(m, kind, at, other, "%s/%s", word, sys->h.name), before);
    if (m->no_memory)
        return 0;
    m->r->steps[i].sys = sys;
    m->r->steps[i].cmd = c;
    return i;
}

/* One system: before, start, health, after; behind ${first} and what it depends on. */
static void start_system(struct making *m, unsigned k, unsigned first)
{
    const struct plan *p = m->r->plan;
    const struct plan_system *sys = &p->systems.v[k];
    const struct plan_site *to = m->r->to, *from = m->r->from;
    unsigned begin = m->r->n_steps, at = NONE;

    at = manual(m, sys, MANUAL_BEFORE, at, to, from);
    at = command(m, STEP_START, "start", sys, &sys->start, at, to, from);
    at = command(m, STEP_HEALTH, "health", sys, &sys->health, at, to, from);
    at = manual(m, sys, MANUAL_AFTER, at, to, from);
    m->last[k] = at;
    need(m, begin, first);
    for (unsigned i = 0; i < sys->depends.n; i++)
        need(m, begin, m->last[plan_system(p, sys->depends.v[i].h.name) - p->systems.v]);
}

/* In the order of waves; the most critical first where there is a choice. Then traffic. */
static void start_systems(struct making *m, unsigned first)
{
    const struct plan *p = m->r->plan;
    unsigned from, before;

    from = m->r->n_steps;
    for (unsigned w = 0; w < plan_waves(p); w++)
        for (int64_t c = 1; c <= 9; c++)
            for (unsigned k = 0; k < p->systems.n; k++)
                if (p->systems.v[k].wave == w && p->systems.v[k].critical == c)
                    start_system(m, k, first);
    before = NONE;
    for (unsigned i = 0; i < p->traffic.n && !m->no_memory; i++) {
        unsigned t = add(m, STEP_TRAFFIC, m->r->to, m->r->from, "traffic/%s", p->traffic.v[i].h.name);

        if (m->no_memory)
            return;
        m->r->steps[t].cmd = &p->traffic.v[i];
        need(m, t, first);
        if (before == NONE)
            need_all(m, t, from);
        before = chain(m, t, before);
    }
}

/* In the opposite order: a system stops when what depends on it has stopped. */
static unsigned stop_systems(struct making *m, unsigned first)
{
    const struct plan *p = m->r->plan;
    unsigned last = first;

    for (unsigned w = plan_waves(p); w-- > 0;)
        for (unsigned k = 0; k < p->systems.n; k++)
            if (p->systems.v[k].wave == w)
                last = command(m, STEP_STOP, "stop", &p->systems.v[k], &p->systems.v[k].stop, last, m->r->from, m->r->to);
    return last;
}

static unsigned each_store(struct making *m, enum step_kind kind, const char *word, const struct plan_site *at, const struct plan_site *other, unsigned before)
{
    for (unsigned i = 0; i < at->stores.n && !m->no_memory; i++) {
        before = chain(m, add(m, kind, at, other, "%s/%s", word, at->stores.v[i].h.name), before);
        if (!m->no_memory)
            m->r->steps[before].st = &at->stores.v[i];
    }
    return before;
}

static void failover(struct making *m)
{
    const struct plan_site *to = m->r->to, *from = m->r->from;
    unsigned at = add(m, STEP_DETECT, to, from, "detect");

    at = chain(m, add(m, STEP_CONFIRM, to, from, "confirm"), at);
    at = chain(m, add(m, STEP_FENCE, to, from, "fence"), at);
    at = each_store(m, STEP_PROMOTE, "promote", to, from, at);
    start_systems(m, each_store(m, STEP_MOUNT, "mount", to, from, at));
}

static void switchover(struct making *m)
{
    const struct plan_site *to = m->r->to, *from = m->r->from;
    unsigned at = add(m, STEP_DETECT, to, from, "detect");

    at = chain(m, add(m, STEP_CONFIRM, to, from, "confirm"), at);
    at = stop_systems(m, at);
    at = each_store(m, STEP_HAND_OVER, "hand-over", from, to, at);
    start_systems(m, each_store(m, STEP_MOUNT, "mount", to, from, at));
}

static void rejoin(struct making *m)
{
    const struct plan_site *to = m->r->to, *from = m->r->from;
    unsigned at = add(m, STEP_DETECT, to, from, "detect");

    at = chain(m, add(m, STEP_CONFIRM, to, from, "confirm"), at);
    at = each_store(m, STEP_DEMOTE, "demote", to, from, at);
    each_store(m, STEP_SHIP, "ship", from, to, at);
}

/* Of a failover: the old primary goes on from where it was. It must hear of the epoch here first (meet), so that its next one is above. */
static void rollback(struct making *m)
{
    const struct plan_site *to = m->r->to, *from = m->r->from;
    unsigned at = add(m, STEP_CONFIRM, to, from, "confirm");

    at = stop_systems(m, at);
    if (m->r->kind == RUN_SWITCHOVER) {
        at = each_store(m, STEP_HAND_OVER, "hand-over", from, to, at);
    } else {
        at = each_store(m, STEP_MEET, "meet", to, from, at);
        at = each_store(m, STEP_UMOUNT, "umount", from, to, at);
        at = each_store(m, STEP_DEMOTE, "demote", from, to, at);
        at = each_store(m, STEP_PROMOTE, "promote", to, from, at);
    }
    start_systems(m, each_store(m, STEP_MOUNT, "mount", to, from, at));
}

void run_free_steps(struct run *r)
{
    for (unsigned i = 0; i < r->n_steps; i++) {
        free(r->steps[i].needs);
        proc_release(&r->steps[i].proc);
    }
    free(r->steps);
    r->steps = NULL;
    r->n_steps = 0;
}

int run_make_steps(struct run *r, struct err *err)
{
    struct making m = { .r = r };

    run_free_steps(r);
    if (r->back)
        rollback(&m);
    else if (r->kind == RUN_FAILOVER)
        failover(&m);
    else if (r->kind == RUN_SWITCHOVER)
        switchover(&m);
    else
        rejoin(&m);
    return m.no_memory ? err_set(err, ERR_NOMEM, "no memory") : 0;
}

struct step *run_step(struct run *r, const char *name)
{
    for (unsigned i = 0; i < r->n_steps; i++)
        if (strcmp(r->steps[i].name, name) == 0)
            return &r->steps[i];
    return NULL;
}

bool run_touched(const struct run *r)
{
    if (r->back || r->promoted_wall_ms >= 0)         /* by this one, or by the one whose place it took */
        return true;
    for (unsigned i = 0; i < r->n_steps; i++) {
        const enum step_kind k = r->steps[i].kind;

        if ((k == STEP_PROMOTE || k == STEP_HAND_OVER || k == STEP_STOP || k == STEP_FENCE) && r->steps[i].intent_wall_ms >= 0)
            return true;
    }
    return false;
}
