#include "store/svc/server.h"

#include "store/svc/svc.h"
#include "store/svc/wire.h"
#include "store/sync/replicate.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { IDLE_SECONDS = 60 };     /* a connection that asks nothing for so long is closed */

struct client { struct svc_server *srv; int fd; struct caller who; };

struct svc_server {
    struct svc_env env;
    struct svc_hooks hooks;
    struct link_table links;
    volatile int end_receive;
    char *mount_dir;
    int dirfd, fd, wake;
    uid_t owner;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t idle;
    struct client *client[SVC_CLIENTS_MAX];     /* lock */
    unsigned n_clients;                         /* lock */
    bool stopping;                              /* lock */
};

static json_t *end_frame(int code, const struct err *err)
{
    json_t *o = json_object();

    json_object_set_new(o, "type", json_string("end"));
    if (code) {
        json_t *e = json_object();

        json_object_set_new(e, "code", json_integer(code));
        wire_set_bytes(e, "message", err->msg[0] ? err->msg : err_text(code),
                       strlen(err->msg[0] ? err->msg : err_text(code)));
        json_object_set_new(o, "error", e);
    }
    return o;
}

static int send_end(int fd, int code, const struct err *err)
{
    json_t *o = end_frame(code, err);
    int r = wire_send(fd, o, NULL, 0, NULL);

    json_decref(o);
    return r;
}

static int emit_to_client(void *arg, const char *type, const json_t *item, const void *bin, size_t len)
{
    struct client *c = arg;
    struct pollfd p = { .fd = c->fd, .events = POLLOUT };
    json_t *o;
    int r;

    /* Who does not read (a stopped terminal) must not hold up what is reported on. */
    if (strcmp(type, "progress") == 0 && poll(&p, 1, 0) == 0)
        return 0;
    o = json_object();

    json_object_set_new(o, "type", json_string(type));
    json_object_set(o, "item", (json_t *)(uintptr_t)item);
    r = wire_send(c->fd, o, bin, len, NULL);
    json_decref(o);
    return r ? ERR_INTR : 0;
}

static void serve(struct client *c)
{
    struct wire_frame f;
    struct err err;
    int r;

    for (;;) {
        memset(&err, 0, sizeof err);
        r = wire_recv(c->fd, NULL, &f, &err);
        if (r == 1) {
            const struct svc_stream stream = { f.fd[0], f.fd[1], { c->fd, NULL } };

            r = svc_call(&c->srv->env, &c->who, f.json, f.n_fds == 2 ? &stream : NULL, emit_to_client, c, &err);
            wire_frame_release(&f);
            /* Only a peer that is gone makes emit fail: there is nobody to tell. */
            if (r == ERR_INTR || send_end(c->fd, r, &err))
                return;
            continue;
        }
        wire_frame_release(&f);
        if (r == ERR_BADREC)
            (void)send_end(c->fd, r, &err);
        return;
    }
}

static void *client_thread(void *arg)
{
    struct client *c = arg;
    struct svc_server *srv = c->srv;

    serve(c);
    pthread_mutex_lock(&srv->lock);
    for (unsigned i = 0; i < SVC_CLIENTS_MAX; i++)
        if (srv->client[i] == c)
            srv->client[i] = NULL;
    /* Closed under the lock: stop may be about to shut this number down. */
    close(c->fd);
    if (--srv->n_clients == 0)
        pthread_cond_broadcast(&srv->idle);
    pthread_mutex_unlock(&srv->lock);
    free(c);
    return NULL;
}

/* refuse: a person at the other end reads why. */
static void refuse(int fd, int code, const char *why)
{
    struct err err = { 0 };

    err_set(&err, code, "control socket: %s", why);
    (void)send_end(fd, code, &err);
    close(fd);
}

static void admit(struct svc_server *srv, int fd)
{
    struct timeval idle = { .tv_sec = IDLE_SECONDS };
    struct ucred cred;
    socklen_t len = sizeof cred;
    struct client *c;
    pthread_attr_t attr;
    pthread_t t;
    unsigned slot;
    const char greeting = WIRE_GREETING;

    /* Room for a byte there always is; of a client that has gone the reading tells. */
    (void)send(fd, &greeting, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) || len != sizeof cred) {
        close(fd);
        return;
    }
    if (cred.uid != 0 && cred.uid != srv->owner) {
        refuse(fd, ERR_ACCES, "expected root or the owner of the store, found another user");
        return;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof idle);
    c = calloc(1, sizeof *c);
    pthread_mutex_lock(&srv->lock);
    for (slot = 0; slot < SVC_CLIENTS_MAX && srv->client[slot]; slot++)
        ;
    if (!c || slot == SVC_CLIENTS_MAX || srv->stopping) {
        pthread_mutex_unlock(&srv->lock);
        free(c);
        refuse(fd, ERR_BUSY, "too many commands at once; try again");
        return;
    }
    *c = (struct client){ .srv = srv, .fd = fd,
                          .who = { .uid = cred.uid, .gid = cred.gid, .pid = (uint32_t)cred.pid } };
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&t, &attr, client_thread, c) == 0) {
        srv->client[slot] = c;
        srv->n_clients++;
        c = NULL;
    }
    pthread_attr_destroy(&attr);
    pthread_mutex_unlock(&srv->lock);
    if (c) {
        free(c);
        refuse(fd, ERR_BUSY, "no thread for another command; try again");
    }
}

static void *accept_thread(void *arg)
{
    struct svc_server *srv = arg;
    struct pollfd p[2] = { { .fd = srv->fd, .events = POLLIN }, { .fd = srv->wake, .events = POLLIN } };

    for (;;) {
        int fd;

        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return NULL;
        if (p[1].revents)
            return NULL;
        fd = accept4(srv->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            admit(srv, fd);
        else if (errno == EMFILE || errno == ENFILE)
            (void)poll(p + 1, 1, 100);  /* the connection stays pending: do not spin on it */
    }
}

static void socket_path(int dirfd, struct sockaddr_un *sa)
{
    memset(sa, 0, sizeof *sa);
    sa->sun_family = AF_UNIX;
    snprintf(sa->sun_path, sizeof sa->sun_path, "/proc/self/fd/%d/control", dirfd);
}

/* Is somebody answering at the socket that is there? */
static bool alive(const struct sockaddr_un *sa)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool yes = fd >= 0 && (connect(fd, (const struct sockaddr *)sa, sizeof *sa) == 0 || errno == EAGAIN);

    if (fd >= 0)
        close(fd);
    return yes;
}

static int listen_at(struct svc_server *srv, const char *dir, struct err *err)
{
    struct sockaddr_un sa;
    struct stat st;

    srv->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (srv->dirfd < 0 || fstat(srv->dirfd, &st))
        return err_from_errno(err, errno, "%s: opening the store's directory", dir);
    srv->owner = st.st_uid;
    srv->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (srv->fd < 0)
        return err_from_errno(err, errno, "%s/control: socket", dir);
    socket_path(srv->dirfd, &sa);
    /* Peers are checked one by one; the mode only spares others the attempt. Set before there is a name that could be replaced. */
    if (fchmod(srv->fd, 0600))
        return err_from_errno(err, errno, "%s/control: mode", dir);
    if (bind(srv->fd, (struct sockaddr *)&sa, sizeof sa)) {
        if (errno != EADDRINUSE)
            return err_from_errno(err, errno, "%s/control: bind", dir);
        if (fstatat(srv->dirfd, "control", &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISSOCK(st.st_mode))
            return err_set(err, ERR_EXIST, "%s/control: expected a socket, found something else; move it away", dir);
        if (alive(&sa))
            return err_set(err, ERR_BUSY, "%s/control: another process serves this store", dir);
        if (unlinkat(srv->dirfd, "control", 0) || bind(srv->fd, (struct sockaddr *)&sa, sizeof sa))
            return err_from_errno(err, errno, "%s/control: replacing a socket nobody serves", dir);
    }
    if (geteuid() == 0 && fchownat(srv->dirfd, "control", srv->owner, (gid_t)-1, AT_SYMLINK_NOFOLLOW))
        return err_from_errno(err, errno, "%s/control: owner", dir);
    if (listen(srv->fd, SVC_CLIENTS_MAX))
        return err_from_errno(err, errno, "%s/control: listen", dir);
    return 0;
}

static void release(struct svc_server *srv)
{
    if (srv->fd >= 0)
        close(srv->fd);
    if (srv->wake >= 0)
        close(srv->wake);
    if (srv->dirfd >= 0)
        close(srv->dirfd);
    pthread_cond_destroy(&srv->idle);
    pthread_mutex_destroy(&srv->lock);
    link_table_release(&srv->links);
    free(srv->mount_dir);
    free(srv);
}

int svc_server_start(struct store *s, const char *dir, const struct svc_hooks *hooks,
                     struct svc_server **out, struct err *err)
{
    struct svc_server *srv = calloc(1, sizeof *srv);
    int r;

    if (!srv)
        return err_set(err, ERR_NOMEM, "%s/control: no memory", dir);
    srv->fd = srv->dirfd = srv->wake = -1;
    pthread_mutex_init(&srv->lock, NULL);
    pthread_cond_init(&srv->idle, NULL);
    srv->env.s = s;
    link_table_init(&srv->links);
    srv->env.links = &srv->links;
    srv->env.end_receive = &srv->end_receive;
    if (hooks) {
        srv->hooks = *hooks;
        srv->mount_dir = hooks->mount_dir ? strdup(hooks->mount_dir) : NULL;
        srv->env.mount_dir = srv->mount_dir;
        srv->env.recovery = hooks->recovery;
        srv->env.replicate = hooks->replicate;
        if (hooks->replicate)
            srv->env.links = replicate_links(hooks->replicate);
        srv->env.yield = hooks->yield;
        srv->env.counters = hooks->counters;
        srv->env.counters_arg = hooks->arg;
        srv->env.upgrade = hooks->upgrade;
        srv->env.fit = hooks->fit;
        srv->env.leave_branch = hooks->leave_branch;
        srv->env.branch_memory = hooks->branch_memory;
    }
    srv->wake = eventfd(0, EFD_CLOEXEC);
    if (srv->wake < 0) {
        r = err_from_errno(err, errno, "%s/control: eventfd", dir);
        goto out;
    }
    r = listen_at(srv, dir, err);
    if (r)
        goto out;
    r = pthread_create(&srv->thread, NULL, accept_thread, srv);
    if (r) {
        r = err_from_errno(err, r, "%s/control: starting a thread", dir);
        goto out;
    }
    *out = srv;
    return 0;
out:
    release(srv);
    return r;
}

struct link_table *svc_server_links(struct svc_server *srv)
{
    return srv->env.links;
}

void svc_server_stop(struct svc_server *srv)
{
    uint64_t one = 1;

    if (!srv)
        return;
    /* First the name: whoever comes now finds nobody, and tries the store itself. */
    (void)unlinkat(srv->dirfd, "control", 0);
    pthread_mutex_lock(&srv->lock);
    srv->stopping = true;
    pthread_mutex_unlock(&srv->lock);
    while (write(srv->wake, &one, sizeof one) < 0 && errno == EINTR)
        ;
    pthread_join(srv->thread, NULL);
    pthread_mutex_lock(&srv->lock);
    for (unsigned i = 0; i < SVC_CLIENTS_MAX; i++)
        if (srv->client[i])
            shutdown(srv->client[i]->fd, SHUT_RDWR);
    while (srv->n_clients)
        pthread_cond_wait(&srv->idle, &srv->lock);
    pthread_mutex_unlock(&srv->lock);
    release(srv);
}
