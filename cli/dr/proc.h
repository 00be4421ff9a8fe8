/*
 * proc.h: commands as children: with a time they may take, their output in a file (a service that goes on keeps it open without harm), nothing to read, in a group of their own.
 *
 * A child outlives a parent that is killed. Where it is noted (proc_how.notes), whoever goes on with the work finds it and waits for its end (proc_left), so that nothing runs twice at the same time.
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
    const char *notes;          /* as in proc_how; borrowed */
    int64_t keep_bytes;         /* of data */
    bool killed;                /* it took too long */
};

/* How one ended. exit: its status; 128 + a signal; -1: it took too long. */
struct proc_end { int exit; int64_t ms; };

struct proc_how {
    char *const *env;           /* NAME=VALUE strings to add, NULL-ended; NULL: none */
    const char *log;            /* a file that is appended to; NULL: nowhere anybody reads */
    bool apart;                 /* stdout is kept apart, for proc_data */
    bool tied;                  /* it ends with this process */
    const char *notes;          /* a directory: from before its first instruction to its end DIR/PID says that it runs. NULL: nothing does */
    int64_t keep_bytes;         /* of stdout that is apart; 0: PROC_KEEP_BYTES */
    int64_t timeout_ms;
};

/* What is kept of its output while it runs, in memory or in a log: of stdout that is apart the beginning, of the rest the end. */
enum { PROC_KEEP_BYTES = 1 << 20 };

/* proc_start(argv, how, p, err): Errors: IO. */
int proc_start(char *const argv[], const struct proc_how *how, struct proc *p, struct err *err);
/* proc_poll(p, end): true: it has ended. One that is too slow is told to end (SIGTERM to its group), then all that is left of its group is made to. */
bool proc_poll(struct proc *p, struct proc_end *end);
/* proc_wait(p, end, stop): until it has ended, or *stop is set: it is ended then. */
void proc_wait(struct proc *p, struct proc_end *end, const volatile int *stop);
/* proc_data(p, cap): what it wrote to stdout (all it wrote where that was not kept apart), at most cap bytes; malloced, NUL-ended; NULL: no memory. proc_data_bytes(p): how much it wrote there, also where not all of it was kept. proc_tail(p, buf, cap): the last line it wrote. proc_release: its files; what still runs is left. */
char *proc_data(const struct proc *p, size_t cap);
int64_t proc_data_bytes(const struct proc *p);
void proc_tail(const struct proc *p, char *buf, size_t cap);
void proc_release(struct proc *p);

/* proc_ms(): a clock for durations, the same in every process until the machine is started again. */
int64_t proc_ms(void);

/* ---- proc_left.c ---- */

/* proc_note(dir, deadline_ms): DIR/PID for this process, whole; else -1 and errno, and there is none. proc_unnote(dir, pid): best effort. */
int  proc_note(const char *dir, int64_t deadline_ms);
void proc_unnote(const char *dir, pid_t pid);

/*
 * proc_left(dir, say, stop): waits for those noted in ${dir} that still run, each until its own deadline; then its group is ended. say(what): called once for each that is waited for.
 * False: *stop was set before.
 */
bool proc_left(const char *dir, void (*say)(const char *what), const volatile int *stop);

#endif
