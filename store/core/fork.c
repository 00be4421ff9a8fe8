/*
 * fork.c: see fork.h.
 *
 * In this order; a crash anywhere leaves the store as it was, perhaps with one segment more, and forks/NAME.part, which has no meaning and is removed by the next try of that name:
 *   packs and archive stand still               (store_maint_begin): none comes or goes
 *   the index as a crash would leave it         of records below the end, since that only comes now: the rest is replayed from the log
 *   the log begins a new segment                the fork ends there: what it links is complete, and nobody appends to it any more
 *   links to segments below, archive, packs
 *   an empty segment at the end                 so that none of the others is the fork's last one, which an open would shorten, or append to
 *   retained set, superblocks                   with them it is a store
 * Then whoever asked opens it, which makes the record of its epoch, restores what it shall be, and gives it its name.
 */
#include "store/core/fork.h"

#include "store/core/branch.h"
#include "store/core/core_internal.h"
#include "store/core/moment.h"
#include "store/core/part.h"
#include "store/core/role.h"
#include "store/core/standby.h"
#include "store/log/segment.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIR_PATH = FORK_NAME_MAX + 40, FILE_PATH = DIR_PATH + 80 };

/* From a branch, a directory of the store around it, to that store: its forks are that store's. */
static const char up_of_branch[] = "../../";

/* ---- names ---- */

int fork_name_check(const char *name, struct err *err)
{
    static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t n = strlen(name);

    if (n == 0 || n > FORK_NAME_MAX || strspn(name, chars) != n || *name == '.' || *name == '-' || strcmp(name, "list") == 0 || strcmp(name, "remove") == 0 ||
        (n >= 5 && strcmp(name + n - 5, ".part") == 0))
        return err_set(err, ERR_USAGE, "%.120s: expected the name of a fork: 1 to %d letters, digits, '.', '_' or '-', not beginning with '.' or '-', not ending in .part, "
                       "neither list nor remove", name, FORK_NAME_MAX);
    return 0;
}

/* ${forks}, and ${part}, empty, with its lock. */
static int begin(struct io *io, const char *forks, const char *path, const char *part, struct io_file **lock, struct err *err)
{
    int rc = io_mkdir(io, forks, err);

    if (rc == 0 || rc == ERR_EXIST)
        rc = io_there(io, path, err);
    if (rc > 0)
        return err_set(err, ERR_EXIST, "%s: expected no fork of that name, found one; `spare fork remove` takes it away", path);
    return rc < 0 ? rc : part_begin(io, part, lock, err);
}

/* ---- where it ends ---- */

struct last { uint64_t first; };

static int last_segment(void *arg, const struct log_segment_info *i)
{
    ((struct last *)arg)->first = i->first;
    return 0;
}

/* The place up to which the fork has all, and its last record. */
static int find_end(struct store *s, struct history_place *p, uint64_t *paused_ns, struct err *err)
{
    struct last last = { 0 };
    uint64_t begun = io_boot_ns(s->io);
    int rc;

    if (!s->opt.writable) {              /* a branch: it has ended long ago */
        p->end = log_head(s->log);
        log_last(s->log, &p->lsn, &p->hash);
        return 0;
    }
    rc = store_roll(s, err);
    *paused_ns = io_boot_ns(s->io) - begun;
    if (rc < 0)
        return rc;
    (void)log_segments(s->log, last_segment, &last);
    rc = log_wait_written(s->log, last.first - 1);
    if (rc < 0)
        return err_set(err, rc, "log: a write failed");
    rc = store_sync(s, err);
    if (rc == 0)
        rc = history_before(s->history, last.first, p, err);
    if (rc == 0 && p->end != last.first)
        rc = err_set(err, ERR_DAMAGE, "log: expected the record @%" PRIu64 " to end @%" PRIu64 ", where a segment begins, found its end @%" PRIu64, p->lsn, last.first, p->end);
    return rc;
}

/* ---- what it is made of ---- */

static int write_segment(struct io *io, const char *part, const struct super *sb, const struct history_place *p, uint64_t gen, struct err *err)
{
    const struct epoch_row *e = &sb->epochs[sb->n_epochs - 2];   /* that of the place: its own begins with the next record */
    struct segment_header h = { .version = FORMAT_VERSION, .version_min = FORMAT_VERSION_MIN, .hash_alg = sb->hash_alg, .key_id = sb->key_id, .gen = gen, .first = p->end, .cut = p->end,
                                .epoch = e->number, .incarnation = sb->incarnation, .prev_gen = gen - 1, .prev_first = LOG_FIRST_ADDR, .prev_lsn = p->lsn, .prev_hash = p->hash,
                                .created_wall_ns = sb->created_wall_ns };
    uint8_t buf[SEGMENT_HEADER_BYTES];
    char name[SEGMENT_NAME_MAX], path[FILE_PATH];
    int rc;

    memcpy(h.lineage, sb->lineage, 16);
    memcpy(h.site, sb->site, 16);
    memcpy(h.epoch_id, e->id, 16);
    segment_header_encode(&h, buf);
    segment_name(h.first, h.gen, name);
    snprintf(path, sizeof path, "%s/%s", part, name);
    rc = branch_write_file(io, path, buf, sizeof buf, err);
    snprintf(path, sizeof path, "%s/log", part);
    return rc < 0 ? rc : io_syncdir(io, path, err);
}

/* What is kept of the past, by its own lineage. Who is in a moment of the other store is not in one of this. */
static int write_retained(struct store *s, const char *part, const struct super *sb, const struct history_place *p, struct err *err)
{
    struct retained r = { 0 };
    uint8_t *buf = malloc(RETAINED_FILE_MAX);
    size_t len = 0;
    uint32_t n = 0;
    int rc = buf != NULL ? store_retained(s, &r, err) : err_set(err, ERR_NOMEM, "fork: out of memory");

    for (uint32_t i = 0; rc == 0 && i < r.n; i++)
        if (r.point[i].kind != RETAIN_PIN)
            r.point[n++] = r.point[i];
    if (rc == 0) {
        r.n = n;
        rewind_cut_set(&r, p->end);
        len = retained_encode(&r, sb->lineage, buf, RETAINED_FILE_MAX);
        rc = len > 0 ? branch_write_pair(s->io, part, "retained", buf, len, err) : err_set(err, ERR_INVAL, "fork: a retained set that does not fit");
    }
    retained_release(&r);
    free(buf);
    return rc;
}

/* (Where the settings are full it is not known, and nothing depends on it.) */
void fork_mark(struct super *sb, uint64_t lsn)
{
    static const char *const others[] = { "import", "scrub-at", BRANCH_PARTED, FORK_PARTED };
    char text[24];

    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        (void)super_config_set(sb, others[i], NULL, NULL);
    snprintf(text, sizeof text, "%" PRIu64, lsn);
    (void)super_config_set(sb, FORK_PARTED, text, NULL);
}

/* Who it is: a primary with a site and a lineage of its own, from its end on. */
static int fill_super(struct store *s, const char *part, const struct history_place *p, struct super *sb, struct err *err)
{
    struct store_place place;
    struct epoch_row *e;
    struct io_stat st;
    int rc;

    pthread_mutex_lock(&s->mark_lock);
    super_copy(sb, &s->sb);
    pthread_mutex_unlock(&s->mark_lock);
    sb->n_epochs = epoch_held(sb->epochs, sb->n_epochs, p->end);
    if (super_epochs_left(sb->n_epochs) == 0)            /* nothing could follow it */
        return identity_full(s->dir, sb->n_epochs, err);
    if (sb->epochs[sb->n_epochs - 1].number >= INT32_MAX)
        return err_set(err, ERR_NOSPC, "store: an epoch of number %" PRIu32 " is known, after which there is none", sb->epochs[sb->n_epochs - 1].number);
    rc = identity_place(s->io, s->dir, &place, err);
    if (rc == 0)
        rc = io_stat_path(s->io, part, &st, err);
    if (rc < 0)
        return rc;
    place.dev = s->dir != NULL ? st.dev : 0;
    place.ino = s->dir != NULL ? st.ino : 0;
    identity_put_place(sb, &place);
    io_random(s->io, sb->site, 16);
    io_random(s->io, sb->lineage, 16);
    e = &sb->epochs[sb->n_epochs++];
    *e = (struct epoch_row){ .number = e[-1].number + 1, .first_lsn = p->end, .prev_hash = p->hash };
    memcpy(e->site, sb->site, 16);
    memcpy(e->lineage, sb->lineage, 16);
    io_random(s->io, e->id, 16);
    sb->role = ROLE_PRIMARY;
    sb->clean = 1;
    sb->durable = p->end;
    sb->last_lsn = p->lsn;
    sb->last_hash = p->hash;
    sb->segment_gen = log_newest(s->log) + 1;
    sb->created_wall_ns = io_wall_ns(s->io);
    role_alone(sb);
    fork_mark(sb, p->lsn);
    return 0;
}

static int write_super(struct io *io, const char *part, const struct super *sb, struct err *err)
{
    uint8_t *buf = malloc(SUPER_FILE_MAX);
    int rc;

    if (buf == NULL)
        return err_set(err, ERR_NOMEM, "fork: out of memory");
    rc = branch_write_pair(io, part, "super", buf, super_encode(sb, buf), err);
    free(buf);
    return rc;
}

static int checkpoint(struct store *s, const char *part, struct err *err)
{
    char path[PATH_MAX];

    if (s->dir == NULL || s->kv->ops->checkpoint == NULL)    /* (a test's:) it makes its own */
        return 0;
    if (snprintf(path, sizeof path, "%s/%s/index", s->dir, part) >= (int)sizeof path)
        return err_set(err, ERR_NAMETOOLONG, "%s: the path is too long", s->dir);
    return s->kv->ops->checkpoint(s->kv, path, err);
}

static int count_one(void *arg, const char *name)
{
    (void)name;
    ++*(uint64_t *)arg;
    return 0;
}

static int fill(struct store *s, const char *part, struct fork *out, struct super *sb, struct err *err)
{
    static const char *const dirs[] = { "log", "archive", "packs" };
    struct history_place p = { 0 };
    char path[FILE_PATH];
    int rc = checkpoint(s, part, err);

    if (rc == 0)
        rc = find_end(s, &p, &out->paused_ns, err);
    if (rc == 0)
        rc = fill_super(s, part, &p, sb, err);
    for (size_t i = 0; rc == 0 && i < sizeof dirs / sizeof *dirs; i++) {
        rc = branch_link_all(s->io, dirs[i], part, p.end, err);
        snprintf(path, sizeof path, "%s/%s", part, dirs[i]);
        if (rc == 0)
            rc = io_list(s->io, path, count_one, &out->links, err);
    }
    if (rc == 0 && !s->opt.writable)     /* which others may remove meanwhile */
        rc = part_there(s->io, err);
    if (rc == 0)
        rc = write_segment(s->io, part, sb, &p, sb->segment_gen, err);
    if (rc == 0)
        rc = write_retained(s, part, sb, &p, err);
    if (rc == 0)
        rc = write_super(s->io, part, sb, err);
    if (rc == 0)
        rc = io_syncdir(s->io, part, err);
    out->lsn = p.lsn;
    return rc;
}

/* Where a branch lies in the store around it. */
static int look_up(struct store *s, struct err *err)
{
    int rc = io_there(s->io, "../../super.0", err);

    if (rc == 0)
        rc = io_there(s->io, "../../super.1", err);
    if (rc == 0)
        rc = err_set(err, ERR_INVAL, "%s: expected a branch inside of its store, in branches/, found it moved out of there", s->dir != NULL ? s->dir : "store");
    return rc < 0 ? rc : 0;
}

int store_fork(struct store *s, const char *name, struct fork *out, struct err *err)
{
    struct super *sb = malloc(sizeof *sb);
    struct io_file *lock = NULL;
    const char *up = store_role(s) == ROLE_BRANCH ? up_of_branch : "";
    char forks[16], path[DIR_PATH], part[DIR_PATH], at[24];
    int rc = sb != NULL ? fork_name_check(name, err) : err_set(err, ERR_NOMEM, "fork: out of memory");

    memset(out, 0, sizeof *out);
    snprintf(forks, sizeof forks, "%sforks", up);
    snprintf(path, sizeof path, "%s/%s", forks, name);
    snprintf(part, sizeof part, "%s/%s.part", forks, name);
    if (rc == 0 && !s->opt.writable && store_role(s) != ROLE_BRANCH)
        rc = err_set(err, ERR_ROFS, "%s: the store is open read-only", s->dir != NULL ? s->dir : "store");
    if (rc == 0 && *up != '\0')
        rc = look_up(s, err);
    if (rc == 0 && s->opt.writable)
        rc = store_flush(s, err);        /* so that little has to be replayed */
    if (rc == 0)
        rc = role_holds_tree(s, err);
    if (rc < 0) {
        free(sb);
        return rc;
    }
    store_maint_begin(s);
    rc = begin(s->io, forks, path, part, &lock, err);
    if (rc == 0)
        rc = fill(s, part, out, sb, err);
    if (rc == 0)
        rc = io_syncdir(s->io, forks, err);
    if (rc == 0)
        rc = io_syncdir(s->io, *up ? "../.." : ".", err);
    store_maint_end(s);
    if (lock != NULL)
        io_close(lock);
    memcpy(out->site, sb->site, 16);
    snprintf(at, sizeof at, "@%" PRIu64, out->lsn);
    if (rc == 0)
        rc = moment_resolve(s, at, &out->moment, err);
    free(sb);
    return rc;
}

/* ---- named, and removed ---- */

/* With its lock: both superblocks are those that ${site} made. */
static int is_of(struct io *io, const char *part, const uint8_t site[16], struct err *err)
{
    struct super *sb = malloc(sizeof *sb);
    char file[FILE_PATH];
    bool ours = true;
    int rc = sb != NULL ? 0 : err_set(err, ERR_NOMEM, "fork: out of memory");

    for (int i = 0; i < 2 && rc == 0 && ours; i++) {
        snprintf(file, sizeof file, "%s/super.%d", part, i);
        rc = super_read_file(io, file, sb, err);
        ours = rc == 0 && memcmp(sb->site, site, 16) == 0;
    }
    if (rc == ERR_NOENT || (rc == 0 && !ours))
        rc = err_set(err, ERR_BUSY, "%s: expected what was made just now, found that another try of that name took its place", part);
    free(sb);
    return rc;
}

int store_fork_finish(struct io *io, const char *name, const uint8_t site[16], struct err *err)
{
    char path[DIR_PATH], part[DIR_PATH];
    struct io_file *lock = NULL;
    int rc = fork_name_check(name, err);

    snprintf(path, sizeof path, "forks/%s", name);
    snprintf(part, sizeof part, "forks/%s.part", name);
    if (rc == 0 && (rc = io_there(io, path, err)) > 0)
        rc = err_set(err, ERR_EXIST, "%s: expected no fork of that name, found one that was made meanwhile", path);
    if (rc == 0 && (rc = part_lock(io, part, &lock, err)) == ERR_NOENT)
        rc = err_set(err, ERR_BUSY, "%s: expected what was made just now, found it removed", part);
    if (rc == ERR_LOCKED)
        rc = err_set(err, ERR_BUSY, "%s: expected what was made just now, found another try of that name at it", part);
    if (rc == 0)
        rc = is_of(io, part, site, err);
    if (rc == 0)
        rc = io_rename(io, part, path, err);
    if (lock != NULL)
        io_close(lock);
    return rc < 0 ? rc : io_syncdir(io, "forks", err);
}

int store_fork_remove(struct io *io, const char *name, struct err *err)
{
    int rc = fork_name_check(name, err);

    return rc < 0 ? rc : part_remove(io, "forks", name, "fork", err);
}
