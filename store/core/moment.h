/*
 * moment.h: naming moments. product.md, "Time".
 *
 * Text forms: RFC 3339 with any fraction ("2026-11-22T10:15:03.5Z", "+01:00"), the same without colons in the
 * time ("2026-11-22T101503Z"), local "2026-11-22 10:15[:03[.f]]" and "2026-11-22T10:15" without zone (the store's
 * time zone), "5m" "2h" "3d" "10s" "1w" ago (a leading '-' is accepted), "yesterday 14:00", "today 9:30", "now",
 * "@LSN", a snapshot name. An ambiguous local time (clocks set back) is an error that lists both.
 */
#ifndef STORE_CORE_MOMENT_H
#define STORE_CORE_MOMENT_H

#include "store/core/store.h"

enum moment_kind { MOMENT_LSN, MOMENT_TIME, MOMENT_NAME, MOMENT_NOW };
struct moment_spec { enum moment_kind kind; uint64_t lsn; int64_t wall_ns; bool relative; const char *name; };

/*
 * moment_parse(text, now_ns, tz, spec, err):
 * Pure: ${tz} an IANA zone name ("UTC", "Europe/Zurich"). Errors: USAGE with the forms accepted; ambiguous local time.
 */
int moment_parse(const char *text, int64_t now_ns, const char *tz, struct moment_spec *spec, struct err *err);

/* moment_name_ok(name, err): may this be a snapshot name? (not a time, no leading '@' or '-', no '/', 1..255 bytes, not "."..) */
int moment_name_ok(const char *name, struct err *err);

/*
 * moment_resolve(s, text, lsn, err):
 * To a moment that is listed: durable (one sync first if needed), not inside a series (then the one before it), kept. The LSN
 * is an inclusive end. A time is looked up in the newest run of the clock that contains it. Errors: NOMOMENT, naming the nearest
 * kept one; USAGE. Waits for the applier to reach it.
 */
int moment_resolve(struct store *s, const char *text, uint64_t *lsn, struct err *err);

/* moment_wall(s, lsn, wall_ns, err): the clock of the last record at or below ${lsn}. */
int moment_wall(struct store *s, uint64_t lsn, int64_t *wall_ns, struct err *err);

/* moment_format(wall_ns, buf): "2026-11-22T101503Z" (listings, file names); moment_rfc3339: "2026-11-22T10:15:03.123456789Z". */
void moment_format(int64_t wall_ns, char buf[40]);
void moment_rfc3339(int64_t wall_ns, char buf[40]);

/* moment_list(s, fn, arg, err): snapshots and the moments worth showing in `.snapshots`, oldest first. */
struct moment_entry { uint64_t lsn; int64_t wall_ns; const char *name; bool held; const char *reason; };
int moment_list(struct store *s, int (*fn)(void *arg, const struct moment_entry *e), void *arg, struct err *err);

#endif
