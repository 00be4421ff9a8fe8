/*
 * snapdir.h: the name of the past (".snapshots") in the directories of the live session.
 *
 * At the root it is a symlink to where the read-only session is mounted (past.h); in any other directory a
 * directory whose entries are symlinks into that. Their nodes are not in the store: ids with bit 62 or 61 set (FS_NODE_SNAP).
 * A handler of the live session hands over everything that concerns such a node, or the name, having called op_begin; the
 * function replies. What would change one is answered EROFS before it comes here.
 *
 * Threads: several at once (the loop and the pool).
 */
#ifndef FS_SNAPDIR_H
#define FS_SNAPDIR_H

#include "fs/fs.h"

/* snapdir_new(fs, err): makes fs->snapdir; after the store was opened. snapdir_free accepts NULL. */
int  snapdir_new(struct fs *fs, struct err *err);
void snapdir_free(struct snapdir *d);

/* snapdir_lookup: ${parent} an inode and ${name} the name of the past, or ${parent} one of its nodes. */
void snapdir_lookup(struct op *op, uint64_t parent, const char *name);
void snapdir_getattr(struct op *op, uint64_t node);
void snapdir_readlink(struct op *op, uint64_t node);
/* snapdir_readdir: READDIR, or READDIRPLUS where ${plus}. At most ${size} bytes. */
void snapdir_readdir(struct op *op, uint64_t node, size_t size, uint64_t off, bool plus);
void snapdir_forget(struct fs *fs, uint64_t node, uint64_t n);

#endif
