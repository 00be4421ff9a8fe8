#include "tests/lib/simio_internal.h"

#include <stdlib.h>
#include <string.h>

static int64_t read_at(struct simio *sim, enum simio_call k, struct io_file *f, void *buf, size_t len,
                       uint64_t off, struct err *err)
{
    struct sim_file *sf = (struct sim_file *)f;
    const struct inode *in;
    int rc;
    size_t done = 0;

    if (sim_enter(sim, k, sf, sf->path, &rc, err) != GO)
        return sim_leave(sim, rc);
    if (k == SIMIO_PREAD_NOWAIT && sim_below(&sim->fault_rng, 100) < sim->nowait_percent)
        return sim_leave(sim, ERR_WAIT);
    in = &sim->ino[sf->ino];
    if (off >= in->size)
        len = 0;
    else if (len > in->size - off)
        len = (size_t)(in->size - off);
    while (done < len) {
        uint64_t at = off + done;
        size_t in_page = (size_t)(at % SIM_PAGE), n = SIM_PAGE - in_page;
        const struct page *p = pages_get(&in->cur, at / SIM_PAGE);

        if (n > len - done)
            n = len - done;
        if (p)
            memcpy((char *)buf + done, p->b + in_page, n);
        else
            memset((char *)buf + done, 0, n);
        done += n;
    }
    sim_leave(sim, 0);
    return (int64_t)done;
}

int64_t sim_pread(struct io_file *f, void *buf, size_t len, uint64_t off, struct err *err)
{
    return read_at(simio_of(f->io), SIMIO_PREAD, f, buf, len, off, err);
}

int64_t sim_pread_nowait(struct io_file *f, void *buf, size_t len, uint64_t off)
{
    return read_at(simio_of(f->io), SIMIO_PREAD_NOWAIT, f, buf, len, off, NULL);
}

/* Writes up to ${max} bytes of the vector; stops with NOSPC where a new page does not fit. */
static int write_at(struct simio *sim, struct inode *in, const struct iovec *iov, int cnt, uint64_t off,
                    uint64_t max)
{
    struct page *p = NULL;      /* the version being filled */
    uint64_t page = 0, end = off;
    int rc = 0;

    if (max && off + max > in->size)
        inode_set_size(sim, in, off + max);
    for (int i = 0; i < cnt && !rc; i++) {
        const char *src = iov[i].iov_base;
        size_t left = iov[i].iov_len < max ? iov[i].iov_len : (size_t)max;

        max -= left;
        while (left) {
            size_t at = (size_t)(end % SIM_PAGE), n = SIM_PAGE - at < left ? SIM_PAGE - at : left;

            if (!p) {
                const struct page *old;

                page = end / SIM_PAGE;
                old = pages_get(&in->cur, page);
                if (!old && page >= in->reserved && sim->limit && sim->used >= sim->limit) {
                    rc = ERR_NOSPC;
                    break;
                }
                p = page_copy(old);
            }
            memcpy(p->b + at, src, n);
            src += n, left -= n, end += n;
            if (end % SIM_PAGE == 0) {
                inode_set_page(sim, in, page, p);
                p = NULL;
            }
        }
    }
    if (p)
        inode_set_page(sim, in, page, p);
    return rc;
}

int sim_pwritev(struct io_file *f, const struct iovec *iov, int cnt, uint64_t off, struct err *err)
{
    struct sim_file *sf = (struct sim_file *)f;
    struct simio *sim = simio_of(f->io);
    uint64_t total = 0, old_size;
    struct inode *in;
    int rc, got;
    bool alive;
    enum fate fate;

    for (int i = 0; i < cnt; i++)
        total += iov[i].iov_len;
    fate = sim_enter(sim, SIMIO_PWRITEV, sf, sf->path, &rc, err);
    alive = sf->epoch == sim->epoch && (fate == DIE || !sim->dead);
    if (!alive)
        return sim_leave(sim, rc);
    if (!sf->writable)
        return sim_leave(sim, rc ? rc : err_set(err, ERR_INVAL, "write %s: open for reading only", sf->path));
    /* A call that fails wrote nothing, all, or a part up to the end of a page or anywhere. */
    if (fate != GO) {
        switch (sim_below(&sim->fault_rng, 4)) {
        case 0: total = 0; break;
        case 1: break;
        case 2: total = sim_below(&sim->fault_rng, total + 1); break;
        default:
            total = sim_below(&sim->fault_rng, total + 1);
            total = (off + total) / SIM_PAGE * SIM_PAGE > off ? (off + total) / SIM_PAGE * SIM_PAGE - off : 0;
        }
    }
    in = &sim->ino[sf->ino];
    old_size = in->size;
    got = write_at(sim, in, iov, cnt, off, total);
    if (got) {
        /* The file ends where the disk was full. */
        if (in->size > old_size) {
            uint64_t end = old_size;
            for (uint64_t i = off / SIM_PAGE; i * SIM_PAGE < in->size && (pages_get(&in->cur, i) || i < in->reserved); i++)
                if ((i + 1) * SIM_PAGE > end)
                    end = (i + 1) * SIM_PAGE;
            if (end < in->size)
                inode_set_size(sim, in, end);
        }
        sim_refuse(fate, &rc, err, got, "write", sf->path);
    }
    return sim_leave(sim, rc);
}

int sim_fdatasync(struct io_file *f, struct err *err)
{
    struct sim_file *sf = (struct sim_file *)f;
    struct simio *sim = simio_of(f->io);
    int rc;
    enum fate fate = sim_enter(sim, SIMIO_FDATASYNC, sf, sf->path, &rc, err);

    if (fate == GO && !sim_skipped(sim->skip_sync, sf->path))
        inode_sync(&sim->ino[sf->ino]);
    else if (fate == FAIL && !sim->dead && sf->epoch == sim->epoch)
        inode_sync_failed(sim, &sim->ino[sf->ino]);
    return sim_leave(sim, rc);
}

int sim_ftruncate(struct io_file *f, uint64_t size, struct err *err)
{
    struct sim_file *sf = (struct sim_file *)f;
    struct simio *sim = simio_of(f->io);
    int rc;
    enum fate fate = sim_enter(sim, SIMIO_FTRUNCATE, sf, sf->path, &rc, err);

    if (fate == FAIL)
        return sim_leave(sim, rc);
    if (!sf->writable)
        sim_refuse(fate, &rc, err, ERR_INVAL, "truncate", sf->path);
    else if (sim_happens(sim, fate))
        inode_set_size(sim, &sim->ino[sf->ino], size);
    return sim_leave(sim, rc);
}

int sim_allocate(struct io_file *f, uint64_t size, struct err *err)
{
    struct sim_file *sf = (struct sim_file *)f;
    struct simio *sim = simio_of(f->io);
    uint64_t n = (size + SIM_PAGE - 1) / SIM_PAGE, need = 0;
    struct inode *in;
    int rc;
    enum fate fate = sim_enter(sim, SIMIO_ALLOCATE, sf, sf->path, &rc, err);

    if (fate == FAIL)
        return sim_leave(sim, rc);
    in = &sim->ino[sf->ino];
    for (uint64_t i = in->reserved; sim->limit && i < n; i++)
        need += !pages_get(&in->cur, i);
    if (sim->limit && sim->used + need > sim->limit) {
        sim_refuse(fate, &rc, err, ERR_NOSPC, "allocate", sf->path);
    } else if (sim_happens(sim, fate)) {
        inode_reserve(sim, in, n);
        if (size > in->size)
            inode_set_size(sim, in, size);
    }
    return sim_leave(sim, rc);
}

int sim_fstat(struct io_file *f, struct io_stat *st, struct err *err)
{
    struct sim_file *sf = (struct sim_file *)f;
    struct simio *sim = simio_of(f->io);
    int rc;

    if (sim_enter(sim, SIMIO_FSTAT, sf, sf->path, &rc, err) == GO) {
        const struct inode *in = &sim->ino[sf->ino];
        *st = (struct io_stat){ in->size, (in->reserved + in->loose) * SIM_PAGE, 1, sf->ino, in->is_dir, inode_names(sim, sf->ino) };
    }
    return sim_leave(sim, rc);
}

