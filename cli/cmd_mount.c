/* mount, umount. Mount also runs as mount.fuse.spare for mount(8). */
#include "cli/busy.h"
#include "cli/cli.h"
#include "cli/locate.h"
#include "cli/session.h"
#include "fs/mount.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CLOSE_WAIT_MS = 60000, FREE_POLL_MS = 200 };

int cmd_mount(int argc, char **argv)
{
    enum { MOVED = OPT_FIRST, COPIED };
    static const struct option longs[] = {
        { "foreground", no_argument, NULL, 'f' }, { "moved", no_argument, NULL, MOVED }, { "copied", no_argument, NULL, COPIED },
    };
    struct fs_options *fo = malloc(sizeof *fo);
    struct err err = { 0 };
    char *store = NULL, *dir = NULL;
    int code = 0, o, r = 0;

    if (!fo)
        return out_error(&err, ERR_NOMEM);
    fs_options_init(fo);
    /* -n -s -v are what mount(8) passes on. */
    while (r == 0 && (o = cli_option(argc, argv, "fo:nsv", longs, 3, &code)) != -1) {
        switch (o) {
        case 'f': fo->foreground = true; break;
        case 'o': r = fs_options_parse(fo, optarg, &err); break;
        case MOVED: fo->location = LOCATION_MOVED; break;
        case COPIED: fo->location = LOCATION_COPIED; break;
        case 'n': case 's': case 'v': break;
        default: goto out;
        }
    }
    if (r == 0 && argc - optind != 2) {
        code = cli_usage("mount", "expected a store and a directory, found %d arguments", argc - optind);
        goto out;
    }
    if (r == 0 && !(store = locate_absolute(argv[optind], &err)))
        r = ERR_NOMEM;
    if (r == 0 && !locate_is_store(store))
        r = err_set(&err, ERR_NOSTORE, "%s: expected a store, found none; `spare init %s` makes one", argv[optind], argv[optind]);
    if (r == 0 && !(dir = locate_absolute(argv[optind + 1], &err)))
        r = ERR_NOMEM;
    if (r == 0) {
        fo->store = store;
        fo->dir = dir;
        r = fs_mount(fo, &err);
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

static int umount_dir(const char *dir, bool lazy, bool when_free, struct err *err)
{
    char who[2048];
    bool told = false;
    int r;

    for (;;) {
        r = fs_umount(dir, lazy, CLOSE_WAIT_MS, err);
        if (r != ERR_BUSY)
            return r;
        (void)busy_list(dir, false, who, sizeof who);
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
