/*
 * server.h: the control socket of an opened store: STORE/control, mode 0600. Whoever has the store open runs
 * it; commands find it by client.h. The path may be longer than a socket address: it is reached by way of a
 * descriptor of the directory.
 *
 * Every connection has its own thread, at most SVC_CLIENTS_MAX of them; more are told BUSY. Only root and the
 * owner of the store's directory are answered (SO_PEERCRED). This header needs no JSON.
 */
#ifndef STORE_SVC_SERVER_H
#define STORE_SVC_SERVER_H

#include "store/core/store.h"

enum { SVC_CLIENTS_MAX = 32, SVC_MOUNT_OPTIONS_MAX = 10000 };

struct svc_server;
struct link_table;
struct replicate;

/* What only the process that serves a mount knows. May be NULL altogether; strings must outlive the server. */
struct svc_hooks {
    const char *mount_dir;                  /* where it is mounted, absolute */
    const struct log_recovery *recovery;    /* what opening found */
    volatile int *yield;                    /* set when a mount wants the store: this process then gives it up; NULL: it does not */
    struct replicate *replicate;            /* who ships by itself: its streams are those of this server; NULL: nobody does */
    void *arg;
    /* counters for `status --json` and benches: call put for each. Called from any thread. May be NULL. */
    void (*counters)(void *arg, void (*put)(void *put_arg, const char *name, uint64_t value), void *put_arg);
    /* ${who} asks to go on as another program. Returns before it does. May be NULL. */
    int (*upgrade)(void *arg, const struct caller *who, const char *program, uint64_t layout, struct err *err);
    /* the store's role may have changed: make the mount fit. True: it does; else *${why}. ${options} (NULL: not asked for): what it was mounted with, as after -o. */
    bool (*fit)(void *arg, char *options, size_t cap, struct err *why);
    /* the branch ${name} shall go: let go of it. BUSY: somebody is in it. May be NULL. */
    int (*leave_branch)(void *arg, const char *name, struct err *err);
    uint64_t branch_memory;                 /* what one that is restored from may have, one at a time; 0: no mount's memory is shared */
};

/*
 * svc_server_start(s, dir, hooks, out, err):
 * Listen on ${dir}/control. A socket that nobody serves is replaced. Returns once commands can connect.
 * Errors: BUSY somebody answers there; NOSTORE, ACCES, IO, NOMEM.
 */
int svc_server_start(struct store *s, const char *dir, const struct svc_hooks *hooks,
                     struct svc_server **out, struct err *err);

/*
 * svc_server_stop(srv): no new requests; those under way end at their next reply; waits for their threads,
 * removes the socket, frees ${srv} (NULL is accepted). Call before store_close.
 * A request that waits inside the store (store_sync) ends when that does.
 */
void svc_server_stop(struct svc_server *srv);

/* svc_server_links(srv): the streams its requests run; those of others may be run in it too, and `status` shows them. */
struct link_table *svc_server_links(struct svc_server *srv);

/* svc_yield(dir): ask whoever has the store open to give it up for a mount. What does not want to takes no notice. */
void svc_yield(const char *dir);

#endif
