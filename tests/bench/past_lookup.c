/*
 * past_lookup: what a look into the past costs, and whether it grows with history.
 *
 *   past_lookup make STORE ROWS NOTES     a new store with two directories of FILES files, "many" with at least ROWS rows of history and
 *                                         "few" with a hundredth of that, made in the same time; NOTES gets moments
 *   past_lookup time PAST NOTES COUNT LOG...    PAST is a mounted .snapshots: look-up, open and read of 4 KiB at COUNT pairs of moment and
 *                                         file of each directory, no moment twice; in turn with one of the other, and with four reads of
 *                                         4 KiB at random places of the files LOG: what the disk alone takes. Prints a line for each:
 *                                         "few|many|disk rows ROWS count N p50_us P p99_us P max_us P"
 *
 * In turn, because other work on the machine comes and goes. scripts/bench-past runs both. Exit status: 0, 1 failed or differed.
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

enum { FILES = 1000, BODY = 4096, ROUND = 400, FEW = 0, MANY = 1, DISK = 2, DISK_READS = 4 };
static const char *const dirs[] = { "few", "many", "disk" };

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

struct work { struct store *s; uint64_t dir[2]; int in; uint64_t version[2][FILES]; };

/* Content names file and version, so that a wrong one shows. */
static void body(char buf[BODY], unsigned file, uint64_t version)
{
    memset(buf, 'a' + (int)(file % 26), BODY);
    snprintf(buf, 64, "file %u version %" PRIu64, file, version);
}

static void fill(struct work *w, uint64_t ino, unsigned f)
{
    char buf[BODY];
    body(buf, f, ++w->version[w->in][f]);
    need(store_write(w->s, &who, ino, 0, buf, BODY, NULL), "write", NULL);
}

static uint64_t create(struct work *w, const char *name)
{
    uint64_t ino;
    struct row_ino row;
    need(store_create_node(w->s, &who, w->dir[w->in], name, strlen(name), S_IFREG | 0644, 0, NULL, &ino, &row, NULL), "create", NULL);
    return ino;
}

static uint64_t find(struct work *w, const char *name)
{
    uint64_t ino;
    struct row_ino row;
    need(store_lookup(w->s, AT_LIVE, w->dir[w->in], name, strlen(name), &ino, &row, NULL), "lookup", NULL);
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
        need(store_rename(w->s, &who, w->dir[w->in], tmp, strlen(tmp), w->dir[w->in], name, strlen(name), 0, &gone, NULL), "rename", NULL);
    } else {
        need(store_unlink(w->s, &who, w->dir[w->in], name, strlen(name), false, &gone, NULL), "unlink", NULL);
        fill(w, create(w, name), f);
    }
    if (gone != 0)
        need(store_reap(w->s, &gone, 1, NULL), "reap", NULL);
}

/* Rows that ended, in the tables with a capital letter: of both directories. */
static uint64_t history_rows(struct store *s)
{
    struct kv *kv = store_kv(s);
    uint64_t n = 0;
    need(store_apply(s, NULL), "apply", NULL);
    for (const char *t = "IDXPA"; *t != '\0'; t++) {
        uint8_t lo = (uint8_t)*t, hi = (uint8_t)(lo + 1);
        struct kv_iter *it = kv->ops->iter_new(kv, NULL, &lo, 1, &hi, 1);
        for (kv->ops->iter_seek(it, &lo, 1); kv->ops->iter_valid(it); kv->ops->iter_next(it)) {
            struct key_parts k;
            size_t len;
            const uint8_t *key = kv->ops->iter_key(it, &len);
            n += key_parse(key, len, &k) && k.death != 0;
        }
        kv->ops->iter_free(it);
    }
    return n;
}

/* One save in a hundred is of the directory with little history. */
static void save_some(struct work *w)
{
    w->in = rnd(100) == 0 ? FEW : MANY;
    save(w, (unsigned)rnd(FILES));
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
    for (w.in = FEW; w.in <= MANY; w.in++) {
        need(store_create_node(w.s, &who, INO_ROOT, dirs[w.in], strlen(dirs[w.in]), S_IFDIR | 0755, 0, NULL, &w.dir[w.in], &row, NULL), "mkdir", NULL);
        for (unsigned k = 0; k < FILES; k++) {
            char name[16];
            snprintf(name, sizeof name, "f%u", k);
            fill(&w, create(&w, name), k);
        }
    }
    while (have < rows) {
        for (int k = 0; k < ROUND; k++) {
            save_some(&w);
            if (rnd(4) != 0)
                continue;
            unsigned file = (unsigned)rnd(FILES);    /* a moment, and what one file of each was then */
            fprintf(f, "%" PRIu64 " %u %" PRIu64 " %" PRIu64 "\n", log_head(store_log(w.s)) - 1, file, w.version[FEW][file], w.version[MANY][file]);
        }
        if (++rounds % 16 == 0)
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

struct pair { uint64_t lsn, version[2]; unsigned file; };

static struct pair *read_notes(const char *notes, size_t *n, uint64_t *rows)
{
    FILE *f = fopen(notes, "r");
    struct pair *p = NULL;
    size_t cap = 0;
    char line[128];
    *n = 0;
    if (f == NULL)
        return perror(notes), NULL;
    while (fgets(line, sizeof line, f) != NULL) {
        if (*n == cap) {
            cap = cap == 0 ? 4096 : cap * 2;
            struct pair *more = realloc(p, cap * sizeof *p);
            if (more == NULL)
                exit(1);
            p = more;
        }
        struct pair *x = &p[*n];
        if (sscanf(line, "rows %" SCNu64, rows) != 1 &&
            sscanf(line, "%" SCNu64 " %u %" SCNu64 " %" SCNu64, &x->lsn, &x->file, &x->version[FEW], &x->version[MANY]) == 4)
            ++*n;
    }
    fclose(f);
    return p;
}

static double look_up(const char *past, const struct pair *x, int in)
{
    char path[4200], got[BODY], want[BODY];
    snprintf(path, sizeof path, "%s/@%" PRIu64 "/%s/f%u", past, x->lsn, dirs[in], x->file);
    body(want, x->file, x->version[in]);
    double t = now_us();
    int fd = open(path, O_RDONLY);
    ssize_t r = fd >= 0 ? read(fd, got, BODY) : -1;
    t = now_us() - t;
    if (r != BODY || memcmp(got, want, BODY) != 0) {
        fprintf(stderr, "past_lookup: %s: expected version %" PRIu64 ", found %.40s (%zd bytes)\n", path, x->version[in], r > 0 ? got : "nothing", r);
        exit(1);
    }
    close(fd);
    return t;
}

static double read_disk(char **logs, int n)
{
    double t = now_us();
    for (int k = 0; k < DISK_READS; k++) {
        char buf[BODY];
        int fd = open(logs[rnd((uint64_t)n)], O_RDONLY);
        off_t end = lseek(fd, 0, SEEK_END);
        if (fd < 0 || end < BODY || pread(fd, buf, BODY, (off_t)rnd((uint64_t)(end - BODY)) & ~(off_t)4095) != BODY)
            exit(1);
        close(fd);
    }
    return now_us() - t;
}

static int time_them(const char *past, const char *notes, size_t count, char **logs, int n_logs)
{
    size_t n, done = 0;
    uint64_t rows = 0;
    struct pair *p = read_notes(notes, &n, &rows);
    double *us[3];
    for (int k = 0; k < 3; k++)
        if ((us[k] = malloc(count * sizeof *us[k])) == NULL)
            return 1;
    rng ^= (uint64_t)now_us() * 2654435761u;
    for (; done < count && n >= 2; done++) {
        for (int in = FEW; in <= MANY; in++) {
            size_t at = (size_t)rnd(n);
            struct pair x = p[at];
            p[at] = p[--n];
            us[in][done] = look_up(past, &x, in);
        }
        us[DISK][done] = read_disk(logs, n_logs);
    }
    if (done == 0)
        return 1;
    for (int k = 0; k < 3; k++) {
        qsort(us[k], done, sizeof *us[k], by_value);
        printf("%s rows %" PRIu64 " count %zu p50_us %.0f p99_us %.0f max_us %.0f\n", dirs[k], k == FEW ? rows / 100 : k == MANY ? rows : 0, done,
               us[k][done / 2], us[k][done * 99 / 100], us[k][done - 1]);
        free(us[k]);
    }
    free(p);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "make") == 0)
        return make(argv[2], strtoull(argv[3], NULL, 10), argv[4]);
    if (argc >= 6 && strcmp(argv[1], "time") == 0)
        return time_them(argv[2], argv[3], strtoul(argv[4], NULL, 10), argv + 5, argc - 5);
    fprintf(stderr, "past_lookup make STORE ROWS NOTES | past_lookup time PAST NOTES COUNT LOG...\n");
    return 2;
}
