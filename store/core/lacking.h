/*
 * lacking.h: data that records name and this site does not have. A standby keeps less of the past than its primary may: when the primary copies a file out of a past
 * that is gone here, the record names where the bytes were written, and they must be fetched (PROTOCOL.md, FETCH). Until they are here that record, and what comes after it, is not
 * acknowledged as durable; a setting says from where on there may be such, so that a restart finds them again.
 *
 * Locking: internal, a leaf but for lacking_note, which writes the setting. Threads: any.
 */
#ifndef STORE_CORE_LACKING_H
#define STORE_CORE_LACKING_H

#include "store/core/store.h"

enum { LACKING_MAX = 1 << 18 };

/* Bytes [doff, doff + len) of the data of the record at lsn, which lie dstart bytes behind its frame's start; named by the record rec. */
struct lack { uint64_t rec, lsn; uint32_t dstart, doff, len; };

/* lacking_note(s, rec, err): ${rec} is about to be appended. lacking_scan(s, err): at an open, where the setting says so. Errors: NOSPC more than LACKING_MAX parts; NOMEM, IO, DAMAGE. */
int lacking_note(struct store *s, const struct record *rec, struct err *err);
int lacking_scan(struct store *s, struct err *err);

/* store_lacking_from(s): the LSN of the first record that names what is not here; UINT64_MAX: all is. store_lacking(s, out, cap): the first ones of them; their number. */
uint64_t store_lacking_from(struct store *s);
size_t   store_lacking(struct store *s, struct lack *out, size_t cap);

/*
 * store_lacking_again(s, gone, n, err): something came: what is here by now is not lacking any more, and neither is what ${gone} names: the other side does not have it either (a
 * purge: readers are told that it is nowhere). The setting goes with the last. Errors: IO, DAMAGE, NOMEM.
 */
int store_lacking_again(struct store *s, const struct lack *gone, size_t n, struct err *err);

#endif
