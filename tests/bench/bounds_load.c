/*
 * bounds_load: the loads of scripts/bench-bounds, through a mount.
 *
 *   bounds_load create DIR FROM COUNT PER_DIR    files number FROM and on of 100 bytes, PER_DIR in a directory (0: all in DIR itself)
 *   bounds_load write FILE FROM COUNT append|place    write(2)s number FROM and on of 4 KiB: each behind the one before, or at random
 *                                                places of the first 64 MiB
 *   bounds_load stream FILE MIB EVERY            MIB write(2)s of 1 MiB, an fsync after each EVERY of them and at the end: prints seconds
 *   bounds_load copy FROM TO                     as cp does it on a file system without reflink: copy_file_range alone; prints seconds
 *   bounds_load first DIR NAME                   stat of DIR/NAME, one entry of DIR's listing, a new file with a byte in it; prints nothing
 *
 * Exit status: 0, 1 failed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BODY = 100, PAGE = 4096, PLACES = (64 << 20) / PAGE, MIB = 1 << 20 };

static uint64_t rng = 88172645463325252ull;
static uint64_t rnd(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    return rng ^= rng << 17;
}

static void need(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "bounds_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t number(const char *text)
{
    return strtoull(text, NULL, 10);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void small_file(const char *path)
{
    char body[BODY];
    size_t len = strlen(path);
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
    need(fd >= 0, path);
    memset(body, 'x', sizeof body);
    memcpy(body, path, len < sizeof body ? len : sizeof body);
    need(write(fd, body, sizeof body) == (ssize_t)sizeof body && close(fd) == 0, path);
}

static void create(const char *dir, uint64_t from, uint64_t count, uint64_t per_dir)
{
    char path[4096];
    for (uint64_t i = from; i < from + count; i++) {
        if (per_dir == 0) {
            snprintf(path, sizeof path, "%s/f%" PRIu64, dir, i);
        } else {
            snprintf(path, sizeof path, "%s/d%" PRIu64, dir, i / per_dir);
            need(i % per_dir != 0 || mkdir(path, 0755) == 0, path);
            snprintf(path, sizeof path, "%s/d%" PRIu64 "/f%" PRIu64, dir, i / per_dir, i);
        }
        small_file(path);
    }
}

static void write_pages(const char *file, uint64_t from, uint64_t count, bool append)
{
    static char page[PAGE];
    int fd = open(file, O_CREAT | O_WRONLY, 0644);
    need(fd >= 0, file);
    rng += from;
    for (uint64_t i = from; i < from + count; i++) {
        memcpy(page, &i, sizeof i);
        need(pwrite(fd, page, PAGE, (off_t)((append ? i : rnd() % PLACES) * PAGE)) == PAGE, file);
    }
    need(close(fd) == 0, file);
}

static void stream(const char *file, uint64_t mib, uint64_t every)
{
    uint64_t *buf = malloc(MIB);
    int fd = open(file, O_CREAT | O_TRUNC | O_WRONLY, 0644);
    need(buf != NULL && fd >= 0, file);
    for (size_t i = 0; i < MIB / sizeof *buf; i++)
        buf[i] = rnd();
    double start = now();
    for (uint64_t i = 0; i < mib; i++) {
        need(write(fd, buf, MIB) == MIB, file);
        need(every == 0 || (i + 1) % every != 0 || fsync(fd) == 0, file);
    }
    need(fsync(fd) == 0 && close(fd) == 0, file);
    printf("%.4f\n", now() - start);
    free(buf);
}

static void copy(const char *from, const char *to)
{
    double start = now();
    int in = open(from, O_RDONLY), out = open(to, O_CREAT | O_EXCL | O_WRONLY, 0644);
    struct stat st;
    need(in >= 0 && fstat(in, &st) == 0, from);
    need(out >= 0, to);
    for (off_t left = st.st_size; left > 0; ) {
        ssize_t n = copy_file_range(in, NULL, out, NULL, (size_t)left, 0);
        need(n > 0, to);
        left -= n;
    }
    need(close(in) == 0 && close(out) == 0, to);
    printf("%.4f\n", now() - start);
}

static void first(const char *dir, const char *name)
{
    char path[4096];
    struct stat st;
    DIR *d;
    int fd;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    need(stat(path, &st) == 0, path);
    need((d = opendir(dir)) != NULL && readdir(d) != NULL, dir);
    closedir(d);
    snprintf(path, sizeof path, "%s/first-%ld-%.0f", dir, (long)getpid(), now() * 1e3);
    fd = open(path, O_CREAT | O_WRONLY, 0644);
    need(fd >= 0 && write(fd, "x", 1) == 1 && close(fd) == 0, path);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (argc == 6 && strcmp(what, "create") == 0)
        create(argv[2], number(argv[3]), number(argv[4]), number(argv[5]));
    else if (argc == 6 && strcmp(what, "write") == 0)
        write_pages(argv[2], number(argv[3]), number(argv[4]), strcmp(argv[5], "append") == 0);
    else if (argc == 5 && strcmp(what, "stream") == 0)
        stream(argv[2], number(argv[3]), number(argv[4]));
    else if (argc == 4 && strcmp(what, "copy") == 0)
        copy(argv[2], argv[3]);
    else if (argc == 4 && strcmp(what, "first") == 0)
        first(argv[2], argv[3]);
    else
        return fprintf(stderr, "bounds_load: see the head of its source\n"), 1;
    return 0;
}
