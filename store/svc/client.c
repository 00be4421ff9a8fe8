#include "store/svc/client.h"

#include "store/svc/server.h"
#include "store/svc/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int svc_connect(const char *dir, int *fd, struct err *err)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    int dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int s = -1, r;
    char greeting = 0;
    ssize_t n;

    if (dirfd < 0)
        return err_set(err, errno == EACCES ? ERR_ACCES : ERR_NOSTORE, "%s: %s", dir, strerror(errno));
    snprintf(sa.sun_path, sizeof sa.sun_path, "/proc/self/fd/%d/control", dirfd);
    s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0) {
        r = err_from_errno(err, errno, "%s/control: socket", dir);
        goto out;
    }
    while ((r = connect(s, (struct sockaddr *)&sa, sizeof sa)) && errno == EINTR)
        ;
    if (r) {
        r = errno == ENOENT || errno == ECONNREFUSED
            ? err_set(err, ERR_NOENT, "%s/control: nobody serves this store", dir)
            : err_from_errno(err, errno, "%s/control: connecting", dir);
        goto out;
    }
    n = recv(s, &greeting, 1, 0);
    if (n < 0 && errno != ECONNRESET) {
        r = err_from_errno(err, errno, "%s/control: waiting to be served", dir);
        goto out;
    }
    if (n != 1 || greeting != WIRE_GREETING) {
        r = err_set(err, ERR_NOENT, "%s/control: whoever served this store is gone", dir);
        goto out;
    }
    *fd = s;
    s = -1;
out:
    if (s >= 0)
        close(s);
    close(dirfd);
    return r;
}

/* end_of(json, err): the code in a last frame. */
static int end_of(const json_t *json, struct err *err)
{
    const json_t *e = json_object_get(json, "error");
    const json_t *code = json_object_get(e, "code");
    char *msg = NULL;
    int c;

    if (!e)
        return 0;
    c = json_is_integer(code) ? (int)json_integer_value(code) : 0;
    if (c >= 0 || strcmp(err_name(c), "?") == 0)
        c = ERR_UNKNOWN;
    (void)wire_get_bytes(e, "message", &msg, NULL);
    err_set(err, c, "%s", msg ? msg : err_text(c));
    free(msg);
    return c;
}

/* What comes back, until the end. ${r}: how the sending went. */
static int answers(int fd, int r, const volatile int *stop, svc_emit_fn *emit, void *arg, struct err *err)
{
    struct wire_frame f;
    const json_t *item;
    const char *type;

    while (r == 0) {
        if (stop && *stop)
            return err_set(err, ERR_INTR, "interrupted");
        r = wire_recv(fd, stop, &f, err);
        if (r == 0)
            r = err_set(err, ERR_IO, "control socket: the process that serves the store went away; run the command again");
        if (r < 0) {
            wire_frame_release(&f);
            return r;
        }
        type = json_string_value(json_object_get(f.json, "type"));
        item = json_object_get(f.json, "item");
        if (type && strcmp(type, "end") == 0) {
            r = end_of(f.json, err);
            wire_frame_release(&f);
            return r;
        }
        if (!type || !json_is_object(item))
            r = err_set(err, ERR_BADREC, "control socket: expected a reply with a type and an item");
        else
            r = emit(arg, type, item, f.bin, f.bin_len);
        wire_frame_release(&f);
    }
    return r;
}

int svc_request(int fd, const json_t *req, const volatile int *stop, svc_emit_fn *emit, void *arg, struct err *err)
{
    return answers(fd, wire_send(fd, req, NULL, 0, err), stop, emit, arg, err);
}

int svc_request_stream(int fd, const json_t *req, int in, int out, const volatile int *stop, svc_emit_fn *emit, void *arg, struct err *err)
{
    const int fds[2] = { in, out };

    return answers(fd, wire_send_fds(fd, req, fds, 2, err), stop, emit, arg, err);
}

static int ignore(void *arg, const char *type, const json_t *item, const void *bin, size_t len)
{
    (void)arg, (void)type, (void)item, (void)bin, (void)len;
    return 0;
}

void svc_yield(const char *dir)
{
    json_t *req = json_pack("{ss}", "op", "yield");
    int fd = -1;

    if (req && svc_connect(dir, &fd, NULL) == 0) {
        (void)svc_request(fd, req, NULL, ignore, NULL, NULL);
        close(fd);
    }
    json_decref(req);
}
