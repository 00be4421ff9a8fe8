/* conn.c: see conn.h. */
#include "store/sync/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_BYTES = 256 << 10, KERNEL_BYTES = 1 << 20 };

static void widen(int fd)
{
    int bytes = KERNEL_BYTES, fl = fcntl(fd, F_GETFL);

    if (fl >= 0)
        (void)fcntl(fd, F_SETFL, fl | O_NONBLOCK);
    (void)fcntl(fd, F_SETPIPE_SZ, bytes);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
}

void conn_init(struct conn *c, int in, int out)
{
    memset(c, 0, sizeof *c);
    c->in = in;
    c->out = out;
    widen(in);
    if (out != in)
        widen(out);
}

void conn_release(struct conn *c)
{
    free(c->rx);
    free(c->tx);
    c->rx = c->tx = NULL;
}

/* Room for ${more} bytes behind what a buffer holds. */
static int reserve(uint8_t **buf, size_t *at, size_t *len, size_t *cap, size_t more, struct err *err)
{
    uint8_t *p;
    size_t n = *cap > 0 ? *cap : READ_BYTES;

    if (*at > 0) {
        memmove(*buf, *buf + *at, *len - *at);
        *len -= *at;
        *at = 0;
    }
    while (n < *len + more)
        n *= 2;
    if (n == *cap)
        return 0;
    p = realloc(*buf, n);
    if (p == NULL)
        return err_set(err, ERR_NOMEM, "connection: out of memory for a message");
    *buf = p;
    *cap = n;
    return 0;
}

/* Bytes of the message that has begun which are not here yet; at least what its head needs. */
static size_t missing(const struct conn *c)
{
    size_t have = c->rx_len - c->rx_at;
    struct proto_head h;

    if (have < PROTO_HEAD_BYTES)
        return PROTO_HEAD_BYTES - have;
    if (proto_head_decode(c->rx + c->rx_at, &h, NULL) < 0 || have >= PROTO_HEAD_BYTES + h.body)
        return 0;
    return PROTO_HEAD_BYTES + h.body - have;
}

int conn_read(struct conn *c, struct err *err)
{
    size_t want = missing(c);
    ssize_t n;
    int rc = reserve(&c->rx, &c->rx_at, &c->rx_len, &c->rx_cap, want > READ_BYTES ? want : READ_BYTES, err);

    if (rc < 0)
        return rc;
    n = read(c->in, c->rx + c->rx_len, c->rx_cap - c->rx_len);
    if (n > 0)
        c->rx_len += (size_t)n;
    else if (n == 0)
        c->eof = true;
    else if (errno != EAGAIN && errno != EINTR)
        return err_set(err, ERR_AWAY, "reading from the other side: %s", strerror(errno));
    return 0;
}

int conn_next(struct conn *c, struct proto_msg *m, struct err *err)
{
    struct proto_head h;
    int rc;

    if (c->rx_len - c->rx_at < PROTO_HEAD_BYTES)
        return proto_begins(c->rx + c->rx_at, c->rx_len - c->rx_at, err);
    rc = proto_head_decode(c->rx + c->rx_at, &h, err);
    if (rc < 0)
        return rc;
    if (c->rx_len - c->rx_at < PROTO_HEAD_BYTES + (size_t)h.body)
        return 0;
    rc = proto_decode(&h, c->rx + c->rx_at + PROTO_HEAD_BYTES, m, err);
    if (rc < 0)
        return rc;
    c->rx_at += PROTO_HEAD_BYTES + (size_t)h.body;
    return 1;
}

int conn_put(struct conn *c, const struct proto_msg *m, struct err *err)
{
    size_t n;
    int rc = reserve(&c->tx, &c->tx_at, &c->tx_len, &c->tx_cap, proto_bound(m), err);

    if (rc < 0)
        return rc;
    n = proto_encode(m, c->tx + c->tx_len, c->tx_cap - c->tx_len);
    if (n == 0)
        return err_set(err, ERR_TOOLONG, "message %s: longer than a message may be", proto_name(m->type));
    c->tx_len += n;
    return 0;
}

int conn_flush(struct conn *c, struct err *err)
{
    ssize_t n;

    if (conn_idle(c))
        return 0;
    n = write(c->out, c->tx + c->tx_at, c->tx_len - c->tx_at);
    if (n > 0)
        c->tx_at += (size_t)n;
    else if (n < 0 && errno != EAGAIN && errno != EINTR)
        return err_set(err, ERR_AWAY, "writing to the other side: %s", strerror(errno));
    if (c->tx_at == c->tx_len)
        c->tx_at = c->tx_len = 0;
    return 0;
}
