/* options.c: what follows -o; see mount.h. */
#include "fs/mount.h"

#include "fs/shim.h"
#include "store/core/store.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void fs_options_init(struct fs_options *o)
{
    *o = (struct fs_options){ .allow_other = geteuid() == 0, .spin_us = UINT32_MAX };
    snprintf(o->snapdir, sizeof o->snapdir, "%s", FS_SNAPDIR_DEFAULT);
}

static int set_text(char *to, size_t cap, const char *name, const char *value, struct err *err)
{
    if (snprintf(to, cap, "%s", value) >= (int)cap)
        return err_set(err, ERR_USAGE, "option %s: the value is longer than %zu bytes", name, cap - 1);
    return 0;
}

static int set_past(struct fs_options *o, const char *v, struct err *err)
{
    if (strcmp(v, "owner") == 0)
        o->past = FS_PAST_OWNER;
    else if (strcmp(v, "all") == 0)
        o->past = FS_PAST_ALL;
    else if (strcmp(v, "off") == 0)
        o->past = FS_PAST_OFF;
    else
        return err_set(err, ERR_USAGE, "option past=%s: owner, all or off is expected", v);
    return 0;
}

static int set_fsync(struct fs_options *o, const char *v, struct err *err)
{
    if (strcmp(v, "ordered") != 0 && strcmp(v, "durable") != 0)
        return err_set(err, ERR_USAGE, "option fsync=%s: durable or ordered is expected", v);
    o->fsync_ordered = strcmp(v, "ordered") == 0;
    return 0;
}

static int set_snapdir(struct fs_options *o, const char *v, struct err *err)
{
    if (v[0] == '\0' || strchr(v, '/') || strcmp(v, ".") == 0 || strcmp(v, "..") == 0 || strlen(v) > 255)
        return err_set(err, ERR_USAGE, "option snapdir=%s: a name of 1 to 255 bytes without / is expected", v);
    return set_text(o->snapdir, sizeof o->snapdir, "snapdir", v, err);
}

static int set_memory(struct fs_options *o, const char *v, struct err *err)
{
    char *end;
    unsigned long long n;
    unsigned shift = 0;

    errno = 0;
    n = strtoull(v, &end, 10);
    if (*end == 'K' || *end == 'k')
        shift = 10;
    else if (*end == 'M' || *end == 'm')
        shift = 20;
    else if (*end == 'G' || *end == 'g')
        shift = 30;
    if (shift)
        end++;
    if (v[0] < '0' || v[0] > '9' || *end || errno || n > (UINT64_MAX >> shift) || n << shift < 16u << 20)
        return err_set(err, ERR_USAGE, "option memory=%s: a size of at least 16M is expected, like 256M or 1G", v);
    o->memory_bytes = (uint64_t)n << shift;
    return 0;
}

static int set_spin(struct fs_options *o, const char *v, struct err *err)
{
    char *end;
    unsigned long n;

    errno = 0;
    n = strtoul(v, &end, 10);
    if (v[0] < '0' || v[0] > '9' || *end || errno || n > 10000)
        return err_set(err, ERR_USAGE, "option spin_us=%s: 0 to 10000 is expected", v);
    o->spin_us = (uint32_t)n;
    return 0;
}

static bool set_flag(struct fs_options *o, const char *item)
{
    static const char *const ignored[] = {
        "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "_netdev", "nofail", "async",
        "atime", "noatime", "relatime", "strictatime", "nodiratime", "default_permissions",
    };
    const struct { const char *name; bool *flag; bool value; } flags[] = {
        { "ro", &o->read_only, true }, { "rw", &o->read_only, false },
        { "allow_other", &o->allow_other, true }, { "nonempty", &o->nonempty, true }, { "remount", &o->remount, true },
        { "writeback", &o->writeback, true }, { "nosuid", &o->nosuid, true }, { "suid", &o->nosuid, false },
        { "nodev", &o->nodev, true }, { "dev", &o->nodev, false }, { "noexec", &o->noexec, true },
        { "exec", &o->noexec, false },
    };

    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (strcmp(item, flags[i].name) == 0) {
            *flags[i].flag = flags[i].value;
            o->mode_said |= flags[i].flag == &o->read_only;
            return true;
        }
    }
    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
        if (strcmp(item, ignored[i]) == 0)
            return true;
    if (strcmp(item, "moved") == 0 || strcmp(item, "copied") == 0) {
        o->location = item[0] == 'm' ? LOCATION_MOVED : LOCATION_COPIED;
        return true;
    }
    return strncmp(item, "x-", 2) == 0 || strncmp(item, "comment=", 8) == 0 || strncmp(item, "user_id=", 8) == 0 || strncmp(item, "group_id=", 9) == 0;
}

static int set_one(struct fs_options *o, char *item, struct err *err)
{
    char *v;

    if (item[0] == '\0' || set_flag(o, item))
        return 0;
    v = strchr(item, '=');
    if (v) {
        *v++ = '\0';
        if (strcmp(item, "past") == 0)
            return set_past(o, v, err);
        if (strcmp(item, "fsync") == 0)
            return set_fsync(o, v, err);
        if (strcmp(item, "snapdir") == 0)
            return set_snapdir(o, v, err);
        if (strcmp(item, "memory") == 0)
            return set_memory(o, v, err);
        if (strcmp(item, "spin_us") == 0)
            return set_spin(o, v, err);
        if (strcmp(item, "fsname") == 0)
            return set_text(o->fsname, sizeof o->fsname, item, v, err);
        if (strcmp(item, "log") == 0)
            return set_text(o->log_file, sizeof o->log_file, item, v, err);
    }
    return err_set(err, ERR_USAGE, "unknown mount option %s; known: ro rw allow_other past=owner|all|off snapdir=NAME "
                   "writeback fsync=ordered|durable memory=SIZE spin_us=N fsname=TEXT nonempty remount nosuid nodev noexec "
                   "log=FILE moved copied", item);
}

int fs_options_parse(struct fs_options *o, const char *text, struct err *err)
{
    char *copy = strdup(text), *save = NULL;
    int code = copy ? 0 : err_set(err, ERR_NOMEM, "mount options: out of memory");

    for (char *item = copy ? strtok_r(copy, ",", &save) : NULL; item && code == 0; item = strtok_r(NULL, ",", &save))
        code = set_one(o, item, err);
    free(copy);
    return code;
}

int fs_options_text(const struct fs_options *o, char *buf, size_t cap)
{
    static const char *const past[] = { [FS_PAST_OWNER] = "owner", [FS_PAST_ALL] = "all", [FS_PAST_OFF] = "off" };
    int n = snprintf(buf, cap, "%s%s,past=%s,fsync=%s,snapdir=%s%s%s%s%s%s", o->read_only ? "ro" : "rw", o->allow_other ? ",allow_other" : "",
                     past[o->past], o->fsync_ordered ? "ordered" : "durable", o->snapdir, o->nonempty ? ",nonempty" : "", o->writeback ? ",writeback" : "",
                     o->nosuid ? ",nosuid" : "", o->nodev ? ",nodev" : "", o->noexec ? ",noexec" : "");

    if (n > 0 && (size_t)n < cap && o->memory_bytes != 0)
        n += snprintf(buf + n, cap - (size_t)n, ",memory=%llu", (unsigned long long)o->memory_bytes);
    if (n > 0 && (size_t)n < cap && o->spin_us != UINT32_MAX)
        n += snprintf(buf + n, cap - (size_t)n, ",spin_us=%u", o->spin_us);
    if (n > 0 && (size_t)n < cap && o->log_file[0])
        n += snprintf(buf + n, cap - (size_t)n, ",log=%s", o->log_file);
    /* The default, the store's path, may have a comma in it; what was given behind -o has none. */
    if (n > 0 && (size_t)n < cap && o->fsname[0] && strcmp(o->fsname, o->store) != 0)
        n += snprintf(buf + n, cap - (size_t)n, ",fsname=%s", o->fsname);
    return n > 0 && (size_t)n < cap ? 0 : ERR_USAGE;
}
