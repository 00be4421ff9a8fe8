/* command.c: the command table, help, and what parses options. */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const struct command commands[] = {
    { "init", "STORE", "make a store; prints the limits it chose",
      "  --timezone ZONE      for local times and day boundaries; this machine's by default\n"
      "  --history-max SIZE   bound of history; half of what is free by default\n"
      "  --keep-free SIZE     disk space to leave free; 10 %, at most 50 GiB, by default\n", cmd_init },
    { "mount", "STORE DIR [-f] [-o OPTIONS]", "mount a store at an empty directory",
      "  -f, --foreground     stay in the foreground\n"
      "  -o OPTIONS           ro, allow_other, past=owner|all|off, snapdir=NAME, writeback, fsync=ordered, memory=SIZE...\n"
      "  --moved, --copied    the store lies elsewhere now: the same one, as it was; or a copy, which becomes a store of its own and ships to nobody\n", cmd_mount },
    { "umount", "DIR", "unmount; when busy, names the processes that hold it",
      "  --when-free          wait until nobody holds it\n"
      "  --lazy               take it out of the tree at once, even if held\n", cmd_umount },
    { "upgrade", "DIR", "go on serving a mount as this program: the mount stays, and what is open in it", "", cmd_upgrade },
    { "import", "DIR [STORE]", "move an existing directory in, verified; nothing of it is deleted",
      "  STORE                the store to make, or to go on with; ~/.local/share/spare/NAME by default\n", cmd_import },
    { "status", "[STORE]", "state, history, space",
      "  Exit code: 0; 20, 22, 24 of the worst standby, or of this store where it is fenced or without its lease\n", cmd_status },
    { "snapshot", "create|list|delete|hold|release [NAME]", "names for moments",
      "  create NAME [--at TIME] [--reason TEXT]    name the present, or a past moment\n"
      "  list                                       all of them\n"
      "  delete NAME                                the name goes; a held one does not\n"
      "  hold NAME --reason TEXT [--until TIME]     keep it against everything\n"
      "  release NAME                               end of a hold\n"
      "  --store STORE                              the store; by default that of the current directory\n", cmd_snapshot },
    { "log", "[PATH]", "versions of a name; of a directory: changes below it, newest first",
      "  --follow             follow the file through renames\n"
      "  --every-write        every state, not only the end of each burst of writes\n"
      "  -n, --limit N        at most so many (a directory: 1000 by default)\n"
      "  --from TIME, --to TIME\n"
      "  --store STORE        PATH counts from the root of this store, mounted or not\n", cmd_log },
    { "diff", "[--from T] [--to T] [PATH...]", "what changed between two moments",
      "  --from T             default: a day ago, or the beginning\n"
      "  --to T               default: now\n"
      "  Lines: + came, - went, M other content, m other mode, owner or attributes, R renamed\n", cmd_diff },
    { "find", "PATTERN [--deleted]", "names by a shell pattern; also those that are gone",
      "  --deleted            names that are gone: where they were, when they went, and a moment that has them\n"
      "  --store STORE        the store\n", cmd_find },
    { "cat", "PATH [--at TIME]", "the content of a file, as it was then",
      "  --at TIME            a moment: 5m, \"yesterday 14:00\", 2026-11-22T10:15:03Z, @LSN, a snapshot; or @NAME, a branch\n"
      "  --store STORE        PATH counts from the root of this store, mounted or not\n", cmd_cat },
    { "restore", "PATH --at TIME [--to DEST]", "bring back a file or a whole tree; itself a new version",
      "  --at TIME            the moment; or @NAME, a branch\n"
      "  --to DEST            put it there instead\n"
      "  --delete-extra       of a tree: remove what was not there then\n"
      "  --store STORE        paths count from the root of this store, mounted or not\n", cmd_restore },
    { "undo", "PATH [--redo]", "back a version; twice goes back two; a deleted file comes back",
      "  --redo               forward again\n"
      "  --store STORE        PATH counts from the root of this store, mounted or not\n", cmd_undo },
    { "branch", "list|show|remove [NAME] [STORE]", "what a store held that its other side did not, kept when it went back",
      "  list                 branches, when they parted, and when they end\n"
      "  show NAME            what was done there that is not in the store: each file, when, how large; ! what has changed in the store since, too\n"
      "  remove NAME          it goes, for good\n"
      "  A mount of the store shows it, at its root, as .snapshots/@NAME; spare cat and restore take --at @NAME.\n"
      "  A branch is a store: spare mount -o ro STORE/branches/NAME DIR; spare cat PATH --store STORE/branches/NAME\n", cmd_branch },
    { "fork", "NAME [--at T] [STORE] | list [STORE] | remove NAME [STORE]", "a writable copy of a moment: a store of its own, made at once, whatever the size",
      "  NAME                 make one: STORE/forks/NAME, of what the store is now, mounted or not, primary or standby\n"
      "    --at TIME          of what it was then\n"
      "  list                 forks, when they were made, and of which moment\n"
      "  remove NAME          it goes, for good, with what was written in it\n"
      "  A fork shares what both have, and nothing that is written in one is in the other: spare mount STORE/forks/NAME DIR\n", cmd_fork },
    { "sync", "[STORE] TARGET [--follow]", "ship to a standby: a directory or HOST:STORE; or, at a standby, fetch",
      "  --from SOURCE        no TARGET: fetch into STORE from SOURCE, a directory or HOST:STORE, which needs no way here\n"
      "  --follow             go on as more is written, until interrupted; a standby that goes away is tried again\n"
      "  --new                make a standby at TARGET though there was one before that is gone\n"
      "  --ssh COMMAND        what reaches HOST; ssh by default\n"
      "  --remote-spare PATH  the program at the other end; spare by default\n"
      "  --moved, --copied    the standby lies elsewhere now: the same one, or a copy that becomes one of its own\n"
      "  --store STORE        the store; by default that of the current directory\n", cmd_sync },
    { "standby", "add|remove|pause|resume|list [STORE] [TARGET]", "the standbys of a store, to which its mount ships by itself; add tries the way there",
      "  add [STORE] TARGET       try the way, make a standby if there is none, print the line for authorized_keys\n"
      "  add --from SOURCE [STORE]    at a standby: its mount fetches from there by itself\n"
      "  remove [STORE] TARGET    forget it; what is there stays\n"
      "  pause, resume [STORE] [TARGET]   no more until resumed, whatever happens; without TARGET: all\n"
      "  list [STORE]             all of them, and how far they are\n"
      "  --ssh, --remote-spare, --new, --moved, --copied   as for sync\n", cmd_standby },
    { "promote", "[--at TIME] [--commit] [STORE]", "a standby becomes the primary: writable, with all of its history; mounted or not",
      "  --at TIME            then make its tree what it was at that moment; what came after stays in history\n"
      "  --commit             for good (promotes first where it is not the primary yet): status says \"before commit\" until this, or until the primary of before follows\n"
      "  --moved, --copied    the standby lies elsewhere now (its disk was carried here): the same one, or a copy that becomes one of its own\n"
      "  --unfenced           do not wait for the end of a lease: the primary is known to be off\n",
      cmd_promote },
    { "demote", "[STORE]", "a primary becomes a standby: what is mounted of it turns read-only", "", cmd_demote },
    { "switchover", "[STORE] TARGET", "planned, nothing is lost: the standby TARGET becomes the primary, this store its standby",
      "  --stop COMMAND       run first, while changes go on: what shall not run during the switch\n"
      "  --start COMMAND      run last, where the primary is then: on the host of HOST:STORE, else here\n"
      "  --timeout TIME       the standby must be near by then (30s); changes wait at most 5 s, and go on here if it does not get there\n"
      "  --ssh, --remote-spare   as for sync\n"
      "  --store STORE        the store; by default that of the current directory\n", cmd_switchover },
    { "serve", "--stdio STORE [--receive-only|--send]", "the far end of sync, started by it",
      "  --receive-only       for a forced command in authorized_keys: append, and nothing else\n"
      "  --send               send to who started it, a standby that fetches; in a forced command: and nothing else\n"
      "  --as NAME            it is pull:NAME among the standbys here\n"
      "  --moved, --copied    as for sync\n"
      "  --new                with --send: it may be made anew\n", cmd_serve },
    { "wait", "[PATH]", "return once everything written so far is durable",
      "  --on STANDBY         ... at that standby; \"standby\" is any\n"
      "  --timeout SECONDS    give up after\n"
      "  --applied            until it is in the index too (for measurements)\n"
      "  --store STORE        the store\n", cmd_wait },
    { "config", "show|set [STORE] [NAME=VALUE...]", "settings of a store",
      "  show [STORE]                    all of them\n"
      "  set [STORE] NAME=VALUE...       NAME= goes back to the default\n", cmd_config },
    { "retain", "show|set|plan [STORE] [NAME=VALUE...]", "what is kept of the past",
      "  show [STORE]                    the policy\n"
      "  set [STORE] NAME=VALUE...       change it: keep-all=7d keep-hourly=48 keep-daily=30 keep-weekly=8 keep-monthly=12 keep-yearly=3 min-age=1h\n"
      "                                  reclaim-grace=1d nohistory='*.o CACHEDIR.TAG'; NAME= goes back to the default\n"
      "  plan [STORE] [NAME=VALUE...]    what is kept, why, and what would go; with settings: under these, changing nothing\n", cmd_retain },
    { "reclaim", "[STORE]", "give space back, now (it happens by itself when there is quiet)",
      "  --now                what is not listed any more goes at once, without the grace in which it can be brought back\n", cmd_reclaim },
    { "space", "[STORE|PATH] [--free SIZE]", "what uses space; what would free some",
      "  --free SIZE          how much of the past has to go for that\n", cmd_space },
    { "rebuild-index", "[STORE]", "make the index anew from archive and log; the store must not be mounted", "", cmd_rebuild_index },
    { "check", "[STORE] [--read-data]", "verify; never changes anything",
      "  --read-data          also read and verify every byte of file data\n", cmd_check },
    { "scrub", "[STORE] [--again] [--close-gaps]", "read every byte of data, slowly; what is damaged is healed from the other site",
      "  --again              from the beginning; else it goes on where the last one was stopped\n"
      "  --close-gaps         where packs are gone that no other site has: what they had stays\n"
      "                       lost, and named; packing, and new standbys, go on without\n", cmd_scrub },
    { "dump", "FILE", "print a log segment, a pack, an archive file, a base, a superblock or a retained set", "", cmd_dump },
    { "dr", "plan|failover|switchover|commit|rollback|rejoin|ack|list|report [PLAN]", "disaster recovery: the plan, and what is done by it",
      "  PLAN                 its name, a store that has it at .spare/plan.yaml, or a file; by default the only one of this machine\n"
      "  plan check           whether it would work: sites, versions, hooks, contacts, objectives, drift; keeps the runbook at each site; --quick: tries nothing\n"
      "  plan show            systems in the order in which they come back\n"
      "  plan runbook         the plan as commands to be typed, with whom to call; --html: as a page to print;\n"
      "                       --keep: both into this machine's state, and beside the plan where its store is mounted\n"
      "  failover             the primary is gone: carry on here; what was stopped or killed goes on by the same command\n"
      "    --accept-loss BOUND    so much may be lost: a time, or any; without it nothing may\n"
      "    --prefer rpo|rto       rto: as much as the plan's RPO may be lost without asking\n"
      "    --since TIME           when the primary went away\n"
      "    --at TIME              (2026-11-22T10:15:03Z) with the tree of that moment, from before the harm; what came after stays in history\n"
      "    --unfenced             go on though nothing confirms that the other site writes no more\n"
      "    --new                  a run of its own; one that is not over is closed\n"
      "  switchover           planned, nothing lost; also the way back\n"
      "  commit, rollback     make it final, or undo it (of a failover: --accept-loss says how much of what was done since may be lost)\n"
      "  rejoin               the other site's store becomes a standby of the one here\n"
      "  ack                  acknowledge what you were told; --step STEP: a step by hand is done, --failed: cannot be\n"
      "  list                 the runs of this machine\n"
      "  report               what a run took against what was promised, from its record, which is proven first\n"
      "  --site NAME          which site of the plan this machine is; --run RUN: which run is meant; --by NAME, --reason TEXT\n", cmd_dr },
    { "version", "", "the version of this program and of the format it writes", "", cmd_version },
    { "help", "[COMMAND]", "this, or the options of a command", "", cmd_help },
};
const unsigned n_commands = sizeof commands / sizeof commands[0];
const char *cli_store;

const struct command *cli_find(const char *name)
{
    for (unsigned i = 0; i < n_commands; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static void help_command(const struct command *c)
{
    if (!c)
        return;
    out_text("spare %s%s%s\n    %s\n%s  --json               objects instead of text, one a line\n", c->name, *c->args ? " " : "",
             c->args, c->summary, c->help);
}

int cmd_help(int argc, char **argv)
{
    int code = 0, o;
    const struct command *c;

    while ((o = cli_option(argc, argv, "", NULL, 0, &code)) != -1)
        if (o == -2)
            return code;
    if (optind < argc) {
        c = cli_find(argv[optind]);
        if (!c)
            return cli_usage("help", "%s: no such command", argv[optind]);
        help_command(c);
        return EXIT_OK;
    }
    if (!out_json)
        out_text("spare keeps every write of a directory. Commands:\n\n");
    for (unsigned i = 0; i < n_commands; i++) {
        char form[128];

        if (out_json) {
            json_t *j = json_object();

            json_object_set_new(j, "command", json_string(commands[i].name));
            json_object_set_new(j, "arguments", json_string(commands[i].args));
            json_object_set_new(j, "summary", json_string(commands[i].summary));
            out_object(j);
            json_decref(j);
            continue;
        }
        snprintf(form, sizeof form, "%s %s", commands[i].name, commands[i].args);
        if (strlen(form) > 40)
            out_text("  spare %s\n  %46s  %s\n", form, "", commands[i].summary);
        else
            out_text("  spare %-40s  %s\n", form, commands[i].summary);
    }
    if (!out_json)
        out_text("\nSTORE is a store, a mount point or any path inside one; by default the current directory's, then\n"
                 "$SPARE_STORE. `spare help COMMAND` lists options; spare(1) says it all. Every command takes --json.\n");
    return EXIT_OK;
}

int cli_usage(const char *name, const char *fmt, ...)
{
    const struct command *c = cli_find(name);
    struct err err;
    char msg[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    memset(&err, 0, sizeof err);
    err_set(&err, ERR_USAGE, "%s: %s; the form is: spare %s%s%s", name, msg, name, c && *c->args ? " " : "", c ? c->args : "");
    return out_error(&err, ERR_USAGE);
}

int cli_option(int argc, char **argv, const char *short_opts, const struct option *long_opts, unsigned n_long, int *exit_code)
{
    struct option all[24];
    char shorts[64];
    unsigned n = 0;
    int o;

    for (; n < n_long && n < 20; n++)
        all[n] = long_opts[n];
    all[n++] = (struct option){ "json", no_argument, NULL, OPT_JSON };
    all[n++] = (struct option){ "help", no_argument, NULL, OPT_HELP };
    all[n++] = (struct option){ "store", required_argument, NULL, OPT_STORE };
    all[n] = (struct option){ 0 };
    /* ':' first: a missing argument is told from an unknown option, and getopt prints nothing itself. */
    snprintf(shorts, sizeof shorts, ":h%s", short_opts);
    for (;;) {
        o = getopt_long(argc, argv, shorts, all, NULL);
        switch (o) {
        case OPT_JSON:
            out_json = true;
            continue;
        case OPT_STORE:
            cli_store = optarg;
            continue;
        case 'h':
        case OPT_HELP:
            help_command(cli_find(argv[0]));
            *exit_code = EXIT_OK;
            return -2;
        case ':':
            *exit_code = cli_usage(argv[0], "%s: expected an argument", argv[optind - 1]);
            return -2;
        case '?':
            *exit_code = cli_usage(argv[0], "%s: no such option", argv[optind - 1]);
            return -2;
        default:
            return o;
        }
    }
}
