/* link_receive.c: a primary's log into a standby. */
#include "store/sync/link_internal.h"

#include "store/core/lacking.h"
#include "store/core/lease.h"
#include "store/core/role.h"
#include "store/log/record.h"
#include "store/pack/history.h"
#include "store/sync/boot.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

enum { PROGRESS_MS = 200 };

struct taking {
    struct loop l;
    const struct link_receive_options *opt;
    struct receive m;
    struct receive_own own;
    struct proto_msg msg;       /* heard last: of RECORDS the bytes are in the connection's buffer until the next read */
    struct proto_msg out;
    struct boot boot;           /* of a standby that is made of files */
    struct io *io;              /* to its directory */
    const char *dir;
    bool installed;             /* a new store beside this one is whole */
    struct link_data data;      /* asked for, either way */
    uint8_t *wanted;            /* numbers of files, of the last WANT */
    uint8_t *plain;
    size_t plain_cap;
    ZSTD_DCtx *zstd;
    uint64_t until;             /* of opt->once: 0 not known yet */
    uint64_t said_ms;
};

/* What is held here: all of it durable, so that nothing is asked for that may yet be lost. */
static int fill_own(struct taking *k, struct err *err)
{
    struct receive_own *o = &k->own;
    struct store *s = k->l.s;
    struct store_info info;
    struct super *sb;
    int rc;

    memset(o, 0, sizeof *o);
    if (s == NULL)
        return 0;
    sb = malloc(sizeof *sb);
    if (sb == NULL)
        return err_set(err, ERR_NOMEM, "stream: out of memory");
    store_super(s, sb);
    store_info(s, &info);
    rc = info.writable && sb->role == ROLE_STANDBY ? store_sync(s, err) : 0;
    memcpy(o->lineage, sb->lineage, 16);
    memcpy(o->site, sb->site, 16);
    o->role = sb->role;
    o->known = store_epoch_known(s);
    o->incarnation = sb->incarnation;
    o->durable = log_durable(store_log(s));
    o->whole = store_lacking_from(s) < o->durable ? store_lacking_from(s) : o->durable;
    log_last(store_log(s), &o->last_lsn, &o->last_hash);
    if (o->role == ROLE_PRIMARY) {       /* refused in any case: its end moves */
        o->last_lsn = 0;
        memset(&o->last_hash, 0, sizeof o->last_hash);
    }
    if (o->role != ROLE_PRIMARY)
        store_lease(s, &o->lease);
    o->n_epochs = epoch_held(sb->epochs, sb->n_epochs, o->durable);
    memcpy(o->epochs, sb->epochs, o->n_epochs * sizeof *o->epochs);
    free(sb);
    return rc;
}

static int place(struct taking *k, struct err *err)
{
    if (k->io != NULL)
        return 0;
    return k->opt->place != NULL ? k->opt->place(k->opt->arg, &k->io, &k->dir, err) : err_set(err, ERR_NOSTORE, "expected a standby here, found nothing");
}

/* What was made is opened, and says who it is. */
static int made(struct taking *k, struct err *err)
{
    struct store *s = NULL;
    int rc;

    boot_release(&k->boot);
    k->io->ops->free(k->io);
    k->io = NULL;
    rc = k->opt->open(k->opt->arg, &s, err);
    if (rc == 0)
        rc = link_watch(&k->l, s, err);
    if (rc == 0)
        rc = fill_own(k, err);
    if (rc == 0)
        receive_made(&k->m, &k->own);
    return rc;
}

static int make_store(struct taking *k, struct err *err)
{
    const struct proto_make *m = &k->m.make;
    struct store_seed seed = { .key_id = m->key_id, .epoch = m->epoch, .timezone = m->timezone };
    int rc = place(k, err);

    memcpy(seed.lineage, m->lineage, 16);
    memcpy(seed.key, m->key, 32);
    if (rc == 0)
        rc = store_create_standby(k->io, k->dir, &seed, err);
    return rc < 0 ? rc : made(k, err);
}

/* Which of the files are not here. */
static int look_at_list(struct taking *k, struct err *err)
{
    struct proto_want want = { 0 };
    uint8_t *p = NULL;
    int rc = place(k, err);

    if (rc == 0)
        rc = boot_begin(&k->boot, k->io, &k->msg.u.list, k->msg.position, err);
    if (rc == 0 && (p = malloc(PROTO_WANT_BYTES * (size_t)k->boot.n_want + 1)) == NULL)
        rc = err_set(err, ERR_NOMEM, "stream: out of memory");
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < k->boot.n_want; i++)
        proto_want_put(p + PROTO_WANT_BYTES * (size_t)i, k->boot.want[i].index, k->boot.want[i].from);
    want.n = k->boot.n_want;
    want.p = p;
    free(k->wanted);
    k->wanted = p;
    receive_wants(&k->m, &want);
    return 0;
}

static int take_file(struct taking *k, struct err *err)
{
    int rc = boot_take(&k->boot, &k->msg.u.file, k->msg.position, err);

    if (rc == 0)
        receive_filed(&k->m);
    return rc;
}

static int install(struct taking *k, struct err *err)
{
    int rc = boot_make(&k->boot, k->dir, k->msg.u.retained.p, k->msg.u.retained.len, err);

    if (rc == 0 && k->l.s != NULL) {     /* beside the one that is there */
        k->installed = true;
        receive_installed(&k->m);
        return 0;
    }
    return rc < 0 ? rc : made(k, err);
}

static int expand(struct taking *k, const struct proto_records *r, const uint8_t **p, struct err *err)
{
    size_t n;

    if (!r->compressed) {
        *p = r->p;
        return 0;
    }
    if (r->bytes > k->plain_cap) {
        uint8_t *more = realloc(k->plain, r->bytes);

        if (more == NULL)
            return err_set(err, ERR_NOMEM, "stream: out of memory for records");
        k->plain = more;
        k->plain_cap = r->bytes;
    }
    if (k->zstd == NULL && (k->zstd = ZSTD_createDCtx()) == NULL)
        return err_set(err, ERR_NOMEM, "stream: out of memory for zstd");
    n = ZSTD_decompressDCtx(k->zstd, k->plain, r->bytes, r->p, r->len);
    if (ZSTD_isError(n) || n != r->bytes)
        return err_set(err, ERR_BADREC, "message RECORDS: expected %" PRIu32 " bytes compressed by zstd, found %s", r->bytes,
                       ZSTD_isError(n) ? ZSTD_getErrorName(n) : "fewer");
    *p = k->plain;
    return 0;
}

static int append(struct taking *k, struct err *err)
{
    const struct proto_records *r = &k->msg.u.records;
    const uint8_t *p = NULL;
    uint64_t head;
    int rc = expand(k, r, &p, err);

    if (rc == 0)
        rc = store_follow(k->l.s, p, r->bytes, err);
    head = log_head(store_log(k->l.s));
    if (rc == 0 && head != r->end)
        rc = err_set(err, ERR_BADREC, "message RECORDS: expected records up to @%" PRIu64 ", found them to end @%" PRIu64, r->end, head);
    if (rc == 0)
        receive_appended(&k->m, head);
    return rc;
}

/* Whether a record of the sender's is held here. */
static int compare(struct taking *k, struct err *err)
{
    struct history *history = store_history(k->l.s);
    const struct proto_tell *t = &k->m.told;
    struct history_place p = { 0 };
    int rc = t->lsn == 0 ? ERR_NOENT : history_before(history, t->end, &p, err);

    if (rc == ERR_NOENT && t->lsn != 0) {
        if (err != NULL)
            *err = (struct err){ 0 };
        receive_cannot_compare(&k->m);
        return 0;
    }
    if (rc < 0 && rc != ERR_NOENT)
        return rc;
    receive_compared(&k->m, rc == 0 && p.lsn == t->lsn && p.end == t->end && hash128_eq(&p.hash, &t->hash));
    return 0;
}

/* What the store is to go back to. */
static void fork_found(const struct taking *k, struct rewind *w)
{
    *w = (struct rewind){ .at = k->m.fork.low, .last_lsn = k->m.fork.low_rec.lsn, .last_hash = k->m.fork.low_rec.hash,
                          .keep = rewind_worth_keeping(k->l.s, k->m.fork.low) };
}

static int judge(struct taking *k, struct err *err)
{
    struct super *sb = malloc(sizeof *sb);
    struct err why = { 0 };
    struct rewind w;
    int rc;

    if (sb == NULL)
        return err_set(err, ERR_NOMEM, "stream: out of memory");
    fork_found(k, &w);
    store_super(k->l.s, sb);
    rc = rewind_possible(store_io(k->l.s), sb, &w, &why);
    free(sb);
    if (rc == ERR_NOMEM || rc == ERR_IO)         /* it is not known; a whole store is not sent again for that */
        return err_set(err, rc, "%s", why.msg);
    receive_judged(&k->m, rc == 0);
    return 0;
}

/* For the caller, who has the store. */
static void note_rewind(struct taking *k)
{
    struct rewind *w = k->opt->rewind;

    if (w == NULL)
        return;
    if (k->installed)                    /* nothing was compared where all that is here may be the sender's */
        *w = (struct rewind){ .at = k->boot.end, .anew = true, .last_lsn = k->m.fork.high != 0 ? k->m.fork.low_rec.lsn : UINT64_MAX };
    else if (k->m.fork.found && k->m.state == RECEIVE_END && k->m.err.code == ERR_AWAY)
        fork_found(k, w);
}

static int give(struct taking *k, struct err *err)
{
    int rc;

    receive_msg(&k->m, PROTO_DATA, &k->out);
    rc = link_give(&k->l, &k->data, &k->out, err);
    if (rc == 0)
        receive_gave(&k->m);
    return rc;
}

static int supplied(struct taking *k, struct err *err)
{
    int rc = link_take(&k->l, &k->data, &k->msg, err);

    if (rc == 0)
        receive_supplied(&k->m);
    return rc;
}

/* What is lacking here, or damaged, of the sender. */
static int ask_for_data(struct taking *k, struct err *err)
{
    struct proto_fetch f;
    int rc = 0;

    if (k->m.state == RECEIVE_STREAM && !k->m.fetching && (rc = link_want(&k->l, &k->data, true, &f, err)) == 1)
        receive_fetch(&k->m, &f);
    else if (rc == 2)
        receive_recall(&k->m, k->data.from, k->data.until);
    return rc < 0 ? rc : 0;
}

/* That this side is promoted soon ends the stream by itself; until then nothing is promised. */
static int promise(struct taking *k, struct err *err)
{
    int rc = store_lease_promise(k->l.s, &k->m.promise, k->m.epoch, k->m.promise_ms, err);

    if (rc == 0 || rc == ERR_BUSY)
        receive_promised(&k->m, rc == 0);
    if (rc == ERR_BUSY && err != NULL)
        *err = (struct err){ 0 };
    return rc == ERR_BUSY ? 0 : rc;
}

static void report(struct taking *k)
{
    struct link_info *i = k->l.info;

    memcpy(i->site, k->m.peer_site, 16);
    i->agreed = k->m.state == RECEIVE_STREAM;
    i->received = k->m.received;
    i->durable = k->m.durable;
    i->applied = k->m.applied;
    i->peer_durable = k->m.peer_durable > k->m.received ? k->m.peer_durable : k->m.received;
    i->peer_head = k->m.peer_head > i->peer_durable ? k->m.peer_head : i->peer_durable;
    if (i->durable >= i->peer_durable)
        i->behind_ns = 0;
    else if (i->behind_ns == 0 && k->l.s != NULL)
        i->behind_ns = io_wall_ns(store_io(k->l.s));
    link_publish(&k->l);
    if (k->opt->progress != NULL && k->m.now_ms - k->said_ms >= PROGRESS_MS) {
        k->said_ms = k->m.now_ms;
        k->opt->progress(k->opt->arg, i);
    }
}

/* All that was asked for is here. */
static bool enough(struct taking *k)
{
    if (k->m.state != RECEIVE_STREAM || (k->opt->once && k->m.beat == 0))
        return false;
    if (k->until == 0)
        k->until = k->m.peer_durable;
    return k->opt->probe || (k->opt->once && k->m.durable >= k->until && conn_idle(&k->l.c));
}

static int do_due(struct taking *k, struct err *err)
{
    int rc = 0;

    while (rc == 0 && (rc = ask_for_data(k, err)) == 0) {
        k->m.hold_ack = !conn_idle(&k->l.c);
        switch (receive_due(&k->m, &k->out)) {
        case RECEIVE_WAIT:       return 0;
        case RECEIVE_SEND:       rc = conn_put(&k->l.c, &k->out, err); break;
        case RECEIVE_MAKE_STORE: rc = make_store(k, err); break;
        case RECEIVE_LIST:       rc = look_at_list(k, err); break;
        case RECEIVE_FILE:       rc = take_file(k, err); break;
        case RECEIVE_INSTALL:    rc = install(k, err); break;
        case RECEIVE_PROMISE:    rc = promise(k, err); break;
        case RECEIVE_APPEND:     rc = append(k, err); break;
        case RECEIVE_JUDGE:      rc = judge(k, err); break;
        case RECEIVE_COMPARE:    rc = compare(k, err); break;
        case RECEIVE_DATA:       rc = give(k, err); break;
        case RECEIVE_SUPPLY:     rc = supplied(k, err); break;
        case RECEIVE_FAILED:
            *err = k->m.err;
            return err->code;
        }
    }
    return rc;
}

/* Nothing more comes just now: what came should be durable soon, not at the next turn of group commit. */
static void hurry(struct taking *k)
{
    struct wait w = { WAIT_NONE, 0 };

    if (k->l.s != NULL && log_durable(store_log(k->l.s)) < k->m.received)
        (void)store_fsync(k->l.s, 0, &w);
    if (k->l.s != NULL && k->m.state == RECEIVE_STREAM && store_shown(k->l.s) < k->m.received)
        (void)store_follow(k->l.s, NULL, 0, NULL);       /* the kernel had not heard of all of it */
}

/* One message after the other, each done with before the next; 0 when none is whole. */
static int hear(struct taking *k, struct err *err)
{
    int rc, n = 0;

    while ((rc = conn_next(&k->l.c, &k->msg, err)) == 1) {
        receive_tick(&k->m, link_now_ms());      /* it has come: from here on a promise counts */
        receive_hear(&k->m, &k->msg);
        if ((k->msg.type == PROTO_FETCH || k->msg.type == PROTO_RECALL) && k->m.say_data && (rc = link_note_fetch(&k->data, &k->msg, err)) < 0)
            return rc;
        k->l.info->heard_wall_ns = k->l.s != NULL ? io_wall_ns(store_io(k->l.s)) : 0;
        n++;
        rc = do_due(k, err);
        if (rc == 0)
            rc = conn_flush(&k->l.c, err);
        if (rc < 0)
            return rc;
    }
    if (n == 0)
        hurry(k);
    return rc;
}

static int run(struct taking *k, struct err *err)
{
    struct err why = { 0 };
    int rc;

    for (;;) {
        receive_tick(&k->m, link_now_ms());
        if (k->l.s != NULL) {
            uint64_t durable = log_durable(store_log(k->l.s)), lacking = store_lacking_from(k->l.s);

            receive_progress(&k->m, durable < lacking ? durable : lacking, store_shown(k->l.s));
            if (log_poisoned(store_log(k->l.s)) && k->m.state != RECEIVE_END) {
                err_set(&why, ERR_POISONED, "standby: %s", err_text(ERR_POISONED));
                receive_fail(&k->m, true, &why);
            }
        }
        rc = do_due(k, err);
        report(k);
        if (rc == 0 && enough(k))
            return 0;
        if (rc < 0 && k->m.state == RECEIVE_END)
            return rc;
        if (rc == 0)
            rc = link_wait(&k->l, LINK_POLL_MS, &why);
        else
            why = *err;
        if (rc == 0)
            rc = hear(k, &why);
        if (rc == 0 && k->l.c.eof) {     /* as it should end, or a cut: what came is here */
            if (k->m.state != RECEIVE_END)
                return (k->opt->once || k->opt->probe) && !enough(k) ? err_set(err, ERR_AWAY, "the sender went away before all of it had come") : 0;
            *err = k->m.err;
            return err->code;
        }
        if (rc == ERR_INTR) {
            *err = why;
            return rc;
        }
        if (rc < 0)
            receive_fail(&k->m, rc != ERR_AWAY, &why);
    }
}

int link_receive(struct store *s, struct link_table *t, int in, int out, const struct link_receive_options *opt, struct link_info *info, struct err *err)
{
    struct taking *k = calloc(1, sizeof *k);
    int rc;

    if (k == NULL)
        return err_set(err, ERR_NOMEM, "stream: out of memory");
    k->opt = opt;
    rc = link_begin(&k->l, t, in, out, opt->name, false, &opt->stop, info, err);
    if (rc < 0) {
        link_refuse(in, out, err);
        free(k);
        return rc;
    }
    if (s != NULL)
        rc = link_watch(&k->l, s, err);
    if (rc == 0)
        rc = fill_own(k, err);
    if (rc == 0) {
        receive_init(&k->m, &k->own);
        k->m.may_go_back = opt->rewind != NULL;
        rc = run(k, err);
        if (k->m.fenced && k->l.s != NULL)
            rc = link_fence(k->l.s, &k->m.fence, rc, err);
        note_rewind(k);
        link_last_words(&k->l.c);
        if (k->l.s != NULL && rc != ERR_POISONED && k->own.role == ROLE_STANDBY) {
            int c = store_sync(k->l.s, rc == 0 ? err : NULL);

            info->durable = log_durable(store_log(k->l.s));
            if (rc == 0)
                rc = c;     /* an end without a word from the peer says nothing of this disk */
        }
    } else {
        link_refuse(in, out, err);
    }
    link_end(&k->l, rc);
    ZSTD_freeDCtx(k->zstd);
    boot_release(&k->boot);
    if (k->io != NULL)
        k->io->ops->free(k->io);
    free(k->wanted);
    link_data_release(&k->data);
    free(k->plain);
    free(k);
    return rc;
}
