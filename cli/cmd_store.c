/* Commands about a store as a whole: init, status, wait, check, version. */
#include "cli/cli.h"
#include "cli/init.h"
#include "cli/role.h"
#include "cli/session.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0.1.0"
#endif

int cmd_version(int argc, char **argv)
{
    int code = 0, o;

    while ((o = cli_option(argc, argv, "", NULL, 0, &code)) != -1)
        if (o == -2)
            return code;
    if (out_json) {
        json_t *j = json_pack("{ss si si}", "version", PACKAGE_VERSION, "format_version", FORMAT_VERSION,
                              "oldest_format_version", FORMAT_VERSION_MIN);

        out_object(j);
        json_decref(j);
    } else {
        out_text("spare %s, store format %d (reads %d and later)\n", PACKAGE_VERSION, FORMAT_VERSION, FORMAT_VERSION_MIN);
    }
    return EXIT_OK;
}

int cmd_init(int argc, char **argv)
{
    enum { TIMEZONE = OPT_FIRST, HISTORY, KEEP };
    static const struct option longs[] = {
        { "timezone", required_argument, NULL, TIMEZONE }, { "history-max", required_argument, NULL, HISTORY },
        { "keep-free", required_argument, NULL, KEEP },
    };
    struct init_choice want = { 0 };
    struct err err = { 0 };
    int code = 0, o, r = 0;
    char a[32], b[32];

    while ((o = cli_option(argc, argv, "", longs, 3, &code)) != -1) {
        switch (o) {
        case TIMEZONE: snprintf(want.timezone, sizeof want.timezone, "%s", optarg); break;
        case HISTORY: r = r ? r : svc_size_parse(optarg, &want.history_max, &err); break;
        case KEEP: r = r ? r : svc_size_parse(optarg, &want.keep_free, &err); break;
        default: return code;
        }
    }
    if (r)
        return out_error(&err, r);
    if (argc - optind != 1)
        return cli_usage("init", "expected the directory of the new store, found %d arguments", argc - optind);
    r = init_store(argv[optind], &want, &err);
    if (r)
        return out_error(&err, r);
    if (out_json) {
        json_t *j = json_object();

        session_put_bytes(j, "store", argv[optind]);
        session_put_bytes(j, "timezone", want.timezone);
        json_object_set_new(j, "history_max_bytes", json_integer((json_int_t)want.history_max));
        json_object_set_new(j, "keep_free_bytes", json_integer((json_int_t)want.keep_free));
        json_object_set_new(j, "format_version", json_integer(FORMAT_VERSION));
        out_object(j);
        json_decref(j);
        return EXIT_OK;
    }
    out_text("%s: new store\n", out_name(argv[optind]));
    out_text("  timezone     %s\n", want.timezone);
    out_text("  history-max  %s (beside what is in the tree; beyond it less of the past is kept)\n", out_size(want.history_max, a));
    out_text("  keep-free    %s (with less, status says Space low, and less of the past is kept)\n", out_size(want.keep_free, b));
    out_text("Next: spare mount %s DIR\n", out_name(argv[optind]));
    return EXIT_OK;
}

/* ---- status ---- */

static void seconds_text(double s, char buf[48])
{
    if (s < 120)
        snprintf(buf, 48, "%.0f s", s);
    else if (s < 2 * 3600)
        snprintf(buf, 48, "%.0f min", s / 60);
    else if (s < 2 * 86400)
        snprintf(buf, 48, "%.1f h", s / 3600);
    else
        snprintf(buf, 48, "%.1f days", s / 86400);
}

/* Whole seconds of an RFC 3339 time in UTC. */
static double epoch_seconds(const char *t)
{
    struct tm tm = { 0 };

    if (sscanf(t, "%d-%d-%dT%d:%d:%d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec) != 6)
        return 0;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    return (double)timegm(&tm);
}

/* "5 s ago" of a time; the seconds since. */
static double seconds_since(const json_t *o, const char *now, const char *key)
{
    const char *t = item_text(o, key);

    return *t ? epoch_seconds(now) - epoch_seconds(t) : 0;
}

/* Why there is no stream just now, and when there will be. */
static void status_trouble(const json_t *o, const char *now)
{
    double next = -seconds_since(o, now, "next_try");

    if (!*item_text(o, "reason"))
        return;
    out_text("            %s", item_name(o, "reason"));
    if (*item_text(o, "next_try"))
        out_text("; tried again in %.0f s", next > 0 ? next : 0);
    out_text("\n");
}

/* What would be lost with this disk: by what each standby acknowledged. */
static void status_standbys(const json_t *o)
{
    const json_t *list = json_object_get(o, "standbys"), *from = json_object_get(o, "receiving"), *fetches = json_object_get(o, "fetches"), *b;
    const char *now = item_text(o, "history_to");
    bool standby = strcmp(item_text(o, "role"), "standby") == 0;
    char a[48], s[48], heard[64];
    size_t i;

    if (standby && from)
        out_text("following   %s behind what the primary last said, heard %.0f s ago\n", out_size(item_u64(from, "behind_bytes"), a), seconds_since(from, now, "heard"));
    else if (strcmp(item_text(o, "role"), "fenced") == 0)
        out_text("fenced      another site became the primary; `spare demote` makes this its standby, `spare promote` takes over again\n");
    else if (standby)
        out_text("following   nobody sends just now; `spare promote` makes this the primary\n");
    if (fetches)
        out_text("from        %s%s\n", item_name(fetches, "source"), item_true(fetches, "paused") ? ": paused" : "");
    if (fetches)
        status_trouble(fetches, now);
    if (!standby && json_array_size(list) == 0)
        out_text("RPO         no standby: this disk is the only copy; %s not yet on it\n", out_size(item_u64(o, "not_yet_durable_bytes"), a));
    json_array_foreach(list, i, b) {
        seconds_text(json_number_value(json_object_get(b, "lag_seconds")), s);
        if (*item_text(b, "heard") && !item_true(b, "connected"))
            snprintf(heard, sizeof heard, "; last heard %.0f s ago", seconds_since(b, now, "heard"));
        else
            heard[0] = '\0';
        out_text("%s%s: %s; behind by %s, %s, %s%llu operations%s%s\n", standby ? "ships to    " : "RPO         ", item_name(b, "target"), item_text(b, "state"), s,
                 out_size(item_u64(b, "lag_bytes"), a), item_true(b, "lag_operations_at_least") ? "at least " : "",
                 (unsigned long long)item_u64(b, "lag_operations"), item_true(b, "stalled") ? "; nothing is acknowledged any more" : "", heard);
        status_trouble(b, now);
    }
}

static void status_lease(const json_t *o)
{
    const json_t *l = json_object_get(o, "lease");
    const char *state = item_text(l, "state");

    if (!l)
        return;
    if (strcmp(state, "out") == 0)
        out_text("lease       out: no change is taken until its standby answers; `spare config set lease=` does without (see to it that nobody promotes that one)\n");
    else
        out_text("lease       %s, of %.0f s%s\n", state, json_number_value(json_object_get(l, "seconds")),
                 strcmp(state, "to come") == 0 ? ": until its standby has acknowledged once it is as if there were none" : "");
}

static int emit_status(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    char a[48], b[48];

    (void)bin, (void)len;
    if (strcmp(type, "item") != 0)
        return 0;
    *(int *)arg = (int)item_u64(o, "exit_code");
    out_text("store       %s\n", item_name(o, "store"));
    out_text("state       %s\n", item_text(o, "state"));
    if (*item_text(o, "damage"))
        out_text("damage      %s\n", item_text(o, "damage"));
    if (*item_text(o, "failure"))
        out_text("failure     %s: nothing more is acknowledged; unmount and mount again\n", item_text(o, "failure"));
    out_text("role        %s, epoch %llu\n", item_text(o, "role"), (unsigned long long)item_u64(o, "epoch"));
    if (role_table_fills(role_epochs_left(o)))
        out_text("epochs      " ROLE_TABLE_FILLS "\n", item_name(o, "store"), (unsigned long long)role_epochs_left(o));
    if (item_u64(o, "promote_unfinished_at_lsn"))
        out_text("tree        not yet the one of @%llu: a promotion to that moment was cut off; spare promote --at @%llu goes on with it\n",
                 (unsigned long long)item_u64(o, "promote_unfinished_at_lsn"), (unsigned long long)item_u64(o, "promote_unfinished_at_lsn"));
    if (item_u64(o, "forked_lsn"))
        out_text("fork        a store of its own since @%llu\n", (unsigned long long)item_u64(o, "forked_lsn"));
    if (*item_text(o, "failed_over_from"))
        out_text("commit      the primary of before can go on as it was left: `spare promote --commit` makes this final; the way back is in spare(1)\n");
    out_text("mounted at  %s\n", *item_text(o, "mounted_at") ? item_name(o, "mounted_at") : "(not mounted)");
    status_lease(o);
    status_standbys(o);
    seconds_text(epoch_seconds(item_text(o, "history_to")) - epoch_seconds(item_text(o, "every_write_from")), b);
    out_text("history     every write since %s, %s", out_time(item_text(o, "every_write_from"), a), b);
    if (item_u64(o, "earlier_moments") > 0)
        out_text("; and %llu moments before", (unsigned long long)item_u64(o, "earlier_moments"));
    out_text("\n");
    out_text("files       %llu objects, %s\n", (unsigned long long)item_u64(o, "objects"), out_size(item_u64(o, "live_bytes"), a));
    out_text("log         %s\n", out_size(item_u64(o, "log_bytes"), a));
    out_text("disk        %s free of ", out_size(item_u64(o, "disk_free_bytes"), a));
    out_text("%s\n", out_size(item_u64(o, "disk_total_bytes"), a));
    return 0;
}

struct merged { json_t *all; };

static int emit_merge(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    struct merged *m = arg;

    (void)bin, (void)len;
    return strcmp(type, "item") == 0 && json_object_update_missing(m->all, (json_t *)(uintptr_t)o) ? ERR_NOMEM : 0;
}

/* --json: status and the counters of info in one object. */
static int status_json(const struct place *p)
{
    struct session *ses = NULL;
    struct merged m = { json_object() };
    struct err err = { 0 };
    int r = session_open(p->store, SESSION_READ, &ses, &err), code;

    if (r == 0)
        r = session_call(ses, session_request("status"), emit_merge, &m, &err);
    if (r == 0)
        r = session_call(ses, session_request("info"), emit_merge, &m, &err);
    if (r == 0)
        out_object(m.all);
    code = (int)item_u64(m.all, "exit_code");
    json_decref(m.all);
    (void)session_close(ses, NULL);
    return r ? out_error(&err, r) : code;
}

/* The one optional STORE argument, or --store. */
int session_place(const char *name, int argc, char **argv, struct place *p, int *code)
{
    struct err err = { 0 };
    int r;

    if (argc - optind > 1 || (argc - optind == 1 && cli_store)) {
        *code = cli_usage(name, "expected one store, found more");
        return ERR_USAGE;
    }
    r = locate_store(optind < argc ? argv[optind] : cli_store, p, &err);
    if (r)
        *code = out_error(&err, r);
    return r;
}

int cmd_status(int argc, char **argv)
{
    struct place p;
    int code = 0, o, standbys = 0;

    while ((o = cli_option(argc, argv, "", NULL, 0, &code)) != -1)
        if (o == -2)
            return code;
    if (session_place("status", argc, argv, &p, &code))
        return code;
    code = out_json ? status_json(&p) : session_ask(&p, session_request("status"), emit_status, &standbys);
    code = code ? code : standbys;
    locate_release(&p);
    return code;
}

/* ---- wait ---- */

static int emit_wait(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    (void)arg, (void)bin, (void)len;
    if (strcmp(type, "item") == 0 && out_json)
        out_object(o);
    return 0;
}

/* With -o writeback the kernel may hold what was written: first it has to reach the mount. */
static void push_pages(const struct place *p, const char *path)
{
    int fd = p->mount ? open(path ? path : p->mount, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1;

    if (fd >= 0) {
        (void)syncfs(fd);
        close(fd);
    }
}

int cmd_wait(int argc, char **argv)
{
    enum { APPLIED = OPT_FIRST, ON, TIMEOUT };
    static const struct option longs[] = {
        { "applied", no_argument, NULL, APPLIED }, { "on", required_argument, NULL, ON }, { "timeout", required_argument, NULL, TIMEOUT },
    };
    const char *until = "durable", *on = NULL;
    double timeout_s = 0;
    char *end = NULL, *target = NULL;
    struct place p;
    struct err err = { 0 };
    json_t *req;
    int code = 0, o, r;

    while ((o = cli_option(argc, argv, "", longs, 3, &code)) != -1) {
        switch (o) {
        case APPLIED: until = "applied"; break;
        case ON:
            on = optarg;
            break;
        case TIMEOUT:
            timeout_s = strtod(optarg, &end);
            if (end == optarg || *end || !(timeout_s > 0) || timeout_s > 1e9)
                return cli_usage("wait", "--timeout: expected seconds above 0, found %s", optarg);
            break;
        default: return code;
        }
    }
    if (timeout_s > 0 && !on)
        return cli_usage("wait", "--timeout goes with --on");
    if (argc - optind > 1)
        return cli_usage("wait", "expected one path, found more");
    /* A path, or a store itself. */
    r = optind < argc && !cli_store && locate_is_store(argv[optind]) ? locate_store(argv[optind], &p, &err)
        : optind < argc || cli_store ? locate_path(cli_store, optind < argc ? argv[optind] : NULL, &p, &err) : locate_store(NULL, &p, &err);
    if (r)
        return out_error(&err, r);
    /* A directory is known by its whole path. */
    if (on && strcmp(on, "standby") != 0 && !strchr(on, ':'))
        on = target = locate_absolute(on, &err);
    req = session_request("wait");
    session_put_bytes(req, "until", until);
    session_put_bytes(req, "on", on);
    push_pages(&p, optind < argc ? argv[optind] : NULL);
    if (timeout_s > 0)
        json_object_set_new(req, "timeout_ms", json_integer((json_int_t)(timeout_s * 1000)));
    code = session_ask(&p, req, emit_wait, NULL);
    locate_release(&p);
    free(target);
    return code;
}

/* ---- check ---- */

static int emit_check(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    const char *kind = item_text(o, "kind");

    (void)arg, (void)bin, (void)len;
    if (out_interrupted)
        return ERR_INTR;
    if (strcmp(type, "progress") == 0) {
        session_progress(o);
        return 0;
    }
    out_progress_end();
    if (out_json)
        out_object(o);
    else if (strcmp(kind, "finding") == 0)
        out_text("DAMAGE  %s\n", item_name(o, "message"));
    else if (strcmp(kind, "looked_at") == 0)
        out_text("%10llu  %s\n", (unsigned long long)item_u64(o, "count"), item_text(o, "what"));
    else if (item_u64(o, "findings") == 0)
        out_text("No damage found%s.\n", item_true(o, "data_read") ? "" : "; file data was not read (--read-data)");
    else
        out_text("%llu places are damaged.\n", (unsigned long long)item_u64(o, "findings"));
    return 0;
}

/* A store that does not open without being recovered or repaired: whatever can be looked at. */
static int check_closed(const struct place *p, bool read_data, const struct err *why)
{
    struct io *io = NULL;
    struct err err = { 0 };
    int r = io_posix_new(p->store, &io, &err);

    if (r)
        return out_error(&err, r);
    if (why->code != ERR_ROFS && why->code != ERR_NOENT)
        out_message("%s", why->msg);
    r = svc_check_closed(io, p->store, read_data, emit_check, NULL, &err);
    io->ops->free(io);
    if (r)
        return out_error(&err, r);
    /* It did not open for damage: that is damage, even if what could be read is whole. */
    if (why->code != ERR_ROFS && why->code != ERR_NOENT)
        return out_error(why, why->code);
    out_warn("%s: expected a store that was closed cleanly, found one that was not: the index was not looked at. Mount it once (or "
             "`spare status`), which recovers it, then check again", p->store);
    return EXIT_OK;
}

int cmd_check(int argc, char **argv)
{
    static const struct option longs[] = { { "read-data", no_argument, NULL, OPT_FIRST } };
    bool read_data = false;
    struct place p;
    struct session *ses = NULL;
    struct err err = { 0 };
    json_t *req;
    int code = 0, o, r;

    while ((o = cli_option(argc, argv, "", longs, 1, &code)) != -1) {
        if (o != OPT_FIRST)
            return code;
        read_data = true;
    }
    if (session_place("check", argc, argv, &p, &code))
        return code;
    r = session_open(p.store, SESSION_LOOK, &ses, &err);
    if (err_exit(r) == err_exit(ERR_DAMAGE) || r == ERR_IO || r == ERR_ROFS || r == ERR_NOENT) {
        code = check_closed(&p, read_data, &err);
        goto out;
    }
    if (r == 0) {
        req = session_request("check");
        json_object_set_new(req, "read_data", json_boolean(read_data));
        r = session_call(ses, req, emit_check, NULL, &err);
    }
    code = r ? out_error(&err, r) : EXIT_OK;
    (void)session_close(ses, NULL);
out:
    locate_release(&p);
    return code;
}
