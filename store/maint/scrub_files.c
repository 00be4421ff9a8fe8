/* scrub_files.c: see scrub_files.h. */
#include "store/maint/scrub_files.h"

#include "store/log/log.h"
#include "store/maint/heal.h"
#include "store/maint/holes.h"
#include "store/maint/recall.h"
#include "store/maint/reclaim.h"
#include "store/pack/archive.h"
#include "store/pack/base.h"
#include "store/pack/history.h"
#include "store/pack/packs.h"

#include <stdlib.h>
#include <time.h>

struct files {
    struct store *s;
    const struct scrub_options *opt;
    void (*found)(void *arg, const struct wound *w, const struct err *why);
    void *arg;
    bool writable;
    uint64_t *at, *end;              /* of those of a kind, listed first: making one anew changes the list */
    size_t n, cap;
    bool whole;                      /* rows do not name all that is needed: no gap is closed on their word */
    uint64_t mended, here;           /* here: places damaged in the file that is looked at */
    struct err what;                 /* the first of them */
    struct err *err;
};

static int note(struct files *c, uint64_t at, uint64_t end)
{
    if (c->n == c->cap) {
        size_t cap = c->cap > 0 ? 2 * c->cap : 64;
        uint64_t *a = realloc(c->at, cap * sizeof *a), *e = a != NULL ? realloc(c->end, cap * sizeof *e) : NULL;

        c->at = a != NULL ? a : c->at;
        c->end = e != NULL ? e : c->end;
        if (e == NULL)
            return err_set(c->err, ERR_NOMEM, "scrub: out of memory");
        c->cap = cap;
    }
    c->at[c->n] = at;
    c->end[c->n++] = end;
    return 0;
}

static int stopped(struct files *c)
{
    return c->opt->stop != NULL && c->opt->stop(c->opt->arg) ? err_set(c->err, ERR_BUSY, "scrub: told to stop") : 0;
}

/* Somebody packs, for seconds: 0 it is worth another try; BUSY told to stop. */
static int wait_for_turn(struct files *c)
{
    const struct timespec nap = { 0, 20 * 1000000L };

    nanosleep(&nap, NULL);
    return stopped(c);
}

static bool is_damage(int rc)
{
    return rc == ERR_DAMAGE || rc == ERR_IO;
}

/* ---- superblock and retained set ---- */

static int copies(struct files *c)
{
    struct err why = { 0 };
    int rc = store_copies_heal(c->s, &why, c->err);

    if (rc == 1) {
        c->mended += c->writable;
        c->found(c->arg, &(struct wound){ .lsn = LOG_FIRST_ADDR }, &why);
    }
    return rc < 0 ? rc : 0;
}

/* ---- headers of the log ---- */

/* Somebody removed it while it was open: all that would be lost at the next start is here still. */
static void names(struct files *c)
{
    for (size_t i = 0; i < c->n && c->writable; i++) {
        struct err why = { 0 };
        int rc = log_heal_name(store_log(c->s), c->at[i], &why);

        if (rc == 1)
            (void)err_set(&why, ERR_DAMAGE, "log: expected the file of the segment that begins @%llu under its name, found none: it was removed", (unsigned long long)c->at[i]);
        c->mended += rc == 1;
        if (rc == 1 || (rc < 0 && rc != ERR_NOENT && rc != ERR_DAMAGE))
            c->found(c->arg, &(struct wound){ .lsn = c->at[i] }, &why);
    }
}

static int note_segment(void *arg, const struct log_segment_info *i)
{
    return note(arg, i->first, i->end);
}

static int headers(struct files *c)
{
    int rc = log_segments(store_log(c->s), note_segment, c);

    if (rc == 0)
        names(c);
    for (size_t i = 0; rc == 0 && i < c->n; i++) {
        struct err why = { 0 };
        bool anew = false;

        rc = c->writable ? heal_header(c->s, c->at[i], &why) : log_check_header(store_log(c->s), c->at[i], &why);
        if (rc == 1) {
            (void)err_set(&why, ERR_DAMAGE, "log: the header of the segment that begins @%llu was damaged", (unsigned long long)c->at[i]);
            c->mended++;
            anew = true;
        }
        if (anew || (rc < 0 && rc != ERR_NOENT && rc != ERR_NOMEM) || (rc == ERR_NOENT && c->at[i] >= log_first(store_log(c->s))))
            c->found(c->arg, &(struct wound){ .lsn = c->at[i] }, &why);
        rc = rc == ERR_NOMEM ? err_set(c->err, rc, "%s", why.msg) : 0;
    }
    return rc;
}

/* ---- archive ---- */

static int note_archive(void *arg, const struct history_file *f)
{
    return note(arg, f->first, f->end);
}

/* Where all its records are there (its hash is bad, a head), or the log has them still, it needs nobody. */
static bool archive_anew(struct files *c, const struct wound *w)
{
    struct recall *r = NULL;
    uint64_t from, until;
    int rc = c->writable ? recall_new(c->s, w, &r, NULL) : ERR_ROFS;

    if (rc == 0)
        rc = recall_next(r, &from, &until) == 0 ? ERR_BUSY : ERR_NOENT;
    while (rc == ERR_BUSY && (rc = recall_apply(r, NULL)) == ERR_BUSY && wait_for_turn(c) == 0)
        ;
    recall_free(r);
    return rc == 0;
}

static int archives_gone(struct files *c)
{
    struct wound w = { 0 };
    int rc;

    while ((rc = recall_gap(c->s, w.until, &w, c->err)) == 1) {
        struct err why = { 0 };

        (void)err_set(&why, ERR_DAMAGE, "archive: expected a file with the records from @%llu to @%llu, which are not in the log any more, found none: it is gone%s", (unsigned long long)w.lsn, (unsigned long long)w.until, recall_limit(&w));
        c->found(c->arg, &w, &why);
    }
    return rc;
}

static int archives(struct files *c)
{
    int rc = history_files(store_history(c->s), note_archive, c);

    for (size_t i = 0; rc == 0 && i < c->n; i++) {
        struct history_file f;
        struct err why = { 0 };

        rc = recall_file_check(c->s, c->at[i], &f, &why);
        if (is_damage(rc)) {
            struct wound w = { .lsn = f.first, .until = f.end };

            if (archive_anew(c, &w)) {
                c->mended++;
                w.until = 0;
            }
            c->found(c->arg, &w, &why);
        }
        rc = rc < 0 && !is_damage(rc) && rc != ERR_NOENT ? err_set(c->err, rc, "%s", why.msg) : stopped(c);
    }
    return rc == 0 ? archives_gone(c) : rc;
}

static int check_base(void *arg, uint64_t gen)
{
    struct files *c = arg;
    struct base *b = NULL;
    struct err why = { 0 };
    int rc = base_open(store_io(c->s), gen, &b, &why, &why);

    c->n++;
    if (rc == 0)
        rc = base_check(b, &why);
    base_close(b);
    if (rc == ERR_NOMEM)
        return err_set(c->err, rc, "%s", why.msg);
    if (rc == ERR_NOENT || rc == ERR_VERSION)        /* (of a later program: not ours to judge) */
        return 0;
    if (rc < 0 || why.code != 0) {
        c->here++;
        c->found(c->arg, &(struct wound){ .lsn = LOG_FIRST_ADDR }, &why);
    }
    return 0;
}

/* Its rows are those of the index, which is here. */
static int bases(struct files *c)
{
    const struct reclaim_options opt = { .base = true, .sweep = true, .stop = c->opt->stop, .arg = c->opt->arg };
    struct reclaim_result res = { 0 };
    struct err why = { 0 };
    int rc = base_list(store_io(c->s), check_base, c, c->err);

    if (rc == 0 && c->n == 0 && history_first(store_history(c->s)) > LOG_FIRST_ADDR) {
        (void)err_set(&why, ERR_DAMAGE, "archive: expected a base, since there are no records before @%llu, found none: it is gone", (unsigned long long)history_first(store_history(c->s)));
        c->here++;
        c->found(c->arg, &(struct wound){ .lsn = LOG_FIRST_ADDR }, &why);
    }
    if (rc == 0 && c->here > 0 && c->writable && reclaim(c->s, &opt, &res, &why) == 0 && res.base_bytes > 0)
        c->mended += c->here;
    return rc;
}

/* ---- packs ---- */

static int note_pack(void *arg, const struct packs_info *i)
{
    return note(arg, i->first, i->gen);
}

static bool pack_anew(struct files *c, uint64_t addr)
{
    int rc = c->writable ? ERR_BUSY : ERR_ROFS;

    while (rc == ERR_BUSY && (rc = heal_pack(c->s, addr, NULL)) == ERR_BUSY && wait_for_turn(c) == 0)
        ;
    return rc == 0;
}

/* As names(), for the first such pack: making it anew changes the list. */
static int without_name(void *arg, const struct packs_info *i)
{
    struct files *c = arg;
    struct err why = { 0 };
    struct packs_state state;
    struct io_stat st;

    if (!c->writable || io_stat_path(store_io(c->s), i->name, &st, NULL) != ERR_NOENT || packs_sound(store_packs(c->s), i->first, &state, NULL) != 1)
        return 0;
    (void)err_set(&why, ERR_DAMAGE, "%s: expected a file of that name, found none: it was removed", i->name);
    c->mended += pack_anew(c, i->first);
    c->found(c->arg, &(struct wound){ .lsn = i->first }, &why);
    return 0;
}

/* One place is seen by the file's hash, too. */
static void bad_pack(void *arg, const struct err *why)
{
    struct files *c = arg;

    if (c->here++ == 0)
        c->what = *why;
}

static void count(void *arg, const struct err *why)
{
    (void)why;
    ++*(int64_t *)arg;
}

/* A file's hash that is wrong for what lies in its frames: those were found by reading them, and are healed by themselves. */
static bool of_frames(struct files *c, uint64_t gen, int64_t bad)
{
    int64_t all = 0;

    return bad == 1 && packs_check(store_packs(c->s), gen, count, &all, NULL) > 1;
}

static int packs(struct files *c)
{
    int rc = packs_list(store_packs(c->s), note_pack, c, c->err);
    size_t n = c->n;

    c->here = 0;
    if (rc == 0)
        rc = packs_list(store_packs(c->s), without_name, c, c->err);
    for (c->n = 0; rc == 0 && c->n < n; c->n++) {
        struct packs_state state;        /* (of one whose tables are lost holes() has said so) */
        struct err why = { 0 };
        int64_t bad;

        c->here = 0;
        bad = packs_check_shape(store_packs(c->s), c->end[c->n], bad_pack, c, &why);
        if (bad > 0 && packs_sound(store_packs(c->s), c->at[c->n], &state, &why) == 1 && !of_frames(c, c->end[c->n], bad)) {
            c->mended += pack_anew(c, c->at[c->n]);
            c->found(c->arg, &(struct wound){ .lsn = c->at[c->n] }, &c->what);
        }
        rc = bad < 0 && bad != ERR_NOENT ? err_set(c->err, (int)bad, "%s", why.msg) : stopped(c);
    }
    return rc;
}

/* ---- what no pack has ---- */

static int note_range(void *arg, const struct packs_state *r)
{
    return note(arg, r->first, r->gone);
}

struct hole_count { struct files *c; uint64_t *n; };

static int hole_stop(void *arg)
{
    return stopped(((struct hole_count *)arg)->c);
}

static void one_hole(void *arg, const struct wound *w, uint64_t ino)
{
    struct hole_count *h = arg;
    struct files *c = h->c;
    struct err why = { 0 };

    (void)ino;
    for (size_t i = 0; i < c->n; i++)
        h->n[i] += w->lsn >= c->at[i] && (i + 1 == c->n || w->lsn < c->at[i + 1]);
    (void)err_set(&why, ERR_DAMAGE, "packs: expected data that moments need, found them in none");
    c->found(c->arg, w, &why);
}

static void say_range(struct files *c, size_t i)
{
    struct wound w = { .lsn = c->at[i], .hole = true };
    struct err why = { 0 };

    (void)err_set(&why, ERR_DAMAGE, c->end[i] ? "packs: expected a file that has the data from @%llu on, found none: it is gone" :
                  "packs: expected tables of the file that has the data from @%llu on, found neither copy whole", (unsigned long long)c->at[i]);
    c->found(c->arg, &w, &why);
}

/* Of which no moment needs anything: nobody is asked. On request others, too: what is lost stays named, place by place, and would still be filled. */
static void close_ranges(struct files *c, const uint64_t *n)
{
    for (size_t i = 0; i < c->n && c->writable; i++) {
        int rc = (n[i] == 0 && !c->whole) || (c->opt->close && c->end[i]) ? ERR_BUSY : 0;

        while (rc == ERR_BUSY && !store_maint_try(c->s) && wait_for_turn(c) == 0)
            ;
        if (rc == ERR_BUSY && c->err->code == 0) {
            (void)holes_close(c->s, c->at[i], NULL);
            store_maint_end(c->s);
        }
    }
}

/* All within one turn: a reclaim lets moments go, and makes packs anew, while rows and packs are compared. */
static int look_for_holes(struct files *c, struct hole_count *h)
{
    int rc = 0;

    while (rc == 0 && !store_reclaim_begin(c->s))
        rc = wait_for_turn(c);
    if (rc < 0)
        return rc;
    rc = holes_gone(c->s, note_range, c, c->err);
    h->n = calloc(c->n + 1, sizeof *h->n);
    if (rc == 0 && h->n == NULL)
        rc = err_set(c->err, ERR_NOMEM, "scrub: out of memory");
    for (size_t i = 0; rc == 0 && i < c->n; i++)
        say_range(c, i);
    if (rc == 0)
        rc = holes_look(c->s, hole_stop, one_hole, h, c->err);
    store_reclaim_end(c->s);
    return rc;
}

static int holes(struct files *c)
{
    struct hole_count h = { .c = c };
    int rc = look_for_holes(c, &h);

    if (rc == 0)
        close_ranges(c, h.n);
    free(h.n);
    return rc;
}

int scrub_files(struct store *s, const struct scrub_options *opt, void (*found)(void *arg, const struct wound *w, const struct err *why), void *arg, uint64_t *mended, struct err *err)
{
    static int (*const kinds[])(struct files *c) = { copies, headers, archives, bases, holes, packs };
    struct files c = { .s = s, .opt = opt, .found = found, .arg = arg, .err = err };
    struct store_info info;
    int rc = 0;

    store_info(s, &info);
    c.writable = info.writable;
    c.whole = info.ever_hidden > 0;
    for (size_t i = 0; rc == 0 && i < sizeof kinds / sizeof *kinds; i++) {
        c.n = 0;
        c.here = 0;
        rc = kinds[i](&c);
    }
    *mended = c.mended;
    free(c.at);
    free(c.end);
    return rc;
}
