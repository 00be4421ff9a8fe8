/* cmd_reclaim.c: giving space back. */
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
    return 0;
}

int cmd_reclaim(int argc, char **argv)
{
    static const struct option longs[] = { { "now", no_argument, NULL, OPT_FIRST } };
    bool now = false;
    struct place p;
    json_t *req;
    int code = 0, o;

    while ((o = cli_option(argc, argv, "", longs, 1, &code)) != -1) {
        if (o != OPT_FIRST)
            return code;
        now = true;
    }
    if (session_place("reclaim", argc, argv, &p, &code))
        return code;
    req = session_request("reclaim");
    json_object_set_new(req, "now", json_boolean(now));
    code = session_ask(&p, req, emit_reclaim, NULL);
    locate_release(&p);
    return code;
}
