/* run_act.c: the steps that spare does itself. Each may be begun again: what it wants is asked for first. */
#include "cli/dr/env.h"
#include "cli/dr/loss.h"
#include "cli/dr/run.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROMOTE_MS = 120000, PROMOTE_AT_MS = 4 * 3600 * 1000, MOUNT_MS = 120000, HAND_OVER_MS = 600000, SHIP_MS = 24 * 3600 * 1000, MKDIR_MS = 10000, SHIP_TRIES = 3 };

bool run_by_spare(enum step_kind kind)
{
    return kind != STEP_START && kind != STEP_HEALTH && kind != STEP_STOP && kind != STEP_TRAFFIC && kind != STEP_MANUAL;
}

static bool is_primary(const struct site_store *s)
{
    return s->reached && strcmp(s->role, "primary") == 0;
}

/* By its role, not by its state: that is one word for what is worst, and hides others. One that was told of another primary has the role "fenced". */
static bool is_promoted(const struct site_store *s)
{
    return is_primary(s) && !s->unfinished;
}

static int may_write(const struct step *s, const struct site_store *now, struct err *err)
{
    if (!now->lease_out)
        return 0;
    return err_set(err, ERR_FENCED, "site %s: %s is the primary, and takes no change: its lease is out, until its standby answers. `spare config set %s lease=` there does without; see to it that nobody promotes that standby", s->at->h.name,
                   s->st->path, s->st->path);
}

/* A failure of a command in words. */
static int failed(int r, struct err *err)
{
    if (r > 0)
        err->code = ERR_UNKNOWN;
    return r > 0 ? ERR_UNKNOWN : r;
}

/* ---- detect ---- */

static void put_seen(json_t *more, const char *key, const struct plan_site *site, const struct site_store *seen)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < site->stores.n && i < 16; i++) {
        json_t *o = json_object();

        json_object_set_new(o, "store", json_string(site->stores.v[i].h.name));
        json_object_set_new(o, "reached", json_boolean(seen[i].reached));
        if (seen[i].reached) {
            json_object_set_new(o, "role", json_string(seen[i].role));
            json_object_set_new(o, "state", json_string(seen[i].state));
            json_object_set_new(o, "epoch", json_integer((json_int_t)seen[i].epoch));
            json_object_set_new(o, "durable_lsn", json_integer((json_int_t)seen[i].durable_lsn));
        } else {
            json_object_set_new(o, "why", json_string(seen[i].why));
        }
        json_array_append_new(list, o);
    }
    json_object_set_new(more, key, list);
}

static void look(struct run *r)
{
    bool gone = false;

    for (unsigned i = 0; i < r->to->stores.n && i < 16; i++)
        site_look(&r->view, r->to, &r->to->stores.v[i], &r->to_seen[i]);
    for (unsigned i = 0; i < r->from->stores.n && i < 16; i++) {
        if (gone) {
            r->from_seen[i] = r->from_seen[0];
            continue;
        }
        site_look(&r->view, r->from, &r->from->stores.v[i], &r->from_seen[i]);
        /* A host that does not answer is not asked once a store. */
        gone = !r->from_seen[i].reached && !site_is_here(&r->view, r->from);
    }
    r->looked = true;
}

static int detect(struct run *r, json_t *more, struct err *err)
{
    look(r);
    put_seen(more, "to", r->to, r->to_seen);
    put_seen(more, "from", r->from, r->from_seen);
    for (unsigned i = 0; i < r->to->stores.n && i < 16; i++)
        if (!r->to_seen[i].reached)
            return err_set(err, ERR_NOSTORE, "site %s, store %s: expected a store, found none: %s", r->to->h.name, r->to->stores.v[i].path, r->to_seen[i].why);
    return 0;
}

/* ---- confirm ---- */

/*
 * What may be lost at most, into the run: from the last change that is held to the moment the primary went away, or now. What is promoted already holds what there is: what was lost by it is known from the run before, or by nobody.
 * Returned: what would be lost by going on; -1: nothing more. *held_ms: up to then what is not promoted yet has everything; -1: not known.
 */
static int64_t measure_loss(struct run *r, int64_t *held_ms)
{
    int64_t until = r->since_ms >= 0 ? r->since_ms : r->began_wall_ms, held = INT64_MAX, more;
    const int64_t was = r->loss_ms, was_held = r->held_to_ms;
    bool some = false, open = false;

    for (unsigned i = 0; i < r->to->stores.n && i < 16; i++) {
        if (is_primary(&r->to_seen[i])) {
            some = true;
            open |= r->to_seen[i].uncommitted;
        } else if (r->to_seen[i].held_to_ms < held) {
            held = r->to_seen[i].held_to_ms;
        }
    }
    *held_ms = held == INT64_MAX ? -1 : held;
    if (held == INT64_MAX) {
        if (was < 0)
            r->loss_ms = open ? INT64_MAX : 0;
        return -1;
    }
    more = held < 0 ? INT64_MAX : until > held ? until - held : 0;
    r->held_to_ms = some && was_held >= 0 && was_held < held ? was_held : held;
    r->loss_ms = some && was < 0 && open ? INT64_MAX : some && was > more ? was : more;
    return more;
}

static void loss_text(int64_t ms, char buf[48])
{
    if (ms == INT64_MAX)
        snprintf(buf, 48, "an unknown time");
    else
        snprintf(buf, 48, "%lld.%03lld s", (long long)(ms / 1000), (long long)(ms % 1000));
}

static int confirm_failover(struct run *r, json_t *more, struct err *err)
{
    int64_t accepted = r->accept_loss_ms, would_lose, held;
    char lost[48], when[40];
    bool alive = false;

    for (unsigned i = 0; i < r->from->stores.n && i < 16; i++)
        alive |= is_primary(&r->from_seen[i]);
    would_lose = measure_loss(r, &held);
    loss_text(would_lose, lost);
    if (accepted < 0)
        accepted = r->prefer == PREFER_RTO && r->plan->objectives.rpo_ms >= 0 && !alive ? r->plan->objectives.rpo_ms : 0;
    json_object_set_new(more, "loss_at_most_ms", r->loss_ms == INT64_MAX ? json_null() : json_integer(r->loss_ms));       /* null: any; nobody can say */
    if (r->held_to_ms >= 0)
        json_object_set_new(more, "held_to_ms", json_integer(r->held_to_ms));
    json_object_set_new(more, "accepted_ms", accepted == INT64_MAX ? json_string("any") : json_integer(accepted));
    json_object_set_new(more, "primary_answers", json_boolean(alive));
    if (alive && r->accept_loss_ms < 0)
        return err_set(err, ERR_LOSTDATA, "site %s answers, and is the primary: `spare dr switchover` moves without losing anything. To go on without it say --accept-loss BOUND", r->from->h.name);
    if (would_lose > accepted)
        return err_set(err, ERR_LOSTDATA, "up to %s of changes would be lost: %s holds everything up to %s, and nothing says that %s did nothing after that. Accepted are %lld ms%s. --accept-loss BOUND (or any) goes on; "
                       "--since TIME says when %s went away", lost, r->to->h.name, held >= 0 ? record_time(held, when) : "an unknown time", r->from->h.name, (long long)accepted, r->accept_loss_ms < 0 && accepted ? " (the plan's RPO)" : "", r->from->h.name);
    return 0;
}

/* ${to}: where it would go back to; as seen. */
static int may_go_back(const struct run *r, const struct plan_site *to, const struct plan_site *from, const struct site_store *seen, int64_t accepted_ms, json_t *more, struct err *err)
{
    int64_t lost = r->promoted_wall_ms >= 0 ? record_wall_ms() - r->promoted_wall_ms : 0;
    char text[48];

    for (unsigned i = 0; i < to->stores.n && i < 16; i++)
        if (!seen[i].reached)
            return err_set(err, ERR_AWAY, "site %s is not reached, so nothing can go back to it: %s", to->h.name, seen[i].why);
    if (r->kind == RUN_SWITCHOVER)
        return 0;
    loss_text(lost, text);
    if (more)
        json_object_set_new(more, "loss_at_most_ms", json_integer(lost));
    if (lost > accepted_ms)
        return err_set(err, ERR_LOSTDATA, "what was changed here in %s since %s took over would not be in the live tree of %s (it is kept, as a branch). --accept-loss BOUND (or any) goes on; `spare dr commit` and "
                       "`spare dr switchover` go back without losing anything", text, from->h.name, to->h.name);
    return 0;
}

int run_may_go_back(struct run *r, int64_t accepted_ms, struct err *err)
{
    look(r);
    return may_go_back(r, r->from, r->to, r->from_seen, accepted_ms, NULL, err);
}

static int confirm_rollback(struct run *r, json_t *more, struct err *err)
{
    return may_go_back(r, r->to, r->from, r->to_seen, r->accept_loss_ms, more, err);
}

/* Both must be there, one primary and one standby. */
static int confirm_both(struct run *r, struct err *err)
{
    for (unsigned i = 0; i < r->from->stores.n && i < 16; i++) {
        const char *st = r->from->stores.v[i].h.name;
        /* The same stores at every site, but not in the same order. */
        const struct site_store *from = &r->from_seen[i], *to = &r->to_seen[plan_store(r->to, st) - r->to->stores.v];

        if (from->reached && to->reached && strcmp(from->lineage, to->lineage) != 0)
            return err_set(err, ERR_DAMAGE, "store %s: expected the same store at both sites, found lineage %.16s at %s and %.16s at %s", st, from->lineage, r->from->h.name, to->lineage, r->to->h.name);
        if (!from->reached)
            return err_set(err, ERR_AWAY, "site %s, store %s is not reached: %s", r->from->h.name, st, from->why);
        if (!is_primary(from) && !is_primary(to))
            return err_set(err, ERR_FENCED, "store %s: expected %s to be the primary, found %s there and %s at %s", st, r->from->h.name, from->role, to->role, r->to->h.name);
        if (is_primary(from) && is_primary(to) && r->kind == RUN_SWITCHOVER)
            return err_set(err, ERR_FENCED, "store %s: expected one primary, found two, %s and %s; `spare dr rejoin` makes a standby of the one that shall not stay", st, r->from->h.name, r->to->h.name);
    }
    return 0;
}

static int confirm(struct run *r, json_t *more, struct err *err)
{
    if (!r->looked)
        look(r);
    if (r->back)
        return confirm_rollback(r, more, err);
    return r->kind == RUN_FAILOVER ? confirm_failover(r, more, err) : confirm_both(r, err);
}

/* ---- fence ---- */

/* One of the plan's commands says that the other site writes no more. */
static const char *fence_command(struct run *r, const struct step *s)
{
    for (unsigned i = 0; i < r->from->fence.n; i++) {
        const struct plan_command *c = &r->from->fence.v[i];
        char log[PATH_MAX + 64];

        snprintf(log, sizeof log, "%s/out/fence.%s", r->dir, c->h.name);
        for (int64_t t = 0; t <= c->retries && !*r->view.stop; t++) {
            struct proc p;
            struct proc_end end = { .exit = 1 };
            struct err why = { 0 };

            if (site_command(&r->view, s->at, s->other, c->command, log, c->timeout_ms, s->name, &p, &why) == 0) {
                proc_wait(&p, &end, r->view.stop);
                proc_release(&p);
            }
            if (end.exit == 0)
                return c->h.name;
            for (int64_t until = proc_ms() + c->interval_ms; t < c->retries && !*r->view.stop && proc_ms() < until;)
                (void)poll(NULL, 0, 20);
        }
    }
    return NULL;
}

/* Where it answers, it is told itself: from then on it refuses every change. */
static bool fence_by_demotion(struct run *r)
{
    for (unsigned i = 0; i < r->from->stores.n && i < 16; i++) {
        const char *const argv[] = { "demote", r->from->stores.v[i].path, NULL };
        struct err why = { 0 };

        if (!r->from_seen[i].reached)
            return false;
        if (is_primary(&r->from_seen[i]) && site_spare(&r->view, r->from, argv, PROMOTE_MS, NULL, &why))
            return false;
    }
    return true;
}

static int fence(struct run *r, const struct step *s, json_t *more, struct err *err)
{
    const char *by;

    if (!r->looked)
        look(r);
    by = fence_command(r, s);
    if (!by && fence_by_demotion(r))
        by = "demotion";
    json_object_set_new(more, "confirmed_by", by ? json_string(by) : json_null());
    if (by)
        return 0;
    if (r->unfenced) {
        json_object_set_new(more, "unfenced", json_true());
        out_message("nothing confirms that %s writes no more; going on as told: what is written there from now on is on a branch of its own", r->from->h.name);
        return 0;
    }
    return err_set(err, ERR_LOSTDATA, "nothing confirms that site %s writes no more: %s. If it still runs, both sites take changes from now on, and only one of them can be kept live. "
                   "Have it switched off, then say --unfenced", r->from->h.name, r->from->fence.n ? "no fence command of the plan succeeded" : "the plan has no fence command for it");
}

/* ---- roles and mounts ---- */

static int promote(struct run *r, const struct step *s, struct err *err)
{
    /* The step before made sure that nobody else writes, or a person said so: a lease of the store is not waited for. */
    const char *argv[6] = { "promote", s->st->path, "--unfenced" };
    int n = 3, rc;
    struct site_store now;

    if (r->at[0]) {
        argv[n++] = "--at";
        argv[n++] = r->at;
    }
    site_look(&r->view, s->at, s->st, &now);
    if (is_promoted(&now))
        return r->at[0] && !s->cut_off ? err_set(err, ERR_BUSY, "site %s: %s is the primary already, so its tree stays what it is: `spare restore %s --at %s` brings an older one back", s->at->h.name, s->st->path, s->st->mount, r->at) : may_write(s, &now, err);
    rc = failed(site_spare(&r->view, s->at, argv, r->at[0] ? PROMOTE_AT_MS : PROMOTE_MS, NULL, err), err);
    if (rc == 0)
        return 0;
    site_look(&r->view, s->at, s->st, &now);
    return is_promoted(&now) ? may_write(s, &now, err) : rc;
}

static int make_dir(struct run *r, const struct step *s, struct err *err)
{
    struct proc p;
    struct proc_end end;
    char *q = env_quoted(s->st->mount), *cmd = NULL, said[256];
    int rc = ERR_NOMEM;

    if (q && asprintf(&cmd, "mkdir -p -- %s", q) < 0)
        cmd = NULL;
    if (cmd)
        rc = site_command(&r->view, s->at, s->other, cmd, NULL, MKDIR_MS, s->name, &p, err);
    if (rc == 0) {
        proc_wait(&p, &end, r->view.stop);
        proc_tail(&p, said, sizeof said);
        proc_release(&p);
        if (end.exit)
            rc = err_set(err, ERR_IO, "site %s: %s", s->at->h.name, said);
    }
    free(q);
    free(cmd);
    return rc;
}

static int mount_store(struct run *r, const struct step *s, struct err *err)
{
    const char *argv[] = { "mount", s->st->path, s->st->mount, s->st->options ? "-o" : NULL, s->st->options, NULL };
    struct site_store now;
    int rc;

    site_look(&r->view, s->at, s->st, &now);
    if (now.reached && strcmp(now.mounted_at, s->st->mount) == 0)
        return 0;
    if (now.reached && now.mounted_at[0])
        return err_set(err, ERR_BUSY, "site %s: expected %s to be mounted at %s, found it at %s", s->at->h.name, s->st->path, s->st->mount, now.mounted_at);
    rc = make_dir(r, s, err);
    return rc ? rc : failed(site_spare(&r->view, s->at, argv, MOUNT_MS, NULL, err), err);
}

static int umount_store(struct run *r, const struct step *s, struct err *err)
{
    const char *const argv[] = { "umount", s->st->mount, NULL };
    struct site_store now;

    site_look(&r->view, s->at, s->st, &now);
    if (now.reached && !now.mounted_at[0])
        return 0;
    return failed(site_spare(&r->view, s->at, argv, MOUNT_MS, NULL, err), err);
}

static int demote(struct run *r, const struct step *s, struct err *err)
{
    const char *const argv[] = { "demote", s->st->path, NULL };
    struct site_store now;

    site_look(&r->view, s->at, s->st, &now);
    if (now.reached && strcmp(now.role, "standby") == 0)
        return 0;
    return failed(site_spare(&r->view, s->at, argv, PROMOTE_MS, NULL, err), err);
}

/* ---- two sites ---- */

static const struct plan_store *there(const struct step *s)
{
    return plan_store(s->other, s->st->h.name);
}

/* ssh and spare as the plan has them for the other site. */
static unsigned way(const struct run *r, const struct plan_site *from, const struct plan_site *to, const char **argv, unsigned n)
{
    (void)r;
    if (to->host && to->ssh && from != to) {
        argv[n++] = "--ssh";
        argv[n++] = to->ssh;
    }
    if (to->host && to->spare) {
        argv[n++] = "--remote-spare";
        argv[n++] = to->spare;
    }
    return n;
}

static int pair_command(struct run *r, const struct step *s, const char *word, int64_t timeout_ms, json_t **out, struct err *err)
{
    const char *argv[12] = { word };
    unsigned n = way(r, s->at, s->other, argv, 1);
    char *target = site_target(s->other, there(s));
    int rc;

    if (!target)
        return err_set(err, ERR_NOMEM, "no memory");
    argv[n++] = s->st->path;
    argv[n++] = target;
    argv[n] = NULL;
    rc = site_spare(&r->view, s->at, argv, timeout_ms, out, err);
    free(target);
    return rc;
}

static int hand_over(struct run *r, const struct step *s, json_t *more, struct err *err)
{
    struct site_store from, to;
    json_t *o = NULL;
    int rc;

    site_look(&r->view, s->at, s->st, &from);
    site_look(&r->view, s->other, there(s), &to);
    if (is_primary(&to) && !is_primary(&from))
        return 0;
    /* Cut off between the two: everything is there, it only has no primary. */
    if (s->cut_off && to.reached && from.reached && !is_primary(&to) && !is_primary(&from)) {
        const char *const argv[] = { "promote", "--commit", "--unfenced", there(s)->path, NULL };

        return failed(site_spare(&r->view, s->other, argv, PROMOTE_MS, NULL, err), err);
    }
    rc = failed(pair_command(r, s, "switchover", HAND_OVER_MS, &o, err), err);
    if (o && json_object_get(o, "held_ms"))
        json_object_set(more, "held_ms", json_object_get(o, "held_ms"));
    json_decref(o);
    return rc;
}

/* The old primary ships to the new one, is told of the epoch there, and is fenced by that: exit 24. */
static int meet(struct run *r, const struct step *s, struct err *err)
{
    struct site_store now;
    int rc;

    /* It was demoted when it was fenced, and may not have heard of the epoch that came after. */
    site_look(&r->view, s->at, s->st, &now);
    if (now.reached && !is_primary(&now)) {
        const char *const argv[] = { "promote", s->st->path, NULL };

        rc = failed(site_spare(&r->view, s->at, argv, PROMOTE_MS, NULL, err), err);
        if (rc)
            return rc;
    }
    rc = pair_command(r, s, "sync", SHIP_MS, NULL, err);
    if (rc == 24 || rc == 0) {
        memset(err, 0, sizeof *err);
        return 0;
    }
    return failed(rc, err);
}

static int ship(struct run *r, const struct step *s, json_t *more, struct err *err)
{
    int rc = loss_before(r, s, there(s), err);

    if (rc)
        return rc;
    /* 22: it goes back to where both parted, and is there for the next try. */
    rc = 22;
    for (int tries = 0; rc == 22 && tries < SHIP_TRIES; tries++) {
        memset(err, 0, sizeof *err);
        rc = pair_command(r, s, "sync", SHIP_MS, NULL, err);
    }
    if (rc)
        return failed(rc, err);
    loss_after(r, s, there(s), more);
    return 0;
}

int run_act(struct run *r, struct step *s, json_t *more, struct err *err)
{
    switch (s->kind) {
    case STEP_DETECT: return detect(r, more, err);
    case STEP_CONFIRM: return confirm(r, more, err);
    case STEP_FENCE: return fence(r, s, more, err);
    case STEP_PROMOTE: return promote(r, s, err);
    case STEP_MOUNT: return mount_store(r, s, err);
    case STEP_UMOUNT: return umount_store(r, s, err);
    case STEP_DEMOTE: return demote(r, s, err);
    case STEP_HAND_OVER: return hand_over(r, s, more, err);
    case STEP_MEET: return meet(r, s, err);
    case STEP_SHIP: return ship(r, s, more, err);
    default: return err_set(err, ERR_UNKNOWN, "%s: no such step", s->name);
    }
}
