/* Requests about the past of names: snapshots, log, cat, restore, undo. */
#include "store/svc/svc_internal.h"

#include "store/core/branch.h"
#include "store/core/moment.h"
#include "store/core/nohistory.h"
#include "store/core/restore.h"
#include "store/core/version.h"

#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { CAT_CHUNK_BYTES = 1 << 20, SAY_NS = 50000000, BRANCH_MEMORY = 32 << 20 };
_Static_assert((int)CAT_CHUNK_BYTES <= (int)WIRE_BIN_MAX, "a chunk fits a frame");

static int64_t time_until(const char *text, struct store *s, int64_t *out, struct err *err)
{
    struct moment_spec spec;
    char tz[256];
    int r;

    if (store_config_get(s, "timezone", tz, sizeof tz) < 0)
        snprintf(tz, sizeof tz, "UTC");
    r = moment_parse(text, io_wall_ns(store_io(s)), tz, &spec, err);
    if (r)
        return r;
    if (spec.kind != MOMENT_TIME || spec.relative || spec.wall_ns <= io_wall_ns(store_io(s)))
        return err_set(err, ERR_USAGE, "until %.64s: expected a time to come, such as 2030-01-31T00:00:00Z", text);
    *out = spec.wall_ns;
    return 0;
}

static const struct { const char *word; uint32_t action; } actions[] = {
    { "create", RSN_CREATE }, { "delete", RSN_DELETE }, { "hold", RSN_HOLD }, { "release", RSN_RELEASE },
};

int svc_op_snapshot(struct svc_req *q, struct err *err)
{
    const char *word, *name, *reason, *person, *until;
    uint32_t action = 0;
    uint64_t at = AT_LIVE, got = 0;
    int64_t until_ns = 0, wall = 0;
    struct passwd pw, *found = NULL;
    char pwbuf[1024], who[64];
    json_t *o;
    int r;

    if ((r = svc_arg_text(q, "action", &word, err)) || (r = svc_arg_text(q, "name", &name, err))
        || (r = svc_arg_text(q, "reason", &reason, err)) || (r = svc_arg_text(q, "person", &person, err))
        || (r = svc_arg_text(q, "until", &until, err)))
        return r;
    for (size_t i = 0; word && i < sizeof actions / sizeof actions[0]; i++)
        if (strcmp(word, actions[i].word) == 0)
            action = actions[i].action;
    if (!action)
        return err_set(err, ERR_USAGE, "snapshot: expected create, delete, hold or release");
    if (!name)
        return err_set(err, ERR_USAGE, "snapshot %s: expected a name", word);
    if (action == RSN_CREATE && (r = moment_name_ok(name, err)))
        return r;
    if (action == RSN_HOLD && (!reason || !*reason))
        return err_set(err, ERR_USAGE, "snapshot hold %.255s: expected a reason, so that somebody can judge later whether it still holds", name);
    if ((r = svc_arg_at(q, "at", AT_LIVE, &at, err)))
        return r;
    if (until && (r = (int)time_until(until, q->s, &until_ns, err)))
        return r;
    if (!person) {
        if (getpwuid_r(q->who->uid, &pw, pwbuf, sizeof pwbuf, &found) == 0 && found)
            snprintf(who, sizeof who, "%s", pw.pw_name);
        else
            snprintf(who, sizeof who, "uid %u", q->who->uid);
        person = who;
    }
    r = store_snapshot(q->s, q->who, action, name, at, reason ? reason : "", person, until_ns, &got, err);
    if (r)
        return r;
    o = json_object();
    svc_put_text(o, "name", name);
    svc_put_text(o, "action", word);
    if (action == RSN_CREATE) {
        svc_put_u64(o, "lsn", got);
        if (moment_wall(q->s, got, &wall, NULL) == 0)
            svc_put_time(o, "time", wall);
    }
    return svc_emit(q, "item", o);
}

static int emit_snapshot(void *arg, const struct moment_entry *e)
{
    struct svc_req *q = arg;
    json_t *o;

    if (!e->name)
        return 0;
    o = json_object();
    svc_put_text(o, "name", e->name);
    svc_put_u64(o, "lsn", e->lsn);
    svc_put_time(o, "time", e->wall_ns);
    json_object_set_new(o, "held", json_boolean(e->held));
    svc_put_text(o, "reason", e->reason && *e->reason ? e->reason : NULL);
    return svc_emit(q, "item", o);
}

int svc_op_snapshots(struct svc_req *q, struct err *err)
{
    return moment_list(q->s, emit_snapshot, q, err);
}

/* ---- log ---- */

struct log_sink { struct svc_req *q; uint64_t left, from, to; };

static int emit_version(void *arg, const struct version *v)
{
    struct log_sink *k = arg;
    char mode[16];
    json_t *o;

    if (v->lsn < k->from)
        return 1;
    if (v->lsn > k->to)
        return 0;
    if (k->left == 0)
        return 1;
    k->left--;
    o = json_object();
    svc_put_u64(o, "lsn", v->lsn);
    svc_put_time(o, "time", v->wall_ns);
    svc_put_text(o, "how", v->how);
    json_object_set_new(o, "deleted", json_boolean(v->deleted));
    json_object_set_new(o, "live", json_boolean(v->live));
    svc_put_u64(o, "inode", v->ino);
    if (!v->deleted) {
        svc_put_u64(o, "size_bytes", v->size);
        svc_put_text(o, "type", svc_type_word(v->mode));
        snprintf(mode, sizeof mode, "%04o", v->mode & 07777);
        svc_put_text(o, "mode", mode);
        svc_put_u64(o, "uid", v->uid);
        svc_put_u64(o, "gid", v->gid);
        svc_put_u64(o, "content_lsn", v->content);
    }
    return svc_emit(k->q, "item", o);
}

/* What is to be said beside the list: that no history is kept. */
static int note(struct svc_req *q, const char *text)
{
    json_t *o = json_object();

    svc_put_text(o, "text", text);
    return svc_emit(q, "note", o);
}

static int log_dir(struct svc_req *q, const char *path, const struct row_ino *row, const struct log_sink *sink, struct err *err)
{
    char text[512];
    int r;

    if (nohistory_explain(q->s, path, err) == 1)
        return ERR_NOENT;
    r = svc_log_dir(q, path, sink->from, sink->to, sink->left == UINT64_MAX ? 0 : sink->left, err);
    if (r || !(row->flags & INOF_NOHISTORY))
        return r;
    snprintf(text, sizeof text, "%.400s: no history is kept of what is made in it (attribute %s)", *path ? path : "/", REC_XATTR_NOHISTORY);
    return note(q, text);
}

/* Of a name, there or gone. */
static int log_name(struct svc_req *q, const char *path, uint64_t ino, bool every, bool follow, struct log_sink *sink, struct err *err)
{
    struct err why = { 0 };
    int hidden = nohistory_explain(q->s, path, &why);
    int r = follow ? version_list_file(q->s, ino, every, emit_version, sink, err) : version_list(q->s, path, every, emit_version, sink, err);

    if (r == ERR_NOENT && hidden)
        return err_set(err, r, "%s", why.msg);
    return r >= 0 && hidden == 1 ? note(q, why.msg) : r;
}

int svc_op_log(struct svc_req *q, struct err *err)
{
    bool every, follow;
    char *path = NULL;
    uint64_t ino, from, to, limit;
    struct row_ino row;
    struct log_sink sink;
    int r;

    if ((r = svc_arg_bool(q, "every_write", &every, err)) || (r = svc_arg_bool(q, "follow", &follow, err))
        || (r = svc_arg_u64(q, "limit", 0, &limit, err)) || (r = svc_arg_at(q, "from", 0, &from, err))
        || (r = svc_arg_at(q, "to", AT_LIVE, &to, err)) || (r = svc_arg_path(q, "path", &path, err)))
        return r;
    sink = (struct log_sink){ q, limit ? limit : UINT64_MAX, from, to };
    r = store_walk(q->s, AT_LIVE, path ? path : "", &ino, &row, NULL);
    if (r == 0 && S_ISDIR(row.mode)) {
        r = follow || every
            ? err_set(err, ERR_USAGE, "%s: is a directory; --follow and --every-write are for files", path ? path : "/")
            : log_dir(q, path ? path : "", &row, &sink, err);
    } else if (follow && (r == ERR_NOENT || r == ERR_NOTDIR)) {
        /* A name that is gone: its history is there. To follow a file it must have a name now. */
        r = err_set(err, ERR_NOENT, "%s: expected a file that is there now, to follow it through renames; without --follow the history of the name is listed", path);
    } else if (r == 0 || r == ERR_NOENT || r == ERR_NOTDIR) {
        r = log_name(q, path ? path : "", ino, every, follow, &sink, err);
    } else {
        err_set(err, r, "%s: %s", path ? path : "/", err_text(r));
    }
    free(path);
    return r > 0 ? 0 : r;
}

/* ---- cat ---- */

int svc_op_cat(struct svc_req *q, struct err *err)
{
    char *path = NULL, target[REC_SYMLINK_MAX + 1];
    uint64_t at, ino, off, left;
    struct row_ino row;
    uint8_t *buf = NULL;
    int64_t n = 0;
    int r;

    if ((r = svc_arg_u64(q, "offset", 0, &off, err)) || (r = svc_arg_u64(q, "length", UINT64_MAX, &left, err))
        || (r = svc_arg_at(q, "at", AT_LIVE, &at, err)) || (r = svc_arg_path(q, "path", &path, err)))
        return r;
    if (!path)
        return err_set(err, ERR_USAGE, "cat: expected a path");
    r = store_walk(q->s, at, path, &ino, &row, err);
    if (r)
        goto out;
    if (S_ISLNK(row.mode)) {
        n = store_readlink(q->s, at, ino, target, sizeof target - 1, NULL);
        target[n > 0 ? n : 0] = '\0';
        r = err_set(err, ERR_INVAL, "%s: expected a file, found a symbolic link to %s; name that", path, target);
        goto out;
    }
    if (!S_ISREG(row.mode)) {
        r = err_set(err, S_ISDIR(row.mode) ? ERR_ISDIR : ERR_INVAL, "%s: expected a file, found a %s", path,
                    svc_type_word(row.mode));
        goto out;
    }
    buf = malloc(CAT_CHUNK_BYTES);
    if (!buf) {
        r = err_set(err, ERR_NOMEM, "%s: no memory", path);
        goto out;
    }
    while (left > 0) {
        size_t want = left < CAT_CHUNK_BYTES ? (size_t)left : CAT_CHUNK_BYTES;

        n = store_read(q->s, at, ino, off, buf, want, false, NULL, err);
        if (n <= 0)
            break;
        r = svc_emit_data(q, buf, (size_t)n);
        if (r)
            goto out;
        off += (uint64_t)n;
        left -= (uint64_t)n;
    }
    r = n < 0 ? (int)n : 0;
    if (r && err && !err->code)
        err_set(err, r, "%s: %s at offset %llu", path, err_text(r), (unsigned long long)off);
out:
    free(buf);
    free(path);
    return r;
}

/* ---- restore, undo ---- */

void svc_put_restored(json_t *o, const struct restore_stats *st)
{
    svc_put_u64(o, "files", st->files);
    svc_put_u64(o, "directories", st->dirs);
    svc_put_u64(o, "done_bytes", st->bytes);
    svc_put_u64(o, "unchanged", st->unchanged);
    svc_put_u64(o, "removed", st->removed);
    svc_put_u64(o, "left", st->left);
    svc_put_u64(o, "blocked", st->blocked);
}

void svc_restoring(void *arg, const struct restore_stats *st)
{
    struct svc_restoring *r = arg;
    uint64_t now = io_boot_ns(store_io(r->q->s));
    json_t *o;

    if (now < r->say_ns)
        return;
    r->say_ns = now + SAY_NS;
    o = json_object();
    svc_put_text(o, "what", "restoring");
    svc_put_restored(o, st);
    (void)svc_emit(r->q, "progress", o);
}

static const char *branch_named(const struct svc_req *q)
{
    const char *at;

    return svc_arg_text(q, "at", &at, NULL) == 0 && at ? branch_at_name(at) : NULL;
}

/* One at a time: a mount has set apart the memory for that. */
static pthread_mutex_t one_branch = PTHREAD_MUTEX_INITIALIZER;

static int restore_from(struct svc_req *q, const char *branch, const char *path, const char *to, bool extra, struct restore_stats *st, struct err *err)
{
    struct svc_restoring says = { .q = q };
    struct store *from = NULL;
    struct io *io = NULL;
    uint64_t parted = 0;
    int r;

    if (!store_dir(q->s))
        return err_set(err, ERR_NOENT, "%.255s: this store has no branches", branch);
    if (pthread_mutex_trylock(&one_branch) != 0)
        return err_set(err, ERR_BUSY, "%.255s: expected that nothing else is restored out of a branch here, found that under way; try again when it is done", branch);
    r = branch_open(store_dir(q->s), branch, q->env->branch_memory ? q->env->branch_memory : BRANCH_MEMORY, &from, &io, &parted, err);
    if (r == 0) {
        r = restore_branch(q->s, q->who, from, parted, path, to, extra, svc_restoring, &says, st, err);
        (void)store_close(from, NULL);   /* only read */
        io->ops->free(io);
    }
    (void)pthread_mutex_unlock(&one_branch);
    return r;
}

int svc_op_restore(struct svc_req *q, struct err *err)
{
    const char *branch = branch_named(q);
    char *path = NULL, *to = NULL, first[4096];
    bool extra;
    uint64_t at = 0;
    int64_t wall;
    struct restore_stats st = { 0 };
    struct svc_restoring says = { .q = q };
    json_t *o;
    int r;

    if ((r = svc_arg_bool(q, "delete_extra", &extra, err)) || (!branch && (r = svc_arg_at(q, "at", 0, &at, err)))
        || (r = svc_arg_path(q, "path", &path, err)) || (r = svc_arg_path(q, "to", &to, err)))
        goto out;
    if (!path || (at == 0 && !branch)) {
        r = err_set(err, ERR_USAGE, "restore: expected a path and a moment (--at TIME)");
        goto out;
    }
    if (branch)
        r = restore_from(q, branch, path, to ? to : path, extra, &st, err);
    else
        r = restore_path(q->s, q->who, at, path, to ? to : path, extra, svc_restoring, &says, &st, err);
    if (r)
        goto out;
    r = svc_sync(q, err);
    if (r)
        goto out;
    o = json_object();
    svc_put_text(o, "path", path);
    svc_put_text(o, "to", to ? to : path);
    if (branch)
        svc_put_text(o, "branch", branch);
    else
        svc_put_u64(o, "at_lsn", at);
    if (!branch && moment_wall(q->s, at, &wall, NULL) == 0)
        svc_put_time(o, "at_time", wall);
    svc_put_restored(o, &st);
    if (st.blocked && store_path(q->s, AT_LIVE, st.blocked_ino, first, sizeof first, NULL) == 0)
        svc_put_text(o, "first_blocked", first);
    r = svc_emit(q, "item", o);
out:
    free(path);
    free(to);
    return r;
}

static int first_version(void *arg, const struct version *v)
{
    *(struct version *)arg = *v;
    return 1;
}

int svc_op_undo(struct svc_req *q, struct err *err)
{
    char *path = NULL;
    bool redo;
    struct version now = { 0 };
    uint64_t ino;
    struct row_ino row;
    json_t *o;
    int r;

    if ((r = svc_arg_bool(q, "redo", &redo, err)) || (r = svc_arg_path(q, "path", &path, err)))
        goto out;
    if (!path) {
        r = err_set(err, ERR_USAGE, "undo: expected a path");
        goto out;
    }
    r = undo_path(q->s, q->who, path, redo, err);
    if (r)
        goto out;
    r = svc_sync(q, err);
    if (r)
        goto out;
    o = json_object();
    svc_put_text(o, "path", path);
    json_object_set_new(o, "redo", json_boolean(redo));
    if (store_walk(q->s, AT_LIVE, path, &ino, &row, NULL) == 0) {
        json_object_set_new(o, "deleted", json_false());
        svc_put_u64(o, "size_bytes", row.size);
        svc_put_u64(o, "origin_lsn", row.origin);
    } else {
        json_object_set_new(o, "deleted", json_true());
    }
    if (version_list(q->s, path, false, first_version, &now, NULL) >= 0 && now.lsn)
        svc_put_u64(o, "lsn", now.lsn);
    r = svc_emit(q, "item", o);
out:
    free(path);
    return r;
}
