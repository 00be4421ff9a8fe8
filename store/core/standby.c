/* standby.c: the standbys a store knows, among its settings. */
#include "store/core/standby.h"

#include "store/base/bytes.h"
#include "store/core/core_internal.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


/* ---- one as text ---- */

static bool put_word(const char *s, char *buf, size_t cap, size_t *at)
{
    if (s[0] == '\0' || strcmp(s, "-") == 0) {
        if (*at + 2 > cap)
            return false;
        buf[(*at)++] = '-';
    }
    for (; *s != '\0' && strcmp(s, "-") != 0; s++) {
        bool plain = *s != '%' && *s != ' ';

        if (*at + 4 > cap)
            return false;
        if (plain) {
            buf[(*at)++] = *s;
            continue;
        }
        buf[(*at)++] = '%';
        hex_put(buf + *at, (const uint8_t *)s, 1);
        *at += 2;
    }
    buf[*at] = '\0';
    return true;
}

/* The word at ${*p}, which ends at a blank; *p behind that. */
static bool get_word(const char **p, char *out, size_t cap)
{
    size_t n = 0;
    const char *s = *p;

    if (s[0] == '-' && s[1] == ' ') {
        out[0] = '\0';
        *p = s + 2;
        return true;
    }
    while (*s != '\0' && *s != ' ') {
        int c = (unsigned char)*s++;

        if (c == '%') {
            uint8_t b;

            if (!hex_get(s, &b, 1) || b == 0)
                return false;
            c = b;
            s += 2;
        }
        if (n + 1 >= cap)
            return false;
        out[n++] = (char)c;
    }
    out[n] = '\0';
    if (n == 0 || *s != ' ')
        return false;
    *p = s + 1;
    return true;
}

static bool get_more(const char **p, struct standby *b)
{
    const char *s = *p;

    if (*s != '+')
        return true;
    for (s++; *s != '\0' && *s != ' '; s++) {
        b->ships |= *s == 's';
        b->paused |= *s == 'p';
    }
    if (*s != ' ')
        return false;
    *p = s + 1;
    return get_word(p, b->ssh, sizeof b->ssh) && get_word(p, b->remote, sizeof b->remote);
}

bool standby_parse(const char *text, struct standby *out)
{
    struct standby b = { 0 };
    char hex[33];
    const char *p;
    int at = 0;

    if (sscanf(text, "%32s %" SCNu64 " %" SCNd64 " %n", hex, &b.acked, &b.heard_s, &at) != 3 || at == 0 || strlen(hex) != 32)
        return false;
    if (!hex_get(hex, b.site, 16))
        return false;
    p = text + at;
    if (!get_more(&p, &b) || *p == '\0' || strlen(p) > STANDBY_TARGET_MAX)
        return false;
    memcpy(b.target, p, strlen(p) + 1);
    *out = b;
    return true;
}

bool standby_format(const struct standby *b, char *buf, size_t cap)
{
    bool more = b->ships || b->paused || b->ssh[0] != '\0' || b->remote[0] != '\0' || b->target[0] == '+';
    size_t at = 0;
    int n;

    if (cap < 128)
        return false;
    hex_put(buf, b->site, 16);
    at = 32;
    at += (size_t)snprintf(buf + at, cap - at, " %" PRIu64 " %" PRId64 " ", b->acked, b->heard_s);
    if (more) {
        at += (size_t)snprintf(buf + at, cap - at, "+%s%s ", b->ships ? "s" : "", b->paused ? "p" : "");
        if (!put_word(b->ssh, buf, cap - 1, &at))
            return false;
        buf[at++] = ' ';
        if (!put_word(b->remote, buf, cap - 1, &at))
            return false;
        buf[at++] = ' ';
    }
    n = snprintf(buf + at, cap - at, "%s", b->target);
    return n > 0 && (size_t)n < cap - at;
}

/* ---- among the settings ---- */

static void key_of(unsigned i, char key[24])
{
    if (i == STANDBY_FROM)
        snprintf(key, 24, "standby-from");
    else
        snprintf(key, 24, "standby-%u", i + 1);
}

bool standby_get(struct store *s, unsigned i, struct standby *out)
{
    char key[24], buf[STANDBY_TEXT_MAX];

    memset(out, 0, sizeof *out);
    key_of(i, key);
    if (store_config_get(s, key, buf, sizeof buf) <= 0 || !standby_parse(buf, out))
        return false;
    out->from = i == STANDBY_FROM;
    return true;
}

int standby_find(struct store *s, const char *target)
{
    struct standby b;

    for (unsigned i = 0; i <= STANDBY_FROM; i++)
        if (standby_get(s, i, &b) && strcmp(b.target, target) == 0)
            return (int)i;
    return -1;
}

static int put(struct store *s, unsigned i, const struct standby *b, struct err *err)
{
    char key[24], buf[STANDBY_TEXT_MAX];

    if (!standby_format(b, buf, sizeof buf))
        return err_set(err, ERR_TOOLONG, "%s: expected a shorter target and commands", b->target);
    key_of(i, key);
    return store_config_set(s, key, buf, err);
}

/* The one of that site which no target was known for ("@...", role.h): what was held for it is held for ${b}, and it goes. */
static int adopt(struct store *s, struct standby *b, int *at, struct err *err)
{
    struct standby other;
    char key[24];
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < STANDBYS_MAX && !b->from && b->target[0] != '@'; i++) {
        if (!standby_get(s, i, &other) || other.target[0] != '@' || memcmp(other.site, b->site, 16) != 0)
            continue;
        b->acked = b->acked != 0 ? b->acked : other.acked;
        key_of(i, key);
        if (*at < 0)
            *at = (int)i;
        else
            rc = store_config_set(s, key, NULL, err);
    }
    return rc;
}

static int place_of(struct store *s, const struct standby *b)
{
    int at = b->from ? STANDBY_FROM : standby_find(s, b->target);

    if (!b->from && at == STANDBY_FROM)
        at = -1;
    return at;
}

static int free_place(struct store *s)
{
    struct standby other;

    for (unsigned i = 0; i < STANDBYS_MAX; i++)
        if (!standby_get(s, i, &other))
            return (int)i;
    return -1;
}

int standby_note(struct store *s, const struct standby *b, struct err *err)
{
    struct standby own = *b;
    int at, rc;

    pthread_mutex_lock(&s->mark_lock);
    at = place_of(s, b);
    rc = adopt(s, &own, &at, err);
    if (rc == 0 && at < 0)
        at = free_place(s);
    if (rc == 0)
        rc = at >= 0 ? put(s, (unsigned)at, &own, err)
                 : err_set(err, ERR_NOSPC, "%s: expected at most %d standbys, found as many; remove one first", b->target, STANDBYS_MAX);
    if (rc == 0)
        role_followed(s, own.site, own.acked);
    pthread_mutex_unlock(&s->mark_lock);
    return rc;
}

static int none(const char *target, struct err *err)
{
    return err_set(err, ERR_NOENT, "%s: expected a standby of this store, found none of that name; `spare standby list` shows them", target);
}

int standby_acked(struct store *s, const char *target, const uint8_t site[16], uint64_t acked, int64_t heard_s, struct err *err)
{
    struct standby b;
    int at, rc;

    pthread_mutex_lock(&s->mark_lock);
    at = standby_find(s, target);
    if (at >= 0 && standby_get(s, (unsigned)at, &b)) {
        if (site != NULL)
            memcpy(b.site, site, 16);
        b.acked = acked;
        b.heard_s = heard_s;
        rc = adopt(s, &b, &at, err);
        if (rc == 0)
            rc = put(s, (unsigned)at, &b, err);
        if (rc == 0)
            role_followed(s, b.site, b.acked);
    } else {
        rc = none(target, err);
    }
    pthread_mutex_unlock(&s->mark_lock);
    return rc;
}

int standby_pause(struct store *s, const char *target, bool paused, struct err *err)
{
    struct standby b;
    int at, rc;

    pthread_mutex_lock(&s->mark_lock);
    at = standby_find(s, target);
    if (at >= 0 && standby_get(s, (unsigned)at, &b)) {
        b.paused = paused;
        rc = put(s, (unsigned)at, &b, err);
    } else {
        rc = none(target, err);
    }
    pthread_mutex_unlock(&s->mark_lock);
    return rc;
}

int standby_forget(struct store *s, const char *target, struct err *err)
{
    char key[24];
    int at, rc;

    pthread_mutex_lock(&s->mark_lock);
    at = standby_find(s, target);
    if (at >= 0) {
        key_of((unsigned)at, key);
        rc = store_config_set(s, key, NULL, err);
    } else {
        rc = none(target, err);
    }
    pthread_mutex_unlock(&s->mark_lock);
    return rc;
}

void standbys_cut(struct super *sb, uint64_t at)
{
    char key[24], text[STANDBY_TEXT_MAX];
    struct standby b;

    for (unsigned i = 0; i < STANDBYS_MAX; i++) {
        key_of(i, key);
        if (super_config_get(sb, key, text, sizeof text) <= 0 || !standby_parse(text, &b) || b.acked <= at)
            continue;
        b.acked = at;
        if (standby_format(&b, text, sizeof text))
            (void)super_config_set(sb, key, text, NULL);
    }
}

void standbys_none(struct super *sb)
{
    char key[24];

    for (unsigned i = 0; i <= STANDBY_FROM; i++) {
        key_of(i, key);
        (void)super_config_set(sb, key, NULL, NULL);
    }
}
