#include "store/svc/wire.h"

#include "store/base/bytes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* Room for the descriptors of a frame, aligned as a control message wants it. */
union fds_buf { struct cmsghdr align; char bytes[CMSG_SPACE(WIRE_FDS_MAX * sizeof(int))]; };

static void with_fds(struct msghdr *m, union fds_buf *buf, const int *fds, unsigned n)
{
    struct cmsghdr *c;

    memset(buf, 0, sizeof *buf);
    m->msg_control = buf->bytes;
    m->msg_controllen = CMSG_SPACE(n * sizeof *fds);
    c = CMSG_FIRSTHDR(m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(n * sizeof *fds);
    memcpy(CMSG_DATA(c), fds, n * sizeof *fds);
}

static int send_all(int fd, struct iovec *iov, size_t n, const int *fds, unsigned n_fds, struct err *err)
{
    while (n > 0) {
        struct msghdr m = { .msg_iov = iov, .msg_iovlen = n };
        union fds_buf buf;
        ssize_t r;
        size_t done;

        if (n_fds > 0)
            with_fds(&m, &buf, fds, n_fds);
        r = sendmsg(fd, &m, MSG_NOSIGNAL);

        if (r < 0) {
            if (errno == EINTR)
                continue;
            return err_from_errno(err, errno == EPIPE ? EIO : errno, "control socket: the other side is gone");
        }
        done = (size_t)r;
        n_fds = done > 0 ? 0 : n_fds;    /* they went with the first byte */
        while (n > 0 && done >= iov->iov_len) {
            done -= iov->iov_len;
            iov++;
            n--;
        }
        if (n > 0) {
            iov->iov_base = (uint8_t *)iov->iov_base + done;
            iov->iov_len -= done;
        }
    }
    return 0;
}

static int send_frame(int fd, const json_t *json, const void *bin, size_t bin_len, const int *fds, unsigned n_fds, struct err *err)
{
    uint8_t head[WIRE_HEAD_BYTES];
    struct iovec iov[3];
    uint8_t none = 0;
    char *text = json_dumps(json, JSON_COMPACT);
    size_t len;
    int r;

    if (!text)
        return err_set(err, ERR_NOMEM, "control socket: no memory for a message");
    len = strlen(text);
    if (len > WIRE_JSON_MAX || bin_len > WIRE_BIN_MAX) {
        r = err_set(err, ERR_TOOLONG, "control socket: a message of %zu + %zu bytes; expected at most %d + %d",
                    len, bin_len, WIRE_JSON_MAX, WIRE_BIN_MAX);
        goto out;
    }
    put_u32(head, (uint32_t)len);
    put_u32(head + 4, (uint32_t)bin_len);
    iov[0] = (struct iovec){ head, sizeof head };
    iov[1] = (struct iovec){ text, len };
    /* sendmsg only reads what it is given. */
    iov[2] = (struct iovec){ bin_len ? (void *)(uintptr_t)bin : (void *)&none, bin_len };
    r = send_all(fd, iov, bin_len ? 3 : 2, fds, n_fds, err);
out:
    free(text);
    return r;
}

int wire_send(int fd, const json_t *json, const void *bin, size_t bin_len, struct err *err)
{
    return send_frame(fd, json, bin, bin_len, NULL, 0, err);
}

int wire_send_fds(int fd, const json_t *json, const int *fds, unsigned n, struct err *err)
{
    return send_frame(fd, json, NULL, 0, fds, n, err);
}

/* Takes the descriptors that came along; more than a frame may have are closed by the kernel. */
static void take_fds(struct msghdr *m, struct wire_frame *frame)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        size_t n = c->cmsg_len >= CMSG_LEN(0) ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (frame->n_fds < WIRE_FDS_MAX)
                frame->fd[frame->n_fds++] = fd;
            else
                close(fd);
        }
    }
}

/* recv_all: 1 all of it, 0 end of stream before the first byte and ${eof_ok}. ${frame}: takes descriptors; NULL: none may come. */
static int recv_all(int fd, const volatile int *stop, void *buf, size_t len, bool eof_ok, struct wire_frame *frame, struct err *err)
{
    uint8_t *p = buf;
    size_t got = 0;

    while (got < len) {
        struct iovec iov = { p + got, len - got };
        union fds_buf fds;
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
        ssize_t r;

        if (frame) {
            m.msg_control = fds.bytes;
            m.msg_controllen = sizeof fds.bytes;
        }
        r = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
        if (r >= 0 && frame)
            take_fds(&m, frame);

        if (r < 0 && errno == EINTR) {
            if (stop && *stop)
                return err_set(err, ERR_INTR, "interrupted");
            continue;
        }
        if (r < 0)
            return err_from_errno(err, errno == ECONNRESET ? EIO : errno, "control socket: reading a message");
        if (r == 0) {
            if (got == 0 && eof_ok)
                return 0;
            return err_set(err, ERR_TRUNCATED, "control socket: the other side closed inside a message");
        }
        got += (size_t)r;
    }
    return 1;
}

int wire_decode_json(const void *buf, size_t len, json_t **out, struct err *err)
{
    json_error_t je;
    json_t *j = json_loadb(buf, len, JSON_REJECT_DUPLICATES, &je);

    if (!j)
        return err_set(err, ERR_BADREC, "control socket: expected a JSON object, found bad JSON at byte %d: %s",
                       je.position, je.text);
    if (!json_is_object(j)) {
        json_decref(j);
        return err_set(err, ERR_BADREC, "control socket: expected a JSON object, found another value");
    }
    *out = j;
    return 0;
}

int wire_recv(int fd, const volatile int *stop, struct wire_frame *frame, struct err *err)
{
    uint8_t head[WIRE_HEAD_BYTES];
    uint32_t jlen, blen;
    char *text = NULL;
    int r;

    memset(frame, 0, sizeof *frame);
    r = recv_all(fd, stop, head, sizeof head, true, frame, err);
    if (r <= 0)
        return r;
    jlen = get_u32(head);
    blen = get_u32(head + 4);
    if (jlen == 0 || jlen > WIRE_JSON_MAX || blen > WIRE_BIN_MAX)
        return err_set(err, ERR_BADREC, "control socket: a message of %u + %u bytes; expected at most %d + %d",
                       jlen, blen, WIRE_JSON_MAX, WIRE_BIN_MAX);
    text = malloc(jlen);
    if (blen)
        frame->bin = malloc(blen);
    if (!text || (blen && !frame->bin)) {
        r = err_set(err, ERR_NOMEM, "control socket: no memory for a message");
        goto out;
    }
    frame->bin_len = blen;
    r = recv_all(fd, stop, text, jlen, false, NULL, err);
    if (r > 0 && blen)
        r = recv_all(fd, stop, frame->bin, blen, false, NULL, err);
    if (r <= 0)
        goto out;
    r = wire_decode_json(text, jlen, &frame->json, err);
    if (r == 0)
        r = 1;
out:
    free(text);
    return r;
}

void wire_frame_release(struct wire_frame *frame)
{
    json_decref(frame->json);
    free(frame->bin);
    for (unsigned i = 0; i < frame->n_fds; i++)
        close(frame->fd[i]);
    memset(frame, 0, sizeof *frame);
}

/* The length of the UTF-8 sequence at p, 0 if there is none; jansson has the last word on validity. */
static size_t utf8_len(const uint8_t *p, size_t len)
{
    size_t n = *p < 0x80 ? 1 : *p >= 0xc2 && *p < 0xe0 ? 2 : (*p & 0xf0) == 0xe0 ? 3 : *p >= 0xf0 && *p < 0xf5 ? 4 : 0;
    json_t *j;

    if (n <= 1 || n > len)
        return n > len ? 0 : n;
    j = json_stringn((const char *)p, n);
    json_decref(j);
    return j ? n : 0;
}

int wire_set_bytes(json_t *obj, const char *key, const void *bytes, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = bytes;
    json_t *j = json_stringn(bytes, len);
    char hexkey[64];
    char *shown = NULL, *hex = NULL;
    size_t o = 0;
    int r = ERR_NOMEM;

    if (j)
        return json_object_set_new(obj, key, j) ? ERR_NOMEM : 0;
    shown = malloc(3 * len + 1);
    hex = malloc(2 * len + 1);
    if (!shown || !hex)
        goto out;
    for (size_t i = 0; i < len;) {
        size_t n = utf8_len(p + i, len - i);

        if (n) {
            memcpy(shown + o, p + i, n);
            o += n;
            i += n;
        } else {
            memcpy(shown + o, "\xef\xbf\xbd", 3);
            o += 3;
            i++;
        }
    }
    for (size_t i = 0; i < len; i++) {
        hex[2 * i] = digits[p[i] >> 4];
        hex[2 * i + 1] = digits[p[i] & 15];
    }
    snprintf(hexkey, sizeof hexkey, "%s_hex", key);
    if (json_object_set_new(obj, key, json_stringn(shown, o)) == 0
        && json_object_set_new(obj, hexkey, json_stringn(hex, 2 * len)) == 0)
        r = 0;
out:
    free(shown);
    free(hex);
    return r;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

int wire_get_bytes(const json_t *obj, const char *key, char **out, struct err *err)
{
    char hexkey[64];
    const json_t *j;
    const char *s;
    size_t len;
    char *b;

    *out = NULL;
    snprintf(hexkey, sizeof hexkey, "%s_hex", key);
    j = json_object_get(obj, hexkey);
    if (!j) {
        j = json_object_get(obj, key);
        if (!j || json_is_null(j))
            return 0;
        if (!json_is_string(j))
            return err_set(err, ERR_USAGE, "%s: expected a string", key);
        len = json_string_length(j);
        b = malloc(len + 1);
        if (!b)
            return err_set(err, ERR_NOMEM, "%s: no memory", key);
        memcpy(b, json_string_value(j), len);
    } else {
        s = json_string_value(j);
        len = s ? json_string_length(j) : 1;
        if (len % 2)
            return err_set(err, ERR_USAGE, "%s: expected pairs of hexadecimal digits", hexkey);
        b = malloc(len / 2 + 1);
        if (!b)
            return err_set(err, ERR_NOMEM, "%s: no memory", key);
        len /= 2;
        for (size_t i = 0; i < len; i++) {
            int hi = hex_digit(s[2 * i]), lo = hex_digit(s[2 * i + 1]);

            if (hi < 0 || lo < 0) {
                free(b);
                return err_set(err, ERR_USAGE, "%s: expected pairs of hexadecimal digits", hexkey);
            }
            b[i] = (char)(hi << 4 | lo);
        }
    }
    b[len] = '\0';
    if (strlen(b) != len) {
        free(b);
        return err_set(err, ERR_USAGE, "%s: has a NUL inside", key);
    }
    *out = b;
    return 0;
}
