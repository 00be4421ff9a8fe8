/*
 * kv_rocks.c: the index's key-value store on RocksDB, through its C API.
 *
 * No write-ahead log, one column family, memtables that never fill: rows reach
 * the disk by kv_flush and by nothing else. That rests on these facts; the
 * last three are shown by tests/unit/check_kv.c:
 *   - rocksdb_flush(wait=0) returns when the memtable was exchanged, long
 *     before it is written (3 ms at worst under load); with the default
 *     max_write_buffer_number it first waits where a stall might follow.
 *   - "rocksdb.num-immutable-mem-table" falls to 0 when the SST is in the
 *     synced manifest, not before: that is `flush_done`.
 *   - rocksdb_close would write unflushed rows; avoid_flush_during_shutdown
 *     has no setter in the C API and is set by its option string. So closing
 *     leaves what a crash would leave.
 *   - A flush that fails shows as a background error, and nothing of it counts.
 * The log must stay off: RocksDB would preallocate it by write_buffer_size.
 */
#include "store/index/kv.h"

#include "store/base/slow.h"
#include "store/index/sorted.h"

#include <rocksdb/c.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_OPEN_FILES   = 256,
    BLOCK_SIZE       = 16 << 10,
    META_BLOCK_SIZE  = 4 << 10,
    BLOOM_BITS       = 10,
    L0_COMPACT       = 8,
    L0_NEVER         = 1 << 20,   /* slowdown and stop: back-pressure is the applier's, not RocksDB's */
    READ_AROUND      = 32 << 10,  /* a cold look into the past: costs a third more than a block, and its neighbours are asked for next */
    FLUSH_POLL_US    = 200,
    ZSTD_WINDOW_DEFAULT = -14, ZSTD_LEVEL = 5,
    INFO_LOG_ERROR   = 3,
    INDEX_TWO_LEVEL  = rocksdb_block_based_table_index_type_two_level_index_search,
    TIER_CACHED      = 1,         /* ReadTier::kBlockCacheTier: "Result incomplete" where the disk would have to be read */
    TIER_PERSISTED   = 2,         /* ReadTier::kPersistedTier: skips memtables when the log is off */
};

/* Larger than what is ever unflushed; and it bounds nothing else, memory is taken as rows come. */
#define WRITE_BUFFER_BYTES (60ull << 30)

struct kv_rocks {
    struct kv kv;
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_cache_t *cache;
    rocksdb_readoptions_t *read, *read_persisted, *read_cached;
    rocksdb_writeoptions_t *write;
    rocksdb_flushoptions_t *flush_begin;
    bool read_only;
    /* by who flushes only */
    bool flushing;
    bool settling;                /* every table of a flush is merged at once, until the next flush */
    uint64_t errors_before;       /* RocksDB's count of background errors when the flush began */
    int flush_failed;
};

struct kv_snap { const rocksdb_snapshot_t *s; bool scan; };

enum { SCAN_AHEAD = 256 << 10 };

struct kv_batch {
    struct sorted rows;
    bool failed;                  /* a key was too long: never written */
};

struct kv_iter {
    rocksdb_t *db;
    rocksdb_readoptions_t *read;
    rocksdb_iterator_t *it;
    bool cached;                  /* asks the cache alone, until that does not do: see go_on */
    const rocksdb_snapshot_t *own;    /* of one that may begin anew and was given no snapshot: it sees the same then */
    size_t llen, ulen;
    uint8_t bounds[];             /* lower, upper; RocksDB keeps pointers into it */
};

static struct kv_rocks *rocks(struct kv *kv)
{
    return (struct kv_rocks *)kv;
}

/* RocksDB's text, which begins with its status, as our code. Frees ${text}. */
static int rocks_failed(struct err *err, const char *what, char *text)
{
    int code = ERR_IO;

    if (strncmp(text, "Corruption", 10) == 0)
        code = ERR_DAMAGE;
    else if (strstr(text, "No space left"))
        code = ERR_NOSPC;
    else if (strstr(text, "While lock file") || strstr(text, "lock hold by current process"))
        code = ERR_BUSY;
    else if (strstr(text, "Permission denied"))
        code = ERR_ACCES;
    err_set(err, code, "index: %s: %s", what, text);
    rocksdb_free(text);
    return code;
}

/* Reads */

static int take_value(rocksdb_pinnableslice_t *pin, uint8_t **val, size_t *vlen, struct err *err)
{
    const char *v;
    int rc = 0;

    if (!pin)
        return kv_no_row(err);
    v = rocksdb_pinnableslice_value(pin, vlen);
    *val = malloc(*vlen ? *vlen : 1);
    if (*val)
        memcpy(*val, v, *vlen);
    else
        rc = err_set(err, ERR_NOMEM, "index: a value of %zu bytes", *vlen);
    rocksdb_pinnableslice_destroy(pin);
    return rc;
}

static int get_with(struct kv_rocks *k, rocksdb_readoptions_t *ro, const void *key, size_t klen, uint8_t **val,
                    size_t *vlen, struct err *err)
{
    rocksdb_pinnableslice_t *pin;
    char *text = NULL;

    pin = rocksdb_get_pinned(k->db, ro, key, klen, &text);
    return text ? rocks_failed(err, "get", text) : take_value(pin, val, vlen, err);
}

/*
 * A thread that others wait for (slow.h) looks in memory first. Of a table whose file is not open RocksDB says then, without an error, that
 * the key may be there: a value of no bytes (TableCache::Get, MarkKeyMayExist). No row is empty.
 */
static bool get_cached(struct kv_rocks *k, const void *key, size_t klen, rocksdb_pinnableslice_t **pin)
{
    char *text = NULL;
    size_t vlen;

    *pin = rocksdb_get_pinned(k->db, k->read_cached, key, klen, &text);
    if (text) {
        rocksdb_free(text);       /* incomplete, or an error that the reading itself will meet */
        return false;
    }
    if (!*pin)
        return true;
    (void)rocksdb_pinnableslice_value(*pin, &vlen);
    if (vlen > 0)
        return true;
    rocksdb_pinnableslice_destroy(*pin);
    return false;
}

static int rocks_get(struct kv *kv, const void *key, size_t klen, uint8_t **val, size_t *vlen, struct err *err)
{
    rocksdb_pinnableslice_t *pin;

    if (slow_hook && get_cached(rocks(kv), key, klen, &pin))
        return take_value(pin, val, vlen, err);
    slow_now();
    return get_with(rocks(kv), rocks(kv)->read, key, klen, val, vlen, err);
}

static int rocks_get_persisted(struct kv *kv, const void *key, size_t klen, uint8_t **val, size_t *vlen,
                               struct err *err)
{
    return get_with(rocks(kv), rocks(kv)->read_persisted, key, klen, val, vlen, err);
}

/* Batches */

static struct kv_batch *rocks_batch_new(struct kv *kv)
{
    (void)kv;
    return calloc(1, sizeof(struct kv_batch));
}

static void rocks_batch_put(struct kv_batch *b, const void *key, size_t klen, const void *val, size_t vlen)
{
    if (klen > KV_KEY_MAX)
        b->failed = true;
    else
        sorted_add(&b->rows, key, klen, vlen > 0 ? val : "", vlen);
}

static void rocks_batch_del(struct kv_batch *b, const void *key, size_t klen)
{
    if (klen > KV_KEY_MAX)
        b->failed = true;
    else
        sorted_add(&b->rows, key, klen, NULL, 0);
}

static size_t rocks_batch_bytes(const struct kv_batch *b)
{
    return b->rows.len;
}

static void rocks_batch_clear(struct kv_batch *b)
{
    sorted_clear(&b->rows);
    b->failed = false;
}

static void rocks_batch_free(struct kv_batch *b)
{
    if (b)
        sorted_release(&b->rows);
    free(b);
}

static void into(void *wb, const void *key, size_t klen, const void *val, size_t vlen)
{
    if (val)
        rocksdb_writebatch_put(wb, key, klen, val, vlen);
    else
        rocksdb_writebatch_delete(wb, key, klen);
}

static int rocks_write(struct kv *kv, struct kv_batch *b, struct err *err)
{
    struct kv_rocks *k = rocks(kv);
    rocksdb_writebatch_t *wb;
    char *text = NULL;

    if (k->read_only)
        return err_set(err, ERR_ROFS, "index: opened read-only");
    if (b->failed)
        return err_set(err, ERR_INVAL, "index: a key longer than %d bytes", KV_KEY_MAX);
    if (b->rows.failed)
        return err_set(err, ERR_NOMEM, "index: out of memory for a batch of rows");
    wb = rocksdb_writebatch_create();     /* a new one: it would keep the memory of the largest */
    sorted_each(&b->rows, into, wb);
    rocksdb_write(k->db, k->write, wb, &text);
    rocksdb_writebatch_destroy(wb);
    return text ? rocks_failed(err, "write", text) : 0;
}

/* Flush */

static uint64_t property(struct kv_rocks *k, const char *name)
{
    uint64_t v = 0;

    rocksdb_property_int(k->db, name, &v);
    return v;
}

/* From how many tables of single flushes on these are merged into the level below. If it cannot be said, it stays as it was. */
static void merge_from(struct kv_rocks *k, int tables)
{
    char text[16], *why = NULL;
    const char *const name[] = { "level0_file_num_compaction_trigger" }, *const value[] = { text };

    snprintf(text, sizeof text, "%d", tables);
    rocksdb_set_options(k->db, 1, name, value, &why);
    if (why)
        rocksdb_free(why);
}

static void rocks_settle(struct kv *kv)
{
    struct kv_rocks *k = rocks(kv);

    if (k->read_only || k->settling)
        return;
    k->settling = true;
    merge_from(k, 1);
}

static int rocks_flush_start(struct kv *kv, struct err *err)
{
    struct kv_rocks *k = rocks(kv);
    char *text = NULL;

    if (k->read_only)
        return err_set(err, ERR_ROFS, "index: opened read-only");
    if (k->flushing)
        return err_set(err, ERR_BUSY, "index: a flush is under way");
    if (k->settling)
        merge_from(k, L0_COMPACT);
    k->settling = false;
    k->errors_before = property(k, "rocksdb.background-errors");
    rocksdb_flush(k->db, k->flush_begin, &text);
    if (text)
        return k->flush_failed = rocks_failed(err, "flush", text);
    k->flush_failed = 0;
    k->flushing = true;
    return 0;
}

static int rocks_flush_done(struct kv *kv, struct err *err)
{
    struct kv_rocks *k = rocks(kv);

    if (!k->flushing)
        return k->flush_failed ? err_set(err, k->flush_failed, "index: the last flush failed") : 1;
    if (property(k, "rocksdb.num-immutable-mem-table") == 0) {
        k->flushing = false;
        return 1;
    }
    /* A failed flush keeps its memtable, and RocksDB would try again: after a failed sync that proves
     * nothing. A failed compaction counts here too; the index is as broken. */
    if (property(k, "rocksdb.background-errors") != k->errors_before) {
        k->flushing = false;
        return k->flush_failed = err_set(err, ERR_IO, "index: RocksDB could not write to disk; its LOG says why");
    }
    return 0;
}

static int rocks_flush_wait(struct kv *kv, struct err *err)
{
    const struct timespec pause = { 0, FLUSH_POLL_US * 1000L };
    int rc;

    /* RocksDB's own flush(wait=1) would begin another flush and has no bound either. */
    while ((rc = rocks_flush_done(kv, err)) == 0)
        nanosleep(&pause, NULL);
    return rc < 0 ? rc : 0;
}

/* Snapshots and iterators */

static struct kv_snap *rocks_snap_new(struct kv *kv)
{
    struct kv_snap *s = malloc(sizeof *s);

    if (s)
        *s = (struct kv_snap){ .s = rocksdb_create_snapshot(rocks(kv)->db) };
    return s;
}

static struct kv_snap *rocks_snap_scan(struct kv *kv)
{
    struct kv_snap *s = rocks_snap_new(kv);

    if (s)
        s->scan = true;
    return s;
}

static void rocks_snap_free(struct kv *kv, struct kv_snap *s)
{
    if (s)
        rocksdb_release_snapshot(rocks(kv)->db, s->s);
    free(s);
}

static struct kv_iter *rocks_iter_new(struct kv *kv, struct kv_snap *s, const void *lower, size_t llen,
                                      const void *upper, size_t ulen)
{
    size_t ln = lower ? llen : 0, un = upper ? ulen : 0;
    struct kv_iter *it = malloc(sizeof *it + ln + un);

    if (!it)
        return NULL;
    it->db = rocks(kv)->db;
    it->cached = slow_hook != NULL;
    it->llen = ln;
    it->ulen = un;
    if (ln)
        memcpy(it->bounds, lower, ln);
    if (un)
        memcpy(it->bounds + ln, upper, un);
    it->read = rocksdb_readoptions_create();
    if (ln)
        rocksdb_readoptions_set_iterate_lower_bound(it->read, (const char *)it->bounds, ln);
    if (un)
        rocksdb_readoptions_set_iterate_upper_bound(it->read, (const char *)it->bounds + ln, un);
    it->own = it->cached && !s ? rocksdb_create_snapshot(it->db) : NULL;
    if (s || it->own)
        rocksdb_readoptions_set_snapshot(it->read, s ? s->s : it->own);
    if (s && s->scan) {
        rocksdb_readoptions_set_fill_cache(it->read, 0);
        rocksdb_readoptions_set_readahead_size(it->read, SCAN_AHEAD);
    }
    if (it->cached)
        rocksdb_readoptions_set_read_tier(it->read, TIER_CACHED);
    it->it = rocksdb_create_iterator(it->db, it->read);
    return it;
}

/* True: the cache alone did not do. The thread says so, and the iterator begins anew, with the disk. */
static bool go_on(struct kv_iter *it)
{
    char *text = NULL;

    if (!it->cached || rocksdb_iter_valid(it->it))
        return false;
    rocksdb_iter_get_error(it->it, &text);
    if (!text)
        return false;
    rocksdb_free(text);
    slow_now();
    it->cached = false;
    rocksdb_readoptions_set_read_tier(it->read, 0);
    rocksdb_readoptions_set_readahead_size(it->read, READ_AROUND);
    rocksdb_iter_destroy(it->it);
    it->it = rocksdb_create_iterator(it->db, it->read);
    return true;
}

static void rocks_iter_seek(struct kv_iter *it, const void *key, size_t klen)
{
    rocksdb_iter_seek(it->it, key, klen);
    if (go_on(it))
        rocksdb_iter_seek(it->it, key, klen);
}

static void rocks_iter_seek_prev(struct kv_iter *it, const void *key, size_t klen)
{
    rocksdb_iter_seek_for_prev(it->it, key, klen);
    if (go_on(it))
        rocksdb_iter_seek_for_prev(it->it, key, klen);
}

/* A step from a key that is kept, since a failed one loses it. The key is there still, in the same snapshot. */
static void step_cached(struct kv_iter *it, void (*seek)(rocksdb_iterator_t *, const char *, size_t), void (*step)(rocksdb_iterator_t *))
{
    char key[KV_KEY_MAX];
    size_t len;
    const char *at = rocksdb_iter_key(it->it, &len);

    memcpy(key, at, len < sizeof key ? len : sizeof key);
    step(it->it);
    if (!go_on(it))
        return;
    seek(it->it, key, len);
    if (rocksdb_iter_valid(it->it)) {
        at = rocksdb_iter_key(it->it, &len);
        if (len <= sizeof key && memcmp(at, key, len) == 0)
            step(it->it);
    }
}

static void rocks_iter_next(struct kv_iter *it)
{
    if (!rocksdb_iter_valid(it->it))
        return;
    if (it->cached)
        step_cached(it, rocksdb_iter_seek, rocksdb_iter_next);
    else
        rocksdb_iter_next(it->it);
}

static void rocks_iter_prev(struct kv_iter *it)
{
    if (!rocksdb_iter_valid(it->it))
        return;
    if (it->cached)
        step_cached(it, rocksdb_iter_seek_for_prev, rocksdb_iter_prev);
    else
        rocksdb_iter_prev(it->it);
}

static bool rocks_iter_valid(struct kv_iter *it)
{
    return rocksdb_iter_valid(it->it) != 0;
}

static const uint8_t *rocks_iter_key(struct kv_iter *it, size_t *len)
{
    return (const uint8_t *)rocksdb_iter_key(it->it, len);
}

static const uint8_t *rocks_iter_val(struct kv_iter *it, size_t *len)
{
    return (const uint8_t *)rocksdb_iter_value(it->it, len);
}

static int rocks_iter_err(struct kv_iter *it, struct err *err)
{
    char *text = NULL;

    rocksdb_iter_get_error(it->it, &text);
    return text ? rocks_failed(err, "scan", text) : 0;
}

static void rocks_iter_free(struct kv_iter *it)
{
    if (!it)
        return;
    rocksdb_iter_destroy(it->it);
    rocksdb_readoptions_destroy(it->read);
    if (it->own)
        rocksdb_release_snapshot(it->db, it->own);
    free(it);
}

/* Life */

/* UINT64_MAX: never flush. It would put rows into files whose records are not durable. */
static int rocks_checkpoint(struct kv *kv, const char *path, struct err *err)
{
    char *text = NULL;
    rocksdb_checkpoint_t *cp = rocksdb_checkpoint_object_create(rocks(kv)->db, &text);

    if (cp)
        rocksdb_checkpoint_create(cp, path, UINT64_MAX, &text);
    if (cp)
        rocksdb_checkpoint_object_destroy(cp);
    return text ? rocks_failed(err, path, text) : 0;
}

static uint64_t rocks_memory(struct kv *kv)
{
    struct kv_rocks *k = rocks(kv);

    return property(k, "rocksdb.cur-size-all-mem-tables") + rocksdb_cache_get_usage(k->cache);
}

static void rocks_close(struct kv *kv)
{
    struct kv_rocks *k = rocks(kv);

    if (!k)
        return;
    if (k->db)
        rocksdb_close(k->db);
    if (k->read)
        rocksdb_readoptions_destroy(k->read);
    if (k->read_persisted)
        rocksdb_readoptions_destroy(k->read_persisted);
    if (k->read_cached)
        rocksdb_readoptions_destroy(k->read_cached);
    if (k->write)
        rocksdb_writeoptions_destroy(k->write);
    if (k->flush_begin)
        rocksdb_flushoptions_destroy(k->flush_begin);
    if (k->options)
        rocksdb_options_destroy(k->options);
    if (k->cache)
        rocksdb_cache_destroy(k->cache);
    free(k);
}

static const struct kv_ops rocks_ops = {
    .get = rocks_get,
    .get_persisted = rocks_get_persisted,
    .batch_new = rocks_batch_new,
    .batch_put = rocks_batch_put,
    .batch_del = rocks_batch_del,
    .batch_bytes = rocks_batch_bytes,
    .batch_clear = rocks_batch_clear,
    .batch_free = rocks_batch_free,
    .write = rocks_write,
    .flush_start = rocks_flush_start,
    .flush_done = rocks_flush_done,
    .flush_wait = rocks_flush_wait,
    .snap_new = rocks_snap_new,
    .snap_scan = rocks_snap_scan,
    .snap_free = rocks_snap_free,
    .iter_new = rocks_iter_new,
    .iter_seek = rocks_iter_seek,
    .iter_seek_prev = rocks_iter_seek_prev,
    .iter_next = rocks_iter_next,
    .iter_prev = rocks_iter_prev,
    .iter_valid = rocks_iter_valid,
    .iter_key = rocks_iter_key,
    .iter_val = rocks_iter_val,
    .iter_err = rocks_iter_err,
    .iter_free = rocks_iter_free,
    .checkpoint = rocks_checkpoint,
    .settle = rocks_settle,
    .memory = rocks_memory,
    .close = rocks_close,
};

static void table_options(rocksdb_options_t *o, rocksdb_cache_t *cache)
{
    rocksdb_block_based_table_options_t *t = rocksdb_block_based_options_create();

    rocksdb_block_based_options_set_block_size(t, BLOCK_SIZE);
    rocksdb_block_based_options_set_block_cache(t, cache);
    /* Memory must not grow with the store: index and filter live in the cache, in parts. */
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(t, 1);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority(t, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(t, 0);
    rocksdb_block_based_options_set_index_type(t, INDEX_TWO_LEVEL);
    rocksdb_block_based_options_set_partition_filters(t, 1);
    rocksdb_block_based_options_set_metadata_block_size(t, META_BLOCK_SIZE);
    rocksdb_block_based_options_set_whole_key_filtering(t, 1);
    rocksdb_block_based_options_set_filter_policy(t, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS));
    rocksdb_options_set_block_based_table_factory(o, t);
    rocksdb_block_based_options_destroy(t);
}

/* NULL and RocksDB's text if it does not know an option. */
static rocksdb_options_t *options_new(rocksdb_cache_t *cache, bool create, int compression, char **text)
{
    rocksdb_options_t *o = rocksdb_options_create(), *full = rocksdb_options_create();

    rocksdb_options_set_create_if_missing(o, create);
    rocksdb_options_set_paranoid_checks(o, 1);
    rocksdb_options_set_write_buffer_size(o, (size_t)WRITE_BUFFER_BYTES);
    rocksdb_options_set_db_write_buffer_size(o, 0);
    rocksdb_options_set_max_write_buffer_number(o, 4);
    rocksdb_options_set_min_write_buffer_number_to_merge(o, 1);
    rocksdb_options_set_level0_file_num_compaction_trigger(o, L0_COMPACT);
    rocksdb_options_set_level0_slowdown_writes_trigger(o, L0_NEVER);
    rocksdb_options_set_level0_stop_writes_trigger(o, L0_NEVER);
    rocksdb_options_set_soft_pending_compaction_bytes_limit(o, 0);
    rocksdb_options_set_hard_pending_compaction_bytes_limit(o, 0);
    rocksdb_options_set_memtable_prefix_bloom_size_ratio(o, 0);
    rocksdb_options_set_max_open_files(o, MAX_OPEN_FILES);
    rocksdb_options_set_max_background_jobs(o, 2);
    /* The applier is the only writer; a memtable for one is a little faster. */
    rocksdb_options_set_allow_concurrent_memtable_write(o, 0);
    rocksdb_options_set_enable_write_thread_adaptive_yield(o, 0);
    /* No filters in the lowest level: rows asked for are mostly there, and of history, which is sought, none is ever asked. A look-up in
     * the past reads 2.0 blocks instead of 2.4; untar takes 3 % more of the worker's time, for names that are not there yet. */
    rocksdb_options_set_optimize_filters_for_hits(o, 1);
    /* What was just flushed is merged soon: to compress it took a third of all that the worker computes while a tree is unpacked. */
    rocksdb_options_set_compression(o, compression);
    rocksdb_options_set_compression_per_level(o, (int[]){ rocksdb_no_compression, compression }, 2);
    if (compression == rocksdb_zstd_compression)     /* 3 % less than at the default; above 5 little is gained */
        rocksdb_options_set_compression_options(o, ZSTD_WINDOW_DEFAULT, ZSTD_LEVEL, 0, 0);
    rocksdb_options_set_keep_log_file_num(o, 1);
    rocksdb_options_set_info_log_level(o, INFO_LOG_ERROR);
    rocksdb_options_set_stats_dump_period_sec(o, 0);
    rocksdb_options_set_stats_persist_period_sec(o, 0);
    table_options(o, cache);
    rocksdb_get_options_from_string(o, "avoid_flush_during_shutdown=true", full, text);
    rocksdb_options_destroy(o);
    if (*text) {
        rocksdb_options_destroy(full);
        return NULL;
    }
    return full;
}

/* Opens with the first of these that RocksDB was built with. Most of an index is history that nobody looks at today: zstd takes a quarter less than lz4. */
static char *open_db(struct kv_rocks *k, const char *path, bool create)
{
    static const int tried[] = { rocksdb_zstd_compression, rocksdb_lz4_compression, rocksdb_no_compression };
    char *text = NULL;

    for (size_t i = 0; i < sizeof tried / sizeof *tried; i++) {
        if (text)
            rocksdb_free(text);
        text = NULL;
        if (k->options)
            rocksdb_options_destroy(k->options);
        k->options = options_new(k->cache, create, tried[i], &text);
        if (!k->options)
            return text;
        k->db = k->read_only ? rocksdb_open_for_read_only(k->options, path, 0, &text)
                             : rocksdb_open(k->options, path, &text);
        if (!text || !strstr(text, "is not linked with the binary"))
            return text;
    }
    return text;
}

static bool db_exists(const char *path)
{
    char current[4096];
    int n = snprintf(current, sizeof current, "%s/CURRENT", path);

    return n > 0 && (size_t)n < sizeof current && access(current, F_OK) == 0;
}

int kv_rocks_open(const char *path, bool create, const struct kv_options *opt, struct kv **out, struct err *err)
{
    struct kv_rocks *k;
    char *text;

    if ((!create || opt->read_only) && !db_exists(path))
        return err_set(err, ERR_NOENT, "%s: no index here", path);
    k = calloc(1, sizeof *k);
    if (!k)
        return err_set(err, ERR_NOMEM, "%s: index", path);
    k->kv.ops = &rocks_ops;
    k->read_only = opt->read_only;
    k->cache = rocksdb_cache_create_lru((size_t)opt->cache_bytes);
    k->read = rocksdb_readoptions_create();
    k->read_persisted = rocksdb_readoptions_create();
    rocksdb_readoptions_set_read_tier(k->read_persisted, TIER_PERSISTED);
    k->read_cached = rocksdb_readoptions_create();
    rocksdb_readoptions_set_read_tier(k->read_cached, TIER_CACHED);
    k->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(k->write, 1);
    k->flush_begin = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(k->flush_begin, 0);
    text = open_db(k, path, create);
    if (text) {
        k->db = NULL;
        rocks_close(&k->kv);
        return rocks_failed(err, path, text);
    }
    *out = &k->kv;
    return 0;
}
