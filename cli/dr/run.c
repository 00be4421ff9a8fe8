/* run.c: going through the steps: what is ready begins, what ended is written down. */
#include "cli/dr/run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { POLL_MS = 10, ACK_POLL_MS = 100 };

/* ---- the record ---- */

int run_note(struct run *r, const char *event, const char *step, json_t *more, struct err *err)
{
    return record_append(r->rec, event, step, more, err);
}

static int64_t time_of(const json_t *line)
{
    return record_parse_ms(item_text(line, "time"));
}

static void begin_line(struct run *r, const json_t *o)
{
    r->began_wall_ms = time_of(o);
    r->out_since_wall_ms = json_object_get(o, "out_since_wall_ms") ? (int64_t)item_u64(o, "out_since_wall_ms") : r->began_wall_ms;
    snprintf(r->plan_sha256, sizeof r->plan_sha256, "%s", item_text(o, "plan_sha256"));
    r->to = plan_site(r->plan, item_text(o, "to"));
    r->from = plan_site(r->plan, item_text(o, "from"));
    snprintf(r->after, sizeof r->after, "%s", item_text(o, "after"));
    if (json_object_get(o, "promoted_wall_ms")) {
        r->promoted_wall_ms = (int64_t)item_u64(o, "promoted_wall_ms");
        r->loss_ms = json_is_integer(json_object_get(o, "loss_at_most_ms")) ? (int64_t)item_u64(o, "loss_at_most_ms") : INT64_MAX;
        r->held_to_ms = json_object_get(o, "held_to_ms") ? (int64_t)item_u64(o, "held_to_ms") : -1;
    }
    r->kind = strcmp(item_text(o, "kind"), "failover") == 0 ? RUN_FAILOVER : strcmp(item_text(o, "kind"), "switchover") == 0 ? RUN_SWITCHOVER : RUN_REJOIN;
}

static void options_line(struct run *r, const json_t *o)
{
    const json_t *any = json_object_get(o, "accept_loss_ms");

    if (json_is_string(any))
        r->accept_loss_ms = INT64_MAX;
    else if (json_is_integer(any))
        r->accept_loss_ms = json_integer_value(any);
    if (json_object_get(o, "since_ms"))
        r->since_ms = (int64_t)item_u64(o, "since_ms");
    if (json_object_get(o, "at"))
        snprintf(r->at, sizeof r->at, "%s", item_text(o, "at"));
    if (json_object_get(o, "unfenced"))
        r->unfenced = item_true(o, "unfenced");
    if (json_object_get(o, "prefer"))
        r->prefer = strcmp(item_text(o, "prefer"), "rto") == 0 ? PREFER_RTO : PREFER_RPO;
}

static int turn_back(struct run *r)
{
    const struct plan_site *was = r->to;

    r->to = r->from;
    r->from = was;
    r->back = true;
    r->stopping = false;
    r->state = RUN_DIRTY;
    r->accept_loss_ms = r->since_ms = -1;            /* what was said of the way there is not said of the way back */
    r->at[0] = '\0';
    r->unfenced = false;
    r->looked = false;
    return run_make_steps(r, NULL);
}

/* What was found out before anything was done is found out anew. */
static void look_again(struct run *r)
{
    for (unsigned i = 0; i < r->n_steps; i++)
        if ((r->steps[i].kind == STEP_PROMOTE || r->steps[i].kind == STEP_HAND_OVER || r->steps[i].kind == STEP_STOP) && r->steps[i].intent_wall_ms >= 0)
            return;
    for (unsigned i = 0; i < r->n_steps; i++)
        if (r->steps[i].kind == STEP_DETECT || r->steps[i].kind == STEP_CONFIRM)
            r->steps[i].state = STEP_TODO;
}

static const json_t *store_seen(const json_t *list, const char *store)
{
    size_t i;
    json_t *o;

    json_array_foreach(list, i, o)
        if (strcmp(item_text(o, "store"), store) == 0)
            return o;
    return NULL;
}

static void first_detect(struct run *r, const json_t *line)
{
    for (unsigned i = 0; i < r->to->stores.n && i < 16 && !r->detected; i++) {
        const json_t *to = store_seen(json_object_get(line, "to"), r->to->stores.v[i].h.name), *from = store_seen(json_object_get(line, "from"), r->to->stores.v[i].h.name);

        if (strcmp(item_text(to, "role"), "standby") == 0 && item_u64(to, "epoch") >= item_u64(from, "epoch"))
            r->was_back |= 1U << i;
    }
    r->detected = true;
}

static void step_line(struct run *r, const char *event, struct step *s, const json_t *o)
{
    if (strcmp(event, "intent") == 0) {
        s->intent_wall_ms = time_of(o);
        s->cut_off = true;
        return;
    }
    if (strcmp(event, "waiting") == 0) {
        s->state = STEP_WAITING;
        return;
    }
    if (strcmp(event, "ack") == 0 && s->state == STEP_WAITING) {
        s->state = item_true(o, "failed") ? STEP_FAILED : STEP_DONE;
        s->end_wall_ms = time_of(o);
        s->ms = s->end_wall_ms - s->intent_wall_ms;
        snprintf(s->reason, sizeof s->reason, "%s", item_text(o, "reason"));
        return;
    }
    s->state = strcmp(event, "done") == 0 ? STEP_DONE : strcmp(event, "passed") == 0 ? STEP_PASSED : strcmp(event, "failed") == 0 ? STEP_FAILED : s->state;
    s->cut_off = false;
    s->end_wall_ms = time_of(o);
    s->ms = (int64_t)item_u64(o, "ms");
    snprintf(s->reason, sizeof s->reason, "%s", item_text(o, "reason"));
    if (s->kind == STEP_DETECT && s->state == STEP_DONE)
        first_detect(r, o);
    if (s->kind == STEP_CONFIRM && json_object_get(o, "loss_at_most_ms") && !r->back) {
        r->loss_ms = json_is_integer(json_object_get(o, "loss_at_most_ms")) ? (int64_t)item_u64(o, "loss_at_most_ms") : INT64_MAX;
        r->held_to_ms = json_object_get(o, "held_to_ms") ? (int64_t)item_u64(o, "held_to_ms") : -1;
    }
    if ((s->kind == STEP_PROMOTE || s->kind == STEP_HAND_OVER) && s->state == STEP_DONE && !r->back && r->promoted_wall_ms < 0)
        r->promoted_wall_ms = time_of(o);
}

/* A stopped run goes on: what failed is tried again. */
static void resumed_line(struct run *r, const json_t *o)
{
    options_line(r, o);
    r->state = RUN_DIRTY;
    r->stopping = false;
    for (unsigned i = 0; i < r->n_steps; i++)
        if (r->steps[i].state == STEP_FAILED)
            r->steps[i].state = STEP_TODO;
    look_again(r);
}

int run_line(void *arg, const json_t *o)
{
    struct run *r = arg;
    const char *event = item_text(o, "event"), *step = item_text(o, "step");
    struct step *s = *step ? run_step(r, step) : NULL;

    if (strcmp(event, "begin") == 0) {
        begin_line(r, o);
        options_line(r, o);
        if (!r->to || !r->from)
            return ERR_DAMAGE;
        return run_make_steps(r, NULL);
    }
    if (strcmp(event, "rollback") == 0)
        return turn_back(r) ? ERR_NOMEM : (options_line(r, o), 0);
    if (strcmp(event, "resumed") == 0)
        resumed_line(r, o);
    else if (strcmp(event, "stopped") == 0) {
        r->state = RUN_STOPPED;
        snprintf(r->stop_reason, sizeof r->stop_reason, "%s", item_text(o, "reason"));
        snprintf(r->stop_step, sizeof r->stop_step, "%s", item_text(o, "at"));
    } else if (strcmp(event, "up") == 0) {
        r->state = r->back ? RUN_ROLLED_BACK : RUN_UP;
        if (!r->back)
            r->up_wall_ms = time_of(o);
    } else if (strcmp(event, "commit") == 0)
        r->state = RUN_COMMITTED;
    else if (strcmp(event, "closed") == 0) {
        r->state = RUN_CLOSED;
        r->replaced = item_true(o, "replaced");
    } else if (strcmp(event, "notice") == 0) {
        const enum message_event e = message_event(item_text(o, "message"));

        r->notices++;
        if (e < N_MESSAGE_EVENTS)
            r->told[e] = true;
    }
    if (s)
        step_line(r, event, s, o);
    return 0;
}

void run_tell(struct run *r, enum message_event e, const char *step, const char *reason)
{
    json_t *more = json_object();
    struct err why = { 0 };
    char id[32];

    snprintf(id, sizeof id, "n%llu", (unsigned long long)r->notices + 1);
    json_object_set_new(more, "notice", json_string(id));
    json_object_set_new(more, "message", json_string(message_event_name(e)));
    json_object_set_new(more, "at", json_string(step));
    json_object_set_new(more, "reason", record_text(reason));
    if (run_note(r, "notice", "", more, &why))
        out_warn("people are not told: %s", why.msg);
}

void run_keeper(struct run *r)
{
    char log[PATH_MAX + 32];
    char *argv[] = { "/proc/self/exe", "dr", "keep", "--run", r->id, "--site", (char *)(uintptr_t)r->here->h.name, NULL };
    pid_t pid;

    if (r->plan->escalation.n == 0 && r->plan->channels.n == 0 && r->plan->commit.after_ms == 0)
        return;
    if (run_locked(r, "keeper"))
        return;                          /* one is there */
    snprintf(log, sizeof log, "%s/out/keeper", r->dir);
    pid = fork();
    if (pid == 0) {
        int out = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600), null = open("/dev/null", O_RDONLY | O_CLOEXEC);

        (void)setsid();
        signal(SIGPIPE, SIG_DFL);
        if (out < 0 || null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
            _exit(1);
        execv(argv[0], argv);
        _exit(127);
    }
    if (pid < 0)
        out_warn("people are not told: fork: %s", strerror(errno));
}

/* ---- results ---- */

/* What stops the run is said at its end. */
static void say(const struct run *r, const struct step *s, const char *word)
{
    const bool with_reason = s->state != STEP_FAILED || strcmp(r->stop_step, s->name) != 0;
    char buf[32];

    if (!out_json)
        out_message("%-8s %-28s %s%s%s", word, s->name, s->ms >= 0 ? plan_duration(s->ms, buf) : "", with_reason && s->reason[0] ? "  " : "", with_reason ? s->reason : "");
}

static int ended(struct run *r, struct step *s, const char *event, json_t *more, const char *reason, struct err *err)
{
    int64_t ms = proc_ms() - s->began_ms;
    int rc;

    json_object_set_new(more, "ms", json_integer(ms));
    if (s->tries > 1)
        json_object_set_new(more, "tries", json_integer(s->tries));
    if (*reason)
        json_object_set_new(more, "reason", record_text(reason));
    rc = run_note(r, event, s->name, more, err);     /* run_line sets the state */
    if (rc == 0)
        say(r, s, event);
    return rc;
}

static int step_failed(struct run *r, struct step *s, json_t *more, const char *reason, struct err *err)
{
    int64_t how = s->cmd ? s->cmd->on_failure : ON_FAILURE_STOP;
    int rc;

    if (how == ON_FAILURE_CONTINUE)
        return ended(r, s, "passed", more, reason, err);
    if (how == ON_FAILURE_MANUAL) {
        json_object_set_new(more, "reason", record_text(reason));
        rc = run_note(r, "waiting", s->name, more, err);
        snprintf(s->reason, sizeof s->reason, "%s", reason);
        say(r, s, "waiting");
        run_tell(r, MESSAGE_WAITING, s->name, reason);
        return rc;
    }
    r->stopping = true;
    if (!r->stop_reason[0]) {
        snprintf(r->stop_step, sizeof r->stop_step, "%s", s->name);
        snprintf(r->stop_reason, sizeof r->stop_reason, "%s", reason);
    }
    return ended(r, s, "failed", more, reason, err);
}

/* ---- one step ---- */

static int start_try(struct run *r, struct step *s, struct err *err)
{
    const struct plan_command *c = s->probing ? &s->sys->health : s->cmd;
    char log[PATH_MAX + 192];
    int64_t left = s->kind == STEP_HEALTH ? s->began_ms + c->timeout_ms - proc_ms() : c->timeout_ms;
    char *slash;

    snprintf(log, sizeof log, "%s/out/%s", r->dir, s->name);
    for (slash = log + strlen(r->dir) + 5; (slash = strchr(slash, '/')); )
        *slash = '.';
    s->tries++;
    return site_command(&r->view, s->at, s->other, c->command, log, left > 0 ? left : 1, s->name, &s->proc, err);
}

static int begin(struct run *r, struct step *s, struct err *err)
{
    json_t *more;
    struct err why = { 0 };
    const bool cut_off = s->cut_off;
    int rc;

    /* A start that was cut off: whether it came through is asked first. */
    s->probing = s->kind == STEP_START && s->cut_off && s->sys->health.command;
    s->began_ms = proc_ms();
    s->tries = s->in_a_row = s->good = s->answers = 0;
    rc = run_note(r, "intent", s->name, NULL, err);
    s->cut_off = cut_off;                /* (whoever reads that line later finds it cut off; this one is at it) */
    if (rc)
        return rc;
    s->state = STEP_RUNNING;
    if (s->kind == STEP_MANUAL) {
        more = json_object();
        json_object_set_new(more, "text", json_string(s->man->text));
        rc = run_note(r, "waiting", s->name, more, err);
        out_message("%s waits%s%s: %s\nspare: when it is done: spare dr ack --step %s; if it cannot be: --failed", s->name, s->man->who ? " for " : "", s->man->who ? s->man->who : "", s->man->text, s->name);
        run_tell(r, MESSAGE_WAITING, s->name, s->man->text);
        return rc;
    }
    if (!run_by_spare(s->kind))
        return start_try(r, s, err);
    more = json_object();
    s->tries = 1;
    rc = run_act(r, s, more, &why);
    if (rc && !r->stop_code)
        r->stop_code = rc;
    return rc ? step_failed(r, s, more, why.msg[0] ? why.msg : err_text(rc), err) : ended(r, s, "done", more, "", err);
}

/* Health: so many successes in a row, in so long. */
static int health_try(struct run *r, struct step *s, const struct proc_end *end, const char *said, struct err *err)
{
    const struct plan_command *c = s->cmd;
    char reason[512];

    s->good += end->exit == 0;
    if (end->exit >= 0) {
        s->answers++;
        s->last_exit = end->exit;
        snprintf(s->last_said, sizeof s->last_said, "%.299s", said);
    }
    s->in_a_row = end->exit == 0 ? s->in_a_row + 1 : 0;
    if (s->in_a_row >= c->stable)
        return ended(r, s, "done", json_object(), "", err);
    s->next_ms = proc_ms() + c->interval_ms;
    if (s->next_ms < s->began_ms + c->timeout_ms)
        return 0;
    if (s->good > 0)
        snprintf(reason, sizeof reason, "healthy in %d of %d tries, never %lld in a row, in %lld ms: it flaps", s->good, s->tries, (long long)c->stable, (long long)(proc_ms() - s->began_ms));
    else if (s->answers == 0)
        snprintf(reason, sizeof reason, "the health check hangs: no answer in %lld ms", (long long)(proc_ms() - s->began_ms));
    else
        snprintf(reason, sizeof reason, "not healthy in %d tries in %lld ms; exit status %d%s%s", s->tries, (long long)(proc_ms() - s->began_ms), s->last_exit, s->last_said[0] ? ": " : "", s->last_said);
    return step_failed(r, s, json_object(), reason, err);
}

/* The child of a step ended. */
static int try_ended(struct run *r, struct step *s, const struct proc_end *end, struct err *err)
{
    char said[400], reason[512];

    proc_tail(&s->proc, said, sizeof said);
    proc_release(&s->proc);
    if (s->probing) {
        s->probing = false;
        s->cut_off = false;
        s->tries = 0;
        if (end->exit == 0)
            return ended(r, s, "done", json_object(), "", err);
        s->next_ms = 0;
        return 0;
    }
    if (s->kind == STEP_HEALTH)
        return health_try(r, s, end, said, err);
    if (end->exit == 0)
        return ended(r, s, "done", json_object(), "", err);
    if (s->tries <= s->cmd->retries) {
        s->next_ms = proc_ms() + s->cmd->interval_ms;
        return 0;
    }
    if (end->exit < 0)
        snprintf(reason, sizeof reason, "took longer than %lld ms%s%.300s", (long long)s->cmd->timeout_ms, *said ? "; it said last: " : "", said);
    else
        snprintf(reason, sizeof reason, "exit status %d%s%.300s", end->exit, *said ? ": " : "", said);
    return step_failed(r, s, json_object(), reason, err);
}

static int work_on(struct run *r, struct step *s, struct err *err)
{
    struct proc_end end;

    if (s->proc.pid > 0)
        return proc_poll(&s->proc, &end) ? try_ended(r, s, &end, err) : 0;
    return s->state == STEP_RUNNING && proc_ms() >= s->next_ms ? start_try(r, s, err) : 0;
}

/* ---- all of them ---- */

static bool over(const struct step *s)
{
    return s->state == STEP_DONE || s->state == STEP_PASSED;
}

static bool ready(const struct run *r, const struct step *s)
{
    for (unsigned i = 0; i < s->n_needs; i++)
        if (!over(&r->steps[s->needs[i]]))
            return false;
    return s->state == STEP_TODO;
}

static void end_children(struct run *r)
{
    struct proc_end end;

    for (unsigned i = 0; i < r->n_steps; i++)
        if (r->steps[i].proc.pid > 0) {
            r->steps[i].proc.deadline_ms = 0;
            proc_wait(&r->steps[i].proc, &end, NULL);
            proc_release(&r->steps[i].proc);
        }
}

/* One round. *left: steps that are not over; *busy: those that run. */
static int round_of(struct run *r, unsigned *left, unsigned *busy, unsigned *waiting, struct err *err)
{
    int rc = 0;

    *left = *busy = *waiting = 0;
    for (unsigned i = 0; rc == 0 && i < r->n_steps; i++) {
        struct step *s = &r->steps[i];

        if (s->state == STEP_RUNNING)
            rc = work_on(r, s, err);
        else if (!r->stopping && ready(r, s))
            rc = begin(r, s, err);
        *left += !over(s);
        *busy += s->state == STEP_RUNNING;
        *waiting += s->state == STEP_WAITING;
        if (s->state == STEP_FAILED)
            r->stopping = true;
    }
    return rc;
}

static int finish(struct run *r, struct err *err)
{
    json_t *more = json_object();
    int rc;

    json_object_set_new(more, "ms", json_integer(record_wall_ms() - r->began_wall_ms));
    rc = run_note(r, "up", "", more, err);
    if (rc == 0)
        run_tell(r, r->back ? MESSAGE_ROLLED_BACK : MESSAGE_UP, "", "");
    return rc;
}

static int stop(struct run *r, struct err *err)
{
    json_t *more = json_object();
    int rc;

    if (!r->stop_reason[0])
        for (unsigned i = 0; i < r->n_steps; i++)
            if (r->steps[i].state == STEP_FAILED) {
                snprintf(r->stop_step, sizeof r->stop_step, "%s", r->steps[i].name);
                snprintf(r->stop_reason, sizeof r->stop_reason, "%s", r->steps[i].reason);
            }
    json_object_set_new(more, "at", json_string(r->stop_step));
    json_object_set_new(more, "reason", record_text(r->stop_reason));
    rc = run_note(r, "stopped", "", more, err);
    if (rc == 0)
        run_tell(r, MESSAGE_STOPPED, r->stop_step, r->stop_reason);
    return rc;
}

int run_go(struct run *r, struct err *err)
{
    unsigned left = 1, busy = 0, waiting = 0;
    int64_t asked = 0;
    int rc = 0;

    r->stop_reason[0] = '\0';
    while (rc == 0 && left > 0 && !out_interrupted) {
        rc = round_of(r, &left, &busy, &waiting, err);
        if (rc || (r->stopping && busy == 0))
            break;
        if (waiting && proc_ms() >= asked + ACK_POLL_MS) {
            rc = record_catch_up(r->rec, err);       /* a person's answer */
            asked = proc_ms();
        }
        if (busy || waiting)
            (void)poll(NULL, 0, POLL_MS);
    }
    end_children(r);
    if (rc == 0 && out_interrupted)
        return err_set(err, ERR_INTR, "interrupted; the same command goes on with it");
    if (rc)
        return rc;
    if (left == 0)
        return finish(r, err);
    rc = stop(r, err);
    return rc ? rc : err_set(err, r->stop_code ? r->stop_code : ERR_UNKNOWN, "%s: %s", r->stop_step, r->stop_reason);
}
