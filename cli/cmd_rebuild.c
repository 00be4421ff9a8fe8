/* cmd_rebuild.c: rebuild-index: what can be lost, made anew from what cannot. */
#include "cli/cli.h"
#include "cli/session.h"
#include "store/index/index.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void told(const char *store, const struct store_info *info, double took)
{
    json_t *o;

    if (!out_json) {
        out_text("%s: the index is made anew, up to @%llu: %llu files and directories, in %.1f s\n", out_name(store), (unsigned long long)info->applied,
                 (unsigned long long)info->n_inodes, took);
        return;
    }
    o = json_object();
    session_put_bytes(o, "store", store);
    json_object_set_new(o, "applied_lsn", json_integer((json_int_t)info->applied));
    json_object_set_new(o, "objects", json_integer((json_int_t)info->n_inodes));
    json_object_set_new(o, "took_seconds", json_real(took));
    out_object(o);
    json_decref(o);
}

int cmd_rebuild_index(int argc, char **argv)
{
    struct place p;
    struct err err = { 0 };
    struct store *s = NULL;
    struct store_info info;
    struct io *io = NULL;
    char old[4200];
    double began = now_s();
    int code = 0, o, r;

    while ((o = cli_option(argc, argv, "", NULL, 0, &code)) != -1)
        if (o == -2)
            return code;
    if (session_place("rebuild-index", argc, argv, &p, &code))
        return code;
    r = session_rebuild_here(p.store, &s, &io, &err);
    if (r == 0) {
        store_info(s, &info);
        r = store_close(s, &err);
        io->ops->free(io);
        snprintf(old, sizeof old, "%s/" INDEX_REPLACED, p.store);
        (void)rmdir(old);                /* empty by now; it does no harm */
    }
    if (r == ERR_LOCKED || r == ERR_BUSY)
        err_set(&err, r, "%s: expected a store that nobody has open, found it in use; unmount it first", p.store);
    if (r)
        code = out_error(&err, r);
    else
        told(p.store, &info, now_s() - began);
    locate_release(&p);
    return code;
}
