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
    if (out_json)
        out_object(o);
    else if (item_u64(o, "records") == 0)
        out_text("Nothing to pack.\n");
    else
        out_text("Packed %llu operations with %s of data: %s, and %s for what they were.\n", (unsigned long long)item_u64(o, "records"),
                 out_size(item_u64(o, "data_bytes"), was), out_size(item_u64(o, "pack_bytes"), now),
                 out_size(item_u64(o, "archive_bytes"), records));
    return 0;
}

int cmd_reclaim(int argc, char **argv)
{
    struct place p;
    int code = 0, o;

    while ((o = cli_option(argc, argv, "", NULL, 0, &code)) != -1)
        if (o == -2)
            return code;
    if (session_place("reclaim", argc, argv, &p, &code))
        return code;
    code = session_ask(&p, session_request("reclaim"), emit_reclaim, NULL);
    locate_release(&p);
    return code;
}
