/*
 * past_list.h: a listing of moments: what `.snapshots` shows, at the root and elsewhere.
 *
 * Names of snapshots and of times, all symlinks; at the root branches behind them, directories. A listing is made anew for each READDIR; cookies come from the LSN, so that what
 * is added or goes meanwhile neither hides nor repeats another entry.
 *
 * Threads: any; blocks.
 */
#ifndef FS_PAST_LIST_H
#define FS_PAST_LIST_H

#include "fs/fs.h"

/*
 * past_list_reply(fs, req, dir, ino, up, size, off, plus): answer READDIR, or READDIRPLUS where ${plus}, with at most ${size} bytes (<=
 * SHIM_MAX_WRITE_BYTES, put into scratch()). ${ino} and ${up} are the st_ino of "." and "..". ${dir} 0: all moments; else an
 * inode: those at which it existed.
 */
void past_list_reply(const struct fs *fs, fuse_req_t req, uint64_t dir, uint64_t ino, uint64_t up, size_t size, uint64_t off,
                     bool plus);

/* past_link_ino(lsn): st_ino of the symlinks to a moment. */
uint64_t past_link_ino(uint64_t lsn);

#endif
