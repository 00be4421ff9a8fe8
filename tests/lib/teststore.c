/* teststore.c: see teststore.h. */
#include "tests/lib/teststore.h"
#include "store/core/version.h"
#include "store/log/log.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void need(int64_t rc, const char *what, const struct err *err)
{
    ck_assert_msg(rc >= 0, "%s: %s: %s", what, err_name((int)rc), err != NULL && err->code != 0 ? err->msg : "");
}

static void ts_open(struct teststore *t)
{
    struct err err = { 0 };
    struct kv *kv = NULL;
    need(kv_twin_open(t->disk, &kv, &err), "twin", &err);
    t->opt.kv = kv;
    need(store_open(simio_io(t->sim), NULL, &t->opt, &t->s, NULL, &err), "open", &err);
}

void ts_new(struct teststore *t, const char *timezone)
{
    struct err err = { 0 };
    struct store_init init = { .timezone = timezone, .root_uid = 1000, .root_gid = 1000, .root_mode = 0755 };
    memset(t, 0, sizeof *t);
    t->sim = simio_new(7);
    t->disk = kv_twin_disk_new();
    t->who = (struct caller){ .uid = 1000, .gid = 1000, .pid = 42 };
    t->opt = (struct store_options){ .writable = true };
    ts_clock(t, 1795348800);             /* 2026-11-22T12:00:00Z */
    need(store_create(simio_io(t->sim), NULL, &init, &err), "create", &err);
    ts_open(t);
}

void ts_free(struct teststore *t)
{
    struct err err = { 0 };
    need(store_close(t->s, &err), "close", &err);
    kv_twin_disk_free(t->disk);
    simio_free(t->sim);
}

void ts_reopen(struct teststore *t, bool cut)
{
    struct err err = { 0 };
    if (cut) {
        store_drop(t->s);
        simio_cut(t->sim, 1, SIMIO_CUT_DROP_ALL);
        simio_set_wall(t->sim, t->now_ns);
    } else {
        need(store_close(t->s, &err), "close", &err);
    }
    ts_open(t);
}

void ts_step(struct teststore *t, int64_t ms)
{
    t->now_ns += ms * 1000000;
    simio_advance(t->sim, (uint64_t)ms * 1000000);
    simio_set_wall(t->sim, t->now_ns);
}

void ts_clock(struct teststore *t, int64_t sec)
{
    t->now_ns = sec * 1000000000;
    simio_set_wall(t->sim, t->now_ns);
}

uint64_t ts_last(struct teststore *t)
{
    struct hash128 h;
    uint64_t lsn = 0;
    log_last(store_log(t->s), &lsn, &h);
    return lsn;
}

uint64_t ts_ino(struct teststore *t, const char *path)
{
    uint64_t ino = 0;
    struct row_ino row;
    return store_walk(t->s, AT_LIVE, path, &ino, &row, NULL) == 0 ? ino : 0;
}

/* The directory of a path, and its last name. */
static uint64_t dir_of(struct teststore *t, const char *path, const char **name)
{
    const char *slash = strrchr(path, '/');
    char dir[4096] = "";
    *name = slash != NULL ? slash + 1 : path;
    if (slash != NULL)
        memcpy(dir, path, (size_t)(slash - path));
    uint64_t ino = ts_ino(t, dir);
    ck_assert_msg(ino != 0, "%s: no such directory", dir);
    return ino;
}

static uint64_t make(struct teststore *t, const char *path, uint32_t mode, const char *target)
{
    const char *name;
    uint64_t ino = 0, dir = dir_of(t, path, &name);
    struct row_ino row;
    need(store_create_node(t->s, &t->who, dir, name, strlen(name), mode, 0, target, &ino, &row, NULL), path, NULL);
    return ino;
}

uint64_t ts_create(struct teststore *t, const char *path, uint32_t mode)
{
    return make(t, path, mode, NULL);
}

int ts_try_create(struct teststore *t, const char *name)
{
    uint64_t ino;
    struct row_ino row;
    return store_create_node(t->s, &t->who, INO_ROOT, name, strlen(name), S_IFREG | 0644, 0, NULL, &ino, &row, NULL);
}

uint64_t ts_symlink(struct teststore *t, const char *path, const char *target)
{
    return make(t, path, S_IFLNK | 0777, target);
}

void ts_write(struct teststore *t, uint64_t ino, uint64_t off, const void *buf, size_t len)
{
    const char *p = buf;
    for (size_t done = 0; done < len;) {
        int64_t n = store_write(t->s, &t->who, ino, off + done, p + done, len - done, NULL);
        need(n, "write", NULL);
        done += (size_t)n;
    }
}

static void attr(struct teststore *t, uint64_t ino, const struct setattr_in *in)
{
    need(store_setattr(t->s, &t->who, ino, in, NULL, NULL), "setattr", NULL);
}

void ts_truncate(struct teststore *t, uint64_t ino, uint64_t size)
{
    attr(t, ino, &(struct setattr_in){ .valid = RSA_SIZE, .size = size });
}

void ts_chmod(struct teststore *t, uint64_t ino, uint32_t mode)
{
    attr(t, ino, &(struct setattr_in){ .valid = RSA_MODE, .mode = mode });
}

void ts_rename(struct teststore *t, const char *from, const char *to)
{
    const char *a, *b;
    uint64_t gone, sp = dir_of(t, from, &a), dp = dir_of(t, to, &b);
    need(store_rename(t->s, &t->who, sp, a, strlen(a), dp, b, strlen(b), 0, &gone, NULL), from, NULL);
    if (gone != 0)
        need(store_reap(t->s, &gone, 1, NULL), "reap", NULL);
}

void ts_unlink(struct teststore *t, const char *path)
{
    const char *name;
    struct row_ino row = { 0 };
    uint64_t gone = 0, ino = 0, dir = dir_of(t, path, &name);
    need(store_walk(t->s, AT_LIVE, path, &ino, &row, NULL), path, NULL);
    need(store_unlink(t->s, &t->who, dir, name, strlen(name), S_ISDIR(row.mode), &gone, NULL), path, NULL);
    if (gone != 0)
        need(store_reap(t->s, &gone, 1, NULL), "reap", NULL);
}

void ts_link(struct teststore *t, const char *from, const char *to)
{
    const char *name;
    uint64_t dir = dir_of(t, to, &name);
    need(store_link_node(t->s, &t->who, ts_ino(t, from), dir, name, strlen(name), NULL, NULL), to, NULL);
}

void ts_save(struct teststore *t, const char *path, const char *text)
{
    uint64_t ino = ts_ino(t, path);
    if (ino == 0)
        ino = ts_create(t, path, S_IFREG | 0644);
    else
        ts_truncate(t, ino, 0);
    ts_write(t, ino, 0, text, strlen(text));
}

char *ts_read(struct teststore *t, uint64_t at, const char *path)
{
    struct row_ino row;
    uint64_t ino = 0;
    struct err err = { 0 };
    if (store_walk(t->s, at, path, &ino, &row, NULL) < 0)
        return NULL;
    char *buf = malloc(row.size + 1);
    ck_assert_ptr_nonnull(buf);
    int64_t n = store_read(t->s, at, ino, 0, buf, row.size, false, NULL, &err);
    need(n, path, &err);
    ck_assert_uint_eq((uint64_t)n, row.size);
    buf[n] = '\0';
    return buf;
}

void ts_is(struct teststore *t, const char *path, const char *text)
{
    char *got = ts_read(t, AT_LIVE, path);
    if (text == NULL)
        ck_assert_msg(got == NULL, "%s: expected none, found \"%.40s\"", path, got);
    else
        ck_assert_msg(got != NULL && strcmp(got, text) == 0, "%s: expected \"%.40s\", found \"%.40s\"", path, text, got != NULL ? got : "(none)");
    free(got);
}
