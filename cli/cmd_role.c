/* promote, demote: which of the sites is the primary. */
#include "cli/busy.h"
#include "cli/cli.h"
#include "cli/locate.h"
#include "cli/role.h"
#include "cli/session.h"
#include "fs/mount.h"
#include "store/base/io.h"
#include "store/core/role.h"
#include "store/svc/server.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPEN_WAIT_MS = 10000, OPEN_POLL_MS = 20, AT_MAX = 40, SERVER_WAIT_MS = 5000, ASK_TRIES = 5, CLOSE_WAIT_MS = 60000, UMOUNT_TRIES = 10, UMOUNT_POLL_MS = 100 };

uint64_t role_epochs_left(const json_t *o)
{
    return json_object_get(o, "epochs_left") ? item_u64(o, "epochs_left") : UINT64_MAX;      /* (of a program of before) */
}

int role_emit(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    struct role_answer *a = arg;
    const char *why = json_object_get(o, "mount_why") ? "mount_why" : "missing";

    (void)bin, (void)len;
    if (strcmp(type, "progress") == 0 && json_object_get(o, "left_ms") && !a->lease_said) {
        out_message("the primary may have a lease of this standby for %llu s more; promoting it when that is over", (unsigned long long)(item_u64(o, "left_ms") + 999) / 1000);
        a->lease_said = true;
    } else if (strcmp(type, "progress") == 0 && !out_interrupted) {
        session_progress(o);
    }
    if (strcmp(type, "item") != 0)       /* an answer is taken also when it is too late to stop: what was done must be known */
        return out_interrupted ? ERR_INTR : 0;
    snprintf(a->role, sizeof a->role, "%s", item_text(o, "role"));
    snprintf(a->mounted_at, sizeof a->mounted_at, "%s", item_text(o, "mounted_at"));
    snprintf(a->options, sizeof a->options, "%s", item_text(o, "mount_options"));
    snprintf(a->why, sizeof a->why, "%s", item_text(o, why));
    a->lsn = item_u64(o, "lsn");
    a->epochs_left = role_epochs_left(o);
    a->unfinished = item_u64(o, "promote_unfinished_at_lsn");
    a->restored.known = json_object_get(o, "unchanged") != NULL;
    a->restored.files = item_u64(o, "files");
    a->restored.dirs = item_u64(o, "directories");
    a->restored.bytes = item_u64(o, "done_bytes");
    a->restored.unchanged = item_u64(o, "unchanged");
    a->restored.removed = item_u64(o, "removed");
    a->restored.left = item_u64(o, "left");
    a->restored.blocked = item_u64(o, "blocked");
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

static void print_role(const char *store, const struct role_answer *a, const char *at, const char *at_time)
{
    json_t *j = json_object();

    if (*at) {
        json_object_set_new(j, "at_lsn", json_integer((json_int_t)strtoull(at + 1, NULL, 10)));
        json_object_set_new(j, "at_time", json_string(at_time));
    }
    if (a->restored.known) {
        json_object_set_new(j, "files", json_integer((json_int_t)a->restored.files));
        json_object_set_new(j, "directories", json_integer((json_int_t)a->restored.dirs));
        json_object_set_new(j, "done_bytes", json_integer((json_int_t)a->restored.bytes));
        json_object_set_new(j, "unchanged", json_integer((json_int_t)a->restored.unchanged));
        json_object_set_new(j, "removed", json_integer((json_int_t)a->restored.removed));
        json_object_set_new(j, "left", json_integer((json_int_t)a->restored.left));
        json_object_set_new(j, "blocked", json_integer((json_int_t)a->restored.blocked));
    }

    session_put_bytes(j, "store", store);
    json_object_set_new(j, "role", json_string(a->role));
    if (a->mounted_at[0])
        session_put_bytes(j, "mounted_at", a->mounted_at);
    out_object(j);
    json_decref(j);
}

/* ---- promote ---- */

struct promotion { const char *at; uint32_t location; bool unfenced, final; };     /* at: "@LSN", NULL: its tree stays what it is */

/* A time from now is another one a moment later: the moment is found once. ${out} is "@LSN". */
struct moment_found { char *out, *time; };

static int emit_found(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    struct moment_found *f = arg;

    (void)bin, (void)len;
    if (strcmp(type, "item") == 0) {
        snprintf(f->out, AT_MAX, "@%llu", (unsigned long long)item_u64(o, "lsn"));
        snprintf(f->time, AT_MAX, "%s", item_text(o, "time"));
    }
    return out_interrupted ? ERR_INTR : 0;
}

static int find_moment(const char *dir, uint32_t location, const char *at, char out[AT_MAX], char time[AT_MAX], struct err *err)
{
    struct moment_found f = { out, time };
    json_t *req = session_request("resolve");

    session_put_bytes(req, "at", at);
    return session_once(dir, SESSION_READ, location, req, emit_found, &f, err);
}

static json_t *promote_request(const struct promotion *how)
{
    json_t *req = role_request("promote");

    if (how->at)
        session_put_bytes(req, "at", how->at);
    json_object_set_new(req, "unfenced", json_boolean(how->unfenced));
    return req;
}

/* Of a store that nobody has open: as a mount would do it, in this process. */
static int promote_here(const char *dir, const struct promotion *how, struct role_answer *a, struct err *err)
{
    return session_once(dir, SESSION_WRITE, how->location, promote_request(how), role_emit, a, err);
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
static int ask_server(const char *dir, const struct promotion *how, struct role_answer *a, struct err *err)
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
        if (r == 0 && (!asked || strcmp(a->role, "primary") != 0 || (how->at && a->unfinished)))
            r = session_call(ses, promote_request(how), role_emit, a, err);
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

static int promote(const char *dir, const struct promotion *how, struct role_answer *a, struct err *err)
{
    int r = ask_server(dir, how, a, err);

    if (r)
        return r < 0 ? r : 0;
    for (int waited = 0;; waited += OPEN_POLL_MS) {
        memset(err, 0, sizeof *err);
        r = promote_here(dir, how, a, err);
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

/* An ordinary user's mount is not remounted by anybody but root: it goes, and comes back at the same place a moment later. *${gone}: it did not come back. */
static int mount_afresh(const char *store, const struct role_answer *a, bool *gone, struct err *err)
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
        *gone = r != 0;
    }
    free(o);
    return r;
}

/* Where whoever serves it could not make the mount writable: root may, else it is mounted afresh. */
static void make_writable(const char *store, struct role_answer *a)
{
    struct fs_options o = { .dir = a->mounted_at, .mode_said = true };
    struct err err = { 0 };
    bool gone = false;
    int r = geteuid() == 0 ? fs_remount(&o, &err) : mount_afresh(store, a, &gone, &err);

    a->fits = r == 0;
    if (gone) {
        out_warn("%s: is the primary now, and was unmounted from %s to turn writable; mounting it there again failed: %s", store, a->mounted_at, err.msg);
        a->mounted_at[0] = '\0';
    } else if (r) {
        out_warn("%s: is the primary now, but its mount at %s is still read-only: %s; unmount it, and mount it again", store, a->mounted_at, err.msg);
    } else if (geteuid() != 0) {
        out_message("%s: was unmounted and mounted again: an ordinary user's mount cannot turn writable in place", a->mounted_at);
    }
}

/* It is final from now on, if it is the primary: else FENCED. */
static int commit(const char *store, struct role_answer *a, struct err *err)
{
    return session_once(store, SESSION_WRITE, LOCATION_AS_IS, role_request("commit"), role_emit, a, err);
}

/* ${how} NULL: it takes none. */
static int role_options(int argc, char **argv, struct promotion *how, int *code)
{
    enum { MOVED = OPT_FIRST, COPIED, UNFENCED, AT, COMMIT };
    static const struct option longs[] = { { "moved", no_argument, NULL, MOVED }, { "copied", no_argument, NULL, COPIED }, { "unfenced", no_argument, NULL, UNFENCED },
                                           { "at", required_argument, NULL, AT }, { "commit", no_argument, NULL, COMMIT } };
    int o;

    while ((o = cli_option(argc, argv, "", longs, how ? 5 : 0, code)) != -1) {
        if (o == -2)
            return ERR_USAGE;
        if (o == UNFENCED)
            how->unfenced = true;
        else if (o == AT)
            how->at = optarg;
        else if (o == COMMIT)
            how->final = true;
        else
            how->location = o == MOVED ? LOCATION_MOVED : LOCATION_COPIED_STANDBY;
    }
    return 0;
}

static void say_promoted(const char *store, const struct role_answer *a, const char *at, const char *at_time)
{
    char size[32], when[40];

    if (a->mounted_at[0])
        out_text("%s: is the primary now, with all of its history, %s at %s\n", out_name(store), a->fits ? "writable" : "mounted read-only", a->mounted_at);
    else
        out_text("%s: is the primary now, with all of its history\n", out_name(store));
    if (a->restored.known)
        out_text("Its tree is the one of %s (%s): %llu files, %llu directories, %s; %llu unchanged, %llu removed; what came after is in history\n", out_time(at_time, when), at,
                 (unsigned long long)a->restored.files, (unsigned long long)a->restored.dirs, out_size(a->restored.bytes, size), (unsigned long long)a->restored.unchanged,
                 (unsigned long long)a->restored.removed);
    else if (*at)
        out_text("Its tree is the one of %s (%s); what came after is in history\n", out_time(at_time, when), at);
    if (a->restored.left)
        out_text("%llu not removed, since no history is kept of it\n", (unsigned long long)a->restored.left);
    if (!a->mounted_at[0])
        out_text("Next: spare mount %s DIR\n", store);
}

int cmd_promote(int argc, char **argv)
{
    struct role_answer *a = calloc(1, sizeof *a);
    struct place p;
    struct err err = { 0 };
    struct promotion how = { .location = LOCATION_AS_IS };
    char moment[AT_MAX] = "", when[AT_MAX] = "";
    bool was = false;
    int code = 0, r = ERR_FENCED;

    if (!a)
        return out_error(&err, ERR_NOMEM);
    if (role_options(argc, argv, &how, &code) || session_place("promote", argc, argv, &p, &code)) {
        free(a);
        return code;
    }
    if (how.final && !how.at)
        was = (r = commit(p.store, a, &err)) == 0;
    if (r == ERR_FENCED || r == ERR_MOVED) {
        memset(&err, 0, sizeof err);
        r = how.at ? find_moment(p.store, how.location, how.at, moment, when, &err) : 0;
        how.at = how.at ? moment : NULL;
        if (r == 0)
            r = promote(p.store, &how, a, &err);
        out_progress_end();
        if (r == 0 && !a->fits)
            make_writable(p.store, a);
        if (r == 0 && role_table_fills(a->epochs_left))
            out_message(ROLE_TABLE_FILLS, p.store, (unsigned long long)a->epochs_left);
        if (r == 0 && a->restored.blocked)
            out_warn("%llu not restored, since what has the place now keeps no history and could not be brought back", (unsigned long long)a->restored.blocked);
        if (r == 0 && how.final)
            r = commit(p.store, &(struct role_answer){ 0 }, &err);
    }
    if (r == 0 && was && !out_json)
        out_text("%s: is the primary, for good\n", out_name(p.store));
    else if (r)
        code = out_error(&err, r);
    else if (out_json)
        print_role(p.store, a, moment, when);
    else
        say_promoted(p.store, a, moment, when);
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
    if (role_options(argc, argv, NULL, &code) == 0 && session_place("demote", argc, argv, &p, &code) == 0) {
        code = session_ask(&p, role_request("demote"), role_emit, a);
        if (code == EXIT_OK && out_json)
            print_role(p.store, a, "", "");
        else if (code == EXIT_OK)
            out_text("%s: is a standby now; what shall be its primary ships to it: there, spare sync --follow STORE %s\n", p.store, p.store);
        if (code == EXIT_OK && !a->fits && a->why[0])
            out_message("%s; the mount refuses every change all the same", a->why);
        locate_release(&p);
    }
    free(a);
    return code;
}
