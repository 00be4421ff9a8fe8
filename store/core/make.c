/* make.c: a new store, and what is left of one that was cut off while it was made. The superblock comes last. */
#include "store/core/core_internal.h"

#include "store/pack/archive.h"
#include "store/pack/base.h"
#include "store/pack/pack.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* One record, outside any index: for making a store and for markers at open. */
static int append_raw(struct log *log, struct record *rec, struct err *err)
{
    uint8_t head[HEAD_STACK];
    struct log_slot slot;
    int rc = record_encode(rec, NULL, head, sizeof head);
    if (rc < 0)
        return err_set(err, rc, "log: a marker record is too long");
    rc = log_room(log, rec->head_len, err);
    if (rc == 0)
        rc = log_append_begin(log, rec, head, &slot);
    if (rc == 0)
        rc = log_append_write(log, &slot, head, rec->head_len, NULL, 0, err);
    return rc == 0 ? log_wait_written(log, rec->lsn) : rc;
}

static int entry_seen(void *arg, const char *name)
{
    if (strcmp(name, "lost+found") == 0 || strcmp(name, "lock") == 0)
        return 0;
    snprintf(arg, 64, "%.60s", name);
    return 1;
}

static int first_records(struct log *log, struct super *sb, const struct store_init *init, uint64_t incarnation, struct err *err)
{
    struct record epoch, inc;
    struct whereabouts w;
    struct record root = { .type = REC_CREATE, .ino = INO_ROOT };
    identity_epoch(&epoch, &sb->epochs[0], "made");
    identity_incarnation(&inc, incarnation, &w);
    root.u.create.mode = S_IFDIR | (init->root_mode & 07777);
    root.u.create.uid = init->root_uid;
    root.u.create.gid = init->root_gid;
    int rc = append_raw(log, &epoch, err);
    sb->epochs[0].first_lsn = epoch.lsn;
    if (rc == 0)
        rc = append_raw(log, &inc, err);
    if (rc == 0)
        rc = append_raw(log, &root, err);
    return rc;
}

static int default_config(struct io *io, struct super *sb, const struct store_init *init, struct err *err)
{
    struct io_space_info sp;
    char num[32];
    const uint64_t gib = 1ull << 30;
    int rc = io->ops->space(io, &sp, err);
    if (rc < 0)
        return rc;
    uint64_t keep = sp.total / 10 < 50 * gib ? sp.total / 10 : 50 * gib, leave = keep < sp.avail / 2 ? keep : sp.avail / 2;
    snprintf(num, sizeof num, "%" PRIu64, init->history_max != 0 ? init->history_max : sp.avail / 2);
    rc = super_config_set(sb, "history-max", num, err);
    snprintf(num, sizeof num, "%" PRIu64, init->keep_free != 0 ? init->keep_free : leave);     /* on a disk that is nearly full less: else nothing would be kept */
    if (rc >= 0)
        rc = super_config_set(sb, "keep-free", num, err);
    snprintf(num, sizeof num, "%" PRIu64, keep);
    if (rc >= 0)
        rc = super_config_set(sb, "hold-log", num, err);
    if (rc >= 0)
        rc = super_config_set(sb, "timezone", init->timezone != NULL ? init->timezone : "UTC", err);
    return rc < 0 ? rc : 0;
}

/* A primary's log begins with its epoch and the root of its tree. */
static int first_log(struct io *io, struct super *sb, const struct store_init *init, const struct store_seed *seed, struct err *err)
{
    const struct log_options lo = { .preallocate = false, .segment_bytes = reserve_segment(io) };
    struct log_recovery rec;
    struct log *log = NULL;
    uint64_t incarnation = identity_random(io);
    struct epoch_row *e = &sb->epochs[0];
    (void)seed;
    e->number = 1;
    memcpy(e->site, sb->site, 16);
    memcpy(e->lineage, sb->lineage, 16);
    io_random(io, e->id, 16);
    int rc = log_create(io, sb, &lo, err);
    if (rc == 0)
        rc = log_open(io, sb, &lo, true, 0, &log, &rec, err);
    if (rc < 0)
        return rc;
    rc = log_set_writer(log, sb->epochs[0].number, sb->epochs[0].id, incarnation, err);
    if (rc == 0)
        rc = first_records(log, sb, init, incarnation, err);
    if (rc == 0)
        rc = log_sync(log, err);
    if (rc == 0)
        rc = log_finish(log, err);
    sb->incarnation = incarnation;
    sb->durable = log_durable(log);
    log_last(log, &sb->last_lsn, &sb->last_hash);
    sb->clean = 1;
    log_close(log);
    return rc;
}

/* A standby's is what the primary will send. */
static int empty_log(struct io *io, struct super *sb, const struct store_init *init, const struct store_seed *seed, struct err *err)
{
    const struct log_options lo = { .preallocate = false };
    (void)init;
    sb->durable = seed->begins != 0 ? seed->begins : LOG_FIRST_ADDR;
    sb->last_lsn = seed->last_lsn;
    sb->last_hash = seed->last_hash;
    sb->clean = 1;
    return log_create_at(io, sb, &lo, sb->durable, seed->last_lsn, &seed->last_hash, err);
}

/* What is there is a store that was cut off while it was made: names of its own only, and a log of its first records at most. */
enum { UNFINISHED_LOG = 4096 + 800 };
struct leftovers { struct io *io; bool foreign, grown; };

static int left_in_log(void *arg, const char *name)
{
    struct leftovers *l = arg;
    char path[300];
    struct io_stat st = { 0 };
    snprintf(path, sizeof path, "log/%.255s", name);
    l->grown |= io_stat_path(l->io, path, &st, NULL) < 0 || (st.size > UNFINISHED_LOG && strcmp(name, "next") != 0);
    return 0;
}

static int left(void *arg, const char *name)
{
    static const char *const ours[] = { "log", "retained.0", "retained.1", "super.0", "lock", "lost+found", "archive", "packs" };
    struct leftovers *l = arg;
    bool known = false;
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        known |= strcmp(name, ours[i]) == 0;
    l->foreign |= !known;
    return 0;
}

static int remove_from_log(void *arg, const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "log/%.255s", name);
    int rc = io_unlink(arg, path, NULL);
    return rc == ERR_NOENT ? 0 : rc;
}

bool store_file_name(const char *name)
{
    uint64_t first, end, gen;
    size_t n = strlen(name);
    char whole[ARCHIVE_NAME_MAX];
    if (strcmp(name, "next") == 0 || strcmp(name, "base.next") == 0)
        return true;
    if (n > 5 && n < sizeof whole && strcmp(name + n - 5, ".next") == 0)
        n -= 5;
    if (n >= sizeof whole)
        return false;
    memcpy(whole, name, n);
    whole[n] = '\0';
    return archive_parse(whole, &first, &end, &gen) || base_parse(whole, &gen) || pack_parse(whole, &first, &end, &gen);
}

/* Files of a standby that was sent some of them, and not all. */
static int left_of_files(void *arg, const char *name)
{
    struct leftovers *l = arg;
    l->foreign |= !store_file_name(name);
    return 0;
}

struct removal { struct io *io; const char *dir; struct err *err; };

static int remove_file(void *arg, const char *name)
{
    const struct removal *r = arg;
    char path[300];
    snprintf(path, sizeof path, "%s/%.255s", r->dir, name);
    int rc = io_unlink(r->io, path, r->err);
    return rc == ERR_NOENT ? 0 : rc;
}

/* Without a superblock they are of no store. ${keep}: it is being sent now, and what is there need not be sent again. */
static int clear_files(struct io *io, bool keep, struct err *err)
{
    static const char *const dirs[] = { "archive", "packs" };
    struct leftovers l = { .io = io };
    struct io_stat st;
    int rc = 0;
    for (int i = 0; i < 2 && rc == 0; i++)
        if (io_stat_path(io, dirs[i], &st, NULL) == 0)
            rc = io_list(io, dirs[i], left_of_files, &l, err);
    if (rc == 0 && l.foreign)
        return err_set(err, ERR_NOTEMPTY, "archive/ or packs/: expected files of a store, or none, found others; choose another directory");
    for (int i = 0; i < 2 && rc == 0 && !keep; i++) {
        struct removal r = { io, dirs[i], err };
        if (io_stat_path(io, dirs[i], &st, NULL) < 0)
            continue;
        rc = io_list(io, dirs[i], remove_file, &r, err);
        if (rc == 0)
            rc = io_unlink(io, dirs[i], err);
    }
    return rc;
}

/*
 * Making writes super.0 last but one and super.1 last. Without super.1, and with a super.0 that is not whole or not there, it never
 * finished, and nobody was told that there is a store: what it left goes, else neither init nor mount would take the directory.
 */
static int clear_unfinished(struct io *io, struct err *err)
{
    struct leftovers l = { .io = io };
    struct io_stat st = { 0 };
    struct super *sb = calloc(1, sizeof *sb);
    int rc = sb == NULL ? err_set(err, ERR_NOMEM, "store: out of memory") : 0;
    if (rc < 0 || io_stat_path(io, "super.1", &st, NULL) == 0 || io_stat_path(io, "log", &st, NULL) < 0)
        goto out;
    if (io_stat_path(io, "super.0", &st, NULL) == 0 && super_read(io, sb, NULL, NULL) != ERR_DAMAGE)
        goto out;
    rc = io_list(io, ".", left, &l, err);
    if (rc == 0)
        rc = io_list(io, "log", left_in_log, &l, err);
    if (rc < 0 || l.foreign || l.grown)      /* what cannot be seen is not removed */
        goto out;
    rc = io_list(io, "log", remove_from_log, io, err);
    static const char *const files[] = { "super.0", "retained.0", "retained.1", "log" };   /* log/ last: it tells */
    for (size_t i = 0; i < sizeof files / sizeof *files && rc == 0; i++)
        if (io_stat_path(io, files[i], &st, NULL) == 0)
            rc = io_unlink(io, files[i], err);
out:
    free(sb);
    return rc;
}

static int not_ours(void *arg, const char *name)
{
    struct leftovers l = { 0 };
    (void)left(&l, name);
    return l.foreign ? entry_seen(arg, name) : 0;
}

int store_vacant(struct io *io, const char *dir, bool keep, struct io_file **lock, struct err *err)
{
    struct io_stat st;
    char found[64] = "";
    bool there = io_stat_path(io, "super.0", &st, NULL) == 0 || io_stat_path(io, "super.1", &st, NULL) == 0;
    int rc = there ? 0 : io_list(io, ".", not_ours, found, err);
    /* Two that make one store at the same time would tidy up behind each other. */
    if (rc >= 0 && found[0] == '\0' && *lock == NULL && (rc = io_lock(io, "lock", lock, err)) < 0)
        *lock = NULL;
    if (rc >= 0 && found[0] == '\0')
        rc = clear_unfinished(io, err);
    there = io_stat_path(io, "super.0", &st, NULL) == 0 || io_stat_path(io, "super.1", &st, NULL) == 0;
    if (rc == 0 && there)
        rc = err_set(err, ERR_EXIST, "%s: a store is there already; mount it, or choose another directory", dir != NULL ? dir : "store");
    /* A log that is more than a beginning is of a store that lost its superblocks: nothing of it is touched. */
    if (rc == 0 && found[0] == '\0' && io_stat_path(io, "log", &st, NULL) < 0)
        rc = clear_files(io, keep, err);
    else if (rc == 0 && found[0] == '\0')
        snprintf(found, sizeof found, "log");
    if (rc == 0 && found[0] == '\0' && !keep)
        rc = io_list(io, ".", entry_seen, found, err);
    if (rc >= 0 && found[0] != '\0')
        rc = err_set(err, ERR_NOTEMPTY, "%s: expected an empty directory, found %s in it; choose another directory",
                     dir != NULL ? dir : "store", found);
    return rc < 0 ? rc : 0;
}

/* What every new store has; the superblock comes last: with it the directory is a store. */
static int make_rest(struct io *io, const char *dir, struct super *sb, const struct store_init *init, const struct store_seed *seed,
                     int (*make_log)(struct io *, struct super *, const struct store_init *, const struct store_seed *, struct err *), struct err *err)
{
    struct retained none = { .gen = 1, .horizon = LOG_FIRST_ADDR, .listed = LOG_FIRST_ADDR }, *r = seed != NULL && seed->retained != NULL ? seed->retained : &none;
    io_random(io, sb->site, sizeof sb->site);
    sb->hash_alg = HASH_XXH3;
    sb->created_wall_ns = io_wall_ns(io);
    if (sb->n_epochs == 0)
        sb->n_epochs = 1;
    struct store_place at;
    int rc = identity_place(io, dir, &at, err);

    identity_put_place(sb, &at);
    if (rc == 0)
        rc = default_config(io, sb, init, err);
    if (rc == 0)
        rc = make_log(io, sb, init, seed, err);
    if (rc == 0)
        rc = retained_create(io, sb->lineage, r, err);
    return rc < 0 ? rc : super_write(io, sb, err);
}

int store_create(struct io *io, const char *dir, const struct store_init *init, struct err *err)
{
    struct super *sb = calloc(1, sizeof *sb);
    struct io_file *lock = NULL;
    int rc = sb != NULL ? store_vacant(io, dir, false, &lock, err) : err_set(err, ERR_NOMEM, "store: out of memory");
    if (rc < 0)
        goto out;
    io_random(io, sb->lineage, sizeof sb->lineage);
    io_random(io, sb->key, sizeof sb->key);
    sb->role = ROLE_PRIMARY;
    rc = make_rest(io, dir, sb, init, NULL, first_log, err);
out:
    if (lock != NULL)
        io_close(lock);
    free(sb);
    return rc;
}

int store_create_standby(struct io *io, const char *dir, const struct store_seed *seed, struct err *err)
{
    const struct store_init init = { .timezone = seed->timezone };
    struct super *sb = calloc(1, sizeof *sb);
    struct io_file *lock = seed->lock;
    int rc = sb != NULL ? store_vacant(io, dir, seed->begins != 0, &lock, err) : err_set(err, ERR_NOMEM, "store: out of memory");
    if (rc < 0)
        goto out;
    memcpy(sb->lineage, seed->lineage, sizeof sb->lineage);
    memcpy(sb->key, seed->key, sizeof sb->key);
    sb->key_id = seed->key_id;
    sb->role = ROLE_STANDBY;
    sb->epochs[0] = seed->epoch;
    if (seed->n_epochs > 0)
        memcpy(sb->epochs, seed->epochs, seed->n_epochs * sizeof *sb->epochs);
    sb->n_epochs = seed->n_epochs;
    rc = make_rest(io, dir, sb, &init, seed, empty_log, err);
out:
    if (lock != NULL && lock != seed->lock)
        io_close(lock);
    free(sb);
    return rc;
}
