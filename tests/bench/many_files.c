/*
 * many_files: a store with many files, made without a mount.
 *
 *   many_files STORE COUNT BYTES     a new store with COUNT files of BYTES bytes each, a thousand in a directory; their bytes do not compress
 *
 * For scripts/bench-sync. Exit status: 0, 1 failed.
 */
#include "store/core/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PER_DIR = 1000 };

static const struct caller who = { .umask = 022 };

static void need(int64_t rc, const char *what, const struct err *err)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "many_files: %s: %s\n", what, err != NULL && err->msg[0] != '\0' ? err->msg : err_text((int)rc));
    exit(1);
}

static uint64_t seed = 88172645463325252ull;

static void fill(uint8_t *buf, size_t len)
{
    for (size_t i = 0; i + 8 <= len; i += 8) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        memcpy(buf + i, &seed, 8);
    }
}

static void write_all(struct store *s, uint64_t ino, uint8_t *buf, uint64_t bytes)
{
    for (uint64_t off = 0; off < bytes; ) {
        uint64_t n = bytes - off < 1 << 20 ? bytes - off : 1 << 20;

        fill(buf, n);
        need(store_write(s, &who, ino, off, buf, n, NULL), "write", NULL);
        off += n;
    }
}

int main(int argc, char **argv)
{
    const struct store_init init = { .root_mode = 0755 };
    const struct store_options opt = { .writable = true, .threads = true, .log = { .preallocate = true } };
    struct err err = { 0 };
    struct io *io;
    struct store *s;
    struct row_ino row;
    uint64_t dir = 0, ino, count, bytes;
    uint8_t *buf = malloc(1 << 20);
    char name[32];

    if (argc != 4 || buf == NULL || mkdir(argv[1], 0700) != 0) {
        fprintf(stderr, "many_files STORE COUNT BYTES\n");
        return 1;
    }
    count = strtoull(argv[2], NULL, 10);
    bytes = strtoull(argv[3], NULL, 10);
    memset(buf, 0, 1 << 20);
    need(io_posix_new(argv[1], &io, &err), argv[1], &err);
    need(store_create(io, argv[1], &init, &err), argv[1], &err);
    need(store_open(io, argv[1], &opt, &s, NULL, &err), argv[1], &err);
    for (uint64_t i = 0; i < count; i++) {
        if (i % PER_DIR == 0) {
            snprintf(name, sizeof name, "d%" PRIu64, i / PER_DIR);
            need(store_create_node(s, &who, INO_ROOT, name, strlen(name), S_IFDIR | 0755, 0, NULL, &dir, &row, NULL), "mkdir", NULL);
        }
        snprintf(name, sizeof name, "f%" PRIu64, i);
        need(store_create_node(s, &who, dir, name, strlen(name), S_IFREG | 0644, 0, NULL, &ino, &row, NULL), "create", NULL);
        write_all(s, ino, buf, bytes);
    }
    need(store_close(s, &err), "close", &err);
    io->ops->free(io);
    free(buf);
    return 0;
}
