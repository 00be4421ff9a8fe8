/*
 * policy.h: what a store keeps of its past, as its settings say. product.md, "Retention"; README, "What is kept".
 *
 * Durations are counted by the age of the store (record.h), not by a clock: a clock that jumps ends nothing early.
 */
#ifndef STORE_CORE_POLICY_H
#define STORE_CORE_POLICY_H

#include "store/core/store.h"

enum period_kind { HOURLY, DAILY, WEEKLY, MONTHLY, YEARLY, N_PERIODS };
enum { KEEP_MAX = 10000 };               /* of one kind of period, at most */

struct policy {
    uint64_t keep_all_ns;                /* every moment younger than this */
    uint64_t min_age_ns;                 /* younger than this nothing goes, whatever space is short */
    uint64_t grace_ns;                   /* what is not listed any more can be brought back for so long */
    uint32_t keep[N_PERIODS];            /* the ends of the last so many periods in which something happened */
    uint64_t history_max, keep_free, hold_log;    /* bytes; 0: none */
};

/* policy_read(s, p): as the settings say, the defaults where they say nothing. */
void policy_read(struct store *s, struct policy *p);
/* policy_default(name): the text of a setting's default: "7d" of "keep-all"; NULL: none of retention. */
const char *policy_default(const char *name);
/* policy_check(name, value, norm, cap, err): a value of a setting of retention, in its one form. USAGE what was expected. NOENT: it is none. */
int policy_check(const char *name, const char *value, char *norm, size_t cap, struct err *err);
/* policy_put(p, name, value, err): into *${p}, as policy_read would find it. NOENT: it is none. */
int policy_put(struct policy *p, const char *name, const char *value, struct err *err);
/* policy_squeeze(p, level): what is kept when space is short: at level 1 without grace; to POLICY_PERIODS fewer periods, then none; to POLICY_LEVELS less and
 * less of keep-all, down to min-age. */
enum { POLICY_PERIODS = 6, POLICY_LEVELS = 17 };
void policy_squeeze(struct policy *p, unsigned level);
/* policy_duration(text, ns, err): "90s", "15m", "48h", "7d", "8w"; 0 has no unit. USAGE. */
int policy_duration(const char *text, uint64_t *ns, struct err *err);
/* policy_size(text, bytes, err): "1000", "512M", "20GiB". USAGE. */
int policy_size(const char *text, uint64_t *bytes, struct err *err);

/* The length of a period at most, and its word: "hour", ... */
uint64_t period_ns(enum period_kind k);
const char *period_word(enum period_kind k);
const char *period_setting(enum period_kind k);

#endif
