/* moment_parse.c: the text forms of a moment. Pure, but for reading a zone's file. */
#include "store/core/moment.h"
#include "store/core/moment_internal.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { DAY = 86400 };
#define NS 1000000000ll
#define SEC_MAX (INT64_MAX / NS - 1)
#define FORMS "expected a time (2026-11-22T10:15:03Z, 2026-11-22T101503Z, \"2026-11-22 10:15\"), an age (5m, 2h, 3d), " \
              "\"yesterday 14:00\", now, @LSN or the name of a snapshot"

static bool digits(const char **p, int n, int *out)
{
    int v = 0;
    for (int i = 0; i < n; i++) {
        if (!isdigit((unsigned char)(*p)[i]))
            return false;
        v = v * 10 + ((*p)[i] - '0');
    }
    *p += n;
    *out = v;
    return true;
}

/* A time of day: H[H]:MM[:SS[.f]] or HHMM[SS[.f]]. */
struct clock { int h, m, s; int64_t ns; };

static bool clock_of(const char **p, struct clock *c)
{
    const char *s = *p;
    bool colons;
    memset(c, 0, sizeof *c);
    if (isdigit((unsigned char)s[0]) && s[1] == ':') {
        c->h = *s++ - '0';
    } else if (!digits(&s, 2, &c->h)) {
        return false;
    }
    colons = *s == ':';
    if (colons)
        s++;
    if (!digits(&s, 2, &c->m))
        return false;
    if (colons ? *s == ':' && isdigit((unsigned char)s[1]) : isdigit((unsigned char)*s)) {
        s += colons;
        if (!digits(&s, 2, &c->s))
            return false;
        if ((*s == '.' || *s == ',') && isdigit((unsigned char)s[1])) {
            int64_t unit = NS / 10;
            for (s++; isdigit((unsigned char)*s); s++, unit /= 10)
                c->ns += (*s - '0') * unit;
        }
    }
    *p = s;
    return c->h <= 23 && c->m <= 59 && c->s <= 60;
}

/* Z, +HH:MM, +HHMM, +HH: returns 1 with *${east} in seconds, 0 none, -1 malformed. */
static int zone_of(const char **p, int32_t *east)
{
    const char *s = *p;
    int h = 0, m = 0, sign = *s == '-' ? -1 : 1;
    *east = 0;
    if (*s == 'Z' || *s == 'z') {
        *p = s + 1;
        return 1;
    }
    if (*s != '+' && *s != '-')
        return 0;
    s++;
    if (!digits(&s, 2, &h))
        return -1;
    if (*s == ':')
        s++;
    if (isdigit((unsigned char)*s) && !digits(&s, 2, &m))
        return -1;
    if (h > 23 || m > 59)
        return -1;
    *east = sign * (h * 3600 + m * 60);
    *p = s;
    return 1;
}

static void offset_text(int64_t utc, int32_t east, char buf[40])
{
    int64_t t = utc + east, days = t >= 0 ? t / DAY : (t - DAY + 1) / DAY, in = t - days * DAY;
    struct civil c = civil_of(days);
    int32_t a = east < 0 ? -east : east;
    snprintf(buf, 40, "%04d-%02d-%02dT%02d:%02d:%02d%c%02d:%02d", (int)c.year, c.month, c.day, (int)(in / 3600), (int)(in / 60 % 60),
             (int)(in % 60), east < 0 ? '-' : '+', (int)(a / 3600), (int)(a / 60 % 60));
}

/* Local seconds in the zone to an instant. */
static int local_to_utc(const char *text, const char *zone, int64_t local, int64_t *utc, struct err *err)
{
    struct tz *tz = NULL;
    int64_t u[2] = { 0, 0 };
    char a[40], b[40];
    int rc = tz_load(zone, &tz, err);
    if (rc < 0)
        return rc;
    int n = tz_utc(tz, local, u);
    if (n == 2) {
        offset_text(u[0], tz_offset(tz, u[0]), a);
        offset_text(u[1], tz_offset(tz, u[1]), b);
        rc = err_set(err, ERR_USAGE, "%.64s: the clocks of %s were set back then, so this time was there twice; say %s or %s", text, zone, a, b);
    } else if (n == 0) {
        int64_t past = local - tz_offset(tz, local - DAY);
        offset_text(past, tz_offset(tz, past), a);
        rc = err_set(err, ERR_USAGE, "%.64s: the clocks of %s were set forward over this time, so it was never there; the instant is %s",
                     text, zone, a);
    }
    *utc = u[0];
    tz_free(tz);
    return rc;
}

static int spec_time(struct moment_spec *spec, int64_t sec, int64_t ns, const char *text, struct err *err)
{
    if (sec > SEC_MAX || sec < -SEC_MAX)
        return err_set(err, ERR_USAGE, "%.64s: expected a year from 1678 to 2261", text);
    spec->kind = MOMENT_TIME;
    spec->wall_ns = sec * NS + ns;
    return 0;
}

static int days_of_month(int y, int m)
{
    return (int)(civil_days(m == 12 ? y + 1 : y, m == 12 ? 1 : m + 1, 1) - civil_days(y, m, 1));
}

/* Returns 1 and *rc set if ${text} has the form of a date. */
static bool date_form(const char *text, const char *zone, struct moment_spec *spec, int *rc, struct err *err)
{
    const char *p = text;
    struct clock c = { 0 };
    int y = 0, m = 0, d = 0, has_zone = 0;
    int32_t east = 0;
    int64_t utc = 0;
    if (!digits(&p, 4, &y) || *p++ != '-' || !digits(&p, 2, &m) || *p++ != '-' || !digits(&p, 2, &d) || isdigit((unsigned char)*p))
        return false;
    bool timed = *p == 'T' || *p == 't' || *p == ' ';
    if (!timed && *p != '\0')
        return false;
    *rc = 0;
    if (timed) {
        p++;
        while (*p == ' ')
            p++;
        if (!clock_of(&p, &c))
            *rc = ERR_USAGE;
        while (*p == ' ')
            p++;
        has_zone = *rc == 0 ? zone_of(&p, &east) : 0;
    }
    if (*rc < 0 || has_zone < 0 || *p != '\0' || m < 1 || m > 12 || d < 1 || d > days_of_month(y, m)) {
        *rc = err_set(err, ERR_USAGE, "%.64s: not a valid date and time; " FORMS, text);
        return true;
    }
    int64_t local = civil_days(y, m, d) * DAY + c.h * 3600 + c.m * 60 + c.s;
    if (has_zone == 1)
        utc = local - east;
    else
        *rc = local_to_utc(text, zone, local, &utc, err);
    if (*rc == 0)
        *rc = spec_time(spec, utc, c.ns, text, err);
    return true;
}

/* 5m, 2h, 1h30m, -3d, "5m ago" */
static bool age_form(const char *text, int64_t now_ns, struct moment_spec *spec, int *rc, struct err *err)
{
    static const struct { char unit; int64_t sec; } units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', DAY }, { 'w', 7 * DAY } };
    const char *p = text + (text[0] == '-');
    int64_t total = 0;
    bool over = false;
    if (!isdigit((unsigned char)*p))
        return false;
    while (isdigit((unsigned char)*p)) {
        int64_t n = 0, unit = 0;
        for (; isdigit((unsigned char)*p); p++) {
            n = n * 10 + (*p - '0');
            if (n > SEC_MAX / (7 * DAY)) {
                n = 0;
                over = true;
            }
        }
        for (size_t i = 0; i < sizeof units / sizeof *units; i++)
            if (*p == units[i].unit)
                unit = units[i].sec;
        if (unit == 0)
            return false;
        p++;
        total += n * unit;
        over = over || total > SEC_MAX;
        if (over)
            total = 0;
    }
    while (*p == ' ')
        p++;
    if (strcmp(p, "ago") != 0 && *p != '\0')
        return false;
    int64_t wall = 0;
    if (over || __builtin_sub_overflow(now_ns, total * NS, &wall)) {
        *rc = err_set(err, ERR_USAGE, "%.64s: longer ago than any time there is", text);
        return true;
    }
    spec->kind = MOMENT_TIME;
    spec->relative = true;
    spec->wall_ns = wall;
    *rc = 0;
    return true;
}

/* "yesterday 14:00", "today 9:30", either alone: its midnight */
static bool day_form(const char *text, int64_t now_ns, const char *zone, struct moment_spec *spec, int *rc, struct err *err)
{
    struct clock c = { 0 };
    struct tz *tz = NULL;
    int64_t utc = 0;
    size_t n = strncasecmp(text, "yesterday", 9) == 0 ? 9 : strncasecmp(text, "today", 5) == 0 ? 5 : 0;
    const char *p = text + n;
    if (n == 0 || (*p != ' ' && *p != '\0'))
        return false;
    while (*p == ' ')
        p++;
    *rc = 0;
    if (*p != '\0' && (!clock_of(&p, &c) || *p != '\0')) {
        *rc = err_set(err, ERR_USAGE, "%.64s: expected a time of day behind it, such as 14:00", text);
        return true;
    }
    *rc = tz_load(zone, &tz, err);
    if (*rc < 0)
        return true;
    int64_t now = now_ns >= 0 ? now_ns / NS : (now_ns - NS + 1) / NS, here = now + tz_offset(tz, now);
    int64_t days = (here >= 0 ? here / DAY : (here - DAY + 1) / DAY) - (n == 9);
    tz_free(tz);
    *rc = local_to_utc(text, zone, days * DAY + c.h * 3600 + c.m * 60 + c.s, &utc, err);
    if (*rc == 0)
        *rc = spec_time(spec, utc, c.ns, text, err);
    return true;
}

static int lsn_form(const char *text, struct moment_spec *spec, struct err *err)
{
    uint64_t v = 0;
    const char *p = text + 1;
    bool ok = isdigit((unsigned char)*p);
    for (; ok && isdigit((unsigned char)*p); p++)
        ok = !__builtin_mul_overflow(v, (uint64_t)10, &v) && !__builtin_add_overflow(v, (uint64_t)(*p - '0'), &v);
    if (!ok || *p != '\0')
        return err_set(err, ERR_USAGE, "%.64s: expected a number behind the @", text);
    spec->kind = MOMENT_LSN;
    spec->lsn = v;
    return 0;
}

static int name_form(const char *text, struct moment_spec *spec, struct err *err)
{
    size_t n = strlen(text);
    bool ok = n >= 1 && n <= REC_NAME_MAX && text[0] != '-' && strchr(text, '/') == NULL && strcmp(text, ".") != 0 && strcmp(text, "..") != 0;
    for (size_t i = 0; i < n && ok; i++)
        ok = (unsigned char)text[i] >= 0x20 && text[i] != 0x7f;
    if (!ok)
        return err_set(err, ERR_USAGE, "%.64s: " FORMS, text);
    spec->kind = MOMENT_NAME;
    spec->name = text;
    return 0;
}

int moment_parse(const char *text, int64_t now_ns, const char *tz, struct moment_spec *spec, struct err *err)
{
    int rc = 0;
    memset(spec, 0, sizeof *spec);
    if (text[0] == '@')
        return lsn_form(text, spec, err);
    if (strcasecmp(text, "now") == 0) {
        spec->kind = MOMENT_NOW;
        spec->wall_ns = now_ns;
        spec->relative = true;
        return 0;
    }
    if (date_form(text, tz, spec, &rc, err) || age_form(text, now_ns, spec, &rc, err) || day_form(text, now_ns, tz, spec, &rc, err))
        return rc;
    return name_form(text, spec, err);
}

int moment_name_ok(const char *name, struct err *err)
{
    struct moment_spec spec;
    int rc = moment_parse(name, 0, "UTC", &spec, NULL);
    if (rc == 0 && spec.kind == MOMENT_NAME)
        return 0;
    if (rc == 0 || isdigit((unsigned char)name[0]))
        return err_set(err, ERR_USAGE, "snapshot %.64s: expected a name, found what reads as a time or a number; choose another", name);
    return err_set(err, ERR_USAGE, "snapshot %.64s: expected a name of 1 to 255 bytes without / and control characters that does not begin "
                   "with @ or -", name);
}

static void clock_text(int64_t wall_ns, bool colons, char *buf, size_t cap, int64_t *ns)
{
    int64_t sec = wall_ns / NS;
    *ns = wall_ns % NS;
    if (*ns < 0) {
        *ns += NS;
        sec--;
    }
    int64_t days = sec >= 0 ? sec / DAY : (sec - DAY + 1) / DAY, in = sec - days * DAY;
    struct civil c = civil_of(days);
    snprintf(buf, cap, colons ? "%04d-%02d-%02dT%02d:%02d:%02d" : "%04d-%02d-%02dT%02d%02d%02d", (int)c.year, c.month, c.day,
             (int)(in / 3600), (int)(in / 60 % 60), (int)(in % 60));
}

void moment_format(int64_t wall_ns, char buf[40])
{
    int64_t ns;
    clock_text(wall_ns, false, buf, 39, &ns);
    strcat(buf, "Z");
}

void moment_rfc3339(int64_t wall_ns, char buf[40])
{
    char part[40];
    int64_t ns;
    clock_text(wall_ns, true, part, sizeof part, &ns);
    snprintf(buf, 40, "%.24s.%09dZ", part, (int)ns);
}
