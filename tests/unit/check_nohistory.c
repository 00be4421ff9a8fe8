/*
 * check_nohistory.c: what is not of the past: it leaves no rows, what is beside it does; what goes in and out has a history where it had one; and nothing that
 * brings the past back takes it away.
 */
#include "store/core/diff.h"
#include "store/core/nohistory.h"
#include "store/core/restore.h"
#include "store/core/retain.h"
#include "store/core/version.h"
#include "store/log/log.h"
#include "store/maint/reclaim.h"
#include "store/pack/packs.h"
#include "store/svc/svc.h"
#include "tests/lib/packrig.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct teststore a;

static int set_attr(const char *path, bool on)
{
    uint64_t ino = ts_ino(&a, path);

    ck_assert_uint_ne(ino, 0);
    return on ? store_setxattr(a.s, &a.who, ino, REC_XATTR_NOHISTORY, "x", 1, 0, false, NULL) : store_removexattr(a.s, &a.who, ino, REC_XATTR_NOHISTORY, NULL);
}

static bool has_attr(const char *path)
{
    return store_getxattr(a.s, AT_LIVE, ts_ino(&a, path), REC_XATTR_NOHISTORY, NULL, 0, NULL) >= 0;
}

/* A directory, and that it hides what is made in it. */
static void hiding(const char *path)
{
    ts_create(&a, path, S_IFDIR | 0755);
    ck_assert_int_eq(set_attr(path, true), 0);
}

static void set(const char *name, const char *value)
{
    struct err err = { 0 };

    ck_assert_msg(store_config_set(a.s, name, value, &err) == 0, "%s", err.msg);
}

static uint64_t dir_of(const char *path, const char **name)
{
    const char *slash = strrchr(path, '/');
    char dir[256] = "";

    *name = slash ? slash + 1 : path;
    if (slash)
        memcpy(dir, path, (size_t)(slash - path));
    return ts_ino(&a, dir);
}

static int renamed(const char *from, const char *to, uint32_t flags)
{
    const char *x, *y;
    uint64_t gone, sp = dir_of(from, &x), dp = dir_of(to, &y);
    int rc = store_rename(a.s, &a.who, sp, x, strlen(x), dp, y, strlen(y), flags, &gone, NULL);

    if (rc == 0 && gone != 0)
        ck_assert_int_eq(store_reap(a.s, &gone, 1, NULL), 0);
    return rc;
}

/* The moment of now: its LSN. Time passes behind it. */
static uint64_t now(void)
{
    uint64_t lsn = ts_last(&a);

    ts_step(&a, 3000);
    return lsn;
}

static bool hidden(const char *path)
{
    struct row_ino row;

    ck_assert_int_eq(store_walk(a.s, AT_LIVE, path, NULL, &row, NULL), 0);
    return row.hidden != 0;
}

static void then(uint64_t at, const char *path, const char *text)
{
    char *got = ts_read(&a, at, path);

    ck_assert_msg(text == NULL ? got == NULL : got != NULL && strcmp(got, text) == 0, "%s @%lu: expected %s, found %s", path, (unsigned long)at,
                  text ? text : "none", got ? got : "none");
    free(got);
}

/* ---- rows ---- */

struct rows { uint64_t n[128], sum; };

static struct rows rows(void)
{
    struct rows r = { .sum = 0 };
    struct kv *kv = store_kv(a.s);
    struct kv_iter *it;
    uint8_t lo = 0, hi = 0xff;
    struct err err = { 0 };

    ck_assert_msg(store_apply(a.s, &err) == 0, "%s", err.msg);
    it = kv->ops->iter_new(kv, NULL, &lo, 1, &hi, 1);
    for (kv->ops->iter_seek(it, &lo, 1); kv->ops->iter_valid(it); kv->ops->iter_next(it)) {
        size_t klen, vlen;
        const uint8_t *key = kv->ops->iter_key(it, &klen), *val = kv->ops->iter_val(it, &vlen);
        struct key_parts k;

        ck_assert(key_parse(key, klen, &k));
        r.n[(unsigned char)k.table]++;
        if (k.table != 'h' && k.table != 'n')
            r.sum = hash64(&(uint64_t[]){ r.sum, hash64(key, klen), hash64(val, vlen) }, 24);
    }
    kv->ops->iter_free(it);
    return r;
}

static void same_rows(const struct rows *x, const struct rows *y, const char *tables, const char *when)
{
    for (const char *t = tables; *t; t++)
        ck_assert_msg(x->n[(unsigned char)*t] == y->n[(unsigned char)*t], "%s: table %c: expected %lu rows, found %lu", when, *t,
                      (unsigned long)x->n[(unsigned char)*t], (unsigned long)y->n[(unsigned char)*t]);
}

/* A pass over all rows agrees with what is counted, and the index made anew is the same. */
static void well(void)
{
    const struct keep all = { LOG_FIRST_ADDR, NULL, 0 };
    struct index_trim trim;
    struct sweep *w = NULL;
    struct err err = { 0 };
    struct rows before = rows(), after;

    ck_assert_int_eq(sweep_new(store_kv(a.s), &all, NULL, &w, &err), 0);
    while (sweep_step(w, 1000, &trim, &err) == 1)
        ;
    ck_assert_msg(sweep_whole(w, &err) == 0, "%s", err.msg);
    sweep_free(w);
    packrig_without_index(&a);
    after = rows();
    same_rows(&before, &after, "iIdDxXpPmMaAo", "index made anew");
    ck_assert_uint_eq(before.sum, after.sum);
}

static void work_in(const char *dir, int round)
{
    static uint8_t data[3 << 20];
    char f[64], g[64];
    uint64_t ino, big;

    snprintf(f, sizeof f, "%s/f%d", dir, round % 7);
    snprintf(g, sizeof g, "%s/g%d", dir, round % 5);
    memset(data, round, sizeof data);
    ino = ts_create(&a, f, S_IFREG | 0644);
    ts_write(&a, ino, 0, data, 5000);
    ts_write(&a, ino, 1000, data, (size_t)(1 + round % 3000));
    ck_assert_int_eq(store_setxattr(a.s, &a.who, ino, "user.x", "value", (size_t)(round % 6), 0, false, NULL), 0);
    if (round % 3 == 0)
        rows();                          /* applied in the middle */
    ts_write(&a, ino, (uint64_t)(round % 6) << 20, data, 10);
    ts_truncate(&a, ino, 2000);          /* what is behind it has nothing left */
    ts_truncate(&a, ino, 0);
    ts_write(&a, ino, (uint64_t)(round % 4) << 19, data, 3000);
    ck_assert_int_eq(store_setxattr(a.s, &a.who, ino, "user.x", "other", 5, 0, false, NULL), 0);
    if (round % 100 == 50) {             /* many blocks, with holes between them */
        for (uint64_t b = 0; b < 90; b += 7)
            ts_write(&a, ino, b << 20, data, 100);
        ck_assert_int_eq(store_fallocate(a.s, &a.who, ino, RFA_PUNCH_HOLE | RFA_KEEP_SIZE, 7 << 20, 60 << 20, NULL), 0);
        ts_write(&a, ino, 3 << 20, data, sizeof data);
    }
    ts_rename(&a, f, g);
    big = ts_create(&a, f, S_IFREG | 0644);
    ck_assert_int_ge(store_clone(a.s, &a.who, AT_LIVE, ino, 0, big, 100, UINT64_MAX >> 21, NULL), 0);
    ts_unlink(&a, f);
    snprintf(f, sizeof f, "%s/d%d", dir, round);
    ts_create(&a, f, S_IFDIR | 0755);
    snprintf(f + strlen(f), sizeof f - strlen(f), "/link");
    ts_link(&a, g, f);
    ts_symlink(&a, "t/d/sym", "somewhere");
    ts_unlink(&a, "t/d/sym");
    ts_unlink(&a, f);
    *strrchr(f, '/') = '\0';
    ts_unlink(&a, f);
    ts_unlink(&a, g);
    ts_step(&a, round % 10 == 0 ? 3000 : 1);
}

START_TEST(work_in_a_hidden_directory_leaves_no_rows)
{
    struct rows before, after;

    packrig_start(&a, &(struct past){ 0 }, 1, 1 << 20);
    a.opt.memory_bytes = _i % 2 ? 1 << 16 : 0;       /* rows come and go */
    ts_reopen(&a, false);
    hiding("t");
    ts_create(&a, "t/d", S_IFDIR | 0755);
    ts_step(&a, 5000);
    before = rows();
    for (int i = 0; i < 1000; i++) {
        work_in("t/d", i);
        if (_i >= 2 && i % 200 == 199)
            packrig_pack(a.s, NULL);
    }
    after = rows();
    same_rows(&before, &after, "iIdDxXpPmMaAo", "work in a hidden directory");
    ts_unlink(&a, "t/d");
    well();
    ts_free(&a);
}
END_TEST

/* The directory itself is of the past, and so are its changes: one row for each. */
START_TEST(the_directory_that_hides_is_of_the_past)
{
    struct rows before, after;
    uint64_t t0, t1;
    struct row_ino row;

    packrig_start(&a, &(struct past){ 0 }, 1, 1 << 20);
    hiding("t");
    t0 = now();
    before = rows();
    for (int i = 0; i < 100; i++)
        ts_save(&a, "t/f", "x");
    ts_unlink(&a, "t/f");
    after = rows();
    same_rows(&before, &after, "idDxXpPmMaAo", "work in a directory that hides");
    ck_assert_uint_eq(after.n['I'], before.n['I'] + 2);
    ts_save(&a, "t/f", "x");
    t1 = now();
    ck_assert_int_eq(store_walk(a.s, t0, "t", NULL, &row, NULL), 0);
    ck_assert_int_eq(store_walk(a.s, t1, "t", NULL, &row, NULL), 0);
    then(t1, "t/f", NULL);
    ts_is(&a, "t/f", "x");
    well();
    ts_free(&a);
}
END_TEST

/* ---- in and out ---- */

static void many_saves(const char *path, const char *text, int n)
{
    uint64_t ino = ts_ino(&a, path);

    for (int i = 0; i < n; i++) {
        ts_write(&a, ino, (uint64_t)(i % 3), "?", 1);
        ts_step(&a, 10);
    }
    ts_write(&a, ino, 0, text, strlen(text));
}

START_TEST(a_file_that_goes_in_and_out_has_its_history_where_it_had_one)
{
    static const char *const texts[] = { "one...", "two...", "three.", "four..", "five.." };
    uint64_t at[5], ino;
    bool trunc = _i & 1, attrs = _i & 2, pack = _i & 4;
    char *val = malloc(64);

    packrig_start(&a, &(struct past){ 0 }, 1, 1 << 20);
    hiding("t");
    ino = ts_create(&a, "f", S_IFREG | 0644);
    for (int i = 0; i < 5; i++) {
        if (i == 1)
            ts_rename(&a, "f", "t/f");
        if (i == 3)
            ts_rename(&a, "t/f", "f");
        if (i == 4)
            ts_rename(&a, "f", "t/f");
        ck_assert_int_eq(hidden(i == 1 || i == 2 || i == 4 ? "t/f" : "f"), i == 1 || i == 2 || i == 4);
        if (trunc)
            ts_truncate(&a, ino, 0);
        many_saves(i == 1 || i == 2 || i == 4 ? "t/f" : "f", texts[i], 150);     /* images come in between */
        if (attrs)
            ck_assert_int_eq(store_setxattr(a.s, &a.who, ino, "user.x", texts[i], 6, 0, false, NULL), 0);
        if (pack)
            packrig_pack(a.s, NULL);
        at[i] = now();
    }
    for (int round = 0; round < 3; round++) {
        then(at[0], "f", texts[0]);
        then(at[3], "f", texts[3]);
        for (int i = 0; i < 5; i++) {
            then(at[i], "t/f", NULL);
            if (i != 0 && i != 3)
                then(at[i], "f", NULL);
            struct row_ino row;
            bool seen = i == 0 || i == 3;
            ck_assert_int_eq(store_getattr(a.s, at[i], ino, &row, NULL), seen ? 0 : ERR_STALE);
            int64_t n = store_getxattr(a.s, at[i], ino, "user.x", val, 64, NULL);
            if (seen && attrs)
                ck_assert(n == 6 && memcmp(val, texts[i], 6) == 0);
            else
                ck_assert_int_lt(n, 0);
        }
        if (round == 0)
            well();
        if (round == 1)
            ts_unlink(&a, "t/f");
    }
    well();
    then(at[3], "f", texts[3]);
    free(val);
    ts_free(&a);
}
END_TEST

/* A second name elsewhere is enough to have a history; one of several names does not take it away. */
START_TEST(links_and_replacements)
{
    uint64_t t;

    packrig_start(&a, &(struct past){ 0 }, 1, 1 << 20);
    hiding("t");
    ts_save(&a, "t/x", "x");
    ts_link(&a, "t/x", "t/x2");
    ck_assert(hidden("t/x"));
    ts_link(&a, "t/x", "x3");
    ck_assert(!hidden("t/x"));
    t = now();
    then(t, "x3", "x");
    then(t, "t/x", NULL);                /* named when it was hidden */
    ck_assert_int_eq(nohistory_explain(a.s, "t/x", NULL), 1);
    ck_assert_int_eq(nohistory_explain(a.s, "x3", NULL), 0);
    ck_assert_int_eq(nohistory_explain(a.s, "t/none", NULL), 2);
    ck_assert_int_eq(nohistory_explain(a.s, "none/x", NULL), 0);
    ts_save(&a, "t/x", "by its hidden name");
    then(t, "x3", "x");
    t = now();
    then(t, "x3", "by its hidden name");

    ts_save(&a, "y", "y");               /* two names outside, one goes in: it goes on */
    ts_link(&a, "y", "y2");
    ts_rename(&a, "y2", "t/y2");
    ck_assert(!hidden("y"));
    t = now();
    then(t, "t/y2", "y");
    ts_unlink(&a, "y");
    ts_save(&a, "t/y2", "still");
    t = now();
    then(t, "t/y2", "still");
    ts_rename(&a, "t/y2", "t/y3");       /* alone now, and named anew in there */
    ck_assert(hidden("t/y3"));
    then(t, "t/y2", "still");
    t = now();
    then(t, "t/y3", NULL);

    ts_save(&a, "z", "outer");           /* mv over: the hidden one comes out, what it replaces stays in the past */
    t = now();
    ts_save(&a, "t/z", "inner");
    ts_rename(&a, "t/z", "z");
    ck_assert(!hidden("z"));
    then(t, "z", "outer");
    t = now();
    then(t, "z", "inner");
    ts_save(&a, "w", "kept");            /* and the other way */
    t = now();
    ts_save(&a, "t/w", "let go");
    ts_rename(&a, "w", "t/w");
    ck_assert(hidden("t/w"));
    then(t, "w", "kept");
    then(now(), "t/w", NULL);

    ts_save(&a, "e", "out");             /* both ways at once */
    ts_save(&a, "t/e", "in");
    t = now();
    ck_assert_int_eq(renamed("e", "t/e", RRN_EXCHANGE), 0);
    ck_assert(!hidden("e") && hidden("t/e"));
    then(t, "e", "out");
    t = now();
    then(t, "e", "in");
    then(t, "t/e", NULL);
    ts_is(&a, "t/e", "out");
    ck_assert_int_eq(renamed("t/e", "e", RRN_EXCHANGE), 0);
    ck_assert(!hidden("e") && hidden("t/e"));
    then(now(), "e", "out");
    well();
    ts_free(&a);
}
END_TEST

/* As linkat does after O_TMPFILE: a file without a name gets one outside. */
START_TEST(an_orphan_that_gets_a_name)
{
    uint64_t ino, gone = 0, t;
    struct row_ino row;

    packrig_start(&a, &(struct past){ 0 }, 1, 1 << 20);
    hiding("t");
    for (int in = 0; in < 2; in++) {
        const char *from = in ? "t/o" : "o", *to = in ? "p" : "t/p";
        const char *x, *y;
        uint64_t d = dir_of(from, &x), e = dir_of(to, &y);

        ino = ts_create(&a, from, S_IFREG | 0644);
        ts_write(&a, ino, 0, "text", 4);
        ck_assert_int_eq(store_unlink(a.s, &a.who, d, x, 1, false, &gone, NULL), 0);
        ck_assert_uint_eq(gone, ino);
        ck_assert_int_eq(store_link_node(a.s, &a.who, ino, e, y, 1, &row, NULL), 0);
        ck_assert(!hidden(to));
        t = now();
        then(t, to, "text");
        ts_save(&a, to, "other");
        then(t, to, "text");
    }
    well();
    ts_free(&a);
}
END_TEST

/* ---- directories ---- */

START_TEST(a_hidden_directory_does_not_leave)
{
    uint64_t last;

    packrig_start(&a, &(struct past){ 0 }, 1, 1 << 20);
    hiding("t");
    hiding("u");
    ts_create(&a, "t/d", S_IFDIR | 0755);
    ts_create(&a, "t/d/e", S_IFDIR | 0755);
    ts_save(&a, "t/d/e/f", "f");
    ts_create(&a, "o", S_IFDIR | 0755);
    ts_create(&a, "empty", S_IFDIR | 0755);
    set("nohistory", "build *.tmp");
    last = ts_last(&a);
    ck_assert_int_eq(renamed("t/d", "d", 0), ERR_XDEV);
    ck_assert_int_eq(renamed("t/d/e", "o/e", 0), ERR_XDEV);
    ck_assert_int_eq(renamed("t/d", "empty", 0), ERR_XDEV);
    ck_assert_int_eq(renamed("t/d", "o", RRN_EXCHANGE), ERR_XDEV);
    ck_assert_int_eq(renamed("o", "t/d", RRN_EXCHANGE), ERR_XDEV);
    ck_assert_uint_eq(ts_last(&a), last);            /* no record was written */
    ck_assert_int_eq(renamed("t/d", "t/x", 0), 0);
    ck_assert_int_eq(renamed("t/x", "u/x", 0), 0);
    ck_assert_int_eq(renamed("u/x", "build", 0), 0);
    ck_assert_int_eq(renamed("build", "o/build", 0), 0);
    ck_assert_int_eq(renamed("o/build", "o/not", 0), ERR_XDEV);
    ts_create(&a, "build", S_IFDIR | 0755);
    ck_assert_int_eq(renamed("build", "o/build", RRN_EXCHANGE), 0);      /* both stay hidden by their new names */
    ck_assert_int_eq(renamed("o/build", "t", RRN_EXCHANGE), ERR_XDEV);
    ck_assert(hidden("build") && hidden("o/build") && hidden("build/e"));
    ck_assert_int_eq(renamed("o", "t/o", 0), 0);     /* one that is of the past goes where it likes, and stays of it */
    ck_assert(!hidden("t/o"));
    ts_save(&a, "t/o/f", "kept");
    then(now(), "t/o/f", "kept");
    ck_assert_int_eq(renamed("t/o", "o", 0), 0);
    ck_assert_int_eq(renamed("empty", "some.tmp", 0), 0);
    ck_assert(!hidden("some.tmp"));
    ck_assert_int_eq(renamed("some.tmp", "empty", 0), 0);
    ck_assert_int_eq(renamed("t", "o/t", 0), 0);     /* the one that hides, and is not hidden: with all that is in it */
    ck_assert_int_eq(set_attr("o/t", false), 0);
    well();
    ts_free(&a);
}
END_TEST

START_TEST(the_attribute_counts_for_what_is_made)
{
    uint64_t t;

    packrig_start(&a, &(struct past){ 0 }, 1, 1 << 20);
    ts_create(&a, "t", S_IFDIR | 0755);
    ts_save(&a, "t/before", "one");
    ck_assert_int_eq(set_attr("t", true), 0);
    ck_assert(!hidden("t/before"));
    ts_save(&a, "t/before", "two");
    t = now();
    ts_save(&a, "t/before", "three");
    then(t, "t/before", "two");
    ts_save(&a, "t/after", "x");
    ck_assert(hidden("t/after"));
    ts_rename(&a, "t/before", "t/within");           /* named anew in there */
    ck_assert(hidden("t/within"));
    then(t, "t/before", "two");
    ck_assert_int_eq(set_attr("t", false), 0);
    ck_assert(hidden("t/after") && hidden("t/within"));
    ts_save(&a, "t/after", "y");
    t = now();
    then(t, "t/after", NULL);
    ts_rename(&a, "t/after", "t/later");
    ck_assert(!hidden("t/later"));
    t = now();
    then(t, "t/later", "y");
    ts_save(&a, "t/new", "z");
    then(now(), "t/new", "z");
    ts_save(&a, "f", "f");                           /* of a file it says nothing */
    ck_assert_int_eq(set_attr("f", true), 0);
    ts_save(&a, "f", "g");
    then(now(), "f", "g");
    well();
    ts_free(&a);
}
END_TEST

/* ---- names ---- */

START_TEST(patterns)
{
    static const struct { const char *value, *norm; } good[] = { { "", "" }, { "*.o", "*.o" }, { "  *.o   node_modules ", "*.o node_modules" }, { "CACHEDIR.TAG", "CACHEDIR.TAG" },
                                                                 { "[ab]? x", "[ab]? x" } };
    static const char *const bad[] = { "a/b", "*.o /x", "*", "?", "*.o **", "x\\" };
    char norm[NOHISTORY_MAX + 1], big[NOHISTORY_MAX + 10];
    struct nohistory n;
    struct err err;

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ck_assert_int_eq(nohistory_check(good[i].value, norm, sizeof norm, NULL), 0);
        ck_assert_str_eq(norm, good[i].norm);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memset(&err, 0, sizeof err);
        ck_assert_int_eq(nohistory_check(bad[i], norm, sizeof norm, &err), ERR_USAGE);
        ck_assert_ptr_nonnull(strstr(err.msg, "nohistory "));
        nohistory_set(&n, bad[i]);
        ck_assert(!nohistory_has(&n, "x", 1) && !nohistory_has(&n, "a.o", 3));
    }
    for (size_t i = 0; i < sizeof big - 1; i++)
        big[i] = i % 2 ? ' ' : 'a';
    big[sizeof big - 1] = '\0';
    ck_assert_int_eq(nohistory_check(big, norm, sizeof norm, NULL), ERR_USAGE);
    big[NOHISTORY_MAX] = '\0';
    ck_assert_int_eq(nohistory_check(big, norm, sizeof norm, NULL), 0);
    nohistory_set(&n, big);
    ck_assert(nohistory_has(&n, "a", 1) && !nohistory_has(&n, "", 0) && !n.tags);
    nohistory_set(&n, "*.o CACHEDIR.TAG n?de");
    ck_assert(nohistory_has(&n, "x.o", 3) && nohistory_has(&n, ".o", 2) && nohistory_has(&n, "node", 4) && nohistory_has(&n, "\xff.o", 3));
    ck_assert(!nohistory_has(&n, "x.oo", 4) && !nohistory_has(&n, "CACHEDIR.TAG", 12) && n.tags);
    nohistory_set(&n, NULL);
    ck_assert(!nohistory_has(&n, "x.o", 3) && !n.tags);
}
END_TEST

START_TEST(names_that_the_setting_has)
{
    uint64_t t;

    packrig_start(&a, &(struct past){ 0 }, 1, 1 << 20);
    ts_save(&a, "early.o", "early");
    set("nohistory", "*.o node_modules");
    ck_assert(!hidden("early.o"));
    ts_save(&a, "x.o", "x");
    ts_save(&a, "x.c", "c");
    ts_create(&a, "node_modules", S_IFDIR | 0755);
    ts_create(&a, "node_modules/p", S_IFDIR | 0755);
    ts_save(&a, "node_modules/p/index.js", "js");
    ck_assert(hidden("x.o") && !hidden("x.c") && hidden("node_modules/p/index.js"));
    t = now();
    then(t, "x.o", NULL);
    then(t, "x.c", "c");
    then(t, "node_modules/p/index.js", NULL);
    ts_save(&a, "doc.o", "a draft");                 /* saved under such a name, then given its own */
    ts_rename(&a, "doc.o", "doc");
    t = now();
    then(t, "doc", "a draft");
    ts_link(&a, "x.o", "y.o");
    ck_assert(hidden("x.o"));
    ts_link(&a, "x.o", "y");
    ck_assert(!hidden("x.o"));
    ts_save(&a, "z.c", "z");
    t = now();
    ts_rename(&a, "z.c", "z.o");
    ck_assert(hidden("z.o"));
    then(t, "z.c", "z");
    ts_save(&a, "p.c", "p");
    ck_assert_int_eq(renamed("p.c", "z.o", RRN_EXCHANGE), 0);
    ck_assert(hidden("z.o") && !hidden("p.c"));
    set("nohistory", NULL);
    ts_save(&a, "w.o", "w");
    ck_assert(!hidden("w.o"));
    set("nohistory", "*.o");
    ck_assert_int_eq(store_sync(a.s, NULL), 0);
    ts_reopen(&a, true);                             /* what is set stays set */
    ts_save(&a, "v.o", "v");
    ck_assert(hidden("v.o"));
    well();
    ck_assert(hidden("v.o") && !hidden("w.o"));      /* by what was set then, not by what is set now */
    set("nohistory", NULL);
    well();
    ts_free(&a);
}
END_TEST

/* ---- CACHEDIR.TAG ---- */

static int64_t tag(const char *path, const char *text, size_t len, uint64_t off, uint64_t *tagged)
{
    struct caller who = a.who;
    uint64_t ino = ts_ino(&a, path);

    *tagged = 0;
    who.tagged = tagged;
    if (ino == 0)
        ino = ts_create(&a, path, S_IFREG | 0644);
    return store_write(a.s, &who, ino, off, text, len, NULL);
}

START_TEST(a_directory_with_a_tag)
{
    static const char text[] = NOHISTORY_SIGNATURE "\n# made by a test\n";
    uint64_t tagged, d;

    packrig_start(&a, &(struct past){ 0 }, 1, 1 << 20);
    d = ts_create(&a, "d", S_IFDIR | 0755);
    ck_assert_int_eq(tag("d/CACHEDIR.TAG", text, sizeof text, 0, &tagged), sizeof text);
    ck_assert(tagged == 0 && !has_attr("d"));        /* nobody asked for it */
    set("nohistory", "*.x CACHEDIR.TAG");
    tag("d/other", text, sizeof text, 0, &tagged);
    ck_assert_uint_eq(tagged, 0);
    tag("d/CACHEDIR.TAG", text + 1, sizeof text - 1, 0, &tagged);
    ck_assert_uint_eq(tagged, 0);
    tag("d/CACHEDIR.TAG", text, 42, 0, &tagged);
    ck_assert_uint_eq(tagged, 0);
    tag("d/CACHEDIR.TAG", text, sizeof text, 1, &tagged);
    ck_assert_uint_eq(tagged, 0);
    tag("d/CACHEDIR.TAG", text, 43, 0, &tagged);
    ck_assert_uint_eq(tagged, d);
    ck_assert(has_attr("d"));
    tag("d/CACHEDIR.TAG", text, 43, 0, &tagged);
    ck_assert_uint_eq(tagged, 0);                    /* it has it */
    ts_save(&a, "d/f", "x");
    ck_assert(hidden("d/f") && !hidden("d/CACHEDIR.TAG"));
    /* cargo's way: a directory beside it, tagged, then given its name */
    ts_create(&a, "targetXyz", S_IFDIR | 0755);
    tag("targetXyz/CACHEDIR.TAG", text, sizeof text, 0, &tagged);
    ck_assert_int_eq(renamed("targetXyz", "target", 0), 0);
    ck_assert(has_attr("target") && !hidden("target"));
    ts_create(&a, "target/debug", S_IFDIR | 0755);
    ck_assert(hidden("target/debug"));
    tag("target/debug/CACHEDIR.TAG", text, sizeof text, 0, &tagged);
    ck_assert(tagged == 0 && !has_attr("target/debug"));     /* hidden as it is */
    well();
    ts_free(&a);
}
END_TEST

/* Cut off between the two records, or anywhere: written, or not; tagged, or not; and never the second without the first. */
START_TEST(a_tag_and_a_cut)
{
    unsigned both = 0, one = 0;

    for (uint64_t n = 1; n < 60; n++) {
        uint64_t tagged;
        struct row_ino row;

        packrig_start(&a, &(struct past){ 0 }, 1, 1 << 20);
        set("nohistory", "CACHEDIR.TAG");
        ts_create(&a, "d", S_IFDIR | 0755);
        ts_create(&a, "d/CACHEDIR.TAG", S_IFREG | 0644);
        ck_assert_int_eq(store_sync(a.s, NULL), 0);
        simio_cut_at(a.sim, n);
        (void)tag("d/CACHEDIR.TAG", NOHISTORY_SIGNATURE, 43, 0, &tagged);
        (void)store_sync(a.s, NULL);
        simio_cut_at(a.sim, 0);
        store_drop(a.s);
        simio_cut(a.sim, n, SIMIO_CUT_RANDOM);
        packrig_open(&a);
        ck_assert_int_eq(store_walk(a.s, AT_LIVE, "d/CACHEDIR.TAG", NULL, &row, NULL), 0);
        ck_assert(!has_attr("d") || row.size == 43);
        both += has_attr("d");
        one += row.size == 43 && !has_attr("d");
        ts_free(&a);
    }
    ck_assert_uint_gt(both, 0);
    ck_assert_uint_gt(one, 0);
}
END_TEST

/* ---- what brings the past back ---- */

static int restore(uint64_t at, const char *src, const char *dst, bool extra, struct restore_stats *st, struct err *err)
{
    memset(err, 0, sizeof *err);
    return restore_path(a.s, &a.who, at, src, dst, extra, NULL, NULL, st, err);
}

START_TEST(a_restore_leaves_alone_what_is_hidden)
{
    struct restore_stats st;
    struct err err;
    uint64_t t;

    packrig_start(&a, &(struct past){ 0 }, 1, 1 << 20);
    ts_create(&a, "p", S_IFDIR | 0755);
    ts_save(&a, "p/src", "one");
    hiding("p/target");
    ts_save(&a, "p/target/lib.o", "lib");
    t = now();
    ts_save(&a, "p/src", "two");
    ts_save(&a, "p/target/lib.o", "newer");
    ts_create(&a, "p/more", S_IFDIR | 0755);         /* extra, with something hidden below it */
    ts_save(&a, "p/more/visible", "v");
    ts_create(&a, "p/more/deep", S_IFDIR | 0755);
    hiding("p/more/deep/cache");
    ts_save(&a, "p/more/deep/cache/blob", "blob");
    ts_create(&a, "p/more/deep/cache/sub", S_IFDIR | 0755);
    ts_save(&a, "p/more/deep/cache/sub/blob", "blob2");
    ts_create(&a, "p/gone", S_IFDIR | 0755);
    ck_assert_int_eq(restore(t, "p", "p", false, &st, &err), 0);
    ck_assert(st.left == 0 && st.blocked == 0 && st.removed == 0);
    ts_is(&a, "p/src", "one");
    ts_is(&a, "p/target/lib.o", "newer");
    ck_assert_int_eq(restore(t, "p", "p", true, &st, &err), 0);
    ck_assert_uint_eq(st.left, 3);                   /* lib.o, and what is in the cache */
    ts_is(&a, "p/target/lib.o", "newer");
    ts_is(&a, "p/more/visible", NULL);
    ts_is(&a, "p/more/deep/cache/blob", "blob");
    ts_is(&a, "p/more/deep/cache/sub/blob", "blob2");
    ck_assert_uint_eq(ts_ino(&a, "p/gone"), 0);
    well();
    ts_free(&a);
}
END_TEST

START_TEST(what_is_hidden_gives_way_to_nothing)
{
    struct restore_stats st;
    struct err err;
    uint64_t t;
    char path[64];

    packrig_start(&a, &(struct past){ 0 }, 1, 1 << 20);
    ts_create(&a, "p", S_IFDIR | 0755);
    ts_save(&a, "p/a", "past a");
    ts_save(&a, "p/b", "past b");
    ts_create(&a, "p/d", S_IFDIR | 0755);
    ts_save(&a, "p/d/x", "past x");
    ts_save(&a, "p/e", "past e");
    t = now();
    ts_unlink(&a, "p/a");
    ts_unlink(&a, "p/d/x");
    ts_unlink(&a, "p/d");
    ts_unlink(&a, "p/e");
    ck_assert_int_eq(set_attr("p", true), 0);
    ts_save(&a, "p/a", "hidden a");
    ts_create(&a, "p/d", S_IFDIR | 0755);
    ts_save(&a, "p/d/x", "hidden x");
    ts_create(&a, "p/e", S_IFDIR | 0755);
    ts_save(&a, "p/b", "visible b");
    for (int extra = 0; extra < 2; extra++) {
        ck_assert_msg(restore(t, "p", "p", extra, &st, &err) == 0, "%s", err.msg);
        ck_assert_uint_eq(st.blocked, 3);
        ck_assert_int_eq(store_path(a.s, AT_LIVE, st.blocked_ino, path, sizeof path, NULL), 0);
        ck_assert_str_eq(path, "p/a");
        ts_is(&a, "p/a", "hidden a");
        ts_is(&a, "p/d/x", "hidden x");
        ts_is(&a, "p/b", "past b");
        ck_assert_int_eq(set_attr("p", true), 0);    /* it has it still: the restore did not take it */
    }
    ck_assert_int_eq(restore(t, "p/a", "p/a", false, &st, &err), ERR_EXIST);
    ck_assert_ptr_nonnull(strstr(err.msg, "keeps no history"));
    ts_is(&a, "p/a", "hidden a");
    ck_assert_int_eq(restore(t, "p/a", "elsewhere", false, &st, &err), 0);
    ts_is(&a, "elsewhere", "past a");
    ck_assert_int_eq(restore(t, "p/d", "p/d", true, &st, &err), ERR_EXIST);
    ck_assert_int_eq(restore(t, "p/d", "d2", true, &st, &err), 0);
    ts_is(&a, "d2/x", "past x");
    /* a directory that something hidden is in, where a file was */
    ts_save(&a, "f", "past f");
    t = now();
    ts_unlink(&a, "f");
    ts_create(&a, "f", S_IFDIR | 0755);
    ts_save(&a, "f/v", "v");
    ck_assert_int_eq(set_attr("f", true), 0);
    ts_save(&a, "f/h", "h");
    ck_assert_int_eq(restore(t, "f", "f", true, &st, &err), ERR_EXIST);
    ts_is(&a, "f/h", "h");
    well();
    ts_free(&a);
}
END_TEST

/* A directory goes on hiding, or not, as it does today; one that is made anew does as it did. */
START_TEST(a_restore_does_not_set_the_attribute)
{
    struct restore_stats st;
    struct err err;
    uint64_t t;

    packrig_start(&a, &(struct past){ 0 }, 1, 1 << 20);
    ts_create(&a, "p", S_IFDIR | 0755);
    hiding("p/was");
    ts_create(&a, "p/is", S_IFDIR | 0755);
    hiding("p/gone");
    ts_save(&a, "p/plain", "1");
    t = now();
    ck_assert_int_eq(set_attr("p/was", false), 0);
    ck_assert_int_eq(set_attr("p/is", true), 0);
    ts_unlink(&a, "p/gone");
    ck_assert_int_eq(restore(t, "p", "p", true, &st, &err), 0);
    ck_assert(!has_attr("p/was") && has_attr("p/is") && has_attr("p/gone"));
    ts_save(&a, "p/was/work", "important");
    then(now(), "p/was/work", "important");
    well();
    ts_free(&a);
}
END_TEST

START_TEST(undo_and_versions)
{
    struct err err = { 0 };
    uint64_t t;

    packrig_start(&a, &(struct past){ 0 }, 1, 1 << 20);
    ts_create(&a, "t", S_IFDIR | 0755);
    ts_save(&a, "t/f", "one");
    now();
    ts_save(&a, "t/f", "two");
    t = now();
    ck_assert_int_eq(set_attr("t", true), 0);
    ck_assert_int_eq(undo_path(a.s, &a.who, "t/f", false, &err), 0);     /* it has its history */
    ts_is(&a, "t/f", "one");
    now();
    ts_unlink(&a, "t/f");
    now();
    ts_save(&a, "t/f", "hidden");
    now();
    ck_assert_int_eq(undo_path(a.s, &a.who, "t/f", false, &err), ERR_NOENT);
    ck_assert_ptr_nonnull(strstr(err.msg, "t has the attribute " REC_XATTR_NOHISTORY));
    ts_is(&a, "t/f", "hidden");
    ts_save(&a, "t/g", "hidden");
    memset(&err, 0, sizeof err);
    ck_assert_int_eq(undo_path(a.s, &a.who, "t/g", false, &err), ERR_NOENT);
    ts_unlink(&a, "t/f");
    now();
    memset(&err, 0, sizeof err);
    ck_assert_msg(undo_path(a.s, &a.who, "t/f", false, &err) == 0, "%s", err.msg);      /* nothing in the way: it comes back */
    ts_is(&a, "t/f", "one");
    ck_assert(hidden("t/f"));
    then(t, "t/f", "two");
    memset(&err, 0, sizeof err);
    ts_unlink(&a, "t/g");
    ck_assert_int_eq(undo_path(a.s, &a.who, "t/g", false, &err), ERR_NOENT);
    ck_assert_ptr_nonnull(strstr(err.msg, "no history is kept of it"));
    well();
    ts_free(&a);
}
END_TEST

static char lines[2000];

static int take_diff(void *arg, const struct diff_entry *e)
{
    (void)arg;
    snprintf(lines + strlen(lines), sizeof lines - strlen(lines), "%c%s ", "+-RMm"[e->kind], e->path);
    return 0;
}

static int take_found(void *arg, const struct find_entry *e)
{
    (void)arg;
    snprintf(lines + strlen(lines), sizeof lines - strlen(lines), "%s%s ", e->path, e->gone ? "!" : "");
    return 0;
}

static void differs(uint64_t from, uint64_t to, const char *expect)
{
    lines[0] = '\0';
    ck_assert_int_eq(diff_moments(a.s, from, to, take_diff, NULL, NULL, NULL), 0);
    ck_assert_str_eq(lines, expect);
}

START_TEST(diff_and_find_pass_over_what_is_hidden)
{
    uint64_t t0, t1;

    packrig_start(&a, &(struct past){ 0 }, 1, 1 << 20);
    hiding("t");
    ts_save(&a, "out", "x");
    t0 = now();
    ts_save(&a, "t/in", "x");
    ts_create(&a, "t/d", S_IFDIR | 0755);
    ts_save(&a, "t/d/deep", "x");
    ts_save(&a, "seen", "x");
    ts_save(&a, "t/in", "y");
    t1 = now();
    differs(t0, AT_LIVE, "+seen ");
    ts_rename(&a, "t/in", "came");
    ts_rename(&a, "out", "t/went");
    ts_unlink(&a, "t/d/deep");
    differs(t0, AT_LIVE, "+came -out +seen ");
    differs(t1, AT_LIVE, "+came -out ");
    lines[0] = '\0';
    ck_assert_int_eq(find_names(a.s, "*", true, take_found, NULL, NULL), 0);
    ck_assert_str_eq(lines, "out! ");
    lines[0] = '\0';
    ck_assert_int_eq(find_names(a.s, "we*", false, take_found, NULL, NULL), 0);
    ck_assert_str_eq(lines, "t/went ");
    ts_free(&a);
}
END_TEST

/* ---- data ---- */

static void keep_nothing(void)
{
    static const char *const zero[] = { "keep-all", "min-age", "reclaim-grace", "keep-hourly", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly" };

    for (size_t i = 0; i < sizeof zero / sizeof *zero; i++)
        set(zero[i], "0");
}

static uint64_t needed(void)
{
    const struct keep today = { UINT64_MAX - 1, NULL, 0 };
    struct reclaim_sizes z;
    struct err err = { 0 };

    ck_assert_msg(reclaim_measure(a.s, &today, &(struct reclaim_options){ 0 }, &z, &err) == 0, "%s", err.msg);
    return z.needed;
}

static void reclaim_all(void)
{
    struct err err = { 0 };

    packrig_pack(a.s, NULL);
    ck_assert_msg(reclaim(a.s, &(struct reclaim_options){ .now = true, .sweep = true }, NULL, &err) == 0, "%s", err.msg);
}

static int add_size(void *arg, const struct packs_info *i)
{
    *(uint64_t *)arg += i->bytes;
    return 0;
}

static uint64_t pack_bytes(void)
{
    uint64_t n = 0;

    ck_assert_int_eq(packs_list(store_packs(a.s), add_size, &n, NULL), 0);
    return n;
}

/* Data stay as long as a row needs them, wherever they came from; what nobody needs goes when what is kept whole begins behind it, and not before: a
 * standby is sent all from there on. */
START_TEST(data_of_what_is_hidden)
{
    static uint8_t noise[1 << 20], got[1 << 20];
    uint64_t x = 88172645463325252ull, ino, copy, before;
    struct packrig_records w = { .n = 0 };

    packrig_start(&a, &(struct past){ 0 }, 1, 1 << 20);
    for (size_t i = 0; i + 8 <= sizeof noise; i += 8) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        memcpy(noise + i, &x, 8);
    }
    hiding("t");
    ino = ts_create(&a, "t/big", S_IFREG | 0644);
    ts_write(&a, ino, 0, noise + 300000, sizeof noise - 300000);
    ino = ts_create(&a, "t/small", S_IFREG | 0644);
    ts_write(&a, ino, 0, noise, 300000);
    copy = ts_create(&a, "copy", S_IFREG | 0644);
    ck_assert_int_eq(store_clone(a.s, &a.who, AT_LIVE, ino, 0, copy, 0, 300000, NULL), 300000);
    ts_write(&a, ino, 100000, "?", 1);
    ts_unlink(&a, "t/small");
    ts_unlink(&a, "t/big");
    packrig_note(&w, a.s);
    reclaim_all();                       /* nothing was let go of: all is there to be sent */
    ck_assert_uint_gt(pack_bytes(), 1000000);
    ck_assert_uint_eq(store_whole_from(a.s), LOG_FIRST_ADDR);
    for (unsigned i = 0; i < w.n; i++)
        if (w.v[i].len > w.v[i].head_len) {
            uint32_t len = w.v[i].len - w.v[i].head_len;

            ck_assert_int_eq(store_read_data(a.s, w.v[i].lsn, 48 + w.v[i].head_len, 0, len, got, false, NULL), 0);
            ck_assert(memcmp(got, w.v[i].p + w.v[i].head_len, len) == 0);
        }
    packrig_forget(&w);
    keep_nothing();
    ts_step(&a, 10000);
    ts_save(&a, "later", "x");
    ts_step(&a, 10000);
    before = needed();
    ck_assert_uint_lt(before, 400000);
    reclaim_all();
    ck_assert_uint_lt(pack_bytes(), 450000);         /* what the copy shares, and no more */
    ck_assert_int_eq(store_read(a.s, AT_LIVE, copy, 0, got, 300000, false, NULL, NULL), 300000);
    ck_assert(memcmp(got, noise, 300000) == 0);
    ts_unlink(&a, "copy");
    ts_step(&a, 10000);
    ts_save(&a, "later", "y");
    ts_step(&a, 10000);
    reclaim_all();
    ck_assert_uint_lt(pack_bytes(), 100000);
    packrig_without_index(&a);
    reclaim_all();
    ts_is(&a, "later", "y");
    ts_free(&a);
}
END_TEST

static int finding(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    (void)arg, (void)bin, (void)len;
    if (strcmp(type, "item") == 0 && strcmp(json_string_value(json_object_get(o, "kind")), "finding") == 0)
        ck_abort_msg("%s", json_string_value(json_object_get(o, "message")));
    return 0;
}

static void checked(void)
{
    const struct svc_env env = { .s = a.s };
    struct err err = { 0 };
    json_t *req = json_pack("{s:s}", "op", "check");

    ck_assert_msg(svc_call(&env, &a.who, req, NULL, finding, NULL, &err) == 0, "%s", err.msg);
    json_decref(req);
}

/* Its past goes while it is there, and hidden; then it goes itself, and what was kept for its past with the next pass. */
START_TEST(what_has_no_past_left)
{
    struct rows r, before;
    uint64_t ino, t;

    packrig_start(&a, &(struct past){ 0 }, 1, 1 << 20);
    hiding("t");
    keep_nothing();
    before = rows();
    for (int i = 0; i < 3; i++) {
        ino = ts_create(&a, "f", S_IFREG | 0644);
        ts_write(&a, ino, 0, "text", 4);
        ck_assert_int_eq(store_setxattr(a.s, &a.who, ino, "user.x", "1", 1, 0, false, NULL), 0);
        t = now();
        ts_rename(&a, "f", "t/f");
        if (i == 1)
            ts_truncate(&a, ino, 0);
        if (i == 2)
            ts_write(&a, ino, 0, "more", 4);
        then(t, "f", "text");
        checked();
        ts_step(&a, 10000);
        ts_save(&a, "later", "x");
        ts_step(&a, 10000);
        reclaim_all();
        checked();
        ts_unlink(&a, "t/f");
        checked();
        ts_step(&a, 10000);
        ts_save(&a, "later", "x");
        ts_step(&a, 10000);
        reclaim_all();
        checked();
        r = rows();
        ck_assert_uint_eq(r.n['m'] + r.n['M'], 1);   /* that of the other */
        ck_assert_uint_eq(r.n['a'] + r.n['A'], 1);   /* the attribute that hides */
        ck_assert_uint_eq(r.n['i'], before.n['i'] + 1);
    }
    ts_free(&a);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("nohistory");
    TCase *tc = tcase_create("nohistory");
    SRunner *r;
    int failed;

    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, work_in_a_hidden_directory_leaves_no_rows, 0, 3);
    tcase_add_test(tc, the_directory_that_hides_is_of_the_past);
    tcase_add_loop_test(tc, a_file_that_goes_in_and_out_has_its_history_where_it_had_one, 0, 8);
    tcase_add_test(tc, links_and_replacements);
    tcase_add_test(tc, an_orphan_that_gets_a_name);
    tcase_add_test(tc, a_hidden_directory_does_not_leave);
    tcase_add_test(tc, the_attribute_counts_for_what_is_made);
    tcase_add_test(tc, patterns);
    tcase_add_test(tc, names_that_the_setting_has);
    tcase_add_test(tc, a_directory_with_a_tag);
    tcase_add_test(tc, a_tag_and_a_cut);
    tcase_add_test(tc, a_restore_leaves_alone_what_is_hidden);
    tcase_add_test(tc, what_is_hidden_gives_way_to_nothing);
    tcase_add_test(tc, a_restore_does_not_set_the_attribute);
    tcase_add_test(tc, undo_and_versions);
    tcase_add_test(tc, diff_and_find_pass_over_what_is_hidden);
    tcase_add_test(tc, data_of_what_is_hidden);
    tcase_add_test(tc, what_has_no_past_left);
    suite_add_tcase(s, tc);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
