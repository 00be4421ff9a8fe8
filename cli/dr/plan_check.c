/* plan_check.c: what a plan means: names that name something, an order without circles, channels that have what their type needs. */
#include "cli/dr/message.h"
#include "cli/dr/plan.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- questions ---- */

#define FIND(list, name) do { for (unsigned i_ = 0; (name) && i_ < (list).n; i_++) if (strcmp((list).v[i_].h.name, (name)) == 0) return &(list).v[i_]; return NULL; } while (0)

struct plan_site    *plan_site(const struct plan *p, const char *name)    { FIND(p->sites, name); }
struct plan_system  *plan_system(const struct plan *p, const char *name)  { FIND(p->systems, name); }
struct plan_person  *plan_person(const struct plan *p, const char *name)  { FIND(p->people, name); }
struct plan_channel *plan_channel(const struct plan *p, const char *name) { FIND(p->channels, name); }
struct plan_message *plan_message(const struct plan *p, const char *name) { FIND(p->messages, name); }
struct plan_store   *plan_store(const struct plan_site *s, const char *name) { FIND(s->stores, name); }

const struct plan_person *plan_decides(const struct plan *p)
{
    for (unsigned i = 0; i < p->people.n; i++)
        if (p->people.v[i].decides)
            return &p->people.v[i];
    return NULL;
}

unsigned plan_waves(const struct plan *p)
{
    unsigned most = 0;

    for (unsigned i = 0; i < p->systems.n; i++)
        if (p->systems.v[i].wave + 1 > most)
            most = p->systems.v[i].wave + 1;
    return most;
}

int64_t plan_rto(const struct plan *p, const struct plan_system *s)
{
    return s->objectives.rto_ms >= 0 ? s->objectives.rto_ms : p->objectives.rto_ms;
}

int64_t plan_rpo(const struct plan *p, const struct plan_system *s)
{
    return s->objectives.rpo_ms >= 0 ? s->objectives.rpo_ms : p->objectives.rpo_ms;
}

static const struct tree *where(const struct tree *t, const char *text)
{
    for (; t; t = t->next) {
        const struct tree *found = t->text == text ? t : where(t->first, text);

        if (found)
            return found;
    }
    return NULL;
}

struct mark plan_where(const struct plan *p, const char *text, struct mark or)
{
    const struct tree *t = where(p->root, text);

    return t ? t->at : or;
}

/* ---- sites ---- */

static void same_stores(const struct plan_site *a, const struct plan_site *b, struct problems *p)
{
    for (unsigned i = 0; i < a->stores.n; i++)
        if (!plan_store(b, a->stores.v[i].h.name))
            problem_add(p, b->h.at, "expected the store %s at site %s, as site %s has it, found none", a->stores.v[i].h.name, b->h.name, a->h.name);
    for (unsigned i = 0; i < b->stores.n; i++)
        if (!plan_store(a, b->stores.v[i].h.name))
            problem_add(p, b->stores.v[i].h.at, "expected the stores of site %s at site %s, found another one, \"%s\"", a->h.name, b->h.name, b->stores.v[i].h.name);
}

static const char *host_of(const struct plan_site *s)
{
    return s->host ? s->host : "";
}

/* No two stores in one place. */
static void own_places(const struct plan *plan, struct problems *p)
{
    for (unsigned i = 0; i < plan->sites.n; i++)
        for (unsigned k = 0; k < plan->sites.v[i].stores.n; k++)
            for (unsigned j = 0; j <= i; j++)
                for (unsigned m = 0; m < (j < i ? plan->sites.v[j].stores.n : k); m++) {
                    const struct plan_store *a = &plan->sites.v[j].stores.v[m], *b = &plan->sites.v[i].stores.v[k];

                    if (strcmp(a->path, b->path) == 0 && strcmp(host_of(&plan->sites.v[j]), host_of(&plan->sites.v[i])) == 0)
                        problem_add(p, b->h.at, "expected a place of its own for store %s of site %s, found that of store %s of site %s (line %u)",
                                    b->h.name, plan->sites.v[i].h.name, a->h.name, plan->sites.v[j].h.name, a->h.at.line);
                }
}

/* Names of a list that must differ. */
static void own_names(const struct plan *plan, const struct plan_commands *c, const char *what, struct problems *p)
{
    for (unsigned i = 0; i < c->n; i++)
        for (unsigned k = 0; k < i; k++)
            if (strcmp(c->v[i].h.name, c->v[k].h.name) == 0) {
                problem_add(p, plan_where(plan, c->v[i].h.name, c->v[i].h.at), "expected each name once in %s, found \"%s\" again (line %u)", what, c->v[i].h.name, c->v[k].h.at.line);
                break;
            }
}

static void check_sites(const struct plan *plan, struct problems *p)
{
    if (!plan_site(plan, plan->primary))
        problem_add(p, plan_where(plan, plan->primary, plan->h.at), "expected the name of a site for primary, found \"%s\"", plan->primary);
    for (unsigned i = 0; i < plan->sites.n; i++) {
        const struct plan_site *s = &plan->sites.v[i];

        if (s->host && (s->host[0] == '-' || strpbrk(s->host, " :/'\"")))
            problem_add(p, plan_where(plan, s->host, s->h.at), "expected a host name for site %s, found \"%.60s\"", s->h.name, s->host);
        if (i > 0)
            same_stores(&plan->sites.v[0], s, p);
        own_names(plan, &s->fence, "fence", p);
    }
    own_places(plan, p);
}

/* ---- systems ---- */

static void check_person(const struct plan *plan, struct mark at, const char *name, const char *where, struct problems *p)
{
    if (!plan_person(plan, name))
        problem_add(p, at, "expected the name of a person in %s, found \"%.60s\"", where, name);
}

static void check_system(const struct plan *plan, const struct plan_system *s, struct problems *p)
{
    if (!s->start.command && s->manual.n == 0)
        problem_add(p, s->h.at, "expected a start command or a manual step in system %s, found neither", s->h.name);
    for (unsigned i = 0; i < s->depends.n; i++) {
        const struct plan_word *w = &s->depends.v[i];

        if (!plan_system(plan, w->h.name))
            problem_add(p, w->h.at, "expected the name of a system in depends of %s, found \"%.60s\"", s->h.name, w->h.name);
        for (unsigned k = 0; k < i; k++)
            if (strcmp(w->h.name, s->depends.v[k].h.name) == 0)
                problem_add(p, w->h.at, "expected each system once in depends of %s, found \"%.60s\" again", s->h.name, w->h.name);
    }
    for (unsigned i = 0; i < s->manual.n; i++) {
        if (s->manual.v[i].who)
            check_person(plan, plan_where(plan, s->manual.v[i].who, s->manual.v[i].h.at), s->manual.v[i].who, "who of a manual step", p);
        for (unsigned k = 0; k < i; k++)
            if (strcmp(s->manual.v[i].h.name, s->manual.v[k].h.name) == 0)
                problem_add(p, plan_where(plan, s->manual.v[i].h.name, s->manual.v[i].h.at), "expected each name once in manual, found \"%s\" again (line %u)", s->manual.v[i].h.name, s->manual.v[k].h.at.line);
    }
}

enum { UNSEEN, UNDER_WAY, DONE };
struct walk {
    const struct plan *plan;
    struct problems *p;
    uint8_t state[PLAN_MAX_SYSTEMS];
    unsigned path[PLAN_MAX_SYSTEMS], depth;
};

static void name_circle(struct walk *w, const struct plan_word *at, unsigned back)
{
    char text[400] = "";
    unsigned from = 0;

    while (w->path[from] != back)
        from++;
    for (unsigned i = from; i < w->depth; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s -> ", w->plan->systems.v[w->path[i]].h.name);
    problem_add(w->p, at->h.at, "expected systems that do not wait for themselves, found a cycle: %s%s", text, w->plan->systems.v[back].h.name);
}

/* Depth first; a system's wave is one behind the last of those it waits for. Recursion is bounded by the number of systems. */
static void visit(struct walk *w, unsigned i)
{
    struct plan_system *s = &w->plan->systems.v[i];

    w->state[i] = UNDER_WAY;
    w->path[w->depth++] = i;
    for (unsigned k = 0; k < s->depends.n; k++) {
        const struct plan_system *d = plan_system(w->plan, s->depends.v[k].h.name);
        unsigned j = d ? (unsigned)(d - w->plan->systems.v) : 0;

        if (!d)
            continue;
        if (w->state[j] == UNDER_WAY)
            name_circle(w, &s->depends.v[k], j);
        else if (w->state[j] == UNSEEN)
            visit(w, j);
        if (w->state[j] == DONE && d->wave + 1 > s->wave)
            s->wave = d->wave + 1;
    }
    w->depth--;
    w->state[i] = DONE;
}

static int check_systems(const struct plan *plan, struct problems *p)
{
    struct walk *w = calloc(1, sizeof *w);

    if (!w)
        return ERR_NOMEM;
    w->plan = plan;
    w->p = p;
    for (unsigned i = 0; i < plan->systems.n; i++)
        check_system(plan, &plan->systems.v[i], p);
    for (unsigned i = 0; i < plan->systems.n; i++)
        if (w->state[i] == UNSEEN)
            visit(w, i);
    free(w);
    return 0;
}

/* ---- people ---- */

static void check_channel(const struct plan_channel *c, struct problems *p)
{
    static const char *const types[] = { "command", "mail", "webhook", "heartbeat" };
    const bool web = c->type == CHANNEL_WEBHOOK || c->type == CHANNEL_HEARTBEAT;

    if (c->type == CHANNEL_COMMAND && !c->command)
        problem_add(p, c->h.at, "expected the key command in channel %s of type command, found none", c->h.name);
    if (web && !c->url)
        problem_add(p, c->h.at, "expected the key url in channel %s of type %s, found none", c->h.name, types[c->type]);
    if (web && c->command)
        problem_add(p, c->h.at, "expected a url and no command in channel %s of type %s, found a command", c->h.name, types[c->type]);
    if (!web && c->url)
        problem_add(p, c->h.at, "expected no url in channel %s of type %s, found one", c->h.name, types[c->type]);
    if (c->type != CHANNEL_MAIL && c->from)
        problem_add(p, c->h.at, "expected from in channels of type mail only, found it in channel %s of type %s", c->h.name, types[c->type]);
}

static bool is_mail(const char *s)
{
    const char *at = strchr(s, '@');

    return at && at != s && at[1] && !strchr(at + 1, '@') && !strpbrk(s, " ,;<>\"\t") && s[0] != '-';
}

static void check_contact(const struct plan *plan, const struct plan_contact *c, struct problems *p)
{
    const struct plan_channel *ch = plan_channel(plan, c->channel);

    if (!ch)
        problem_add(p, plan_where(plan, c->channel, c->h.at), "expected the name of a channel, found \"%.60s\"", c->channel);
    else if (ch->type == CHANNEL_HEARTBEAT)
        problem_add(p, plan_where(plan, c->channel, c->h.at), "expected a channel that reaches a person, found \"%s\", a heartbeat", c->channel);
    else if (ch->type == CHANNEL_MAIL && !is_mail(c->address))
        problem_add(p, plan_where(plan, c->address, c->h.at), "expected an address for mail, found \"%.60s\"", c->address);
}

static void check_message(const struct plan *plan, const struct plan_message *m, struct problems *p)
{
    char bad[64];

    if (message_event(m->h.name) == N_MESSAGE_EVENTS)
        problem_add(p, m->h.at, "expected the name of a message (begun, waiting, stopped, up, committed, rolled-back, drill), found \"%.60s\"", m->h.name);
    for (unsigned i = 0; i < 2; i++)
        if (!message_check(i ? m->text : m->subject, bad, sizeof bad))
            problem_add(p, plan_where(plan, i ? m->text : m->subject, m->h.at), "expected a figure in braces in message %s, found \"%s\"", m->h.name, bad);
}

static void check_people(const struct plan *plan, struct problems *p)
{
    for (unsigned i = 0; i < plan->channels.n; i++)
        check_channel(&plan->channels.v[i], p);
    for (unsigned i = 0; i < plan->people.n; i++)
        for (unsigned k = 0; k < plan->people.v[i].contacts.n; k++)
            check_contact(plan, &plan->people.v[i].contacts.v[k], p);
    for (unsigned i = 0; i < plan->escalation.n; i++)
        for (unsigned k = 0; k < plan->escalation.v[i].who.n; k++)
            check_person(plan, plan->escalation.v[i].who.v[k].h.at, plan->escalation.v[i].who.v[k].h.name, "who of the escalation", p);
    for (unsigned i = 0; i < plan->messages.n; i++)
        check_message(plan, &plan->messages.v[i], p);
    for (unsigned i = 0; i < plan->drill.tell.n; i++)
        check_person(plan, plan->drill.tell.v[i].h.at, plan->drill.tell.v[i].h.name, "tell of the drill", p);
}

/* ---- the rest ---- */

static bool is_number(const char *s, unsigned least, unsigned most)
{
    unsigned v = 0;

    if (!*s || strlen(s) > 5)
        return false;
    for (; *s; s++) {
        if (!isdigit((unsigned char)*s))
            return false;
        v = v * 10 + (unsigned)(*s - '0');
    }
    return v >= least && v <= most;
}

/* "22", "tcp/22", "udp/53" */
static bool is_port(const char *s)
{
    if (strncmp(s, "tcp/", 4) == 0 || strncmp(s, "udp/", 4) == 0)
        s += 4;
    return is_number(s, 1, 65535);
}

/* Words that go into a command line of the other site. */
static bool is_word(const char *s)
{
    if (*s == '-')
        return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr("._-+:@\\", *s))
            return false;
    return true;
}

static bool is_file(const char *s)
{
    return s[0] == '/';
}

static void check_words(const struct plan_words *w, bool (*ok)(const char *), const char *what, struct problems *p)
{
    for (unsigned i = 0; i < w->n; i++)
        if (!ok(w->v[i].h.name))
            problem_add(p, w->v[i].h.at, "expected %s, found \"%.60s\"", what, w->v[i].h.name);
}

static bool is_clock(const char *s)
{
    return strlen(s) == 5 && s[2] == ':' && isdigit((unsigned char)s[0]) && isdigit((unsigned char)s[1]) && isdigit((unsigned char)s[3]) && isdigit((unsigned char)s[4]) &&
           (s[0] - '0') * 10 + s[1] - '0' < 24 && s[3] < '6';
}

static void check_rest(const struct plan *plan, struct problems *p)
{
    const char *port = plan->ack.listen ? strrchr(plan->ack.listen, ':') : NULL;

    if (plan->ack.listen && (!port || port == plan->ack.listen || !is_number(port + 1, 0, 65535)))
        problem_add(p, plan_where(plan, plan->ack.listen, plan->ack.h.at), "expected ADDRESS:PORT for listen, found \"%.60s\"", plan->ack.listen);
    if (plan->drill.at && !is_clock(plan->drill.at))
        problem_add(p, plan_where(plan, plan->drill.at, plan->drill.h.at), "expected a time of day such as 03:30 for at, found \"%.60s\"", plan->drill.at);
    check_words(&plan->compare.ports, is_port, "a port such as 22, tcp/22 or udp/53", p);
    check_words(&plan->compare.files, is_file, "an absolute path", p);
    check_words(&plan->compare.packages, is_word, "the name of a package", p);
    check_words(&plan->compare.units, is_word, "the name of a unit", p);
    check_words(&plan->compare.users, is_word, "the name of a user", p);
    own_names(plan, &plan->traffic, "traffic", p);
}

int plan_check(struct plan *plan, struct problems *p)
{
    int r = check_systems(plan, p);

    check_sites(plan, p);
    check_people(plan, p);
    check_rest(plan, p);
    return r;
}
