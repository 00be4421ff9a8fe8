/* dump_internal.h: what dump.c and a file for each kind of file share. */
#ifndef CLI_DUMP_INTERNAL_H
#define CLI_DUMP_INTERNAL_H

#include "store/base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dump_in { const char *path; int fd; uint64_t size; };

/* dump_show(o): one line, or one JSON object; releases ${o}. dump_num, dump_hex, dump_when: a field of it. dump_end: the last line of a file of records. */
void dump_show(json_t *o);
void dump_num(json_t *o, const char *key, uint64_t v);
void dump_hex(json_t *o, const char *key, const uint8_t *p, size_t len);
void dump_when(json_t *o, const char *key, int64_t wall_ns);
void dump_end(const char *how, uint64_t off, uint64_t lsn, uint64_t records);

/* dump_read(f, buf, len, off, err): as io_pread. */
int64_t dump_read(const struct dump_in *f, void *buf, size_t len, uint64_t off, struct err *err);

/* dump_is_archive(f, buf, len): by the first ${len} bytes, or by its name. dump_archive: its head, its frames, the records of each. */
bool dump_is_archive(const struct dump_in *f, const uint8_t *buf, size_t len);
int  dump_archive(const struct dump_in *f, struct err *err);
/* dump_is_base, dump_base: as these, of a base: its head, its rows. */
bool dump_is_base(const struct dump_in *f, const uint8_t *buf, size_t len);
int  dump_base(const struct dump_in *f, struct err *err);

#endif
