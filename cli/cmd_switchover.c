/*
 * switchover: planned: the primary moves to a standby, and nothing is lost. What fails before the store here is durably a standby leaves the work here; what fails
 * after it leaves two stores that have everything, and the message says which command leads on from there.
 */
#include "cli/cli.h"
#include "cli/locate.h"
#include "store/sync/peer.h"
#include "cli/role.h"
#include "cli/session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TIMEOUT_MS = 30000, CONNECT_POLL_MS = 20, SERVER_WAIT_MS = 5000 };

struct switching {
    struct place p;
    struct peer_options peer;
    const char *stop, *start;
    char *target;
    uint64_t timeout_ms;
    pid_t stream;               /* one of our own; 0: none */
    struct role_answer a;
};

/* "30s", "500ms", "2m"; a number alone is seconds. */
static bool parse_timeout(const char *text, uint64_t *ms)
{
    static const struct { const char *unit; double ms; } units[] = { { "", 1000 }, { "s", 1000 }, { "ms", 1 }, { "m", 60000 } };
    char *end;
    double n = strtod(text, &end);

    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (end != text && strcmp(end, units[i].unit) == 0 && n * units[i].ms >= 1 && n * units[i].ms <= 86400000) {
            *ms = (uint64_t)(n * units[i].ms);
            return true;
        }
    return false;
}

static int emit_connected(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    struct switching *w = arg;
    json_t *b;
    size_t i;

    (void)bin, (void)len;
    if (strcmp(type, "item") == 0)
        json_array_foreach(json_object_get(o, "standbys"), i, b)
            w->a.complete |= item_true(b, "connected") && strcmp(item_text(b, "target"), w->target) == 0;
    return out_interrupted ? ERR_INTR : 0;
}

/* Whether a stream to the target is under way. */
static int connected(struct switching *w, bool *yes, struct err *err)
{
    struct session *ses = NULL;
    int r = session_open_served(w->p.store, &ses, err);

    w->a.complete = false;
    if (r == 0)
        r = session_call(ses, session_request("status"), emit_connected, w, err);
    session_close(ses, NULL);
    *yes = w->a.complete;
    return r;
}

static void stop_stream(struct switching *w)
{
    if (w->stream <= 0)
        return;
    (void)kill(w->stream, SIGINT);
    while (waitpid(w->stream, NULL, 0) < 0 && errno == EINTR)
        ;
    w->stream = 0;
}

/* `spare sync` as a child: once, or following for as long as it takes. */
static int start_stream(struct switching *w, bool follow, struct err *err)
{
    static char spare[] = "spare", sync[] = "sync", follows[] = "--follow", ssh[] = "--ssh", remote[] = "--remote-spare", end[] = "--";
    char *argv[12] = { spare, sync };
    int n = 2;

    if (follow)
        argv[n++] = follows;
    if (w->peer.ssh) {
        argv[n++] = ssh;
        argv[n++] = (char *)(uintptr_t)w->peer.ssh;
    }
    if (w->peer.remote) {
        argv[n++] = remote;
        argv[n++] = (char *)(uintptr_t)w->peer.remote;
    }
    argv[n++] = end;
    argv[n++] = w->p.store;
    argv[n++] = w->target;
    w->stream = fork();
    if (w->stream < 0)
        return err_from_errno(err, errno, "fork");
    if (w->stream == 0) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        (void)prctl(PR_SET_PDEATHSIG, SIGINT);
        (void)setpgid(0, 0);             /* a terminal's Ctrl-C is for the command */
        if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
            _exit(1);
        execv("/proc/self/exe", argv);
        _exit(127);
    }
    return 0;
}

/* Once, to the end: a wrong target is told from one that is slow, and much that is missing there is shipped before anything waits for it. */
static int catch_up(struct switching *w, struct err *err)
{
    int status = 0, r = start_stream(w, false, err);

    while (r == 0 && waitpid(w->stream, &status, WNOHANG) == 0) {
        (void)poll(NULL, 0, CONNECT_POLL_MS);
        if (out_interrupted) {
            stop_stream(w);
            return err_set(err, ERR_INTR, "interrupted");
        }
    }
    w->stream = 0;
    if (r == 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
        r = err_set(err, ERR_AWAY, "%s: expected a standby that can be brought up to date, found none (see above)", w->target);
    return r;
}

/* Until there is one: that of whoever follows already, or our own. */
static int need_stream(struct switching *w, struct err *err)
{
    bool yes = false;
    int r = connected(w, &yes, err);

    if (r == 0 && !yes)
        r = catch_up(w, err);
    if (r == 0 && !yes)
        r = start_stream(w, true, err);
    for (uint64_t waited = 0; r == 0 && !yes; waited += CONNECT_POLL_MS) {
        if (waitpid(w->stream, NULL, WNOHANG) != 0) {
            w->stream = 0;
            return err_set(err, ERR_AWAY, "%s: expected a stream to it, and there is none (see above)", w->target);
        }
        if (waited >= w->timeout_ms)
            return err_set(err, ERR_AWAY, "%s: no stream to it within %llu ms", w->target, (unsigned long long)w->timeout_ms);
        (void)poll(NULL, 0, CONNECT_POLL_MS);
        r = connected(w, &yes, err);
    }
    return r;
}

/* Its worker died before it answered: the next one knows which role it has; whether the standby has everything nobody has seen. */
static int ask_again(struct switching *w, int rc, struct err *err)
{
    struct session *ses = NULL;
    struct err why = { 0 };
    int r = ERR_NOENT;

    for (int waited = 0; r == ERR_NOENT && waited < SERVER_WAIT_MS && !out_interrupted; waited += CONNECT_POLL_MS) {
        r = session_open_served(w->p.store, &ses, &why);
        if (r == ERR_NOENT)
            (void)poll(NULL, 0, CONNECT_POLL_MS);
    }
    if (r == 0)
        r = session_call(ses, role_request("show"), role_emit, &w->a, &why);
    session_close(ses, NULL);
    if (r || strcmp(w->a.role, "primary") == 0)
        return rc;
    memset(err, 0, sizeof *err);
    w->a.complete = false;
    snprintf(w->a.why, sizeof w->a.why, "the process that serves %s died in between", w->p.store);
    return 0;
}

static int hand_over_mounted(struct switching *w, struct session *ses, struct err *err)
{
    json_t *req = role_request("hand_over");
    int r = need_stream(w, err);

    session_put_bytes(req, "target", w->target);
    json_object_set_new(req, "timeout_ms", json_integer((json_int_t)w->timeout_ms));
    if (r)
        json_decref(req);
    else
        r = session_call(ses, req, role_emit, &w->a, err);
    if (r == ERR_IO)
        r = ask_again(w, r, err);
    stop_stream(w);
    return r;
}

static int emit_shipped(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    (void)arg, (void)bin, (void)len;
    if (strcmp(type, "progress") == 0)
        session_progress(o);
    return out_interrupted ? ERR_INTR : 0;
}

/* Nothing is mounted: nobody writes while this command has the store. */
static int hand_over_here(struct switching *w, struct session *ses, struct peer *peer, struct err *err)
{
    json_t *req = session_request("ship"), *demote = role_request("demote");
    char host[256];
    int r = session_call(ses, role_request("show"), role_emit, &w->a, err);

    if (r == 0 && w->a.unfinished)
        r = err_set(err, ERR_BUSY, "%s: its tree is not yet the one of @%llu; first `spare promote --at @%llu` goes on with it", w->p.store, (unsigned long long)w->a.unfinished,
                    (unsigned long long)w->a.unfinished);
    if (r == 0)
        r = peer_start(w->target, &w->peer, peer, err);
    session_put_bytes(req, "target", w->target);
    json_object_set_new(req, "compress", json_boolean(peer_host(w->target, host, sizeof host) != NULL));
    if (r)
        json_decref(req);
    else
        r = session_stream(ses, req, peer->fd, peer->fd, emit_shipped, NULL, err);
    out_progress_end();
    json_object_set_new(demote, "hands_over", json_true());
    if (r == 0)
        r = session_call(ses, demote, role_emit, &w->a, err);
    else
        json_decref(demote);
    w->a.complete = r == 0;
    return r;
}

static int hand_over(struct switching *w, struct err *err)
{
    struct peer peer = { -1, -1, -1 };
    struct session *ses = NULL;
    int r = session_open(w->p.store, SESSION_WRITE, &ses, err);

    if (r)
        return r;
    r = session_served(ses) ? hand_over_mounted(w, ses, err) : hand_over_here(w, ses, &peer, err);
    r = session_end(ses, r, err);
    return peer_end(&peer, w->target, r, err);
}

/* The hooks are the user's own commands: what they say is theirs. */
static int hook(const struct switching *w, const char *what, const char *command, const char *where, struct err *err)
{
    int r = command ? peer_shell(where, &w->peer, command, err) : 0;

    return r > 0 ? err_set(err, ERR_UNKNOWN, "%s: expected the command \"%s\" to succeed, its exit status is %d", what, command, r) : r;
}

/* The store here is a standby by now: whatever happens, one command leads on from here, and one there. */
static int promote_there(struct switching *w, struct err *err)
{
    /* the store here takes no changes any more, durably: nobody has to wait for the end of its lease */
    static const char *const how[] = { "--commit", "--unfenced", NULL };
    struct err why = { 0 };
    int r = 0;

    if (!w->a.complete)
        r = err_set(&why, ERR_AWAY, "%s", w->a.why);
    if (r == 0)
        r = peer_run(w->target, &w->peer, "promote", how, &why);
    if (r == 0)
        return 0;
    if (r > 0)
        err_set(&why, ERR_AWAY, "its promotion ended with exit status %d (see above)", r);
    return err_set(err, r > 0 ? ERR_AWAY : r, "%s is a standby now, and %s is not the primary yet: %s. Nothing is lost: everything is here%s. `spare promote %s` resumes here; "
                   "`spare promote` there tries again", w->p.store, w->target, why.msg, w->a.complete ? ", and there" : "", w->p.store);
}

static int switch_over(struct switching *w, struct err *err)
{
    int r = hook(w, "--stop", w->stop, NULL, err);

    if (r == 0)
        r = hand_over(w, err);
    if (r == 0)
        r = promote_there(w, err);
    return r;
}

static void print_switched(const struct switching *w)
{
    if (out_json) {
        json_t *j = json_object();

        session_put_bytes(j, "store", w->p.store);
        json_object_set_new(j, "role", json_string("standby"));
        session_put_bytes(j, "primary", w->target);
        json_object_set_new(j, "lsn", json_integer((json_int_t)w->a.lsn));
        json_object_set_new(j, "held_ms", json_integer((json_int_t)w->a.held_ms));
        out_object(j);
        json_decref(j);
        return;
    }
    out_text("%s: is the primary now, with everything up to @%llu\n", out_name(w->target), (unsigned long long)w->a.lsn);
    out_text("%s: is its standby; next, there: spare sync --follow STORE TARGET\n", out_name(w->p.store));
}

/* False: the command is over, with *code. */
static bool switch_options(int argc, char **argv, struct switching *w, int *code)
{
    enum { STOP = OPT_FIRST, START, TIMEOUT, SSH, REMOTE };
    static const struct option longs[] = {
        { "stop", required_argument, NULL, STOP }, { "start", required_argument, NULL, START }, { "timeout", required_argument, NULL, TIMEOUT },
        { "ssh", required_argument, NULL, SSH }, { "remote-spare", required_argument, NULL, REMOTE },
    };
    int o;

    w->timeout_ms = TIMEOUT_MS;
    while ((o = cli_option(argc, argv, "", longs, 5, code)) != -1) {
        switch (o) {
        case STOP: w->stop = optarg; break;
        case START: w->start = optarg; break;
        case SSH: w->peer.ssh = optarg; break;
        case REMOTE: w->peer.remote = optarg; break;
        case TIMEOUT:
            if (parse_timeout(optarg, &w->timeout_ms))
                break;
            *code = cli_usage("switchover", "--timeout: expected a time like 30s, 500ms or 2m, found %s", optarg);
            return false;
        default: return false;
        }
    }
    return true;
}

/* [STORE] TARGET */
static int switch_places(int argc, char **argv, struct switching *w, int *code)
{
    int n = argc - optind, r;
    char host[256];
    struct err err = { 0 };

    if (n < 1 || n > 2 || (n == 2 && cli_store)) {
        *code = cli_usage("switchover", "expected [STORE] TARGET, found %d arguments", n);
        return ERR_USAGE;
    }
    r = locate_store(n == 2 ? argv[optind] : cli_store, &w->p, &err);
    if (r == 0) {
        const char *arg = argv[argc - 1];

        w->target = peer_host(arg, host, sizeof host) ? strdup(arg) : locate_absolute(arg, &err);
        r = w->target ? 0 : ERR_NOMEM;
    }
    if (r == 0 && strcmp(w->target, w->p.store) == 0)
        r = err_set(&err, ERR_USAGE, "%s: expected another place, found the store itself", w->target);
    if (r)
        *code = out_error(&err, r);
    return r;
}

int cmd_switchover(int argc, char **argv)
{
    struct switching *w = calloc(1, sizeof *w);
    struct err err = { 0 };
    int code = 0, r;

    if (!w)
        return out_error(&err, ERR_NOMEM);
    if (!switch_options(argc, argv, w, &code) || switch_places(argc, argv, w, &code))
        goto out;
    r = switch_over(w, &err);
    if (r) {
        code = out_error(&err, r);
        goto out;
    }
    r = hook(w, "--start", w->start, w->target, &err);
    if (r)
        out_warn("%s is the primary now; %s", w->target, err.msg);
    print_switched(w);
out:
    locate_release(&w->p);
    free(w->target);
    free(w);
    return code;
}
