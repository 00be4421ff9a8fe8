#include "cli/dump.h"

#include "cli/cli.h"
#include "cli/dump_internal.h"
#include "cli/dump_pack.h"
#include "cli/dump_record.h"
#include "store/core/role.h"
#include "store/base/bytes.h"
#include "store/base/super.h"
#include "store/core/moment.h"
#include "store/log/frame.h"
#include "store/log/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void dump_show(json_t *o)
{
    if (out_json)
        out_object(o);
    else
        dump_line(o);
    json_decref(o);
}

void dump_num(json_t *o, const char *key, uint64_t v)
{
    json_object_set_new(o, key, json_integer((json_int_t)v));
}

void dump_hex(json_t *o, const char *key, const uint8_t *p, size_t len)
{
    char buf[80];

    hex_put(buf, p, len < 39 ? len : 39);
    json_object_set_new(o, key, json_string(buf));
}

void dump_when(json_t *o, const char *key, int64_t wall_ns)
{
    char buf[40];

    moment_rfc3339(wall_ns, buf);
    json_object_set_new(o, key, json_string(buf));
}

int64_t dump_read(const struct dump_in *f, void *buf, size_t len, uint64_t off, struct err *err)
{
    size_t got = 0;

    while (got < len) {
        ssize_t n = pread(f->fd, (uint8_t *)buf + got, len - got, (off_t)(off + got));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_from_errno(err, errno, "%s: offset %llu", f->path, (unsigned long long)off);
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return (int64_t)got;
}

/* ---- segment ---- */

static void show_header(const struct segment_header *h)
{
    json_t *o = json_object();

    json_object_set_new(o, "file", json_string("segment"));
    dump_num(o, "version", h->version);
    dump_num(o, "version_min", h->version_min);
    dump_num(o, "compat", h->compat);
    dump_num(o, "ro_compat", h->ro_compat);
    dump_num(o, "incompat", h->incompat);
    dump_hex(o, "lineage", h->lineage, 16);
    dump_hex(o, "site", h->site, 16);
    dump_num(o, "hash_alg", h->hash_alg);
    dump_num(o, "generation", h->gen);
    dump_num(o, "first_lsn", h->first);
    dump_num(o, "capacity_bytes", h->capacity);
    dump_num(o, "epoch", h->epoch);
    dump_num(o, "previous_generation", h->prev_gen);
    dump_num(o, "previous_first_lsn", h->prev_first);
    dump_num(o, "cut_lsn", h->cut);
    dump_num(o, "previous_lsn", h->prev_lsn);
    dump_when(o, "created", h->created_wall_ns);
    dump_show(o);
}

/* Nothing but zeros from ${off} on: reserved space that was never written. */
static int rest_is_zero(const struct dump_in *f, uint64_t off, bool *zero, struct err *err)
{
    static uint8_t buf[1 << 16];

    *zero = true;
    while (off < f->size && *zero) {
        int64_t n = dump_read(f, buf, sizeof buf, off, err);

        if (n < 0)
            return (int)n;
        if (n == 0)
            break;
        for (int64_t i = 0; i < n && *zero; i++)
            *zero = buf[i] == 0;
        off += (uint64_t)n;
    }
    return 0;
}

void dump_end(const char *how, uint64_t off, uint64_t lsn, uint64_t records)
{
    json_t *o = json_object();

    json_object_set_new(o, "end", json_string(how));
    dump_num(o, "file_offset", off);
    dump_num(o, "lsn", lsn);
    dump_num(o, "records", records);
    dump_show(o);
}

/* One frame at ${off}: its record into ${rec}, backed by *buf. 1 a record, 0 none (*how says why), < 0 damage. */
static int read_frame(const struct dump_in *f, const struct segment_header *h, uint64_t off, struct record *rec, uint8_t **buf,
                      struct frame *fr, const char **how, struct err *err)
{
    uint8_t raw[FRAME_BYTES];
    uint64_t lsn = h->first + (off - SEGMENT_HEADER_BYTES);
    uint32_t bad;
    bool zero;
    int64_t n = off >= f->size ? 0 : dump_read(f, raw, sizeof raw, off, err);
    int r;

    if (n < 0)
        return (int)n;
    if (n == 0) {
        *how = "end of file";
        return 0;
    }
    if (n < FRAME_BYTES || !frame_decode(raw, fr)) {
        r = rest_is_zero(f, off, &zero, err);
        if (r)
            return r;
        *how = "reserved space";
        return zero ? 0 : err_set(err, ERR_DAMAGE, "%s: offset %llu (LSN %llu): expected a frame, found other bytes: damage, or the "
                                  "torn end of an unclean stop", f->path, (unsigned long long)off, (unsigned long long)lsn);
    }
    if (fr->gen != h->gen) {
        *how = "frames of an earlier use of this file";
        return 0;
    }
    if (fr->lsn != lsn || fr->rec_len > (uint32_t)REC_HEAD_MAX + REC_DATA_MAX)
        return err_set(err, ERR_DAMAGE, "%s: offset %llu: expected a frame of LSN %llu, found LSN %llu, %u bytes", f->path,
                       (unsigned long long)off, (unsigned long long)lsn, (unsigned long long)fr->lsn, fr->rec_len);
    *buf = malloc(fr->rec_len + 1u);
    if (!*buf)
        return err_set(err, ERR_NOMEM, "%s: no memory for a record of %u bytes", f->path, fr->rec_len);
    n = dump_read(f, *buf, fr->rec_len, off + FRAME_BYTES, err);
    if (n < 0)
        return (int)n;
    if (n < fr->rec_len)
        return err_set(err, ERR_DAMAGE, "%s: offset %llu (LSN %llu): expected a record of %u bytes, found %lld before the end of the file",
                       f->path, (unsigned long long)off, (unsigned long long)lsn, fr->rec_len, (long long)n);
    r = record_decode(*buf, fr->rec_len, rec, err);
    if (r || rec->lsn != lsn || (uint64_t)rec->head_len + rec->data_len != fr->rec_len) {
        /* err_set formats before it stores, so the old message may go into the new one. */
        const char *why = r && err->msg[0] ? err->msg : "its lengths or its LSN are not those of its frame";

        return err_set(err, ERR_DAMAGE, "%s: offset %llu (LSN %llu): expected a record, found: %s", f->path,
                       (unsigned long long)off, (unsigned long long)lsn, why);
    }
    if (rec->data_len && record_check_data(rec, *buf + rec->head_len, 0, rec->data_len, &bad))
        return err_set(err, ERR_DAMAGE, "%s: offset %llu (LSN %llu): expected data that matches its sums, found a bad block at byte %u",
                       f->path, (unsigned long long)off, (unsigned long long)lsn, bad);
    return 1;
}

static int dump_segment(const struct dump_in *f, const struct segment_header *h, struct err *err)
{
    uint64_t off = SEGMENT_HEADER_BYTES, records = 0;
    const char *how = "";
    struct frame fr;
    struct record rec;
    int r;

    show_header(h);
    for (;;) {
        uint8_t *buf = NULL;
        json_t *o;

        if (out_interrupted)
            return err_set(err, ERR_INTR, "interrupted");
        r = read_frame(f, h, off, &rec, &buf, &fr, &how, err);
        if (r == 1) {
            o = dump_record(&rec);
            dump_num(o, "file_offset", off);
            dump_num(o, "durable_lsn", fr.durable);
            dump_show(o);
            records++;
            off += frame_span(fr.rec_len);
        }
        free(buf);
        if (r <= 0)
            break;
    }
    if (r == 0)
        dump_end(how, off, h->first + (off - SEGMENT_HEADER_BYTES), records);
    return r;
}

/* ---- superblock, retained set ---- */

static void dump_super(const struct super *sb)
{
    json_t *o = json_object();
    const char *p = sb->config, *end = sb->config + sb->config_len;

    json_object_set_new(o, "file", json_string("superblock"));
    dump_num(o, "generation", sb->gen);
    dump_hex(o, "lineage", sb->lineage, 16);
    dump_hex(o, "site", sb->site, 16);
    json_object_set_new(o, "role", json_string(role_name(sb->role)));
    dump_num(o, "hash_alg", sb->hash_alg);
    dump_num(o, "key_id", sb->key_id);
    dump_when(o, "created", sb->created_wall_ns);
    dump_hex(o, "machine", sb->machine, 16);
    dump_num(o, "directory_device", sb->dev);
    dump_num(o, "directory_inode", sb->ino);
    json_object_set_new(o, "clean", json_boolean(sb->clean));
    dump_num(o, "durable_lsn", sb->durable);
    dump_num(o, "last_lsn", sb->last_lsn);
    dump_hex(o, "last_hash", sb->last_hash.b, 16);
    dump_num(o, "segment_generation", sb->segment_gen);
    dump_show(o);
    for (uint32_t i = 0; i < sb->n_epochs; i++) {
        o = json_object();
        dump_num(o, "epoch", sb->epochs[i].number);
        dump_hex(o, "site", sb->epochs[i].site, 16);
        dump_hex(o, "id", sb->epochs[i].id, 16);
        dump_hex(o, "lineage", sb->epochs[i].lineage, 16);
        dump_num(o, "first_lsn", sb->epochs[i].first_lsn);
        dump_show(o);
    }
    while (p < end) {
        size_t n = strcspn(p, "\n"), left = (size_t)(end - p);

        n = n < left ? n : left;
        o = json_object();
        json_object_set_new(o, "setting", json_stringn(p, n));
        dump_show(o);
        p += n + 1;
    }
}

static void dump_retained(const struct retained *r, const uint8_t lineage[16])
{
    static const char *const kinds[] = { "?", "kept", "pin", "snapshot", "hold" };
    json_t *o = json_object();

    json_object_set_new(o, "file", json_string("retained set"));
    dump_num(o, "generation", r->gen);
    dump_hex(o, "lineage", lineage, 16);
    dump_num(o, "horizon_lsn", r->horizon);
    dump_num(o, "listed_lsn", r->listed);
    if (r->leaving) {
        dump_num(o, "leaving_lsn", r->leaving);
        dump_num(o, "leaving_age_ns", r->leaving_age_ns);
    }
    dump_num(o, "points", r->n);
    dump_show(o);
    for (uint32_t i = 0; i < r->n; i++) {
        const struct retained_point *p = &r->point[i];

        o = json_object();
        dump_num(o, "point_lsn", p->lsn);
        json_object_set_new(o, "kind", json_string(kinds[p->kind <= RETAIN_HOLD ? p->kind : 0]));
        dump_when(o, "placed", p->placed_ns);
        if (p->kind == RETAIN_KEPT && p->until_ns)
            dump_num(o, "leaves_age_ns", (uint64_t)p->until_ns);
        else if (p->until_ns)
            dump_when(o, "until", p->until_ns);
        dump_hex(o, "owner", p->owner, 16);
        dump_show(o);
    }
}

/* What a file is called says what it should be; its own bytes are asked first. */
static int none_of_them(const struct dump_in *f, const struct err *seg, const struct err *sup, const struct err *ret, struct err *err)
{
    const char *base = strrchr(f->path, '/');
    uint64_t first, gen;

    base = base ? base + 1 : f->path;
    if (segment_parse(base, &first, &gen))
        return err_set(err, seg->code, "%s: %s", f->path, seg->msg);
    if (strncmp(base, "super.", 6) == 0)
        return err_set(err, sup->code, "%s: %s", f->path, sup->msg);
    if (strncmp(base, "retained.", 9) == 0)
        return err_set(err, ret->code, "%s: %s", f->path, ret->msg);
    return err_set(err, ERR_USAGE, "%s: expected a log segment, an archive file, a base, a pack, a superblock or a retained set, found none of them", f->path);
}

int dump_file(const char *path, struct err *err)
{
    enum { READ_MAX = RETAINED_FILE_MAX };     /* holds any of these whole, or the head of a segment */
    struct dump_in f = { .path = path, .fd = open(path, O_RDONLY | O_CLOEXEC) };
    struct segment_header h;
    struct super *sb = malloc(sizeof *sb);
    struct retained ret = { 0 };
    uint8_t *buf = malloc(READ_MAX), lineage[16];
    struct err seg = { 0 }, sup = { 0 }, rete = { 0 };
    struct stat st;
    int64_t n;
    int r = 0;

    if (f.fd < 0 || fstat(f.fd, &st)) {
        r = err_from_errno(err, errno, "%s", path);
    } else if (!S_ISREG(st.st_mode)) {
        r = err_set(err, ERR_USAGE, "%s: expected a file, found something else; name one of log/*.seg, archive/*.arc, archive/*.base, packs/*.pack, super.0, super.1, "
                    "retained.0, retained.1", path);
    } else if (!sb || !buf) {
        r = err_set(err, ERR_NOMEM, "%s: no memory", path);
    }
    if (r)
        goto out;
    f.size = (uint64_t)st.st_size;
    n = dump_read(&f, buf, READ_MAX, 0, err);
    if (n < 0) {
        r = (int)n;
    } else if (segment_header_decode(buf, (size_t)n, &h, &seg) == 0) {
        r = dump_segment(&f, &h, err);
    } else if (dump_is_archive(&f, buf, (size_t)n)) {
        r = dump_archive(&f, err);
    } else if (dump_is_base(&f, buf, (size_t)n)) {
        r = dump_base(&f, err);
    } else if (dump_is_pack(&f, buf, (size_t)n)) {
        r = dump_pack(&f, err);
    } else if (super_decode(buf, (size_t)n, sb, &sup) == 0) {
        dump_super(sb);
    } else if (retained_decode(buf, (size_t)n, lineage, &ret, &rete) == 0) {
        dump_retained(&ret, lineage);
    } else {
        r = none_of_them(&f, &seg, &sup, &rete, err);
    }
out:
    if (f.fd >= 0)
        close(f.fd);
    free(sb);
    retained_release(&ret);
    free(buf);
    return r;
}

int cmd_dump(int argc, char **argv)
{
    struct err err = { 0 };
    int code = 0, o, r;

    while ((o = cli_option(argc, argv, "", NULL, 0, &code)) != -1)
        if (o == -2)
            return code;
    if (argc - optind != 1)
        return cli_usage("dump", "expected one file, found %d arguments", argc - optind);
    r = dump_file(argv[optind], &err);
    return r ? out_error(&err, r) : EXIT_OK;
}
