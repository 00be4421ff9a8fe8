/*
 * client.h: asking whoever has a store open (server.h).
 */
#ifndef STORE_SVC_CLIENT_H
#define STORE_SVC_CLIENT_H

#include "store/svc/svc.h"

/*
 * svc_connect(dir, fd, err): connect to the process that serves the store in ${dir}, and wait until it does; *fd is the caller's to close.
 * Errors: NOENT nobody does (no socket, a dead one, or it died before it served); INTR a signal; ACCES; NOSTORE ${dir} is no directory; IO.
 */
int svc_connect(const char *dir, int *fd, struct err *err);

/*
 * svc_request(fd, req, stop, emit, arg, err): as svc_call, over a connection. A nonzero *${stop} (set by a signal
 * handler) ends it with INTR; after any failure but one the other side reported, ${fd} is good for nothing more.
 * Errors: what the request says; IO the other side went away, BADREC it does not speak as wire.h says.
 */
int svc_request(int fd, const json_t *req, const volatile int *stop, svc_emit_fn *emit, void *arg, struct err *err);
/* svc_request_stream: the same for a request that runs a stream (svc.h): ${in} and ${out} go along, and stay the caller's too. */
int svc_request_stream(int fd, const json_t *req, int in, int out, const volatile int *stop, svc_emit_fn *emit, void *arg, struct err *err);

#endif
