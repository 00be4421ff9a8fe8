/* torture_ctl.c: asking the mount for its place in the log; running the commands. */
#include "tests/e2e/torture.h"

#include "store/svc/client.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ASK_TRIES = 200, ASK_AGAIN_MS = 20 };

static int take_head(void *arg, const char *type, const json_t *item, const void *bin, size_t len)
{
    uint64_t *head = arg;
    const json_t *j = json_object_get(item, "head_lsn");

    (void)type, (void)bin, (void)len;
    if (json_is_integer(j))
        *head = (uint64_t)json_integer_value(j);
    return 0;
}

uint64_t tort_moment(struct tort *t)
{
    struct err err = { 0 };
    uint64_t head = 0;
    json_t *req = json_pack("{s:s}", "op", "info");
    int r = -1;

    /* A worker that dies takes its end of the socket with it (scripts/crash worker), which is nothing the mount promises to hide. */
    for (unsigned tries = 0; (r < 0 || head == 0) && tries < ASK_TRIES; tries++) {
        if (tries > 0) {
            tort_disconnect(t);
            (void)poll(NULL, 0, ASK_AGAIN_MS);
        }
        r = t->ctl < 0 ? svc_connect(t->store, &t->ctl, &err) : 0;
        if (r == 0)
            r = svc_request(t->ctl, req, NULL, take_head, &head, &err);
    }
    json_decref(req);
    if (r < 0 || head == 0) {
        tort_fail(t, "asking for the head of the log: %s", r < 0 ? err.msg : "no head_lsn in the answer");
        return 0;
    }
    return head - 1;
}

void tort_disconnect(struct tort *t)
{
    if (t->ctl >= 0)
        close(t->ctl);
    t->ctl = -1;
}

int tort_spare(const struct tort *t, ...)
{
    char *argv[12] = { (char *)(uintptr_t)t->spare };
    va_list ap;
    int n = 1, status;

    va_start(ap, t);
    while (n < 11 && (argv[n] = va_arg(ap, char *)) != NULL)
        n++;
    va_end(ap);
    pid_t pid = fork();
    if (pid == 0) {
        execv(t->spare, argv);
        perror(t->spare);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}
