/* version_path.c: paths to inodes and back. */
#include "store/core/version_internal.h"

#include "store/core/nohistory.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

bool path_next(const char **path, const char **name, size_t *len)
{
    const char *p = *path;
    for (;;) {
        while (*p == '/')
            p++;
        *name = p;
        while (*p != '\0' && *p != '/')
            p++;
        *len = (size_t)(p - *name);
        *path = p;
        if (*len == 0)
            return false;
        if (*len != 1 || (*name)[0] != '.')
            return true;
    }
}

int store_walk(struct store *s, uint64_t at, const char *path, uint64_t *ino, struct row_ino *row, struct err *err)
{
    const char *p = path, *name;
    struct row_ino own = { 0 }, *r = row != NULL ? row : &own;
    uint64_t here = INO_ROOT;
    size_t len;
    int rc = store_getattr(s, at, here, r, NULL);
    while (rc == 0 && path_next(&p, &name, &len)) {
        if (len == 2 && memcmp(name, "..", 2) == 0)
            return err_set(err, ERR_INVAL, "%s: expected a path without \"..\"", path);
        rc = S_ISDIR(r->mode) ? store_lookup(s, at, here, name, len, &here, r, NULL) : ERR_NOTDIR;
        if (rc == ERR_NOENT && at != AT_LIVE && nohistory_explain(s, path, err) != 0)
            return rc;
        if (rc < 0)
            return err_set(err, rc, "%.*s: %s%s", (int)(p - path), path, err_text(rc), at == AT_LIVE ? "" : " at that moment");
    }
    if (rc < 0)
        return err_set(err, rc == ERR_STALE ? ERR_NOENT : rc, "%s: %s", *path != '\0' ? path : "/",
                       rc == ERR_STALE ? "the tree does not exist at that moment" : err_text(rc));
    if (ino != NULL)
        *ino = here;
    return 0;
}

/* Some name of an inode. */
struct found { uint64_t parent; char name[256]; size_t len; bool any; };

static int first_parent(void *arg, uint64_t parent, const char *name, size_t nlen)
{
    struct found *f = arg;
    if (nlen >= sizeof f->name)
        return 0;
    f->parent = parent;
    memcpy(f->name, name, nlen);
    f->len = nlen;
    f->any = true;
    return 1;
}

int store_path(struct store *s, uint64_t at, uint64_t ino, char *buf, size_t cap, struct err *err)
{
    size_t pos = cap;                    /* built from the end */
    if (cap == 0)
        return err_set(err, ERR_RANGE, "a path without room for it");
    buf[--pos] = '\0';
    for (uint64_t here = ino; here != INO_ROOT;) {
        struct found f = { 0 };
        int rc = store_parents(s, at, here, first_parent, &f, NULL);
        if (rc == ERR_STALE || (rc == 0 && !f.any))
            return err_set(err, ERR_NOENT, "inode %" PRIu64 ": it has no name%s", ino, at == AT_LIVE ? "" : " at that moment");
        if (rc < 0)
            return err_set(err, rc, "inode %" PRIu64 ": %s", ino, err_text(rc));
        /* every step takes at least two bytes, so names in a circle end here too */
        if (f.len + (pos != cap - 1) > pos)
            return err_set(err, ERR_RANGE, "inode %" PRIu64 ": its path is longer than %zu bytes", ino, cap);
        if (pos != cap - 1)
            buf[--pos] = '/';
        pos -= f.len;
        memcpy(buf + pos, f.name, f.len);
        here = f.parent;
    }
    memmove(buf, buf + pos, cap - pos);
    return 0;
}
