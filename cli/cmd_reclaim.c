/* cmd_reclaim.c: giving space back, and what uses it: reclaim, space. */
#include "cli/cli.h"
#include "cli/session.h"

#include <string.h>

static int emit_reclaim(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    char was[32], now[32], records[32];

    (void)arg, (void)bin, (void)len;
    if (out_interrupted)
        return ERR_INTR;
    if (strcmp(type, "progress") == 0) {
        session_progress(o);
        return 0;
    }
    out_progress_end();
    if (out_json) {
        out_object(o);
        return 0;
    }
    if (item_u64(o, "records") == 0)
        out_text("Nothing to pack.\n");
    else
        out_text("Packed %llu operations with %s of data: %s, and %s for what they were.\n", (unsigned long long)item_u64(o, "records"),
                 out_size(item_u64(o, "data_bytes"), was), out_size(item_u64(o, "pack_bytes"), now),
                 out_size(item_u64(o, "archive_bytes"), records));
    if (item_u64(o, "rows_gone") == 0 && item_u64(o, "packs_gone") == 0)
        out_text("Nothing to let go of: every moment that is kept needs what there is.\n");
    else
        out_text("Let go of %llu of %llu rows of the past; packs were %s, are %s.\n", (unsigned long long)item_u64(o, "rows_gone"),
                 (unsigned long long)item_u64(o, "rows"), out_size(item_u64(o, "packs_bytes_before"), was), out_size(item_u64(o, "packs_bytes_after"), now));
    if (item_u64(o, "base_bytes") > 0)
        out_text("Let go of %s of records; a base of %s has what they made.\n", out_size(item_u64(o, "archive_bytes_gone"), was),
                 out_size(item_u64(o, "base_bytes"), now));
    return 0;
}

int cmd_reclaim(int argc, char **argv)
{
    return session_flagged(argc, argv, "reclaim", "now", emit_reclaim);
}

/* ---- space ---- */

static int emit_space(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    static const struct { const char *key, *what; } rows[] = {
        { "packs_present_bytes", "packs: what is in the tree today" }, { "packs_past_bytes", "packs: what only the past needs" },
        { "packs_leaving_bytes", "packs: what no listed moment needs; reclaim gives it back" }, { "packs_tables_bytes", "packs: what leads to it" },
        { "log_bytes", "log: not packed yet, and room for what comes" }, { "archive_bytes", "archive: what was done" }, { "index_bytes", "index" },
        { "reserve_bytes", "held back for a full disk" }, { "other_bytes", "the rest" }, { "total_bytes", "in all" } };
    const char *kind = item_text(o, "kind");
    char a[32], b[32], when[40];
    double keep;

    (void)arg, (void)bin, (void)len;
    if (out_interrupted)
        return ERR_INTR;
    if (strcmp(type, "progress") == 0) {
        session_progress(o);
        return 0;
    }
    out_progress_end();
    if (out_json) {
        out_object(o);
    } else if (strcmp(kind, "store") == 0) {
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
            out_text("%12s  %s\n", out_size(item_u64(o, rows[i].key), a), rows[i].what);
        if (item_u64(o, "linked_bytes"))
            out_text("%12s  of these: files that a fork or a branch has, too; they give nothing back before all who have them are gone\n", out_size(item_u64(o, "linked_bytes"), a));
        if (item_u64(o, "forks_bytes"))
            out_text("%12s  beside these: forks and branches inside, what they alone have; `spare fork remove`, `spare branch remove` give it back\n", out_size(item_u64(o, "forks_bytes"), a));
    } else if (strcmp(kind, "path") == 0) {
        out_text("%s: %llu objects, then and now. Packs hold %s for it alone, and %s that others need, too.\n", item_name(o, "path"),
                 (unsigned long long)item_u64(o, "objects"), out_size(item_u64(o, "alone_bytes"), a), out_size(item_u64(o, "shared_bytes"), b));
    } else if (item_true(o, "enough")) {
        keep = json_real_value(json_object_get(o, "keep_all_seconds"));
        out_text("Letting go of all before %s (@%llu), but for snapshots and holds, frees %s: as with keep-all=%.0fm and no keep-hourly ... keep-yearly.\n",
                 out_time(item_text(o, "before"), when), (unsigned long long)item_u64(o, "before_lsn"), out_size(item_u64(o, "frees_bytes"), a), keep / 60);
    } else {
        out_text("The past alone does not free %s: letting go of all of it, but for snapshots and holds, frees %s.\n", out_size(item_u64(o, "asked_bytes"), b),
                 out_size(item_u64(o, "frees_bytes"), a));
    }
    return 0;
}

int cmd_space(int argc, char **argv)
{
    static const struct option longs[] = { { "free", required_argument, NULL, OPT_FIRST } };
    struct place p;
    struct err err = { 0 };
    uint64_t bytes = 0;
    json_t *req;
    int code = 0, o, r = 0;

    while ((o = cli_option(argc, argv, "", longs, 1, &code)) != -1) {
        if (o != OPT_FIRST)
            return code;
        r = svc_size_parse(optarg, &bytes, &err);
        if (r)
            return out_error(&err, r);
    }
    if (argc - optind > 1)
        return cli_usage("space", "expected one STORE or PATH, found %d", argc - optind);
    r = optind == argc || locate_is_store(argv[optind]) ? locate_store(optind < argc ? argv[optind] : cli_store, &p, &err)
                                                       : locate_path(cli_store, argv[optind], &p, &err);
    if (r)
        return out_error(&err, r);
    req = session_request("space");
    session_put_bytes(req, "path", optind < argc ? p.rel : NULL);
    json_object_set_new(req, "free", json_integer((json_int_t)bytes));
    code = session_ask(&p, req, emit_space, NULL);
    locate_release(&p);
    return code;
}
