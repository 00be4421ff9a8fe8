/*
 * malloc_count.so, by LD_PRELOAD: counts what is asked of malloc, by thread and by who asks. For scripts/bench-bounds.
 *
 * MALLOC_COUNT=FILE: each process maps FILE.PID, an array of struct row: one for each pair of thread and call stack, in the order they came.
 * The stack is kept as addresses; who reads it has /proc/PID/maps to name them. Sums are the reader's business: two readings differ by what
 * was asked for in between.
 *
 * A worker is forked and not executed, so a process begins a file of its own when it finds itself another than before.
 */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROWS = 1 << 14, DEPTH = 28, SKIP = 2, EARLY = 1 << 16 };

struct row { uint64_t tid, count, bytes, stack[DEPTH]; };

static void *(*real_malloc)(size_t), *(*real_calloc)(size_t, size_t), *(*real_realloc)(void *, size_t);
static void *(*real_aligned)(size_t, size_t);
static int (*real_posix)(void **, size_t, size_t);
static void (*real_free)(void *);

static struct row *rows;
static _Atomic int owner;                 /* the process ${rows} belongs to */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread bool inside __attribute__((tls_model("initial-exec")));    /* what counting itself asks for */

/* dlsym asks for memory before there is any. */
static char early[EARLY];
static size_t early_used;
static bool is_early(const void *p) { return (const char *)p >= early && (const char *)p < early + EARLY; }

static void *early_calloc(size_t n)
{
    void *p = early + early_used;
    early_used += (n + 15) / 16 * 16;
    if (early_used > EARLY)
        abort();
    return p;
}

static void find_real(void)
{
    static bool busy;
    if (busy)
        return;
    busy = true;
    *(void **)&real_calloc = dlsym(RTLD_NEXT, "calloc");
    *(void **)&real_malloc = dlsym(RTLD_NEXT, "malloc");
    *(void **)&real_realloc = dlsym(RTLD_NEXT, "realloc");
    *(void **)&real_aligned = dlsym(RTLD_NEXT, "aligned_alloc");
    *(void **)&real_posix = dlsym(RTLD_NEXT, "posix_memalign");
    *(void **)&real_free = dlsym(RTLD_NEXT, "free");
}

static void begin_file(int pid)
{
    char path[4096];
    const char *base = getenv("MALLOC_COUNT");
    rows = NULL;
    if (base != NULL) {
        snprintf(path, sizeof path, "%s.%d", base, pid);
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd >= 0 && ftruncate(fd, ROWS * sizeof(struct row)) == 0) {
            void *p = mmap(NULL, ROWS * sizeof(struct row), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            rows = p == MAP_FAILED ? NULL : p;
        }
        if (fd >= 0)
            close(fd);
    }
    atomic_store(&owner, pid);
}

static void count(size_t bytes)
{
    void *stack[DEPTH + SKIP] = { 0 };
    int saved = errno, pid = getpid();
    uint64_t tid;
    if (inside)
        return;
    inside = true;
    pthread_mutex_lock(&lock);
    if (atomic_load(&owner) != pid)
        begin_file(pid);
    if (rows != NULL) {
        (void)backtrace(stack, DEPTH + SKIP);
        tid = (uint64_t)gettid();
        uint64_t h = tid;
        for (int i = SKIP; i < DEPTH + SKIP; i++)
            h = (h ^ (uintptr_t)stack[i]) * 0x9e3779b97f4a7c15ull;
        for (size_t k = 0; k < ROWS; k++) {
            struct row *r = &rows[((h >> 32) + k) % ROWS];
            if (r->tid == 0) {
                memcpy(r->stack, stack + SKIP, sizeof r->stack);
                r->tid = tid;
            }
            if (r->tid == tid && memcmp(r->stack, stack + SKIP, sizeof r->stack) == 0) {
                r->count++;
                r->bytes += bytes;
                break;
            }
        }
    }
    pthread_mutex_unlock(&lock);
    inside = false;
    errno = saved;
}

void *malloc(size_t n)
{
    if (real_malloc == NULL)
        find_real();
    if (real_malloc == NULL)
        return early_calloc(n);
    count(n);
    return real_malloc(n);
}

void *calloc(size_t n, size_t m)
{
    if (real_calloc == NULL)
        find_real();
    if (real_calloc == NULL)
        return early_calloc(n * m);
    count(n * m);
    return real_calloc(n, m);
}

void *realloc(void *p, size_t n)
{
    if (real_realloc == NULL)
        find_real();
    if (real_realloc == NULL || is_early(p))
        abort();
    count(n);
    return real_realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n)
{
    if (real_aligned == NULL)
        find_real();
    count(n);
    return real_aligned(align, n);
}

int posix_memalign(void **out, size_t align, size_t n)
{
    if (real_posix == NULL)
        find_real();
    count(n);
    return real_posix(out, align, n);
}

void free(void *p)
{
    if (real_free == NULL)
        find_real();
    if (p != NULL && !is_early(p))
        real_free(p);
}
