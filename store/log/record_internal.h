/*
 * record_internal.h: what record.c and record_args.c share: places in the
 * fixed head, and the arguments of each type as bytes.
 *
 * Threads: pure functions.
 */
#ifndef STORE_LOG_RECORD_INTERNAL_H
#define STORE_LOG_RECORD_INTERNAL_H

#include "store/log/record.h"

/* Places of the fields in the fixed head. FORMAT.md, "Records". */
enum {
    RH_TYPE = 0, RH_FLAGS = 2, RH_HEAD_LEN = 4, RH_DATA_LEN = 8, RH_ARGS_LEN = 12,
    RH_LSN = 16, RH_PREV_LSN = 24, RH_PREV_HASH = 32, RH_EPOCH = 48, RH_UID = 52,
    RH_INCARNATION = 56, RH_WALL_NS = 64, RH_BOOT_NS = 72, RH_GID = 80, RH_PID = 84,
    RH_UNIQUE = 88, RH_INO = 96, RH_RESERVED = 104, RH_HASH = 112,
};

/* Bounds of byte fields that record.h does not name. */
enum {
    REC_TEXT_MAX  = 4096,       /* host, directory, reason, person, boot id */
    REC_VALUE_MAX = 65536,      /* text of a series, value of PIN, POLICY, PURGE */
};

/* record_args_put(rec, w): the arguments of ${rec} as bytes; nothing is checked but room (w->bad). */
void record_args_put(const struct record *rec, struct wr *w);

/* record_args_len(rec): how many bytes record_args_put writes; UINT64_MAX for an unknown type. */
uint64_t record_args_len(const struct record *rec);

/* record_args_get(r, rec): parse the arguments of rec->type into rec->u. Running out of bytes sets
 * r->bad. Returns NULL or what is wrong (a static string). Bounds are record_check's business. */
const char *record_args_get(struct rd *r, struct record *rec);

/* record_check(rec): NULL where type, flags, data_len and all arguments are within bounds, else
 * which is not (a static string). The same law for what is written and what is read. */
const char *record_check(const struct record *rec);

#endif
