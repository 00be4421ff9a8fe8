/*
 * fuzz_rows: decoders of the index rows. The first byte chooses one; what it
 * accepts must encode to the same bytes, since each row has one encoding.
 */
#include "store/index/rows.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(const uint8_t *a, size_t alen, const uint8_t *b, size_t blen)
{
    if (alen != blen || memcmp(a, b, alen) != 0)
        abort();
}

static void fuzz_map(const uint8_t *p, size_t len)
{
    struct row_map m;
    uint8_t *buf;
    size_t cap;

    if (row_map_decode(p, len, &m, NULL))
        return;
    cap = row_map_bound(m.n + m.n_image);
    buf = malloc(cap);
    if (buf)
        same(p, len, buf, row_map_encode(&m, buf, cap));
    free(buf);
    free(m.piece);
}

/* A key that can be taken apart is the one its parts make. */
static void fuzz_key(const uint8_t *p, size_t len)
{
    struct key_parts o;
    uint8_t k[KV_KEY_MAX];
    char name[REC_NAME_MAX + 1];
    struct hash128 hash = { { 0 } };
    size_t n = 0;

    if (!key_parse(p, len, &o))
        return;
    switch (o.table) {
    case 'i': n = key_ino(k, o.ino); break;
    case 'I': n = key_ino_h(k, o.ino, o.death); break;
    case 'd': n = key_den(k, o.parent, o.name, o.name_len); break;
    case 'D': n = key_den_h(k, o.parent, o.name, o.name_len, o.death); break;
    case 'x': n = key_dix(k, o.parent, o.cookie); break;
    case 'X': n = key_dix_h(k, o.parent, o.death, o.cookie); break;
    case 'p': n = key_par(k, o.ino, o.parent, o.name, o.name_len); break;
    case 'P': n = key_par_h(k, o.ino, o.parent, o.name, o.name_len, o.death); break;
    case 'm': n = key_map(k, o.ino, o.mapgen, o.block); break;
    case 'M': n = key_map_h(k, o.ino, o.mapgen, o.block, o.death); break;
    case 'a': n = key_xat(k, o.ino, o.name, o.name_len); break;
    case 'A': n = key_xat_h(k, o.ino, o.name, o.name_len, o.death); break;
    case 'o': n = key_orphan(k, o.ino); break;
    case 't': n = key_time(k, o.run, o.wall_ns); break;
    case 'r': n = key_run(k, o.run); break;
    case 's': n = key_snap(k, o.name, o.name_len); break;
    case 'w': n = key_clock(k, o.lsn); break;
    case 'e': n = key_series(k, o.begin); break;
    case 'h': put_be64(hash.b, o.place); n = key_chunk(k, &hash); break;
    case 'n': n = key_place(k, o.place); break;
    case '!':
        memcpy(name, o.name, o.name_len);
        name[o.name_len] = 0;
        n = key_meta(k, name);
        break;
    default:
        abort();
    }
    same(p, len, k, n);
}

static void fuzz_texts(unsigned which, const uint8_t *p, size_t len)
{
    static uint8_t buf[3 * 65536];
    struct row_ino ino;
    struct row_snap snap;
    const uint8_t *t;
    uint64_t birth;
    size_t tlen;

    if (which == 0 && row_ino_decode(p, len, &ino, &t, NULL) == 0)
        same(p, len, buf, row_ino_encode(&ino, t, buf, ROW_INO_MAX));
    if (which == 1 && row_snap_decode(p, len, &snap, NULL) == 0)
        same(p, len, buf, row_snap_encode(&snap, buf, (size_t)64 + snap.reason_len + snap.person_len));
    if (which == 2 && row_xat_decode(p, len, &birth, &t, &tlen, NULL) == 0)
        same(p, len, buf, row_xat_encode(birth, t, tlen, buf, tlen + 16));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t buf[ROW_SMALL_MAX];
    struct row_den den;
    struct row_dix dix;
    struct row_run run;
    struct row_time time;
    struct row_par par;
    struct row_meta meta;
    uint64_t v;
    const uint8_t *p = data + 1;
    size_t len = size - 1;

    if (size == 0)
        return 0;
    switch (data[0] % 9) {
    case 0: case 1: case 2:
        fuzz_texts(data[0] % 9, p, len);
        break;
    case 3:
        fuzz_map(p, len);
        break;
    case 4:
        fuzz_key(p, len);
        break;
    case 5:
        if (row_den_decode(p, len, &den, NULL) == 0)
            same(p, len, buf, row_den_encode(&den, buf, sizeof buf));
        break;
    case 6:
        if (row_dix_decode(p, len, &dix, NULL) == 0)
            same(p, len, buf, row_dix_encode(&dix, buf, sizeof buf));
        break;
    case 7:
        if (row_run_decode(p, len, &run, NULL) == 0)
            same(p, len, buf, row_run_encode(&run, buf, sizeof buf));
        if (row_u64_decode(p, len, &v, NULL) == 0)
            same(p, len, buf, row_u64_encode(v, buf, sizeof buf));
        if (row_par_decode(p, len, &par, NULL) == 0)
            same(p, len, buf, row_par_encode(&par, buf, sizeof buf));
        if (row_time_decode(p, len, &time, NULL) == 0)
            same(p, len, buf, row_time_encode(&time, buf, sizeof buf));
        break;
    default:
        if (row_meta_decode(p, len, &meta, NULL) == 0)
            same(p, len, buf, row_meta_encode(&meta, buf, sizeof buf));
        break;
    }
    return 0;
}
