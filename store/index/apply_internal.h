/* apply_internal.h: shared by the files of apply. See index.h. */
#ifndef STORE_INDEX_APPLY_INTERNAL_H
#define STORE_INDEX_APPLY_INTERNAL_H

#include "store/index/index.h"

struct apply {                     /* one record being applied */
    struct index *ix;
    const struct record *rec;
    uint64_t lsn;
    struct rec_time now;           /* the record's clock */
    struct err *err;
};

/* touch: the inode's row, with its old state in history, born at this LSN. NULL row: STALE/DAMAGE. */
int apply_touch(struct apply *a, uint64_t ino, struct crow **out);
/* history of an inode's row as it is now, ending at this LSN. */
void apply_ino_history(struct apply *a, const struct crow *row);
/* apply_kept(a, ino, birth): what was there since ${birth} and ends with this record leaves a row of the past: it is not of the time since when the inode is hidden. */
static inline bool apply_kept(const struct apply *a, const struct crow *ino, uint64_t birth)
{
    uint64_t upto = ino->u.ino.row.hidden != 0 ? ino->u.ino.row.hidden : a->lsn;

    return birth < upto;
}
int apply_damage(struct apply *a, const char *what, uint64_t ino);
void apply_put(struct apply *a, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen);
void apply_del(struct apply *a, const uint8_t *key, size_t klen);

/* names (apply_names.c) */
int apply_create(struct apply *a);
int apply_link(struct apply *a);
int apply_unlink(struct apply *a);
int apply_rename(struct apply *a);
int apply_reap(struct apply *a);

/* attributes and xattrs (apply_attr.c) */
int apply_setattr(struct apply *a);
int apply_setxattr(struct apply *a);
int apply_removexattr(struct apply *a);
int apply_put_xattr(struct apply *a, struct crow *ino, const struct rec_bytes *name, const struct rec_bytes *value);
int apply_del_xattr(struct apply *a, struct crow *ino, const void *name, size_t nlen);
/* apply_drop_xattrs: of an inode that goes: those that were never of the past. */
int apply_drop_xattrs(struct apply *a, struct crow *ino);
/* clears suid, sgid and security.capability after a change of content or owner. */
int apply_kill_priv(struct apply *a, struct crow *ino);

/* content (apply_map.c) */
int apply_write(struct apply *a);
int apply_rewrite(struct apply *a);
int apply_clone(struct apply *a);
int apply_fallocate(struct apply *a);
/* sets the size, dropping what lies beyond it. */
int apply_resize(struct apply *a, struct crow *ino, uint64_t size);
/* apply_drop_map: the map ends; its rows go, unless the past may name them: then they stay for it. */
int apply_drop_map(struct apply *a, const struct crow *ino);

#endif
