/* powerfs_ctl: commands over a unix socket, one line each, one line back. */
#define FUSE_USE_VERSION 312
#include "tests/crash/powerfs.h"
#include "tests/crash/powerfs_client.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { WORDS_MAX = 8, LINE_MAX_BYTES = 1024 };

struct words {
    int n;
    char *w[WORDS_MAX];
};

static int parse_number(const char *s, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(s, &end, 0);
    if (errno != 0 || end == s || *end != '\0' || *s == '-')
        return -EINVAL;
    *out = v;
    return 0;
}

/* SEED MODE [torn=0|1] [dirs=auto|prefix|subset]; other words are left to the caller. */
static int parse_cut(const struct words *a, int at, struct pf_cut *cut, const char **kind)
{
    static const char *const modes[] = { "drop-all", "keep-all", "random", "prefix" };
    static const char *const dirs[] = { "dirs=auto", "dirs=prefix", "dirs=subset" };
    *cut = (struct pf_cut){ .torn = true };
    if (a->n < at + 2 || parse_number(a->w[at], &cut->seed) != 0)
        return -EINVAL;
    unsigned m = 0;
    while (m < 4 && strcmp(a->w[at + 1], modes[m]) != 0)
        m++;
    if (m == 4)
        return -EINVAL;
    cut->mode = (enum pf_mode)m;
    for (int i = at + 2; i < a->n; i++) {
        unsigned d = 0;
        while (d < 3 && strcmp(a->w[i], dirs[d]) != 0)
            d++;
        if (d < 3)
            cut->dirs = (enum pf_dirs)d;
        else if (strcmp(a->w[i], "torn=0") == 0 || strcmp(a->w[i], "torn=1") == 0)
            cut->torn = a->w[i][5] == '1';
        else if (kind != NULL && *kind == NULL)
            *kind = a->w[i];
        else
            return -EINVAL;
    }
    return 0;
}

static void say_cut(const struct pf_fs *fs, FILE *out)
{
    fprintf(out, "ok data=%zu lost=%zu torn=%zu dirs=%zu dirs_lost=%zu\n", fs->last.data_ops,
            fs->last.data_lost, fs->last.data_torn, fs->last.dir_ops, fs->last.dir_lost);
}

static int cmd_cut(struct pf_fs *fs, const struct words *a, FILE *out)
{
    struct pf_cut cut;
    int rc = parse_cut(a, 1, &cut, NULL);
    if (rc != 0)
        return rc;
    if (fs->dead)
        return -EALREADY;
    pf_fs_cut(fs, &cut);
    say_cut(fs, out);
    return 1;
}

static int cmd_revive(struct pf_fs *fs, const struct words *a, FILE *out)
{
    (void)a;
    (void)out;
    fs->dead = false;
    return 0;
}

/* arm N SEED MODE [options] [KIND] */
static int cmd_arm(struct pf_fs *fs, const struct words *a, FILE *out)
{
    struct pf_trigger t = { .left = 0 };
    const char *kind = NULL;
    struct pf_cut cut;
    (void)out;
    if (a->n < 2 || parse_number(a->w[1], &t.left) != 0 || parse_cut(a, 2, &cut, &kind) != 0)
        return -EINVAL;
    int rc = pf_trigger_parse(&t, kind != NULL ? kind : "any");
    if (rc != 0)
        return rc;
    fs->arm = t;
    fs->arm_cut = cut;
    return 0;
}

/* eio KIND N; 0 takes it back */
static int cmd_eio(struct pf_fs *fs, const struct words *a, FILE *out)
{
    struct pf_trigger t = { .left = 0 };
    (void)out;
    if (a->n != 3 || parse_number(a->w[2], &t.left) != 0 ||
        pf_trigger_parse(&t, a->w[1]) != 0)
        return -EINVAL;
    fs->eio = t;
    return 0;
}

static int cmd_full(struct pf_fs *fs, const struct words *a, FILE *out)
{
    uint64_t bytes;
    (void)out;
    if (a->n != 2 || parse_number(a->w[1], &bytes) != 0)
        return -EINVAL;
    fs->img->full_pages = (bytes + PF_PAGE - 1) / PF_PAGE;
    return 0;
}

static int cmd_count(struct pf_fs *fs, const struct words *a, FILE *out)
{
    fprintf(out, "ok");
    for (unsigned i = 0; i < PF_KIND_COUNT; i++)
        fprintf(out, " %s=%" PRIu64, pf_kind_name(i), fs->calls[i]);
    fprintf(out, "\n");
    if (a->n == 2 && strcmp(a->w[1], "reset") == 0)
        memset(fs->calls, 0, sizeof(fs->calls));
    return 1;
}

static int cmd_status(struct pf_fs *fs, const struct words *a, FILE *out)
{
    size_t inodes = 0, data = 0;
    (void)a;
    for (const struct pf_inode *in = fs->img->head; in != NULL; in = in->next) {
        inodes++;
        data += in->nops;
    }
    fprintf(out,
            "ok state=%s cuts=%" PRIu64 " armed=%" PRIu64 " inodes=%zu used=%" PRIu64
            " pending_data=%zu pending_dirs=%zu pid=%ld\n",
            fs->dead ? "dead" : fs->frozen ? "frozen" : "alive", fs->cuts, fs->arm.left, inodes,
            fs->img->used_pages * PF_PAGE, data, fs->img->ndops, (long)getpid());
    return 1;
}

static int cmd_last(struct pf_fs *fs, const struct words *a, FILE *out)
{
    (void)a;
    say_cut(fs, out);
    return 1;
}

static int cmd_freeze(struct pf_fs *fs, const struct words *a, FILE *out)
{
    (void)a;
    (void)out;
    fs->frozen = true;
    return 0;
}

static int cmd_thaw(struct pf_fs *fs, const struct words *a, FILE *out)
{
    (void)a;
    (void)out;
    fs->frozen = false;
    pthread_cond_broadcast(&fs->thawed);
    return 0;
}

static int cmd_sync(struct pf_fs *fs, const struct words *a, FILE *out)
{
    (void)a;
    (void)out;
    if (fs->dead)
        return -EIO;
    pf_image_sync(fs->img);
    return 0;
}

static int cmd_save(struct pf_fs *fs, const struct words *a, FILE *out)
{
    (void)out;
    if (a->n != 2)
        return -EINVAL;
    if (fs->dead)
        return -EIO;
    pf_fs_save(fs, a->w[1]);
    return 0;
}

static int cmd_load(struct pf_fs *fs, const struct words *a, FILE *out)
{
    (void)out;
    return a->n != 2 ? -EINVAL : pf_fs_load(fs, a->w[1]);
}

static int cmd_forget(struct pf_fs *fs, const struct words *a, FILE *out)
{
    (void)out;
    return a->n != 2 ? -EINVAL : pf_fs_forget(fs, a->w[1]);
}

/* A command returns 0 (say "ok"), 1 (has answered) or a negative errno. */
static const struct {
    const char *name;
    int (*run)(struct pf_fs *fs, const struct words *a, FILE *out);
} commands[] = {
    { "cut", cmd_cut },       { "revive", cmd_revive }, { "arm", cmd_arm },
    { "eio", cmd_eio },       { "full", cmd_full },     { "count", cmd_count },
    { "status", cmd_status }, { "last", cmd_last },     { "freeze", cmd_freeze },
    { "thaw", cmd_thaw },     { "sync", cmd_sync },     { "save", cmd_save },
    { "load", cmd_load },     { "forget", cmd_forget },
};

static void run_line(struct pf_fs *fs, char *line, FILE *out)
{
    struct words a = { 0 };
    char *rest = NULL;
    int rc = -EINVAL;
    for (char *w = strtok_r(line, " \t\r\n", &rest); w != NULL && a.n < WORDS_MAX;
         w = strtok_r(NULL, " \t\r\n", &rest))
        a.w[a.n++] = w;
    if (a.n == 0)
        return;
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(a.w[0], commands[i].name) != 0)
            continue;
        pthread_mutex_lock(&fs->lock);
        rc = commands[i].run(fs, &a, out);
        pthread_mutex_unlock(&fs->lock);
        break;
    }
    if (rc == 0)
        fprintf(out, "ok\n");
    else if (rc < 0)
        fprintf(out, "error %s\n", strerror(-rc));
    fflush(out);
}

struct job {
    struct pf_fs *fs;
    int fd;
};

static void *connection(void *arg)
{
    struct job job = *(struct job *)arg;
    char line[LINE_MAX_BYTES];
    free(arg);
    int copy = dup(job.fd);
    FILE *in = fdopen(job.fd, "r");
    FILE *out = copy >= 0 ? fdopen(copy, "w") : NULL;
    while (in != NULL && out != NULL && fgets(line, sizeof(line), in) != NULL)
        run_line(job.fs, line, out);
    if (in != NULL)
        fclose(in);
    if (out != NULL)
        fclose(out);
    return NULL;
}

static int start(void *(*run)(void *), struct pf_fs *fs, int fd)
{
    pthread_t thread;
    struct job *job = pf_alloc(sizeof(*job));
    *job = (struct job){ .fs = fs, .fd = fd };
    int rc = pthread_create(&thread, NULL, run, job);
    if (rc != 0) {
        free(job);
        return -rc;
    }
    pthread_detach(thread);
    return 0;
}

static void *acceptor(void *arg)
{
    struct job job = *(struct job *)arg;
    free(arg);
    for (;;) {
        int fd = accept(job.fd, NULL, NULL);
        if (fd >= 0 && start(connection, job.fs, fd) != 0)
            close(fd);
        else if (fd < 0 && errno != EINTR && errno != ECONNABORTED)
            return NULL;
    }
}

static int address(const char *path, struct sockaddr_un *sa)
{
    *sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof(sa->sun_path))
        return -ENAMETOOLONG;
    memcpy(sa->sun_path, path, strlen(path));
    return 0;
}

int pf_ctl_listen(const char *path)
{
    struct sockaddr_un sa;
    int rc = address(path, &sa);
    if (rc != 0)
        return rc;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    unlink(path);
    if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0 || listen(fd, 64) != 0) {
        rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

int pf_ctl_serve(struct pf_fs *fs, int fd)
{
    return start(acceptor, fs, fd);
}

int pf_ctl_client(const char *path, int argc, char **argv)
{
    char line[LINE_MAX_BYTES] = "", reply[LINE_MAX_BYTES];
    size_t used = 0;
    for (int i = 0; i < argc && used < sizeof(line); i++)
        used += (size_t)snprintf(line + used, sizeof(line) - used, "%s%s", i > 0 ? " " : "",
                                 argv[i]);
    int fd = powerfs_connect(path);
    if (fd < 0) {
        fprintf(stderr, "powerfs: %s: %s\n", path, strerror(-fd));
        return 2;
    }
    int rc = powerfs_command(fd, reply, sizeof(reply), "%s", line);
    close(fd);
    if (rc != 0 && rc != -EPROTO) {
        fprintf(stderr, "powerfs: %s: %s\n", path, strerror(-rc));
        return 2;
    }
    puts(reply);
    return rc == 0 ? 0 : 1;
}
