/* standby.c: the standbys a store knows, among its settings. */
#include "store/core/standby.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void key_of(unsigned i, char key[24])
{
    snprintf(key, 24, "standby-%u", i + 1);
}

bool standby_get(struct store *s, unsigned i, struct standby *out)
{
    char key[24], buf[STANDBY_TARGET_MAX + 128], hex[33];
    int at = 0;

    memset(out, 0, sizeof *out);
    key_of(i, key);
    if (store_config_get(s, key, buf, sizeof buf) <= 0 ||
        sscanf(buf, "%32s %" SCNu64 " %" SCNd64 " %n", hex, &out->acked, &out->heard_s, &at) != 3 || at == 0 || strlen(hex) != 32)
        return false;
    for (int k = 0; k < 16; k++) {
        unsigned b;

        if (sscanf(hex + 2 * k, "%2x", &b) != 1)
            return false;
        out->site[k] = (uint8_t)b;
    }
    snprintf(out->target, sizeof out->target, "%s", buf + at);
    return out->target[0] != '\0';
}

int standby_find(struct store *s, const char *target)
{
    struct standby b;

    for (unsigned i = 0; i < STANDBYS_MAX; i++)
        if (standby_get(s, i, &b) && strcmp(b.target, target) == 0)
            return (int)i;
    return -1;
}

int standby_note(struct store *s, const struct standby *b, struct err *err)
{
    char key[24], buf[STANDBY_TARGET_MAX + 128];
    struct standby other;
    int at = standby_find(s, b->target), n = 0, rc;
    uint64_t acked = b->acked;

    for (unsigned i = 0; i < STANDBYS_MAX && b->target[0] != '@'; i++)
        if (standby_get(s, i, &other) && other.target[0] == '@' && memcmp(other.site, b->site, 16) == 0) {
            acked = acked != 0 ? acked : other.acked;    /* what is held for it */
            key_of(i, key);
            if (at < 0)
                at = (int)i;
            else if ((rc = store_config_set(s, key, NULL, err)) < 0)
                return rc;
        }
    for (unsigned i = 0; i < STANDBYS_MAX && at < 0; i++)
        if (!standby_get(s, i, &other))
            at = (int)i;
    if (at < 0)
        return err_set(err, ERR_NOSPC, "%s: expected at most %d standbys, found as many; remove one first", b->target, STANDBYS_MAX);
    for (int k = 0; k < 16; k++)
        n += snprintf(buf + n, sizeof buf - (size_t)n, "%02x", b->site[k]);
    snprintf(buf + n, sizeof buf - (size_t)n, " %" PRIu64 " %" PRId64 " %s", acked, b->heard_s, b->target);
    key_of((unsigned)at, key);
    return store_config_set(s, key, buf, err);
}

int standby_forget(struct store *s, const char *target, struct err *err)
{
    char key[24];
    int at = standby_find(s, target);

    if (at < 0)
        return err_set(err, ERR_NOENT, "%s: expected a standby of this store, found none of that name; `spare standby list` shows them", target);
    key_of((unsigned)at, key);
    return store_config_set(s, key, NULL, err);
}
