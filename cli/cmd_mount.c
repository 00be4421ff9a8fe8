/* mount, umount, upgrade. Mount also runs as mount.fuse.spare for mount(8). */
#include "cli/busy.h"
#include "cli/cli.h"
#include "cli/locate.h"
#include "cli/session.h"
#include "fs/mount.h"
#include "store/base/io.h"
#include "store/base/super.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CLOSE_WAIT_MS = 60000, FREE_POLL_MS = 200, BRIEF_LOOKS = 10, UPGRADE_WAIT_MS = 30000, UPGRADE_REFUSED_MS = 2000, UPGRADE_POLL_MS = 20 };

static int emit_takes(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    (void)bin, (void)len;
    if (strcmp(type, "item") == 0)
        *(bool *)arg = json_is_true(json_object_get(o, "takes_changes"));
    return 0;
}

/* mount -o remount,ro and back. What is open read-only below, or a standby, cannot become writable so. */
static int remount(const struct fs_options *fo, const char *store, struct err *err)
{
    struct session *ses = NULL;
    bool takes = false;
    int r = 0;

    if (fo->mode_said && !fo->read_only) {
        r = session_open_served(store, &ses, err);
        if (r == 0)
            r = session_call(ses, session_request("info"), emit_takes, &takes, err);
        r = session_end(ses, r, err);
        if (r == 0 && !takes)
            r = err_set(err, ERR_ROFS, "%s: the store is open read-only, or a standby; unmount it, and mount it without ro", fo->dir);
    }
    return r ? r : fs_remount(fo, err);
}

/* A mount that is read-only without having been asked to be says why; and one that is a store of its own from now on. */
static void say_role(const char *store, bool copied)
{
    struct super *sb = malloc(sizeof *sb);
    struct io *io = NULL;
    uint32_t role = sb && io_posix_new(store, &io, NULL) == 0 && super_read(io, sb, NULL, NULL) == 0 ? sb->role : ROLE_PRIMARY;

    if (role == ROLE_PRIMARY && copied)
        out_message("%s: is a store of its own from now on, with the history of the one it was copied from; it ships to nobody (`spare standby add`)", store);
    else if (role == ROLE_STANDBY)
        out_message("%s: is a standby: the mount is read-only, and follows what its primary ships; `spare promote` makes this one the primary", store);
    else if (role == ROLE_FENCED)
        out_message("%s: is fenced, another site became the primary: the mount is read-only; `spare demote` makes this one a standby of that, `spare promote` takes over again", store);
    if (io)
        io->ops->free(io);
    free(sb);
}

int cmd_mount(int argc, char **argv)
{
    enum { MOVED = OPT_FIRST, COPIED, RESUME };
    static const struct option longs[] = {
        { "foreground", no_argument, NULL, 'f' }, { "moved", no_argument, NULL, MOVED }, { "copied", no_argument, NULL, COPIED },
        { "resume", required_argument, NULL, RESUME },       /* fs/supervisor.c's own, not for people */
    };
    struct fs_options *fo = malloc(sizeof *fo);
    struct err err = { 0 };
    char *store = NULL, *dir = NULL;
    const char *resume = NULL;
    bool copied;
    int code = 0, o, r = 0;

    if (!fo)
        return out_error(&err, ERR_NOMEM);
    fs_options_init(fo);
    /* -n -s -v are what mount(8) passes on. */
    while (r == 0 && (o = cli_option(argc, argv, "fo:nsv", longs, 4, &code)) != -1) {
        switch (o) {
        case 'f': fo->foreground = true; break;
        case 'o': r = fs_options_parse(fo, optarg, &err); break;
        case MOVED: fo->location = LOCATION_MOVED; break;
        case COPIED: fo->location = LOCATION_COPIED; break;
        case RESUME: resume = optarg; break;
        case 'n': case 's': case 'v': break;
        default: goto out;
        }
    }
    if (r == 0 && argc - optind != 2) {
        code = cli_usage("mount", "expected a store and a directory, found %d arguments", argc - optind);
        goto out;
    }
    if (r == 0 && resume) {
        fo->store = argv[optind];
        fo->dir = argv[optind + 1];
        r = fs_resume(fo, resume, &err);
        if (r)
            code = out_error(&err, r);
        goto out;
    }
    if (r == 0 && !(store = locate_absolute(argv[optind], &err)))
        r = ERR_NOMEM;
    if (r == 0 && !locate_is_store(store) && (r = locate_was_store(store, &err)) == 0)
        r = err_set(&err, ERR_NOSTORE, "%s: expected a store, found none; `spare init %s` makes one", argv[optind], argv[optind]);
    if (r == 0 && !(dir = locate_absolute(argv[optind + 1], &err)))
        r = ERR_NOMEM;
    if (r == 0) {
        fo->store = store;
        fo->dir = dir;
        copied = fo->location == LOCATION_COPIED && !fo->read_only;
        if (fo->foreground && !fo->remount)
            say_role(store, copied);
        r = fo->remount ? remount(fo, store, &err) : fs_mount(fo, &err);
        if (r == 0 && !fo->foreground && !fo->remount)
            say_role(store, copied);
    }
    if (r) {
        code = out_error(&err, r);
    } else if (out_json && !fo->foreground) {
        json_t *j = json_object();

        session_put_bytes(j, "store", store);
        session_put_bytes(j, "mounted_at", dir);
        out_object(j);
        json_decref(j);
    }
out:
    free(store);
    free(dir);
    free(fo);
    return code;
}

/* ---- upgrade ---- */

struct daemon { uint64_t inode, workers; };

static int emit_daemon(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    struct daemon *d = arg;

    (void)bin, (void)len;
    if (strcmp(type, "item") == 0) {
        d->inode = item_u64(o, "program_inode");
        d->workers = item_u64(o, "workers_started");
    }
    return 0;
}

static int ask_daemon(const struct place *p, json_t *req, struct daemon *d, struct err *err)
{
    struct session *ses = NULL;
    int r = session_open_served(p->store, &ses, err);

    if (r) {
        json_decref(req);
        return r;
    }
    r = session_call(ses, req, emit_daemon, d, err);
    return session_end(ses, r, err);
}

/* This program shall not find out that it cannot read the store once the other one is gone. */
static int can_read(const char *store, struct err *err)
{
    struct super *sb = malloc(sizeof *sb);
    struct io *io = NULL;
    int r = sb ? io_posix_new(store, &io, err) : err_set(err, ERR_NOMEM, "no memory");

    if (r == 0)
        r = super_read(io, sb, NULL, err);
    if (io)
        io->ops->free(io);
    free(sb);
    return r;
}

/* Until the mount is served by this program. */
static int swap(const struct place *p, const char *program, struct err *err)
{
    struct daemon before = { 0 }, now = { 0 };
    struct err why = { 0 };
    struct stat own;
    unsigned limit = UPGRADE_WAIT_MS;
    json_t *req;
    int r = can_read(p->store, err);

    if (r == 0)
        r = ask_daemon(p, session_request("info"), &before, err);
    if (r)
        return r;
    if (stat(program, &own) < 0)
        return err_from_errno(err, errno, "%s", program);
    req = session_request("upgrade");
    session_put_bytes(req, "program", program);
    json_object_set_new(req, "layout", json_integer(fs_layout()));
    r = ask_daemon(p, req, &now, err);
    if (r)                               /* refused; or it was gone before its answer was here */
        limit = UPGRADE_REFUSED_MS;
    for (unsigned waited = 0; waited < limit; waited += UPGRADE_POLL_MS) {
        if (ask_daemon(p, session_request("info"), &now, &why) == 0 && now.workers > before.workers && now.inode == own.st_ino)
            return 0;
        if (out_interrupted)
            return err_set(err, ERR_INTR, "%s: interrupted", p->mount);
        (void)poll(NULL, 0, UPGRADE_POLL_MS);
    }
    return r ? r : err_set(err, ERR_IO, "%s: expected it to go on as %s within %d s, and it did not; its log says why", p->mount, program,
                           UPGRADE_WAIT_MS / 1000);
}

int cmd_upgrade(int argc, char **argv)
{
    struct place p = { 0 };
    struct err err = { 0 };
    char program[PATH_MAX];
    int code = 0, o, r;

    while ((o = cli_option(argc, argv, "", NULL, 0, &code)) != -1)
        if (o == -2)
            return code;
    if (argc - optind != 1)
        return cli_usage("upgrade", "expected one directory, found %d arguments", argc - optind);
    r = locate_store(argv[optind], &p, &err);
    if (r == 0 && !p.mount)
        r = err_set(&err, ERR_NOENT, "%s: expected a mounted directory, found a store; what is not mounted needs no upgrade", argv[optind]);
    if (r == 0 && !realpath("/proc/self/exe", program))
        r = err_from_errno(&err, errno, "/proc/self/exe");
    if (r == 0)
        r = swap(&p, program, &err);
    if (r) {
        code = out_error(&err, r);
    } else if (out_json) {
        json_t *j = json_object();

        session_put_bytes(j, "mounted_at", p.mount);
        session_put_bytes(j, "program", program);
        out_object(j);
        json_decref(j);
    } else {
        out_text("%s: ", out_name(p.mount));
        out_text("served by %s now\n", out_name(program));
    }
    locate_release(&p);
    return code;
}

/* ---- umount ---- */

static int umount_dir(const char *dir, bool lazy, bool when_free, struct err *err)
{
    struct fs_mounted m;
    char who[2048];
    bool told = false;
    int r;

    for (unsigned looks = 0;; looks++) {
        r = fs_umount(dir, lazy, CLOSE_WAIT_MS, err);
        if (r != ERR_BUSY || fs_mounted_at(dir, &m) < 0)     /* not there any more: it is the closing that takes long */
            return r;
        (void)busy_list(dir, false, who, sizeof who);
        if (!*who && looks < BRIEF_LOOKS) {      /* somebody passed by: df(1) asks every mount there is */
            (void)poll(NULL, 0, FREE_POLL_MS);
            continue;
        }
        if (!when_free)
            return *who ? err_set(err, r, "%s: in use by %s; end these, or --when-free waits", dir, who) : r;
        if (!told)
            out_message("%s: waiting for %s", dir, *who ? who : "what holds it");
        told = true;
        if (out_interrupted)
            return err_set(err, ERR_INTR, "%s: still mounted", dir);
        (void)poll(NULL, 0, FREE_POLL_MS);
    }
}

int cmd_umount(int argc, char **argv)
{
    enum { FREE = OPT_FIRST };
    static const struct option longs[] = { { "when-free", no_argument, NULL, FREE }, { "lazy", no_argument, NULL, 'l' } };
    bool when_free = false, lazy = false;
    struct err err = { 0 };
    struct fs_mounted *m = malloc(sizeof *m);
    char *dir = NULL;
    int code = 0, o, r;

    while ((o = cli_option(argc, argv, "l", longs, 2, &code)) != -1) {
        switch (o) {
        case FREE: when_free = true; break;
        case 'l': lazy = true; break;
        default: goto out;
        }
    }
    if (argc - optind != 1) {
        code = cli_usage("umount", "expected one directory, found %d arguments", argc - optind);
        goto out;
    }
    dir = locate_absolute(argv[optind], &err);
    if (!m || !dir) {
        code = out_error(&err, ERR_NOMEM);
        goto out;
    }
    /* The mount point a person means: DIR, or where the store DIR is mounted. */
    if (fs_mounted_at(dir, m) && locate_is_store(dir) && fs_mounted_store(dir, m) == 0) {
        free(dir);
        dir = strdup(m->dir);
        if (!dir) {
            code = out_error(&err, ERR_NOMEM);
            goto out;
        }
    }
    /* This process should not be what keeps it busy. */
    r = chdir("/") ? err_from_errno(&err, errno, "/") : umount_dir(dir, lazy, when_free, &err);
    if (r) {
        code = out_error(&err, r);
    } else if (out_json) {
        json_t *j = json_object();

        session_put_bytes(j, "unmounted", dir);
        out_object(j);
        json_decref(j);
    }
out:
    free(dir);
    free(m);
    return code;
}
