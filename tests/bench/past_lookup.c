/*
 * past_lookup: what a look into the past costs, and whether it grows with history.
 *
 *   past_lookup make STORE ROWS NOTES     a new store: a directory d of FILES files with at least ROWS rows of history; NOTES gets moments
 *   past_lookup time PAST NOTES COUNT     PAST is a mounted .snapshots: look-up, open and read of 4 KiB at COUNT pairs of moment and
 *                                         file, none twice; prints "rows ROWS count N p50_us P p99_us P max_us P"
 *
 * scripts/bench-past runs both. Exit status: 0, 1 something failed or differed.
 */
#include "store/core/store.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FILES = 1000, BODY = 4096, ROUND = 400 };

static const struct caller who = { .uid = 0, .gid = 0, .pid = 1, .umask = 022 };

static uint64_t rng = 88172645463325252ull;
static uint64_t rnd(uint64_t below)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return rng % below;
}

static void need(int64_t rc, const char *what, const struct err *err)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "past_lookup: %s: %s\n", what, err != NULL && err->msg[0] != '\0' ? err->msg : err_text((int)rc));
    exit(1);
}

struct work { struct store *s; uint64_t dir; uint64_t version[FILES]; };

/* Content names file and version, so that a wrong one shows. */
static void body(char buf[BODY], unsigned file, uint64_t version)
{
    memset(buf, 'a' + (int)(file % 26), BODY);
    snprintf(buf, 64, "file %u version %" PRIu64, file, version);
}

static void fill(struct work *w, uint64_t ino, unsigned f)
{
    char buf[BODY];
    body(buf, f, ++w->version[f]);
    need(store_write(w->s, &who, ino, 0, buf, BODY, NULL), "write", NULL);
}

static uint64_t create(struct work *w, const char *name)
{
    uint64_t ino;
    struct row_ino row;
    need(store_create_node(w->s, &who, w->dir, name, strlen(name), S_IFREG | 0644, 0, NULL, &ino, &row, NULL), "create", NULL);
    return ino;
}

static uint64_t find(struct work *w, const char *name)
{
    uint64_t ino;
    struct row_ino row;
    need(store_lookup(w->s, AT_LIVE, w->dir, name, strlen(name), &ino, &row, NULL), "lookup", NULL);
    return ino;
}

/* Saved by truncation, by a rename over it, or by removal and making anew. */
static void save(struct work *w, unsigned f)
{
    char name[16], tmp[24];
    uint64_t gone = 0, ino;
    struct row_ino row;
    unsigned way = (unsigned)rnd(10);
    snprintf(name, sizeof name, "f%u", f);
    snprintf(tmp, sizeof tmp, ".%s.tmp", name);
    if (way < 5) {
        ino = find(w, name);
        need(store_setattr(w->s, &who, ino, &(struct setattr_in){ .valid = RSA_SIZE }, &row, NULL), "truncate", NULL);
        fill(w, ino, f);
        return;
    }
    if (way < 8) {
        fill(w, create(w, tmp), f);
        need(store_rename(w->s, &who, w->dir, tmp, strlen(tmp), w->dir, name, strlen(name), 0, &gone, NULL), "rename", NULL);
    } else {
        need(store_unlink(w->s, &who, w->dir, name, strlen(name), false, &gone, NULL), "unlink", NULL);
        fill(w, create(w, name), f);
    }
    if (gone != 0)
        need(store_reap(w->s, &gone, 1, NULL), "reap", NULL);
}

/* History rows have a capital letter as their table. */
static uint64_t history_rows(struct store *s)
{
    struct kv *kv = store_kv(s);
    uint64_t n = 0;
    need(store_apply(s, NULL), "apply", NULL);
    for (const char *t = "IDXPMA"; *t != '\0'; t++) {
        uint8_t lo = (uint8_t)*t, hi = (uint8_t)(lo + 1);
        struct kv_iter *it = kv->ops->iter_new(kv, NULL, &lo, 1, &hi, 1);
        for (kv->ops->iter_seek(it, &lo, 1); kv->ops->iter_valid(it); kv->ops->iter_next(it))
            n++;
        kv->ops->iter_free(it);
    }
    return n;
}

static int make(const char *dir, uint64_t rows, const char *notes)
{
    struct err err = { 0 };
    struct io *io;
    struct work w = { 0 };
    const struct store_init init = { .root_mode = 0755 };
    const struct store_options opt = { .writable = true, .threads = true, .log = { .preallocate = true } };
    uint64_t have = 0, rounds = 0;
    struct row_ino row;
    FILE *f = fopen(notes, "w");
    if (f == NULL || mkdir(dir, 0700) != 0)
        return perror(dir), 1;
    need(io_posix_new(dir, &io, &err), dir, &err);
    need(store_create(io, dir, &init, &err), dir, &err);
    need(store_open(io, dir, &opt, &w.s, NULL, &err), dir, &err);
    need(store_create_node(w.s, &who, INO_ROOT, "d", 1, S_IFDIR | 0755, 0, NULL, &w.dir, &row, NULL), "mkdir", NULL);
    for (unsigned k = 0; k < FILES; k++) {
        char name[16];
        snprintf(name, sizeof name, "f%u", k);
        fill(&w, create(&w, name), k);
    }
    while (have < rows) {
        for (int k = 0; k < ROUND; k++) {
            save(&w, (unsigned)rnd(FILES));
            if (rnd(4) != 0)
                continue;
            unsigned file = (unsigned)rnd(FILES);    /* a moment, and what one file was then */
            fprintf(f, "%" PRIu64 " %u %" PRIu64 "\n", log_head(store_log(w.s)) - 1, file, w.version[file]);
        }
        if (++rounds % 16 == 0 || rows < 100000)
            have = history_rows(w.s);
    }
    have = history_rows(w.s);
    need(store_close(w.s, &err), "close", &err);
    io->ops->free(io);
    fprintf(f, "rows %" PRIu64 "\n", have);
    return fclose(f) != 0;
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

struct pair { uint64_t lsn, version; unsigned file; };

static int time_them(const char *past, const char *notes, size_t count)
{
    FILE *f = fopen(notes, "r");
    struct pair *p = NULL;
    size_t n = 0, cap = 0;
    uint64_t rows = 0;
    char line[128];
    if (f == NULL)
        return perror(notes), 1;
    while (fgets(line, sizeof line, f) != NULL) {
        if (n == cap) {
            cap = cap == 0 ? 4096 : cap * 2;
            p = realloc(p, cap * sizeof *p);
            if (p == NULL)
                return 1;
        }
        if (sscanf(line, "rows %" SCNu64, &rows) != 1 && sscanf(line, "%" SCNu64 " %u %" SCNu64, &p[n].lsn, &p[n].file, &p[n].version) == 3)
            n++;
    }
    fclose(f);
    double *us = malloc(count * sizeof *us);
    size_t done = 0;
    for (; done < count && n > 0; done++) {
        char path[4200], got[BODY], want[BODY];
        size_t at = (size_t)rnd(n);
        struct pair x = p[at];
        p[at] = p[--n];
        snprintf(path, sizeof path, "%s/@%" PRIu64 "/d/f%u", past, x.lsn, x.file);
        body(want, x.file, x.version);
        double t = now_us();
        int fd = open(path, O_RDONLY);
        ssize_t r = fd >= 0 ? read(fd, got, BODY) : -1;
        us[done] = now_us() - t;
        if (r != BODY || memcmp(got, want, BODY) != 0) {
            fprintf(stderr, "past_lookup: %s: expected version %" PRIu64 ", found %.40s (%zd bytes)\n", path, x.version, r > 0 ? got : "nothing", r);
            return 1;
        }
        close(fd);
    }
    if (done == 0)
        return 1;
    qsort(us, done, sizeof *us, by_value);
    printf("rows %" PRIu64 " count %zu p50_us %.0f p99_us %.0f max_us %.0f\n", rows, done, us[done / 2], us[done * 99 / 100], us[done - 1]);
    free(us);
    free(p);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "make") == 0)
        return make(argv[2], strtoull(argv[3], NULL, 10), argv[4]);
    if (argc == 5 && strcmp(argv[1], "time") == 0)
        return time_them(argv[2], argv[3], strtoul(argv[4], NULL, 10));
    fprintf(stderr, "past_lookup make STORE ROWS NOTES | past_lookup time PAST NOTES COUNT\n");
    return 2;
}
