/* part.c: see part.h. */
#include "store/core/part.h"

#include <stdio.h>
#include <string.h>

/* TREE_DEPTH: a fork has branches of its own, and these an index. */
enum { PATH_BYTES = 300, FILE_BYTES = PATH_BYTES + 16, NAME_BYTES = 256, TREE_PATH = 600, TREE_DEPTH = 4 };

static const char lock_name[] = "lock";
static const char *const supers[] = { "super.0", "super.1" };

int part_lock(struct io *io, const char *path, struct io_file **lock, struct err *err)
{
    char file[FILE_BYTES];

    snprintf(file, sizeof file, "%s/%s", path, lock_name);
    return io_lock(io, file, lock, err);
}

/* ---- going ---- */

struct sweep { struct io *io; const char *path; int depth; bool locked; struct err *err; };

static int remove_file(struct io *io, const char *path, struct err *err)
{
    struct err why = { 0 };
    int rc = io_unlink(io, path, &why);

    return rc == 0 || rc == ERR_NOENT ? 0 : err_set(err, rc, "%s", why.msg);
}

static int remove_entry(void *arg, const char *name)
{
    struct sweep *d = arg;
    char path[TREE_PATH];
    struct io_stat st;
    struct err why = { 0 };
    int rc;

    if (strcmp(name, lock_name) == 0) {
        d->locked = true;
        return 0;
    }
    if (snprintf(path, sizeof path, "%s/%s", d->path, name) >= (int)sizeof path)
        return err_set(d->err, ERR_NAMETOOLONG, "%s: the path is too long", d->path);
    rc = io_stat_path(d->io, path, &st, &why);
    if (rc == ERR_NOENT)
        return 0;
    if (rc < 0)
        return err_set(d->err, rc, "%s", why.msg);
    return st.is_dir && d->depth > 0 ? part_remove_tree(d->io, path, d->depth - 1, d->err) : remove_file(d->io, path, d->err);
}

int part_remove_tree(struct io *io, const char *path, int depth, struct err *err)
{
    struct err why = { 0 };
    struct sweep d = { io, path, depth, false, &why };
    char lock[TREE_PATH];
    int rc = io_list(io, path, remove_entry, &d, &why);

    if (rc == ERR_NOENT)
        return 0;
    if (rc < 0)
        return err_set(err, rc, "%s", why.msg);
    snprintf(lock, sizeof lock, "%s/%s", path, lock_name);
    if (d.locked && (rc = remove_file(io, lock, err)) < 0)
        return rc;
    return remove_file(io, path, err);
}

/* With its lock. No superblock is there before anything else goes: what is left is no store, and part_there says so. */
static int remove_part(struct io *io, const char *part, struct err *err)
{
    char path[FILE_BYTES];
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < sizeof supers / sizeof *supers; i++) {
        snprintf(path, sizeof path, "%s/%s", part, supers[i]);
        rc = remove_file(io, path, err);
    }
    return rc < 0 ? rc : part_remove_tree(io, part, TREE_DEPTH, err);
}

int part_there(struct io *io, struct err *err)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < sizeof supers / sizeof *supers; i++)
        rc = io_there(io, supers[i], err);
    if (rc < 0)
        return rc;
    return rc > 0 ? 0 : err_set(err, ERR_NOENT, "expected a store, found that it is being removed");
}

/* What is left of a try; 1: there was something. */
static int remove_left(struct io *io, const char *part, struct err *err)
{
    struct io_file *lock = NULL;
    int rc = io_there(io, part, err);

    if (rc <= 0)
        return rc;
    rc = part_lock(io, part, &lock, err);
    if (rc == 0) {
        rc = remove_part(io, part, err);
        io_close(lock);
    }
    return rc < 0 ? rc : 1;
}

static int first_entry(void *arg, const char *name)
{
    snprintf(arg, NAME_BYTES, "%s", name);
    return 1;
}

/* With its lock. */
static int unname(struct io *io, const char *in, const char *path, const char *part, const char *word, struct err *err)
{
    char file[FILE_BYTES], found[NAME_BYTES] = "";
    struct err why = { 0 };
    int rc;

    snprintf(file, sizeof file, "%s/forks", path);
    rc = io_list(io, file, first_entry, found, &why);
    if (rc == 1)
        return err_set(err, ERR_NOTEMPTY, "%s: expected a %s without forks of its own, found %s; remove that first: spare fork remove %s STORE/%s", path, word, found, found, path);
    if (rc < 0 && rc != ERR_NOENT)
        return err_set(err, rc, "%s", why.msg);
    rc = io_rename(io, path, part, err);
    return rc < 0 ? rc : io_syncdir(io, in, err);
}

int part_remove(struct io *io, const char *in, const char *name, const char *word, struct err *err)
{
    char path[PATH_BYTES], part[PATH_BYTES];
    struct io_file *lock = NULL;
    int rc, left;

    snprintf(path, sizeof path, "%s/%s", in, name);
    snprintf(part, sizeof part, "%s/%s.part", in, name);
    rc = left = remove_left(io, part, err);
    if (rc >= 0 && (rc = io_there(io, path, err)) == 0)
        return left ? io_syncdir(io, in, err) : err_set(err, ERR_NOENT, "%s: expected a %s, found none of that name; `spare %s list` shows them", name, word, word);
    if (rc > 0)
        rc = part_lock(io, path, &lock, err);
    if (rc == 0)
        rc = unname(io, in, path, part, word, err);
    if (rc == 0)
        rc = remove_part(io, part, err);
    if (lock != NULL)
        io_close(lock);
    return rc < 0 ? rc : io_syncdir(io, in, err);
}

/* ---- in the making ---- */

int part_begin(struct io *io, const char *part, struct io_file **lock, struct err *err)
{
    int rc = remove_left(io, part, err);

    *lock = NULL;
    if (rc >= 0)
        rc = io_mkdir(io, part, err);
    if (rc == 0 && (rc = part_lock(io, part, lock, err)) == ERR_NOENT)
        rc = ERR_LOCKED;                 /* gone again */
    return rc == ERR_LOCKED || rc == ERR_EXIST ? err_set(err, ERR_BUSY, "%s: expected nobody who makes or removes it, found one at it", part) : rc;
}
