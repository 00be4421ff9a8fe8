/* check_diff.c: what changed between two moments, against both trees looked at whole; and names that are gone. */
#include "store/core/diff.h"
#include "store/core/retain.h"
#include "store/maint/reclaim.h"
#include "store/pack/history.h"
#include "tests/lib/packrig.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { NAMES = 4000, LINES = 8000, LINE = 600 };

static struct teststore a;
static struct past past;

/* ---- a tree at a moment, whole ---- */

struct name { uint64_t parent, ino; char name[256], path[512]; struct row_ino row; uint64_t xattrs; };
struct tree { struct name v[NAMES]; unsigned n; uint64_t at; };
static struct tree one, two;
struct reading { struct tree *t; uint64_t dir; const char *path; };

static uint64_t xattrs(uint64_t at, uint64_t ino)
{
    char names[4096], val[4096];
    int64_t n = store_listxattr(a.s, at, ino, names, sizeof names, NULL);
    uint64_t sum = 0;

    for (const char *p = names; p < names + n; p += strlen(p) + 1) {
        int64_t len = store_getxattr(a.s, at, ino, p, val, sizeof val, NULL);

        ck_assert_int_ge(len, 0);
        sum += hash64(p, strlen(p)) * 31 + hash64(val, (size_t)len);
    }
    return sum;
}

static int take(void *arg, const struct dirent_out *d)
{
    struct reading *r = arg;
    struct name *n = &r->t->v[r->t->n++];
    char path[512];

    ck_assert_uint_lt(r->t->n, NAMES);
    n->parent = r->dir;
    n->ino = d->ino;
    snprintf(n->name, sizeof n->name, "%.*s", (int)d->nlen, d->name);
    snprintf(path, sizeof path, "%s%s%s", r->path, *r->path ? "/" : "", n->name);
    memcpy(n->path, path, sizeof n->path);
    return 0;
}

static void read_tree(struct tree *t, uint64_t at)
{
    struct reading r = { t, INO_ROOT, "" };

    t->n = 0;
    t->at = at;
    ck_assert_int_eq(store_readdir(a.s, at, INO_ROOT, 0, take, &r, NULL), 0);
    for (unsigned i = 0; i < t->n; i++) {
        struct name *n = &t->v[i];

        ck_assert_int_eq(store_getattr(a.s, at, n->ino, &n->row, NULL), 0);
        n->xattrs = xattrs(at, n->ino);
        r = (struct reading){ t, n->ino, n->path };
        if (S_ISDIR(n->row.mode))
            ck_assert_int_eq(store_readdir(a.s, at, n->ino, 0, take, &r, NULL), 0);
    }
}

static struct name *by_name(struct tree *t, uint64_t parent, const char *name)
{
    for (unsigned i = 0; i < t->n; i++)
        if (t->v[i].parent == parent && strcmp(t->v[i].name, name) == 0)
            return &t->v[i];
    return NULL;
}

static struct name *by_ino(struct tree *t, uint64_t ino)
{
    for (unsigned i = 0; i < t->n; i++)
        if (t->v[i].ino == ino)
            return &t->v[i];
    return NULL;
}

/* ---- lines of both ---- */

struct lines { char v[LINES][LINE]; unsigned n; };
static struct lines expected, found;

static void line(struct lines *l, const char *fmt, const char *x, const char *y)
{
    ck_assert_uint_lt(l->n, LINES);
    snprintf(l->v[l->n++], LINE, fmt, x, y);
}

static int cmp(const void *x, const void *y)
{
    return strcmp(x, y);
}

static void expect(void)
{
    static struct name *gone[NAMES], *come[NAMES];
    unsigned n_gone = 0, n_come = 0;

    expected.n = 0;
    for (unsigned i = 0; i < one.n; i++) {
        struct name *g = &one.v[i], *n = by_name(&two, g->parent, g->name);

        if (n != NULL && n->ino == g->ino)
            continue;
        if (n != NULL && (n->row.mode & S_IFMT) == (g->row.mode & S_IFMT) && !S_ISDIR(n->row.mode) && by_ino(&one, n->ino) == NULL)
            line(&expected, "M %s", n->path, "");
        else
            gone[n_gone++] = g;
    }
    for (unsigned i = 0; i < two.n; i++) {
        struct name *c = &two.v[i], *n = by_name(&one, c->parent, c->name);

        if (n != NULL && (n->ino == c->ino || ((n->row.mode & S_IFMT) == (c->row.mode & S_IFMT) && !S_ISDIR(c->row.mode) && by_ino(&one, c->ino) == NULL)))
            continue;
        come[n_come++] = c;
    }
    for (unsigned i = 0; i < n_gone; i++) {
        unsigned k = 0;

        while (k < n_come && (come[k] == NULL || come[k]->ino != gone[i]->ino))
            k++;
        if (k == n_come) {
            line(&expected, "- %s", gone[i]->path, "");
            continue;
        }
        line(&expected, "R %s", "", "");     /* of several names which is told is not: the number of them */
        come[k] = NULL;
    }
    for (unsigned k = 0; k < n_come; k++)
        if (come[k] != NULL)
            line(&expected, "+ %s", come[k]->path, "");
    for (unsigned i = 0; i < one.n; i++) {
        struct name *n = by_ino(&two, one.v[i].ino);

        if (n == NULL || by_ino(&one, one.v[i].ino) != &one.v[i])
            continue;
        if (!S_ISDIR(n->row.mode) && n->row.content != one.v[i].row.content)
            line(&expected, "C", "", "");
        else if (n->row.mode != one.v[i].row.mode || n->row.uid != one.v[i].row.uid || n->xattrs != one.v[i].xattrs)
            line(&expected, "A", "", "");
    }
    qsort(expected.v, expected.n, LINE, cmp);
}

static struct { uint64_t ino, n; } counted[LINES];
static unsigned n_counted;

static int take_line(void *arg, const struct diff_entry *e)
{
    (void)arg;
    counted[n_counted].ino = e->ino;
    counted[n_counted++].n = e->operations;
    switch (e->kind) {
    case DIFF_ADDED:
        line(&found, "+ %s", e->path, "");
        break;
    case DIFF_REMOVED:
        line(&found, "- %s", e->path, "");
        break;
    case DIFF_RENAMED:
        line(&found, "R %s", "", "");
        break;
    case DIFF_CONTENT:
        if (by_ino(&one, e->ino) != NULL)
            line(&found, "C", "", "");
        else
            line(&found, "M %s", e->path, "");
        break;
    case DIFF_ATTRS:
        line(&found, "A", "", "");
    }
    return 0;
}

/* Records of operations in between, counted by themselves; of one object, where ${ino} is not 0. */
static uint64_t records(uint64_t from, uint64_t to, uint64_t ino, int64_t *last_ns)
{
    struct history_iter *it = NULL;
    struct record rec;
    uint64_t n = 0, until = log_written(store_log(a.s));

    *last_ns = INT64_MIN;
    ck_assert_int_eq(history_iter_new(store_history(a.s), history_first(store_history(a.s)), to < until ? to + 1 : until, &it, NULL), 0);
    while (history_next(it, &rec, NULL, NULL) == 1) {
        const bool operation = rec.type <= REC_SNAPSHOT || rec.type == REC_PURGE;        /* CREATE is 1 */

        if (rec.lsn <= from || !operation || (ino && rec.ino != ino && !(rec.type == REC_RENAME && rec.u.rename.dst_ino == ino)))
            continue;
        n++;
        *last_ns = rec.wall_ns > *last_ns ? rec.wall_ns : *last_ns;
    }
    history_iter_free(it);
    return n;
}

static void check_counts(uint64_t from, uint64_t to, const struct diff_total *total)
{
    int64_t last_ns;

    if (!total->known)
        return;
    ck_assert_uint_eq(total->operations, records(from, to, 0, &last_ns));
    if (total->operations > 0)
        ck_assert_int_eq(total->last_ns, last_ns);
    for (unsigned i = 0; i < n_counted && i < 5; i++)
        ck_assert_uint_eq(counted[i].n, records(from, to, counted[i].ino, &last_ns));
}

static void compare(uint64_t from, uint64_t to)
{
    struct err err = { 0 };
    struct diff_total total;

    read_tree(&one, from);
    read_tree(&two, to);
    expect();
    found.n = n_counted = 0;
    ck_assert_msg(diff_moments(a.s, from, to, take_line, NULL, &total, &err) == 0, "%s", err.msg);
    check_counts(from, to, &total);
    qsort(found.v, found.n, LINE, cmp);
    for (unsigned i = 0; i < expected.n || i < found.n; i++)
        ck_assert_msg(i < expected.n && i < found.n && strcmp(expected.v[i], found.v[i]) == 0, "from @%lu to @%lu: expected %s, found %s", (unsigned long)from,
                      (unsigned long)to, i < expected.n ? expected.v[i] : "nothing", i < found.n ? found.v[i] : "nothing");
}

START_TEST(it_is_what_both_trees_say)
{
    packrig_start(&a, &past, 40 + (uint64_t)_i, 64 << 10);
    past_work(&a, &past, 150, 3);
    if (_i % 2)
        packrig_pack(a.s, NULL);
    for (int i = 0; i < 60; i++) {
        unsigned x = (unsigned)past_random(&past, past.n), y = (unsigned)past_random(&past, past.n);

        compare(past.m[x < y ? x : y].lsn, i % 7 == 0 ? AT_LIVE : past.m[x < y ? y : x].lsn);
    }
    ts_free(&a);
}
END_TEST

static uint64_t snapshot(const char *name)
{
    uint64_t at = 0;

    ck_assert_int_eq(store_snapshot(a.s, &a.who, RSN_CREATE, name, AT_LIVE, "", "", 0, &at, NULL), 0);
    return at;
}

static struct diff_total total_from(uint64_t from)
{
    struct diff_total total;

    found.n = n_counted = 0;
    ck_assert_int_eq(diff_moments(a.s, from, AT_LIVE, take_line, NULL, &total, NULL), 0);
    ck_assert(total.known);
    return total;
}

/* What was lost is measured by the latest clock, not by that of the last record; and a snapshot of somebody is something. */
START_TEST(clock_set_back_and_a_snapshot)
{
    struct diff_total total;
    uint64_t at;

    packrig_start(&a, &past, 61, 64 << 10);
    past_work(&a, &past, 10, 5);
    (void)snapshot("one");
    at = log_written(store_log(a.s)) - 1;
    total = total_from(at);
    ck_assert_uint_eq(total.operations, 0);
    (void)snapshot("two");
    total = total_from(at);
    ck_assert_uint_eq(total.operations, 1);
    ck_assert_uint_eq(found.n, 0);
    ts_clock(&a, 2000000000);
    (void)snapshot("three");
    ts_clock(&a, 1900000000);
    (void)snapshot("four");
    total = total_from(at);
    ck_assert_uint_eq(total.operations, 3);
    ck_assert_uint_gt(total.last_lsn, total.first_lsn);
    ck_assert_int_ge(total.last_ns, INT64_C(2000000000) * 1000000000);
    ts_free(&a);
}
END_TEST

static void set(const char *name, const char *value)
{
    ck_assert_int_eq(store_config_set(a.s, name, value, NULL), 0);
}

/* Between two moments that are kept, where all between them is gone. */
START_TEST(it_is_so_when_the_past_was_thinned)
{
    const struct reclaim_options opt = { .now = true };
    uint64_t at[6];
    char name[16];

    packrig_start(&a, &past, 60, 64 << 10);
    for (int i = 0; i < 6; i++) {
        past_work(&a, &past, 40, 10);
        sprintf(name, "s%d", i);
        at[i] = snapshot(name);
        ts_step(&a, 5000);
    }
    set("keep-all", "0");
    set("min-age", "0");
    packrig_pack(a.s, NULL);
    ck_assert_int_eq(reclaim(a.s, &opt, NULL, NULL), 0);
    for (int i = 0; i < 6; i++)
        for (int k = i; k < 6; k++)
            compare(at[i], at[k]);
    ts_free(&a);
}
END_TEST

/* ---- names ---- */

static int take_name(void *arg, const struct find_entry *e)
{
    (void)arg;
    line(&found, "%s%s", e->path, e->gone ? e->moved_to ? " moved" : " gone" : "");
    return 0;
}

static void finds(const char *pattern, bool deleted, const char *expect)
{
    char all[2000] = "";

    found.n = 0;
    ck_assert_int_eq(find_names(a.s, pattern, deleted, take_name, NULL, NULL), 0);
    qsort(found.v, found.n, LINE, cmp);
    for (unsigned i = 0; i < found.n; i++)
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i > 0 ? "; " : "", found.v[i]);
    ck_assert_str_eq(all, expect);
}

START_TEST(names_are_found_now_and_then)
{
    packrig_start(&a, &past, 1, 64 << 10);
    ts_create(&a, "dir", S_IFDIR | 0755);
    for (int i = 0; i < 3; i++) {
        ts_save(&a, "dir/note.txt", "x");
        ts_save(&a, "other.txt", "y");
        ts_step(&a, 3000);
        ts_unlink(&a, "dir/note.txt");
        ts_step(&a, 3000);
    }
    ts_save(&a, "dir/was.txt", "z");
    ts_rename(&a, "dir/was.txt", "is.txt");
    finds("*.txt", false, "is.txt; other.txt");
    finds("*.txt", true, "dir/note.txt gone; dir/was.txt moved");
    finds("dir/n*", true, "dir/note.txt gone");
    finds("nothing*", true, "");
    ts_save(&a, "dir/note.txt", "again");
    finds("*.txt", true, "dir/was.txt moved");
    ts_unlink(&a, "dir/note.txt");
    ts_unlink(&a, "dir");
    finds("dir/*", true, "dir/note.txt gone; dir/was.txt moved");
    finds("d?r", true, "dir gone");
    ts_free(&a);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("diff");
    TCase *tc = tcase_create("diff");
    SRunner *r;
    int failed;

    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, it_is_what_both_trees_say, 0, 8);
    tcase_add_test(tc, it_is_so_when_the_past_was_thinned);
    tcase_add_test(tc, clock_set_back_and_a_snapshot);
    tcase_add_test(tc, names_are_found_now_and_then);
    suite_add_tcase(s, tc);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
