/* dump.h: files of a store as text or JSON. */
#ifndef CLI_DUMP_H
#define CLI_DUMP_H

#include "store/base/err.h"

/*
 * dump_file(path, err): print what ${path} is: a log segment (header, then its records one a line), an archive file (head, then
 * each frame and its records), a superblock or a retained set. Stops at damage. Errors: DAMAGE with the exact place; USAGE it is none of these; NOENT, IO.
 */
int dump_file(const char *path, struct err *err);

#endif
