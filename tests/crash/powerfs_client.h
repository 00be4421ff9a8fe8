/*
 * powerfs_client: talk to a mounted powerfs from a test, without libfuse.
 * Threads: one at a time per connection.
 */
#ifndef POWERFS_CLIENT_H
#define POWERFS_CLIENT_H

#include <stddef.h>

/* Connect to the control socket.  Returns a descriptor, or a negative errno. */
int powerfs_connect(const char *socket_path);

/*
 * Send one command and read its line of answer into reply (without the
 * newline, always terminated).  Returns 0 when it begins with "ok", else
 * -EPROTO for "error ...", or a negative errno of the connection.
 */
int powerfs_command(int fd, char *reply, size_t reply_len, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
