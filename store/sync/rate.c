/* rate.c: see rate.h. */
#include "store/sync/rate.h"

#include "store/core/policy.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static int bad(const char *text, struct err *err)
{
    return err_set(err, ERR_USAGE, "bandwidth %.64s: expected bytes a second such as 10M (at least 1K), none, or times of the day: 08:00-18:00=2M,else=none", text);
}

static int limit_of(const char *word, uint64_t *bytes_s)
{
    if (strcmp(word, "none") == 0) {
        *bytes_s = 0;
        return 0;
    }
    return policy_size(word, bytes_s, NULL) < 0 || *bytes_s < RATE_LEAST ? ERR_USAGE : 0;
}

/* "HH:MM", with 24:00 for the end of the day. */
static bool minute_of(const char *p, uint16_t *minute)
{
    unsigned h, m;

    for (int i = 0; i < 5; i++)
        if (i == 2 ? p[i] != ':' : !isdigit((unsigned char)p[i]))
            return false;
    h = (unsigned)(p[0] - '0') * 10 + (unsigned)(p[1] - '0');
    m = (unsigned)(p[3] - '0') * 10 + (unsigned)(p[4] - '0');
    *minute = (uint16_t)(h * 60 + m);
    return m < 60 && *minute <= 24 * 60;
}

static int part_of(char *part, struct rate *r, bool *has_else)
{
    struct rate_span s;

    if (strncmp(part, "else=", 5) == 0) {
        if (*has_else)
            return ERR_USAGE;
        *has_else = true;
        return limit_of(part + 5, &r->otherwise);
    }
    if (r->n == RATE_SPANS_MAX || strlen(part) < 13 || part[5] != '-' || part[11] != '=' || !minute_of(part, &s.from) || !minute_of(part + 6, &s.to) ||
        s.from == s.to || s.from == 24 * 60 || limit_of(part + 12, &s.bytes_s) < 0)
        return ERR_USAGE;
    r->span[r->n++] = s;
    return 0;
}

int rate_parse(const char *text, struct rate *r, struct err *err)
{
    char buf[RATE_TEXT_MAX], *save = NULL;
    struct rate t = { 0 };
    bool has_else = false;
    size_t len = strlen(text);

    if (len == 0 || len >= sizeof buf || text[0] == ',' || text[len - 1] == ',' || strstr(text, ",,") != NULL)
        return bad(text, err);
    memcpy(buf, text, len + 1);
    if (strchr(text, '=') == NULL) {
        if (limit_of(buf, &t.otherwise) < 0)
            return bad(text, err);
    } else {
        for (char *part = strtok_r(buf, ",", &save); part != NULL; part = strtok_r(NULL, ",", &save))
            if (part_of(part, &t, &has_else) < 0)
                return bad(text, err);
    }
    *r = t;
    return 0;
}

uint64_t rate_at(const struct rate *r, unsigned minute)
{
    for (unsigned i = 0; i < r->n; i++) {
        const struct rate_span *s = &r->span[i];

        if (s->from < s->to ? minute >= s->from && minute < s->to : minute >= s->from || minute < s->to)
            return s->bytes_s;
    }
    return r->otherwise;
}

uint64_t rate_wait_ms(struct rate_bucket *b, uint64_t bytes_s, uint64_t now_ms)
{
    uint64_t ran = now_ms > b->at_ms ? now_ms - b->at_ms : 0, owed;
    int64_t full = (int64_t)(bytes_s / 4);

    if (bytes_s == 0) {
        b->left = 0;
        b->at_ms = now_ms;
        return 0;
    }
    if (ran > 3600000)
        ran = 3600000;
    if (bytes_s <= UINT64_MAX / 3600000 && bytes_s * ran >= 1000) {      /* what is less than a byte is counted later */
        b->left = b->left + (int64_t)(bytes_s * ran / 1000) < full ? b->left + (int64_t)(bytes_s * ran / 1000) : full;
        b->at_ms = now_ms;
    }
    if (b->left > 0 || bytes_s > UINT64_MAX / 3600000)
        return 0;
    owed = (uint64_t)-b->left + 1;
    return owed * 1000 / bytes_s + 1;
}

void rate_took(struct rate_bucket *b, uint64_t n)
{
    b->left -= (int64_t)n;
}

uint32_t rate_piece(uint64_t bytes_s, uint32_t most)
{
    uint64_t piece = bytes_s / 4;

    if (bytes_s == 0 || piece > most)
        return most;
    return piece < RATE_PIECE_LEAST ? RATE_PIECE_LEAST : (uint32_t)piece;
}
