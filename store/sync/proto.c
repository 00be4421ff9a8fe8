/* proto.c: see proto.h. */
#include "store/sync/proto.h"

#include "store/log/frame.h"
#include "store/log/record.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint32_t magic = 0x4d575053;      /* "SPWM" */

/* The fixed parts of bodies. */
enum { HELLO_FIXED = 104, MAKE_FIXED = 52 + EPOCH_ROW_BYTES + 4, RECORDS_FIXED = 24, ACK_BYTES = 24, BEAT_BYTES = 44, TELL_BYTES = 32, DATA_FIXED = 8, RECALL_BYTES = 8, HEADS_FIXED = 16, REFUSE_FIXED = 8 };
enum { LIST_FIXED = 16 + 32 + 4 + 8 + 16 + 4 + 4 + 4, LIST_FILE_FIXED = 4 + 8 + 16, WANT_FIXED = 4, FILE_FIXED = 8, RETAINED_FIXED = 4 };
enum { RECORDS_ZSTD = 1 };

const char *proto_name(unsigned type)
{
    switch (type) {
#define X(name, num) case num: return #name;
    PROTO_TABLE(X)
#undef X
    default: return "?";
    }
}

static bool none(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != 0)
            return false;
    return true;
}

static void get_bytes(struct rd *r, void *dst, size_t n)
{
    const uint8_t *p = rd_bytes(r, n);

    if (p)
        memcpy(dst, p, n);
}

static int bad(struct err *err, unsigned type, const char *what)
{
    return err_set(err, ERR_BADREC, "message %s: %s", proto_name(type), what);
}

int proto_begins(const uint8_t *buf, size_t n, struct err *err)
{
    static const char want[4] = { 'S', 'P', 'W', 'M' };
    char text[41];
    size_t k = 0;

    if (n == 0 || memcmp(buf, want, n < sizeof want ? n : sizeof want) == 0)
        return 0;
    for (; k < n && k + 1 < sizeof text && buf[k] != '\n' && buf[k] != '\0'; k++)
        text[k] = buf[k] >= 0x20 && buf[k] < 0x7f ? (char)buf[k] : '?';
    text[k] = '\0';
    return err_set(err, ERR_AWAY, "expected spare at the other end, found something that says \"%s\"; is it a login script that prints?", text);
}

int proto_head_decode(const uint8_t buf[PROTO_HEAD_BYTES], struct proto_head *h, struct err *err)
{
    struct rd r = rd_init(buf, PROTO_HEAD_BYTES);
    struct proto_head o;
    uint32_t m = rd_u32(&r), sum;
    uint16_t flags;

    o.type = rd_u16(&r);
    flags = rd_u16(&r);
    o.body = rd_u32(&r);
    o.epoch = rd_u32(&r);
    get_bytes(&r, o.epoch_id, 16);
    o.position = rd_u64(&r);
    o.body_sum = rd_u32(&r);
    sum = rd_u32(&r);
    if (m != magic)
        return proto_begins(buf, PROTO_HEAD_BYTES, err);
    if (sum != hash32(buf, PROTO_HEAD_BYTES - 4))
        return bad(err, o.type, "expected its head as it was sent, found another checksum");
    if (flags != 0 || o.body > PROTO_BODY_MAX)
        return bad(err, o.type, flags != 0 ? "flags that this protocol does not have" : "a body longer than a message may have");
    *h = o;
    return 0;
}

/* ---- bodies ---- */

static const char *hello_wrong(const struct proto_hello *h)
{
    if (h->lowest == 0 || h->lowest > h->highest)
        return "protocol versions that are no range";
    if (h->part != PROTO_SENDER && h->part != PROTO_RECEIVER)
        return "neither sender nor receiver";
    if (h->role == 0)
        return h->part != PROTO_RECEIVER || h->n_epochs != 0 || h->durable != 0 || h->whole != 0 || h->known != 0 || h->last_lsn != 0 || h->incarnation != 0 ||
               !none(h->lineage, 16) || !none(h->site, 16) || !none(h->last_hash.b, 16) ? "no store, and fields of one" : NULL;
    if (h->role > ROLE_FENCED)
        return "an unknown role";
    if (none(h->lineage, 16) || none(h->site, 16) || h->n_epochs == 0)
        return "no lineage, no site or no epoch";
    if (h->whole > h->durable)
        return "more that is whole than is held";
    if (h->last_lsn != 0 ? h->last_lsn >= h->durable : !none(h->last_hash.b, 16))
        return "a last record that is not below the end";
    for (uint32_t i = 0; i < h->n_epochs; i++) {
        const char *wrong = epoch_row_wrong(&h->epochs[i], i > 0 ? &h->epochs[i - 1] : NULL);
        if (wrong != NULL)
            return wrong;
    }
    if (h->known < h->epochs[h->n_epochs - 1].number)
        return "a number of an epoch that is held and not known";
    return h->role != ROLE_STANDBY && memcmp(h->epochs[h->n_epochs - 1].lineage, h->lineage, 16) != 0 ? "its newest epoch is of another lineage" : NULL;
}

static int get_hello(struct rd *r, struct proto_hello *h, struct err *err)
{
    const char *wrong;

    h->lowest = rd_u32(r);
    h->highest = rd_u32(r);
    get_bytes(r, h->lineage, 16);
    get_bytes(r, h->site, 16);
    h->role = rd_u32(r);
    h->n_epochs = rd_u32(r);
    h->incarnation = rd_u64(r);
    h->durable = rd_u64(r);
    h->last_lsn = rd_u64(r);
    get_bytes(r, h->last_hash.b, 16);
    h->part = rd_u32(r);
    h->known = rd_u32(r);
    h->whole = rd_u64(r);
    if (h->n_epochs > SUPER_EPOCHS_MAX)
        return bad(err, PROTO_HELLO, "more epochs than a store has");
    for (uint32_t i = 0; i < h->n_epochs; i++)
        epoch_row_get(r, &h->epochs[i]);
    if (!rd_done(r))
        return bad(err, PROTO_HELLO, "its length");
    wrong = hello_wrong(h);
    return wrong != NULL ? bad(err, PROTO_HELLO, wrong) : 0;
}

static void put_hello(struct wr *w, const struct proto_hello *h)
{
    wr_u32(w, h->lowest);
    wr_u32(w, h->highest);
    wr_bytes(w, h->lineage, 16);
    wr_bytes(w, h->site, 16);
    wr_u32(w, h->role);
    wr_u32(w, h->n_epochs);
    wr_u64(w, h->incarnation);
    wr_u64(w, h->durable);
    wr_u64(w, h->last_lsn);
    wr_bytes(w, h->last_hash.b, 16);
    wr_u32(w, h->part);
    wr_u32(w, h->known);
    wr_u64(w, h->whole);
    for (uint32_t i = 0; i < h->n_epochs && i < SUPER_EPOCHS_MAX; i++)
        epoch_row_put(w, &h->epochs[i]);
}

/* A text of a length before it, without control characters. */
static bool get_text(struct rd *r, char *buf, size_t max)
{
    uint32_t n = rd_u32(r);
    const uint8_t *p = n <= max ? rd_bytes(r, n) : NULL;

    if (p == NULL)
        return false;
    for (uint32_t i = 0; i < n; i++)
        if (p[i] < 0x20 || p[i] == 0x7f || (p[i] == 0xc2 && i + 1 < n && p[i + 1] < 0xa0))      /* what a terminal would obey */
            return false;
    memcpy(buf, p, n);
    buf[n] = '\0';
    return true;
}

static void put_text(struct wr *w, const char *s)
{
    wr_u32(w, (uint32_t)strlen(s));
    wr_bytes(w, s, strlen(s));
}

static int get_make(struct rd *r, struct proto_make *k, struct err *err)
{
    const char *wrong;

    get_bytes(r, k->lineage, 16);
    get_bytes(r, k->key, 32);
    k->key_id = rd_u32(r);
    epoch_row_get(r, &k->epoch);
    if (!get_text(r, k->timezone, PROTO_ZONE_MAX) || !rd_done(r))
        return bad(err, PROTO_MAKE, "its length, or a name of a time zone that is none");
    wrong = none(k->lineage, 16) ? "no lineage" : k->epoch.number > INT32_MAX ? "an epoch after which there is none" : epoch_row_wrong(&k->epoch, NULL);
    return wrong != NULL ? bad(err, PROTO_MAKE, wrong) : 0;
}

/* ---- files ---- */

static bool get_list_file(struct rd *r, struct proto_list_file *f)
{
    if (!get_text(r, f->name, PROTO_FILE_NAME_MAX) || f->name[0] == '\0')
        return false;
    f->size = rd_u64(r);
    get_bytes(r, f->hash.b, 16);
    return !r->bad && f->size > 0 && f->size <= INT64_MAX;
}

bool proto_list_next(const struct proto_list *l, uint32_t *pos, struct proto_list_file *out)
{
    struct rd r = rd_init(l->p + *pos, l->len - *pos);

    if (*pos == l->len || !get_list_file(&r, out))
        return false;
    *pos = l->len - (uint32_t)r.left;
    return true;
}

size_t proto_list_put(uint8_t *buf, size_t cap, const struct proto_list_file *f)
{
    struct wr w = wr_init(buf, cap);

    put_text(&w, f->name);
    wr_u64(&w, f->size);
    wr_bytes(&w, f->hash.b, 16);
    return w.bad ? 0 : w.len;
}

uint32_t proto_want_at(const struct proto_want *w, uint32_t i, uint64_t *from)
{
    const uint8_t *p = w->p + PROTO_WANT_BYTES * (size_t)i;

    *from = get_u64(p + 4);
    return get_u32(p);
}

void proto_want_put(uint8_t *p, uint32_t index, uint64_t from)
{
    put_u32(p, index);
    put_u64(p + 4, from);
}

static const char *list_wrong(const struct proto_list *k, uint64_t position)
{
    if (none(k->lineage, 16) || k->last_lsn == 0 || k->last_lsn >= position || position % FRAME_ALIGN != 0)
        return "no lineage, or an address that cannot be";
    for (uint32_t i = 0; i < k->n_epochs; i++) {
        const char *wrong = epoch_row_wrong(&k->epochs[i], i > 0 ? &k->epochs[i - 1] : NULL);

        if (wrong != NULL)
            return wrong;
    }
    if (k->epochs[k->n_epochs - 1].number > INT32_MAX)
        return "an epoch after which there is none";
    if (k->epochs[k->n_epochs - 1].first_lsn >= position)
        return "its newest epoch begins behind what there is";
    return NULL;
}

static int get_list(struct rd *r, uint64_t position, struct proto_list *k, struct err *err)
{
    struct proto_list_file f;
    const char *wrong;

    get_bytes(r, k->lineage, 16);
    get_bytes(r, k->key, 32);
    k->key_id = rd_u32(r);
    k->last_lsn = rd_u64(r);
    get_bytes(r, k->last_hash.b, 16);
    k->n_epochs = rd_u32(r);
    if (k->n_epochs == 0 || k->n_epochs > SUPER_EPOCHS_MAX - SUPER_EPOCHS_KEPT)
        return bad(err, PROTO_LIST, "no epochs, or so many that a store could not go on");
    for (uint32_t i = 0; i < k->n_epochs; i++)
        epoch_row_get(r, &k->epochs[i]);
    if (!get_text(r, k->timezone, PROTO_ZONE_MAX))
        return bad(err, PROTO_LIST, "a name of a time zone that is none");
    k->n = rd_u32(r);
    k->len = r->bad ? 0 : (uint32_t)r->left;
    k->p = rd_bytes(r, k->len);
    if (!rd_done(r) || k->n == 0 || k->n > PROTO_FILES_MAX)
        return bad(err, PROTO_LIST, "its length, or a number of files that cannot be");
    struct rd files = rd_init(k->p, k->len);
    for (uint32_t i = 0; i < k->n; i++)
        if (!get_list_file(&files, &f))
            return bad(err, PROTO_LIST, "a file without name or size");
    if (!rd_done(&files))
        return bad(err, PROTO_LIST, "bytes behind its last file");
    wrong = list_wrong(k, position);
    return wrong != NULL ? bad(err, PROTO_LIST, wrong) : 0;
}

static int get_want(struct rd *r, struct proto_want *k, struct err *err)
{
    k->n = rd_u32(r);
    k->p = k->n <= PROTO_FILES_MAX ? rd_bytes(r, PROTO_WANT_BYTES * (size_t)k->n) : NULL;
    if (!rd_done(r) || k->p == NULL)
        return bad(err, PROTO_WANT, "its length");
    for (uint32_t i = 0, last = 0; i < k->n; i++) {
        uint64_t from;
        uint32_t index = proto_want_at(k, i, &from);

        if ((i > 0 && index <= last) || from > INT64_MAX)
            return bad(err, PROTO_WANT, "numbers that do not rise, or a place that cannot be");
        last = index;
    }
    return 0;
}

static int get_file(struct rd *r, uint64_t position, struct proto_file *k, struct err *err)
{
    k->index = rd_u32(r);
    k->len = rd_u32(r);
    k->p = rd_bytes(r, k->len);
    if (!rd_done(r) || k->len == 0 || k->len > PROTO_FILE_BYTES || k->index >= PROTO_FILES_MAX || position > (uint64_t)INT64_MAX - k->len)
        return bad(err, PROTO_FILE, "its length, or a place that cannot be");
    return 0;
}

static int get_retained(struct rd *r, struct proto_retained *k, struct err *err)
{
    k->len = rd_u32(r);
    k->p = rd_bytes(r, k->len);
    return rd_done(r) && k->len > 0 && k->len <= RETAINED_FILE_MAX ? 0 : bad(err, PROTO_RETAINED, "its length");
}

static int get_records(struct rd *r, uint64_t position, struct proto_records *k, struct err *err)
{
    uint32_t how;

    k->n = rd_u32(r);
    k->bytes = rd_u32(r);
    k->end = rd_u64(r);
    how = rd_u32(r);
    k->len = rd_u32(r);
    k->compressed = how == RECORDS_ZSTD;
    k->p = rd_bytes(r, k->len);
    if (!rd_done(r) || how > RECORDS_ZSTD)
        return bad(err, PROTO_RECORDS, "its length, or a way of compression that this protocol does not have");
    if (k->n == 0 || k->bytes < REC_HEAD_BYTES || k->bytes > REC_HEAD_MAX + REC_DATA_MAX || (!k->compressed && k->len != k->bytes) ||
        k->end <= position || k->end % FRAME_ALIGN != 0 || position % FRAME_ALIGN != 0)
        return bad(err, PROTO_RECORDS, "a number of records, bytes or an address that cannot be");
    return 0;
}

static int get_ack(struct rd *r, uint64_t position, struct proto_ack *a, struct err *err)
{
    a->durable = rd_u64(r);
    a->applied = rd_u64(r);
    a->beat = rd_u64(r);
    if (!rd_done(r) || a->durable > position || a->applied > position)
        return bad(err, PROTO_ACK, "its length, or more durable or applied than received");
    return 0;
}

static int get_beat(struct rd *r, uint64_t position, struct proto_beat *b, struct err *err)
{
    b->number = rd_u64(r);
    b->wall_ns = rd_i64(r);
    b->head = rd_u64(r);
    b->lease.ms = rd_u32(r);
    get_bytes(r, b->lease.site, 16);
    if (!rd_done(r) || b->number == 0 || b->head < position || b->lease.ms > LEASE_MOST_MS || (b->lease.ms == 0 && !none(b->lease.site, 16)))
        return bad(err, PROTO_BEAT, "its length, no number, an end below what is durable, or a lease that cannot be");
    return 0;
}

static int get_tell(struct rd *r, uint64_t position, struct proto_tell *t, struct err *err)
{
    t->lsn = rd_u64(r);
    t->end = rd_u64(r);
    get_bytes(r, t->hash.b, 16);
    if (!rd_done(r) || t->end > position || (t->lsn != 0 ? t->end <= t->lsn || t->end % FRAME_ALIGN != 0 : t->end != 0 || !none(t->hash.b, 16)))
        return bad(err, PROTO_TELL, "its length, or a record that is not below the address asked for");
    return 0;
}

/* ---- parts of data ---- */

void proto_part_put(uint8_t *p, const struct proto_data_part *k)
{
    put_u64(p, k->lsn);
    put_u32(p + 8, k->dstart);
    put_u32(p + 12, k->doff);
    put_u32(p + 16, k->len);
}

void proto_part_get(const uint8_t *p, uint32_t i, struct proto_data_part *out)
{
    p += PROTO_PART_BYTES * (size_t)i;
    *out = (struct proto_data_part){ .lsn = get_u64(p), .dstart = get_u32(p + 8), .doff = get_u32(p + 12), .len = get_u32(p + 16) };
}

void proto_data_put(uint8_t *p, const struct proto_data_part *k)
{
    proto_part_put(p, k);
    put_u32(p + 20, k->had ? 1 : 0);
    put_u64(p + 24, k->ino);
    put_u64(p + 32, k->off);
}

void proto_data_get(const uint8_t *p, uint32_t i, struct proto_data_part *out)
{
    p += PROTO_DATA_PART_BYTES * (size_t)i;
    proto_part_get(p, 0, out);
    out->had = get_u32(p + 20) != 0;
    out->ino = get_u64(p + 24);
    out->off = get_u64(p + 32);
}

bool proto_answers(const struct proto_fetch *f, const struct proto_data *d)
{
    struct proto_data_part a, b;
    bool same = d->n == f->n;

    for (uint32_t i = 0; same && i < d->n; i++) {
        proto_part_get(f->p, i, &a);
        proto_data_get(d->p, i, &b);
        same = a.lsn == b.lsn && a.dstart == b.dstart && a.doff == b.doff && a.len == b.len;
    }
    return same;
}

static bool part_fits(const struct proto_data_part *k)
{
    return k->lsn != 0 && k->lsn % FRAME_ALIGN == 0 && k->lsn <= INT64_MAX && k->len > 0 && k->len <= PROTO_PART_MAX && k->doff <= REC_DATA_MAX &&
           k->len <= REC_DATA_MAX - k->doff && (k->dstart == 0 || k->dstart >= record_dstart(REC_HEAD_BYTES)) && k->dstart <= REC_HEAD_MAX + FRAME_BYTES;
}

static int get_fetch(struct rd *r, struct proto_fetch *f, struct err *err)
{
    struct proto_data_part k;
    uint64_t bytes = 0;

    f->n = rd_u32(r);
    f->p = f->n > 0 && f->n <= PROTO_PARTS_MAX ? rd_bytes(r, PROTO_PART_BYTES * (size_t)f->n) : NULL;
    if (f->p == NULL || !rd_done(r))
        return bad(err, PROTO_FETCH, "its length, or the number of its parts");
    for (uint32_t i = 0; i < f->n; i++) {
        proto_part_get(f->p, i, &k);
        bytes += k.len;
        if (!part_fits(&k) || bytes > PROTO_DATA_MAX)
            return bad(err, PROTO_FETCH, "a part of data that cannot be, or too many bytes");
    }
    return 0;
}

static int get_data(struct rd *r, struct proto_data *d, struct err *err)
{
    struct proto_data_part k;
    uint64_t bytes = 0;

    d->n = rd_u32(r);
    d->bytes = rd_u32(r);
    d->p = d->n > 0 && d->n <= PROTO_PARTS_MAX ? rd_bytes(r, PROTO_DATA_PART_BYTES * (size_t)d->n) : NULL;
    d->data = d->p != NULL ? rd_bytes(r, d->bytes) : NULL;
    if (d->data == NULL || !rd_done(r))
        return bad(err, PROTO_DATA, "its length, or the number of its parts");
    for (uint32_t i = 0; i < d->n; i++) {
        const uint8_t *flags = d->p + PROTO_DATA_PART_BYTES * (size_t)i + 20;

        proto_data_get(d->p, i, &k);
        bytes += k.had ? k.len : 0;
        if (!part_fits(&k) || get_u32(flags) > 1 || (!k.had && (k.ino != 0 || k.off != 0)))
            return bad(err, PROTO_DATA, "a part of data that cannot be");
    }
    return bytes == d->bytes ? 0 : bad(err, PROTO_DATA, "another number of bytes than its parts have");
}

static int get_recall(struct rd *r, uint64_t position, struct proto_recall *k, struct err *err)
{
    k->until = rd_u64(r);
    if (!rd_done(r) || position == 0 || position % FRAME_ALIGN != 0 || k->until <= position || k->until > INT64_MAX || k->until % FRAME_ALIGN != 0)
        return bad(err, PROTO_RECALL, "its length, or addresses that cannot be");
    return 0;
}

/* (Each head is checked by whoever asked for it.) */
static int get_heads(struct rd *r, uint64_t position, struct proto_heads *k, struct err *err)
{
    k->end = rd_u64(r);
    k->n = rd_u32(r);
    k->bytes = rd_u32(r);
    k->p = rd_bytes(r, k->bytes);
    if (!rd_done(r) || k->bytes > PROTO_HEADS_MAX)
        return bad(err, PROTO_HEADS, "its length");
    if (k->end > INT64_MAX || k->end % FRAME_ALIGN != 0 || (k->n == 0 ? k->bytes != 0 || k->end != position : k->end <= position || k->bytes / k->n < REC_HEAD_BYTES))
        return bad(err, PROTO_HEADS, "a number of records, bytes or an address that cannot be");
    return 0;
}

static int get_refuse(struct rd *r, struct proto_refuse *f, struct err *err)
{
    uint32_t code = rd_u32(r);

    if (!get_text(r, f->text, PROTO_TEXT_MAX) || !rd_done(r) || code == 0)
        return bad(err, PROTO_REFUSE, "its length, no code, or a text that is none");
    f->code = code <= INT32_MAX && strcmp(err_name(-(int)code), "?") != 0 ? -(int)code : ERR_UNKNOWN;
    return 0;
}

/* Of the bodies without rows. */
enum { SMALL_BYTES = sizeof(struct proto_make) > sizeof(struct proto_refuse) ? sizeof(struct proto_make) : sizeof(struct proto_refuse) };
static_assert(sizeof(struct proto_records) <= SMALL_BYTES && sizeof(struct proto_want) <= SMALL_BYTES && sizeof(struct proto_file) <= SMALL_BYTES &&
              sizeof(struct proto_retained) <= SMALL_BYTES && sizeof(struct proto_ack) <= SMALL_BYTES && sizeof(struct proto_beat) <= SMALL_BYTES &&
              sizeof(struct proto_tell) <= SMALL_BYTES && sizeof(struct proto_fetch) <= SMALL_BYTES && sizeof(struct proto_data) <= SMALL_BYTES &&
              sizeof(struct proto_recall) <= SMALL_BYTES && sizeof(struct proto_heads) <= SMALL_BYTES, "small");

/* What a message takes of its struct, up to its rows: room for all that a table may have is 80 KiB, and an ACK comes for each fsync. */
static size_t fixed_bytes(uint16_t type)
{
    if (type == PROTO_HELLO)
        return offsetof(struct proto_msg, u.hello.epochs);
    return type == PROTO_LIST ? offsetof(struct proto_msg, u.list.epochs) : offsetof(struct proto_msg, u) + SMALL_BYTES;
}

static size_t rows_bytes(const struct proto_msg *m)
{
    return (m->type == PROTO_HELLO ? m->u.hello.n_epochs : m->type == PROTO_LIST ? m->u.list.n_epochs : 0) * sizeof(struct epoch_row);
}

void proto_begin(struct proto_msg *m, uint16_t type)
{
    memset(m, 0, fixed_bytes(type));
    m->type = type;
}

int proto_decode(const struct proto_head *h, const uint8_t *body, struct proto_msg *m, struct err *err)
{
    struct rd r = rd_init(body, h->body);
    struct proto_msg *o;
    size_t size = fixed_bytes(h->type);
    int rc;

    if (hash32(body, h->body) != h->body_sum)
        return bad(err, h->type, "expected its body as it was sent, found another checksum");
    o = malloc(sizeof *o);
    if (o == NULL)
        return err_set(err, ERR_NOMEM, "message %s: out of memory", proto_name(h->type));
    memset(o, 0, size);
    o->type = h->type;
    o->epoch = h->epoch;
    memcpy(o->epoch_id, h->epoch_id, 16);
    o->position = h->position;
    switch (h->type) {
    case PROTO_HELLO:   rc = get_hello(&r, &o->u.hello, err); break;
    case PROTO_REFUSE:  rc = get_refuse(&r, &o->u.refuse, err); break;
    case PROTO_MAKE:    rc = get_make(&r, &o->u.make, err); break;
    case PROTO_START:   rc = rd_done(&r) ? 0 : bad(err, PROTO_START, "its length"); break;
    case PROTO_RECORDS: rc = get_records(&r, h->position, &o->u.records, err); break;
    case PROTO_ACK:     rc = get_ack(&r, h->position, &o->u.ack, err); break;
    case PROTO_BEAT:    rc = get_beat(&r, h->position, &o->u.beat, err); break;
    case PROTO_LIST:    rc = get_list(&r, h->position, &o->u.list, err); break;
    case PROTO_WANT:    rc = get_want(&r, &o->u.want, err); break;
    case PROTO_FILE:    rc = get_file(&r, h->position, &o->u.file, err); break;
    case PROTO_RETAINED: rc = get_retained(&r, &o->u.retained, err); break;
    case PROTO_BOOT:    rc = rd_done(&r) ? 0 : bad(err, PROTO_BOOT, "its length"); break;
    case PROTO_ASK:     rc = rd_done(&r) ? 0 : bad(err, PROTO_ASK, "its length"); break;
    case PROTO_TELL:    rc = get_tell(&r, h->position, &o->u.tell, err); break;
    case PROTO_FETCH:   rc = get_fetch(&r, &o->u.fetch, err); break;
    case PROTO_DATA:    rc = get_data(&r, &o->u.data, err); break;
    case PROTO_RECALL:  rc = get_recall(&r, h->position, &o->u.recall, err); break;
    case PROTO_HEADS:   rc = get_heads(&r, h->position, &o->u.heads, err); break;
    default:
        rc = err_set(err, ERR_PEERVER, "expected a message of protocol %d, found type %u", PROTO_HIGHEST, h->type);
    }
    if (rc == 0)
        memcpy(m, o, size + rows_bytes(o));
    free(o);
    return rc;
}

static size_t body_bound(const struct proto_msg *m)
{
    switch (m->type) {
    case PROTO_HELLO:   return HELLO_FIXED + (size_t)m->u.hello.n_epochs * EPOCH_ROW_BYTES;
    case PROTO_REFUSE:  return REFUSE_FIXED + strlen(m->u.refuse.text);
    case PROTO_MAKE:    return MAKE_FIXED + strlen(m->u.make.timezone);
    case PROTO_RECORDS: return RECORDS_FIXED + (size_t)m->u.records.len;
    case PROTO_ACK:     return ACK_BYTES;
    case PROTO_BEAT:    return BEAT_BYTES;
    case PROTO_TELL:    return TELL_BYTES;
    case PROTO_FETCH:   return 4 + PROTO_PART_BYTES * (size_t)m->u.fetch.n;
    case PROTO_DATA:    return DATA_FIXED + PROTO_DATA_PART_BYTES * (size_t)m->u.data.n + m->u.data.bytes;
    case PROTO_RECALL:  return RECALL_BYTES;
    case PROTO_HEADS:   return HEADS_FIXED + (size_t)m->u.heads.bytes;
    case PROTO_LIST:    return LIST_FIXED + (size_t)m->u.list.n_epochs * EPOCH_ROW_BYTES + strlen(m->u.list.timezone) + m->u.list.len;
    case PROTO_WANT:    return WANT_FIXED + PROTO_WANT_BYTES * (size_t)m->u.want.n;
    case PROTO_FILE:    return FILE_FIXED + (size_t)m->u.file.len;
    case PROTO_RETAINED: return RETAINED_FIXED + (size_t)m->u.retained.len;
    default:            return 0;
    }
}

size_t proto_bound(const struct proto_msg *m)
{
    return PROTO_HEAD_BYTES + body_bound(m);
}

static void put_body(struct wr *w, const struct proto_msg *m)
{
    switch (m->type) {
    case PROTO_HELLO:
        put_hello(w, &m->u.hello);
        break;
    case PROTO_REFUSE:
        wr_u32(w, (uint32_t)-m->u.refuse.code);
        put_text(w, m->u.refuse.text);
        break;
    case PROTO_MAKE:
        wr_bytes(w, m->u.make.lineage, 16);
        wr_bytes(w, m->u.make.key, 32);
        wr_u32(w, m->u.make.key_id);
        epoch_row_put(w, &m->u.make.epoch);
        put_text(w, m->u.make.timezone);
        break;
    case PROTO_RECORDS:
        wr_u32(w, m->u.records.n);
        wr_u32(w, m->u.records.bytes);
        wr_u64(w, m->u.records.end);
        wr_u32(w, m->u.records.compressed ? RECORDS_ZSTD : 0);
        wr_u32(w, m->u.records.len);
        wr_bytes(w, m->u.records.p, m->u.records.len);
        break;
    case PROTO_LIST:
        wr_bytes(w, m->u.list.lineage, 16);
        wr_bytes(w, m->u.list.key, 32);
        wr_u32(w, m->u.list.key_id);
        wr_u64(w, m->u.list.last_lsn);
        wr_bytes(w, m->u.list.last_hash.b, 16);
        wr_u32(w, m->u.list.n_epochs);
        for (uint32_t i = 0; i < m->u.list.n_epochs && i < SUPER_EPOCHS_MAX; i++)
            epoch_row_put(w, &m->u.list.epochs[i]);
        put_text(w, m->u.list.timezone);
        wr_u32(w, m->u.list.n);
        wr_bytes(w, m->u.list.p, m->u.list.len);
        break;
    case PROTO_WANT:
        wr_u32(w, m->u.want.n);
        wr_bytes(w, m->u.want.p, PROTO_WANT_BYTES * (size_t)m->u.want.n);
        break;
    case PROTO_FILE:
        wr_u32(w, m->u.file.index);
        wr_u32(w, m->u.file.len);
        wr_bytes(w, m->u.file.p, m->u.file.len);
        break;
    case PROTO_RETAINED:
        wr_u32(w, m->u.retained.len);
        wr_bytes(w, m->u.retained.p, m->u.retained.len);
        break;
    case PROTO_ACK:
        wr_u64(w, m->u.ack.durable);
        wr_u64(w, m->u.ack.applied);
        wr_u64(w, m->u.ack.beat);
        break;
    case PROTO_BEAT:
        wr_u64(w, m->u.beat.number);
        wr_i64(w, m->u.beat.wall_ns);
        wr_u64(w, m->u.beat.head);
        wr_u32(w, m->u.beat.lease.ms);
        wr_bytes(w, m->u.beat.lease.site, 16);
        break;
    case PROTO_TELL:
        wr_u64(w, m->u.tell.lsn);
        wr_u64(w, m->u.tell.end);
        wr_bytes(w, m->u.tell.hash.b, 16);
        break;
    case PROTO_FETCH:
        wr_u32(w, m->u.fetch.n);
        wr_bytes(w, m->u.fetch.p, PROTO_PART_BYTES * (size_t)m->u.fetch.n);
        break;
    case PROTO_DATA:
        wr_u32(w, m->u.data.n);
        wr_u32(w, m->u.data.bytes);
        wr_bytes(w, m->u.data.p, PROTO_DATA_PART_BYTES * (size_t)m->u.data.n);
        wr_bytes(w, m->u.data.data, m->u.data.bytes);
        break;
    case PROTO_RECALL:
        wr_u64(w, m->u.recall.until);
        break;
    case PROTO_HEADS:
        wr_u64(w, m->u.heads.end);
        wr_u32(w, m->u.heads.n);
        wr_u32(w, m->u.heads.bytes);
        wr_bytes(w, m->u.heads.p, m->u.heads.bytes);
        break;
    default:
        break;
    }
}

size_t proto_encode(const struct proto_msg *m, uint8_t *buf, size_t cap)
{
    struct wr w, b;

    if (cap < PROTO_HEAD_BYTES)
        return 0;
    b = wr_init(buf + PROTO_HEAD_BYTES, cap - PROTO_HEAD_BYTES);
    put_body(&b, m);
    if (b.bad || b.len > PROTO_BODY_MAX)
        return 0;
    w = wr_init(buf, PROTO_HEAD_BYTES);
    wr_u32(&w, magic);
    wr_u16(&w, m->type);
    wr_u16(&w, 0);
    wr_u32(&w, (uint32_t)b.len);
    wr_u32(&w, m->epoch);
    wr_bytes(&w, m->epoch_id, 16);
    wr_u64(&w, m->position);
    wr_u32(&w, hash32(buf + PROTO_HEAD_BYTES, b.len));
    wr_u32(&w, hash32(buf, PROTO_HEAD_BYTES - 4));
    return PROTO_HEAD_BYTES + b.len;
}
