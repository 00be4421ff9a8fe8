/*
 * check_role_sim: roles of several sites against each other, from seeds (tests/lib/roleworld.h).
 *
 * SPARE_SEEDS=FROM-TO runs those instead of 1-2000; SPARE_STEPS their length instead of 2000; SPARE_TRACE says how each conversation ended.
 */
#include "tests/lib/roleworld.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { STEPS = 2000, SEEDS = 2000, PLANT_SEEDS = 400 };

static unsigned steps(void)
{
    const char *s = getenv("SPARE_STEPS");

    return s != NULL ? (unsigned)strtoul(s, NULL, 10) : STEPS;
}

/* A sender may be of any role, but there must be something. */
static const uint16_t sender_hears[] = { PROTO_HELLO, PROTO_ACK, PROTO_ASK, PROTO_REFUSE };
/* What a receiver hears, 0: of what is nothing yet. A role may change while a stream runs. (What brings files, LIST, FILE, RETAINED and WANT, is syncworld.h's;
 * a FENCED one hears START hardly ever: not asked for.) */
static const struct { unsigned role; uint16_t type; } receiver_hears[] = {
    { 0, PROTO_HELLO }, { 0, PROTO_MAKE }, { 0, PROTO_REFUSE },
    { ROLE_PRIMARY, PROTO_HELLO }, { ROLE_PRIMARY, PROTO_REFUSE }, { ROLE_PRIMARY, PROTO_START }, { ROLE_PRIMARY, PROTO_RECORDS }, { ROLE_PRIMARY, PROTO_BEAT },
    { ROLE_PRIMARY, PROTO_TELL },
    { ROLE_STANDBY, PROTO_HELLO }, { ROLE_STANDBY, PROTO_REFUSE }, { ROLE_STANDBY, PROTO_START }, { ROLE_STANDBY, PROTO_RECORDS }, { ROLE_STANDBY, PROTO_BEAT },
    { ROLE_STANDBY, PROTO_TELL },
    { ROLE_FENCED, PROTO_HELLO }, { ROLE_FENCED, PROTO_REFUSE }, { ROLE_FENCED, PROTO_RECORDS }, { ROLE_FENCED, PROTO_BEAT },
    { ROLE_FENCED, PROTO_TELL },
};

START_TEST(nothing_is_lost_and_every_fork_is_noticed)
{
    static struct role_seen seen;
    const char *range = getenv("SPARE_SEEDS");
    uint64_t from = 1, to = SEEDS;
    char why[600] = "";

    if (range != NULL)
        ck_assert_int_eq(sscanf(range, "%" SCNu64 "-%" SCNu64, &from, &to), 2);
    for (uint64_t s = from; s <= to; s++)
        if (!roleworld_run(s, steps(), ROLE_PLANT_NONE, &seen, why, sizeof why))
            ck_abort_msg("%s", why);
    printf("%" PRIu64 " seeds, %" PRIu64 " steps, %" PRIu64 " conversations (%" PRIu64 " to settle), %" PRIu64 " cut, %" PRIu64 " partitions, %" PRIu64 " kills, %" PRIu64
           " full disks; %" PRIu64 " appended, %" PRIu64 " fsyncs, %" PRIu64 " under rpo=0; ", to - from + 1, seen.steps, seen.lines, seen.calm_lines, seen.cuts, seen.blocks, seen.kills,
           seen.full, seen.appends, seen.fsyncs, seen.rpo);
    printf("%" PRIu64 " promotions (%" PRIu64 " two at once), %" PRIu64 " demotions, %" PRIu64 " fenced at contact, %" PRIu64 " met past a fork (%" PRIu64
           " with nothing in the way), %" PRIu64 " of two lineages, %" PRIu64 " went back, %" PRIu64 " branches, %" PRIu64 " refused while mounted; ", seen.promotions, seen.twice, seen.demotions, seen.fences,
           seen.forks, seen.reported, seen.kin, seen.rewinds, seen.branches, seen.diverged);
    printf("%" PRIu64 " copies (%" PRIu64 " told so), %" PRIu64 " set back; %" PRIu64 " leases begun, %" PRIu64 " times one had run out, %" PRIu64 " promoted behind one, %" PRIu64 " suspended\n", seen.copies, seen.told, seen.images,
           seen.leased, seen.lapsed, seen.lease_promotions, seen.suspends);
    if (range != NULL)
        return;
    ck_assert(seen.told > 0 && seen.kin > 0);
    ck_assert(seen.leased > 0 && seen.lapsed > 0 && seen.lease_promotions > 0);
    for (unsigned role = ROLE_PRIMARY; role <= ROLE_FENCED; role++)
        for (size_t i = 0; i < sizeof sender_hears / sizeof sender_hears[0]; i++)
            ck_assert_msg(seen.ship[role][sender_hears[i]] > 0, "a sender of role %u never heard %s", role, proto_name(sender_hears[i]));
    for (size_t i = 0; i < sizeof receiver_hears / sizeof receiver_hears[0]; i++)
        ck_assert_msg(seen.receive[receiver_hears[i].role][receiver_hears[i].type] > 0, "a receiver of role %u never heard %s", receiver_hears[i].role,
                      proto_name(receiver_hears[i].type));
}
END_TEST

START_TEST(planted_bugs_are_caught)
{
    for (int p = ROLE_PLANT_NONE + 1; p < ROLE_N_PLANTS; p++) {
        static struct role_seen seen;
        char why[600] = "";
        uint64_t s = 1;

        while (s <= PLANT_SEEDS && roleworld_run(s, steps(), (enum role_plant)p, &seen, why, sizeof why))
            s++;
        ck_assert_msg(s <= PLANT_SEEDS, "%s was not caught within %d seeds", role_plant_name((enum role_plant)p), PLANT_SEEDS);
        printf("%s: seed %" PRIu64 ": %s\n", role_plant_name((enum role_plant)p), s, why);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("role_sim");
    TCase *t = tcase_create("role_sim");
    SRunner *sr;
    int failed;

    tcase_set_timeout(t, 600);
    tcase_add_test(t, nothing_is_lost_and_every_fork_is_noticed);
    tcase_add_test(t, planted_bugs_are_caught);
    suite_add_tcase(s, t);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
