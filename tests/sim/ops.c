/* ops.c: seeded generator of operations. */
#include "tests/sim/ops.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

uint64_t rng_next(struct rng *r)
{
    uint64_t z = (r->s += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

uint64_t rng_below(struct rng *r, uint64_t n) { return rng_next(r) % n; }
bool rng_chance(struct rng *r, unsigned percent) { return rng_below(r, 100) < percent; }

void gen_init(struct gen *g, uint64_t seed)
{
    memset(g, 0, sizeof *g);
    g->rng.s = rng_next(&(struct rng){ seed });
    g->max_objects = 6 + (unsigned)rng_below(&g->rng, 40);
    g->names = 4 + (unsigned)rng_below(&g->rng, 12);
    g->max_write = rng_chance(&g->rng, 50) ? 600 : rng_chance(&g->rng, 50) ? 9000 : 70000;
    g->big = rng_chance(&g->rng, 50);
    g->block = 1 << 20;
    g->root = 1;
    g->hides = rng_chance(&g->rng, 50);
}

uint32_t gen_name(struct gen *g, unsigned k, char *buf)
{
    memset(buf, 0, M_NAME_CAP);
    k %= g->names;
    switch (k % 8) {
    case 1:
        return (uint32_t)snprintf(buf, M_NAME_CAP, "new\nline%u\n", k);
    case 3:
        memset(buf, 'L', 255);
        buf[254] = (char)('a' + (int)(k % 26));
        return 255;
    case 5:
        return (uint32_t)snprintf(buf, M_NAME_CAP, "\xff\xfe\x80%u\xc3", k);
    case 7:
        return (uint32_t)snprintf(buf, M_NAME_CAP, "%u \\'\"$*", k);
    default:
        return (uint32_t)snprintf(buf, M_NAME_CAP, "n%u", k);
    }
}

uint64_t gen_ino(struct gen *g, const struct model *m, uint32_t want)
{
    if (m->n_ino == 0)
        return 0;
    size_t from = (size_t)rng_below(&g->rng, m->n_ino);
    for (size_t k = 0; k < m->n_ino; k++) {
        const struct mino *i = m->ino[(from + k) % m->n_ino];
        if (want == 0 || (i->a.mode & S_IFMT) == want)
            return i->a.ino;
    }
    return 0;
}

/* A directory that hides what is made in it; 0: there is none. */
static uint64_t hiding_dir(struct gen *g, const struct model *m)
{
    size_t from = (size_t)rng_below(&g->rng, m->n_ino);
    for (size_t k = 0; k < m->n_ino; k++) {
        const struct mino *i = m->ino[(from + k) % m->n_ino];
        if (S_ISDIR(i->a.mode) && i->a.nlink > 0 && (i->hidden || model_xattr(i, M_NOHISTORY) != NULL))
            return i->a.ino;
    }
    return 0;
}

/* Mostly a directory that names can go to; now and then something else. */
static uint64_t some_dir(struct gen *g, const struct model *m)
{
    uint64_t dir = g->hides && m->n_ino > 0 && rng_chance(&g->rng, 25) ? hiding_dir(g, m) : 0;
    if (dir != 0)
        return dir;
    if (rng_chance(&g->rng, 2))
        return gen_ino(g, m, 0);
    if (rng_chance(&g->rng, 1))
        return m->max_ino + 5;
    return rng_chance(&g->rng, 35) ? g->root : gen_ino(g, m, S_IFDIR);
}

static uint64_t some_file(struct gen *g, const struct model *m)
{
    uint64_t f = rng_chance(&g->rng, 96) ? gen_ino(g, m, S_IFREG) : gen_ino(g, m, 0);
    return f != 0 ? f : gen_ino(g, m, 0);
}

/* A name in ${dir}: mostly one that is there. */
static uint32_t some_name(struct gen *g, const struct model *m, uint64_t dir, unsigned there, char *buf)
{
    const struct mino *d = model_find(m, dir);
    if (d != NULL && d->n_ent > 0 && rng_chance(&g->rng, there)) {
        const struct mdent *e = &d->ent[rng_below(&g->rng, d->n_ent)];
        memset(buf, 0, M_NAME_CAP);
        memcpy(buf, e->name, e->nlen);
        return e->nlen;
    }
    if (rng_chance(&g->rng, 1)) {
        memset(buf, 'x', 256);
        buf[256] = '\0';
        return 256;
    }
    return gen_name(g, (unsigned)rng_below(&g->rng, 64), buf);
}

static void fill(struct gen *g, struct mop *op, uint32_t len, bool common)
{
    op->dlen = len;
    op->data = m_alloc(len + 1u);
    struct rng from = { rng_next(&g->rng) };
    if (common)
        from.s = from.s % 3;             /* bytes that others have too */
    uint64_t v = rng_next(&from), each = !common && rng_chance(&g->rng, 10) ? 8 : 64;    /* each word once: cannot be compressed */
    for (uint32_t i = 0; i < len; i++) {
        op->data[i] = (uint8_t)(v >> (i % 8 * 8));
        if (i % each == each - 1)
            v = rng_next(&from);
    }
    if (len > 0 && rng_chance(&g->rng, 3))
        memset(op->data, 0, len);
}

static uint32_t some_len(struct gen *g)
{
    switch (rng_below(&g->rng, 6)) {
    case 0: return 1 + (uint32_t)rng_below(&g->rng, 16);
    case 1: return 4096;
    case 2: return rng_chance(&g->rng, 10) ? 0 : 100;
    default: return 1 + (uint32_t)rng_below(&g->rng, g->max_write);
    }
}

uint64_t gen_off(struct gen *g, uint64_t size)
{
    switch (rng_below(&g->rng, g->big ? 8 : 5)) {
    case 0: return 0;
    case 1: return size;
    case 2: return size + rng_below(&g->rng, 10000);
    case 3: return rng_below(&g->rng, 20000);
    case 4: return size > 0 ? rng_below(&g->rng, size) : 0;
    case 5: return g->block * (1 + rng_below(&g->rng, 3)) - rng_below(&g->rng, 5000);
    case 6: return g->block * rng_below(&g->rng, 4);
    default: return rng_chance(&g->rng, 10) ? M_SIZE_MAX - rng_below(&g->rng, 5000) : rng_below(&g->rng, 4 * g->block);
    }
}

static uint64_t size_of(const struct model *m, uint64_t ino)
{
    const struct mino *i = model_find(m, ino);
    return i != NULL ? i->a.size : 0;
}

static struct mtime some_time(struct gen *g)
{
    struct mtime t = { (int64_t)rng_below(&g->rng, 4000000000u) - 1000000000, (uint32_t)rng_below(&g->rng, 1000000000) };
    if (rng_chance(&g->rng, 40))
        t = (struct mtime){ 0, M_NOW };
    return t;
}

static void gen_create(struct gen *g, const struct model *m, struct mop *op)
{
    unsigned t = (unsigned)rng_below(&g->rng, 20);
    op->parent = some_dir(g, m);
    op->nlen = some_name(g, m, op->parent, 5, op->name);
    op->mode = (uint32_t)rng_below(&g->rng, 01000);
    if (t < 11) {
        op->mode |= S_IFREG;
        if (rng_chance(&g->rng, 5) && !(model_find(m, op->parent) != NULL && model_find(m, op->parent)->a.mode & S_ISGID))
            op->mode |= S_ISUID | S_ISGID;
    } else if (t < 15) {
        op->mode |= S_IFDIR;
    } else if (t < 17) {
        op->mode = S_IFLNK | 0777;
        fill(g, op, 1 + (uint32_t)rng_below(&g->rng, rng_chance(&g->rng, 10) ? 4000 : 40), false);
        for (uint32_t i = 0; i < op->dlen; i++)
            op->data[i] = (uint8_t)('a' + op->data[i] % 26);
    } else if (t < 18) {
        op->mode |= S_IFIFO;
    } else if (t < 19) {
        op->mode |= S_IFSOCK;
    } else {
        op->mode |= rng_chance(&g->rng, 50) ? S_IFCHR : S_IFBLK;
        op->rdev = (uint32_t)rng_next(&g->rng) & 0xfffff;
    }
    op->umask = rng_chance(&g->rng, 50) ? 022 : rng_chance(&g->rng, 50) ? 077 : 0;
}

static void gen_rename(struct gen *g, const struct model *m, struct mop *op)
{
    op->parent = some_dir(g, m);
    op->nlen = some_name(g, m, op->parent, 92, op->name);
    op->parent2 = rng_chance(&g->rng, 40) ? op->parent : some_dir(g, m);
    op->nlen2 = some_name(g, m, op->parent2, 50, op->name2);
    unsigned f = (unsigned)rng_below(&g->rng, 10);
    op->flags = f < 2 ? M_EXCHANGE : f < 3 ? M_NOREPLACE : 0;
}

static void gen_setattr(struct gen *g, const struct model *m, struct mop *op)
{
    static const uint32_t usual[] = { M_MODE, M_SIZE, M_SIZE, M_SIZE, M_UID, M_GID, M_UID | M_GID, M_ATIME | M_MTIME, M_MTIME, M_ATIME };
    op->valid = rng_chance(&g->rng, 80) ? usual[rng_below(&g->rng, 10)] : (uint32_t)rng_below(&g->rng, 64);
    op->ino = op->valid & M_SIZE ? some_file(g, m) : gen_ino(g, m, 0);
    op->mode = (uint32_t)rng_below(&g->rng, 010000);
    op->new_uid = 1000 + (uint32_t)rng_below(&g->rng, 4);
    op->new_gid = 100 + (uint32_t)rng_below(&g->rng, 4);
    op->atime = some_time(g);
    op->mtime = some_time(g);
    uint64_t size = size_of(m, op->ino);
    switch (rng_below(&g->rng, 5)) {
    case 0: op->size = 0; break;
    case 1: op->size = size; break;
    case 2: op->size = size > 0 ? rng_below(&g->rng, size) : 10; break;
    default: op->size = gen_off(g, size); break;
    }
    if (rng_chance(&g->rng, 1))
        op->size = M_SIZE_MAX + 1 + rng_below(&g->rng, 10);
    op->kill = op->uid != 0 || (op->valid & (M_UID | M_GID)) != 0;       /* chown(2) always; the caller says so */
}

static void gen_fallocate(struct gen *g, const struct model *m, struct mop *op)
{
    static const uint32_t modes[] = { 0, M_KEEP_SIZE, M_PUNCH | M_KEEP_SIZE, M_PUNCH | M_KEEP_SIZE, M_ZERO, M_ZERO | M_KEEP_SIZE };
    op->ino = some_file(g, m);
    op->flags = modes[rng_below(&g->rng, 6)];
    op->off = gen_off(g, size_of(m, op->ino));
    op->len = rng_chance(&g->rng, 2) ? 0 : 1 + rng_below(&g->rng, rng_chance(&g->rng, 20) ? 2 * g->block : 20000);
    op->kill = op->uid != 0;
}

static void gen_clone(struct gen *g, const struct model *m, struct mop *op)
{
    op->src_ino = some_file(g, m);
    op->ino = rng_chance(&g->rng, 30) ? op->src_ino : some_file(g, m);
    op->src_at = rng_chance(&g->rng, 65) ? M_LIVE : 0;
    op->src_off = rng_chance(&g->rng, 40) ? 0 : gen_off(g, size_of(m, op->src_ino) / 2);
    op->off = rng_chance(&g->rng, 40) ? 0 : gen_off(g, size_of(m, op->ino));
    op->len = 1 + rng_below(&g->rng, rng_chance(&g->rng, 30) ? 2 * g->block : 20000);
    op->kill = op->uid != 0;
}

/* A valid ACL, or with luck a broken one. */
static void gen_acl(struct gen *g, struct mop *op)
{
    static const uint8_t tags[] = { 1, 2, 4, 8, 16, 32 };
    bool full = rng_chance(&g->rng, 70);
    uint8_t *v = op->data = m_alloc(64);
    uint32_t n = 4;
    v[0] = 2;
    for (int i = 0; i < 6; i++) {
        if (!full && (tags[i] == 2 || tags[i] == 8 || tags[i] == 16))
            continue;
        v[n] = tags[i];
        v[n + 2] = (uint8_t)rng_below(&g->rng, 8);
        bool named = tags[i] == 2 || tags[i] == 8;
        memset(v + n + 4, 0xff, 4);
        if (named) {
            v[n + 4] = (uint8_t)rng_below(&g->rng, 200);
            v[n + 5] = v[n + 6] = v[n + 7] = 0;
        }
        n += 8;
    }
    op->dlen = n;
    if (strcmp(op->name, "system.posix_acl_access") == 0 && rng_chance(&g->rng, 5))
        v[0] = 7;                /* the kernel lets no broken default ACL through */
}

static void gen_xattr(struct gen *g, const struct model *m, struct mop *op)
{
    static const char *const names[] = { "user.a", "user.comment", "trusted.t", "security.capability", "user.\xff\n", "odd.space" };
    op->ino = rng_chance(&g->rng, 50) ? some_file(g, m) : gen_ino(g, m, 0);
    const struct mino *i = model_find(m, op->ino);
    unsigned which = (unsigned)rng_below(&g->rng, 10);
    if (op->kind == MOP_REMOVEXATTR && i != NULL && i->n_x > 0 && rng_chance(&g->rng, 80)) {
        strcpy(op->name, i->x[rng_below(&g->rng, i->n_x)].name);
        return;
    }
    if (which >= 6 && i != NULL && !S_ISLNK(i->a.mode)) {
        bool def = S_ISDIR(i->a.mode) && rng_chance(&g->rng, 60);
        strcpy(op->name, def ? "system.posix_acl_default" : "system.posix_acl_access");
        if (op->kind == MOP_SETXATTR)
            gen_acl(g, op);
        op->kill = !def && rng_chance(&g->rng, 30);
        return;
    }
    which = which >= 6 ? 0 : which;
    if (which == 5 && rng_chance(&g->rng, 80))
        which = 1;
    strcpy(op->name, names[which]);
    if (op->kind == MOP_SETXATTR) {
        fill(g, op, (uint32_t)rng_below(&g->rng, rng_chance(&g->rng, 5) ? 5000 : 60), false);
        op->flags = rng_chance(&g->rng, 75) ? 0 : 1 + (uint32_t)rng_below(&g->rng, 2);
    }
}

/* A directory hides what is made in it from now on, or no more. The root does so rarely: then nothing else is left. */
static void gen_hide(struct gen *g, const struct model *m, struct mop *op)
{
    op->kind = rng_chance(&g->rng, 75) ? MOP_SETXATTR : MOP_REMOVEXATTR;
    op->ino = rng_chance(&g->rng, 90) ? gen_ino(g, m, S_IFDIR) : gen_ino(g, m, 0);
    if (op->ino == g->root && op->kind == MOP_SETXATTR && rng_chance(&g->rng, 90))
        op->kind = MOP_REMOVEXATTR;
    strcpy(op->name, M_NOHISTORY);
    if (op->kind == MOP_SETXATTR)
        fill(g, op, (uint32_t)rng_below(&g->rng, 3), false);
}

/* Something hidden gets a name elsewhere, or trades its own. False: there is nothing hidden. */
static bool gen_across(struct gen *g, const struct model *m, struct mop *op)
{
    bool dirs = rng_chance(&g->rng, 40);
    size_t from = (size_t)rng_below(&g->rng, m->n_ino);
    for (size_t k = 0; k < m->n_ino; k++) {
        const struct mino *d = m->ino[(from + k) % m->n_ino];
        for (size_t e = 0; e < d->n_ent; e++) {
            const struct mino *i = model_find(m, d->ent[e].ino);
            if (!d->ent[e].hidden || S_ISDIR(i->a.mode) != dirs)
                continue;
            op->kind = dirs || rng_chance(&g->rng, 70) ? MOP_RENAME : MOP_LINK;
            op->ino = op->kind == MOP_LINK ? i->a.ino : 0;
            op->parent = op->kind == MOP_LINK ? some_dir(g, m) : d->a.ino;
            op->parent2 = op->kind == MOP_LINK ? 0 : some_dir(g, m);
            op->flags = op->kind == MOP_RENAME && rng_chance(&g->rng, 30) ? M_EXCHANGE : 0;
            if (op->kind == MOP_LINK) {
                op->nlen = some_name(g, m, op->parent, 5, op->name);
            } else {
                memcpy(op->name, d->ent[e].name, d->ent[e].nlen);
                op->nlen = d->ent[e].nlen;
                op->nlen2 = some_name(g, m, op->parent2, op->flags != 0 ? 95 : 20, op->name2);
            }
            return true;
        }
    }
    return false;
}

static void gen_snapshot(struct gen *g, struct mop *op)
{
    static const uint32_t acts[] = { M_SNAP_CREATE, M_SNAP_CREATE, M_SNAP_CREATE, M_SNAP_DELETE, M_SNAP_HOLD, M_SNAP_RELEASE };
    op->nlen = (uint32_t)snprintf(op->name, sizeof op->name, "snap-%u", (unsigned)rng_below(&g->rng, 5));
    op->flags = acts[rng_below(&g->rng, 6)];
}

static enum mop_kind some_kind(struct gen *g, const struct model *m)
{
    static const struct { enum mop_kind k; unsigned w; } table[] = {
        { MOP_CREATE, 18 }, { MOP_LINK, 5 }, { MOP_UNLINK, 7 }, { MOP_RMDIR, 3 }, { MOP_RENAME, 10 }, { MOP_SETATTR, 11 },
        { MOP_WRITE, 26 }, { MOP_FALLOCATE, 6 }, { MOP_CLONE, 6 }, { MOP_SETXATTR, 6 }, { MOP_REMOVEXATTR, 2 },
        { MOP_SNAPSHOT, 2 }, { MOP_SERIES, 1 }, { MOP_REAP, 2 },
    };
    if (m->n_ino < 4)
        return MOP_CREATE;
    if (m->n_ino > g->max_objects && rng_chance(&g->rng, 30))
        return rng_chance(&g->rng, 70) ? MOP_UNLINK : MOP_RMDIR;
    unsigned total = 0, at;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        total += table[i].w;
    at = (unsigned)rng_below(&g->rng, total);
    for (size_t i = 0;; i++) {
        if (at < table[i].w)
            return table[i].k;
        at -= table[i].w;
    }
}

void gen_op(struct gen *g, const struct model *m, struct mop *op)
{
    memset(op, 0, sizeof *op);
    op->kind = some_kind(g, m);
    op->now_ns = g->now_ns;
    op->uid = rng_chance(&g->rng, 40) ? 0 : 1000 + (uint32_t)rng_below(&g->rng, 3);
    op->gid = op->uid == 0 ? 0 : 100 + (uint32_t)rng_below(&g->rng, 3);
    if (g->hides && m->n_ino > 2 && rng_chance(&g->rng, hiding_dir(g, m) == 0 ? 20 : 5)) {
        gen_hide(g, m, op);
        return;
    }
    if (g->hides && m->n_hidden > 0 && rng_chance(&g->rng, 10) && gen_across(g, m, op))
        return;
    switch (op->kind) {
    case MOP_CREATE: gen_create(g, m, op); break;
    case MOP_LINK:
        op->ino = rng_chance(&g->rng, 97) ? some_file(g, m) : gen_ino(g, m, S_IFDIR);
        op->parent = some_dir(g, m);
        op->nlen = some_name(g, m, op->parent, 5, op->name);
        break;
    case MOP_UNLINK:
    case MOP_RMDIR:
        op->parent = some_dir(g, m);
        op->nlen = some_name(g, m, op->parent, 95, op->name);
        break;
    case MOP_RENAME: gen_rename(g, m, op); break;
    case MOP_SETATTR: gen_setattr(g, m, op); break;
    case MOP_WRITE: {
        op->ino = some_file(g, m);
        op->off = rng_chance(&g->rng, 20) ? M_APPEND : gen_off(g, size_of(m, op->ino));
        bool common = rng_chance(&g->rng, 20);
        fill(g, op, common ? 20u << (4 * rng_below(&g->rng, 3)) : some_len(g), common);
        op->kill = op->uid != 0;
        break;
    }
    case MOP_FALLOCATE: gen_fallocate(g, m, op); break;
    case MOP_CLONE: gen_clone(g, m, op); break;
    case MOP_SETXATTR:
    case MOP_REMOVEXATTR: gen_xattr(g, m, op); break;
    case MOP_SNAPSHOT: gen_snapshot(g, op); break;
    case MOP_SERIES: op->flags = rng_chance(&g->rng, 95) ? !m->series : m->series; break;
    case MOP_REAP:
    case MOP_N_KINDS: break;
    }
}
