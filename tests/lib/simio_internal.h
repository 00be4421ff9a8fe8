/*
 * simio_internal.h: the parts of the simulated disk. simio_page.c: pages, names,
 * memory. simio_disk.c: what is pending, synced, cut. simio.c: the io table, its calls
 * on names, and what may befall a call. simio_file.c: calls on open files.
 * simio_knobs.c: what a test says to it.
 */
#ifndef TESTS_LIB_SIMIO_INTERNAL_H
#define TESTS_LIB_SIMIO_INTERNAL_H

#include "tests/lib/simio.h"

#include <pthread.h>
#include <stdatomic.h>

enum { SIM_PAGE = 4096, SIM_SECTOR = 512, SIM_CHUNK = 64, SIM_ROOT = 1, SIM_FAULTS = 16 };

/* Immutable once shared; a write makes a new version. */
struct page { atomic_uint refs; uint8_t b[SIM_PAGE]; };
/* 64 page pointers, copied when written while shared: a clone of a file costs one count per 256 KiB. */
struct chunk { atomic_uint refs; struct page *p[SIM_CHUNK]; };
struct pages { struct chunk **c; size_t n; };

struct sname { atomic_uint refs; char s[]; };
struct entry { struct sname *name; uint32_t ino; };
struct dirmap { struct entry *e; size_t n, cap; };      /* sorted by name */

/* A version of a page (NULL: a hole) or of the size that the disk may not have yet. */
struct pend { uint64_t seq; uint32_t page; struct page *v; };
struct pend_size { uint64_t seq, size; };

struct inode {
    bool used, is_dir, locked;
    uint32_t opens;
    uint64_t size, dsize;           /* in view, on disk */
    uint64_t reserved;              /* pages from allocate */
    uint64_t loose;                 /* pages in view at or behind reserved */
    struct pages cur, dur;
    struct pend *pend;
    size_t n_pend, cap_pend;
    struct pend_size *psize;
    size_t n_psize, cap_psize;
    uint32_t *lost;                 /* pages given up by a failed sync */
    size_t n_lost, cap_lost;
    struct dirmap cur_dir, dur_dir;
};

/* One atomic change of names: remove (from_dir, from) and then set (to_dir, to) to ino; either may be absent. */
struct dirop {
    uint64_t seq;
    uint32_t from_dir, to_dir, ino;
    struct sname *from, *to;
};

struct fault { enum simio_call kind; uint64_t left; int code; bool forever, armed; };

struct simio {
    struct io io;
    pthread_mutex_t mu;
    uint64_t epoch;                 /* files of an older one are dead */
    struct inode *ino;              /* [1] is the root */
    uint32_t n_ino;
    struct dirop *dirop;
    size_t n_dirop, cap_dirop;
    uint64_t seq;
    uint64_t rng, fault_rng;
    uint64_t used, limit;           /* pages */
    int64_t wall_ns;
    uint64_t boot_ns, tick_ns;
    uint64_t calls[SIMIO_N_CALLS];
    struct fault fault[SIM_FAULTS];
    uint64_t cut_left;              /* mutating calls until death; 0 off */
    bool dead;
    unsigned nowait_percent;
    char *skip_sync, *skip_syncdir;
};

struct sim_file {
    struct io_file f;
    uint64_t epoch;
    uint32_t ino;
    bool writable, lock;
    char path[];
};

/* What becomes of a call. */
enum fate {
    GO,
    FAIL,   /* a planted failure, a dead machine or file: rc says it, nothing happens */
    DIE,    /* the power fails during it: it may happen, but answers ERR_IO */
};

/* simio_page.c */
void *sim_alloc(size_t len);
void *sim_grow(void *p, size_t n, size_t *cap, size_t elem);
uint64_t sim_next(uint64_t *rng);
uint64_t sim_below(uint64_t *rng, uint64_t n);
struct page *page_copy(const struct page *from);        /* NULL: zeros */
struct page *page_ref(struct page *p);
void page_unref(struct page *p);
struct page *pages_get(const struct pages *ps, uint64_t i);
void pages_set(struct pages *ps, uint64_t i, struct page *p);   /* takes its own reference */
void pages_clone(struct pages *to, const struct pages *from);
void pages_release(struct pages *ps);
struct sname *name_new(const char *s, size_t len);
struct sname *name_ref(struct sname *n);
void name_unref(struct sname *n);
struct entry *dirmap_find(const struct dirmap *d, const char *s);
void dirmap_set(struct dirmap *d, struct sname *name, uint32_t ino);
void dirmap_remove(struct dirmap *d, const char *s);
void dirmap_clone(struct dirmap *to, const struct dirmap *from);
void dirmap_release(struct dirmap *d);

/* simio_disk.c; the caller holds the mutex */
uint32_t inode_new(struct simio *sim, bool is_dir);
void inode_release(struct simio *sim, uint32_t n);
uint32_t inode_names(const struct simio *sim, uint32_t n);      /* names in view */
void inode_set_page(struct simio *sim, struct inode *in, uint64_t i, struct page *p); /* takes the reference */
void inode_set_size(struct simio *sim, struct inode *in, uint64_t size);
void inode_reserve(struct simio *sim, struct inode *in, uint64_t n_pages);
void inode_sync(struct inode *in);
void inode_sync_failed(struct simio *sim, struct inode *in);
void inode_evict(struct simio *sim, struct inode *in);
void dirop_do(struct simio *sim, uint32_t from_dir, struct sname *from, uint32_t to_dir, struct sname *to,
              uint32_t ino);
void dir_sync(struct simio *sim, uint32_t dir);
void sim_gc(struct simio *sim);
void sim_forget_process(struct simio *sim);
void sim_cut(struct simio *sim, uint64_t seed, enum simio_cut_mode mode);

/* simio.c: every call of the table begins with sim_enter, which takes the mutex, and ends with sim_leave */
enum fate sim_enter(struct simio *sim, enum simio_call k, const struct sim_file *sf, const char *path,
                    int *rc, struct err *err);
int sim_leave(struct simio *sim, int rc);
bool sim_happens(struct simio *sim, enum fate fate);
void sim_refuse(enum fate fate, int *rc, struct err *err, int code, const char *call, const char *path);
bool sim_skipped(const char *prefix, const char *path);

/* simio_file.c: the calls on open files */
int64_t sim_pread(struct io_file *f, void *buf, size_t len, uint64_t off, struct err *err);
int64_t sim_pread_nowait(struct io_file *f, void *buf, size_t len, uint64_t off);
int sim_pwritev(struct io_file *f, const struct iovec *iov, int cnt, uint64_t off, struct err *err);
int sim_fdatasync(struct io_file *f, struct err *err);
int sim_ftruncate(struct io_file *f, uint64_t size, struct err *err);
int sim_allocate(struct io_file *f, uint64_t size, struct err *err);
int sim_fstat(struct io_file *f, struct io_stat *st, struct err *err);

#endif
