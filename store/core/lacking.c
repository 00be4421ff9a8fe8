/* lacking.c: see lacking.h. */
#include "store/core/lacking.h"

#include "store/core/core_internal.h"
#include "store/pack/packs_supplement.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const char lacking_key[] = "lacking-from";

struct noting { struct store *s; struct lack k; struct err *err; };

/* A part of ${k}. */
static int note_part(void *arg, uint32_t doff, uint32_t len)
{
    struct noting *n = arg;
    struct store *s = n->s;
    struct lack *v = s->lacking;
    int rc = 0;

    pthread_mutex_lock(&s->lacking_lock);
    if (s->n_lacking == LACKING_MAX) {
        rc = err_set(n->err, ERR_NOSPC, "record @%" PRIu64 ": more than %d parts of data that are not here are named before they could be fetched", n->k.rec, LACKING_MAX);
    } else if (s->n_lacking == s->cap_lacking) {
        size_t cap = s->cap_lacking > 0 ? 2 * s->cap_lacking : 64;

        v = realloc(s->lacking, cap * sizeof *v);
        if (v == NULL) {
            rc = err_set(n->err, ERR_NOMEM, "store: out of memory");
        } else {
            s->lacking = v;
            s->cap_lacking = cap;
        }
    }
    if (rc == 0) {
        v[s->n_lacking] = n->k;
        v[s->n_lacking].doff = doff;
        v[s->n_lacking++].len = len;
    }
    pthread_mutex_unlock(&s->lacking_lock);
    return rc;
}

static int note_all(struct store *s, const struct record *rec, struct err *err)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && rec->type == REC_CLONE && rec->u.clone.src_ino == 0 && i < rec->u.clone.n_pieces; i++) {
        struct rec_piece p = rec_piece_get(rec->u.clone.pieces, i);
        struct noting n = { s, { rec->lsn, p.lsn, p.dstart, p.doff, p.len }, err };

        if (p.lsn < log_first(s->log))   /* the log has all that it has */
            rc = packs_lacking(s->packs, p.lsn, p.doff, p.len, note_part, &n, err);
    }
    return rc;
}

static int write_setting(struct store *s, uint64_t from, struct err *err)
{
    char text[24];

    snprintf(text, sizeof text, "%" PRIu64, from);
    return store_config_set(s, lacking_key, from == UINT64_MAX ? NULL : text, err);
}

int lacking_note(struct store *s, const struct record *rec, struct err *err)
{
    bool had = store_lacking_from(s) != UINT64_MAX;
    size_t before = s->n_lacking;        /* (the one thread that follows adds to them, and takes from them) */
    int rc = note_all(s, rec, err);

    if (rc == 0 && !had && store_lacking_from(s) != UINT64_MAX)
        rc = write_setting(s, rec->lsn, err);
    if (rc < 0) {                        /* the record is not taken; when it comes again they are noted again, and the setting is written */
        pthread_mutex_lock(&s->lacking_lock);
        s->n_lacking = before < s->n_lacking ? before : s->n_lacking;
        pthread_mutex_unlock(&s->lacking_lock);
    }
    return rc;
}

int lacking_scan(struct store *s, struct err *err)
{
    struct history_iter *it = NULL;
    struct record rec;
    char text[24];
    int rc = store_config_get(s, lacking_key, text, sizeof text);

    if (rc <= 0)
        return 0;
    rc = history_iter_new(s->history, strtoull(text, NULL, 10), UINT64_MAX, &it, err);
    while (rc == 0 && (rc = history_next(it, &rec, NULL, err)) == 1)
        rc = note_all(s, &rec, err);
    history_iter_free(it);
    return rc < 0 ? rc : 0;
}

uint64_t store_lacking_from(struct store *s)
{
    uint64_t from;

    pthread_mutex_lock(&s->lacking_lock);
    from = s->n_lacking > 0 ? s->lacking[0].rec : UINT64_MAX;
    pthread_mutex_unlock(&s->lacking_lock);
    return from;
}

size_t store_lacking(struct store *s, struct lack *out, size_t cap)
{
    size_t n;

    pthread_mutex_lock(&s->lacking_lock);
    n = s->n_lacking < cap ? s->n_lacking : cap;
    for (size_t i = 0; i < n; i++)
        out[i] = s->lacking[i];
    pthread_mutex_unlock(&s->lacking_lock);
    return n;
}

static bool among(const struct lack *k, const struct lack *gone, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (gone[i].lsn == k->lsn && gone[i].doff <= k->doff && k->doff + k->len <= gone[i].doff + gone[i].len)
            return true;
    return false;
}

int store_lacking_again(struct store *s, const struct lack *gone, size_t n, struct err *err)
{
    struct lack *old;
    size_t n_old, i = 0;
    int rc = 0;

    pthread_mutex_lock(&s->lacking_lock);
    old = s->lacking;
    n_old = s->n_lacking;
    s->lacking = NULL;
    s->n_lacking = s->cap_lacking = 0;
    pthread_mutex_unlock(&s->lacking_lock);
    for (; rc == 0 && i < n_old; i++) {
        struct noting k = { s, old[i], err };

        if (!among(&old[i], gone, n))
            rc = packs_lacking(s->packs, old[i].lsn, old[i].doff, old[i].len, note_part, &k, err);
    }
    if (rc < 0)                          /* asked again, all that may be */
        for (i = i > 0 ? i - 1 : 0; i < n_old; i++) {
            struct noting k = { s, old[i], NULL };

            (void)note_part(&k, old[i].doff, old[i].len);
        }
    free(old);
    if (rc == 0)
        rc = write_setting(s, store_lacking_from(s), err);
    return rc;
}
