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
    return session_flagged(argc, argv, "scrub", "again", emit_scrub);
}
