/*
 * teststore.h: a store on a simulated disk and the index twin, without threads, on a clock the test moves. Paths are
 * relative to the root. Every helper that can fail fails the test (libcheck) with the store's own message.
 */
#ifndef TESTS_LIB_TESTSTORE_H
#define TESTS_LIB_TESTSTORE_H

#include "store/core/store.h"
#include "tests/lib/simio.h"

struct teststore {
    struct simio *sim;
    struct kv_twin_disk *disk;
    struct store *s;
    struct caller who;
    int64_t now_ns;
    struct store_options opt;
};

/* ts_new(t, timezone): made and opened; the clock stands at 2026-11-22T12:00:00Z. ts_free closes and releases all. */
void ts_new(struct teststore *t, const char *timezone);
void ts_free(struct teststore *t);
/* ts_reopen(t, cut): closed and opened again; ${cut}: as after a power cut that loses what was not synced. */
void ts_reopen(struct teststore *t, bool cut);
/* ts_step(t, ms): the clock goes on; ts_clock: to that second since 1970, also backwards. */
void ts_step(struct teststore *t, int64_t ms);
void ts_clock(struct teststore *t, int64_t sec);

uint64_t ts_last(struct teststore *t);                         /* LSN of the last record */
uint64_t ts_ino(struct teststore *t, const char *path);        /* 0: none */
uint64_t ts_create(struct teststore *t, const char *path, uint32_t mode);      /* S_IFREG, S_IFDIR... */
int ts_try_create(struct teststore *t, const char *name);                     /* a file in the root, or why not */
uint64_t ts_symlink(struct teststore *t, const char *path, const char *target);
void ts_write(struct teststore *t, uint64_t ino, uint64_t off, const void *buf, size_t len);
void ts_truncate(struct teststore *t, uint64_t ino, uint64_t size);
void ts_chmod(struct teststore *t, uint64_t ino, uint32_t mode);
void ts_rename(struct teststore *t, const char *from, const char *to);
void ts_unlink(struct teststore *t, const char *path);
void ts_link(struct teststore *t, const char *from, const char *to);
/* ts_save(t, path, text): as a shell's `>`: create or truncate, then write. */
void ts_save(struct teststore *t, const char *path, const char *text);
/* ts_read(t, at, path): content as a malloced string; NULL where there is no such file. */
char *ts_read(struct teststore *t, uint64_t at, const char *path);
/* ts_is(t, path, text): the live file has exactly this content; ${text} NULL: it does not exist. */
void ts_is(struct teststore *t, const char *path, const char *text);

#endif
