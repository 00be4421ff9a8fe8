/*
 * periods.h: where hours, days, weeks, months and years ended, as the store's records and its time zone say: the last record of each in which there
 * was one. Which of these ends a policy wants. And which record was the last at some age of the store.
 *
 * A pure function of the rows of the clock ('t'): about 3 us for each hour in which something was done.
 */
#ifndef STORE_CORE_PERIODS_H
#define STORE_CORE_PERIODS_H

#include "store/core/policy.h"

struct period_end {
    uint64_t lsn;                /* of a moment that resolves: not inside a series */
    uint64_t age_ns;             /* of the store when the period had ended: at the first record behind it */
    int64_t  wall_ns[N_PERIODS]; /* where the period ends by the clock, for those in kinds */
    unsigned kinds;              /* bit k: wanted as the end of such a period */
};
struct period_list { struct period_end *v; size_t n, cap; };

/*
 * periods_wanted(s, p, age_ns, out, err): the ends that ${p}->keep wants, by LSN, each once, of a store that is ${age_ns} old: of each kind the last
 * p->keep[k] that something happened in, and those not older than so many periods. One that a clock set back brings again has an end each time (the last eight), and counts once. Errors: NOMEM, DAMAGE, IO; USAGE no time zone at all.
 */
int  periods_wanted(struct store *s, const struct policy *p, uint64_t age_ns, struct period_list *out, struct err *err);
void periods_free(struct period_list *l);

/* periods_at_age(s, age_ns, lsn, err): the last record of the store at which it was at most so old; 0: there is none. Where records were let go of: one not much
 * before it. */
int  periods_at_age(struct store *s, uint64_t age_ns, uint64_t *lsn, struct err *err);
/* periods_age_of(s, lsn, age_ns, err): of the store at the last record at or below ${lsn}. */
int periods_age_of(struct store *s, uint64_t lsn, uint64_t *age_ns, struct err *err);
/* periods_start(s, lsn, start, err): a record at or below ${lsn}, not much before it: 64 KiB of the stream, or a quarter of an hour. NOENT: there is none. */
int periods_start(struct store *s, uint64_t lsn, uint64_t *start, struct err *err);
/* periods_minute(s, wall_ns): the minute of the day in the store's time zone, from 0. */
unsigned periods_minute(struct store *s, int64_t wall_ns);
/* periods_age(s): of the store, now. */
uint64_t periods_age(struct store *s);

#endif
