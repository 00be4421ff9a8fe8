/*
 * record.c: a record's fixed head, sums and hash. The arguments are in
 * record_args.c, their bounds in record_check.c.
 */
#include "store/log/record_internal.h"
#include "store/log/frame.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static_assert(RH_HASH + sizeof(struct hash128) == REC_HEAD_BYTES, "fixed head");
static_assert(REC_DATA_MAX % REC_SUM_BYTES == 0, "whole blocks");

/* Heads up to this length are hashed in a copy on the stack. */
enum { HEAD_ON_STACK = 16384 };

uint32_t record_n_sums(uint32_t data_len)
{
    return data_len / REC_SUM_BYTES + (data_len % REC_SUM_BYTES != 0);
}

uint32_t record_dstart(uint32_t head_len)
{
    return FRAME_BYTES + head_len;
}

const char *record_type_name(unsigned type)
{
    switch (type) {
#define X(name, num) case (num): return #name;
    REC_TABLE(X)
#undef X
    default: return NULL;
    }
}

struct rec_piece rec_piece_get(const uint8_t *pieces, uint32_t i)
{
    const uint8_t *p = pieces + (size_t)i * REC_PIECE_BYTES;
    struct rec_piece piece = {
        .dst_off = get_u64(p), .lsn = get_u64(p + 8), .dstart = get_u32(p + 16),
        .doff = get_u32(p + 20), .len = get_u32(p + 24),
    };
    return piece;
}

void rec_piece_put(uint8_t *pieces, uint32_t i, const struct rec_piece *piece)
{
    uint8_t *p = pieces + (size_t)i * REC_PIECE_BYTES;

    put_u64(p, piece->dst_off);
    put_u64(p + 8, piece->lsn);
    put_u32(p + 16, piece->dstart);
    put_u32(p + 20, piece->doff);
    put_u32(p + 24, piece->len);
    put_u32(p + 28, 0);
}

uint32_t record_head_len(const struct record *rec)
{
    uint64_t args = record_args_len(rec);

    if (args > REC_ARGS_MAX || rec->data_len > REC_DATA_MAX)
        return UINT32_MAX;
    return REC_HEAD_BYTES + 8 * record_n_sums(rec->data_len) + (uint32_t)args;
}

int record_encode(struct record *rec, const uint64_t *sums, uint8_t *buf, size_t cap)
{
    uint32_t head_len = record_head_len(rec), n_sums;
    struct wr w = wr_init(buf, cap);

    if (head_len == UINT32_MAX)
        return record_args_len(rec) == UINT64_MAX ? ERR_INVAL : ERR_TOOLONG;
    if (record_check(rec) != NULL)
        return ERR_INVAL;
    if (head_len > cap)
        return ERR_TOOLONG;
    n_sums = record_n_sums(rec->data_len);
    wr_u16(&w, rec->type);
    wr_u16(&w, rec->flags);
    wr_u32(&w, head_len);
    wr_u32(&w, rec->data_len);
    wr_u32(&w, head_len - REC_HEAD_BYTES - 8 * n_sums);
    wr_u64(&w, rec->lsn);
    wr_u64(&w, rec->prev_lsn);
    wr_bytes(&w, rec->prev_hash.b, sizeof rec->prev_hash.b);
    wr_u32(&w, rec->epoch);
    wr_u32(&w, rec->uid);
    wr_u64(&w, rec->incarnation);
    wr_i64(&w, rec->wall_ns);
    wr_u64(&w, rec->boot_ns);
    wr_u32(&w, rec->gid);
    wr_u32(&w, rec->pid);
    wr_u64(&w, rec->unique);
    wr_u64(&w, rec->ino);
    wr_u64(&w, 0);
    wr_bytes(&w, rec->hash.b, sizeof rec->hash.b);
    for (uint32_t i = 0; i < n_sums; i++)
        wr_u64(&w, sums[i]);
    record_args_put(rec, &w);
    if (w.bad || w.len != head_len)
        return ERR_INVAL;
    rec->head_len = head_len;
    return (int)head_len;
}

void record_seal(uint8_t *buf, uint32_t head_len, struct record *rec)
{
    put_u64(buf + RH_LSN, rec->lsn);
    put_u64(buf + RH_PREV_LSN, rec->prev_lsn);
    memcpy(buf + RH_PREV_HASH, rec->prev_hash.b, sizeof rec->prev_hash.b);
    put_u32(buf + RH_EPOCH, rec->epoch);
    put_u64(buf + RH_INCARNATION, rec->incarnation);
    put_u64(buf + RH_WALL_NS, (uint64_t)rec->wall_ns);
    put_u64(buf + RH_BOOT_NS, rec->boot_ns);
    memset(buf + RH_HASH, 0, sizeof rec->hash.b);
    rec->hash = hash128(buf, head_len);
    memcpy(buf + RH_HASH, rec->hash.b, sizeof rec->hash.b);
}

void record_sums(const void *data, size_t len, uint64_t *sums)
{
    const uint8_t *p = data;

    for (size_t off = 0; off < len; off += REC_SUM_BYTES) {
        size_t n = len - off < REC_SUM_BYTES ? len - off : REC_SUM_BYTES;

        *sums++ = hash64(p + off, n);
    }
}

/* The hash of an encoded head, its own field taken as zero. */
static int head_hash(const uint8_t *buf, uint32_t head_len, struct hash128 *out)
{
    uint8_t stack[HEAD_ON_STACK], *copy = stack;

    if (head_len > sizeof stack && (copy = malloc(head_len)) == NULL)
        return ERR_NOMEM;
    memcpy(copy, buf, head_len);
    memset(copy + RH_HASH, 0, sizeof out->b);
    *out = hash128(copy, head_len);
    if (copy != stack)
        free(copy);
    return 0;
}

/* Everything of the fixed head that is not looked at for validity. */
static void decode_fixed(const uint8_t *buf, struct record *rec)
{
    rec->lsn = get_u64(buf + RH_LSN);
    rec->prev_lsn = get_u64(buf + RH_PREV_LSN);
    memcpy(rec->prev_hash.b, buf + RH_PREV_HASH, sizeof rec->prev_hash.b);
    rec->epoch = get_u32(buf + RH_EPOCH);
    rec->uid = get_u32(buf + RH_UID);
    rec->incarnation = get_u64(buf + RH_INCARNATION);
    rec->wall_ns = (int64_t)get_u64(buf + RH_WALL_NS);
    rec->boot_ns = get_u64(buf + RH_BOOT_NS);
    rec->gid = get_u32(buf + RH_GID);
    rec->pid = get_u32(buf + RH_PID);
    rec->unique = get_u64(buf + RH_UNIQUE);
    rec->ino = get_u64(buf + RH_INO);
    memcpy(rec->hash.b, buf + RH_HASH, sizeof rec->hash.b);
}

int record_decode_args(const uint8_t *args, size_t len, struct record *rec, struct err *err)
{
    struct rd rd = rd_init(args, len);
    const char *why = record_args_get(&rd, rec);

    if (why == NULL && !rd_done(&rd))
        why = rd.bad ? "arguments end too early" : "bytes behind the arguments";
    if (why == NULL)
        why = record_check(rec);
    if (why != NULL)
        return err_set(err, ERR_BADREC, "record of type %u: %s", rec->type, why);
    return 0;
}

int record_decode(const uint8_t *buf, size_t len, struct record *rec, struct err *err)
{
    struct record r;
    struct hash128 found;
    struct rd rd;
    uint32_t head_len, args_len, n_sums;
    int rc;

    if (len < REC_HEAD_BYTES)
        return err_set(err, ERR_TRUNCATED, "record of %zu bytes: shorter than a head", len);
    memset(&r, 0, sizeof r);
    rd = rd_init(buf, REC_HEAD_BYTES);
    r.type = rd_u16(&rd);
    r.flags = rd_u16(&rd);
    head_len = rd_u32(&rd);
    r.data_len = rd_u32(&rd);
    args_len = rd_u32(&rd);
    if (r.data_len > REC_DATA_MAX || args_len > REC_ARGS_MAX)
        return err_set(err, ERR_BADREC, "record lengths out of bounds: data %u, args %u",
                       r.data_len, args_len);
    n_sums = record_n_sums(r.data_len);
    if (head_len != REC_HEAD_BYTES + 8 * n_sums + args_len)
        return err_set(err, ERR_BADREC, "record head length: expected %u, found %u",
                       REC_HEAD_BYTES + 8 * n_sums + args_len, head_len);
    if (len < head_len)
        return err_set(err, ERR_TRUNCATED, "record head of %u bytes: only %zu are there", head_len, len);
    if (head_hash(buf, head_len, &found) != 0)
        return err_set(err, ERR_NOMEM, "record head of %u bytes: out of memory", head_len);
    decode_fixed(buf, &r);
    if (!hash128_eq(&found, &r.hash))
        return err_set(err, ERR_BADREC, "record hash: expected %016llx..., found %016llx...",
                       (unsigned long long)get_be64(r.hash.b), (unsigned long long)get_be64(found.b));
    if (get_u64(buf + RH_RESERVED) != 0)
        return err_set(err, ERR_BADREC, "record of type %u: reserved bytes are not zero", r.type);
    r.head_len = head_len;
    r.sums = n_sums > 0 ? buf + REC_HEAD_BYTES : NULL;
    rc = record_decode_args(buf + REC_HEAD_BYTES + 8 * (size_t)n_sums, args_len, &r, err);
    if (rc != 0)
        return rc;
    *rec = r;
    return 0;
}

int record_check_data(const struct record *rec, const uint8_t *data, uint32_t off, uint32_t len,
                      uint32_t *bad_off)
{
    assert(off % REC_SUM_BYTES == 0);
    assert(off <= rec->data_len && len <= rec->data_len - off);
    assert(len % REC_SUM_BYTES == 0 || off + len == rec->data_len);
    for (uint32_t at = 0; at < len; at += REC_SUM_BYTES) {
        uint32_t n = len - at < REC_SUM_BYTES ? len - at : REC_SUM_BYTES;

        if (hash64(data + at, n) != get_u64(rec->sums + 8 * (size_t)((off + at) / REC_SUM_BYTES))) {
            if (bad_off != NULL)
                *bad_off = off + at;
            return ERR_DAMAGE;
        }
    }
    return 0;
}
