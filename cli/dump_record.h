/* dump_record.h: one record as fields. */
#ifndef CLI_DUMP_RECORD_H
#define CLI_DUMP_RECORD_H

#include "store/log/record.h"

#include <jansson.h>

/* dump_record(rec): its type, identity and arguments as an object; the caller releases it. */
json_t *dump_record(const struct record *rec);

/* dump_line(o): "KEY=VALUE ..." of an object's fields, in its order, to stdout; names escaped. */
void dump_line(const json_t *o);

#endif
