/* heal.c: see heal.h. */
#include "store/maint/heal.h"

#include "store/pack/history.h"
#include "store/pack/packs.h"
#include "store/pack/packs_supplement.h"

#include <stdlib.h>
#include <string.h>

enum { PARTS_MAX = 4096 };

void heal_plan_free(struct heal_plan *p)
{
    if (p == NULL)
        return;
    free(p->part);
    free(p->at);
    free(p);
}

/* In the log: the blocks of its sums. */
static int plan_log(struct store *s, struct heal_plan *p, struct err *err)
{
    struct record rec;
    void *buf = NULL;
    uint32_t from = p->w.doff / REC_SUM_BYTES * REC_SUM_BYTES, to = p->w.doff + p->w.len;
    int rc = log_read_record(store_log(s), p->w.lsn, false, &rec, &buf, err);

    if (rc < 0)
        return rc;
    to = (to + REC_SUM_BYTES - 1) / REC_SUM_BYTES * REC_SUM_BYTES;
    to = to < rec.data_len ? to : rec.data_len;
    to = to - from < HEAL_LOG_BYTES ? to : from + HEAL_LOG_BYTES;
    free(buf);
    if (from >= to)
        return err_set(err, ERR_NOENT, "heal: no such data");
    p->part[p->n++] = (struct wound){ p->w.lsn, record_dstart(rec.head_len), from, to - from, 0, false };
    p->bytes = to - from;
    return 0;
}

static int by_place(const void *x, const void *y)
{
    const struct packs_part *a = x, *b = y;

    return (a->chunk_off > b->chunk_off) - (a->chunk_off < b->chunk_off);
}

/* In a pack: all that its tables name of the chunk, which must be all of it. */
static int plan_pack(struct store *s, struct heal_plan *p, struct err *err)
{
    struct packs_part *v = NULL;
    uint32_t covered = 0;
    size_t n = 0;
    int rc = packs_chunk_parts(store_packs(s), p->w.lsn, p->w.doff, &p->chunk, &p->chunk_len, &v, &n, err);

    if (rc == 0 && n > 1)
        qsort(v, n, sizeof *v, by_place);
    for (size_t i = 0; rc == 0 && i < n && covered < p->chunk_len; i++) {
        uint32_t skip;

        if (v[i].chunk_off > covered)
            break;
        if (v[i].chunk_off + v[i].len <= covered)
            continue;
        if (p->n == PARTS_MAX)
            break;
        skip = covered - v[i].chunk_off;
        p->at[p->n] = covered;
        p->part[p->n++] = (struct wound){ v[i].lsn, 0, v[i].doff + skip, v[i].len - skip, 0, false };
        covered = v[i].chunk_off + v[i].len;
    }
    free(v);
    if (rc == 0 && covered < p->chunk_len)
        rc = err_set(err, ERR_NOENT, "heal: of the chunk with the data of @%llu only a part is named by anybody", (unsigned long long)p->w.lsn);
    p->bytes = p->chunk_len;
    return rc;
}

/* How many of its first bytes read well: by halves, since reading says that some byte is bad, and not which. len: all. */
static uint32_t good_bytes(struct store *s, const struct wound *w, uint8_t *buf)
{
    uint32_t good = 0, bad = w->len + 1, n = w->len;

    while (bad - good > 1) {
        int rc = store_try_data(s, w->lsn, w->dstart, w->doff, n, buf, false, NULL);

        if (rc == ERR_DAMAGE || rc == ERR_IO || (rc < 0 && w->hole))    /* (a sector the disk does not give is written anew) */
            bad = n;
        else
            good = n;
        n = good + (bad - good) / 2;
    }
    return good;
}

uint32_t heal_good(struct store *s, const struct wound *w)
{
    uint8_t *buf = malloc(w->len);
    uint32_t good = buf != NULL ? good_bytes(s, w, buf) : 0;

    free(buf);
    return good;
}

/* It begins with what is damaged. NOENT: nothing is; somebody else may have healed it, or what it is in. */
static int to_first_bad(struct store *s, struct wound *w, struct err *err)
{
    uint8_t *buf = malloc(w->len);
    uint32_t good = buf != NULL ? good_bytes(s, w, buf) : 0;

    free(buf);
    if (buf == NULL)
        return err_set(err, ERR_NOMEM, "heal: out of memory");
    if (good == w->len)
        return err_set(err, ERR_NOENT, "heal: it is whole");
    w->doff += good;
    w->len -= good;
    return 0;
}

int heal_plan_new(struct store *s, const struct wound *w, struct heal_plan **out, struct err *err)
{
    struct heal_plan *p = calloc(1, sizeof *p);
    int rc = p != NULL ? 0 : err_set(err, ERR_NOMEM, "heal: out of memory");

    *out = NULL;
    if (rc == 0) {
        p->w = *w;
        p->part = calloc(PARTS_MAX, sizeof *p->part);
        p->at = calloc(PARTS_MAX, sizeof *p->at);
        if (p->part == NULL || p->at == NULL)
            rc = err_set(err, ERR_NOMEM, "heal: out of memory");
    }
    if (rc == 0)
        rc = to_first_bad(s, &p->w, err);
    if (rc == 0)
        rc = w->lsn >= log_first(store_log(s)) ? plan_log(s, p, err) : plan_pack(s, p, err);
    if (rc < 0) {
        heal_plan_free(p);
        return rc;
    }
    *out = p;
    return 0;
}

static int pack_anew(struct store *s, uint64_t addr, const struct packs_healed *h, size_t n, struct err *err)
{
    struct store_info info;
    struct pack_head head = { .retained_gen = store_retained_gen(s) };
    int64_t rc;

    store_info(s, &info);
    memcpy(head.lineage, info.lineage, 16);
    memcpy(head.site, info.site, 16);
    head.key_id = info.key_id;
    if (!store_maint_try(s))
        return err_set(err, ERR_BUSY, "heal: packs or archive are being worked on");
    head.gen = packs_next_gen(store_packs(s));
    rc = names_free_gen(store_io(s), "packs", pack_parse, &head.gen, err);
    if (rc == 0)
        rc = packs_supplement(store_packs(s), addr, &head, NULL, 0, h, n, NULL, err);
    store_maint_end(s);
    return rc < 0 ? (int)rc : 0;
}

int heal_apply(struct store *s, const struct heal_plan *p, const uint8_t *bytes, struct err *err)
{
    uint8_t *chunk;
    int rc = 0;

    if (p->chunk == 0)
        return log_heal_data(store_log(s), p->part[0].lsn, p->part[0].doff, bytes, p->part[0].len, err);
    chunk = malloc(p->chunk_len);
    if (chunk == NULL)
        return err_set(err, ERR_NOMEM, "heal: out of memory");
    for (size_t i = 0; i < p->n; i++) {  /* a part may reach over the end of what was lacking behind the one before */
        uint32_t room = p->chunk_len - p->at[i], len = p->part[i].len < room ? p->part[i].len : room;

        memcpy(chunk + p->at[i], bytes, len);
        bytes += p->part[i].len;
    }
    rc = pack_anew(s, p->chunk, &(struct packs_healed){ p->chunk, p->chunk_len, chunk }, 1, err);
    free(chunk);
    return rc;
}

int heal_pack(struct store *s, uint64_t addr, struct err *err)
{
    return pack_anew(s, addr, NULL, 0, err);
}

int heal_header(struct store *s, uint64_t first, struct err *err)
{
    struct super *sb = malloc(sizeof *sb);
    int rc;

    if (sb == NULL)
        return err_set(err, ERR_NOMEM, "heal: out of memory");
    store_super(s, sb);
    rc = log_heal_header(store_log(s), sb, first, err);
    free(sb);
    return rc;
}
