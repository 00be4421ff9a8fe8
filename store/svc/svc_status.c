/* svc_status.c: requests that say how the store is: status, info, moments, resolve, wait. */
#include "store/svc/svc_internal.h"

#include "store/core/fork.h"
#include "store/core/lease.h"
#include "store/core/moment.h"
#include "store/core/role.h"
#include "store/core/standby.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where it fetches from, if it does: why it does not just now. 0, or the exit code that goes with it. */
static int put_from(const struct svc_req *q, json_t *o)
{
    struct standby b;
    json_t *from;
    int code;

    if (!standby_get(q->s, STANDBY_FROM, &b))
        return 0;
    from = json_object();
    svc_put_text(from, "source", b.target);
    json_object_set_new(from, "paused", json_boolean(b.paused));
    code = svc_put_trouble(q, b.target, from);
    json_object_set_new(o, "fetches", from);
    return b.paused || code == 0 ? 0 : code == ERR_FENCED || code == ERR_DIVERGED ? 24 : 22;
}

/* A standby: whether somebody sends, and how far it is. */
static const char *standby_word(const struct svc_req *q, const struct store_info *info, json_t *o, int *exit_code)
{
    struct link_info i;
    struct row_ino root;
    bool held = store_getattr(q->s, AT_LIVE, INO_ROOT, &root, NULL) == 0;
    double rpo = svc_rpo(q->s), age;

    *exit_code = put_from(q, o);
    for (unsigned k = 0; q->env->links && k < LINKS_MAX; k++) {
        json_t *from;

        if (!link_table_get(q->env->links, k, &i) || i.sends || !i.live || !i.agreed)
            continue;
        age = i.behind_ns ? (double)(io_wall_ns(store_io(q->s)) - i.behind_ns) / 1e9 : 0;
        age = age < 0 ? 0 : age;
        from = json_object();
        svc_put_hex(from, "site", i.site, sizeof i.site);
        svc_put_u64(from, "received_lsn", i.received);
        svc_put_u64(from, "durable_lsn", i.durable);
        svc_put_u64(from, "primary_durable_lsn", i.peer_durable);
        svc_put_u64(from, "behind_bytes", i.peer_head > i.durable ? i.peer_head - i.durable : 0);
        json_object_set_new(from, "behind_seconds", json_real(age));
        svc_put_time(from, "heard", i.heard_wall_ns);
        json_object_set_new(o, "receiving", from);
        *exit_code = held && age <= rpo ? 0 : 20;
        return !held ? "Bootstrapping" : age > rpo || i.peer_durable > info->durable ? "Catching up" : "Protected";
    }
    return held ? "Recovery is possible" : "Bootstrapping";
}

/* A primary's lease. True: it has none, and needs one. */
static bool put_lease(const struct svc_req *q, json_t *o)
{
    static const char *const words[] = { NULL, "to come", "held", "out" };
    uint64_t left;
    struct lease l;
    enum lease_state st = store_lease_state(q->s, &left);
    json_t *lease;

    store_lease(q->s, &l);
    if (l.ms == 0)
        return false;
    lease = json_object();
    json_object_set_new(lease, "seconds", json_real((double)l.ms / 1000));
    svc_put_hex(lease, "site", l.site, sizeof l.site);
    svc_put_text(lease, "state", st == LEASE_NONE ? "told" : words[st]);
    if (st == LEASE_HELD)
        json_object_set_new(lease, "left_seconds", json_real((double)left / 1000));
    json_object_set_new(o, "lease", lease);
    return st == LEASE_OUT;
}

/* The word for the state of this disk, NULL: nothing is wrong with it. product.md, "Words for state". */
static const char *state_word(const struct svc_req *q, const struct store_info *info, const struct io_space_info *sp)
{
    char buf[64];
    uint64_t keep_free;

    if (q->env->recovery && q->env->recovery->damaged)
        return "Damaged";
    if (info->failed)
        return "Read-only";
    if (q->env->mount_dir && !info->writable && info->role == ROLE_PRIMARY)
        return "Read-only";
    if (info->tight)
        return "Space low";
    if (sp->total && store_config_get(q->s, "keep-free", buf, sizeof buf) > 0
        && svc_size_parse(buf, &keep_free, NULL) == 0 && sp->avail < keep_free)
        return "Space low";
    if (info->short_of)
        return "History not met";
    return NULL;
}

int svc_op_status(struct svc_req *q, struct err *err)
{
    struct store_info info;
    struct io_space_info sp = { 0 };
    const struct log_recovery *rec = q->env->recovery;
    json_t *o = json_object(), *list = json_array();
    struct svc_standbys all_of = { NULL, -1, 0 }, down = { NULL, -1, 0 };
    const char *state;
    bool standby, fenced;
    char forked[24];
    uint8_t before[16];
    int64_t all, last;

    (void)err;
    store_info(q->s, &info);
    (void)io_space(store_io(q->s), &sp, NULL);
    svc_put_text(o, "store", store_dir(q->s));
    standby = info.role == ROLE_STANDBY;
    svc_standby_state(q, list, &down);
    if (standby)
        all_of.word = standby_word(q, &info, o, &all_of.exit);
    else
        all_of = down;
    fenced = put_lease(q, o) || store_role(q->s) == ROLE_FENCED;
    if (fenced)
        all_of = (struct svc_standbys){ "Fenced", all_of.rpo_s, 24 };
    if (store_uncommitted(q->s, before)) {
        if (!fenced)
            all_of.word = "Failed over, before commit";
        svc_put_hex(o, "failed_over_from", before, sizeof before);
    }
    state = state_word(q, &info, &sp);
    svc_put_text(o, "state", state ? state : all_of.word);
    svc_put_text(o, "role", role_name(store_role(q->s)));
    svc_put_u64(o, "promote_unfinished_at_lsn", store_promote_unfinished(q->s));
    svc_put_text(o, "mounted_at", q->env->mount_dir);
    svc_put_hex(o, "lineage", info.lineage, sizeof info.lineage);
    svc_put_hex(o, "site", info.site, sizeof info.site);
    svc_put_u64(o, "epoch", info.epoch);
    svc_put_u64(o, "epochs_left", super_epochs_left(info.n_epochs));
    svc_put_time(o, "created", info.created_wall_ns);
    if (store_config_get(q->s, FORK_PARTED, forked, sizeof forked) > 0)
        svc_put_u64(o, "forked_lsn", strtoull(forked, NULL, 10));
    /* Of the standby that is nearest; null: nothing but this disk has it. */
    json_object_set_new(o, "rpo_seconds", standby || down.rpo_s < 0 ? json_null() : json_real(down.rpo_s));
    json_object_set_new(o, "rpo_limit_seconds", json_real(svc_rpo(q->s)));
    /* What is wrong with any standby this store ships to, and, of a standby, with where it comes from. */
    json_object_set_new(o, "exit_code", json_integer(down.exit > all_of.exit ? down.exit : all_of.exit));
    json_object_set_new(o, "standbys", list);
    svc_put_u64(o, "not_yet_durable_bytes", info.head > info.durable ? info.head - info.durable : 0);
    svc_put_time(o, "history_from", info.oldest_wall_ns);
    if (info.listed_from > info.first && moment_wall(q->s, info.listed_from, &all, NULL) == 0)
        svc_put_time(o, "every_write_from", all);
    else
        svc_put_time(o, "every_write_from", info.oldest_wall_ns);
    svc_put_u64(o, "earlier_moments", info.points);
    svc_put_time(o, "history_to", io_wall_ns(store_io(q->s)));
    /* Of a standby: up to then it has everything. */
    if (moment_wall(q->s, AT_LIVE, &last, NULL) == 0)
        svc_put_time(o, "last_record", last);
    svc_put_u64(o, "objects", info.n_inodes);
    svc_put_u64(o, "live_bytes", info.n_bytes);
    svc_put_u64(o, "log_bytes", info.log_bytes);
    svc_put_u64(o, "disk_total_bytes", sp.total);
    svc_put_u64(o, "disk_free_bytes", sp.avail);
    svc_put_text(o, "failure", info.failed ? err_name(info.failed) : NULL);
    svc_put_text(o, "damage", rec && rec->damaged ? rec->damage.msg : NULL);
    return svc_emit(q, "item", o);
}

static void put_counter(void *arg, const char *name, uint64_t value)
{
    svc_put_u64(arg, name, value);
}

int svc_op_info(struct svc_req *q, struct err *err)
{
    struct store_info info;
    json_t *o = json_object();

    (void)err;
    store_info(q->s, &info);
    svc_put_u64(o, "first_lsn", info.first);
    svc_put_u64(o, "persisted_lsn", info.persisted);
    svc_put_u64(o, "applied_lsn", info.applied);
    svc_put_u64(o, "durable_lsn", info.durable);
    svc_put_u64(o, "written_lsn", info.written);
    svc_put_u64(o, "head_lsn", info.head);
    svc_put_u64(o, "unapplied_operations", info.unapplied_ops);
    svc_put_u64(o, "unapplied_bytes", info.unapplied_bytes);
    svc_put_u64(o, "unflushed_operations", info.unflushed_ops);
    svc_put_u64(o, "unflushed_bytes", info.unflushed_bytes);
    svc_put_u64(o, "memory_bytes", info.memory_bytes);
    svc_put_u64(o, "cache_rows", info.cache_rows);
    svc_put_u64(o, "cache_hits", info.cache_hits);
    svc_put_u64(o, "cache_misses", info.cache_misses);
    svc_put_u64(o, "superblock_generation", info.super_gen);
    json_object_set_new(o, "clean", json_boolean(info.clean));
    json_object_set_new(o, "takes_changes", json_boolean(info.writable && info.role == ROLE_PRIMARY));
    if (q->env->counters)
        q->env->counters(q->env->counters_arg, put_counter, o);
    return svc_emit(q, "item", o);
}

int svc_op_upgrade(struct svc_req *q, struct err *err)
{
    char *program = NULL;
    uint64_t layout;
    int r = svc_arg_path(q, "program", &program, err);

    if (r == 0)
        r = svc_arg_u64(q, "layout", 0, &layout, err);
    if (r == 0 && !program)
        r = err_set(err, ERR_USAGE, "upgrade: expected a program");
    if (r == 0 && !q->env->upgrade)
        r = err_set(err, ERR_USAGE, "upgrade: expected a mount, found a store that a command has open");
    if (r == 0)
        r = q->env->upgrade(q->env->counters_arg, q->who, program, layout, err);
    free(program);
    return r;
}

static int emit_moment(void *arg, const struct moment_entry *e)
{
    struct svc_req *q = arg;
    json_t *o = json_object();
    char buf[40];

    svc_put_u64(o, "lsn", e->lsn);
    svc_put_time(o, "time", e->wall_ns);
    moment_format(e->wall_ns, buf);
    svc_put_text(o, "listed_as", e->name ? e->name : buf);
    svc_put_text(o, "name", e->name);
    json_object_set_new(o, "held", json_boolean(e->held));
    svc_put_text(o, "reason", e->reason);
    return svc_emit(q, "item", o);
}

int svc_op_moments(struct svc_req *q, struct err *err)
{
    return moment_list(q->s, emit_moment, q, err);
}

int svc_op_resolve(struct svc_req *q, struct err *err)
{
    uint64_t lsn;
    int64_t wall;
    json_t *o;
    int r = svc_arg_at(q, "at", 0, &lsn, err);

    if (r)
        return r;
    if (lsn == 0)
        return err_set(err, ERR_USAGE, "resolve: expected a moment (at)");
    r = moment_wall(q->s, lsn, &wall, err);
    if (r)
        return r;
    o = json_object();
    svc_put_u64(o, "lsn", lsn);
    svc_put_time(o, "time", wall);
    return svc_emit(q, "item", o);
}

int svc_op_wait(struct svc_req *q, struct err *err)
{
    struct store_info info;
    struct wait w;
    const char *until, *on;
    json_t *o;
    int r = svc_arg_text(q, "until", &until, err);

    if (r == 0)
        r = svc_arg_text(q, "on", &on, err);
    if (r)
        return r;
    if (on)
        return svc_wait_standby(q, on, err);
    if (!until)
        until = "durable";
    store_info(q->s, &info);
    if (strcmp(until, "durable") == 0) {
        r = svc_sync(q, err);
    } else if (strcmp(until, "applied") == 0) {
        w = (struct wait){ .kind = WAIT_APPLIED, .addr = info.head };
        r = info.writable ? store_await(q->s, &w) : 0;
        if (r)
            err_set(err, r, "%s: stopped before everything written was applied", store_dir(q->s));
    } else {
        return err_set(err, ERR_USAGE, "wait: expected durable or applied, found %.64s", until);
    }
    if (r)
        return r;
    o = json_object();
    svc_put_text(o, "reached", until);
    svc_put_u64(o, "lsn", info.head);
    return svc_emit(q, "item", o);
}
