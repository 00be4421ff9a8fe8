/*
 * check_kv: the key-value store under the index. One body of tests runs on
 * both implementations; a random sequence of calls must give the same answers
 * from both; and what RocksDB keeps at a crash is shown with processes that
 * leave by _exit.
 */
#include "store/base/slow.h"
#include "store/index/kv.h"

#include <check.h>
#include <ftw.h>
#include <glob.h>
#include <limits.h>
#include <pthread.h>
#include <rocksdb/c.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { IMPLS = 2, DEADLINE_MS = 20000 };
enum impl { TWIN, ROCKS };

struct env {
    enum impl impl;
    struct kv_twin_disk *disk;
    char dir[64];
    struct kv *kv;
};

static const struct kv_options options = { .cache_bytes = 8 << 20 };

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *f)
{
    (void)st;
    (void)flag;
    (void)f;
    return remove(path);
}

static void env_open(struct env *e)
{
    struct err err = { 0 };
    int rc = e->impl == TWIN ? kv_twin_open(e->disk, &e->kv, &err)
                             : kv_rocks_open(e->dir, true, &options, &e->kv, &err);

    ck_assert_msg(rc == 0, "open: %s", err.msg);
}

static struct env env_new(int impl)
{
    struct env e = { .impl = (enum impl)impl };

    if (impl == TWIN) {
        e.disk = kv_twin_disk_new();
    } else {
        strcpy(e.dir, "/tmp/check_kv.XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(e.dir));
    }
    env_open(&e);
    return e;
}

static void env_reopen(struct env *e)
{
    kv_close(e->kv);
    env_open(e);
}

static void env_free(struct env *e)
{
    kv_close(e->kv);
    if (e->impl == ROCKS)
        nftw(e->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    kv_twin_disk_free(e->disk);
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ${key} = ${val}, deleted where ${val} is NULL. */
static void put(struct kv *kv, const char *key, const char *val)
{
    struct kv_batch *b = kv->ops->batch_new(kv);
    struct err err = { 0 };

    if (val)
        kv->ops->batch_put(b, key, strlen(key), val, strlen(val));
    else
        kv->ops->batch_del(b, key, strlen(key));
    ck_assert_msg(kv_write(kv, b, &err) == 0, "%s", err.msg);
    kv->ops->batch_free(b);
}

/* The value as a string that lives until the next call; "-" where there is none. */
static const char *got(int rc, uint8_t *val, size_t len)
{
    static char text[4096];

    if (rc == ERR_NOENT)
        return "-";
    ck_assert_int_eq(rc, 0);
    ck_assert_uint_lt(len, sizeof text);
    memcpy(text, val, len);
    text[len] = 0;
    free(val);
    return text;
}

static const char *get(struct kv *kv, const char *key)
{
    uint8_t *v = NULL;
    size_t len = 0;
    int rc = kv_get(kv, key, strlen(key), &v, &len, NULL);

    return got(rc, v, len);
}

static const char *persisted(struct kv *kv, const char *key)
{
    uint8_t *v = NULL;
    size_t len = 0;
    int rc = kv_get_persisted(kv, key, strlen(key), &v, &len, NULL);

    return got(rc, v, len);
}

static void flush(struct kv *kv)
{
    struct err err = { 0 };

    ck_assert_msg(kv->ops->flush_start(kv, &err) == 0, "%s", err.msg);
    ck_assert_msg(kv->ops->flush_wait(kv, &err) == 0, "%s", err.msg);
}

/* Waits by asking, as the applier does. */
static void flush_by_asking(struct kv *kv)
{
    uint64_t until = now_ns() + DEADLINE_MS * 1000000ull;
    struct err err = { 0 };
    int rc;

    ck_assert_int_eq(kv->ops->flush_start(kv, &err), 0);
    while ((rc = kv->ops->flush_done(kv, &err)) == 0)
        ck_assert_uint_lt(now_ns(), until);
    ck_assert_msg(rc == 1, "%s", err.msg);
}

START_TEST(put_get_delete)
{
    struct env e = env_new(_i);
    struct kv_batch *b = e.kv->ops->batch_new(e.kv);
    uint8_t *v;
    size_t len;

    ck_assert_str_eq(get(e.kv, "a"), "-");
    put(e.kv, "a", "1");
    put(e.kv, "b", "");
    ck_assert_str_eq(get(e.kv, "a"), "1");
    ck_assert_str_eq(get(e.kv, "b"), "");
    ck_assert_str_eq(get(e.kv, "aa"), "-");
    /* within a batch the last one counts; a batch can be used again */
    e.kv->ops->batch_put(b, "c", 1, "x", 1);
    e.kv->ops->batch_del(b, "a", 1);
    e.kv->ops->batch_put(b, "c", 1, "y\0z", 3);
    ck_assert_str_eq(get(e.kv, "c"), "-");
    ck_assert_int_eq(kv_write(e.kv, b, NULL), 0);
    ck_assert_str_eq(get(e.kv, "a"), "-");
    ck_assert_int_eq(kv_get(e.kv, "c", 1, &v, &len, NULL), 0);
    ck_assert(len == 3 && memcmp(v, "y\0z", 3) == 0);
    free(v);
    ck_assert_uint_gt(e.kv->ops->batch_bytes(b), 8);
    e.kv->ops->batch_clear(b);
    e.kv->ops->batch_put(b, "d", 1, "4", 1);
    ck_assert_int_eq(kv_write(e.kv, b, NULL), 0);
    ck_assert_str_eq(get(e.kv, "d"), "4");
    ck_assert_str_eq(get(e.kv, "a"), "-");
    put(e.kv, "never", NULL);
    ck_assert_uint_gt(e.kv->ops->memory(e.kv), 0);
    e.kv->ops->batch_free(b);
    env_free(&e);
}
END_TEST

START_TEST(key_too_long_is_refused_whole)
{
    static const char big[KV_KEY_MAX + 1];
    struct env e = env_new(_i);
    struct kv_batch *b = e.kv->ops->batch_new(e.kv);
    struct err err = { 0 };

    e.kv->ops->batch_put(b, "a", 1, "1", 1);
    e.kv->ops->batch_put(b, big, sizeof big, "2", 1);
    ck_assert_int_eq(kv_write(e.kv, b, &err), ERR_INVAL);
    ck_assert_str_eq(get(e.kv, "a"), "-");
    e.kv->ops->batch_clear(b);
    e.kv->ops->batch_put(b, big, KV_KEY_MAX, "3", 1);
    ck_assert_int_eq(kv_write(e.kv, b, &err), 0);
    e.kv->ops->batch_free(b);
    env_free(&e);
}
END_TEST

START_TEST(only_flush_persists)
{
    struct env e = env_new(_i);

    put(e.kv, "a", "1");
    ck_assert_str_eq(persisted(e.kv, "a"), "-");
    flush(e.kv);
    ck_assert_str_eq(persisted(e.kv, "a"), "1");
    put(e.kv, "a", "2");
    put(e.kv, "b", "2");
    ck_assert_str_eq(get(e.kv, "a"), "2");
    ck_assert_str_eq(persisted(e.kv, "a"), "1");
    ck_assert_str_eq(persisted(e.kv, "b"), "-");
    env_reopen(&e);   /* closing is no flush */
    ck_assert_str_eq(get(e.kv, "a"), "1");
    ck_assert_str_eq(get(e.kv, "b"), "-");
    put(e.kv, "a", NULL);
    flush_by_asking(e.kv);
    ck_assert_str_eq(persisted(e.kv, "a"), "-");
    env_reopen(&e);
    ck_assert_str_eq(get(e.kv, "a"), "-");
    env_free(&e);
}
END_TEST

START_TEST(flush_takes_what_was_written_before_it)
{
    struct env e = env_new(_i);
    struct err err = { 0 };

    ck_assert_int_eq(e.kv->ops->flush_done(e.kv, &err), 1);   /* none was begun */
    ck_assert_int_eq(e.kv->ops->flush_wait(e.kv, &err), 0);
    flush(e.kv);                                              /* nothing to do */
    put(e.kv, "a", "1");
    ck_assert_int_eq(e.kv->ops->flush_start(e.kv, &err), 0);
    put(e.kv, "a", "2");
    put(e.kv, "b", "2");
    ck_assert_int_eq(e.kv->ops->flush_wait(e.kv, &err), 0);
    ck_assert_int_eq(e.kv->ops->flush_done(e.kv, &err), 1);
    ck_assert_str_eq(persisted(e.kv, "a"), "1");
    ck_assert_str_eq(persisted(e.kv, "b"), "-");
    ck_assert_str_eq(get(e.kv, "a"), "2");
    env_reopen(&e);
    ck_assert_str_eq(get(e.kv, "a"), "1");
    env_free(&e);
}
END_TEST

START_TEST(snapshot_does_not_move)
{
    struct env e = env_new(_i);
    struct kv_snap *s;
    struct kv_iter *it, *now;
    size_t len;
    int n = 0;

    put(e.kv, "a", "1");
    put(e.kv, "b", "1");
    s = e.kv->ops->snap_new(e.kv);
    put(e.kv, "a", "2");
    put(e.kv, "b", NULL);
    put(e.kv, "c", "2");
    it = e.kv->ops->iter_new(e.kv, s, NULL, 0, NULL, 0);
    now = e.kv->ops->iter_new(e.kv, NULL, NULL, 0, NULL, 0);
    put(e.kv, "d", "3");      /* an iterator without snapshot stays as of its beginning too */
    flush(e.kv);
    ck_assert(!e.kv->ops->iter_valid(it));
    for (e.kv->ops->iter_seek(it, "", 0); e.kv->ops->iter_valid(it); e.kv->ops->iter_next(it), n++) {
        ck_assert_int_eq(e.kv->ops->iter_key(it, &len)[0], "ab"[n]);
        ck_assert_int_eq(e.kv->ops->iter_val(it, &len)[0], '1');
    }
    ck_assert_int_eq(n, 2);
    n = 0;
    for (e.kv->ops->iter_seek(now, "", 0); e.kv->ops->iter_valid(now); e.kv->ops->iter_next(now), n++)
        ck_assert_int_eq(e.kv->ops->iter_key(now, &len)[0], "ac"[n]);
    ck_assert_int_eq(n, 2);
    ck_assert_int_eq(e.kv->ops->iter_err(it, NULL), 0);
    e.kv->ops->iter_free(it);
    e.kv->ops->iter_free(now);
    e.kv->ops->snap_free(e.kv, s);
    env_free(&e);
}
END_TEST

/* Where a seek ends, as the key's first byte; '-' nowhere. */
static int at(struct kv *kv, struct kv_iter *it)
{
    size_t len;

    return kv->ops->iter_valid(it) ? kv->ops->iter_key(it, &len)[0] : '-';
}

START_TEST(bounds)
{
    struct env e = env_new(_i);
    struct kv_iter *it;
    const struct kv_ops *o = e.kv->ops;

    for (const char *k = "bdfhj"; *k; k++)
        put(e.kv, (char[]){ *k, 0 }, "v");
    it = o->iter_new(e.kv, NULL, "d", 1, "h", 1);
#define SEEK(key, want) do { o->iter_seek(it, key, 1); ck_assert_int_eq(at(e.kv, it), want); } while (0)
#define BACK(key, want) do { o->iter_seek_prev(it, key, 1); ck_assert_int_eq(at(e.kv, it), want); } while (0)
    SEEK("a", 'd');
    SEEK("e", 'f');
    SEEK("f", 'f');
    SEEK("g", '-');
    SEEK("h", '-');
    SEEK("z", '-');
    BACK("z", 'f');
    BACK("h", 'f');
    BACK("f", 'f');
    BACK("e", 'd');
    BACK("c", '-');
    BACK("a", '-');
    SEEK("d", 'd');
    o->iter_next(it);
    ck_assert_int_eq(at(e.kv, it), 'f');
    o->iter_prev(it);
    ck_assert_int_eq(at(e.kv, it), 'd');
    o->iter_prev(it);
    ck_assert_int_eq(at(e.kv, it), '-');
    o->iter_prev(it);      /* stays nowhere */
    o->iter_next(it);
    ck_assert_int_eq(at(e.kv, it), '-');
    BACK("f", 'f');
    o->iter_next(it);
    ck_assert_int_eq(at(e.kv, it), '-');
    o->iter_free(it);
    env_free(&e);
}
END_TEST

/* The applier writes rows x and y with one value in one batch; no reader may see them differ. */
struct readers { struct kv *kv; atomic_bool stop; atomic_int torn, reads; };

static void *read_pairs(void *arg)
{
    struct readers *r = arg;
    const struct kv_ops *o = r->kv->ops;

    while (!atomic_load(&r->stop)) {
        struct kv_iter *it = o->iter_new(r->kv, NULL, "x", 1, "z", 1);
        char a[16] = "", b[16] = "";
        size_t len;

        o->iter_seek(it, "x", 1);
        if (o->iter_valid(it))
            memcpy(a, o->iter_val(it, &len), 8);
        o->iter_next(it);
        if (o->iter_valid(it))
            memcpy(b, o->iter_val(it, &len), 8);
        if (strcmp(a, b) != 0)
            atomic_fetch_add(&r->torn, 1);
        atomic_fetch_add(&r->reads, 1);
        o->iter_free(it);
    }
    return NULL;
}

START_TEST(batch_is_visible_at_once)
{
    struct env e = env_new(_i);
    struct readers r = { .kv = e.kv };
    struct kv_batch *b = e.kv->ops->batch_new(e.kv);
    uint64_t until = now_ns() + DEADLINE_MS * 1000000ull;
    pthread_t th[2];
    char val[32];

    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&th[i], NULL, read_pairs, &r), 0);
    for (int i = 0; i < 5000 || (atomic_load(&r.reads) < 2000 && now_ns() < until); i++) {
        snprintf(val, sizeof val, "%07d", i % 10000000);
        e.kv->ops->batch_clear(b);
        e.kv->ops->batch_put(b, "x", 1, val, 8);
        e.kv->ops->batch_put(b, "w", 1, val, 8);
        e.kv->ops->batch_del(b, "w", 1);
        e.kv->ops->batch_put(b, "y", 1, val, 8);
        ck_assert_int_eq(kv_write(e.kv, b, NULL), 0);
    }
    atomic_store(&r.stop, true);
    for (int i = 0; i < 2; i++)
        pthread_join(th[i], NULL);
    ck_assert_int_eq(atomic_load(&r.torn), 0);
    ck_assert_int_gt(atomic_load(&r.reads), 1000);
    e.kv->ops->batch_free(b);
    env_free(&e);
}
END_TEST

/* Equivalence of the two */

enum { RANDOM_OPS = 20000, PAIRS = 3 };

struct both {
    struct env e[IMPLS];
    struct kv_batch *b[IMPLS];
    struct kv_snap *s[PAIRS][IMPLS];
    struct kv_iter *it[PAIRS][IMPLS];
    uint64_t seed;
    unsigned valid, found;
    bool layer;                    /* the second is a layer: nothing is flushed, closed or opened again */
};

static uint32_t rnd(struct both *x, uint32_t n)
{
    x->seed = x->seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(x->seed >> 33) % n;
}

/* Few enough keys that they meet: of varying length, with bytes 0 and 255. */
static size_t rnd_key(struct both *x, uint8_t *k)
{
    static const uint8_t bytes[] = { 0, 'a', 'b', 'c', 0x7f, 0x80, 0xff };
    size_t len = 1 + rnd(x, 4);

    for (size_t i = 0; i < len; i++)
        k[i] = bytes[rnd(x, sizeof bytes)];
    return len;
}

static void same_place(struct both *x, int i)
{
    size_t len[2];
    const uint8_t *p[2];
    bool valid = x->e[0].kv->ops->iter_valid(x->it[i][0]);

    ck_assert_int_eq(valid, x->e[1].kv->ops->iter_valid(x->it[i][1]));
    if (!valid)
        return;
    x->valid++;
    for (int j = 0; j < IMPLS; j++)
        p[j] = x->e[j].kv->ops->iter_key(x->it[i][j], &len[j]);
    ck_assert(len[0] == len[1] && memcmp(p[0], p[1], len[0]) == 0);
    for (int j = 0; j < IMPLS; j++)
        p[j] = x->e[j].kv->ops->iter_val(x->it[i][j], &len[j]);
    ck_assert(len[0] == len[1] && memcmp(p[0], p[1], len[0]) == 0);
}

static void same_get(struct both *x, bool only_persisted)
{
    uint8_t k[8], *v[2] = { NULL, NULL };
    size_t klen = rnd_key(x, k), len[2];
    int rc[2];

    for (int j = 0; j < IMPLS; j++) {
        struct kv *kv = x->e[j].kv;

        rc[j] = only_persisted ? kv_get_persisted(kv, k, klen, &v[j], &len[j], NULL)
                               : kv_get(kv, k, klen, &v[j], &len[j], NULL);
    }
    ck_assert_int_eq(rc[0], rc[1]);
    if (rc[0] == 0) {
        x->found++;
        ck_assert(len[0] == len[1] && memcmp(v[0], v[1], len[0]) == 0);
    } else {
        ck_assert_int_eq(rc[0], ERR_NOENT);
    }
    free(v[0]);
    free(v[1]);
}

static void drop(struct both *x, int i)
{
    for (int j = 0; j < IMPLS; j++) {
        x->e[j].kv->ops->iter_free(x->it[i][j]);
        x->it[i][j] = NULL;
        if (x->s[i][j])
            x->e[j].kv->ops->snap_free(x->e[j].kv, x->s[i][j]);
        x->s[i][j] = NULL;
    }
}

static void fill(struct both *x)
{
    uint8_t k[8], val[300];

    for (uint32_t n = rnd(x, 12); n > 0; n--) {
        size_t klen = rnd_key(x, k), vlen = rnd(x, sizeof val);
        bool del = rnd(x, 3) == 0;

        memset(val, (int)rnd(x, 256), vlen);
        for (int j = 0; j < IMPLS; j++) {
            if (del)
                x->e[j].kv->ops->batch_del(x->b[j], k, klen);
            else
                x->e[j].kv->ops->batch_put(x->b[j], k, klen, val, vlen);
        }
    }
}

static void renew_iter(struct both *x, int i)
{
    uint8_t lo[8], hi[8];
    size_t ll = rnd(x, 2) ? rnd_key(x, lo) : 0, hl = rnd(x, 2) ? rnd_key(x, hi) : 0;

    /* bounds the wrong way round are nobody's question */
    if (ll && hl && memcmp(lo, hi, ll < hl ? ll : hl) >= 0)
        hl = 0;
    for (int j = 0; j < IMPLS; j++) {
        const struct kv_ops *o = x->e[j].kv->ops;

        o->iter_free(x->it[i][j]);
        x->it[i][j] = o->iter_new(x->e[j].kv, x->s[i][j], ll ? lo : NULL, ll, hl ? hi : NULL, hl);
    }
}

static unsigned waits;
static void about_to_wait(void) { waits++; }

static void one_op(struct both *x)
{
    uint32_t op = rnd(x, 1000);
    int i = (int)rnd(x, PAIRS);
    uint8_t k[8];
    size_t klen;

    /* Half of the time as a thread that others wait for: from memory first, and from the disk it must be the same. */
    slow_hook = rnd(x, 2) ? about_to_wait : NULL;
    if (op < 250) {
        fill(x);
        for (int j = 0; j < IMPLS; j++) {
            ck_assert_int_eq(kv_write(x->e[j].kv, x->b[j], NULL), 0);
            x->e[j].kv->ops->batch_clear(x->b[j]);
        }
    } else if (op < 400) {
        same_get(x, op % 2 && !x->layer);
    } else if (op < 430) {
        drop(x, i);
        for (int j = 0; j < IMPLS && op % 2; j++)
            x->s[i][j] = x->e[j].kv->ops->snap_new(x->e[j].kv);
        renew_iter(x, i);
    } else if (op < 480) {
        renew_iter(x, i);
    } else if (op < 490) {
        for (int j = 0; j < IMPLS && !x->layer; j++)
            flush(x->e[j].kv);
    } else if (op < 493 && !x->layer) {
        for (int n = 0; n < PAIRS; n++)
            drop(x, n);
        for (int j = 0; j < IMPLS; j++) {
            x->e[j].kv->ops->batch_free(x->b[j]);
            env_reopen(&x->e[j]);
            x->b[j] = x->e[j].kv->ops->batch_new(x->e[j].kv);
        }
        for (int n = 0; n < PAIRS; n++)
            renew_iter(x, n);
    } else {
        klen = rnd_key(x, k);
        for (int j = 0; j < IMPLS; j++) {
            const struct kv_ops *o = x->e[j].kv->ops;

            if (op < 600)
                o->iter_seek(x->it[i][j], k, klen);
            else if (op < 700)
                o->iter_seek_prev(x->it[i][j], k, klen);
            else if (op < 850)
                o->iter_next(x->it[i][j]);
            else
                o->iter_prev(x->it[i][j]);
            ck_assert_int_eq(o->iter_err(x->it[i][j], NULL), 0);
        }
        same_place(x, i);
    }
}

/* Random calls on both, which end with this. */
static void compare(struct both *x)
{
    for (int i = 0; i < PAIRS; i++)
        renew_iter(x, i);
    for (int n = 0; n < RANDOM_OPS; n++)
        one_op(x);
    slow_hook = NULL;
    ck_assert_uint_gt(x->valid, RANDOM_OPS / 10);
    ck_assert_uint_gt(x->found, RANDOM_OPS / 100);
    for (int i = 0; i < PAIRS; i++)
        drop(x, i);
    for (int j = 0; j < IMPLS; j++) {
        x->e[j].kv->ops->batch_free(x->b[j]);
        env_free(&x->e[j]);
    }
}

/* A layer over what was flushed is as one store that has both. */
START_TEST(layer_equals_twin)
{
    static struct both x;
    struct err err = { 0 };

    memset(&x, 0, sizeof x);
    x.seed = 4711 + (uint64_t)_i;
    x.layer = true;
    for (int j = 0; j < IMPLS; j++) {
        x.e[j] = env_new(TWIN);
        x.b[j] = x.e[j].kv->ops->batch_new(x.e[j].kv);
    }
    for (int n = 0; n < 200; n++) {
        fill(&x);
        for (int j = 0; j < IMPLS; j++) {
            ck_assert_int_eq(kv_write(x.e[j].kv, x.b[j], NULL), 0);
            x.e[j].kv->ops->batch_clear(x.b[j]);
        }
    }
    x.e[1].kv->ops->batch_free(x.b[1]);
    ck_assert_int_eq(kv_layer_open(x.e[1].kv, &x.e[1].kv, &err), 0);
    x.b[1] = x.e[1].kv->ops->batch_new(x.e[1].kv);
    ck_assert_int_eq(x.e[1].kv->ops->flush_start(x.e[1].kv, NULL), ERR_ROFS);
    compare(&x);
}
END_TEST

START_TEST(twin_equals_rocks)
{
    static struct both x;

    x.seed = 2026 + (uint64_t)_i;
    for (int j = 0; j < IMPLS; j++) {
        x.e[j] = env_new(j);
        x.b[j] = x.e[j].kv->ops->batch_new(x.e[j].kv);
    }
    waits = 0;
    compare(&x);
    ck_assert_uint_gt(waits, 10);
}
END_TEST

/* The twin alone */

START_TEST(twin_clone_is_apart)
{
    struct env e = env_new(TWIN);
    struct env c = { .impl = TWIN };
    struct err err = { 0 };
    struct kv *second;

    put(e.kv, "a", "1");
    flush(e.kv);
    put(e.kv, "a", "lost");
    c.disk = kv_twin_disk_clone(e.disk);
    ck_assert_int_eq(kv_twin_open(e.disk, &second, &err), ERR_BUSY);
    env_open(&c);
    ck_assert_str_eq(get(c.kv, "a"), "1");
    put(c.kv, "a", "2");
    flush(c.kv);
    ck_assert_str_eq(persisted(e.kv, "a"), "1");
    ck_assert_str_eq(get(e.kv, "a"), "lost");
    put(e.kv, "a", "3");
    flush(e.kv);
    ck_assert_str_eq(persisted(c.kv, "a"), "2");
    env_free(&e);
    ck_assert_str_eq(get(c.kv, "a"), "2");
    env_free(&c);
}
END_TEST

START_TEST(twin_fails_when_told)
{
    struct env e = env_new(TWIN);
    struct err err = { 0 };
    struct kv_batch *b = e.kv->ops->batch_new(e.kv);

    put(e.kv, "a", "1");
    flush(e.kv);
    e.kv->ops->batch_put(b, "a", 1, "2", 1);
    kv_twin_fail_at(e.kv, 2, ERR_NOSPC);
    put(e.kv, "b", "1");
    ck_assert_int_eq(kv_write(e.kv, b, &err), ERR_NOSPC);
    ck_assert_str_eq(get(e.kv, "a"), "1");
    ck_assert_int_eq(kv_write(e.kv, b, &err), 0);
    kv_twin_fail_at(e.kv, 1, ERR_IO);
    ck_assert_int_eq(e.kv->ops->flush_start(e.kv, &err), ERR_IO);
    kv_twin_fail_at(e.kv, 2, ERR_IO);
    ck_assert_int_eq(e.kv->ops->flush_start(e.kv, &err), 0);
    ck_assert_int_eq(e.kv->ops->flush_wait(e.kv, &err), ERR_IO);   /* all or nothing: nothing */
    ck_assert_int_eq(e.kv->ops->flush_done(e.kv, &err), ERR_IO);
    ck_assert_str_eq(persisted(e.kv, "a"), "1");
    ck_assert_int_eq(e.kv->ops->flush_start(e.kv, &err), 0);
    ck_assert_int_eq(e.kv->ops->flush_start(e.kv, &err), ERR_BUSY);
    ck_assert_int_eq(e.kv->ops->flush_done(e.kv, &err), 0);
    ck_assert_str_eq(persisted(e.kv, "a"), "1");
    ck_assert_int_eq(e.kv->ops->flush_wait(e.kv, &err), 0);
    ck_assert_str_eq(persisted(e.kv, "a"), "2");
    e.kv->ops->batch_free(b);
    env_free(&e);
}
END_TEST

/* RocksDB alone: what a crash leaves */

/* Runs ${fn} in a process that leaves without closing anything. */
static void in_process(const char *dir, int (*fn)(struct kv *kv))
{
    int status;
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct err err = { 0 };
        struct kv *kv;

        if (kv_rocks_open(dir, true, &options, &kv, &err))
            _exit(100);
        _exit(fn(kv));
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
}

enum { CRASH_ROWS = 20000 };

static int write_rows(struct kv *kv, char tag, int n)
{
    struct kv_batch *b = kv->ops->batch_new(kv);
    char k[32], v[100];
    int rc = 0;

    memset(v, tag, sizeof v);
    for (int i = 0; i < n && rc == 0; i++) {
        int len = snprintf(k, sizeof k, "%c%08d", tag, i);

        kv->ops->batch_put(b, k, (size_t)len, v, sizeof v);
        if (i % 1000 == 999 || i == n - 1) {
            rc = kv_write(kv, b, NULL);
            kv->ops->batch_clear(b);
        }
    }
    kv->ops->batch_free(b);
    return rc;
}

static int count_rows(struct kv *kv, char tag)
{
    char lo[2] = { tag, 0 }, hi[2] = { (char)(tag + 1), 0 };
    struct kv_iter *it = kv->ops->iter_new(kv, NULL, lo, 1, hi, 1);
    int n = 0;

    for (kv->ops->iter_seek(it, lo, 1); kv->ops->iter_valid(it); kv->ops->iter_next(it))
        n++;
    ck_assert_int_eq(kv->ops->iter_err(it, NULL), 0);
    kv->ops->iter_free(it);
    return n;
}

static int flush_then_write(struct kv *kv)
{
    struct err err = { 0 };
    int rc;

    if (write_rows(kv, 'a', CRASH_ROWS) || kv->ops->flush_start(kv, &err))
        return 1;
    if (write_rows(kv, 'b', CRASH_ROWS))
        return 2;
    while ((rc = kv->ops->flush_done(kv, &err)) == 0)
        ;
    return rc == 1 ? 0 : 3;
}

static int write_only(struct kv *kv)
{
    return write_rows(kv, 'c', CRASH_ROWS);
}

static int begin_flush(struct kv *kv)
{
    struct err err = { 0 };

    return write_rows(kv, 'd', CRASH_ROWS) || kv->ops->flush_start(kv, &err);
}

static int tables(const struct env *e)
{
    char pattern[PATH_MAX];
    glob_t g;
    int n;

    snprintf(pattern, sizeof pattern, "%s/*.sst", e->dir);
    n = glob(pattern, 0, NULL, &g) == 0 ? (int)g.gl_pathc : 0;
    globfree(&g);
    return n;
}

/* What was flushed a few times is merged once there is quiet, and waits again when there is none. */
START_TEST(rocks_settles_when_it_is_told)
{
    enum { ROUNDS = 3, FLUSHES = 3 };
    struct env e = env_new(ROCKS);
    char key[32];

    for (int r = 0; r < ROUNDS; r++) {
        uint64_t until = now_ns() + DEADLINE_MS * 1000000ull;

        for (int i = 0; i < FLUSHES; i++) {
            snprintf(key, sizeof key, "%d.%d", r, i);
            put(e.kv, key, "is there");
            put(e.kv, "all", key);
            flush(e.kv);
            ck_assert_int_eq(tables(&e), (r > 0) + i + 1);
        }
        e.kv->ops->settle(e.kv);
        e.kv->ops->settle(e.kv);
        while (tables(&e) > 1)
            ck_assert_uint_lt(now_ns(), until);
    }
    env_reopen(&e);
    ck_assert_str_eq(get(e.kv, "all"), "2.2");
    for (int i = 0; i < ROUNDS * FLUSHES; i++) {
        snprintf(key, sizeof key, "%d.%d", i / FLUSHES, i % FLUSHES);
        ck_assert_str_eq(get(e.kv, key), "is there");
    }
    env_free(&e);
}
END_TEST

START_TEST(rocks_after_exit_what_was_flushed_and_no_more)
{
    struct env e = { .impl = ROCKS, .dir = "/tmp/check_kv.XXXXXX" };
    int d;

    /* RocksDB's threads do not live on in a fork: open nothing here before the processes are done. */
    ck_assert_ptr_nonnull(mkdtemp(e.dir));
    in_process(e.dir, flush_then_write);
    in_process(e.dir, write_only);
    in_process(e.dir, begin_flush);
    env_open(&e);
    ck_assert_int_eq(count_rows(e.kv, 'a'), CRASH_ROWS);
    ck_assert_int_eq(count_rows(e.kv, 'b'), 0);
    ck_assert_int_eq(count_rows(e.kv, 'c'), 0);
    d = count_rows(e.kv, 'd');   /* all or nothing */
    ck_assert(d == 0 || d == CRASH_ROWS);
    env_free(&e);
}
END_TEST

/* Files may not grow beyond 16 KiB: the SST cannot be written. */
static int flush_fails(struct kv *kv)
{
    uint64_t until = now_ns() + DEADLINE_MS * 1000000ull;
    struct rlimit small = { 16384, 16384 };
    struct err err = { 0 };
    int rc;

    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &small) || write_rows(kv, 'e', CRASH_ROWS) || kv->ops->flush_start(kv, &err))
        return 1;
    while ((rc = kv->ops->flush_done(kv, &err)) == 0)
        if (now_ns() > until)
            return 2;
    if (rc != ERR_IO || err.code != ERR_IO)
        return 3;
    return kv->ops->flush_done(kv, &err) == ERR_IO && kv->ops->flush_wait(kv, &err) == ERR_IO ? 0 : 4;
}

START_TEST(rocks_failed_flush_is_told_and_leaves_nothing)
{
    struct env e = { .impl = ROCKS, .dir = "/tmp/check_kv.XXXXXX" };

    ck_assert_ptr_nonnull(mkdtemp(e.dir));
    in_process(e.dir, flush_then_write);
    in_process(e.dir, flush_fails);
    env_open(&e);
    ck_assert_int_eq(count_rows(e.kv, 'a'), CRASH_ROWS);
    ck_assert_int_eq(count_rows(e.kv, 'e'), 0);
    env_free(&e);
}
END_TEST

START_TEST(rocks_flush_does_not_block_the_writer)
{
    struct env e = env_new(ROCKS);
    struct kv *kv = e.kv;
    struct kv_batch *b = kv->ops->batch_new(kv);
    uint64_t until = now_ns() + DEADLINE_MS * 1000000ull;
    uint8_t v[100];
    int started = 0, begun = 0, overlapped = 0;

    /* 20 flushes, each begun as soon as its predecessor is done, writes going on */
    memset(v, 'v', sizeof v);
    for (int i = 0; started < 20 || kv->ops->flush_done(kv, NULL) == 0; i++) {
        int done = kv->ops->flush_done(kv, NULL);

        ck_assert_uint_lt(now_ns(), until);
        ck_assert_int_ge(done, 0);
        for (int j = 0; j < 1000; j++) {
            char k[32];
            int len = snprintf(k, sizeof k, "%08d.%d", (i * 7919 + j * 31) % 1000003, j);

            kv->ops->batch_put(b, k, (size_t)len, v, sizeof v);
        }
        ck_assert_int_eq(kv_write(kv, b, NULL), 0);
        kv->ops->batch_clear(b);
        overlapped += done == 0;
        if (done == 1 && started < 20) {
            ck_assert_int_eq(kv->ops->flush_start(kv, NULL), 0);
            begun += kv->ops->flush_done(kv, NULL) == 0;
            started++;
        }
    }
    ck_assert_int_gt(overlapped, 0);
    ck_assert_int_gt(begun, 0);                               /* it does not wait for what it begins */
    kv->ops->batch_free(b);
    env_free(&e);
}
END_TEST

/* Many small tables, by RocksDB's own interface: more than it opens with the store. */
static void make_tables(const char *dir, unsigned n)
{
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_writeoptions_t *w = rocksdb_writeoptions_create();
    rocksdb_flushoptions_t *f = rocksdb_flushoptions_create();
    char *text = NULL, key[32];

    rocksdb_options_set_create_if_missing(o, 1);
    rocksdb_options_set_disable_auto_compactions(o, 1);
    rocksdb_t *db = rocksdb_open(o, dir, &text);
    ck_assert_msg(text == NULL, "%s", text);
    for (unsigned i = 0; i < n; i++) {
        for (unsigned j = 0; j < 4; j++) {      /* all of them reach over all keys */
            int len = snprintf(key, sizeof key, "k%02u.%03u", j * 30, i);
            rocksdb_put(db, w, key, (size_t)len, "v", 1, &text);
        }
        rocksdb_flush(db, f, &text);
        ck_assert_msg(text == NULL, "%s", text);
    }
    rocksdb_close(db);
    rocksdb_options_destroy(o);
    rocksdb_writeoptions_destroy(w);
    rocksdb_flushoptions_destroy(f);
}

START_TEST(a_table_not_open_yet_does_not_look_like_a_row)
{
    enum { TABLES = 200 };
    struct env e = env_new(ROCKS);
    struct err err = { 0 };
    char key[32];
    uint8_t *val = NULL;
    size_t vlen;
    unsigned rows = 0;

    kv_close(e.kv);
    nftw(e.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    make_tables(e.dir, TABLES);
    for (int there = 0; there < 2; there++) {
        ck_assert_msg(kv_rocks_open(e.dir, false, &options, &e.kv, &err) == 0, "%s", err.msg);
        for (unsigned i = 0; i < TABLES; i++) {
            int len = snprintf(key, sizeof key, "k60.%03u%s", i, there ? "" : "x"), rc;

            slow_hook = about_to_wait;
            rc = kv_get(e.kv, key, (size_t)len, &val, &vlen, &err);
            slow_hook = NULL;
            ck_assert_int_eq(rc, there ? 0 : ERR_NOENT);
            if (there) {
                ck_assert_uint_eq(vlen, 1);
                free(val);
            }
        }
        kv_close(e.kv);
    }
    ck_assert_msg(kv_rocks_open(e.dir, false, &options, &e.kv, &err) == 0, "%s", err.msg);
    slow_hook = about_to_wait;
    struct kv_iter *it = e.kv->ops->iter_new(e.kv, NULL, NULL, 0, NULL, 0);
    for (e.kv->ops->iter_seek(it, "k", 1); e.kv->ops->iter_valid(it); e.kv->ops->iter_next(it))
        rows++;
    slow_hook = NULL;
    ck_assert_int_eq(e.kv->ops->iter_err(it, &err), 0);
    ck_assert_uint_eq(rows, 4 * TABLES);
    e.kv->ops->iter_free(it);
    env_free(&e);
}
END_TEST

START_TEST(rocks_open_errors)
{
    struct env e = env_new(ROCKS);
    struct kv_options ro = { .cache_bytes = 1 << 20, .read_only = true };
    struct err err = { 0 };
    struct kv *kv;
    char path[128];
    FILE *f;

    snprintf(path, sizeof path, "%s/none", e.dir);
    ck_assert_int_eq(kv_rocks_open(path, false, &options, &kv, &err), ERR_NOENT);
    ck_assert_int_eq(kv_rocks_open(path, true, &ro, &kv, &err), ERR_NOENT);
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert_int_eq(kv_rocks_open(e.dir, false, &options, &kv, &err), ERR_BUSY);
    put(e.kv, "a", "1");
    flush(e.kv);
    kv_close(e.kv);
    /* a reader cannot write */
    ck_assert_int_eq(kv_rocks_open(e.dir, false, &ro, &kv, &err), 0);
    ck_assert_str_eq(get(kv, "a"), "1");
    ck_assert_str_eq(persisted(kv, "a"), "1");
    struct kv_batch *b = kv->ops->batch_new(kv);
    kv->ops->batch_put(b, "a", 1, "2", 1);
    ck_assert_int_eq(kv_write(kv, b, &err), ERR_ROFS);
    ck_assert_int_eq(kv->ops->flush_start(kv, &err), ERR_ROFS);
    kv->ops->batch_free(b);
    kv_close(kv);
    env_open(&e);
    ck_assert_str_eq(get(e.kv, "a"), "1");
    kv_close(e.kv);
    /* CURRENT names a manifest that is none */
    snprintf(path, sizeof path, "%s/CURRENT", e.dir);
    f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs("nonsense", f);
    fclose(f);
    ck_assert_int_eq(kv_rocks_open(e.dir, true, &options, &e.kv, &err), ERR_DAMAGE);
    ck_assert_ptr_nonnull(strstr(err.msg, e.dir));
    nftw(e.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("kv");
    TCase *tc = tcase_create("kv");
    SRunner *sr;
    int failed;

    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, put_get_delete, 0, IMPLS);
    tcase_add_loop_test(tc, key_too_long_is_refused_whole, 0, IMPLS);
    tcase_add_loop_test(tc, only_flush_persists, 0, IMPLS);
    tcase_add_loop_test(tc, flush_takes_what_was_written_before_it, 0, IMPLS);
    tcase_add_loop_test(tc, snapshot_does_not_move, 0, IMPLS);
    tcase_add_loop_test(tc, bounds, 0, IMPLS);
    tcase_add_loop_test(tc, batch_is_visible_at_once, 0, IMPLS);
    tcase_add_loop_test(tc, twin_equals_rocks, 0, 1);
    tcase_add_loop_test(tc, layer_equals_twin, 0, 4);
    tcase_add_test(tc, twin_clone_is_apart);
    tcase_add_test(tc, twin_fails_when_told);
    tcase_add_test(tc, rocks_after_exit_what_was_flushed_and_no_more);
    tcase_add_test(tc, rocks_settles_when_it_is_told);
    tcase_add_test(tc, rocks_failed_flush_is_told_and_leaves_nothing);
    tcase_add_test(tc, rocks_flush_does_not_block_the_writer);
    tcase_add_test(tc, a_table_not_open_yet_does_not_look_like_a_row);
    tcase_add_test(tc, rocks_open_errors);
    suite_add_tcase(s, tc);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? 1 : 0;
}
