/* epoch.c: see epoch.h. */
#include "store/base/epoch.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool is_zero(const uint8_t *p)
{
    static const uint8_t none[16];

    return memcmp(p, none, sizeof none) == 0;
}

void epoch_row_put(struct wr *w, const struct epoch_row *e)
{
    wr_u32(w, e->number);
    wr_u32(w, e->reserved);
    wr_bytes(w, e->site, 16);
    wr_bytes(w, e->id, 16);
    wr_u64(w, e->first_lsn);
    wr_bytes(w, e->prev_hash.b, 16);
    wr_bytes(w, e->lineage, 16);
}

static void get16(struct rd *r, uint8_t dst[16])
{
    const uint8_t *p = rd_bytes(r, 16);

    if (p)
        memcpy(dst, p, 16);
}

void epoch_row_get(struct rd *r, struct epoch_row *e)
{
    e->number = rd_u32(r);
    e->reserved = rd_u32(r);
    get16(r, e->site);
    get16(r, e->id);
    e->first_lsn = rd_u64(r);
    get16(r, e->prev_hash.b);
    get16(r, e->lineage);
}

const char *epoch_row_wrong(const struct epoch_row *e, const struct epoch_row *before)
{
    if (e->number <= (before ? before->number : 0))
        return "its number does not rise";
    if (is_zero(e->site) || is_zero(e->id) || is_zero(e->lineage))
        return "it has no site, no id or no lineage";
    if (e->first_lsn <= (before ? before->first_lsn : 0))
        return "its LSN does not rise";
    return NULL;
}

uint32_t epoch_common(const struct epoch_row *a, uint32_t na, const struct epoch_row *b, uint32_t nb)
{
    uint32_t n = 0;

    while (n < na && n < nb && a[n].number == b[n].number && memcmp(a[n].id, b[n].id, 16) == 0 && a[n].first_lsn == b[n].first_lsn)
        n++;
    return n;
}

uint32_t epoch_held(const struct epoch_row *e, uint32_t n, uint64_t end)
{
    while (n > 1 && e[n - 1].first_lsn >= end)
        n--;
    return n;
}

uint64_t epoch_fork(const struct epoch_row *a, uint32_t na, uint64_t a_end, const struct epoch_row *b, uint32_t nb, uint64_t b_end)
{
    uint32_t n = epoch_common(a, na, b, nb);

    if (n == 0)
        return 0;
    if (n < na && a[n].first_lsn < a_end)        /* (a row whose record was lost, or has not come, may point beyond the end) */
        a_end = a[n].first_lsn;
    if (n < nb && b[n].first_lsn < b_end)
        b_end = b[n].first_lsn;
    return a_end < b_end ? a_end : b_end;
}

static bool was_of(const struct epoch_row *e, uint32_t n, const uint8_t lineage[16])
{
    for (uint32_t i = 0; i < n; i++)
        if (memcmp(e[i].lineage, lineage, 16) == 0)
            return true;
    return false;
}

const char *epoch_kin(const struct epoch_row *a, uint32_t na, const uint8_t a_lineage[16], const struct epoch_row *b, uint32_t nb, const uint8_t b_lineage[16], char *buf, size_t cap)
{
    uint64_t at = epoch_fork(a, na, UINT64_MAX, b, nb, UINT64_MAX);

    if (at == 0)
        snprintf(buf, cap, "%s", "");
    else if (was_of(b, nb, a_lineage))
        snprintf(buf, cap, ", forked from this one, or copied, @%" PRIu64, at);
    else if (was_of(a, na, b_lineage))
        snprintf(buf, cap, ", which this one was forked from, or copied, @%" PRIu64, at);
    else
        snprintf(buf, cap, ", forked or copied from one that this one was, too; they part @%" PRIu64 " at the latest", at);
    return buf;
}
