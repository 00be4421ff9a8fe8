/* dr: the disaster recovery plan and what is done by it. */
#include "cli/cli.h"
#include "cli/dr/dr.h"

#include <string.h>

static const struct { const char *verb, *noun; int (*run)(const struct dr_options *o); } words[] = {
    { "plan", "check", dr_plan_check },
    { "plan", "show", dr_plan_show },
    { "plan", "runbook", dr_plan_runbook },
    { "failover", "", dr_failover },
    { "switchover", "", dr_switchover },
    { "rejoin", "", dr_rejoin },
    { "commit", "", dr_commit },
    { "rollback", "", dr_rollback },
    { "ack", "", dr_ack },
    { "list", "", dr_list },
    { "report", "", dr_report },
    { "keep", "", dr_keep },
    { "countersign", "", dr_countersign },
};
enum { N_WORDS = sizeof words / sizeof words[0] };

enum { SITE = OPT_FIRST, HTML, RUN, ACCEPT_LOSS, SINCE, PREFER, UNFENCED, STEP, BY, REASON, FAILED, NEW, QUICK, KEEP, AT };
static const struct option longs[] = {
    { "site", required_argument, NULL, SITE }, { "html", no_argument, NULL, HTML }, { "run", required_argument, NULL, RUN },
    { "accept-loss", required_argument, NULL, ACCEPT_LOSS }, { "since", required_argument, NULL, SINCE }, { "prefer", required_argument, NULL, PREFER },
    { "unfenced", no_argument, NULL, UNFENCED }, { "step", required_argument, NULL, STEP }, { "by", required_argument, NULL, BY },
    { "reason", required_argument, NULL, REASON }, { "failed", no_argument, NULL, FAILED }, { "new", no_argument, NULL, NEW }, { "quick", no_argument, NULL, QUICK },
    { "keep", no_argument, NULL, KEEP }, { "at", required_argument, NULL, AT },
};

static int options(int argc, char **argv, struct dr_options *d, int *code)
{
    int o;

    while ((o = cli_option(argc, argv, "", longs, sizeof longs / sizeof longs[0], code)) != -1) {
        switch (o) {
        case SITE: d->site = optarg; break;
        case HTML: d->html = true; break;
        case RUN: d->run = optarg; break;
        case ACCEPT_LOSS: d->accept_loss = optarg; break;
        case AT: d->at = optarg; break;
        case SINCE: d->since = optarg; break;
        case PREFER: d->prefer = optarg; break;
        case UNFENCED: d->unfenced = true; break;
        case STEP: d->step = optarg; break;
        case BY: d->person = optarg; break;
        case REASON: d->reason = optarg; break;
        case FAILED: d->failed = true; break;
        case NEW: d->again = true; break;
        case KEEP: d->keep = true; break;
        case QUICK: d->quick = true; break;
        default: return ERR_USAGE;
        }
    }
    return 0;
}

int cmd_dr(int argc, char **argv)
{
    struct dr_options d = { 0 };
    const char *verb, *noun;
    int code = 0;

    if (options(argc, argv, &d, &code))
        return code;
    verb = optind < argc ? argv[optind++] : "";
    noun = strcmp(verb, "plan") == 0 && optind < argc ? argv[optind++] : "";
    for (unsigned i = 0; i < N_WORDS; i++) {
        if (strcmp(words[i].verb, verb) != 0 || strcmp(words[i].noun, noun) != 0)
            continue;
        if (argc - optind > 1)
            return cli_usage("dr", "%s%s%s takes one plan, found %d arguments", verb, *noun ? " " : "", noun, argc - optind);
        if (d.at && words[i].run != dr_failover)
            return cli_usage("dr", "--at is for failover");
        d.plan = optind < argc ? argv[optind] : cli_store;
        return words[i].run(&d);
    }
    return cli_usage("dr", "expected what to do, found %s%s%s", *verb ? verb : "nothing", *noun ? " " : "", noun);
}
