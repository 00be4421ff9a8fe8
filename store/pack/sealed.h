/*
 * sealed.h: files that are never changed: a head, a body, the head once more, the hash of all before. Archive files, packs and bases are such.
 *
 * A file in the making, DIR/next or another name without meaning, made anew | body, as it comes | head, hash, sync | renamed | directory synced. Before the rename: a file without meaning. After it: a whole
 * one, with or without its name.
 *
 * Threads: a writer belongs to one thread. Locking: none; one file of a name in the making at a time.
 */
#ifndef STORE_PACK_SEALED_H
#define STORE_PACK_SEALED_H

#include "store/base/err.h"
#include "store/base/hash.h"
#include "store/base/io.h"

#include <stddef.h>
#include <stdint.h>

enum { SEALED_HEAD_MAX = 256, SEALED_HASH_BYTES = sizeof(struct hash128) };

struct sealed;

/*
 * sealed_new(io, dir, next, head_bytes, out, err): makes ${dir} if it is missing, its name durable, and ${next} in it, a path. Both texts live longer. The body begins behind
 * ${head_bytes}, at most SEALED_HEAD_MAX. ${out} is NULL on failure. Errors: IO, NOSPC, NOMEM.
 */
int sealed_new(struct io *io, const char *dir, const char *next, size_t head_bytes, struct sealed **out, struct err *err);
/* sealed_put(w, p, len, err): more of the body. sealed_at(w): where its next byte goes, from the beginning of the file. */
int      sealed_put(struct sealed *w, const void *p, size_t len, struct err *err);
uint64_t sealed_at(const struct sealed *w);
/* sealed_size(w): of the file, if nothing more is put. */
uint64_t sealed_size(const struct sealed *w);
/*
 * sealed_finish(w, head, name, err): durable under ${name}, a path that begins with the directory. What is in the file is read back and compared with what
 * was put. Frees ${w} in any case. On failure there is no file of that name, or (a sync of the directory that failed) nobody knows.
 * Errors: EXIST the name is there; IO; NOSPC; NOMEM.
 */
int  sealed_finish(struct sealed *w, const uint8_t *head, const char *name, struct err *err);
void sealed_drop(struct sealed *w);

/* sealed_read(f, name, buf, len, off, err): exactly ${len} bytes. Errors: DAMAGE there are fewer; IO. */
int sealed_read(struct io_file *f, const char *name, void *buf, size_t len, uint64_t off, struct err *err);
/* sealed_check(f, name, size, err): the last bytes of the file are the hash of all before. Errors: DAMAGE with both; IO; NOMEM. */
int sealed_check(struct io_file *f, const char *name, uint64_t size, struct err *err);

#endif
