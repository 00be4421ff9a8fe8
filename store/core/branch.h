/*
 * branch.h: what a store had past a fork, kept: branches/NAME, a store of its own, for reading, of hard links to all files the store has now. FORMAT.md, "Branches".
 *
 * Threads, locking: the store is closed, and its lock is the caller's.
 */
#ifndef STORE_CORE_BRANCH_H
#define STORE_CORE_BRANCH_H

#include "store/base/super.h"
#include "store/core/rewind.h"
#include "store/core/store.h"

/* A setting of a branch: the LSN of the last record that the store around it has, too; where the moment behind it was not whole any more, of one before it; missing where none was. */
#define BRANCH_PARTED "parted"

/*
 * branch_make(io, dir, sb, last_ns, parted, name, err): of the store whose superblock is ${sb}; its index goes there. ${last_ns}: when its last record was made: with the host's name that is what the
 * branch is called, *${name}. ${parted}: see BRANCH_PARTED. One that a try before this had made whole is taken as it is. Errors: NOSPC, IO, NOMEM: then the store is as before, but perhaps without an index.
 */
int branch_make(struct io *io, const char *dir, const struct super *sb, int64_t last_ns, uint64_t parted, char name[BRANCH_NAME_MAX], struct err *err);

/*
 * What a fork (fork.h) is made of, too. branch_link_all(io, dir, to, until, err): hard links in ${to}/${dir}, which is made, to the files of ${dir} that have a meaning; of the log those that begin
 * below ${until}. branch_write_file, branch_write_pair(io, in, name, buf, len, err): a new file; both copies of one in ${in}: durable but for their names.
 */
int branch_link_all(struct io *io, const char *dir, const char *to, uint64_t until, struct err *err);
int branch_write_file(struct io *io, const char *path, const uint8_t *buf, size_t len, struct err *err);
int branch_write_pair(struct io *io, const char *in, const char *name, const uint8_t *buf, size_t len, struct err *err);

/*
 * branch_open(store, name, memory, out, io, parted, err): the branch ${name} of the store in that directory, for reading, without its lock: nobody changes one, and others may read it meanwhile. *${parted}: BRANCH_PARTED, 0
 * where it is not known. store_close, then free *${io}. Errors: NOENT there is none of that name; DAMAGE also where it could be read
 * up to some place only; those of store_open.
 * store_branch_remove(io, name, err): of the store's directory: the branch, or what is left of one, goes; as store_fork_remove.
 * branch_name_ok(name): may be one: not that of one in the making, no path.
 */
int  branch_open(const char *store, const char *name, uint64_t memory, struct store **out, struct io **io, uint64_t *parted, struct err *err);
int  store_branch_remove(struct io *io, const char *name, struct err *err);
bool branch_name_ok(const char *name);
/* branch_at_name(at): of a moment's text "@NAME": NAME, which need not be that of a branch; NULL: it is none ("@123" is a record). */
const char *branch_at_name(const char *at);

#endif
