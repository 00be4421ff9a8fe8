/*
 * log_fixture.h: what the tests of the log share: one sample record of every
 * type, and short forms of append and open.
 */
#ifndef TESTS_LIB_LOG_FIXTURE_H
#define TESTS_LIB_LOG_FIXTURE_H

#include "store/base/super.h"
#include "store/log/log.h"

#include <stdio.h>

/* fix_types(types): numbers of all record types into ${types} (room for 64); returns how many. */
unsigned fix_types(unsigned types[64]);

/* fix_sample(type, n, rec): a valid record of ${type}; ${n} varies its fields. Pointers are static
 * and good until the next call but three. WRITE and REWRITE get data_len set, no data. */
void fix_sample(unsigned type, uint64_t n, struct record *rec);

/* fix_fill(buf, len, seed): bytes that depend on ${seed}. */
void fix_fill(void *buf, size_t len, uint64_t seed);

/* fix_data_of(rec): the data fix_append gives a WRITE of this ino and length, malloced. */
uint8_t *fix_data_of(const struct record *rec);

/* fix_append(log, rec, err): room, begin, write, wait; data as fix_data_of has it. rec->lsn and hash are set. */
int fix_append(struct log *log, struct record *rec, struct err *err);

/* fix_write(log, ino, len, rec, err): append a WRITE of ${len} bytes (> 0) of data. */
int fix_write(struct log *log, uint64_t ino, uint32_t len, struct record *rec, struct err *err);

/* fix_super(sb): a superblock of a new store (nothing written). */
void fix_super(struct super *sb);

/* fix_note(sb, log, clean): what the store would put into the superblock now. */
void fix_note(struct super *sb, struct log *log, bool clean);

/* fix_golden(name, mode): open tests/golden/NAME. */
FILE *fix_golden(const char *name, const char *mode);

#endif
