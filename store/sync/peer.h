/*
 * peer.h: the far end of a stream: `spare serve --stdio` as a child, here for a directory, by way of ssh for HOST:STORE.
 *
 * Threads: any; a peer is its owner's.
 */
#ifndef STORE_SYNC_PEER_H
#define STORE_SYNC_PEER_H

#include "store/base/err.h"

#include <stdbool.h>
#include <sys/types.h>

struct peer_options {
    const char *ssh;            /* the command that reaches a host, split at blanks; NULL: ssh */
    const char *remote;         /* what runs there; NULL: spare */
    bool moved, copied;         /* passed on: the standby lies elsewhere now */
    const char *send;           /* not NULL: it is to send, to a standby of that name; made anew only with ${anew} */
    bool anew;
    bool quiet;                 /* what the child says on standard error is not shown, but kept: its last line explains an AWAY */
};

struct peer { pid_t pid; int fd, said; };       /* fd: both ways; -1 once handed over. said: what it writes on standard error; -1: not kept */

/* peer_host(target, host, cap): HOST of HOST:STORE, and where STORE begins; NULL: it is a directory. "./a:b" is a directory. */
const char *peer_host(const char *target, char *host, size_t cap);

/* peer_start(target, opt, p, err): USAGE a host that looks like an option, no such command; IO. */
int peer_start(const char *target, const struct peer_options *opt, struct peer *p, struct err *err);

/*
 * peer_end(p, target, rc, err): closes what is left and waits for the child, some seconds (INTR, or ${quiet}: two); one that stays is told to end; ssh is then killed,
 * spare here left to close its store, and waited for when the next peer begins, or ends.
 * Returns ${rc}; where the stream just broke off (AWAY), ${err} says why the child ended: not reached, spare not found there.
 */
int peer_end(struct peer *p, const char *target, int rc, struct err *err);

/*
 * peer_run(target, opt, verb, options, err): `spare VERB OPTIONS... -- STORE` there, to its end; its messages come here, its data go nowhere. peer_shell(target, opt, command, err): a command line for the shell there.
 * Both return its exit status (128 and more: by a signal), or IO, NOMEM, USAGE: it could not be started. 255 from ssh: the host was not reached.
 */
int peer_run(const char *target, const struct peer_options *opt, const char *verb, const char *const *options, struct err *err);
int peer_shell(const char *target, const struct peer_options *opt, const char *command, struct err *err);

#endif
