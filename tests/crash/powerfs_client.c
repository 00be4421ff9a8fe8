/* powerfs_client: talk to a mounted powerfs from a test. */
#include "tests/crash/powerfs_client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int powerfs_connect(const char *socket_path)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    if (strlen(socket_path) >= sizeof(sa.sun_path))
        return -ENAMETOOLONG;
    memcpy(sa.sun_path, socket_path, strlen(socket_path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

int powerfs_command(int fd, char *reply, size_t reply_len, const char *fmt, ...)
{
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
    va_end(ap);
    if (reply_len == 0)
        return -EINVAL;
    reply[0] = '\0';
    if (n < 0 || (size_t)n >= sizeof(line) - 1)
        return -EMSGSIZE;
    line[n++] = '\n';
    if (send(fd, line, (size_t)n, MSG_NOSIGNAL) != n)
        return errno != 0 ? -errno : -EIO;
    for (size_t used = 0;;) {
        char ch;
        ssize_t got = read(fd, &ch, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -ECONNRESET;
        if (ch == '\n')
            break;
        if (used + 1 < reply_len) {
            reply[used++] = ch;
            reply[used] = '\0';
        }
    }
    return strncmp(reply, "ok", 2) == 0 ? 0 : -EPROTO;
}
