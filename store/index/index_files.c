/*
 * index_files.c: RocksDB's files after a power cut, where its own opening gives up.
 *
 * Each open of RocksDB writes a MANIFEST, syncs it, renames CURRENT to name it, and then syncs the directory; each flush appends a
 * record to the MANIFEST and syncs it. Nothing older is removed before that. Two states of the disk remain that it refuses:
 *   - CURRENT names a MANIFEST whose own name was lost (fsync of a file does not promise its name; ext4 and XFS keep it all the
 *     same): CURRENT is made to name the one before.
 *   - the MANIFEST ends in a record that reached the disk in part: RocksDB takes a short one for the end, but one with a hole in it
 *     for corruption. The MANIFEST is cut at the end of its last whole record.
 * Either leaves an index that is as good, some records older, which the log makes up for. A MANIFEST that rotted elsewhere is cut too;
 * then files it names may be gone, and RocksDB refuses them by name. Both were found by tests/crash/store.sh.
 *
 * The MANIFEST's form is RocksDB's log format (its db/log_format.h and util/crc32c.h): blocks of 32 KiB; in them records of a masked
 * CRC-32C, a length of two bytes, a type; the checksum covers the type and what follows. A block's last 6 bytes or fewer are padding.
 */
#include "store/index/index.h"

#include "store/base/bytes.h"
#include "store/base/io.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 32768, HEADER = 7 };
enum { FULL = 1, FIRST, MIDDLE, LAST };

#define CURRENT "index/CURRENT"
#define HEALED "index/CURRENT.healed"
#define MANIFEST "MANIFEST-"

struct search { unsigned long long below, best; char name[64]; };

/* MANIFEST-000025, nothing else; 0: another name. */
static unsigned long long manifest_number(const char *name)
{
    size_t n = sizeof MANIFEST - 1, digits = strspn(name + (strncmp(name, MANIFEST, n) == 0 ? n : 0), "0123456789");

    return strncmp(name, MANIFEST, n) == 0 && digits > 0 && digits < 19 && name[n + digits] == '\0' ? strtoull(name + n, NULL, 10) : 0;
}

static int consider(void *arg, const char *name)
{
    struct search *s = arg;
    unsigned long long k = manifest_number(name);

    if (k > s->best && k < s->below) {
        s->best = k;
        snprintf(s->name, sizeof s->name, "%.40s", name);
    }
    return 0;
}

/* What CURRENT names, without its newline; "" where there is no such file or it says something else. */
static int named(struct io *io, char name[64], struct err *err)
{
    struct io_file *f = NULL;
    int64_t n;
    int rc = io_open(io, CURRENT, IO_RDONLY, &f, err);

    name[0] = '\0';
    if (rc < 0)
        return rc == ERR_NOENT ? 0 : rc;
    n = io_pread(f, name, 63, 0, err);
    io_close(f);
    if (n < 0)
        return (int)n;
    name[n] = '\0';
    name[strcspn(name, "\n")] = '\0';
    return 0;
}

static int point_at(struct io *io, const char *name, struct err *err)
{
    char line[72];
    struct iovec v = { .iov_base = line, .iov_len = (size_t)snprintf(line, sizeof line, "%s\n", name) };
    struct io_file *f = NULL;
    int rc;

    (void)io_unlink(io, HEALED, NULL);
    rc = io_open(io, HEALED, IO_RDWR | IO_CREATE, &f, err);
    if (rc < 0)
        return rc;
    rc = io_pwritev(f, &v, 1, 0, err);
    if (rc == 0)
        rc = io_fdatasync(f, err);
    io_close(f);
    if (rc == 0)
        rc = io_rename(io, HEALED, CURRENT, err);
    return rc == 0 ? io_syncdir(io, "index", err) : rc;
}

/* CURRENT names no file: it shall name the newest one older than that. */
static int use_older(struct io *io, unsigned long long below, struct err *err)
{
    struct search s = { .below = below };
    int rc = io_list(io, "index", consider, &s, err);

    if (rc < 0 || s.best == 0)
        return rc;
    rc = point_at(io, s.name, err);
    return rc < 0 ? rc : 1;
}

/* A bit at a time: this runs once after a power cut, if ever, over some kilobytes. */
static uint32_t masked_crc32c(const uint8_t *p, size_t n)
{
    uint32_t c = UINT32_MAX;

    for (; n > 0; n--) {
        c ^= *p++;
        for (int k = 0; k < 8; k++)
            c = c >> 1 ^ (c & 1 ? 0x82f63b78u : 0);
    }
    c = ~c;
    return (c >> 15 | c << 17) + 0xa282ead8u;
}

/* The record at p, of which n bytes are there: its type; 0: not whole. */
static unsigned whole_record(const uint8_t *p, size_t n, size_t *len)
{
    *len = HEADER + (size_t)(p[4] | p[5] << 8);
    return *len <= n && masked_crc32c(p + 6, *len - 6) == get_u32(p) ? p[6] : 0;
}

/* Where the last whole record ends; a record may be in parts, FIRST to LAST. */
static int last_whole(struct io_file *f, uint64_t *end, struct err *err)
{
    static _Thread_local uint8_t block[BLOCK];
    bool inside = false;

    *end = 0;
    for (uint64_t base = 0;; base += BLOCK) {
        int64_t n = io_pread(f, block, BLOCK, base, err);
        size_t len;

        if (n < 0)
            return (int)n;
        for (size_t at = 0; at + HEADER <= (size_t)n; at += len) {
            unsigned type = whole_record(block + at, (size_t)n - at, &len);

            if (type < FULL || type > LAST || inside != (type == MIDDLE || type == LAST))
                return 0;
            inside = type == FIRST || type == MIDDLE;
            if (!inside)
                *end = base + at + len;
        }
        if (n < BLOCK)
            return 0;
    }
}

static int cut_tail(struct io *io, const char *path, uint64_t size, struct err *err)
{
    struct io_file *f = NULL;
    uint64_t end = 0;
    int rc = io_open(io, path, IO_RDWR, &f, err);

    if (rc < 0)
        return rc;
    rc = last_whole(f, &end, err);
    if (rc == 0 && end > 0 && end < size) {
        rc = io_ftruncate(f, end, err);
        if (rc == 0)
            rc = io_fdatasync(f, err);
        if (rc == 0)
            rc = 1;
    }
    io_close(f);
    return rc;
}

int index_files_heal(struct io *io, struct err *err)
{
    char name[64], path[80];
    struct io_stat st;
    unsigned long long k;
    int rc = named(io, name, err);

    if (rc < 0 || (k = manifest_number(name)) == 0)
        return rc;
    snprintf(path, sizeof path, "index/%s", name);
    rc = io_stat_path(io, path, &st, err);
    if (rc == ERR_NOENT)
        return use_older(io, k, err);
    return rc < 0 ? rc : cut_tail(io, path, st.size, err);
}

/* ---- one for another ---- */

struct emptying { struct io *io; const char *dir; struct err *err; };

static int remove_file(void *arg, const char *name)
{
    struct emptying *e = arg;
    char path[300];

    if (snprintf(path, sizeof path, "%s/%s", e->dir, name) >= (int)sizeof path)
        return 0;
    return io_unlink(e->io, path, e->err);
}

static int empty(struct io *io, const char *dir, struct err *err)
{
    struct emptying e = { io, dir, err };
    int rc = io_list(io, dir, remove_file, &e, err);

    return rc == ERR_NOENT ? 0 : rc;
}

int index_files_discard(struct io *io, struct err *err)
{
    return empty(io, INDEX_REPLACED, err);
}

/* A directory may take the name of an empty one. */
static int take_place(struct io *io, const char *from, const char *to, struct err *err)
{
    int rc = empty(io, to, err);

    if (rc == 0)
        rc = io_rename(io, from, to, err);
    return rc == 0 ? io_syncdir(io, ".", err) : rc;
}

int index_files_replace(struct io *io, struct err *err)
{
    int rc = take_place(io, "index", INDEX_REPLACED, err);

    return rc == ERR_NOENT ? 0 : rc;
}

int index_files_bring_back(struct io *io, struct err *err)
{
    return take_place(io, INDEX_REPLACED, "index", err);
}
