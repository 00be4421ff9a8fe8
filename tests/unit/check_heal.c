/*
 * check_heal: data that went bad at one site, in its log or in a pack, are made whole with what the other one has, whichever of them is the primary.
 */
#include "store/core/fork.h"
#include "store/core/version.h"
#include "store/core/wounds.h"
#include "store/log/frame.h"
#include "store/maint/heal.h"
#include "store/maint/recall.h"
#include "store/maint/scrub.h"
#include "store/maint/upkeep.h"
#include "store/pack/archive.h"
#include "store/pack/history.h"
#include "store/pack/packs.h"
#include "tests/lib/subio.h"
#include "tests/lib/twosites.h"

#include <check.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILES = 12, SIZE = 90000 };

static struct teststore a, b;

static void content(unsigned i, uint8_t *p)
{
    uint64_t x = (i % 5 + 1) * 0x9e3779b97f4a7c15u;      /* some files are the same, and share chunks */

    for (size_t k = 0; k < SIZE; k++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        p[k] = i % 2 ? (uint8_t)x : (uint8_t)("some text, again and again. "[k % 28] + (k % 4096 == 0 ? (int)(x & 7) : 0));
    }
}

static void both(void)
{
    static uint8_t buf[SIZE];
    char name[16];

    ts_new(&a, "UTC");
    for (unsigned i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "f%u", i);
        ts_save(&a, name, "");
        content(i, buf);
        for (size_t off = 0; off < SIZE; off += 30000)
            ts_write(&a, ts_ino(&a, name), off, buf + off, 30000);
    }
    twosites_standby(&a, &b);
    twosites_ship(&a, &b, NULL);
}

static void neither(void)
{
    ts_free(&b);
    ts_free(&a);
}

/* Files that read as they were, of both stores' FILES; the others are damage, and nothing else. */
static unsigned whole(struct teststore *t)
{
    static uint8_t buf[SIZE], want[SIZE];
    unsigned n = 0;

    for (unsigned i = 0; i < FILES; i++) {
        struct err err = { 0 };
        struct row_ino row;
        char name[16];
        uint64_t ino;
        int64_t rc;

        snprintf(name, sizeof name, "f%u", i);
        ck_assert_int_eq(store_walk(t->s, AT_LIVE, name, &ino, &row, NULL), 0);
        content(i, want);
        rc = store_read(t->s, AT_LIVE, ino, 0, buf, SIZE, false, NULL, &err);
        ck_assert(rc == SIZE || rc == ERR_DAMAGE);
        if (rc == SIZE)
            ck_assert_mem_eq(buf, want, SIZE);
        n += rc == SIZE;
    }
    return n;
}

struct spots { struct teststore *t; unsigned n; uint64_t x; };

/* Bytes of frames: what lies between the head and the tables. */
static int hurt_pack(void *arg, const struct packs_info *i)
{
    struct spots *p = arg;

    for (unsigned k = 0; k < 6; k++) {
        p->x = p->x * 6364136223846793005u + 1442695040888963407u;
        ck_assert(simio_flip(p->t->sim, i->name, 256 + (p->x >> 20) % (i->bytes / 2), 0x10));
        p->n++;
    }
    return 0;
}

/* The data of a record, wherever its segment is. */
static int hurt_record(void *arg, const struct log_segment_info *i)
{
    struct spots *p = arg;

    if (p->x >= i->first && p->x < i->end)
        ck_assert(simio_flip(p->t->sim, i->name, 4096 + p->x - i->first, 0x20));
    return 0;
}

static void hurt_log(struct spots *p)
{
    struct history_iter *it = NULL;
    struct record rec;

    ck_assert_int_eq(history_iter_new(store_history(p->t->s), LOG_FIRST_ADDR, UINT64_MAX, &it, NULL), 0);
    while (history_next(it, &rec, NULL, NULL) == 1) {
        if (rec.type != REC_WRITE || rec.data_len < 30000 || ++p->n % 3 != 0)
            continue;
        p->x = rec.lsn + record_dstart(rec.head_len) + 1000 * p->n % rec.data_len;
        ck_assert_int_eq(log_segments(store_log(p->t->s), hurt_record, p), 0);
    }
    history_iter_free(it);
}

static void hurt(struct teststore *t, bool packed)
{
    struct spots p = { t, 0, 7 };
    struct err err = { 0 };

    if (packed) {
        ck_assert_msg(upkeep_pack(t->s, NULL, NULL, NULL, NULL, &err) == 0, "%s", err.msg);
        ck_assert_int_eq(packs_list(store_packs(t->s), hurt_pack, &p, &err), 0);
    } else {
        hurt_log(&p);
    }
    ck_assert_uint_gt(p.n, 2);
    ts_reopen(t, false);                 /* nothing of it is in memory */
}

/* ${_i} bit 0: the standby is hurt, else the primary; bit 1: in its packs, else in its log; bit 2: both are packed, each in its own way. */
START_TEST(what_is_damaged_at_one_site_is_healed_by_the_other)
{
    struct teststore *t = _i & 1 ? &b : &a;
    struct wounds_count n;
    struct err err = { 0 };
    unsigned before;

    if (_i & 4)
        ck_assert_int_eq(upkeep_pack(_i & 1 ? a.s : b.s, NULL, NULL, NULL, NULL, &err), 0);
    hurt(t, _i & 2);
    before = whole(t);
    ck_assert_uint_lt(before, FILES);
    for (int i = 0; i < 60 && whole(t) < FILES; i++) {
        ts_save(&a, "something", "so that the stream stays for a moment");
        twosites_ship(&a, &b, NULL);
    }
    wounds_count(t->s, &n);
    ck_assert_msg(whole(t) == FILES, "%u of %u files; %lu noted, %lu healed, %lu given up", whole(t), FILES, (unsigned long)n.noted, (unsigned long)n.healed,
                  (unsigned long)n.given_up);
    ck_assert_uint_eq(whole(t == &a ? &b : &a), FILES);
    ts_reopen(t, true);
    ck_assert_uint_eq(whole(t), FILES);
}
END_TEST

struct scrubbed { unsigned data, records; int stop_after; };

static void each(void *arg, const struct wound *w, uint64_t ino, const char *message)
{
    struct scrubbed *p = arg;

    ck_assert(message[0] != '\0');
    ck_assert(w->len == 0 || ino > 0);
    p->data += w->len > 0;
    p->records += w->len == 0;
}

static int enough(void *arg)
{
    struct scrubbed *p = arg;

    return p->stop_after > 0 && --p->stop_after == 0;
}

static void read_all(struct teststore *t, struct scrubbed *p)
{
    struct scrub_options opt = { .again = true, .found = each, .arg = p };
    struct scrub_result res;
    struct err err = { 0 };

    *p = (struct scrubbed){ 0 };
    ck_assert_msg(scrub(t->s, &opt, &res, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(res.damaged, p->data + p->records);
    ck_assert_uint_eq(res.to, log_written(store_log(t->s)));
    ck_assert_uint_gt(res.bytes, 0);
}

/* Nobody reads it; it is found all the same, and healed. ${_i} bit 0: the standby is hurt, else the primary; bit 1: in its packs, else in its log. */
START_TEST(scrub_finds_what_nobody_reads)
{
    struct teststore *t = _i & 1 ? &b : &a;
    struct scrubbed n;

    read_all(t, &n);
    ck_assert_uint_eq(n.data + n.records, 0);
    hurt(t, _i & 2);
    read_all(t, &n);
    ck_assert_uint_gt(n.data, 1);
    ck_assert_uint_eq(n.records, 0);
    for (int i = 0; i < 60 && n.data > 0; i++) {
        ts_save(&a, "something", "so that the stream stays for a moment");
        twosites_ship(&a, &b, NULL);
        read_all(t, &n);
    }
    ck_assert_uint_eq(n.data, 0);
    ck_assert_uint_eq(whole(t), FILES);
}
END_TEST

/* It goes on where it was stopped, also after the store was closed; at last everything was read, once. */
START_TEST(scrub_goes_on_where_it_was_stopped)
{
    struct scrubbed n = { 0 };
    struct scrub_options opt = { .found = each, .stop = enough, .arg = &n };
    struct scrub_result res;
    struct err err = { 0 };
    uint64_t bytes = 0, all, at = 0;
    int rc, times = 0;

    if (_i)
        ck_assert_int_eq(upkeep_pack(a.s, NULL, NULL, NULL, NULL, &err), 0);
    ck_assert_int_eq(scrub(a.s, &(struct scrub_options){ .again = true }, &res, &err), 0);
    all = res.bytes;
    do {
        n.stop_after = 7;
        rc = scrub(a.s, &opt, &res, &err);
        ck_assert_msg(rc == 0 || rc == ERR_BUSY, "%s", err.msg);
        ck_assert_uint_ge(res.to, res.from);
        ck_assert(times == 0 || res.from == at);
        at = res.to;
        bytes += res.bytes;
        times++;
        ts_reopen(&a, false);
    } while (rc == ERR_BUSY && times < 1000);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_gt(times, 3);
    ck_assert_uint_ge(bytes, all);
    ck_assert_uint_eq(n.data + n.records, 0);
}
END_TEST

/* The head of a record: named, with what lies behind it read all the same. */
START_TEST(scrub_goes_on_behind_a_record_that_cannot_be_read)
{
    struct history_iter *it = NULL;
    struct spots p = { &a, 0, 0 };
    struct scrubbed n;
    struct record rec;

    ck_assert_int_eq(history_iter_new(store_history(a.s), LOG_FIRST_ADDR, UINT64_MAX, &it, NULL), 0);
    while (p.n < 5 && history_next(it, &rec, NULL, NULL) == 1)
        if (rec.type == REC_WRITE && rec.data_len >= 30000)
            if (++p.n == 3 || p.n == 5) {
                p.x = rec.lsn + (p.n == 3 ? 8 : record_dstart(rec.head_len) + 100);
                ck_assert_int_eq(log_segments(store_log(a.s), hurt_record, &p), 0);
            }
    history_iter_free(it);
    read_all(&a, &n);
    ck_assert_uint_eq(n.records, 1);
    ck_assert_uint_eq(n.data, 1);
}
END_TEST

enum { SMALL = 120 };

static void small_text(unsigned i, char *p, size_t cap)
{
    size_t n = 0;

    for (unsigned k = 0; n + 40 < cap && k < 60; k++)
        n += (size_t)snprintf(p + n, cap - n, "file %u, line %u of some text\n", i * 7919, k * (i + 3));
}

static int hurt_frames(void *arg, const struct packs_info *i)
{
    struct spots *p = arg;

    for (uint64_t at = 300; at + 20000 < i->bytes; at += 1500)   /* (its tables lie at the end) */
        ck_assert(simio_flip(p->t->sim, i->name, at, 0x08) && ++p->n > 0);
    return 0;
}

/* Many small files lie in one compressed frame: a byte of it is all of them, and each comes back. */
START_TEST(what_shares_a_frame_is_healed)
{
    struct teststore *t = _i & 1 ? &b : &a;
    struct spots p = { t, 0, 7 };
    struct scrubbed n;
    struct err err = { 0 };
    char name[16], text[2500];
    unsigned most = 0;

    for (unsigned i = 0; i < SMALL; i++) {
        snprintf(name, sizeof name, "s%u", i);
        small_text(i, text, sizeof text);
        ts_save(&a, name, text);
    }
    twosites_ship(&a, &b, NULL);
    ck_assert_msg(upkeep_pack(t->s, NULL, NULL, NULL, NULL, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(packs_list(store_packs(t->s), hurt_frames, &p, &err), 0);
    ts_reopen(t, false);
    read_all(t, &n);
    most = n.data;
    ck_assert_uint_gt(most, 20);
    for (unsigned i = 0, before = n.data; i < 20 && n.data > 0; i = n.data < before ? 0 : i + 1) {     /* as long as it gets less */
        before = n.data;
        ts_save(&a, "something", "so that the stream stays for a moment");
        twosites_ship(&a, &b, NULL);
        read_all(t, &n);
    }
    ck_assert_msg(n.data == 0, "%u of %u are damaged still", n.data, most);
    ts_reopen(t, true);
    for (unsigned i = 0; i < SMALL; i++) {
        snprintf(name, sizeof name, "s%u", i);
        small_text(i, text, sizeof text);
        ts_is(t, name, text);
    }
    ck_assert_uint_eq(whole(t), FILES);
}
END_TEST

/* At both sites, in the same file: nobody can heal it, and nothing else comes of it. */
START_TEST(what_nobody_has_stays_damage)
{
    unsigned x, y;

    hurt(&a, false);
    hurt(&b, false);
    x = whole(&a);
    y = whole(&b);
    ck_assert_uint_lt(x, FILES);
    for (int i = 0; i < 10; i++) {
        ts_save(&a, "something", "so that the stream stays for a moment");
        twosites_ship(&a, &b, NULL);
    }
    ck_assert_uint_eq(whole(&a), x);
    ck_assert_uint_eq(whole(&b), y);
}
END_TEST

START_TEST(wrong_bytes_heal_nothing)
{
    struct wound w;
    struct heal_plan *p = NULL;
    struct err err = { 0 };
    uint8_t *wrong;

    hurt(&a, _i);
    ck_assert_uint_lt(whole(&a), FILES);
    ck_assert(wounds_first(a.s, &w));
    ck_assert_msg(heal_plan_new(a.s, &w, &p, &err) == 0, "%s", err.msg);
    wrong = calloc(1, p->bytes + (1 << 20));
    ck_assert_int_eq(heal_apply(a.s, p, wrong, &err), ERR_DAMAGE);
    free(wrong);
    heal_plan_free(p);
    ck_assert_uint_lt(whole(&a), FILES);
}
END_TEST

/* ---- what is not data ---- */

/* Byte ${at} of the log of a store. */
struct place { struct teststore *t; uint64_t at; bool header; };

static int flip_there(void *arg, const struct log_segment_info *i)
{
    struct place *p = arg;

    if (p->at >= i->first && (p->at < i->end || p->header))
        ck_assert(simio_flip(p->t->sim, i->name, p->header ? 100 : 4096 + p->at - i->first, 0x40));
    return 0;
}

static void flip(struct teststore *t, uint64_t at, bool header)
{
    struct place p = { t, at, header };

    ck_assert_int_eq(log_segments(store_log(t->s), flip_there, &p), 0);
}

static unsigned healed(struct teststore *t)
{
    struct scrubbed n;

    read_all(t, &n);
    for (unsigned i = 0, before = UINT_MAX; i < 20 && n.data + n.records > 0; i = n.data + n.records < before ? 0 : i + 1) {
        before = n.data + n.records;
        ts_save(&a, "something", "so that the stream stays for a moment");
        twosites_ship(&a, &b, NULL);
        read_all(t, &n);
    }
    return n.data + n.records;
}

static uint64_t nth_record(struct teststore *t, unsigned nth, uint64_t *end)
{
    struct history_iter *it = NULL;
    struct record rec = { 0 };

    ck_assert_int_eq(history_iter_new(store_history(t->s), LOG_FIRST_ADDR, UINT64_MAX, &it, NULL), 0);
    for (unsigned i = 0; i <= nth; i++)
        ck_assert_int_eq(history_next(it, &rec, NULL, NULL), 1);
    history_iter_free(it);
    *end = rec.lsn + frame_span(rec.head_len + rec.data_len);
    return rec.lsn;
}

/* ${_i} / 2: what is hurt; bit 0: the standby, else the primary. */
START_TEST(records_that_cannot_be_read_are_healed)
{
    struct teststore *t = _i & 1 ? &b : &a, *other = _i & 1 ? &a : &b;
    struct scrubbed n;
    struct err err = { 0 };
    uint64_t from, to, end;
    unsigned kind = (unsigned)_i / 2;

    from = nth_record(t, kind == 5 ? 0 : 20, &end);
    switch (kind) {
    case 0: flip(t, from + 8, false); break;                             /* a frame */
    case 1: flip(t, from + 48 + 70, false); break;                       /* a head */
    case 2:                                                              /* some records in a row, their data, too */
        (void)nth_record(t, 27, &to);
        for (uint64_t at = from; at < to; at += 8)
            flip(t, at, false);
        break;
    case 3: flip(t, from, true); break;                                  /* a segment's header */
    case 4: flip(t, from, true); flip(t, from + 48, false); break;
    case 5: flip(t, from, true); flip(t, from + 5, false); break;        /* with its first record */
    case 6:                                                              /* the last one */
        for (unsigned i = 21; end < log_head(store_log(t->s)); i++)
            from = nth_record(t, i, &end);
        flip(t, from + 50, false);
        break;
    case 7:                                                              /* the other one has it in the archive only */
        ck_assert_msg(upkeep_pack(other->s, NULL, NULL, NULL, NULL, &err) == 0, "%s", err.msg);
        flip(t, from + 48 + 30, false);
        break;
    case 8:                                                              /* the header of a segment with no record yet */
        ck_assert_int_eq(log_roll(store_log(t->s), NULL), 0);
        flip(t, log_head(store_log(t->s)), true);
        break;
    case 9: ck_assert(simio_flip(t->sim, "retained.0", 90, 1)); break;
    case 10: ck_assert(simio_flip(t->sim, "super.1", 200, 1)); break;
    }
    read_all(t, &n);
    ck_assert_uint_gt(n.records, 0);
    ck_assert_uint_eq(healed(t), 0);
    ck_assert_uint_eq(whole(t), FILES);
    ck_assert_uint_gt(twosites_same_records(&a, &b), 20);
    ts_reopen(t, true);                  /* the power is cut: it can be opened, and written to */
    ck_assert_uint_eq(whole(t), FILES);
    ts_save(&a, "at last", "x");
    twosites_ship(&a, &b, NULL);
    ck_assert_uint_gt(twosites_same_records(&a, &b), 20);
    read_all(t, &n);
    ck_assert_uint_eq(n.data + n.records, 0);
}
END_TEST

struct hurting { struct teststore *t; unsigned n; uint64_t x; unsigned times; };

static uint64_t luck(struct hurting *h)
{
    h->x = h->x * 6364136223846793005u + 1442695040888963407u;
    return h->x >> 20;
}

static int hurt_archive(void *arg, const struct history_file *f)
{
    struct hurting *h = arg;
    char name[ARCHIVE_NAME_MAX];
    struct io_stat st;

    archive_name(f->first, f->own_end, f->gen, name);
    ck_assert_int_eq(io_stat_path(store_io(h->t->s), name, &st, NULL), 0);
    for (unsigned i = 0; i < h->times; i++, h->n++)
        ck_assert(simio_flip(h->t->sim, name, luck(h) % st.size, 0x02));
    return 0;
}

/* ${_i} bit 0: the standby is hurt, else the primary; the others: where, and how much. */
START_TEST(files_of_the_archive_are_healed)
{
    struct teststore *t = _i & 1 ? &b : &a;
    struct hurting h = { t, 0, 77 + (uint64_t)_i, _i < 8 ? 1 : 200 };
    struct scrubbed n;
    struct err err = { 0 };

    ck_assert_msg(upkeep_pack(t->s, NULL, NULL, NULL, NULL, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(history_files(store_history(t->s), hurt_archive, &h), 0);
    ck_assert_uint_gt(h.n, 0);
    read_all(t, &n);
    ck_assert_uint_gt(n.records, 0);
    ck_assert_uint_eq(healed(t), 0);
    ck_assert_uint_gt(twosites_same_records(&a, &b), 20);
    ts_reopen(t, true);
    ck_assert_uint_gt(twosites_same_records(&a, &b), 20);
    read_all(t, &n);
    ck_assert_uint_eq(n.data + n.records, 0);
}
END_TEST

static int hurt_tables(void *arg, const struct packs_info *i)
{
    struct hurting *h = arg;

    ck_assert(simio_flip(h->t->sim, i->name, h->times == 0 ? 90 : h->times == 1 ? i->bytes - 100 : h->times == 2 ? i->bytes - 3 : i->bytes - 272 - 40, 0x02));
    h->n++;
    return 0;
}

/* Heads and tables of packs are there twice: nobody else is needed. */
START_TEST(packs_are_made_whole_of_what_they_have_twice)
{
    struct hurting h = { &a, 0, 1, (unsigned)_i };
    struct scrubbed n;
    struct err err = { 0 };

    ck_assert_msg(upkeep_pack(a.s, NULL, NULL, NULL, NULL, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(packs_list(store_packs(a.s), hurt_tables, &h, &err), 0);
    ck_assert_uint_gt(h.n, 0);
    ts_reopen(&a, false);
    read_all(&a, &n);
    ck_assert_uint_eq(n.records, h.n);
    read_all(&a, &n);
    ck_assert_uint_eq(n.data + n.records, 0);
    ck_assert_uint_eq(whole(&a), FILES);
    ts_reopen(&a, true);
    ck_assert_uint_eq(whole(&a), FILES);
}
END_TEST

/* The head of another user's, and all else is right: it is taken for a record. */
static void another(uint8_t *head, struct record *rec)
{
    uint32_t len = rec->head_len;

    put_u32(head + 52, rec->uid + 1);    /* FORMAT.md, "Records" */
    record_seal(head, len, rec);
    ck_assert_int_eq(record_decode(head, len, rec, NULL), 0);
}

/* What another site says these records were is not what the chain here says: nothing is written. */
START_TEST(a_peer_that_lies_changes_nothing)
{
    struct history_iter *it = NULL;
    struct recall *r = NULL;
    struct record rec, fake;
    const uint8_t *head;
    uint8_t copy[4096];
    struct wound w;
    struct err err = { 0 };
    uint64_t end, from = nth_record(&a, 20, &end), asked, until;

    ck_assert_int_eq(history_iter_new(store_history(a.s), from, UINT64_MAX, &it, NULL), 0);
    ck_assert_int_eq(history_next(it, &rec, &head, NULL), 1);
    memcpy(copy, head, rec.head_len);
    history_iter_free(it);
    flip(&a, from + 48 + 70, false);
    ck_assert(recall_head(a.s, from, &w));
    ck_assert_uint_eq(w.until, end);
    ck_assert(!recall_whole(a.s, &w));
    ck_assert_int_eq(record_decode(copy, rec.head_len, &fake, NULL), 0);
    if (_i == 0) {                       /* another record, right in itself, with the right chain before it */
        another(copy, &fake);
    } else if (_i == 1) {                /* bytes that are none */
        copy[70] ^= 1;
    } else if (_i == 2) {                /* of another place */
        fake.lsn += 8;
        record_seal(copy, fake.head_len, &fake);
    }
    ck_assert_int_eq(recall_new(a.s, &w, &r, &err), 0);
    ck_assert_int_eq(recall_next(r, &asked, &until), 1);
    ck_assert(asked == from && until == end);
    ck_assert_int_eq(recall_heard(r, copy, fake.head_len, end, &err), _i == 1 || _i == 2 ? ERR_DAMAGE : 0);
    if (_i == 0 || _i == 3) {
        ck_assert_int_eq(recall_next(r, &asked, &until), 0);
        ck_assert_msg(recall_apply(r, &err) == (_i == 3 ? 0 : ERR_DAMAGE), "%s", err.msg);
    }
    recall_free(r);
    ck_assert(recall_whole(a.s, &w) == (_i == 3));
}
END_TEST

/* ---- files of the archive, of several frames ---- */

enum { LINKS = 2400 };

/* Records whose heads are large: a frame has about a thousand. */
static void large_heads(unsigned from)
{
    static char target[4001];
    char name[16];

    memset(target, 'x', 4000);
    for (unsigned i = from; i < from + LINKS; i++) {
        snprintf(name, sizeof name, "l%u", i);
        snprintf(target, 12, "%010u", i);
        target[10] = 'x';
        ts_symlink(&a, name, target);
    }
}

/* Both have them; packed at the primary. */
static void archived(unsigned from)
{
    struct err err = { 0 };

    large_heads(from);
    twosites_ship(&a, &b, NULL);
    ck_assert_msg(upkeep_pack(a.s, NULL, NULL, NULL, NULL, &err) == 0, "%s", err.msg);
}

static struct history_file file_at(uint64_t addr)
{
    struct history_file f;

    ck_assert(history_file_of(store_history(a.s), addr, &f));
    return f;
}

/* Its first frame, or its last one. */
static void hurt_frame(const struct history_file *f, bool last)
{
    char name[ARCHIVE_NAME_MAX];
    struct io_stat st;

    archive_name(f->first, f->own_end, f->gen, name);
    ck_assert_int_eq(io_stat_path(store_io(a.s), name, &st, NULL), 0);
    ck_assert(simio_flip(a.sim, name, last ? st.size - ARCHIVE_TAIL_BYTES - 100 : ARCHIVE_HEAD_BYTES + ARCHIVE_FRAME_HEAD_BYTES + 100, 0x04));
}

/* What the standby has of these, as it answers RECALL: 1 MiB each. */
static void answer(struct recall *r, bool lie)
{
    uint64_t from, until;
    struct err err = { 0 };

    while (recall_next(r, &from, &until) == 1) {
        static uint8_t heads[(1 << 20) + 65536];
        struct history_iter *it = NULL;
        struct record rec;
        const uint8_t *head;
        uint64_t end = from;
        size_t len = 0;

        ck_assert_int_eq(history_iter_new(store_history(b.s), from, until, &it, NULL), 0);
        while (len < (1 << 20) && history_next(it, &rec, &head, &err) == 1) {
            memcpy(heads + len, head, rec.head_len);
            end = rec.lsn + frame_span(rec.head_len + rec.data_len);
            if (lie && end == until)     /* the last one of all */
                another(heads + len, &rec);
            len += rec.head_len;
        }
        history_iter_free(it);
        ck_assert_msg(recall_heard(r, heads, len, end, &err) == 0, "%s", err.msg);
    }
}

static struct recall *asked(const struct wound *w)
{
    struct recall *r = NULL;
    struct err err = { 0 };

    ck_assert_msg(recall_new(a.s, w, &r, &err) == 0, "%s", err.msg);
    answer(r, false);
    return r;
}

static void all_there(unsigned records)
{
    ck_assert_uint_eq(twosites_same_records(&a, &b), records);
    ts_reopen(&a, true);
    ck_assert_uint_eq(twosites_same_records(&a, &b), records);
}

/* Two streams ask for the same; what the second one has in its hands is no file any more. */
START_TEST(a_file_that_was_healed_meanwhile_is_let_be)
{
    struct recall *x, *y;
    struct history_file f;
    struct wound w;
    unsigned n;

    archived(0);
    n = twosites_same_records(&a, &b);
    f = file_at(LOG_FIRST_ADDR);
    hurt_frame(&f, false);
    w = (struct wound){ .lsn = f.first, .until = f.end };
    x = asked(&w);
    y = asked(&w);
    ck_assert_int_eq(recall_apply(x, NULL), 0);
    ck_assert_int_eq(recall_apply(y, NULL), ERR_NOENT);
    ck_assert(recall_whole(a.s, &w));
    recall_free(x);
    recall_free(y);
    all_there(n);
}
END_TEST

/* ${_i} 0: another frame goes bad while the answer is on its way; else the ${_i}-th read fails, as the disk's do for a moment. No record goes with that. */
START_TEST(no_file_is_made_anew_that_lacks_what_the_old_one_had)
{
    struct err err = { 0 };
    struct history_file f, now;
    struct recall *r;
    struct wound w;
    unsigned n;
    int rc;

    archived(0);
    n = twosites_same_records(&a, &b);
    f = file_at(LOG_FIRST_ADDR);
    hurt_frame(&f, false);
    w = (struct wound){ .lsn = f.first, .until = f.end };
    r = asked(&w);
    if (_i == 0)
        hurt_frame(&f, true);
    else
        simio_fail_at(a.sim, SIMIO_PREAD, (uint64_t)_i, ERR_IO);
    rc = recall_apply(r, &err);
    simio_fail_clear(a.sim);
    now = file_at(LOG_FIRST_ADDR);
    ck_assert_msg(rc == 0 ? now.gen > f.gen : now.gen == f.gen, "%d %s", rc, err.msg);
    ck_assert(_i > 0 || rc == ERR_DAMAGE);
    recall_free(r);
    if (rc < 0) {
        r = asked(&w);
        ck_assert_msg(recall_apply(r, &err) == 0, "%s", err.msg);
        recall_free(r);
    }
    all_there(n);
}
END_TEST

START_TEST(a_file_that_was_let_go_of_does_not_come_back)
{
    struct err err = { 0 };
    struct history_file f;
    struct recall *r;
    struct wound w;

    archived(0);
    f = file_at(LOG_FIRST_ADDR);
    archived(LINKS);
    archived(2 * LINKS);
    hurt_frame(&f, false);
    w = (struct wound){ .lsn = f.first, .until = f.end };
    r = asked(&w);
    ck_assert_int_gt(history_let_go(store_history(a.s), file_at(f.end).end, &err), 0);
    ck_assert_int_eq(recall_apply(r, &err), ERR_NOENT);
    recall_free(r);
    ck_assert_uint_eq(history_first(store_history(a.s)), f.end);
    ts_save(&a, "goes on", "x");
    ck_assert_msg(upkeep_pack(a.s, NULL, NULL, NULL, NULL, &err) == 0, "%s", err.msg);
    ts_reopen(&a, true);
    ck_assert_uint_eq(history_first(store_history(a.s)), f.end);
}
END_TEST

/* A file that lacks its last records is damage, whoever made it: so is one that goes on with another record than the next one follows. */
START_TEST(a_file_without_its_last_records_is_damage)
{
    struct archive *from = NULL;
    struct archive_writer *w = NULL;
    struct archive_head h;
    struct history_file f;
    struct scrubbed found;
    const uint8_t *head;
    struct record rec;
    struct err err = { 0 };
    unsigned n, i = 0;

    archived(0);
    ts_save(&a, "behind it", "so that what the standby ends with is there");
    twosites_ship(&a, &b, NULL);
    n = twosites_same_records(&a, &b);
    f = file_at(LOG_FIRST_ADDR);
    ck_assert_int_eq(archive_open(store_io(a.s), f.first, f.own_end, f.gen, &from, NULL, NULL), 0);
    h = *archive_head(from);
    h.gen = history_next_gen(store_history(a.s));
    ck_assert_int_eq(archive_new(store_io(a.s), &h, &w, NULL), 0);
    while (i++ < n - 30 && archive_next(from, &rec, &head, NULL) == 1)
        ck_assert_msg(archive_add(w, &rec, head, &err) == 0, "%s", err.msg);
    archive_close(from);
    ck_assert_msg(archive_finish(w, h.epoch_id, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(history_added(store_history(a.s), h.first, h.end, h.gen, NULL), 0);
    read_all(&a, &found);
    ck_assert_uint_eq(found.records, 1);
    ck_assert_uint_eq(healed(&a), 0);
    ck_assert_uint_ge(twosites_same_records(&a, &b), n);
}
END_TEST

static int gone(void *arg, const struct history_file *f)
{
    char name[ARCHIVE_NAME_MAX];

    (void)arg;
    archive_name(f->first, f->own_end, f->gen, name);
    ck_assert_int_eq(io_unlink(store_io(a.s), name, NULL), 0);
    return 0;
}

START_TEST(a_file_that_is_gone_is_found_and_healed)
{
    struct scrubbed n;
    unsigned records;

    archived(0);
    records = twosites_same_records(&a, &b);
    ck_assert_int_eq(history_files(store_history(a.s), gone, NULL), 0);
    read_all(&a, &n);
    ck_assert_uint_eq(n.records, 1);
    ck_assert_uint_eq(healed(&a), 0);
    ck_assert_uint_ge(twosites_same_records(&a, &b), records);
}
END_TEST

/* The archive is a file ahead: the log has the same records, and goes next. ${_i}: what is bad; the file of the archive; it, and what the log has of it. */
static int once_archived(void *arg)
{
    return history_end(store_history(arg)) > 0;
}

START_TEST(a_file_that_the_log_has_still_is_healed_of_it)
{
    struct err err = { 0 };
    struct scrubbed n;
    struct history_file f;
    unsigned records;

    large_heads(0);
    twosites_ship(&a, &b, NULL);
    ck_assert_int_eq(upkeep_pack(a.s, NULL, once_archived, a.s, NULL, &err), ERR_BUSY);
    f = file_at(LOG_FIRST_ADDR);
    ck_assert_uint_eq(f.first, log_first(store_log(a.s)));
    records = twosites_same_records(&a, &b);
    hurt_frame(&f, false);
    if (_i) {
        uint64_t end, at = nth_record(&a, 30, &end);

        flip(&a, at + 60, false);
    }
    read_all(&a, &n);                    /* (of the archive alone nobody else is needed) */
    ck_assert_uint_eq(n.records, _i ? 2 : 1);
    if (_i == 0) {
        read_all(&a, &n);
        ck_assert_uint_eq(n.records, 0);
    }
    ck_assert_uint_eq(healed(&a), 0);
    ck_assert_msg(upkeep_pack(a.s, NULL, NULL, NULL, NULL, &err) == 0, "%s", err.msg);
    ck_assert_uint_gt(log_first(store_log(a.s)), f.first);
    read_all(&a, &n);
    ck_assert_uint_eq(n.records, 0);
    ck_assert_uint_ge(twosites_same_records(&a, &b), records);
}
END_TEST

/* At the end of a file of the archive it is what the next one, or the log, follows that proves it. */
START_TEST(a_peer_that_lies_of_the_end_of_a_file_changes_nothing)
{
    struct recall *r = NULL;
    struct history_file f;
    struct wound w;
    unsigned n;

    archived(0);
    f = file_at(LOG_FIRST_ADDR);
    if (_i)
        archived(LINKS);
    n = twosites_same_records(&a, &b);
    hurt_frame(&f, true);
    w = (struct wound){ .lsn = f.first, .until = f.end };
    ck_assert_int_eq(recall_new(a.s, &w, &r, NULL), 0);
    answer(r, true);
    ck_assert_int_eq(recall_apply(r, NULL), ERR_DAMAGE);
    recall_free(r);
    ck_assert_uint_eq(file_at(LOG_FIRST_ADDR).gen, f.gen);
    r = asked(&w);
    ck_assert_int_eq(recall_apply(r, NULL), 0);
    recall_free(r);
    all_there(n);
}
END_TEST

static void *ship_to(void *arg)
{
    struct twosites_end e;

    (void)twosites_ship(&a, arg, &e);
    return NULL;
}

static int hurt_first_frame(void *arg, const struct history_file *f)
{
    (void)arg;
    hurt_frame(f, false);
    return 0;
}

/* A primary of two standbys, and streams to both at once. */
START_TEST(two_streams_heal_the_same)
{
    struct teststore c;
    struct wounds_count n = { 0 };
    struct scrubbed left;
    pthread_t p, q;
    unsigned records;

    twosites_standby(&a, &c);
    for (unsigned k = 0; k < 3; k++) {
        large_heads(k * LINKS);
        twosites_ship(&a, &c, NULL);
        twosites_ship(&a, &b, NULL);
        ck_assert_int_eq(upkeep_pack(a.s, NULL, NULL, NULL, NULL, NULL), 0);
    }
    records = twosites_same_records(&a, &b);
    ck_assert_int_eq(history_files(store_history(a.s), hurt_first_frame, NULL), 0);
    read_all(&a, &left);
    ck_assert_uint_eq(left.records, 3);
    for (int i = 0; i < 100 && n.healed + n.given_up < 3; i++) {
        ts_save(&a, "something", "so that the stream stays for a moment");
        ck_assert_int_eq(store_sync(a.s, NULL), 0);
        ck_assert_int_eq(pthread_create(&p, NULL, ship_to, &b), 0);
        ck_assert_int_eq(pthread_create(&q, NULL, ship_to, &c), 0);
        pthread_join(p, NULL);
        pthread_join(q, NULL);
        wounds_count(a.s, &n);
    }
    ck_assert_uint_eq(n.healed, 3);
    ck_assert_uint_eq(n.given_up, 0);
    read_all(&a, &left);
    ck_assert_uint_eq(left.records + left.data, 0);
    ck_assert_uint_ge(twosites_same_records(&a, &b), records);
    ts_free(&c);
}
END_TEST

/* Somebody packs, for a long time: no stream waits for that, and none gives the wound up. ${_i}: records of the archive, data of a pack. */
START_TEST(a_stream_does_not_wait_for_who_packs)
{
    struct history_file f;
    struct wounds_count n;
    struct scrubbed left;

    if (_i) {
        hurt(&a, true);
    } else {
        archived(0);
        f = file_at(LOG_FIRST_ADDR);
        hurt_frame(&f, false);
    }
    read_all(&a, &left);
    ck_assert_uint_gt(left.records + left.data, 0);
    store_maint_begin(a.s);
    for (int i = 0; i < 3; i++) {
        ts_save(&a, "something", "so that the stream stays for a moment");
        twosites_ship(&a, &b, NULL);
    }
    wounds_count(a.s, &n);
    ck_assert_uint_eq(n.healed + n.given_up, 0);
    store_maint_end(a.s);
    ck_assert_uint_eq(healed(&a), 0);
    ck_assert_uint_eq(whole(&a), FILES);
}
END_TEST

/* Nothing is written; all is looked at. */
START_TEST(scrub_of_a_store_that_is_read_only_finds_headers)
{
    struct scrubbed n;

    a.opt.writable = false;
    ts_reopen(&a, false);
    flip(&a, LOG_FIRST_ADDR, true);
    for (int i = 0; i < 2; i++) {
        read_all(&a, &n);
        ck_assert_uint_eq(n.records, 1);
    }
    flip(&a, LOG_FIRST_ADDR, true);
}
END_TEST

/* ---- a disk that does not give a sector ---- */

static struct io_ops failing;
static const struct io_ops *sound;
static struct io_file *logs[64];
static unsigned n_logs;
static uint64_t bad_sector;              /* of the log's files; 0: none */

static int open_noted(struct io *io, const char *path, int flags, struct io_file **out, struct err *err)
{
    int rc = sound->open(io, path, flags, out, err);

    if (rc == 0 && strncmp(path, "log/", 4) == 0 && n_logs < 64)
        logs[n_logs++] = *out;
    return rc;
}

static int64_t pread_unless_bad(struct io_file *f, void *buf, size_t len, uint64_t off, struct err *err)
{
    for (unsigned i = 0; i < n_logs && bad_sector > 0; i++)
        if (logs[i] == f && off < bad_sector + 4096 && off + len > bad_sector)
            return err_set(err, ERR_IO, "read: Input/output error");
    return sound->pread(f, buf, len, off, err);
}

/* What is around it is read, and what comes behind the log, too. */
START_TEST(scrub_goes_on_behind_a_sector_that_the_disk_does_not_give)
{
    struct scrubbed n;
    char name[16];
    uint64_t end, at;
    struct io *io = simio_io(a.sim);

    for (unsigned i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "s%u", i);
        ts_save(&a, name, "x");
    }
    sound = io->ops;
    failing = *sound;
    failing.open = open_noted;
    failing.pread = pread_unless_bad;
    io->ops = &failing;
    ts_reopen(&a, false);
    at = nth_record(&a, 200, &end);
    ck_assert_uint_lt(end - at, 4096);
    bad_sector = (4096 + at - LOG_FIRST_ADDR) / 4096 * 4096;
    ck_assert(simio_flip(a.sim, "retained.0", 90, 1));
    read_all(&a, &n);                    /* (it comes to the end) */
    ck_assert_uint_eq(n.data, 0);
    ck_assert_uint_eq(n.records, 2);
    bad_sector = 0;
    io->ops = sound;
}
END_TEST

/* ---- killed ---- */

/* The primary as it is, with a disk of its own. */
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

/* ${_i}: a file of the archive, heads in the log, the header of a segment, data in the log. Cut off at each of its calls, with what is left of any of the writes: what is left is whole, or damage that heals. */
START_TEST(what_heals_may_be_killed)
{
    struct history_file f;
    struct teststore was;
    struct heal_plan *plan;
    struct wound w = { 0 };
    struct recall *r;
    struct err err = { 0 };
    unsigned records, n = 0;
    bool dead;

    if (_i == 0)
        archived(0);
    for (int i = 0; i < 2; i++) {        /* a store is opened from its last but one segment on */
        ck_assert_int_eq(store_roll(a.s, NULL), 0);
        ts_save(&a, "behind it", "x");
        ck_assert_int_eq(store_sync(a.s, NULL), 0);
        ck_assert_int_eq(store_flush(a.s, NULL), 0);
    }
    if (_i == 0) {
        f = file_at(LOG_FIRST_ADDR);
        hurt_frame(&f, false);
        hurt_frame(&f, true);
        w = (struct wound){ .lsn = f.first, .until = f.end };
    } else if (_i == 1) {
        uint64_t of[4];

        for (unsigned i = 0; i < 4; i++)
            of[i] = nth_record(&a, 20 + i, &w.until);
        for (unsigned i = 0; i < 4; i++)
            flip(&a, of[i] + (i % 2 ? 10 : 70), false);
        w.lsn = of[0];
    } else if (_i == 2) {
        flip(&a, LOG_FIRST_ADDR, true);
    } else {
        hurt(&a, false);
        (void)whole(&a);
        ck_assert(wounds_first(a.s, &w));
    }
    records = 0;
    was = a;
    do {
        a = copy_of(&was);
        r = NULL;
        plan = NULL;
        if (w.until > 0)
            r = asked(&w);
        if (_i == 3)
            ck_assert_int_eq(heal_plan_new(a.s, &w, &plan, NULL), 0);
        simio_cut_at(a.sim, ++n);
        if (r != NULL)
            (void)recall_apply(r, NULL);
        if (_i == 2)
            (void)heal_header(a.s, LOG_FIRST_ADDR, NULL);
        if (plan != NULL) {
            uint8_t *bytes = malloc(plan->bytes);

            ck_assert_int_eq(store_try_data(b.s, plan->part[0].lsn, plan->part[0].dstart, plan->part[0].doff, plan->part[0].len, bytes, false, NULL), 0);
            (void)heal_apply(a.s, plan, bytes, NULL);
            free(bytes);
        }
        dead = simio_dead(a.sim);
        ck_assert(n > 1 || dead);
        recall_free(r);
        heal_plan_free(plan);
        store_drop(a.s);
        simio_cut(a.sim, n, SIMIO_CUT_RANDOM);
        simio_set_wall(a.sim, a.now_ns);
        a.opt.kv = NULL;
        ck_assert_int_eq(kv_twin_open(a.disk, &a.opt.kv, NULL), 0);
        ck_assert_msg(store_open(simio_io(a.sim), NULL, &a.opt, &a.s, NULL, &err) == 0, "%s", err.msg);
        if (w.until > 0 && !recall_whole(a.s, &w)) {
            r = asked(&w);
            ck_assert_int_eq(recall_apply(r, NULL), 0);
            recall_free(r);
        }
        ck_assert_int_ge(heal_header(a.s, LOG_FIRST_ADDR, NULL), _i == 2 ? 0 : ERR_NOENT);
        if (_i < 3) {
            struct scrubbed left;

            read_all(&a, &left);
            ck_assert_uint_eq(left.data + left.records, 0);
            ck_assert_uint_eq(whole(&a), FILES);
        }
        records = records > 0 ? records : twosites_same_records(&a, &b);
        ck_assert_uint_eq(twosites_same_records(&a, &b), records);
        ts_free(&a);
    } while (dead);
    a = was;
    ck_assert_uint_gt(n, 2);
}
END_TEST

/* Of a fork, in a file that the store around it has, too: what the header says is the same for both. */
START_TEST(a_header_may_be_healed_in_a_fork)
{
    struct teststore t = { .who = a.who, .now_ns = a.now_ns, .sim = a.sim, .opt = { .writable = true, .log = a.opt.log }, .disk = kv_twin_disk_new() };
    struct fork f;
    struct scrubbed n;
    struct err err = { 0 };
    unsigned records = twosites_same_records(&a, &b);
    struct io *io;

    ck_assert_msg(store_fork(a.s, "f", &f, &err) == 0, "%s", err.msg);
    ck_assert_msg(store_fork_finish(simio_io(a.sim), "f", f.site, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(kv_twin_open(t.disk, &t.opt.kv, &err), 0);
    io = subio_new(simio_io(a.sim), "forks/f");
    ck_assert_msg(store_open(io, NULL, &t.opt, &t.s, NULL, &err) == 0, "%s", err.msg);
    flip(&a, LOG_FIRST_ADDR, true);
    ck_assert_msg(heal_header(t.s, LOG_FIRST_ADDR, &err) == 1, "%s", err.msg);
    ck_assert_uint_eq(whole(&t), FILES);
    ck_assert_msg(store_close(t.s, &err) == 0, "%s", err.msg);
    io->ops->free(io);
    kv_twin_disk_free(t.disk);
    ts_reopen(&a, true);
    ck_assert_int_eq(heal_header(a.s, LOG_FIRST_ADDR, &err), 0);
    read_all(&a, &n);
    ck_assert_uint_eq(n.data + n.records, 0);
    ck_assert_uint_eq(whole(&a), FILES);
    ck_assert_uint_ge(twosites_same_records(&a, &b), records);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("heal");
    TCase *t = tcase_create("heal");
    SRunner *sr = srunner_create(s);
    int failed;

    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, both, neither);
    tcase_add_loop_test(t, what_is_damaged_at_one_site_is_healed_by_the_other, 0, 8);
    tcase_add_test(t, what_nobody_has_stays_damage);
    tcase_add_loop_test(t, scrub_finds_what_nobody_reads, 0, 4);
    tcase_add_loop_test(t, what_shares_a_frame_is_healed, 0, 2);
    tcase_add_loop_test(t, scrub_goes_on_where_it_was_stopped, 0, 2);
    tcase_add_test(t, scrub_goes_on_behind_a_record_that_cannot_be_read);
    tcase_add_loop_test(t, wrong_bytes_heal_nothing, 0, 2);
    tcase_add_loop_test(t, records_that_cannot_be_read_are_healed, 0, 22);
    tcase_add_loop_test(t, files_of_the_archive_are_healed, 0, 10);
    tcase_add_loop_test(t, packs_are_made_whole_of_what_they_have_twice, 0, 4);
    tcase_add_loop_test(t, a_peer_that_lies_changes_nothing, 0, 4);
    tcase_add_test(t, a_file_that_was_healed_meanwhile_is_let_be);
    tcase_add_loop_test(t, no_file_is_made_anew_that_lacks_what_the_old_one_had, 0, 10);
    tcase_add_test(t, a_file_that_was_let_go_of_does_not_come_back);
    tcase_add_test(t, a_file_without_its_last_records_is_damage);
    tcase_add_test(t, a_file_that_is_gone_is_found_and_healed);
    tcase_add_loop_test(t, a_file_that_the_log_has_still_is_healed_of_it, 0, 2);
    tcase_add_loop_test(t, a_peer_that_lies_of_the_end_of_a_file_changes_nothing, 0, 2);
    tcase_add_test(t, two_streams_heal_the_same);
    tcase_add_loop_test(t, a_stream_does_not_wait_for_who_packs, 0, 2);
    tcase_add_test(t, scrub_of_a_store_that_is_read_only_finds_headers);
    tcase_add_test(t, scrub_goes_on_behind_a_sector_that_the_disk_does_not_give);
    tcase_add_loop_test(t, what_heals_may_be_killed, 0, 4);
    tcase_add_test(t, a_header_may_be_healed_in_a_fork);
    suite_add_tcase(s, t);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
