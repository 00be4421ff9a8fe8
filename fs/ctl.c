/* ctl.c: messages between supervisor, worker and mounting helper; see worker.h. */
#include "fs/worker.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

union ancillary { struct cmsghdr head; char bytes[CMSG_SPACE(sizeof(int))]; };

int ctl_send(int sock, uint32_t kind, int fd, const struct err *err)
{
    struct ctl_msg m;
    union ancillary a;
    struct iovec iov = { &m, sizeof m };
    struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
    struct cmsghdr *c;

    memset(&m, 0, sizeof m);
    m.kind = kind;
    if (err)
        m.err = *err;
    if (fd >= 0) {
        memset(&a, 0, sizeof a);
        h.msg_control = a.bytes;
        h.msg_controllen = sizeof a.bytes;
        c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    while (sendmsg(sock, &h, MSG_NOSIGNAL) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

int ctl_recv(int sock, struct ctl_msg *msg, int *fd)
{
    union ancillary a;
    struct iovec iov = { msg, sizeof *msg };
    struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = a.bytes, .msg_controllen = sizeof a.bytes };
    struct cmsghdr *c;
    ssize_t n;

    *fd = -1;
    while ((n = recvmsg(sock, &h, MSG_CMSG_CLOEXEC)) < 0)
        if (errno != EINTR)
            return errno == ECONNRESET ? 0 : -errno;
    c = CMSG_FIRSTHDR(&h);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof *fd))
        memcpy(fd, CMSG_DATA(c), sizeof *fd);
    if (n == (ssize_t)sizeof *msg) {
        msg->err.msg[ERR_MSG_MAX - 1] = '\0';
        return 1;
    }
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    return n == 0 ? 0 : -EPROTO;
}
