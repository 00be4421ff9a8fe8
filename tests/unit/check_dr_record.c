/*
 * check_dr_record.c: the record of a run: its chain, who appends between, torn ends; keys; processes with a time they may take; words for a shell.
 */
#include "cli/dr/env.h"
#include "cli/dr/proc.h"
#include "cli/dr/record.h"
#include "tests/lib/log_fixture.h"

#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64];
static struct seal *seal;

static void setup(void)
{
    strcpy(dir, "/tmp/dr-record.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(seal_open(dir, &seal, NULL), 0);
}

static void teardown(void)
{
    static const char *const names[] = { "journal", "head", "site.key", "site.pub" };
    char path[128];

    seal_close(seal);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(dir);
}

static int count(void *arg, const json_t *line)
{
    ck_assert_int_eq(json_integer_value(json_object_get(line, "seq")), ++*(int *)arg);
    return 0;
}

static void append(struct record *r, const char *event)
{
    struct err err = { 0 };

    ck_assert_msg(record_append(r, event, "s", json_pack("{si}", "x", 1), &err) == 0, "%s", err.msg);
}

static uint64_t verified(void)
{
    struct err err = { 0 };
    uint64_t n;

    ck_assert_msg(record_verify(dir, seal_public(seal), NULL, NULL, &n, &err) == 0, "%s", err.msg);
    return n;
}

START_TEST(two_append_in_turn)
{
    struct record *a = NULL, *b = NULL;
    int seen_a = 0, seen_b = 0;

    ck_assert_int_eq(record_open(dir, seal, count, &seen_a, &a, NULL), 0);
    ck_assert_int_eq(record_open(dir, seal, count, &seen_b, &b, NULL), 0);
    for (int i = 0; i < 5; i++) {
        append(a, "a");
        append(b, "b");
    }
    ck_assert_int_eq(record_catch_up(a, NULL), 0);
    ck_assert_int_eq(seen_a, 10);
    ck_assert_int_eq(seen_b, 10);
    ck_assert_uint_eq(record_seq(a), 10);
    ck_assert_str_eq(record_hash(a), record_hash(b));
    record_close(a);
    record_close(b);
    ck_assert_uint_eq(verified(), 10);
}
END_TEST

START_TEST(torn_end_is_cut_off)
{
    struct record *r = NULL;
    char path[128];
    int seen = 0, fd;

    ck_assert_int_eq(record_open(dir, seal, count, &seen, &r, NULL), 0);
    append(r, "one");
    snprintf(path, sizeof path, "%s/journal", dir);
    fd = open(path, O_WRONLY | O_APPEND);
    ck_assert_int_eq(write(fd, "{\"seq\":2,", 9), 9);
    close(fd);
    ck_assert_uint_eq(verified(), 1);
    append(r, "two");
    record_close(r);
    ck_assert_uint_eq(verified(), 2);
    ck_assert_int_eq(seen, 2);
}
END_TEST

/* Every byte of a record counts: whichever is changed, it is found. */
START_TEST(any_byte_changed)
{
    struct record *r = NULL;
    char path[128], *text;
    struct stat st;
    uint64_t n;
    int fd;

    ck_assert_int_eq(record_open(dir, seal, NULL, NULL, &r, NULL), 0);
    append(r, "one");
    append(r, "two");
    append(r, "three");
    record_close(r);
    snprintf(path, sizeof path, "%s/journal", dir);
    fd = open(path, O_RDWR);
    ck_assert_int_eq(fstat(fd, &st), 0);
    text = malloc((size_t)st.st_size);
    ck_assert_int_eq(pread(fd, text, (size_t)st.st_size, 0), st.st_size);
    for (off_t i = 0; i < st.st_size; i++) {
        char c = text[i] == 'A' ? 'B' : 'A';

        ck_assert_int_eq(pwrite(fd, &c, 1, i), 1);
        ck_assert_msg(record_verify(dir, seal_public(seal), NULL, NULL, &n, NULL) == ERR_DAMAGE, "byte %lld (%c) was changed, and it was not found", (long long)i, text[i]);
        ck_assert_int_eq(pwrite(fd, &text[i], 1, i), 1);
    }
    ck_assert_uint_eq(verified(), 3);
    close(fd);
    free(text);
}
END_TEST

/* What is behind the hash is not hashed: nothing may stand there but the signature. */
START_TEST(nothing_stands_behind_the_signature)
{
    static const char *const more[] = { ",\"event\":\"commit\"", ",\"x\":1", " " };
    struct record *r = NULL;
    char path[128], text[2048];
    uint64_t n;
    FILE *f;
    size_t len;

    ck_assert_int_eq(record_open(dir, seal, NULL, NULL, &r, NULL), 0);
    append(r, "one");
    record_close(r);
    snprintf(path, sizeof path, "%s/journal", dir);
    f = fopen(path, "r");
    len = fread(text, 1, sizeof text, f);
    fclose(f);
    ck_assert_uint_lt(len, sizeof text);
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++) {
        f = fopen(path, "w");
        ck_assert_uint_eq(fwrite(text, 1, len - 2, f), len - 2);
        fprintf(f, "%s}\n", more[i]);
        fclose(f);
        ck_assert_int_eq(record_verify(dir, seal_public(seal), NULL, NULL, &n, NULL), ERR_DAMAGE);
        ck_assert_int_eq(record_open(dir, seal, NULL, NULL, &r, NULL), ERR_DAMAGE);
    }
}
END_TEST

/* What a command says may be any bytes; it is in the record all the same. */
START_TEST(bytes_that_are_no_text)
{
    json_t *v = record_text("caf\xc3\xa9");

    ck_assert_str_eq(json_string_value(v), "caf\xc3\xa9");
    json_decref(v);
    v = record_text("caf\xc3");
    ck_assert_str_eq(json_string_value(v), "caf?");
    json_decref(v);
}
END_TEST

START_TEST(another_key)
{
    struct record *r = NULL;
    uint64_t n;

    ck_assert_int_eq(record_open(dir, seal, NULL, NULL, &r, NULL), 0);
    append(r, "one");
    record_close(r);
    ck_assert_int_eq(record_verify(dir, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", NULL, NULL, &n, NULL), ERR_DAMAGE);
    ck_assert_int_eq(record_verify(dir, "no key", NULL, NULL, &n, NULL), ERR_DAMAGE);
}
END_TEST

START_TEST(keys)
{
    struct seal *again = NULL;
    char sig[SEAL_SIG_TEXT], hex[SEAL_HASH_TEXT], path[128];
    struct err err = { 0 };
    int fd;

    ck_assert_int_eq(seal_open(dir, &again, NULL), 0);
    ck_assert_str_eq(seal_public(seal), seal_public(again));
    ck_assert_int_eq(seal_sign(seal, "text", 4, sig, NULL), 0);
    ck_assert(seal_verify(seal_public(again), "text", 4, sig));
    ck_assert(!seal_verify(seal_public(again), "texT", 4, sig));
    sig[3] = sig[3] == 'A' ? 'B' : 'A';
    ck_assert(!seal_verify(seal_public(again), "text", 4, sig));
    seal_hash("abc", 3, hex);
    ck_assert_str_eq(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    seal_close(again);
    snprintf(path, sizeof path, "%s/site.key", dir);
    fd = open(path, O_WRONLY | O_TRUNC);
    ck_assert_int_eq(write(fd, "short", 5), 5);
    close(fd);
    ck_assert_int_eq(seal_open(dir, &again, &err), ERR_DAMAGE);
    ck_assert_ptr_nonnull(strstr(err.msg, "expected a key of 32 bytes"));
}
END_TEST

/* ---- golden: FORMAT.md, "Records of disaster recovery" ---- */

static const char golden_key[] = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";      /* of the seed 0, 1 ... 31 */

static char *text_of(FILE *f)
{
    char *text = calloc(1, 8192);

    ck_assert_ptr_nonnull(f);
    ck_assert_uint_lt(fread(text, 1, 8191, f), 8191);
    fclose(f);
    return text;
}

static void put_file(const char *name, const char *text, size_t len)
{
    char path[128];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    f = fopen(path, "w");
    ck_assert_uint_eq(fwrite(text, 1, len, f), len);
    fclose(f);
}

static char *get_file(const char *name)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    return text_of(fopen(path, "r"));
}

/* What is of the clock, and follows from it, is blotted out. */
static void blot(char *text)
{
    static const char *const of_clock[] = { "\"time\":\"", "\"prev\":\"", "\"hash\":\"", "\"sig\":\"" };

    for (size_t i = 0; i < sizeof of_clock / sizeof of_clock[0]; i++)
        for (char *p = text; (p = strstr(p, of_clock[i]));)
            for (p += strlen(of_clock[i]); *p != '"'; p++)
                *p = '.';
}

static char *written_now(void)
{
    struct record *r = NULL;
    unsigned char seed[32];
    struct seal *s = NULL;

    for (unsigned char i = 0; i < 32; i++)
        seed[i] = i;
    put_file("site.key", (const char *)seed, sizeof seed);
    ck_assert_int_eq(seal_open(dir, &s, NULL), 0);
    ck_assert_str_eq(seal_public(s), golden_key);
    ck_assert_int_eq(record_open(dir, s, NULL, NULL, &r, NULL), 0);
    ck_assert_int_eq(record_append(r, "begin", "", json_pack("{ss,ss,si}", "run", "20261127T113301.123Z-failover-ab12", "kind", "failover", "since_ms", 5), NULL), 0);
    ck_assert_int_eq(record_append(r, "intent", "start/db", NULL, NULL), 0);
    ck_assert_int_eq(record_append(r, "done", "start/db", json_pack("{si,ss}", "ms", 12, "reason", "it's \"so\" \\ \n caf\xc3\xa9"), NULL), 0);
    ck_assert_int_eq(record_append(r, "up", "", json_pack("{si}", "ms", 30), NULL), 0);
    record_close(r);
    seal_close(s);
    return get_file("journal");
}

/* The golden record is proven, and what is written is like it. SPARE_GOLDEN=write makes it. */
START_TEST(golden_record_never_changes)
{
    char *is = written_now(), *was, *head = get_file("head");
    uint64_t n;

    if (getenv("SPARE_GOLDEN")) {
        FILE *j = fix_golden("dr-journal", "w"), *h = fix_golden("dr-head", "w");

        fputs(is, j);
        fputs(head, h);
        fclose(j);
        fclose(h);
    }
    free(head);
    was = text_of(fix_golden("dr-journal", "r"));
    head = text_of(fix_golden("dr-head", "r"));
    put_file("journal", was, strlen(was));
    put_file("head", head, strlen(head));
    ck_assert_int_eq(record_verify(dir, golden_key, NULL, NULL, &n, NULL), 0);
    ck_assert_uint_eq(n, 4);
    blot(is);
    blot(was);
    ck_assert_str_eq(is, was);
    free(is);
    free(was);
    free(head);
}
END_TEST

START_TEST(times)
{
    char buf[40];
    int64_t now = record_wall_ms(), back = record_parse_ms(record_now(buf)), then = record_wall_ms();

    ck_assert_int_ge(back, now);
    ck_assert_int_le(back, then);
    ck_assert_int_eq(record_parse_ms("1970-01-01T00:00:01Z"), 1000);
    ck_assert_int_eq(record_parse_ms("1970-01-01T00:00:01.25Z"), 1250);
    ck_assert_int_eq(record_parse_ms("1970-01-01T00:00:01.123456789Z"), 1123);
    ck_assert_int_eq(record_parse_ns("1970-01-01T00:00:01.123456789Z"), 1123456789);
    ck_assert_int_eq(record_parse_ms("1970-01-01 00:00:01"), -1);
    ck_assert_int_eq(record_parse_ms("now"), -1);
}
END_TEST

static struct proc_end run(const char *command, int64_t timeout_ms, char *tail, size_t cap)
{
    char sh[] = "/bin/sh", c[] = "-c", *text = strdup(command);
    struct proc p;
    struct proc_end end;

    ck_assert_int_eq(proc_start((char *[]){ sh, c, text, NULL }, &(struct proc_how){ .tied = true, .timeout_ms = timeout_ms }, &p, NULL), 0);
    proc_wait(&p, &end, NULL);
    proc_tail(&p, tail, cap);
    proc_release(&p);
    free(text);
    return end;
}

START_TEST(children)
{
    char tail[64];

    ck_assert_int_eq(run("echo one; echo two >&2; exit 3", 5000, tail, sizeof tail).exit, 3);
    ck_assert_str_eq(tail, "two");
    ck_assert_int_eq(run("kill -9 $$", 5000, tail, sizeof tail).exit, 128 + 9);
    ck_assert_int_eq(run("sleep 100", 100, tail, sizeof tail).exit, -1);
    ck_assert_int_eq(run("trap '' TERM; while :; do sleep 1; done", 100, tail, sizeof tail).exit, -1);
    /* A service that goes on keeps nobody waiting: else it would take too long. */
    ck_assert_int_eq(run("sleep 1000 & echo $!", 20000, tail, sizeof tail).exit, 0);
    ck_assert_int_eq(kill(atoi(tail), SIGKILL), 0);
    ck_assert_int_eq(run("cat", 2000, tail, sizeof tail).exit, 0);
}
END_TEST

static bool group_gone(pid_t group)
{
    for (int i = 0; kill(-group, 0) == 0 && i < 1000; i++)       /* until init has seen them, too */
        (void)poll(NULL, 0, 10);
    return kill(-group, 0) != 0;
}

/* Its children go with one that took too long, also those that do not want to. */
START_TEST(too_slow_with_its_children)
{
    char tail[64];

    ck_assert_int_eq(run("(trap '' TERM; sleep 1000) & echo $$; sleep 1000", 500, tail, sizeof tail).exit, -1);
    ck_assert_int_gt(atoi(tail), 1);
    ck_assert(group_gone(atoi(tail)));
}
END_TEST

START_TEST(one_that_says_too_much)
{
    char sh[] = "/bin/sh", c[] = "-c", text[] = "head -c 40000000 /dev/zero | tr '\\0' x; echo; head -c 40000000 /dev/zero >&2; printf '\\n\\0last\\n' >&2", tail[64];
    struct proc p;
    struct proc_end end;
    struct stat st;
    char *data;

    ck_assert_int_eq(proc_start((char *[]){ sh, c, text, NULL }, &(struct proc_how){ .apart = true, .timeout_ms = 60000 }, &p, NULL), 0);
    proc_wait(&p, &end, NULL);
    ck_assert_int_eq(end.exit, 0);
    proc_tail(&p, tail, sizeof tail);
    ck_assert_str_eq(tail, "?last");
    ck_assert_int_eq(fstat(p.out, &st), 0);
    ck_assert_int_le(st.st_blocks * 512, 2 * PROC_KEEP_BYTES);
    ck_assert_int_eq(fstat(p.data, &st), 0);
    ck_assert_int_gt(st.st_size, 40000000);
    ck_assert_int_le(st.st_blocks * 512, 2 * PROC_KEEP_BYTES);
    data = proc_data(&p, PROC_KEEP_BYTES);
    ck_assert_uint_eq(strlen(data), PROC_KEEP_BYTES);
    free(data);
    proc_release(&p);
}
END_TEST

/* All of it was kept where that was asked for. */
START_TEST(one_whose_words_are_all_kept)
{
    char sh[] = "/bin/sh", c[] = "-c", text[] = "seq 1000000";
    struct proc p;
    struct proc_end end;
    char *data;

    ck_assert_int_eq(proc_start((char *[]){ sh, c, text, NULL }, &(struct proc_how){ .apart = true, .keep_bytes = 64 << 20, .timeout_ms = 60000 }, &p, NULL), 0);
    proc_wait(&p, &end, NULL);
    ck_assert_int_eq(proc_data_bytes(&p), 6888896);
    data = proc_data(&p, 64 << 20);
    ck_assert_uint_eq(strlen(data), 6888896);
    free(data);
    proc_release(&p);
}
END_TEST

/* What nobody could find again is not begun. */
START_TEST(one_that_cannot_be_noted)
{
    char sh[] = "/bin/sh", c[] = "-c", text[] = "echo begun", tail[128];
    struct proc p;
    struct proc_end end;

    ck_assert_int_eq(proc_start((char *[]){ sh, c, text, NULL }, &(struct proc_how){ .notes = "/nowhere/running", .timeout_ms = 60000 }, &p, NULL), 0);
    proc_wait(&p, &end, NULL);
    ck_assert_int_eq(end.exit, 126);
    proc_tail(&p, tail, sizeof tail);
    ck_assert_ptr_nonnull(strstr(tail, "/nowhere/running: No such file"));
    proc_release(&p);
}
END_TEST

static unsigned n_said;
static char said[400];
static void hear(const char *what)
{
    n_said++;
    snprintf(said, sizeof said, "%s", what);
}

/* A parent that dies leaves a child that is found, waited for, and at its deadline ended, with what it began, also where that does not want to. */
START_TEST(left_by_a_parent)
{
    char sh[] = "/bin/sh", c[] = "-c", quick[] = "while [ ! -e go ]; do sleep 0.02; done; echo done >went", slow[] = "(trap '' TERM; sleep 1000; :) & sleep 1000; :", path[128];
    int status, child[2];

    ck_assert_int_eq(chdir(dir), 0);
    for (int i = 0; i < 2; i++) {
        pid_t parent, group = 0;

        ck_assert_int_eq(pipe(child), 0);
        parent = fork();
        if (parent == 0) {
            struct proc p;

            (void)proc_start((char *[]){ sh, c, i ? slow : quick, NULL }, &(struct proc_how){ .notes = dir, .timeout_ms = i ? 300 : 60000 }, &p, NULL);
            snprintf(path, sizeof path, "%s/%d", dir, (int)p.pid);
            for (int k = 0; access(path, F_OK) && k < 1000; k++)
                (void)poll(NULL, 0, 10);
            _exit(write(child[1], &p.pid, sizeof p.pid) != sizeof p.pid);
        }
        ck_assert_int_eq(waitpid(parent, &status, 0), parent);
        ck_assert_int_eq(read(child[0], &group, sizeof group), sizeof group);
        close(child[0]);
        close(child[1]);
        n_said = 0;
        if (i == 0)
            close(open("go", O_WRONLY | O_CREAT, 0600));
        ck_assert(proc_left(dir, hear, NULL));
        ck_assert(group > 1 && group_gone(group));
        ck_assert(i == 0 || n_said == 1);
        ck_assert(i == 0 || strstr(said, "sleep 1000"));
        if (i == 0)
            ck_assert_int_eq(access("went", F_OK), 0);
    }
    n_said = 0;
    ck_assert(proc_left(dir, hear, NULL));
    ck_assert_uint_eq(n_said, 0);
    (void)unlink("go");
    (void)unlink("went");
    ck_assert_int_eq(chdir("/"), 0);
}
END_TEST

/* A number that is another process by now is nobody's child. */
START_TEST(left_and_gone)
{
    char path[128], boot[64];
    unsigned long long began;
    FILE *f;

    /* One of another life of the machine; one of this life, this number, that began later. What they were may take no longer. */
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(proc_note(dir, 0), 0);
        snprintf(path, sizeof path, "%s/%d", dir, (int)getpid());
        f = fopen(path, "r");
        ck_assert_int_eq(fscanf(f, "%63s %llu", boot, &began), 2);
        fclose(f);
        f = fopen(path, "w");
        fprintf(f, "%s %llu 0\n", i ? boot : "another-boot", i ? began + 1 : began);
        fclose(f);
        n_said = 0;
        ck_assert(proc_left(dir, hear, NULL));
        ck_assert_uint_eq(n_said, 0);
        ck_assert_int_ne(access(path, F_OK), 0);
    }
}
END_TEST

START_TEST(quoted)
{
    static const char *const words[] = { "plain", "", "a b", "it's", "$HOME `x` \"y\" \\", "-n", "a\nb", "*" };
    char tail[64], command[256];

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        char *q = env_quoted(words[i]), *n = strchr(words[i], '\n');

        snprintf(command, sizeof command, "printf '<%%s>' %s", q);
        ck_assert_int_eq(run(command, 5000, tail, sizeof tail).exit, 0);
        snprintf(command, sizeof command, "%s%s>", n ? "" : "<", n ? n + 1 : words[i]);
        ck_assert_str_eq(tail, command);
        free(q);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dr_record");
    TCase *t = tcase_create("record"), *plain = tcase_create("plain");
    SRunner *r;
    int bad;

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, two_append_in_turn);
    tcase_add_test(t, torn_end_is_cut_off);
    tcase_add_test(t, any_byte_changed);
    tcase_add_test(t, nothing_stands_behind_the_signature);
    tcase_add_test(t, another_key);
    tcase_add_test(t, keys);
    tcase_add_test(t, golden_record_never_changes);
    tcase_add_test(plain, times);
    tcase_add_test(plain, bytes_that_are_no_text);
    tcase_add_test(plain, children);
    tcase_add_test(plain, quoted);
    tcase_add_test(plain, too_slow_with_its_children);
    tcase_add_test(plain, one_that_says_too_much);
    tcase_add_test(plain, one_whose_words_are_all_kept);
    tcase_add_test(plain, one_that_cannot_be_noted);
    tcase_add_test(t, left_by_a_parent);
    tcase_add_test(t, left_and_gone);
    suite_add_tcase(s, t);
    suite_add_tcase(s, plain);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    bad = srunner_ntests_failed(r);
    srunner_free(r);
    return bad != 0;
}
