/*
 * slow.h: a thread that others wait for learns that it is about to wait itself: for the disk, or for another thread.
 *
 * Threads: the hook is the thread's own, NULL at first. slow_now calls it once and forgets it; where there is none it does nothing.
 */
#ifndef STORE_BASE_SLOW_H
#define STORE_BASE_SLOW_H

#include <stddef.h>

extern _Thread_local void (*slow_hook)(void);

static inline void slow_now(void)
{
    void (*hook)(void) = slow_hook;

    slow_hook = NULL;
    if (hook != NULL)
        hook();
}

#endif
