/*
 * anew.c: see anew.h.
 *
 * In this order, each step durable before the next; a crash behind a step leaves:
 *   all of it linked into branches/NAME, the index moved there      the store of before, its index made anew at the next open, and the branch
 *   the setting `anew` in both superblocks                          from here on whoever opens it to write does the rest:
 *   log, archive, packs of incoming/ in place of those here; its retained set
 *   both superblocks written with what incoming/ says, without the setting
 *   incoming/ removed                                               (it has no meaning any more)
 */
#include "store/core/anew.h"

#include "store/core/branch.h"
#include "store/core/core_internal.h"
#include "store/core/part.h"
#include "store/core/standby.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char anew_key[] = "anew";
static const char incoming_super[] = ANEW_DIR "/super.0";

/* Its superblocks last: as long as one is there, what is left is not taken for a new store in the making. */
static int clear(struct io *io, struct err *err)
{
    static const char *const dirs[] = { "index", "log", "archive", "packs" };
    char path[64];
    int rc = io_there(io, ANEW_DIR, err);

    if (rc <= 0)
        return rc;
    rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof dirs / sizeof *dirs; i++) {
        snprintf(path, sizeof path, ANEW_DIR "/%s", dirs[i]);
        rc = part_remove_tree(io, path, 0, err);
    }
    if (rc == 0)
        rc = io_syncdir(io, ANEW_DIR, err);
    return rc < 0 ? rc : part_remove_tree(io, ANEW_DIR, 1, err);
}

int anew_begin(struct io *io, struct err *err)
{
    int rc = io_there(io, incoming_super, err);

    if (rc == 0)
        rc = io_there(io, ANEW_DIR "/super.1", err);
    if (rc > 0)
        rc = clear(io, err);
    if (rc == 0)
        rc = io_mkdir(io, ANEW_DIR, err);
    if (rc == ERR_EXIST)
        rc = 0;
    return rc < 0 ? rc : io_syncdir(io, ".", err);
}

bool anew_pending(const struct super *sb)
{
    char buf[16];

    return super_config_get(sb, anew_key, buf, sizeof buf) > 0;
}

static int read_incoming(struct io *io, struct super *sb, struct err *err)
{
    struct err first = { 0 };
    int rc = super_read_file(io, incoming_super, sb, &first);

    return rc == 0 || super_read_file(io, ANEW_DIR "/super.1", sb, NULL) == 0 ? 0 : err_set(err, rc, "%s", first.msg);
}

/* One directory of the new store in place of the old one, whose files are a branch's by now. */
static int take_dir(struct io *io, const char *name, struct err *err)
{
    char from[64];
    int rc;

    snprintf(from, sizeof from, ANEW_DIR "/%s", name);
    rc = io_there(io, from, err);
    if (rc <= 0)                         /* 0: moved already */
        return rc;
    rc = part_remove_tree(io, name, 0, err);
    if (rc == 0)
        rc = io_rename(io, from, name, err);
    return rc;
}

static int take_file(struct io *io, const char *name, struct err *err)
{
    char from[64];
    int rc;

    snprintf(from, sizeof from, ANEW_DIR "/%s", name);
    rc = io_there(io, from, err);
    return rc > 0 ? io_rename(io, from, name, err) : rc;
}

/* What it is and where stays; what it holds is new. */
static int take_super(struct io *io, struct super *sb, struct err *err)
{
    struct super *in = malloc(sizeof *in);
    int rc = in != NULL ? read_incoming(io, in, err) : err_set(err, ERR_NOMEM, "store: out of memory");

    if (rc == 0) {
        memcpy(in->site, sb->site, 16);
        memcpy(in->machine, sb->machine, 16);
        in->dev = sb->dev;
        in->ino = sb->ino;
        in->gen = sb->gen;
        in->current = sb->current;
        in->config_len = sb->config_len;
        memcpy(in->config, sb->config, sizeof in->config);
        standbys_cut(in, in->durable);
        (void)super_config_set(in, "scrub-at", NULL, NULL);
        rc = super_config_set(in, anew_key, NULL, err);
        if (rc == 0)
            rc = super_config_set(in, "lacking-from", NULL, err);
    }
    if (rc == 0)
        super_copy(sb, in);
    free(in);
    if (rc == 0)
        rc = super_write(io, sb, err);
    return rc < 0 ? rc : super_write(io, sb, err);
}

int anew_finish(struct io *io, struct super *sb, struct err *err)
{
    static const char *const dirs[] = { "log", "archive", "packs" }, *const files[] = { "retained.0", "retained.1" };
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < sizeof dirs / sizeof *dirs; i++)
        rc = take_dir(io, dirs[i], err);
    for (size_t i = 0; rc == 0 && i < sizeof files / sizeof *files; i++)
        rc = take_file(io, files[i], err);
    if (rc == 0 && (rc = io_there(io, "index", err)) > 0)   /* made since, of what was here */
        rc = part_remove_tree(io, "index", 1, err);
    if (rc == 0)
        rc = io_syncdir(io, ".", err);   /* first where they came to: cut off between, they must not be in neither */
    if (rc == 0)
        rc = io_syncdir(io, ANEW_DIR, err);
    if (rc == 0)
        rc = take_super(io, sb, err);
    return rc < 0 ? rc : clear(io, err);
}

/* Both are of one lineage, the one a standby that was closed, the other whole. */
static int look(struct io *io, const char *dir, struct super *sb, struct super *in, struct err *err)
{
    const char *name = dir != NULL ? dir : "store";
    int rc = super_read(io, sb, NULL, err);

    if (rc == 0)
        rc = super_writable(sb, err);
    if (rc == 0 && (sb->role != ROLE_STANDBY || !sb->clean || anew_pending(sb) || rewind_pending(sb)))
        rc = err_set(err, ERR_INVAL, "%s: expected a standby that was closed cleanly, found role %" PRIu32 "%s", name, sb->role, sb->clean ? "" : ", not closed");
    if (rc == 0 && (rc = io_there(io, ANEW_DIR "/super.1", err)) >= 0)
        rc = rc > 0 ? 0 : err_set(err, ERR_INVAL, "%s: expected a store that was made in " ANEW_DIR "/, found none", name);
    if (rc == 0)
        rc = read_incoming(io, in, err);
    if (rc == 0 && memcmp(in->lineage, sb->lineage, 16) != 0)
        rc = err_set(err, ERR_INVAL, "%s: what was made in " ANEW_DIR "/ is of another lineage", name);
    return rc;
}

/*
 * The last record that both have; where its moment is not whole any more the last one before it that is: what both have is then part of what the branch tells. 0: not known.
 */
static uint64_t parted(struct io *io, const struct super *sb, const struct super *in, uint64_t both)
{
    uint64_t end = 0, lsn = rewind_common(io, sb, epoch_fork(sb->epochs, sb->n_epochs, sb->durable, in->epochs, in->n_epochs, in->durable), &end), found = 0;
    struct retained r = { 0 };

    if (lsn > both) {                    /* epochs say where they part at the latest: one that was set back to an image parts below */
        lsn = both;
        end = lsn + 1;                   /* (where that record ends nobody said) */
    }
    if (lsn == 0 || retained_read(io, sb->lineage, NULL, &r, NULL, NULL) < 0)
        return 0;
    if (end > r.horizon)                 /* the moment lasts until the next record */
        found = lsn;
    for (uint32_t i = 0; i < r.n && found != lsn; i++)
        if (r.point[i].lsn <= lsn)
            found = r.point[i].lsn;
    retained_release(&r);
    return found;
}

int store_anew(struct io *io, const char *dir, uint64_t both, char branch[BRANCH_NAME_MAX], struct err *err)
{
    struct super *sb = malloc(sizeof *sb), *in = malloc(sizeof *in);
    struct io_file *lock = NULL;
    int rc = sb != NULL && in != NULL ? io_lock(io, "lock", &lock, err) : err_set(err, ERR_NOMEM, "store: out of memory");

    branch[0] = '\0';
    if (rc == 0)
        rc = look(io, dir, sb, in, err);
    if (rc == 0)
        rc = branch_make(io, dir, sb, rewind_last_clock(io, sb), parted(io, sb, in, both), branch, err);
    if (rc == 0)
        rc = super_config_set(sb, anew_key, "begun", err);
    if (rc == 0)
        rc = super_write(io, sb, err);
    if (rc == 0)
        rc = super_write(io, sb, err);
    if (rc == 0)
        rc = anew_finish(io, sb, err);
    if (lock != NULL)
        io_close(lock);
    free(sb);
    free(in);
    return rc;
}
