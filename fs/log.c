/* log.c: messages of the processes behind a mount; see fs.h. */
#include "fs/fs.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

static enum { TO_STDERR, TO_FILE, TO_SYSLOG } where = TO_STDERR;
static int log_fd = -1;

/* libfuse's own complaints */
static void from_libfuse(enum fuse_log_level level, const char *fmt, va_list ap)
{
    char line[512];
    int n;

    if (level > FUSE_LOG_WARNING)
        return;
    n = vsnprintf(line, sizeof line, fmt, ap);
    if (n > 0 && line[(size_t)n < sizeof line ? n - 1 : (int)sizeof line - 2] == '\n')
        line[(size_t)n < sizeof line ? n - 1 : (int)sizeof line - 2] = '\0';
    fs_log("%s", line);
}

void fs_log_open(const struct fs_options *o, bool detached)
{
    if (detached || o->log_file[0])
        fuse_set_log_func(from_libfuse);
    if (o->log_file[0]) {
        log_fd = open(o->log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (log_fd >= 0) {
            where = TO_FILE;
            return;
        }
    }
    if (detached) {
        openlog("spare", LOG_PID, LOG_DAEMON);
        where = TO_SYSLOG;
    }
}

void fs_log_detach(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return;
    (void)dup2(null, STDIN_FILENO);
    (void)dup2(null, STDOUT_FILENO);
    (void)dup2(null, STDERR_FILENO);
    if (null > STDERR_FILENO)
        close(null);
}

void fs_log(const char *fmt, ...)
{
    char line[ERR_MSG_MAX + 256], stamp[32] = "";
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    if (where == TO_SYSLOG) {
        syslog(LOG_NOTICE, "%s", line);
        return;
    }
    if (where == TO_FILE) {
        time_t t = time(NULL);
        struct tm tm;

        if (gmtime_r(&t, &tm))
            (void)strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ ", &tm);
    }
    dprintf(where == TO_FILE ? log_fd : STDERR_FILENO, "%sspare[%ld]: %s\n", stamp, (long)getpid(), line);
}
