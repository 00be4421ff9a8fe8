#include "store/base/super.h"
#include "store/base/bytes.h"
#include "store/base/filehead.h"
#include "store/base/pair.h"

#include <assert.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Places of FORMAT.md, "Superblock". */
enum {
    AT_FIXED = FILEHEAD_BYTES, AT_RESERVED = 240, AT_CONFIG = 1024, AT_EPOCHS = AT_CONFIG + SUPER_CONFIG_MAX, FILE_STEP = 4096,
};
static_assert(AT_RESERVED + SUPER_RESERVED_BYTES == AT_CONFIG, "layout");
static_assert(AT_EPOCHS == 5120 && SUPER_FILE_MIN % FILE_STEP == 0 && SUPER_FILE_MAX % FILE_STEP == 0, "layout");
static_assert(AT_EPOCHS + SUPER_EPOCHS_MAX * EPOCH_ROW_BYTES + FILEHEAD_HASH_BYTES <= SUPER_FILE_MAX &&
              AT_EPOCHS + SUPER_EPOCHS_MAX * EPOCH_ROW_BYTES + FILEHEAD_HASH_BYTES > SUPER_FILE_MAX - FILE_STEP, "layout");

static const char magic[8] = { 'S', 'P', 'A', 'R', 'E', 'S', 'U', 'P' };
static const char what[] = "superblock";

static bool is_zero(const void *p, size_t len)
{
    const uint8_t *b = p;

    for (size_t i = 0; i < len; i++)
        if (b[i])
            return false;
    return true;
}

void super_copy(struct super *to, const struct super *from)
{
    assert(from->n_epochs <= SUPER_EPOCHS_MAX);
    memcpy(to, from, offsetof(struct super, epochs) + from->n_epochs * sizeof *from->epochs);
}

size_t super_bytes(uint32_t n_epochs)
{
    size_t n = AT_EPOCHS + n_epochs * (size_t)EPOCH_ROW_BYTES + FILEHEAD_HASH_BYTES;

    return n <= SUPER_FILE_MIN ? SUPER_FILE_MIN : (n + FILE_STEP - 1) / FILE_STEP * FILE_STEP;
}

const uint8_t *super_before(const struct super *sb)
{
    uint32_t i = sb->n_epochs;

    while (i > 0 && memcmp(sb->epochs[i - 1].lineage, sb->lineage, 16) == 0)
        i--;
    return i > 0 ? sb->epochs[i - 1].lineage : NULL;
}

size_t super_encode(const struct super *sb, uint8_t buf[SUPER_FILE_MAX])
{
    uint32_t n = sb->n_epochs < SUPER_EPOCHS_MAX ? sb->n_epochs : SUPER_EPOCHS_MAX;
    size_t size = super_bytes(n);
    struct filehead h = { .version = sb->version, .version_min = sb->version_min,
                          .compat = sb->compat, .ro_compat = sb->ro_compat, .incompat = sb->incompat,
                          .size = size, .hash_alg = sb->hash_alg, .key_id = sb->key_id };
    struct wr w = wr_init(buf + AT_FIXED, size - AT_FIXED);
    uint32_t len = sb->config_len < SUPER_CONFIG_MAX ? sb->config_len : SUPER_CONFIG_MAX;

    filehead_encode(&h, magic, buf);
    wr_u64(&w, sb->gen);
    wr_bytes(&w, sb->lineage, 16);
    wr_bytes(&w, sb->site, 16);
    wr_bytes(&w, sb->key, 32);
    wr_u32(&w, sb->role);
    wr_u32(&w, sb->clean);
    wr_i64(&w, sb->created_wall_ns);
    wr_bytes(&w, sb->machine, 16);
    wr_u64(&w, sb->dev);
    wr_u64(&w, sb->ino);
    wr_u64(&w, sb->durable);
    wr_u64(&w, sb->last_lsn);
    wr_bytes(&w, sb->last_hash.b, 16);
    wr_u64(&w, sb->incarnation);
    wr_u64(&w, sb->segment_gen);
    wr_u32(&w, n);
    wr_u32(&w, len);
    wr_bytes(&w, sb->reserved, sizeof sb->reserved);
    wr_bytes(&w, sb->config, len);
    wr_zero(&w, SUPER_CONFIG_MAX - len);
    for (uint32_t i = 0; i < n; i++)
        epoch_row_put(&w, &sb->epochs[i]);
    wr_zero(&w, w.left - FILEHEAD_HASH_BYTES);
    assert(!w.bad && w.left == FILEHEAD_HASH_BYTES);
    filehead_seal(buf, size);
    return size;
}

static void get_bytes(struct rd *r, void *dst, size_t len)
{
    const uint8_t *p = rd_bytes(r, len);

    if (p)
        memcpy(dst, p, len);
}

/* Length in bytes of the UTF-8 character at p, 0 if it is none (overlong, surrogate, > U+10FFFF, control). */
static size_t utf8_char(const uint8_t *p, size_t left)
{
    size_t n = p[0] < 0x80 ? 1 : p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    uint32_t c = p[0];

    if (n == 1)
        return c >= 0x20 && c != 0x7f;
    if (c < 0xc2 || c > 0xf4 || left < n)
        return 0;
    c &= 0x7fu >> n;
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3fu);
    }
    if ((n == 3 && c < 0x800) || (n == 4 && (c < 0x10000 || c > 0x10ffff)) || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    return n;
}

static bool is_text(const char *s, size_t len)
{
    for (size_t i = 0; i < len; ) {
        size_t n = utf8_char((const uint8_t *)s + i, len - i);

        if (!n)
            return false;
        i += n;
    }
    return true;
}

/* The line of setting name[0, n) in the config, or NULL; its length with the newline in *len. */
static const char *config_line(const struct super *sb, const char *name, size_t n, size_t upto, size_t *len)
{
    for (size_t i = 0; i < upto; ) {
        const char *line = sb->config + i, *nl = memchr(line, '\n', upto - i);

        if (!nl)
            return NULL;
        *len = (size_t)(nl - line) + 1;
        if (*len > n + 1 && line[n] == '=' && memcmp(line, name, n) == 0)
            return line;
        i += *len;
    }
    return NULL;
}

static int check_config(const struct super *sb, struct err *err)
{
    size_t old;

    for (size_t i = 0; i < sb->config_len; ) {
        const char *line = sb->config + i, *nl = memchr(line, '\n', sb->config_len - i);
        const char *eq = nl ? memchr(line, '=', (size_t)(nl - line)) : NULL;

        if (!nl || !eq || eq == line || !is_text(line, (size_t)(nl - line)))
            return err_set(err, ERR_DAMAGE, "%s: settings at byte %zu are not a line of name=value", what,
                           AT_CONFIG + i);
        if (config_line(sb, line, (size_t)(eq - line), i, &old))
            return err_set(err, ERR_DAMAGE, "%s: settings at byte %zu: \"%.*s\" is there twice", what,
                           AT_CONFIG + i, (int)(eq - line), line);
        i += (size_t)(nl - line) + 1;
    }
    return 0;
}

static int check_epochs(const struct super *sb, struct err *err)
{
    for (uint32_t i = 0; i < sb->n_epochs; i++) {
        const struct epoch_row *e = &sb->epochs[i], *p = i ? e - 1 : NULL;
        unsigned at = AT_EPOCHS + i * EPOCH_ROW_BYTES;

        const char *wrong = epoch_row_wrong(e, p);

        if (wrong)
            return err_set(err, ERR_DAMAGE, "%s: epoch row %" PRIu32 " at byte %u (number %" PRIu32 ", LSN %" PRIu64 "): %s", what, i, at,
                           e->number, e->first_lsn, wrong);
        if (e->reserved && !(sb->compat | sb->ro_compat))
            return err_set(err, ERR_DAMAGE, "%s: epoch row %" PRIu32 " at byte %u: reserved bytes are not zero", what, i, at);
        bool own = sb->role == ROLE_PRIMARY || sb->role == ROLE_FENCED;      /* of a standby that of the fork it follows may still be to come */

        if (own && i + 1 == sb->n_epochs && memcmp(e->lineage, sb->lineage, 16) != 0)
            return err_set(err, ERR_DAMAGE, "%s: epoch row %" PRIu32 " at byte %u, the last, is of another lineage than that at byte 72",
                           what, i, at);
    }
    return 0;
}

static int check_fields(const struct super *sb, struct err *err)
{
    if (sb->gen == 0)
        return err_set(err, ERR_DAMAGE, "%s: generation at byte 64 is 0", what);
    if (is_zero(sb->lineage, 16))
        return err_set(err, ERR_DAMAGE, "%s: lineage at byte 72 is zero", what);
    if (is_zero(sb->site, 16))
        return err_set(err, ERR_DAMAGE, "%s: site at byte 88 is zero", what);
    if (sb->role < ROLE_PRIMARY || sb->role > ROLE_BRANCH)
        return err_set(err, ERR_DAMAGE, "%s: role at byte 136 is %" PRIu32 ", expected %d to %d", what,
                       sb->role, ROLE_PRIMARY, ROLE_BRANCH);
    if (sb->clean > 1)
        return err_set(err, ERR_DAMAGE, "%s: clean at byte 140 is %" PRIu32 ", expected 0 or 1", what,
                       sb->clean);
    if (sb->last_lsn ? sb->last_lsn >= sb->durable : !is_zero(sb->last_hash.b, 16))
        return err_set(err, ERR_DAMAGE, "%s: last record at byte 192 is LSN %" PRIu64
                       ", which does not fit durable %" PRIu64 " or its hash", what, sb->last_lsn, sb->durable);
    if (!(sb->compat | sb->ro_compat) && !is_zero(sb->reserved, sizeof sb->reserved))
        return err_set(err, ERR_DAMAGE, "%s: reserved bytes from %d on are not zero", what, AT_RESERVED);
    return 0;
}

static void get_fixed(struct rd *r, struct super *t)
{
    t->gen = rd_u64(r);
    get_bytes(r, t->lineage, 16);
    get_bytes(r, t->site, 16);
    get_bytes(r, t->key, 32);
    t->role = rd_u32(r);
    t->clean = rd_u32(r);
    t->created_wall_ns = rd_i64(r);
    get_bytes(r, t->machine, 16);
    t->dev = rd_u64(r);
    t->ino = rd_u64(r);
    t->durable = rd_u64(r);
    t->last_lsn = rd_u64(r);
    get_bytes(r, t->last_hash.b, 16);
    t->incarnation = rd_u64(r);
    t->segment_gen = rd_u64(r);
    t->n_epochs = rd_u32(r);
    t->config_len = rd_u32(r);
    get_bytes(r, t->reserved, sizeof t->reserved);
}

/* Settings and epochs, and the gaps behind them. Lengths were checked; r stands at AT_CONFIG. */
static int get_tables(struct rd *r, struct super *t, struct err *err)
{
    get_bytes(r, t->config, t->config_len);
    rd_zero(r, SUPER_CONFIG_MAX - t->config_len);
    if (r->bad)
        return err_set(err, ERR_DAMAGE, "%s: the bytes behind the settings, from %" PRIu32
                       " on, are not all zero", what, (uint32_t)AT_CONFIG + t->config_len);
    for (uint32_t i = 0; i < t->n_epochs; i++)
        epoch_row_get(r, &t->epochs[i]);
    rd_zero(r, r->left - FILEHEAD_HASH_BYTES);
    if (r->bad)
        return err_set(err, ERR_DAMAGE, "%s: the bytes behind the epoch rows, from %" PRIu32
                       " on, are not all zero", what, (uint32_t)AT_EPOCHS + t->n_epochs * EPOCH_ROW_BYTES);
    return 0;
}

/* Into *t, whatever comes of it. */
static int decode(const uint8_t *buf, size_t len, struct super *t, struct err *err)
{
    struct rd r = rd_init(buf, len);
    struct filehead h;
    int rc = filehead_decode(buf, len, magic, what, &h, err);

    if (rc)
        return rc;
    if (len < SUPER_FILE_MIN || len > SUPER_FILE_MAX)
        return err_set(err, ERR_DAMAGE, "%s: %zu bytes long, expected %d to %d", what, len, SUPER_FILE_MIN, SUPER_FILE_MAX);
    rc = filehead_check(buf, len, what, err);
    if (rc)
        return rc;
    t->version = h.version;
    t->version_min = h.version_min;
    t->compat = h.compat;
    t->ro_compat = h.ro_compat;
    t->incompat = h.incompat;
    t->hash_alg = h.hash_alg;
    t->key_id = h.key_id;
    (void)rd_bytes(&r, AT_FIXED);
    get_fixed(&r, t);
    if (t->n_epochs > SUPER_EPOCHS_MAX)
        return err_set(err, ERR_DAMAGE, "%s: number of epochs at byte 232 is %" PRIu32 ", at most %d fit",
                       what, t->n_epochs, SUPER_EPOCHS_MAX);
    if (len != super_bytes(t->n_epochs))
        return err_set(err, ERR_DAMAGE, "%s: %zu bytes long, expected %zu for the %" PRIu32 " epochs of byte 232", what, len,
                       super_bytes(t->n_epochs), t->n_epochs);
    if (t->config_len > SUPER_CONFIG_MAX)
        return err_set(err, ERR_DAMAGE, "%s: length of the settings at byte 236 is %" PRIu32
                       ", at most %d fit", what, t->config_len, SUPER_CONFIG_MAX);
    rc = check_fields(t, err);
    if (!rc)
        rc = get_tables(&r, t, err);
    if (!rc)
        rc = check_epochs(t, err);
    return rc ? rc : check_config(t, err);
}

/* (Too large for a stack.) */
static struct super *super_new(struct err *err)
{
    struct super *t = malloc(sizeof *t);

    if (t)
        memset(t, 0, offsetof(struct super, epochs));
    else
        err_set(err, ERR_NOMEM, "%s: out of memory", what);
    return t;
}

int super_decode(const uint8_t *buf, size_t len, struct super *sb, struct err *err)
{
    struct super *t = super_new(err);
    int rc = t ? decode(buf, len, t, err) : ERR_NOMEM;

    if (!rc)
        super_copy(sb, t);
    free(t);
    return rc;
}

static int check_copy(const uint8_t *buf, size_t len, uint64_t *gen, struct err *err)
{
    struct super *t = super_new(err);
    int rc = t ? decode(buf, len, t, err) : ERR_NOMEM;

    if (!rc)
        *gen = t->gen;
    free(t);
    return rc;
}

int super_read(struct io *io, struct super *sb, struct err *warn, struct err *err)
{
    struct pair p;
    int i, rc = pair_load(io, "super", SUPER_FILE_MAX, check_copy, &p, err);

    if (rc)
        goto out;
    i = pair_current(&p, warn, err);
    if (i == ERR_NOENT)
        i = err_set(err, ERR_NOSTORE, "this is not a store: it has neither super.0 nor super.1");
    rc = i < 0 ? i : super_decode(p.copy[i].buf, p.copy[i].len, sb, err);
    if (!rc && p.copy[1 - i].rc)
        sb->clean = 0;      /* the other copy may have been the newer one: trust no "closed cleanly" */
out:
    pair_release(&p);
    return rc;
}

int super_read_file(struct io *io, const char *path, struct super *sb, struct err *err)
{
    uint8_t *buf = malloc(SUPER_FILE_MAX);
    struct io_file *f = NULL;
    int rc = buf ? io_open(io, path, IO_RDONLY, &f, err) : err_set(err, ERR_NOMEM, "%s: out of memory", what);
    int64_t n;

    if (!rc) {
        n = io_pread(f, buf, SUPER_FILE_MAX, 0, err);
        rc = n < 0 ? (int)n : super_decode(buf, (size_t)n, sb, err);
        io_close(f);
    }
    free(buf);
    return rc;
}

int super_writable(const struct super *sb, struct err *err)
{
    struct filehead h = { .ro_compat = sb->ro_compat };

    return filehead_writable(&h, what, err);
}

int super_write(struct io *io, struct super *sb, struct err *err)
{
    uint8_t *buf = NULL;
    struct super *t = NULL;
    struct err why = { 0 };
    size_t len;
    int rc = super_writable(sb, err);

    if (rc)
        return rc;
    /* What could not be read back must never get to the disk. */
    if (sb->n_epochs > SUPER_EPOCHS_MAX || sb->config_len > SUPER_CONFIG_MAX)
        return err_set(err, ERR_INVAL, "not written: %s: a table is too long", what);
    buf = malloc(SUPER_FILE_MAX);
    t = super_new(err);
    if (!buf || !t) {
        rc = err_set(err, ERR_NOMEM, "%s: out of memory", what);
        goto out;
    }
    super_copy(t, sb);
    t->gen++;
    len = super_encode(t, buf);
    rc = decode(buf, len, t, &why);
    if (rc) {
        rc = err_set(err, ERR_INVAL, "not written: %s", why.msg);
        goto out;
    }
    rc = pair_update(io, "super", SUPER_FILE_MAX, check_copy, sb->gen, &sb->current, buf, len, err);
    if (!rc)
        sb->gen++;
out:
    free(t);
    free(buf);
    return rc;
}

int super_config_get(const struct super *sb, const char *name, char *buf, size_t cap)
{
    size_t n = strlen(name), len = 0;
    const char *line = config_line(sb, name, n, sb->config_len, &len);

    if (!line || !n)
        return ERR_NOENT;
    len -= n + 2;           /* name, '=' and newline */
    if (len >= cap)
        return ERR_RANGE;
    memcpy(buf, line + n + 1, len);
    buf[len] = '\0';
    return (int)len;
}

int super_config_set(struct super *sb, const char *name, const char *value, struct err *err)
{
    size_t n = strlen(name), v = value ? strlen(value) : 0, old = 0, add = value ? n + v + 2 : 0;
    const char *line;

    if (!n || strchr(name, '=') || !is_text(name, n))
        return err_set(err, ERR_INVAL, "\"%s\" cannot be the name of a setting", name);
    if (value && !is_text(value, v))
        return err_set(err, ERR_INVAL, "the value of setting \"%s\" holds control characters or is not UTF-8",
                       name);
    line = config_line(sb, name, n, sb->config_len, &old);
    if (!line)
        old = 0;
    if (sb->config_len - old + add > SUPER_CONFIG_MAX)
        return err_set(err, ERR_TOOLONG, "setting \"%s\": settings would take %zu bytes, at most %d fit", name,
                       sb->config_len - old + add, SUPER_CONFIG_MAX);
    if (line) {
        size_t at = (size_t)(line - sb->config), rest = sb->config_len - at - old;

        memmove(sb->config + at, line + old, rest);
        sb->config_len -= (uint32_t)old;
    }
    if (value) {
        char *p = sb->config + sb->config_len;

        memcpy(p, name, n);
        p[n] = '=';
        memcpy(p + n + 1, value, v);
        p[n + v + 1] = '\n';
        sb->config_len += (uint32_t)add;
    }
    memset(sb->config + sb->config_len, 0, SUPER_CONFIG_MAX - sb->config_len);
    return 0;
}
