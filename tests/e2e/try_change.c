/*
 * try_change.c: tries every way to change a file and a directory, and says for each how it ended.
 * Call form: try_change FILE DIR ELSEWHERE     ELSEWHERE: a writable directory of another tree
 * One line each: "refused NAME ERRNO-TEXT", or "CHANGED NAME". FILE should be readable and not empty.
 * Exit status: 0 everything was refused, 1 something was not, 2 wrong use.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

static int changed;

/* ${rc} < 0: refused, errno says why. */
static void result(const char *name, long rc)
{
    if (rc < 0) {
        printf("refused %s %s\n", name, strerror(errno));
        return;
    }
    printf("CHANGED %s\n", name);
    changed = 1;
}

static void try_open(const char *name, const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0644);

    result(name, fd);
    if (fd >= 0)
        close(fd);
}

static void try_opens(const char *file, const char *dir)
{
    char path[PATH_MAX];

    try_open("open O_WRONLY", file, O_WRONLY);
    try_open("open O_RDWR", file, O_RDWR);
    try_open("open O_WRONLY|O_APPEND", file, O_WRONLY | O_APPEND);
    try_open("open O_WRONLY|O_TRUNC", file, O_WRONLY | O_TRUNC);
    try_open("open O_RDONLY|O_TRUNC", file, O_RDONLY | O_TRUNC);
    try_open("open O_RDWR|O_DIRECT", file, O_RDWR | O_DIRECT);
    try_open("open O_TMPFILE", dir, O_RDWR | O_TMPFILE);
    snprintf(path, sizeof path, "%s/try-new", dir);
    try_open("open O_CREAT", path, O_WRONLY | O_CREAT);
}

/* A descriptor for reading must not become one for writing. */
static void try_descriptor(const char *file)
{
    static const struct timespec times[2] = { { 1, 0 }, { 2, 0 } };
    char self[64];
    int fd = open(file, O_RDONLY | O_CLOEXEC), flags = FS_NOATIME_FL;
    char *map, byte = 'X';
    struct stat st = { 0 };

    if (fd < 0) {
        fprintf(stderr, "%s: %s\n", file, strerror(errno));
        exit(2);
    }
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    try_open("open /proc/self/fd O_RDWR", self, O_RDWR);
    result("pwrite", pwrite(fd, &byte, 1, 0));
    result("ftruncate", ftruncate(fd, 0));
    result("fallocate", fallocate(fd, 0, 0, 1 << 20));
    result("fallocate punch", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
    result("fchmod", fchmod(fd, 0600));
    result("fchown", fchown(fd, geteuid(), getegid()));
    result("futimens", futimens(fd, times));
    result("fsetxattr", fsetxattr(fd, "user.try", "v", 1, 0));
    result("ioctl SETFLAGS", ioctl(fd, FS_IOC_SETFLAGS, &flags));
    map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    result("mmap shared writable", map == MAP_FAILED ? -1 : 0);
    (void)fstat(fd, &st);        /* where truncation succeeded there is nothing to touch */
    if (map != MAP_FAILED && st.st_size > 0) {
        map[0] = byte;       /* whoever reads the file now sees it */
        (void)msync(map, 4096, MS_SYNC);
    }
    map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    result("mprotect of a shared mapping", map == MAP_FAILED ? -1 : mprotect(map, 4096, PROT_READ | PROT_WRITE));
    /* Allowed, and nobody else's business. */
    map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (map != MAP_FAILED && st.st_size > 0)
        map[0] = byte;
    close(fd);
}

static void try_inode(const char *file, const char *dir)
{
    static const struct timespec times[2] = { { 1, 0 }, { 2, 0 } };
    const char *both[] = { file, dir };

    result("truncate", truncate(file, 0));
    for (int i = 0; i < 2; i++) {
        result("chmod", chmod(both[i], 0700));
        result("chown", chown(both[i], geteuid(), getegid()));
        result("lchown", lchown(both[i], geteuid(), getegid()));
        result("utimensat", utimensat(AT_FDCWD, both[i], times, 0));
        result("utimensat now", utimensat(AT_FDCWD, both[i], NULL, 0));
        result("setxattr", setxattr(both[i], "user.try", "v", 1, 0));
        result("removexattr", removexattr(both[i], "user.k"));
    }
}

static void try_names(const char *file, const char *dir, const char *elsewhere)
{
    char fresh[PATH_MAX], other[PATH_MAX], away[PATH_MAX];
    int fd;

    snprintf(fresh, sizeof fresh, "%s/try-new", dir);
    snprintf(other, sizeof other, "%s/try-other", elsewhere);
    snprintf(away, sizeof away, "%s/try-away", elsewhere);
    result("link", link(file, fresh));
    result("link out", link(file, away));
    result("symlink", symlink("x", fresh));
    result("mkdir", mkdir(fresh, 0755));
    result("mknod fifo", mknod(fresh, S_IFIFO | 0644, 0));
    result("mknod file", mknod(fresh, S_IFREG | 0644, 0));
    errno = EPERM;
    result("mknod device", geteuid() ? -1 : mknod(fresh, S_IFCHR | 0644, makedev(1, 3)));
    fd = open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        fprintf(stderr, "%s: %s\n", other, strerror(errno));
        exit(2);
    }
    close(fd);
    result("link in", link(other, fresh));
    result("rename in", rename(other, fresh));
    result("rename over", rename(other, file));
    result("rename", rename(file, fresh));
    result("rename out", rename(file, away));
    result("rename exchange", renameat2(AT_FDCWD, file, AT_FDCWD, dir, RENAME_EXCHANGE));
    result("unlink", unlink(file));
    result("rmdir", rmdir(dir));
    (void)unlink(other);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: try_change FILE DIR ELSEWHERE\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    try_opens(argv[1], argv[2]);
    try_descriptor(argv[1]);
    try_inode(argv[1], argv[2]);
    try_names(argv[1], argv[2], argv[3]);
    return changed;
}
