/* cmd_sync.c: sync, standby: a second place for a store. */
#include "cli/cli.h"
#include "cli/locate.h"
#include "cli/serve.h"
#include "cli/session.h"

#include "store/sync/peer.h"
#include "store/sync/replicate.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sync {
    struct place p;
    struct peer_options peer;
    bool follow, make, probe;
    bool way;                   /* how to get there was said now: the mount's own stream is not waited for */
    bool stall_said;
    bool served;                /* the store is mounted: whoever serves it does the work, now and at each new try */
    bool met;                   /* a stream ran once */
    bool by_mount;              /* the mount ships there by itself; this command watches */
    bool from;                  /* target is where this store fetches from */
    char *ssh, *remote;         /* as the store remembers them */
    const char *target;
    uint64_t lsn;               /* durable there (fetched: here), as the last answer said */
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
        y->lsn = json_object_get(o, "done_bytes") ? item_u64(o, "done_bytes") : y->lsn;
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

/* Whether the mount does it; if not, how the store remembers to get there. */
static int emit_asked(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    struct sync *y = arg;

    if (strcmp(type, "item") == 0) {
        y->by_mount = item_true(o, "by_mount");
        free(y->ssh);
        free(y->remote);
        y->ssh = *item_text(o, "ssh") ? strdup(item_text(o, "ssh")) : NULL;
        y->remote = *item_text(o, "remote") ? strdup(item_text(o, "remote")) : NULL;
        if (!y->by_mount)
            return 0;
    }
    return emit_ship(arg, type, o, bin, len);
}

/* Done, where the mount ships by itself; else it does not until this command's stream is over. */
static int ask_mount(struct sync *y, struct session *ses, struct err *err)
{
    json_t *req = session_request("sync");

    session_put_bytes(req, "target", y->target);
    json_object_set_new(req, "follow", json_boolean(y->follow));
    json_object_set_new(req, "hold", json_boolean(y->way || y->probe || y->make));
    y->by_mount = false;
    return session_call(ses, req, emit_asked, y, err);
}

static json_t *stream_request(const struct sync *y)
{
    json_t *req = session_request(y->from ? "receive" : "ship");
    char host[256];

    session_put_bytes(req, y->from ? "source" : "target", y->target);
    if (y->from) {
        json_object_set_new(req, "once", json_boolean(!y->follow));
        return req;
    }
    json_object_set_new(req, "follow", json_boolean(y->follow));
    json_object_set_new(req, "make", json_boolean(y->make));
    json_object_set_new(req, "probe", json_boolean(y->probe));
    json_object_set_new(req, "compress", json_boolean(peer_host(y->target, host, sizeof host) != NULL));
    return req;
}

static int start_peer(const struct sync *y, struct peer *peer, struct err *err)
{
    static char own[REPLICATE_NAME_MAX + 1];
    struct peer_options po = y->peer;

    po.ssh = po.ssh ? po.ssh : y->ssh;
    po.remote = po.remote ? po.remote : y->remote;
    if (y->from) {
        replicate_own_name(own);
        po.send = own;
        po.anew = y->make;
    }
    return peer_start(y->target, &po, peer, err);
}

/* A standby that is not there yet fetches itself. */
static void fetched(void *arg, const struct link_info *i)
{
    struct sync *y = arg;

    y->lsn = i->durable;
    y->met |= i->agreed;
    out_progress("fetching", i->durable, i->peer_durable);
}

static int once_new(struct sync *y, struct err *err)
{
    struct link_receive_options opt = { .name = y->target, .once = !y->follow, .progress = fetched, .arg = y };
    struct link_info info = { 0 };
    struct peer peer;
    int r = start_peer(y, &peer, err);

    if (r == 0) {
        r = serve_receive_new(y->p.store, peer.fd, peer.fd, &opt, &info, err);
        y->lsn = info.durable > y->lsn ? info.durable : y->lsn;
        if (r == 0 && !info.agreed)
            r = err_set(err, ERR_AWAY, "the other side ended the stream");
    }
    out_progress_end();
    return r < 0 && peer.pid < 0 ? r : peer_end(&peer, y->target, r, err);
}

static int once(struct sync *y, struct err *err)
{
    struct session *ses = NULL;
    struct peer peer = { -1, -1, -1 };
    struct err close_err = { 0 };
    int r, c;

    if (y->from && !y->served && !locate_is_store(y->p.store))
        return once_new(y, err);
    /* A store that was mounted is its mount's: between two mounts of it this command waits, and does not take it. */
    r = y->served ? session_open_served(y->p.store, &ses, err) : session_open(y->p.store, SESSION_WRITE, &ses, err);
    if (r)
        return r;
    y->served = session_served(ses);
    r = ask_mount(y, ses, err);
    if (r == 0 && !y->by_mount) {
        r = start_peer(y, &peer, err);
        if (r == 0)
            r = session_stream(ses, stream_request(y), peer.fd, peer.fd, emit_ship, y, err);
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
    if (code == ERR_AWAY || code == ERR_IO || code == ERR_TRUNCATED || (y->from && code == 0))
        return true;
    return (y->met && (code == ERR_LOCKED || code == ERR_BUSY)) || (y->served && code == ERR_NOENT);
}

/* Tried again, with longer and longer pauses; what was refused for a reason that stays is not. */
static int ship(struct sync *y, struct err *err)
{
    uint64_t pause_ms = REPLICATE_FIRST_MS, before;
    int r;

    for (;;) {
        before = y->lsn;
        r = once(y, err);
        if (!y->follow || !passes(y, r) || out_interrupted)
            return r;
        if (y->lsn > before)
            pause_ms = REPLICATE_FIRST_MS;
        out_message("%s; trying again in %d.%d s", r ? err->msg : "the other side ended the stream", (int)pause_ms / 1000, (int)pause_ms % 1000 / 100);
        for (uint64_t waited = 0; waited < pause_ms && !out_interrupted; waited += 100)
            (void)poll(NULL, 0, 100);
        if (out_interrupted)
            return err_set(err, ERR_INTR, "interrupted");
        pause_ms = replicate_pause_ms(r, pause_ms);
        memset(err, 0, sizeof *err);
    }
}

/* ---- from the command line ---- */

/* A directory is known by its whole path. */
static int target_of(const char *arg, char **out, struct err *err)
{
    char host[256];

    *out = peer_host(arg, host, sizeof host) ? strdup(arg) : locate_absolute(arg, err);
    return *out ? 0 : err->code ? err->code : err_set(err, ERR_NOMEM, "no memory");
}

/* The store a standby that fetches is, or is to be. */
static int place_from(const char *arg, struct place *p, struct err *err)
{
    int r = locate_store(arg, p, err);

    if (r == 0 || arg == NULL)
        return r;
    memset(err, 0, sizeof *err);
    memset(p, 0, sizeof *p);
    p->store = locate_absolute(arg, err);
    return p->store ? 0 : err->code ? err->code : err_set(err, ERR_NOMEM, "no memory");
}

/* [STORE] TARGET, or --from SOURCE [STORE] */
static int places(const char *name, int argc, char **argv, struct sync *y, char **target, int *code)
{
    struct err err = { 0 };
    const char *store = cli_store, *from = y->from ? y->target : NULL;
    int n = argc - optind, most = from ? 1 : 2, r;

    *target = NULL;
    if (n < most - 1 || n > most || (n == most && store)) {
        *code = cli_usage(name, "expected %s, found %d arguments", from ? "--from SOURCE [STORE]" : "[STORE] TARGET", n);
        return ERR_USAGE;
    }
    if (n == most)
        store = argv[optind];
    r = from ? place_from(store, &y->p, &err) : locate_store(store, &y->p, &err);
    if (r == 0)
        r = target_of(from ? from : argv[argc - 1], target, &err);
    if (r == 0 && strcmp(*target, y->p.store) == 0)
        r = err_set(&err, ERR_USAGE, "%s: expected another place, found the store itself", *target);
    if (r) {
        *code = out_error(&err, r);
        locate_release(&y->p);
        free(*target);
    }
    y->target = *target;
    return r;
}

static int not_fetched(const char *target, struct err *err)
{
    return strncmp(target, "pull:", 5) != 0 ? 0 : err_set(err, ERR_USAGE, "%s: expected a directory or HOST:STORE, found a standby that fetches; run `spare sync --from` there", target);
}

enum { FOLLOW = OPT_FIRST, SSH, REMOTE, NEW, MOVED, COPIED, FROM };
static const struct option peer_longs[] = {
    { "ssh", required_argument, NULL, SSH }, { "remote-spare", required_argument, NULL, REMOTE }, { "moved", no_argument, NULL, MOVED },
    { "copied", no_argument, NULL, COPIED }, { "follow", no_argument, NULL, FOLLOW }, { "new", no_argument, NULL, NEW }, { "from", required_argument, NULL, FROM },
};
enum { N_PEER_LONGS = sizeof peer_longs / sizeof peer_longs[0] };

/* False: the command is over, with *code. */
static bool sync_options(int argc, char **argv, struct sync *y, int *code)
{
    int o;

    while ((o = cli_option(argc, argv, "", peer_longs, N_PEER_LONGS, code)) != -1) {
        y->way |= o != FOLLOW && o != FROM;
        switch (o) {
        case SSH: y->peer.ssh = optarg; break;
        case REMOTE: y->peer.remote = optarg; break;
        case MOVED: y->peer.moved = true; break;
        case COPIED: y->peer.copied = true; break;
        case FOLLOW: y->follow = true; break;
        case NEW: y->make = true; break;
        case FROM: y->from = true; y->target = optarg; break;
        default: return false;
        }
    }
    return true;
}

static void release(struct sync *y, char *target)
{
    locate_release(&y->p);
    free(target);
    free(y->ssh);
    free(y->remote);
}

int cmd_sync(int argc, char **argv)
{
    struct sync y = { 0 };
    struct err err = { 0 };
    char *target = NULL;
    int code = 0, r;

    if (!sync_options(argc, argv, &y, &code) || places("sync", argc, argv, &y, &target, &code))
        return code;
    r = not_fetched(target, &err);
    if (r == 0)
        r = ship(&y, &err);
    if (r)
        code = out_error(&err, r);
    else if (!out_json)
        out_text("%s: holds everything up to @%llu, durably\n", out_name(y.from ? y.p.store : target), (unsigned long long)y.lsn);
    release(&y, target);
    return code;
}

/* ---- standby ---- */

/* The first line of this user's key, "KEY" where there is none. */
static void own_key(char key[2048])
{
    static const char *const keys[] = { "id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub" };
    const char *home = getenv("HOME");
    char path[4200];

    key[0] = '\0';
    for (size_t i = 0; home && i < sizeof keys / sizeof keys[0] && !*key; i++) {
        FILE *f;

        snprintf(path, sizeof path, "%s/.ssh/%s", home, keys[i]);
        f = fopen(path, "re");
        if (f && !fgets(key, 2048, f))
            key[0] = '\0';
        if (f)
            fclose(f);
        key[strcspn(key, "\n")] = '\0';
    }
    if (!*key)
        snprintf(key, 2048, "KEY");
}

/* The line that lets this user's key do nothing there but append to that store, or fetch it. */
static void print_authorized(const struct sync *y)
{
    const char *remote = y->peer.remote ? y->peer.remote : y->remote ? y->remote : "spare";
    char host[256], key[2048], own[REPLICATE_NAME_MAX + 1], how[REPLICATE_NAME_MAX + 16] = "--receive-only";
    const char *store = peer_host(y->target, host, sizeof host);

    if (!store)
        return;
    if (strpbrk(store, "'\"\\")) {
        out_text("(No line for authorized_keys: a path with quotes in it cannot be written there.)\n");
        return;
    }
    own_key(key);
    replicate_own_name(own);
    if (y->from)
        snprintf(how, sizeof how, "--send --as %s", own);
    out_text("For a key that can only %s there, this line in ~/.ssh/authorized_keys on %s:\n"
             "  restrict,command=\"%s serve --stdio %s '%s'\" %s\n", y->from ? "fetch from" : "append", host, remote, how, store, key);
}

static int ask_standby(const struct sync *y, const char *action, const char *target, struct err *err)
{
    struct session *ses = NULL;
    json_t *req;
    int r = session_open(y->p.store, SESSION_WRITE, &ses, err);

    if (r)
        return r;
    req = session_request("standby");
    session_put_bytes(req, "action", action);
    session_put_bytes(req, "target", target);
    if (strcmp(action, "add") == 0 || strcmp(action, "from") == 0) {
        session_put_bytes(req, "ssh", y->peer.ssh ? y->peer.ssh : y->ssh);
        session_put_bytes(req, "remote", y->peer.remote ? y->peer.remote : y->remote);
    }
    r = session_call(ses, req, session_emit_objects, NULL, err);
    return session_end(ses, r, err);
}

static int emit_standbys(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    const json_t *from = json_object_get(o, "fetches");
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
        out_text("%-14s %s: durable there up to @%llu%s\n", item_text(b, "state"), item_name(b, "target"), (unsigned long long)item_u64(b, "durable_lsn"),
                 item_true(b, "by_itself") ? "" : strncmp(item_text(b, "target"), "pull:", 5) == 0 ? "; it fetches" : "; only when `spare sync` is run");
    }
    if (from && out_json)
        out_object(from);
    else if (from)
        out_text("Fetches from %s%s\n", item_name(from, "source"), item_true(from, "paused") ? " (paused)" : "");
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

/* Noted only once the way there has been tried: the test is a stream that ends when both sides have agreed; of one that fetches, when it has all. */
static int standby_add(struct sync *y, struct err *err)
{
    int r = not_fetched(y->target, err);

    y->probe = true;
    if (r == 0)
        r = once(y, err);
    if (r == 0)
        r = ask_standby(y, y->from ? "from" : "add", y->target, err);
    if (r || out_json)
        return r;
    if (y->from)
        out_text("%s: fetches from %s, and holds everything up to @%llu\n", out_name(y->p.store), y->target, (unsigned long long)y->lsn);
    else
        out_text("%s: reached; it is a standby of this store, and holds everything up to @%llu\n", out_name(y->target), (unsigned long long)y->lsn);
    print_authorized(y);
    if (!y->served)
        out_text("Next: spare mount %s DIR: whoever has it mounted %s by itself\n", out_name(y->p.store), y->from ? "fetches" : "ships there");
    return 0;
}

/* pause|resume [STORE] [TARGET]: one argument is a standby of the default store, or else a store, and all of its standbys. */
static int standby_pause(int argc, char **argv, const char *verb)
{
    struct sync y = { 0 };
    struct err err = { 0 }, first = { 0 };
    int n = argc - optind, r;
    char *target = NULL;
    bool located;

    if (n > 2 || (n == 2 && cli_store))
        return cli_usage("standby", "expected %s [STORE] [TARGET], found %d arguments", verb, n);
    r = locate_store(n == 2 ? argv[optind] : cli_store, &y.p, &err);
    located = r == 0;
    if (r == 0 && n > 0)
        r = target_of(argv[argc - 1], &target, &err);
    if (r == 0)
        r = ask_standby(&y, verb, target, &err);
    if (r && n == 1 && !cli_store && (!located || r == ERR_NOENT)) {      /* no target here of that name: it may be a store; what failed for another reason stays failed */
        first = err;
        memset(&err, 0, sizeof err);
        locate_release(&y.p);
        memset(&y.p, 0, sizeof y.p);
        r = locate_store(argv[optind], &y.p, &err);
        if (r)
            err = first.code ? first : err;
        else
            r = ask_standby(&y, verb, NULL, &err);
    }
    release(&y, target);
    return r ? out_error(&err, r) : EXIT_OK;
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
    if (strcmp(verb, "pause") == 0 || strcmp(verb, "resume") == 0)
        return standby_pause(argc, argv, verb);
    if (strcmp(verb, "add") != 0 && strcmp(verb, "remove") != 0)
        return cli_usage("standby", "expected add, remove, pause, resume or list, found %s", verb);
    if (*verb == 'r')
        y.from = false;
    if (places("standby", argc, argv, &y, &target, &code))
        return code;
    r = *verb == 'a' ? standby_add(&y, &err) : ask_standby(&y, "remove", target, &err);
    if (r)
        code = out_error(&err, r);
    else if (*verb == 'r' && !out_json)
        out_text("%s: no longer a standby of this store; what is there stays\n", out_name(target));
    release(&y, target);
    return code;
}
