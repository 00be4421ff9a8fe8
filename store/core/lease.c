/* lease.c: see lease.h. */
#include "store/core/lease.h"

#include "store/base/bytes.h"
#include "store/core/core_internal.h"
#include "store/core/policy.h"
#include "store/core/role.h"
#include "store/core/standby.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AWAIT_POLL_MS = 100 };

static const char lease_key[] = "lease", in_key[] = "lease-in", told_key[] = "lease-told";

static uint64_t now_ms(struct store *s)
{
    return io_boot_ns(s->io) / 1000000;
}

int lease_parse(const char *text, uint32_t *ms, char *target, size_t cap, struct err *err)
{
    const char *blank = strchr(text, ' ');
    char time[32] = "";
    uint64_t ns = 0;
    int rc = ERR_USAGE;

    if (blank != NULL && (size_t)(blank - text) < sizeof time && blank[1] != '\0' && strlen(blank + 1) < cap) {
        memcpy(time, text, (size_t)(blank - text));
        rc = policy_duration(time, &ns, NULL);
    }
    if (rc < 0 || ns / 1000000 < LEASE_LEAST_MS || ns / 1000000 > LEASE_MOST_MS)
        return err_set(err, ERR_USAGE, "lease %.64s: expected a time from %d s to 1h and the standby that gives it, as `spare standby list` has it, such as \"30s HOST:STORE\"", text,
                       LEASE_LEAST_MS / 1000);
    *ms = (uint32_t)(ns / 1000000);
    snprintf(target, cap, "%s", blank + 1);
    return 0;
}

/* ---- what is asked for, and what was told: in the settings; under mark_lock ---- */

static void asked_for(struct store *s, struct lease *out)
{
    char text[STANDBY_TARGET_MAX + 64], target[STANDBY_TARGET_MAX + 1];
    struct standby b;
    int i;

    memset(out, 0, sizeof *out);
    if (super_config_get(&s->sb, lease_key, text, sizeof text) <= 0 || lease_parse(text, &out->ms, target, sizeof target, NULL) < 0)
        return;
    i = standby_find(s, target);
    if (i >= 0 && i < STANDBYS_MAX && standby_get(s, (unsigned)i, &b))
        memcpy(out->site, b.site, 16);
}

static void told(const struct super *sb, struct lease *out)
{
    char text[64], hex[33];

    memset(out, 0, sizeof *out);
    if (super_config_get(sb, told_key, text, sizeof text) > 0 && (sscanf(text, "%" SCNu32 " %32s", &out->ms, hex) != 2 || !hex_get(hex, out->site, 16)))
        memset(out->site, 0, 16);
}

/* In which epoch it has begun; 0: it has not. */
static uint32_t begun_in(const struct super *sb)
{
    char text[16];

    return super_config_get(sb, in_key, text, sizeof text) > 0 ? (uint32_t)strtoul(text, NULL, 10) : 0;
}

static bool gives(const struct store *s, const struct lease *l)
{
    return memcmp(l->site, s->sb.site, 16) == 0;
}

void lease_take(struct store *s)
{
    uint64_t now = now_ms(s);

    pthread_mutex_lock(&s->lease_lock);
    told(&s->sb, &s->lease_told);
    if (!s->lease_taken && s->lease_told.ms > 0 && gives(s, &s->lease_told))     /* when it acknowledged last is not known */
        s->promised_ms = now + lease_promise_ms(s->lease_told.ms);
    s->lease_taken = true;
    asked_for(s, &s->lease_asked);
    if (s->lease_asked.ms == 0 || s->sb.role != ROLE_PRIMARY || begun_in(&s->sb) != s->sb.epochs[s->sb.n_epochs - 1].number)
        atomic_store(&s->lease_until, UINT64_MAX);
    else if (atomic_load(&s->lease_until) == UINT64_MAX)
        atomic_store(&s->lease_until, now);              /* one may come: changes wait for it */
    pthread_mutex_unlock(&s->lease_lock);
}

bool lease_is_in(const char *setting)
{
    return strncmp(setting, lease_key, sizeof lease_key - 1) == 0 || strncmp(setting, "standby-", 8) == 0;
}

void lease_unset(struct super *sb)
{
    (void)super_config_set(sb, in_key, NULL, NULL);
}

bool lease_holds(struct store *s)
{
    uint64_t until = atomic_load_explicit(&s->lease_until, memory_order_relaxed);

    return until == UINT64_MAX || now_ms(s) < until;
}

uint64_t lease_wait_until(struct store *s)
{
    uint64_t until = atomic_load_explicit(&s->lease_until, memory_order_relaxed);

    return until == UINT64_MAX ? 0 : until + LEASE_WAIT_MS;
}

bool lease_waits(struct store *s, uint64_t until_ms)
{
    return now_ms(s) < until_ms;
}

void store_lease(struct store *s, struct lease *out)
{
    pthread_mutex_lock(&s->lease_lock);
    *out = store_role(s) == ROLE_PRIMARY ? s->lease_asked : s->lease_told;
    pthread_mutex_unlock(&s->lease_lock);
}

enum lease_state store_lease_state(struct store *s, uint64_t *left_ms)
{
    enum lease_state st = LEASE_NONE;
    uint64_t until, now;

    pthread_mutex_lock(&s->lease_lock);
    now = now_ms(s);
    until = atomic_load(&s->lease_until);
    if (store_role(s) == ROLE_PRIMARY && s->lease_asked.ms > 0)
        st = until == UINT64_MAX ? LEASE_TO_COME : now < until ? LEASE_HELD : LEASE_OUT;
    *left_ms = st == LEASE_HELD ? until - now : 0;
    pthread_mutex_unlock(&s->lease_lock);
    return st;
}

/* What a lease rests on: into both copies, since one that rots must not take it along. */
static int note(struct store *s, const char *key, const char *value, struct err *err)
{
    int rc = store_config_set(s, key, value, err);

    return rc < 0 ? rc : store_config_set(s, key, value, err);
}

/* ---- the primary's part ---- */

static bool is_asked_of(const struct store *s, const uint8_t site[16])
{
    return atomic_load(&s->role) == ROLE_PRIMARY && s->lease_asked.ms > 0 && memcmp(s->lease_asked.site, site, 16) == 0;
}

/* The first of an epoch: that from now on one is needed is durable before it counts. */
static int begin(struct store *s, const uint8_t site[16], uint64_t until_ms, struct err *err)
{
    char text[16];
    int rc = 0;

    pthread_mutex_lock(&s->mark_lock);
    if (s->opt.writable && is_asked_of(s, site) && atomic_load(&s->lease_until) == UINT64_MAX) {     /* (lease_take is under mark_lock, too) */
        snprintf(text, sizeof text, "%" PRIu32, s->sb.epochs[s->sb.n_epochs - 1].number);
        rc = note(s, in_key, text, err);
        if (rc == 0)
            atomic_store(&s->lease_until, until_ms);
    }
    pthread_mutex_unlock(&s->mark_lock);
    return rc;
}

int store_lease_renew(struct store *s, const uint8_t site[16], uint64_t until_ms, struct err *err)
{
    uint64_t until;
    bool asked, out = false;

    pthread_mutex_lock(&s->lease_lock);
    until = atomic_load(&s->lease_until);
    asked = is_asked_of(s, site);
    if (asked && until != UINT64_MAX && until_ms > until) {
        atomic_store(&s->lease_until, until_ms);
        out = now_ms(s) >= until;
    }
    pthread_mutex_unlock(&s->lease_lock);
    if (out)
        run_progress(s);
    return asked && until == UINT64_MAX ? begin(s, site, until_ms, err) : 0;
}

/* ---- the standby's ---- */

static int note_told(struct store *s, const struct lease *l, struct err *err)
{
    char text[64], site[33];

    hex_put(site, l->site, 16);
    snprintf(text, sizeof text, "%" PRIu32 " %s", l->ms, site);
    return note(s, told_key, l->ms > 0 ? text : NULL, err);
}

int store_lease_promise(struct store *s, const struct lease *l, uint32_t epoch, uint64_t until_ms, struct err *err)
{
    struct lease before;
    int rc = 0;

    pthread_mutex_lock(&s->mark_lock);
    told(&s->sb, &before);
    if (s->lease_awaited || store_role(s) != ROLE_STANDBY || epoch < store_epoch_known(s))
        rc = err_set(err, ERR_BUSY, "standby: it is being promoted, or knows of a later epoch, and promises nothing more");
    else if (before.ms != l->ms || memcmp(before.site, l->site, 16) != 0)
        rc = note_told(s, l, err);
    if (rc == 0 && l->ms > 0 && gives(s, l) && until_ms > s->promised_ms)
        s->promised_ms = until_ms;
    pthread_mutex_unlock(&s->mark_lock);
    return rc;
}

int lease_allows(struct store *s, struct err *err)
{
    struct lease l;

    told(&s->sb, &l);
    if (l.ms == 0 || s->sb.role != ROLE_STANDBY || s->lease_awaited)
        return 0;
    return err_set(err, ERR_FENCED, "%s: expected nobody to rely on this standby, found its primary to have a lease of %" PRIu32 " s; `spare promote` waits for its end",
                   s->dir != NULL ? s->dir : "store", l.ms / 1000);
}

void lease_clear(struct super *sb)
{
    (void)super_config_set(sb, told_key, NULL, NULL);
    (void)super_config_set(sb, in_key, NULL, NULL);
}

void lease_none(struct super *sb)
{
    lease_clear(sb);
    (void)super_config_set(sb, lease_key, NULL, NULL);
}

int store_lease_await(struct store *s, bool unfenced, bool (*waiting)(void *arg, uint64_t left_ms), void *arg, struct err *err)
{
    const char *name = s->dir != NULL ? s->dir : "store";
    uint64_t until, now = 0;
    struct lease l;
    int rc = 0;

    pthread_mutex_lock(&s->mark_lock);
    told(&s->sb, &l);
    if (store_role(s) != ROLE_STANDBY)
        l.ms = 0;
    if (l.ms > 0 && !gives(s, &l) && !unfenced)
        rc = err_set(err, ERR_FENCED, "%s: expected the standby that gives the primary its lease, found another (that one is site %02x%02x%02x%02x...): the primary may be taking changes. Promote that "
                     "one; or see to it that the primary is off, then say --unfenced", name, l.site[0], l.site[1], l.site[2], l.site[3]);
    s->lease_awaited = rc == 0 && l.ms > 0;
    until = l.ms > 0 && gives(s, &l) && !unfenced ? s->promised_ms : 0;
    pthread_mutex_unlock(&s->mark_lock);
    while (rc == 0 && (now = now_ms(s)) < until) {
        pthread_mutex_lock(&s->mark_lock);               /* another try may have ended, and one have begun since */
        until = s->promised_ms;
        if (!s->lease_awaited)
            rc = err_set(err, ERR_BUSY, "%s: another promotion was under way, and did not come about; try again", name);
        pthread_mutex_unlock(&s->mark_lock);
        if (rc < 0 || now >= until)
            continue;
        if (waiting != NULL && !waiting(arg, until - now))
            rc = err_set(err, ERR_INTR, "%s: interrupted; it is not promoted", name);
        else
            (void)poll(NULL, 0, until - now < AWAIT_POLL_MS ? (int)(until - now) : AWAIT_POLL_MS);
    }
    if (rc < 0)
        store_lease_resume(s);
    return rc;
}

void store_lease_resume(struct store *s)
{
    pthread_mutex_lock(&s->mark_lock);
    s->lease_awaited = false;
    pthread_mutex_unlock(&s->mark_lock);
}
