/*
 * part.h: a store inside of a store, forks/NAME or branches/NAME, while it is made, or goes: it is NAME.part then, which has no meaning to anybody else. Whoever makes or removes one holds the lock
 * inside of it, as whoever has the store open does.
 *
 * Threads, locking: none of its own.
 */
#ifndef STORE_CORE_PART_H
#define STORE_CORE_PART_H

#include "store/base/io.h"

/* part_lock(io, path, lock, err): the lock of the store in the directory ${path}: until io_close(*lock). LOCKED; NOENT no such directory. */
int part_lock(struct io *io, const char *path, struct io_file **lock, struct err *err);

/* part_begin(io, part, lock, err): what a try that was cut off left in ${part} goes; it is an empty directory, with its lock. Errors: BUSY somebody else is making it, or removing it; NOSPC, IO. */
int part_begin(struct io *io, const char *part, struct io_file **lock, struct err *err);

/*
 * part_remove(io, in, name, word, err): ${in}/${name}, a ${word} in messages ("fork", "branch"), goes, and what is left of a try to make or remove it. It is a part first; then its superblocks go,
 * so that whoever opened it without its lock sees by part_there that all he read of it was there. Errors: NOENT there is neither; LOCKED somebody has it open; NOTEMPTY it has forks of its own;
 * IO: then what is left is a part.
 * part_there(io, err): of a store that was opened, or read, without its lock: nothing of it had gone until now. NOENT: it is being removed.
 */
int part_remove(struct io *io, const char *in, const char *name, const char *word, struct err *err);
int part_there(struct io *io, struct err *err);

/* part_remove_tree(io, path, depth, err): a directory with all in it, directories ${depth} levels deep; a lock goes last. What is not there is fine. */
int part_remove_tree(struct io *io, const char *path, int depth, struct err *err);

#endif
