/*
 * powerfs_rocks: a known-good victim.  RocksDB without its WAL, flushed by
 * hand, must hold after any cut every key acknowledged by a flush.
 *
 *   powerfs_rocks DIR SOCKET FIRST_SEED CUTS
 *
 * The database is DIR/index, opened as a store opens its own.
 *
 * Comments on stdout; the exit code is 0 when nothing was lost.
 */
#include "store/base/io.h"
#include "store/index/index.h"
#include "tests/crash/powerfs_client.h"

#include <rocksdb/c.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the victim said, seen by the parent after its death. */
struct shared {
    uint64_t acked;  /* keys 1..acked were flushed */
    uint64_t issued; /* keys 1..issued may be there */
};

static rocksdb_options_t *options(void)
{
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(o, 1);
    rocksdb_options_set_keep_log_file_num(o, 1);
    rocksdb_options_increase_parallelism(o, 2);
    rocksdb_options_set_level0_file_num_compaction_trigger(o, 4);
    rocksdb_options_set_paranoid_checks(o, 1);
    return o;
}

static const char *path_of(const char *dir)
{
    static char path[4096];
    snprintf(path, sizeof(path), "%s/index", dir);
    return path;
}

/* Put and flush until an error; never returns.  A RocksDB built with its
 * assertions aborts at the first failed write: a death as good as any. */
static void victim(const char *dir, struct shared *sh)
{
    const struct rlimit no_core = { 0, 0 };
    if (setrlimit(RLIMIT_CORE, &no_core) != 0 || freopen("/dev/null", "w", stderr) == NULL)
        _exit(0);
    char *err = NULL, key[32], value[300];
    rocksdb_t *db = rocksdb_open(options(), path_of(dir), &err);
    if (err != NULL)
        _exit(0);
    rocksdb_writeoptions_t *wo = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(wo, 1);
    rocksdb_flushoptions_t *fo = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(fo, 1);
    memset(value, 'v', sizeof(value));
    for (;;) {
        for (int i = 0; i < 50; i++) {
            uint64_t k = ++sh->issued;
            int n = snprintf(key, sizeof(key), "%012llu", (unsigned long long)k);
            memcpy(value, key, (size_t)n);
            rocksdb_put(db, wo, key, (size_t)n, value, sizeof(value), &err);
            if (err != NULL)
                _exit(0);
        }
        rocksdb_flush(db, fo, &err);
        if (err != NULL)
            _exit(0);
        sh->acked = sh->issued;
    }
}

/* As a store does: what RocksDB refuses is mended once. */
static rocksdb_t *open_mended(const char *dir, char **err)
{
    struct io *io = NULL;
    rocksdb_t *db = rocksdb_open(options(), path_of(dir), err);
    if (*err != NULL && io_posix_new(dir, &io, NULL) == 0 && index_files_heal(io, NULL) > 0) {
        printf("# mended: %s\n", *err);
        *err = NULL;
        db = rocksdb_open(options(), path_of(dir), err);
    }
    return db;
}

/* Open, walk, count: keys must be 1..n with acked <= n <= issued.  Exits. */
static void verify(const char *dir, struct shared *sh)
{
    char *err = NULL, key[32];
    rocksdb_t *db = open_mended(dir, &err);
    if (err != NULL) {
        printf("# open: %s\n", err);
        exit(1);
    }
    rocksdb_readoptions_t *ro = rocksdb_readoptions_create();
    rocksdb_iterator_t *it = rocksdb_create_iterator(db, ro);
    uint64_t n = 0;
    for (rocksdb_iter_seek_to_first(it); rocksdb_iter_valid(it); rocksdb_iter_next(it)) {
        size_t klen, vlen;
        const char *k = rocksdb_iter_key(it, &klen), *v = rocksdb_iter_value(it, &vlen);
        int len = snprintf(key, sizeof(key), "%012llu", (unsigned long long)++n);
        if (klen != (size_t)len || memcmp(k, key, klen) != 0 || vlen != 300 ||
            memcmp(v, key, klen) != 0) {
            printf("# key %s expected, found %.*s\n", key, (int)klen, k);
            exit(1);
        }
    }
    rocksdb_iter_get_error(it, &err);
    if (err != NULL || n < sh->acked || n > sh->issued) {
        printf("# found %llu, acknowledged %llu, issued %llu, error %s\n", (unsigned long long)n,
               (unsigned long long)sh->acked, (unsigned long long)sh->issued,
               err != NULL ? err : "none");
        exit(1);
    }
    sh->acked = sh->issued = n;
    rocksdb_iter_destroy(it);
    rocksdb_readoptions_destroy(ro);
    rocksdb_close(db);
    exit(0);
}

static int in_child(void (*run)(const char *, struct shared *), const char *dir,
                    struct shared *sh)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        run(dir, sh);
        _exit(3);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid ? status : -1;
}

int main(int argc, char **argv)
{
    static const char *const modes[] = { "random", "prefix", "drop-all", "random" };
    char reply[512];
    if (argc != 5)
        return 2;
    int fd = powerfs_connect(argv[2]);
    unsigned long first = strtoul(argv[3], NULL, 10), cuts = strtoul(argv[4], NULL, 10);
    struct shared *sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (fd < 0 || sh == MAP_FAILED)
        return 2;
    setvbuf(stdout, NULL, _IONBF, 0);
    /* The directories themselves are not what is tried: RocksDB leaves them to us. */
    if (mkdir(path_of(argv[1]), 0700) != 0 || powerfs_command(fd, reply, sizeof(reply), "sync") != 0)
        return 2;
    for (unsigned long seed = first; seed < first + cuts; seed++) {
        if (powerfs_command(fd, reply, sizeof(reply), "arm %lu %lu %s", 1 + seed * 7919 % (seed % 5 != 0 ? 90 : 500),
                            seed, modes[seed % 4]) != 0 ||
            in_child(victim, argv[1], sh) == -1 ||
            powerfs_command(fd, reply, sizeof(reply), "status") != 0 ||
            strstr(reply, "state=dead") == NULL ||
            powerfs_command(fd, reply, sizeof(reply), "revive") != 0) {
            printf("# seed %lu: no cut: %s\n", seed, reply);
            return 2;
        }
        if (in_child(verify, argv[1], sh) != 0) {
            printf("# seed %lu, %s: lost or damaged\n", seed, modes[seed % 4]);
            return 1;
        }
    }
    printf("# %lu cuts, %llu keys\n", cuts, (unsigned long long)sh->acked);
    return 0;
}
