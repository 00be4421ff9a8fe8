/* sync, standby, serve: a second place for a store. */
#include "cli/cli.h"
#include "cli/locate.h"
#include "cli/peer.h"
#include "cli/session.h"

#include "store/core/anew.h"
#include "store/svc/server.h"
#include "store/core/standby.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BACKOFF_FIRST_MS = 500, BACKOFF_MOST_MS = 30000 };

struct sync {
    struct place p;
    struct peer_options peer;
    bool follow, make, probe;
    bool stall_said;
    bool served;                /* the store is mounted: whoever serves it does the work, now and at each new try */
    bool met;                   /* a stream ran once */
    const char *target;
    uint64_t lsn;               /* durable there, as the last answer said */
};

/* ---- one stream ---- */

static int emit_ship(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    struct sync *y = arg;

    (void)bin, (void)len;
    if (out_interrupted)
        return ERR_INTR;
    if (strcmp(type, "item") == 0 || item_true(o, "agreed")) {
        y->met = true;
        y->make = false;        /* it is there: where it goes from now on, nothing is made anew */
    }
    if (strcmp(type, "progress") == 0) {
        y->lsn = item_u64(o, "done_bytes");
        session_progress(o);
        if (item_true(o, "stalled") && !y->stall_said)
            out_warn("%s: the standby acknowledges nothing more, though there is more to send; still trying", y->target);
        y->stall_said = item_true(o, "stalled");
        return 0;
    }
    out_progress_end();
    y->lsn = item_u64(o, "durable_lsn");
    if (out_json)
        out_object(o);
    return 0;
}

static int once(struct sync *y, struct err *err)
{
    struct session *ses = NULL;
    struct peer peer = { -1, -1 };
    struct err close_err = { 0 };
    char host[256];
    json_t *req;
    int r, c;

    /* A store that was mounted is its mount's: between two mounts of it this command waits, and does not take it. */
    r = y->served ? session_open_served(y->p.store, &ses, err) : session_open(y->p.store, SESSION_WRITE, &ses, err);
    if (r)
        return r;
    y->served = session_served(ses);
    r = peer_start(y->target, &y->peer, &peer, err);
    if (r == 0) {
        req = session_request("ship");
        session_put_bytes(req, "target", y->target);
        json_object_set_new(req, "follow", json_boolean(y->follow));
        json_object_set_new(req, "make", json_boolean(y->make));
        json_object_set_new(req, "probe", json_boolean(y->probe));
        json_object_set_new(req, "compress", json_boolean(peer_host(y->target, host, sizeof host) != NULL));
        r = session_stream(ses, req, peer.fd, peer.fd, emit_ship, y, err);
    }
    out_progress_end();
    /* In this order: whoever serves the store has the line too, until it sees this end of the request. And the other side's last words come
     * before ours. */
    c = session_close(ses, &close_err);
    r = peer_end(&peer, y->target, r, err);
    if (r == 0 && c) {
        *err = close_err;
        r = c;
    }
    return r;
}

/* What may be over by itself: the line, a side that was restarted, one that has not noticed yet that the stream before is gone. */
static bool passes(const struct sync *y, int code)
{
    if (code == ERR_AWAY || code == ERR_IO || code == ERR_TRUNCATED)
        return true;
    return (y->met && (code == ERR_LOCKED || code == ERR_BUSY)) || (y->served && code == ERR_NOENT);
}

/* Tried again, with longer and longer pauses; what was refused for a reason that stays is not. */
static int ship(struct sync *y, struct err *err)
{
    int pause_ms = BACKOFF_FIRST_MS, r;
    uint64_t before;

    for (;;) {
        before = y->lsn;
        r = once(y, err);
        if (!y->follow || !passes(y, r) || out_interrupted)
            return r;
        if (y->lsn > before)
            pause_ms = BACKOFF_FIRST_MS;
        out_message("%s; trying again in %d.%d s", err->msg, pause_ms / 1000, pause_ms % 1000 / 100);
        for (int waited = 0; waited < pause_ms && !out_interrupted; waited += 100)
            (void)poll(NULL, 0, 100);
        if (out_interrupted)
            return err_set(err, ERR_INTR, "interrupted");
        pause_ms = pause_ms * 2 < BACKOFF_MOST_MS ? pause_ms * 2 : BACKOFF_MOST_MS;
        memset(err, 0, sizeof *err);
    }
}

/* A directory is known by its whole path. */
static int target_of(const char *arg, char **out, struct err *err)
{
    char host[256];

    *out = peer_host(arg, host, sizeof host) ? strdup(arg) : locate_absolute(arg, err);
    return *out ? 0 : err->code ? err->code : err_set(err, ERR_NOMEM, "no memory");
}

/* [STORE] TARGET */
static int places(const char *name, int argc, char **argv, struct place *p, char **target, int *code)
{
    struct err err = { 0 };
    const char *store = cli_store;
    int n = argc - optind, r;

    memset(p, 0, sizeof *p);
    *target = NULL;
    if (n < 1 || n > 2 || (n == 2 && store)) {
        *code = cli_usage(name, "expected [STORE] TARGET, found %d arguments", n);
        return ERR_USAGE;
    }
    if (n == 2)
        store = argv[optind];
    r = locate_store(store, p, &err);
    if (r == 0)
        r = target_of(argv[argc - 1], target, &err);
    if (r == 0 && strcmp(*target, p->store) == 0)
        r = err_set(&err, ERR_USAGE, "%s: expected another place, found the store itself", *target);
    if (r) {
        *code = out_error(&err, r);
        locate_release(p);
        free(*target);
    }
    return r;
}

enum { FOLLOW = OPT_FIRST, SSH, REMOTE, NEW, MOVED, COPIED, STDIO, RECEIVE_ONLY };
static const struct option peer_longs[] = {
    { "ssh", required_argument, NULL, SSH }, { "remote-spare", required_argument, NULL, REMOTE }, { "moved", no_argument, NULL, MOVED },
    { "copied", no_argument, NULL, COPIED }, { "follow", no_argument, NULL, FOLLOW }, { "new", no_argument, NULL, NEW },
};
enum { N_PEER_LONGS = sizeof peer_longs / sizeof peer_longs[0] };

/* False: the command is over, with *code. */
static bool sync_options(int argc, char **argv, struct sync *y, int *code)
{
    int o;

    while ((o = cli_option(argc, argv, "", peer_longs, N_PEER_LONGS, code)) != -1) {
        switch (o) {
        case SSH: y->peer.ssh = optarg; break;
        case REMOTE: y->peer.remote = optarg; break;
        case MOVED: y->peer.moved = true; break;
        case COPIED: y->peer.copied = true; break;
        case FOLLOW: y->follow = true; break;
        case NEW: y->make = true; break;
        default: return false;
        }
    }
    return true;
}

int cmd_sync(int argc, char **argv)
{
    struct sync y = { 0 };
    struct err err = { 0 };
    char *target = NULL;
    int code = 0, r;

    if (!sync_options(argc, argv, &y, &code) || places("sync", argc, argv, &y.p, &target, &code))
        return code;
    y.target = target;
    r = ship(&y, &err);
    if (r)
        code = out_error(&err, r);
    else if (!out_json)
        out_text("%s: holds everything up to @%llu, durably\n", out_name(target), (unsigned long long)y.lsn);
    locate_release(&y.p);
    free(target);
    return code;
}

/* ---- standby ---- */

/* The line that lets this user's key do nothing there but append to that store. */
static void print_authorized(const char *target, const char *remote)
{
    static const char *const keys[] = { "id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub" };
    const char *home = getenv("HOME");
    char host[256], path[4200], key[2048] = "";
    const char *store = peer_host(target, host, sizeof host);

    if (strpbrk(store, "'\"\\")) {
        out_text("(No line for authorized_keys: a path with quotes in it cannot be written there.)\n");
        return;
    }

    for (size_t i = 0; home && i < sizeof keys / sizeof keys[0] && !*key; i++) {
        FILE *f;

        snprintf(path, sizeof path, "%s/.ssh/%s", home, keys[i]);
        f = fopen(path, "re");
        if (f && !fgets(key, sizeof key, f))
            key[0] = '\0';
        if (f)
            fclose(f);
        key[strcspn(key, "\n")] = '\0';
    }
    out_text("For a key that can only append there, this line in ~/.ssh/authorized_keys on %s:\n"
             "  restrict,command=\"%s serve --stdio --receive-only '%s'\" %s\n", host, remote ? remote : "spare", store, *key ? key : "KEY");
}

static int ask_standby(const struct place *p, const char *action, const char *target, struct err *err)
{
    struct session *ses = NULL;
    json_t *req;
    int r = session_open(p->store, SESSION_WRITE, &ses, err);

    if (r)
        return r;
    req = session_request("standby");
    session_put_bytes(req, "action", action);
    session_put_bytes(req, "target", target);
    r = session_call(ses, req, session_emit_objects, NULL, err);
    return session_end(ses, r, err);
}

static int emit_standbys(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    json_t *b;
    size_t i;

    (void)arg, (void)bin, (void)len;
    if (strcmp(type, "item") != 0)
        return 0;
    json_array_foreach(json_object_get(o, "standbys"), i, b) {
        if (out_json) {
            out_object(b);
            continue;
        }
        out_text("%-14s %s: durable there up to @%llu\n", item_text(b, "state"), item_name(b, "target"),
                 (unsigned long long)item_u64(b, "durable_lsn"));
    }
    return 0;
}

static int standby_list(int argc, char **argv)
{
    struct place p;
    struct err err = { 0 };
    int code, r;

    if (argc - optind > 1)
        return cli_usage("standby", "list takes one store");
    r = locate_store(optind < argc ? argv[optind] : cli_store, &p, &err);
    if (r)
        return out_error(&err, r);
    code = session_ask(&p, session_request("status"), emit_standbys, NULL);
    locate_release(&p);
    return code;
}

/* Noted only once the way there has been tried: the test is a stream that ends when both sides have agreed. */
static int standby_add(struct sync *y, struct err *err)
{
    int r;

    y->probe = true;
    r = once(y, err);
    if (r)
        return r;
    r = ask_standby(&y->p, "add", y->target, err);
    if (r || out_json)
        return r;
    char host[256];

    out_text("%s: reached; it is a standby of this store, and holds everything up to @%llu\n", out_name(y->target), (unsigned long long)y->lsn);
    if (peer_host(y->target, host, sizeof host))
        print_authorized(y->target, y->peer.remote);
    out_text("Next: spare sync --follow %s\n", out_name(y->target));
    return 0;
}

int cmd_standby(int argc, char **argv)
{
    struct sync y = { 0 };
    struct err err = { 0 };
    const char *verb;
    char *target = NULL;
    int code = 0, r;

    if (!sync_options(argc, argv, &y, &code))
        return code;
    verb = optind < argc ? argv[optind++] : "list";
    if (strcmp(verb, "list") == 0)
        return standby_list(argc, argv);
    if (strcmp(verb, "add") != 0 && strcmp(verb, "remove") != 0)
        return cli_usage("standby", "expected add, remove or list, found %s", verb);
    if (places("standby", argc, argv, &y.p, &target, &code))
        return code;
    y.target = target;
    r = *verb == 'a' ? standby_add(&y, &err) : ask_standby(&y.p, "remove", target, &err);
    if (r)
        code = out_error(&err, r);
    else if (*verb == 'r' && !out_json)
        out_text("%s: no longer a standby of this store; what is there stays\n", out_name(target));
    locate_release(&y.p);
    free(target);
    return code;
}

/* ---- serve ---- */

struct made { const char *dir; struct io *io; struct store *s; struct log_recovery rec; struct svc_server *server; bool new_dir; char *beside; };

/* While it receives, commands can ask the store, and a mount can have it. Without that it receives all the same. */
static struct svc_server *answer(struct store *s, const char *dir)
{
    const struct svc_hooks hooks = { .yield = &out_interrupted };
    struct svc_server *server = NULL;
    struct err err = { 0 };

    if (svc_server_start(s, dir, &hooks, &server, &err))
        out_message("%s; commands will not find this store while it receives", err.msg);
    return server;
}

/* What is acknowledged as durable must be found by name, too. */
static int sync_parent(const char *dir, struct err *err)
{
    char *up = NULL;
    int fd = asprintf(&up, "%s/..", dir) < 0 ? -1 : open(up, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = fd >= 0 && fsync(fd) == 0 ? 0 : err_from_errno(err, errno, "%s: syncing the directory it is in", dir);

    if (fd >= 0)
        close(fd);
    free(up);
    return r;
}

static int place_standby(void *arg, struct io **io, const char **dir, struct err *err)
{
    struct made *m = arg;
    int r;

    m->new_dir = mkdir(m->dir, 0700) == 0;
    if (!m->new_dir && errno != EEXIST)
        return err_from_errno(err, errno, "%s: making the standby's directory", m->dir);
    r = sync_parent(m->dir, err);
    if (r == 0)
        r = io_posix_new(m->dir, io, err);
    *dir = m->dir;
    return r;
}

static int open_standby(void *arg, struct store **out, struct err *err)
{
    struct made *m = arg;
    int r = session_open_here(m->dir, true, LOCATION_AS_IS, &m->s, &m->io, &m->rec, err);

    if (r == 0) {
        *out = m->s;
        m->server = answer(m->s, m->dir);
    }
    return r;
}

/* Whether a standby can be made here: nothing is there, and the place it would be in is. */
static int may_make(const char *dir, struct err *err)
{
    char *copy = strdup(dir), *slash;
    struct stat st;
    int r = 0;

    if (!copy)
        return err_set(err, ERR_NOMEM, "no memory");
    slash = strrchr(copy, '/');
    if (slash && slash > copy)
        *slash = '\0';
    else
        snprintf(copy, 2, "%s", slash ? "/" : ".");
    if (stat(dir, &st) == 0 && !S_ISDIR(st.st_mode))
        r = err_set(err, ERR_NOTDIR, "%s: expected a standby, or a place for one, found a file", dir);
    else if (stat(copy, &st))
        r = err_set(err, ERR_AWAY, "%s: expected a standby, or a place for one; its parent directory %s is gone: %s", dir, copy, strerror(errno));
    free(copy);
    return r;
}

static int serve_new(const char *dir, struct err *err)
{
    struct link_table links;
    struct made m = { .dir = dir };
    struct link_receive_options opt = { .place = place_standby, .open = open_standby, .arg = &m, .stop = { -1, &out_interrupted } };
    struct link_info info;
    int r = may_make(dir, err);

    if (r) {
        link_refuse(0, 1, err);
        return r;
    }
    link_table_init(&links);
    r = link_receive(NULL, &links, 0, 1, &opt, &info, err);
    if (m.s == NULL && m.new_dir)
        (void)rmdir(m.dir);              /* if nothing is in it */
    if (m.s) {
        int c;

        svc_server_stop(m.server);
        c = store_close(m.s, r ? NULL : err);
        r = r ? r : c;
        m.io->ops->free(m.io);
    }
    link_table_release(&links);
    return r;
}

static int emit_nothing(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    (void)arg, (void)type, (void)o, (void)bin, (void)len;
    return out_interrupted ? ERR_INTR : 0;
}

/* Back to where both part, or to what was sent anew, with nobody else in it; the index is made at once, so that the next stream finds a standby. */
static int go_back(const char *dir, struct rewind *w, struct err *err)
{
    struct log_recovery rec;
    struct store *s = NULL;
    struct io *io = NULL;
    int r = io_posix_new(dir, &io, err);

    if (r == 0)
        r = w->anew ? store_anew(io, dir, w->branch, err) : store_rewind(io, dir, w, err);
    if (io)
        io->ops->free(io);
    if (r) {
        out_message("%s", err->msg);
        return r;
    }
    if (w->branch[0])
        out_message("%s: %s @%llu; what it had %sis kept, for reading, as branches/%s", dir, w->anew ? "was made anew, up to" : "went back to",
                    (unsigned long long)w->at, w->anew ? "" : "beyond ", w->branch);
    else
        out_message("%s: went back to @%llu; nothing that was done there had not been shipped", dir, (unsigned long long)w->at);
    r = session_open_here(dir, true, LOCATION_AS_IS, &s, &io, &rec, err);
    if (r == 0) {
        r = store_close(s, err);
        io->ops->free(io);
    }
    return r;
}

/* Beside a store that is there. */
static int place_beside(void *arg, struct io **io, const char **dir, struct err *err)
{
    struct made *m = arg;
    struct io *store_io = NULL;
    int r = io_posix_new(m->dir, &store_io, err);

    if (r == 0)
        r = anew_begin(store_io, err);
    if (store_io)
        store_io->ops->free(store_io);
    if (r == 0 && asprintf(&m->beside, "%s/" ANEW_DIR, m->dir) < 0) {
        m->beside = NULL;
        r = err_set(err, ERR_NOMEM, "no memory");
    }
    if (r == 0)
        r = io_posix_new(m->beside, io, err);
    *dir = m->beside;
    return r;
}

/* Mounted: whoever serves it takes the stream. Else this process opens it. */
static int serve_store(const char *dir, uint32_t location, struct err *err)
{
    struct rewind back = { 0 };
    struct made m = { .dir = dir };
    struct link_receive_options opt = { .place = place_beside, .arg = &m, .stop = { -1, &out_interrupted }, .rewind = &back };
    struct session *ses = NULL;
    struct svc_server *server;
    struct link_table own;
    struct link_info info;
    int r = session_open_at(dir, SESSION_WRITE, location, &ses, err);

    if (r) {
        link_refuse(0, 1, err);
        return r;
    }
    if (session_served(ses)) {
        r = session_stream(ses, session_request("receive"), 0, 1, emit_nothing, NULL, err);
    } else {
        link_table_init(&own);
        server = answer(session_store(ses), dir);
        r = link_receive(session_store(ses), server ? svc_server_links(server) : &own, 0, 1, &opt, &info, err);
        svc_server_stop(server);
        link_table_release(&own);
    }
    r = session_end(ses, r, err);
    free(m.beside);
    return back.at ? go_back(dir, &back, err) : r;
}

int cmd_serve(int argc, char **argv)
{
    static const struct option longs[] = {
        { "stdio", no_argument, NULL, STDIO }, { "receive-only", no_argument, NULL, RECEIVE_ONLY }, { "moved", no_argument, NULL, MOVED },
        { "copied", no_argument, NULL, COPIED },
    };
    struct err err = { 0 };
    uint32_t location = LOCATION_AS_IS;
    bool stdio = false;
    char *dir;
    int code = 0, o, r;

    while ((o = cli_option(argc, argv, "", longs, 4, &code)) != -1) {
        switch (o) {
        case STDIO: stdio = true; break;
        case RECEIVE_ONLY: break;        /* there is nothing else to be served yet; a key that is bound to it stays so */
        case MOVED: location = LOCATION_MOVED; break;
        case COPIED: location = LOCATION_COPIED; break;
        default: return code;
        }
    }
    if (!stdio || argc - optind != 1)
        return cli_usage("serve", "expected --stdio and a store");
    if (isatty(0) || isatty(1))
        return cli_usage("serve", "expected to be started by `spare sync`, found a terminal");
    dir = locate_absolute(argv[optind], &err);
    if (!dir)
        return out_error(&err, ERR_NOMEM);
    r = locate_is_store(dir) ? serve_store(dir, location, &err) : serve_new(dir, &err);
    /* The other side says what it was; here nobody may be looking. */
    code = r == 0 ? EXIT_OK : r == ERR_INTR ? out_error(&err, r) : err_exit(r);
    free(dir);
    return code;
}
