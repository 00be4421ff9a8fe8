/* svc_standby.c: the request that adds, removes, pauses and resumes standbys; how each is, in words and numbers. */
#include "store/core/lease.h"
#include "store/core/policy.h"
#include "store/core/standby.h"
#include "store/pack/history.h"
#include "store/svc/svc_internal.h"
#include "store/sync/replicate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int svc_target(const struct svc_req *q, char *out, struct err *err)
{
    char *t = NULL;
    int r = svc_arg_path(q, "target", &t, err);

    if (r == 0 && (!t || !*t || strlen(t) > STANDBY_TARGET_MAX))
        r = err_set(err, ERR_USAGE, "expected a directory or HOST:STORE of at most %d bytes as target", STANDBY_TARGET_MAX);
    for (const char *p = t; r == 0 && *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            r = err_set(err, ERR_USAGE, "target: expected a name without control characters");
    if (r == 0)
        snprintf(out, STANDBY_TARGET_MAX + 1, "%s", t);
    free(t);
    return r;
}

/* What is in ${key} of the request, if it may be among the settings. */
static int command_of(const struct svc_req *q, const char *key, char out[STANDBY_COMMAND_MAX + 1], struct err *err)
{
    const char *text;
    int r = svc_arg_text(q, key, &text, err);

    if (r == 0 && text != NULL && strlen(text) > STANDBY_COMMAND_MAX)
        r = err_set(err, ERR_USAGE, "%s: expected a command of at most %d bytes", key, STANDBY_COMMAND_MAX);
    if (r == 0)
        snprintf(out, STANDBY_COMMAND_MAX + 1, "%s", text != NULL ? text : "");
    return r;
}

/* From now on whoever has it mounted ships to it, or fetches from there. */
static int add(struct svc_req *q, const char *target, bool from, struct err *err)
{
    struct standby b = { 0 };
    int at = standby_find(q->s, target), r;

    if (at >= 0 && (at == STANDBY_FROM) == from)
        (void)standby_get(q->s, (unsigned)at, &b);
    snprintf(b.target, sizeof b.target, "%s", target);
    b.ships = !from;
    b.from = from;
    b.paused = false;
    r = command_of(q, "ssh", b.ssh, err);
    if (r == 0)
        r = command_of(q, "remote", b.remote, err);
    return r ? r : standby_note(q->s, &b, err);
}

static int pause_all(struct svc_req *q, bool paused, struct err *err)
{
    struct standby b;
    unsigned n = 0;
    int r = 0;

    for (unsigned i = 0; i <= STANDBY_FROM && r == 0; i++)
        if (standby_get(q->s, i, &b) && (b.ships || b.from)) {
            n++;
            r = standby_pause(q->s, b.target, paused, err);
        }
    return r || n > 0 ? r : err_set(err, ERR_NOENT, "expected a standby that a mount ships to, or one that fetches, found none; `spare standby add` adds one");
}

/* Without it the primary would soon take no changes, and nobody could give it another. */
static bool gives_lease(struct svc_req *q, const char *target, struct err *err)
{
    char lease[STANDBY_TARGET_MAX + 64], giver[STANDBY_TARGET_MAX + 1];
    uint32_t ms;

    if (store_config_get(q->s, "lease", lease, sizeof lease) <= 0 || lease_parse(lease, &ms, giver, sizeof giver, NULL) < 0 || strcmp(giver, target) != 0)
        return false;
    (void)err_set(err, ERR_BUSY, "%s: gives %s its lease; first `spare config set %s lease=`", target, store_dir(q->s), store_dir(q->s));
    return true;
}

int svc_op_standby(struct svc_req *q, struct err *err)
{
    char target[STANDBY_TARGET_MAX + 1] = "";
    const char *action;
    bool pause;
    int r = svc_arg_text(q, "action", &action, err);

    if (r)
        return r;
    action = action ? action : "";
    pause = strcmp(action, "pause") == 0;
    if (json_object_get(q->args, "target") || json_object_get(q->args, "target_hex") || (!pause && strcmp(action, "resume") != 0))
        r = svc_target(q, target, err);
    if (r)
        return r;
    if (strcmp(action, "add") == 0 || strcmp(action, "from") == 0)
        r = add(q, target, *action == 'f', err);
    else if (strcmp(action, "remove") == 0)
        r = gives_lease(q, target, err) ? err->code : standby_forget(q->s, target, err);
    else if (pause || strcmp(action, "resume") == 0)
        r = *target ? standby_pause(q->s, target, pause, err) : pause_all(q, pause, err);
    else
        r = err_set(err, ERR_USAGE, "standby: expected add, from, remove, pause or resume");
    if (r)
        return r;
    replicate_changed(q->env->replicate);
    if (strcmp(action, "resume") == 0)
        replicate_now(q->env->replicate, *target ? target : NULL);
    return 0;
}

/* How far a standby is behind: by what it acknowledged as durable, never by what was sent. */
struct lag { uint64_t bytes, ops; bool more_ops, unknown; double seconds; };
enum { OPS_MAX = 200000 };

static void measure(struct store *s, uint64_t acked, struct lag *lag)
{
    struct history_iter *it = NULL;
    struct record rec;
    uint64_t head = log_written(store_log(s));

    memset(lag, 0, sizeof *lag);
    if (acked >= head)
        return;
    lag->bytes = head - acked;
    lag->unknown = true;
    if (history_iter_new(store_history(s), acked, head, &it, NULL) < 0)
        return;
    while (lag->ops < OPS_MAX && history_next(it, &rec, NULL, NULL) == 1) {
        if (lag->ops++ == 0)
            lag->seconds = (double)(io_wall_ns(store_io(s)) - rec.wall_ns) / 1e9;
    }
    lag->unknown = lag->ops == 0;        /* the log does not give it: that is not "nothing" */
    lag->more_ops = lag->ops == OPS_MAX;
    if (lag->seconds < 0)
        lag->seconds = 0;                /* a clock went back */
    history_iter_free(it);
}

/* The stream to it; of several (one is gone and has not noticed) that which was heard last. */
static bool live_link(const struct svc_req *q, const char *target, struct link_info *info)
{
    struct link_info i;
    bool found = false;

    for (unsigned k = 0; q->env->links && k < LINKS_MAX; k++) {
        if (!link_table_get(q->env->links, k, &i) || !i.sends || !i.live || strcmp(i.name, target) != 0)
            continue;
        if (!found || i.heard_wall_ns > info->heard_wall_ns)
            *info = i;
        found = true;
    }
    return found;
}

/* ---- in words ---- */

const char *svc_standby_word(const struct svc_standby_view *v)
{
    if (v->paused)
        return "Paused";
    if (v->live && v->booting)
        return "Bootstrapping";
    if (v->live && v->agreed) {
        if (v->stalled || v->unknown)
            return "RPO not met";
        if (v->lag_s <= v->rpo_s)
            return "Protected";
        return v->caught ? "RPO not met" : "Catching up";
    }
    switch (v->code) {
    case ERR_FENCED:    return "Fenced";
    case ERR_DIVERGED:  return "Diverged";
    case ERR_BOOTSTRAP: return "Must bootstrap";
    default:            return v->met ? "Standby away" : "Local only";
    }
}

int svc_word_exit(const char *word)
{
    static const struct { const char *word; int exit; } exits[] = {
        { "Fenced", 24 }, { "Diverged", 24 }, { "Must bootstrap", 22 }, { "Standby away", 22 }, { "Local only", 22 }, { "RPO not met", 20 },
        { "Catching up", 20 }, { "Bootstrapping", 20 },
    };

    for (size_t i = 0; i < sizeof exits / sizeof exits[0]; i++)
        if (strcmp(exits[i].word, word) == 0)
            return exits[i].exit;
    return 0;
}

double svc_rpo(struct store *s)
{
    char text[64];
    uint64_t ns;

    if (store_config_get(s, "rpo", text, sizeof text) <= 0 || policy_duration(text, &ns, NULL) < 0)
        return 10;
    return (double)ns / 1e9;
}

int svc_put_trouble(const struct svc_req *q, const char *target, json_t *o)
{
    struct replicate_state st;

    if (!replicate_get(q->env->replicate, target, &st))
        return 0;
    svc_put_text(o, "reason", st.why.code ? (st.why.msg[0] ? st.why.msg : err_text(st.why.code)) : NULL);
    svc_put_text(o, "reason_code", st.why.code ? err_name(st.why.code) : NULL);
    if (st.why.code && st.next_wall_ns)
        svc_put_time(o, "next_try", st.next_wall_ns);
    return st.why.code;
}

/* One of them: its item, the word, the lag. */
static json_t *look_at(const struct svc_req *q, struct standby *b, const char **word, struct lag *lag)
{
    static const uint8_t never[16];
    struct link_info info = { 0 };
    struct svc_standby_view v = { .paused = b->paused, .rpo_s = svc_rpo(q->s) };
    json_t *o = json_object();

    v.live = live_link(q, b->target, &info);
    if (v.live && info.durable > 0 && info.agreed) {
        b->acked = info.durable;
        b->heard_s = info.heard_wall_ns / 1000000000;
    }
    if (memcmp(b->site, never, 16) == 0)
        b->acked = 0;                    /* what is held for one that is being made is nothing it said */
    if (v.live && info.heard_wall_ns > 0)
        b->heard_s = info.heard_wall_ns / 1000000000;
    measure(q->s, b->acked > 0 ? b->acked : history_first(store_history(q->s)), lag);
    svc_put_text(o, "target", b->target);
    svc_put_hex(o, "site", b->site, sizeof b->site);
    v.code = svc_put_trouble(q, b->target, o);
    v.agreed = info.agreed;
    v.booting = info.booting;
    v.caught = info.caught;
    v.stalled = info.stalled;
    v.unknown = lag->unknown;
    v.lag_s = lag->seconds;
    v.met = b->ships || memcmp(b->site, never, 16) != 0;
    *word = svc_standby_word(&v);
    svc_put_text(o, "state", *word);
    json_object_set_new(o, "connected", json_boolean(v.live && v.agreed));
    json_object_set_new(o, "by_itself", json_boolean(b->ships));
    json_object_set_new(o, "paused", json_boolean(b->paused));
    json_object_set_new(o, "stalled", json_boolean(v.live && v.stalled));
    svc_put_u64(o, "durable_lsn", b->acked);
    if (v.live)
        svc_put_u64(o, "applied_lsn", info.applied);
    svc_put_u64(o, "lag_bytes", lag->bytes);
    svc_put_u64(o, "lag_operations", lag->ops);
    json_object_set_new(o, "lag_operations_at_least", json_boolean(lag->more_ops));
    json_object_set_new(o, "lag_seconds", lag->unknown ? json_null() : json_real(lag->seconds));
    if (b->heard_s)
        svc_put_time(o, "heard", b->heard_s * 1000000000);
    return o;
}

/* What is wrong with one of those a mount ships to. One that a person paused, or a store that nobody has mounted, is behind, not away. */
static int exit_of(const struct svc_req *q, const struct standby *b, const char *word, const struct lag *lag)
{
    int code = svc_word_exit(word);

    if (!b->ships && !standby_fetches(b))
        return 0;                        /* shipped to when a person says so */
    if (b->paused || (code == 22 && !q->env->mount_dir && strcmp(word, "Standby away") == 0))
        return lag->unknown || lag->seconds > svc_rpo(q->s) ? 20 : 0;
    return code;
}

void svc_standby_state(const struct svc_req *q, json_t *list, struct svc_standbys *out)
{
    static const uint8_t never[16];
    struct standby b;

    bool alarmed = replicate_alarmed(q->env->replicate);

    *out = (struct svc_standbys){ "Local only", -1, alarmed ? 20 : 0 };
    for (unsigned i = 0; i < STANDBYS_MAX; i++) {
        const char *word;
        struct lag lag;
        int code;

        if (!standby_get(q->s, i, &b))
            continue;
        json_array_append_new(list, look_at(q, &b, &word, &lag));
        code = exit_of(q, &b, word, &lag);
        out->exit = code > out->exit ? code : out->exit;
        if (out->rpo_s < 0 && b.ships)
            out->word = word;            /* what there is to say, before any that has something */
        if (lag.unknown || (memcmp(b.site, never, 16) == 0 && b.acked == 0))
            continue;
        if (out->rpo_s < 0 || (lag.seconds < out->rpo_s && strcmp(out->word, "Protected") != 0) || strcmp(word, "Protected") == 0)
            out->word = word;
        if (out->rpo_s < 0 || lag.seconds < out->rpo_s)
            out->rpo_s = lag.seconds;
    }
    if (alarmed)
        out->word = "RPO not met";
}
