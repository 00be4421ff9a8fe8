/*
 * moment_tz.c: time zones, read from the system's TZif files (RFC 8536) by ourselves: the C library's localtime knows
 * one zone a process, and a store has its own. Bytes from the file are validated; a rule (the footer) serves what lies
 * beyond the last transition.
 */
#include "store/core/moment_internal.h"
#include "store/base/bytes.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ZONEINFO "/usr/share/zoneinfo/"
enum { TZ_FILE_MAX = 1 << 20, DAY = 86400, OFFSET_MAX = 26 * 3600 };

/* One end of summer time in a footer rule: Mm.w.d, Jn or n, at ${at} seconds after local midnight. */
struct tz_date { char kind; int m, w, d; int32_t at; };

struct tz {
    size_t n;
    int64_t *when;              /* n transitions, ascending */
    int32_t *offset;            /* n: from that transition on */
    int32_t before;             /* before the first */
    bool has_rule;
    bool has_dst;
    int32_t std, dst;
    struct tz_date start, end;
};

/* ---- civil days ---- */

int64_t civil_days(int64_t y, int m, int d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400, doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

struct civil civil_of(int64_t z)
{
    z += 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097, doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365, doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    struct civil c = { .day = (int)(doy - (153 * mp + 2) / 5 + 1), .month = (int)(mp < 10 ? mp + 3 : mp - 9) };
    c.year = yoe + era * 400 + (c.month <= 2);
    return c;
}

/* ---- the footer: "CET-1CEST,M3.5.0,M10.5.0/3" ---- */

static bool rule_name(const char **p)
{
    const char *s = *p;
    if (*s == '<') {
        while (*s != '\0' && *s != '>')
            s++;
        if (*s != '>')
            return false;
        *p = s + 1;
        return true;
    }
    while (isalpha((unsigned char)*s))
        s++;
    bool ok = s - *p >= 3;
    *p = s;
    return ok;
}

static bool rule_num(const char **p, int max, int *out)
{
    int v = 0;
    if (!isdigit((unsigned char)**p))
        return false;
    while (isdigit((unsigned char)**p)) {
        v = v * 10 + (*(*p)++ - '0');
        if (v > max)
            return false;
    }
    *out = v;
    return true;
}

/* [+-]h[h][h][:mm[:ss]] in seconds */
static bool rule_time(const char **p, int32_t *out)
{
    int h = 0, m = 0, s = 0;
    bool neg = **p == '-';
    if (**p == '-' || **p == '+')
        (*p)++;
    if (!rule_num(p, 167, &h))
        return false;
    if (**p == ':') {
        (*p)++;
        if (!rule_num(p, 59, &m))
            return false;
        if (**p == ':') {
            (*p)++;
            if (!rule_num(p, 59, &s))
                return false;
        }
    }
    int32_t v = h * 3600 + m * 60 + s;
    *out = neg ? -v : v;
    return true;
}

static bool rule_date(const char **p, struct tz_date *d)
{
    d->at = 2 * 3600;
    d->kind = **p == 'M' || **p == 'J' ? **p : 'N';
    if (d->kind != 'N')
        (*p)++;
    if (d->kind == 'M') {
        if (!rule_num(p, 12, &d->m) || d->m == 0 || *(*p)++ != '.' || !rule_num(p, 5, &d->w) || d->w == 0 ||
            *(*p)++ != '.' || !rule_num(p, 6, &d->d))
            return false;
    } else if (!rule_num(p, 365, &d->d)) {
        return false;
    }
    if (**p != '/')
        return true;
    (*p)++;
    return rule_time(p, &d->at);
}

static bool rule_parse(const char *p, struct tz *tz)
{
    int32_t west = 0;
    if (!rule_name(&p) || !rule_time(&p, &west))
        return false;
    tz->std = -west;
    tz->dst = tz->std + 3600;
    if (*p == '\0')
        return true;
    if (!rule_name(&p))
        return false;
    if (*p != ',' && *p != '\0') {
        if (!rule_time(&p, &west))
            return false;
        tz->dst = -west;
    }
    if (*p++ != ',' || !rule_date(&p, &tz->start) || *p++ != ',' || !rule_date(&p, &tz->end) || *p != '\0')
        return false;
    tz->has_dst = true;
    return true;
}

static bool leap(int64_t y)
{
    return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
}

/* Local seconds (clock before the change) of a rule's date in a year. */
static int64_t rule_when(const struct tz_date *d, int64_t year)
{
    int64_t days = civil_days(year, 1, 1);
    if (d->kind == 'M') {
        int64_t first = civil_days(year, d->m, 1), next = d->m == 12 ? civil_days(year + 1, 1, 1) : civil_days(year, d->m + 1, 1);
        int64_t wday = ((first + 4) % 7 + 7) % 7;
        days = first + (d->d - wday + 7) % 7 + 7 * (d->w - 1);
        while (days >= next)
            days -= 7;
    } else if (d->kind == 'J') {
        days += d->d - 1 + (leap(year) && d->d >= 60 ? 1 : 0);
    } else {
        days += d->d;
    }
    return days * DAY + d->at;
}

static int32_t rule_offset(const struct tz *tz, int64_t utc)
{
    if (!tz->has_dst)
        return tz->std;
    int64_t t = utc + tz->std;
    int64_t year = civil_of(t >= 0 ? t / DAY : (t - DAY + 1) / DAY).year;
    int64_t on = rule_when(&tz->start, year) - tz->std, off = rule_when(&tz->end, year) - tz->dst;
    bool summer = on < off ? utc >= on && utc < off : utc >= on || utc < off;
    return summer ? tz->dst : tz->std;
}

/* ---- the file ---- */

/* Big-endian fields behind a bound. */
struct tz_bytes { const uint8_t *p; size_t left; };

static bool take(struct tz_bytes *b, size_t n, const uint8_t **out)
{
    if (n > b->left)
        return false;
    *out = b->p;
    b->p += n;
    b->left -= n;
    return true;
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

struct tz_counts { uint32_t isut, isstd, leap, time, type, chr; };

static bool counts(struct tz_bytes *b, struct tz_counts *c, uint8_t *version)
{
    const uint8_t *h;
    if (!take(b, 44, &h) || memcmp(h, "TZif", 4) != 0)
        return false;
    *version = h[4];
    c->isut = be32(h + 20);
    c->isstd = be32(h + 24);
    c->leap = be32(h + 28);
    c->time = be32(h + 32);
    c->type = be32(h + 36);
    c->chr = be32(h + 40);
    return c->type > 0 && c->type <= 256 && c->time <= 65536 && c->leap <= 65536 && c->chr <= 65536 && c->isut <= 256 && c->isstd <= 256;
}

static bool block(struct tz_bytes *b, const struct tz_counts *c, size_t tsize, struct tz *tz)
{
    const uint8_t *times, *idx, *types, *rest;
    if (!take(b, c->time * tsize, &times) || !take(b, c->time, &idx) || !take(b, c->type * (size_t)6, &types) ||
        !take(b, c->chr + c->leap * (tsize + 4) + c->isstd + c->isut, &rest))
        return false;
    if (tz == NULL)
        return true;
    tz->when = calloc((size_t)c->time + 1, sizeof *tz->when);
    tz->offset = calloc((size_t)c->time + 1, sizeof *tz->offset);
    if (tz->when == NULL || tz->offset == NULL)
        return false;
    tz->before = (int32_t)be32(types);
    for (uint32_t i = 0; i < c->time; i++) {
        if (idx[i] >= c->type)
            return false;
        tz->when[i] = tsize == 8 ? (int64_t)get_be64(times + i * tsize) : (int32_t)be32(times + i * tsize);
        tz->offset[i] = (int32_t)be32(types + (size_t)6 * idx[i]);
        if (tz->offset[i] > OFFSET_MAX || tz->offset[i] < -OFFSET_MAX || (i > 0 && tz->when[i] <= tz->when[i - 1]))
            return false;
    }
    tz->n = c->time;
    return tz->before <= OFFSET_MAX && tz->before >= -OFFSET_MAX;
}

static bool tz_parse(const uint8_t *buf, size_t len, struct tz *tz)
{
    struct tz_bytes b = { buf, len };
    struct tz_counts c;
    uint8_t version = 0, again = 0;
    if (!counts(&b, &c, &version))
        return false;
    if (version < '2')
        return block(&b, &c, 4, tz);
    if (!block(&b, &c, 4, NULL) || !counts(&b, &c, &again) || !block(&b, &c, 8, tz))
        return false;
    /* footer: newline, rule, newline; may be empty */
    char rule[128];
    if (b.left < 2 || b.p[0] != '\n')
        return true;
    const uint8_t *end = memchr(b.p + 1, '\n', b.left - 1);
    size_t n = end != NULL ? (size_t)(end - b.p) - 1 : 0;
    if (n > 0 && n < sizeof rule) {
        memcpy(rule, b.p + 1, n);
        rule[n] = '\0';
        tz->has_rule = rule_parse(rule, tz);
    }
    return true;
}

static bool name_ok(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > 128 || name[0] == '/' || name[0] == '.' || strstr(name, "..") != NULL)
        return false;
    for (const char *p = name; *p != '\0'; p++)
        if (!isalnum((unsigned char)*p) && strchr("/_+-.", *p) == NULL)
            return false;
    return true;
}

static int read_zone(const char *name, uint8_t *buf, size_t *len, struct err *err)
{
    char path[256];
    snprintf(path, sizeof path, "%s%s", ZONEINFO, name);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return err_set(err, ERR_USAGE, "time zone %s: expected %s, found none (%s); install tzdata, or give the time in UTC with a Z",
                       name, path, strerror(errno));
    *len = fread(buf, 1, TZ_FILE_MAX, f);
    int bad = ferror(f);
    fclose(f);
    return bad ? err_set(err, ERR_USAGE, "time zone %s: %s cannot be read", name, path) : 0;
}

int tz_load(const char *name, struct tz **out, struct err *err)
{
    struct tz *tz = calloc(1, sizeof *tz);
    uint8_t *buf = NULL;
    size_t len = 0;
    int rc = tz != NULL ? 0 : err_set(err, ERR_NOMEM, "time zone: out of memory");
    if (rc == 0 && strcmp(name, "UTC") == 0) {
        *out = tz;
        return 0;
    }
    if (rc == 0 && !name_ok(name))
        rc = err_set(err, ERR_USAGE, "time zone %.128s: expected a name such as Europe/Zurich or UTC", name);
    if (rc == 0 && (buf = malloc(TZ_FILE_MAX)) == NULL)
        rc = err_set(err, ERR_NOMEM, "time zone: out of memory");
    if (rc == 0)
        rc = read_zone(name, buf, &len, err);
    if (rc == 0 && !tz_parse(buf, len, tz))
        rc = err_set(err, ERR_USAGE, "time zone %s: %s%s is not a valid zone file", name, ZONEINFO, name);
    free(buf);
    if (rc < 0)
        tz_free(tz);
    else
        *out = tz;
    return rc;
}

void tz_free(struct tz *tz)
{
    if (tz == NULL)
        return;
    free(tz->when);
    free(tz->offset);
    free(tz);
}

int32_t tz_offset(const struct tz *tz, int64_t utc)
{
    size_t lo = 0, hi = tz->n;
    if (tz->has_rule && (tz->n == 0 || utc >= tz->when[tz->n - 1]))
        return rule_offset(tz, utc);
    while (lo < hi) {                    /* first transition behind utc */
        size_t mid = lo + (hi - lo) / 2;
        if (tz->when[mid] <= utc)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo == 0 ? tz->before : tz->offset[lo - 1];
}

int tz_utc(const struct tz *tz, int64_t local, int64_t out[2])
{
    int n = 0;
    /* every offset in force within the widest distance of UTC is a candidate */
    for (int64_t u = local - OFFSET_MAX; u <= local + OFFSET_MAX; u += 1800) {
        int64_t c = local - tz_offset(tz, u);
        if (tz_offset(tz, c) != (int32_t)(local - c))
            continue;
        if ((n > 0 && out[0] == c) || (n > 1 && out[1] == c))
            continue;
        if (n < 2)
            out[n++] = c;
    }
    if (n == 2 && out[0] > out[1]) {
        int64_t t = out[0];
        out[0] = out[1];
        out[1] = t;
    }
    return n;
}
