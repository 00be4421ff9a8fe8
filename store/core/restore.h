/*
 * restore.h: bringing the past back, as new operations (never by changing it).
 */
#ifndef STORE_CORE_RESTORE_H
#define STORE_CORE_RESTORE_H

#include "store/core/store.h"

/* left: extra, and not removed, since no history is kept of it (rows.h, `hidden`); blocked: not restored, since such a one has its place; blocked_ino: the first of those. */
struct restore_stats { uint64_t files, dirs, bytes, unchanged, removed, left, blocked, blocked_ino; };

/*
 * restore_path(s, c, at, src, dst, delete_extra, progress, arg, stats, err):
 * Make ${dst} (path in the live tree; created if missing; its parent must exist) what ${src} was at moment ${at}: file,
 * symlink, device or whole tree, with attributes, xattrs, hard links within the tree, sharing extents (CLONE out of the past).
 * An existing file keeps its inode and gets new content; what is there and was not then is removed only with ${delete_extra}.
 * What is hidden now is never touched: it could not be brought back. Nor is the attribute REC_XATTR_NOHISTORY of a directory that is there: what its owner
 * wants today holds.
 * A tree is one series (SERIES_BEGIN/END): no moment resolves inside. The kernel is told through the store's hooks.
 * Errors: NOMOMENT, NOENT, EXIST (a directory where a file was, without delete_extra; what is hidden at ${dst} itself), NOSPC...; what was done stays, and is named.
 */
int restore_path(struct store *s, const struct caller *c, uint64_t at, const char *src, const char *dst, bool delete_extra,
                 void (*progress)(void *arg, const struct restore_stats *st), void *arg,
                 struct restore_stats *stats, struct err *err);

/*
 * restore_branch(s, c, branch, parted, src, dst, ...): the same, of what ${src} was at the last moment of a branch (branch_open), which is another store: bytes are copied, holes stay, and what both had at ${parted}
 * and neither has changed since is left alone. A live file that has other names is replaced, not written into.
 */
int restore_branch(struct store *s, const struct caller *c, struct store *branch, uint64_t parted, const char *src, const char *dst, bool delete_extra,
                   void (*progress)(void *arg, const struct restore_stats *st), void *arg,
                   struct restore_stats *stats, struct err *err);

/*
 * undo_path(s, c, path, redo, err): put back the version before the one that is live; called again, the one before that;
 * ${redo} goes forward again. A deleted name comes back. Never an empty or partial state that no burst ended with.
 * The position is derived from history alone: an undo is a CLONE whose record says so, nothing else is kept.
 * Errors: NOENT no earlier (later) version, or what is there keeps none.
 */
int undo_path(struct store *s, const struct caller *c, const char *path, bool redo, struct err *err);

#endif
