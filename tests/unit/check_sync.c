/*
 * check_sync: messages between two sites as bytes (round trips, bounds, each flipped bit noticed, golden samples), and every message in
 * every state of both machines. Chance reaches the rest: check_sync_sim.
 */
#include "store/sync/receive.h"
#include "store/sync/ship.h"
#include "tests/lib/log_fixture.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BEGINS = 4096 };

static const uint8_t body[192] = "records would be here";

static void row(struct epoch_row *e, uint32_t number, uint64_t lsn)
{
    memset(e, 0, sizeof *e);
    e->number = number;
    e->first_lsn = lsn;
    memset(e->site, (int)number, 16);
    memset(e->id, 0x40 + (int)number, 16);
    memset(e->lineage, 7, 16);
}

/* A sound message of that type, as the side that says it would. */
static void sample(uint16_t type, struct proto_msg *m)
{
    memset(m, 0, sizeof *m);
    m->type = type;
    m->epoch = 2;
    memset(m->epoch_id, 0x42, 16);
    m->position = BEGINS + 800;
    switch (type) {
    case PROTO_HELLO: {
        struct proto_hello *h = &m->u.hello;

        h->lowest = PROTO_LOWEST;
        h->highest = PROTO_HIGHEST;
        memset(h->lineage, 7, 16);
        memset(h->site, 1, 16);
        h->role = ROLE_PRIMARY;
        h->part = PROTO_SENDER;
        h->incarnation = 99;
        h->durable = h->whole = BEGINS + 800;
        h->last_lsn = BEGINS + 600;
        memset(h->last_hash.b, 5, 16);
        h->n_epochs = h->known = 2;
        row(&h->epochs[0], 1, BEGINS);
        row(&h->epochs[1], 2, BEGINS + 400);
        break;
    }
    case PROTO_REFUSE: m->u.refuse = (struct proto_refuse){ .code = ERR_FENCED, .text = "another site is primary" }; break;
    case PROTO_MAKE:
        memset(m->u.make.lineage, 7, 16);
        memset(m->u.make.key, 3, 32);
        row(&m->u.make.epoch, 1, BEGINS);
        snprintf(m->u.make.timezone, sizeof m->u.make.timezone, "Europe/Zurich");
        break;
    case PROTO_RECORDS:
        m->u.records = (struct proto_records){ .n = 1, .bytes = sizeof body, .end = m->position + 240, .p = body, .len = sizeof body };
        break;
    case PROTO_LIST: {
        static uint8_t files[256];
        struct proto_list *l = &m->u.list;
        struct proto_list_file f = { .name = "archive/0000000000001000-0000000000001320-00000001.arc", .size = 777 };

        memset(l->lineage, 7, 16);
        memset(l->key, 3, 32);
        l->last_lsn = BEGINS + 600;
        memset(l->last_hash.b, 5, 16);
        l->n_epochs = 2;
        row(&l->epochs[0], 1, BEGINS);
        row(&l->epochs[1], 2, BEGINS + 400);
        snprintf(l->timezone, sizeof l->timezone, "Europe/Zurich");
        memset(f.hash.b, 8, 16);
        l->len = (uint32_t)proto_list_put(files, sizeof files, &f);
        snprintf(f.name, sizeof f.name, "packs/0000000000001000-0000000000001320-00000002.pack");
        l->len += (uint32_t)proto_list_put(files + l->len, sizeof files - l->len, &f);
        l->p = files;
        l->n = 2;
        break;
    }
    case PROTO_WANT: m->u.want = (struct proto_want){ .n = 2, .p = (const uint8_t *)"\0\0\0\0\7\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0" }; break;
    case PROTO_FILE: m->u.file = (struct proto_file){ .index = 1, .len = sizeof body, .p = body }; break;
    case PROTO_RETAINED: m->u.retained = (struct proto_retained){ .len = sizeof body, .p = body }; break;
    case PROTO_TELL: m->u.tell = (struct proto_tell){ .lsn = BEGINS + 400, .end = BEGINS + 800, .hash = { { 6 } } }; break;
    case PROTO_FETCH: {
        static uint8_t parts[2 * PROTO_PART_BYTES];

        proto_part_put(parts, &(struct proto_data_part){ .lsn = BEGINS + 400, .dstart = 184, .doff = 100, .len = 20 });
        proto_part_put(parts + PROTO_PART_BYTES, &(struct proto_data_part){ .lsn = BEGINS + 400, .dstart = 184, .doff = 200, .len = 30 });
        m->u.fetch = (struct proto_fetch){ 2, parts };
        break;
    }
    case PROTO_DATA: {
        static uint8_t parts[2 * PROTO_DATA_PART_BYTES];

        proto_data_put(parts, &(struct proto_data_part){ .lsn = BEGINS + 400, .dstart = 184, .doff = 100, .len = 20, .ino = 9, .off = 1000, .had = true });
        proto_data_put(parts + PROTO_DATA_PART_BYTES, &(struct proto_data_part){ .lsn = BEGINS + 400, .dstart = 184, .doff = 200, .len = 30 });
        m->u.data = (struct proto_data){ 2, 20, parts, body };
        break;
    }
    case PROTO_RECALL: m->u.recall = (struct proto_recall){ m->position + 800 }; break;
    case PROTO_HEADS: {
        static uint8_t heads[REC_HEAD_BYTES];

        memset(heads, 4, sizeof heads);
        m->u.heads = (struct proto_heads){ .end = m->position + 400, .n = 1, .bytes = sizeof heads, .p = heads };
        break;
    }
    case PROTO_ACK: m->u.ack = (struct proto_ack){ .durable = BEGINS + 800, .applied = BEGINS + 800, .beat = 3 }; break;
    case PROTO_BEAT: m->u.beat = (struct proto_beat){ .number = 4, .wall_ns = -5, .head = BEGINS + 1600, .lease = { 30000, { 7 } } }; break;
    default: break;
    }
}

static int take(const uint8_t *buf, size_t len, struct proto_msg *m, struct err *err)
{
    struct proto_head h;
    int rc = proto_head_decode(buf, &h, err);

    ck_assert(rc < 0 || len >= PROTO_HEAD_BYTES + h.body);
    return rc < 0 ? rc : proto_decode(&h, buf + PROTO_HEAD_BYTES, m, err);
}

START_TEST(a_message_comes_back_as_it_was)
{
    struct proto_msg *m = malloc(sizeof *m), *got = malloc(sizeof *got);
    uint8_t a[4096], b[4096];
    struct err err = { 0 };
    size_t n;

    sample((uint16_t)_i, m);
    n = proto_encode(m, a, sizeof a);
    ck_assert_uint_gt(n, 0);
    ck_assert_uint_le(n, proto_bound(m));
    ck_assert_uint_eq(proto_encode(m, b, n - 1), 0);
    ck_assert_msg(take(a, n, got, &err) == 0, "%s: %s", proto_name((unsigned)_i), err.msg);
    ck_assert_uint_eq(proto_encode(got, b, sizeof b), n);
    ck_assert_mem_eq(a, b, n);
    /* each bit counts */
    for (size_t bit = 0; bit < 8 * n; bit++) {
        a[bit / 8] = (uint8_t)(a[bit / 8] ^ 1u << bit % 8);
        if (bit / 8 < 8 || bit / 8 >= 12)      /* (the length of the body would lead beyond it) */
            ck_assert_msg(take(a, n, got, &err) < 0, "%s: bit %zu", proto_name((unsigned)_i), bit);
        else
            ck_assert_int_lt(proto_head_decode(a, &(struct proto_head){ 0 }, &err), 0);
        a[bit / 8] = (uint8_t)(a[bit / 8] ^ 1u << bit % 8);
    }
    free(m);
    free(got);
}
END_TEST

/* As many epochs as a table may have, and an ACK behind it, which must not be of that size. */
START_TEST(a_full_table_is_said_and_heard)
{
    struct proto_msg *m = malloc(sizeof *m), *got = malloc(sizeof *got);
    uint32_t most = _i == 0 ? SUPER_EPOCHS_MAX : SUPER_EPOCHS_MAX - SUPER_EPOCHS_KEPT;
    struct epoch_row *rows = _i == 0 ? m->u.hello.epochs : m->u.list.epochs;
    uint8_t *a = malloc(SUPER_FILE_MAX), *b = malloc(SUPER_FILE_MAX);
    struct err err = { 0 };
    size_t n;

    sample(_i == 0 ? PROTO_HELLO : PROTO_LIST, m);
    m->position = BEGINS + 8 * most;
    for (uint32_t i = 0; i < most; i++) {
        row(&rows[i], i + 1, BEGINS + 8 * i);
        memset(rows[i].id, 1, 16);
        memset(rows[i].site, 1, 16);
    }
    if (_i == 0)
        m->u.hello.n_epochs = m->u.hello.known = most;
    else
        m->u.list.n_epochs = most;
    n = proto_encode(m, a, SUPER_FILE_MAX);
    ck_assert_uint_gt(n, most * EPOCH_ROW_BYTES);
    ck_assert_msg(take(a, n, got, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(proto_encode(got, b, SUPER_FILE_MAX), n);
    ck_assert_mem_eq(a, b, n);
    sample(PROTO_ACK, m);
    n = proto_encode(m, a, SUPER_FILE_MAX);
    memset(got, 0xee, sizeof *got);
    ck_assert_int_eq(take(a, n, got, &err), 0);
    ck_assert_uint_eq(((const uint8_t *)got)[sizeof *got - 1], 0xee);
    free(m);
    free(got);
    free(a);
    free(b);
}
END_TEST

START_TEST(golden_messages_are_read_and_written_the_same)
{
    struct proto_msg *m = malloc(sizeof *m);
    uint8_t want[4096], got[4096];
    char name[64];
    size_t n, len = 0;
    FILE *f;

    snprintf(name, sizeof name, "message-%s.bin", proto_name((unsigned)_i));
    for (char *p = name; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
    sample((uint16_t)_i, m);
    n = proto_encode(m, got, sizeof got);
    if (getenv("SPARE_GOLDEN") && strcmp(getenv("SPARE_GOLDEN"), "write") == 0) {
        f = fix_golden(name, "wb");
        ck_assert(f && fwrite(got, 1, n, f) == n && fclose(f) == 0);
    }
    f = fix_golden(name, "rb");
    ck_assert_msg(f != NULL, "%s is not there", name);
    len = fread(want, 1, sizeof want, f);
    fclose(f);
    ck_assert_uint_eq(len, n);
    ck_assert_msg(memcmp(want, got, n) == 0, "%s: the encoding changed", name);
    free(m);
}
END_TEST

/* With the sums put right, so that only the field itself is wrong. */
struct wrong { uint16_t type; unsigned at, bytes; uint64_t value; const char *says; };
static const struct wrong wrongs[] = {
    { PROTO_HELLO, 0, 4, 0, "protocol versions that are no range" },
    { PROTO_HELLO, 0, 4, 9, "protocol versions that are no range" },
    { PROTO_HELLO, 8, 16, 0, "no lineage, no site or no epoch" },
    { PROTO_HELLO, 24, 16, 0, "no lineage, no site or no epoch" },
    { PROTO_HELLO, 40, 4, 4, "an unknown role" },
    { PROTO_HELLO, 40, 4, 0, "no store, and fields of one" },
    { PROTO_HELLO, 44, 4, 1, "its length" },
    { PROTO_HELLO, 44, 4, SUPER_EPOCHS_MAX + 1, "more epochs than a store has" },
    { PROTO_HELLO, 64, 8, 99999, "a last record that is not below the end" },
    { PROTO_HELLO, 88, 4, 3, "neither sender nor receiver" },
    { PROTO_HELLO, 92, 4, 1, "held and not known" },
    { PROTO_HELLO, 104, 4, 2, "its number does not rise" },
    { PROTO_HELLO, 248, 16, 1, "its newest epoch is of another lineage" },
    { PROTO_REFUSE, 0, 4, 0, "no code" },
    { PROTO_REFUSE, 4, 4, 5000, "its length" },
    { PROTO_REFUSE, 8, 1, 10, "a text that is none" },
    { PROTO_MAKE, 0, 16, 0, "no lineage" },
    { PROTO_MAKE, 52, 4, 0, "its number does not rise" },
    { PROTO_MAKE, 132, 4, 300, "its length" },
    { PROTO_RECORDS, 0, 4, 0, "a number of records" },
    { PROTO_RECORDS, 4, 4, 100, "bytes or an address that cannot be" },
    { PROTO_RECORDS, 8, 8, BEGINS + 800, "an address that cannot be" },
    { PROTO_RECORDS, 8, 8, BEGINS + 801, "an address that cannot be" },
    { PROTO_RECORDS, 16, 4, 2, "a way of compression" },
    { PROTO_RECORDS, 20, 4, 5, "its length" },
    { PROTO_ACK, 0, 8, BEGINS + 801, "more durable or applied than received" },
    { PROTO_ACK, 8, 8, BEGINS + 801, "more durable or applied than received" },
    { PROTO_BEAT, 0, 8, 0, "no number" },
    { PROTO_BEAT, 16, 8, BEGINS, "an end below what is durable" },
    { PROTO_LIST, 52, 8, 0, "an address that cannot be" }, { PROTO_LIST, 52, 8, BEGINS + 800, "an address that cannot be" },
    { PROTO_LIST, 76, 4, 0, "no epochs" }, { PROTO_LIST, 76, 4, SUPER_EPOCHS_MAX + 1, "could not go on" }, { PROTO_LIST, 80 + 40, 8, 0, "" },
    { PROTO_LIST, 80 + 160 + 17, 4, 3, "a file without name or size" }, { PROTO_LIST, 80 + 160 + 17, 4, 1, "bytes behind its last file" }, { PROTO_LIST, 80 + 160 + 17, 4, 0, "number of files" },
    { PROTO_WANT, 0, 4, 3, "length" }, { PROTO_WANT, 4, 4, 1, "do not rise" }, { PROTO_WANT, 15, 1, 0x80, "a place that cannot be" },
    { PROTO_FILE, 4, 4, 0, "length" }, { PROTO_FILE, 0, 4, PROTO_FILES_MAX, "a place that cannot be" }, { PROTO_RETAINED, 0, 4, 0, "length" },
    { PROTO_HELLO, 96, 8, BEGINS + 801, "more that is whole than is held" },
    { PROTO_FETCH, 0, 4, 0, "number of its parts" }, { PROTO_FETCH, 0, 4, 3, "its length" }, { PROTO_FETCH, 4, 8, 4, "cannot be" }, { PROTO_FETCH, 12, 4, 8, "cannot be" },
    { PROTO_FETCH, 20, 4, 0, "cannot be" }, { PROTO_FETCH, 20, 4, PROTO_PART_MAX + 1, "cannot be" }, { PROTO_DATA, 0, 4, 1, "its length" }, { PROTO_DATA, 4, 4, 19, "its length" },
    { PROTO_DATA, 28, 4, 2, "cannot be" }, { PROTO_DATA, 28, 4, 0, "cannot be" }, { PROTO_DATA, 24, 4, 21, "another number of bytes" },
    { PROTO_RECALL, 0, 8, BEGINS, "addresses that cannot be" }, { PROTO_RECALL, 0, 8, BEGINS + 1604, "addresses that cannot be" }, { PROTO_RECALL, 0, 8, UINT64_MAX, "addresses that cannot be" },
    { PROTO_HEADS, 0, 8, BEGINS, "an address that cannot be" }, { PROTO_HEADS, 0, 8, BEGINS + 1204, "an address that cannot be" }, { PROTO_HEADS, 8, 4, 0, "a number of records" },
    { PROTO_HEADS, 8, 4, 2, "a number of records" }, { PROTO_HEADS, 12, 4, 127, "its length" }, { PROTO_HEADS, 12, 4, 129, "its length" },
    { PROTO_TELL, 0, 8, BEGINS + 800, "a record that is not below" }, { PROTO_TELL, 0, 8, 0, "a record that is not below" }, { PROTO_TELL, 8, 8, BEGINS + 808, "a record that is not below" },
    { PROTO_TELL, 8, 8, BEGINS + 799, "a record that is not below" },
};

START_TEST(each_field_is_checked)
{
    const struct wrong *w = &wrongs[_i];
    struct proto_msg *m = malloc(sizeof *m);
    uint8_t a[4096];
    struct err err = { 0 };
    size_t n;

    sample(w->type, m);
    n = proto_encode(m, a, sizeof a);
    for (unsigned i = 0; i < w->bytes; i++)
        a[PROTO_HEAD_BYTES + w->at + i] = (uint8_t)(w->bytes == 16 ? w->value : w->value >> 8 * i);
    put_u32(a + 40, hash32(a + PROTO_HEAD_BYTES, n - PROTO_HEAD_BYTES));
    put_u32(a + 44, hash32(a, 44));
    ck_assert_int_eq(take(a, n, m, &err), ERR_BADREC);
    ck_assert_msg(strstr(err.msg, w->says) != NULL, "%s", err.msg);
    free(m);
}
END_TEST

START_TEST(an_unknown_type_is_of_another_protocol)
{
    struct proto_msg *m = malloc(sizeof *m);
    uint8_t a[64];
    struct err err = { 0 };

    sample(PROTO_START, m);
    ck_assert_uint_eq(proto_encode(m, a, sizeof a), PROTO_HEAD_BYTES);
    a[4] = 77;
    put_u32(a + 44, hash32(a, 44));
    ck_assert_int_eq(take(a, PROTO_HEAD_BYTES, m, &err), ERR_PEERVER);
    free(m);
}
END_TEST

/* ---- every message in every state ---- */

static struct epoch_row epochs[2];

static void ship_in(struct ship *s, struct ship_own *o, enum ship_state st)
{
    struct proto_msg *m = malloc(sizeof *m);

    row(&epochs[0], 1, BEGINS);
    row(&epochs[1], 2, BEGINS + 400);
    memset(o, 0, sizeof *o);
    memset(o->lineage, 7, 16);
    memset(o->site, 1, 16);
    o->role = ROLE_PRIMARY;
    o->first = o->begins = BEGINS;
    o->n_epochs = o->known = 2;
    o->epochs = epochs;
    o->may_make = true;
    ship_init(s, o, BEGINS + 800, BEGINS + 800, UINT64_MAX);
    ck_assert_int_eq(ship_due(s, m), SHIP_SEND);
    if (st == SHIP_LISTED || st == SHIP_FILES)
        o->first = BEGINS + 400;
    if (st != SHIP_HELLO) {
        sample(PROTO_HELLO, m);
        m->u.hello.part = PROTO_RECEIVER;
        m->u.hello.role = ROLE_STANDBY;
        memset(m->u.hello.site, 9, 16);
        if (st == SHIP_FORK)
            m->u.hello.n_epochs = m->u.hello.known = 1;     /* and the end of two */
        if (st == SHIP_MADE || st == SHIP_LISTED || st == SHIP_FILES)
            m->u.hello = (struct proto_hello){ .lowest = 1, .highest = 1, .part = PROTO_RECEIVER };
        ship_hear(s, m);
    }
    if (st == SHIP_LISTED || st == SHIP_FILES) {
        ck_assert_int_eq(ship_due(s, m), SHIP_LIST);
        ship_listed(s);
    }
    if (st == SHIP_FILES) {
        sample(PROTO_WANT, m);
        ship_hear(s, m);
        ck_assert_int_eq(ship_due(s, m), SHIP_FILE);
    }
    if (st == SHIP_STREAM) {
        ship_looked(s, true, &m->u.hello.last_hash, BEGINS + 800);
        ck_assert_int_eq(ship_due(s, m), SHIP_SEND);
    }
    if (st == SHIP_END)
        ship_fail(s, false, &(struct err){ ERR_IO, "over" });
    ck_assert_int_eq(s->state, st);
    free(m);
}

START_TEST(the_sender_hears_every_message_in_every_state)
{
    enum ship_state st = (enum ship_state)(_i / (PROTO_HEADS + 1));
    uint16_t type = (uint16_t)(_i % (PROTO_HEADS + 1));
    struct ship *s = calloc(1, sizeof *s);
    struct proto_msg *m = malloc(sizeof *m);
    struct ship_own o;
    bool fits;

    if (type == 0)
        goto out;
    ship_in(s, &o, st);
    sample(type, m);
    if (type == PROTO_HELLO) {
        m->u.hello.part = PROTO_RECEIVER;
        m->u.hello.role = ROLE_STANDBY;
        memset(m->u.hello.site, 9, 16);
    }
    ship_hear(s, m);
    fits = (type == PROTO_HELLO && (st == SHIP_HELLO || st == SHIP_MADE)) || (type == PROTO_ACK && (st == SHIP_STREAM || st == SHIP_LISTED || st == SHIP_FILES)) ||
           (type == PROTO_WANT && st == SHIP_LISTED) || ((type == PROTO_ASK || type == PROTO_BOOT) && st == SHIP_FORK) || ((type == PROTO_FETCH || type == PROTO_RECALL) && st == SHIP_STREAM);
    if (st == SHIP_END)
        ck_assert_int_eq(s->err.code, ERR_IO);     /* the first reason stays */
    else if (type == PROTO_REFUSE)
        ck_assert(s->state == SHIP_END && s->err.code == ERR_FENCED && !s->tell);
    else if (fits)
        ck_assert_msg(s->state != SHIP_END, "%s in %s: %s", proto_name(type), ship_state_name(st), s->err.msg);
    else
        ck_assert_msg(s->state == SHIP_END && s->err.code == ERR_BADREC && s->tell, "%s in %s", proto_name(type), ship_state_name(st));
out:
    free(m);
    free(s);
}
END_TEST

static void receive_in(struct receive *r, enum receive_state st)
{
    struct proto_msg *m = malloc(sizeof *m);
    struct receive_own *o = calloc(1, sizeof *o);

    if (st != RECEIVE_MAKE && st != RECEIVE_FILES) {
        memset(o->lineage, 7, 16);
        memset(o->site, 9, 16);
        o->role = ROLE_STANDBY;
        o->durable = o->whole = BEGINS + 800;
        o->last_lsn = BEGINS + 600;
        memset(o->last_hash.b, 5, 16);
        o->n_epochs = 2;
        row(&o->epochs[0], 1, BEGINS);
        row(&o->epochs[1], 2, BEGINS + 400);
        o->n_epochs = o->known = st == RECEIVE_FORK ? 1 : 2;
    }
    receive_init(r, o);
    r->may_go_back = true;
    ck_assert_int_eq(receive_due(r, m), RECEIVE_SEND);
    if (st != RECEIVE_HELLO) {
        sample(PROTO_HELLO, m);
        receive_hear(r, m);
    }
    if (st == RECEIVE_FILES) {
        const struct proto_want want = { 1, (const uint8_t *)"\0\0\0\0\0\0\0\0\0\0\0" };

        sample(PROTO_LIST, m);
        receive_hear(r, m);
        ck_assert_int_eq(receive_due(r, m), RECEIVE_LIST);
        receive_wants(r, &want);
        ck_assert_int_eq(receive_due(r, m), RECEIVE_SEND);
        ck_assert_int_eq(m->type, PROTO_WANT);
    }
    if (st == RECEIVE_FORK) {
        ck_assert_int_eq(receive_due(r, m), RECEIVE_SEND);
        ck_assert(m->type == PROTO_ASK && m->position == BEGINS + 400);
    }
    if (st == RECEIVE_STREAM) {
        sample(PROTO_START, m);
        receive_hear(r, m);
    }
    if (st == RECEIVE_END)
        receive_fail(r, false, &(struct err){ ERR_IO, "over" });
    ck_assert_int_eq(r->state, st);
    free(m);
    free(o);
}

START_TEST(the_receiver_hears_every_message_in_every_state)
{
    enum receive_state st = (enum receive_state)(_i / (PROTO_HEADS + 1));
    uint16_t type = (uint16_t)(_i % (PROTO_HEADS + 1));
    struct receive *r = calloc(1, sizeof *r);
    struct proto_msg *m = malloc(sizeof *m);
    bool fits;

    if (type == 0)
        goto out;
    receive_in(r, st);
    sample(type, m);
    if (type == PROTO_TELL && st == RECEIVE_FORK)
        m->position = BEGINS + 400;
    receive_hear(r, m);
    fits = (type == PROTO_TELL && st == RECEIVE_FORK) || ((type == PROTO_FETCH || type == PROTO_RECALL) && st == RECEIVE_STREAM) || (type == PROTO_HELLO && st == RECEIVE_HELLO) || (type == PROTO_MAKE && st == RECEIVE_MAKE) || (type == PROTO_START && st == RECEIVE_START) ||
           ((type == PROTO_RECORDS || type == PROTO_BEAT) && st == RECEIVE_STREAM) || (type == PROTO_LIST && (st == RECEIVE_MAKE || st == RECEIVE_FILES || st == RECEIVE_START)) ||
           ((type == PROTO_FILE || type == PROTO_RETAINED) && st == RECEIVE_FILES) || (type == PROTO_BEAT && (st == RECEIVE_MAKE || st == RECEIVE_FILES || st == RECEIVE_START));
    if (st == RECEIVE_END)
        ck_assert_int_eq(r->err.code, ERR_IO);
    else if (type == PROTO_REFUSE)
        ck_assert(r->state == RECEIVE_END && r->err.code == ERR_FENCED && !r->tell);
    else if (fits)
        ck_assert_msg(r->state != RECEIVE_END, "%s in %s: %s", proto_name(type), receive_state_name(st), r->err.msg);
    else
        ck_assert_msg(r->state == RECEIVE_END && r->err.code == ERR_BADREC && r->tell, "%s in %s", proto_name(type), receive_state_name(st));
out:
    free(m);
    free(r);
}
END_TEST

/* ---- who may be whose standby ---- */

struct meeting { const char *what; int code; };
static const struct meeting meetings[] = {
    { "another lineage", ERR_NOSTORE }, { "a primary", ERR_FENCED }, { "the same site", ERR_USAGE }, { "another that sends", ERR_USAGE },
    { "a newer protocol", ERR_PEERVER }, { "a newer epoch", ERR_FENCED }, { "the same epoch number with another id", ERR_DIVERGED },
    { "more than there is", ERR_DIVERGED }, { "another last record", ERR_DIVERGED },
    { "nothing, where something was", ERR_AWAY },
};

START_TEST(a_standby_that_does_not_fit_is_refused_by_name)
{
    struct ship *s = calloc(1, sizeof *s);
    struct proto_msg *m = malloc(sizeof *m);
    struct ship_own o;
    struct proto_hello *h = &m->u.hello;

    ship_in(s, &o, SHIP_HELLO);
    sample(PROTO_HELLO, m);
    h->part = PROTO_RECEIVER;
    h->role = ROLE_STANDBY;
    memset(h->site, 9, 16);
    switch (_i) {
    case 0: memset(h->lineage, 8, 16); memset(h->epochs[1].lineage, 8, 16); break;
    case 1: h->role = ROLE_PRIMARY; break;
    case 2: memset(h->site, 1, 16); break;
    case 3: h->part = PROTO_SENDER; break;
    case 4: h->lowest = h->highest = PROTO_HIGHEST + 1; break;
    case 5: h->n_epochs = h->known = 3; row(&h->epochs[2], 3, BEGINS + 700); break;
    case 6: memset(h->epochs[1].id, 0x77, 16); break;
    case 7: h->durable += 8; h->whole += 8; break;
    case 8: break;
    case 9: *h = (struct proto_hello){ .lowest = 1, .highest = 1, .part = PROTO_RECEIVER }; o.may_make = false; break;
    default: break;
    }
    ship_hear(s, m);
    if (_i == 8) {
        ck_assert_int_eq(ship_due(s, m), SHIP_LOOK_UP);
        ship_looked(s, true, &(struct hash128){ { 1 } }, BEGINS + 800);
    }
    ck_assert_msg(s->state == SHIP_END && s->err.code == meetings[_i].code, "%s: %s %s", meetings[_i].what, err_name(s->err.code), s->err.msg);
    ck_assert_int_eq(ship_due(s, m), SHIP_SEND);
    ck_assert_int_eq(m->type, PROTO_REFUSE);
    ck_assert_int_eq(ship_due(s, m), SHIP_FAILED);
    free(m);
    free(s);
}
END_TEST

/* ---- where two part ---- */

/* Records of both sides, as lengths in units of 8; what begins with the same ones is the same. */
struct chain { struct proto_tell v[64]; unsigned n; };

static void lengthen(struct chain *c, unsigned units, uint8_t of)
{
    struct proto_tell *t = &c->v[c->n];

    t->lsn = c->n > 0 ? c->v[c->n - 1].end : BEGINS;
    t->end = t->lsn + 8 * (uint64_t)units;
    memset(t->hash.b, of, 16);
    t->hash.b[0] = (uint8_t)c->n++;
}

static struct proto_tell below(const struct chain *c, uint64_t addr)
{
    struct proto_tell none = { 0 };

    for (unsigned i = c->n; i-- > 0;)
        if (c->v[i].end <= addr)
            return c->v[i];
    return none;
}

/* The conversation by which it finds out, over all that two chains can be from here on: a fork where an epoch begins, or before (a machine set back to an image). */
START_TEST(two_find_out_where_they_part)
{
    for (unsigned seed = 0; seed < 4000; seed++) {
        static struct chain here, there;
        struct receive *r = calloc(1, sizeof *r);
        struct receive_own *o = calloc(1, sizeof *o);
        struct proto_msg *m = malloc(sizeof *m);
        unsigned common = 1 + seed % 20, x = seed * 2654435761u, asked = 0;
        bool told = seed % 3 != 0;       /* the epoch begins where they part */
        uint64_t fork;

        here.n = there.n = 0;
        for (unsigned i = 0; i < common; i++, x = x * 1103515245 + 12345) {
            lengthen(&here, 20 + (x >> 16) % 30, 1);
            lengthen(&there, 20 + (x >> 16) % 30, 1);
        }
        fork = here.v[common - 1].end;
        for (unsigned i = 0; i < 1 + seed % 7; i++, x = x * 1103515245 + 12345)
            lengthen(&here, 20 + (x >> 16) % 30, 2);
        for (unsigned i = 0; i < 1 + seed % 11; i++, x = x * 1103515245 + 12345)
            lengthen(&there, 20 + (x >> 16) % 30, 3);
        told |= there.v[there.n - 1].lsn == fork;
        memset(o->lineage, 7, 16);
        memset(o->site, 9, 16);
        o->role = ROLE_STANDBY;
        o->durable = o->whole = here.v[here.n - 1].end;
        o->last_lsn = here.v[here.n - 1].lsn;
        o->n_epochs = o->known = 1;
        row(&o->epochs[0], 1, BEGINS);
        receive_init(r, o);
        r->may_go_back = true;
        ck_assert_int_eq(receive_due(r, m), RECEIVE_SEND);
        sample(PROTO_HELLO, m);
        m->u.hello.durable = m->u.hello.whole = there.v[there.n - 1].end;
        m->u.hello.last_lsn = there.v[there.n - 1].lsn;
        m->u.hello.n_epochs = 2;
        row(&m->u.hello.epochs[1], 2, told ? fork : there.v[there.n - 1].lsn);
        receive_hear(r, m);
        if (r->state == RECEIVE_START) {         /* its end is below where the epoch begins, and something else is there: the sender says what */
            sample(PROTO_TELL, m);
            m->position = o->durable;
            m->u.tell = below(&there, o->durable);
            receive_hear(r, m);
        }
        while (r->state == RECEIVE_FORK) {
            enum receive_due due = receive_due(r, m);

            if (due == RECEIVE_COMPARE) {
                struct proto_tell mine = below(&here, r->told.end);

                receive_compared(r, r->told.lsn != 0 && mine.lsn == r->told.lsn && hash128_eq(&mine.hash, &r->told.hash));
                continue;
            }
            if (due == RECEIVE_JUDGE) {
                receive_judged(r, true);
                continue;
            }
            ck_assert_int_eq(due, RECEIVE_SEND);
            ck_assert_int_eq(m->type, PROTO_ASK);
            ck_assert_uint_lt(++asked, 200);
            m->type = PROTO_TELL;
            m->u.tell = below(&there, m->position);
            receive_hear(r, m);
        }
        ck_assert_msg(r->fork.found && r->fork.low == fork && r->fork.low_rec.lsn == here.v[common - 1].lsn, "seed %u: %s", seed, r->err.msg);
        ck_assert_int_eq(r->err.code, ERR_AWAY);
        ck_assert_uint_le(asked, told ? 2 : 80);
        free(m);
        free(o);
        free(r);
    }
}
END_TEST

START_TEST(whoever_meets_a_higher_epoch_is_primary_no_more)
{
    struct ship *s = calloc(1, sizeof *s);
    struct receive *r = calloc(1, sizeof *r);
    struct proto_msg *m = malloc(sizeof *m);
    struct ship_own o;

    for (unsigned role = ROLE_PRIMARY; role <= ROLE_FENCED; role++) {
        ship_in(s, &o, SHIP_HELLO);
        sample(PROTO_HELLO, m);
        m->u.hello.part = PROTO_RECEIVER;
        m->u.hello.role = role;
        memset(m->u.hello.site, 9, 16);
        m->u.hello.n_epochs = m->u.hello.known = 3;
        row(&m->u.hello.epochs[2], 3, BEGINS + 700);
        ship_hear(s, m);
        ck_assert_int_eq(s->err.code, ERR_FENCED);
        ck_assert(s->fenced && s->fence.number == 3);
        m->u.hello.n_epochs = m->u.hello.known = 2;
        ship_in(s, &o, SHIP_HELLO);
        ship_hear(s, m);
        ck_assert(!s->fenced);
        m->u.hello.known = 9;            /* it has heard of it, and holds nothing of it */
        ship_in(s, &o, SHIP_HELLO);
        ship_hear(s, m);
        ck_assert_int_eq(s->err.code, ERR_FENCED);
        ck_assert(s->fenced && s->fence.number == 9);
    }
    ship_in(s, &o, SHIP_HELLO);          /* a copy of this very site that was promoted: whatever else is wrong */
    sample(PROTO_HELLO, m);
    m->u.hello.part = PROTO_RECEIVER;
    memcpy(m->u.hello.site, o.site, 16);
    m->u.hello.n_epochs = 3;
    row(&m->u.hello.epochs[2], 3, BEGINS + 700);
    m->u.hello.known = 3;
    ship_hear(s, m);
    ck_assert_int_eq(s->err.code, ERR_USAGE);
    ck_assert(s->fenced && s->fence.number == 3);
    receive_in(r, RECEIVE_HELLO);        /* a standby follows; but if the stream is cut before that epoch's record, it was told of it */
    sample(PROTO_HELLO, m);
    m->u.hello.n_epochs = 3;
    row(&m->u.hello.epochs[2], 3, BEGINS + 900);
    m->u.hello.known = 3;
    receive_hear(r, m);
    ck_assert(r->state != RECEIVE_END && r->fenced && r->fence.number == 3);
    for (unsigned n = 2; n <= 3; n++) {  /* the other way round: a sender comes to one that is primary itself */
        receive_in(r, RECEIVE_HELLO);
        r->own.role = ROLE_PRIMARY;
        sample(PROTO_HELLO, m);
        m->u.hello.n_epochs = m->u.hello.known = n;
        row(&m->u.hello.epochs[2], 3, BEGINS + 700);
        receive_hear(r, m);
        ck_assert_int_eq(r->err.code, ERR_FENCED);
        ck_assert(r->fenced == (n == 3) && (n == 2 || r->fence.number == 3));
    }
    free(m);
    free(r);
    free(s);
}
END_TEST

START_TEST(a_sender_that_does_not_fit_is_refused_by_name)
{
    static const int codes[] = { ERR_NOSTORE, ERR_FENCED, ERR_PEERVER, ERR_USAGE };
    struct receive *r = calloc(1, sizeof *r);
    struct proto_msg *m = malloc(sizeof *m);

    receive_in(r, RECEIVE_HELLO);
    sample(PROTO_HELLO, m);
    switch (_i) {
    case 0: memset(m->u.hello.lineage, 8, 16); memset(m->u.hello.epochs[1].lineage, 8, 16); break;
    case 1: m->u.hello.n_epochs = m->u.hello.known = 1; break;      /* an older epoch than is known here */
    case 2: m->u.hello.lowest = m->u.hello.highest = PROTO_HIGHEST + 1; break;
    case 3: m->u.hello.part = PROTO_RECEIVER; break;
    default: break;
    }
    receive_hear(r, m);
    ck_assert_msg(r->state == RECEIVE_END && r->err.code == codes[_i], "%d: %s %s", _i, err_name(r->err.code), r->err.msg);
    free(m);
    free(r);
}
END_TEST

START_TEST(silence_ends_a_stream_and_sleep_does_not)
{
    struct ship *s = calloc(1, sizeof *s);
    struct ship_own o;
    uint64_t now = 1000000;

    ship_in(s, &o, SHIP_STREAM);
    ship_tick(s, now, 0);
    ship_tick(s, now += 7200000, 0);             /* suspended for two hours */
    ck_assert_int_eq(s->state, SHIP_STREAM);
    for (int i = 0; i < 28; i++)
        ship_tick(s, now += 1000, 0);
    ck_assert_int_eq(s->state, SHIP_STREAM);
    ship_tick(s, now += 1000, 0);
    ck_assert(s->state == SHIP_END && s->err.code == ERR_AWAY);
    free(s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sync");
    TCase *t = tcase_create("sync");
    SRunner *sr;
    int failed;

    tcase_add_test(t, two_find_out_where_they_part);
    tcase_add_test(t, whoever_meets_a_higher_epoch_is_primary_no_more);
    tcase_add_loop_test(t, a_message_comes_back_as_it_was, PROTO_HELLO, PROTO_HEADS + 1);
    tcase_add_loop_test(t, a_full_table_is_said_and_heard, 0, 2);
    tcase_add_loop_test(t, golden_messages_are_read_and_written_the_same, PROTO_HELLO, PROTO_HEADS + 1);
    tcase_add_loop_test(t, each_field_is_checked, 0, sizeof wrongs / sizeof wrongs[0]);
    tcase_add_test(t, an_unknown_type_is_of_another_protocol);
    tcase_add_loop_test(t, the_sender_hears_every_message_in_every_state, 0, SHIP_N_STATES * (PROTO_HEADS + 1));
    tcase_add_loop_test(t, the_receiver_hears_every_message_in_every_state, 0, RECEIVE_N_STATES * (PROTO_HEADS + 1));
    tcase_add_loop_test(t, a_standby_that_does_not_fit_is_refused_by_name, 0, sizeof meetings / sizeof meetings[0]);
    tcase_add_loop_test(t, a_sender_that_does_not_fit_is_refused_by_name, 0, 4);
    tcase_add_test(t, silence_ends_a_stream_and_sleep_does_not);
    suite_add_tcase(s, t);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
