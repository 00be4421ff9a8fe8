/* packer.c: see packer.h. The steps, in their order, are in packer_step. */
#include "store/core/retain.h"
#include "store/maint/pack_internal.h"
#include "store/maint/recall.h"

#include "store/log/frame.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- which addresses ---- */

enum { ASK_RECORDS = 1024 };      /* after so many it is asked whether to go on */

struct choice { uint64_t from, upto, end, room; unsigned n; };

static int take_segment(void *arg, const struct log_segment_info *s)
{
    struct choice *c = arg;

    if (s->end <= c->from)
        return 0;
    if (s->end > c->upto || c->n == WINDOW_SEGMENTS || (c->n > 0 && s->end - c->from > c->room))
        return 1;
    c->end = s->end;
    c->n++;
    return 0;
}

/* So far may leave the log: durable, in the persisted index, and had by every standby that is waited for: if one takes over, this store goes back to that place or one behind it, and what holds both
 * sides of it could not be used any more (store/core/rewind.c). */
static uint64_t settled(struct store *s, uint64_t upto)
{
    uint64_t held = store_held_from(s);
    struct store_info info;

    store_info(s, &info);
    upto = upto < info.durable ? upto : info.durable;
    upto = upto < held ? upto : held;
    return upto < info.persisted ? upto : info.persisted;
}

/* A file that is gone among those before the log is no reason to let the log grow: nothing of it is packed anew, or taken the place of. */
uint64_t packer_from(struct store *s)
{
    uint64_t first = log_first(store_log(s)), end = packs_end(store_packs(s)), run = end > 0 && end < first ? packs_run(store_packs(s), first - FRAME_ALIGN) : 0;

    return run > 0 ? run : end;
}

/* The same of the archive. */
static uint64_t archived_to(struct store *s)
{
    uint64_t first = log_first(store_log(s)), end = history_end(store_history(s));
    struct history_file f;

    if (end > 0 && end < first && history_file_of(store_history(s), first - FRAME_ALIGN, &f))
        for (end = f.end; history_file_of(store_history(s), end, &f);)
            end = f.end;
    return end;
}

/*
 * The next window: 1, 0 none. The archive is written first, so that after a crash it may be one file ahead: then that file says what the window is, and
 * *${archived} is set.
 */
static int choose(struct store *s, uint64_t upto, struct window *w, bool *archived, struct err *err)
{
    struct store_info info;
    struct io_space_info sp;
    uint64_t packed = packer_from(s), arc = archived_to(s);
    struct choice c = { .from = packed > 0 ? packed : history_first(store_history(s)), .upto = settled(s, upto), .room = UINT64_MAX };

    store_info(s, &info);
    if (!info.writable)
        return err_set(err, ERR_ROFS, "packing: the store is opened for reading only");
    if (io_space(store_io(s), &sp, NULL) == 0)
        c.room = sp.avail / 2;           /* it is on the disk twice until the log lets go of it */
    if (c.from < log_first(store_log(s)))        /* what is packed of addresses whose data are not there would take the place of what comes behind them, too */
        return err_set(err, ERR_DAMAGE, "packs: expected data of addresses up to @%" PRIu64 ", where the log begins, found packs up to @%" PRIu64 ": a file is gone; spare scrub heals it with what another site has. Where none has it, spare scrub --close-gaps goes on without",
                       log_first(store_log(s)), c.from);
    w->first = c.from;
    *archived = arc > c.from;
    if (*archived) {
        w->end = arc;
        return 1;
    }
    if (packed > 0 && arc < packed)
        return err_set(err, ERR_DAMAGE, "archive: expected records up to @%" PRIu64 ", which is where packs end, found them up to @%" PRIu64, c.from, arc);
    (void)log_segments(store_log(s), take_segment, &c);
    w->end = c.end;
    return c.end > w->first;
}

/* ---- records ---- */

struct needed *needed_new(uint64_t first, uint64_t end)
{
    struct needed *n = end > first ? malloc(sizeof *n) : NULL;

    if (n == NULL)
        return NULL;
    *n = (struct needed){ first, end, calloc((end - first) / NEEDED_GRAIN / 8 + 1, 1) };
    if (n->bits == NULL) {
        free(n);
        return NULL;
    }
    return n;
}

void needed_free(struct needed *n)
{
    if (n != NULL)
        free(n->bits);
    free(n);
}

int told_to_stop(const struct packer_options *opt, struct err *err)
{
    return opt->stop != NULL && opt->stop(opt->arg) ? err_set(err, ERR_BUSY, "packing: told to stop") : 0;
}

/*
 * The records of the window, read once: what is packed of them is noted, and they go into ${arc} (NULL: it has them already). The window ends early, in the middle
 * of a segment, where it has become large enough (unless the archive says where): what a step takes in memory is for each write, and a segment may hold a quarter of
 * a million. The segment goes when all of it was packed.
 */
static int collect(struct store *s, const struct packer_options *opt, struct window *w, struct archive_writer *arc, struct err *err)
{
    struct history_iter *it = NULL;
    struct record rec;
    struct wound bad;
    const uint8_t *head;
    uint64_t at = w->first;
    uint32_t epoch = 0;
    int rc = history_iter_new(store_history(s), w->first, w->end, &it, err);

    while (rc == 0 && (rc = history_next(it, &rec, &head, err)) == 1) {
        if (w->n >= WINDOW_EXTENTS && arc != NULL) {
            w->end = rec.lsn;
            rc = archive_cut(arc, w->end, err);
            break;
        }
        epoch = rec.epoch;
        at = rec.lsn + frame_span(rec.head_len + rec.data_len);
        rc = window_add(w, &rec, opt->needed == NULL || needed_has(opt->needed, rec.lsn)) < 0 ? err_set(err, ERR_NOMEM, "packing: out of memory") : 0;
        if (rc == 0 && arc != NULL)
            rc = archive_add(arc, &rec, head, err);
        if (rc == 0 && w->records % ASK_RECORDS == 0)
            rc = told_to_stop(opt, err);
    }
    history_iter_free(it);
    if ((rc == ERR_DAMAGE || rc == ERR_IO) && recall_head(s, at, &bad))
        wounds_note(s, &bad);            /* packing goes on once another site has healed it */
    store_epoch_id(s, epoch, w->epoch_id);
    return rc < 0 ? rc : 0;
}

/* ---- the steps ---- */

static int write_archive(struct store *s, const struct packer_options *opt, struct window *w, struct packer_result *res, struct err *err)
{
    struct archive_writer *arc = NULL;
    struct archive_head h = { .gen = history_next_gen(store_history(s)), .first = w->first, .end = w->end, .retained_gen = store_retained_gen(s) };
    struct store_info info;
    struct io_stat st;
    char name[ARCHIVE_NAME_MAX];
    int rc;

    store_info(s, &info);
    memcpy(h.lineage, info.lineage, 16);
    memcpy(h.site, info.site, 16);
    rc = names_free_gen(store_io(s), "archive", archive_parse, &h.gen, err);
    if (rc == 0)
        rc = archive_new(store_io(s), &h, &arc, err);
    if (rc == 0)
        rc = collect(s, opt, w, arc, err);
    if (rc < 0) {
        archive_drop(arc);
        return rc;
    }
    rc = archive_finish(arc, w->epoch_id, err);
    archive_name(w->first, w->end, h.gen, name);
    if (rc == 0)
        rc = history_added(store_history(s), w->first, w->end, h.gen, err);
    if (rc == 0 && io_stat_path(store_io(s), name, &st, NULL) == 0)
        res->archive_bytes = st.size;
    return rc;
}

static int write_pack(struct store *s, const struct packer_options *opt, struct window *w, struct packer_result *res, struct err *err)
{
    struct packs *ps = store_packs(s);
    struct pack_head h = { .gen = packs_next_gen(ps), .first = w->first, .end = w->end, .retained_gen = store_retained_gen(s) }, made = { 0 };
    struct pack_writer *pack = NULL;
    struct filled *filled = NULL;
    struct store_info info;
    int rc = window_arrange(w, s, err);

    store_info(s, &info);
    memcpy(h.lineage, info.lineage, 16);
    memcpy(h.site, info.site, 16);
    h.key_id = info.key_id;
    if (rc == 0)
        rc = names_free_gen(store_io(s), "packs", pack_parse, &h.gen, err);
    if (rc == 0)
        rc = pack_new(store_io(s), &h, &pack, err);
    if (rc == 0)
        rc = fill_pack(s, opt, w, pack, res, &filled, err);
    if (rc < 0) {
        pack_drop(pack);
        return rc;
    }
    rc = pack_finish(pack, w->epoch_id, &made, err);
    if (rc == 0)
        rc = packs_added(ps, &made, err);
    if (rc == 0)
        rc = fill_remember(filled, s, err);
    res->pack_bytes = made.size;
    fill_free(filled);
    return rc;
}

/* Lets go of what packs and archive have, and the persisted index is past. */
static int drop(struct store *s, struct err *err)
{
    uint64_t packed = packer_from(s), archived = archived_to(s), upto = packed < archived ? packed : archived;

    int rc;

    upto = settled(s, upto);
    if (upto <= log_first(store_log(s)))
        return 0;
    rc = io_syncdir(store_io(s), "packs", err);      /* a name that was there when the store was opened: who made it may have been killed before this */
    return rc == 0 ? log_drop(store_log(s), upto, err) : rc;
}

int packer_step(struct store *s, const struct packer_options *opt, uint64_t upto, struct packer_result *res, struct err *err)
{
    static const struct packer_options none;
    const struct packer_options *o = opt != NULL ? opt : &none;
    struct packer_result own, *r = res != NULL ? res : &own;
    struct window w = { 0 };
    bool archived = false;
    int more, rc;

    memset(r, 0, sizeof *r);
    store_maint_begin(s);
    more = choose(s, upto, &w, &archived, err);
    rc = more < 0 ? more : 0;
    if (more > 0) {
        rc = archived ? collect(s, o, &w, NULL, err) : write_archive(s, o, &w, r, err);
        if (rc == 0 && archived)         /* it was there when the store was opened: its name may not last */
            rc = io_syncdir(store_io(s), "archive", err);
        if (rc == 0)
            rc = write_pack(s, o, &w, r, err);
        r->first = w.first;
        r->end = w.end;
        r->records = w.records;
        r->data_bytes = w.data_bytes;
        window_release(&w);
    }
    if (rc == 0)
        rc = drop(s, err);
    store_maint_end(s);
    return rc < 0 ? rc : more > 0;
}
