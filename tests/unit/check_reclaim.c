/*
 * check_reclaim.c: what is kept of the past, against a model that looks at every record; and that what is given back is what no kept moment
 * needs: each of them is what it was, with the index made anew, too.
 */
#include "store/core/moment.h"
#include "store/core/moment_internal.h"
#include "store/core/retain.h"
#include "store/maint/pressure.h"
#include "store/maint/reclaim.h"
#include "store/maint/space.h"
#include "store/maint/upkeep.h"
#include "store/pack/history.h"
#include "store/pack/packs.h"
#include "tests/lib/packrig.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define S 1000000000ull
#define DAY (86400 * S)

static struct teststore a;
static struct past past;

static void set(const char *name, const char *value)
{
    struct err err = { 0 };

    ck_assert_msg(store_config_set(a.s, name, value, &err) == 0, "%s", err.msg);
}

static struct reclaim_result reclaim_now(void)
{
    const struct reclaim_options opt = { .now = true };
    struct reclaim_result res;
    struct err err = { 0 };

    ck_assert_msg(reclaim(a.s, &opt, &res, &err) == 0, "reclaim: %s", err.msg);
    return res;
}

/* ---- the model: every record, its age and the names of its periods ---- */

enum { RECORDS = 40000, ENDS = 4096 };
struct mrec { uint64_t lsn, age; int64_t wall; uint64_t boot, due; bool whole, listed; };
static struct mrec rec[RECORDS];
static unsigned n_rec;

static uint64_t age_step(const struct mrec *before, int64_t wall, uint64_t boot, bool stop)
{
    uint64_t w, b;

    if (wall <= before->wall)
        return 0;
    w = (uint64_t)(wall - before->wall);
    b = stop || boot < before->boot ? DAY : boot - before->boot;
    return w < b ? w : b;
}

static void model_records(void)
{
    struct history_iter *it = NULL;
    struct err err = { 0 };
    struct record r;
    unsigned n = 0;

    ck_assert_int_eq(history_iter_new(store_history(a.s), history_first(store_history(a.s)), UINT64_MAX, &it, &err), 0);
    while (n < n_rec && rec[n].lsn < history_first(store_history(a.s)))
        n++;                             /* a base has these; the model remembers them */
    while (history_next(it, &r, NULL, &err) == 1) {
        struct mrec *m = &rec[n];

        ck_assert_uint_lt(n, RECORDS);
        if (n >= n_rec)
            *m = (struct mrec){ .lsn = r.lsn, .wall = r.wall_ns, .boot = r.boot_ns, .whole = true, .listed = true };
        ck_assert_uint_eq(m->lsn, r.lsn);
        m->age = n == 0 ? 0 : rec[n - 1].age + age_step(&rec[n - 1], r.wall_ns, r.boot_ns, r.type == REC_MOUNT || r.type == REC_INCARNATION || r.type == REC_EPOCH);
        n++;
    }
    history_iter_free(it);
    n_rec = n;
}

static int64_t label(enum period_kind k, int64_t wall)
{
    time_t t = (time_t)(wall / (int64_t)S);
    struct tm tm;
    int64_t days;

    localtime_r(&t, &tm);
    t += tm.tm_gmtoff;
    days = t / 86400;
    switch (k) {
    case HOURLY: return t / 3600;
    case DAILY: return days;
    case WEEKLY: return (days + 3) / 7;
    case MONTHLY: return tm.tm_year * 12 + tm.tm_mon;
    default: return tm.tm_year;
    }
}

struct mend { int64_t label; unsigned rec; uint64_t age; };

/* The ends of one kind that are wanted: marked in ${wanted}, by record. */
static void model_ends(enum period_kind k, uint32_t keep, uint64_t now, uint64_t created, bool *wanted)
{
    static struct mend end[ENDS];
    unsigned n = 0;

    for (unsigned i = 1; i < n_rec; i++) {
        int64_t was = label(k, rec[i - 1].wall);

        if (label(k, rec[i].wall) == was)
            continue;
        unsigned times = 0, oldest = 0;

        for (unsigned e = n; e-- > 0;)
            if (end[e].label == was) {
                times++;
                oldest = e;
            }
        if (times == 8) {                /* of one that comes again and again the last eight */
            memmove(end + oldest, end + oldest + 1, (n - oldest - 1) * sizeof *end);
            n--;
        }
        ck_assert_uint_lt(n, ENDS);
        end[n++] = (struct mend){ was, i - 1, rec[i].age };
    }
    for (unsigned e = 0; e < n; e++) {
        unsigned since = 0;              /* other periods that have ended since, each once, however often a clock brought it back */

        for (unsigned i = e + 1; i < n; i++) {
            bool new = end[i].label != end[e].label;

            for (unsigned q = e + 1; q < i && new; q++)
                new = end[q].label != end[i].label;
            since += new;
        }
        if ((since < keep || now - end[e].age < keep * period_ns(k)) && rec[end[e].rec].lsn >= created)
            wanted[end[e].rec] = true;
    }
}

static uint64_t model_age(void)
{
    struct io *io = simio_io(a.sim);

    return rec[n_rec - 1].age + age_step(&rec[n_rec - 1], io_wall_ns(io), io_boot_ns(io), false);
}

/* What the store keeps whole, by record. */
static void model_whole(bool *whole)
{
    struct keep k = { 0 };
    struct err err = { 0 };

    ck_assert_int_eq(retain_keep(a.s, &k, &err), 0);
    for (unsigned i = 0; i < n_rec; i++) {
        whole[i] = rec[i].lsn >= k.horizon;
        for (size_t q = 0; q < k.n && !whole[i]; q++)
            whole[i] = k.point[q] == rec[i].lsn;
        ck_assert_msg(!whole[i] || rec[i].whole, "record %u @%lu came back", i, (unsigned long)rec[i].lsn);
    }
    free((void *)(uintptr_t)k.point);
}

/* After steps that nobody looked at. */
static void model_again(bool now)
{
    static bool whole[RECORDS];

    model_records();
    model_whole(whole);
    for (unsigned i = 0; i < n_rec; i++) {
        bool is = store_lists(a.s, rec[i].lsn);

        ck_assert(whole[i] || !is);
        if (!is && (now || rec[i].listed))
            rec[i].due = 0;
        rec[i].whole = whole[i];
        rec[i].listed = is;
    }
}

static const char *set_text(void)
{
    static char text[4000];
    struct retain_plan p;
    size_t n;

    ck_assert_int_eq(retain_plan(a.s, NULL, false, &p, NULL), 0);
    n = (size_t)snprintf(text, sizeof text, "horizon @%lu listed @%lu", (unsigned long)p.horizon, (unsigned long)p.listed);
    for (size_t i = 0; i < p.n && n < sizeof text - 100; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, " @%lu:%x%s", (unsigned long)p.v[i].lsn, p.v[i].reasons, p.v[i].listed ? "" : "-");
    retain_plan_free(&p);
    return text;
}

/* What the set may do in one step, and what must be listed after it. */
static void model_check(bool at_once, const uint64_t *snaps, unsigned n_snaps)
{
    static bool wanted[RECORDS], whole[RECORDS];
    struct policy p;
    struct row_ino root;
    struct err err = { 0 };
    uint64_t now, all, from = 0;
    unsigned listed = 0;

    policy_read(a.s, &p);
    model_records();
    now = model_age();
    ck_assert_uint_eq(periods_age(a.s), now);
    ck_assert_int_eq(store_getattr(a.s, AT_LIVE, INO_ROOT, &root, NULL), 0);
    for (int i = 0; i < 10; i++) {
        uint64_t age = past_random(&past, now / S + 10) * S, got, expected = 0;

        for (unsigned k = 0; k < n_rec; k++)
            if (rec[k].age <= age)
                expected = rec[k].lsn;
        ck_assert_int_eq(periods_at_age(a.s, age, &got, &err), 0);
        /* where records were let go of, the row of the clock before them says it: earlier than what is there */
        ck_assert_msg(got == expected || (got < expected && expected < history_first(store_history(a.s))), "of age %lu: expected @%lu, found @%lu", (unsigned long)age, (unsigned long)expected, (unsigned long)got);
    }
    ck_assert_int_ge(retain_update(a.s, NULL, at_once, &err), 0);
    memset(wanted, 0, n_rec * sizeof *wanted);
    for (int k = 0; k < N_PERIODS; k++)
        model_ends((enum period_kind)k, p.keep[k], now, root.created, wanted);
    all = p.keep_all_ns > p.min_age_ns ? p.keep_all_ns : p.min_age_ns;
    for (unsigned i = 0; i < n_rec && now > all; i++)
        if (rec[i].age <= now - all)
            from = rec[i].lsn;
    for (unsigned i = 0; i < n_snaps; i++)
        for (unsigned k = 0; k < n_rec; k++)
            wanted[k] = wanted[k] || rec[k].lsn == snaps[i];
    model_whole(whole);
    for (unsigned i = 0; i < n_rec; i++) {
        struct mrec *m = &rec[i];
        bool want = m->whole && (m->lsn >= from || wanted[i]), is = store_lists(a.s, m->lsn);

        ck_assert_msg(is == want, "record %u @%lu of age %lu (now %lu): listed %d, expected %d (wanted %d, all from @%lu; %s)", i, (unsigned long)m->lsn,
                      (unsigned long)(m->age / S), (unsigned long)(now / S), is, want, wanted[i], (unsigned long)from, set_text());
        ck_assert(whole[i] || !is);
        if (m->whole && !whole[i])          /* let go of: not listed before, and for as long as the grace is */
            ck_assert_msg(!m->listed && (at_once || now >= m->due), "record %u @%lu: went at age %lu, expected not before %lu", i,
                          (unsigned long)m->lsn, (unsigned long)now, (unsigned long)m->due);
        if (!is && (m->listed || at_once))
            m->due = at_once ? now : now + p.grace_ns;
        else if (!is && m->due > now + p.grace_ns)
            m->due = now + p.grace_ns;      /* a grace made shorter counts for what waits, too */
        m->listed = is;
        m->whole = whole[i];
        listed += is;
    }
    ck_assert_uint_gt(listed, 0);
}

/* Every listed moment that was remembered is what it was. */
static unsigned kept_well(const char *when)
{
    unsigned n = 0;

    for (unsigned i = 0; i < past.n; i++) {
        if (!store_lists(a.s, past.m[i].lsn))
            continue;
        ck_assert_msg(past_digest(a.s, past.m[i].lsn) == past.m[i].digest, "%s: moment %u, @%lu, is not what it was", when, i, (unsigned long)past.m[i].lsn);
        n++;
    }
    return n;
}

/* Of each moment that is listed: its clock, and where that time leads. ${again}: it is as it was, where that is listed still. */
static void clocks(bool again)
{
    static struct { uint64_t lsn, found; int64_t wall; } was[PAST_MAX];

    for (unsigned i = 0; i < past.n; i++) {
        uint64_t found = 0;
        int64_t wall = 0;
        struct err err = { 0 };

        if (!store_lists(a.s, past.m[i].lsn)) {
            was[i].lsn = 0;
            continue;
        }
        ck_assert_msg(moment_wall(a.s, past.m[i].lsn, &wall, &err) == 0, "%s", err.msg);
        ck_assert_int_eq(moment_find(a.s, wall, INT64_MAX, &found, &err), 0);
        if (again && was[i].lsn == past.m[i].lsn) {
            ck_assert_int_eq(wall, was[i].wall);
            ck_assert_msg(found == was[i].found || !store_lists(a.s, was[i].found), "the time of @%lu led to @%lu, now to @%lu", (unsigned long)was[i].lsn,
                          (unsigned long)was[i].found, (unsigned long)found);
        }
        was[i].lsn = past.m[i].lsn;
        was[i].found = found;
        was[i].wall = wall;
    }
}

static void bad_pack(void *arg, const struct err *e)
{
    (void)arg;
    ck_abort_msg("%s", e->msg);
}

static int check_pack(void *arg, const struct packs_info *i)
{
    struct err err = { 0 };

    ck_assert_msg(packs_check(arg, i->gen, bad_pack, NULL, &err) == 0, "%s: %s", i->name, err.msg);
    return 0;
}

static void packs_well(void)
{
    ck_assert_int_eq(packs_list(store_packs(a.s), check_pack, store_packs(a.s), NULL), 0);
}

/* ---- random histories ---- */

static void random_policy(void)
{
    static const char *const durations[] = { "0", "30s", "10m", "3h", "2d", "9d" };
    char n[16];

    set("keep-all", durations[past_random(&past, 6)]);
    set("min-age", durations[past_random(&past, 4)]);
    set("reclaim-grace", durations[past_random(&past, 5)]);
    for (int k = 0; k < N_PERIODS; k++) {
        sprintf(n, "%u", (unsigned)past_random(&past, past_random(&past, 3) == 0 ? 40 : 5));
        set(period_setting((enum period_kind)k), n);
    }
}

static void random_time(void)
{
    static const int64_t most_ms[] = { 3000, 600000, 3 * 3600000, 86400000, 40ll * 86400000 };
    int64_t ms = 1 + (int64_t)past_random(&past, (uint64_t)most_ms[past_random(&past, 5)]);

    switch (past_random(&past, 12)) {
    case 0:                              /* the clock jumps */
        a.now_ns += (past_random(&past, 2) ? 1 : -1) * ms * 1000000;
        simio_set_wall(a.sim, a.now_ns);
        break;
    case 1:                              /* suspended, or off */
        ck_assert_int_eq(store_sync(a.s, NULL), 0);      /* the model knows nothing of what is lost */
        ts_step(&a, ms);
        ts_reopen(&a, past_random(&past, 2));
        break;
    case 2: case 3: case 4:
        ts_step(&a, ms);
        break;
    default:
        ts_step(&a, ms / 1000 + 1);
    }
}

static void remember(void)
{
    uint64_t last = ts_last(&a);

    if (past.n == PAST_MAX || (past.n > 0 && past.m[past.n - 1].lsn == last))
        return;
    past.m[past.n].lsn = last;
    past.m[past.n++].digest = past_digest(a.s, AT_LIVE);
}

static void random_history(uint64_t seed, unsigned ops, const char *zone)
{
    uint64_t snaps[16];
    unsigned n_snaps = 0;
    struct err err = { 0 };

    setenv("TZ", zone, 1);
    tzset();
    packrig_start(&a, &past, seed * 7919 + 1, 16 << 10);
    set("timezone", zone);
    n_rec = 0;
    random_policy();
    for (unsigned i = 0; i < ops; i++) {
        past_work(&a, &past, 1, 2);
        remember();
        random_time();
        remember();
        if (past_random(&past, 25) == 0 && n_snaps < 16) {
            char name[16];

            sprintf(name, "s%u", i);
            ck_assert_int_eq(store_snapshot(a.s, &a.who, RSN_CREATE, name, past_random(&past, 2) && store_lists(a.s, past.m[past.n / 2].lsn)
                             ? past.m[past.n / 2].lsn : AT_LIVE, "", "", 0, &snaps[n_snaps], &err), 0);
            n_snaps++;
        }
        if (past_random(&past, 30) == 0)
            random_policy();
        if (past_random(&past, 12) == 0) {
            packrig_pack(a.s, NULL);
        } else if (past_random(&past, 12) == 0) {
            model_check(past_random(&past, 4) == 0, snaps, n_snaps);
        } else if (past_random(&past, 20) == 0) {
            const struct reclaim_options opt = { .now = past_random(&past, 2), .base = past_random(&past, 2) };

            model_check(opt.now, snaps, n_snaps);
            kept_well("before reclaim");
            clocks(false);
            ck_assert_msg(reclaim(a.s, &opt, NULL, &err) == 0, "reclaim: %s", err.msg);
            model_again(opt.now);
            kept_well("after reclaim");
            clocks(true);
        }
    }
    packrig_pack(a.s, NULL);
    clocks(false);
    reclaim_now();
    clocks(true);
    kept_well("at the end");
    packs_well();
    packrig_without_index(&a);
    kept_well("with the index made anew");
    clocks(true);
    model_again(false);
    reclaim_now();
    kept_well("after reclaim with the index made anew");
    ck_assert_uint_eq(past_digest(a.s, AT_LIVE), past_digest(a.s, log_head(store_log(a.s)) - 1));
    ts_free(&a);
}

START_TEST(random_histories_and_policies)
{
    static const char *const zones[] = { "UTC", "Europe/Zurich", "America/St_Johns", "Australia/Lord_Howe" };
    const char *many = getenv("HISTORIES");
    unsigned n = many != NULL ? (unsigned)atoi(many) / 8 : 12, first = getenv("FROM") != NULL ? (unsigned)atoi(getenv("FROM")) : 0;

    for (unsigned i = first; i < first + n; i++) {
        uint64_t seed = (uint64_t)_i * 1000000 + i;

        if (many != NULL)
            fprintf(stderr, "seed %lu\n", (unsigned long)seed);
        random_history(seed, 20 + (unsigned)(seed * 7 % 60), zones[seed % 4]);
    }
}
END_TEST

/* ---- what is given back ---- */

static int add_bytes(void *arg, const struct packs_info *i)
{
    *(uint64_t *)arg += i->bytes;
    return 0;
}

static uint64_t pack_bytes(void)
{
    uint64_t sum = 0;

    ck_assert_int_eq(packs_list(store_packs(a.s), add_bytes, &sum, NULL), 0);
    return sum;
}

static void keep_nothing(void)
{
    set("keep-all", "0");
    set("min-age", "0");
    set("reclaim-grace", "0");
    for (int k = 0; k < N_PERIODS; k++)
        set(period_setting((enum period_kind)k), "0");
}

static void save(const char *path, size_t len, unsigned kind)
{
    uint8_t *buf = malloc(len);

    past_fill(&past, buf, len, kind);
    if (ts_ino(&a, path) != 0)
        ts_unlink(&a, path);
    ts_write(&a, ts_create(&a, path, S_IFREG | 0644), 0, buf, len);
    free(buf);
}

START_TEST(what_no_moment_needs_goes)
{
    struct reclaim_result r;
    uint64_t before;

    packrig_start(&a, &past, 5, 1 << 20);
    keep_nothing();
    for (int i = 0; i < 6; i++) {
        save("one", 400000, 1);
        ts_step(&a, 5000);
        packrig_pack(a.s, NULL);
    }
    before = pack_bytes();
    ck_assert_uint_gt(before, 6 * 400000);
    ts_step(&a, 5000);
    r = reclaim_now();
    ck_assert_uint_gt(r.rows_gone, 20);
    ck_assert_uint_lt(pack_bytes(), 400000 + 30000);
    ts_unlink(&a, "one");
    ts_step(&a, 5000);
    ts_create(&a, "two", S_IFREG | 0644);
    ts_step(&a, 5000);
    packrig_pack(a.s, NULL);
    reclaim_now();
    ck_assert_uint_lt(pack_bytes(), 20000);
    packs_well();
    ts_free(&a);
}
END_TEST

START_TEST(what_no_moment_needs_is_not_packed)
{
    struct reclaim_options opt = { .now = true, .sweep = true };
    struct err err = { 0 };
    uint64_t digest;

    packrig_start(&a, &past, 5, 1 << 20);
    keep_nothing();
    for (int i = 0; i < 6; i++) {
        save("one", 400000, 1);
        past_work(&a, &past, 6, 100);
        ts_step(&a, 5000);
    }
    digest = past_digest(a.s, AT_LIVE);
    opt.needed = upkeep_needed(a.s);
    ck_assert_ptr_nonnull(opt.needed);
    ck_assert_msg(reclaim(a.s, &opt, NULL, &err) == 0, "%s", err.msg);
    save("later", 50000, 1);             /* of what came since nothing is known */
    ck_assert_msg(upkeep_pack(a.s, opt.needed, NULL, NULL, NULL, &err) == 0, "%s", err.msg);
    needed_free(opt.needed);
    ck_assert_uint_lt(pack_bytes(), 400000 + 50000 + 200000);
    ck_assert_uint_eq(log_first(store_log(a.s)), log_head(store_log(a.s)));
    ts_unlink(&a, "later");
    (void)digest;
    ts_is(&a, "later", NULL);
    packs_well();
    reclaim_now();
    packrig_without_index(&a);
    packs_well();
    reclaim_now();
    ck_assert_int_gt(past_digest(a.s, AT_LIVE) != 0, 0);
    ts_free(&a);
}
END_TEST

START_TEST(what_a_snapshot_holds_stays)
{
    uint64_t at = 0, digest;
    struct err err = { 0 };

    packrig_start(&a, &past, 6, 1 << 20);
    keep_nothing();
    save("one", 300000, 1);
    digest = past_digest(a.s, AT_LIVE);
    ck_assert_int_eq(store_snapshot(a.s, &a.who, RSN_CREATE, "kept", AT_LIVE, "", "", 0, &at, &err), 0);
    ts_step(&a, 5000);
    ts_unlink(&a, "one");
    save("two", 200000, 1);
    ts_step(&a, 5000);
    packrig_pack(a.s, NULL);
    reclaim_now();
    ck_assert_uint_gt(pack_bytes(), 500000);
    ck_assert_uint_eq(past_digest(a.s, at), digest);
    ck_assert_int_eq(store_snapshot(a.s, &a.who, RSN_DELETE, "kept", AT_LIVE, "", "", 0, NULL, &err), 0);
    ts_step(&a, 5000);
    ts_create(&a, "three", S_IFREG | 0644);
    ts_step(&a, 5000);
    packrig_pack(a.s, NULL);
    reclaim_now();
    ck_assert(!store_lists(a.s, at));
    ck_assert_uint_lt(pack_bytes(), 230000);
    ts_free(&a);
}
END_TEST

/* Of a difference the base is needed, of a copy the chunk; what is only in a pack that stays keeps what that names. */
START_TEST(what_is_needed_builds_on_what_is_not)
{
    uint64_t digest;

    packrig_start(&a, &past, 7, 1 << 20);
    keep_nothing();
    past_work(&a, &past, 60, 60);
    packrig_pack(a.s, NULL);
    for (int i = 0; i < 30; i++) {
        past_work(&a, &past, 8, 8);
        packrig_pack(a.s, NULL);
        if (i % 5 == 4) {
            ts_step(&a, 5000);
            digest = past_digest(a.s, AT_LIVE);
            reclaim_now();
            ck_assert_uint_eq(past_digest(a.s, AT_LIVE), digest);
            packs_well();
        }
    }
    ts_free(&a);
}
END_TEST

/* What a question says would be freed is freed, when that is done. */
START_TEST(what_would_be_freed_is_freed)
{
    const struct reclaim_options opt = { 0 };
    struct err err = { 0 };
    struct space_free f = { 0 };
    struct space_sizes z;
    struct space_below b;
    uint64_t before, after, digest;
    char text[32];

    packrig_start(&a, &past, 20 + (uint64_t)_i, 1 << 20);
    keep_nothing();
    set("keep-all", "20d");
    for (int i = 0; i < 24; i++) {
        save("one", 20000 + past_random(&past, 200000), (unsigned)(i % 2));
        save("two", 60000, 1);
        past_work(&a, &past, 5, 100);
        ts_step(&a, 3000000 + (int64_t)past_random(&past, 3000000));
    }
    packrig_pack(a.s, NULL);
    reclaim_now();
    before = pack_bytes();
    ck_assert_msg(space_sizes(a.s, &opt, &z, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(z.leaving, 0);
    ck_assert_uint_le(z.present + z.past, before);
    ck_assert_uint_ge(z.present + z.past, before - before / 8);
    ck_assert_msg(space_below(a.s, ts_ino(&a, "two"), &opt, &b, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(b.inodes, 1);
    ck_assert_uint_ge(b.alone, 60000);
    ck_assert_msg(space_free(a.s, before / 100 * (uint64_t)(20 + 15 * _i), &opt, &f, &err) == 0, "%s", err.msg);
    ck_assert(f.enough);
    ck_assert_uint_ge(f.bytes, before / 100 * (uint64_t)(20 + 15 * _i));
    sprintf(text, "%lus", (unsigned long)((f.now_age_ns - f.age_ns) / S));
    set("keep-all", text);
    digest = past_digest(a.s, AT_LIVE);
    reclaim_now();
    after = pack_bytes();
    ck_assert_msg(before - after <= f.bytes + f.bytes / 20 + 5000 && f.bytes <= before - after + f.bytes / 20 + 5000, "said %lu, freed %lu of %lu", (unsigned long)f.bytes,
                  (unsigned long)(before - after), (unsigned long)before);
    ck_assert_uint_eq(past_digest(a.s, AT_LIVE), digest);
    ck_assert_int_eq(space_free(a.s, 1ull << 40, &opt, &f, &err), 0);
    ck_assert(!f.enough);
    ts_free(&a);
}
END_TEST

START_TEST(who_is_in_a_moment_keeps_it)
{
    uint64_t at, digest;

    packrig_start(&a, &past, 8, 1 << 20);
    keep_nothing();
    save("one", 300000, 1);
    at = ts_last(&a);
    digest = past_digest(a.s, AT_LIVE);
    ts_step(&a, 5000);
    save("one", 300000, 1);
    ts_step(&a, 5000);
    packrig_pack(a.s, NULL);
    ck_assert_int_eq(store_enter(a.s, at), 0);
    ck_assert(store_lists(a.s, at));
    ts_create(&a, "two", S_IFREG | 0644);
    ts_step(&a, 5000);
    reclaim_now();
    ck_assert(store_lists(a.s, at));
    ck_assert_uint_eq(past_digest(a.s, at), digest);
    store_leave(a.s, at);
    reclaim_now();
    ck_assert(!store_lists(a.s, at));
    ts_free(&a);
}
END_TEST

static void *reclaims(void *arg)
{
    const struct reclaim_options opt = { .now = true, .sweep = true };
    struct err err = { 0 };

    for (int i = 0; i < 30; i++)
        if (reclaim(a.s, &opt, NULL, &err) < 0)
            return arg;
    return NULL;
}

/* Who would count what goes twice, or make one pack of what the other makes one of. */
START_TEST(several_at_once_do_it_in_turn)
{
    pthread_t t[3];
    void *bad;

    packrig_start(&a, &past, 33, 16 << 10);
    keep_nothing();
    a.opt.threads = true;
    ts_reopen(&a, false);
    for (int i = 0; i < 6; i++) {
        past_work(&a, &past, 30, 100);
        ts_step(&a, 5000);
        packrig_pack(a.s, NULL);
    }
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&t[i], NULL, reclaims, "it failed"), 0);
    for (int i = 0; i < 3; i++) {
        pthread_join(t[i], &bad);
        ck_assert_ptr_null(bad);
    }
    reclaim_now();                       /* what is counted still agrees */
    packs_well();
    ck_assert_uint_eq(past_digest(a.s, AT_LIVE), past_digest(a.s, log_head(store_log(a.s)) - 1));
    ts_free(&a);
}
END_TEST

/* Slowly where only keep-free is passed, at once where the disk is full; to min-age and no further; and back. */
START_TEST(less_is_kept_where_space_is_short)
{
    struct reclaim_options opt = { .now = true, .sweep = true };
    struct pressure p = { 0 };
    struct policy policy;
    struct io_space_info sp;
    struct store_info info;
    struct err err = { 0 };
    char text[32];
    unsigned steps = 0;
    uint64_t ms = 0, last;

    packrig_start(&a, &past, 30, 64 << 10);
    past_work(&a, &past, 1, 1);
    past_work(&a, &past, 60, 60);
    ts_step(&a, 2 * 86400000);
    past_work(&a, &past, 60, 60);
    ts_step(&a, 3 * 3600000);
    past_work(&a, &past, 20, 20);
    last = past.m[past.n - 1].lsn;
    packrig_pack(a.s, NULL);
    ck_assert(!pressure_look(&p, a.s, 1000));
    ck_assert_int_eq(io_space(simio_io(a.sim), &sp, NULL), 0);
    sprintf(text, "%lu", (unsigned long)(sp.avail + (1 << 20)));
    set("keep-free", text);
    p.look_ms = 0;
    for (; p.level < POLICY_LEVELS && steps < 100000; steps++, ms += 1000) {
        if (!pressure_look(&p, a.s, 1000))
            continue;
        ck_assert_uint_ge(ms, 590000);       /* a while after it began */
        pressure_step(&p, a.s, &policy);
        opt.policy = &policy;
        ck_assert_msg(reclaim(a.s, &opt, NULL, &err) == 0, "%s", err.msg);
        pressure_done(&p);
        store_info(a.s, &info);
        ck_assert(info.short_of == !store_lists(a.s, past.m[0].lsn));
        ck_assert_int_eq(store_lists(a.s, last), 1);
    }
    ck_assert_uint_ge(ms, 11ull * 3600000);
    ck_assert(!store_lists(a.s, past.m[0].lsn) && info.short_of);
    ck_assert_uint_eq(policy.keep_all_ns, 3600 * S);
    set("keep-free", "1");
    p.look_ms = 0;
    ck_assert(!pressure_look(&p, a.s, 1000));
    ck_assert_uint_eq(p.level, 0);
    ck_assert_int_eq(reclaim(a.s, &(struct reclaim_options){ 0 }, NULL, &err), 0);
    store_info(a.s, &info);
    ck_assert(info.short_of);                /* what is gone is gone, until keep-all's time has passed */
    simio_set_space(a.sim, simio_used(a.sim) + 10000);
    ck_assert(pressure_look(&p, a.s, 1000)); /* full */
    ck_assert_int_eq(store_create_node(a.s, &a.who, INO_ROOT, "x", 1, S_IFREG | 0644, 0, NULL, &(uint64_t){ 0 }, &(struct row_ino){ 0 }, NULL), ERR_NOSPC);
    simio_set_space(a.sim, 0);
    p.look_ms = 0;
    ck_assert(!pressure_look(&p, a.s, 1000));
    ts_create(&a, "x", S_IFREG | 0644);
    ts_free(&a);
}
END_TEST

START_TEST(an_index_that_lost_rows_gives_nothing_away)
{
    static const char table[] = { 'i', 'I', 'I', 'I' };
    static const int nth[] = { 3, 0, 7, 20 };
    const struct reclaim_options opt = { .now = true };
    uint8_t key[KV_KEY_MAX], lo = (uint8_t)table[_i], hi = (uint8_t)(table[_i] + 1);
    const uint8_t *found;
    struct kv *kv;
    struct kv_iter *it;
    struct kv_batch *b;
    struct err err = { 0 };
    uint64_t before;
    size_t len;

    packrig_start(&a, &past, 9, 1 << 20);
    keep_nothing();
    past_work(&a, &past, 60, 60);
    packrig_pack(a.s, NULL);
    ck_assert_int_eq(store_flush(a.s, NULL), 0);
    kv = store_kv(a.s);
    it = kv->ops->iter_new(kv, NULL, &lo, 1, &hi, 1);
    kv->ops->iter_seek(it, &lo, 1);
    for (int i = 0; i < nth[_i]; i++)
        kv->ops->iter_next(it);
    ck_assert(kv->ops->iter_valid(it));
    found = kv->ops->iter_key(it, &len);
    memcpy(key, found, len);
    kv->ops->iter_free(it);
    b = kv->ops->batch_new(kv);
    kv->ops->batch_del(b, key, len);
    ck_assert_int_eq(kv_write(kv, b, NULL), 0);
    kv->ops->batch_free(b);
    before = pack_bytes();
    ts_step(&a, 5000);
    ck_assert_int_eq(reclaim(a.s, &opt, NULL, &err), ERR_DAMAGE);
    ck_assert_ptr_nonnull(strstr(err.msg, "nothing is let go of"));
    ck_assert_uint_eq(pack_bytes(), before);
    ck_assert_int_eq(reclaim(a.s, &opt, NULL, &err), ERR_DAMAGE);
    packrig_without_index(&a);
    ck_assert_int_eq(reclaim(a.s, &opt, NULL, &err), 0);
    ts_free(&a);
}
END_TEST

START_TEST(a_clock_set_back_ends_nothing_early)
{
    const struct policy p = { .keep = { [MONTHLY] = 3 } };
    struct period_list l;
    struct err err = { 0 };
    uint64_t end = 0;
    bool there = false;

    packrig_start(&a, &past, 5, 16 << 10);
    for (int m = 0; m < 4; m++) {
        ts_save(&a, "f", "text");
        if (m == 1)
            end = ts_last(&a);
        ts_step(&a, 31LL * 86400 * 1000);
    }
    ts_clock(&a, 1798761600 - 9 * 86400);        /* into the month of m = 1, when all this was long ago */
    ts_save(&a, "f", "once more");
    ts_step(&a, 120LL * 86400 * 1000);
    ts_save(&a, "f", "and on");
    ck_assert_int_eq(store_apply(a.s, NULL), 0);
    ck_assert_int_eq(periods_wanted(a.s, &p, periods_age(a.s), &l, &err), 0);
    for (size_t i = 0; i < l.n; i++)
        there |= l.v[i].lsn == end;
    ck_assert_msg(there, "the end of a month, @%lu, went with a clock set back into it", (unsigned long)end);
    periods_free(&l);
    ts_free(&a);
}
END_TEST

START_TEST(needs_are_of_moments_in_the_row)
{
    const uint64_t p[] = { 10, 20, 20, 30 };
    const struct keep k = { 100, p, 4 };

    ck_assert(keep_needs(&k, 5, 11) && keep_needs(&k, 10, 11) && !keep_needs(&k, 11, 20) && keep_needs(&k, 20, 21));
    ck_assert(!keep_needs(&k, 31, 100) && keep_needs(&k, 31, 101) && !keep_needs(&k, 40, 40) && !keep_needs(&k, 10, 10));
    ck_assert(keep_needs(&k, 500, 600) && !keep_needs(&k, 500, 500));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("reclaim");
    TCase *tc = tcase_create("model"), *one = tcase_create("given back");
    SRunner *r;
    int failed;

    tcase_set_timeout(tc, 7200);
    tcase_add_loop_test(tc, random_histories_and_policies, 0, 8);
    suite_add_tcase(s, tc);
    tcase_set_timeout(one, 120);
    tcase_add_test(one, needs_are_of_moments_in_the_row);
    tcase_add_test(one, a_clock_set_back_ends_nothing_early);
    tcase_add_test(one, what_no_moment_needs_goes);
    tcase_add_test(one, what_no_moment_needs_is_not_packed);
    tcase_add_test(one, what_a_snapshot_holds_stays);
    tcase_add_test(one, what_is_needed_builds_on_what_is_not);
    tcase_add_loop_test(one, what_would_be_freed_is_freed, 0, 5);
    tcase_add_test(one, several_at_once_do_it_in_turn);
    tcase_add_test(one, less_is_kept_where_space_is_short);
    tcase_add_test(one, who_is_in_a_moment_keeps_it);
    tcase_add_loop_test(one, an_index_that_lost_rows_gives_nothing_away, 0, 4);
    suite_add_tcase(s, one);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
