/*
 * reserve.c: space on the disk that is held back, so that a store on a full one can still open, end what it began, and give space back.
 *
 * The file `ballast` holds it. It goes when the disk is full: when the store is opened there (the index cannot be opened without a few bytes), and before
 * reclaim. It is made again when there is room. Before the disk is full changes that need more of it are refused, so that the index can be written.
 */
#include "store/core/core_internal.h"

#include <inttypes.h>

#define NAME "ballast"
enum { MIB = 1 << 20, SEGMENT_LEAST = 4 * MIB, SEGMENT_MOST = 64 * MIB, SEGMENTS_OF_A_DISK = 64, BESIDE = 16 * MIB, PLENTY = 16 };

uint64_t reserve_segment(struct io *io)
{
    struct io_space_info sp;
    uint64_t n;
    if (io_space(io, &sp, NULL) < 0)
        return SEGMENT_MOST;
    n = sp.total / SEGMENTS_OF_A_DISK / MIB * MIB;
    return n < SEGMENT_LEAST ? SEGMENT_LEAST : n > SEGMENT_MOST ? SEGMENT_MOST : n;
}

/* As much as packing one segment takes, and what the index writes meanwhile. */
static uint64_t size_of(const struct store *s)
{
    return s->opt.log.segment_bytes + BESIDE;
}

static bool held(struct store *s)
{
    struct io_stat st;
    return io_stat_path(s->io, NAME, &st, NULL) == 0 && st.size > 0;
}

bool store_reserve_use(struct store *s)
{
    bool had = held(s);
    if (had && io_unlink(s->io, NAME, NULL) == 0)
        (void)io_syncdir(s->io, ".", NULL);
    return had;
}

void reserve_at_open(struct store *s)
{
    struct io_space_info sp;
    if (io_space(s->io, &sp, NULL) == 0 && sp.avail < size_of(s) / 2)
        (void)store_reserve_use(s);
}

/* A store that is closed needs none, where there is so much room that it will be made again. */
void reserve_at_close(struct store *s)
{
    struct io_space_info sp;
    if (io_space(s->io, &sp, NULL) == 0 && sp.avail >= PLENTY * size_of(s))
        (void)store_reserve_use(s);
}

/* Without it the store works as well, but on a disk that is full: so a failure is none. */
static void hold(struct store *s)
{
    struct io_file *f = NULL;
    if (io_open(s->io, NAME, IO_RDWR | IO_CREATE, &f, NULL) < 0)
        return;
    int rc = io_allocate(f, size_of(s), NULL);
    if (rc == 0)
        rc = io_fdatasync(f, NULL);
    io_close(f);
    if (rc < 0)
        (void)io_unlink(s->io, NAME, NULL);
    else
        (void)io_syncdir(s->io, ".", NULL);
}

enum store_space store_space_look(struct store *s, struct io_space_info *sp)
{
    uint64_t size = size_of(s), least = size / 2;
    int was = atomic_load(&s->tight), is;
    bool have;
    if (io_space(s->io, sp, NULL) < 0)
        return (enum store_space)was;
    have = held(s);
    if (!have && sp->avail >= 2 * size) {
        hold(s);
        have = held(s);
        (void)io_space(s->io, sp, NULL);
    }
    if (sp->avail >= least + (was != SPACE_ENOUGH ? least / 2 : 0))
        is = SPACE_ENOUGH;
    else
        is = have || sp->avail >= size / 8 ? SPACE_TIGHT : SPACE_NONE;
    atomic_store(&s->tight, is);
    return (enum store_space)is;
}

/* What takes no room, or ends something, or gives some back in the end. */
static bool goes_on(const struct record *rec)
{
    switch ((enum rec_type)rec->type) {
    case REC_UNLINK: case REC_RENAME: case REC_SETATTR: case REC_REMOVEXATTR:
        return true;
    case REC_FALLOCATE:
        return (rec->u.fallocate.mode & RFA_PUNCH_HOLE) != 0;
    case REC_SNAPSHOT:
        return rec->u.snapshot.action != RSN_CREATE;
    default:
        return false;
    }
}

static bool ends(const struct record *rec)
{
    return rec->type == REC_REAP || rec->type == REC_SERIES_END || rec->type == REC_MOUNT || rec->type == REC_INCARNATION || rec->type == REC_EPOCH;
}

int reserve_allows(const struct store *s, const struct record *rec, struct err *err)
{
    int tight = atomic_load(&s->tight);
    if (tight == SPACE_ENOUGH || ends(rec) || (tight == SPACE_TIGHT && goes_on(rec)))
        return 0;
    return err_set(err, ERR_NOSPC, "%s: the disk is full but for what the store holds back to give space back", s->dir != NULL ? s->dir : "store");
}
