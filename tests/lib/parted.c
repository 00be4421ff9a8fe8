/* parted.c: see parted.h. */
#include "tests/lib/parted.h"

#include "store/core/role.h"
#include "store/maint/reclaim.h"
#include "store/pack/history.h"
#include "tests/lib/packrig.h"
#include "tests/lib/subio.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

void parted_pack(struct teststore *t)
{
    struct err err = { 0 };

    ck_assert_msg(packrig_try(t->s, NULL, &err) == 0, "packing: %s", err.msg);
}

static void make_base(struct teststore *t)
{
    const struct reclaim_options opt = { .now = true, .base = true, .sweep = true };
    struct reclaim_result res = { 0 };
    struct err err = { 0 };

    ck_assert_msg(reclaim(t->s, &opt, &res, &err) == 0, "%s", err.msg);
    ck_assert_uint_gt(res.base_bytes, 0);
}

void parted_make(struct parted *p, int how)
{
    struct err err = { 0 };
    struct epoch_row next;
    char name[16];

    ts_new(&p->a, "UTC");
    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "both%d", i);
        ts_save(&p->a, name, "of both");
    }
    if (how & (PARTED_PACKED_BEFORE | PARTED_BASE))
        parted_pack(&p->a);
    if (how & PARTED_BASE)
        make_base(&p->a);
    ts_save(&p->a, "later", "of both, in the log");
    twosites_standby(&p->a, &p->b);
    ck_assert_msg(twosites_send(&p->a, &p->b, &err) == 0, "%s", err.msg);
    if (!(how & PARTED_FORGOTTEN))
        twosites_wait_for(&p->a, &p->b);
    ts_save(&p->a, "both1", "changed there alone");
    ts_save(&p->a, "mine", "was never shipped");
    ck_assert_int_eq(store_sync(p->a.s, NULL), 0);
    ck_assert_msg(store_promote(p->b.s, "a was gone", false, &err) == 0, "%s", err.msg);
    ts_save(&p->b, "both1", "changed here");
    ts_save(&p->b, "theirs", "after the fail-over");
    ts_unlink(&p->b, "both2");
    if (how & PARTED_OTHER_PACKED)
        parted_pack(&p->b);
    if (how & PARTED_PACKED)
        parted_pack(&p->a);
    next = twosites_super(p->b.s)->epochs[1];
    ck_assert_msg(store_fence(p->a.s, &next, &err) == 0, "%s", err.msg);
    ck_assert_msg(store_demote(p->a.s, &err) == 0, "%s", err.msg);
    p->at = next.first_lsn;
    p->end = log_head(store_log(p->a.s));
    ck_assert_uint_gt(p->end, p->at);
}

void parted_free(struct parted *p)
{
    ts_free(&p->a);
    ts_free(&p->b);
}

struct rewind parted_fork(struct teststore *by, uint64_t at)
{
    struct rewind r = { .at = at };
    struct history_place last;

    ck_assert_int_eq(history_before(store_history(by->s), at, &last, NULL), 0);
    ck_assert_uint_eq(last.end, at);
    r.last_lsn = last.lsn;
    r.last_hash = last.hash;
    return r;
}

void parted_reindex(struct teststore *t)
{
    kv_twin_disk_free(t->disk);
    t->disk = kv_twin_disk_new();
    packrig_open(t);
}

void parted_go_back(struct teststore *t, struct rewind *r)
{
    struct err err = { 0 };

    packrig_close(t);
    ck_assert_msg(store_rewind(simio_io(t->sim), NULL, r, &err) == 0, "%s", err.msg);
    parted_reindex(t);
}

void parted_is_back(struct parted *p)
{
    ck_assert_uint_eq(log_head(store_log(p->a.s)), p->at);
    ts_is(&p->a, "both1", "of both");
    ts_is(&p->a, "both2", "of both");
    ts_is(&p->a, "later", "of both, in the log");
    ts_is(&p->a, "mine", NULL);
}

void parted_is_followed(struct teststore *t)
{
    ts_is(t, "both1", "changed here");
    ts_is(t, "both2", NULL);
    ts_is(t, "later", "of both, in the log");
    ts_is(t, "mine", NULL);
    ts_is(t, "theirs", "after the fail-over");
}

void parted_branch_is_whole(struct parted *p, const char *name)
{
    struct teststore t = { .disk = kv_twin_disk_new() };
    struct err err = { 0 };
    char dir[256];
    struct io *io;

    snprintf(dir, sizeof dir, "branches/%s", name);
    io = subio_new(simio_io(p->a.sim), dir);
    ck_assert_int_eq(kv_twin_open(t.disk, &t.opt.kv, &err), 0);
    ck_assert_msg(store_open(io, NULL, &t.opt, &t.s, NULL, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(log_head(store_log(t.s)), p->end);
    ts_is(&t, "both1", "changed there alone");
    ts_is(&t, "mine", "was never shipped");
    ts_is(&t, "both2", "of both");
    ts_is(&t, "theirs", NULL);
    store_drop(t.s);
    t.opt = (struct store_options){ .writable = true };
    ck_assert_int_eq(kv_twin_open(t.disk, &t.opt.kv, &err), 0);
    ck_assert_int_eq(store_open(io, NULL, &t.opt, &t.s, NULL, &err), ERR_ROFS);
    kv_twin_disk_free(t.disk);
    io->ops->free(io);
}

struct counted { unsigned n; char name[BRANCH_NAME_MAX]; };

static int count_one(void *arg, const char *name)
{
    struct counted *c = arg;

    if (strstr(name, ".part") == NULL) {
        c->n++;
        snprintf(c->name, sizeof c->name, "%s", name);
    }
    return 0;
}

static void one_branch(struct parted *p)
{
    struct counted c = { 0 };

    ck_assert_int_eq(io_list(simio_io(p->a.sim), "branches", count_one, &c, NULL), 0);
    ck_assert_uint_eq(c.n, 1);
    parted_branch_is_whole(p, c.name);
}

bool parted_cut_off(int how, unsigned n, enum simio_cut_mode mode)
{
    struct parted p;
    struct rewind r;
    struct err err = { 0 };
    bool done;

    parted_make(&p, how);
    r = parted_fork(&p.b, p.at);
    r.keep = true;
    packrig_close(&p.a);
    simio_cut_at(p.a.sim, n);
    done = store_rewind(simio_io(p.a.sim), NULL, &r, &err) == 0 && !simio_dead(p.a.sim);
    simio_cut_at(p.a.sim, 0);
    if (!done)
        simio_cut(p.a.sim, n, mode);
    parted_reindex(&p.a);                /* it does the rest, if that was begun */
    store_drop(p.a.s);
    simio_cut(p.a.sim, n + 1000, SIMIO_CUT_RANDOM);
    parted_reindex(&p.a);
    if (log_head(store_log(p.a.s)) != p.at) {
        ck_assert_uint_eq(log_head(store_log(p.a.s)), p.end);
        ts_is(&p.a, "mine", "was never shipped");
        parted_go_back(&p.a, &r);
    }
    parted_is_back(&p);
    one_branch(&p);
    ck_assert_msg(twosites_send(&p.b, &p.a, &err) == 0, "call %u: %s", n, err.msg);
    parted_is_followed(&p.a);
    parted_free(&p);
    return done;
}
