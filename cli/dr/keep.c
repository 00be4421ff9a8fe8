/*
 * keep.c: `dr keep`: the process beside a run that tells people, takes acknowledgements, and decides by the plan's policy when nobody does. It is started by the run's commands, and ends when there is
 * nothing left for it to wait for.
 *
 * All it knows is in the record. A letter is written down before it is sent ("sending"), and with what became of it ("sent", "unsent"); one that has no result, since this process was killed in
 * between, counts as sent: nobody is told twice, and silence moves on.
 */
#include "cli/dr/channel.h"
#include "cli/dr/link.h"
#include "cli/dr/run.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NOTICES = 4608 /* a plan has 4096 manual steps at most */, LETTERS = 16384, TICK_MS = 50, FINAL_MS = 600, AGAIN_MS = 2000, DECIDE_MS = 24 * 3600 * 1000 };

enum letter_state { LETTER_SENDING, LETTER_SENT, LETTER_UNSENT };
struct sent { unsigned notice; char person[72], channel[72], token[SEAL_TOKEN_TEXT], hash[SEAL_HASH_TEXT]; enum letter_state state; int64_t at_ms; };
struct notice { char id[32], at[160], reason[512]; enum message_event event; bool acked, given_up; };

struct keeper {
    struct run *r;
    struct record *rec;         /* a second look at the same record, for the lines that are about people */
    struct link_server *links;
    struct notice notices[NOTICES];
    unsigned n_notices;
    struct sent letters[LETTERS];
    unsigned n_letters;
    char owner[72];             /* who acknowledged last */
    int64_t beat_ms;            /* when heartbeats are due */
    bool decided;               /* the policy was carried out, or failed */
    struct proc deciding;       /* the command that carries it out; people are told meanwhile */
    int64_t decide_ms;          /* not before */
};

/* ---- the record ---- */

static struct notice *find_notice(struct keeper *k, const char *id)
{
    for (unsigned i = 0; i < k->n_notices; i++)
        if (strcmp(k->notices[i].id, id) == 0)
            return &k->notices[i];
    return NULL;
}

static struct sent *find_letter(struct keeper *k, unsigned notice, const char *person, const char *channel)
{
    for (unsigned i = 0; i < k->n_letters; i++)
        if (k->letters[i].notice == notice && strcmp(k->letters[i].person, person) == 0 && strcmp(k->letters[i].channel, channel) == 0)
            return &k->letters[i];
    return NULL;
}

static void letter_line(struct keeper *k, const char *event, const json_t *o, struct notice *n)
{
    const unsigned at = (unsigned)(n - k->notices);
    struct sent *l = find_letter(k, at, item_text(o, "person"), item_text(o, "channel"));

    if (!l && k->n_letters < LETTERS) {
        l = &k->letters[k->n_letters++];
        l->notice = at;
        snprintf(l->person, sizeof l->person, "%s", item_text(o, "person"));
        snprintf(l->channel, sizeof l->channel, "%s", item_text(o, "channel"));
        snprintf(l->hash, sizeof l->hash, "%s", item_text(o, "token_sha256"));
        l->at_ms = record_parse_ms(item_text(o, "time"));
    }
    if (l)
        l->state = strcmp(event, "sent") == 0 ? LETTER_SENT : strcmp(event, "unsent") == 0 ? LETTER_UNSENT : LETTER_SENDING;
}

static int line(void *arg, const json_t *o)
{
    struct keeper *k = arg;
    const char *event = item_text(o, "event"), *id = item_text(o, "notice");
    struct notice *n = *id ? find_notice(k, id) : NULL;

    /* What the policy was refused once is said, and left to people. */
    if (strcmp(event, "refused") == 0 && strcmp(item_text(o, "by"), "policy") == 0)
        k->decided = true;
    if (strcmp(event, "notice") == 0 && !n && k->n_notices < NOTICES) {
        n = &k->notices[k->n_notices++];
        snprintf(n->id, sizeof n->id, "%s", id);
        snprintf(n->at, sizeof n->at, "%s", item_text(o, "at"));
        snprintf(n->reason, sizeof n->reason, "%s", item_text(o, "reason"));
        n->event = message_event(item_text(o, "message"));
        n->given_up = n->event == N_MESSAGE_EVENTS;
    } else if (n && strcmp(event, "ack") == 0) {
        /* Who acknowledges one has heard of those before. */
        for (struct notice *b = k->notices; b <= n; b++)
            b->acked = true;
        snprintf(k->owner, sizeof k->owner, "%s", item_text(o, "by"));
    } else if (n && strcmp(event, "silence") == 0) {
        n->given_up = true;
    } else if (n && (strcmp(event, "sending") == 0 || strcmp(event, "sent") == 0 || strcmp(event, "unsent") == 0)) {
        letter_line(k, event, o, n);
    }
    return 0;
}

/* ---- a letter ---- */

static void seconds_text(int64_t ms, char buf[32])
{
    if (ms < 0 || ms == INT64_MAX)
        snprintf(buf, 32, "unknown");
    else if (ms < 120000)
        snprintf(buf, 32, "%lld.%lld s", (long long)(ms / 1000), (long long)(ms % 1000 / 100));
    else
        snprintf(buf, 32, "%lld min", (long long)(ms / 60000));
}

/* How long the last run of this kind took; else what the plan promises. */
struct past { const struct run *r; int64_t ms; };

static int past_run(void *arg, const char *site, const char *id)
{
    struct past *p = arg;
    struct run *r = NULL;

    if (strcmp(id, p->r->id) != 0 && strcmp(site, p->r->here->h.name) == 0 && run_open(site, id, false, &r, NULL) == 0) {
        if (r->kind == p->r->kind && r->up_wall_ms >= 0 && strcmp(r->plan->h.name, p->r->plan->h.name) == 0)
            p->ms = r->up_wall_ms - r->began_wall_ms;
        run_close(r);
    }
    return 0;
}

static int64_t eta(const struct run *r)
{
    struct past p = { r, -1 };
    int64_t gone = record_wall_ms() - r->began_wall_ms;

    (void)run_each(past_run, &p);
    if (p.ms < 0)
        p.ms = r->plan->objectives.rto_ms;
    return r->state == RUN_UP || r->state == RUN_COMMITTED ? 0 : p.ms < 0 ? -1 : p.ms > gone ? p.ms - gone : 0;
}

struct figure_texts { char rpo[32], rpo_objective[32], eta[32], rto_objective[32], elapsed[32], ack[256], link[512], host[256]; };

static void fill_figures(struct keeper *k, const struct notice *n, const struct plan_person *who, const char *token, struct figure_texts *t, struct figures *f)
{
    const struct run *r = k->r;
    const struct plan *p = r->plan;
    const struct plan_person *decides = plan_decides(p);

    seconds_text(r->loss_ms, t->rpo);
    seconds_text(eta(r), t->eta);
    seconds_text((r->up_wall_ms >= 0 ? r->up_wall_ms : record_wall_ms()) - r->out_since_wall_ms, t->elapsed);
    plan_duration(p->objectives.rpo_ms, t->rpo_objective);
    plan_duration(p->objectives.rto_ms, t->rto_objective);
    snprintf(t->ack, sizeof t->ack, "spare dr ack --run %.80s --by %.72s", r->id, who->h.name);
    snprintf(t->link, sizeof t->link, "%.400s%sack/%s", p->ack.url ? p->ack.url : "", p->ack.url && p->ack.url[strlen(p->ack.url) - 1] == '/' ? "" : "/", token);
    memset(t->host, 0, sizeof t->host);
    (void)gethostname(t->host, sizeof t->host - 1);
    *f = (struct figures){ .v = {
        [FIGURE_plan] = p->title ? p->title : p->h.name, [FIGURE_run] = r->id, [FIGURE_kind] = run_kind_name(r), [FIGURE_state] = run_state_name(r),
        [FIGURE_site] = (r->back ? r->from : r->to)->h.name, [FIGURE_other] = (r->back ? r->to : r->from)->h.name, [FIGURE_step] = n->at, [FIGURE_reason] = n->reason,
        [FIGURE_rpo] = t->rpo, [FIGURE_rpo_objective] = t->rpo_objective, [FIGURE_eta] = t->eta, [FIGURE_rto_objective] = t->rto_objective, [FIGURE_elapsed] = t->elapsed,
        [FIGURE_decides] = decides ? decides->title ? decides->title : decides->h.name : NULL, [FIGURE_person] = who->title ? who->title : who->h.name,
        [FIGURE_link] = p->ack.url ? t->link : "(no link)", [FIGURE_ack] = t->ack, [FIGURE_host] = t->host } };
}

static json_t *letter_fields(const struct notice *n, const struct plan_person *who, const struct plan_contact *c)
{
    json_t *o = json_object();

    json_object_set_new(o, "notice", json_string(n->id));
    json_object_set_new(o, "message", json_string(message_event_name(n->event)));
    json_object_set_new(o, "person", json_string(who->h.name));
    json_object_set_new(o, "channel", json_string(c->channel));
    return o;
}

static int send_letter(struct keeper *k, struct notice *n, const struct plan_person *who, const struct plan_contact *c)
{
    char token[SEAL_TOKEN_TEXT] = "", hash[SEAL_HASH_TEXT], id[200], log[PATH_MAX + 32];
    const char *subject, *text;
    struct figure_texts t;
    struct figures f;
    struct err why = { 0 };
    json_t *o = letter_fields(n, who, c);
    struct letter l = { .id = id, .event = message_event_name(n->event), .person = who->h.name, .plan = k->r->plan->h.name, .run = k->r->id };
    int rc = k->n_letters < LETTERS ? seal_token(token, &why) : ERR_NOSPC;       /* (one that cannot be kept count of would be sent again and again) */

    seal_hash(token, strlen(token), hash);
    json_object_set_new(o, "token_sha256", json_string(hash));
    if (rc == 0)
        rc = record_append(k->rec, "sending", "", json_incref(o), &why);
    if (rc) {
        json_decref(o);
        return rc;
    }
    fill_figures(k, n, who, token, &t, &f);
    message_of(k->r->plan, n->event, &subject, &text);
    l.subject = message_fill(subject, &f);
    l.text = message_fill(text, &f);
    l.link = k->links && k->r->plan->ack.url ? t.link : NULL;
    for (char *s = (char *)(uintptr_t)l.subject; s && *s; s++)
        if ((unsigned char)*s < 0x20)
            *s = ' ';                    /* a figure may have had a line's end in it */
    snprintf(id, sizeof id, "%.80s.%.31s.%.72s", k->r->id, n->id, who->h.name);
    snprintf(log, sizeof log, "%s/out/channel", k->r->dir);
    rc = l.subject && l.text ? channel_send(plan_channel(k->r->plan, c->channel), c->address, &l, log, &why) : ERR_NOMEM;
    free((void *)(uintptr_t)l.subject);
    free((void *)(uintptr_t)l.text);
    if (rc)
        json_object_set_new(o, "reason", record_text(why.msg));
    (void)record_append(k->rec, rc ? "unsent" : "sent", "", o, &why);
    return rc;
}

/* By the first channel that takes it. True: told, now or before. */
static bool tell(struct keeper *k, struct notice *n, const struct plan_person *who)
{
    for (unsigned i = 0; i < who->contacts.n; i++) {
        struct sent *l = find_letter(k, (unsigned)(n - k->notices), who->h.name, who->contacts.v[i].channel);

        if (l && l->state != LETTER_UNSENT)
            return true;                 /* also one whose end nobody saw */
        if (!l && send_letter(k, n, who, &who->contacts.v[i]) == 0)
            return true;
    }
    return false;
}

/* ---- the ladder ---- */

/* When this person was told last about it; -1: he was not. */
static int64_t told_at(struct keeper *k, const struct notice *n, const char *person)
{
    int64_t last = -1;

    for (unsigned i = 0; i < k->n_letters; i++)
        if (k->letters[i].notice == (unsigned)(n - k->notices) && strcmp(k->letters[i].person, person) == 0 && k->letters[i].state != LETTER_UNSENT && k->letters[i].at_ms > last)
            last = k->letters[i].at_ms;
    return last;
}

/* A rung: those who were not told yet are told. False: it is silent, or nobody of it can be reached. */
static bool rung_holds(struct keeper *k, struct notice *n, const struct plan_words *who, int64_t wait_ms)
{
    int64_t last = -1;

    for (unsigned i = 0; i < who->n; i++) {
        const struct plan_person *p = plan_person(k->r->plan, who->v[i].h.name);

        if (tell(k, n, p)) {
            int64_t at = told_at(k, n, p->h.name);

            last = at > last ? at : last;
        }
    }
    return last >= 0 && record_wall_ms() < last + wait_ms;
}

static bool wants_answer(const struct notice *n)
{
    return n->event != MESSAGE_COMMITTED && n->event != MESSAGE_ROLLED_BACK;
}

/* Who has the run hears first; then the ladder. A notice that was followed by another goes to its first rung, and no further. */
static bool climb(struct keeper *k, struct notice *n)
{
    const struct plan_rungs *ladder = &k->r->plan->escalation;
    const bool last = n + 1 == k->notices + k->n_notices;
    struct plan_word own = { { { 0, 0 }, k->owner } };
    const struct plan_words owner = { &own, 1 };

    if (n->acked || n->given_up)
        return false;
    if (k->owner[0] && plan_person(k->r->plan, k->owner) && (rung_holds(k, n, &owner, ladder->n ? ladder->v[0].wait_ms : 0) || !last || !wants_answer(n)))
        return last && wants_answer(n);
    for (unsigned i = 0; i < ladder->n; i++)
        if (rung_holds(k, n, &ladder->v[i].who, ladder->v[i].wait_ms) || !last || !wants_answer(n))
            return last && wants_answer(n);
    if (last && ladder->n) {
        struct err why = { 0 };
        json_t *o = json_object();

        json_object_set_new(o, "notice", json_string(n->id));
        (void)record_append(k->rec, "silence", "", o, &why);
    }
    return false;
}

/* ---- links ---- */

static struct sent *by_token(struct keeper *k, const char *token)
{
    char hash[SEAL_HASH_TEXT];

    seal_hash(token, strlen(token), hash);
    for (unsigned i = 0; i < k->n_letters; i++)
        if (strcmp(k->letters[i].hash, hash) == 0)
            return &k->letters[i];
    return NULL;
}

static enum link_token look(void *arg, const char *token, char *about, unsigned long cap)
{
    struct keeper *k = arg;
    const struct sent *l = by_token(k, token);

    if (!l)
        return LINK_UNKNOWN;
    snprintf(about, cap, "%s: %s (%s), told to %s", k->r->plan->h.name, message_event_name(k->notices[l->notice].event), run_kind_name(k->r), l->person);
    return k->notices[l->notice].acked ? LINK_USED : LINK_OPEN;
}

static int ack(void *arg, const char *token)
{
    struct keeper *k = arg;
    const struct sent *l = by_token(k, token);
    struct err why = { 0 };
    json_t *o = json_object();

    json_object_set_new(o, "notice", json_string(k->notices[l->notice].id));
    json_object_set_new(o, "by", json_string(l->person));
    json_object_set_new(o, "how", json_string("link"));
    return record_append(k->rec, "ack", "", o, &why);
}

/* ---- deciding, beating ---- */

static void decide(struct keeper *k)
{
    struct run *r = k->r;
    const struct plan_commit *c = &r->plan->commit;
    const char *const commit[] = { "/proc/self/exe", "dr", "commit", "--run", r->id, "--site", r->here->h.name, "--by", "policy", NULL };
    const char *const back[] = { "/proc/self/exe", "dr", "rollback", "--run", r->id, "--site", r->here->h.name, "--by", "policy", "--accept-loss", "any", NULL };
    struct proc_end end;
    struct err why = { 0 };
    char said[ERR_MSG_MAX] = "";

    if (k->deciding.pid != 0) {
        if (!proc_poll(&k->deciding, &end))
            return;
        proc_tail(&k->deciding, said, sizeof said);
        proc_release(&k->deciding);
        k->deciding = (struct proc){ 0 };
        if (end.exit == err_exit(ERR_LOCKED)) {   /* somebody is at it; what they decide shows */
            k->decided = false;
            k->decide_ms = proc_ms() + AGAIN_MS;
        } else if (end.exit != 0) {
            run_tell(r, MESSAGE_STOPPED, c->then == DECIDE_COMMIT ? "commit" : "rollback", said);
        }
        return;
    }
    if (k->decided || r->state != RUN_UP || r->back || c->after_ms == 0 || c->then == DECIDE_WAIT || record_wall_ms() < r->up_wall_ms + c->after_ms || proc_ms() < k->decide_ms)
        return;
    k->decided = true;
    if (proc_start((char **)(uintptr_t)(c->then == DECIDE_COMMIT ? commit : back), &(struct proc_how){ .timeout_ms = DECIDE_MS }, &k->deciding, &why))
        run_tell(r, MESSAGE_STOPPED, c->then == DECIDE_COMMIT ? "commit" : "rollback", why.msg);
}

static bool decides_later(const struct keeper *k)
{
    const struct plan_commit *c = &k->r->plan->commit;

    return !k->decided && (k->r->state == RUN_UP || k->r->state == RUN_DIRTY) && !k->r->back && c->after_ms > 0 && c->then != DECIDE_WAIT;
}

static void beat(struct keeper *k)
{
    const struct plan_channels *all = &k->r->plan->channels;
    struct err why = { 0 };
    int64_t next = INT64_MAX;

    if (proc_ms() < k->beat_ms)
        return;
    for (unsigned i = 0; i < all->n; i++)
        if (all->v[i].type == CHANNEL_HEARTBEAT) {
            const struct letter none = { 0 };

            if (channel_send(&all->v[i], "", &none, NULL, &why))
                out_message("%s", why.msg);
            next = all->v[i].interval_ms < next ? all->v[i].interval_ms : next;
        }
    k->beat_ms = next == INT64_MAX ? next : proc_ms() + next;
}

/* ---- the process ---- */

static int keep(struct keeper *k, struct err *err)
{
    int64_t quiet_since = proc_ms();
    int rc = 0;

    while (rc == 0 && !out_interrupted) {
        bool waits = false;

        rc = record_catch_up(k->rec, err);
        if (rc == 0)
            rc = record_catch_up(k->r->rec, err);
        for (unsigned i = 0; rc == 0 && i < k->n_notices; i++)
            waits |= climb(k, &k->notices[i]);
        beat(k);
        decide(k);
        if (waits || k->deciding.pid != 0 || decides_later(k) || (k->r->state == RUN_DIRTY && run_locked(k->r, "lock")))
            quiet_since = proc_ms();
        if (proc_ms() - quiet_since > FINAL_MS)
            break;
        link_serve(k->links, TICK_MS);
    }
    return rc;
}

static int only_one(const struct run *r, struct err *err)
{
    char path[PATH_MAX + 16];
    int fd;

    snprintf(path, sizeof path, "%s/keeper", r->dir);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || fcntl(fd, F_OFD_SETLK, &run_whole))
        return err_set(err, ERR_LOCKED, "%s: another process tells people", r->id);
    return 0;                            /* held until this process ends */
}

int dr_keep(const struct dr_options *o)
{
    struct keeper *k = calloc(1, sizeof *k);
    const struct link_hooks hooks = { look, ack, k };
    struct err err = { 0 };
    int rc = !k ? ERR_NOMEM : !o->run || !o->site ? err_set(&err, ERR_USAGE, "dr keep: expected --run and --site") : run_open(o->site, o->run, false, &k->r, &err);

    if (rc == 0)
        rc = only_one(k->r, &err);
    if (rc == 0 && k->r->plan->ack.listen && link_start(k->r->plan->ack.listen, &hooks, &k->links, &err)) {
        out_message("no links: %s", err.msg);
        memset(&err, 0, sizeof err);
    }
    if (rc == 0)
        rc = record_open(k->r->dir, k->r->seal, line, k, &k->rec, &err);
    if (rc == 0)
        rc = keep(k, &err);
    if (k) {
        link_stop(k->links);
        record_close(k->rec);
        run_close(k->r);
    }
    free(k);
    return rc ? out_error(&err, rc) : EXIT_OK;
}
