/* failover.c: failover, switchover, rejoin; commit, rollback, ack; list. */
#include "cli/dr/next.h"
#include "cli/dr/run.h"
#include "cli/dr/witness.h"
#include "cli/locate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_RPO = 20, EXIT_RTO = 21, COMMIT_MS = 30000 };

/* ---- what is printed ---- */

static void seconds(int64_t ms, char buf[32])
{
    snprintf(buf, 32, "%lld.%03lld s", (long long)(ms / 1000), (long long)(ms % 1000));
}

static json_t *summary(const struct run *r)
{
    json_t *o = json_object();

    json_object_set_new(o, "run", json_string(r->id));
    json_object_set_new(o, "plan", json_string(r->plan->h.name));
    json_object_set_new(o, "kind", json_string(run_kind_name(r)));
    json_object_set_new(o, "state", json_string(run_state_name(r)));
    json_object_set_new(o, "site", json_string(r->here->h.name));
    json_object_set_new(o, "to", json_string(r->to->h.name));
    json_object_set_new(o, "from", json_string(r->from->h.name));
    if (r->up_wall_ms >= 0)
        json_object_set_new(o, "rto_ms", json_integer(run_out_ms(r)));
    if (r->loss_ms >= 0 && r->loss_ms < INT64_MAX)
        json_object_set_new(o, "loss_at_most_ms", json_integer(r->loss_ms));
    if (r->state == RUN_STOPPED) {
        json_object_set_new(o, "stopped_at", json_string(r->stop_step));
        json_object_set_new(o, "reason", record_text(r->stop_reason));
    }
    return o;
}

static const char *against(int64_t is, int64_t objective, char buf[64])
{
    char a[32];

    if (objective < 0)
        return strcpy(buf, "no objective");
    snprintf(buf, 64, "objective %s, %s", plan_duration(objective, a), is == INT64_MAX ? "not known" : is <= objective ? "met" : "MISSED");
    return buf;
}

static void print_summary(const struct run *r)
{
    char a[32], b[32], c[64], d[64], next[NEXT_TEXT];

    if (out_json) {
        json_t *o = summary(r);

        out_object(o);
        json_decref(o);
        return;
    }
    out_text("%s: %s %s, %s -> %s: %s\n", r->plan->h.name, run_kind_name(r), r->id, r->from->h.name, r->to->h.name, run_state_name(r));
    if (r->state == RUN_UP && r->kind != RUN_REJOIN) {
        seconds(run_out_ms(r), a);
        out_text("RTO         %s (%s)\n", a, against(run_out_ms(r), r->plan->objectives.rto_ms, c));
        if (r->kind == RUN_FAILOVER && r->loss_ms >= 0) {
            seconds(r->loss_ms, b);
            out_text("RPO         %s%s (%s)\n", r->loss_ms < INT64_MAX ? "at most " : "nobody can say what was lost", r->loss_ms < INT64_MAX ? b : "", against(r->loss_ms, r->plan->objectives.rpo_ms, d));
        }
    }
    if (r->state == RUN_CLOSED && r->kind == RUN_REJOIN && !r->replaced)
        out_text("Lost        `spare dr report` says what was, if anything\n");
    if (*next_text(r, next))
        out_text("Next: %s\n", next);
}

/* Up: whether what was promised was kept, as far as anybody knows: a loss of which nobody can say how much is none that is within what was promised. */
static int kept(const struct run *r)
{
    if (r->kind == RUN_FAILOVER && r->plan->objectives.rpo_ms >= 0 && r->loss_ms > r->plan->objectives.rpo_ms)
        return EXIT_RPO;
    if (r->kind != RUN_REJOIN && r->plan->objectives.rto_ms >= 0 && run_out_ms(r) > r->plan->objectives.rto_ms)
        return EXIT_RTO;
    return EXIT_OK;
}

/* ---- going ---- */

/* A run of a plan that is no fail-over has nothing left to be decided. */
static int settle(struct run *r, struct err *err)
{
    return r->state == RUN_UP && r->kind != RUN_FAILOVER && r->kind != RUN_SWITCHOVER ? run_note(r, "closed", "", NULL, err) : 0;
}

static int go(struct run *r, struct err *err)
{
    int rc;

    if (r->kind != RUN_REJOIN)
        run_keeper(r);
    rc = run_go(r, err);
    if (rc == 0)
        rc = settle(r, err);
    return rc;
}

/* Where it stands after it began, or was resumed: people hear of a beginning once. */
static int begin(struct run *r, struct err *err)
{
    if (r->kind != RUN_REJOIN && r->notices == 0)
        run_tell(r, MESSAGE_BEGUN, "", "");
    return go(r, err);
}

/* What was up may have been moved since by another run, at another site: then this one is over, and somebody has to say so. */
static int still_up(const struct run *r, struct err *err)
{
    for (unsigned i = 0; i < r->to->stores.n && r->kind != RUN_REJOIN; i++) {
        struct site_store now;

        site_look(&r->view, r->to, &r->to->stores.v[i], &now);
        if (now.reached && strcmp(now.role, "primary") != 0)
            return err_set(err, ERR_BUSY, "run %s brought everything to %s and was never committed: expected store %s there to be the primary still, found a %s. `spare dr commit --run %s`, then this again", r->id,
                           r->to->h.name, r->to->stores.v[i].h.name, now.role, r->id);
    }
    return 0;
}

/* What was promoted has the tree it has: another moment would be ignored. */
static int same_moment(const struct run *r, const struct dr_options *o, struct err *err)
{
    for (unsigned i = 0; o->at && strcmp(o->at, r->at) != 0 && i < r->n_steps; i++)
        if (r->steps[i].kind == STEP_PROMOTE && r->steps[i].state == STEP_DONE)
            return err_set(err, ERR_BUSY, "--at %s: run %s promoted store %s already, %s%s: expected the same moment, or none. `spare restore %s --at %s` brings that tree back there", o->at, r->id, r->steps[i].st->h.name,
                           r->at[0] ? "to " : "to its newest moment", r->at, r->steps[i].st->mount, o->at);
    return 0;
}

static int resume(struct run *r, enum run_kind kind, const struct plan_source *src, const struct dr_options *o, struct err *err)
{
    char hash[SEAL_HASH_TEXT];
    json_t *opt;
    int rc;

    if (run_over(r))
        return err_set(err, ERR_BUSY, "run %s is over (%s%s), and is not gone on with; without --run this goes on with the one that is not, or begins one", r->id, run_state_name(r), r->replaced ? ": a newer one took its place" : "");
    seal_hash(src->text, src->len, hash);
    if (strcmp(hash, r->plan_sha256) != 0)
        out_message("%s is not the plan that run %s began with, %s/plan.yaml: going on with that one; --new begins a run by the plan as it is now", src->from, r->id, r->dir);
    if (r->kind != kind || r->back)
        return err_set(err, ERR_BUSY, "run %s, a %s, is not over (%s): go on with it, commit it or roll it back first", r->id, run_kind_name(r), run_state_name(r));
    rc = same_moment(r, o, err);
    if (rc)
        return rc;
    if (r->state == RUN_UP) {
        rc = still_up(r, err);
        if (rc)
            return rc;
        if (!r->told[MESSAGE_UP] && kind != RUN_REJOIN)
            run_tell(r, MESSAGE_UP, "", "");         /* it was killed before it did */
        if (kind != RUN_REJOIN)
            run_keeper(r);
        return settle(r, err);
    }
    opt = json_object();
    (void)run_options(o, opt, NULL);
    out_message("going on with %s", r->id);
    rc = run_note(r, "resumed", "", opt, err);
    return rc ? rc : begin(r, err);
}

static const struct plan_site *other_site(const struct plan *p, const struct plan_site *here)
{
    const struct plan_site *primary = plan_site(p, p->primary);

    if (primary != here)
        return primary;
    for (unsigned i = 0; i < p->sites.n; i++)
        if (&p->sites.v[i] != here)
            return &p->sites.v[i];
    return NULL;
}

/* From where to where: a failover comes here; a switchover goes to where the primary is not; what rejoins is the other one. */
static void direction(enum run_kind kind, const struct plan *p, const struct plan_site *here, const struct plan_site **to, const struct plan_site **from)
{
    const struct site_view v = { .plan = p, .here = here, .stop = &out_interrupted };
    struct site_store seen;

    *to = here;
    *from = other_site(p, here);
    if (kind == RUN_REJOIN) {
        *to = *from;
        *from = here;
        return;
    }
    if (kind != RUN_SWITCHOVER)
        return;
    site_look(&v, here, &here->stores.v[0], &seen);
    if (seen.reached && strcmp(seen.role, "primary") == 0) {
        *to = *from;
        *from = here;
    }
}

/* ---- which run ---- */

/* ${arg}: NULL; the name of its plan; or what lies in a store of its, or is one. */
static bool of_plan(const struct run *r, const char *arg)
{
    struct place p = { 0 };
    bool is = !arg || strcmp(arg, r->plan->h.name) == 0;

    if (is || locate_store(arg, &p, NULL))
        return is;
    for (unsigned i = 0; i < r->here->stores.n && !is; i++) {
        char *real = realpath(r->here->stores.v[i].path, NULL);

        is = real && strcmp(real, p.store) == 0;
        free(real);
    }
    locate_release(&p);
    return is;
}

/* The run a command means: --run, or the one of the plan (or of any) that is not over. */
struct meant { const struct dr_options *o; enum run_state also; char site[80], id[80]; unsigned n; char also_site[80], also_id[80]; };

static int is_meant(void *arg, const char *site, const char *id)
{
    struct meant *m = arg;
    struct run *r = NULL;
    struct err why = { 0 };

    if ((m->o->site && strcmp(site, m->o->site) != 0) || (m->o->run && strcmp(id, m->o->run) != 0))
        return 0;
    if (run_open(site, id, false, &r, &why) == 0 && (m->o->run || (!run_over(r) && of_plan(r, m->o->plan)))) {
        snprintf(m->site, sizeof m->site, "%s", site);
        snprintf(m->id, sizeof m->id, "%s", id);
        m->n++;
    } else if (r && r->state == m->also && of_plan(r, m->o->plan)) {
        snprintf(m->also_site, sizeof m->also_site, "%s", site);
        snprintf(m->also_id, sizeof m->also_id, "%s", id);
    }
    run_close(r);
    return 0;
}

/* ${also}: where none is left that is not over, the last one in this state: the command was given before. */
static int open_meant(const struct dr_options *o, bool work, enum run_state also, struct run **out, struct err *err)
{
    struct meant m = { .o = o, .also = also };

    (void)run_each(is_meant, &m);
    if (m.n == 0 && m.also_id[0])
        return run_open(m.also_site, m.also_id, work, out, err);
    if (m.n == 0)
        return err_set(err, ERR_NOENT, "expected a run that is not over, found none on this machine; `spare dr list` shows what there was");
    if (m.n > 1 && !o->run)
        return err_set(err, ERR_USAGE, "expected one run that is not over, found %u: say which one, --run RUN", m.n);
    return run_open(m.site, m.id, work, out, err);
}

/* ---- start ---- */

/* The plan of today cannot be read, or is gone; but a run that is not over has its own. 0: *site and ${with} are that run; else nothing is changed. */
static int by_its_own_plan(const struct dr_options *o, struct plan_source *src, struct plan **p, struct dr_options *with, char site[80], char id[80], const char *why)
{
    char path[PATH_MAX + 16];
    struct run *r = NULL;
    struct err no = { 0 };
    int rc = o->again ? ERR_NOENT : open_meant(o, false, RUN_DIRTY, &r, &no);

    if (rc)
        return rc;
    snprintf(site, 80, "%s", r->here->h.name);
    snprintf(id, 80, "%s", r->id);
    snprintf(path, sizeof path, "%s/plan.yaml", r->dir);
    rc = plan_load(path, src, p, &no);
    if (rc == 0) {
        out_message("%s; going on with run %s by the plan it began with, %s", why, id, path);
        with->site = site;
        with->run = id;
    }
    run_close(r);
    return rc;
}

/*
 * Of a plan and a site one run is not over. What another one has begun ends before a new one begins, since the plan's commands do not run twice at the same time; then that one is closed, and what it promoted is taken over:
 * what was lost by it, and since when changes are made here. (Cut off in between, the same command finds it closed, and takes over all the same.)
 */
struct others { const char *plan, *site; struct before before; struct err *err; };

static int end_other(void *arg, const char *site, const char *id)
{
    struct others *o = arg;
    struct run *r = NULL;
    struct err why = { 0 };
    int rc = 0;

    if (strcmp(site, o->site) != 0)
        return 0;
    rc = run_open(site, id, false, &r, &why);
    if (rc) {
        if (rc != ERR_NOENT)             /* one that never began is none */
            out_message("%s: not taken over, what it promoted and lost is not known: %s", id, why.msg);
        return 0;
    }
    if (strcmp(r->plan->h.name, o->plan) != 0) {
        run_close(r);
        return 0;
    }
    if (!run_over(r)) {
        run_close(r);
        r = NULL;
        rc = run_open(site, id, true, &r, o->err);
    }
    if (rc == 0 && !run_over(r)) {
        out_message("run %s, a %s that is %s, is closed: a new one takes its place", id, run_kind_name(r), run_state_name(r));
        rc = run_note(r, "closed", "", json_pack("{sb}", "replaced", 1), o->err);
    }
    if (rc == 0)
        run_before(r, &o->before);
    run_close(r);
    return rc;
}

static int begin_anew(enum run_kind kind, const struct plan *p, const struct plan_site *here, const struct plan_source *src, const struct dr_options *o, struct run **out, struct err *err)
{
    struct others others = { .plan = p->h.name, .site = here->h.name, .err = err };
    const struct plan_site *to, *from;
    int rc = run_each(end_other, &others);

    if (rc)
        return rc;
    memset(err, 0, sizeof *err);
    direction(kind, p, here, &to, &from);
    return run_new(kind, src, o, &others.before, here, to, from, out, err);
}

static int start(enum run_kind kind, const struct dr_options *o, struct run **out, struct err *err)
{
    struct dr_options with = *o;
    struct plan_source src = { 0 };
    struct plan *p = NULL;
    const struct plan_site *here = NULL;
    json_t *opt = json_object();
    char id[80], own_site[80], own_id[80];
    bool found;
    int rc = run_options(o, opt, err), lock = -1;

    json_decref(opt);
    if (rc)
        return rc;
    rc = plan_load(o->plan, &src, &p, err);
    if (rc && by_its_own_plan(o, &src, &p, &with, own_site, own_id, err->msg) == 0) {
        memset(err, 0, sizeof *err);
        rc = 0;
    }
    if (rc == 0)
        rc = run_site(p, &with, &here, err);
    if (rc)
        goto out;
    if (src.store)
        plan_note(src.store);
    rc = run_beginning(here->h.name, &lock, err);
    if (rc)
        goto out;
    found = with.run || (!o->again && run_find(p->h.name, here->h.name, true, id, err) == 0);
    rc = found ? run_open(here->h.name, with.run ? with.run : id, true, out, err) : begin_anew(kind, p, here, &src, o, out, err);
    close(lock);                         /* who comes now finds that run, and its lock */
    if (rc == 0)
        rc = found ? resume(*out, kind, &src, &with, err) : begin(*out, err);
out:
    plan_free(p);
    plan_source_release(&src);
    return rc;
}

static int run_command(enum run_kind kind, const struct dr_options *o)
{
    struct run *r = NULL;
    struct err err = { 0 };
    char next[NEXT_TEXT];
    int rc = start(kind, o, &r, &err), code;

    if (r && out_json)
        print_summary(r);
    else if (r && rc == 0)
        print_summary(r);
    if (r && r->lock >= 0)
        witness_end(r);
    code = rc ? out_error(&err, rc) : kept(r);
    if (rc && r && !out_json && r->lock >= 0 && r->state == RUN_STOPPED)
        out_message("next: %s", next_text(r, next));
    run_close(r);
    return code;
}

int dr_failover(const struct dr_options *o)
{
    return run_command(RUN_FAILOVER, o);
}

int dr_switchover(const struct dr_options *o)
{
    return run_command(RUN_SWITCHOVER, o);
}

int dr_rejoin(const struct dr_options *o)
{
    return run_command(RUN_REJOIN, o);
}

/* ---- deciding ---- */

static json_t *decided(const struct dr_options *o)
{
    json_t *j = json_object();
    const char *user = getenv("SUDO_USER") ? getenv("SUDO_USER") : getenv("LOGNAME");

    json_object_set_new(j, "by", json_string(o->person ? o->person : user ? user : ""));
    if (o->reason)
        json_object_set_new(j, "reason", json_string(o->reason));
    return j;
}

/* Once, also where the command that should have was killed before it did. */
static void tell_end(struct run *r, enum message_event e)
{
    if (r->told[e])
        return;
    run_tell(r, e, "", "");
    run_keeper(r);
}

/* The stores say so, too. What cannot be told now is told by nobody later, and changes nothing but a word of status. */
static void commit_stores(struct run *r)
{
    for (unsigned i = 0; i < r->to->stores.n; i++) {
        const char *const argv[] = { "promote", "--commit", r->to->stores.v[i].path, NULL };
        struct site_store now;
        struct err why = { 0 };

        site_look(&r->view, r->to, &r->to->stores.v[i], &now);
        if (now.reached && strcmp(now.role, "primary") == 0 && now.uncommitted && site_spare(&r->view, r->to, argv, COMMIT_MS, NULL, &why) != 0)
            out_warn("%s: goes on saying that it failed over: %s", r->to->stores.v[i].path, why.msg);
    }
}

int dr_commit(const struct dr_options *o)
{
    struct run *r = NULL;
    struct err err = { 0 };
    int rc = open_meant(o, true, RUN_COMMITTED, &r, &err), code;

    if (rc == 0 && r->state != RUN_UP && r->state != RUN_COMMITTED)
        rc = err_set(&err, ERR_BUSY, "run %s: expected one that is up, found it %s", r->id, run_state_name(r));
    if (rc == 0 && r->state == RUN_UP)
        rc = run_note(r, "commit", "", decided(o), &err);
    if (rc == 0)
        commit_stores(r);
    if (rc == 0)
        tell_end(r, MESSAGE_COMMITTED);
    if (rc == 0)
        print_summary(r);
    if (rc == 0)
        witness_end(r);
    code = rc ? out_error(&err, rc) : EXIT_OK;
    run_close(r);
    return code;
}

static int64_t accepted_of(const json_t *how)
{
    const json_t *any = json_object_get(how, "accept_loss_ms");

    return json_is_string(any) ? INT64_MAX : json_is_integer(any) ? json_integer_value(any) : -1;
}

static int go_back(struct run *r, const struct dr_options *o, struct err *err)
{
    json_t *how = decided(o);
    int rc = run_options(o, how, err);

    if (rc == 0 && r->state == RUN_ROLLED_BACK) {
        json_decref(how);
        tell_end(r, MESSAGE_ROLLED_BACK);
        return 0;
    }
    if (rc == 0 && !r->back && !run_touched(r))
        return run_note(r, "closed", "", how, err);
    if (rc == 0 && run_over(r))
        rc = err_set(err, ERR_BUSY, "run %s is over (%s): `spare dr switchover` goes back without losing anything", r->id, run_state_name(r));
    if (rc) {
        json_decref(how);
        return rc;
    }
    if (!r->back)
        rc = run_may_go_back(r, accepted_of(how), err);
    if (rc) {
        json_object_set_new(how, "error", json_string(err_name(rc)));
        json_object_set_new(how, "why", record_text(err->msg));
        (void)run_note(r, "refused", "", how, NULL);
        return rc;
    }
    /* A rollback that was stopped goes on, as any run does. */
    rc = run_note(r, r->back ? "resumed" : "rollback", "", how, err);
    if (rc == 0) {
        run_keeper(r);
        rc = run_go(r, err);
    }
    return rc;
}

int dr_rollback(const struct dr_options *o)
{
    struct run *r = NULL;
    struct err err = { 0 };
    int rc = open_meant(o, true, RUN_ROLLED_BACK, &r, &err), code;

    if (rc == 0)
        rc = go_back(r, o, &err);
    if (r && (rc == 0 || out_json))
        print_summary(r);
    if (r && r->lock >= 0)
        witness_end(r);
    code = rc ? out_error(&err, rc) : EXIT_OK;
    run_close(r);
    return code;
}

int dr_ack(const struct dr_options *o)
{
    struct run *r = NULL;
    struct err err = { 0 };
    const struct step *s;
    json_t *how = decided(o);
    int rc = open_meant(o, false, RUN_DIRTY, &r, &err), code;

    if (rc == 0 && o->step) {
        s = run_step(r, o->step);
        if (!s || s->state != STEP_WAITING)
            rc = err_set(&err, ERR_NOENT, "%s: expected a step that waits for a person, found %s", o->step, s ? "one that does not" : "no such step");
    }
    if (rc == 0 && !o->step) {
        char id[32];

        if (r->notices == 0)
            rc = err_set(&err, ERR_NOENT, "run %s: nobody was told anything yet", r->id);
        snprintf(id, sizeof id, "n%llu", (unsigned long long)r->notices);
        json_object_set_new(how, "notice", json_string(id));
    }
    json_object_set_new(how, "how", json_string("command"));
    if (o->failed)
        json_object_set_new(how, "failed", json_true());
    if (rc == 0)
        rc = run_note(r, "ack", o->step ? o->step : "", json_incref(how), &err);
    json_decref(how);
    if (rc == 0)
        print_summary(r);
    code = rc ? out_error(&err, rc) : EXIT_OK;
    run_close(r);
    return code;
}

/* ---- list ---- */

static int list_one(void *arg, const char *site, const char *id)
{
    const struct dr_options *o = arg;
    struct run *r = NULL;
    struct err why = { 0 };
    char a[32] = "";
    int rc;

    if (o->site && strcmp(o->site, site) != 0)
        return 0;
    rc = run_open(site, id, false, &r, &why);
    if (rc) {
        if (rc != ERR_NOENT)             /* one that never began is none */
            out_warn("%s", why.msg);
        return 0;
    }
    if (o->plan && strcmp(o->plan, r->plan->h.name) != 0) {
        run_close(r);
        return 0;
    }
    if (out_json) {
        print_summary(r);
    } else {
        if (r->up_wall_ms >= 0)
            seconds(run_out_ms(r), a);
        out_text("%-42s %-12s %s -> %s  %s%s%s%s%s%s\n", r->id, r->plan->h.name, r->from->h.name, r->to->h.name, run_state_name(r), r->state == RUN_STOPPED ? " at " : "", r->state == RUN_STOPPED ? r->stop_step : "",
                 r->replaced ? ", a newer one took its place" : "", *a ? r->kind == RUN_REJOIN ? ", took " : ", up after " : "", a);
    }
    run_close(r);
    return 0;
}

int dr_list(const struct dr_options *o)
{
    (void)run_each(list_one, (void *)(uintptr_t)o);
    return EXIT_OK;
}
