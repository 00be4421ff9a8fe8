#include "cli/session.h"

#include "cli/cli.h"
#include "cli/out.h"
#include "fs/mount.h"
#include "store/svc/client.h"
#include "store/svc/wire.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOCK_WAIT_SECONDS = 10, LOCK_POLL_MS = 50, RESTART_SECONDS = 3 };

struct session {
    int fd;                     /* -1: opened here */
    struct io *io;
    struct store *s;
    struct log_recovery rec;
    struct link_table links, *shown;    /* shown: where its streams are seen; NULL: links */
};

struct caller session_caller(void)
{
    return (struct caller){ .uid = geteuid(), .gid = getegid(), .pid = (uint32_t)getpid() };
}

json_t *session_request(const char *op)
{
    json_t *o = json_object();

    json_object_set_new(o, "op", json_string(op));
    return o;
}

void session_put_bytes(json_t *req, const char *key, const char *bytes)
{
    if (bytes)
        wire_set_bytes(req, key, bytes, strlen(bytes));
}

static uint64_t setting(const struct super *sb, const char *name)
{
    char buf[64];
    uint64_t v;

    if (super_config_get(sb, name, buf, sizeof buf) < 0 || svc_size_parse(buf, &v, NULL))
        return 0;
    return v;
}

static int open_here(const char *dir, struct store_options opt, struct store **out, struct io **io, struct log_recovery *rec, struct err *err)
{
    struct super *sb = malloc(sizeof *sb);
    int r;

    *io = NULL;
    if (!sb)
        return err_set(err, ERR_NOMEM, "%s: no memory", dir);
    r = io_posix_new(dir, io, err);
    if (r)
        goto out;
    r = super_read(*io, sb, NULL, err);
    if (r)
        goto out;
    opt.memory_bytes = setting(sb, "memory");
    opt.commit_ms = (uint32_t)setting(sb, "commit-ms");
    r = store_open(*io, dir, &opt, out, rec, err);
out:
    free(sb);
    if (r && *io) {
        (*io)->ops->free(*io);
        *io = NULL;
    }
    return r;
}

int session_open_here(const char *dir, bool writable, uint32_t location, struct store **out, struct io **io, struct log_recovery *rec,
                      struct err *err)
{
    /* Reading a copy does no harm; which of two is the store matters to whoever writes. */
    return open_here(dir, (struct store_options){ .writable = writable, .threads = true, .location = writable ? location : LOCATION_MOVED }, out, io, rec, err);
}

int session_rebuild_here(const char *dir, struct store **out, struct io **io, struct err *err)
{
    return open_here(dir, (struct store_options){ .writable = true, .threads = true, .fresh_index = true }, out, io, NULL, err);
}

static time_t now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

static bool is_mounted(const char *store_dir)
{
    char *real = realpath(store_dir, NULL);
    bool mounted = real && fs_mounted_store(real, NULL) == 0;

    free(real);
    return mounted;
}

int session_open(const char *store_dir, enum session_mode mode, struct session **out, struct err *err)
{
    return session_open_at(store_dir, mode, LOCATION_AS_IS, out, err);
}

bool session_served(const struct session *ses)
{
    return ses->fd >= 0;
}

struct store *session_store(struct session *ses)
{
    return ses->s;
}

int session_open_served(const char *store_dir, struct session **out, struct err *err)
{
    struct session *ses = calloc(1, sizeof *ses);
    int r;

    if (!ses)
        return err_set(err, ERR_NOMEM, "no memory");
    link_table_init(&ses->links);
    r = svc_connect(store_dir, &ses->fd, err);
    if (r)
        free(ses);
    else
        *out = ses;
    return r;
}

int session_open_at(const char *store_dir, enum session_mode mode, uint32_t location, struct session **out, struct err *err)
{
    struct session *ses = calloc(1, sizeof *ses);
    time_t begun = now_s(), deadline = begun + LOCK_WAIT_SECONDS;
    int r;

    if (!ses)
        return err_set(err, ERR_NOMEM, "no memory");
    link_table_init(&ses->links);
    for (;;) {
        ses->fd = -1;
        r = svc_connect(store_dir, &ses->fd, err);
        if (r != ERR_NOENT)
            break;
        /* Mounted, and nobody listens: its worker died a moment ago and the next one is on its way. Not so for long: the mount is dead. */
        if (now_s() < begun + RESTART_SECONDS && is_mounted(store_dir) && !out_interrupted) {
            (void)poll(NULL, 0, LOCK_POLL_MS);
            continue;
        }
        r = session_open_here(store_dir, mode == SESSION_WRITE, location, &ses->s, &ses->io, &ses->rec, err);
        /* The log has what the index on disk has not: only a writer brings them together. */
        if (mode == SESSION_READ && (r == ERR_ROFS || r == ERR_NOENT))
            r = session_open_here(store_dir, true, location, &ses->s, &ses->io, &ses->rec, err);
        /* Another command has it, or a mount that is just beginning or ending. */
        if ((r != ERR_LOCKED && r != ERR_BUSY) || now_s() >= deadline || out_interrupted)
            break;
        (void)poll(NULL, 0, LOCK_POLL_MS);
    }
    if (r) {
        free(ses);
        return r;
    }
    if (ses->rec.torn)
        out_message("%s: the last stop was not clean; a torn end of the log was cut at LSN %llu (nothing acknowledged was lost)",
                    store_dir, (unsigned long long)ses->rec.cut);
    if (ses->rec.damaged)                /* what is asked is answered as if it ended there */
        out_message("%s: damage: %s", store_dir, ses->rec.damage.msg);
    memset(err, 0, sizeof *err);
    *out = ses;
    return 0;
}

static int call(struct session *ses, json_t *req, const struct svc_stream *stream, svc_emit_fn *emit, void *arg, struct err *err)
{
    struct caller who = session_caller();
    struct svc_env env = { .s = ses->s, .recovery = &ses->rec, .links = ses->shown ? ses->shown : &ses->links };
    int r;

    if (ses->fd < 0)
        r = svc_call(&env, &who, req, stream, emit, arg, err);
    else if (stream)
        r = svc_request_stream(ses->fd, req, stream->in, stream->out, &out_interrupted, emit, arg, err);
    else
        r = svc_request(ses->fd, req, &out_interrupted, emit, arg, err);
    json_decref(req);
    return r;
}

int session_call(struct session *ses, json_t *req, svc_emit_fn *emit, void *arg, struct err *err)
{
    return call(ses, req, NULL, emit, arg, err);
}

int session_stream(struct session *ses, json_t *req, int in, int out, svc_emit_fn *emit, void *arg, struct err *err)
{
    const struct svc_stream stream = { in, out, { -1, &out_interrupted } };

    return call(ses, req, &stream, emit, arg, err);
}

void session_use_links(struct session *ses, struct link_table *t)
{
    ses->shown = t;
}

int session_close(struct session *ses, struct err *err)
{
    int r = 0;

    if (!ses)
        return 0;
    if (ses->fd >= 0)
        close(ses->fd);
    if (ses->s)
        r = store_close(ses->s, err);
    if (ses->io)
        ses->io->ops->free(ses->io);
    free(ses);
    return r;
}

int session_end(struct session *ses, int rc, struct err *err)
{
    int c = session_close(ses, rc ? NULL : err);

    return rc ? rc : c;
}

int session_once(const char *dir, enum session_mode mode, uint32_t location, json_t *req, svc_emit_fn *emit, void *arg, struct err *err)
{
    struct session *ses = NULL;
    int r = session_open_at(dir, mode, location, &ses, err);

    if (r) {
        json_decref(req);
        return r;
    }
    r = session_call(ses, req, emit, arg, err);
    return session_end(ses, r, err);
}

int session_ask(const struct place *p, json_t *req, svc_emit_fn *emit, void *arg)
{
    const char *op = json_string_value(json_object_get(req, "op"));
    struct err err = { 0 };
    int r = session_once(p->store, svc_op_writes(op) == 1 ? SESSION_WRITE : SESSION_READ, LOCATION_AS_IS, req, emit, arg, &err);

    return r ? out_error(&err, r) : EXIT_OK;
}

void session_progress(const json_t *item)
{
    const char *what = item_text(item, "what");

    out_progress(*what ? what : "working", item_u64(item, "done_bytes"), item_u64(item, "total_bytes"));
}

int session_emit_objects(void *arg, const char *type, const json_t *item, const void *bin, size_t len)
{
    (void)arg;
    (void)bin;
    (void)len;
    if (out_interrupted)
        return ERR_INTR;
    if (strcmp(type, "progress") == 0)
        session_progress(item);
    else if (strcmp(type, "item") == 0)
        out_object(item);
    return 0;
}

int session_flagged(int argc, char **argv, const char *op, const char *flag, svc_emit_fn *emit)
{
    const struct option longs[] = { { flag, no_argument, NULL, OPT_FIRST } };
    bool given = false;
    struct place p;
    json_t *req;
    int code = 0, o;

    while ((o = cli_option(argc, argv, "", longs, 1, &code)) != -1) {
        if (o != OPT_FIRST)
            return code;
        given = true;
    }
    if (session_place(op, argc, argv, &p, &code))
        return code;
    req = session_request(op);
    json_object_set_new(req, flag, json_boolean(given));
    code = session_ask(&p, req, emit, NULL);
    locate_release(&p);
    return code;
}

static bool is_part(const char *name)
{
    size_t n = strlen(name);

    return n > 5 && strcmp(name + n - 5, ".part") == 0;
}

int session_inner(const char *store, const char *word, int (*one)(const char *store, const char *name))
{
    struct dirent **v = NULL;
    struct err err = { 0 };
    char *dir = NULL;
    int n, code = EXIT_OK;

    if (asprintf(&dir, strcmp(word, "fork") == 0 ? "%s/forks" : "%s/branches", store) < 0)
        return out_error(&err, err_set(&err, ERR_NOMEM, "no memory"));
    n = scandir(dir, &v, NULL, alphasort);
    if (n < 0 && errno != ENOENT)
        code = out_error(&err, err_from_errno(&err, errno, "%s", dir));
    for (int i = 0; i < n; i++) {
        const char *name = v[i]->d_name;

        if (is_part(name))
            out_warn("%s: being made or removed, or what is left of that; `spare %s remove %.*s` takes away what is left", name, word, (int)strlen(name) - 5, name);
        else if (name[0] != '.' && one(store, name) < 0)
            code = EXIT_WARNINGS;
        free(v[i]);
    }
    free(v);
    free(dir);
    return code;
}

static int emit_time(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    (void)bin, (void)len;
    if (strcmp(type, "item") == 0)
        snprintf(arg, 40, "%s", item_text(o, "time"));
    return out_interrupted ? ERR_INTR : 0;
}

int session_when(const char *dir, const char *at, char out[40], struct err *err)
{
    json_t *req = session_request("resolve");

    out[0] = '\0';
    session_put_bytes(req, "at", at);
    return session_once(dir, SESSION_READ, LOCATION_AS_IS, req, emit_time, out, err);
}
