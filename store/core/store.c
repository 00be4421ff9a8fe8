/*
 * store.c: the life of a store: made, opened (lock, superblock, log, index, replay), closed. The only file that wires
 * the layers together.
 *
 * Order of an open, and what a crash at each step leaves:
 *   lock, superblock        nothing changed
 *   index opened            nothing changed (RocksDB may rewrite its own manifest)
 *   log recovered           an unproven tail copied to a new segment; done again next time, with the same result
 *   superblock: not clean   the next open scans the log's end instead of trusting it
 *   replay                  rows in memory; done again next time
 *   INCARNATION, REAP       records like others
 */
#include "store/core/core_internal.h"

#include "store/log/frame.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MEMORY_DEFAULT = 256 << 20, COMMIT_MS_DEFAULT = 100 };

static void machine_id(uint8_t out[16])
{
    char text[33] = "";
    FILE *f = fopen("/etc/machine-id", "re");
    memset(out, 0, 16);
    if (f == NULL)
        return;
    if (fread(text, 1, 32, f) == 32)
        for (int i = 0; i < 16; i++) {
            unsigned b = 0;
            if (sscanf(text + 2 * i, "%2x", &b) != 1)
                break;
            out[i] = (uint8_t)b;
        }
    fclose(f);
}

static int place_of(struct io *io, const char *dir, struct super *sb, struct err *err)
{
    struct io_stat st;
    memset(sb->machine, 0, sizeof sb->machine);
    sb->dev = sb->ino = 0;
    if (dir == NULL)
        return 0;
    int rc = io_stat_path(io, ".", &st, err);
    if (rc < 0)
        return rc;
    machine_id(sb->machine);
    sb->dev = st.dev;
    sb->ino = st.ino;
    return 0;
}

/* ---- making ---- */

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

static struct rec_bytes text(const char *s)
{
    struct rec_bytes b = { .p = (const uint8_t *)s, .len = (uint32_t)strlen(s) };
    return b;
}

/* Who writes from here on. ${w} backs the record's texts. */
struct whereabouts { char host[256], boot[64]; };

static void incarnation_record(struct record *rec, uint64_t id, struct whereabouts *w)
{
    memset(w, 0, sizeof *w);
    *rec = (struct record){ .type = REC_INCARNATION };
    (void)gethostname(w->host, sizeof w->host - 1);
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (f != NULL) {
        if (fgets(w->boot, sizeof w->boot, f) != NULL)
            w->boot[strcspn(w->boot, "\n")] = '\0';
        fclose(f);
    }
    rec->u.incarnation.id = id;
    rec->u.incarnation.host = text(w->host);
    rec->u.incarnation.boot_id = text(w->boot);
}

static void epoch_record(struct record *rec, const struct epoch_row *e, const char *reason)
{
    *rec = (struct record){ .type = REC_EPOCH };
    rec->u.epoch.number = e->number;
    memcpy(rec->u.epoch.site, e->site, 16);
    memcpy(rec->u.epoch.id, e->id, 16);
    rec->u.epoch.reason = text(reason);
}

static int entry_seen(void *arg, const char *name)
{
    if (strcmp(name, "lost+found") == 0)
        return 0;
    snprintf(arg, 64, "%.60s", name);
    return 1;
}

static uint64_t random_id(struct io *io)
{
    uint64_t id = 0;
    while (id == 0)
        io_random(io, &id, sizeof id);
    return id;
}

static int first_records(struct log *log, struct super *sb, const struct store_init *init, uint64_t incarnation, struct err *err)
{
    struct record epoch, inc;
    struct whereabouts w;
    struct record root = { .type = REC_CREATE, .ino = INO_ROOT };
    epoch_record(&epoch, &sb->epochs[0], "made");
    incarnation_record(&inc, incarnation, &w);
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
    uint64_t keep = sp.total / 10 < 50 * gib ? sp.total / 10 : 50 * gib;
    snprintf(num, sizeof num, "%" PRIu64, init->history_max != 0 ? init->history_max : sp.avail / 2);
    rc = super_config_set(sb, "history-max", num, err);
    snprintf(num, sizeof num, "%" PRIu64, init->keep_free != 0 ? init->keep_free : keep);
    if (rc >= 0)
        rc = super_config_set(sb, "keep-free", num, err);
    snprintf(num, sizeof num, "%" PRIu64, keep);
    if (rc >= 0)
        rc = super_config_set(sb, "hold-log", num, err);
    if (rc >= 0)
        rc = super_config_set(sb, "timezone", init->timezone != NULL ? init->timezone : "UTC", err);
    return rc < 0 ? rc : 0;
}

static int create_log(struct io *io, struct super *sb, const struct store_init *init, struct err *err)
{
    const struct log_options lo = { .preallocate = false };
    struct log_recovery rec;
    struct log *log = NULL;
    uint64_t incarnation = random_id(io);
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
    static const char *const ours[] = { "log", "retained.0", "retained.1", "super.0", "lock", "lost+found" };
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

int store_create(struct io *io, const char *dir, const struct store_init *init, struct err *err)
{
    struct super *sb = calloc(1, sizeof *sb);
    struct retained *r = calloc(1, sizeof *r);
    struct io_stat st;
    char found[64] = "";
    int rc = sb != NULL && r != NULL ? clear_unfinished(io, err) : err_set(err, ERR_NOMEM, "store: out of memory");
    if (rc == 0 && (io_stat_path(io, "super.0", &st, NULL) == 0 || io_stat_path(io, "super.1", &st, NULL) == 0))
        rc = err_set(err, ERR_EXIST, "%s: a store is there already; mount it, or choose another directory", dir != NULL ? dir : "store");
    if (rc == 0)
        rc = io_list(io, ".", entry_seen, found, err);
    if (rc >= 0 && found[0] != '\0')
        rc = err_set(err, ERR_NOTEMPTY, "%s: expected an empty directory, found %s in it; choose another directory",
                     dir != NULL ? dir : "store", found);
    if (rc < 0)
        goto out;
    io_random(io, sb->lineage, sizeof sb->lineage);
    io_random(io, sb->site, sizeof sb->site);
    io_random(io, sb->key, sizeof sb->key);
    sb->role = ROLE_PRIMARY;
    sb->hash_alg = HASH_XXH3;
    sb->created_wall_ns = io_wall_ns(io);
    sb->n_epochs = 1;
    sb->epochs[0].number = 1;
    memcpy(sb->epochs[0].site, sb->site, 16);
    io_random(io, sb->epochs[0].id, 16);
    r->horizon = LOG_FIRST_ADDR;
    rc = place_of(io, dir, sb, err);
    if (rc == 0)
        rc = default_config(io, sb, init, err);
    if (rc == 0)
        rc = create_log(io, sb, init, err);
    if (rc == 0)
        rc = retained_write(io, sb->lineage, r, err);
    /* the superblock comes last: with it the directory is a store */
    if (rc == 0)
        rc = super_write(io, sb, err);
out:
    free(sb);
    free(r);
    return rc;
}

/* ---- opening ---- */

static int check_place(struct store *s, struct err *err)
{
    struct super now;
    const struct super *sb = &s->sb;
    if (s->dir == NULL || s->opt.location != LOCATION_AS_IS)
        return 0;
    int rc = place_of(s->io, s->dir, &now, err);
    if (rc < 0)
        return rc;
    /* device numbers change with every boot on some machines: machine and inode tell */
    if (now.ino == sb->ino && memcmp(now.machine, sb->machine, 16) == 0)
        return 0;
    return err_set(err, ERR_MOVED, "%s: the store was made on %s, inode %" PRIu64 ", and is now on %s, inode %" PRIu64
                   "; say --moved if this is the store itself, --copied if the other one still exists", s->dir,
                   memcmp(now.machine, sb->machine, 16) == 0 ? "this machine" : "another machine", sb->ino, "this machine", now.ino);
}

/* In memory; become_writer makes it durable. */
static int relocate(struct store *s, struct err *err)
{
    if (s->opt.location == LOCATION_AS_IS || s->dir == NULL || !s->opt.writable)
        return 0;
    if (s->opt.location == LOCATION_COPIED)
        io_random(s->io, s->sb.site, sizeof s->sb.site);
    return place_of(s->io, s->dir, &s->sb, err);
}

/*
 * A copy goes its own way from here: in an epoch of its own, so that whoever meets both sees the fork and where it is. A row whose record
 * was never made (this was cut off, or copied in that state) gives way: no record carries it.
 */
static int begin_epoch(struct store *s, struct err *err)
{
    struct super *sb = &s->sb;
    uint32_t last_number = sb->epochs[sb->n_epochs - 1].number;
    uint64_t last;
    if (sb->n_epochs > 1 && sb->epochs[sb->n_epochs - 1].first_lsn >= log_head(s->log))
        sb->n_epochs--;
    if (sb->n_epochs == SUPER_EPOCHS_MAX)
        return err_set(err, ERR_NOSPC, "store: its table of epochs is full (%d)", SUPER_EPOCHS_MAX);
    struct epoch_row *e = &sb->epochs[sb->n_epochs++];
    *e = (struct epoch_row){ .number = last_number + 1, .first_lsn = log_head(s->log) };
    memcpy(e->site, sb->site, 16);
    io_random(s->io, e->id, 16);
    log_last(s->log, &last, &e->prev_hash);
    return 0;
}

/* The records are the truth about epochs: a table that is behind them is an older copy of the superblock, and what else it says may be old. */
static int check_epoch(const struct store *s, struct err *err)
{
    uint32_t known = s->sb.epochs[s->sb.n_epochs - 1].number;
    if (!s->opt.writable || s->ix.meta.epoch <= known)
        return 0;
    return err_set(err, ERR_DAMAGE, "superblock: its newest epoch is %u, but the log has records of epoch %u: the copy that knew it is lost. "
                   "Reading works (mount -o ro)", known, s->ix.meta.epoch);
}

static int open_index(struct store *s, struct err *err)
{
    char path[PATH_MAX];
    struct kv_options ko = { .cache_bytes = s->opt.memory_bytes / 4, .read_only = !s->opt.writable };
    if (s->kv != NULL)
        return 0;
    if (s->dir == NULL)
        return err_set(err, ERR_INVAL, "store: neither a directory nor an index was given");
    if (snprintf(path, sizeof path, "%s/index", s->dir) >= (int)sizeof path)
        return err_set(err, ERR_NAMETOOLONG, "%s: the path is too long", s->dir);
    struct kv *rocks = NULL;
    int rc = s->opt.writable ? index_files_heal(s->io, err) : 0;
    if (rc < 0)
        return rc;
    rc = kv_rocks_open(path, s->opt.writable, &ko, &rocks, err);
    s->kv = rocks;
    if (rc == 0 && !s->opt.writable) {   /* what the log has beyond the index may not be put into it */
        s->kv = NULL;
        rc = kv_layer_open(rocks, &s->kv, err);
        if (rc < 0)
            kv_close(rocks);
    }
    return rc;
}

/* The index must be of this very log: the last record it applied is there, with the same hash. */
static int check_index(struct store *s, const struct log_recovery *rec, struct err *err)
{
    const struct row_meta *m = &s->ix.meta;
    struct record last;
    void *buf = NULL;
    if (m->last_lsn == 0 || m->last_lsn < log_first(s->log))
        return 0;
    if (m->applied > log_head(s->log))
        return err_set(err, ERR_DAMAGE, "index: it has applied up to @%" PRIu64 ", but the log ends at @%" PRIu64
                       "; records are lost, see spare check", m->applied, log_head(s->log));
    if (rec->damaged && m->last_lsn >= rec->damage_from && m->last_lsn < rec->damage_to)
        return 0;
    int rc = log_read_record(s->log, m->last_lsn, false, &last, &buf, err);
    if (rc == 0 && !hash128_eq(&last.hash, &m->last_hash))
        rc = err_set(err, ERR_DAMAGE, "index: its last record @%" PRIu64 " is not the one in the log; the index is of another "
                     "history, rebuild it", m->last_lsn);
    free(buf);
    return rc;
}

/*
 * A damaged record could have been anything, so what follows it cannot be made of the tree before it. For reading the store then
 * is what it was there: whole, and a moment like any other. (Where the index got past the damage before, nothing is left out.)
 */
static int end_at_damage(struct store *s, struct log_recovery *rec, const struct err *found)
{
    size_t n;
    if (!rec->damaged)
        rec->damage = *found;
    rec->damaged = true;
    n = strlen(rec->damage.msg);
    snprintf(rec->damage.msg + n, sizeof rec->damage.msg - n, "; shown is what was before it, up to @%" PRIu64, s->ix.meta.applied);
    log_end_here(s->log, s->ix.meta.applied, s->ix.meta.last_lsn, &s->ix.meta.last_hash);
    return 0;
}

static int replay(struct store *s, struct log_recovery *recovery, struct err *err)
{
    struct log_iter *it = NULL;
    struct record rec;
    uint64_t from = s->ix.meta.applied != 0 ? s->ix.meta.applied : log_first(s->log);
    if (s->ix.meta.applied == 0 && from != LOG_FIRST_ADDR)
        return err_set(err, ERR_DAMAGE, "index: it is empty, and the log begins at @%" PRIu64 "; rebuild the index", from);
    int rc = log_iter_new(s->log, from, log_head(s->log), 0, &it, err);
    if (rc < 0)
        return rc;
    while ((rc = log_iter_next(it, &rec, err)) == 1) {
        rc = index_apply(&s->ix, &rec, err);
        if (rc == 0 && (s->ix.pending_ops >= DRAIN_OPS || index_pending_bytes(&s->ix) > BACKLOG_BYTES / 4))
            rc = run_drain(s, err);
        if (rc < 0)
            goto out;
    }
    if (rc == ERR_DAMAGE && !s->opt.writable)
        rc = end_at_damage(s, recovery, err);
out:
    log_iter_free(it);
    return rc < 0 ? rc : store_apply(s, err);
}

/* Orphans nobody can use any more, since nothing is mounted. */
static int reap_orphans(struct store *s, struct err *err)
{
    uint8_t lo[KV_KEY_MAX], hi[KV_KEY_MAX];
    uint64_t *list = NULL;
    size_t n = 0, cap = 0;
    struct key_parts parts;
    int rc = store_apply(s, err);
    if (rc < 0)
        return rc;
    size_t llen = key_orphan(lo, 0), hlen = key_orphan(hi, INO_MAX + 1);
    struct kv_iter *it = s->kv->ops->iter_new(s->kv, NULL, lo, llen, hi, hlen);
    if (it == NULL)
        return err_set(err, ERR_NOMEM, "store: out of memory");
    for (s->kv->ops->iter_seek(it, lo, llen); rc == 0 && s->kv->ops->iter_valid(it); s->kv->ops->iter_next(it)) {
        size_t klen;
        const uint8_t *k = s->kv->ops->iter_key(it, &klen);
        if (n == cap) {
            cap = cap == 0 ? 64 : cap * 2;
            uint64_t *p = realloc(list, cap * sizeof *p);
            if (p == NULL) {
                rc = err_set(err, ERR_NOMEM, "store: out of memory");
                break;
            }
            list = p;
        }
        if (key_parse(k, klen, &parts))
            list[n++] = parts.ino;
    }
    if (rc == 0)
        rc = s->kv->ops->iter_err(it, err);
    s->kv->ops->iter_free(it);
    if (rc == 0 && n > 0 && (rc = store_reap(s, list, n, NULL)) < 0)
        err_set(err, rc, "store: cannot reap orphans: %s", err_text(rc));
    free(list);
    return rc;
}

static int append_marker(struct store *s, struct record *rec, const char *what, struct err *err)
{
    const struct caller nobody = { 0 };
    int rc = change_begin(s, NULL);
    if (rc == 0)
        rc = change_commit(s, &nobody, rec, NULL);
    return rc < 0 ? err_set(err, rc, "store: cannot record its %s: %s", what, err_text(rc)) : 0;
}

/*
 * From here on the log may grow: who writes, and that the end is not known any more. A new row of epochs is durable before its
 * record; where a crash came between, the row points to the end of the log, and the record is made now.
 */
static int become_writer(struct store *s, bool clean, struct err *err)
{
    struct record rec;
    struct whereabouts w;
    int rc = s->opt.location == LOCATION_COPIED && s->dir != NULL ? begin_epoch(s, err) : 0;
    if (rc < 0)
        return rc;
    const struct epoch_row *e = &s->sb.epochs[s->sb.n_epochs - 1];
    bool new_epoch = e->first_lsn >= log_head(s->log) && memcmp(e->site, s->sb.site, 16) == 0;
    uint64_t id = clean && !new_epoch && s->sb.incarnation != 0 ? s->sb.incarnation : random_id(s->io);
    bool fresh = id != s->sb.incarnation;
    s->sb.incarnation = id;
    s->sb.clean = 0;
    s->sb.durable = log_durable(s->log);
    s->sb.segment_gen = log_newest(s->log);
    log_last(s->log, &s->sb.last_lsn, &s->sb.last_hash);
    rc = super_write(s->io, &s->sb, err);
    if (rc == 0 && new_epoch)            /* into both copies: one that rots must not take an epoch, or a site, with it */
        rc = super_write(s->io, &s->sb, err);
    if (rc == 0)
        rc = log_set_writer(s->log, e->number, e->id, id, err);
    if (rc == 0 && new_epoch) {
        epoch_record(&rec, e, "copied");
        rc = append_marker(s, &rec, "epoch", err);
        if (rc == 0 && rec.lsn != e->first_lsn)
            rc = err_set(err, ERR_DAMAGE, "store: its epoch %u should begin @%" PRIu64 ", the log ends @%" PRIu64, e->number,
                         e->first_lsn, rec.lsn);
    }
    if (rc == 0 && fresh) {
        incarnation_record(&rec, id, &w);
        rc = append_marker(s, &rec, "incarnation", err);
    }
    return rc;
}

static void store_free(struct store *s)
{
    for (int i = 0; i < LISTINGS; i++)
        if (s->listing[i] != NULL) {
            asof_list_free(&s->listing[i]->list);
            free(s->listing[i]);
        }
    if (s->ix.kv != NULL)
        index_release(&s->ix);
    if (s->log != NULL)
        log_close(s->log);
    if (s->kv != NULL)
        kv_close(s->kv);                 /* writes nothing that was not flushed */
    if (s->lock_file != NULL)
        io_close(s->lock_file);          /* last: whoever waits for it opens the index next */
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->drain_lock);
    pthread_mutex_destroy(&s->mark_lock);
    pthread_mutex_destroy(&s->list_lock);
    pthread_cond_destroy(&s->work);
    pthread_cond_destroy(&s->commit);
    pthread_cond_destroy(&s->progress);
    free(s->retained);
    free(s->dir);
    free(s);
}

static struct store *store_new(struct io *io, const char *dir, const struct store_options *opt)
{
    pthread_condattr_t attr;
    struct store *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->io = io;
    s->opt = *opt;
    s->kv = opt->kv;
    if (s->opt.memory_bytes == 0)
        s->opt.memory_bytes = MEMORY_DEFAULT;
    if (s->opt.commit_ms == 0)
        s->opt.commit_ms = COMMIT_MS_DEFAULT;
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->drain_lock, NULL);
    pthread_mutex_init(&s->mark_lock, NULL);
    pthread_mutex_init(&s->list_lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->work, &attr);
    pthread_cond_init(&s->commit, &attr);
    pthread_cond_init(&s->progress, &attr);
    pthread_condattr_destroy(&attr);
    s->retained = calloc(1, sizeof *s->retained);
    s->dir = dir != NULL ? strdup(dir) : NULL;
    if (s->retained == NULL || (dir != NULL && s->dir == NULL)) {
        s->kv = NULL;                    /* the caller's still */
        store_free(s);
        return NULL;
    }
    return s;
}

static int open_log(struct store *s, struct log_recovery *rec, struct err *err)
{
    int rc = log_open(s->io, &s->sb, &s->opt.log, s->opt.writable, s->ix.meta.applied, &s->log, rec, err);
    if (rc == 0)
        rc = check_index(s, rec, err);
    if (rc < 0)
        return rc;
    atomic_store(&s->applied, s->ix.applied);
    atomic_store(&s->persisted, s->ix.applied);
    return 0;
}

/*
 * A copy that the disk does not give may be the newer one, and the next write would put it out of the way for good: settings and
 * epochs in it, too. One that rotted is passed over; this one may be there at the next try.
 */
static int both_read(struct store *s, const struct err *warn, struct err *err)
{
    if (!s->opt.writable || warn->code != ERR_IO)
        return 0;
    return err_set(err, ERR_IO, "%.400s, but it may be the older one. Try again; reading works (mount -o ro); if the disk never gives it "
                   "again, move it out of the store, and the other copy is used", warn->msg);
}

static int open_steps(struct store *s, struct log_recovery *rec, struct err *err)
{
    struct err warn = { 0 };
    int rc = super_read(s->io, &s->sb, &warn, err);
    if (rc == 0)
        rc = both_read(s, &warn, err);
    if (rc == 0 && s->opt.writable)
        rc = super_writable(&s->sb, err);
    if (rc == 0)
        rc = check_place(s, err);
    if (rc == 0)
        rc = relocate(s, err);
    if (rc == 0)
        rc = retained_read(s->io, s->sb.lineage, s->retained, &warn, err);
    if (rc == 0)
        rc = both_read(s, &warn, err);
    if (rc == 0 && s->opt.writable)
        rc = retained_writable(s->retained, err);
    if (rc == 0)
        rc = open_index(s, err);
    if (rc == 0)
        rc = index_open(&s->ix, s->kv, err);
    if (rc == 0)
        rc = open_log(s, rec, err);
    if (rc == 0)
        rc = replay(s, rec, err);
    if (rc == 0)
        rc = check_epoch(s, err);
    if (rc == 0)
        s->series = s->ix.meta.series != 0;
    bool clean = s->sb.clean != 0;
    if (rc == 0 && s->opt.writable && s->sb.role == ROLE_PRIMARY) {
        rc = become_writer(s, clean, err);
        if (rc == 0 && s->series)        /* a restore was cut off: what it did stays, and moments resolve again */
            rc = store_series(s, &(struct caller){ 0 }, false, "cut off", err);
        if (rc == 0 && !s->opt.keep_orphans)
            rc = reap_orphans(s, err);
        if (rc == 0)
            rc = store_sync(s, err);
    }
    return rc;
}

int store_open(struct io *io, const char *dir, const struct store_options *opt, struct store **out,
               struct log_recovery *recovery, struct err *err)
{
    struct log_recovery own = { 0 }, *rec = recovery != NULL ? recovery : &own;
    struct io_stat st;
    memset(rec, 0, sizeof *rec);
    struct store *s = store_new(io, dir, opt);
    if (s == NULL) {
        if (opt->kv != NULL)
            kv_close(opt->kv);
        return err_set(err, ERR_NOMEM, "store: out of memory");
    }
    int rc = 0;
    if (io_stat_path(io, "super.0", &st, NULL) < 0 && io_stat_path(io, "super.1", &st, NULL) < 0)
        rc = err_set(err, ERR_NOSTORE, "%s: expected a store, found no superblock; make one with: spare init", dir != NULL ? dir : "store");
    if (rc == 0)
        rc = io_lock(io, "lock", &s->lock_file, err);
    if (rc == ERR_ROFS && !opt->writable) {
        s->lock_file = NULL;             /* nobody can write there */
        rc = 0;
    }
    if (rc == 0)
        rc = open_steps(s, rec, err);
    if (rc == 0)
        rc = run_start(s, err);
    if (rc < 0) {
        store_drop(s);
        return rc;
    }
    *out = s;
    return 0;
}

/* ---- closing ---- */

void store_drop(struct store *s)
{
    run_stop(s);
    store_free(s);
}

int store_close(struct store *s, struct err *err)
{
    int rc = 0;
    run_stop(s);
    if (atomic_load(&s->failed) != 0) {
        rc = err_set(err, ERR_POISONED, "%s: %s", s->dir != NULL ? s->dir : "store", err_text(ERR_POISONED));
        store_drop(s);
        return rc;
    }
    if (s->opt.writable) {
        rc = store_sync(s, err);
        if (rc == 0)
            rc = store_flush(s, err);
        if (rc == 0 && s->sb.role == ROLE_PRIMARY)
            rc = log_finish(s->log, err);
        if (rc == 0) {
            s->sb.durable = log_durable(s->log);
            s->sb.segment_gen = log_newest(s->log);
            log_last(s->log, &s->sb.last_lsn, &s->sb.last_hash);
            s->sb.clean = 1;
            rc = super_write(s->io, &s->sb, err);
        }
    }
    if (rc < 0 || !s->opt.writable) {
        store_drop(s);
        return rc;
    }
    store_free(s);
    return 0;
}

/* ---- looking at it ---- */

void store_info(struct store *s, struct store_info *info)
{
    memset(info, 0, sizeof *info);
    pthread_mutex_lock(&s->mark_lock);
    info->super = s->sb;
    pthread_mutex_unlock(&s->mark_lock);
    info->head = log_head(s->log);
    info->written = log_written(s->log);
    info->durable = log_durable(s->log);
    info->first = log_first(s->log);
    info->applied = atomic_load(&s->applied);
    info->persisted = atomic_load(&s->persisted);
    info->failed = atomic_load(&s->failed);
    info->writable = s->opt.writable;
    pthread_mutex_lock(&s->lock);
    info->n_inodes = s->ix.meta.n_inodes;
    info->n_bytes = s->ix.meta.n_bytes;
    info->unapplied_ops = s->ix.pending_ops + s->ix.draining_ops;
    info->unapplied_bytes = index_pending_bytes(&s->ix);
    info->memory_bytes = s->ix.cache.bytes;
    info->cache_rows = s->ix.cache.n_rows;
    info->cache_hits = s->ix.cache.hits;
    info->cache_misses = s->ix.cache.misses;
    pthread_mutex_unlock(&s->lock);
    info->memory_bytes += s->kv->ops->memory(s->kv);
    info->log_bytes = info->head - info->first;
    struct record rec;
    void *buf = NULL;
    if (log_read_record(s->log, info->first, false, &rec, &buf, NULL) == 0)
        info->oldest_wall_ns = rec.wall_ns;
    free(buf);
}

struct io *store_io(struct store *s)
{
    return s->io;
}

struct kv *store_kv(struct store *s)
{
    return s->kv;
}

struct log *store_log(struct store *s)
{
    return s->log;
}

const char *store_dir(struct store *s)
{
    return s->dir;
}
