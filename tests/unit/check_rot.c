/*
 * check_rot.c: a store with log, archive, packs made anew and a thinned past, in which one thing changes: a bit anywhere, a file cut short or gone. Nothing crashes, no
 * wrong byte comes back, and what somebody depends on is found by the store's own check. (The index's files have sums of their own: check_index_files.c.)
 * ROT=N trials instead of 490.
 */
#include "store/core/retain.h"
#include "store/log/frame.h"
#include "store/maint/reclaim.h"
#include "store/pack/pack.h"
#include "store/svc/svc.h"
#include "tests/lib/packrig.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILES = 64, RANGES = 4000, MOMENTS = 6 };
static const char *const kinds[] = { "superblock", "retained set", "head of a segment", "log", "archive", "frames of a pack", "tables of a pack" };
enum kind { SUPER, RETAINED, SEGMENT, LOGGED, ARCHIVE, FRAMES, TABLES, N_KINDS };

static struct teststore a;
static struct past past;
static struct { char path[80]; uint64_t size, tables; } file[FILES];
static unsigned n_files;
static struct { uint64_t from, to; } range[RANGES];          /* addresses of frames and records in the log */
static unsigned n_ranges;
static struct { uint64_t lsn, digest; } moment[MOMENTS];
static unsigned n_moments;

/* ---- the store ---- */

static void set(const char *name, const char *value)
{
    ck_assert_int_eq(store_config_set(a.s, name, value, NULL), 0);
}

static bool has_base;

static int add_file(void *arg, const char *name)
{
    struct io_stat st;

    has_base |= strstr(name, ".base") != NULL;

    ck_assert_uint_lt(n_files, FILES);
    snprintf(file[n_files].path, sizeof file[n_files].path, "%s/%s", (const char *)arg, name);
    if (io_stat_path(simio_io(a.sim), file[n_files].path, &st, NULL) == 0 && st.size > 0 && strcmp(name, "next") != 0)
        file[n_files++].size = st.size;
    return 0;
}

static int add_segment(void *arg, const struct log_segment_info *s)
{
    (void)arg;
    return add_file("log", s->name + 4);
}

static void find_tables(unsigned i)
{
    uint8_t head[PACK_HEAD_BYTES];
    struct pack_head h;
    struct io_file *f = NULL;

    ck_assert_int_eq(io_open(simio_io(a.sim), file[i].path, IO_RDONLY, &f, NULL), 0);
    ck_assert_int_eq(io_pread(f, head, sizeof head, 0, NULL), sizeof head);
    ck_assert_int_eq(pack_head_decode(head, sizeof head, file[i].size, &h, NULL, NULL), 0);
    file[i].tables = h.tables_at;
    io_close(f);
}

static void note_ranges(void)
{
    struct log_iter *it = NULL;
    struct record rec;

    ck_assert_int_eq(log_iter_new(store_log(a.s), log_first(store_log(a.s)), UINT64_MAX, 0, &it, NULL), 0);
    while (log_iter_next(it, &rec, NULL) == 1) {
        ck_assert_uint_lt(n_ranges, RANGES);
        range[n_ranges].from = rec.lsn;
        range[n_ranges++].to = rec.lsn + FRAME_BYTES + rec.head_len + rec.data_len;
    }
    log_iter_free(it);
}

static void build(void)
{
    const struct reclaim_options opt = { .now = true, .base = true };
    static const char *const dirs[] = { "archive", "packs" };
    char name[8];

    packrig_start(&a, &past, 77, 32 << 10);
    set("keep-all", "3s");
    set("min-age", "0");
    for (int i = 0; i < 5; i++) {
        past_work(&a, &past, 40, 20);
        sprintf(name, "s%d", i);
        if (i % 2 == 0)
            ck_assert_int_eq(store_snapshot(a.s, &a.who, RSN_CREATE, name, AT_LIVE, "", "", 0, NULL, NULL), 0);
        ts_step(&a, 20000);
        packrig_pack(a.s, NULL);
        if (i == 3)
            ck_assert_int_eq(reclaim(a.s, &opt, NULL, NULL), 0);
    }
    past_work(&a, &past, 25, 8);
    for (unsigned i = past.n; i-- > 0 && n_moments < MOMENTS;)
        if (store_lists(a.s, past.m[i].lsn)) {
            moment[n_moments].lsn = past.m[i].lsn;
            moment[n_moments++].digest = past.m[i].digest;
        }
    ck_assert_uint_ge(n_moments, 4);
    note_ranges();
    ck_assert_int_eq(log_segments(store_log(a.s), add_segment, NULL), 0);     /* those that count; what they superseded has no meaning */
    packrig_close(&a);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(io_list(simio_io(a.sim), dirs[i], add_file, (void *)(uintptr_t)dirs[i], NULL), 0);
    ck_assert(has_base);
    for (unsigned i = 0; i < n_files; i++) {
        struct io_stat st;

        ck_assert_int_eq(io_stat_path(simio_io(a.sim), file[i].path, &st, NULL), 0);      /* closed, it may be shorter */
        file[i].size = st.size;
    }
    for (unsigned i = 0; i < n_files; i++)
        if (strncmp(file[i].path, "packs/", 6) == 0)
            find_tables(i);
}

/* ---- one change ---- */

struct change { enum kind kind; unsigned file; char path[80]; uint64_t off; uint8_t mask; int what; };   /* what: 0 a bit, 1 cut at off, 2 gone */

static bool is_of(const char *path, const char *dir)
{
    return strncmp(path, dir, strlen(dir)) == 0;
}

static struct change some_change(unsigned i)
{
    static const char *const dirs[] = { "", "", "log/", "log/", "archive/", "packs/", "packs/" };
    struct change c = { .kind = (enum kind)(i % N_KINDS), .mask = (uint8_t)(1u << past_random(&past, 8)) };
    uint64_t way = past_random(&past, 20);

    c.what = way == 0 ? 1 : way == 1 ? 2 : 0;
    if (c.kind == SUPER || c.kind == RETAINED) {
        struct io_stat st;

        snprintf(c.path, sizeof c.path, "%s.%d", c.kind == SUPER ? "super" : "retained", (int)past_random(&past, 2));
        ck_assert_int_eq(io_stat_path(simio_io(a.sim), c.path, &st, NULL), 0);
        c.off = past_random(&past, st.size);
        return c;
    }
    do
        c.file = (unsigned)past_random(&past, n_files);
    while (!is_of(file[c.file].path, dirs[c.kind]));
    memcpy(c.path, file[c.file].path, sizeof c.path);
    c.off = past_random(&past, file[c.file].size);
    if (c.kind == SEGMENT)
        c.off %= 4096;
    else if (c.kind == FRAMES)
        c.off = PACK_HEAD_BYTES + c.off % (file[c.file].tables - PACK_HEAD_BYTES + 1);
    else if (c.kind == TABLES)
        c.off = file[c.file].tables + c.off % (file[c.file].size - file[c.file].tables);
    return c;
}

static void apply(struct simio *sim, const struct change *c)
{
    struct io_file *f = NULL;

    if (c->what == 0) {
        ck_assert(simio_flip(sim, c->path, c->off, c->mask));
    } else if (c->what == 1) {
        ck_assert_int_eq(io_open(simio_io(sim), c->path, IO_RDWR, &f, NULL), 0);
        ck_assert_int_eq(io_ftruncate(f, c->off, NULL), 0);
        io_close(f);
    } else {
        ck_assert_int_eq(io_unlink(simio_io(sim), c->path, NULL), 0);
    }
}

/* Whether that byte is of a frame or a record in the log; what lies between them has no meaning. */
static bool in_record(const struct change *c)
{
    uint64_t first = strtoull(c->path + 4, NULL, 16), addr = first + c->off - 4096;

    for (unsigned i = 0; i < n_ranges && c->off >= 4096; i++)
        if (addr >= range[i].from && addr < range[i].to)
            return true;
    return false;
}

static int found(void *arg, const char *type, const json_t *o, const void *bin, size_t len)
{
    const char *kind = o != NULL ? json_string_value(json_object_get(o, "kind")) : NULL;

    (void)type, (void)bin, (void)len;
    *(unsigned *)arg += kind != NULL && strcmp(kind, "finding") == 0;
    return 0;
}

/* True: its own check says that something is wrong. */
static bool checked(struct store *s, const struct log_recovery *rec)
{
    const struct svc_env env = { .s = s, .recovery = rec };
    struct caller who = { 0 };
    unsigned findings = 0;
    struct err err = { 0 };
    json_t *req = json_pack("{s:s, s:b}", "op", "check", "read_data", 1);
    int rc = svc_call(&env, &who, req, NULL, found, &findings, &err);

    json_decref(req);
    ck_assert_msg(rc == 0 || err.msg[0] != '\0', "check failed without a word: %s", err_name(rc));
    return rc < 0 || findings > 0;
}

/* 1 found by check, 2 the store was refused, 0 nothing was seen. */
static int trial(const struct change *c, const char *name)
{
    struct teststore t = a;
    struct log_recovery rec = { 0 };
    struct err err = { 0 };
    int seen = 0, rc;

    t.sim = simio_clone(a.sim);
    t.disk = kv_twin_disk_clone(a.disk);
    apply(t.sim, c);
    ck_assert_int_eq(kv_twin_open(t.disk, &t.opt.kv, NULL), 0);
    t.opt.writable = false;
    rc = store_open(simio_io(t.sim), NULL, &t.opt, &t.s, &rec, &err);
    if (rc < 0) {
        ck_assert_msg(err.msg[0] != '\0', "%s: refused without a word: %s", name, err_name(rc));
        seen = 2;
    } else {
        for (unsigned i = 0; i < n_moments; i++) {
            uint64_t digest = 0;

            if (!store_lists(t.s, moment[i].lsn) || log_head(store_log(t.s)) <= moment[i].lsn)
                continue;                /* with the other copy of the set, or less of the log */
            rc = past_try(t.s, moment[i].lsn, &digest);
            ck_assert_msg(rc < 0 || digest == moment[i].digest, "%s: moment @%lu is another one", name, (unsigned long)moment[i].lsn);
        }
        seen = checked(t.s, &rec) || rec.damaged ? 1 : 0;
        store_drop(t.s);
    }
    kv_twin_disk_free(t.disk);
    simio_free(t.sim);
    return seen;
}

START_TEST(whatever_changes_is_found)
{
    unsigned n = getenv("ROT") != NULL ? (unsigned)atoi(getenv("ROT")) : 490, count[N_KINDS][3] = { { 0 } };

    build();
    for (unsigned i = 0; i < n; i++) {
        struct change c = some_change(i);
        char name[200];
        int seen;

        snprintf(name, sizeof name, "%s %s %s at %lu, mask %02x", kinds[c.kind], c.path, c.what == 0 ? "bit" : c.what == 1 ? "cut" : "gone", (unsigned long)c.off, c.mask);
        seen = trial(&c, name);
        count[c.kind][seen]++;
        if (seen != 0)
            continue;
        /* What may change unseen: bytes that have no meaning, in the log alone. */
        ck_assert_msg(c.kind == LOGGED && c.what != 2 && (c.what == 1 || !in_record(&c)), "%s: not found", name);
    }
    if (getenv("ROT") != NULL)
        for (int k = 0; k < N_KINDS; k++)
            printf("%-20s found by check %u, store refused %u, without meaning %u\n", kinds[k], count[k][1], count[k][2], count[k][0]);
    kv_twin_disk_free(a.disk);
    simio_free(a.sim);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rot");
    TCase *tc = tcase_create("rot");
    SRunner *r;
    int failed;

    tcase_set_timeout(tc, 3600);
    tcase_add_test(tc, whatever_changes_is_found);
    suite_add_tcase(s, tc);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
