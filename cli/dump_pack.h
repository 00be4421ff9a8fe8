/* dump_pack.h: a pack as text. */
#ifndef CLI_DUMP_PACK_H
#define CLI_DUMP_PACK_H

#include "cli/dump_internal.h"

/* dump_is_pack(f, buf, len): by the first ${len} bytes, or by its name. dump_pack: its head, its blocks, the entries of each. */
bool dump_is_pack(const struct dump_in *f, const uint8_t *buf, size_t len);
int  dump_pack(const struct dump_in *f, struct err *err);

#endif
