/* cmd_serve.c: serve: the far end of a stream; and a standby made where nothing is. */
#include "cli/cli.h"
#include "cli/locate.h"
#include "cli/serve.h"
#include "cli/session.h"

#include "store/core/anew.h"
#include "store/svc/server.h"
#include "store/sync/replicate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- serve ---- */

struct made { const char *dir; struct io *io; struct store *s; struct log_recovery rec; struct svc_server *server; bool new_dir; char *beside; const struct link_receive_options *how; };

/* While it receives, commands can ask the store, and a mount can have it. Without that it receives all the same. */
static struct svc_server *answer(struct store *s, const char *dir)
{
    const struct svc_hooks hooks = { .yield = &out_interrupted };
    struct svc_server *server = NULL;
    struct err err = { 0 };

    if (svc_server_start(s, dir, &hooks, &server, &err))
        out_message("%s; commands will not find this store while it receives", err.msg);
    return server;
}

/* What is acknowledged as durable must be found by name, too. */
static int sync_parent(const char *dir, struct err *err)
{
    char *up = NULL;
    int fd = asprintf(&up, "%s/..", dir) < 0 ? -1 : open(up, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = fd >= 0 && fsync(fd) == 0 ? 0 : err_from_errno(err, errno, "%s: syncing the directory it is in", dir);

    if (fd >= 0)
        close(fd);
    free(up);
    return r;
}

static int place_standby(void *arg, struct io **io, const char **dir, struct err *err)
{
    struct made *m = arg;
    int r;

    m->new_dir = mkdir(m->dir, 0700) == 0;
    if (!m->new_dir && errno != EEXIST)
        return err_from_errno(err, errno, "%s: making the standby's directory", m->dir);
    r = sync_parent(m->dir, err);
    if (r == 0)
        r = io_posix_new(m->dir, io, err);
    *dir = m->dir;
    return r;
}

static int open_standby(void *arg, struct store **out, struct err *err)
{
    struct made *m = arg;
    int r = session_open_here(m->dir, true, LOCATION_AS_IS, &m->s, &m->io, &m->rec, err);

    if (r == 0) {
        *out = m->s;
        m->server = answer(m->s, m->dir);
    }
    return r;
}

static void made_progress(void *arg, const struct link_info *info)
{
    const struct made *m = arg;

    m->how->progress(m->how->arg, info);
}

/* Whether a standby can be made here: nothing is there, and the place it would be in is. */
static int may_make(const char *dir, struct err *err)
{
    char *copy = strdup(dir), *slash;
    struct stat st;
    int r = 0;

    if (!copy)
        return err_set(err, ERR_NOMEM, "no memory");
    slash = strrchr(copy, '/');
    if (slash && slash > copy)
        *slash = '\0';
    else
        snprintf(copy, 2, "%s", slash ? "/" : ".");
    if (stat(dir, &st) == 0 && !S_ISDIR(st.st_mode))
        r = err_set(err, ERR_NOTDIR, "%s: expected a standby, or a place for one, found a file", dir);
    else if (stat(copy, &st))
        r = err_set(err, ERR_AWAY, "%s: expected a standby, or a place for one; its parent directory %s is gone: %s", dir, copy, strerror(errno));
    free(copy);
    return r;
}

int serve_receive_new(const char *dir, int in, int out, const struct link_receive_options *how, struct link_info *info, struct err *err)
{
    struct link_table links;
    struct made m = { .dir = dir, .how = how };
    struct link_receive_options opt = { .name = how->name, .once = how->once, .place = place_standby, .open = open_standby, .arg = &m, .stop = { -1, &out_interrupted },
                                        .progress = how->progress ? made_progress : NULL };
    int r = may_make(dir, err);

    if (r) {
        link_refuse(in, out, err);
        return r;
    }
    link_table_init(&links);
    r = link_receive(NULL, &links, in, out, &opt, info, err);
    if (m.s == NULL && m.new_dir)
        (void)rmdir(m.dir);              /* if nothing is in it */
    if (m.s) {
        int c;

        svc_server_stop(m.server);
        c = store_close(m.s, r ? NULL : err);
        r = r ? r : c;
        m.io->ops->free(m.io);
    }
    link_table_release(&links);
    return r;
}

static int emit_nothing(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    (void)arg, (void)type, (void)o, (void)bin, (void)len;
    return out_interrupted ? ERR_INTR : 0;
}

/* Back to where both part, or to what was sent anew, with nobody else in it; the index is made at once, so that the next stream finds a standby. */
static int go_back(const char *dir, struct rewind *w, struct err *err)
{
    struct log_recovery rec;
    struct store *s = NULL;
    struct io *io = NULL;
    int r = io_posix_new(dir, &io, err);

    if (r == 0)
        r = w->anew ? store_anew(io, dir, w->last_lsn, w->branch, err) : store_rewind(io, dir, w, err);
    if (io)
        io->ops->free(io);
    if (r) {
        out_message("%s", err->msg);
        return r;
    }
    if (w->branch[0])
        out_message("%s: %s @%llu; what it had %sis kept, for reading, as branches/%s", dir, w->anew ? "was made anew, up to" : "went back to",
                    (unsigned long long)w->at, w->anew ? "" : "beyond ", w->branch);
    else
        out_message("%s: went back to @%llu; nothing that was done there had not been shipped", dir, (unsigned long long)w->at);
    r = session_open_here(dir, true, LOCATION_AS_IS, &s, &io, &rec, err);
    if (r == 0) {
        r = store_close(s, err);
        io->ops->free(io);
    }
    return r;
}

/* Beside a store that is there. */
static int place_beside(void *arg, struct io **io, const char **dir, struct err *err)
{
    struct made *m = arg;
    struct io *store_io = NULL;
    int r = io_posix_new(m->dir, &store_io, err);

    if (r == 0)
        r = anew_begin(store_io, err);
    if (store_io)
        store_io->ops->free(store_io);
    if (r == 0 && asprintf(&m->beside, "%s/" ANEW_DIR, m->dir) < 0) {
        m->beside = NULL;
        r = err_set(err, ERR_NOMEM, "no memory");
    }
    if (r == 0)
        r = io_posix_new(m->beside, io, err);
    *dir = m->beside;
    return r;
}

/* Mounted: whoever serves it takes the stream. Else this process opens it. */
static int serve_store(const char *dir, uint32_t location, struct err *err)
{
    struct rewind back = { 0 };
    struct made m = { .dir = dir };
    struct link_receive_options opt = { .place = place_beside, .arg = &m, .stop = { -1, &out_interrupted }, .rewind = &back };
    struct session *ses = NULL;
    struct svc_server *server;
    struct link_table own;
    struct link_info info;
    int r = session_open_at(dir, SESSION_WRITE, location, &ses, err);

    if (r) {
        link_refuse(0, 1, err);
        return r;
    }
    if (session_served(ses)) {
        r = session_stream(ses, session_request("receive"), 0, 1, emit_nothing, NULL, err);
    } else {
        link_table_init(&own);
        server = answer(session_store(ses), dir);
        r = link_receive(session_store(ses), server ? svc_server_links(server) : &own, 0, 1, &opt, &info, err);
        svc_server_stop(server);
        link_table_release(&own);
    }
    r = session_end(ses, r, err);
    free(m.beside);
    return back.at ? go_back(dir, &back, err) : r;
}

/* To a standby that fetches: it is known here by the name it, or the line its key is bound to, says. What is sent over ssh keeps to the limit of bandwidth. */
static int serve_send(const char *dir, const char *as, bool anew, struct err *err)
{
    struct session *ses = NULL;
    struct svc_server *server = NULL;
    char target[REPLICATE_NAME_MAX + 8];
    json_t *req;
    int r = session_open(dir, SESSION_WRITE, &ses, err);

    if (r) {
        link_refuse(0, 1, err);
        return r;
    }
    snprintf(target, sizeof target, "pull:%s", as);
    req = session_request("ship");
    session_put_bytes(req, "target", target);
    json_object_set_new(req, "follow", json_true());
    json_object_set_new(req, "make", json_boolean(anew));
    json_object_set_new(req, "compress", json_boolean(getenv("SSH_CONNECTION") != NULL));
    if (!session_served(ses) && (server = answer(session_store(ses), dir)) != NULL)
        session_use_links(ses, svc_server_links(server));
    r = session_stream(ses, req, 0, 1, emit_nothing, NULL, err);
    svc_server_stop(server);
    return session_end(ses, r, err);
}

static bool is_name(const char *s)
{
    size_t n = strlen(s);

    return n > 0 && n <= REPLICATE_NAME_MAX && s[0] != '-' && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}

enum { STDIO = OPT_FIRST, RECEIVE_ONLY, MOVED, COPIED, SEND, AS, NEW };

int cmd_serve(int argc, char **argv)
{
    static const struct option longs[] = {
        { "stdio", no_argument, NULL, STDIO }, { "receive-only", no_argument, NULL, RECEIVE_ONLY }, { "moved", no_argument, NULL, MOVED },
        { "copied", no_argument, NULL, COPIED }, { "send", no_argument, NULL, SEND }, { "as", required_argument, NULL, AS }, { "new", no_argument, NULL, NEW },
    };
    const char *as = "standby";
    struct err err = { 0 };
    uint32_t location = LOCATION_AS_IS;
    bool stdio = false, send = false, receive = false, anew = false;
    struct link_receive_options opt = { .stop = { -1, &out_interrupted } };
    struct link_info info;
    char *dir;
    int code = 0, o, r;

    while ((o = cli_option(argc, argv, "", longs, sizeof longs / sizeof longs[0], &code)) != -1) {
        switch (o) {
        case STDIO: stdio = true; break;
        case RECEIVE_ONLY: receive = true; break;
        case SEND: send = true; break;
        case AS: as = optarg; break;
        case NEW: anew = true; break;
        case MOVED: location = LOCATION_MOVED; break;
        case COPIED: location = LOCATION_COPIED_STANDBY; break;
        default: return code;
        }
    }
    if (!stdio || argc - optind != 1)
        return cli_usage("serve", "expected --stdio and a store");
    if ((send && receive) || !is_name(as))
        return cli_usage("serve", send && receive ? "expected --send or --receive-only, found both" : "--as: expected a name of letters, digits and ._-");
    if (isatty(0) || isatty(1))
        return cli_usage("serve", "expected to be started by `spare sync`, found a terminal");
    dir = locate_absolute(argv[optind], &err);
    if (!dir)
        return out_error(&err, ERR_NOMEM);
    r = send ? serve_send(dir, as, anew, &err) : locate_is_store(dir) ? serve_store(dir, location, &err) : serve_receive_new(dir, 0, 1, &opt, &info, &err);
    /* The other side says what it was; here nobody may be looking. */
    code = r == 0 ? EXIT_OK : r == ERR_INTR ? out_error(&err, r) : err_exit(r);
    free(dir);
    return code;
}

