/* check_svc.c: frames, the control socket and the requests, on a store without a mount. */
#include "store/svc/client.h"
#include "store/svc/server.h"
#include "store/svc/svc.h"
#include "store/svc/wire.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define OK(call) ck_assert_msg((call) == 0, "%s: %s", #call, err.msg)

static char dir[4096];
static struct err err;
static struct io *io;
static struct store *s;

/* ---- a store in a directory of its own ---- */

static void open_store(void)
{
    struct store_options opt = { .writable = true, .threads = true, .memory_bytes = 64 << 20 };

    OK(io_posix_new(dir, &io, &err));
    OK(store_open(io, dir, &opt, &s, NULL, &err));
}

static void make_dir(void)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(dir, sizeof dir, "%s/spare-svc-XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    memset(&err, 0, sizeof err);
}

static void setup(void)
{
    struct store_init in = { .root_mode = 0755 };

    make_dir();
    OK(io_posix_new(dir, &io, &err));
    OK(store_create(io, dir, &in, &err));
    io->ops->free(io);
    open_store();
}

static void remove_tree(int at, const char *name)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *e;

    while (d && (e = readdir(d)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && unlinkat(dirfd(d), e->d_name, 0))
            remove_tree(dirfd(d), e->d_name);
    if (d)
        closedir(d);
    unlinkat(at, name, AT_REMOVEDIR);
}

static void teardown(void)
{
    if (s)
        OK(store_close(s, &err));
    if (io)
        io->ops->free(io);
    s = NULL;
    io = NULL;
    remove_tree(AT_FDCWD, dir);
}

/* ---- receivers ---- */

struct got { json_t *items; uint8_t *data; size_t len; int stop_after; int calls; };

static int take(void *arg, const char *type, const json_t *item, const void *bin, size_t len)
{
    struct got *g = arg;

    g->calls++;
    if (strcmp(type, "item") == 0) {
        json_array_append(g->items, (json_t *)(uintptr_t)item);
    } else if (strcmp(type, "data") == 0) {
        g->data = realloc(g->data, g->len + len);
        memcpy(g->data + g->len, bin, len);
        g->len += len;
    }
    return g->stop_after && g->calls >= g->stop_after ? ERR_INTR : 0;
}

static struct got got_new(void) { return (struct got){ .items = json_array() }; }
static void got_free(struct got *g) { json_decref(g->items); free(g->data); }

static int local(json_t *req, struct got *g)
{
    struct svc_env env = { .s = s };
    struct caller me = { .uid = geteuid(), .gid = getegid() };
    int r;

    memset(&err, 0, sizeof err);
    r = svc_call(&env, &me, req, NULL, take, g, &err);
    json_decref(req);
    return r;
}

static int remote(int fd, json_t *req, struct got *g)
{
    int r;

    memset(&err, 0, sizeof err);
    r = svc_request(fd, req, NULL, take, g, &err);
    json_decref(req);
    return r;
}

static const char *first_text(const struct got *g, const char *key)
{
    return json_string_value(json_object_get(json_array_get(g->items, 0), key));
}

static uint64_t make_file(const char *name, size_t len)
{
    struct caller me = { .uid = geteuid(), .gid = getegid() };
    struct row_ino row;
    uint64_t ino;
    uint8_t *buf = malloc(len + 1);

    for (size_t i = 0; i < len; i++)
        buf[i] = (uint8_t)(i * 31 ^ i >> 8);
    OK(store_create_node(s, &me, INO_ROOT, name, strlen(name), S_IFREG | 0644, 0, NULL, &ino, &row, NULL));
    for (size_t off = 0; off < len; off += 1 << 20) {
        size_t n = len - off < 1 << 20 ? len - off : 1 << 20;

        ck_assert_int_eq(store_write(s, &me, ino, off, buf + off, n, NULL), (int64_t)n);
    }
    free(buf);
    return ino;
}

/* ---- bytes in JSON ---- */

START_TEST(names_that_are_not_utf8_travel_exactly)
{
    static const char *const names[] = { "plain", "z\xc3\xbcrich", "bad\xff", "\xc3", "half\xe2\x82", "a\nb", "\xed\xa0\x80", "" };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        json_t *o = json_object(), *o2;
        char *text, *back;

        ck_assert_int_eq(wire_set_bytes(o, "path", names[i], strlen(names[i])), 0);
        text = json_dumps(o, 0);
        ck_assert_ptr_nonnull(text);
        OK(wire_decode_json(text, strlen(text), &o2, &err));
        OK(wire_get_bytes(o2, "path", &back, &err));
        ck_assert_str_eq(back, names[i]);
        free(back);
        free(text);
        json_decref(o);
        json_decref(o2);
    }
}
END_TEST

START_TEST(bad_names_are_refused)
{
    static const char *const bad[] = {
        "{\"path\": 7}", "{\"path_hex\": \"0\"}", "{\"path_hex\": \"zz\"}", "{\"path_hex\": \"00\"}", "{\"path_hex\": []}",
        "{\"path_hex\": \"4G\"}",
    };
    char *out;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        json_t *o;

        OK(wire_decode_json(bad[i], strlen(bad[i]), &o, &err));
        ck_assert_int_eq(wire_get_bytes(o, "path", &out, &err), ERR_USAGE);
        ck_assert_ptr_null(out);
        json_decref(o);
    }
}
END_TEST

/* ---- frames ---- */

static void pair(int fd[2]) { ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0); }

START_TEST(frame_round_trip)
{
    struct wire_frame f;
    json_t *o = json_pack("{ss}", "op", "x");
    int fd[2];

    pair(fd);
    OK(wire_send(fd[0], o, "abc", 3, &err));
    OK(wire_send(fd[0], o, NULL, 0, &err));
    close(fd[0]);
    ck_assert_int_eq(wire_recv(fd[1], NULL, &f, &err), 1);
    ck_assert_uint_eq(f.bin_len, 3);
    ck_assert_mem_eq(f.bin, "abc", 3);
    ck_assert(json_equal(f.json, o));
    wire_frame_release(&f);
    ck_assert_int_eq(wire_recv(fd[1], NULL, &f, &err), 1);
    ck_assert_uint_eq(f.bin_len, 0);
    wire_frame_release(&f);
    ck_assert_int_eq(wire_recv(fd[1], NULL, &f, &err), 0);
    wire_frame_release(&f);
    close(fd[1]);
    json_decref(o);
}
END_TEST

static int recv_raw(const void *p, size_t len)
{
    struct wire_frame f;
    int fd[2], r;

    pair(fd);
    ck_assert_int_eq(write(fd[0], p, len), (ssize_t)len);
    close(fd[0]);
    memset(&err, 0, sizeof err);
    r = wire_recv(fd[1], NULL, &f, &err);
    wire_frame_release(&f);
    close(fd[1]);
    return r;
}

START_TEST(hostile_frames)
{
    static const uint8_t huge_json[] = { 1, 0, 16, 0, 0, 0, 0, 0 };         /* 1 MiB + 1 */
    static const uint8_t huge_bin[] = { 2, 0, 0, 0, 1, 0, 64, 0, '{', '}' }; /* 4 MiB + 1 */
    static const uint8_t no_json[] = { 0, 0, 0, 0, 0, 0, 0, 0 };
    static const uint8_t array[] = { 2, 0, 0, 0, 0, 0, 0, 0, '[', ']' };
    static const uint8_t junk[] = { 2, 0, 0, 0, 0, 0, 0, 0, '{', 0xff };
    static const uint8_t twice[] = { 13, 0, 0, 0, 0, 0, 0, 0, '{', '"', 'a', '"', ':', '1', ',', '"', 'a', '"', ':', '2', '}' };
    static const uint8_t cut[] = { 9, 0, 0, 0, 0, 0, 0, 0, '{' };
    static const uint8_t cut_bin[] = { 2, 0, 0, 0, 4, 0, 0, 0, '{', '}', 'x' };

    ck_assert_int_eq(recv_raw(huge_json, sizeof huge_json), ERR_BADREC);
    ck_assert_int_eq(recv_raw(huge_bin, sizeof huge_bin), ERR_BADREC);
    ck_assert_int_eq(recv_raw(no_json, sizeof no_json), ERR_BADREC);
    ck_assert_int_eq(recv_raw(array, sizeof array), ERR_BADREC);
    ck_assert_int_eq(recv_raw(junk, sizeof junk), ERR_BADREC);
    ck_assert_int_eq(recv_raw(twice, sizeof twice), ERR_BADREC);
    ck_assert_int_eq(recv_raw(cut, sizeof cut), ERR_TRUNCATED);
    ck_assert_int_eq(recv_raw(cut_bin, sizeof cut_bin), ERR_TRUNCATED);
    ck_assert_int_eq(recv_raw(cut, 3), ERR_TRUNCATED);
    ck_assert_int_eq(recv_raw(cut, 0), 0);
}
END_TEST

START_TEST(frames_beyond_the_bounds_are_not_sent)
{
    json_t *o = json_object();
    char *big = calloc(1, WIRE_BIN_MAX + 1);
    int fd[2];

    pair(fd);
    ck_assert_int_eq(wire_send(fd[0], o, big, WIRE_BIN_MAX + 1, &err), ERR_TOOLONG);
    memset(big, 'x', WIRE_JSON_MAX);
    json_object_set_new(o, "x", json_stringn(big, WIRE_JSON_MAX));
    ck_assert_int_eq(wire_send(fd[0], o, NULL, 0, &err), ERR_TOOLONG);
    close(fd[0]);
    close(fd[1]);
    json_decref(o);
    free(big);
}
END_TEST

/* ---- requests ---- */

START_TEST(unknown_requests_and_arguments)
{
    struct got g = got_new();

    ck_assert_int_eq(local(json_pack("{ss}", "op", "nonsense"), &g), ERR_USAGE);
    ck_assert_int_eq(local(json_object(), &g), ERR_USAGE);
    ck_assert_int_eq(local(json_pack("{ssss}", "op", "status", "colour", "red"), &g), ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.msg, "colour"));
    ck_assert_int_eq(local(json_pack("{sssi}", "op", "cat", "path", 4), &g), ERR_USAGE);
    ck_assert_int_eq(local(json_pack("{ssss}", "op", "wait", "until", "never"), &g), ERR_USAGE);
    ck_assert_int_eq(local(json_pack("{sssi}", "op", "log", "limit", -1), &g), ERR_USAGE);
    ck_assert_uint_eq(json_array_size(g.items), 0);
    ck_assert_int_eq(svc_op_writes("status"), 0);
    ck_assert_int_eq(svc_op_writes("undo"), 1);
    ck_assert_int_eq(svc_op_writes("nonsense"), ERR_USAGE);
    got_free(&g);
}
END_TEST

START_TEST(sizes)
{
    static const struct { const char *text; uint64_t value; } good[] = {
        { "0", 0 }, { "1000", 1000 }, { "1B", 1 }, { "4K", 4096 }, { "4KiB", 4096 }, { "2g", UINT64_C(2) << 30 }, { "1T", UINT64_C(1) << 40 },
    };
    static const char *const bad[] = { "", "x", "-1", " 1", "1.5G", "1Q", "1KB", "99999999999999999999", "9000000000G" };
    uint64_t v;

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        OK(svc_size_parse(good[i].text, &v, &err));
        ck_assert_uint_eq(v, good[i].value);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(svc_size_parse(bad[i], &v, &err) == ERR_USAGE, "%s", bad[i]);
}
END_TEST

START_TEST(settings_are_validated_and_kept)
{
    struct got g = got_new();

    ck_assert_int_eq(local(json_pack("{ssssss}", "op", "config_set", "name", "memory", "value", "64M"), &g), 0);
    ck_assert_str_eq(first_text(&g, "value"), "67108864");
    ck_assert_int_eq(local(json_pack("{ssssss}", "op", "config_set", "name", "memory", "value", "1M"), &g), ERR_USAGE);
    ck_assert_int_eq(local(json_pack("{ssssss}", "op", "config_set", "name", "colour", "value", "1"), &g), ERR_USAGE);
    ck_assert_int_eq(local(json_pack("{ssssss}", "op", "config_set", "name", "timezone", "value", "../../etc/passwd"), &g), ERR_USAGE);
    got_free(&g);
    OK(store_close(s, &err));
    s = NULL;
    io->ops->free(io);
    open_store();
    g = got_new();
    ck_assert_int_eq(local(json_pack("{ss}", "op", "config"), &g), 0);
    ck_assert_uint_eq(json_array_size(g.items), svc_n_settings);
    for (size_t i = 0; i < svc_n_settings; i++) {
        json_t *o = json_array_get(g.items, i);

        if (strcmp(json_string_value(json_object_get(o, "name")), "memory") == 0)
            ck_assert_str_eq(json_string_value(json_object_get(o, "value")), "67108864");
    }
    got_free(&g);
}
END_TEST

START_TEST(check_finds_a_whole_store_whole)
{
    struct got g = got_new();
    json_t *last;

    make_file("a", 3000000);
    make_file("b", 10);
    ck_assert_int_eq(local(json_pack("{sssb}", "op", "check", "read_data", 1), &g), 0);
    last = json_array_get(g.items, json_array_size(g.items) - 1);
    ck_assert_str_eq(json_string_value(json_object_get(last, "kind")), "result");
    ck_assert_int_eq(json_integer_value(json_object_get(last, "findings")), 0);
    got_free(&g);
}
END_TEST

/* A row of the index that says something else than the others is found, each time by its own words. */
static void plant(const void *key, size_t klen, const void *val, size_t vlen, const char *expect)
{
    struct kv *kv = store_kv(s);
    struct kv_batch *b = kv->ops->batch_new(kv);
    struct got g = got_new();
    uint8_t *old = NULL;
    size_t olen = 0;
    bool was = kv_get(kv, key, klen, &old, &olen, NULL) == 0, found = false;

    if (val)
        kv->ops->batch_put(b, key, klen, val, vlen);
    else
        kv->ops->batch_del(b, key, klen);
    OK(kv_write(kv, b, &err));
    ck_assert_int_eq(local(json_pack("{ss}", "op", "check"), &g), ERR_DAMAGE);
    for (size_t i = 0; i < json_array_size(g.items); i++) {
        const char *m = json_string_value(json_object_get(json_array_get(g.items, i), "message"));

        found = found || (m && strstr(m, expect));
    }
    ck_assert_msg(found, "nothing says: %s", expect);
    kv->ops->batch_clear(b);
    if (was)
        kv->ops->batch_put(b, key, klen, old, olen);
    else
        kv->ops->batch_del(b, key, klen);
    OK(kv_write(kv, b, &err));
    kv->ops->batch_free(b);
    free(old);
    got_free(&g);
    g = got_new();
    ck_assert_int_eq(local(json_pack("{ss}", "op", "check"), &g), 0);
    got_free(&g);
}

START_TEST(check_names_planted_damage)
{
    struct got g = got_new();
    uint8_t key[KV_KEY_MAX], val[ROW_INO_MAX];
    uint64_t ino = make_file("a", 100000);
    const uint8_t *target;
    struct row_ino row;
    uint8_t *old;
    size_t n, olen;

    /* Everything is in the index before rows are changed below it. */
    ck_assert_int_eq(local(json_pack("{ss}", "op", "check"), &g), 0);
    got_free(&g);
    n = key_ino(key, ino);
    OK(kv_get(store_kv(s), key, n, &old, &olen, &err));
    OK(row_ino_decode(old, olen, &row, &target, &err));
    free(old);
    plant(key, n, "x", 1, "row");
    plant(key, n, NULL, 0, "does not exist");
    row.nlink = 2;
    plant(key, n, val, row_ino_encode(&row, NULL, val, sizeof val), "its row says 2 links, found 1");
    row.nlink = 1;
    row.blocks += 1;
    plant(key, n, val, row_ino_encode(&row, NULL, val, sizeof val), "bytes held");
    n = key_den(key, INO_ROOT, "a", 1);
    plant(key, n, NULL, 0, "its row says 1 entries, found 0");
    n = key_par(key, ino, INO_ROOT, "a", 1);
    plant(key, n, NULL, 0, "expected its inode to know this parent");
    n = key_orphan(key, ino);
    plant(key, n, val, row_u64_encode(5000, val, sizeof val), "listed as unlinked");
    plant("zz", 2, "x", 1, "expected the key of a table");
}
END_TEST

/* ---- the socket ---- */

static struct svc_server *serve(void)
{
    struct svc_hooks hooks = { .mount_dir = "/mnt/somewhere" };
    struct svc_server *srv = NULL;

    OK(svc_server_start(s, dir, &hooks, &srv, &err));
    return srv;
}

static int dial(void)
{
    int fd = -1;

    OK(svc_connect(dir, &fd, &err));
    return fd;
}

START_TEST(socket_answers_as_the_store_itself)
{
    struct svc_server *srv;
    struct got a = got_new(), b = got_new();
    struct stat st;
    char path[5000];
    int fd;

    make_file("big", 3 * (1 << 20) + 17);
    ck_assert_int_eq(local(json_pack("{ssss}", "op", "cat", "path", "big"), &a), 0);
    srv = serve();
    snprintf(path, sizeof path, "%s/control", dir);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert(S_ISSOCK(st.st_mode));
    ck_assert_int_eq(st.st_mode & 0777, 0600);
    fd = dial();
    ck_assert_int_eq(remote(fd, json_pack("{ssss}", "op", "cat", "path", "big"), &b), 0);
    ck_assert_uint_eq(a.len, 3 * (1 << 20) + 17);
    ck_assert_uint_eq(b.len, a.len);
    ck_assert_mem_eq(a.data, b.data, a.len);
    /* The same connection takes further requests, also after one that failed. */
    ck_assert_int_eq(remote(fd, json_pack("{ssss}", "op", "cat", "path", "none"), &b), ERR_NOENT);
    ck_assert_ptr_nonnull(strstr(err.msg, "none"));
    ck_assert_int_eq(remote(fd, json_pack("{ss}", "op", "status"), &b), 0);
    ck_assert_str_eq(first_text(&b, "mounted_at"), "/mnt/somewhere");
    close(fd);
    svc_server_stop(srv);
    ck_assert_int_eq(stat(path, &st), -1);
    ck_assert_int_eq(svc_connect(dir, &fd, &err), ERR_NOENT);
    got_free(&a);
    got_free(&b);
}
END_TEST

START_TEST(reader_that_stops_early)
{
    struct svc_server *srv = serve();
    struct got g = got_new();
    int fd = dial();

    make_file("big", 8 << 20);
    g.stop_after = 2;
    ck_assert_int_eq(remote(fd, json_pack("{ssss}", "op", "cat", "path", "big"), &g), ERR_INTR);
    close(fd);
    svc_server_stop(srv);   /* does not wait for the reader */
    got_free(&g);
}
END_TEST

START_TEST(stop_with_an_idle_and_a_stuck_client)
{
    struct svc_server *srv = serve();
    json_t *req = json_pack("{ssss}", "op", "cat", "path", "big");
    int idle = dial(), stuck = dial();
    struct pollfd p = { .fd = stuck, .events = POLLIN };

    make_file("big", 8 << 20);
    OK(wire_send(stuck, req, NULL, 0, &err));
    ck_assert_int_eq(poll(&p, 1, 10000), 1);    /* the answer has begun; nobody reads it */
    svc_server_stop(srv);
    close(idle);
    close(stuck);
    json_decref(req);
}
END_TEST

START_TEST(clients_are_bounded)
{
    struct svc_server *srv = serve();
    struct got g = got_new();
    int fd[SVC_CLIENTS_MAX], more;

    for (int i = 0; i < SVC_CLIENTS_MAX; i++) {
        fd[i] = dial();
        ck_assert_int_eq(remote(fd[i], json_pack("{ss}", "op", "info"), &g), 0);
    }
    more = dial();
    ck_assert_int_ne(remote(more, json_pack("{ss}", "op", "info"), &g), 0);
    close(more);
    for (int i = 0; i < SVC_CLIENTS_MAX; i++)
        close(fd[i]);
    /* Their places are free again once the server has seen them go. */
    for (int tries = 0;; tries++) {
        more = dial();
        int r = remote(more, json_pack("{ss}", "op", "info"), &g);

        close(more);
        if (r == 0)
            break;
        ck_assert_int_lt(tries, 1000);
        (void)poll(NULL, 0, 5);
    }
    svc_server_stop(srv);
    got_free(&g);
}
END_TEST

START_TEST(garbage_on_the_socket)
{
    struct svc_server *srv = serve();
    struct got g = got_new();
    struct wire_frame f;
    uint8_t junk[64];
    int fd = dial();

    memset(junk, 0xee, sizeof junk);
    ck_assert_int_eq(send(fd, junk, sizeof junk, MSG_NOSIGNAL), sizeof junk);
    ck_assert_int_eq(wire_recv(fd, NULL, &f, &err), 1);
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(f.json, "error"), "code")), ERR_BADREC);
    wire_frame_release(&f);
    close(fd);
    fd = dial();
    ck_assert_int_eq(remote(fd, json_pack("{ss}", "op", "info"), &g), 0);
    close(fd);
    svc_server_stop(srv);
    got_free(&g);
}
END_TEST

START_TEST(dead_socket_is_replaced_a_live_one_is_not)
{
    struct svc_server *srv, *second = NULL;
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    char path[5000];
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), c;

    snprintf(sa.sun_path, sizeof sa.sun_path, "%.90s/control", dir);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    /* A process that dies after the kernel took the connection for it, and before it served: nothing was asked, so it is as if nobody were. */
    ck_assert_int_eq(listen(fd, 1), 0);
    pid_t dying = fork();
    if (dying == 0)
        _exit(close(accept(fd, NULL, NULL)) != 0);
    ck_assert_int_eq(svc_connect(dir, &c, &err), ERR_NOENT);
    ck_assert_int_eq(waitpid(dying, NULL, 0), dying);
    close(fd);
    ck_assert_int_eq(svc_connect(dir, &c, &err), ERR_NOENT);
    srv = serve();
    c = dial();
    close(c);
    ck_assert_int_eq(svc_server_start(s, dir, NULL, &second, &err), ERR_BUSY);
    svc_server_stop(srv);
    snprintf(path, sizeof path, "%s/control", dir);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_eq(svc_server_start(s, dir, NULL, &second, &err), ERR_EXIST);
}
END_TEST

START_TEST(path_longer_than_a_socket_address)
{
    struct svc_server *srv = NULL;
    struct got g = got_new();
    char deep[4200];
    int fd;

    snprintf(deep, sizeof deep, "%s/", dir);
    memset(deep + strlen(deep), 'd', 200);
    ck_assert_int_eq(mkdir(deep, 0700), 0);
    OK(svc_server_start(s, deep, NULL, &srv, &err));
    OK(svc_connect(deep, &fd, &err));
    ck_assert_int_eq(remote(fd, json_pack("{ss}", "op", "info"), &g), 0);
    close(fd);
    svc_server_stop(srv);
    got_free(&g);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("svc");
    TCase *plain = tcase_create("wire"), *with_store = tcase_create("store");
    SRunner *run;
    int failed;

    tcase_add_test(plain, names_that_are_not_utf8_travel_exactly);
    tcase_add_test(plain, bad_names_are_refused);
    tcase_add_test(plain, frame_round_trip);
    tcase_add_test(plain, hostile_frames);
    tcase_add_test(plain, frames_beyond_the_bounds_are_not_sent);
    tcase_add_test(plain, sizes);
    suite_add_tcase(suite, plain);
    tcase_add_checked_fixture(with_store, setup, teardown);
    tcase_add_test(with_store, unknown_requests_and_arguments);
    tcase_add_test(with_store, settings_are_validated_and_kept);
    tcase_add_test(with_store, check_finds_a_whole_store_whole);
    tcase_add_test(with_store, check_names_planted_damage);
    tcase_add_test(with_store, socket_answers_as_the_store_itself);
    tcase_add_test(with_store, reader_that_stops_early);
    tcase_add_test(with_store, stop_with_an_idle_and_a_stuck_client);
    tcase_add_test(with_store, clients_are_bounded);
    tcase_add_test(with_store, garbage_on_the_socket);
    tcase_add_test(with_store, dead_socket_is_replaced_a_live_one_is_not);
    tcase_add_test(with_store, path_longer_than_a_socket_address);
    suite_add_tcase(suite, with_store);
    run = srunner_create(suite);
    srunner_run_all(run, CK_ENV);
    failed = srunner_ntests_failed(run);
    srunner_free(run);
    return failed != 0;
}
