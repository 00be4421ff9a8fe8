/* cmd_config.c: the settings of a store, and what it keeps of the past by them: config, retain. */
#include "cli/cli.h"
#include "cli/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- config ---- */

static int emit_setting(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    const char *value = item_text(o, "value");
    char size[32] = "";

    (void)arg, (void)bin, (void)len;
    if (strcmp(type, "item") != 0)
        return 0;
    if (out_json) {
        out_object(o);
        return 0;
    }
    if (strcmp(item_text(o, "unit"), "bytes") == 0 && *value)
        out_size(strtoull(value, NULL, 10), size);
    out_text("%-12s %-14s %s%s%s%s\n", item_text(o, "name"), *value ? value : "-", *size ? size : "", *size ? "; " : "",
             item_text(o, "text"), item_true(o, "set") ? "" : " (default)");
    return 0;
}

static int config_set(const struct place *p, int n, char **pairs)
{
    struct session *ses = NULL;
    struct err err = { 0 };
    int r = session_open(p->store, SESSION_WRITE, &ses, &err);

    for (int i = 0; i < n && r == 0; i++) {
        char *eq = strchr(pairs[i], '=');
        json_t *req = session_request("config_set");

        *eq = '\0';
        session_put_bytes(req, "name", pairs[i]);
        session_put_bytes(req, "value", eq[1] ? eq + 1 : NULL);
        r = session_call(ses, req, emit_setting, NULL, &err);
    }
    r = session_end(ses, r, &err);
    return r ? out_error(&err, r) : EXIT_OK;
}

/* What is left of the command line is NAME=VALUE only. */
static int check_pairs(const char *command, int argc, char **argv)
{
    for (int i = optind; i < argc; i++)
        if (!strchr(argv[i], '='))
            return cli_usage(command, "expected NAME=VALUE, found %s", argv[i]);
    return EXIT_OK;
}

int cmd_config(int argc, char **argv)
{
    struct place p;
    struct err err = { 0 };
    const char *verb, *store;
    int code = 0, o, r;

    while ((o = cli_option(argc, argv, "", NULL, 0, &code)) != -1)
        if (o == -2)
            return code;
    verb = optind < argc ? argv[optind++] : "show";
    store = cli_store;
    if (optind < argc && !strchr(argv[optind], '='))
        store = argv[optind++];
    if (strcmp(verb, "show") != 0 && strcmp(verb, "set") != 0)
        return cli_usage("config", "expected show or set, found %s", verb);
    if ((*verb == 's' && verb[1] == 'h') != (optind == argc))
        return cli_usage("config", optind == argc ? "expected NAME=VALUE" : "show takes no settings");
    code = check_pairs("config", argc, argv);
    if (code)
        return code;
    r = locate_store(store, &p, &err);
    if (r)
        return out_error(&err, r);
    code = optind == argc ? session_ask(&p, session_request("config"), emit_setting, NULL)
                          : config_set(&p, argc - optind, argv + optind);
    locate_release(&p);
    return code;
}

/* ---- retain ---- */

static bool is_retention(const char *name)
{
    return strncmp(name, "keep-", 5) == 0 ? strcmp(name, "keep-free") != 0 : strcmp(name, "min-age") == 0 || strcmp(name, "reclaim-grace") == 0 || strcmp(name, "nohistory") == 0;
}

static int emit_retention(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    return is_retention(item_text(o, "name")) ? emit_setting(arg, type, o, bin, len) : 0;
}

static const char *duration_text(double s, char buf[32])
{
    if (s >= 2 * 86400)
        snprintf(buf, 32, "%.0f days", s / 86400);
    else if (s >= 2 * 3600)
        snprintf(buf, 32, "%.0f hours", s / 3600);
    else
        snprintf(buf, 32, "%.0f minutes", s / 60 + 1);
    return buf;
}

static void reasons_text(const json_t *o)
{
    const json_t *why = json_object_get(o, "reasons");
    size_t i;
    json_t *w;

    json_array_foreach(why, i, w)
        out_text("%s%s", i > 0 ? ", " : "", json_string_value(w));
}

static int emit_plan(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    const char *kind = item_text(o, "kind"), *state = item_text(o, "state");
    char when[40], size[32];

    (void)arg, (void)bin, (void)len;
    if (out_interrupted)
        return ERR_INTR;
    if (strcmp(type, "item") != 0)
        return 0;
    if (out_json) {
        out_object(o);
        return 0;
    }
    if (strcmp(kind, "moment") == 0) {
        out_text("%-18s @%-12llu %-8s ", out_time(item_text(o, "time"), when), (unsigned long long)item_u64(o, "lsn"), state);
        reasons_text(o);
        if (strcmp(state, "leaving") == 0)
            out_text("not listed any more; can be brought back for %s", duration_text(json_real_value(json_object_get(o, "leaves_in_seconds")), size));
        out_text("\n");
        return 0;
    }
    out_text("Every moment from %s (@%llu) on is kept", out_time(item_text(o, "all_from"), when), (unsigned long long)item_u64(o, "all_from_lsn"));
    if (item_u64(o, "held_by_standby_lsn") > 0)
        out_text("; a standby that is away holds back what it has not got, from @%llu on", (unsigned long long)item_u64(o, "held_by_standby_lsn"));
    out_text(".\n");
    if (json_object_get(o, "would_free_bytes"))
        out_text("When all that is not kept is gone, packs give back %s", out_size(item_u64(o, "would_free_bytes"), size));
    if (json_object_get(o, "would_free_bytes"))
        out_text(" of %s.\n", out_size(item_u64(o, "packs_bytes"), size));
    return 0;
}

/* NAME=VALUE... of the command line as an object. */
static json_t *pairs(int n, char **v)
{
    json_t *o = json_object();

    for (int i = 0; i < n; i++) {
        char name[64];
        const char *eq = strchr(v[i], '=');

        snprintf(name, sizeof name, "%.*s", (int)(eq - v[i] < 63 ? eq - v[i] : 63), v[i]);
        json_object_set_new(o, name, json_string(eq + 1));
    }
    return o;
}

int cmd_retain(int argc, char **argv)
{
    struct place p;
    struct err err = { 0 };
    const char *verb, *store = cli_store;
    json_t *req;
    int code = 0, o, r;

    while ((o = cli_option(argc, argv, "", NULL, 0, &code)) != -1)
        if (o == -2)
            return code;
    verb = optind < argc ? argv[optind++] : "show";
    store = cli_store;
    if (optind < argc && !strchr(argv[optind], '='))
        store = argv[optind++];
    if (strcmp(verb, "show") != 0 && strcmp(verb, "set") != 0 && strcmp(verb, "plan") != 0)
        return cli_usage("retain", "expected show, set or plan, found %s", verb);
    code = check_pairs("retain", argc, argv);
    if (code)
        return code;
    if (strcmp(verb, "set") == 0 ? optind == argc : strcmp(verb, "show") == 0 && optind < argc)
        return cli_usage("retain", optind == argc ? "expected NAME=VALUE" : "show takes no settings");
    r = locate_store(store, &p, &err);
    if (r)
        return out_error(&err, r);
    if (strcmp(verb, "show") == 0) {
        code = session_ask(&p, session_request("config"), emit_retention, NULL);
    } else if (strcmp(verb, "set") == 0) {
        code = config_set(&p, argc - optind, argv + optind);
    } else {
        req = session_request("retain");
        if (optind < argc)
            json_object_set_new(req, "policy", pairs(argc - optind, argv + optind));
        json_object_set_new(req, "measure", json_true());
        code = session_ask(&p, req, emit_plan, NULL);
    }
    locate_release(&p);
    return code;
}
