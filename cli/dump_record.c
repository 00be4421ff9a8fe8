#include "cli/dump_record.h"

#include "cli/out.h"
#include "store/base/bytes.h"
#include "store/core/moment.h"
#include "store/svc/wire.h"

#include <stdio.h>
#include <string.h>

static void num(json_t *o, const char *key, uint64_t v)
{
    json_object_set_new(o, key, json_integer((json_int_t)v));
}

static void octal(json_t *o, const char *key, uint32_t v)
{
    char buf[16];

    snprintf(buf, sizeof buf, "%07o", v);
    json_object_set_new(o, key, json_string(buf));
}

static void hex(json_t *o, const char *key, const uint8_t *p, size_t len)
{
    char buf[64];

    hex_put(buf, p, len < 31 ? len : 31);
    json_object_set_new(o, key, json_string(buf));
}

static void bytes(json_t *o, const char *key, struct rec_bytes b)
{
    wire_set_bytes(o, key, b.p ? (const char *)b.p : "", b.p ? b.len : 0);
}

static void when(json_t *o, const char *key, struct rec_time t)
{
    char buf[48];

    snprintf(buf, sizeof buf, "%lld.%09u", (long long)t.sec, t.nsec);
    json_object_set_new(o, key, json_string(buf));
}

static void setattr(json_t *o, const struct record *r)
{
    uint32_t v = r->u.setattr.valid;

    if (v & RSA_MODE)
        octal(o, "mode", r->u.setattr.mode);
    if (v & RSA_UID)
        num(o, "set_uid", r->u.setattr.uid);
    if (v & RSA_GID)
        num(o, "set_gid", r->u.setattr.gid);
    if (v & RSA_SIZE)
        num(o, "size_bytes", r->u.setattr.size);
    if (v & RSA_ATIME)
        when(o, "atime", r->u.setattr.atime);
    if (v & RSA_MTIME)
        when(o, "mtime", r->u.setattr.mtime);
}

static void args_of_names(json_t *o, const struct record *r)
{
    switch (r->type) {
    case REC_CREATE:
        num(o, "parent", r->u.create.parent);
        bytes(o, "name", r->u.create.name);
        octal(o, "mode", r->u.create.mode);
        num(o, "owner_uid", r->u.create.uid);
        num(o, "owner_gid", r->u.create.gid);
        if (r->u.create.rdev)
            num(o, "device", r->u.create.rdev);
        if (r->u.create.target.len)
            bytes(o, "target", r->u.create.target);
        if (r->u.create.n_xattr)
            num(o, "attributes", r->u.create.n_xattr);
        break;
    case REC_LINK:
    case REC_UNLINK:
        num(o, "parent", r->u.link.parent);
        bytes(o, "name", r->u.link.name);
        break;
    default:
        num(o, "parent", r->u.rename.src_parent);
        bytes(o, "name", r->u.rename.src_name);
        num(o, "to_parent", r->u.rename.dst_parent);
        bytes(o, "to_name", r->u.rename.dst_name);
        if (r->u.rename.dst_ino)
            num(o, "replaces", r->u.rename.dst_ino);
        if (r->u.rename.flags)
            json_object_set_new(o, "how", json_string(r->u.rename.flags & RRN_EXCHANGE ? "exchange" : "noreplace"));
        break;
    }
}

static void args_of_data(json_t *o, const struct record *r)
{
    switch (r->type) {
    case REC_WRITE:
    case REC_REWRITE:
        num(o, "offset", r->u.write.off);
        break;
    case REC_CLONE:
        num(o, "from_inode", r->u.clone.src_ino);
        num(o, "from_offset", r->u.clone.src_off);
        num(o, "offset", r->u.clone.dst_off);
        num(o, "length", r->u.clone.len);
        if (r->u.clone.origin)
            num(o, "origin_lsn", r->u.clone.origin);
        num(o, "pieces", r->u.clone.n_pieces);
        break;
    default:
        num(o, "mode", r->u.fallocate.mode);
        num(o, "offset", r->u.fallocate.off);
        num(o, "length", r->u.fallocate.len);
        break;
    }
}

static void args_of_marks(json_t *o, const struct record *r)
{
    static const char *const actions[] = { "?", "create", "delete", "hold", "release" };

    switch (r->type) {
    case REC_SNAPSHOT:
        json_object_set_new(o, "action", json_string(actions[r->u.snapshot.action <= RSN_RELEASE ? r->u.snapshot.action : 0]));
        num(o, "at_lsn", r->u.snapshot.at);
        bytes(o, "name", r->u.snapshot.name);
        bytes(o, "reason", r->u.snapshot.reason);
        bytes(o, "person", r->u.snapshot.person);
        break;
    case REC_REAP:
        num(o, "inodes", r->u.reap.n);
        break;
    case REC_SERIES_BEGIN:
    case REC_SERIES_END:
        num(o, "series", r->u.series.id);
        bytes(o, "text", r->u.series.text);
        break;
    case REC_CANARY:
        num(o, "nonce", r->u.canary.nonce & INT64_MAX);
        break;
    case REC_MOUNT:
        json_object_set_new(o, "action", json_string(r->u.mount.action == 1 ? "mount" : "unmount"));
        bytes(o, "host", r->u.mount.host);
        bytes(o, "dir", r->u.mount.dir);
        break;
    case REC_INCARNATION:
        bytes(o, "host", r->u.incarnation.host);
        bytes(o, "boot_id", r->u.incarnation.boot_id);
        break;
    case REC_EPOCH:
        num(o, "number", r->u.epoch.number);
        hex(o, "site", r->u.epoch.site, 16);
        hex(o, "id", r->u.epoch.id, 16);
        hex(o, "lineage", r->u.epoch.lineage, 16);
        bytes(o, "reason", r->u.epoch.reason);
        break;
    default:
        bytes(o, "name", r->u.text.name);
        bytes(o, "value", r->u.text.value);
        break;
    }
}

json_t *dump_record(const struct record *r)
{
    const char *name = record_type_name(r->type);
    json_t *o = json_object();
    char buf[40];

    num(o, "lsn", r->lsn);
    json_object_set_new(o, "type", json_string(name ? name : "?"));
    moment_rfc3339(r->wall_ns, buf);
    json_object_set_new(o, "time", json_string(buf));
    if (r->ino)
        num(o, "inode", r->ino);
    switch (r->type) {
    case REC_CREATE: case REC_LINK: case REC_UNLINK: case REC_RENAME: args_of_names(o, r); break;
    case REC_WRITE: case REC_REWRITE: case REC_CLONE: case REC_FALLOCATE: args_of_data(o, r); break;
    case REC_SETATTR: setattr(o, r); break;
    case REC_SETXATTR: case REC_REMOVEXATTR:
        bytes(o, "name", r->u.xattr.name);
        num(o, "value_bytes", r->u.xattr.value.len);
        break;
    default: args_of_marks(o, r); break;
    }
    if (r->data_len)
        num(o, "data_bytes", r->data_len);
    if (r->flags & RECF_NEW_BURST)
        json_object_set_new(o, "new_burst", json_true());
    if (r->flags & RECF_KILL_PRIV)
        json_object_set_new(o, "kill_priv", json_true());
    if (r->flags & RECF_SERIES)
        json_object_set_new(o, "in_series", json_true());
    if (r->flags & RECF_NOHISTORY)
        json_object_set_new(o, "no_history", json_true());
    if (r->flags & RECF_NOHISTORY_BACK)
        json_object_set_new(o, "no_history_back", json_true());
    num(o, "uid", r->uid);
    num(o, "gid", r->gid);
    num(o, "pid", r->pid);
    num(o, "epoch", r->epoch);
    hex(o, "incarnation", (const uint8_t[]){ (uint8_t)(r->incarnation >> 56), (uint8_t)(r->incarnation >> 48),
        (uint8_t)(r->incarnation >> 40), (uint8_t)(r->incarnation >> 32), (uint8_t)(r->incarnation >> 24),
        (uint8_t)(r->incarnation >> 16), (uint8_t)(r->incarnation >> 8), (uint8_t)r->incarnation }, 8);
    num(o, "prev_lsn", r->prev_lsn);
    hex(o, "hash", r->hash.b, 16);
    return o;
}

void dump_line(const json_t *o)
{
    const char *sep = "";
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)o, key, v) {
        size_t n = strlen(key);

        if (n > 4 && strcmp(key + n - 4, "_hex") == 0)
            continue;
        if (json_is_string(v))
            out_text("%s%s=%s", sep, key, item_name(o, key));
        else if (json_is_integer(v))
            out_text("%s%s=%" JSON_INTEGER_FORMAT, sep, key, json_integer_value(v));
        else
            out_text("%s%s", sep, key);
        sep = " ";
    }
    out_text("\n");
}
