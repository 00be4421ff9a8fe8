/* Settings of a store: the one table, and the requests that show and change them. */
#include "store/core/lease.h"
#include "store/core/nohistory.h"
#include "store/core/policy.h"
#include "store/core/standby.h"
#include "store/svc/svc_internal.h"
#include "store/sync/rate.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const struct svc_setting svc_settings[] = {
    { "timezone",    "zone",  "UTC",       "time zone of local times and day boundaries" },
    { "memory",      "bytes", "268435456", "bound of caches and index memory; counts from the next mount" },
    { "commit-ms",   "ms",    "100",       "written data is on disk at the latest after this; counts from the next mount" },
    { "keep-all",    "time",  "7d",        "every moment is kept for so long" },
    { "keep-hourly", "count", "48",        "then the ends of the last so many hours in which something happened" },
    { "keep-daily",  "count", "30",        "... days" },
    { "keep-weekly", "count", "8",         "... weeks" },
    { "keep-monthly", "count", "12",       "... months" },
    { "keep-yearly", "count", "3",         "... years" },
    { "min-age",     "time",  "1h",        "nothing younger goes, whatever space is short" },
    { "reclaim-grace", "time", "1d",       "what is not listed any more can be brought back for so long" },
    { "nohistory",   "patterns", "",       "names of which no history is kept: shell patterns between spaces; CACHEDIR.TAG: what is made beside such a file" },
    { "history-max", "bytes", "",          "the store may take so much beside what is in the tree today; beyond it less is kept" },
    { "keep-free",   "bytes", "",          "with less free disk than this less is kept, and status says Space low" },
    { "bandwidth",   "rate",  "none",      "sent to a HOST:STORE at most so many bytes a second: 10M, or by the time of day 08:00-18:00=2M,else=none" },
    { "rpo",         "time",  "10s",       "how much may be lost with this disk: status holds standbys against it" },
    { "rpo-away",    "word",  "degrade",   "what fsync does where user.spare.rpo is 0 and no standby answers for 5 s: degrade, fail or wait" },
    { "lease",       "lease", "",          "changes only for so long as that standby says it is not promoted: TIME TARGET, such as 30s HOST:STORE" },
    { "hold-log",    "bytes", "",          "how much a standby that is away may hold back; else a tenth of the disk, at most 50 GiB" },
};
const size_t svc_n_settings = sizeof svc_settings / sizeof svc_settings[0];

static const struct svc_setting *find_setting(const char *name)
{
    for (size_t i = 0; i < svc_n_settings; i++)
        if (strcmp(svc_settings[i].name, name) == 0)
            return &svc_settings[i];
    return NULL;
}

int svc_size_parse(const char *text, uint64_t *out, struct err *err)
{
    return policy_size(text, out, err);
}

/* A zone name goes into a path: only what zone names are made of. */
static int zone_check(const char *v, struct err *err)
{
    char path[300];
    struct stat st;
    bool ok = v[0] && strlen(v) < 200 && v[0] != '/' && !strstr(v, "..");

    for (const char *p = v; *p && ok; p++)
        ok = isalnum((unsigned char)*p) || strchr("/_+-", *p);
    if (!ok)
        goto bad;
    if (strcmp(v, "UTC") == 0)
        return 0;
    snprintf(path, sizeof path, "/usr/share/zoneinfo/%s", v);
    if (stat(path, &st) == 0 && S_ISREG(st.st_mode))
        return 0;
bad:
    return err_set(err, ERR_USAGE, "timezone %.64s: expected a name below /usr/share/zoneinfo, such as Europe/Zurich, or UTC", v);
}

int svc_setting_check(const char *name, const char *value, char *norm, size_t cap, struct err *err)
{
    const struct svc_setting *t = find_setting(name);
    struct rate rate;
    uint64_t v;
    int r;

    if (!t)
        return err_set(err, ERR_USAGE, "%.64s: no such setting; `spare config show` lists them", name);
    r = policy_check(name, value, norm, cap, err);
    if (r != ERR_NOENT)
        return r;
    if (strcmp(t->unit, "patterns") == 0)
        return nohistory_check(value, norm, cap, err);
    if (strcmp(t->unit, "lease") == 0) {
        char target[STANDBY_TARGET_MAX + 1];
        uint32_t ms;

        r = lease_parse(value, &ms, target, sizeof target, err);
        if (r == 0)
            snprintf(norm, cap, "%s", value);
        return r;
    }
    if (strcmp(t->unit, "zone") == 0) {
        r = zone_check(value, err);
        if (r)
            return r;
        snprintf(norm, cap, "%s", value);
        return 0;
    }
    if (strcmp(t->unit, "rate") == 0 || strcmp(t->unit, "time") == 0) {
        r = *t->unit == 'r' ? rate_parse(value, &rate, err) : policy_duration(value, &v, err);
        if (r == 0)
            snprintf(norm, cap, "%s", value);
        return r;
    }
    if (strcmp(t->unit, "word") == 0) {
        if (strcmp(value, "degrade") != 0 && strcmp(value, "fail") != 0 && strcmp(value, "wait") != 0)
            return err_set(err, ERR_USAGE, "rpo-away %.64s: expected degrade, fail or wait", value);
        snprintf(norm, cap, "%s", value);
        return 0;
    }
    r = svc_size_parse(value, &v, err);
    if (r)
        return r;
    if (strcmp(t->name, "memory") == 0 && v < 32u << 20)
        return err_set(err, ERR_USAGE, "memory %s: expected at least 32M", value);
    if (strcmp(t->name, "commit-ms") == 0 && (v < 1 || v > 60000))
        return err_set(err, ERR_USAGE, "commit-ms %s: expected 1 to 60000", value);
    snprintf(norm, cap, "%llu", (unsigned long long)v);
    return 0;
}

static int emit_setting(struct svc_req *q, const struct svc_setting *t)
{
    char buf[SUPER_CONFIG_MAX];
    bool set = store_config_get(q->s, t->name, buf, sizeof buf) >= 0;
    json_t *o = json_object();

    svc_put_text(o, "name", t->name);
    svc_put_text(o, "value", set ? buf : t->fallback);
    svc_put_text(o, "unit", t->unit);
    json_object_set_new(o, "set", json_boolean(set));
    svc_put_text(o, "text", t->text);
    return svc_emit(q, "item", o);
}

int svc_op_config(struct svc_req *q, struct err *err)
{
    (void)err;
    for (size_t i = 0; i < svc_n_settings; i++) {
        int r = emit_setting(q, &svc_settings[i]);

        if (r)
            return r;
    }
    return 0;
}

/* One that was never reached could not be told from another that comes by its name. */
static int may_give_lease(struct svc_req *q, const char *value, struct err *err)
{
    static const uint8_t never[16];
    char target[STANDBY_TARGET_MAX + 1];
    struct standby b;
    uint32_t ms;
    int r = lease_parse(value, &ms, target, sizeof target, err), i;

    if (r)
        return r;
    i = standby_find(q->s, target);
    if (i < 0 || i >= STANDBYS_MAX || !standby_get(q->s, (unsigned)i, &b) || memcmp(b.site, never, 16) == 0)
        return err_set(err, ERR_USAGE, "lease: expected a standby that was reached before, found %.200s; `spare standby list` names them", target);
    return 0;
}

int svc_op_config_set(struct svc_req *q, struct err *err)
{
    const char *name, *value;
    char norm[512];
    int r = svc_arg_text(q, "name", &name, err);

    if (r == 0)
        r = svc_arg_text(q, "value", &value, err);
    if (r)
        return r;
    if (!name)
        return err_set(err, ERR_USAGE, "config: expected a name");
    if (!find_setting(name))
        return err_set(err, ERR_USAGE, "%.64s: no such setting; `spare config show` lists them", name);
    if (value) {
        r = svc_setting_check(name, value, norm, sizeof norm, err);
        if (r == 0 && strcmp(name, "lease") == 0)
            r = may_give_lease(q, norm, err);
        if (r)
            return r;
    }
    r = store_config_set(q->s, name, value ? norm : NULL, err);
    if (r)
        return r;
    return emit_setting(q, find_setting(name));
}
