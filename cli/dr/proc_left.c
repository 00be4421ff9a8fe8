/* proc_left.c: children whose parent was killed: found by what they noted of themselves, and waited for. */
#include "cli/dr/proc.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GRACE_MS = 1000, POLL_MS = 20, BOOT_TEXT = 40 };

/* One note: a number alone may be another process by now; with when it began, in this life of the machine, it is not. */
struct left { pid_t pid; char boot[BOOT_TEXT]; unsigned long long began; long long deadline_ms; };

static void boot_id(char buf[BOOT_TEXT])
{
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

    if (!f || fscanf(f, "%39s", buf) != 1)
        snprintf(buf, BOOT_TEXT, "unknown");
    if (f)
        fclose(f);
}

/* When it began, in ticks of the kernel; 0: it does not run. */
static unsigned long long began(pid_t pid)
{
    char path[64], text[1024], *at;
    unsigned long long ticks = 0;
    char state = 'Z';
    size_t n = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    f = fopen(path, "re");
    if (f) {
        n = fread(text, 1, sizeof text - 1, f);
        fclose(f);
    }
    text[n] = '\0';
    at = strrchr(text, ')');             /* a name may hold anything */
    if (!at || sscanf(at + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &state, &ticks) != 2)
        return 0;
    return state == 'Z' || state == 'X' ? 0 : ticks;
}

int proc_note(const char *dir, int64_t deadline_ms)
{
    char path[PATH_MAX], boot[BOOT_TEXT];
    FILE *f;
    bool whole;
    int e;

    boot_id(boot);
    snprintf(path, sizeof path, "%s/%d", dir, (int)getpid());
    f = fopen(path, "we");
    if (!f)
        return -1;
    whole = fprintf(f, "%s %llu %lld\n", boot, began(getpid()), (long long)deadline_ms) > 0 && fflush(f) == 0;
    e = errno;
    if (fclose(f) == 0 && whole)
        return 0;
    e = whole ? errno : e;
    proc_unnote(dir, getpid());
    errno = e;
    return -1;
}

void proc_unnote(const char *dir, pid_t pid)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/%d", dir, (int)pid);
    (void)unlink(path);
}

static bool read_note(const char *dir, const char *name, struct left *l)
{
    char path[PATH_MAX];
    FILE *f;
    bool ok;

    l->pid = (pid_t)strtol(name, NULL, 10);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    f = l->pid > 1 ? fopen(path, "re") : NULL;
    ok = f && fscanf(f, "%39s %llu %lld", l->boot, &l->began, &l->deadline_ms) == 3;
    if (f)
        fclose(f);
    return ok;
}

static bool runs(const struct left *l)
{
    char boot[BOOT_TEXT];

    boot_id(boot);
    return strcmp(boot, l->boot) == 0 && l->began != 0 && began(l->pid) == l->began;
}

/* "/bin/sh -c svc db start (process 123, which may take 58.2 s more)" */
static void describe(const struct left *l, char buf[400])
{
    char path[64], text[300];
    long long ms = l->deadline_ms - proc_ms();
    size_t n = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)l->pid);
    f = fopen(path, "re");
    if (f) {
        n = fread(text, 1, sizeof text - 1, f);
        fclose(f);
    }
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < 0x20)
            text[i] = ' ';
    text[n] = '\0';
    ms = ms > 0 ? ms : 0;
    snprintf(buf, 400, "%s(process %d, which may take %lld.%lld s more)", text, (int)l->pid, ms / 1000, ms % 1000 / 100);
}

static bool wait_for(const struct left *l, const volatile int *stop)
{
    int told = 0;

    /* Once it was told to end, all of its group is waited for: what it began may not end with it. */
    for (int64_t until = l->deadline_ms; told ? kill(-l->pid, 0) == 0 : runs(l);) {
        if (stop && *stop)
            return false;
        if (proc_ms() >= until) {
            /* One that sleeps in the kernel may not go even now: it is not waited for. */
            if (told == 2)
                break;
            (void)kill(-l->pid, told == 0 ? SIGTERM : SIGKILL);
            told++;
            until = proc_ms() + GRACE_MS;
        }
        (void)poll(NULL, 0, POLL_MS);
    }
    return true;
}

bool proc_left(const char *dir, void (*say)(const char *what), const volatile int *stop)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    bool all = true;

    while (d && all && (e = readdir(d))) {
        struct left l = { 0 };
        char what[400];

        if (e->d_name[0] == '.')
            continue;
        if (read_note(dir, e->d_name, &l) && runs(&l)) {
            describe(&l, what);
            say(what);
            all = wait_for(&l, stop);
        }
        if (all)
            proc_unnote(dir, l.pid);
    }
    if (d)
        closedir(d);
    return all;
}
