#include "cli/dr/next.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Where what that step said is kept, if it said anything. */
static bool said(const struct run *r, char path[PATH_MAX + 192])
{
    char *c;

    snprintf(path, PATH_MAX + 192, "%s/out/%s", r->dir, r->stop_step);
    for (c = path + strlen(r->dir) + 5; (c = strchr(c, '/'));)
        *c = '.';
    return r->stop_step[0] && access(path, F_OK) == 0;
}

static void stopped(const struct run *r, char buf[NEXT_TEXT])
{
    char path[PATH_MAX + 192];
    const bool has = said(r, path);

    if (!run_touched(r) && r->kind != RUN_REJOIN)
        snprintf(buf, NEXT_TEXT, "nothing was changed. The same command, with what is asked for, goes on; `spare dr rollback` closes the run");
    else
        snprintf(buf, NEXT_TEXT, "%s%s%swhen that is mended, the same command goes on from there%s%s", has ? "all it said is in " : "", has ? path : "", has ? "; " : "",
                 r->kind == RUN_REJOIN || r->back ? "" : "; `spare dr rollback` goes back to ", r->kind == RUN_REJOIN || r->back ? "" : r->from->h.name);
}

const char *next_text(const struct run *r, char buf[NEXT_TEXT])
{
    const char *from = r->from->h.name;

    buf[0] = '\0';
    if (r->state == RUN_STOPPED)
        stopped(r, buf);
    else if (r->state == RUN_DIRTY)
        snprintf(buf, NEXT_TEXT, "it runs, or was cut off: then the same command goes on with it");
    else if (r->state == RUN_UP && r->kind == RUN_FAILOVER)
        snprintf(buf, NEXT_TEXT, "`spare dr commit` makes this final, or `spare dr rollback` goes back to %s. Once it is final and %s is there again, `spare dr rejoin` makes a standby of it, and says exactly what was lost", from, from);
    else if (r->state == RUN_UP && r->kind == RUN_SWITCHOVER)
        snprintf(buf, NEXT_TEXT, "`spare dr commit` makes this final, or `spare dr rollback` goes back to %s", from);
    else if (r->state == RUN_COMMITTED && r->kind == RUN_FAILOVER)
        snprintf(buf, NEXT_TEXT, "when %s is there again, `spare dr rejoin` makes a standby of it, and says exactly what was lost; `spare dr switchover` then moves back", from);
    else if (r->state == RUN_CLOSED && r->kind == RUN_REJOIN && !r->replaced)
        snprintf(buf, NEXT_TEXT, "`spare dr switchover` moves to %s", r->to->h.name);
    return buf;
}
