/*
 * cmd_fork.c: fork: a writable copy of a moment, a store of its own (store/core/fork.h). Whoever has the store open makes the part; it is then opened here, which begins its epoch, restored to the
 * moment that was asked for, closed, and named. A crash in between leaves the part, which the same command makes anew, and `fork remove` takes away.
 */
#include "cli/cli.h"
#include "cli/session.h"
#include "fs/mount.h"
#include "store/base/bytes.h"
#include "store/base/io.h"
#include "store/core/fork.h"
#include "store/core/moment.h"
#include "store/svc/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- make ---- */

struct made { json_t *o; };

/* Whose the part is that was made. */
static int site_of(const struct made *m, uint8_t site[16], struct err *err)
{
    const char *hex = item_text(m->o, "site");
    uint64_t v;

    for (int i = 0; i < 2; i++) {
        if (strlen(hex) != 32 || !hex_digits(hex + 16 * i, 16, &v))
            return err_set(err, ERR_BADREC, "fork: expected the site of what was made, found \"%s\": whoever serves the store is of another version", hex);
        put_be64(site + 8 * i, v);
    }
    return 0;
}

static int emit_made(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    struct made *m = arg;

    (void)bin, (void)len;
    if (strcmp(type, "progress") == 0)
        session_progress(o);
    else if (strcmp(type, "item") == 0 && !m->o)
        m->o = json_deep_copy(o);
    return out_interrupted ? ERR_INTR : 0;
}

/* Of ${store}: whether it is a branch, and the directory whose forks/ a fork of it lies in: the store around a branch, so that it stays when the branch goes. */
static int home_of(const char *store, char **home, bool *branch, struct err *err)
{
    struct super *sb = malloc(sizeof *sb);
    struct io *io = NULL;
    char *at;
    int r = sb ? io_posix_new(store, &io, err) : err_set(err, ERR_NOMEM, "no memory");

    if (r == 0)
        r = super_read(io, sb, NULL, err);
    *branch = r == 0 && sb->role == ROLE_BRANCH;
    *home = r == 0 ? strdup(store) : NULL;
    if (r == 0 && !*home)
        r = err_set(err, ERR_NOMEM, "no memory");
    at = *branch && *home ? strrchr(*home, '/') : NULL;
    if (r == 0 && *branch) {
        if (at && at - *home >= 9 && memcmp(at - 9, "/branches", 9) == 0)
            at[-9] = '\0';
        else
            r = err_set(err, ERR_INVAL, "%s: expected a branch inside of its store, in branches/, found it moved out of there", store);
    }
    if (io)
        io->ops->free(io);
    free(sb);
    return r;
}

static int make_part(const char *store, const char *name, const char *at, bool branch, struct made *m, struct err *err)
{
    json_t *req = session_request("fork");

    session_put_bytes(req, "name", name);
    session_put_bytes(req, "at", at);
    return session_once(store, branch ? SESSION_LOOK : SESSION_WRITE, LOCATION_AS_IS, req, emit_made, m, err);
}

static bool is_ours(struct session *ses, const uint8_t site[16])
{
    struct store_info info;

    if (!session_store(ses))
        return false;
    store_info(session_store(ses), &info);
    return memcmp(info.site, site, 16) == 0;
}

/* Opened once: with that it is a primary, in an epoch of its own. */
static int begin_life(const char *part, const uint8_t site[16], uint64_t restore, struct made *restored, struct err *err)
{
    struct session *ses = NULL;
    json_t *req;
    char at[32];
    int r = session_open(part, SESSION_WRITE, &ses, err);

    if (r == ERR_NOSTORE || (r == 0 && !is_ours(ses, site))) {
        r = err_set(err, ERR_BUSY, "%s: expected what was made just now, found that another try of that name took its place", part);
        return session_end(ses, r, err);
    }
    if (r || restore == 0)
        return r ? r : session_end(ses, 0, err);
    req = session_request("restore");
    snprintf(at, sizeof at, "@%llu", (unsigned long long)restore);
    session_put_bytes(req, "path", "");
    session_put_bytes(req, "at", at);
    json_object_set_new(req, "delete_extra", json_true());
    r = session_call(ses, req, emit_made, restored, err);
    out_progress_end();
    return session_end(ses, r, err);
}

static int give_name(const char *home, const char *name, const uint8_t site[16], struct err *err)
{
    struct io *io = NULL;
    int r = io_posix_new(home, &io, err);

    if (r == 0)
        r = store_fork_finish(io, name, site, err);
    if (io)
        io->ops->free(io);
    return r;
}

static void print_made(const char *dir, const struct made *m, const struct made *restored)
{
    uint64_t kept = restored->o ? item_u64(restored->o, "left") + item_u64(restored->o, "blocked") : 0;
    char t[40];

    session_put_bytes(m->o, "directory", dir);
    if (kept)
        out_warn("%llu of what has no history stayed as it is now, since it cannot be brought back", (unsigned long long)kept);
    if (out_json)
        out_object(m->o);
    else
        out_text("%s: a store of its own, as of %s (@%llu)\nNext: spare mount %s DIR\n", out_name(dir), out_time(item_text(m->o, "time"), t), (unsigned long long)item_u64(m->o, "lsn"), dir);
}

static int make(const char *store, const char *name, const char *at)
{
    struct made m = { NULL }, restored = { NULL };
    struct err err = { 0 };
    char *home = NULL, *part = NULL, *dir = NULL;
    uint8_t site[16];
    bool branch = false;
    int r = fork_name_check(name, &err);

    if (r == 0)
        r = home_of(store, &home, &branch, &err);
    if (r == 0 && (asprintf(&dir, "%s/forks/%s", home, name) < 0 || asprintf(&part, "%s.part", dir) < 0))
        r = err_set(&err, ERR_NOMEM, "no memory");
    if (r == 0)
        r = make_part(store, name, at, branch, &m, &err);
    if (r == 0)
        r = site_of(&m, site, &err);
    if (r == 0)
        r = begin_life(part, site, item_u64(m.o, "restore_lsn"), &restored, &err);
    if (r == 0)
        r = give_name(home, name, site, &err);
    if (r == 0)
        print_made(dir, &m, &restored);
    json_decref(m.o);
    json_decref(restored.o);
    free(home);
    free(part);
    free(dir);
    return r ? out_error(&err, r) : EXIT_OK;
}

/* ---- list ---- */

static int list_one(const char *store, const char *name)
{
    struct super *sb = calloc(1, sizeof *sb);
    struct err err = { 0 };
    struct io *io = NULL;
    char *dir = NULL, lsn[32] = "@", parted[40] = "", made[40], x[40], y[40];
    int r = sb && asprintf(&dir, "%s/forks/%s", store, name) >= 0 ? io_posix_new(dir, &io, &err) : err_set(&err, ERR_NOMEM, "no memory");
    bool mounted = r == 0 && fs_mounted_store(dir, NULL) == 0;

    if (r == 0)
        r = super_read(io, sb, NULL, &err);
    if (r == 0)
        (void)super_config_get(sb, FORK_PARTED, lsn + 1, sizeof lsn - 1);
    if (r == 0)
        (void)session_when(dir, lsn, parted, &(struct err){ 0 });
    if (r) {
        out_warn("%s: %s", name, err.msg);
    } else if (out_json) {
        json_t *j = json_object();

        moment_rfc3339(sb->created_wall_ns, made);
        session_put_bytes(j, "name", name);
        session_put_bytes(j, "directory", dir);
        json_object_set_new(j, "forked_lsn", json_integer((json_int_t)strtoull(lsn + 1, NULL, 10)));
        json_object_set_new(j, "forked", parted[0] ? json_string(parted) : json_null());
        json_object_set_new(j, "created", json_string(made));
        json_object_set_new(j, "mounted", json_boolean(mounted));
        out_object(j);
        json_decref(j);
    } else {
        moment_rfc3339(sb->created_wall_ns, made);
        out_text("%s  made %s, of %s%s\n", out_name(name), out_time(made, x), parted[0] ? out_time(parted, y) : lsn, mounted ? ", mounted" : "");
    }
    if (io)
        io->ops->free(io);
    free(dir);
    free(sb);
    return r;
}

/* ---- remove ---- */

static int remove_it(const char *store, const char *name)
{
    struct io *io = NULL;
    struct err err = { 0 };
    char *dir = NULL;
    int r = fork_name_check(name, &err);

    if (r == 0 && asprintf(&dir, "%s/forks/%s", store, name) < 0)
        r = err_set(&err, ERR_NOMEM, "no memory");
    if (r == 0 && fs_mounted_store(dir, NULL) == 0)
        r = err_set(&err, ERR_BUSY, "%s: expected a fork that nobody uses, found it mounted; unmount it first", dir);
    if (r == 0)
        r = io_posix_new(store, &io, &err);
    if (r == 0)
        r = store_fork_remove(io, name, &err);
    if (io)
        io->ops->free(io);
    free(dir);
    return r ? out_error(&err, r) : EXIT_OK;
}

int cmd_fork(int argc, char **argv)
{
    enum { AT = OPT_FIRST };
    static const struct option longs[] = { { "at", required_argument, NULL, AT } };
    const char *at = NULL, *verb, *name;
    struct place p;
    struct err err = { 0 };
    int code = 0, o, r;

    while ((o = cli_option(argc, argv, "", longs, 1, &code)) != -1) {
        if (o != AT)
            return code;
        at = optarg;
    }
    verb = optind < argc ? argv[optind++] : "list";
    name = verb;
    if (strcmp(verb, "remove") == 0)
        name = optind < argc ? argv[optind++] : NULL;
    if (!name || argc - optind > 1 || (argc - optind == 1 && cli_store))
        return cli_usage("fork", "expected NAME [STORE], list [STORE] or remove NAME [STORE]");
    if (at && (strcmp(verb, "list") == 0 || strcmp(verb, "remove") == 0))
        return cli_usage("fork", "--at goes with the name of a new fork");
    r = locate_store(optind < argc ? argv[optind] : cli_store, &p, &err);
    if (r)
        return out_error(&err, r);
    if (strcmp(verb, "list") == 0)
        code = session_inner(p.store, "fork", list_one);
    else if (strcmp(verb, "remove") == 0)
        code = remove_it(p.store, name);
    else
        code = make(p.store, name, at);
    locate_release(&p);
    return code;
}
