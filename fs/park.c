#include "fs/park.h"

#include "fs/remote.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* How long an interrupted request may still end by itself. */
#define GRACE_NS 1000000000ull
/* Interrupts of requests that are being dispatched: they may be parked next. */
#define RECENT 64u

struct item {
    struct item *next;
    struct shim_buf buf;
    size_t len;
    uint64_t unique;
    struct wait wait;
    uint64_t since_ns;               /* of WAIT_REMOTE: CLOCK_MONOTONIC */
    uint64_t interrupted_ns;         /* CLOCK_MONOTONIC, 0 = not */
    bool ready;                      /* by store_ready, not by an interrupt */
};

struct park {
    struct fs *fs;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct item *waiting;            /* lock: any order */
    struct item *work, **work_end;   /* lock: to be dispatched */
    unsigned n_interrupted;          /* lock: among the waiting */
    unsigned n_timed;               /* lock: among them: these end by time, too */
    uint64_t recent[RECENT];         /* lock */
    unsigned recent_at;              /* lock */
    bool stopping;                   /* lock */
    atomic_size_t n_waiting, n_parked;
    atomic_bool progressed;
    unsigned n_threads;
    pthread_t thread[PARK_THREADS];
};

/* What a thread is doing for a request that was parked before. */
struct resume {
    struct wait wait;
    bool reparked;                   /* kept once more, in the item's own buffer */
    bool pool;                       /* a thread of the pool: may block */
    bool first;                      /* found after a crash: has not waited here */
    unsigned char *stand_in;
};
static _Thread_local struct resume *resume;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int park_new(struct fs *fs, struct park **out, struct err *err)
{
    struct park *p = calloc(1, sizeof *p);
    pthread_condattr_t attr;

    if (!p)
        return err_set(err, ERR_NOMEM, "parked requests: out of memory");
    p->fs = fs;
    p->work_end = &p->work;
    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->wake, &attr);
    pthread_condattr_destroy(&attr);
    *out = p;
    return 0;
}

static void free_items(struct item *i)
{
    while (i) {
        struct item *next = i->next;

        free(i);
        i = next;
    }
}

void park_free(struct park *p)
{
    if (!p)
        return;
    free_items(p->waiting);
    free_items(p->work);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* ---- buffers ---- */

int park_buf_get(void *mem, struct shim_buf *out)
{
    if (!resume)
        return mem_get(mem, out);
    if (!resume->stand_in) {
        resume->stand_in = aligned_alloc(8, 64);
        if (!resume->stand_in)
            return -ENOMEM;
    }
    memset(resume->stand_in, 0, 64);
    *out = (struct shim_buf){ resume->stand_in, 64, UINT64_MAX };
    return 0;
}

void park_buf_put(void *mem, struct shim_buf *buf)
{
    if (buf->tag != UINT64_MAX)
        mem_put(mem, buf);
}

/* ---- parking ---- */

/* Its end is a matter of time, too. */
static bool timed(const struct wait *w) { return w->kind == WAIT_REMOTE || w->kind == WAIT_LEASE; }

static bool ready(struct park *p, const struct item *i)
{
    return i->wait.kind == WAIT_REMOTE ? remote_ready(p->fs, &i->wait, i->since_ns / 1000000) : store_ready(p->fs->store, &i->wait);
}

/* Where the request shall stay: its own buffer again, a small one, or the large one it came in. */
static bool keep_bytes(struct park *p, const struct shim_req *cur, struct item *i)
{
    struct mem_slot *from = mem_slot_of(p->fs->mem, cur->in), *to;

    i->len = cur->in->len;
    if (resume) {
        if (shim_take(p->fs->shim, &i->buf))
            return false;
        resume->reparked = true;
        return true;
    }
    if (i->len <= MEM_SMALL_BYTES - 8 && mem_get_small(p->fs->mem, &i->buf) == 0) {
        to = mem_slot_of(p->fs->mem, i->buf.mem);
        *to = (struct mem_slot){ .unique = i->unique, .state = SLOT_PARKED,
                                 .crashes = from ? from->crashes : 0 };
        memcpy(i->buf.mem + 4, (const unsigned char *)cur->in + 4, i->len - 4);
        atomic_thread_fence(memory_order_release);
        memcpy(i->buf.mem, cur->in, 4);      /* the length last: now it is a request */
        atomic_thread_fence(memory_order_release);
        memset((void *)(uintptr_t)cur->in, 0, 4);    /* and this no longer: found twice it would be done twice */
        return true;
    }
    return shim_take(p->fs->shim, &i->buf) == 0;
}

static void add_work_locked(struct park *p, struct item *i)
{
    i->next = NULL;
    *p->work_end = i;
    p->work_end = &i->next;
    pthread_cond_signal(&p->wake);
}

static bool was_interrupted_locked(struct park *p, uint64_t unique)
{
    for (unsigned i = 0; i < RECENT; i++) {
        if (p->recent[i] == unique) {
            p->recent[i] = 0;
            return true;
        }
    }
    return false;
}

bool park_current(struct park *p, const struct wait *w)
{
    const struct shim_req *cur = shim_current();
    struct item *i = cur ? calloc(1, sizeof *i) : NULL;
    struct mem_slot *slot;

    if (!i)
        return false;
    i->unique = cur->in->unique;
    i->wait = *w;
    if (!keep_bytes(p, cur, i)) {
        free(i);
        return false;
    }
    slot = mem_slot_of(p->fs->mem, i->buf.mem);
    if (slot)
        slot->state = SLOT_PARKED;
    atomic_fetch_add(&p->n_parked, 1);
    pthread_mutex_lock(&p->lock);
    /* Counted before store_ready is asked: progress after that is seen. */
    atomic_fetch_add(&p->n_waiting, 1);
    i->since_ns = timed(w) ? now_ns() : 0;
    if (w->kind == WAIT_NONE || ready(p, i)) {
        atomic_fetch_sub(&p->n_waiting, 1);
        i->ready = true;
        add_work_locked(p, i);
    } else {
        i->next = p->waiting;
        p->waiting = i;
        if (timed(w) && p->n_timed++ == 0)
            pthread_cond_signal(&p->wake);
        if (was_interrupted_locked(p, i->unique)) {
            i->interrupted_ns = now_ns();
            p->n_interrupted++;
            pthread_cond_signal(&p->wake);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return true;
}

bool park_may_block(void) { return resume && resume->pool; }

bool park_resumed(struct wait *w)
{
    if (!resume || resume->first)
        return false;
    *w = resume->wait;
    return true;
}

void park_progress(struct park *p)
{
    if (atomic_load(&p->n_waiting) == 0 || atomic_exchange(&p->progressed, true))
        return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

void park_interrupt(struct park *p, uint64_t unique)
{
    struct item *i;

    pthread_mutex_lock(&p->lock);
    for (i = p->waiting; i && i->unique != unique; i = i->next)
        ;
    if (!i) {
        p->recent[p->recent_at++ % RECENT] = unique;
    } else if (i->interrupted_ns == 0) {
        i->interrupted_ns = now_ns();
        p->n_interrupted++;
        pthread_cond_signal(&p->wake);
    }
    pthread_mutex_unlock(&p->lock);
}

size_t park_count(struct park *p) { return atomic_load(&p->n_parked); }

/* ---- the pool ---- */

/* Moves what is ready, and what was interrupted long enough ago, to the work. */
static void scan_locked(struct park *p)
{
    uint64_t now = p->n_interrupted ? now_ns() : 0;
    struct item **at = &p->waiting;

    while (*at) {
        struct item *i = *at;

        i->ready = ready(p, i);
        if (!i->ready && (i->interrupted_ns == 0 || now - i->interrupted_ns < GRACE_NS)) {
            at = &i->next;
            continue;
        }
        *at = i->next;
        atomic_fetch_sub(&p->n_waiting, 1);
        if (i->interrupted_ns != 0)
            p->n_interrupted--;
        if (timed(&i->wait))
            p->n_timed--;
        add_work_locked(p, i);
    }
}

/* As any other answer it is noted first: a crash behind it must not do what its caller was told is not done. */
static void answer_interrupted(struct park *p, struct item *i)
{
    struct mem_slot *slot = mem_slot_of(p->fs->mem, i->buf.mem);

    if (slot) {
        slot->result = EINTR;
        atomic_thread_fence(memory_order_release);
        slot->state = SLOT_ANSWERING;
    }
    (void)shim_reply_raw(p->fs->shim, i->unique, EINTR, NULL, 0);
    shim_put(p->fs->shim, &i->buf);
}

static void dispatch(struct park *p, struct item *i, bool pool, bool first)
{
    struct mem_slot *slot = mem_slot_of(p->fs->mem, i->buf.mem);
    struct resume r = { .wait = i->wait, .pool = pool, .first = first };

    if (slot) {
        slot->unique = i->unique;
        slot->state = SLOT_RUNNING;
    }
    resume = &r;
    (void)shim_dispatch(p->fs->shim, &i->buf, i->len);
    resume = NULL;
    if (!r.reparked)
        shim_put(p->fs->shim, &i->buf);
    free(r.stand_in);
}

void park_redo(struct park *p, struct shim_buf *buf)
{
    const struct fuse_in_header *in = (const void *)buf->mem;
    struct item i = { .buf = *buf, .len = in->len, .unique = in->unique };

    dispatch(p, &i, false, true);
    *buf = (struct shim_buf){ 0 };
}

static void *pool_main(void *arg)
{
    struct park *p = arg;

    pthread_mutex_lock(&p->lock);
    while (!p->stopping) {
        struct item *i = p->work;

        if (i) {
            p->work = i->next;
            if (!p->work)
                p->work_end = &p->work;
            pthread_mutex_unlock(&p->lock);
            if (i->ready)
                dispatch(p, i, true, false);
            else
                answer_interrupted(p, i);
            atomic_fetch_sub(&p->n_parked, 1);
            free(i);
            pthread_mutex_lock(&p->lock);
        } else if (atomic_exchange(&p->progressed, false)) {
            scan_locked(p);
        } else if (p->n_interrupted > 0 || p->n_timed > 0) {
            struct timespec t;

            clock_gettime(CLOCK_MONOTONIC, &t);
            t.tv_nsec += 100000000;
            if (t.tv_nsec >= 1000000000) {
                t.tv_nsec -= 1000000000;
                t.tv_sec++;
            }
            if (pthread_cond_timedwait(&p->wake, &p->lock, &t) == ETIMEDOUT)
                scan_locked(p);
        } else {
            pthread_cond_wait(&p->wake, &p->lock);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

int park_start(struct park *p, struct err *err)
{
    for (; p->n_threads < PARK_THREADS; p->n_threads++) {
        int eno = pthread_create(&p->thread[p->n_threads], NULL, pool_main, p);

        if (eno)
            return err_from_errno(err, eno, "start a thread");
    }
    return 0;
}

void park_stop(struct park *p)
{
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    while (p->n_threads > 0)
        pthread_join(p->thread[--p->n_threads], NULL);
}
