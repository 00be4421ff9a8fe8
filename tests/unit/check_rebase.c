/*
 * check_rebase.c: a base is the rows it was made of; records it has can go; an index made anew from it and what came behind is the one that was. Damage of it is
 * found, and stands in the way of nothing that can do without.
 */
#include "store/core/diff.h"
#include "store/core/moment.h"
#include "store/core/moment_internal.h"
#include "store/core/retain.h"
#include "store/maint/reclaim.h"
#include "store/pack/base.h"
#include "store/pack/history.h"
#include "store/pack/squeeze.h"
#include "tests/lib/log_fixture.h"
#include "tests/lib/packrig.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct teststore a;
static struct past past;

static void set(const char *name, const char *value)
{
    struct err err = { 0 };

    ck_assert_msg(store_config_set(a.s, name, value, &err) == 0, "%s", err.msg);
}

static const char *const keep[] = { "keep-all", "min-age", "reclaim-grace", "keep-hourly", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly" };

static struct reclaim_result reclaim_all(void)
{
    const struct reclaim_options opt = { .now = true, .base = true, .sweep = true };
    struct reclaim_result res;
    struct err err = { 0 };

    ck_assert_msg(reclaim(a.s, &opt, &res, &err) == 0, "reclaim: %s", err.msg);
    return res;
}

/* A store with work of some hours behind it, of which a snapshot in three places is kept, and a base that has what its records were. */
static void thinned(uint64_t seed)
{
    struct err err = { 0 };
    char name[16];

    packrig_start(&a, &past, seed, 16 << 10);
    for (unsigned i = 0; i < 6; i++) {
        past_work(&a, &past, 20, 4);
        ts_step(&a, 40 * 60 * 1000);
        if (i % 2 == 0) {
            snprintf(name, sizeof name, "s%u", i);
            ck_assert_int_eq(store_snapshot(a.s, &a.who, RSN_CREATE, name, AT_LIVE, "", "", 0, &past.m[past.n].lsn, &err), 0);
            past.m[past.n].digest = past_digest(a.s, past.m[past.n].lsn);
            past.n++;
        }
        packrig_pack(a.s, NULL);
    }
    for (size_t i = 0; i < sizeof keep / sizeof *keep; i++)
        set(keep[i], "0");
    ts_step(&a, 1000);
    past_work(&a, &past, 5, 1);
    packrig_pack(a.s, NULL);
}

static unsigned listed_well(const char *when)
{
    unsigned n = 0;

    for (unsigned i = 0; i < past.n; i++) {
        uint64_t digest = 0;

        if (!store_lists(a.s, past.m[i].lsn))
            continue;
        ck_assert_msg(past_try(a.s, past.m[i].lsn, &digest) == 0 && digest == past.m[i].digest, "%s: @%lu is not what it was", when,
                      (unsigned long)past.m[i].lsn);
        n++;
    }
    return n;
}

static int only_gen(void *arg, uint64_t gen)
{
    uint64_t *n = arg;

    n[0]++;
    n[1] = n[0] == 1 ? gen : n[1];
    return 0;
}

/* How many bases there are; *${gen}: the newest one. */
static unsigned bases(uint64_t *gen)
{
    uint64_t n[2] = { 0, 0 };

    ck_assert_int_eq(base_list(simio_io(a.sim), only_gen, n, NULL), 0);
    if (gen != NULL)
        *gen = n[1];
    return (unsigned)n[0];
}

/* ---- rows ---- */

/* All rows but hints and what was swept, as one text of bytes. */
struct rows { uint8_t *p; size_t len, cap, n; };

static void rows_add(struct rows *l, const void *p, size_t len)
{
    if (l->len + len > l->cap)
        ck_assert_ptr_nonnull(l->p = realloc(l->p, l->cap = 2 * (l->len + len)));
    memcpy(l->p + l->len, p, len);
    l->len += len;
}

static struct rows all_rows(struct kv *kv)
{
    struct kv_iter *it = kv->ops->iter_new(kv, NULL, NULL, 0, NULL, 0);
    struct rows l = { 0 };

    for (kv->ops->iter_seek(it, "", 0); kv->ops->iter_valid(it); kv->ops->iter_next(it)) {
        size_t klen, vlen;
        const uint8_t *k = kv->ops->iter_key(it, &klen), *v = kv->ops->iter_val(it, &vlen);

        if (k[0] == 'h' || k[0] == 'n' || (k[0] == '!' && klen != 8))
            continue;
        rows_add(&l, &klen, sizeof klen);
        rows_add(&l, k, klen);
        rows_add(&l, &vlen, sizeof vlen);
        rows_add(&l, v, vlen);
        l.n++;
    }
    kv->ops->iter_free(it);
    return l;
}

START_TEST(an_index_made_from_it_is_the_one_that_was)
{
    struct rows was, is;
    struct reclaim_result res;

    thinned((uint64_t)_i + 1);
    res = reclaim_all();
    ck_assert_uint_gt(res.base_bytes, 0);
    ck_assert_uint_gt(res.archive_gone, 0);
    ck_assert_uint_gt(history_first(store_history(a.s)), LOG_FIRST_ADDR);
    ck_assert_uint_eq(bases(NULL), 1);
    ck_assert_uint_ge(listed_well("with a base"), 3);
    past_work(&a, &past, 30, 5);
    if (_i % 2 == 0)
        packrig_pack(a.s, NULL);
    ck_assert_int_eq(store_apply(a.s, NULL), 0);
    was = all_rows(store_kv(a.s));
    packrig_close(&a);
    kv_twin_disk_free(a.disk);
    a.disk = kv_twin_disk_new();
    packrig_open(&a);
    ck_assert_int_eq(store_apply(a.s, NULL), 0);
    is = all_rows(store_kv(a.s));
    ck_assert_uint_eq(was.n, is.n);
    ck_assert(was.len == is.len && memcmp(was.p, is.p, was.len) == 0);
    ck_assert_uint_ge(listed_well("with the index made anew"), 3);
    res = reclaim_all();                 /* the next one takes the place of it */
    ck_assert_uint_le(bases(NULL), 1);
    packrig_without_index(&a);
    ck_assert_uint_ge(listed_well("with the next base"), 3);
    free(was.p);
    free(is.p);
    ts_free(&a);
}
END_TEST

/* ---- what it answers without records ---- */

struct text { char *p; size_t len; FILE *f; };

static int add_entry(void *arg, const struct diff_entry *e)
{
    fprintf(arg, "%d %s %s %lu %lu %lu %o\n", (int)e->kind, e->path, e->old_path != NULL ? e->old_path : "-", (unsigned long)e->ino,
            (unsigned long)e->size_before, (unsigned long)e->size_after, e->mode);
    return 0;
}

static char *diff_text(uint64_t from, uint64_t to)
{
    struct text t = { 0 };
    struct err err = { 0 };

    t.f = open_memstream(&t.p, &t.len);
    ck_assert_msg(diff_moments(a.s, from, to, add_entry, t.f, NULL, &err) == 0, "%s", err.msg);
    fclose(t.f);
    return t.p;
}

START_TEST(what_changed_is_told_by_rows_alone)
{
    uint64_t at[4];
    char *before[6], *after, *wall[3];
    int64_t ns[3];
    unsigned n = 0;

    thinned((uint64_t)_i + 100);
    for (unsigned i = 0; i < 3; i++) {
        char name[8];

        snprintf(name, sizeof name, "s%u", 2 * i);
        ck_assert_int_eq(moment_resolve(a.s, name, &at[i], NULL), 0);
        ck_assert_int_eq(moment_wall(a.s, at[i], &ns[i], NULL), 0);
        wall[i] = malloc(40);
        moment_rfc3339(ns[i], wall[i]);
    }
    at[3] = AT_LIVE;
    for (unsigned i = 0; i < 4; i++)
        for (unsigned k = i + 1; k < 4; k++)
            before[n++] = diff_text(at[i], at[k]);
    ck_assert_uint_gt(reclaim_all().archive_gone, 0);
    ck_assert_uint_gt(history_first(store_history(a.s)), at[2]);
    n = 0;
    for (unsigned i = 0; i < 4; i++)
        for (unsigned k = i + 1; k < 4; k++) {
            after = diff_text(at[i], at[k]);
            ck_assert_str_eq(before[n], after);
            free(after);
            free(before[n++]);
        }
    for (unsigned i = 0; i < 3; i++) {   /* what its clock said leads there still, and a name of nothing says what is near */
        uint64_t lsn = 0;
        int64_t now = 0;
        struct err err = { 0 };

        ck_assert_int_eq(moment_wall(a.s, at[i], &now, NULL), 0);
        ck_assert_int_eq(now, ns[i]);
        ck_assert_msg(moment_resolve(a.s, wall[i], &lsn, &err) == 0, "%s", err.msg);
        ck_assert_uint_eq(lsn, at[i]);
        free(wall[i]);
    }
    {
        struct err err = { 0 };
        uint64_t lsn;

        ck_assert_int_eq(moment_resolve(a.s, "@8192", &lsn, &err), ERR_NOMOMENT);
        ck_assert_msg(strstr(err.msg, "the nearest one is @") != NULL, "%s", err.msg);
    }
    ts_free(&a);
}
END_TEST

/* ---- damage ---- */

static uint64_t file_size(const char *name)
{
    struct io_stat st;

    ck_assert_int_eq(io_stat_path(simio_io(a.sim), name, &st, NULL), 0);
    return st.size;
}

START_TEST(every_flipped_byte_is_found)
{
    char name[BASE_NAME_MAX];
    uint64_t gen, size;

    thinned(7);
    (void)reclaim_all();
    ck_assert_uint_eq(bases(&gen), 1);
    base_name(gen, name);
    size = file_size(name);
    for (uint64_t off = 0; off < size; off++) {
        struct base *b = NULL;
        struct err err = { 0 }, warn = { 0 };
        int rc;

        ck_assert(simio_flip(a.sim, name, off, (uint8_t)(1u << off % 8)));
        rc = base_open(simio_io(a.sim), gen, &b, &warn, &err);
        if (rc == 0)
            rc = base_check(b, &err);
        ck_assert_msg(rc < 0 && strncmp(err.msg, name, strlen(name)) == 0, "byte %lu: %s", (unsigned long)off, err.msg);
        ck_assert(off >= 256 || b != NULL);      /* the second head does */
        base_close(b);
        ck_assert(simio_flip(a.sim, name, off, (uint8_t)(1u << off % 8)));
    }
    ts_free(&a);
}
END_TEST

START_TEST(a_bad_one_is_made_anew_while_there_is_an_index)
{
    char name[BASE_NAME_MAX];
    uint64_t gen, next;
    struct err err = { 0 };
    const struct reclaim_options quiet = { .sweep = true };

    thinned(8);
    (void)reclaim_all();
    ck_assert_uint_eq(bases(&gen), 1);
    base_name(gen, name);
    ck_assert(simio_flip(a.sim, name, 400, 1));
    packrig_close(&a);                   /* with an index nobody asks for it */
    packrig_open(&a);
    ck_assert_uint_ge(listed_well("beside a bad base"), 3);
    ck_assert_int_eq(reclaim(a.s, &quiet, NULL, &err), 0);
    ck_assert_uint_eq(bases(&next), 1);
    ck_assert_uint_eq(next, gen + 1);
    packrig_without_index(&a);
    ck_assert_uint_ge(listed_well("with the index made from the next one"), 3);
    ts_free(&a);
}
END_TEST

START_TEST(a_copy_of_the_set_that_rots_takes_nothing_with_it)
{
    thinned((uint64_t)_i + 60);
    (void)reclaim_all();
    packrig_close(&a);
    ck_assert(simio_flip(a.sim, _i == 0 ? "retained.0" : "retained.1", 70, 1));
    kv_twin_disk_free(a.disk);
    a.disk = kv_twin_disk_new();
    packrig_open(&a);
    ck_assert_uint_ge(listed_well("with one copy of the retained set"), 3);
    ts_free(&a);
}
END_TEST

START_TEST(a_time_behind_a_kept_moment_is_not_that_moment)
{
    struct err err = { 0 };
    uint64_t lsn = 0, at = 0;
    char text[40];
    int64_t wall = 0;

    packrig_start(&a, &past, 3, 16 << 10);
    ts_save(&a, "f", "one");
    ck_assert_int_eq(store_snapshot(a.s, &a.who, RSN_CREATE, "here", AT_LIVE, "", "", 0, &at, &err), 0);
    ck_assert_int_eq(moment_wall(a.s, at, &wall, NULL), 0);
    for (int i = 0; i < 3; i++) {
        ts_step(&a, 60000);
        ts_save(&a, "f", "later");
    }
    packrig_pack(a.s, NULL);
    for (int i = 0; i < 4; i++) {
        ts_step(&a, 3600 * 1000);
        ts_save(&a, "g", "and on");
        packrig_pack(a.s, NULL);
    }
    for (size_t i = 0; i < sizeof keep / sizeof *keep; i++)
        set(keep[i], "0");
    ts_step(&a, 1000);
    ts_save(&a, "g", "now");
    packrig_pack(a.s, NULL);
    ck_assert_uint_gt(reclaim_all().archive_gone, 0);
    moment_rfc3339(wall, text);
    ck_assert_int_eq(moment_find(a.s, wall - 1, INT64_MAX, &lsn, &err), ERR_NOENT);
    for (int s = 1; s < 200; s += 13) {          /* behind it other things had happened */
        moment_rfc3339(wall + s * 1000000000ll, text);
        ck_assert_msg(moment_resolve(a.s, text, &lsn, &err) == ERR_NOMOMENT, "%s leads to @%lu", text, (unsigned long)lsn);
    }
    ts_free(&a);
}
END_TEST

START_TEST(without_index_and_base_the_store_says_so)
{
    char name[BASE_NAME_MAX];
    uint64_t gen;
    struct err err = { 0 };
    uint8_t key[KV_KEY_MAX], *val;
    size_t len;

    thinned(9);
    (void)reclaim_all();
    ck_assert_uint_eq(bases(&gen), 1);
    base_name(gen, name);
    ck_assert(simio_flip(a.sim, name, 400, 1));
    packrig_close(&a);
    kv_twin_disk_free(a.disk);
    a.disk = kv_twin_disk_new();
    ck_assert_int_eq(kv_twin_open(a.disk, &a.opt.kv, &err), 0);
    ck_assert_int_eq(store_open(simio_io(a.sim), NULL, &a.opt, &a.s, NULL, &err), ERR_DAMAGE);
    ck_assert_msg(strstr(err.msg, "records are lost") != NULL && strstr(err.msg, name) != NULL, "%s", err.msg);
    ck_assert(simio_flip(a.sim, name, 400, 1));
    packrig_open(&a);                    /* nothing of it was believed before it was checked */
    ck_assert_uint_ge(listed_well("with the base mended"), 3);
    ck_assert_int_eq(kv_get(store_kv(a.s), key, key_meta(key, "applied"), &val, &len, NULL), 0);
    free(val);
    ts_free(&a);
}
END_TEST

START_TEST(whichever_call_fails_nothing_is_lost)
{
    static const enum simio_call kinds[] = { SIMIO_MUTATING, SIMIO_PREAD, SIMIO_LIST, SIMIO_OPEN };
    const struct reclaim_options opt = { .now = true, .base = true, .sweep = true };
    uint64_t calls;

    thinned(50);
    calls = simio_calls(a.sim, kinds[_i]);
    ck_assert_uint_gt(reclaim_all().base_bytes, 0);
    calls = simio_calls(a.sim, kinds[_i]) - calls;
    ck_assert_uint_gt(calls, _i == 0 ? 20 : 1);
    ts_free(&a);
    for (uint64_t n = 1; n <= calls; n++) {
        struct reclaim_result res;
        struct store_info info;
        struct err err = { 0 };
        int rc;

        thinned(50);
        simio_fail_at(a.sim, kinds[_i], n, _i == 0 && n % 3 == 0 ? ERR_NOSPC : ERR_IO);
        rc = reclaim(a.s, &opt, &res, &err);
        simio_fail_clear(a.sim);
        store_info(a.s, &info);
        if (info.failed) {
            store_drop(a.s);
            packrig_open(&a);
        }
        ck_assert_uint_ge(listed_well("after a call that failed"), 3);
        if (rc < 0 || n % 2 == 0)
            (void)reclaim_all();
        packrig_without_index(&a);
        ck_assert_uint_ge(listed_well("after that, with the index made anew"), 3);
        ts_free(&a);
    }
}
END_TEST

/* A row that is larger than a frame is meant to get is one of its own, and what comes behind it lies in the next. */
START_TEST(a_large_row_is_a_frame_of_its_own)
{
    const struct base_head h = { .gen = 1, .lineage = "lineage", .site = "site" };
    const size_t large = 2 * (size_t)BASE_FRAME_EXPANDED;
    uint8_t *val = calloc(1, large), key[KV_KEY_MAX];
    struct base_writer *w = NULL;
    struct base *b = NULL;
    struct kv_batch *batch;
    struct base_row r;
    struct err err = { 0 };
    unsigned found = 0;
    struct kv *kv;
    int rc;

    packrig_start(&a, &past, 67, 16 << 10);
    ts_save(&a, "one", "text");
    ck_assert_int_eq(store_apply(a.s, NULL), 0);
    kv = store_kv(a.s);
    batch = kv->ops->batch_new(kv);
    ck_assert(val != NULL && batch != NULL);
    for (uint64_t i = 0; i < 3; i++)
        kv->ops->batch_put(batch, key, key_xat(key, (1 << 20) + i, "user.a", 6), val, i == 1 ? large : 60000);
    ck_assert_int_eq(kv->ops->write(kv, batch, NULL), 0);
    kv->ops->batch_free(batch);
    ck_assert_int_eq(base_new(simio_io(a.sim), kv, &h, &w, NULL), 0);
    ck_assert_int_eq(base_step(w, 1000, NULL), 0);
    ck_assert_int_eq(base_finish(w, (const uint8_t *)"epoch id is this", NULL, NULL), 0);
    ck_assert_int_eq(base_open(simio_io(a.sim), 1, &b, NULL, NULL), 0);
    ck_assert_msg(base_check(b, &err) == 0, "%s", err.msg);
    ck_assert_uint_ge(base_head(b)->n_frames, 3);
    while ((rc = base_next(b, &r, &err)) == 1)
        found += r.vlen == large || r.vlen == 60000;
    ck_assert_msg(rc == 0, "%s", err.msg);
    ck_assert_uint_eq(found, 3);
    base_close(b);
    free(val);
    ts_free(&a);
}
END_TEST

/* ---- golden ---- */

static size_t read_file(const char *name, uint8_t *buf, size_t cap)
{
    struct io_file *f;
    int64_t n;

    ck_assert_int_eq(io_open(simio_io(a.sim), name, IO_RDONLY, &f, NULL), 0);
    n = io_pread(f, buf, cap, 0, NULL);
    io_close(f);
    ck_assert(n >= 0 && (size_t)n < cap);
    return (size_t)n;
}

static size_t only_frame(const uint8_t *file, uint8_t *buf, size_t cap)
{
    struct squeeze *z = squeeze_new();
    struct base_frame f;
    uint32_t stored;

    ck_assert(z != NULL && base_frame_decode(file + BASE_HEAD_BYTES, BASE_FRAME_HEAD_BYTES, &f, NULL) == 0);
    ck_assert_uint_le(BASE_FRAME_HEAD_BYTES + f.expanded, cap);
    stored = f.stored;
    f.stored = 0;
    base_frame_encode(&f, buf);
    ck_assert_int_eq(unsqueeze(z, file + BASE_HEAD_BYTES + BASE_FRAME_HEAD_BYTES, stored, NULL, 0, buf + BASE_FRAME_HEAD_BYTES, f.expanded), 0);
    squeeze_free(z);
    return BASE_FRAME_HEAD_BYTES + f.expanded;
}

/* The golden file is read, and what is written is compared by the expanded bytes, since zstd's versions differ. SPARE_GOLDEN=write makes it. */
START_TEST(golden_base_never_changes)
{
    static uint8_t have[1 << 16], now[1 << 16], x[1 << 16], y[1 << 16];
    const char *mode = getenv("SPARE_GOLDEN");
    const struct base_head h = { .gen = 1, .retained_gen = 3, .let_go = 4096, .lineage = "lineage", .site = "site" };
    struct base_writer *w = NULL;
    char name[BASE_NAME_MAX];
    size_t n;
    FILE *g;

    packrig_start(&a, &past, 66, 16 << 10);
    ts_save(&a, "one", "first text");
    ts_step(&a, 5000);
    ts_save(&a, "one", "second text");
    ts_rename(&a, "one", "two");
    ck_assert_int_eq(store_apply(a.s, NULL), 0);
    ck_assert_int_eq(base_new(simio_io(a.sim), store_kv(a.s), &h, &w, NULL), 0);
    ck_assert_int_eq(base_step(w, 3, NULL), 1);
    ck_assert_int_eq(base_step(w, 1000, NULL), 0);
    ck_assert_int_eq(base_finish(w, (const uint8_t *)"epoch id is this", NULL, NULL), 0);
    base_name(1, name);
    n = read_file(name, now, sizeof now);
    if (mode != NULL && strcmp(mode, "write") == 0) {
        g = fix_golden("base.bin", "wb");
        ck_assert(g != NULL && fwrite(now, 1, n, g) == n && fclose(g) == 0);
    }
    g = fix_golden("base.bin", "rb");
    ck_assert_msg(g != NULL, "tests/golden/base.bin is missing");
    n = fread(have, 1, sizeof have, g);
    fclose(g);
    n = only_frame(have, x, sizeof x);
    ck_assert_msg(n == only_frame(now, y, sizeof y) && memcmp(x, y, n) == 0 && memcmp(have + 64, now + 64, 240 - 64) == 0,
                  "tests/golden/base.bin: the format, or the rows in it, have changed");
    ts_free(&a);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rebase");
    TCase *t = tcase_create("base"), *slow = tcase_create("fail");
    SRunner *r;
    int failed;

    tcase_set_timeout(slow, 250);
    tcase_add_loop_test(t, an_index_made_from_it_is_the_one_that_was, 0, 6);
    tcase_add_loop_test(t, what_changed_is_told_by_rows_alone, 0, 4);
    tcase_add_test(t, every_flipped_byte_is_found);
    tcase_add_test(t, a_bad_one_is_made_anew_while_there_is_an_index);
    tcase_add_loop_test(t, a_copy_of_the_set_that_rots_takes_nothing_with_it, 0, 2);
    tcase_add_test(t, a_time_behind_a_kept_moment_is_not_that_moment);
    tcase_add_test(t, without_index_and_base_the_store_says_so);
    tcase_add_test(t, a_large_row_is_a_frame_of_its_own);
    tcase_add_test(t, golden_base_never_changes);
    tcase_add_loop_test(slow, whichever_call_fails_nothing_is_lost, 0, 4);
    suite_add_tcase(s, t);
    suite_add_tcase(s, slow);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
