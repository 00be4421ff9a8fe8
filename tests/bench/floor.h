/* tests/bench/floor.h: the tree the floor keeps in memory. One thread, no locks.
 * Functions that return int return 0 or a positive errno. */
#ifndef SPARE_BENCH_FLOOR_H
#define SPARE_BENCH_FLOOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#define CHUNK_BYTES 65536u

struct xattr {
	struct xattr *next;
	size_t len;
	char *value;
	char name[];
};

struct chunk {
	unsigned char *mem;	/* NULL = hole */
	uint32_t cap;		/* bytes beyond are zero */
};

struct entry {
	struct node *child;	/* NULL = deleted */
	struct node *parent;
	struct entry *hash_next;
	uint32_t hash;
	uint32_t name_len;
	uint64_t cookie;
	size_t slot;		/* in parent->ents */
	char name[];
};

struct node {
	struct stat st;
	uint64_t lookups;
	struct xattr *xattrs;
	struct node *parent;	/* of a directory */
	char *target;		/* of a symlink */
	struct chunk *chunks;
	size_t n_chunks, cap_chunks;
	struct entry **ents;	/* in cookie order, NULL where deleted */
	size_t n_ents, cap_ents, live_ents;
	uint64_t next_cookie;
};

extern struct node *floor_root;
extern uint64_t floor_n_nodes, floor_n_bytes;

struct timespec floor_now(void);

/* Entries. find: NULL when absent. slot_of: where in dir->ents to begin for entries
 * whose cookie is at least `cookie`; skip what is NULL. unlink_entry: also drops the link from the child, which may free it. */
int floor_grow_table(void);
struct entry *floor_find_entry(const struct node *parent, const char *name);
int floor_add_entry(struct node *parent, const char *name, struct node *child);
size_t floor_slot_of(const struct node *dir, uint64_t cookie);
void floor_drop_entry(struct entry *e);
void floor_unlink_entry(struct entry *e);

/* Nodes. maybe_free: frees it when neither linked nor looked up. kill_priv: whether the
 * mode changed. */
struct node *floor_new_node(mode_t mode, uid_t uid, gid_t gid, dev_t rdev);
void floor_maybe_free(struct node *n);
bool floor_kill_priv(struct node *n);

/* Data. need_chunk: room up to byte `end` of chunk i, zeroed where new. */
int floor_need_chunk(struct node *n, size_t i, uint32_t end);
void floor_set_size(struct node *n, off_t size);

/* Extended attributes. find: where its pointer is, or would be. */
struct xattr **floor_find_xattr(struct node *n, const char *name);
int floor_set_xattr(struct node *n, const char *name, const void *value,
		    size_t len, uint32_t flags);
/* The same, and what an access ACL demands of the mode; and the other way round. */
int floor_set_xattr_acl(struct node *n, const char *name, const void *value, size_t len,
			uint32_t flags);
void floor_chmod(struct node *n, mode_t mode);

#endif
