/* moment_internal.h: what the files of moment share. Public: moment.h. */
#ifndef STORE_CORE_MOMENT_INTERNAL_H
#define STORE_CORE_MOMENT_INTERNAL_H

#include "store/base/err.h"

#include <stdint.h>

/* ---- moment_tz.c: civil time in a zone, without touching the process's own TZ ---- */

struct tz;

/*
 * tz_load(name, out, err): an IANA zone from /usr/share/zoneinfo; "UTC" needs no file. Release with tz_free (accepts NULL).
 * Errors: USAGE unknown or unreadable zone, naming it; NOMEM. Threads: pure but for reading the file.
 */
int tz_load(const char *name, struct tz **out, struct err *err);
void tz_free(struct tz *tz);
/* tz_offset(tz, utc): seconds east of UTC at that second. */
int32_t tz_offset(const struct tz *tz, int64_t utc);
/* tz_utc(tz, local, out): the instants at which clocks there show ${local} (seconds, counted as if UTC), ascending: 0 (clocks
 * went forward over it), 1 or 2 (they went back). */
int tz_utc(const struct tz *tz, int64_t local, int64_t out[2]);

/* Civil days: proleptic Gregorian, day 0 = 1970-01-01. */
struct civil { int64_t year; int month, day; };
int64_t civil_days(int64_t year, int month, int day);
struct civil civil_of(int64_t days);

/* ---- moment.c ---- */

struct store;
/* moment_find(s, wall, now, lsn, err): the last record at or before a time, in the newest run that contains it; the newest run
 * reaches up to ${now}. NOENT: in no run (nothing is said in ${err}). What was done must be in the index. */
int moment_find(struct store *s, int64_t wall, int64_t now, uint64_t *lsn, struct err *err);
/* moment_record_wall(s, lsn, wall_ns): the clock of the record at ${lsn}; of one that left the log remembered, since the archive is slow to ask.
 * Errors: as history_record. */
int moment_record_wall(struct store *s, uint64_t lsn, int64_t *wall_ns);
/* moment_outside(s, lsn, err): inside a series, *${lsn} becomes the moment before it. */
int moment_outside(struct store *s, uint64_t *lsn, struct err *err);

#endif
