/* cmd_scrub.c: spare scrub. */
#include "cli/cli.h"
#include "cli/session.h"

#include <string.h>

static int emit_scrub(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    char size[32];

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
    else if (strcmp(item_text(o, "kind"), "finding") == 0)
        out_text("DAMAGE  %s\n", item_name(o, "message"));
    else if (item_u64(o, "damaged") == 0)
        out_text("Read %s of data, @%llu to @%llu: no damage found.\n", out_size(item_u64(o, "bytes"), size), (unsigned long long)item_u64(o, "from_lsn"),
                 (unsigned long long)item_u64(o, "to_lsn"));
    else
        out_text("Read %s of data, @%llu to @%llu: %llu places were damaged, %llu of them are healed.\n", out_size(item_u64(o, "bytes"), size),
                 (unsigned long long)item_u64(o, "from_lsn"), (unsigned long long)item_u64(o, "to_lsn"), (unsigned long long)item_u64(o, "damaged"),
                 (unsigned long long)item_u64(o, "healed"));
    return 0;
}

int cmd_scrub(int argc, char **argv)
{
    static const struct option longs[] = { { "again", no_argument, NULL, OPT_FIRST }, { "close-gaps", no_argument, NULL, OPT_FIRST + 1 } };
    bool again = false, close_gaps = false;
    struct place p;
    json_t *req;
    int code = 0, o;

    while ((o = cli_option(argc, argv, "", longs, 2, &code)) != -1) {
        if (o != OPT_FIRST && o != OPT_FIRST + 1)
            return code;
        again |= o == OPT_FIRST;
        close_gaps |= o == OPT_FIRST + 1;
    }
    if (session_place("scrub", argc, argv, &p, &code))
        return code;
    req = session_request("scrub");
    json_object_set_new(req, "again", json_boolean(again));
    json_object_set_new(req, "close_gaps", json_boolean(close_gaps));
    code = session_ask(&p, req, emit_scrub, NULL);
    locate_release(&p);
    return code;
}
