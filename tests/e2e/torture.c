/*
 * torture: random operations through a mounted spare, then past moments compared, before and after unmounting.
 *
 *   torture [--seed N] [--ops N] [--moments N] --spare PROGRAM STORE MOUNTPOINT
 *
 * The store is mounted and empty; it is unmounted and mounted again on the way. TAP on stdout.
 */
#include "tests/e2e/torture.h"

#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const way_names[] = {
#define X(name) #name,
    TORT_TABLE(X)
#undef X
};

static unsigned n_results;

static int result(int rc, const char *what)
{
    printf("%s %u - %s\n", rc == 0 ? "ok" : "not ok", ++n_results, what);
    return rc;
}

static int start(struct tort *t)
{
    struct stat st;
    if (lstat(t->mnt, &st) != 0)
        return tort_fail(t, "%s cannot be looked at", t->mnt);
    gen_init(&t->gen, t->seed);
    t->rng.s = t->seed * 0x9e3779b97f4a7c15ull + 3;
    t->gen.root = st.st_ino;
    t->gen.max_objects = 420;
    t->gen.names = 24;
    t->gen.max_write = 70000;
    t->gen.big = true;
    t->gen.now_ns = TORT_NOW;
    t->m = model_new();
    model_root(t->m, st.st_ino, st.st_mode & 07777, st.st_uid, st.st_gid, TORT_NOW);
    t->m->digest = (struct mhash){ 0, 0 };
    for (int k = 0; k < TORT_FDS; k++)
        t->fd[k].fd = -1;
    struct mop root = { .kind = MOP_CREATE, .ino = st.st_ino, .mode = st.st_mode & 07777, .uid = st.st_uid, .gid = st.st_gid,
                        .now_ns = TORT_NOW, .lsn = tort_moment(t) };
    t->hist = m_grow(NULL, &t->cap_hist, 1, sizeof *t->hist);
    t->hist[t->n_hist++] = root;
    return root.lsn == 0 ? -1 : 0;
}

static int work(struct tort *t, size_t ops)
{
    int rc = 0;
    while (t->n_done < ops && rc == 0) {
        struct mop op;
        unsigned k = (unsigned)rng_below(&t->rng, 100);
        if (k < 3) {
            rc = tort_fsync(t);
        } else if (k < 6) {
            rc = tort_open_some(t);
        } else {
            bool more = t->m->n_ino < 350 && rng_chance(&t->rng, 40);
            gen_op(&t->gen, t->m, &op);
            while (more && op.kind != MOP_CREATE && op.kind != MOP_LINK) {
                mop_free(&op);
                gen_op(&t->gen, t->m, &op);
            }
            rc = tort_op(t, &op);
            mop_free(&op);
        }
        if (rc == 0 && t->n_done % 1000 == 999 && rng_chance(&t->rng, 30))
            rc = tort_check(t, t->mnt, t->m, "live tree, under way");
    }
    return rc;
}

static int by_number(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return x < y ? -1 : x > y;
}

/* The tree after each of the operations ${pick}, rising, as `.snapshots` shows it. */
static int check_moments(struct tort *t, const size_t *pick, size_t n, const char *when)
{
    struct model *m = model_new();
    char path[4200], what[80];
    size_t at = 0;
    int rc = 0;
    for (size_t k = 0; k < n && rc == 0; k++) {
        for (; at <= pick[k]; at++) {
            const struct mop *op = &t->hist[at];
            if (at == 0)
                model_root(m, op->ino, op->mode, op->uid, op->gid, op->now_ns);
            else
                (void)model_do(m, op);
        }
        mop_text(&t->hist[pick[k]], t->doing, sizeof t->doing);
        snprintf(path, sizeof path, "%s/.snapshots/@%" PRIu64, t->mnt, t->hist[pick[k]].lsn);
        snprintf(what, sizeof what, "operation %zu, @%" PRIu64 " %s", pick[k], t->hist[pick[k]].lsn, when);
        rc = tort_check(t, path, m, what);
    }
    model_free(m);
    return rc;
}

static int restart(struct tort *t)
{
    tort_disconnect(t);
    snprintf(t->doing, sizeof t->doing, "unmounting and mounting");
    int rc = tort_spare(t, "umount", t->mnt, (char *)NULL);
    if (rc != 0)
        return tort_fail(t, "umount: exit status %d", rc);
    rc = tort_spare(t, "mount", t->store, t->mnt, (char *)NULL);
    return rc == 0 ? 0 : tort_fail(t, "mount: exit status %d", rc);
}

static int every_way(const struct tort *t, size_t ops)
{
    int rc = 0;
    printf("# %zu operations, %zu refused as they should be, %zu left out; live objects: %zu on average, %zu at most; names of 255 bytes: %zu\n#",
           t->n_done, t->n_refused, t->n_given, t->live_sum / (t->n_done ? t->n_done : 1), t->live_max, t->big_names);
    for (int k = 0; k < TORT_N_WAYS; k++) {
        printf(" %s=%" PRIu64, way_names[k], t->ways[k]);
        if (t->ways[k] == 0)
            rc = -1;
    }
    printf("\n");
    return rc != 0 || t->live_max < (ops >= 3000 ? 300 : ops / 12) || t->big_names == 0 ? -1 : 0;
}

static int run(struct tort *t, size_t ops, size_t moments)
{
    size_t *pick = m_alloc(moments * sizeof *pick);
    int rc = result(start(t) || work(t, ops), "operations_succeed_and_fail_as_the_model_says");
    if (rc == 0)
        rc = result(tort_check(t, t->mnt, t->m, "live tree"), "live_tree_is_the_models");
    tort_close_all(t);
    (void)result(every_way(t, ops), "every_kind_of_operation_and_enough_objects");
    for (size_t k = 0; k < moments; k++)
        pick[k] = (size_t)rng_below(&t->rng, t->n_hist);
    if (moments > 0)
        pick[0] = t->n_hist - 1;
    qsort(pick, moments, sizeof *pick, by_number);
    if (rc == 0) {
        rc = result(check_moments(t, pick, moments, "before the restart"), "moments_are_the_models");
        rc |= result(restart(t), "unmounts_and_mounts");
    }
    if (rc == 0)
        rc = result(tort_check(t, t->mnt, t->m, "live tree after the restart"), "live_tree_after_a_restart");
    if (rc == 0)
        rc = result(check_moments(t, pick, moments, "after the restart"), "moments_after_a_restart");
    printf("# %zu moments, compared %" PRIu64 " objects and %" PRIu64 " MiB\n1..%u\n", moments, t->objects, t->bytes >> 20, n_results);
    free(pick);
    return rc;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        { "seed", required_argument, NULL, 's' }, { "ops", required_argument, NULL, 'o' },
        { "moments", required_argument, NULL, 'm' }, { "spare", required_argument, NULL, 'p' }, { 0 },
    };
    struct tort t = { .ctl = -1, .seed = 1 };
    size_t ops = 2000, moments = 60;
    int o;
    while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (o) {
        case 's': t.seed = strtoull(optarg, NULL, 10); break;
        case 'o': ops = strtoul(optarg, NULL, 10); break;
        case 'm': moments = strtoul(optarg, NULL, 10); break;
        case 'p': t.spare = optarg; break;
        default: return 2;
        }
    }
    if (argc - optind != 2 || t.spare == NULL) {
        fprintf(stderr, "torture [--seed N] [--ops N] [--moments N] --spare PROGRAM STORE MOUNTPOINT\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    t.store = argv[optind];
    t.mnt = argv[optind + 1];
    int rc = run(&t, ops, moments);
    tort_disconnect(&t);
    for (size_t k = 0; k < t.n_hist; k++)
        mop_free(&t.hist[k]);
    free(t.hist);
    model_free(t.m);
    return rc != 0;
}
