/* promote, demote: which of the sites is the primary. */
#include "cli/busy.h"
#include "cli/cli.h"
#include "cli/locate.h"
#include "cli/role.h"
#include "cli/session.h"
#include "fs/mount.h"
#include "store/base/io.h"
#include "store/svc/server.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPEN_WAIT_MS = 10000, OPEN_POLL_MS = 20, SERVER_WAIT_MS = 5000, ASK_TRIES = 5, CLOSE_WAIT_MS = 60000, UMOUNT_TRIES = 10, UMOUNT_POLL_MS = 100 };

int role_emit(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    struct role_answer *a = arg;
    const char *why = json_object_get(o, "mount_why") ? "mount_why" : "missing";

    (void)bin, (void)len;
    if (strcmp(type, "item") != 0)       /* an answer is taken also when it is too late to stop: what was done must be known */
        return out_interrupted ? ERR_INTR : 0;
    snprintf(a->role, sizeof a->role, "%s", item_text(o, "role"));
    snprintf(a->mounted_at, sizeof a->mounted_at, "%s", item_text(o, "mounted_at"));
    snprintf(a->options, sizeof a->options, "%s", item_text(o, "mount_options"));
    snprintf(a->why, sizeof a->why, "%s", item_text(o, why));
    a->lsn = item_u64(o, "lsn");
    a->held_ms = item_u64(o, "held_ms");
    a->fits = item_true(o, "mount_fits");
    a->complete = item_true(o, "complete");
    return 0;
}

json_t *role_request(const char *action)
{
    json_t *req = session_request("role");

    json_object_set_new(req, "action", json_string(action));
    return req;
}

static void print_role(const char *store, const struct role_answer *a)
{
    json_t *j = json_object();

    session_put_bytes(j, "store", store);
    json_object_set_new(j, "role", json_string(a->role));
    if (a->mounted_at[0])
        session_put_bytes(j, "mounted_at", a->mounted_at);
    out_object(j);
    json_decref(j);
}

/* ---- promote ---- */

static int open_as_primary(const char *dir, uint32_t location, struct err *err)
{
    struct store_options opt = { .writable = true, .threads = true, .promote = true, .location = location };
    struct log_recovery rec;
    struct store *s = NULL;
    struct io *io = NULL;
    int r = io_posix_new(dir, &io, err);

    if (r == 0)
        r = store_open(io, dir, &opt, &s, &rec, err);
    if (r == 0)
        r = store_close(s, err);
    if (io)
        io->ops->free(io);
    return r;
}

/* Who serves it. A worker that just died has a successor in a moment. */
static int find_server(const char *dir, bool patient, struct session **ses, struct err *err)
{
    int r;

    for (int waited = 0;; waited += OPEN_POLL_MS) {
        memset(err, 0, sizeof *err);
        r = session_open_served(dir, ses, err);
        if (r != ERR_NOENT || !patient || waited >= SERVER_WAIT_MS || out_interrupted)
            return r;
        (void)poll(NULL, 0, OPEN_POLL_MS);
    }
}

/*
 * 1: whoever serves it has done it. 0: nobody does, or who does gives it up now. A worker that dies in the middle has a successor, which finds the one role or the other: so it is
 * asked which, and asked again.
 */
static int ask_server(const char *dir, struct role_answer *a, struct err *err)
{
    bool mounted = fs_mounted_store(dir, NULL) == 0, asked = false;
    int r = 0;

    for (int tries = 0; tries < ASK_TRIES && !out_interrupted; tries++) {
        struct session *ses = NULL;

        r = find_server(dir, mounted || asked, &ses, err);
        if (r == ERR_NOENT)
            return asked ? r : 0;
        if (r == 0 && asked)
            r = session_call(ses, role_request("show"), role_emit, a, err);
        if (r == 0 && (!asked || strcmp(a->role, "primary") != 0))
            r = session_call(ses, role_request("promote"), role_emit, a, err);
        session_close(ses, NULL);
        if (r == ERR_BUSY && !mounted) {
            svc_yield(dir);
            return 0;
        }
        if (r != ERR_IO)
            return r ? r : 1;
        asked = true;
    }
    return r ? r : err_set(err, ERR_INTR, "interrupted");
}

static int promote(const char *dir, uint32_t location, struct role_answer *a, struct err *err)
{
    int r = ask_server(dir, a, err);

    if (r)
        return r < 0 ? r : 0;
    for (int waited = 0;; waited += OPEN_POLL_MS) {
        memset(err, 0, sizeof *err);
        r = open_as_primary(dir, location, err);
        if ((r != ERR_LOCKED && r != ERR_BUSY) || waited >= OPEN_WAIT_MS || out_interrupted)
            break;
        (void)poll(NULL, 0, OPEN_POLL_MS);
    }
    if (r == ERR_LOCKED || r == ERR_BUSY)
        err_set(err, r, "%s: expected a standby that no command has open, found it in use; let that end, then promote", dir);
    if (r == 0)
        snprintf(a->role, sizeof a->role, "primary");
    a->fits = true;
    return r;
}

/* An ordinary user's mount is not remounted by anybody but root: it goes, and comes back at the same place a moment later. */
static int mount_afresh(const char *store, const struct role_answer *a, struct err *err)
{
    struct fs_options *o = malloc(sizeof *o);
    char who[2048] = "";
    int r = o ? 0 : ERR_NOMEM;

    if (r == 0) {
        fs_options_init(o);
        r = fs_options_parse(o, a->options, err);
    }
    if (r == 0 && chdir("/"))
        r = err_from_errno(err, errno, "/");
    for (int tries = 0; r == 0; tries++) {
        r = fs_umount(a->mounted_at, false, CLOSE_WAIT_MS, err);
        if (r != ERR_BUSY || tries >= UMOUNT_TRIES)
            break;
        (void)poll(NULL, 0, UMOUNT_POLL_MS);     /* somebody passed by */
        r = 0;
    }
    if (r == ERR_BUSY && busy_list(a->mounted_at, false, who, sizeof who) > 0)
        err_set(err, r, "%s: in use by %s", a->mounted_at, who);
    if (r == 0) {
        o->store = store;
        o->dir = a->mounted_at;
        r = fs_mount(o, err);
    }
    free(o);
    return r;
}

/* Where whoever serves it could not make the mount writable: root may, else it is mounted afresh. */
static void make_writable(const char *store, struct role_answer *a)
{
    struct fs_options o = { .dir = a->mounted_at, .mode_said = true };
    struct err err = { 0 };
    int r = geteuid() == 0 ? fs_remount(&o, &err) : mount_afresh(store, a, &err);

    a->fits = r == 0;
    if (r)
        out_warn("%s: is the primary now, but its mount at %s is still read-only: %s; unmount it, and mount it again", store, a->mounted_at, err.msg);
    else if (geteuid() != 0)
        out_message("%s: was unmounted and mounted again: an ordinary user's mount cannot turn writable in place", a->mounted_at);
}

/* It is final from now on, if it is the primary: else FENCED. */
static int commit(const char *store, struct role_answer *a, struct err *err)
{
    struct session *ses = NULL;
    int r = session_open(store, SESSION_WRITE, &ses, err);

    if (r)
        return r;
    r = session_call(ses, role_request("commit"), role_emit, a, err);
    return session_end(ses, r, err);
}

static int role_options(int argc, char **argv, uint32_t *location, bool *final, int *code)
{
    enum { MOVED = OPT_FIRST, COPIED, COMMIT };
    static const struct option longs[] = { { "moved", no_argument, NULL, MOVED }, { "copied", no_argument, NULL, COPIED }, { "commit", no_argument, NULL, COMMIT } };
    int o;

    while ((o = cli_option(argc, argv, "", longs, location ? 3 : 0, code)) != -1) {
        if (o == -2)
            return ERR_USAGE;
        if (o == COMMIT)
            *final = true;
        else
            *location = o == MOVED ? LOCATION_MOVED : LOCATION_COPIED;
    }
    return 0;
}

int cmd_promote(int argc, char **argv)
{
    struct role_answer *a = calloc(1, sizeof *a);
    struct place p;
    struct err err = { 0 };
    uint32_t location = LOCATION_AS_IS;
    bool final = false, was = false;
    int code = 0, r = ERR_FENCED;

    if (!a)
        return out_error(&err, ERR_NOMEM);
    if (role_options(argc, argv, &location, &final, &code) || session_place("promote", argc, argv, &p, &code)) {
        free(a);
        return code;
    }
    if (final)
        was = (r = commit(p.store, a, &err)) == 0;
    if (r == ERR_FENCED || r == ERR_MOVED) {
        memset(&err, 0, sizeof err);
        r = promote(p.store, location, a, &err);
        if (r == 0 && !a->fits)
            make_writable(p.store, a);
        if (r == 0 && final)
            r = commit(p.store, &(struct role_answer){ 0 }, &err);
    }
    if (r == 0 && was && !out_json)
        out_text("%s: is the primary, for good\n", out_name(p.store));
    else if (r)
        code = out_error(&err, r);
    else if (out_json)
        print_role(p.store, a);
    else if (a->mounted_at[0])
        out_text("%s: is the primary now, with all of its history, %s at %s\n", out_name(p.store), a->fits ? "writable" : "mounted read-only", a->mounted_at);
    else
        out_text("%s: is the primary now, with all of its history\nNext: spare mount %s DIR\n", p.store, p.store);
    locate_release(&p);
    free(a);
    return code;
}

/* ---- demote ---- */

int cmd_demote(int argc, char **argv)
{
    struct role_answer *a = calloc(1, sizeof *a);
    struct place p;
    int code = 0;

    if (!a)
        return out_error(&(struct err){ 0 }, ERR_NOMEM);
    if (role_options(argc, argv, NULL, NULL, &code) == 0 && session_place("demote", argc, argv, &p, &code) == 0) {
        code = session_ask(&p, role_request("demote"), role_emit, a);
        if (code == EXIT_OK && out_json)
            print_role(p.store, a);
        else if (code == EXIT_OK)
            out_text("%s: is a standby now; what shall be its primary ships to it: there, spare sync --follow STORE %s\n", p.store, p.store);
        if (code == EXIT_OK && !a->fits && a->why[0])
            out_message("%s; the mount refuses every change all the same", a->why);
        locate_release(&p);
    }
    free(a);
    return code;
}
