#include "fs/memfd.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define MEM_MAGIC (0x30306d656d727073ull + ((uint64_t)MEM_LAYOUT << 56))    /* "sprmem0", layout */
#define PAGE 4096u
#define UP(n) (((n) + PAGE - 1) / PAGE * PAGE)

#define N_BUFS (MEM_LARGE + MEM_SMALL)
#define LARGE_STRIDE UP(SHIM_BUF_BYTES)
#define SMALL_STRIDE ((size_t)UP(MEM_SMALL_BYTES))

#define REGION_BYTES (sizeof(struct lookup) << MEM_LOOKUPS_LOG2)
#define LOOKUPS_MIN_LOG2 12u
#define ORPHAN (1ull << 63)

#define OFF_SLOTS UP(sizeof(struct mem_head))
#define OFF_SMALL (OFF_SLOTS + UP(N_BUFS * sizeof(struct mem_slot)))
#define OFF_PAST (OFF_SMALL + MEM_SMALL * SMALL_STRIDE)
#define OFF_LARGE (OFF_PAST + (size_t)MEM_PAST_BYTES)
#define OFF_LOOKUPS (OFF_LARGE + MEM_LARGE * LARGE_STRIDE)
#define MEM_BYTES (OFF_LOOKUPS + 2 * REGION_BYTES)

struct lookup { uint64_t ino, val; };   /* val: count, and ORPHAN; ino 0: never used */

static_assert(sizeof(struct mem_slot) == 64, "a slot is a cache line");
static_assert(MEM_SMALL_BYTES % 8 == 0, "buffers are aligned");

struct mem {
    int fd;
    uint8_t *base;
    pthread_mutex_t lock;            /* the two free lists */
    uint32_t n_large, n_small;
    uint16_t large[MEM_LARGE], small[MEM_SMALL];
    bool populated[MEM_LARGE];       /* lock: in this process */
    pthread_mutex_t table_lock;      /* look-ups */
    size_t used;                     /* table_lock: entries with an inode, tombstones too */
};

struct mem_head *mem_head(struct mem *m) { return (struct mem_head *)(void *)m->base; }
void *mem_past(struct mem *m) { return m->base + OFF_PAST; }
static struct mem_slot *slots(struct mem *m) { return (struct mem_slot *)(void *)(m->base + OFF_SLOTS); }

/* The memory behind ${fd}, which is then owned, mapped; < 0 ${fd}: there is none yet. */
static int map(int fd, struct mem **out, struct err *err)
{
    struct mem *m = calloc(1, sizeof *m);

    *out = m;
    if (!m)
        return err_set(err, ERR_NOMEM, "shared memory of a mount: out of memory");
    m->fd = fd >= 0 ? fd : memfd_create("spare", MFD_CLOEXEC);
    if (m->fd < 0 || (fd < 0 && ftruncate(m->fd, (off_t)MEM_BYTES) < 0))
        return err_from_errno(err, errno, "shared memory of a mount");
    m->base = mmap(NULL, MEM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, m->fd, 0);
    if (m->base == MAP_FAILED) {
        m->base = NULL;
        return err_from_errno(err, errno, "shared memory of a mount");
    }
    pthread_mutex_init(&m->lock, NULL);
    pthread_mutex_init(&m->table_lock, NULL);
    return 0;
}

static int done(struct mem *m, int code, struct mem **out)
{
    if (code < 0) {
        mem_free(m);
        *out = NULL;
        return code;
    }
    mem_attach(m);
    return 0;
}

int mem_new(struct mem **out, struct err *err)
{
    int code = map(-1, out, err);
    struct mem_head *h;

    if (code == 0) {
        h = mem_head(*out);
        h->magic = MEM_MAGIC;
        atomic_store(&h->lookups, LOOKUPS_MIN_LOG2);
        if (getrandom(&h->mount_id, sizeof h->mount_id, 0) != (ssize_t)sizeof h->mount_id)
            code = err_from_errno(err, errno, "random id of a mount");
    }
    return done(*out, code, out);
}

int mem_fd(const struct mem *m) { return m->fd; }

int mem_adopt(int fd, struct mem **out, struct err *err)
{
    struct stat st;
    int code = map(fd, out, err);

    if (code == 0 && (fstat(fd, &st) < 0 || st.st_size != (off_t)MEM_BYTES || mem_head(*out)->magic != MEM_MAGIC))
        code = err_set(err, ERR_DAMAGE, "shared memory of a mount: expected layout %d, found another", MEM_LAYOUT);
    return done(*out, code, out);
}

void mem_free(struct mem *m)
{
    if (!m)
        return;
    if (m->base)
        munmap(m->base, MEM_BYTES);
    if (m->fd >= 0)
        close(m->fd);
    free(m);
}

/* ---- buffers ---- */

static unsigned char *buf_mem(struct mem *m, unsigned i)
{
    return i < MEM_LARGE ? m->base + OFF_LARGE + i * LARGE_STRIDE
                         : m->base + OFF_SMALL + (i - MEM_LARGE) * SMALL_STRIDE;
}

static size_t buf_bytes(unsigned i) { return i < MEM_LARGE ? SHIM_BUF_BYTES : MEM_SMALL_BYTES; }

struct mem_slot *mem_slot_of(struct mem *m, const void *p)
{
    size_t off;

    if ((const uint8_t *)p < m->base || (const uint8_t *)p >= m->base + MEM_BYTES)
        return NULL;
    off = (size_t)((const uint8_t *)p - m->base);
    if (off >= OFF_LARGE && off < OFF_LOOKUPS)
        return slots(m) + (off - OFF_LARGE) / LARGE_STRIDE;
    if (off >= OFF_SMALL && off < OFF_PAST)
        return slots(m) + MEM_LARGE + (off - OFF_SMALL) / SMALL_STRIDE;
    return NULL;
}

bool mem_found(struct mem *m, unsigned i, struct shim_buf *buf, struct mem_slot **slot)
{
    const struct fuse_in_header *in;

    if (i >= N_BUFS)
        return false;
    /* A small buffer nobody used has no page: looking at its slot first does not make one. */
    if (i >= MEM_LARGE && slots(m)[i].state == SLOT_FREE)
        return false;
    in = (const void *)buf_mem(m, i);
    if (in->len < sizeof *in || in->len > buf_bytes(i))
        return false;
    *buf = (struct shim_buf){ buf_mem(m, i), buf_bytes(i), i };
    *slot = slots(m) + i;
    return true;
}

void mem_attach(struct mem *m)
{
    struct mem_slot *slot;
    struct shim_buf buf;
    struct lookup *t;
    uint64_t where = atomic_load(&mem_head(m)->lookups);

    m->n_large = m->n_small = 0;
    memset(m->populated, 0, sizeof m->populated);
    for (unsigned i = N_BUFS; i-- > 0;) {     /* the lowest numbers are used first, and most */
        if (mem_found(m, i, &buf, &slot))
            continue;
        if (slots(m)[i].state != SLOT_FREE)
            slots(m)[i] = (struct mem_slot){ 0 };
        if (i < MEM_LARGE)
            m->large[m->n_large++] = (uint16_t)i;
        else
            m->small[m->n_small++] = (uint16_t)(i - MEM_LARGE);
    }
    t = (struct lookup *)(void *)(m->base + OFF_LOOKUPS + (where & ORPHAN ? REGION_BYTES : 0));
    m->used = 0;
    for (size_t i = 0; i < (size_t)1 << (where & 63); i++)
        m->used += t[i].ino != 0;
}

/* A kill between the read and the last byte must not fail the request: all pages are there before the kernel
 * copies into them. */
static void populate(struct mem *m, unsigned i)
{
    assert(i < MEM_LARGE);
#ifdef MADV_POPULATE_WRITE
    if (!m->populated[i])
        (void)madvise(buf_mem(m, i), LARGE_STRIDE, MADV_POPULATE_WRITE);
#endif
    m->populated[i] = true;
}

int mem_get(void *mem, struct shim_buf *out)
{
    struct mem *m = mem;
    unsigned i;

    pthread_mutex_lock(&m->lock);
    if (m->n_large == 0) {
        pthread_mutex_unlock(&m->lock);
        return -ENOBUFS;
    }
    i = m->large[--m->n_large];
    pthread_mutex_unlock(&m->lock);
    populate(m, i);       /* i is ours alone */
    *out = (struct shim_buf){ buf_mem(m, i), SHIM_BUF_BYTES, i };
    return 0;
}

int mem_get_small(struct mem *m, struct shim_buf *out)
{
    unsigned i;

    pthread_mutex_lock(&m->lock);
    if (m->n_small == 0) {
        pthread_mutex_unlock(&m->lock);
        return -ENOBUFS;
    }
    i = m->small[--m->n_small];
    pthread_mutex_unlock(&m->lock);
    *out = (struct shim_buf){ buf_mem(m, i + MEM_LARGE), MEM_SMALL_BYTES, i + MEM_LARGE };
    return 0;
}

void mem_put(void *mem, struct shim_buf *buf)
{
    struct mem *m = mem;
    unsigned i = (unsigned)buf->tag;

    assert(i < N_BUFS && buf->mem == buf_mem(m, i));
    memset(buf->mem, 0, sizeof(struct fuse_in_header));
    slots(m)[i] = (struct mem_slot){ 0 };
    pthread_mutex_lock(&m->lock);
    if (i < MEM_LARGE)
        m->large[m->n_large++] = (uint16_t)i;
    else
        m->small[m->n_small++] = (uint16_t)(i - MEM_LARGE);
    pthread_mutex_unlock(&m->lock);
    *buf = (struct shim_buf){ 0 };
}

/* ---- look-ups ---- */

static struct lookup *region(struct mem *m, uint64_t where)
{
    return (struct lookup *)(void *)(m->base + OFF_LOOKUPS + (where & ORPHAN ? REGION_BYTES : 0));
}

static size_t home(uint64_t ino, unsigned log2) { return (size_t)((ino * 0x9e3779b97f4a7c15ull) >> (64 - log2)); }

/* The entry of ${ino}, or the empty one where it would go. */
static struct lookup *probe(struct lookup *t, unsigned log2, uint64_t ino)
{
    size_t i = home(ino, log2), mask = ((size_t)1 << log2) - 1;

    while (t[i].ino != 0 && t[i].ino != ino)
        i = (i + 1) & mask;
    return t + i;
}

static struct lookup *find(struct mem *m, uint64_t ino)
{
    uint64_t where = atomic_load_explicit(&mem_head(m)->lookups, memory_order_relaxed);

    return probe(region(m, where), where & 63, ino);
}

/* Into the other region, without tombstones, at most half full. */
static int rebuild(struct mem *m)
{
    uint64_t where = atomic_load(&mem_head(m)->lookups), next;
    unsigned from = where & 63, to = LOOKUPS_MIN_LOG2;
    struct lookup *old = region(m, where), *t;
    size_t live = 0;
    off_t punch = (off_t)(OFF_LOOKUPS + (where & ORPHAN ? 0 : REGION_BYTES));

    for (size_t i = 0; i < (size_t)1 << from; i++)
        live += old[i].val != 0;
    while (to < MEM_LOOKUPS_LOG2 && live > (size_t)1 << (to - 1))
        to++;
    if (live > ((size_t)1 << to) / 4 * 3)
        return ERR_NOMEM;
    next = ((where & ORPHAN) ^ ORPHAN) | to;
    t = region(m, next);
    if (fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, punch, (off_t)REGION_BYTES) < 0)
        memset(t, 0, sizeof *t << to);
    m->used = 0;
    for (size_t i = 0; i < (size_t)1 << from; i++) {
        if (old[i].val == 0)
            continue;
        *probe(t, to, old[i].ino) = old[i];
        m->used++;
    }
    atomic_store(&mem_head(m)->lookups, next);
    punch = (off_t)(OFF_LOOKUPS + (where & ORPHAN ? REGION_BYTES : 0));
    (void)fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, punch, (off_t)REGION_BYTES);
    return 0;
}

/* The entry of ${ino}, made if need be; NULL when full. Its value is set before its inode: no crash leaves
 * an entry that looks unused for a moment. */
static struct lookup *entry_locked(struct mem *m, uint64_t ino, uint64_t first_val)
{
    struct lookup *e = find(m, ino);
    size_t cap;

    if (e->ino == ino) {
        return e;
    }
    cap = (size_t)1 << (atomic_load_explicit(&mem_head(m)->lookups, memory_order_relaxed) & 63);
    if (m->used + 1 > cap / 4 * 3) {
        if (rebuild(m) < 0)
            return NULL;
        e = find(m, ino);
    }
    e->val = first_val;
    atomic_thread_fence(memory_order_release);
    e->ino = ino;
    m->used++;
    return e;
}

int lookups_add(struct mem *m, uint64_t ino, uint64_t n)
{
    struct lookup *e;

    pthread_mutex_lock(&m->table_lock);
    e = find(m, ino);
    if (e->ino == ino)
        e->val += n;
    else
        e = entry_locked(m, ino, n);
    pthread_mutex_unlock(&m->table_lock);
    return e ? 0 : ERR_NOMEM;
}

bool lookups_sub(struct mem *m, uint64_t ino, uint64_t n)
{
    struct lookup *e;
    bool reap = false;

    pthread_mutex_lock(&m->table_lock);
    e = find(m, ino);
    if (e->ino == ino) {
        uint64_t count = e->val & ~ORPHAN;

        e->val = (e->val & ORPHAN) | (n < count ? count - n : 0);
        reap = e->val == ORPHAN;
    }
    pthread_mutex_unlock(&m->table_lock);
    return reap;
}

bool lookups_orphan(struct mem *m, uint64_t ino)
{
    struct lookup *e;
    bool reap = true;

    pthread_mutex_lock(&m->table_lock);
    e = entry_locked(m, ino, ORPHAN);
    if (e) {
        e->val |= ORPHAN;
        reap = e->val == ORPHAN;
    }
    pthread_mutex_unlock(&m->table_lock);
    return reap;
}

void lookups_named(struct mem *m, uint64_t ino)
{
    struct lookup *e;

    pthread_mutex_lock(&m->table_lock);
    e = find(m, ino);
    if (e->ino == ino)
        e->val &= ~ORPHAN;
    pthread_mutex_unlock(&m->table_lock);
}

size_t lookups_list(struct mem *m, bool unused_orphans, size_t *pos, uint64_t *inos, size_t cap)
{
    uint64_t where;
    struct lookup *t;
    size_t n = 0;

    pthread_mutex_lock(&m->table_lock);
    where = atomic_load(&mem_head(m)->lookups);
    t = region(m, where);
    for (; *pos < (size_t)1 << (where & 63) && n < cap; (*pos)++) {
        const struct lookup *e = t + *pos;

        if (e->ino != 0 && (unused_orphans ? e->val == ORPHAN : (e->val & ~ORPHAN) != 0))
            inos[n++] = e->ino;
    }
    pthread_mutex_unlock(&m->table_lock);
    return n;
}
