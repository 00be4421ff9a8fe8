/*
 * recover.h: a new worker takes over what a dead one had in its hands.
 */
#ifndef FS_RECOVER_H
#define FS_RECOVER_H

#include "fs/fs.h"

struct recover_stats { unsigned found, answered, redone, given_up; };

/*
 * recover_requests(fs, stats): each request in the shared memory that may be unanswered, in the order the kernel sent them: a
 * failure that was about to be answered is answered; one whose record is in the log is answered from the record, not done twice;
 * one seen in MEM_CRASHES_MAX crashes gets EIO; all others are dispatched again. An answer too many does no harm:
 * the kernel refuses it. Before the loop and the pool start; the session is attached and continued.
 */
void recover_requests(struct fs *fs, struct recover_stats *stats);

#endif
