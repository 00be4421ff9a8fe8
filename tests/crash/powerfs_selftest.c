/*
 * powerfs_selftest: each rule of README.md, tried through a mounted powerfs.
 *
 *   powerfs_selftest MOUNTPOINT SOCKET [ext4-like]
 *
 * TAP on stdout; the exit code is 0 only when all passed.
 */
#include "tests/crash/powerfs_client.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, SECTOR = 512, PAGES = 8, SEEDS = 200 };

static const char *root;
static int ctl_fd, tests_run, tests_failed;
static bool case_ok;
static char reply[512];

static void say(bool ok, const char *what, int line)
{
    if (!ok && case_ok) { /* the first is enough */
        case_ok = false;
        printf("# line %d: %s (errno %s, reply %s)\n", line, what, strerror(errno), reply);
    }
}
#define CHECK(cond) say((cond), #cond, __LINE__)

static void ctl(const char *fmt, ...)
{
    char cmd[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cmd, sizeof(cmd), fmt, ap);
    va_end(ap);
    if (powerfs_command(ctl_fd, reply, sizeof(reply), "%s", cmd) != 0) {
        printf("Bail out! %s: %s\n", cmd, reply);
        exit(1);
    }
}

static const char *at(const char *name)
{
    static char buf[4][512];
    static unsigned turn;
    char *p = buf[turn++ % 4];
    snprintf(p, 512, "%s/%s", root, name);
    return p;
}

static void cut(unsigned seed, const char *mode)
{
    ctl("cut %u %s", seed, mode);
    ctl("revive");
}

static int put(const char *name, size_t off, int byte, size_t len)
{
    char *buf = malloc(len);
    memset(buf, byte, len);
    int fd = open(at(name), O_RDWR | O_CREAT, 0644);
    CHECK(fd >= 0);
    CHECK(pwrite(fd, buf, len, (off_t)off) == (ssize_t)len);
    free(buf);
    return fd;
}

/* Bytes of the file, -1 if there is none. */
static ssize_t get(const char *name, uint8_t *buf, size_t len)
{
    int fd = open(at(name), O_RDONLY);
    if (fd < 0)
        return -1;
    ssize_t n = pread(fd, buf, len, 0);
    close(fd);
    return n;
}

static void sync_dir(const char *name)
{
    int fd = open(at(name), O_RDONLY | O_DIRECTORY);
    CHECK(fd >= 0 && fsync(fd) == 0);
    close(fd);
}

static void put_synced(const char *name, int byte, size_t len)
{
    int fd = put(name, 0, byte, len);
    CHECK(fsync(fd) == 0);
    close(fd);
    sync_dir(".");
}

static bool exists(const char *name)
{
    struct stat st;
    return lstat(at(name), &st) == 0;
}

static bool all(const uint8_t *p, int byte, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] != byte)
            return false;
    return true;
}

/* --- data ------------------------------------------------------------------ */

static uint8_t buf[PAGES * PAGE * 4];

static void unsynced_write_is_lost_by_drop_all(void)
{
    put_synced("f", 'A', 100);
    close(put("f", 50, 'B', 5000));
    CHECK(get("f", buf, sizeof(buf)) == 5050);
    cut(1, "drop-all");
    CHECK(get("f", buf, sizeof(buf)) == 100 && all(buf, 'A', 100));
}

static void keep_all_keeps_everything(void)
{
    CHECK(mkdir(at("d"), 0755) == 0);
    close(put("d/f", 3, 'A', 9000));
    cut(1, "keep-all");
    CHECK(get("d/f", buf, sizeof(buf)) == 9003 && all(buf + 3, 'A', 9000) && all(buf, 0, 3));
}

static void random_reorders_and_tears_but_keeps_what_was_synced(void)
{
    int reordered = 0, torn = 0, none = 0, whole = 0;
    put_synced("f", 'A', PAGES * PAGE);
    put_synced("other", 'S', 3 * PAGE + 7);
    close(put("f", 0, 'B', PAGES * PAGE));
    ctl("save s");
    for (unsigned seed = 0; seed < SEEDS; seed++) {
        int new_pages = 0, order = 0;
        ctl("load s");
        cut(seed, "random");
        CHECK(get("f", buf, sizeof(buf)) == PAGES * PAGE);
        for (size_t p = 0; p < PAGES; p++) {
            int b = 0;
            for (size_t s = 0; s < PAGE / SECTOR; s++) {
                const uint8_t *sec = buf + p * PAGE + s * SECTOR;
                CHECK(all(sec, 'A', SECTOR) || all(sec, 'B', SECTOR));
                b += sec[0] == 'B';
            }
            torn += b > 0 && b < PAGE / SECTOR;
            order += b == PAGE / SECTOR && p > 0 && buf[p * PAGE - 1] == 'A';
            new_pages += b > 0;
        }
        reordered += order > 0;
        none += new_pages == 0;
        whole += new_pages == PAGES;
        CHECK(get("other", buf, sizeof(buf)) == 3 * PAGE + 7 && all(buf, 'S', 3 * PAGE + 7));
    }
    CHECK(reordered > SEEDS / 4 && torn > SEEDS / 4 && none > 0 && whole > 0);
    printf("# %d of %d reordered, %d pages torn, %d without, %d with all\n", reordered, SEEDS,
           torn, none, whole);
}

static void prefix_keeps_order_and_tears_only_the_last(void)
{
    bool seen[PAGES + 1] = { false };
    int torn = 0;
    put_synced("f", 'A', PAGES * PAGE);
    close(put("f", 0, 'B', PAGES * PAGE));
    ctl("save s");
    for (unsigned seed = 0; seed < SEEDS; seed++) {
        size_t n = 0;
        ctl("load s");
        cut(seed, "prefix");
        CHECK(get("f", buf, sizeof(buf)) == PAGES * PAGE);
        while (n < PAGES * PAGE && buf[n] == 'B')
            n++;
        CHECK(n % SECTOR == 0 && all(buf + n, 'A', PAGES * PAGE - n));
        torn += n % PAGE != 0;
        seen[n / PAGE] = true;
    }
    for (size_t i = 0; i <= PAGES; i++)
        CHECK(seen[i]);
    CHECK(torn > 0);
}

static void seed_repeats_the_cut(void)
{
    static uint8_t again[PAGES * PAGE];
    put_synced("f", 'A', PAGES * PAGE);
    close(put("f", 0, 'B', PAGES * PAGE));
    ctl("save s");
    for (unsigned seed = 0; seed < 20; seed++) {
        ctl("load s");
        cut(seed, "random");
        CHECK(get("f", buf, sizeof(buf)) == PAGES * PAGE);
        ctl("load s");
        cut(seed, "random");
        CHECK(get("f", again, sizeof(again)) == PAGES * PAGE);
        CHECK(memcmp(buf, again, sizeof(again)) == 0);
    }
}

static void size_may_outrun_data_and_holes_read_zero(void)
{
    int zero_tail = 0, hole = 0, shorter = 0;
    put_synced("f", 'A', 10);
    close(put("f", 10, 'B', 3 * PAGE));
    ctl("save s");
    for (unsigned seed = 0; seed < SEEDS; seed++) {
        ctl("load s");
        cut(seed, "random");
        ssize_t n = get("f", buf, sizeof(buf));
        CHECK(n >= 10 && n <= 10 + 3 * PAGE && all(buf, 'A', 10));
        for (ssize_t i = 10; i < n; i++)
            CHECK(buf[i] == 'B' || buf[i] == 0);
        shorter += n < 10 + 3 * PAGE;
        zero_tail += n > 10 && buf[n - 1] == 0;
        hole += n == 10 + 3 * PAGE && buf[2 * PAGE - 1] == 0 && buf[n - 1] == 'B';
    }
    CHECK(zero_tail > 0 && hole > 0 && shorter > 0);
}

static void truncate_is_pending_until_fsync(void)
{
    int old = 0, cut_off = 0;
    put_synced("f", 'A', 2 * PAGE);
    CHECK(truncate(at("f"), 100) == 0);
    CHECK(truncate(at("f"), 300) == 0);
    ctl("save s");
    for (unsigned seed = 0; seed < 50; seed++) {
        ctl("load s");
        cut(seed, "random");
        ssize_t n = get("f", buf, sizeof(buf));
        CHECK(n == 2 * PAGE || n == 100 || n == 300);
        CHECK(all(buf, 'A', n == 300 ? 100 : (size_t)n));
        CHECK(n != 300 || all(buf + 100, 0, 200));
        old += n == 2 * PAGE;
        cut_off += n == 300;
    }
    CHECK(old > 0 && cut_off > 0);
    ctl("load s");
    int fd = open(at("f"), O_RDWR);
    CHECK(fdatasync(fd) == 0);
    close(fd);
    cut(1, "drop-all");
    CHECK(get("f", buf, sizeof(buf)) == 300 && all(buf, 'A', 100) && all(buf + 100, 0, 200));
}

static void fallocate_modes(void)
{
    struct stat st;
    put_synced("f", 'A', 4 * PAGE);
    int fd = open(at("f"), O_RDWR);
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 2 * PAGE) == 0);
    CHECK(fallocate(fd, FALLOC_FL_ZERO_RANGE, 3 * PAGE, 2 * PAGE) == 0);
    CHECK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 16 * PAGE) == 0);
    CHECK(fstat(fd, &st) == 0 && st.st_size == 5 * PAGE && st.st_blocks >= 16 * 8);
    ctl("save s");
    cut(1, "drop-all");
    CHECK(get("f", buf, sizeof(buf)) == 4 * PAGE && all(buf, 'A', 4 * PAGE));
    close(fd);
    ctl("load s");
    fd = open(at("f"), O_RDWR);
    CHECK(fdatasync(fd) == 0);
    close(fd);
    cut(1, "drop-all");
    CHECK(get("f", buf, sizeof(buf)) == 5 * PAGE && all(buf, 'A', 100));
    CHECK(all(buf + 100, 0, 2 * PAGE) && all(buf + 3 * PAGE, 0, 2 * PAGE));
    CHECK(all(buf + 100 + 2 * PAGE, 'A', PAGE - 100));
    fd = open(at("f"), O_RDWR);
    CHECK(fallocate(fd, 0, 0, 9 * PAGE) == 0 && fstat(fd, &st) == 0 && st.st_size == 9 * PAGE);
    close(fd);
}

static void dsync_append_and_mmap(void)
{
    put_synced("f", 'A', 10);
    int fd = open(at("f"), O_RDWR | O_APPEND | O_DSYNC);
    CHECK(write(fd, "BBBB", 4) == 4);
    close(fd);
    fd = open(at("f"), O_RDWR | O_APPEND);
    CHECK(write(fd, "CC", 2) == 2);
    close(fd);
    CHECK(get("f", buf, sizeof(buf)) == 16 && all(buf + 14, 'C', 2));
    cut(1, "drop-all");
    CHECK(get("f", buf, sizeof(buf)) == 14 && all(buf + 10, 'B', 4));
    fd = open(at("f"), O_RDWR);
    uint8_t *map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED && map[0] == 'A' && map[13] == 'B');
    map[0] = 'M';
    CHECK(msync(map, PAGE, MS_SYNC) == 0);
    CHECK(pwrite(fd, "N", 1, 1) == 1 && map[1] == 'N');
    munmap(map, PAGE);
    close(fd);
    cut(1, "drop-all");
    CHECK(get("f", buf, sizeof(buf)) == 14 && buf[0] == 'M' && buf[1] == 'A');
}

/* --- directories ----------------------------------------------------------- */

static bool ext4_like;

static void name_of_a_synced_new_file(void)
{
    int fd = put("f", 0, 'A', 10);
    CHECK(fsync(fd) == 0);
    close(fd);
    cut(1, "drop-all");
    CHECK(exists("f") == ext4_like);
}

static void synced_directory_keeps_names_not_data(void)
{
    close(put("f", 0, 'A', 10));
    sync_dir(".");
    cut(1, "drop-all");
    CHECK(get("f", buf, sizeof(buf)) == 0);
}

static void subdirectory_needs_its_own_name_synced(void)
{
    CHECK(mkdir(at("d"), 0755) == 0);
    int fd = put("d/f", 0, 'A', 10);
    CHECK(fsync(fd) == 0);
    close(fd);
    sync_dir("d");
    ctl("save s");
    cut(1, "drop-all");
    CHECK(!exists("d") || ext4_like);
    ctl("load s");
    sync_dir(".");
    cut(1, "drop-all");
    CHECK(get("d/f", buf, sizeof(buf)) == 10);
}

static void rename_needs_its_directory_synced_and_is_atomic(void)
{
    int moved = 0;
    put_synced("old", 'A', 10);
    CHECK(mkdir(at("d"), 0755) == 0);
    sync_dir(".");
    CHECK(rename(at("old"), at("d/new")) == 0);
    ctl("save s");
    cut(1, "drop-all");
    CHECK(exists("old") && !exists("d/new"));
    for (unsigned seed = 0; seed < 50; seed++) {
        ctl("load s");
        cut(seed, "random");
        CHECK(exists("old") != exists("d/new"));
        moved += exists("d/new");
    }
    CHECK(moved > 5 && moved < 45);
    ctl("load s");
    sync_dir("d");
    cut(1, "drop-all");
    CHECK(!exists("old") && get("d/new", buf, sizeof(buf)) == 10);
}

static void replacing_rename_leaves_old_or_new(void)
{
    int fresh = 0;
    put_synced("f", 'A', 10);
    put_synced("f.tmp", 'B', 20);
    CHECK(rename(at("f.tmp"), at("f")) == 0);
    ctl("save s");
    for (unsigned seed = 0; seed < 50; seed++) {
        ctl("load s");
        cut(seed, seed & 1 ? "random" : "prefix");
        ssize_t n = get("f", buf, sizeof(buf));
        CHECK((n == 10 && all(buf, 'A', 10) && exists("f.tmp")) ||
              (n == 20 && all(buf, 'B', 20) && !exists("f.tmp")));
        fresh += n == 20;
    }
    CHECK(fresh > 0 && fresh < 50);
}

static void file_moved_into_an_unsynced_directory_is_never_lost(void)
{
    put_synced("f", 'A', 10);
    CHECK(mkdir(at("a"), 0755) == 0 && mkdir(at("a/b"), 0755) == 0);
    CHECK(rename(at("f"), at("a/b/f")) == 0);
    CHECK(rename(at("a"), at("c")) == 0);
    CHECK(rename(at("c/b/f"), at("g")) == 0);
    CHECK(rmdir(at("c/b")) == 0 && rmdir(at("c")) == 0);
    ctl("save s");
    for (unsigned seed = 0; seed < SEEDS; seed++) {
        ctl("load s");
        ctl("cut %u random dirs=subset", seed);
        ctl("revive");
        CHECK(exists("f") + exists("a/b/f") + exists("c/b/f") + exists("g") == 1);
    }
}

static void subset_keeps_later_names_without_earlier(void)
{
    int later = 0;
    close(put("a", 0, 'A', 1));
    close(put("b", 0, 'A', 1));
    ctl("save s");
    for (unsigned seed = 0; seed < 50; seed++) {
        ctl("load s");
        ctl("cut %u random dirs=subset", seed);
        ctl("revive");
        later += exists("b") && !exists("a");
        ctl("load s");
        ctl("cut %u random dirs=prefix", seed);
        ctl("revive");
        CHECK(exists("a") || !exists("b"));
    }
    CHECK(later > 0);
}

static void unlink_is_pending_until_directory_synced(void)
{
    put_synced("f", 'A', 10);
    CHECK(unlink(at("f")) == 0 && !exists("f"));
    ctl("save s");
    cut(1, "drop-all");
    CHECK(get("f", buf, sizeof(buf)) == 10);
    ctl("load s");
    sync_dir(".");
    cut(1, "drop-all");
    CHECK(!exists("f"));
    ctl("status");
    CHECK(strstr(reply, " inodes=1 used=0 ") != NULL);
}

static void kinds_of_objects(void)
{
    struct stat st;
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    char target[64] = "";
    put_synced("f", 'A', 10);
    CHECK(link(at("f"), at("g")) == 0 && stat(at("f"), &st) == 0 && st.st_nlink == 2);
    CHECK(symlink("f", at("l")) == 0 && readlink(at("l"), target, 63) == 1 && target[0] == 'f');
    CHECK(renameat2(AT_FDCWD, at("f"), AT_FDCWD, at("g"), RENAME_NOREPLACE) == -1 &&
          errno == EEXIST);
    CHECK(mkdir(at("d"), 0755) == 0);
    CHECK(renameat2(AT_FDCWD, at("d"), AT_FDCWD, at("g"), RENAME_EXCHANGE) == 0);
    CHECK(stat(at("g"), &st) == 0 && S_ISDIR(st.st_mode) && stat(at("d"), &st) == 0 &&
          S_ISREG(st.st_mode));
    CHECK(mkdir(at("g/x"), 0755) == 0 && rmdir(at("g")) == -1 && errno == ENOTEMPTY);
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", at("sock"));
    int s = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(s, (struct sockaddr *)&sa, sizeof(sa)) == 0 && listen(s, 1) == 0);
    CHECK(connect(c, (struct sockaddr *)&sa, sizeof(sa)) == 0);
    close(s);
    close(c);
    int fd = open(at("f"), O_RDWR);
    CHECK(fd >= 0 && unlink(at("f")) == 0 && unlink(at("d")) == 0);
    CHECK(pwrite(fd, "Z", 1, 0) == 1 && pread(fd, target, 2, 0) == 2 && target[0] == 'Z');
    close(fd);
    sync_dir(".");
    cut(1, "drop-all");
    CHECK(stat(at("g"), &st) == 0 && lstat(at("l"), &st) == 0 && !exists("f") && !exists("d"));
    CHECK(stat(at("sock"), &st) == 0 && S_ISSOCK(st.st_mode) && !exists("g/x"));
}

static void locks_hold_between_processes(void)
{
    int status = 0;
    put_synced("f", 'A', 10);
    int fd = open(at("f"), O_RDWR);
    struct flock lk = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    CHECK(fcntl(fd, F_OFD_SETLK, &lk) == 0 && flock(fd, LOCK_EX | LOCK_NB) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        int mine = open(at("f"), O_RDWR);
        struct flock want = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
        bool refused = fcntl(mine, F_OFD_SETLK, &want) != 0 && flock(mine, LOCK_EX | LOCK_NB) != 0;
        _exit(refused ? 0 : 1);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    close(fd);
}

/* --- control --------------------------------------------------------------- */

static void a_cut_machine_answers_EIO_for_ever(void)
{
    put_synced("f", 'A', 10);
    int fd = open(at("f"), O_RDWR);
    int dir = open(root, O_RDONLY | O_DIRECTORY);
    ctl("cut 1 keep-all");
    CHECK(pwrite(fd, "x", 1, 0) == -1 && errno == EIO);
    CHECK(open(at("f"), O_RDONLY) == -1 && errno == EIO);
    CHECK(mkdir(at("d"), 0755) == -1 && errno == EIO);
    ctl("revive");
    CHECK(pwrite(fd, "x", 1, 0) == -1 && errno == EIO);
    CHECK(fsync(fd) == -1 && errno == EIO);
    CHECK(fsync(dir) == -1 && errno == EIO);
    close(fd);
    close(dir);
    CHECK(get("f", buf, sizeof(buf)) == 10 && all(buf, 'A', 10));
}

static void failed_fdatasync_is_final(void)
{
    put_synced("f", 'A', 2 * PAGE);
    int fd = put("f", 0, 'B', PAGE);
    ctl("eio fdatasync 1");
    CHECK(fdatasync(fd) == -1 && errno == EIO);
    CHECK(fdatasync(fd) == 0 && fsync(fd) == 0);
    CHECK(get("f", buf, sizeof(buf)) == 2 * PAGE && all(buf, 'B', PAGE));
    ctl("save s");
    cut(1, "keep-all");
    CHECK(get("f", buf, sizeof(buf)) == 2 * PAGE && all(buf, 'A', 2 * PAGE));
    close(fd);
    ctl("load s");
    fd = put("f", 7, 'C', 1);
    CHECK(fdatasync(fd) == 0);
    close(fd);
    cut(1, "drop-all");
    CHECK(get("f", buf, sizeof(buf)) == 2 * PAGE && all(buf, 'B', 7) && buf[7] == 'C');
    CHECK(all(buf + 8, 'B', PAGE - 8) && all(buf + PAGE, 'A', PAGE));
}

static void failed_first_sync_of_an_append(void)
{
    put_synced("f", 'A', 10);
    int fd = put("f", 10, 'B', 10);
    ctl("eio fsync 1");
    CHECK(fsync(fd) == -1 && errno == EIO && fsync(fd) == 0);
    close(fd);
    CHECK(get("f", buf, sizeof(buf)) == 20);
    cut(1, "keep-all");
    CHECK(get("f", buf, sizeof(buf)) == 10 && all(buf, 'A', 10));
}

static void full_disk(void)
{
    ctl("full %d", 16 * PAGE);
    int fd = put("f", 0, 'A', 10 * PAGE);
    memset(buf, 'B', sizeof(buf));
    ssize_t n = pwrite(fd, buf, 10 * PAGE, 10 * PAGE);
    CHECK(n == 6 * PAGE);
    CHECK(pwrite(fd, buf, PAGE, 20 * PAGE) == -1 && errno == ENOSPC);
    CHECK(fallocate(fd, 0, 20 * PAGE, PAGE) == -1 && errno == ENOSPC);
    CHECK(pwrite(fd, buf, PAGE, 0) == PAGE);
    CHECK(mkdir(at("d"), 0755) == -1 && errno == ENOSPC);
    CHECK(ftruncate(fd, PAGE) == 0 && pwrite(fd, buf, PAGE, 20 * PAGE) == PAGE);
    close(fd);
    ctl("full 0");
    CHECK(mkdir(at("d"), 0755) == 0);
}

static void armed_cut_at_the_nth_call(void)
{
    put_synced("f", 'A', 10);
    ctl("arm 3 1 keep-all write");
    int fd = put("f", 0, 'B', 1);
    CHECK(pwrite(fd, "B", 1, 1) == 1);
    CHECK(pwrite(fd, "B", 1, 2) == -1 && errno == EIO);
    close(fd);
    ctl("status");
    CHECK(strstr(reply, "state=dead") != NULL);
    ctl("revive");
    CHECK(get("f", buf, sizeof(buf)) == 10 && all(buf, 'B', 3) && buf[3] == 'A');
    ctl("arm 1 1 drop-all sync-class");
    fd = put("f", 0, 'C', 1);
    CHECK(fdatasync(fd) == -1 && errno == EIO);
    close(fd);
    ctl("revive");
    CHECK(get("f", buf, sizeof(buf)) == 10 && buf[0] == 'B');
    ctl("count reset");
    fd = put("f", 0, 'C', 1);
    CHECK(fdatasync(fd) == 0);
    close(fd);
    ctl("count");
    CHECK(strstr(reply, " write=1 ") != NULL && strstr(reply, " fdatasync=1 ") != NULL);
}

static void freeze_holds_calls_until_thaw(void)
{
    int fds[2];
    char ch;
    put_synced("f", 'A', 10);
    CHECK(pipe(fds) == 0);
    ctl("freeze");
    pid_t pid = fork();
    if (pid == 0) {
        close(put("f", 0, 'B', 1));
        _exit(write(fds[1], "x", 1) == 1 ? 0 : 1);
    }
    struct pollfd p = { .fd = fds[0], .events = POLLIN };
    CHECK(poll(&p, 1, 100) == 0);
    ctl("thaw");
    CHECK(poll(&p, 1, 10000) == 1 && read(fds[0], &ch, 1) == 1);
    CHECK(waitpid(pid, NULL, 0) == pid);
    close(fds[0]);
    close(fds[1]);
    CHECK(get("f", buf, sizeof(buf)) == 10 && buf[0] == 'B');
}

/* --- against a plain array ------------------------------------------------- */

enum { MODEL_BYTES = 20 * PAGE };

struct model {
    uint8_t byte[MODEL_BYTES];
    size_t size;
};

static void random_change(int fd, struct model *m, unsigned *rng)
{
    size_t off = (size_t)rand_r(rng) % (MODEL_BYTES - 1);
    size_t len = 1 + (size_t)rand_r(rng) % (rand_r(rng) % 4 ? 700 : 9000);
    if (len > MODEL_BYTES - off)
        len = MODEL_BYTES - off;
    size_t end = off + len;
    switch (rand_r(rng) % 8) {
    case 0:
        CHECK(ftruncate(fd, (off_t)off) == 0);
        if (off < m->size)
            memset(m->byte + off, 0, m->size - off);
        m->size = off;
        return;
    case 1:
        CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off,
                        (off_t)len) == 0);
        if (off < m->size)
            memset(m->byte + off, 0, (end < m->size ? end : m->size) - off);
        return;
    case 2:
        CHECK(fallocate(fd, FALLOC_FL_ZERO_RANGE, (off_t)off, (off_t)len) == 0);
        memset(m->byte + off, 0, len);
        break;
    case 3:
        CHECK(fallocate(fd, 0, (off_t)off, (off_t)len) == 0);
        break;
    default:
        for (size_t i = off; i < end; i++)
            m->byte[i] = (uint8_t)rand_r(rng);
        CHECK(pwrite(fd, m->byte + off, len, (off_t)off) == (ssize_t)len);
    }
    if (end > m->size)
        m->size = end;
}

static void content_equals_a_plain_array(void)
{
    static struct model now, synced;
    for (unsigned seed = 1; seed <= SEEDS && case_ok; seed++) {
        unsigned rng = seed;
        memset(&now, 0, sizeof(now));
        put_synced("f", 0, 0);
        int fd = open(at("f"), O_RDWR | O_TRUNC);
        for (int i = 0; i < 40; i++)
            random_change(fd, &now, &rng);
        CHECK(get("f", buf, sizeof(buf)) == (ssize_t)now.size);
        CHECK(memcmp(buf, now.byte, now.size) == 0);
        CHECK(fdatasync(fd) == 0);
        synced = now;
        for (int i = 0; i < 10; i++)
            random_change(fd, &now, &rng);
        ctl("save s");
        cut(seed, "drop-all");
        CHECK(get("f", buf, sizeof(buf)) == (ssize_t)synced.size);
        CHECK(memcmp(buf, synced.byte, synced.size) == 0);
        ctl("load s");
        cut(seed, "keep-all");
        CHECK(get("f", buf, sizeof(buf)) == (ssize_t)now.size);
        CHECK(memcmp(buf, now.byte, now.size) == 0);
        close(fd);
    }
}

static void forgotten_objects_leave_no_trace(void)
{
    ctl("status");
    CHECK(strstr(reply, " inodes=1 used=0 pending_data=0 pending_dirs=0 ") != NULL);
}

#define CASE(name) { #name, name }
static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    CASE(unsynced_write_is_lost_by_drop_all),
    CASE(keep_all_keeps_everything),
    CASE(random_reorders_and_tears_but_keeps_what_was_synced),
    CASE(prefix_keeps_order_and_tears_only_the_last),
    CASE(seed_repeats_the_cut),
    CASE(size_may_outrun_data_and_holes_read_zero),
    CASE(truncate_is_pending_until_fsync),
    CASE(fallocate_modes),
    CASE(dsync_append_and_mmap),
    CASE(name_of_a_synced_new_file),
    CASE(synced_directory_keeps_names_not_data),
    CASE(subdirectory_needs_its_own_name_synced),
    CASE(rename_needs_its_directory_synced_and_is_atomic),
    CASE(replacing_rename_leaves_old_or_new),
    CASE(file_moved_into_an_unsynced_directory_is_never_lost),
    CASE(subset_keeps_later_names_without_earlier),
    CASE(unlink_is_pending_until_directory_synced),
    CASE(kinds_of_objects),
    CASE(locks_hold_between_processes),
    CASE(a_cut_machine_answers_EIO_for_ever),
    CASE(failed_fdatasync_is_final),
    CASE(failed_first_sync_of_an_append),
    CASE(full_disk),
    CASE(armed_cut_at_the_nth_call),
    CASE(freeze_holds_calls_until_thaw),
    CASE(content_equals_a_plain_array),
    CASE(forgotten_objects_leave_no_trace),
};

int main(int argc, char **argv)
{
    if (argc < 3 || (ctl_fd = powerfs_connect(argv[2])) < 0) {
        fputs("usage: powerfs_selftest MOUNTPOINT SOCKET [ext4-like]\n", stderr);
        return 2;
    }
    root = argv[1];
    ext4_like = argc > 3 && strcmp(argv[3], "ext4-like") == 0;
    setvbuf(stdout, NULL, _IONBF, 0); /* cases fork */
    ctl("save empty");
    size_t n = sizeof(cases) / sizeof(cases[0]);
    printf("1..%zu\n", n);
    for (size_t i = 0; i < n; i++) {
        case_ok = true;
        ctl("load empty");
        cases[i].run();
        tests_run++;
        tests_failed += !case_ok;
        printf("%sok %d - %s\n", case_ok ? "" : "not ", tests_run, cases[i].name);
    }
    return tests_failed == 0 ? 0 : 1;
}
