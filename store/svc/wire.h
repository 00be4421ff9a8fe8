/*
 * wire.h: frames on the control socket, and bytes inside JSON.
 *
 * A connection begins with one byte of the server's, WIRE_GREETING: it is being served. Until then nothing was asked, and the client may
 * try again elsewhere; a connection to a process that has just died ends without it.
 *
 * A frame is  u32 json_len | u32 bin_len | json | bin,  numbers little-endian. A request is one frame
 * {"op": NAME, ...} without bin. It is answered by any number of frames
 *     {"type": "item" | "data" | "progress", "item": {...}} [bin]
 * and one last  {"type": "end"}  or  {"type": "end", "error": {"code": N, "message": TEXT}}.
 * A request may bring descriptors along (SCM_RIGHTS, with its first byte), which are its arguments too.
 * One side may then send the next request on the same connection.
 *
 * Names are bytes, JSON is UTF-8: a name that is not UTF-8 is shown with U+FFFD for each bad byte in KEY and
 * travels exactly, as hexadecimal digits, in KEY_hex, which wins when both are there.
 *
 * Threads: pure functions; a descriptor belongs to one thread for each direction.
 */
#ifndef STORE_SVC_WIRE_H
#define STORE_SVC_WIRE_H

#include "store/base/err.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

enum {
    WIRE_GREETING   = 'S',
    WIRE_HEAD_BYTES = 8,
    WIRE_JSON_MAX   = 1 << 20,      /* bytes of JSON in a frame */
    WIRE_BIN_MAX    = 4 << 20,      /* bytes behind it */
    WIRE_FDS_MAX    = 2,            /* descriptors with it */
};

struct wire_frame { json_t *json; uint8_t *bin; size_t bin_len; int fd[WIRE_FDS_MAX]; unsigned n_fds; };

/*
 * wire_send(fd, json, bin, bin_len, err): write a whole frame; never raises SIGPIPE.
 * Errors: TOOLONG beyond the bounds; INTR when a signal asked to stop (*stop); IO.
 */
int wire_send(int fd, const json_t *json, const void *bin, size_t bin_len, struct err *err);
/* wire_send_fds(fd, json, fds, n, err): the same without bin, with ${n} descriptors, which stay the caller's too. */
int wire_send_fds(int fd, const json_t *json, const int *fds, unsigned n, struct err *err);

/*
 * wire_recv(fd, stop, frame, err):
 * Read one frame. 1 on success, 0 when the peer closed between frames. ${stop} (may be NULL): read again
 * after EINTR unless *${stop} is nonzero. Release with wire_frame_release, also after a failure; it closes the descriptors.
 * Errors: BADREC lengths out of bounds or not a JSON object; TRUNCATED the peer closed inside a frame; INTR; IO.
 */
int wire_recv(int fd, const volatile int *stop, struct wire_frame *frame, struct err *err);
void wire_frame_release(struct wire_frame *frame);

/* wire_decode_json(buf, len, out, err): the JSON part alone, as wire_recv takes it (fuzz target, tests). */
int wire_decode_json(const void *buf, size_t len, json_t **out, struct err *err);

/* wire_set_bytes(obj, key, p, len): set ${key} (and ${key}_hex where needed). 0 or NOMEM. */
int wire_set_bytes(json_t *obj, const char *key, const void *p, size_t len);

/* wire_get_bytes(obj, key, out, err): *out = malloced, NUL-terminated bytes of KEY_hex or KEY; NULL and 0 when
 * neither is there. Errors: USAGE not a string, not hexadecimal, a NUL inside. */
int wire_get_bytes(const json_t *obj, const char *key, char **out, struct err *err);

#endif
