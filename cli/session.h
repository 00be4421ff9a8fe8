/*
 * session.h: one way to ask a store, mounted or not: over the control socket where somebody serves it, else by
 * opening it here.
 */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include "cli/locate.h"
#include "store/svc/svc.h"

struct session;

/*
 * session_open(store_dir, mode, out, err):
 * SESSION_WRITE: requests that need a writable store will follow. SESSION_READ: they will not; a store that was not closed cleanly
 * is still recovered, which writes. SESSION_LOOK: nothing is written, come what may; ROFS when that store would have to be
 * recovered first. A store that lies elsewhere than it says can be read, not written. One that another command has open right
 * now is waited for (some seconds).
 * Errors: those of svc_connect and store_open; LOCKED.
 */
enum session_mode { SESSION_READ, SESSION_WRITE, SESSION_LOOK };
int session_open(const char *store_dir, enum session_mode mode, struct session **out, struct err *err);

/* session_served(ses): it is asked over its control socket. session_open_served: only so: NOENT where nobody serves the store. */
bool session_served(const struct session *ses);
int session_open_served(const char *store_dir, struct session **out, struct err *err);
/* session_store(ses): the store that was opened here, NULL where it is served. */
struct store *session_store(struct session *ses);
/* session_open_at: the same; a store that is opened here may lie elsewhere than it says (enum store_location). */
int session_open_at(const char *store_dir, enum session_mode mode, uint32_t location, struct session **out, struct err *err);

/* session_call(ses, req, emit, arg, err): svc_call; ${req} is released. */
int session_call(struct session *ses, json_t *req, svc_emit_fn *emit, void *arg, struct err *err);

/* session_stream(ses, req, in, out, emit, arg, err): the same for a request that runs a stream to another site over these descriptors. */
int session_stream(struct session *ses, json_t *req, int in, int out, svc_emit_fn *emit, void *arg, struct err *err);

/* session_use_links(ses, t): where its streams are seen, of a store opened here; ${t} lives longer than they. */
void session_use_links(struct session *ses, struct link_table *t);

/* session_close(ses, err): 0, or why a store opened here could not be closed cleanly. NULL is accepted. */
int session_close(struct session *ses, struct err *err);
/* session_end(ses, rc, err): closes it after ${rc}, whose reason is in ${err}; the failure that came first is the one returned. */
int session_end(struct session *ses, int rc, struct err *err);
/* session_once(dir, mode, location, req, emit, arg, err): opened (session_open_at), asked, closed. ${req} is released, in any case. */
int session_once(const char *dir, enum session_mode mode, uint32_t location, json_t *req, svc_emit_fn *emit, void *arg, struct err *err);

/*
 * session_ask(p, req, emit, arg):
 * The whole of most commands: open, ask, close, report a failure. Returns the exit code. ${req} is released.
 */
int session_ask(const struct place *p, json_t *req, svc_emit_fn *emit, void *arg);

/* session_inner(store, word, one): the whole of `list` of the stores inside of one, ${word} "fork" or "branch": ${one} says each by name (negative: it could not), what is in the making or going is
 * warned of. Returns the exit code. */
int session_inner(const char *store, const char *word, int (*one)(const char *store, const char *name));
/* session_when(dir, at, out, err): the time of the moment ${at} of a store, opened for that; "" on failure. */
int session_when(const char *dir, const char *at, char out[40], struct err *err);

/* session_flagged(argc, argv, op, flag, emit): the whole of a command `spare OP [STORE] [--FLAG]` that is the request ${op} with ${flag} true or false. Returns the exit code. */
int session_flagged(int argc, char **argv, const char *op, const char *flag, svc_emit_fn *emit);

/* session_open_here(dir, writable, location, out, io, rec, err): open a store in this process, with its own settings. */
int session_open_here(const char *dir, bool writable, uint32_t location, struct store **out, struct io **io, struct log_recovery *rec,
                      struct err *err);

/* session_rebuild_here(dir, out, io, err): as session_open_here, writable, with an index made anew. */
int session_rebuild_here(const char *dir, struct store **out, struct io **io, struct err *err);

/* session_caller(): who runs this command. */
struct caller session_caller(void);

/* session_request(op): {"op": op}; session_put_bytes(req, key, bytes): NULL puts nothing. */
json_t *session_request(const char *op);
void session_put_bytes(json_t *req, const char *key, const char *bytes);

/* Ready-made receivers. emit_objects: every item as a line of JSON; draws progress. */
int session_emit_objects(void *arg, const char *type, const json_t *item, const void *bin, size_t len);
/* session_place(name, argc, argv, p, code): the one optional STORE argument of command ${name}, or --store. On failure *${code} is the exit code. */
int session_place(const char *name, int argc, char **argv, struct place *p, int *code);
/* session_progress(item): draw. */
void session_progress(const json_t *item);

#endif
