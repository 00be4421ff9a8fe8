/*
 * report.c: `dr report`: what a run took, against what was promised, from its record, which is proven first, by itself and by what the other site countersigned of it (witness.h).
 */
#include "cli/dr/loss.h"
#include "cli/dr/next.h"
#include "cli/dr/run.h"
#include "cli/dr/witness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is measured ---- */

static void seconds(int64_t ms, char buf[32])
{
    if (ms < 0 || ms == INT64_MAX)
        snprintf(buf, 32, "-");
    else
        snprintf(buf, 32, "%lld.%03lld s", (long long)(ms / 1000), (long long)(ms % 1000));
}

/* When the last step of that system ended; -1: it has not. */
static int64_t system_up(const struct run *r, const struct plan_system *s)
{
    int64_t last = -1;

    for (unsigned i = 0; i < r->n_steps; i++)
        if (r->steps[i].sys == s && r->steps[i].kind != STEP_STOP) {
            if (r->steps[i].state != STEP_DONE && r->steps[i].state != STEP_PASSED)
                return -1;
            last = r->steps[i].end_wall_ms > last ? r->steps[i].end_wall_ms : last;
        }
    return last < 0 ? -1 : last - r->out_since_wall_ms;
}

static int64_t own_time(const struct run *r)
{
    int64_t ms = 0;

    for (unsigned i = 0; i < r->n_steps; i++)
        if (run_by_spare(r->steps[i].kind) && r->steps[i].kind != STEP_FENCE)
            ms += r->steps[i].ms;
    return ms;
}

static const char *verdict(int64_t is, int64_t objective)
{
    return objective < 0 ? "no objective" : is < 0 ? "not up" : is == INT64_MAX ? "not known" : is <= objective ? "met" : "MISSED";
}

static json_t *system_object(const struct run *r, const struct plan_system *s, int64_t rpo_ms)
{
    json_t *o = json_object();
    int64_t up = system_up(r, s);

    json_object_set_new(o, "what", json_string("system"));
    json_object_set_new(o, "system", json_string(s->h.name));
    json_object_set_new(o, "critical", json_integer(s->critical));
    json_object_set_new(o, "up_ms", up < 0 ? json_null() : json_integer(up));
    json_object_set_new(o, "rto_ms", plan_rto(r->plan, s) < 0 ? json_null() : json_integer(plan_rto(r->plan, s)));
    json_object_set_new(o, "rto", json_string(verdict(up, plan_rto(r->plan, s))));
    json_object_set_new(o, "max_outage_ms", s->max_outage_ms < 0 ? json_null() : json_integer(s->max_outage_ms));
    json_object_set_new(o, "max_outage", json_string(verdict(up, s->max_outage_ms)));
    json_object_set_new(o, "rpo", json_string(rpo_ms < 0 ? (r->kind == RUN_FAILOVER ? "not known" : "nothing lost") : verdict(rpo_ms, plan_rpo(r->plan, s))));
    return o;
}

static const char *step_word(const struct step *s)
{
    static const char *const w[] = { "not begun", "under way", "waiting", "done", "failed, passed over", "FAILED" };

    return s->cut_off && s->state == STEP_TODO ? "cut off" : w[s->state];
}

/* ---- what was lost, once the old primary is back ---- */

/* So many lines of a list on paper; JSON has them all. */
enum { LINES_SHOWN = 20 };
struct listing { const json_t *lost; unsigned n; };

/* The store itself, as a command there names it. */
static const char *path_there(const struct run *r, const json_t *lost)
{
    const struct plan_site *site = plan_site(r->plan, item_text(lost, "site"));
    const struct plan_store *st = site ? plan_store(site, item_text(lost, "store")) : NULL;

    return st ? st->path : "STORE";
}

static void lost_file(void *arg, const json_t *line)
{
    struct listing *l = arg;
    char size[32];

    l->n++;
    if (out_json) {
        json_t *o = json_copy((json_t *)(uintptr_t)line);

        json_object_set_new(o, "what", json_string("lost-file"));
        json_object_set(o, "store", json_object_get(l->lost, "store"));
        out_object(o);
        json_decref(o);
    } else if (l->n <= LINES_SHOWN) {
        out_text("  %-10s  %9s  %6llu operations  %s\n", item_text(line, "change"), out_size(item_u64(line, "size_after_bytes"), size), (unsigned long long)item_u64(line, "operations"), item_name(line, "path"));
    }
}

/* A branch: what it is, from when to when, and how to get at it. */
static void lost_branch(const struct run *r, const json_t *o)
{
    const char *branch = item_text(o, "branch"), *at = item_text(o, "site"), *path = path_there(r, o);
    char size[32], ms[32];

    seconds(json_object_get(o, "ms") ? (int64_t)item_u64(o, "ms") : -1, ms);
    out_text("lost        store %s: ", item_text(o, "store"));
    if (json_object_get(o, "operations"))
        out_text("%llu operations in %s, ", (unsigned long long)item_u64(o, "operations"), ms);
    out_text("changes to %llu files, %s, kept as branch %s at %s\n", (unsigned long long)item_u64(o, "files"), out_size(item_u64(o, "bytes"), size), out_name(branch), at);
    if (*item_text(o, "ends"))
        out_text("            both sites have everything up to %s; the last that is lost was made %s\n", item_text(o, "parted"), item_text(o, "ends"));
    out_text("            at %s: spare branch show %s %s lists it; spare restore PATH --at @%s brings one back where it is mounted\n", at, out_name(branch), path, branch);
}

static int print_lost(const struct run *r, const json_t *all, struct err *err)
{
    size_t i;
    json_t *o;
    int rc = 0;

    json_array_foreach(all, i, o) {
        struct listing l = { o, 0 };
        const char *branch = item_text(o, "branch");

        if (out_json) {
            json_t *j = json_copy(o);

            json_object_set_new(j, "what", json_string("lost"));
            json_object_del(j, "directory");
            out_object(j);
            json_decref(j);
        } else if (*item_text(o, "unknown")) {
            out_text("lost        store %s at %s: not known: %s\n", item_text(o, "store"), item_text(o, "site"), item_text(o, "unknown"));
        } else if (*item_text(o, "known_by")) {
            out_text("lost        store %s: nothing more than run %s says\n", item_text(o, "store"), item_text(o, "known_by"));
        } else if (!*branch) {
            out_text("lost        store %s: nothing\n", item_text(o, "store"));
        } else {
            lost_branch(r, o);
        }
        rc = rc ? rc : loss_manifest(o, lost_file, &l, err);
        if (rc == 0 && !out_json && l.n > LINES_SHOWN)
            out_text("  and %u more\n", l.n - LINES_SHOWN);
    }
    return rc;
}

/* What is known of it: exactly, else at most. */
static int64_t rpo_of(const struct run *r, const json_t *lost)
{
    int64_t exact = r->kind == RUN_FAILOVER ? loss_ms(r, lost) : -1;

    return exact >= 0 ? exact : r->loss_ms;
}

static void print_json(const struct run *r, const char *key, const json_t *witness, const char *why, uint64_t lines, const json_t *lost)
{
    json_t *o = json_object();
    const int64_t exact = loss_ms(r, lost), up = run_out_ms(r);

    json_object_set_new(o, "what", json_string("run"));
    json_object_set_new(o, "run", json_string(r->id));
    json_object_set_new(o, "plan", json_string(r->plan->h.name));
    json_object_set_new(o, "kind", json_string(run_kind_name(r)));
    json_object_set_new(o, "state", json_string(run_state_name(r)));
    json_object_set_new(o, "after", r->after[0] ? json_string(r->after) : json_null());
    json_object_set_new(o, "up_ms", up < 0 ? json_null() : json_integer(up));
    json_object_set_new(o, "own_ms", json_integer(own_time(r)));
    json_object_set_new(o, "loss_at_most_ms", r->loss_ms < 0 || r->loss_ms == INT64_MAX ? json_null() : json_integer(r->loss_ms));
    json_object_set_new(o, "loss_ms", exact < 0 ? json_null() : json_integer(exact));
    json_object_set_new(o, "record_lines", json_integer((json_int_t)lines));
    json_object_set_new(o, "record_key", json_string(key));
    json_object_set_new(o, "countersigned_by", witness ? json_string(item_text(witness, "site")) : json_null());
    if (!witness)
        json_object_set_new(o, "not_countersigned", record_text(why));
    out_object(o);
    json_decref(o);
    for (unsigned i = 0; i < r->plan->systems.n; i++) {
        o = system_object(r, &r->plan->systems.v[i], rpo_of(r, lost));
        out_object(o);
        json_decref(o);
    }
    for (unsigned i = 0; i < r->n_steps; i++) {
        o = json_object();
        json_object_set_new(o, "what", json_string("step"));
        json_object_set_new(o, "step", json_string(r->steps[i].name));
        json_object_set_new(o, "result", json_string(step_word(&r->steps[i])));
        json_object_set_new(o, "ms", json_integer(r->steps[i].ms));
        if (r->steps[i].intent_wall_ms >= 0)
            json_object_set_new(o, "begun_after_ms", json_integer(r->steps[i].intent_wall_ms - r->began_wall_ms));
        out_object(o);
        json_decref(o);
    }
}

/* Of what was to be up again: how long it took, how much was lost. */
static void print_promised(const struct run *r, const json_t *lost)
{
    char a[32], b[32], c[32];
    int64_t up = run_out_ms(r), rpo = rpo_of(r, lost);

    seconds(up, a);
    seconds(own_time(r), c);
    out_text("RTO         %s, of which spare's own steps %s; objective %s: %s\n", a, c, plan_duration(r->plan->objectives.rto_ms, b), verdict(up, r->plan->objectives.rto_ms));
    seconds(rpo, a);
    if (r->kind == RUN_SWITCHOVER)
        out_text("RPO         nothing is lost by a switchover\n");
    else if (rpo == INT64_MAX)
        out_text("RPO         not known: nobody can say what was lost; objective %s: %s\n", plan_duration(r->plan->objectives.rpo_ms, b), verdict(rpo, r->plan->objectives.rpo_ms));
    else
        out_text("RPO         %s %s; objective %s: %s\n", loss_ms(r, lost) >= 0 ? "exactly" : "at most", a, plan_duration(r->plan->objectives.rpo_ms, b), rpo < 0 ? "-" : verdict(rpo, r->plan->objectives.rpo_ms));
    for (unsigned i = 0; i < r->plan->systems.n; i++) {
        const struct plan_system *s = &r->plan->systems.v[i];

        seconds(system_up(r, s), a);
        out_text("system      %-20s up after %-10s RTO %s: %s; max-outage %s: %s\n", s->h.name, a, plan_duration(plan_rto(r->plan, s), b), verdict(system_up(r, s), plan_rto(r->plan, s)), plan_duration(s->max_outage_ms, c),
                 verdict(system_up(r, s), s->max_outage_ms));
    }
}

static void print_text(const struct run *r, const char *key, const json_t *witness, const char *why, uint64_t lines, const json_t *lost)
{
    int64_t up = run_out_ms(r);
    char a[40];

    out_text("%s: %s %s: %s\n", r->plan->h.name, run_kind_name(r), r->id, run_state_name(r));
    if (r->after[0])
        out_text("after       run %s, whose place it took; `spare dr report --run` has that one\n", r->after);
    if (r->out_since_wall_ms < r->began_wall_ms)
        out_text("out since   %s: times until something is up count from there\n", record_time(r->out_since_wall_ms, a));
    if (r->kind == RUN_REJOIN) {
        seconds(up, a);
        out_text("took        %s\n", a);
    } else {
        print_promised(r, lost);
    }
    for (unsigned i = 0; i < r->n_steps; i++) {
        seconds(r->steps[i].ms, a);
        out_text("step        %-28s %-10s %s%s%s\n", r->steps[i].name, a, step_word(&r->steps[i]), r->steps[i].reason[0] ? ": " : "", r->steps[i].reason);
    }
    out_text("record      %llu lines, whole, signed by %s\n", (unsigned long long)lines, key);
    if (witness)
        out_text("witness     site %s countersigned line %llu\n", item_text(witness, "site"), (unsigned long long)record_seq(r->rec));
    else
        out_text("witness     none: %s\n", why);
}

/* ---- the command ---- */

struct last { const struct dr_options *o; char site[80], id[80]; };

static int newest(void *arg, const char *site, const char *id)
{
    struct last *l = arg;

    if ((!l->o->site || strcmp(site, l->o->site) == 0) && (!l->o->run || strcmp(id, l->o->run) == 0) && strcmp(id, l->id) > 0) {
        snprintf(l->site, sizeof l->site, "%s", site);
        snprintf(l->id, sizeof l->id, "%s", id);
    }
    return 0;
}

int dr_report(const struct dr_options *o)
{
    struct last l = { .o = o };
    struct run *r = NULL;
    struct err err = { 0 }, why = { 0 };
    json_t *witness = NULL, *lost = NULL;
    char next[NEXT_TEXT];
    uint64_t lines = 0;
    int rc, code;

    (void)run_each(newest, &l);
    rc = l.id[0] ? run_open(l.site, l.id, false, &r, &err) : err_set(&err, ERR_NOENT, "expected a run on this machine, found none");
    if (rc == 0)
        rc = record_verify(r->dir, witness_key(r), NULL, NULL, &lines, &err);
    if (rc == 0 && (witness_ask(r, &witness, &why) == ERR_DAMAGE || (!o->run && witness && witness_newest(r, witness, &why)))) {
        rc = ERR_DAMAGE;
        err = why;
    }
    if (rc == 0 && !(lost = loss_of(r, &err)))
        rc = err.code;
    if (rc == 0)
        (out_json ? print_json : print_text)(r, witness_key(r), witness, why.msg, lines, lost);
    if (rc == 0)
        rc = print_lost(r, lost, &err);
    if (rc == 0 && !out_json && !o->run && *next_text(r, next))
        out_text("Next: %s\n", next);
    json_decref(lost);
    json_decref(witness);
    code = rc ? out_error(&err, rc) : EXIT_OK;
    run_close(r);
    return code;
}
