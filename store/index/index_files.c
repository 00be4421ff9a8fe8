/*
 * index_files.c: RocksDB's files after a power cut, where its own opening would give up.
 *
 * Each open of RocksDB writes a MANIFEST, syncs it, renames CURRENT to name it, and then syncs the directory. POSIX lets the rename
 * be on the disk without the MANIFEST's own name (fsync of a file does not promise its name; ext4 and XFS do it all the same).
 * The MANIFEST before it is still there, since nothing is removed before that sync; it describes an index that is as good, some
 * records older, which the log makes up for. Found by tests/crash/store.sh.
 */
#include "store/index/index.h"

#include "store/base/io.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

int index_files_heal(struct io *io, struct err *err)
{
    char name[64], path[80];
    struct io_stat st;
    struct search s = { 0 };
    int rc = named(io, name, err);

    if (rc < 0 || (s.below = manifest_number(name)) == 0)
        return rc;
    snprintf(path, sizeof path, "index/%s", name);
    rc = io_stat_path(io, path, &st, err);
    if (rc != ERR_NOENT)
        return rc;
    rc = io_list(io, "index", consider, &s, err);
    return rc < 0 || s.best == 0 ? rc : point_at(io, s.name, err);
}
