/* policy.c: settings of retention. */
#include "store/core/policy.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define S 1000000000ull

enum form { DURATION, COUNT };
static const struct { const char *name; enum form form; const char *otherwise; } settings[] = {
    { "keep-all", DURATION, "7d" }, { "min-age", DURATION, "1h" }, { "reclaim-grace", DURATION, "1d" }, { "keep-hourly", COUNT, "48" },
    { "keep-daily", COUNT, "30" }, { "keep-weekly", COUNT, "8" }, { "keep-monthly", COUNT, "12" }, { "keep-yearly", COUNT, "3" },
};
enum { N_SETTINGS = sizeof settings / sizeof settings[0] };

static const struct { const char *word, *setting; uint64_t ns; } periods[N_PERIODS] = {
    { "hour", "keep-hourly", 3600 * S }, { "day", "keep-daily", 86400 * S }, { "week", "keep-weekly", 7 * 86400 * S },
    { "month", "keep-monthly", 31 * 86400 * S }, { "year", "keep-yearly", 366 * 86400 * S },
};

uint64_t period_ns(enum period_kind k)
{
    return periods[k].ns;
}

const char *period_word(enum period_kind k)
{
    return periods[k].word;
}

const char *period_setting(enum period_kind k)
{
    return periods[k].setting;
}

int policy_duration(const char *text, uint64_t *ns, struct err *err)
{
    static const struct { char unit; uint64_t s; } units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 }, { 'w', 7 * 86400 } };
    unsigned long long v;
    char *end;

    errno = 0;
    v = isdigit((unsigned char)text[0]) ? strtoull(text, &end, 10) : 0;
    if (isdigit((unsigned char)text[0]) && errno == 0) {
        if (v == 0 && *end == '\0') {
            *ns = 0;
            return 0;
        }
        for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
            if (*end == units[i].unit && end[1] == '\0' && v <= UINT64_MAX / 4 / S / units[i].s) {
                *ns = v * units[i].s * S;
                return 0;
            }
    }
    return err_set(err, ERR_USAGE, "%.64s: expected a duration such as 90s, 15m, 48h, 7d or 8w", text);
}

int policy_size(const char *text, uint64_t *out, struct err *err)
{
    static const char units[] = "KMGTP";
    unsigned shift = 0;
    unsigned long long v;
    const char *u;
    char *end;

    if (!isdigit((unsigned char)text[0]))
        goto bad;
    errno = 0;
    v = strtoull(text, &end, 10);
    if (errno)
        goto bad;
    if (*end && (u = strchr(units, toupper((unsigned char)*end))) != NULL) {
        shift = 10 * (unsigned)(u - units + 1);
        end++;
        if (strcmp(end, "iB") == 0)
            end += 2;
    } else if (strcmp(end, "B") == 0) {
        end++;
    }
    if (*end || (shift && v >> (63 - shift)) || v > INT64_MAX)
        goto bad;
    *out = (uint64_t)v << shift;
    return 0;
bad:
    return err_set(err, ERR_USAGE, "%.64s: expected a size such as 1000, 512M or 20GiB", text);
}

static int find(const char *name)
{
    for (int i = 0; i < N_SETTINGS; i++)
        if (strcmp(settings[i].name, name) == 0)
            return i;
    return -1;
}

const char *policy_default(const char *name)
{
    int i = find(name);

    return i < 0 ? NULL : settings[i].otherwise;
}

static int count_of(const char *text, uint32_t *n, struct err *err)
{
    unsigned long v;
    char *end;

    errno = 0;
    v = isdigit((unsigned char)text[0]) ? strtoul(text, &end, 10) : KEEP_MAX + 1;
    if (v > KEEP_MAX || errno != 0 || *end != '\0')
        return err_set(err, ERR_USAGE, "%.64s: expected a number from 0 to %d", text, KEEP_MAX);
    *n = (uint32_t)v;
    return 0;
}

int policy_check(const char *name, const char *value, char *norm, size_t cap, struct err *err)
{
    struct err why = { 0 };
    int i = find(name), rc;
    uint64_t ns;
    uint32_t n;

    if (i < 0)
        return ERR_NOENT;
    rc = settings[i].form == DURATION ? policy_duration(value, &ns, &why) : count_of(value, &n, &why);
    if (rc < 0)
        return err_set(err, rc, "%s %s", name, why.msg);
    snprintf(norm, cap, "%s", value);
    return 0;
}

int policy_put(struct policy *p, const char *name, const char *value, struct err *err)
{
    uint64_t *ns = strcmp(name, "keep-all") == 0 ? &p->keep_all_ns : strcmp(name, "min-age") == 0 ? &p->min_age_ns
                 : strcmp(name, "reclaim-grace") == 0 ? &p->grace_ns : NULL;

    if (ns != NULL)
        return policy_duration(value, ns, err);
    for (int k = 0; k < N_PERIODS; k++)
        if (strcmp(periods[k].setting, name) == 0)
            return count_of(value, &p->keep[k], err);
    return ERR_NOENT;
}

/* 0, none, also for what is no number in bytes: a bound that was misread would let go of the past. */
static uint64_t bytes(struct store *s, const char *name)
{
    char text[64], *end;
    unsigned long long v;

    if (store_config_get(s, name, text, sizeof text) < 0 || text[0] < '0' || text[0] > '9')
        return 0;
    v = strtoull(text, &end, 10);
    return *end == '\0' && v <= INT64_MAX ? v : 0;
}

void policy_read(struct store *s, struct policy *p)
{
    char text[64];

    memset(p, 0, sizeof *p);
    /* What a newer program, or a hand, wrote is not believed: then it is the default. */
    for (size_t i = 0; i < N_SETTINGS; i++)
        if (store_config_get(s, settings[i].name, text, sizeof text) < 0 || policy_put(p, settings[i].name, text, NULL) < 0)
            (void)policy_put(p, settings[i].name, settings[i].otherwise, NULL);
    p->history_max = bytes(s, "history-max");
    p->keep_free = bytes(s, "keep-free");
    p->hold_log = bytes(s, "hold-log");
}

void policy_squeeze(struct policy *p, unsigned level)
{
    if (level == 0)
        return;
    p->grace_ns = 0;
    for (int k = 0; k < N_PERIODS; k++)
        p->keep[k] = level >= POLICY_PERIODS ? 0 : p->keep[k] >> (level - 1);
    if (level > POLICY_PERIODS)
        p->keep_all_ns = level >= POLICY_LEVELS ? 0 : p->keep_all_ns >> (level - POLICY_PERIODS);
    if (p->keep_all_ns < p->min_age_ns)
        p->keep_all_ns = p->min_age_ns;
}
