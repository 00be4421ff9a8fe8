/* check_version.c: versions of a name, and undo along them. */
#include "store/core/restore.h"
#include "store/core/version.h"
#include "store/log/log.h"
#include "tests/lib/teststore.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX = 64, BIG = 40 << 20, BIG_PIECE = 128 << 10 };
struct seen { size_t n; struct version v[MAX]; };

static int collect(void *arg, const struct version *v)
{
    struct seen *s = arg;
    ck_assert_uint_lt(s->n, MAX);
    s->v[s->n++] = *v;
    return 0;
}

static struct seen versions(struct teststore *t, const char *path, bool every)
{
    struct seen s = { 0 };
    struct err err = { 0 };
    int rc = version_list(t->s, path, every, collect, &s, &err);
    ck_assert_msg(rc == 0, "%s: %s", path, err.msg);
    for (size_t i = 1; i < s.n; i++)
        ck_assert_uint_lt(s.v[i].lsn, s.v[i - 1].lsn);
    return s;
}

/* What is listed is what the name held: newest first, texts from the last to the first. */
static void expect(struct teststore *t, const char *path, size_t n, const char *const *newest_first)
{
    struct seen s = versions(t, path, false);
    for (size_t i = 0; i < s.n && i < n; i++) {
        char *got = s.v[i].deleted ? NULL : ts_read(t, s.v[i].lsn, path);
        const char *want = newest_first[i];
        ck_assert_msg((got == NULL) == (want == NULL) && (got == NULL || strcmp(got, want) == 0), "%s: version %zu: expected %s, found %s",
                      path, i, want != NULL ? want : "(deleted)", got != NULL ? got : "(none)");
        free(got);
    }
    ck_assert_msg(s.n == n, "%s: expected %zu versions, found %zu", path, n, s.n);
}

/* ---- one file saved five times ---- */

static void save_shell(struct teststore *t, int i)
{
    char text[32];
    snprintf(text, sizeof text, "text %d", i);
    ts_save(t, "d/f", text);
}

static void save_rename(struct teststore *t, int i)
{
    char text[32];
    snprintf(text, sizeof text, "text %d", i);
    ts_save(t, "d/.f.swp", text);
    ts_rename(t, "d/.f.swp", "d/f");
}

static void save_sed(struct teststore *t, int i)
{
    char text[32];
    snprintf(text, sizeof text, "text %d", i);
    uint64_t ino = ts_create(t, "d/sedXXXX", S_IFREG | 0600);
    ts_write(t, ino, 0, text, strlen(text));
    ts_chmod(t, ino, 0644);
    ts_rename(t, "d/sedXXXX", "d/f");
}

static void save_unlink(struct teststore *t, int i)
{
    if (ts_ino(t, "d/f") != 0)
        ts_unlink(t, "d/f");
    save_shell(t, i);
}

/* vim's backupcopy=no: the old file goes aside, is written anew, the backup goes. */
static void save_backup(struct teststore *t, int i)
{
    bool was = ts_ino(t, "d/f") != 0;
    if (was)
        ts_rename(t, "d/f", "d/f~");
    save_shell(t, i);
    if (was)
        ts_unlink(t, "d/f~");
}

static void save_in_place(struct teststore *t, int i)
{
    char text[32];
    snprintf(text, sizeof text, "text %d", i);
    if (i == 1)
        ts_create(t, "d/f", S_IFREG | 0644);
    ts_write(t, ts_ino(t, "d/f"), 0, text, strlen(text));
}

/* A target made empty first, then replaced. */
static void save_placeholder(struct teststore *t, int i)
{
    if (ts_ino(t, "d/f") != 0)
        ts_unlink(t, "d/f");
    ts_create(t, "d/f", S_IFREG | 0600);
    save_rename(t, i);
}

/* The target is emptied long before what fills it comes. */
static void save_slow(struct teststore *t, int i)
{
    char text[32];
    snprintf(text, sizeof text, "text %d", i);
    uint64_t ino = ts_ino(t, "d/f");
    if (ino == 0)
        ino = ts_create(t, "d/f", S_IFREG | 0644);
    else
        ts_truncate(t, ino, 0);
    ts_step(t, 5000);
    ts_write(t, ino, 0, text, strlen(text));
}

static const struct { const char *name; void (*save)(struct teststore *t, int i); bool quick; } ways[] = {
    { "shell", save_shell, true },   { "rename", save_rename, true },     { "sed", save_sed, true },
    { "unlink", save_unlink, true }, { "backup", save_backup, true },     { "in place", save_in_place, false },
    { "placeholder", save_placeholder, true }, { "slow", save_slow, true },
};
enum { WAYS = sizeof ways / sizeof ways[0] };

static void undo(struct teststore *t, const char *path, bool redo, const char *text)
{
    struct err err = { 0 };
    int rc = undo_path(t->s, &t->who, path, redo, &err);
    if (text == NULL) {
        ck_assert_int_eq(rc, ERR_NOENT);
        return;
    }
    ck_assert_msg(rc == 0, "%s: %s", redo ? "redo" : "undo", err.msg);
    ts_is(t, path, text);
}

/* _i: way and gap between saves */
START_TEST(five_saves_are_five_versions)
{
    static const char *const want[] = { "text 5", "text 4", "text 3", "text 2", "text 1" };
    size_t w = (size_t)_i / 2;
    bool quick = _i % 2 != 0;
    struct teststore t;
    if (quick && !ways[w].quick)
        return;
    ts_new(&t, "UTC");
    ts_create(&t, "d", S_IFDIR | 0755);
    ts_step(&t, 60000);
    for (int i = 1; i <= 5; i++) {
        ways[w].save(&t, i);
        if (i < 5)
            ts_step(&t, quick ? 500 : 3000);
    }
    expect(&t, "d/f", 5, want);
    ts_reopen(&t, false);
    expect(&t, "d/f", 5, want);
    int gap = quick ? 100 : 60000;
    ts_step(&t, gap);
    undo(&t, "d/f", true, NULL);
    undo(&t, "d/f", false, "text 4");
    ts_step(&t, gap);
    undo(&t, "d/f", false, "text 3");
    undo(&t, "d/f", true, "text 4");
    ts_step(&t, gap);
    undo(&t, "d/f", true, "text 5");
    undo(&t, "d/f", true, NULL);
    for (int i = 4; i >= 1; i--)
        undo(&t, "d/f", false, want[5 - i]);
    undo(&t, "d/f", false, NULL);
    ts_is(&t, "d/f", "text 1");
    /* an edit where the position is: what was ahead is given up, undo goes back along what was there */
    undo(&t, "d/f", true, "text 2");
    ways[w].save(&t, 6);
    undo(&t, "d/f", true, NULL);
    undo(&t, "d/f", false, "text 2");
    undo(&t, "d/f", false, "text 1");
    undo(&t, "d/f", false, NULL);
    undo(&t, "d/f", true, "text 2");
    undo(&t, "d/f", true, "text 6");
    ts_free(&t);
}
END_TEST

START_TEST(a_large_copy_is_one_version)
{
    struct teststore t;
    struct err err = { 0 };
    char *buf = malloc(BIG_PIECE);
    ck_assert_ptr_nonnull(buf);
    ts_new(&t, "UTC");
    for (int i = 1; i <= 5; i++) {
        uint64_t ino = ts_ino(&t, "big");
        if (ino == 0)
            ino = ts_create(&t, "big", S_IFREG | 0644);
        else
            ts_truncate(&t, ino, 0);
        memset(buf, 'a' + i, BIG_PIECE);
        for (uint64_t off = 0; off < BIG / (unsigned)i; off += BIG_PIECE) {
            ts_write(&t, ino, off, buf, BIG_PIECE);
            ts_step(&t, 10);
        }
        ts_step(&t, _i == 0 ? 3000 : 500);
    }
    struct seen s = versions(&t, "big", false);
    ck_assert_uint_eq(s.n, 5);
    for (size_t i = 0; i < 5; i++) {
        ck_assert_uint_ge(s.v[i].size, BIG / (5 - i));
        ck_assert_uint_lt(s.v[i].size, BIG / (5 - i) + BIG_PIECE);
    }
    ck_assert_int_eq(undo_path(t.s, &t.who, "big", false, &err), 0);
    ck_assert_int_eq(undo_path(t.s, &t.who, "big", false, &err), 0);
    char *got = ts_read(&t, AT_LIVE, "big");
    ck_assert_uint_eq(strlen(got), s.v[2].size);
    size_t same = 0;
    while (same < s.v[2].size && got[same] == 'a' + 3)    /* an assertion a byte would take a minute */
        same++;
    ck_assert_uint_eq(same, s.v[2].size);
    free(got);
    free(buf);
    ts_free(&t);
}
END_TEST

START_TEST(deletion_is_listed_when_it_lasts)
{
    static const char *const want[] = { "two", NULL, "one" };
    static const char *const gone[] = { NULL, "two", NULL, "one" };
    struct teststore t;
    ts_new(&t, "UTC");
    ts_save(&t, "f", "one");
    ts_step(&t, 5000);
    ts_unlink(&t, "f");
    ts_step(&t, 5000);
    ts_save(&t, "f", "two");
    expect(&t, "f", 3, want);
    struct seen s = versions(&t, "f", false);
    ck_assert(s.v[0].live);
    ck_assert_str_eq(s.v[0].how, "create");
    ck_assert_str_eq(s.v[1].how, "delete");
    ck_assert_str_eq(s.v[2].how, "create");
    ts_unlink(&t, "f");
    expect(&t, "f", 4, gone);
    undo(&t, "f", false, "two");
    undo(&t, "f", false, "one");
    undo(&t, "f", false, NULL);
    undo(&t, "f", true, "two");
    ts_free(&t);
}
END_TEST

START_TEST(mode_changes_make_no_version)
{
    static const char *const want[] = { "two", "one" };
    struct teststore t;
    ts_new(&t, "UTC");
    ts_save(&t, "f", "one");
    for (uint32_t i = 0; i < 5; i++) {
        ts_step(&t, 5000);
        ts_chmod(&t, ts_ino(&t, "f"), 0600 + i);
    }
    ts_save(&t, "f", "two");
    ts_step(&t, 5000);
    ts_chmod(&t, ts_ino(&t, "f"), 0600);
    expect(&t, "f", 2, want);
    undo(&t, "f", false, "one");
    struct row_ino row;
    ck_assert_int_eq(store_getattr(t.s, AT_LIVE, ts_ino(&t, "f"), &row, NULL), 0);
    ck_assert_uint_eq(row.mode & 07777, 0604);
    ts_free(&t);
}
END_TEST

START_TEST(fsync_and_snapshot_end_a_burst)
{
    static const char *const want[] = { "a3", "a2", "a1" };
    static const char *const snap[] = { "b2", "b1" };
    struct teststore t;
    struct err err = { 0 };
    uint64_t at;
    ts_new(&t, "UTC");
    uint64_t ino = ts_create(&t, "a", S_IFREG | 0644);
    ts_write(&t, ino, 0, "a1", 2);
    ck_assert_int_eq(store_fsync(t.s, ino, NULL), 0);
    ts_write(&t, ino, 0, "a2", 2);
    ck_assert_int_eq(store_fsync(t.s, ino, NULL), 0);
    ts_write(&t, ino, 0, "a3", 2);
    expect(&t, "a", 3, want);
    ino = ts_create(&t, "b", S_IFREG | 0644);
    ts_write(&t, ino, 0, "b0", 2);
    ts_write(&t, ino, 0, "b1", 2);
    ck_assert_int_eq(store_snapshot(t.s, &t.who, RSN_CREATE, "now-and-then", AT_LIVE, "", "", 0, &at, &err), 0);
    ts_write(&t, ino, 0, "b2", 2);
    expect(&t, "b", 2, snap);
    struct seen s = versions(&t, "b", true);
    ck_assert_uint_eq(s.n, 4);           /* the empty file too */
    ck_assert_uint_eq(s.v[3].size, 0);
    ts_free(&t);
}
END_TEST

START_TEST(a_path_is_followed_through_renamed_directories)
{
    static const char *const want[] = { "new", NULL, "old two", "old one" };
    static const char *const moved[] = { NULL, "new" };
    struct teststore t;
    ts_new(&t, "UTC");
    ts_create(&t, "a", S_IFDIR | 0755);
    ts_create(&t, "a/b", S_IFDIR | 0755);
    ts_save(&t, "a/b/f", "old one");
    ts_step(&t, 5000);
    ts_save(&t, "a/b/f", "old two");
    ts_step(&t, 5000);
    ts_rename(&t, "a", "away");
    ts_step(&t, 5000);
    ts_save(&t, "away/b/f", "not under that name");
    ts_step(&t, 5000);
    ts_create(&t, "x", S_IFDIR | 0755);
    ts_create(&t, "x/b", S_IFDIR | 0755);
    ts_save(&t, "x/b/f", "new");
    ts_step(&t, 5000);
    ts_rename(&t, "x", "a");
    expect(&t, "a/b/f", 4, want);
    struct seen s = versions(&t, "/a//b/./f", false);
    ck_assert_str_eq(s.v[0].how, "rename");
    ck_assert_str_eq(s.v[1].how, "moved-away");
    expect(&t, "x/b/f", 2, moved);
    /* the file, through its names */
    struct seen f = { 0 };
    ck_assert_int_eq(version_list_file(t.s, ts_ino(&t, "away/b/f"), false, collect, &f, NULL), 0);
    ck_assert_uint_eq(f.n, 3);
    struct err err = { 0 };
    struct seen none = { 0 };
    ck_assert_int_eq(version_list(t.s, "never/was", false, collect, &none, &err), ERR_NOENT);
    ck_assert_int_eq(version_list_file(t.s, 999999, false, collect, &none, &err), ERR_NOENT);
    ck_assert_uint_eq(none.n, 0);
    ts_free(&t);
}
END_TEST

START_TEST(older_content_renamed_onto_the_name_is_a_version)
{
    static const char *const want[] = { "older", "newer" };
    struct teststore t;
    ts_new(&t, "UTC");
    ts_save(&t, "old", "older");
    ts_step(&t, 5000);
    ts_save(&t, "f", "newer");
    ts_step(&t, 5000);
    ts_rename(&t, "old", "f");
    expect(&t, "f", 2, want);
    undo(&t, "f", false, "newer");
    undo(&t, "f", true, "older");
    ts_free(&t);
}
END_TEST

START_TEST(an_emptied_file_comes_back)
{
    static const char *const want[] = { "", "text" };
    struct teststore t;
    ts_new(&t, "UTC");
    ts_save(&t, "f", "text");
    ts_step(&t, 100);
    ts_truncate(&t, ts_ino(&t, "f"), 0);
    expect(&t, "f", 2, want);
    undo(&t, "f", false, "text");
    ts_create(&t, "marker", S_IFREG | 0644);
    ts_step(&t, 60000);
    ts_unlink(&t, "marker");
    struct seen s = versions(&t, "marker", false);
    ck_assert_uint_eq(s.n, 2);           /* it was meant to be empty */
    ts_free(&t);
}
END_TEST

START_TEST(undo_survives_a_restart_at_once)
{
    struct teststore t;
    ts_new(&t, "UTC");
    for (int i = 1; i <= 4; i++) {
        char text[16];
        snprintf(text, sizeof text, "v%d", i);
        ts_save(&t, "f", text);
        ts_step(&t, 3000);
    }
    undo(&t, "f", false, "v3");
    ts_reopen(&t, true);
    ts_is(&t, "f", "v3");
    undo(&t, "f", false, "v2");
    ts_reopen(&t, true);
    undo(&t, "f", true, "v3");
    undo(&t, "f", true, "v4");
    ts_free(&t);
}
END_TEST

START_TEST(paths_of_inodes)
{
    struct teststore t;
    char buf[64];
    struct err err = { 0 };
    ts_new(&t, "UTC");
    ts_create(&t, "a", S_IFDIR | 0755);
    ts_create(&t, "a/b", S_IFDIR | 0755);
    ts_save(&t, "a/b/f", "x");
    uint64_t ino = ts_ino(&t, "a/b/f"), then = ts_last(&t);
    ts_rename(&t, "a/b", "c");
    ck_assert_int_eq(store_path(t.s, AT_LIVE, ino, buf, sizeof buf, &err), 0);
    ck_assert_str_eq(buf, "c/f");
    ck_assert_int_eq(store_path(t.s, then, ino, buf, sizeof buf, &err), 0);
    ck_assert_str_eq(buf, "a/b/f");
    ck_assert_int_eq(store_path(t.s, then, ino, buf, 6, &err), 0);
    ck_assert_int_eq(store_path(t.s, then, ino, buf, 5, &err), ERR_RANGE);
    ck_assert_int_eq(store_path(t.s, AT_LIVE, INO_ROOT, buf, sizeof buf, &err), 0);
    ck_assert_str_eq(buf, "");
    ts_unlink(&t, "c/f");
    ck_assert_int_eq(store_path(t.s, AT_LIVE, ino, buf, sizeof buf, &err), ERR_NOENT);
    ck_assert_int_eq(store_walk(t.s, AT_LIVE, "c/../a", NULL, NULL, &err), ERR_INVAL);
    ck_assert_int_eq(store_walk(t.s, then, "a/b/f/x", NULL, NULL, &err), ERR_NOTDIR);
    ts_free(&t);
}
END_TEST

int main(void)
{
    Suite *su = suite_create("version");
    TCase *tc = tcase_create("versions");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, five_saves_are_five_versions, 0, 2 * WAYS);
    tcase_add_loop_test(tc, a_large_copy_is_one_version, 0, 2);
    tcase_add_test(tc, deletion_is_listed_when_it_lasts);
    tcase_add_test(tc, mode_changes_make_no_version);
    tcase_add_test(tc, fsync_and_snapshot_end_a_burst);
    tcase_add_test(tc, a_path_is_followed_through_renamed_directories);
    tcase_add_test(tc, older_content_renamed_onto_the_name_is_a_version);
    tcase_add_test(tc, an_emptied_file_comes_back);
    tcase_add_test(tc, undo_survives_a_restart_at_once);
    tcase_add_test(tc, paths_of_inodes);
    suite_add_tcase(su, tc);
    SRunner *sr = srunner_create(su);
    srunner_run_all(sr, CK_NORMAL);
    int bad = srunner_ntests_failed(sr);
    srunner_free(sr);
    return bad != 0;
}
