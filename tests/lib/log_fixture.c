#include "tests/lib/log_fixture.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

unsigned fix_types(unsigned types[64])
{
    unsigned n = 0;

#define X(name, num) types[n++] = (num);
    REC_TABLE(X)
#undef X
    return n;
}

/* Four rows in turn, so that a few samples live at once. */
static struct rec_bytes text(uint64_t n, const char *what)
{
    static char row[64][300];
    static unsigned next;
    char *p = row[next++ % 64];
    int len = snprintf(p, sizeof row[0], "%s-%llu", what, (unsigned long long)n);

    return (struct rec_bytes){ (const uint8_t *)p, (uint32_t)len };
}

static void sample_clone(uint64_t n, struct record *rec)
{
    static uint8_t rows[4][3 * REC_PIECE_BYTES];
    static unsigned next;
    uint8_t *pieces = rows[next++ % 4];

    for (uint32_t i = 0; i < 3; i++) {
        struct rec_piece p = { .dst_off = 8192 + i * 4096, .lsn = 8 * (n + i + 1), .dstart = 192 + i, .doff = i, .len = 4096 };

        rec_piece_put(pieces, i, &p);
    }
    rec->u.clone.src_ino = n % 2 == 0 ? n + 1 : 0;      /* a source, or pieces */
    rec->u.clone.src_off = 4096;
    rec->u.clone.dst_off = 8192;
    rec->u.clone.len = 12288;
    rec->u.clone.origin = n;
    rec->u.clone.n_pieces = n % 2 == 0 ? 0 : 3;
    rec->u.clone.pieces = n % 2 == 0 ? NULL : pieces;
}

static void sample_create(uint64_t n, struct record *rec)
{
    bool lnk = n % 3 == 1;

    rec->u.create.parent = 1;
    rec->u.create.mode = (lnk ? S_IFLNK : n % 3 == 2 ? S_IFDIR : S_IFREG) | 0644;
    rec->u.create.uid = 1000;
    rec->u.create.gid = 1001;
    rec->u.create.rdev = lnk ? 0 : 5;
    rec->u.create.name = text(n, "new\nfile\xff");
    if (lnk)
        rec->u.create.target = text(n, "../where/to");
    rec->u.create.n_xattr = (uint32_t)(n % (REC_CREATE_XATTRS + 1));
    for (uint32_t i = 0; i < rec->u.create.n_xattr; i++) {
        rec->u.create.xattr[i].name = text(n, "user.a");
        rec->u.create.xattr[i].value = text(n, "value");
    }
}

void fix_sample(unsigned type, uint64_t n, struct record *rec)
{
    static const uint8_t inos[24] = { 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3 };

    memset(rec, 0, sizeof *rec);
    rec->type = (uint16_t)type;
    rec->flags = (uint16_t)(n % 8);
    rec->uid = 1000;
    rec->gid = 1001;
    rec->pid = 4711;
    rec->unique = n * 2;
    rec->ino = 100 + n;
    switch (type) {
    case REC_CREATE: sample_create(n, rec); break;
    case REC_LINK: case REC_UNLINK:
        rec->u.link.parent = 1;
        rec->u.link.name = text(n, "linked");
        break;
    case REC_RENAME:
        rec->u.rename.src_parent = 1;
        rec->u.rename.dst_parent = 2;
        rec->u.rename.dst_ino = n;
        rec->u.rename.flags = (uint32_t)(n % 3);
        rec->u.rename.src_name = text(n, "from");
        rec->u.rename.dst_name = text(n, "to");
        break;
    case REC_SETATTR:
        rec->u.setattr.valid = (uint32_t)(n % 64);
        rec->u.setattr.mode = 0100755;
        rec->u.setattr.uid = 7;
        rec->u.setattr.gid = 8;
        rec->u.setattr.size = n * 1000;
        rec->u.setattr.atime = (struct rec_time){ -5, 999999999 };
        rec->u.setattr.mtime = (struct rec_time){ 1700000000, 1 };
        break;
    case REC_WRITE: case REC_REWRITE:
        rec->u.write.off = n * 10;
        rec->data_len = (uint32_t)(1 + n * 7919 % 70000);
        break;
    case REC_CLONE: sample_clone(n, rec); break;
    case REC_FALLOCATE:
        rec->u.fallocate.mode = RFA_KEEP_SIZE | RFA_PUNCH_HOLE;
        rec->u.fallocate.off = n;
        rec->u.fallocate.len = 4096;
        break;
    case REC_SETXATTR: case REC_REMOVEXATTR:
        rec->u.xattr.mode = REC_NO_MODE;
        rec->u.xattr.name = text(n, "user.x");
        if (type == REC_SETXATTR)
            rec->u.xattr.value = text(n, "v");
        break;
    case REC_SNAPSHOT:
        rec->u.snapshot.action = (uint32_t)(1 + n % 4);
        rec->u.snapshot.at = 8 * n;
        rec->u.snapshot.until_ns = -1;
        rec->u.snapshot.name = text(n, "before-upgrade");
        rec->u.snapshot.reason = text(n, "audit");
        rec->u.snapshot.person = text(n, "ann");
        break;
    case REC_PIN: case REC_POLICY: case REC_PURGE:
        rec->u.text.name = text(n, "keep-all");
        rec->u.text.value = text(n, "7d");
        break;
    case REC_REAP:
        rec->u.reap.n = 1 + (uint32_t)(n % 3);
        rec->u.reap.inos = inos;
        break;
    case REC_SERIES_BEGIN: case REC_SERIES_END:
        rec->u.series.id = type == REC_SERIES_END ? 4096 : 0;
        rec->u.series.text = text(n, "restore");
        break;
    case REC_CANARY: rec->u.canary.nonce = n ^ 0x5555555555555555u; break;
    case REC_MOUNT:
        rec->u.mount.id = n;
        rec->u.mount.action = (uint32_t)(1 + n % 2);
        rec->u.mount.host = text(n, "host");
        rec->u.mount.dir = text(n, "/home/ann/spare");
        break;
    case REC_INCARNATION:
        rec->u.incarnation.id = n + 77;
        rec->u.incarnation.host = text(n, "host");
        rec->u.incarnation.boot_id = text(n, "boot");
        break;
    case REC_EPOCH:
        rec->u.epoch.number = (uint32_t)n + 1;
        memset(rec->u.epoch.site, 0x51, 16);
        memset(rec->u.epoch.id, 0xe9, 16);
        memset(rec->u.epoch.lineage, 0x11, 16);
        rec->u.epoch.reason = text(n, "init");
        break;
    default: break;
    }
}

void fix_fill(void *buf, size_t len, uint64_t seed)
{
    uint8_t *p = buf;
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;

    for (size_t i = 0; i < len; i++) {
        if (i % 8 == 0) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
        }
        p[i] = (uint8_t)(x >> (i % 8 * 8));
    }
}

uint8_t *fix_data_of(const struct record *rec)
{
    uint8_t *p = malloc(rec->data_len > 0 ? rec->data_len : 1);

    if (p == NULL)
        abort();
    fix_fill(p, rec->data_len, rec->ino + rec->data_len);
    return p;
}

int fix_append(struct log *log, struct record *rec, struct err *err)
{
    uint64_t *sums = calloc(record_n_sums(rec->data_len) + 1, 8);
    uint8_t *data = fix_data_of(rec), *head = malloc(record_head_len(rec));
    struct log_slot slot;
    int rc;

    if (sums == NULL || head == NULL)
        abort();
    record_sums(data, rec->data_len, sums);
    rc = record_encode(rec, sums, head, record_head_len(rec));
    if (rc < 0)
        goto out;
    rc = log_room(log, (uint64_t)rec->head_len + rec->data_len, err);
    if (rc == 0)
        rc = log_append_begin(log, rec, head, &slot);
    if (rc == 0)
        rc = log_append_write(log, &slot, head, rec->head_len, data, rec->data_len, err);
    if (rc == 0)
        rc = log_wait_written(log, rec->lsn);
out:
    free(sums);
    free(data);
    free(head);
    return rc;
}

int fix_write(struct log *log, uint64_t ino, uint32_t len, struct record *rec, struct err *err)
{
    memset(rec, 0, sizeof *rec);
    rec->type = REC_WRITE;
    rec->ino = ino;
    rec->data_len = len;
    return fix_append(log, rec, err);
}

void fix_super(struct super *sb)
{
    memset(sb, 0, sizeof *sb);
    memset(sb->lineage, 0x11, 16);
    memset(sb->site, 0x22, 16);
    sb->role = ROLE_PRIMARY;
    sb->hash_alg = HASH_XXH3;
    sb->clean = 1;
    sb->durable = LOG_FIRST_ADDR;
    sb->incarnation = 0xabc;
    sb->n_epochs = 1;
    sb->epochs[0].number = 1;
    memset(sb->epochs[0].id, 0x33, 16);
    memcpy(sb->epochs[0].lineage, sb->lineage, 16);
}

void fix_note(struct super *sb, struct log *log, bool clean)
{
    sb->clean = clean;
    sb->durable = log_durable(log);
    if (clean)
        log_last(log, &sb->last_lsn, &sb->last_hash);
}

FILE *fix_golden(const char *name, const char *mode)
{
    const char *top = getenv("SPARE_SRC");
    char path[512];

    snprintf(path, sizeof path, "%s/tests/golden/%s", top != NULL ? top : ".", name);
    return fopen(path, mode);
}
