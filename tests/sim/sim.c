/*
 * sim.c: spare-sim, the deterministic simulation. tests/sim/README.md says what it proves and how to read its output.
 *
 * Call form: spare-sim [--seed S] [--seconds N | --seeds FROM-TO] [--steps N] [--cuts N] [--bug N | --plant] [--stats]
 *            [--verbose] [--list-bugs]
 *   --seed S       first seed (default 1); without --seconds and --seeds only this one
 *   --seconds N    seeds from S on until N seconds are over
 *   --seeds F-T    these seeds
 *   --plant        each planted bug by itself: it must be caught within 1,000 seeds
 * Exit status: 0 no violation (with --plant: every bug was caught), 1 otherwise, 2 usage.
 */
#include "tests/sim/rig.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PLANT_SEEDS = 1000, REACHED_SEEDS = 1000 };

struct args { uint64_t from, to; double seconds; bool stats, plant, list; struct sim_config cfg; };

static double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static const char *kind_name(int k)
{
    static const char *const steps[] = {
#define X(name) #name,
        STEP_TABLE(X)
#undef X
    };
    return k < MOP_N_KINDS ? mop_name((enum mop_kind)k) : steps[k - MOP_N_KINDS];
}

static void print_stats(const struct sim_stats *s)
{
    static const char *const mode[] = { "drop all", "keep all", "prefix", "random", "kill" };
    printf("operations %" PRIu64 ", refused as they should be %" PRIu64 ", reads compared %" PRIu64 ", faults met %" PRIu64 "\n",
           s->ops, s->refused, s->reads, s->faults_hit);
    printf("crashes of the run itself %" PRIu64 ", operations lost in them %" PRIu64 ", torn tails %" PRIu64
           ", recoveries cut off %" PRIu64 ", worked on after recovery %" PRIu64 "\n",
           s->crashes, s->lost, s->torn, s->twice, s->written_after);
    printf("opened for reading only %" PRIu64 ", opens that met an error %" PRIu64 "\n", s->read_only, s->open_faults);
    printf("states of a standby %" PRIu64 ", records of archive and packs sent to one %" PRIu64 "\n", s->standby_states, s->shipped_old);
    printf("packing %" PRIu64 ", of a standby %" PRIu64 ", of a recovered store %" PRIu64 ", of one that is cut off again %" PRIu64 "; packs %" PRIu64 ", of several segments %" PRIu64 "; segments dropped %" PRIu64
           "; stopped %" PRIu64 ", failed %" PRIu64 ", done again %" PRIu64 "\n", s->pack_calls, s->packs_standby, s->packed_after, s->packing_cut, s->packs, s->packs_wide, s->dropped,
           s->pack_stopped, s->pack_failed, s->pack_again);
    printf("chunks %" PRIu64 ", as differences %" PRIu64 ", there already %" PRIu64 "; indexes made anew %" PRIu64 "; a store's own check %" PRIu64 "\n",
           s->chunks, s->deltas, s->known, s->rebuilt, s->checks);
    printf("reclaim %" PRIu64 ", of a recovered store %" PRIu64 "; rows let go of %" PRIu64 ", packs made anew %" PRIu64 ", bases %" PRIu64 ", moments not listed %" PRIu64 "; stopped %" PRIu64 ", failed %" PRIu64 "\n",
           s->reclaims, s->reclaimed_after, s->rows_gone, s->packs_anew, s->bases, s->unlisted, s->reclaim_stopped, s->reclaim_failed);
    printf("made hidden %" PRIu64 ", hidden by a new name %" PRIu64 ", shown by one %" PRIu64 "; directories that stay where they are %" PRIu64 "; hidden names looked for in the past %" PRIu64 "\n",
           s->hidden_made, s->hidden_moved, s->shown_moved, s->xdev, s->hidden_looks);
    printf("crash states %" PRIu64 ": moments by digest %" PRIu64 ", by content %" PRIu64 "\n", s->states, s->moments, s->contents);
    printf("%-16s %12s %12s %12s\n", "during", "times done", "cut points", "states");
    for (int k = 0; k < OP_KINDS; k++)
        printf("%-16s %12" PRIu64 " %12" PRIu64 " %12" PRIu64 "\n", kind_name(k),
               k < MOP_N_KINDS ? s->done[k] : s->steps[k - MOP_N_KINDS], s->by_op[k], s->states_by_op[k]);
    printf("%-16s %12s %12s %12s\n", "before call", "", "cut points", "states");
    for (int k = 0; k < HOOK_N_CALLS; k++)
        printf("%-16s %12s %12" PRIu64 " %12" PRIu64 "\n", hook_name((enum hook_call)k), "", s->by_call[k], s->states_by_call[k]);
    for (int k = 0; k <= SIMIO_N_CUT_MODES; k++)
        printf("%-16s %12s %12s %12" PRIu64 "\n", mode[k], "", "", s->states_by_mode[k]);
}

/* What a run of many seeds must have done, each of it: says what it has not. */
static int reached(const struct sim_stats *s)
{
    const struct { const char *what; uint64_t n; } v[] = {
        { "packs", s->packs }, { "packs of several segments", s->packs_wide }, { "segments dropped", s->dropped }, { "packing stopped", s->pack_stopped },
        { "packing failed", s->pack_failed }, { "packing again", s->pack_again }, { "packing of a recovered store", s->packed_after },
        { "packing cut off again", s->packing_cut }, { "packing of a standby", s->packs_standby }, { "a known chunk", s->known }, { "a difference", s->deltas }, { "an index made anew", s->rebuilt },
        { "made hidden", s->hidden_made }, { "hidden by a new name", s->hidden_moved }, { "shown by a new name", s->shown_moved }, { "a hidden directory that stays", s->xdev },
        { "a hidden name looked for in the past", s->hidden_looks },
        { "reclaim stopped", s->reclaim_stopped }, { "reclaim failed", s->reclaim_failed }, { "reclaim in a recovered store", s->reclaimed_after },
        { "rows let go of", s->rows_gone }, { "packing of what is needed alone", s->packed_needed }, { "packs made anew", s->packs_anew }, { "a base", s->bases }, { "a moment not listed", s->unlisted }, { "a check", s->checks }, { "a record of the archive to a standby", s->shipped_old }, { "a recovery cut off", s->twice }, { "an open for reading", s->read_only },
    };
    int missing = 0;
    for (size_t k = 0; k < sizeof v / sizeof *v; k++)
        if (v[k].n == 0)
            missing += printf("NEVER REACHED: %s\n", v[k].what) > 0;
    for (int k = 0; k < OP_KINDS; k++)
        if (k != MOP_N_KINDS + STEP_MAKE && (k < MOP_N_KINDS ? s->done[k] : s->steps[k - MOP_N_KINDS]) == 0)
            missing += printf("NEVER REACHED: %s\n", kind_name(k)) > 0;
    for (int k = 0; k < HOOK_N_CALLS; k++)
        if (k != HOOK_LINK && s->by_call[k] == 0)
            missing += printf("NEVER REACHED: a cut before %s\n", hook_name((enum hook_call)k)) > 0;
    return missing;
}

/* Every planted bug must be seen; returns how many were not. */
static int plant(const struct args *a, struct sim_stats *st)
{
    int missed = 0, caught = 0;
    char viol[2500];
    for (int b = 1; b < BUG_N; b++) {
        struct sim_config cfg = a->cfg;
        uint64_t n;
        double t = now_s();
        if (a->cfg.bug != BUG_NONE && (int)a->cfg.bug != b)
            continue;
        cfg.bug = (enum bug)b;
        for (n = 1; n <= PLANT_SEEDS; n++)
            if (rig_run(a->from + n - 1, &cfg, st, viol, sizeof viol) != 0)
                break;
        if (n <= PLANT_SEEDS) {
            viol[strcspn(viol, "\n")] = '\0';
            caught++;
            printf("bug %2d %-19s caught after %4" PRIu64 " seeds, %.1f s: %.200s\n", b, bug_name(cfg.bug), n, now_s() - t, viol);
        } else {
            missed++;
            printf("bug %2d %-19s NOT CAUGHT in %d seeds, %.1f s: %s\n", b, bug_name(cfg.bug), PLANT_SEEDS, now_s() - t, bug_text(cfg.bug));
        }
        fflush(stdout);
    }
    printf("%d planted bugs caught, %d missed\n", caught, missed);
    return missed;
}

static int usage(void)
{
    fprintf(stderr, "usage: spare-sim [--seed S] [--seconds N | --seeds FROM-TO] [--steps N] [--cuts N] [--bug N | --plant]\n"
                    "                 [--stats] [--verbose] [--list-bugs]\n");
    return 2;
}

static int parse(int argc, char **argv, struct args *a)
{
    static const struct option opts[] = {
        { "seed", 1, NULL, 's' }, { "seconds", 1, NULL, 't' }, { "seeds", 1, NULL, 'r' }, { "steps", 1, NULL, 'n' },
        { "cuts", 1, NULL, 'c' }, { "bug", 1, NULL, 'b' }, { "plant", 0, NULL, 'p' }, { "stats", 0, NULL, 'S' },
        { "verbose", 0, NULL, 'v' }, { "list-bugs", 0, NULL, 'l' }, { NULL, 0, NULL, 0 },
    };
    char *end;
    for (int c; (c = getopt_long(argc, argv, "", opts, NULL)) != -1;) {
        unsigned long long v = optarg != NULL ? strtoull(optarg, &end, 10) : 0;
        if (c == '?' || (optarg != NULL && (end == optarg || (*end != '\0' && !(c == 'r' && *end == '-')))))
            return -1;
        switch (c) {
        case 's': a->from = a->to = v; break;
        case 't': a->seconds = (double)v; break;
        case 'r': a->from = v; a->to = *end == '-' ? strtoull(end + 1, &end, 10) : v; break;
        case 'n': a->cfg.steps = (unsigned)v; break;
        case 'c': a->cfg.cuts = (unsigned)v; break;
        case 'b': a->cfg.bug = (enum bug)v; break;
        case 'p': a->plant = true; break;
        case 'S': a->stats = true; break;
        case 'v': a->cfg.verbose = true; break;
        case 'l': a->list = true; break;
        }
    }
    return optind == argc && a->cfg.bug < BUG_N && a->to >= a->from ? 0 : -1;
}

int main(int argc, char **argv)
{
    struct args a = { .from = 1, .to = 1, .cfg = { .cuts = 4 } };
    struct sim_stats st = { 0 };
    char viol[2500] = "";
    int rc = 0;
    if (parse(argc, argv, &a) < 0)
        return usage();
    if (a.list) {
        for (int b = 1; b < BUG_N; b++)
            printf("%2d %-19s %s\n", b, bug_name((enum bug)b), bug_text((enum bug)b));
        return 0;
    }
    double t = now_s();
    if (a.plant) {
        rc = plant(&a, &st);
    } else {
        for (uint64_t s = a.from; rc == 0 && (a.seconds > 0 ? now_s() - t < a.seconds : s <= a.to); s++) {
            rc = rig_run(s, &a.cfg, &st, viol, sizeof viol);
            if (rc != 0)
                printf("VIOLATION %s\n  replay: spare-sim --seed %" PRIu64 " --cuts %u%s", viol, s, a.cfg.cuts, a.cfg.steps ? "" : "\n");
            if (rc != 0 && a.cfg.steps != 0)
                printf(" --steps %u\n", a.cfg.steps);
        }
    }
    if (a.stats)
        print_stats(&st);
    if (rc == 0 && !a.plant && a.cfg.bug == BUG_NONE && a.cfg.steps == 0 && st.seeds >= REACHED_SEEDS)
        rc = reached(&st) > 0;
    t = now_s() - t;
    printf("%" PRIu64 " seeds, %" PRIu64 " crash states, %" PRIu64 " moments, %.1f s, %.0f states/s, %d violations\n",
           st.seeds, st.states, st.moments, t, (double)st.states / (t > 0 ? t : 1), a.plant ? 0 : rc != 0);
    return rc != 0;
}
