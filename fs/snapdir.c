/* To be replaced: the past is not served yet, so its name leads nowhere. */
#include "fs/snapdir.h"

int snapdir_new(struct fs *fs, struct err *err) { (void)fs; (void)err; return 0; }
void snapdir_free(struct snapdir *d) { (void)d; }
void snapdir_lookup(struct op *op, uint64_t parent, const char *name) { (void)parent; (void)name; op_error(op, ERR_NOENT); }
void snapdir_getattr(struct op *op, uint64_t node) { (void)node; op_error(op, ERR_STALE); }
void snapdir_readlink(struct op *op, uint64_t node) { (void)node; op_error(op, ERR_STALE); }
void snapdir_readdir(struct op *op, uint64_t node, size_t size, uint64_t off, bool plus)
{
    (void)node; (void)size; (void)off; (void)plus;
    op_error(op, ERR_STALE);
}
void snapdir_forget(struct fs *fs, uint64_t node, uint64_t n) { (void)fs; (void)node; (void)n; }
