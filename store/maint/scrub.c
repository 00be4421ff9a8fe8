/* scrub.c: see scrub.h. */
#include "store/maint/scrub.h"

#include "store/log/frame.h"
#include "store/log/log.h"
#include "store/maint/recall.h"
#include "store/maint/scrub_files.h"
#include "store/pack/packs.h"
#include "store/pack/packs_supplement.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BATCH = 4096, REST_BYTES = 4 << 20, KEEP_MS = 60000, NAP_MS = 20 };

struct scrubbing {
    struct store *s;
    const struct scrub_options *opt;
    struct scrub_result *res;
    uint8_t *buf;
    struct pack_addr *batch;
    size_t n;
    uint64_t at, end;                /* everything below ${at} was read */
    uint64_t read, since_ms, kept_ms;
};

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* (A store that is open read-only, or whose settings are full, begins at the beginning again.) */
static void keep_place(struct scrubbing *c, bool done)
{
    char text[32] = "";

    if (!done)
        snprintf(text, sizeof text, "%" PRIu64, c->at);
    (void)store_config_set(c->s, "scrub-at", text, NULL);
    c->kept_ms = now_ms();
}

static int stopped(struct scrubbing *c, struct err *err)
{
    return c->opt->stop != NULL && c->opt->stop(c->opt->arg) ? err_set(err, ERR_BUSY, "scrub: told to stop at @%" PRIu64, c->at) : 0;
}

/* Between two pieces: everything below ${at} was read. */
static int step(struct scrubbing *c, uint64_t at, struct err *err)
{
    const struct timespec nap = { 0, NAP_MS * 1000000L };
    uint64_t now = now_ms(), until;
    int rc = stopped(c, err);

    c->at = at;
    if (rc != 0 || c->read < REST_BYTES)
        return rc;
    c->read = 0;
    if (c->opt->tell != NULL)
        c->opt->tell(c->opt->arg, at, c->end);
    if (now - c->kept_ms > KEEP_MS)
        keep_place(c, false);
    for (until = now + (now - c->since_ms); c->opt->gentle && rc == 0 && now_ms() < until;) {
        nanosleep(&nap, NULL);
        rc = stopped(c, err);
    }
    c->since_ms = now_ms();
    return rc;
}

static void found(struct scrubbing *c, const struct wound *w, uint64_t ino, const struct err *why)
{
    c->res->damaged++;
    if (w->len > 0 || w->until > 0)      /* (a file that is gone: its data are) */
        wounds_note(c->s, w);
    if (c->opt->found != NULL)
        c->opt->found(c->opt->arg, w, ino, why->msg[0] != '\0' ? why->msg : err_text(why->code));
}

static void found_file(void *arg, const struct wound *w, const struct err *why)
{
    found(arg, w, 0, why);
}

/* NOENT: let go of meanwhile. */
static int read_piece(struct scrubbing *c, const struct wound *w, uint64_t ino, struct err *err)
{
    struct err why = { 0 };
    int rc = store_try_data(c->s, w->lsn, w->dstart, w->doff, w->len, c->buf, false, &why);

    c->read += w->len;
    if (rc == ERR_NOENT)
        return 0;
    c->res->bytes += w->len;
    if (rc == ERR_DAMAGE || rc == ERR_IO) {      /* a disk that does not give a sector has lost it, too */
        found(c, w, ino, &why);
        return 0;
    }
    return rc < 0 ? err_set(err, rc, "%s", why.msg) : 0;
}

/* ---- packs ---- */

/* Records end a batch, so that the next one begins with a record. */
static int take(void *arg, const struct pack_addr *a)
{
    struct scrubbing *c = arg;

    if (c->n >= BATCH && a->lsn != c->batch[c->n - 1].lsn)
        return 1;
    if (c->n >= BATCH && c->n % BATCH == 0) {
        struct pack_addr *p = realloc(c->batch, (c->n + BATCH) * sizeof *p);

        if (p == NULL)
            return ERR_NOMEM;
        c->batch = p;
    }
    c->batch[c->n++] = *a;
    return 0;
}

struct next_pack { uint64_t at, first, to; };

static int next_pack(void *arg, const struct packs_info *i)
{
    struct next_pack *n = arg;

    if (i->counts_to > n->at && i->first < n->first) {
        n->first = i->first;
        n->to = i->counts_to;
    }
    return 0;
}

/* What one pack names in [at, to). Tables that cannot be read are that pack's alone; `check` says what they lead to. */
static int scrub_pack(struct scrubbing *c, uint64_t to, struct err *err)
{
    struct err why = { 0 };
    int walked = 1, rc = 0;

    while (walked == 1 && rc == 0) {
        c->n = 0;
        walked = packs_walk(store_packs(c->s), c->at, to, take, c, &why);
        for (size_t i = 0; rc == 0 && i < c->n; i++) {
            const struct pack_addr *a = &c->batch[i];

            rc = read_piece(c, &(struct wound){ a->lsn, 0, a->doff, a->len, 0, false }, a->ino, err);
            if (rc == 0)
                rc = step(c, a->lsn, err);
        }
        if (rc == 0 && walked == 1)
            c->at = c->batch[c->n - 1].lsn + 1;
    }
    if (rc == 0 && (walked == ERR_DAMAGE || walked == ERR_IO))
        found(c, &(struct wound){ .lsn = c->at, .hole = true }, 0, &why);
    else if (rc == 0 && walked < 0)
        rc = err_set(err, walked, "%s", why.msg);
    if (rc == 0)
        c->at = to;
    return rc;
}

static int scrub_packs(struct scrubbing *c, struct err *err)
{
    int rc = 0;

    while (rc == 0) {
        uint64_t until = log_first(store_log(c->s));
        struct next_pack n = { c->at, until, 0 };

        rc = packs_list(store_packs(c->s), next_pack, &n, err);
        if (rc == 0 && (c->at >= until || n.first >= until)) {   /* (the log may begin inside of what a pack has) */
            c->at = until > c->at ? until : c->at;
            return 0;
        }
        c->at = n.first > c->at ? n.first : c->at;
        if (rc == 0)
            rc = scrub_pack(c, n.to < until ? n.to : until, err);
    }
    return rc;
}

/* ---- the log ---- */

static int scrub_record(struct scrubbing *c, const struct record *rec, struct err *err)
{
    int rc = 0;

    for (uint32_t off = 0, n; rc == 0 && off < rec->data_len; off += n) {
        n = rec->data_len - off < PACK_CHUNK_MAX ? rec->data_len - off : PACK_CHUNK_MAX;
        rc = read_piece(c, &(struct wound){ rec->lsn, record_dstart(rec->head_len), off, n, 0, false }, rec->ino, err);
    }
    return rc == 0 ? step(c, rec->lsn + frame_span(rec->head_len + rec->data_len), err) : rc;
}

/* A record that cannot be read hides where the next one begins. */
static int skip_record(struct scrubbing *c, const struct err *why, struct err *err)
{
    uint64_t from = c->at;
    struct err said = *why;
    struct wound w;
    int rc;

    c->at = log_next_readable(store_log(c->s), c->at + 8, c->end, c->opt->stop, c->opt->arg);
    rc = stopped(c, err);
    w = (struct wound){ .lsn = from, .until = c->at };
    if (rc < 0) {
        c->at = from;
        return rc;
    }
    if (*recall_limit(&w) != '\0')
        (void)err_set(&said, why->code, "%.350s%s", why->msg, recall_limit(&w));
    found(c, &w, 0, &said);
    return 0;
}

static int scrub_log(struct scrubbing *c, struct err *err)
{
    struct log *log = store_log(c->s);
    int rc = 0;

    while (rc == 0 && c->at < c->end) {
        struct log_iter *it = NULL;
        struct err why = { 0 };
        struct record rec;

        rc = log_iter_new(log, c->at, c->end, 0, &it, &why);
        while (rc == 0 && (rc = log_iter_next(it, &rec, &why)) == 1)
            rc = scrub_record(c, &rec, err);
        log_iter_free(it);
        if (rc == 0)
            c->at = c->end;
        else if (rc == ERR_NOENT && c->at < log_first(log))
            return 1;                    /* packed meanwhile */
        else if (err->code == 0 && (rc == ERR_DAMAGE || rc == ERR_IO))
            rc = skip_record(c, &why, err);
        else if (err->code == 0)
            rc = err_set(err, rc, "%s", why.msg);
    }
    return rc;
}

int scrub(struct store *s, const struct scrub_options *opt, struct scrub_result *res, struct err *err)
{
    struct scrubbing c = { .s = s, .opt = opt, .res = res, .at = LOG_FIRST_ADDR, .end = log_written(store_log(s)), .since_ms = now_ms(), .kept_ms = now_ms() };
    struct err own = { 0 };
    char text[32];
    int rc = 1;

    *res = (struct scrub_result){ 0 };
    err = err != NULL ? err : &own;
    if (!opt->again && store_config_get(s, "scrub-at", text, sizeof text) > 0)
        c.at = strtoull(text, NULL, 10);
    if (c.at < LOG_FIRST_ADDR || c.at > c.end)
        c.at = LOG_FIRST_ADDR;
    res->from = c.at;
    c.buf = malloc(PACK_CHUNK_MAX);
    c.batch = malloc(BATCH * sizeof *c.batch);
    if (c.buf == NULL || c.batch == NULL)
        rc = err_set(err, ERR_NOMEM, "scrub: out of memory");
    packs_cold(store_packs(s));          /* what is in memory is good, whatever the disk has by now */
    while (rc == 1) {
        rc = scrub_packs(&c, err);
        if (rc == 0)
            rc = scrub_log(&c, err);
    }
    if (rc == 0)
        rc = scrub_files(s, opt, found_file, &c, &res->mended, err);
    res->to = c.at;
    if (rc == 0 || rc == ERR_BUSY)
        keep_place(&c, rc == 0);
    free(c.buf);
    free(c.batch);
    return rc;
}

bool scrub_place(struct store *s, const struct wound *w, uint8_t *buf)
{
    struct packs_state state;
    int rc = w->until > 0 || w->len == 0 ? 0 : store_try_data(s, w->lsn, w->dstart, w->doff, w->len, buf, false, NULL);

    if (w->hole)
        return w->len > 0 ? rc == 0 : packs_sound(store_packs(s), w->lsn, &state, NULL) == 1;
    return w->until > 0 ? recall_whole(s, w) : rc != ERR_DAMAGE && rc != ERR_IO;
}
