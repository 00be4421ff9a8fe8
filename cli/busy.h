/* busy.h: who holds a directory tree: open files, current directories, programs. Read from /proc, never from the tree. */
#ifndef CLI_BUSY_H
#define CLI_BUSY_H

#include <stdbool.h>

/* One hold. ${what}: "cwd", "root", "exe", "map", or the number of a descriptor. */
struct busy_hold { int pid; char command[64]; char what[16]; char path[512]; };

/*
 * busy_each(dir, writers, fn, arg): each process (this one too: it may have inherited a descriptor) that holds ${dir} (absolute, no symlinks) or something below it; with
 * ${writers} only open descriptors that can write. At most one hold per process is reported, descriptors first. Processes of
 * other users are only seen by root. Stops at nonzero; returns the number reported.
 */
unsigned busy_each(const char *dir, bool writers, int (*fn)(void *arg, const struct busy_hold *h), void *arg);

/* busy_list(dir, writers, buf, cap): "1234 vim (fd 4, note.txt), ..."; returns the number of processes. */
unsigned busy_list(const char *dir, bool writers, char *buf, unsigned long cap);

#endif
