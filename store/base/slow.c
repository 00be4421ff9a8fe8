/* slow.c: see slow.h. */
#include "store/base/slow.h"

_Thread_local void (*slow_hook)(void);
