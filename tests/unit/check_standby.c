/* check_standby.c: a standby among the settings: its text, and changes of a part of it; the word and exit code for how it is; pauses between tries. */
#include "store/core/standby.h"
#include "store/svc/svc_internal.h"
#include "store/sync/replicate.h"
#include "tests/lib/teststore.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define SITE "000102030405060708090a0b0c0d0e0f"

static void same(const struct standby *a, const struct standby *b)
{
    ck_assert_str_eq(a->target, b->target);
    ck_assert_mem_eq(a->site, b->site, 16);
    ck_assert_uint_eq(a->acked, b->acked);
    ck_assert_int_eq(a->heard_s, b->heard_s);
    ck_assert_int_eq(a->ships, b->ships);
    ck_assert_int_eq(a->paused, b->paused);
    ck_assert_str_eq(a->ssh, b->ssh);
    ck_assert_str_eq(a->remote, b->remote);
}

START_TEST(text_and_back)
{
    static const struct standby all[] = {
        { .target = "/mnt/a b/st", .acked = 4096 },
        { .target = "host:/srv/st", .acked = UINT64_MAX, .heard_s = 1790000000, .ships = true },
        { .target = "host:/srv/st", .ships = true, .paused = true, .ssh = "ssh -p 2222 -i /a%b/k\xc3\xa9y", .remote = "/opt/spare build/spare" },
        { .target = "+odd:/x", .remote = "r" },
        { .target = "h:-", .ssh = "s", .paused = true },
    };

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct standby b, a = all[i];
        char text[STANDBY_TEXT_MAX];

        for (int k = 0; k < 16; k++)
            a.site[k] = (uint8_t)(k * 17 + (int)i);
        ck_assert(standby_format(&a, text, sizeof text));
        ck_assert_msg(standby_parse(text, &b), "%s", text);
        same(&a, &b);
    }
}
END_TEST

START_TEST(the_largest_fits)
{
    struct standby a = { .ships = true, .paused = true, .acked = UINT64_MAX, .heard_s = INT64_MIN }, b;
    char text[STANDBY_TEXT_MAX];

    memset(a.target, 't', STANDBY_TARGET_MAX);
    memset(a.ssh, ' ', STANDBY_COMMAND_MAX);
    memset(a.remote, '%', STANDBY_COMMAND_MAX);
    ck_assert(standby_format(&a, text, sizeof text));
    ck_assert(standby_parse(text, &b));
    same(&a, &b);
    for (size_t cap = 0; cap <= strlen(text); cap++)
        ck_assert(!standby_format(&a, text, cap));
}
END_TEST

START_TEST(a_text_of_before_has_neither_letters_nor_commands)
{
    struct standby b;

    ck_assert(standby_parse(SITE " 4096 1700000000 /mnt/st", &b));
    ck_assert_str_eq(b.target, "/mnt/st");
    ck_assert(!b.ships && !b.paused && b.ssh[0] == '\0' && b.remote[0] == '\0');
    ck_assert_uint_eq(b.acked, 4096);
    ck_assert_uint_eq(b.site[15], 15);
}
END_TEST

START_TEST(what_is_no_standby_is_none)
{
    static const char *const bad[] = {
        "", "x", SITE, SITE " 1 2", SITE " 1 2 ", "00 1 2 /st", "00010203040506070809zz0b0c0d0e0f 1 2 /st", SITE " 1 2 +s", SITE " 1 2 +s - - ", SITE " 1 2 +s -",
        SITE " 1 2 +s a%2 b /st", SITE " 1 2 +s a%00 b /st", SITE " 1 2 +s  - /st", SITE " x 2 /st",
    };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct standby b = { .acked = 7 };

        ck_assert_msg(!standby_parse(bad[i], &b), "taken: %s", bad[i]);
        ck_assert_uint_eq(b.acked, 7);
    }
}
END_TEST

START_TEST(a_part_of_it_changes)
{
    static const uint8_t site[16] = { 9 };
    struct teststore t;
    struct standby a = { .target = "h:/st", .ships = true, .ssh = "ssh -v", .acked = 5 }, from = { .target = "p:/st", .from = true }, b;
    struct err err = { 0 };

    ts_new(&t, "UTC");
    ck_assert_int_eq(standby_note(t.s, &a, &err), 0);
    ck_assert_int_eq(standby_note(t.s, &from, &err), 0);
    ck_assert_int_eq(standby_pause(t.s, "h:/st", true, &err), 0);
    ck_assert_int_eq(standby_acked(t.s, "h:/st", site, 77, 8, &err), 0);
    ck_assert_int_eq(standby_acked(t.s, "h:/st", NULL, 78, 9, &err), 0);
    ck_assert(standby_get(t.s, 0, &b));
    ck_assert(b.ships && b.paused && b.acked == 78 && b.heard_s == 9 && b.site[0] == 9);
    ck_assert_str_eq(b.ssh, "ssh -v");
    ck_assert_int_eq(standby_find(t.s, "p:/st"), STANDBY_FROM);
    ck_assert(standby_get(t.s, STANDBY_FROM, &b) && b.from);
    ck_assert_int_eq(standby_pause(t.s, "nobody", true, &err), ERR_NOENT);
    ck_assert_int_eq(standby_forget(t.s, "p:/st", &err), 0);
    ck_assert_int_eq(standby_find(t.s, "p:/st"), -1);
    ck_assert_int_eq(standby_forget(t.s, "h:/st", &err), 0);
    ck_assert_int_eq(standby_acked(t.s, "h:/st", NULL, 79, 9, &err), ERR_NOENT);      /* removed meanwhile: not brought back */
    ck_assert(!standby_get(t.s, 0, &b));
    ts_free(&t);
}
END_TEST

START_TEST(a_word_for_how_it_is)
{
    static const struct { struct svc_standby_view v; const char *word; int exit; } all[] = {
        { { .met = true, .live = true, .agreed = true, .rpo_s = 10 }, "Protected", 0 },
        { { .met = true, .live = true, .agreed = true, .lag_s = 10, .rpo_s = 10, .caught = true }, "Protected", 0 },
        { { .met = true, .live = true, .agreed = true, .lag_s = 11, .rpo_s = 10 }, "Catching up", 20 },
        { { .met = true, .live = true, .agreed = true, .lag_s = 11, .rpo_s = 10, .caught = true }, "RPO not met", 20 },
        { { .met = true, .live = true, .agreed = true, .stalled = true, .rpo_s = 10 }, "RPO not met", 20 },
        { { .met = true, .live = true, .agreed = true, .unknown = true, .rpo_s = 10 }, "RPO not met", 20 },
        { { .live = true, .booting = true, .rpo_s = 10 }, "Bootstrapping", 20 },
        { { .met = true, .live = true, .rpo_s = 10 }, "Standby away", 22 },      /* not in touch yet */
        { { .met = true, .code = ERR_AWAY }, "Standby away", 22 },
        { { .met = true, .code = ERR_FENCED }, "Fenced", 24 },
        { { .met = true, .code = ERR_DIVERGED }, "Diverged", 24 },
        { { .met = true, .code = ERR_BOOTSTRAP }, "Must bootstrap", 22 },
        { { .met = true, .code = ERR_FENCED, .paused = true }, "Paused", 0 },
        { { .met = true, .live = true, .code = ERR_DIVERGED }, "Diverged", 24 },   /* tried again */
        { { .code = 0 }, "Local only", 22 },
    };

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        ck_assert_str_eq(svc_standby_word(&all[i].v), all[i].word);
        ck_assert_int_eq(svc_word_exit(all[i].word), all[i].exit);
    }
}
END_TEST

START_TEST(pauses_grow_and_end)
{
    uint64_t p = 0, all = 0;

    ck_assert_uint_eq(replicate_pause_ms(ERR_AWAY, 0), REPLICATE_FIRST_MS);
    for (int i = 0; i < 20; i++) {
        uint64_t next = replicate_pause_ms(ERR_AWAY, p);

        ck_assert_uint_ge(next, p);
        ck_assert_uint_le(next, REPLICATE_MOST_MS);
        p = next;
        all += p;
    }
    ck_assert_uint_eq(p, REPLICATE_MOST_MS);
    ck_assert_uint_eq(replicate_pause_ms(ERR_DIVERGED, 500), REPLICATE_REFUSED_MS);
    ck_assert_uint_eq(replicate_pause_ms(ERR_BUSY, REPLICATE_REFUSED_MS), REPLICATE_FIRST_MS);
    ck_assert_uint_gt(all, 0);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("standby");
    Suite *s = suite_create("standby");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_test(t, text_and_back);
    tcase_add_test(t, the_largest_fits);
    tcase_add_test(t, a_text_of_before_has_neither_letters_nor_commands);
    tcase_add_test(t, what_is_no_standby_is_none);
    tcase_add_test(t, a_part_of_it_changes);
    tcase_add_test(t, a_word_for_how_it_is);
    tcase_add_test(t, pauses_grow_and_end);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
