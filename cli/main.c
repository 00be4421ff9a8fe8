/* main.c: from argv to a command. */
#include "cli/cli.h"

#include <locale.h>
#include <string.h>

/* --json counts wherever it stands, also for errors in what precedes it. */
static void look_for_json(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--json") == 0)
            out_json = true;
}

/* mount(8) runs /sbin/mount.fuse.spare: a link to this program. umount(8) needs nothing of ours. */
static const struct command *as_helper(const char *name)
{
    const char *base = strrchr(name, '/');

    return strcmp(base ? base + 1 : name, "mount.fuse.spare") == 0 ? cli_find("mount") : NULL;
}

int main(int argc, char **argv)
{
    const struct command *c;
    struct err err = { 0 };
    int first = 1;

    setlocale(LC_CTYPE, "");
    out_init();
    look_for_json(argc, argv);
    c = as_helper(argv[0]);
    if (c) {
        argv[0] = (char *)(uintptr_t)c->name;
        return out_finish(c->run(argc, argv));
    }
    while (first < argc && strcmp(argv[first], "--json") == 0)
        first++;
    if (first >= argc) {
        err_set(&err, ERR_USAGE, "expected a command, found none; `spare help` lists them");
        return out_error(&err, ERR_USAGE);
    }
    if (strcmp(argv[first], "--help") == 0 || strcmp(argv[first], "-h") == 0)
        c = cli_find("help");
    else if (strcmp(argv[first], "--version") == 0)
        c = cli_find("version");
    else
        c = cli_find(argv[first]);
    if (!c) {
        err_set(&err, ERR_USAGE, "%s: no such command; `spare help` lists them", argv[first]);
        return out_error(&err, ERR_USAGE);
    }
    optind = 1;
    return out_finish(c->run(argc - first, argv + first));
}
