/* cmd_diff.c: what changed, and where things were: diff, find. */
#include "cli/cli.h"
#include "cli/session.h"
#include "store/svc/wire.h"

#include <stdlib.h>
#include <string.h>

/* ---- diff ---- */

struct wanted { struct place *p; int n; };

static bool below(const struct wanted *w, const json_t *o, const char *key)
{
    char *path = NULL;
    bool yes = false;

    if (json_object_get(o, key) == NULL && strcmp(key, "old_path") == 0)
        return false;
    if (wire_get_bytes(o, key, &path, NULL) < 0 || path == NULL)
        return true;                     /* rather one too many */
    for (int i = 0; i < w->n && !yes; i++) {
        size_t n = strlen(w->p[i].rel);

        yes = strncmp(path, w->p[i].rel, n) == 0 && (n == 0 || path[n] == '/' || path[n] == '\0');
    }
    free(path);
    return yes;
}

static int emit_change(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    const struct wanted *w = arg;
    const char *change = item_text(o, "change");
    char a[32], b[32];

    (void)bin, (void)len;
    if (out_interrupted)
        return ERR_INTR;
    if (strcmp(type, "item") != 0 || (!below(w, o, "path") && !below(w, o, "old_path")))
        return 0;
    if (out_json)
        out_object(o);
    else if (strcmp(change, "renamed") == 0) {
        out_text("R  %s -> ", item_name(o, "old_path"));
        out_text("%s\n", item_name(o, "path"));
    } else if (strcmp(change, "content") == 0)
        out_text("M  %s  (%s -> %s)\n", item_name(o, "path"), out_size(item_u64(o, "size_before_bytes"), a), out_size(item_u64(o, "size_after_bytes"), b));
    else
        out_text("%s  %s%s\n", strcmp(change, "added") == 0 ? "+" : strcmp(change, "removed") == 0 ? "-" : "m", item_name(o, "path"),
                 strcmp(item_text(o, "type"), "directory") == 0 ? "/" : "");
    return 0;
}

int cmd_diff(int argc, char **argv)
{
    static const struct option longs[] = { { "from", required_argument, NULL, OPT_FIRST }, { "to", required_argument, NULL, OPT_FIRST + 1 } };
    const char *from = NULL, *to = NULL;
    struct wanted w = { 0 };
    struct err err = { 0 };
    json_t *req;
    int code = 0, o, r = 0, n;

    while ((o = cli_option(argc, argv, "", longs, 2, &code)) != -1) {
        if (o == -2)
            return code;
        *(o == OPT_FIRST ? &from : &to) = optarg;
    }
    n = argc - optind > 0 ? argc - optind : 1;
    w.p = calloc((size_t)n, sizeof *w.p);
    if (w.p == NULL)
        return out_error(&err, err_set(&err, ERR_NOMEM, "diff: out of memory"));
    for (; w.n < n && r == 0; w.n += r == 0)
        r = locate_path(cli_store, optind < argc ? argv[optind + w.n] : NULL, &w.p[w.n], &err);
    for (int i = 1; i < w.n && r == 0; i++)
        if (strcmp(w.p[i].store, w.p[0].store) != 0)
            r = err_set(&err, ERR_USAGE, "%s: expected a path in the store of the first one, %s, found one in %s", argv[optind + i], w.p[0].store, w.p[i].store);
    if (r == 0) {
        req = session_request("diff");
        session_put_bytes(req, "from", from);
        session_put_bytes(req, "to", to);
        code = session_ask(&w.p[0], req, emit_change, &w);
    } else {
        code = out_error(&err, r);
    }
    for (int i = 0; i < w.n; i++)
        locate_release(&w.p[i]);
    free(w.p);
    return code;
}

/* ---- find ---- */

static int emit_name(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    char when[40];

    (void)arg, (void)bin, (void)len;
    if (out_interrupted)
        return ERR_INTR;
    if (strcmp(type, "item") != 0)
        return 0;
    if (out_json) {
        out_object(o);
        return 0;
    }
    out_text("%s", item_name(o, "path"));
    if (item_true(o, "deleted"))
        out_text("  gone %s, there at @%llu", out_time(item_text(o, "gone"), when), (unsigned long long)item_u64(o, "at_lsn"));
    if (json_object_get(o, "moved_to"))
        out_text("; now %s", item_name(o, "moved_to"));
    out_text("\n");
    return 0;
}

int cmd_find(int argc, char **argv)
{
    static const struct option longs[] = { { "deleted", no_argument, NULL, OPT_FIRST } };
    bool deleted = false;
    struct place p;
    struct err err = { 0 };
    json_t *req;
    int code = 0, o, r;

    while ((o = cli_option(argc, argv, "", longs, 1, &code)) != -1) {
        if (o != OPT_FIRST)
            return code;
        deleted = true;
    }
    if (argc - optind != 1)
        return cli_usage("find", "expected one pattern, found %d", argc - optind);
    r = locate_store(cli_store, &p, &err);
    if (r)
        return out_error(&err, r);
    req = session_request("find");
    session_put_bytes(req, "pattern", argv[optind]);
    json_object_set_new(req, "deleted", json_boolean(deleted));
    code = session_ask(&p, req, emit_name, NULL);
    locate_release(&p);
    return code;
}
