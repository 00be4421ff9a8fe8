/*
 * cli.h: the command table. A command is one function in the file of its family (cmd_FAMILY.c).
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "cli/out.h"
#include "store/base/err.h"

#include <getopt.h>

/* Options every command takes: --json, --help; many: --store. Numbers above any character. */
enum { OPT_JSON = 1000, OPT_HELP, OPT_STORE, OPT_FIRST };

/*
 * A command: argc/argv without the program's name, argv[0] is the command. Returns the exit code. What it prints goes
 * through out.h.
 */
struct command {
    const char *name;
    const char *args;           /* as in `spare help` */
    const char *summary;
    const char *help;           /* options, one a line; "" */
    int (*run)(int argc, char **argv);
};

extern const struct command commands[];
extern const unsigned n_commands;

/* X(name): one function each. */
#define CLI_COMMANDS(X) \
    X(init) X(mount) X(umount) X(import) X(status) X(snapshot) X(log) X(diff) X(find) X(cat) X(restore) X(undo) X(wait) X(config) \
    X(branch) X(fork) X(sync) X(standby) X(serve) X(promote) X(demote) X(switchover) X(upgrade) X(retain) X(reclaim) X(space) X(rebuild_index) X(check) X(scrub) X(dump) X(dr) X(version) X(help)
#define X(name) int cmd_##name(int argc, char **argv);
CLI_COMMANDS(X)
#undef X

/*
 * cli_option(argc, argv, short, long, n_long, exit_code):
 * One step of parsing options: as getopt_long with ${long} (n_long of them, no terminator) and the common ones. --json and
 * --help are taken care of. Returns the option, -1 at the end (optind is the first argument), or -2: the command is over,
 * *exit_code says how (help, or an unknown option: 2).
 */
int cli_option(int argc, char **argv, const char *short_opts, const struct option *long_opts, unsigned n_long, int *exit_code);

/* cli_find(name): a command of the table, or NULL. */
const struct command *cli_find(const char *name);

/* cli_usage(argv0, fmt, ...): a wrong command line: message, the command's form, exit code 2. */
int cli_usage(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* cli_store: the value of --store of the command being parsed, or NULL. */
extern const char *cli_store;

#endif
