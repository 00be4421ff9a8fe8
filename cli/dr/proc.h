/*
 * proc.h: commands as children: with a time they may take, their output in a file (a service that goes on keeps it open without harm), nothing to read, in a group of their own.
 */
#ifndef CLI_DR_PROC_H
#define CLI_DR_PROC_H

#include "store/base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* One that runs. Zeroed: none. */
struct proc {
    pid_t pid;
    int out;                    /* where it writes: stdout and stderr, or stderr alone */
    int data;                   /* its stdout where that is wanted apart, else -1 */
    int64_t began_ms, deadline_ms;
    bool killed;                /* it took too long */
};

/* How one ended. exit: its status; 128 + a signal; -1: it took too long. */
struct proc_end { int exit; int64_t ms; };

/*
 * proc_start(argv, env, log, apart, timeout_ms, tied, p, err): ${env}: NAME=VALUE strings to add, NULL-ended, or NULL. ${log}: a file that is appended to; NULL: nowhere anybody reads.
 * ${apart}: stdout is kept apart, for proc_data. ${tied}: it ends with this process. Errors: IO.
 */
int proc_start(char *const argv[], char *const env[], const char *log, bool apart, int64_t timeout_ms, bool tied, struct proc *p, struct err *err);
/* proc_poll(p, end): true: it has ended. One that is too slow is told to end (SIGTERM to its group), then made to. */
bool proc_poll(struct proc *p, struct proc_end *end);
/* proc_wait(p, end, stop): until it has ended, or *stop is set: it is ended then. */
void proc_wait(struct proc *p, struct proc_end *end, const volatile int *stop);
/* proc_data(p, cap): what it wrote to stdout (all it wrote where that was not kept apart), at most cap bytes; malloced, NUL-ended; NULL: no memory. proc_tail(p, buf, cap): the last line it wrote. proc_release: its files; what still runs is left. */
char *proc_data(const struct proc *p, size_t cap);
void proc_tail(const struct proc *p, char *buf, size_t cap);
void proc_release(struct proc *p);

/* proc_ms(): a clock for durations. */
int64_t proc_ms(void);

#endif
