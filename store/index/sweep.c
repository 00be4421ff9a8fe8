/*
 * sweep.c: see sweep.h. Names and directories are judged row by row. Inodes come one after the other, each with its history, then its maps of all
 * generations, current and past: a generation lives as long as the inode's rows name it. Attributes last, by the inode's end.
 */
#include "store/index/sweep.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

bool keep_needs(const struct keep *k, uint64_t birth, uint64_t death)
{
    size_t lo = 0, hi = k->n;

    if (birth >= death)
        return false;
    if (death > k->horizon)
        return true;
    while (lo < hi) {                    /* the first point at or above birth */
        size_t mid = lo + (hi - lo) / 2;

        if (k->point[mid] < birth)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < k->n && k->point[lo] < death;
}

/* A generation of an inode's map: where the last row that names it ends, and whether one of them stays. */
struct generation { uint64_t mapgen, end; bool stays; };

enum phase { NAMES, INODES, ATTRS, DONE };

struct sweep {
    struct kv *kv;
    struct kv_snap *snap;
    struct keep keep;
    uint64_t *points;
    struct sweep_hooks hooks;
    struct row_meta meta;                /* of the snapshot */
    enum phase phase;
    char table;                          /* NAMES, ATTRS: which one */
    struct kv_iter *it;                  /* over the table; INODES: of 'I' */
    struct kv_iter *live;                /* INODES: of 'i' */
    uint64_t ino;                        /* INODES, ATTRS: the one whose rows come */
    uint64_t end;                        /* of it: where its last row ends; UINT64_MAX: it is there */
    struct generation *gen;              /* INODES: of this inode */
    size_t n_gen, cap_gen;
    uint8_t *keys;                       /* of what goes */
    size_t len, cap;
    struct index_trim trim;
    struct sweep_seen seen;
    uint64_t inodes, past, held;         /* counted */
};

static int nomem(struct err *err)
{
    return err_set(err, ERR_NOMEM, "index: out of memory");
}

/* ---- what goes ---- */

static int drop(struct sweep *w, const uint8_t *key, size_t klen, struct err *err)
{
    uint16_t len = (uint16_t)klen;

    if (w->cap - w->len < sizeof len + klen) {
        size_t cap = w->cap == 0 ? 64 << 10 : 2 * w->cap;
        uint8_t *p = realloc(w->keys, cap);

        if (p == NULL)
            return nomem(err);
        w->keys = p;
        w->cap = cap;
    }
    memcpy(w->keys + w->len, &len, sizeof len);
    memcpy(w->keys + w->len + sizeof len, key, klen);
    w->len += sizeof len + klen;
    w->trim.n++;
    w->seen.gone++;
    return 0;
}

/* ---- iterators ---- */

/* Over a whole table, or from ${from} on. */
static struct kv_iter *table_iter(struct sweep *w, char table, const uint8_t *from, size_t len)
{
    const uint8_t lo = (uint8_t)table, hi = (uint8_t)(table + 1);
    struct kv_iter *it = w->kv->ops->iter_new(w->kv, w->snap, from != NULL ? from : &lo, from != NULL ? len : 1, &hi, 1);

    if (it != NULL)
        w->kv->ops->iter_seek(it, from != NULL ? from : &lo, from != NULL ? len : 1);
    return it;
}

static void close_iters(struct sweep *w)
{
    if (w->it != NULL)
        w->kv->ops->iter_free(w->it);
    if (w->live != NULL)
        w->kv->ops->iter_free(w->live);
    w->it = w->live = NULL;
}

static int begin(struct sweep *w, enum phase phase, char table, struct err *err)
{
    close_iters(w);
    w->phase = phase;
    w->table = table;
    w->ino = 0;
    if (phase == DONE)
        return 0;
    w->it = table_iter(w, table, NULL, 0);
    if (phase == INODES)
        w->live = table_iter(w, 'i', NULL, 0);
    return w->it != NULL && (phase != INODES || w->live != NULL) ? 0 : nomem(err);
}

static int bad_key(struct err *err)
{
    return err_set(err, ERR_DAMAGE, "index: a key cannot be read; rebuild the index");
}

/* ---- names ---- */

static int one_name(struct sweep *w, const struct key_parts *k, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen, struct err *err)
{
    struct row_den den = { 0 };
    struct row_dix dix = { 0 };
    struct row_par par = { 0 };
    uint64_t birth;
    int rc;

    switch (k->table) {
    case 'D':
        rc = row_den_decode(val, vlen, &den, err);
        birth = den.birth;
        break;
    case 'X':
        rc = row_dix_decode(val, vlen, &dix, err);
        birth = dix.birth;
        break;
    default:
        rc = row_par_decode(val, vlen, &par, err);
        birth = par.birth;
        break;
    }
    if (rc < 0 || keep_needs(&w->keep, birth, k->death))
        return rc;
    return drop(w, key, klen, err);
}

/* ---- inodes ---- */

static int gen_add(struct sweep *w, uint64_t mapgen, uint64_t end, bool stays, struct err *err)
{
    if (w->n_gen > 0 && w->gen[w->n_gen - 1].mapgen > mapgen)
        return err_set(err, ERR_DAMAGE, "index: inode %" PRIu64 ": expected map generations that rise, found @%" PRIu64 " behind @%" PRIu64
                       "; rebuild the index", w->ino, mapgen, w->gen[w->n_gen - 1].mapgen);
    if (w->n_gen > 0 && w->gen[w->n_gen - 1].mapgen == mapgen) {
        w->gen[w->n_gen - 1].end = end;
        w->gen[w->n_gen - 1].stays |= stays;
        return 0;
    }
    if (w->n_gen == w->cap_gen) {
        size_t cap = w->cap_gen == 0 ? 16 : 2 * w->cap_gen;
        struct generation *p = realloc(w->gen, cap * sizeof *p);

        if (p == NULL)
            return nomem(err);
        w->gen = p;
        w->cap_gen = cap;
    }
    w->gen[w->n_gen++] = (struct generation){ mapgen, end, stays };
    return 0;
}

/* The current row of ${w}->ino, when its history was seen: its map lives on. */
static int live_row(struct sweep *w, struct err *err)
{
    struct kv *kv = w->kv;
    struct row_ino row;
    const uint8_t *target;

    for (; kv->ops->iter_valid(w->live); kv->ops->iter_next(w->live)) {
        size_t klen, vlen;
        struct key_parts k;
        const uint8_t *key = kv->ops->iter_key(w->live, &klen), *val = kv->ops->iter_val(w->live, &vlen);
        int rc;

        if (!key_parse(key, klen, &k))
            return bad_key(err);
        if (k.ino > w->ino)
            break;
        w->inodes++;
        w->seen.rows++;
        rc = row_ino_decode(val, vlen, &row, &target, err);
        if (rc == 0 && k.ino == w->ino) {
            rc = gen_add(w, row.mapgen, UINT64_MAX, true, err);
            w->end = UINT64_MAX;
        }
        if (rc < 0)
            return rc;
    }
    return kv->ops->iter_err(w->live, err);
}

static struct generation gen_of(const struct sweep *w, uint64_t mapgen)
{
    size_t lo = 0, hi = w->n_gen;

    while (lo < hi) {                    /* each is the address of what began it, so they rise */
        size_t mid = lo + (hi - lo) / 2;

        if (w->gen[mid].mapgen < mapgen)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < w->n_gen && w->gen[lo].mapgen == mapgen ? w->gen[lo] : (struct generation){ mapgen, 0, false };
}

static int one_map(struct sweep *w, const struct key_parts *k, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen, struct err *err)
{
    struct generation g = gen_of(w, k->mapgen);
    uint64_t death = k->table == 'm' || k->death > g.end ? g.end : k->death, bytes = 0;
    bool live = k->table == 'm' && g.end == UINT64_MAX;
    bool needed = k->table == 'm' && g.stays;      /* as long as the generation: it says that the block has a past (asof_blocks) */
    struct row_map map = { 0 };
    int rc = row_map_decode(val, vlen, &map, err);

    for (uint32_t i = 0; rc == 0 && i < map.n; i++) {
        bytes += map.piece[i].len;
        if (!g.stays || !keep_needs(&w->keep, map.piece[i].birth, death))
            continue;                    /* of a time when the inode was hidden there is no row, so a moment in between is none of the generation's */
        needed = true;
        if (w->hooks.on_piece != NULL)
            rc = w->hooks.on_piece(w->hooks.arg, k->ino, live, &map.piece[i]);
    }
    free(map.piece);
    w->held += bytes;
    if (rc != 0 || needed)
        return rc;
    w->trim.held += bytes;
    return drop(w, key, klen, err);
}

static int one_inode(struct sweep *w, const struct key_parts *k, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen, struct err *err)
{
    struct row_ino row;
    const uint8_t *target;
    bool stays;
    int rc = 0;

    if (k->ino != w->ino) {
        w->ino = k->ino;
        w->n_gen = 0;
        w->end = 0;
    }
    if (k->table == 'I') {
        w->past++;
        rc = row_ino_decode(val, vlen, &row, &target, err);
        stays = rc == 0 && keep_needs(&w->keep, row.birth, k->death);
        if (rc == 0)
            rc = gen_add(w, row.mapgen, k->death, stays, err);
        if (rc < 0 || stays)
            return rc;
        w->trim.past++;
        return drop(w, key, klen, err);
    }
    if (w->end == 0) {                   /* the first of its maps: its history is behind us */
        rc = live_row(w, err);
        w->end = w->end > 0 ? w->end : 1;
    }
    return rc < 0 ? rc : one_map(w, k, key, klen, val, vlen, err);
}

/* ---- attributes ---- */

/* Where the last row of the inode ends. */
static int inode_end(struct sweep *w, uint64_t ino, uint64_t *end, struct err *err)
{
    uint8_t key[KV_KEY_MAX], hi[KV_KEY_MAX];
    size_t klen = key_ino(key, ino), hlen;
    struct kv_iter *it;
    int rc = 0;

    memcpy(hi, key, klen);
    hi[klen] = 0;
    it = w->kv->ops->iter_new(w->kv, w->snap, key, klen, hi, klen + 1);
    *end = 0;
    if (it == NULL)
        return nomem(err);
    w->kv->ops->iter_seek(it, key, klen);
    if (w->kv->ops->iter_valid(it))
        *end = UINT64_MAX;
    else
        rc = w->kv->ops->iter_err(it, err);
    w->kv->ops->iter_free(it);
    if (rc < 0 || *end != 0)
        return rc;
    klen = key_ino_h(key, ino, 0);
    hlen = key_ino_h(hi, ino, UINT64_MAX);
    it = w->kv->ops->iter_new(w->kv, w->snap, key, klen, hi, hlen);
    if (it == NULL)
        return nomem(err);
    w->kv->ops->iter_seek_prev(it, hi, hlen);
    if (w->kv->ops->iter_valid(it)) {
        struct key_parts k;
        const uint8_t *found = w->kv->ops->iter_key(it, &hlen);

        rc = key_parse(found, hlen, &k) ? 0 : bad_key(err);
        *end = rc == 0 ? k.death : 0;
    } else {
        rc = w->kv->ops->iter_err(it, err);
    }
    w->kv->ops->iter_free(it);
    return rc;
}

/* Whether some row of the past of an inode that is gone stays, from the newest on. */
static int inode_stays(struct sweep *w, uint64_t ino, bool *stays, struct err *err)
{
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX];
    size_t llen = key_ino_h(lo, ino, 0), hlen = key_ino_h(hi, ino, UINT64_MAX);
    struct kv_iter *it = w->kv->ops->iter_new(w->kv, w->snap, lo, llen, hi, hlen);
    int rc = it != NULL ? 0 : nomem(err);

    *stays = false;
    for (rc == 0 ? w->kv->ops->iter_seek_prev(it, hi, hlen) : (void)0; rc == 0 && !*stays && w->kv->ops->iter_valid(it); w->kv->ops->iter_prev(it)) {
        size_t klen, vlen;
        struct key_parts k;
        struct row_ino row;
        const uint8_t *target, *key = w->kv->ops->iter_key(it, &klen), *val = w->kv->ops->iter_val(it, &vlen);

        rc = key_parse(key, klen, &k) ? row_ino_decode(val, vlen, &row, &target, err) : bad_key(err);
        *stays = rc == 0 && keep_needs(&w->keep, row.birth, k.death);
    }
    if (rc == 0 && !*stays)
        rc = w->kv->ops->iter_err(it, err);
    if (it != NULL)
        w->kv->ops->iter_free(it);
    return rc;
}

static int one_attr(struct sweep *w, const struct key_parts *k, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen, struct err *err)
{
    uint64_t birth = 0, death;
    const uint8_t *p;
    size_t n;
    int rc = row_xat_decode(val, vlen, &birth, &p, &n, err);

    if (rc == 0 && k->ino != w->ino) {
        bool stays = true;

        w->ino = k->ino;
        rc = inode_end(w, k->ino, &w->end, err);
        if (rc == 0 && w->end != UINT64_MAX)
            rc = inode_stays(w, k->ino, &stays, err);
        w->end = stays ? w->end : 0;
    }
    death = k->table == 'a' || k->death > w->end ? w->end : k->death;
    if (rc < 0 || death == UINT64_MAX || keep_needs(&w->keep, birth, death))
        return rc;
    return drop(w, key, klen, err);
}

/* ---- steps ---- */

static int one_row(struct sweep *w, struct err *err)
{
    size_t klen, vlen;
    struct key_parts k;
    const uint8_t *key = w->kv->ops->iter_key(w->it, &klen), *val = w->kv->ops->iter_val(w->it, &vlen);

    w->seen.rows++;
    if (!key_parse(key, klen, &k))
        return bad_key(err);
    switch (w->phase) {
    case NAMES:
        return one_name(w, &k, key, klen, val, vlen, err);
    case INODES:
        return one_inode(w, &k, key, klen, val, vlen, err);
    default:
        return one_attr(w, &k, key, klen, val, vlen, err);
    }
}

/* The next table, when one was seen. */
static int next_table(struct sweep *w, struct err *err)
{
    int rc;

    switch (w->table) {
    case 'D':
        return begin(w, NAMES, 'X', err);
    case 'X':
        return begin(w, NAMES, 'P', err);
    case 'P':
        return begin(w, INODES, 'I', err);
    case 'I':
        w->ino = UINT64_MAX;             /* the rest of the current ones is counted */
        w->n_gen = 0;
        rc = live_row(w, err);
        return rc < 0 ? rc : begin(w, ATTRS, 'a', err);
    case 'a':
        return begin(w, ATTRS, 'A', err);
    default:
        return begin(w, DONE, 0, err);
    }
}

int sweep_step(struct sweep *w, size_t rows, struct index_trim *trim, struct err *err)
{
    uint64_t until = w->seen.rows + rows;
    int rc = 0;

    w->len = 0;
    memset(&w->trim, 0, sizeof w->trim);
    while (rc == 0 && w->phase != DONE && w->seen.rows < until) {
        if (w->kv->ops->iter_valid(w->it)) {
            rc = one_row(w, err);
            if (rc == 0)
                w->kv->ops->iter_next(w->it);
            continue;
        }
        rc = w->kv->ops->iter_err(w->it, err);
        if (rc == 0)
            rc = next_table(w, err);
    }
    w->trim.keys = w->keys;
    *trim = w->trim;
    return rc != 0 ? rc : w->phase != DONE;
}

int sweep_whole(const struct sweep *w, struct err *err)
{
    const struct { const char *what; uint64_t seen, counted; } all[] = {
        { "inodes", w->inodes, w->meta.n_inodes }, { "past states of inodes", w->past, w->meta.n_past }, { "bytes in maps", w->held, w->meta.n_held } };

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i].seen != all[i].counted)
            return err_set(err, ERR_DAMAGE, "index: expected %" PRIu64 " %s, which is what it counts, found %" PRIu64 "; nothing is let go of; make the index "
                           "anew: spare rebuild-index", all[i].counted, all[i].what, all[i].seen);
    return 0;
}

void sweep_seen(const struct sweep *w, struct sweep_seen *out)
{
    *out = w->seen;
}

/* The counters as the snapshot has them. */
static int read_meta(struct sweep *w, struct err *err)
{
    uint8_t key[KV_KEY_MAX];
    size_t klen = key_meta(key, "applied"), vlen;
    struct kv_iter *it = table_iter(w, '!', key, klen);
    const uint8_t *val;
    int rc;

    if (it == NULL)
        return nomem(err);
    if (w->kv->ops->iter_valid(it)) {
        val = w->kv->ops->iter_val(it, &vlen);
        rc = row_meta_decode(val, vlen, &w->meta, err);
    } else {
        rc = w->kv->ops->iter_err(it, err);
    }
    w->kv->ops->iter_free(it);
    w->seen.applied = w->meta.applied;
    return rc;
}

int sweep_new(struct kv *kv, const struct keep *keep, const struct sweep_hooks *hooks, struct sweep **out, struct err *err)
{
    struct sweep *w = calloc(1, sizeof *w);
    int rc;

    if (w == NULL)
        return nomem(err);
    w->kv = kv;
    w->points = malloc((keep->n + 1) * sizeof *w->points);
    w->snap = kv->ops->snap_scan(kv);
    rc = w->points != NULL && w->snap != NULL ? 0 : nomem(err);
    if (rc == 0) {
        if (keep->n > 0)
            memcpy(w->points, keep->point, keep->n * sizeof *w->points);
        w->keep = (struct keep){ keep->horizon, w->points, keep->n };
        if (hooks != NULL)
            w->hooks = *hooks;
        rc = read_meta(w, err);
    }
    if (rc == 0)
        rc = begin(w, NAMES, 'D', err);
    if (rc < 0) {
        sweep_free(w);
        return rc;
    }
    *out = w;
    return 0;
}

void sweep_free(struct sweep *w)
{
    if (w == NULL)
        return;
    close_iters(w);
    if (w->snap != NULL)
        w->kv->ops->snap_free(w->kv, w->snap);
    free(w->points);
    free(w->gen);
    free(w->keys);
    free(w);
}
