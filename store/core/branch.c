/* branch.c: see branch.h. A name appears by rename, when all of it is there and synced. */
#include "store/core/branch.h"

#include "store/core/core_internal.h"
#include "store/core/part.h"
#include "store/core/role.h"
#include "store/log/segment.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BRANCH_PATH = 9 + BRANCH_NAME_MAX, PART_PATH = BRANCH_PATH + 8, FILE_PATH = PART_PATH + 300 };

struct links { struct io *io; const char *from, *to; uint64_t until; struct err *err; };

/* What has a meaning in log/, archive/ and packs/: a file in the making has none. */
static int link_one(void *arg, const char *name)
{
    struct links *l = arg;
    char from[FILE_PATH], to[FILE_PATH];
    const char *dot = strrchr(name, '.');
    uint64_t first, gen;

    if (dot == NULL || (strcmp(dot, ".seg") != 0 && strcmp(dot, ".arc") != 0 && strcmp(dot, ".base") != 0 && strcmp(dot, ".pack") != 0))
        return 0;
    if (segment_parse(name, &first, &gen) && first >= l->until)
        return 0;
    snprintf(from, sizeof from, "%s/%s", l->from, name);
    snprintf(to, sizeof to, "%s/%s/%s", l->to, l->from, name);
    return io_link(l->io, from, to, l->err);
}

int branch_link_all(struct io *io, const char *dir, const char *to, uint64_t until, struct err *err)
{
    struct links l = { io, dir, to, until, err };
    char path[FILE_PATH];
    int rc;

    snprintf(path, sizeof path, "%s/%s", to, dir);
    rc = io_mkdir(io, path, err);
    if (rc == 0)
        rc = io_list(io, dir, link_one, &l, err);
    if (rc == ERR_NOENT)                 /* nothing was ever packed */
        rc = 0;
    return rc < 0 ? rc : io_syncdir(io, path, err);
}

int branch_write_file(struct io *io, const char *path, const uint8_t *buf, size_t len, struct err *err)
{
    struct iovec iov = { (void *)(uintptr_t)buf, len };
    struct io_file *f;
    int rc = io_open(io, path, IO_RDWR | IO_CREATE, &f, err);

    if (rc < 0)
        return rc;
    rc = io_pwritev(f, &iov, 1, 0, err);
    if (rc == 0)
        rc = io_fdatasync(f, err);
    io_close(f);
    return rc;
}

/* Both copies, the same in each. */
int branch_write_pair(struct io *io, const char *in, const char *name, const uint8_t *buf, size_t len, struct err *err)
{
    char path[FILE_PATH];
    int rc = 0;

    for (int i = 0; rc == 0 && i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s.%d", in, name, i);
        rc = branch_write_file(io, path, buf, len, err);
    }
    return rc;
}

/* Nothing leaves a branch: all that is kept in it is listed, the place where it parted among it, also what was on its way out. */
static void list_all(struct retained *r, uint64_t parted)
{
    uint32_t n = 0;
    bool point = parted == 0;            /* not known */

    for (uint32_t i = 0; i < r->n && !point; i++)
        point = r->point[i].lsn == parted;
    if (!point && r->horizon > parted)
        r->horizon = parted;             /* no record lies between the two: it could not have gone back otherwise */
    r->listed = r->horizon;
    r->leaving = 0;
    r->leaving_age_ns = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        if (r->point[i].kind == RETAIN_KEPT)
            r->point[i].until_ns = 0;
        if (r->point[i].kind != RETAIN_KEPT || r->point[i].lsn < r->listed)
            r->point[n++] = r->point[i];
    }
    r->n = n;
}

static int write_retained(struct io *io, const char *in, const struct super *sb, uint64_t parted, struct err *err)
{
    struct retained r = { 0 };
    size_t cap = RETAINED_FILE_MAX, len = 0;
    uint8_t *buf = malloc(cap);
    int rc = buf != NULL ? retained_read(io, sb->lineage, NULL, &r, NULL, err) : err_set(err, ERR_NOMEM, "branch: out of memory");

    if (rc == 0)
        list_all(&r, parted);
    if (rc == 0 && (len = retained_encode(&r, sb->lineage, buf, cap)) == 0)
        rc = err_set(err, ERR_INVAL, "branch: a retained set that does not fit");
    if (rc == 0)
        rc = branch_write_pair(io, in, "retained", buf, len, err);
    retained_release(&r);
    free(buf);
    return rc;
}

/* The same store at a site of its own, which nobody ships to and which ships to nobody. */
static int write_super(struct io *io, const char *in, const char *dir, const struct super *of, uint64_t parted, struct err *err)
{
    struct super *sb = malloc(sizeof *sb);
    uint8_t *buf = malloc(SUPER_FILE_MAX);
    struct io_stat st;
    char key[24];
    int rc = sb != NULL && buf != NULL ? io_stat_path(io, in, &st, err) : err_set(err, ERR_NOMEM, "branch: out of memory");

    if (rc < 0)
        goto out;
    super_copy(sb, of);
    io_random(io, sb->site, sizeof sb->site);
    sb->role = ROLE_BRANCH;
    sb->dev = dir != NULL ? st.dev : 0;
    sb->ino = dir != NULL ? st.ino : 0;
    sb->n_epochs = epoch_held(sb->epochs, sb->n_epochs, sb->durable);    /* those of which it has records */
    role_alone(sb);
    snprintf(key, sizeof key, "%" PRIu64, parted);
    rc = super_config_set(sb, BRANCH_PARTED, parted != 0 ? key : NULL, err);
    if (rc == 0)
        rc = branch_write_pair(io, in, "super", buf, super_encode(sb, buf), err);
out:
    free(sb);
    free(buf);
    return rc;
}

/* Names that a file system, a shell and a moment's name can have. */
static void name_it(int64_t last_ns, unsigned again, char name[BRANCH_NAME_MAX])
{
    char host[65] = "here", when[32] = "";
    time_t t = (time_t)(last_ns / 1000000000);
    struct tm tm;

    if (gethostname(host, sizeof host - 1) < 0)
        snprintf(host, sizeof host, "here");
    for (char *p = host; *p != '\0'; p++)
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '-' || (*p == '.' && p != host)))
            *p = '_';
    if (gmtime_r(&t, &tm) != NULL)
        (void)strftime(when, sizeof when, "%Y-%m-%dT%H%M%SZ", &tm);
    if (again > 0)
        snprintf(name, BRANCH_NAME_MAX, "diverged-%s-%s-%u", host, when, again);
    else
        snprintf(name, BRANCH_NAME_MAX, "diverged-%s-%s", host, when);
}

/* Whether branches/${name} is this very branch: a rewind was cut off behind it. */
static bool is_ours(struct io *io, const char *path, const struct super *sb)
{
    struct super *there = malloc(sizeof *there);
    char file[FILE_PATH];
    bool yes;

    snprintf(file, sizeof file, "%s/super.0", path);
    yes = there != NULL && super_read_file(io, file, there, NULL) == 0 && there->durable == sb->durable && there->last_lsn == sb->last_lsn &&
          hash128_eq(&there->last_hash, &sb->last_hash);
    free(there);
    return yes;
}

static int fill_branch(struct io *io, const char *dir, const char *part, const struct super *sb, uint64_t parted, struct err *err)
{
    static const char *const dirs[] = { "log", "archive", "packs" };
    struct io_stat st;
    char to[FILE_PATH];
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < sizeof dirs / sizeof dirs[0]; i++)
        rc = branch_link_all(io, dirs[i], part, UINT64_MAX, err);
    if (rc == 0)
        rc = write_retained(io, part, sb, parted, err);
    if (rc == 0)
        rc = write_super(io, part, dir, sb, parted, err);
    snprintf(to, sizeof to, "%s/index", part);
    if (rc == 0 && io_stat_path(io, "index", &st, NULL) == 0)
        rc = io_rename(io, "index", to, err);
    if (rc == 0)
        rc = io_syncdir(io, part, err);
    return rc < 0 ? rc : io_syncdir(io, ".", err);
}

int branch_make(struct io *io, const char *dir, const struct super *sb, int64_t last_ns, uint64_t parted, char name[BRANCH_NAME_MAX], struct err *err)
{
    char part[PART_PATH], path[BRANCH_PATH];
    struct io_file *lock = NULL;
    struct io_stat st;
    int rc = io_mkdir(io, "branches", err);

    if (rc == ERR_EXIST)
        rc = 0;
    if (rc == 0)
        rc = io_syncdir(io, ".", err);
    if (rc < 0)
        return rc;
    for (unsigned again = 0;; again++) {
        name_it(last_ns, again, name);
        snprintf(path, sizeof path, "branches/%s", name);
        if (io_stat_path(io, path, &st, NULL) < 0)
            break;
        if (is_ours(io, path, sb))
            return io_syncdir(io, "branches", err);      /* of a try that was cut off behind the rename */
    }
    snprintf(part, sizeof part, "%s.part", path);
    rc = part_begin(io, part, &lock, err);
    if (rc == 0)
        rc = fill_branch(io, dir, part, sb, parted, err);
    if (rc == 0)
        rc = io_rename(io, part, path, err);
    if (lock != NULL)
        io_close(lock);
    return rc < 0 ? rc : io_syncdir(io, "branches", err);
}

bool branch_name_ok(const char *name)
{
    return name[0] != '\0' && name[0] != '.' && strlen(name) < BRANCH_NAME_MAX && strchr(name, '/') == NULL && strstr(name, ".part") == NULL;
}

const char *branch_at_name(const char *at)
{
    return at[0] == '@' && (at[1] == '\0' || at[1 + strspn(at + 1, "0123456789")] != '\0') ? at + 1 : NULL;
}

int store_branch_remove(struct io *io, const char *name, struct err *err)
{
    return branch_name_ok(name) ? part_remove(io, "branches", name, "branch", err) : err_set(err, ERR_USAGE, "%.255s: expected the name of a branch; `spare branch list` shows them", name);
}

int branch_open(const char *store, const char *name, uint64_t memory, struct store **out, struct io **io, uint64_t *parted, struct err *err)
{
    struct store_options opt = { .threads = true, .unlocked = true, .location = LOCATION_MOVED, .memory_bytes = memory };    /* one that was moved is read all the same */
    char dir[PATH_MAX], text[24];
    struct log_recovery rec = { 0 };
    struct store *s = NULL;
    int rc = 0;

    *io = NULL;
    if (!branch_name_ok(name) || snprintf(dir, sizeof dir, "%s/branches/%s", store, name) >= (int)sizeof dir)
        rc = ERR_NOSTORE;
    if (rc == 0)
        rc = io_posix_new(dir, io, err);
    if (rc == 0)
        rc = store_open(*io, dir, &opt, &s, &rec, err);
    if (rc == 0 && rec.damaged) {        /* it would be shown, and restored, as if it ended there */
        store_drop(s);
        rc = err_set(err, ERR_DAMAGE, "%s: %.400s", dir, rec.damage.msg);
    }
    if (rc == 0 && (rc = part_there(*io, err)) < 0) {    /* others may remove it meanwhile */
        store_drop(s);
        rc = rc == ERR_NOENT ? ERR_NOSTORE : rc;
    }
    if (rc == ERR_NOSTORE)
        rc = err_set(err, ERR_NOENT, "%.255s: expected a branch of %s, found none of that name; `spare branch list` shows them", name, store);
    if (rc == 0 && store_role(s) != ROLE_BRANCH) {
        rc = err_set(err, ERR_NOENT, "%s: expected a branch, found a store that is %s", dir, role_name(store_role(s)));
        store_drop(s);
    }
    if (rc < 0 && *io != NULL)
        (*io)->ops->free(*io);
    if (rc < 0)
        return rc;
    *parted = store_config_get(s, BRANCH_PARTED, text, sizeof text) > 0 ? strtoull(text, NULL, 10) : 0;
    *out = s;
    return 0;
}
