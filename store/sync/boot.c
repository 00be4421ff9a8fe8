/* boot.c: see boot.h. */
#include "store/sync/boot.h"

#include "store/pack/archive.h"
#include "store/pack/base.h"
#include "store/pack/history.h"
#include "store/pack/packs.h"
#include "store/pack/sealed.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRIES = 3, PART_MAX = PROTO_FILE_NAME_MAX + 8 };

static int nomem(struct err *err)
{
    return err_set(err, ERR_NOMEM, "standby: out of memory");
}

/* Size, and the hash that a file of this kind ends with. */
static int end_of(struct io *io, const char *name, uint64_t *size, struct hash128 *hash, struct err *err)
{
    struct io_file *f;
    struct io_stat st = { 0 };
    int rc = io_open(io, name, IO_RDONLY, &f, err);

    if (rc < 0)
        return rc;
    rc = io_fstat(f, &st, err);
    if (rc == 0 && st.size <= SEALED_HASH_BYTES)
        rc = err_set(err, ERR_DAMAGE, "%s: expected more than %" PRIu64 " bytes", name, st.size);
    if (rc == 0)
        rc = sealed_read(f, name, hash->b, SEALED_HASH_BYTES, st.size - SEALED_HASH_BYTES, err);
    io_close(f);
    *size = st.size;
    return rc;
}

/*
 * Archive files lie end to end up to ${end}, packs from the first address on up to there; what is before the archive is in a base. A list is made while files
 * come and go.
 */
static int list_whole(const struct proto_list *list, uint64_t end, struct err *err)
{
    uint64_t arc = 0, arc_first = 0, pack = LOG_FIRST_ADDR, first, last, gen;
    struct proto_list_file f;
    uint32_t pos = 0;
    bool base = false;

    while (proto_list_next(list, &pos, &f)) {
        if (strncmp(f.name, "archive/", 8) == 0 && base_parse(f.name + 8, &gen)) {
            base = true;
        } else if (strncmp(f.name, "archive/", 8) == 0 && archive_parse(f.name + 8, &first, &last, &gen)) {
            if (arc == 0)
                arc = arc_first = first;
            if (first > arc)
                break;
            arc = last > arc ? last : arc;
        } else if (strncmp(f.name, "packs/", 6) == 0 && pack_parse(f.name + 6, &first, &last, &gen)) {
            if (first > pack)
                break;
            pack = last > pack ? last : pack;
        }
    }
    if (arc >= end && pack >= end && (base || arc_first == LOG_FIRST_ADDR))
        return 0;
    return err_set(err, ERR_BADREC, "list of files: expected archive and packs up to @%" PRIu64 " without a gap, found the archive up to @%" PRIu64 ", packs up to @%" PRIu64 "%s", end, arc, pack,
                   base || arc_first == LOG_FIRST_ADDR ? "" : ", and no base before it");
}

/* ---- the sender ---- */

struct listing { struct store *s; struct proto_list *list; uint8_t *p; size_t len, cap; uint64_t end; struct err *err; };

static int add(struct listing *l, const char *name)
{
    struct proto_list_file f = { .name = "" };
    int rc = end_of(store_io(l->s), name, &f.size, &f.hash, l->err);
    size_t n;

    if (rc < 0)
        return rc;
    if (l->len + sizeof f + 64 > l->cap) {
        size_t cap = l->cap > 0 ? 2 * l->cap : 4096;
        uint8_t *p = realloc(l->p, cap);

        if (p == NULL)
            return nomem(l->err);
        l->p = p;
        l->cap = cap;
    }
    snprintf(f.name, sizeof f.name, "%s", name);
    n = proto_list_put(l->p + l->len, l->cap - l->len, &f);
    l->len += n;
    l->list->n++;
    return 0;
}

/* The newest one that is packed all the way, if any; a damaged one would be refused there. */
static int add_base(void *arg, uint64_t gen)
{
    struct listing *l = arg;
    char name[BASE_NAME_MAX];
    struct base *b = NULL;
    int rc = base_open(store_io(l->s), gen, &b, NULL, l->err);
    bool fits = rc == 0 && base_head(b)->applied <= l->end;

    if (fits)
        rc = base_check(b, l->err);
    base_close(b);
    base_name(gen, name);
    if (rc == 0 && fits)
        rc = add(l, name);
    return rc < 0 ? rc : fits;
}

static int add_archive(void *arg, const struct history_file *f)
{
    struct listing *l = arg;
    char name[ARCHIVE_NAME_MAX];

    if (f->end > l->end)
        return 0;
    archive_name(f->first, f->own_end, f->gen, name);
    return add(l, name);
}

static int add_pack(void *arg, const struct packs_info *i)
{
    struct listing *l = arg;

    return i->counts_to > l->end ? 0 : add(l, i->name);
}

/* The last record below the end, which is that of a file of the archive. */
static int last_record(struct listing *l)
{
    struct history_file last = { 0 };
    struct history_place p = { 0 };
    int rc = history_file_of(store_history(l->s), l->end - 8, &last) ? 0 : err_set(l->err, ERR_NOENT, "archive: no file ends @%" PRIu64, l->end);

    if (rc == 0)
        rc = history_before(store_history(l->s), l->end, &p, l->err);
    l->list->last_lsn = p.lsn;
    l->list->last_hash = p.hash;
    return rc;
}

static int list_once(struct listing *l)
{
    uint64_t arc = history_end(store_history(l->s)), pack = packs_end(store_packs(l->s));
    struct super *sb = malloc(sizeof *sb);
    uint64_t first, end;
    int rc;

    if (sb == NULL)
        return nomem(l->err);
    store_super(l->s, sb);
    l->end = arc < pack ? arc : pack;
    l->len = 0;
    l->list->n = l->list->n_epochs = 0;
    rc = packs_gap(store_packs(l->s), LOG_FIRST_ADDR, log_first(store_log(l->s)), &first, &end, l->err);
    if (rc == 1)
        rc = err_set(l->err, ERR_DAMAGE, "packs: expected the data of addresses @%llu to @%llu, found no pack that has them: a file is gone, and no new standby is made of the rest. spare scrub heals it with what another site has; where none has it, spare scrub --close-gaps goes on without", (unsigned long long)first, (unsigned long long)end);
    if (rc < 0) {
        free(sb);
        return rc;
    }
    rc = l->end == 0 ? err_set(l->err, ERR_NOENT, "nothing has left the log") : base_list(store_io(l->s), add_base, l, l->err);
    rc = rc == 1 ? 0 : rc;
    if (rc == 0)
        rc = history_files(store_history(l->s), add_archive, l);
    if (rc == 0)
        rc = packs_list(store_packs(l->s), add_pack, l, l->err);
    if (rc == 0)
        rc = last_record(l);
    if (rc == 0) {
        const struct proto_list whole = { .p = l->p, .len = (uint32_t)l->len };

        rc = list_whole(&whole, l->end, l->err) < 0 ? ERR_NOENT : 0;     /* it changed meanwhile */
    }
    for (uint32_t i = 0; i < sb->n_epochs; i++)
        if (sb->epochs[i].first_lsn < l->end)
            l->list->epochs[l->list->n_epochs++] = sb->epochs[i];
    free(sb);
    return rc;
}

int boot_list(struct store *s, struct proto_list *list, uint64_t *end, struct err *err)
{
    struct listing l = { .s = s, .list = list, .err = err };
    int rc = ERR_NOENT;

    /* A file may go while it is looked at: another has taken its place. */
    for (int i = 0; i < TRIES && rc == ERR_NOENT; i++)
        rc = list_once(&l);
    if (rc < 0) {
        free(l.p);
        return rc;
    }
    list->p = l.p;
    list->len = (uint32_t)l.len;
    *end = l.end;
    return 0;
}

int boot_retained(struct store *s, uint64_t end, uint8_t **buf, size_t *len, struct err *err)
{
    struct store_info info;
    struct retained r = { 0 };
    int rc = store_retained(s, &r, err);
    uint32_t n = 0;

    *buf = NULL;
    store_info(s, &info);
    if (rc == 0 && r.horizon > end)
        rc = err_set(err, ERR_BUSY, "retained set: from @%" PRIu64 " on, and the files end @%" PRIu64, r.horizon, end);
    for (uint32_t i = 0; i < r.n; i++)
        if (r.point[i].kind != RETAIN_PIN)           /* who is in a moment here is not there */
            r.point[n++] = r.point[i];
    r.n = n;
    if (rc == 0 && (*buf = malloc(RETAINED_FILE_MAX)) == NULL)
        rc = nomem(err);
    if (rc == 0 && (*len = retained_encode(&r, info.lineage, *buf, RETAINED_FILE_MAX)) == 0)
        rc = err_set(err, ERR_TOOLONG, "retained set: too many points");
    retained_release(&r);
    return rc;
}

/* ---- the receiver ---- */

void boot_release(struct boot *b)
{
    if (b->part != NULL)
        io_close(b->part);
    if (b->lock != NULL)
        io_close(b->lock);
    free((void *)(uintptr_t)b->list.p);
    free(b->file);
    free(b->want);
    memset(b, 0, sizeof *b);
}

/* A name of one of these files: the directory it lies in, else NULL. */
static const char *dir_of(const char *name)
{
    uint64_t first, end, gen;

    if (strncmp(name, "archive/", 8) == 0 && (archive_parse(name + 8, &first, &end, &gen) || base_parse(name + 8, &gen)))
        return "archive";
    return strncmp(name, "packs/", 6) == 0 && pack_parse(name + 6, &first, &end, &gen) ? "packs" : NULL;
}

static void part_name(const struct proto_list_file *f, char part[PART_MAX])
{
    snprintf(part, PART_MAX, "%s.next", f->name);
}

struct keeping { struct boot *b; const char *dir; struct err *err; };

/* What the list does not name goes: it is of another try. */
static int keep_or_remove(void *arg, const char *name)
{
    const struct keeping *k = arg;
    char path[300];
    int rc;

    snprintf(path, sizeof path, "%s/%.255s", k->dir, name);
    for (uint32_t i = 0; i < k->b->n; i++) {
        size_t n = strlen(k->b->file[i].name);

        if (strncmp(k->b->file[i].name, path, n) == 0 && (path[n] == '\0' || strcmp(path + n, ".next") == 0))
            return 0;
    }
    if (!store_file_name(name))
        return err_set(k->err, ERR_NOTEMPTY, "%s: expected files of a store, or none, found another; choose another directory", path);
    rc = io_unlink(k->b->io, path, k->err);
    return rc == ERR_NOENT ? 0 : rc;
}

static int copy_list(struct boot *b, const struct proto_list *list, struct err *err)
{
    uint8_t *p = malloc(list->len + 1u);
    uint32_t pos = 0;

    b->list = *list;
    b->list.p = p;
    b->file = calloc(list->n, sizeof *b->file);
    b->want = calloc(list->n, sizeof *b->want);
    if (p == NULL || b->file == NULL || b->want == NULL)
        return nomem(err);
    memcpy(p, list->p, list->len);
    while (b->n < list->n && proto_list_next(&b->list, &pos, &b->file[b->n])) {
        if (dir_of(b->file[b->n].name) == NULL)
            return err_set(err, ERR_BADREC, "message LIST: expected files of archive and packs, found %s", b->file[b->n].name);
        b->n++;
    }
    return 0;
}

int boot_begin(struct boot *b, struct io *io, const struct proto_list *list, uint64_t end, struct err *err)
{
    static const char *const dirs[] = { "archive", "packs" };
    struct io_file *lock = b->lock;
    int rc;

    b->lock = NULL;                      /* of the list before: kept */
    boot_release(b);
    b->lock = lock;
    b->io = io;
    b->end = end;
    rc = store_vacant(io, NULL, true, &b->lock, err);
    if (rc == 0)
        rc = copy_list(b, list, err);
    for (int i = 0; i < 2 && rc == 0; i++) {
        struct keeping k = { b, dirs[i], err };

        rc = io_mkdir(io, dirs[i], err);
        rc = rc == ERR_EXIST ? 0 : rc;
        if (rc == 0)
            rc = io_list(io, dirs[i], keep_or_remove, &k, err);
    }
    if (rc == 0)
        rc = io_syncdir(io, ".", err);
    for (uint32_t i = 0; i < b->n && rc == 0; i++) {
        struct hash128 hash;
        struct io_stat st;
        char part[PART_MAX];
        uint64_t size;

        if (end_of(io, b->file[i].name, &size, &hash, NULL) == 0 && size == b->file[i].size && hash128_eq(&hash, &b->file[i].hash))
            continue;
        part_name(&b->file[i], part);
        b->want[b->n_want++] = (struct boot_want){ i, io_stat_path(io, part, &st, NULL) == 0 && st.size < b->file[i].size ? st.size : 0 };
    }
    if (b->n_want > 0)
        b->at = b->want[0].from;
    return rc;
}

/* Whole: checked, synced, named. */
static int finish(struct boot *b, const struct proto_list_file *f, const char *part, struct err *err)
{
    struct hash128 hash = { { 0 } };
    int rc = sealed_check(b->part, part, f->size, err);

    if (rc == 0)
        rc = sealed_read(b->part, part, hash.b, sizeof hash.b, f->size - SEALED_HASH_BYTES, err);
    if (rc == ERR_DAMAGE || (rc == 0 && !hash128_eq(&hash, &f->hash))) {
        (void)io_unlink(b->io, part, NULL);
        rc = err_set(err, ERR_AWAY, "%s: it did not come as it was sent, or is damaged where it came from (spare check there says); the next try begins it anew", f->name);
    }
    if (rc == 0)
        rc = io_fdatasync(b->part, err);
    io_close(b->part);
    b->part = NULL;
    if (rc == 0)
        rc = io_rename(b->io, part, f->name, err);
    if (rc == 0)
        rc = io_syncdir(b->io, dir_of(f->name), err);
    b->next++;
    b->at = b->next < b->n_want ? b->want[b->next].from : 0;
    return rc;
}

static int open_part(struct boot *b, const char *part, bool begins, struct err *err)
{
    int rc = begins ? io_unlink(b->io, part, err) : 0;

    if (rc == 0 || rc == ERR_NOENT)
        rc = io_open(b->io, part, IO_RDWR | (begins ? IO_CREATE : 0), &b->part, err);
    if (rc < 0)
        b->part = NULL;
    return rc;
}

int boot_take(struct boot *b, const struct proto_file *k, uint64_t position, struct err *err)
{
    const struct proto_list_file *f;
    struct iovec iov = { (void *)(uintptr_t)k->p, k->len };
    char part[PART_MAX];
    int rc = 0;

    if (b->next >= b->n_want || k->index != b->want[b->next].index || position != b->at || k->len > b->file[k->index].size - position)
        return err_set(err, ERR_BADREC, "message FILE: expected the next part of what was asked for, found another");
    f = &b->file[k->index];
    part_name(f, part);
    if (b->part == NULL)
        rc = open_part(b, part, position == 0, err);
    if (rc == 0)
        rc = io_pwritev(b->part, &iov, 1, position, err);
    b->at += k->len;
    return rc == 0 && b->at == f->size ? finish(b, f, part, err) : rc;
}

/* The base's rows must not be ahead of where the log will begin. */
static int base_fits(struct boot *b, struct err *err)
{
    uint64_t gen;

    for (uint32_t i = 0; i < b->n; i++) {
        struct base *base = NULL;
        int rc = 0;

        if (strncmp(b->file[i].name, "archive/", 8) != 0 || !base_parse(b->file[i].name + 8, &gen))
            continue;
        rc = base_open(b->io, gen, &base, NULL, err);
        if (rc == 0)
            rc = base_check(base, err);
        if (rc == 0 && base_head(base)->applied > b->end)
            rc = err_set(err, ERR_BADREC, "%s: expected rows as of @%" PRIu64 " or before, found them as of @%" PRIu64, b->file[i].name, b->end, base_head(base)->applied);
        base_close(base);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int boot_make(struct boot *b, const char *dir, const uint8_t *retained, size_t len, struct err *err)
{
    struct retained r = { 0 };
    struct store_seed seed = { .key_id = b->list.key_id, .epoch = b->list.epochs[0], .timezone = b->list.timezone, .begins = b->end, .last_lsn = b->list.last_lsn,
                               .last_hash = b->list.last_hash, .epochs = b->list.epochs, .n_epochs = b->list.n_epochs, .retained = &r };
    uint8_t lineage[16];
    struct err why = { 0 };
    int rc = retained_decode(retained, len, lineage, &r, &why);

    if (rc < 0 || memcmp(lineage, b->list.lineage, 16) != 0)
        rc = err_set(err, rc == ERR_NOMEM ? rc : ERR_BADREC, "message RETAINED: %s", rc < 0 ? why.msg : "it is of another lineage");
    if (rc == 0 && r.horizon > b->end)
        rc = err_set(err, ERR_BADREC, "message RETAINED: expected moments from @%" PRIu64 " on, where the files end, or earlier, found them kept from @%" PRIu64, b->end, r.horizon);
    if (rc == 0)
        rc = list_whole(&b->list, b->end, err);
    if (rc == 0)
        rc = base_fits(b, err);
    if (rc == 0)                         /* names of files that were there when this try began: who wrote them may have died before this */
        rc = io_syncdir(b->io, "archive", err);
    if (rc == 0)
        rc = io_syncdir(b->io, "packs", err);
    if (rc == 0 && b->next < b->n_want)
        rc = err_set(err, ERR_BADREC, "message RETAINED: expected %" PRIu32 " more files before", b->n_want - b->next);
    memcpy(seed.lineage, b->list.lineage, 16);
    memcpy(seed.key, b->list.key, 32);
    seed.lock = b->lock;
    if (rc == 0)
        rc = store_create_standby(b->io, dir, &seed, err);
    retained_release(&r);
    return rc;
}
