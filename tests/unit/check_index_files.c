/*
 * check_index_files.c: a store whose RocksDB files are as a power cut may leave them, or worse: it opens whole, past included, or is
 * refused in words; never another tree. Real files, since it is RocksDB's reading of them that counts.
 */
#include "store/core/retain.h"
#include "store/core/store.h"
#include "store/maint/reclaim.h"
#include "store/maint/upkeep.h"
#include "tests/lib/pasttree.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES = 6, HEADER = 7 };

static char base[64];
static uint64_t moment[FILES];   /* after file k was made */
static uint8_t manifest[1 << 18];
static size_t manifest_len;
static char manifest_path[160];

static void sh(const char *command)
{
    char line[300];
    snprintf(line, sizeof line, "cd %s && %s", base, command);
    ck_assert_int_eq(system(line), 0);
}

static int open_store(bool writable, struct store **s, struct err *err)
{
    char dir[96];
    struct store_options opt = { .writable = writable, .location = LOCATION_MOVED, .memory_bytes = 16 << 20 };
    struct io *io = NULL;
    snprintf(dir, sizeof dir, "%s/st", base);
    ck_assert_int_eq(io_posix_new(dir, &io, err), 0);
    int rc = store_open(io, dir, &opt, s, NULL, err);
    if (rc < 0)
        io->ops->free(io);
    return rc;
}

static void drop(struct store *s)
{
    struct io *io = store_io(s);
    store_drop(s);
    io->ops->free(io);
}

static uint64_t now(struct store *s)
{
    struct store_info info;
    store_info(s, &info);
    return info.head;
}

static void make_file(struct store *s, int k)
{
    char text[32], name[16];
    struct caller who = { 0 };
    struct row_ino row;
    uint64_t ino;
    struct err err;
    snprintf(name, sizeof name, "f%d", k);
    int n = snprintf(text, sizeof text, "text of %d", k);
    ck_assert_int_eq(store_create_node(s, &who, INO_ROOT, name, strlen(name), S_IFREG | 0644, 0, NULL, &ino, &row, NULL), 0);
    ck_assert_int_eq(store_write(s, &who, ino, 0, text, (size_t)n, NULL), n);
    ck_assert_int_eq(store_sync(s, &err), 0);
    ck_assert_int_eq(store_flush(s, &err), 0);
    moment[k] = now(s) - 1;
}

/* The same text into the first file, and the index flushed: one more record of the MANIFEST. */
static void save_again(struct store *s)
{
    struct caller who = { 0 };
    struct row_ino row;
    uint64_t ino;
    struct err err;
    ck_assert_int_eq(store_lookup(s, AT_LIVE, INO_ROOT, "f0", 2, &ino, &row, NULL), 0);
    ck_assert_int_eq(store_write(s, &who, ino, 0, "text of 0", 9, NULL), 9);
    ck_assert_int_eq(store_sync(s, &err), 0);
    ck_assert_int_eq(store_flush(s, &err), 0);
}

/* Files 0 to n - 1 are there, with their text; no other. */
static void holds(struct store *s, uint64_t at, int n)
{
    for (int k = 0; k < FILES; k++) {
        char want[32], got[32], name[16];
        uint64_t ino;
        struct row_ino row;
        struct err err;
        snprintf(name, sizeof name, "f%d", k);
        int len = snprintf(want, sizeof want, "text of %d", k);
        int rc = store_lookup(s, at, INO_ROOT, name, strlen(name), &ino, &row, NULL);
        ck_assert_int_eq(rc, k < n ? 0 : ERR_NOENT);
        if (k >= n)
            continue;
        ck_assert_int_eq(store_read(s, at, ino, 0, got, sizeof got, false, NULL, &err), len);
        ck_assert_mem_eq(got, want, (size_t)len);
    }
}

static void whole(struct store *s)
{
    holds(s, AT_LIVE, FILES);
    for (int k = 0; k < FILES; k++)
        holds(s, moment[k], k + 1);
}

static void put_manifest(size_t len)
{
    int fd = open(manifest_path, O_WRONLY | O_TRUNC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, manifest, len), (ssize_t)len);
    close(fd);
}

static void read_manifest(void)
{
    char current[96], name[64] = "";
    snprintf(current, sizeof current, "%s/st/index/CURRENT", base);
    FILE *f = fopen(current, "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fscanf(f, "%60s", name), 1);
    fclose(f);
    snprintf(manifest_path, sizeof manifest_path, "%s/st/index/%s", base, name);
    f = fopen(manifest_path, "r");
    ck_assert_ptr_nonnull(f);
    manifest_len = fread(manifest, 1, sizeof manifest, f);
    fclose(f);
    ck_assert_uint_lt(manifest_len, sizeof manifest / 2);
}

/*
 * A record that no sync has confirmed: the last one once more. (The last one itself will not do: where it is a compaction's, the files
 * it replaced are gone.) Returns where it begins; only ever put down in part.
 */
static size_t add_record(void)
{
    size_t at = 0, last = 0;
    while (at + HEADER <= manifest_len) {
        last = at;
        at += HEADER + (size_t)(manifest[at + 4] | manifest[at + 5] << 8);
    }
    ck_assert_uint_eq(at, manifest_len);
    memcpy(manifest + at, manifest + last, at - last);
    manifest_len += at - last;
    return at;
}

static void set_up(void)
{
    struct store_init init = { .root_mode = 0755 };
    struct err err = { 0 };
    struct io *io = NULL;
    struct store *s = NULL;
    char dir[96];
    strcpy(base, "/tmp/check_index_files.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(base));
    snprintf(dir, sizeof dir, "%s/st", base);
    ck_assert_int_eq(mkdir(dir, 0700), 0);
    ck_assert_int_eq(io_posix_new(dir, &io, &err), 0);
    ck_assert_msg(store_create(io, dir, &init, &err) == 0, "%s", err.msg);
    io->ops->free(io);
    ck_assert_msg(open_store(true, &s, &err) == 0, "%s", err.msg);
    for (int k = 0; k < FILES; k++)
        make_file(s, k);
    drop(s);
    read_manifest();
    sh("cp -a st keep");
}

static void tear_down(void)
{
    sh("rm -rf st keep kept files");
    ck_assert_int_eq(rmdir(base), 0);
}

static void as_kept(void)
{
    sh("rm -rf st && cp -a keep st");
}

static void opens_whole(const char *what, size_t at)
{
    struct store *s = NULL;
    struct err err = { 0 };
    int rc = open_store(true, &s, &err);
    ck_assert_msg(rc == 0, "%s at %zu: %s %s", what, at, err_name(rc), err.msg);
    whole(s);
    drop(s);
    rc = open_store(true, &s, &err);
    ck_assert_msg(rc == 0, "%s at %zu, again: %s %s", what, at, err_name(rc), err.msg);
    whole(s);
    drop(s);
}

/* Of that record some bytes are missing: holes, ends, and what a disk puts there instead. */
START_TEST(a_torn_manifest_is_cut)
{
    static uint8_t was[sizeof manifest];
    size_t from = add_record();
    memcpy(was, manifest, sizeof was);
    for (size_t k = from; k < manifest_len; k += 8) {
        size_t n = manifest_len - k < 8 ? manifest_len - k : 8;
        memset(manifest + k, 0, n);
        if (memcmp(manifest, was, manifest_len) != 0) {
            as_kept();
            put_manifest(manifest_len);
            opens_whole("a hole", k);
        }
        memset(manifest + k, 0xa5, manifest_len - k);
        as_kept();
        put_manifest(manifest_len);
        opens_whole("other bytes", k);
        memcpy(manifest, was, sizeof was);
        as_kept();
        put_manifest(k);
        opens_whole("a short file", k);
    }
}
END_TEST

/* A record of the MANIFEST may lie across its blocks of 32 KiB. */
START_TEST(a_long_manifest_is_cut_too)
{
    struct store *s = NULL;
    struct err err = { 0 };
    ck_assert_msg(open_store(true, &s, &err) == 0, "%s", err.msg);
    for (int k = 0; k < 400 || manifest_len < 2 * 32768 + 1000; k++) {
        if (k % 50 == 0)
            read_manifest();
        save_again(s);
    }
    drop(s);
    read_manifest();
    sh("rm -rf keep && cp -a st keep");
    static const uint8_t bad[] = { 1, 2, 3, 4, 10, 0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 };    /* whole, but for its checksum */
    memcpy(manifest + manifest_len, bad, sizeof bad);
    as_kept();
    put_manifest(manifest_len + sizeof bad);
    opens_whole("behind a long MANIFEST", manifest_len);
    static const size_t border[] = { 32768 - 8, 32768 + 12, 65536 - 8, 65536 + 3 };   /* synced, so that it may have had consequences */
    for (int i = 0; i < 4; i++) {
        as_kept();
        manifest[border[i]] ^= 0x40;
        put_manifest(manifest_len);
        manifest[border[i]] ^= 0x40;
        int rc = open_store(true, &s, &err);
        ck_assert_msg(rc == 0 || strstr(err.msg, "; rebuild it: spare rebuild-index") != NULL, "byte %zu: %s", border[i], err.msg);
        if (rc == 0) {
            whole(s);
            drop(s);
        }
    }
}
END_TEST

START_TEST(to_read_a_torn_manifest_is_refused_with_what_to_do)
{
    struct store *s = NULL;
    struct err err = { 0 };
    add_record();
    manifest[manifest_len - 1] ^= 1;
    put_manifest(manifest_len);
    ck_assert_int_eq(open_store(false, &s, &err), ERR_DAMAGE);
    ck_assert_ptr_nonnull(strstr(err.msg, "; where a power cut left it so, mounting the store (not ro) mends it"));
    opens_whole("the last byte", manifest_len);
}
END_TEST

/* Rot anywhere: what is older is as good where its files are there; where they are not, or the beginning is bad, it is refused. */
START_TEST(a_rotten_manifest_gives_the_tree_or_is_refused)
{
    for (size_t k = 0; k < manifest_len; k += 11) {
        struct store *s = NULL;
        struct err err = { 0 };
        as_kept();
        manifest[k] ^= 0x10;
        put_manifest(manifest_len);
        manifest[k] ^= 0x10;
        int rc = open_store(true, &s, &err);
        if (rc == 0) {
            whole(s);
            drop(s);
            continue;
        }
        ck_assert_msg(rc == ERR_DAMAGE || rc == ERR_IO, "byte %zu: %s %s", k, err_name(rc), err.msg);
        ck_assert_msg(strncmp(err.msg, "index: ", 7) == 0, "byte %zu: %s", k, err.msg);
        ck_assert_msg(strstr(err.msg, "; rebuild it: spare rebuild-index") != NULL, "byte %zu: %s", k, err.msg);
        sh("rm -rf st/index");
        opens_whole("no index, after byte", k);
    }
}
END_TEST

START_TEST(a_current_that_names_nothing_is_mended)
{
    sh("echo MANIFEST-000099 >st/index/CURRENT");
    opens_whole("CURRENT", 0);
}
END_TEST

START_TEST(an_index_that_is_gone_is_made_anew)
{
    sh("rm -rf st/index");
    opens_whole("no index", 0);
}
END_TEST

/* ---- an index behind which lie packs, a thinned past, reclaim ---- */

enum { MOMENTS = 400 };
static struct { uint64_t lsn, digest; } then[MOMENTS];
static int n_then;
static unsigned rng = 12345;

static unsigned below(unsigned n)
{
    rng = rng * 1103515245u + 12345u;
    return (rng >> 8) % n;
}

static void change(struct store *s, int i)
{
    struct caller who = { 0 };
    char name[16], text[3000];
    struct row_ino row;
    uint64_t ino, gone = 0;
    int k = (int)below(20), rc;
    snprintf(name, sizeof name, "g%d", k);
    memset(text, 'a' + i % 26, sizeof text);
    rc = store_lookup(s, AT_LIVE, INO_ROOT, name, strlen(name), &ino, &row, NULL);
    if (rc == 0 && below(4) == 0) {
        ck_assert_int_eq(store_unlink(s, &who, INO_ROOT, name, strlen(name), false, &gone, NULL), 0);
        ck_assert_int_eq(store_reap(s, &gone, 1, NULL), 0);
        return;
    }
    if (rc != 0)
        ck_assert_int_eq(store_create_node(s, &who, INO_ROOT, name, strlen(name), S_IFREG | 0644, 0, NULL, &ino, &row, NULL), 0);
    ck_assert_int_ge(store_write(s, &who, ino, below(50000), text, 1 + below(sizeof text - 1), NULL), 0);
    if (below(5) == 0)
        ck_assert_int_eq(store_setxattr(s, &who, ino, "user.x", text, 1 + below(500), 0, false, NULL), 0);
}

/* Some work, a snapshot, perhaps packing and reclaim. */
static void more(struct store *s, int i)
{
    const struct reclaim_options opt = { .now = true, .base = below(2) == 0 };
    struct caller who = { 0 };
    struct err err = { 0 };
    char name[16];
    for (int k = 0; k < 12; k++)
        change(s, i);
    snprintf(name, sizeof name, "s%d", i);
    if (below(3) == 0)
        ck_assert_int_eq(store_snapshot(s, &who, RSN_CREATE, name, AT_LIVE, "", "", 0, NULL, &err), 0);
    ck_assert_int_eq(store_sync(s, &err), 0);
    then[n_then].lsn = now(s) - 1;
    then[n_then].digest = past_digest(s, then[n_then].lsn);
    n_then++;
    if (below(2) == 0)
        ck_assert_msg(upkeep_pack(s, NULL, NULL, NULL, NULL, &err) == 0, "%s", err.msg);
    if (below(2) == 0)
        ck_assert_msg(reclaim(s, &opt, NULL, &err) == 0, "%s", err.msg);
}

/* Every moment listed is what it was, or says that it cannot be read where ${may}. Returns how many are listed. */
static int well(struct store *s, bool may, const char *what)
{
    int n = 0;
    for (int i = 0; i < n_then; i++) {
        uint64_t digest = 0;
        int rc;
        if (!store_lists(s, then[i].lsn))
            continue;
        rc = past_try(s, then[i].lsn, &digest);
        ck_assert_msg((rc < 0 && may) || (rc == 0 && digest == then[i].digest), "%s: moment %d, @%lu: %s", what, i, (unsigned long)then[i].lsn, rc < 0 ? err_name(rc) : "another one");
        n++;
    }
    return n;
}

static int rebuild(struct store **s, struct err *err)
{
    char dir[96];
    struct store_options opt = { .writable = true, .fresh_index = true, .location = LOCATION_MOVED, .memory_bytes = 16 << 20 };
    struct io *io = NULL;
    snprintf(dir, sizeof dir, "%s/st", base);
    ck_assert_int_eq(io_posix_new(dir, &io, err), 0);
    int rc = store_open(io, dir, &opt, s, NULL, err);
    if (rc < 0)
        io->ops->free(io);
    return rc;
}

/* One file: a byte of it, its end, or all of it. */
static void damage_one(const char *file, int listed)
{
    char path[400], what[500];
    struct store *s = NULL;
    struct err err = { 0 };
    struct stat st;
    int way = (int)below(4);
    sh("rm -rf st && cp -a kept st");
    snprintf(path, sizeof path, "%s/st/index/%s", base, file);
    ck_assert_int_eq(stat(path, &st), 0);
    snprintf(what, sizeof what, "%s, way %d", file, way);
    if (way == 0) {
        ck_assert_int_eq(unlink(path), 0);
    } else if (st.st_size > 0 && way == 1) {
        ck_assert_int_eq(truncate(path, below((unsigned)st.st_size)), 0);
    } else if (st.st_size > 0) {
        int fd = open(path, O_RDWR);
        off_t off = below((unsigned)st.st_size);
        uint8_t b;
        ck_assert_int_eq(pread(fd, &b, 1, off), 1);
        b ^= (uint8_t)(1u << below(8));
        ck_assert_int_eq(pwrite(fd, &b, 1, off), 1);
        close(fd);
    }
    if (open_store(true, &s, &err) == 0) {
        well(s, true, what);
        drop(s);
    } else {
        ck_assert_msg(err.msg[0] != '\0', "%s: refused without a word", what);
    }
    err = (struct err){ 0 };
    ck_assert_msg(rebuild(&s, &err) == 0, "%s: rebuild: %s", what, err.msg);
    ck_assert_int_eq(well(s, false, what), listed);
    drop(s);
}

START_TEST(whatever_happens_to_a_file_of_the_index_it_is_made_anew)
{
    int times = getenv("TIMES") != NULL ? atoi(getenv("TIMES")) : 3;
    struct store *s = NULL;
    struct err err = { 0 };
    rng += (unsigned)_i;
    ck_assert_int_eq(open_store(true, &s, &err), 0);
    ck_assert_int_eq(store_config_set(s, "keep-all", "0", &err), 0);
    ck_assert_int_eq(store_config_set(s, "min-age", "0", &err), 0);
    for (int t = 0, i = 0; t < times; t++) {
        int listed;
        for (int k = 1 + (int)below(4); k > 0 && n_then < MOMENTS; k--)
            more(s, i++);
        if (below(2) == 0)
            ck_assert_int_eq(store_flush(s, &err), 0);
        listed = well(s, false, "as it is");
        struct io *io = store_io(s);
        ck_assert_int_eq(store_close(s, &err), 0);
        io->ops->free(io);
        sh("rm -rf kept && cp -a st kept && ls kept/index >files");
        char line[200], path[96];
        snprintf(path, sizeof path, "%s/files", base);
        FILE *f = fopen(path, "r");
        ck_assert_ptr_nonnull(f);
        while (fgets(line, sizeof line, f) != NULL) {
            line[strcspn(line, "\n")] = '\0';
            damage_one(line, listed);
        }
        fclose(f);
        sh("rm -rf st && cp -a kept st");
        ck_assert_int_eq(open_store(true, &s, &err), 0);
    }
    drop(s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("index_files");
    TCase *t = tcase_create("rocksdb");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 1200);
    tcase_add_test(t, a_torn_manifest_is_cut);
    tcase_add_test(t, a_long_manifest_is_cut_too);
    tcase_add_test(t, to_read_a_torn_manifest_is_refused_with_what_to_do);
    tcase_add_test(t, a_rotten_manifest_gives_the_tree_or_is_refused);
    tcase_add_test(t, a_current_that_names_nothing_is_mended);
    tcase_add_test(t, an_index_that_is_gone_is_made_anew);
    tcase_add_test(t, whatever_happens_to_a_file_of_the_index_it_is_made_anew);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
