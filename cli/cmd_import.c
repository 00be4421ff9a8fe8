/*
 * import: an existing directory becomes the live tree of a store. At any crash the directory is whole, under its own
 * name or as DIR.before-import, and the same command goes on:
 *
 *   1  the store is made; its setting "import" names the directory and the time          DIR
 *   2  DIR is copied, then compared byte by byte; what changed meanwhile is copied again  DIR
 *   3  DIR is renamed to DIR.before-import: nobody opens a file under its old name now    DIR.before-import
 *   4  what changed since 1 (by ctime) is copied and compared again                       DIR.before-import
 *   5  everything synced, snapshot "import" made, an empty DIR made, the setting removed  DIR.before-import, DIR to mount at
 *
 * Nothing of DIR.before-import is ever deleted. Who holds a file open for writing would go on writing to the old tree:
 * before 3 that refuses the import, after 4 it is a warning.
 */
#include "cli/busy.h"
#include "cli/cli.h"
#include "cli/import_tree.h"
#include "cli/init.h"
#include "cli/session.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PASSES_MAX = 3 };
#define SETTING "import"
#define SNAPSHOT "import"

struct job {
    char *dir, *before, *store;
    struct io *io;
    struct store *s;
    bool renamed;               /* the original is at `before` */
    int64_t began_ns;           /* ctimes from here on may be news */
    struct import_options opt;
    struct import_stats copied, compared;
};

static bool exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

static int sync_parent(const char *path, struct err *err)
{
    char *copy = strdup(path), *slash = copy ? strrchr(copy, '/') : NULL;
    int fd, r = 0;

    if (!slash) {
        free(copy);
        return err_set(err, ERR_NOMEM, "%s: no memory", path);
    }
    slash[slash == copy ? 1 : 0] = '\0';
    fd = open(copy, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd))
        r = err_from_errno(err, errno, "%s: syncing the directory", copy);
    if (fd >= 0)
        close(fd);
    free(copy);
    return r;
}

/* ~/.local/share/spare/NAME, its parents made. */
static char *default_store(const char *dir, struct err *err)
{
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME"), *base = strrchr(dir, '/') + 1;
    char *path = NULL;

    if (!(data && *data) && !(home && *home)) {
        err_set(err, ERR_USAGE, "import: expected HOME to be set, or a STORE to be named");
        return NULL;
    }
    if (asprintf(&path, "%s%s/spare/%s", data && *data ? data : home, data && *data ? "" : "/.local/share", base) < 0)
        return NULL;
    for (char *p = path + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        if (mkdir(path, 0700) && errno != EEXIST) {
            err_from_errno(err, errno, "%s: making it", path);
            free(path);
            return NULL;
        }
        *p = '/';
    }
    return path;
}

static int names_ok(struct job *j, struct err *err)
{
    size_t n = strlen(j->dir);
    struct stat st, up;
    char parent[4096];

    if (strcmp(j->dir, "/") == 0)
        return err_set(err, ERR_USAGE, "/: the root directory cannot be imported");
    if (strncmp(j->store, j->dir, n) == 0 && (j->store[n] == '/' || j->store[n] == '\0'))
        return err_set(err, ERR_USAGE, "%s: expected a store outside of the directory, found it inside of %s", j->store, j->dir);
    if (lstat(j->dir, &st))
        return 0;
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ERR_NOTDIR, "%s: expected a directory, found something else", j->dir);
    snprintf(parent, sizeof parent, "%.4090s/..", j->dir);
    if (stat(parent, &up) == 0 && up.st_dev != st.st_dev)
        return err_set(err, ERR_USAGE, "%s: expected a plain directory, found a mount point; it could not be renamed aside. Import "
                       "a directory inside of it", j->dir);
    return 0;
}

/* Open the store and see how far an earlier import came. */
static int resume(struct job *j, struct err *err)
{
    char buf[SUPER_CONFIG_MAX], *colon;
    struct store_info info;
    bool fresh = !locate_is_store(j->store);
    struct init_choice choice = { 0 };
    int r;

    if (fresh && !exists(j->dir))
        return err_set(err, ERR_NOENT, "%s: expected a directory, found none", j->dir);
    if (fresh && exists(j->before))
        return err_set(err, ERR_EXIST, "%s: expected nothing of that name, since %s is to get it; move it away", j->before, j->dir);
    if (fresh && (r = init_store(j->store, &choice, err)))
        return r;
    r = session_open_here(j->store, true, LOCATION_AS_IS, &j->s, &j->io, NULL, err);
    if (r)
        return r;
    if (store_config_get(j->s, SETTING, buf, sizeof buf) > 0 && (colon = strchr(buf, ':'))) {
        j->began_ns = strtoll(buf, NULL, 10);
        if (strcmp(colon + 1, j->dir) != 0)
            return err_set(err, ERR_EXIST, "%s: holds an unfinished import of %s; finish that, or take another store", j->store, colon + 1);
        j->renamed = exists(j->before);
        if (j->renamed && exists(j->dir) && rmdir(j->dir) && errno != ENOENT)
            return err_set(err, ERR_EXIST, "%s: expected nothing, since the directory was already renamed to %s, found: %s; move it away",
                           j->dir, j->before, strerror(errno));
        return 0;
    }
    store_info(j->s, &info);
    if (info.n_inodes > 1)
        return err_set(err, ERR_NOTEMPTY, "%s: expected a new store, found one with %llu objects; mount it and copy into it", j->store,
                       (unsigned long long)info.n_inodes - 1);
    if (!exists(j->dir))
        return err_set(err, ERR_NOENT, "%s: expected a directory, found none", j->dir);
    if (exists(j->before))
        return err_set(err, ERR_EXIST, "%s: expected nothing of that name, since %s is to get it; move it away", j->before, j->dir);
    /* Older by a second than anything that changes from now on: clocks of file systems are coarse. */
    j->began_ns = io_wall_ns(j->io) - 1000000000;
    snprintf(buf, sizeof buf, "%" PRId64 ":%.4000s", j->began_ns, j->dir);
    return store_config_set(j->s, SETTING, buf, err);
}

/* Copy and compare until equal. */
static int mirror(struct job *j, const char *from, struct err *err)
{
    int r;

    for (int pass = 0; pass < PASSES_MAX; pass++) {
        r = import_copy(j->s, from, &j->opt, &j->copied, err);
        if (r == 0)
            r = import_verify(j->s, from, &j->opt, &j->compared, err);
        if (r || j->compared.differ == 0)
            return r;
        /* What changed was changed by somebody: look at the content of everything the next time. */
        j->opt.changed_since_ns = INT64_MIN;
    }
    return err_set(err, ERR_BUSY, "%s: expected it to hold still, found %llu differences after %d passes; stop what writes to it, then "
                   "run the same command again", from, (unsigned long long)j->compared.differ, PASSES_MAX);
}

static int set_aside(struct job *j, struct err *err)
{
    char who[2048];

    if (busy_list(j->dir, true, who, sizeof who))
        return err_set(err, ERR_BUSY, "%s: expected nobody to write to it, found %s; end these, then run the same command again", j->dir, who);
    if (renameat2(AT_FDCWD, j->dir, AT_FDCWD, j->before, RENAME_NOREPLACE))
        return err_from_errno(err, errno, "%s: renaming it to %s", j->dir, j->before);
    j->renamed = true;
    return sync_parent(j->dir, err);
}

static int finish(struct job *j, struct err *err)
{
    struct caller who = session_caller();
    struct stat st;
    uint64_t at;
    int r = store_sync(j->s, err);

    if (r == 0) {
        r = store_snapshot(j->s, &who, RSN_CREATE, SNAPSHOT, AT_LIVE, "", "", 0, &at, err);
        if (r == ERR_EXIST)     /* an earlier run came this far */
            r = 0;
    }
    if (r == 0 && stat(j->before, &st))
        r = err_from_errno(err, errno, "%s", j->before);
    if (r == 0 && mkdir(j->dir, 0755) && errno != EEXIST)
        r = err_from_errno(err, errno, "%s: making the mount point", j->dir);
    if (r == 0 && chown(j->dir, st.st_uid, st.st_gid) && geteuid() == 0)
        r = err_from_errno(err, errno, "%s: its owner", j->dir);
    if (r == 0)
        r = sync_parent(j->dir, err);
    if (r == 0)
        r = store_config_set(j->s, SETTING, NULL, err);
    return r;
}

static int import(struct job *j, struct err *err)
{
    uint64_t objects;
    int r = names_ok(j, err);

    if (r == 0)
        r = resume(j, err);
    if (r == 0)
        r = import_measure(j->renamed ? j->before : j->dir, &j->opt.total_bytes, &objects, err);
    if (r == 0 && !j->renamed) {
        j->opt.changed_since_ns = INT64_MIN;
        r = mirror(j, j->dir, err);
        if (r == 0)
            r = store_sync(j->s, err);
        if (r == 0)
            r = set_aside(j, err);
    }
    if (r == 0) {
        /* Files untouched since the beginning were compared before the rename, in this run or an earlier one. */
        j->opt.changed_since_ns = j->began_ns;
        r = mirror(j, j->before, err);
    }
    if (r == 0)
        r = finish(j, err);
    return r;
}

static void report(const struct job *j)
{
    char size[32], who[2048];

    if (busy_list(j->before, true, who, sizeof who))
        out_warn("%s: still written to by %s; what they write from now on is not in the store", j->before, who);
    if (out_json) {
        json_t *o = json_object();

        session_put_bytes(o, "store", j->store);
        session_put_bytes(o, "directory", j->dir);
        session_put_bytes(o, "original", j->before);
        json_object_set_new(o, "objects", json_integer((json_int_t)j->compared.objects));
        json_object_set_new(o, "bytes", json_integer((json_int_t)j->compared.bytes));
        out_object(o);
        json_decref(o);
        return;
    }
    out_text("%s: %llu objects, %s, in the store and compared\n", out_name(j->dir), (unsigned long long)j->compared.objects,
             out_size(j->compared.bytes, size));
    out_text("Next:  spare mount %s", out_name(j->store));
    out_text(" %s\n", out_name(j->dir));
    out_text("The original is %s; delete it once you trust the mount.\n", out_name(j->before));
}

int cmd_import(int argc, char **argv)
{
    struct job j = { .opt = { .changed_since_ns = INT64_MIN } };
    struct err err = { 0 }, close_err = { 0 };
    int code = 0, o, r = 0, c = 0;

    while ((o = cli_option(argc, argv, "", NULL, 0, &code)) != -1)
        if (o == -2)
            return code;
    if (argc - optind < 1 || argc - optind > 2 || (argc - optind == 2 && cli_store))
        return cli_usage("import", "expected a directory, and perhaps a store, found %d arguments", argc - optind);
    j.dir = locate_absolute(argv[optind], &err);
    if (!j.dir || asprintf(&j.before, "%s.before-import", j.dir) < 0) {
        r = err_set(&err, ERR_NOMEM, "import: no memory");
        goto out;
    }
    if (optind + 1 < argc || cli_store)
        j.store = locate_absolute(optind + 1 < argc ? argv[optind + 1] : cli_store, &err);
    else
        j.store = default_store(j.dir, &err);
    r = j.store ? import(&j, &err) : err.code;
    if (j.s)
        c = store_close(j.s, &close_err);
    if (j.io)
        j.io->ops->free(j.io);
    if (r == 0 && c == 0)
        report(&j);
out:
    code = r ? out_error(&err, r) : c ? out_error(&close_err, c) : EXIT_OK;
    free(j.dir);
    free(j.before);
    free(j.store);
    return code;
}
