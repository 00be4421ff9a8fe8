/* Commands about the past: snapshot, log, cat, restore, undo. */
#include "cli/cli.h"
#include "cli/session.h"
#include "store/core/branch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- snapshot ---- */

static int emit_snapshot(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    char t[40];

    (void)arg, (void)bin, (void)len;
    if (strcmp(type, "item") != 0)
        return 0;
    if (out_json) {
        out_object(o);
        return 0;
    }
    out_time(item_text(o, "time"), t);
    if (strcmp(item_text(o, "action"), "create") == 0)
        out_text("%s  %s  @%llu\n", item_name(o, "name"), t, (unsigned long long)item_u64(o, "lsn"));
    else if (!*item_text(o, "action")) {
        out_text("%s  @%-14llu %-5s %s", t, (unsigned long long)item_u64(o, "lsn"), item_true(o, "held") ? "held" : "",
                 item_name(o, "name"));
        if (*item_text(o, "reason"))
            out_text("  (%s)", item_name(o, "reason"));
        out_text("\n");
    }
    return 0;
}

int cmd_snapshot(int argc, char **argv)
{
    enum { AT = OPT_FIRST, REASON, UNTIL, PERSON };
    static const struct option longs[] = {
        { "at", required_argument, NULL, AT }, { "reason", required_argument, NULL, REASON },
        { "until", required_argument, NULL, UNTIL }, { "person", required_argument, NULL, PERSON },
    };
    const char *at = NULL, *reason = NULL, *until = NULL, *person = NULL, *verb, *name;
    struct place p;
    struct err err = { 0 };
    json_t *req;
    int code = 0, o, r;
    bool list;

    while ((o = cli_option(argc, argv, "", longs, 4, &code)) != -1) {
        switch (o) {
        case AT: at = optarg; break;
        case REASON: reason = optarg; break;
        case UNTIL: until = optarg; break;
        case PERSON: person = optarg; break;
        default: return code;
        }
    }
    verb = optind < argc ? argv[optind] : "";
    list = strcmp(verb, "list") == 0;
    if (!list && strcmp(verb, "create") != 0 && strcmp(verb, "delete") != 0 && strcmp(verb, "hold") != 0
        && strcmp(verb, "release") != 0)
        return cli_usage("snapshot", "expected create, list, delete, hold or release, found \"%s\"", verb);
    if (argc - optind != (list ? 1 : 2))
        return cli_usage("snapshot", list ? "list takes no name" : "%s: expected one name", verb);
    name = list ? NULL : argv[optind + 1];
    r = locate_store(cli_store, &p, &err);
    if (r)
        return out_error(&err, r);
    req = session_request(list ? "snapshots" : "snapshot");
    if (!list) {
        session_put_bytes(req, "action", verb);
        session_put_bytes(req, "name", name);
        session_put_bytes(req, "at", at);
        session_put_bytes(req, "reason", reason);
        session_put_bytes(req, "until", until);
        session_put_bytes(req, "person", person);
    }
    code = session_ask(&p, req, emit_snapshot, NULL);
    locate_release(&p);
    return code;
}

/* ---- log ---- */

static int emit_log(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    char t[40], size[32];

    (void)arg, (void)bin, (void)len;
    if (out_interrupted)
        return ERR_INTR;
    if (strcmp(type, "note") == 0)
        out_message("%s", item_name(o, "text"));
    if (strcmp(type, "item") != 0)
        return 0;
    if (out_json) {
        out_object(o);
        return 0;
    }
    out_text("%s  @%-12llu  ", out_time(item_text(o, "time"), t), (unsigned long long)item_u64(o, "lsn"));
    if (json_object_get(o, "path")) {
        out_text("%-10s  %s", item_text(o, "how"), *item_text(o, "path") ? item_name(o, "path") : ".");
        if (json_object_get(o, "to"))
            out_text(" -> %s", item_name(o, "to"));
        out_text("\n");
        return 0;
    }
    out_text("%10s  %s%s\n", item_true(o, "deleted") ? "-" : out_size(item_u64(o, "size_bytes"), size), item_text(o, "how"),
             item_true(o, "live") ? "  (now)" : "");
    return 0;
}

int cmd_log(int argc, char **argv)
{
    enum { FOLLOW = OPT_FIRST, EVERY, FROM, TO };
    static const struct option longs[] = {
        { "follow", no_argument, NULL, FOLLOW }, { "every-write", no_argument, NULL, EVERY },
        { "limit", required_argument, NULL, 'n' }, { "from", required_argument, NULL, FROM }, { "to", required_argument, NULL, TO },
    };
    json_t *req = session_request("log");
    struct place p;
    struct err err = { 0 };
    char *end;
    int code = 0, o, r;

    while ((o = cli_option(argc, argv, "n:", longs, 5, &code)) != -1) {
        unsigned long long n;

        switch (o) {
        case FOLLOW: json_object_set_new(req, "follow", json_true()); break;
        case EVERY: json_object_set_new(req, "every_write", json_true()); break;
        case FROM: session_put_bytes(req, "from", optarg); break;
        case TO: session_put_bytes(req, "to", optarg); break;
        case 'n':
            errno = 0;
            n = strtoull(optarg, &end, 10);
            if (errno || *end || n == 0 || n > INT32_MAX || *optarg == '-') {
                json_decref(req);
                return cli_usage("log", "--limit: expected a number above 0, found %s", optarg);
            }
            json_object_set_new(req, "limit", json_integer((json_int_t)n));
            break;
        default: json_decref(req); return code;
        }
    }
    if (argc - optind > 1) {
        json_decref(req);
        return cli_usage("log", "expected one path, found %d", argc - optind);
    }
    r = locate_path(cli_store, optind < argc ? argv[optind] : NULL, &p, &err);
    if (r) {
        json_decref(req);
        return out_error(&err, r);
    }
    session_put_bytes(req, "path", p.rel);
    code = session_ask(&p, req, emit_log, NULL);
    locate_release(&p);
    return code;
}

/* ---- cat ---- */

/* ${at} is "@NAME", of a branch: the place becomes that store, and *${at} its present, which is all there is in it. */
static int in_branch(struct place *p, const char **at, struct err *err)
{
    const char *name = *at ? branch_at_name(*at) : NULL;
    char *dir;

    if (!name)
        return 0;
    if (!branch_name_ok(name))
        return err_set(err, ERR_USAGE, "%s: expected @ and the name of a branch, or @LSN; `spare branch list` shows branches", *at);
    if (asprintf(&dir, "%s/branches/%s", p->store, name) < 0)
        return err_set(err, ERR_NOMEM, "no memory");
    if (!locate_is_store(dir)) {
        err_set(err, ERR_NOENT, "%s: expected a branch of %s, found none of that name; `spare branch list` shows them", *at, p->store);
        free(dir);
        return ERR_NOENT;
    }
    free(p->store);
    p->store = dir;
    *at = NULL;
    return 0;
}

static int emit_cat(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    (void)o, (void)arg;
    if (out_interrupted)
        return ERR_INTR;
    return strcmp(type, "data") == 0 ? out_bytes(bin, len, NULL) : 0;
}

int cmd_cat(int argc, char **argv)
{
    static const struct option longs[] = { { "at", required_argument, NULL, OPT_FIRST } };
    const char *at = NULL;
    struct place p;
    struct err err = { 0 };
    json_t *req;
    int code = 0, o, r;

    while ((o = cli_option(argc, argv, "", longs, 1, &code)) != -1) {
        if (o != OPT_FIRST)
            return code;
        at = optarg;
    }
    if (argc - optind != 1)
        return cli_usage("cat", "expected one path, found %d", argc - optind);
    r = locate_path(cli_store, argv[optind], &p, &err);
    if (r)
        return out_error(&err, r);
    r = in_branch(&p, &at, &err);
    if (r) {
        locate_release(&p);
        return out_error(&err, r);
    }
    req = session_request("cat");
    session_put_bytes(req, "path", p.rel);
    session_put_bytes(req, "at", at);
    code = session_ask(&p, req, emit_cat, NULL);
    locate_release(&p);
    return code;
}

/* ---- restore ---- */

static int emit_restore(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    char t[40], size[32];

    (void)arg, (void)bin, (void)len;
    if (strcmp(type, "progress") == 0) {
        session_progress(o);
        return 0;
    }
    out_progress_end();
    if (out_json)
        out_object(o);
    if (item_u64(o, "blocked") > 0)
        out_warn("%llu not restored, since what has the place now keeps no history and could not be brought back; the first is %s; move it away, and restore again",
                 (unsigned long long)item_u64(o, "blocked"), item_name(o, "first_blocked"));
    if (out_json)
        return 0;
    out_text("%s: as it was at ", *item_text(o, "to") ? item_name(o, "to") : ".");
    if (*item_text(o, "branch"))
        out_text("the end of the branch %s", item_name(o, "branch"));
    else
        out_text("%s (@%llu)", out_time(item_text(o, "at_time"), t), (unsigned long long)item_u64(o, "at_lsn"));
    out_text(": %llu files, %llu directories, %s; %llu unchanged, %llu removed\n",
             (unsigned long long)item_u64(o, "files"), (unsigned long long)item_u64(o, "directories"),
             out_size(item_u64(o, "done_bytes"), size), (unsigned long long)item_u64(o, "unchanged"),
             (unsigned long long)item_u64(o, "removed"));
    if (item_u64(o, "left") > 0)
        out_text("%llu not removed, since no history is kept of it\n", (unsigned long long)item_u64(o, "left"));
    return 0;
}

int cmd_restore(int argc, char **argv)
{
    enum { AT = OPT_FIRST, TO, EXTRA };
    static const struct option longs[] = {
        { "at", required_argument, NULL, AT }, { "to", required_argument, NULL, TO }, { "delete-extra", no_argument, NULL, EXTRA },
    };
    const char *at = NULL, *to = NULL;
    bool extra = false;
    char *to_rel = NULL;
    struct place p;
    struct err err = { 0 };
    json_t *req;
    int code = 0, o, r;

    while ((o = cli_option(argc, argv, "", longs, 3, &code)) != -1) {
        switch (o) {
        case AT: at = optarg; break;
        case TO: to = optarg; break;
        case EXTRA: extra = true; break;
        default: return code;
        }
    }
    if (argc - optind != 1 || !at)
        return cli_usage("restore", at ? "expected one path, found %d" : "expected a moment (--at TIME); `spare log PATH` lists versions",
                         argc - optind);
    r = locate_path(cli_store, argv[optind], &p, &err);
    if (r == 0 && to)
        r = locate_same(&p, cli_store, to, &to_rel, &err);
    if (r) {
        locate_release(&p);
        return out_error(&err, r);
    }
    req = session_request("restore");
    session_put_bytes(req, "path", p.rel);
    session_put_bytes(req, "at", at);
    session_put_bytes(req, "to", to_rel);
    if (extra)
        json_object_set_new(req, "delete_extra", json_true());
    code = session_ask(&p, req, emit_restore, NULL);
    free(to_rel);
    locate_release(&p);
    return code;
}

/* ---- undo ---- */

static int emit_undo(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    char size[32];

    (void)arg, (void)bin, (void)len;
    if (strcmp(type, "item") != 0)
        return 0;
    if (out_json)
        out_object(o);
    else if (item_true(o, "deleted"))
        out_text("%s: %s; it is not there in this version\n", item_name(o, "path"),
                 item_true(o, "redo") ? "forward a version" : "back a version");
    else
        out_text("%s: %s, %s (@%llu)\n", item_name(o, "path"), item_true(o, "redo") ? "forward a version" : "back a version",
                 out_size(item_u64(o, "size_bytes"), size), (unsigned long long)item_u64(o, "origin_lsn"));
    return 0;
}

int cmd_undo(int argc, char **argv)
{
    static const struct option longs[] = { { "redo", no_argument, NULL, OPT_FIRST } };
    bool redo = false;
    struct place p;
    struct err err = { 0 };
    json_t *req;
    int code = 0, o, r;

    while ((o = cli_option(argc, argv, "", longs, 1, &code)) != -1) {
        if (o != OPT_FIRST)
            return code;
        redo = true;
    }
    if (argc - optind != 1)
        return cli_usage("undo", "expected one path, found %d", argc - optind);
    r = locate_path(cli_store, argv[optind], &p, &err);
    if (r)
        return out_error(&err, r);
    req = session_request("undo");
    session_put_bytes(req, "path", p.rel);
    json_object_set_new(req, "redo", json_boolean(redo));
    code = session_ask(&p, req, emit_undo, NULL);
    locate_release(&p);
    return code;
}
