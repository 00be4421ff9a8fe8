/* tests/bench/floor_tree.c: see floor.h. */
#include "tests/bench/floor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

struct node *floor_root;
uint64_t floor_n_nodes, floor_n_bytes;
static struct entry **table;
static size_t table_size, table_used;
static uint64_t next_ino = 1;

struct timespec floor_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME_COARSE, &t);
	return t;
}

/* ---- directory entries -------------------------------------------------------------- */

static uint32_t hash_name(const struct node *parent, const char *name, size_t len)
{
	uint64_t h = parent->st.st_ino * 0x9e3779b97f4a7c15ull;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)name[i]) * 0x100000001b3ull;
	return (uint32_t)(h ^ h >> 32);
}

struct entry *floor_find_entry(const struct node *parent, const char *name)
{
	size_t len = strlen(name);
	uint32_t h = hash_name(parent, name, len);
	struct entry *e = table[h & (table_size - 1)];

	while (e && !(e->hash == h && e->parent == parent && e->name_len == len &&
		      memcmp(e->name, name, len) == 0))
		e = e->hash_next;
	return e;
}

int floor_grow_table(void)
{
	size_t size = table_size ? table_size * 2 : 1u << 16;
	struct entry **t = calloc(size, sizeof(*t));

	if (!t)
		return -1;
	for (size_t i = 0; i < table_size; i++) {
		for (struct entry *e = table[i], *next; e; e = next) {
			next = e->hash_next;
			e->hash_next = t[e->hash & (size - 1)];
			t[e->hash & (size - 1)] = e;
		}
	}
	free(table);
	table = t;
	table_size = size;
	return 0;
}

int floor_add_entry(struct node *parent, const char *name, struct node *child)
{
	size_t len = strlen(name);
	struct entry *e;

	if (len > 255)
		return ENAMETOOLONG;
	if (table_used >= table_size && floor_grow_table())
		return ENOMEM;
	if (parent->n_ents == parent->cap_ents) {
		size_t cap = parent->cap_ents ? parent->cap_ents * 2 : 16;
		struct entry **p = realloc(parent->ents, cap * sizeof(*p));

		if (!p)
			return ENOMEM;
		parent->ents = p;
		parent->cap_ents = cap;
	}
	e = malloc(sizeof(*e) + len + 1);
	if (!e)
		return ENOMEM;
	*e = (struct entry){ .child = child, .parent = parent, .name_len = (uint32_t)len,
			     .cookie = parent->next_cookie++ };
	memcpy(e->name, name, len + 1);
	e->hash = hash_name(parent, name, len);
	e->hash_next = table[e->hash & (table_size - 1)];
	table[e->hash & (table_size - 1)] = e;
	table_used++;
	e->slot = parent->n_ents;
	parent->ents[parent->n_ents++] = e;
	parent->live_ents++;
	parent->st.st_mtim = parent->st.st_ctim = floor_now();
	if (S_ISDIR(child->st.st_mode)) {
		parent->st.st_nlink++;
		child->parent = parent;
	}
	return 0;
}

/* Deleted slots have no cookie: the search looks at the next one that has. The result may be a
 * deleted slot before the one that is meant. */
size_t floor_slot_of(const struct node *dir, uint64_t cookie)
{
	size_t lo = 0, hi = dir->n_ents;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2, m = mid;

		while (m < hi && !dir->ents[m])
			m++;
		if (m < hi && dir->ents[m]->cookie < cookie)
			lo = m + 1;
		else
			hi = mid;
	}
	return lo;
}

static void compact(struct node *dir)
{
	size_t n = 0;

	for (size_t i = 0; i < dir->n_ents; i++) {
		if (!dir->ents[i])
			continue;
		dir->ents[i]->slot = n;
		dir->ents[n++] = dir->ents[i];
	}
	dir->n_ents = n;
}

void floor_drop_entry(struct entry *e)
{
	struct node *dir = e->parent;
	struct entry **p = &table[e->hash & (table_size - 1)];

	while (*p != e)
		p = &(*p)->hash_next;
	*p = e->hash_next;
	table_used--;
	dir->ents[e->slot] = NULL;
	dir->live_ents--;
	if (dir->n_ents > 32 && dir->live_ents < dir->n_ents / 2)
		compact(dir);
	if (S_ISDIR(e->child->st.st_mode))
		dir->st.st_nlink--;
	dir->st.st_mtim = dir->st.st_ctim = floor_now();
	free(e);
}

/* ---- nodes -------------------------------------------------------------------------- */

struct node *floor_new_node(mode_t mode, uid_t uid, gid_t gid, dev_t rdev)
{
	struct node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->st.st_ino = next_ino++;
	n->st.st_mode = mode;
	n->st.st_nlink = S_ISDIR(mode) ? 2 : 1;
	n->st.st_uid = uid;
	n->st.st_gid = gid;
	n->st.st_rdev = rdev;
	n->st.st_blksize = 4096;
	n->st.st_atim = n->st.st_mtim = n->st.st_ctim = floor_now();
	n->next_cookie = 3;	/* 1 and 2 are . and .. */
	floor_n_nodes++;
	return n;
}

static void cut_chunks(struct node *n, size_t keep)
{
	for (size_t i = keep; i < n->n_chunks; i++) {
		floor_n_bytes -= n->chunks[i].cap;
		free(n->chunks[i].mem);
	}
	if (keep < n->n_chunks)
		n->n_chunks = keep;
}

void floor_maybe_free(struct node *n)
{
	if (n->lookups || n->st.st_nlink || n == floor_root)
		return;
	for (struct xattr *x = n->xattrs, *next; x; x = next) {
		next = x->next;
		free(x->value);
		free(x);
	}
	cut_chunks(n, 0);
	free(n->chunks);
	free(n->target);
	free(n->ents);
	free(n);
	floor_n_nodes--;
}

void floor_unlink_entry(struct entry *e)
{
	struct node *n = e->child;

	floor_drop_entry(e);
	n->st.st_nlink = S_ISDIR(n->st.st_mode) ? 0 : n->st.st_nlink - 1;
	n->st.st_ctim = floor_now();
	floor_maybe_free(n);
}

/* ---- data --------------------------------------------------------------------------- */

/* Room for bytes up to `end` of chunk i, zeroed where new. */
int floor_need_chunk(struct node *n, size_t i, uint32_t end)
{
	struct chunk *c;

	if (i >= n->n_chunks) {
		if (i >= n->cap_chunks) {
			size_t cap = n->cap_chunks ? n->cap_chunks : 1;

			while (cap < i + 1)
				cap *= 2;
			c = realloc(n->chunks, cap * sizeof(*c));
			if (!c)
				return ENOMEM;
			n->chunks = c;
			n->cap_chunks = cap;
		}
		memset(&n->chunks[n->n_chunks], 0, (i + 1 - n->n_chunks) * sizeof(*c));
		n->n_chunks = i + 1;
	}
	c = &n->chunks[i];
	if (end > c->cap) {
		uint32_t cap = end > CHUNK_BYTES / 2 ? CHUNK_BYTES : (end + 4095) & ~4095u;
		unsigned char *p = realloc(c->mem, cap);

		if (!p)
			return ENOMEM;
		memset(p + c->cap, 0, cap - c->cap);
		floor_n_bytes += cap - c->cap;
		c->mem = p;
		c->cap = cap;
	}
	return 0;
}

void floor_set_size(struct node *n, off_t size)
{
	size_t keep = ((size_t)size + CHUNK_BYTES - 1) / CHUNK_BYTES;
	size_t rest = (size_t)size % CHUNK_BYTES;

	if (size < n->st.st_size) {
		cut_chunks(n, keep);
		if (rest && n->n_chunks == keep && n->chunks[keep - 1].cap > rest)
			memset(n->chunks[keep - 1].mem + rest, 0,
			       n->chunks[keep - 1].cap - rest);
	}
	n->st.st_size = size;
	n->st.st_blocks = (size + 511) / 512;
	n->st.st_mtim = n->st.st_ctim = floor_now();
}

bool floor_kill_priv(struct node *n)
{
	mode_t was = n->st.st_mode;

	n->st.st_mode &= ~(mode_t)S_ISUID;
	if (n->st.st_mode & S_IXGRP)
		n->st.st_mode &= ~(mode_t)S_ISGID;
	return n->st.st_mode != was;
}

/* ---- extended attributes ------------------------------------------------------------ */

struct xattr **floor_find_xattr(struct node *n, const char *name)
{
	struct xattr **p = &n->xattrs;

	while (*p && strcmp((*p)->name, name) != 0)
		p = &(*p)->next;
	return p;
}

int floor_set_xattr(struct node *n, const char *name, const void *value, size_t len,
		     uint32_t flags)
{
	struct xattr **p = floor_find_xattr(n, name), *x;
	char *v;

	if (*p ? (flags & XATTR_CREATE) : (flags & XATTR_REPLACE))
		return *p ? EEXIST : ENODATA;
	v = malloc(len + 1);
	if (!v)
		return ENOMEM;
	memcpy(v, value, len);
	if (!*p) {
		x = calloc(1, sizeof(*x) + strlen(name) + 1);
		if (!x) {
			free(v);
			return ENOMEM;
		}
		memcpy(x->name, name, strlen(name) + 1);
		*p = x;
	}
	free((*p)->value);
	(*p)->value = v;
	(*p)->len = len;
	n->st.st_ctim = floor_now();
	return 0;
}

/* An access ACL holds the mode's bits a second time, and both must agree: the kernel leaves that
 * to the file system. Little-endian: version, then {tag, perm, id} of 2 + 2 + 4 bytes. */
#define ACL_NAME "system.posix_acl_access"
enum { ACL_USER = 0x01, ACL_GROUP = 0x04, ACL_MASK = 0x10, ACL_OTHER = 0x20 };

static char *acl_find(char *acl, size_t len, int tag)
{
	for (size_t at = 4; at + 8 <= len; at += 8)
		if (acl[at] == tag)
			return acl + at + 2;
	return NULL;
}

int floor_set_xattr_acl(struct node *n, const char *name, const void *value, size_t len,
			uint32_t flags)
{
	struct xattr **p, *x;
	char *user, *group, *other, *mask;
	int err = floor_set_xattr(n, name, value, len, flags);

	if (err || strcmp(name, ACL_NAME) != 0)
		return err;
	p = floor_find_xattr(n, name);
	x = *p;
	user = acl_find(x->value, len, ACL_USER);
	group = acl_find(x->value, len, ACL_GROUP);
	other = acl_find(x->value, len, ACL_OTHER);
	mask = acl_find(x->value, len, ACL_MASK);
	if (user && group && other)
		n->st.st_mode = (n->st.st_mode & ~(mode_t)0777) | (mode_t)(*user & 7) << 6 |
				(mode_t)((mask ? *mask : *group) & 7) << 3 | (mode_t)(*other & 7);
	if (len == 4 + 3 * 8) {	/* says no more than the mode does */
		*p = x->next;
		free(x->value);
		free(x);
	}
	return 0;
}

void floor_chmod(struct node *n, mode_t mode)
{
	struct xattr *x = *floor_find_xattr(n, ACL_NAME);
	char *e;

	n->st.st_mode = (n->st.st_mode & S_IFMT) | (mode & 07777);
	if (!x)
		return;
	if ((e = acl_find(x->value, x->len, ACL_USER)))
		*e = (char)(mode >> 6 & 7);
	if ((e = acl_find(x->value, x->len, ACL_MASK)) ||
	    (e = acl_find(x->value, x->len, ACL_GROUP)))
		*e = (char)(mode >> 3 & 7);
	if ((e = acl_find(x->value, x->len, ACL_OTHER)))
		*e = (char)(mode & 7);
}
