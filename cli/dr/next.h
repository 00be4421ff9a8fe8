/* next.h: what a person may do now, in words. */
#ifndef CLI_DR_NEXT_H
#define CLI_DR_NEXT_H

#include "cli/dr/run.h"

enum { NEXT_TEXT = PATH_MAX + 1024 };

/* next_text(r, buf): of a run as it stands; "" where nothing is left to do. */
const char *next_text(const struct run *r, char buf[NEXT_TEXT]);

#endif
