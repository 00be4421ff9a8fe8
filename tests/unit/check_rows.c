/*
 * check_rows: keys and values of the index rows.
 */
#include "store/index/rows.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { ROUNDS = 500 };

static uint64_t seed;

static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* Of any magnitude, at most ${max}. */
static uint64_t rnd_upto(uint64_t max)
{
    uint64_t v = rnd() >> (rnd() % 64);

    return max == UINT64_MAX ? v : v % (max + 1);
}

static struct rec_time rnd_time(const struct rec_time *like)
{
    struct rec_time t = { (int64_t)rnd_upto(UINT64_MAX), (uint32_t)rnd_upto(999999999) };

    if (like && rnd() % 2)
        return *like;
    if (rnd() % 2)
        t.sec = -t.sec;
    return t;
}

static const uint32_t types[] = { S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK };

static void rnd_ino(struct row_ino *r, uint8_t *target)
{
    memset(r, 0, sizeof *r);
    r->birth = rnd_upto(UINT64_MAX);
    r->created = rnd() % 2 ? r->birth : rnd_upto(r->birth);
    r->content = rnd() % 2 ? r->birth : rnd_upto(r->birth);
    r->mapgen = rnd() % 2 ? r->created : rnd_upto(r->birth);
    r->origin = rnd() % 2 ? 0 : rnd_upto(r->birth - (r->birth > 0));
    r->size = rnd_upto(FILE_SIZE_MAX);
    r->blocks = rnd() % 2 ? r->size : rnd_upto(FILE_SIZE_MAX);
    r->btime = rnd_time(NULL);
    r->ctime = rnd_time(&r->btime);
    r->mtime = rnd_time(&r->ctime);
    r->atime = rnd_time(&r->mtime);
    r->mode = types[rnd() % 7] | (uint32_t)(rnd() % 010000);
    r->uid = (uint32_t)rnd_upto(UINT32_MAX);
    r->gid = (uint32_t)rnd_upto(UINT32_MAX);
    r->rdev = (uint32_t)rnd_upto(UINT32_MAX);
    r->nlink = (uint32_t)rnd_upto(UINT32_MAX);
    r->n_xattr = (uint32_t)rnd_upto(3);
    r->flags = (uint32_t)rnd_upto(7) & (S_ISDIR(r->mode) ? 7u : 5u);
    r->hidden = rnd() % 2 ? 0 : rnd() % 2 ? r->created : r->created + rnd_upto(r->birth - r->created);
    if (S_ISDIR(r->mode)) {
        r->parent = rnd_upto(INO_MAX);
        r->entries = rnd_upto(UINT64_MAX);
    }
    if (S_ISLNK(r->mode)) {
        r->target_len = (uint16_t)(1 + rnd_upto(REC_SYMLINK_MAX - 1));
        r->size = r->target_len;
        for (unsigned i = 0; i < r->target_len; i++)
            target[i] = (uint8_t)(1 + rnd() % 255);
    }
}

static void same_ino(const struct row_ino *a, const struct row_ino *b)
{
#define SAME(f) ck_assert_uint_eq(a->f, b->f)
    SAME(birth); SAME(created); SAME(content); SAME(mapgen); SAME(origin); SAME(size); SAME(blocks); SAME(entries);
    SAME(mode); SAME(uid); SAME(gid); SAME(rdev); SAME(nlink); SAME(n_xattr); SAME(flags); SAME(parent); SAME(hidden);
    SAME(target_len);
    SAME(atime.nsec); SAME(mtime.nsec); SAME(ctime.nsec); SAME(btime.nsec);
#undef SAME
    ck_assert_int_eq(a->atime.sec, b->atime.sec);
    ck_assert_int_eq(a->mtime.sec, b->mtime.sec);
    ck_assert_int_eq(a->ctime.sec, b->ctime.sec);
    ck_assert_int_eq(a->btime.sec, b->btime.sec);
}

START_TEST(inode_round_trip)
{
    static uint8_t buf[ROW_INO_MAX], again[ROW_INO_MAX], target[REC_SYMLINK_MAX];

    seed = 11;
    for (int i = 0; i < ROUNDS; i++) {
        struct row_ino a, b;
        const uint8_t *t;
        struct err err = { 0 };
        size_t len;

        rnd_ino(&a, target);
        len = row_ino_encode(&a, target, buf, sizeof buf);
        ck_assert_msg(row_ino_decode(buf, len, &b, &t, &err) == 0, "%s", err.msg);
        same_ino(&a, &b);
        ck_assert_mem_eq(t ? t : target, target, a.target_len);
        ck_assert_uint_eq(row_ino_encode(&b, t, again, sizeof again), len);
        ck_assert_mem_eq(buf, again, len);
    }
}
END_TEST

/* Every cut and every flipped bit either fails or is another row's only encoding. */
START_TEST(inode_damaged)
{
    static uint8_t buf[ROW_INO_MAX], bad[ROW_INO_MAX], again[ROW_INO_MAX], target[REC_SYMLINK_MAX];
    unsigned refused = 0;

    seed = 12;
    for (int i = 0; i < 100; i++) {
        struct row_ino a, b;
        const uint8_t *t;
        struct err err = { 0 };
        size_t len;

        do
            rnd_ino(&a, target);
        while (S_ISLNK(a.mode) && a.target_len > 50);
        len = row_ino_encode(&a, target, buf, sizeof buf);
        for (size_t cut = 0; cut < len; cut++) {
            memset(&b, 0x5a, sizeof b);
            ck_assert_int_eq(row_ino_decode(buf, cut, &b, &t, &err), ERR_DAMAGE);
            ck_assert_uint_eq(b.birth, 0x5a5a5a5a5a5a5a5aull);   /* untouched on failure */
        }
        for (size_t bit = 0; bit < len * 8; bit++) {
            memcpy(bad, buf, len);
            bad[bit / 8] ^= (uint8_t)(1u << bit % 8);
            if (row_ino_decode(bad, len, &b, &t, &err)) {
                refused++;
                continue;
            }
            ck_assert_uint_eq(row_ino_encode(&b, t, again, sizeof again), len);
            ck_assert_mem_eq(bad, again, len);
        }
    }
    ck_assert_uint_gt(refused, 5000);
}
END_TEST

START_TEST(inode_impossible)
{
    static uint8_t buf[ROW_INO_MAX];
    struct row_ino a = { .birth = 100, .created = 100, .content = 100, .mapgen = 100, .mode = S_IFREG | 0644,
                         .nlink = 1 }, b;
    struct err err = { 0 };
    /* version, bits, created, btime (sec, nsec), mode: low byte, high byte, uid, gid, size */
    size_t len = row_ino_encode(&a, NULL, buf, sizeof buf);

    ck_assert_uint_eq(len, 11);
    ck_assert_int_eq(row_ino_decode(buf, len, &b, NULL, &err), 0);
    buf[7] = 0x30;                              /* no file type has this number */
    ck_assert_int_eq(row_ino_decode(buf, len, &b, NULL, &err), ERR_DAMAGE);
    ck_assert_ptr_nonnull(strstr(err.msg, "mode"));
    buf[7] = 0x81;
    buf[len] = 0;                               /* a byte too many */
    ck_assert_int_eq(row_ino_decode(buf, len + 1, &b, NULL, &err), ERR_DAMAGE);
    buf[0] = 2;
    ck_assert_int_eq(row_ino_decode(buf, len, &b, NULL, &err), ERR_DAMAGE);
    ck_assert_ptr_nonnull(strstr(err.msg, "version"));
    /* created at 100, born 2^64 - 1 LSNs later: at 99 */
    static const uint8_t early[] = { 1, 1, 0, 100, 0, 0, 0xa4, 0x81, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1 };
    ck_assert_int_eq(row_ino_decode(early, sizeof early, &b, NULL, &err), ERR_DAMAGE);
    /* the same with 0 later: says nothing */
    static const uint8_t idle[] = { 1, 1, 0, 100, 0, 0, 0xa4, 0x81, 0, 0, 0, 0 };
    ck_assert_int_eq(row_ino_decode(idle, sizeof idle, &b, NULL, &err), ERR_DAMAGE);
    /* hidden since 101, born at 100; since 99, made at 100; a flag of directories */
    static const uint8_t after[] = { 1, 0, 0x40, 100, 0, 0, 0xa4, 0x81, 0, 0, 2, 0 }, before[] = { 1, 0, 0x40, 100, 0, 0, 0xa4, 0x81, 0, 0, 1, 0 };
    static const uint8_t flag[] = { 1, 0x80, 0, 100, 0, 0, 0xa4, 0x81, 0, 0, 2, 0 };
    ck_assert_int_eq(row_ino_decode(after, sizeof after, &b, NULL, &err), ERR_DAMAGE);
    ck_assert_int_eq(row_ino_decode(before, sizeof before, &b, NULL, &err), ERR_DAMAGE);
    ck_assert_int_eq(row_ino_decode(flag, sizeof flag, &b, NULL, &err), ERR_DAMAGE);
    ck_assert_ptr_nonnull(strstr(err.msg, "a flag of directories"));
    /* a symlink whose target is not as long as its size */
    static const uint8_t link[] = { 1, 8, 0, 100, 0, 0, 0xff, 0xa1, 0, 0, 3, 0, 'a', 'b' };
    ck_assert_int_eq(row_ino_decode(link, sizeof link, &b, NULL, &err), ERR_DAMAGE);
}
END_TEST

START_TEST(inode_is_small)
{
    static uint8_t buf[ROW_INO_MAX];
    /* a file written, changed and touched at different times, 1 TB into the stream */
    struct row_ino a = { .birth = 1ull << 40, .created = (1ull << 40) - 9000000, .content = (1ull << 40) - 200,
                         .mapgen = (1ull << 40) - 300, .size = 123456, .blocks = 123456,
                         .atime = { 1700000300, 999999999 }, .mtime = { 1700000200, 888888888 },
                         .ctime = { 1700000250, 777777777 }, .btime = { 1700000000, 123456789 },
                         .mode = S_IFREG | 0644, .uid = 1000, .gid = 1000, .nlink = 1 };
    size_t len = row_ino_encode(&a, NULL, buf, sizeof buf);

    ck_assert_uint_le(len, 60);
    a.created = a.content = a.mapgen = a.birth;
    a.ctime = a.mtime = a.atime = a.btime;
    ck_assert_uint_le(row_ino_encode(&a, NULL, buf, sizeof buf), 30);
}
END_TEST

START_TEST(entries_round_trip)
{
    uint8_t buf[ROW_SMALL_MAX], name[REC_NAME_MAX];
    struct err err = { 0 };
    size_t len;

    seed = 13;
    for (int i = 0; i < ROUNDS; i++) {
        struct row_den a = { rnd_upto(UINT64_MAX), 1 + rnd_upto(INO_MAX - 1), rnd_upto(UINT64_MAX),
                             types[rnd() % 7] >> 12, rnd() % 2 }, b;
        struct row_dix c = { .birth = rnd_upto(UINT64_MAX), .ino = 1 + rnd_upto(INO_MAX - 1),
                             .type = types[rnd() % 7] >> 12, .hidden = rnd() % 2, .name_len = (uint16_t)(1 + rnd() % REC_NAME_MAX),
                             .name = name }, d;

        len = row_den_encode(&a, buf, sizeof buf);
        ck_assert_int_eq(row_den_decode(buf, len, &b, &err), 0);
        ck_assert(a.birth == b.birth && a.ino == b.ino && a.cookie == b.cookie && a.type == b.type && a.hidden == b.hidden);
        for (size_t cut = 0; cut < len; cut++)
            ck_assert_int_eq(row_den_decode(buf, cut, &b, &err), ERR_DAMAGE);
        for (unsigned j = 0; j < c.name_len; j++)
            do
                name[j] = (uint8_t)(1 + rnd() % 255);
            while (name[j] == '/');
        len = row_dix_encode(&c, buf, sizeof buf);
        ck_assert_int_eq(row_dix_decode(buf, len, &d, &err), 0);
        ck_assert(c.birth == d.birth && c.ino == d.ino && c.type == d.type && c.hidden == d.hidden && c.name_len == d.name_len);
        ck_assert_mem_eq(d.name, name, c.name_len);
        ck_assert_int_eq(row_dix_decode(buf, len - c.name_len, &d, &err), ERR_DAMAGE);
        buf[len - 1] = '/';
        ck_assert_int_eq(row_dix_decode(buf, len, &d, &err), ERR_DAMAGE);
    }
    static const uint8_t no_ino[] = { 1, 5, 0, 8, 0 }, no_type[] = { 1, 5, 0, 3, 9 }, good[] = { 1, 5, 0, 8, 9 }, hidden[] = { 1, 5, 0, 24, 9 };
    struct row_den e;
    ck_assert_int_eq(row_den_decode(good, sizeof good, &e, &err), 0);
    ck_assert_int_eq(row_den_decode(hidden, sizeof hidden, &e, &err), 0);
    ck_assert(e.type == S_IFREG >> 12 && e.hidden);
    for (uint64_t birth = 0; birth < 1 << 20; birth = birth * 3 + 8) {
        struct row_par p = { birth & ~7ull, birth & 16 }, q;
        len = row_par_encode(&p, buf, sizeof buf);
        ck_assert_int_eq(row_par_decode(buf, len, &q, &err), 0);
        ck_assert(p.birth == q.birth && p.hidden == q.hidden);
    }
    ck_assert_int_eq(row_den_decode(no_ino, sizeof no_ino, &e, &err), ERR_DAMAGE);
    ck_assert_int_eq(row_den_decode(no_type, sizeof no_type, &e, &err), ERR_DAMAGE);
}
END_TEST

static uint32_t rnd_pieces(struct piece *p, uint32_t max)
{
    uint32_t n = 0, end = 0;

    while (n < max) {
        uint32_t room = BLOCK_BYTES - end;
        uint32_t gap = rnd() % 3 ? 0 : (uint32_t)rnd_upto(room / 4);
        uint32_t len = (uint32_t)rnd_upto(room - gap);

        if (len == 0)
            break;
        p[n].off = end + gap;
        p[n].len = len > 8000 ? len % 8000 + 1 : len;
        p[n].lsn = n && rnd() % 3 == 0 ? p[n - 1].lsn : 1 + rnd_upto(UINT64_MAX - 1);
        p[n].dstart = n && rnd() % 2 ? p[n - 1].dstart : (uint32_t)rnd_upto(REC_HEAD_MAX);
        p[n].doff = rnd() % 2 ? 0 : (uint32_t)rnd_upto(REC_DATA_MAX - p[n].len);
        p[n].birth = rnd() % 2 ? p[n].lsn : 1 + rnd_upto(UINT64_MAX - 1);
        end = p[n].off + p[n].len;
        n++;
    }
    return n;
}

START_TEST(map_round_trip)
{
    static uint8_t buf[100000], again[100000];
    static struct piece p[400];
    unsigned refused = 0;

    seed = 14;
    for (int i = 0; i < ROUNDS; i++) {
        struct row_map a = { .birth = rnd_upto(UINT64_MAX), .since_image = (uint32_t)rnd_upto(64), .piece = p }, b;
        struct err err = { 0 };
        size_t len;

        a.n = rnd_pieces(p, (uint32_t)rnd_upto(200));
        a.n_image = rnd_pieces(p + a.n, (uint32_t)rnd_upto(200));
        len = row_map_encode(&a, buf, row_map_bound(a.n + a.n_image));
        ck_assert_msg(row_map_decode(buf, len, &b, &err) == 0, "%s", err.msg);
        ck_assert(a.birth == b.birth && a.since_image == b.since_image && a.n == b.n && a.n_image == b.n_image);
        ck_assert((b.piece == NULL) == (a.n + a.n_image == 0));
        for (uint32_t j = 0; j < a.n + a.n_image; j++)
            ck_assert_mem_eq(&a.piece[j], &b.piece[j], sizeof b.piece[j]);
        free(b.piece);
        for (int j = 0; i < 300 && j < 20; j++) {
            size_t at = rnd() % len;
            uint8_t was = buf[at];

            ck_assert_int_eq(row_map_decode(buf, at, &b, &err), ERR_DAMAGE);
            buf[at] ^= (uint8_t)(1u << rnd() % 8);
            if (row_map_decode(buf, len, &b, &err)) {
                refused++;
            } else {
                ck_assert_uint_eq(row_map_encode(&b, again, sizeof again), len);
                ck_assert_mem_eq(buf, again, len);
                free(b.piece);
            }
            buf[at] = was;
        }
    }
    ck_assert_uint_gt(refused, 1000);
}
END_TEST

/* row: version, birth, since, n, n_image; piece: bits, [gap] [len] [lsn] [dstart] [doff] [birth] */
static int map_of(const uint8_t *b, size_t len)
{
    struct row_map m = { 0 };
    struct err err = { 0 };
    int rc = row_map_decode(b, len, &m, &err);

    if (rc == 0)
        free(m.piece);
    return rc;
}
#define MAP(...) map_of((const uint8_t[]){ __VA_ARGS__ }, sizeof (const uint8_t[]){ __VA_ARGS__ })

START_TEST(map_impossible)
{
    ck_assert_int_eq(MAP(1, 9, 0, 1, 0, 6, 100, 8), 0);                    /* 100 bytes of record 4 */
    ck_assert_int_eq(MAP(1, 9, 0, 1, 0, 6, 0, 8), ERR_DAMAGE);             /* no length */
    ck_assert_int_eq(MAP(1, 9, 0, 1, 0, 6, 100, 0), ERR_DAMAGE);           /* no record */
    ck_assert_int_eq(MAP(1, 9, 0, 1, 0, 38, 100, 8, 7), ERR_DAMAGE);       /* born at 0 */
    ck_assert_int_eq(MAP(1, 9, 0, 1, 0, 70, 100, 8), ERR_DAMAGE);          /* unknown bit */
    ck_assert_int_eq(MAP(1, 9, 0, 1, 0, 7, 0, 100, 8), ERR_DAMAGE);        /* a gap of nothing */
    ck_assert_int_eq(MAP(1, 9, 0, 1, 0, 6, 0x80, 0x80, 0x40, 8), 0);       /* the whole block */
    ck_assert_int_eq(MAP(1, 9, 0, 1, 0, 6, 0x81, 0x80, 0x40, 8), ERR_DAMAGE);
    ck_assert_int_eq(MAP(1, 9, 0, 1, 0, 7, 1, 0x80, 0x80, 0x40, 8), ERR_DAMAGE);
    ck_assert_int_eq(MAP(1, 9, 0, 2, 0, 6, 100, 8, 0), 0);
    ck_assert_int_eq(MAP(1, 9, 0, 2, 0, 6, 100, 8), ERR_DAMAGE);           /* counts more than there is */
    ck_assert_int_eq(MAP(1, 9, 0, 1, 0, 6, 100, 8, 0), ERR_DAMAGE);        /* and less */
    ck_assert_int_eq(MAP(1, 9, 0, 0xff, 0xff, 0xff, 0xff, 15, 0), ERR_DAMAGE);
    ck_assert_int_eq(MAP(1, 9, 0, 1, 0xff, 0xff, 0xff, 0xff, 15, 6, 100, 8), ERR_DAMAGE);
    ck_assert_int_eq(MAP(1, 9, 0, 0, 0), 0);
    ck_assert_int_eq(MAP(1, 9, 0, 1, 0, 22, 100, 8, 0x80, 0x80, 0x80, 8), ERR_DAMAGE);   /* at the data's end */
    ck_assert_int_eq(MAP(1, 9, 0, 1, 0, 22, 100, 8, 0x9c, 0xff, 0xff, 7), 0);            /* the last 100 bytes */
}
END_TEST

/* Overlapping pieces are our own mistake, not the disk's: gaps cannot be negative there. */
START_TEST(map_overlap_is_never_written)
{
    struct piece p[] = { { 0, 100, 5, 0, 0, 5 }, { 99, 100, 6, 0, 0, 6 } };
    struct row_map m = { .birth = 6, .n = 2, .piece = p };
    uint8_t buf[200];

    fclose(stderr);
    row_map_encode(&m, buf, sizeof buf);
}
END_TEST

START_TEST(map_is_small)
{
    static uint8_t buf[20000];
    static struct piece p[256];
    struct row_map m = { .birth = 1ull << 40, .n = 256, .piece = p };

    for (uint32_t i = 0; i < 256; i++)
        p[i] = (struct piece){ i * 4096, 4096, (1ull << 40) + i * 4300, 200, 0, (1ull << 40) + i * 4300 };
    ck_assert_uint_le(row_map_encode(&m, buf, sizeof buf), 256 * 4 + 40);
}
END_TEST

START_TEST(small_rows_round_trip)
{
    uint8_t buf[ROW_SMALL_MAX + 1000], text[400];
    struct err err = { 0 };

    seed = 15;
    memset(text, 'r', sizeof text);
    for (int i = 0; i < ROUNDS; i++) {
        struct row_run a = { rnd_upto(UINT64_MAX), (int64_t)rnd_upto(UINT64_MAX), (int64_t)rnd_upto(UINT64_MAX) }, b;
        struct row_time m, n;
        struct row_snap s = { .lsn = rnd_upto(UINT64_MAX), .at = rnd_upto(UINT64_MAX), .wall_ns = (int64_t)rnd(),
                              .until_ns = (int64_t)rnd(), .held = rnd() % 2, .reason_len = (uint16_t)(rnd() % 400),
                              .person_len = (uint16_t)(rnd() % 400), .reason = text, .person = text }, t;
        uint64_t v = rnd_upto(UINT64_MAX), birth = rnd_upto(UINT64_MAX), back;
        const uint8_t *val;
        size_t vlen = rnd() % sizeof text, len = row_run_encode(&a, buf, sizeof buf);

        ck_assert_int_eq(row_run_decode(buf, len, &b, &err), 0);
        ck_assert(a.first_lsn == b.first_lsn && a.first_wall == b.first_wall && a.last_wall == b.last_wall);
        ck_assert_int_eq(row_run_decode(buf, len - 1, &b, &err), ERR_DAMAGE);
        len = row_snap_encode(&s, buf, (size_t)64 + s.reason_len + s.person_len);
        ck_assert_int_eq(row_snap_decode(buf, len, &t, &err), 0);
        ck_assert(s.lsn == t.lsn && s.at == t.at && s.wall_ns == t.wall_ns && s.until_ns == t.until_ns &&
                  s.held == t.held && s.reason_len == t.reason_len && s.person_len == t.person_len);
        ck_assert_int_eq(row_snap_decode(buf, len - 1, &t, &err), ERR_DAMAGE);
        buf[1] = 2;
        ck_assert_int_eq(row_snap_decode(buf, len, &t, &err), ERR_DAMAGE);
        m = (struct row_time){ .lsn = v | 1, .prev = rnd_upto(v) / 2, .age_ns = rnd() };
        len = row_time_encode(&m, buf, sizeof buf);
        ck_assert_int_eq(row_time_decode(buf, len, &n, &err), 0);
        ck_assert(m.lsn == n.lsn && m.prev == n.prev && m.age_ns == n.age_ns);
        ck_assert_int_eq(row_time_decode(buf, len - 1, &n, &err), ERR_DAMAGE);
        len = row_u64_encode(v, buf, sizeof buf);
        ck_assert_int_eq(row_u64_decode(buf, len, &back, &err), 0);
        ck_assert_uint_eq(v, back);
        ck_assert_int_eq(row_u64_decode(buf, len + 1, &back, &err), ERR_DAMAGE);
        len = row_xat_encode(birth, text, vlen, buf, vlen + 16);
        ck_assert_int_eq(row_xat_decode(buf, len, &back, &val, &vlen, &err), 0);
        ck_assert_uint_eq(birth, back);
        ck_assert_mem_eq(val, text, vlen);
    }
}
END_TEST

START_TEST(meta_round_trip)
{
    uint8_t buf[ROW_SMALL_MAX], again[ROW_SMALL_MAX];
    struct err err = { 0 };
    struct row_meta a, b;

    seed = 16;
    for (int i = 0; i < ROUNDS; i++) {
        size_t len;

        memset(&a, 0, sizeof a);
        a.applied = rnd_upto(UINT64_MAX);
        a.last_lsn = rnd_upto(a.applied);
        for (unsigned j = 0; j < sizeof a.last_hash.b; j++)
            a.last_hash.b[j] = (uint8_t)rnd();
        a.next_ino = rnd_upto(INO_MAX + 1);
        a.n_inodes = rnd_upto(UINT64_MAX);
        a.n_bytes = rnd_upto(UINT64_MAX);
        a.run = (uint32_t)rnd_upto(UINT32_MAX);
        a.last_wall = (int64_t)rnd();
        a.last_time_lsn = rnd_upto(a.applied);
        a.series = rnd_upto(a.applied);
        a.snapshots = rnd_upto(UINT64_MAX);
        a.mount_id = rnd();
        a.epoch = (uint32_t)rnd_upto(UINT32_MAX);
        a.age_ns = rnd_upto(UINT64_MAX);
        a.last_boot = rnd();
        a.n_past = rnd_upto(UINT64_MAX);
        a.n_held = rnd_upto(UINT64_MAX);
        len = row_meta_encode(&a, buf, sizeof buf);
        memset(&b, 0, sizeof b);
        ck_assert_int_eq(row_meta_decode(buf, len, &b, &err), 0);
        ck_assert_mem_eq(&a, &b, sizeof a);
        for (size_t cut = 0; cut < len; cut++)
            ck_assert_int_eq(row_meta_decode(buf, cut, &b, &err), ERR_DAMAGE);
        for (size_t bit = 0; i < 100 && bit < len * 8; bit++) {
            buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
            if (row_meta_decode(buf, len, &b, &err) == 0) {
                ck_assert_uint_eq(row_meta_encode(&b, again, sizeof again), len);
                ck_assert_mem_eq(buf, again, len);
            }
            buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
    memset(&a, 0, sizeof a);
    ck_assert_uint_gt(row_meta_encode(&a, buf, sizeof buf), 0);   /* of a new store */
}
END_TEST

static int order(const uint8_t *a, size_t al, const uint8_t *b, size_t bl)
{
    int c = memcmp(a, b, al < bl ? al : bl);

    return c ? c : (al > bl) - (al < bl);
}

START_TEST(keys_order)
{
    uint8_t a[KV_KEY_MAX], b[KV_KEY_MAX], c[KV_KEY_MAX];
    size_t al, bl, cl;
    static const int64_t wall[] = { INT64_MIN, -1000, -1, 0, 1, 1700000000000000000, INT64_MAX };

    for (unsigned i = 1; i < sizeof wall / sizeof *wall; i++) {
        al = key_time(a, 7, wall[i - 1]);
        bl = key_time(b, 7, wall[i]);
        ck_assert_int_lt(order(a, al, b, bl), 0);
    }
    /* the history of "a" lies apart from that of "ab" and "a\x01" */
    al = key_den_h(a, 5, "a", 1, UINT64_MAX);
    bl = key_den_h(b, 5, "a\x01", 2, 0);
    cl = key_den_h(c, 5, "ab", 2, 0);
    ck_assert_int_lt(order(a, al, b, bl), 0);
    ck_assert_int_lt(order(b, bl, c, cl), 0);
    /* numbers sort as numbers, deaths within one object */
    al = key_ino_h(a, 255, UINT64_MAX);
    bl = key_ino_h(b, 256, 0);
    ck_assert_int_lt(order(a, al, b, bl), 0);
    al = key_map_h(a, 1, 2, 3, 255);
    bl = key_map_h(b, 1, 2, 3, 256);
    ck_assert_int_lt(order(a, al, b, bl), 0);
    al = key_dix_h(a, 1, 9, 255);
    bl = key_dix_h(b, 1, 10, 0);
    ck_assert_int_lt(order(a, al, b, bl), 0);
}
END_TEST

/* A key of ${table}; a byte more is none, nor one less unless it ends in a name. */
static void parsed(uint8_t *k, size_t len, char table, struct key_parts *o)
{
    k[len] = 0;
    ck_assert(!key_parse(k, len + 1, o));
    ck_assert_int_eq(key_parse(k, len - 1, o), strchr("dpas!", table) != NULL);
    ck_assert(key_parse(k, len, o));
    ck_assert_int_eq(o->table, table);
}

START_TEST(keys_parse)
{
    const struct hash128 hash = { { 9, 8, 7, 6, 5, 4, 3, 2, 1 } };
    static const char name[] = "a\nb\xff c";
    size_t nl = sizeof name - 1, len;
    uint8_t k[KV_KEY_MAX + 1];
    struct key_parts o;

#define PARSED(call, tab) do { len = (call); parsed(k, len, tab, &o); } while (0)
#define NAMED() do { ck_assert_uint_eq(o.name_len, nl); ck_assert_mem_eq(o.name, name, nl); } while (0)
    PARSED(key_ino(k, INO_MAX), 'i');
    ck_assert_uint_eq(o.ino, INO_MAX);
    PARSED(key_ino_h(k, 3, 99), 'I');
    ck_assert(o.ino == 3 && o.death == 99);
    PARSED(key_den(k, 4, name, nl), 'd');
    NAMED();
    ck_assert_uint_eq(o.parent, 4);
    PARSED(key_den_h(k, 4, name, nl, 98), 'D');
    NAMED();
    ck_assert(o.parent == 4 && o.death == 98);
    PARSED(key_dix(k, 4, 77), 'x');
    ck_assert(o.parent == 4 && o.cookie == 77);
    PARSED(key_dix_h(k, 4, 97, 77), 'X');
    ck_assert(o.parent == 4 && o.cookie == 77 && o.death == 97);
    PARSED(key_par(k, 5, 6, name, nl), 'p');
    NAMED();
    ck_assert(o.ino == 5 && o.parent == 6);
    PARSED(key_par_h(k, 5, 6, name, nl, 96), 'P');
    NAMED();
    ck_assert(o.ino == 5 && o.parent == 6 && o.death == 96);
    PARSED(key_map(k, 5, 0, FILE_SIZE_MAX >> BLOCK_SHIFT), 'm');
    ck_assert(o.ino == 5 && o.mapgen == 0 && o.block == FILE_SIZE_MAX >> BLOCK_SHIFT);
    PARSED(key_map_h(k, 5, 8, 9, 95), 'M');
    ck_assert(o.ino == 5 && o.mapgen == 8 && o.block == 9 && o.death == 95);
    PARSED(key_xat(k, 5, name, nl), 'a');
    NAMED();
    PARSED(key_xat_h(k, 5, name, nl, 94), 'A');
    NAMED();
    ck_assert(o.ino == 5 && o.death == 94);
    PARSED(key_orphan(k, 5), 'o');
    ck_assert_uint_eq(o.ino, 5);
    PARSED(key_time(k, 3, -5), 't');
    ck_assert(o.run == 3 && o.wall_ns == -5);
    PARSED(key_run(k, UINT32_MAX), 'r');
    ck_assert_uint_eq(o.run, UINT32_MAX);
    PARSED(key_snap(k, name, nl), 's');
    NAMED();
    PARSED(key_series(k, 93), 'e');
    ck_assert_uint_eq(o.begin, 93);
    PARSED(key_chunk(k, &hash), 'h');
    ck_assert_uint_eq(o.place, get_be64(hash.b));
    PARSED(key_place(k, 5), 'n');
    ck_assert_uint_eq(o.place, 5);
    PARSED(key_meta(k, "applied"), '!');
    ck_assert(o.name_len == 7 && memcmp(o.name, "applied", 7) == 0);
    /* none */
    ck_assert(!key_parse(k, 0, &o));
    ck_assert(!key_parse((const uint8_t *)"z1234567", 8, &o));
    ck_assert(!key_parse(k, key_ino(k, 0), &o));
    ck_assert(!key_parse(k, key_ino(k, INO_MAX + 1), &o));
    ck_assert(!key_parse(k, key_ino_h(k, 3, 0), &o));
    ck_assert(!key_parse(k, key_den(k, 4, "a/b", 3), &o));
    ck_assert(!key_parse(k, key_den(k, 4, "", 0), &o));
    ck_assert(!key_parse(k, key_map(k, 5, 0, (FILE_SIZE_MAX >> BLOCK_SHIFT) + 1), &o));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rows");
    TCase *tc = tcase_create("rows");
    SRunner *sr;
    int failed;

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, inode_round_trip);
    tcase_add_test(tc, inode_damaged);
    tcase_add_test(tc, inode_impossible);
    tcase_add_test(tc, inode_is_small);
    tcase_add_test(tc, entries_round_trip);
    tcase_add_test(tc, map_round_trip);
    tcase_add_test(tc, map_impossible);
    tcase_add_test_raise_signal(tc, map_overlap_is_never_written, SIGABRT);
    tcase_add_test(tc, map_is_small);
    tcase_add_test(tc, small_rows_round_trip);
    tcase_add_test(tc, meta_round_trip);
    tcase_add_test(tc, keys_order);
    tcase_add_test(tc, keys_parse);
    suite_add_tcase(s, tc);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? 1 : 0;
}
