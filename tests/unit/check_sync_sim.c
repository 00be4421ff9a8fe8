/*
 * check_sync_sim: sender and receiver against each other, from seeds (tests/lib/syncworld.h).
 *
 * SPARE_SEEDS=FROM-TO runs those instead of 1-2000; SPARE_STEPS their length instead of 2000.
 */
#include "tests/lib/syncworld.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { STEPS = 2000, SEEDS = 2000, PLANT_SEEDS = 1000 };

static unsigned steps(void)
{
    const char *s = getenv("SPARE_STEPS");

    return s != NULL ? (unsigned)strtoul(s, NULL, 10) : STEPS;
}

START_TEST(standby_is_always_the_primary_at_some_lsn)
{
    static struct sync_seen seen;
    const char *range = getenv("SPARE_SEEDS");
    uint64_t from = 1, to = SEEDS;
    char why[600] = "";

    if (range != NULL)
        ck_assert_int_eq(sscanf(range, "%" SCNu64 "-%" SCNu64, &from, &to), 2);
    for (uint64_t s = from; s <= to; s++)
        if (!syncworld_run(s, steps(), PLANT_NONE, &seen, why, sizeof why))
            ck_abort_msg("%s", why);
    printf("%" PRIu64 " seeds, %" PRIu64 " steps, %" PRIu64 " connections, %" PRIu64 " cut, %" PRIu64 " kills, %" PRIu64 " full disks, %" PRIu64 " set back, %" PRIu64 " made of files, %" PRIu64 " records sent\n",
           to - from + 1, seen.steps, seen.sessions, seen.cuts, seen.kills, seen.full, seen.diverged, seen.booted, seen.records);
    ck_assert_uint_gt(seen.booted, 0);
    /* Where it is quiet enough for chance to bring any message; check_sync brings the others, and those by which two find out where they part. */
    for (unsigned m = PROTO_HELLO; m <= PROTO_RETAINED; m++)
        ck_assert_msg(seen.ship[SHIP_STREAM][m] > 0 && seen.receive[RECEIVE_STREAM][m] > 0 && seen.ship[SHIP_HELLO][m] > 0 &&
                      seen.receive[RECEIVE_HELLO][m] > 0, "%s was never heard", proto_name(m));
}
END_TEST

START_TEST(planted_bugs_are_caught)
{
    for (int p = PLANT_NONE + 1; p < N_PLANTS; p++) {
        static struct sync_seen seen;
        char why[600] = "";
        uint64_t s = 1;

        while (s <= PLANT_SEEDS && syncworld_run(s, steps(), (enum sync_plant)p, &seen, why, sizeof why))
            s++;
        ck_assert_msg(s <= PLANT_SEEDS, "%s was not caught within %d seeds", sync_plant_name((enum sync_plant)p), PLANT_SEEDS);
        printf("%s: seed %" PRIu64 ": %s\n", sync_plant_name((enum sync_plant)p), s, why);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sync_sim");
    TCase *t = tcase_create("sync_sim");
    SRunner *sr;
    int failed;

    tcase_set_timeout(t, 600);
    tcase_add_test(t, standby_is_always_the_primary_at_some_lsn);
    tcase_add_test(t, planted_bugs_are_caught);
    suite_add_tcase(s, t);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
