/* cmd_branch.c: branch: what a store held that its other side did not, kept when it went back (store/core/branch.h). */
#include "cli/cli.h"
#include "cli/session.h"
#include "fs/mount.h"
#include "store/base/io.h"
#include "store/core/branch.h"
#include "store/svc/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A branch of a store: where it is, the moment up to which both are the same. */
struct branch { char *dir, *name; uint64_t parted; };

static void branch_release(struct branch *b)
{
    free(b->dir);
    free(b->name);
}

static int branch_of(const char *store, const char *name, struct branch *b, struct err *err)
{
    struct super *sb = calloc(1, sizeof *sb);
    struct io *io = NULL;
    char text[32];
    int r = sb ? 0 : err_set(err, ERR_NOMEM, "no memory");

    memset(b, 0, sizeof *b);
    if (r == 0 && !branch_name_ok(name))
        r = err_set(err, ERR_USAGE, "%s: expected the name of a branch; `spare branch list` shows them", name);
    if (r == 0 && (asprintf(&b->dir, "%s/branches/%s", store, name) < 0 || !(b->name = strdup(name))))
        r = err_set(err, ERR_NOMEM, "no memory");
    if (r == 0 && (r = io_posix_new(b->dir, &io, err)) == ERR_NOSTORE)
        r = err_set(err, ERR_NOENT, "%s: expected a branch of %s, found none of that name; `spare branch list` shows them", name, store);
    if (r == 0)
        r = super_read(io, sb, NULL, err);
    if (r == 0 && super_config_get(sb, BRANCH_PARTED, text, sizeof text) > 0)
        b->parted = strtoull(text, NULL, 10);
    if (io)
        io->ops->free(io);
    free(sb);
    if (r)
        branch_release(b);
    return r;
}

/* ---- what was done since ---- */

static json_t *since(uint64_t parted)
{
    json_t *req = session_request("diff");
    char at[32];

    snprintf(at, sizeof at, "@%llu", (unsigned long long)parted);
    session_put_bytes(req, "from", at);
    return req;
}

/* ---- list ---- */

struct about { char parted[40], ends[40]; uint64_t durable; };

static int list_one(const char *store, const char *name)
{
    struct branch b;
    struct about a = { "", "", 0 };
    struct err err = { 0 };
    char x[40], y[40], lsn[32];
    int r = branch_of(store, name, &b, &err);

    snprintf(lsn, sizeof lsn, "@%llu", (unsigned long long)b.parted);
    if (r == 0 && b.parted)
        (void)session_when(b.dir, lsn, a.parted, &(struct err){ 0 });
    if (r == 0)
        r = session_when(b.dir, "now", a.ends, &err);
    if (r) {
        out_warn("%s: %s", name, err.msg);
    } else if (out_json) {
        json_t *j = json_object();

        session_put_bytes(j, "name", name);
        session_put_bytes(j, "directory", b.dir);
        json_object_set_new(j, "parted_lsn", json_integer((json_int_t)b.parted));
        json_object_set_new(j, "parted", json_string(a.parted));
        json_object_set_new(j, "ends", json_string(a.ends));
        out_object(j);
        json_decref(j);
    } else {
        out_text("%s  parted %s, ends %s\n", out_name(name), out_time(a.parted, x), out_time(a.ends, y));
    }
    branch_release(&b);
    return r;
}

/* ---- show: the manifest ---- */

/* Paths that have changed in the store since, sorted. */
struct paths { char **v; size_t n, cap; bool known; };

/* What was renamed was changed by both of its names. */
static const char *const path_keys[] = { "path", "old_path" };

static int emit_path(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    struct paths *p = arg;

    (void)bin, (void)len;
    for (int i = 0; i < 2 && strcmp(type, "item") == 0; i++) {
        char *path = NULL;

        if (wire_get_bytes(o, path_keys[i], &path, NULL) < 0 || !path)
            continue;
        if (p->n == p->cap) {
            size_t cap = p->cap ? 2 * p->cap : 64;
            char **v = realloc(p->v, cap * sizeof *v);

            if (!v) {
                free(path);
                return ERR_NOMEM;
            }
            p->v = v;
            p->cap = cap;
        }
        p->v[p->n++] = path;
    }
    return out_interrupted ? ERR_INTR : 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

struct manifest { const struct branch *of; struct paths since; uint64_t files, bytes, conflicts; json_t *total; };

static bool changed_since(const struct paths *p, const json_t *o)
{
    bool yes = false;

    for (int i = 0; i < 2 && p->n > 0 && !yes; i++) {
        char *path = NULL;

        if (wire_get_bytes(o, path_keys[i], &path, NULL) == 0 && path)
            yes = bsearch(&path, p->v, p->n, sizeof *p->v, by_text) != NULL;
        free(path);
    }
    return yes;
}

static int emit_change(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    struct manifest *m = arg;
    const char *change = item_text(o, "change");
    bool both;
    char a[32], t[40];

    (void)bin, (void)len;
    if (out_interrupted)
        return ERR_INTR;
    if (strcmp(type, "total") == 0 && !m->total)
        m->total = json_copy((json_t *)(uintptr_t)o);
    if (strcmp(type, "item") != 0)
        return 0;
    both = changed_since(&m->since, o);
    m->files++;
    m->bytes += item_u64(o, "size_after_bytes");
    m->conflicts += both;
    if (out_json) {
        json_t *j = json_copy((json_t *)(uintptr_t)o);

        json_object_set_new(j, "changed_since_in_store", m->since.known ? json_boolean(both) : json_null());
        out_object(j);
        json_decref(j);
        return 0;
    }
    out_text("%c %s  %-20s  %9s  %s", both ? '!' : ' ', strcmp(change, "added") == 0 ? "+" : strcmp(change, "removed") == 0 ? "-" : strcmp(change, "renamed") == 0 ? "R" :
             strcmp(change, "content") == 0 ? "M" : "m", out_time(item_text(o, "changed"), t), strcmp(change, "removed") == 0 ? "" : out_size(item_u64(o, "size_after_bytes"), a),
             item_name(o, "path"));
    if (strcmp(change, "renamed") == 0)
        out_text("  (was %s)", item_name(o, "old_path"));
    out_text("\n");
    return 0;
}

/* Behind the list: what it comes to, and how many operations made it, from when to when. */
static void total(struct manifest *m)
{
    char size[32], a[40], b[40];

    if (out_json && m->total) {
        json_object_set_new(m->total, "what", json_string("total"));
        json_object_set_new(m->total, "bytes", json_integer((json_int_t)m->bytes));
        out_object(m->total);
    }
    if (out_json)
        return;
    if (m->since.known)
        out_message("%s: %llu changes, %s; %llu of them to what has changed in the store, too (!)", m->of->name, (unsigned long long)m->files, out_size(m->bytes, size), (unsigned long long)m->conflicts);
    else
        out_message("%s: %llu changes, %s", m->of->name, (unsigned long long)m->files, out_size(m->bytes, size));
    if (*item_text(m->total, "first"))
        out_message("made by %llu operations, from %s to %s", (unsigned long long)item_u64(m->total, "operations"), out_time(item_text(m->total, "first"), a), out_time(item_text(m->total, "last"), b));
}

static int show(const char *store, const struct branch *b)
{
    struct manifest m = { .of = b };
    struct err err = { 0 }, why = { 0 };
    int r;

    if (b->parted == 0)
        return out_error(&err, err_set(&err, ERR_NOENT, "%s: where it parted from the store is not known", b->name));
    r = session_once(store, SESSION_READ, LOCATION_AS_IS, since(b->parted), emit_path, &m.since, &why);
    m.since.known = r == 0;
    if (r)
        out_warn("what has changed in the store since cannot be said: %s", why.msg);
    if (m.since.n > 1)
        qsort(m.since.v, m.since.n, sizeof *m.since.v, by_text);
    r = session_once(b->dir, SESSION_READ, LOCATION_AS_IS, since(b->parted), emit_change, &m, &err);
    if (r == 0)
        total(&m);
    json_decref(m.total);
    for (size_t i = 0; i < m.since.n; i++)
        free(m.since.v[i]);
    free(m.since.v);
    return r ? out_error(&err, r) : EXIT_OK;
}

/* ---- remove ---- */

/* A mount of the store shows it, and may have it open. */
static int leave(const char *store, const char *name, struct err *err)
{
    json_t *req = session_request("leave_branch");
    struct session *ses = NULL;
    int r = session_open_served(store, &ses, err);

    if (r) {
        json_decref(req);
        memset(err, 0, sizeof *err);
        return r == ERR_NOENT ? 0 : err_set(err, r, "%s: whoever serves it does not answer", store);
    }
    session_put_bytes(req, "name", name);
    r = session_call(ses, req, session_emit_objects, NULL, err);
    return session_end(ses, r, err);
}

/* Not asked what it is: of one that was removed by halves nothing may be left that says so. */
static int remove_it(const char *store, const char *name)
{
    struct io *io = NULL;
    struct err err = { 0 };
    char *dir = NULL;
    int r = asprintf(&dir, "%s/branches/%s", store, name) < 0 ? err_set(&err, ERR_NOMEM, "no memory") : 0;

    if (r == 0 && fs_mounted_store(dir, NULL) == 0)
        r = err_set(&err, ERR_BUSY, "%s: expected a branch that nobody uses, found it mounted; unmount it first", dir);
    if (r == 0)
        r = leave(store, name, &err);
    if (r == 0)
        r = io_posix_new(store, &io, &err);
    if (r == 0)
        r = store_branch_remove(io, name, &err);
    if (io)
        io->ops->free(io);
    free(dir);
    return r ? out_error(&err, r) : EXIT_OK;
}

int cmd_branch(int argc, char **argv)
{
    struct place p;
    struct branch b;
    struct err err = { 0 };
    const char *verb, *name = NULL;
    int code = 0, r;

    if (cli_option(argc, argv, "", NULL, 0, &code) != -1)
        return code;
    verb = optind < argc ? argv[optind++] : "list";
    if (strcmp(verb, "list") != 0 && strcmp(verb, "show") != 0 && strcmp(verb, "remove") != 0)
        return cli_usage("branch", "expected list, show or remove, found %s", verb);
    if (*verb != 'l' && optind < argc)
        name = argv[optind++];
    if ((*verb != 'l' && !name) || argc - optind > 1)
        return cli_usage("branch", "expected %s%s", verb, *verb == 'l' ? " [STORE]" : " NAME [STORE]");
    r = locate_store(optind < argc ? argv[optind] : cli_store, &p, &err);
    if (r)
        return out_error(&err, r);
    if (*verb == 'l') {
        code = session_inner(p.store, "branch", list_one);
    } else if (*verb == 'r') {
        code = remove_it(p.store, name);
    } else if ((r = branch_of(p.store, name, &b, &err)) != 0) {
        code = out_error(&err, r);
    } else {
        code = show(p.store, &b);
        branch_release(&b);
    }
    locate_release(&p);
    return code;
}
