#include "fs/mount.h"

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#include "store/base/hash.h"
#include "store/base/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What follows the store in the source of the past's mount: findmnt, df and umount(8) by source shall find one mount of a store. */
#define PAST_SOURCE "/.snapshots"

/* ---- mountinfo ---- */

/* The kernel writes blanks and the like as \ooo. */
static void unescape(char *s)
{
    char *to = s;

    for (; *s; s++) {
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' && s[3] <= '7') {
            *to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
            s += 3;
        } else {
            *to++ = *s;
        }
    }
    *to = '\0';
}

/* "36 35 0:32 / /mnt rw,nosuid - fuse.spare SOURCE rw,..." False: not one of ours. */
static bool parse_line(char *line, struct fs_mounted *m)
{
    char *save = NULL, *word[6], *type, *source, *rest = strstr(line, " - ");
    unsigned maj, min;
    size_t n;

    if (!rest)
        return false;
    *rest = '\0';
    rest += 3;
    for (int i = 0; i < 6; i++) {
        word[i] = strtok_r(i == 0 ? line : NULL, " ", &save);
        if (!word[i])
            return false;
    }
    type = strtok_r(rest, " ", &save);
    source = strtok_r(NULL, " ", &save);
    if (!type || !source || sscanf(word[2], "%u:%u", &maj, &min) != 2)
        return false;
    m->past = strcmp(type, "fuse." FS_SUBTYPE_PAST) == 0;
    if (!m->past && strcmp(type, "fuse." FS_SUBTYPE) != 0)
        return false;
    m->dev = makedev(maj, min);
    m->read_only = strncmp(word[5], "ro", 2) == 0 && (word[5][2] == ',' || word[5][2] == '\0');
    unescape(word[4]);
    unescape(source);
    snprintf(m->dir, sizeof m->dir, "%s", word[4]);
    if (m->past && (n = strlen(source)) > strlen(PAST_SOURCE) && strcmp(source + n - strlen(PAST_SOURCE), PAST_SOURCE) == 0)
        source[n - strlen(PAST_SOURCE)] = '\0';
    snprintf(m->source, sizeof m->source, "%s", source);
    return true;
}

int fs_mounted_each(int (*fn)(void *arg, const struct fs_mounted *m), void *arg)
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    struct fs_mounted *m = malloc(sizeof *m);
    char *line = NULL;
    size_t cap = 0;
    int rc = 0;

    while (f && m && rc == 0 && getline(&line, &cap, f) > 0) {
        line[strcspn(line, "\n")] = '\0';
        if (parse_line(line, m))
            rc = fn(arg, m);
    }
    free(line);
    free(m);
    if (f)
        fclose(f);
    return rc;
}

struct at { const char *dir; struct fs_mounted *out; bool found; };

static int is_at(void *arg, const struct fs_mounted *m)
{
    struct at *a = arg;

    if (strcmp(m->dir, a->dir) == 0) {
        *a->out = *m;        /* the last one is on top */
        a->found = true;
    }
    return 0;
}

/* The path as the kernel would name it, without asking what is mounted there. */
static bool absolute(const char *path, char *out, size_t cap)
{
    char copy[PATH_MAX], parent[PATH_MAX], *slash, *real;
    const char *base;
    size_t n;

    if (snprintf(copy, sizeof copy, "%s", path) >= (int)sizeof copy)
        return false;
    for (n = strlen(copy); n > 1 && copy[n - 1] == '/'; n--)
        copy[n - 1] = '\0';
    slash = strrchr(copy, '/');
    base = slash ? slash + 1 : copy;
    if (base[0] == '\0' || strcmp(base, ".") == 0 || strcmp(base, "..") == 0) {
        real = realpath(copy, NULL);
        n = real ? (size_t)snprintf(out, cap, "%s", real) : cap;
        free(real);
        return n < cap;
    }
    if (!slash)
        snprintf(parent, sizeof parent, ".");
    else
        snprintf(parent, sizeof parent, "%.*s", slash == copy ? 1 : (int)(slash - copy), copy);
    real = realpath(parent, NULL);
    n = real ? (size_t)snprintf(out, cap, "%s/%s", strcmp(real, "/") ? real : "", base) : cap;
    free(real);
    return n < cap;
}

int fs_mounted_at(const char *path, struct fs_mounted *out)
{
    char dir[PATH_MAX], *real;
    struct at a = { dir, out, false };

    if (!absolute(path, dir, sizeof dir))
        return ERR_NOENT;
    (void)fs_mounted_each(is_at, &a);
    if (a.found)
        return 0;
    real = realpath(path, NULL);     /* the last part may be a symlink */
    if (real) {
        a.dir = real;
        (void)fs_mounted_each(is_at, &a);
    }
    free(real);
    return a.found ? 0 : ERR_NOENT;
}

struct by_source { const char *source; struct fs_mounted *out; };

static int is_source(void *arg, const struct fs_mounted *m)
{
    struct by_source *b = arg;

    if (m->past || strcmp(m->source, b->source) != 0)
        return 0;
    if (b->out)
        *b->out = *m;
    return 1;
}

int fs_mounted_store(const char *store, struct fs_mounted *out)
{
    struct by_source b = { store, out };

    return fs_mounted_each(is_source, &b) == 1 ? 0 : ERR_NOENT;
}

/* ---- checks ---- */

static bool inside(const char *path, const char *dir)
{
    size_t n = strlen(dir);

    return strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/' || strcmp(dir, "/") == 0);
}

static int check_empty(const char *dir, struct err *err)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    int code = 0;

    if (!d)
        return err_from_errno(err, errno, "mount point %s", dir);
    while (code == 0 && (e = readdir(d)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            code = err_set(err, ERR_NOTEMPTY, "mount point %s is not empty (it has \"%s\"); what is in it would be "
                           "hidden: choose another directory, or use spare import", dir, e->d_name);
    closedir(d);
    return code;
}

static int check_places(const struct fs_options *o, struct err *err)
{
    char *dir = realpath(o->dir, NULL), *store = realpath(o->store, NULL);
    int code = 0;

    if (!dir)
        code = err_from_errno(err, errno, "mount point %s", o->dir);
    else if (!store)
        code = err_set(err, ERR_NOSTORE, "%s: no such store: %s", o->store, strerror(errno));
    else if (strcmp(store, dir) == 0 || inside(store, dir))
        code = err_set(err, ERR_USAGE, "the store %s may not lie inside its own mount point %s", store, dir);
    else if (inside(dir, store))
        code = err_set(err, ERR_USAGE, "the mount point %s may not lie inside the store %s", dir, store);
    free(dir);
    free(store);
    return code;
}

int mount_check(const struct fs_options *o, struct err *err)
{
    struct fs_mounted *m = malloc(sizeof *m);
    struct statvfs v;
    struct stat st;
    int code = m ? 0 : err_set(err, ERR_NOMEM, "mount %s: out of memory", o->dir);

    if (code == 0 && fs_mounted_at(o->dir, m) == 0) {
        /* stat(2) may be answered from the kernel's cache for ever; statfs is always asked. */
        if (statvfs(o->dir, &v) < 0 && (errno == ENOTCONN || errno == ECONNABORTED))
            code = mount_take_down(m->dir, true, err);    /* its daemon is gone */
        else
            code = err_set(err, ERR_BUSY, "%s is the mount point of %s already", m->dir, m->source);
    }
    free(m);
    if (code < 0)
        return code;
    if (stat(o->dir, &st) < 0)
        return errno == ENOENT ? err_set(err, ERR_NOENT, "mount point %s: expected an empty directory, found nothing; make it first: mkdir -p %s", o->dir, o->dir)
                               : err_from_errno(err, errno, "mount point %s", o->dir);
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ERR_NOTDIR, "mount point %s is not a directory", o->dir);
    code = check_places(o, err);
    if (code == 0 && !o->nonempty)
        code = check_empty(o->dir, err);
    return code;
}

/* ---- mounting ---- */

/* A comma or backslash in a value would end the option. */
static void append_escaped(char *to, size_t cap, const char *from)
{
    size_t n = strlen(to);

    for (; *from && n + 3 < cap; from++) {
        if (*from == ',' || *from == '\\')
            to[n++] = '\\';
        to[n++] = *from;
    }
    to[n] = '\0';
}

/* Who owns the store could write any file into it: such a one is not to be setuid root. Nor what another host's root writes into a standby. */
static bool trusted(const struct fs_options *o, bool primary)
{
    struct stat st;

    return geteuid() == 0 && stat(o->store, &st) == 0 && st.st_uid == 0 && primary;
}

static void mount_text(const struct fs_options *o, bool past, char *buf, size_t cap)
{
    char *real = realpath(o->store, NULL);
    bool root = trusted(o, !o->standby);

    buf[0] = '\0';
    snprintf(buf, cap, "subtype=%s,default_permissions%s%s%s%s%s,fsname=", past ? FS_SUBTYPE_PAST : FS_SUBTYPE,
             o->allow_other ? ",allow_other" : "", o->read_only || o->standby || past ? ",ro" : "",
             root && !past && !o->nosuid ? ",suid" : "", root && !past && !o->nodev ? ",dev" : "", o->noexec ? ",noexec" : "");
    append_escaped(buf, cap, o->fsname[0] ? o->fsname : real ? real : o->store);
    if (past)
        append_escaped(buf, cap, PAST_SOURCE);
    free(real);
}

/* Makes the directory below the mount point writable for its owner, whom fusermount3 asks for that; returns its descriptor. */
static int open_below(const char *dir, mode_t *mode)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return fd;
    *mode = st.st_mode & 07777;
    if (geteuid() != 0 && st.st_uid == geteuid() && !(st.st_mode & 0200))
        (void)fchmod(fd, *mode | 0200);
    return fd;
}

int mount_open(const struct fs_options *o, const char *dir, bool past, struct fuse_session **se, struct err *err)
{
    static const struct fuse_lowlevel_ops none;
    char text[2 * PATH_MAX + 256];
    char *argv[] = { (char[]){ "spare" }, (char[]){ "-o" }, text, NULL };
    struct fuse_args args = { .argc = 3, .argv = argv };
    mode_t mode = 0;
    int below = past ? -1 : open_below(dir, &mode), code = 0;

    mount_text(o, past, text, sizeof text);
    *se = fuse_session_new(&args, &none, sizeof none, NULL);
    if (!*se) {
        code = err_set(err, ERR_USAGE, "mount options \"%s\" were refused", text);
    } else if (fuse_session_mount(*se, dir) != 0) {
        fuse_session_destroy(*se);
        *se = NULL;
        code = err_set(err, ERR_PERM, "mounting at %s failed (see the message above); /dev/fuse must exist%s", dir,
                       geteuid() ? ", fusermount3 be installed, and the mount point be yours" : "");
    }
    if (below >= 0) {
        /* What is below is not for writing, now and when nothing is mounted. */
        (void)fchmod(below, code == 0 ? mode & ~(mode_t)0222 : mode);
        close(below);
    }
    return code < 0 ? code : fuse_session_fd(*se);
}

/* ---- where the past is mounted ---- */

enum { PAST_ID_MAX = 17 };

/* By what a mount point's past is known. */
static void past_id(const char *dir, char id[PAST_ID_MAX])
{
    snprintf(id, PAST_ID_MAX, "%016llx", (unsigned long long)hash64(dir, strlen(dir)));
}

/* Root may show the past to others; a user's is his own. */
static mode_t past_mode(void) { return geteuid() == 0 ? 0755 : 0700; }

/* Appends ${name} to ${path} and makes that directory, which nobody else may write to. */
static int make_below(char *path, size_t cap, const char *name, struct err *err)
{
    size_t n = strlen(path);
    struct stat st;

    if (snprintf(path + n, cap - n, "/%s", name) >= (int)(cap - n))
        return err_set(err, ERR_NAMETOOLONG, "%s: path too long", path);
    if (mkdir(path, past_mode()) < 0 && errno != EEXIST)
        return err_from_errno(err, errno, "%s", path);
    if (lstat(path, &st) < 0)
        return err_from_errno(err, errno, "%s", path);
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())
        return err_set(err, ERR_PERM, "%s: expected a directory of user %u", path, (unsigned)geteuid());
    return 0;
}

/* A directory of this user's own that programs may leave things in while they run. */
static int runtime_dir(const struct fs_options *o, char *buf, size_t cap, struct err *err)
{
    const char *run = getenv("XDG_RUNTIME_DIR"), *home = getenv("HOME");
    struct stat st;
    int rc;

    if (geteuid() == 0) {
        snprintf(buf, cap, "/run");
        return inside(buf, o->dir) ? err_set(err, ERR_NOENT, "%s holds /run: nowhere to mount the past", o->dir) : 0;
    }
    if (run && run[0] == '/' && snprintf(buf, cap, "%s", run) < (int)cap && !inside(buf, o->dir))
        return 0;
    snprintf(buf, cap, "/run/user/%u", (unsigned)geteuid());
    if (stat(buf, &st) == 0 && st.st_uid == geteuid())
        return 0;
    if (!home || home[0] != '/' || snprintf(buf, cap, "%s", home) >= (int)cap || inside(buf, o->dir))
        return err_set(err, ERR_NOENT, "XDG_RUNTIME_DIR is not set: nowhere to mount the past");
    rc = make_below(buf, cap, ".local", err);
    return rc < 0 ? rc : make_below(buf, cap, "state", err);
}

int mount_past_dir(const struct fs_options *o, char *buf, size_t cap, struct err *err)
{
    char id[PAST_ID_MAX];
    int n, rc;

    past_id(o->dir, id);
    rc = runtime_dir(o, buf, cap, err);
    if (rc == 0)
        rc = make_below(buf, cap, "spare", err);
    if (rc < 0)
        return rc;
    /* Not looked at: the past may be mounted there, and it may be this very process that has to answer. What is in "spare" is ours. */
    n = (int)strlen(buf);
    if (snprintf(buf + n, cap - (size_t)n, "/%s", id) >= (int)cap - n)
        return err_set(err, ERR_NAMETOOLONG, "%s: path too long", buf);
    return mkdir(buf, past_mode()) == 0 || errno == EEXIST ? 0 : err_from_errno(err, errno, "%s", buf);
}

void mount_past_done(const struct fs_options *o)
{
    char dir[PATH_MAX];

    if (mount_past_dir(o, dir, sizeof dir, NULL) == 0)
        (void)rmdir(dir);
}

/* ---- remounting ---- */

#ifndef ST_NOSYMFOLLOW
#define ST_NOSYMFOLLOW 0x2000
#endif

int fs_remount(const struct fs_options *o, struct err *err)
{
    const char *dir = o->dir;
    struct fs_mounted *m = malloc(sizeof *m);
    struct statvfs v;
    unsigned long keep;
    int rc = m ? fs_mounted_at(dir, m) : ERR_NOMEM;

    free(m);
    if (rc < 0)
        return err_set(err, rc, "%s: no spare is mounted there", dir);
    if (statvfs(dir, &v) < 0)
        return err_from_errno(err, errno, "%s", dir);
    keep = (v.f_flag & ST_NOSUID ? MS_NOSUID : 0ul) | (v.f_flag & ST_NODEV ? MS_NODEV : 0ul) | (v.f_flag & ST_NOEXEC ? MS_NOEXEC : 0ul) |
           (v.f_flag & ST_RELATIME ? MS_RELATIME : 0ul) | (v.f_flag & ST_NOATIME ? MS_NOATIME : 0ul) |
           (v.f_flag & ST_NOSYMFOLLOW ? MS_NOSYMFOLLOW : 0ul) | (o->nosuid ? MS_NOSUID : 0ul) | (o->nodev ? MS_NODEV : 0ul) |
           (o->noexec ? MS_NOEXEC : 0ul) | ((o->mode_said ? o->read_only : (v.f_flag & ST_RDONLY) != 0) ? MS_RDONLY : 0ul);
    if (mount(NULL, dir, NULL, MS_REMOUNT | keep, NULL) < 0)
        return errno == EBUSY ? err_set(err, ERR_BUSY, "%s: a file is open for writing there; close it first", dir) :
                                err_from_errno(err, errno, "remount %s", dir);
    return 0;
}

int mount_turn(const struct fs_options *o, const struct fs_mounted *m, bool writable, struct err *err)
{
    bool open = trusted(o, writable);
    struct statvfs v;
    struct stat st;
    unsigned long keep;

    if (geteuid() != 0)
        return err_set(err, ERR_PERM, "%s: an ordinary user's mount cannot be remounted; unmount it, and mount it again", o->dir);
    if (stat(o->dir, &st) < 0 || statvfs(o->dir, &v) < 0)
        return err_from_errno(err, errno, "%s", o->dir);
    if (st.st_dev != m->dev)
        return err_set(err, ERR_BUSY, "%s: something else is mounted over it", o->dir);
    keep = (v.f_flag & ST_NOEXEC ? MS_NOEXEC : 0ul) | (v.f_flag & ST_RELATIME ? MS_RELATIME : 0ul) | (v.f_flag & ST_NOATIME ? MS_NOATIME : 0ul) |
           (v.f_flag & ST_NOSYMFOLLOW ? MS_NOSYMFOLLOW : 0ul) | (!open || o->nosuid ? MS_NOSUID : 0ul) | (!open || o->nodev ? MS_NODEV : 0ul);
    if (mount(NULL, o->dir, NULL, MS_REMOUNT | keep | (writable ? 0ul : MS_RDONLY), NULL) == 0)
        return 0;
    if (errno != EBUSY)
        return err_from_errno(err, errno, "remount %s", o->dir);
    (void)mount(NULL, o->dir, NULL, MS_REMOUNT | keep, NULL);        /* nosuid and nodev at least */
    return err_set(err, ERR_BUSY, "%s: a file is open for writing there", o->dir);
}

/* ---- taking down ---- */

static int run_fusermount(const char *dir, bool lazy, struct err *err)
{
    int status = -1;
    pid_t pid = fork();

    if (pid < 0)
        return err_from_errno(err, errno, "fork");
    if (pid == 0) {
        execlp("fusermount3", "fusermount3", "-u", "-q", lazy ? "-z" : "--", lazy ? "--" : dir, lazy ? dir : (char *)NULL,
               (char *)NULL);
        _exit(127);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return err_set(err, ERR_PERM, "cannot unmount %s: fusermount3 is not installed", dir);
    return err_set(err, ERR_BUSY, "%s is in use (or not yours to unmount)", dir);
}

int mount_take_down(const char *dir, bool lazy, struct err *err)
{
    if (geteuid() != 0)
        return run_fusermount(dir, lazy, err);
    if (umount2(dir, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
        return 0;
    if (errno == EBUSY)
        return err_set(err, ERR_BUSY, "%s is in use", dir);
    return err_from_errno(err, errno, "unmount %s", dir);
}

/* ---- fs_umount ---- */

struct its_past { const char *dir; char past[PATH_MAX]; };

static int past_of(void *arg, const struct fs_mounted *m)
{
    struct its_past *b = arg;
    const char *slash = strrchr(m->dir, '/');
    char id[PAST_ID_MAX];

    past_id(b->dir, id);
    if (m->past && slash && strcmp(slash + 1, id) == 0)
        snprintf(b->past, sizeof b->past, "%s", m->dir);
    return 0;
}

/* As root may know: whether unmounting would say busy. The access before takes the mark away that a second look would act on. */
static bool in_use(const char *dir)
{
    int fd = open(dir, O_PATH | O_CLOEXEC);

    if (fd >= 0)
        close(fd);
    return geteuid() == 0 && umount2(dir, MNT_EXPIRE) < 0 && errno == EBUSY;
}

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* The daemon holds the lock until the store is closed. A source that is no store was named by the user: nothing to wait for. */
static int await_closed(const char *store, uint32_t wait_ms, struct err *err)
{
    char path[PATH_MAX];
    uint64_t end = now_ms() + wait_ms;
    int fd;

    if (snprintf(path, sizeof path, "%s/lock", store) >= (int)sizeof path)
        return 0;
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return 0;
    for (;;) {
        struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

        if (fcntl(fd, F_OFD_GETLK, &fl) < 0 || fl.l_type == F_UNLCK)
            break;
        if (now_ms() >= end) {
            close(fd);
            return err_set(err, ERR_BUSY, "%s: unmounted, but the store is still in use: it is being closed, or another mount name space still has the mount", store);
        }
        (void)poll(NULL, 0, 5);
    }
    close(fd);
    return 0;
}

int fs_umount(const char *dir, bool lazy, uint32_t wait_ms, struct err *err)
{
    struct fs_mounted *m = malloc(sizeof *m);
    struct its_past *b = calloc(1, sizeof *b);
    int code = 0;

    if (!m || !b)
        code = err_set(err, ERR_NOMEM, "unmount %s: out of memory", dir);
    else if (fs_mounted_at(dir, m) < 0 || m->past)
        code = err_set(err, ERR_NOENT, "%s: no spare is mounted there", dir);
    if (code < 0)
        goto out;
    b->dir = m->dir;
    (void)fs_mounted_each(past_of, b);
    /* The live mount first: where that is busy both stay. Its daemon would take the past down; nobody is to wait for that. */
    if (b->past[0] && !lazy && in_use(b->past))
        code = err_set(err, ERR_BUSY, "%s, the past of %s, is in use", b->past, m->dir);
    if (code == 0)
        code = mount_take_down(m->dir, lazy, err);
    if (code == 0 && b->past[0])
        (void)mount_take_down(b->past, true, NULL);
    if (code == 0 && !lazy)
        code = await_closed(m->source, wait_ms, err);
out:
    free(m);
    free(b);
    return code;
}
