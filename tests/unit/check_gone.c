/*
 * check_gone: files of the log, of packs, of the archive that somebody removed, and packs of which both tables are bad: found, named, and made anew of what the other site has, whichever of them is the primary.
 */
#include "store/core/version.h"
#include "store/core/wounds.h"
#include "store/log/frame.h"
#include "store/log/segment.h"
#include "store/maint/heal.h"
#include "store/maint/holes.h"
#include "store/maint/recall.h"
#include "store/maint/scrub.h"
#include "store/maint/upkeep.h"
#include "store/pack/archive.h"
#include "store/pack/history.h"
#include "store/pack/packs.h"
#include "store/pack/packs_mark.h"
#include "store/sync/boot.h"
#include "tests/lib/packrig.h"
#include "tests/lib/parted.h"
#include "tests/lib/twosites.h"

#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 4, FILES = 9, SIZE = 40000, IDLE = 30 };

static struct teststore a, b;

static void content(unsigned round, unsigned i, uint8_t *p)
{
    uint64_t x = ((i % 3 == 0 ? 0 : round) * 31 + i + 1) * 0x9e3779b97f4a7c15u;      /* some are what the round before had, and share its chunks */

    for (size_t k = 0; k < SIZE; k++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        p[k] = i % 2 ? (uint8_t)x : (uint8_t)("some text, again and again. "[k % 28] + (k % 512 == 0 ? (int)(x & 7) : 0));
    }
}

static void save(unsigned round)
{
    static uint8_t buf[SIZE];
    char name[16];

    for (unsigned i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "r%uf%u", round, i);
        ts_save(&a, name, "");
        content(round, i, buf);
        for (size_t off = 0; off < SIZE; off += 20000)
            ts_write(&a, ts_ino(&a, name), off, buf + off, 20000);
    }
}

static void both(void)
{
    ts_new(&a, "UTC");
    twosites_standby(&a, &b);
}

static void neither(void)
{
    ts_free(&b);
    ts_free(&a);
}

/* Each round in a segment of its own, or (${packed}) in a pack and a file of the archive of its own, of that one. */
static void filled(struct teststore *packed)
{
    struct err err = { 0 };

    for (unsigned r = 0; r < ROUNDS; r++) {
        save(r);
        twosites_ship(&a, &b, NULL);
        ck_assert_int_eq(store_roll(a.s, &err), 0);
        ck_assert_int_eq(store_roll(b.s, &err), 0);
        if (packed != NULL && r + 1 < ROUNDS)
            ck_assert_msg(upkeep_pack(packed->s, NULL, NULL, NULL, NULL, &err) == 0, "%s", err.msg);
    }
    save(ROUNDS);
    twosites_ship(&a, &b, NULL);
}

/* Files that read as they were; the others are damage, and nothing else. */
static unsigned whole(struct teststore *t)
{
    static uint8_t buf[SIZE], want[SIZE];
    unsigned n = 0;

    for (unsigned k = 0; k < (ROUNDS + 1) * FILES; k++) {
        struct err err = { 0 };
        struct row_ino row;
        char name[16];
        uint64_t ino;
        int64_t rc;

        snprintf(name, sizeof name, "r%uf%u", k / FILES, k % FILES);
        ck_assert_int_eq(store_walk(t->s, AT_LIVE, name, &ino, &row, NULL), 0);
        content(k / FILES, k % FILES, want);
        rc = store_read(t->s, AT_LIVE, ino, 0, buf, SIZE, false, NULL, &err);
        ck_assert_msg(rc == SIZE || rc == ERR_DAMAGE, "%s: %ld %s", name, (long)rc, err.msg);
        if (rc == SIZE)
            ck_assert_mem_eq(buf, want, SIZE);
        n += rc == SIZE;
    }
    return n;
}

static void each(void *arg, const struct wound *w, uint64_t ino, const char *message)
{
    (void)w;
    (void)ino;
    ck_assert(message[0] != '\0');
    ++*(unsigned *)arg;
}

static unsigned scrubbed(struct teststore *t, bool close)
{
    unsigned n = 0;
    struct scrub_options opt = { .again = true, .close = close, .found = each, .arg = &n };
    struct scrub_result res;
    struct err err = { 0 };

    ck_assert_msg(scrub(t->s, &opt, &res, &err) == 0, "%s", err.msg);
    return n;
}

static unsigned found(struct teststore *t)
{
    return scrubbed(t, false);
}

/* What is still found when nothing was healed any more for a while: it heals behind, and a busy machine takes its time. */
static unsigned healed(struct teststore *t)
{
    unsigned least = UINT_MAX, n;

    for (unsigned idle = 0; idle < IDLE; idle++) {
        for (int i = 0; i < 5; i++) {
            ts_save(&a, "something", "so that the stream stays for a moment");
            twosites_ship(&a, &b, NULL);
        }
        n = found(t);
        if (n == 0)
            return 0;
        if (n < least)
            idle = 0;
        least = n < least ? n : least;
    }
    return least;
}

struct name { char name[64]; uint64_t first, end; };
struct listed { struct name v[32]; size_t n; };

static void add(struct listed *l, const char *name, uint64_t first, uint64_t end)
{
    ck_assert_uint_lt(l->n, 32);
    snprintf(l->v[l->n].name, sizeof l->v[l->n].name, "%s", name);
    l->v[l->n].first = first;
    l->v[l->n++].end = end;
}

static int add_segment(void *arg, const struct log_segment_info *i)
{
    if (i->end > i->first)
        add(arg, i->name, i->first, i->end);
    return 0;
}

static int add_pack(void *arg, const struct packs_info *i)
{
    add(arg, i->name, i->first, i->end);
    return 0;
}

static int add_archive(void *arg, const struct history_file *f)
{
    char name[ARCHIVE_NAME_MAX];

    archive_name(f->first, f->own_end, f->gen, name);
    add(arg, name, f->first, f->end);
    return 0;
}

static struct listed listed(struct teststore *t, char kind)
{
    struct listed l = { .n = 0 };
    struct err err = { 0 };

    if (kind == 'l')
        ck_assert_int_eq(log_segments(store_log(t->s), add_segment, &l), 0);
    else if (kind == 'p')
        ck_assert_int_eq(packs_list(store_packs(t->s), add_pack, &l, &err), 0);
    else
        ck_assert_int_eq(history_files(store_history(t->s), add_archive, &l), 0);
    ck_assert_uint_ge(l.n, 1);
    return l;
}

static void removed(struct teststore *t, char kind, size_t from, size_t n)
{
    struct listed l = listed(t, kind);

    for (size_t i = from; i < from + n && i < l.n; i++)
        ck_assert_int_eq(io_unlink(store_io(t->s), l.v[i].name, NULL), 0);
    ck_assert_int_eq(io_syncdir(store_io(t->s), kind == 'l' ? "log" : kind == 'p' ? "packs" : "archive", NULL), 0);
}

static uint64_t le64_at(struct teststore *t, const char *name, uint64_t off)
{
    struct io_file *f = NULL;
    uint8_t p[8];

    ck_assert_int_eq(io_open(store_io(t->s), name, IO_RDONLY, &f, NULL), 0);
    ck_assert_int_eq(io_pread(f, p, 8, off, NULL), 8);
    io_close(f);
    return get_u64(p);
}

/* Both copies of a part of the second pack. */
static void spoilt(struct teststore *t, unsigned what)
{
    const struct name p = listed(t, 'p').v[1];
    uint64_t at[2] = { le64_at(t, p.name, 144), le64_at(t, p.name, 152) }, n = le64_at(t, p.name, 160);
    struct io_stat st;

    ck_assert_int_eq(io_stat_path(store_io(t->s), p.name, &st, NULL), 0);
    for (int i = 0; i < 2; i++)
        ck_assert(simio_flip(t->sim, p.name, what == 0 ? at[i] + 5 : what == 1 ? at[i] + n - 9 : what == 2 ? at[i] + n / 2 : i == 0 ? 100 : st.size - 172, 0x41));
}

enum { KINDS = 15 };

static void hurt(struct teststore *t, unsigned kind)
{
    switch (kind) {
    case 0: removed(t, 'l', 1, 1); break;
    case 1: removed(t, 'l', 0, 1); break;
    case 2: removed(t, 'l', 1, 2); break;
    case 3: removed(t, 'l', 0, 2); break;
    case 4: removed(t, 'p', 0, 1); break;
    case 5: removed(t, 'p', 1, 1); break;
    case 6: removed(t, 'p', 0, 32); break;
    case 7: case 8: case 9: case 10: spoilt(t, kind - 7); break;
    case 11: removed(t, 'a', 0, 1); break;
    case 12: removed(t, 'a', 1, 1); break;
    case 13: removed(t, 'a', 0, 32); break;
    case 14: removed(t, 'a', 1, 1); removed(t, 'p', 0, 2); break;
    }
    ts_reopen(t, false);
}

/* ${_i} / 2: what is gone; bit 0: at the standby, else at the primary. */
START_TEST(what_is_gone_is_found_and_healed)
{
    struct teststore *t = _i & 1 ? &b : &a;
    struct err err = { 0 };
    unsigned kind = (unsigned)_i / 2;

    filled(kind >= 4 ? t : NULL);
    ck_assert_uint_eq(found(t), 0);
    hurt(t, kind);
    ck_assert(whole(t) < (ROUNDS + 1) * FILES || kind >= 11);
    ck_assert_uint_gt(found(t), 0);
    ck_assert_uint_eq(healed(t), 0);
    ck_assert_uint_eq(whole(t), (ROUNDS + 1) * FILES);
    ck_assert_uint_gt(twosites_same_records(&a, &b), 40);
    ts_reopen(t, true);                  /* the power is cut */
    ck_assert_uint_eq(whole(t), (ROUNDS + 1) * FILES);
    ts_save(&a, "at last", "x");
    twosites_ship(&a, &b, NULL);
    ck_assert_int_eq(store_roll(t->s, NULL), 0);
    ck_assert_msg(upkeep_pack(t->s, NULL, NULL, NULL, NULL, &err) == 0, "%s", err.msg);
    ck_assert_uint_gt(twosites_same_records(&a, &b), 40);
    ck_assert_uint_eq(found(t), 0);
    ck_assert_uint_eq(whole(t), (ROUNDS + 1) * FILES);
}
END_TEST

/* All files of the log, the one that is written to as well, or all packs; they are open, so nobody else is needed. */
START_TEST(what_was_removed_while_it_is_open_is_written_again)
{
    filled(_i ? &a : NULL);
    ck_assert_uint_eq(found(&a), 0);     /* (which opens all of them) */
    ck_assert_uint_eq(whole(&a), (ROUNDS + 1) * FILES);
    removed(&a, _i ? 'p' : 'l', 0, 32);
    ck_assert_uint_gt(found(&a), 0);
    ck_assert_uint_eq(found(&a), 0);
    ts_save(&a, "at last", "x");
    twosites_ship(&a, &b, NULL);
    ts_reopen(&a, true);
    ck_assert_uint_eq(whole(&a), (ROUNDS + 1) * FILES);
    ts_is(&a, "at last", "x");
    ck_assert_uint_gt(twosites_same_records(&a, &b), 40);
    ck_assert_uint_eq(found(&a), 0);
}
END_TEST

static int last_segment(void *arg, const struct log_segment_info *i)
{
    *(struct log_segment_info *)arg = *i;
    return 0;
}

/* Nothing was appended to it yet (${_i}: something was, while it had no name): what is appended from then on has a name. */
START_TEST(an_empty_current_segment_is_covered)
{
    struct log_segment_info last = { 0 }, now = { 0 };
    struct err err = { 0 };

    filled(&a);
    ck_assert_msg(upkeep_pack(a.s, NULL, NULL, NULL, NULL, &err) == 0, "%s", err.msg);
    (void)log_segments(store_log(a.s), last_segment, &last);
    ck_assert_uint_eq(last.first, log_head(store_log(a.s)));
    ck_assert_int_eq(io_unlink(store_io(a.s), last.name, NULL), 0);
    ck_assert_int_eq(io_syncdir(store_io(a.s), "log", NULL), 0);
    if (_i == 1)
        ts_save(&a, "between", "while it has no name");
    ck_assert_uint_gt(found(&a), 0);
    (void)log_segments(store_log(a.s), last_segment, &now);
    ck_assert_uint_gt(now.gen, last.gen);
    ck_assert_int_eq(io_stat_path(store_io(a.s), now.name, &(struct io_stat){ 0 }, NULL), 0);
    ck_assert_uint_eq(found(&a), 0);
    ts_save(&a, "at last", "precious");
    ck_assert_int_eq(store_sync(a.s, &err), 0);
    ts_reopen(&a, true);
    ts_is(&a, "at last", "precious");
    if (_i == 1)
        ts_is(&a, "between", "while it has no name");
    ck_assert_uint_eq(whole(&a), (ROUNDS + 1) * FILES);
    ck_assert_uint_eq(found(&a), 0);
}
END_TEST

START_TEST(a_log_that_is_closed_is_not_said_to_be_healed)
{
    struct log_segment_info last = { 0 };
    struct err err = { 0 };

    filled(&a);
    (void)log_segments(store_log(a.s), last_segment, &last);
    ck_assert_int_eq(store_sync(a.s, &err), 0);
    ck_assert_int_eq(log_finish(store_log(a.s), &err), 0);
    ck_assert_int_eq(io_unlink(store_io(a.s), last.name, NULL), 0);
    ck_assert_int_eq(log_heal_name(store_log(a.s), last.first, &err), ERR_BUSY);
}
END_TEST

/* A reader is in the file that was removed: it goes on there, who comes next reads the new one. What the disk does not give of it is damage in the new one, nothing else is. */
START_TEST(a_name_comes_back_while_it_is_read)
{
    struct log_iter *it = NULL;
    struct listed l;
    struct record rec;
    struct err err = { 0 };
    unsigned n = 0;

    filled(NULL);
    l = listed(&a, 'l');
    ck_assert_int_eq(log_iter_new(store_log(a.s), l.v[1].first, l.v[1].end, LOG_ITER_DATA, &it, &err), 0);
    ck_assert_int_eq(log_iter_next(it, &rec, &err), 1);
    removed(&a, 'l', 1, 1);
    if (_i == 1)
        simio_fail_at(a.sim, SIMIO_PREAD, 1, ERR_IO);
    ck_assert_msg(log_heal_name(store_log(a.s), l.v[1].first, &err) == 1, "%s", err.msg);
    simio_fail_clear(a.sim);
    while (log_iter_next(it, &rec, &err) == 1)
        n++;
    ck_assert_uint_gt(n, 5);
    log_iter_free(it);
    ck_assert(simio_flip(a.sim, l.v[1].name, 4096 + 200, 0x40));        /* which who comes next sees at once */
    ck_assert_uint_gt(found(&a), 0);
    ck_assert_uint_eq(healed(&a), 0);
    ts_reopen(&a, true);
    ck_assert_uint_eq(whole(&a), (ROUNDS + 1) * FILES);
    ck_assert_uint_eq(found(&a), 0);
}
END_TEST

/*
 * A store that went back: its file has what the branch goes on with, and the one that began there is gone (${_i} & 1: the one behind it, too). ${_i} & 2: nobody has the branch. What it says is not taken for
 * this store's, nor written over.
 */
START_TEST(another_timeline_is_not_read_as_this_one)
{
    static struct parted p;
    struct listed l;
    struct rewind r;
    struct record rec;
    struct err err = { 0 };
    void *buf = NULL;
    int n = 0;

    parted_make(&p, 0);
    r = parted_fork(&p.b, p.at);
    r.keep = (_i & 2) == 0;
    packrig_close(&p.a);
    ck_assert_msg(store_rewind(simio_io(p.a.sim), NULL, &r, &err) == 0, "%s", err.msg);
    parted_reindex(&p.a);
    for (int i = 0; i < 4; i++) {
        ts_save(&p.b, "more", i ? "again" : "once");
        ts_save(&p.b, "more2", "and more");
        ck_assert_msg(twosites_send(&p.b, &p.a, &err) == 0, "%s", err.msg);
        ck_assert_int_eq(store_roll(p.a.s, &err), 0);
    }
    l = listed(&p.a, 'l');
    for (size_t i = 0; i < l.n; i++)
        if (l.v[i].first >= p.at && n < 1 + (_i & 1)) {
            ck_assert_int_eq(io_unlink(store_io(p.a.s), l.v[i].name, NULL), 0);
            n++;
        }
    ck_assert_int_eq(io_syncdir(store_io(p.a.s), "log", NULL), 0);
    a = p.b;
    b = p.a;
    b.opt.threads = true;                /* as link_receive needs them */
    ts_reopen(&b, false);
    ck_assert_int_eq(log_read_record(store_log(b.s), p.at, false, &rec, &buf, &err), ERR_DAMAGE);
    ck_assert_msg(strstr(err.msg, "went another way") != NULL, "%s", err.msg);
    ck_assert_uint_gt(found(&b), 0);
    ck_assert_uint_eq(healed(&b), 0);
    for (int cut = 0; cut < 2; cut++) {
        ck_assert_uint_gt(twosites_same_records(&a, &b), 40);
        ts_is(&b, "more", "again");
        p.a = b;
        if (r.keep)
            parted_branch_is_whole(&p, r.branch);
        ts_reopen(&b, true);
    }
    ck_assert_uint_eq(found(&b), 0);
}
END_TEST

static int made_anew(struct teststore *t, struct err *err)
{
    struct proto_list list = { 0 };
    uint64_t end;
    int rc = boot_list(t->s, &list, &end, err);

    free((void *)(uintptr_t)list.p);
    return rc;
}

/*
 * What the other one lacks, too, stays named, and takes nothing with it: neither packing nor scrub puts anything in the place of what is there. ${_i}: which pack. The one right before the log keeps packing from
 * going on, any of them a new standby from being made, until somebody says that they are lost; and then they would still be healed.
 */
START_TEST(a_pack_that_is_gone_takes_no_other_with_it)
{
    struct err err = { 0 };
    unsigned left;

    filled(&a);
    removed(&a, 'p', (size_t)_i, 1);
    ts_reopen(&a, false);
    left = whole(&a);
    ck_assert_uint_lt(left, (ROUNDS + 1) * FILES);
    ck_assert_int_eq(upkeep_pack(a.s, NULL, NULL, NULL, NULL, &err), _i == 2 ? ERR_DAMAGE : 0);
    ck_assert(_i != 2 || strstr(err.msg, "a file is gone") != NULL);
    ck_assert(_i == 2 || log_first(store_log(a.s)) == log_head(store_log(a.s)));
    ck_assert_uint_eq(whole(&a), left);
    err.code = 0;
    ck_assert_int_eq(made_anew(&a, &err), ERR_DAMAGE);
    ck_assert_msg(strstr(err.msg, "--close-gaps") != NULL, "%s", err.msg);
    ck_assert_uint_gt(found(&a), 0);
    ck_assert_uint_gt(found(&a), 0);
    ck_assert_uint_eq(whole(&a), left);
    ts_reopen(&a, true);
    ck_assert_uint_eq(whole(&a), left);
    ck_assert_uint_gt(scrubbed(&a, true), 0);
    ts_save(&a, "behind", "what is lost");
    ck_assert_msg(upkeep_pack(a.s, NULL, NULL, NULL, NULL, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(log_first(store_log(a.s)), log_head(store_log(a.s)));
    ck_assert_msg(made_anew(&a, &err) == 0, "%s", err.msg);
    ck_assert_uint_gt(found(&a), 0);
    ck_assert_uint_eq(whole(&a), left);
    ts_reopen(&a, true);
    ck_assert_uint_eq(whole(&a), left);
    ts_is(&a, "behind", "what is lost");
    ck_assert_uint_eq(healed(&a), 0);
    ck_assert_uint_eq(whole(&a), (ROUNDS + 1) * FILES);
}
END_TEST

/* The same of the archive; what is right before the log cannot be gone on from. */
START_TEST(a_file_of_the_archive_that_is_gone_stops_no_packing)
{
    struct err err = { 0 };

    filled(&a);
    removed(&a, 'a', (size_t)_i, 1);
    ts_reopen(&a, false);
    ck_assert_int_eq(upkeep_pack(a.s, NULL, NULL, NULL, NULL, &err), _i == 2 ? ERR_DAMAGE : 0);
    ck_assert_uint_gt(found(&a), 0);
    ck_assert_uint_eq(healed(&a), 0);
    ck_assert_msg(upkeep_pack(a.s, NULL, NULL, NULL, NULL, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(log_first(store_log(a.s)), log_head(store_log(a.s)));
    ck_assert_uint_gt(twosites_same_records(&a, &b), 40);
    ck_assert_uint_eq(whole(&a), (ROUNDS + 1) * FILES);
}
END_TEST

START_TEST(what_nobody_has_stays_named)
{
    unsigned left;

    filled(&a);
    ck_assert_int_eq(upkeep_pack(b.s, NULL, NULL, NULL, NULL, NULL), 0);
    removed(&a, 'p', 1, 1);
    removed(&b, 'p', 0, 32);
    ts_reopen(&a, false);
    ts_reopen(&b, false);
    left = whole(&a);
    ck_assert_uint_gt(healed(&a), 0);
    ck_assert_uint_ge(whole(&a), left);
    ck_assert_uint_gt(found(&a), 0);
}
END_TEST

/* A header, and the one record behind it. */
START_TEST(a_segment_of_one_record_is_made_whole)
{
    struct teststore *t = _i & 1 ? &b : &a;
    struct listed l;

    for (int i = 0; i < 5; i++) {
        ts_save(&a, "one", "x");
        ck_assert_int_eq(store_roll(a.s, NULL), 0);
        twosites_ship(&a, &b, NULL);
        ck_assert_int_eq(store_roll(b.s, NULL), 0);
    }
    filled(NULL);
    l = listed(t, 'l');
    ck_assert(simio_flip(t->sim, l.v[2].name, 100, 0x40));
    for (uint64_t at = l.v[2].first; at < l.v[2].end; at += 8)
        ck_assert(simio_flip(t->sim, l.v[2].name, 4096 + at - l.v[2].first + 3, 0x40));
    ts_reopen(t, false);
    ck_assert_uint_gt(found(t), 0);
    ck_assert_uint_eq(healed(t), 0);
    ck_assert_uint_gt(twosites_same_records(&a, &b), 40);
    ts_reopen(t, true);
    ck_assert_uint_gt(twosites_same_records(&a, &b), 40);
    ck_assert_uint_eq(found(t), 0);
}
END_TEST

/* What a site says is in a record is not what its sums say. */
START_TEST(bytes_of_another_record_fill_no_hole)
{
    struct history_iter *it = NULL;
    struct record rec;
    uint8_t *bytes = malloc(SIZE);

    filled(NULL);
    ck_assert_int_eq(history_iter_new(store_history(a.s), LOG_FIRST_ADDR, UINT64_MAX, &it, NULL), 0);
    while (history_next(it, &rec, NULL, NULL) == 1)
        if (rec.type == REC_WRITE && rec.data_len == 20000) {
            struct packs_piece k = { rec.lsn, rec.ino, rec.u.write.off, record_dstart(rec.head_len), 0, rec.data_len, bytes };

            ck_assert_int_eq(store_try_data(a.s, rec.lsn, k.dstart, 0, k.len, bytes, false, NULL), 0);
            ck_assert(holes_prove(a.s, &k));
            bytes[19000] ^= 1;
            ck_assert(!holes_prove(a.s, &k));
            bytes[19000] ^= 1;
            k.dstart += 8;
            ck_assert(!holes_prove(a.s, &k));
            k.dstart -= 8;
            k.off += 8;
            ck_assert(!holes_prove(a.s, &k));
            k.off -= 8;
            k.ino++;
            ck_assert(!holes_prove(a.s, &k));
            k.ino--;
            k.lsn += 8;
            ck_assert(!holes_prove(a.s, &k));
        }
    history_iter_free(it);
    free(bytes);
}
END_TEST

/* Rows name parts of blocks, which have no sum of their own: whole blocks are asked for, and what was named of them is put into packs. */
START_TEST(parts_of_blocks_are_made_whole)
{
    static uint8_t buf[SIZE], want[FILES][SIZE];
    struct err err = { 0 };

    save(0);
    for (unsigned i = 0; i < FILES; i++) {
        char name[16];
        uint64_t ino;

        snprintf(name, sizeof name, "r0f%u", i);
        ino = ts_ino(&a, name);
        content(0, i, want[i]);
        content(7, i, buf);
        for (uint32_t off = 3000 + 100 * i; off + 500 < SIZE; off += 9000) {
            ts_write(&a, ino, off, buf + off, 500);
            memcpy(want[i] + off, buf + off, 500);
        }
    }
    twosites_ship(&a, &b, NULL);
    ck_assert_int_eq(store_roll(a.s, &err), 0);
    ck_assert_msg(upkeep_pack(a.s, NULL, NULL, NULL, NULL, &err) == 0, "%s", err.msg);
    if (_i == 1)
        ck_assert_msg(upkeep_pack(b.s, NULL, NULL, NULL, NULL, &err) == 0, "%s", err.msg);
    removed(&a, 'p', 0, 32);
    ts_reopen(&a, false);
    ck_assert_uint_gt(found(&a), 0);
    ck_assert_uint_eq(healed(&a), 0);
    for (int cut = 0; cut < 2; cut++) {
        for (unsigned i = 0; i < FILES; i++) {
            char name[16];

            snprintf(name, sizeof name, "r0f%u", i);
            ck_assert_int_eq(store_read(a.s, AT_LIVE, ts_ino(&a, name), 0, buf, SIZE, false, NULL, &err), SIZE);
            ck_assert_mem_eq(buf, want[i], SIZE);
        }
        ts_reopen(&a, true);
    }
}
END_TEST

static void blank(struct teststore *t, uint64_t first, uint64_t end, char name[PACK_NAME_MAX])
{
    struct super *sb = twosites_super(t->s);
    struct pack_head h = { .retained_gen = store_retained_gen(t->s), .gen = packs_next_gen(store_packs(t->s)), .key_id = sb->key_id, .first = first, .end = end };
    struct err err = { 0 };

    memcpy(h.lineage, sb->lineage, 16);
    memcpy(h.site, sb->site, 16);
    ck_assert_msg(packs_blank(store_packs(t->s), &h, sb->epochs[0].id, &err) == 0, "%s", err.msg);
    pack_name(first, end, h.gen, name);
}

/* What a pack without data covers is hidden, not let go of; and a pack counts for what no newer one has, whatever its name says. */
START_TEST(a_pack_without_data_takes_the_place_of_none_that_has_some)
{
    char small[PACK_NAME_MAX], large[PACK_NAME_MAX];
    struct packs_state r;
    struct io_stat st;
    struct err err = { 0 };
    struct name p;
    uint64_t mid;

    filled(&a);
    p = listed(&a, 'p').v[1];
    mid = p.first + (p.end - p.first) / 16 * 8;
    blank(&a, mid, p.end, small);
    ck_assert_int_eq(packs_sound(store_packs(a.s), p.first + 8, &r, &err), 1);
    ck_assert(r.first == p.first && r.end == mid);
    ck_assert_int_eq(packs_sound(store_packs(a.s), mid + 8, &r, &err), 1);
    ck_assert(r.first == mid && r.end == p.end);
    ck_assert_int_eq(packs_tidy(store_packs(a.s), &err), 0);
    blank(&a, p.first, p.end, large);
    ck_assert_uint_lt(whole(&a), (ROUNDS + 1) * FILES);
    ck_assert_int_eq(packs_tidy(store_packs(a.s), &err), 1);
    ck_assert_int_eq(io_stat_path(store_io(a.s), small, &st, NULL), ERR_NOENT);
    ck_assert_int_eq(io_stat_path(store_io(a.s), p.name, &st, NULL), 0);
    ck_assert_int_eq(io_unlink(store_io(a.s), large, NULL), 0);
    ck_assert_int_eq(io_syncdir(store_io(a.s), "packs", NULL), 0);
    ts_reopen(&a, true);
    ck_assert_uint_eq(whole(&a), (ROUNDS + 1) * FILES);
}
END_TEST

/* ---- while others work ---- */

static struct { struct store *s; unsigned calls, upto, found; bool held; } turn;

static int turn_stop(void *arg)
{
    (void)arg;
    if (++turn.calls > turn.upto && turn.held) {
        turn.held = false;
        store_reclaim_end(turn.s);
    }
    return 0;
}

static void turn_found(void *arg, const struct wound *w, uint64_t ino, const char *message)
{
    (void)arg;
    (void)ino;
    (void)message;
    ck_assert(!turn.held || !w->hole);
    turn.found += w->hole;
}

/* A reclaim lets go of what moments needed a moment ago, and makes packs anew: nobody looks for holes meanwhile. */
START_TEST(holes_are_looked_for_between_reclaims)
{
    struct scrub_options opt = { .again = true, .stop = turn_stop, .found = turn_found };
    struct scrub_result res;
    struct err err = { 0 };

    filled(&a);
    removed(&a, 'p', 1, 1);
    ts_reopen(&a, false);
    memset(&turn, 0, sizeof turn);
    turn.s = a.s;
    ck_assert_msg(scrub(a.s, &opt, &res, &err) == 0, "%s", err.msg);
    ck_assert_uint_gt(turn.found, 0);
    turn.upto = turn.calls + 2;          /* more than it asks but for waiting */
    turn.calls = turn.found = 0;
    ck_assert(store_reclaim_begin(a.s));
    turn.held = true;
    ck_assert_msg(scrub(a.s, &opt, &res, &err) == 0, "%s", err.msg);
    ck_assert(!turn.held);
    ck_assert_uint_gt(turn.found, 0);
}
END_TEST

/* ---- sectors that the disk does not give ---- */

static const struct io_ops *disk;
static struct { char name[64]; struct io_file *f[64]; size_t n; uint64_t at[2], len; bool on; } sick;

static int sick_open(struct io *io, const char *path, int flags, struct io_file **out, struct err *err)
{
    int rc = disk->open(io, path, flags, out, err);

    if (rc == 0 && strcmp(path, sick.name) == 0) {
        ck_assert_uint_lt(sick.n, 64);
        sick.f[sick.n++] = *out;
    }
    return rc;
}

static int64_t sick_pread(struct io_file *f, void *buf, size_t len, uint64_t off, struct err *err)
{
    for (size_t i = 0; sick.on && i < sick.n; i++)
        for (int k = 0; k < 2; k++)
            if (sick.f[i] == f && off < sick.at[k] + sick.len && off + len > sick.at[k])
                return err_set(err, ERR_IO, "%s: a bad sector", sick.name);
    return disk->pread(f, buf, len, off, err);
}

static void sick_close(struct io_file *f)
{
    for (size_t i = 0; i < sick.n; i++)
        if (sick.f[i] == f)
            sick.f[i] = sick.f[--sick.n];
    disk->close(f);
}

/* Both copies of one pack's tables (${_i} 0: all, 1: the end of them): scrub goes on, all that is nowhere else is named, another pack is healed; the file is not touched, and when the disk gives them again all is there. */
START_TEST(tables_the_disk_does_not_give_end_nothing)
{
    static struct io_ops ops;
    struct name p;
    struct io *io;

    filled(&a);
    p = listed(&a, 'p').v[1];
    memset(&sick, 0, sizeof sick);
    memcpy(sick.name, p.name, sizeof sick.name);
    for (int i = 0; i < 2; i++)
        sick.at[i] = le64_at(&a, p.name, 144 + 8 * (uint64_t)i);
    sick.len = le64_at(&a, p.name, 160);
    if (_i == 1) {
        for (int i = 0; i < 2; i++)
            sick.at[i] += sick.len - 9;
        sick.len = 8;
    }
    removed(&a, 'p', 2, 1);
    ts_reopen(&a, false);
    io = store_io(a.s);
    disk = io->ops;
    ops = *disk;
    ops.open = sick_open;
    ops.pread = sick_pread;
    ops.close = sick_close;
    io->ops = &ops;
    sick.on = true;
    ck_assert_uint_gt(found(&a), 0);
    ck_assert_uint_gt(healed(&a), 0);
    ck_assert_int_eq(io_stat_path(io, p.name, &(struct io_stat){ 0 }, NULL), 0);
    sick.on = false;
    packs_cold(store_packs(a.s));
    ck_assert_uint_eq(whole(&a), (ROUNDS + 1) * FILES);
    io->ops = disk;
    ts_reopen(&a, true);
    ck_assert_uint_eq(whole(&a), (ROUNDS + 1) * FILES);
    ck_assert_uint_eq(healed(&a), 0);
}
END_TEST

/* ---- killed ---- */

static struct teststore copy_of(const struct teststore *t)
{
    struct teststore c = *t;
    struct err err = { 0 };

    c.sim = simio_clone(t->sim);
    c.disk = kv_twin_disk_clone(t->disk);
    c.opt.kv = NULL;
    ck_assert_int_eq(kv_twin_open(c.disk, &c.opt.kv, &err), 0);
    ck_assert_msg(store_open(simio_io(c.sim), NULL, &c.opt, &c.s, NULL, &err) == 0, "%s", err.msg);
    return c;
}

static struct recall *asked(const struct wound *w)
{
    static uint8_t heads[4 << 20];
    struct recall *r = NULL;
    uint64_t from, until;
    struct err err = { 0 };

    ck_assert_msg(recall_new(a.s, w, &r, &err) == 0, "%s", err.msg);
    while (recall_next(r, &from, &until) == 1) {
        struct history_iter *it = NULL;
        const uint8_t *head;
        struct record rec;
        uint64_t end = from;
        size_t len = 0;

        ck_assert_int_eq(history_iter_new(store_history(b.s), from, until, &it, NULL), 0);
        while (history_next(it, &rec, &head, &err) == 1) {
            memcpy(heads + len, head, rec.head_len);
            len += rec.head_len;
            end = rec.lsn + frame_span(rec.head_len + rec.data_len);
        }
        history_iter_free(it);
        ck_assert_msg(recall_heard(r, heads, len, end, &err) == 0, "%s", err.msg);
    }
    return r;
}

static struct packs_piece *pieces;
static size_t n_pieces;

static void one_hole(void *arg, const struct wound *w, uint64_t ino)
{
    uint8_t *p = malloc(w->len);

    (void)arg;
    (void)ino;
    ck_assert_int_eq(store_try_data(b.s, w->lsn, w->dstart, w->doff, w->len, p, false, NULL), 0);
    pieces = realloc(pieces, (n_pieces + 1) * sizeof *pieces);
    pieces[n_pieces++] = (struct packs_piece){ w->lsn, 0, 0, w->dstart, w->doff, w->len, p };
}

static void fill_holes(bool all)
{
    struct err err = { 0 };
    size_t half;
    int rc = 0;

    n_pieces = 0;
    ck_assert_msg(holes_look(a.s, NULL, one_hole, NULL, &err) == 0, "%s", err.msg);
    for (half = n_pieces / 2; half > 0 && half < n_pieces && pieces[half].lsn == pieces[half - 1].lsn; half++)
        ;
    ck_assert(store_maint_try(a.s));
    if (half > 0)
        rc = holes_apply(a.s, pieces, half, half < n_pieces ? pieces[half].lsn : UINT64_MAX, &err);
    if (rc == 0 && half < n_pieces)
        rc = holes_apply(a.s, pieces + half, n_pieces - half, UINT64_MAX, &err);
    ck_assert_msg(!all || rc == 0, "%s", err.msg);
    store_maint_end(a.s);
    for (size_t i = 0; i < n_pieces; i++)
        free((void *)(uintptr_t)pieces[i].bytes);
}

static int note_range(void *arg, const struct packs_state *r)
{
    *(uint64_t *)arg = r->first;
    return 1;
}

/* The records of a segment that is gone, between the first one and the next that is there. */
static struct wound second_segment(void)
{
    struct listed l = listed(&a, 'l');
    struct wound w = { .lsn = l.v[0].first, .until = l.v[1].first };
    struct record rec;
    void *buf = NULL;

    for (; log_read_record(store_log(a.s), w.lsn, false, &rec, &buf, NULL) == 0; w.lsn += frame_span(rec.head_len + rec.data_len)) {
        free(buf);
        buf = NULL;
    }
    return w;
}

static int count_segment(void *arg, const char *name)
{
    uint64_t first, gen;

    *(size_t *)arg += segment_parse(name, &first, &gen);
    return 0;
}

/* It got its name, and whether that lasts is not known: it has it no more, so that the next try makes no second one beside it. */
START_TEST(a_directory_that_cannot_be_synced_leaves_no_file)
{
    struct listed l;
    struct wound w;
    struct recall *r;
    struct err err = { 0 };
    size_t n = 0;

    filled(NULL);
    hurt(&a, 0);
    l = listed(&a, 'l');
    w = second_segment();
    r = asked(&w);
    simio_fail_at(a.sim, SIMIO_SYNCDIR, 1, ERR_IO);
    ck_assert_int_eq(recall_apply(r, &err), ERR_IO);
    simio_fail_clear(a.sim);
    recall_free(r);
    ck_assert_int_eq(io_list(store_io(a.s), "log", count_segment, &n, &err), 0);
    ck_assert_uint_eq(n, l.n);
    r = asked(&w);
    ck_assert_msg(recall_apply(r, &err) == 0, "%s", err.msg);
    recall_free(r);
    ts_reopen(&a, true);
    ck_assert_uint_gt(twosites_same_records(&a, &b), 40);
    ck_assert_uint_eq(healed(&a), 0);
}
END_TEST

/* ${_i}: a segment, a file of the archive, a pack that is gone, one whose tables are. Cut off at each call, with what is left of any of the writes: what is left is whole, or damage that heals. */
START_TEST(what_makes_anew_may_be_killed)
{
    struct teststore was;
    struct wound w = { 0 };
    struct err err = { 0 };
    unsigned n = 0;
    bool dead;

    filled(_i > 0 ? &a : NULL);
    hurt(&a, _i == 0 ? 0 : _i == 1 ? 12 : _i == 2 ? 5 : 8);
    if (_i == 0) {
        w = second_segment();
    } else if (_i == 1) {
        ck_assert_int_eq(recall_gap(a.s, 0, &w, &err), 1);
    }
    was = a;
    do {
        struct recall *r = NULL;
        uint64_t at = 0;

        a = copy_of(&was);
        if (w.until > 0)
            r = asked(&w);
        simio_cut_at(a.sim, ++n);
        if (r != NULL)
            (void)recall_apply(r, NULL);
        else
            fill_holes(false);
        dead = simio_dead(a.sim);
        ck_assert(n > 1 || dead);
        recall_free(r);
        store_drop(a.s);
        simio_cut(a.sim, n, SIMIO_CUT_RANDOM);
        simio_set_wall(a.sim, a.now_ns);
        a.opt.kv = NULL;
        ck_assert_int_eq(kv_twin_open(a.disk, &a.opt.kv, NULL), 0);
        ck_assert_msg(store_open(simio_io(a.sim), NULL, &a.opt, &a.s, NULL, &err) == 0, "%u: %s", n, err.msg);
        if (w.until > 0 && !recall_whole(a.s, &w)) {
            r = asked(&w);
            ck_assert_msg(recall_apply(r, &err) == 0, "%u: %s", n, err.msg);
            recall_free(r);
        } else if (w.until == 0) {
            fill_holes(true);
            (void)holes_gone(a.s, note_range, &at, &err);
            ck_assert_msg(at == 0 || holes_close(a.s, at, &err) == 0, "%s", err.msg);
        }
        ck_assert_uint_gt(twosites_same_records(&a, &b), 40);
        if (_i > 0) {
            ck_assert_uint_eq(whole(&a), (ROUNDS + 1) * FILES);
            ck_assert_uint_eq(found(&a), 0);
        }
        ts_free(&a);
    } while (dead);
    a = was;
    free(pieces);
    pieces = NULL;
    ck_assert_uint_gt(n, 5);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("gone");
    TCase *t = tcase_create("gone");
    SRunner *sr = srunner_create(s);
    int failed;

    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, both, neither);
    tcase_add_loop_test(t, what_is_gone_is_found_and_healed, 0, 2 * KINDS);
    tcase_add_loop_test(t, what_was_removed_while_it_is_open_is_written_again, 0, 2);
    tcase_add_loop_test(t, an_empty_current_segment_is_covered, 0, 2);
    tcase_add_test(t, a_log_that_is_closed_is_not_said_to_be_healed);
    tcase_add_loop_test(t, a_name_comes_back_while_it_is_read, 0, 2);
    tcase_add_loop_test(t, a_pack_that_is_gone_takes_no_other_with_it, 0, 3);
    tcase_add_loop_test(t, a_file_of_the_archive_that_is_gone_stops_no_packing, 0, 3);
    tcase_add_test(t, what_nobody_has_stays_named);
    tcase_add_loop_test(t, a_segment_of_one_record_is_made_whole, 0, 2);
    tcase_add_test(t, bytes_of_another_record_fill_no_hole);
    tcase_add_loop_test(t, parts_of_blocks_are_made_whole, 0, 2);
    tcase_add_test(t, a_pack_without_data_takes_the_place_of_none_that_has_some);
    tcase_add_test(t, holes_are_looked_for_between_reclaims);
    tcase_add_loop_test(t, tables_the_disk_does_not_give_end_nothing, 0, 2);
    tcase_add_test(t, a_directory_that_cannot_be_synced_leaves_no_file);
    tcase_add_loop_test(t, what_makes_anew_may_be_killed, 0, 4);
    suite_add_tcase(s, t);
    t = tcase_create("parted");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, NULL, neither);
    tcase_add_loop_test(t, another_timeline_is_not_read_as_this_one, 0, 4);
    suite_add_tcase(s, t);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
