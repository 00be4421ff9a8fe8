/* daemon.c: fs_mount: checks, detaching, and the message back to whoever asked; see mount.h. */
#include "fs/fs.h"
#include "fs/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the detached process tells its parent: code 0 = it serves. */
static void tell(int fd, const struct err *e)
{
    size_t done = 0;

    while (done < sizeof *e) {
        ssize_t n = write(fd, (const char *)e + done, sizeof *e - done);

        if (n < 0 && errno != EINTR)
            return;
        if (n > 0)
            done += (size_t)n;
    }
}

static bool hear(int fd, struct err *e)
{
    size_t done = 0;

    while (done < sizeof *e) {
        ssize_t n = read(fd, (char *)e + done, sizeof *e - done);

        if (n == 0 || (n < 0 && errno != EINTR))
            return false;
        if (n > 0)
            done += (size_t)n;
    }
    e->msg[ERR_MSG_MAX - 1] = '\0';
    return true;
}

struct parent { int fd; const struct fs_options *o; };

static void serving(void *arg)
{
    struct parent *p = arg;
    struct err ok = { 0 };

    fs_log_detach();
    tell(p->fd, &ok);
    close(p->fd);
    p->fd = -1;
}

static void detached(const struct fs_options *o, int fd)
{
    struct parent p = { fd, o };
    struct err err = { 0 };
    int rc;

    (void)setsid();
    (void)chdir("/");
    fs_log_open(o, true);
    rc = supervisor_run(o, serving, &p, &err);
    if (p.fd >= 0) {
        if (rc == 0)
            err_set(&err, ERR_INTR, "%s was unmounted before it was ready", o->dir);
        tell(p.fd, &err);
    }
    _exit(err_exit(rc));
}

static int detach(const struct fs_options *o, struct err *err)
{
    int pipe_fd[2], code = 0;
    struct err said = { 0 };
    pid_t pid;

    fflush(NULL);
    if (pipe2(pipe_fd, O_CLOEXEC) < 0)
        return err_from_errno(err, errno, "mount %s", o->dir);
    pid = fork();
    if (pid == 0) {
        close(pipe_fd[0]);
        detached(o, pipe_fd[1]);
    }
    close(pipe_fd[1]);
    if (pid < 0)
        code = err_from_errno(err, errno, "fork");
    else if (!hear(pipe_fd[0], &said))
        code = err_set(err, ERR_IO, "mount %s: the daemon ended without a word", o->dir);
    else if (said.code != 0)
        code = err_set(err, said.code, "%s", said.msg);
    close(pipe_fd[0]);
    if (pid > 0 && code != 0)
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    return code;
}

/* Before anything is mounted: only the kernel can refuse what who is not the primary may not do. Who may open the store finds out later. */
static int find_role(struct fs_options *o, struct err *err)
{
    struct super *sb = malloc(sizeof *sb);
    struct io *io = NULL;

    if (!sb)
        return err_set(err, ERR_NOMEM, "%s: out of memory", o->store);
    o->standby = io_posix_new(o->store, &io, NULL) == 0 && super_read(io, sb, NULL, NULL) == 0 && sb->role != ROLE_PRIMARY;
    if (io)
        io->ops->free(io);
    free(sb);
    return 0;
}

unsigned fs_layout(void) { return MEM_LAYOUT; }

int fs_resume(const struct fs_options *o, const char *handed, struct err *err)
{
    struct fs_options own = *o;
    int rc;

    fs_log_open(&own, !own.foreground);
    rc = find_role(&own, err);
    if (rc == 0 && !own.fsname[0])
        snprintf(own.fsname, sizeof own.fsname, "%s", own.store);
    return rc < 0 ? rc : supervisor_resume(&own, handed, err);
}

int fs_mount(const struct fs_options *o, struct err *err)
{
    struct fs_options abs = *o;
    char *store = NULL, *dir = NULL;
    int rc = mount_check(o, err);

    if (rc < 0)
        return rc;
    store = realpath(o->store, NULL);
    dir = realpath(o->dir, NULL);
    if (!store || !dir) {
        rc = err_from_errno(err, errno, "%s", store ? o->dir : o->store);
        goto out;
    }
    abs.store = store;
    abs.dir = dir;
    rc = find_role(&abs, err);
    if (rc < 0)
        goto out;
    if (abs.standby)
        abs.writeback = false;
    if (!abs.fsname[0])
        snprintf(abs.fsname, sizeof abs.fsname, "%s", store);
    if (o->foreground) {
        fs_log_open(&abs, false);
        rc = supervisor_run(&abs, NULL, NULL, err);
    } else {
        rc = detach(&abs, err);
    }
out:
    free(store);
    free(dir);
    return rc;
}
